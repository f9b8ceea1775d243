"""MEXC's orders that wait: trigger orders ("plan"), TP/SL orders of a position ("stop"), trailing orders ("track").

Trigger orders tell whole seconds. A TP/SL order with both prices is two paper orders, and what ends one of them ends
the other. Trailing orders rest and nothing triggers them; the paper account knows nothing of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopback.mexc_books import CHILD, CLOSES, PLAN, STOP, TRACK, TRIGGERED, Asked, Books, wanted
from loopback.mexc_rows import TYPES, in_mode, of_account
from loopback.mexc_words import good, page, refusal, refuse, whole_seconds
from loopback.samples import sample
from loopback.server import Routes
from loopback.swaps import falls, leg_of

if TYPE_CHECKING:
    import sqlite3

    from loopback.executions import Position
    from poslock.exchange.port import Leg

TRIGGERS = Routes()
_PRIVATE = "/api/v1/private"
_HOURS_MS = 3_600_000
_CYCLES = {1: 24, 2: 168}
_STOP_PRICES = {"stop_loss": "stopLossPrice", "take_profit": "takeProfitPrice"}
_LIVE, _CANCELLED = {0, 1}, 4


@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/place/v2")
def place_plan(books: Books, said: dict[str, Any]) -> Any:
    venue, kind, trend = books.venue, said.get("orderType", 0), said.get("trend", 0)
    contracts, trigger = venue.size(said.get("vol"), too_large="largest_trigger"), said.get("triggerPrice")
    if said.get("triggerType") not in {1, 2}:
        refuse(3002)
    if said.get("executeCycle") not in _CYCLES:
        refuse(3003)
    if kind not in range(1, 6) or trend not in {1, 2, 3}:
        refuse(600)
    price, down = venue.on_tick(trigger, "trigger"), said["triggerType"] == 2
    leg, side, _ = books.terms()
    asked = Asked("plan", side, kind, reduce_only=said.get("reduceOnly") is True, trend=trend)
    asked.rests_ms = _CYCLES[said["executeCycle"]] * _HOURS_MS
    if books.triggers_at_once(leg.symbol, price, falls=down, by_mark=trend == 2):
        refuse(3004)
    family = "stop_loss" if down == (side in {3, 4}) else "take_profit"
    return good(str(PLAN + books.take(leg, asked, contracts, family, price)))


@TRIGGERS.on("GET", f"{_PRIVATE}/planorder/list/orders")
def plans(books: Books, said: dict[str, Any]) -> Any:
    times = books.span()
    rows = [_plan(books, row) for row in books.triggers("plan") if row["created_ms"] in times]
    return good(page(books, wanted(said, rows, "states", "side")))


@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/cancel")
def cancel_plans(books: Books, said: Any) -> Any:
    if not isinstance(said, list) or len(said) > 50:
        refuse(600)
    known = {str(PLAN + row["order_id"]): row for row in books.triggers("plan")}
    found = [known.get(str(each.get("orderId"))) for each in said]
    books.cancel_all(row["order_id"] for row in found if row is not None)
    if None in found:
        return refusal(2040)
    return refusal(2041) if any(row and row["state"] != "open" for row in found) else good()


@TRIGGERS.on("POST", f"{_PRIVATE}/planorder/cancel_all")
def cancel_all_plans(books: Books, said: dict[str, Any]) -> Any:
    markets = books.markets()
    books.cancel_all(row["order_id"] for row in books.triggers("plan") if row["symbol"] in markets)
    return good()


def _plan(books: Books, row: sqlite3.Row) -> dict[str, Any]:
    asked, state = books.asked(row), books.trigger_state(row)
    cycle = 87600 if asked.rests_ms is None else asked.rests_ms // _HOURS_MS
    at_ms = whole_seconds(row["created_ms"], row["order_id"])
    ids = {"id": str(PLAN + row["order_id"]), "orderId": str(CHILD + row["order_id"]) if state == TRIGGERED else "0"}
    terms = {"triggerPrice": Decimal(row["trigger_price"]), "vol": Decimal(row["contracts"]), "trend": asked.trend}
    terms |= {"triggerType": 2 if falls(row) else 1, "executeCycle": cycle, "orderType": asked.kind}
    of = {**of_account(books, row["symbol"]), **dict.fromkeys(("createTime", "updateTime"), at_ms)}
    return in_mode(books, sample("mexc", "plan", ids, terms, of, side=asked.side, state=state), asked)


# TP/SL orders of a position.


def _prices(books: Books, said: dict[str, Any]) -> dict[str, Decimal]:
    prices = {kind: books.venue.on_tick(said[name], "stop") for kind, name in _STOP_PRICES.items() if said.get(name)}
    return prices or refuse(5001)


def _check(books: Books, leg: Leg, prices: dict[str, Decimal]) -> None:
    if any(books.would_trigger(leg, kind, price) for kind, price in prices.items()):
        refuse(5003)


@TRIGGERS.on("POST", f"{_PRIVATE}/stoporder/place")
def place_stop(books: Books, said: dict[str, Any]) -> Any:
    prices, contracts, position = _prices(books, said), books.venue.size(said.get("vol")), _position(books, said)
    leg = position.leg
    _check(books, leg, prices)
    mine = {number: rows for number, rows in _stops(books, only_open=True).items() if _leg(rows[0]) == leg}
    for number, rows in mine.items():  # one that is there already with these very prices is made of this size
        if {row["family"]: Decimal(row["trigger_price"]) for row in rows} == prices:
            books.change(number, "contracts", contracts)
            return good(STOP + number)
    for kind in prices:
        resting = [Decimal(row["contracts"]) for rows in mine.values() for row in rows if row["family"] == kind]
        if sum(resting, contracts) > position.held:
            refuse(5004)
    numbers = []
    for kind, price in prices.items():
        asked = Asked("stop", CLOSES[leg.side], reduce_only=not books.venue.hedge)
        numbers.append(books.take(leg, asked, contracts, kind, price))
    if len(numbers) > 1:
        books.venue.pairs.append((numbers[0], numbers[1]))
    return good(STOP + numbers[0])


def _position(books: Books, said: dict[str, Any]) -> Position:
    held = [each for symbol in books.markets() for each in books.history(symbol).positions if each.held]
    named = [each for each in held if str(each.position_id) == str(said.get("positionId"))]
    return named[0] if named else refuse(2009)


def _stops(books: Books, *, only_open: bool = False) -> dict[int, list[sqlite3.Row]]:
    """The paper orders of each TP/SL order, by the number of the first."""
    first = {second: first for first, second in books.venue.pairs}
    grouped: dict[int, list[sqlite3.Row]] = {}
    for row in books.triggers("stop", "state = 'open'" if only_open else "1"):
        grouped.setdefault(first.get(row["order_id"], row["order_id"]), []).insert(0, row)
    return grouped


def _named(books: Books, said: dict[str, Any]) -> list[sqlite3.Row]:
    """The paper orders of a TP/SL order that rests, none if there is no such one."""
    live = {str(STOP + number): rows for number, rows in _stops(books, only_open=True).items()}
    return live.get(str(said.get("stopPlanOrderId")), [])


def _leg(row: sqlite3.Row) -> Leg:
    return leg_of(row["symbol"], row["side"], reduces=True)


@TRIGGERS.on("GET", f"{_PRIVATE}/stoporder/open_orders")
def open_stops(books: Books, said: dict[str, Any]) -> Any:
    """With those that have ended: the venue's own sample shows one."""
    return good(wanted(said, [_stop(books, *each) for each in _stops(books).items()]))


