"""MEXC perpetual futures (contract API v1), one-way and hedge mode.

Sides are the venue's own numbers: 1 opens a long, 2 closes a short, 3 opens a short, 4 closes a long. Sizes are
contracts. Orders of a position live in four families with ids of their own: plain orders, trigger orders ("plan"),
TP/SL orders of a position ("stop") and trailing orders ("track").

Source: the venue's documentation of its contract API. What it leaves open is said where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.ccxt.client import Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.mexc import codes, rows
from poslock.exchange.ccxt.reading import decimal, every_page, rises, spans
from poslock.exchange.ccxt.swap import Held, Swap
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
_MARKET, _SEVEN_DAYS = 5, 2


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
    private: ClassVar = _PRIVATE
    must_list: ClassVar = "swap"
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        codes=codes.KNOWN,
        clock=Endpoint(_PUBLIC, "GET", "ping"),
        read_clock=lambda answer: int(rows.data(answer)),
        history=frozenset({_DEALS.path, _FUNDING.path}),
    )

    async def price(self, leg: Leg) -> Decimal:
        """The price that `place_stop` triggers on."""
        endpoint, params = Endpoint(_PUBLIC, "GET", "ticker"), {"symbol": self._id(leg)}
        name = {"last": "lastPrice", "mark": "fairPrice"}[self.trigger]
        return await self.client.ask(endpoint, params, lambda answer: decimal(rows.data(answer)[name]))

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces: by its side in hedge mode, by ``reduceOnly`` in one-way mode.

        Of at most the venue's largest size: less than was asked for, then. It is bound to the position that it names,
        or else to the present one. If the leg holds another position by now, nothing is sent.

        Raises:
            DuplicateClientOrderId: the venue has answered with an order that was there before.
        """
        position = await self._named_position(order)
        most, largest = min(order.contracts, position.contracts), self._largest(order.leg)
        contracts = self._sendable(order.leg, most if largest is None else min(most, largest))
        params = {
            **await self._closing(order.leg, contracts, position),
            "type": _MARKET,
            "externalOid": order.client_order_id,
            "positionId": position.said["positionId"],
        }
        known = self._client_ids.orders(order.client_order_id)
        try:
            order_id = await self._send("order/create", params, order, lambda found: rows.identifier(found["orderId"]))
        except ReduceOnlyBlocked as refusal:
            # More than is held by now, or covered by what rests: only this is a reason to cancel what rests.
            if (await self._named_position(order)).contracts < contracts:
                raise NotServed(str(refusal), code=refusal.code) from None
            raise
        self._client_ids.note(order.leg, order_id, order.client_order_id)
        try:
            found = await self._get(f"order/get/{order_id}", {}, lambda row: rows.order(row, order.leg))
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
        """Rest a trigger order that closes at market. The venue drops it after seven days: set it anew before.

        Where a TP/SL order for as much rests that holds both prices, of that one this price is changed: its halves
        cannot be cancelled one by one. It goes on triggering by the price that it was made with.
        """
        position = await self._reducible(order.leg)
        stops = await self._unsent(self._stops(order.leg))
        sizes = {order.contracts, Decimal(0)} if order.contracts == position.contracts else {order.contracts}
        for half in rows.halves(stops, order.kind, sizes):
            prices = {each.family: each.trigger_price for each in stops if each.order_id == half.order_id}
            return await self._change_half(half, {**prices, order.kind: order.trigger_price}, order)
        params = {
            **await self._closing(order.leg, order.contracts, position),
            "triggerPrice": _number(order.trigger_price),
            "triggerType": rows.RISES if rises(order.leg, order.kind) else rows.FALLS,
            "executeCycle": _SEVEN_DAYS,
            "orderType": _MARKET,
            "trend": rows.TREND[self.trigger],
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
        if family == rows.HALF and await self._position(order.leg) is not None:
            raise OrderRefused(f"TP/SL order {number} of the venue holds both prices; cancel it there")
        symbol = self._id(order.leg)
        path, body = {
            "": ("order/cancel", [number]),
            "plan": ("planorder/cancel", [{"symbol": symbol, "orderId": number}]),
            "track": ("trackorder/cancel", {"symbol": symbol, "trackOrderId": number}),
            "stop": ("stoporder/cancel", [{"stopPlanOrderId": number}]),
            rows.HALF: ("stoporder/cancel", [{"stopPlanOrderId": number}]),
        }[family]
        await self.client.set_clock()
        sent = self.client.send(
            Endpoint(_PRIVATE, "POST", path),
            body,
            rows.cancelled,
            signed_at_ms=self.client.clock.now_ms(),
            receive_window_ms=_CANCEL_WINDOW_MS,
        )
        if (code := await self._unless_ended(sent)) not in {None, *codes.KNOWN.ended}:
            raise OrderRefused(f"mexc answered {code} to the cancel of {order.order_id}", code=code)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The plain order with this client order id; the other families have none."""
        path = f"order/external/{self._id(leg)}/{client_order_id}"
        # Of an order that it does not know the venue says so, or answers with nothing.
        found = await self._known_order(self._get(path, {}, lambda row: rows.order(row, leg) if row else None))
        if found is not None:
            self._client_ids.note(leg, found.order_id, client_order_id)
        return found

    async def stop(self, order: StopOrder) -> Order | None:
        """A trigger order of this leg, kind, size and price that rests or has triggered, or such half of a TP/SL order.

        One that is older than the request is another, which the request may still join. But the venue tells when it was
        placed in whole seconds, rounded up or down, so one of the second before ``signed_at_ms`` is taken for it. Of
        several it is the oldest: one that is set again at the same price is another, which replaces it.
        """
        wanted = (order.kind, order.contracts, order.trigger_price)
        for state in (rows.RESTS, rows.TRIGGERED):
            for found in await self._plans(order.leg, state, order.signed_at_ms - _ROUNDED_MS + 1):
                if (found.family, found.contracts, found.trigger_price) == wanted:
                    return found
        halves = rows.halves(await self._stops(order.leg), order.kind, {order.contracts, Decimal(0)})
        return next((each for each in halves if each.trigger_price == order.trigger_price), None)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests in the four families and would reduce *leg*."""
        symbol = self._id(leg)
        plain = await self._all(_PLAIN, {}, lambda row: rows.resting(row, symbol, leg))
        plans = await self._plans(leg, rows.RESTS)
        of_symbol = {"symbol": symbol, "states": "0,1"}
        tracks = await self._all(_TRACKS, of_symbol, lambda row: rows.track(row, symbol, leg))
        stops = await self._stops(leg)
        return [*{order.order_id: order for order in (*plain, *plans, *tracks)}.values(), *stops]

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the order of their ids, which grow; ``order_id`` is that of the plain order.

        Their times are whole seconds, rounded up or down: all that may have happened since then are told, and with them
        some of the second before. Exits name the client order id, for which their orders are asked once each.
        """
        symbol, hedge, until_ms = self._id(leg), await self._is_hedge(), self.client.clock.now_ms() + _DAY_MS
        earliest_ms = max(0, since_ms - _ROUNDED_MS + 1)
        found: dict[str, Trade] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(earliest_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "start_time": start_ms, "end_time": end_ms}
            trades = await self._all(_DEALS, query, lambda row: rows.trade(row, symbol, leg, hedge=hedge))
            found.update({each.fill.trade_id: each for each in trades if each.fill.at_ms >= earliest_ms})
        ordered = sorted(found.values(), key=lambda each: (len(each.fill.trade_id), each.fill.trade_id))
        return [await self._client_ids.named(leg, each) for each in ordered]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*: positive in the documentation's examples where it was."""
        symbol, kind = self._id(leg), rows.POSITION_TYPE[leg.side]
        received: dict[str, Decimal] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(since_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "position_type": kind, "start_time": start_ms, "end_time": end_ms}
            found = await self._all(_FUNDING, query, lambda row: rows.funding(row, symbol, leg))
            received.update({number: amount for number, at_ms, amount in found if since_ms <= at_ms <= until_ms})
        total = Decimal(0)
        for amount in received.values():
            total = EXACT.add(total, amount)
        return total

    # Inside.

    async def _get(self, path: str, params: dict[str, Any], read: Callable[[Any], T]) -> T:
        """What *read* makes of what a good answer carries."""
        return await super()._get(path, params, lambda answer: read(rows.data(answer)))

    async def _read_mode(self) -> bool:
        return await self._get("position/position_mode", {}, rows.hedge)

    async def _rights(self) -> tuple[bool, bool]:
        endpoint, params = Endpoint(("spot", "private"), "GET", "apiKeyInfo"), {"accessKey": self.client.ccxt.apiKey}
        rights = await self.client.ask(endpoint, params, lambda answer: str(answer["permissions"]).split(","))
        withdraws = any("WITHDRAW" in right and not right.endswith(("_READ", "_R")) for right in rights)
        return "CONTRACT_DEAL_WRITE" in rights, withdraws

    async def _reducible(self, leg: Leg) -> Held:
        await self._unsent(self._is_hedge())  # first, because in an unknown mode nothing is said to be right
        return await super()._reducible(leg)

    async def _named_position(self, order: CloseOrder) -> Held:
        """What *order* would reduce: the position that it names, or else the present one."""
        position = await self._reducible(order.leg)
        if order.position_id not in {None, position.position_id}:
            raise NothingToReduce(
                f"mexc holds position {position.position_id} in {order.leg.symbol}, not {order.position_id}"
            )
        return position

    async def _closing(self, leg: Leg, contracts: Decimal, position: Held) -> dict[str, Any]:
        """What all orders that reduce have in common. An isolated position wants its leverage repeated."""
        hedge = await self._is_hedge()
        params = {
            "symbol": self._id(leg),
            "side": rows.CLOSING[leg.side],
            "vol": _number(contracts),
            "openType": position.said["openType"],
            "leverage": position.said["leverage"],
            "positionMode": rows.HEDGE if hedge else rows.ONE_WAY,
        }
        return params if hedge else {**params, "reduceOnly": True}

    def _largest(self, leg: Leg) -> Decimal | None:
        largest = self.market(leg)["limits"]["amount"]["max"]
        return None if largest is None else decimal(largest)

    async def _send(
        self, path: str, params: dict[str, Any], order: CloseOrder | StopOrder, read: Callable[[Any], T]
    ) -> T:
        if order.receive_window_ms < _SECOND_MS:
            raise RequestExpired("less than a second of the lease is left, and this venue counts in seconds")
        return await super()._send(path, params, order, lambda answer: read(rows.data(answer)))

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self._id(leg)
        return await self._get(
            "position/open_positions", {"symbol": symbol}, lambda found: rows.position(found, symbol, leg)
        )

    async def _all_positions(self, legs: Sequence[Leg]) -> Mapping[Leg, Held]:
        symbols = {leg: self._id(leg) for leg in legs}
        return await self._get("position/open_positions", {}, lambda found: rows.positions(found, symbols))

    async def _stops(self, leg: Leg) -> list[Order]:
        symbol = self._id(leg)
        return await self._get(
            "stoporder/open_orders", {"symbol": symbol}, lambda found: rows.stops(found, symbol, leg)
        )

    async def _change_half(self, half: Order, prices: Mapping[str, Decimal | None], order: StopOrder) -> Order:
        # Both prices are sent: what becomes of one that is left out is not documented.
        said = {rows.STOP_PRICE[kind]: _number(price) for kind, price in prices.items() if price is not None}
        params = {"stopPlanOrderId": half.order_id.rpartition(":")[2], **said}
        await self._send("stoporder/change_plan_price", params, order, lambda _data: None)
        return replace(half, trigger_price=order.trigger_price)

    async def _plans(self, leg: Leg, state: int, since_ms: int = 0) -> list[Order]:
        """Trigger orders of *leg*, oldest first: their ids grow."""
        symbol, now_ms = self._id(leg), self.client.clock.now_ms()
        found: dict[str, Order] = {}
        for start_ms, end_ms in spans(max(since_ms, now_ms - _REACH_MS), now_ms + _DAY_MS, _SPAN_MS):
            query = {"symbol": symbol, "states": str(state), "start_time": start_ms, "end_time": end_ms}
            plans = await self._all(_PLANS, query, lambda row: rows.plan(row, symbol, leg, state))
            found.update({order.order_id: order for created_ms, order in plans if created_ms >= since_ms})
        return sorted(found.values(), key=lambda each: (len(each.order_id), each.order_id))

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:  # noqa: ARG002  # ids are the account's
        found = await self._known_order(self._get(f"order/get/{order_id}", {}, lambda row: row or None))
        return None if found is None else found.get("externalOid") or ""

    async def _all(self, which: _List, query: dict[str, Any], read: Callable[[dict[str, Any]], T | None]) -> list[T]:
        """What *read* makes of the rows of a list, without None."""

        async def page(number: int) -> tuple[list[T | None], int | None]:
            asked = {**query, which.page: number, which.size: which.rows}
            found = await self._get(which.path, asked, lambda answer: [read(row) for row in rows.listed(answer)])
            return found, number + 1 if len(found) >= which.rows else None

        found = await every_page(page, 1)
        if which.shrinks and len(found) >= which.rows:
            # What ended between two pages has moved an order on to the page that was read before.
            # (test_an_order_that_moves_to_the_page_before_is_found)
            found += await every_page(page, 1)
        return [each for each in found if each is not None]


def _number(amount: Decimal) -> int | float:
    """As JSON has it: a whole number, or the float that is written in the same digits."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
