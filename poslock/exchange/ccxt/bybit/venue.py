"""Bybit linear perpetuals (API v5, category "linear"), one-way and hedge mode, of unified accounts.

A leg is its ``positionIdx``: 0 in one-way mode, 1 the long and 2 the short leg of hedge mode; the mode is that of the
symbol, read with every position. Sizes are in the base coin, which is one contract here. Conditional orders, TP/SL
orders of a position and trailing ones have ids of one space and stand in one list.

An order is carried out after it is answered, so an answer says no more than that it was taken.

Source: the venue's documentation of its API v5. What it leaves open is said where it matters.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from poslock.errors import ExchangeUnavailable, UnsupportedMarket
from poslock.exchange.ccxt.bybit import codes, rows
from poslock.exchange.ccxt.client import Client, Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.reading import decimal, every_page, plain, rises, spans
from poslock.exchange.ccxt.swap import Held, Swap
from poslock.exchange.port import Leg, Order
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poslock.exchange.port import CloseOrder, StopOrder
    from poslock.position import Side, Trade

T = TypeVar("T")

_PRIVATE, _PUBLIC = ("private",), ("public",)
_LINEAR = "linear"
_UNIFIED = {3, 4, 5, 6}
_ORDERS, _EXECUTIONS, _POSITIONS = 50, 100, 200
_DAY_MS = 86_400_000
_SPAN_MS = 7 * _DAY_MS
_KEPT_MS = 730 * _DAY_MS
_CANCEL_WINDOW_MS = 5000


def _stamp(_signed_at_ms: int, window_ms: int) -> Stamp:
    # The window is signed, and ccxt takes it from its options.
    return Stamp(options={"recvWindow": window_ms})


class Bybit(Swap):
    """An account at Bybit derivatives."""

    # The documentation admits delays and names no length.
    denies_for: ClassVar[float] = 10.0
    private: ClassVar = _PRIVATE
    ended: ClassVar = codes.ENDED
    wrong_mode: ClassVar = codes.WRONG_MODE
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        code=codes.read,
        meanings=codes.KNOWN.meanings,
        clock=Endpoint(_PUBLIC, "GET", "v5/market/time"),
        read_clock=lambda answer: int(rows.result(answer)["timeNano"]) // 10**6,
        history=frozenset({"v5/execution/list"}),
        bans=codes.BANS,
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._hedges: dict[str, bool] = {}

    async def price(self, leg: Leg) -> Decimal:
        """The price that `place_stop` triggers on."""
        query = {"category": _LINEAR, "symbol": self._id(leg)}
        return await self.client.ask(
            Endpoint(_PUBLIC, "GET", "v5/market/tickers"),
            query,
            lambda answer: rows.price(answer, query["symbol"], rows.PRICE[self.trigger]),
        )

    async def place(self, order: CloseOrder) -> Order:
        """Send a reduce-only market order, of at most the venue's largest size: less than was asked for, then."""
        # Of more it would make several orders by itself, and one client order id finds one.
        contracts = self._sendable(order.leg, min(order.contracts, self._largest(order.leg)))
        return await self._reduce(order, "order", contracts, {})

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest a conditional reduce-only order that closes at market."""
        trigger = {
            "triggerPrice": plain(order.trigger_price),
            "triggerDirection": rows.RISES if rises(order.leg, order.kind) else rows.FALLS,
            "triggerBy": rows.TRIGGER[self.trigger],
        }
        taken = await self._reduce(order, order.kind, order.contracts, trigger)
        return replace(taken, trigger_price=order.trigger_price)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, of any family."""
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> Order | None:
            is_it = (row["orderLinkId"], row["symbol"]) == (client_order_id, symbol)
            return rows.order(row, leg) if is_it and rows.takes_from(row, leg) else None

        # The first list forgets what has ended when the venue restarts, the second one may lag.
        for path in ("v5/order/realtime", "v5/order/history"):
            if found := await self._all(path, {"symbol": symbol, "orderLinkId": client_order_id}, _ORDERS, read):
                return found[0]
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*: plain, conditional, TP/SL and trailing orders."""
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> Order | None:
            return rows.order(row, leg) if row["symbol"] == symbol and rows.reduces(row, leg) else None

        orders = await self._all("v5/order/realtime", {"symbol": symbol, "openOnly": 0}, _ORDERS, read)
        return [order for order in orders if order.state == "open"]

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, of any family; no error if it has ended."""
        await self.client.set_clock()
        sent = self.client.send(
            Endpoint(_PRIVATE, "POST", "v5/order/cancel"),
            {"category": _LINEAR, "symbol": self._id(order.leg), "orderId": order.order_id},
            rows.result,
            signed_at_ms=self.client.clock.now_ms(),
            receive_window_ms=_CANCEL_WINDOW_MS,
        )
        await self._unless_ended(sent)

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg*, oldest first; those of the last two years."""
        now_ms, symbol, currency = self.client.clock.now_ms(), self._id(leg), str(self.market(leg)["settle"])
        hedge = await self._is_hedged(leg)

        def read(row: dict[str, Any]) -> tuple[int, Trade] | None:
            return rows.trade(row, leg, currency, hedge=hedge) if row["symbol"] == symbol else None

        found: dict[str, tuple[int, Trade]] = {}
        # Asked for without an end they reach seven days from their start, beyond what is now by our clock.
        for start_ms in range(max(since_ms, now_ms - _KEPT_MS), now_ms + 1, _SPAN_MS):
            query = {"symbol": symbol, "startTime": start_ms}
            newest_first = await self._all("v5/execution/list", query, _EXECUTIONS, read)
            found.update({trade.fill.trade_id: (place, trade) for place, trade in reversed(newest_first)})
        # The venue sorts by time and admits that executions of one millisecond may stand in any order; its sequence
        # number, which counts matches, puts them right. (test_executions_of_one_millisecond)
        in_order = sorted(found.values(), key=lambda each: (each[1].fill.at_ms, each[0]))
        return [trade for _, trade in in_order if trade.fill.at_ms >= since_ms]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*; the venue states it as a fee, positive when it was paid."""
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> tuple[str, int, Decimal] | None:
            is_leg = row["symbol"] == symbol and row["side"] == rows.HOLDING[leg.side]
            return (str(row["execId"]), int(row["execTime"]), decimal(row["execFee"])) if is_leg else None

        paid: dict[str, Decimal] = {}
        for start_ms, end_ms in spans(since_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "execType": "Funding", "startTime": start_ms, "endTime": end_ms}
            found = await self._all("v5/execution/list", query, _EXECUTIONS, read)
            paid.update({execution: fee for execution, at_ms, fee in found if since_ms <= at_ms <= until_ms})
        with localcontext(EXACT):
            return -sum(paid.values(), Decimal(0))

    # Inside.

    async def _read_mode(self) -> None:
        """It is each symbol's own; here it is seen that the account is a unified one."""
        status = await self._get("v5/account/info", {}, lambda answer: int(rows.result(answer)["unifiedMarginStatus"]))
        if status not in _UNIFIED:
            raise UnsupportedMarket(f"bybit: account status {status} is no unified account")

    async def _rights(self) -> tuple[bool, bool]:
        return await self._get("v5/user/query-api", {}, rows.rights)

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        """Not asked for: executions name the client order id of their order, if it has one."""

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self._id(leg)
        for side, position in await self._positions({"symbol": symbol}, {symbol}):
            if side == leg.side:
                return position
        return None

    async def _all_positions(self, legs: Sequence[Leg]) -> dict[Leg, Held]:
        """From a request for each currency that *legs* settle in; that is one for nearly every account."""
        ids, found = {self._id(leg): leg.symbol for leg in legs}, dict[Leg, Held]()
        for coin in sorted({str(self.market(leg)["settleId"]) for leg in legs}):
            for side, position in await self._positions({"settleCoin": coin}, set(ids)):
                found[Leg(ids[position.said["symbol"]], side)] = position
        return found

    async def _positions(self, query: dict[str, Any], symbols: set[str]) -> list[tuple[Side, Held]]:
        """What is held of *symbols*; on the way it is seen which mode each is in, also where nothing is held."""

        def read(row: dict[str, Any]) -> tuple[Side, Held] | None:
            if row["symbol"] not in symbols:
                return None
            self._hedges[row["symbol"]] = rows.is_hedge(row)
            return rows.position(row)

        return await self._all("v5/position/list", query, _POSITIONS, read)

    async def _is_hedged(self, leg: Leg) -> bool:
        """The position mode of a market, as last seen. While it holds something the venue does not let it change."""
        symbol = self._id(leg)
        if symbol not in self._hedges:
            await self._position(leg)
        if symbol not in self._hedges:
            raise ExchangeUnavailable(f"bybit does not say which position mode {symbol} is in")
        return self._hedges[symbol]

    async def _reduce(
        self, order: CloseOrder | StopOrder, family: str, contracts: Decimal, what: dict[str, Any]
    ) -> Order:
        position = await self._reducible(order.leg)
        params = {
            "category": _LINEAR,
            "symbol": self._id(order.leg),
            "side": rows.REDUCING[order.leg.side],
            "orderType": "Market",
            "qty": plain(contracts),
            "positionIdx": position.said["positionIdx"],
            "reduceOnly": True,
            "orderLinkId": order.client_order_id,
            **what,
        }
        order_id = await self._send(
            "v5/order/create", params, order, lambda answer: rows.accepted(answer, order.client_order_id)
        )
        return Order(order_id, order.client_order_id, family, order.leg, contracts, Decimal(0), "open")

    def _largest(self, leg: Leg) -> Decimal:
        try:
            return decimal(self.market(leg)["info"]["lotSizeFilter"]["maxMktOrderQty"])
        except (KeyError, TypeError, ValueError, ArithmeticError):
            raise UnsupportedMarket(f"bybit: the largest market order of {leg.symbol} is not known") from None

    async def _all(
        self, path: str, query: dict[str, Any], size: int, read: Callable[[dict[str, Any]], T | None]
    ) -> list[T]:
        """What *read* makes of all rows of a list, but for None."""

        async def page(cursor: str) -> tuple[list[T | None], str | None]:
            params = {"category": _LINEAR, "limit": size, **query, **({"cursor": cursor} if cursor else {})}
            found, following = await self._get(path, params, lambda answer: rows.page(answer, read))
            return found, following if found and following else None

        return [row for row in await every_page(page, "") if row is not None]
