"""The checker of histories: every rule catches what breaks it and passes what comes close; and the demo's own race."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poslock_cli.demo.command import _Scene
from poslock_cli.demo.stage import Bot, Cast, Stage
from prove.history import Operation, judged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def op(process: str, kind: Any, invoked: int, returned: int | None, token: int = 0, **more: Any) -> Operation:
    generation = 1 if kind in {"track", "begin", "write", "touch", "supersede", "forget", "settle", "book"} else 0
    return Operation(process, kind, "btc-1", invoked, returned, **{"token": token, "generation": generation, **more})


def undecided(process: str, kind: Any, invoked: int, returned: int | None, token: int = 0, **more: Any) -> Operation:
    return op(process, kind, invoked, returned, token, outcome="undecided", **more)


def refused(process: str, kind: Any, invoked: int, returned: int | None, token: int = 0, **more: Any) -> Operation:
    return op(process, kind, invoked, returned, token, outcome="refused", **more)


def why_not(history: Sequence[Operation]) -> str:
    """Why no order explains it; empty if one does."""
    (verdict,) = judged(history)
    assert verdict.answer == ("contradictory" if verdict.why else "explained")
    return verdict.why


def shuffled(history: Sequence[Operation], seed: int) -> list[Operation]:
    return random.Random(seed).sample(history, len(history))  # noqa: S311  # an order of lines, not a secret


TRACKED = op("market", "track", 0, 1)
A_HOLDS = op("a", "acquire", 10, 12, 5)
A_CLOSES = [
    TRACKED,
    A_HOLDS,
    op("a", "begin", 13, 14, 5),
    op("a", "write", 15, 16, 5),
    op("a", "book", 17, 19, 5),
    op("a", "release", 20, 21, 5),
    op("a", "closed", 9, 22, 5),
]
A_DIED = [TRACKED, A_HOLDS, op("a", "begin", 13, 14, 5), undecided("a", "release", 14, None, 5)]
B_TAKES_OVER = [*A_DIED, op("b", "acquire", 20, 22, 7), op("b", "write", 23, 24, 7)]
SUPERSEDED = [*B_TAKES_OVER, op("b", "supersede", 25, 27, 7), op("b", "track", 25, 28, generation=2)]

EXPLAINED = {
    "one close": A_CLOSES,
    "tokens in the other order than the calls, which overlap": [
        TRACKED,
        op("a", "acquire", 10, 20, 7),
        op("b", "acquire", 11, 19, 5),
        op("b", "release", 11, 30, 5),
    ],
    "a hold that may be over when the next begins": [
        TRACKED,
        A_HOLDS,
        op("a", "release", 20, 30, 5),
        op("b", "acquire", 15, 25, 6),
    ],
    "readers together": [op("a", "acquire", 1, 2, 5, shared=True), op("b", "acquire", 3, 4, 6, shared=True)],
    "a dead holder replaced": B_TAKES_OVER,
    "a write that reached the ledger before the newer one": [
        *A_DIED,
        op("a", "write", 15, 30, 5),
        op("b", "acquire", 20, 22, 7),
        op("b", "write", 23, 28, 7),
    ],
    "a zombie refused": [*B_TAKES_OVER, refused("a", "write", 30, 31, 5)],
    "a zombie's write that is undecided need not have happened": [*B_TAKES_OVER, undecided("a", "write", 30, None, 5)],
    "an undecided booking that did happen": [
        *B_TAKES_OVER,
        undecided("b", "book", 25, None, 7),
        op("c", "already closed", 40, 50),
    ],
    "an undecided booking that did not happen": [
        *B_TAKES_OVER,
        undecided("b", "book", 25, 27, 7),
        undecided("b", "release", 25, None, 7),
        op("c", "acquire", 30, 31, 9),
        op("c", "book", 32, 33, 9),
        op("c", "closed", 29, 34, 9),
    ],
    "an undecided acquire that was granted": [
        TRACKED,
        undecided("a", "acquire", 10, None, 5),
        op("a", "begin", 13, 14, 5),
    ],
    "an undecided acquire without a token, which the next one need not wait for": [
        TRACKED,
        undecided("a", "acquire", 10, None),
        A_HOLDS,
    ],
    "one booking for each generation": [
        *A_CLOSES,
        op("market", "track", 30, 31, generation=2),
        op("b", "acquire", 32, 33, 8),
        op("b", "begin", 34, 35, 8, generation=2),
        op("b", "book", 36, 37, 8, generation=2),
        op("b", "closed", 30, 38, 8),
    ],
    "a later position, and the one before it booked after all": [
        *SUPERSEDED,
        op("b", "write", 29, 30, 7),
        op("b", "book", 31, 32, 7),
        op("b", "closed", 30, 33, 7),
    ],
    "both told, whichever was booked first": [
        *SUPERSEDED,
        op("b", "book", 29, 30, 7),
        op("b", "release", 31, 32, 7),
        op("c", "acquire", 33, 34, 8),
        op("c", "settle", 35, 36, 8, generation=2),
        op("c", "closed", 33, 37, 8),
        op("b", "closed", 29, 38, 7),
    ],
    "told closed of the one before the later position": [
        *SUPERSEDED,
        op("b", "book", 29, 30, 7),
        op("c", "already closed", 31, 40),
    ],
    "settled when it was never begun": [TRACKED, A_HOLDS, op("a", "settle", 13, 14, 5), op("a", "closed", 9, 15, 5)],
    "forgotten, and tracked again": [
        TRACKED,
        A_HOLDS,
        op("a", "forget", 13, 14, 5),
        op("market", "track", 20, 21, generation=2),
    ],
    "a write without a line has no place": [
        replace(TRACKED, place=1),
        A_HOLDS,
        op("a", "touch", 13, 14, 5),
        op("a", "begin", 15, 16, 5, place=2),
    ],
    "told closed while it is being booked": [*A_CLOSES, op("b", "already closed", 9, 18)],
    "told closed, and opened again meanwhile": [
        *A_CLOSES,
        op("market", "track", 30, 31, generation=2),
        op("b", "already closed", 18, 40),
    ],
    "told closing while it is left to others": [
        TRACKED,
        A_HOLDS,
        op("a", "begin", 13, 14, 5),
        op("a", "release", 15, 16, 5),
        op("b", "already closing", 100, 101),
    ],
    "told closing after the intent of a dead one": [*A_DIED, op("b", "already closing", 100, 101)],
    "told closing while another one holds": [TRACKED, A_HOLDS, op("b", "already closing", 11, 30)],
    "told closing while another one acquires": [
        TRACKED,
        undecided("a", "acquire", 10, 12),
        op("b", "already closing", 11, 30),
    ],
    "timed out while another one holds": [TRACKED, A_HOLDS, refused("b", "acquire", 20, 30)],
    "timed out behind a place that is left over": [
        TRACKED,
        undecided("a", "place", 10, 25),
        refused("b", "acquire", 20, 30),
    ],
    "places that agree with the times": [replace(TRACKED, place=1), A_HOLDS, op("a", "begin", 13, None, 5, place=2)],
}

CONTRADICTORY = {
    "a token that does not grow": (
        [TRACKED, A_HOLDS, op("a", "release", 13, 14, 5), op("b", "acquire", 20, 22, 4)],
        "token 5 was granted before",
    ),
    "a token twice": (
        [TRACKED, A_HOLDS, op("a", "release", 13, 14, 5), op("b", "acquire", 20, 22, 5)],
        "token 5 was granted before",
    ),
    "two holders": (
        [TRACKED, A_HOLDS, op("a", "release", 20, 30, 5), op("b", "acquire", 15, 19, 6)],
        "a still holds it with token 5",
    ),
    "a writer among readers": (
        [op("a", "acquire", 1, 2, 5, shared=True), op("b", "acquire", 3, 4, 6)],
        "a still holds it with token 5",
    ),
    "a writer while one of two readers is left": (
        [
            op("a", "acquire", 1, 2, 5, shared=True),
            op("b", "acquire", 3, 4, 6, shared=True),
            op("b", "release", 5, 6, 6),
            op("c", "acquire", 7, 8, 7),
        ],
        "a still holds it with token 5",
    ),
    "a reader beside a writer": (
        [op("a", "acquire", 1, 2, 5), op("b", "acquire", 3, 4, 6, shared=True)],
        "a still holds it with token 5",
    ),
    "a zombie's write": ([*B_TAKES_OVER, op("a", "write", 30, 31, 5)], "token 7 was accepted before"),
    "a token nobody was granted": ([TRACKED, A_HOLDS, op("a", "begin", 13, 14, 6)], "was not granted before"),
    "a zombie refused too early": (
        [*A_DIED, op("b", "acquire", 20, 22, 7), refused("a", "write", 30, 31, 5)],
        "no higher token",
    ),
    "two bookings": ([*A_CLOSES, op("a", "book", 20, 22, 5)], "generation 1 was closed"),
    "two bookings by two": (
        [*A_CLOSES, op("b", "acquire", 30, 31, 7), op("b", "book", 32, 33, 7)],
        "generation 1 was closed",
    ),
    "an undecided booking that somebody saw, and another one": (
        [
            *B_TAKES_OVER,
            undecided("b", "book", 25, 27, 7),
            undecided("b", "release", 25, None, 7),
            op("d", "already closed", 26, 28),
            op("c", "acquire", 30, 31, 9),
            op("c", "book", 32, 33, 9),
        ],
        "generation 1 was closed",
    ),
    "a booking that nobody began": ([TRACKED, A_HOLDS, op("a", "book", 13, 14, 5)], "was not begun"),
    "begun twice": ([*B_TAKES_OVER, op("b", "begin", 30, 31, 7)], "was begun before"),
    "a write after the booking": ([*A_CLOSES, op("a", "write", 20, 21, 5)], "generation 1 was closed"),
    "a write to a generation of the past": (
        [*A_CLOSES, op("market", "track", 30, 31, generation=2), op("a", "write", 32, 33, 5)],
        "generation 2 was open",
    ),
    "opened again before it was closed": (
        [*A_DIED, op("market", "track", 30, 31, generation=2)],
        "generation 1 was closing",
    ),
    "a later position of one that was not begun": (
        [TRACKED, A_HOLDS, op("a", "supersede", 13, 14, 5)],
        "generation 1 was open",
    ),
    "booked twice, the second time by the operator's word": (
        [*SUPERSEDED, op("b", "book", 29, 30, 7), op("b", "settle", 31, 32, 7)],
        "generation 2 was open",
    ),
    "begun when a later position had its leg": ([*SUPERSEDED, op("b", "begin", 29, 30, 7)], "a later position has"),
    "forgotten when it was begun": ([*B_TAKES_OVER, op("b", "forget", 30, 31, 7)], "generation 1 was closing"),
    "a zombie's write without a line": (
        [*B_TAKES_OVER, op("a", "touch", 30, 31, 5)],
        "a write with token 7 was accepted",
    ),
    "a generation left out": ([*A_CLOSES, op("market", "track", 30, 31, generation=3)], "generation 1 was closed"),
    "two told that they closed": ([*A_CLOSES, op("b", "closed", 9, 23, 5)], "another one was told"),
    "told that it closed before the booking": ([*A_CLOSES[:-1], op("a", "closed", 9, 16, 5)], "nothing is booked"),
    "told closed before the booking": ([*A_CLOSES, op("b", "already closed", 9, 16)], "was closing"),
    "told closed once it was opened again": (
        [*A_CLOSES, op("market", "track", 30, 31, generation=2), op("b", "already closed", 32, 40)],
        "generation 2 was open",
    ),
    "told closed of what was never there": ([op("b", "already closed", 32, 40)], "generation 0"),
    "told closing with nobody at it": ([*A_CLOSES, op("b", "already closing", 30, 40)], "nobody else"),
    "told closing because of oneself": ([TRACKED, A_HOLDS, op("a", "already closing", 11, 30)], "nobody else"),
    "told closing because of one that was dead": (
        [TRACKED, undecided("a", "acquire", 5, 8), op("b", "already closing", 11, 30)],
        "nobody else",
    ),
    "timed out with nobody there": ([TRACKED, refused("b", "acquire", 20, 30)], "nobody else"),
    "timed out when nothing is left over any more": (
        [TRACKED, undecided("a", "place", 10, 19), refused("b", "acquire", 20, 30)],
        "nobody else",
    ),
    "places against the times": (
        [
            replace(TRACKED, place=1),
            A_HOLDS,
            op("a", "begin", 13, 14, 5, place=3),
            op("a", "write", 15, 16, 5, place=2),
        ],
        "as write 3",
    ),
    "done, though nobody saw when, but it cannot have been": (
        [*A_CLOSES, op("b", "acquire", 30, 31, 7), op("b", "book", 32, None, 7)],
        "generation 1 was closed",
    ),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_an_order_explains(name: str) -> None:
    """What could have happened one after the other is no contradiction, whatever order the lines are in."""
    history = EXPLAINED[name]
    for seed in range(5):
        assert not why_not(shuffled(history, seed))


@pytest.mark.parametrize("name", CONTRADICTORY)
def test_no_order_explains(name: str) -> None:
    """What could not is found, and the reason says which rule it breaks."""
    history, reason = CONTRADICTORY[name]
    for seed in range(5):
        assert reason in why_not(shuffled(history, seed))


def test_the_reason_names_two_operations_of_many() -> None:
    """Position, processes, tokens and times of the two that are at odds, and nothing else."""
    crowd = [op(f"r{number}", "already closing", 13, 200) for number in range(20)]
    assert why_not([in_seconds(each) for each in (*B_TAKES_OVER, *crowd, op("a", "write", 30, 31, 5))]) == (
        "btc-1: no order explains [a write of generation 1 with token 5, 30.000000 to 31.000000 s]:"
        " a write with token 7 was accepted before: [b write of generation 1 with token 7, 23.000000 to 24.000000 s]"
    )


def in_seconds(operation: Operation) -> Operation:
    returned = None if operation.returned_ns is None else operation.returned_ns * 10**9
    return replace(operation, invoked_ns=operation.invoked_ns * 10**9, returned_ns=returned)


def test_what_only_waits_for_another_one_is_not_blamed() -> None:
    """The ledger's next write is at odds, not the one that comes after it."""
    history = [
        replace(TRACKED, place=1),
        A_HOLDS,
        op("a", "begin", 13, None, 5, place=2),
        op("a", "write", 15, None, 6, place=3),
        op("a", "book", 17, 20, 5, place=4),
    ]
    assert "no order explains [a write of generation 1 with token 6" in why_not(history)


