"""A ledger of an older poslock: opening it upgrades it, whole or not at all, and what was begun is finished."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from poslock import PaperExchange, Position, PositionGuard
from poslock.closing.session import client_order_id
from poslock.exchange.port import CloseOrder, Leg
from poslock.ledger.journal import CloseKey
from poslock.ledger.ledger import Ledger
from poslock.position import TrackedPosition

# Of poslock before version 3, word for word but for its comments.
VERSION_2 = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS position (
    position_id   TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    account       TEXT NOT NULL,
    symbol        TEXT NOT NULL,
    side          TEXT NOT NULL CHECK (side IN ('long', 'short')),
    contracts     TEXT NOT NULL,
    entry_price   TEXT NOT NULL,
    contract_size TEXT NOT NULL,
    inverse       INTEGER NOT NULL CHECK (inverse IN (0, 1)),
    settle        TEXT NOT NULL,
    entry_fee     TEXT NOT NULL,
    tracked_at_ms INTEGER NOT NULL,
    state         TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'closed')),
    token         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (position_id, generation)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_open_position_per_leg ON position (account, symbol, side) WHERE state <> 'closed';
CREATE TABLE IF NOT EXISTS close (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    step        TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'filled', 'booked')),
    reason      TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
CREATE TABLE IF NOT EXISTS attempt (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    client_order_id TEXT NOT NULL UNIQUE,
    contracts       TEXT NOT NULL,
    expires_at_ms   INTEGER NOT NULL,
    filled          TEXT,
    PRIMARY KEY (position_id, generation, number),
    FOREIGN KEY (position_id, generation) REFERENCES close
) STRICT;
CREATE TABLE IF NOT EXISTS growth (
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    entry_price TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
CREATE TABLE IF NOT EXISTS change (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('stop_loss', 'take_profit', 'reduce')),
    contracts       TEXT NOT NULL,
    trigger_price   TEXT,
    client_order_id TEXT UNIQUE,
    step            TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'done', 'refused', 'dropped')),
    expires_at_ms   INTEGER NOT NULL,
    filled          TEXT,
    PRIMARY KEY (position_id, generation, number),
    FOREIGN KEY (position_id, generation) REFERENCES position
) STRICT;
CREATE INDEX IF NOT EXISTS unfinished_changes ON change (position_id, generation) WHERE step IN ('intent', 'sending');
CREATE TABLE IF NOT EXISTS booking (
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    exit_price      TEXT NOT NULL,
    gross_pnl       TEXT NOT NULL,
    fees            TEXT NOT NULL,
    funding         TEXT NOT NULL,
    net_pnl         TEXT NOT NULL,
    client_order_id TEXT,
    token           INTEGER NOT NULL,
    closed_at       TEXT NOT NULL,
    PRIMARY KEY (position_id, generation),
    FOREIGN KEY (position_id, generation) REFERENCES close
) STRICT;
CREATE TABLE IF NOT EXISTS fill (
    account         TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    trade_id        TEXT NOT NULL,
    position_id     TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    client_order_id TEXT,
    price           TEXT NOT NULL,
    contracts       TEXT NOT NULL,
    fee             TEXT NOT NULL,
    fee_currency    TEXT NOT NULL,
    at_ms           INTEGER NOT NULL,
    PRIMARY KEY (account, symbol, trade_id),
    FOREIGN KEY (position_id, generation) REFERENCES booking
) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    at          REAL NOT NULL,
    position_id TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    token       INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    event       TEXT NOT NULL,
    detail      TEXT NOT NULL
) STRICT;
UPDATE close SET step = 'filled' WHERE step = 'swept';
PRAGMA user_version = 2;
COMMIT;
"""
TOKEN = 1_700_000_000_000_000
LONG_AGO_MS = 1000


