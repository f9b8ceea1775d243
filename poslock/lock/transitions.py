"""The transitions of one position's lock: acquire, renew, release, break, clear; each atomic under the file's OS lock.

Ownership is the *record*, not the OS lock. An OS lock held for a whole hold could not be taken from a stopped process:
unlinking the file gives two holders on two inodes. So the OS lock is held only while a transition reads, judges and
writes, and whoever breaks a lock does so in the same way as everybody else.

Sequence: open, OS lock, check the file and that the path names it, read, judge, write, check the path again, unlock,
close.

If a process dies inside a transition, the kernel drops the OS lock and the record is the old or the new one; a new
one names a presence that is dead by then. If it is stopped there, the file is replaced by a copy
(`poslock.lock.files.replacing`), and the stopped process finds out when it looks at the path again.

Errors: `LockFileError` when the system refuses or somebody planted something; `LockLost` when the record is not
mine (any more).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from poslock.errors import Holder, Intent, LockFileError, LockLost, LockStillHeld
from poslock.lock.files.lock_file import SYSTEM_REFUSES, Busy, LockFile, Replaced
from poslock.lock.files.pipes import Wake, ring
from poslock.lock.files.replacing import BUSY_NS, replace_busy, withdraw_abandoned
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
    ends_ns,
    is_at_rest,
    is_of,
)
from poslock.lock.verdict import Asked, Judged, Moment, Sight, behind, still_waiting, wake_next

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.lock.files.directory import LockDirectory
    from poslock.lock.files.lock_file import OpenFile
    from poslock.lock.verdict import Liveness

T = TypeVar("T")

# An owner's own transition only ever waits for other transitions, which take microseconds, or for a replacement.
_OWN_TRANSITION_NS = 3 * BUSY_NS
_LEAVING_NS = BUSY_NS // 2
_PAUSE = 0.001
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

    def __init__(self, directory: LockDirectory, position_id: str) -> None:
        self.position_id = check_position_id(position_id)
        self.file = LockFile(directory, directory.lock_path(position_id), position_id)
        self.written: Grant | None = None
        self._directory = directory
        self._system = directory.system

    def place(self, request: Request) -> Waiting:
        """A place for this contender, to be taken by an `acquire` that is denied."""
        now_ns = self._system.monotonic_ns()
        return Waiting(self._presence(), now_ns, request.shared, now_ns, request.lease_ns)

    def judge(self, sight: Sight, request: Request, place: Waiting | None) -> Judged:
        """What *sight* means to one who makes this *request* from this *place*."""
        return judge(self._directory, sight, patience_ns=request.lease_ns, place=place, shared=request.shared)

    def wake(self, place: Waiting) -> Wake | None:
        """What wakes the one at *place*, to be made before it takes it; None if there is nothing of the kind."""
        try:
            return Wake(self._system, self._path_of(place), place.ticket, self._directory.group)
        except OSError:
            return None

    def acquire(self, request: Request, sight: Sight, place: Waiting | None) -> Grant | Denied:
        """Grant the lock to this process if it is free or stale and nobody came first; else take *place*, if given.

        *sight* counts only if the holders under the lock still are the same.
        """
        presence = self._presence()  # before the OS lock is taken: making the file takes its time
        self.written = None
        woken: tuple[Waiting, ...] = ()

        def acquired(file: OpenFile) -> Grant | Denied:
            # A and B both saw a dead holder; A took the lock meanwhile. What B saw before it had the OS lock proves
            # nothing: without this second read B would write over A's grant.
            # (test_a_contender_that_saw_a_stale_record_reads_again_under_the_lock)
            nonlocal woken
            content = file.read()
            broken: Holder | None = None
            living: tuple[Holder, ...] = ()
            waiting: tuple[Waiting, ...] = ()
            if not is_at_rest(content):  # mostly there is nobody to judge
                seen = Sight(content, sight.unchanged_ns if sight.is_same(content) else 0)
                judged = self.judge(seen, request, place)
                if not judged.admits:
                    if (record := _with_place(judged)) is not None:
                        file.write(record)
                        if judged.needs_breaking:
                            woken = tuple(each for each in record.waiting if each != place)
                        judged = replace(judged, sight=seen._replace(content=record))
                    return Denied(judged)
                broken = seen.holder if judged.verdict.state == "stale" else None
                living, waiting = judged.verdict.living, still_waiting(judged)
            record = self._granted(content, request, presence, living, waiting)
            self.written = grant = Grant(record.holders[-1], broken)
            file.write(record)
            return grant

        try:
            return self.file.change(acquired, create=True)
        except LockFileError:
            self.written = None  # what was there before is there again
            raise
        except FileNotFoundError:
            self._directory.prepare(again=True)
            return Denied(None, "the lock directory was removed")
        except Replaced:
            self._unblock()
            return Denied(None, "the lock file was replaced", perhaps=self.written)
        except Busy:
            self._unblock()
            return Denied(self.judge(sight, request, place), "a transition is under way")
        finally:
            # What was written may not count, then somebody wakes for nothing.
            self._wake_next(woken)

    def adopts(self, grant: Grant) -> bool | None:
        """Whether a grant made it into the copy of a file that was replaced; None while that is not decided."""
        try:
            return self.file.change(lambda file: carries(file.read(), grant))
        except FileNotFoundError:
            return False
        except Busy:
            self._unblock()
            return None

    def leave(self, place: Waiting) -> None:
        """Give up *place* in the queue, if other transitions let us soon; else its lease runs out."""

        def left(file: OpenFile) -> Record | None:
            content = file.read()
            if not isinstance(content, Record) or place not in content.waiting:
                return None
            file.write(content._replace(waiting=tuple(each for each in content.waiting if each != place)))
            return content

        # When a close is booked, all who waited for it leave at the same time. A place of somebody who lives and does
        # not come would hold up the next ones. (test_who_gives_up_waiting_holds_nobody_up)
        until_ns = self._system.monotonic_ns() + _LEAVING_NS
        before: Record | None = None
        with suppress(FileNotFoundError):
            while True:
                try:
                    before = self.file.change(left)
                    break
                except Busy:
                    if self._system.monotonic_ns() >= until_ns:
                        return
                self._system.sleep(self._pause())
            if before is not None:
                self._close_up(before, place)

    def check(self, grant: Grant) -> None:
        """Return only if *grant* owns the lock at this moment.

        Raises:
            LockLost: it does not.
            LockFileError: nobody can tell.
        """
        self._check_lease(grant)
        self._check_presence(grant)
        content = self.file.peek()
        if isinstance(content, Unreadable) and content.being_written:
            raise LockFileError(self.position_id, self.file.path, f"stays busy: {content.why}", _RESUME)
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

        def renewed(file: OpenFile) -> Grant:
            record = self._mine(file, grant)
            # The clock is read before the write: stopped in between, the lease gets shorter, never longer.
            now_ns = self._system.monotonic_ns()
            # Even if nobody has taken it yet: a check() that failed once must never pass again.
            self._check_lease(grant)
            holder = grant.holder._replace(renewed_ns=now_ns)
            holders = tuple(holder if is_of(each, grant) else each for each in record.holders)
            file.write(record._replace(holders=holders))
            return grant._replace(holder=holder)

        return self._own(renewed)

    def release(self, grant: Grant, *, wake_all: bool = False) -> None:
        """Give up this grant, lease run out or not; *wake_all* who wait, if none may want it any more.

        Raises:
            LockLost: somebody took it over, so what was done under it may not have been exclusive.
        """
        written = False
        waiting: tuple[Waiting, ...] = ()

        def released(file: OpenFile) -> None:
            nonlocal written, waiting
            if written and not carries(file.read(), grant):
                return  # the file was replaced by a copy that has it already
            record = self._mine(file, grant)
            written = True
            alone = len(record.holders) == 1
            others = () if alone else tuple(each for each in record.holders if not is_of(each, grant))
            # Also if others share it still: they may be dead, and who waits watches only those whom it saw alive.
            waiting = record.waiting
            if others:
                file.write(record._replace(holders=others))
            else:
                file.write(record._replace(state="free", freed_ns=self._system.monotonic_ns()))

        self._own(released)
        if wake_all:
            for each in waiting:
                self._ring(each)
        else:
            self._wake_next(waiting)

    def clear(self, *, force: bool) -> str:
        """Free a stale lock by the operator's word, and a live one with *force*; says what was done.

        Raises:
            LockStillHeld: its holder may be alive, and *force* was not given.
            LockLost: the lock file was removed meanwhile.
        """
        done, written = "", 0
        waiting: tuple[Waiting, ...] = ()

        def cleared(file: OpenFile) -> str:
            nonlocal done, written, waiting
            # No patience: the operator has looked, and a holder behind an unreadable record cannot pass check().
            judged = judge(self._directory, Sight(file.read()), patience_ns=0)
            content = judged.sight.content
            if done and isinstance(content, Record) and content.token >= written:
                return done  # the file was replaced by a copy that has it already, and perhaps the next grant
            if judged.verdict.state == "free":
                return "was free"
            if judged.verdict.living and not force:
                raise LockStillHeld(self.position_id, self.file.path, judged.verdict.living[0])
            holders = content.holders if isinstance(content, Record) else ()
            # A new token, so that the cleared holders' check() fails though their leases may not have run out.
            token, clock = self._next_token(content, 0, self._system.wall_ns()), self._system.clock_name
            now_ns, waiting = judged.moment.now_ns, judged.waiting
            file.write(Record(self.position_id, "free", "exclusive", token, clock, now_ns, holders, waiting))
            who = ", ".join(map(str, holders))
            written = token
            done = f"cleared, was held by {who}" if who else "cleared, its record was unreadable"
            return done

        said = "was free" if self.file.peek() is None else self._own(cleared)
        self._wake_next(waiting)
        return said

    def unblock(self) -> None:
        """Replace a file that was busy for too long. Does nothing if it is not busy any more."""
        try:
            replace_busy(self._directory, self.file.path)
        except OSError as error:
            raise self.file.failed(error) from error

    def _close_up(self, before: Record, place: Waiting) -> None:
        """Wake those to whom it matters that *place* was given up."""
        for each in behind(before.waiting, place):
            self._ring(each)
        if before.state != "held":
            self._wake_next(tuple(each for each in before.waiting if each != place))

    def _wake_next(self, waiting: tuple[Waiting, ...]) -> None:
        if waiting:
            wake_next(waiting, self._ring)

    def _ring(self, place: Waiting) -> bool:
        return ring(self._system, self._path_of(place), place.ticket)

    def _path_of(self, place: Waiting) -> str:
        return self._directory.presence.path(place.presence)

    def _granted(
        self,
        content: Content,
        request: Request,
        presence: str,
        living: tuple[Holder, ...],
        waiting: tuple[Waiting, ...],
    ) -> Record:
        # The clock is read before the write: stopped in between, the record says how old the grant really is.
        now_ns = self._system.monotonic_ns()
        wall_ns = self._system.wall_ns()
        token = self._next_token(content, request.token_floor, wall_ns)
        pid, host, at = self._system.process_id(), self._system.host_name, wall_ns / 1e9
        lease_ns, purpose, intent = request.lease_ns, request.purpose, request.intent
        holder = Holder(pid, host, presence, purpose, token, at, now_ns, now_ns, lease_ns, intent)
        mode: Literal["exclusive", "shared"] = "shared" if request.shared else "exclusive"
        return Record(self.position_id, "held", mode, token, self._system.clock_name, 0, (*living, holder), waiting)

    def _next_token(self, content: Content, floor: int, wall_ns: int) -> int:
        # Wall-clock microseconds keep tokens growing when the directory was wiped; they never decide who holds.
        previous = content.token if isinstance(content, Record) else 0
        token = max(previous + 1, floor, wall_ns // 1000)
        if token > LAST_TOKEN:
            raise LockFileError(self.position_id, self.file.path, f"token {previous} has no successor", _TAMPERED)
        return token

    def _presence(self) -> str:
        # Whoever has the lock file open finds out by itself when the directory is another one.
        thorough = not self._directory.open_files.has(self.file.path)
        try:
            try:
                return self._directory.presence.name(thorough=thorough)
            except FileNotFoundError:  # somebody removed the directory
                self._directory.prepare(again=True)
                return self._directory.presence.name(thorough=thorough)
        except OSError as error:
            path = f"{self._directory.path}/.presence"
            raise LockFileError(self.position_id, path, f"cannot be used: {error.strerror}", SYSTEM_REFUSES) from error

    def _own(self, change: Callable[[OpenFile], T]) -> T:
        """Carry out a transition that must not be given up because another one is under way; bounded all the same."""
        began_ns = self._system.monotonic_ns()
        while True:
            try:
                # What was written is taken for done if the file is replaced then, so look before, too.
                # (test_a_holder_whose_file_is_replaced_under_its_hands_has_lost)
                return self.file.change(change, look_first=True)
            except FileNotFoundError as error:
                raise self._lost("its lock file is gone") from error
            except Busy:
                self._unblock()
            busy_ns = self._system.monotonic_ns() - began_ns
            if busy_ns >= _OWN_TRANSITION_NS:
                why = "stays busy: processes are stopped inside a transition, or very many want it"
                raise LockFileError(self.position_id, self.file.path, why, _RESUME)
            if busy_ns >= BUSY_NS:
                self.unblock()
            self._system.sleep(self._pause())

    def _pause(self) -> float:
        # Of many who found it busy at the same moment not all must come back at the same moment.
        return _PAUSE * (0.5 + self._system.random())

    def _unblock(self) -> None:
        """Remove what a process left behind that died while it replaced the file."""
        try:
            if self._system.stat(self.file.path).st_nlink > 1:
                withdraw_abandoned(self._directory, self.file.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.file.failed(error) from error

    def _mine(self, file: OpenFile, grant: Grant) -> Record:
        self._check_presence(grant)
        content = file.read()
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
        if self._system.monotonic_ns() >= ends_ns(grant.holder):
            raise self._lost(f"the lease of {grant.holder.lease_ns / 1e9:g} s has run out")

    def _check_presence(self, grant: Grant) -> None:
        # Peers take this process for dead then, and its lock at once: no lease is left to rely on.
        # (test_a_holder_that_closed_its_descriptors_is_told_so)
        try:
            if self._directory.presence.proves(grant.holder.presence):
                return
        except OSError as error:
            raise self.file.failed(error) from error
        raise self._lost("this process closed the descriptor that proves that it lives (os.closerange, a daemon?)")

    def _lost(self, why: str, holder: Holder | None = None) -> LockLost:
        return LockLost(self.position_id, self.file.path, why, holder)


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


def judge(  # noqa: PLR0913  # options with defaults
    directory: LockDirectory,
    sight: Sight,
    *,
    patience_ns: int,
    place: Waiting | None = None,
    shared: bool = False,
    liveness: Callable[[str], Liveness] | None = None,
) -> Judged:
    """What *sight* means, as of now, to one who wants the lock *shared* or not and waits at *place*.

    *liveness* says whether the process behind a presence lives, if not the kernel is to be asked.
    """
    # The clock is read before the presence: a holder that was silent for a lease at that time stays stale.
    now_ns = directory.system.monotonic_ns()
    moment = Moment(
        now_ns,
        directory.system.clock_name,
        sight.unchanged_ns,
        patience_ns,
        Asked(liveness or directory.presence.liveness),
    )
    return Judged(sight, moment, place, shared)
