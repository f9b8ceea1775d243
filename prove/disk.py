"""The operating system as simulated processes share it: files, descriptors, flock(2) locks and clocks, as one value.

A `Disk` is copied before it is changed, so that an explorer can go on from any of its states. It knows as much of a
system as `poslock.lock.files.system.System` promises: names lead to inodes, a lock belongs to an open file
description, a forked child shares those of its parent, and the end of a process closes what it had open. Inode numbers
are used again, as on ext4.
"""

from __future__ import annotations

import os
import stat
from errno import EBADF, EEXIST, ENOENT
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prove.actor import FOLDER, PRESENCE, Call, Raised
from prove.explore import Violation

if TYPE_CHECKING:
    from collections.abc import Hashable

SECOND = 10**9
_START_NS = 1_000 * SECOND
_WALL_NS = 1_700_000_000 * SECOND  # when the monotonic clock was at zero
_FOLDERS = {FOLDER: 1, PRESENCE: 2, "/": 3}
_FIRST_INODE, _PRESENCE_INODE, _FIRST_DESCRIPTOR = 4, 1000, 3
_EXCLUSIVE, _SHARED = "exclusive", "shared"
# What a pipe says in place of a file's content. Its reading end has hung up when its last writer has closed since.
_PIPE = b"\0pipe"
_WRITER, _READER, _HUNG_UP = "writer", "reader", "hung up"


class Status(NamedTuple):
    """As much of an ``os.stat_result`` as anybody looks at."""

    st_ino: int
    st_nlink: int
    st_mode: int
    st_dev: int = 1
    st_uid: int = 0
    st_gid: int = 0


