"""An error in the middle of anything, as a signal handler raises it: what it leaves behind."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockAlreadyHeld, LockLost, LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
from systems import Clock, descriptors_of, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

# What is raised in the callback of a weak reference, or as Python ends a generator by itself, it only speaks of.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

_LEASE = 30.0
_FOR_GOOD = 3  # descriptors: the presence, its life line, and the lock file that stays open
_EVERY = 7  # of all opcodes
_MOST_HELD = 12
_MOST_MISSED = 3  # in a row: there are no more steps. Of one in `__del__` Python only speaks.
_ALARMS = 600


class Struck(Exception):
    """What a signal handler raises."""


class Strike:
    """Raises at one of the steps that the lock's own code takes."""

    def __init__(self, at: int, *, opcodes: bool) -> None:
        self.left = at
        self.where = ("", 0)
        self._opcodes = opcodes

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_globals.get("__name__", "").startswith("poslock.lock"):
            return None
        self.where = (frame.f_code.co_name, frame.f_lineno)
        frame.f_trace_opcodes = self._opcodes
        if event == ("opcode" if self._opcodes else "line"):
            self.left -= 1
            if self.left < 0:
                raise Struck
        return self


def plainly(lock: PositionLock) -> None:
    lock.acquire(timeout=0)
    lock.renew()
    lock.check()
    lock.release()


def in_a_block(lock: PositionLock) -> None:
    with lock:
        lock.check()


def in_a_task(lock: PositionLock) -> None:
    async def work() -> None:
        async with lock:
            lock.check()

    asyncio.run(work())


def in_vain(lock: PositionLock) -> None:
    with suppress(LockTimeout):
        lock.acquire(timeout=0.01)


def struck(work: Callable[[PositionLock], None], lock: PositionLock, strike: Strike) -> bool:
    """Whether it came to that."""
    sys.settrace(strike)
    try:
        work(lock)
    except Struck:
        return True
    finally:
        sys.settrace(None)
        # Python calls a signal handler after a call or a jump, so none comes between the end of a block and its
        # `__exit__`, as a strike does. What that leaves locked would be locked for all threads of the tests.
        while SYSTEM._noting._is_owned():  # type: ignore[attr-defined]  # of every RLock
            SYSTEM._noting.release()
    return False


def steps(every: int, *, opcodes: bool) -> Iterator[tuple[Strike, Callable[..., bool]]]:
    """A strike at one step after the other, and what tries it, until there are no more steps."""
    step = missed = 0
    while missed < _MOST_MISSED:
        strike, hits = Strike(step * every, opcodes=opcodes), list[bool]()

        def strikes_it(
            work: Callable[[PositionLock], None], lock: PositionLock, strike: Strike = strike, hits: list[bool] = hits
        ) -> bool:
            hits.append(struck(work, lock, strike))
            return hits[0]

        yield strike, strikes_it
        step, missed = step + 1, 0 if hits[0] else missed + 1


@pytest.fixture
def few_objects() -> Iterator[None]:
    """Garbage is looked for hundreds of times: not among all that the tests before have left."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("few_objects")
@pytest.mark.parametrize(
    ("work", "is_stale", "opcodes"),
    [
        (plainly, False, False),
        (in_a_block, False, False),
        (in_a_block, True, False),
        (in_a_block, True, True),
        (in_a_task, True, False),
    ],
)
def test_interrupted_anywhere_it_can_be_used_again(
    tmp_path: Path, work: Callable[[PositionLock], None], *, is_stale: bool, opcodes: bool
) -> None:
    """After it the lock can be acquired, or it is held in truth, for a lease; no OS lock and no descriptor is left."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    other = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0)
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=_LEASE, timeout=0)
    strikes = held = 0
    for strike, strikes_it in steps(_EVERY if opcodes else 1, opcodes=opcodes):
        other.acquire()
        if is_stale:
            clock.sleep(_LEASE + 1)
            other._grant = None  # it has hung
        else:
            other.release()
        if not strikes_it(work, lock):
            continue
        strikes += 1
        assert_not_locked(lock.path)
        if len(descriptors_of(directory.path)) > 2 * _FOR_GOOD:
            gc.collect()  # a task and what it has raised have each other
            assert len(descriptors_of(directory.path)) <= 2 * _FOR_GOOD, strike.where
        try:
            lock.acquire()
        except LockAlreadyHeld:
            held += 1
            assert lock.token is not None
            lock.check()
            with pytest.raises(LockTimeout):
                other.acquire()
            clock.sleep(_LEASE + 1)
            lock.acquire()
        lock.check()
        lock.release()
    assert strikes > 100
    # In `with`, where it ends: Python may call the signal handler before a line of ours.
    assert work is plainly or held <= _MOST_HELD, held


