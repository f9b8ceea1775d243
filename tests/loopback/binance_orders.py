"""The orders of a Binance account: plain ones, and the conditional ones of the algo service."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from loopback.binance_rows import CONDITIONAL, Asked, algo, asked_of, is_algo, order, refuse
from loopback.server import Request, Routes
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from loopback.binance import Binance
    from poslock.exchange.matching import Matching
    from poslock.position import Side

ORDERS = Routes()
_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_SIDES: dict[tuple[str, bool], Side] = {
    ("SELL", True): "long",
    ("BUY", True): "short",
    ("BUY", False): "long",
    ("SELL", False): "short",
}
_SMALLEST, _PLACES, _LEAST_NOTIONAL, _TICK = Decimal("0.001"), 3, Decimal(5), Decimal("0.1")


@ORDERS.on("POST", "/fapi/v1/order")
def new_order(venue: Binance, request: Request) -> Any:
    params, kind = request.params, request.params.get("type")
    if kind in CONDITIONAL:
        refuse(-4120)
    if kind not in {"MARKET", "LIMIT"}:
        refuse(-1116)
    symbol, contracts = venue.symbol(params.get("symbol")), _quantity(params.get("quantity"))
    if contracts > (venue.largest if kind == "MARKET" else 1000):
        refuse(-4005)
    if _number(params.get("price", 0)) % _TICK:
        refuse(-4014)
    with venue.account() as account:
        asked = _asked(venue, account, params, kind, "newClientOrderId")
        leg, reducing = _leg(params, symbol, asked)
        _judge(venue, account, leg, asked, contracts, reducing=reducing)
        number = _insert(venue, account, leg, asked, contracts, family="order", reducing=reducing)
        if kind == "MARKET":
            account.execute(number, at_most=venue.book._liquidity)
        row = order(venue, _row(account, number))
    # What a market order did is told to those who ask for it.
    return row if params.get("newOrderRespType") == "RESULT" else {**row, "status": "NEW", "executedQty": "0"}


@ORDERS.on("GET", "/fapi/v1/order")
def query_order(venue: Binance, request: Request) -> Any:
    with venue.account() as account:
        row = _plain(venue, account, request.params)
        if venue.clock_ms() - row["created_ms"] < venue.denies * 1000:
            refuse(-2013)
        return order(venue, row)


@ORDERS.on("DELETE", "/fapi/v1/order")
def cancel_order(venue: Binance, request: Request) -> Any:
    with venue.account() as account:
        row = _plain(venue, account, request.params, denial=-2011)
        _cancel(venue, account, row)
        return order(venue, _row(account, row["order_id"]))


@ORDERS.on("GET", "/fapi/v1/openOrders")
def open_orders(venue: Binance, request: Request) -> Any:
    return _open(venue, request, order, algos=False)


@ORDERS.on("POST", "/fapi/v1/algoOrder")
def new_algo(venue: Binance, request: Request) -> Any:
    params, kind = request.params, str(request.params.get("type"))
    if params.get("algoType") != "CONDITIONAL":
        refuse(-1102)
    if kind not in CONDITIONAL:
        refuse(-1116)
    symbol, family = venue.symbol(params.get("symbol")), CONDITIONAL[kind]
    trigger = None if kind == "TRAILING_STOP_MARKET" else _number(params.get("triggerPrice"))
    if trigger is not None and trigger <= 0:
        refuse(-4006)
    if trigger is not None and trigger % _TICK:
        refuse(-4014)
    with venue.account() as account:
        asked = _asked(venue, account, params, kind, "clientAlgoId")
        if asked.close_position and ("quantity" in params or "reduceOnly" in params):
            refuse(-4137)
        leg, reducing = _leg(params, symbol, asked)
        contracts = Decimal(10**6) if asked.close_position else _quantity(params.get("quantity"))
        if not asked.close_position and contracts > venue.largest:
            refuse(-4005)
        taken = leg if reducing else Leg(symbol, "short" if leg.side == "long" else "long")
        if trigger is not None and _would_trigger(venue, account, taken, asked, family, trigger):
            refuse(-2021)
        number = _insert(venue, account, leg, asked, contracts, family=family, reducing=reducing, trigger_price=trigger)
        row = algo(venue, _row(account, number))
    return {name: value for name, value in row.items() if name not in {"actualOrderId", "actualPrice"}}


@ORDERS.on("GET", "/fapi/v1/algoOrder")
def query_algo(venue: Binance, request: Request) -> Any:
    with venue.account() as account:
        row = _algo(venue, account, request.params, denial=-2013)
        if venue.clock_ms() - row["created_ms"] < venue.denies * 1000:
            refuse(-2013)
        return algo(venue, row)


@ORDERS.on("DELETE", "/fapi/v1/algoOrder")
def cancel_algo(venue: Binance, request: Request) -> Any:
    with venue.account() as account:
        row = _algo(venue, account, request.params, denial=-2011)
        _cancel(venue, account, row)
        names = algo(venue, row)
    return {"algoId": names["algoId"], "clientAlgoId": names["clientAlgoId"], "code": "200", "msg": "success"}


@ORDERS.on("GET", "/fapi/v1/openAlgoOrders")
def open_algos(venue: Binance, request: Request) -> Any:
    return _open(venue, request, algo, algos=True)


@ORDERS.on("GET", "/fapi/v1/allAlgoOrders")
def all_algos(venue: Binance, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("symbol"))
    with venue.account() as account:
        rows = [algo(venue, row) for row in _rows(account, "symbol = ?", symbol) if is_algo(row)]
    return rows[-int(request.params.get("limit", 500)) :]


def _quantity(said: Any) -> Decimal:
    amount = _number(said)
    if amount <= 0:
        refuse(-4003)
    if len(str(said).partition(".")[2]) > _PLACES:
        refuse(-1111)
    return amount if amount >= _SMALLEST else refuse(-4004)


def _number(said: Any) -> Decimal:
    try:
        return Decimal(said)
    except (InvalidOperation, TypeError):
        refuse(-1102)


def _asked(venue: Binance, account: Matching, params: dict[str, Any], kind: str, name: str) -> Asked:
    client_id = params.get(name) or f"made-up-{len(venue.asked)}"
    if not _CLIENT_ID.fullmatch(client_id):
        refuse(-4015)
    if params.get("side") not in {"BUY", "SELL"}:
        refuse(-1117)
    side = params.get("positionSide", "BOTH")
    if (side == "BOTH") is venue.hedge:
        refuse(-4061)
    if venue.hedge and "reduceOnly" in params:
        refuse(-1106)
    same_service = name == "clientAlgoId"
    for row in _rows(account, "state = 'open'"):
        if is_algo(row) is same_service and asked_of(venue, row).client_id == client_id:
            refuse(-4116)
    price, flags = Decimal(params.get("price", 0)), {"reduceOnly", "closePosition"}
    only, whole = (params.get(flag) == "true" for flag in sorted(flags, reverse=True))
    return Asked(kind, client_id, side, only, whole, price, params.get("workingType", "CONTRACT_PRICE"))


def _leg(params: dict[str, Any], symbol: str, asked: Asked) -> tuple[Leg, bool]:
    """The leg that an order is about, and whether it only takes from it."""
    if asked.position_side == "BOTH":
        reducing = asked.reduce_only or asked.close_position
    else:
        reducing = (asked.position_side == "LONG") == (params["side"] == "SELL")
    return Leg(symbol, _SIDES[params["side"], reducing]), reducing


def _judge(venue: Binance, account: Matching, leg: Leg, asked: Asked, contracts: Decimal, *, reducing: bool) -> None:
    price = asked.price or account.price(leg.symbol)
    if not reducing:
        if price * contracts < _LEAST_NOTIONAL:
            refuse(-4164)
        return
    held = account.held(leg)
    if not held:
        refuse(-2022)
    if venue.hedge and contracts > held:
        refuse(-2024)
    resting = [each for each in account.orders(leg, only_open=True) if each.family == "order"]
    if venue.blocks is not None and sum(each.contracts - each.filled for each in resting) >= held:
        refuse(venue.blocks)


def _would_trigger(venue: Binance, account: Matching, leg: Leg, asked: Asked, family: str, trigger: Decimal) -> bool:
    if asked.working_type == "MARK_PRICE" and venue.mark is not None:
        above = trigger > venue.mark
        return trigger == venue.mark or above is not ((family == "take_profit") == (leg.side == "long"))
    return account.would_trigger(leg, family, trigger)


def _insert(
    venue: Binance,
    account: Matching,
    leg: Leg,
    asked: Asked,
    contracts: Decimal,
    *,
    family: str,
    reducing: bool,
    trigger_price: Decimal | None = None,
) -> int:
    # The books take an id once; here one may come again when the order that had it has ended.
    free = account.order_by_client_id(asked.client_id) is None
    number = account.insert(
        leg,
        family,
        contracts,
        reducing=reducing,
        client_order_id=asked.client_id if free else None,
        trigger_price=trigger_price,
    )
    venue.asked[number] = asked
    return number


def _plain(venue: Binance, account: Matching, params: dict[str, Any], denial: int = -2013) -> sqlite3.Row:
    """An order of the book by either id; by the client's the newest one."""
    if not {"orderId", "origClientOrderId"} & set(params):
        refuse(-1102)
    symbol = venue.symbol(params.get("symbol"))
    for row in reversed(_rows(account, "symbol = ?", symbol)):
        is_there = not is_algo(row) or bool(Decimal(row["filled"]))
        if is_there and _is_named(order(venue, row), params, orderId="orderId", clientOrderId="origClientOrderId"):
            return row
    return refuse(denial)


