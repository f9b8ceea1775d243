"""A short run of ``scripts/soak``, whose history is checked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_POSITIONS, _PROCESSES = 24, 8
_MORE_SECONDS = 240  # for what is unfinished when the time is over


@dataclass(frozen=True)
class Soaked:
    """What the run printed, and how it ended."""

    output: str
    exit_code: int


def run(seconds: int, seed: int) -> Soaked:
    """Let bots run for so long, and judge what they did."""
    sizes = ["--positions", str(_POSITIONS), "--processes", str(_PROCESSES)]
    command = [sys.executable, "-m", "soak", "--seconds", str(seconds), "--seed", str(seed), *sizes]
    try:
        done = subprocess.run(  # noqa: S603  # our own
            command,
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds + _MORE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return Soaked(f"it did not end within {late.timeout:g} s", 1)
    return Soaked(done.stdout.rstrip(), done.returncode)
