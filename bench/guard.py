"""What a close costs beside the commits that it cannot do without."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from bench.contestants import POSLOCK
from bench.rows import Bound, Row
from bench.series import interleave
from poslock import ClosedPosition, Fill, Position, PositionGuard
from poslock.exchange.port import Holding, Order
from poslock.ledger.journal import Attempt, CloseKey, LegAtTracking
from poslock.ledger.ledger import Ledger
from poslock.position import Trade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.settings import Settings
    from poslock.exchange.port import CloseOrder, Exchange, Leg

COMMITS = 4
_ONE_ROW = f"{COMMITS} durable commits of one row each"
_BARE = f"its {COMMITS} commits and nothing else"


class InstantVenue:
    """A venue that has filled a close before it was asked to, so that what is measured is the guard's own time."""

    account = "bench"
    denies_for = 0.0
    settles_within = 1.0
    spot = False

    def __init__(self) -> None:
        self._placed: dict[str, CloseOrder] = {}

    def prepare(self) -> None:
        """Nothing is unknown."""

    def time_ms(self) -> int:
        """A clock that stands still."""
        return 1

    def holding(self, leg: Leg) -> Holding | None:
        """All, until it was closed."""
        return None if leg.symbol in self._placed else Holding(leg, Decimal(1), Decimal(1), Decimal(1), False, "USDT")

    def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """The same of each."""
        return [held for held in map(self.holding, legs) if held is not None]

    def place(self, order: CloseOrder) -> Order:
        """Filled at once."""
        self._placed[order.leg.symbol] = order
        client_id, contracts = order.client_order_id, order.contracts
        return Order("1", client_id, "order", order.leg, contracts, contracts, "filled")

    def trades(self, leg: Leg, _since_ms: int) -> list[Trade]:
        """The entry, and the exit once it was closed."""
        order = self._placed.get(leg.symbol)
        return _trades(leg.symbol, None if order is None else order.client_order_id)

    def open_orders(self, _leg: Leg) -> list[Order]:
        """None."""
        return []

    def funding(self, _leg: Leg, _since_ms: int, _until_ms: int) -> Decimal:
        """None."""
        return Decimal(0)


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
        leg = LegAtTracking(Decimal(1), Decimal(1), None, 1, tuple(_trades(name, None)))
        ledger.track(Position(name, name, "long", 1, 1), "bench", 1, leg)
    left = iter(names)

    def work() -> None:
        name, zero, one = next(left), Decimal(0), Decimal(1)
        key, client_id = CloseKey(name, 1), f"pl{name}"
        _, sold = _trades(name, client_id)
        closed = ClosedPosition(name, one, zero, zero, zero, zero, (sold.fill,), client_id, 1, datetime.now(UTC))
        ledger.begin(key, 1, "")
        ledger.sending(key, 1, Attempt(1, client_id, one, 1), None)
        ledger.filled(key, 1, [sold])
        ledger.book(key, 1, closed)

    return work


def _trades(symbol: str, client_order_id: str | None) -> list[Trade]:
    """An entry, and the exit by that order if there was one."""
    bought = Fill(f"{symbol} 1", None, Decimal(1), Decimal(1), Decimal(0), "USDT", 1)
    if client_order_id is None:
        return [Trade("entry", "0", bought)]
    sold = Fill(f"{symbol} 2", client_order_id, Decimal(2), Decimal(1), Decimal(0), "USDT", 1)
    return [Trade("entry", "0", bought), Trade("exit", "1", sold)]


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