def test_positions_are_judged_by_themselves() -> None:
    """One that cannot be explained leaves the others alone."""
    other = [replace(each, position="eth-1") for each in CONTRADICTORY["two bookings"][0]]
    verdicts = judged([*A_CLOSES, *other])
    assert [(each.position, each.answer, each.operations) for each in verdicts] == [
        ("btc-1", "explained", len(A_CLOSES)),
        ("eth-1", "contradictory", len(other)),
    ]
    assert judged([]) == []


def test_a_search_that_is_given_up_is_no_approval() -> None:
    """Beyond its bound the answer is undecided, whether an order exists or not."""
    many = [undecided(f"z{number}", "write", 13, None, 5) for number in range(30)]
    for history in (A_CLOSES, CONTRADICTORY["two bookings"][0]):
        (verdict,) = judged([*history, *many], most_steps=5_000)
        assert verdict.answer == "undecided"
        assert "5000 steps" in verdict.why
        assert verdict.undecided == len(many)


def test_thousands_of_operations_take_no_time_to_speak_of() -> None:
    """The work grows with what happens at once, not with the length of the run."""
    history = [TRACKED]
    for number in range(2_000):
        at, token = 100 + 50 * number, 10 + number
        history += [
            op("a", "acquire", at, at + 5, token),
            op("a", "write", at + 6, at + 9, token),
            op("a", "release", at + 10, at + 60, token),
            *(op(f"b{each}", "already closing", at + each, at + 90) for each in range(4)),
        ]
    (verdict,) = judged(history, most_steps=40 * len(history))
    assert verdict.answer == "explained"


