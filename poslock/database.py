"""One SQLite file shared by several processes: transactions, whose waits have a bound, and errors with a name.

One thread of a process is inside a transaction at a time. A fork waits for it, for a child that is forked in the middle
inherits a table of locks in which that transaction never ends. Who waits for another process keeps nobody out.

Before each transaction it is seen that the path still leads to the file, and that this has what the process has read or
written there before: a file that is gone, or was replaced by an older copy, is named and never begun anew. A file that
was put back, or a copy that has everything, is used.

Not protected: a file that is replaced between the last look and the commit.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import stat
import threading
import time
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote
from weakref import WeakSet, finalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from poslock.errors import PoslockError

_BUSY_SECONDS = 10.0
# As SQLite does it, but that it never sleeps for long: whoever is in the way may be gone any moment.
_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02)
_LONGEST_PAUSE = 0.025
_IN_THE_WAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_File: TypeAlias = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""

# (test_a_child_forked_in_the_middle_of_a_write_can_write,
#  test_a_fork_does_not_wait_for_a_thread_that_waits_for_a_stopped_writer)
_inside = threading.RLock()
os.register_at_fork(before=_inside.acquire, after_in_parent=_inside.release, after_in_child=_inside.release)
# One more for each fork that led to this process: a child may have the PID of its parent, in a namespace of its own.
_forks: list[None] = []
os.register_at_fork(after_in_child=lambda: _forks.append(None))


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

    Its connection is closed when nobody has it any more, or by `close`.
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
        self._seen = _seen.setdefault(self.path, _Seen())
        self._local = _OfThread()
        self._kept = _Connection(self.path)
        # Not by `__del__`: this also runs at the end of the interpreter, where a connection left open is warned of.
        finalize(self, _close, self._kept)

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
        """Close the connection when the transaction under way has ended, and forget what was seen.

        The next transaction opens the file anew.
        """
        with _inside:
            self._kept.close()
            self._seen.users.discard(self)
            if not self._seen.users:  # somebody else of this process may still rely on it
                self._seen.mark, self._seen.is_any = None, False

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

    @contextmanager
    def _scope(self, *, writes: bool) -> Iterator[sqlite3.Connection]:
        ends = time.monotonic() + _BUSY_SECONDS
        with self.errors(), self._once_in_this_thread():
            for pause in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
                with _turn(ends):
                    if (connection := self._begun(writes=writes)) is not None:
                        try:
                            yield connection
                            self._commit(connection, ends, writes=writes)
                        finally:
                            _roll_back(connection)
                        return
                _wait(pause, ends)

    @contextmanager
    def _once_in_this_thread(self) -> Iterator[None]:
        if self._local.is_inside:
            why = "this thread is in the middle of a transaction, and a signal handler began another"
            raise self._failure(why, "only set a flag in the handler, and act on it outside")
        try:
            self._local.is_inside = True
            yield
        finally:
            self._local.is_inside = False

    def _begun(self, *, writes: bool) -> sqlite3.Connection | None:
        """The connection, in a transaction of the file that is there now; None if somebody is in the way."""
        try:
            connection = self._kept.current() or self._opened()
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            self._compare(connection)
            self._expect_unmoved()
        except BaseException as error:
            self._kept.close()
            if isinstance(error, sqlite3.Error) and _is_in_the_way(error):
                return None
            raise
        return connection

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
        self._seen.see(newest)

    # What is behind the path.

    def _opened(self) -> sqlite3.Connection:
        try:
            if not os.path.exists(self.path):
                self._create()
            connection = self._kept.open()
        except OSError as error:
            raise self._failure(error.strerror or str(error), "check the path and its permissions") from error
        self._prepare(connection)
        return connection

    def _expect_unmoved(self) -> None:
        if self._kept.current() is None:
            raise _Unusable("it was moved or replaced at this very moment", "call again")

    def _create(self) -> None:
        # An empty one in the place of one that was in use would say that nothing is open, and give tokens anew.
        # (test_a_ledger_that_is_gone_is_named_and_not_begun_anew)
        # Somebody may be making it right now: the file comes first, so a journal without it is an old one's.
        journal = f"{self.path}-journal"
        if (self._seen.is_any or os.path.lexists(journal)) and not os.path.lexists(self.path):
            way_out = f"put it back; to begin an empty one, end all bots, and remove {journal} if it is there"
            raise _Unusable("it was here, and is gone", way_out)
        with suppress(FileExistsError):
            os.mknod(self.path, 0o600 | stat.S_IFREG)
            folder = os.stat(os.path.dirname(self.path)).st_mode
            if folder & stat.S_ISGID and folder & stat.S_IWGRP:  # a directory that its owner shares with a group
                os.chmod(self.path, 0o660)

    def _compare(self, connection: sqlite3.Connection) -> None:
        """See that the file has what this process has seen there; whoever writes is kept out meanwhile."""
        newest, seen = self._marked(connection), self._seen.mark
        if seen is not None and newest != seen and self._marked(connection, seen[0]) != seen:
            why = "it is an older copy, or another file: it lacks what this process has read or written there"
            way_out = "put the newest copy back; to go on with this one, end all bots, and compare it with the venue"
            raise _Unusable(why, way_out)
        self._seen.users.add(self)
        self._seen.see(newest)

    def _marked(self, connection: sqlite3.Connection, key: object = None) -> tuple[Any, ...] | None:
        row = connection.execute(self._mark, {"key": key}).fetchone()
        return None if row is None else tuple(row)

    # The tables.

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
        if version not in {0, *self._upgrades, self._version}:
            raise self._failure(f"has schema {version}, this poslock knows {self._version}", "upgrade poslock")
        return int(version)

    def _bring_up(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or upgrade them, whole or not at all; of several processes one does it."""
        connection.execute("BEGIN IMMEDIATE")
        version = self._version_of(connection)  # another process may have been first
        if not version and self._seen.is_any:
            raise _Unusable("it was emptied", "put a copy back, while no bot runs")
        if version < self._version:
            for statement in statements(self._upgrades[version] if version else self._schema):
                connection.execute(statement)
        connection.execute("COMMIT")


