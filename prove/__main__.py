"""``scripts/prove``: what can be shown of the promises without luck, and what it came to."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from prove import fuzz, legs, mutants, report, soaked, spin
from prove.legs_truth import Counts
from prove.search import SCENES, Setting, catch, search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_QUICK, _LONG = Setting(6_000, 100, 100), Setting(200_000, 2_000, 2_000)
_LONG_EXAMPLES = 1_000
_QUICK_SOAK_S, _LONG_SOAK_S = 10, 120
_QUICK_SEQUENCES, _LONG_SEQUENCES = 40_000, 2_000_000
_FOR_ONE_UNVERIFIED = 10  # what `verify=False` costs is counted apart
PARTS = ("scenes", "legs", "mutants", "model", "fuzz", "history")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every promise held and every mutant was caught, 1 if not."""
    options = _options(arguments)
    if options.catch:
        print(how := catch(options.catch))
        return mutants.CAUGHT if how else 0
    left_out = spin.missing() if "model" in options.part else ""
    if left_out:
        options.part.remove("model")
    print(f"poslock prove, {'long' if options.long else 'quick'}: Python {platform.python_version()}", flush=True)
    began, bad = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        # All of it is asked for at once, so that no worker is idle; what comes of it is printed in this order.
        begun = [section(pool, options) for section in _SECTIONS if section.__name__[1:] in options.part]
        for told in begun:
            bad += told()
            print(flush=True)
    if left_out:
        print(f"LEFT OUT: the model {left_out}")
    verdict = f"{bad} FAILED" if bad else "nothing was run" if not options.part else "everything that was run held"
    print(f"{verdict}, {time.monotonic() - began:.0f} s")
    return 1 if bad or not options.part or (left_out and options.everything) else 0


def _scenes(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Callable[[], int]:
    setting = _LONG if options.long else _QUICK
    walks = setting.walks if options.walks is None else options.walks
    setting = Setting(setting.states, setting.looks, walks, options.seed)
    searches = pool.map(partial(search, setting=setting), options.scene or list(SCENES))

    def told() -> int:
        print(report.SCENES_HEAD, flush=True)
        found = []
        for one in searches:
            print("\n".join(report.scene(one)), flush=True)
            found.append(one)
        print("\n".join(report.scenes_sum(found, setting)))
        return sum(bool(each.violation) for each in found)

    return told


def _legs(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Callable[[], int]:
    many = _LONG_SEQUENCES if options.long else _QUICK_SEQUENCES
    runs = [
        (unverified, pool.map(partial(legs.sequences, unverified=unverified), *zip(*parts, strict=True)))
        for unverified, parts in (
            (False, legs.shares(options.seed, many)),
            (True, legs.shares(options.seed, many // _FOR_ONE_UNVERIFIED)),
        )
    ]

    def told() -> int:
        print("legs: a venue that lags, a trader with hands, a close, at random", flush=True)
        violations = 0
        for unverified, run in runs:
            counts = Counts()
            for each in run:
                counts.add(each)
            print("\n".join(legs.rows(counts, unverified=unverified)))
            violations += len(counts.violations)
        return violations

    return told


def _mutants(pool: ProcessPoolExecutor, _: argparse.Namespace) -> Callable[[], int]:
    searches = pool.map(mutants.caught, mutants.MUTANTS)

    def told() -> int:
        print(report.MUTANTS_HEAD, flush=True)
        survived = 0
        for one in searches:
            print(report.mutant(one), flush=True)
            survived += not one.how
        print(f"{len(mutants.MUTANTS) - survived} of {len(mutants.MUTANTS)} mutants caught")
        return survived

    return told


def _model(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Callable[[], int]:
    searches = pool.map(spin.searched, spin.runs("long" if options.long else "quick"))

    def told() -> int:
        print("the model, every state of it searched by spin", flush=True)
        results = list(searches)
        print("\n".join(spin.rows(results)))
        print(f"{sum(each.states for each in results)} states in {len(results)} searches")
        return sum(not each.ok for each in results)

    return told


def _fuzz(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Callable[[], int]:
    run = pool.submit(fuzz.run, _LONG_EXAMPLES if options.long else None)

    def told() -> int:
        print("fuzz: inputs nobody thinks of", flush=True)
        result = run.result()
        print("\n".join(fuzz.rows(result)))
        return int(not result.ok)

    return told


def _history(pool: ProcessPoolExecutor, options: argparse.Namespace) -> Callable[[], int]:
    run = pool.submit(soaked.run, _LONG_SOAK_S if options.long else _QUICK_SOAK_S, options.seed)

    def told() -> int:
        print("history: real processes, killed and stopped; an order that explains what they did", flush=True)
        done = run.result()
        print(done.output)
        return done.exit_code

    return told


_SECTIONS = (_scenes, _legs, _mutants, _model, _fuzz, _history)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/prove",
        description="The lock and the close under every interleaving, as far as bounds allow; what a leg shows, at "
        "random; breakages of the code, which must be found; a model; odd inputs; the history of a real run. Exit 1 if "
        "a promise is broken.",
    )
    parser.add_argument("--long", action="store_true", help="many more states and walks: about half an hour")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be given several times")
    parser.add_argument("--scene", action="append", choices=SCENES, metavar="NAME", help="only this scene")
    parser.add_argument("--seed", type=int, default=0, help="of the first random walk (default: 0)")
    parser.add_argument("--walks", type=int, help="random walks in each scene")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)"
    )
    parser.add_argument("--everything", action="store_true", help="fail if a part had to be left out")
    parser.add_argument("--catch", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.scene and not options.part:
        options.part = ["scenes"]
    options.part = options.part or list(PARTS)
    return options


if __name__ == "__main__":
    sys.exit(main())
