"""The lock directory: where lock files and presence files live, safe from others.

A presence is how a process proves that it lives. It locks a file of its own before its first grant and never lets go;
the kernel drops that lock when the process ends, however it ends. A peer that gets a shared lock on the file knows that
the process is dead, with no PID to be reused or hidden by a namespace. A missing file means unknown.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from dataclasses import dataclass
from errno import EAGAIN
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from weakref import ReferenceType, ref

from poslock.errors import LockFileError
from poslock.lock.files.lock_file import OpenFiles, file_fault
from poslock.lock.files.pipes import LifeLine
from poslock.lock.files.safety import directory_fault, is_network, mount_of, sharing_group
from poslock.lock.files.system import SYSTEM, System
from poslock.lock.verdict import Liveness

ALLOW_NETWORK = "POSLOCK_ALLOW_NETWORK"
_SLUG_LENGTH = 40
_TRIES = 3
_NOT_SLUG = re.compile(r"[^A-Za-z0-9]+")
_WAY_OUT = "use a directory of your own (lock_dir=, --lock-dir, $POSLOCK_DIR)"


class Owner(NamedTuple):
    """The thread and task that acquired something. Objects, not numbers: those are used again.

    Two are equal while they mean the same thread and the same task.
    """

    thread: threading.Thread
    task: ReferenceType[Any] | None

    @classmethod
    def current(cls) -> Owner:
        """Whoever calls."""
        current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
        task = None
        if current_task is not None:
            try:
                task = current_task()
            except RuntimeError:  # no loop runs in this thread
                task = None
        return cls(threading.current_thread(), None if task is None else ref(task))


class Hold(Protocol):
    """A lock on a position, as whoever acquired it."""

    @property
    def position_id(self) -> str:
        """The position it is for."""

    @property
    def held(self) -> bool:
        """Whether it holds, as far as is known without looking."""

    @property
    def token(self) -> int | None:
        """Its fencing token."""


class LockDirectory:
    """One lock directory as one process sees it through one `System`."""

    def __init__(self, path: str, system: System) -> None:
        self.path = path
        self.system = system
        self.presence = Presence(self, f"{path}/.presence")
        self.open_files = OpenFiles()
        self.group: int | None = None  # who shares it, known once it is prepared
        self._is_prepared = False
        self._holds: dict[tuple[str, Owner], ReferenceType[Hold]] = {}

    def add_hold(self, owner: Owner, lock: Hold) -> None:
        """Remember who holds what here. Each of these is one step of the interpreter, so needs no lock."""
        self._holds[lock.position_id, owner] = ref(lock)

    def drop_hold(self, owner: Owner, lock: Hold) -> None:
        """Forget it, if nothing came after it."""
        if self.hold(owner, lock.position_id) is lock:
            self._holds.pop((lock.position_id, owner), None)

    def hold(self, owner: Owner, position_id: str) -> Hold | None:
        """The lock with which *owner* holds a position, or did when it was last heard of."""
        found = self._holds.get((position_id, owner))
        return None if found is None else found()

    def lock_path(self, position_id: str) -> str:
        """Where the lock file of a position is."""
        return f"{self.path}/{lock_file_name(position_id)}"

    def back_off_path(self, account: str) -> str:
        """Where it is written for how long an account should be left alone."""
        return f"{self.path}/{lock_file_name(account).removesuffix('.lock')}.backoff"

    def memory_path(self, account: str) -> str:
        """Where it is kept what a venue need not be asked for again."""
        return f"{self.path}/{lock_file_name(account).removesuffix('.lock')}.known"

    def lock_paths(self) -> list[str]:
        """Every lock file, sorted; empty if the directory does not exist yet.

        Raises:
            LockFileError: the directory cannot be read.
        """
        try:
            return sorted(f"{self.path}/{name}" for name in self.system.listing(self.path) if name.endswith(".lock"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LockFileError("", self.path, f"cannot be read: {error.strerror}", _WAY_OUT) from error

    def prepare(self, *, again: bool = False) -> None:
        """Create the directory if need be, and refuse one in which others could plant files.

        Looks once, and *again* when somebody seems to have removed it.

        Raises:
            LockFileError: it is no directory, somebody else's, writable by everybody, or on a network file system.
        """
        if self._is_prepared and not again:
            return
        presence = f"{self.path}/.presence"
        try:
            self.system.make_directory(self.path)
            status = self.system.stat(self.path)
            self.group = sharing_group(status, self.system.group_ids())
            self._refuse(self.path, status)
            self._refuse_network()
            self.system.make_directory(presence)
            if self.group is not None:
                self.system.share(presence)
            self._refuse(presence, self.system.stat(presence))
        except OSError as error:
            path = error.filename if isinstance(error.filename, str) else self.path
            why = f"cannot be used as lock directory: {error.strerror}"
            raise LockFileError("", path, why, _WAY_OUT) from error
        self._is_prepared = True

    def _refuse(self, path: str, status: os.stat_result) -> None:
        fault = directory_fault(status, self.system.user_id(), self.system.group_id(), self.group)
        if fault is not None:
            raise LockFileError(
                "", path, fault, f"{_WAY_OUT}; to keep it, chmod 700, or to share it, chgrp and chmod 2770"
            )

    def _refuse_network(self) -> None:
        mount = mount_of(self.path, self.system.mount_table())
        if mount and is_network(mount[0]) and not os.environ.get(ALLOW_NETWORK):
            why = f"is on a network file system ({mount[0]}): other hosts' locks and processes cannot be seen"
            way_out = f"{_WAY_OUT} on a local disk, or set {ALLOW_NETWORK}=1 if one host alone uses it"
            raise LockFileError("", self.path, why, way_out)


_opened: dict[str, LockDirectory] = {}
_named: dict[str, tuple[tuple[int, int], LockDirectory]] = {}


def open_directory(lock_dir: str | os.PathLike[str] | LockDirectory | None) -> LockDirectory:
    """The lock directory *lock_dir*, or the default one: ``$POSLOCK_DIR``, else the user's state directory.

    One object per directory and process, because presence is one per process. Nothing is created yet.

    Raises:
        LockFileError: the path leads nowhere (a loop of links, no home directory, a deleted working directory), or
            cannot be one (NUL, half a surrogate pair).
    """
    if isinstance(lock_dir, LockDirectory):
        return lock_dir
    named = lock_dir or os.environ.get("POSLOCK_DIR")
    try:
        name = os.fspath(named or _state_directory())
        # Following every link takes longer than a transition, so it is not done again while both paths lead where they
        # led. (test_a_link_to_a_directory_may_be_turned)
        known = _named.get(name)
        if known is not None and _identity(name) == known[0] == _identity(known[1].path):
            return known[1]
        path = os.path.realpath(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise LockFileError("", str(named or "the default lock directory"), str(error), _WAY_OUT) from error
    directory = _opened.setdefault(path, LockDirectory(path, SYSTEM))
    if (identity := _identity(path)) is not None:
        _named[name] = identity, directory
    return directory


@lru_cache(maxsize=1024)
def lock_file_name(position_id: str) -> str:
    """``<slug>-<hash16>.lock``: the slug is for people, the hash alone tells positions apart."""
    slug = _NOT_SLUG.sub("-", position_id)[:_SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(position_id.encode()).hexdigest()[:16]
    return f"{slug or 'position'}-{digest}.lock"


def _identity(path: str) -> tuple[int, int] | None:
    """Which directory an absolute path leads to, None if to none yet."""
    try:
        status = os.stat(path) if os.path.isabs(path) else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def _state_directory() -> str:
    from platformdirs import user_state_path  # noqa: PLC0415  # imported only where nobody named a directory

    return str(user_state_path("poslock"))


@dataclass(frozen=True, slots=True)
class _Mine:
    """This process's presence file. The descriptor stays open on purpose: the kernel closes it at the end.

    So does the life line, which tells those who wait for that.
    """

    pid: int
    name: str
    descriptor: int
    identity: tuple[int, int]
    life_line: LifeLine


class Presence:
    """The presence files in one folder, and this process's own among them."""

    def __init__(self, directory: LockDirectory, folder: str) -> None:
        self._directory = directory
        self._folder = folder
        self._system = directory.system
        self._mine: _Mine | None = None
        self._retired: dict[str, object] = {}

    def name(self, *, thorough: bool = True) -> str:
        """The name of this process's presence file, locked from here on until the process ends.

        Two threads that come here first may each make one. Both stay locked, so either name tells the truth. Only a
        *thorough* look finds out that the directory is another one by now.
        """
        mine = self._mine
        if mine is None or mine.pid != self._system.process_id():  # the first grant, or a forked child's first
            mine = self._mine = self._new()
        elif not self._is_seen(mine, thorough=thorough):
            # Somebody removed the file, or closed our descriptor: peers could not see us die, or not see us live.
            # Of two threads that see this one closes it: to the other its number may be something else by now.
            # (test_two_threads_that_find_their_presence_removed)
            if self._retired.setdefault(mine.name, token := object()) is token and self._has(mine):
                self._system.close(mine.descriptor)
                mine.life_line.close()
            mine = self._mine = self._new()
        elif mine.life_line.descriptor is None:
            mine.life_line.open()
        return mine.name

    def path(self, name: str) -> str:
        """Where the presence file *name* is."""
        return f"{self._folder}/{name}"

    def liveness(self, name: str) -> Liveness:
        """Whether the process behind *name* lives; UNKNOWN when its file is gone or cannot be probed."""
        mine = self._mine
        if mine is not None and mine.name == name and mine.pid == self._system.process_id():
            return Liveness.ALIVE
        try:
            descriptor = self._system.open(self.path(name), write=False)
            try:
                status = self._system.status(descriptor)
                if file_fault(status, self._system.user_id(), self._directory.group) is not None:
                    return Liveness.UNKNOWN  # planted: it says nothing about a process of ours
                dead = self._system.probe_presence(descriptor)
            finally:
                self._system.close(descriptor)
        except OSError:
            return Liveness.UNKNOWN
        return Liveness.DEAD if dead else Liveness.ALIVE

    def _is_seen(self, mine: _Mine, *, thorough: bool) -> bool:
        try:
            status = self._system.status(mine.descriptor)
        except OSError:
            return False
        is_there = (status.st_dev, status.st_ino) == mine.identity and status.st_nlink == 1
        return is_there and (not thorough or self._identity(self.path(mine.name)) == mine.identity)

    def _has(self, mine: _Mine) -> bool:
        return self._identity(mine.descriptor) == mine.identity

    def _identity(self, target: str | int) -> tuple[int, int] | None:
        try:
            status = self._system.status(target) if isinstance(target, int) else self._system.stat(target)
        except OSError:
            return None
        return (status.st_dev, status.st_ino)

    def _new(self) -> _Mine:
        for _ in range(_TRIES):
            pid = self._system.process_id()
            name = f"{pid}-{self._system.random_name()}"
            descriptor = self._system.create(self.path(name))
            try:
                if self._directory.group is not None:
                    self._system.share(descriptor)
                if self._system.try_lock_presence(descriptor) and (identity := self._identity(descriptor)):
                    life_line = LifeLine(self._system, self.path(name), self._directory.group)
                    return _Mine(pid, name, descriptor, identity, life_line)
            except BaseException:
                self._system.close(descriptor)
                raise
            self._system.close(descriptor)  # somebody probed the new file in this very moment
        raise OSError(EAGAIN, "no presence file could be locked", self._folder)
