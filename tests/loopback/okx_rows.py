"""How OKX puts things: its envelope, its codes, and the rows of its lists."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from loopback.server import Refused, Reply
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from loopback.okx import Okx
    from loopback.server import Request
    from poslock.exchange.matching import Matching
    from poslock.position import Side

# By code: the status that it comes with, and its words.
WORDS = {
    50004: (400, "Endpoint request timeout (does not mean that the request was successful or failed)"),
    50011: (429, "Too Many Requests"),
    50036: (200, "The expTime can't be earlier than the current system time."),
    50046: (200, "This feature is currently unavailable. We are carrying out maintenance."),
    50102: (401, "Timestamp request expired"),
    50105: (401, 'Request header "OK-ACCESS-PASSPHRASE" incorrect'),
    50110: (401, "Your IP is not included in your API key's IP whitelist"),
    50111: (401, "Invalid OK-ACCESS-KEY"),
    50113: (401, "Invalid Sign"),
    51000: (400, "Parameter error"),
    51001: (200, "Instrument ID doesn't exist."),
    51016: (200, "Client order ID already exists."),
    51020: (200, "Your order should meet or exceed the minimum order amount."),
    51065: (200, "algoClOrdId already exists."),
    51112: (200, "Close order size exceeds the available size for this position."),
    51121: (200, "Order quantity must be a multiple of the lot size."),
    51148: (200, "Failed to place order. The order would make reduce-only orders open the reverse position."),
    51149: (500, "Order timed out. Please try again."),
    51169: (200, "Order failed because you don't have any positions in this direction to reduce or close."),
    51170: (200, "Failed to place order. A reduce-only order can't be the same trading direction as your position."),
    51203: (200, "Order amount exceeds the limit."),
    51202: (200, "Market order amount exceeds the maximum amount."),
    51206: (200, "Please cancel the Reduce Only order before placing the current order."),
    51277: (200, "The take-profit trigger price can't be higher than the last price."),
    51278: (200, "The stop-loss trigger price can't be lower than the last price."),
    51279: (200, "The take-profit trigger price can't be lower than the last price."),
    51280: (200, "The stop-loss trigger price can't be higher than the last price."),
    51400: (200, "Cancellation failed as the order has been filled, canceled or does not exist."),
    51603: (200, "Order does not exist."),
}
# The number of a paper order, added to one of these, is its id there; the order that a trigger becomes has another one.
ORDER, CHILD, ALGO, ELSE = 680_800_000_000_000_000, 680_900_000_000_000_000, 590_900_000_000_000_000, 590_910_000_000
BILL = 623_950_000_000_000_000
_CLIENT_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_LOT, TICK = Decimal("0.01"), Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request for an order said beyond what a paper order holds."""

    client_id: str = ""
    kind: str = "market"
    price: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the request for an order says about whom it takes from."""

    leg: Leg
    reduces: bool
    contracts: Decimal
    client_id: str


def good(*rows: Any) -> dict[str, Any]:
    """A success."""
    return {"code": "0", "msg": "", "data": list(rows)}


def refusal(code: int) -> Reply:
    """A request that was not let in, or not understood."""
    status, words = WORDS[code]
    return Reply(status, {"code": str(code), "msg": words, "data": []})


def refuse(code: int) -> NoReturn:
    raise Refused(refusal(code))


def fail(code: int, words: str = "") -> NoReturn:
    """Raise the refusal of an operation: its own code, inside an answer that says that all have failed."""
    row = {"ordId": "", "clOrdId": "", "algoId": "", "sCode": str(code), "sMsg": words or WORDS[code][1]}
    raise Refused(Reply(200, {"code": "1", "msg": "All operations failed", "data": [row]}))


def page(request: Request, rows: Sequence[dict[str, Any]], key: str, most: int = 100) -> dict[str, Any]:
    """A part of a list, the latest first: what is older than the row after which it goes on."""
    limit, after = int(request.params.get("limit", most)), request.params.get("after")
    if not 1 <= limit <= most:
        refuse(51000)
    told = sorted(rows, key=lambda row: int(row[key]), reverse=True)
    return good(*[row for row in told if after is None or int(row[key]) < int(after)][:limit])


def terms(venue: Okx, account: Matching, said: dict[str, Any], client_id: str) -> Terms:
    """Judge the request for an order, plain or conditional."""
    symbol, side, position = venue.symbol(said.get("instId")), said["side"], said.get("posSide", "net")
    if client_id and not _CLIENT_ID.fullmatch(client_id):
        refuse(51000)
    if position not in ({"long", "short"} if venue.hedge else {"net"}):
        fail(51000, "Parameter posSide  error")
    reduces = said.get("reduceOnly") is True
    if venue.hedge:
        reduces = side == {"long": "sell", "short": "buy"}[position]
    leg = Leg(symbol, "long" if (side == "sell") == reduces else "short")
    contracts = account.held(leg) if said.get("closeFraction") == "1" else Decimal(said["sz"])
    if contracts < _LOT or contracts % _LOT:
        fail(51020 if contracts < _LOT else 51121)
    # A position of the other margin mode would be another one.
    held = account.held(leg) if said["tdMode"] == venue.margin_mode else Decimal(0)
    if reduces and not held:
        other = account.held(replace(leg, side="short" if leg.side == "long" else "long"))
        fail(51170 if other and not venue.hedge else 51169)
    if reduces and contracts > held:  # it is not cut down
        fail(51112 if venue.hedge else 51148)
    return Terms(leg, reduces, contracts, client_id)


def plain(number: Decimal) -> str:
    return format(number, "f")


def asked_of(venue: Okx, row: sqlite3.Row) -> Asked:
    """What was asked for; of orders that did not come over HTTP, what would have been."""
    return venue.asked.get(row["order_id"]) or Asked(kind="market" if row["family"] == "order" else "conditional")


def leg_of(row: sqlite3.Row, reduces: int) -> Side:
    return "long" if (row["side"] == "sell") == bool(reduces) else "short"


def order_id(row: sqlite3.Row) -> str:
    """Its id among the plain orders, where a conditional one has another."""
    return str((ORDER if row["family"] == "order" else CHILD) + int(row["order_id"]))


def order(venue: Okx, row: sqlite3.Row) -> dict[str, Any]:
    """A plain order, or the one that a conditional one has become."""
    asked, filled, is_child = asked_of(venue, row), Decimal(row["filled"]), row["family"] != "order"
    state = {"open": "partially_filled" if filled else "live"}.get(row["state"], row["state"])
    return {
        "instType": "SWAP",
        "instId": market_id(row["symbol"]),
        "ordId": order_id(row),
        "clOrdId": "" if is_child else asked.client_id,
        "algoId": str(ALGO + row["order_id"]) if is_child else "",
        "algoClOrdId": asked.client_id if is_child else "",
        "sz": row["contracts"],
        "accFillSz": plain(filled),
        "ordType": "market" if is_child else asked.kind,
        "px": asked.price,
        "side": row["side"],
        "posSide": leg_of(row, row["reduce_only"]) if venue.hedge else "net",
        "tdMode": venue.margin_mode,
        "state": state,
        # In long/short mode the field says nothing.
        "reduceOnly": "true" if row["reduce_only"] and not venue.hedge else "false",
        "category": "normal",
        "cTime": str(row["created_ms"]),
        "uTime": str(row["created_ms"]),
    }


def algo(venue: Okx, row: sqlite3.Row) -> dict[str, Any]:
    """A conditional order that waits for one price."""
    asked, filled, trigger = asked_of(venue, row), Decimal(row["filled"]), row["trigger_price"]
    prices = {"slTriggerPx": "", "tpTriggerPx": "", "triggerPx": ""}
    of_kind = {"stop_loss": "slTriggerPx", "take_profit": "tpTriggerPx"}[row["family"]]
    prices["triggerPx" if asked.kind == "trigger" else of_kind] = trigger
    return {
        "instType": "SWAP",
        "instId": market_id(row["symbol"]),
        "algoId": str(ALGO + row["order_id"]),
        "algoClOrdId": asked.client_id,
        "ordType": asked.kind,
        "side": row["side"],
        "posSide": leg_of(row, row["reduce_only"]) if venue.hedge else "net",
        "tdMode": venue.margin_mode,
        "sz": row["contracts"],
        "closeFraction": "",
        "state": "effective" if filled else {"open": "live"}.get(row["state"], "canceled"),
        **prices,
        "last": asked.last,
        "actualSz": plain(filled),
        "ordIdList": [order_id(row)] if filled else [],
        "reduceOnly": "true" if row["reduce_only"] and not venue.hedge else "false",
        "cTime": str(row["created_ms"]),
    }


def deal(venue: Okx, rows: Sequence[sqlite3.Row], gain: Decimal) -> dict[str, Any]:
    """Fills that are one there: what turns a position round says it nowhere."""
    first = rows[0]
    is_child, asked = first["family"] != "order", asked_of(venue, first)
    return {
        "instType": "SWAP",
        "instId": market_id(first["symbol"]),
        "tradeId": str(first["trade_id"] * (-1 if first["trade_id"] in venue.liquidated else 1)),
        "ordId": order_id(first),
        "clOrdId": "" if is_child else asked.client_id,
        "billId": str(BILL + first["trade_id"]),
        "fillPx": first["price"],
        "fillSz": plain(sum((Decimal(row["contracts"]) for row in rows), Decimal(0))),
        "fillPnl": plain(gain),
        "side": first["side"],
        "posSide": leg_of(first, first["reduced"]) if venue.hedge else "net",
        "execType": "T",
        "fee": plain(-sum((Decimal(row["fee"]) for row in rows), Decimal(0))),
        "feeCcy": first["fee_currency"],
        "ts": str(first["at_ms"] + 1),
        "fillTime": str(first["at_ms"]),
    }


def market_id(symbol: str) -> str:
    return f"{symbol.partition(':')[0].replace('/', '-')}-SWAP"
