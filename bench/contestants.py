"""The locks that are compared, each made for a path and used with its own defaults.

All of them wait as their authors chose; only the time-outs are the same.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import portalocker
from filelock import FileLock, SoftFileLease

from poslock import PositionLock

if TYPE_CHECKING:
    from collections.abc import Callable

# Not an import statement: fasteners has no types, and a checker may run where it is not installed.
_fasteners: Any = import_module("fasteners")

_TIMEOUT = 60.0


class AnyLock(Protocol):
    """What all of them have in common. A time-out is an error in all."""

    def acquire(self) -> object:
        """Wait for the lock and take it."""

    def release(self) -> object:
        """Give it back."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One lock class. ``make`` wants a path in a directory of its own."""

    name: str
    make: Callable[[str], Any]


class KernelLock:
    """flock(2) that waits in the kernel: what a lock costs that can do nothing else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> None:
        """Wait in the kernel, without limit."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """By word and by closing, as the others do."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


_parts = cache(os.path.split)  # a bot has them apart: taking them apart is no part of the work


def _position_lock(path: str) -> PositionLock:
    directory, name = _parts(path)
    return PositionLock(name, lock_dir=directory, timeout=_TIMEOUT)


POSLOCK = Contestant("poslock", _position_lock)
KERNEL = Contestant("flock in the kernel", KernelLock)
FILE_LOCK = Contestant("filelock.FileLock", lambda path: FileLock(path, timeout=_TIMEOUT))
LEASE = Contestant("filelock.SoftFileLease", lambda path: SoftFileLease(path, timeout=_TIMEOUT))
PORTALOCKER = Contestant("portalocker.Lock", lambda path: portalocker.Lock(path, timeout=_TIMEOUT))
PID_FILE_LOCK = Contestant(
    "portalocker.PidFileLock", lambda path: portalocker.PidFileLock(path, timeout=_TIMEOUT, fail_when_locked=False)
)
FASTENERS = Contestant("fasteners.InterProcessLock", _fasteners.InterProcessLock)

ALONE = (POSLOCK, FASTENERS, FILE_LOCK, LEASE, PORTALOCKER, PID_FILE_LOCK)
AMONG_PEERS = (POSLOCK, KERNEL, FASTENERS, FILE_LOCK, LEASE, PORTALOCKER)
BY_NAME = {each.name: each for each in (*ALONE, KERNEL)}
