"""A scene, searched: every state that the bounds allow, then walks at random beyond them."""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prove import close_scenes, legs, lock_scenes
from prove.explore import Explored, explore, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

SCENES = {scene.name: scene for scene in (*lock_scenes.SCENES, *close_scenes.SCENES)}
_MEMORY = Path("/dev/shm")  # noqa: S108  # nothing stays there
_WALKS_IN_ONE_START = 500
_STEPS = 600


@dataclass(frozen=True)
class Setting:
    """How far to go: so many states for each share of a scene, looks and walks for each scene."""

    states: int
    looks: int
    walks: int
    seed: int = 0


# No scenes: sequences at random, as `prove.legs` makes them; and every combination of `tests/test_exits.py`.
LEGS, TABLE = "legs", "table"
# A mutant is looked for with the same means: first in few states, walks and sequences, then in more.
CATCHING = (Setting(2_000, 100, 50), Setting(25_000, 250, 400))
_SEQUENCES_A_WALK = 250


@dataclass(frozen=True)
class Searched:
    """What was found in a scene; ``walked`` is the moves of all walks."""

    explored: Explored
    processes: int
    walks: int
    walked: int
    violation: str
    trail: list[str]


def search(name: str, setting: Setting) -> Searched:
    """Everything *setting* says of one scene; up to the first violation."""
    scene = SCENES[name]
    with _unheard(), tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        most = int(setting.states * scene.share)
        look_every = max(1, most // setting.looks)
        start = scene.start(Path(folder))
        explored = explore(name, start, most=most, look_every=look_every)
        if explored.violation:
            return Searched(explored, scene.processes, 0, 0, explored.violation, explored.trail)
        walks = walked = 0
        for walk_found in _walks(name, setting, Path(folder)):
            walks, walked = walks + 1, walked + walk_found.moves
            if walk_found.violation:
                why = f"seed {walk_found.seed}: {walk_found.violation}"
                return Searched(explored, scene.processes, walks, walked, why, walk_found.trail)
    return Searched(explored, scene.processes, walks, walked, "", [])


@contextmanager
def _unheard() -> Iterator[None]:
    """Takeovers are many here."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _walks(name: str, setting: Setting, folder: Path) -> Iterator[Explored]:
    start = None
    for number in range(setting.walks):
        if number % _WALKS_IN_ONE_START == 0:
            start = SCENES[name].start(folder)  # what was found out on the way is forgotten now and then
        assert start is not None
        yield walk(name, start, setting.seed + number, steps=_STEPS)


def catch(names: list[str]) -> str:
    """How the first of these scenes, or the legs, in which something is wrong tells it; empty if none does."""
    for setting in CATCHING:
        for name in names:
            if name == LEGS:
                if told := legs.caught(setting.walks * _SEQUENCES_A_WALK):
                    return f"{name}: {told}"
                continue
            if name == TABLE:
                if told := _off_the_table():
                    return f"{name}: {told}"
                continue
            found = search(name, setting)
            if found.violation:
                where = "" if found.walks else f"state {found.explored.states}: "
                return f"{name}: {where}{found.violation}"
    return ""


def _off_the_table() -> str:
    """The first combination that is not decided as the table says; empty if all are."""
    sys.path.insert(0, "tests")
    tests = importlib.import_module("test_exits")
    try:
        for held in tests.HELD_THEN:
            tests.test_every_combination_is_decided_as_the_table_says(held)
    except AssertionError as error:
        return str(error)
    return ""