@TRIGGERS.on("POST", f"{_PRIVATE}/stoporder/change_plan_price")
def change_stop(books: Books, said: dict[str, Any]) -> Any:
    prices, rows = _prices(books, said), _named(books, said) or refuse(5002)
    _check(books, _leg(rows[0]), prices)
    for row in rows:
        if row["family"] in prices:
            books.change(row["order_id"], "trigger_price", prices[row["family"]])
    return good()


@TRIGGERS.on("POST", f"{_PRIVATE}/stoporder/cancel")
def cancel_stops(books: Books, said: Any) -> Any:
    if not isinstance(said, list) or len(said) > 50:
        refuse(600)
    found = [_named(books, each) for each in said]
    books.cancel_all(row["order_id"] for rows in found for row in rows)
    return good() if all(found) else refusal(5002)


@TRIGGERS.on("POST", f"{_PRIVATE}/stoporder/cancel_all")
def cancel_all_stops(books: Books, said: dict[str, Any]) -> Any:
    leg = _position(books, said).leg if said.get("positionId") else None
    books.cancel_all(row["order_id"] for row in books.triggers("stop") if leg in {None, _leg(row)})
    return good()


def _stop(books: Books, number: int, rows: list[sqlite3.Row]) -> dict[str, Any]:
    row = next((row for row in rows if row["filled"] != "0"), rows[0])
    state, prices = books.trigger_state(row), {each["family"]: Decimal(each["trigger_price"]) for each in rows}
    leg, contracts, triggered = _leg(row), Decimal(row["contracts"]), state == TRIGGERED
    position = books.history(leg.symbol).held(leg.side)
    ids = {"id": STOP + number, "positionId": str(position.position_id if position else 0)}
    ids |= {
        "symbol": books.venue.market_id(leg.symbol),
        "placeOrderId": str(CHILD + row["order_id"]) if triggered else "0",
    }
    of = {"positionType": TYPES[leg.side], "state": state, "isFinished": int(row["state"] != "open")}
    which = (1 if row["family"] == "take_profit" else 2) if triggered else 0
    sizes = {"takeProfitVol": contracts if "take_profit" in prices else 0, "vol": contracts, "triggerSide": which}
    sizes |= {"stopLossVol": contracts if "stop_loss" in prices else 0, "realityVol": Decimal(row["filled"])}
    rest = {name: prices.get(kind, 0) for kind, name in _STOP_PRICES.items()}
    rest |= dict.fromkeys(("createTime", "updateTime"), row["created_ms"])
    both = "SAME" if len(rows) > 1 else "SEPARATE"
    return sample("mexc", "stop", ids, of, sizes, rest, profitLossVolType=both)


