"""OKX linear perpetual swaps (API v5), net mode (one-way) and long/short mode (hedge).

Sizes are contracts. An order must name the margin mode of the position that it is for. In net mode orders are
reduce-only; in long/short mode the side of the position and that of the order say that it closes. Either way the venue
refuses a size beyond what is held instead of cutting it down, also when a stop order triggers: one that was placed
before a part of the position was taken off is too large for the rest. Conditional orders ("algos") have ids and lists
of their own; up to ten of them are cancelled by one request, which may name each by its id or by its client's.

Source: the venue's documentation of its API v5. What it leaves open is said where it matters. That a conditional order
is cancelled by ``algoClOrdId`` is documented of late ("Either algoId or algoClOrdId is required", as the client library
OKX.Api quotes it; ccxt sends it, too); before, ``algoId`` was the only one. A server that does not know it refuses the
request, and what rests is listed and cancelled by its ids then.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from poslock.errors import ExchangeUnavailable, NothingToReduce, ReduceOnlyBlocked, UnsupportedMarket
from poslock.exchange.ccxt.client import Dialect, Endpoint, Stamp
from poslock.exchange.ccxt.listing import Listing, every_page
from poslock.exchange.ccxt.okx import codes, rows
from poslock.exchange.ccxt.reading import decimal, plain, taken, total
from poslock.exchange.ccxt.swap import Held, Swap
from poslock.exchange.port import hurried

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from decimal import Decimal

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")

_PAGE = 100
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# Of what the lists of recent things hold, a day less.
_RECENT_FILLS_MS, _RECENT_BILLS_MS = 2 * _DAY_MS, 6 * _DAY_MS
# Seconds pass from the time of a funding to its bill; an hour at least from one funding to the next.
_SAME_FUNDING_MS = _HOUR_MS // 2
# One request each; only the first two types may be asked for together.
_ALGO_TYPES = ("conditional,oco", "trigger", "move_order_stop", "chase", "twap", "smart_iceberg")
# Whatever is sent, the venue refuses it this long after its timestamp.
_TIMESTAMP_MS = 30_000
# So many conditional orders are cancelled by one request.
_CANCELS = 10


def _list(path: str, number: str) -> Listing:
    return Listing(path, _PAGE, "after", after=number)


_PLAIN, _ALGOS = _list("trade/orders-pending", "ordId"), _list("trade/orders-algo-pending", "algoId")
_FILLS = _list("trade/fills", "billId"), _list("trade/fills-history", "billId")
_BILLS = _list("account/bills", "billId"), _list("account/bills-archive", "billId")
_RATES = "public/funding-rate-history"


def _stamp(signed_at_ms: int, window_ms: int) -> Stamp:
    return Stamp(headers={"expTime": str(signed_at_ms + window_ms)})


class Okx(Swap):
    """An account at OKX, of level 2 (futures) or 3 (multi-currency margin)."""

    # The documentation names no length.
    denies_for: ClassVar[float] = 10.0
    cancels_unlisted: ClassVar = True
    public: ClassVar = ("public",)
    private: ClassVar = ("private",)
    symbol: ClassVar = "instId"
    category: ClassVar = {"instType": "SWAP"}
    good = staticmethod(rows.data)
    prices: ClassVar = {"last": ("market/ticker", "last"), "mark": ("public/mark-price", "markPx")}
    held = staticmethod(rows.held)
    needed: ClassVar = ("posSide", "mgnMode")
    positions: ClassVar = "account/positions"
    dialect: ClassVar[Dialect] = Dialect(
        stamp=_stamp,
        codes=codes.KNOWN,
        clock=Endpoint(public, "GET", "public/time"),
        read_clock=lambda answer: int(_only(rows.data(answer))["ts"]),
        history=frozenset({*(each.path for each in (*_FILLS, *_BILLS)), _RATES}),
    )

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, plain or conditional; what it has become if it has triggered."""
        if (found := await self._plain(leg, "clOrdId", client_order_id)) is not None:
            return found
        symbol = self._id(leg)

        def read(row: dict[str, Any]) -> tuple[Order, list[str], Decimal] | None:
            is_it = (row["algoClOrdId"], row["instId"]) == (client_order_id, symbol)
            if not (is_it and rows.takes_from(row, leg)):
                return None
            return rows.algos(row, leg)[0], rows.children(row), decimal(row["actualSz"] or 0)

        algos = await self._known_order(self._rows("trade/order-algo", {"algoClOrdId": client_order_id}, read))
        return await self._triggered(*algos[0]) if algos else None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests and would reduce *leg*: plain orders and conditional ones of all types."""

        def plain(row: dict[str, Any]) -> list[Order] | None:
            return [rows.order(row, leg)] if rows.reduces(row, leg) else None

        def algos(row: dict[str, Any]) -> list[Order] | None:
            return rows.algos(row, leg) if rows.reduces(row, leg) else None

        kinds = _ALGO_TYPES[:1] if hurried.get() else _ALGO_TYPES
        found = await self.client.together(
            self._every(_PLAIN, self._of(leg), plain),
            *[self._every(_ALGOS, {**self._of(leg), "ordType": kind}, algos) for kind in kinds],
        )
        return [order for rows_of in found for orders in rows_of for order in orders if order.state == "open"]

    async def cancel(self, order: Order) -> None:
        await self.cancel_all([order])

    async def cancel_all(self, orders: Sequence[Order]) -> None:
        """Cancel *orders*, conditional ones several in one request."""
        whole, refused = await self._cancellable(orders)
        plain, algos = list[dict[str, str]](), list[dict[str, str]]()
        for order in whole:
            symbol, number = self._id(order.leg), order.order_id.rpartition(":")[2]
            if order.order_id.startswith("order:"):
                plain.append({"instId": symbol, "ordId": number})
            elif (asked := {"instId": symbol, "algoId": number}) not in algos:  # one with two prices is two here
                algos.append(asked)
        await self.client.together(
            *[self._cancel("trade/cancel-order", each, _only) for each in plain], *self._cancels(algos)
        )
        if refused is not None:
            raise refused

    async def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        names = [{"instId": self._id(each.leg), "algoClOrdId": each.client_order_id} for each in orders]
        taken = [each for part in await self.client.together(*self._cancels(names)) for each in part]
        return [order for order, name in zip(orders, names, strict=True) if name in taken]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*. Bills do not name the leg: a long one receives when the rate is below zero."""
        query = {**self._of(leg), "type": rows.FUNDING, "end": until_ms + _SAME_FUNDING_MS}
        bills = sorted((await self._history(_BILLS, _RECENT_BILLS_MS, query, since_ms, rows.bill)).values())
        rates = await self._rates(leg, bills[0][0], bills[-1][0]) if bills else {}
        received = []
        for at_ms, amount in bills:
            funding_ms = min(rates, key=lambda each: abs(each - at_ms), default=0)
            if abs(funding_ms - at_ms) > _SAME_FUNDING_MS or not rates[funding_ms]:
                raise ExchangeUnavailable(f"okx shows no funding rate for the bill of {at_ms}")
            is_long = (amount > 0) == (rates[funding_ms] < 0)
            if since_ms <= funding_ms <= until_ms and is_long == (leg.side == "long"):
                received.append(amount)
        return total(received)

    # Inside.

    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:
        if str(market["info"].get("ctMult") or 1) != "1":  # then ccxt's contract size is not the whole of it
            return "has contracts with a multiplier"
        return super()._unfit(market, leg)

    async def _read_mode(self) -> bool:
        return await self._get("account/config", {}, lambda found: rows.hedge(_only(found)))

    async def _rights(self) -> tuple[bool, bool]:
        rights = await self._get("account/config", {}, lambda found: set(_only(found)["perm"].split(",")))
        return "trade" in rights, "withdraw" in rights

    async def _positions(self, query: dict[str, Any], read: Callable[[dict[str, Any]], Held | None]) -> list[Held]:
        held = await super()._positions(query, read)
        names = Counter((each.symbol, each.said["posSide"]) for each in held)
        if twice := next((symbol for (symbol, _), times in names.items() if times > 1), None):
            raise UnsupportedMarket(f"okx holds {twice} in both margin modes; an order names one")
        return held

    def _most(self, market: dict[str, Any]) -> Decimal:
        info = market["info"]
        # The second is for conditional orders; in an older table of markets it may be missing.
        return min(decimal(info["maxMktSz"]), decimal(info.get("maxStopSz") or info["maxMktSz"]))

    async def _close(self, order: CloseOrder, position: Held) -> Order:
        contracts = self._sendable(order.leg, order.contracts, position.contracts)
        params = {
            **self._closing(order.leg, contracts, position),
            "ordType": "market",
            "clOrdId": order.client_order_id,
        }
        try:
            order_id = await self._send(
                "trade/order",
                params,
                order,
                lambda found: rows.accepted(_only(found), order.client_order_id, "ordId", "clOrdId"),
            )
        except ReduceOnlyBlocked as refusal:
            left = await self._unsent(self._position(order.leg))
            if left is None or left.contracts < contracts:  # it became too large on its way
                raise NothingToReduce(str(refusal), code=refusal.code) from None
            raise
        return taken(order, f"order:{order_id}", contracts)

    async def _rest(self, order: StopOrder, position: Held) -> Order:
        price, contracts = rows.STOP_PRICE[order.kind], min(order.contracts, position.contracts)
        params = {
            **self._closing(order.leg, contracts, position),
            "ordType": "conditional",
            "algoClOrdId": order.client_order_id,
            f"{price}TriggerPx": plain(order.trigger_price),
            f"{price}TriggerPxType": self.trigger,
            f"{price}OrdPx": "-1",
        }
        ids = (order.client_order_id, "algoId", "algoClOrdId")
        order_id = await self._send("trade/order-algo", params, order, lambda found: rows.accepted(_only(found), *ids))
        return taken(order, f"algo:{order_id}", contracts)

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

    async def _post(self, path: str, body: Any, read: Callable[[Any], T], signed_at_ms: int, window_ms: int) -> T:
        # Only some of its services honour "expTime"; those of conditional orders and cancels do not. All refuse a
        # timestamp that is 30 s old, so the request says that it was signed that long before it is to expire.
        # (test_a_late_stop_order_is_refused)
        signed_at_ms += window_ms - _TIMESTAMP_MS
        return await super()._post(path, body, read, signed_at_ms, _TIMESTAMP_MS)

    def _cancels(self, asked: Sequence[dict[str, str]]) -> list[Coroutine[Any, Any, list[dict[str, str]]]]:
        """Requests that cancel conditional orders; of each those that it *asked* for and the venue had."""
        return [self._cancel_algos(asked[start : start + _CANCELS]) for start in range(0, len(asked), _CANCELS)]

    async def _cancel_algos(self, asked: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        def read(found: list[dict[str, Any]]) -> list[dict[str, str]]:
            taken = [row for row in found if row["sCode"] not in codes.KNOWN.ended and rows.done(row)]
            if len(taken) == len(asked):
                return [*asked]
            # Whether the rows come in the order of the request is not documented, nor whether they repeat this id.
            names = {row["algoClOrdId"] for row in taken}
            return [each for each in asked if each.get("algoClOrdId") in names]

        return await self._cancel("trade/cancel-algos", [*asked], read) or []

    async def _plain(self, leg: Leg, number: str, wanted: str) -> Order | None:
        """A plain order by an id of it, None if the venue says that there is none."""

        def read(row: dict[str, Any]) -> Order | None:
            return rows.order(row, leg) if row[number] == wanted and rows.takes_from(row, leg) else None

        query = {"instId": self._id(leg), number: wanted}
        found = await self._known_order(self._rows("trade/order", query, read))
        return found[0] if found else None

    async def _triggered(self, algo: Order, children: list[str], actual: Decimal) -> Order:
        """A conditional order in the state of the orders that it has sent."""
        if not children:
            return algo
        sent = [await self._plain(algo.leg, "ordId", each) for each in children]
        orders = [order for order in sent if order is not None]
        if len(orders) < len(sent):  # it was too long ago
            return replace(algo, state="filled" if actual >= algo.contracts else "canceled", filled=actual)
        states = {order.state for order in orders}
        ended: Literal["filled", "canceled"] = "filled" if states == {"filled"} else "canceled"
        return replace(algo, state="open" if "open" in states else ended, filled=total(each.filled for each in orders))

    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Those of the last three months."""
        found = await self._history(_FILLS, _RECENT_FILLS_MS, self._of(leg), since_ms, lambda row: rows.trade(row, leg))
        return [found[place] for place in sorted(found)]

    async def _history(
        self,
        listings: tuple[Listing, Listing],
        recent_ms: int,
        query: dict[str, Any],
        since_ms: int,
        read: Callable[[dict[str, Any]], tuple[int, T] | None],
    ) -> dict[int, T]:
        """What a list of recent things and, if need be, the one of older things have, by the ids of their rows."""
        recent, archive = listings
        query = {**query, "begin": since_ms - 1}  # whether the limit itself is in is not documented
        found = await self._every(recent, query, read)
        is_old = since_ms < self.client.clock.now_ms() - recent_ms
        older = await self._every(archive, query, read) if is_old and not self._cuts_short() else []
        return dict([*older, *found])

    async def _rates(self, leg: Leg, since_ms: int, until_ms: int) -> dict[int, Decimal]:
        """Funding rates by their time."""

        async def page(after: int) -> tuple[list[tuple[int, Decimal]], int | None]:
            asked = {"instId": self._id(leg), "after": after, "limit": _PAGE}
            found = await self._rows(_RATES, asked, rows.rate, self.public)
            oldest = min((at_ms for at_ms, _ in found), default=0)
            return found, None if len(found) < _PAGE or oldest < since_ms - _SAME_FUNDING_MS else oldest

        return dict(await every_page(page, until_ms + 2 * _SAME_FUNDING_MS))

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        """That of the conditional order, if one has sent it; its fills do not name that."""
        order = await self._plain(leg, "ordId", order_id)
        return None if order is None else order.client_order_id or ""


def _only(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The only row, which must not be the error of an operation."""
    [row] = found
    return rows.done(row)
