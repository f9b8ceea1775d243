"""The rows of MEXC's lists of orders, executions and positions.

Executions and orders that have ended tell their times in whole seconds, positions and live orders in milliseconds.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, ORDER
from loopback.mexc_words import whole_seconds
from loopback.samples import sample
from loopback.swaps import together

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from loopback.executions import Position
    from loopback.mexc_books import Asked, Books

TYPES = {"long": 1, "short": 2}
_STATES = {"open": 2, "filled": 3, "canceled": 4}


def order_id(row: Mapping[str, Any] | sqlite3.Row) -> str:
    """The id of a plain order, or of the one that a triggered order became."""
    return str((ORDER if row["family"] == "order" else CHILD) + row["order_id"])


def of_account(books: Books, symbol: str) -> dict[str, Any]:
    """What most rows say of the account."""
    said = {"symbol": books.venue.market_id(symbol), "openType": books.venue.open_type}
    return {**said, "leverage": books.venue.leverage}


def in_mode(books: Books, row: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """The row of an order: reduceOnly is there in one-way mode only."""
    row["positionMode"] = books.venue.position_mode
    return row if books.venue.hedge else {**row, "reduceOnly": asked.reduce_only}


def order(books: Books, row: sqlite3.Row) -> dict[str, Any]:
    asked, fills = books.asked(row), books.deals("fills.order_id = ?", row["order_id"])
    history, is_plain = books.history(row["symbol"]), row["family"] == "order"
    filled = Decimal(together(fills, "contracts"))
    spent = sum((Decimal(fill["contracts"]) * Decimal(fill["price"]) for fill in fills), Decimal(0))
    created_ms = row["created_ms"] if is_plain or not fills else fills[0]["at_ms"]
    times = {"createTime": created_ms, "updateTime": fills[-1]["at_ms"] if fills else created_ms}
    if row["state"] != "open":
        times = {name: whole_seconds(at_ms, row["order_id"]) for name, at_ms in times.items()}
    gains = [history.of_fill[fill["trade_id"]] for fill in fills]
    oid = asked.external_oid if is_plain else f"_m_{row['order_id']:032x}"
    state = {"state": _STATES[row["state"]], "positionId": gains[0][0].position_id if gains else 0, **times}
    terms = {"price": asked.price, "vol": Decimal(row["contracts"]), "side": asked.side, "orderType": asked.kind}
    done = {
        "dealAvgPrice": spent / filled if filled else 0,
        "dealVol": filled,
        "takerFee": Decimal(together(fills, "fee")),
    }
    done["profit"] = sum((gain for _, gain in gains), Decimal(0))
    ids = {
        "feeCurrency": books.contract.settle,
        "orderId": order_id(row),
        "externalOid": oid,
        **of_account(books, row["symbol"]),
    }
    said = sample("mexc", "order", ids, state, terms, done)
    return in_mode(books, said, asked)


def deal(books: Books, fill: Mapping[str, Any]) -> dict[str, Any]:
    [row] = books.rows("order_id = ?", fill["order_id"])
    sizes = {"vol": Decimal(fill["contracts"]), "price": Decimal(fill["price"]), "fee": Decimal(fill["fee"])}
    of = {"symbol": books.venue.market_id(fill["symbol"]), "side": books.asked(row).side, "orderId": order_id(row)}
    ids = {"id": str(fill["trade_id"]), "timestamp": whole_seconds(fill["at_ms"], fill["trade_id"])}
    _, profit = books.history(fill["symbol"]).of_fill[fill["trade_id"]]
    return sample("mexc", "deal", of, sizes, ids, feeCurrency=fill["fee_currency"], profit=profit)


def position(books: Books, held: Position) -> dict[str, Any]:
    now = books.holding(held.leg) if held.held else None
    entry = now.entry_price if now else held.entry
    paid = books.payments(held.leg.symbol)
    received = sum((Decimal(row["amount"]) for row in paid if books.paid_for(row) is held), Decimal(0))
    of = {"positionId": held.position_id, "positionType": TYPES[held.leg.side], "state": 1 if now else 3}
    of |= {"createTime": held.opened_ms, "updateTime": held.updated_ms, **of_account(books, held.leg.symbol)}
    sizes = {"holdVol": now.contracts if now else 0, "frozenVol": books.frozen(held.leg) if now else 0}
    prices: dict[str, Any] = dict.fromkeys(("holdAvgPrice", "openAvgPrice"), entry)
    prices |= dict.fromkeys(("holdAvgPriceFullyScale", "openAvgPriceFullyScale"), str(entry))
    closed = {"closeVol": held.closed, "closeAvgPrice": held.closed_for / held.closed if held.closed else 0}
    gains = {"closeProfitLoss": held.profit, "holdFee": received, "realised": held.profit - held.fees + received}
    return sample("mexc", "position", of, sizes, prices, closed, gains, fee=-held.fees, totalFee=held.fees)
