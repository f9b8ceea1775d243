"""A process that is stopped, or dies, inside a transition, with the file's OS lock in its hands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockFileError, LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
from poslock.lock.transitions import Transitions
from systems import Amiss, Clock, elsewhere, once_after

if TYPE_CHECKING:
    import os

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


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("call", ["create", "link", "write", "rename", "unlink"])
def test_whoever_stops_while_replacing_delays_nobody(start: Children, lock_dir: str, call: str, how: str) -> None:
    """One is stopped inside, a second one is killed or stopped while it replaces the file: a third one gets in."""
    child = start("stop_inside", lock_dir=lock_dir, operation="acquire", call="write", lease=1.0)
    child.hear()
    child.wait_stopped()
    second = start("end_replacing", lock_dir=lock_dir, call=call, how=how)
    second.hear()
    if how == "SIGKILL":
        second.wait_killed()
    else:
        second.wait_stopped()
    began = time.monotonic()
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=30, stale_after=60)
    lock.acquire()
    assert time.monotonic() - began < 2.0
    child.resume()
    assert child.hear()["passes"] is False
    if how == "SIGSTOP":
        second.resume()
        assert second.hear()["error"] == "LockTimeout"
    lock.check()
    lock.release()
    PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0).acquire()


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_announcement_that_ends_under_our_eyes(lock_dir: str, when: str) -> None:
    """A second name when we look at the file, none once we look for the announcement: no reason to cry hard link."""
    PositionLock("btc-1", lock_dir=lock_dir).acquire()
    directory = elsewhere(lock_dir)
    path = Path(directory.entry("btc-1").path)
    second = path.with_name(path.name + ".replaced-0123")
    second.hardlink_to(path)

    def withdrawn(path: str) -> os.stat_result:
        if path == str(second) and when == "before":
            second.unlink(missing_ok=True)
        status = SYSTEM.stat(path)
        if path == str(second):
            second.unlink(missing_ok=True)
        return status

    directory = LockDirectory(directory.path, Amiss(stat=withdrawn))
    with pytest.raises(LockTimeout, match="held by PID"):
        PositionLock("btc-1", lock_dir=directory, timeout=0.2).acquire()


def replace_by_copy(path: str) -> None:
    copy = Path(path).with_name("copy")
    copy.write_bytes(Path(path).read_bytes())
    copy.chmod(0o600)
    copy.rename(path)


def test_a_grant_that_made_it_into_the_copy_is_kept(tmp_path: Path) -> None:
    """Written after the announcement and before the copy was made: the contender recognizes it as its own."""
    directory = elsewhere(tmp_path / "locks")
    path = directory.entry("btc-1").path
    directory.system = Amiss(write=once_after(lambda: replace_by_copy(path), SYSTEM.write))
    lock = PositionLock("btc-1", lock_dir=directory, timeout=5)
    lock.acquire()
    lock.check()
    assert lock.recovered_from is None


@pytest.mark.parametrize("operation", ["acquire", "renew"])
def test_what_is_written_during_a_replacement_does_not_count(tmp_path: Path, operation: str) -> None:
    """A replacer announced itself before our last look, and may have made its copy before our write."""
    amiss = Amiss()
    directory = LockDirectory(str(tmp_path / "locks"), amiss)
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0.3)
    if operation == "renew":
        lock.acquire()
    directory.prepare()
    directory.presence.name()  # what is written there is not meant
    opened = [SYSTEM.open(f"{directory.path}/{name}", create=True) for name in (".maintenance", ".maintenance-2")]
    assert all(map(SYSTEM.try_lock, opened))  # the replacer is at it
    path = Path(lock.path)

    def announced() -> None:
        path.with_name(path.name + ".replaced-0123").hardlink_to(path)

    amiss._calls["write"] = once_after(announced, SYSTEM.write)
    with pytest.raises(LockTimeout if operation == "acquire" else LockFileError):
        getattr(lock, operation)()
    assert lock.held is (operation == "renew")


@pytest.mark.parametrize("force", [True, False])
def test_clear_does_not_clear_the_next_holder(tmp_path: Path, force: bool) -> None:
    """Its write made it into the copy, and somebody took the lock there before it looked again."""
    clock = Clock()
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=1).acquire()
    clock.sleep(1)
    next_holder = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0)

    def replaced() -> None:
        replace_by_copy(next_holder.path)
        next_holder.acquire()

    directory = clock.directory(tmp_path / "locks", write=once_after(replaced, SYSTEM.write))
    assert Transitions(directory, "btc-1").clear(force=force).startswith("cleared, was held by")
    next_holder.check()
