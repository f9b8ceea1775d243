"""The paper account as MEXC keeps it: positions with ids and a history, orders in families with ids of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from loopback.executions import executions
from loopback.mexc_words import refuse
from poslock.errors import OrderRefused
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from loopback.mexc import Mexc
    from poslock.exchange.matching import Contract, Matching
    from poslock.position import Side

Family = Literal["order", "plan", "stop"]

# The number of a paper order, added to one of these, is its id there; the order that a trigger becomes has another one.
ORDER, CHILD = 739_113_577_000_000_000, 739_114_000_000_000_000
PLAN, STOP, TRACK = 739_206_374_000_000_000, 357_000_000, 739_218_627_000_000_000
POSITION = 1_027_000_000
EXPIRED, TRIGGERED = 4, 3
_TRIGGER_STATES = {"open": 1, "canceled": 2, "filled": TRIGGERED}

OPENS: dict[int, Side] = {1: "long", 3: "short"}
REDUCES: dict[int, Side] = {1: "short", 2: "short", 3: "long", 4: "long"}
CLOSES: dict[Side, int] = {"short": 2, "long": 4}
_OF_FILL: dict[tuple[str, bool], Side] = {
    ("buy", True): "short",
    ("buy", False): "long",
    ("sell", True): "long",
    ("sell", False): "short",
}


@dataclass(slots=True)
class Asked:
    """What the request for an order said beyond what a paper order holds."""

    family: Family = "order"
    side: int = 0
    kind: int = 5
    price: Decimal = Decimal(0)
    external_oid: str = ""
    reduce_only: bool = False
    trend: int = 1
    rests_ms: int | None = None
    expired: bool = False


@dataclass(slots=True)
class Position:
    """A leg from the fill that opened it to the one that ended it."""

    position_id: int
    leg: Leg
    opened_ms: int
    updated_ms: int = 0
    held: Decimal = Decimal(0)
    entry: Decimal = Decimal(0)
    closed: Decimal = Decimal(0)
    closed_for: Decimal = Decimal(0)
    profit: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)

    def take(self, fill: sqlite3.Row, contract: Contract) -> Decimal:
        """Enter a fill; the profit that it realized."""
        price, contracts = Decimal(fill["price"]), Decimal(fill["contracts"])
        self.updated_ms, self.fees = fill["at_ms"], self.fees + Decimal(fill["fee"])
        if not fill["reduced"]:
            self.entry = contract.average((self.held, self.entry), (contracts, price)) if self.held else price
            self.held += contracts
            return Decimal(0)
        profit = contract.notional(price, contracts) - contract.notional(self.entry, contracts)
        profit = profit if self.leg.side == "long" else -profit
        self.held, self.closed = self.held - contracts, self.closed + contracts
        self.closed_for, self.profit = self.closed_for + contracts * price, self.profit + profit
        return profit


@dataclass(slots=True)
class History:
    """What the fills of a market amount to: positions in the order of their opening; by fill whose it is."""

    positions: list[Position] = field(default_factory=list)
    of_fill: dict[int, tuple[Position, Decimal]] = field(default_factory=dict)

    def held(self, side: Side) -> Position | None:
        return next((each for each in reversed(self.positions) if each.leg.side == side and each.held), None)


class Books:
    """The account inside a transaction."""

    def __init__(self, venue: Mexc, account: Matching) -> None:
        self.venue = venue
        self.account = account
        self._db: sqlite3.Connection = account._db
        self._histories: dict[str, History] = {}

    @cached_property
    def contract(self) -> Contract:
        return self.venue.book._terms.contract

    def orders(self, where: str = "1", *values: object) -> list[sqlite3.Row]:
        return self._db.execute(f"SELECT * FROM orders WHERE {where} ORDER BY order_id DESC", values).fetchall()

    def fills(self, where: str = "1", *values: object) -> list[sqlite3.Row]:
        sql = f"SELECT fills.*, family FROM fills JOIN orders USING (order_id) WHERE {where} ORDER BY trade_id DESC"
        return self._db.execute(sql, values).fetchall()

    def deals(self, where: str = "1", *values: object) -> list[dict[str, Any]]:
        """As `fills`, as they are told: one row for an execution that crosses flat."""
        return executions(reversed(self.fills(where, *values)))[::-1]

    def funding(self) -> list[tuple[sqlite3.Row, Position | None]]:
        """Payments, the latest first, and the position that each was paid for."""
        rows = self._db.execute("SELECT rowid, * FROM funding ORDER BY rowid DESC").fetchall()
        return [(row, self._paid_for(row)) for row in rows]

    def symbols(self) -> list[str]:
        return [row["symbol"] for row in self._db.execute("SELECT symbol FROM market")]

    def price(self, symbol: str) -> Decimal:
        try:
            return self.account.price(symbol)
        except OrderRefused:
            refuse(1002)

    def history(self, symbol: str) -> History:
        if symbol not in self._histories:
            self._histories[symbol] = self._replayed(symbol)
        return self._histories[symbol]

    def asked(self, row: sqlite3.Row) -> Asked:
        """What was asked for; of orders that did not come over HTTP, what would have been."""
        if (known := self.venue.asked.get(row["order_id"])) is not None:
            return known
        reducing = bool(row["reduce_only"])
        side = (2 if reducing else 1) if row["side"] == "buy" else (4 if reducing else 3)
        family: Family = "order" if row["family"] == "order" else self.venue.rests_as[row["family"]]
        return Asked(family, side, external_oid=f"_m_{row['order_id']:032x}", reduce_only=reducing)

    def triggers(self, family: Family) -> list[sqlite3.Row]:
        """Orders of a family that waits for a price, the latest first."""
        return [row for row in self.orders("family <> 'order'") if self.asked(row).family == family]

    def trigger_state(self, row: sqlite3.Row) -> int:
        if self.asked(row).expired:
            return EXPIRED
        return TRIGGERED if row["filled"] != "0" else _TRIGGER_STATES[row["state"]]

    def take(self, leg: Leg, asked: Asked, contracts: Decimal, kind: str, trigger: Decimal | None = None) -> int:
        """Enter an order; its number."""
        reducing = asked.side in CLOSES.values() or asked.reduce_only
        client_id = asked.external_oid or None
        number = self.account.insert(
            leg, kind, contracts, reducing=reducing, client_order_id=client_id, trigger_price=trigger
        )
        self.venue.asked[number] = asked
        return number

    def execute(self, number: int) -> None:
        self.account.execute(number, at_most=self.venue.book._liquidity)

    def settle(self) -> None:
        """Nobody runs in the background: who comes next does what prices and time have brought."""
        for row in self.orders("state = 'open' AND rests_until_ms IS NULL"):
            asked = self.venue.asked.get(row["order_id"])
            if asked is None:
                continue
            if asked.rests_ms is not None and row["created_ms"] + asked.rests_ms <= self.venue.clock_ms():
                asked.expired = True
                self.account.cancel(row["order_id"])
            elif row["trigger_price"] is None and self.reaches(row["symbol"], row["side"], asked):
                self.account.execute(row["order_id"])
        for numbers in self.venue.pairs:
            if any(row["state"] != "open" for row in self.of(numbers)):
                self.cancel(numbers)

    def of(self, numbers: Iterable[int]) -> list[sqlite3.Row]:
        return [row for number in numbers for row in self.orders("order_id = ?", number)]

    def cancel(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.account.cancel(str(number))

    def resize(self, number: int, contracts: Decimal) -> None:
        self._db.execute("UPDATE orders SET contracts = ? WHERE order_id = ?", (str(contracts), number))

    def move(self, number: int, trigger_price: Decimal) -> None:
        self._db.execute("UPDATE orders SET trigger_price = ? WHERE order_id = ?", (str(trigger_price), number))

    def reaches(self, symbol: str, side: str, asked: Asked) -> bool:
        """Whether an order can be executed at the price there is."""
        if asked.kind >= 5:
            return True
        price = self.account.price(symbol)
        return price <= asked.price if side == "buy" else price >= asked.price

    def frozen(self, leg: Leg) -> Decimal:
        """Contracts that resting plain orders may still take; those of trigger orders are free."""
        orders = self.account.orders(leg, only_open=True)
        return sum((each.contracts - each.filled for each in orders if each.family == "order"), Decimal(0))

    def _paid_for(self, row: sqlite3.Row) -> Position | None:
        for each in reversed(self.history(row["symbol"]).positions):
            ended_ms = self.venue.clock_ms() if each.held else each.updated_ms
            if row["side"] in {None, each.leg.side} and each.opened_ms <= row["at_ms"] <= ended_ms:
                return each
        return None

    def _replayed(self, symbol: str) -> History:
        history = History()
        for fill in reversed(self.fills("fills.symbol = ?", symbol)):
            leg = Leg(symbol, _OF_FILL[fill["side"], bool(fill["reduced"])])
            position = history.held(leg.side)
            if position is None:
                position = Position(POSITION + fill["trade_id"], leg, fill["at_ms"])
                history.positions.append(position)
            history.of_fill[fill["trade_id"]] = (position, position.take(fill, self.contract))
        return history
