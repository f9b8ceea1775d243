"""Is a lock free, held, or stale? A pure function of what was read; it changes nothing.

Wall-clock time plays no part. A holder that cannot be judged is taken for alive until its lease has run out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from poslock.lock.record import Record, Unreadable

if TYPE_CHECKING:
    from poslock.holder import Holder


class Liveness(Enum):
    """What the kernel says of a holder's process. UNKNOWN never licenses a takeover by itself."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Moment:
    """When and by whom a record is judged.

    ``unchanged_ns`` is how long this contender itself has seen the very same content: the only age that an unreadable
    record has, or one whose clock is not ours.
    """

    now_ns: int
    boot_id: str
    unchanged_ns: int = 0
    patience_ns: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` as a contender must treat it, and ``why``, for people."""

    state: Literal["free", "held", "stale"]
    why: str


def verdict(record: Record | Unreadable | None, liveness: tuple[Liveness, ...], moment: Moment) -> Verdict:
    """Judge *record*; *liveness* has one entry per holder of a held record, in their order.

    A dead holder is stale at once, and so is one of another boot that is not known to live; a living or unknown one
    is when its own lease has run out.
    An unreadable record is stale when it was seen unchanged for ``moment.patience_ns``.
    """
    if record is None:
        return Verdict("free", "never granted")
    if isinstance(record, Unreadable):
        if moment.unchanged_ns >= moment.patience_ns:
            return Verdict("stale", f"unreadable for a whole lease ({record.why})")
        return Verdict("held", f"record is unreadable ({record.why})")
    if record.state == "free":
        return Verdict("free", "released")
    foreign_boot = bool(moment.boot_id and record.boot_id and record.boot_id != moment.boot_id)
    judged = [
        _judge(holder, alive, moment, foreign_boot=foreign_boot)
        for holder, alive in zip(record.holders, liveness, strict=True)
    ]
    return next((each for each in judged if each.state == "held"), judged[0])


def _judge(holder: Holder, alive: Liveness, moment: Moment, *, foreign_boot: bool) -> Verdict:
    if alive is Liveness.DEAD:
        return Verdict("stale", "holder is dead")
    # The kernel's word comes first: some containers are given a boot id of their own.
    if foreign_boot and alive is not Liveness.ALIVE:
        return Verdict("stale", "granted before the last reboot")
    # A foreign or a future clock cannot be subtracted from; then only what we saw ourselves counts.
    age_ns = 0 if foreign_boot else moment.now_ns - holder.renewed_ns
    if max(age_ns, moment.unchanged_ns) >= holder.lease_ns:
        return Verdict("stale", f"lease of {holder.lease_ns / 1e9:g} s has run out")
    return Verdict("held", "held")
