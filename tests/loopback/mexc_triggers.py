"""MEXC's endpoints about trigger orders, whose times are whole seconds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, CLOSES, PLAN, TRIGGERED, Asked
from loopback.mexc_orders import check_margin, contracts_of, leg_of, number
from loopback.mexc_words import PRICE_UNIT, good, market_id, page, refuse, span, whole_seconds
from loopback.server import Request, Routes

if TYPE_CHECKING:
    import sqlite3

    from loopback.mexc import Mexc
    from loopback.mexc_books import Books

TRIGGERS = Routes()
_PRIVATE = "/api/v1/private"
_HOURS_MS = 3_600_000
_CYCLES = {1: 24, 2: 168}


def _falls(row: sqlite3.Row) -> bool:
    """Whether it waits for a price at or below its trigger."""
    return bool((row["family"] == "stop_loss") == (row["side"] == "sell"))


@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/place")
@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/place/v2")
def place_plan(venue: Mexc, request: Request) -> Any:
    said = request.params
    leg, side = leg_of(venue, said)
    contracts, trigger = contracts_of(venue, said), number(said, "triggerPrice", 3004)
    if contracts > venue.largest:
        refuse(2016)
    if trigger % PRICE_UNIT:
        refuse(2015)
    if said.get("triggerType") not in {1, 2}:
        refuse(3002)
    if said.get("executeCycle") not in _CYCLES:
        refuse(3003)
    if said.get("orderType") not in range(1, 6) or said.get("trend") not in {1, 2, 3}:
        refuse(600)
    asked = Asked("plan", side, said["orderType"], reduce_only=said.get("reduceOnly") is True, trend=said["trend"])
    asked.rests_ms = _CYCLES[said["executeCycle"]] * _HOURS_MS
    reducing = side in CLOSES.values() or asked.reduce_only
    sells = side in {3, 4}
    kind = "stop_loss" if (said["triggerType"] == 2) == sells else "take_profit"
    with venue.books() as books:
        if reducing and books.history(leg.symbol).held(leg.side) is None:
            refuse(2009)
        check_margin(books, leg, said)
        price = (said["trend"] == 2 and venue.mark) or books.price(leg.symbol)
        if price <= trigger if said["triggerType"] == 2 else price >= trigger:
            refuse(3004)
        return good(str(PLAN + books.take(leg, asked, contracts, kind, trigger)))


@TRIGGERS.on("GET", f"{_PRIVATE}/planorder/list/orders")
def plans(venue: Mexc, request: Request) -> Any:
    said, times = request.params, span(request, venue.clock_ms())
    with venue.books() as books:
        rows = [_plan(books, row) for row in books.triggers("plan") if row["created_ms"] in times]
    wanted = [row for row in rows if said.get("symbol") in {None, row["symbol"]}]
    for name, field in (("states", "state"), ("side", "side")):
        if name in said:
            wanted = [row for row in wanted if str(row[field]) in str(said[name]).split(",")]
    return good(page(request, wanted))


@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/cancel")
def cancel_plans(venue: Mexc, request: Request) -> Any:
    if not isinstance(request.params, list) or len(request.params) > 50:
        refuse(600)
    with venue.books() as books:
        known = {str(PLAN + row["order_id"]): row for row in books.triggers("plan")}
        wanted = [known.get(str(each.get("orderId"))) for each in request.params]
        books.cancel(row["order_id"] for row in wanted if row is not None)
    if any(row is None for row in wanted):
        refuse(2040)
    if any(row is not None and row["state"] != "open" for row in wanted):
        refuse(2041)
    return good()


@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/cancel_all")
def cancel_all_plans(venue: Mexc, request: Request) -> Any:
    symbol = request.params.get("symbol")
    with venue.books() as books:
        rows = [row for row in books.triggers("plan") if not symbol or market_id(row["symbol"]) == symbol]
        books.cancel(row["order_id"] for row in rows)
    return good()


def _plan(books: Books, row: sqlite3.Row) -> dict[str, Any]:
    asked, venue, state = books.asked(row), books.venue, books.trigger_state(row)
    said = {
        "id": str(PLAN + row["order_id"]),
        "symbol": market_id(row["symbol"]),
        "leverage": venue.leverage,
        "side": asked.side,
        "triggerPrice": Decimal(row["trigger_price"]),
        "price": 0,
        "vol": Decimal(row["contracts"]),
        "openType": venue.open_type,
        "triggerType": 2 if _falls(row) else 1,
        "state": state,
        "executeCycle": 87600 if asked.rests_ms is None else asked.rests_ms // _HOURS_MS,
        "trend": asked.trend,
        "orderType": asked.kind,
        "orderId": str(CHILD + row["order_id"]) if state == TRIGGERED else "0",
        "errorCode": 0,
        "createTime": whole_seconds(row["created_ms"], row["order_id"]),
        "updateTime": whole_seconds(row["created_ms"], row["order_id"]),
        "positionMode": venue.position_mode,
        "priceProtect": 0,
    }
    return said if venue.hedge else {**said, "reduceOnly": asked.reduce_only}
