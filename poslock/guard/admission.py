"""From a position's id to its held lock and the position as it is then, or the right error.

Who waits for whom is decided by what a holder's record says it holds the lock for, and by the ledger; its purpose is
text for people. "Closing" and "closed" are said only if a closing holder, or the ledger, says so.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from poslock.bridge import finished
from poslock.closing.session import Means, Session
from poslock.errors import LockError, LockTimeout, PositionAlreadyClosingError, PositionNotFound
from poslock.ledger.journal import CloseKey
from poslock.lock.position_lock import PositionLock
from poslock.lock.record import check_position_id
from poslock.lock.transitions import MAX_PURPOSE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from poslock.errors import Holder, Intent
    from poslock.ledger.journal import Standing
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import TrackedPosition

_log = logging.getLogger("poslock.guard")

Reconsider: TypeAlias = "Callable[[Holder | None], Coroutine[None, None, None]]"
"""What raises if a lock is not wanted any more, told who holds it now."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A held lock, and the position as it is under it."""

    lock: GuardLock
    token: int
    standing: Standing
    means: Means

    @property
    def tracked(self) -> TrackedPosition:
        """The position."""
        return self.standing.position

    def session(self) -> Session:
        """For what is to be done about the position."""
        return Session(self.means, self.lock, self.standing, self.token)

    def release(self, *, is_over: bool = False) -> None:
        """Give the lock back if it is held; who waits learns it at once if the position *is_over* with."""
        release(self.lock, is_over=is_over)


class NoHold:
    """A `Hold` of nobody, for looks that write nothing."""

    def __init__(self, lease: float) -> None:
        self.remaining = lease

    def check(self) -> None:
        """There is nothing to lose."""

    def renew(self) -> None:
        """There is nothing to renew."""


class Admission:
    """Admits one caller at a time to a position, or many who only read."""

    def __init__(self, means: Means, directory: LockDirectory) -> None:
        self.means = means
        self.directory = directory

    async def position(self, position_id: str, generation: int | None = None) -> TrackedPosition:
        """What the ledger knows of a position on this account, the newest generation if none is named."""
        check_position_id(position_id)
        self.directory.prepare()
        ledger, account = self.means.ledger, self.means.exchange.account
        tracked = await self.means.ports.ledger(ledger.find, position_id, generation, account)
        if tracked is None:
            others = await self.means.ports.ledger(ledger.positions, None, position_id)
            accounts = [each.account for each in others if each.account != account]
            raise PositionNotFound(position_id, ledger.path, accounts)
        return tracked

    async def to_close(self, seen: TrackedPosition, reason: str) -> Admitted:
        """Wait for whoever closes as long as the time-out says; for any other holder, until its lease has run out.

        Raises:
            PositionAlreadyClosingError: the ledger says that it is closed, or a holder closes it for too long.
        """
        _expect_alive(seen)

        async def reconsider(_holder: Holder | None) -> None:
            # When a close is booked all who waited for it learn that at once: none has to hold the lock for it.
            # (test_who_waits_for_a_close_learns_that_it_is_booked_without_the_lock)
            _expect_alive(await self._now(seen))

        lock = await self._lock(seen, f"close: {reason}", "close", reconsider)
        timeout = self.means.timeout
        try:
            token = await self._acquire(seen, lock, timeout)
        except LockTimeout:
            left = 0.0 if timeout is None else self.means.lease + 1 - timeout
            if left <= 0:
                raise
            token = await self._acquire(seen, lock, left)
        return await self._admitted(seen, lock, token)

    async def to_change(self, seen: TrackedPosition, purpose: str) -> Admitted:
        """Wait for any holder but one that closes.

        Raises:
            PositionAlreadyClosingError: the ledger or a holder says that it is closing or closed.
        """
        expect_open(seen)

        async def reconsider(holder: Holder | None) -> None:
            if await self._closes(holder, seen):
                raise PositionAlreadyClosingError(seen.position.id, "closing", holder)
            expect_open(await self._now(seen))

        lock = await self._lock(seen, purpose, "change", reconsider)
        token = await self._acquire(seen, lock, self.means.timeout)
        admitted = await self._admitted(seen, lock, token)
        if admitted.tracked.state == "closing":  # its closer has died, or waits for the venue
            admitted.release()
            raise PositionAlreadyClosingError(seen.position.id, "closing")
        return admitted

    async def if_free(self, seen: TrackedPosition, purpose: str, intent: Intent) -> Admitted:
        """Without waiting: whoever is at it goes on.

        Raises:
            PositionAlreadyClosingError: it is closed, or a holder closes it.
            LockTimeout: somebody else has it.
        """
        _expect_alive(seen)
        lock = await self._lock(seen, purpose, intent)
        return await self._admitted(seen, lock, await self._acquire(seen, lock, 0))

    async def to_read(self, position_id: str) -> Admitted:
        """Share the lock, then look."""
        seen = await self.position(position_id)
        lock = GuardLock(seen.position.id, self.directory, self.means.lease, purpose="read", intent="read", shared=True)
        token = await self.means.ports.acquire(lock, self.means.timeout)
        try:
            # Anew: it may be another generation by now.
            now = await self.position(position_id)
            return Admitted(lock, token, await self.standing(now), self.means)
        except BaseException:
            release(lock)
            raise

    async def _admitted(self, seen: TrackedPosition, lock: GuardLock, token: int) -> Admitted:
        try:
            return Admitted(lock, token, await self._still(seen, lock, token), self.means)
        except BaseException:
            release(lock)
            raise

    async def _still(self, seen: TrackedPosition, lock: GuardLock, token: int) -> Standing:
        """The position as it is now that the lock is held."""
        # A and B both want to close; A does, and its bot opens the same id again before B gets the lock. B was asked to
        # close the position that it saw, not the new one. (test_a_reopened_position_is_left_alone)
        if (broken := lock.recovered_from) is not None:
            key, ledger = CloseKey(seen.position.id, seen.generation), self.means.ledger
            _expect_alive((await self.standing(seen)).position)
            # A write of the last owner that comes late is there when it is read after this, or refused from here on.
            # (test_a_late_growth_of_the_position_is_closed_too)
            await self.means.ports.ledger(ledger.note, key, token, "took over", f"from {broken}")
        standing = await self.standing(seen)
        _expect_alive(standing.position)
        return standing

    async def standing(self, seen: TrackedPosition) -> Standing:
        """All that the ledger has of it."""
        key = CloseKey(seen.position.id, seen.generation)
        return await self.means.ports.ledger(self.means.ledger.standing, key)

    async def _acquire(self, seen: TrackedPosition, lock: GuardLock, timeout: float | None) -> int:
        """As the lock does it, but a holder that closes the position is told from any other."""
        try:
            return await self.means.ports.acquire(lock, timeout)
        except LockTimeout as error:
            if not await self._closes(error.holder, seen):
                raise
            raise PositionAlreadyClosingError(lock.position_id, "closing", error.holder) from error

    async def _closes(self, holder: Holder | None, seen: TrackedPosition) -> bool:
        """Whether *holder* is at closing the position.

        Raises:
            PositionAlreadyClosingError: that cannot be told from the holder, and the ledger says so.
        """
        if holder is None or holder.intent != "close":
            return False
        # Positions of one id on two accounts share a lock: A holds it to close the one, B asks for the other. Only
        # the ledger says whether that is closing, too. (test_nobody_is_told_closing_of_another_accounts_position)
        ledger, account = self.means.ledger, self.means.exchange.account
        if not await self.means.ports.ledger(ledger.is_shared, seen.position.id, account):
            return True
        expect_open(await self._now(seen))
        return False

    async def _now(self, seen: TrackedPosition) -> TrackedPosition:
        """The same generation as the ledger knows it now."""
        return await self.position(seen.position.id, seen.generation)

    async def _lock(
        self, seen: TrackedPosition, purpose: str, intent: Intent, reconsider: Reconsider | None = None
    ) -> GuardLock:
        """A lock whose tokens are higher than any that the ledger has seen, even if the lock directory was wiped."""
        position_id, ledger = seen.position.id, self.means.ledger
        floor = await self.means.ports.ledger(ledger.highest_token, position_id) + 1
        return GuardLock(
            position_id,
            self.directory,
            self.means.lease,
            purpose=purpose,
            intent=intent,
            floor=floor,
            reconsider=reconsider,
        )


