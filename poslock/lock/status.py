"""What is locked, by whom, for how long: reading lock files without disturbing anybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Literal

from poslock.errors import LockFileError, quoted
from poslock.lock.files.lock_file import LockFile
from poslock.lock.record import Record, Unreadable
from poslock.lock.transitions import Transitions, judge
from poslock.lock.verdict import Liveness, Sight

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.errors import Holder, Intent
    from poslock.lock.files.directory import LockDirectory
    from poslock.lock.files.system import System

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


def lock_statuses(directory: LockDirectory) -> list[LockStatus]:
    """Every lock in *directory*, by file name. A file that cannot be read is reported as ``corrupt``.

    Raises:
        LockFileError: the directory cannot be read.
    """
    liveness = cache(directory.presence.liveness)  # many locks have the same holder
    return [_status(directory, LockFile(directory, path, None), liveness) for path in directory.lock_paths()]


def lock_status(directory: LockDirectory, position_id: str) -> LockStatus:
    """The lock of one position; free if it was never taken.

    Raises:
        InvalidPositionId: there can be no such lock.
    """
    return _status(directory, Transitions(directory, position_id).file, cache(directory.presence.liveness))


def _status(directory: LockDirectory, file: LockFile, liveness: Callable[[str], Liveness]) -> LockStatus:
    try:
        content = file.peek()
    except LockFileError as error:
        return LockStatus(file.position_id, "corrupt", None, None, (), file.path, error.why)
    if isinstance(content, Unreadable):
        state: Literal["held", "corrupt"] = "held" if content.being_written else "corrupt"
        return LockStatus(file.position_id, state, None, None, (), file.path, content.why)
    if isinstance(content, Record) and directory.lock_path(content.position_id) != file.path:
        why = f"record of another position, {quoted(content.position_id)}"
        return LockStatus(file.position_id, "corrupt", None, None, (), file.path, why)
    # Patience matters only for what is unreadable.
    judged = judge(directory, Sight(content), patience_ns=0, liveness=liveness).verdict
    if not isinstance(content, Record):
        return LockStatus(file.position_id, judged.state, None, None, (), file.path, judged.why)
    holders = tuple(
        _holder_status(directory.system, content, holder, liveness(holder.presence)) for holder in content.holders
    )
    return LockStatus(content.position_id, judged.state, content.mode, content.token, holders, file.path, judged.why)


def _holder_status(system: System, record: Record, holder: Holder, liveness: Liveness) -> HolderStatus:
    age_s = (system.monotonic_ns() - holder.granted_ns) / 1e9
    if record.boot_id != system.clock_name:  # that clock is gone; the wall clock will do to show it to people
        age_s = system.wall_ns() / 1e9 - holder.granted_at
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
