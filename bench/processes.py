"""Processes that the bench starts: talked to over pipes, every wait bounded, killed at the end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent
_PATIENCE = 90.0


def environment(directory: str) -> dict[str, str]:
    """That of a child: byte code is kept in *directory*, so that nobody is charged for compiling, installed or not."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONDONTWRITEBYTECODE", "POSLOCK_DIR"}}
    return kept | {"PYTHONPYCACHEPREFIX": f"{directory}/bytecode"}


class Peer(AbstractContextManager["Peer"]):
    """A process that runs `bench.peer`."""

    def __init__(self, contestant: str, path: str, directory: str) -> None:
        command = [sys.executable, "-m", "bench.peer", contestant, path]
        self._process = subprocess.Popen(  # noqa: S603  # ourselves
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment(directory)
        )
        self._heard = b""

    def ready(self) -> Self:
        """Wait until it has started."""
        if self.hear() != "ready":
            raise RuntimeError("a peer did not start")
        return self

    def tell(self, command: str) -> None:
        """Give it something to do."""
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()

    def hear(self) -> Any:
        """The next thing it says."""
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        deadline = time.monotonic() + _PATIENCE
        while b"\n" not in self._heard:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 65536) if readable else b""
            if not chunk:
                raise RuntimeError(f"peer {self._process.args!r} said nothing")
            self._heard += chunk
        line, self._heard = self._heard.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command: str) -> Any:
        """Tell, and hear what it says to that."""
        self.tell(command)
        return self.hear()

    def kill(self) -> int:
        """SIGKILL; the time at which it was sent."""
        killed = time.monotonic_ns()
        self._process.kill()
        self._process.wait(_PATIENCE)
        return killed

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(_PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
