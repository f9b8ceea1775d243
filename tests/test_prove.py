"""What ``scripts/prove`` stands on: the search, the simulated system held against the real one, and that it finds."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poslock.errors import TokenRefused
from poslock.guard import first_look
from poslock.ledger.journal import CloseKey
from poslock.lock.files import lock_file
from poslock.lock.files.system import PosixSystem
from processes import PATIENCE
from prove import legs
from prove.actor import FOLDER, Call, Raised
from prove.close_scenes import SCENES as CLOSE_SCENES
from prove.disk import Disk
from prove.explore import Violation, explore, walk
from prove.legs_truth import APART, EMPTY, GRANTED, REPLACED
from prove.legs_venue import NEVER, Rules, Sight, Venue
from prove.market import ID
from prove.mutants import MUTANTS, ROOT, Mutant, caught, copied
from prove.report import mutant, scene
from prove.search import LEGS, SCENES, TABLE, Setting, search

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from prove.explore import Move

# The search.


@dataclass(frozen=True)
class Counters:
    """Each of some processes counts to *top*; it is forbidden that all of them are at *forbidden*."""

    at: tuple[int, ...]
    top: int = 2
    forbidden: int = -1

    def key(self) -> Hashable:
        return self.at

    def moves(self) -> list[Move]:
        return [("run", number) for number, value in enumerate(self.at) if value < self.top]

    def after(self, move: Move) -> Counters:
        at = tuple(value + (number == move[1]) for number, value in enumerate(self.at))
        if set(at) == {self.forbidden}:
            raise Violation("forbidden")
        return replace(self, at=at)

    def told(self, move: Move) -> str:
        return f"{move[1]} from {self.at[move[1]]}"

    def look(self) -> None:
        if len(set(self.at)) == 1 and self.at[0] == self.forbidden + 100:
            raise Violation("seen")


def test_every_state_is_visited_once() -> None:
    """Two that count to two: nine states, twelve moves, one end, four moves away."""
    found = explore("two", Counters((0, 0)), most=100, look_every=100)
    assert (found.states, found.moves, found.ends, found.depth, found.whole) == (9, 12, 1, 4, True)
    assert not found.violation


def test_a_bounded_search_says_how_deep_it_saw_everything() -> None:
    """Of three that count to nine there are 20 states within three moves; the fourth move is not seen whole."""
    found = explore("three", Counters((0, 0, 0), top=9), most=21, look_every=100)
    assert (found.depth, found.whole) == (3, False)
    assert 20 < found.states < 40


def test_a_violation_comes_with_the_shortest_way_to_it() -> None:
    """Both from 0 to 1, however many other ways there are."""
    found = explore("two", Counters((0, 0), top=5, forbidden=1), most=1000, look_every=100)
    assert (found.violation, found.trail) == ("forbidden", ["0 from 0", "1 from 0"])


def test_a_look_is_taken_from_every_end() -> None:
    """However rarely one is taken on the way."""
    found = explore("two", Counters((0, 0), forbidden=-98), most=1000, look_every=1000)
    assert (found.violation, len(found.trail)) == ("seen", 4)


def test_a_seed_walks_the_same_way_again() -> None:
    """And another one another way."""
    start = Counters((0, 0, 0), top=9, forbidden=9)
    trails = [walk("three", start, seed, steps=100).trail for seed in (7, 7, 8)]
    assert trails[0] == trails[1] != trails[2]
    assert len(trails[0]) == 27


# The simulated system.

_NAMES = ("a", "b", "c")
_CALLS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(_NAMES), st.booleans()),
    st.tuples(st.just("create"), st.sampled_from(_NAMES)),
    st.tuples(st.sampled_from(["stat", "unlink"]), st.sampled_from(_NAMES)),
    st.tuples(st.sampled_from(["link", "rename"]), st.sampled_from(_NAMES), st.sampled_from(_NAMES)),
    st.tuples(
        st.sampled_from(["try_lock", "try_lock_presence", "probe_presence", "unlock", "close", "status", "truncate"]),
        st.integers(0, 3),
    ),
    st.tuples(st.just("write"), st.integers(0, 3), st.binary(max_size=6), st.integers(0, 4)),
    st.tuples(st.just("read"), st.integers(0, 3), st.integers(0, 8), st.integers(0, 4)),
    st.just(("listing",)),
)
_REAL = PosixSystem()


@settings(max_examples=300, deadline=None, database=None)
@given(calls=st.lists(st.tuples(st.sampled_from([1, 2]), _CALLS), max_size=30))
def test_the_simulated_system_answers_as_the_real_one(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, tuple[Any, ...]]]
) -> None:
    """Any calls of two processes: the same answers and errors, the same files, and the same inode where it is one."""
    folder = str(tmp_path_factory.mktemp("disk"))
    pair = Pair(folder)
    try:
        for process, (name, *arguments) in calls:
            pair.call(process, name, arguments)
    finally:
        pair.close()


class Pair:
    """A simulated folder and a real one; what is opened gets one number for both."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._disk = Disk()
        self._open: list[tuple[int, int, int]] = []

    def call(self, process: int, name: str, arguments: list[Any]) -> None:
        if arguments and isinstance(arguments[0], int):
            self._call_open(name, *arguments)
        elif name != "rename" or not self._is_one_file(*arguments):  # the real one does nothing then
            simulated, real = (
                [f"{folder}/{each}" if isinstance(each, str) else each for each in arguments] or [folder]
                for folder in (FOLDER, self._folder)
            )
            answers = self._same(process, name, simulated, real)
            if answers and name in {"open", "create"}:
                self._open.append((process, *answers))
        assert self._files(self._simulated_inode) == self._files(self._real_inode)

    def close(self) -> None:
        for _, _, real in self._open:
            _REAL.close(real)

    def _call_open(self, name: str, number: int, *arguments: Any) -> None:
        if number < len(self._open):
            process, simulated, real = self._open[number]
            if name == "close":
                del self._open[number]
            self._same(process, name, [simulated, *arguments], [real, *arguments])

    def _same(self, process: int, name: str, simulated: list[Any], real: list[Any]) -> tuple[Any, Any] | None:
        """Both answers to a call, which say the same; None if they are the same error."""
        asked = [*simulated, True] if name == "open" else simulated
        ours = self._disk.answer(process, Call(name, tuple(asked)))
        theirs: Any
        try:
            theirs = _REAL.open(real[0], create=real[1]) if name == "open" else getattr(_REAL, name)(*real)
        except OSError as error:
            theirs = error
        if isinstance(theirs, OSError):
            assert (type(ours), ours.args[0]) == (Raised, theirs.errno), name
            return None
        if name in {"stat", "status"}:
            assert ours.st_nlink == theirs.st_nlink
        elif name == "listing":
            assert set(ours) == set(theirs)
        elif name in {"try_lock", "try_lock_presence", "probe_presence", "read", "write"}:
            assert ours == theirs, name
        else:
            assert not isinstance(ours, Raised), name
        return ours, theirs

    def _is_one_file(self, *names: str) -> bool:
        numbers = [self._disk.names.get(f"{FOLDER}/{name}") for name in names]
        return numbers[0] is not None and numbers[0] == numbers[1]

    def _files(self, inode: Callable[[Any], int | None]) -> list[int]:
        """Which of the names and open files are the same file: for each the first one that is."""
        found = [inode(each) for each in (*_NAMES, *self._open)]
        return [-1 if each is None else found.index(each) for each in found]

    def _simulated_inode(self, what: Any) -> int | None:
        if isinstance(what, str):
            return self._disk.names.get(f"{FOLDER}/{what}")
        return int(self._disk.status(what[0], what[1]).st_ino)

    def _real_inode(self, what: Any) -> int | None:
        path = f"{self._folder}/{what}" if isinstance(what, str) else what[2]
        return os.stat(path).st_ino if isinstance(path, int) or os.path.exists(path) else None


