"""A MEXC futures account on this machine. Where the documentation is silent, its attributes say what it does."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import ccxt
import ccxt.async_support

from loopback.mexc_books import Asked, Books, Family
from loopback.mexc_orders import ORDERS
from loopback.mexc_positions import POSITIONS
from loopback.mexc_public import PUBLIC
from loopback.mexc_stops import STOPS
from loopback.mexc_tracks import TRACKS
from loopback.mexc_triggers import TRIGGERS
from loopback.mexc_words import market_id, refusal, refuse
from loopback.server import KEYS, Loopback, Refused, Reply, Request, Routes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", *(f"COIN{number}/USDT:USDT" for number in range(50)))
RATE_LIMITED = refusal(510)
MAINTENANCE = refusal(801)
BANNED = Reply(403, "<html><body>Access Denied</body></html>", {"Content-Type": "text/html"})
_WINDOW_S, _LONGEST_WINDOW_S = 10, 60
_SPOT = "/api/v3/"


def client_at(url: str, *, asynchronous: bool = False, **config: Any) -> Any:
    """A real ccxt client of the venue at *url*; its markets are not loaded yet."""
    module = ccxt.async_support if asynchronous else ccxt
    client = module.mexc({**KEYS, "enableRateLimit": False, **config})
    client.urls["api"] = _at(url, client.urls["api"])
    return client


def _at(url: str, address: Any) -> Any:
    if isinstance(address, dict):
        return {name: _at(url, each) for name, each in address.items()}
    return url + "".join(f"/{part}" for part in address.split("/")[3:])


class Mexc(Loopback):
    """The account.

    ``open_type`` (1 isolated, 2 cross) and ``leverage`` are those of all positions; ``rests_as`` is the family that
    orders of `PaperExchange.protect` appear in; ``denies`` is for how many seconds an order is not found by its client
    order id; ``refuses_duplicates`` refuses a client order id that is known (2042) instead of answering with the order
    that has it; ``answers_null`` answers nothing with success for an order that is not found, instead of 2040;
    ``rights`` is what the key may do. Trailing orders are in ``tracks``.
    """

    routes: ClassVar[Routes] = Routes(PUBLIC, POSITIONS, ORDERS, TRIGGERS, STOPS, TRACKS)

    def __init__(
        self, path: str | os.PathLike[str], *, hedge: bool = False, vol_unit: str = "1", **paper_settings: Any
    ) -> None:
        super().__init__(path, hedge=hedge, **paper_settings)
        self.hedge, self.vol_unit, self.largest = hedge, Decimal(vol_unit), Decimal(1_000_000)
        self.open_type, self.leverage = 2, 20
        self.mark: Decimal | None = None  # what it says that the mark price is; the book triggers by its own
        self.rests_as: dict[str, Family] = {"stop_loss": "plan", "take_profit": "stop"}
        self.denies = 0.0
        self.refuses_duplicates = self.answers_null = False
        self.rights = ["CONTRACT_ACCOUNT_READ", "CONTRACT_DEAL_READ", "CONTRACT_DEAL_WRITE"]
        self.symbols = {market_id(symbol): symbol for symbol in SYMBOLS}
        self.asked: dict[int, Asked] = {}
        self.pairs: list[tuple[int, int]] = []
        self.tracks: list[dict[str, Any]] = []

    def client(self, *, asynchronous: bool = False, **config: Any) -> Any:
        """A real ccxt client of this venue."""
        return client_at(self.url, asynchronous=asynchronous, **config)

    @property
    def position_mode(self) -> int:
        return 1 if self.hedge else 2

    @property
    def contract_size(self) -> Decimal:
        return self.book._terms.contract.size

    @contextmanager
    def books(self) -> Iterator[Books]:
        """The account in one transaction."""
        with self.book._account() as account:
            books = Books(self, account)
            books.settle()
            yield books

    def symbol(self, said: Any) -> str:
        """ccxt's name of a contract, which must exist."""
        return self.symbols[said] if said in self.symbols else refuse(1001)

    def price(self, symbol: str) -> Decimal:
        with self.books() as books:
            return books.price(symbol)

    def admit(self, request: Request) -> None:
        """Judge key, time and signature of a request, and what it is signed with differs on the spot side."""
        if request.path.startswith(_SPOT):
            self._admit_to_spot(request)
            return
        headers = request.headers
        if headers.get("apikey") != KEYS["apiKey"]:
            refuse(401)
        stamp, window = headers.get("request-time", ""), headers.get("recv-window", headers.get("revc-window", ""))
        seconds = min(int(window), _LONGEST_WINDOW_S) if window.isdecimal() else _WINDOW_S
        if not stamp.isdecimal() or abs(self.clock_ms() - int(stamp)) > seconds * 1000:
            refuse(513)
        said = request.body.decode() if request.method == "POST" else request.query
        if not _signed(KEYS["apiKey"] + stamp + said, headers.get("signature", "")):
            refuse(602)

    def _admit_to_spot(self, request: Request) -> None:
        query, _, signature = request.query.rpartition("&signature=")
        stamp, window = (str(request.params.get(name, "")) for name in ("timestamp", "recvWindow"))
        if request.headers.get("x-mexc-apikey") != KEYS["apiKey"]:
            raise Refused(Reply(400, {"code": 10072, "msg": "Api key info invalid"}))
        age = abs(self.clock_ms() - int(stamp)) if stamp.isdecimal() else None
        if age is None or age > int(window or 5000):
            raise Refused(
                Reply(400, {"code": 700003, "msg": "Timestamp for this request is outside of the recvWindow."})
            )
        if not _signed(query, signature):
            raise Refused(Reply(400, {"code": 700002, "msg": "Signature for this request is not valid."}))


def _signed(said: str, signature: str) -> bool:
    expected = hmac.new(KEYS["secret"].encode(), said.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signature)