@st.composite
def played(draw: st.DrawFn) -> list[Operation]:
    """What several processes do one after the other, then each interval stretched, some beyond its neighbours."""
    history, chance = [op("market", "track", 0, 0)], draw(st.randoms(use_true_random=False))
    generation, step, token = 1, "open", 0
    for _ in range(draw(st.integers(1, 7))):
        token += chance.randint(1, 3)
        process = f"p{chance.randint(1, 4)}"
        history.append(op(process, "acquire", 0, 0, token))
        for _ in range(chance.randint(0, 4)):
            kind = "begin" if step == "open" else chance.choice(("write", "book"))
            step = {"begin": "closing", "book": "closed"}.get(kind, step)
            history.append(op(process, kind, 0, 0, token, generation=generation))
            if step == "closed":
                history.append(op(process, "closed", 0, 0, token))
                history.append(op("q", "already closed", 0, 0))
                break
            history.append(op("q", "already closing", 0, 0))
        history.append(op(process, "release", 0, 0, token))
        if step == "closed":
            generation, step = generation + 1, "open"
            history.append(op("market", "track", 0, 0, generation=generation))
    stretched = [_stretched(each, 100 * number, chance) for number, each in enumerate(history)]
    # Few are undecided: each may have happened at any later time, or not, which doubles what there is to be searched.
    killed = [number for number, each in enumerate(stretched) if each.kind in {"write", "release"}]
    for number in chance.sample(killed, min(len(killed), chance.randint(0, 2))):
        stretched[number] = replace(stretched[number], outcome="undecided", returned_ns=None)
    return stretched


