"""A small file that only this user, or root, can have written; what it is, is asked of the open file."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from errno import ELOOP

_LARGEST = 64 * 1024


class OwnFileError(Exception):
    """The file is not what it must be, or cannot be read. ``missing`` if it is not there."""

    def __init__(self, why: str, way_out: str = "", *, missing: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.way_out = way_out
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Rules:
    """What an own file must be: bits that its mode must not have, why, and what makes it so; whether links count."""

    forbidden: int
    why: str
    chmod: str
    links: bool


READ_BY_ALL = Rules(forbidden=0o022, why="others may write it", chmod="go-w", links=True)
READ_BY_US = Rules(forbidden=0o7177, why="it must be 0600 or stricter", chmod="600", links=False)


def read_own_file(path: str, rules: Rules) -> tuple[bytes, int]:
    """All of it, and its mode.

    Raises:
        OwnFileError: also for a file of more than 64 KiB.
    """
    follow = 0 if rules.links else os.O_NOFOLLOW
    try:
        # Without waiting: a FIFO that nobody writes to would keep us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | follow)
    except (FileNotFoundError, NotADirectoryError):
        raise OwnFileError("is not there", missing=True) from None
    except OSError as error:
        if error.errno == ELOOP and follow:
            raise OwnFileError("is a symbolic link", "name the file itself") from None
        raise OwnFileError(f"cannot be read: {error.strerror}") from None
    try:
        mode = _checked_mode(path, os.fstat(descriptor), rules)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(_LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST:
        raise OwnFileError(f"has more than {_LARGEST} bytes")
    return content, mode


def _checked_mode(path: str, status: os.stat_result, rules: Rules) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise OwnFileError("is no regular file")
    if status.st_uid not in {os.geteuid(), 0}:
        raise OwnFileError(f"belongs to user {status.st_uid}, you are user {os.geteuid()}", "make one of your own")
    mode = stat.S_IMODE(status.st_mode)
    if mode & rules.forbidden:
        raise OwnFileError(f"has mode {mode:04o}: {rules.why}", f"chmod {rules.chmod} {shlex.quote(path)}")
    return mode
