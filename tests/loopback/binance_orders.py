"""The orders of a Binance account: plain ones, and the conditional ones of the algo service."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.binance_rows import CONDITIONAL, algo, asked_of, is_algo, is_true, order
from loopback.server import Routes
from loopback.swaps import leg_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from loopback.swaps import Account
    from poslock.exchange.port import Leg

ORDERS = Routes()


@ORDERS.on("POST", "/fapi/v1/order")
def new_order(books: Account, said: dict[str, Any]) -> Any:
    venue, kind = books.venue, said.get("type")
    if kind in CONDITIONAL:
        venue.refuse(-4120)
    if kind not in {"MARKET", "LIMIT"}:
        venue.refuse(-1116)
    symbol, is_market = venue.symbol(said.get("symbol")), kind == "MARKET"
    contracts = venue.size(said.get("quantity"), largest=venue.largest if is_market else venue.most)
    price = books.price(symbol) if is_market else venue.on_tick(said.get("price"))
    asked = _asked(books, said, "newClientOrderId")
    leg, reducing = _leg(symbol, asked)
    _judge(books, leg, contracts, price, reducing=reducing)
    number = books.enter(leg, "order", contracts, asked, reducing=reducing, client_id=asked["client id"])
    if is_market:
        books.fill(number)
    row = order(venue, _row(books, number))
    # What a market order did is told to those who ask for it.
    return row if said.get("newOrderRespType") == "RESULT" else {**row, "status": "NEW", "executedQty": "0"}


@ORDERS.on("GET", "/fapi/v1/order")
def query_order(books: Account, said: dict[str, Any]) -> Any:
    row = _plain(books, said)
    return order(books.venue, row) if books.shown(row) else books.venue.refuse(-2013)


@ORDERS.on("DELETE", "/fapi/v1/order")
def cancel_order(books: Account, said: dict[str, Any]) -> Any:
    return order(books.venue, _cancelled(books, _plain(books, said, denial=-2011)))


@ORDERS.on("GET", "/fapi/v1/openOrders")
def open_orders(books: Account, said: dict[str, Any]) -> Any:
    return _open(books, order, algos=False)


@ORDERS.on("POST", "/fapi/v1/algoOrder")
def new_algo(books: Account, said: dict[str, Any]) -> Any:
    venue, kind = books.venue, str(said.get("type"))
    if said.get("algoType") != "CONDITIONAL":
        venue.refuse(-1102)
    if kind not in CONDITIONAL:
        venue.refuse(-1116)
    symbol, family = venue.symbol(said.get("symbol")), CONDITIONAL[kind]
    trigger = None if kind == "TRAILING_STOP_MARKET" else venue.on_tick(said.get("triggerPrice"), "trigger")
    asked = _asked(books, said, "clientAlgoId")
    whole = is_true(asked, "closePosition")
    if whole and ("quantity" in said or "reduceOnly" in said):
        venue.refuse(-4137)
    leg, reducing = _leg(symbol, asked)
    contracts = Decimal(10**6) if whole else venue.size(said.get("quantity"))
    falls, by_mark = (family == "stop_loss") == (said["side"] == "SELL"), said.get("workingType") == "MARK_PRICE"
    if trigger is not None and books.triggers_at_once(symbol, trigger, falls=falls, by_mark=by_mark):
        venue.refuse(-2021)
    name = asked["client id"]
    number = books.enter(leg, family, contracts, asked, reducing=reducing, client_id=name, trigger=trigger)
    row = algo(venue, _row(books, number))
    return {name: value for name, value in row.items() if name not in {"actualOrderId", "actualPrice"}}


@ORDERS.on("GET", "/fapi/v1/algoOrder")
def query_algo(books: Account, said: dict[str, Any]) -> Any:
    row = _algo(books, said, denial=-2013)
    return algo(books.venue, row) if books.shown(row) else books.venue.refuse(-2013)


@ORDERS.on("DELETE", "/fapi/v1/algoOrder")
def cancel_algo(books: Account, said: dict[str, Any]) -> Any:
    row = algo(books.venue, _cancelled(books, _algo(books, said, denial=-2011)))
    return {"algoId": row["algoId"], "clientAlgoId": row["clientAlgoId"], "code": "200", "msg": "success"}


@ORDERS.on("GET", "/fapi/v1/openAlgoOrders")
def open_algos(books: Account, said: dict[str, Any]) -> Any:
    return _open(books, algo, algos=True)


@ORDERS.on("GET", "/fapi/v1/allAlgoOrders")
def all_algos(books: Account, said: dict[str, Any]) -> Any:
    rows = books.rows("symbol = ? AND family <> 'order'", books.venue.symbol(said.get("symbol")))
    return [algo(books.venue, row) for row in rows[: books.venue.limit(said, 500, 1000)]][::-1]


def _asked(books: Account, said: dict[str, Any], name: str) -> dict[str, Any]:
    """What is asked for, with the client order id, if it all fits the account."""
    venue = books.venue
    client_id = venue.client_id(said.get(name)) or f"made-up-{len(venue.asked)}"
    if said.get("side") not in {"BUY", "SELL"}:
        venue.refuse(-1117)
    if said.get("positionSide", "BOTH") not in ({"LONG", "SHORT"} if venue.hedge else {"BOTH"}):
        venue.refuse(-4061)
    if venue.hedge and "reduceOnly" in said:
        venue.refuse(-1106)
    # Among open orders an id is unique; one that has ended may come again.
    if any(asked_of(venue, row)["client id"] == client_id for row in books.rows("state = 'open'")):
        venue.refuse(-4116)
    return {**said, "client id": client_id}


def _leg(symbol: str, asked: dict[str, Any]) -> tuple[Leg, bool]:
    """The leg that an order is about, and whether it only takes from it."""
    reducing = is_true(asked, "reduceOnly") or is_true(asked, "closePosition")
    if "positionSide" in asked and asked["positionSide"] != "BOTH":
        reducing = (asked["positionSide"] == "LONG") == (asked["side"] == "SELL")
    return leg_of(symbol, asked["side"], reduces=reducing), reducing


def _judge(books: Account, leg: Leg, contracts: Decimal, price: Decimal, *, reducing: bool) -> None:
    venue, held = books.venue, books.held(leg)
    if not reducing:
        if price * contracts < venue.least_worth:
            venue.refuse("worth")
        return
    if not held:
        venue.refuse(-2022)
    if venue.hedge and contracts > held:
        venue.refuse(-2024)
    if venue.blocks is not None and books.frozen(leg) >= held:
        venue.refuse(venue.blocks)


def _plain(books: Account, said: dict[str, Any], denial: int = -2013) -> sqlite3.Row:
    """An order of the book by either id; by the client's the newest one."""
    names, venue = {"orderId": "orderId", "clientOrderId": "origClientOrderId"}, books.venue
    if not set(names.values()) & set(said):
        venue.refuse(-1102)
    rows = books.rows("symbol = ? AND (family = 'order' OR filled <> '0')", venue.symbol(said.get("symbol")))
    return next((row for row in rows if _is_named(order(venue, row), said, names)), None) or venue.refuse(denial)


