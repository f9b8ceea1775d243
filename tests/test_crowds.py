"""Many who want one lock: they are served in the order of arrival, and nobody is woken whom it does not concern."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from errno import EMFILE
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.pipes import LifeLine, watched
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import MAX_WAITING, Record, Waiting
from systems import Amiss, descriptors_of, elsewhere, failing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Children

CROWD = 40
_PATIENCE = 60.0


def queue(lock_dir: str) -> tuple[Waiting, ...]:
    content = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))._transitions.entry.peek()
    return content.waiting if isinstance(content, Record) else ()


def until_queued(lock_dir: str, number: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while len(queue(lock_dir)) != number:
        assert time.monotonic() < deadline, f"{len(queue(lock_dir))} wait"
        time.sleep(0.002)


def test_forty_processes_are_served_in_the_order_of_arrival(start: Children, lock_dir: str) -> None:
    """Each takes its place after the one before; then all go, and the tokens say in which order they were in."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    crowd = start("queue", lock_dir=lock_dir, position="btc-1", size=CROWD)
    crowd.hear()
    for number in range(CROWD):
        assert crowd.ask("next") == {"forked": number}
        until_queued(lock_dir, number + 1)
    holder.release()
    told = [crowd.hear() for _ in range(CROWD)]
    assert [each["number"] for each in sorted(told, key=lambda each: int(each["token"]))] == list(range(CROWD))
    assert queue(lock_dir) == ()


