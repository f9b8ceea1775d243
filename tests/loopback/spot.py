"""A spot account on this machine, at Binance or at MEXC, whose APIs are alike; what is not is in a table.

Where the documentation is silent, attributes say what the venue does.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import ccxt
import ccxt.async_support

from loopback.server import KEYS, Loopback, Refused, Reply, Request, Routes
from loopback.spot_books import CONDITIONAL, Books
from loopback.spot_orders import ORDERS
from loopback.spot_public import PUBLIC
from loopback.spot_rows import order_id

if TYPE_CHECKING:
    import os

    from loopback.spot_books import Asked

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BTC/USDC", "ETH/BTC", *(f"COIN{number}/USDT" for number in range(10)))
_WINDOW_MS, _LONGEST_WINDOW_MS, _AHEAD_MS = 5000, 60_000, 1000

# What a venue refuses: its code, its words, and its status if that is not 400.
_BINANCE: dict[str, tuple[Any, ...]] = {
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
_MEXC: dict[str, tuple[Any, ...]] = {
    "key": (10072, "Api key info invalid"),
    "time": (700003, "Timestamp for this request is outside of the recvWindow."),
    "window": (700005, "recvWindow must less than 60000"),
    "signature": (700002, "Signature for this request is not valid."),
    "symbol": (-1121, "Invalid symbol."),
    "missing": (700004, "Param must be sent, but was empty/null"),
    "past": (400, "The start time cannot be earlier than one month"),
    "kind": (30041, "current order type can not place order"),
    "lot": (10096, "amount decimal places is too long"),
    "worth": (30002, "The minimum transaction volume cannot be less than :5USDT"),
    "short": (30005, "Oversold"),
    "duplicate": (30099, "a code that is documented nowhere"),
    "unknown order": (-2011, "Unknown order sent."),
    "no order": (-2013, "Order does not exist."),
}


@dataclass(frozen=True, slots=True)
class Way:
    """What is a venue's own."""

    key_header: str
    refusals: dict[str, tuple[Any, ...]]
    kinds: frozenset[str]
    client_id: re.Pattern[str]
    page: int


_PLAIN = frozenset({"LIMIT", "MARKET", "LIMIT_MAKER"})
WAYS = {
    "binance": Way("x-mbx-apikey", _BINANCE, _PLAIN | CONDITIONAL, re.compile(r"[.A-Z:/a-z0-9_-]{1,36}"), 1000),
    "mexc": Way("x-mexc-apikey", _MEXC, _PLAIN, re.compile(r"[A-Za-z0-9_-]{1,32}"), 100),
}


def client_at(url: str, *, name: str, asynchronous: bool = False, **config: Any) -> Any:
    """A real ccxt client of the venue at *url*; its markets are not loaded yet."""
    module = ccxt.async_support if asynchronous else ccxt
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchMargins": False, **config.pop("options", {})}
    keys = {each: KEYS[each] for each in ("apiKey", "secret")}
    client = getattr(module, name)({**keys, "enableRateLimit": False, "options": options, **config})
    client.has["fetchCurrencies"] = False
    client.urls["api"] = _at(url, client.urls["api"])
    return client


def _at(url: str, address: Any) -> Any:
    if isinstance(address, dict):
        return {name: _at(url, each) for name, each in address.items()}
    return url + "".join(f"/{part}" for part in address.split("/")[3:])


class SpotVenue(Loopback):
    """The account, in its ``books``; the paper account of a `Loopback` is there for its clock.

    ``denies`` is for how many seconds a new order is not found by its ids; ``duplicates`` is what MEXC does with a
    client order id that is known: ``"refused"``, answered with the first order (``"silent"``), or ``"taken"``;
    ``page`` is how many trades are told at most, and ``page_keeps`` which end of them; ``newest_first`` is how MEXC
    tells them; ``rights`` is what the key may do, None where that is not told. Binance counts an id among open orders
    only.
    """

    routes: ClassVar[Routes] = Routes(PUBLIC, ORDERS)

    def __init__(self, path: str | os.PathLike[str], *, name: str) -> None:
        super().__init__(path)
        self.name, self.way = name, WAYS[name]
        self.books = Books(self.clock_ms)
        self.symbols = {symbol.replace("/", ""): symbol for symbol in SYMBOLS}
        self.denies = 0.0
        self.duplicates = "refused"
        self.page, self.page_keeps = self.way.page, "oldest"
        self.newest_first = name == "mexc"
        self.rights: dict[str, Any] | None = {"trades": True, "withdraws": False}

    def client(self, *, asynchronous: bool = False, **config: Any) -> Any:
        """A real ccxt client of this venue."""
        return client_at(self.url, name=self.name, asynchronous=asynchronous, **config)

    def refusal(self, what: str) -> Reply:
        code, words, *status = self.way.refusals[what]
        extra = {"_extend": None} if self.name == "mexc" else {}
        return Reply(status[0] if status else 400, {"code": code, "msg": words, **extra})

    def refuse(self, what: str) -> NoReturn:
        raise Refused(self.refusal(what))

    def symbol(self, request: Request) -> str:
        """ccxt's name of the market that is asked about, which must exist."""
        said = request.params.get("symbol")
        return self.symbols[said] if said in self.symbols else self.refuse("symbol")

    def admit(self, request: Request) -> None:
        """Judge key, time and signature of a request."""
        said, _, signature = (request.query or request.body.decode()).rpartition("&signature=")
        stamp, window = (str(request.params.get(each, "")) for each in ("timestamp", "recvWindow"))
        if request.headers.get(self.way.key_header) != KEYS["apiKey"]:
            self.refuse("key")
        if not stamp.isdecimal():
            self.refuse("missing")
        if int(window or _WINDOW_MS) > _LONGEST_WINDOW_MS:
            self.refuse("window")
        age_ms = self.clock_ms() - int(stamp)
        if age_ms > int(window or _WINDOW_MS) or age_ms <= -_AHEAD_MS:
            self.refuse("time")
        expected = hmac.new(KEYS["secret"].encode(), said.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            self.refuse("signature")

    def found(self, request: Request, refusal: str) -> Asked:
        """The newest order with the id that is asked about."""
        symbol, params = self.symbol(request), request.params
        if not {"orderId", "origClientOrderId"} & set(params):
            self.refuse("missing")
        for each in reversed(self.books.orders):
            by_venue, by_client = params.get("orderId"), params.get("origClientOrderId")
            is_it = by_venue == str(order_id(self, each)) or (by_venue is None and by_client == each.client_id)
            is_denied = self.clock_ms() - each.created_ms < self.denies * 1000
            if each.symbol == symbol and is_it and not is_denied:
                return each
        return self.refuse(refusal)