def _stretched(operation: Operation, at: int, chance: random.Random) -> Operation:
    before, later = (chance.choice((0, chance.randint(1, 49), chance.randint(1, 400))) for _ in range(2))
    return replace(operation, invoked_ns=at - before, returned_ns=at + later)


@given(played())
def test_what_happened_one_after_the_other_is_always_explained(history: list[Operation]) -> None:
    """However long the calls seemed to take."""
    assert not why_not(history)


@given(played(), st.randoms(use_true_random=False))
def test_one_corruption_is_always_found(history: list[Operation], chance: random.Random) -> None:
    """A second booking, or a token below one that was granted before, in an otherwise fine history."""
    end = max(each.returned_ns or each.invoked_ns for each in history)
    grants = [each for each in history if each.kind == "acquire"]
    newest = max(each.token for each in grants)
    corrupt = [op("z", "acquire", end + 1, end + 2, chance.randint(1, newest))]
    ended = undecided("p", "release", 0, None, newest)  # so that nothing but the token is amiss
    if booked := [each for each in history if each.kind == "book"]:
        again = replace(chance.choice(booked), invoked_ns=end + 3, returned_ns=end + 4)
        corrupt.append(replace(again, token=newest))
    for each in corrupt:
        assert why_not([*history, ended, each])


