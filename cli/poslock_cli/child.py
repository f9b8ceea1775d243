"""The command of ``poslock run``: a child process that leads a process group of its own.

A group of its own, because in a script everything shares one: stopping the command must not stop the script. What
the command starts belongs to its group, unless it leaves it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NOT_EXECUTABLE = 126
NOT_FOUND = 127
_BY_SIGNAL = 128
_TRAMPOLINE = str(Path(__file__).with_name("trampoline.py"))


def find_program(name: str) -> str | int:
    """Where a shell would find the program *name*, or the exit code with which a shell would say that it cannot."""
    if found := shutil.which(name):
        return found
    there = Path(name).exists() if os.sep in name else shutil.which(name, mode=os.F_OK)
    return NOT_EXECUTABLE if there else NOT_FOUND


class Child:
    """A running command; ``pid`` is its process group too.

    It gets our standard streams and whatever other descriptors we inherited, but none that we opened.
    *blocked* are the signals it is to find blocked. Call this from the main thread: on Linux the kernel kills the
    command when the thread that started it ends.
    """

    def __init__(
        self, program: str, command: Sequence[str], environment: Mapping[str, str], blocked: Iterable[int]
    ) -> None:
        mask = ",".join(str(int(number)) for number in blocked)
        arguments = [sys.executable, "-I", "-S", _TRAMPOLINE, str(os.getpid()), mask, program, *command]
        self.pid = os.posix_spawn(sys.executable, arguments, environment, setpgroup=0)
        self._exit_code: int | None = None
        self._stopped_by: int | None = None

    def exit_code(self) -> int | None:
        """Its exit code as a shell counts it, 128 + N if signal N killed it; None while it lives."""
        while self._exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if not pid:
                break
            if os.WIFSTOPPED(status):
                self._stopped_by = os.WSTOPSIG(status)
                continue
            code = os.waitstatus_to_exitcode(status)
            self._exit_code = code if code >= 0 else _BY_SIGNAL - code
        return self._exit_code

    def take_stop(self) -> int | None:
        """The signal that has stopped it since the last question, as far as `exit_code` has seen."""
        stopped_by, self._stopped_by = self._stopped_by, None
        return stopped_by

    def awaits(self, number: int) -> bool:
        """Whether it was sent a signal that it could not take yet, for it is stopped. Only Linux tells."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text("utf-8", "replace")
        except OSError:
            return False
        pending = re.search(r"^ShdPnd:\s*([0-9a-f]+)", status, re.MULTILINE)
        return pending is not None and bool(int(pending[1], 16) >> (number - 1) & 1)

    def send(self, number: int) -> None:
        """Send a signal to its process group."""
        with suppress(ProcessLookupError, PermissionError):  # gone, or a set-user-ID program
            os.killpg(self.pid, number)

    def group_lives(self) -> bool:
        """Whether anything is left of its process group. Until then no other process can get that number."""
        self.exit_code()  # a dead leader that nobody waited for counts as alive
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
