"""What `poslock.closing.exits` says of a leg, at random: a venue that lags, a trader with hands, and a close.

A *sequence* is one position, from its entry on: it is tracked as the design says, the trader scales in, reduces,
closes, enters again or flips at any moment, also between a look and the order, and a close looks and obeys `decide`.
What comes of it is compared with the truth at the venue:

- no order sells more than what is left of the S contracts, nor anything once the position has ended;
- ``ended`` and ``left`` are said only of a position of which nothing is left, and name what is held;
- what is booked is exactly the position's own exits;
- a whole close ends flat; a plain one sends all at the first look and has ended at the second;
- all come to an end, and once both reads show everything, nothing is unsettled without a reason.

A failure whose cause is recognised by the truth of the sequence is counted by name: what the table grants, for no rule
can know it from two such reads, and apart from that what was found here. Everything else is a violation, which
``--seed N --sequences 1`` repeats with its history.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from prove.legs_run import Run
from prove.legs_truth import GRANTED, Counts, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARE = 5_000  # sequences a worker is given at a time


def sequences(first: int, count: int, *, unverified: bool = False) -> Counts:
    """What *count* sequences come to, the first with the seed *first*; *unverified* ones are tracked so."""
    counts = Counts()
    for seed in range(first, first + count):
        try:
            Run(seed, counts, unverified=unverified).run()
        except Violation as violation:
            counts.violations.append(f"seed {seed}: {violation}")
    return counts


def history(seed: int, *, unverified: bool = False) -> list[str]:
    """One sequence, told."""
    story: list[str] = []
    try:
        Run(seed, Counts(), story, unverified=unverified).run()
    except Violation as violation:
        story.append(f"VIOLATION: {violation}")
    return story


def rows(counts: Counts, shown: int = 3, *, unverified: bool = False) -> list[str]:
    """*counts* for people; the first violations with their history."""
    how = " tracked with verify=False" if unverified else ""
    lines = [f"{counts.sequences:,} sequences{how}, {len(counts.violations)} violations"]
    granted = {name: number for name, number in counts.residuals.items() if name.endswith(GRANTED)}
    others = {name: number for name, number in counts.residuals.items() if name not in granted}
    for title, counted in (
        ("decisions", counts.rows),
        ("ends", counts.ends),
        (f"failures that the table grants: {sum(granted.values()):,}", granted),
        (f"failures by the other names on the design page: {sum(others.values()):,}", others),
    ):
        lines.append(f"  {title}:")
        lines += [f"    {number:>10,}  {name}" for name, number in sorted(counted.items())]
    for violation in counts.violations[:shown]:
        lines.append(f"  {violation}")
        lines += [f"      {line}" for line in history(int(violation.split()[1].rstrip(":")), unverified=unverified)]
    return lines


def shares(first: int, count: int) -> list[tuple[int, int]]:
    """*count* sequences from the seed *first* on, as arguments of `sequences`, one share after another."""
    return [(start, min(_SHARE, first + count - start)) for start in range(first, first + count, _SHARE)]


def caught(count: int) -> str:
    """The first violation in *count* sequences, and half as many unverified ones; empty if there is none."""
    for unverified, parts in ((False, shares(0, count)), (True, shares(0, count // 2))):
        for part in parts:
            if found := sequences(*part, unverified=unverified).violations:
                return found[0]
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if there was a violation."""
    parser = argparse.ArgumentParser(prog="python -m prove.legs", description="Sequences of one leg, at random.")
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence")
    parser.add_argument("--unverified", action="store_true", help="tracked with verify=False, which has a price")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.sequences == 1:
        print("\n".join(history(options.seed, unverified=options.unverified)))
    began, counts = time.monotonic(), Counts()
    parts, run = shares(options.seed, options.sequences), partial(sequences, unverified=options.unverified)
    if options.processes == 1:
        for part in parts:
            counts.add(run(*part))
    else:
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            for each in pool.map(run, *zip(*parts, strict=True)):
                counts.add(each)
    print("\n".join(rows(counts, unverified=options.unverified)))
    print(f"{counts.sequences / (time.monotonic() - began):,.0f} sequences/s")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
