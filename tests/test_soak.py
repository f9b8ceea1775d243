"""The soak: a short run keeps its promises, and its check finds books that are wrong."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from poslock.ledger.journal import Change, CloseKey
from soak.diary import Diary
from soak.operations import operations_of
from soak.watching import _lines

ROOT = Path(__file__).parent.parent
RUN = ["--seconds", "10", "--processes", "4", "--positions", "12", "--lease", "1", "--seed", "7"]
# In so short a run not everything happens, but something of each line.
HAPPENED = (
    ("closes that a bot was told it did",),
    ("modifies", "modifies refused as invalid", "modifies refused by the venue"),
    ("reads",),
    ("recoveries during the run", "recoveries and closes after it"),
    ("SIGKILL",),
    ("SIGSTOP for longer than the lease",),
    ("requests lost", "answers lost"),
    ("orders filled in part", "orders denied for a while"),
    ("answers of a moment ago", "empty lists of what is held"),
    ("entered by hand",),
    ("grown by hand", "reduced by hand", "flipped by hand", "closed by hand"),
    ("positions tracked", "adopted, or found as they were"),
    ("operations on locks and ledger",),
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


NO_PIPES = shutil.ignore_patterns(".presence")


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
    assert [texts for texts in HAPPENED if not sum(counted[text] for text in texts)] == []
    assert counted["of these, explained by an order"] == counted["positions they are on"] >= 12
    assert [command for command in commands() if directory in command] == []


OPENED_AGAIN = "(SELECT number FROM audit WHERE event = 'tracked' AND generation = 2 LIMIT 1)"
LEDGER, VENUE, VENUES = "locks/ledger.db", "venue-0.db", "venue-*.db"
OURS = "client_order_id LIKE 'pl%'"


@pytest.mark.parametrize(
    ("file", "broken", "named"),
    [
        (LEDGER, "UPDATE booking SET net_pnl = net_pnl || '1' WHERE rowid = 3", "booked net_pnl"),
        (LEDGER, "UPDATE booking SET gross_pnl = '0.1' WHERE rowid = 3", "booked gross_pnl"),
        (LEDGER, "UPDATE booking SET funding = '0.1' WHERE rowid = 3", "booked funding"),
        (LEDGER, "UPDATE booking SET exit_price = '1' || exit_price WHERE rowid = 3", "booked exit price"),
        (LEDGER, "UPDATE booking SET token = token + 1", "were told that they closed"),
        (LEDGER, "DELETE FROM booking WHERE rowid = 3", "0 bookings"),
        (LEDGER, "UPDATE fill SET fee = fee || '1' WHERE rowid = 3", "booked only"),
        (LEDGER, "DELETE FROM fill WHERE rowid = 3", "at the venue only"),
        (LEDGER, "UPDATE position SET state = 'closing' WHERE rowid = 3", "state closing"),
        (LEDGER, "UPDATE position SET contracts = contracts + 1 WHERE rowid = 3", "by the audit"),
        # A fill booked that belongs to a later position.
        (
            LEDGER,
            "UPDATE fill SET generation = 1 WHERE rowid = (SELECT min(rowid) FROM fill WHERE generation = 2)",
            "booked only",
        ),
        # More sold than was tracked.
        (
            LEDGER,
            "UPDATE audit SET detail = substr(detail, 1, instr(detail, ' ')) || '0.1 x' WHERE event = 'tracked'",
            "contracts beyond it",
        ),
        (LEDGER, "UPDATE audit SET token = 1 WHERE number = (SELECT max(number) FROM audit)", "came after"),
        (LEDGER, f"UPDATE audit SET number = -number, token = 0 WHERE number = {OPENED_AGAIN}", "no order explains"),
        (LEDGER, "DELETE FROM audit WHERE event = 'booked'", "was told that book is written, but it is not"),
        (
            LEDGER,
            "UPDATE audit SET token = token + 1 WHERE number = (SELECT max(number) FROM audit)",
            "and nobody began that",
        ),
        (LEDGER, "UPDATE attempt SET client_order_id = 'x' || client_order_id", "without a journal"),
        (VENUE, "UPDATE fills SET price = price + 1 WHERE reduced", "at the venue only"),
        (VENUES, f"UPDATE orders SET state = 'open' WHERE {OURS} AND family = 'order'", "left, order"),
        (VENUES, "UPDATE orders SET state = 'open' WHERE state = 'canceled' AND client_order_id IS NULL", "left flat"),
        (VENUE, "INSERT OR REPLACE INTO legs SELECT symbol, 'short', '987', '1' FROM market", "987 contracts held"),
        (VENUE, "UPDATE fills SET reduced = 0 WHERE reduced", "reversed?"),
    ],
)
def test_broken_books_are_found(run: tuple[str, str], tmp_path: Path, file: str, broken: str, named: str) -> None:
    """One thing changed in a copy of the files: exit 1, and the violation says what."""
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy, ignore=NO_PIPES)
    assert sum(written(path, broken) for path in copy.glob(file)) > 0
    assert_found(copy, named)


def test_an_order_of_ours_after_the_end_is_found(run: tuple[str, str], tmp_path: Path) -> None:
    """Somebody entered when a position had ended, and an order of ours took that: exit 1."""
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy, ignore=NO_PIPES)
    with closing(sqlite3.connect(copy / LEDGER)) as db, db:
        sql = "SELECT position_id, max(generation), account, symbol, side FROM position GROUP BY position_id"
        position_id, generation, account, symbol, side = db.execute(f"{sql} ORDER BY position_id LIMIT 1").fetchone()
        attempt = "INSERT INTO attempt VALUES (?, ?, 99, 'forged', '1', 0, NULL)"
        db.execute(attempt, (position_id, generation))
    enters, reduces = ("buy", "sell") if side == "long" else ("sell", "buy")
    venue = next(path for path in copy.glob(VENUES) if account in read(path, "SELECT name FROM account"))
    for client_id, way, reduced in (("NULL", enters, 0), ("'forged'", reduces, 1)):
        order = f"NULL, {client_id}, '{symbol}', '{way}', 'order', {reduced}, '1', '1', NULL, 'filled', {10**13}, NULL"
        written(venue, f"INSERT INTO orders VALUES ({order})")
        fill = f"NULL, (SELECT max(order_id) FROM orders), '{symbol}', '{way}', {reduced}, '1', '1', '0', 'x', {10**13}"
        written(venue, f"INSERT INTO fills VALUES ({fill})")
    assert_found(copy, "took 1.0 contracts beyond it")


def test_a_stop_of_others_that_was_cancelled_is_found(run: tuple[str, str], tmp_path: Path) -> None:
    """It protected what somebody has entered in a market in which nothing is tracked: exit 1."""
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy, ignore=NO_PIPES)
    venue = min(copy.glob(VENUES))
    entry = f"NULL, NULL, 'THEIRS', 'buy', 'order', 0, '1', '1', NULL, 'filled', {10**13 - 2}, NULL"
    written(venue, f"INSERT INTO orders VALUES ({entry})")
    fill = f"NULL, (SELECT max(order_id) FROM orders), 'THEIRS', 'buy', 0, '2', '1', '0', 'x', {10**13 - 2}"
    written(venue, f"INSERT INTO fills VALUES ({fill})")
    stop = f"NULL, NULL, 'THEIRS', 'sell', 'stop_loss', 1, '1', '0', '1', 'canceled', {10**13 - 1}, NULL"
    written(venue, f"INSERT INTO orders VALUES ({stop})")
    (order_id,) = read(venue, "SELECT max(order_id) FROM orders")
    (account,) = read(venue, "SELECT name FROM account")
    with (copy / BOT).open("a") as diary:
        diary.write(f"cancel\t{account}\t{order_id}\t{10**13}\t{10**13}\n")
    assert_found(copy, f"order {order_id} on ")


def assert_found(directory: Path, named: str) -> None:
    done = soak("--check", str(directory))
    assert done.returncode == 1
    assert any(line.startswith("VIOLATION") and named in line for line in done.stdout.splitlines()), done.stdout


def written(path: Path, sql: str) -> int:
    """How many rows it has changed."""
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(sql).rowcount


def read(path: Path, sql: str) -> list[Any]:
    """The first column."""
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute(sql)]


def test_the_files_of_a_run_can_be_judged_again(run: tuple[str, str]) -> None:
    """With the same figures."""
    done = soak("--check", run[0])
    assert done.returncode == 0
    assert figures(done.stdout) == figures(run[1])


BOT = "bot-1.diary"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("answered\t0\t1\talready closed\tp000\t0", "no order explains [bot-1 already closed"),
        ("answered\t0\t1\tclosed\tp000\t7", "no order explains [bot-1 closed with token 7"),
        (
            "invoked\t9999\t1\tbook\tp000\tbook\t7\t1\tbooked\t\nreturned\t9999\t2\trefused\t",
            "no higher token was accepted",
        ),
        ("invoked\t9999\t1\tacquire\tp000\texclusive\t1\nreturned\t9999\t2\trefused\t", "nobody else was there"),
        ("invoked\t9999\t1\tbook\tp000\tbook\t7\t1\tbooked\t\nreturned\t9999\t2\tdone\t", "told that book is written"),
    ],
)
def test_an_operation_that_cannot_have_been_is_found(
    run: tuple[str, str], tmp_path: Path, line: str, named: str
) -> None:
    """One more in the diary of a bot, long before all others: exit 1, and the violation names it."""
    done = soak("--check", str(told_more(run[0], tmp_path, f"{line}\n")))
    assert done.returncode == 1
    assert any(each.startswith("VIOLATION") and named in each for each in done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize("torn", ["answered\t0\t1\talready closed\tp000\t0", "invoked\t99", "viola", "returned\t1"])
def test_a_torn_last_line_is_left_out(run: tuple[str, str], tmp_path: Path, torn: str) -> None:
    """Its process was killed while it wrote it: it says nothing."""
    done = soak("--check", str(told_more(run[0], tmp_path, torn)))
    assert done.returncode == 0, done.stdout
    assert figures(done.stdout) == figures(run[1])


def told_more(directory: str, folder: Path, text: str) -> Path:
    """A copy of the files of a run in which a bot's diary goes on."""
    copy = folder / "copy"
    shutil.copytree(directory, copy, ignore=NO_PIPES)
    with (copy / BOT).open("a") as diary:
        diary.write(text)
    return copy


