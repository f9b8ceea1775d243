"""``scripts/bench``: poslock beside other locks; ``scripts/bench close``: what a close costs at the venues."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.alone import crowded, fill, fresh, reused
from bench.commands import imports, status
from bench.growth import growth
from bench.guard import close
from bench.machine import machine
from bench.peers import arena, crowd, hand_over, idle, once_each, take_over
from bench.report import as_json, as_table
from bench.settings import SIZES

if TYPE_CHECKING:
    from bench.rows import Row
    from bench.settings import Settings


def main() -> int:
    """The exit code: 1 if a bound was missed and that was asked for, else 0."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="poslock-bench-", dir=options.directory) as directory:
        run = _closes if options.what == "close" else _everything
        table, figures, missed = run(directory, options.size)
    sys.stdout.write(table + "\n")
    if options.json is not None:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(options.check and missed)


def _everything(directory: str, size: str) -> tuple[str, dict[str, Any], bool]:
    described, rows = machine(directory), measure(directory, SIZES[size])
    missed = any(not row.is_met(bound) for row in rows for bound in row.bounds)
    return as_table(described, rows), as_json(described, rows), missed


def _closes(directory: str, size: str) -> tuple[str, dict[str, Any], bool]:
    from bench.close import measure as closes  # noqa: PLC0415  # nothing else needs ccxt
    from bench.close import table  # noqa: PLC0415  # as above

    described, measured = machine(directory), closes.measure(directory, closes.SIZES[size])
    missed = any(table.missed(row) for row in measured.rows)
    return table.as_table(described, measured), table.as_json(described, measured), missed


def measure(directory: str, settings: Settings) -> list[Row]:
    """All rows but those of closes at the venues, one after the other, in *directory*."""
    rows = [reused(directory, settings), fresh(directory, settings)]
    with arena(directory, settings) as peers:
        rows += [hand_over(peers), take_over(peers), *crowd(peers), idle(peers)]
    rows += once_each(directory, settings)
    many = f"{directory}/many"
    held = fill(many, settings.files)
    rows += [crowded(f"{directory}/few", many, settings), status(many, directory, settings)]
    del held
    return [*rows, close(directory, settings), *growth(directory, settings), *imports(directory, settings)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    text = "what a close costs at the venues, and when its order leaves; without it everything else"
    parser.add_argument("what", nargs="?", choices=["close"], help=text)
    size = parser.add_mutually_exclusive_group()
    for name, text in (("quick", "a short run, for a look"), ("tiny", "only to see that it runs")):
        size.add_argument(f"--{name}", action="store_const", dest="size", const=name, help=text)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--directory", help="measure on this file system instead of that of the temporary directory")
    parser.set_defaults(size="full")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
