"""Coroutines that never wait, run like any function: what is written once for threads and for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that awaits nothing which is not there yet."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the coroutine's return type
    coroutine.close()
    raise RuntimeError("it waits for an event loop")
