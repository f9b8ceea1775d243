"""Keeping a lease alive in the background, for holders that cannot call `renew()`; bounded, for they may hang."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from poslock.errors import LockError, LockLost
from poslock.lock.log import tell

if TYPE_CHECKING:
    from collections.abc import Callable


class Keeper:
    """Calls *renew* every quarter of *lease* from a thread of its own, for *seconds* in all; *lost* once that fails."""

    def __init__(
        self,
        position_id: str,
        renew: Callable[[], None],
        lost: Callable[[LockLost], None],
        *,
        lease: float,
        seconds: float,
    ) -> None:
        self._position_id = position_id
        self._renew = renew
        self._lost = lost
        self._every = lease / 4
        self._left = seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"poslock keep-alive {self._position_id}", daemon=True).start()

    def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()

    def _run(self) -> None:
        while self._left > 0 and not self._stopped.wait(min(self._every, self._left)):
            self._left -= self._every
            try:
                self._renew()
            except LockLost as error:
                # Released while the renewal was under way: not lost. (test_a_release_during_a_renewal_is_no_loss)
                if not self._stopped.is_set():
                    self._lost(error)
                return
            except LockError as failed:  # no descriptor left, say: there is time for another try
                tell(logging.WARNING, "keep-alive goes on after: %s", failed, position=self._position_id)
