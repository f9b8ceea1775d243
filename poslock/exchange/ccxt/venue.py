"""What the venues have in common: positions of one side of a linear or inverse swap, and lists that are complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from poslock.errors import ExchangeUnavailable, UnsupportedMarket, quoted
from poslock.exchange.port import AsyncRequests, Holding, Leg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from poslock.exchange.ccxt.client import Client, Dialect
    from poslock.exchange.port import Order, StopOrder

_MOST_PAGES = 50


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a venue says of an account and its key; None where it does not say.

    ``clock_ms`` is by how many milliseconds this machine's clock is ahead of the venue's.
    """

    clock_ms: int
    hedge: bool | None
    may_trade: bool | None
    may_withdraw: bool | None


class Venue(AsyncRequests, Protocol):
    """A venue's own ways, over one `Client`; with a client for threads nothing in it ever waits for a loop."""

    dialect: ClassVar[Dialect]
    denies_for: ClassVar[float]

    async def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account."""


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


def decimal(number: object) -> Decimal:
    """A number in a venue's answer, as it is written there: a float's shortest form is what the JSON had."""
    if number is None or isinstance(number, bool):
        raise ValueError(f"{number!r} is no number")
    value = Decimal(str(number))
    if not value.is_finite():
        raise ValueError(f"{number!r} is no finite number")
    return value


def smallest(market: dict[str, Any]) -> Decimal:
    """The fewest contracts that a market order can be for, by ccxt's description of the market; 0 if it has none."""
    limits = market.get("limits") or {}
    least = [(limits.get(kind) or {}).get("min") for kind in ("amount", "market")]
    return max((decimal(each) for each in least if each is not None), default=Decimal(0))


async def every_page(ask: Callable[[int], Awaitable[Sequence[Any]]], size: int) -> list[Any]:
    """All that a venue lists in pages of *size*, the first one is 1; never a part of it.

    Raises:
        ExchangeUnavailable: there is more than can be read in reasonable time.
    """
    found: list[Any] = []
    for number in range(1, _MOST_PAGES + 1):
        page = await ask(number)
        found.extend(page)
        if len(page) < size:
            return found
    raise ExchangeUnavailable(f"the list has more than {_MOST_PAGES} pages of {size}")


def spans(since_ms: int, until_ms: int, longest_ms: int) -> list[tuple[int, int]]:
    """The time from *since_ms* to *until_ms*, cut into pieces that a venue can be asked about; both ends are inside."""
    starts = range(since_ms, until_ms + 1, longest_ms)
    return [(start, min(start + longest_ms - 1, until_ms)) for start in starts]
