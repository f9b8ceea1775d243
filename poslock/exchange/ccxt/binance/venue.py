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

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from poslock.errors import ExchangeUnavailable, KeysRefused, NothingToReduce, ReduceOnlyBlocked, UnsupportedMarket
from poslock.exchange.ccxt.binance import codes, rows
from poslock.exchange.ccxt.client import Client, Dialect, Endpoint
from poslock.exchange.ccxt.reading import decimal, every_page, halved, plain, spans
from poslock.exchange.ccxt.swap import Held, Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

_PUBLIC, _PRIVATE, _PRIVATE_V3 = ("fapiPublic",), ("fapiPrivate",), ("fapiPrivateV3",)
_PORTFOLIO = (
    "portfolio margin accounts are not covered, nothing was sent; use the key of an account or a sub-account in "
    "classic mode, and a client without the option portfolioMargin"
)
_PAGE = 1000
_HOUR_MS, _DAY_MS, _BEHIND_MS = 3_600_000, 86_400_000, 60_000
# A question about fills without an end is one about seven days: an hour of them is for a clock that is behind.
_TRADES_SPAN_MS, _TRADES_REACH_MS = 7 * _DAY_MS - _HOUR_MS, 180 * _DAY_MS
_RATES_SPAN_MS, _FUNDING_REACH_MS = 40 * _DAY_MS, 90 * _DAY_MS


