"""``poslock status --watch``: the live view, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from poslock import PositionLock
from poslock_cli.main import main
from processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLEAR_SCREEN = "\x1b[2J\x1b[1;1H"


class View:
    """A running ``poslock status --watch``, and what it has printed."""

    def __init__(self, lock_dir: str, *options: str, on_terminal: bool = False) -> None:
        self._descriptor, written = pty.openpty() if on_terminal else os.pipe()
        command = [sys.executable, "-m", "poslock_cli", "--lock-dir", lock_dir, "status", "--watch", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.PIPE)
        os.close(written)
        self.printed = ""

    def see(self, *texts: str) -> None:
        """Wait until it has printed these, one after the other."""
        deadline = time.monotonic() + PATIENCE
        while not self._in_order(texts):
            readable, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"not seen: {texts} in {self.printed!r}"
            chunk = os.read(self._descriptor, 65536)
            assert chunk, f"ended: {self.process.communicate(timeout=PATIENCE)}"
            self.printed += chunk.decode().replace("\r\n", "\n")

    def interrupt(self) -> tuple[int, bytes]:
        """Ctrl-C; its exit code and standard error."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        os.close(self._descriptor)

    def _in_order(self, texts: tuple[str, ...]) -> bool:
        place = 0
        for text in texts:
            if (found := self.printed.find(text, place)) < 0:
                return False
            place = found + len(text)
        return True


@pytest.fixture
def view(lock_dir: str) -> Iterator[Callable[..., View]]:
    """Starts views and ends them with the test."""
    started: list[View] = []

    def start(*options: str, on_terminal: bool = False) -> View:
        started.append(View(lock_dir, *options, on_terminal=on_terminal))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_the_view_follows_what_happens_until_ctrl_c(lock_dir: str, view: Callable[..., View]) -> None:
    """Plain blocks in a pipe, an empty line between them; exit 0 and nothing on standard error."""
    watched = view("--interval", "0.1")
    watched.see(f"no locks in {lock_dir}\n\n")
    with PositionLock("btc-1", lock_dir=lock_dir):
        watched.see("\n\nPOSITION", "btc-1     held", "\n\nPOSITION", "btc-1     held", "\n\n")
    watched.see("btc-1     free")
    assert "\x1b" not in watched.printed
    assert watched.interrupt() == (0, b"")


def test_json_is_one_list_per_line(lock_dir: str, view: Callable[..., View]) -> None:
    """Every refresh is a line that a program can read, with the fields of ``status --json``."""
    with PositionLock("btc-1", lock_dir=lock_dir):
        watched = view("--interval", "0.1", "--json", "btc-1")
        watched.see("\n", "\n", "\n")
        assert watched.interrupt() == (0, b"")
    rows = [json.loads(line) for line in watched.printed.splitlines()]
    assert len(rows) >= 3
    assert [(row["position"], row["state"]) for (row,) in rows] == [("btc-1", "held")] * len(rows)
    assert list(rows[0][0]) == ["position", "state", "mode", "token", "holders", "path"]


def test_a_terminal_is_redrawn_in_place(lock_dir: str, view: Callable[..., View]) -> None:
    """Every refresh begins with an empty screen; Ctrl-C ends it with exit 0."""
    with PositionLock("btc-1", lock_dir=lock_dir):
        watched = view("--interval", "0.1", on_terminal=True)
        watched.see(CLEAR_SCREEN, "btc-1     held", CLEAR_SCREEN, "btc-1     held")
    assert watched.printed.startswith(CLEAR_SCREEN)
    assert "\n\n" not in watched.printed
    assert watched.interrupt() == (0, b"")


@pytest.mark.parametrize("interval", ["0", "0.09", "-1", "nan", "inf", "soon"])
def test_an_interval_that_would_spin_or_never_end_is_refused(lock_dir: str, interval: str) -> None:
    """At least a tenth of a second, at most an hour."""
    assert (
        CliRunner().invoke(main, ["--lock-dir", lock_dir, "status", "--watch", "--interval", interval]).exit_code == 2
    )


def test_a_reader_that_has_seen_enough_ends_the_view(lock_dir: str) -> None:
    """``| head -1``: no traceback."""
    command = '"$0" -m poslock_cli --lock-dir "$1" status --watch --interval 0.1 | head -1'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, lock_dir],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"no locks in {lock_dir}\n", "")
