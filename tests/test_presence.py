"""How a process proves that it lives: what closes that proof, and what becomes of it when the process has ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockLost, LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.pipes import Wake, ring, watched
from poslock.lock.files.slots import MOST_LOOKS
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import Record
from poslock.lock.verdict import Liveness
from processes import PATIENCE
from systems import Amiss, descriptors_of, elsewhere, once_after
from test_crowds import until_queued
from tracing import LockChildren

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOSED = "closed the descriptor that proves that it lives"


def close_presence(directory: LockDirectory, how: str, tmp_path: Path) -> None:
    """As a daemon does that closes whatever it has open; perhaps its next file gets the number."""
    for number in descriptors_of(f"{directory.path}/.presence"):
        os.close(number)
        if how == "used":
            theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
            if theirs != number:
                os.dup2(theirs, number)
                os.close(theirs)


@pytest.mark.parametrize("how", ["closed", "used"])
@pytest.mark.parametrize("call", ["check", "renew", "release"])
def test_a_holder_that_closed_its_descriptors_is_told_so(tmp_path: Path, call: str, how: str) -> None:
    """Peers take it for dead. So its lock is lost, by name and for good; the next grant has a new presence."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0)
    lock.acquire()
    close_presence(directory, how, tmp_path)
    with pytest.raises(LockLost, match=CLOSED):
        getattr(lock, call)()
    with pytest.raises(LockLost):
        lock.check()
    again = PositionLock("btc-1", lock_dir=directory, timeout=0)
    assert again.acquire()
    again.check()
    assert again.recovered_from is not None
    with pytest.raises(LockLost):
        lock.renew()
    again.renew()
    again.release()


def test_what_was_lost_with_a_presence_stays_lost_when_the_next_one_has_its_number(tmp_path: Path) -> None:
    """A lock that nobody has asked about yet, and a presence that is made for another one meanwhile."""
    directory = elsewhere(tmp_path / "locks")
    held, other = (PositionLock(name, lock_dir=directory) for name in ("held", "other"))
    held.acquire()
    close_presence(directory, "closed", tmp_path)
    other.acquire()
    for call in (held.check, held.renew, held.release):
        with pytest.raises(LockLost):
            call()
    other.check()


def test_a_file_that_uses_the_number_of_the_presence_is_not_touched(tmp_path: Path) -> None:
    """It belongs to the bot by now: not closed with the next grant, nor in a forked child."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0)
    lock.acquire()
    opened = descriptors_of(f"{directory.path}/.presence")
    (number,) = (each for each, path in opened.items() if not path.endswith(".life"))
    theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    os.dup2(theirs, number)
    with pytest.raises(LockLost):
        lock.release()
    assert lock.acquire()
    lock.release()
    assert os.fstat(number).st_ino == os.fstat(theirs).st_ino
    if (pid := os.fork()) == 0:
        os._exit(os.fstat(number).st_ino != os.fstat(theirs).st_ino)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(number)
    os.close(theirs)


def test_who_waits_with_a_presence_that_is_lost_queues_with_the_next_one(tmp_path: Path) -> None:
    """Its peers take the old one for dead: they would pass it over, and wake others."""
    directory = elsewhere(tmp_path / "locks")
    holder = PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"), stale_after=600)
    holder.acquire()
    waiter = PositionLock("btc-1", lock_dir=directory, stale_after=600, timeout=PATIENCE)
    thread = threading.Thread(target=waiter.acquire)
    thread.start()
    old = until_only_waits(holder)
    close_presence_of(directory)
    with PositionLock("other", lock_dir=directory):
        new = directory.presence.name()
    assert old != new
    until_only_waits(holder, new)
    assert not list((tmp_path / "locks" / ".presence").glob(f"{old}.[0-9]*"))
    holder.release()
    thread.join(PATIENCE)
    waiter.check()


def until_only_waits(lock: PositionLock, presence: str = "") -> str:
    """Until one waits, with this *presence* if given; its presence."""
    deadline = time.monotonic() + PATIENCE
    while True:
        content = lock._transitions.entry.peek()
        names = [each.presence for each in content.waiting] if isinstance(content, Record) else []
        if len(names) == 1 and presence in {"", names[0]}:
            return names[0]
        assert time.monotonic() < deadline, names
        time.sleep(0.002)


def close_presence_of(directory: LockDirectory) -> None:
    mine = directory.presence._mine
    assert mine is not None
    os.close(mine.descriptor)


def test_presence_files_that_were_removed_leave_no_descriptor(tmp_path: Path) -> None:
    """As when somebody empties the lock directory each night; of the last one there are two, and the lock file."""
    directory = elsewhere(tmp_path / "locks")
    for _ in range(3):
        with PositionLock("btc-1", lock_dir=directory):
            pass
        shutil.rmtree(directory.path)
    with PositionLock("btc-1", lock_dir=directory):
        assert len(descriptors_of(directory.path)) == 3


DAEMON = """
import os, sys
from poslock import LockLost, PositionLock
lock = PositionLock("btc-1", lock_dir=sys.argv[1], timeout=0)
lock.acquire()
os.closerange(3, 256)
print("closed", flush=True)
input()
for call in (lock.check, lock.renew):
    try:
        call()
        print("passed")
    except LockLost as lost:
        print(lost.why)
