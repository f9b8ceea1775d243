"""A MEXC futures account on this machine. Where the documentation is silent, its attributes say what it does."""

from __future__ import annotations

import re
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from loopback.mexc_books import Books, Family, wanted
from loopback.mexc_orders import ORDERS
from loopback.mexc_rows import TYPES, position
from loopback.mexc_triggers import TRIGGERS
from loopback.mexc_words import WORDS, good, page, refusal
from loopback.rules import Rules
from loopback.samples import refusals, sample
from loopback.server import Reply, Request, Routes
from loopback.swaps import SwapVenue

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

_PRIVATE, _CONTRACT, _SPOT = "/api/v1/private", "/api/v1/contract", "/api/v3"
ACCOUNT = Routes()
ACCOUNT.says(f"{_CONTRACT}/ping", lambda books: good(books.venue.clock_ms()), signed=False)
ACCOUNT.says(
    f"{_CONTRACT}/detail", lambda books: good([_market(books, name) for name in books.venue.symbols]), signed=False
)
ACCOUNT.says(f"{_SPOT}/time", lambda books: {"serverTime": books.venue.clock_ms()}, signed=False)
ACCOUNT.says(f"{_SPOT}/capital/config/getall", lambda books: [])
ACCOUNT.says(f"{_PRIVATE}/position/position_mode", lambda books: good(books.venue.position_mode))
ACCOUNT.says(f"{_SPOT}/exchangeInfo", lambda books: {"serverTime": books.venue.clock_ms(), "symbols": []}, signed=False)
RATE_LIMITED = refusal("too_many")
MAINTENANCE = refusal(801)
BANNED = Reply(403, "<html><body>Access Denied</body></html>", {"Content-Type": "text/html"})
_WINDOW_S = 10


def _market(books: Books, name: str) -> dict[str, Any]:
    venue, (base, quote) = books.venue, name.split("_")
    names = {"symbol": name, "displayName": name, "baseCoin": base, "quoteCoin": quote, "settleCoin": quote}
    sizes = {"contractSize": books.contract.size, "priceUnit": venue.tick, "volUnit": venue.step, "minVol": venue.step}
    return sample("mexc", "market", names, sizes, maxVol=venue.largest)


@ACCOUNT.on("GET", f"{_CONTRACT}/ticker", signed=False)
def ticker(books: Books, said: dict[str, Any]) -> Any:
    price = books.price(books.venue.symbol(said.get("symbol")))
    prices = dict.fromkeys(("lastPrice", "bid1", "ask1", "indexPrice"), price)
    return good(sample("mexc", "ticker", prices, symbol=said["symbol"], fairPrice=books.venue.mark or price))


@ACCOUNT.on("GET", f"{_SPOT}/apiKeyInfo")
def key(books: Books, said: dict[str, Any]) -> Any:
    rights = {"permissions": ",".join(books.venue.rights), "createTime": 1609992674000, "remainingValidity": 82}
    return {**rights, "note": "test", "accessKey": said.get("accessKey"), "ipWhiteList": "", "status": "VALID"}


@ACCOUNT.on("GET", f"{_PRIVATE}/position/open_positions")
def open_positions(books: Books, said: dict[str, Any]) -> Any:
    held = [each for symbol in books.markets() for each in books.history(symbol).positions if each.held]
    return good([position(books, each) for each in held])


@ACCOUNT.on("GET", f"{_PRIVATE}/position/list/history_positions")
def history_positions(books: Books, said: dict[str, Any]) -> Any:
    times = books.span()
    ended = [each for symbol in books.markets() for each in books.history(symbol).ended if each.updated_ms in times]
    ended.sort(key=lambda each: each.updated_ms, reverse=True)
    return good([position(books, each) for each in page(books, ended)])