class _Connection:
    """The connection of this process to the file at *path*, kept from one transaction to the next.

    It is not used and not closed when that could hurt: in a forked child, which SQLite forbids, and when somebody else
    has closed its descriptor, whose number may be another file's by now. It then stays open, unused, till the process
    ends. (test_closed_descriptors_are_noticed, test_a_child_leaves_what_its_parent_has_open)
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._sqlite: sqlite3.Connection | None = None
        self._file: _File | None = None
        self._descriptor: int | None = None
        self._process = (0, 0)

    def current(self) -> sqlite3.Connection | None:
        """The connection, if it is open, and the path leads to its file; None if it must be opened.

        The path is looked at and never opened: closing any descriptor of a file drops all locks of this process on it.
        (test_another_connection_drops_no_lock)
        """
        with suppress(OSError):
            if self._sqlite is not None and _identity(os.stat(self._path)) == self._file and self._is_ours():
                return self._sqlite
        return None

    def open(self) -> sqlite3.Connection:
        """A new connection; raises OSError if there is no such file."""
        self.close()
        # Before it is opened: if the file is replaced in between, the path does not lead to this one any more.
        self._file, self._process = _identity(os.stat(self._path)), _process()
        before = _descriptors(self._file)
        uri = f"file:{quote(os.fsencode(self._path))}?mode=rw"
        # Its waits are the database's; and any thread may use it, in its turn.
        self._sqlite = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        new = _descriptors(self._file) - before
        # Not known if SQLite used one again, or somebody opened the file at that moment, which is rare.
        self._descriptor = new.pop() if len(new) == 1 else None
        return self._sqlite

    def close(self) -> None:
        """Close it; nobody is inside."""
        sqlite, self._sqlite = self._sqlite, None
        if sqlite is None:
            return
        if self._is_ours():
            sqlite.close()
        else:  # a reference that nobody gives back: Python would close what it collects, also when it ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(sqlite))

    def _is_ours(self) -> bool:
        if self._process != _process():
            return False
        with suppress(OSError):
            return self._descriptor is None or _identity(os.fstat(self._descriptor)) == self._file
        return False


class _Seen:
    """What this process knows of the file behind a path."""

    def __init__(self) -> None:
        self.users: WeakSet[Database] = WeakSet()
        self.mark: tuple[Any, ...] | None = None
        self.is_any = False

    def see(self, mark: tuple[Any, ...] | None) -> None:
        self.is_any = True
        if mark is not None and (self.mark is None or mark[0] >= self.mark[0]):
            self.mark = mark


class _OfThread(threading.local):
    is_inside = False


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


def _process() -> tuple[int, int]:
    return len(_forks), os.getpid()


def _identity(status: os.stat_result) -> _File:
    return status.st_dev, status.st_ino


def _descriptors(file: _File) -> set[int]:
    """Which descriptors of this process are of *file*; none where the system does not say."""
    found = set()
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with suppress(OSError):  # that of the list itself is closed by now
                if _identity(os.fstat(int(name))) == file:
                    found.add(int(name))
    return found


@contextmanager
def _turn(ends: float) -> Iterator[None]:
    """Be the thread of this process that uses SQLite."""
    try:
        if not _inside.acquire(timeout=max(0.0, ends - time.monotonic())):
            raise _busy()
        yield
    finally:
        with suppress(RuntimeError):  # it is not ours
            _inside.release()


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


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _close(kept: _Connection) -> None:
    # Nobody has it any more. The garbage collector calls from anywhere, so it does not wait for long.
    if _inside.acquire(timeout=1.0):
        try:
            kept.close()
        finally:
            _inside.release()


_seen: dict[str, _Seen] = {}
