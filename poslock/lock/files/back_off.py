"""What the processes of this host have been asked to wait for: a small file beside the locks.

Purpose: a venue that turns one process away is left alone by all of them. The file has a line for each scope: until
when, by CLOCK_MONOTONIC of which boot. An entry of another boot, or one that reaches further than anybody may ask for,
counts as none, so no wall clock decides, and nobody waits for a time that does not come.

Not guaranteed: of two processes that write the same line at the same moment the later one wins, even if it asks for
less. That costs a request. A file that cannot be read or written costs one for each process, which then keeps to what
it was told itself. So nothing here stops a close: the file lets nobody in, it only has others wait.

Crash behaviour: a line is written at once, with a checksum; half a line counts as none.
"""

from __future__ import annotations

import logging
from binascii import crc32
from contextlib import suppress
from typing import TYPE_CHECKING

from poslock.lock.files.safety import PLANTED, file_fault
from poslock.lock.log import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.lock.files.directory import LockDirectory

_LINE = 128
_NO_BOOT = "-"


class BackOffFile:
    """The pauses of *name*, an account. The first of *scopes* is for all of them; *longest* is seconds.

    It is a `poslock.exchange.port.BackOff`.
    """

    def __init__(self, directory: LockDirectory, name: str, scopes: Sequence[str], longest: float) -> None:
        self.path = directory.back_off_path(name)
        self._directory = directory
        self._system = directory.system
        self._scopes = tuple(scopes)
        self._longest_ns = int(longest * 1e9)
        self._own: dict[str, int] = {}  # what this process was told itself, in case that the file cannot be used

    def left(self, scope: str) -> float:
        """For how many seconds nothing of *scope* should be asked; 0 if it may be asked now."""
        now_ns, told = self._system.monotonic_ns(), self._told()
        ends = [of.get(each, 0) for of in (told, self._own) for each in {scope, self._scopes[0]}]
        pauses = (end_ns - now_ns for end_ns in ends)
        return max((pause for pause in pauses if 0 < pause <= self._longest_ns), default=0) / 1e9

    def hold(self, scope: str, seconds: float) -> None:
        """Nothing of *scope* should be asked for so many seconds; one that was told to wait for longer goes on."""
        now_ns = self._system.monotonic_ns()
        before_ns = self._told().get(scope, 0)
        is_longer = 0 <= before_ns - now_ns <= self._longest_ns
        ends_ns = max(now_ns + min(int(seconds * 1e9), self._longest_ns), before_ns if is_longer else 0)
        self._own[scope] = ends_ns
        try:
            self._write(scope, ends_ns)
        except OSError as error:
            why = f"{self.path}: other processes do not learn that {scope} should wait: {error.strerror or error}"
            tell(logging.WARNING, "%s", why, pid=self._system.process_id())

    def _told(self) -> dict[str, int]:
        """When each pause ends, as the file says it for this boot."""
        try:
            descriptor = self._opened(write=False)
            try:
                data = self._system.read(descriptor, _LINE * len(self._scopes), 0)
            finally:
                self._system.close(descriptor)
        except OSError:
            return {}
        lines = (data[start : start + _LINE] for start in range(0, len(data), _LINE))
        found = (_ends_ns(line, scope, self._boot) for scope, line in zip(self._scopes, lines, strict=False))
        return {scope: ends_ns for scope, ends_ns in zip(self._scopes, found, strict=False) if ends_ns is not None}

    def _write(self, scope: str, ends_ns: int) -> None:
        descriptor = self._opened(write=True)
        try:
            if self._directory.group is not None:
                self._system.share(descriptor)
            line = _line(scope, ends_ns, self._boot)
            self._system.write(descriptor, line, _LINE * self._scopes.index(scope))
        finally:
            self._system.close(descriptor)

    def _opened(self, *, write: bool) -> int:
        system = self._system
        descriptor = system.open(self.path, create=write, write=write)
        try:
            fault = file_fault(system.status(descriptor), system.user_id(), self._directory.group)
        except BaseException:
            with suppress(OSError):
                system.close(descriptor)
            raise
        if fault is not None:
            system.close(descriptor)
            raise OSError(f"{fault}; {PLANTED}")
        return descriptor

    @property
    def _boot(self) -> str:
        return self._system.clock_name.replace(" ", "_") or _NO_BOOT


def _line(scope: str, ends_ns: int, boot: str) -> bytes:
    return _with_checksum(f"{scope} waits until {ends_ns} of boot {boot}".encode())


def _with_checksum(said: bytes) -> bytes:
    return (b"%b %08x" % (said, crc32(said))).ljust(_LINE - 1) + b"\n"


def _ends_ns(line: bytes, scope: str, boot: str) -> int | None:
    """When the pause of *scope* ends, None if *line* says nothing of that in this *boot*."""
    said, _, _ = line.rstrip().rpartition(b" ")
    words = said.decode("ascii", "replace").split(" ")
    if line != _with_checksum(said) or len(words) != 7 or not words[3].isdigit():  # noqa: PLR2004  # of `_line`
        return None
    return int(words[3]) if (words[0], words[6]) == (scope, boot) else None
