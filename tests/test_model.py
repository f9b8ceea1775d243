"""The model of the close, as spin searches it; and that a search which was none does not count."""

from __future__ import annotations

import pytest

from prove import spin
from prove.spin import Report, Run, SpinError, SpinResult

_MISSING = spin.missing()
needs_spin = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

# The two that take millions of states are left to ``scripts/prove``.
RUNS = [run for run in spin.runs("quick") if run.claim != "safety" and run.variant != "NO_FENCE HARM"]
HOLDS = [run for run in RUNS if not run.expected_to_fail]
FAILS = [run for run in RUNS if run.expected_to_fail]
SAFETY = Run("", "safety", ())
LEAVES = Run("", "everybody leaves", (), "leaves")

OUTPUT = """
(Spin Version 6.5.2 -- 6 December 2019)
	+ Partial Order Reduction

Full statespace search for:
	never claim         	- (none specified)
	assertion violations	+
	cycle checks       	- (disabled by -DSAFETY)
	invalid end states	+

State-vector 96 byte, depth reached 451, errors: 0
  6653219 states, stored
 15706632 states, matched
 22359851 transitions (= stored+matched)
 19537007 atomic steps
hash conflicts:   1545272 (resolved)

pan: elapsed time 7.31 seconds
"""
FOUND = OUTPUT.replace("errors: 0", "errors: 1").replace("(Spin", "Warning: Search not completed\n(Spin")
VIOLATION = f"pan:1: assertion violated (mine>=highest) (at depth 51)\n{FOUND}"


@needs_spin
@pytest.mark.parametrize("run", HOLDS, ids=lambda run: run.claim)
def test_the_model_holds(run: Run) -> None:
    """A full search finds no violation."""
    result = spin.searched(run)
    assert result.ok, result
    assert result.errors == 0
    assert result.states > 100_000


@needs_spin
@pytest.mark.parametrize("run", FAILS, ids=lambda run: run.variant)
def test_without_any_one_rule_it_fails(run: Run) -> None:
    """The model with a rule broken violates just what that rule is for."""
    result = spin.searched(run)
    assert result.ok, result
    assert result.errors == 1
    assert "bot" in result.trail


def test_a_report_of_a_full_search_is_read() -> None:
    """States, transitions, depth, and no error."""
    assert spin.parsed(OUTPUT, SAFETY) == Report(6653219, 22359851, 451, 0, "")


def test_counts_that_pan_rounds_are_read() -> None:
    """As it writes them from a hundred million on."""
    report = spin.parsed(OUTPUT.replace(" 22359851 transitions", "1.404152e+08 transitions"), SAFETY)
    assert (report.states, report.transitions) == (6653219, 140415200)


def test_a_violation_is_read() -> None:
    """What was violated is in the report."""
    report = spin.parsed(VIOLATION, SAFETY)
    assert (report.errors, report.error) == (1, "assertion violated (mine>=highest)")


@pytest.mark.parametrize(
    ("output", "run"),
    [
        pytest.param("", SAFETY, id="nothing"),
        pytest.param("Segmentation fault", SAFETY, id="garbage"),
        pytest.param(OUTPUT.replace("errors: 0", "errors: none"), SAFETY, id="no count"),
        pytest.param(OUTPUT + OUTPUT, SAFETY, id="two reports"),
        pytest.param("error: max search depth too small\n" + OUTPUT, SAFETY, id="too deep"),
        pytest.param("Warning: Search not completed\n" + OUTPUT, SAFETY, id="not completed"),
        pytest.param(OUTPUT.replace("Full statespace", "Bit statespace"), SAFETY, id="hashed"),
        pytest.param("pan: out of memory\n" + OUTPUT, SAFETY, id="out of memory"),
        pytest.param(OUTPUT.replace("6653219 states", "0 states"), SAFETY, id="no state"),
        pytest.param(
            OUTPUT.replace("end states	+", "end states	- (disabled)"), SAFETY, id="end states not looked at"
        ),
        pytest.param(FOUND, SAFETY, id="counted, not shown"),
        pytest.param(VIOLATION.replace("errors: 1", "errors: 0"), SAFETY, id="shown, not counted"),
        pytest.param(OUTPUT, LEAVES, id="another search"),
    ],
)
def test_whatever_is_not_the_report_of_a_full_search_is_an_error(output: str, run: Run) -> None:
    """Nothing that is not understood passes for a result."""
    with pytest.raises(SpinError):
        spin.parsed(output, run)


@pytest.mark.parametrize("run", FAILS, ids=lambda run: run.variant)
def test_a_variant_that_holds_or_fails_otherwise_is_not_as_expected(run: Run) -> None:
    """Neither no counter-example nor one of another kind is what a broken rule must give."""
    assert not spin.is_as_expected(run, Report(10, 10, 10, 0, ""), "")
    assert not spin.is_as_expected(run, Report(10, 10, 10, 1, "assertion violated (elsewhere)"), "bot 0: books")


def test_the_model_with_a_violation_is_not_as_expected() -> None:
    """One error is enough."""
    assert not spin.is_as_expected(SAFETY, Report(10, 10, 10, 1, "invalid end state"), "")


def test_the_table_has_a_line_for_each_result_and_says_what_is_wrong() -> None:
    """A result that was not expected stands out, with its reason."""
    good = SpinResult("", "safety", 6653219, 22359851, 451, 0, 7.3, expected_to_fail=False, ok=True, trail="")
    bad = SpinResult("NO_FENCE", "order", 10, 10, 5, 0, 0.1, expected_to_fail=True, ok=False, trail="")
    lines = spin.rows([good, bad])
    assert len(lines) == 3
    assert "6,653,219" in lines[1]
    assert lines[1].endswith("holds")
    assert lines[2].endswith("NOT AS EXPECTED: no counter-example")
