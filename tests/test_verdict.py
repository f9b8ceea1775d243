from __future__ import annotations

from dataclasses import replace

import pytest

from poslock.holder import Holder
from poslock.lock.record import Content, Record, Unreadable
from poslock.lock.verdict import Liveness, Moment, verdict

LEASE, RENEWED = 30, 1000
HOLDER = Holder(
    pid=1, host="h", presence="p", purpose="", granted_at=0.0, granted_ns=0, renewed_ns=RENEWED, lease_ns=LEASE
)
HELD = Record("btc-1", "held", "exclusive", 7, "boot", (HOLDER,))
NO_BOOT = replace(HELD, boot_id="")
FREE = replace(HELD, state="free")
DAMAGED = Unreadable("damaged", b"x")
ALIVE, DEAD, UNKNOWN = Liveness.ALIVE, Liveness.DEAD, Liveness.UNKNOWN


@pytest.mark.parametrize(
    ("content", "alive", "now", "boot", "unchanged", "state"),
    [
        # never granted, released
        (None, None, 0, "boot", 0, "free"),
        (FREE, None, 0, "boot", 0, "free"),
        (FREE, None, 0, "other", 0, "free"),
        # the lease of a living or unknown holder, to the nanosecond
        (HELD, ALIVE, RENEWED, "boot", 0, "held"),
        (HELD, ALIVE, RENEWED + LEASE - 1, "boot", 0, "held"),
        (HELD, ALIVE, RENEWED + LEASE, "boot", 0, "stale"),
        (HELD, UNKNOWN, RENEWED + LEASE - 1, "boot", 0, "held"),
        (HELD, UNKNOWN, RENEWED + LEASE, "boot", 0, "stale"),
        # death needs no lease
        (HELD, DEAD, RENEWED, "boot", 0, "stale"),
        # another boot is death, but for one whom the kernel says to live: then only what we saw ourselves counts
        (HELD, UNKNOWN, RENEWED, "other", 0, "stale"),
        (HELD, DEAD, RENEWED, "other", 0, "stale"),
        (HELD, ALIVE, RENEWED + LEASE, "other", LEASE - 1, "held"),
        (HELD, ALIVE, RENEWED + LEASE, "other", LEASE, "stale"),
        # an unnamed boot says nothing
        (HELD, ALIVE, RENEWED, "", 0, "held"),
        (NO_BOOT, UNKNOWN, RENEWED, "boot", 0, "held"),
        # a clock that is not ours: only what we saw ourselves counts
        (HELD, ALIVE, RENEWED - 500, "boot", 0, "held"),
        (HELD, ALIVE, RENEWED - 500, "boot", LEASE - 1, "held"),
        (HELD, ALIVE, RENEWED - 500, "boot", LEASE, "stale"),
        # unreadable: our own patience of 50
        (DAMAGED, None, 10**9, "boot", 0, "held"),
        (DAMAGED, None, 10**9, "boot", 49, "held"),
        (DAMAGED, None, 10**9, "boot", 50, "stale"),
    ],
)
def test_truth_table(  # the columns
    content: Content, alive: Liveness | None, now: int, boot: str, unchanged: int, state: str
) -> None:
    """The verdict follows from record, liveness, clock, boot, and what was seen."""
    liveness = () if alive is None else (alive,)
    assert verdict(content, liveness, Moment(now, boot, unchanged, 50)).state == state
