"""Simulated processes over what they share: who can move, what a move does, and what must be true afterwards.

A move is one call of one process. Calls that make no difference to others happen together with the one before them, as
do words to the witness. Everything else can be pulled apart. Between any two moves a process can die, or never move
again, and the clock can jump; a sleeper may be woken at any time from when it is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from prove.actor import Call, Ended, Place, Program
from prove.disk import SECOND
from prove.explore import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from prove.actor import Actor
    from prove.disk import Disk
    from prove.explore import Move

_HALF = 200
_CALM_NS = 2 * SECOND
_MOST_ROUNDS = 20_000
_MOST_STEPS = 2_000
# After jumps of the clock an owner's transition may find itself too late; that is an error with a name.
_EXPECTED = "stays busy"


class Witness(Protocol):
    """Sees everything, and raises `Violation`. A value: each method returns what is known after it."""

    def told(self, disk: Any, pid: int, what: str, details: tuple[Any, ...]) -> Self:
        """A process has said something."""

    def looked(self, disk: Any, *, torn: bool) -> Self:
        """Something may have changed; *torn* if a write may be under way."""

    def died(self, pid: int, *, half: bool) -> Self:
        """A process has ended, in the middle of a write if *half*."""


@dataclass(frozen=True)
class Bounds:
    """How much may go wrong: how many processes die, how often the clock jumps and the wall clock goes back.

    ``preemptions``: how often somebody who could go on does not; None for any number. ``torn``: writes come in two
    pieces, and who dies in between leaves one. ``faults``: how often the venue fails; ``triggers``: how often the price
    reaches the stop-loss. ``acts``: how often the trader does one of ``deeds``; ``lags``: how often the venue
    shows late what has happened.
    """

    crashes: int = 0
    jumps: int = 0
    wall_steps: int = 0
    faults: int = 0
    triggers: int = 0
    preemptions: int | None = None
    torn: bool = False
    deeds: tuple[str, ...] = ()
    acts: int = 0
    lags: int = 0


@dataclass(frozen=True)
class World:
    """The programs, one for each process, what they share, who sees them, and what may befall them.

    ``jump_ns`` is how far the clock jumps, ``nap_ns`` how long a sleeper sleeps at least: as long as a busy host lets
    it. ``prompt_ns`` is how long the living may take to their ends, ``patience_ns`` how long if somebody of them never
    moves; ``is_private`` says whether nobody else notices a call. ``stopped`` never moves after the opening.
    """

    runs: tuple[Callable[[Actor], str], ...]
    bounds: Bounds
    disk: Disk
    witness: Any
    is_private: Callable[[Any, int, Call], bool]
    jump_ns: int
    prompt_ns: int
    patience_ns: int
    nap_ns: int = SECOND // 20
    stopped: int = 0


class Process(NamedTuple):
    """Where a process is. ``wakes_ns``: it sleeps until then. ``half``: of what it writes, a part is written."""

    pid: int
    program: Program
    place: Place
    wakes_ns: int = 0
    half: bool = False
    dead: bool = False

    @property
    def moves(self) -> bool:
        """Whether it will ever do anything more."""
        return not self.dead and isinstance(self.place.call, Call)

    @property
    def is_waiting(self) -> bool:
        """Whether it sleeps, and something may wake it before its time."""
        return bool(self.wakes_ns) and self.call.name == "wait"

    @property
    def call(self) -> Call:
        """What it asks for, if it moves."""
        assert isinstance(self.place.call, Call)
        return self.place.call

    @property
    def result(self) -> str:
        """What its program returned, if it has come to its end."""
        return self.place.call.result if isinstance(self.place.call, Ended) else ""

    def is_at(self, name: str) -> bool:
        """Whether its next call is of that name, or asks for a method of that name."""
        return self.moves and not self.wakes_ns and name in (self.call.name, *self.call.args[:1])


class Spent(NamedTuple):
    """What of the bounds was used up, and who moved last."""

    crashes: int = 0
    jumps: int = 0
    wall_steps: int = 0
    faults: int = 0
    triggers: int = 0
    preemptions: int = 0
    last: int = 0
    acts: int = 0
    lags: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether nothing has gone wrong so far; that somebody had to wait is nothing."""
        return not any(self._replace(preemptions=0, last=0))


