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
from poslock.errors import UnsupportedMarket, shown
from poslock.exchange.ccxt.client import Client
from poslock.exchange.ccxt.secrecy import hide_keys
from poslock.position import name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from poslock.exchange.ccxt.venue import Inspection, Trigger, Venue
    from poslock.exchange.port import BackOff, CloseOrder, Holding, Leg, Memory, Order, StopOrder
    from poslock.position import Trade

# By ccxt's id of the venue and the type of its markets. By name, because few bots need more than one.
_VENUES = {
    ("mexc", "swap"): "poslock.exchange.ccxt.mexc.venue.Mexc",
    ("binance", "swap"): "poslock.exchange.ccxt.binance.venue.BinanceUsdm",
    ("bybit", "swap"): "poslock.exchange.ccxt.bybit.venue.Bybit",
    ("okx", "swap"): "poslock.exchange.ccxt.okx.venue.Okx",
    ("binance", "spot"): "poslock.exchange.ccxt.spot.binance.BinanceSpot",
    ("mexc", "spot"): "poslock.exchange.ccxt.spot.mexc.MexcSpot",
}
# ccxt's other ids of a venue, by interface or by region: an account is the same through each.
_SAME = {"binanceusdm": "binance", "myokx": "okx", "okxus": "okx", "bybiteu": "bybit"}


class _Account:
    """The settings of an account, and the venue behind it."""

    def __init__(  # noqa: PLR0913  # settings with defaults
        self,
        client: Any,
        *,
        account: str,
        market: Literal["swap", "spot"] = "swap",
        trigger: Trigger = "last",
        denies_for: float | None = None,
        settles_within: float = 10.0,
    ) -> None:
        self._check(client)
        at = _SAME.get(client.id, client.id), market
        is_only_futures = client.id == "binanceusdm" and market != "swap"
        if at not in _VENUES or is_only_futures:
            known = ", ".join(" ".join(each) for each in _VENUES)
            same = ", ".join(f"{other} as {venue}" for other, venue in _SAME.items())
            raise UnsupportedMarket(f"{client.id} {market} is not known; known: {known}; and {same}")
        self.account = f"{at[0]} {market} {name('account', account)}"
        self.spot = market == "spot"
        module, _, kind = _VENUES[at].rpartition(".")
        venue = getattr(import_module(module), kind)
        hide_keys(client)
        self._client = Client(client, venue.dialect)
        self._venue: Venue = venue(self._client)
        self._venue.trigger = _trigger(trigger, spot=self.spot)
        self.cancels_unlisted = self._venue.cancels_unlisted
        self.denies_for = self._venue.denies_for if denies_for is None else denies_for
        self.settles_within = settles_within

    def time_ms(self) -> int:
        """The venue's clock in milliseconds since the epoch, as known since `prepare`; never ahead of it."""
        return self._client.clock.now_ms()

    side_by_side: Literal[True] = True

    def share_back_off(self, shared: BackOff) -> None:
        """Leave the venue alone as long as it has asked any bot of *shared* for; a guard calls this."""
        self._client.back_off = shared

    def share_memory(self, memory: Memory) -> None:
        """Keep for the next process, and take from the last one, what the venue was asked; a guard calls this."""
        self._client.clock.memory = self._venue.memory = memory

    def _check(self, client: Any) -> None:
        """Raise `TypeError` if *client* is nothing to ask a venue with."""
        if not callable(getattr(client, "fetch", None)) or not isinstance(getattr(client, "id", None), str):
            raise TypeError(f"client must be an exchange of ccxt or ccxt.async_support, not {shown(client)}")


