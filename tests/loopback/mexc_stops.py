"""MEXC's endpoints about TP/SL orders of a position.

One with both prices is two paper orders, and what ends one of them ends the other.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, CLOSES, STOP, TRIGGERED, Asked
from loopback.mexc_orders import contracts_of, number
from loopback.mexc_words import PRICE_UNIT, good, market_id, page, refuse, span
from loopback.server import Request, Routes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from loopback.mexc import Mexc
    from loopback.mexc_books import Books, Position
    from poslock.exchange.port import Leg

STOPS = Routes()
_PRIVATE = "/api/v1/private"
_STOP_PRICES = {"stop_loss": "stopLossPrice", "take_profit": "takeProfitPrice"}


@STOPS.on("POST", f"{_PRIVATE}/stoporder/place")
def place_stop(venue: Mexc, request: Request) -> Any:
    said = request.params
    prices = {kind: number(said, name, 5003) for kind, name in _STOP_PRICES.items() if said.get(name)}
    if not prices:
        refuse(5001)
    if any(price % PRICE_UNIT for price in prices.values()):
        refuse(2015)
    contracts = contracts_of(venue, said)
    with venue.books() as books:
        position = _position(books, said)
        if any(books.account.would_trigger(position.leg, kind, price) for kind, price in prices.items()):
            refuse(5003)
        if (same := _same(books, position, prices)) is not None:
            books.resize(same, contracts)
            return good(STOP + same)
        resting = [
            row for row in books.triggers("stop") if row["state"] == "open" and _leg_of(books, row) == position.leg
        ]
        for kind in prices:
            taken = sum((Decimal(row["contracts"]) for row in resting if row["family"] == kind), Decimal(0))
            if taken + contracts > position.held:
                refuse(5004)
        side = CLOSES[position.leg.side]
        asked = {kind: Asked("stop", side, reduce_only=not venue.hedge) for kind in prices}
        numbers = [books.take(position.leg, asked[kind], contracts, kind, prices[kind]) for kind in prices]
        if len(numbers) > 1:
            venue.pairs.append((numbers[0], numbers[1]))
        return good(STOP + numbers[0])


def _position(books: Books, said: Mapping[str, Any]) -> Position:
    held = [each for symbol in books.symbols() for each in books.history(symbol).positions if each.held]
    wanted = [each for each in held if str(each.position_id) == str(said.get("positionId"))]
    return wanted[0] if wanted else refuse(2009)


def _same(books: Books, position: Position, prices: Mapping[str, Decimal]) -> int | None:
    """The order there is already with these very prices."""
    for rows in _stops(books):
        there = {row["family"]: Decimal(row["trigger_price"]) for row in rows}
        if rows[0]["state"] == "open" and there == prices and _leg_of(books, rows[0]) == position.leg:
            return int(rows[0]["order_id"])
    return None


def _stops(books: Books) -> list[list[sqlite3.Row]]:
    """The paper orders of each TP/SL order."""
    first = {second: first for first, second in books.venue.pairs}
    grouped: dict[int, list[sqlite3.Row]] = {}
    for row in books.triggers("stop"):
        grouped.setdefault(first.get(row["order_id"], row["order_id"]), []).insert(0, row)
    return list(grouped.values())


def _leg_of(books: Books, row: sqlite3.Row) -> Leg:
    return books.account.order(row["order_id"]).leg


@STOPS.on("GET", f"{_PRIVATE}/stoporder/list/orders")
def stops(venue: Mexc, request: Request) -> Any:
    said, times = request.params, span(request, venue.clock_ms())
    with venue.books() as books:
        rows = [_stop(books, each) for each in _stops(books)]
    wanted = [row for row in rows if row["createTime"] in times and said.get("symbol") in {None, row["symbol"]}]
    for name, field in (("is_finished", "isFinished"), ("state", "state"), ("type", "positionType")):
        if name in said:
            wanted = [row for row in wanted if str(row[field]) == str(said[name])]
    return good(page(request, wanted))


@STOPS.on("GET", f"{_PRIVATE}/stoporder/open_orders")
def open_stops(venue: Mexc, request: Request) -> Any:
    """With those that have ended: the venue's own sample shows one."""
    with venue.books() as books:
        rows = [_stop(books, each) for each in _stops(books)]
    return good([row for row in rows if request.params.get("symbol") in {None, row["symbol"]}])


