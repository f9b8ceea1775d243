"""Guards that write into the diary what they do to locks and ledger, before and after it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from poslock import LockTimeout, PositionGuard
from poslock.bridge import ThreadPorts
from poslock.errors import TokenRefused
from poslock.lock.directory import LockDirectory
from poslock.lock.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import Exchange
    from poslock.lock.owner import Owner
    from poslock.lock.position_lock import PositionLock
    from poslock.position import Position
    from soak.diary import Diary
    from soak.setting import Setting

T = TypeVar("T")

# What the checker calls them; one line of the audit each, but for changes.
_WRITES = {
    "begin": "begin",
    "sending": "write",
    "filled": "write",
    "book": "book",
    "change": "write",
    "sending_change": "write",
    "end_change": "write",
    "resize": "write",
    "took_over": "write",
}


class WatchedDirectory(LockDirectory):
    """The lock directory of a process, which tells when a hold is over. One for all guards: presence is a process's."""

    def __init__(self, path: str, diary: Diary) -> None:
        super().__init__(os.path.realpath(path), SYSTEM)
        self._diary = diary
        self._tokens: dict[tuple[Owner, str], int | None] = {}

    def add_hold(self, owner: Owner, lock: PositionLock) -> None:
        """Remember its token, which the lock has forgotten by the end."""
        super().add_hold(owner, lock)
        self._tokens[owner, lock.position_id] = lock.token

    def drop_hold(self, owner: Owner, lock: PositionLock) -> None:
        """Released, or found to be lost."""
        super().drop_hold(owner, lock)
        self._diary.answer("release", lock.position_id, 0, self._tokens.pop((owner, lock.position_id), None) or 0)


class WatchedGuard(PositionGuard):
    """A guard of one account whose acquires and writes are in the diary."""

    def __init__(
        self, exchange: Exchange, directory: WatchedDirectory, setting: Setting, diary: Diary, timeout: float
    ) -> None:
        super().__init__(exchange, lock_dir=directory, timeout=timeout, stale_after=setting.lease)
        self._guarding.ports = _WatchedPorts(diary)


class _WatchedPorts(ThreadPorts):
    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    async def ledger(self, method: Callable[..., T], *args: Any) -> T:
        name = getattr(method, "__name__", "")
        if name == "track":
            position: Position = args[0]
            number = self._diary.invoke("track", position.id, "track", 0, 0, 1)
        elif name in _WRITES:
            key, token = args[0], args[1]
            lines = len(args[2]) if name == "change" else 1
            number = self._diary.invoke(_WRITES[name], key.position_id, name, token, key.generation, lines)
        else:
            return await super().ledger(method, *args)
        try:
            answer = await super().ledger(method, *args)
        except TokenRefused:
            self._diary.returned(number, "refused")
            raise
        except BaseException:
            self._diary.returned(number, "undecided")
            raise
        self._diary.returned(number, "done", getattr(answer, "generation", ""))
        return answer

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:  # noqa: ASYNC109  # the lock's own
        request = lock._request  # noqa: SLF001  # shared or not, and for how long: nobody but the record is told
        mode = "shared" if request.shared else "exclusive"
        number = self._diary.invoke("acquire", lock.position_id, mode, request.lease_ns)
        try:
            token = await super().acquire(lock, timeout)
        except LockTimeout:
            self._diary.returned(number, "refused")
            raise
        except BaseException:
            self._diary.returned(number, "undecided")
            raise
        self._diary.returned(number, "done", token)
        return token