def expect_open(tracked: TrackedPosition) -> None:
    """Raise what says that a position is not open any more."""
    _expect_alive(tracked)
    if tracked.state == "closing":
        raise PositionAlreadyClosingError(tracked.position.id, "closing")


def _expect_alive(tracked: TrackedPosition) -> None:
    if tracked.state == "closed":
        raise PositionAlreadyClosingError(tracked.position.id, "closed")
    if tracked.state == "forgotten":
        raise PositionNotFound(tracked.position.id, "it was forgotten")


class GuardLock(PositionLock):
    """A guard's lock: its token is no lower than *floor*, and its record says what the guard holds it for.

    *reconsider* raises if the lock is not wanted any more; it is told who holds it.
    """

    def __init__(  # noqa: PLR0913  # options of a lock
        self,
        position_id: str,
        directory: LockDirectory,
        stale_after: float,
        *,
        purpose: str,
        intent: Intent,
        floor: int = 0,
        shared: bool = False,
        reconsider: Reconsider | None = None,
    ) -> None:
        super().__init__(
            position_id, lock_dir=directory, shared=shared, stale_after=stale_after, purpose=purpose[:MAX_PURPOSE]
        )
        self._request = self._request._replace(intent=intent)
        self._floor = floor
        self._news = reconsider

    def release_with_news(self, *, is_over: bool) -> None:
        """Release it; after a close, and if the position *is_over* with, all who wait learn that at once."""
        self._release(wake_all=is_over or self._request.intent == "close")

    def _token_floor(self) -> int:
        return self._floor

    def _reconsider(self, holder: Holder | None) -> None:
        if self._news is not None:
            finished(self._news(holder))

    async def _reconsider_async(self, holder: Holder | None) -> None:
        if self._news is not None:
            await self._news(holder)


def release(lock: GuardLock, *, is_over: bool = False) -> None:
    """Give *lock* back if it is held; the position *is_over* with, or it was held to close it."""
    if lock.token is None:
        return
    try:
        lock.release_with_news(is_over=is_over)
    except LockError as failed:
        # The outcome stands, error or not: everything before this went through the fence.
        _log.warning("%s", failed, extra={"position": lock.position_id, "pid": os.getpid()})
