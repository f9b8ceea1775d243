"""A venue that answers at once, so that what is measured is the guard's own time."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from poslock import Fill
from poslock.exchange.port import Holding, Order
from poslock.position import Trade

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.exchange.port import CloseOrder, Leg


class InstantVenue:
    """A venue that has filled a close before it was asked to."""

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
        return trades_of(leg.symbol, None if order is None else order.client_order_id)

    def order(self, _leg: Leg, _client_order_id: str) -> Order | None:
        """None is ever asked for."""
        return None

    def open_orders(self, _leg: Leg) -> list[Order]:
        """None."""
        return []

    def cancel(self, _order: Order) -> None:
        """None rests."""

    def funding(self, _leg: Leg, _since_ms: int, _until_ms: int) -> Decimal:
        """None."""
        return Decimal(0)


def trades_of(symbol: str, client_order_id: str | None) -> list[Trade]:
    """An entry, and the exit by that order if there was one."""
    bought = Fill(f"{symbol} 1", None, Decimal(1), Decimal(1), Decimal(0), "USDT", 1)
    if client_order_id is None:
        return [Trade("entry", "0", bought)]
    sold = Fill(f"{symbol} 2", client_order_id, Decimal(2), Decimal(1), Decimal(0), "USDT", 1)
    return [Trade("entry", "0", bought), Trade("exit", "1", sold)]
