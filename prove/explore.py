"""Every way a system of processes can go, as far as bounds allow; and seeded walks beyond them.

The system says which moves there are in a state, and checks each state that it makes; a violation ends the search with
the moves that led to it. States that were reached before are not gone into again: breadth first, so each is first
reached by the fewest moves, and nothing within the depth is missed. Remembered are 64-bit hashes of states, not the
states (hash compaction, Wolper & Leroy 1993); of n states about n²/2⁶⁵ are then taken for another one, which is one in
30 million searches of a million states.

Preemptions are bounded apart from the depth: few suffice for most errors, and the search then reaches the end of all
programs (Musuvathi & Qadeer, Iterative Context Bounding, PLDI 2007).
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable

_RARELY, _MOSTLY = 0.05, 3.0

Move: TypeAlias = "tuple[str, int]"
Trail: TypeAlias = "tuple[Any, Move] | None"


class Violation(Exception):
    """A promise is broken. Its notes say how a look went that found it."""


class State(Protocol):
    """One state of a system; it does not change."""

    def key(self) -> Hashable:
        """Equal for states that go on in the same ways."""

    def moves(self) -> list[Move]:
        """What can happen next, and to which process."""

    def after(self, move: Move) -> Any:
        """The state after one of these moves.

        Raises:
            Violation: that state must not be.
        """

    def told(self, move: Move) -> str:
        """What happens in a move, in a few words."""

    def look(self) -> None:
        """See what comes of it if from now on nobody disturbs.

        Raises:
            Violation: not what is promised.
        """


@dataclass
class Explored:
    """What a search saw. ``violation`` says what was broken, ``trail`` how it came to that; empty if nothing was.

    ``depth`` is the number of moves within which it saw every state; ``whole`` whether there are no others.
    """

    name: str
    states: int = 1
    moves: int = 0
    depth: int = 0
    ends: int = 0
    looks: int = 0
    whole: bool = True
    seed: int = 0
    violation: str = ""
    trail: list[str] = field(default_factory=list)

    def broken(self, violation: Violation, start: State, trail: Trail) -> None:
        """Note a violation at the end of a trail, which is walked once more for that."""
        self.violation = str(violation)
        self.trail = [*_walked(start, trail), *getattr(violation, "__notes__", [])]


def explore(name: str, start: State, *, most: int, look_every: int) -> Explored:
    """Every state that can be reached, until there are *most*; a look from every so many-th, and from every end."""
    found = Explored(name)
    known = {hash(start.key())}
    ahead: deque[tuple[State, int, Trail]] = deque([(start, 0, None)])
    trail: Trail = None
    try:
        while ahead:
            state, moved, before = ahead.popleft()
            moves = state.moves()
            found.depth = moved if found.whole else found.depth
            if not moves:
                found.ends += 1
                trail = before
                state.look()
            if moves and found.states >= most:
                found.whole = False
                continue
            for move in moves:
                trail = (before, move)
                after = state.after(move)
                found.moves += 1
                if (key := hash(after.key())) in known:
                    continue
                known.add(key)
                found.states += 1
                if found.states % look_every == 0:
                    found.looks += 1
                    after.look()
                ahead.append((after, moved + 1, trail))
    except Violation as violation:
        found.broken(violation, start, trail)
    return found


def walk(name: str, start: State, seed: int, *, steps: int) -> Explored:
    """One walk of so many moves at random, and a look from its end; the same one for the same *seed*."""
    found, chance = Explored(name, whole=False, seed=seed), random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    state, move = start, ("", 0)
    trail: Trail = None
    try:
        while found.depth < steps and (moves := state.moves()):
            move = chance.choices(moves, [_weight(each, move) for each in moves])[0]
            trail = (trail, move)
            state = state.after(move)
            found.depth += 1
            found.moves += 1
            found.states += 1
        found.ends = int(not state.moves())
        found.looks = 1
        state.look()
    except Violation as violation:
        found.broken(violation, start, trail)
    return found


def _weight(move: Move, before: Move) -> float:
    """Mostly nothing goes wrong, and who moved last goes on."""
    if move[0] != "run":
        return _RARELY
    return _MOSTLY if move == before else 1.0


def _walked(start: State, trail: Trail) -> list[str]:
    """What happened in each move of a trail."""
    moves: list[Move] = []
    while trail is not None:
        trail, move = trail
        moves.append(move)
    told, state = [], start
    for move in reversed(moves):
        told.append(state.told(move))
        if len(told) < len(moves):
            state = state.after(move)
    return told