def _algo(venue: Binance, account: Matching, params: dict[str, Any], denial: int) -> sqlite3.Row:
    if not {"algoId", "clientAlgoId"} & set(params):
        refuse(-1102)
    for row in reversed(_rows(account)):
        if is_algo(row) and _is_named(algo(venue, row), params, algoId="algoId", clientAlgoId="clientAlgoId"):
            return row
    return refuse(denial)


def _is_named(shown: dict[str, Any], params: dict[str, Any], **names: str) -> bool:
    return any(str(shown[field]) == params.get(name) for field, name in names.items())


def _cancel(venue: Binance, account: Matching, row: sqlite3.Row) -> None:
    if row["state"] != "open":
        refuse(-2011)
    venue.cancelled.add(row["order_id"])
    account.cancel(str(row["order_id"]))


def _open(
    venue: Binance, request: Request, shown: Callable[[Binance, sqlite3.Row], dict[str, Any]], *, algos: bool
) -> list[dict[str, Any]]:
    where, values = "state = 'open'", []
    if "symbol" in request.params:
        where, values = f"{where} AND symbol = ?", [venue.symbol(request.params["symbol"])]
    with venue.account() as account:
        found = [row for row in _rows(account, where, *values) if is_algo(row) is algos]
        recent = [row for row in found if venue.clock_ms() - row["created_ms"] < venue.denies * 1000]
        return [shown(venue, row) for row in found if row not in recent]


def _rows(account: Matching, where: str = "1", *values: object) -> list[sqlite3.Row]:
    return account._db.execute(f"SELECT * FROM orders WHERE {where} ORDER BY order_id", values).fetchall()


def _row(account: Matching, number: int) -> sqlite3.Row:
    return _rows(account, "order_id = ?", number)[0]
