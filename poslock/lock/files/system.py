"""The operating system as the lock protocol sees it: every call it makes goes through one `System`.

Tests pass a simulated one with a scheduler and faults, so the protocol code under test is the shipped code. This is
also the only module that touches `filelock` (the lock under each record transition) and `portalocker` (presence).
Both lock with flock(2): the lock belongs to the open file description, so two threads exclude each other too, and a
forked child shares it until the child closes its copy.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from errno import EMFILE, ENFILE, ENOENT, ENXIO
from fcntl import F_DUPFD_CLOEXEC, fcntl
from functools import partial
from math import ceil
from stat import S_ISFIFO
from threading import RLock
from typing import TYPE_CHECKING, Protocol, TypeVar

import portalocker
from filelock import lock_descriptor, unlock_descriptor

from poslock.lock.store import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

NO_DESCRIPTOR = {EMFILE, ENFILE}
# Who keeps files open only to be faster, and lets go of them when there is no descriptor left.
on_exhaustion: list[Callable[[], object]] = []
# O_NONBLOCK: opening a planted FIFO must not hang. O_NOFOLLOW: a planted symlink must not lead elsewhere.
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STANDARD_ERROR = 2
_NAP = 0.05
_LONGEST_HOST_NAME = 64
# The one of the boot itself has the same number on every Linux (PROC_TIME_INIT_INO).
_FIRST_TIME_NAMESPACE = "time:[4026531834]"
_PRESENCE_HELD = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_PRESENCE_PROBE = portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING


class System(Host, Protocol):
    """What the protocol asks of the operating system. Times are nanoseconds; every method may raise OSError.

    ``clock_name`` names the monotonic clock, empty where nobody knows which one it is: a boot has one, and a container
    may have one of its own. ``generation`` grows by one in each forked child: a parent and its child may have the same
    PID, in two namespaces.
    """

    clock_name: str
    generation: int

    def open(self, path: str, *, create: bool = False, write: bool = True) -> int:
        """Open a file, read-only unless *write*; *create* makes it (mode 0600) if it does not exist."""

    def create(self, path: str) -> int:
        """Create a file that must not exist yet (mode 0600) and open it."""

    def share(self, target: str | int) -> None:
        """Let the group read and write a file, or a directory make files of that group. No error if it is another's."""

    def group_id(self) -> int: ...

    def group_ids(self) -> frozenset[int]:
        """The groups that this process belongs to."""

    def truncate(self, descriptor: int) -> None:
        """Make a file empty."""

    def mount_table(self) -> str:
        """What is mounted where, in the format of ``/proc/self/mountinfo``; empty where there is no such thing."""

    def try_lock(self, descriptor: int, /) -> bool:
        """Take the exclusive OS lock, or say at once that another one has it."""

    def unlock(self, descriptor: int, /) -> None: ...

    def try_lock_presence(self, descriptor: int) -> bool:
        """Take the lock that proves this process alive for as long as it lives."""

    def probe_presence(self, descriptor: int) -> bool:
        """True if nobody holds the presence lock. For that moment it keeps others from taking it."""

    def read(self, descriptor: int, size: int, offset: int, /) -> bytes:
        """Up to *size* bytes from *offset* on."""

    def write(self, descriptor: int, data: bytes, offset: int, /) -> int:
        """Write at *offset*; how many bytes were written, of which there may be fewer."""

    def stat(self, path: str, /) -> os.stat_result:
        """Status of a path, without following a final symlink."""

    def status(self, descriptor: int, /) -> os.stat_result:
        """Status of an open file."""

    def link(self, path: str, second: str, /) -> None:
        """Give a file a second name."""

    def rename(self, path: str, target: str, /) -> None:
        """Put a file in the place of another one."""

    def unlink(self, path: str, /) -> None: ...

    def make_directory(self, path: str) -> None:
        """Create *path* with mode 0700, and missing parents with 0755 at the most; no error if it exists."""

    def listing(self, path: str) -> Iterator[str]:
        """Names in a directory."""

    def make_pipe(self, path: str) -> None:
        """Create a named pipe (mode 0600) that must not exist yet. Opening it, at either end, never waits."""

    def ring(self, path: str) -> bool:
        """Open and close the writing end of a pipe; False if it is none, or nobody has the other end open."""

    def is_deserted(self, descriptor: int) -> bool:
        """Whether nobody has the writing end of a pipe open, of which this is the other one."""

    def user_id(self) -> int: ...

    def random_name(self) -> str: ...


