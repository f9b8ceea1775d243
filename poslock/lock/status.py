"""What is locked, by whom, for how long: reading lock files without disturbing anybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Literal

from poslock.errors import LockFileError, quoted
from poslock.lock.record import Record, Unreadable, check_position_id
from poslock.lock.transitions import judge
from poslock.lock.verdict import Liveness, Sight

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.errors import Holder, Intent
    from poslock.lock.store import Entry, Store

_ALIVE = {Liveness.ALIVE: True, Liveness.DEAD: False, Liveness.UNKNOWN: None}


@dataclass(frozen=True, slots=True)
class HolderStatus:
    """A holder, or of a free lock its last one. ``age_s`` counts from the grant, ``alive`` is None if unknown.

    ``intent`` is what it holds the lock for, as others see it; ``purpose`` is text for people.
    """

    pid: int
    alive: bool | None
    age_s: float
    lease_s: float
    purpose: str
    host: str
    acquired_at: str
    intent: Intent


@dataclass(frozen=True, slots=True)
class LockStatus:
    """One lock. ``position`` is None where the record cannot be read; ``why`` says what made the state."""

    position: str | None
    state: Literal["free", "held", "stale", "corrupt"]
    mode: str | None
    token: int | None
    holders: tuple[HolderStatus, ...]
    path: str
    why: str


def lock_statuses(store: Store) -> list[LockStatus]:
    """Every lock in *store*, by the name of its file. One that cannot be read is reported as ``corrupt``.

    Raises:
        LockFileError: the directory cannot be read.
    """
    liveness = cache(store.presence.liveness)  # many locks have the same holder
    return [_status(store, each, liveness) for each in store.entries()]


def lock_status(store: Store, position_id: str) -> LockStatus:
    """The lock of one position; free if it was never taken.

    Raises:
        InvalidPositionId: there can be no such lock.
    """
    return _status(store, store.entry(check_position_id(position_id)), cache(store.presence.liveness))


def _status(store: Store, entry: Entry, liveness: Callable[[str], Liveness]) -> LockStatus:
    try:
        content = entry.peek()
    except LockFileError as error:
        return LockStatus(entry.position_id, "corrupt", None, None, (), entry.path, error.why)
    if isinstance(content, Unreadable):
        state: Literal["held", "corrupt"] = "held" if content.being_written else "corrupt"
        return LockStatus(entry.position_id, state, None, None, (), entry.path, content.why)
    if isinstance(content, Record) and store.entry(content.position_id).path != entry.path:
        why = f"record of another position, {quoted(content.position_id)}"
        return LockStatus(entry.position_id, "corrupt", None, None, (), entry.path, why)
    # Patience matters only for what is unreadable.
    judged = judge(store, Sight(content), liveness=liveness).verdict
    if not isinstance(content, Record):
        return LockStatus(entry.position_id, judged.state, None, None, (), entry.path, judged.why)
    holders = tuple(_holder_status(store, content, holder, liveness(holder.presence)) for holder in content.holders)
    return LockStatus(content.position_id, judged.state, content.mode, content.token, holders, entry.path, judged.why)


def _holder_status(store: Store, record: Record, holder: Holder, liveness: Liveness) -> HolderStatus:
    age_s = (store.now_ns() - holder.granted_ns) / 1e9
    if record.boot_id != store.clock_name:  # that clock is gone; the wall clock will do to show it to people
        age_s = store.system.wall_ns() / 1e9 - holder.granted_at
    return HolderStatus(
        pid=holder.pid,
        alive=_ALIVE[liveness],
        age_s=round(max(0.0, age_s), 3),
        lease_s=holder.lease_ns / 1e9,
        purpose=holder.purpose,
        host=holder.host,
        acquired_at=_iso(holder.granted_at),
        intent=holder.intent,
    )


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a hand-made record
        return "unknown"
