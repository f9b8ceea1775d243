"""A process outside that is stopped inside a transaction of the ledger: who waits for it, and for how long."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from poslock import LedgerError, PaperExchange, database
from poslock.ledger.ledger import Ledger
from test_ledger import KEY, track, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOUND, SLACK = 2.0, 1.0
STOPPED = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(sys.argv[2])
db.execute("SELECT * FROM position").fetchall()
print(flush=True)
input()
"""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    made = Ledger(str(tmp_path / "ledger.db"))
    track(made)
    monkeypatch.setattr(database, "_BUSY_SECONDS", BOUND)
    return made


@contextmanager
def stopped_inside(ledger: Ledger, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Another process is inside a transaction, and ends in it."""
    command, pipe = [sys.executable, "-c", STOPPED, ledger.path, begin], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield
        finally:
            child.kill()


def timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="busy for 2 s: another process is stopped inside a write"):
        write(ledger, "begin", 5)


def waiting(ledger: Ledger, number: int) -> tuple[list[threading.Thread], list[float]]:
    """So many threads that wait to write, and how long each of them has waited when it was told."""
    waited: list[float] = []
    threads = [threading.Thread(target=lambda: waited.append(timed(lambda: refused(ledger)))) for _ in range(number)]
    for each in threads:
        each.start()
    time.sleep(0.2)
    return threads, waited


def joined(threads: list[threading.Thread]) -> None:
    for each in threads:
        each.join(30)
        assert not each.is_alive()


def forked(action: Callable[[], object]) -> int:
    """A child that does it, and ends with 0 if it could."""
    if (pid := os.fork()) == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_every_thread_has_its_answer_within_the_one_bound(ledger: Ledger) -> None:
    """Four wait at the same time, not one after the other."""
    with stopped_inside(ledger):
        threads, waited = waiting(ledger, 4)
        joined(threads)
    assert len(waited) == 4
    assert all(BOUND <= each < BOUND + SLACK for each in waited), waited


def test_nothing_else_waits_for_a_stopped_writer(ledger: Ledger, tmp_path: Path) -> None:
    """Reads, also through a new connection, and an exchange in another file, while four threads wait to write."""
    exchange = PaperExchange(tmp_path / "exchange.db")
    with stopped_inside(ledger):
        threads, waited = waiting(ledger, 4)
        assert timed(lambda: ledger.find("btc-1")) < SLACK
        assert timed(lambda: Ledger(ledger.path).find("btc-1")) < SLACK
        assert timed(lambda: exchange.set_price("BTC/USDT", 1)) < SLACK
        assert not waited
        joined(threads)


def test_a_fork_does_not_wait_for_a_thread_that_waits_for_a_stopped_writer(ledger: Ledger) -> None:
    """And the child can write as soon as that one is gone: it has inherited no turn and no lock."""
    read, told = os.pipe()

    def write_when_told() -> None:
        os.read(read, 1)
        write(ledger, "begin", 1)

    with stopped_inside(ledger):
        threads, _ = waiting(ledger, 2)
        children: list[int] = []
        assert timed(lambda: children.append(forked(write_when_told))) < SLACK
        joined(threads)
    os.write(told, b"x")
    assert ended(children[0]) == 0
    os.close(read)
    os.close(told)


def test_a_writer_waits_for_a_stopped_reader_no_longer(ledger: Ledger) -> None:
    """A commit needs the readers out: the same bound, nothing is written, and later the same write goes through."""
    with stopped_inside(ledger, "BEGIN"):
        assert BOUND <= timed(lambda: refused(ledger)) < BOUND + SLACK
    assert ledger.unfinished("account") == []
    write(ledger, "begin", 5)


def test_threads_that_write_at_once_all_come_to_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its turn, none out of patience, forks in between or not; each child can write too."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 30.0)

    def many() -> None:
        for _ in range(10):
            ledger.note(KEY, 1, "note", "")

    threads = [threading.Thread(target=many) for _ in range(6)]
    for each in threads:
        each.start()
    children = [forked(lambda: ledger.note(KEY, 1, "note", "")) for _ in range(6)]
    joined(threads)
    assert [ended(each) for each in children] == [0] * 6
    assert len([each for each in ledger.history() if each.event == "note"]) == 66


def test_a_signal_while_a_write_waits_is_told_so_at_once(ledger: Ledger) -> None:
    """Its handler must not wait for the turn of its own thread."""
    said: list[float] = []

    def again() -> None:
        with pytest.raises(LedgerError, match="signal handler"):
            write(ledger, "begin", 1)

    previous = signal.signal(signal.SIGUSR1, lambda *_: said.append(timed(again)))
    try:
        with stopped_inside(ledger):
            timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGUSR1,))
            timer.start()
            refused(ledger)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(said) == 1
    assert said[0] < SLACK
    write(ledger, "begin", 1)


def test_a_killed_writer_is_undone_by_the_next(ledger: Ledger) -> None:
    """Its journal is hot; who comes next undoes what it wrote."""
    with stopped_inside(ledger):
        pass
    write(ledger, "begin", 1)
    with closing(sqlite3.connect(ledger.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