_PIPE_CALLS = st.one_of(
    st.tuples(st.sampled_from(["make_pipe", "unlink", "ring"]), st.sampled_from(_NAMES)),
    st.tuples(st.just("open"), st.sampled_from(_NAMES), st.booleans()),
    st.tuples(st.sampled_from(["close", "is_deserted", "wait"]), st.integers(0, 5)),
)


@settings(max_examples=300, deadline=None, database=None)
@given(calls=st.lists(_PIPE_CALLS, max_size=40))
def test_simulated_pipes_hang_up_as_the_real_ones(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[Any, ...]]
) -> None:
    """A ring and the end of the last writer are heard by whoever had opened before, once and for all."""
    folder, disk = str(tmp_path_factory.mktemp("pipes")), Disk()
    opened: list[tuple[int, int]] = []
    try:
        for name, what, *write in calls:
            if isinstance(what, str):
                ours = disk.answer(1, Call(name, (f"{FOLDER}/{what}", *([False, *write] if write else []))))
                theirs = _asked(name, f"{folder}/{what}", **({"write": write[0]} if write else {}))
            elif what < len(opened):
                simulated, real = opened[what]
                asked: tuple[Any, ...] = ((simulated,),) if name == "wait" else (simulated,)
                ours = disk.answer(1, Call("hung_up" if name == "wait" else name, asked))
                theirs = _asked(name, *(((real,), 0) if name == "wait" else (real,)))
                if name == "close":
                    del opened[what]
            else:
                continue
            if isinstance(theirs, OSError):
                assert (type(ours), ours.args[0]) == (Raised, theirs.errno), name
            elif name == "open":
                opened.append((ours, theirs))
            elif name == "wait":
                assert len(ours) == len(theirs)
            else:
                assert ours == theirs, name
    finally:
        for _, real in opened:
            _REAL.close(real)


