"""A venue's clock as it is known here."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock.exchange.port import Memory

_MS = 10**6
# By how much two clocks may drift apart: 1000 ppm, ten times what a poor one does.
_DRIFT = 1000
# An order that is signed by a clock which was read this long ago loses a second of its window; then it is asked anew.
_FRESH_NS = 1000 * 10**9
# A question is taken for ten seconds, and refused if it seems to come from a second ahead.
_LARGEST_DOUBT_MS = 5000
_LONGEST_NS = 24 * 3600 * 10**9
# Where there is one, a clock that goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _tick_ns() -> int:
    return time.clock_gettime_ns(_CLOCK)


class VenueClock:
    """The time by which the venue judges requests, carried on by *tick_ns*: a clock that nobody sets, in nanoseconds.

    It is never ahead of the venue's own: what is read was true when the venue wrote it, and is taken for the time at
    which it arrived; and of the time since, what two clocks may drift apart is taken off. So a request signed by it may
    be refused too early, and never lives too long.
    """

    def __init__(self, tick_ns: Callable[[], int] = _tick_ns) -> None:
        self.memory: Memory | None = None
        self._tick_ns = tick_ns
        # What was read, and by which tick: together, because other threads ask meanwhile.
        self._read = (time.time_ns() // _MS, tick_ns())
        self._is_known = False

    def set(self, venue_ms: int) -> None:
        """The venue has just said what time it is."""
        self._read = (venue_ms, self._tick_ns())
        self._is_known = True
        self.keep()

    def keep(self) -> None:
        """Keep what was read for the next process."""
        if self.memory is not None:
            self.memory.remember(clock=self._read)

    def recall(self) -> None:
        """Take what another process has read, unless the venue was asked here."""
        if self.memory is None or self._is_known:
            return
        with suppress(KeyError, TypeError, ValueError):
            venue_ms, read_ns = map(int, self.memory.recall()["clock"])
            if 0 <= self._tick_ns() - read_ns < _LONGEST_NS:
                self._read, self._is_known = (venue_ms, read_ns), True

    def doubt(self) -> None:
        """The venue finds our requests too late: ask it again."""
        self._is_known = False

    @property
    def is_known(self) -> bool:
        """Whether it was read, and lately enough for questions."""
        return self._is_known and self._elapsed_ns < _LONGEST_NS

    @property
    def is_fresh(self) -> bool:
        """Whether it was read lately enough for an order."""
        return self._is_known and self._elapsed_ns < _FRESH_NS

    def now_ms(self) -> int:
        """Milliseconds since the epoch; by this machine's own clock as long as the venue was never asked."""
        return self._read[0] + (self._elapsed_ns - self._elapsed_ns // _DRIFT) // _MS

    def question_ms(self) -> int:
        """The same for a question, which may be wrong by a few seconds to either side."""
        return max(self.now_ms(), self._read[0] + self._elapsed_ns // _MS - _LARGEST_DOUBT_MS)

    @property
    def _elapsed_ns(self) -> int:
        return self._tick_ns() - self._read[1]
