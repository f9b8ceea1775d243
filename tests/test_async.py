"""Locks of tasks: nothing blocks the loop, and nothing is left behind by a cancelled task."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from poslock import InvalidPositionId, LockAlreadyHeld, LockLost, LockStillHeld, LockTimeout, PositionLock
from poslock import PositionLockManager as Manager
from poslock.lock.record import Record
from systems import Clock, elsewhere

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children


def test_async_with_holds_and_releases(lock_dir: str) -> None:
    """As with, awaited."""

    async def main() -> None:
        async with PositionLock("btc-1", lock_dir=lock_dir) as lock:
            lock.check()
            with pytest.raises(LockTimeout):
                await PositionLock("btc-1", lock_dir=elsewhere(lock_dir)).acquire_async(timeout=0.05)
        await PositionLock("btc-1", lock_dir=lock_dir, timeout=0).acquire_async()

    asyncio.run(main())


def test_waiting_tasks_do_not_block_the_loop_and_need_no_threads(lock_dir: str) -> None:
    """Fifty tasks wait for one lock; the loop goes on, no thread is started, and each gets its turn."""

    async def main() -> None:
        entered: list[int] = []
        ticks = 0

        async def enter(number: int) -> None:
            async with PositionLock("btc-1", lock_dir=lock_dir, timeout=60) as lock:
                lock.check()
                entered.append(number)

        first = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
        first.acquire()
        threads = threading.active_count()
        tasks = [asyncio.create_task(enter(number)) for number in range(50)]
        for _ in range(20):
            await asyncio.sleep(0.01)
            ticks += 1
        assert (ticks, entered, threading.active_count()) == (20, [], threads)
        first.release()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert sorted(entered) == list(range(50))

    asyncio.run(main())


def test_a_cancelled_wait_leaves_nothing(lock_dir: str) -> None:
    """Neither a hold nor a place in the queue."""

    async def main() -> None:
        first = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
        first.acquire()
        lock = PositionLock("btc-1", lock_dir=lock_dir)
        task = asyncio.create_task(lock.acquire_async(timeout=60))
        await _until_waiting(lock)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not lock.held
        assert not _waiting(lock)
        first.release()
        PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0).acquire()

    asyncio.run(main())


async def _until_waiting(lock: PositionLock) -> None:
    async with asyncio.timeout(30):
        while not _waiting(lock):  # noqa: ASYNC110  # the other side is a file
            await asyncio.sleep(0.005)


def _waiting(lock: PositionLock) -> int:
    content = lock._transitions.entry.peek()
    return len(content.waiting) if isinstance(content, Record) else 0


def test_a_task_wakes_when_the_holder_dies(start: Children, lock_dir: str) -> None:
    """Though its lease has an hour to go."""
    holder = start("hold", lock_dir=lock_dir, position="btc-1", stale_after=3600)
    holder.hear()
    holder.ask("go")

    async def main() -> None:
        lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=30)
        task = asyncio.create_task(lock.acquire_async())
        await _until_waiting(lock)
        holder.process.kill()
        await asyncio.wait_for(task, 10)
        assert lock.recovered_from is not None
        assert lock.recovered_from.pid == holder.pid

    asyncio.run(main())


def test_taking_a_position_twice_in_one_task_is_an_error_not_a_dead_lock(lock_dir: str) -> None:
    """With another object too; another task waits as it should."""

    async def main() -> None:
        async with PositionLock("btc-1", lock_dir=lock_dir):
            with pytest.raises(LockAlreadyHeld):
                await PositionLock("btc-1", lock_dir=lock_dir, timeout=None).acquire_async()
            other = asyncio.create_task(PositionLock("btc-1", lock_dir=lock_dir).acquire_async(timeout=0.05))
            with pytest.raises(LockTimeout):
                await other

    asyncio.run(main())


def test_two_tasks_do_not_share_one_object(lock_dir: str) -> None:
    """While one is waiting with it, the other one's acquire is an error."""

    async def main() -> None:
        lock = PositionLock("btc-1", lock_dir=lock_dir)
        with PositionLock("btc-1", lock_dir=elsewhere(lock_dir)):
            task = asyncio.create_task(lock.acquire_async(timeout=60))
            await _until_waiting(lock)
            with pytest.raises(LockAlreadyHeld):
                await lock.acquire_async()
        await task
        lock.check()

    asyncio.run(main())


def test_the_manager_says_true_or_false(lock_dir: str, caplog: pytest.LogCaptureFixture) -> None:
    """True and held, or False and a warning that names the holder; release gives it back."""

    async def main() -> None:
        ours, theirs = Manager(lock_dir, timeout=0.05), Manager(elsewhere(lock_dir), timeout=0.05)
        assert await ours.acquire("btc-1") is True
        with caplog.at_level(logging.WARNING, "poslock"):
            assert await theirs.acquire("btc-1") is False
        assert "held by PID" in caplog.text
        assert await theirs.acquire("eth-1") is True
        ours.release("btc-1")
        assert await theirs.acquire("btc-1") is True
        for manager, position_id in ((ours, "btc-1"), (ours, "never")):
            with pytest.raises(LockLost):
                manager.release(position_id)
        with pytest.raises(InvalidPositionId):
            await ours.acquire("")

    asyncio.run(main())


def test_the_manager_shows_and_clears(lock_dir: str) -> None:
    """Status of all locks; clear leaves a live holder alone unless forced."""
    manager = Manager(lock_dir)
    held = manager.lock("btc-1", purpose="test", timeout=0)
    held.acquire()
    (status,) = manager.status()
    assert (status.position, status.state, status.holders[0].purpose) == ("btc-1", "held", "test")
    with pytest.raises(LockStillHeld):
        manager.clear("btc-1")
    assert manager.clear("btc-1", force=True).state == "free"
    with pytest.raises(LockLost):
        held.check()


def test_without_pipes_a_task_polls(tmp_path: Path) -> None:
    """On a file system without them, or with no descriptor left, waiting works all the same."""

    async def main() -> None:
        directory = Clock().directory(tmp_path / "locks", monotonic_ns=time.monotonic_ns)
        first = PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"))
        first.acquire()
        lock = PositionLock("btc-1", lock_dir=directory)
        task = asyncio.create_task(lock.acquire_async(timeout=30))
        await _until_waiting(lock)
        first.release()
        await asyncio.wait_for(task, 10)
        lock.check()

    asyncio.run(main())


def test_each_task_gives_back_its_own(tmp_path: Path) -> None:
    """A's lease runs out, B takes over through the same manager: A's late release is an error and leaves B's alone."""
    clock = Clock()
    manager = Manager(clock.directory(tmp_path / "locks"), stale_after=10)

    async def main() -> None:
        overdue, taken = asyncio.Event(), asyncio.Event()

        async def a() -> None:
            assert await manager.acquire("btc-1")
            clock.sleep(11)
            overdue.set()
            await taken.wait()
            with pytest.raises(LockLost):
                manager.release("btc-1")

        async def b() -> None:
            await overdue.wait()
            assert await manager.acquire("btc-1")
            taken.set()
            await tasks[0]
            manager.release("btc-1")

        tasks = [asyncio.create_task(a()), asyncio.create_task(b())]
        await asyncio.gather(*tasks)

    asyncio.run(main())