def test_interrupted_while_it_waits_it_can_be_used_again(tmp_path: Path) -> None:
    """Somebody holds the lock until then; what is left in the queue delays nobody for longer than a moment."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    other = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=1)
    lock = PositionLock("btc-1", lock_dir=directory, timeout=1)
    strikes = 0
    for _, strikes_it in steps(_EVERY, opcodes=False):
        other.acquire()
        strikes += strikes_it(in_vain, lock)
        assert_not_locked(lock.path)
        assert len(descriptors_of(directory.path)) <= 2 * _FOR_GOOD
        other.check()
        other.release()
        with lock:
            lock.check()
    assert strikes > _MOST_HELD


def test_interrupted_as_it_gets_what_it_waited_for_it_holds_nothing(tmp_path: Path) -> None:
    """Granted, and interrupted before it knows: the next one does not wait for its lease."""
    clock = Clock()
    pending: list[PositionLock] = []

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        strike = sys.gettrace()
        sys.settrace(None)
        while pending:
            pending.pop().release()
        sys.settrace(strike)

    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks", sleep=sleep), timeout=1)
    other = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0)
    strikes = 0
    for _, strikes_it in steps(_EVERY, opcodes=False):
        other.acquire()
        pending.append(other)
        strikes += strikes_it(in_turn, lock)
        while pending:
            pending.pop().release()
        if lock.held:  # it was interrupted as it began to release it, and knows that it holds it
            lock.release()
        with other:
            other.check()
    assert strikes > 100


def in_turn(lock: PositionLock) -> None:
    lock.acquire()
    lock.release()


def test_a_hold_that_ran_out_is_acquired_anew_by_its_owner_alone(tmp_path: Path) -> None:
    """Another thread that did so would let the first one pass check() again, who does not know of its loss yet."""
    clock = Clock()
    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=1, timeout=0)
    lock.acquire()
    clock.sleep(2)
    errors: list[Exception] = []

    def intrude() -> None:
        try:
            lock.acquire()
        except LockAlreadyHeld as error:
            errors.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert len(errors) == 1
    with pytest.raises(LockLost):
        lock.check()
    lock.acquire()
    lock.check()


def assert_not_locked(path: str) -> None:
    with suppress(FileNotFoundError), open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture
def alarm() -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_alarms_leave_a_lock_that_can_be_used(lock_dir: str) -> None:
    """Real ones, at random, with what they raise: the object is never held without a token, nothing leaks."""
    chance, lock = random.Random(1), PositionLock("btc-1", lock_dir=lock_dir, stale_after=0.2, timeout=5)  # noqa: S311  # to be repeated
    with lock:
        before = len(os.listdir("/proc/self/fd"))
    rang = 0
    for _ in range(_ALARMS):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00002, 0.0004))
            with lock:
                signal.setitimer(signal.ITIMER_REAL, 0)
                lock.check()
        except Struck:
            rang += 1
        except LockAlreadyHeld:
            assert lock.token is not None
            time.sleep(0.2)  # its lease
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert rang > _ALARMS // 20
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    with PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=5):
        pass


class Broken(logging.Filter):
    """A filter with a mistake."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise ZeroDivisionError


@pytest.fixture
def broken_filter() -> Iterator[None]:
    logger, broken = logging.getLogger("poslock.lock"), Broken()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addFilter(broken)
    try:
        yield
    finally:
        logger.removeFilter(broken)
        logger.setLevel(level)


@pytest.mark.usefixtures("broken_filter")
def test_a_filter_that_raises_strands_no_takeover(tmp_path: Path) -> None:
    """The log decides nothing: who takes over holds, waits and releases as if nothing had been logged."""
    clock = Clock()
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=1).acquire()
    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=5, stale_after=1)
    lock.acquire()
    assert lock.recovered_from is not None
    lock.renew()
    clock.sleep(2)
    with pytest.raises(Exception, match="has run out"):
        lock.check()
    asyncio.run(PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=5).acquire_async())


@pytest.mark.usefixtures("broken_filter")
def test_an_alarm_while_it_logs_is_for_the_bot(lock_dir: str, alarm: None) -> None:
    """It ends the acquire, which holds nothing then."""
    logger = logging.getLogger("poslock.lock")
    ringing = Ringing()
    logger.filters.insert(0, ringing)
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    try:
        with pytest.raises(Struck):
            lock.acquire()
    finally:
        logger.removeFilter(ringing)
    assert lock.token is None
    PositionLock("btc-1", lock_dir=LockDirectory(lock_dir, elsewhere(lock_dir).system), timeout=0).acquire()


class Ringing(logging.Filter):
    """The alarm rings while something is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        signal.raise_signal(signal.SIGALRM)
        return True
