"""Locks whose holder says in the record what it holds them for, as the locks of a guard do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from poslock import PositionLock

if TYPE_CHECKING:
    from poslock.errors import Intent


def lock_for(intent: Intent, position_id: str, **options: Any) -> PositionLock:
    """A lock with these options whose record says *intent*."""
    lock = PositionLock(position_id, **options)
    lock._request = lock._request._replace(intent=intent)
    return lock
