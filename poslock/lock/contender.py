"""Contending for a lock, without I/O of its own: a generator that says how long to wait, and what to watch meanwhile.

One machine serves threads and tasks alike; `poslock.lock.waiting` drives it. A contender looks without the OS lock,
takes a place in the queue when it must wait, and tries again when what it sees admits it. Before it waits for a holder,
and before it tries after one, its caller may say that the lock is not wanted any more. It leaves its place whatever
ends the waiting: a grant, a time-out, an error, the caller's word, or its cancellation.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from poslock.errors import LockFileError, LockTimeout, PoslockError, quoted
from poslock.lock.log import LOG, tell
from poslock.lock.record import MAX_WAITING, Grant, Record, Waiting, ends_ns
from poslock.lock.transitions import Denied, Request, judge
from poslock.lock.verdict import GRACE_NS, Judged, Sight

if TYPE_CHECKING:
    from collections.abc import Generator

    from poslock.errors import Holder
    from poslock.lock.store import Store, Wake
    from poslock.lock.transitions import Transitions

_SHORTEST_PAUSE = 0.0001
_BUSY_PAUSE, _LONGEST_BUSY_PAUSE = 0.001, 0.008
_LONGEST_PAUSE = 1.0
_LONGEST_POLL = 0.05
_BUSY_PATIENCE = 0.25
_FRESH_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds at the most, less if *wake* is rung or the process behind one of these presences ends.

    Without a *wake* nobody tells when something changes.
    """

    seconds: float
    wake: Wake | None = None
    watched: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Handover:
    """The lock is in other hands than at the last look: *holder* has it now, None for nobody. Is it still wanted?"""

    holder: Holder | None


