"""What a close costs beside the commits that it cannot do without."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from bench.contestants import POSLOCK
from bench.rows import Bound, Row
from bench.series import interleave
from poslock import Fill, Position, PositionGuard
from poslock.exchange.port import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.settings import Settings
    from poslock.exchange.port import CloseOrder, Exchange, Leg

COMMITS = 4
_BARE = f"{COMMITS} bare durable commits"


class InstantVenue:
    """A venue that has filled a close before it was asked to, so that what is measured is the guard's own time."""

    account = "bench"
    denies_for = 0.0
    settles_within = 1.0

    def __init__(self) -> None:
        self._placed: dict[str, CloseOrder] = {}

    def time_ms(self) -> int:
        """A clock that stands still."""
        return 1

    def held(self, leg: Leg) -> Decimal:
        """All, until it was closed."""
        return Decimal(0 if leg.symbol in self._placed else 1)

    def place(self, order: CloseOrder) -> Order:
        """Filled at once."""
        self._placed[order.leg.symbol] = order
        client_id, contracts = order.client_order_id, order.contracts
        return Order("1", client_id, "order", order.leg, contracts, contracts, "filled")

    def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """One, once it was closed."""
        order = self._placed.get(leg.symbol)
        if order is None:
            return []
        return [Fill(leg.symbol, order.client_order_id, Decimal(2), order.contracts, Decimal(0), "USDT", since_ms)]

    def open_orders(self, _leg: Leg) -> list[Order]:
        """None."""
        return []

    def funding(self, _leg: Leg, _since_ms: int, _until_ms: int) -> Decimal:
        """None."""
        return Decimal(0)


def close(directory: str, settings: Settings) -> Row:
    """A close of a position without resting orders."""
    works = {POSLOCK.name: _closes(f"{directory}/guard", settings.closes), _BARE: _commits(f"{directory}/bare.db")}
    series = interleave(works, rounds=settings.closes, repeats=1)
    return Row("close_position at a venue that answers at once", "s", series, (Bound(1.5, _BARE),))


def _closes(directory: str, closes: int) -> Callable[[], object]:
    guard = PositionGuard(cast("Exchange", InstantVenue()), lock_dir=directory)
    names = [f"position-{number}" for number in range(closes + 1)]
    for name in names:
        guard.track(Position(name, name, "long", 1, 1))
    left: Any = iter(names)
    return lambda: guard.close_position(next(left))


def _commits(path: str) -> Callable[[], None]:
    """As many transactions as a close makes, each of one row, as durable as the ledger's."""
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
