"""What the venues have in common: positions of one side of a linear or inverse swap, and lists that are complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.errors import ExchangeUnavailable, UnsupportedMarket, quoted
from poslock.exchange.ccxt.reading import decimal, smallest
from poslock.exchange.port import Holding, Leg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from poslock.exchange.ccxt.client import Client
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


class Swap(ABC):
    """A venue of perpetual swaps. Subclasses ask it; here is what the answers mean."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @abstractmethod
    async def _position(self, leg: Leg) -> Held | None:
        """*leg* as the venue has it now, None if nothing is held."""

    @abstractmethod
    async def _all_positions(self, legs: Sequence[Leg]) -> Mapping[Leg, Held]:
        """Those of *legs* that are held, from one request for the whole account."""

    @abstractmethod
    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, of any family."""

    async def stop(self, order: StopOrder) -> Order | None:
        """What became of a stop order: as `order`, where stop orders have a client order id."""
        return await self.order(order.leg, order.client_order_id)

    async def held(self, leg: Leg) -> Decimal:
        """Contracts that *leg* holds now."""
        position = await self._position(leg)
        return position.contracts if position else Decimal(0)

    async def holding(self, leg: Leg) -> Holding | None:
        """What *leg* holds now, and what its contracts are."""
        position = await self._position(leg)
        return None if position is None else self._holding(leg, position)

    async def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, in their order, from one request; without those of markets not known here.

        Raises:
            ExchangeUnavailable: no market is known, because `prepare` was not called.
        """
        if not self.client.ccxt.markets:
            raise ExchangeUnavailable(f"{self.client.ccxt.id}: the markets are not loaded; call prepare first")
        known = [leg for leg in dict.fromkeys(legs) if self._knows(leg)]
        found = await self._all_positions(known) if known else {}
        return [self._holding(leg, found[leg]) for leg in known if leg in found]

    def market(self, leg: Leg) -> dict[str, Any]:
        """ccxt's description of the market of *leg*.

        Raises:
            UnsupportedMarket: there is none, or it is no swap settled in a stablecoin.
        """
        markets = self.client.ccxt.markets or {}
        market: dict[str, Any] | None = markets.get(leg.symbol)
        if market is None:
            raise UnsupportedMarket(f"{self.client.ccxt.id} has no market {quoted(leg.symbol)}")
        if not (market.get("swap") and market.get("linear")):
            raise UnsupportedMarket(f"{quoted(leg.symbol)} at {self.client.ccxt.id} is no linear swap")
        return market

    def _knows(self, leg: Leg) -> bool:
        try:
            self.market(leg)
        except UnsupportedMarket:
            return False
        return True

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
        )
