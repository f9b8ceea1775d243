"""What Bybit tells about its markets, and about an account: positions, executions, and what its key may do."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from loopback.bybit_rows import execution, funding, good, index_of, leg_of, market_id, order_id, page, plain, refuse
from loopback.executions import closed_positions
from loopback.server import Request, Routes
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from loopback.bybit import Bybit
    from poslock.exchange.matching import Matching
    from poslock.position import Side

ACCOUNT = Routes()
_SEVEN_DAYS_MS = 7 * 86_400_000


@ACCOUNT.on("GET", "/v5/market/time", signed=False)
def market_time(venue: Bybit, request: Request) -> Any:
    now_ms = venue.clock_ms()
    return good(venue, {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 10**6)})


@ACCOUNT.on("GET", "/v5/market/instruments-info", signed=False)
def instruments(venue: Bybit, request: Request) -> Any:
    is_here = request.params.get("category") == "linear" and request.params.get("status") != "PreLaunch"
    listed = [_market(venue, each) for each in venue.symbols] if is_here else []
    return good(venue, {"category": "linear", "list": listed, "nextPageCursor": ""})


def _market(venue: Bybit, name: str) -> dict[str, Any]:
    lots = {"minOrderQty": "0.001", "maxOrderQty": "1000", "qtyStep": "0.001", "minNotionalValue": "5"}
    return {
        "symbol": name,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": name.removesuffix("USDT"),
        "quoteCoin": "USDT",
        "settleCoin": "USDT",
        "lotSizeFilter": {**lots, "maxMktOrderQty": plain(venue.largest)},
        "priceFilter": {"tickSize": "0.1"},
    }


@ACCOUNT.on("GET", "/v5/market/tickers", signed=False)
def tickers(venue: Bybit, request: Request) -> Any:
    symbol = venue.symbol(request)
    with venue.account() as account:
        price = plain(account.price(symbol))
    row = {
        "symbol": request.params["symbol"],
        "lastPrice": price,
        "markPrice": plain(venue.mark or Decimal(price)),
        "indexPrice": "1",
    }
    return good(venue, {"category": "linear", "list": [row]})


@ACCOUNT.on("GET", "/v5/account/info")
def info(venue: Bybit, request: Request) -> Any:
    return good(venue, {"unifiedMarginStatus": venue.status, "marginMode": "REGULAR_MARGIN"})


@ACCOUNT.on("GET", "/v5/user/query-api")
def key(venue: Bybit, request: Request) -> Any:
    return good(venue, {"readOnly": 0, "permissions": venue.permissions, "ips": ["*"], "uta": 1})


@ACCOUNT.on("GET", "/v5/position/list")
def positions(venue: Bybit, request: Request) -> Any:
    """Of a market also what is empty; of a currency what is held, of all its markets, which all settle in USDT."""
    if "symbol" in request.params or "settleCoin" not in request.params:
        with venue.account() as account:
            return page(venue, request, _legs(venue, account, venue.symbol(request)), usual=20, most=200)
    symbols = venue.symbols.values() if request.params["settleCoin"] == "USDT" else ()
    with venue.account() as account:
        held = [row for symbol in symbols for row in _legs(venue, account, symbol) if row["size"] != "0"]
    return page(venue, request, held, usual=20, most=200)


def _legs(venue: Bybit, account: Matching, symbol: str) -> list[dict[str, Any]]:
    long, short = (_position(venue, account, Leg(symbol, side)) for side in ("long", "short"))
    return [long, short] if venue.hedge else [short if short["size"] != "0" else long]


def _position(venue: Bybit, account: Matching, leg: Leg) -> dict[str, Any]:
    holding = account.holding(leg)
    return {
        "positionIdx": index_of(venue, leg.side),
        "symbol": market_id(leg.symbol),
        "side": {"long": "Buy", "short": "Sell"}[leg.side] if holding else "",
        "size": plain(holding.contracts) if holding else "0",
        "avgPrice": plain(holding.entry_price) if holding and holding.entry_price else "0",
        "positionStatus": "Normal",
        "seq": 8327597863,
    }


@ACCOUNT.on("GET", "/v5/execution/list")
def executions(venue: Bybit, request: Request) -> Any:
    symbol, said = venue.symbol(request), request.params
    start = int(said.get("startTime", venue.clock_ms() - _SEVEN_DAYS_MS))
    end = int(said.get("endTime", start + _SEVEN_DAYS_MS))
    if end - start > _SEVEN_DAYS_MS:
        refuse(10001)
    with venue.account() as account:
        sql = "SELECT fills.*, client_order_id FROM fills JOIN orders USING (order_id) WHERE fills.symbol = ?"
        fills = account._db.execute(f"{sql} ORDER BY trade_id", (symbol,)).fetchall()
        paid = account._db.execute("SELECT rowid, * FROM funding WHERE symbol = ?", (symbol,)).fetchall()
        rows = [funding(row, row["side"] or _held_side(account, symbol, row["at_ms"])) for row in paid]
    moments = groupby(fills, key=lambda row: (row["order_id"], row["at_ms"]))
    rows += [execution(venue, list(each)) for _, each in moments]
    rows += [row for row in venue.executions if venue.symbols[row["symbol"]] == symbol]
    kind = said.get("execType")
    told = [row for row in rows if start <= int(row["execTime"]) <= end and kind in {None, row["execType"]}]
    # The latest first. Those of one millisecond may stand in any order: here the oldest of them is first.
    told.sort(key=lambda row: int(row["execTime"]), reverse=True)
    return page(venue, request, told, usual=50, most=100)


@ACCOUNT.on("GET", "/v5/position/closed-pnl")
def closed_pnl(venue: Bybit, request: Request) -> Any:
    symbol = venue.symbol(request)
    with venue.account() as account:
        told = closed_positions(account._db, symbol, venue.book._terms.contract)
    rows = [
        {
            "symbol": market_id(symbol),
            "orderId": order_id(each.closed_by),
            "side": {"long": "Sell", "short": "Buy"}[each.side],
            "closedPnl": plain(each.gross - each.fees),
            "createdTime": str(each.closed_ms),
            "updatedTime": str(each.closed_ms),
        }
        for each in reversed(told)
    ]
    return page(venue, request, rows, usual=50, most=100)


def _held_side(account: Matching, symbol: str, at_ms: int) -> Side:
    """The leg that was held at a time, in one-way mode: the one that was opened last before it."""
    sql = "SELECT side, reduced FROM fills WHERE symbol = ? AND at_ms <= ? AND NOT reduced ORDER BY trade_id DESC"
    return leg_of(account._db.execute(sql, (symbol, at_ms)).fetchone())
