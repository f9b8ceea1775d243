"""What Binance tells everybody about its markets, and what a key may do."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.binance_rows import market_id, plain
from loopback.server import Request, Routes

if TYPE_CHECKING:
    from loopback.binance import Binance

PUBLIC = Routes()


@PUBLIC.on("GET", "/fapi/v1/time", signed=False)
def server_time(venue: Binance, request: Request) -> Any:
    return {"serverTime": venue.clock_ms()}


@PUBLIC.on("GET", "/fapi/v1/exchangeInfo", signed=False)
def exchange_info(venue: Binance, request: Request) -> Any:
    return {
        "timezone": "UTC",
        "serverTime": venue.clock_ms(),
        "symbols": [_market(venue, each) for each in venue.symbols.values()],
    }


@PUBLIC.on("GET", "/fapi/v1/ticker/price", signed=False)
def ticker(venue: Binance, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("symbol"))
    with venue.account() as account:
        price = account.price(symbol)
    return {"symbol": market_id(symbol), "price": plain(price), "time": venue.clock_ms()}


@PUBLIC.on("GET", "/fapi/v1/premiumIndex", signed=False)
def premium_index(venue: Binance, request: Request) -> Any:
    price = ticker(venue, request)["price"]
    return {"symbol": request.params["symbol"], "markPrice": plain(venue.mark or Decimal(price)), "indexPrice": price}


@PUBLIC.on("GET", "/fapi/v1/fundingRate", signed=False)
def funding_rate(venue: Binance, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("symbol"))
    since, until = int(request.params["startTime"]), int(request.params["endTime"])
    told = [each for each in venue.rates if each.symbol == symbol and since <= each.at_ms <= until]
    return [
        {
            "symbol": market_id(symbol),
            "fundingRate": plain(each.rate),
            "fundingTime": each.at_ms,
            "markPrice": plain(each.price),
            "rateType": "Regular",
        }
        for each in told[: int(request.params.get("limit", 100))]
    ]


@PUBLIC.on("GET", "/sapi/v1/account/apiRestrictions")
def restrictions(venue: Binance, request: Request) -> Any:
    return venue.nothing_here(request) if venue.restrictions is None else venue.restrictions


def _market(venue: Binance, symbol: str) -> dict[str, Any]:
    base = symbol.partition("/")[0]
    lots, least = {"stepSize": "0.001"}, plain(venue.smallest)
    return {
        "symbol": market_id(symbol),
        "pair": market_id(symbol),
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "10000000", "tickSize": "0.1"},
            {"filterType": "LOT_SIZE", **lots, "minQty": "0.001", "maxQty": "1000"},
            {"filterType": "MARKET_LOT_SIZE", **lots, "minQty": least, "maxQty": plain(venue.largest)},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
    }
