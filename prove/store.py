"""A shipped object over a SQLite database, asked in any of the states that the database was ever in.

The states are numbered, and what was answered is remembered: most processes ask what another one asked before, of the
same state.
"""

from __future__ import annotations

import pickle
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poslock.errors import PoslockError
from prove.actor import Raised

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.database import Database


class Store:
    """*subject*, whose *database* is carried from state to state in memory.

    ``tidy`` is a statement that takes out what depends on the real time of a call.
    """

    def __init__(self, subject: Any, database: Database, tidy: str = "SELECT 1") -> None:
        self.subject = subject
        self._database = database
        self._tidy = tidy
        # States come and go: a file is not known again by its newest row.
        database._mark, database._seen.mark = "SELECT 0", None  # noqa: SLF001  # as below
        self._connection = self._opened()
        self._connection.executescript(database._schema)  # noqa: SLF001  # as the database itself would
        self._states = [self._connection.serialize()]
        self._numbers = {self._states[0]: 0}
        self._answers: dict[Any, tuple[int, Any]] = {}
        self._current = 0

    def ask(self, state: int, now_ns: int, method: str, args: tuple[Any, ...]) -> tuple[int, Any]:
        """The state after a call, and its answer; an error of ours is an answer too."""
        asked = (state, now_ns, method, repr(args))
        if asked not in self._answers:
            self._answers[asked] = self._asked(state, getattr(self.subject, method), args)
        return self._answers[asked]

    def rows(self, state: int, sql: str) -> list[tuple[Any, ...]]:
        """What the database says to a statement that changes nothing."""
        self._go_to(state)
        return [tuple(row) for row in self._connection.execute(sql)]

    def _asked(self, state: int, method: Callable[..., Any], args: tuple[Any, ...]) -> tuple[int, Any]:
        self._go_to(state)
        before = self._connection.total_changes
        try:
            answer = method(*args)
        except PoslockError as error:
            answer = Raised(pickle.loads, (pickle.dumps(error),))
        if self._connection.total_changes == before:
            return state, answer
        self._connection.execute(self._tidy)
        data = self._connection.serialize()
        self._current = self._numbers.setdefault(data, len(self._states))
        if self._current == len(self._states):
            self._states.append(data)
        return self._current, answer

    def _go_to(self, state: int) -> None:
        if state != self._current:
            self._connection.close()
            self._connection = self._opened()
            self._connection.deserialize(self._states[state])
            self._current = state

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        kept: Any = _InMemory(connection)
        self._database._kept = kept  # noqa: SLF001  # it has no other seam for memory
        return connection


@dataclass
class _InMemory:
    """A connection as the database keeps it, to no file."""

    connection: sqlite3.Connection

    def current(self) -> sqlite3.Connection:
        """There is no other one."""
        return self.connection

    def close(self) -> None:
        """Its state is kept elsewhere."""
