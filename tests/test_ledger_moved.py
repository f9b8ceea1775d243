"""The ledger's file under a running bot: moved, replaced, deleted, overwritten, or its descriptors closed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LedgerError, PaperExchange, Position
from poslock.errors import ExchangeUnavailable
from poslock.ledger.journal import CloseKey
from poslock.ledger.ledger import Ledger
from test_ledger import ATTEMPT, KEY, POSITION, events, track, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(str(tmp_path / "ledger.db"))
    track(made)
    write(made, "begin", 5)
    return made


def copied(ledger: Ledger, name: str = "copy.db") -> Path:
    path = Path(ledger.path).with_name(name)
    with sqlite3.connect(ledger.path) as db, sqlite3.connect(path) as copy:
        db.backup(copy)
    db.close()
    copy.close()
    return path


def put(copy: Path, ledger: Ledger, *, in_place: bool) -> None:
    """*copy* over the ledger's file, or in its place."""
    if in_place:
        shutil.copy(copy, ledger.path)
    else:
        os.replace(copy, ledger.path)


def other_file(path: str) -> Path:
    """A ledger of somebody else."""
    made = Ledger(f"{path}.other")
    track(made, Position("eth-1", "ETH/USDT", "long", 10, 60000))
    for _ in range(5):
        made.note(CloseKey("eth-1", 1), 1, "note", "")
    return Path(made.path)


def in_another_process(ledger: Ledger, code: str) -> str:
    program = f"from poslock.ledger.ledger import Ledger\nledger = Ledger({ledger.path!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr[-5000:]


READS = [lambda ledger: ledger.find("btc-1"), lambda ledger: ledger.unfinished("account")]
CALLS = [*READS, lambda ledger: ledger.note(KEY, 5, "note", "")]


@pytest.mark.parametrize("how", ["moved", "deleted", "with its journal"])
@pytest.mark.parametrize("call", CALLS, ids=["find", "unfinished", "note"])
def test_a_ledger_that_is_gone_is_named_and_not_begun_anew(
    ledger: Ledger, how: str, call: Callable[[Ledger], object]
) -> None:
    """Reads do not answer from what was there, writes do not ask for disk space; once it is back, all goes on."""
    path = Path(ledger.path)
    path.rename(path.with_name("elsewhere.db"))
    if how == "with its journal":
        Path(f"{path}-journal").unlink()
    for each in (ledger, Ledger(ledger.path)):
        with pytest.raises(LedgerError, match=r"it was here, and is gone; put it back; .* end all bots"):
            call(each)
    assert not path.exists()
    if how != "moved":
        shutil.copy(path.with_name("elsewhere.db"), path)
    else:
        path.with_name("elsewhere.db").rename(path)
    call(ledger)
    assert ledger.unfinished("account") == [KEY]


def test_the_next_process_does_not_begin_an_empty_one(ledger: Ledger) -> None:
    """It sees by the journal that there was one; the message names what to remove if that is meant."""
    Path(ledger.path).unlink()
    said = in_another_process(ledger, "print(ledger.positions())")
    assert (
        f"it was here, and is gone; put it back; to begin an empty one, end all bots, and remove {ledger.path}-" in said
    )
    assert not Path(ledger.path).exists()
    Path(f"{ledger.path}-journal").unlink()
    assert in_another_process(ledger, "print(ledger.positions())") == "[]\n"


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("call", CALLS, ids=["find", "unfinished", "note"])
def test_an_older_copy_is_named(ledger: Ledger, call: Callable[[Ledger], object], *, in_place: bool) -> None:
    """Written over the file, or in its place: tokens would go back, and what was sent be forgotten."""
    copy = copied(ledger)
    ledger.note(KEY, 5, "note", "")
    newest = copied(ledger, "newest.db")
    put(copy, ledger, in_place=in_place)
    for each in (ledger, Ledger(ledger.path)):
        with pytest.raises(
            LedgerError, match=r"it is an older copy, or another file: .*; put the newest copy back; to go"
        ):
            call(each)
    put(newest, ledger, in_place=in_place)
    call(ledger)
    assert ("note", "") in events(ledger)


@pytest.mark.parametrize("what", ["read", "written"])
def test_an_older_copy_is_known_by_what_others_wrote_too(ledger: Ledger, what: str) -> None:
    """Whatever this process has seen there, it has to find again."""
    copy = copied(ledger)
    if what == "read":
        code = "from poslock.ledger.journal import CloseKey; ledger.note(CloseKey('btc-1', 1), 8, 'note', '')"
        assert in_another_process(ledger, code) == ""
        assert ledger.highest_token("btc-1") == 8
    else:
        ledger.note(KEY, 8, "note", "")
    os.replace(copy, ledger.path)
    with pytest.raises(LedgerError, match="older copy"):
        ledger.find("btc-1")


