"""What the venues have in common: positions of one side of a linear or inverse swap, and lists that are complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from poslock.errors import ExchangeUnavailable, UnsupportedMarket
from poslock.exchange.port import AsyncRequests, Holding, Leg
from poslock.text import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from poslock.exchange.port import Order, StopOrder
    from poslock.exchange.venues.client import Client, Dialect

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
    """A leg at the venue: its contracts, their average entry price, and all that the venue says of it."""

    contracts: Decimal
    entry_price: Decimal
    said: dict[str, Any]


class Swap(ABC):
    """A venue of perpetual swaps. Subclasses ask it; here is what the answers mean."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @abstractmethod
    async def _position(self, leg: Leg) -> Held | None: ...

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
        if position is None:
            return None
        market = self.market(leg)
        size, inverse, settle = decimal(market["contractSize"]), bool(market["inverse"]), str(market["settle"])
        return Holding(position.contracts, position.entry_price, size, inverse, settle)

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


def decimal(number: object) -> Decimal:
    """A number in a venue's answer, as it is written there: a float's shortest form is what the JSON had."""
    if number is None or isinstance(number, bool):
        raise ValueError(f"{number!r} is no number")
    value = Decimal(str(number))
    if not value.is_finite():
        raise ValueError(f"{number!r} is no finite number")
    return value


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
