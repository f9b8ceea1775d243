"""How Bybit puts things: its envelope, its codes, and the rows of its lists."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from loopback.server import Refused, Reply

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from loopback.bybit import Bybit
    from loopback.server import Request
    from poslock.position import Side

WORDS = {
    10001: "Request parameter error.",
    10002: "The request time exceeds the time window range.",
    10003: "API key is invalid.",
    10004: "Error sign, please check your signature generation algorithm.",
    10006: "Too many visits. Exceeded the API Rate Limit.",
    10016: "Server error.",
    110001: "Order does not exist",
    110008: "The order has been completed or cancelled.",
    110010: "The order has been cancelled",
    110017: "current position is zero, cannot fix reduce-only order qty",
    110072: "OrderLinkedID is duplicate",
    110074: "This contract is not live",
    110092: "expect Rising, but trigger_price <= current",
    110093: "expect Falling, but trigger_price >= current",
}
SIDES = {"buy": "Buy", "sell": "Sell"}
_POSITION_STOPS = {"order": "", "stop_loss": "StopLoss", "take_profit": "TakeProfit"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request for an order said beyond what a paper order holds."""

    order_type: str = "Market"
    stop_type: str = ""
    price: Decimal = Decimal(0)


def good(venue: Bybit, result: dict[str, Any]) -> dict[str, Any]:
    """A success."""
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": venue.clock_ms()}


def refusal(code: int, words: str = "") -> Reply:
    return Reply(200, {"retCode": code, "retMsg": words or WORDS[code], "result": {}, "retExtInfo": {}, "time": 1})


def refuse(code: int, words: str = "") -> NoReturn:
    raise Refused(refusal(code, words))


def page(venue: Bybit, request: Request, rows: Sequence[dict[str, Any]], *, usual: int, most: int) -> dict[str, Any]:
    """A part of a list, and where it goes on: also after its last page, when nothing is left."""
    limit = int(request.params.get("limit", usual))
    if not 1 <= limit <= most:
        refuse(10001)
    start = int(str(request.params.get("cursor", "page:0")).removeprefix("page:"))
    part = rows[start : start + limit]
    cursor = f"page%3A{start + limit}" if part else ""
    return good(venue, {"category": "linear", "list": part, "nextPageCursor": cursor})


def plain(number: Decimal) -> str:
    return format(number, "f")


def leg_of(row: sqlite3.Row) -> Side:
    """The side of the position that an order or a fill is about."""
    reduces = row["reduce_only"] if "reduce_only" in row.keys() else row["reduced"]  # noqa: SIM118  # a row is no dict
    return "long" if (row["side"] == "sell") == bool(reduces) else "short"


def index_of(venue: Bybit, side: Side) -> int:
    return {"long": 1, "short": 2}[side] if venue.hedge else 0


def order(venue: Bybit, row: sqlite3.Row) -> dict[str, Any]:
    """An order of any kind."""
    asked = venue.asked.get(row["order_id"]) or Asked(stop_type=_POSITION_STOPS[row["family"]])
    filled, trigger = Decimal(row["filled"]), row["trigger_price"]
    falls = (row["family"] == "stop_loss") == (row["side"] == "sell")
    waiting = "New" if trigger is None else "Untriggered"
    status = {"open": "PartiallyFilled" if filled else waiting, "filled": "Filled", "canceled": "Cancelled"}
    return {
        "orderId": order_id(row["order_id"]),
        "orderLinkId": row["client_order_id"] or "",
        "symbol": market_id(row["symbol"]),
        "price": plain(asked.price),
        "qty": row["contracts"],
        "side": SIDES[row["side"]],
        "positionIdx": index_of(venue, leg_of(row)),
        "orderStatus": status[row["state"]],
        "cancelType": "UNKNOWN",
        "rejectReason": "EC_NoError",
        "avgPrice": "",
        "leavesQty": plain(Decimal(row["contracts"]) - filled) if row["state"] == "open" else "0",
        "cumExecQty": plain(filled),
        "timeInForce": "GTC" if asked.order_type == "Limit" else "IOC",
        "orderType": asked.order_type,
        "stopOrderType": asked.stop_type,
        "triggerPrice": trigger or "",
        "triggerDirection": 0 if trigger is None else 2 if falls else 1,
        "triggerBy": "" if trigger is None else "LastPrice",
        "reduceOnly": bool(row["reduce_only"]),
        "closeOnTrigger": asked.stop_type in _POSITION_STOPS.values() and trigger is not None,
        "createdTime": str(row["created_ms"]),
        "updatedTime": str(row["created_ms"]),
    }


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
    return {
        "symbol": market_id(first["symbol"]),
        "orderId": order_id(first["order_id"]),
        "orderLinkId": first["client_order_id"] or "",
        "side": SIDES[first["side"]],
        "orderType": "Market",
        "stopOrderType": "UNKNOWN",
        "execFee": plain(sum((Decimal(row["fee"]) for row in rows), Decimal(0))),
        "execId": f"e0cbe81d-{first['trade_id']}",
        "execPrice": first["price"],
        "execQty": plain(sum((Decimal(row["contracts"]) for row in rows), Decimal(0))),
        "execType": "Trade",
        "execTime": str(first["at_ms"]),
        "feeCurrency": "",
        "isMaker": False,
        "closedSize": plain(closed) if closed else "",
        "seq": first["trade_id"],
    }


def funding(row: sqlite3.Row, side: Side) -> dict[str, Any]:
    """A funding payment, which stands among the executions; what is paid is positive."""
    return {
        "symbol": market_id(row["symbol"]),
        "orderId": f"{row['at_ms']}-{row['rowid']}",
        "orderLinkId": "",
        "side": {"long": "Buy", "short": "Sell"}[side],
        "orderType": "UNKNOWN",
        "stopOrderType": "UNKNOWN",
        "execFee": plain(-Decimal(row["amount"])),
        "execId": f"11f1c4ed-{row['rowid']}",
        "execPrice": "28399.90",
        "execQty": "0.011",
        "execType": "Funding",
        "execTime": str(row["at_ms"]),
        "feeCurrency": "",
        "isMaker": False,
        "closedSize": "0.000",
        "seq": 1,
    }


def market_id(symbol: str) -> str:
    return symbol.partition(":")[0].replace("/", "")
