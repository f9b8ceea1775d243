"""`CcxtExchange`: an account at a real venue, through the ccxt client that the bot already has.

Requests for orders are signed as of the last lease check, carry a receive window that ends before the lease does, and
are sent once. What the venue said is judged by its own codes; what it did not say is unknown, and asked.

Not protected: venues and modes that README's table does not name; an account that two names in `account` stand for.
"""

from __future__ import annotations

from importlib import import_module
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from poslock.bridge import finished
from poslock.errors import UnsupportedMarket
from poslock.exchange.venues.client import Client
from poslock.exchange.venues.secrecy import hide_keys
from poslock.position import name
from poslock.text import shown

if TYPE_CHECKING:
    from decimal import Decimal

    from poslock.exchange.port import CloseOrder, Holding, Leg, Order, StopOrder
    from poslock.exchange.venues.venue import Inspection, Venue
    from poslock.position import Fill

# By ccxt's id of the venue and the type of its markets. By name, because few bots need more than one.
_VENUES = {
    ("mexc", "swap"): "poslock.exchange.venues.mexc.Mexc",
    ("binanceusdm", "swap"): "poslock.exchange.venues.binance.BinanceUsdm",
    ("binance", "swap"): "poslock.exchange.venues.binance.BinanceUsdm",
    ("bybit", "swap"): "poslock.exchange.venues.bybit.Bybit",
    ("okx", "swap"): "poslock.exchange.venues.okx.Okx",
    ("binance", "spot"): "poslock.exchange.venues.spot_venues.BinanceSpot",
    ("mexc", "spot"): "poslock.exchange.venues.spot_venues.MexcSpot",
}
# Two of ccxt's ids for one venue: an account is the same through both.
_SAME = {"binanceusdm": "binance"}


class _Account:
    """The settings of an account, and the venue behind it."""

    def __init__(
        self,
        client: Any,
        *,
        account: str,
        market: Literal["swap", "spot"] = "swap",
        denies_for: float | None = None,
        settles_within: float = 10.0,
    ) -> None:
        if not callable(getattr(client, "fetch", None)) or not isinstance(getattr(client, "id", None), str):
            raise TypeError(f"client must be an exchange of ccxt or ccxt.async_support, not {shown(client)}")
        if (client.id, market) not in _VENUES:
            known = ", ".join(f"{venue} {kind}" for venue, kind in _VENUES)
            raise UnsupportedMarket(f"{client.id} {market} is not known; known: {known}")
        self.account = f"{_SAME.get(client.id, client.id)} {market} {name('account', account)}"
        module, _, kind = _VENUES[client.id, market].rpartition(".")
        venue = getattr(import_module(module), kind)
        hide_keys(client)
        self._client = Client(client, venue.dialect)
        self._venue: Venue = venue(self._client)
        self.denies_for = self._venue.denies_for if denies_for is None else denies_for
        self.settles_within = settles_within

    def time_ms(self) -> int:
        """The venue's clock, as known since `prepare`; never ahead of it."""
        return self._client.clock.now_ms()


class CcxtExchange(_Account):
    """One account at one venue.

    Args:
        client: an exchange of `ccxt` or of `ccxt.async_support`, with its keys. Its retries are not used for orders.
        account: a name for the account, the same in all bots and for ever: client order ids are made from it. Two
            accounts at one venue need two names.
        market: ``"swap"``, or ``"spot"`` for balances as long-only positions.
        denies_for, settles_within: as in `poslock.exchange.port.Exchange`; by default what was seen at the venue.

    With a client of `ccxt.async_support` its requests are coroutines, for an `AsyncPositionGuard`.

    Raises:
        UnsupportedMarket: the venue or the type of market is not known.
        TypeError: *client* is no ccxt exchange.
    """

    def __new__(cls, client: Any, **settings: Any) -> Self:  # noqa: D102  # the class says it
        if iscoroutinefunction(getattr(client, "fetch", None)):
            return cast("Self", AsyncCcxtExchange(client, **settings))
        return super().__new__(cls)

    def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account; asks the venue."""
        return finished(self._venue.inspect())

    def prepare(self) -> None:
        """Load the markets, read the venue's clock and the account's position mode."""
        finished(self._venue.prepare())

    def price(self, leg: Leg) -> Decimal:
        """The last price."""
        return finished(self._venue.price(leg))

    def held(self, leg: Leg) -> Decimal:
        """Contracts that *leg* holds now."""
        return finished(self._venue.held(leg))

    def holding(self, leg: Leg) -> Holding | None:
        """What the venue reports of *leg*."""
        return finished(self._venue.holding(leg))

    def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces."""
        return finished(self._venue.place(order))

    def place_stop(self, order: StopOrder) -> Order:
        """Rest an order that only reduces until the last price reaches its trigger."""
        return finished(self._venue.place_stop(order))

    def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id."""
        return finished(self._venue.order(leg, client_order_id))

    def stop(self, order: StopOrder) -> Order | None:
        """What became of a stop order."""
        return finished(self._venue.stop(order))

    def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order, of every family, that would reduce *leg*."""
        return finished(self._venue.open_orders(leg))

    def cancel(self, order: Order) -> None:
        """Cancel *order*, in its family; no error if it has ended."""
        finished(self._venue.cancel(order))

    def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """Fills that reduced *leg*, oldest first."""
        return finished(self._venue.fills(leg, since_ms))

    def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received on *leg* in that time."""
        return finished(self._venue.funding(leg, since_ms, until_ms))


class AsyncCcxtExchange(_Account):
    """As `CcxtExchange`, awaited; made by it."""

    async def inspect(self) -> Inspection:
        """As `CcxtExchange.inspect`."""
        return await self._venue.inspect()

    async def prepare(self) -> None:
        """As `CcxtExchange.prepare`."""
        await self._venue.prepare()

    async def price(self, leg: Leg) -> Decimal:
        """As `CcxtExchange.price`."""
        return await self._venue.price(leg)

    async def held(self, leg: Leg) -> Decimal:
        """As `CcxtExchange.held`."""
        return await self._venue.held(leg)

    async def holding(self, leg: Leg) -> Holding | None:
        """As `CcxtExchange.holding`."""
        return await self._venue.holding(leg)

    async def place(self, order: CloseOrder) -> Order:
        """As `CcxtExchange.place`."""
        return await self._venue.place(order)

    async def place_stop(self, order: StopOrder) -> Order:
        """As `CcxtExchange.place_stop`."""
        return await self._venue.place_stop(order)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """As `CcxtExchange.order`."""
        return await self._venue.order(leg, client_order_id)

    async def stop(self, order: StopOrder) -> Order | None:
        """As `CcxtExchange.stop`."""
        return await self._venue.stop(order)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """As `CcxtExchange.open_orders`."""
        return await self._venue.open_orders(leg)

    async def cancel(self, order: Order) -> None:
        """As `CcxtExchange.cancel`."""
        await self._venue.cancel(order)

    async def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """As `CcxtExchange.fills`."""
        return await self._venue.fills(leg, since_ms)

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """As `CcxtExchange.funding`."""
        return await self._venue.funding(leg, since_ms, until_ms)
