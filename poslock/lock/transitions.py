"""The transitions of one position's lock: acquire, renew, release, break, clear; each a change of its record.

Ownership is the *record*: a process can be stopped while it holds, and a lock of the system's could not be taken from
it. Whoever breaks a lock does so in the same way as everybody else: it reads, judges and writes in one change of the
store, which knows what becomes of a change whose process dies or is stopped in the middle (`poslock.lock.store`).

Errors: `LockFileError` when the system refuses or somebody planted something; `LockLost` when the record is not
mine (any more).
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeGuard, TypeVar

from poslock.errors import Holder, Intent, LockFileError, LockLost, LockStillHeld, shown
from poslock.lock.record import (
    LAST_TOKEN,
    MAX_WAITING,
    Content,
    Grant,
    Record,
    Unreadable,
    Waiting,
    carries,
    check_position_id,
    is_at_rest,
    is_of,
)
from poslock.lock.store import BUSY_NS, Busy, Gone, Uncertain
from poslock.lock.verdict import Asked, Judged, Moment, Sight, behind, still_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.lock.store import Draft, Store
    from poslock.lock.verdict import Liveness

T = TypeVar("T")

# An owner's own transition only ever waits for other transitions, which take microseconds, or for a replacement.
_OWN_TRANSITION_NS = 3 * BUSY_NS
_LEAVING_NS = BUSY_NS // 2
_PAUSE = 0.001
MAX_PURPOSE = 128
_MAX_LEASE = 86_400.0
_NUMBERS = int, float
_LONGEST_TIMEOUT = 366 * 86_400.0
_RESUME = "resume or end them"
_TAMPERED = "poslock did not make it: look at the file, and remove it while no bot runs"


class Request(NamedTuple):
    """What a contender asks for. ``token_floor`` is the lowest token that will do, ``intent`` is that of the holder."""

    lease_ns: int
    purpose: str
    token_floor: int
    shared: bool
    intent: Intent = "other"


@dataclass(frozen=True, slots=True)
class Denied:
    """An acquire got nothing, by what was *judged*; ``busy`` says why nobody could even look.

    ``perhaps``: a grant that was written while the file was being replaced; `adopts` tells, once it was, whether the
    copy has it.
    """

    judged: Judged | None
    busy: str = ""
    perhaps: Grant | None = None

    @property
    def why(self) -> str:
        """Why, for people."""
        return self.busy or (self.judged.why if self.judged else "")

    @property
    def holder(self) -> Holder | None:
        """Who has it, where known."""
        return self.judged.holder if self.judged else None


class Transitions:
    """The transitions of one position. The caller keeps its `Grant`, and says that it does by making ``written`` None.

    ``written`` is a grant that may be in the record, though the `acquire` that wrote it did not come to its end.
    """

    def __init__(self, store: Store, position_id: str) -> None:
        self.position_id = check_position_id(position_id)
        self.entry = store.entry(position_id)
        self.written: Grant | None = None
        self._store = store
        self._system = store.system

    def place(self, request: Request) -> Waiting:
        """A place for this contender, to be taken by an `acquire` that is denied."""
        now_ns = self._store.now_ns()
        return Waiting(self._store.present(self.entry), now_ns, request.shared, now_ns, request.lease_ns)

    def acquire(self, request: Request, sight: Sight, place: Waiting | None) -> Grant | Denied:
        """Grant the lock to this process if it is free or stale and nobody came first; else take *place*, if given.

        *sight* counts only if the holders in the record still are the same.
        """
        presence = self._store.present(self.entry)  # before the change: making it takes its time
        self.written = None

        def acquired(draft: Draft) -> Grant | Denied:
            # A and B both saw a dead holder; A took the lock meanwhile. What B saw before proves nothing: without this
            # second read B would write over A's grant.
            # (test_a_contender_that_saw_a_stale_record_reads_again_under_the_lock)
            content, judged = draft.read(), None
            if not is_at_rest(content):  # mostly there is nobody to judge
                seen = Sight(content, sight.unchanged_ns if sight.is_same(content) else 0)
                judged = judge(self._store, seen, request, place, now_ns=draft.now_ns())
                if not judged.admits:
                    return _denied(draft, judged)
            # The clock is read before the write: stopped in between, the record says how old the grant really is.
            record = self._granted(content, request, presence, draft.now_ns(), judged)
            holder = record.holders[-1]
            broken = judged.sight.holder if judged is not None and judged.verdict.state == "stale" else None
            self.written = grant = Grant(holder, broken, draft.ends_ns(holder))
            draft.write(record)
            return grant

        try:
            return self.entry.change(acquired, create=True)
        except LockFileError:
            self.written = None  # what was there before is there again
            raise
        except Gone:
            self._store.prepare(again=True)
            return Denied(None, "the lock directory was removed")
        except Uncertain:
            return Denied(None, "the lock file was replaced", perhaps=self.written)
        except Busy:
            return Denied(judge(self._store, sight, request, place), "a transition is under way")

    def adopts(self, grant: Grant) -> bool | None:
        """Whether a grant made it into the copy of a file that was replaced; None while that is not decided."""
        try:
            return self.entry.change(lambda draft: carries(draft.read(), grant))
        except Gone:
            return False
        except Busy:
            return None

    def leave(self, place: Waiting) -> None:
        """Give up *place* in the queue, if other transitions let us soon; else its lease runs out."""

        def left(draft: Draft) -> None:
            content = draft.read()
            if not isinstance(content, Record) or place not in content.waiting:
                return
            waiting = tuple(each for each in content.waiting if each != place)
            draft.write(content._replace(waiting=waiting))
            draft.wake(behind(content.waiting, place), waiting if content.state != "held" else ())

        # When a close is booked, all who waited for it leave at the same time. A place of somebody who lives and does
        # not come would hold up the next ones. (test_who_gives_up_waiting_holds_nobody_up)
        until_ns = self._system.monotonic_ns() + _LEAVING_NS
        with suppress(Gone):
            while True:
                try:
                    self.entry.change(left)
                except Busy:
                    if self._system.monotonic_ns() >= until_ns:
                        return
                else:
                    return
                self._system.sleep(self._pause())

    def check(self, grant: Grant) -> None:
        """Return only if *grant* owns the lock at this moment.

        Raises:
            LockLost: it does not.
            LockFileError: nobody can tell.
        """
        self._check_lease(grant)
        self._check_presence(grant)
        content = self.entry.peek()
        if isinstance(content, Unreadable) and content.being_written:
            raise LockFileError(self.position_id, self.entry.path, f"stays busy: {content.why}", _RESUME)
        if not carries(content, grant):
            raise self._taken(content)
        # Stopped since the first look at the clock: the lease ran out, and somebody may have taken over after the
        # record was read. So the clock has the last word. (test_check_looks_at_the_clock_after_the_record)
        self._check_lease(grant)

    def renew(self, grant: Grant) -> Grant:
        """Start the lease anew.

        Raises:
            LockLost: it had run out, or the record is not this grant's.
        """

        def renewed(draft: Draft) -> Grant:
            record = self._mine(draft, grant)
            # The clock is read before the write: stopped in between, the lease gets shorter, never longer.
            now_ns = draft.now_ns()
            # Even if nobody has taken it yet: a check() that failed once must never pass again.
            self._check_lease(grant)
            holder = grant.holder._replace(renewed_ns=now_ns)
            holders = tuple(holder if is_of(each, grant) else each for each in record.holders)
            draft.write(record._replace(holders=holders))
            return grant._replace(holder=holder, ends_ns=draft.ends_ns(holder))

        return self._own(renewed)

    def release(self, grant: Grant, *, wake_all: bool = False) -> None:
        """Give up this grant, lease run out or not; *wake_all* who wait, if none may want it any more.

        Raises:
            LockLost: somebody took it over, so what was done under it may not have been exclusive.
        """
        written = False

        def released(draft: Draft) -> None:
            nonlocal written
            if written and not carries(draft.read(), grant):
                return  # the first try counts after all: it is in the copy, say, that a file was replaced by
            record = self._mine(draft, grant)
            written = True
            # Also if others share it still: they may be dead, and who waits watches only those whom it saw alive.
            draft.wake(record.waiting if wake_all else (), () if wake_all else record.waiting)
            alone = len(record.holders) == 1
            others = () if alone else tuple(each for each in record.holders if not is_of(each, grant))
            if others:
                draft.write(record._replace(holders=others))
            else:
                draft.write(record._replace(state="free", freed_ns=draft.now_ns()))

        self._own(released)

    def clear(self, *, force: bool) -> str:
        """Free a stale lock by the operator's word, and a live one with *force*; says what was done.

        Raises:
            LockStillHeld: its holder may be alive, and *force* was not given.
            LockLost: the lock file was removed meanwhile.
        """
        done, written = "", 0

        def cleared(draft: Draft) -> str:
            nonlocal done, written
            # No patience: the operator has looked, and a holder behind an unreadable record cannot pass check().
            judged = judge(self._store, Sight(draft.read()), now_ns=draft.now_ns())
            content = judged.sight.content
            if done and isinstance(content, Record) and content.token >= written:
                return done  # the first try counts after all, and there may have been a grant since
            if judged.verdict.state == "free":
                return "was free"
            if judged.verdict.living and not force:
                raise LockStillHeld(self.position_id, self.entry.path, judged.verdict.living[0])
            holders = content.holders if isinstance(content, Record) else ()
            # A new token, so that the cleared holders' check() fails though their leases may not have run out.
            token, clock = self._next_token(content, 0, self._system.wall_ns()), self._store.clock_name
            now_ns, waiting = judged.moment.now_ns, judged.waiting
            draft.wake((), waiting)
            draft.write(Record(self.position_id, "free", "exclusive", token, clock, now_ns, holders, waiting))
            who = ", ".join(map(str, holders))
            written = token
            done = f"cleared, was held by {who}" if who else "cleared, its record was unreadable"
            return done

        return "was free" if self.entry.peek() is None else self._own(cleared)

    def _granted(self, content: Content, request: Request, presence: str, now_ns: int, judged: Judged | None) -> Record:
        living, waiting = (judged.verdict.living, still_waiting(judged)) if judged is not None else ((), ())
        wall_ns = self._system.wall_ns()
        token = self._next_token(content, request.token_floor, wall_ns)
        pid, host, at = self._system.process_id(), self._system.host_name, wall_ns / 1e9
        lease_ns, purpose, intent = request.lease_ns, request.purpose, request.intent
        holder = Holder(pid, host, presence, purpose, token, at, now_ns, now_ns, lease_ns, intent)
        mode: Literal["exclusive", "shared"] = "shared" if request.shared else "exclusive"
        return Record(self.position_id, "held", mode, token, self._store.clock_name, 0, (*living, holder), waiting)

    def _next_token(self, content: Content, floor: int, wall_ns: int) -> int:
        # Wall-clock microseconds keep tokens growing when the directory was wiped; they never decide who holds.
        previous = content.token if isinstance(content, Record) else 0
        token = max(previous + 1, floor, wall_ns // 1000)
        if token > LAST_TOKEN:
            raise LockFileError(self.position_id, self.entry.path, f"token {previous} has no successor", _TAMPERED)
        return token

    def _own(self, change: Callable[[Draft], T]) -> T:
        """Carry out a transition that must not be given up because another one is under way; bounded all the same."""
        until_ns = self._system.monotonic_ns() + _OWN_TRANSITION_NS
        while True:
            try:
                # What was written is taken for done if the file is replaced then, so look before, too.
                # (test_a_holder_whose_file_is_replaced_under_its_hands_has_lost)
                return self.entry.change(change, look_first=True)
            except Gone as error:
                raise self._lost("its lock file is gone") from error
            except Busy:
                self.entry.unblock()
            if self._system.monotonic_ns() >= until_ns:
                why = "stays busy: processes are stopped inside a transition, or very many want it"
                raise LockFileError(self.position_id, self.entry.path, why, _RESUME)
            self._system.sleep(self._pause())

    def _pause(self) -> float:
        # Of many who found it busy at the same moment not all must come back at the same moment.
        return _PAUSE * (0.5 + self._system.random())

    def _mine(self, draft: Draft, grant: Grant) -> Record:
        self._check_presence(grant)
        content = draft.read()
        if not isinstance(content, Record) or not carries(content, grant):
            raise self._taken(content)
        return content

    def _taken(self, content: Content) -> LockLost:
        if content is None:
            return self._lost("its lock file is gone")
        if isinstance(content, Unreadable):
            return self._lost(f"its record is damaged ({content.why})")
        if content.state == "held":
            return self._lost("it was taken over", content.holder)
        return self._lost("it was taken over or cleared since")

    def _check_lease(self, grant: Grant) -> None:
        if self._store.own_ns() >= grant.ends_ns:
            raise self._lost(f"the lease of {grant.holder.lease_ns / 1e9:g} s has run out")

    def _check_presence(self, grant: Grant) -> None:
        # Peers take this process for dead then, and its lock at once: no lease is left to rely on.
        # (test_a_holder_that_closed_its_descriptors_is_told_so)
        if not self._store.presence.proves(grant.holder.presence):
            raise self._lost("this process closed the descriptor that proves that it lives (os.closerange, a daemon?)")

    def _lost(self, why: str, holder: Holder | None = None) -> LockLost:
        return LockLost(self.position_id, self.entry.path, why, holder)


def _with_place(judged: Judged) -> Record | None:
    """The record with the place of one who is not admitted, and free for those who came first if all holders are gone.

    None if there is nothing to be written.
    """
    content, place, waiting = judged.sight.content, judged.place, judged.waiting
    if not isinstance(content, Record):
        return None
    renews = place in waiting
    if renews:
        waiting = tuple(place if each == place else each for each in waiting)
    elif place is not None and len(waiting) < MAX_WAITING:
        waiting = (*waiting, place)
    record = content._replace(waiting=waiting)
    if judged.needs_breaking:
        record = record._replace(state="broken", freed_ns=judged.moment.now_ns)
    return record if renews or record != content else None


def _denied(draft: Draft, judged: Judged) -> Denied:
    """What comes of an acquire that is not admitted: it takes its place, and says that all holders are gone."""
    if (record := _with_place(judged)) is not None:
        draft.write(record)
        if judged.needs_breaking:
            draft.wake((), tuple(each for each in record.waiting if each != judged.place))
        judged = replace(judged, sight=judged.sight._replace(content=record))
    return Denied(judged)


def judge(  # noqa: PLR0913  # options with defaults
    store: Store,
    sight: Sight,
    request: Request | None = None,
    place: Waiting | None = None,
    *,
    now_ns: int | None = None,
    liveness: Callable[[str], Liveness] | None = None,
) -> Judged:
    """What *sight* means, as of now, to one who makes this *request* from this *place*; None for one who only looks.

    *liveness* says whether the process behind a presence lives, if not the store is to be asked.
    """
    # The clock is read before the presence: a holder that was silent for a lease at that time stays stale.
    now_ns = store.now_ns() if now_ns is None else now_ns
    # Patience matters only for what is unreadable.
    patience_ns, shared = (request.lease_ns, request.shared) if request is not None else (0, False)
    known = Asked(liveness or store.presence.liveness)
    return Judged(sight, Moment(now_ns, store.clock_name, sight.unchanged_ns, patience_ns, known), place, shared)


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


def checked_keep_alive(keep_alive: object) -> float | None:
    """*keep_alive* if it is None or a number of seconds above 0 and at most a day, else ValueError."""
    if keep_alive is None:
        return None
    if not _is_number(keep_alive) or not 0 < keep_alive <= _MAX_LEASE:
        raise ValueError(f"keep_alive must be None or above 0 and at most {_MAX_LEASE:g} s, not {shown(keep_alive)}")
    return float(keep_alive)


def checked_purpose(purpose: object) -> str:
    """*purpose* if it is text of at most 128 characters, else ValueError."""
    if not isinstance(purpose, str) or len(purpose) > MAX_PURPOSE:
        raise ValueError(f"purpose must be text of at most {MAX_PURPOSE} characters, not {shown(purpose)}")
    return purpose


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)