"""


def test_a_daemon_that_closed_everything_is_replaced_at_once_and_knows_it(lock_dir: str) -> None:
    """os.closerange, as DaemonContext calls it: what it holds passes to the next one, and no check() of its passes."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, lock_dir], stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parent
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "closed\n"
        rival = PositionLock("btc-1", lock_dir=lock_dir, timeout=0)
        rival.acquire()
        said, _ = daemon.communicate("go\n", timeout=PATIENCE)
    assert [CLOSED in line for line in said.splitlines()] == [True, True]
    rival.check()


NUMBERS = """
import os, signal, sys, threading, time
from poslock import LockTimeout, PositionLock

signal.alarm(30)
goes_on = sys.argv[2] == "while it waits"
lock = PositionLock("btc-1", lock_dir=sys.argv[1], timeout=20 if goes_on else 0.1)

def wait():
    try:
        lock.acquire()
    except LockTimeout:
        pass

def inodes():
    return [os.fstat(end).st_ino for pipe in pipes for end in pipe]

thread = threading.Thread(target=wait)
thread.start()
while goes_on and not lock._transitions.entry.peek().waiting:
    time.sleep(0.002)
if not goes_on:
    thread.join()
os.closerange(3, 256)
pipes = [os.pipe() for _ in range(32)]
before = inodes()
for _, end in pipes:
    os.write(end, b"ours")
if not os.fork():
    print(inodes() == before, flush=True)
    os._exit(0)
os.wait()
print("used", flush=True)
thread.join() if goes_on else wait()
print(inodes() == before and all(os.read(end, 9) == b"ours" for end, _ in pipes))
"""


@pytest.mark.parametrize("when", ["after it waited", "while it waits"])
def test_pipes_that_use_the_numbers_of_who_waits_are_not_touched(lock_dir: str, when: str) -> None:
    """What it waited with was closed as by a daemon: it reads nothing from the bot's own pipes and closes none."""
    holder = PositionLock("btc-1", lock_dir=lock_dir)
    holder.acquire()
    command = [sys.executable, "-W", "ignore", "-c", NUMBERS, lock_dir, when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as bot:
        assert bot.stdout is not None
        assert [bot.stdout.readline() for _ in range(2)] == ["True\n", "used\n"]
        if when == "while it waits":
            holder.release()
        assert bot.communicate(timeout=PATIENCE)[0] == "True\n"


# One process after the other.


@pytest.fixture
def start() -> Iterator[LockChildren]:
    with LockChildren() as children:
        yield children


def end(directory: LockDirectory) -> None:
    """Close the presence of a directory seen as by another process, as the kernel does at its end."""
    for taken in directory.presence._own.values():
        SYSTEM.close(taken.descriptor)


def files(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "locks" / ".presence"))


def slots(tmp_path: Path) -> list[str]:
    return [name for name in files(tmp_path) if name.isdecimal()]


def test_presence_files_are_no_more_than_processes_live_at_one_time(tmp_path: Path) -> None:
    """A cron job a minute, of which one in ten hangs till the next hour; whether it gave its lock back or not."""
    living: list[LockDirectory] = []
    for number in range(300):
        directory = elsewhere(tmp_path / "locks")
        lock = PositionLock(f"btc-{number % 7}", lock_dir=directory, timeout=0, stale_after=3600)
        try:
            lock.acquire()
        except LockTimeout:
            pass
        else:
            if number % 3:
                lock.release()
        living.append(directory)
        if number % 10:
            end(living.pop())
        if number % 60 == 0:
            while living:
                end(living.pop())
        assert len(slots(tmp_path)) <= 8
        assert len(files(tmp_path)) <= 2 * 8  # each with a life line
    assert len(slots(tmp_path)) >= 6


