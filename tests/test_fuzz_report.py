"""What pytest prints of the fuzz tests: believed only where it is whole."""

from __future__ import annotations

import pytest

from prove.fuzz import FuzzResult, read, rows

FILE = "tests/test_fuzz.py"
FIRST, SECOND = "test_any_bytes", "test_any_id"
HEAD = "============================ Hypothesis Statistics ============================="


def counted(name: str, passing: int, failing: int = 0) -> str:
    """What is said of one test; examples that were tried to make a failure smaller are no others."""
    return f"""{FILE}::{name}:

  - during generate phase (0.03 seconds):
    - Typical runtimes: ~ 6-23 ms, of which ~ 6-20 ms in data generation
    - {passing} passing, {failing} failing, and 5 invalid test cases
    - Events:
      * 50.00%, 7 passing, 7 failing, and 7 invalid

  - during shrink phase (0.10 seconds):
    - Typical runtimes: < 1ms
    - 300 passing, 40 failing, and 2 invalid test cases

  - Stopped because settings.max_examples={passing}
"""


def printed(*parts: str, tally: str) -> str:
    return "\n".join(["..   [100%]", HEAD, *parts, f"{tally} in 24.55s"])


def test_what_is_whole_is_a_success() -> None:
    """Counts of both tests, none of another phase's, and a sum."""
    output = printed(counted(FIRST, 400), counted(SECOND, 60), tally="2 passed")
    result = read(output, 0, 24.6)
    assert result == FuzzResult({FIRST: 400, SECOND: 60}, (), (), 24.6, output)
    assert result.ok
    assert rows(result) == [
        f"ok         400 examples  {FIRST}",
        f"ok          60 examples  {SECOND}",
        "460 examples in 2 tests, 25 s",
    ]


def test_the_line_around_a_tally_may_be_drawn() -> None:
    """Without -q it is, and a long run is told in hours too."""
    output = printed(counted(FIRST, 400), tally="=== 1 passed").replace("24.55s", "3724.55s (1:02:04) ===")
    assert read(output, 0, 3724.6).ok


@pytest.mark.parametrize("is_counted", [True, False], ids=["counted", "failed before anything was counted"])
def test_a_failing_test_is_named(is_counted: bool) -> None:
    """With what it tried, if that is said; once, although its fixtures may fail as well."""
    counts = [counted(FIRST, 400), *([counted(SECOND, 11, 2)] if is_counted else [])]
    why = [f"FAILED {FILE}::{SECOND} - AssertionError: 1 failed in 2.00s", f"ERROR {FILE}::{SECOND} - OSError"]
    result = read(printed(*counts, *why, tally="1 failed, 1 passed, 1 error"), 1, 2)
    assert (result.ok, result.failed, result.faults) == (False, (SECOND,), ())
    expected = f"FAILED      13 examples  {SECOND}" if is_counted else f"FAILED  {SECOND}"
    assert rows(result)[1] == expected
    assert rows(result)[2:] == [f"{413 if is_counted else 400} examples in {2 if is_counted else 1} tests, 2 s"]


def test_a_failing_test_is_no_success_whatever_the_exit_code() -> None:
    """Nor is one that pytest could not even read."""
    assert not read(printed(counted(FIRST, 400), f"FAILED {FILE}::{FIRST} - x", tally="1 failed"), 0, 2).ok
    result = read(printed(f"ERROR {FILE} - NameError", tally="1 error"), 2, 2)
    assert (result.ok, result.failed) == (False, ("the module",))
    assert rows(result)[:2] == ["FAILED  the module", "FAILED  nothing was tried"]


@pytest.mark.parametrize(
    ("parts", "tally", "exit_code", "fault"),
    [
        ([counted(FIRST, 0)], "1 passed", 0, f"{FIRST} says nothing of its examples"),
        ([f"{FILE}::{FIRST}:\n\n  - Stopped because"], "1 passed", 0, f"{FIRST} says nothing of its examples"),
        (
            [counted(FIRST, 9).replace(" passing, ", " okay, ")],
            "1 passed",
            0,
            f"{FIRST} says nothing of its examples",
        ),
        (
            [counted(FIRST, 9).replace("during generate phase", "during reuse phase")],
            "1 passed",
            0,
            f"{FIRST} says nothing of its examples",
        ),
        ([counted(FIRST, 9)], "2 passed", 0, "1 tests said what they tried, but pytest counts 2 passed"),
        ([counted(FIRST, 9)], "1 passed, 1 skipped", 0, "1 tests said what they tried, but pytest counts 1 passed, 1 "),
        ([counted(FIRST, 9)], "1 passed", 1, "pytest ended with exit code 1"),
        ([counted(FIRST, 9)], "1 passed", -11, "pytest ended with exit code -11"),
        ([counted(FIRST, 9)], "?", 0, "pytest did not say how many tests passed"),
        ([counted(FIRST, 9), "1 passed in 0.10s"], "1 passed", 0, "pytest did not say how many tests passed"),
    ],
)
def test_what_is_not_whole_is_a_fault(parts: list[str], tally: str, exit_code: int, fault: str) -> None:
    """Each by itself, and in a line of its own."""
    result = read(printed(*parts, tally=tally), exit_code, 2)
    assert not result.ok
    assert [each[: len(fault)] for each in result.faults] == [fault]
    assert [each for each in rows(result) if each.startswith("FAILED")] == [f"FAILED  {each}" for each in result.faults]


@pytest.mark.parametrize(
    "output",
    ["", "\x00\ufffd garbage", "no tests ran in 0.01s", "12 deselected in 0.50s", "0 passed in 0.01s"],
)
@pytest.mark.parametrize("exit_code", [0, 5])
def test_nothing_tried_is_no_success(output: str, exit_code: int) -> None:
    """Whatever else was printed."""
    result = read(output, exit_code, 0)
    assert (result.ok, result.tried) == (False, {})
    assert "FAILED  nothing was tried" in rows(result)
    assert rows(result)[-1] == "0 examples in 0 tests, 0 s"


def test_counts_of_another_file_do_not_count() -> None:
    """They would make up for those that are missing."""
    output = printed(counted(FIRST, 9), counted(SECOND, 9).replace("test_fuzz", "test_ids"), tally="2 passed")
    result = read(output, 0, 2)
    assert (result.ok, result.tried) == (False, {FIRST: 9})
