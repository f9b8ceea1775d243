"""The lock between processes: exclusion, death, silence, forks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from poslock import LockTimeout, PositionLock

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children
    from processes import Child


def hold(start: Children, lock_dir: str, **settings: object) -> tuple[Child, int]:
    """A child that holds the lock, and its token."""
    child = start("hold", lock_dir=lock_dir, position="btc-1", **settings)
    child.hear()
    said = child.ask("go")
    assert said["held"]
    return child, said["token"]


def test_processes_exclude_each_other(start: Children, lock_dir: str, tmp_path: Path) -> None:
    """Six processes take one lock 50 times each: none meets another inside, none's update is lost, tokens grow."""
    (tmp_path / "counter").write_text("0")
    children = [start("contend", lock_dir=lock_dir, folder=str(tmp_path), rounds=50) for _ in range(6)]
    for child in children:
        child.hear()
    for child in children:
        child.tell()
    tokens = [child.hear(100)["tokens"] for child in children]
    assert (tmp_path / "counter").read_text() == "300"
    assert all(first < second for own in tokens for first, second in pairwise(own))
    assert len({token for own in tokens for token in own}) == 300


def test_a_killed_holder_is_replaced_long_before_its_lease(start: Children, lock_dir: str) -> None:
    """SIGKILL frees the lock at once: the kernel says that the holder is dead."""
    child, token = hold(start, lock_dir, stale_after=3600)
    with pytest.raises(LockTimeout) as caught:
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0.1).acquire()
    assert caught.value.holder is not None
    assert caught.value.holder.pid == child.pid
    child.kill()
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=30)
    lock.acquire()
    assert lock.recovered_from is not None
    assert lock.recovered_from.pid == child.pid
    assert lock.token is not None
    assert lock.token > token


def test_a_waiter_is_let_in_when_the_holder_dies(start: Children, lock_dir: str) -> None:
    """It was already waiting when the holder was killed."""
    holder, _ = hold(start, lock_dir, stale_after=3600)
    waiter = start("hold", lock_dir=lock_dir, position="btc-1", timeout=60)
    waiter.hear()
    waiter.tell()
    assert waiter.is_silent(0.3)
    holder.kill()
    said = waiter.hear()
    assert (said["held"], said["recovered_from"]) == (True, holder.pid)


def test_a_stopped_holder_is_replaced_when_its_lease_runs_out_and_cannot_come_back(
    start: Children, lock_dir: str
) -> None:
    """SIGSTOP past the lease, another one takes over, SIGCONT: the first fails every call."""
    child, _ = hold(start, lock_dir, stale_after=1.0)
    stopped = time.monotonic()
    child.stop()
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=30)
    lock.acquire()
    assert time.monotonic() - stopped < 2.0  # lease + 1 s
    child.resume()
    for word in ("check", "renew", "release"):
        assert child.ask(word)["error"] == "LockLost"
    lock.check()


def test_a_stopped_holder_keeps_the_lock_until_its_lease_runs_out(start: Children, lock_dir: str) -> None:
    """A pause shorter than the lease costs nothing."""
    child, _ = hold(start, lock_dir, stale_after=60)
    child.stop()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0.5).acquire()
    child.resume()
    assert child.ask("check") == {"ok": "check"}


def test_a_forked_child_does_not_hold_and_does_not_keep_its_parent_alive(start: Children, lock_dir: str) -> None:
    """The child inherits object and descriptors; when the parent is killed the lock is free although it lives on."""
    parent = start("hold_and_fork", lock_dir=lock_dir, position="btc-1")
    said = [parent.hear(), parent.hear()]
    child = next(each for each in said if "child" in each)
    forked = next(each["forked"] for each in said if "forked" in each)
    assert child["held"] is False
    assert "belongs to the parent" in child["child"]
    with pytest.raises(LockTimeout):  # what the child closed did not unlock the parent's presence
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0.2).acquire()
    parent.process.kill()
    parent.process.wait()
    os.kill(forked, 0)  # it lives, with a copy of everything its parent had open
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=10)
    lock.acquire()
    assert lock.recovered_from is not None
    assert lock.recovered_from.pid == parent.pid
    parent.tell()  # let it end


def test_forks_of_a_threaded_process_inherit_nothing(start: Children, lock_dir: str) -> None:
    """Four threads lock and unlock while a fifth forks: no child keeps a descriptor, and each can lock by itself."""
    child = start("fork_beside_threads", lock_dir=lock_dir, forks=60)
    assert child.hear() == {"leaked": 0, "hung": 0}


def test_a_process_without_standard_streams_does_not_lock_them(start: Children, lock_dir: str) -> None:
    """With descriptors 0 to 2 closed, as in some cron jobs, none of them becomes the presence file."""
    child = start("hold_without_streams", lock_dir=lock_dir)
    assert child.hear()["lowest"] > 2


def test_a_missing_presence_file_leaves_the_word_to_the_lease(start: Children, lock_dir: str, tmp_path: Path) -> None:
    """Unknown is not dead: a live holder whose presence was removed keeps the lock until its lease runs out."""
    child, _ = hold(start, lock_dir, stale_after=2.0)
    for presence in (tmp_path / "locks" / ".presence").iterdir():
        presence.unlink()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0.3).acquire()
    assert child.ask("check") == {"ok": "check"}
    child.kill()
    PositionLock("btc-1", lock_dir=lock_dir, timeout=10).acquire()


def test_the_first_wait_starts_no_program(lock_dir: str) -> None:
    """A child would share our presence until it is another program; if we are killed then, we look alive."""
    PositionLock("btc-1", lock_dir=lock_dir).acquire()
    script = (
        "import sys\n"
        "from poslock import LockTimeout, PositionLock\n"
        "starts = {'subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.system', 'os.exec'}\n"
        "sys.addaudithook(lambda event, _: print(event) if event in starts else None)\n"
        "try:\n"
        "    PositionLock('btc-1', lock_dir=sys.argv[1], timeout=0.1).acquire()\n"
        "except LockTimeout:\n"
        "    print('waited')\n"
    )
    command = [sys.executable, "-c", script, lock_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["waited"]
