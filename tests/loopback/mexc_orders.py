"""MEXC's endpoints about plain orders and their executions."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, ORDER, Asked, Books
from loopback.mexc_rows import deal, order, order_id
from loopback.mexc_words import WORDS, good, page, refuse
from loopback.server import Routes

if TYPE_CHECKING:
    import sqlite3

    from poslock.exchange.port import Leg

ORDERS = Routes()
_PRIVATE = "/api/v1/private"
_LIMIT, _POST_ONLY, _MARKET = 1, 2, 5


@ORDERS.on("POST", f"{_PRIVATE}/order/create")
def create(books: Books, said: dict[str, Any]) -> Any:
    venue, kind, oid = books.venue, said.get("type", 0), books.venue.client_id(said.get("externalOid"))
    if kind not in range(1, 7):
        refuse(2029)
    contracts = venue.size(said.get("vol"))
    if oid and (known := books.rows("client_order_id = ?", oid)):
        if venue.refuses_duplicates:
            refuse(2042)
        return good({"orderId": order_id(known[0]), "ts": known[0]["created_ms"]})
    leg, side, reducing = books.terms()
    price = Decimal(0) if kind >= _MARKET else venue.on_tick(said.get("price"))
    asked = Asked("order", side, kind, price, oid or "", said.get("reduceOnly") is True)
    if reducing:
        contracts = _closable(books, leg, contracts)
    taken = books.take(leg, asked, contracts, "order")
    [row] = books.rows("order_id = ?", taken)
    reached = books.reaches(leg.symbol, row["side"], asked)
    if reached and kind != _POST_ONLY:
        books.fill(taken)
    elif reached or kind not in {_LIMIT, _POST_ONLY}:
        books.cancel(str(taken))
    return good({"orderId": order_id(row), "ts": row["created_ms"]})


def _closable(books: Books, leg: Leg, contracts: Decimal) -> Decimal:
    """What of *contracts* an order may take off *leg*."""
    said, held, position = books.said, books.held(leg), books.history(leg.symbol).held(leg.side)
    if position is None or str(said.get("positionId") or position.position_id) != str(position.position_id):
        refuse(2043)
    if books.venue.book._blocks_covered and books.resting(leg) >= held:
        refuse(7005)
    free = held - books.frozen(leg)
    if said.get("reduceOnly") is True and free:
        return min(contracts, free)
    return contracts if contracts <= free else refuse(2008)


def _numbered(books: Books, said: object) -> sqlite3.Row | None:
    """The plain order with this id."""
    number = int(str(said)) if str(said).isdecimal() else 0
    for base, where in ((CHILD, "family <> 'order' AND filled <> '0'"), (ORDER, "family = 'order'")):
        if number > base:
            return next(iter(books.rows(f"order_id = ? AND {where}", number - base)), None)
    return None


def _external(books: Books, symbol: str, oid: str) -> sqlite3.Row | None:
    """The order with this client order id, unless the venue does not show it yet."""
    rows = books.rows("client_order_id = ? AND symbol = ?", oid, books.venue.symbol(symbol))
    return next((row for row in rows if books.shown(row)), None)


@ORDERS.on("GET", f"{_PRIVATE}/order/external/{{symbol}}/{{oid}}")
def external(books: Books, said: dict[str, Any], symbol: str, oid: str) -> Any:
    return _found(books, _external(books, symbol, oid))


@ORDERS.on("GET", f"{_PRIVATE}/order/get/{{number}}")
def get(books: Books, said: dict[str, Any], number: str) -> Any:
    return _found(books, _numbered(books, number))


def _found(books: Books, row: sqlite3.Row | None) -> Any:
    if row is not None:
        return good(order(books, row))
    return good(None) if books.venue.answers_null else refuse(2040)


@ORDERS.on("POST", f"{_PRIVATE}/order/batch_query_with_external")
def several(books: Books, said: list[dict[str, str]]) -> Any:
    found = [_external(books, each["symbol"], each["externalOid"]) for each in said]
    return good([order(books, row) for row in found if row])


@ORDERS.on("GET", f"{_PRIVATE}/order/deal_details/{{number}}")
def deal_details(books: Books, said: dict[str, Any], number: str) -> Any:
    row = _numbered(books, number)
    fills = books.told("fills.order_id = ?", row["order_id"]) if row else []
    return good([deal(books, fill) for fill in fills])


@ORDERS.on("GET", f"{_PRIVATE}/order/list/order_deals/v3")
def order_deals(books: Books, said: dict[str, Any]) -> Any:
    times, symbol = books.span(), books.venue.symbol(said.get("symbol"))
    fills = books.told("fills.symbol = ? AND at_ms BETWEEN ? AND ?", symbol, times.start, times.stop - 1)
    return good([deal(books, fill) for fill in page(books, fills, 1000)])


@ORDERS.on("GET", f"{_PRIVATE}/order/list/open_orders")
def open_orders(books: Books, said: dict[str, Any]) -> Any:
    return good([order(books, row) for row in page(books, books.rows("state = 'open' AND family = 'order'"))])


@ORDERS.on("POST", f"{_PRIVATE}/order/cancel")
def cancel(books: Books, said: Any) -> Any:
    if not isinstance(said, list) or len(said) > 50:
        refuse(600)
    return good([_cancelled(books, _numbered(books, each), each) for each in said])


@ORDERS.on("POST", f"{_PRIVATE}/order/batch_cancel_with_external")
def cancel_with_external(books: Books, said: list[dict[str, Any]]) -> Any:
    rows = [_external(books, each["symbol"], each["externalOid"]) for each in said]
    return good([_cancelled(books, row, order_id(row) if row else 0) for row in rows])


def _cancelled(books: Books, row: sqlite3.Row | None, said: object) -> dict[str, Any]:
    code = 2040 if row is None else 0 if row["state"] == "open" and row["family"] == "order" else 2041
    if row is not None and not code:
        books.cancel(str(row["order_id"]))
    number = int(str(said)) if str(said).isdecimal() else said
    return {"orderId": number, "errorCode": code, "errorMsg": WORDS[code].words if code else "success"}


@ORDERS.on("POST", f"{_PRIVATE}/order/cancel_all")
def cancel_all(books: Books, said: dict[str, Any]) -> Any:
    rows = [row for symbol in books.markets() for row in books.rows("state = 'open' AND symbol = ?", symbol)]
    books.cancel_all(row["order_id"] for row in rows if row["family"] == "order")
    return good()


@ORDERS.on("POST", f"{_PRIVATE}/order/open_order_total_count")
def total_count(books: Books, said: dict[str, Any]) -> Any:
    families = [books.asked(row).family for row in books.rows("state = 'open'")]
    live = sum(track["state"] in {0, 1} for track in books.venue.tracks)
    limit, stop, plan = (families.count(family) for family in ("order", "stop", "plan"))
    counts = {"limitOrderCount": limit, "stopOrderCount": stop, "planOrderCount": plan, "trackOrderCount": live}
    return good({"sumCount": sum(counts.values()), **counts})
