"""The guard for tasks, called as if it was the one for threads, so that the same tests go for both."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from inspect import iscoroutine, iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from poslock import AsyncPositionGuard, PositionGuard
from poslock.guard.async_guard import AsyncClosing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def guard_on(exchange: Any, *, asynchronous: bool, **options: Any) -> PositionGuard:
    """A guard for threads; or one for tasks, called in the same way, on an exchange whose requests are coroutines."""
    if not asynchronous:
        return PositionGuard(exchange, **options)
    if iscoroutinefunction(exchange.holding):
        return cast("PositionGuard", Awaited(AsyncPositionGuard(exchange, **options), one_session(exchange)))
    return cast("PositionGuard", Awaited(AsyncPositionGuard(Coroutines(exchange), **options)))


def one_session(exchange: Any) -> Callable[..., Any]:
    """Runs a coroutine in a loop of its own, with the connections of a real client open as long as it lasts."""

    async def connected(coroutine: Any) -> Any:
        client = exchange._client.ccxt
        # Of another loop: a client keeps to the first one that it saw.
        client.asyncio_loop = client.throttler.loop = asyncio.get_running_loop()
        client.timeout_on_exit = 0
        try:
            return await coroutine
        finally:
            await client.close()
            client.closed_by_user = False

    return lambda coroutine: asyncio.run(connected(coroutine))


class Awaited:
    """The object behind it, with calls that run in an event loop until they are done."""

    def __init__(self, awaitable: Any, run: Callable[..., Any] = asyncio.run) -> None:
        self._behind = awaitable
        self._run = run

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._behind, name)
        return self._awaited(attribute) if callable(attribute) else attribute

    def _awaited(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **options: object) -> Any:
            answer = method(*args, **options)
            if isinstance(answer, AbstractAsyncContextManager):
                return _entered(answer)
            return self._run(answer) if iscoroutine(answer) else answer

        return call


@contextmanager
def _entered(block: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
    """All that happens between its two ends happens in one loop."""
    with asyncio.Runner() as runner, ExitStack() as stack:
        inside = runner.run(_coroutine(block.__aenter__))
        stack.push(lambda *error: runner.run(_coroutine(block.__aexit__, *error)))
        yield Awaited(inside, runner.run) if isinstance(inside, AsyncClosing) else inside


async def _coroutine(method: Callable[..., Any], *args: object) -> Any:
    return await method(*args)


class Coroutines:
    """Any exchange as an `AsyncExchange`: each request lets the loop go on first; the clock is asked as ever."""

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.exchange, name)
        if name == "time_ms" or not callable(attribute):
            return attribute

        async def request(*args: object) -> object:
            await asyncio.sleep(0)
            return attribute(*args)

        return request
