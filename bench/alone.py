"""Rows that need one process: a lock that nobody else wants."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.bare import NAME as BARE
from bench.bare import bare_calls
from bench.contestants import ALONE, FASTENERS, FILE_LOCK, PORTALOCKER, POSLOCK
from bench.rows import Bound, Row
from bench.series import interleave

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.contestants import AnyLock, Contestant
    from bench.settings import Settings

_FEW = 10
_FLOOR = "a hold is a record: its two transitions' bare system calls alone take nearly as much, see the last line"
_HELD_OF = 100  # one of so many locks is held: a descriptor each would still not be too many


def reused(directory: str, settings: Settings) -> Row:
    """A bot that keeps its lock object."""
    works = {each.name: _pair(each.make(_path(directory, "reused", each))) for each in ALONE}
    works[BARE] = bare_calls(f"{directory}/bare")
    series = interleave(works, rounds=settings.rounds, repeats=settings.repeats)
    bounds = Bound(1.8, FASTENERS.name, _FLOOR), Bound(3.0, BARE)
    return Row("acquire + release, reused object", "s", series, bounds)


def fresh(directory: str, settings: Settings) -> Row:
    """A bot that makes one for every use."""
    works = {each.name: _block(each, _path(directory, "fresh", each)) for each in ALONE}
    series = interleave(works, rounds=settings.rounds, repeats=settings.repeats)
    bounds = Bound(1.5, PORTALOCKER.name, _FLOOR), Bound(0.35, FILE_LOCK.name, _FLOOR)
    return Row("with PositionLock(id): new object each time", "s", series, bounds)


def crowded(few: str, many: str, settings: Settings) -> Row:
    """A lock among *many* others against one among a few."""
    fill(few, _FEW)
    works = {
        POSLOCK.name: _pair(POSLOCK.make(f"{many}/mine")),
        f"poslock, {_FEW} files": _pair(POSLOCK.make(f"{few}/mine")),
    }
    series = interleave(works, rounds=settings.rounds, repeats=settings.repeats)
    work = f"acquire + release with {settings.files:,} lock files in the directory"
    return Row(work, "s", series, (Bound(1.2, f"poslock, {_FEW} files"),))


def fill(directory: str, files: int) -> list[object]:
    """So many lock files in *directory*; a few locks stay held for as long as what is returned is kept."""
    held = []
    for number in range(files):
        lock = POSLOCK.make(f"{directory}/position-{number}")
        lock.acquire()
        if number % _HELD_OF:
            lock.release()
        else:
            held.append(lock)
    return held


def _path(directory: str, row: str, contestant: Contestant) -> str:
    # One directory each: nobody pays for files that somebody else leaves behind.
    home = f"{directory}/{row}-{contestant.name}"
    os.makedirs(home, mode=0o700, exist_ok=True)
    return f"{home}/btc-swing-1"


def _pair(lock: AnyLock) -> Callable[[], None]:
    acquire, release = lock.acquire, lock.release

    def work() -> None:
        acquire()
        release()

    return work


def _block(contestant: Contestant, path: str) -> Callable[[], None]:
    make = contestant.make

    def work() -> None:
        with make(path):
            pass

    return work
