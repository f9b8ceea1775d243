"""Bybit's orders: taken, looked up, listed and cancelled."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.bybit_rows import OPENED, SIDES, good, index_of, number_of, order, order_id, page
from loopback.samples import sample
from loopback.server import Routes
from loopback.swaps import SIDES as LEGS
from loopback.swaps import leg_of, plain
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from loopback.swaps import Account

ORDERS = Routes()
_RISES, _FALLS = 1, 2


@ORDERS.on("POST", "/v5/order/create")
def create(books: Account, said: dict[str, Any]) -> Any:
    venue = books.venue
    symbol, client_id = venue.market(said), venue.client_id(said.get("orderLinkId"))
    reduces = said.get("reduceOnly") is True
    if said["side"] not in SIDES.values() or said["orderType"] not in {"Market", "Limit"}:
        venue.refuse(10001)
    at_once = said["orderType"] == "Market" and "triggerPrice" not in said
    contracts = venue.size(said["qty"], largest=venue.most if at_once and reduces else None)
    price = venue.on_tick(said["price"]) if said["orderType"] == "Limit" else books.price(symbol)
    if not reduces and contracts * price < venue.least_worth:
        venue.refuse("worth")
    leg = leg_of(symbol, said["side"], reduces=reduces)
    if said.get("positionIdx", 0) != index_of(venue, leg.side):
        venue.refuse(10001, "position idx not match position mode")
    if client_id is not None and books.order_by_client_id(client_id):
        venue.refuse(110072)
    if reduces and not books.held(leg):
        venue.refuse(110017)
    kind, trigger = _trigger(books, symbol, said)
    number = None
    while contracts:  # it splits what only reduces, into orders of which all but the first are nobody's
        part = min(contracts, venue.largest) if at_once else contracts
        name = client_id if number is None else None
        taken = books.enter(leg, kind, part, said, reducing=reduces, client_id=name, trigger=trigger)
        number, contracts = number or taken, contracts - part
        if at_once:
            books.fill(taken)
    return good(books, {"orderId": order_id(number or 0), "orderLinkId": client_id or ""})


def _trigger(books: Account, symbol: str, said: dict[str, Any]) -> tuple[str, Decimal | None]:
    if "triggerPrice" not in said:
        return "order", None
    venue, falls = books.venue, said["triggerDirection"] == _FALLS
    trigger = venue.on_tick(said["triggerPrice"])
    if said.get("triggerBy") not in {"LastPrice", "MarkPrice"} or said["triggerDirection"] not in {_RISES, _FALLS}:
        venue.refuse(10001)
    if books.triggers_at_once(symbol, trigger, falls=falls, by_mark=said["triggerBy"] == "MarkPrice"):
        venue.refuse(110093 if falls else 110092)
    return "stop_loss" if falls == (said["side"] == "Sell") else "take_profit", trigger


@ORDERS.on("POST", "/v5/order/cancel")
def cancel(books: Account, said: dict[str, Any]) -> Any:
    venue = books.venue
    symbol, number = venue.market(said), number_of(said["orderId"])
    trailing = [row for row in venue.trailing if row["orderId"] == said["orderId"]]
    found = [] if trailing else books.rows("symbol = ? AND order_id = ?", symbol, number)
    if not found and not trailing:
        venue.refuse(110001)
    for row in found:
        if row["state"] != "open":
            venue.refuse(110010 if row["state"] == "canceled" else 110008)
        books.cancel(str(number))
    venue.trailing = [row for row in venue.trailing if row not in trailing]
    return good(books, {"orderId": said["orderId"], "orderLinkId": ""})


@ORDERS.on("GET", "/v5/order/realtime")
def realtime(books: Account, said: dict[str, Any]) -> Any:
    venue, client_id = books.venue, said.get("orderLinkId")
    symbol = venue.market(said)
    if client_id is None:
        trailing = [row for row in venue.trailing if venue.symbols[row["symbol"]] == symbol]
        resting = books.rows("symbol = ? AND state = 'open'", symbol)
        return page(books, [*(order(venue, row) for row in resting), *trailing], usual=20, most=50)
    rows = books.rows(
        "symbol = ? AND client_order_id = ? AND (state = 'open' OR ?)", symbol, client_id, not venue.forgets
    )
    return page(books, [order(venue, row) for row in rows if books.shown(row)], usual=20, most=50)


@ORDERS.on("GET", "/v5/order/history")
def history(books: Account, said: dict[str, Any]) -> Any:
    rows = books.rows("client_order_id = ? AND state <> 'open'", said["orderLinkId"])
    return page(books, [order(books.venue, row) for row in rows if books.shown(row)], usual=20, most=50)


@ORDERS.on("POST", "/v5/position/trading-stop")
def trading_stop(books: Account, said: dict[str, Any]) -> Any:
    venue = books.venue
    legs = [Leg(venue.market(said), side) for side in LEGS if index_of(venue, side) == said["positionIdx"]]
    [leg] = [leg for leg in legs if books.held(leg)] or [venue.refuse(10001)]
    for kind, name in (("stop_loss", "stopLoss"), ("take_profit", "takeProfit")):
        if name in said:
            books.insert(leg, kind, books.held(leg), trigger_price=Decimal(said[name]))
    if "trailingStop" in said:
        number = f"trailing-{len(venue.trailing)}-{venue.clock_ms()}"
        kinds: dict[str, Any] = {"stopOrderType": "TrailingStop"}
        of = {"symbol": said["symbol"], "positionIdx": index_of(venue, leg.side), "qty": plain(books.held(leg))}
        kinds |= {"orderType": "Market", "orderStatus": "Untriggered", "reduceOnly": True, "closeOnTrigger": True}
        side = SIDES["sell" if OPENED[leg.side] == "Buy" else "buy"]
        venue.trailing.append(sample("bybit", "order", of, kinds, orderId=number, side=side))
    return good(books, {})
