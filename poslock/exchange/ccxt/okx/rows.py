"""What OKX's answers mean: rows of its lists."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from poslock.errors import (
    UnsupportedMarket,
)
from poslock.exchange.ccxt.reading import State, decimal, identifier, kind_of
from poslock.exchange.ccxt.swap import Held
from poslock.exchange.port import Leg, Order
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.position import Side

T = TypeVar("T")

REDUCING: dict[Side, str] = {"long": "sell", "short": "buy"}
NET = "net"
STOP_PRICE = {"stop_loss": "sl", "take_profit": "tp"}

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


def of(answer: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> list[T]:
    """What *read* makes of the rows of an answer, none of which may be an error of its own."""
    # ccxt lets through what succeeded in part.
    if answer["code"] != "0" or any(row.get("sCode", "0") != "0" for row in answer["data"]):
        raise ValueError(json.dumps(answer))
    return [read(row) for row in answer["data"]]


def only(answer: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
    """As `of`, of an answer that has one."""
    [found] = of(answer, read)
    return found


def accepted(row: dict[str, Any], client_order_id: str, kind: Literal["ord", "algo"]) -> str:
    """The id of the order that was taken."""
    number, client_id = {"ord": ("ordId", "clOrdId"), "algo": ("algoId", "algoClOrdId")}[kind]
    if row[client_id] != client_order_id or not row[number]:
        raise ValueError("it is about another order")
    return str(row[number])


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


def position(row: dict[str, Any]) -> tuple[Side, Held] | None:
    """A leg that holds something, and its side: in net mode the sign of its size.

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
    return sides[row["posSide"]], Held(abs(contracts), decimal(row["avgPx"]), row)


def takes_from(row: dict[str, Any], leg: Leg) -> bool:
    """Whether an order's side is the one that takes from *leg*; in net mode it may open the other one."""
    return row["side"] == REDUCING[leg.side] and row["posSide"] in {NET, leg.side}


def reduces(row: dict[str, Any], leg: Leg) -> bool:
    """Whether a resting order could only take from *leg*."""
    return takes_from(row, leg) and (row["posSide"] != NET or row["reduceOnly"] == "true")


def order(row: dict[str, Any], leg: Leg) -> Order:
    """A plain order; one that a conditional order has sent bears the id of that."""
    return Order(
        order_id=f"order:{identifier(row['ordId'])}",
        client_order_id=row["clOrdId"] or row["algoClOrdId"] or None,
        family="order",
        leg=leg,
        contracts=decimal(row["sz"]),
        filled=decimal(row["accFillSz"] or 0),
        state=_STATES.get(row["state"], "open"),
    )


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
    # One half cannot be cancelled by itself: its id says so, and `Okx.cancel` looks.
    name = f"algo:{'half:' * (len(given) > 1)}{identifier(row['algoId'])}"
    state, client_id = _ALGO_STATES.get(row["state"], "open"), row["algoClOrdId"] or None
    # What closes all of the position, whatever that is then, has no size.
    contracts = decimal(row["sz"] or 0)
    return [Order(name, client_id, kind, leg, contracts, Decimal(0), state, at) for kind, at in given.items()]


def children(row: dict[str, Any]) -> list[str]:
    """The ids of the orders that a conditional order has sent."""
    sent = row["ordIdList"]
    if not isinstance(sent, list):
        raise TypeError("it is no list")
    return [str(each) for each in sent] if row["state"] in _TRIGGERED else []


def rate(row: dict[str, Any]) -> tuple[int, Decimal]:
    """The time of a funding, and its rate."""
    return int(row["fundingTime"]), decimal(row["realizedRate"])


def trade(row: dict[str, Any], leg: Leg) -> Trade | None:
    """A row of a list of fills, None if it is one of the other leg. What the venue charges is a negative fee there."""
    if row["posSide"] not in {NET, leg.side}:
        return None
    fill = Fill(
        trade_id=identifier(row["tradeId"]),
        client_order_id=row["clOrdId"] or None,
        price=decimal(row["fillPx"]),
        contracts=decimal(row["fillSz"]),
        fee=-decimal(row["fee"] or 0),
        fee_currency=str(row["feeCcy"]),
        at_ms=int(row["fillTime"]),
    )
    return Trade("exit" if row["side"] == REDUCING[leg.side] else "entry", row["ordId"] or None, fill)
