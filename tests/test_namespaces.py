"""The lock between containers: PIDs lie there, the kernel's word on a presence file does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockTimeout, PositionLock
from poslock.lock.files.back_off import BackOffFile
from poslock.lock.files.directory import open_directory
from poslock.lock.record import Record, decode, encode
from processes import PATIENCE
from tracing import LockChild, LockChildren, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root, for PID namespaces"
    return "" if succeeds(*NAMESPACE, "true") else "needs unshare, and permission to use it"


_MISSING = _missing()
needs_namespaces = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


@pytest.fixture
def start() -> Iterator[LockChildren]:
    with LockChildren() as children:
        yield children


def hold(start: LockChildren, lock_dir: str, *, under: list[str] | None = None) -> LockChild:
    """A child that holds the lock for an hour, in a namespace of its own if *under* says so."""
    child = start("perform", under=under or [], stale_after=3600)
    child.ask(f"lock btc-1 {lock_dir}")
    assert child.ask("acquire") == {"outcome": "ok"}
    return child


def recorded(lock_dir: str) -> tuple[Path, Record]:
    path = Path(PositionLock("btc-1", lock_dir=lock_dir).path)
    record = decode(path.read_bytes())
    assert isinstance(record, Record)
    return path, record


def pretend_pid(lock_dir: str, pid: int) -> None:
    """Let the record name another PID, as if it had been written in another namespace or before a reuse."""
    path, record = recorded(lock_dir)
    path.write_bytes(encode(record._replace(holders=(record.holders[0]._replace(pid=pid),))))


def unused_pid() -> int:
    """A PID that no process here has."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(PATIENCE)
    with pytest.raises(ProcessLookupError):
        os.kill(ended.pid, 0)
    return ended.pid


@needs_namespaces
def test_a_holder_in_another_namespace_is_seen_alive_and_seen_dead(start: LockChildren, lock_dir: str) -> None:
    """It holds as PID 1, which here is somebody else and never dies: kept out while it lives, let in when it dies."""
    child = hold(start, lock_dir, under=NAMESPACE)
    assert recorded(lock_dir)[1].holders[0].pid == 1
    os.kill(1, 0)
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, stale_after=60, timeout=0.3).acquire()
    assert child.ask("check") == {"outcome": "ok"}
    child.kill()  # the one in the namespace dies with it, by its own PR_SET_PDEATHSIG
    lock = PositionLock("btc-1", lock_dir=lock_dir, stale_after=60, timeout=5)
    lock.acquire()
    lock.check()
    assert lock.recovered_from is not None
    assert lock.recovered_from.pid == 1


@needs_namespaces
def test_a_contender_in_another_namespace_sees_a_holder_here_alive_and_dead(start: LockChildren, lock_dir: str) -> None:
    """The holder's PID means nothing where the contender lives: kept out all the same, and let in when it dies."""
    holder = hold(start, lock_dir)
    contender = start("perform", under=NAMESPACE, stale_after=60)
    contender.ask(f"lock btc-1 {lock_dir}")
    assert contender.ask("acquire 0.3")["outcome"] == "LockTimeout"
    assert holder.ask("check") == {"outcome": "ok"}
    holder.kill()
    assert contender.ask("acquire 5") == {"outcome": "ok"}
    assert contender.ask("check") == {"outcome": "ok"}


@needs_namespaces
def test_two_namespaces_with_the_same_pids_exclude_each_other(start: LockChildren, lock_dir: str) -> None:
    """Two containers, each with its bot as PID 1: neither takes the other's hold for its own."""
    holder = hold(start, lock_dir, under=NAMESPACE)
    other = start("perform", under=NAMESPACE, stale_after=60)
    other.ask(f"lock btc-1 {lock_dir}")
    assert other.ask("acquire 0.3")["outcome"] == "LockTimeout"
    for word in ("check", "renew", "release"):
        assert other.ask(word)["outcome"] == "LockLost"
        assert holder.ask("check") == {"outcome": "ok"}
    assert holder.ask("release") == {"outcome": "ok"}
    assert other.ask("acquire") == {"outcome": "ok"}


def test_a_dead_holder_whose_pid_was_reused_is_replaced_at_once(start: LockChildren, lock_dir: str) -> None:
    """The record names a process that lives, but it is not the one that wrote it."""
    hold(start, lock_dir).kill()
    pretend_pid(lock_dir, start("perform", stale_after=1).pid)
    PositionLock("btc-1", lock_dir=lock_dir, timeout=0).acquire()


def test_a_dead_holder_whose_pid_is_now_the_contenders_own_is_replaced_at_once(
    start: LockChildren, lock_dir: str
) -> None:
    """Nor is it the contender itself: in a container restarted in place every bot has the PID of the one before."""
    hold(start, lock_dir).kill()
    pretend_pid(lock_dir, os.getpid())
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=0)
    lock.acquire()
    assert lock.recovered_from is not None


def test_a_living_holder_whose_pid_is_nobody_here_keeps_the_lock(start: LockChildren, lock_dir: str) -> None:
    """kill(pid, 0) says that there is no such process; its presence says that there is."""
    child = hold(start, lock_dir)
    pretend_pid(lock_dir, unused_pid())
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, stale_after=60, timeout=0.3).acquire()
    assert child.ask("check") == {"outcome": "ok"}


