"""The proof: two real processes, one lock in the directory, one SIGKILL.

The first takes a lock of a random name, the second must see it alive and be refused; then the first is killed, and the
second must get the lock at once, though the lease has minutes to go. The lock file is removed: nobody else can know the
name.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from poslock.lock.status import lock_status
from poslock_cli.findings import Finding, ok, refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from poslock.lock.files.directory import LockDirectory

_PATIENCE = 30.0
_AT_ONCE = 5.0
_DO_NOT_USE = "do not use this directory: put it on a local disk"
_AGAIN = "run it again; if that does not help, look at permissions and at what the machine is busy with"


class ProverError(Exception):
    """A process of the proof ended, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the two processes met. ``takeover_seconds`` is None if the second one got nothing from the dead one."""

    first_got: bool
    second_got: bool
    seen_alive: bool | None
    seen_alive_when_dead: bool | None
    takeover_seconds: float | None


def prove(directory: LockDirectory) -> list[Finding]:
    """Make the proof in a directory that is there and can be written."""
    position = f"poslock-doctor-{secrets.token_hex(8)}"
    try:
        with _swept(directory, position):
            return judge(_play(directory.path, position))
    except (OSError, ValueError, subprocess.TimeoutExpired, ProverError) as error:
        return [refused("proof", f"it could not be made: {error}", _AGAIN)]


def judge(facts: Facts) -> list[Finding]:
    """Hold what happened against what is promised."""
    if not facts.first_got:
        return [refused("proof", "a new lock could not be had", _AGAIN)]
    seconds = facts.takeover_seconds
    return [
        refused("exclusion", "two processes had the same lock at the same time", _DO_NOT_USE)
        if facts.second_got
        else ok("exclusion", "while one process held a lock, another one was refused"),
        ok("presence", "a live process is seen alive, a killed one dead")
        if (facts.seen_alive, facts.seen_alive_when_dead) == (True, False)
        else refused("presence", "a process cannot see whether another one lives", _DO_NOT_USE),
        refused("takeover", "the lock of a killed process could not be had at once", _DO_NOT_USE)
        if seconds is None or seconds > _AT_ONCE
        else ok("takeover", f"the lock of a killed process was had after {seconds * 1000:.0f} ms"),
    ]


def _play(path: str, position: str) -> Facts:
    with ExitStack() as stack:
        first, second = (stack.enter_context(_Prover(path, position)) for _ in range(2))
        for prover in (first, second):
            prover.hear()
        took = first.take()
        met = second.take()
        if met["got"]:  # there is nothing left to take over
            return Facts(
                took["got"], second_got=True, seen_alive=met["alive"], seen_alive_when_dead=None, takeover_seconds=None
            )
        first.kill()
        killed = time.monotonic()
        inherited = second.take()
        seconds = time.monotonic() - killed if inherited["got"] else None
    return Facts(took["got"], met["got"], met["alive"], inherited["alive"], seconds)


@contextmanager
def _swept(directory: LockDirectory, position: str) -> Iterator[None]:
    """Afterwards the lock file is removed; the presence files are for the next processes.

    Removing a lock file in use would give two holders on two files; here both processes have ended, and no other one
    knows the name.
    """
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(lock_status(directory, position).path)


class _Prover:
    """A process of the proof. Killed at the end, whatever happens."""

    def __init__(self, path: str, position: str) -> None:
        # -P: a module in the working directory must not pass for ours.
        command = [sys.executable, "-P", "-m", "poslock_cli.prover", path, position]
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(_PATIENCE)

    def take(self) -> dict[str, Any]:
        """Let it try to take the lock."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"take\n")
            self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next thing that it says."""
        pipe = self._process.stdout
        if pipe is None or not select.select([pipe], [], [], _PATIENCE)[0]:
            raise ProverError(f"a process did not answer within {_PATIENCE:g} s")
        line = pipe.readline()  # written at once, so it is whole
        if not line:
            raise ProverError(f"a process ended with exit code {self._process.wait(_PATIENCE)}")
        said: dict[str, Any] = json.loads(line)
        if "failed" in said:
            raise ProverError(said["failed"])
        return said