class State:
    """One state of a world; see `prove.explore.State`."""

    __slots__ = ("disk", "processes", "seen", "spent", "world")

    def __init__(self, world: World, disk: Any, processes: tuple[Process, ...], seen: Any, spent: Spent) -> None:
        self.disk = disk
        self.world = world
        self.processes = processes
        self.seen = seen
        self.spent = spent

    @classmethod
    def at_start(cls, world: World) -> Self:
        """Before anything has happened."""
        state = cls(world, world.disk.copy(), (), world.witness, Spent())
        for number, run in enumerate(world.runs, start=1):
            program = Program(run, number)
            state = state.joined(Process(number, program, program.start))
        return state

    def joined(self, process: Process) -> Self:
        """The same with one more process, which has done what nobody notices."""
        disk = self.disk.copy()
        process, seen = self._until_noticed(process, disk, self.seen)
        return type(self)(self.world, disk, (*self.processes, process), seen, self.spent)

    def opened(self, opening: tuple[tuple[int, str], ...]) -> Self:
        """The state when each of these processes has come to its next call of that name; 0 is for the clock."""
        state = self
        for pid, name in opening:
            if not pid:
                state.disk.now_ns += self.world.jump_ns
                continue
            for _ in range(_MOST_STEPS):
                if state.process(pid).is_at(name):
                    break
                state = state.run(pid)
            else:
                raise RuntimeError(f"process {pid} never comes to {name}")
        return type(self)(self.world, state.disk, state.processes, state.seen, Spent())

    def key(self) -> Hashable:
        """Equal for states that go on in the same ways."""
        spent = self.spent if self.world.bounds.preemptions is not None else self.spent._replace(last=0)
        where = tuple((each.place, each.wakes_ns, each.half, each.dead) for each in self.processes)
        return self.disk.key(), where, self.seen, spent

    def moves(self) -> list[Move]:
        """What can happen next."""
        bounds, spent = self.world.bounds, self.spent
        moving = [each for each in self.processes if each.moves and each.pid != self.world.stopped]
        found: list[Move] = [("run", each.pid) for each in moving if self._may_run(each)]
        if moving:
            found += [("crash", each.pid) for each in moving if spent.crashes < bounds.crashes]
            found += [("jump", 0)] * (spent.jumps < bounds.jumps)
            found += [("wall clock", 0)] * (spent.wall_steps < bounds.wall_steps)
        return found

    def after(self, move: Move) -> Self:
        """The state after one of these moves."""
        what, pid = move
        if what == "run":
            return self.run(pid)
        disk, spent = self.disk.copy(), self.spent
        if what == "jump":
            disk.now_ns += self.world.jump_ns
            return self._with(disk, spent._replace(jumps=spent.jumps + 1))
        if what == "wall clock":
            disk.wall_ns -= 3600 * SECOND
            return self._with(disk, spent._replace(wall_steps=spent.wall_steps + 1))
        assert what == "crash", what
        disk.end(pid)
        process = self.process(pid)._replace(dead=True, wakes_ns=0)
        seen = self.seen.died(pid, half=self.process(pid).half)
        return self._with(disk, spent._replace(crashes=spent.crashes + 1), process, seen)

    def told(self, move: Move) -> str:
        """What happens in a move."""
        what, pid = move
        if not pid:
            return what
        process = self.process(pid)
        call = process.place.call
        doing = f"{call.name} {' '.join(map(_short, call.args))}" if isinstance(call, Call) else "nothing"
        doing = f"{pid}: wakes" if process.wakes_ns else f"{pid}: {doing}"
        return doing if what == "run" else f"{doing} -- {what}"

    def look(self) -> None:
        """Whether everybody comes to an end in time, whoever of the living never moves again, or does so later."""
        for stopped in (None, *(each.pid for each in self.processes if each.moves and each.pid != self.world.stopped)):
            try:
                done = self.completed(stopped)
                if stopped is None:
                    done.finished(calm=self._is_calm())
                else:
                    done.completed(None, patient=True).finished(calm=False)
            except Violation as violation:
                violation.add_note(f"then everybody goes on but {stopped}" if stopped else "then everybody goes on")
                raise

    def finished(self, *, calm: bool) -> None:
        """What must be true when everybody has come to an end; *calm* if nothing went wrong on the way."""
        failed = [each.place.call.error for each in self.processes if isinstance(each.place.call, Ended)]
        if calm and any(failed):
            raise Violation(f"with nothing amiss a process ended with {' and '.join(filter(None, failed))}")

    def _is_calm(self) -> bool:
        """Whether nothing has gone wrong; time in which somebody did not move is a pause, too."""
        return self.spent.is_nothing and self.disk.now_ns - self.world.disk.now_ns < _CALM_NS

    def completed(self, stopped: int | None, *, patient: bool = False) -> Self:
        """The state when everybody has come to an end but *stopped*, without any more disturbance.

        It may take as long as with somebody stopped if that is so, or was: be *patient*.

        Raises:
            Violation: they do not, or not in time.
        """
        state = self
        due_ns = self.disk.now_ns + (self.world.patience_ns if stopped or patient else self.world.prompt_ns)
        for _ in range(_MOST_ROUNDS):
            moving = [each for each in state.processes if each.moves and each.pid not in {stopped, self.world.stopped}]
            if not moving:
                return state
            awake = [each for each in moving if each.wakes_ns <= state.disk.now_ns or _hung_up(each, state.disk)]
            for process in awake or [min(moving, key=lambda each: each.wakes_ns)]:
                state = state.run(process.pid)
            if state.disk.now_ns > due_ns:
                raise Violation(f"processes {[each.pid for each in moving]} wait for too long")
        raise Violation(f"no end after {_MOST_ROUNDS} rounds")

    # How it goes on.

    def _may_run(self, process: Process) -> bool:
        limit = self.world.bounds.preemptions
        return limit is None or self.spent.preemptions < limit or not self._preempts(process)

    def _preempts(self, process: Process) -> bool:
        """Whether somebody should have gone on instead: who moved last, or before a sleeper anybody who is awake."""
        others = [each for each in self.processes if each.moves and each.pid not in {process.pid, self.world.stopped}]
        awake = [each.pid for each in others if self._is_awake(each)]
        return self.spent.last in awake or bool(awake and not self._is_awake(process))

    def _is_awake(self, process: Process) -> bool:
        return not process.wakes_ns or bool(_hung_up(process, self.disk))

    def run(self, pid: int) -> Self:
        """The next call of a process, and what it does after that without anybody noticing."""
        process, disk, seen, spent = self.process(pid), self.disk.copy(), self.seen, self.spent
        if self._preempts(process):
            spent = spent._replace(preemptions=spent.preemptions + 1)
        spent = spent._replace(last=pid)
        call = process.call
        born: tuple[Process, ...] = ()
        if process.wakes_ns:
            hung_up = _hung_up(process, disk)
            self._expect_no_idling(process)
            disk.now_ns = disk.now_ns if hung_up else max(disk.now_ns, process.wakes_ns)
            answer = tuple(hung_up) if call.name == "wait" else None
            process, seen = self._went_on(process._replace(wakes_ns=0), answer, disk, seen)
        elif call.name == "wait" and not disk.hung_up(pid, call.args[0]):
            process = process._replace(wakes_ns=disk.now_ns + int(call.args[1] * SECOND))
        elif call.name == "wait":
            process, seen = self._went_on(process, tuple(disk.hung_up(pid, call.args[0])), disk, seen)
        elif call.name == "sleep":
            nap_ns = max(self.world.nap_ns, int(call.args[0] * SECOND))
            process = process._replace(wakes_ns=disk.now_ns + nap_ns)
        elif call.name == "write" and self.world.bounds.torn and not process.half:
            descriptor, data, offset = call.args
            disk.write(pid, descriptor, data[:_HALF], offset)
            process = process._replace(half=True)
        elif call.name == "fork":
            child = 100 + pid
            disk.fork(pid, child)
            place = process.program.after(process.place, (child, tuple(disk.open_by(child))))
            born = (Process(child, process.program, place),)
            process, seen = self._went_on(process, (0, ()), disk, seen)
        else:
            process, seen = self._went_on(process._replace(half=False), disk.answer(pid, call), disk, seen)
        state = self._with(disk, spent, process, seen)
        state.processes += born
        return state

    def _expect_no_idling(self, sleeper: Process) -> None:
        """Nobody sleeps for longer than is prompt while nobody else does anything: it should have been woken."""
        others = [each for each in self.processes if each.moves and each.pid not in {sleeper.pid, self.world.stopped}]
        if any(self._is_awake(each) for each in (sleeper, *others)):
            return
        until_ns = min([sleeper.wakes_ns, *(each.wakes_ns for each in others)])
        if until_ns - self.disk.now_ns > self.world.prompt_ns:
            raise Violation(f"everybody sleeps for {(until_ns - self.disk.now_ns) / SECOND:g} s")

    def _went_on(self, process: Process, answer: Any, disk: Any, seen: Any) -> tuple[Process, Any]:
        """A process that got an answer, up to its next call that others can notice."""
        return self._until_noticed(process._replace(place=process.program.after(process.place, answer)), disk, seen)

    def _until_noticed(self, process: Process, disk: Any, seen: Any) -> tuple[Process, Any]:
        """A process that does what nobody notices; *disk* is changed."""
        place, torn = process.place, self.world.bounds.torn
        while isinstance(call := place.call, Call):
            answer = None
            if call.name == "tell":
                # Seen first: what it says is about the disk as it is by now.
                seen = seen.looked(disk, torn=torn).told(disk, process.pid, call.args[0], call.args[1:])
            elif self.world.is_private(disk, process.pid, call):
                answer = disk.answer(process.pid, call)
            else:
                break
            place = process.program.after(place, answer)
        if isinstance(call, Ended) and call.error and _EXPECTED not in call.error:
            raise Violation(f"process {process.pid} ended with {call.error}")
        return process._replace(place=place), seen

    def _with(self, disk: Any, spent: Spent, process: Process | None = None, seen: Any = None) -> Self:
        processes = self.processes
        if process is not None:
            processes = tuple(process if each.pid == process.pid else each for each in processes)
        looked = (self.seen if seen is None else seen).looked(disk, torn=self.world.bounds.torn)
        return type(self)(self.world, disk, processes, looked, spent)

    def process(self, pid: int) -> Process:
        """The process with this number."""
        return next(each for each in self.processes if each.pid == pid)


def _hung_up(process: Process, disk: Any) -> list[int]:
    """What ends the wait of a process before its time."""
    return disk.hung_up(process.pid, process.call.args[0]) if process.is_waiting else []


def _short(argument: object) -> str:
    if isinstance(argument, bytes):
        return f"<{argument.rstrip()[:300].decode(errors='replace')}>"
    return str(argument).rpartition("/")[2]
