"""The figures of a run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from soak.diary import told

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROWS = {
    "closed": "closes that a bot was told it did",
    "already closing": "closes told that it is closing already",
    "already closed": "closes told that it is closed already",
    "own close left open": "closes with own order code left to others",
    "modified": "modifies",
    "change invalid": "modifies refused as invalid",
    "change refused": "modifies refused by the venue",
    "read": "reads",
    "recovered": "recoveries during the run",
    "finished at the end": "recoveries and closes after it",
    "unsettled": "told unsettled",
    "lock lost": "told that the lock was lost",
    "lock timed out": "told that the lock could not be had",
    "file busy": "told that a file is busy",
    "killed": "SIGKILL",
    "stopped": "SIGSTOP for longer than the lease",
    "lost request": "requests lost",
    "lost answer": "answers lost",
    "hanging request": "requests that hung",
    "partial fill": "orders filled in part",
    "order under way": "orders still under way at their time-out",
    "order arrived late": "of these, taken by the venue",
    "denied order": "orders denied for a while",
    "stale answer": "answers of a moment ago",
    "shown nothing": "empty lists of what is held",
    "entered by hand": "entered by hand",
    "grown by hand": "grown by hand",
    "reduced by hand": "reduced by hand",
    "flipped by hand": "flipped by hand",
    "closed by hand": "closed by hand",
    "funding paid": "funding payments",
    "tracked": "positions tracked",
    "adopted": "adopted, or found as they were",
    "settled": "settled by the operator's word",
    "forgotten": "forgotten",
    "conflict": "told of a conflict",
    "operation refused": "told that an operation is refused",
    "not found": "told that it is not tracked",
    "no answer": "told that the venue does not answer",
}


def figures(directory: str, judged: Iterable[tuple[str, int]]) -> str:
    """A table: what happened how often, then what was judged."""
    counted = Counter(line[0] for line in told(directory))
    rows = [(text, counted[event]) for event, text in _ROWS.items()]
    return "\n".join(f"{text:<80} {count:>8}" for text, count in [*rows, *judged])
