"""The lock struck at every single system call it makes: killed there, stopped there, and refused by the system there.

Which calls there are is learned from an undisturbed run, so these tests need no change when the lock changes. A run
that is not struck where it was meant to be fails.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

import pytest

import tracing
from poslock import LockTimeout, PositionLock, PoslockError
from processes import PATIENCE
from tracing import Call, LockChild, LockChildren, assert_struck, calls, traced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MISSING = tracing.missing()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

LEASE = 2.0
OPERATIONS = ["acquire", "take over", "check", "renew", "release"]
_NEEDS_HOLD = {"check", "renew", "release"}
# No system refuses these, so neither does the test.
_CANNOT_FAIL = {"access", "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "uname"}
_CLOSED = re.compile(r"close\((\d+)\)")


@pytest.fixture
def start() -> Iterator[LockChildren]:
    with LockChildren() as children:
        yield children


def word(operation: str) -> str:
    return "acquire" if operation == "take over" else operation


def ready(child: LockChild, operation: str, position: str, lock_dir: str) -> LockChild:
    """*child* with a lock that is about to be acquired, or held where the operation needs that."""
    child.ask(f"lock {position} {lock_dir}")
    if operation in _NEEDS_HOLD:
        assert child.ask("acquire") == {"outcome": "ok"}
    return child


def make_directories(lock_dir: str) -> list[str]:
    """What the first grant in a directory creates, in one for each run: all find the same, and nobody's presence."""
    places = [f"{lock_dir}-{number}" for number in range(100)]
    for place in places:
        os.makedirs(f"{place}/.presence", 0o700)
        os.chmod(place, 0o700)
    return places


def leave_dead_holds(start: LockChildren, places: list[tuple[str, str]]) -> None:
    """Let a process hold each position and die."""
    corpse = start("perform", stale_after=3600)
    for position, lock_dir in places:
        corpse.ask(f"lock {position} {lock_dir}")
        assert corpse.ask("acquire") == {"outcome": "ok"}
    corpse.kill()


