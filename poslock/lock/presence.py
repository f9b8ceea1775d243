"""Presence: how a process proves that it lives.

It locks a file of its own before its first grant and never lets go; the kernel drops that lock when the process ends,
however it ends. A peer that gets a shared lock on the file knows that the process is dead, with no PID to be reused or
hidden by a namespace. A missing file means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EAGAIN
from typing import TYPE_CHECKING

from poslock.lock.safety import file_fault
from poslock.lock.verdict import Liveness

if TYPE_CHECKING:
    from poslock.lock.directory import LockDirectory

_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Mine:
    """This process's presence file. The descriptor stays open on purpose: the kernel closes it at the end."""

    pid: int
    name: str
    descriptor: int
    identity: tuple[int, int]


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
            mine = self._mine = self._new()
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
            # Read-only: closing a writable descriptor would wake everybody who waits for the process to end.
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
                    return _Mine(pid, name, descriptor, identity)
            except BaseException:
                self._system.close(descriptor)
                raise
            self._system.close(descriptor)  # somebody probed the new file in this very moment
        raise OSError(EAGAIN, "no presence file could be locked", self._folder)
