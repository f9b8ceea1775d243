from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from poslock import ClosedPosition, Fill, LedgerError, LockLost, Position, PositionConflict, TokenRefused
from poslock.ledger.journal import Attempt, CloseKey
from poslock.ledger.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

POSITION = Position("btc-1", "BTC/USDT", "long", 10, 60000)
KEY = CloseKey("btc-1", 1)
ATTEMPT = Attempt(1, "pl1", Decimal(10), 5000)
FILL = Fill("t1", "pl1", Decimal(59000), Decimal(10), Decimal("0.1"), "USDT", 1234)
CLOSED = ClosedPosition(
    "btc-1",
    Decimal(59000),
    Decimal(-10000),
    Decimal("0.1"),
    Decimal(0),
    Decimal("-10000.1"),
    (FILL,),
    "pl1",
    7,
    datetime(2026, 1, 2, tzinfo=UTC),
)
WRITES: dict[str, tuple[Any, ...]] = {
    "begin": ("stop-loss",),
    "sending": (ATTEMPT, None),
    "filled": (),
    "book": (CLOSED,),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(str(tmp_path / "ledger.db"))
    made.track(POSITION, "account", 1000)
    return made


def write(ledger: Ledger, name: str, token: int) -> None:
    getattr(ledger, name)(KEY, token, *WRITES[name])


def advance(ledger: Ledger, until: str, token: int = 5) -> None:
    """All writes before *until*."""
    for name in WRITES:
        if name == until:
            return
        write(ledger, name, token)


def dump(ledger: Ledger) -> str:
    with sqlite3.connect(ledger.path) as db:
        text = "\n".join(db.iterdump())
    db.close()
    return text


@pytest.mark.parametrize("name", WRITES)
def test_a_write_with_an_older_token_is_refused(ledger: Ledger, name: str) -> None:
    """Whoever was broken writes nothing more, at any step; the refusal is a LockLost."""
    advance(ledger, name, token=5)
    with ledger._database.transaction() as db:
        db.execute("UPDATE position SET token = 6")  # a newer owner was here
    before = dump(ledger)
    with pytest.raises(TokenRefused) as caught:
        write(ledger, name, 5)
    assert isinstance(caught.value, LockLost)
    assert (caught.value.token, caught.value.newest) == (5, 6)
    assert dump(ledger) == before
    write(ledger, name, 6)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_out_of_order_is_refused(ledger: Ledger, name: str) -> None:
    """A write for another step than the journal is at changes nothing, not even the token."""
    advance(ledger, "")
    before = dump(ledger)
    with pytest.raises(LedgerError, match="not at step"):
        write(ledger, name, 9)
    assert dump(ledger) == before


def test_the_whole_journal(ledger: Ledger) -> None:
    """From open to closed, with everything read back as it was written."""
    for name, step in zip(WRITES, ("intent", "sending", "filled", "booked"), strict=True):
        write(ledger, name, 5)
        close = ledger.close(KEY)
        assert close is not None
        assert close.step == step
        assert ledger.unfinished("account") == ([] if step == "booked" else ["btc-1"])
    tracked = ledger.find("btc-1")
    assert tracked is not None
    assert (tracked.position, tracked.state, tracked.closed) == (POSITION, "closed", CLOSED)
    assert ledger.highest_token("btc-1") == 5
    assert ledger.booked_trades("account", "BTC/USDT", 0) == {"t1"}


def test_a_second_attempt_keeps_what_the_first_one_filled(ledger: Ledger) -> None:
    """The same number again updates the attempt; the next number says what the one before had filled."""
    advance(ledger, "filled")
    ledger.sending(KEY, 5, replace(ATTEMPT, expires_at_ms=6000), None)
    second = Attempt(2, "pl2", Decimal(4), 7000)
    ledger.sending(KEY, 5, second, Decimal(6))
    close = ledger.close(KEY)
    assert close is not None
    assert close.attempts == (replace(ATTEMPT, expires_at_ms=6000, filled=Decimal(6)), second)


def test_tracking_again_changes_nothing(ledger: Ledger) -> None:
    """A bot that restarts may track what it tracked before."""
    before = dump(ledger)
    assert ledger.track(POSITION, "account", 2000).tracked_at_ms == 1000
    assert dump(ledger) == before


@pytest.mark.parametrize(
    "other",
    [
        Position("btc-1", "BTC/USDT", "long", 11, 60000),
        Position("btc-1", "BTC/USDT", "short", 10, 60000),
        Position("btc-2", "BTC/USDT", "long", 10, 60000),
    ],
)
def test_a_contradicting_position_is_refused(ledger: Ledger, other: Position) -> None:
    """The same id with other values, or a second position on one side of a market, is a conflict."""
    before = dump(ledger)
    with pytest.raises(PositionConflict):
        ledger.track(other, "account", 2000)
    assert dump(ledger) == before


def test_a_closed_id_opens_a_new_generation(ledger: Ledger) -> None:
    """Its token starts where the last generation's ended."""
    advance(ledger, "")
    tracked = ledger.track(POSITION, "account", 2000)
    assert (tracked.generation, tracked.state) == (2, "open")
    with pytest.raises(TokenRefused):
        ledger.begin(CloseKey("btc-1", 2), 4, "")
    ledger.begin(CloseKey("btc-1", 2), 5, "")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO booking SELECT * FROM booking",
        "INSERT INTO close SELECT * FROM close",
        "INSERT INTO fill SELECT * FROM fill",
        "INSERT INTO attempt SELECT position_id, generation, 2, client_order_id, '1', 0, NULL FROM attempt",
        """INSERT INTO position SELECT 'btc-2', generation, account, symbol, side, contracts, entry_price,
           contract_size, inverse, settle, entry_fee, tracked_at_ms, 'open', token
           FROM position WHERE generation = 2""",
    ],
)
def test_unique_keys_carry_the_promises(ledger: Ledger, statement: str) -> None:
    """One booking and one close per generation, one row per fill, one client order id ever, one open position a leg."""
    advance(ledger, "")
    ledger.track(POSITION, "account", 2000)
    with sqlite3.connect(ledger.path) as db, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        db.execute(statement)
    db.close()


