from __future__ import annotations

import pytest

from poslock.errors import Holder
from poslock.lock.record import Content, Record, Unreadable, Waiting
from poslock.lock.verdict import GRACE_NS, Liveness, Moment, ahead, verdict

LEASE, RENEWED = 30, 1000
HOLDER = Holder(
    pid=1, host="h", presence="p", purpose="", token=7, granted_at=0.0, granted_ns=0, renewed_ns=RENEWED, lease_ns=LEASE
)
HELD = Record("btc-1", "held", "exclusive", 7, "boot", 0, (HOLDER,))
NO_BOOT = HELD._replace(boot_id="")
FREE = HELD._replace(state="free")
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
    liveness = {} if alive is None else {"p": alive}
    assert verdict(content, Moment(now, boot, unchanged, 50, liveness)).state == state


SHARED = HELD._replace(mode="shared", holders=(HOLDER, HOLDER._replace(presence="q", pid=2)))


@pytest.mark.parametrize(
    ("p", "q", "state", "living"),
    [(ALIVE, ALIVE, "held", 2), (DEAD, ALIVE, "held", 1), (ALIVE, DEAD, "held", 1), (DEAD, DEAD, "stale", 0)],
)
def test_each_reader_counts_by_itself(p: Liveness, q: Liveness, state: str, living: int) -> None:
    """A shared lock is held as long as one of its holders is."""
    found = verdict(SHARED, Moment(RENEWED, "boot", liveness={"p": p, "q": q}))
    assert (found.state, len(found.living)) == (state, living)


def test_a_broken_record_is_stale() -> None:
    """Its holders did not release it, whoever took note of that."""
    assert verdict(HELD._replace(state="broken"), Moment(RENEWED, "boot")).state == "stale"


LONG = 100 * GRACE_NS
WRITER, READER, OTHER = (
    Waiting("1-a", 1, False, RENEWED, LONG),
    Waiting("2-b", 2, True, RENEWED, LONG),
    Waiting("3-c", 3, False, RENEWED, LONG),
)
QUEUE = (WRITER, READER, OTHER)
FREED = FREE._replace(freed_ns=RENEWED, waiting=QUEUE)


@pytest.mark.parametrize(
    ("record", "place", "shared", "now", "dead", "expected"),
    [
        # in the order of arrival, newcomers last
        (FREED, WRITER, False, RENEWED, (), ()),
        (FREED, READER, True, RENEWED, (), (WRITER,)),
        (FREED, OTHER, False, RENEWED, (), (WRITER, READER)),
        (FREED, None, False, RENEWED, (), QUEUE),
        # readers pass readers, not writers
        (FREED, None, True, RENEWED, (), (WRITER, OTHER)),
        # the dead are passed over at once
        (FREED, READER, True, RENEWED, ("1-a",), ()),
        (FREED, OTHER, False, RENEWED, ("1-a", "2-b"), ()),
        # those who do not come are passed over after the grace, not before
        (FREED, None, False, RENEWED + GRACE_NS - 1, (), QUEUE),
        (FREED, None, False, RENEWED + GRACE_NS, (), ()),
        # a clock that is not ours cannot be waited for
        (FREED, None, False, RENEWED - 1, (), ()),
        (FREED._replace(boot_id="other"), None, False, RENEWED, (), ()),
        # while the lock is held there is no grace: a waiting writer keeps new readers out as long as it waits
        (SHARED._replace(waiting=(WRITER,)), None, True, RENEWED + 10 * GRACE_NS, (), (WRITER,)),
        (SHARED._replace(waiting=(READER,)), None, True, RENEWED, (), ()),
        # but not one that has been silent for its lease, for it was stopped
        (SHARED._replace(waiting=(WRITER,)), None, True, RENEWED + LONG - 1, (), (WRITER,)),
        (SHARED._replace(waiting=(WRITER,)), None, True, RENEWED + LONG, (), ()),
    ],
)
def test_who_comes_first(
    record: Record, place: Waiting | None, shared: bool, now: int, dead: tuple[str, ...], expected: tuple[Waiting, ...]
) -> None:
    """The queue as each contender sees it; the nearest comes first."""
    moment = Moment(now, "boot", liveness=dict.fromkeys(dead, DEAD))
    assert tuple(ahead(record, place, moment, shared=shared)) == expected[::-1]
