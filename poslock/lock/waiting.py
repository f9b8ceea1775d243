"""Waiting for a lock: drives a contender for a thread or a task.

Who waits is rung by whoever changes something that matters to it, and watches the life lines of the processes that are
in its way. Nothing is missed: its wake is there before its place is in the record, and a life line is opened before it
counts as watched. What cannot be watched is looked at again and again, with back-off.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from poslock.lock.contender import Handover

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from poslock.errors import Holder
    from poslock.lock.contender import Pause
    from poslock.lock.store import Host, Store

T = TypeVar("T")

# The kernel reports a closed pipe a moment before it drops the lock on the presence. And who cannot be watched, because
# it is of a version without life lines or because there is no descriptor left, is looked at with back-off.
_SHORTEST_NAP, _LONGEST_NAP = 0.0001, 0.05
_WAKE = ""  # among the names of presences
_FINEST = 0.001  # poll(2) counts in milliseconds


class Waits:
    """What somebody who waits has open meanwhile, and how long it waits at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._system = store.system
        self._lines: dict[str, int] = {}
        self._naps: dict[str, float] = {}
        self._is_deaf = False  # its wake was rung, and could not be opened anew

    def next(self, pause: Pause) -> tuple[list[int], float]:
        """Which ends of pipes to wait for, and how many seconds."""
        for name in self._lines.keys() - pause.watched:
            self._drop(name)
        for name in pause.watched - self._lines.keys():
            self._watch(name)
        unseen = pause.watched - self._lines.keys() | ({_WAKE} if self._is_deaf else set())
        self._naps = {name: min(2 * self._naps.get(name, _SHORTEST_NAP / 2), _LONGEST_NAP) for name in unseen}
        rung = [] if pause.wake is None or self._is_deaf else [pause.wake.descriptor]
        return [*rung, *self._lines.values()], min([pause.seconds, *self._naps.values()])

    def woken(self, pause: Pause, hung_up: Sequence[int]) -> None:
        """These have hung up."""
        for name in [name for name, line in self._lines.items() if line in hung_up]:
            self._drop(name)
        if pause.wake is not None and (self._is_deaf or pause.wake.descriptor in hung_up):
            try:
                pause.wake.again()
                self._is_deaf = False
            except OSError:
                self._is_deaf = True

    def close(self) -> None:
        """Give everything back."""
        for name in list(self._lines):
            self._drop(name)

    def _watch(self, name: str) -> None:
        if (line := self._store.watch(name)) is not None:
            self._lines[name] = line

    def _drop(self, name: str) -> None:
        with suppress(OSError):  # Linux has closed it all the same
            self._system.close(self._lines.pop(name))


class _Means(Protocol):
    """How somebody waits."""

    async def wait(self, descriptors: Sequence[int], seconds: float) -> Sequence[int]:
        """Which of these ends of pipes have hung up, after *seconds* at the most."""

    async def reconsider(self, holder: Holder | None) -> None:
        """Raise if the lock is not wanted any more."""


class _Thread:
    """In the calling thread: nothing is awaited that is not there yet."""

    def __init__(self, system: Host, reconsider: Callable[[Holder | None], None]) -> None:
        self._system = system
        self._reconsider = reconsider

    async def wait(self, descriptors: Sequence[int], seconds: float) -> Sequence[int]:
        if descriptors and seconds >= _FINEST:
            return self._system.wait(descriptors, seconds)
        self._system.sleep(seconds)
        return ()

    async def reconsider(self, holder: Holder | None) -> None:
        self._reconsider(holder)


class _Task:
    """In a task of the running loop, which goes on meanwhile."""

    def __init__(self, reconsider: Callable[[Holder | None], Awaitable[None]]) -> None:
        self._reconsider = reconsider

    async def wait(self, descriptors: Sequence[int], seconds: float) -> Sequence[int]:
        import asyncio  # noqa: PLC0415  # only who awaits pays for it

        if not descriptors or seconds < _FINEST:
            await asyncio.sleep(seconds)
            return ()
        loop, woken, hung_up = asyncio.get_running_loop(), asyncio.Event(), []

        def heard(descriptor: int) -> None:
            hung_up.append(descriptor)
            woken.set()

        try:
            for each in descriptors:
                try:
                    loop.add_reader(each, heard, each)
                except OSError:  # somebody else closed it, and perhaps uses its number: poll(2) says at once so, too
                    heard(each)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await woken.wait()
        finally:
            for each in descriptors:
                loop.remove_reader(each)
        return hung_up

    async def reconsider(self, holder: Holder | None) -> None:
        await self._reconsider(holder)


def wait_in_thread(
    contention: Generator[Pause | Handover, None, T],
    store: Store,
    reconsider: Callable[[Holder | None], None],
) -> T:
    """Drive *contention* to its end, sleeping in between. What *reconsider* raises ends it."""
    driven = _driven(contention, Waits(store), _Thread(store.system, reconsider))
    try:
        driven.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the coroutine's return type
    driven.close()
    raise RuntimeError("it waits for an event loop")


async def wait_in_task(
    contention: Generator[Pause | Handover, None, T],
    store: Store,
    reconsider: Callable[[Holder | None], Awaitable[None]],
) -> T:
    """As `wait_in_thread`; the loop goes on meanwhile. Cancelled, it leaves nothing behind."""
    return await _driven(contention, Waits(store), _Task(reconsider))


async def _driven(contention: Generator[Pause | Handover, None, T], waits: Waits, means: _Means) -> T:
    try:
        while True:
            try:
                step = next(contention)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # the generator's return type
            if isinstance(step, Handover):
                await means.reconsider(step.holder)
            else:
                waits.woken(step, await means.wait(*waits.next(step)))
    finally:
        contention.close()
        waits.close()
