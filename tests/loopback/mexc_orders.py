"""MEXC's endpoints about plain orders and their executions."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, CLOSES, OPENS, ORDER, REDUCES, Asked
from loopback.mexc_rows import created_ms, deal, order, order_id
from loopback.mexc_words import WORDS, good, market_id, page, refuse, span
from loopback.server import Request, Routes
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from loopback.mexc import Mexc
    from loopback.mexc_books import Books

ORDERS = Routes()
_PRIVATE = "/api/v1/private"
_LONGEST_OID = 32
_LIMIT, _POST_ONLY = 1, 2
# Triggers that became orders, too.
_PLAIN = "(family = 'order' OR filled <> '0')"


def number(said: Mapping[str, Any], name: str, code: int) -> Decimal:
    """A positive number out of a request, or the refusal *code*."""
    try:
        value = Decimal(str(said.get(name)))
    except InvalidOperation:
        refuse(code)
    if not value.is_finite() or value <= 0:
        refuse(code)
    return value


def leg_of(venue: Mexc, said: Mapping[str, Any]) -> tuple[Leg, int]:
    """The leg that an order is about, and its side; refuses what does not fit the account."""
    symbol, side = venue.symbol(said.get("symbol")), said.get("side")
    if side not in REDUCES:
        refuse(2001)
    if said.get("openType") not in {1, 2}:
        refuse(2002)
    if said.get("positionMode", venue.position_mode) != venue.position_mode:
        refuse(7002)
    if venue.hedge and "reduceOnly" in said:
        refuse(600)
    reducing = side in CLOSES.values() or said.get("reduceOnly") is True
    return Leg(symbol, REDUCES[side] if reducing else OPENS[side]), side


def contracts_of(venue: Mexc, said: Mapping[str, Any]) -> Decimal:
    contracts = number(said, "vol", 2011)
    if contracts % venue.vol_unit:
        refuse(2015)
    return contracts


def check_margin(books: Books, leg: Leg, said: Mapping[str, Any]) -> None:
    """Cross and isolated are not mixed within a leg, and isolated wants to be told its leverage."""
    if books.history(leg.symbol).held(leg.side) and said["openType"] != books.venue.open_type:
        refuse(7003)
    if said["openType"] == 1 and not said.get("leverage"):
        refuse(2006)


@ORDERS.on("POST", f"{_PRIVATE}/order/create")
def create(venue: Mexc, request: Request) -> Any:
    said = request.params
    leg, side = leg_of(venue, said)
    contracts, kind, oid = contracts_of(venue, said), said.get("type"), str(said.get("externalOid") or "")
    if contracts > venue.largest:
        refuse(2028)
    if kind not in range(1, 7):
        refuse(2029)
    if len(oid) > _LONGEST_OID:
        refuse(2030)
    price = Decimal(0) if kind >= 5 else number(said, "price", 600)
    asked = Asked("order", side, kind, price, oid, said.get("reduceOnly") is True)
    with venue.books() as books:
        if oid and (known := books.orders("client_order_id = ?", oid)):
            if venue.refuses_duplicates:
                refuse(2042)
            return good({"orderId": order_id(known[0]), "ts": known[0]["created_ms"]})
        books.price(leg.symbol)
        if side in CLOSES.values() or asked.reduce_only:
            contracts = _closable(books, leg, said, contracts)
        check_margin(books, leg, said)
        taken = books.take(leg, asked, contracts, "order")
        [row] = books.of([taken])
        if books.reaches(leg.symbol, row["side"], asked) and kind != _POST_ONLY:
            books.execute(taken)
        elif kind not in {_LIMIT, _POST_ONLY} or books.reaches(leg.symbol, row["side"], asked):
            books.cancel([taken])
        return good({"orderId": order_id(row), "ts": row["created_ms"]})


def _closable(books: Books, leg: Leg, said: Mapping[str, Any], contracts: Decimal) -> Decimal:
    """What of *contracts* an order may take off *leg*."""
    position, held = books.history(leg.symbol).held(leg.side), books.account.held(leg)
    if position is None:
        refuse(2009)
    if str(said.get("positionId") or position.position_id) != str(position.position_id):
        refuse(2043)
    if books.venue.book._blocks_covered and books.account.resting(leg) >= held:
        refuse(7005)
    free = held - books.frozen(leg)
    if said.get("reduceOnly") is True and free:
        return min(contracts, free)
    if contracts > free:
        refuse(2008)
    return contracts


def _numbered(books: Books, said: object) -> sqlite3.Row | None:
    """The plain order with this id."""
    text = str(said)
    if not text.isdecimal():
        return None
    for base, where in ((CHILD, "family <> 'order' AND filled <> '0'"), (ORDER, "family = 'order'")):
        if int(text) > base:
            found = books.orders(f"order_id = ? AND {where}", int(text) - base)
            return found[0] if found else None
    return None


def _external(books: Books, symbol: str, oid: str) -> sqlite3.Row | None:
    """The order with this client order id, unless the venue does not show it yet."""
    venue = books.venue
    for row in books.orders("client_order_id = ? AND symbol = ?", oid, venue.symbol(symbol)):
        if venue.clock_ms() - row["created_ms"] >= venue.denies * 1000:
            return row
    return None


@ORDERS.on("GET", f"{_PRIVATE}/order/external/{{symbol}}/{{oid}}")
def external(venue: Mexc, request: Request, symbol: str, oid: str) -> Any:
    with venue.books() as books:
        row = _external(books, symbol, oid)
        return good(order(books, row)) if row else _unknown(venue)


@ORDERS.on("GET", f"{_PRIVATE}/order/get/{{number}}")
def get(venue: Mexc, request: Request, number: str) -> Any:
    with venue.books() as books:
        row = _numbered(books, number)
        return good(order(books, row)) if row else _unknown(venue)


def _unknown(venue: Mexc) -> Any:
    return good(None) if venue.answers_null else refuse(2040)


@ORDERS.on("GET", f"{_PRIVATE}/order/batch_query")
def batch_query(venue: Mexc, request: Request) -> Any:
    numbers = str(request.params.get("order_ids", "")).split(",")
    with venue.books() as books:
        found = [_numbered(books, each) for each in numbers]
        return good([order(books, row) for row in found if row])


@ORDERS.on("POST", f"{_PRIVATE}/order/batch_query_with_external")
def batch_query_with_external(venue: Mexc, request: Request) -> Any:
    with venue.books() as books:
        found = [_external(books, each["symbol"], each["externalOid"]) for each in request.params]
        return good([order(books, row) for row in found if row])


@ORDERS.on("GET", f"{_PRIVATE}/order/deal_details/{{number}}")
def deal_details(venue: Mexc, request: Request, number: str) -> Any:
    with venue.books() as books:
        row = _numbered(books, number)
        fills = books.deals("fills.order_id = ?", row["order_id"]) if row else []
        return good([deal(books, fill) for fill in fills])


def _deals(venue: Mexc, request: Request, most: int) -> Any:
    times = span(request, venue.clock_ms())
    with venue.books() as books:
        symbol = venue.symbol(request.params.get("symbol"))
        fills = books.deals("fills.symbol = ? AND at_ms BETWEEN ? AND ?", symbol, times.start, times.stop - 1)
        return good([deal(books, fill) for fill in page(request, fills, most)])


@ORDERS.on("GET", f"{_PRIVATE}/order/list/order_deals")
def order_deals(venue: Mexc, request: Request) -> Any:
    return _deals(venue, request, 100)


@ORDERS.on("GET", f"{_PRIVATE}/order/list/order_deals/v3")
def order_deals_v3(venue: Mexc, request: Request) -> Any:
    return _deals(venue, request, 1000)


@ORDERS.on("GET", f"{_PRIVATE}/order/list/open_orders")
def open_orders(venue: Mexc, request: Request) -> Any:
    with venue.books() as books:
        rows = books.orders("state = 'open' AND family = 'order'")
        return good([order(books, row) for row in page(request, rows)])


@ORDERS.on("GET", f"{_PRIVATE}/order/list/open_orders/{{symbol}}")
def open_orders_of(venue: Mexc, request: Request, symbol: str) -> Any:
    with venue.books() as books:
        rows = books.orders("state = 'open' AND family = 'order' AND symbol = ?", venue.symbol(symbol))
        return good([order(books, row) for row in page(request, rows)])


@ORDERS.on("GET", f"{_PRIVATE}/order/list/history_orders")
def history_orders(venue: Mexc, request: Request) -> Any:
    said, times = request.params, span(request, venue.clock_ms())
    with venue.books() as books:
        ended = [row for row in books.orders(f"state <> 'open' AND {_PLAIN}") if created_ms(books, row) in times]
        rows = [order(books, row) for row in ended]
        wanted = [row for row in rows if said.get("symbol") in {None, row["symbol"]}]
        for name, field in (("states", "state"), ("side", "side"), ("category", "category"), ("orderId", "orderId")):
            if name in said:
                wanted = [row for row in wanted if str(row[field]) in str(said[name]).split(",")]
        wanted.sort(key=lambda row: int(row["createTime"]), reverse=True)
        return good(page(request, wanted))


@ORDERS.on("POST", f"{_PRIVATE}/order/cancel")
def cancel(venue: Mexc, request: Request) -> Any:
    if not isinstance(request.params, list) or len(request.params) > 50:
        refuse(600)
    with venue.books() as books:
        return good([_cancelled(books, _numbered(books, said), said) for said in request.params])


@ORDERS.on("POST", f"{_PRIVATE}/order/cancel_with_external")
@ORDERS.on("POST", f"{_PRIVATE}/order/batch_cancel_with_external")
def cancel_with_external(venue: Mexc, request: Request) -> Any:
    asked = request.params if isinstance(request.params, list) else [request.params]
    with venue.books() as books:
        rows = [_external(books, each["symbol"], each["externalOid"]) for each in asked]
        return good([_cancelled(books, row, order_id(row) if row else 0) for row in rows])


def _cancelled(books: Books, row: sqlite3.Row | None, said: object) -> dict[str, Any]:
    code = 2040 if row is None else 0 if row["state"] == "open" and row["family"] == "order" else 2041
    if row is not None and not code:
        books.cancel([row["order_id"]])
    text = str(said)
    return {
        "orderId": int(text) if text.isdecimal() else said,
        "errorCode": code,
        "errorMsg": WORDS[code] if code else "success",
    }


@ORDERS.on("POST", f"{_PRIVATE}/order/cancel_all")
def cancel_all(venue: Mexc, request: Request) -> Any:
    symbol = request.params.get("symbol")
    with venue.books() as books:
        rows = books.orders("state = 'open' AND family = 'order'")
        books.cancel(row["order_id"] for row in rows if not symbol or market_id(row["symbol"]) == symbol)
    return good()


@ORDERS.on("POST", f"{_PRIVATE}/order/open_order_total_count")
def total_count(venue: Mexc, request: Request) -> Any:
    with venue.books() as books:
        families = [books.asked(row).family for row in books.orders("state = 'open'")]
    live = sum(track["state"] in {0, 1} for track in venue.tracks)
    limit, stop, plan = (families.count(family) for family in ("order", "stop", "plan"))
    counts = {"limitOrderCount": limit, "stopOrderCount": stop, "planOrderCount": plan, "trackOrderCount": live}
    return good({"sumCount": sum(counts.values()), **counts})
