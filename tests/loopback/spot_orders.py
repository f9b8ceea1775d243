"""Orders and trades of a spot account: sent, found, cancelled, listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback.rules import DAY_MS
from loopback.server import Request, Routes
from loopback.spot_books import CONDITIONAL, Short
from loopback.spot_rows import moment_ms, order, order_id, trade

if TYPE_CHECKING:
    from decimal import Decimal

    from loopback.spot import SpotVenue
    from loopback.spot_books import Asked

ORDERS = Routes()
_API = "/api/v3"


@ORDERS.on("POST", f"{_API}/order")
def new_order(venue: SpotVenue, request: Request) -> Any:
    symbol, said = venue.symbol(request), request.params
    if said.get("type") not in venue.way.kinds or said.get("side") not in {"BUY", "SELL"}:
        venue.refuse("kind")
    client_id = venue.client_id(said.get("newClientOrderId"))
    is_market = said["type"] == "MARKET"
    quantity = venue.size(said.get("quantity"), largest=venue.books.largest if is_market else venue.most)
    prices = {each: venue.on_tick(said[each]) for each in ("price", "stopPrice") if each in said}
    if quantity * next(iter(prices.values()), venue.books.prices[symbol]) < venue.least_worth:
        venue.refuse("worth")
    known = [each for each in venue.books.orders if client_id and each.client_id == client_id]
    if venue.name == "binance":
        known = [each for each in known if each.rests]
    if known and venue.duplicates == "refused":
        venue.refuse("duplicate")
    if known and venue.duplicates == "silent":
        return _taken(venue, known[0], said)
    return _taken(venue, _entered(venue, symbol, quantity, prices, said), said)


def _entered(
    venue: SpotVenue, symbol: str, quantity: Decimal, prices: dict[str, Decimal], said: dict[str, Any]
) -> Asked:
    kind, names = said["type"], {"price": "price", "stopPrice": "trigger"}
    more: dict[str, Any] = {names[each]: price for each, price in prices.items()}
    if venue.books.would_trigger(symbol, kind, prices.get("stopPrice")):
        venue.refuse("triggered")
    more |= {"client_id": said.get("newClientOrderId"), "trailing": int(said.get("trailingDelta", 0))}
    try:
        entered = venue.books.enter(symbol, said["side"], kind, quantity, **more)
    except Short:
        venue.refuse("short")
    if kind == "MARKET":
        venue.books.execute(entered)
    return entered


def _taken(venue: SpotVenue, asked: Asked, said: dict[str, Any]) -> dict[str, Any]:
    """What a venue answers to an order: MEXC no more than its id."""
    row = order(venue, asked)
    brief = {name: row[name] for name in ("symbol", "orderId", "orderListId")} | {"transactTime": venue.clock_ms()}
    if venue.name == "mexc":
        return {**brief, "price": row["price"], "origQty": row["origQty"]}
    wants = said.get("newOrderRespType", "ACK" if said["type"] in CONDITIONAL else "FULL")
    later = {"time", "updateTime", "isWorking"} if wants != "ACK" else row.keys() - {"clientOrderId"}
    return {**{name: value for name, value in row.items() if name not in later}, **brief}


@ORDERS.on("GET", f"{_API}/order")
def query_order(venue: SpotVenue, request: Request) -> Any:
    return order(venue, _found(venue, request, "no_order"))


@ORDERS.on("DELETE", f"{_API}/order")
def cancel_order(venue: SpotVenue, request: Request) -> Any:
    found = _found(venue, request, "unknown_order")
    if not found.rests:
        venue.refuse("unknown_order")
    venue.books.cancel(found)
    return order(venue, found)


def _found(venue: SpotVenue, request: Request, refusal: str) -> Asked:
    """The newest order with the id that is asked about."""
    symbol, said = venue.symbol(request), request.params
    by_venue, by_client = said.get("orderId"), said.get("origClientOrderId")
    if by_venue is None and by_client is None:
        venue.refuse("missing")
    for each in reversed(venue.books.orders):
        is_it = by_client == each.client_id if by_venue is None else by_venue == str(order_id(venue, each))
        if each.symbol == symbol and is_it and venue.clock_ms() - each.created_ms >= venue.denies * 1000:
            return each
    return venue.refuse(refusal)


@ORDERS.on("GET", f"{_API}/openOrders")
def open_orders(venue: SpotVenue, request: Request) -> Any:
    symbol = venue.symbol(request)
    return [order(venue, each) for each in venue.books.orders if each.rests and each.symbol == symbol]


@ORDERS.on("GET", f"{_API}/myTrades")
def my_trades(venue: SpotVenue, request: Request) -> Any:
    symbol, said = venue.symbol(request), request.params
    most = min(venue.limit(said, venue.way.page, 1000), venue.page)
    since, until = (int(said[each]) if each in said else None for each in ("startTime", "endTime"))
    judge = _binance_window if venue.name == "binance" else _mexc_window
    keeps = judge(venue, said, since, until)
    told = [each for each in venue.books.trades if each.order.symbol == symbol]
    told = [each for each in told if each.number >= int(said.get("fromId", 0))]
    times = {each.number: moment_ms(venue, each.number, each.at_ms) for each in told}
    told = [each for each in told if (since or 0) <= times[each.number] <= (10**15 if until is None else until)]
    rows = [trade(venue, each) for each in (told[-most:] if keeps == "newest" else told[:most])]
    return rows[::-1] if venue.newest_first else rows


def _binance_window(venue: SpotVenue, said: dict[str, Any], since: int | None, until: int | None) -> str:
    if "fromId" in said and (since is not None or until is not None):
        venue.refuse("combination")
    if since is not None and until is not None and until - since > DAY_MS:
        venue.refuse("hours")
    return "oldest" if since is not None or "fromId" in said else "newest"


def _mexc_window(venue: SpotVenue, said: dict[str, Any], since: int | None, until: int | None) -> str:
    if since is None or until is None:
        venue.refuse("missing")
    if since < venue.clock_ms() - 30 * DAY_MS:
        venue.refuse("past")
    return venue.page_keeps