@STOPS.on("POST", f"{_PRIVATE}/stoporder/change_plan_price")
def change_stop(venue: Mexc, request: Request) -> Any:
    said = request.params
    prices = {kind: number(said, name, 5003) for kind, name in _STOP_PRICES.items() if said.get(name)}
    if not prices:
        refuse(5001)
    if any(price % PRICE_UNIT for price in prices.values()):
        refuse(2015)
    with venue.books() as books:
        live = {str(STOP + rows[0]["order_id"]): rows for rows in _stops(books) if rows[0]["state"] == "open"}
        rows = live.get(str(said.get("stopPlanOrderId"))) or refuse(5002)
        if any(books.account.would_trigger(_leg_of(books, rows[0]), kind, price) for kind, price in prices.items()):
            refuse(5003)
        for row in rows:
            if row["family"] in prices:
                books.move(row["order_id"], prices[row["family"]])
    return good()


@STOPS.on("POST", f"{_PRIVATE}/stoporder/cancel")
def cancel_stops(venue: Mexc, request: Request) -> Any:
    if not isinstance(request.params, list) or len(request.params) > 50:
        refuse(600)
    with venue.books() as books:
        live = {str(STOP + rows[0]["order_id"]): rows for rows in _stops(books) if rows[0]["state"] == "open"}
        wanted = [live.get(str(each.get("stopPlanOrderId"))) for each in request.params]
        books.cancel(row["order_id"] for rows in wanted if rows for row in rows)
    if None in wanted:
        refuse(5002)
    return good()


@STOPS.on("POST", f"{_PRIVATE}/stoporder/cancel_all")
def cancel_all_stops(venue: Mexc, request: Request) -> Any:
    said = request.params
    with venue.books() as books:
        leg = _position(books, said).leg if said.get("positionId") else None
        for row in books.triggers("stop"):
            if leg in {None, _leg_of(books, row)} and said.get("symbol") in {None, "", market_id(row["symbol"])}:
                books.cancel([row["order_id"]])
    return good()


def _stop(books: Books, rows: list[sqlite3.Row]) -> dict[str, Any]:
    row = next((row for row in rows if row["filled"] != "0"), rows[0])
    state, prices = books.trigger_state(row), {each["family"]: Decimal(each["trigger_price"]) for each in rows}
    leg, contracts = books.account.order(row["order_id"]).leg, Decimal(row["contracts"])
    position, triggered = books.history(leg.symbol).held(leg.side), state == TRIGGERED
    return {
        "id": STOP + rows[0]["order_id"],
        "orderId": "0",
        "symbol": market_id(leg.symbol),
        "positionId": str(position.position_id if position else 0),
        "lossTrend": 1,
        "profitTrend": 1,
        **{name: prices.get(kind, 0) for kind, name in _STOP_PRICES.items()},
        "state": state,
        "triggerSide": (1 if row["family"] == "take_profit" else 2) if triggered else 0,
        "positionType": 1 if leg.side == "long" else 2,
        "vol": contracts,
        "realityVol": Decimal(row["filled"]),
        "placeOrderId": str(CHILD + row["order_id"]) if triggered else "0",
        "errorCode": 0,
        "version": 1,
        "isFinished": int(row["state"] != "open"),
        "priceProtect": 0,
        "profitLossVolType": "SAME" if len(rows) > 1 else "SEPARATE",
        "takeProfitVol": contracts if "take_profit" in prices else 0,
        "stopLossVol": contracts if "stop_loss" in prices else 0,
        "volType": 1,
        "takeProfitReverse": 2,
        "stopLossReverse": 2,
        "createTime": row["created_ms"],
        "updateTime": row["created_ms"],
    }
