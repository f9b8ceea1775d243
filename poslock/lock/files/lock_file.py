"""A lock file on disk: opened safely, read, and changed under its OS lock.

A file is *current* while its path leads to it and it has no second name. A second name ``<path>.replaced-X`` announces
that the file is being replaced, see `poslock.lock.files.replacing`; any other one was planted.

Files stay open between transitions, because opening one costs more than the transition itself. A descriptor is in the
hands of one thread at a time: the OS lock belongs to what was opened, so two threads with one descriptor would not
exclude each other. While nobody uses it, it is not locked.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from errno import EBADF, EISDIR, ELOOP, ENXIO
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar

from poslock.errors import LockFileError, PoslockError
from poslock.lock.files.replacing import Folder, is_announced, opened, replace_busy, withdraw_abandoned
from poslock.lock.files.safety import PLANTED, file_fault
from poslock.lock.files.system import on_exhaustion, write_all
from poslock.lock.record import MAX_SIZE, RECORD_SIZE, Content, Record, Unreadable, Waiting, decode, encode, ends_ns
from poslock.lock.store import BUSY_NS, Busy, Gone, Uncertain
from poslock.lock.verdict import wake_next

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poslock.lock.files.system import System

T = TypeVar("T")

SYSTEM_REFUSES = "look at disk space, descriptors and permissions ('df', 'ulimit -n', 'ls -l')"
_LOOKS = 2
# For how long a record that cannot be read is read again before it counts as one, and how often.
_UNCERTAIN_NS = 250_000_000
_PAUSE = 0.001
# Open files, few against the usual limit of 1024 descriptors, enough for the positions that one bot works on at a time.
_MOST = 64
_NO_PLAIN_FILE = {ELOOP, EISDIR, ENXIO}


class Directory(Folder, Protocol):
    """What a lock file asks of the directory that it is in."""

    open_files: OpenFiles

    def ring(self, place: Waiting) -> bool:
        """Wake the one who waits at *place*; whether anybody does."""


class LockFile:
    """One lock file.

    ``position_id`` is None where the file was found by its name; then its record may be of any position.
    """

    def __init__(self, directory: Directory, path: str, position_id: str | None) -> None:
        self.path = path
        self.position_id = position_id
        self.system = directory.system
        self._directory = directory
        self._open_files = directory.open_files
        self._busy: tuple[int, int] | None = None  # since when nobody could carry out anything, and when it was tried

    def peek(self) -> Content:
        """What the record says, read without the OS lock. Never act on it: read again under the lock.

        Only what has its checksum counts. Anything else may be half of what somebody is writing, so it is read again,
        and under the OS lock; it is `Unreadable.being_written` if nobody gets that for a quarter of a second.

        Raises:
            LockFileError: the file cannot be read, or is not one of ours.
        """
        try:
            content = self._glanced()
            return content if not isinstance(content, Unreadable) else self._certain(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.failed(error) from error

    def change(self, transition: Callable[[OpenFile], T], *, create: bool = False, look_first: bool = False) -> T:
        """The result of *transition*, carried out under the OS lock on the file that the path names.

        Nothing that it read or wrote counts unless the path still leads to the file afterwards. With *look_first*
        nothing is read or written unless it does so before, too. If anything fails, the old record is put back.

        Raises:
            Busy: another transition is under way; nothing was done. Or, `Uncertain`, the file is another one by now.
            Gone: there is no such file, or with *create* no such directory.
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
            finally:
                # Not before the OS lock is dropped: it would be in the way. What was written may not count; then
                # somebody wakes for nothing.
                if file.woken is not None:
                    self._wake(file)
        except FileNotFoundError:
            raise Gone from None
        except OSError as error:
            raise self.failed(error) from error
        self._busy = None
        if unlocked:
            self._open_files.keep(self.path, file)
        else:  # closing has to do; what was done under the lock is done
            file.close()
        return result

    def unblock(self) -> None:
        """After a `Busy`: withdraw what one left behind who died while it replaced the file; replace a busy one.

        Raises:
            LockFileError: the system refuses.
        """
        try:
            if self.system.stat(self.path).st_nlink > 1:
                withdraw_abandoned(self._directory, self.path)
            now_ns = self.system.monotonic_ns()
            since_ns, tried_ns = self._busy or (now_ns, now_ns)
            if now_ns - tried_ns >= 2 * BUSY_NS:  # nobody knows what it was in between
                since_ns = now_ns
            self._busy = since_ns, now_ns
            if now_ns - since_ns >= BUSY_NS:
                self._busy = None
                replace_busy(self._directory, self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.failed(error) from error

    def _wake(self, file: OpenFile) -> None:
        woken, file.woken = file.woken, None
        if woken is not None:
            every, next_of = woken
            for each in every:
                self._directory.ring(each)
            if next_of:
                wake_next(next_of, self._directory.ring)

    def _carried_out(self, transition: Callable[[OpenFile], T], file: OpenFile, *, look_first: bool) -> T:
        if not self.system.try_lock(file.descriptor):
            raise Busy
        # The file was removed or replaced after we had opened it, or while we were stopped: nobody else opens it.
        # (test_a_grant_on_a_removed_file_is_no_grant, test_a_file_replaced_before_it_was_locked_is_not_used)
        if look_first and not file.is_current():
            raise Uncertain
        result = transition(file)
        if not file.is_current():
            raise Uncertain
        file.settle()
        return result

    def _undo(self, error: BaseException, file: OpenFile) -> None:
        """Leave a transition that ended with *error*."""
        try:
            # Nobody is told that it lost the lock, or that it must wait, because of a file that does not count.
            if isinstance(error, PoslockError) and not file.is_current():
                raise Uncertain from None
        finally:
            # The caller will not learn of what was written: nobody could give back a grant before its lease runs out.
            if not isinstance(error, Uncertain):
                file.restore()
            file.close()

    def _glanced(self) -> Content:
        """What the file says, read once, as somebody may be writing it."""
        kept = None if self.position_id is None else self._open_files.take(self.path)
        content, counts = (None, False) if kept is None else self._seen_in(kept)
        if counts:
            return content
        with opened(self._directory, self.path, write=False) as descriptor:
            return self._checked(descriptor).read()

    def _certain(self, content: Content) -> Content:
        """What the file says, where a glance showed only *content*."""
        until_ns = self.system.monotonic_ns() + _UNCERTAIN_NS
        while isinstance(content, Unreadable):
            with suppress(Busy):
                return self._read_under_lock()
            if self.system.monotonic_ns() >= until_ns:
                return replace(content, why="somebody is in the middle of a write", being_written=True)
            self.system.sleep(_PAUSE)
            content = self._glanced()
        return content

    def _read_under_lock(self) -> Content:
        with opened(self._directory, self.path, write=False) as descriptor:
            file = self._checked(descriptor)
            if not self.system.try_lock(descriptor):
                raise Busy
            try:
                content = file.read()
                if not file.is_current():
                    raise Uncertain
            finally:
                file.unlock()
            return content

    def _seen_in(self, file: OpenFile) -> tuple[Content, bool]:
        """What *file* says, as we left it open, and whether that counts."""
        counts = False
        try:
            counts = file.is_current()
            return file.read(), counts
        finally:
            if counts:
                self._open_files.keep(self.path, file)
            else:
                file.close()

    def _opened(self, *, create: bool) -> OpenFile:
        self._directory.look()
        descriptor = self.system.open(self.path, create=create)
        try:
            if create and self._directory.group is not None:
                self.system.share(descriptor)
            return self._checked(descriptor)
        except BaseException:
            with suppress(OSError):
                self.system.close(descriptor)
            raise

    def failed(self, error: OSError) -> LockFileError:
        """*error* with the name of the file and a way out."""
        path = error.filename if isinstance(error.filename, str) else self.path
        way_out = PLANTED if error.errno in _NO_PLAIN_FILE else SYSTEM_REFUSES
        return LockFileError(self.position_id or "", path, f"cannot be used: {error.strerror or error}", way_out)

    def _checked(self, descriptor: int) -> OpenFile:
        """The file behind *descriptor*, if it is one of ours."""
        status = self.system.status(descriptor)
        replaced = status.st_nlink > 1 and is_announced(self._directory, self.path, status)
        for _ in range(_LOOKS):
            if replaced or status.st_nlink == 1:
                break
            # Announced when we looked at the file, and withdrawn when we looked for the announcement?
            # (test_an_announcement_that_ends_under_our_eyes)
            status = self.system.status(descriptor)
            replaced = status.st_nlink > 1 and is_announced(self._directory, self.path, status)
        names = status.st_nlink if replaced else 1
        fault = file_fault(status, self.system.user_id(), self._directory.group, names=names)
        if fault is not None:
            raise LockFileError(self.position_id or "", self.path, fault, PLANTED)
        return OpenFile(self.system, self.path, self.position_id, descriptor, status)


class OpenFile:
    """One lock file that this process has open, and what was last seen in it."""

    # fmt: off
    __slots__ = (
        "_before", "_content", "_data", "_device", "_inode", "_path", "_position_id", "_system", "descriptor", "now_ns",
        "woken",
    )
    # fmt: on
    ends_ns = staticmethod(ends_ns)  # the clock of the record is the holder's own

    def __init__(
        self, system: System, path: str, position_id: str | None, descriptor: int, status: os.stat_result
    ) -> None:
        self.descriptor = descriptor
        self._system = system
        self._path = path
        self._position_id = position_id
        self._device, self._inode = status.st_dev, status.st_ino
        self._data = b""
        self._content: Content = None
        self._before: bytes | None = None
        self.now_ns = system.monotonic_ns
        self.woken: tuple[Sequence[Waiting], tuple[Waiting, ...]] | None = None

    def read(self) -> Content:
        """The record."""
        data = _read_all(self._system, self.descriptor)
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
        if self._system.write(self.descriptor, data, 0) < len(data):
            write_all(data, self._system, self.descriptor)  # the kernel says why on the next call
        self._data, self._content = data, record

    def wake(self, waiting: Sequence[Waiting], next_of: tuple[Waiting, ...] = ()) -> None:
        """Wake all of *waiting*, and of *next_of* those whose turn it is, once the OS lock is dropped."""
        self.woken = waiting, next_of

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
        return named.st_ino == self._inode and named.st_dev == self._device and named.st_nlink == 1

    def names(self) -> int | None:
        """How many names the file has; None if somebody closed the descriptor, and perhaps uses its number."""
        try:
            status = self._system.status(self.descriptor)
        except OSError as error:
            return None if error.errno == EBADF else 0
        return status.st_nlink if status.st_ino == self._inode and status.st_dev == self._device else None

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


def let_go(files: int = _MOST) -> None:
    """Close so many files, those first that were not used for the longest time."""
    with suppress(KeyError):
        for _ in range(files):
            _kept.popitem(last=False)[1].close()


on_exhaustion.append(let_go)
# They are the parent's: the child has closed its copies, and uses the numbers for something else.
os.register_at_fork(after_in_child=_kept.clear)


def _read_all(system: System, descriptor: int) -> bytes:
    """The bytes of a record."""
    data = system.read(descriptor, RECORD_SIZE, 0)
    if len(data) == RECORD_SIZE and b"\n" not in data:
        # It is shared by very many. From the start: what was read may be of another record than what follows now.
        # (test_a_long_record_is_read_in_one_piece)
        data = system.read(descriptor, MAX_SIZE, 0)
    return data
