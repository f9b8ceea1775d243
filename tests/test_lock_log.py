"""What the lock says in the log: who waits for whom, and what becomes of a hold; and that silence costs nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockFileError, LockLost, LockTimeout, PositionLock, PositionLockManager
from poslock.errors import Holder
from poslock.lock.files.system import SYSTEM
from systems import Amiss, Clock, elsewhere, failing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PID = os.getpid()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[..., list[tuple[str, str]]]:
    """What the lock has logged since the last look: levels and lines; each line's own fields are *with_fields*."""
    caplog.set_level(logging.DEBUG, "poslock.lock")
    seen = 0

    def told(*with_fields: str) -> list[Any]:
        nonlocal seen
        records = [each for each in caplog.records if each.name == "poslock.lock"][seen:]
        seen += len(records)  # not cleared: what a keeper logs right now would be lost
        assert all((each.position, each.pid) == ("btc-1", PID) for each in records)  # type: ignore[attr-defined]
        fields = [[getattr(each, name, None) for name in with_fields] for each in records]
        return [(each.levelname, each.getMessage(), *own) for each, own in zip(records, fields, strict=True)]

    return told


def test_the_life_of_a_hold_is_told(tmp_path: Path, lines: Any) -> None:
    """Acquired, renewed and released, with the token; a check says nothing."""
    lock = PositionLock("btc-1", lock_dir=Clock().directory(tmp_path / "locks"))
    token = lock.acquire()
    lock.check()
    lock.renew()
    lock.check()
    lock.release()
    assert lines("token", "waited_s") == [
        ("DEBUG", f"acquired position 'btc-1' with token {token} after 0.000 s", token, 0.0),
        ("DEBUG", "renewed position 'btc-1'", token, None),
        ("DEBUG", "released position 'btc-1'", token, None),
    ]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_who_waits_for_whom_is_told_once(lock_dir: str, lines: Any, *, asynchronous: bool) -> None:
    """When the wait begins, however often it is looked again; then when it ends, and how long it took."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), purpose="move the stop")
    waiter = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
    first = holder.acquire()
    ending = threading.Timer(0.3, holder.release)
    ending.start()
    second = asyncio.run(waiter.acquire_async()) if asynchronous else waiter.acquire()
    ending.join()
    acquired, waits, *others = lines("token", "waited_s")
    assert acquired[2] == first
    host = os.uname().nodename
    assert waits[:3] == ("DEBUG", f"waits for position 'btc-1': held by PID {PID} on {host} (move the stop)", None)
    assert 0 <= waits[3] < 0.3
    acquired, released = sorted(others)  # two threads: either may be the first to say it
    assert released[1:3] == ("released position 'btc-1'", first)
    assert acquired[1:3] == (f"acquired position 'btc-1' with token {second} after {acquired[3]:.3f} s", second)
    assert acquired[3] >= 0.25


def test_a_wait_that_is_given_up_is_told(lock_dir: str, lines: Any) -> None:
    """With the seconds for which it went on. Who does not wait does not say so."""
    with PositionLock("btc-1", lock_dir=elsewhere(lock_dir)):
        lines()
        for timeout in (0, 0.05):
            with pytest.raises(LockTimeout):
                PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=timeout).acquire()
        waits, ended = lines("waited_s")
    assert waits[1].startswith("waits for position 'btc-1': held by PID")
    assert ended[:2] == ("DEBUG", "no longer waits for position 'btc-1'")
    assert ended[2] >= 0.05


def test_a_wait_for_a_holder_that_nobody_can_name_is_told(lock_dir: str, lines: Any) -> None:
    """The record cannot be read."""
    with PositionLock("btc-1", lock_dir=lock_dir) as lock:
        path = lock.path
    with open(path, "wb") as file:
        file.write(b"damage")
    lines()
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.05)
    assert lines()[0][1].startswith("waits for position 'btc-1': record is unreadable (")


def test_a_takeover_is_told_as_a_warning(tmp_path: Path, lines: Any) -> None:
    """From whom, instead of the plain line."""
    clock = Clock()
    silent = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=5, purpose="close: stop")
    heir = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"))
    silent.acquire()
    clock.sleep(5)
    token = heir.acquire()
    host = os.uname().nodename
    from_whom = f"PID {PID} on {host} (close: stop)"
    assert lines("token", "waited_s")[1:] == [
        ("WARNING", f"took over position 'btc-1' from {from_whom} with token {token} after 0.000 s", token, 0.0)
    ]


@pytest.mark.parametrize("found_by", ["check", "renew", "release"])
def test_a_loss_is_told_once(tmp_path: Path, lines: Any, found_by: str) -> None:
    """By what finds it first, with the token that was lost and who has the position now; not by what comes after."""
    clock = Clock()
    lost = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=5)
    token = lost.acquire()
    clock.sleep(5)
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks")).acquire()
    lines()
    for call in (found_by, "check", "renew", "release"):
        with pytest.raises(LockLost):
            getattr(lost, call)()
    ((level, line, carried),) = lines("token")
    assert (level, carried) == ("WARNING", token)
    by_lease = "lost position 'btc-1': the lease of 5 s has run out"
    by_record = f"lost position 'btc-1': it was taken over by PID {PID} on {os.uname().nodename}"
    assert line == (by_lease if found_by == "check" else by_record)


def test_the_next_loss_of_the_same_object_is_told_too(tmp_path: Path, lines: Any) -> None:
    """Each hold has its own end."""
    clock = Clock()
    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=5)
    for _ in range(2):
        lock.acquire()
        clock.sleep(5)
        with pytest.raises(LockLost):
            lock.check()
        lock.release()
    assert [line for level, line in lines() if level == "WARNING"] == [
        "lost position 'btc-1': the lease of 5 s has run out"
    ] * 2


def test_what_was_never_held_is_not_lost(tmp_path: Path, lines: Any) -> None:
    """Nor what a block has released itself."""
    lock = PositionLock("btc-1", lock_dir=tmp_path / "locks")
    for call in (lock.check, lock.renew, lock.release):
        with pytest.raises(LockLost):
            call()
    assert lines() == []


def test_a_loss_inside_a_block_is_told_once_and_an_error_at_its_end_too(tmp_path: Path, lines: Any) -> None:
    """The block's own error is raised: the log is the only place for what the release found."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    with pytest.raises(ZeroDivisionError), PositionLock("btc-1", lock_dir=directory, stale_after=5):
        clock.sleep(5)
        PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks")).acquire()
        lines()
        _ = 1 / 0
    assert [level for level, _ in lines()] == ["WARNING"]
    clock.sleep(60)
    with pytest.raises(ZeroDivisionError), PositionLock("btc-1", lock_dir=directory) as lock:
        lines()
        lock._transitions.release = failing(LockFileError("btc-1", "x", "is gone", "look"))  # type: ignore[method-assign]
        _ = 1 / 0
    assert lines() == [("WARNING", "position 'btc-1' is not released: x: is gone; look")]


