"""Contending for a lock, without I/O of its own: a generator that says how long to wait, and what to watch meanwhile.

One machine serves threads and tasks alike; `poslock.lock.waking` drives it. A contender looks without the OS lock,
takes a place in the queue when it must wait, and tries again when what it sees admits it. It leaves its place whatever
ends the waiting: a grant, a time-out, an error, or the caller's cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from poslock.errors import LockTimeout, PoslockError
from poslock.lock.record import Content, Record, Waiting
from poslock.lock.replacing import BUSY_NS
from poslock.lock.sight import Judged, Sight
from poslock.lock.transitions import Denied, Grant, Request, Transitions
from poslock.lock.verdict import GRACE_NS

if TYPE_CHECKING:
    from collections.abc import Generator

    from poslock.lock.directory import LockDirectory

_BUSY_PAUSE = 0.001
_LONGEST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds at the most, less if something happens to one of these files."""

    seconds: float
    watched: frozenset[str]


class Contender:
    """One who wants the lock of one position. Remembers what it saw from one `contend` to the next."""

    def __init__(self, directory: LockDirectory, transitions: Transitions) -> None:
        self._directory = directory
        self._transitions = transitions
        self._system = directory.system
        self._seen: tuple[Sight, int] | None = None
        self._busy_since_ns: int | None = None

    def contend(self, request: Request, limit: float | None) -> Generator[Pause, None, Grant]:
        """Until the lock is granted; *limit* in seconds, None for no limit.

        Raises:
            LockTimeout: it was not granted in time.
        """
        began_ns = self._system.monotonic_ns()
        place: Waiting | None = None
        judged: Judged | None = None
        outcome: Grant | Denied | None = None
        try:
            while not isinstance(outcome, Grant):
                if outcome is None and self._seen is None:
                    outcome = self._acquire(request, Sight(None), None)  # mostly it is free, and a look would be wasted
                else:
                    judged = self._look(request, place)
                    outcome = self._try(request, judged, place)
                if isinstance(outcome, Denied):
                    waited = (self._system.monotonic_ns() - began_ns) / 1e9
                    if limit is not None and waited >= limit:
                        raise self._timeout(outcome, waited)
                    if judged is not None and place is not None:
                        pause = self._pause(judged, outcome)
                        yield Pause(pause if limit is None else min(pause, limit - waited), self._watched(judged))
                    place = place or self._transitions.place(shared=request.shared)
        finally:
            if place is not None and not isinstance(outcome, Grant):
                self._leave(place)
        self._seen = None
        return outcome

    def _look(self, request: Request, place: Waiting | None) -> Judged:
        # What was seen is kept from one acquire to the next: an unreadable record must be seen for a whole lease,
        # which is no shorter than the default timeout.
        content, now_ns = self._transitions.file.peek(), self._system.monotonic_ns()
        if self._seen is None or not self._seen[0].is_same(content):
            self._seen = (Sight(content), now_ns)
        return self._transitions.judge(Sight(content, now_ns - self._seen[1]), request, place)

    def _try(self, request: Request, judged: Judged, place: Waiting | None) -> Grant | Denied:
        # Looking costs no OS lock, so a crowd of waiters does not get into the holder's way.
        if not (judged.admits or judged.needs_breaking or _must_queue(judged.sight.content, place)):
            return Denied(judged.why, judged.sight.holder)
        return self._acquire(request, judged.sight, place)

    def _acquire(self, request: Request, sight: Sight, place: Waiting | None) -> Grant | Denied:
        self._directory.prepare()
        outcome = self._transitions.acquire(request, sight, place)
        if isinstance(outcome, Denied) and outcome.perhaps is not None:
            return self._adopted(outcome, outcome.perhaps)
        self._replace_if_busy(outcome)
        return outcome

    def _adopted(self, denied: Denied, grant: Grant) -> Grant | Denied:
        """Our grant was written while the file was being replaced: ours if the copy has it."""
        deadline_ns = self._system.monotonic_ns() + BUSY_NS
        while (adopted := self._transitions.adopts(grant)) is None and self._system.monotonic_ns() < deadline_ns:
            self._system.sleep(_BUSY_PAUSE)
        return grant if adopted else denied

    def _replace_if_busy(self, outcome: Grant | Denied) -> None:
        if isinstance(outcome, Grant) or not outcome.busy:
            self._busy_since_ns = None
            return
        now_ns = self._system.monotonic_ns()
        if self._busy_since_ns is None:
            self._busy_since_ns = now_ns
        elif now_ns - self._busy_since_ns >= BUSY_NS:
            self._busy_since_ns = None
            self._transitions.unblock()

    def _pause(self, judged: Judged, denied: Denied) -> float:
        """Seconds until something may change without anybody writing it down."""
        if denied.busy:
            return _BUSY_PAUSE
        record = judged.sight.content
        ends = [_LONGEST_PAUSE * 1e9]
        if isinstance(record, Record):
            ends += [holder.ends_ns - judged.now_ns for holder in judged.verdict.living]
            if record.state != "held":
                ends.append(record.freed_ns + GRACE_NS - judged.now_ns)
        return max(_BUSY_PAUSE, min(ends) / 1e9)

    def _watched(self, judged: Judged) -> frozenset[str]:
        """The lock file, and the presence of everybody whose death would let us in."""
        presence = self._directory.presence
        names = {holder.presence for holder in judged.verdict.living} | {each.presence for each in judged.ahead}
        return frozenset((self._transitions.file.path, *map(presence.path, names)))

    def _leave(self, place: Waiting) -> None:
        try:
            self._transitions.leave(place)
        except PoslockError:
            return  # whoever comes next passes it over when its time is up

    def _timeout(self, denied: Denied, waited: float) -> LockTimeout:
        position_id, path = self._transitions.position_id, self._transitions.file.path
        return LockTimeout(position_id, path, denied.holder, waited=waited, why=denied.why)


def _must_queue(content: Content, place: Waiting | None) -> bool:
    """Whether somebody who waits at *place* is not in the queue, or not any more."""
    return place is not None and isinstance(content, Record) and place not in content.waiting
