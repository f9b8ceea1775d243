"""MEXC's spot market."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from poslock.errors import DuplicateClientOrderId, ExchangeUnavailable
from poslock.exchange.ccxt.client import Dialect, Endpoint
from poslock.exchange.ccxt.listing import halved, spans
from poslock.exchange.ccxt.reading import decimal, identifier, taken
from poslock.exchange.ccxt.spot import codes, rows
from poslock.exchange.ccxt.spot.venue import Spot

if TYPE_CHECKING:
    from decimal import Decimal

    from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
    from poslock.position import Trade

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
# How far back MEXC tells of trades, in pieces of which length, and up to when.
_REACH_MS, _SPAN_MS, _BEYOND_MS = 28 * _DAY_MS, 7 * _DAY_MS, 5000
# MEXC reports whole seconds, rounded up or down.
_ROUNDED_MS = 1000


class MexcSpot(Spot):
    """A spot account at MEXC. It tells the trades of a month: what was sold before that cannot be booked."""

    # Orders that existed were denied; for how long, nobody says.
    denies_for: ClassVar[float] = 10.0
    public: ClassVar = ("spot", "public")
    private: ClassVar = ("spot", "private")
    page: ClassVar = 100
    dialect: ClassVar[Dialect] = Dialect(
        codes=codes.MEXC,
        clock=Endpoint(public, "GET", "time"),
        read_clock=lambda answer: int(answer["serverTime"]),
        history=frozenset({"myTrades"}),
    )

    async def _rights(self) -> tuple[bool, bool]:
        params = {"accessKey": self.client.ccxt.apiKey}
        rights = await self._get("apiKeyInfo", params, lambda answer: str(answer["permissions"]).split(","))
        withdraws = any("WITHDRAW" in right and not right.endswith(("_READ", "_R")) for right in rights)
        return "SPOT_DEAL_WRITE" in rights, withdraws

    def _least_worth(self, market: dict[str, Any]) -> Decimal:
        # In a field of its own; where that is missing, the one for all orders.
        return decimal(market["info"].get("quoteAmountPrecisionMarket") or market["limits"]["cost"]["min"] or 0)

    async def _sell(self, order: CloseOrder | StopOrder, params: dict[str, str]) -> Order:
        order_id = await self._send_sale(order, params, lambda row: identifier(row["orderId"]))
        try:
            found = await self._look_up(
                order.leg, "orderId", order_id, lambda row: (int(row["time"]), rows.order(row, order.leg))
            )
        except ExchangeUnavailable:
            found = None
        if found is None:  # it is taken, though a new order may be denied; what became of it is for later
            return taken(order, order_id, decimal(params["quantity"]))
        # What the venue does with a second order under one id is not documented. Should it answer with the first one,
        # that is no new order. It says when it was made in whole seconds, so it has to be older than those.
        # (test_a_silent_duplicate_is_not_taken_for_a_new_order)
        created_ms, now = found
        if created_ms < order.signed_at_ms - _ROUNDED_MS:
            raise DuplicateClientOrderId(f"client order id {order.client_order_id} was taken before, by {order_id}")
        return now

    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        now_ms = self.client.clock.now_ms()

        async def page(start_ms: int, end_ms: int) -> list[Trade]:
            return _oldest_first(await self._list_trades(leg, {"startTime": start_ms, "endTime": end_ms}))

        async def ask(start_ms: int, end_ms: int) -> list[Trade]:
            return await halved(page, self.page, start_ms, end_ms)

        # From the begin of a day, so that the pieces of what is long past stay the same.
        first_ms = max(since_ms, (now_ms - _REACH_MS) // _DAY_MS * _DAY_MS)
        parts = spans(first_ms, max(since_ms, now_ms + _BEYOND_MS), _SPAN_MS)
        # Piece by piece, each in the order of its list: neither whole seconds nor the ids, which a trade has from an
        # order, tell the order. (test_trades_of_one_second_stay_in_order)
        return [*{each.fill.trade_id: each for each in await self._spanned(ask, parts, leg)}.values()]


def _oldest_first(trades: list[Trade]) -> list[Trade]:
    """A list that is told newest first, turned round; which way it is told is not documented.

    Its ends say so, if they are as far apart as what both are rounded by.
    """
    is_oldest_first = bool(trades) and trades[-1].fill.at_ms - trades[0].fill.at_ms >= 2 * _ROUNDED_MS
    return trades if is_oldest_first else trades[::-1]
