"""One SQLite file shared by several processes: connections, transactions, and errors with a name."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from poslock.errors import PoslockError

_BUSY_SECONDS = 10.0


class Database:
    """A SQLite file with a schema.

    Args:
        path: the file; created with mode 0600.
        schema: a script that may run any number of times and sets ``user_version``.
        version: that number; a file with a higher one is refused.
        synchronous: EXTRA where an acknowledged commit must survive a power cut, OFF where a killed process is all.
        failure: makes the error to raise from what went wrong and the way out.

    One connection per process and thread: SQLite forbids carrying one across a fork.
    """

    def __init__(
        self,
        path: str,
        *,
        schema: str,
        version: int,
        synchronous: Literal["EXTRA", "OFF"],
        failure: Callable[[str, str], PoslockError],
    ) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._synchronous = synchronous
        self._failure = failure
        self._local = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, whole or not at all; waits for other writers, but not without bound."""
        with self._errors(), self._scope("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in it belongs together."""
        with self._errors(), self._scope("BEGIN") as connection:
            yield connection

    @contextmanager
    def _scope(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                why = f"busy for {_BUSY_SECONDS:g} s: another process is stopped inside a write, or the disk hangs"
                raise self._failure(why, "resume or end that process, then call again") from error
            raise self._failure(str(error), "check disk space and permissions") from error
        except sqlite3.DatabaseError as error:
            raise self._failure(str(error), "restore it from a copy, or put it aside") from error

    def _connection(self) -> sqlite3.Connection:
        owner, connection = getattr(self._local, "connection", (0, None))
        if connection is not None and owner == os.getpid():
            return connection  # type: ignore[no-any-return]  # threading.local is untyped
        if connection is not None:
            # Of the parent. Closing it here could roll back what the parent is writing; it stays open, unused.
            self._local.inherited = connection
        opened = self._open()
        self._local.connection = (os.getpid(), opened)
        return opened

    def _open(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise self._failure(error.strerror or str(error), "check the path and its permissions") from error
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        # Not WAL: with several writers it can corrupt the file on SQLite before 3.51.3 (the WAL-reset bug).
        (mode,) = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
        if mode != "truncate":
            raise self._failure(f"journal mode is {mode} and cannot be changed", "close what else has it open")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > self._version:
            raise self._failure(f"has schema {version}, this poslock knows {self._version}", "upgrade poslock")
        if version < self._version:
            connection.executescript(self._schema)
