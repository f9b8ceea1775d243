"""What stays open of a ledger and a paper account: one connection of the process, until somebody closes or drops it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from poslock import AsyncPositionGuard, PaperExchange, Position, PositionGuard
from poslock.ledger.ledger import Ledger
from test_ledger import KEY, track, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Account


def opened(path: str) -> int:
    """How many descriptors of this process lead there."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}") == path
    return found


def in_a_thread(action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_a_guard_closes_its_ledger(account: Account) -> None:
    """At the end of `with`, or by `close`; what it was handed stays open; it can be used again."""
    account.open()
    account.guard.close()
    path = f"{account.lock_dir}/ledger.db"
    with PositionGuard(account.exchange, lock_dir=account.lock_dir) as guard:
        in_a_thread(partial(guard.position, "btc-1"))
        assert guard.position("btc-1").state == "open"
        assert opened(path) == 1
    assert opened(path) == 0
    assert opened(account.exchange_path) > 0
    assert guard.close_position("btc-1").left_at_venue == 0
    guard.close()
    guard.close()
    assert opened(path) == 0


def test_a_guard_for_tasks_closes_its_ledger_too(account: Account) -> None:
    """In whichever threads it was asked."""
    account.open()
    account.guard.close()
    path = f"{account.lock_dir}/ledger.db"

    async def look() -> int:
        async with AsyncPositionGuard(account.exchange, lock_dir=account.lock_dir) as guard:
            await asyncio.gather(*(guard.position("btc-1") for _ in range(8)))
            while_open = opened(path)
        assert opened(path) == 0
        assert (await guard.position("btc-1")).state == "open"
        await guard.close()
        return while_open

    assert asyncio.run(look()) == 1
    assert opened(path) == 0


def test_a_ledger_that_was_handed_to_a_guard_stays_open(account: Account) -> None:
    """It is whose it was; its owner closes it."""
    account.open()
    account.guard.close()
    with Ledger(f"{account.lock_dir}/ledger.db") as ledger:
        with PositionGuard(account.exchange, lock_dir=account.lock_dir, ledger=ledger) as guard:
            guard.position("btc-1")
        assert opened(ledger.path) == 1
    assert opened(ledger.path) == 0


def test_a_paper_account_is_closed_and_opened_again(tmp_path: Path) -> None:
    """With the account as it was."""
    with PaperExchange(tmp_path / "exchange.db") as exchange:
        exchange.set_price("BTC/USDT", 1)
        name = exchange.account
    assert opened(str(tmp_path / "exchange.db")) == 0
    exchange.set_price("BTC/USDT", 2)
    assert exchange.account == name
    exchange.close()
    assert opened(str(tmp_path / "exchange.db")) == 0


def test_threads_share_one(tmp_path: Path) -> None:
    """A bot with a thread for every close does not run out of descriptors."""
    ledger = Ledger(str(tmp_path / "ledger.db"))
    track(ledger)
    for _ in range(5):
        in_a_thread(partial(ledger.find, "btc-1"))
    in_a_thread(partial(write, ledger, "begin", 1))
    assert opened(ledger.path) == 1


def test_what_nobody_has_any_more_is_closed_at_once(tmp_path: Path) -> None:
    """A guard and a paper account that are dropped without `close` wait for no garbage collector."""
    paths = str(tmp_path / "exchange.db"), str(tmp_path / "locks" / "ledger.db")

    def bot() -> None:
        exchange = PaperExchange(paths[0])
        exchange.set_price("BTC/USDT", 1)
        exchange.open_position("BTC/USDT", "long", 1)
        guard = PositionGuard(exchange, lock_dir=tmp_path / "locks")
        guard.track(Position("btc-1", "BTC/USDT", "long", 1, 1))
        in_a_thread(partial(guard.position, "btc-1"))
        assert [opened(path) for path in paths] == [1, 1]
        assert guard.close_position("btc-1").left_at_venue == 0

    gc.disable()
    try:
        bot()
        assert [opened(path) for path in paths] == [0, 0]
    finally:
        gc.enable()


def test_another_connection_drops_no_lock(tmp_path: Path) -> None:
    """It is opened and closed while the process writes: nobody else gets in."""
    ledger = Ledger(str(tmp_path / "ledger.db"))
    track(ledger)
    code = f"import sqlite3; sqlite3.connect({ledger.path!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with ledger._database.transaction():
        with Ledger(ledger.path) as other:
            assert other.find("btc-1") is not None
            assert opened(ledger.path) == 2
        rival = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "database is locked" in rival.stderr


def test_closing_waits_for_a_write_of_another_thread(tmp_path: Path) -> None:
    """It is not undone."""
    ledger = Ledger(str(tmp_path / "ledger.db"))
    track(ledger)
    inside, done = threading.Event(), threading.Event()

    def slow_write() -> None:
        with ledger._database.transaction() as db:
            db.execute("UPDATE position SET token = 9")
            inside.set()
            done.wait(0.3)

    thread = threading.Thread(target=slow_write)
    thread.start()
    inside.wait(10)
    ledger.close_file()
    assert opened(ledger.path) == 0
    thread.join()
    assert ledger.highest_token("btc-1") == 9


def test_one_that_is_garbage_with_its_owner_is_closed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """A bot that refers to itself, as with a clock of its own, is collected as a whole."""

    class Bot:
        def __init__(self) -> None:
            self.exchange = PaperExchange(tmp_path / "exchange.db", clock=self.clock)

        def clock(self) -> float:
            return 1.0

    Bot()
    gc.collect()
    assert opened(str(tmp_path / "exchange.db")) == 0
    assert recwarn.list == []


QUIET = """
import asyncio, os, sys, threading
from poslock import AsyncPositionGuard, PaperExchange, Position, PositionGuard
exchange = PaperExchange("exchange.db")
exchange.set_price("BTC/USDT", 1)
exchange.open_position("BTC/USDT", "long", 1)
guard = PositionGuard(exchange, lock_dir="locks")
guard.track(Position("btc-1", "BTC/USDT", "long", 1, 1))
thread = threading.Thread(target=guard.recover)
thread.start()
thread.join()
waits = threading.Thread(target=lambda: (guard.position("btc-1"), threading.Event().wait()), daemon=True)
waits.start()

async def look():
    await AsyncPositionGuard(exchange, lock_dir="locks").position("btc-1")

asyncio.run(look())
pid = os.fork()
guard.position("btc-1")
if pid:
    assert os.waitpid(pid, 0)[1] == 0
print("done")
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork with threads warns by itself")
def test_who_closes_nothing_is_not_warned(tmp_path: Path) -> None:
    """At the end of the process, of a forked child too, everything is closed, or was never this one's."""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", QUIET]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("done\ndone\n", "")


def test_a_child_leaves_what_its_parent_has_open(tmp_path: Path) -> None:
    """It does not use it, and closes nothing of it."""
    ledger = Ledger(str(tmp_path / "ledger.db"))
    track(ledger)
    if (pid := os.fork()) == 0:
        try:
            assert opened(ledger.path) == 1
            write(ledger, "begin", 1)
            assert opened(ledger.path) == 2
            ledger.close_file()
            assert opened(ledger.path) == 1
            assert ledger.unfinished("account") == [KEY]
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    write(ledger, "sending", 2)
