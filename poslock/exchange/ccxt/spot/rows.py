"""What the answers of a spot account mean: balances, the sizes that a market takes, rows of lists, and codes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Any, Literal

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    RateLimited,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)
from poslock.exchange.ccxt.venue import decimal
from poslock.exchange.port import Leg, Order
from poslock.position import EXACT, Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable

SELL = "SELL"
_ROUNDED_UP = Context(prec=28, rounding=ROUND_CEILING)
# It waits for a purchase of its own, and sells what that brings.
WAITS = "PENDING_NEW"

_State = Literal["open", "filled", "canceled"]
_STATES: dict[str, _State] = {
    **dict.fromkeys(("NEW", WAITS, "PARTIALLY_FILLED", "PENDING_CANCEL"), "open"),
    "FILLED": "filled",
    **dict.fromkeys(("CANCELED", "PARTIALLY_CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"), "canceled"),
}
_FAMILIES = {
    "STOP_LOSS": "stop_loss",
    "STOP_LOSS_LIMIT": "stop_loss",
    "TAKE_PROFIT": "take_profit",
    "TAKE_PROFIT_LIMIT": "take_profit",
}
_NO_ERROR = {"None", "0", "200"}

# Binance has one code for all that its engine refuses, ccxt passes some of the words on without it, and there are words
# that say that nobody knows, whatever code they come with.
_UNKNOWN = "Unknown error, please check your request"
_WORDS: dict[str, type[ExchangeError]] = {
    "Account has insufficient balance": NothingToReduce,  # or it is locked: the balance tells
    "Duplicate order sent": DuplicateClientOrderId,
    "Market is closed": UnderMaintenance,
    "System is under maintenance": UnderMaintenance,
    "Too many requests. Please try again later": RateLimited,
    "Rest API trading is not enabled": KeysRefused,
    "You don't have permission": KeysRefused,
    "would trigger immediately": StopWouldTrigger,
    "This account may not place or cancel orders": OrderRefused,
    "This order type is not possible": OrderRefused,
    "Filter failure": OrderRefused,
}


def _each(meaning: type[ExchangeError], codes: Iterable[int]) -> dict[str, type[ExchangeError]]:
    return dict.fromkeys(map(str, codes), meaning)


# Not here, so that their outcome is unknown: -1000, -1001, -1006, -1007, -1008, -1010, and what is documented nowhere.
BINANCE: dict[str, type[ExchangeError]] = {
    **_each(OrderRefused, (-1013, -1014, -1020, *range(-1136, -1098), *range(-1225, -1137), -2010)),
    **_each(KeysRefused, (-1002, -1022, -2014, -2015)),
    **_each(RateLimited, (-1003, -1015)),
    **_each(UnderMaintenance, (-1016,)),
    **_each(RequestExpired, (-1021,)),
    **_WORDS,
}
# Not here, so that their outcome is unknown: 500, 503, 504, 20002, and what is documented nowhere; so what it says to a
# client order id that is known already.
MEXC: dict[str, type[ExchangeError]] = {
    **_each(OrderRefused, (-1121, -1128, 26, 400, 10007, 10095, 10096, 10097, 10098, 10102)),
    **_each(OrderRefused, (30001, 30002, 30003, 30010, 30014, 30018, 30019, 30020, 30021, *range(30027, 30030))),
    **_each(OrderRefused, (30032, 30041, 30087, 33333, 44444, 60005, 70011, 700004, 700005, 700008, 700013)),
    **_each(NothingToReduce, (30004, 30005, 10101)),  # or it is locked: the balance tells
    **_each(UnderMaintenance, (30000, 30016)),
    **_each(NotServed, (403, 30025)),
    **_each(KeysRefused, (401, 602, 10001, 10072, 700001, 700002, 700006, 700007)),
    **_each(RateLimited, (429,)),
    **_each(RequestExpired, (10073, 700003)),
}


def binance_code(body: dict[str, Any]) -> tuple[str | None, str]:
    """Binance's code and words; where its words decide and not the code, they are the code."""
    words = str(body.get("msg", ""))
    for deciding in (_UNKNOWN, *_WORDS):
        if deciding in words:
            return deciding, words
    return _code(body), words


def mexc_code(body: dict[str, Any]) -> tuple[str | None, str]:
    """MEXC's code and words."""
    return _code(body), str(body.get("msg", ""))


def _code(body: dict[str, Any]) -> str | None:
    found = str(body.get("code"))
    return None if found in _NO_ERROR else found


