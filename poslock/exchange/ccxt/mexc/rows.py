"""What MEXC's answers mean: rows of its lists."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.errors import UnsupportedMarket
from poslock.exchange.ccxt.reading import OrderFields, TradeFields, decimal, each_price, identifier, is_half, kind_of
from poslock.exchange.ccxt.swap import Held
from poslock.exchange.port import Leg, Order

if TYPE_CHECKING:
    from poslock.position import Side, Trade

POSITION_TYPE: dict[Side, int] = {"long": 1, "short": 2}
_SIDES: dict[int, Side] = {1: "long", 2: "short"}
_OPENING: dict[Side, int] = {"long": 1, "short": 3}
CLOSING: dict[Side, int] = {"long": 4, "short": 2}
# By side: the leg that it takes from. In one-way mode opening the other side takes from a leg, too.
_REDUCES: dict[int, Side] = {1: "short", 2: "short", 3: "long", 4: "long"}
STOP_PRICE = {"stop_loss": "stopLossPrice", "take_profit": "takeProfitPrice"}
_LIMIT_PRICE = {"stop_loss": "stopLossOrderPrice", "take_profit": "takeProfitOrderPrice"}
HEDGE, ONE_WAY = 1, 2
# Directions of a trigger.
RISES, FALLS = 1, 2
# By which price a trigger is reached; "fair" is MEXC's name of the mark price.
TREND = {"last": 1, "mark": 2}
# States of a trigger order.
RESTS, TRIGGERED = 1, 3

_ORDER = OrderFields(
    "orderId",
    "externalOid",
    "vol",
    "dealVol",
    "state",
    {"1": "open", "2": "open", "3": "filled", "4": "canceled", "5": "canceled"},
)
_TRADE = TradeFields("id", "orderId", None, "price", "vol", "fee", "feeCurrency", "timestamp")
_LIVE_TRACKS = {0, 1}


def data(answer: dict[str, Any]) -> Any:
    """What a good answer carries. ccxt lets bad ones through that have no code."""
    if answer["success"] is not True:
        raise ValueError("it was no success")
    return answer.get("data")


def hedge(found: Any) -> bool:
    """Whether the account holds long and short side by side."""
    mode = int(found["positionMode"] if isinstance(found, dict) else found)
    if mode not in {HEDGE, ONE_WAY}:
        raise UnsupportedMarket(f"mexc: position mode {mode} is not known")
    return mode == HEDGE


def held(row: dict[str, Any]) -> Held | None:
    """A position, with all that an order to reduce it has to repeat."""
    contracts, side = decimal(row["holdVol"]), _SIDES[int(row["positionType"])]
    if contracts <= 0:
        return None
    said = {name: int(row[name]) for name in ("positionId", "openType", "leverage")}
    return Held(row["symbol"], side, contracts, decimal(row["holdAvgPrice"]), said, str(said["positionId"]))


def cancelled(found: Any) -> str:
    """The code of a cancel: plain orders have one each inside an answer that is a success; of several the largest."""
    codes = {str(each["errorCode"]) for each in found} if isinstance(found, list) else set()
    return max(codes - {"0"}, default="0")


def order(row: dict[str, Any], leg: Leg) -> Order:
    """A plain order."""
    return _ORDER.read({"externalOid": None, **row}, leg)


def resting(row: dict[str, Any], leg: Leg) -> Order | None:
    """A plain order, if it could only take from *leg*."""
    return order(row, leg) if _reduces(row, leg) else None


def plan(row: dict[str, Any], leg: Leg, state: int) -> tuple[int, Order] | None:
    """A trigger order that is in that state and would reduce *leg*, and when it was made.

    Which kind it is, the direction of its trigger says.
    """
    if int(row["state"]) != state or not _reduces(row, leg):
        return None
    kind = kind_of(leg, rises=int(row["triggerType"]) == RISES)
    found = _waiting("plan", row, leg, kind, decimal(row["triggerPrice"]), has_triggered=state != RESTS)
    return int(row["createTime"]), found


def stops(row: dict[str, Any], leg: Leg) -> list[Order] | None:
    """A TP/SL order of a position that rests, as the one or two orders that it stands for."""
    if int(row.get("isFinished") or 0) or int(row["positionType"]) != POSITION_TYPE[leg.side]:
        return None
    # A take-profit at a limit has a price of its own name, and may have no other.
    said = {kind: row.get(name) or row.get(_LIMIT_PRICE[kind]) for kind, name in STOP_PRICE.items()}
    given: dict[str, Decimal | None] = {
        kind: decimal(price) for kind, price in said.items() if price and decimal(price)
    }
    return each_price(_waiting("stop", row, leg), given or {"order": None})


def halves(orders: list[Order], kind: str, sizes: set[Decimal]) -> list[Order]:
    """Those of TP/SL *orders* that are one half of two, of that kind and of one of *sizes*."""
    return [each for each in orders if is_half(each) and each.family == kind and each.contracts in sizes]


def track(row: dict[str, Any], leg: Leg) -> Order | None:
    """A trailing order, if it rests and would reduce *leg*."""
    if int(row["state"]) not in _LIVE_TRACKS or not _reduces(row, leg):
        return None
    return _waiting("track", row, leg, "trailing")


def trade(row: dict[str, Any], leg: Leg, *, hedge: bool) -> Trade | None:
    """An execution that added to *leg* or took from it, None for any other."""
    side = int(row["side"])
    if hedge and side not in {_OPENING[leg.side], CLOSING[leg.side]}:
        return None
    return _TRADE.read(row, is_exit=_REDUCES[side] == leg.side)


def funding(row: dict[str, Any], leg: Leg) -> tuple[str, int, Decimal] | None:
    """The id, the time and the amount of a payment, if it was to *leg*; above zero where it was received."""
    if int(row["positionType"]) != POSITION_TYPE[leg.side]:
        return None
    return identifier(row["id"]), int(row["settleTime"]), decimal(row["funding"])


def _reduces(row: dict[str, Any], leg: Leg) -> bool:
    side = int(row["side"])
    return side == CLOSING[leg.side] or (row.get("reduceOnly") is True and _REDUCES[side] == leg.side)


def _waiting(  # noqa: PLR0913  # what such orders have
    of: str,
    row: dict[str, Any],
    leg: Leg,
    kind: str = "order",
    price: Decimal | None = None,
    *,
    has_triggered: bool = False,
) -> Order:
    # None, or null, is for all that is held when it triggers.
    contracts, number = decimal(row.get("vol") or 0), f"{of}:{identifier(row['id'])}"
    if has_triggered:
        return Order(number, None, kind, leg, contracts, contracts, "filled", price)
    return Order(number, None, kind, leg, contracts, Decimal(0), "open", price)
