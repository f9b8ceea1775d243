"""Leases kept alive in the background, and only for so long."""

from __future__ import annotations

import threading
import time
from errno import EMFILE
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockLost, LockTimeout, PositionLock
from poslock.lock.files.system import SYSTEM
from systems import Amiss, elsewhere

if TYPE_CHECKING:
    from pathlib import Path


def keepers() -> int:
    return sum(thread.name.startswith("poslock keep-alive") for thread in threading.enumerate())


def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_kept_lease_outlives_its_length_and_ends_at_the_bound(tmp_path: Path) -> None:
    """0.5 s of lease kept for 1.5 s: held after a second, lost after two and a half, for who hangs must lose it."""
    lock = PositionLock("btc-1", lock_dir=tmp_path / "locks", stale_after=0.5, keep_alive=1.5)
    lock.acquire()
    began = time.monotonic()
    rival = PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"), timeout=10)
    with pytest.raises(LockTimeout):
        rival.acquire(timeout=1)
    lock.check()
    rival.acquire()
    assert 1.5 <= time.monotonic() - began < 4
    with pytest.raises(LockLost):
        lock.check()


def test_release_ends_the_keeping(tmp_path: Path) -> None:
    """No thread stays behind, and the next hold of the same object is not renewed by the last one's."""
    before = keepers()
    lock = PositionLock("btc-1", lock_dir=tmp_path / "locks", stale_after=0.6, keep_alive=60)
    for _ in range(3):
        with lock:
            assert keepers() == before + 1
            lock.check()
        until(lambda: keepers() <= before)


def test_keeping_ends_when_the_lock_is_lost(tmp_path: Path) -> None:
    """Cleared by the operator: no renewal brings it back."""
    before = keepers()
    lock = PositionLock("btc-1", lock_dir=tmp_path / "locks", stale_after=0.3, keep_alive=60)
    lock.acquire()
    PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"))._transitions.clear(force=True)
    with pytest.raises(LockLost):
        lock.check()
    until(lambda: keepers() <= before)


@pytest.mark.parametrize("keep_alive", [0, -1, float("nan"), "300", True, 86_401])
def test_a_keep_alive_out_of_range_is_refused(tmp_path: Path, keep_alive: Any) -> None:
    """The bound is part of the promise."""
    with pytest.raises(ValueError, match="keep_alive"):
        PositionLock("btc-1", lock_dir=tmp_path / "locks", keep_alive=keep_alive)


def test_a_renewal_that_was_under_way_at_the_release_changes_nothing(tmp_path: Path) -> None:
    """The keeper has renewed and is about to note it; meanwhile the lock is released and taken again."""
    lock = PositionLock("btc-1", lock_dir=tmp_path / "locks", timeout=0)
    lock.acquire()
    renew = lock._transitions.renew

    def slow(grant: Any) -> Any:
        renewed = renew(grant)
        lock.release()
        lock.acquire()
        return renewed

    lock._transitions.renew = slow  # type: ignore[method-assign]
    lock.renew()
    lock.check()
    lock.release()
    assert not lock.held


def test_a_passing_error_does_not_end_the_keeping(tmp_path: Path) -> None:
    """No descriptor left at one renewal: the next one comes in time."""
    directory = elsewhere(tmp_path / "locks")
    failures: list[int] = []

    def try_lock(descriptor: int) -> bool:
        if threading.current_thread().name.startswith("poslock keep-alive") and not failures:
            failures.append(descriptor)
            raise OSError(EMFILE, "Too many open files")
        return SYSTEM.try_lock(descriptor)

    directory.system = Amiss(try_lock=try_lock)
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=2.0, keep_alive=60)
    lock.acquire()
    before = lock.remaining
    until(lambda: failures and lock.remaining > before - 0.3)
    until(lambda: lock.remaining < before - 0.3)
    until(lambda: lock.remaining > before - 0.3)
    lock.check()
    lock.release()
