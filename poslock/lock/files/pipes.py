"""Named pipes beside the presence files: how somebody who waits is woken, and how it learns that a process has ended.

Both are one thing: a reader is told by the kernel when the last writer has closed its end. A *life line* is written to
by a process for as long as it lives; nobody ever writes a byte. A *wake* has no writer: to ring it is to open and close
its end. So nothing has to be drained, no signal comes of a reader that has just gone, and what is planted is not
written to. Whoever rings is told if there is no reader.

A child must not keep an end open: `poslock.lock.files.system.System` closes what it has opened in every forked child.
Where there is no pipe to be had (no descriptor, no such files, a peer of a version without them) the waiters poll.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from poslock.lock.files.system import System

_LIFE_LINE = ".life"


class LifeLine:
    """This process's end of the life line of *presence*, the path of a presence file; it stays open until the end.

    ``descriptor`` is None while there is no pipe to be had.
    """

    __slots__ = ("_group", "_path", "_system", "descriptor")

    def __init__(self, system: System, presence: str, group: int | None) -> None:
        self._system = system
        self._path = _life_line(presence)
        self._group = group
        self.descriptor: int | None = None
        self.open()

    def open(self) -> None:
        """Try to, if it is not."""
        with suppress(OSError):
            with suppress(FileExistsError):  # made before, and not opened
                self._system.make_pipe(self._path)
            self.descriptor = self._system.open(self._path)
            if self._group is not None:
                self._system.share(self.descriptor)

    def close(self) -> None:
        """Nobody is told by this presence any more."""
        if self.descriptor is not None:
            _close(self._system, self.descriptor)


def watched(system: System, presence: str, group: int | None) -> int | None:
    """A descriptor that hangs up when the process behind *presence*, a path, ends; None if it cannot be watched."""
    try:
        descriptor = system.open(_life_line(presence), write=False)
    except OSError:
        return None
    try:
        # In this order: if it was there after we had opened our end, we are told when it goes.
        if _is_ours(system.status(descriptor), system.user_id(), group) and not system.is_deserted(descriptor):
            return descriptor
    except OSError:
        pass
    _close(system, descriptor)
    return None


class Wake:
    """What wakes one who waits at the place *ticket* of *presence*, the path of a presence file.

    Raises:
        OSError: there is no pipe to be had.
    """

    __slots__ = ("_path", "_system", "descriptor")

    def __init__(self, system: System, presence: str, ticket: int, group: int | None) -> None:
        self._system = system
        self._path = _wake(presence, ticket)
        system.make_pipe(self._path)
        try:
            self.descriptor = system.open(self._path, write=False)
            if group is not None:
                system.share(self.descriptor)
        except BaseException:
            with suppress(OSError):
                system.unlink(self._path)
            raise

    def again(self) -> None:
        """Be woken once more: one that was rung says so for ever.

        Raises:
            OSError: that cannot be.
        """
        # Opened before the other is closed: there is always a reader to be rung.
        rung, self.descriptor = self.descriptor, self._system.open(self._path, write=False)
        self._system.close(rung)

    def close(self) -> None:
        """Nobody waits here any more."""
        with suppress(OSError):
            self._system.unlink(self._path)
        _close(self._system, self.descriptor)


def ring(system: System, presence: str, ticket: int) -> bool:
    """Wake who waits at the place *ticket* of *presence*, a path; whether anybody does, as far as can be said."""
    try:
        return system.ring(_wake(presence, ticket))
    except OSError:
        return False


def is_abandoned(system: System, path: str, group: int | None) -> bool:
    """Whether *path* is a pipe of ours that is of no use: a life line without a writer, or a wake without a reader.

    Or it was made just now. Who made it does without if it is gone before it is open, and tries again with the next
    presence or place; meanwhile there is polling. A waiter that is there is woken by this, and looks.
    (test_a_pipe_that_is_removed_before_it_is_open_is_made_again_or_done_without)

    Raises:
        OSError: nobody can tell.
    """
    if not _is_ours(system.stat(path), system.user_id(), group):
        return False
    if not path.endswith(_LIFE_LINE):
        return path.rpartition(".")[2].isdecimal() and not system.ring(path)
    descriptor = system.open(path, write=False)
    try:
        return system.is_deserted(descriptor)
    finally:
        _close(system, descriptor)


def _life_line(presence: str) -> str:
    return f"{presence}{_LIFE_LINE}"


def _wake(presence: str, ticket: int) -> str:
    return f"{presence}.{ticket}"


def _is_ours(status: os.stat_result, user_id: int, group: int | None) -> bool:
    return stat.S_ISFIFO(status.st_mode) and (
        status.st_uid == user_id or (group is not None and status.st_gid == group)
    )


def _close(system: System, descriptor: int) -> None:
    with suppress(OSError):  # Linux has closed it all the same
        system.close(descriptor)