class Counted:
    """Waiters as of processes of their own, each of which counts how often it is rung and how often it looks."""

    def __init__(self, lock_dir: str) -> None:
        self.woken: dict[str, int] = {}
        self.granted: list[str] = []
        self._lock_dir = lock_dir
        self._go_on = {"": threading.Event()}
        self._threads: list[threading.Thread] = []

    def wait(self, name: str, **options: Any) -> None:
        """Let one more wait; it holds until it is told to let go."""
        before = len(queue(self._lock_dir))
        self.woken[name], self._go_on[name] = 0, threading.Event()
        directory = LockDirectory(self._lock_dir, Amiss(wait=lambda *asked: self._waited(name, *asked)))
        lock = PositionLock("btc-1", lock_dir=directory, **options)
        self._threads.append(threading.Thread(target=self._run, args=(name, lock)))
        self._threads[-1].start()
        until_queued(self._lock_dir, before + 1)

    def _run(self, name: str, lock: PositionLock) -> None:
        with lock:
            self.granted.append(name)
            assert self._go_on[name].wait(_PATIENCE)

    def _waited(self, name: str, descriptors: Any, seconds: float) -> Any:
        hung_up = SYSTEM.wait(descriptors, seconds)
        self.woken[name] += bool(hung_up)
        return hung_up

    def let_go(self, name: str) -> None:
        self._go_on[name].set()

    def until_granted(self, *names: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while set(self.granted) != set(names):
            assert time.monotonic() < deadline, self.granted
            time.sleep(0.002)

    def until_woken(self, **times: int) -> None:
        """Who was rung may not have noticed yet."""
        deadline = time.monotonic() + _PATIENCE
        while self.woken != times:
            assert time.monotonic() < deadline, self.woken
            time.sleep(0.002)

    def end(self) -> None:
        for event in self._go_on.values():
            event.set()
        for thread in self._threads:
            thread.join(_PATIENCE)


@pytest.fixture
def waiters(lock_dir: str) -> Iterator[Counted]:
    counted = Counted(lock_dir)
    yield counted
    counted.end()


def test_a_release_wakes_the_next_one_and_the_one_behind_it(waiters: Counted, lock_dir: str) -> None:
    """Of six that wait, two; the next release again two, one of them for the second time."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    for name in "abcdef":
        waiters.wait(name, stale_after=600)
    assert set(waiters.woken.values()) == {0}
    holder.release()
    waiters.until_granted("a")
    waiters.until_woken(a=1, b=1, c=0, d=0, e=0, f=0)
    waiters.let_go("a")
    waiters.until_granted("a", "b")
    waiters.until_woken(a=1, b=2, c=1, d=0, e=0, f=0)


def test_a_life_line_of_one_who_has_ended_is_not_watched(tmp_path: Path) -> None:
    """Nobody would hang up any more: such a process is looked at instead."""
    presence = str(tmp_path / "1-0")
    line = LifeLine(SYSTEM, presence, None)
    ours = watched(SYSTEM, presence, None)
    assert ours is not None
    SYSTEM.close(ours)
    line.close()
    assert watched(SYSTEM, presence, None) is None


def test_a_release_after_a_booking_wakes_everybody(waiters: Counted, lock_dir: str) -> None:
    """Each has news to hear, and none waits for its turn to hear it."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    for name in "abcd":
        waiters.wait(name, stale_after=600)
    holder._release(wake_all=True)
    waiters.until_granted("a")
    waiters.until_woken(a=1, b=1, c=1, d=1)


def test_a_release_wakes_all_leading_readers_and_the_writer_behind_them(waiters: Counted, lock_dir: str) -> None:
    """They all get in; readers behind that writer sleep on."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    for name in "abc":
        waiters.wait(name, shared=True, stale_after=600)
    waiters.wait("writer", stale_after=600)
    waiters.wait("late", shared=True, stale_after=600)
    holder.release()
    waiters.until_granted("a", "b", "c")
    waiters.until_woken(a=1, b=1, c=1, writer=1, late=0)


def test_who_gives_up_wakes_whom_it_kept_from_the_lock(waiters: Counted, lock_dir: str) -> None:
    """A writer that waits no longer lets the readers behind it in to those who read."""
    reader = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), shared=True, stale_after=600)
    reader.acquire()
    writer = threading.Thread(target=_in_vain, args=(PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=1.5),))
    writer.start()
    until_queued(lock_dir, 1)
    waiters.wait("behind", shared=True, stale_after=600)
    writer.join(_PATIENCE)
    waiters.until_granted("behind")
    waiters.until_woken(behind=1)


def _in_vain(lock: PositionLock) -> None:
    with pytest.raises(LockTimeout):
        lock.acquire()


def test_those_who_waited_leave_no_descriptor_and_no_pipe(waiters: Counted, lock_dir: str) -> None:
    """Only what a process keeps that never waited: its presence, its life line and the lock file. No inotify at all."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    for name in "abcdefgh":
        waiters.wait(name, stale_after=600)
    pipes = [each for each in os.listdir(f"{lock_dir}/.presence") if "." in each and not each.endswith(".life")]
    assert len(pipes) == 8
    holder.release()
    for number, name in enumerate("abcdefgh", start=1):
        waiters.until_granted(*"abcdefgh"[:number])
        waiters.let_go(name)
    waiters.end()
    kept = sorted(os.path.basename(each) for each in descriptors_of(lock_dir).values())
    assert sum(each.endswith(".life") for each in kept) == sum("." not in each for each in kept)
    assert {each.rpartition(".")[2] for each in kept if "." in each} <= {"life", "lock"}
    left = [each for each in os.listdir(f"{lock_dir}/.presence") if "." in each]
    assert all(each.endswith(".life") for each in left)
    links = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    assert not [each for each in links if os.path.lexists(each) and "inotify" in os.readlink(each)]


@pytest.mark.parametrize("how", ["none is left", "closed and used"])
def test_who_was_rung_and_cannot_open_its_wake_anew_looks_now_and_then(lock_dir: str, tmp_path: Path, how: str) -> None:
    """A pipe that has hung up once stays so: waiting for it would take all of the processor."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    waits: list[int] = []
    amiss = Amiss()

    def wait(descriptors: Any, seconds: float) -> Any:
        if not waits:
            (place,) = queue(lock_dir)
            wake = f"{lock_dir}/.presence/{place.presence}.{place.ticket}"
            assert SYSTEM.ring(wake)
            if how == "none is left":
                amiss._calls["open"] = lambda path, **more: (refused if path == wake else SYSTEM.open)(path, **more)
            else:
                os.dup2(theirs, descriptors[0])
        waits.append(descriptors[0])
        return SYSTEM.wait(descriptors, seconds)

    amiss._calls["wait"] = wait
    refused = failing(OSError(EMFILE, "none left"))
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=LockDirectory(lock_dir, amiss), timeout=1).acquire()
    assert len(waits) < 40
    if how == "closed and used":
        assert os.fstat(waits[0]).st_ino == os.fstat(theirs).st_ino
        os.close(waits[0])
    os.close(theirs)


def test_a_task_whose_wake_somebody_else_closed_waits_on(lock_dir: str, tmp_path: Path) -> None:
    """Whatever has its number by now, be it a file that no loop can watch: it opens another one."""
    opened: set[str] = set()
    is_opened_again = asyncio.Event()

    def open_noted(path: str, **how: Any) -> int:
        if path in opened and path.rpartition(".")[2].isdecimal():
            is_opened_again.set()
        opened.add(path)
        return SYSTEM.open(path, **how)

    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    waiter = PositionLock("btc-1", lock_dir=LockDirectory(lock_dir, Amiss(open=open_noted)), timeout=_PATIENCE)
    theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)

    async def work() -> int:
        waiting = asyncio.create_task(waiter.acquire_async())
        await asyncio.to_thread(until_queued, lock_dir, 1)
        (number,) = (each for each, path in descriptors_of(lock_dir).items() if path.rpartition(".")[2].isdecimal())
        os.dup2(theirs, number)
        again = asyncio.create_task(is_opened_again.wait())
        await asyncio.wait({waiting, again}, return_when=asyncio.FIRST_COMPLETED)
        holder.release()
        await waiting
        return number

    holder.acquire()
    number = asyncio.run(asyncio.wait_for(work(), _PATIENCE))
    waiter.check()
    assert os.fstat(number).st_ino == os.fstat(theirs).st_ino
    os.close(number)
    os.close(theirs)


def test_who_finds_the_queue_full_waits_outside_and_gets_its_turn(lock_dir: str) -> None:
    """In a record that is half full with places, of a process that lives and is passed over as soon as it may be."""
    other = elsewhere(lock_dir)
    holder = PositionLock("btc-1", lock_dir=other, stale_after=600)
    holder.acquire()
    transitions = holder._transitions
    place = transitions.place(holder._request)

    def filled(file: Any) -> None:
        waiting = [Waiting(place.presence, n, False, place.renewed_ns, place.lease_ns) for n in range(MAX_WAITING)]
        file.write(file.read()._replace(waiting=tuple(waiting)))

    transitions.entry.change(filled)
    one_more = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=_PATIENCE)
    thread = threading.Thread(target=one_more.acquire)
    thread.start()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0.2).acquire()
    assert len(queue(lock_dir)) == MAX_WAITING
    holder.release()
    thread.join(_PATIENCE)
    one_more.check()
