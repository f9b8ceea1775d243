"""What a close costs beside the commits that it cannot do without."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from bench.contestants import POSLOCK
from bench.instant import InstantVenue, trades_of
from bench.rows import Bound, Row
from bench.series import interleave
from poslock import ClosedPosition, Position, PositionGuard
from poslock.ledger.journal import Attempt, CloseKey, Dispatch, LegAtTracking
from poslock.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.settings import Settings
    from poslock.exchange.port import Exchange

COMMITS = 3
_ONE_ROW = f"{COMMITS} durable commits of one row each"
_BARE = f"its {COMMITS} commits and nothing else"


def close(directory: str, settings: Settings) -> Row:
    """A close of a position without resting orders."""
    works: dict[str, Callable[[], object]] = {
        POSLOCK.name: _closes(f"{directory}/guard", settings.closes),
        _BARE: _bare(f"{directory}/ledger.db", settings.closes),
        _ONE_ROW: _commits(f"{directory}/rows.db"),
    }
    series = interleave(works, rounds=settings.closes, repeats=1)
    return Row("close_position at a venue that answers at once", "s", series, (Bound(1.5, _BARE),))


def _closes(directory: str, closes: int) -> Callable[[], object]:
    guard = PositionGuard(cast("Exchange", InstantVenue()), lock_dir=directory)
    names = [f"position-{number}" for number in range(closes + 1)]
    for name in names:
        guard.track(Position(name, name, "long", 1, 1))
    left: Any = iter(names)
    return lambda: guard.close_position(next(left))


def _bare(path: str, closes: int) -> Callable[[], object]:
    """The writes of a close, without lock, venue and reads; same rows, same durability."""
    ledger = Ledger(path)
    names = [f"position-{number}" for number in range(closes + 1)]
    for name in names:
        leg = LegAtTracking(Decimal(1), Decimal(1), None, 1, tuple(trades_of(name, None)))
        ledger.track(Position(name, name, "long", 1, 1), "bench", 1, leg)
    left = iter(names)

    def work() -> None:
        name, zero, one = next(left), Decimal(0), Decimal(1)
        key, client_id = CloseKey(name, 1), f"pl{name}"
        _, sold = trades_of(name, client_id)
        closed = ClosedPosition(name, one, zero, zero, zero, zero, (sold.fill,), client_id, 1, datetime.now(UTC))
        version = ledger.standing(key).version
        ledger.sending(key, 1, Dispatch(Attempt(1, client_id, one, 1), version, ""))
        ledger.filled(key, 1, "", [sold])
        ledger.book(key, 1, closed)

    return work


def _commits(path: str) -> Callable[[], None]:
    """As many transactions, each of one row."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = TRUNCATE",
        "PRAGMA synchronous = EXTRA",
        "CREATE TABLE booking (number INTEGER PRIMARY KEY, text TEXT)",
    ):
        db.execute(statement)

    def work() -> None:
        for _ in range(COMMITS):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO booking (text) VALUES ('a row of the length that an audit row has, about')")
            db.execute("COMMIT")

    return work