def test_a_track_without_an_answer_is_known_by_its_process(tmp_path: Path) -> None:
    """Two were killed in a track of the same position, and the audit says which one wrote it."""
    for name, pid in (("bot-1", 11), ("bot-2", 12)):
        Diary(str(tmp_path), name).invoke("track", "p0", "track", 0, 0, "tracked", pid)
    row = {"number": 3, "position_id": "p0", "generation": 1, "token": 0, "event": "tracked", "detail": "", "pid": 12}
    operations, contradictions = operations_of(str(tmp_path), [row])
    assert contradictions == []
    assert [(each.process, each.kind, each.outcome, each.place) for each in operations] == [
        ("bot-2", "track", "done", 1)
    ]


def test_a_write_that_may_leave_no_line_has_a_place_only_if_it_did(tmp_path: Path) -> None:
    """The reason is in the audit if it was another one than before; the token counts all the same."""
    diary = Diary(str(tmp_path), "bot-1")
    for why in ("", "no trades", "no trades"):
        number = diary.invoke("write", "p0", "unsettled", 7, 1, "unsettled", why)
        diary.returned(number, "done")
    row = {"number": 3, "position_id": "p0", "generation": 1, "token": 7, "event": "unsettled", "detail": "no trades"}
    operations, contradictions = operations_of(str(tmp_path), [row])
    assert contradictions == []
    kinds = [(each.kind, each.place) for each in sorted(operations, key=lambda each: each.invoked_ns)]
    assert kinds == [("touch", None), ("write", 1), ("touch", None)]


