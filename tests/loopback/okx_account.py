"""What OKX tells about its markets, and about an account: its mode, positions, fills and bills."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from loopback.executions import closed_positions, realized
from loopback.okx_rows import BILL, deal, good, market_id, page, plain, refuse
from loopback.server import Request, Routes
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3

    from loopback.okx import Okx
    from poslock.position import Side

ACCOUNT = Routes()
_DAY_MS = 86_400_000
_SIDES: tuple[Side, ...] = ("long", "short")


@ACCOUNT.on("GET", "/api/v5/public/time", signed=False)
def now(venue: Okx, request: Request) -> Any:
    return good({"ts": str(venue.clock_ms())})


@ACCOUNT.on("GET", "/api/v5/public/instruments", signed=False)
def instruments(venue: Okx, request: Request) -> Any:
    return good(*(_market(venue, symbol) for symbol in venue.symbols.values()))


def _market(venue: Okx, symbol: str) -> dict[str, Any]:
    base = symbol.partition("/")[0]
    return {
        "instType": "SWAP",
        "instId": market_id(symbol),
        "uly": f"{base}-USDT",
        "instFamily": f"{base}-USDT",
        "settleCcy": "USDT",
        "ctVal": plain(venue.book._terms.contract.size),
        "ctMult": "1",
        "ctValCcy": base,
        "ctType": "linear",
        "lotSz": "0.01",
        "minSz": "0.01",
        "tickSz": "0.1",
        "lever": "100",
        "state": "live",
        "maxMktSz": plain(venue.largest),
        "maxStopSz": plain(venue.largest),
    }


@ACCOUNT.on("GET", "/api/v5/market/ticker", signed=False)
def ticker(venue: Okx, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    with venue.account() as account:
        return good({"instId": request.params["instId"], "last": plain(account.price(symbol))})


@ACCOUNT.on("GET", "/api/v5/public/mark-price", signed=False)
def mark_price(venue: Okx, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    if request.params.get("instType") != "SWAP":
        refuse(51000)
    with venue.account() as account:
        price = plain(venue.mark or account.price(symbol))
    return good({"instType": "SWAP", "instId": request.params["instId"], "markPx": price})


@ACCOUNT.on("GET", "/api/v5/public/funding-rate-history", signed=False)
def rates(venue: Okx, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    rows = [
        {"instId": market_id(symbol), "fundingRate": "0", "fundingTime": str(at_ms), "realizedRate": plain(rate)}
        for of, at_ms, rate in venue.rates
        if of == symbol
    ]
    return page(request, rows, "fundingTime", most=400)


@ACCOUNT.on("GET", "/api/v5/account/config")
def config(venue: Okx, request: Request) -> Any:
    mode = "long_short_mode" if venue.hedge else "net_mode"
    return good({"acctLv": venue.level, "posMode": mode, "perm": venue.permissions, "ip": "", "uid": "1"})


@ACCOUNT.on("GET", "/api/v5/account/positions")
def positions(venue: Okx, request: Request) -> Any:
    """Of an instrument also what is empty, if it has been there before; of all of them only what is held."""
    if "instId" in request.params:
        symbol = venue.symbol(request.params["instId"])
        empty = {"pos": "0", "avgPx": "", "posSide": "long" if venue.hedge else "net"}
        return good(*(_held(venue, symbol) or [{**_common(venue, symbol), **empty}]))
    return good(*(row for symbol in venue.symbols.values() for row in _held(venue, symbol)))


def _common(venue: Okx, symbol: str) -> dict[str, str]:
    return {
        "instType": "SWAP",
        "instId": market_id(symbol),
        "mgnMode": venue.margin_mode,
        "posId": "307173036051017730",
    }


def _held(venue: Okx, symbol: str) -> list[dict[str, str]]:
    with venue.account() as account:
        held = {side: account.holding(Leg(symbol, side)) for side in _SIDES}
    rows = []
    for side, holding in held.items():
        if holding is not None and holding.entry_price is not None:
            sign = -1 if side == "short" and not venue.hedge else 1
            row = {"pos": plain(sign * holding.contracts), "avgPx": plain(holding.entry_price)}
            rows.append({**_common(venue, symbol), **row, "posSide": side if venue.hedge else "net"})
    return rows


@ACCOUNT.on("GET", "/api/v5/trade/fills")
def fills(venue: Okx, request: Request) -> Any:
    return _fills(venue, request, 3 * _DAY_MS)


@ACCOUNT.on("GET", "/api/v5/trade/fills-history")
def fills_history(venue: Okx, request: Request) -> Any:
    return _fills(venue, request, 90 * _DAY_MS)


def _fills(venue: Okx, request: Request, reach_ms: int) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    sql = "SELECT fills.*, family, client_order_id FROM fills JOIN orders USING (order_id) WHERE fills.symbol = ?"
    with venue.account() as account:
        rows = account._db.execute(f"{sql} ORDER BY trade_id", (symbol,)).fetchall()
    gains = realized(rows, venue.book._terms.contract)
    moments = [list(each) for _, each in groupby(rows, key=lambda row: (row["order_id"], row["at_ms"]))]
    told = [deal(venue, each, sum((gains[row["trade_id"]] for row in each), Decimal(0))) for each in moments]
    return page(request, _since(venue, request, told, reach_ms), "billId")


@ACCOUNT.on("GET", "/api/v5/account/positions-history")
def positions_history(venue: Okx, request: Request) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    with venue.account() as account:
        told = closed_positions(account._db, symbol, venue.book._terms.contract)
    return good(
        *(
            {
                "instId": market_id(symbol),
                "posId": "307173036051017730",
                "direction": each.side,
                "type": "2",
                "realizedPnl": plain(each.gross - each.fees),
                "pnl": plain(each.gross),
                "fee": plain(-each.fees),
                "fundingFee": "0",
                "cTime": str(each.opened_ms),
                "uTime": str(each.closed_ms),
            }
            for each in reversed(told)
        )
    )


@ACCOUNT.on("GET", "/api/v5/account/bills")
def bills(venue: Okx, request: Request) -> Any:
    return _bills(venue, request, 7 * _DAY_MS)


@ACCOUNT.on("GET", "/api/v5/account/bills-archive")
def bills_archive(venue: Okx, request: Request) -> Any:
    return _bills(venue, request, 90 * _DAY_MS)


def _bills(venue: Okx, request: Request, reach_ms: int) -> Any:
    symbol = venue.symbol(request.params.get("instId"))
    with venue.account() as account:
        rows = account._db.execute("SELECT rowid, * FROM funding WHERE symbol = ?", (symbol,)).fetchall()
    told = [_bill(venue, row) for row in rows if request.params.get("type") == "8"]
    return page(request, _since(venue, request, told, reach_ms), "billId")


def _bill(venue: Okx, row: sqlite3.Row) -> dict[str, Any]:
    received = not row["amount"].startswith("-")
    return {
        "billId": str(BILL + row["rowid"]),
        "type": "8",
        "subType": "174" if received else "173",
        "instId": market_id(row["symbol"]),
        "mgnMode": venue.margin_mode,
        "pnl": row["amount"],
        "balChg": row["amount"],
        "ts": str(row["at_ms"]),
    }


def _since(venue: Okx, request: Request, rows: list[dict[str, Any]], reach_ms: int) -> list[dict[str, Any]]:
    begin = max(int(request.params.get("begin", 0)), venue.clock_ms() - reach_ms)
    return [row for row in rows if begin <= int(row["ts"]) <= int(request.params.get("end", 10**15))]
