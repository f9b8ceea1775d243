"""Many bots close, change, read and recover many positions at random, and are killed and stopped at random.

The exchange is slow, loses requests and answers, and fills by parts. At the end what is unfinished is recovered, and
the venues' own files are held against the books, and an order is sought that explains what all processes did to locks
and ledger. Exit 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

from soak.check import judged
from soak.diary import Diary
from soak.ending import finish
from soak.explaining import explained
from soak.market import Market
from soak.report import figures
from soak.setting import Setting
from soak.supervisor import Supervisor
from soak.transit import Transit

_PATIENCE = 30.0
_MOST_SHOWN = 50


def main() -> int:
    """The exit code."""
    options = _options()
    if options.check is not None:
        return _judge(options.check)
    with ExitStack() as stack:
        directory = options.directory or stack.enter_context(tempfile.TemporaryDirectory(prefix="poslock-soak-"))
        Path(directory).mkdir(parents=True, exist_ok=True)
        if any(Path(directory).iterdir()):
            sys.exit(f"{directory} is not empty")
        seed = time.time_ns() % 10**9 if options.seed is None else options.seed
        sys.stdout.write(
            f"{options.processes} processes on {options.positions} positions for {options.seconds:g} s, "
            f"lease {options.lease:g} s, seed {seed}\n"
        )
        sys.stdout.flush()
        play(Setting(directory, seed, options.positions, options.lease), options.processes, options.seconds)
        return _judge(directory)


def play(setting: Setting, processes: int, seconds: float) -> None:
    """Everything but the verdict."""
    diary, done = Diary(setting.directory, "supervisor"), Event()
    market = Market(setting, diary, Transit(setting.directory))
    market.open_all()
    with ThreadPoolExecutor(1) as executor:
        with Supervisor(setting, processes, diary) as supervisor:
            moving = executor.submit(market.run, done)
            try:
                supervisor.run(seconds)
            finally:
                done.set()
        moving.result(_PATIENCE)
    finish(setting, diary)


def _judge(directory: str) -> int:
    history, found = explained(directory), judged(directory)
    broken = [*found.violations, *history.violations]
    rows = [*history.figures(), *sorted(found.residuals.items())]
    rows += [("unsettled at the end, as the design says", len(found.unsettled)), ("violations", len(broken))]
    sys.stdout.write(figures(directory, rows) + "\n")
    for each in found.unsettled:
        sys.stdout.write(f"UNSETTLED {each}\n")
    for each in broken[:_MOST_SHOWN]:
        sys.stdout.write(f"VIOLATION {each}\n")
    return int(bool(broken))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--processes", type=int, default=8, help="how many bots (default: 8)")
    parser.add_argument("--positions", type=int, default=200, help="how many positions (default: 200)")
    parser.add_argument("--seed", type=int, help="what everybody's choices derive from (default: the clock)")
    parser.add_argument("--lease", type=float, default=2.0, help="lease of the locks in seconds (default: 2)")
    parser.add_argument("--directory", help="keep all files of the run here, in an empty directory")
    parser.add_argument("--check", metavar="DIRECTORY", help="only judge the files of an earlier run again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
