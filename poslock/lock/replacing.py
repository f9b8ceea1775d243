"""Replacing a lock file whose OS lock is held by a stopped process.

A process that is stopped inside a transition holds the file's OS lock for as long as it is stopped, and nobody can take
that away. So the file itself is replaced by a copy of itself, which is not locked. S is stopped, R replaces, T does a
transition just then.

1. R has found the file busy for `BUSY_NS`.
2. R takes the maintenance lock, so that there is one R, and announces itself by giving the file a second name.
3. R copies what the file says now, and puts the copy in the file's place.
4. R removes the second name.

Every transition ends with a look at the names of the file that it wrote, and starts over if the path leads elsewhere or
there is a second name. If T looked before the announcement, what it wrote is in R's copy; if it looks later, it starts
over, on the copy. So does S when it is resumed. No clock is needed for that to be true, only for patience.

If R dies after step 2, the next one to find a second name and the maintenance lock free removes that name.
(test_a_process_stopped_inside_a_transition_delays_nobody)
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from poslock.errors import LockFileError
from poslock.lock.safety import PLANTED, file_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poslock.lock.directory import LockDirectory
    from poslock.lock.file import LockFile

# A transition takes microseconds. Being wrong costs a copy, nothing else.
BUSY_NS = 500_000_000


def replace_busy(directory: LockDirectory, file: LockFile) -> None:
    """Put a copy of *file* in its place, if its OS lock still is taken and nobody else is at it.

    Raises:
        OSError: the system refuses; the old file is in its place then.
    """
    system = directory.system
    with _maintenance(directory) as alone:
        if not alone or not _is_busy(file):
            return
        _withdraw(file)  # the announcement of one who died
        system.link(file.path, file.replaced_path)
        try:
            _copy(file, f"{file.path}.new", shared=directory.group is not None)
            system.rename(f"{file.path}.new", file.path)
        finally:
            _withdraw(file)


def withdraw_abandoned(directory: LockDirectory, file: LockFile) -> None:
    """Remove the announcement of one who died before the file was replaced."""
    with _maintenance(directory) as alone:
        if alone:
            _withdraw(file)


def _is_busy(file: LockFile) -> bool:
    with file.opened(write=True) as descriptor:
        if not file.system.try_lock(descriptor):
            return True
        file.system.unlock(descriptor)
        return False


def _copy(file: LockFile, target: str, *, shared: bool) -> None:
    with file.opened(write=False) as descriptor:
        data = file.system.read(descriptor)
    with suppress(FileNotFoundError):
        file.system.unlink(target)
    descriptor = file.system.create(target)
    try:
        file.system.write(descriptor, data)
        if shared:
            file.system.share(descriptor)
    finally:
        file.system.close(descriptor)


def _withdraw(file: LockFile) -> None:
    with suppress(FileNotFoundError):
        file.system.unlink(file.replaced_path)


@contextmanager
def _maintenance(directory: LockDirectory) -> Iterator[bool]:
    """The directory-wide maintenance lock, if nobody has it."""
    system = directory.system
    path = f"{directory.path}/.maintenance"
    descriptor = system.open(path, create=True)
    try:
        fault = file_fault(system.stat(descriptor), system.user_id(), directory.group)
        if fault is not None:
            raise LockFileError("", path, fault, PLANTED)
        if directory.group is not None:
            system.share(descriptor)
        alone = system.try_lock(descriptor)
        try:
            yield alone
        finally:
            if alone:
                system.unlock(descriptor)
    finally:
        system.close(descriptor)
