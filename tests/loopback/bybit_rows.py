"""How Bybit puts things: its envelope, its codes, and the rows of its lists."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.connections import Reply
from loopback.samples import refusals, sample
from loopback.swaps import falls, leg_of, plain, together

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from loopback.bybit import Bybit
    from loopback.swaps import Account
    from poslock.position import Side

WORDS = refusals("bybit", status=200)
SIDES = {"buy": "Buy", "sell": "Sell"}
OPENED: dict[Side, str] = {"long": "Buy", "short": "Sell"}
_POSITION_STOPS = {"order": "", "stop_loss": "StopLoss", "take_profit": "TakeProfit"}


def good(books: Account, result: dict[str, Any]) -> dict[str, Any]:
    """A success."""
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": books.venue.clock_ms()}


def refusal(what: Any, words: str = "") -> Reply:
    code, usual, status = WORDS[what]
    return Reply(status, {"retCode": code, "retMsg": words or usual, "result": {}, "retExtInfo": {}, "time": 1})


def page(books: Account, rows: Sequence[dict[str, Any]], *, usual: int, most: int) -> dict[str, Any]:
    """A part of a list, and where it goes on: also after its last page, when nothing is left."""
    limit = books.venue.limit(books.said, usual, most)
    start = int(str(books.said.get("cursor", "page:0")).removeprefix("page:"))
    part = rows[start : start + limit]
    cursor = f"page%3A{start + limit}" if part else ""
    return good(books, {"category": "linear", "list": part, "nextPageCursor": cursor})


def index_of(venue: Bybit, side: Side) -> int:
    return {"long": 1, "short": 2}[side] if venue.hedge else 0


def order(venue: Bybit, row: sqlite3.Row) -> dict[str, Any]:
    """An order of any kind; one that did not come over HTTP belongs to its position."""
    asked = venue.asked.get(row["order_id"])
    filled, trigger = Decimal(row["filled"]), row["trigger_price"]
    waiting = "New" if trigger is None else "Untriggered"
    status = {"open": "PartiallyFilled" if filled else waiting, "filled": "Filled", "canceled": "Cancelled"}
    kind = asked["orderType"] if asked else "Market"
    waits = {"stopOrderType": "", "triggerPrice": "", "triggerDirection": 0, "triggerBy": "", "closeOnTrigger": False}
    if trigger is not None:
        waits |= {"triggerPrice": trigger, "triggerDirection": 2 if falls(row) else 1, "triggerBy": "LastPrice"}
        waits |= {"stopOrderType": "Stop" if asked else _POSITION_STOPS[row["family"]], "closeOnTrigger": not asked}
    leg = leg_of(row["symbol"], row["side"], reduces=row["reduce_only"])
    left = plain(Decimal(row["contracts"]) - filled) if row["state"] == "open" else "0"
    sizes = {"qty": row["contracts"], "leavesQty": left, "cumExecQty": plain(filled)}
    ids = {"orderId": order_id(row["order_id"]), "orderLinkId": row["client_order_id"] or ""}
    of = {
        "symbol": venue.market_id(row["symbol"]),
        "side": SIDES[row["side"]],
        "positionIdx": index_of(venue, leg.side),
    }
    price, in_force = (asked["price"], "GTC") if asked and kind == "Limit" else ("0", "IOC")
    terms = {"orderType": kind, "price": price, "timeInForce": in_force, "reduceOnly": bool(row["reduce_only"])}
    times = dict.fromkeys(("createdTime", "updatedTime"), str(row["created_ms"]))
    return sample("bybit", "order", ids, of, sizes, waits, terms, times, orderStatus=status[row["state"]])


def order_id(number: int) -> str:
    return f"c6f055d9-7f21-4079-913d-{number:012d}"


def number_of(said: Any) -> int:
    """The number of an order whose id this is, 0 if it is no such id."""
    tail = str(said).rpartition("-")[2]
    return int(tail) if tail.isdecimal() and said == order_id(int(tail)) else 0


def execution(venue: Bybit, rows: Sequence[sqlite3.Row]) -> dict[str, Any]:
    """Fills that are one there: what turned a position round closed with a part of it."""
    first = rows[0]
    closed = sum((Decimal(row["contracts"]) for row in rows if row["reduced"]), Decimal(0))
    ids = {"orderId": order_id(first["order_id"]), "orderLinkId": first["client_order_id"] or ""}
    number = {"execId": f"e0cbe81d-{first['trade_id']}", "seq": first["trade_id"], "execTime": str(first["at_ms"])}
    of = {"symbol": venue.market_id(first["symbol"]), "side": SIDES[first["side"]], "execPrice": first["price"]}
    sizes = {"execQty": together(rows, "contracts"), "closedSize": plain(closed) if closed else ""}
    return sample("bybit", "execution", ids, number, of, sizes, execFee=together(rows, "fee"))


def funding(venue: Bybit, row: sqlite3.Row, side: Side) -> dict[str, Any]:
    """A funding payment, which stands among the executions; what is paid is positive."""
    ids = {"orderId": f"{row['at_ms']}-{row['rowid']}", "execId": f"11f1c4ed-{row['rowid']}", "seq": 1}
    kinds = {"orderType": "UNKNOWN", "execType": "Funding", "closedSize": "0.000", "side": OPENED[side]}
    paid = {"execFee": plain(-Decimal(row["amount"])), "execTime": str(row["at_ms"])}
    return sample("bybit", "execution", ids, kinds, paid, symbol=venue.market_id(row["symbol"]))
