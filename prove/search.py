"""A scene, searched: every state that the bounds allow, then walks at random beyond them."""

from __future__ import annotations

import logging
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prove import close_scenes, lock_scenes
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


# A mutant is looked for with the same means: first in few states and walks, then in more.
CATCHING = (Setting(2_000, 100, 50), Setting(25_000, 250, 400))


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
        most = setting.states * scene.share
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
    """How the first of these scenes in which something is wrong tells it; empty if none does."""
    for setting in CATCHING:
        for name in names:
            found = search(name, setting)
            if found.violation:
                where = "" if found.walks else f"state {found.explored.states}: "
                return f"{name}: {where}{found.violation}"
    return ""
