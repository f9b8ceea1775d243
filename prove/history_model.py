"""What one position's lock and ledger do when everything happens one after the other.

This is the specification against which histories are judged (`prove.history`): a state, and for each operation the
state after it, or why it cannot happen now. Tokens only grow (Gray and Cheriton 1989 give the lease, the token makes
its end visible to the ledger); the ledger takes no write below a token that it has taken, and one booking for each
generation. A later position on the leg supersedes a generation whose close cannot end: from then on its id can be
tracked again, and it is still booked once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Write: TypeAlias = Literal["track", "begin", "write", "touch", "supersede", "forget", "settle", "book"]
Answer: TypeAlias = Literal["closed", "already closed", "already closing"]
Kind: TypeAlias = Write | Answer | Literal["acquire", "release", "place"]
Outcome: TypeAlias = Literal["done", "refused", "undecided"]

ANSWERS = frozenset({"closed", "already closed", "already closing"})

_WRITES = frozenset({"begin", "write", "touch", "supersede", "forget", "settle", "book"})
# At which steps of a position a write of that kind is taken.
_STEPS: dict[str, frozenset[str]] = {
    "begin": frozenset({"open"}),
    "forget": frozenset({"open"}),
    "supersede": frozenset({"closing"}),
    "book": frozenset({"closing"}),
    "settle": frozenset({"open", "closing"}),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one process on one position, times by CLOCK_MONOTONIC of the host.

    A release stands for the end of a hold, however it came: by release, by death, or by a lease that ran out. A place
    is one in the queue that may be left over when an acquire has timed out; it is undecided.

    Args:
        process: who; a process does one thing after the other.
        kind: acquire and release a hold; track, begin, book and any other write of the ledger; what a close answered.
            A touch is a write that leaves no line in the audit.
        position: on which position.
        invoked_ns: before this it had no effect.
        returned_ns: after this it has none; None if that is not known.
        outcome: undecided if its process was killed, or told of an error, before it knew: it may have happened or not.
        token: the fencing token granted or carried, 0 if nobody knows.
        generation: of the position, for writes.
        shared: an acquire together with others who share.
        place: which of the writes that the ledger took on this position it was, from 1; None if that is not known.
    """

    process: str
    kind: Kind
    position: str
    invoked_ns: int
    returned_ns: int | None
    outcome: Outcome = "done"
    token: int = 0
    generation: int = 0
    shared: bool = False
    place: int | None = None

    @property
    def only_looks(self) -> bool:
        """Whether it changes nothing for others."""
        return self.kind in ANSWERS or self.outcome == "refused"


class Hold(NamedTuple):
    """Who holds the lock."""

    token: int
    process: str
    shared: bool


class State(NamedTuple):
    """A position: how far it is, the tokens granted and accepted, who holds it, and how many writes it has seen.

    ``untold`` are the tokens of bookings of which nobody was told. ``superseded`` are generations that are not booked
    and whose leg a later position has, ``has_late_booking`` says that one of them was booked since.
    """

    generation: int = 0
    step: Literal["open", "closing", "closed"] = "closed"
    booked: int = 0
    untold: tuple[int, ...] = ()
    granted: int = 0
    accepted: int = 0
    holders: tuple[Hold, ...] = ()
    places: int = 0
    superseded: tuple[int, ...] = ()
    has_late_booking: bool = False


class Around(NamedTuple):
    """What goes on at the same time: holds that may be over, by token, and who is acquiring or in the queue."""

    may_end: frozenset[int]
    acquiring: frozenset[str]


class Conflict(NamedTuple):
    """Why an operation cannot happen now, and with which operations it is at odds, if with any."""

    why: str
    against: Callable[[Operation], bool] | None = None


def after(state: State, operation: Operation, around: Around) -> State | Conflict:
    """The state once *operation*, no release and no place, has happened, or why it cannot happen in *state*."""
    if operation.outcome == "refused":
        return _refused(state, operation, around)
    match operation.kind:
        case "acquire":
            return _acquire(state, operation, around)
        case "closed":
            return _closed(state, operation)
        case "already closed" | "already closing":
            return _already(state, operation, around)
        case _:
            return _write(state, operation)


def released(state: State, operation: Operation) -> State:
    """The state once a hold is over."""
    return state._replace(holders=tuple(each for each in state.holders if each.token != operation.token))


def _refused(state: State, operation: Operation, around: Around) -> State | Conflict:
    if operation.kind == "acquire":
        return state if _somebody_else(state, operation, around) else Conflict("nobody else was there to wait for")
    return state if operation.token < state.accepted else Conflict("no higher token was accepted before")


