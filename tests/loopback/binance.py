"""A Binance USD-M futures account on this machine. Where the documentation is silent, attributes say what it does."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import ccxt
import ccxt.async_support

from loopback.binance_account import ACCOUNT
from loopback.binance_orders import ORDERS
from loopback.binance_public import PUBLIC
from loopback.binance_rows import Asked, market_id, refusal, refuse
from loopback.server import KEYS, Loopback, Reply, Request, Routes
from poslock.errors import OrderRefused
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from poslock.exchange.matching import Matching

SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", *(f"COIN{number}/USDT:USDT" for number in range(50)))
RATE_LIMITED = refusal(-1003, 429)
UNKNOWN = Reply(503, {"code": -1003, "msg": "Unknown error, please check your request or try again later."})
UNAVAILABLE = Reply(503, {"code": -1001, "msg": "Service Unavailable."})
_WINDOW_MS, _AHEAD_MS = 5000, 1000


def client_at(url: str, *, asynchronous: bool = False, kind: str = "binanceusdm", **config: Any) -> Any:
    """A real ccxt client of the venue at *url*; its markets are not loaded yet.

    *kind* is ccxt's id of it: ``"binance"`` has the same futures among other markets.
    """
    module = ccxt.async_support if asynchronous else ccxt
    options = {"fetchCurrencies": False, "fetchMarkets": {"types": ["linear"]}, **config.pop("options", {})}
    keys = {name: KEYS[name] for name in ("apiKey", "secret")}
    client = getattr(module, kind)({**keys, "enableRateLimit": False, "options": options, **config})
    client.urls["api"] = {
        name: url + "".join(f"/{part}" for part in address.split("/")[3:])
        for name, address in client.urls["api"].items()
        if isinstance(address, str)  # ccxt.pro has the addresses of its streams there too
    }
    return client


@dataclass(frozen=True, slots=True)
class Rate:
    """The funding of a market at one time."""

    symbol: str
    at_ms: int
    rate: Decimal
    price: Decimal


class Binance(Loopback):
    """The account.

    ``smallest`` and ``largest`` are what a market order may be for, as MARKET_LOT_SIZE tells; ``denies`` is for how
    many seconds an order is not found; ``blocks`` refuses reduce-only orders beyond what plain ones that rest leave
    uncovered, with that code; ``page_keeps`` says which end of a list of fills that is too long is told;
    ``nets_funding`` pays both legs in one payment; ``restrictions`` is what the key may do, None where that host is not
    there. Limit orders rest until they are cancelled, and realized profits are not told.
    """

    routes: ClassVar[Routes] = Routes(PUBLIC, ORDERS, ACCOUNT)

    def __init__(
        self, path: str | os.PathLike[str], *, hedge: bool = False, largest: str = "120", **settings: Any
    ) -> None:
        super().__init__(path, hedge=hedge, **settings)
        self.hedge, self.largest = hedge, Decimal(largest)
        self.mark: Decimal | None = None  # what it says that the mark price is; the book triggers by its own
        self.smallest = Decimal("0.001")
        self.denies = 0.0
        self.blocks: int | None = None
        self.page_keeps = "newest"
        self.nets_funding = False
        self.restrictions: dict[str, bool] | None = {
            "enableReading": True,
            "enableFutures": True,
            "enableWithdrawals": False,
            "ipRestrict": True,
        }
        self.symbols = {market_id(symbol): symbol for symbol in SYMBOLS}
        self.asked: dict[int, Asked] = {}
        self.cancelled: set[int] = set()
        self.rates: list[Rate] = []

    def client(self, *, asynchronous: bool = False, **config: Any) -> Any:
        """A real ccxt client of this venue."""
        return client_at(self.url, asynchronous=asynchronous, **config)

    @contextmanager
    def account(self) -> Iterator[Matching]:
        """The books in one transaction."""
        with self.book._account() as account:
            yield account

    def fund(self, symbol: str, rate: str) -> None:
        """Pay funding at *rate*: a long pays, and a short receives, while it is positive."""
        with self.account() as account:
            price = account.price(symbol)
            held = {side: account.held(Leg(symbol, side)) for side in ("long", "short")}
            due = {"long": -held["long"] * price * Decimal(rate), "short": held["short"] * price * Decimal(rate)}
            if self.nets_funding:
                due = {"long": due["long"] + due["short"]}
            for side, amount in due.items():
                if amount:
                    account.pay_funding(symbol, side if self.hedge else None, amount)  # type: ignore[arg-type]
        self.rates.append(Rate(symbol, self.clock_ms() - 3, Decimal(rate), price))

    def symbol(self, said: Any) -> str:
        """ccxt's name of a market, which must exist."""
        return self.symbols[said] if said in self.symbols else refuse(-1121)

    def admit(self, request: Request) -> None:
        """Judge key, time and signature of a request."""
        said, _, signature = (request.query or request.body.decode()).rpartition("&signature=")
        stamp, window = (str(request.params.get(name, "")) for name in ("timestamp", "recvWindow"))
        if request.headers.get("x-mbx-apikey") != KEYS["apiKey"]:
            refuse(-2015, 401)
        if not stamp.isdecimal():
            refuse(-1102)
        age_ms = self.clock_ms() - int(stamp)
        if age_ms > int(window or _WINDOW_MS) or age_ms <= -_AHEAD_MS:
            refuse(-1021)
        expected = hmac.new(KEYS["secret"].encode(), said.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            refuse(-1022)

    def raised(self, error: Exception) -> Reply:
        if isinstance(error, OrderRefused):  # of the book, which has no such market
            return refusal(-1121)
        return super().raised(error)
