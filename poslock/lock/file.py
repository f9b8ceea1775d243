"""A lock file on disk: opened safely, read, and locked for the length of one transition."""

from __future__ import annotations

import stat
from contextlib import contextmanager
from errno import EISDIR, ELOOP, ENXIO
from typing import TYPE_CHECKING

from poslock.errors import LockFileError
from poslock.lock.record import Content, Record, Unreadable, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poslock.lock.directory import LockDirectory

_PLANTED = "poslock did not make it: look at it, and put it elsewhere"
_SYSTEM = "look at disk space, descriptors and permissions ('df', 'ulimit -n', 'ls -l')"
_NO_PLAIN_FILE = {ELOOP, EISDIR, ENXIO}


class Busy(Exception):  # control flow inside the lock package, never raised out of it
    """The OS lock is taken: somebody else is inside a transition."""


class LockedFile:
    """A lock file while its OS lock is held."""

    def __init__(self, file: LockFile, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor

    def read(self) -> Content:
        """The record, which nobody else can change until the OS lock is dropped."""
        return self._file.read(self._descriptor)

    def write(self, record: Record) -> None:
        """Replace the record."""
        self._file.system.write(self._descriptor, encode(record))

    def is_current(self) -> bool:
        """Whether the path still names this file; if not, others lock another one."""
        return self._file.path_names(self._descriptor)


class LockFile:
    """One lock file. Holds no descriptor between calls.

    ``position_id`` is None where the file was found by its name; then its record may be of any position.
    """

    def __init__(self, directory: LockDirectory, path: str, position_id: str | None) -> None:
        self.path = path
        self.position_id = position_id
        self.system = directory.system

    def peek(self) -> Content:
        """What the record says, read without the OS lock. Never act on it: read again under the lock.

        Raises:
            LockFileError: the file cannot be read, or is not one of ours.
        """
        try:
            with self._open(create=False) as descriptor:
                content = self.read(descriptor)
                if isinstance(content, Unreadable):  # a write may have been under way: once more
                    content = self.read(descriptor)
                return content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(error) from error

    @contextmanager
    def locked(self, *, create: bool) -> Iterator[LockedFile]:
        """Hold the OS lock on the file that the path names.

        Raises:
            Busy: another transition is under way, or the file was replaced meanwhile.
            FileNotFoundError: there is no such file, and *create* was not asked for.
            LockFileError: the file cannot be used, or is not one of ours.
        """
        try:
            with self._open(create=create) as descriptor:
                if not self.system.try_lock(descriptor):
                    raise Busy
                try:
                    # Opened, then somebody removed or replaced the file, then locked: a lock on a file nobody else
                    # opens. (test_a_file_replaced_before_it_was_locked_is_not_used)
                    if not self.path_names(descriptor):
                        raise Busy
                    yield LockedFile(self, descriptor)
                finally:
                    # By word, not only by closing: a child forked in this very moment shares the description.
                    self.system.unlock(descriptor)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not create:
                raise
            raise self._failed(error) from error

    @contextmanager
    def _open(self, *, create: bool) -> Iterator[int]:
        descriptor = self.system.open(self.path, create=create)
        try:
            self._check(descriptor)
            yield descriptor
        finally:
            self.system.close(descriptor)

    def read(self, descriptor: int) -> Content:
        """The record behind an open *descriptor*."""
        return decode(self.system.read(descriptor), self.position_id)

    def path_names(self, descriptor: int) -> bool:
        """Whether the path still leads to the file behind *descriptor*."""
        try:
            named = self.system.stat(self.path)
        except FileNotFoundError:
            return False
        opened = self.system.stat(descriptor)
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

    def _failed(self, error: OSError) -> LockFileError:
        path = error.filename if isinstance(error.filename, str) else self.path
        way_out = _PLANTED if error.errno in _NO_PLAIN_FILE else _SYSTEM
        return LockFileError(self.position_id or "", path, f"cannot be used: {error.strerror or error}", way_out)

    def _check(self, descriptor: int) -> None:
        status = self.system.stat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            why = "is no regular file"
        elif status.st_nlink > 1:
            why = "has a second name (hard link)"
        elif status.st_uid != self.system.user_id():
            why = f"belongs to user {status.st_uid}"
        else:
            return
        raise LockFileError(self.position_id or "", self.path, why, _PLANTED)
