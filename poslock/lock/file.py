"""A lock file on disk: opened safely, read, and changed under its OS lock.

A file is *current* while its path leads to it and it has no second name. A second name ``<path>.replaced-X`` announces
that the file is being replaced, see `poslock.lock.replacing`; any other one was planted.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from errno import EISDIR, ELOOP, EMFILE, ENFILE, ENXIO
from typing import TYPE_CHECKING, TypeVar

from poslock.errors import LockFileError, PoslockError
from poslock.lock.open_file import OpenFile, let_go
from poslock.lock.record import Content, Unreadable
from poslock.lock.safety import PLANTED, file_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from poslock.lock.directory import LockDirectory

T = TypeVar("T")

SYSTEM_REFUSES = "look at disk space, descriptors and permissions ('df', 'ulimit -n', 'ls -l')"
_LOOKS = 2
_NO_PLAIN_FILE = {ELOOP, EISDIR, ENXIO}


class Busy(Exception):  # control flow inside the lock package, never raised out of it
    """The OS lock is taken: somebody else is inside a transition."""


class Replaced(Busy):
    """The file was or is being replaced. What was written may be in the copy, or not."""


class LockFile:
    """One lock file.

    ``position_id`` is None where the file was found by its name; then its record may be of any position.
    """

    def __init__(self, directory: LockDirectory, path: str, position_id: str | None) -> None:
        self.path = path
        self.position_id = position_id
        self.system = directory.system
        self._directory = directory
        self._open_files = directory.open_files

    @property
    def new_prefix(self) -> str:
        """How the names begin of what is to replace this file."""
        return f"{self.path}.new-"

    @property
    def announcement_prefix(self) -> str:
        """How the second names begin that announce it."""
        return f"{self.path}.replaced-"

    def peek(self) -> Content:
        """What the record says, read without the OS lock. Never act on it: read again under the lock.

        Raises:
            LockFileError: the file cannot be read, or is not one of ours.
        """
        try:
            kept = None if self.position_id is None else self._open_files.take(self.path)
            content, counts = (None, False) if kept is None else self._seen_in(kept)
            if counts:
                return content
            with self.opened(write=False) as descriptor:
                return _seen(self._checked(descriptor))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.failed(error) from error

    def change(self, transition: Callable[[OpenFile], T], *, create: bool = False, look_first: bool = False) -> T:
        """The result of *transition*, carried out under the OS lock on the file that the path names.

        Nothing that it read or wrote counts unless the path still leads to the file afterwards. With *look_first*
        nothing is read or written unless it does so before, too. If anything fails, the old record is put back.

        Raises:
            Busy: another transition is under way; nothing was done. Or, `Replaced`, the file is another one by now.
            FileNotFoundError: there is no such file, or with *create* no such directory.
            LockFileError: the file cannot be used, or is not one of ours.
        """
        try:
            file = self._open_files.take(self.path) or self._opened(create=create)
            try:
                result = self._carried_out(transition, file, look_first=look_first)
                unlocked = file.unlock()
            except BaseException as error:
                self._undo(error, file)
                raise
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.failed(error) from error
        if unlocked:
            self._open_files.keep(self.path, file)
        else:  # closing has to do; what was done under the lock is done
            file.close()
        return result

    def _carried_out(self, transition: Callable[[OpenFile], T], file: OpenFile, *, look_first: bool) -> T:
        if not self.system.try_lock(file.descriptor):
            raise Busy
        # The file was removed or replaced after we had opened it, or while we were stopped: nobody else opens it.
        # (test_a_grant_on_a_removed_file_is_no_grant, test_a_file_replaced_before_it_was_locked_is_not_used)
        if look_first and not file.is_current():
            raise Replaced
        result = transition(file)
        if not file.is_current():
            raise Replaced
        file.settle()
        return result

    def _undo(self, error: BaseException, file: OpenFile) -> None:
        """Leave a transition that ended with *error*."""
        try:
            # Nobody is told that it lost the lock, or that it must wait, because of a file that does not count.
            if isinstance(error, PoslockError) and not file.is_current():
                raise Replaced from None
        finally:
            # The caller will not learn of what was written: nobody could give back a grant before its lease runs out.
            if not isinstance(error, Replaced):
                file.restore()
            file.close()

    def _seen_in(self, file: OpenFile) -> tuple[Content, bool]:
        """What *file* says, as we left it open, and whether that counts."""
        counts = False
        try:
            counts = file.is_current()
            return _seen(file), counts
        finally:
            if counts:
                self._open_files.keep(self.path, file)
            else:
                file.close()

    def _opened(self, *, create: bool) -> OpenFile:
        try:
            descriptor = self.system.open(self.path, create=create)
        except OSError as error:
            # Others of this process must not run out of descriptors because of those that we only keep.
            if error.errno not in {EMFILE, ENFILE} or not let_go():
                raise
            descriptor = self.system.open(self.path, create=create)
        try:
            if create and self._directory.group is not None:
                self.system.share(descriptor)
            return self._checked(descriptor)
        except BaseException:
            with suppress(OSError):
                self.system.close(descriptor)
            raise

    @contextmanager
    def opened(self, *, write: bool) -> Iterator[int]:
        """The file, open for as long as that takes; not yet checked."""
        descriptor = self.system.open(self.path, write=write)
        try:
            yield descriptor
        finally:
            with suppress(OSError):  # Linux has closed it all the same
                self.system.close(descriptor)

    def replacements(self) -> set[str]:
        """The names under which replacements of this file were begun."""
        folder = os.path.dirname(self.path)
        prefixes = [os.path.basename(prefix) for prefix in (self.new_prefix, self.announcement_prefix)]
        names = list(self.system.listing(folder))
        return {name.removeprefix(prefix) for prefix in prefixes for name in names if name.startswith(prefix)}

    def is_being_replaced(self, status: os.stat_result) -> bool:
        """Whether a file's second name is the announcement that it is being replaced."""
        for name in self.replacements():
            with suppress(FileNotFoundError):
                second = self.system.stat(f"{self.announcement_prefix}{name}")
                if (second.st_dev, second.st_ino) == (status.st_dev, status.st_ino):
                    return True
        return False

    def failed(self, error: OSError) -> LockFileError:
        """*error* with the name of the file and a way out."""
        path = error.filename if isinstance(error.filename, str) else self.path
        way_out = PLANTED if error.errno in _NO_PLAIN_FILE else SYSTEM_REFUSES
        return LockFileError(self.position_id or "", path, f"cannot be used: {error.strerror or error}", way_out)

    def _checked(self, descriptor: int) -> OpenFile:
        """The file behind *descriptor*, if it is one of ours."""
        status = self.system.status(descriptor)
        replaced = status.st_nlink > 1 and self.is_being_replaced(status)
        for _ in range(_LOOKS):
            if replaced or status.st_nlink == 1:
                break
            # Announced when we looked at the file, and withdrawn when we looked for the announcement?
            # (test_an_announcement_that_ends_under_our_eyes)
            status = self.system.status(descriptor)
            replaced = status.st_nlink > 1 and self.is_being_replaced(status)
        names = status.st_nlink if replaced else 1
        fault = file_fault(status, self.system.user_id(), self._directory.group, names=names)
        if fault is not None:
            raise LockFileError(self.position_id or "", self.path, fault, PLANTED)
        return OpenFile(self.system, self.path, self.position_id, descriptor, status)


def _seen(file: OpenFile) -> Content:
    content = file.read()
    if isinstance(content, Unreadable):  # a write may have been under way: once more
        content = file.read()
    return content
