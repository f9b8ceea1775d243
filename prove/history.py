"""Does some order explain what all processes did? The checker of histories of real runs.

Purpose: given the operations of all processes, each with the time before it was invoked and the time after it returned,
say for each position whether they can be put in an order in which the model (`prove.history_model`) could have done
them one by one, and in which whatever returned before another was invoked comes first. That is linearizability
(Herlihy and Wing 1990), which is local: positions share nothing, so each is judged by itself.

The search is that of Wing and Gong (1993) with a memory of what it has seen, carried out as Lowe (2017) does, along the
time line: an operation is put into the order when its return forces that. So the work grows with what happens at once,
not with the length of the run. Three shortcuts lose no order: what only looks is put in as soon as it fits; a hold that
may be over ends when somebody else is granted the lock, not before; a place in the ledger's audit is kept.

Not decided: a position whose search takes more than `most_steps`; that is said, and is no approval.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from prove.history_model import Around, Conflict, Operation, State, after, released

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Operation", "Verdict", "judged"]

_MOST_STEPS = 1_000_000
_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an order explains the operations on a position, and if not, why not."""

    position: str
    operations: int
    undecided: int
    answer: Literal["explained", "contradictory", "undecided"]
    why: str = ""


def judged(operations: Iterable[Operation], *, most_steps: int = _MOST_STEPS) -> list[Verdict]:
    """A verdict for each position, in the order of their names."""
    by_position: dict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        by_position[each.position].append(each)
    began_ns = min((each.invoked_ns for found in by_position.values() for each in found), default=0)
    return [_verdict(position, by_position[position], began_ns, most_steps) for position in sorted(by_position)]


def _verdict(position: str, operations: Sequence[Operation], began_ns: int, most_steps: int) -> Verdict:
    undecided = sum(each.outcome == "undecided" and each.kind not in {"release", "place"} for each in operations)
    search = _Search(operations, most_steps)
    try:
        for event in _events(operations):
            search.take(event)
    except _Contradiction as found:
        why = _told(found, operations, began_ns)
        return Verdict(position, len(operations), undecided, "contradictory", f"{position}: {why}")
    except _TooManySteps:
        why = f"{position}: no order was found or excluded in {most_steps} steps"
        return Verdict(position, len(operations), undecided, "undecided", why)
    return Verdict(position, len(operations), undecided, "explained")


class _Event(NamedTuple):
    at_ns: float
    is_return: bool
    number: int


class _Order(NamedTuple):
    """The end of an order: the state, and which of the operations that are under way are in it."""

    state: State
    taken: frozenset[int]


class _TooManySteps(Exception):
    pass


class _Contradiction(Exception):
    """No order has this operation in it; and what was against it in the one that came farthest."""

    def __init__(self, operation: Operation, conflict: Conflict) -> None:
        super().__init__(conflict.why)
        self.operation = operation
        self.conflict = conflict


