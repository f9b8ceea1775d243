"""Who runs: the thread, and the task if there is one."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from weakref import ReferenceType


class Owner(NamedTuple):
    """The thread and task that acquired something. Objects, not numbers: those are used again.

    Two are equal while they mean the same thread and the same task.
    """

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
