"""What OKX's answers mean: rows of its lists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from poslock.errors import UnsupportedMarket
from poslock.exchange.ccxt.reading import OrderFields, State, TradeFields, decimal, each_price, identifier, kind_of
from poslock.exchange.ccxt.swap import Held

if TYPE_CHECKING:
    from decimal import Decimal

    from poslock.exchange.port import Leg, Order
    from poslock.position import Side, Trade

REDUCING: dict[Side, str] = {"long": "sell", "short": "buy"}
NET = "net"
STOP_PRICE = {"stop_loss": "sl", "take_profit": "tp"}
FUNDING = "8"

_STATES: dict[str, State] = {
    **dict.fromkeys(("live", "partially_filled"), "open"),
    "filled": "filled",
    **dict.fromkeys(("canceled", "mmp_canceled"), "canceled"),
}
# Of a conditional order by itself; one that is "effective" is what became of the orders that it sent.
_ALGO_STATES: dict[str, State] = {
    **dict.fromkeys(("live", "pause", "partially_effective", "effective"), "open"),
    **dict.fromkeys(("canceled", "order_failed", "partially_failed"), "canceled"),
}
_TRIGGERED = frozenset({"effective", "partially_effective", "partially_failed"})


_ORDER = OrderFields("ordId", "clOrdId", "sz", "accFillSz", "state", _STATES, prefix="order:")
_ALGO = OrderFields("algoId", "algoClOrdId", "sz", "", "state", _ALGO_STATES, prefix="algo:")
_TRADE = TradeFields("tradeId", "ordId", "clOrdId", "fillPx", "fillSz", "fee", "feeCcy", "fillTime")


def data(answer: dict[str, Any]) -> Any:
    """The rows of a good answer. Of operations each row says by itself what became of it: `done` judges that."""
    # ccxt lets through what succeeded in part.
    tells_each = answer["data"] and all("sCode" in row for row in answer["data"])
    if answer["code"] != "0" and not (answer["code"] == "2" and tells_each):
        raise ValueError(json.dumps(answer))
    return answer["data"]


def done(row: dict[str, Any]) -> dict[str, Any]:
    """*row*, if it is of an operation that was carried out, or of none."""
    if row.get("sCode", "0") != "0":
        raise ValueError(json.dumps({"data": [row]}))
    return row


def accepted(row: dict[str, Any], client_order_id: str, number: str, client_id: str) -> str:
    """The id of the order that was taken; *number* and *client_id* are what the row calls the two ids."""
    if row[client_id] != client_order_id or not row[number]:
        raise ValueError("it is about another order")
    return identifier(row[number])


def hedge(row: dict[str, Any]) -> bool:
    """Whether the account holds long and short side by side.

    Raises:
        UnsupportedMarket: its level or its mode is not known.
    """
    # In portfolio margin (4) orders cannot be reduce-only, and at level 1 there are no swaps.
    if row["acctLv"] not in {"2", "3"}:
        raise UnsupportedMarket(f"okx: account level {row['acctLv']!r} is not known, only 2 and 3 are")
    known = {"long_short_mode": True, "net_mode": False}
    if row["posMode"] not in known:
        raise UnsupportedMarket(f"okx: position mode {row['posMode']!r} is not known")
    return known[row["posMode"]]


def held(row: dict[str, Any]) -> Held | None:
    """A position: in net mode the sign of its size is its side.

    It gets no position id: ``posId`` stands for margin mode, side, instrument and currency, and "does not change after
    closing and reopening the position" (the venue's guide to its API, "Identifiers"), so it tells no later one apart.

    Raises:
        UnsupportedMarket: its margin mode is not known.
    """
    contracts, mode = decimal(row["pos"] or 0), row["mgnMode"]
    if not contracts:
        return None
    if mode not in {"cross", "isolated"}:
        raise UnsupportedMarket(f"okx: margin mode {mode!r} of {row['instId']} is not known")
    sides: dict[str, Side] = {"long": "long", "short": "short", NET: "long" if contracts > 0 else "short"}
    return Held(row["instId"], sides[row["posSide"]], abs(contracts), decimal(row["avgPx"]), row)


def takes_from(row: dict[str, Any], leg: Leg) -> bool:
    """Whether an order's side is the one that takes from *leg*; in net mode it may open the other one."""
    return row["side"] == REDUCING[leg.side] and row["posSide"] in {NET, leg.side}


def reduces(row: dict[str, Any], leg: Leg) -> bool:
    """Whether a resting order could only take from *leg*."""
    return takes_from(row, leg) and (row["posSide"] != NET or row["reduceOnly"] == "true")


def order(row: dict[str, Any], leg: Leg) -> Order:
    """A plain order; one that a conditional order has sent bears the id of that."""
    named = {"clOrdId": row["clOrdId"] or row["algoClOrdId"], "accFillSz": row["accFillSz"] or 0}
    return _ORDER.read({**row, **named}, leg)


def algos(row: dict[str, Any], leg: Leg) -> list[Order]:
    """A conditional order, as the one or two orders that it stands for."""
    trigger = {"stop_loss": row["slTriggerPx"], "take_profit": row["tpTriggerPx"]}
    given: dict[str, Decimal | None] = {kind: decimal(each) for kind, each in trigger.items() if each}
    if row["ordType"] == "trigger":
        # It does not say in which direction. "last" is the price at which it was made.
        at = decimal(row["triggerPx"])
        given = {kind_of(leg, rises=at > decimal(row["last"])): at}
    elif row["ordType"] == "conditional" and len(given) > 1:
        del given["take_profit"]  # which the venue ignores then
    elif not given:
        given = {"trailing" if row["ordType"] == "move_order_stop" else "order": None}
    # What closes all of the position, whatever that is then, has no size.
    return each_price(_ALGO.read({**row, "sz": row["sz"] or 0}, leg), given)


def children(row: dict[str, Any]) -> list[str]:
    """The ids of the orders that a conditional order has sent."""
    sent = row["ordIdList"]
    if not isinstance(sent, list):
        raise TypeError("it is no list")
    return [str(each) for each in sent] if row["state"] in _TRIGGERED else []


def rate(row: dict[str, Any]) -> tuple[int, Decimal]:
    """The time of a funding, and its rate."""
    return int(row["fundingTime"]), decimal(row["realizedRate"])


def bill(row: dict[str, Any]) -> tuple[int, tuple[int, Decimal]] | None:
    """The id, the time and the amount of a bill, if it is one of a funding that moved something."""
    amount = decimal(row["pnl"] or 0) if row["type"] == FUNDING else None
    return (int(row["billId"]), (int(row["ts"]), amount)) if amount else None


def trade(row: dict[str, Any], leg: Leg) -> tuple[int, Trade] | None:
    """A fill and its place in the venue's own lists, None if it is one of the other leg.

    Its place is not its trade id, which is below zero for liquidations. What the venue charges is a negative fee there.
    """
    if row["posSide"] not in {NET, leg.side}:
        return None
    is_exit = row["side"] == REDUCING[leg.side]
    return int(row["billId"]), _TRADE.read({**row, "fee": -decimal(row["fee"] or 0)}, is_exit=is_exit)