@dataclass(frozen=True, slots=True)
class Lot:
    """The amounts that a market order may be for: multiples of *step* from *smallest* to *largest*, if there is one.

    One must be worth *least_worth*, in the quote currency.
    """

    step: Decimal
    smallest: Decimal
    largest: Decimal | None
    least_worth: Decimal

    def sellable(self, amount: Decimal, price: Decimal) -> Decimal:
        """What of *amount* can be sold at *price*, however many orders it takes; 0 if it is too little."""
        if self.step:
            amount = EXACT.subtract(amount, EXACT.remainder(amount, self.step))
        is_enough = amount >= self.smallest and EXACT.multiply(amount, price) >= self.least_worth
        return amount if is_enough and amount else Decimal(0)

    def smallest_at(self, price: Decimal) -> Decimal:
        """The least that an order can be for at *price*."""
        worth = _ROUNDED_UP.divide(self.least_worth, price) if price else Decimal(0)
        least = max(self.smallest, worth, self.step)
        beyond = EXACT.remainder(least, self.step) if self.step else Decimal(0)
        return EXACT.add(least, self.step - beyond) if beyond else least


@dataclass(frozen=True, slots=True)
class Stock:
    """What an account has of a market's base currency, of which orders may lock a part, and the price of it."""

    base: str
    free: Decimal
    locked: Decimal
    price: Decimal
    lot: Lot

    @property
    def total(self) -> Decimal:
        """All that the account has."""
        return EXACT.add(self.free, self.locked)

    @property
    def held(self) -> Decimal:
        """What of that could be sold if nothing was locked."""
        return self.sellable(self.total)

    @property
    def smallest(self) -> Decimal:
        """The least that an order can be for."""
        return self.lot.smallest_at(self.price)

    def sellable(self, amount: Decimal) -> Decimal:
        """What of *amount* an order can be for."""
        return self.lot.sellable(amount, self.price)


def lot(market: dict[str, Any], least_worth: Decimal) -> Lot:
    """The sizes in ccxt's description of a market; a rule that is off is 0 there, or missing."""
    limits = [market["limits"].get(kind) or {} for kind in ("amount", "market")]
    smallest = max(decimal(each.get("min") or 0) for each in limits)
    largest = min((decimal(each["max"]) for each in limits if each.get("max")), default=None)
    return Lot(decimal(market["precision"]["amount"] or 0), smallest, largest, least_worth)


def least_worth_at_binance(market: dict[str, Any]) -> Decimal:
    """The least that a market order must be worth. ccxt does not pass on whether that goes for market orders."""
    rules = [each for each in market["info"]["filters"] if each["filterType"] in {"NOTIONAL", "MIN_NOTIONAL"}]
    applied = [each for each in rules if str(each.get("applyMinToMarket", each.get("applyToMarket"))).lower() == "true"]
    return max((decimal(each["minNotional"]) for each in applied), default=Decimal(0))


def least_worth_at_mexc(market: dict[str, Any]) -> Decimal:
    """As `least_worth_at_binance`, in MEXC's own field for it; where that is missing, the one for all orders."""
    return decimal(market["info"].get("quoteAmountPrecisionMarket") or market["limits"]["cost"]["min"] or 0)


def balances(answer: Any, assets: set[str]) -> dict[str, tuple[Decimal, Decimal]]:
    """Free and locked, of those *assets* that are listed; one that is not is not there."""
    rows = [row for row in listed(answer["balances"]) if row["asset"] in assets]
    return {row["asset"]: (decimal(row["free"]), decimal(row["locked"])) for row in rows}


def order(row: dict[str, Any], leg: Leg) -> Order:
    """An order of any type."""
    return Order(
        order_id=str(row["orderId"]),
        client_order_id=row.get("clientOrderId") or None,
        family="trailing" if row.get("trailingDelta") else _FAMILIES.get(row["type"], "order"),
        leg=leg,
        # MEXC's documentation calls it "Qty" in one place; its answers were seen with the other name.
        contracts=decimal(row["origQty"] if "origQty" in row else row["Qty"]),
        filled=decimal(row["executedQty"]),
        state=_STATES[row["status"]],
        trigger_price=decimal(row.get("stopPrice") or 0) or None,
    )


def resting(answer: Any, leg: Leg) -> list[Order]:
    """Of a list of open orders those that would sell what is held."""
    return [order(row, leg) for row in listed(answer) if row["side"] == SELL and row["status"] != WAITS]


def trades(answer: Any) -> list[Trade]:
    """Trades, in the order of their list. A fee is positive if it was paid, and may be in what was bought."""
    return [
        Trade(
            "entry" if is_true(row["isBuyer"]) else "exit",
            str(row["orderId"]),
            Fill(
                trade_id=str(row["id"]),
                client_order_id=row.get("clientOrderId") or None,
                price=decimal(row["price"]),
                contracts=decimal(row["qty"]),
                fee=decimal(row["commission"]),
                fee_currency=str(row["commissionAsset"]),
                at_ms=int(row["time"]),
            ),
        )
        for row in listed(answer)
    ]


def listed(answer: Any) -> list[dict[str, Any]]:
    """*answer*, if it is a list."""
    if not isinstance(answer, list):
        raise TypeError("it is no list")
    return answer


def plain(number: Decimal) -> str:
    """In plain digits without idle zeros, which count as digits too many."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_true(value: object) -> bool:
    """*value*, if it is a boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
