"""Lets spin search the model in ``model/poslock.pml``: what must hold, holds, and what must fail without a rule, fails.

A run counts only if pan's report is understood line by line where it matters: a search of the full state space, without
hashing, that was not cut short. Everything else is an error.

Purpose of a run that must fail: a property that no broken rule can violate shows nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Setting = Literal["quick", "long"]

MODEL = Path(__file__).with_name("model") / "poslock.pml"
_TOOLS = ("spin", "gcc")
_BUILD_TIMEOUT_S = 60.0
_DEEPEST = 1_000_000
_TRAIL = "trail"
_MEGABYTES = 8000

_ERROR = re.compile(r"^pan:\d+: (.+) \(at depth \d+\)$", re.MULTILINE)
_DEPTH = re.compile(r"^State-vector \d+ byte, depth reached (\d+), errors: (\d+)$", re.MULTILINE)
# Above a hundred million pan rounds, and writes 1.04e+08.
_COUNT = r"^ *(\d+(?:\.\d+)?(?:e\+\d+)?)"
_STATES = re.compile(rf"{_COUNT} states, stored", re.MULTILINE)
_TRANSITIONS = re.compile(rf"{_COUNT} transitions ", re.MULTILINE)
_TOLD = re.compile(r"^(?:bot \d|venue|time|fate|broken): .+$|^<<<<<START OF CYCLE>>>>>$", re.MULTILINE)
_ROUTINE = re.compile(r"check\(\) passes$")


class SpinError(Exception):
    """spin, gcc or pan did not do what it was asked, or said what is not understood."""


@dataclass(frozen=True, slots=True)
class Run:
    """One search: with which macros, for which property, and the longest that it may take.

    ``variant`` is the rule that is broken, empty if none. A *formula* is searched for cycles under weak fairness;
    without one the assertions and the end states are searched.
    """

    variant: str
    claim: str
    macros: tuple[str, ...]
    formula: str = ""
    timeout_s: float = 60.0

    @property
    def expected_to_fail(self) -> bool:
        """Whether a counter-example is what is wanted."""
        return self.variant != ""


@dataclass(frozen=True, slots=True)
class Report:
    """What pan said of one search; ``error`` is empty if it found none."""

    states: int
    transitions: int
    depth: int
    errors: int
    error: str


@dataclass(frozen=True, slots=True)
class SpinResult:
    """What came of one run. ``trail`` is the counter-example, or why there is no result; empty if all is well."""

    variant: str
    property: str
    states: int
    transitions: int
    depth: int
    errors: int
    seconds: float
    expected_to_fail: bool
    ok: bool
    trail: str


def _bounds(processes: int, crashes: int, expiries: int, mishaps: int) -> tuple[str, ...]:
    return (f"N={processes}", f"CRASHES={crashes}", f"EXPIRIES={expiries}", f"MISHAPS={mishaps}")


# The smallest bounds under which each fails, so that the shortest counter-example is found soon.
_BREAKAGES = (
    Run("NO_SECOND_READ", "one passes check()", _bounds(2, 0, 0, 0)),
    Run("NO_LAST_LOOK", "one passes check()", _bounds(2, 0, 1, 0)),
    Run("LEASE_OF_CONTENDER", "one passes check()", _bounds(2, 0, 1, 0)),
    Run("NO_FENCE", "writes in token order", _bounds(2, 0, 1, 0)),
    Run("NO_FENCE HARM", "no order after the booking", _bounds(2, 1, 1, 0)),
    Run("NO_JOURNAL_BEFORE_SEND", "no order after the booking", _bounds(2, 1, 0, 0)),
    Run("BLIND_RESEND", "no order after the booking", _bounds(2, 0, 0, 0)),
    Run("ASK_ONCE", "no order after the booking", _bounds(2, 0, 0, 0)),
    Run("NO_GRACE", "no order after the booking", _bounds(2, 0, 0, 0)),
    Run("NO_SWEEP_REREAD", "no order after the booking", _bounds(2, 0, 0, 1)),
    Run("NO_PROOF", "filled means flat", _bounds(2, 0, 0, 1)),
    Run("NO_REDUCE_ONLY", "never turned around", _bounds(2, 0, 0, 0)),
    Run("OS_LOCK_ONLY", "nobody waits for ever", _bounds(2, 1, 0, 0), "leaves"),
)
# What is violated in each, as pan or the model calls it: a variant that fails for another reason shows nothing.
_VIOLATED = {
    "one passes check()": "assertion violated ((held&&(holder==me))&&(token==mine))",
    "writes in token order": "assertion violated (mine>=highest)",
    "no order after the booking": "broken: booked, and an order",
    "filled means flat": "broken: filled, and not flat",
    "never turned around": "broken: the position is turned around",
    "nobody waits for ever": "acceptance cycle",
}
_HOLDS = {
    "quick": (
        Run("", "safety", _bounds(2, 1, 1, 1), timeout_s=120.0),
        Run("", "nobody waits: a death", _bounds(2, 1, 0, 0), "leaves", timeout_s=120.0),
        Run("", "nobody waits: a zombie", _bounds(2, 0, 1, 0), "leaves", timeout_s=120.0),
    ),
    "long": (
        Run("", "safety", _bounds(2, 1, 2, 1), timeout_s=600.0),
        Run("", "safety, three: a death", _bounds(3, 1, 0, 0), timeout_s=600.0),
        Run("", "safety, three: a zombie", _bounds(3, 0, 1, 0), timeout_s=600.0),
        Run("", "it is closed", _bounds(2, 1, 1, 1), "closes", timeout_s=600.0),
        Run("", "nobody waits", _bounds(2, 1, 1, 1), "leaves", timeout_s=600.0),
    ),
}


def missing() -> str:
    """Why the model cannot be searched here; empty if it can."""
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"needs {' and '.join(absent)}" if absent else ""


def runs(setting: Setting) -> tuple[Run, ...]:
    """What is searched: the model as it is, then each of its variants."""
    return (*_HOLDS[setting], *_BREAKAGES)


def check(setting: Setting) -> list[SpinResult]:
    """Search everything, one after the other."""
    return [searched(run) for run in runs(setting)]


def searched(run: Run) -> SpinResult:
    """Build the searcher of one run and let it search, in a directory that goes away."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="poslock-spin-") as directory:
        try:
            report = parsed(_search(run, directory), run)
            trail = _replayed(run, directory) if report.errors else ""
        except SpinError as error:
            return _result(run, Report(0, 0, 0, 0, ""), time.monotonic() - began, ok=False, trail=str(error))
    said = f"{report.error}; {trail}" if report.errors else ""
    return _result(run, report, time.monotonic() - began, ok=is_as_expected(run, report, trail), trail=said)


