"""Keeping a lease alive in the background, for holders that cannot call `renew()`; bounded, for they may hang."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from poslock.errors import LockError, LockLost

if TYPE_CHECKING:
    from poslock.lock.position_lock import PositionLock

_log = logging.getLogger("poslock.lock")


class Keeper:
    """Renews *lock* every quarter of its lease from a thread of its own, for *seconds* in all."""

    def __init__(self, lock: PositionLock, *, lease: float, seconds: float) -> None:
        self._lock = lock
        self._every = lease / 4
        self._left = seconds
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name=f"poslock keep-alive {lock.position_id}", daemon=True).start()

    def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()

    def _run(self) -> None:
        while self._left > 0 and not self._stopped.wait(min(self._every, self._left)):
            self._left -= self._every
            try:
                self._lock.renew()
            except LockLost as lost:
                if not self._stopped.is_set():
                    _log.warning("keep-alive ends: %s", lost, extra={"position": self._lock.position_id})
                return
            except LockError as failed:  # no descriptor left, say: there is time for another try
                _log.warning("keep-alive goes on after: %s", failed, extra={"position": self._lock.position_id})