class _Closed(int):
    """A descriptor that was closed."""

    note: tuple[int, int] | None = None  # the very object that `PosixSystem` has noted for it


class _Descriptor(_Closed):
    """An open descriptor, closed at the latest when nobody has it any more.

    Code that is interrupted by what a signal handler raises may not come to where it would close it, or even note it.
    (test_interrupted_anywhere_it_can_be_used_again)
    """

    def __del__(self) -> None:
        SYSTEM.lose(self)


class PosixSystem:
    """The real one. One per Python process; see `SYSTEM`."""

    # What the system offers as it is, without a frame of ours in between: a transition makes a dozen of these calls.
    try_lock = staticmethod(partial(lock_descriptor, blocking=False))
    unlock = staticmethod(unlock_descriptor)
    read = staticmethod(os.pread)
    write = staticmethod(os.pwrite)
    stat = staticmethod(os.lstat)
    status = staticmethod(os.fstat)
    rename = staticmethod(os.rename)
    link = staticmethod(os.link)
    unlink = staticmethod(os.unlink)
    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)
    sleep = staticmethod(time.sleep)
    user_id = staticmethod(os.geteuid)
    group_id = staticmethod(os.getegid)
    process_id = staticmethod(os.getpid)

    def __init__(self) -> None:
        self.generation = 0
        self._descriptors: dict[int, tuple[int, int]] = {}
        # Now, not at the first grant: decoding loads a codec, and a fork in the middle of an import leaves a child that
        # hangs at its own. (test_forks_of_a_threaded_process_inherit_nothing)
        self._boot_id = _read_boot_id()
        self.clock_name = _named_clock(self._boot_id)
        self.host_name = os.uname().nodename[:_LONGEST_HOST_NAME]
        # Another thread forks between our open and our note of it: the child would keep a descriptor that nobody
        # closes, and with it a lock of ours. So a fork waits. (test_forks_of_a_threaded_process_inherit_nothing)
        self._noting = RLock()
        os.register_at_fork(
            before=self._hold_notes, after_in_parent=self._release_notes, after_in_child=self._close_inherited
        )

    def _hold_notes(self) -> None:
        self._noting.acquire()

    def _release_notes(self) -> None:
        self._noting.release()

    def open(self, path: str, *, create: bool = False, write: bool = True) -> int:
        return self._opened(path, _SAFE | (os.O_RDWR if write else os.O_RDONLY) | (os.O_CREAT if create else 0))

    def create(self, path: str) -> int:
        return self._opened(path, _SAFE | os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def share(self, target: str | int) -> None:
        with suppress(PermissionError):
            os.chmod(target, 0o660 if isinstance(target, int) else 0o2770)

    def truncate(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)

    def group_ids(self) -> frozenset[int]:
        return frozenset((os.getegid(), *os.getgroups()))

    def mount_table(self) -> str:
        try:
            return _with_a_descriptor(_read_mount_table)
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:  # else a network file system would pass for a local one
                raise
            return ""

    def _opened(self, path: str, flags: int) -> int:
        with self._noting:
            opened = _with_a_descriptor(_owned, os.open, path, flags, 0o600)
            if opened <= _STANDARD_ERROR:  # a cron job without standard streams; somebody will write there
                opened = _owned(fcntl, opened, F_DUPFD_CLOEXEC, _STANDARD_ERROR + 1)
            self._descriptors[int(opened)] = opened.note = _identity(opened)
        return opened

    def close(self, descriptor: int) -> None:
        with self._noting:
            # Not a number that a file of ours has by now, or one of the bot's, after somebody else closed this one.
            # (test_pipes_that_use_the_numbers_of_who_waits_are_not_touched)
            note = getattr(descriptor, "note", None)
            if note is None or (self._descriptors.get(descriptor) is note and _identity(descriptor) == note):
                os.close(descriptor)  # interrupted before that, it must not count as closed
                self._descriptors.pop(descriptor, None)
            if isinstance(descriptor, _Descriptor):
                descriptor.__class__ = _Closed  # type: ignore[assignment]  # it has nothing to do any more

    def lose(self, descriptor: _Descriptor) -> None:
        """Close what was opened, and what nobody has any more."""
        with suppress(OSError):
            self.close(descriptor)

    def _close_inherited(self) -> None:
        # A child that kept the parent's presence open would make a dead parent look alive. It must close and never
        # unlock: unlocking acts on the shared description and would make the living parent look dead.
        # Not a number that somebody else uses by now, after closing ours.
        # (test_a_descriptor_that_somebody_else_closed_stays_open_in_a_child)
        for descriptor, identity in self._descriptors.items():
            with suppress(OSError):
                if _identity(descriptor) == identity:
                    os.close(descriptor)
        self._descriptors.clear()
        self.generation += 1
        self._noting = RLock()
        self.clock_name = _named_clock(self._boot_id)  # the parent may have made a time namespace for its children

    def try_lock_presence(self, descriptor: int) -> bool:
        return _portalocked(descriptor, _PRESENCE_HELD)

    def probe_presence(self, descriptor: int) -> bool:
        return _portalocked(descriptor, _PRESENCE_PROBE)

    def make_directory(self, path: str) -> None:
        _make_directory(path, 0o700)

    def listing(self, path: str) -> Iterator[str]:
        # Whole, because a fork waits for it: the child would keep the directory open.
        # (test_forks_of_a_threaded_process_inherit_nothing)
        with self._noting, _with_a_descriptor(os.scandir, path) as entries:
            return iter([entry.name for entry in entries])

    def make_pipe(self, path: str) -> None:
        os.mkfifo(path, 0o600)

    def ring(self, path: str) -> bool:
        with self._noting:  # in a forked child that kept it open, nobody would be woken
            try:
                descriptor = _with_a_descriptor(_owned, os.open, path, _SAFE | os.O_WRONLY)
            except OSError as error:
                if error.errno in {ENOENT, ENXIO}:
                    return False
                raise
            try:
                return S_ISFIFO(os.fstat(descriptor).st_mode)
            finally:
                self.close(descriptor)

    def is_deserted(self, descriptor: int) -> bool:
        try:
            return not os.readv(descriptor, [bytearray(1)])  # not read(): eventlet's waits until there is something
        except BlockingIOError:
            return False

    def wait(self, descriptors: Sequence[int], seconds: float) -> list[int]:
        try:
            return _hung_up(descriptors, seconds)
        except OSError:  # no memory, or more descriptors than this process may have: whoever waits looks again soon
            self.sleep(min(seconds, _NAP))
            return []

    def random(self) -> float:
        return int.from_bytes(os.urandom(2), "big") / 0xFFFF

    def random_name(self) -> str:
        return os.urandom(8).hex()


def write_all(data: bytes, system: System, descriptor: int) -> None:
    """Write *data* from the start of a file on."""
    written = system.write(descriptor, data, 0)
    while written < len(data):  # the kernel says why on the next call
        written += system.write(descriptor, data[written:], written)


def _hung_up(descriptors: Sequence[int], seconds: float) -> list[int]:
    # Looked up now: gevent and eventlet put their own in its place, or take it away.
    if (poll := getattr(select, "poll", None)) is None:
        return list(select.select(descriptors, (), (), seconds)[0])
    poller = poll()  # not select() where it can be had: its descriptors end at 1023
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poller.poll(ceil(seconds * 1000))]


