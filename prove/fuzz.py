"""The fuzz tests, run as they are, and a count of what they tried.

Hypothesis says for each test how many examples it ran and why it stopped. Whoever says nothing tried nothing: a test
without such a count, a count of none, output that reads otherwise, or no test at all is a failure.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests/test_fuzz.py"
VARIABLE = "POSLOCK_FUZZ_EXAMPLES"
_PATIENCE = 300.0
_PER_EXAMPLE = 0.5  # of all tests together, on a machine that does other things too
_TITLE = re.compile(r"^\S*test_fuzz\.py::(test_\w+):$")
_GENERATED = re.compile(r"^ {2}- during generate phase \(.*\):$")
_EXAMPLES = re.compile(r"^ {4}- .*?(\d+) passing, (\d+) failing, (?:and )?(\d+) invalid")
_FAILED = re.compile(r"^(?:FAILED|ERROR) \S*test_fuzz\.py(?:::(\w+))?")
_TALLY = re.compile(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s\b")


@dataclass(frozen=True)
class FuzzResult:
    """How many examples each test tried, which tests failed, and what else went wrong; ``output`` says all of it."""

    tried: dict[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    seconds: float = 0.0
    output: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """Whether something was tried, and nothing went wrong."""
        return bool(self.tried) and not self.failed and not self.faults


def run(examples: int | None = None) -> FuzzResult:
    """Try so many examples in each test, None for as many as the tests try by themselves; bounded in time."""
    limit = _PATIENCE + _PER_EXAMPLE * (examples or 0)
    with tempfile.TemporaryDirectory(prefix="poslock-fuzz-") as folder:
        own = {"TMPDIR": folder, "HYPOTHESIS_STORAGE_DIRECTORY": f"{folder}/hypothesis"}
        inherited = {name: value for name, value in os.environ.items() if name not in {VARIABLE, "PYTEST_ADDOPTS"}}
        asked = {} if examples is None else {VARIABLE: str(examples)}
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--color=no", "--hypothesis-show-statistics"]
        began = time.monotonic()
        try:
            done = subprocess.run(  # noqa: S603  # our own tests
                [sys.executable, "-m", "pytest", *options, str(TESTS)],
                cwd=TESTS.parents[1],
                env={**inherited, **own, **asked},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = (late.output or b"").decode("utf-8", "replace")
            return FuzzResult(faults=(f"did not end within {limit:g} s",), seconds=limit, output=said)
        return read(done.stdout.decode("utf-8", "replace"), done.returncode, time.monotonic() - began)


def read(output: str, exit_code: int, seconds: float) -> FuzzResult:
    """What pytest printed, taken at its word only where it is whole."""
    tried = _tried(output)
    failed = [found[1] or "the module" for line in output.splitlines() if (found := _FAILED.match(line))]
    faults = [f"{name} says nothing of its examples" for name, count in tried.items() if not count]
    if exit_code and not failed:
        faults.append(f"pytest ended with exit code {exit_code}")
    tallies = [found[1] for line in output.splitlines() if (found := _TALLY.match(line))]
    if len(tallies) != 1:
        faults.append("pytest did not say how many tests passed")
    elif not failed and tallies[0] != f"{len(tried)} passed":
        faults.append(f"{len(tried)} tests said what they tried, but pytest counts {tallies[0]}")
    return FuzzResult(tried, tuple(dict.fromkeys(failed)), tuple(faults), seconds, output)


def _tried(output: str) -> dict[str, int]:
    """Passing and failing examples by test; 0 where there is no count."""
    tried: dict[str, int] = {}
    name, is_generating = "", False
    for line in output.splitlines():
        if title := _TITLE.match(line):
            name, is_generating = title[1], False
            tried[name] = 0
        elif line and not line.startswith(" "):  # of something else
            name = ""
        elif line.startswith("  - "):
            is_generating = bool(_GENERATED.match(line))
        elif name and is_generating and (counts := _EXAMPLES.match(line)):
            tried[name] += int(counts[1]) + int(counts[2])
    return tried


def rows(result: FuzzResult) -> list[str]:
    """The outcome in lines: a test each, then what went wrong, then the sum."""
    lines = [
        f"{'FAILED' if name in result.failed else 'ok':<6}  {count:>6} examples  {name}"
        for name, count in result.tried.items()
    ]
    lines += [f"FAILED  {name}" for name in result.failed if name not in result.tried]
    lines += [f"FAILED  {fault}" for fault in result.faults]
    if not result.tried:
        lines.append("FAILED  nothing was tried")
    total = sum(result.tried.values())
    return [*lines, f"{total} examples in {len(result.tried)} tests, {result.seconds:.0f} s"]
