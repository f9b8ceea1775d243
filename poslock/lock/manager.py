"""`PositionLockManager`: the locks of many positions in one hand, for bots that run on asyncio."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from poslock.errors import LockLost, LockTimeout
from poslock.lock.files.directory import open_store
from poslock.lock.log import tell
from poslock.lock.position_lock import Owner, PositionLock, was_acquired_by
from poslock.lock.status import LockStatus, lock_status, lock_statuses
from poslock.lock.transitions import Transitions, checked_lease_ns, checked_timeout

if TYPE_CHECKING:
    import os
    from types import EllipsisType

    from poslock.lock.store import Store


class PositionLockManager:
    """Locks of one directory, one hold per position.

    Args:
        lock_dir, timeout, stale_after: as for `PositionLock`, for all its locks.
    """

    def __init__(
        self,
        lock_dir: str | os.PathLike[str] | Store | None = None,
        *,
        timeout: float | None = 30.0,
        stale_after: float = 30.0,
    ) -> None:
        self._store = open_store(lock_dir)
        self._timeout = checked_timeout(timeout)
        self._stale_after = checked_lease_ns(stale_after) / 1e9
        self._held: dict[str, list[PositionLock]] = {}

    async def acquire(self, position_id: str) -> bool:
        """Take the lock on a position; False, and a warning in the log, if it could not be had in time.

        Raises:
            LockAlreadyHeld: this task has it already.
            InvalidPositionId, LockFileError: as `PositionLock`.
        """
        lock = self.lock(position_id)
        try:
            await lock.acquire_async()
        except LockTimeout as error:
            pid = self._store.system.process_id()
            tell(logging.WARNING, "%s", error, position=position_id, pid=pid, waited_s=error.waited)
            return False
        self._held.setdefault(position_id, []).append(lock)
        return True

    def release(self, position_id: str) -> None:
        """Give back what `acquire` took.

        Raises:
            LockLost: it was not held, or was taken over meanwhile.
        """
        owner, locks = Owner.current(), self._held.get(position_id, [])
        # There are two if a lease ran out and another task took over: each gives back its own.
        lock = next((each for each in locks if was_acquired_by(each, owner)), locks[0] if len(locks) == 1 else None)
        if lock is None:
            path = self.lock(position_id).path
            raise LockLost(position_id, path, "it was not acquired by this manager, or by another task")
        try:
            lock.release()
        finally:
            if lock.token is None:  # else it can be tried again
                locks.remove(lock)

    def lock(
        self,
        position_id: str,
        *,
        shared: bool = False,
        timeout: float | EllipsisType | None = ...,
        keep_alive: float | None = None,
        purpose: str = "",
    ) -> PositionLock:
        """A lock on a position with this manager's directory and lease, and its time-out unless given."""
        return PositionLock(
            position_id,
            lock_dir=self._store,
            shared=shared,
            timeout=self._timeout if timeout is ... else timeout,
            stale_after=self._stale_after,
            keep_alive=keep_alive,
            purpose=purpose,
        )

    def status(self) -> list[LockStatus]:
        """Every lock in the directory."""
        return lock_statuses(self._store)

    def clear(self, position_id: str, *, force: bool = False) -> LockStatus:
        """Free a stale lock, or with *force* a live one; what it is afterwards.

        Raises:
            LockStillHeld: its holder may be alive, and *force* was not given.
        """
        Transitions(self._store, position_id).clear(force=force)
        return lock_status(self._store, position_id)
