"""MEXC's trailing orders. They rest here and nothing triggers them; the paper account knows nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CLOSES, TRACK
from loopback.mexc_orders import check_margin, contracts_of, leg_of, number
from loopback.mexc_words import good, page, refuse
from loopback.server import Request, Routes

if TYPE_CHECKING:
    from loopback.mexc import Mexc

TRACKS = Routes()
_PRIVATE = "/api/v1/private"
_LIVE, _CANCELLED = {0, 1}, 4


@TRACKS.on("POST", f"{_PRIVATE}/trackorder/place")
def place(venue: Mexc, request: Request) -> Any:
    said = request.params
    leg, side = leg_of(venue, said)
    contracts, back = contracts_of(venue, said), number(said, "backValue", 600)
    if said.get("backType") not in {1, 2} or said.get("trend") not in {1, 2, 3}:
        refuse(600)
    with venue.books() as books:
        closing = side in CLOSES.values() or said.get("reduceOnly") is True
        if closing and books.history(leg.symbol).held(leg.side) is None:
            refuse(2009)
        check_margin(books, leg, said)
        price = books.price(leg.symbol)
    row = {
        "id": str(TRACK + len(venue.tracks) + 1),
        "symbol": said["symbol"],
        "leverage": venue.leverage,
        "side": side,
        "vol": contracts,
        "openType": venue.open_type,
        "trend": said["trend"],
        "activePrice": said.get("activePrice") or 0,
        "markPrice": price,
        "backType": said["backType"],
        "backValue": back,
        "triggerPrice": 0,
        "triggerType": 2 if side in {3, 4} else 1,
        "orderId": "0",
        "errorCode": 0,
        "state": 0 if said.get("activePrice") else 1,
        "createTime": venue.clock_ms(),
        "updateTime": venue.clock_ms(),
        "positionMode": venue.position_mode,
        "reduceOnly": said.get("reduceOnly") is True,
    }
    venue.tracks.append(row)
    return good(row["id"])


@TRACKS.on("GET", f"{_PRIVATE}/trackorder/list/orders")
def listed(venue: Mexc, request: Request) -> Any:
    said = request.params
    if "states" not in said:
        refuse(600)
    rows = [row for row in reversed(venue.tracks) if str(row["state"]) in said["states"].split(",")]
    wanted = [row for row in rows if said.get("symbol") in {None, row["symbol"]}]
    return good(page(request, wanted, names=("pageIndex", "pageSize")))


@TRACKS.on("POST", f"{_PRIVATE}/trackorder/cancel")
def cancel(venue: Mexc, request: Request) -> Any:
    asked = (request.params.get("symbol"), str(request.params.get("trackOrderId")))
    known = [row for row in venue.tracks if (row["symbol"], row["id"]) == asked]
    if not known or known[0]["state"] not in _LIVE:
        refuse(2041 if known else 2040)
    known[0]["state"] = _CANCELLED
    return good()