@dataclass
class Old:
    """An account, and the ledger that a poslock of version 2 has left of it."""

    folder: Path

    def __post_init__(self) -> None:
        self.exchange = PaperExchange(self.folder / "exchange.db", settles_within=0.3, denies_for=0.1)
        self.lock_dir = self.folder / "locks"
        self.lock_dir.mkdir(0o700)
        self.path = self.lock_dir / "ledger.db"
        self.script(VERSION_2)

    def script(self, statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(statements)

    def insert(self, table: str, *values: object) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)

    def opened(self, position_id: str, *, state: str = "open") -> Leg:
        """Ten contracts from 60000, tracked and protected, on a market of their own; the price is 59000 now."""
        leg = Leg(f"{position_id.upper()}/USDT:USDT", "long")
        self.exchange.set_price(leg.symbol, 60_000)
        self.exchange.open_position(leg.symbol, leg.side, 10)
        self.exchange.protect(leg.symbol, leg.side, "stop_loss", 10, 57_000)
        tracked_at_ms = self.exchange.time_ms() + 1
        while self.exchange.time_ms() <= tracked_at_ms:
            pass
        self.exchange.set_price(leg.symbol, 59_000)
        self.position(position_id, leg, tracked_at_ms, state)
        return leg

    def position(self, position_id: str, leg: Leg, tracked_at_ms: int, state: str = "open") -> None:
        facts = ("1", 0, "USDT", "0.5", tracked_at_ms, state, TOKEN)
        self.insert("position", position_id, 1, self.exchange.account, leg.symbol, leg.side, "10", "60000", *facts)
        self.audit(position_id, "tracked", f"long 10 {leg.symbol}")

    def audit(self, position_id: str, event: str, detail: str) -> None:
        self.insert("audit", None, 1.5, position_id, 1, TOKEN, 4711, event, detail)

    def order_id(self, position_id: str, *what: object) -> str:
        """As that version made it, too: an order that it sent is found by it."""
        with closing(sqlite3.connect(self.path)) as db:
            sql = "SELECT symbol, tracked_at_ms FROM position WHERE position_id = ?"
            symbol, tracked_at_ms = db.execute(sql, (position_id,)).fetchone()
        position = Position(position_id, symbol, "long", 10, 60_000)
        return client_order_id(TrackedPosition(position, 1, self.exchange.account, "open", tracked_at_ms, None), *what)

    def send(self, leg: Leg, order_id: str, contracts: int) -> None:
        self.exchange.place(CloseOrder(leg, Decimal(contracts), order_id, self.exchange.time_ms(), 5000))

    def guard(self) -> PositionGuard:
        return PositionGuard(self.exchange, lock_dir=self.lock_dir)

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of version 2, read without poslock, with the columns that version 2 had."""
        with closing(sqlite3.connect(":memory:")) as empty, closing(sqlite3.connect(self.path)) as db:
            empty.executescript(VERSION_2)
            tables = [name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            columns = {each: [name for _, name, *_ in empty.execute(f"PRAGMA table_info({each})")] for each in tables}
            found = {}
            for table in tables:
                wanted = ", ".join(columns[table])
                found[table] = sorted(db.execute(f"SELECT {wanted} FROM {table}").fetchall(), key=str)
            return found

    def version(self) -> int:
        with closing(sqlite3.connect(self.path)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.fixture
def old(tmp_path: Path) -> Old:
    """One position of each kind: open, being closed with its order sent or not, being changed, and closed."""
    made = Old(tmp_path)
    made.opened("open")
    for position_id in ("sent", "unsent"):
        leg = made.opened(position_id, state="closing")
        made.insert("close", position_id, 1, "sending", "stop-loss")
        order_id = made.order_id(position_id, 1)
        made.insert("attempt", position_id, 1, 1, order_id, "10", LONG_AGO_MS, None)
        made.audit(position_id, "intent", "stop-loss")
        made.audit(position_id, "sending", f"{order_id} 10")
        if position_id == "sent":
            made.send(leg, order_id, 10)
    made.opened("changed")
    order_id = made.order_id("changed", "change", 1)
    made.insert("change", "changed", 1, 1, "stop_loss", "10", "58000", order_id, "sending", LONG_AGO_MS, None)
    leg = made.opened("reduced")
    made.send(leg, made.order_id("reduced", "change", 1), 4)
    order_id = made.order_id("reduced", "change", 1)
    made.insert("change", "reduced", 1, 1, "reduce", "4", None, order_id, "done", LONG_AGO_MS, "4")
    made.position("closed", Leg("CLOSED/USDT:USDT", "long"), LONG_AGO_MS, "closed")
    made.insert("close", "closed", 1, "booked", "target")
    made.insert("attempt", "closed", 1, 1, "plold", "10", LONG_AGO_MS, "10")
    amounts = ("61000", "10000", "0.8", "-0.1", "9999.1")
    made.insert("booking", "closed", 1, *amounts, "plold", TOKEN, "2026-01-02T00:00:00+00:00")
    fills = [("t1", "4"), ("t2", "6")]
    for trade_id, contracts in fills:
        where = (made.exchange.account, "CLOSED/USDT:USDT", trade_id, "closed", 1)
        made.insert("fill", *where, "plold", "61000", contracts, "0.15", "USDT", LONG_AGO_MS + 500)
    made.audit("closed", "booked", "net 9999.1")
    return made


def test_every_row_is_there_after_an_upgrade(old: Old) -> None:
    """As it was, in tables of the new form, without a trace of the old ones; opening it again changes nothing."""
    before = old.content()
    assert all(before[table] for table in before if table != "growth")
    ledger = Ledger(str(old.path))
    assert len(ledger.positions()) == 6
    assert (old.version(), old.content()) == (5, before)
    with closing(sqlite3.connect(old.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        made = {row[0] for row in db.execute("SELECT name || coalesce(sql, '') FROM sqlite_master")}
        assert not [each for each in made if "old_" in each]
        dump = [*db.iterdump()]
    fresh = Ledger(str(old.folder / "fresh.db"))
    assert fresh.positions() == []
    with closing(sqlite3.connect(fresh.path)) as db:
        assert {row[0] for row in db.execute("SELECT name || coalesce(sql, '') FROM sqlite_master")} == made
    assert len(Ledger(str(old.path)).positions()) == 6
    with closing(sqlite3.connect(old.path)) as db:
        assert [*db.iterdump()] == dump


def test_an_upgraded_position_reads_as_it_did(old: Old) -> None:
    """The booking with its fills; what version 2 did not know is said to be unknown, or nothing."""
    ledger = Ledger(str(old.path))
    tracked = ledger.find("closed")
    assert tracked is not None
    closed = tracked.closed
    assert closed is not None
    assert (closed.net_pnl, closed.exit_price, closed.token) == (Decimal("9999.1"), 61_000, TOKEN)
    assert [(fill.trade_id, fill.contracts) for fill in closed.fills] == [("t1", 4), ("t2", 6)]
    assert (closed.ended_by, closed.left_at_venue, closed.written_off, closed.by_operator) == ("", None, 0, 0)
    leg = ledger.standing(CloseKey("open", 1)).leg
    assert (leg.tracked.held, leg.tracked.entry_price, leg.tracked.position_id, leg.later) == (10, None, None, None)
    assert (leg.trades, leg.tracked.baseline) == ((), ())
    last = ledger.history()[-1]
    ledger.note(CloseKey("open", 1), TOKEN, "note", "")
    assert ledger.history()[-2] == last
    with ledger._database.snapshot() as db:
        numbers = [row["number"] for row in db.execute("SELECT number FROM audit ORDER BY number")]
    assert numbers == [*range(1, len(numbers) + 1)]


@pytest.mark.parametrize(
    ("statement", "key"),
    [
        ("INSERT INTO booking SELECT * FROM booking", "booking.position_id"),
        ("INSERT INTO close SELECT * FROM close", "close.position_id"),
        ("INSERT INTO fill SELECT * FROM fill", "fill.account"),
        ("INSERT INTO change SELECT * FROM change", "change."),
        (
            "INSERT INTO attempt SELECT position_id, 2, number, client_order_id, '1', 0, NULL FROM attempt",
            "client_order",
        ),
        ("UPDATE position SET symbol = 'ONE', side = 'long' WHERE state = 'open'", "position.symbol"),
    ],
)
def test_the_keys_hold_in_an_upgraded_ledger(old: Old, statement: str, key: str) -> None:
    """One close, one booking, one row a fill, one client order id ever, one open position a leg."""
    Ledger(str(old.path)).positions()
    with closing(sqlite3.connect(old.path)) as db, pytest.raises(sqlite3.IntegrityError, match=f"UNIQUE.*{key}"):
        db.execute(statement)


def test_what_an_older_poslock_began_is_finished(old: Old) -> None:
    """The order that it sent is found and not sent again, the one that it did not send goes out under its id."""
    guard = old.guard()
    recoveries = {each.position_id: each for each in guard.recover()}
    assert {key: (each.closed is not None, each.error) for key, each in recoveries.items()} == {
        "changed": (False, None),
        "sent": (True, None),
        "unsent": (True, None),
    }
    assert guard.recover() == []
    changed = old.exchange.open_orders(Leg("CHANGED/USDT:USDT", "long"))
    assert [order.trigger_price for order in changed] == [58_000]
    for position_id in ("open", "changed", "reduced"):
        guard.close_position(position_id)
    for position_id in ("open", "sent", "unsent", "changed", "reduced"):
        closed, leg = guard.position(position_id).closed, Leg(f"{position_id.upper()}/USDT:USDT", "long")
        assert closed is not None
        assert (closed.gross_pnl, closed.left_at_venue) == (-10_000, 0)
        assert closed.fees == Decimal("0.5") + 295
        assert closed.token > TOKEN
        assert (old.exchange.held(leg), old.exchange.open_orders(leg)) == (0, [])
        orders = [order for order in old.exchange.orders(leg) if order.family == "order"]
        assert sum(order.filled for order in orders) == 10
    ids = [order.client_order_id for order in old.exchange.orders(Leg("UNSENT/USDT:USDT", "long"))]
    assert old.order_id("unsent", 1) in ids


@pytest.mark.parametrize("reduced_first", [True, False])
def test_a_position_that_grew_under_an_older_poslock_is_closed(old: Old, *, reduced_first: bool) -> None:
    """10 at 60000, 4 of them taken off or not, and 6 more at 59000 adopted: all that is left is closed, at once."""
    leg = old.opened("grown")
    if reduced_first:
        order_id = old.order_id("grown", "change", 1)
        old.send(leg, order_id, 4)
        old.insert("change", "grown", 1, 1, "reduce", "4", None, order_id, "done", LONG_AGO_MS, "4")
    old.exchange.open_position(leg.symbol, leg.side, 6)
    position = Position("grown", leg.symbol, leg.side, 10, 60_000).scaled_in(6, 59_000)
    old.script(
        f"UPDATE position SET contracts = '16', entry_price = '{position.entry_price}' WHERE contracts = '10' "
        f"AND position_id = 'grown'; INSERT INTO growth VALUES ('grown', 1, '{position.entry_price}')"
    )
    old.audit("grown", "adopted", f"16 from {position.entry_price}")
    closed = old.guard().close_position("grown")
    assert sum(fill.contracts for fill in closed.fills) == 16
    assert abs(closed.gross_pnl + 10_000) < Decimal("1e-9")
    assert (closed.left_at_venue, old.exchange.held(leg)) == (0, 0)
    assert old.exchange.orders(leg)[-1].filled == (12 if reduced_first else 16)


def test_a_ledger_of_version_1_is_upgraded_too(tmp_path: Path) -> None:
    """It knew no changes and no growth, and the end of its sweep was a step of its own."""
    old = Old(tmp_path)
    leg = old.opened("swept", state="closing")
    old.send(leg, old.order_id("swept", 1), 10)
    for order in old.exchange.open_orders(leg):
        old.exchange.cancel(order)
    old.script(
        """DROP TABLE change; DROP TABLE growth; DROP TABLE close;
        CREATE TABLE close (position_id TEXT NOT NULL, generation INTEGER NOT NULL, step TEXT NOT NULL,
            reason TEXT NOT NULL, PRIMARY KEY (position_id, generation)) STRICT;
        INSERT INTO close VALUES ('swept', 1, 'swept', '');
        PRAGMA user_version = 1"""
    )
    old.insert("attempt", "swept", 1, 1, old.order_id("swept", 1), "10", LONG_AGO_MS, None)
    (recovery,) = old.guard().recover()
    assert recovery.closed is not None
    assert recovery.closed.gross_pnl == -10_000


def test_a_ledger_of_version_3_keeps_every_row_and_gets_what_a_new_one_has(tmp_path: Path) -> None:
    """It lacked indexes alone; its positions read as they did, and an order that was sent is sent no second time."""
    script = (Path(__file__).parent / "ledger_version_3.sql").read_text("utf-8")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.executescript(script)
        before = {line for line in db.iterdump() if line.startswith("INSERT")}
    ledger, fresh = Ledger(str(tmp_path / "ledger.db")), Ledger(str(tmp_path / "fresh.db"))
    assert fresh.positions() == []
    found = {each.position.id: (each.generation, each.state, each.left) for each in ledger.positions()}
    assert found == {
        "again": (2, "open", 10),
        "changed": (1, "open", 10),
        "closed": (1, "closed", 0),
        "closing": (1, "closing", 10),
        "open": (1, "open", 10),
    }
    with closing(sqlite3.connect(ledger.path)) as db, closing(sqlite3.connect(fresh.path)) as empty:
        assert {line for line in db.iterdump() if line.startswith("INSERT")} == before
        schemas = [{row[0] for row in each.execute("SELECT sql FROM sqlite_master")} for each in (db, empty)]
        assert schemas[0] == schemas[1]
        assert [each.execute("PRAGMA user_version").fetchone() for each in (db, empty)] == [(5,), (5,)]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    close = ledger.standing(CloseKey("closing", 1)).close
    assert close is not None
    assert (close.step, len(close.attempts), ledger.sent(close.attempts[0].client_order_id)) == ("sending", 1, True)


def test_a_ledger_of_version_4_gets_the_index_that_it_lacks(tmp_path: Path) -> None:
    """As it was before an index for what was booked on a leg came to it."""
    old, fresh = Ledger(str(tmp_path / "ledger.db")), Ledger(str(tmp_path / "fresh.db"))
    assert (old.positions(), fresh.positions()) == ([], [])
    old.close_file()
    with closing(sqlite3.connect(old.path)) as db:
        db.executescript("DROP INDEX fills_of_a_leg; PRAGMA user_version = 4")
    assert Ledger(old.path).booked_last("account", "BTC", "long", 0) is None
    with closing(sqlite3.connect(old.path)) as db, closing(sqlite3.connect(fresh.path)) as empty:
        schemas = [{row[0] for row in each.execute("SELECT sql FROM sqlite_master")} for each in (db, empty)]
        assert schemas[0] == schemas[1]
        assert db.execute("PRAGMA user_version").fetchone() == (5,)


# Several at once, and one that is killed.

OPENS = """
from poslock.database import Database
from poslock.ledger.ledger import Ledger