def test_changes_that_end_together_are_one_write_with_a_line_each(tmp_path: Path) -> None:
    """A stop-loss that the venue refuses takes the other changes of its call along."""
    steps: list[Any] = ["refused", "dropped", "dropped"]
    changes = [Change(n, "stop_loss", Decimal(1), None, None, step) for n, step in enumerate(steps)]
    diary = Diary(str(tmp_path), "bot-1")
    made = _lines("end_change", (CloseKey("p0", 1), 7, *changes), began=False)
    diary.returned(diary.invoke("write", "p0", "end_change", 7, 1, *made), "done")
    line = {"position_id": "p0", "generation": 1, "token": 7, "detail": ""}
    audit = [{**line, "number": number, "event": event} for number, event in enumerate(steps, start=3)]
    operations, contradictions = operations_of(str(tmp_path), audit)
    assert (contradictions, len(operations)) == ([], 1)


def test_a_killed_process_leaves_what_it_began(tmp_path: Path) -> None:
    """An acquire and a write without their returns: over when it was dead, and decided by the audit where it is."""
    diary, supervisor = Diary(str(tmp_path), "bot-1"), Diary(str(tmp_path), "supervisor")
    diary.returned(diary.invoke("acquire", "p0", "exclusive", 10**12), "done", 7)
    diary.invoke("begin", "p0", "begin", 7, 1, "intent", "")
    diary.invoke("write", "p0", "sending", 7, 1, "sending", "")
    diary.invoke("acquire", "p1", "shared", 10**12)
    supervisor.tell("killed", "bot-1", gone := time.monotonic_ns())
    audit = [{"number": 3, "position_id": "p0", "generation": 1, "token": 7, "event": "intent", "detail": ""}]
    operations, contradictions = operations_of(str(tmp_path), audit)
    assert contradictions == []
    found = {
        (each.position, each.kind): (each.outcome, each.token, each.place, each.returned_ns) for each in operations
    }
    held = found.pop(("p0", "acquire"))
    assert held[:3] == ("done", 7, None)
    assert found == {
        ("p0", "begin"): ("done", 7, 1, gone),
        ("p0", "release"): ("undecided", 7, None, None),
        ("p1", "acquire"): ("undecided", 0, None, gone),
    }