def _algo(books: Account, said: dict[str, Any], denial: int) -> sqlite3.Row:
    names, venue = {"algoId": "algoId", "clientAlgoId": "clientAlgoId"}, books.venue
    if not set(names) & set(said):
        venue.refuse(-1102)
    rows = books.rows("family <> 'order'")
    return next((row for row in rows if _is_named(algo(venue, row), said, names)), None) or venue.refuse(denial)


def _is_named(shown: dict[str, Any], said: dict[str, Any], names: dict[str, str]) -> bool:
    return any(str(shown[field]) == said.get(name) for field, name in names.items())


def _cancelled(books: Account, row: sqlite3.Row) -> sqlite3.Row:
    if row["state"] != "open":
        books.venue.refuse(-2011)
    books.venue.cancelled.add(row["order_id"])
    books.cancel(str(row["order_id"]))
    return _row(books, row["order_id"])


def _open(books: Account, shown: Callable[..., dict[str, Any]], *, algos: bool) -> list[dict[str, Any]]:
    symbol = books.venue.symbol(books.said["symbol"]) if "symbol" in books.said else None
    rows = books.rows("state = 'open' AND (symbol = ? OR ?)", symbol, symbol is None)
    return [shown(books.venue, row) for row in reversed(rows) if is_algo(row) is algos and books.shown(row)]


def _row(books: Account, number: int) -> sqlite3.Row:
    return books.rows("order_id = ?", number)[0]
