"""Lock files that stay open between transitions, because opening one costs more than the transition itself.

A descriptor is in the hands of one thread at a time: the OS lock belongs to what was opened, so two threads with one
descriptor would not exclude each other. While nobody uses it, it is not locked.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from errno import EBADF
from itertools import count
from typing import TYPE_CHECKING

from poslock.errors import LockFileError
from poslock.lock.record import MAX_SIZE, RECORD_SIZE, Content, Record, decode, encode

if TYPE_CHECKING:
    from poslock.lock.system import System

# Few against the usual limit of 1024 descriptors, enough for the positions that one bot works on at a time.
_MOST = 64


class OpenFile:
    """One lock file that this process has open, and what was last seen in it."""

    __slots__ = ("_before", "_content", "_data", "_identity", "_path", "_position_id", "_system", "descriptor")

    def __init__(
        self, system: System, path: str, position_id: str | None, descriptor: int, status: os.stat_result
    ) -> None:
        self.descriptor = descriptor
        self._system = system
        self._path = path
        self._position_id = position_id
        self._identity = (status.st_dev, status.st_ino)
        self._data = b""
        self._content: Content = None
        self._before: bytes | None = None

    def read(self) -> Content:
        """The record."""
        data = read_all(self._system, self.descriptor)
        if data != self._data:
            self._content = decode(data, self._position_id)
            self._data = data
        return self._content

    def write(self, record: Record) -> None:
        """Replace the record that was read.

        Raises:
            LockFileError: too many holders share it to be written down.
        """
        try:
            data = encode(record)
        except ValueError as error:
            raise LockFileError(record.position_id, self._path, str(error), "wait for some to release it") from error
        self._before = self._data
        write_all(data, self._system, self.descriptor)
        self._data, self._content = data, record

    def settle(self) -> None:
        """What was written stays."""
        self._before = None

    def restore(self) -> None:
        """Put back what was replaced and not settled, as far as the system lets us."""
        if self._before is None:
            return
        with suppress(OSError):
            if self._before:
                write_all(self._before, self._system, self.descriptor)
            else:
                self._system.truncate(self.descriptor)

    def is_current(self) -> bool:
        """Whether what is read and written here counts: others lock this very file, and nobody is replacing it."""
        try:
            named = self._system.stat(self._path)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == self._identity and named.st_nlink == 1

    def names(self) -> int | None:
        """How many names the file has; None if somebody closed the descriptor, and perhaps uses its number."""
        try:
            status = self._system.status(self.descriptor)
        except OSError as error:
            return None if error.errno == EBADF else 0
        return status.st_nlink if (status.st_dev, status.st_ino) == self._identity else None

    def unlock(self) -> bool:
        """Drop the OS lock; whether that could be done."""
        try:
            # By word, not only by closing: a child forked in this very moment shares the lock.
            self._system.unlock(self.descriptor)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Drop the OS lock, if it is held, and the descriptor."""
        if self.names() is None:
            return
        self.unlock()
        with suppress(OSError):  # Linux has closed it all the same
            self._system.close(self.descriptor)


_kept: OrderedDict[tuple[int, str], OpenFile] = OrderedDict()


class OpenFiles:
    """The files of one directory that this process keeps open; of all its directories it keeps the latest ones."""

    _numbers = count()

    def __init__(self) -> None:
        self._number = next(self._numbers)

    def has(self, path: str) -> bool:
        """Whether there is a file to take."""
        return (self._number, path) in _kept

    def take(self, path: str) -> OpenFile | None:
        """The file behind *path*, for the caller alone, if it was kept. It may be another one by now."""
        file = _kept.pop((self._number, path), None)
        # Nothing must be written to a file that is not in its place any more, or in two: what acquire writes there,
        # nobody might take back. (test_an_acquire_that_fails_for_a_second_name_leaves_nothing_held)
        if file is None or file.names() == 1:
            return file
        file.close()
        return None

    def keep(self, path: str, file: OpenFile) -> None:
        """Take *file* back, and let go of the one that was not used for the longest time."""
        # One step of the interpreter: of two threads that do this at the same time, one must close its own.
        # (test_two_threads_that_give_back_the_same_file_keep_one)
        if _kept.setdefault((self._number, path), file) is not file:
            file.close()
        elif len(_kept) > _MOST:
            let_go(1)


def let_go(files: int = _MOST) -> bool:
    """Close so many files, those first that were not used for the longest time; whether there were any."""
    had_any = bool(_kept)
    with suppress(KeyError):
        for _ in range(files):
            _kept.popitem(last=False)[1].close()
    return had_any


# They are the parent's: the child has closed its copies, and uses the numbers for something else.
os.register_at_fork(after_in_child=_kept.clear)


def read_all(system: System, descriptor: int) -> bytes:
    """The bytes of a record."""
    data = system.read(descriptor, RECORD_SIZE, 0)
    if len(data) == RECORD_SIZE and b"\n" not in data:  # it is shared by very many
        data += system.read(descriptor, MAX_SIZE - RECORD_SIZE, RECORD_SIZE)
    return data


def write_all(data: bytes, system: System, descriptor: int) -> None:
    """Write *data* from the start of a file on."""
    written = system.write(descriptor, data, 0)
    while written < len(data):  # the kernel says why on the next call
        written += system.write(descriptor, data[written:], written)