look = Database._version_of

def looked(self, connection):
    version = look(self, connection)
    print(version, flush=True)
    return version

Database._version_of = looked
print(len(Ledger({path!r}).positions()))
"""
KILLED = """
import signal
from poslock import database
from poslock.ledger.ledger import Ledger

whole = database.statements

def until(script):
    for number, statement in enumerate(whole(script)):
        if number == {number}:
            signal.raise_signal(signal.SIGKILL)
        yield statement
    signal.raise_signal(signal.SIGKILL)

database.statements = until
Ledger({path!r}).positions()
"""


def test_several_that_open_an_old_ledger_at_once_upgrade_it_once(old: Old) -> None:
    """Four processes have all seen that it is old before the first of them may write: each finds all positions."""
    before = old.content()
    command = [sys.executable, "-c", OPENS.format(path=str(old.path))]
    with closing(sqlite3.connect(old.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        assert [said_by(child) for child in children] == ["2"] * 4
        db.execute("ROLLBACK")
    said = [child.communicate(timeout=60)[0].split() for child in children]
    # One finds it old again when it may write; the others begin again, for they meet a writer, until it is new.
    assert sorted(versions[-1] for *versions, _ in said) == ["2", "5", "5", "5"]
    assert [positions for *_, positions in said] == ["6"] * 4
    assert (old.version(), old.content()) == (5, before)


def said_by(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.parametrize("number", [1, 6, 12, 25, 40, 1000])
def test_an_upgrade_that_is_killed_leaves_the_old_ledger_whole(old: Old, number: int) -> None:
    """Before any of its statements, or before its commit, with more written than memory holds: the next one does it."""
    for each in range(300):
        old.audit("open", "note", f"{each}" * 5_000)
    before = old.content()
    code = KILLED.format(number=number, path=str(old.path))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (old.version(), old.content()) == (2, before)
    assert len(Ledger(str(old.path)).positions()) == 6
    assert (old.version(), old.content()) == (5, before)
