"""The lock directory: where lock files and presence files live, safe from others."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from weakref import ReferenceType, ref

from poslock.errors import LockFileError
from poslock.lock.mounts import is_network, mount_of
from poslock.lock.open_file import OpenFiles
from poslock.lock.presence import Presence
from poslock.lock.safety import directory_fault, sharing_group
from poslock.lock.system import SYSTEM, System

ALLOW_NETWORK = "POSLOCK_ALLOW_NETWORK"
_SLUG_LENGTH = 40
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
