"""What runs the tasks and threads that wait for a lock: asyncio, uvloop and gevent are supported, trio is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import uvloop

from poslock import LockTimeout, PositionLock
from poslock.lock.record import Record
from systems import elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Children


def asyncio_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@pytest.mark.parametrize("new_loop", [asyncio_loop, uvloop.new_event_loop])
def test_a_task_is_woken_by_a_release_and_by_a_death(
    new_loop: Callable[[], Any], start: Children, lock_dir: str
) -> None:
    """On the loop of the standard library and on uvloop, long before it would look again by itself."""

    async def main() -> None:
        first = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
        first.acquire()
        waiting = PositionLock("btc-1", lock_dir=lock_dir, timeout=30)
        task = asyncio.create_task(waiting.acquire_async())
        await until_waiting(waiting)
        loop = asyncio.get_running_loop()
        began = loop.time()
        first.release()
        await task
        assert loop.time() - began < 0.9
        waiting.release()
        holder = start("hold", lock_dir=lock_dir, position="btc-1", stale_after=3600)
        holder.hear()
        holder.ask("go")
        task = asyncio.create_task(waiting.acquire_async())
        await until_waiting(waiting)
        began = loop.time()
        holder.process.kill()
        await task
        assert loop.time() - began < 0.9

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def until_waiting(lock: PositionLock) -> None:
    async with asyncio.timeout(30):
        while not queued(lock):  # noqa: ASYNC110  # the other side is a file
            await asyncio.sleep(0.005)


def queued(lock: PositionLock) -> int:
    content = lock._transitions.entry.peek()
    return len(content.waiting) if isinstance(content, Record) else 0


def test_a_wait_for_that_gives_up_leaves_nothing_and_one_that_holds_is_released_outside(lock_dir: str) -> None:
    """On Python 3.11 `asyncio.wait_for` acquires in a task of its own: the lock is the object's all the same."""

    async def main() -> None:
        lock = PositionLock("btc-1", lock_dir=lock_dir)
        with PositionLock("btc-1", lock_dir=elsewhere(lock_dir)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lock.acquire_async(timeout=60), 0.2)
            assert (lock.token, queued(lock)) == (None, 0)
        token = await asyncio.wait_for(lock.acquire_async(), 10)
        lock.check()
        lock.renew()
        assert lock.token == token
        with pytest.raises(LockTimeout):
            await PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0).acquire_async()
        lock.release()
        await lock.acquire_async()

    asyncio.run(main())


@pytest.mark.parametrize("contended", [False, True])
def test_trio_is_refused_by_name_and_a_thread_of_it_is_not(contended: bool, lock_dir: str) -> None:
    """At once, whether there is somebody to wait for or not."""

    async def main() -> None:
        lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=0.1)
        with pytest.raises(RuntimeError, match=r"trio.*trio\.to_thread\.run_sync\(lock\.acquire\)"):
            await lock.acquire_async()
        if contended:
            with pytest.raises(LockTimeout):
                await trio.to_thread.run_sync(lock.acquire)
        else:
            await trio.to_thread.run_sync(lock.acquire)
            lock.check()
            lock.release()

    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
    if contended:
        holder.acquire()
    trio.run(main)
    assert queued(holder) == 0


PATCHED = """
import {library}
{patch}
import sys, time
from poslock import PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
# Each as of a process of its own.
locks = [PositionLock("btc-1", lock_dir=LockDirectory(sys.argv[1], SYSTEM), timeout=30) for _ in range(3)]
said = []
def work(number):
    with locks[number]:
        said.append(f"{{number}} holds")
        for _ in range(20):
            {sleep}(0.01)
        said.append(f"{{number}} is done")
tasks = [{spawn}(work, number) for number in range(3)]
began = time.monotonic()
{join}
print(*said, sep=", ")
assert time.monotonic() - began < 3, time.monotonic() - began
"""


@pytest.mark.parametrize(
    ("library", "patch", "sleep", "spawn", "join"),
    [
        ("gevent.monkey", "gevent.monkey.patch_all()", "gevent.sleep", "gevent.spawn", "gevent.joinall(tasks)"),
        (
            "eventlet",
            "eventlet.monkey_patch()",
            "eventlet.sleep",
            "eventlet.spawn",
            "[each.wait() for each in tasks]",
        ),
    ],
)
def test_green_threads_wait_for_each_other_without_stopping_the_process(
    library: str, patch: str, sleep: str, spawn: str, join: str, lock_dir: str
) -> None:
    """Monkey-patched: while one waits for the lock, the others go on, in turns and without a look a second."""
    script = PATCHED.format(library=library, patch=patch, sleep=sleep, spawn=spawn, join=join)
    command = [sys.executable, "-W", "ignore", "-c", script, lock_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout.strip() == ", ".join(f"{each} holds, {each} is done" for each in range(3))
