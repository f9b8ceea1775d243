"""Executions as venues tell them, out of the fills that the books keep."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from poslock.exchange.matching import Contract
    from poslock.position import Side


@dataclass(slots=True)
class Closed:
    """A position that has ended, without its funding."""

    side: Side
    opened_ms: int
    held: Decimal = Decimal(0)
    gross: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    closed_ms: int = 0
    closed_by: int = 0


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


def side_of(fill: sqlite3.Row) -> Side:
    """The leg that a fill was on."""
    return "long" if (fill["side"] == "sell") == bool(fill["reduced"]) else "short"


def realized(fills: Sequence[sqlite3.Row], contract: Contract) -> dict[int, Decimal]:
    """What each fill of a market has realized, without its fee, by its trade id."""
    held: dict[Side, tuple[Decimal, Decimal]] = {}
    gains = {}
    for fill in fills:
        side = side_of(fill)
        amount, entry = held.get(side, (Decimal(0), Decimal(0)))
        price, size = Decimal(fill["price"]), Decimal(fill["contracts"])
        gains[fill["trade_id"]] = Decimal(0)
        if fill["reduced"]:
            moved = (price - entry) * size * contract.size
            gains[fill["trade_id"]] = moved if side == "long" else -moved
            held[side] = (amount - size, entry)
        else:
            entry = contract.average((amount, entry), (size, price)) if amount else price
            held[side] = (amount + size, entry)
    return gains


def closed_positions(db: sqlite3.Connection, symbol: str, contract: Contract) -> list[Closed]:
    """The positions of a market that have ended, oldest first."""
    fills = db.execute("SELECT * FROM fills WHERE symbol = ? ORDER BY trade_id", (symbol,)).fetchall()
    gains = realized(fills, contract)
    now: dict[Side, Closed] = {}
    ended = []
    for fill in fills:
        side = side_of(fill)
        position = now.setdefault(side, Closed(side, fill["at_ms"]))
        position.held += Decimal(fill["contracts"]) * (-1 if fill["reduced"] else 1)
        position.gross += gains[fill["trade_id"]]
        position.fees += Decimal(fill["fee"])
        position.closed_ms, position.closed_by = fill["at_ms"], fill["order_id"]
        if not position.held:
            ended.append(now.pop(side))
    return ended
