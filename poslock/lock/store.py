"""What the lock asks of the place where its records are kept: a *store*, such as a directory of lock files.

Purpose: the rules of the lock are written once. A store keeps a record for each position, changes it whole or not at
all, says which process lives, and wakes who waits.

Sequence of a change: `Entry.change` calls the transition with a `Draft`, which reads the record as it is now and says
what is to be written. While it runs nobody else changes the record; or, where that cannot be, it is called again with
what somebody else has written. Whom the draft is to wake is woken after that.

Clocks: `Store.now_ns` and `Draft.now_ns` read the clock that the times in a record are of, and ``clock_name`` names it.
A holder looks at its own clock, `Store.own_ns`; `Draft.ends_ns` says when a lease ends by that.

Errors: `LockFileError` when the store cannot be used; `Busy`, `Uncertain` and `Gone` never leave the lock package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping, Sequence

    from poslock.errors import Holder
    from poslock.lock.record import Content, Record, Waiting
    from poslock.lock.verdict import Liveness

T = TypeVar("T")

# For so long a stopped process may keep a record from being changed: then the store takes it away from it. A change
# takes microseconds, and being wrong costs hardly more.
BUSY_NS = 500_000_000


class Busy(Exception):  # control flow inside the lock package, never raised out of it
    """Somebody else is changing the record; nothing was done."""


class Uncertain(Busy):
    """What was written may count, or not: look at the record again."""


class Gone(Exception):  # as above
    """There is no such record, or no place for one."""


class Draft(Protocol):
    """The record of a position while it is being changed."""

    @property
    def now_ns(self) -> Callable[[], int]:
        """The time, by the clock of the record."""

    def read(self) -> Content:
        """The record as it is now."""

    def write(self, record: Record, /) -> None:
        """Put *record* in its place.

        Raises:
            LockFileError: too many holders share it to be written down.
        """

    def ends_ns(self, holder: Holder, /) -> int:
        """When the lease of *holder*, of this process, ends by `Store.own_ns`."""

    def wake(self, waiting: Sequence[Waiting], next_of: tuple[Waiting, ...] = ()) -> None:
        """Wake all of *waiting*, and of *next_of* those whose turn it is, as `poslock.lock.verdict.wake_next` says."""


class Entry(Protocol):
    """The record of one position."""

    @property
    def position_id(self) -> str | None:
        """The position; None if it is not known before the record is read."""

    @property
    def path(self) -> str:
        """Where it is, for people."""

    def peek(self) -> Content:
        """What the record says. Never act on it: read again in a change.

        Raises:
            LockFileError: it cannot be read.
        """

    def change(self, transition: Callable[[Draft], T], *, create: bool = False, look_first: bool = False) -> T:
        """The result of *transition*. With *create* a record that is not there is made.

        With *look_first* nothing is read or written where it is known beforehand that it would not count.

        Raises:
            Busy, Uncertain: try again soon, and call `unblock` before.
            Gone: there is no such record, or with *create* no place for it.
            LockFileError: the store cannot be used; what was there before is there again.
        """

    def unblock(self) -> None:
        """After a `Busy`: take the record away from who has kept it busy for `BUSY_NS`, or died in the middle.

        Raises:
            LockFileError: the store cannot be used.
        """


class Presence(Protocol):
    """What proves that a process lives, by names that no other process ever has."""

    def is_own(self, name: str) -> bool:
        """Whether this process has, or had, the presence *name*; a forked child has not."""

    def is_lost(self, name: str) -> bool:
        """Whether the presence *name*, of this process, was found not to prove anything any more."""

    def proves(self, name: str) -> bool:
        """Whether the presence *name*, of this process, still shows that it lives.

        Raises:
            LockFileError: nobody can tell.
        """

    def liveness(self, name: str) -> Liveness:
        """Whether the process behind *name* lives.

        Raises:
            LockFileError: nobody can tell, for a reason of this process.
        """


class Wake(Protocol):
    """What wakes one who waits: a descriptor that can be read from then on."""

    @property
    def descriptor(self) -> int:
        """To be polled; another one after `again`."""

    def again(self) -> None:
        """Be woken once more.

        Raises:
            OSError: that cannot be.
        """

    def close(self) -> None:
        """Nobody waits here any more."""


class Host(Protocol):
    """What the lock asks of the system, whatever the store. Times are nanoseconds, of CLOCK_MONOTONIC or the wall."""

    host_name: str

    def monotonic_ns(self) -> int: ...

    def wall_ns(self) -> int: ...

    def sleep(self, seconds: float, /) -> None: ...

    def wait(self, descriptors: Sequence[int], seconds: float) -> list[int]:
        """Which of these descriptors can be read or have hung up, after *seconds* at the most."""

    def close(self, descriptor: int) -> None:
        """Close what was opened, but if somebody else has: its number may be of another file by now."""

    def random(self) -> float:
        """A number from 0 to 1 that nobody can tell before."""

    def process_id(self) -> int: ...


class Store(Protocol):
    """The records of all positions, as one process sees them."""

    @property
    def path(self) -> str:
        """Where it is, for people."""

    @property
    def system(self) -> Host:
        """The host that this process runs on."""

    @property
    def presence(self) -> Presence:
        """Of the processes that use the store."""

    @property
    def holds(self) -> MutableMapping[tuple[str, object], object]:
        """The locks of this process, by position and by who has acquired them; it keeps none of them alive."""

    @property
    def clock_name(self) -> str:
        """The name of the clock of the records; empty if it has none."""

    @property
    def now_ns(self) -> Callable[[], int]:
        """The time by that clock, or a little earlier."""

    @property
    def own_ns(self) -> Callable[[], int]:
        """The time by the clock on which a holder gives up."""

    def prepare(self, *, again: bool = False) -> None:
        """See that the store is there and fit for use; *again* when it seems to have gone.

        Raises:
            LockFileError: it is not.
        """

    def present(self, entry: Entry) -> str:
        """The name of this process's presence, which proves from here on that it lives to all who use *entry*.

        Raises:
            LockFileError: there is none to be had.
        """

    def entry(self, position_id: str) -> Entry:
        """The record of a position, whether it is there or not."""

    def entries(self) -> Iterable[Entry]:
        """Every record that is there.

        Raises:
            LockFileError: they cannot be listed.
        """

    def wake(self, place: Waiting) -> Wake | None:
        """What wakes the one at *place*, to be made before it takes it; None if there is nothing of the kind."""

    def watch(self, presence: str) -> int | None:
        """A descriptor that hangs up when the process behind *presence* ends; None if nobody can be told."""
