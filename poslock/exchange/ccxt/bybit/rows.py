"""What Bybit's answers mean: rows of its lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from poslock.errors import (
    UnsupportedMarket,
)
from poslock.exchange.ccxt.reading import State, decimal, identifier, kind_of
from poslock.exchange.ccxt.swap import Held
from poslock.exchange.port import Leg, Order
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from poslock.position import Side

T = TypeVar("T")

HOLDING: dict[Side, str] = {"long": "Buy", "short": "Sell"}
REDUCING: dict[Side, str] = {"long": "Sell", "short": "Buy"}
HEDGE_INDEX: dict[Side, int] = {"long": 1, "short": 2}
ONE_WAY_INDEX = 0
RISES, FALLS = 1, 2
PRICE = {"last": "lastPrice", "mark": "markPrice"}
TRIGGER = {"last": "LastPrice", "mark": "MarkPrice"}
_SIDES: dict[str, Side] = {"Buy": "long", "Sell": "short"}

_STATES: dict[str, State] = {
    **dict.fromkeys(("New", "PartiallyFilled", "Untriggered", "Triggered"), "open"),
    "Filled": "filled",
    **dict.fromkeys(("Cancelled", "Rejected", "Deactivated"), "canceled"),
}
_FAMILIES = {
    "TakeProfit": "take_profit",
    "PartialTakeProfit": "take_profit",
    "StopLoss": "stop_loss",
    "PartialStopLoss": "stop_loss",
    "TrailingStop": "trailing",
}

# Executions that move a position: liquidation (BustTrade), deleveraging and delisting (Delivery) are real exits. Not
# here, because the position stays as it is: Funding, Settle and SessionSettlePnL (settlements of P&L), Dividend, the
# settlements of share splits. A kind that is not known is none either: then a close stays unsettled and says so, where
# an exit that never was would be booked.
_TRADES = frozenset({"Trade", "AdlTrade", "BustTrade", "Delivery", "BlockTrade", "MovePosition", "FutureSpread"})


def result(answer: dict[str, Any]) -> dict[str, Any]:
    """What a good answer carries. ccxt lets one code through that is no success."""
    if answer["retCode"] != 0 or not isinstance(answer["result"], dict):
        raise ValueError("it was no success")
    found: dict[str, Any] = answer["result"]
    return found


def page(answer: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> tuple[list[T], str]:
    """What *read* makes of the rows of a list, and where it goes on; empty at its end."""
    found = result(answer)
    if not isinstance(found["list"], list):
        raise TypeError("it is no list")
    return [read(row) for row in found["list"]], found.get("nextPageCursor") or ""


def rights(answer: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a key may trade, and whether it may withdraw."""
    key = result(answer)
    allowed = {area: set(rights or ()) for area, rights in key["permissions"].items()}
    trades = not key["readOnly"] and {"Order", "Position"} <= allowed.get("ContractTrade", set())
    return trades, "Withdraw" in allowed.get("Wallet", set())


def price(answer: dict[str, Any], symbol: str, name: str) -> Decimal:
    """A price of a market, by its name there."""
    [row] = result(answer)["list"]
    if row["symbol"] != symbol:
        raise ValueError("it is about another market")
    return decimal(row[name])


def position(row: dict[str, Any]) -> tuple[Side, Held] | None:
    """A leg that holds something, and its side.

    Raises:
        UnsupportedMarket: it is a leg of a position mode that is not known.
    """
    contracts, index = decimal(row["size"]), row["positionIdx"]
    if not contracts:
        return None
    side = _SIDES[row["side"]]
    if index not in {ONE_WAY_INDEX, HEDGE_INDEX[side]}:
        raise UnsupportedMarket(f"bybit: position index {index!r} of {row['symbol']} is not known")
    return side, Held(contracts, decimal(row["avgPrice"]), row)


def accepted(answer: dict[str, Any], client_order_id: str) -> str:
    """The id of the order that was taken."""
    found = result(answer)
    if found["orderLinkId"] != client_order_id or not found["orderId"]:
        raise ValueError("it is about another order")
    return str(found["orderId"])


def takes_from(row: dict[str, Any], leg: Leg) -> bool:
    """Whether an order's side is the one that takes from *leg*; in one-way mode it may open the other one."""
    index = row["positionIdx"]
    return row["side"] == REDUCING[leg.side] and index in {ONE_WAY_INDEX, HEDGE_INDEX[leg.side]}


def reduces(row: dict[str, Any], leg: Leg) -> bool:
    """Whether a resting order could only take from *leg*."""
    only = row["positionIdx"] != ONE_WAY_INDEX or row["reduceOnly"] is True or row["closeOnTrigger"] is True
    return only and takes_from(row, leg)


def order(row: dict[str, Any], leg: Leg) -> Order:
    """An order that takes from *leg*, of any kind: conditional ones stand in the same lists."""
    trigger = decimal(row["triggerPrice"] or 0)
    return Order(
        order_id=identifier(row["orderId"]),
        client_order_id=row["orderLinkId"] or None,
        family=_family(row, leg, trigger),
        leg=leg,
        contracts=decimal(row["qty"]),
        filled=decimal(row["cumExecQty"]),
        state=_STATES.get(row["orderStatus"], "open"),
        trigger_price=trigger or None,
    )


def _family(row: dict[str, Any], leg: Leg, trigger: Decimal) -> str:
    """A plain conditional order has no kind: which one it is, the direction of its trigger says."""
    if known := _FAMILIES.get(row["stopOrderType"]):
        return known
    if not trigger:
        return "order"
    return kind_of(leg, rises={RISES: True, FALLS: False}[row["triggerDirection"]])


def is_hedge(row: dict[str, Any]) -> bool:
    """Whether the market of a position, or of a leg that holds nothing, is in hedge mode."""
    return bool(row["positionIdx"] != ONE_WAY_INDEX)


def trade(row: dict[str, Any], leg: Leg, currency: str, *, hedge: bool) -> tuple[int, Trade] | None:
    """An execution on *leg*, and its place in the order of the market; None for what is no trade of that leg.

    An execution does not name its leg. In hedge mode it either opens or closes: the closed size says which.
    """
    if row["execType"] not in _TRADES:
        return None
    is_exit, closes = row["side"] == REDUCING[leg.side], bool(decimal(row["closedSize"] or 0))
    if hedge and is_exit != closes:
        return None
    fill = Fill(
        trade_id=identifier(row["execId"]),
        client_order_id=row["orderLinkId"] or None,
        price=decimal(row["execPrice"]),
        contracts=decimal(row["execQty"]),
        fee=decimal(row["execFee"]),
        fee_currency=currency,
        at_ms=int(row["execTime"]),
    )
    return int(row.get("seq") or 0), Trade("exit" if is_exit else "entry", str(row["orderId"]) or None, fill)
