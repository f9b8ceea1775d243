"""What the ledger and the venues have in their files after a run, read without poslock."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Leg(NamedTuple):
    """One side of one market of one account."""

    account: str
    symbol: str
    side: str


@dataclass(frozen=True)
class Trade:
    """One order's fill on a leg, in one-way mode with what went through flat, and the size of the leg around it.

    Sizes are signed in one-way mode: below zero the other side is held.
    """

    trade_id: int
    order_id: int
    client_order_id: str | None
    family: str
    is_exit: bool
    price: str
    contracts: Fraction
    fee: Fraction
    fee_currency: str
    at_ms: int
    before: Fraction

    @property
    def after(self) -> Fraction:
        """The size of the leg after it."""
        return self.before + (-self.contracts if self.is_exit else self.contracts)

    @property
    def part(self) -> Fraction:
        """What it took off the leg: of one that went through flat the part up to there."""
        return max(Fraction(0), min(self.contracts, self.before)) if self.is_exit else Fraction(0)


class Venue:
    """One account's file."""

    def __init__(self, path: Path) -> None:
        account = _rows(path, "SELECT name, hedge FROM account")[0]
        self.account: str = account["name"]
        self.hedge = bool(account["hedge"])
        self.fills = _rows(
            path,
            "SELECT fills.*, client_order_id, family, reduce_only FROM fills JOIN orders USING (order_id)"
            " ORDER BY trade_id",
        )
        self.orders = _rows(path, "SELECT * FROM orders WHERE reduce_only ORDER BY order_id")
        self.held = {self.leg(row["symbol"], row["side"]): row for row in _rows(path, "SELECT * FROM legs")}
        self.funding = _rows(path, "SELECT * FROM funding")

    def leg(self, symbol: str, side: str) -> Leg:
        """A leg of this account."""
        return Leg(self.account, symbol, side)

    def leg_of(self, order: sqlite3.Row) -> Leg:
        """The leg that an order reduces."""
        return self.leg(order["symbol"], "long" if order["side"] == "sell" else "short")

    def trades(self) -> dict[Leg, list[Trade]]:
        """Per leg, its trades in the venue's order."""
        found: dict[Leg, list[Trade]] = defaultdict(list)
        for fill in self.fills:
            for side, enters in (("long", "buy"), ("short", "sell")):
                is_exit = fill["side"] != enters
                if not self.hedge or is_exit == bool(fill["reduced"]):
                    _append(found[self.leg(fill["symbol"], side)], fill, is_exit=is_exit, hedge=self.hedge)
        return found


def _append(trades: list[Trade], fill: sqlite3.Row, *, is_exit: bool, hedge: bool) -> None:
    contracts, fee = Fraction(fill["contracts"]), Fraction(fill["fee"])
    last = trades[-1] if trades else None
    if last is not None and last.order_id == fill["order_id"] and not hedge:
        trades[-1] = replace(last, contracts=last.contracts + contracts, fee=last.fee + fee)
        return
    trades.append(
        Trade(
            fill["trade_id"],
            fill["order_id"],
            fill["client_order_id"],
            fill["family"],
            is_exit,
            fill["price"],
            contracts,
            fee,
            fill["fee_currency"],
            fill["at_ms"],
            last.after if last is not None else Fraction(0),
        )
    )


class Books:
    """The ledger's file."""

    def __init__(self, path: Path) -> None:
        self.positions = _rows(path, "SELECT * FROM position ORDER BY position_id, generation")
        self.bookings = _by_generation(_rows(path, "SELECT * FROM booking"))
        self.fills = _by_generation(_rows(path, "SELECT * FROM fill ORDER BY rowid"))
        self.baselines = _by_generation(_rows(path, "SELECT * FROM trade WHERE baseline"))
        self.audit = _rows(path, "SELECT * FROM audit ORDER BY number")
        self.lines = _by_generation(self.audit)
        columns = "client_order_id, position_id, generation"
        journaled = _rows(path, f"SELECT {columns} FROM attempt UNION SELECT {columns} FROM change")  # noqa: S608
        self.journaled = {
            row["client_order_id"]: (row["position_id"], row["generation"])
            for row in journaled
            if row["client_order_id"] is not None  # as of what removes a stop
        }
        self.reduces = {
            row["client_order_id"] for row in _rows(path, "SELECT client_order_id FROM change WHERE kind = 'reduce'")
        }
        unfinished = "SELECT * FROM change WHERE step IN ('intent', 'sending')"
        self.unfinished = _rows(path, unfinished)

    def sized(self, key: tuple[str, int], client_order_id: str | None = None) -> Fraction:
        """The contracts of a position, with what was adopted, by the audit: now, or when that order was sent last."""
        sized = then = Fraction(0)
        for line in self.lines[key]:
            words = line["detail"].split()
            if line["event"] == "tracked":
                sized = Fraction(words[1])
            elif line["event"] == "adopted":
                sized = Fraction(words[0])
            elif line["event"] == "sending" and words[0] == client_order_id:
                then = sized
        return sized if client_order_id is None else then


def _by_generation(rows: list[sqlite3.Row]) -> dict[tuple[str, int], list[sqlite3.Row]]:
    found: dict[tuple[str, int], list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        found[row["position_id"], row["generation"]].append(row)
    return found


def _rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(sql).fetchall()
