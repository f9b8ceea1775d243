"""How the two spot venues put things: their codes, markets, balances, orders, trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback.samples import sample
from loopback.spot_books import CONDITIONAL
from loopback.swaps import plain

if TYPE_CHECKING:
    from loopback.spot import SpotVenue
    from loopback.spot_books import Asked, Traded

_FIRST_ORDER = 9_000


def described(venue: SpotVenue, symbol: str) -> dict[str, Any]:
    """A market, as ``exchangeInfo`` has it."""
    base, _, quote = symbol.partition("/")
    names = {"symbol": base + quote, "baseAsset": base, "quoteAsset": quote}
    step, least, largest = (plain(each) for each in (venue.step, venue.least_worth, venue.books.largest))
    if venue.name == "mexc":
        return sample("spot", "mexc market", names, baseSizePrecision=step, quoteAmountPrecisionMarket=least)
    notional = {"minNotional": least, "applyMinToMarket": True, "maxNotional": "9000000"}
    off = {"minQty": "0.00000000", "stepSize": "0.00000000"}
    tick = {"minPrice": plain(venue.tick), "maxPrice": "1000000", "tickSize": plain(venue.tick)}
    filters = [
        {"filterType": "PRICE_FILTER", **tick},
        {"filterType": "LOT_SIZE", "minQty": step, "stepSize": step, "maxQty": plain(venue.most)},
        {"filterType": "MARKET_LOT_SIZE", **off, "maxQty": largest},
        {"filterType": "NOTIONAL", **notional, "applyMaxToMarket": False, "avgPriceMins": 5},
    ]
    return sample("spot", "binance market", names, filters=filters, orderTypes=sorted(venue.way.kinds))


def currencies(venue: SpotVenue) -> list[dict[str, str]]:
    """The balances; both venues tell more than one asks about."""
    books = venue.books
    held = sorted(asset for asset, total in books.totals.items() if total)
    return [{"asset": each, "free": plain(books.free(each)), "locked": plain(books.locked(each))} for each in held]


def order_id(venue: SpotVenue, asked: Asked) -> Any:
    return _FIRST_ORDER + asked.number if venue.name == "binance" else f"C02__{_FIRST_ORDER + asked.number}"


def moment_ms(venue: SpotVenue, number: int, at_ms: int) -> int:
    """A time as the venue tells it: MEXC in whole seconds, of which some are rounded up and some down."""
    if venue.name == "binance":
        return at_ms
    return at_ms // 1000 * 1000 if number % 2 else -(-at_ms // 1000) * 1000


def order(venue: SpotVenue, asked: Asked) -> dict[str, Any]:
    """An order, as it is told of later."""
    status = asked.status
    if venue.name == "mexc" and status in {"EXPIRED", "CANCELED"}:
        status = "PARTIALLY_CANCELED" if asked.filled else "CANCELED"
    # What rests has milliseconds.
    at_ms = asked.created_ms if asked.rests else moment_ms(venue, asked.number, asked.created_ms)
    by_venue = f"web_{asked.number}" if venue.name == "binance" else None
    ids = {"orderId": order_id(venue, asked), "orderListId": asked.list_number, "symbol": asked.symbol.replace("/", "")}
    of = {"clientOrderId": asked.client_id or by_venue, "status": status, "type": asked.kind, "side": asked.side}
    sizes = {"price": plain(asked.price), "origQty": plain(asked.quantity), "executedQty": plain(asked.filled)}
    times = dict.fromkeys(("time", "updateTime"), at_ms)
    trigger = plain(asked.trigger) if asked.kind in CONDITIONAL else "0.0"
    row = sample("spot", "order", ids, of, sizes, times, stopPrice=trigger)
    return {**row, "trailingDelta": asked.trailing} if asked.trailing else row


def trade(venue: SpotVenue, traded: Traded) -> dict[str, Any]:
    """A trade; Binance does not name the client order id."""
    of, is_binance = traded.order, venue.name == "binance"
    ids = {"id": traded.number if is_binance else f"{traded.number}X1", "orderId": order_id(venue, of)}
    ids |= {"symbol": of.symbol.replace("/", ""), "orderListId": of.list_number, "isBuyer": of.side == "BUY"}
    sizes = {
        "price": plain(traded.price),
        "qty": plain(traded.quantity),
        "quoteQty": plain(traded.price * traded.quantity),
    }
    cost = {"commission": plain(traded.fee), "commissionAsset": traded.fee_asset}
    row = sample("spot", "trade", ids, sizes, cost, time=moment_ms(venue, traded.number, traded.at_ms))
    return row if is_binance else {**row, "clientOrderId": of.client_id}