def _asked(name: str, *arguments: Any, **options: Any) -> Any:
    try:
        return getattr(_REAL, name)(*arguments, **options)
    except OSError as error:
        return error


def test_a_child_shares_what_its_parent_has_open() -> None:
    """Its locks, too, till both have closed it; what it opens itself is its own."""
    disk = Disk()
    descriptor = disk.open(1, f"{FOLDER}/a", True, True)
    assert disk.try_lock(1, descriptor)
    disk.fork(1, 2)
    disk.end(1)
    other = disk.open(3, f"{FOLDER}/a", False, True)
    assert not disk.try_lock(3, other)
    disk.close(2, descriptor)
    assert disk.try_lock(3, other)


def test_a_copied_disk_is_another_one() -> None:
    """With the same key, till one of them changes."""
    disk = Disk()
    disk.open(1, f"{FOLDER}/a", True, True)
    copy = disk.copy()
    assert copy.key() == disk.key()
    copy.write(1, 3, b"x", 0)
    assert (disk.named(f"{FOLDER}/a"), copy.named(f"{FOLDER}/a")) == (b"", b"x")
    assert copy.key() != disk.key()


def test_a_store_asks_the_shipped_ledger_in_any_of_its_states(tmp_path: Path) -> None:
    """The states stay as they were, an error leaves none behind, and what is asked twice is answered the same."""
    market = CLOSE_SCENES[0].start(tmp_path).disk
    ledger, key = market.books.ledger, CloseKey(ID, 1)
    version = ledger.ask(market.ledger, 0, "standing", (key,))[1].version
    begun, _ = ledger.ask(market.ledger, 0, "begin", (key, 10, "why", version))
    refused, error = ledger.ask(begun, 0, "filled", (key, 9, ""))
    assert (refused, error.make) == (begun, ledger.ask(begun, 0, "filled", (key, 9, ""))[1].make)
    assert isinstance(error.make(*error.args), TokenRefused)
    assert ledger.ask(market.ledger, 0, "standing", (key,))[1].close is None
    assert ledger.ask(begun, 0, "standing", (key,))[1].close.step == "intent"


# What is shipped, and what it would be with a line less.


@pytest.mark.parametrize("name", SCENES)
def test_nothing_is_broken_in_the_first_states_of_a_scene(name: str) -> None:
    """And in a few walks; ``scripts/prove`` goes on from here."""
    found = search(name, Setting(states=400, looks=10, walks=4))
    assert (found.violation, found.trail) == ("", [])
    assert found.explored.states >= 400 * min(1, SCENES[name].share)
    assert found.explored.looks >= 9
    assert found.walks == 4
    assert found.walked >= 40


def test_a_search_leaves_this_process_as_it_was() -> None:
    """What it keeps open, and what it logs, is not that of the simulated ones."""
    kept, disabled = lock_file._kept, logging.root.manager.disable
    search("two, every interleaving", Setting(states=50, looks=5, walks=1))
    assert lock_file._kept is kept
    assert logging.root.manager.disable == disabled


def test_every_mutant_changes_the_code_and_names_its_scenes() -> None:
    """Its text is there exactly once, and what it becomes is something else."""
    for each in MUTANTS:
        assert Path(ROOT / each.path).read_text("utf-8").count(each.old) == 1, each.name
        assert each.old != each.new
        assert set(each.scenes) <= {*SCENES, LEGS, TABLE}, each.name
    assert len({each.name for each in MUTANTS}) == len(MUTANTS)


def test_a_mutant_is_caught_and_the_shipped_code_is_not() -> None:
    """The same way of looking, with and without a second read under the lock."""
    broken = MUTANTS[0]
    assert caught(broken).how.startswith(f"{broken.scenes[0]}: ")
    harmless = Mutant("nothing", broken.path, "reads, judges and", "reads, judges, and", broken.scenes[:1])
    assert caught(harmless).how == ""
    assert "SURVIVED" in mutant(caught(harmless))


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_may_be_old", lambda *_: False),
        ("_fits", lambda *_, **__: True),
        ("is_as_reported", lambda *_: True),
    ],
)
def test_no_cause_that_a_leg_is_excused_by_hides_a_broken_look(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[..., bool]
) -> None:
    """The same sequences show no violation with the shipped one."""
    assert legs.caught(2_000) == ""
    monkeypatch.setattr(first_look, name, broken)
    assert legs.caught(2_000)