def is_as_expected(run: Run, report: Report, trail: str) -> bool:
    """Whether the model holds, or a variant fails in the way that it must."""
    if not run.expected_to_fail:
        return report.errors == 0
    violated = _VIOLATED[run.claim]
    return report.errors == 1 and (report.error.startswith(violated) or violated in trail)


def parsed(output: str, run: Run) -> Report:
    """What *output* of pan says.

    Raises:
        SpinError: it is not the report of a full search, or says anything that is not understood.
    """
    errors = _ERROR.findall(output)
    depth, counted = _two(_DEPTH, output)
    report = Report(_one(_STATES, output), _one(_TRANSITIONS, output), depth, counted, errors[0] if errors else "")
    if counted != len(errors):
        raise SpinError(f"counts {counted} errors and shows {len(errors)}: {output[-500:]}")
    if re.search(r"\btoo small|\bout of memory|[Bb]it ?state|hash.?compact", output):
        raise SpinError(f"not a full search: {output[-500:]}")
    if report.states < 1 or ("Search not completed" in output) != bool(errors):
        raise SpinError(f"the search was cut short: {output[-500:]}")
    said = {" ".join(line.split()) for line in output.splitlines()}
    if absent := [line for line in _expected(run) if line not in said]:
        raise SpinError(f"does not say {absent}: {output[-500:]}")
    return report


