"""What Binance's answers mean: rows of its lists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from poslock.exchange.ccxt.reading import OrderFields, State, TradeFields, decimal, total
from poslock.exchange.ccxt.swap import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal

    from poslock.exchange.port import Leg, Order
    from poslock.position import Side, Trade

T = TypeVar("T")

POSITION_SIDE: dict[Side, str] = {"long": "LONG", "short": "SHORT"}
_SIDES: dict[str, Side] = {"LONG": "long", "SHORT": "short"}
REDUCING: dict[Side, str] = {"long": "SELL", "short": "BUY"}
STOP_TYPE = {"stop_loss": "STOP_MARKET", "take_profit": "TAKE_PROFIT_MARKET"}
WORKING_TYPE = {"last": "CONTRACT_PRICE", "mark": "MARK_PRICE"}

_ONE_WAY = "BOTH"
_FAMILIES = {
    "STOP": "stop_loss",
    "STOP_MARKET": "stop_loss",
    "TAKE_PROFIT": "take_profit",
    "TAKE_PROFIT_MARKET": "take_profit",
    "TRAILING_STOP_MARKET": "trailing",
}
_STATES: dict[str, State] = {
    **dict.fromkeys(("NEW", "PARTIALLY_FILLED"), "open"),
    "FILLED": "filled",
    **dict.fromkeys(("CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"), "canceled"),
}
# Of a conditional order that has not become an order of the book; one that has is that order.
_ALGO_STATES: dict[str, State] = {
    **dict.fromkeys(("NEW", "TRIGGERING", "TRIGGERED"), "open"),
    **dict.fromkeys(("CANCELED", "REJECTED", "EXPIRED", "FINISHED"), "canceled"),
}
_ORDER = OrderFields("orderId", "clientOrderId", "origQty", "executedQty", "status", _STATES, "stopPrice", "order:")
_ALGO = OrderFields("algoId", "clientAlgoId", "quantity", "", "algoStatus", _ALGO_STATES, "triggerPrice", "algo:")
# A commission is taken for positive if it was paid; the documentation has had it both ways.
_TRADE = TradeFields("id", "orderId", None, "price", "qty", "commission", "commissionAsset", "time")
# The clock by which funding is charged is seconds from the one that its rate is published under.
_SAME_FUNDING_MS = 30 * 60_000


def held(row: dict[str, Any]) -> Held | None:
    """A position; in one-way mode the sign of its amount is its side."""
    amount, said = decimal(row["positionAmt"]), row["positionSide"]
    side: Side = ("long" if amount > 0 else "short") if said == _ONE_WAY else _SIDES[said]
    return Held(row["symbol"], side, abs(amount), decimal(row["entryPrice"]), row) if amount else None


def reducing(row: dict[str, Any], leg: Leg, read: Callable[[dict[str, Any], Leg], T]) -> T | None:
    """What *read* makes of an order that could only take from *leg*, None for any other."""
    only = row["positionSide"] != _ONE_WAY or is_true(row["reduceOnly"]) or is_true(row["closePosition"])
    return read(row, leg) if only and _takes_from(row, leg) else None


def _takes_from(row: dict[str, Any], leg: Leg) -> bool:
    # In one-way mode it may also open the other side.
    return row["side"] == REDUCING[leg.side] and row["positionSide"] in {POSITION_SIDE[leg.side], _ONE_WAY}


def order(row: dict[str, Any], leg: Leg) -> Order:
    """A plain order."""
    return _ORDER.read({"stopPrice": None, **row}, leg, _FAMILIES.get(row["type"], "order"))


def algo(row: dict[str, Any], leg: Leg) -> Order:
    """A conditional order, as long as it is no order of the book; of no size, if it closes the whole position."""
    return _ALGO.read({**row, "quantity": row["quantity"] or 0}, leg, _FAMILIES.get(row["orderType"], "order"))


def conditional(row: dict[str, Any], leg: Leg) -> tuple[Order, int]:
    """As `algo`, and the id of the order of the book that it has become, 0 for none."""
    return algo(row, leg), int(row.get("actualOrderId") or 0)


def triggered(conditional: Order, actual: Order) -> Order:
    """The order that a conditional one has become."""
    was = conditional
    return replace(actual, client_order_id=was.client_order_id, family=was.family, trigger_price=was.trigger_price)


def filled_by(conditional: Order, trades: Sequence[Trade]) -> Order:
    """A conditional order that has triggered, as far as its fills tell."""
    filled = total(trade.fill.contracts for trade in trades)
    is_whole = filled > 0 and filled >= conditional.contracts
    return replace(conditional, filled=filled, state="filled" if is_whole else conditional.state)


def trade(row: dict[str, Any], leg: Leg) -> Trade | None:
    """An execution, None if it is one of another leg."""
    if row["positionSide"] not in {POSITION_SIDE[leg.side], _ONE_WAY}:
        return None
    return _TRADE.read(row, is_exit=_takes_from(row, leg))


class Payment(NamedTuple):
    """Funding that was received, or paid if it is negative; ``position_side`` is there should the venue tell it."""

    at_ms: int
    amount: Decimal
    position_side: str | None


def payment(row: dict[str, Any], currency: str) -> Payment | None:
    """A funding payment, None if it is one in another currency."""
    if row["asset"] != currency:
        return None
    return Payment(int(row["time"]), decimal(row["income"]), row.get("positionSide"))


def rate(row: dict[str, Any]) -> tuple[int, Decimal]:
    """The time of a funding, and its rate."""
    return int(row["fundingTime"]), decimal(row["fundingRate"])


def is_of_leg(paid: Payment, leg: Leg, rates: Mapping[int, Decimal]) -> bool:
    """Whether *leg* has received or paid this, in hedge mode: a long pays while the rate is positive."""
    if paid.position_side in POSITION_SIDE.values():
        return paid.position_side == POSITION_SIDE[leg.side]
    nearest = min(rates, key=lambda at_ms: abs(at_ms - paid.at_ms), default=None)
    if nearest is None or abs(nearest - paid.at_ms) > _SAME_FUNDING_MS:
        return False
    received_by_long = rates[nearest] < 0
    return ((paid.amount > 0) == received_by_long) == (leg.side == "long")


def is_true(value: object) -> bool:
    """A boolean, which some answers have as text."""
    return str(value).lower() == "true"
