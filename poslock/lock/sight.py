"""What a contender sees of a lock, and what that means to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from poslock.lock.record import Content, Record, Waiting
from poslock.lock.verdict import FREE, Liveness, Moment, Verdict, ahead, is_foreign, verdict, waits

if TYPE_CHECKING:
    from poslock.holder import Holder
    from poslock.lock.directory import LockDirectory


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


def judge(
    directory: LockDirectory, sight: Sight, *, patience_ns: int, place: Waiting | None = None, shared: bool = False
) -> Judged:
    """What *sight* means, as of now, to one who wants the lock *shared* or not and waits at *place*."""
    # The clock is read before the presence: a holder that was silent for a lease at that time stays stale.
    now_ns = directory.system.monotonic_ns()
    content = sight.content
    record = content if isinstance(content, Record) else None
    if record is not None and record.state == "free" and not record.waiting:  # mostly: there is nobody to judge
        return Judged(sight, FREE, (), (), now_ns, shared, joins=False)
    liveness = _liveness(directory, record) if record else {}
    moment = Moment(now_ns, directory.system.boot_id(), sight.unchanged_ns, patience_ns, liveness)
    first = ahead(record, place, moment, shared=shared) if record else ()
    waiting = tuple(each for each in record.waiting if waits(each, moment)) if record else ()
    # Nobody joins readers of another boot: their clock and ours do not go into one record.
    joins = shared and record is not None and record.mode == "shared" and not is_foreign(record, moment)
    return Judged(sight, verdict(content, moment), first, waiting, now_ns, shared, joins)


def _liveness(directory: LockDirectory, record: Record) -> dict[str, Liveness]:
    named = {each.presence for each in record.waiting}
    if record.state == "held":
        named.update(holder.presence for holder in record.holders)
    return {presence: directory.presence.liveness(presence) for presence in named}
