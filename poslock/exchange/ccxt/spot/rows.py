"""What the answers of a spot account mean: balances, the sizes that a market takes, rows of lists, and codes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Any

from poslock.exchange.ccxt.reading import OrderFields, State, TradeFields, decimal, identifier, listed, step
from poslock.position import EXACT, on_step

if TYPE_CHECKING:
    from poslock.exchange.port import Leg, Order
    from poslock.position import Trade

SELL = "SELL"
_ROUNDED_UP = Context(prec=28, rounding=ROUND_CEILING)
# It waits for a purchase of its own, and sells what that brings.
WAITS = "PENDING_NEW"

_STATES: dict[str, State] = {
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


_ORDER = OrderFields("orderId", "clientOrderId", "origQty", "executedQty", "status", _STATES, "stopPrice")
# A fee is positive if it was paid, and may be in what was bought.
_TRADE = TradeFields("id", "orderId", "clientOrderId", "price", "qty", "commission", "commissionAsset", "time")


@dataclass(frozen=True, slots=True)
class Lot:
    """The amounts that a market order may be for: multiples of *step* from *least* to *largest*, if there is one.

    One must be worth *least_worth*, in the quote currency, at *price*.
    """

    step: Decimal
    least: Decimal
    largest: Decimal | None
    least_worth: Decimal
    price: Decimal

    def sellable(self, amount: Decimal) -> Decimal:
        """What of *amount* can be sold, however many orders it takes; 0 if it is too little."""
        amount = on_step(amount, self.step)
        is_enough = amount >= self.least and EXACT.multiply(amount, self.price) >= self.least_worth
        return amount if is_enough and amount else Decimal(0)

    @property
    def smallest(self) -> Decimal:
        """The least that an order can be for."""
        worth = _ROUNDED_UP.divide(self.least_worth, self.price) if self.price else Decimal(0)
        return on_step(max(self.least, worth, self.step), self.step, up=True)


@dataclass(frozen=True, slots=True)
class Stock:
    """What an account has of a market's base currency, of which orders may lock a part."""

    base: str
    free: Decimal
    locked: Decimal
    lot: Lot

    @property
    def total(self) -> Decimal:
        """All that the account has."""
        return EXACT.add(self.free, self.locked)

    @property
    def held(self) -> Decimal:
        """What of that could be sold if nothing was locked."""
        return self.lot.sellable(self.total)


def lot(market: dict[str, Any], least_worth: Decimal, price: Decimal) -> Lot:
    """The sizes in ccxt's description of a market; a rule that is off is 0 there, or missing."""
    limits = [market["limits"].get(kind) or {} for kind in ("amount", "market")]
    least = max(decimal(each.get("min") or 0) for each in limits)
    largest = min((decimal(each["max"]) for each in limits if each.get("max")), default=None)
    return Lot(step(market, "amount"), least, largest, least_worth, price)


def balances(answer: Any, assets: set[str]) -> dict[str, tuple[Decimal, Decimal]]:
    """Free and locked, of those *assets* that are listed; one that is not is not there."""
    rows = [row for row in listed(answer["balances"]) if row["asset"] in assets]
    return {row["asset"]: (decimal(row["free"]), decimal(row["locked"])) for row in rows}


def order(row: dict[str, Any], leg: Leg) -> Order:
    """An order of any type."""
    # MEXC's documentation calls its size "Qty" in one place; its answers were seen with the other name.
    named = {"origQty": row["Qty"]} if "Qty" in row and "origQty" not in row else {}
    family = "trailing" if row.get("trailingDelta") else _FAMILIES.get(row["type"], "order")
    return _ORDER.read({"clientOrderId": None, "stopPrice": None, **row, **named}, leg, family)


def sale(row: dict[str, Any], leg: Leg) -> Order | None:
    """The same, if it sells."""
    return order(row, leg) if row["side"] == SELL else None


def resting(row: dict[str, Any], leg: Leg) -> Order | None:
    """The same of an open order, if it would sell what is held."""
    return sale(row, leg) if row["status"] != WAITS else None


def trade(row: dict[str, Any]) -> Trade:
    """A purchase or a sale."""
    return _TRADE.read({"clientOrderId": None, **row, "id": identifier(row["id"])}, is_exit=not is_true(row["isBuyer"]))


def is_true(value: object) -> bool:
    """*value*, if it is a boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
