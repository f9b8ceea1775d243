"""MEXC's endpoints about positions and the account."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_rows import position
from loopback.mexc_words import good, market_id, page, refuse, span
from loopback.server import Request, Routes

if TYPE_CHECKING:
    from loopback.mexc import Mexc

POSITIONS = Routes()
_PRIVATE = "/api/v1/private"
_TYPES = {"long": 1, "short": 2}


@POSITIONS.on("GET", f"{_PRIVATE}/position/position_mode")
def position_mode(venue: Mexc, request: Request) -> Any:
    return good(venue.position_mode)


@POSITIONS.on("POST", f"{_PRIVATE}/position/change_position_mode")
def change_position_mode(venue: Mexc, request: Request) -> Any:
    if request.params.get("positionMode") != venue.position_mode:
        refuse(7001)
    return good()


@POSITIONS.on("GET", f"{_PRIVATE}/position/open_positions")
def open_positions(venue: Mexc, request: Request) -> Any:
    said = request.params
    with venue.books() as books:
        symbols = [venue.symbol(said["symbol"])] if "symbol" in said else books.symbols()
        held = [each for symbol in symbols for each in books.history(symbol).positions if each.held]
        wanted = [each for each in held if said.get("positionId") in {None, str(each.position_id)}]
        return good([position(books, each) for each in wanted])


@POSITIONS.on("GET", f"{_PRIVATE}/position/list/history_positions")
def history_positions(venue: Mexc, request: Request) -> Any:
    said, times = request.params, span(request, venue.clock_ms())
    with venue.books() as books:
        symbols = [venue.symbol(said["symbol"])] if "symbol" in said else books.symbols()
        ended = [each for symbol in symbols for each in books.history(symbol).positions if not each.held]
        kind = said.get("type", said.get("position_type"))
        wanted = [p for p in ended if p.updated_ms in times and kind in {None, str(_TYPES[p.leg.side])}]
        wanted.sort(key=lambda each: each.updated_ms, reverse=True)
        return good([position(books, each) for each in page(request, wanted)])


@POSITIONS.on("GET", f"{_PRIVATE}/position/funding_records")
def funding_records(venue: Mexc, request: Request) -> Any:
    said = request.params
    rows = [row for row in _funding(venue) if said.get("symbol") in {None, row["symbol"]}]
    rows = [row for row in rows if said.get("position_type") in {None, str(row["positionType"])}]
    rows = [row for row in rows if said.get("position_id") in {None, str(row["positionId"])}]
    if "start_time" in said or "end_time" in said:
        times = span(request, venue.clock_ms())
        rows = [row for row in rows if row["settleTime"] in times]
    size, number = int(said.get("page_size", 20)), int(said.get("page_num", 1))
    listed = [{name: said for name, said in row.items() if name != "positionId"} for row in page(request, rows)]
    pages = {"pageSize": size, "totalCount": len(rows), "totalPage": -(-len(rows) // size), "currentPage": number}
    return good({**pages, "resultList": listed})


@POSITIONS.on("GET", f"{_PRIVATE}/position/leverage")
def leverage(venue: Mexc, request: Request) -> Any:
    venue.symbol(request.params.get("symbol"))
    said = {"level": 1, "imr": 0.008, "mmr": 0.004, "leverage": venue.leverage}
    return good([{"positionType": kind, **said} for kind in _TYPES.values()])


@POSITIONS.on("POST", f"{_PRIVATE}/position/close_all")
def close_all(venue: Mexc, request: Request) -> Any:
    with venue.books() as books:
        for symbol in books.symbols():
            for each in [each for each in books.history(symbol).positions if each.held]:
                books.execute(books.account.insert(each.leg, "order", books.account.held(each.leg)))
    return good()


@POSITIONS.on("GET", f"{_PRIVATE}/account/assets")
def assets(venue: Mexc, request: Request) -> Any:
    none = dict.fromkeys(("positionMargin", "frozenBalance", "unrealized", "bonus"), 0)
    have = dict.fromkeys(("availableBalance", "cashBalance", "equity"), 100_000)
    return good([{"currency": "USDT", **none, **have}])


def _funding(venue: Mexc) -> list[dict[str, Any]]:
    with venue.books() as books:
        return [
            {
                "id": row["rowid"],
                "symbol": market_id(row["symbol"]),
                "positionType": _TYPES[row["side"] or (paid_for.leg.side if paid_for else "long")],
                "positionId": paid_for.position_id if paid_for else 0,
                "positionValue": paid_for.held if paid_for else 0,
                "funding": Decimal(row["amount"]),
                "rate": 0.0001,
                "settleTime": row["at_ms"],
            }
            for row, paid_for in books.funding()
        ]
