"""Bybit's orders: taken, looked up, listed and cancelled."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.bybit_rows import Asked, good, index_of, number_of, order, order_id, page, refuse
from loopback.server import Request, Routes
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3

    from loopback.bybit import Bybit
    from poslock.exchange.matching import Matching
    from poslock.position import Side

ORDERS = Routes()
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_STEP, _TICK = Decimal("0.001"), Decimal("0.1")
_RISES, _FALLS = 1, 2


@ORDERS.on("POST", "/v5/order/create")
def create(venue: Bybit, request: Request) -> Any:
    symbol, said = venue.symbol(request), request.params
    client_id, contracts = said.get("orderLinkId"), Decimal(said["qty"])
    if contracts <= 0 or contracts % _STEP or (client_id is not None and not _CLIENT_ID.fullmatch(client_id)):
        refuse(10001)
    if any(Decimal(said[name]) % _TICK for name in ("price", "triggerPrice") if name in said):
        refuse(10001)
    side = {"Buy": "buy", "Sell": "sell"}[said["side"]]
    reduces = said.get("reduceOnly") is True
    leg = Leg(symbol, "long" if (side == "sell") == reduces else "short")
    if said.get("positionIdx", 0) != index_of(venue, leg.side):
        refuse(10001, "position idx not match position mode")
    with venue.account() as account:
        if client_id is not None and account.order_by_client_id(client_id):
            refuse(110072)
        if reduces and not account.held(leg):
            refuse(110017)
        number = _taken(venue, account, leg, said, contracts)
    return good(venue, {"orderId": order_id(number), "orderLinkId": client_id or ""})


def _taken(venue: Bybit, account: Matching, leg: Leg, said: dict[str, Any], contracts: Decimal) -> int:
    kind, trigger = _trigger(venue, account, leg, said)
    reduces, is_limit = said.get("reduceOnly") is True, said["orderType"] == "Limit"
    at_once = trigger is None and not is_limit
    if trigger is not None and contracts > venue.largest:
        refuse(10001)
    if at_once and contracts > venue.largest and not reduces:
        refuse(10001)
    first = min(contracts, venue.largest) if at_once else contracts
    client_id = said.get("orderLinkId")
    number = account.insert(leg, kind, first, reducing=reduces, client_order_id=client_id, trigger_price=trigger)
    price = Decimal(said["price"]) if is_limit else Decimal(0)
    venue.asked[number] = Asked(said["orderType"], "Stop" if trigger is not None else "", price)
    if at_once:
        account.execute(number, at_most=venue.book._liquidity)
    if first < contracts:  # it splits what only reduces, into orders that are nobody's
        _taken(venue, account, leg, {**said, "orderLinkId": None}, contracts - first)
    return number


def _trigger(venue: Bybit, account: Matching, leg: Leg, said: dict[str, Any]) -> tuple[str, Decimal | None]:
    if "triggerPrice" not in said:
        return "order", None
    trigger, falls = Decimal(said["triggerPrice"]), {_RISES: False, _FALLS: True}[said["triggerDirection"]]
    if said.get("triggerBy") not in {"LastPrice", "MarkPrice"}:
        refuse(10001)
    price = (said["triggerBy"] == "MarkPrice" and venue.mark) or account.price(leg.symbol)
    if (trigger >= price) if falls else (trigger <= price):
        refuse(110093 if falls else 110092)
    return "stop_loss" if falls == (said["side"] == "Sell") else "take_profit", trigger


@ORDERS.on("POST", "/v5/order/cancel")
def cancel(venue: Bybit, request: Request) -> Any:
    symbol, said = venue.symbol(request), request.params
    trailing = [row for row in venue.trailing if row["orderId"] == said.get("orderId")]
    with venue.account() as account:
        found = [] if trailing else _orders(account, "symbol = ? AND order_id = ?", symbol, number_of(said["orderId"]))
        if not found and not trailing:
            refuse(110001)
        for row in found:
            if row["state"] != "open":
                refuse(110010 if row["state"] == "canceled" else 110008)
            account.cancel(str(row["order_id"]))
    for each in trailing:
        venue.trailing.remove(each)
    return good(venue, {"orderId": said["orderId"], "orderLinkId": ""})


@ORDERS.on("GET", "/v5/order/realtime")
def realtime(venue: Bybit, request: Request) -> Any:
    symbol, client_id = venue.symbol(request), request.params.get("orderLinkId")
    with venue.account() as account:
        if client_id is None:
            rows = _orders(account, "symbol = ? AND state = 'open'", symbol)
        else:
            rows = _orders(account, "client_order_id = ? AND (state = 'open' OR ?)", client_id, not venue.forgets)
    trailing = [row for row in venue.trailing if client_id is None and venue.symbols[row["symbol"]] == symbol]
    return page(venue, request, [*(order(venue, row) for row in rows), *trailing], usual=20, most=50)


@ORDERS.on("GET", "/v5/order/history")
def history(venue: Bybit, request: Request) -> Any:
    client_id = request.params["orderLinkId"]
    with venue.account() as account:
        rows = _orders(account, "client_order_id = ? AND state <> 'open'", client_id)
    return page(venue, request, [order(venue, row) for row in rows], usual=20, most=50)


@ORDERS.on("POST", "/v5/position/trading-stop")
def trading_stop(venue: Bybit, request: Request) -> Any:
    symbol, said = venue.symbol(request), request.params
    with venue.account() as account:
        sides: tuple[Side, ...] = ("long", "short")
        legs = [Leg(symbol, side) for side in sides if account.held(Leg(symbol, side))]
        of_index = [leg for leg in legs if index_of(venue, leg.side) == said["positionIdx"]]
        if not of_index:
            refuse(10001)
        leg = of_index[0]
        for kind, name in (("stop_loss", "stopLoss"), ("take_profit", "takeProfit")):
            if name in said:
                account.insert(leg, kind, account.held(leg), trigger_price=Decimal(said[name]))
        if "trailingStop" in said:
            venue.trailing.append(_trailing(venue, request, leg, account.held(leg)))
    return good(venue, {})


def _trailing(venue: Bybit, request: Request, leg: Leg, contracts: Decimal) -> dict[str, Any]:
    return {
        "orderId": f"trailing-{len(venue.trailing)}-{venue.clock_ms()}",
        "orderLinkId": "",
        "symbol": request.params["symbol"],
        "qty": format(contracts, "f"),
        "side": {"long": "Sell", "short": "Buy"}[leg.side],
        "positionIdx": index_of(venue, leg.side),
        "orderStatus": "Untriggered",
        "cumExecQty": "0",
        "orderType": "Market",
        "stopOrderType": "TrailingStop",
        "triggerPrice": "0.00",
        "triggerDirection": 0,
        "reduceOnly": True,
        "closeOnTrigger": True,
    }


def _orders(account: Matching, where: str, *values: object) -> list[sqlite3.Row]:
    """Orders, the latest first."""
    return account._db.execute(f"SELECT * FROM orders WHERE {where} ORDER BY order_id DESC", values).fetchall()