def test_commits_are_durable_by_setting(ledger: Ledger) -> None:
    """EXTRA and TRUNCATE, on the connection that writes; anything less can lose an acknowledged commit."""
    with ledger._database.transaction() as db:
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 3
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "truncate"
    assert os.stat(ledger.path).st_mode & 0o777 == 0o600


def test_a_newer_ledger_is_left_alone(ledger: Ledger) -> None:
    """An older poslock does not write into a schema that it does not know."""
    with sqlite3.connect(ledger.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerError, match="upgrade poslock"):
        Ledger(ledger.path).find("btc-1")


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    """And left as it was."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, but long enough to look at" * 50)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=str(path)):
        Ledger(str(path)).find("btc-1")
    assert path.read_bytes() == before


def test_an_error_in_a_transaction_undoes_it(ledger: Ledger) -> None:
    """All or nothing, and the connection goes on working."""
    before = dump(ledger)
    with pytest.raises(ZeroDivisionError), ledger._database.transaction() as db:
        db.execute("DELETE FROM position")
        _ = 1 / 0
    assert dump(ledger) == before
    write(ledger, "begin", 1)


def test_a_damaged_row_is_named(ledger: Ledger) -> None:
    """Text where a number was is a LedgerError, not a decimal exception."""
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE position SET contracts = 'ten'")
    db.close()
    with pytest.raises(LedgerError, match="damaged row of position 'btc-1'"):
        ledger.find("btc-1")


def test_threads_do_not_drop_each_others_locks(ledger: Ledger) -> None:
    """A thread that opens the ledger while another one writes: closing a descriptor would drop that one's lock."""
    inside, opened = threading.Event(), threading.Event()

    def look() -> None:
        inside.wait(10)
        other = Ledger(ledger.path)
        other._database._open().close()
        opened.set()

    thread = threading.Thread(target=look)
    thread.start()
    code = f"import sqlite3; sqlite3.connect({ledger.path!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with ledger._database.transaction():
        inside.set()
        assert opened.wait(10)
        rival = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    thread.join()
    assert "database is locked" in rival.stderr


def test_a_signal_in_the_middle_of_a_write_leaves_nothing_open(ledger: Ledger) -> None:
    """A handler that raises undoes the write; one that writes is told not to. Others can write at once."""

    def handler(*_: object) -> None:
        with pytest.raises(LedgerError, match="signal handler"):
            write(ledger, "begin", 1)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(KeyboardInterrupt), ledger._database.transaction() as db:
            db.execute("DELETE FROM position")
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    Ledger(ledger.path).begin(KEY, 1, "")


def test_a_child_forked_in_the_middle_of_a_write_can_write(ledger: Ledger) -> None:
    """A fork waits for the other thread's transaction; else the child would wait for it for ever."""
    inside, done = threading.Event(), threading.Event()

    def slow_write() -> None:
        with ledger._database.transaction():
            inside.set()
            done.wait(0.3)

    thread = threading.Thread(target=slow_write)
    thread.start()
    inside.wait(10)
    if (pid := os.fork()) == 0:
        try:
            write(Ledger(ledger.path), "begin", 1)
            os._exit(0)
        finally:
            os._exit(1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_has_a_connection_of_its_own(ledger: Ledger) -> None:
    """It leaves its parent's alone, and what it writes is there."""
    if (pid := os.fork()) == 0:
        try:
            write(ledger, "begin", 1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    write(ledger, "sending", 2)