def test_a_kept_lease_that_is_lost_is_told_once(lock_dir: str, lines: Any) -> None:
    """By the thread that renews it, without waiting for the next check."""
    lock = PositionLock("btc-1", lock_dir=lock_dir, stale_after=2, keep_alive=60)
    lock.acquire()
    assert lock._keeper is not None
    PositionLock("btc-1", lock_dir=elsewhere(lock_dir))._transitions.clear(force=True)
    told: list[Any] = []
    ends = SYSTEM.monotonic_ns() + 20 * 10**9
    while not (told := [*told, *(each for each in lines() if each[0] == "WARNING")]):
        assert SYSTEM.monotonic_ns() < ends
    with pytest.raises(LockLost):
        lock.release()
    told += [each for each in lines() if each[0] == "WARNING"]
    assert told == [("WARNING", "lost position 'btc-1': it was taken over or cleared since")]


def test_a_release_during_a_renewal_is_no_loss(lock_dir: str, lines: Any) -> None:
    """The keeper is about to renew what its owner has just released."""
    begun, released = threading.Event(), threading.Event()
    lock = PositionLock("btc-1", lock_dir=lock_dir, stale_after=2, keep_alive=60)
    renew, release = lock._transitions.renew, lock._transitions.release

    def late(grant: Any) -> Any:
        begun.set()
        assert released.wait(20)
        return renew(grant)

    def first(grant: Any, **options: bool) -> None:
        release(grant, **options)
        released.set()
        keeper.join(20)

    lock._transitions.renew, lock._transitions.release = late, first  # type: ignore[method-assign]
    lock.acquire()
    (keeper,) = (each for each in threading.enumerate() if each.name == "poslock keep-alive btc-1")
    assert begun.wait(20)
    lock.release()
    assert [level for level, _ in lines()] == ["DEBUG", "DEBUG"]


def test_the_manager_says_how_long_it_waited(lock_dir: str, lines: Any) -> None:
    """In the warning that stands for its False."""

    async def main() -> None:
        assert not await PositionLockManager(elsewhere(lock_dir), timeout=0.05).acquire("btc-1")

    with PositionLock("btc-1", lock_dir=elsewhere(lock_dir)):
        asyncio.run(main())
        (warning,) = (each for each in lines("waited_s") if each[0] == "WARNING")
    assert warning[2] >= 0.05


@pytest.mark.parametrize("disabled", ["by level", "altogether"])
def test_nothing_is_formatted_when_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, disabled: str
) -> None:
    """No holder and no id becomes text in a life with a wait, a takeover and a loss."""

    def never(*_: object) -> str:
        raise AssertionError("formatted")

    for name in ("position_lock", "contender"):
        monkeypatch.setattr(f"poslock.lock.{name}.quoted", never)
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    caplog.set_level(logging.CRITICAL if disabled == "by level" else logging.DEBUG, "poslock.lock")
    if disabled == "altogether":
        logging.disable()
    try:
        lock = PositionLock("btc-1", lock_dir=directory, stale_after=5)
        waiter = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"))
        lock.acquire()
        lock.renew()
        with monkeypatch.context() as patch:
            patch.setattr(Holder, "__str__", never)
            waiter.acquire()  # the clock goes on while it waits, and the lease runs out
            waiter.release()
        with pytest.raises(LockLost):
            lock.release()
    finally:
        logging.disable(logging.NOTSET)
    assert caplog.records == []


def test_waiting_in_silence_asks_the_system_for_nothing_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The PID is looked up for a listener only."""
    caplog.set_level(logging.WARNING, "poslock.lock")
    asked: list[int] = []

    def process_id() -> int:
        asked.append(1)
        return PID

    directory = elsewhere(tmp_path / "locks")
    directory.system = Amiss(process_id=process_id)
    with PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks")):
        waiter = PositionLock("btc-1", lock_dir=directory, timeout=0.05)
        with pytest.raises(LockTimeout):
            waiter.acquire()
    assert asked == []
