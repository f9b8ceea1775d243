"""What the ledger and the venues have in their files after a run, read without poslock."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Leg(NamedTuple):
    """One side of one market of one account."""

    account: str
    symbol: str
    side: str


@dataclass
class Life:
    """One opening of a leg at the venue, and until the next one the fills that reduced it, and the orders for that."""

    opening: sqlite3.Row
    orders: list[sqlite3.Row] = field(default_factory=list)
    fills: list[sqlite3.Row] = field(default_factory=list)


class Venue:
    """One account's file."""

    def __init__(self, path: Path) -> None:
        self.account: str = _rows(path, "SELECT name FROM account")[0]["name"]
        self.fills = _rows(path, "SELECT fills.*, client_order_id FROM fills JOIN orders USING (order_id)")
        self.open_orders = _rows(path, "SELECT * FROM orders WHERE state = 'open' ORDER BY order_id")
        self.orders = _rows(path, "SELECT * FROM orders WHERE reduce_only AND client_order_id IS NOT NULL")
        self.held = _rows(path, "SELECT * FROM legs")
        self.funding = _rows(path, "SELECT * FROM funding")

    def lives(self) -> dict[Leg, list[Life]]:
        """Per leg, each opening with what reduced it, by the order of the trades alone."""
        found: dict[Leg, list[Life]] = defaultdict(list)
        for fill in sorted(self.fills, key=lambda each: each["trade_id"]):
            bought = fill["side"] == "buy"
            leg = Leg(self.account, fill["symbol"], "long" if bought != bool(fill["reduced"]) else "short")
            if fill["reduced"]:
                found[leg][-1].fills.append(fill)
            else:
                found[leg].append(Life(fill))
        for order in self.orders:
            leg = Leg(self.account, order["symbol"], "long" if order["side"] == "sell" else "short")
            before = [life for life in found[leg] if life.opening["order_id"] < order["order_id"]]
            if before:
                before[-1].orders.append(order)
        return found


class Books:
    """The ledger's file."""

    def __init__(self, path: Path) -> None:
        self.positions = _rows(path, "SELECT * FROM position ORDER BY position_id, generation")
        self.bookings = _by_generation(_rows(path, "SELECT * FROM booking"))
        self.fills = _by_generation(_rows(path, "SELECT * FROM fill"))
        self.audit = _rows(path, "SELECT * FROM audit ORDER BY number")
        columns = "client_order_id, position_id, generation"
        journaled = _rows(path, f"SELECT {columns} FROM attempt UNION SELECT {columns} FROM change")  # noqa: S608
        self.journaled = {row["client_order_id"]: (row["position_id"], row["generation"]) for row in journaled}
        unfinished = "SELECT * FROM change WHERE step IN ('intent', 'sending')"
        self.unfinished = _rows(path, unfinished)

    def legs(self) -> dict[Leg, list[sqlite3.Row]]:
        """Per leg, its generations in order."""
        found: dict[Leg, list[sqlite3.Row]] = defaultdict(list)
        for row in self.positions:
            found[Leg(row["account"], row["symbol"], row["side"])].append(row)
        return found


def _by_generation(rows: list[sqlite3.Row]) -> dict[tuple[str, int], list[sqlite3.Row]]:
    found: dict[tuple[str, int], list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        found[row["position_id"], row["generation"]].append(row)
    return found


def _rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(sql).fetchall()
