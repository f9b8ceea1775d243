"""The lock struck at every system call that it makes while others are about: as it waits, and in shared mode.

As in test_system_calls.py. The child that is struck waits behind a holder, or shares the lock with others. Behind it
waits a rival, in this process, which goes on only after the blow, so that nothing depends on who is faster.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

import tracing
from poslock import PositionLock, PoslockError
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import Record
from processes import PATIENCE
from systems import Amiss, elsewhere
from test_system_calls import close_as_the_kernel_does
from tracing import Call, LockChild, LockChildren, calls, is_as_planned, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
_MISSING = tracing.missing()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

LEASE = 2.2  # half of it is longer than a waiter sleeps at a time, so no place is renewed
LONG = 3600.0
AT_ONCE = 2.0
_NAPS = 0.2  # until the kernel has dropped all that a process had that it says is gone; less than a stopped one gets
_ATTEMPTS = 3
_LOOKS = {"access", "getpid", "geteuid", "newfstatat", "pread64", "readv", "poll"}
# Two for each kind of call; no system refuses those that are not named.
_ERRORS = {
    "openat": ("EMFILE", "EIO"),
    "mknodat": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "pread64": ("EIO", "EINTR"),
    "readv": ("EIO", "EINTR"),
    "flock": ("ENOLCK", "EINTR"),
    "newfstatat": ("EIO",),
    "poll": ("EINTR", "ENOMEM"),
    "unlink": ("EIO", "EROFS"),
    "close": ("EIO", "EINTR"),
}


@dataclass(frozen=True)
class Scene:
    """What a child is struck in: the word for it, who shares the lock, and what a holder does for whom it waits."""

    word: str
    shared: bool = False
    needs_hold: bool = False
    holder: Literal["", "releases", "dies", "stays"] = ""

    @property
    def waits(self) -> bool:
        return self.holder != ""


SCENES = {
    "granted after a release": Scene("acquire 3", holder="releases"),
    "granted after a death": Scene("acquire 3", holder="dies"),
    "gives up": Scene("acquire 0.5", holder="stays"),
    "share": Scene("acquire", shared=True),
    "check": Scene("check", shared=True, needs_hold=True),
    "renew": Scene("renew", shared=True, needs_hold=True),
    "release": Scene("release", shared=True, needs_hold=True),
}
every_scene = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())


@pytest.fixture
def start() -> Iterator[LockChildren]:
    with LockChildren() as children:
        yield children


class Company:
    """Those who are about in *place* when a child is struck there: the holders, and the rival, who wants it alone."""

    def __init__(self, scene: Scene, place: str) -> None:
        self._scene = scene
        self.place = place
        self._of_holders = [elsewhere(place) for _ in range(2 if scene.shared else 1)]
        self._holders = [
            PositionLock("btc-1", lock_dir=each, shared=scene.shared, stale_after=LONG) for each in self._of_holders
        ]
        for each in self._holders:
            each.acquire()
        self._of_rival = LockDirectory(place, Amiss(wait=self._wait))
        self.rival = PositionLock("btc-1", lock_dir=self._of_rival, stale_after=LONG, timeout=PATIENCE)
        self._thread = threading.Thread(target=self._acquire)
        self._waits, self._goes_on = threading.Event(), threading.Event()
        self._went_on = self._granted = 0.0
        self._slept: list[float] = []
        self._failed = ""

    def _wait(self, descriptors: Sequence[int], seconds: float) -> list[int]:
        self._waits.set()
        assert self._goes_on.wait(PATIENCE)
        hung_up = SYSTEM.wait(descriptors, seconds)
        if not hung_up:
            self._slept.append(seconds)
        return hung_up

    def _acquire(self) -> None:
        try:
            self.rival.acquire()
            self._granted = time.monotonic()
        except PoslockError as error:
            self._failed = str(error)
        finally:
            self._waits.set()

    @property
    def has_queue(self) -> bool:
        """Whether the child waits."""
        content = self._holders[0]._transitions.entry.peek()
        return isinstance(content, Record) and content.waiting != ()

    def come(self) -> None:
        """Let the rival wait, if it does not."""
        if not self._thread.ident:
            self._thread.start()
            assert self._waits.wait(PATIENCE)

    def holder_ends(self) -> None:
        """The one that the child waits for."""
        if self._scene.holder == "releases":
            self._holders.pop().release()
        elif self._scene.holder == "dies":
            self._holders.pop()
            end(self._of_holders.pop())

    def go_on(self) -> None:
        """The child was struck: who holds still does, and releases it; the rival looks what became of it all."""
        for each in self._holders:
            each.check()
            each.renew()
            each.release()
        self._went_on = time.monotonic()
        self._goes_on.set()

    def delay(self, seconds: float, *, told: bool = False) -> str:
        """What is wrong with how the rival got the lock: in time, and if so *told*, not because it looked by itself."""
        self._thread.join(PATIENCE)
        if not self._granted:
            return f"nobody else gets it: {self._failed}"
        if self._granted - self._went_on > seconds:
            return f"the next one got it after {self._granted - self._went_on:.1f} s"
        if told and sum(self._slept) > _NAPS:
            return f"the next one was not told: it slept {self._slept}"
        try:
            self.rival.check()
        except PoslockError as error:
            return f"and then {error}"
        return ""

    def wakes(self) -> list[str]:
        """Pipes of those who wait, or did."""
        return [
            each
            for each in os.listdir(f"{self.place}/.presence")
            if each.rpartition(".")[2].isdecimal() and "." in each
        ]

    def left_of_the_dead(self) -> list[str]:
        """What is left of others than those who live, once a process came and has cleaned up."""
        latest = elsewhere(self.place)
        latest.prepare()
        latest.presence.name()
        living = {name for each in (*self._of_holders, self._of_rival, latest) for name in each.presence._own}
        end(latest)
        files = os.listdir(f"{self.place}/.presence")
        return [each for each in files if "." in each and each.removesuffix(".life") not in living]

    def end(self) -> None:
        """Leave nothing open; nobody is about any more."""
        self._goes_on.set()
        if self._thread.ident:
            self._thread.join(PATIENCE)
        for each in (*self._of_holders, self._of_rival):
            end(each)


def end(directory: LockDirectory) -> None:
    """What the kernel does at the end of a process, as which a directory is seen."""
    for taken in directory.presence._own.values():
        SYSTEM.close(taken.descriptor)
    for line in directory.presence._life_lines.values():
        line.close()


def until(*true: Callable[[], bool]) -> None:
    """Wait until one of these is."""
    deadline = time.monotonic() + PATIENCE
    while not any(each() for each in true):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ready(child: LockChild, scene: Scene, place: str) -> LockChild:
    """*child* with a presence in *place*, and with what the scene begins with."""
    for word in (f"lock btc-0 {place}", "acquire", "release"):
        child.ask(word)
    child.ask(f"{'share' if scene.shared else 'lock'} btc-1 {place}")
    if scene.needs_hold:
        assert child.ask("acquire") == {"outcome": "ok"}
    return child


@contextmanager
def company_of(scene: Scene, place: str) -> Iterator[Company]:
    company = Company(scene, place)
    try:
        yield company
    finally:
        company.end()


@contextmanager
def struck(
    child: LockChild,
    scene: Scene,
    company: Company,
    log: Path,
    injection: str = "",
    turn: AbstractContextManager[object] | None = None,
) -> Iterator[None]:
    """Let *child* do what the scene is about, until it has done that or is struck; then let the others go on."""
    if scene.needs_hold:
        company.come()
    with ExitStack() as tracer:
        with turn or nullcontext():
            tracer.enter_context(traced(child, scene.word, log, injection))
            if scene.waits:
                until(child.has_ended, lambda: company.has_queue and child.is_asleep())
                company.come()
                company.holder_ends()
            until(child.has_ended)
        company.come()
        company.go_on()
        yield


def undisturbed(child: LockChild, scene: Scene, place: str, tmp_path: Path) -> tuple[list[Call], int, list[str]]:
    """The calls of a run that is not struck, the first one that is worth it, and what *child* has open at the end."""
    log = tmp_path / "undisturbed.log"
    with company_of(scene, place) as company:
        with struck(ready(child, scene, place), scene, company, log):
            ended = child.hear()
        assert ended["outcome"] == ("LockTimeout" if scene.holder == "stays" else "ok")
        assert both(child, company) == ""
        assert again(child, place) == ""
    found = calls(log, child)
    # Up to where it waits, all that wait make the same calls.
    waits = next(number for number, call in enumerate(found) if call.name == "poll") if scene.waits else 0
    return found, 1 if scene.holder == "releases" else waits, descriptors(child, place)


def descriptors(child: LockChild, place: str) -> list[str]:
    """What *child* has open in *place*; presence files go by another name each time."""
    paths = [each.removeprefix(place) for each in child.ask("descriptors")["open"] if each.startswith(f"{place}/")]
    return [re.sub(r"presence/.*", "presence", each) for each in paths]


def again(child: LockChild, place: str) -> str:
    """What is wrong when *child* wants the lock once more, and nobody else does; empty if nothing is."""
    child.ask(f"lock btc-1 {place}")
    ended = [child.ask(each)["outcome"] for each in (f"acquire {LEASE + 1}", "check", "release")]
    return "" if ended == ["ok", "ok", "ok"] else f"and then {ended}"


@every_scene
def test_killed_at_any_system_call_among_many_it_delays_nobody(
    scene: Scene, start: LockChildren, tmp_path: Path
) -> None:
    """SIGKILL before each call: who holds still does, the next one is told, and in at once; nothing is left.

    Only after calls that change something: before another one it is killed as before the one that looked. Where it
    waits, before every second of the rest.
    """
    made, first, _ = undisturbed(start("perform", stale_after=LONG, calm=True), scene, f"{tmp_path}/locks", tmp_path)
    first = max(first, 1)
    numbers = [first, *(each for each in range(first + 1, len(made)) if made[each - 1].name not in _LOOKS)]

    def outcome(number: int, place: str) -> str | None:
        call, log = made[number], Path(f"{place}.log")
        child = ready(start("perform", stale_after=LONG, calm=True), scene, place)
        with company_of(scene, place) as company:
            with struck(child, scene, company, log, f"{call.name}:signal=SIGKILL:when={call.nth}"):
                pass
            if not is_as_planned(calls(log, child), made, number):
                child.kill()
                return None
            assert child.process.wait(PATIENCE) == -signal.SIGKILL, f"not struck at {call}"
            found = [company.delay(AT_ONCE, told=True), *company.left_of_the_dead()]
        return "".join(f"killed before {call}: {each}\n" for each in found if each)

    assert problems(outcome, sampled(scene, numbers), tmp_path, at_once=4) == ""


@every_scene
def test_stopped_at_any_system_call_among_many_it_delays_nobody_for_long(
    scene: Scene, start: LockChildren, tmp_path: Path
) -> None:
    """SIGSTOP after each call: who holds still does, the next one is in within lease + 1 s, and stays in.

    Where the child only waited, it is in long before that.
    Not after calls that tell it nothing of the others; and where it waits, after every second of the rest.
    """
    child = start("perform", stale_after=LEASE, calm=True)
    made, first, kept = undisturbed(child, scene, f"{tmp_path}/locks", tmp_path)
    numbers = [each for each in range(first, len(made) - 1) if not is_about_itself(made[each])]
    turn = threading.Semaphore(2)

    def outcome(number: int, place: str) -> str | None:
        call, log = made[number], Path(f"{place}.log")
        with ExitStack() as stack:
            with turn:
                child = ready(start("perform", stale_after=LEASE, calm=True), scene, place)
            company = stack.enter_context(company_of(scene, place))
            injection = f"{call.name}:signal=SIGSTOP:when={call.nth}"
            tracer = stack.enter_context(ExitStack())
            tracer.enter_context(struck(child, scene, company, log, injection, turn))
            delay = LEASE + 1 if may_hold(scene, made, number) else AT_ONCE
            found = [company.delay(delay), resumed(child, scene, company)]
            tracer.close()
            if not is_as_planned(calls(log, child), made, number):
                child.kill()
                return None
            found += [again(child, place), *company.wakes()]
            if (now := descriptors(child, place)) != kept:
                found.append(f"open are {now}, not {kept}")
        child.end()
        return "".join(f"stopped after {call}: {each}\n" for each in found if each)

    assert problems(outcome, sampled(scene, numbers), tmp_path, at_once=20) == ""


def sampled(scene: Scene, numbers: list[int]) -> list[int]:
    """Every second one where there are too many: a waiter makes some eighty calls, and each costs a process."""
    return numbers[::2] if scene.waits else numbers


def problems(outcome: Callable[[int, str], str | None], numbers: Sequence[int], tmp_path: Path, *, at_once: int) -> str:
    """What *outcome* says of each number; None where a run was held up for so long that it made other calls."""

    def found(number: int) -> str:
        for attempt in range(_ATTEMPTS):
            if (said := outcome(number, f"{tmp_path}/locks-{number}-{attempt}")) is not None:
                return said
        return f"{number}: always another run\n"

    with ThreadPoolExecutor(at_once) as pool:
        return "".join(pool.map(found, numbers))


def may_hold(scene: Scene, made: list[Call], number: int) -> bool:
    """Whether a child may have been granted the lock when it comes to the call with this *number*."""
    grant = max(each for each, call in enumerate(made) if call.name == "pwrite64") if scene.waits else 0
    return scene.holder != "stays" and number >= grant


def is_about_itself(call: Call) -> bool:
    """Whether it tells a process nothing of what others did, and changes nothing for them."""
    return call.name in {"access", "getpid", "geteuid", "close"} or "AT_EMPTY_PATH" in call.line


def resumed(child: LockChild, scene: Scene, company: Company) -> str:
    """What is wrong when a child goes on that was stopped, and that the rival has replaced; or empty."""
    if not company.rival.held:
        child.resume()
        return f"and then {child.hear()}"
    company.rival.renew()
    child.resume()
    ended = child.hear()
    checked = child.ask("check")
    try:
        company.rival.check()
        company.rival.release()
    except PoslockError as error:
        return f"it ended in {ended}, and after that: {error}"
    if checked["outcome"] != "LockLost" or (scene.word == "check" and ended["outcome"] == "ok"):
        return f"it came back: {ended}, {checked}"
    return "" if ended["outcome"] == "ok" or ended["typed"] else f"it ended in {ended}"


@every_scene
def test_refused_at_any_system_call_among_many_it_says_so_and_nobody_is_let_in(
    scene: Scene, start: LockChildren, tmp_path: Path
) -> None:
    """An error from each call, of two kinds that suit it: who holds still does, one is in, nothing stays open.

    Who gives up gets one of the two, because every run lasts until then.
    """
    child, place, log = start("perform", stale_after=LEASE, calm=True), f"{tmp_path}/locks", tmp_path / "log"
    undisturbed(child, scene, place, tmp_path)  # loads what the later ones find loaded
    made, first, kept = undisturbed(child, scene, place, tmp_path)
    blows = [(each, error) for each in range(first, len(made)) for error in _ERRORS.get(made[each].name, ())]
    blows = blows[::2] if scene.holder == "stays" else blows

    def outcome(number: int, _: str) -> str | None:
        (at, error), found = blows[number], []
        call = made[at]
        with company_of(scene, place) as company:
            ready(child, scene, place)
            with struck(child, scene, company, log, f"{call.name}:error={error}:when={call.nth}"):
                ended = child.hear()
            run = calls(log, child)
            is_struck = is_as_planned(run, made, at)
            if is_struck:
                assert run[at].is_injected, f"not struck at {call}: {run}"
                close_as_the_kernel_does(child, run, at)
                found.append(refused(ended, scene, place))
            found += [both(child, company), again(child, place)]
        # What is only kept is let go of where no descriptor is left.
        if more := Counter(descriptors(child, place)) - Counter(kept):
            found.append(f"open are {more}, too")
        wakes = company.wakes()
        for each in wakes:
            os.unlink(f"{place}/.presence/{each}")
        found += [] if call.name == "unlink" else wakes
        return "".join(f"{error} from {call}: {each}\n" for each in found if each) if is_struck else None

    assert problems(outcome, range(len(blows)), tmp_path, at_once=1) == ""


def refused(ended: dict[str, Any], scene: Scene, place: str) -> str:
    """What is wrong with how something ended that may have failed; empty if nothing is."""
    expected = "LockTimeout" if scene.holder == "stays" else "ok"
    is_said = ended["outcome"] == "LockFileError" and place in ended["text"]
    return "" if is_said or ended["outcome"] == expected else f"it ended in {ended}"


def both(child: LockChild, company: Company) -> str:
    """What is wrong with who has the lock, and who gets it then: one of the child and the rival; or empty."""
    found = ""
    if child.ask("check")["outcome"] == "ok":
        if company.rival.held:
            found = "both hold it; "
        if (released := child.ask("release"))["outcome"] != "ok":
            found += f"release() gave {released}; "
    found += company.delay(LEASE + 1)
    if company.rival.held:
        company.rival.release()
    return found
