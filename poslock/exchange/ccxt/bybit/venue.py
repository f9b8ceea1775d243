"""Bybit linear perpetuals (API v5, category "linear"), one-way and hedge mode, of unified accounts.

A leg is its ``positionIdx``: 0 in one-way mode, 1 the long and 2 the short leg of hedge mode; the mode is that of the
symbol, read with every position. Sizes are in the base coin, which is one contract here. Conditional orders, TP/SL
orders of a position and trailing ones have ids of one space and stand in one list.

An order is carried out after it is answered, so an answer says no more than that it was taken.

Source: the venue's documentation of its API v5. What it leaves open is said where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import ExchangeUnavailable, UnsupportedMarket
from poslock.exchange.ccxt.bybit import codes, rows
from poslock.exchange.ccxt.client import Client, Dialect, Endpoint
from poslock.exchange.ccxt.listing import Listing, spans
from poslock.exchange.ccxt.reading import decimal, plain, rises, taken, total
from poslock.exchange.ccxt.swap import Held, Swap
from poslock.exchange.port import hurried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")

_UNIFIED = {3, 4, 5, 6}
_ORDERS, _EXECUTIONS, _POSITIONS = 50, 100, 200
_DAY_MS = 86_400_000
_SPAN_MS = 7 * _DAY_MS
_KEPT_MS = 730 * _DAY_MS
_EXECUTED = "v5/execution/list"


class Bybit(Swap):
    """An account at Bybit derivatives."""

    # The documentation admits delays and names no length.
    denies_for: ClassVar[float] = 10.0
    public: ClassVar = ("public",)
    private: ClassVar = ("private",)
    category: ClassVar = {"category": "linear"}
    good = staticmethod(rows.result)
    prices: ClassVar = {"last": ("v5/market/tickers", "lastPrice"), "mark": ("v5/market/tickers", "markPrice")}
    held = staticmethod(rows.held)
    needed: ClassVar = ("positionIdx",)
    positions: ClassVar = "v5/position/list"
    dialect: ClassVar[Dialect] = Dialect(
        codes=codes.KNOWN,
        clock=Endpoint(public, "GET", "v5/market/time"),
        read_clock=lambda answer: int(rows.result(answer)["timeNano"]) // 10**6,
        history=frozenset({_EXECUTED}),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._hedges: dict[str, bool] = {}

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        query = {**self._of(leg), "orderLinkId": client_order_id}

        def read(row: dict[str, Any]) -> Order | None:
            return rows.order(row, leg) if row["orderLinkId"] == client_order_id else None

        # The first list forgets what has ended when the venue restarts, the second one may lag. There is one such order
        # at most, so no second page is asked for, of which the cursor that comes with every row would tell.
        for path in ("v5/order/realtime", "v5/order/history"):
            if found := await self._rows(path, {**query, "limit": _ORDERS}, read):
                return found[0]
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*: plain, conditional, TP/SL and trailing orders."""
        path, query = "v5/order/realtime", {**self._of(leg), "openOnly": 0}
        if hurried.get():
            return await self._rows(path, {**query, "limit": _ORDERS}, lambda row: rows.resting(row, leg))
        return await self._all(path, query, _ORDERS, lambda row: rows.resting(row, leg))

    async def cancel(self, order: Order) -> None:
        await self._cancel("v5/order/cancel", {**self._of(order.leg), "orderId": order.order_id}, lambda _found: None)

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        listing = self._list(_EXECUTED, _EXECUTIONS)
        query = {**self._of(leg), "execType": "Funding"}
        found = await self._between(listing, query, since_ms, until_ms, lambda row: rows.funding(row, leg))
        return -total({number: fee for number, at_ms, fee in found if since_ms <= at_ms <= until_ms}.values())

    # Inside.

    def _listed(self, found: Any) -> list[dict[str, Any]]:
        return super()._listed(found["list"])

    async def _read_mode(self) -> None:
        """It is each symbol's own; here it is seen that the account is a unified one."""
        status = await self._get("v5/account/info", {}, lambda found: int(found["unifiedMarginStatus"]))
        if status not in _UNIFIED:
            raise UnsupportedMarket(f"bybit: account status {status} is no unified account")

    async def _rights(self) -> tuple[bool, bool]:
        return await self._get("v5/user/query-api", {}, rows.rights)

    async def _positions(self, query: dict[str, Any], read: Callable[[dict[str, Any]], Held | None]) -> list[Held]:
        """On the way it is seen which mode each market is in, also where nothing is held."""

        def see(row: dict[str, Any]) -> Held | None:
            self._hedges[row["symbol"]] = rows.is_hedge(row)
            return read(row)

        if self.symbol in query:  # a leg or two, on one page
            return await self._rows(self.positions, {**query, "limit": _POSITIONS}, see)
        return await self._all(self.positions, query, _POSITIONS, see)

    async def _all_positions(self, legs: Sequence[Leg]) -> dict[Leg, Held]:
        """From a request for each currency that *legs* settle in; that is one for nearly every account."""
        found: dict[Leg, Held] = {}
        for coin in sorted({str(self.market(leg)["settleId"]) for leg in legs}):
            found.update(await self._positions_of(legs, {**self.category, "settleCoin": coin}))
        return found

    async def _is_hedged(self, leg: Leg) -> bool:
        """The position mode of a market, as last seen. While it holds something the venue does not let it change."""
        symbol = self._id(leg)
        if symbol not in self._hedges and (remembered := self._remembered(leg)) is not None:
            self._hedges[symbol] = rows.is_hedge(remembered)
        if symbol not in self._hedges:
            await self._position(leg)
        if symbol not in self._hedges:
            raise ExchangeUnavailable(f"bybit does not say which position mode {symbol} is in")
        return self._hedges[symbol]

    def _most(self, market: dict[str, Any]) -> Decimal:
        return decimal(market["info"]["lotSizeFilter"]["maxMktOrderQty"])

    async def _close(self, order: CloseOrder, position: Held) -> Order:
        # Of more than the largest size it would make several orders by itself, and one client order id finds one.
        return await self._reduce(order, position, self._sendable(order.leg, order.contracts), {})

    async def _rest(self, order: StopOrder, position: Held) -> Order:
        trigger = {
            "triggerPrice": plain(order.trigger_price),
            "triggerDirection": rows.RISES if rises(order.leg, order.kind) else rows.FALLS,
            "triggerBy": rows.TRIGGER[self.trigger],
        }
        return await self._reduce(order, position, order.contracts, trigger)

    async def _reduce(
        self, order: CloseOrder | StopOrder, position: Held, contracts: Decimal, what: dict[str, Any]
    ) -> Order:
        params = {
            **self._of(order.leg),
            "side": rows.REDUCING[order.leg.side],
            "orderType": "Market",
            "qty": plain(contracts),
            "positionIdx": position.said["positionIdx"],
            "reduceOnly": True,
            "orderLinkId": order.client_order_id,
            **what,
        }
        order_id = await self._send(
            "v5/order/create", params, order, lambda found: rows.accepted(found, order.client_order_id)
        )
        return taken(order, order_id, contracts)

    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Those of the last two years."""
        now_ms, currency = self.client.clock.now_ms(), str(self.market(leg)["settle"])
        hedge = await self._is_hedged(leg)

        async def ask(start_ms: int, _end_ms: int) -> list[tuple[int, Trade]]:
            # Asked for without an end they reach seven days from their start, beyond what is now by our clock.
            query = {**self._of(leg), "startTime": start_ms}
            return await self._all(
                _EXECUTED, query, _EXECUTIONS, lambda row: rows.trade(row, leg, currency, hedge=hedge)
            )

        parts = spans(max(since_ms, now_ms - _KEPT_MS), now_ms, _SPAN_MS)
        found = {trade.fill.trade_id: (place, trade) for place, trade in await self._spanned(ask, parts, leg)}
        # The venue sorts by time and admits that executions of one millisecond may stand in any order; its sequence
        # number, which counts matches, puts them right. (test_executions_of_one_millisecond)
        return [trade for _, trade in sorted(found.values(), key=lambda each: (each[1].fill.at_ms, each[0]))]

    def _list(self, path: str, size: int) -> Listing:
        return Listing(path, size, "cursor", cursor="nextPageCursor", span_ms=_SPAN_MS)

    async def _all(
        self, path: str, query: dict[str, Any], size: int, read: Callable[[dict[str, Any]], T | None]
    ) -> list[T]:
        return await self._every(self._list(path, size), query, read)
