"""Samples of one contestant, taken in rounds, and how contestants take turns."""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Series:
    """Samples in rounds. The median is that of the rounds' medians: one disturbed round does not move it."""

    def __init__(self) -> None:
        self.rounds: list[list[float]] = []

    @property
    def median(self) -> float:
        """Of the rounds' medians."""
        return median(median(each) for each in self.rounds)

    @property
    def p95(self) -> float:
        """The 95th percentile of all samples."""
        samples = sorted(self.samples)
        return samples[min(len(samples) - 1, int(len(samples) * 0.95))]

    @property
    def samples(self) -> list[float]:
        """Those of all rounds."""
        return [sample for each in self.rounds for sample in each]


def in_turns(names: list[str], rounds: int) -> list[list[str]]:
    """The order of the contestants in every round; each comes first equally often, so no place is the better one."""
    return [names[turn % len(names) :] + names[: turn % len(names)] for turn in range(rounds)]


def interleave(works: Mapping[str, Callable[[], object]], *, rounds: int, repeats: int) -> dict[str, Series]:
    """Seconds per call of each of *works*: in every round *repeats* calls of one, then of the next."""
    series = {name: Series() for name in works}
    for work in works.values():  # the first call makes files and loads modules
        work()
    for order in in_turns(list(works), rounds):
        for name in order:
            series[name].rounds.append(_timed(works[name], repeats))
    return series


def _timed(work: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        began = perf_counter_ns()
        work()
        times.append((perf_counter_ns() - began) / 1e9)
    return times
