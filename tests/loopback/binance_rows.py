"""How Binance puts things: its codes, and the rows of its lists."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.connections import Reply
from loopback.samples import refusals, sample
from loopback.swaps import leg_of, plain

if TYPE_CHECKING:
    import sqlite3

    from loopback.binance import Binance

    Row = sqlite3.Row | dict[str, Any]

WORDS = refusals("binance", status=400)
# The number of a paper order, added to one of these, is its id there. One that triggers gets a second one.
ORDER, CHILD, ALGO = 4_000_000_000, 8_000_000_000, 2_146_000
CONDITIONAL = {
    **dict.fromkeys(("STOP", "STOP_MARKET", "TRAILING_STOP_MARKET"), "stop_loss"),
    **dict.fromkeys(("TAKE_PROFIT", "TAKE_PROFIT_MARKET"), "take_profit"),
}
_KINDS = {"order": "MARKET", "stop_loss": "STOP_MARKET", "take_profit": "TAKE_PROFIT_MARKET"}


def refusal(what: Any, words: str = "") -> Reply:
    code, usual, status = WORDS[what]
    return Reply(status, {"code": code, "msg": words or usual})


def is_true(said: dict[str, Any], name: str) -> bool:
    """Whether a request says so; a boolean of it is text."""
    return bool(said.get(name) == "true")


def asked_of(venue: Binance, row: Row) -> dict[str, Any]:
    """What was asked for; of orders that did not come over HTTP, what would have been."""
    if (known := venue.asked.get(row["order_id"])) is not None:
        return dict(known)
    leg, only = leg_of("", row["side"], reduces=row["reduce_only"]), row["reduce_only"] and not venue.hedge
    side = {"positionSide": leg.side.upper()} if venue.hedge else {"reduceOnly": "true" if only else "false"}
    return {"type": _KINDS[row["family"]], "client id": f"web_{row['order_id']:x}", **side}


def is_algo(row: Row) -> bool:
    return bool(row["family"] != "order")


def order_id(row: Row) -> int:
    """Its id among the plain orders, where a conditional one has another."""
    return (CHILD if is_algo(row) else ORDER) + int(row["order_id"])


def _common(venue: Binance, row: Row, asked: dict[str, Any]) -> dict[str, Any]:
    """What orders of both kinds say alike."""
    flags = {name: is_true(asked, name) for name in ("reduceOnly", "closePosition")}
    of = {"symbol": venue.market_id(row["symbol"]), "side": row["side"].upper(), "updateTime": row["created_ms"]}
    prices = {"price": asked.get("price", "0"), "workingType": asked.get("workingType", "CONTRACT_PRICE")}
    return {**of, **flags, **prices, "positionSide": asked.get("positionSide", "BOTH")}


def order(venue: Binance, row: sqlite3.Row) -> dict[str, Any]:
    """A plain order, or the one that a conditional one has become."""
    asked, filled = asked_of(venue, row), Decimal(row["filled"])
    kind = ("MARKET" if asked["type"].endswith("MARKET") else "LIMIT") if is_algo(row) else asked["type"]
    ended = "CANCELED" if row["order_id"] in venue.cancelled else {"filled": "FILLED"}.get(row["state"], "EXPIRED")
    if row["state"] == "open":
        ended = "PARTIALLY_FILLED" if filled else "NEW"
    whole = is_true(asked, "closePosition")
    state = {"status": "FILLED" if whole and filled else ended, "time": row["created_ms"]}
    client_id = f"autoalgo-{row['order_id']}" if is_algo(row) else asked["client id"]
    ids = {"orderId": order_id(row), "clientOrderId": client_id, "type": kind, "origType": kind}
    sizes = {"origQty": "0" if whole else row["contracts"], **dict.fromkeys(("executedQty", "cumQty"), plain(filled))}
    return sample("binance", "order", _common(venue, row, asked), state, ids, sizes)


def algo(venue: Binance, row: sqlite3.Row) -> dict[str, Any]:
    """A conditional order."""
    asked, has_triggered = asked_of(venue, row), bool(Decimal(row["filled"]))
    ended = "FINISHED" if has_triggered else "CANCELED" if row["order_id"] in venue.cancelled else "EXPIRED"
    size = "0" if is_true(asked, "closePosition") else row["contracts"]
    ids = {"algoId": ALGO + row["order_id"], "clientAlgoId": asked["client id"], "orderType": asked["type"]}
    state = {"algoStatus": "NEW" if row["state"] == "open" else ended, "createTime": row["created_ms"]}
    terms = {"quantity": size, "triggerPrice": row["trigger_price"] or "0"}
    sent = {"actualOrderId": str(order_id(row)) if has_triggered else ""}
    return sample("binance", "algo", _common(venue, row, asked), ids, state, terms, sent)


def trade(venue: Binance, row: Row) -> dict[str, Any]:
    """A fill together with its order."""
    numbers = {"id": row["trade_id"], "orderId": order_id(row), "price": row["price"], "qty": row["contracts"]}
    cost = {"commission": row["fee"], **dict.fromkeys(("commissionAsset", "marginAsset"), row["fee_currency"])}
    worth = {"quoteQty": plain(Decimal(row["price"]) * Decimal(row["contracts"])), "realizedPnl": "0"}
    side = {"side": row["side"].upper(), "positionSide": asked_of(venue, row).get("positionSide", "BOTH")}
    of = {"symbol": venue.market_id(row["symbol"]), "buyer": row["side"] == "buy", "time": row["at_ms"]}
    return sample("binance", "trade", numbers, cost, worth, side, of)
