"""The transitions of one position's lock: acquire, renew, release, break, clear; each atomic under the file's OS lock.

Ownership is the *record*, not the OS lock. An OS lock held for a whole hold could not be taken from a stopped process:
unlinking the file gives two holders on two inodes. So the OS lock is held only while a transition reads, judges and
writes, and whoever breaks a lock does so in the same way as everybody else.

Sequence: open, check the file, OS lock, check that the path names this file, read, judge, write, check the path again,
unlock, close.

If a process dies inside a transition, the kernel drops the OS lock and the record is the old or the new one; a new
one names a presence that is dead by then. If it is stopped there, the file stays busy for as long as it is stopped.

Not guaranteed here: that the winner is the one who waited longest.

Errors: `LockFileError` when the system refuses or somebody planted something; `LockLost` when the record is not
mine (any more).
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from poslock.errors import LockFileError, LockLost, LockStillHeld
from poslock.holder import Holder
from poslock.lock.file import Busy, LockedFile, LockFile
from poslock.lock.ids import check_position_id
from poslock.lock.record import LAST_TOKEN, Content, Record
from poslock.lock.verdict import Liveness, Moment, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poslock.lock.directory import LockDirectory

# An owner's own transition only ever waits for other transitions, which take microseconds.
_OWN_TRANSITION_NS = 1_000_000_000
_PAUSE = 0.001
_SYSTEM = "look at disk space, descriptors and permissions ('df', 'ulimit -n', 'ls -l')"
_TAMPERED = "poslock did not make it: look at the file, and remove it while no bot runs"


@dataclass(frozen=True, slots=True)
class Request:
    """What a contender asks for. ``token_floor`` is the lowest token that will do."""

    lease_ns: int
    purpose: str
    token_floor: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What an acquire got: the fencing token, who it was granted to, and who was broken for it."""

    token: int
    holder: Holder
    recovered_from: Holder | None

    @property
    def ends_ns(self) -> int:
        """The monotonic time at which the lease runs out."""
        return self.holder.renewed_ns + self.holder.lease_ns


@dataclass(frozen=True, slots=True)
class Denied:
    """Why an acquire got nothing, and who has it, where known."""

    why: str
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class Sight:
    """What a contender has been looking at without the OS lock, and for how long it has not changed."""

    content: Content
    unchanged_ns: int


def judge(directory: LockDirectory, sight: Sight, *, patience_ns: int) -> Verdict:
    """The verdict on what was seen, as of now."""
    # The clock is read before the presence: a holder that was silent for a lease at that time stays stale.
    moment = Moment(directory.system.monotonic_ns(), directory.system.boot_id(), sight.unchanged_ns, patience_ns)
    liveness: tuple[Liveness, ...] = ()
    if isinstance(sight.content, Record) and sight.content.state == "held":
        liveness = tuple(directory.presence.liveness(holder.presence) for holder in sight.content.holders)
    return verdict(sight.content, liveness, moment)