@contextmanager
def stuck(position: str, lock_dir: str) -> Iterator[None]:
    """A lock file whose OS lock is taken all the time, as by a process that is stopped inside a transition."""
    with PositionLock(position, lock_dir=lock_dir) as lock:
        pass
    with open(lock.path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def learned(child: LockChild, operation: str, log: Path) -> list[Call]:
    """The system calls of an undisturbed run, from mark to mark."""
    with traced(child, word(operation), log):
        assert child.hear() == {"outcome": "ok"}
    found = calls(log, child)
    assert len(found) > 4, found
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_any_system_call_it_delays_nobody(
    operation: str, start: LockChildren, lock_dir: str, tmp_path: Path
) -> None:
    """SIGKILL before each call of an operation, of a holder with a long lease: the next one is in at once."""
    log = tmp_path / "log"
    places = make_directories(lock_dir)
    if operation == "take over":
        leave_dead_holds(start, [("btc-1", place) for place in places])
    child = ready(start("perform", stale_after=3600), operation, "btc-1", places[0])
    undisturbed = learned(child, operation, log)
    problems = []
    for number, call in enumerate(undisturbed[1:], start=1):
        child = ready(start("perform", stale_after=3600), operation, "btc-1", places[number])
        with traced(child, word(operation), log, f"{call.name}:signal=SIGKILL:when={call.nth}"):
            assert child.process.wait(PATIENCE) == -signal.SIGKILL, f"not struck at {call}"
        assert_struck(log, child, undisturbed, number)
        rival = PositionLock("btc-1", lock_dir=places[number], stale_after=1.0, timeout=2.0)
        try:
            rival.acquire()
            rival.check()
        except PoslockError as error:
            problems.append(f"killed before {call}: {error}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_stopped_at_any_system_call_it_delays_nobody_for_long_and_cannot_come_back(
    operation: str, start: LockChildren, lock_dir: str, tmp_path: Path
) -> None:
    """SIGSTOP after each call: the next one is in within lease + 1 s, and after SIGCONT the first fails check()."""
    places = make_directories(lock_dir)
    if operation == "take over":
        leave_dead_holds(start, [("btc-1", place) for place in places])
    child = ready(start("perform", stale_after=LEASE), operation, "btc-1", places[-1])
    undisturbed = learned(child, operation, tmp_path / "log")[:-1]
    with ExitStack() as tracers:
        children = []
        for number, call in enumerate(undisturbed):
            log = tmp_path / f"log-{number}"
            child = ready(start("perform", stale_after=LEASE), operation, "btc-1", places[number])
            injection = f"{call.name}:signal=SIGSTOP:when={call.nth}"
            tracers.enter_context(traced(child, word(operation), log, injection))
            child.wait_stopped()
            children.append(child)
        rivals = [
            PositionLock("btc-1", lock_dir=places[number], stale_after=LEASE, timeout=LEASE + 1)
            for number in range(len(children))
        ]
        with ThreadPoolExecutor(len(children)) as pool:
            outcomes = list(pool.map(replaced_and_resumed, children, rivals, repeat(operation)))
    for number, child in enumerate(children):
        assert_struck(tmp_path / f"log-{number}", child, undisturbed, number)
    problems = [f"stopped after {each[0]}: {each[1]}" for each in zip(undisturbed, outcomes, strict=True) if each[1]]
    assert not problems, "\n".join(problems)


def replaced_and_resumed(stopped: LockChild, rival: PositionLock, operation: str) -> str:
    """What is wrong when *rival* takes the place of a child stopped in *operation*, which then goes on; or empty."""
    try:
        rival.acquire()
    except LockTimeout as error:
        stopped.resume()
        return f"{error}; and then {stopped.hear()}"
    rival.renew()
    stopped.resume()
    ended = stopped.hear()
    checked = stopped.ask("check")
    try:
        rival.check()
    except PoslockError as error:
        return f"it ended in {ended}, and after that: {error}"
    # The check() in which it was stopped, and the one after.
    if checked["outcome"] != "LockLost" or (operation == "check" and ended["outcome"] == "ok"):
        return f"it came back: {ended}, {checked}"
    return "" if ended["outcome"] == "ok" or ended["typed"] else f"it ended in {ended}"


def test_killed_while_it_replaces_a_busy_file_it_delays_nobody(
    start: LockChildren, lock_dir: str, tmp_path: Path
) -> None:
    """SIGKILL before each call of a replacement, its reason still there: the next one replaces the file, and is in."""
    log = tmp_path / "log"
    with PositionLock("first", lock_dir=lock_dir):
        pass
    with stuck("btc-0", lock_dir):
        undisturbed = learned(ready(start("perform", stale_after=1.0), "replace", "btc-0", lock_dir), "replace", log)
    problems = []
    for number, call in enumerate(undisturbed[1:], start=1):
        with stuck(f"btc-{number}", lock_dir):
            child = ready(start("perform", stale_after=1.0), "replace", f"btc-{number}", lock_dir)
            with traced(child, "replace", log, f"{call.name}:signal=SIGKILL:when={call.nth}"):
                assert child.process.wait(PATIENCE) == -signal.SIGKILL, f"not struck at {call}"
            assert_struck(log, child, undisturbed, number)
            rival = PositionLock(f"btc-{number}", lock_dir=lock_dir, stale_after=1.0, timeout=2.0)
            try:
                rival.acquire()
                rival.check()
            except PoslockError as error:
                problems.append(f"killed before {call}: {error}")
    assert not problems, "\n".join(problems)


def test_stopped_while_it_replaces_a_busy_file_it_delays_nobody_for_long_and_does_no_harm_later(
    start: LockChildren, tmp_path: Path
) -> None:
    """SIGSTOP after each call, when its reason has gone: the next one is in, and stays in when the first goes on."""
    places = [str(tmp_path / f"locks-{number}") for number in range(100)]
    with stuck("btc-1", places[-1]):
        child = ready(start("perform", stale_after=LEASE), "replace", "btc-1", places[-1])
        undisturbed = learned(child, "replace", tmp_path / "log")[:-1]
    with ExitStack() as tracers:
        children = []
        for number, call in enumerate(undisturbed):
            child = ready(start("perform", stale_after=LEASE), "replace", "btc-1", places[number])
            injection = f"{call.name}:signal=SIGSTOP:when={call.nth}"
            with stuck("btc-1", places[number]):
                tracers.enter_context(traced(child, "replace", tmp_path / f"log-{number}", injection))
                child.wait_stopped()
            children.append(child)
        rivals = [
            PositionLock("btc-1", lock_dir=lock_dir, stale_after=LEASE, timeout=LEASE + 1)
            for lock_dir in places[: len(children)]
        ]
        with ThreadPoolExecutor(len(children)) as pool:
            outcomes = list(pool.map(replaced_and_resumed, children, rivals, repeat("replace")))
    for number, child in enumerate(children):
        assert_struck(tmp_path / f"log-{number}", child, undisturbed, number)
    problems = [f"stopped after {each[0]}: {each[1]}" for each in zip(undisturbed, outcomes, strict=True) if each[1]]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "ENOLCK", "EMFILE", "EINTR"])
