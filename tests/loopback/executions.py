"""Executions and positions as venues tell them, out of the fills that the books keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.exchange.port import Leg

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from poslock.exchange.matching import Contract
    from poslock.position import Side

_FIRST_POSITION = 1_027_000_000


@dataclass(slots=True)
class Position:
    """A leg from the fill that opened it to the one that ended it; ``profit`` is without fees and funding."""

    position_id: int
    leg: Leg
    opened_ms: int
    updated_ms: int = 0
    updated_by: int = 0
    held: Decimal = Decimal(0)
    entry: Decimal = Decimal(0)
    closed: Decimal = Decimal(0)
    closed_for: Decimal = Decimal(0)
    profit: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)

    def take(self, fill: sqlite3.Row, contract: Contract) -> Decimal:
        """Enter a fill; the profit that it realized."""
        price, contracts = Decimal(fill["price"]), Decimal(fill["contracts"])
        self.updated_ms, self.updated_by, self.fees = fill["at_ms"], fill["order_id"], self.fees + Decimal(fill["fee"])
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
    """What the fills of a market amount to: positions in the order of their opening; by fill whose it is, and gain."""

    positions: list[Position] = field(default_factory=list)
    of_fill: dict[int, tuple[Position, Decimal]] = field(default_factory=dict)

    @classmethod
    def of(cls, symbol: str, fills: Iterable[sqlite3.Row], contract: Contract) -> History:
        """*fills* are oldest first."""
        history = cls()
        for fill in fills:
            leg = Leg(symbol, "long" if (fill["side"] == "sell") == bool(fill["reduced"]) else "short")
            position = history.held(leg.side)
            if position is None:
                position = Position(_FIRST_POSITION + fill["trade_id"], leg, fill["at_ms"])
                history.positions.append(position)
            history.of_fill[fill["trade_id"]] = (position, position.take(fill, contract))
        return history

    def held(self, side: Side) -> Position | None:
        return next((each for each in reversed(self.positions) if each.leg.side == side and each.held), None)

    @property
    def ended(self) -> list[Position]:
        """The latest first."""
        return sorted((each for each in self.positions if not each.held), key=lambda each: -each.updated_ms)


def executions(fills: Iterable[sqlite3.Row]) -> list[dict[str, Any]]:
    """*fills*, oldest first: one that crosses flat is two in the books, and one with the id of the first here."""
    told: list[dict[str, Any]] = []
    for fill in fills:
        before = told[-1] if told else None
        if before is None or not _crosses(before, fill):
            told.append(dict(fill))
            continue
        for name in ("contracts", "fee"):
            before[name] = str(Decimal(before[name]) + Decimal(fill[name]))
    return told


def _crosses(before: dict[str, Any], fill: sqlite3.Row) -> bool:
    one = all(before[name] == fill[name] for name in ("order_id", "price", "at_ms"))
    return bool(one and before["reduced"] and not fill["reduced"] and before["trade_id"] + 1 == fill["trade_id"])
