"""Binance USD-M futures (fapi), one-way and hedge mode.

Orders of a position live in two places with ids of their own: plain orders, and the conditional ones of the "algo"
service, each of which becomes a plain order when it triggers. A client order id is unique among open orders only, so
it does not keep a second close from happening: orders here only reduce, by ``reduceOnly`` in one-way mode, by their
position side and a size of what is held in hedge mode, which knows no ``reduceOnly``.

An account in hedge mode is told its funding without the leg. There it belongs to the leg whose turn it was to receive
or to pay, by the sign of the funding rate of that time. Should the venue net both legs into one payment, all of it goes
to that one leg: the sum over both stays right, and a close never waits for it. A payment near which no rate was
published is in neither. Funding in another currency than the market's is left out, as fees are.

Not covered: portfolio margin accounts, multi-assets mode with another settlement. Source: the venue's documentation of
its USD-M futures API. What it leaves open is said where it matters.
"""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, NotServed, OrderRefused, ReduceOnlyBlocked
from poslock.exchange.ccxt.binance import codes, rows
from poslock.exchange.ccxt.binance.rows import is_true
from poslock.exchange.ccxt.client import Client, Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.reading import decimal, every_page, spans
from poslock.exchange.ccxt.swap import Held, Swap
from poslock.exchange.ccxt.venue import Inspection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")

_PUBLIC, _PRIVATE, _PRIVATE_V3 = ("fapiPublic",), ("fapiPrivate",), ("fapiPrivateV3",)
_PAGE = 1000
_HOUR_MS, _DAY_MS, _BEHIND_MS = 3_600_000, 86_400_000, 60_000
# A question about fills without an end is one about seven days: an hour of them is for a clock that is behind.
_TRADES_SPAN_MS, _TRADES_REACH_MS = 7 * _DAY_MS - _HOUR_MS, 180 * _DAY_MS
_RATES_SPAN_MS, _FUNDING_REACH_MS = 40 * _DAY_MS, 90 * _DAY_MS


