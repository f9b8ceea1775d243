"""One SQLite file shared by several processes: connections, transactions, and errors with a name."""

from __future__ import annotations

import os
import sqlite3
import stat
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
        path: the file; created with mode 0600, in a setgid directory with 0660.
        schema: a script for a new file, which sets ``user_version``.
        upgrade: a script for a file of a lower version, which does the same.
        version: that number; a file with a higher one is refused.
        synchronous: EXTRA where an acknowledged commit must survive a power cut, OFF where a killed process is all.
        failure: makes the error to raise from what went wrong and the way out.

    One connection per process and thread: SQLite forbids carrying one across a fork.
    """

    def __init__(  # noqa: PLR0913  # what tells two databases apart
        self,
        path: str,
        *,
        schema: str,
        upgrade: str,
        version: int,
        synchronous: Literal["EXTRA", "OFF"],
        failure: Callable[[str, str], PoslockError],
    ) -> None:
        self.path = path
        self._schema = schema
        self._upgrade = upgrade
        self._version = version
        self._synchronous = synchronous
        self._failure = failure
        self._local = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, whole or not at all; waits for other writers, but not without bound."""
        with self._scope("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in it belongs together."""
        with self._scope("BEGIN") as connection:
            yield connection

    @contextmanager
    def _scope(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._errors(), _forks.held_off():
            connection = self._connection()
            if connection.in_transaction:
                why = "this thread is in the middle of a transaction, and a signal handler began another"
                raise self._failure(why, "only set a flag in the handler, and act on it outside")
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

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
            raise self._failure(str(error), "put it aside and restore a copy, while no bot runs") from error

    def _connection(self) -> sqlite3.Connection:
        owner, connection = getattr(self._local, "connection", (0, None))
        if connection is not None and owner == os.getpid():
            return connection  # type: ignore[no-any-return]  # threading.local is untyped
        if connection is not None:
            # Of the parent. Closing it here could roll back what the parent is writing; it stays open, unused.
            _inherited.append(connection)
        opened = self._open()
        self._local.connection = (os.getpid(), opened)
        return opened

    def _open(self) -> sqlite3.Connection:
        # Never open and close the file here: closing any descriptor of a file drops all locks of this process on it,
        # also those of another thread in the middle of a write. (test_threads_do_not_drop_each_others_locks)
        try:
            os.mknod(self.path, 0o600 | stat.S_IFREG)
            folder = os.stat(os.path.dirname(self.path) or ".").st_mode
            if folder & stat.S_ISGID and folder & stat.S_IWGRP:  # a directory that its owner shares with a group
                os.chmod(self.path, 0o660)
        except FileExistsError:
            pass
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
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        # Not WAL: with several writers it can corrupt the file on SQLite before 3.51.3 (the WAL-reset bug).
        (mode,) = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
        if mode != "truncate":
            raise self._failure(f"journal mode is {mode} and cannot be changed", "close what else has it open")
        if self._version_of(connection) < self._version:
            self._bring_up(connection)
        # Not before: tables that are put aside would take the rows that refer to them along.
        connection.execute("PRAGMA foreign_keys = ON")

    def _version_of(self, connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > self._version:
            raise self._failure(f"has schema {version}, this poslock knows {self._version}", "upgrade poslock")
        return int(version)

    def _bring_up(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or upgrade them, whole or not at all; of several processes one does it."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version_of(connection)  # another process may have been first
            if version < self._version:
                for statement in statements(self._upgrade if version else self._schema):
                    connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def statements(script: str) -> Iterator[str]:
    """The statements of *script*, one by one: a whole script sqlite3 would not execute inside a transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


class _Forks:
    """Keeps forks and SQLite apart.

    SQLite's table of who holds which lock is memory of the process. A child forked while another thread is inside a
    transaction inherits a table in which that transaction never ends, and then waits for it in vain.
    (test_a_child_forked_in_the_middle_of_a_write_can_write)
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._start_anew)

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """No other thread forks meanwhile, nor touches SQLite."""
        with self._lock:
            yield

    def _hold(self) -> None:
        self._lock.acquire()

    def _let_go(self) -> None:
        self._lock.release()

    def _start_anew(self) -> None:
        self._lock = threading.RLock()


_forks = _Forks()
_inherited: list[sqlite3.Connection] = []