# Trailing orders.


@TRIGGERS.on("POST", f"{_PRIVATE}/trackorder/place")
def place_track(books: Books, said: dict[str, Any]) -> Any:
    venue, contracts, back = books.venue, books.venue.size(said.get("vol")), said.get("backValue")
    venue.number(back)
    if said.get("backType") not in {1, 2} or said.get("trend") not in {1, 2, 3}:
        refuse(600)
    leg, side, _ = books.terms()
    active, only = said.get("activePrice"), {"reduceOnly": said.get("reduceOnly") is True}
    ids = {"id": str(TRACK + len(venue.tracks) + 1), "side": side, **of_account(books, leg.symbol)}
    terms = {"vol": contracts, "backValue": back, "markPrice": books.price(leg.symbol), "activePrice": active or 0}
    terms |= {"trend": said["trend"], "backType": said["backType"], "triggerType": 2 if side in {3, 4} else 1}
    state = {"state": 0 if active else 1, "positionMode": venue.position_mode}
    state |= dict.fromkeys(("createTime", "updateTime"), venue.clock_ms())
    row = sample("mexc", "track", ids, terms, state, only)
    venue.tracks.append(row)
    return good(row["id"])


@TRIGGERS.on("GET", f"{_PRIVATE}/trackorder/list/orders")
def tracks(books: Books, said: dict[str, Any]) -> Any:
    if "states" not in said:
        refuse(600)
    rows = wanted(said, books.venue.tracks[::-1], "states")
    return good(page(books, rows, names=("pageIndex", "pageSize")))


@TRIGGERS.on("POST", f"{_PRIVATE}/trackorder/cancel")
def cancel_track(books: Books, said: dict[str, Any]) -> Any:
    asked = (said.get("symbol"), str(said.get("trackOrderId")))
    known = [row for row in books.venue.tracks if (row["symbol"], row["id"]) == asked]
    if not known or known[0]["state"] not in _LIVE:
        refuse(2041 if known else 2040)
    known[0]["state"] = _CANCELLED
    return good()
