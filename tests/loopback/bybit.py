"""A Bybit unified account on this machine, category linear. Where the documentation is silent, attributes decide."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from loopback.bybit_orders import ORDERS
from loopback.bybit_rows import OPENED, WORDS, execution, funding, good, index_of, order_id, page, refusal
from loopback.rules import DAY_MS
from loopback.samples import sample
from loopback.server import Reply, Request, Routes
from loopback.swaps import SIDES, Account, SwapVenue, plain
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os

ACCOUNT = Routes()
ACCOUNT.says(
    "/v5/account/info",
    lambda books: good(books, {"unifiedMarginStatus": books.venue.status, "marginMode": "REGULAR_MARGIN"}),
)
ACCOUNT.says(
    "/v5/user/query-api",
    lambda books: good(books, {"readOnly": 0, "permissions": books.venue.permissions, "ips": ["*"], "uta": 1}),
)
RATE_LIMITED = refusal("too_many")
BANNED = Reply(403, "<html><body>403 Forbidden</body></html>", {"Content-Type": "text/html"})


@ACCOUNT.on("GET", "/v5/market/time", signed=False)
def market_time(books: Account, said: dict[str, Any]) -> Any:
    now_ms = books.venue.clock_ms()
    return good(books, {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 10**6)})


@ACCOUNT.on("GET", "/v5/market/instruments-info", signed=False)
def instruments(books: Account, said: dict[str, Any]) -> Any:
    is_here = said.get("category") == "linear" and said.get("status") != "PreLaunch"
    listed = [_market(books.venue, name) for name in books.venue.symbols] if is_here else []
    return good(books, {"category": "linear", "list": listed, "nextPageCursor": ""})


def _market(venue: Bybit, name: str) -> dict[str, Any]:
    row = sample("bybit", "market", symbol=name, baseCoin=name.removesuffix("USDT"))
    sizes = {"minOrderQty": venue.smallest, "maxOrderQty": venue.most, "qtyStep": venue.step}
    sizes |= {"minNotionalValue": venue.least_worth, "maxMktOrderQty": venue.largest}
    row["lotSizeFilter"] |= {name: plain(size) for name, size in sizes.items()}
    row["priceFilter"]["tickSize"] = plain(venue.tick)
    return row


@ACCOUNT.on("GET", "/v5/market/tickers", signed=False)
def tickers(books: Account, said: dict[str, Any]) -> Any:
    venue = books.venue
    price = books.price(venue.market(said))
    prices = {"lastPrice": plain(price), "markPrice": plain(venue.mark or price)}
    return good(books, {"category": "linear", "list": [sample("bybit", "ticker", prices, symbol=said["symbol"])]})


@ACCOUNT.on("GET", "/v5/position/list")
def positions(books: Account, said: dict[str, Any]) -> Any:
    """Of a market also what is empty; of a currency what is held, of all its markets, which all settle in USDT."""
    if "symbol" in said or "settleCoin" not in said:
        return page(books, _legs(books, books.venue.market(said)), usual=20, most=200)
    symbols = books.venue.symbols.values() if said["settleCoin"] == "USDT" else ()
    return page(
        books, [row for symbol in symbols for row in _legs(books, symbol) if row["size"] != "0"], usual=20, most=200
    )


def _legs(books: Account, symbol: str) -> list[dict[str, Any]]:
    long, short = (_position(books, Leg(symbol, side)) for side in SIDES)
    return [long, short] if books.venue.hedge else [short if short["size"] != "0" else long]


def _position(books: Account, leg: Leg) -> dict[str, Any]:
    holding, of = books.holding(leg), {"positionIdx": index_of(books.venue, leg.side)}
    size, price = (holding.contracts, holding.entry_price) if holding else (Decimal(0), None)
    shown = {"side": OPENED[leg.side] if holding else "", "size": plain(size), "avgPrice": plain(price or Decimal(0))}
    return sample("bybit", "position", of, shown, symbol=books.venue.market_id(leg.symbol))


@ACCOUNT.on("GET", "/v5/execution/list")
def executions(books: Account, said: dict[str, Any]) -> Any:
    venue = books.venue
    symbol, times = venue.market(said), venue.span(said, 7 * DAY_MS, forwards=True)
    paid = [(row, position.leg.side) for row in books.payments(symbol) if (position := books.paid_for(row))]
    moments = groupby(books.deals("fills.symbol = ?", symbol), key=lambda row: (row["order_id"], row["at_ms"]))
    rows = [*(funding(venue, *each) for each in paid), *(execution(venue, list(each)) for _, each in moments)]
    rows += [row for row in venue.executions if venue.symbols[row["symbol"]] == symbol]
    told = [row for row in rows if int(row["execTime"]) in times and said.get("execType") in {None, row["execType"]}]
    # The latest first. Those of one millisecond may stand in any order: here the oldest of them is first.
    told.sort(key=lambda row: int(row["execTime"]), reverse=True)
    return page(books, told, usual=50, most=100)


@ACCOUNT.on("GET", "/v5/position/closed-pnl")
def closed_pnl(books: Account, said: dict[str, Any]) -> Any:
    symbol, times = books.venue.market(said), books.venue.span(said, 7 * DAY_MS, forwards=True)
    rows = []
    for each in books.history(symbol).ended:
        at, side = str(each.updated_ms), {"long": "Sell", "short": "Buy"}[each.leg.side]
        ended = {"orderId": order_id(each.updated_by), "closedPnl": plain(each.profit - each.fees), "side": side}
        rows.append(sample("bybit", "closed", ended, symbol=said["symbol"], createdTime=at, updatedTime=at))
    return page(books, [row for row in rows if int(row["updatedTime"]) in times], usual=50, most=100)


class Bybit(SwapVenue):
    """The account.

    ``status`` is the account's (5: unified); ``forgets`` leaves orders that have ended to the order history, as a
    restart of the venue does; ``permissions`` is what the key may do. Limit orders rest until they are cancelled,
    trailing orders are in ``trailing``; ``executions`` are rows of what no paper account does.
    """

    routes: ClassVar[Routes] = Routes(ORDERS, ACCOUNT)
    client_ids = re.compile(r"[A-Za-z0-9_-]{1,36}")
    numbers_are_text = True
    longest_window_ms = 10**9  # no limit is documented
    words = WORDS
    ccxt_id, options = "bybit", {"fetchMarkets": {"types": ["linear"]}}

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        super().__init__(path, **settings)
        self.status, self.forgets = 5, False
        self.permissions = {"ContractTrade": ["Order", "Position"], "Wallet": ["AccountTransfer"]}
        self.trailing: list[dict[str, Any]] = []
        self.executions: list[dict[str, Any]] = []

    def refusal(self, what: Any, words: str = "") -> Reply:
        return refusal(what, words)

    def market(self, said: dict[str, Any]) -> str:
        """ccxt's name of the market that is asked about, which must exist and be linear."""
        return self.symbol(said.get("symbol") if said.get("category") == "linear" else None)

    def headers(self) -> dict[str, str]:
        # "If you haven't exceeded it, this is the current timestamp."
        limit = {"X-Bapi-Limit": "50", "X-Bapi-Limit-Status": "49"}
        return {**limit, "X-Bapi-Limit-Reset-Timestamp": str(self.clock_ms())}

    def says_when(self, until_ms: int) -> dict[str, str]:
        return {"X-Bapi-Limit-Reset-Timestamp": str(until_ms)}

    def admit(self, request: Request) -> None:
        """Judge key, time and signature of a request."""
        names = ("api-key", "timestamp", "recv-window", "sign")
        key, stamp, window, signature = (request.headers.get(f"x-bapi-{name}", "") for name in names)
        self.judge_key(key)
        self.judge_time(stamp, window)
        said = request.query if request.method == "GET" else request.body.decode()
        self.judge_signature(stamp + key + window + said, signature)


client_at = Bybit.client_at
