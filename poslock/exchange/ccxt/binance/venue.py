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
from poslock.exchange.ccxt.listing import Listing, halved, spans
from poslock.exchange.ccxt.reading import by_number, decimal, plain, total
from poslock.exchange.ccxt.swap import Held, Swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

_PORTFOLIO = (
    "portfolio margin accounts are not covered, nothing was sent; use the key of an account or a sub-account in "
    "classic mode, and a client without the option portfolioMargin"
)
_PAGE = 1000
_HOUR_MS, _DAY_MS, _BEHIND_MS = 3_600_000, 86_400_000, 60_000
# A question about fills without an end is one about seven days: an hour of them is for a clock that is behind.
_TRADES_SPAN_MS, _TRADES_REACH_MS = 7 * _DAY_MS - _HOUR_MS, 180 * _DAY_MS
_RATES_SPAN_MS, _FUNDING_REACH_MS = 40 * _DAY_MS, 90 * _DAY_MS
_INCOME = Listing("income", _PAGE)


class BinanceUsdm(Swap):
    """An account at Binance USD-M futures."""

    # Orders that existed were denied for 22 to 62 seconds.
    denies_for: ClassVar[float] = 65.0
    public: ClassVar = ("fapiPublic",)
    private: ClassVar = ("fapiPrivate",)
    prices: ClassVar = {"last": ("ticker/price", "price"), "mark": ("premiumIndex", "markPrice")}
    held = staticmethod(rows.held)
    positions: ClassVar = "positionRisk"
    dialect: ClassVar[Dialect] = Dialect(
        codes=codes.KNOWN,
        clock=Endpoint(public, "GET", "time"),
        read_clock=lambda answer: int(answer["serverTime"]),
        history=frozenset({"userTrades", _INCOME.path, "fundingRate"}),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        if any(client.ccxt.options.get(option) for option in ("portfolioMargin", "papi")):
            raise UnsupportedMarket(f"{client.ccxt.id}: {_PORTFOLIO}")

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, plain or conditional; one that has triggered is its plain order."""
        found = await self._plain_order(leg, {"origClientOrderId": client_order_id})
        return found or await self._conditional(leg, client_order_id)

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*, plain and conditional."""
        query = self._of(leg)
        orders, algos = await self.client.together(
            self._rows("openOrders", query, lambda row: rows.reducing(row, leg, rows.order)),
            self._rows("openAlgoOrders", query, lambda row: rows.reducing(row, leg, rows.algo)),
        )
        return orders + algos

    async def cancel(self, order: Order) -> None:
        family, _, number = order.order_id.partition(":")
        if family == "algo":
            await self._delete("algoOrder", {"algoId": number})
        else:
            await self._delete("order", {**self._of(order.leg), "orderId": number})

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*; which is whose in hedge mode, the module says. The venue tells three months."""
        settle = str(self.market(leg)["settle"])
        start_ms = max(since_ms, self.client.clock.now_ms() - _FUNDING_REACH_MS)
        if start_ms > until_ms:
            return Decimal(0)
        query = {**self._of(leg), "incomeType": "FUNDING_FEE", "startTime": start_ms, "endTime": until_ms}
        paid = await self._every(_INCOME, query, lambda row: rows.payment(row, settle))
        if paid and await self._is_hedge():
            rates = await self._rates(leg, start_ms - _HOUR_MS, until_ms + _HOUR_MS)
            paid = [each for each in paid if rows.is_of_leg(each, leg, rates)]
        return total(each.amount for each in paid)

    # Inside.

    async def _positions(self, query: dict[str, Any], read: Callable[[dict[str, Any]], Held | None]) -> list[Held]:
        return await self._rows(self.positions, query, read, ("fapiPrivateV3",))

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
            await self._get("um/positionSide/dual", {}, read, ("papi",))
        except ExchangeUnavailable:
            return False
        return True

    async def _rights(self) -> tuple[bool, bool]:
        names = ("enableFutures", "enableWithdrawals")
        trades, withdraws = await self._get(
            "account/apiRestrictions", {}, lambda answer: [rows.is_true(answer[name]) for name in names], ("sapi",)
        )
        return trades, withdraws

    def _most(self, market: dict[str, Any]) -> Decimal | None:
        largest = (market["limits"].get("market") or {}).get("max")
        return None if largest is None else decimal(largest)

    async def _close(self, order: CloseOrder, position: Held) -> Order:
        params = {
            **await self._reducing(order.leg),
            "type": "MARKET",
            "quantity": plain(self._sendable(order.leg, await self._size(order, position))),
            "newClientOrderId": order.client_order_id,
            "newOrderRespType": "RESULT",
        }
        try:
            placed = await self._send("order", params, order, lambda row: rows.order(row, order.leg))
        except NothingToReduce as refusal:
            if await self._still_holds(order.leg):
                raise ReduceOnlyBlocked(str(refusal), code=refusal.code) from None
            raise
        self._client_ids.note(order.leg, placed.order_id.rpartition(":")[2], placed.client_order_id)
        return placed

    async def _rest(self, order: StopOrder, position: Held) -> Order:
        contracts = await self._size(order, position)
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

    async def _size(self, order: CloseOrder | StopOrder, position: Held) -> Decimal:
        """How much of *order* to ask for: where no ``reduceOnly`` cuts it down, what is held does."""
        return min(order.contracts, position.contracts) if await self._unsent(self._is_hedge()) else order.contracts

    async def _reducing(self, leg: Leg) -> dict[str, str]:
        """What all orders that only take from *leg* have in common."""
        params = {**self._of(leg), "side": rows.REDUCING[leg.side]}
        if await self._is_hedge():
            return {**params, "positionSide": rows.POSITION_SIDE[leg.side]}
        return {**params, "positionSide": "BOTH", "reduceOnly": "true"}

    async def _plain_order(self, leg: Leg, which: dict[str, Any]) -> Order | None:
        query = {**self._of(leg), **which}
        return await self._known_order(self._get("order", query, lambda row: rows.reducing(row, leg, rows.order)))

    async def _conditional(self, leg: Leg, client_order_id: str) -> Order | None:
        def read(row: dict[str, Any]) -> tuple[Order, int] | None:
            return rows.reducing(row, leg, rows.conditional)

        found = await self._known_order(self._get("algoOrder", {"clientAlgoId": client_order_id}, read))
        if found is None:  # one that was filled has been denied there while the list had it
            recent = await self._rows("allAlgoOrders", {**self._of(leg), "limit": _PAGE}, read)
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
        query = {**self._of(leg), "orderId": actual_id, "limit": _PAGE}
        return rows.filled_by(resting, await self._rows("userTrades", query, lambda row: rows.trade(row, leg)))

    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """In the order of their ids, which grow. The venue tells six months.

        ``order_id`` is the venue's bare number of the order of the book; `Order.order_id` has ``order:`` before it.
        """
        now_ms, query = max(since_ms, self.client.clock.now_ms()), {**self._of(leg), "limit": _PAGE}
        last_ms = now_ms + _BEHIND_MS  # the clock here is never ahead

        async def page(start_ms: int, end_ms: int) -> list[Trade | None]:
            span = {"startTime": start_ms} if end_ms == last_ms else {"startTime": start_ms, "endTime": end_ms}
            # Of another leg, too: a full page is one of all rows.
            return await self._get(
                "userTrades",
                {**query, **span},
                lambda answer: [rows.trade(row, leg) for row in self._listed(answer)],
            )

        async def ask(start_ms: int, end_ms: int) -> list[Trade | None]:
            return await halved(page, _PAGE, start_ms, last_ms if end_ms == now_ms else end_ms)

        parts = spans(max(since_ms, now_ms - _TRADES_REACH_MS), now_ms, _TRADES_SPAN_MS)
        return by_number(each for each in await self._spanned(ask, parts, leg) if each is not None)

    async def _rates(self, leg: Leg, since_ms: int, until_ms: int) -> dict[int, Decimal]:
        """Funding rates by their time. There is one an hour at most, so a span fits a page."""
        found: dict[int, Decimal] = {}
        for start_ms, end_ms in spans(since_ms, until_ms, _RATES_SPAN_MS):
            query = {**self._of(leg), "startTime": start_ms, "endTime": end_ms, "limit": _PAGE}
            found.update(await self._rows("fundingRate", query, rows.rate, self.public))
        return found

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        query = {**self._of(leg), "orderId": order_id}
        return await self._known_order(self._get("order", query, lambda row: str(row["clientOrderId"])))