class BinanceUsdm(Swap):
    """An account at Binance USD-M futures."""

    # Orders that existed were denied for 22 to 62 seconds.
    denies_for: ClassVar[float] = 65.0
    dialect: ClassVar[Dialect] = Dialect(
        stamp=lambda _signed_at_ms, window_ms: Stamp(options={"recvWindow": window_ms}),
        code=codes.read,
        meanings=codes.MEANINGS,
        clock=Endpoint(_PUBLIC, "GET", "time"),
        read_clock=lambda answer: int(answer["serverTime"]),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._hedge: bool | None = None
        self._client_ids: dict[tuple[str, str], str] = {}
        self._past: dict[tuple[Leg, int, int], list[Trade | None]] = {}

    async def prepare(self) -> None:
        """Load the markets, read the clock and the position mode."""
        if self._hedge is None or not self.client.clock.is_known:
            await self.client.markets()
            await self.client.set_clock()
            self._hedge = await self._get("positionSide/dual", {}, lambda answer: is_true(answer["dualSidePosition"]))

    async def inspect(self) -> Inspection:
        """The clock, the mode, and what the key may do."""
        await self.prepare()
        ahead_ms = time.time_ns() // 10**6 - self.client.clock.now_ms()
        endpoint = Endpoint(("sapi",), "GET", "account/apiRestrictions")
        try:
            trades, withdraws = await self.client.ask(
                endpoint, {}, lambda answer: (is_true(answer["enableFutures"]), is_true(answer["enableWithdrawals"]))
            )
        except ExchangeUnavailable:  # it is another host, which test accounts do not have
            return Inspection(ahead_ms, self._hedge, None, None)
        return Inspection(ahead_ms, self._hedge, trades, withdraws)

    async def price(self, leg: Leg) -> Decimal:
        """The last price, which `place_stop` triggers on."""
        endpoint, params = Endpoint(_PUBLIC, "GET", "ticker/price"), {"symbol": self._id(leg)}
        return await self.client.ask(endpoint, params, lambda answer: decimal(answer["price"]))

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, of at most the venue's largest size: less than was asked for, then."""
        largest = (self.market(order.leg)["limits"].get("market") or {}).get("max")
        contracts = await self._size(order)
        params = {
            **await self._reducing(order.leg),
            "type": "MARKET",
            "quantity": _plain(contracts if largest is None else min(contracts, decimal(largest))),
            "newClientOrderId": order.client_order_id,
            "newOrderRespType": "RESULT",
        }
        try:
            return await self._send("order", params, order, lambda row: rows.order(row, order.leg))
        except NothingToReduce as refusal:
            if await self._still_holds(order.leg):
                raise ReduceOnlyBlocked(str(refusal), code=refusal.code) from None
            raise

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest a conditional order that closes at market."""
        contracts = await self._size(order)
        params = {
            **await self._reducing(order.leg),
            "algoType": "CONDITIONAL",
            "type": rows.STOP_TYPE[order.kind],
            "quantity": _plain(contracts),
            "triggerPrice": _plain(order.trigger_price),
            "workingType": "CONTRACT_PRICE",
            "clientAlgoId": order.client_order_id,
        }
        return await self._send("algoOrder", params, order, lambda row: rows.algo(row, order.leg))

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, plain or conditional; one that has triggered is its plain order."""
        found = await self._plain_order(leg, {"origClientOrderId": client_order_id})
        return found or await self._conditional(leg, client_order_id)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*, plain and conditional."""
        query = {"symbol": self._id(leg)}
        plain = await self._get("openOrders", query, lambda answer: rows.all_reducing(answer, leg, rows.order))
        algos = await self._get("openAlgoOrders", query, lambda answer: rows.all_reducing(answer, leg, rows.algo))
        return [*plain, *algos]

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, at the service that its id names."""
        family, _, number = order.order_id.partition(":")
        path, params = {
            "order": ("order", {"symbol": self._id(order.leg), "orderId": number}),
            "algo": ("algoOrder", {"algoId": number}),
        }[family]
        try:
            await self.client.ask(Endpoint(_PRIVATE, "DELETE", path), params, lambda _answer: None)
        except ExchangeUnavailable as error:
            if error.code not in codes.NO_SUCH_ORDER:
                raise

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the order of their ids, which grow. The venue tells six months.

        ``order_id`` is the venue's bare number of the order of the book; `Order.order_id` has ``order:`` before it.
        Exits name the client order id, for which their orders are asked once each.
        """
        now_ms = max(since_ms, self.client.clock.now_ms())
        trades: list[Trade | None] = []
        for start_ms, end_ms in spans(max(since_ms, now_ms - _TRADES_REACH_MS), now_ms, _TRADES_SPAN_MS):
            key = (leg, start_ms, end_ms)
            if key in self._past:
                trades += self._past[key]
                continue
            found = await self._trades(leg, start_ms, None if end_ms == now_ms else end_ms)
            if end_ms < now_ms - _HOUR_MS:  # nothing is added to that any more
                self._past[key] = found
            trades += found
        mine = [each for each in trades if each is not None and each.fill.at_ms >= since_ms]
        return [await self._named(leg, each) for each in sorted(mine, key=lambda each: int(each.fill.trade_id))]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*; which is whose in hedge mode, the module says. The venue tells three months."""
        symbol, settle = self._id(leg), self.market(leg)["settle"]
        start_ms = max(since_ms, self.client.clock.now_ms() - _FUNDING_REACH_MS)
        if start_ms > until_ms:
            return Decimal(0)
        query = {"symbol": symbol, "incomeType": "FUNDING_FEE", "startTime": start_ms, "endTime": until_ms}
        found = await every_page(
            lambda number: self._get("income", {**query, "page": number, "limit": _PAGE}, rows.payments), _PAGE
        )
        paid = [each for each in found if (each.symbol, each.currency) == (symbol, settle)]
        if paid and await self._is_hedge():
            rates = await self._rates(symbol, start_ms - _HOUR_MS, until_ms + _HOUR_MS)
            paid = [each for each in paid if rows.is_of_leg(each, leg, rates)]
        return sum((each.amount for each in paid), Decimal(0))

    # Inside.

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self._id(leg)
        endpoint = Endpoint(_PRIVATE_V3, "GET", "positionRisk")
        return await self.client.ask(endpoint, {"symbol": symbol}, lambda answer: rows.position(answer, leg, symbol))

    async def _all_positions(self, legs: Sequence[Leg]) -> Mapping[Leg, Held]:
        symbols, endpoint = {leg: self._id(leg) for leg in legs}, Endpoint(_PRIVATE_V3, "GET", "positionRisk")
        return await self.client.ask(endpoint, {}, lambda answer: rows.positions(answer, symbols))

    async def _is_hedge(self) -> bool:
        if self._hedge is None:
            await self.prepare()
        return bool(self._hedge)

    async def _size(self, order: CloseOrder | StopOrder) -> Decimal:
        """How much of *order* to ask for: where no ``reduceOnly`` cuts it down, what is held does."""
        try:
            held, hedge = await self.held(order.leg), await self._is_hedge()
        except NotServed:
            raise
        except ExchangeUnavailable as error:  # nothing was sent, so this is not for the caller to find out
            raise NotServed(f"not sent, because what is held is not known: {error}", code=error.code) from None
        if not held:
            raise NothingToReduce(f"{self.client.ccxt.id} holds no {order.leg.side} position in {order.leg.symbol}")
        return min(order.contracts, held) if hedge else order.contracts

    async def _reducing(self, leg: Leg) -> dict[str, str]:
        """What all orders that only take from *leg* have in common."""
        params = {"symbol": self._id(leg), "side": rows.REDUCING[leg.side]}
        if await self._is_hedge():
            return {**params, "positionSide": rows.POSITION_SIDE[leg.side]}
        return {**params, "positionSide": "BOTH", "reduceOnly": "true"}

    async def _still_holds(self, leg: Leg) -> bool:
        try:
            return await self.held(leg) > 0
        except ExchangeUnavailable:
            return False

    async def _plain_order(self, leg: Leg, which: dict[str, Any]) -> Order | None:
        query = {"symbol": self._id(leg), **which}
        return await self._unless_denied("order", query, lambda row: rows.reducing(row, leg, rows.order))

    async def _conditional(self, leg: Leg, client_order_id: str) -> Order | None:
        query: dict[str, Any] = {"clientAlgoId": client_order_id}
        found = await self._unless_denied("algoOrder", query, lambda row: rows.reducing(row, leg, rows.conditional))
        if found is None:  # one that was filled has been denied there while the list had it
            query = {"symbol": self._id(leg), "limit": _PAGE}
            recent = await self._get(
                "allAlgoOrders", query, lambda answer: rows.all_reducing(answer, leg, rows.conditional)
            )
            found = next((each for each in reversed(recent) if each[0].client_order_id == client_order_id), None)
        if found is None:
            return None
        resting, actual_id = found
        if not actual_id:
            return resting
        actual = await self._plain_order(leg, {"orderId": actual_id})
        if actual is not None:
            return rows.triggered(resting, actual)
        # Denied, or forgotten by now: its fills say what it did.
        query = {"symbol": self._id(leg), "orderId": actual_id, "limit": _PAGE}
        trades = await self._get("userTrades", query, lambda answer: rows.trades(answer, leg))
        return rows.filled_by(resting, trades)

    async def _unless_denied(self, path: str, params: dict[str, Any], read: Callable[[Any], T]) -> T | None:
        try:
            return await self._get(path, params, read)
        except ExchangeUnavailable as error:
            if error.code in codes.NO_SUCH_ORDER:
                return None
            raise

    async def _trades(self, leg: Leg, start_ms: int, end_ms: int | None) -> list[Trade | None]:
        """All of that time, without an end all since."""
        query = {"symbol": self._id(leg), "startTime": start_ms, "limit": _PAGE}
        query = query if end_ms is None else {**query, "endTime": end_ms}
        found = await self._get("userTrades", query, lambda answer: rows.trades(answer, leg))
        if len(found) < _PAGE:
            return found
        # Which end of a list that is too long is left out is not documented. The clock here is never ahead.
        last_ms = self.client.clock.now_ms() + _BEHIND_MS if end_ms is None else end_ms
        if start_ms >= last_ms:
            raise ExchangeUnavailable(f"there are {_PAGE} fills in one millisecond, or more")
        middle_ms = (start_ms + last_ms) // 2
        before = await self._trades(leg, start_ms, middle_ms)
        return [*before, *(await self._trades(leg, middle_ms + 1, end_ms))]

    async def _rates(self, symbol: str, since_ms: int, until_ms: int) -> dict[int, Decimal]:
        """Funding rates by their time. There is one an hour at most, so a span fits a page."""
        endpoint, rates = Endpoint(_PUBLIC, "GET", "fundingRate"), {}
        for start_ms, end_ms in spans(since_ms, until_ms, _RATES_SPAN_MS):
            query = {"symbol": symbol, "startTime": start_ms, "endTime": end_ms, "limit": _PAGE}
            rates.update(await self.client.ask(endpoint, query, rows.rates))
        return rates

    async def _named(self, leg: Leg, trade: Trade) -> Trade:
        """With the client order id of its order, if it is an exit: one may be ours."""
        if trade.effect == "entry" or trade.order_id is None:
            return trade
        client_order_id = await self._client_id(leg, trade.order_id)
        return replace(trade, fill=replace(trade.fill, client_order_id=client_order_id))

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        """The client order id of an order: fills do not name it."""
        key = (leg.symbol, order_id)
        if key not in self._client_ids:
            query = {"symbol": self._id(leg), "orderId": order_id}
            found = await self._unless_denied("order", query, lambda row: str(row["clientOrderId"]))
            if found is None:  # for now
                return None
            self._client_ids[key] = found
        return self._client_ids[key] or None

    def _id(self, leg: Leg) -> str:
        return str(self.market(leg)["id"])

    async def _get(self, path: str, params: dict[str, Any], read: Callable[[Any], T]) -> T:
        return await self.client.ask(Endpoint(_PRIVATE, "GET", path), params, read)

    async def _send(
        self, path: str, params: dict[str, Any], order: CloseOrder | StopOrder, read: Callable[[Any], T]
    ) -> T:
        window_ms, signed_at_ms = order.receive_window_ms, order.signed_at_ms
        try:
            return await self.client.send(
                Endpoint(_PRIVATE, "POST", path), params, read, signed_at_ms=signed_at_ms, receive_window_ms=window_ms
            )
        except OrderRefused as refusal:
            if refusal.code in codes.WRONG_MODE:
                self._hedge = None  # it was changed meanwhile: `prepare` reads it again
            raise


def _plain(number: Decimal) -> str:
    """In plain digits without idle zeros, which count as digits too many."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
