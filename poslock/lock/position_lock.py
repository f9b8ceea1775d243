"""`PositionLock`: holding the lock on one position.

Purpose: of all processes, threads and tasks on this host, at most one at a time can pass `check()`.

Not protected: code that acts without calling `check()`. The lease is not renewed behind your back, because a hung
call must lose its lock; long work calls `renew()` as it progresses.

Calling order: acquire, (check | renew)*, release; or ``with``. A hold ends by release, by death, by silence for
`stale_after` seconds, or by the operator's ``poslock clear``; after the last three `check()` raises `LockLost`.
"""

from __future__ import annotations

import logging
import math
from threading import Lock as ThreadLock
from types import EllipsisType
from typing import TYPE_CHECKING, Self, TypeGuard

from poslock.errors import LockAlreadyHeld, LockError, LockLost, LockTimeout
from poslock.lock.directory import open_directory
from poslock.lock.transitions import Denied, Grant, Request, Sight, Transitions, holder_of, judge
from poslock.text import quoted, shown

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from poslock.holder import Holder
    from poslock.lock.directory import LockDirectory
    from poslock.lock.record import Content

_log = logging.getLogger("poslock.lock")

_MAX_PURPOSE = 128
_MAX_LEASE = 86_400.0
_LONGEST_TIMEOUT = 366 * 86_400.0
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class PositionLock:
    """Exclusive lock on one position, for one host.

    Args:
        position_id: 1 to 128 characters without control characters.
        lock_dir: where the lock files live; ``$POSLOCK_DIR``, else the user's state directory.
        timeout: seconds `acquire` waits; 0 fails at once, None waits without limit.
        stale_after: the lease, in seconds: how long this holder may be silent before others may take over.
        purpose: what for, up to 128 characters, shown to whoever is kept waiting.

    Raises:
        InvalidPositionId: nothing is written then.
        ValueError: timeout, stale_after or purpose is out of range.
    """

    def __init__(
        self,
        position_id: str,
        *,
        lock_dir: str | os.PathLike[str] | LockDirectory | None = None,
        timeout: float | None = 30.0,
        stale_after: float = 30.0,
        purpose: str = "",
    ) -> None:
        self._directory = open_directory(lock_dir)
        self._transitions = Transitions(self._directory, position_id)
        self._timeout = checked_timeout(timeout)
        self._lease_ns = checked_lease_ns(stale_after)
        self._purpose = _checked_purpose(purpose)
        self._grant: Grant | None = None
        self._acquiring = ThreadLock()
        self._seen: tuple[Content, int] | None = None

    def acquire(self, timeout: float | EllipsisType | None = ...) -> int:
        """Wait for the lock and take it, for *timeout* seconds if given, else for the object's own; the token.

        Raises:
            LockTimeout: somebody else has it; names the holder.
            LockAlreadyHeld: this object was acquired before, or is being acquired in another thread.
            LockFileError: the lock directory or file cannot be used.
        """
        limit = self._timeout if isinstance(timeout, EllipsisType) else checked_timeout(timeout)
        if not self._acquiring.acquire(blocking=False):
            raise LockAlreadyHeld(self.position_id, self.path)
        try:
            # An old hold of this object whose lease has run out counts too: whoever forgot it may still check it.
            if self._mine is not None:
                raise LockAlreadyHeld(self.position_id, self.path)
            self._grant = grant = self._wait(limit)
        finally:
            self._acquiring.release()
        if (broken := grant.recovered_from) is not None:
            _log.warning("took over position %s from %s", quoted(self.position_id), broken, extra=self._fields(grant))
        return grant.token

    def check(self) -> None:
        """Return if this lock is held at this moment; call it before every side effect.

        Raises:
            LockLost: it is not held; its lease ran out, or somebody took it over.
            LockFileError: the file cannot be read, so nothing is certain; act as if it was lost.
        """
        self._transitions.check(self._held_grant())

    def renew(self) -> None:
        """Start the lease anew.

        Raises:
            LockLost: too late, or not held.
        """
        self._grant = self._transitions.renew(self._held_grant())

    def release(self) -> None:
        """Give the lock back.

        Raises:
            LockLost: it was not held, or somebody took it over: what was done under it may not have been exclusive.
            LockFileError: the file could not be written; the lock is held until it is, or until its lease runs out.
        """
        try:
            self._transitions.release(self._held_grant())
        except LockLost:
            self._grant = None
            raise
        self._grant = None  # after any other error it can be tried again

    @property
    def position_id(self) -> str:
        """The position this lock is for."""
        return self._transitions.position_id

    @property
    def path(self) -> str:
        """The lock file."""
        return self._transitions.file.path

    @property
    def held(self) -> bool:
        """Whether this object holds the lock as far as it knows without looking: only `check()` is certain."""
        return self.remaining > 0

    @property
    def token(self) -> int | None:
        """The fencing token of this hold.

        A later hold of the position has a higher one; if the lock file was lost in between, as long as the wall clock
        did not go back. (`PositionGuard` takes its ledger's highest token as floor and needs no clock.)
        """
        return None if (grant := self._mine) is None else grant.token

    @property
    def remaining(self) -> float:
        """Seconds until the lease runs out; 0 when it has, or when nothing is held."""
        if (grant := self._mine) is None:
            return 0.0
        return max(0, grant.ends_ns - self._directory.system.monotonic_ns()) / 1e9

    @property
    def recovered_from(self) -> Holder | None:
        """The dead or silent holder whom this hold replaced, if any."""
        return None if (grant := self._mine) is None else grant.recovered_from

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mine is None:  # released inside the block
            return
        try:
            self.release()
        except LockError as failed:
            if error is None:
                raise
            # What went wrong inside the block says more than its consequence.
            _log.warning("%s", failed)

    def __repr__(self) -> str:
        return f"<PositionLock {self.position_id!r} token={self.token} remaining={self.remaining:.1f}s {self.path}>"

    def _token_floor(self) -> int:
        """The lowest token a grant may carry. Whoever keeps tokens elsewhere too overrides this."""
        return 0

    def _wait(self, limit: float | None) -> Grant:
        system = self._directory.system
        request = Request(self._lease_ns, self._purpose, self._token_floor())
        began_ns = system.monotonic_ns()
        pause = _FIRST_PAUSE
        while True:
            # Looking costs no OS lock, so a crowd of waiters does not get into the holder's way.
            sight = self._look()
            judged = judge(self._directory, sight, patience_ns=self._lease_ns)
            outcome: Grant | Denied = Denied(judged.why, holder_of(sight.content))
            if judged.state != "held":
                self._directory.prepare()
                outcome = self._transitions.acquire(request, sight)
            if isinstance(outcome, Grant):
                return outcome
            waited = (system.monotonic_ns() - began_ns) / 1e9
            if limit is not None and waited >= limit:
                raise LockTimeout(self.position_id, self.path, outcome.holder, waited=waited, why=outcome.why)
            system.sleep(pause if limit is None else min(pause, limit - waited))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _look(self) -> Sight:
        # What was seen is kept from one acquire to the next: an unreadable record must be seen for a whole lease,
        # which is no shorter than the default timeout.
        content, now_ns = self._transitions.file.peek(), self._directory.system.monotonic_ns()
        if self._seen is None or self._seen[0] != content:
            self._seen = (content, now_ns)
        return Sight(content, now_ns - self._seen[1])

    @property
    def _mine(self) -> Grant | None:
        # A forked child inherits the object but not the hold.
        grant = self._grant
        return grant if grant is not None and grant.holder.pid == self._directory.system.process_id() else None

    def _held_grant(self) -> Grant:
        if (grant := self._mine) is None:
            why = "it was not acquired by this object" if self._grant is None else "it belongs to the parent process"
            raise LockLost(self.position_id, self.path, why)
        return grant

    def _fields(self, grant: Grant) -> dict[str, object]:
        return {"position": self.position_id, "token": grant.token, "pid": grant.holder.pid}


def checked_timeout(timeout: object) -> float | None:
    """*timeout* if it is None or a number of seconds from 0 to a year, else ValueError."""
    if timeout is None:
        return None
    if not _is_number(timeout) or not 0 <= timeout <= _LONGEST_TIMEOUT:
        raise ValueError(f"timeout must be None or 0 to {_LONGEST_TIMEOUT:g} seconds, not {shown(timeout)}")
    return float(timeout)


def checked_lease_ns(stale_after: object) -> int:
    """*stale_after* in nanoseconds if it is a number of seconds above 0 and at most a day, else ValueError."""
    if not _is_number(stale_after) or not 0 < stale_after <= _MAX_LEASE:
        raise ValueError(f"stale_after must be above 0 and at most {_MAX_LEASE:g} seconds, not {shown(stale_after)}")
    return math.ceil(stale_after * 1e9)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked_purpose(purpose: object) -> str:
    if not isinstance(purpose, str) or len(purpose) > _MAX_PURPOSE:
        raise ValueError(f"purpose must be text of at most {_MAX_PURPOSE} characters, not {shown(purpose)}")
    return purpose
