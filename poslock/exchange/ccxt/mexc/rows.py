"""What MEXC's answers mean: rows of its lists."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.errors import (
    UnsupportedMarket,
)
from poslock.exchange.ccxt import reading
from poslock.exchange.ccxt.reading import State, decimal, kind_of
from poslock.exchange.ccxt.swap import Held
from poslock.exchange.port import Leg, Order
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poslock.position import Side

POSITION_TYPE: dict[Side, int] = {"long": 1, "short": 2}
OPENING: dict[Side, int] = {"long": 1, "short": 3}
CLOSING: dict[Side, int] = {"long": 4, "short": 2}
# By side: the leg that it takes from. In one-way mode opening the other side takes from a leg, too.
REDUCES: dict[int, Side] = {1: "short", 2: "short", 3: "long", 4: "long"}
HALF = "stop:half"
STOP_PRICE = {"stop_loss": "stopLossPrice", "take_profit": "takeProfitPrice"}
LIMIT_PRICE = {"stop_loss": "stopLossOrderPrice", "take_profit": "takeProfitOrderPrice"}
HEDGE, ONE_WAY = 1, 2
# Directions of a trigger.
RISES, FALLS = 1, 2
# By which price a trigger is reached; "fair" is MEXC's name of the mark price.
TREND = {"last": 1, "mark": 2}
# States of a trigger order.
RESTS, TRIGGERED = 1, 3

_STATES: dict[int, State] = {1: "open", 2: "open", 3: "filled", 4: "canceled", 5: "canceled"}
_LIVE_TRACKS = {0, 1}


def data(answer: dict[str, Any]) -> Any:
    """What a good answer carries. ccxt lets bad ones through that have no code."""
    if answer["success"] is not True:
        raise ValueError("it was no success")
    return answer.get("data")


def listed(found: Any) -> list[dict[str, Any]]:
    """A list, or one that is wrapped into its pages."""
    listed = found["resultList"] if isinstance(found, dict) else found
    if not isinstance(listed, list):
        raise TypeError("it is no list")
    return listed


def identifier(said: Any) -> str:
    """An id; 0 is none here."""
    return reading.identifier(said or None)


def hedge(found: Any) -> bool:
    """Whether the account holds long and short side by side."""
    mode = int(found["positionMode"] if isinstance(found, dict) else found)
    if mode not in {HEDGE, ONE_WAY}:
        raise UnsupportedMarket(f"mexc: position mode {mode} is not known")
    return mode == HEDGE


def position(found: Any, symbol: str, leg: Leg) -> Held | None:
    """*leg* among the positions, with all that an order to reduce it has to repeat."""
    return positions(found, {leg: symbol}).get(leg)


def positions(found: Any, symbols: Mapping[Leg, str]) -> dict[Leg, Held]:
    """Those legs among the positions that are held; *symbols* is what the venue calls the market of each."""
    legs = {(symbol, POSITION_TYPE[leg.side]): leg for leg, symbol in symbols.items()}
    held: dict[Leg, Held] = {}
    for row in listed(found):
        leg, contracts = legs.get((row["symbol"], int(row["positionType"]))), decimal(row["holdVol"])
        if leg is not None and leg not in held and contracts > 0:
            said = {name: int(row[name]) for name in ("positionId", "openType", "leverage")}
            held[leg] = Held(contracts, decimal(row["holdAvgPrice"]), said, str(said["positionId"]))
    return held


def cancelled(answer: dict[str, Any]) -> str:
    """The code of a cancel: plain orders have one each inside an answer that is a success."""
    found = data(answer)
    codes = {str(each["errorCode"]) for each in found} if isinstance(found, list) else set()
    return next(iter(codes - {"0"}), "0")


def reduces(row: dict[str, Any], leg: Leg) -> bool:
    """Whether a resting order could only take from *leg*."""
    side = int(row["side"])
    return side == CLOSING[leg.side] or (row.get("reduceOnly") is True and REDUCES[side] == leg.side)


def order(row: dict[str, Any], leg: Leg) -> Order:
    """A plain order."""
    return Order(
        order_id=identifier(row["orderId"]),
        client_order_id=row.get("externalOid") or None,
        family="order",
        leg=leg,
        contracts=decimal(row["vol"]),
        filled=decimal(row["dealVol"]),
        state=_STATES.get(int(row["state"]), "open"),
    )


def resting(row: dict[str, Any], symbol: str, leg: Leg) -> Order | None:
    """A plain order, if it would reduce *leg*."""
    return order(row, leg) if row["symbol"] == symbol and reduces(row, leg) else None


def plan(row: dict[str, Any], symbol: str, leg: Leg, state: int) -> tuple[int, Order] | None:
    """A trigger order that is in that state and would reduce *leg*, and when it was made.

    Which kind it is, the direction of its trigger says.
    """
    if row["symbol"] != symbol or int(row["state"]) != state or not reduces(row, leg):
        return None
    rises, contracts, rests = int(row["triggerType"]) == RISES, _size(row), state == RESTS
    found = Order(
        order_id=f"plan:{identifier(row['id'])}",
        client_order_id=None,
        family=kind_of(leg, rises=rises),
        leg=leg,
        contracts=contracts,
        filled=Decimal(0) if rests else contracts,
        state="open" if rests else "filled",
        trigger_price=decimal(row["triggerPrice"]),
    )
    return int(row["createTime"]), found


def stops(found: Any, symbol: str, leg: Leg) -> list[Order]:
    """The TP/SL orders of a position that rest, each as the one or two orders that it stands for."""
    mine = [row for row in listed(found) if row["symbol"] == symbol and not int(row.get("isFinished") or 0)]
    of_leg = [row for row in mine if int(row["positionType"]) == POSITION_TYPE[leg.side]]
    return [each for row in of_leg for each in _halves(row, leg)]


def _halves(row: dict[str, Any], leg: Leg) -> list[Order]:
    # A take-profit at a limit has a price of its own name, and may have no other.
    said = {kind: row.get(name) or row.get(LIMIT_PRICE[kind]) for kind, name in STOP_PRICE.items()}
    given: dict[str, Decimal | None] = {
        kind: decimal(price) for kind, price in said.items() if price and decimal(price)
    }
    # One half cannot be cancelled by itself: its id says so, and `Mexc.cancel` looks.
    family = HALF if len(given) > 1 else "stop"
    name = f"{family}:{identifier(row['id'])}"
    return [
        Order(name, None, kind, leg, _size(row), Decimal(0), "open", price)
        for kind, price in (given or {"order": None}).items()
    ]


def halves(orders: list[Order], kind: str, sizes: set[Decimal]) -> list[Order]:
    """Those of TP/SL *orders* that are one half of two, of that kind and of one of *sizes*."""
    pairs = [each for each in orders if each.order_id.startswith(f"{HALF}:")]
    return [each for each in pairs if each.family == kind and each.contracts in sizes]


def _size(row: dict[str, Any]) -> Decimal:
    """Contracts of an order that rests; none, or null, for all that is held when it triggers."""
    return decimal(row.get("vol") or 0)


def track(row: dict[str, Any], symbol: str, leg: Leg) -> Order | None:
    """A trailing order, if it rests and would reduce *leg*."""
    if row["symbol"] != symbol or int(row["state"]) not in _LIVE_TRACKS or not reduces(row, leg):
        return None
    return Order(f"track:{identifier(row['id'])}", None, "trailing", leg, _size(row), Decimal(0), "open")


def trade(row: dict[str, Any], symbol: str, leg: Leg, *, hedge: bool) -> Trade | None:
    """An execution that added to *leg* or took from it, None for any other. Its fee is positive when it was paid."""
    side = int(row["side"])
    if row["symbol"] != symbol or (hedge and side not in {OPENING[leg.side], CLOSING[leg.side]}):
        return None
    fill = Fill(
        trade_id=identifier(row["id"]),
        client_order_id=None,
        price=decimal(row["price"]),
        contracts=decimal(row["vol"]),
        fee=decimal(row["fee"]),
        fee_currency=str(row["feeCurrency"]),
        at_ms=int(row["timestamp"]),
    )
    return Trade("exit" if REDUCES[side] == leg.side else "entry", identifier(row["orderId"]), fill)


def funding(row: dict[str, Any], symbol: str, leg: Leg) -> tuple[str, int, Decimal] | None:
    """The id, the time and the amount of a payment, if it was to *leg*."""
    if row["symbol"] != symbol or int(row["positionType"]) != POSITION_TYPE[leg.side]:
        return None
    return identifier(row["id"]), int(row["settleTime"]), decimal(row["funding"])
