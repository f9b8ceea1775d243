"""An OKX account on this machine, linear swaps. Where the documentation is silent, attributes say what it does."""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import ccxt
import ccxt.async_support

from loopback.okx_account import ACCOUNT
from loopback.okx_algos import ALGOS
from loopback.okx_orders import ORDERS
from loopback.okx_rows import Asked, market_id, refusal, refuse
from loopback.server import KEYS, Loopback, Reply, Request, Routes
from poslock.errors import OrderRefused
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from poslock.exchange.matching import Matching

SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", *(f"COIN{number}/USDT:USDT" for number in range(50)))
RATE_LIMITED = refusal(50011)
MAINTENANCE = refusal(50046)
BANNED = refusal(50110)
_TIMESTAMP_MS = 30_000


def client_at(url: str, *, asynchronous: bool = False, **config: Any) -> Any:
    """A real ccxt client of the venue at *url*; its markets are not loaded yet."""
    module = ccxt.async_support if asynchronous else ccxt
    options = {"fetchMarkets": {"types": ["swap"]}, **config.pop("options", {})}
    client = module.okx({**KEYS, "enableRateLimit": False, "options": options, **config})
    client.has["fetchCurrencies"] = False
    client.urls["api"]["rest"] = url
    return client


class Okx(Loopback):
    """The account.

    ``margin_mode`` is that of all positions; ``level`` is the account's; ``largest`` is the most that a market order
    may be for; ``blocks`` is the code that refuses a close together with which resting plain orders would take more
    than what is held; ``permissions`` is what the key may do. Limit orders rest until they are cancelled; ``algos``
    are conditional orders that wait for more than one price; ``liquidated`` are fills that were liquidations.
    """

    routes: ClassVar[Routes] = Routes(ORDERS, ALGOS, ACCOUNT)

    def __init__(
        self, path: str | os.PathLike[str], *, hedge: bool = False, largest: str = "100000", **settings: Any
    ) -> None:
        super().__init__(path, hedge=hedge, **{"contract_size": "0.01", **settings})
        self.hedge, self.largest = hedge, Decimal(largest)
        self.mark: Decimal | None = None  # what it says that the mark price is; the book triggers by its own
        self.margin_mode, self.level = "isolated", "2"
        self.blocks: int | None = None
        self.permissions = "read_only,trade"
        self.symbols = {market_id(symbol): symbol for symbol in SYMBOLS}
        self.asked: dict[int, Asked] = {}
        self.algos: list[dict[str, Any]] = []
        self.liquidated: set[int] = set()
        self.rates: list[tuple[str, int, Decimal]] = []

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
            worth = account.price(symbol) * self.book._terms.contract.size * Decimal(rate)
            for side, sign in (("long", -1), ("short", 1)):
                if held := account.held(Leg(symbol, side)):  # type: ignore[arg-type]
                    account.pay_funding(symbol, side if self.hedge else None, sign * held * worth)  # type: ignore[arg-type]
        self.rates.append((symbol, self.clock_ms() - 3, Decimal(rate)))

    def symbol(self, said: Any) -> str:
        """ccxt's name of a market, which must exist."""
        return self.symbols[said] if said in self.symbols else refuse(51001)

    def admit(self, request: Request) -> None:
        """Judge key, passphrase, time and signature of a request, and the kind of market that it names."""
        names = ("key", "passphrase", "timestamp", "sign")
        key, passphrase, stamp, signature = (request.headers.get(f"ok-access-{name}", "") for name in names)
        if key != KEYS["apiKey"]:
            refuse(50111)
        if passphrase != KEYS["password"]:
            refuse(50105)
        signed_ms = datetime.fromisoformat(stamp).timestamp() * 1000
        if abs(self.clock_ms() - signed_ms) > _TIMESTAMP_MS:
            refuse(50102)
        path = f"{request.path}?{request.query}" if request.query else request.path
        said = (stamp + request.method + path).encode() + request.body
        expected = base64.b64encode(hmac.new(KEYS["secret"].encode(), said, hashlib.sha256).digest())
        if not hmac.compare_digest(expected, signature.encode()):
            refuse(50113)
        if isinstance(request.params, dict) and request.params.get("instType", "SWAP") != "SWAP":
            refuse(51000)

    def raised(self, error: Exception) -> Reply:
        if isinstance(error, OrderRefused):  # of the book, which has no such market
            return refusal(51001)
        return super().raised(error)
