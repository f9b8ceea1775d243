"""What the answers of a spot account mean: balances, the sizes that a market takes, rows of lists, and codes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from poslock.exchange.ccxt.reading import State, decimal, identifier, listed, step
from poslock.exchange.port import Leg, Order
from poslock.position import EXACT, Fill, Trade, on_step

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
        amount = on_step(amount, self.step)
        is_enough = amount >= self.smallest and EXACT.multiply(amount, price) >= self.least_worth
        return amount if is_enough and amount else Decimal(0)

    def smallest_at(self, price: Decimal) -> Decimal:
        """The least that an order can be for at *price*."""
        worth = _ROUNDED_UP.divide(self.least_worth, price) if price else Decimal(0)
        return on_step(max(self.smallest, worth, self.step), self.step, up=True)


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
    return Lot(step(market, "amount"), smallest, largest, least_worth)


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
        order_id=identifier(row["orderId"]),
        client_order_id=row.get("clientOrderId") or None,
        family="trailing" if row.get("trailingDelta") else _FAMILIES.get(row["type"], "order"),
        leg=leg,
        # MEXC's documentation calls it "Qty" in one place; its answers were seen with the other name.
        contracts=decimal(row["origQty"] if "origQty" in row else row["Qty"]),
        filled=decimal(row["executedQty"]),
        state=_STATES.get(row["status"], "open"),
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
            identifier(row["orderId"]),
            Fill(
                trade_id=identifier(row["id"]),
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


def is_true(value: object) -> bool:
    """*value*, if it is a boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
