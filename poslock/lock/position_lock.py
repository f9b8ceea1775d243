"""`PositionLock`: holding the lock on one position.

Purpose: of all processes, threads and tasks on this host, at most one at a time can pass the `check()` of an exclusive
lock, and none while anybody passes that of a shared one.

Not protected: code that acts without calling `check()`. The lease is not renewed behind your back, because a hung
call must lose its lock; long work calls `renew()` as it progresses, or asks for `keep_alive`.

Calling order: acquire, (check | renew)*, release; or ``with``, or ``async with``. A hold ends by release, by death, by
silence for `stale_after` seconds, or by the operator's ``poslock clear``; after the last three `check()` raises
`LockLost`.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import ReferenceType, ref

from poslock.errors import LockAlreadyHeld, LockError, LockFileError, LockLost, PoslockError, quoted
from poslock.lock.contender import Contender
from poslock.lock.files.directory import open_store
from poslock.lock.keep_alive import Keeper
from poslock.lock.log import LOG, tell
from poslock.lock.record import Grant
from poslock.lock.transitions import (
    Denied,
    Request,
    Transitions,
    checked_keep_alive,
    checked_lease_ns,
    checked_purpose,
    checked_timeout,
)
from poslock.lock.verdict import Sight
from poslock.lock.waiting import wait_in_task, wait_in_thread

if TYPE_CHECKING:
    import os
    from collections.abc import Generator
    from types import EllipsisType, FrameType, TracebackType

    from poslock.errors import Holder
    from poslock.lock.contender import Handover, Pause
    from poslock.lock.store import Store

_NOTHING = Sight(None)  # was seen yet


class PositionLock:
    """Lock on one position, for one host.

    One object stands for one hold: give every thread and task its own. Whatever a signal handler raises, and wherever:
    an acquire that raises holds nothing, and the object can be used again.

    Args:
        position_id: 1 to 128 characters without control characters.
        lock_dir: where the lock files live; ``$POSLOCK_DIR``, else the user's state directory.
        shared: hold it together with others who share it; a waiting exclusive one keeps new ones out.
        timeout: seconds `acquire` waits; 0 fails at once, None waits without limit.
        stale_after: the lease, in seconds: how long this holder may be silent before others may take over.
        keep_alive: renew the lease in the background for so many seconds in all; None for not at all.
        purpose: what for, up to 128 characters, shown to contenders; it decides nothing.

    Raises:
        InvalidPositionId: nothing is written then.
        ValueError: timeout, stale_after, keep_alive or purpose is out of range.
    """

    def __init__(  # noqa: PLR0913  # options with defaults
        self,
        position_id: str,
        *,
        lock_dir: str | os.PathLike[str] | Store | None = None,
        shared: bool = False,
        timeout: float | None = 30.0,
        stale_after: float = 30.0,
        keep_alive: float | None = None,
        purpose: str = "",
    ) -> None:
        self._store = open_store(lock_dir)
        self._transitions = Transitions(self._store, position_id)
        self._contender: Contender | None = None
        self._timeout = checked_timeout(timeout)
        self._request = Request(checked_lease_ns(stale_after), checked_purpose(purpose), 0, bool(shared))
        self._keep_alive = checked_keep_alive(keep_alive)
        self._grant: Grant | None = None
        self._is_lost = False
        self._keeper: Keeper | None = None
        self._owner: Owner | None = None
        self._began_ns = 0
        self._acquiring: dict[_Attempt, None] = {}

    def acquire(self, timeout: float | EllipsisType | None = ...) -> int:
        """Wait for the lock and take it, for *timeout* seconds if given, else for the object's own; the token.

        Raises:
            LockTimeout: somebody else has it; names the holder.
            LockAlreadyHeld: this object, or this thread or task with another one, has the position already.
            LockFileError: the lock directory or file cannot be used.
        """
        limit = self._timeout if timeout is ... else checked_timeout(timeout)
        before, attempt = self._grant, _Attempt(sys._getframe())  # noqa: SLF001  # as documented
        try:
            self._begin(attempt)
            outcome = self._attempt(limit)
            if not isinstance(outcome, Grant):
                outcome = wait_in_thread(outcome, self._store, self._reconsider)
            self._granted(outcome)
            self._end(attempt)
            return outcome.holder.token  # noqa: TRY300  # in an else nothing would be given back
        except BaseException:
            self._failed(attempt, before)
            raise

    async def acquire_async(self, timeout: float | EllipsisType | None = ...) -> int:  # noqa: ASYNC109  # as acquire
        """As `acquire`, without blocking the loop, which is one of asyncio. Cancelled, it leaves nothing held.

        The task that awaits it is the one that has the position. On Python 3.11 that is a task of its own in
        `asyncio.wait_for`: there, a second acquire of the same position by the task outside waits instead of raising
        `LockAlreadyHeld`. Give the time-out here instead.

        Raises:
            LockTimeout, LockAlreadyHeld, LockFileError: as `acquire`.
            RuntimeError: another library runs the task (trio); nothing was done.
        """
        _expect_asyncio()
        limit = self._timeout if timeout is ... else checked_timeout(timeout)
        before, attempt = self._grant, _Attempt(sys._getframe())  # noqa: SLF001  # as documented
        try:
            self._begin(attempt)
            outcome = self._attempt(limit)
            if not isinstance(outcome, Grant):
                outcome = await wait_in_task(outcome, self._store, self._reconsider_async)
            self._granted(outcome)
            self._end(attempt)
            return outcome.holder.token  # noqa: TRY300  # in an else nothing would be given back
        except BaseException:
            self._failed(attempt, before)
            raise

    def check(self) -> None:
        """Return if this lock is held at this moment; call it before every side effect.

        Raises:
            LockLost: it is not held; its lease ran out, somebody took it over, or this process closed the descriptor
                that proves that it lives.
            LockFileError: the file cannot be read, so nothing is certain; act as if it was lost.
        """
        try:
            self._transitions.check(self._held_grant())
        except LockLost as lost:
            self._tell_lost(lost)
            raise

    def renew(self) -> None:
        """Start the lease anew.

        Raises:
            LockLost: too late, or not held.
        """
        try:
            self._renew()
        except LockLost as lost:
            self._tell_lost(lost)
            raise

    def release(self) -> None:
        """Give the lock back.

        Raises:
            LockLost: it was not held, or somebody took it over: what was done under it may not have been exclusive.
            LockFileError: the file could not be written; the lock is held until it is, or until its lease runs out.
        """
        self._release(wake_all=False)

    def _release(self, *, wake_all: bool) -> None:
        """As `release`; *wake_all* who wait, each to reconsider, and not only the next ones."""
        grant = self._held_grant()
        try:
            self._stop_keeping()
            self._transitions.release(grant, wake_all=wake_all)
            self._forget()
            self._tell(logging.DEBUG, "released position %s", grant)
        except LockLost as lost:
            self._tell_lost(lost)
            self._forget()
            raise
        except LockError:  # it can be tried again
            raise
        except BaseException:
            self._hand_back(None)
            raise

    @property
    def position_id(self) -> str:
        """The position this lock is for."""
        return self._transitions.position_id

    @property
    def path(self) -> str:
        """The lock file."""
        return self._transitions.entry.path

    @property
    def held(self) -> bool:
        """Whether this object holds the lock as far as it knows without looking: only `check()` is certain."""
        return self.remaining > 0 and not self._is_lost

    @property
    def token(self) -> int | None:
        """The fencing token of this hold.

        A later hold of the position has a higher one; if the lock file was lost in between, as long as the wall clock
        did not go back. (`PositionGuard` takes its ledger's highest token as floor and needs no clock.)
        """
        return None if (grant := self._mine) is None else grant.holder.token

    @property
    def remaining(self) -> float:
        """Seconds until the lease runs out; 0 when it has, or when nothing is held."""
        if (grant := self._mine) is None:
            return 0.0
        return max(0, grant.ends_ns - self._store.own_ns()) / 1e9

    @property
    def recovered_from(self) -> Holder | None:
        """The dead or silent holder whom this hold replaced, if any."""
        return None if (grant := self._mine) is None else grant.recovered_from

    def __enter__(self) -> Self:
        before = self._grant
        try:
            self.acquire()
            return self  # noqa: TRY300  # as in acquire
        except PoslockError:
            raise
        except BaseException:
            self._hand_back(before)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave(error)
        except LockError:
            raise
        except BaseException:
            self._hand_back(None)
            raise

    def _leave(self, error: BaseException | None) -> None:
        if (grant := self._mine) is None:  # released inside the block
            return
        try:
            self.release()
        except LockError as failed:
            if error is None:
                raise
            # What went wrong inside the block says more than its consequence. A loss was logged when it was found.
            if not isinstance(failed, LockLost):
                self._tell(logging.WARNING, "position %s is not released: %s", grant, failed)

    async def __aenter__(self) -> Self:
        before = self._grant
        try:
            await self.acquire_async()
            return self  # noqa: TRY300  # as in acquire
        except PoslockError:
            raise
        except BaseException:
            self._hand_back(before)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        mode = "shared " if self._request.shared else ""
        return f"<{mode}PositionLock {quoted(self.position_id)} token={self.token} remaining={self.remaining:.1f}s>"

    def _token_floor(self) -> int:
        """The lowest token a grant may carry. Whoever keeps tokens elsewhere too overrides this."""
        return 0

    def _reconsider(self, holder: Holder | None) -> None:
        """Raise if a lock that is waited for is not wanted any more; *holder* has it now, None for nobody.

        Asked before the waiting begins and when the lock has changed hands. Whoever has other news overrides this.
        """

    async def _reconsider_async(self, holder: Holder | None) -> None:
        """As `_reconsider`, in a task."""

    def _begin(self, attempt: _Attempt) -> None:
        """Be the only one who acquires this object, or raise."""
        # Whoever is the first in here and goes on has it. (test_two_threads_do_not_share_one_object)
        self._acquiring[attempt] = None
        if len(self._acquiring) > 1:
            self._refuse_others(attempt)
        self._refuse_dead_lock(attempt.owner)
        attempt.has_begun = True
        self._owner = attempt.owner
        self._stop_keeping()  # of a hold whose lease has run out
        if self._transitions.written is not None:  # by one that was interrupted, and again while it gave that back
            self._hand_back(self._grant)

    def _refuse_others(self, attempt: _Attempt) -> None:
        for other in list(self._acquiring):
            if other is attempt:
                return
            if other.goes_on():
                raise LockAlreadyHeld(self.position_id, self.path, by="this object, which is being acquired")
            self._acquiring.pop(other, None)  # it was interrupted before it could say so

    def _refuse_dead_lock(self, owner: Owner) -> None:
        # Where its lease has run out, whoever acquired it may have been interrupted as it released it. Another one may
        # not, as long as the first one may still check it: while its thread lives, and its task has not ended.
        # (test_a_hold_that_ran_out_is_acquired_anew_by_its_owner_alone)
        before = self._owner
        if self._mine is not None and (self.held or (before is not None and before != owner and not before.has_ended)):
            raise LockAlreadyHeld(self.position_id, self.path)
        # Another object of the same thread or task would wait for a release that cannot come.
        other = self._store.holds.get((self.position_id, owner))
        if isinstance(other, PositionLock) and other is not self and other.held:
            raise LockAlreadyHeld(self.position_id, self.path, by="another object of this thread or task")

    def _failed(self, attempt: _Attempt, before: Grant | None) -> None:
        """Leave an acquire that raised, wherever that was."""
        if attempt.has_begun:
            self._hand_back(before)
        self._end(attempt)

    def _end(self, attempt: _Attempt) -> None:
        self._acquiring.pop(attempt, None)
        attempt.frame = None  # it has the attempt: neither would go before the next garbage collection

    def _hand_back(self, before: Grant | None) -> None:
        """Give back what was granted since *before*: who should hold it was interrupted, and does not know."""
        grant = self._grant if self._grant is not before else self._transitions.written
        if grant is not None and self._is_mine(grant):
            self._stop_keeping()
            with suppress(PoslockError):
                self._transitions.release(grant)
        self._transitions.written = None
        self._forget()
        self._grant = before

    def _attempt(self, limit: float | None) -> Grant | Generator[Pause | Handover, None, Grant]:
        """Try once. Mostly it is free, and a look at it first would be wasted. If it is not: how to wait for it."""
        self._began_ns = self._store.system.monotonic_ns()
        floor = self._token_floor()
        request = self._request if not floor else self._request._replace(token_floor=floor)
        denied: Denied | None = None
        if self._contender is None:
            self._store.prepare()
            outcome = self._transitions.acquire(request, _NOTHING, None)
            if isinstance(outcome, Grant):
                return outcome
            denied, self._contender = outcome, Contender(self._store, self._transitions)
        return self._contender.contend(request, limit, self._began_ns, denied)

    def _granted(self, grant: Grant) -> None:
        self._grant, self._is_lost, self._contender = grant, False, None
        self._transitions.written = None
        if self._owner is not None:
            self._store.holds[self.position_id, self._owner] = self
        self._tell_acquired(grant)
        if self._keep_alive is not None:
            self._keep(self._keep_alive)

    def _keep(self, seconds: float) -> None:
        try:
            lease = self._request.lease_ns / 1e9
            self._keeper = Keeper(self.position_id, self._renew, self._tell_lost, lease=lease, seconds=seconds)
            self._keeper.start()
        except RuntimeError as error:
            self.release()
            why = f"its lease cannot be kept alive: {error}"
            raise LockFileError(
                self.position_id, self.path, why, "look at the limit of threads ('ulimit -u')"
            ) from error

    def _renew(self) -> None:
        before = self._held_grant()
        after = self._transitions.renew(before)
        if self._grant is before:  # not released meanwhile, while the keeper renewed
            self._grant = after
        self._tell(logging.DEBUG, "renewed position %s", after)

    def _tell_acquired(self, grant: Grant) -> None:
        broken = grant.recovered_from
        if broken is None and not LOG.isEnabledFor(logging.DEBUG):  # mostly; the rest takes its time
            return
        holder, waited_s = grant.holder, (grant.holder.granted_ns - self._began_ns) / 1e9
        if broken is None:
            what = "acquired position %s with token %d after %.3f s"
            self._tell(logging.DEBUG, what, grant, holder.token, waited_s, waited_s=waited_s)
        else:
            what = "took over position %s from %s with token %d after %.3f s"
            self._tell(logging.WARNING, what, grant, broken, holder.token, waited_s, waited_s=waited_s)

    def _tell_lost(self, lost: LockLost) -> None:
        if self._is_lost or (grant := self._mine) is None:  # told already, or never held
            return
        self._is_lost = True
        if lost.holder is None:
            self._tell(logging.WARNING, "lost position %s: %s", grant, lost.why)
        else:
            self._tell(logging.WARNING, "lost position %s: %s by %s", grant, lost.why, lost.holder)

    def _tell(self, level: int, what: str, grant: Grant, *more: object, **fields: object) -> None:
        """Log *what* became of *grant*, if anybody listens; it has a place for the position, then for *more*."""
        if LOG.isEnabledFor(level):
            of = {"position": self.position_id, "token": grant.holder.token, "pid": grant.holder.pid, **fields}
            tell(level, what, quoted(self.position_id), *more, **of)

    def _forget(self) -> None:
        self._grant = None
        key = self.position_id, self._owner
        if self._store.holds.get(key) is self:  # nothing came after it
            self._store.holds.pop(key, None)

    def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None

    @property
    def _mine(self) -> Grant | None:
        grant = self._grant
        return grant if grant is not None and self._is_mine(grant) else None

    def _is_mine(self, grant: Grant) -> bool:
        # A forked child inherits the object but not the hold.
        return self._store.presence.is_own(grant.holder.presence)

    def _held_grant(self) -> Grant:
        if (grant := self._mine) is None:
            why = "it was not acquired by this object" if self._grant is None else "it belongs to the parent process"
            raise LockLost(self.position_id, self.path, why)
        return grant


class Owner(NamedTuple):
    """The thread and task that acquired something. Objects, not numbers: those are used again.

    Two are equal while they mean the same thread and the same task.
    """

    thread: threading.Thread
    task: ReferenceType[Any] | None

    @classmethod
    def current(cls) -> Owner:
        """Whoever calls."""
        current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
        task = None
        if current_task is not None:
            try:
                task = current_task()
            except RuntimeError:  # no loop runs in this thread
                task = None
        return cls(threading.current_thread(), None if task is None else ref(task))

    @property
    def has_ended(self) -> bool:
        """Whether it can do nothing any more."""
        task = None if self.task is None else self.task()
        return not self.thread.is_alive() or (self.task is not None and (task is None or task.done()))


class _Attempt:
    """An acquire under way: whose, and the frame that it runs in."""

    __slots__ = ("frame", "has_begun", "owner")

    def __init__(self, frame: FrameType) -> None:
        self.owner = Owner.current()
        self.frame: FrameType | None = frame
        self.has_begun = False

    def goes_on(self) -> bool:
        """Whether it has not come to its end, nor was interrupted where it could not say so."""
        thread, task = self.owner
        if task is not None and self.owner != Owner.current():
            return not ((found := task()) is None or found.done())
        frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # as documented
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None


def was_acquired_by(lock: PositionLock, owner: Owner) -> bool:
    """Whether *owner* acquired *lock*, or tried to, last."""
    return lock._owner == owner  # noqa: SLF001  # of this module


def _expect_asyncio() -> None:
    """Raise if the running task is none of asyncio: it could not be told when to go on."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # documented for libraries  # noqa: SLF001
        library = "trio" if "trio" in sys.modules else "this library"
        raise RuntimeError(
            f"acquire_async needs an event loop of asyncio; under {library} acquire in a thread, as with"
            " trio.to_thread.run_sync(lock.acquire), or use `with lock:` there"
        )
