"""The options of a lock, checked."""

from __future__ import annotations

import math
from typing import TypeGuard

from poslock.text import shown

MAX_PURPOSE = 128
_MAX_LEASE = 86_400.0
_LONGEST_TIMEOUT = 366 * 86_400.0


def checked_timeout(timeout: object) -> float | None:
    """*timeout* if it is None or a number of seconds from 0 to a year, else ValueError."""
    if timeout is None:
        return None
    if not _is_number(timeout) or not 0 <= timeout <= _LONGEST_TIMEOUT:
        raise ValueError(f"timeout must be None or 0 to {_LONGEST_TIMEOUT:g} seconds, not {shown(timeout)}")
    return float(timeout)


def checked_lease_ns(stale_after: object) -> int:
    """*stale_after* in nanoseconds if it is a number of seconds above 0 and at most a day, else ValueError."""
    if not _is_number(stale_after) or not 0 < stale_after <= _MAX_LEASE:
        raise ValueError(f"stale_after must be above 0 and at most {_MAX_LEASE:g} seconds, not {shown(stale_after)}")
    return math.ceil(stale_after * 1e9)


def checked_keep_alive(keep_alive: object) -> float | None:
    """*keep_alive* if it is None or a number of seconds above 0 and at most a day, else ValueError."""
    if keep_alive is None:
        return None
    if not _is_number(keep_alive) or not 0 < keep_alive <= _MAX_LEASE:
        raise ValueError(f"keep_alive must be None or above 0 and at most {_MAX_LEASE:g} s, not {shown(keep_alive)}")
    return float(keep_alive)


def checked_purpose(purpose: object) -> str:
    """*purpose* if it is text of at most 128 characters, else ValueError."""
    if not isinstance(purpose, str) or len(purpose) > MAX_PURPOSE:
        raise ValueError(f"purpose must be text of at most {MAX_PURPOSE} characters, not {shown(purpose)}")
    return purpose


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
