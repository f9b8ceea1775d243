"""A Binance USD-M futures account on this machine. Where the documentation is silent, attributes say what it does."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from loopback.binance_orders import ORDERS
from loopback.binance_rows import WORDS, order_id, refusal, trade
from loopback.executions import executions
from loopback.rules import DAY_MS
from loopback.samples import sample
from loopback.server import Reply, Request, Routes
from loopback.swaps import SIDES, Account, SwapVenue, plain
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import os

ACCOUNT = Routes()
ACCOUNT.says("/fapi/v1/time", lambda books: {"serverTime": books.venue.clock_ms()}, signed=False)
ACCOUNT.says("/fapi/v1/positionSide/dual", lambda books: {"dualSidePosition": books.venue.hedge})
ACCOUNT.says(
    "/sapi/v1/account/apiRestrictions",
    lambda books: books.venue.restrictions or books.venue.nothing_here(books.request),
)
RATE_LIMITED = refusal("too_many")
UNKNOWN = Reply(503, {"code": -1003, "msg": "Unknown error, please check your request or try again later."})
UNAVAILABLE = Reply(503, {"code": -1001, "msg": "Service Unavailable."})
_SPAN_MS, _REACH_MS, _FUNDING_REACH_MS = 7 * DAY_MS, 184 * DAY_MS, 92 * DAY_MS
_MOST_ROWS = 1000


@ACCOUNT.on("GET", "/fapi/v1/exchangeInfo", signed=False)
def exchange_info(books: Account, said: dict[str, Any]) -> Any:
    symbols = [_market(books.venue, each) for each in books.venue.symbols.values()]
    return {"timezone": "UTC", "serverTime": books.venue.clock_ms(), "exchangeFilters": [], "symbols": symbols}


def _market(venue: Binance, symbol: str) -> dict[str, Any]:
    lots, name = {"stepSize": plain(venue.step)}, venue.market_id(symbol)
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "10000000", "tickSize": plain(venue.tick)},
        {"filterType": "LOT_SIZE", **lots, "minQty": plain(venue.step), "maxQty": plain(venue.most)},
        {"filterType": "MARKET_LOT_SIZE", **lots, "minQty": plain(venue.smallest), "maxQty": plain(venue.largest)},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": plain(venue.least_worth)},
    ]
    return sample("binance", "market", symbol=name, pair=name, baseAsset=symbol.partition("/")[0], filters=filters)


@ACCOUNT.on("GET", "/fapi/v1/ticker/price", signed=False)
def ticker(books: Account, said: dict[str, Any]) -> Any:
    price = books.price(books.venue.symbol(said.get("symbol")))
    return {"symbol": said["symbol"], "price": plain(price), "time": books.venue.clock_ms()}


@ACCOUNT.on("GET", "/fapi/v1/premiumIndex", signed=False)
def premium_index(books: Account, said: dict[str, Any]) -> Any:
    price = ticker(books, said)["price"]
    return {"symbol": said["symbol"], "markPrice": plain(books.venue.mark or Decimal(price)), "indexPrice": price}


@ACCOUNT.on("GET", "/fapi/v1/fundingRate", signed=False)
def funding_rate(books: Account, said: dict[str, Any]) -> Any:
    symbol, times = books.venue.symbol(said.get("symbol")), books.venue.span(said, 10**15)
    told = [each for each in books.venue.rates if each.symbol == symbol and each.at_ms in times]
    rows = [(plain(each.rate), each.at_ms, plain(each.price)) for each in told[: books.venue.limit(said, 100, 1000)]]
    name = said["symbol"]
    return [sample("binance", "rate", symbol=name, fundingRate=r, fundingTime=at, markPrice=p) for r, at, p in rows]


@ACCOUNT.on("GET", "/fapi/v3/positionRisk")
def positions(books: Account, said: dict[str, Any]) -> Any:
    known = books.venue.symbols.values()
    symbols = [books.venue.symbol(said["symbol"])] if "symbol" in said else known
    return [row for symbol in symbols for row in _positions(books, symbol)]


def _positions(books: Account, symbol: str) -> list[dict[str, Any]]:
    """Of markets with a position or an order only; in one-way mode the row of a flat one says 0."""
    name, held = books.venue.market_id(symbol), [books.holding(Leg(symbol, side)) for side in SIDES]
    rows = []
    for each in held:
        if each is not None and each.entry_price is not None:
            amount = each.contracts if each.leg.side == "long" else -each.contracts
            side = {
                "positionSide": each.leg.side.upper() if books.venue.hedge else "BOTH",
                "positionAmt": plain(amount),
            }
            prices = {"entryPrice": plain(each.entry_price), "notional": plain(amount * books.price(symbol))}
            rows.append(sample("binance", "position", side, prices, symbol=name, updateTime=books.venue.clock_ms()))
    if not rows and not books.venue.hedge and books.rows("symbol = ? AND state = 'open'", symbol):
        flat = {"positionAmt": "0.000", "entryPrice": "0.0", "updateTime": 0}
        return [sample("binance", "position", flat, symbol=name)]
    return rows


@ACCOUNT.on("GET", "/fapi/v1/userTrades")
def user_trades(books: Account, said: dict[str, Any]) -> Any:
    venue, symbol = books.venue, books.venue.symbol(said.get("symbol"))
    limit = venue.limit(said, 500, _MOST_ROWS)
    if "fromId" in said and {"startTime", "endTime"} & set(said):
        venue.refuse(-1128)
    times = venue.span(said, _SPAN_MS, forwards=True)
    # For how a time before the last six months is refused there is no source; that it is not told, there is.
    if times.start < venue.clock_ms() - _REACH_MS:
        venue.refuse("span")
    rows = executions(books.deals("fills.symbol = ?", symbol))
    if "orderId" in said:
        told = [row for row in rows if order_id(row) == int(said["orderId"])]
    else:
        told = [row for row in rows if row["at_ms"] in times]
    return [trade(venue, row) for row in (told[-limit:] if venue.page_keeps == "newest" else told[:limit])]


@ACCOUNT.on("GET", "/fapi/v1/income")
def income(books: Account, said: dict[str, Any]) -> Any:
    venue, kind, symbol = books.venue, said.get("incomeType"), books.venue.symbol(said.get("symbol"))
    times = venue.span(said, 10**15, usual_ms=_SPAN_MS)
    earliest = max(times.start, venue.clock_ms() - _FUNDING_REACH_MS)
    paid = books.payments(symbol)
    rows = [_income(said, "FUNDING_FEE", row["amount"], row["at_ms"], 9_689_322_000 + row["rowid"]) for row in paid]
    fills = books.deals("fills.symbol = ?", symbol) if kind is None else []
    gains = books.history(symbol).of_fill
    for fill in fills:  # what each has cost, and what it has realized if it took from a position
        number, at_ms = fill["trade_id"], fill["at_ms"]
        rows.append(_income(said, "COMMISSION", plain(-Decimal(fill["fee"])), at_ms, number, str(number)))
        if fill["reduced"]:
            rows.append(_income(said, "REALIZED_PNL", plain(gains[number][1]), at_ms, number, str(number)))
    told = sorted(
        (row for row in rows if row["time"] in times and row["time"] >= earliest), key=lambda row: row["time"]
    )
    return venue.paged(said, told if kind in {None, "FUNDING_FEE"} else [], 100, _MOST_ROWS)


def _income(
    said: dict[str, Any], kind: str, amount: str, at_ms: int, number: int, trade_id: str = ""
) -> dict[str, Any]:
    ids = {"tranId": number, "tradeId": trade_id, "symbol": said["symbol"]}
    return sample("binance", "income", ids, incomeType=kind, info=kind, income=amount, time=at_ms)


class Binance(SwapVenue):
    """The account.

    ``smallest`` and ``largest`` are what a market order may be for, as MARKET_LOT_SIZE tells; ``blocks`` refuses
    reduce-only orders beyond what plain ones that rest leave uncovered, with that code; ``page_keeps`` says which end
    of a list of fills that is too long is told; ``restrictions`` is what the key may do, None where that host is not
    there. Limit orders rest until they are cancelled, and realized profits are not told.
    """

    routes: ClassVar[Routes] = Routes(ORDERS, ACCOUNT)
    client_ids = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
    numbers_are_text = True
    largest = Decimal(120)
    words = WORDS
    bans = True
    ccxt_id, options = "binanceusdm", {"fetchCurrencies": False, "fetchMarkets": {"types": ["linear"]}}

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        super().__init__(path, **settings)
        self.blocks: int | None = None
        self.page_keeps = "newest"
        names = ("enableReading", "enableFutures", "ipRestrict")
        self.restrictions: dict[str, bool] | None = {**dict.fromkeys(names, True), "enableWithdrawals": False}
        self.cancelled: set[int] = set()

    def refusal(self, what: Any, words: str = "") -> Reply:
        return refusal(what, words)

    def headers(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT-1M": "2399", "X-MBX-ORDER-COUNT-10S": "1"}

    def admit(self, request: Request) -> None:
        self.judge_query(request, "x-mbx-apikey")


client_at = Binance.client_at
