"""Replacing a lock file whose OS lock is held by a stopped process.

A process that is stopped inside a transition holds the file's OS lock for as long as it is stopped, and nobody can take
that away. So the file itself is replaced by a copy of itself, which is not locked. S is stopped, R replaces, T does a
transition just then.

1. R has found the file busy for `BUSY_NS`.
2. R takes the maintenance lock, makes an empty file ``<path>.new-X``, and withdraws what others have begun.
3. R announces itself by giving the lock file a second name, ``<path>.replaced-X``.
4. R copies what the lock file says now into the new file, and puts that in the lock file's place.
5. R removes the second name.

Every transition ends with a look at the names of the file that it wrote, and starts over if the path leads elsewhere or
there is a second name. If T looked before the announcement, what it wrote is in R's copy; if it looks later, it starts
over, on the copy. So does S when it is resumed. No clock is needed for that to be true, only for patience.

If R dies, the next one to find a second name and the maintenance lock free withdraws what R began. If R is stopped,
the next one takes the second maintenance lock and withdraws it too: first the new file, so that R, resumed, has nothing
left to put in the lock file's place, then the second name.
(test_a_process_stopped_inside_a_transition_delays_nobody, test_whoever_stops_while_replacing_delays_nobody)

So two may be at it at once. Each begins its own before it withdraws the others', and makes its copy after that. Of two
at least one sees the other's new file: either that is in the lock file's place by then, and so it is what is copied; or
it never will be. No copy is put in the place of a newer file, however many replace it and wherever they stop.
(test_a_copy_older_than_the_file_is_never_put_in_its_place)
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from poslock.errors import LockFileError
from poslock.lock.files.safety import PLANTED, file_fault
from poslock.lock.files.system import write_all
from poslock.lock.record import MAX_SIZE, Unreadable, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poslock.lock.files.system import System

_READS = 5
_TRIES = 3
_PAUSE = 0.001
_FIRST, _SECOND = ".maintenance", ".maintenance-2"


class Folder(Protocol):
    """The directory that a file is in; ``group`` is who shares it, if any."""

    path: str
    system: System
    group: int | None

    def look(self) -> None:
        """See that nothing is opened in a directory that somebody has put in its place."""


@contextmanager
def opened(folder: Folder, path: str, *, write: bool) -> Iterator[int]:
    """The file at *path*, open for as long as that takes; nobody has looked yet whether it is one of ours."""
    folder.look()
    descriptor = folder.system.open(path, write=write)
    try:
        yield descriptor
    finally:
        with suppress(OSError):  # Linux has closed it all the same
            folder.system.close(descriptor)


def is_announced(folder: Folder, path: str, status: os.stat_result) -> bool:
    """Whether the second name of a file is the announcement that it is being replaced."""
    for name in _begun(folder, path):
        with suppress(FileNotFoundError):
            second = folder.system.stat(_announcement(path, name))
            if (second.st_dev, second.st_ino) == (status.st_dev, status.st_ino):
                return True
    return False


def replace_busy(folder: Folder, path: str) -> None:
    """Put a copy of a file in its place, if its OS lock still is taken and nobody else is at it.

    Raises:
        OSError: the system refuses; the old file is in its place then.
    """
    with _maintenance(folder, _FIRST, _SECOND) as alone:
        for _ in range(_TRIES):
            if not alone or _is_replaced(folder, path, folder.system.random_name()):
                return


def withdraw_abandoned(folder: Folder, path: str) -> None:
    """Remove what one left behind who died before the file was replaced."""
    with _maintenance(folder, _FIRST) as alone:
        if alone:
            _withdraw_all(folder, path)


def _is_replaced(folder: Folder, path: str, name: str) -> bool:
    """Replace the file if it is busy; False if another one, who took us for dead, has withdrawn that."""
    system = folder.system
    descriptor = system.create(_new(path, name))
    try:
        if folder.group is not None:
            system.share(descriptor)
        # Not before we have begun ourselves: of two who did that at once neither would see the other, and the copy that
        # is renamed last could be older than what was written since into the other one.
        _withdraw_all(folder, path, but=name)
        if _is_busy(folder, path):
            system.link(path, _announcement(path, name))
            write_all(_content(folder, path), system, descriptor)
            system.rename(_new(path, name), path)
    except FileNotFoundError:
        return False
    finally:
        system.close(descriptor)
        _withdraw(system, path, name)
    return True


def _content(folder: Folder, path: str) -> bytes:
    with opened(folder, path, write=False) as descriptor:
        data = folder.system.read(descriptor, MAX_SIZE, 0)
        for _ in range(_READS):
            if not isinstance(decode(data), Unreadable):
                break
            # Somebody who was stopped may have been resumed just now, in the middle of a write.
            # (test_a_copy_is_not_made_of_half_a_record)
            folder.system.sleep(_PAUSE)
            data = folder.system.read(descriptor, MAX_SIZE, 0)
        return data


def _is_busy(folder: Folder, path: str) -> bool:
    with opened(folder, path, write=True) as descriptor:
        if not folder.system.try_lock(descriptor):
            return True
        folder.system.unlock(descriptor)
        return False


def _withdraw_all(folder: Folder, path: str, *, but: str = "") -> None:
    for name in _begun(folder, path) - {but}:
        _withdraw(folder.system, path, name)


def _withdraw(system: System, path: str, name: str) -> None:
    # In this order: without its announcement nobody must be able to replace the file.
    for each in (_new(path, name), _announcement(path, name)):
        with suppress(FileNotFoundError):
            system.unlink(each)


def _begun(folder: Folder, path: str) -> set[str]:
    """The names under which replacements of a file were begun."""
    prefixes = [os.path.basename(each) for each in (_new(path, ""), _announcement(path, ""))]
    names = list(folder.system.listing(folder.path))
    return {name.removeprefix(prefix) for prefix in prefixes for name in names if name.startswith(prefix)}


def _new(path: str, name: str) -> str:
    """What is to replace the file."""
    return f"{path}.new-{name}"


def _announcement(path: str, name: str) -> str:
    """The second name of the file that says so."""
    return f"{path}.replaced-{name}"


@contextmanager
def _maintenance(folder: Folder, *names: str) -> Iterator[bool]:
    """Whether the first of these maintenance locks that is free was taken."""
    if not names:
        yield False
        return
    system, path = folder.system, f"{folder.path}/{names[0]}"
    folder.look()
    descriptor = system.open(path, create=True)
    try:
        fault = file_fault(system.status(descriptor), system.user_id(), folder.group)
        if fault is not None:
            raise LockFileError("", path, fault, PLANTED)
        if folder.group is not None:
            system.share(descriptor)
        if system.try_lock(descriptor):
            try:
                yield True
            finally:
                system.unlock(descriptor)
            return
    finally:
        system.close(descriptor)
    with _maintenance(folder, *names[1:]) as alone:
        yield alone