class CcxtExchange(_Account):
    """One account at one venue.

    Args:
        client: an exchange of `ccxt` or of `ccxt.async_support`, with its keys. Its retries are not used for orders.
        account: a name for the account, the same in all bots. Choose it once: client order ids are made from it. Two
            accounts at one venue need two names.
        market: ``"swap"``, or ``"spot"`` for balances as long-only positions.
        trigger: the price by which stop orders trigger, and which a wanted stop is compared with: ``"last"``, the last
            trade's, or ``"mark"``, the venue's mark price (MEXC: fair price). The same in all bots; spot has the last.
        denies_for, settles_within: as in `poslock.exchange.port.Exchange`; by default what was seen at the venue.

    With a client of `ccxt.async_support` this makes an `AsyncCcxtExchange`, for an `AsyncPositionGuard`. A type checker
    cannot see that; where it matters, call `AsyncCcxtExchange` itself.

    Raises:
        UnsupportedMarket: the venue, the type of market, or its trigger is not known.
        TypeError: *client* is no ccxt exchange.
    """

    def __new__(cls, client: Any, **settings: Any) -> Self:  # noqa: D102  # the class says it
        if _is_asynchronous(client):
            return cast("Self", AsyncCcxtExchange(client, **settings))
        return super().__new__(cls)

    def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account: its clock, its mode, what the key may do."""
        return finished(self._venue.inspect())

    def prepare(self) -> None:
        """Load the markets, read the venue's clock and the account's position mode, unless they are known."""
        finished(self._venue.prepare())

    def price(self, leg: Leg) -> Decimal:
        """The price by which the stop orders of *leg* trigger: the last, or the mark price."""
        return finished(self._venue.price(leg))

    def holding(self, leg: Leg) -> Holding | None:
        """What the venue reports of *leg* now, None if nothing is held."""
        return finished(self._venue.holding(leg))

    def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, from one request; markets that the client does not know are left out."""
        return finished(self._venue.holdings(legs))

    def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, once; of at most the venue's largest size."""
        return finished(self._venue.place(order))

    def place_stop(self, order: StopOrder) -> Order:
        """Rest an order that only reduces until its price is reached; sent once."""
        return finished(self._venue.place_stop(order))

    def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, None if the venue says that there is none."""
        return finished(self._venue.order(leg, client_order_id))

    def stop(self, order: StopOrder) -> Order | None:
        """What became of a request to rest *order*, None if the venue says that there is no such order."""
        return finished(self._venue.stop(order))

    def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order, of every family, that would reduce *leg*."""
        return finished(self._venue.open_orders(leg))

    def cancel(self, order: Order) -> None:
        """Cancel *order*, in its family; no error if it has ended."""
        finished(self._venue.cancel(order))

    def refresh(self) -> None:
        """Ask for the venue's clock if it is too old for an order to be signed by it."""
        finished(self._venue.refresh())

    def cancel_all(self, orders: Sequence[Order]) -> None:
        """Cancel *orders* at once; no error for one that has ended."""
        finished(self._venue.cancel_all(orders))

    def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        """Cancel *orders* by their client order ids, where `cancels_unlisted`; those whose cancel the venue took."""
        return finished(self._venue.cancel_stops(orders))

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* at or after *since_ms*, in the venue's own order, oldest first."""
        return finished(self._venue.trades(leg, since_ms))

    def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received (paid, if negative) on *leg* from *since_ms* to *until_ms*."""
        return finished(self._venue.funding(leg, since_ms, until_ms))


class AsyncCcxtExchange(_Account):
    """As `CcxtExchange`, with requests that are coroutines, for an `AsyncPositionGuard`.

    Args:
        client: an exchange of `ccxt.async_support`, with its keys.
        account, market, trigger, denies_for, settles_within: as for `CcxtExchange`.

    Raises:
        UnsupportedMarket: the venue, the type of market, or its trigger is not known.
        TypeError: *client* is no exchange of `ccxt.async_support`.
    """

    async def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account: its clock, its mode, what the key may do."""
        return await self._venue.inspect()

    async def prepare(self) -> None:
        """Load the markets, read the venue's clock and the account's position mode, unless they are known."""
        await self._venue.prepare()

    async def price(self, leg: Leg) -> Decimal:
        """The price by which the stop orders of *leg* trigger: the last, or the mark price."""
        return await self._venue.price(leg)

    async def holding(self, leg: Leg) -> Holding | None:
        """What the venue reports of *leg* now, None if nothing is held."""
        return await self._venue.holding(leg)

    async def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, from one request; markets that the client does not know are left out."""
        return await self._venue.holdings(legs)

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, once; of at most the venue's largest size."""
        return await self._venue.place(order)

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest an order that only reduces until its price is reached; sent once."""
        return await self._venue.place_stop(order)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, None if the venue says that there is none."""
        return await self._venue.order(leg, client_order_id)

    async def stop(self, order: StopOrder) -> Order | None:
        """What became of a request to rest *order*, None if the venue says that there is no such order."""
        return await self._venue.stop(order)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order, of every family, that would reduce *leg*."""
        return await self._venue.open_orders(leg)

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, in its family; no error if it has ended."""
        await self._venue.cancel(order)

    async def refresh(self) -> None:
        """Ask for the venue's clock if it is too old for an order to be signed by it."""
        await self._venue.refresh()

    async def cancel_all(self, orders: Sequence[Order]) -> None:
        """Cancel *orders* at once; no error for one that has ended."""
        await self._venue.cancel_all(orders)

    async def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        """Cancel *orders* by their client order ids, where `cancels_unlisted`; those whose cancel the venue took."""
        return await self._venue.cancel_stops(orders)

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* at or after *since_ms*, in the venue's own order, oldest first."""
        return await self._venue.trades(leg, since_ms)

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received (paid, if negative) on *leg* from *since_ms* to *until_ms*."""
        return await self._venue.funding(leg, since_ms, until_ms)

    def _check(self, client: Any) -> None:
        super()._check(client)
        if not _is_asynchronous(client):
            raise TypeError(f"{shown(client)} is a client for threads: use CcxtExchange, or one of ccxt.async_support")


def _trigger(asked: object, *, spot: bool) -> Trigger:
    if asked == "last":
        return "last"
    if asked == "mark" and not spot:
        return "mark"
    raise UnsupportedMarket(
        f"stop orders cannot trigger by {shown(asked)}; by last{'' if spot else ' or mark'} they can"
    )


def _is_asynchronous(client: Any) -> bool:
    return iscoroutinefunction(getattr(client, "fetch", None))