class Transitions:
    """The transitions of one position. Holds no state between calls; the caller keeps its `Grant`."""

    def __init__(self, directory: LockDirectory, position_id: str) -> None:
        self.position_id = check_position_id(position_id)
        self.file = LockFile(directory, directory.lock_path(position_id), position_id)
        self._directory = directory
        self._system = directory.system

    def acquire(self, request: Request, sight: Sight) -> Grant | Denied:
        """Grant the lock to this process if it is free, or break it if it is stale.

        *sight* counts only if the record under the lock still says the same.
        """
        try:
            # Before the OS lock is taken: making a presence file takes its time.
            presence = self._directory.presence.name()
        except OSError as error:
            path = f"{self._directory.path}/.presence"
            raise LockFileError(self.position_id, path, f"cannot be used: {error.strerror}", _SYSTEM) from error
        try:
            with self.file.locked(create=True) as file:
                # A and B both saw a dead holder; A took the lock meanwhile. What B saw before it had the OS lock
                # proves nothing: without this second read B would write over A's grant.
                # (test_a_contender_that_saw_a_stale_record_reads_again_under_the_lock)
                content = file.read()
                unchanged_ns = sight.unchanged_ns if content == sight.content else 0
                judged = judge(self._directory, Sight(content, unchanged_ns), patience_ns=request.lease_ns)
                if judged.state == "held":
                    return Denied(judged.why, holder_of(content))
                record = self._granted(content, request, presence)
                if not self._written(file, record):
                    return Denied("the lock file was removed", None)
        except Busy:
            return Denied("a transition is under way", holder_of(sight.content))
        return Grant(record.token, record.holders[0], holder_of(content) if judged.state == "stale" else None)

    def check(self, grant: Grant) -> None:
        """Return only if *grant* owns the lock at this moment.

        Raises:
            LockLost: it does not.
        """
        self._check_lease(grant)
        content = self.file.peek()
        if not _carries(content, grant):
            raise self._taken(content)
        # Stopped since the first look at the clock: the lease ran out, and somebody may have taken over after the
        # record was read. So the clock has the last word. (test_check_looks_at_the_clock_after_the_record)
        self._check_lease(grant)

    def renew(self, grant: Grant) -> Grant:
        """Start the lease anew.

        Raises:
            LockLost: it had run out, or the record is not this grant's.
        """
        with self._own_transition() as file:
            record = self._mine(file, grant)
            # The clock is read before the write: stopped in between, the lease gets shorter, never longer.
            now_ns = self._system.monotonic_ns()
            # Even if nobody has taken it yet: a check() that failed once must never pass again.
            self._check_lease(grant)
            holder = replace(grant.holder, renewed_ns=now_ns)
            file.write(replace(record, holders=(holder,)))
        return replace(grant, holder=holder)

    def release(self, grant: Grant) -> None:
        """Free the lock if the record is this grant's, lease run out or not.

        Raises:
            LockLost: somebody took it over, so what was done under it may not have been exclusive.
        """
        with self._own_transition() as file:
            file.write(replace(self._mine(file, grant), state="free"))

    def clear(self, *, force: bool) -> str:
        """Free a stale lock by the operator's word, and a live one with *force*; says what was done.

        Raises:
            LockStillHeld: its holder may be alive, and *force* was not given.
        """
        if self.file.peek() is None:
            return "was free"
        with self._own_transition() as file:
            content = file.read()
            # No patience: the operator has looked, and a holder behind an unreadable record cannot pass check().
            judged = judge(self._directory, Sight(content, 0), patience_ns=0)
            if judged.state == "free":
                return "was free"
            holder = holder_of(content)
            if judged.state == "held" and holder is not None and not force:
                raise LockStillHeld(self.position_id, self.file.path, holder)
            # A new token, so that the cleared holder's check() fails though its lease may not have run out.
            token = self._next_token(content, 0)
            boot_id = self._system.boot_id()
            file.write(Record(self.position_id, "free", "exclusive", token, boot_id, (holder,) if holder else ()))
        return f"cleared, was held by {holder}" if holder else "cleared, its record was unreadable"

    def _written(self, file: LockedFile, record: Record) -> bool:
        """Write a grant; False if the directory was wiped, so that it went where no one else will look."""
        try:
            file.write(record)
            # (test_a_grant_on_a_removed_file_is_no_grant)
            return file.is_current()
        except BaseException:
            # The caller will not learn of this grant, so nobody could give it back before its lease runs out.
            with suppress(OSError):
                file.write(replace(record, state="free"))
            raise

    def _granted(self, content: Content, request: Request, presence: str) -> Record:
        # The clock is read before the write: stopped in between, the record says how old the grant really is.
        now_ns = self._system.monotonic_ns()
        holder = Holder(
            pid=self._system.process_id(),
            host=self._system.host_name(),
            presence=presence,
            purpose=request.purpose,
            granted_at=self._system.wall_ns() / 1e9,
            granted_ns=now_ns,
            renewed_ns=now_ns,
            lease_ns=request.lease_ns,
        )
        token = self._next_token(content, request.token_floor)
        return Record(self.position_id, "held", "exclusive", token, self._system.boot_id(), (holder,))

    def _next_token(self, content: Content, floor: int) -> int:
        # Wall-clock microseconds keep tokens growing when the directory was wiped; they never decide who holds.
        previous = content.token if isinstance(content, Record) else 0
        token = max(previous + 1, floor, self._system.wall_ns() // 1000)
        if token > LAST_TOKEN:
            raise LockFileError(self.position_id, self.file.path, f"token {previous} has no successor", _TAMPERED)
        return token

    @contextmanager
    def _own_transition(self) -> Iterator[LockedFile]:
        """A transition that must not be given up because another one is under way; waits a second at most."""
        deadline_ns = self._system.monotonic_ns() + _OWN_TRANSITION_NS
        while True:
            try:
                with self.file.locked(create=False) as file:
                    yield file
                    return
            except FileNotFoundError as error:
                raise self._lost("its lock file is gone") from error
            except Busy:
                if self._system.monotonic_ns() >= deadline_ns:
                    why = "stays busy: a process is stopped inside a transition, or very many want it"
                    raise LockFileError(self.position_id, self.file.path, why, "resume or end that process") from None
            self._system.sleep(_PAUSE)

    def _mine(self, file: LockedFile, grant: Grant) -> Record:
        content = file.read()
        if not isinstance(content, Record) or not _carries(content, grant):
            raise self._taken(content)
        return content

    def _taken(self, content: Content) -> LockLost:
        if content is None:
            return self._lost("its lock file is gone")
        if isinstance(content, Record) and content.state == "held":
            return self._lost("it was taken over", content.holder)
        return self._lost("it was taken over or cleared since")

    def _check_lease(self, grant: Grant) -> None:
        if self._system.monotonic_ns() >= grant.ends_ns:
            raise self._lost(f"the lease of {grant.holder.lease_ns / 1e9:g} s has run out")

    def _lost(self, why: str, holder: Holder | None = None) -> LockLost:
        return LockLost(self.position_id, self.file.path, why, holder)


def holder_of(content: Content) -> Holder | None:
    """The holder, or of a free record the last one, as far as it can be read."""
    return content.holder if isinstance(content, Record) else None


def _carries(content: Content, grant: Grant) -> bool:
    # Not the token alone: in a wiped directory, under a clock that went back, a token can come a second time.
    # (test_equal_tokens_are_not_enough)
    if not isinstance(content, Record) or content.state != "held" or content.token != grant.token:
        return False
    mine = (grant.holder.presence, grant.holder.granted_ns)
    return any((holder.presence, holder.granted_ns) == mine for holder in content.holders)
