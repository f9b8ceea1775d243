"""Records that are read in the middle of a write: nobody is told of a loss, or of damage, that is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockFileError, LockLost, LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.replacing import replace_busy
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import RECORD_SIZE, Record, decode
from poslock.lock.status import lock_statuses
from poslock.lock.transitions import Transitions
from systems import Amiss, Clock, elsewhere

if TYPE_CHECKING:
    from conftest import Children

_HOLDERS = 20
_CHECKS = 3000


def share(lock_dir: str, holders: int = _HOLDERS) -> list[PositionLock]:
    """So many who share the lock, each as a process of its own would; their record is longer than one page."""
    locks = [PositionLock("btc-1", lock_dir=elsewhere(lock_dir), shared=True) for _ in range(holders)]
    for lock in locks:
        lock.acquire()
    assert Path(locks[0].path).stat().st_size > RECORD_SIZE
    return locks


class TornReads:
    """A system in which somebody always is in the middle of a write, but while the OS lock is held, if it can be."""

    def __init__(self, *, is_stopped: bool = False) -> None:
        self.locked = False
        self.reads = 0
        self._is_stopped = is_stopped

    def directory(self, path: str) -> LockDirectory:
        calls = {"read": self._read, "try_lock": self._try_lock, "unlock": self._unlock}
        return Clock().directory(path, **calls)

    def _read(self, descriptor: int, size: int, offset: int) -> bytes:
        self.reads += 1
        data = SYSTEM.read(descriptor, size, offset)
        return data if self.locked else data[:200] + b"torn" + data[204:]

    def _try_lock(self, descriptor: int) -> bool:
        self.locked = not self._is_stopped and SYSTEM.try_lock(descriptor)
        return self.locked

    def _unlock(self, descriptor: int) -> None:
        self.locked = False
        SYSTEM.unlock(descriptor)


def test_a_holder_is_not_told_that_it_lost_by_a_torn_read(tmp_path: Path) -> None:
    """What it reads is never whole, until it reads it under the OS lock."""
    lock = PositionLock("btc-1", lock_dir=TornReads().directory(str(tmp_path / "locks")))
    lock.acquire()
    lock.check()


def test_nobody_is_certain_while_a_writer_is_stopped(tmp_path: Path) -> None:
    """The record stays torn and the OS lock taken: the holder is told just that, in time, and has lost nothing."""
    torn = TornReads()
    directory = torn.directory(str(tmp_path / "locks"))
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    began_ns = directory.system.monotonic_ns()
    torn._is_stopped = True
    with pytest.raises(LockFileError, match="in the middle of a write"):
        lock.check()
    assert directory.system.monotonic_ns() - began_ns < 0.5e9
    torn._is_stopped = False
    lock.check()


def test_status_does_not_call_a_record_corrupt_that_is_being_written(tmp_path: Path) -> None:
    """Not while it can be read under the OS lock, nor while nobody can."""
    torn = TornReads()
    directory = torn.directory(str(tmp_path / "locks"))
    PositionLock("btc-1", lock_dir=directory).acquire()
    [status] = lock_statuses(directory)
    assert (status.state, status.position) == ("held", "btc-1")
    torn._is_stopped = True
    [status] = lock_statuses(directory)
    assert (status.state, status.position, status.why) == ("held", None, "somebody is in the middle of a write")


def test_a_damaged_record_is_called_so(lock_dir: str) -> None:
    """Read under the OS lock it is no better: the holder has lost it, and a contender is told why it waits."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    lock.acquire()
    Path(lock.path).write_bytes(b"damaged\n")
    with pytest.raises(LockLost, match="damaged"):
        lock.check()
    with pytest.raises(LockTimeout, match="unreadable"):
        PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0.05).acquire()
    [status] = lock_statuses(elsewhere(lock_dir))
    assert status.state == "corrupt"


def test_a_long_record_is_read_in_one_piece(tmp_path: Path) -> None:
    """Between two calls somebody else could write another one; both pieces would be from a whole record then."""
    reads: list[tuple[int, int]] = []

    def read(descriptor: int, size: int, offset: int) -> bytes:
        reads.append((size, offset))
        return SYSTEM.read(descriptor, size, offset)

    share(str(tmp_path / "locks"))
    Transitions(LockDirectory(str(tmp_path / "locks"), Amiss(read=read)), "btc-1").entry.peek()
    assert [offset for _, offset in reads] == [0] * len(reads)


def test_holders_of_a_long_record_pass_while_others_share_and_release(start: Children, lock_dir: str) -> None:
    """Twenty share it, and two processes join and leave without a pause: no check() of a living holder fails."""
    locks = share(lock_dir)
    children = [start("share_in_a_loop", lock_dir=lock_dir) for _ in range(2)]
    for child in children:
        child.hear()
    for number in range(_CHECKS):
        locks[number % len(locks)].check()
    for child in children:
        child.tell("enough")
        assert child.hear()["rounds"] > 0


def test_a_copy_is_not_made_of_half_a_record(tmp_path: Path) -> None:
    """A writer goes on just when its file is being replaced: what is copied is what it wrote, not the half of it."""
    reads = 0

    def read(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        data = SYSTEM.read(descriptor, size, offset)
        return data if reads > 2 else data[:200] + b"torn" + data[204:]

    directory = LockDirectory(str(tmp_path / "locks"), Amiss(read=read))
    PositionLock("btc-1", lock_dir=str(tmp_path / "locks")).acquire()
    file = Transitions(directory, "btc-1").entry
    stopped = SYSTEM.open(file.path)
    assert SYSTEM.try_lock(stopped)
    replace_busy(directory, file.path)
    SYSTEM.close(stopped)
    assert reads > 2
    assert isinstance(decode(Path(file.path).read_bytes(), "btc-1"), Record)