LATE = 1


def read_of(*facts: tuple[int, int], is_empty: bool = False) -> tuple[object, ...]:
    """What both reads show after trades of so many contracts, each with how late it shows."""
    luck = Random(0)  # noqa: S311  # to be repeated
    venue = Venue(luck, Rules(one_way=True))
    for contracts, shows in facts:
        venue.trade(contracts, 100, shows=shows)
    sight = Sight(venue, luck)
    holding = sight.read()
    shown = [(each.effect, each.fill.contracts, each.fill.price) for each in sight.trades]
    return None if is_empty else holding, shown


@pytest.mark.parametrize(
    ("one", "another"),
    [
        pytest.param(read_of((6, 0), (-6, 0)), read_of((6, 0), (2, LATE), (-6, 0), is_empty=True), id=EMPTY),
        pytest.param(read_of((1, 0), (-1, 0)), read_of((1, 0), (-1, NEVER), (1, NEVER), (-1, 0)), id=REPLACED),
        pytest.param(read_of((1, 0), (-2, 0)), read_of((1, 0), (-1, NEVER), (-2, 0)), id=f"{REPLACED}, and a flip"),
    ],
)
def test_two_worlds_that_read_the_same(one: tuple[object, ...], another: tuple[object, ...]) -> None:
    """Flat, or not; the exit that shows is the position's, or is not. All of it happened between two looks."""
    assert one == another


def test_each_cause_that_a_leg_is_excused_by_is_on_the_design_page() -> None:
    page = " ".join((ROOT / "docs/design.md").read_text("utf-8").lower().split())
    assert [cause for cause in (*GRANTED, *APART) if cause not in page] == []


def test_what_an_unverified_track_costs_is_counted_apart() -> None:
    verified, unverified = legs.sequences(0, 2_000), legs.sequences(0, 2_000, unverified=True)
    assert not any("unverified" in cause for cause in verified.residuals)
    assert any("unverified" in cause for cause in unverified.residuals)
    assert verified.violations == unverified.violations == []


def test_a_mutant_whose_text_is_gone_is_an_error(tmp_path: Path) -> None:
    """The list keeps up with the code."""
    with pytest.raises(ValueError, match="its text is 0 times"):
        copied(Mutant("old", "poslock/errors.py", "no such text", "", ()), tmp_path)


@pytest.fixture(scope="module")
def without_a_second_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(MUTANTS[0], tmp_path_factory.mktemp("mutant"))


def proved(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prove", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_what_is_broken_is_told_with_the_way_to_it(without_a_second_read: Path) -> None:
    """Exit code 1, what was broken, and one line for each call on the way."""
    told = proved(without_a_second_read, "--scene", "two, to the end", "--walks", "0")
    assert (told.returncode, told.stderr) == (1, "")
    assert "was granted after" in told.stdout
    assert re.search(r"^      [12]: open btc-\w+.lock", told.stdout, re.MULTILINE)
    assert "1 violations" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("1 FAILED")


def test_what_holds_is_told_with_its_figures() -> None:
    """Exit code 0; states, walks and their seeds."""
    told = proved(ROOT, "--scene", "different leases", "--walks", "3", "--seed", "5")
    assert (told.returncode, told.stderr) == (0, "")
    assert "0 violations" in told.stdout
    assert "3 walks at random (seeds 5 to 7 in each scene)" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("everything that was run held")


def test_nothing_that_was_run_is_a_failure() -> None:
    """Where there is no spin the model cannot be searched, and that is said."""
    told = subprocess.run(
        [sys.executable, "-m", "prove", "--part", "model"],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert told.returncode == 1
    assert "LEFT OUT: the model needs spin" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("nothing was run")


def test_a_walk_that_broke_something_is_told_with_its_seed() -> None:
    """So that it can be walked again."""
    found = search("two, to the end", Setting(states=50, looks=1, walks=1))
    broken = replace(found, violation="seed 17: broken", trail=["1: open"])
    lines = scene(broken)
    assert lines[1:] == [
        "    seed 17: broken",
        "    the same walk again: --scene 'two, to the end' --seed N --walks 1",
        "      1: open",
    ]
    assert json.dumps(lines[0])
