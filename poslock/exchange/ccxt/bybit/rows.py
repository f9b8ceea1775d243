"""What Bybit's answers mean: rows of its lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from poslock.errors import UnsupportedMarket
from poslock.exchange.ccxt.reading import OrderFields, State, TradeFields, decimal, identifier, kind_of
from poslock.exchange.ccxt.swap import Held

if TYPE_CHECKING:
    from decimal import Decimal

    from poslock.exchange.port import Leg, Order
    from poslock.position import Side, Trade

HOLDING: dict[Side, str] = {"long": "Buy", "short": "Sell"}
REDUCING: dict[Side, str] = {"long": "Sell", "short": "Buy"}
RISES, FALLS = 1, 2
TRIGGER = {"last": "LastPrice", "mark": "MarkPrice"}
_SIDES: dict[str, Side] = {"Buy": "long", "Sell": "short"}
_HEDGE_INDEX: dict[Side, int] = {"long": 1, "short": 2}
_ONE_WAY_INDEX = 0

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
_ORDER = OrderFields("orderId", "orderLinkId", "qty", "cumExecQty", "orderStatus", _STATES, "triggerPrice")
_TRADE = TradeFields("execId", "orderId", "orderLinkId", "execPrice", "execQty", "execFee", "currency", "execTime")

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


def rights(key: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a key may trade, and whether it may withdraw."""
    allowed = {area: set(rights or ()) for area, rights in key["permissions"].items()}
    trades = not key["readOnly"] and {"Order", "Position"} <= allowed.get("ContractTrade", set())
    return trades, "Withdraw" in allowed.get("Wallet", set())


def held(row: dict[str, Any]) -> Held | None:
    """A position.

    Raises:
        UnsupportedMarket: it is a leg of a position mode that is not known.
    """
    contracts, index = decimal(row["size"]), row["positionIdx"]
    if not contracts:
        return None
    side = _SIDES[row["side"]]
    if index not in {_ONE_WAY_INDEX, _HEDGE_INDEX[side]}:
        raise UnsupportedMarket(f"bybit: position index {index!r} of {row['symbol']} is not known")
    return Held(row["symbol"], side, contracts, decimal(row["avgPrice"]), row)


def is_hedge(row: dict[str, Any]) -> bool:
    """Whether the market of a position, or of a leg that holds nothing, is in hedge mode."""
    return bool(row["positionIdx"] != _ONE_WAY_INDEX)


def accepted(found: dict[str, Any], client_order_id: str) -> str:
    """The id of the order that was taken."""
    if found["orderLinkId"] != client_order_id or not found["orderId"]:
        raise ValueError("it is about another order")
    return str(found["orderId"])


def order(row: dict[str, Any], leg: Leg) -> Order | None:
    """An order of any kind, if its side is the one that takes from *leg*; in one-way mode it may open the other one."""
    if row["side"] != REDUCING[leg.side] or row["positionIdx"] not in {_ONE_WAY_INDEX, _HEDGE_INDEX[leg.side]}:
        return None
    return _ORDER.read(row, leg, _family(row, leg))


def resting(row: dict[str, Any], leg: Leg) -> Order | None:
    """The same of a resting order, if it could only take from *leg*."""
    only = row["positionIdx"] != _ONE_WAY_INDEX or row["reduceOnly"] is True or row["closeOnTrigger"] is True
    found = order(row, leg) if only else None
    return None if found is None or found.state != "open" else found


def _family(row: dict[str, Any], leg: Leg) -> str:
    """A plain conditional order has no kind: which one it is, the direction of its trigger says."""
    if known := _FAMILIES.get(row["stopOrderType"]):
        return known
    if not decimal(row["triggerPrice"] or 0):
        return "order"
    return kind_of(leg, rises={RISES: True, FALLS: False}[row["triggerDirection"]])


def trade(row: dict[str, Any], leg: Leg, currency: str, *, hedge: bool) -> tuple[int, Trade] | None:
    """An execution on *leg*, and its place in the order of the market; None for what is no trade of that leg.

    An execution does not name its leg. In hedge mode it either opens or closes: the closed size says which.
    """
    if row["execType"] not in _TRADES:
        return None
    is_exit, closes = row["side"] == REDUCING[leg.side], bool(decimal(row["closedSize"] or 0))
    if hedge and is_exit != closes:
        return None
    return int(row.get("seq") or 0), _TRADE.read({**row, "currency": currency}, is_exit=is_exit)


def funding(row: dict[str, Any], leg: Leg) -> tuple[str, int, Decimal] | None:
    """The id, the time and the amount of a payment, if it was to *leg*: a fee, positive when it was paid."""
    paid = identifier(row["execId"]), int(row["execTime"]), decimal(row["execFee"])
    return paid if row["side"] == HOLDING[leg.side] else None