def _acquire(state: State, operation: Operation, around: Around) -> State | Conflict:
    if operation.outcome == "refused":
        return (
            state if _somebody_else(state, operation, around) else Conflict("it timed out, and nobody else was there")
        )
    # One without a token was killed before it knew: it wrote nothing, and whoever comes next ends its hold, so it need
    # not have been. That it was there to wait for is in `Around`.
    token, shared = operation.token, operation.shared
    if token <= state.granted:
        return Conflict(f"token {state.granted} was granted before", _of("acquire", state.granted))
    staying = tuple(each for each in state.holders if each.shared and shared)
    for each in state.holders:
        if each not in staying and each.token not in around.may_end:
            return Conflict(f"{each.process} still holds it with token {each.token}", _of("acquire", each.token))
    return state._replace(granted=token, holders=(*staying, Hold(token, operation.process, shared)))


def _closed(state: State, operation: Operation) -> State | Conflict:
    if operation.token in state.untold:
        return state._replace(untold=tuple(each for each in state.untold if each != operation.token))
    if operation.token != state.booked:
        return Conflict("nothing is booked with that token")
    return Conflict("another one was told that it closed", _of("closed", operation.token))


def _already(state: State, operation: Operation, around: Around) -> State | Conflict:
    if operation.kind == "already closed":
        true = (state.step == "closed" and state.generation > 0) or state.has_late_booking
    else:
        true = state.step == "closing" or bool(state.superseded) or _somebody_else(state, operation, around)
    return state if true else Conflict(f"generation {state.generation} was {state.step}, and nobody else at it")


def _write(state: State, operation: Operation) -> State | Conflict:
    token, place, following = operation.token, operation.place, state.places + 1
    if operation.kind == "touch":
        following = state.places
    elif place is not None and place != following:
        why = f"the ledger has it as write {place} of the position, and write {following} was not there yet"
        return Conflict(why, lambda each: each.place == following)
    if operation.kind == "track":
        return _tracked(state._replace(places=following), operation)
    if token > state.granted:
        return Conflict("that token was not granted before")
    if token < state.accepted:
        return Conflict(f"a write with token {state.accepted} was accepted before", _written(state.accepted))
    return _advanced(state._replace(accepted=token, places=following), operation)


def _tracked(state: State, operation: Operation) -> State | Conflict:
    is_free = state.step == "closed" or state.generation in state.superseded
    if operation.generation != state.generation + 1 or not is_free:
        return Conflict(f"generation {state.generation} was {state.step}")
    return state._replace(generation=operation.generation, step="open")


def _advanced(state: State, operation: Operation) -> State | Conflict:
    if operation.generation in state.superseded:
        return _of_superseded(state, operation)
    if operation.generation != state.generation or state.step == "closed":
        return Conflict(f"generation {state.generation} was {state.step}", _of("book", state.booked))
    expected = _STEPS.get(operation.kind)
    if expected is not None and state.step not in expected:
        was = "begun before" if operation.kind == "begin" else "not begun" if operation.kind == "book" else state.step
        return Conflict(f"generation {state.generation} was {was}")
    match operation.kind:
        case "begin":
            state = state._replace(step="closing")
        case "supersede":
            state = state._replace(superseded=(*state.superseded, operation.generation))
        case "forget":
            state = state._replace(step="closed")
        case "book" | "settle":
            state = state._replace(step="closed", booked=operation.token, untold=(*state.untold, operation.token))
    return state


def _of_superseded(state: State, operation: Operation) -> State | Conflict:
    """A write on a generation whose leg a later position has: it is booked some time, and nothing else changes."""
    generation, step = operation.generation, state.step
    if operation.kind in {"write", "touch"}:
        return state
    if operation.kind not in {"book", "settle"}:
        return Conflict(f"a later position has the leg of generation {generation}")
    rest = tuple(each for each in state.superseded if each != generation)
    untold = (*state.untold, operation.token)
    return state._replace(
        step="closed" if generation == state.generation else step,
        booked=operation.token,
        untold=untold,
        superseded=rest,
        has_late_booking=True,
    )


def _somebody_else(state: State, operation: Operation, around: Around) -> bool:
    others = {each.process for each in state.holders} | around.acquiring
    return bool(others - {operation.process})


def _of(kind: Kind, token: int) -> Callable[[Operation], bool]:
    return lambda each: each.kind == kind and each.token == token and each.outcome != "refused"


def _written(token: int) -> Callable[[Operation], bool]:
    return lambda each: each.kind in _WRITES and each.token == token and each.outcome != "refused"
