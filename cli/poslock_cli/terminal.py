"""The controlling terminal, lent to a command in a process group of its own only when the command wants it.

A command that never reads the terminal leaves it to our own group: Ctrl-C then reaches the script around us too, and
in ``poslock run ... | less`` the pager keeps its keys. One that does want it is stopped by the kernel, and that is
how we learn of it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def lend(group: int) -> bool:
    """Put *group* into the foreground if our own group is there; whether it was."""
    with suppress(OSError), _terminal() as descriptor:
        if os.tcgetpgrp(descriptor) == os.getpgrp():
            os.tcsetpgrp(descriptor, group)
            return True
    return False


def take_back(group: int) -> None:
    """Put our own group into the foreground if *group* is there. Needs SIGTTOU blocked: we are in the background."""
    with suppress(OSError), _terminal() as descriptor:
        if os.tcgetpgrp(descriptor) == group:
            os.tcsetpgrp(descriptor, os.getpgrp())


@contextmanager
def _terminal() -> Iterator[int]:
    """Its descriptor; OSError where there is none, as under cron."""
    descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
