"""The books of a spot account: balances, orders and trades of one trader, in memory."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FEE_RATE = Decimal("0.001")
_CASH = ("USDT", "USDC")
_FALLING, _RISING = {"STOP_LOSS", "STOP_LOSS_LIMIT"}, {"TAKE_PROFIT", "TAKE_PROFIT_LIMIT"}
CONDITIONAL = _FALLING | _RISING


class Short(Exception):
    """There is less of it free than an order is for."""


@dataclass(slots=True)
class Asked:
    """An order, counted by market. It has ended when its status says so; till then it locks what it has not filled."""

    number: int
    client_id: str | None
    symbol: str
    side: str
    kind: str
    quantity: Decimal
    created_ms: int
    price: Decimal = Decimal(0)
    trigger: Decimal = Decimal(0)
    list_number: int = -1
    trailing: int = 0
    filled: Decimal = Decimal(0)
    status: str = "NEW"

    @property
    def rests(self) -> bool:
        return self.status in {"NEW", "PARTIALLY_FILLED", "PENDING_NEW"}


@dataclass(frozen=True, slots=True)
class Traded:
    """A trade, with what it cost."""

    number: int
    order: Asked
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    at_ms: int


class Books:
    """An account with a million dollars of either kind.

    ``largest`` is the most that a market order may be for, and ``liquidity`` the most that it finds, None for any
    amount; ``pays_fees_in`` is the currency that fees are taken from, None for the one that a trade brings;
    ``held_back`` is what is locked by no order, by asset.
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.prices: dict[str, Decimal] = {}
        self.orders: list[Asked] = []
        self.trades: list[Traded] = []
        self.totals: dict[str, Decimal] = defaultdict(Decimal)
        self.held_back: dict[str, Decimal] = defaultdict(Decimal)
        self.largest = Decimal(100)
        self.liquidity: Decimal | None = None
        self.pays_fees_in: str | None = None
        self._clock_ms = clock_ms
        self.totals |= dict.fromkeys(_CASH, Decimal(1_000_000))

    def locked(self, asset: str) -> Decimal:
        """Of an OCO list only one order counts: the other one goes when it fills."""
        mine = [each for each in self.orders if each.rests and each.status != "PENDING_NEW"]
        sales = {
            (each.symbol, each.list_number if each.list_number > 0 else -each.number): each.quantity - each.filled
            for each in mine
            if each.side == "SELL" and each.symbol.partition("/")[0] == asset
        }
        spent = [
            (each.quantity - each.filled) * each.price
            for each in mine
            if each.side == "BUY" and each.symbol.partition("/")[2] == asset
        ]
        return sum([*sales.values(), *spent], self.held_back[asset])

    def free(self, asset: str) -> Decimal:
        return self.totals[asset] - self.locked(asset)

    def of_list(self, order: Asked) -> list[Asked]:
        """The order, and those that go with it."""
        if order.list_number < 0:
            return [order]
        return [each for each in self.orders if each.list_number == order.list_number]

    def enter(self, symbol: str, side: str, kind: str, quantity: Decimal, **more: Any) -> Asked:
        """A new order, which has done nothing yet.

        Raises:
            Short: of what it is for.
        """
        waits = more.get("status") == "PENDING_NEW"
        same_list = more.get("list_number", -1) > 0 and any(
            each.list_number == more["list_number"] and each.side == side for each in self.orders
        )
        if side == "SELL" and not (waits or same_list) and quantity > self.free(symbol.partition("/")[0]):
            raise Short
        client_id = more.pop("client_id", None)
        number = 1 + sum(each.symbol == symbol for each in self.orders)
        order = Asked(number, client_id, symbol, side, kind, quantity, self._clock_ms(), **more)
        self.orders.append(order)
        return order

    def would_trigger(self, symbol: str, kind: str, trigger: Decimal | None) -> bool:
        """Whether such a sale executes at the price there is."""
        if kind not in CONDITIONAL or not trigger:
            return False
        price = self.prices[symbol]
        return price <= trigger if kind in _FALLING else price >= trigger

    def execute(self, order: Asked, price: Decimal | None = None) -> None:
        """Fill what can be filled now; a market order does not wait for the rest."""
        base, _, quote = order.symbol.partition("/")
        at = self.prices[order.symbol] if price is None else price
        found = order.quantity - order.filled
        amount = found if self.liquidity is None else min(found, self.liquidity)
        sign = 1 if order.side == "BUY" else -1
        if amount:
            order.filled += amount
            self.totals[base] += sign * amount
            self.totals[quote] -= sign * amount * at
            brought = (base, amount) if sign > 0 else (quote, amount * at)
            fee_asset, fee = (self.pays_fees_in or brought[0]), brought[1] * FEE_RATE
            self.totals[fee_asset] -= fee
            number = 7_000 + sum(each.order.symbol == order.symbol for each in self.trades)
            self.trades.append(Traded(number, order, at, amount, fee, fee_asset, self._clock_ms()))
        order.status = "FILLED" if order.filled == order.quantity else "EXPIRED"
        for each in self.of_list(order):
            if each.rests:
                each.status = "EXPIRED"

    def cancel(self, order: Asked) -> None:
        for each in self.of_list(order):
            if each.rests:
                each.status = "CANCELED"

    # By hand.

    def set_price(self, symbol: str, price: Any) -> None:
        """Move the market; conditional orders that this triggers are executed, limit orders that it reaches too."""
        self.prices[symbol] = Decimal(price)
        for order in [each for each in self.orders if each.symbol == symbol and each.status == "NEW"]:
            if self.would_trigger(symbol, order.kind, order.trigger):
                self.execute(order)
            elif order.kind == "LIMIT" and order.side == "SELL" and self.prices[symbol] >= order.price:
                self.execute(order, order.price)

    def buy(self, symbol: str, quantity: Any) -> Decimal:
        """At market; what arrived."""
        before = self.totals[symbol.partition("/")[0]]
        self.execute(self.enter(symbol, "BUY", "MARKET", Decimal(quantity)))
        return self.totals[symbol.partition("/")[0]] - before

    def sell(self, symbol: str, quantity: Any) -> Asked:
        """At market."""
        order = self.enter(symbol, "SELL", "MARKET", Decimal(quantity))
        self.execute(order)
        return order

    def give(self, asset: str, amount: Any) -> None:
        """A deposit."""
        self.totals[asset] += Decimal(amount)
