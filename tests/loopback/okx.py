"""An OKX account on this machine, linear swaps. Where the documentation is silent, its attributes say what it does."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from loopback.connections import KEYS
from loopback.okx_orders import ORDERS
from loopback.okx_rows import BILL, WORDS, deal, good, page, refusal
from loopback.rules import DAY_MS
from loopback.samples import sample
from loopback.server import Reply, Request, Routes
from loopback.swaps import SIDES, Account, SwapVenue, plain
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os

ACCOUNT = Routes()
ACCOUNT.says("/api/v5/public/time", lambda books: good({"ts": str(books.venue.clock_ms())}), signed=False)
ACCOUNT.says(
    "/api/v5/public/instruments",
    lambda books: good(*(_market(books, symbol) for symbol in books.venue.symbols.values())),
    signed=False,
)
ACCOUNT.says("/api/v5/trade/fills", lambda books: _fills(books, 3 * DAY_MS))
ACCOUNT.says("/api/v5/trade/fills-history", lambda books: _fills(books, 90 * DAY_MS))
ACCOUNT.says("/api/v5/account/bills", lambda books: _bills(books, 7 * DAY_MS))
ACCOUNT.says("/api/v5/account/bills-archive", lambda books: _bills(books, 90 * DAY_MS))
RATE_LIMITED = refusal("too_many")
MAINTENANCE = refusal(50046)
BANNED = refusal(50110)


def _market(books: Account, symbol: str) -> dict[str, Any]:
    base, venue = symbol.partition("/")[0], books.venue
    names = {"instId": venue.market_id(symbol), "uly": f"{base}-USDT", "instFamily": f"{base}-USDT", "ctValCcy": base}
    sizes = {"ctVal": books.contract.size, "lotSz": venue.step, "minSz": venue.smallest, "tickSz": venue.tick}
    sizes |= {"maxMktSz": venue.largest, "maxStopSz": venue.largest, "maxLmtSz": venue.most}
    return sample("okx", "market", names, {name: plain(size) for name, size in sizes.items()})


@ACCOUNT.on("GET", "/api/v5/market/ticker", signed=False)
def ticker(books: Account, said: dict[str, Any]) -> Any:
    price = books.price(books.venue.symbol(said.get("instId")))
    return good(sample("okx", "ticker", instId=said["instId"], last=plain(price)))


@ACCOUNT.on("GET", "/api/v5/public/mark-price", signed=False)
def mark_price(books: Account, said: dict[str, Any]) -> Any:
    symbol, at = books.venue.symbol(said.get("instId")), str(books.venue.clock_ms())
    if said.get("instType") != "SWAP":
        books.venue.refuse(51000)
    price = plain(books.venue.mark or books.price(symbol))
    return good({"instType": "SWAP", "instId": said["instId"], "markPx": price, "ts": at})


@ACCOUNT.on("GET", "/api/v5/public/funding-rate-history", signed=False)
def rates(books: Account, said: dict[str, Any]) -> Any:
    symbol = books.venue.symbol(said.get("instId"))
    told = [(str(at_ms), plain(rate)) for of, at_ms, rate in books.venue.rates if of == symbol]
    rows = [sample("okx", "rate", instId=said["instId"], fundingTime=at, realizedRate=rate) for at, rate in told]
    return page(books, rows, "fundingTime", most=400)


@ACCOUNT.on("GET", "/api/v5/account/config")
def config(books: Account, said: dict[str, Any]) -> Any:
    mode = "long_short_mode" if books.venue.hedge else "net_mode"
    return good(sample("okx", "config", acctLv=books.venue.level, posMode=mode, perm=books.venue.permissions))


@ACCOUNT.on("GET", "/api/v5/account/positions")
def positions(books: Account, said: dict[str, Any]) -> Any:
    """Of an instrument also what is empty, if it has been there before; of all of them only what is held."""
    if "instId" in said:
        symbol = books.venue.symbol(said["instId"])
        return good(*(_held(books, symbol) or [_position(books, symbol, "long", Decimal(0), None)]))
    return good(*(row for symbol in books.venue.symbols.values() for row in _held(books, symbol)))


def _held(books: Account, symbol: str) -> list[dict[str, Any]]:
    held = [each for each in (books.holding(Leg(symbol, side)) for side in SIDES) if each is not None]
    return [_position(books, symbol, each.leg.side, each.contracts, each.entry_price) for each in held]


def _position(books: Account, symbol: str, side: str, contracts: Decimal, price: Decimal | None) -> dict[str, Any]:
    venue, sign = books.venue, -1 if side == "short" and not books.venue.hedge else 1
    of = {"instId": venue.market_id(symbol), "mgnMode": venue.margin_mode, "posSide": side if venue.hedge else "net"}
    return sample("okx", "position", of, pos=plain(sign * contracts), avgPx=plain(price) if price else "")


def _fills(books: Account, reach_ms: int) -> Any:
    symbol = books.venue.symbol(books.said.get("instId"))
    rows, gains = books.deals("fills.symbol = ?", symbol), books.history(symbol).of_fill
    moments = [list(each) for _, each in groupby(rows, key=lambda row: (row["order_id"], row["at_ms"]))]
    told = [deal(books.venue, each, sum((gains[row["trade_id"]][1] for row in each), Decimal(0))) for each in moments]
    return page(books, _since(books, told, reach_ms), "billId")


@ACCOUNT.on("GET", "/api/v5/account/positions-history")
def positions_history(books: Account, said: dict[str, Any]) -> Any:
    rows = []
    for each in books.history(books.venue.symbol(said.get("instId"))).ended:
        amounts = {"realizedPnl": each.profit - each.fees, "pnl": each.profit, "fee": -each.fees}
        of = {
            "instId": said["instId"],
            "direction": each.leg.side,
            "cTime": str(each.opened_ms),
            "uTime": str(each.updated_ms),
        }
        rows.append(sample("okx", "history", of, {name: plain(amount) for name, amount in amounts.items()}))
    return good(*rows[: books.venue.limit(said, 100, 100)])


def _bills(books: Account, reach_ms: int) -> Any:
    rows = books.payments(books.venue.symbol(books.said.get("instId"))) if books.said.get("type") == "8" else []
    told = []
    for row in rows:
        kind = "173" if row["amount"].startswith("-") else "174"
        of = {"instId": books.said["instId"], "mgnMode": books.venue.margin_mode, "ts": str(row["at_ms"])}
        amount = dict.fromkeys(("pnl", "balChg"), row["amount"])
        told.append(sample("okx", "bill", of, amount, billId=str(BILL + row["rowid"]), subType=kind))
    return page(books, _since(books, told, reach_ms), "billId")


def _since(books: Account, rows: list[dict[str, Any]], reach_ms: int) -> list[dict[str, Any]]:
    begin = max(int(books.said.get("begin", 0)), books.venue.clock_ms() - reach_ms)
    return [row for row in rows if begin <= int(row["ts"]) <= int(books.said.get("end", 10**15))]


class Okx(SwapVenue):
    """The account.

    ``margin_mode`` is that of all positions; ``level`` is the account's; ``blocks`` is the code that refuses a close
    together with which resting plain orders would take more than what is held; ``permissions`` is what the key may do.
    Limit orders rest until they are cancelled; ``algos`` are conditional orders that wait for more than one price;
    ``liquidated`` are fills that were liquidations.
    """

    routes: ClassVar[Routes] = Routes(ORDERS, ACCOUNT)
    client_ids = re.compile(r"[A-Za-z0-9]{1,32}")
    numbers_are_text = True
    # "Requests expire 30 seconds after the timestamp": it has no window of the client's.
    window_ms = longest_window_ms = ahead_ms = 30_000
    step = smallest = Decimal("0.01")
    largest, most = Decimal(100_000), Decimal(100_000_000)
    words = WORDS
    ccxt_id, options = "okx", {"fetchMarkets": {"types": ["swap"]}}

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        super().__init__(path, **{"contract_size": "0.01", **settings})
        self.margin_mode, self.level = "isolated", "2"
        self.blocks: int | None = None
        self.permissions = "read_only,trade"
        self.algos: list[dict[str, Any]] = []
        self.liquidated: set[int] = set()

    @classmethod
    def market_id(cls, symbol: str) -> str:
        return f"{symbol.partition(':')[0].replace('/', '-')}-SWAP"

    def refusal(self, what: Any, words: str = "") -> Reply:
        return refusal(what, words)

    def says_when(self, until_ms: int) -> dict[str, str]:
        return {}  # its limits are for one or two seconds

    def admit(self, request: Request) -> None:
        """Judge key, passphrase, time and signature of a request, and the kind of market that it names."""
        names = ("key", "passphrase", "timestamp", "sign")
        key, passphrase, stamp, signature = (request.headers.get(f"ok-access-{name}", "") for name in names)
        self.judge_key(key)
        if passphrase != KEYS["password"]:
            self.refuse(50105)
        self.judge_time(str(round(datetime.fromisoformat(stamp).timestamp() * 1000)))
        path = f"{request.path}?{request.query}" if request.query else request.path
        said = (stamp + request.method + path).encode() + request.body
        self.judge_signature(said, base64.b64decode(signature).hex())
        if isinstance(request.params, dict) and request.params.get("instType", "SWAP") != "SWAP":
            self.refuse(51000)


client_at = Okx.client_at
