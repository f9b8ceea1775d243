"""Who may have the lock? A pure function of what was read; it changes nothing.

Wall-clock time plays no part. A holder that cannot be judged is taken for alive until its lease has run out.

Order: whoever waits is served in the order of arrival, except that readers pass readers. One who is dead is passed over
at once. One who was stopped is passed over when it does not come for `GRACE_NS` after the lock became free, and at the
latest when it has been silent for its lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple

from poslock.lock.record import Content, Record, Unreadable, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poslock.errors import Holder

# Long enough for a waiter on a busy host to be scheduled, short against lease + 1 s.
GRACE_NS = 250_000_000


class Liveness(Enum):
    """What the kernel says of a process. UNKNOWN never licenses a takeover by itself."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Moment:
    """When and by whom a record is judged, and what the kernel says of the presences in it.

    ``unchanged_ns`` is how long this contender itself has seen the very same holders: the only age that an unreadable
    record has, or one whose clock is not ours. ``patience_ns`` is how long an unreadable one must have been seen.
    """

    now_ns: int
    boot_id: str
    unchanged_ns: int = 0
    patience_ns: int = 0
    liveness: Mapping[str, Liveness] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` of the lock and ``why``, for people; ``living`` are the holders who hold it."""

    state: Literal["free", "held", "stale"]
    why: str
    living: tuple[Holder, ...] = ()


FREE = Verdict("free", "released")


class Sight(NamedTuple):
    """What was read, and for how long the reader has seen the same holders."""

    content: Content
    unchanged_ns: int = 0

    @property
    def holder(self) -> Holder | None:
        """The holder, or of a free record the last one, as far as it can be read."""
        return self.content.holder if isinstance(self.content, Record) else None

    def is_same(self, content: Content) -> bool:
        """Whether *content* says the same of who holds, whoever else waits by now."""
        mine = self.content
        if isinstance(mine, Record) and isinstance(content, Record):
            return (mine.state, mine.token, mine.holders) == (content.state, content.token, content.holders)
        return mine == content


class Judged(NamedTuple):
    """A sight, the verdict on it, and who must be served before the one who asked."""

    sight: Sight
    verdict: Verdict
    ahead: tuple[Waiting, ...]
    waiting: tuple[Waiting, ...]
    now_ns: int
    shared: bool
    joins: bool

    @property
    def holder(self) -> Holder | None:
        """Who holds the lock at this moment, or one of those who share it; not one that let go, died or fell silent."""
        return self.verdict.living[0] if self.verdict.living else None

    @property
    def admits(self) -> bool:
        """Whether the one who asked may have the lock now."""
        return not self.ahead and (self.verdict.state != "held" or self.joins)

    @property
    def needs_breaking(self) -> bool:
        """Whether all holders are gone, and nobody has written that down."""
        record = self.sight.content
        return isinstance(record, Record) and record.state == "held" and self.verdict.state == "stale"

    @property
    def why(self) -> str:
        """Why the one who asked cannot have the lock now, for people."""
        if self.verdict.state == "held" and not (self.ahead and self.shared):
            return self.verdict.why
        return f"{len(self.ahead)} came first"


def verdict(content: Content, moment: Moment) -> Verdict:
    """Judge *content*.

    A dead holder is stale at once, and so is one of another boot that is not known to live; a living or unknown one
    is when its own lease has run out. A lock is stale when all its holders are. An unreadable record is stale when it
    was seen unchanged for ``moment.patience_ns``.
    """
    if content is None or (isinstance(content, Record) and content.state == "free"):
        return FREE if content else Verdict("free", "never granted")
    if isinstance(content, Unreadable):
        if moment.unchanged_ns >= moment.patience_ns:
            return Verdict("stale", f"unreadable for a whole lease ({content.why})")
        return Verdict("held", f"record is unreadable ({content.why})")
    if content.state == "broken":
        return Verdict("stale", "broken")
    return _of_holders(content, moment)


def ahead(record: Record, place: Waiting | None, moment: Moment, *, shared: bool) -> tuple[Waiting, ...]:
    """Who must be served before one who wants the lock, *shared* or not, and waits at *place*; None came just now."""
    before = record.waiting if place not in record.waiting else record.waiting[: record.waiting.index(place)]
    blocking = (each for each in before if not (shared and each.shared))
    late = record.state != "held" and not 0 <= moment.now_ns - record.freed_ns < GRACE_NS
    if late or is_foreign(record, moment):
        return ()
    return tuple(each for each in blocking if waits(each, moment))


def waits(place: Waiting, moment: Moment) -> bool:
    """Whether somebody still is at *place*: not dead, and not silent for its lease."""
    alive = moment.liveness.get(place.presence) is not Liveness.DEAD
    return alive and moment.now_ns - place.renewed_ns < place.lease_ns


def still_waiting(judged: Judged, place: Waiting | None) -> tuple[Waiting, ...]:
    """Who waits on when the one at *place* is admitted: those behind it, and readers whom a reader passes."""
    waiting = judged.waiting
    if not waiting:
        return ()
    index = waiting.index(place) if place in waiting else len(waiting)
    passed = tuple(each for each in waiting[:index] if judged.shared and each.shared)
    return passed + waiting[index + 1 :]


def _of_holders(record: Record, moment: Moment) -> Verdict:
    faults = {holder: _fault(holder, record, moment) for holder in record.holders}
    living = tuple(holder for holder, fault in faults.items() if fault is None)
    if living:
        return Verdict("held", "held" if record.mode == "exclusive" else f"shared by {len(living)}", living)
    return Verdict("stale", next(fault for fault in faults.values() if fault is not None))


def is_foreign(record: Record, moment: Moment) -> bool:
    """Whether the record is of another boot, and its clock another one."""
    return bool(moment.boot_id and record.boot_id and record.boot_id != moment.boot_id)


def _fault(holder: Holder, record: Record, moment: Moment) -> str | None:
    """Why *holder* does not hold any more, None if it does."""
    alive = moment.liveness.get(holder.presence, Liveness.UNKNOWN)
    if alive is Liveness.DEAD:
        return "holder is dead"
    # The kernel's word comes first: some containers are given a boot id of their own.
    foreign = is_foreign(record, moment)
    if foreign and alive is not Liveness.ALIVE:
        return "granted before the last reboot"
    # A foreign or a future clock cannot be subtracted from; then only what we saw ourselves counts.
    age_ns = 0 if foreign else moment.now_ns - holder.renewed_ns
    if max(age_ns, moment.unchanged_ns) >= holder.lease_ns:
        return f"lease of {holder.lease_ns / 1e9:g} s has run out"
    return None
