"""The guard for tasks: nothing blocks the loop, and a cancelled call leaves nothing that `recover` does not finish.

What it has in common with the one for threads is tested there, with both.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from awaited import Coroutines
from faults import StruckLedger
from poslock import (
    AsyncPositionGuard,
    ClosedPosition,
    LockTimeout,
    PaperExchange,
    PositionAlreadyClosingError,
    PositionLock,
)
from poslock.exchange.port import CloseOrder, Leg
from poslock.lock.record import Record
from systems import elsewhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from conftest import Account

REQUESTS = ["holding", "place", "open_orders", "cancel", "trades", "funding"]
READS_FIRST = ["holding", "trades", "price"]
BOUND = 20.0


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * BOUND):
            await main

    asyncio.run(bounded())


class Gate:
    """A place at which a thread waits until it is let go."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._let_go = threading.Event()
        self._done = threading.Event()
        self.passed: list[int] = []

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """*call*, but who makes it waits at the gate first."""

        def held_up(*args: object) -> Any:
            self._arrived.set()
            self.passed.append(threading.get_ident())
            assert self._let_go.wait(BOUND), "nobody else went on meanwhile"
            try:
                return call(*args)
            finally:
                self._done.set()

        return held_up

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._arrived.wait, BOUND)

    def open(self) -> None:
        self._let_go.set()

    async def passed_through(self) -> None:
        """Open it, until somebody has made the call behind it."""
        self.open()
        assert await asyncio.to_thread(self._done.wait, BOUND)


class Hanging(Coroutines):
    """An exchange of coroutines, one of which hangs for ever, before or after its request is answered."""

    def __init__(self, exchange: Any, method: str, when: str = "before") -> None:
        super().__init__(exchange)
        self._hangs = (method, when)
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        attribute = super().__getattr__(name)
        method, when = self._hangs
        if name != method:
            return attribute

        async def hang(*args: object) -> Any:
            answer = await attribute(*args) if when == "after" else None
            self.reached.set()
            await self.go_on.wait()
            return answer if when == "after" else await attribute(*args)

        return hang


def guard_of(account: Account, exchange: Any = None, **options: Any) -> AsyncPositionGuard:
    exchange = exchange or Coroutines(account.exchange)
    return AsyncPositionGuard(exchange, lock_dir=account.lock_dir, **options)


def held_up_ledger(account: Account, write: str, gate: Gate) -> StruckLedger:
    ledger = StruckLedger(f"{account.lock_dir}/ledger.db")
    setattr(ledger, write, gate.before(getattr(ledger, write)))
    return ledger


async def until_waited_for(account: Account) -> None:
    """Until somebody waits for the lock."""
    file = PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir))._transitions.entry
    async with asyncio.timeout(BOUND):
        while not (isinstance(content := file.peek(), Record) and content.waiting):  # noqa: ASYNC110  # it is a file
            await asyncio.sleep(0.005)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def assert_lock_is_free(account: Account) -> None:
    with PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), timeout=0) as lock:
        assert lock.recovered_from is None


@pytest.mark.parametrize("write", StruckLedger.OF_A_CLOSE)
def test_a_commit_that_takes_long_does_not_block_the_loop(account: Account, write: str) -> None:
    """While a write of the close is held up, another task goes on: it is the one that lets the write go."""
    position = account.open()
    gate = Gate()

    async def main() -> None:
        guard = guard_of(account, ledger=held_up_ledger(account, write, gate))
        task = asyncio.create_task(guard.close_position("btc-1"))
        await gate.reached()
        gate.open()
        await task

    run(main())
    account.assert_closed_once(position)


CALLS: dict[str, Callable[[AsyncPositionGuard], Awaitable[Any]]] = {
    "close_position": lambda guard: guard.close_position("btc-1"),
    "modify_position": lambda guard: guard.modify_position("btc-1", stop_loss=56_000),
    "closing": lambda guard: guard.closing("btc-1").__aenter__(),
    "reading": lambda guard: guard.reading("btc-1").__aenter__(),
}


@pytest.mark.parametrize("call", CALLS)
def test_waiting_for_the_lock_does_not_block_the_loop(account: Account, call: str) -> None:
    """Another task goes on: it is the one that releases the lock."""
    account.open()

    async def main() -> None:
        guard = guard_of(account, timeout=BOUND)
        lock = PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose="modify: a test")
        lock.acquire()
        task = asyncio.create_task(_done(CALLS[call](guard)))
        await until_waited_for(account)
        lock.release()
        await task

    run(main())


async def _done(call: Awaitable[Any]) -> None:
    await call


