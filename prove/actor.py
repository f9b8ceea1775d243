"""Processes that run the shipped code up to a call, and can be asked again what they would do after another answer.

What a process does next depends on nothing but its program and the answers it got so far. So a process is a `Place` in
a tree of answers, and to go on from a place is to look it up. Only where nobody went before is the program run: by the
one that waits there, or by a new one that is given the same answers once more. A forked child is the place of its
parent with the other answer of ``fork``.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import getcurrent, greenlet

from poslock.errors import PoslockError
from poslock.lock.files import lock_file
from poslock.lock.files.directory import LockDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from poslock.lock.files.lock_file import OpenFile

FOLDER = "/locks"
PRESENCE = f"{FOLDER}/.presence"
_MOST_WAITING = 300


class Call(NamedTuple):
    """What a process asks for: a call of a `System`, of another port, or a word to whoever watches (``tell``)."""

    name: str
    args: tuple[Any, ...] = ()


class Ended(NamedTuple):
    """The end of a program: what it returned, or the error that nobody expected."""

    result: str
    error: str = ""


class Raised(NamedTuple):
    """An answer that is an error. ``make`` makes it anew for everybody who gets it."""

    make: Callable[..., Exception]
    args: tuple[Any, ...]

    @classmethod
    def like(cls, error: OSError) -> Raised:
        """What raises the same."""
        return cls(type(error), (error.errno, error.strerror, error.filename))


class Abandoned(BaseException):
    """Nobody goes on from here with this very process."""


class Place:
    """How far a process got: what it asks for now, and where it would be after each answer that somebody tried."""

    __slots__ = ("after", "answer", "before", "call")

    def __init__(self, call: Call | Ended, before: Place | None, answer: Any) -> None:
        self.call = call
        self.before = before
        self.answer = answer
        self.after: dict[Hashable, Place] = {}

    def answers(self) -> list[Any]:
        """All that were given on the way here."""
        found: list[Any] = []
        place = self
        while place.before is not None:
            found.append(place.answer)
            place = place.before
        return found[::-1]


class Actor:
    """One process while it runs: what a program is given. It is the process's `System`, too."""

    clock_name, host_name = "boot", "host"

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.generation = 0
        self._number = pid  # no other process has it, whatever its PID in its own namespace
        self.directory = LockDirectory(FOLDER, self)
        self.kept: OrderedDict[tuple[int, str], OpenFile] = OrderedDict()
        self._names = 0
        self._abandoned = False

    def ask(self, name: str, *args: Any) -> Any:
        """The answer to a call."""
        if self._abandoned:
            raise Abandoned
        answer = getcurrent().parent.switch(Call(name, args))
        if isinstance(answer, Raised):
            raise answer.make(*answer.args)
        return answer

    def tell(self, what: str, *details: Any) -> None:
        """Say something to whoever watches."""
        self.ask("tell", what, *details)

    def fork(self, *, into_namespace: bool = False) -> bool:
        """Whether this is the child. It has closed what it inherited by then, as `PosixSystem` makes it.

        *into_namespace*: PID 1 makes a new PID namespace for its children, so the child has the same PID.
        """
        child, descriptors = self.ask("fork")
        if not child:
            return False
        self._number = child
        self.pid = self.pid if into_namespace else child
        self.generation += 1
        for descriptor in descriptors:
            self.close(descriptor)
        self.kept.clear()
        return True

    def lose_presence(self) -> None:
        """Close the descriptor of its presence, as a daemon does that closes all that it has open."""
        mine = self.directory.presence._mine  # noqa: SLF001  # as a bot cannot know, and does
        assert mine is not None
        self.tell("unproven")
        self.close(mine.descriptor)

    def abandon(self) -> None:
        """From here on every call is in vain."""
        self._abandoned = True

    # What no other process and no time can change.

    def user_id(self) -> int:
        return 0

    def group_id(self) -> int:
        return 0

    def group_ids(self) -> frozenset[int]:
        return frozenset()

    def mount_table(self) -> str:
        return ""

    def process_id(self) -> int:
        return self.pid

    def random_name(self) -> str:
        self._names += 1
        return f"{self._number:04x}{self._names:04x}"

    def random(self) -> float:
        return 0.5

    def make_directory(self, path: str) -> None:
        assert path in {FOLDER, PRESENCE}, path

    def share(self, target: str | int) -> None:
        raise AssertionError(target)

    # The calls.

    def open(self, path: str, *, create: bool = False, write: bool = True) -> int:
        return int(self.ask("open", path, create, write))

    def wait(self, descriptors: Sequence[int], seconds: float) -> Any:
        return self.ask("wait", tuple(descriptors), seconds)

    def listing(self, path: str) -> Any:
        return iter(self.ask("listing", path))

    def wall_ns(self) -> int:
        return int(self.ask("wall_ns_of"))

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.ask(name, *args)


class Program:
    """A program, and all places that were found in it."""

    def __init__(self, run: Callable[[Actor], str], pid: int) -> None:
        self.pid = pid
        self._run = run
        self._waiting: OrderedDict[Place, tuple[greenlet, Actor]] = OrderedDict()
        self.places = 0
        self.start = self._new_place(*self._started(), None, None)

    def after(self, place: Place, answer: Any) -> Place:
        """Where the process is once it has got this answer."""
        key = _key(answer)
        found = place.after.get(key)
        if found is None:
            running, actor = self._at(place)
            found = place.after[key] = self._new_place(running, actor, place, answer)
        return found

    def _new_place(self, running: greenlet, actor: Actor, before: Place | None, answer: Any) -> Place:
        place = Place(_switched(running, actor, answer), before, answer)
        self.places += 1
        if isinstance(place.call, Call):
            self._waiting[place] = running, actor
            if len(self._waiting) > _MOST_WAITING:
                _abandon(*self._waiting.popitem(last=False)[1])
        return place

    def _at(self, place: Place) -> tuple[greenlet, Actor]:
        """A process that waits at this place."""
        if place in self._waiting:
            return self._waiting.pop(place)
        running, actor = self._started()
        call: Call | Ended = _switched(running, actor, None)
        for answer in place.answers():
            call = _switched(running, actor, answer)
        assert call == place.call, f"not the same again: {call} for {place.call}"
        return running, actor

    def _started(self) -> tuple[greenlet, Actor]:
        actor = Actor(self.pid)

        def run(_: object) -> Ended:
            try:
                return Ended(self._run(actor))
            except Abandoned:
                return Ended("abandoned")
            except PoslockError as error:
                return Ended("", f"{type(error).__name__}: {error}")

        return greenlet(run), actor


def _key(answer: Any) -> Hashable:
    try:
        hash(answer)
    except TypeError:  # a list of frozen things
        return repr(answer)
    return answer  # type: ignore[no-any-return]  # hashable, as was seen


def _switched(running: greenlet, actor: Actor, answer: Any) -> Call | Ended:
    with _files_of(actor):
        call: Call | Ended = running.switch(answer)
    return call


def _abandon(running: greenlet, actor: Actor) -> None:
    actor.abandon()
    with _files_of(actor):
        while not running.dead:
            running.throw(Abandoned)


@contextmanager
def _files_of(actor: Actor) -> Iterator[None]:
    """What a process keeps open is a module's, and here several processes are one: each has its own while it runs."""
    ours, lock_file._kept = lock_file._kept, actor.kept  # noqa: SLF001  # there is no other way to it
    try:
        yield
    finally:
        lock_file._kept = ours  # noqa: SLF001  # as above
