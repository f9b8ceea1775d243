"""Of many who wait for one close, those who do not get to close learn it together, without the lock."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from awaited import Coroutines
from faults import StruckLedger
from poslock import AsyncPositionGuard, PositionAlreadyClosingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account, Children
    from processes import Child

OTHERS = 31
MOST_GRANTS = 3
LEASE = 600.0  # nothing here ends by it
BEFORE_BOOKING = {"ledger": [{"method": "book", "when": "before", "what": "stop"}]}


@pytest.mark.parametrize("ends", ["booked", "dead"])
def test_who_waits_for_a_close_learns_that_it_is_booked_without_the_lock(
    start: Children, account: Account, ends: str
) -> None:
    """31 processes wait for one; when it has booked, or one of them in its place, few of them get the lock."""
    position = account.open()
    closer, crowd = _all_but_booked(start, account), _crowd(start, account)
    closer.resume() if ends == "booked" else closer.kill()
    told = [crowd.hear() for _ in range(OTHERS)]
    outcomes = Counter(each["outcome"] for each in told)
    takes_over = ends == "dead"
    assert outcomes == Counter({"already closed": OTHERS - takes_over, "booked": int(takes_over)}) - Counter()
    assert sum(each["granted"] for each in told) <= MOST_GRANTS
    account.assert_closed_once(position)


def _all_but_booked(start: Children, account: Account) -> Child:
    """A process that was stopped right before it books its close."""
    closer = start("close", **account.of_child(), positions=["btc-1"], lease=LEASE, strikes=BEFORE_BOOKING)
    closer.hear()
    closer.tell()
    closer.wait_stopped()
    return closer


def _crowd(start: Children, account: Account) -> Child:
    """Processes that all wait for the lock."""
    crowd = start("crowd", **account.of_child(), size=OTHERS, lease=LEASE)
    assert [crowd.hear() for _ in range(OTHERS)] == [{"waits": True}] * OTHERS
    return crowd


def test_tasks_that_wait_for_a_close_learn_that_it_is_booked_without_the_lock(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """As processes do."""
    position = account.open()
    caplog.set_level(logging.DEBUG, "poslock.lock")
    booking, go_on = threading.Event(), threading.Event()
    ledger = StruckLedger(f"{account.lock_dir}/ledger.db")
    setattr(ledger, "book", _held_up(ledger.book, booking, go_on))  # noqa: B010  # mypy knows it as a method

    def heard(what: str) -> int:
        return sum(each.msg.startswith(what) for each in caplog.records)

    async def main() -> list[object]:
        guard = AsyncPositionGuard(
            Coroutines(account.exchange), lock_dir=account.lock_dir, ledger=ledger, timeout=60, stale_after=LEASE
        )
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            closer = group.create_task(guard.close_position("btc-1"))
            assert await asyncio.to_thread(booking.wait, 20)
            others = [group.create_task(_told(guard)) for _ in range(OTHERS)]
            while heard("waits") < OTHERS:  # noqa: ASYNC110  # it is a log
                await asyncio.sleep(0.005)
            go_on.set()
            await closer
            return [await each for each in others]

    try:
        assert asyncio.run(main()) == ["closed"] * OTHERS
    finally:
        go_on.set()
    assert heard("acquired") <= 1 + MOST_GRANTS
    account.assert_closed_once(position)


def _held_up(call: Callable[..., object], arrived: threading.Event, go_on: threading.Event) -> Callable[..., object]:
    def held_up(*arguments: object) -> object:
        arrived.set()
        assert go_on.wait(60)
        return call(*arguments)

    return held_up


async def _told(guard: AsyncPositionGuard) -> str:
    with pytest.raises(PositionAlreadyClosingError) as caught:
        await guard.close_position("btc-1")
    return caught.value.state
