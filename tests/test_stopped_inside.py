"""A process that is stopped, or dies, inside a transition, with the file's OS lock in its hands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from poslock import PositionLock
from systems import elsewhere

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children


@pytest.mark.parametrize("call", ["read", "write", "unlock"])
@pytest.mark.parametrize("operation", ["acquire", "renew", "release"])
def test_a_process_stopped_inside_a_transition_delays_nobody(
    start: Children, lock_dir: str, operation: str, call: str
) -> None:
    """Stopped with the OS lock held: another one holds the lock within lease + 1 s, and the first cannot come back."""
    lease = 1.0
    child = start("stop_inside", lock_dir=lock_dir, operation=operation, call=call, lease=lease)
    child.hear()
    child.wait_stopped()
    stopped = time.monotonic()
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=30, stale_after=lease)
    lock.acquire()
    assert time.monotonic() - stopped < lease + 1
    lock.renew()
    child.resume()
    assert child.hear()["passes"] is False
    lock.check()


def test_a_holder_is_not_hurt_by_a_contender_that_was_stopped(start: Children, lock_dir: str) -> None:
    """Stopped while it looks, with the OS lock in its hands: the holder renews and releases all the same."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    lock.acquire()
    child = start("stop_inside", lock_dir=lock_dir, operation="acquire", call="read", lease=1.0, timeout=30)
    child.hear()
    child.wait_stopped()
    lock.renew()
    lock.check()
    lock.release()
    child.resume()
    assert child.hear()["passes"] is True


@pytest.mark.parametrize("dies_at", ["create", "rename", "unlink"])
def test_whoever_dies_while_replacing_leaves_nothing_in_the_way(
    start: Children, lock_dir: str, tmp_path: Path, dies_at: str
) -> None:
    """One is stopped inside, a second one is killed while it replaces the file: a third one gets in."""
    child = start("stop_inside", lock_dir=lock_dir, operation="acquire", call="write", lease=1.0)
    child.hear()
    child.wait_stopped()
    second = start("die_replacing", lock_dir=lock_dir, call=dies_at)
    second.hear()
    second.wait_killed()
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=30, stale_after=1.0)
    lock.acquire()
    lock.check()
    child.resume()
    assert child.hear()["passes"] is False
    lock.release()
    PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0).acquire()
