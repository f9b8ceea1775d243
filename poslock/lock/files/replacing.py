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

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from poslock.errors import LockFileError
from poslock.lock.files.lock_file import PLANTED, file_fault, read_all, write_all
from poslock.lock.record import Unreadable, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poslock.lock.files.directory import LockDirectory
    from poslock.lock.files.lock_file import LockFile

# A transition takes microseconds. Being wrong costs a copy, nothing else.
BUSY_NS = 500_000_000
_READS = 5
_TRIES = 3
_PAUSE = 0.001
_FIRST, _SECOND = ".maintenance", ".maintenance-2"


def replace_busy(directory: LockDirectory, file: LockFile) -> None:
    """Put a copy of *file* in its place, if its OS lock still is taken and nobody else is at it.

    Raises:
        OSError: the system refuses; the old file is in its place then.
    """
    with _maintenance(directory, _FIRST, _SECOND) as alone:
        for _ in range(_TRIES):
            if not alone or _is_replaced(directory, file, directory.system.random_name()):
                return


def withdraw_abandoned(directory: LockDirectory, file: LockFile) -> None:
    """Remove what one left behind who died before the file was replaced."""
    with _maintenance(directory, _FIRST) as alone:
        if alone:
            _withdraw_all(file)


def _is_replaced(directory: LockDirectory, file: LockFile, name: str) -> bool:
    """Replace *file* if it is busy; False if another one, who took us for dead, has withdrawn that."""
    system = directory.system
    descriptor = system.create(_new(file, name))
    try:
        if directory.group is not None:
            system.share(descriptor)
        # Not before we have begun ourselves: of two who did that at once neither would see the other, and the copy that
        # is renamed last could be older than what was written since into the other one.
        _withdraw_all(file, but=name)
        if _is_busy(file):
            system.link(file.path, _announcement(file, name))
            write_all(_content(file), system, descriptor)
            system.rename(_new(file, name), file.path)
    except FileNotFoundError:
        return False
    finally:
        system.close(descriptor)
        _withdraw(file, name)
    return True


def _content(file: LockFile) -> bytes:
    with file.opened(write=False) as descriptor:
        data = read_all(file.system, descriptor)
        for _ in range(_READS):
            if not isinstance(decode(data), Unreadable):
                break
            # Somebody who was stopped may have been resumed just now, in the middle of a write.
            # (test_a_copy_is_not_made_of_half_a_record)
            file.system.sleep(_PAUSE)
            data = read_all(file.system, descriptor)
        return data


def _is_busy(file: LockFile) -> bool:
    with file.opened(write=True) as descriptor:
        if not file.system.try_lock(descriptor):
            return True
        file.system.unlock(descriptor)
        return False


def _withdraw_all(file: LockFile, *, but: str = "") -> None:
    for name in file.replacements() - {but}:
        _withdraw(file, name)


def _withdraw(file: LockFile, name: str) -> None:
    # In this order: without its announcement nobody must be able to replace the file.
    for path in (_new(file, name), _announcement(file, name)):
        with suppress(FileNotFoundError):
            file.system.unlink(path)


def _new(file: LockFile, name: str) -> str:
    return f"{file.new_prefix}{name}"


def _announcement(file: LockFile, name: str) -> str:
    return f"{file.announcement_prefix}{name}"


@contextmanager
def _maintenance(directory: LockDirectory, *names: str) -> Iterator[bool]:
    """Whether the first of these maintenance locks that is free was taken."""
    if not names:
        yield False
        return
    system, path = directory.system, f"{directory.path}/{names[0]}"
    directory.look()
    descriptor = system.open(path, create=True)
    try:
        fault = file_fault(system.status(descriptor), system.user_id(), directory.group)
        if fault is not None:
            raise LockFileError("", path, fault, PLANTED)
        if directory.group is not None:
            system.share(descriptor)
        if system.try_lock(descriptor):
            try:
                yield True
            finally:
                system.unlock(descriptor)
            return
    finally:
        system.close(descriptor)
    with _maintenance(directory, *names[1:]) as alone:
        yield alone
