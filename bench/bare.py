"""The floor: the system calls of one acquire and release of a reused `PositionLock`, and nothing else.

How the sequence was obtained (do it again when the lock layer changes, and adapt `_calls`):

    strace -o calls .venv/bin/python -c '
    from poslock import PositionLock
    lock = PositionLock("btc-swing-1", lock_dir="/tmp/strace-poslock")
    for _ in range(3): lock.acquire(); lock.release()'
    tail -n 40 calls    # what the last turn of the loop did, up to rt_sigaction

Clocks are read in user space and do not show; they are left out here too. No result is looked at.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "the same bare system calls"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RECORD_SIZE = 4096


def bare_calls(directory: str) -> Callable[[], None]:
    """A function that makes them, on files like poslock's in *directory*."""
    presence, lock = f"{directory}/.presence", f"{directory}/btc-swing-1-c3cd09ce15ff9337.lock"
    os.mkdir(directory, 0o700)
    os.mkdir(presence, 0o700)
    mine = f"{presence}/{os.getpid()}-0123456789abcdef"
    held = os.open(mine, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    flock(held, LOCK_EX | LOCK_NB)
    record = b"{}".ljust(_RECORD_SIZE)
    descriptor = os.open(lock, _OPEN | os.O_CREAT, 0o600)
    return lambda: _calls(held, descriptor, lock, record)


def _calls(held: int, descriptor: int, lock: str, record: bytes) -> None:
    # acquire
    os.getpid()
    os.fstat(held)
    os.fstat(descriptor)
    flock(descriptor, LOCK_EX | LOCK_NB)
    os.pread(descriptor, _RECORD_SIZE, 0)
    os.getpid()
    os.pwrite(descriptor, record, 0)
    os.lstat(lock)
    flock(descriptor, LOCK_UN)
    # release
    os.getpid()
    os.fstat(descriptor)
    flock(descriptor, LOCK_EX | LOCK_NB)
    os.lstat(lock)
    os.pread(descriptor, _RECORD_SIZE, 0)
    os.pwrite(descriptor, record, 0)
    os.lstat(lock)
    flock(descriptor, LOCK_UN)
