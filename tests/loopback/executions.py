"""Executions as venues tell them, out of the fills that the books keep."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


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
