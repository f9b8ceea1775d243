"""What a MEXC account holds, what rests in it and what it did: its positions, orders, fills and funding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.errors import ExchangeUnavailable
from poslock.exchange.ccxt.client import Client, Endpoint
from poslock.exchange.ccxt.mexc import rows
from poslock.exchange.ccxt.venue import Held, Swap, every_page, spans
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.exchange.port import Leg, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")

PRIVATE = ("contract", "private")
_DAY_MS = 86_400_000
# Trades, trigger orders and orders that have ended tell their times in whole seconds, rounded up or down.
_ROUNDED_MS = 1000
# A question about a longer time is refused (6003).
_SPAN_MS = 89 * _DAY_MS
# How far back trigger orders that still rest are looked for.
_REACH_MS = 4 * _SPAN_MS
_NO_SUCH_ORDER = "2040"


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


class MexcAccount(Swap):
    """The questions that no order is the answer to, and those about orders."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._mode: int | None = None
        self._client_ids: dict[str, str | None] = {}  # of plain orders that the venue has shown, by its own id

    async def position_mode(self) -> int:
        """`HEDGE` or `ONE_WAY`, as in `rows`."""
        if self._mode is None:
            self._mode = await self.get("position/position_mode", {}, rows.position_mode)
        return self._mode

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The plain order with this client order id; the other families have none."""
        path = f"order/external/{self.symbol(leg)}/{client_order_id}"
        found = await self._unless_unknown(path, lambda found: rows.order(found, leg))
        if found is not None:
            self._client_ids[found.order_id] = client_order_id
        return found

    async def stop(self, order: StopOrder) -> Order | None:
        """A trigger order of this leg, kind, size and price that rests, or else has triggered.

        One that is older than the request is another, which the request may still join. But the venue tells when it was
        placed in whole seconds, rounded up or down, so one of the second before ``signed_at_ms`` is taken for it. Of
        several it is the oldest: one that is set again at the same price is another, which replaces it.
        """
        wanted = (order.kind, order.contracts, order.trigger_price)
        for state in (rows.RESTS, rows.TRIGGERED):
            for found in await self._plans(order.leg, state, order.signed_at_ms - _ROUNDED_MS + 1):
                if (found.family, found.contracts, found.trigger_price) == wanted:
                    return found
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests in the four families and would reduce *leg*."""
        symbol = self.symbol(leg)
        plain = await self._all(_PLAIN, {}, lambda row: rows.resting(row, symbol, leg))
        plans = await self._plans(leg, rows.RESTS)
        of_symbol = {"symbol": symbol, "states": "0,1"}
        tracks = await self._all(_TRACKS, of_symbol, lambda row: rows.track(row, symbol, leg))
        stops = await self.get(
            "stoporder/open_orders", {"symbol": symbol}, lambda found: rows.stops(found, symbol, leg)
        )
        return [*{order.order_id: order for order in (*plain, *plans, *tracks)}.values(), *stops]

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the order of their ids, which grow; ``order_id`` is that of the plain order.

        Their times are whole seconds, rounded up or down: all that may have happened since then are told, and with them
        some of the second before. Exits name the client order id, for which their orders are asked once each.
        """
        symbol, mode, until_ms = self.symbol(leg), await self.position_mode(), self.client.clock.now_ms() + _DAY_MS
        earliest_ms = max(0, since_ms - _ROUNDED_MS + 1)
        found: dict[str, Trade] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(earliest_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "start_time": start_ms, "end_time": end_ms}
            trades = await self._all(_DEALS, query, lambda row: rows.trade(row, symbol, leg, mode))
            found.update({each.fill.trade_id: each for each in trades if each.fill.at_ms >= earliest_ms})
        ordered = sorted(found.values(), key=lambda each: (len(each.fill.trade_id), each.fill.trade_id))
        return [await self._named(each) for each in ordered]

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*: positive in the documentation's examples where it was."""
        symbol, kind = self.symbol(leg), rows.POSITION_TYPE[leg.side]
        received: dict[str, Decimal] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(since_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "position_type": kind, "start_time": start_ms, "end_time": end_ms}
            found = await self._all(_FUNDING, query, lambda row: rows.funding(row, symbol, leg))
            received.update({number: amount for number, at_ms, amount in found if since_ms <= at_ms <= until_ms})
        total = Decimal(0)
        for amount in received.values():
            total = EXACT.add(total, amount)
        return total

    def symbol(self, leg: Leg) -> str:
        """What the venue calls the market."""
        return str(self.market(leg)["id"])

    async def get(self, path: str, params: dict[str, Any], read: Callable[[Any], T]) -> T:
        """What *read* makes of what a good answer carries."""
        return await self.client.ask(Endpoint(PRIVATE, "GET", path), params, lambda answer: read(rows.data(answer)))

    # Inside.

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self.symbol(leg)
        return await self.get(
            "position/open_positions", {"symbol": symbol}, lambda found: rows.position(found, symbol, leg)
        )

    async def _all_positions(self, legs: Sequence[Leg]) -> Mapping[Leg, Held]:
        symbols = {leg: self.symbol(leg) for leg in legs}
        return await self.get("position/open_positions", {}, lambda found: rows.positions(found, symbols))

    async def _plans(self, leg: Leg, state: int, since_ms: int = 0) -> list[Order]:
        """Trigger orders of *leg*, oldest first: their ids grow."""
        symbol, now_ms = self.symbol(leg), self.client.clock.now_ms()
        found: dict[str, Order] = {}
        for start_ms, end_ms in spans(max(since_ms, now_ms - _REACH_MS), now_ms + _DAY_MS, _SPAN_MS):
            query = {"symbol": symbol, "states": str(state), "start_time": start_ms, "end_time": end_ms}
            plans = await self._all(_PLANS, query, lambda row: rows.plan(row, symbol, leg, state))
            found.update({order.order_id: order for created_ms, order in plans if created_ms >= since_ms})
        return sorted(found.values(), key=lambda each: (len(each.order_id), each.order_id))

    async def _named(self, trade: Trade) -> Trade:
        """With the client order id of its order, if it is an exit: one may be ours."""
        if trade.effect == "entry" or trade.order_id is None:
            return trade
        client_order_id = await self._client_id(trade.order_id)
        return replace(trade, fill=replace(trade.fill, client_order_id=client_order_id))

    async def _client_id(self, order_id: str) -> str | None:
        """The client order id of an order: fills do not name it."""
        if order_id not in self._client_ids:
            found = await self._unless_unknown(f"order/get/{order_id}", dict)
            if found is None:  # for now, or for ever: the fill counts all the same
                return None
            self._client_ids[order_id] = found.get("externalOid") or None
        return self._client_ids[order_id]

    async def _unless_unknown(self, path: str, read: Callable[[Any], T]) -> T | None:
        """What *read* makes of an order, None if the venue knows no such order, in either of its ways to say so."""
        try:
            return await self.get(path, {}, lambda found: read(found) if found else None)
        except ExchangeUnavailable as error:
            if error.code == _NO_SUCH_ORDER:
                return None
            raise

    async def _all(self, which: _List, query: dict[str, Any], read: Callable[[dict[str, Any]], T | None]) -> list[T]:
        """What *read* makes of the rows of a list, without None."""

        async def page(number: int) -> list[T | None]:
            asked = {**query, which.page: number, which.size: which.rows}
            return await self.get(which.path, asked, lambda found: [read(row) for row in rows.listed(found)])

        found = await every_page(page, which.rows)
        if which.shrinks and len(found) >= which.rows:
            # What ended between two pages has moved an order on to the page that was read before.
            # (test_an_order_that_moves_to_the_page_before_is_found)
            found += await every_page(page, which.rows)
        return [each for each in found if each is not None]
