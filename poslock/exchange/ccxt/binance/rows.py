"""What Binance's answers mean: rows of its lists."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from poslock.exchange.ccxt.reading import State, decimal, listed
from poslock.exchange.ccxt.swap import Held
from poslock.exchange.port import Leg, Order
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from poslock.position import Side

T = TypeVar("T")

POSITION_SIDE: dict[Side, str] = {"long": "LONG", "short": "SHORT"}
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
    "NEW": "open",
    "PARTIALLY_FILLED": "open",
    "FILLED": "filled",
    **dict.fromkeys(("CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"), "canceled"),
}
# Of a conditional order that has not become an order of the book; one that has is that order.
_ALGO_STATES: dict[str, State] = {
    **dict.fromkeys(("NEW", "TRIGGERING", "TRIGGERED"), "open"),
    **dict.fromkeys(("CANCELED", "REJECTED", "EXPIRED", "FINISHED"), "canceled"),
}
# The clock by which funding is charged is seconds from the one that its rate is published under.
_SAME_FUNDING_MS = 30 * 60_000


def position(answer: Any, leg: Leg, symbol: str) -> Held | None:
    """*leg* among the positions; in one-way mode the sign of the amount is its side."""
    return positions(answer, {leg: symbol}).get(leg)


def positions(answer: Any, symbols: Mapping[Leg, str]) -> dict[Leg, Held]:
    """Those legs among the positions that are held; *symbols* is what the venue calls the market of each."""
    legs = {(symbol, POSITION_SIDE[leg.side]): leg for leg, symbol in symbols.items()}
    held: dict[Leg, Held] = {}
    for row in listed(answer):
        amount, side = decimal(row["positionAmt"]), row["positionSide"]
        if side == _ONE_WAY:
            side = POSITION_SIDE["long" if amount > 0 else "short"]
        leg = legs.get((row["symbol"], side))
        if leg is not None and amount:
            held[leg] = Held(abs(amount), decimal(row["entryPrice"]), row)
    return held


def reducing(row: dict[str, Any], leg: Leg, read: Callable[[dict[str, Any], Leg], T]) -> T | None:
    """What *read* makes of an order that could only take from *leg*, None for any other."""
    only = row["positionSide"] != _ONE_WAY or is_true(row["reduceOnly"]) or is_true(row["closePosition"])
    return read(row, leg) if only and _takes_from(row, leg) else None


def all_reducing(answer: Any, leg: Leg, read: Callable[[dict[str, Any], Leg], T]) -> list[T]:
    """As `reducing`, of a list."""
    found = (reducing(row, leg, read) for row in listed(answer))
    return [each for each in found if each is not None]


def _takes_from(row: dict[str, Any], leg: Leg) -> bool:
    # In one-way mode it may also open the other side.
    return row["side"] == REDUCING[leg.side] and row["positionSide"] in {POSITION_SIDE[leg.side], _ONE_WAY}


def order(row: dict[str, Any], leg: Leg) -> Order:
    """A plain order."""
    return Order(
        order_id=f"order:{int(row['orderId'])}",
        client_order_id=row["clientOrderId"] or None,
        family=_FAMILIES.get(row["type"], "order"),
        leg=leg,
        contracts=decimal(row["origQty"]),
        filled=decimal(row["executedQty"]),
        state=_STATES.get(row["status"], "open"),
        trigger_price=_price(row.get("stopPrice")),
    )


def algo(row: dict[str, Any], leg: Leg) -> Order:
    """A conditional order, as long as it is no order of the book."""
    return Order(
        order_id=f"algo:{int(row['algoId'])}",
        client_order_id=row["clientAlgoId"] or None,
        family=_FAMILIES.get(row["orderType"], "order"),
        leg=leg,
        contracts=decimal(row["quantity"] or 0),  # none, if it closes the whole position
        filled=Decimal(0),
        state=_ALGO_STATES.get(row["algoStatus"], "open"),
        trigger_price=_price(row["triggerPrice"]),
    )


def conditional(row: dict[str, Any], leg: Leg) -> tuple[Order, int]:
    """As `algo`, and the id of the order of the book that it has become, 0 for none."""
    return algo(row, leg), int(row.get("actualOrderId") or 0)


def triggered(conditional: Order, actual: Order) -> Order:
    """The order that a conditional one has become."""
    return replace(
        actual,
        client_order_id=conditional.client_order_id,
        family=conditional.family,
        trigger_price=conditional.trigger_price,
    )


def filled_by(conditional: Order, trades: Sequence[Trade | None]) -> Order:
    """A conditional order that has triggered, as far as its fills tell."""
    filled = sum((trade.fill.contracts for trade in trades if trade is not None), Decimal(0))
    is_whole = filled > 0 and filled >= conditional.contracts
    return replace(conditional, filled=filled, state="filled" if is_whole else conditional.state)


def trades(answer: Any, leg: Leg) -> list[Trade | None]:
    """Executions, None for each one of another leg; without client order ids.

    A commission is taken for positive if it was paid; the documentation has had it both ways.
    """
    return [_trade(row, leg) for row in listed(answer)]


def _trade(row: dict[str, Any], leg: Leg) -> Trade | None:
    if row["positionSide"] not in {POSITION_SIDE[leg.side], _ONE_WAY}:
        return None
    return Trade("exit" if _takes_from(row, leg) else "entry", str(int(row["orderId"])), _fill(row))


class Payment(NamedTuple):
    """Funding that was received, or paid if it is negative; ``position_side`` is there should the venue tell it."""

    symbol: str
    at_ms: int
    amount: Decimal
    currency: str
    position_side: str | None


def payments(answer: Any) -> list[Payment]:
    """Funding payments."""
    return [
        Payment(row["symbol"], int(row["time"]), decimal(row["income"]), row["asset"], row.get("positionSide"))
        for row in listed(answer)
    ]


def rates(answer: Any) -> dict[int, Decimal]:
    """Funding rates by their time."""
    return {int(row["fundingTime"]): decimal(row["fundingRate"]) for row in listed(answer)}


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


def _fill(row: dict[str, Any]) -> Fill:
    return Fill(
        trade_id=str(int(row["id"])),
        client_order_id=None,
        price=decimal(row["price"]),
        contracts=decimal(row["qty"]),
        fee=decimal(row["commission"]),
        fee_currency=str(row["commissionAsset"]),
        at_ms=int(row["time"]),
    )


def _price(number: Any) -> Decimal | None:
    return decimal(number or 0) or None
