"""What MEXC tells everybody, and the little of its spot side that ccxt wants of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback.mexc_words import PRICE_UNIT, good, market_id
from loopback.server import Reply, Request, Routes

if TYPE_CHECKING:
    from loopback.mexc import Mexc

PUBLIC = Routes()
_CONTRACT, _SPOT = "/api/v1/contract", "/api/v3"


@PUBLIC.on("GET", f"{_CONTRACT}/ping", signed=False)
def ping(venue: Mexc, request: Request) -> Any:
    return good(venue.clock_ms())


@PUBLIC.on("GET", f"{_CONTRACT}/detail", signed=False)
def detail(venue: Mexc, request: Request) -> Any:
    if "symbol" in request.params:
        return good(_detail(venue, venue.symbol(request.params["symbol"])))
    return good([_detail(venue, symbol) for symbol in venue.symbols.values()])


@PUBLIC.on("GET", f"{_CONTRACT}/ticker", signed=False)
def ticker(venue: Mexc, request: Request) -> Any:
    if "symbol" in request.params:
        return good(_ticker(venue, venue.symbol(request.params["symbol"])))
    with venue.books() as books:
        priced = [symbol for symbol in books.symbols() if market_id(symbol) in venue.symbols]
    return good([_ticker(venue, symbol) for symbol in priced])


@PUBLIC.on("GET", f"{_CONTRACT}/fair_price/{{symbol}}", signed=False)
def fair_price(venue: Mexc, request: Request, symbol: str) -> Any:
    price = venue.price(venue.symbol(symbol))
    return good({"symbol": symbol, "fairPrice": price, "timestamp": venue.clock_ms()})


@PUBLIC.on("GET", f"{_CONTRACT}/index_price/{{symbol}}", signed=False)
def index_price(venue: Mexc, request: Request, symbol: str) -> Any:
    price = venue.price(venue.symbol(symbol))
    return good({"symbol": symbol, "indexPrice": price, "timestamp": venue.clock_ms()})


@PUBLIC.on("GET", f"{_CONTRACT}/funding_rate/{{symbol}}", signed=False)
def funding_rate(venue: Mexc, request: Request, symbol: str) -> Any:
    venue.symbol(symbol)
    limits = {"fundingRate": 0.0001, "maxFundingRate": 0.001, "minFundingRate": -0.001, "collectCycle": 8}
    settles_ms = (venue.clock_ms() // 28_800_000 + 1) * 28_800_000
    return good({"symbol": symbol, **limits, "nextSettleTime": settles_ms, "timestamp": venue.clock_ms()})


@PUBLIC.on("GET", f"{_CONTRACT}/depth/{{symbol}}", signed=False)
def depth(venue: Mexc, request: Request, symbol: str) -> Any:
    level = [[venue.price(venue.symbol(symbol)), 1000, 1]]
    return good({"asks": level, "bids": level, "version": 1, "timestamp": venue.clock_ms()})


@PUBLIC.on("GET", f"{_SPOT}/ping", signed=False)
def spot_ping(venue: Mexc, request: Request) -> Any:
    return {}


@PUBLIC.on("GET", f"{_SPOT}/time", signed=False)
def spot_time(venue: Mexc, request: Request) -> Any:
    return {"serverTime": venue.clock_ms()}


@PUBLIC.on("GET", f"{_SPOT}/exchangeInfo", signed=False)
def spot_markets(venue: Mexc, request: Request) -> Any:
    return {"timezone": "CST", "serverTime": venue.clock_ms(), "rateLimits": [], "exchangeFilters": [], "symbols": []}


@PUBLIC.on("GET", f"{_SPOT}/capital/config/getall")
def spot_currencies(venue: Mexc, request: Request) -> Any:
    return Reply(200, "[]")


@PUBLIC.on("GET", f"{_SPOT}/apiKeyInfo")
def key(venue: Mexc, request: Request) -> Any:
    access = request.params.get("accessKey")
    said = {"note": "test", "accessKey": access, "permissions": ",".join(venue.rights), "createTime": 1609992674000}
    return {**said, "remainingValidity": 82, "ipWhiteList": "", "status": "VALID"}


def _detail(venue: Mexc, symbol: str) -> dict[str, Any]:
    base, quote = market_id(symbol).split("_")
    return {
        "symbol": market_id(symbol),
        "displayName": market_id(symbol),
        "displayNameEn": f"{market_id(symbol)} SWAP",
        "positionOpenType": 3,
        "baseCoin": base,
        "quoteCoin": quote,
        "settleCoin": quote,
        "contractSize": venue.contract_size,
        "minLeverage": 1,
        "maxLeverage": 125,
        "priceScale": 2,
        "volScale": 0,
        "amountScale": 4,
        "priceUnit": PRICE_UNIT,
        "volUnit": venue.vol_unit,
        "minVol": venue.vol_unit,
        "maxVol": venue.largest,
        "bidLimitPriceRate": 0.1,
        "askLimitPriceRate": 0.1,
        "takerFeeRate": 0.0005,
        "makerFeeRate": 0.0002,
        "state": 0,
        "apiAllowed": True,
    }


def _ticker(venue: Mexc, symbol: str) -> dict[str, Any]:
    price = venue.price(symbol)
    return {
        "symbol": market_id(symbol),
        "lastPrice": price,
        "bid1": price,
        "ask1": price,
        "volume24": 0,
        "amount24": 0,
        "holdVol": 0,
        "lower24Price": price,
        "high24Price": price,
        "riseFallRate": 0,
        "riseFallValue": 0,
        "indexPrice": price,
        "fairPrice": venue.mark or price,
        "fundingRate": 0.0001,
        "timestamp": venue.clock_ms(),
    }
