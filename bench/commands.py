"""Rows that start Python: the command line over many files, and importing."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

from bench.contestants import POSLOCK
from bench.processes import environment
from bench.rows import Bound, Row
from bench.series import Series, in_turns

if TYPE_CHECKING:
    from bench.settings import Settings

_LIBRARIES = "import filelock and portalocker"
_IMPORTS = {POSLOCK.name: "import poslock", _LIBRARIES: "import filelock, portalocker"}
_LATE = ("asyncio", "ccxt", "sqlite3")
_PATIENCE = 60.0


def status(many: str, directory: str, settings: Settings) -> Row:
    """``poslock status`` as an operator waits for it, from the shell's point of view."""
    series = Series()
    for _ in range(settings.statuses):
        began = perf_counter_ns()
        _run(["-m", "poslock_cli", "--lock-dir", many, "status"], directory)
        series.rounds.append([(perf_counter_ns() - began) / 1e9])
    return Row(f"poslock status over {settings.files:,} lock files", "s", {POSLOCK.name: series}, (Bound(1.0),))


def positions(lock_dir: str, directory: str, settings: Settings) -> Row:
    """``poslock positions --open`` after very many closes."""
    series = Series()
    for _ in range(settings.statuses):
        began = perf_counter_ns()
        _run(["-m", "poslock_cli", "--lock-dir", lock_dir, "positions", "--open"], directory)
        series.rounds.append([(perf_counter_ns() - began) / 1e9])
    work = f"poslock positions --open, {settings.closed:,} closed"
    return Row(work, "s", {POSLOCK.name: series}, (Bound(1.0),))


def imports(directory: str, settings: Settings) -> list[Row]:
    """How long importing takes in a new process, and whether it loads what only few need."""
    series = {name: Series() for name in _IMPORTS}
    for statement in _IMPORTS.values():  # leaves the byte code behind
        _run(["-c", statement], directory)
    for order in in_turns(list(_IMPORTS), settings.starts):
        for name in order:
            timed = f"import time; t = time.perf_counter_ns(); {_IMPORTS[name]}; print(time.perf_counter_ns() - t)"
            series[name].rounds.append([int(_run(["-c", timed], directory)) / 1e9])
    loaded = f"import sys, poslock; print(sum(name in sys.modules for name in {_LATE}))"
    early = Series()
    early.rounds.append([int(_run(["-c", loaded], directory))])
    return [
        Row("import poslock", "s", series, (Bound(1.3, _LIBRARIES),)),
        Row(f"import poslock: how many of {', '.join(_LATE)} it loads", "", {POSLOCK.name: early}, (Bound(0),)),
    ]


def _run(arguments: list[str], directory: str) -> str:
    command = [sys.executable, *arguments]
    # In the directory of the run: poslock is imported as it is installed, not from where the bench lies.
    done = subprocess.run(  # noqa: S603  # ourselves
        command, cwd=directory, env=environment(directory), stdout=subprocess.PIPE, check=True, timeout=_PATIENCE
    )
    return done.stdout.decode()
