"""How the two spot venues put things: markets, balances, orders, trades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback.spot_books import CONDITIONAL, LEAST_WORTH, STEP

if TYPE_CHECKING:
    from decimal import Decimal

    from loopback.spot import SpotVenue
    from loopback.spot_books import Asked, Traded

_FIRST_ORDER = 9_000


def plain(number: Decimal) -> str:
    return format(number, "f")


def described(venue: SpotVenue, symbol: str) -> dict[str, Any]:
    """A market, as ``exchangeInfo`` has it."""
    base, _, quote = symbol.partition("/")
    names = {"symbol": base + quote, "baseAsset": base, "quoteAsset": quote, "isSpotTradingAllowed": True}
    if venue.name == "mexc":
        sizes = {"baseAssetPrecision": 5, "quoteAssetPrecision": 2, "baseSizePrecision": plain(STEP)}
        least = {"quoteAmountPrecision": "1", "quoteAmountPrecisionMarket": plain(LEAST_WORTH)}
        return {**names, **sizes, **least, "status": "1", "maxQuoteAmount": "5000000", "filters": [], "orderTypes": []}
    lots = {"minQty": plain(STEP), "stepSize": plain(STEP)}
    off = {"minQty": "0.00000000", "stepSize": "0.00000000"}
    notional = {"minNotional": plain(LEAST_WORTH), "applyMinToMarket": True, "maxNotional": "9000000"}
    return {
        **names,
        "status": "TRADING",
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": sorted(venue.way.kinds),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", **lots, "maxQty": "9000"},
            {"filterType": "MARKET_LOT_SIZE", **off, "maxQty": plain(venue.books.largest)},
            {"filterType": "NOTIONAL", **notional, "applyMaxToMarket": False, "avgPriceMins": 5},
        ],
    }


def currencies(venue: SpotVenue) -> list[dict[str, str]]:
    """The balances; both venues tell more than one asks about."""
    return [
        {"asset": asset, "free": plain(venue.books.free(asset)), "locked": plain(venue.books.locked(asset))}
        for asset in sorted(venue.books.totals)
        if venue.books.totals[asset]
    ]


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
    row = {
        "symbol": asked.symbol.replace("/", ""),
        "orderId": order_id(venue, asked),
        "orderListId": asked.list_number,
        "clientOrderId": asked.client_id or by_venue,
        "price": plain(asked.price),
        "origQty": plain(asked.quantity),
        "executedQty": plain(asked.filled),
        "cummulativeQuoteQty": "0",
        "status": status,
        "timeInForce": "GTC",
        "type": asked.kind,
        "side": asked.side,
        "time": at_ms,
        "updateTime": at_ms,
        "isWorking": True,
    }
    if asked.kind in CONDITIONAL and asked.trigger:
        row["stopPrice"] = plain(asked.trigger)
    return {**row, "trailingDelta": asked.trailing} if asked.trailing else row


def rest_of_order(row: dict[str, Any]) -> dict[str, Any]:
    """What of an order Binance answers besides that it was taken."""
    later = {"time", "updateTime", "isWorking"}
    return {name: said for name, said in row.items() if name not in later}


def trade(venue: SpotVenue, traded: Traded) -> dict[str, Any]:
    """A trade; Binance does not name the client order id."""
    is_buyer = traded.order.side == "BUY"
    row = {
        "symbol": traded.order.symbol.replace("/", ""),
        "id": traded.number if venue.name == "binance" else f"{traded.number}X1",
        "orderId": order_id(venue, traded.order),
        "orderListId": traded.order.list_number,
        "price": plain(traded.price),
        "qty": plain(traded.quantity),
        "quoteQty": plain(traded.price * traded.quantity),
        "commission": plain(traded.fee),
        "commissionAsset": traded.fee_asset,
        "time": moment_ms(venue, traded.number, traded.at_ms),
        "isBuyer": is_buyer,
        "isMaker": False,
        "isBestMatch": True,
    }
    return row if venue.name == "binance" else {**row, "clientOrderId": traded.order.client_id}