def test_where_very_many_live_free_presence_files_are_found_too(tmp_path: Path) -> None:
    """More than are looked at: each start stays cheap, and misses one now and then."""
    many = 3 * MOST_LOOKS
    living = [elsewhere(tmp_path / "locks") for _ in range(many)]
    for directory in living:
        directory.prepare()
        directory.presence.name()
    assert len(slots(tmp_path)) == many
    end(living.pop())
    for _ in range(3 * many):
        living.append(elsewhere(tmp_path / "locks"))
        living[-1].presence.name()
        end(living.pop(0 if len(living) > many else -1))
    assert len(slots(tmp_path)) < 2 * many
    assert len(files(tmp_path)) < 4 * many


def test_a_dead_holder_is_known_for_dead_when_its_presence_file_is_used_again(
    start: LockChildren, tmp_path: Path
) -> None:
    """By the name that the file says now; the process that has it lives, and is seen to live."""
    lock_dir = str(tmp_path / "locks")
    dead = start("perform", stale_after=3600)
    dead.ask(f"lock btc-1 {lock_dir}")
    assert dead.ask("acquire") == {"outcome": "ok"}
    dead.kill()
    heir = start("perform", stale_after=3600)
    heir.ask(f"lock btc-2 {lock_dir}")
    assert heir.ask("acquire") == {"outcome": "ok"}
    assert len(slots(tmp_path)) == 1
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=0)
    assert lock.acquire()
    assert lock.recovered_from is not None
    with pytest.raises(LockTimeout):
        PositionLock("btc-2", lock_dir=lock_dir, timeout=0).acquire()


@pytest.mark.parametrize("call", ["probe_presence", "write", "try_lock_presence"])
def test_two_that_take_the_same_presence_file_do_not_get_the_same(tmp_path: Path, call: str) -> None:
    """One comes right after a step of the other: both are seen alive, the dead one dead, at every moment."""
    dead, second = elsewhere(tmp_path / "locks"), elsewhere(tmp_path / "locks")
    dead.prepare()
    second.prepare()
    name = dead.presence.name()
    end(dead)
    seen: list[Liveness] = []

    def come() -> None:
        seen.append(elsewhere(tmp_path / "locks").presence.liveness(name))
        second.presence.name()
        seen.append(elsewhere(tmp_path / "locks").presence.liveness(name))

    amiss = Amiss()
    first = type(dead)(str(tmp_path / "locks"), amiss)
    first.prepare()
    amiss._calls[call] = (
        nth(2, come, getattr(SYSTEM, call)) if call == "probe_presence" else once_after(come, getattr(SYSTEM, call))
    )
    first.presence.name()
    peer = elsewhere(tmp_path / "locks")
    assert seen == [Liveness.DEAD, Liveness.DEAD]
    assert peer.presence.liveness(name) is Liveness.DEAD
    assert first.presence.name() != second.presence.name()
    for directory in (first, second):
        assert peer.presence.liveness(directory.presence.name()) is Liveness.ALIVE


def nth(number: int, happens: Callable[[], object], call: Callable[..., object]) -> Callable[..., object]:
    """*call*, but something else happens right after its so-many-th time."""
    left = [number]

    def counted(*args: object) -> object:
        answer = call(*args)
        left[0] -= 1
        if left[0] == 0:
            happens()
        return answer

    return counted


@pytest.mark.parametrize("content", ["", "damaged\n", "7-abc\n"])
def test_a_presence_file_that_says_nothing_of_ours_says_nothing_of_its_process(tmp_path: Path, content: str) -> None:
    """Somebody wrote there: its process may live, so only the lease decides."""
    directory = elsewhere(tmp_path / "locks")
    PositionLock("btc-1", lock_dir=directory).acquire()
    Path(directory.presence.slot_path(directory.presence.name())).write_text(content)
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"), timeout=0).acquire()


