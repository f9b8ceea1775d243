"""The first thing that runs in the child of ``poslock run``: ties it to its parent, then becomes the command.

Run by path in isolated mode, not imported: between fork and exec no Python of the parent may run, and nothing in the
working directory may pass for a module. Arguments: the parent's PID, the signals to leave blocked (numbers with
commas), the program, and its argv from argv[0] on. Exit 127 or 126 if the program cannot be executed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def main() -> None:
    """Become the command."""
    parent, blocked, program, *command = sys.argv[1:]
    _die_with(int(parent))
    _restore_signals({int(number) for number in blocked.split(",") if number})
    try:
        os.execv(program, command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        sys.stderr.write(f"Error: {ascii(program)[1:-1]} cannot be executed: {error.strerror}\n")
        sys.exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; execve keeps that, except into set-user-ID programs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent died before the kernel was told: it would never say so. Whose child we are now tells.
    # (test_a_command_whose_wrapper_died_too_early_never_starts)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _restore_signals(blocked: set[int]) -> None:
    """As the command would find them without us; what was ignored (nohup, a job in a script) stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by every Python
        signal.signal(number, signal.SIG_DFL)
    # Last: whatever came meanwhile strikes now, as it would have struck the command.
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


if __name__ == "__main__":
    main()
