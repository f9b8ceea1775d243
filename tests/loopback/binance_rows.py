"""How Binance puts things: its codes, and the rows of its lists."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from loopback.server import Refused, Reply

if TYPE_CHECKING:
    import sqlite3

    from loopback.binance import Binance

    Row = sqlite3.Row | dict[str, Any]

WORDS = {
    -1003: "Too many requests; current limit is 2400 requests per minute.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1102: "Mandatory parameter was not sent, was empty/null, or malformed.",
    -1106: "Parameter 'reduceonly' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1121: "Invalid symbol.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter is not valid.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2024: "Position is not sufficient.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4014: "Price not increased by tick size.",
    -4006: "Stop price less than zero.",
    -4015: "Client order id is not valid.",
    -4061: "Order's position side does not match user's setting.",
    -4116: "ClientOrderId is duplicated.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4137: "Quantity must be zero with closePosition equals true",
    -4164: "Order's notional must be no smaller than 5 (unless you choose reduce only)",
    -4165: "Invalid time interval",
}
# The number of a paper order, added to one of these, is its id there. One that triggers gets a second one.
ORDER, CHILD, ALGO = 4_000_000_000, 8_000_000_000, 2_146_000
CONDITIONAL = {
    "STOP": "stop_loss",
    "STOP_MARKET": "stop_loss",
    "TAKE_PROFIT": "take_profit",
    "TAKE_PROFIT_MARKET": "take_profit",
    "TRAILING_STOP_MARKET": "stop_loss",
}
_KINDS = {"order": "MARKET", "stop_loss": "STOP_MARKET", "take_profit": "TAKE_PROFIT_MARKET"}
_ENDS = {"filled": "FILLED", "canceled": "EXPIRED"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request for an order said beyond what a paper order holds."""

    kind: str
    client_id: str
    position_side: str
    reduce_only: bool
    close_position: bool = False
    price: Decimal = Decimal(0)
    working_type: str = "CONTRACT_PRICE"


def refusal(code: int, status: int = 400) -> Reply:
    return Reply(status, {"code": code, "msg": WORDS[code]})


def refuse(code: int, status: int = 400) -> NoReturn:
    raise Refused(refusal(code, status))


def plain(number: Decimal) -> str:
    return format(number, "f")


def asked_of(venue: Binance, row: Row) -> Asked:
    """What was asked for; of orders that did not come over HTTP, what would have been."""
    if (known := venue.asked.get(row["order_id"])) is not None:
        return known
    reducing = bool(row["reduce_only"])
    of_long = (row["side"] == "sell") == reducing
    side = ("LONG" if of_long else "SHORT") if venue.hedge else "BOTH"
    return Asked(_KINDS[row["family"]], f"web_{row['order_id']:x}", side, reducing and not venue.hedge)


def is_algo(row: Row) -> bool:
    return bool(row["family"] != "order")


def order_id(row: Row) -> int:
    """Its id among the plain orders, where a conditional one has another."""
    return (CHILD if is_algo(row) else ORDER) + int(row["order_id"])


def order(venue: Binance, row: sqlite3.Row) -> dict[str, Any]:
    """A plain order, or the one that a conditional one has become."""
    asked, filled = asked_of(venue, row), Decimal(row["filled"])
    kind = ("MARKET" if asked.kind.endswith("MARKET") else "LIMIT") if is_algo(row) else asked.kind
    client_id = f"autoalgo-{row['order_id']}" if is_algo(row) else asked.client_id
    if row["state"] == "open":
        status = "PARTIALLY_FILLED" if filled else "NEW"
    elif asked.close_position and filled:
        status = "FILLED"
    else:
        status = "CANCELED" if row["order_id"] in venue.cancelled else _ENDS[row["state"]]
    return {
        "orderId": order_id(row),
        "symbol": market_id(row["symbol"]),
        "status": status,
        "clientOrderId": client_id,
        "price": plain(asked.price),
        "origQty": "0" if asked.close_position else row["contracts"],
        "executedQty": plain(filled),
        "cumQty": plain(filled),
        "timeInForce": "GTC",
        "type": kind,
        "origType": kind,
        "reduceOnly": asked.reduce_only,
        "closePosition": asked.close_position,
        "side": row["side"].upper(),
        "positionSide": asked.position_side,
        "stopPrice": "0",
        "workingType": asked.working_type,
        "priceProtect": False,
        "updateTime": row["created_ms"],
    }


def algo(venue: Binance, row: sqlite3.Row) -> dict[str, Any]:
    """A conditional order."""
    asked, has_triggered = asked_of(venue, row), bool(Decimal(row["filled"]))
    ended = "FINISHED" if has_triggered else "CANCELED" if row["order_id"] in venue.cancelled else "EXPIRED"
    return {
        "algoId": ALGO + row["order_id"],
        "clientAlgoId": asked.client_id,
        "algoType": "CONDITIONAL",
        "orderType": asked.kind,
        "symbol": market_id(row["symbol"]),
        "side": row["side"].upper(),
        "positionSide": asked.position_side,
        "timeInForce": "GTC",
        "quantity": "0" if asked.close_position else row["contracts"],
        "algoStatus": "NEW" if row["state"] == "open" else ended,
        "actualOrderId": str(order_id(row)) if has_triggered else "",
        "actualPrice": "0.00000",
        "triggerPrice": row["trigger_price"] or "0",
        "price": plain(asked.price),
        "workingType": asked.working_type,
        "closePosition": asked.close_position,
        "priceProtect": False,
        "reduceOnly": asked.reduce_only,
        "createTime": row["created_ms"],
        "updateTime": row["created_ms"],
        "triggerTime": 0,
        "goodTillDate": 0,
    }


def trade(venue: Binance, row: Row) -> dict[str, Any]:
    """A fill together with its order."""
    price, contracts = Decimal(row["price"]), Decimal(row["contracts"])
    return {
        "symbol": market_id(row["symbol"]),
        "id": row["trade_id"],
        "orderId": order_id(row),
        "side": row["side"].upper(),
        "positionSide": asked_of(venue, row).position_side,
        "price": row["price"],
        "qty": row["contracts"],
        "quoteQty": plain(price * contracts),
        "commission": row["fee"],
        "commissionAsset": row["fee_currency"],
        "marginAsset": row["fee_currency"],
        "realizedPnl": "0",
        "buyer": row["side"] == "buy",
        "maker": False,
        "time": row["at_ms"],
    }


def market_id(symbol: str) -> str:
    return symbol.partition(":")[0].replace("/", "")
