"""How much is measured: enough for figures to quote, for a quick look, or only to see that it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Counts, and durations in seconds."""

    rounds: int
    repeats: int
    files: int
    hand_overs: int
    kills: int
    loops: int
    loop_s: float
    wait_s: float
    starts: int
    statuses: int
    closes: int
    closed: int
    crowds: tuple[int, ...]


SIZES = {
    "full": Settings(120, 20, 10_000, 40, 15, 3, 2.0, 10.0, 15, 3, 60, 100_000, (32, 64)),
    "quick": Settings(15, 10, 10_000, 3, 2, 1, 0.4, 1.5, 3, 1, 10, 10_000, (32, 64)),
    "tiny": Settings(2, 2, 20, 1, 1, 1, 0.1, 0.2, 1, 1, 2, 20, (12,)),
}
