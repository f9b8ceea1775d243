"""Orders and trades of a spot account: sent, found, cancelled, listed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.server import Request, Routes
from loopback.spot_books import CONDITIONAL, LEAST_WORTH, STEP, Short
from loopback.spot_rows import moment_ms, order, rest_of_order, trade

if TYPE_CHECKING:
    from loopback.spot import SpotVenue
    from loopback.spot_books import Asked

ORDERS = Routes()
DAY_MS = 86_400_000
_TICK = Decimal("0.01")
_API = "/api/v3"


@ORDERS.on("POST", f"{_API}/order")
def new_order(venue: SpotVenue, request: Request) -> Any:
    symbol, params = venue.symbol(request), request.params
    kind, side, client_id = params.get("type"), params.get("side"), params.get("newClientOrderId")
    if kind not in venue.way.kinds or side not in {"BUY", "SELL"}:
        venue.refuse("kind")
    if client_id is not None and not venue.way.client_id.fullmatch(client_id):
        venue.refuse("missing")
    quantity = _amount(venue, symbol, params)
    known = [each for each in venue.books.orders if client_id and each.client_id == client_id]
    if venue.name == "binance":
        known = [each for each in known if each.rests]
    if known and venue.duplicates == "refused":
        venue.refuse("duplicate")
    if known and venue.duplicates == "silent":
        return _taken(venue, known[0], params)
    return _taken(venue, _entered(venue, symbol, quantity, params), params)


def _entered(venue: SpotVenue, symbol: str, quantity: Decimal, params: dict[str, Any]) -> Asked:
    kind, trigger = params["type"], Decimal(params.get("stopPrice", 0))
    if kind in CONDITIONAL and trigger and venue.books.would_trigger(symbol, kind, trigger):
        venue.refuse("triggered")
    more = {"price": Decimal(params.get("price", 0)), "trigger": trigger}
    try:
        entered = venue.books.enter(
            symbol,
            params["side"],
            kind,
            quantity,
            client_id=params.get("newClientOrderId"),
            trailing=int(params.get("trailingDelta", 0)),
            **more,
        )
    except Short:
        venue.refuse("short")
    if kind == "MARKET":
        venue.books.execute(entered)
    return entered


def _amount(venue: SpotVenue, symbol: str, params: dict[str, Any]) -> Decimal:
    """The size of an order that the market's rules let through."""
    if not re.fullmatch(r"\d+(\.\d+)?", params.get("quantity", "")):
        venue.refuse("missing")
    quantity = Decimal(params["quantity"])
    if quantity <= 0 or quantity % STEP or (params["type"] == "MARKET" and quantity > venue.books.largest):
        venue.refuse("lot")
    prices = [params[each] for each in ("price", "stopPrice") if each in params]
    if venue.name == "binance" and any(Decimal(each) % _TICK for each in prices):
        venue.refuse("tick")
    if quantity * Decimal(prices[0] if prices else venue.books.prices[symbol]) < LEAST_WORTH:
        venue.refuse("worth")
    return quantity


def _taken(venue: SpotVenue, asked: Asked, params: dict[str, Any]) -> dict[str, Any]:
    """What a venue answers to an order: MEXC no more than its id."""
    row = order(venue, asked)
    brief = {name: row[name] for name in ("symbol", "orderId", "orderListId")}
    if venue.name == "mexc":
        return {**brief, "price": row["price"], "origQty": row["origQty"], "transactTime": venue.clock_ms()}
    wants = params.get("newOrderRespType", "ACK" if params["type"] in CONDITIONAL else "FULL")
    acknowledged = {**brief, "clientOrderId": row["clientOrderId"], "transactTime": venue.clock_ms()}
    return acknowledged if wants == "ACK" else {**acknowledged, **rest_of_order(row)}


@ORDERS.on("GET", f"{_API}/order")
def query_order(venue: SpotVenue, request: Request) -> Any:
    return order(venue, venue.found(request, "no order"))


@ORDERS.on("DELETE", f"{_API}/order")
def cancel_order(venue: SpotVenue, request: Request) -> Any:
    found = venue.found(request, "unknown order")
    if not found.rests:
        venue.refuse("unknown order")
    venue.books.cancel(found)
    return order(venue, found)


@ORDERS.on("GET", f"{_API}/openOrders")
def open_orders(venue: SpotVenue, request: Request) -> Any:
    symbol = venue.symbol(request)
    return [order(venue, each) for each in venue.books.orders if each.rests and each.symbol == symbol]


@ORDERS.on("GET", f"{_API}/myTrades")
def my_trades(venue: SpotVenue, request: Request) -> Any:
    symbol, params = venue.symbol(request), dict(request.params)
    since, until = (int(params[each]) if each in params else None for each in ("startTime", "endTime"))
    told = [each for each in venue.books.trades if each.order.symbol == symbol]
    if venue.name == "binance":
        keeps = _binance_window(venue, params, since, until)
    else:
        keeps = _mexc_window(venue, since, until)
    told = [each for each in told if each.number >= int(params.get("fromId", 0))]
    times = {each.number: moment_ms(venue, each.number, each.at_ms) for each in told}
    told = [
        each for each in told if (since or 0) <= times[each.number] and (until is None or times[each.number] <= until)
    ]
    most = min(int(params.get("limit", venue.page)), venue.page)
    told = told[-most:] if keeps == "newest" else told[:most]
    rows = [trade(venue, each) for each in told]
    return rows[::-1] if venue.newest_first else rows


def _binance_window(venue: SpotVenue, params: dict[str, Any], since: int | None, until: int | None) -> str:
    if "fromId" in params and (since is not None or until is not None):
        venue.refuse("combination")
    if since is not None and until is not None and until - since > DAY_MS:
        venue.refuse("hours")
    return "oldest" if since is not None or "fromId" in params else "newest"


def _mexc_window(venue: SpotVenue, since: int | None, until: int | None) -> str:
    if since is None or until is None:
        venue.refuse("missing")
    if since < venue.clock_ms() - 30 * DAY_MS:
        venue.refuse("past")
    return venue.page_keeps
