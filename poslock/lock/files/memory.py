"""What the next process need not ask a venue for: a small file beside the locks, for each account.

Purpose: a bot that has just started closes as fast as one that runs for long. The file is one JSON object, valid for
the clock that it names: a boot and a time namespace. It is a cache: what cannot be read counts as nothing, what cannot
be written is forgotten, and who writes at the same moment as another wins. Whoever reads it judges what it is worth.

Crash behaviour: it is replaced whole, so it is there as one process has written it, or not at all.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from poslock.lock.files.safety import file_fault

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory

_LONGEST = 1 << 16
_MOST = 256


class MemoryFile:
    """What is remembered of *account*. It is a `poslock.exchange.port.Memory`."""

    def __init__(self, directory: LockDirectory, account: str) -> None:
        self.path = directory.memory_path(account)
        self._directory = directory
        self._system = directory.system

    def recall(self) -> dict[str, Any]:
        """What was remembered last by a process that sees the same clock, by name; empty if nothing was."""
        try:
            said = json.loads(self._read())
        except (OSError, ValueError):
            return {}
        # Without its name nobody knows whether it is the same clock.
        clock = self._system.clock_name
        is_ours = isinstance(said, dict) and clock and said.get("clock_of") == clock
        known = said.get("known") if is_ours else None
        return known if isinstance(known, dict) else {}

    def remember(self, **known: Any) -> None:
        """Add what is *known*, which JSON can say; the oldest goes if there is too much. Without a word if it fails."""
        together = {**self.recall(), **known}
        newest = dict([*together.items()][-_MOST:])
        data = json.dumps({"clock_of": self._system.clock_name, "known": newest}).encode()
        if len(data) > _LONGEST:
            return
        with suppress(OSError):
            self._write(data)

    def _read(self) -> bytes:
        system = self._system
        descriptor = system.open(self.path, write=False)
        try:
            if file_fault(system.status(descriptor), system.user_id(), self._directory.group) is not None:
                return b""
            return system.read(descriptor, _LONGEST, 0)
        finally:
            system.close(descriptor)

    def _write(self, data: bytes) -> None:
        system, draft = self._system, f"{self.path}.{self._system.random_name()}"
        descriptor = system.create(draft)
        try:
            if self._directory.group is not None:
                system.share(descriptor)
            system.write(descriptor, data, 0)
            system.rename(draft, self.path)
        except BaseException:
            with suppress(OSError):
                system.unlink(draft)
            raise
        finally:
            system.close(descriptor)
