"""The operating system as the lock layer sees it: every call that layer makes goes through one `System`.

Tests pass a simulated one with a scheduler and faults, so the protocol code under test is the shipped code. This is
also the only module that touches `filelock` (the lock under each record transition) and `portalocker` (presence).
Both lock with flock(2): the lock belongs to the open file description, so two threads exclude each other too, and a
forked child shares it until the child closes its copy.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

import portalocker
from filelock import lock_descriptor, unlock_descriptor

from poslock.lock.record import RECORD_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

# O_NONBLOCK: opening a planted FIFO must not hang. O_NOFOLLOW: a planted symlink must not lead elsewhere.
_SAFE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PRESENCE_HELD = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_PRESENCE_PROBE = portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING


class System(Protocol):
    """What the protocol asks of the operating system. Times are nanoseconds; every method may raise OSError."""

    def open(self, path: str, *, create: bool) -> int:
        """Open an existing file read-write, or create it (mode 0600)."""

    def create(self, path: str) -> int:
        """Create a file that must not exist yet (mode 0600) and open it."""

    def close(self, descriptor: int) -> None: ...

    def try_lock(self, descriptor: int) -> bool:
        """Take the exclusive OS lock, or say at once that another one has it."""

    def unlock(self, descriptor: int) -> None: ...

    def try_lock_presence(self, descriptor: int) -> bool:
        """Take the lock that proves this process alive for as long as it lives."""

    def probe_presence(self, descriptor: int) -> bool:
        """True if nobody holds the presence lock; changes nothing."""

    def read(self, descriptor: int) -> bytes: ...

    def write(self, descriptor: int, data: bytes) -> None: ...

    def stat(self, target: str | int) -> os.stat_result:
        """Status of an open file, or of a path without following a final symlink."""

    def make_directory(self, path: str) -> None:
        """Create *path* and its parents with mode 0700; no error if it exists."""

    def listing(self, path: str) -> Iterator[str]:
        """Names in a directory."""

    def monotonic_ns(self) -> int: ...

    def wall_ns(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...

    def boot_id(self) -> str:
        """Names this boot; empty where the system has no such name."""

    def user_id(self) -> int: ...

    def process_id(self) -> int: ...

    def host_name(self) -> str: ...

    def random_name(self) -> str: ...


class PosixSystem:
    """The real one. One per Python process; see `SYSTEM`."""

    def __init__(self) -> None:
        self._descriptors: set[int] = set()
        self._boot_id: str | None = None
        os.register_at_fork(after_in_child=self._close_inherited)

    def open(self, path: str, *, create: bool) -> int:
        return self._opened(os.open(path, _SAFE | (os.O_CREAT if create else 0), 0o600))

    def create(self, path: str) -> int:
        return self._opened(os.open(path, _SAFE | os.O_CREAT | os.O_EXCL, 0o600))

    def _opened(self, descriptor: int) -> int:
        self._descriptors.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._descriptors.discard(descriptor)
        os.close(descriptor)

    def _close_inherited(self) -> None:
        # A child that kept the parent's presence open would make a dead parent look alive. It must close and never
        # unlock: unlocking acts on the shared description and would make the living parent look dead.
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def try_lock(self, descriptor: int) -> bool:
        return lock_descriptor(descriptor, blocking=False)

    def unlock(self, descriptor: int) -> None:
        unlock_descriptor(descriptor)

    def try_lock_presence(self, descriptor: int) -> bool:
        return _portalocked(descriptor, _PRESENCE_HELD)

    def probe_presence(self, descriptor: int) -> bool:
        return _portalocked(descriptor, _PRESENCE_PROBE)

    def read(self, descriptor: int) -> bytes:
        return os.pread(descriptor, RECORD_SIZE, 0)

    def write(self, descriptor: int, data: bytes) -> None:
        written = os.pwrite(descriptor, data, 0)
        while written < len(data):  # the kernel says why on the next call
            written += os.pwrite(descriptor, data[written:], written)

    def stat(self, target: str | int) -> os.stat_result:
        return os.fstat(target) if isinstance(target, int) else os.lstat(target)

    def make_directory(self, path: str) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)

    def listing(self, path: str) -> Iterator[str]:
        with os.scandir(path) as entries:
            for entry in entries:
                yield entry.name

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def boot_id(self) -> str:
        if self._boot_id is None:
            try:
                with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                    self._boot_id = file.read().strip()
            except OSError:
                self._boot_id = ""
        return self._boot_id

    def user_id(self) -> int:
        return os.geteuid()

    def process_id(self) -> int:
        return os.getpid()

    def host_name(self) -> str:
        return os.uname().nodename

    def random_name(self) -> str:
        return os.urandom(8).hex()


def _portalocked(descriptor: int, flags: portalocker.LockFlags) -> bool:
    try:
        portalocker.lock(descriptor, flags)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        raise (error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error))) from error
    return True


SYSTEM = PosixSystem()
