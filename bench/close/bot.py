"""A bot in a process of its own, which does what it is told over a pipe, and says when it did it.

Times are CLOCK_MONOTONIC nanoseconds, which are the same in the process of the venue.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from inspect import iscoroutine
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from poslock import AsyncPositionGuard, CcxtExchange, Position, PositionGuard
from poslock.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext
    from sqlite3 import Connection as Rows

VENUES = {"mexc": "Mexc", "binance": "Binance", "bybit": "Bybit", "okx": "Okx"}
"""The classes of the venues' servers, by their modules."""
# For the bare order: ccxt would send it to OKX's endpoint for several, and for cross margin; and it would ask Bybit
# first what the account is.
_OPTIONS = {
    "okx": {"createOrder": "privatePostTradeOrder", "defaultMarginMode": "isolated"},
    "bybit": {"enableUnifiedMargin": False, "enableUnifiedAccount": True},
}
_PATIENCE = 60.0
CONTRACTS, PRICE, STOP_LOSS, TAKE_PROFIT = 40, 60_000, 57_000, 66_000


@dataclass(frozen=True, slots=True)
class Way:
    """How a bot gets at its account: the module of the venue's server, its address, the client's kind."""

    venue: str
    url: str
    asynchronous: bool
    lock_dir: str


class Bot(AbstractContextManager["Bot"]):
    """The other end of the pipe: ``bot("track", symbols)`` is `_Bot.track` there."""

    def __init__(self, way: Way) -> None:
        self._pipe, theirs = _processes().Pipe()
        self._process = _processes().Process(target=_serve, args=(theirs, way), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, *work: Any) -> Any:
        """Tell, and hear that it is done."""
        self.tell(*work)
        return self.hear()

    def tell(self, *work: Any) -> None:
        """Give it something to do."""
        self._pipe.send(work)

    def hear(self) -> Any:
        """The next thing that it says; of what is timed, when that began, and then when it committed to the ledger."""
        if not self._pipe.poll(_PATIENCE):
            raise RuntimeError("a bot said nothing")
        match answer := self._pipe.recv():
            case str():
                raise RuntimeError(f"a bot could not do its work: {answer}")
            case _:
                return answer

    def kill(self) -> None:
        """In the middle of whatever it does."""
        self._process.kill()
        self._process.join(_PATIENCE)

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._pipe.close()


def server(venue: str) -> Any:
    """The class of that venue's server."""
    return getattr(import_module(f"loopback.{venue}"), VENUES[venue])


@cache
def _processes() -> ForkServerContext:
    # Each is a fork of one that has imported all this and done nothing: as new as a new interpreter, and there sooner.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, *(f"loopback.{venue}" for venue in VENUES)])
    return context


def _serve(pipe: Connection, way: Way) -> None:
    with asyncio.Runner() as runner:
        bot = _Bot(way, runner, pipe)
        while True:
            try:
                work, *args = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(getattr(bot, work)(*args))
            except Exception as error:  # noqa: BLE001  # the other side raises it
                pipe.send(f"{work}: {type(error).__name__}: {error}")


class _Bot:
    """One client, one exchange, one guard."""

    def __init__(self, way: Way, runner: asyncio.Runner, pipe: Connection) -> None:
        self._runner, self._pipe, self._is_asynchronous = runner, pipe, way.asynchronous
        client_at = server(way.venue).client_at
        self._client = client_at(way.url, asynchronous=way.asynchronous, options=_OPTIONS.get(way.venue, {}))
        exchange = CcxtExchange(self._client, account="bench")
        self._clock = exchange._client.clock  # noqa: SLF001  # to let time pass on it
        guard: Any = AsyncPositionGuard if way.asynchronous else PositionGuard
        self._guard = guard(exchange, lock_dir=way.lock_dir)
        self._commits = _commits()

    # What is not timed.

    def load(self) -> None:
        """Load the markets."""
        self._client.set_markets(self._run(self._client.fetch_markets))

    def track(self, symbols: list[str]) -> None:
        """Track a position on each of *symbols*."""
        for symbol in symbols:
            size = str(self._client.market(symbol)["contractSize"])
            self._run(self._guard.track, Position(symbol, symbol, "long", CONTRACTS, PRICE, contract_size=size))

    def protect(self, symbols: list[str]) -> None:
        """Rest a stop-loss and a take-profit for each of them."""
        for symbol in symbols:
            self._run(partial(self._guard.modify_position, symbol, stop_loss=STOP_LOSS, take_profit=TAKE_PROFIT))

    def let_pass(self, seconds: int) -> None:
        """Let so much time pass on all clocks by which requests are signed; the venue hangs up meanwhile."""
        tick_ns, milliseconds = self._clock._tick_ns, self._client.milliseconds  # noqa: SLF001
        self._clock._tick_ns = lambda: tick_ns() + seconds * 10**9  # noqa: SLF001
        self._client.milliseconds = lambda: milliseconds() + seconds * 1000
        if self._is_asynchronous:  # a loop that runs notices which connections are closed
            self._run(asyncio.sleep, 0.02)

    def limited(self) -> None:
        """Turn the client's limiter on, in the state in which it is when nothing was asked for a while."""
        self._client.enableRateLimit = True
        self._client.lastRestRequestTimestamp = 0
        if self._is_asynchronous:
            self._client.throttler.config["tokens"] = self._client.throttler.config["capacity"]
            self._client.throttler.timestamps.clear()

    # What is timed.

    def close(self, symbol: str, urgent: bool) -> list[int]:  # noqa: FBT001  # over a pipe
        """Close the position there."""
        return self._timed(partial(self._guard.close_position, symbol, urgent=urgent))

    def close_all(self, symbols: list[str]) -> list[int]:
        """Close all of them."""
        return self._timed(self._guard.close_positions, symbols)

    def order(self, symbol: str, times: int) -> list[int]:
        """Send a market order by the client alone; so often, one after the other."""
        send = partial(self._client.create_order, symbol, "market", "sell", 1, None, {"reduceOnly": True})
        if not self._is_asynchronous:
            return self._timed(lambda: [send() for _ in range(times)])

        async def in_a_row() -> None:
            for _ in range(times):
                await send()

        return self._timed(in_a_row)

    # Inside.

    def _timed(self, work: Callable[..., Any], *args: object) -> list[int]:
        before = len(self._commits)
        if self._is_asynchronous:
            self._run(self._begun, work, args)
        else:
            self._say_when()
            work(*args)
        return self._commits[before:]

    async def _begun(self, work: Callable[..., Any], args: tuple[object, ...]) -> None:
        self._say_when()
        await work(*args)

    def _say_when(self) -> None:
        self._pipe.send(time.monotonic_ns())

    def _run(self, work: Callable[..., Any], *args: object) -> Any:
        answer = work(*args)
        return self._runner.run(answer) if iscoroutine(answer) else answer


def _commits() -> list[int]:
    """When each transaction of a ledger of this process was committed, from now on."""
    times: list[int] = []
    transaction = Database.transaction

    @contextmanager
    def timed(database: Database) -> Iterator[Rows]:
        with transaction(database) as connection:
            yield connection
        times.append(time.monotonic_ns())

    Database.transaction = timed  # type: ignore[assignment, method-assign]  # a process of its own
    return times
