"""MEXC perpetual futures (contract API v1), one-way and hedge mode.

Sides are the venue's own numbers: 1 opens a long, 2 closes a short, 3 opens a short, 4 closes a long. Sizes are
contracts. Orders of a position live in four families with ids of their own: plain orders, trigger orders ("plan"),
TP/SL orders of a position ("stop") and trailing orders ("track").

Source: the venue's documentation of its contract API. What it leaves open is said where it matters.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.ccxt.client import Client, Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.mexc import codes, rows
from poslock.exchange.ccxt.reading import decimal, every_page, spans
from poslock.exchange.ccxt.swap import Held, Swap
from poslock.exchange.ccxt.venue import Inspection
from poslock.exchange.port import Leg, Order
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.exchange.port import CloseOrder, StopOrder
    from poslock.position import Trade

T = TypeVar("T")

_PUBLIC = ("contract", "public")
_PRIVATE = ("contract", "private")
_DAY_MS = 86_400_000
# Trades, trigger orders and orders that have ended tell their times in whole seconds, rounded up or down.
_ROUNDED_MS = 1000
# A question about a longer time is refused (6003).
_SPAN_MS = 89 * _DAY_MS
# How far back trigger orders that still rest are looked for.
_REACH_MS = 4 * _SPAN_MS
_SECOND_MS = 1000
_CANCEL_WINDOW_MS = 10_000
_MARKET, _LAST_PRICE, _SEVEN_DAYS = 5, 1, 2


@dataclass(frozen=True, slots=True)
class _List:
    """A list of the venue: how its pages are asked for, how many rows they have, whether what is in it goes away."""

    path: str
    page: str = "page_num"
    size: str = "page_size"
    rows: int = 100
    shrinks: bool = False


# The whole account's: the list for one symbol is documented no more.
_PLAIN = _List("order/list/open_orders", shrinks=True)
_PLANS = _List("planorder/list/orders", shrinks=True)
# How many rows a page of this one may have is not documented; everywhere else it is 20 unless asked for more.
_TRACKS = _List("trackorder/list/orders", "pageIndex", "pageSize", rows=20, shrinks=True)
_DEALS = _List("order/list/order_deals/v3")
_FUNDING = _List("position/funding_records")


def _stamp(_signed_at_ms: int, window_ms: int) -> Stamp:
    # In whole seconds. The documentation spells the header in two ways, so it goes out in both.
    seconds = str(window_ms // _SECOND_MS)
    return Stamp(headers={"Recv-Window": seconds, "Revc-Window": seconds, "Language": "English"})


class Mexc(Swap):
    """An account at MEXC futures."""

    denies_for: ClassVar[float] = 10.0
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        code=codes.read,
        meanings=codes.MEANINGS,
        clock=Endpoint(_PUBLIC, "GET", "ping"),
        read_clock=lambda answer: int(rows.data(answer)),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._mode: int | None = None
        self._client_ids: dict[str, str | None] = {}  # of plain orders that the venue has shown, by its own id

    async def prepare(self) -> None:
        """Load the markets, read the clock and the position mode."""
        if self._mode is None or not self.client.clock.is_known:
            await self.client.markets("swap")
            await self.client.set_clock()
            self._mode = None
            await self.position_mode()

    async def inspect(self) -> Inspection:
        """The clock, the mode, and what the key may do."""
        await self.prepare()
        ahead_ms = time.time_ns() // 10**6 - self.client.clock.now_ms()
        hedge = await self.position_mode() == rows.HEDGE
        endpoint, params = Endpoint(("spot", "private"), "GET", "apiKeyInfo"), {"accessKey": self.client.ccxt.apiKey}
        try:
            rights = await self.client.ask(endpoint, params, lambda answer: str(answer["permissions"]).split(","))
        except ExchangeUnavailable:  # it is the spot account's question; a key for futures alone may not ask it
            return Inspection(ahead_ms, hedge, None, None)
        withdraws = any("WITHDRAW" in right and not right.endswith(("_READ", "_R")) for right in rights)
        return Inspection(ahead_ms, hedge, "CONTRACT_DEAL_WRITE" in rights, withdraws)

    async def price(self, leg: Leg) -> Decimal:
        """The last price, which `place_stop` triggers on."""
        endpoint, params = Endpoint(_PUBLIC, "GET", "ticker"), {"symbol": self.symbol(leg)}
        return await self.client.ask(endpoint, params, lambda answer: decimal(rows.data(answer)["lastPrice"]))

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces: by its side in hedge mode, by ``reduceOnly`` in one-way mode.

        Of at most the venue's largest size: less than was asked for, then. It is bound to the position that it names,
        or else to the present one. If the leg holds another position by now, nothing is sent.

        Raises:
            DuplicateClientOrderId: the venue has answered with an order that was there before.
        """
        position = await self._held(order.leg, order.position_id)
        contracts = min(order.contracts, position.contracts, self._largest(order.leg))
        params = {
            **await self._closing(order.leg, contracts, position),
            "type": _MARKET,
            "externalOid": order.client_order_id,
            "positionId": position.said["positionId"],
        }
        known = {order_id for order_id, name in self._client_ids.items() if name == order.client_order_id}
        try:
            order_id = await self._send("order/create", params, order, lambda found: rows.identifier(found["orderId"]))
        except ReduceOnlyBlocked as refusal:
            # More than is held by now, or covered by what rests: only this is a reason to cancel what rests.
            if (await self._held(order.leg, order.position_id)).contracts < contracts:
                raise NotServed(str(refusal), code=refusal.code) from None
            raise
        self._client_ids[order_id] = order.client_order_id
        try:
            found = await self.get(f"order/get/{order_id}", {}, lambda row: rows.order(row, order.leg))
        except ExchangeUnavailable:  # it is taken; what became of it is for later
            found = Order(order_id, order.client_order_id, "order", order.leg, contracts, Decimal(0), "open")
        # The venue may answer a second order under one client order id with the first one, as if it was new. Its time
        # would not tell: it is a whole second, rounded up or down. What tells is that its id was seen before, or its
        # size. A first order of the same size that was not seen here is returned: it is what the id names.
        # (test_a_silent_duplicate_is_not_taken_for_a_new_order)
        if order_id in known or found.contracts != contracts:
            raise DuplicateClientOrderId(f"client order id {order.client_order_id} was taken before, by {order_id}")
        return found

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest a trigger order that closes at market. The venue drops it after seven days: set it anew before."""
        rises = (order.kind == "take_profit") == (order.leg.side == "long")
        params = {
            **await self._closing(order.leg, order.contracts, await self._held(order.leg)),
            "triggerPrice": _number(order.trigger_price),
            "triggerType": 1 if rises else 2,
            "executeCycle": _SEVEN_DAYS,
            "orderType": _MARKET,
            "trend": _LAST_PRICE,
        }
        order_id = await self._send("planorder/place/v2", params, order, rows.identifier)
        amount, trigger = order.contracts, order.trigger_price
        return Order(f"plan:{order_id}", None, order.kind, order.leg, amount, Decimal(0), "open", trigger)

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, in the family that its id names.

        Raises:
            OrderRefused: it is one half of a TP/SL order, and the other half protects the position.
        """
        family, _, number = order.order_id.rpartition(":")
        if family == "stop:half" and await self._position(order.leg) is not None:
            raise OrderRefused(f"TP/SL order {number} of the venue holds both prices; cancel it there")
        symbol = self.symbol(order.leg)
        path, body = {
            "": ("order/cancel", [number]),
            "plan": ("planorder/cancel", [{"symbol": symbol, "orderId": number}]),
            "track": ("trackorder/cancel", {"symbol": symbol, "trackOrderId": number}),
            "stop": ("stoporder/cancel", [{"stopPlanOrderId": number}]),
            "stop:half": ("stoporder/cancel", [{"stopPlanOrderId": number}]),
        }[family]
        endpoint, at_ms = Endpoint(_PRIVATE, "POST", path), self.client.clock.now_ms()
        try:
            code = await self.client.send(
                endpoint, body, rows.cancelled, signed_at_ms=at_ms, receive_window_ms=_CANCEL_WINDOW_MS
            )
        except ExchangeError as error:
            if error.code not in codes.ENDED:
                raise
        else:
            if code not in codes.ENDED:
                raise OrderRefused(f"mexc answered {code} to the cancel of {order.order_id}", code=code)

    async def position_mode(self) -> int:
        """`HEDGE` or `ONE_WAY`, as in `rows`."""
        if self._mode is None:
            self._mode = await self.get("position/position_mode", {}, rows.position_mode)
        return self._mode

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The plain order with this client order id; the other families have none."""
        path = f"order/external/{self.symbol(leg)}/{client_order_id}"
        found = await self._unless_unknown(path, lambda found: rows.order(found, leg))
        if found is not None:
            self._client_ids[found.order_id] = client_order_id
        return found

    async def stop(self, order: StopOrder) -> Order | None:
        """A trigger order of this leg, kind, size and price that rests, or else has triggered.

        One that is older than the request is another, which the request may still join. But the venue tells when it was
        placed in whole seconds, rounded up or down, so one of the second before ``signed_at_ms`` is taken for it. Of
        several it is the oldest: one that is set again at the same price is another, which replaces it.
        """
        wanted = (order.kind, order.contracts, order.trigger_price)
        for state in (rows.RESTS, rows.TRIGGERED):
            for found in await self._plans(order.leg, state, order.signed_at_ms - _ROUNDED_MS + 1):
                if (found.family, found.contracts, found.trigger_price) == wanted:
                    return found
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests in the four families and would reduce *leg*."""
        symbol = self.symbol(leg)
        plain = await self._all(_PLAIN, {}, lambda row: rows.resting(row, symbol, leg))
        plans = await self._plans(leg, rows.RESTS)
        of_symbol = {"symbol": symbol, "states": "0,1"}
        tracks = await self._all(_TRACKS, of_symbol, lambda row: rows.track(row, symbol, leg))
        stops = await self.get(
            "stoporder/open_orders", {"symbol": symbol}, lambda found: rows.stops(found, symbol, leg)
        )
        return [*{order.order_id: order for order in (*plain, *plans, *tracks)}.values(), *stops]

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the order of their ids, which grow; ``order_id`` is that of the plain order.

        Their times are whole seconds, rounded up or down: all that may have happened since then are told, and with them
        some of the second before. Exits name the client order id, for which their orders are asked once each.
        """
        symbol, mode, until_ms = self.symbol(leg), await self.position_mode(), self.client.clock.now_ms() + _DAY_MS
        earliest_ms = max(0, since_ms - _ROUNDED_MS + 1)
        found: dict[str, Trade] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(earliest_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "start_time": start_ms, "end_time": end_ms}
            trades = await self._all(_DEALS, query, lambda row: rows.trade(row, symbol, leg, mode))
            found.update({each.fill.trade_id: each for each in trades if each.fill.at_ms >= earliest_ms})
        ordered = sorted(found.values(), key=lambda each: (len(each.fill.trade_id), each.fill.trade_id))
        return [await self._named(each) for each in ordered]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*: positive in the documentation's examples where it was."""
        symbol, kind = self.symbol(leg), rows.POSITION_TYPE[leg.side]
        received: dict[str, Decimal] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(since_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "position_type": kind, "start_time": start_ms, "end_time": end_ms}
            found = await self._all(_FUNDING, query, lambda row: rows.funding(row, symbol, leg))
            received.update({number: amount for number, at_ms, amount in found if since_ms <= at_ms <= until_ms})
        total = Decimal(0)
        for amount in received.values():
            total = EXACT.add(total, amount)
        return total

    def symbol(self, leg: Leg) -> str:
        """What the venue calls the market."""
        return str(self.market(leg)["id"])

    async def get(self, path: str, params: dict[str, Any], read: Callable[[Any], T]) -> T:
        """What *read* makes of what a good answer carries."""
        return await self.client.ask(Endpoint(_PRIVATE, "GET", path), params, lambda answer: read(rows.data(answer)))

    # Inside.

    async def _held(self, leg: Leg, position_id: str | None = None) -> Held:
        """What an order would reduce; asks all that has to be known before it is sent."""
        try:
            await self.position_mode()
            position = await self._position(leg)
        except NotServed:
            raise
        except ExchangeUnavailable as error:  # nothing was sent, so this is not for the caller to find out
            raise NotServed(f"not sent, because the account does not answer: {error}", code=error.code) from None
        if position is None:
            raise NothingToReduce(f"mexc holds no {leg.side} position in {leg.symbol}")
        if position_id not in {None, position.position_id}:
            raise NothingToReduce(f"mexc holds position {position.position_id} in {leg.symbol}, not {position_id}")
        return position

    async def _closing(self, leg: Leg, contracts: Decimal, position: Held) -> dict[str, Any]:
        """What all orders that reduce have in common. An isolated position wants its leverage repeated."""
        mode = await self.position_mode()
        params = {
            "symbol": self.symbol(leg),
            "side": rows.CLOSING[leg.side],
            "vol": _number(contracts),
            "openType": position.said["openType"],
            "leverage": position.said["leverage"],
            "positionMode": mode,
        }
        return {**params, "reduceOnly": True} if mode == rows.ONE_WAY else params

    def _largest(self, leg: Leg) -> Decimal:
        largest = self.market(leg)["limits"]["amount"]["max"]
        return Decimal("Infinity") if largest is None else decimal(largest)

    async def _send(
        self, path: str, params: dict[str, Any], order: CloseOrder | StopOrder, read: Callable[[Any], T]
    ) -> T:
        if order.receive_window_ms < _SECOND_MS:
            raise RequestExpired("less than a second of the lease is left, and this venue counts in seconds")
        try:
            return await self.client.send(
                Endpoint(_PRIVATE, "POST", path),
                params,
                lambda answer: read(rows.data(answer)),
                signed_at_ms=order.signed_at_ms,
                receive_window_ms=order.receive_window_ms,
            )
        except OrderRefused as refusal:
            if refusal.code == codes.WRONG_MODE:
                self._mode = None  # it was changed meanwhile: `prepare` reads it again
            raise

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self.symbol(leg)
        return await self.get(
            "position/open_positions", {"symbol": symbol}, lambda found: rows.position(found, symbol, leg)
        )

    async def _all_positions(self, legs: Sequence[Leg]) -> Mapping[Leg, Held]:
        symbols = {leg: self.symbol(leg) for leg in legs}
        return await self.get("position/open_positions", {}, lambda found: rows.positions(found, symbols))

    async def _plans(self, leg: Leg, state: int, since_ms: int = 0) -> list[Order]:
        """Trigger orders of *leg*, oldest first: their ids grow."""
        symbol, now_ms = self.symbol(leg), self.client.clock.now_ms()
        found: dict[str, Order] = {}
        for start_ms, end_ms in spans(max(since_ms, now_ms - _REACH_MS), now_ms + _DAY_MS, _SPAN_MS):
            query = {"symbol": symbol, "states": str(state), "start_time": start_ms, "end_time": end_ms}
            plans = await self._all(_PLANS, query, lambda row: rows.plan(row, symbol, leg, state))
            found.update({order.order_id: order for created_ms, order in plans if created_ms >= since_ms})
        return sorted(found.values(), key=lambda each: (len(each.order_id), each.order_id))

    async def _named(self, trade: Trade) -> Trade:
        """With the client order id of its order, if it is an exit: one may be ours."""
        if trade.effect == "entry" or trade.order_id is None:
            return trade
        client_order_id = await self._client_id(trade.order_id)
        return replace(trade, fill=replace(trade.fill, client_order_id=client_order_id))

    async def _client_id(self, order_id: str) -> str | None:
        """The client order id of an order: fills do not name it."""
        if order_id not in self._client_ids:
            found = await self._unless_unknown(f"order/get/{order_id}", dict)
            if found is None:  # for now, or for ever: the fill counts all the same
                return None
            self._client_ids[order_id] = found.get("externalOid") or None
        return self._client_ids[order_id]

    async def _unless_unknown(self, path: str, read: Callable[[Any], T]) -> T | None:
        """What *read* makes of an order, None if the venue knows no such order, in either of its ways to say so."""
        try:
            return await self.get(path, {}, lambda found: read(found) if found else None)
        except ExchangeUnavailable as error:
            if error.code == codes.NO_SUCH_ORDER:
                return None
            raise

    async def _all(self, which: _List, query: dict[str, Any], read: Callable[[dict[str, Any]], T | None]) -> list[T]:
        """What *read* makes of the rows of a list, without None."""

        async def page(number: int) -> list[T | None]:
            asked = {**query, which.page: number, which.size: which.rows}
            return await self.get(which.path, asked, lambda found: [read(row) for row in rows.listed(found)])

        found = await every_page(page, which.rows)
        if which.shrinks and len(found) >= which.rows:
            # What ended between two pages has moved an order on to the page that was read before.
            # (test_an_order_that_moves_to_the_page_before_is_found)
            found += await every_page(page, which.rows)
        return [each for each in found if each is not None]


def _number(amount: Decimal) -> int | float:
    """As JSON has it: a whole number, or the float that is written in the same digits."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
