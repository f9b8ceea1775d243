"""The soak: a short run keeps its promises, and its check finds books that are wrong."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = ["--seconds", "8", "--processes", "4", "--positions", "12", "--lease", "1", "--seed", "7"]
HAPPENED = (
    "closes that a bot was told it did",
    "modifies",
    "reads",
    "recoveries and closes after it",
    "SIGKILL",
    "SIGSTOP for longer than the lease",
    "answers lost",
    "orders filled in part",
    "positions opened",
)


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "soak", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def figures(printed: str) -> dict[str, int]:
    rows = [line.rsplit(maxsplit=1) for line in printed.splitlines() if line[-1:].isdigit() and "  " in line]
    return {text: int(count) for text, count in rows}


def commands() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            found.append(process.read_text(errors="replace"))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of a run, and what it printed."""
    directory = str(tmp_path_factory.mktemp("soak"))
    done = soak(*RUN, "--directory", directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


def test_a_short_run_keeps_every_promise(run: tuple[str, str]) -> None:
    """Exit 0, the seed, and figures that show that something happened."""
    directory, printed = run
    counted = figures(printed)
    assert "seed 7" in printed.splitlines()[0]
    assert counted["violations"] == 0
    assert {text: count for text, count in counted.items() if text in HAPPENED and not count} == {}
    assert counted.keys() >= set(HAPPENED)
    assert [command for command in commands() if directory in command] == []


LEDGER, VENUE = "locks/ledger.db", "venue-0.db"


@pytest.mark.parametrize(
    ("file", "broken", "named"),
    [
        (LEDGER, "UPDATE booking SET net_pnl = net_pnl || '1' WHERE rowid = 3", "booked net_pnl"),
        (LEDGER, "UPDATE booking SET gross_pnl = '0.1' WHERE rowid = 3", "booked gross_pnl"),
        (LEDGER, "UPDATE booking SET funding = '0.1' WHERE rowid = 3", "booked funding"),
        (LEDGER, "UPDATE booking SET exit_price = exit_price || '1' WHERE rowid = 3", "booked exit price"),
        (LEDGER, "UPDATE booking SET token = token + 1", "were told that they closed"),
        (LEDGER, "DELETE FROM booking WHERE rowid = 3", "0 bookings"),
        (LEDGER, "UPDATE fill SET fee = fee || '1' WHERE rowid = 3", "booked only"),
        (LEDGER, "DELETE FROM fill WHERE rowid = 3", "at the venue only"),
        (LEDGER, "UPDATE position SET state = 'closing' WHERE rowid = 3", "state closing"),
        (LEDGER, "UPDATE position SET contracts = contracts + 1 WHERE rowid = 3", "reduced"),
        (LEDGER, "UPDATE audit SET token = 1 WHERE number = (SELECT max(number) FROM audit)", "came after"),
        (LEDGER, "UPDATE attempt SET client_order_id = 'x' || client_order_id", "without a journal"),
        (VENUE, "UPDATE fills SET price = price + 1 WHERE reduced", "at the venue only"),
        (VENUE, "UPDATE orders SET state = 'open' WHERE order_id = 2", "order 2 left"),
        (VENUE, "INSERT INTO legs SELECT symbol, 'short', '1', '1' FROM market LIMIT 1", "1 contracts left"),
        (VENUE, "UPDATE fills SET reduced = 0 WHERE trade_id = (SELECT max(trade_id) FROM fills)", "reversed?"),
    ],
)
def test_broken_books_are_found(run: tuple[str, str], tmp_path: Path, file: str, broken: str, named: str) -> None:
    """One thing changed in a copy of the files: exit 1, and the violation says what."""
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy)
    with closing(sqlite3.connect(copy / file)) as db, db:
        assert db.execute(broken).rowcount > 0
    done = soak("--check", str(copy))
    assert done.returncode == 1
    assert any(line.startswith("VIOLATION") and named in line for line in done.stdout.splitlines()), done.stdout


def test_the_files_of_a_run_can_be_judged_again(run: tuple[str, str]) -> None:
    """With the same figures."""
    done = soak("--check", run[0])
    assert done.returncode == 0
    assert figures(done.stdout) == figures(run[1])