class Disk:
    """What all processes share. Its methods are the calls of a `System`; the process that calls comes first."""

    __slots__ = ("descriptors", "files", "inodes", "locks", "names", "now_ns", "pipes", "shows_slots", "wall_ns")

    def __init__(self, *, shows_slots: bool = False) -> None:
        self.shows_slots = shows_slots
        self.now_ns = _START_NS
        self.wall_ns = _WALL_NS
        self.names: dict[str, int] = {}
        self.inodes: dict[int, bytes] = {}
        # What was opened is named after who opened it, in whichever order that was: fewer states.
        self.descriptors: dict[tuple[int, int], tuple[int, int, int]] = {}  # of a process, to what was opened
        self.files: dict[tuple[int, int, int], int] = {}  # what was opened, to its inode
        self.locks: dict[tuple[int, int, int], str] = {}  # what was opened, to the lock on it
        self.pipes: dict[tuple[int, int, int], str] = {}  # what was opened of pipes, to which end it is

    def copy(self) -> Self:
        """Another one, the same so far."""
        other = type(self).__new__(type(self))
        other.shows_slots = self.shows_slots
        other.now_ns, other.wall_ns = self.now_ns, self.wall_ns
        other.names, other.inodes = self.names.copy(), self.inodes.copy()
        other.descriptors, other.files, other.locks = self.descriptors.copy(), self.files.copy(), self.locks.copy()
        other.pipes = self.pipes.copy()
        return other

    def key(self) -> Hashable:
        """Equal for equal ones."""
        parts = (self.names, self.inodes, self.descriptors, self.files, self.locks, self.pipes)
        return (self.now_ns, self.wall_ns, *(frozenset(part.items()) for part in parts))

    def named(self, path: str) -> bytes | None:
        """What the file says that a path leads to; None if there is none."""
        return self.inodes[self.names[path]] if path in self.names else None

    def path_of(self, process: int, descriptor: int) -> str:
        """A name of an open file, empty if it has none any more."""
        inode = self._inode(process, descriptor)
        return next((path for path, number in self.names.items() if number == inode), "")

    def open_by(self, process: int) -> list[int]:
        """The descriptors of a process."""
        return sorted(descriptor for owner, descriptor in self.descriptors if owner == process)

    def is_presence(self, process: int, descriptor: int) -> bool:
        """Whether it is a presence file, or is not open any more, which is nobody else's business either."""
        if (process, descriptor) not in self.descriptors:
            return True
        return self.path_of(process, descriptor).startswith(PRESENCE)

    def has_alone(self, process: int, descriptor: int) -> bool:
        """Whether no other process has this file open."""
        inode = self._inode(process, descriptor)
        files = {file for file, number in self.files.items() if number == inode}
        return all(owner == process for (owner, _), file in self.descriptors.items() if file in files)

    def holds_lock(self, process: int, descriptor: int) -> bool:
        """Whether closing this descriptor gives up an exclusive lock."""
        file = self.descriptors.get((process, descriptor))
        return file is not None and self.locks.get(file) == _EXCLUSIVE

    # What happens to processes.

    def end(self, process: int) -> None:
        """Close everything that a process has open."""
        for descriptor in self.open_by(process):
            self.close(process, descriptor)

    def fork(self, process: int, child: int) -> None:
        """Give *child* everything that *process* has open."""
        for descriptor in self.open_by(process):
            self.descriptors[child, descriptor] = self.descriptors[process, descriptor]

    # The calls.

    def answer(self, process: int, call: Call) -> Any:
        """What the system answers to a process; an error is an answer too.

        Raises:
            Violation: it uses a descriptor that is not open.
        """
        try:
            return getattr(self, call.name)(process, *call.args)
        except OSError as error:
            if error.errno == EBADF and call.name != "status":  # which is asked to find out
                raise Violation(f"process {process} uses a descriptor that is not open: {call.name}") from error
            return Raised.like(error)

    def open(self, process: int, path: str, create: bool, write: bool) -> int:  # noqa: FBT001  # as asked
        if path not in self.names:
            if not create:
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
            self._make(process, path)
        descriptor = self._opened(process, self.names[path])
        if self.inodes[self.names[path]] == _PIPE:
            self.pipes[self.descriptors[process, descriptor]] = _WRITER if write else _READER
        return descriptor

    def create(self, process: int, path: str) -> int:
        if path in self.names:
            raise FileExistsError(EEXIST, os.strerror(EEXIST), path)
        self._make(process, path)
        return self._opened(process, self.names[path])

    def close(self, process: int, descriptor: int) -> None:
        inode = self._inode(process, descriptor)
        file = self.descriptors.pop((process, descriptor))
        if file not in self.descriptors.values():
            del self.files[file]
            self.locks.pop(file, None)
            if self.pipes.pop(file, None) == _WRITER and not self._ends(inode, _WRITER):
                self._hang_up(inode)
            self._forget(inode)

    def make_pipe(self, process: int, path: str) -> None:
        if path in self.names:
            raise FileExistsError(EEXIST, os.strerror(EEXIST), path)
        self._make(process, path)
        self.inodes[self.names[path]] = _PIPE

    def ring(self, process: int, path: str) -> bool:
        inode = self.names.get(path, 0)
        if self.inodes.get(inode) != _PIPE or not self._ends(inode, _READER, _HUNG_UP, _WRITER):
            return False
        if not self._ends(inode, _WRITER):
            self._hang_up(inode)
        return True

    def is_deserted(self, process: int, descriptor: int) -> bool:
        return not self._ends(self._inode(process, descriptor), _WRITER)

    def hung_up(self, process: int, descriptors: tuple[int, ...]) -> list[int]:
        """Those of these ends of pipes that have hung up."""
        files = {descriptor: self.descriptors.get((process, descriptor)) for descriptor in descriptors}
        if None in files.values():
            raise OSError(EBADF, os.strerror(EBADF))
        hung_up = {descriptor: file for descriptor, file in files.items() if file and self.pipes[file] == _HUNG_UP}
        return [descriptor for descriptor, file in hung_up.items() if not self._ends(self.files[file], _WRITER)]

    def try_lock(self, process: int, descriptor: int) -> bool:
        return self._locked(process, descriptor, _EXCLUSIVE)

    def try_lock_presence(self, process: int, descriptor: int) -> bool:
        return self._locked(process, descriptor, _EXCLUSIVE)

    def probe_presence(self, process: int, descriptor: int) -> bool:
        return self._locked(process, descriptor, _SHARED)

    def unlock(self, process: int, descriptor: int) -> None:
        self._inode(process, descriptor)
        self.locks.pop(self.descriptors[process, descriptor], None)

    def read(self, process: int, descriptor: int, size: int, offset: int) -> bytes:
        data = self.inodes[self._inode(process, descriptor)]
        return data if offset == 0 and size >= len(data) else data[offset : offset + size]

    def write(self, process: int, descriptor: int, data: bytes, offset: int) -> int:
        inode = self._inode(process, descriptor)
        old = self.inodes[inode]
        if not data:  # it does not make the file longer
            return 0
        whole = offset == 0 and len(data) >= len(old)
        self.inodes[inode] = data if whole else old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
        return len(data)

    def truncate(self, process: int, descriptor: int) -> None:
        self.inodes[self._inode(process, descriptor)] = b""

    def stat(self, process: int, path: str) -> Status:
        if path in _FOLDERS:
            return Status(_FOLDERS[path], 2, stat.S_IFDIR | 0o700)
        if path not in self.names:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
        return self._status(self.names[path])

    def status(self, process: int, descriptor: int) -> Status:
        return self._status(self._inode(process, descriptor))

    def link(self, process: int, path: str, second: str) -> None:
        if path not in self.names:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
        if second in self.names:
            raise FileExistsError(EEXIST, os.strerror(EEXIST), second)
        self.names[second] = self.names[path]

    def rename(self, process: int, path: str, target: str) -> None:
        if path not in self.names:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
        replaced = self.names.get(target)
        self.names[target] = self.names.pop(path)
        if replaced is not None:
            self._forget(replaced)

    def unlink(self, process: int, path: str) -> None:
        if path not in self.names:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)
        self._forget(self.names.pop(path))

    def listing(self, process: int, path: str) -> tuple[str, ...]:
        if path == PRESENCE and not self.shows_slots:
            return ()
        return tuple(sorted(name.removeprefix(f"{path}/") for name in self.names if os.path.dirname(name) == path))

    def monotonic_ns(self, process: int) -> int:
        return self.now_ns

    def wall_ns_of(self, process: int) -> int:
        return self.wall_ns + self.now_ns

    # Below the calls.

    def _inode(self, process: int, descriptor: int) -> int:
        file = self.descriptors.get((process, descriptor))
        if file is None:
            raise OSError(EBADF, os.strerror(EBADF))
        return self.files[file]

    def _make(self, process: int, path: str) -> None:
        # A presence has a number of its maker's, for the same reason.
        first = _FIRST_INODE if not path.startswith(PRESENCE) else _PRESENCE_INODE * process
        self.names[path] = inode = _lowest_free(first, self.inodes)
        self.inodes[inode] = b""

    def _opened(self, process: int, inode: int) -> int:
        descriptor = _lowest_free(_FIRST_DESCRIPTOR, self.open_by(process))
        file = next(each for n in count() if (each := (process, descriptor, n)) not in self.files)
        self.files[file] = inode
        self.descriptors[process, descriptor] = file
        return descriptor

    def _locked(self, process: int, descriptor: int, kind: str) -> bool:
        inode = self._inode(process, descriptor)
        mine = self.descriptors[process, descriptor]
        others = [held for file, held in self.locks.items() if file != mine and self.files[file] == inode]
        if _EXCLUSIVE in others or (others and kind == _EXCLUSIVE):
            if self.locks.get(mine) != kind:  # Linux gives up the one before it tries for the other
                self.locks.pop(mine, None)
            return False
        self.locks[mine] = kind
        return True

    def _status(self, inode: int) -> Status:
        names = sum(number == inode for number in self.names.values())
        return Status(inode, names, (stat.S_IFIFO if self.inodes[inode] == _PIPE else stat.S_IFREG) | 0o600)

    def _ends(self, inode: int, *kinds: str) -> list[tuple[int, int, int]]:
        """What is open of a pipe, of these kinds."""
        return [file for file, kind in self.pipes.items() if kind in kinds and self.files[file] == inode]

    def _hang_up(self, inode: int) -> None:
        for file in self._ends(inode, _READER):
            self.pipes[file] = _HUNG_UP

    def _forget(self, inode: int) -> None:
        if inode not in self.names.values() and inode not in self.files.values():
            del self.inodes[inode]


