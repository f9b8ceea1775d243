"""Waiting for a lock: drives a contender for a thread or a task, on inotify where there is one.

A waiter watches the lock file, which is written whenever something changes, and the presence files of those who are in
its way: when a process ends, the kernel closes the file it had open there. Nothing is missed, because a contender looks
again after every new watch, before it waits. Where there is no inotify, or no more of it, it polls with back-off.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.lock.contender import Handover

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from poslock.errors import Holder
    from poslock.lock.contender import Pause
    from poslock.lock.files.system import System, Watcher

T = TypeVar("T")

_FIRST_POLL = 0.001
_LONGEST_POLL = 0.05
# The kernel reports a closed file a moment before it drops the lock on it: look again a few times.
_SETTLING = (0.0001, 0.0002, 0.0004, 0.001, 0.002, 0.004)


class Waits:
    """How long to wait next, and whether it is worth waiting at all: common to both drivers."""

    def __init__(self, system: System) -> None:
        self._watcher = system.watcher()
        self._poll = _FIRST_POLL
        self._settling: list[float] = []

    def next(self, pause: Pause) -> tuple[float, Watcher | None]:
        """Seconds to wait for this pause, and the watcher that may end it sooner. No seconds: look again at once."""
        if self._watched(pause):
            return 0.0, self._watcher
        if self._watcher is not None and not self._settling:
            return pause.seconds, self._watcher
        if self._settling:
            # Too short for poll(2), which counts in milliseconds.
            return min(self._settling.pop(0), pause.seconds), None
        self._poll, poll = min(2 * self._poll, _LONGEST_POLL), self._poll
        return min(poll, pause.seconds), None

    def _watched(self, pause: Pause) -> bool:
        """Whether something is watched that was not before."""
        if self._watcher is None:
            return False
        try:
            return self._watcher.watch(pause.watched)
        except OSError:  # no more watches for this user: poll
            self.close()
            self._watcher = None
            return False

    def woken(self) -> None:
        """Something happened to a watched file."""
        if self._watcher is not None:
            self._watcher.drain()
        self._settling = list(_SETTLING)

    def close(self) -> None:
        """Give the watcher back."""
        if self._watcher is not None:
            self._watcher.close()


def wait_in_thread(
    contention: Generator[Pause | Handover, None, T], system: System, reconsider: Callable[[Holder | None], None]
) -> T:
    """Drive *contention* to its end, sleeping in between. What *reconsider* raises ends it."""
    waits: Waits | None = None
    try:
        while True:
            try:
                step = next(contention)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # the generator's return type
            if isinstance(step, Handover):
                reconsider(step.holder)
                continue
            waits = waits or Waits(system)
            seconds, watcher = waits.next(step)
            if watcher is None:
                system.sleep(seconds)
            elif seconds and _readable(watcher, seconds):
                waits.woken()
    finally:
        contention.close()
        if waits is not None:
            waits.close()


async def wait_in_task(
    contention: Generator[Pause | Handover, None, T],
    system: System,
    reconsider: Callable[[Holder | None], Awaitable[None]],
) -> T:
    """As `wait_in_thread`; the loop goes on meanwhile. Cancelled, it leaves nothing behind."""
    import asyncio  # noqa: PLC0415  # only who awaits pays for it

    waits: Waits | None = None
    try:
        while True:
            try:
                step = next(contention)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # the generator's return type
            if isinstance(step, Handover):
                await reconsider(step.holder)
                continue
            waits = waits or Waits(system)
            seconds, watcher = waits.next(step)
            if watcher is None:
                await asyncio.sleep(seconds)
            elif seconds and await _readable_soon(watcher, seconds, asyncio.get_running_loop()):
                waits.woken()
            else:
                await asyncio.sleep(0)
    finally:
        contention.close()
        if waits is not None:
            waits.close()


def _readable(watcher: Watcher, seconds: float) -> bool:
    poller = select.poll()  # not select(): its descriptors end at 1023
    poller.register(watcher.fileno(), select.POLLIN)
    return bool(poller.poll(seconds * 1000))


async def _readable_soon(watcher: Watcher, seconds: float, loop: Any) -> bool:
    import asyncio  # noqa: PLC0415  # as above

    readable = asyncio.Event()
    loop.add_reader(watcher.fileno(), readable.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await readable.wait()
    finally:
        loop.remove_reader(watcher.fileno())
    return readable.is_set()
