"""What the processes of this host know of an account's venue: a small file beside the locks.

Purpose: a venue that turns one process away is left alone by all of them, and what one has asked it for the next one
need not ask again. The file has a line for each scope: until when, by CLOCK_MONOTONIC of which boot and time namespace;
and one for each thing to be remembered: two numbers. An entry of another clock, or one that reaches further than
anybody may ask for, counts as none, so no wall clock decides, and nobody waits for a time that does not come.

Not guaranteed: of two processes that write the same line at the same moment the later one wins, even if it asks for
less. That costs a request. A file that cannot be read or written costs one for each process, which then keeps to what
it was told itself. So nothing here stops a close: the file lets nobody in, it only has others wait.

Crash behaviour: a line is written at once, with a checksum; half a line counts as none. What is remembered is for the
one who reads it to judge: a process that has asked the venue later may have been stopped before it wrote.
"""

from __future__ import annotations

import logging
from binascii import crc32
from contextlib import suppress
from typing import TYPE_CHECKING

from poslock.lock.file import PLANTED, file_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.lock.directory import LockDirectory

_log = logging.getLogger("poslock.lock")

_LINE = 128


class BackOffFile:
    """The pauses of *name*, an account. The first of *scopes* is for all of them; *longest* is seconds.

    It is a `poslock.exchange.port.BackOff` and, for the things named *remembered*, a `poslock.exchange.port.Memory`.
    """

    def __init__(
        self, directory: LockDirectory, name: str, scopes: Sequence[str], longest: float, remembered: Sequence[str] = ()
    ) -> None:
        self.path = directory.back_off_path(name)
        self._directory = directory
        self._system = directory.system
        self._scopes = tuple(scopes)
        self._lines = (*scopes, *remembered)
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
            self._write(scope, ends_ns, 0)
        except OSError as error:
            why = f"{self.path}: other processes do not learn that {scope} should wait: {error.strerror or error}"
            _log.warning(why, extra={"pid": self._system.process_id()})

    def remember(self, what: str, *numbers: int) -> None:
        """Keep two *numbers* for the next process; without a word if that is not possible."""
        first, second = numbers
        with suppress(OSError):
            self._write(what, first, second)

    def recall(self, what: str) -> tuple[int, int] | None:
        """What was remembered last by a process that had this clock; None if nothing was."""
        # Without its name nobody knows whether it is the same clock.
        return self._said().get(what) if self._system.boot_id() else None

    def _told(self) -> dict[str, int]:
        """When each pause ends, as the file says it for this clock."""
        return {scope: numbers[0] for scope, numbers in self._said().items() if scope in self._scopes}

    def _said(self) -> dict[str, tuple[int, int]]:
        try:
            descriptor = self._opened(write=False)
            try:
                data = self._system.read(descriptor, _LINE * len(self._lines), 0)
            finally:
                self._system.close(descriptor)
        except OSError:
            return {}
        lines = (data[start : start + _LINE] for start in range(0, len(data), _LINE))
        found = ((name, _numbers(line, name, self._clock)) for name, line in zip(self._lines, lines, strict=False))
        return {name: numbers for name, numbers in found if numbers is not None}

    def _write(self, name: str, first: int, second: int) -> None:
        descriptor = self._opened(write=True)
        try:
            if self._directory.group is not None:
                self._system.share(descriptor)
            line = _line(name, first, second, self._clock)
            self._system.write(descriptor, line, _LINE * self._lines.index(name))
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
    def _clock(self) -> str:
        """Names the clock that this process sees."""
        return f"{self._system.boot_id()}/{self._system.time_namespace()}"


def _line(name: str, first: int, second: int, clock: str) -> bytes:
    return _with_checksum(f"{name} {first} {second} {clock}".encode())


def _with_checksum(said: bytes) -> bytes:
    return (b"%b %08x" % (said, crc32(said))).ljust(_LINE - 1) + b"\n"


def _numbers(line: bytes, name: str, clock: str) -> tuple[int, int] | None:
    """What *line* says of *name*, None if it says nothing of that by this *clock*."""
    said, _, _ = line.rstrip().rpartition(b" ")
    words = said.decode("ascii", "replace").split(" ")
    if line != _with_checksum(said) or len(words) != 4 or not all(each.isdigit() for each in words[1:3]):  # noqa: PLR2004  # of `_line`
        return None
    return (int(words[1]), int(words[2])) if (words[0], words[3]) == (name, clock) else None