def test_the_next_file_after_one_was_removed_says_nothing_of_its_process(tmp_path: Path) -> None:
    """An operator empties the folder: who holds is not taken for dead because others come and make theirs."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    for name in files(tmp_path):
        (tmp_path / "locks" / ".presence" / name).unlink()
    for _ in range(3):
        with pytest.raises(LockTimeout):
            PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"), timeout=0).acquire()
    lock.renew()
    with PositionLock("btc-2", lock_dir=directory):  # it makes a new presence for itself
        lock.check()
    lock.release()


def test_what_dead_processes_left_under_their_names_is_removed(tmp_path: Path) -> None:
    """With the next presence; what belongs to a living one stays, and so does what belongs to nobody known."""
    living, dead = elsewhere(tmp_path / "locks"), elsewhere(tmp_path / "locks")
    folder = tmp_path / "locks" / ".presence"
    names = []
    for directory in (living, dead):
        directory.prepare()
        names.append(directory.presence.name())
        os.mkfifo(folder / f"{names[-1]}.17")
    (folder / "0-0.life").touch()
    (folder / "note.txt").touch()
    end(dead)
    after = elsewhere(tmp_path / "locks")
    names[1] = after.presence.name()
    kept = {name for name in files(tmp_path) if "." in name}
    assert kept == {f"{names[0]}.life", f"{names[0]}.17", f"{names[1]}.life", "0-0.life", "note.txt"}


def test_what_is_left_of_a_process_is_removed_though_its_presence_file_was(tmp_path: Path) -> None:
    """Nobody knows that it is dead: what nobody has open goes. One that lives is woken and watched as before."""
    folder = tmp_path / "locks" / ".presence"
    dead, living, moved = (elsewhere(tmp_path / "locks") for _ in range(3))
    wakes = {}
    for directory in (dead, living, moved):
        directory.prepare()
        name = directory.presence.name()
        wakes[name] = Wake(SYSTEM, directory.presence.path(name), 17, None)
        os.mkfifo(folder / f"{name}.note")  # of a version that is not known
        os.unlink(directory.presence.slot_path(name))
    of_dead, of_living, of_moved = wakes
    SYSTEM.close(wakes[of_dead].descriptor)
    end(dead)
    end_life_lines(dead)
    of_moved_now = moved.presence.name()
    of_after = elsewhere(tmp_path / "locks").presence.name()
    left = {f"{of_living}.life", f"{of_living}.17", f"{of_moved}.17", f"{of_moved_now}.life", f"{of_after}.life"}
    notes = {f"{each}.note" for each in wakes}
    assert {each for each in files(tmp_path) if "." in each} == left | notes
    for name in (of_living, of_moved):
        assert ring(SYSTEM, f"{folder}/{name}", 17)
    line = watched(SYSTEM, f"{folder}/{of_living}", None)
    assert line is not None
    end_life_lines(living)
    assert SYSTEM.wait([line], PATIENCE) == [line]
    SYSTEM.close(line)


def end_life_lines(directory: LockDirectory) -> None:
    for line in directory.presence._life_lines.values():
        line.close()


def test_a_pipe_that_is_removed_before_it_is_open_is_made_again_or_done_without(tmp_path: Path) -> None:
    """Its presence file was removed, and the next process does not see yet that anybody has the pipe open."""
    lock_dir = str(tmp_path / "locks")
    amiss = Amiss()
    directory = LockDirectory(lock_dir, amiss)

    def others_come() -> None:
        for slot in slots(tmp_path):
            (tmp_path / "locks" / ".presence" / slot).unlink()
        elsewhere(lock_dir).presence.name()

    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), stale_after=600)
    holder.acquire()
    amiss._calls["make_pipe"] = once_after(others_come, SYSTEM.make_pipe)
    directory.prepare()
    name = directory.presence.name()
    assert f"{name}.life" not in files(tmp_path)
    later = directory.presence.name(thorough=False)
    assert watched(SYSTEM, directory.presence.path(later), None) is not None
    amiss._calls["make_pipe"] = once_after(others_come, SYSTEM.make_pipe)
    waiter = PositionLock("btc-1", lock_dir=directory, timeout=PATIENCE)
    waiting = threading.Thread(target=waiter.acquire)
    waiting.start()
    until_queued(lock_dir, 1)
    holder.release()
    waiting.join(PATIENCE)
    waiter.check()