class Contender:
    """One who wants the lock of one position, and did not get it at once.

    Remembers what it saw from one `contend` to the next, until it is granted.
    """

    def __init__(self, store: Store, transitions: Transitions) -> None:
        self._store = store
        self._transitions = transitions
        self._system = store.system
        self._began_ns = 0
        self._seen: tuple[Sight, int] | None = None
        self._busy_since_ns: int | None = None
        self._perhaps: Grant | None = None
        self._wake: Wake | None = None
        self._poll = _BUSY_PAUSE

    def contend(
        self, request: Request, limit: float | None, began_ns: int, first: Denied | None = None
    ) -> Generator[Pause | Handover, None, Grant]:
        """Until the lock is granted; *limit* in seconds from *began_ns* on, None for no limit.

        *first* is what came of an attempt without a look before it, if there was one.

        Raises:
            LockTimeout: it was not granted in time.
        """
        place: Waiting | None = None
        known: tuple[str, int] | None = None
        told = False
        self._began_ns = began_ns
        outcome = self._try(request, self._look(request, None), None) if first is None else self._noted(first)
        try:
            while isinstance(outcome, Denied):
                left = self._left(outcome, limit)
                if outcome.busy or outcome.judged is None:
                    yield Pause(min(self._busy_pause(), left))
                elif place is not None:
                    if not told:
                        told = True
                        self._tell_waiting(outcome)
                    yield self._pause(outcome.judged, left)
                place = self._placed(place, request)
                self._wake = self._wake or self._store.wake(place)  # rung once the place is taken
                judged = self._look(request, place)
                if (hands := _hands(judged)) != known:
                    known = hands
                    yield Handover(judged.holder)
                    judged = self._fresh(judged, request)
                outcome = self._try(request, judged, place)
        finally:
            if not isinstance(outcome, Grant):
                # What was `written` all the same is given back by the caller: interrupted, it does not come up to here.
                # (test_interrupted_as_it_gets_what_it_waited_for_it_holds_nothing)
                self._perhaps = None
                if place is not None:
                    self._leave(place)
                if told:
                    self._tell("no longer waits for position %s")
            self._close_wake()
        return outcome

    def _left(self, denied: Denied, limit: float | None) -> float:
        """Seconds to wait at most before the next look; a look that found only a transition gets a moment more.

        Raises:
            LockTimeout: none are left.
        """
        waited = (self._system.monotonic_ns() - self._began_ns) / 1e9
        if limit is None:
            return _LONGEST_PAUSE
        if waited >= limit + (_BUSY_PATIENCE if denied.busy else 0):
            position_id, path = self._transitions.position_id, self._transitions.entry.path
            raise LockTimeout(position_id, path, denied.holder, waited=waited, why=denied.why)
        return max(_BUSY_PAUSE, limit - waited)

    def _placed(self, place: Waiting | None, request: Request) -> Waiting:
        """The same place, renewed when half of its lease is gone, or a new one."""
        # A place of a lost presence is one of the dead to peers: they pass it over, and ring others.
        # (test_who_waits_with_a_presence_that_is_lost_queues_with_the_next_one)
        if place is not None and self._store.presence.is_lost(place.presence):
            self._leave(place)
            place = None
        if place is None:
            place = self._transitions.place(request)
        now_ns = self._store.now_ns()
        return replace(place, renewed_ns=now_ns) if _is_old(place, now_ns) else place

    def _look(self, request: Request, place: Waiting | None) -> Judged:
        # What was seen is kept from one acquire to the next: an unreadable record must be seen for a whole lease,
        # which is no shorter than the default timeout.
        content, now_ns = self._transitions.entry.peek(), self._system.monotonic_ns()
        if self._seen is None or not self._seen[0].is_same(content):
            self._seen = (Sight(content), now_ns)
        return judge(self._store, Sight(content, now_ns - self._seen[1]), request, place)

    def _fresh(self, judged: Judged, request: Request) -> Judged:
        """The same if hardly any time has passed since, else another look."""
        age_ns = self._store.now_ns() - judged.moment.now_ns
        return judged if age_ns <= _FRESH_NS else self._look(request, judged.place)

    def _try(self, request: Request, judged: Judged, place: Waiting | None) -> Grant | Denied:
        if self._perhaps is not None:
            outcome = self._adopted(self._perhaps)
            self._unblock(outcome)
            return outcome
        # Looking costs no OS lock, so a crowd of waiters does not get into the holder's way.
        if not (judged.admits or judged.needs_breaking or _must_queue(judged, place)):
            return Denied(judged)
        return self._acquire(request, judged.sight, place)

    def _acquire(self, request: Request, sight: Sight, place: Waiting | None) -> Grant | Denied:
        self._store.prepare()
        return self._noted(self._transitions.acquire(request, sight, place))

    def _noted(self, outcome: Grant | Denied) -> Grant | Denied:
        """*outcome*; what it says of the file is kept for the next attempt."""
        if isinstance(outcome, Denied):
            self._perhaps = outcome.perhaps
        self._unblock(outcome)
        return outcome

    def _adopted(self, grant: Grant) -> Grant | Denied:
        """Our grant was written while the file was being replaced: it is ours if the copy has it."""
        adopted = self._transitions.adopts(grant)
        if adopted is not None:
            self._perhaps = None
        if adopted is False:
            self._transitions.written = None
        return grant if adopted else Denied(None, "the lock file is being replaced")

    def _unblock(self, outcome: Grant | Denied) -> None:
        if isinstance(outcome, Grant) or not outcome.busy:
            self._busy_since_ns = None
            return
        if self._busy_since_ns is None:
            self._busy_since_ns = self._system.monotonic_ns()
        with suppress(LockFileError):  # who cannot do that can still wait
            self._transitions.entry.unblock()

    def _pause(self, judged: Judged, left: float) -> Pause:
        """Until something may change, be it that nobody writes it down."""
        record, place, now_ns = judged.sight.content, judged.place, judged.moment.now_ns
        ends = [_LONGEST_PAUSE * 1e9]
        if isinstance(record, Record):
            if judged.is_near:
                ends += [ends_ns(holder) - now_ns for holder in judged.verdict.living]
            if record.state != "held":
                ends.append(record.freed_ns + GRACE_NS - now_ns)
        if place is not None:
            ends.append(place.renewed_ns + place.lease_ns // 2 - now_ns)
        seconds = min(max(_BUSY_PAUSE, min(ends) / 1e9), left)
        wake = self._wake if place in judged.waiting else None
        if wake is None:  # nobody rings for one who waits outside
            seconds = min(seconds, self._poll)
            self._poll = min(2 * self._poll, _LONGEST_POLL)
        return Pause(seconds, wake, judged.watched - {"" if place is None else place.presence})

    def _busy_pause(self) -> float:
        """About as long again as the file has been busy: a transition is mostly over when somebody notices it.

        Of many who found it busy at the same moment not all must come back at the same moment.
        """
        if self._busy_since_ns is None:
            return _BUSY_PAUSE
        busy_ns = self._system.monotonic_ns() - self._busy_since_ns
        pause = min(_LONGEST_BUSY_PAUSE, max(_SHORTEST_PAUSE, busy_ns / 1e9))
        return pause * (0.5 + self._system.random())

    def _tell_waiting(self, denied: Denied) -> None:
        if denied.holder is None:
            self._tell("waits for position %s: %s", denied.why)
        else:
            self._tell("waits for position %s: %s by %s", denied.why, denied.holder)

    def _tell(self, what: str, *more: object) -> None:
        """Log *what* this contender does, if anybody listens; it has a place for the position, then for *more*."""
        if LOG.isEnabledFor(logging.DEBUG):
            position_id, now_ns = self._transitions.position_id, self._system.monotonic_ns()
            waited_s = (now_ns - self._began_ns) / 1e9
            fields = {"position": position_id, "pid": self._system.process_id(), "waited_s": waited_s}
            tell(logging.DEBUG, what, quoted(position_id), *more, **fields)

    def _leave(self, place: Waiting) -> None:
        """Leave nothing behind, as far as that can be done at once; the rest runs out by itself."""
        with suppress(PoslockError):
            self._transitions.leave(place)
        self._close_wake()

    def _close_wake(self) -> None:
        if self._wake is not None:
            self._wake.close()
            self._wake = None


def _hands(judged: Judged) -> tuple[str, int] | None:
    """What changes when the lock is granted or released, and not when a lease is renewed or somebody queues."""
    record = judged.sight.content
    return (record.state, record.token) if isinstance(record, Record) else None


def _must_queue(judged: Judged, place: Waiting | None) -> bool:
    """Whether one who waits at *place* has to write that down: it is not in the queue, or its place gets old."""
    record = judged.sight.content
    if place is None or not isinstance(record, Record):
        return False
    if place in judged.waiting:
        return _is_old(judged.waiting[judged.waiting.index(place)], judged.moment.now_ns)
    return len(judged.waiting) < MAX_WAITING


def _is_old(place: Waiting, now_ns: int) -> bool:
    return now_ns - place.renewed_ns >= place.lease_ns // 2