def test_a_copy_that_has_everything_is_used(ledger: Ledger) -> None:
    """By every thread, for reads and for writes."""
    copy = copied(ledger)
    turn, answers = threading.Barrier(2), []

    def look_twice() -> None:
        ledger.find("btc-1")
        turn.wait(10)
        turn.wait(10)
        answers.append(ledger.unfinished("account"))

    thread = threading.Thread(target=look_twice)
    thread.start()
    turn.wait(10)
    os.replace(copy, ledger.path)
    write(ledger, "sending", 5)
    assert in_another_process(ledger, f"print(ledger.sent({ATTEMPT.client_order_id!r}))") == "True\n"
    turn.wait(10)
    thread.join()
    assert answers == [[KEY]]


@pytest.mark.parametrize("in_place", [True, False])
def test_another_ledger_is_not_taken_for_this_one(ledger: Ledger, *, in_place: bool) -> None:
    """Even if its history is longer."""
    other = other_file(ledger.path)
    put(other, ledger, in_place=in_place)
    with pytest.raises(LedgerError, match="another file"):
        ledger.find("btc-1")


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look at" * 50])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_without_a_ledger_in_its_place_is_left_as_it_is(
    ledger: Ledger, content: bytes, *, in_place: bool
) -> None:
    """No tables are made in an empty one."""
    path = Path(ledger.path)
    if not in_place:
        path.unlink()
    path.write_bytes(content)
    for each in (ledger, Ledger(ledger.path)):
        with pytest.raises(LedgerError):
            each.find("btc-1")
        with pytest.raises(LedgerError):
            write(each, "sending", 5)
    assert path.read_bytes() == content


def test_a_write_into_a_file_that_was_just_moved_is_not_acknowledged(ledger: Ledger) -> None:
    """It was there when the write began."""
    path = Path(ledger.path)
    with pytest.raises(LedgerError, match="moved or replaced"), ledger._database.transaction():
        path.rename(path.with_name("elsewhere.db"))
    path.with_name("elsewhere.db").rename(path)
    write(ledger, "sending", 5)


DAEMON = """
import os, sys
from poslock import PaperExchange, PositionGuard
from poslock.ledger.ledger import Ledger
exchange_path, lock_dir = sys.argv[1:3]
exchange = PaperExchange(exchange_path)
guard = PositionGuard(exchange, lock_dir=lock_dir)
guard.position("btc-1")
os.closerange(3, 1000)
mine = []
for number in range(int(sys.argv[3])):
    mine.append(os.open(f"{lock_dir}/mine-{number}", os.O_RDWR | os.O_CREAT, 0o600))
print(guard.position("btc-1").state)
print(guard.close_position("btc-1").net_pnl < 0, guard.position("btc-1").state)
guard.close()
for number, descriptor in enumerate(mine):
    os.fstat(descriptor)
    assert os.path.getsize(f"{lock_dir}/mine-{number}") == 0
"""


@pytest.mark.parametrize("reused", [0, 40])
def test_closed_descriptors_are_noticed(account: Account, reused: int) -> None:
    """A daemon closes all, and opens files of its own under their numbers: a healthy ledger is not called damaged.

    None of the daemon's own descriptors is closed or written to.
    """
    account.open()
    places = (account.exchange_path, account.lock_dir, str(reused))
    done = subprocess.run(
        [sys.executable, "-c", DAEMON, *places], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["open", "True", "closed"], "")


def test_descriptors_closed_in_one_thread_are_noticed_in_all(ledger: Ledger) -> None:
    """The second thread opens one under the number that the first one had."""
    code = """
import os, threading
from poslock.ledger.ledger import Ledger
def use(turns):
    for number in range(3):
        turns.wait(10)
        assert ledger.unfinished("account")
        turns.wait(10)
turns = threading.Barrier(3)
threads = [threading.Thread(target=use, args=(turns,)) for _ in range(2)]
[each.start() for each in threads]
for number in range(3):
    turns.wait(10)
    turns.wait(10)
    os.closerange(3, 1000)
ledger.close_file()
[each.join() for each in threads]
print("all read")
"""
    assert in_another_process(ledger, code) == "all read\n"


def test_an_exchange_that_is_gone_or_another_one_is_named(tmp_path: Path) -> None:
    """The paper account too: its name stays the same as long as it is used."""
    path, other = tmp_path / "exchange.db", tmp_path / "other.db"
    exchange = PaperExchange(path)
    PaperExchange(other)
    path.rename(tmp_path / "away.db")
    with pytest.raises(ExchangeUnavailable, match="is gone; put it back"):
        exchange.set_price("BTC/USDT", 1)
    other.rename(path)
    with pytest.raises(ExchangeUnavailable, match="another file"):
        exchange.set_price("BTC/USDT", 1)
    (tmp_path / "away.db").replace(path)
    exchange.set_price("BTC/USDT", 1)


def test_who_closes_a_ledger_may_begin_an_empty_one(ledger: Ledger) -> None:
    """What the process has seen is forgotten with the closing: a run that clears up after itself can be run again."""
    ledger.close_file()
    for each in Path(ledger.path).parent.glob("ledger.db*"):
        each.unlink()
    assert ledger.positions() == []
    assert track(ledger).position == POSITION
