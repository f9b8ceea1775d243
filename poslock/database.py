"""One SQLite file shared by several processes: transactions, whose waits have a bound, and errors with a name.

Before each transaction it is seen that the path still leads to the file, and that this has what the process has read or
written there before: a file that is gone, or was replaced by an older copy, is named and never begun anew. A file that
was put back, or a copy that has everything, is used.

Not protected: a file that is replaced between the last look and the commit.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Literal

from poslock.connection import Connection, connections_to, mine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from poslock.errors import PoslockError

_BUSY_SECONDS = 10.0
# As SQLite does it, but that it never sleeps for long: others wait in turn behind us.
_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02)
_LONGEST_PAUSE = 0.025
_IN_THE_WAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Database:
    """A SQLite file with a schema.

    Args:
        path: the file; created with mode 0600, in a setgid directory with 0660.
        schema: a script for a new file, which sets ``user_version``.
        upgrades: by the lower versions that are known, a script for a file of that version, which does the same.
        version: that number; a file with a higher one is refused.
        synchronous: EXTRA where an acknowledged commit must survive a power cut, OFF where a killed process is all.
        failure: makes the error to raise from what went wrong and the way out.
        mark: a query for the row by which a file is known again, its key first: the newest one, or that with the key
            ``:key`` if it is given.

    One connection per process and thread: SQLite forbids carrying one across a fork.
    """

    def __init__(  # noqa: PLR0913  # what tells two databases apart
        self,
        path: str,
        *,
        schema: str,
        upgrades: Mapping[int, str],
        version: int,
        synchronous: Literal["EXTRA", "OFF"],
        failure: Callable[[str, str], PoslockError],
        mark: str,
    ) -> None:
        self.path = os.path.abspath(path)
        self._schema = schema
        self._upgrades = upgrades
        self._version = version
        self._synchronous = synchronous
        self._failure = failure
        self._mark = mark
        self._local = _OfThread()
        self._owner = object()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, whole or not at all; waits for other writers, but not without bound."""
        with self._scope(writes=True) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in it belongs together."""
        with self._scope(writes=False) as connection:
            yield connection

    def close(self) -> None:
        """Close the connections of all threads, each when its transaction has ended, and forget what was seen.

        The next transaction opens the file anew.
        """
        for each in connections_to(self.path):
            if each.owner is self._owner:
                with each.lock:
                    each.close()
        if not connections_to(self.path):
            _places.pop(self.path, None)

    @contextmanager
    def _scope(self, *, writes: bool) -> Iterator[sqlite3.Connection]:
        ends = time.monotonic() + _BUSY_SECONDS
        with self.errors(), self._once_in_this_thread(), _turn(self._place(), ends) if writes else nullcontext():
            for pause in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
                with mine():
                    if (connection := self._begun(writes=writes)) is not None:
                        try:
                            yield connection
                            self._commit(connection, ends, writes=writes)
                        finally:
                            _roll_back(connection)
                        return
                # Without the lock of this thread: a fork need not wait for us.
                # (test_a_fork_does_not_wait_for_a_thread_that_waits_for_a_stopped_writer)
                _wait(pause, ends)

    @contextmanager
    def _once_in_this_thread(self) -> Iterator[None]:
        local = self._local
        if local.is_inside:
            why = "this thread is in the middle of a transaction, and a signal handler began another"
            raise self._failure(why, "only set a flag in the handler, and act on it outside")
        try:
            local.is_inside = True
            yield
        finally:
            local.is_inside = False

    def _begun(self, *, writes: bool) -> sqlite3.Connection | None:
        """The connection, in a transaction of the file that is there now; None if somebody is in the way."""
        for is_last in (False, True):
            connection: sqlite3.Connection | None = None
            try:
                connection = self._current()
                connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                self._compare(connection)
                self._expect_unmoved()
            except sqlite3.Error as error:
                _roll_back(connection)
                if _is_in_the_way(error):
                    return None
                # A daemon closed our descriptors, or another file has their numbers: a new connection tells.
                # (test_closed_descriptors_are_noticed)
                if self._local.connection is not None:
                    self._local.connection.close()
                if is_last:
                    raise
            except BaseException:
                _roll_back(connection)
                raise
            else:
                return connection
        return None

    def _commit(self, connection: sqlite3.Connection, ends: float, *, writes: bool) -> None:
        newest = None
        if writes:
            newest = self._marked(connection)
            self._expect_unmoved()
        for pause in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
            try:
                connection.execute("COMMIT")
                break
            except sqlite3.OperationalError as error:  # somebody reads
                if not _is_in_the_way(error):
                    raise
                _wait(pause, ends)
        self._place().see(newest)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what goes wrong with the file under a name of ours; for what is done with rows after they were read."""
        try:
            yield
        except _Unusable as error:
            raise self._failure(error.why, error.way_out) from None
        except sqlite3.OperationalError as error:
            raise self._failure(str(error), "check disk space and permissions") from error
        except sqlite3.DatabaseError as error:
            raise self._failure(str(error), "put it aside and restore a copy, while no bot runs") from error

    # What is behind the path.

    def _place(self) -> _Place:
        return _places.get(self.path) or _places.setdefault(self.path, _Place())

    def _current(self) -> sqlite3.Connection:
        """This thread's connection to the file, ready for use."""
        connection = self._local.connection
        if connection is None or not connection.is_current():
            if connection is not None:
                connection.close()
            connection = self._local.connection = self._open()
        sqlite = connection.sqlite
        if sqlite is None:  # another thread has just opened its own under the number of our descriptor
            raise _Unusable("its descriptors were closed by somebody else", "call again")
        if connection.version != self._version:
            self._prepare(connection, sqlite)
        return sqlite

    def _expect_unmoved(self) -> None:
        connection = self._local.connection
        if connection is None or not connection.is_current():
            raise _Unusable("it was moved or replaced at this very moment", "call again")

    def _open(self) -> Connection:
        try:
            os.stat(self.path)
        except FileNotFoundError:
            self._create()
        except OSError as error:
            raise self._failure(error.strerror or str(error), "check the path and its permissions") from error
        try:
            return Connection(self.path, self._owner)
        except OSError as error:
            raise self._failure(error.strerror or str(error), "check the path and its permissions") from error

    def _create(self) -> None:
        # An empty one in the place of one that was in use would say that nothing is open, and give tokens anew.
        # (test_a_ledger_that_is_gone_is_named_and_not_begun_anew)
        # Somebody may be making it right now: the file comes first, so a journal without it is an old one's.
        journal = f"{self.path}-journal"
        if (self._place().is_seen or os.path.lexists(journal)) and not os.path.lexists(self.path):
            way_out = f"put it back; to begin an empty one, end all bots, and remove {journal} if it is there"
            raise _Unusable("it was here, and is gone", way_out)
        try:
            os.mknod(self.path, 0o600 | stat.S_IFREG)
            folder = os.stat(os.path.dirname(self.path)).st_mode
            if folder & stat.S_ISGID and folder & stat.S_IWGRP:  # a directory that its owner shares with a group
                os.chmod(self.path, 0o660)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._failure(error.strerror or str(error), "check the path and its permissions") from error

    def _compare(self, connection: sqlite3.Connection) -> None:
        """See that the file has what this process has seen there; whoever writes is kept out meanwhile."""
        newest, seen = self._marked(connection), self._place().mark
        if seen is not None and newest != seen and self._marked(connection, seen[0]) != seen:
            why = "it is an older copy, or another file: it lacks what this process has read or written there"
            way_out = "put the newest copy back; to go on with this one, end all bots, and compare it with the venue"
            raise _Unusable(why, way_out)
        self._place().see(newest)

    def _marked(self, connection: sqlite3.Connection, key: object = None) -> tuple[Any, ...] | None:
        row = connection.execute(self._mark, {"key": key}).fetchone()
        return None if row is None else tuple(row)

    # The tables.

    def _prepare(self, connection: Connection, sqlite: sqlite3.Connection) -> None:
        if connection.version is None:
            sqlite.row_factory = sqlite3.Row
            sqlite.execute(f"PRAGMA synchronous = {self._synchronous}")
            # Not WAL: with several writers it can corrupt the file on SQLite before 3.51.3 (the WAL-reset bug).
            (mode,) = sqlite.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
            if mode != "truncate":
                raise self._failure(f"journal mode is {mode} and cannot be changed", "close what else has it open")
            connection.version = self._version_of(sqlite)
        if connection.version < self._version:
            self._bring_up(sqlite)
        # Not before: tables that are put aside would take the rows that refer to them along.
        sqlite.execute("PRAGMA foreign_keys = ON")
        connection.version = self._version

    def _version_of(self, connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, *self._upgrades, self._version}:
            raise self._failure(f"has schema {version}, this poslock knows {self._version}", "upgrade poslock")
        return int(version)

    def _bring_up(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or upgrade them, whole or not at all; of several processes one does it."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version_of(connection)  # another process may have been first
            if not version and self._place().is_seen:
                raise _Unusable("it was emptied", "put a copy back, while no bot runs")
            if version < self._version:
                for statement in statements(self._upgrades[version] if version else self._schema):
                    connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            _roll_back(connection)


class _OfThread(threading.local):
    """What a thread has of a database."""

    connection: Connection | None = None
    is_inside = False


class _Place:
    """What this process knows of the file behind a path, and who of its threads is next to write there."""

    def __init__(self) -> None:
        self.is_seen = False
        self.mark: tuple[Any, ...] | None = None
        self.writers = threading.RLock()

    def see(self, mark: tuple[Any, ...] | None) -> None:
        self.is_seen = True
        if mark is not None and (self.mark is None or mark[0] >= self.mark[0]):
            self.mark = mark


class _Unusable(sqlite3.DatabaseError):
    """A file that must not be used, and the way out."""

    def __init__(self, why: str, way_out: str) -> None:
        super().__init__(why)
        self.why = why
        self.way_out = way_out


def statements(script: str) -> Iterator[str]:
    """The statements of *script*, one by one: a whole script sqlite3 would not execute inside a transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _turn(place: _Place, ends: float) -> Iterator[None]:
    """Be the only thread of this process that writes there, or tries to."""
    try:
        if not place.writers.acquire(timeout=max(0.0, ends - time.monotonic())):
            raise _busy()
        yield
    finally:
        with suppress(RuntimeError):  # it is not ours
            place.writers.release()


def _wait(pause: float, ends: float) -> None:
    left = ends - time.monotonic()
    if left <= 0:
        raise _busy()
    time.sleep(min(pause, left))


def _busy() -> _Unusable:
    why = f"busy for {_BUSY_SECONDS:g} s: another process is stopped inside a write, or the disk hangs"
    return _Unusable(why, "resume or end that process, then call again")


def _is_in_the_way(error: sqlite3.Error) -> bool:
    # Errors of our own have no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _IN_THE_WAY


def _roll_back(connection: sqlite3.Connection | None) -> None:
    if connection is not None and connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _forget_writers() -> None:
    # A thread that the child does not have was writing, or waited to.
    for place in _places.values():
        place.writers = threading.RLock()


_places: dict[str, _Place] = {}
os.register_at_fork(after_in_child=_forget_writers)
