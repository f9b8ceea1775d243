"""How the calls that may take time are carried out: in the calling thread, or without blocking an event loop.

What the guards do is written once, as coroutines that await a `Ports`. With `ThreadPorts` they never wait for a loop,
so `finished` runs them like any function; with `TaskPorts` they are awaited.
"""

from __future__ import annotations

import time
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from poslock.lock.position_lock import PositionLock

T = TypeVar("T")


class Ports(Protocol):
    """The ways out of a coroutine of the guards. ``asynchronous`` says whether an exchange may have coroutines."""

    asynchronous: bool

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        """The answer of a method of the exchange."""

    async def ledger(self, method: Callable[..., T], *args: object) -> T:
        """The answer of a method of the ledger, which may wait for the disk and for other writers."""

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:
        """Acquire *lock*; its token."""

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""


class ThreadPorts:
    """Everything in the calling thread."""

    asynchronous = False

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        return method(*args)

    async def ledger(self, method: Callable[..., T], *args: object) -> T:
        return method(*args)

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:
        return lock.acquire(timeout)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class TaskPorts:
    """The exchange's coroutines are awaited; the ledger, and an exchange without coroutines, are asked in a thread.

    Cancelled while a thread is at it, the call goes on, and that does no harm: what it writes carries the token, what
    it sends was journaled and has its receive window.
    """

    asynchronous = True

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        if iscoroutinefunction(method):
            return await method(*args)
        answer = await self.ledger(method, *args)
        return await answer if isawaitable(answer) else answer  # a coroutine function behind a plain decorator

    async def ledger(self, method: Callable[..., T], *args: object) -> T:
        import asyncio  # noqa: PLC0415  # only who awaits pays for it

        return await asyncio.to_thread(method, *args)

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:
        return await lock.acquire_async(timeout)

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415  # as above

        await asyncio.sleep(seconds)


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that awaits nothing which is not there yet."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the coroutine's return type
    coroutine.close()
    raise RuntimeError("it waits for an event loop")
