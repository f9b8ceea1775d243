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

# What a venue refuses: its code, its words, and its status if that is not 400.
BINANCE: dict[str, tuple[Any, ...]] = {
    "key": (-2015, "Invalid API-key, IP, or permissions for action.", 401),
    "time": (-1021, "Timestamp for this request is outside of the recvWindow."),
    "window": (-1131, "recvWindow must be less than 60000"),
    "signature": (-1022, "Signature for this request is not valid."),
    "symbol": (-1121, "Invalid symbol."),
    "missing": (-1102, "Mandatory parameter was not sent, was empty/null, or malformed."),
    "combination": (-1128, "Combination of optional parameters invalid."),
    "hours": (-1127, "More than 24 hours between startTime and endTime."),
    "kind": (-1116, "Invalid orderType."),
    "lot": (-1013, "Filter failure: LOT_SIZE"),
    "tick": (-1013, "Filter failure: PRICE_FILTER"),
    "worth": (-1013, "Filter failure: NOTIONAL"),
    "short": (-2010, "Account has insufficient balance for requested action."),
    "duplicate": (-2010, "Duplicate order sent."),
    "triggered": (-2010, "Stop price would trigger immediately."),
    "unknown order": (-2011, "Unknown order sent."),
    "no order": (-2013, "Order does not exist."),
}
MEXC: dict[str, tuple[Any, ...]] = {
    "key": (10072, "Api key info invalid"),
    "time": (700003, "Timestamp for this request is outside of the recvWindow."),
    "window": (700005, "recvWindow must less than 60000"),
    "signature": (700002, "Signature for this request is not valid."),
    "symbol": (-1121, "Invalid symbol."),
    "missing": (700004, "Param must be sent, but was empty/null"),
    "past": (400, "The start time cannot be earlier than one month"),
    "kind": (30041, "current order type can not place order"),
    "lot": (10096, "amount decimal places is too long"),
    "tick": (33333, "param error"),  # its documentation has no code of its own for it
    "worth": (30002, "The minimum transaction volume cannot be less than :5USDT"),
    "short": (30005, "Oversold"),
    "duplicate": (30099, "a code that is documented nowhere"),
    "unknown order": (-2011, "Unknown order sent."),
    "no order": (-2013, "Order does not exist."),
}


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
    row = sample(
        "spot",
        "order",
        {"symbol": asked.symbol.replace("/", ""), "orderId": order_id(venue, asked), "orderListId": asked.list_number},
        {"price": plain(asked.price), "origQty": plain(asked.quantity), "executedQty": plain(asked.filled)},
        dict.fromkeys(("time", "updateTime"), at_ms),
        clientOrderId=asked.client_id or (f"web_{asked.number}" if venue.name == "binance" else None),
        status=status,
        type=asked.kind,
        side=asked.side,
        stopPrice=plain(asked.trigger) if asked.kind in CONDITIONAL else "0.0",
    )
    return {**row, "trailingDelta": asked.trailing} if asked.trailing else row


def trade(venue: SpotVenue, traded: Traded) -> dict[str, Any]:
    """A trade; Binance does not name the client order id."""
    of, is_binance = traded.order, venue.name == "binance"
    row = sample(
        "spot",
        "trade",
        {"symbol": of.symbol.replace("/", ""), "orderId": order_id(venue, of), "orderListId": of.list_number},
        {
            "price": plain(traded.price),
            "qty": plain(traded.quantity),
            "quoteQty": plain(traded.price * traded.quantity),
        },
        id=traded.number if is_binance else f"{traded.number}X1",
        commission=plain(traded.fee),
        commissionAsset=traded.fee_asset,
        time=moment_ms(venue, traded.number, traded.at_ms),
        isBuyer=of.side == "BUY",
    )
    return row if is_binance else {**row, "clientOrderId": of.client_id}
