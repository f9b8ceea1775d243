"""A spot account on this machine, at Binance or at MEXC, whose APIs are alike; what is not is in a table.

Where the documentation is silent, attributes say what the venue does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from loopback.connections import KEYS
from loopback.samples import refusals
from loopback.server import Loopback, Reply, Request, Routes
from loopback.spot_books import CONDITIONAL, Books
from loopback.spot_orders import ORDERS
from loopback.spot_rows import currencies, described
from loopback.swaps import plain

if TYPE_CHECKING:
    import os

_API = "/api/v3"
PUBLIC = Routes()
PUBLIC.says(f"{_API}/time", lambda venue: {"serverTime": venue.clock_ms()}, signed=False)
PUBLIC.says(f"{_API}/account", lambda venue: {"accountType": "SPOT", "canTrade": True, "balances": currencies(venue)})
PUBLIC.says("/api/v1/contract/detail", lambda venue: {"success": True, "code": 0, "data": []}, signed=False)
SYMBOLS = ("BTC/USDT", "ETH/USDT", "BTC/USDC", "ETH/BTC", *(f"COIN{number}/USDT" for number in range(10)))


@PUBLIC.on("GET", f"{_API}/exchangeInfo", signed=False)
def exchange_info(venue: SpotVenue, request: Request) -> Any:
    symbols = [described(venue, each) for each in venue.symbols.values()]
    return {"timezone": "UTC", "serverTime": venue.clock_ms(), "symbols": symbols}


@PUBLIC.on("GET", f"{_API}/ticker/price", signed=False)
def ticker(venue: SpotVenue, request: Request) -> Any:
    symbol = venue.symbol(request)
    return {"symbol": request.params["symbol"], "price": plain(venue.books.prices[symbol])}


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
    rights += ["SPOT_DEAL_WRITE"] * venue.rights["trades"] + ["SPOT_WITHDRAW_WRITE"] * venue.rights["withdraws"]
    return {"permissions": ",".join(rights), "status": "VALID"}


@dataclass(frozen=True, slots=True)
class Way:
    """What is a venue's own."""

    key_header: str
    kinds: frozenset[str]
    client_id: re.Pattern[str]
    page: int


_PLAIN = frozenset({"LIMIT", "MARKET", "LIMIT_MAKER"})
WAYS = {
    "binance": Way("x-mbx-apikey", _PLAIN | CONDITIONAL, re.compile(r"[.A-Z:/a-z0-9_-]{1,36}"), 1000),
    "mexc": Way("x-mexc-apikey", _PLAIN, re.compile(r"[A-Za-z0-9_-]{1,32}"), 100),
}


class SpotVenue(Loopback):
    """The account, in its ``books``; the paper account of a `Loopback` is there for its clock.

    ``denies`` is for how many seconds a new order is not found by its ids; ``duplicates`` is what MEXC does with a
    client order id that is known: ``"refused"``, answered with the first order (``"silent"``), or ``"taken"``;
    ``page`` is how many trades are told at most, and ``page_keeps`` which end of them; ``newest_first`` is how MEXC
    tells them; ``rights`` is what the key may do, None where that is not told. Binance counts an id among open orders
    only.
    """

    routes: ClassVar[Routes] = Routes(PUBLIC, ORDERS)
    options: ClassVar[dict[str, Any]] = {"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False}
    numbers_are_text = True
    tick, step, smallest, most = Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), Decimal(9000)

    def __init__(self, path: str | os.PathLike[str], *, name: str) -> None:
        super().__init__(path)
        self.name, self.way = name, WAYS[name]
        self.client_ids = self.way.client_id  # type: ignore[misc]  # it is the class's elsewhere
        # Of a price off the tick, the documentation of MEXC has no code of its own.
        self.words = refusals("spot", table=f"{name} refusals", status=400)
        self.books = Books(self.clock_ms)
        self.symbols = {symbol.replace("/", ""): symbol for symbol in SYMBOLS}
        self.denies = 0.0
        self.duplicates = "refused"
        self.page, self.page_keeps = self.way.page, "oldest"
        self.newest_first = name == "mexc"
        self.rights: dict[str, Any] | None = {"trades": True, "withdraws": False}

    def client(self, **config: Any) -> Any:
        return super().client(kind=self.name, **config)

    def refusal(self, what: Any, words: str = "") -> Reply:
        code, usual, status = self.words[what]
        extra = {"_extend": None} if self.name == "mexc" else {}
        return Reply(status, {"code": code, "msg": words or usual, **extra})

    def symbol(self, request: Request) -> str:
        """ccxt's name of the market that is asked about, which must exist."""
        said = request.params.get("symbol")
        return self.symbols[said] if said in self.symbols else self.refuse("symbol")

    def admit(self, request: Request) -> None:
        self.judge_query(request, self.way.key_header)