@pytest.mark.parametrize("operation", [*OPERATIONS, "replace"])
def test_refused_at_any_system_call_it_says_so_and_nobody_is_let_in(
    operation: str, error: str, start: LockChildren, tmp_path: Path
) -> None:
    """An error from each call: a typed one that names the file, or none; one holder; no descriptor too many."""
    child, rival = (start("perform", stale_after=LEASE) for _ in range(2))
    places = [str(tmp_path / f"locks-{number}") for number in range(100)]
    if operation == "take over":
        leave_dead_holds(start, [("btc-1", lock_dir) for lock_dir in places])
    undisturbed_round(child, rival, operation, places[-2], tmp_path / "log")  # loads what the later ones find loaded
    undisturbed, kept = undisturbed_round(child, rival, operation, places[-1], tmp_path / "log")
    problems = []
    for number, call in enumerate(undisturbed):
        if call.name in _CANNOT_FAIL:
            continue
        lock_dir, log = places[number], tmp_path / "log"
        ready(child, operation, "btc-1", lock_dir)
        with ExitStack() as reason:
            if operation == "replace":
                reason.enter_context(stuck("btc-1", lock_dir))
            with traced(child, word(operation), log, f"{call.name}:error={error}:when={call.nth}"):
                ended = child.hear()
        struck = assert_struck(log, child, undisturbed, number)
        assert struck[number].is_injected, f"not struck at {call}: {struck}"
        close_as_the_kernel_does(child, struck, number)
        found = [untyped(ended, lock_dir), aftermath(child, rival, lock_dir)]
        if (now := descriptors(child, lock_dir)) != kept:
            found.append(f"open are {now}, not {kept}")
        problems += [f"{error} from {call}: {problem}" for problem in found if problem]
    assert not problems, "\n".join(problems)


def undisturbed_round(
    child: LockChild, rival: LockChild, operation: str, lock_dir: str, log: Path
) -> tuple[list[Call], list[str]]:
    """The calls of an operation without an error, and what stays open after it and after some waiting."""
    wait_in_vain(child, rival, f"{lock_dir}-other")
    ready(child, operation, "btc-1", lock_dir)
    with ExitStack() as reason:
        if operation == "replace":
            reason.enter_context(stuck("btc-1", lock_dir))
        undisturbed = learned(child, operation, log)
    assert aftermath(child, rival, lock_dir) == ""
    return undisturbed, descriptors(child, lock_dir)


def wait_in_vain(child: LockChild, rival: LockChild, lock_dir: str) -> None:
    """Let *child* open what it keeps for its next waiting."""
    for each in (rival, child):
        each.ask(f"lock btc-1 {lock_dir}")
    assert rival.ask("acquire") == {"outcome": "ok"}
    assert child.ask("acquire 0.05")["outcome"] == "LockTimeout"
    assert rival.ask("release") == {"outcome": "ok"}


def untyped(ended: dict[str, object], lock_dir: str) -> str:
    """What is wrong with how an operation ended; empty if nothing is."""
    if ended["outcome"] == "ok" or (ended["typed"] and lock_dir in str(ended["text"])):
        return ""
    return f"ended in {ended}"


def close_as_the_kernel_does(child: LockChild, struck: list[Call], number: int) -> None:
    """strace keeps a failing call from the kernel; but Linux lets go of a descriptor whatever close() answers."""
    if closed := _CLOSED.match(struck[number].line):
        later = [match[1] for call in struck[number + 1 :] if (match := _CLOSED.match(call.line))]
        if closed[1] not in later:
            child.ask(f"close {closed[1]}")


def aftermath(child: LockChild, rival: LockChild, lock_dir: str) -> str:
    """What is wrong after an operation that may have failed: exactly the holder keeps others out, and all goes on."""
    checked = child.ask("check")["outcome"]
    rival.ask(f"lock btc-1 {lock_dir}")
    tried = rival.ask("acquire")["outcome"]
    found = ""
    if (checked == "ok") != (tried == "LockTimeout"):
        found = f"its check() gave {checked}, another one's acquire() {tried}"
    for holder, outcome in ((child, checked), (rival, tried)):
        if outcome == "ok" and (released := holder.ask("release"))["outcome"] != "ok":
            found += f"; release() gave {released}"
    child.ask(f"lock btc-1 {lock_dir}")
    again = [child.ask(each)["outcome"] for each in (f"acquire {LEASE + 1}", "check", "release")]
    return found if again == ["ok", "ok", "ok"] else f"{found}; and then {again}"


def descriptors(child: LockChild, lock_dir: str) -> list[str]:
    """What *child* has open, but for other lock directories; presence files go by another name each time."""
    others = f"{os.path.dirname(lock_dir)}/"
    paths = [path.replace(f"{lock_dir}/", "here: ") for path in child.ask("descriptors")["open"]]
    return [re.sub(r"\.presence/.*", ".presence", path) for path in paths if not path.startswith(others)]
