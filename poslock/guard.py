"""`PositionGuard`: the one way in which bots on this host close positions of one account.

Of all processes, threads and tasks that close a position at the same time, exactly one does it. The others wait until
it is done and are told so; if the closer dies or falls silent, one of them finishes what it began.

Not protected: bots that close positions without a guard, and several hosts on one account.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from poslock.closing.driver import Driver
from poslock.closing.machine import CloseMachine
from poslock.closing.steps import Patience
from poslock.errors import LockError, LockTimeout, PositionAlreadyClosingError, PositionNotFound, PoslockError
from poslock.ledger.ledger import Ledger
from poslock.lock.directory import open_directory
from poslock.lock.ids import check_position_id
from poslock.lock.options import checked_lease_ns, checked_timeout
from poslock.lock.position_lock import PositionLock
from poslock.text import printable, quoted, shown

if TYPE_CHECKING:
    from poslock.exchange.port import Exchange
    from poslock.lock.directory import LockDirectory
    from poslock.position import ClosedPosition, Position, TrackedPosition

_log = logging.getLogger("poslock.guard")

_MAX_REASON = 128


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` achieved for one unfinished close: ``closed``, or ``error`` says why not yet."""

    position_id: str
    closed: ClosedPosition | None
    error: PoslockError | None


class PositionGuard:
    """Guards the positions of one exchange account.

    Args:
        exchange: the account; `PaperExchange` or another implementation of `poslock.exchange.port.Exchange`.
        lock_dir: as for `PositionLock`.
        ledger: path of the ledger, the same for all bots; ``ledger.db`` in the lock directory by default.
        timeout: seconds to wait for whoever is closing. Longer than `stale_after`, so that a silent closer is
            replaced while we wait; 0 to be told "closing" at once; None to wait without limit.
        stale_after: the lease, in seconds.

    Raises:
        ValueError: timeout or stale_after is out of range.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        lock_dir: str | os.PathLike[str] | LockDirectory | None = None,
        ledger: str | os.PathLike[str] | Ledger | None = None,
        timeout: float | None = 35.0,
        stale_after: float = 30.0,
    ) -> None:
        self._exchange = exchange
        self._directory = open_directory(lock_dir)
        path = f"{self._directory.path}/ledger.db" if ledger is None else ledger
        self._ledger = path if isinstance(path, Ledger) else Ledger(str(Path(path).absolute()))
        self._timeout = checked_timeout(timeout)
        self._stale_after = checked_lease_ns(stale_after) / 1e9

    def track(self, position: Position) -> TrackedPosition:
        """Enter *position* into the ledger, right after opening it; the same position again changes nothing.

        An id that was closed before starts a new generation. P&L counts fills from this moment on.

        Raises:
            InvalidPositionId: nothing is written then.
            PositionConflict: the id, or this side of the market, belongs to a position that is open or closing.
        """
        check_position_id(position.id)
        self._directory.prepare()
        return self._ledger.track(position, self._exchange.account, self._exchange.time_ms())

    def position(self, position_id: str) -> TrackedPosition:
        """What the ledger knows of a position, without waiting for anybody.

        Raises:
            PositionNotFound: it is not tracked on this account.
        """
        check_position_id(position_id)
        self._directory.prepare()
        tracked = self._ledger.find(position_id)
        if tracked is None or tracked.account != self._exchange.account:
            raise PositionNotFound(position_id, self._ledger.path)
        return tracked

    def close_position(self, position_id: str, *, reason: str = "") -> ClosedPosition:
        """Close a position at market, book its P&L, and leave no order of it behind.

        Raises:
            PositionAlreadyClosingError: somebody else is closing it, or has closed it. There is nothing left to do.
            PositionNotFound: it is not tracked on this account; nothing was sent.
            CloseUnsettled: the venue did not settle it in time; `recover` or another call goes on with it.
            LockLost: this process was silent for longer than its lease, and somebody else may have taken over.
            LedgerError, LockFileError: a file cannot be used; `recover` goes on once it can.
            ValueError: *reason* is no text of at most 128 characters.
        """
        text: object = reason
        if not isinstance(text, str) or len(text) > _MAX_REASON:
            raise ValueError(f"reason must be text of at most {_MAX_REASON} characters, not {shown(reason)}")
        tracked = self.position(position_id)
        if tracked.state == "closed":
            raise PositionAlreadyClosingError(position_id, "closed")
        return self._close(tracked, printable(reason), self._timeout)

    def recover(self) -> list[Recovery]:
        """Finish every close on this account that was begun and not booked, where nobody is at it.

        Safe to run in every bot at its start and every minute, all at once. What another bot has meanwhile finished
        is left out; what could not be finished carries its error.
        """
        self._directory.prepare()
        recoveries = []
        for position_id in self._ledger.unfinished(self._exchange.account):
            try:
                tracked = self.position(position_id)
                if tracked.state == "closing":
                    recoveries.append(Recovery(position_id, self._close(tracked, "recovery", 0), None))
            except PositionAlreadyClosingError as error:
                if error.state == "closing":
                    recoveries.append(Recovery(position_id, None, error))
            except PoslockError as error:
                recoveries.append(Recovery(position_id, None, error))
        return recoveries

    def _close(self, seen: TrackedPosition, reason: str, timeout: float | None) -> ClosedPosition:
        position_id = seen.position.id
        lock = _FencedLock(self._ledger, position_id, self._directory, self._stale_after, f"close: {reason}")
        try:
            token = lock.acquire(timeout)
        except LockTimeout as error:
            raise PositionAlreadyClosingError(position_id, "closing", error.holder) from error
        try:
            # A and B both want to close; A does, and its bot opens the same id again before B gets the lock. B was
            # asked to close the position that it saw, not the new one. (test_a_reopened_position_is_left_alone)
            tracked = self.position(position_id)
            if tracked.generation != seen.generation or tracked.state == "closed":
                raise PositionAlreadyClosingError(position_id, "closed")
            patience = Patience(self._exchange.denies_for, self._exchange.settles_within)
            machine = CloseMachine(tracked, patience, token=token, reason=reason)
            driver = Driver(self._exchange, self._ledger, lock, lease=self._stale_after, sleep=time.sleep)
            closed = driver.run(machine.steps())
        finally:
            _release(lock)
        fields = {"position": position_id, "token": token, "pid": os.getpid()}
        _log.info("closed position %s, net P&L %s", quoted(position_id), closed.net_pnl, extra=fields)
        return closed


class _FencedLock(PositionLock):
    """A lock whose tokens are higher than any that the ledger has seen, even if the lock directory was wiped."""

    def __init__(
        self, ledger: Ledger, position_id: str, directory: LockDirectory, stale_after: float, purpose: str
    ) -> None:
        super().__init__(position_id, lock_dir=directory, stale_after=stale_after, purpose=purpose[:_MAX_REASON])
        self._ledger = ledger

    def _token_floor(self) -> int:
        return self._ledger.highest_token(self.position_id) + 1


def _release(lock: PositionLock) -> None:
    if lock.token is None:
        return
    try:
        lock.release()
    except LockError as failed:
        # The outcome stands, error or not: everything before this went through the fence.
        _log.warning("%s", failed, extra={"position": lock.position_id, "pid": os.getpid()})
