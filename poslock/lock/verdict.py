"""Who may have the lock? A pure function of what was read; it changes nothing.

Wall-clock time plays no part. A holder that cannot be judged is taken for alive until its lease has run out.

Order: whoever waits is served in the order of arrival, except that readers pass readers. One who is dead is passed over
at once. One who was stopped is passed over when it does not come for `GRACE_NS` after the lock became free, and at the
latest when it has been silent for its lease.

Whether a process lives is asked only where it matters: of the nearest in the way first, and of holders by those whom
nobody else keeps from the lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from poslock.lock.record import Content, Record, Unreadable, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class Asked(Mapping[str, Liveness]):
    """What *ask* says of each presence, asked once, when it is looked up. Those are in it that were asked for."""

    def __init__(self, ask: Callable[[str], Liveness]) -> None:
        self._ask = ask
        self._known: dict[str, Liveness] = {}

    def __getitem__(self, presence: str) -> Liveness:
        if presence not in self._known:
            self._known[presence] = self._ask(presence)
        return self._known[presence]

    def __contains__(self, presence: object) -> bool:
        return presence in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


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


@dataclass(frozen=True)
class Judged:
    """What a sight means to one who wants the lock, *shared* or not, and waits at *place*; None if nowhere."""

    sight: Sight
    moment: Moment
    place: Waiting | None = None
    shared: bool = False

    @cached_property
    def verdict(self) -> Verdict:
        """Of the lock."""
        return verdict(self.sight.content, self.moment)

    @cached_property
    def ahead(self) -> tuple[Waiting, ...]:
        """The nearest who must be served before this one, and the nearest of another process who must be before that.

        All of one process stop together.
        """
        found: list[Waiting] = []
        for each in ahead(self.sight.content, self.place, self.moment, shared=self.shared):
            if not found or each.presence != found[0].presence:
                found.append(each)
            if len(found) > 1:
                break
        return tuple(found)

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Who waits: not one that has been silent for its lease, nor one that was found dead."""
        content = self.sight.content
        if not isinstance(content, Record):
            return ()
        return tuple(each for each in content.waiting if _is_in_time(each, self.moment) and not self._is_dead(each))

    @property
    def holder(self) -> Holder | None:
        """Who holds the lock at this moment, or one of those who share it; not one that let go, died or fell silent."""
        return self.verdict.living[0] if self.verdict.living else None

    @property
    def is_near(self) -> bool:
        """Whether at most one process is to be served before: all but this one may be stopped."""
        return len(self.ahead) < 2  # noqa: PLR2004  # it, and one more

    @property
    def watched(self) -> frozenset[str]:
        """The presences of everybody whose end this one must learn of."""
        ahead = {each.presence for each in self.ahead[:1]}
        return frozenset(ahead | {each.presence for each in self.verdict.living} if self.is_near else ahead)

    @property
    def admits(self) -> bool:
        """Whether the one who asked may have the lock now."""
        return not self.ahead and (self.verdict.state != "held" or self._joins)

    @property
    def needs_breaking(self) -> bool:
        """Whether all holders are gone, and nobody has written that down. It is for those who are near to do that."""
        record = self.sight.content
        is_held = isinstance(record, Record) and record.state == "held"
        return is_held and self.is_near and self.verdict.state == "stale"

    @property
    def why(self) -> str:
        """Why the one who asked cannot have the lock now, for people."""
        if self.verdict.state == "held" and not (self.ahead and self.shared):
            return self.verdict.why
        content = self.sight.content
        before = _before(content, self.place, shared=self.shared) if isinstance(content, Record) else ()
        return f"{len(before)} came first"

    @property
    def _joins(self) -> bool:
        # Nobody joins readers of another boot: their clock and ours do not go into one record.
        record = self.sight.content
        if not self.shared or not isinstance(record, Record):
            return False
        return record.mode == "shared" and not is_foreign(record, self.moment)

    def _is_dead(self, place: Waiting) -> bool:
        liveness = self.moment.liveness  # that nobody asked for stays so
        return place.presence in liveness and liveness[place.presence] is Liveness.DEAD


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


def ahead(content: Content, place: Waiting | None, moment: Moment, *, shared: bool) -> Iterator[Waiting]:
    """Who must be served before one who wants the lock, *shared* or not, and waits at *place*; None came just now.

    The nearest first: no more of them are asked for than are taken.
    """
    if not isinstance(content, Record) or not content.waiting or is_foreign(content, moment):
        return
    if content.state != "held" and not 0 <= moment.now_ns - content.freed_ns < GRACE_NS:  # they do not come
        return
    for each in reversed(_before(content, place, shared=shared)):
        if _is_in_time(each, moment) and moment.liveness.get(each.presence) is not Liveness.DEAD:
            yield each


def still_waiting(judged: Judged) -> tuple[Waiting, ...]:
    """Who waits on when this one is admitted: those behind it, readers whom a reader passes, and who was not rung."""
    waiting, place = judged.waiting, judged.place
    if not waiting:
        return ()
    index = waiting.index(place) if place in waiting else len(waiting)
    rung: list[Waiting] = []
    wake_next(waiting, lambda each: not rung.append(each))  # type: ignore[func-returns-value]  # notes them
    record = judged.sight.content
    is_ours = isinstance(record, Record) and not is_foreign(record, judged.moment)
    # Who was rung and did not come loses its place; who sleeps behind two of those was not even rung.
    passed = (each for each in waiting[:index] if (judged.shared and each.shared) or (is_ours and each not in rung))
    return (*passed, *waiting[index + 1 :])


def wake_next(waiting: tuple[Waiting, ...], ring: Callable[[Waiting], bool]) -> None:
    """Ring those who may have a lock that is free, and one of another process behind them: they may be stopped.

    Whoever is not there when it rings is left out.
    """
    first: set[str] = set()
    are_readers = False
    for each in waiting:
        if not first or (are_readers and each.shared):
            if ring(each):
                first.add(each.presence)
                are_readers = each.shared
        else:
            are_readers = False
            if each.presence not in first and ring(each):
                return


def behind(waiting: tuple[Waiting, ...], place: Waiting) -> tuple[Waiting, ...]:
    """Those for whom the one at *place* is the nearest in the way."""
    found: list[Waiting] = []
    for each in waiting[waiting.index(place) + 1 :]:
        if each.shared and not place.shared:
            found.append(each)
        elif not each.shared:
            return (*found, each) if not found else tuple(found)
        else:
            return ()
    return tuple(found)


def _before(record: Record, place: Waiting | None, *, shared: bool) -> tuple[Waiting, ...]:
    """Who came before *place* and is not passed by it."""
    waiting = record.waiting
    before = waiting[: waiting.index(place)] if place in waiting else waiting
    return tuple(each for each in before if not (shared and each.shared))


def _is_in_time(place: Waiting, moment: Moment) -> bool:
    """Whether the one at *place* has not been silent for its lease."""
    return moment.now_ns - place.renewed_ns < place.lease_ns


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