def _lowest_free(first: int, taken: dict[int, bytes] | list[int]) -> int:
    number = first
    while number in taken:
        number += 1
    return number


def is_private(disk: Disk, pid: int, call: Call) -> bool:
    """Whether it makes no difference to anybody when a process does this, where no presence file is used again.

    Then they are made under names that nobody else uses, as pipes are, and say what they say before anybody knows of
    them; of a pipe only when its reading end is opened makes a difference. Giving up a shared lock on one, or a file on
    which there is none, keeps nobody from anything. The wall clock, which only people and tokens look at, is read
    together with the call before; directories stay as they are.
    """
    match call.name:
        case "create" | "make_pipe" | "open" | "stat" | "unlink" | "listing":
            is_reader = call.name == "open" and not call.args[2] and "." in os.path.basename(call.args[0])
            is_folder = call.name == "stat" and call.args[0] in _FOLDERS
            return is_folder or (str(call.args[0]).startswith(PRESENCE) and not is_reader)
        case "close":
            return not disk.holds_lock(pid, call.args[0])
        case "status" | "try_lock_presence" | "read" | "write":
            return disk.is_presence(pid, call.args[0])
        case "probe_presence":  # whoever has it open may end
            return disk.is_presence(pid, call.args[0]) and disk.has_alone(pid, call.args[0])
    return call.name == "wall_ns_of"


def is_private_but_slots(disk: Disk, pid: int, call: Call) -> bool:
    """The same where presence files are used again: what is said of them, and who locks them, is seen by others."""
    match call.name:
        case "stat":
            return is_private(disk, pid, call)
        case "status":
            return disk.is_presence(pid, call.args[0])
        case "close":
            return not disk.is_presence(pid, call.args[0]) and not disk.holds_lock(pid, call.args[0])
    return call.name == "wall_ns_of"
