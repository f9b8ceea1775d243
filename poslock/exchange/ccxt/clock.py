"""A venue's clock as it is known here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_GOOD_FOR_NS = 600 * 10**9
# Where there is one, a clock that goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _tick_ns() -> int:
    return time.clock_gettime_ns(_CLOCK)


class VenueClock:
    """The time by which the venue judges requests, carried on by *tick_ns*: a clock that nobody sets, in nanoseconds.

    It is never ahead of the venue's own: what is read was true when the venue wrote it, and is taken for the time at
    which it arrived. So a request signed by it may be refused too early, and never lives too long.
    """

    def __init__(self, tick_ns: Callable[[], int] = _tick_ns) -> None:
        self._tick_ns = tick_ns
        # What was read, and by which tick: together, because other threads ask meanwhile.
        self._read = (time.time_ns() // 10**6, tick_ns())
        self._is_known = False

    def set(self, venue_ms: int) -> None:
        """The venue has just said what time it is."""
        self._read = (venue_ms, self._tick_ns())
        self._is_known = True

    def doubt(self) -> None:
        """The venue finds our requests too late: ask it again."""
        self._is_known = False

    @property
    def is_known(self) -> bool:
        """Whether it was read, and not too long ago for two clocks to have drifted apart."""
        return self._is_known and self._tick_ns() - self._read[1] < _GOOD_FOR_NS

    def now_ms(self) -> int:
        """Milliseconds since the epoch; by this machine's own clock as long as the venue was never asked."""
        venue_ms, read_ns = self._read
        return venue_ms + (self._tick_ns() - read_ns) // 10**6
