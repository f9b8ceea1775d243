"""A Bybit unified account on this machine, category linear. Where the documentation is silent, attributes decide."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import ccxt
import ccxt.async_support

from loopback.bybit_account import ACCOUNT
from loopback.bybit_orders import ORDERS
from loopback.bybit_rows import Asked, market_id, refusal, refuse
from loopback.server import KEYS, Loopback, Reply, Request, Routes
from poslock.errors import OrderRefused
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from poslock.exchange.matching import Matching

SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", *(f"COIN{number}/USDT:USDT" for number in range(50)))
RATE_LIMITED = refusal(10006)
BANNED = Reply(403, "<html><body>403 Forbidden</body></html>", {"Content-Type": "text/html"})
_AHEAD_MS = 1000


def client_at(url: str, *, asynchronous: bool = False, **config: Any) -> Any:
    """A real ccxt client of the venue at *url*; its markets are not loaded yet."""
    module = ccxt.async_support if asynchronous else ccxt
    options = {"fetchMarkets": {"types": ["linear"]}, **config.pop("options", {})}
    keys = {name: KEYS[name] for name in ("apiKey", "secret")}
    client = module.bybit({**keys, "enableRateLimit": False, "options": options, **config})
    client.has["fetchCurrencies"] = False
    client.urls["api"] = {"public": url, "private": url}
    return client


class Bybit(Loopback):
    """The account.

    ``largest`` is the most that one market order takes; ``status`` is the account's (5: unified); ``forgets`` leaves
    orders that have ended to the order history, as a restart of the venue does; ``permissions`` is what the key may do.
    Limit orders rest until they are cancelled, trailing orders are in ``trailing``; ``executions`` are rows of what no
    paper account does.
    """

    routes: ClassVar[Routes] = Routes(ORDERS, ACCOUNT)

    def __init__(
        self, path: str | os.PathLike[str], *, hedge: bool = False, largest: str = "100", **settings: Any
    ) -> None:
        super().__init__(path, hedge=hedge, **settings)
        self.hedge, self.largest = hedge, Decimal(largest)
        self.mark: Decimal | None = None  # what it says that the mark price is; the book triggers by its own
        self.status = 5
        self.forgets = False
        self.permissions = {"ContractTrade": ["Order", "Position"], "Wallet": ["AccountTransfer"]}
        self.symbols = {market_id(symbol): symbol for symbol in SYMBOLS}
        self.asked: dict[int, Asked] = {}
        self.trailing: list[dict[str, Any]] = []
        self.executions: list[dict[str, Any]] = []

    def client(self, *, asynchronous: bool = False, **config: Any) -> Any:
        """A real ccxt client of this venue."""
        return client_at(self.url, asynchronous=asynchronous, **config)

    @contextmanager
    def account(self) -> Iterator[Matching]:
        """The books in one transaction."""
        with self.book._account() as account:
            yield account

    def fund(self, symbol: str, rate: str) -> None:
        """Pay funding at *rate*: a long pays, and a short receives, while it is above zero."""
        with self.account() as account:
            worth = account.price(symbol) * Decimal(rate)
            for side, sign in (("long", -1), ("short", 1)):
                if held := account.held(Leg(symbol, side)):  # type: ignore[arg-type]
                    account.pay_funding(symbol, side if self.hedge else None, sign * held * worth)  # type: ignore[arg-type]

    def symbol(self, request: Request) -> str:
        """ccxt's name of the market that is asked about, which must exist and be linear."""
        if request.params.get("category") != "linear":
            refuse(10001)
        said = request.params.get("symbol")
        return self.symbols[said] if said in self.symbols else refuse(10001)

    def admit(self, request: Request) -> None:
        """Judge key, time and signature of a request."""
        names = ("api-key", "timestamp", "recv-window", "sign")
        key, stamp, window, signature = (request.headers.get(f"x-bapi-{name}", "") for name in names)
        if key != KEYS["apiKey"]:
            refuse(10003)
        if not (stamp.isdecimal() and window.isdecimal()):
            refuse(10001)
        if not self.clock_ms() - int(window) <= int(stamp) < self.clock_ms() + _AHEAD_MS:
            refuse(10002)
        said = request.query if request.method == "GET" else request.body.decode()
        expected = hmac.new(KEYS["secret"].encode(), (stamp + key + window + said).encode(), hashlib.sha256)
        if not hmac.compare_digest(expected.hexdigest(), signature):
            refuse(10004)

    def raised(self, error: Exception) -> Reply:
        if isinstance(error, OrderRefused):  # of the book, which has no such market
            return refusal(10001)
        return super().raised(error)
