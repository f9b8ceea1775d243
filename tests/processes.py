"""Child processes under test: started, talked to over pipes, stopped and killed by id; every wait is bounded."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ACTORS = Path(__file__).with_name("actors.py")
PATIENCE = 60.0


class Child:
    """A process that runs one function of actors.py."""

    def __init__(self, actor: str, **settings: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ACTORS), actor, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self.process.pid
        self._buffer = b""

    def hear(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next thing it says."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"child {self.pid} said nothing for {seconds} s"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            assert chunk, f"child {self.pid} ended, exit code {self.process.wait(PATIENCE)}"
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        said: dict[str, Any] = json.loads(line)
        return said

    def is_silent(self, seconds: float) -> bool:
        """Whether it says nothing for so long."""
        assert self.process.stdout is not None
        return not self._buffer and not select.select([self.process.stdout], [], [], seconds)[0]

    def tell(self, word: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def ask(self, word: str) -> dict[str, Any]:
        self.tell(word)
        return self.hear()

    def stop(self) -> None:
        """SIGSTOP, and wait until it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        self.wait_stopped()

    def wait_stopped(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)
            if pid:
                assert os.WIFSTOPPED(status), f"child {self.pid} ended instead of stopping: {status}"
                return
            time.sleep(0.005)
        raise AssertionError(f"child {self.pid} did not stop")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def wait_killed(self) -> None:
        """It was to kill itself."""
        assert self.process.wait(PATIENCE) == -signal.SIGKILL

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
