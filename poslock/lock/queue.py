"""The queue in the record: who waits, written down under the OS lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poslock.lock.record import MAX_WAITING, Record, Waiting

if TYPE_CHECKING:
    from poslock.lock.open_file import OpenFile
    from poslock.lock.sight import Judged


def take_place(file: OpenFile, judged: Judged, place: Waiting | None) -> None:
    """Take *place*, if it is not taken; and if the lock is stale but others came first, free it for them."""
    content = judged.sight.content
    if not isinstance(content, Record):
        return
    renews = place is not None and place in judged.waiting
    joins = place is not None and not renews and len(judged.waiting) < MAX_WAITING
    waiting = tuple(each if place is None or each != place else place for each in judged.waiting)
    record = content._replace(waiting=waiting if place is None or not joins else (*waiting, place))
    if judged.needs_breaking:
        record = record._replace(state="broken", freed_ns=judged.now_ns)
    if renews or record != content:
        file.write(record)


def still_waiting(judged: Judged, place: Waiting | None) -> tuple[Waiting, ...]:
    """Who waits on when the one at *place* is admitted: those behind it, and readers whom a reader passes."""
    waiting = judged.waiting
    if not waiting:
        return ()
    index = waiting.index(place) if place in waiting else len(waiting)
    passed = tuple(each for each in waiting[:index] if judged.shared and each.shared)
    return passed + waiting[index + 1 :]
