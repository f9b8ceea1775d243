"""What a Binance account holds and what became of it: positions, fills, funding."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.binance_rows import market_id, order_id, plain, refuse, trade
from loopback.executions import executions, realized
from loopback.server import Request, Routes
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from loopback.binance import Binance
    from poslock.exchange.matching import Matching

ACCOUNT = Routes()
_DAY_MS = 86_400_000
_SPAN_MS, _REACH_MS, _FUNDING_REACH_MS = 7 * _DAY_MS, 184 * _DAY_MS, 92 * _DAY_MS
_MOST_ROWS = 1000


@ACCOUNT.on("GET", "/fapi/v1/positionSide/dual")
def position_mode(venue: Binance, request: Request) -> Any:
    return {"dualSidePosition": venue.hedge}


@ACCOUNT.on("GET", "/fapi/v3/positionRisk")
def positions(venue: Binance, request: Request) -> Any:
    symbols = [venue.symbol(request.params["symbol"])] if "symbol" in request.params else list(venue.symbols.values())
    with venue.account() as account:
        return [row for symbol in symbols for row in _positions(venue, account, symbol)]


@ACCOUNT.on("GET", "/fapi/v1/userTrades")
def user_trades(venue: Binance, request: Request) -> Any:
    params, symbol, now_ms = request.params, venue.symbol(request.params.get("symbol")), venue.clock_ms()
    limit = int(params.get("limit", 500))
    if limit > _MOST_ROWS:
        refuse(-1130)
    if "fromId" in params and {"startTime", "endTime"} & set(params):
        refuse(-1128)
    since = int(params.get("startTime", now_ms - _SPAN_MS))
    until = int(params.get("endTime", since + _SPAN_MS))
    # For how a time before the last six months is refused there is no source; that it is not told, there is.
    if until - since > _SPAN_MS or since < now_ms - _REACH_MS:
        refuse(-4165)
    with venue.account() as account:
        rows = [row for row in _fills(account, symbol) if since <= row["at_ms"] <= until]
        if "orderId" in params:
            rows = [row for row in _fills(account, symbol) if order_id(row) == int(params["orderId"])]
        kept = rows[-limit:] if venue.page_keeps == "newest" else rows[:limit]
        return [trade(venue, row) for row in kept]


@ACCOUNT.on("GET", "/fapi/v1/income")
def income(venue: Binance, request: Request) -> Any:
    params, now_ms = request.params, venue.clock_ms()
    limit, number = int(params.get("limit", 100)), int(params.get("page", 1))
    if limit > _MOST_ROWS or number < 1:
        refuse(-1130)
    since = max(int(params.get("startTime", now_ms - _SPAN_MS)), now_ms - _FUNDING_REACH_MS)
    until = int(params.get("endTime", now_ms))
    kind, symbol = params.get("incomeType"), venue.symbol(params.get("symbol"))
    with venue.account() as account:
        sql = "SELECT rowid, * FROM funding WHERE symbol = ?"
        rows = [
            _income(symbol, "FUNDING_FEE", row["amount"], row["at_ms"], 9_689_322_000 + row["rowid"], "")
            for row in account._db.execute(sql, (symbol,))
        ]
        if kind is None:
            rows += _earned(venue, account, symbol)
    told = sorted((row for row in rows if since <= row["time"] <= until), key=lambda row: row["time"])
    return told[(number - 1) * limit : number * limit] if kind in {None, "FUNDING_FEE"} else []


def _earned(venue: Binance, account: Matching, symbol: str) -> list[dict[str, Any]]:
    """What each fill has cost, and what it has realized if it took from a position."""
    fills = account._db.execute("SELECT * FROM fills WHERE symbol = ? ORDER BY trade_id", (symbol,)).fetchall()
    gains = realized(fills, venue.book._terms.contract)
    rows = []
    for fill in fills:
        number, at_ms = fill["trade_id"], fill["at_ms"]
        rows.append(_income(symbol, "COMMISSION", plain(-Decimal(fill["fee"])), at_ms, number, str(number)))
        if fill["reduced"]:
            rows.append(_income(symbol, "REALIZED_PNL", plain(gains[number]), at_ms, number, str(number)))
    return rows


def _income(symbol: str, kind: str, amount: str, at_ms: int, number: int, trade_id: str) -> dict[str, Any]:
    ids = {"tranId": number, "tradeId": trade_id}
    said = {"symbol": market_id(symbol), "incomeType": kind, "income": amount, "asset": "USDT", "info": kind}
    return {**said, "time": at_ms, **ids}


def _positions(venue: Binance, account: Matching, symbol: str) -> list[dict[str, Any]]:
    """Of markets with a position or an order only; in one-way mode the row of a flat one says 0."""
    legs = [leg for leg in (Leg(symbol, "long"), Leg(symbol, "short")) if account.held(leg)]
    rows = [_position(venue, account, leg) for leg in legs]
    sql = "SELECT count(*) FROM orders WHERE symbol = ? AND state = 'open'"
    (resting,) = account._db.execute(sql, (symbol,)).fetchone()
    if not rows and resting and not venue.hedge:
        flat = {"positionSide": "BOTH", "positionAmt": "0.000", "entryPrice": "0.0", "updateTime": 0}
        return [{"symbol": market_id(symbol), **flat, "marginAsset": "USDT"}]
    return rows


def _position(venue: Binance, account: Matching, leg: Leg) -> dict[str, Any]:
    holding = account.holding(leg)
    assert holding is not None
    assert holding.entry_price is not None
    amount = holding.contracts if leg.side == "long" else -holding.contracts
    return {
        "symbol": market_id(leg.symbol),
        "positionSide": leg.side.upper() if venue.hedge else "BOTH",
        "positionAmt": plain(amount),
        "entryPrice": plain(holding.entry_price),
        "breakEvenPrice": plain(holding.entry_price),
        "markPrice": plain(account.price(leg.symbol)),
        "liquidationPrice": "0",
        "notional": plain(amount * account.price(leg.symbol)),
        "marginAsset": "USDT",
        "updateTime": venue.clock_ms(),
    }


def _fills(account: Matching, symbol: str) -> list[dict[str, Any]]:
    sql = (
        "SELECT fills.*, family, reduce_only FROM fills JOIN orders USING (order_id) WHERE fills.symbol = ?"
        " ORDER BY trade_id"
    )
    return executions(account._db.execute(sql, (symbol,)))