class _Search:
    """All orders of one position, up to a moment."""

    def __init__(self, operations: Sequence[Operation], most_steps: int) -> None:
        self._operations = operations
        self._steps_left = most_steps
        self._under_way: set[int] = set()
        self._around = Around(frozenset(), frozenset())
        self._orders = {_Order(State(), frozenset())}

    def take(self, event: _Event) -> None:
        """Go on to the next moment.

        Raises:
            _Contradiction: no order is left.
            _TooManySteps: so many were looked at that it is given up.
        """
        if not event.is_return:
            self._under_way.add(event.number)
            self._look_around()
            self._orders = {self._with_looks(each) for each in self._orders}
            return
        operation = self._operations[event.number]
        if operation.kind == "release":
            self._grant_first(operation)
            self._orders = {each._replace(state=released(each.state, operation)) for each in self._orders}
        elif operation.outcome == "undecided":  # from here on it has happened or not
            self._orders |= self._forced(event.number)[0]
        else:
            self._orders = self._all_forced(event.number)
        self._under_way.discard(event.number)
        self._look_around()
        self._orders = {each._replace(taken=each.taken - {event.number}) for each in self._orders}

    def _grant_first(self, release: Operation) -> None:
        """What was released was granted before, even if that has not returned."""
        for number in sorted(self._under_way):
            operation = self._operations[number]
            if operation.kind == "acquire" and operation.token == release.token:
                self._orders = self._all_forced(number)

    def _all_forced(self, number: int) -> set[_Order]:
        found, seen = self._forced(number)
        if not found:
            raise self._contradiction(number, seen)
        return found

    def _forced(self, number: int) -> tuple[set[_Order], set[_Order]]:
        """The orders that have the operation in them, after as few others as need be; and all that were looked at."""
        found, seen, ahead = set[_Order](), set(self._orders), list(self._orders)
        while ahead:
            order = ahead.pop()
            if number in order.taken:
                found.add(order)
                continue
            for following in self._following(order):
                if following not in seen:
                    seen.add(following)
                    ahead.append(following)
        return found, seen

    def _following(self, order: _Order) -> Iterator[_Order]:
        for number in self._under_way - order.taken:
            operation = self._operations[number]
            if operation.only_looks or operation.kind in {"release", "place"}:
                continue
            state = self._step(order.state, number)
            if isinstance(state, State):
                yield self._with_looks(_Order(state, order.taken | {number}))

    def _with_looks(self, order: _Order) -> _Order:
        """With everything in it that only looks and fits here: later it would fit no better, and bars nothing."""
        for number in self._under_way - order.taken:
            if self._operations[number].only_looks:
                state = self._step(order.state, number)
                if isinstance(state, State):
                    order = _Order(state, order.taken | {number})
        return order

    def _step(self, state: State, number: int) -> State | Conflict:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise _TooManySteps
        return after(state, self._operations[number], self._around)

    def _look_around(self) -> None:
        under_way = [self._operations[number] for number in self._under_way]
        may_end = frozenset(each.token for each in under_way if each.kind == "release")
        self._around = Around(
            may_end, frozenset(each.process for each in under_way if each.kind in {"acquire", "place"})
        )

    def _contradiction(self, number: int, seen: Iterable[_Order]) -> _Contradiction:
        farthest = max(seen, key=lambda each: (len(each.taken), each.state))
        conflict = self._conflict(farthest, number)
        blamed = set[int]()
        # If it only waits for another one to be written first, what matters is why that one cannot be.
        while (cause := self._cause(farthest, conflict, blamed)) is not None:
            blamed.add(cause)
            number, conflict = cause, self._conflict(farthest, cause)
        return _Contradiction(self._operations[number], conflict)

    def _conflict(self, order: _Order, number: int) -> Conflict:
        found = after(order.state, self._operations[number], self._around)
        return found if isinstance(found, Conflict) else Conflict("it comes too late for what waits for it")

    def _cause(self, order: _Order, conflict: Conflict, blamed: set[int]) -> int | None:
        if conflict.against is None:
            return None
        waiting = self._under_way - order.taken - blamed
        return next((each for each in sorted(waiting) if conflict.against(self._operations[each])), None)


def _events(operations: Sequence[Operation]) -> list[_Event]:
    """Invocations and returns in time; of two at the same time the invocation, which leaves more orders."""
    events = [_Event(each.invoked_ns, False, number) for number, each in enumerate(operations)]
    for number, each in enumerate(operations):
        if each.returned_ns is not None:
            events.append(_Event(each.returned_ns, True, number))
        elif each.outcome != "undecided":  # it has happened, though nobody saw when
            events.append(_Event(inf, True, number))
    return sorted(events)


def _told(found: _Contradiction, operations: Sequence[Operation], began_ns: int) -> str:
    """Which operation has no place in any order, and which one stands against it."""
    last_ns = inf if found.operation.returned_ns is None else found.operation.returned_ns
    others = [each for each in operations if each is not found.operation and each.invoked_ns <= last_ns]
    against = [each for each in others if found.conflict.against and found.conflict.against(each)]
    text = f"no order explains {_described(found.operation, began_ns)}: {found.conflict.why}"
    if not against:
        return text
    return f"{text}: {_described(max(against, key=lambda each: each.invoked_ns), began_ns)}"


def _described(operation: Operation, began_ns: int) -> str:
    words = [operation.process, *(["shared"] if operation.shared else []), operation.kind]
    if operation.outcome != "done":
        words.append(f"({operation.outcome})")
    if operation.generation:
        words.append(f"of generation {operation.generation}")
    if operation.token:
        words.append(f"with token {operation.token}")
    ended = "?" if operation.returned_ns is None else f"{(operation.returned_ns - began_ns) / _SECOND:.6f}"
    return f"[{' '.join(words)}, {(operation.invoked_ns - began_ns) / _SECOND:.6f} to {ended} s]"