def _owned(call: Callable[..., int], *arguments: object) -> _Descriptor:
    """The descriptor that *call* answers, owned in the same step of the interpreter: no signal comes in between."""
    return next(map(_Descriptor, map(call, *([each] for each in arguments))))


def _with_a_descriptor(call: Callable[..., T], *arguments: object) -> T:
    """What *call* answers; if there is no descriptor left for it, after those are given back that we only keep."""
    try:
        return call(*arguments)
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR:
            raise
    for let_go in on_exhaustion:
        let_go()
    return call(*arguments)


def _make_directory(path: str, mode: int) -> None:
    """As os.makedirs, but where the umask is 0, as in a daemon, the parents are not there for everybody to write."""
    try:
        with suppress(FileExistsError):  # another process may make it at the same time
            os.mkdir(path, mode)
    except FileNotFoundError:
        _make_directory(os.path.dirname(path), 0o755)
        with suppress(FileExistsError):
            os.mkdir(path, mode)


def _portalocked(descriptor: int, flags: portalocker.LockFlags) -> bool:
    try:
        portalocker.lock(descriptor, flags)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        raise (error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error))) from error
    return True


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _named_clock(boot_id: str) -> str:
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:
        return boot_id
    return boot_id if not boot_id or namespace == _FIRST_TIME_NAMESPACE else f"{boot_id} {namespace}"


def _read_mount_table() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _read_boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


SYSTEM = PosixSystem()
