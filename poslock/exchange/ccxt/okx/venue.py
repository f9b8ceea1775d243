"""OKX linear perpetual swaps (API v5), net mode (one-way) and long/short mode (hedge).

Sizes are contracts. An order must name the margin mode of the position that it is for. In net mode orders are
reduce-only; in long/short mode the side of the position and that of the order say that it closes. Either way the venue
refuses a size beyond what is held instead of cutting it down, also when a stop order triggers: one that was placed
before a part of the position was taken off is too large for the rest. Conditional orders ("algos") have ids and lists
of their own.

Source: the venue's documentation of its API v5. What it leaves open is said where it matters.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, OrderRefused, ReduceOnlyBlocked, UnsupportedMarket
from poslock.exchange.ccxt.client import Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.okx import codes, rows
from poslock.exchange.ccxt.reading import decimal, every_page, plain
from poslock.exchange.ccxt.swap import Held, Swap
from poslock.exchange.port import Leg, Order
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poslock.exchange.port import CloseOrder, StopOrder
    from poslock.position import Side, Trade

T = TypeVar("T")

_PRIVATE, _PUBLIC = ("private",), ("public",)
_SWAP = "SWAP"
_PAGE = 100
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# Of what the lists of recent things hold, a day less.
_RECENT_FILLS_MS, _RECENT_BILLS_MS = 2 * _DAY_MS, 6 * _DAY_MS
_FUNDING = "8"
# Seconds pass from the time of a funding to its bill; an hour at least from one funding to the next.
_SAME_FUNDING_MS = _HOUR_MS // 2
# One request each; only the first two types may be asked for together.
_ALGO_TYPES = ("conditional,oco", "trigger", "move_order_stop", "chase", "twap", "smart_iceberg")
# Whatever is sent, the venue refuses it this long after its timestamp.
_TIMESTAMP_MS = 30_000
_CANCEL_WINDOW_MS = 5000
_FILLS, _BILLS = ("trade/fills", "trade/fills-history"), ("account/bills", "account/bills-archive")
_RATES = "public/funding-rate-history"


def _stamp(signed_at_ms: int, window_ms: int) -> Stamp:
    return Stamp(headers={"expTime": str(signed_at_ms + window_ms)})


class Okx(Swap):
    """An account at OKX, of level 2 (futures) or 3 (multi-currency margin)."""

    # The documentation names no length.
    denies_for: ClassVar[float] = 10.0
    private: ClassVar = _PRIVATE
    no_such_order: ClassVar = frozenset({codes.NO_SUCH_ORDER})
    ended: ClassVar = codes.ENDED
    wrong_mode: ClassVar = codes.WRONG_MODE
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        code=codes.read,
        meanings=codes.KNOWN.meanings,
        clock=Endpoint(_PUBLIC, "GET", "public/time"),
        read_clock=lambda answer: rows.only(answer, lambda row: int(row["ts"])),
        history=frozenset({*_FILLS, *_BILLS, _RATES}),
    )

    async def price(self, leg: Leg) -> Decimal:
        """The price that `place_stop` triggers on."""
        query = {"instId": self._id(leg)}
        if self.trigger == "mark":
            path, name, query = "public/mark-price", "markPx", {"instType": _SWAP, **query}
        else:
            path, name = "market/ticker", "last"
        endpoint = Endpoint(_PUBLIC, "GET", path)
        return await self.client.ask(endpoint, query, lambda answer: rows.only(answer, lambda row: decimal(row[name])))

    async def place(self, order: CloseOrder) -> Order:
        """Send a market order that only reduces, of at most what is held and what the venue takes at once."""
        position = await self._reducible(order.leg)
        most = min(order.contracts, position.contracts, self._largest(order.leg))
        contracts = self._sendable(order.leg, most)
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
            left = await self._unsent(self._position(order.leg))
            if left is None or left.contracts < contracts:  # it became too large on its way
                raise NothingToReduce(str(refusal), code=refusal.code) from None
            raise
        return Order(f"order:{order_id}", order.client_order_id, "order", order.leg, contracts, Decimal(0), "open")

    async def place_stop(self, order: StopOrder) -> Order:
        """Rest a conditional order, of at most what is held, that closes at market."""
        position, price = await self._reducible(order.leg), rows.STOP_PRICE[order.kind]
        contracts = min(order.contracts, position.contracts)
        params = {
            **self._closing(order.leg, contracts, position),
            "ordType": "conditional",
            "algoClOrdId": order.client_order_id,
            f"{price}TriggerPx": plain(order.trigger_price),
            f"{price}TriggerPxType": self.trigger,
            f"{price}OrdPx": "-1",
        }
        order_id = await self._send(
            "trade/order-algo", params, order, lambda row: rows.accepted(row, order.client_order_id, "algo")
        )
        leg, trigger = order.leg, order.trigger_price
        return Order(f"algo:{order_id}", order.client_order_id, order.kind, leg, contracts, Decimal(0), "open", trigger)

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, plain or conditional; what it has become if it has triggered."""
        if (found := await self._plain(leg, {"clOrdId": client_order_id})) is not None:
            return found
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> tuple[Order, list[str], Decimal] | None:
            is_it = (row["algoClOrdId"], row["instId"]) == (client_order_id, symbol)
            if not (is_it and rows.takes_from(row, leg)):
                return None
            return rows.algos(row, leg)[0], rows.children(row), decimal(row["actualSz"] or 0)

        query = {"algoClOrdId": client_order_id}
        for algo in await self._known_order(self._rows("trade/order-algo", query, read)) or ():
            if algo is not None:
                return await self._triggered(*algo)
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*: plain orders and conditional ones of all types."""
        query = {"instType": _SWAP, "instId": self._id(leg)}

        def is_of(row: dict[str, Any]) -> bool:
            return row["instId"] == query["instId"] and rows.reduces(row, leg)

        def book(row: dict[str, Any]) -> tuple[str, list[Order]]:
            return row["ordId"], [rows.order(row, leg)] if is_of(row) else []

        def algo(row: dict[str, Any]) -> tuple[str, list[Order]]:
            return row["algoId"], rows.algos(row, leg) if is_of(row) else []

        found = [*(await self._every("trade/orders-pending", query, book)).values()]
        for kind in _ALGO_TYPES:
            found.extend((await self._every("trade/orders-algo-pending", {**query, "ordType": kind}, algo)).values())
        return [order for orders in found for order in orders if order.state == "open"]

    async def cancel(self, order: Order) -> None:
        """Cancel *order*, at the service that its id names; no error if it has ended.

        Raises:
            OrderRefused: it is one half of an order with two triggers, and the other half protects the position.
        """
        family, _, number = order.order_id.rpartition(":")
        if family == "algo:half" and await self._position(order.leg) is not None:
            raise OrderRefused(f"order {number} of the venue holds both prices; cancel it there")
        symbol = self._id(order.leg)
        path, body = {
            "order": ("trade/cancel-order", {"instId": symbol, "ordId": number}),
        }.get(family, ("trade/cancel-algos", [{"instId": symbol, "algoId": number}]))
        await self.client.set_clock()
        expires_ms = self.client.clock.now_ms() + _CANCEL_WINDOW_MS
        await self._unless_ended(self._post(path, body, lambda _row: None, expires_ms))

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg*, oldest first; those of the last three months."""
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> tuple[str, Trade | None]:
            return row["billId"], rows.trade(row, leg) if row["instId"] == symbol else None

        query = {"instType": _SWAP, "instId": symbol}
        found = await self._history(_FILLS, _RECENT_FILLS_MS, query, since_ms, read)
        # By the id that the venue's own lists go by. Its trade ids are below zero for liquidations.
        trades = [trade for _, trade in sorted(found.items(), key=lambda each: int(each[0])) if trade is not None]
        return [await self._client_ids.named(leg, trade) for trade in trades if trade.fill.at_ms >= since_ms]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*. Bills do not name the leg: a long one receives when the rate is below zero."""
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> tuple[str, tuple[int, Decimal]]:
            is_it = row["instId"] == symbol and row["type"] == _FUNDING
            return row["billId"], (int(row["ts"]), decimal(row["pnl"] or 0) if is_it else Decimal(0))

        query = {"instType": _SWAP, "instId": symbol, "type": _FUNDING, "end": until_ms + _SAME_FUNDING_MS}
        found = await self._history(_BILLS, _RECENT_BILLS_MS, query, since_ms, read)
        bills = sorted((at_ms, amount) for at_ms, amount in found.values() if amount)
        rates = await self._rates(leg, bills[0][0], bills[-1][0]) if bills else {}
        received = Decimal(0)
        for at_ms, amount in bills:
            funding_ms = min(rates, key=lambda each: abs(each - at_ms), default=0)
            if abs(funding_ms - at_ms) > _SAME_FUNDING_MS or not rates[funding_ms]:
                raise ExchangeUnavailable(f"okx shows no funding rate for the bill of {at_ms}")
            is_long = (amount > 0) == (rates[funding_ms] < 0)
            if since_ms <= funding_ms <= until_ms and is_long == (leg.side == "long"):
                received = EXACT.add(received, amount)
        return received

    # Inside.

    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:
        if str(market["info"].get("ctMult") or 1) != "1":  # then ccxt's contract size is not the whole of it
            return "has contracts with a multiplier"
        return super()._unfit(market, leg)

    async def _read_mode(self) -> bool:
        [hedge] = await self._rows("account/config", {}, rows.hedge)
        return hedge

    async def _rights(self) -> tuple[bool, bool]:
        [rights] = await self._rows("account/config", {}, lambda row: set(row["perm"].split(",")))
        return "trade" in rights, "withdraw" in rights

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        """That of the conditional order, if one has sent it; its fills do not name that."""
        order = await self._plain(leg, {"ordId": order_id})
        return None if order is None else order.client_order_id or ""

    async def _triggered(self, algo: Order, children: list[str], actual: Decimal) -> Order:
        """A conditional order in the state of the orders that it has sent."""
        if not children:
            return algo
        sent = [await self._plain(algo.leg, {"ordId": each}) for each in children]
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
            "instId": self._id(leg),
            "tdMode": mode,
            "side": rows.REDUCING[leg.side],
            "posSide": side,
            "sz": plain(contracts),
        }
        return {**params, "reduceOnly": True} if side == rows.NET else params

    def _largest(self, leg: Leg) -> Decimal:
        info = self.market(leg)["info"]
        try:  # the second is for conditional orders; in an older table of markets it may be missing
            return min(decimal(info["maxMktSz"]), decimal(info.get("maxStopSz") or info["maxMktSz"]))
        except (KeyError, TypeError, ValueError, ArithmeticError):
            raise UnsupportedMarket(f"okx: the largest market order of {leg.symbol} is not known") from None

    async def _send(
        self, path: str, params: dict[str, Any], order: CloseOrder | StopOrder, read: Callable[[Any], T]
    ) -> T:
        return await self._in_mode(self._post(path, params, read, order.signed_at_ms + order.receive_window_ms))

    async def _post(self, path: str, body: Any, read: Callable[[dict[str, Any]], T], expires_ms: int) -> T:
        # Only some of its services honour "expTime"; those of conditional orders and cancels do not. All refuse a
        # timestamp that is 30 s old, so the request says that it was signed that long before it is to expire.
        # (test_a_late_stop_order_is_refused)
        return await self.client.send(
            Endpoint(_PRIVATE, "POST", path),
            body,
            lambda answer: rows.only(answer, read),
            signed_at_ms=expires_ms - _TIMESTAMP_MS,
            receive_window_ms=_TIMESTAMP_MS,
        )

    async def _rows(self, path: str, query: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> list[T]:
        """What *read* makes of the rows of an answer."""
        return await self._get(path, query, lambda answer: rows.of(answer, read))

    async def _every(
        self, path: str, query: dict[str, Any], read: Callable[[dict[str, Any]], tuple[str, T]]
    ) -> dict[str, T]:
        """The same of all pages of a list; *read* gives the id of a row, too."""

        async def page(after: str) -> tuple[list[tuple[str, T]], str | None]:
            found = await self._rows(path, {**query, "limit": _PAGE, **({"after": after} if after else {})}, read)
            return found, found[-1][0] if len(found) == _PAGE else None

        return dict(await every_page(page, ""))

    async def _plain(self, leg: Leg, key: dict[str, str]) -> Order | None:
        """A plain order by an id of it, None if the venue says that there is none."""
        query = {"instId": self._id(leg), **key}

        def read(row: dict[str, Any]) -> Order | None:
            is_it = all(row[name] == value for name, value in query.items())
            return rows.order(row, leg) if is_it and rows.takes_from(row, leg) else None

        found = await self._known_order(self._rows("trade/order", query, read))
        return found[0] if found else None

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self._id(leg)
        held = await self._positions({"instId": symbol}, {symbol})
        return next((position for side, position in held if side == leg.side), None)

    async def _all_positions(self, legs: Sequence[Leg]) -> dict[Leg, Held]:
        ids = {self._id(leg): leg.symbol for leg in legs}
        held = await self._positions({}, set(ids))
        return {Leg(ids[position.said["instId"]], side): position for side, position in held}

    async def _positions(self, query: dict[str, str], symbols: set[str]) -> list[tuple[Side, Held]]:
        """What is held of *symbols*. What the account holds beside them is not looked at."""

        def read(row: dict[str, Any]) -> tuple[Side, Held] | None:
            return rows.position(row) if row["instId"] in symbols else None

        found = await self._rows("account/positions", {"instType": _SWAP, **query}, read)
        held = [each for each in found if each is not None]
        names = Counter((position.said["instId"], position.said["posSide"]) for _, position in held)
        if twice := next((symbol for (symbol, _), times in names.items() if times > 1), None):
            raise UnsupportedMarket(f"okx holds {twice} in both margin modes; an order names one")
        return held

    async def _history(
        self,
        paths: tuple[str, str],
        recent_ms: int,
        query: dict[str, Any],
        since_ms: int,
        read: Callable[[dict[str, Any]], tuple[str, T]],
    ) -> dict[str, T]:
        """What a list of recent things and, if need be, the one of older things have."""
        recent, archive = paths
        query = {**query, "begin": since_ms - 1}  # whether the limit itself is in is not documented
        is_old = since_ms < self.client.clock.now_ms() - recent_ms
        older = await self._every(archive, query, read) if is_old else {}
        return {**older, **await self._every(recent, query, read)}

    async def _rates(self, leg: Leg, since_ms: int, until_ms: int) -> dict[int, Decimal]:
        """Funding rates by their time."""
        endpoint, query = Endpoint(_PUBLIC, "GET", _RATES), {"instId": self._id(leg)}

        async def page(after: int) -> tuple[list[tuple[int, Decimal]], int | None]:
            asked = {**query, "after": after, "limit": _PAGE}
            found = await self.client.ask(endpoint, asked, lambda answer: rows.of(answer, rows.rate))
            oldest = min((at_ms for at_ms, _ in found), default=0)
            return found, None if len(found) < _PAGE or oldest < since_ms - _SAME_FUNDING_MS else oldest

        return dict(await every_page(page, until_ms + 2 * _SAME_FUNDING_MS))
