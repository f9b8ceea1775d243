"""A ledger with any number of closed positions, as if they had been closed one after the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Literal

from poslock.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

Like = Literal["ids", "symbol", "id"]
"""Each with an id and a symbol of its own; all on one symbol; all under one id, as its generations."""

ACCOUNT = "bench"
_EVENTS = "tracked", "intent", "sending", "filled", "booked"
_FIGURES = "'2', '1', '0', 'USDT', 1"  # price, contracts, fee, its currency, time
_TRACKED = "'long', '1', '1', '1', 0, 'USDT', '0', 1, 'closed', 1, '1', '1', NULL, 1, 0, '', NULL"
_BOOKED = "'2', '1', '0', '0', '1', :order, 1, '2026-01-02T00:00:00+00:00', 'close', '0', '0', '0'"
_ROWS = (
    f"position VALUES (:id, :generation, :account, :symbol, {_TRACKED})",
    f"trade VALUES (:id, :generation, :order || 'entry', 0, 1, 'entry', '0', NULL, {_FIGURES})",
    f"trade VALUES (:id, :generation, :order, 1, 0, 'exit', '1', :order, {_FIGURES})",
    "close VALUES (:id, :generation, 'booked', '')",
    "attempt VALUES (:id, :generation, 1, :order, '1', 1, NULL)",
    "change VALUES (:id, :generation, 1, 'stop_loss', '1', '1', :order || 'stop', 'done', 1, NULL, NULL, 0)",
    f"booking VALUES (:id, :generation, {_BOOKED})",
    f"fill VALUES (:account, :symbol, 'long', :order, :id, :generation, :order, {_FIGURES})",
    *(
        "audit (at, position_id, generation, token, pid, event, detail)"
        f" VALUES (1, :id, :generation, 1, 1, '{event}', '')"
        for event in _EVENTS
    ),
)


def fill_with_closed(path: str, positions: int, like: Like = "ids") -> None:
    """Make a ledger at *path* with so many."""
    with Ledger(path) as ledger:
        ledger.positions()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        for row in _ROWS:
            db.executemany(f"INSERT INTO {row}", _values(positions, like))  # constant text


def _values(positions: int, like: Like) -> Iterator[dict[str, object]]:
    for number in range(positions):
        name = f"closed-{number}"
        yield {
            "id": "one" if like == "id" else name,
            "generation": number + 1 if like == "id" else 1,
            "symbol": name if like == "ids" else "one",
            "account": ACCOUNT,
            "order": f"pl{name}",
        }
