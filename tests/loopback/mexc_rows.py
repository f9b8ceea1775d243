"""The rows of MEXC's lists of orders, executions and positions.

Executions and orders that have ended tell their times in whole seconds, positions and live orders in milliseconds.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, ORDER
from loopback.mexc_words import market_id, whole_seconds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from loopback.mexc_books import Books, Position

_STATES = {"open": 2, "filled": 3, "canceled": 4}


def order_id(row: sqlite3.Row) -> str:
    """The id of a plain order, or of the one that a triggered order became."""
    return str((ORDER if row["family"] == "order" else CHILD) + row["order_id"])


def created_ms(books: Books, row: sqlite3.Row) -> int:
    """When a plain order came to be, also one that a triggered order became."""
    fills = [] if row["family"] == "order" else books.fills("fills.order_id = ?", row["order_id"])
    return int(fills[-1]["at_ms"] if fills else row["created_ms"])


def order(books: Books, row: sqlite3.Row) -> dict[str, Any]:
    asked, fills = books.asked(row), books.fills("fills.order_id = ?", row["order_id"])
    history, venue = books.history(row["symbol"]), books.venue
    filled = sum((Decimal(fill["contracts"]) for fill in fills), Decimal(0))
    spent = sum((Decimal(fill["contracts"]) * Decimal(fill["price"]) for fill in fills), Decimal(0))
    times = {"createTime": created_ms(books, row), "updateTime": fills[0]["at_ms"] if fills else row["created_ms"]}
    if row["state"] != "open":
        times = {name: whole_seconds(at_ms, row["order_id"]) for name, at_ms in times.items()}
    said = {
        "orderId": order_id(row),
        "symbol": market_id(row["symbol"]),
        "positionId": history.of_fill[fills[-1]["trade_id"]][0].position_id if fills else 0,
        "price": asked.price,
        "vol": Decimal(row["contracts"]),
        "leverage": venue.leverage,
        "side": asked.side,
        "category": 1,
        "orderType": asked.kind,
        "dealAvgPrice": spent / filled if filled else 0,
        "dealVol": filled,
        "orderMargin": 0,
        "takerFee": sum((Decimal(fill["fee"]) for fill in fills), Decimal(0)),
        "makerFee": 0,
        "profit": sum((history.of_fill[fill["trade_id"]][1] for fill in fills), Decimal(0)),
        "feeCurrency": books.contract.settle,
        "openType": venue.open_type,
        "state": _STATES[row["state"]],
        "externalOid": asked.external_oid if row["family"] == "order" else f"_m_{row['order_id']:032x}",
        "errorCode": 0,
        "usedMargin": 0,
        **times,
        "positionMode": venue.position_mode,
    }
    return said if venue.hedge else {**said, "reduceOnly": asked.reduce_only}


def deal(books: Books, fill: Mapping[str, Any]) -> dict[str, Any]:
    [row] = books.orders("order_id = ?", fill["order_id"])
    return {
        "id": str(fill["trade_id"]),
        "symbol": market_id(fill["symbol"]),
        "side": books.asked(row).side,
        "vol": Decimal(fill["contracts"]),
        "price": Decimal(fill["price"]),
        "feeCurrency": fill["fee_currency"],
        "fee": Decimal(fill["fee"]),
        "timestamp": whole_seconds(fill["at_ms"], fill["trade_id"]),
        "profit": books.history(fill["symbol"]).of_fill[fill["trade_id"]][1],
        "category": 1,
        "orderId": order_id(row),
        "taker": True,
    }


def position(books: Books, held: Position) -> dict[str, Any]:
    now = books.account.holding(held.leg) if held.held else None
    entry = now.entry_price if now else held.entry
    received = sum((Decimal(row["amount"]) for row, paid_to in books.funding() if paid_to is held), Decimal(0))
    return {
        "positionId": held.position_id,
        "symbol": market_id(held.leg.symbol),
        "positionType": 1 if held.leg.side == "long" else 2,
        "openType": books.venue.open_type,
        "state": 1 if now else 3,
        "holdVol": now.contracts if now else 0,
        "frozenVol": books.frozen(held.leg) if now else 0,
        "closeVol": held.closed,
        "holdAvgPrice": entry,
        "holdAvgPriceFullyScale": str(entry),
        "openAvgPrice": entry,
        "openAvgPriceFullyScale": str(entry),
        "closeAvgPrice": held.closed_for / held.closed if held.closed else 0,
        "liquidatePrice": 0,
        "oim": 0,
        "im": 0,
        "holdFee": received,
        "realised": held.profit - held.fees + received,
        "closeProfitLoss": held.profit,
        "fee": -held.fees,
        "totalFee": held.fees,
        "leverage": books.venue.leverage,
        "adlLevel": None,
        "createTime": held.opened_ms,
        "updateTime": held.updated_ms,
        "autoAddIm": False,
    }