@pytest.mark.parametrize("call", CALLS)
def test_a_cancelled_wait_for_the_lock_leaves_nothing(account: Account, call: str) -> None:
    """Nothing held, nothing begun, and no place in the queue."""
    account.open()

    async def main() -> None:
        with PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose="modify: a test"):
            task = asyncio.create_task(_done(CALLS[call](guard_of(account))))
            await until_waited_for(account)
            await cancelled(task)

    run(main())
    assert_lock_is_free(account)
    assert account.guard.position("btc-1").state == "open"
    assert account.guard.recover() == []


def test_of_two_tasks_one_closes_and_one_is_told(account: Account) -> None:
    """Of one process, at the same time, with one guard or two."""
    position = account.open()

    async def main() -> None:
        guard = guard_of(account)
        calls = [each.close_position("btc-1") for each in (guard, guard, guard_of(account))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, ClosedPosition) for each in outcomes) == 1
        told = [each.state for each in outcomes if isinstance(each, PositionAlreadyClosingError)]
        assert told == ["closed", "closed"]

    run(main())
    account.assert_closed_once(position)


def test_a_task_that_does_not_wait_is_told_by_name_who_is_closing(account: Account) -> None:
    """The other task of its own process, in the middle of its order."""
    position = account.open()

    async def main() -> None:
        exchange = Hanging(account.exchange, "place")
        task = asyncio.create_task(guard_of(account, exchange).close_position("btc-1", reason="stop"))
        await exchange.reached.wait()
        hasty = guard_of(account, timeout=0)
        with pytest.raises(PositionAlreadyClosingError) as caught:
            await hasty.close_position("btc-1")
        assert caught.value.state == "closing"
        assert caught.value.holder is not None
        assert caught.value.holder.purpose == "close: stop"
        with pytest.raises(LockTimeout):
            async with hasty.reading("btc-1"):
                pass
        exchange.go_on.set()
        await task

    run(main())
    account.assert_closed_once(position)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", REQUESTS)
def test_a_close_cancelled_at_a_request_is_recovered(account: Account, method: str, when: str) -> None:
    """Whether the venue has had it or not: the lock is free at once, and recover ends in one order and one booking.

    Cancelled in its first look it has begun nothing.
    """
    position = account.open()

    async def main() -> None:
        exchange = Hanging(account.exchange, method, when)
        # With the lease ends the time in which a cancelled order may still arrive.
        task = asyncio.create_task(guard_of(account, exchange, stale_after=1.0).close_position("btc-1"))
        await exchange.reached.wait()
        await cancelled(task)
        assert_lock_is_free(account)

    run(main())
    recoveries = account.guard.recover()
    assert [each.error for each in recoveries] == ([] if method in {"holding", "trades"} else [None])
    if not recoveries:
        account.guard.close_position("btc-1")
    account.assert_closed_once(position)


@pytest.mark.parametrize("write", StruckLedger.OF_A_CLOSE)
def test_a_close_cancelled_at_a_commit_is_recovered(account: Account, write: str) -> None:
    """The write goes on in its thread, and counts; the lock is free at once."""
    position = account.open()
    gate = Gate()

    async def main() -> None:
        guard = guard_of(account, ledger=held_up_ledger(account, write, gate), stale_after=1.0)
        task = asyncio.create_task(guard.close_position("btc-1"))
        await gate.reached()
        await cancelled(task)
        assert_lock_is_free(account)
        gate.open()

    run(main())  # until the thread is done
    recoveries = account.guard.recover()
    assert [each.error for each in recoveries] == ([] if write == "book" else [None])
    account.assert_closed_once(position)


@pytest.mark.parametrize("write", StruckLedger.OF_A_CLOSE)
def test_a_commit_that_comes_after_the_next_owner_is_refused(account: Account, write: str) -> None:
    """Cancelled, and taken over before the thread gets on with the write: nothing of it is written."""
    position = account.open()
    gate = Gate()

    async def main() -> None:
        guard = guard_of(account, ledger=held_up_ledger(account, write, gate), stale_after=1.0)
        task = asyncio.create_task(guard.close_position("btc-1"))
        await gate.reached()
        await cancelled(task)
        exchange = Hanging(account.exchange, "place")
        closing = asyncio.create_task(guard_of(account, exchange).close_position("btc-1"))
        if write == "sending":  # the step is the right one even then, only the token is too old
            await exchange.reached.wait()
        else:
            exchange.go_on.set()
            await closing
        written = account.rows("SELECT * FROM audit")
        await gate.passed_through()
        assert account.rows("SELECT * FROM audit") == written
        exchange.go_on.set()
        await closing

    run(main())
    account.assert_closed_once(position)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", [*READS_FIRST, "place_stop", "open_orders", "cancel"])
