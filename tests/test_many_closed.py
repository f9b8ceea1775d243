"""What a close, a track and a recover cost when very many positions were closed before: the same as with none.

Counted is what SQLite does, in steps of its virtual machine, not how long it takes.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast, get_args

import pytest

from bench.closed import ACCOUNT, Like, fill_with_closed
from bench.instant import InstantVenue
from poslock import Position, PositionGuard
from poslock.ledger.journal import CloseKey, LegAtTracking
from poslock.ledger.ledger import Ledger
from test_ledger import LEG, STOP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from poslock.exchange.port import Exchange

MANY = 2_000
# The plan of a statement may visit all rows of these: the rows of VALUES, and the index of what is not over.
SMALL = re.compile(r"SCAN (\d+ )?CONSTANT ROW|SCAN \w+ USING (COVERING )?INDEX (positions_not_over|unfinished_changes)")


def position(like: Like) -> Position:
    name = "one" if like == "id" else "new"
    return Position(name, "new" if like == "ids" else "one", "long", 1, 1)


def connection_of(ledger: Ledger) -> sqlite3.Connection:
    ledger.highest_token("")
    connection = ledger._database._kept.current()
    assert connection is not None
    return connection


class Work:
    """Operations of a guard and of the ledger, in an order in which all of them can be, over so many closed ones."""

    def __init__(self, folder: Path, like: Like, closed: int) -> None:
        path = str(folder / f"{closed}.db")
        fill_with_closed(path, closed, like)
        self.position, self.ledger = position(like), Ledger(path)
        self.guard = PositionGuard(cast("Exchange", InstantVenue()), lock_dir=folder / "locks", ledger=self.ledger)

    def operations(self) -> dict[str, Callable[[], object]]:
        name, ledger = self.position.id, self.ledger
        return {
            "track": lambda: self.guard.track(self.position),
            "position": lambda: self.guard.position(name),
            "recover": self.guard.recover,
            "close": lambda: self.guard.close_position(name),
            "recover after it": self.guard.recover,
            "alive": ledger.alive,
            "superseded": ledger.superseded,
            "history": lambda: ledger.history("new"),
        }

    def steps(self) -> dict[str, int]:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        connection_of(self.ledger).set_progress_handler(count, 1)
        found = {}
        for name, operation in self.operations().items():
            counted = 0
            operation()
            found[name] = counted
        return found


@pytest.mark.parametrize("like", get_args(Like))
def test_nothing_grows_with_what_is_closed(tmp_path: Path, like: Like) -> None:
    """Whether all had ids of their own, one symbol or one id: each operation takes at most 1.2 times the steps."""
    few, many = (Work(tmp_path, like, closed).steps() for closed in (1, MANY))
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name]} == {}


def test_every_statement_uses_an_index(tmp_path: Path) -> None:
    """Of a close, a track, a recover, and of what else the ledger is asked, but for a list of everything."""
    work, statements = Work(tmp_path, "ids", 10), set[str]()
    connection_of(work.ledger).set_trace_callback(statements.add)
    for operation in work.operations().values():
        operation()
    asked_of(work.ledger)
    plans = {
        statement: plan
        for statement in statements
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)", statement)
        if (plan := [line for line in plan_of(work.ledger, statement) if "SCAN" in line and not SMALL.match(line)])
    }
    assert plans == {}
    assert len(statements) > 30


def plan_of(ledger: Ledger, statement: str) -> list[str]:
    with closing(sqlite3.connect(ledger.path)) as db:
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]


def asked_of(ledger: Ledger) -> None:
    """What a close and a track do not ask every time."""
    other, key = Position("other", "other", "long", 10, 60000), CloseKey("other", 1)
    leg: LegAtTracking = LEG
    ledger.track(other, ACCOUNT, 1, leg)
    ledger.change(key, 1, (STOP,))
    calls: dict[str, tuple[Any, ...]] = {
        "standing": (key,),
        "held_price": (key,),
        "unfinished": (ACCOUNT,),
        "superseded": ("other", ACCOUNT),
        "is_shared": ("other", ACCOUNT),
        "on_leg": (ACCOUNT, "other", "long"),
        "find": ("other", 1),
        "history": ("other", ACCOUNT),
        "booked_elsewhere": (key, ("t1", "t2")),
        "booked_on": (ACCOUNT, "other", "long", ("t1",)),
        "booked_last": (ACCOUNT, "other", "long", 0),
        "sent": ("pl1",),
        "note": (key, 1, "note", ""),
        "unsettled": (key, 1, "why", ()),
        "resize": (key, 1, other, other.entry_price),
        "forget": (key, 1, ""),
    }
    for name, arguments in calls.items():
        getattr(ledger, name)(*arguments)