FORK_INTO_A_NAMESPACE = """
import ctypes, os, sys
from poslock import LockLost, LockTimeout, PositionLock
from poslock.ledger.ledger import Ledger

def attempt(name, call):
    try:
        call()
        print(name, "passed", flush=True)
    except (LockLost, LockTimeout) as error:
        print(name, type(error).__name__, flush=True)

lock = PositionLock("btc-1", lock_dir=sys.argv[1], timeout=0.1)
lock.acquire()
ledger = Ledger(sys.argv[1] + "/ledger.db")
ledger.unfinished("account")
assert ledger._database._kept.current() is not None
assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID
child = os.fork()
if child == 0:
    print(os.getpid(), lock.held, lock.token, ledger._database._kept.current())
    for name in ("check", "renew", "release"):
        attempt(name, getattr(lock, name))
    attempt("acquire", lock.acquire)
    attempt("acquire another", PositionLock("btc-1", lock_dir=sys.argv[1], timeout=0.1).acquire)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
attempt("parent", lock.check)
"""


@needs_namespaces
def test_a_child_that_is_pid_1_as_its_parent_is_holds_nothing(lock_dir: str) -> None:
    """PID 1 forks into a new PID namespace: the same PID and lock object, and no hold, no connection to the ledger."""
    command = [*NAMESPACE, sys.executable, "-c", FORK_INTO_A_NAMESPACE, lock_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    lost = ["check LockLost", "renew LockLost", "release LockLost"]
    refused = ["acquire LockTimeout", "acquire another LockTimeout"]
    assert done.stdout.splitlines() == ["1 False None None", *lost, *refused, "parent passed"]


OTHER_CLOCK = ["unshare", "--time", "--fork", "--kill-child", "--monotonic=1000"]
EARLIER_CLOCK = [*OTHER_CLOCK[:-1], "--monotonic=-1000"]


def _missing_clock() -> str:
    if os.geteuid() != 0:
        return "needs root, for time namespaces"
    if not succeeds(*EARLIER_CLOCK, "true"):
        return "needs unshare with time namespaces, and permission to use it"
    return ""


_MISSING_CLOCK = _missing_clock()
needs_clocks = pytest.mark.skipif(bool(_MISSING_CLOCK), reason=_MISSING_CLOCK)


@needs_clocks
@pytest.mark.parametrize("clock", [OTHER_CLOCK, EARLIER_CLOCK], ids=["ahead", "behind"])
@pytest.mark.parametrize("is_inside", ["holder", "contender"])
def test_a_holder_by_another_clock_keeps_its_lease(
    start: LockChildren, lock_dir: str, clock: list[str], is_inside: str
) -> None:
    """A container whose clock is 1000 s off, on either side: nobody is replaced, cleared or shown to be that old."""
    under: dict[str, list[str]] = {"holder": [], "contender": [], is_inside: clock}
    holder = start("perform", under=under["holder"], stale_after=30)
    holder.ask(f"lock btc-1 {lock_dir}")
    assert holder.ask("acquire") == {"outcome": "ok"}
    contender = start("perform", under=under["contender"], stale_after=30)
    contender.ask(f"lock btc-1 {lock_dir}")
    assert contender.ask("acquire 0.3")["outcome"] == "LockTimeout"
    assert holder.ask("check") == {"outcome": "ok"}
    assert contender.ask("clear")["outcome"] == "LockStillHeld"
    status = contender.ask("status")
    assert (status["state"], status["alive"]) == ("held", True)
    assert 0 <= status["age_s"] < 60
    for word in ("check", "renew", "check", "release"):
        assert holder.ask(word) == {"outcome": "ok"}
    assert contender.ask("acquire") == {"outcome": "ok"}
    assert contender.ask("check") == {"outcome": "ok"}


@needs_clocks
def test_a_silent_holder_by_another_clock_is_replaced_after_its_lease(start: LockChildren, lock_dir: str) -> None:
    """What the contender saw itself is the only age that such a record has; it counts from its first look."""
    holder = start("perform", under=OTHER_CLOCK, stale_after=1)
    holder.ask(f"lock btc-1 {lock_dir}")
    assert holder.ask("acquire") == {"outcome": "ok"}
    lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=0.5)
    began = time.monotonic()
    with pytest.raises(LockTimeout):
        lock.acquire()
    lock.acquire(timeout=PATIENCE)
    assert time.monotonic() - began >= 1
    assert lock.recovered_from is not None
    assert holder.ask("check")["outcome"] == "LockLost"


@needs_clocks
def test_a_dead_holder_by_another_clock_is_replaced_at_once(start: LockChildren, lock_dir: str) -> None:
    """The kernel's word needs no clock."""
    holder = hold(start, lock_dir, under=OTHER_CLOCK)
    holder.kill()
    PositionLock("btc-1", lock_dir=lock_dir, timeout=1).acquire()


@needs_clocks
def test_a_pause_by_another_clock_counts_as_none(start: LockChildren, lock_dir: str) -> None:
    """Nobody waits a thousand seconds because a container's clock is ahead, nor is its pause cut short by ours."""
    inside = start("perform", under=OTHER_CLOCK, stale_after=1)
    assert inside.ask(f"hold_back {lock_dir}")["left"] == pytest.approx(20, abs=5)
    ours = BackOffFile(open_directory(lock_dir), "account", ("all",), 2000)
    assert ours.left("all") == 0
    ours.hold("all", 10)
    assert inside.ask("left")["left"] == pytest.approx(20, abs=10)