@ACCOUNT.on("GET", f"{_PRIVATE}/position/funding_records")
def funding_records(books: Books, said: dict[str, Any]) -> Any:
    rows = [_funding(books, row) for row in reversed(books.payments())]
    if "start_time" in said or "end_time" in said:
        times = books.span()
        rows = [row for row in rows if row["settleTime"] in times]
    told = wanted(said, rows, "position_type")
    size, number = int(said.get("page_size", 20)), int(said.get("page_num", 1))
    pages = {"pageSize": size, "totalCount": len(told), "totalPage": -(-len(told) // size), "currentPage": number}
    return good({**pages, "resultList": page(books, told)})


def _funding(books: Books, row: Any) -> dict[str, Any]:
    paid_for = books.paid_for(row)
    kind = TYPES[row["side"] or (paid_for.leg.side if paid_for else "long")]
    of = {"symbol": books.venue.market_id(row["symbol"]), "positionType": kind, "settleTime": row["at_ms"]}
    return sample("mexc", "funding", of, id=row["rowid"], funding=Decimal(row["amount"]))


@ACCOUNT.on("POST", f"{_PRIVATE}/position/close_all")
def close_all(books: Books, said: dict[str, Any]) -> Any:
    for symbol in books.markets():
        for each in [each for each in books.history(symbol).positions if each.held]:
            books.fill(books.insert(each.leg, "order", books.held(each.leg)))
    return good()


class SpotSide(Rules):
    """The spot side's judgement of requests, which it signs and refuses in another way."""

    words = refusals("spot", table="mexc refusals", status=400)

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms

    def clock_ms(self) -> int:
        return self._clock_ms()

    def refusal(self, what: Any, words: str = "") -> Reply:
        code, usual, status = self.words[what]
        return Reply(status, {"code": code, "msg": words or usual})


class Mexc(SwapVenue):
    """The account.

    ``open_type`` (1 isolated, 2 cross) and ``leverage`` are those of all positions; ``rests_as`` is the family that
    orders of `PaperExchange.protect` appear in; ``refuses_duplicates`` refuses a client order id that is known (2042)
    instead of answering with the order that has it; ``answers_null`` answers nothing with success for an order that is
    not found, instead of 2040; ``rights`` is what the key may do. Trailing orders are in ``tracks``, pairs of paper
    orders that are one TP/SL order in ``pairs``.
    """

    routes: ClassVar[Routes] = Routes(ORDERS, TRIGGERS, ACCOUNT)
    books_of = Books
    client_ids = re.compile(r".{1,32}")
    largest = Decimal(1_000_000)
    words = WORDS
    ccxt_id, has_currencies = "mexc", True

    def __init__(self, path: str | os.PathLike[str], *, vol_unit: str = "1", **settings: Any) -> None:
        super().__init__(path, **settings)
        self.step = self.smallest = Decimal(vol_unit)
        self.open_type, self.leverage = 2, 20
        self.rests_as: dict[str, Family] = {"stop_loss": "plan", "take_profit": "stop"}
        self.refuses_duplicates = self.answers_null = False
        self.rights = ["CONTRACT_ACCOUNT_READ", "CONTRACT_DEAL_READ", "CONTRACT_DEAL_WRITE"]
        self.pairs: list[tuple[int, int]] = []
        self.tracks: list[dict[str, Any]] = []

    @classmethod
    def market_id(cls, symbol: str) -> str:
        return symbol.partition(":")[0].replace("/", "_")

    @property
    def position_mode(self) -> int:
        return 1 if self.hedge else 2

    @contextmanager
    def books(self) -> Iterator[Books]:
        """The account in one transaction."""
        with self.account() as books:
            assert isinstance(books, Books)
            yield books

    def refusal(self, what: Any, words: str = "") -> Reply:
        return refusal(what, words)

    def says_when(self, until_ms: int) -> dict[str, str]:
        return {}  # its limits are for one or two seconds

    def admit(self, request: Request) -> None:
        """Judge key, time and signature of a request, and what it is signed with differs on the spot side."""
        headers = request.headers
        if request.path.startswith(_SPOT):
            SpotSide(self.clock_ms).judge_query(request, "x-mexc-apikey")
            return
        self.judge_key(headers.get("apikey"))
        # Under either of the names that the documentation has for it; what is no number is passed over.
        stamp, window = headers.get("request-time", ""), headers.get("recv-window", headers.get("revc-window", ""))
        window_ms = 1000 * (int(window) if window.isdecimal() else _WINDOW_S)
        self.judge_time(stamp, str(window_ms), ahead_ms=min(window_ms, self.longest_window_ms))
        said = request.body.decode() if request.method == "POST" else request.query
        self.judge_signature(headers["apikey"] + stamp + said, headers.get("signature", ""))


client_at = Mexc.client_at