def rows(results: Sequence[SpinResult]) -> list[str]:
    """The lines of a table, its head first."""
    head = f"{'broken rule':<24} {'property':<28} {'states':>11} {'depth':>6} {'s':>6}  result"
    return [head, *(_row(each) for each in results)]


def _row(result: SpinResult) -> str:
    where = f"{result.variant or '-':<24} {result.property:<28}"
    return f"{where} {result.states:>11,} {result.depth:>6} {result.seconds:>6.1f}  {_verdict(result)}"


def _verdict(result: SpinResult) -> str:
    if not result.ok:
        return f"NOT AS EXPECTED: {result.trail or 'no counter-example'}"
    return "fails, as it must" if result.expected_to_fail else "holds"


def _result(run: Run, report: Report, seconds: float, *, ok: bool, trail: str) -> SpinResult:
    return SpinResult(
        variant=run.variant,
        property=run.claim,
        states=report.states,
        transitions=report.transitions,
        depth=report.depth,
        errors=report.errors,
        seconds=seconds,
        expected_to_fail=run.expected_to_fail,
        ok=ok,
        trail=trail,
    )


def _search(run: Run, directory: str) -> str:
    _call(["spin", "-a", *_macros(run), str(MODEL)], directory, _BUILD_TIMEOUT_S)
    _call(["gcc", "-w", *_compiled(run), "-o", "pan", "pan.c"], directory, _BUILD_TIMEOUT_S)
    claim = ["-a", "-f", "-N", run.formula] if run.formula else []
    return _call(["./pan", f"-m{_DEEPEST}", "-n", *claim], directory, run.timeout_s)


def _compiled(run: Run) -> Iterator[str]:
    yield f"-DMEMLIM={_MEGABYTES}"
    # What must fail ends soon, so compiling it well would take longer than running it.
    yield "-O0" if run.expected_to_fail else "-O2"
    if not run.formula:
        yield "-DSAFETY"
        if run.expected_to_fail:
            yield "-DBFS"  # the shortest counter-example


def _expected(run: Run) -> Iterator[str]:
    """Lines of the report, without which the search was another one than we think."""
    yield "+ Partial Order Reduction"
    yield "Full statespace search for:"
    if run.formula:
        yield f"never claim + ({run.formula})"
        yield "acceptance cycles + (fairness enabled)"
    else:
        yield "never claim - (none specified)"
        yield "assertion violations +"
        yield "invalid end states +"


def _replayed(run: Run, directory: str) -> str:
    """The counter-example, as the model tells it."""
    found = sorted(Path(directory).glob(f"*.{_TRAIL}"))
    if len(found) != 1:
        raise SpinError(f"an error, and {len(found)} trails of it")
    output = _call(["spin", "-T", "-B", "-k", str(found[0]), *_macros(run), str(MODEL)], directory, _BUILD_TIMEOUT_S)
    told = [line for line in _TOLD.findall(output) if not _ROUTINE.search(line)]
    return "; ".join("and so on for ever" if line.startswith("<") else line for line in told)


def _macros(run: Run) -> list[str]:
    progress = ("PROGRESS",) if run.formula else ()
    return [f"-D{name}" for name in (*run.macros, *run.variant.split(), *progress)]


def _call(command: list[str], directory: str, timeout_s: float) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # the tools, on our own model
            command, cwd=directory, capture_output=True, check=False, text=True, timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpinError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise SpinError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout + done.stderr


def _one(pattern: re.Pattern[str], output: str) -> int:
    found = pattern.findall(output)
    if len(found) != 1:
        raise SpinError(f"{pattern.pattern!r} is there {len(found)} times: {output[-500:]}")
    return int(float(found[0]))


def _two(pattern: re.Pattern[str], output: str) -> tuple[int, int]:
    found = pattern.findall(output)
    if len(found) != 1:
        raise SpinError(f"{pattern.pattern!r} is there {len(found)} times: {output[-500:]}")
    return int(found[0][0]), int(found[0][1])
