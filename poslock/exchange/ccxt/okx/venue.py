"""OKX linear perpetual swaps (API v5), net mode (one-way) and long/short mode (hedge).

Sizes are contracts. An order must name the margin mode of the position that it is for. In net mode orders are
reduce-only; in long/short mode the side of the position and that of the order say that it closes. Either way the venue
refuses a size beyond what is held instead of cutting it down, also when a stop order triggers: one that was placed
before a part of the position was taken off is too large for the rest. Conditional orders ("algos") have ids and lists
of their own.

Source: the venue's documentation of its API v5. What it leaves open is said where it matters.
"""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from poslock.errors import NothingToReduce, OrderRefused, ReduceOnlyBlocked, UnsupportedMarket
from poslock.exchange.ccxt.client import Client, Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.okx import rows
from poslock.exchange.ccxt.okx.account import PRIVATE, PUBLIC, SWAP, OkxAccount
from poslock.exchange.ccxt.venue import Held, Inspection, decimal
from poslock.exchange.port import Leg, Order
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import CloseOrder, StopOrder

T = TypeVar("T")

# One request each; only the first two types may be asked for together.
_ALGO_TYPES = ("conditional,oco", "trigger", "move_order_stop", "chase", "twap", "smart_iceberg")
# Whatever is sent, the venue refuses it this long after its timestamp.
_TIMESTAMP_MS = 30_000
_CANCEL_WINDOW_MS = 5000


def _stamp(signed_at_ms: int, window_ms: int) -> Stamp:
    return Stamp(headers={"expTime": str(signed_at_ms + window_ms)})


def _code(body: dict[str, Any]) -> tuple[str | None, str]:
    rows = body.get("data")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("sCode", "0") not in {"0", ""}:
            return str(row["sCode"]), str(row.get("sMsg", ""))
    code = body.get("code")
    return (None if code in {None, "0"} else str(code)), str(body.get("msg", ""))


