"""A lock file on disk: opened safely, read, and locked for the length of one transition.

A file is *current* while its path leads to it and it has no second name. A second name ``<path>.replaced-X`` announces
that the file is being replaced, see `poslock.lock.replacing`; any other one was planted.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from errno import EISDIR, ELOOP, ENXIO
from typing import TYPE_CHECKING

from poslock.errors import LockFileError
from poslock.lock.record import Content, Record, Unreadable, decode, encode
from poslock.lock.safety import PLANTED, file_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poslock.lock.directory import LockDirectory

SYSTEM_REFUSES = "look at disk space, descriptors and permissions ('df', 'ulimit -n', 'ls -l')"
_NO_PLAIN_FILE = {ELOOP, EISDIR, ENXIO}


class Busy(Exception):  # control flow inside the lock package, never raised out of it
    """The OS lock is taken: somebody else is inside a transition. Or the file is being replaced."""


class LockedFile:
    """A lock file while its OS lock is held."""

    def __init__(self, file: LockFile, descriptor: int, identity: tuple[int, int]) -> None:
        self._file = file
        self._descriptor = descriptor
        self._identity = identity
        self._before = b""

    def read(self) -> Content:
        """The record, which nobody else can change until the OS lock is dropped."""
        content, self._before = self._file.read(self._descriptor)
        return content

    def write(self, record: Record) -> None:
        """Replace the record that was read. If that fails half-way, the old one is put back.

        Raises:
            LockFileError: too many holders share it to be written down.
        """
        try:
            self._file.write(self._descriptor, record)
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put back what was read, as far as the system lets us."""
        with suppress(OSError):
            if self._before:
                self._file.system.write(self._descriptor, self._before)
            else:
                self._file.system.truncate(self._descriptor)

    def is_current(self) -> bool:
        """Whether what was written counts: others lock this very file, and nobody is replacing it."""
        try:
            named = self._file.system.stat(self._file.path)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == self._identity and named.st_nlink == 1


class LockFile:
    """One lock file. Holds no descriptor between calls.

    ``position_id`` is None where the file was found by its name; then its record may be of any position.
    """

    def __init__(self, directory: LockDirectory, path: str, position_id: str | None) -> None:
        self.path = path
        self.new_prefix = f"{path}.new-"
        self.announcement_prefix = f"{path}.replaced-"
        self.position_id = position_id
        self.system = directory.system
        self._directory = directory
        self._last: tuple[bytes, Content] = (b"", None)

    def peek(self) -> Content:
        """What the record says, read without the OS lock. Never act on it: read again under the lock.

        Raises:
            LockFileError: the file cannot be read, or is not one of ours.
        """
        try:
            with self.opened(write=False) as descriptor:
                self._check(descriptor)
                content, _ = self.read(descriptor)
                if isinstance(content, Unreadable):  # a write may have been under way: once more
                    content, _ = self.read(descriptor)
                return content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.failed(error) from error

    @contextmanager
    def locked(self, *, create: bool) -> Iterator[LockedFile]:
        """Hold the OS lock on the file that the path names.

        Raises:
            Busy: another transition is under way, or the file was or is being replaced.
            FileNotFoundError: there is no such file, or with *create* no such directory.
            LockFileError: the file cannot be used, or is not one of ours.
        """
        try:
            with self.opened(create=create, write=True) as descriptor:
                if not self.system.try_lock(descriptor):
                    raise Busy
                try:
                    status = self._check(descriptor)
                    file = LockedFile(self, descriptor, (status.st_dev, status.st_ino))
                    # Opened, then somebody removed or replaced the file, then locked: a lock on a file nobody else
                    # opens. (test_a_file_replaced_before_it_was_locked_is_not_used)
                    if not file.is_current():
                        raise Busy
                    yield file
                finally:
                    # By word, not only by closing: a child forked in this very moment shares the description. If the
                    # word fails, closing has to do; what was done under the lock is done.
                    with suppress(OSError):
                        self.system.unlock(descriptor)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise self.failed(error) from error

    @contextmanager
    def opened(self, *, write: bool, create: bool = False) -> Iterator[int]:
        """The file, open for as long as that takes; not yet checked."""
        descriptor = self.system.open(self.path, create=create, write=write)
        try:
            if create and self._directory.group is not None:
                self.system.share(descriptor)
            yield descriptor
        finally:
            with suppress(OSError):  # Linux has closed it all the same
                self.system.close(descriptor)

    def read(self, descriptor: int) -> tuple[Content, bytes]:
        """The record behind an open *descriptor*, and its bytes."""
        data = self.system.read(descriptor)
        last, content = self._last
        if data != last:
            content = decode(data, self.position_id)
            self._last = (data, content)
        return content, data

    def write(self, descriptor: int, record: Record) -> None:
        """Replace the record behind an open *descriptor*."""
        try:
            data = encode(record)
        except ValueError as error:
            raise LockFileError(self.position_id or "", self.path, str(error), "wait for some to release it") from error
        self.system.write(descriptor, data)
        self._last = (data, record)

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

    def _check(self, descriptor: int) -> os.stat_result:
        status = self.system.stat(descriptor)
        if status.st_nlink > 1 and not self.is_being_replaced(status):
            # Announced when we looked at the file, and withdrawn when we looked for the announcement?
            # (test_an_announcement_that_ends_under_our_eyes)
            status = self.system.stat(descriptor)
        names = status.st_nlink if status.st_nlink > 1 and self.is_being_replaced(status) else 1
        fault = file_fault(status, self.system.user_id(), self._directory.group, names=names)
        if fault is not None:
            raise LockFileError(self.position_id or "", self.path, fault, PLANTED)
        return status
