"""Positions of one side of a linear swap, which all venues of swaps have alike."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poslock.errors import ExchangeUnavailable, NothingToReduce, OrderRefused
from poslock.exchange.ccxt.reading import decimal, plain, smallest, step
from poslock.exchange.ccxt.venue import Account
from poslock.exchange.port import Holding, Leg
from poslock.position import on_step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from poslock.exchange.port import Order, StopOrder


@dataclass(frozen=True, slots=True)
class Held:
    """A leg at the venue: its contracts, their average entry price, and all that the venue says of it.

    ``position_id`` is the venue's id of the position, None where it has none.
    """

    contracts: Decimal
    entry_price: Decimal
    said: dict[str, Any]
    position_id: str | None = None


class Swap(Account):
    """A venue of perpetual swaps. Subclasses ask it; here is what the answers mean."""

    @abstractmethod
    async def _position(self, leg: Leg) -> Held | None:
        """*leg* as the venue has it now, None if nothing is held."""

    @abstractmethod
    async def _all_positions(self, legs: Sequence[Leg]) -> Mapping[Leg, Held]:
        """Those of *legs* that are held, from one request for the whole account."""

    @abstractmethod
    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, of any family."""

    @abstractmethod
    def _largest(self, leg: Leg) -> Decimal | None:
        """The most contracts that an order at market can be for, also one that rests until it triggers."""

    async def stop(self, order: StopOrder) -> Order | None:
        """What became of a stop order: as `order`, where stop orders have a client order id."""
        return await self.order(order.leg, order.client_order_id)

    async def holding(self, leg: Leg) -> Holding | None:
        """What *leg* holds now, and what its contracts are."""
        position = await self._position(leg)
        return None if position is None else self._holding(leg, position)

    async def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, in their order, from one request; without those of markets not known here.

        Raises:
            ExchangeUnavailable: no market is known, because `prepare` was not called.
        """
        known = self._known(legs)
        found = await self._all_positions(known) if known else {}
        return [self._holding(leg, found[leg]) for leg in known if leg in found]

    async def _reducible(self, leg: Leg) -> Held:
        """What an order would reduce, asked before it is sent."""
        position = await self._unsent(self._position(leg))
        if position is None:
            raise NothingToReduce(f"{self.client.ccxt.id} holds no {leg.side} position in {leg.symbol}")
        return position

    def _sendable(self, leg: Leg, contracts: Decimal) -> Decimal:
        """What of *contracts* an order can be for: cut down to the market's step, never more."""
        size = step(self.market(leg), "amount")
        cut = on_step(contracts, size)
        if not cut:
            raise OrderRefused(f"{plain(contracts)} contracts are less than the {plain(size)} that sizes go by")
        return cut

    async def _still_holds(self, leg: Leg) -> bool:
        """Whether *leg* holds something, as far as the venue says."""
        try:
            return await self._position(leg) is not None
        except ExchangeUnavailable:
            return False

    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:  # noqa: ARG002  # spot looks at the leg
        return None if market.get("swap") and market.get("linear") else "is no linear swap"

    def _holding(self, leg: Leg, position: Held) -> Holding:
        market = self.market(leg)
        return Holding(
            leg=leg,
            contracts=position.contracts,
            entry_price=position.entry_price,
            contract_size=decimal(market["contractSize"]),
            inverse=bool(market["inverse"]),
            settle=str(market["settle"]),
            position_id=position.position_id,
            smallest=smallest(market),
            step=step(market, "amount"),
            tick=step(market, "price"),
            largest=self._largest(leg),
        )
