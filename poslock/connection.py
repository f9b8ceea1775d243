"""The connections of a process to its SQLite files: one per thread and file, kept apart from forks.

A thread uses its connections under its own lock (`mine`). A fork waits for all of these, and for nothing else: SQLite's
table of who holds which lock is memory of the process, and a child that is forked in the middle of a transaction
inherits a table in which that transaction never ends. Who waits for another writer holds no lock meanwhile, so that a
fork need not wait for it.

A connection is never closed where that could hurt: not in a forked child, which SQLite forbids, and not when somebody
else has closed its descriptor, whose number may be another file's by now. It then stays open, unused, till the process
ends.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sqlite3
import threading
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import quote
from weakref import WeakSet

Identity: TypeAlias = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""


class Connection:
    """A connection of this thread to the file at *path*.

    ``sqlite`` is None once it is closed. ``version`` is for the owner, who notes there what is prepared. *owner* tells
    apart whose it is. It must not lead to the owner itself: that could then go only with the garbage, and as long as
    nobody collects it the file stays open. (test_what_nobody_has_any_more_is_closed_at_once)

    Raises:
        OSError, sqlite3.Error: there is no such file, or it cannot be opened. None is made.
    """

    def __init__(self, path: str, owner: object) -> None:
        self.path = path
        self.owner = owner
        self.sqlite: sqlite3.Connection | None = None
        self.version: int | None = None
        self.lock = mine()
        # One at a time, or a descriptor that appears meanwhile could be another thread's.
        with _forks.opening:
            # Before it is opened: if the file is replaced in between, the path does not lead to this one any more.
            self._file = _identity(os.stat(path))
            before = _descriptors(self._file)
            uri = f"file:{quote(os.fsencode(path))}?mode=rw"
            # Its waits are the database's; and a thread that has ended does not close its own.
            self.sqlite = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
            _forks.kept.add(self.sqlite)
            new = _descriptors(self._file) - before
            self._descriptor = new.pop() if len(new) == 1 else None
            for other in list(_forks.connections):
                if other.sqlite is not None and other._descriptor == self._descriptor is not None:  # noqa: SLF001
                    other.abandon()  # its descriptor was closed by somebody else, or we had not got this number
            _forks.connections.add(self)

    def is_current(self) -> bool:
        """Whether it is open, and its path leads to its file.

        The path is looked at and never opened: closing any descriptor of a file drops all locks of this process on it.
        (test_threads_do_not_drop_each_others_locks)
        """
        try:
            return self.sqlite is not None and _identity(os.stat(self.path)) == self._file and self._is_ours()
        except OSError:
            return False

    def close(self) -> None:
        """Close it; its lock is held, or nobody uses it."""
        sqlite, self.sqlite = self.sqlite, None
        if sqlite is None:
            return
        if self._is_ours():
            sqlite.close()
        else:
            _keep_for_ever(sqlite)
        _forks.kept.discard(sqlite)

    def abandon(self) -> None:
        """Use it no more, and leave it open."""
        sqlite, self.sqlite = self.sqlite, None
        if sqlite is not None:
            _keep_for_ever(sqlite)
            _forks.kept.discard(sqlite)

    def __del__(self) -> None:
        # Its thread has ended, or its database is gone.
        if self.sqlite is not None:
            _forks.bury(self)

    def _is_ours(self) -> bool:
        """Whether its descriptor is still that of its file: a daemon closes all numbers, and then uses them anew."""
        if self._descriptor is None:
            return True  # not known, which is rare: SQLite used one again, or somebody opened the file at that moment
        try:
            return _identity(os.fstat(self._descriptor)) == self._file
        except OSError:
            return False


def connections_to(path: str) -> list[Connection]:
    """Those to the file at *path* that are open, of all threads."""
    with _forks.opening:
        return [each for each in _forks.connections if each.path == path and each.sqlite is not None]


def mine() -> threading.RLock:
    """The lock under which this thread uses SQLite."""
    return _forks.mine()


class _Forks:
    """Keeps forks and SQLite apart."""

    def __init__(self) -> None:
        self.connections: WeakSet[Connection] = WeakSet()
        # Whatever has one may be garbage as a whole: it would end with a warning before we get to close it.
        self.kept: set[sqlite3.Connection] = set()
        self.opening = threading.Lock()
        self._locks: WeakSet[threading.RLock] = WeakSet()
        self._local = threading.local()
        self._door = threading.RLock()
        self._is_under_way = False
        self._held: list[threading.RLock] = []
        self._dead: list[Connection] = []
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._start_anew)

    def mine(self) -> threading.RLock:
        lock: threading.RLock | None = getattr(self._local, "lock", None)
        if lock is None:
            lock = threading.RLock()
            with self._door:  # not while another thread forks
                self._locks.add(lock)
            self._local.lock = lock
        return lock

    def bury(self, connection: Connection) -> None:
        """Close a connection that nobody can use any more, without waiting: the garbage collector calls from anywhere.

        While a fork is under way it is put off.
        """
        self._dead.append(connection)
        if self._door.acquire(blocking=False):
            try:
                if not self._is_under_way:
                    self._close_dead()
            finally:
                self._door.release()

    def _close_dead(self) -> None:
        while self._dead:
            self._dead.pop().close()

    def _hold(self) -> None:
        self._door.acquire()
        self._is_under_way = True
        for lock in list(self._locks):
            lock.acquire()
            self._held.append(lock)

    def _let_go(self) -> None:
        self._close_dead()
        self._is_under_way = False
        while self._held:
            self._held.pop().release()
        self._door.release()

    def _start_anew(self) -> None:
        for connection in [*self.connections, *self._dead]:
            connection.abandon()
        self._dead.clear()
        self._is_under_way = False
        while self._held:
            self._held.pop().release()
        self._door = threading.RLock()
        self.opening = threading.Lock()


def _keep_for_ever(connection: sqlite3.Connection) -> None:
    # Also at the end of the interpreter: it would close what it collects. A reference that nobody gives back.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _descriptors(file: Identity) -> set[int]:
    """Which descriptors of this process are of *file*; none where the system does not say."""
    found = set()
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with suppress(OSError):  # that of the list itself is closed by now
                if _identity(os.fstat(int(name))) == file:
                    found.add(int(name))
    return found


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _close_all() -> None:
    with _forks.opening:
        connections = list(_forks.connections)
    for connection in connections:
        # A daemon thread may be in the middle of a transaction: it stays as it is, as if we had been killed.
        if connection.lock.acquire(blocking=False):
            try:
                connection.close()
            finally:
                connection.lock.release()
        else:
            connection.abandon()


_forks = _Forks()
atexit.register(_close_all)
