"""Shared locks, and the order in which those who wait are served."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockLost, LockTimeout, PositionLock
from poslock.lock.status import lock_status
from systems import Clock, elsewhere

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children
    from processes import Child


def lock(path: Path | str, *, shared: bool = False, **options: Any) -> PositionLock:
    """A lock as of a process of its own."""
    return PositionLock("btc-1", lock_dir=elsewhere(path), shared=shared, **{"timeout": 0, **options})


def waiting(start: Children, lock_dir: str, **options: Any) -> Child:
    """A child that is waiting for the lock, seen in the queue."""
    before = queued(lock_dir)
    child = start("hold", lock_dir=lock_dir, position="btc-1", **options)
    child.hear()
    child.tell()
    deadline = time.monotonic() + 30
    while queued(lock_dir) == before:
        assert time.monotonic() < deadline, "it does not wait"
        time.sleep(0.005)
    return child


def queued(lock_dir: str) -> int:
    content = lock(lock_dir)._transitions.entry.peek()
    return len(getattr(content, "waiting", ()))


def test_readers_share_and_keep_a_writer_out(lock_dir: str) -> None:
    """Two readers hold at once with tokens of their own; a writer gets in when both are gone."""
    first, second, writer = lock(lock_dir, shared=True), lock(lock_dir, shared=True), lock(lock_dir)
    tokens = [first.acquire(), second.acquire()]
    assert tokens[0] < tokens[1]
    first.check()
    second.check()
    with pytest.raises(LockTimeout, match="shared by 2"):
        writer.acquire()
    first.renew()
    first.release()
    second.check()
    with pytest.raises(LockTimeout):
        writer.acquire()
    second.release()
    assert writer.acquire() > tokens[1]


def test_a_writer_keeps_readers_out(lock_dir: str) -> None:
    """Exclusive is exclusive."""
    with lock(lock_dir), pytest.raises(LockTimeout):
        lock(lock_dir, shared=True).acquire()


def test_each_readers_lease_counts_by_itself(tmp_path: Path) -> None:
    """One reader falls silent, the other renews: the first is replaced, the second holds on."""
    clock = Clock()

    def reader(**options: Any) -> PositionLock:
        return PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0, **options)

    silent, lively = reader(shared=True, stale_after=10), reader(shared=True, stale_after=10)
    silent.acquire()
    lively.acquire()
    clock.sleep(6)
    lively.renew()
    clock.sleep(6)
    with pytest.raises(LockTimeout):
        reader().acquire()
    reader(shared=True, stale_after=10).acquire()
    lively.check()
    for call in (silent.check, silent.renew, silent.release):
        with pytest.raises(LockLost):
            call()
    lively.release()


def test_each_readers_death_counts_by_itself(start: Children, lock_dir: str) -> None:
    """A dead reader does not keep a writer out, a living one does."""
    dying = start("hold", lock_dir=lock_dir, position="btc-1", shared=True, stale_after=3600)
    dying.hear()
    assert dying.ask("go")["held"]
    living = lock(lock_dir, shared=True)
    living.acquire()
    dying.kill()
    with pytest.raises(LockTimeout, match="shared by 1"):
        lock(lock_dir).acquire()
    living.release()
    lock(lock_dir).acquire()


def test_a_waiting_writer_stops_new_readers(start: Children, lock_dir: str) -> None:
    """Else a stream of readers would keep it out for ever; it is served first, then they are."""
    reader = lock(lock_dir, shared=True)
    reader.acquire()
    writer = waiting(start, lock_dir, timeout=60)
    with pytest.raises(LockTimeout, match="1 came first"):
        lock(lock_dir, shared=True).acquire()
    reader.release()
    assert writer.hear()["held"]
    later = waiting(start, lock_dir, timeout=60, shared=True)
    assert writer.ask("release") == {"ok": "release"}
    assert later.hear()["held"]


def test_a_dead_waiting_writer_stops_nobody(start: Children, lock_dir: str) -> None:
    """Its place in the queue dies with it."""
    reader = lock(lock_dir, shared=True)
    reader.acquire()
    waiting(start, lock_dir, timeout=60).kill()
    lock(lock_dir, shared=True).acquire()


def test_a_writer_that_gave_up_stops_nobody(start: Children, lock_dir: str) -> None:
    """It leaves the queue when its time is up."""
    reader = lock(lock_dir, shared=True)
    reader.acquire()
    writer = waiting(start, lock_dir, timeout=0.5)
    assert writer.hear()["error"] == "LockTimeout"
    assert queued(lock_dir) == 0
    lock(lock_dir, shared=True).acquire()


def test_whoever_waits_is_served_in_the_order_of_arrival(start: Children, lock_dir: str) -> None:
    """Three waiters, one after the other; and the releaser that comes straight back comes last."""
    holder = lock(lock_dir)
    holder.acquire()
    children = [waiting(start, lock_dir, timeout=60) for _ in range(3)]
    holder.release()
    with pytest.raises(LockTimeout, match=r"came first|held"):
        holder.acquire()
    tokens = []
    for child in children:
        tokens.append(child.hear()["token"])
        child.ask("release")
    assert all(first < second for first, second in pairwise(tokens))
    holder.acquire()


def test_a_stopped_waiter_delays_the_others_only_for_a_moment(start: Children, lock_dir: str) -> None:
    """It is first in the queue and does not come: passed over, and when it goes on it waits again."""
    holder = lock(lock_dir)
    holder.acquire()
    stopped = waiting(start, lock_dir, timeout=60)
    stopped.stop()
    second = waiting(start, lock_dir, timeout=60)
    holder.release()
    assert second.hear(10)["held"]
    stopped.resume()
    second.ask("release")
    assert stopped.hear()["held"]


def test_those_who_wait_for_a_dead_holder_are_served_in_order_too(start: Children, lock_dir: str) -> None:
    """The kill wakes both; the first in the queue gets the lock, and learns whom it replaced."""
    holder = start("hold", lock_dir=lock_dir, position="btc-1", stale_after=3600)
    holder.hear()
    holder.ask("go")
    first, second = waiting(start, lock_dir, timeout=60), waiting(start, lock_dir, timeout=60)
    holder.kill()
    said = first.hear()
    assert (said["held"], said["recovered_from"]) == (True, holder.pid)
    assert second.is_silent(0.2)
    first.ask("release")
    assert second.hear()["recovered_from"] is None


def test_a_stopped_waiter_does_not_keep_a_dead_holders_lock(start: Children, lock_dir: str) -> None:
    """Both are gone, each in its way: the next waiter writes down that the lock is free, and passes the stopped one."""
    holder = start("hold", lock_dir=lock_dir, position="btc-1", stale_after=3600)
    holder.hear()
    holder.ask("go")
    stopped = waiting(start, lock_dir, timeout=60, stale_after=3600)
    stopped.stop()
    second = waiting(start, lock_dir, timeout=60)
    holder.kill()
    assert second.hear(10)["recovered_from"] == holder.pid


def test_status_shows_all_who_share(lock_dir: str) -> None:
    """One lock, mode shared, a holder each."""
    holders = [lock(lock_dir, shared=True) for _ in range(3)]
    for each in holders:
        each.acquire()
    found = lock_status(elsewhere(lock_dir), "btc-1")
    assert (found.state, found.mode, len(found.holders)) == ("held", "shared", 3)
    assert found.token == holders[-1].token


def test_a_stopped_waiting_writer_keeps_readers_out_no_longer_than_its_lease(start: Children, lock_dir: str) -> None:
    """A reader that renews holds on; the writer that waits for it was stopped: new readers get in after its lease."""
    reader = lock(lock_dir, shared=True, stale_after=60)
    reader.acquire()
    writer = waiting(start, lock_dir, timeout=60, stale_after=1.0)
    writer.stop()
    stopped = time.monotonic()
    lock(lock_dir, shared=True).acquire(timeout=30)
    assert time.monotonic() - stopped < 2.0  # lease + 1 s
    reader.check()


def test_a_long_wait_renews_its_place(start: Children, lock_dir: str) -> None:
    """Longer than its own lease, and still first: whoever comes later does not pass it."""
    holder = lock(lock_dir, stale_after=60)
    holder.acquire()
    first = waiting(start, lock_dir, timeout=60, stale_after=0.6)
    assert first.is_silent(1.5)
    second = waiting(start, lock_dir, timeout=60)
    holder.release()
    assert first.hear()["held"]
    assert second.is_silent(0.2)


def test_twenty_tasks_wait_quietly(lock_dir: str) -> None:
    """They neither spin nor wake each other, and all get their turn."""

    async def main() -> None:
        holder = lock(lock_dir)
        holder.acquire()
        tasks = [asyncio.create_task(use(PositionLock("btc-1", lock_dir=elsewhere(lock_dir)))) for _ in range(20)]
        await asyncio.sleep(0.5)
        before = time.process_time()
        await asyncio.sleep(1.0)
        used = time.process_time() - before
        holder.release()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert used < 0.3  # spinning took 0.7 s of each second

    async def use(each: PositionLock) -> None:
        async with each:
            each.check()

    asyncio.run(main())


def test_readers_who_come_at_the_same_moment_all_get_in(lock_dir: str) -> None:
    """With no time to wait: a transition under way says nothing about who holds."""
    failures: list[Exception] = []

    def read() -> None:
        directory = elsewhere(lock_dir)
        for _ in range(100):
            try:
                with PositionLock("btc-1", lock_dir=directory, shared=True, timeout=0) as each:
                    each.check()
            except LockTimeout as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_nobody_joins_readers_of_another_boot(tmp_path: Path) -> None:
    """A container with a boot id of its own: their clocks would be mixed up in one record."""
    clock = Clock()
    first = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), shared=True, timeout=0)
    other = clock.directory(tmp_path / "locks", clock_name="another")
    first.acquire()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=other, shared=True, timeout=0).acquire()
    first.release()
    PositionLock("btc-1", lock_dir=other, shared=True, timeout=0).acquire()
