"""What a MEXC account holds, what rests in it and what it did: its positions, orders, fills and funding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.errors import ExchangeUnavailable
from poslock.exchange.venues import mexc_answers as answers
from poslock.exchange.venues.client import Client, Endpoint
from poslock.exchange.venues.venue import Held, Swap, every_page, spans
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import Leg, Order, StopOrder
    from poslock.position import Fill

T = TypeVar("T")

PRIVATE = ("contract", "private")
_DAY_MS = 86_400_000
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
        self._client_ids: dict[str, str | None] = {}

    async def position_mode(self) -> int:
        """`HEDGE` or `ONE_WAY`, as in `mexc_answers`."""
        if self._mode is None:
            self._mode = await self.get("position/position_mode", {}, answers.position_mode)
        return self._mode

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The plain order with this client order id; the other families have none."""
        path = f"order/external/{self.symbol(leg)}/{client_order_id}"
        return await self._unless_unknown(path, lambda found: answers.order(found, leg))

    async def stop(self, order: StopOrder) -> Order | None:
        """A trigger order of this leg, kind, size and price that rests, or else has triggered.

        It must have been placed after ``signed_at_ms``: an older one is another, which the request may still join.
        """
        wanted = (order.kind, order.contracts, order.trigger_price)
        for state in (answers.RESTS, answers.TRIGGERED):
            for found in await self._plans(order.leg, state, order.signed_at_ms):
                if (found.family, found.contracts, found.trigger_price) == wanted:
                    return found
        return None

    async def open_orders(self, leg: Leg) -> list[Order]:
        """What rests in the four families and would reduce *leg*."""
        symbol = self.symbol(leg)
        plain = await self._all(_PLAIN, {}, lambda row: answers.resting(row, symbol, leg))
        plans = await self._plans(leg, answers.RESTS)
        of_symbol = {"symbol": symbol, "states": "0,1"}
        tracks = await self._all(_TRACKS, of_symbol, lambda row: answers.track(row, symbol, leg))
        stops = await self.get(
            "stoporder/open_orders", {"symbol": symbol}, lambda found: answers.stops(found, symbol, leg)
        )
        return [*{order.order_id: order for order in (*plain, *plans, *tracks)}.values(), *stops]

    async def fills(self, leg: Leg, since_ms: int) -> list[Fill]:
        """Fills that took from *leg*, oldest first. In one-way mode those that opened the other side count too."""
        symbol, mode, until_ms = self.symbol(leg), await self.position_mode(), self.client.clock.now_ms() + _DAY_MS
        found: dict[str, tuple[str, Fill]] = {}
        for start_ms, end_ms in spans(since_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "start_time": start_ms, "end_time": end_ms}
            fills = await self._all(_DEALS, query, lambda row: answers.exit_of(row, symbol, leg, mode))
            found.update({fill.trade_id: (order_id, fill) for order_id, fill in fills if fill.at_ms >= since_ms})
        exits = [replace(fill, client_order_id=await self._client_id(each)) for each, fill in found.values()]
        return sorted(exits, key=lambda fill: (fill.at_ms, len(fill.trade_id), fill.trade_id))

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received by *leg*: positive in the documentation's examples where it was."""
        symbol, kind = self.symbol(leg), answers.POSITION_TYPE[leg.side]
        received: dict[str, Decimal] = {}  # by its id: a new one moves the others on to the next page
        for start_ms, end_ms in spans(since_ms, until_ms, _SPAN_MS):
            query = {"symbol": symbol, "position_type": kind, "start_time": start_ms, "end_time": end_ms}
            found = await self._all(_FUNDING, query, lambda row: answers.funding(row, symbol, leg))
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
        return await self.client.ask(Endpoint(PRIVATE, "GET", path), params, lambda answer: read(answers.data(answer)))

    # Inside.

    async def _position(self, leg: Leg) -> Held | None:
        symbol = self.symbol(leg)
        return await self.get(
            "position/open_positions", {"symbol": symbol}, lambda found: answers.position(found, symbol, leg)
        )

    async def _plans(self, leg: Leg, state: int, since_ms: int = 0) -> list[Order]:
        symbol, now_ms = self.symbol(leg), self.client.clock.now_ms()
        found: dict[str, Order] = {}
        for start_ms, end_ms in spans(max(since_ms, now_ms - _REACH_MS), now_ms + _DAY_MS, _SPAN_MS):
            query = {"symbol": symbol, "states": str(state), "start_time": start_ms, "end_time": end_ms}
            plans = await self._all(_PLANS, query, lambda row: answers.plan(row, symbol, leg, state))
            found.update({order.order_id: order for created_ms, order in plans if created_ms >= since_ms})
        return list(found.values())

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
            return await self.get(which.path, asked, lambda found: [read(row) for row in answers.rows(found)])

        found = await every_page(page, which.rows)
        if which.shrinks and len(found) >= which.rows:
            # What ended between two pages has moved an order on to the page that was read before.
            # (test_an_order_that_moves_to_the_page_before_is_found)
            found += await every_page(page, which.rows)
        return [each for each in found if each is not None]
