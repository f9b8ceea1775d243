"""What must be true of simulated holds in every state, judged from what the processes say and what the record says.

G2: nobody else holds while an exclusive holder may act, and no ``check()`` passes below a token that was granted before
it began. A holder that lives, within its lease, is left alone. Tokens only grow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from poslock.lock.files.directory import lock_file_name
from poslock.lock.record import Content, Record, Unreadable, decode, ends_ns
from prove.actor import FOLDER
from prove.explore import Violation

if TYPE_CHECKING:
    from collections.abc import Hashable

    from poslock.errors import Holder
    from prove.disk import Disk

POSITION = "btc"
PATH = f"{FOLDER}/{lock_file_name(POSITION)}"
_decoded = lru_cache(maxsize=20_000)(decode)


class Hold(NamedTuple):
    """A process that was told that it holds, until it begins to release or is told that it does not.

    ``void``: an operator cleared it, or may just be doing so. ``floor`` is the lowest token with which a ``check()``
    that was begun may pass. ``unproven``: its process closed what proves that it lives, so nobody owes it anything.
    """

    pid: int
    token: int
    ends_ns: int
    shared: bool
    void: bool
    floor: int = 0
    unproven: bool = False

    def is_rightful(self, now_ns: int) -> bool:
        """Whether it may act now."""
        return not self.void and now_ns < self.ends_ns

    def __str__(self) -> str:
        return f"process {self.pid} with {'a shared ' if self.shared else ''}token {self.token}"


class Seen(NamedTuple):
    """What the witness remembers.

    ``asking`` are who wants the lock, and was not in the way of an operator who cleared it meanwhile. ``exclusive`` and
    ``highest`` are the highest tokens that were granted exclusively, and at all, or used to clear; ``passed`` is the
    highest one that passed an exclusive ``check()``. ``damaged``: somebody died in the middle of a write.
    """

    holds: tuple[Hold, ...] = ()
    asking: frozenset[int] = frozenset()
    clearing: frozenset[int] = frozenset()
    exclusive: int = 0
    highest: int = 0
    passed: int = 0
    damaged: bool = False
    record: bytes | None = None

    # What processes say.

    def told(self, disk: Disk, pid: int, what: str, details: tuple[object, ...]) -> Seen:
        """What is known after a process has said something."""
        after: Seen = getattr(self, f"_{what}")(disk, pid, *details)
        return after

    def died(self, pid: int, *, half: bool) -> Seen:
        """A process has ended, in the middle of a write if *half*."""
        holds, asking, clearing = self._others(pid), self.asking - {pid}, self.clearing - {pid}
        return self._replace(holds=holds, asking=asking, clearing=clearing, damaged=self.damaged or half)

    def _asks(self, disk: Disk, pid: int) -> Seen:
        return self if self.clearing else self._replace(asking=self.asking | {pid})

    def _acquired(self, disk: Disk, pid: int, token: int, ends_ns: int, shared: bool) -> Seen:  # noqa: FBT001  # as told
        if any(hold.pid == pid for hold in self.holds):
            raise Violation(f"process {pid} was granted what it has")
        hold = Hold(pid, token, ends_ns, shared, void=pid not in self.asking)
        exclusive = self.exclusive if shared else max(self.exclusive, token)
        asked = self._with(hold)._replace(asking=self.asking - {pid})
        return asked._replace(exclusive=exclusive, highest=max(self.highest, token))

    def _left(self, disk: Disk, pid: int) -> Seen:
        return self._replace(asking=self.asking - {pid})

    def _checking(self, disk: Disk, pid: int) -> Seen:
        hold = self._hold(pid)
        # Readers may pass together, whatever their tokens.
        return self._with(hold._replace(floor=self.exclusive if hold.shared else self.highest))

    def _checked(self, disk: Disk, pid: int) -> Seen:
        hold = self._hold(pid)
        if hold.unproven:
            raise Violation(f"process {pid} passed check() though nothing proves that it lives")
        if hold.token < hold.floor:
            raise Violation(f"process {pid} passed check() with token {hold.token} after {hold.floor} was granted")
        if disk.now_ns >= hold.ends_ns:
            raise Violation(f"process {pid} passed check() after its lease")
        if hold.shared:
            return self
        # Of one that was cleared by force meanwhile only what it knew when it began counts: no lease kept others out.
        if hold.token < self.passed and not hold.void:
            raise Violation(f"process {pid} passed check() with token {hold.token} after {self.passed} had passed")
        return self._replace(passed=hold.token)

    def _renewed(self, disk: Disk, pid: int, ends_ns: int) -> Seen:
        hold = self._hold(pid)
        if hold.unproven:
            raise Violation(f"process {pid} renewed what nothing proves that it lives to hold")
        # Told too late it changes nothing: somebody may have taken over before this was told.
        return self._with(hold._replace(ends_ns=ends_ns, void=hold.void or disk.now_ns >= hold.ends_ns))

    def _lost(self, disk: Disk, pid: int, why: str) -> Seen:
        # After a death in the middle of a write there is no record to be seen. While the writer lives there will be.
        is_there = not self.damaged or isinstance(_record(disk), Record)
        if self._hold(pid).is_rightful(disk.now_ns) and is_there:
            raise Violation(f"process {pid} was told that it lost what it holds: {why}")
        return self._released(disk, pid)

    def _unproven(self, disk: Disk, pid: int) -> Seen:
        return self._with(self._hold(pid)._replace(void=True, unproven=True))

    def _revived(self, disk: Disk, pid: int) -> Seen:
        raise Violation(f"process {pid} got back by renew() what it was told that it lost")

    def _inherited(self, disk: Disk, pid: int) -> Seen:
        raise Violation(f"process {pid} passed the check() of its parent's hold")

    def _released(self, disk: Disk, pid: int) -> Seen:
        return self._replace(holds=self._others(pid))

    def _clearing(self, disk: Disk, pid: int, force: bool) -> Seen:  # noqa: FBT001  # as told
        if not force:  # then nobody who holds may be in its way
            return self
        holds = tuple(hold._replace(void=True) for hold in self.holds)
        return self._replace(holds=holds, asking=frozenset(), clearing=self.clearing | {pid})

    def _cleared(self, disk: Disk, pid: int) -> Seen:
        record = _record(disk)
        token = record.token if isinstance(record, Record) and record.state == "free" else 0
        # Only if nobody took it since: then that grant's own word counts.
        return self._replace(
            clearing=self.clearing - {pid}, exclusive=max(self.exclusive, token), highest=max(self.highest, token)
        )

    def _hold(self, pid: int) -> Hold:
        return next(hold for hold in self.holds if hold.pid == pid)

    def _others(self, pid: int) -> tuple[Hold, ...]:
        return tuple(hold for hold in self.holds if hold.pid != pid)

    def _with(self, hold: Hold) -> Seen:
        return self._replace(holds=tuple(sorted((*self._others(hold.pid), hold))))

    # What the record says.

    def looked(self, disk: Disk, *, torn: bool) -> Seen:
        """What is known after a change of what is on disk; *torn* if a write may be under way."""
        content = _record(disk)
        rightful = [hold for hold in self.holds if hold.is_rightful(disk.now_ns)]
        if len(rightful) > 1 and not all(hold.shared for hold in rightful):
            raise Violation(f"at the same time {' and '.join(map(str, rightful))}")
        for hold in rightful:
            if not _carries(content, hold) and not (torn and isinstance(content, Unreadable)):
                raise Violation(f"{hold} was taken from it")
        # A file with a second name is being replaced: what is written there now does not count.
        data = disk.named(PATH)
        if data == self.record or not isinstance(content, Record) or disk.stat(0, PATH).st_nlink > 1:
            return self
        self._grows(content)
        return self._replace(record=data)

    def _grows(self, content: Record) -> None:
        before = _decoded(self.record or b"", POSITION)
        if not isinstance(before, Record):
            return
        if content.token < before.token:
            raise Violation(f"token {content.token} after {before.token}")
        known = {_identity(holder) for holder in before.holders}
        for holder in content.holders:
            if _identity(holder) not in known and holder.token <= before.token:
                raise Violation(f"token {holder.token} was granted after {before.token}")


def _record(disk: Disk) -> Content:
    """What the lock file says."""
    return _decoded(disk.named(PATH) or b"", POSITION)


def _carries(content: Content, hold: Hold) -> bool:
    if not isinstance(content, Record) or content.state != "held":
        return False
    return any(holder.token == hold.token and ends_ns(holder) >= hold.ends_ns for holder in content.holders)


def _identity(holder: Holder) -> Hashable:
    return holder.token, holder.presence, holder.granted_ns