def test_the_race_of_the_demo_is_explained(tmp_path: Path) -> None:
    """By an order of what the ledger's audit and the bots' answers say; and no more so with a second booking."""
    scene = _Scene(str(tmp_path), random.Random(1))  # noqa: S311  # a play, not a secret
    told: list[tuple[float, Bot, str]] = []
    settings = {"exchange": scene.exchange_path, "lock_dir": scene.lock_dir, "lease": 1.0}
    stage = Stage(settings, 4, Cast(scene.pause_at_request), lambda *line: told.append(line))
    stage.play()
    _close_pipes(stage)
    audited = _audited(f"{scene.lock_dir}/ledger.db")
    history = [*audited, *_answered(told, {each.process: each.token for each in audited if each.kind == "book"})]
    assert {each.kind for each in history} >= {"track", "acquire", "begin", "write", "book", "closed", "already closed"}
    assert not why_not(history)
    (booked,) = (each for each in history if each.kind == "book")
    assert "was closed" in why_not([*history, replace(booked, place=1 + max(each.place or 0 for each in history))])


def _close_pipes(stage: Stage) -> None:
    stage._selector.close()
    for bot in stage.bots:
        for pipe in (bot.process.stdin, bot.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a word that was never read
                    pipe.close()


def _audited(ledger: str) -> list[Operation]:
    """The writes that the ledger took, in its order, and the holds that their tokens are of."""
    kinds = {"tracked": "track", "intent": "begin", "booked": "book"}
    with closing(sqlite3.connect(ledger)) as db:
        rows = db.execute("SELECT pid, event, token FROM audit ORDER BY number").fetchall()
    writes = [
        op(str(pid), kinds.get(event, "write"), 0, None, token, place=place)
        for place, (pid, event, token) in enumerate(rows, 1)
    ]
    holds = {(each.process, each.token) for each in writes if each.kind != "track"}
    grants = [op(process, "acquire", 0, None, token) for process, token in holds]
    return [*writes, *grants, *(undecided(process, "release", 0, None, token) for process, token in holds)]


def _answered(told: Sequence[tuple[float, Bot, str]], booked: dict[str, int]) -> list[Operation]:
    """What the bots were told, when at the latest, and whose booking they were told of: their own or nobody's."""
    answers = []
    for seconds, bot, text in told:
        if text.startswith("is told") and bot.outcome in {"closed", "already closed"}:
            process, kind = str(bot.process.pid), bot.outcome
            answers.append(op(process, kind, 0, int(seconds * 1e9), booked.get(process, 0) if kind == "closed" else 0))
    return answers
