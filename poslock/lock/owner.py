"""Who runs: the thread, and the task if there is one."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from weakref import ReferenceType


@dataclass(frozen=True, slots=True)
class Owner:
    """The thread and task that acquired something. Objects, not numbers: those are used again."""

    thread: threading.Thread
    task: ReferenceType[Any] | None

    @classmethod
    def current(cls) -> Owner:
        """Whoever calls."""
        current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
        task = None
        if current_task is not None:
            try:
                task = current_task()
            except RuntimeError:  # no loop runs in this thread
                task = None
        return cls(threading.current_thread(), None if task is None else ref(task))

    def is_same(self, other: Owner) -> bool:
        """Whether it is the same thread and the same task."""
        mine, theirs = (each.task and each.task() for each in (self, other))
        return self.thread is other.thread and mine is theirs and (self.task is None) == (other.task is None)