class Okx(OkxAccount):
    """An account at OKX, of level 2 (futures) or 3 (multi-currency margin)."""

    # The documentation names no length.
    denies_for: ClassVar[float] = 10.0
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        code=_code,
        meanings=rows.MEANINGS,
        clock=Endpoint(PUBLIC, "GET", "public/time"),
        read_clock=lambda answer: rows.only(answer, lambda row: int(row["ts"])),
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._hedge: bool | None = None

    async def prepare(self) -> None:
        """Load the markets, read the clock, the account's level and its position mode."""
        if self._hedge is None or not self.client.clock.is_known:
            await self.client.markets()
            await self.client.set_clock()
            [self._hedge] = await self.get("account/config", {}, rows.hedge)

    async def inspect(self) -> Inspection:
        """The clock, the mode, and what the key may do."""
        await self.prepare()
        ahead_ms = time.time_ns() // 10**6 - self.client.clock.now_ms()
        [rights] = await self.get("account/config", {}, lambda row: set(row["perm"].split(",")))
        return Inspection(ahead_ms, self._hedge, "trade" in rights, "withdraw" in rights)

    async def price(self, leg: Leg) -> Decimal:
        """The last price, which `place_stop` triggers on."""
        endpoint, query = Endpoint(PUBLIC, "GET", "market/ticker"), {"instId": self.symbol(leg)}
        return await self.client.ask(
            endpoint, query, lambda answer: rows.only(answer, lambda row: decimal(row["last"]))
        )

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, of at most what is held and what the venue takes at once."""
        position = await self.need_position(order.leg)
        contracts = min(order.contracts, position.contracts, self._largest(order.leg))
        params = {
            **self._closing(order.leg, contracts, position),
            "ordType": "market",
            "clOrdId": order.client_order_id,
        }
        try:
            order_id = await self._send(
                "trade/order", params, order, lambda row: rows.accepted(row, order.client_order_id, "ord")
            )
        except ReduceOnlyBlocked as refusal:
            left = await self._position(order.leg)
            if left is None or left.contracts < contracts:  # it became too large on its way
                raise NothingToReduce(str(refusal), code=refusal.code) from None
            raise
        return Order(f"order:{order_id}", order.client_order_id, "order", order.leg, contracts, Decimal(0), "open")

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest a conditional order, of at most what is held, that closes at market."""
        position, price = await self.need_position(order.leg), rows.STOP_PRICE[order.kind]
        contracts = min(order.contracts, position.contracts)
        params = {
            **self._closing(order.leg, contracts, position),
            "ordType": "conditional",
            "algoClOrdId": order.client_order_id,
            f"{price}TriggerPx": format(order.trigger_price, "f"),
            f"{price}TriggerPxType": "last",
            f"{price}OrdPx": "-1",
        }
        order_id = await self._send(
            "trade/order-algo", params, order, lambda row: rows.accepted(row, order.client_order_id, "algo")
        )
        leg, trigger = order.leg, order.trigger_price
        return Order(f"algo:{order_id}", order.client_order_id, order.kind, leg, contracts, Decimal(0), "open", trigger)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, plain or conditional; what it has become if it has triggered."""
        if (plain := await self.plain(leg, {"clOrdId": client_order_id})) is not None:
            return plain
        symbol = self.symbol(leg)

        def read(row: dict[str, Any]) -> tuple[Order, list[str], Decimal] | None:
            is_it = (row["algoClOrdId"], row["instId"]) == (client_order_id, symbol)
            if not (is_it and rows.takes_from(row, leg)):
                return None
            return rows.algos(row, leg)[0], rows.children(row), decimal(row["actualSz"] or 0)

        for found in await self.known("trade/order-algo", {"algoClOrdId": client_order_id}, read):
            if found is not None:
                return await self._triggered(*found)
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*: plain orders and conditional ones of all types."""
        query = {"instType": SWAP, "instId": self.symbol(leg)}

        def is_of(row: dict[str, Any]) -> bool:
            return row["instId"] == query["instId"] and rows.reduces(row, leg)

        def plain(row: dict[str, Any]) -> tuple[str, list[Order]]:
            return row["ordId"], [rows.order(row, leg)] if is_of(row) else []

        def algo(row: dict[str, Any]) -> tuple[str, list[Order]]:
            return row["algoId"], rows.algos(row, leg) if is_of(row) else []

        found = [*(await self.every("trade/orders-pending", query, plain)).values()]
        for kind in _ALGO_TYPES:
            found.extend((await self.every("trade/orders-algo-pending", {**query, "ordType": kind}, algo)).values())
        return [order for orders in found for order in orders if not order.ended]

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, at the service that its id names; no error if it has ended.

        Raises:
            OrderRefused: it is one half of an order with two triggers, and the other half protects the position.
        """
        family, _, number = order.order_id.rpartition(":")
        if family == "algo:half" and await self._position(order.leg) is not None:
            raise OrderRefused(f"order {number} of the venue holds both prices; cancel it there")
        symbol = self.symbol(order.leg)
        path, body = {
            "order": ("trade/cancel-order", {"instId": symbol, "ordId": number}),
        }.get(family, ("trade/cancel-algos", [{"instId": symbol, "algoId": number}]))
        await self.client.set_clock()
        try:
            await self._post(path, body, lambda _row: None, self.client.clock.now_ms() + _CANCEL_WINDOW_MS)
        except OrderRefused as error:
            if error.code not in rows.ENDED:
                raise

    # Inside.

    async def _triggered(self, algo: Order, children: list[str], actual: Decimal) -> Order:
        """A conditional order in the state of the orders that it has sent."""
        if not children:
            return algo
        sent = [await self.plain(algo.leg, {"ordId": each}) for each in children]
        orders = [order for order in sent if order is not None]
        if len(orders) < len(sent):  # it was too long ago
            return replace(algo, state="filled" if actual >= algo.contracts else "canceled", filled=actual)
        with localcontext(EXACT):
            filled = sum((order.filled for order in orders), Decimal(0))
        states = {order.state for order in orders}
        ended: Literal["filled", "canceled"] = "filled" if states == {"filled"} else "canceled"
        return replace(algo, state="open" if "open" in states else ended, filled=filled)

    def _closing(self, leg: Leg, contracts: Decimal, position: Held) -> dict[str, Any]:
        """What all orders that reduce have in common."""
        side, mode = position.said["posSide"], position.said["mgnMode"]
        params = {
            "instId": self.symbol(leg),
            "tdMode": mode,
            "side": rows.REDUCING[leg.side],
            "posSide": side,
            "sz": format(contracts, "f"),
        }
        return {**params, "reduceOnly": True} if side == rows.NET else params

    def _largest(self, leg: Leg) -> Decimal:
        try:
            return decimal(self.market(leg)["info"]["maxMktSz"])
        except (KeyError, TypeError, ValueError, ArithmeticError):
            raise UnsupportedMarket(f"okx: the largest market order of {leg.symbol} is not known") from None

    async def _send(
        self,
        path: str,
        params: dict[str, Any],
        order: CloseOrder | StopOrder,
        read: Callable[[dict[str, Any]], T],
    ) -> T:
        return await self._post(path, params, read, order.signed_at_ms + order.receive_window_ms)

    async def _post(self, path: str, body: Any, read: Callable[[dict[str, Any]], T], expires_ms: int) -> T:
        # Only some of its services honour "expTime"; those of conditional orders and cancels do not. All refuse a
        # timestamp that is 30 s old, so the request says that it was signed that long before it is to expire.
        # (test_a_late_stop_order_is_refused)
        return await self.client.send(
            Endpoint(PRIVATE, "POST", path),
            body,
            lambda answer: rows.only(answer, read),
            signed_at_ms=expires_ms - _TIMESTAMP_MS,
            receive_window_ms=_TIMESTAMP_MS,
        )
