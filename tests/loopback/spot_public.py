"""What a spot venue tells of its markets, of a balance, and of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback.server import KEYS, Request, Routes
from loopback.spot_rows import currencies, described

if TYPE_CHECKING:
    from loopback.spot import SpotVenue

PUBLIC = Routes()
_API = "/api/v3"


@PUBLIC.on("GET", f"{_API}/time", signed=False)
def server_time(venue: SpotVenue, request: Request) -> Any:
    return {"serverTime": venue.clock_ms()}


@PUBLIC.on("GET", f"{_API}/exchangeInfo", signed=False)
def exchange_info(venue: SpotVenue, request: Request) -> Any:
    return {
        "timezone": "UTC",
        "serverTime": venue.clock_ms(),
        "symbols": [described(venue, each) for each in venue.symbols.values()],
    }


@PUBLIC.on("GET", "/api/v1/contract/detail", signed=False)
def contracts(venue: SpotVenue, request: Request) -> Any:
    """MEXC's other side, which ccxt asks too."""
    return {"success": True, "code": 0, "data": []}


@PUBLIC.on("GET", f"{_API}/ticker/price", signed=False)
def ticker(venue: SpotVenue, request: Request) -> Any:
    symbol = venue.symbol(request)
    return {"symbol": request.params["symbol"], "price": format(venue.books.prices[symbol], "f")}


@PUBLIC.on("GET", f"{_API}/account")
def account(venue: SpotVenue, request: Request) -> Any:
    return {"accountType": "SPOT", "canTrade": True, "balances": currencies(venue), "permissions": ["SPOT"]}


@PUBLIC.on("GET", "/sapi/v1/account/apiRestrictions")
def restrictions(venue: SpotVenue, request: Request) -> Any:
    if venue.rights is None:
        return venue.nothing_here(request)
    trades, withdraws = venue.rights["trades"], venue.rights["withdraws"]
    return {"enableReading": True, "enableSpotAndMarginTrading": trades, "enableWithdrawals": withdraws}


@PUBLIC.on("GET", f"{_API}/apiKeyInfo")
def key_info(venue: SpotVenue, request: Request) -> Any:
    if venue.rights is None or request.params.get("accessKey") != KEYS["apiKey"]:
        return venue.nothing_here(request)
    rights = ["SPOT_ACCOUNT_READ", "SPOT_DEAL_READ", "SPOT_WITHDRAW_READ"]
    rights += [right for right in ("SPOT_DEAL_WRITE",) if venue.rights["trades"]]
    rights += [right for right in ("SPOT_WITHDRAW_WRITE",) if venue.rights["withdraws"]]
    return {"permissions": ",".join(rights), "status": "VALID"}
