"""How OKX puts things: its envelope, its codes, and the rows of its lists."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from loopback.connections import Refused, Reply
from loopback.samples import refusals, sample
from loopback.swaps import leg_of, plain, together

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from loopback.okx import Okx
    from loopback.swaps import Account
    from poslock.exchange.port import Leg

WORDS = refusals("okx", status=200)
# The number of a paper order, added to one of these, is its id there; the order that a trigger becomes has another one.
ORDER, CHILD, ALGO, ELSE = 680_800_000_000_000_000, 680_900_000_000_000_000, 590_900_000_000_000_000, 590_910_000_000
BILL = 623_950_000_000_000_000


def good(*rows: Any) -> dict[str, Any]:
    """A success."""
    return {"code": "0", "msg": "", "data": list(rows)}


def refusal(what: Any, words: str = "") -> Reply:
    """A request that was not let in, or not understood."""
    code, usual, status = WORDS[what]
    return Reply(status, {"code": str(code), "msg": words or usual, "data": []})


def fail(code: int, words: str = "") -> NoReturn:
    """Raise the refusal of an operation: its own code, inside an answer that says that all have failed."""
    row = {"ordId": "", "clOrdId": "", "algoId": "", "sCode": str(code), "sMsg": words or WORDS[code].words}
    raise Refused(Reply(200, {"code": "1", "msg": "All operations failed", "data": [row]}))


def page(books: Account, rows: Sequence[dict[str, Any]], key: str, most: int = 100) -> dict[str, Any]:
    """A part of a list, the latest first: what is older than the row after which it goes on."""
    limit, after = books.venue.limit(books.said, most, most), books.said.get("after")
    told = sorted(rows, key=lambda row: int(row[key]), reverse=True)
    return good(*[row for row in told if after is None or int(row[key]) < int(after)][:limit])


def judged(books: Account, said: dict[str, Any], most: Decimal, too_large: int) -> tuple[Leg, bool, Decimal]:
    """The leg that an order is about, whether it only takes from it, and its size, if all that fits the account."""
    venue = books.venue
    symbol, side, position = venue.symbol(said.get("instId")), said["side"], said.get("posSide", "net")
    if position not in ({"long", "short"} if venue.hedge else {"net"}):
        fail(51000, "Parameter posSide  error")
    reduces = said.get("reduceOnly") is True
    if venue.hedge:
        reduces = side == {"long": "sell", "short": "buy"}[position]
    leg = leg_of(symbol, side, reduces=reduces)
    contracts = (
        books.held(leg) if said.get("closeFraction") == "1" else operation(venue.size, said["sz"], most, too_large)
    )
    # A position of the other margin mode would be another one.
    held = books.held(leg) if said["tdMode"] == venue.margin_mode else Decimal(0)
    if reduces and not held:
        other = books.held(replace(leg, side="short" if leg.side == "long" else "long"))
        fail(51170 if other and not venue.hedge else 51169)
    if reduces and contracts > held:  # it is not cut down
        fail(51112 if venue.hedge else 51148)
    return leg, reduces, contracts


def operation(judge: Any, said: Any, largest: Any = None, too_large: Any = None) -> Decimal:
    """What *judge* says; its refusal is one of an operation."""
    try:
        value: Decimal = judge(said, **({} if largest is None else {"largest": largest, "too_large": too_large}))
    except Refused as refused:
        fail(int(refused.reply.body["code"]))
    return value


def order_id(row: Any) -> str:
    """Its id among the plain orders, where a conditional one has another."""
    return str((ORDER if row["family"] == "order" else CHILD) + int(row["order_id"]))


def _common(venue: Okx, row: sqlite3.Row, reduces: int) -> dict[str, Any]:
    """What rows of orders and of fills have alike."""
    leg = leg_of(row["symbol"], row["side"], reduces=bool(reduces))
    position = {"instId": venue.market_id(row["symbol"]), "posSide": leg.side if venue.hedge else "net"}
    return {**position, "side": row["side"]}


def _of_order(venue: Okx, row: sqlite3.Row) -> dict[str, Any]:
    # In long/short mode reduceOnly says nothing.
    only = "true" if row["reduce_only"] and not venue.hedge else "false"
    times = dict.fromkeys(("cTime", "uTime"), str(row["created_ms"]))
    common = _common(venue, row, row["reduce_only"])
    return {**common, **times, "reduceOnly": only, "tdMode": venue.margin_mode, "sz": row["contracts"]}


def order(venue: Okx, row: sqlite3.Row) -> dict[str, Any]:
    """A plain order, or the one that a conditional one has become."""
    asked, filled, is_child = venue.asked.get(row["order_id"], {}), Decimal(row["filled"]), row["family"] != "order"
    state = {"open": "partially_filled" if filled else "live"}.get(row["state"], row["state"])
    ids: dict[str, Any] = {"ordId": order_id(row), "clOrdId": asked.get("clOrdId", "")}
    if is_child:
        ids |= {"algoId": str(ALGO + row["order_id"]), "algoClOrdId": asked.get("algoClOrdId", "")}
    kinds = {"ordType": "market" if is_child else asked.get("ordType", "market"), "px": asked.get("px", "")}
    return sample("okx", "order", {**_of_order(venue, row), **ids, **kinds}, accFillSz=plain(filled), state=state)


def algo(venue: Okx, row: sqlite3.Row) -> dict[str, Any]:
    """A conditional order that waits for one price."""
    asked, filled = venue.asked.get(row["order_id"], {}), Decimal(row["filled"])
    of_kind = {"stop_loss": "slTriggerPx", "take_profit": "tpTriggerPx"}[row["family"]]
    kind = asked.get("ordType", "conditional")
    ids = {"algoId": str(ALGO + row["order_id"]), "algoClOrdId": asked.get("algoClOrdId", ""), "ordType": kind}
    done = {"actualSz": plain(filled), "ordIdList": [order_id(row)] if filled else [], "last": asked.get("last", "")}
    state = "effective" if filled else {"open": "live"}.get(row["state"], "canceled")
    price = {"triggerPx" if kind == "trigger" else of_kind: row["trigger_price"]}
    return sample("okx", "algo", {**_of_order(venue, row), **ids, **done, **price}, state=state)


def deal(venue: Okx, rows: Sequence[sqlite3.Row], gain: Decimal) -> dict[str, Any]:
    """Fills that are one there: what turns a position round says it nowhere."""
    first = rows[0]
    asked = venue.asked.get(first["order_id"], {})
    number = first["trade_id"] * (-1 if first["trade_id"] in venue.liquidated else 1)
    ids = {"tradeId": str(number), "billId": str(BILL + first["trade_id"]), "ordId": order_id(first)}
    ids |= {"clOrdId": asked.get("clOrdId", ""), "ts": str(first["at_ms"] + 1), "fillTime": str(first["at_ms"])}
    sizes = {"fillPx": first["price"], "fillSz": together(rows, "contracts"), "fillPnl": plain(gain)}
    cost = {"fee": plain(-Decimal(together(rows, "fee"))), "feeCcy": first["fee_currency"]}
    return sample("okx", "fill", _common(venue, first, first["reduced"]), ids, sizes, cost)
