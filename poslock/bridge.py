"""How the calls that may take time are carried out: in the calling thread, or without blocking an event loop.

What the guards do is written once, as coroutines that await a `Ports`. With `ThreadPorts` they never wait for a loop,
so `finished` runs them like any function; with `TaskPorts` they are awaited.
"""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from poslock.errors import ExchangeUnavailable, PoslockError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from contextvars import Context

    from poslock.lock.position_lock import PositionLock

T = TypeVar("T")

Call: TypeAlias = "tuple[Callable[..., Any], tuple[object, ...]]"
"""A method of the exchange, and its arguments."""
_MOST_AT_ONCE = 10
UNHEARD = ExchangeUnavailable("it takes longer than what was asked beside it")
"""The answer of a question that was not waited for. It is never raised, so it keeps no traceback."""


class Ports(Protocol):
    """The ways out of a coroutine of the guards. ``asynchronous`` says whether an exchange may have coroutines."""

    asynchronous: bool

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        """The answer of a method of the exchange."""

    async def together(self, calls: Sequence[Call], spare: float | None) -> list[Any]:
        """The answers of several methods of an exchange that may be asked side by side; for an answer, its error.

        All but the first are waited for *spare* seconds longer than that one, None for as long as they take.
        """

    async def ledger(self, method: Callable[..., T], *args: object) -> T:
        """The answer of a method of the ledger, which may wait for the disk and for other writers."""

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:
        """Acquire *lock*; its token."""

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""


class ThreadPorts:
    """Everything in the calling thread, but for what is asked side by side."""

    asynchronous = False

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        return method(*args)

    async def together(self, calls: Sequence[Call], spare: float | None) -> list[Any]:
        return in_threads([partial(method, *args) for method, args in calls], spare)

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

    async def together(self, calls: Sequence[Call], spare: float | None) -> list[Any]:
        return await in_tasks([self.venue(method, *args) for method, args in calls], spare)

    async def ledger(self, method: Callable[..., T], *args: object) -> T:
        import asyncio  # noqa: PLC0415  # only who awaits pays for it

        return await asyncio.to_thread(method, *args)

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:
        return await lock.acquire_async(timeout)

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415  # as above

        await asyncio.sleep(seconds)


def in_threads(questions: Sequence[Callable[[], T]], spare: float | None = None) -> list[T | PoslockError]:
    """The answers of *questions* asked side by side, the first one here; for an answer, its `PoslockError`.

    All but the first are waited for *spare* seconds longer than that one, None for as long as they take. The threads
    are made anew each time: some that wait for work would be gone in a forked child, which would wait for them. No more
    are asked at a time than a client for threads keeps connections for.
    """
    if len(questions) > _MOST_AT_ONCE:
        return [*in_threads(questions[:_MOST_AT_ONCE], spare), *in_threads(questions[_MOST_AT_ONCE:], spare)]
    first, *others = [_Question(copy_context(), each) for each in questions]
    for each in others:
        each.start()
    first.run()
    ends = None if spare is None else time.monotonic() + spare
    for each in others:
        each.join(None if ends is None else max(0.0, ends - time.monotonic()))
    return [each.answer() for each in (first, *others)]


async def in_tasks(questions: Sequence[Coroutine[Any, Any, T]], spare: float | None = None) -> list[T | PoslockError]:
    """As `in_threads`, in tasks of the running loop; what is not waited for any more is cancelled."""
    import asyncio  # noqa: PLC0415  # as above

    asked = [asyncio.ensure_future(_caught(each)) for each in questions]
    try:
        await asyncio.wait(asked[:1])
        await asyncio.wait(asked, timeout=spare)
        return [each.result() if each.done() else UNHEARD for each in asked]
    finally:
        for each in asked:
            each.cancel()


class _Question(threading.Thread):
    """One of several that are asked side by side. A process does not wait for it in order to end."""

    def __init__(self, context: Context, ask: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._ask: Callable[[], Any] = partial(context.run, ask)
        self._answer: Any = UNHEARD
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._answer = self._ask()
        except PoslockError as error:
            self._answer = error
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is wanted
            self._failure = error

    def answer(self) -> Any:
        if self._failure is not None:
            raise self._failure
        return self._answer


async def _caught(question: Coroutine[Any, Any, T]) -> T | PoslockError:
    try:
        return await question
    except PoslockError as error:
        return error


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that awaits nothing which is not there yet."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the coroutine's return type
    coroutine.close()
    raise RuntimeError("it waits for an event loop")
