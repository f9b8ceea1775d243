"""Faults at single system calls: a child of lock_actors.py under strace, struck at the n-th call of a name.

The tracer attaches when the child is about to begin, so starting Python costs nothing and cannot disturb the count.
Which calls there are is never written down here: an undisturbed run is traced first, and a struck run must agree with
it up to the blow.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lock_actors import MARK
from processes import PATIENCE, Child

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOCK_ACTORS = Path(__file__).with_name("lock_actors.py")

# Memory management is not the lock's, and comes when the allocator likes.
_TRACED = "trace=!%memory,futex"
_CALL = re.compile(r"(\d+) +(\w+)\(")


class LockChild(Child):
    """A process that runs one function of lock_actors.py, below the command *under* if there is one."""

    def __init__(self, actor: str, *, under: Sequence[str] = (), **settings: object) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, str(LOCK_ACTORS), actor, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.pid = self.process.pid
        self._buffer = b""

    def has_ended(self) -> bool:
        """Whether it has done what it was told, or was stopped or killed meanwhile."""
        if not self.is_silent(0):  # also if it is silent for good
            return True
        # Looked at only: whoever waits for its end or its stop must find it.
        with suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        return True

    def is_asleep(self) -> bool:
        """Whether it is in a system call that waits; stopped for a look of the tracer does not count."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].startswith("S")


class LockChildren:
    """Starts such children and ends them with the test."""

    def __init__(self) -> None:
        self._started: list[LockChild] = []

    def __call__(self, actor: str, *, under: Sequence[str] = (), **settings: object) -> LockChild:
        child = LockChild(actor, under=under, **settings)
        self._started.append(child)
        assert child.hear() == {"ready": True}
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._started:
            child.end()


def succeeds(*command: str | Path) -> bool:
    """Run a command of the system; whether it did what it was to do."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE).returncode == 0
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class Call:
    """One system call: the *nth* of its name since the tracer came, and what strace wrote of it."""

    name: str
    nth: int
    line: str

    @property
    def is_injected(self) -> bool:
        return self.line.endswith("(INJECTED)")

    def __str__(self) -> str:
        return re.sub(r'"(?:/[^"/]+)*/', '".../', self.line)[:100]


def missing() -> str:
    """Why nothing can be traced here; empty if it can."""
    if shutil.which("strace") is None:
        return "needs strace"
    return "" if succeeds("strace", "-o", "/dev/null", "true") else "needs strace, and ptrace is not permitted"


@contextmanager
def traced(child: LockChild, operation: str, log: Path, injection: str = "") -> Iterator[None]:
    """Let *child* begin *operation* under strace, which strikes as *injection* says; it stays until the block ends."""
    child.ask(f"traced {operation}")
    inject = ["-e", f"inject={injection}"] if injection else []
    command = ["strace", "-f", "-s", "64", "-o", str(log), "-e", _TRACED, *inject, "-p", str(child.pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        _wait_attached(strace)
        os.kill(child.pid, signal.SIGUSR1)
        yield
    finally:
        strace.terminate()  # it detaches, and writes the rest of its log
        strace.wait(PATIENCE)
        assert strace.stderr is not None
        strace.stderr.close()


def _wait_attached(strace: subprocess.Popen[bytes]) -> None:
    assert strace.stderr is not None
    deadline, said = time.monotonic() + PATIENCE, b""
    while b" attached" not in said:
        readable, _, _ = select.select([strace.stderr], [], [], max(0, deadline - time.monotonic()))
        chunk = os.read(strace.stderr.fileno(), 4096) if readable else b""
        assert chunk, f"strace did not attach: {said!r}"
        said += chunk


def calls(log: Path, child: LockChild) -> list[Call]:
    """What *child* called from the mark before its operation to the mark after it, both included.

    Only up to where it ended, if it did not come to the second mark.
    """
    counted: dict[str, int] = {}
    found: list[Call] = []
    for line in log.read_text().splitlines():
        match = _CALL.match(line)
        if match is None or int(match[1]) != child.pid:
            continue
        counted[match[2]] = counted.get(match[2], 0) + 1
        if found or f"{MARK}begin" in line:
            found.append(Call(match[2], counted[match[2]], line.partition(" ")[2].strip()))
        if f"{MARK}end" in line:
            break
    return found


def assert_struck(log: Path, child: LockChild, undisturbed: list[Call], number: int) -> list[Call]:
    """The calls of a struck run; it must have been the same as *undisturbed* up to the call with this *number*."""
    struck = calls(log, child)
    assert is_as_planned(struck, undisturbed, number), f"another run: {struck}"
    return struck


def is_as_planned(struck: list[Call], undisturbed: list[Call], number: int) -> bool:
    """Whether the calls of two runs are the same up to the one with this *number*."""
    return [(c.name, c.nth) for c in struck[: number + 1]] == [(c.name, c.nth) for c in undisturbed[: number + 1]]