class BinanceUsdm(Swap):
    """An account at Binance USD-M futures."""

    # Orders that existed were denied for 22 to 62 seconds.
    denies_for: ClassVar[float] = 65.0
    private: ClassVar = _PRIVATE
    dialect: ClassVar[Dialect] = Dialect(
        codes=codes.KNOWN,
        clock=Endpoint(_PUBLIC, "GET", "time"),
        read_clock=lambda answer: int(answer["serverTime"]),
        history=frozenset({"userTrades", "income", "fundingRate"}),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        if any(client.ccxt.options.get(option) for option in ("portfolioMargin", "papi")):
            raise UnsupportedMarket(f"{client.ccxt.id}: {_PORTFOLIO}")
        self._past: dict[tuple[Leg, int, int], list[Trade | None]] = {}

    async def price(self, leg: Leg) -> Decimal:
        """The price that `place_stop` triggers on."""
        path, name = {"last": ("ticker/price", "price"), "mark": ("premiumIndex", "markPrice")}[self.trigger]
        endpoint, params = Endpoint(_PUBLIC, "GET", path), {"symbol": self._id(leg)}
        return await self.client.ask(endpoint, params, lambda answer: decimal(answer[name]))

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, of at most the venue's largest size: less than was asked for, then."""
        contracts, largest = await self._size(order), self._largest(order.leg)
        sent = contracts if largest is None else min(contracts, largest)
        params = {
            **await self._reducing(order.leg),
            "type": "MARKET",
            "quantity": plain(self._sendable(order.leg, sent)),
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
            "quantity": plain(contracts),
            "triggerPrice": plain(order.trigger_price),
            "workingType": rows.WORKING_TYPE[self.trigger],
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
        orders = await self._get("openOrders", query, lambda answer: rows.all_reducing(answer, leg, rows.order))
        algos = await self._get("openAlgoOrders", query, lambda answer: rows.all_reducing(answer, leg, rows.algo))
        return [*orders, *algos]

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, at the service that its id names."""
        family, _, number = order.order_id.partition(":")
        path, params = {
            "order": ("order", {"symbol": self._id(order.leg), "orderId": number}),
            "algo": ("algoOrder", {"algoId": number}),
        }[family]
        await self._unless_ended(self.client.ask(Endpoint(_PRIVATE, "DELETE", path), params, lambda _answer: None))

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the order of their ids, which grow. The venue tells six months.

        ``order_id`` is the venue's bare number of the order of the book; `Order.order_id` has ``order:`` before it.
        Exits name the client order id, for which their orders are asked once each.
        """
        now_ms, query = max(since_ms, self.client.clock.now_ms()), {"symbol": self._id(leg), "limit": _PAGE}
        last_ms = now_ms + _BEHIND_MS  # the clock here is never ahead

        async def ask(start_ms: int, end_ms: int) -> list[Trade | None]:
            span = {"startTime": start_ms} if end_ms == last_ms else {"startTime": start_ms, "endTime": end_ms}
            return await self._get("userTrades", {**query, **span}, lambda answer: rows.trades(answer, leg))

        trades: list[Trade | None] = []
        for start_ms, end_ms in spans(max(since_ms, now_ms - _TRADES_REACH_MS), now_ms, _TRADES_SPAN_MS):
            key = (leg, start_ms, end_ms)
            found = self._past.get(key)
            if found is None:
                found = await halved(ask, _PAGE, start_ms, last_ms if end_ms == now_ms else end_ms)
            if end_ms < now_ms - _HOUR_MS:  # nothing is added to that any more
                self._past[key] = found
            trades += found
        mine = [each for each in trades if each is not None and each.fill.at_ms >= since_ms]
        in_order = sorted(mine, key=lambda each: int(each.fill.trade_id))
        return [await self._client_ids.named(leg, each) for each in in_order]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*; which is whose in hedge mode, the module says. The venue tells three months."""
        symbol, settle = self._id(leg), self.market(leg)["settle"]
        start_ms = max(since_ms, self.client.clock.now_ms() - _FUNDING_REACH_MS)
        if start_ms > until_ms:
            return Decimal(0)
        query = {"symbol": symbol, "incomeType": "FUNDING_FEE", "startTime": start_ms, "endTime": until_ms}

        async def page(number: int) -> tuple[list[rows.Payment], int | None]:
            paid = await self._get("income", {**query, "page": number, "limit": _PAGE}, rows.payments)
            return paid, number + 1 if len(paid) == _PAGE else None

        found = await every_page(page, 1)
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

    async def _read_mode(self) -> bool:
        def read(answer: Any) -> bool:
            return rows.is_true(answer["dualSidePosition"])

        try:
            return await self._get("positionSide/dual", {}, read)
        except KeysRefused as refusal:
            # So a portfolio margin account is answered here too; it has this question of its own elsewhere.
            if refusal.code == codes.KEY_OR_ACCOUNT and await self._is_portfolio_margin(read):
                raise UnsupportedMarket(f"{self.client.ccxt.id}: {_PORTFOLIO}") from None
            raise

    async def _is_portfolio_margin(self, read: Callable[[Any], bool]) -> bool:
        try:
            await self.client.ask(Endpoint(("papi",), "GET", "um/positionSide/dual"), {}, read)
        except ExchangeUnavailable:
            return False
        return True

    async def _rights(self) -> tuple[bool, bool]:
        endpoint = Endpoint(("sapi",), "GET", "account/apiRestrictions")
        names = ("enableFutures", "enableWithdrawals")
        return await self.client.ask(
            endpoint, {}, lambda answer: (rows.is_true(answer[names[0]]), rows.is_true(answer[names[1]]))
        )

    async def _size(self, order: CloseOrder | StopOrder) -> Decimal:
        """How much of *order* to ask for: where no ``reduceOnly`` cuts it down, what is held does."""
        position = await self._reducible(order.leg)
        return min(order.contracts, position.contracts) if await self._unsent(self._is_hedge()) else order.contracts

    def _largest(self, leg: Leg) -> Decimal | None:
        largest = (self.market(leg)["limits"].get("market") or {}).get("max")
        return None if largest is None else decimal(largest)

    async def _reducing(self, leg: Leg) -> dict[str, str]:
        """What all orders that only take from *leg* have in common."""
        params = {"symbol": self._id(leg), "side": rows.REDUCING[leg.side]}
        if await self._is_hedge():
            return {**params, "positionSide": rows.POSITION_SIDE[leg.side]}
        return {**params, "positionSide": "BOTH", "reduceOnly": "true"}

    async def _plain_order(self, leg: Leg, which: dict[str, Any]) -> Order | None:
        query = {"symbol": self._id(leg), **which}
        return await self._known_order(self._get("order", query, lambda row: rows.reducing(row, leg, rows.order)))

    async def _conditional(self, leg: Leg, client_order_id: str) -> Order | None:
        query: dict[str, Any] = {"clientAlgoId": client_order_id}
        found = await self._known_order(
            self._get("algoOrder", query, lambda row: rows.reducing(row, leg, rows.conditional))
        )
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

    async def _rates(self, symbol: str, since_ms: int, until_ms: int) -> dict[int, Decimal]:
        """Funding rates by their time. There is one an hour at most, so a span fits a page."""
        endpoint, rates = Endpoint(_PUBLIC, "GET", "fundingRate"), {}
        for start_ms, end_ms in spans(since_ms, until_ms, _RATES_SPAN_MS):
            query = {"symbol": symbol, "startTime": start_ms, "endTime": end_ms, "limit": _PAGE}
            rates.update(await self.client.ask(endpoint, query, rows.rates))
        return rates

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        query = {"symbol": self._id(leg), "orderId": order_id}
        return await self._known_order(self._get("order", query, lambda row: str(row["clientOrderId"])))
