"""MEXC perpetual futures (contract API v1), one-way and hedge mode.

Sides are the venue's own numbers: 1 opens a long, 2 closes a short, 3 opens a short, 4 closes a long. Sizes are
contracts. Orders of a position live in four families with ids of their own: plain orders, trigger orders ("plan"),
TP/SL orders of a position ("stop") and trailing orders ("track").

Source: the venue's documentation of its contract API. What it leaves open is said where it matters.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    NotServed,
    OrderRefused,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.ccxt.client import Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.listing import Listing
from poslock.exchange.ccxt.mexc import codes, rows
from poslock.exchange.ccxt.reading import by_number, decimal, identifier, rises, taken, total
from poslock.exchange.ccxt.swap import Held, Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.exchange.ccxt.client import Client
    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
# Trades, trigger orders and orders that have ended tell their times in whole seconds, rounded up or down.
_ROUNDED_MS = 1000
# A question about a longer time is refused (6003).
_SPAN_MS = 89 * _DAY_MS
# How far back trigger orders that still rest are looked for.
_REACH_MS = 4 * _SPAN_MS
_SECOND_MS = 1000
_MARKET, _SEVEN_DAYS = 5, 2


def _list(path: str, *, shrinks: bool = False) -> Listing:
    span = ("start_time", "end_time")
    return Listing(path, 100, "page_num", "page_size", between=span, span_ms=_SPAN_MS, shrinks=shrinks)


# The whole account's: the list for one symbol is documented no more.
_PLAIN = _list("order/list/open_orders", shrinks=True)
_PLANS = _list("planorder/list/orders", shrinks=True)
# How many rows a page of this one may have is not documented; everywhere else it is 20 unless asked for more.
_TRACKS = Listing("trackorder/list/orders", 20, "pageIndex", "pageSize", shrinks=True)
_DEALS = _list("order/list/order_deals/v3")
_FUNDING = _list("position/funding_records")


def _stamp(_signed_at_ms: int, window_ms: int) -> Stamp:
    # In whole seconds. The documentation spells the header in two ways, so it goes out in both.
    seconds = str(window_ms // _SECOND_MS)
    return Stamp(headers={"Recv-Window": seconds, "Revc-Window": seconds, "Language": "English"})


class Mexc(Swap):
    """An account at MEXC futures."""

    denies_for: ClassVar[float] = 10.0
    public: ClassVar = ("contract", "public")
    private: ClassVar = ("contract", "private")
    good = staticmethod(rows.data)
    prices: ClassVar = {"last": ("ticker", "lastPrice"), "mark": ("ticker", "fairPrice")}
    held = staticmethod(rows.held)
    needed: ClassVar = ("positionId", "openType", "leverage")
    positions: ClassVar = "position/open_positions"
    rounded_ms: ClassVar = _ROUNDED_MS - 1
    must_list: ClassVar = "swap"
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        codes=codes.KNOWN,
        clock=Endpoint(public, "GET", "ping"),
        read_clock=lambda answer: int(rows.data(answer)),
        history=frozenset({_DEALS.path, _FUNDING.path}),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._rest_since: dict[Leg, int] = {}

    async def cancel(self, order: Order) -> None:
        await self.cancel_all([order])

    async def cancel_all(self, orders: Sequence[Order]) -> None:
        """Cancel *orders*, those of a family in one request, if the venue takes several there."""
        requests: dict[str, Any] = {}
        whole, refused = await self._cancellable(orders)
        for order in whole:
            symbol, number = self._id(order.leg), order.order_id.rpartition(":")[2]
            path, one = {
                "plan": ("planorder/cancel", {"symbol": symbol, "orderId": number}),
                "track": (f"trackorder/cancel {number}", {"symbol": symbol, "trackOrderId": number}),
                "stop": ("stoporder/cancel", {"stopPlanOrderId": number}),
            }.get(order.order_id.partition(":")[0], ("order/cancel", number))
            requests[path] = one if path.startswith("track") else [*requests.get(path, ()), one]
        sent = [self._cancelled(path.partition(" ")[0], body) for path, body in requests.items()]
        await self.client.together(*sent)
        if refused is not None:
            raise refused

    async def _cancelled(self, path: str, body: Any) -> None:
        code = await self._cancel(path, body, rows.cancelled)
        if code not in {None, *codes.KNOWN.ended}:
            raise OrderRefused(f"mexc answered {code} to {path} of {body}", code=code)

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
            for found in await self._plans(order.leg, state, order.signed_at_ms - self.rounded_ms):
                if (found.family, found.contracts, found.trigger_price) == wanted:
                    return found
        halves = rows.halves(await self._stops(order.leg), order.kind, {order.contracts, Decimal(0)})
        return next((each for each in halves if each.trigger_price == order.trigger_price), None)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests in the four families and would reduce *leg*."""
        symbol = self._id(leg)
        of_symbol = {"symbol": symbol, "states": "0,1"}
        plain, plans, tracks, stops = await self.client.together(
            self._every(_PLAIN, {}, lambda row: rows.resting(row, leg) if row["symbol"] == symbol else None),
            self._plans(leg, rows.RESTS),
            self._every(_TRACKS, of_symbol, lambda row: rows.track(row, leg)),
            self._stops(leg),
        )
        return [*{order.order_id: order for order in (*plain, *plans, *tracks)}.values(), *stops]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        query = {**self._of(leg), "position_type": rows.POSITION_TYPE[leg.side]}
        found = await self._between(_FUNDING, query, since_ms, until_ms, lambda row: rows.funding(row, leg))
        # By its id: a new one moves the others on to the next page.
        return total({number: amount for number, at_ms, amount in found if since_ms <= at_ms <= until_ms}.values())

    # Inside.

    def _listed(self, found: Any) -> list[dict[str, Any]]:
        """A list, or one that is wrapped into its pages."""
        return super()._listed(found["resultList"] if isinstance(found, dict) else found)

    async def _read_mode(self) -> bool:
        return await self._get("position/position_mode", {}, rows.hedge)

    async def _rights(self) -> tuple[bool, bool]:
        endpoint, params = Endpoint(("spot", "private"), "GET", "apiKeyInfo"), {"accessKey": self.client.ccxt.apiKey}
        rights = await self.client.ask(endpoint, params, lambda answer: str(answer["permissions"]).split(","))
        withdraws = any("WITHDRAW" in right and not right.endswith(("_READ", "_R")) for right in rights)
        return "CONTRACT_DEAL_WRITE" in rights, withdraws

    async def _reducible(self, leg: Leg, position_id: str | None = None) -> Held:
        await self._unsent(self._is_hedge())  # first, because in an unknown mode nothing is said to be right
        return await super()._reducible(leg, position_id)

    def _most(self, market: dict[str, Any]) -> Decimal | None:
        largest = market["limits"]["amount"]["max"]
        return None if largest is None else decimal(largest)

    async def _close(self, order: CloseOrder, position: Held) -> Order:
        """By its side in hedge mode, by ``reduceOnly`` in one-way mode.

        Raises:
            DuplicateClientOrderId: the venue has answered with an order that was there before.
        """
        contracts = self._sendable(order.leg, order.contracts, position.contracts)
        params = {
            **await self._closing(order.leg, contracts, position),
            "type": _MARKET,
            "externalOid": order.client_order_id,
            "positionId": position.said["positionId"],
        }
        known = self._client_ids.orders(order.client_order_id)
        try:
            order_id = await self._send(
                "order/create", params, order, lambda found: identifier(found["orderId"] or None)
            )
        except ReduceOnlyBlocked as refusal:
            # More than is held by now, or covered by what rests: only this is a reason to cancel what rests.
            if (await self._reducible(order.leg, order.position_id)).contracts < contracts:
                raise NotServed(str(refusal), code=refusal.code) from None
            raise
        self._client_ids.note(order.leg, order_id, order.client_order_id)
        try:
            found = await self._get(f"order/get/{order_id}", {}, lambda row: rows.order(row, order.leg))
        except ExchangeUnavailable:  # it is taken; what became of it is for later
            found = taken(order, order_id, contracts)
        # The venue may answer a second order under one client order id with the first one, as if it was new. Its time
        # would not tell: it is a whole second, rounded up or down. What tells is that its id was seen before, or its
        # size. A first order of the same size that was not seen here is returned: it is what the id names.
        # (test_a_silent_duplicate_is_not_taken_for_a_new_order)
        if order_id in known or found.contracts != contracts:
            raise DuplicateClientOrderId(f"client order id {order.client_order_id} was taken before, by {order_id}")
        return found

    async def _rest(self, order: StopOrder, position: Held) -> Order:
        """Rest a trigger order. The venue drops it after seven days: set it anew before.

        Where a TP/SL order for as much rests that holds both prices, of that one this price is changed: its halves
        cannot be cancelled one by one. It goes on triggering by the price that it was made with.
        """
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
        order_id = await self._send("planorder/place/v2", params, order, lambda found: identifier(found or None))
        return replace(taken(order, f"plan:{order_id}", order.contracts), client_order_id=None)

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

    async def _post(self, path: str, body: Any, read: Callable[[Any], T], signed_at_ms: int, window_ms: int) -> T:
        if window_ms < _SECOND_MS:
            raise RequestExpired("less than a second of the lease is left, and this venue counts in seconds")
        return await super()._post(path, body, read, signed_at_ms, window_ms)

    async def _stops(self, leg: Leg) -> list[Order]:
        found = await self._rows("stoporder/open_orders", self._of(leg), lambda row: rows.stops(row, leg))
        return [each for orders in found for each in orders]

    async def _change_half(self, half: Order, prices: Mapping[str, Decimal | None], order: StopOrder) -> Order:
        # Both prices are sent: what becomes of one that is left out is not documented.
        said = {rows.STOP_PRICE[kind]: _number(price) for kind, price in prices.items() if price is not None}
        params = {"stopPlanOrderId": half.order_id.rpartition(":")[2], **said}
        await self._send("stoporder/change_plan_price", params, order, lambda _data: None)
        return replace(half, trigger_price=order.trigger_price)

    async def _plans(self, leg: Leg, state: int, since_ms: int = 0) -> list[Order]:
        """Trigger orders of *leg*, oldest first: their ids grow."""
        now_ms, rest = self.client.clock.now_ms(), state == rows.RESTS
        query, earliest_ms = {**self._of(leg), "states": str(state)}, max(since_ms, now_ms - _REACH_MS)
        # Orders are made now, so where none rested once there is none any more: of a year it is one request.
        if rest:
            earliest_ms = max(earliest_ms, self._first_rests(leg))
        plans = await self._between(
            _PLANS, query, earliest_ms, now_ms + _DAY_MS, lambda row: rows.plan(row, leg, state)
        )
        if rest and not since_ms:
            oldest_ms = min((created_ms - _ROUNDED_MS for created_ms, _ in plans), default=now_ms)
            self._first_rests(leg, min(oldest_ms, now_ms - _HOUR_MS))
        found = {order.order_id: order for created_ms, order in plans if created_ms >= since_ms}
        return sorted(found.values(), key=lambda each: (len(each.order_id), each.order_id))

    def _first_rests(self, leg: Leg, found_ms: int = 0) -> int:
        """Before when no trigger order of *leg* rests, as it was *found* now or before; 0 if nobody has looked."""
        name, memory = f"rests since, {leg.side} {leg.symbol}", self.memory
        before_ms = self._rest_since.get(leg, 0)
        if not before_ms and memory is not None:
            said = memory.recall().get(name)
            before_ms = said if isinstance(said, int) else 0
        if memory is not None and found_ms > before_ms + _DAY_MS:
            memory.remember(**{name: found_ms})
        self._rest_since[leg] = max(before_ms, found_ms)
        return self._rest_since[leg]

    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """In the order of their ids, which grow; ``order_id`` is that of the plain order."""
        hedge, until_ms = await self._is_hedge(), self.client.clock.now_ms() + _DAY_MS
        found = await self._between(
            _DEALS, self._of(leg), since_ms, until_ms, lambda row: rows.trade(row, leg, hedge=hedge), leg
        )
        return by_number({each.fill.trade_id: each for each in found}.values())  # by its id, as in `funding`

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:  # noqa: ARG002  # ids are the account's
        found = await self._known_order(self._get(f"order/get/{order_id}", {}, lambda row: row or None))
        return None if found is None else found.get("externalOid") or ""


def _number(amount: Decimal) -> int | float:
    """As JSON has it: a whole number, or the float that is written in the same digits."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