def test_a_change_cancelled_at_a_request_leaves_one_stop_loss(account: Account, method: str, when: str) -> None:
    """The old one if it was not begun yet, else the new one once it is recovered; the lock is free at once."""
    position = account.open()

    async def main() -> None:
        exchange = Hanging(account.exchange, method, when)
        guard = guard_of(account, exchange, stale_after=1.0)
        task = asyncio.create_task(guard.modify_position("btc-1", stop_loss=56_000))
        await exchange.reached.wait()
        await cancelled(task)
        assert_lock_is_free(account)

    run(main())
    assert [each.error for each in account.guard.recover()] == ([] if method in READS_FIRST else [None])
    resting = account.exchange.open_orders(Leg(position.symbol, position.side))
    stops = [order.trigger_price for order in resting if order.family == "stop_loss"]
    assert stops == [57_000 if method in READS_FIRST else 56_000]


def test_an_exchange_without_coroutines_is_asked_in_threads(account: Account) -> None:
    """Each of its requests may take its time; the loop goes on, and lets it go."""
    position = account.open()
    gate = Gate()
    exchange: Any = PaperExchange(account.exchange_path)
    for method in REQUESTS:
        setattr(exchange, method, gate.before(getattr(exchange, method)))

    async def main() -> None:
        task = asyncio.create_task(guard_of(account, exchange).close_position("btc-1"))
        await gate.reached()
        gate.open()
        await task

    run(main())
    assert len(gate.passed) > len(REQUESTS)
    assert threading.get_ident() not in gate.passed
    account.assert_closed_once(position)


def test_coroutines_behind_plain_functions_are_awaited_too(account: Account) -> None:
    """As with a decorator that knows nothing of coroutines."""
    position = account.open()

    class Decorated(Coroutines):
        def __getattr__(self, name: str) -> Any:
            attribute = super().__getattr__(name)

            def plain(*args: object) -> Any:
                return attribute(*args)

            return plain if callable(attribute) else attribute

    async def main() -> None:
        await guard_of(account, Decorated(account.exchange)).close_position("btc-1")

    run(main())
    account.assert_closed_once(position)


def test_an_order_under_way_in_a_thread_goes_on_when_its_task_is_cancelled(account: Account) -> None:
    """It arrives while somebody else recovers, who waits for as long as it can, and sends no second one."""
    position = account.open()
    gate, asked = Gate(), threading.Semaphore(0)
    exchange: Any = PaperExchange(account.exchange_path)
    exchange.place = gate.before(exchange.place)
    others: Any = PaperExchange(account.exchange_path)

    def order(leg: Leg, client_order_id: str) -> Any:
        asked.release()
        return account.exchange.order(leg, client_order_id)

    def place(order: CloseOrder) -> None:
        raise AssertionError("a second order")

    others.order, others.place = order, place

    async def main() -> None:
        task = asyncio.create_task(guard_of(account, exchange).close_position("btc-1"))
        await gate.reached()
        await cancelled(task)
        recovering = asyncio.create_task(guard_of(account, others).recover())
        for _ in range(5):
            assert await asyncio.to_thread(asked.acquire, timeout=BOUND), "it does not ask again"
        gate.open()
        (recovery,) = await recovering
        assert recovery.error is None

    run(main())
    account.assert_closed_once(position)


def test_a_cancelled_block_gives_the_lock_back(account: Account) -> None:
    """Of a reader at once, and of an order of the bot's own, which recover goes on with."""
    position = account.open()

    async def read(guard: AsyncPositionGuard, inside: asyncio.Event) -> None:
        async with guard.reading("btc-1"):
            inside.set()
            await asyncio.Event().wait()

    async def close(guard: AsyncPositionGuard, inside: asyncio.Event) -> None:
        async with guard.closing("btc-1") as closing:
            sending = await closing.sending()
            signed_at_ms, window_ms = sending.signed_at_ms, sending.receive_window_ms
            leg, client_id = Leg(position.symbol, position.side), closing.client_order_id
            account.exchange.place(CloseOrder(leg, position.contracts, client_id, signed_at_ms, window_ms))
            inside.set()
            await asyncio.Event().wait()

    async def main() -> None:
        for block in (read, close):
            inside = asyncio.Event()
            task = asyncio.create_task(block(guard_of(account), inside))
            await inside.wait()
            await cancelled(task)
            assert_lock_is_free(account)

    run(main())
    (recovery,) = account.guard.recover()
    assert recovery.closed is not None
    account.assert_closed_once(position)
