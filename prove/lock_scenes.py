"""What simulated bots do with a lock, and how far each scene is explored."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from poslock.errors import LockLost, LockStillHeld, LockTimeout
from poslock.lock.position_lock import PositionLock
from poslock.lock.transitions import Transitions
from prove.disk import SECOND, Disk, is_private, is_private_but_slots
from prove.lock_witness import POSITION, Seen
from prove.world import Bounds, State, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prove.actor import Actor

LEASE = 2.0
# Longer than a lock file may be busy before it is replaced, shorter than a lease.
_BUSY = 0.6
_MOMENT = 0.1


def bot(me: Actor, *, rounds: int = 1, shared: bool = False, renews: bool = False, lease: float = LEASE) -> str:
    """Acquire, act as long as that is allowed, release; so many times."""
    lock = _lock(me, shared=shared, lease=lease)
    for _ in range(rounds):
        _acquire(me, lock, shared=shared)
        _act(me, lock, renews=renews)
    return "done"


def _acquire(me: Actor, lock: PositionLock, *, shared: bool = False) -> None:
    me.tell("asks")
    token = lock.acquire()
    me.tell("acquired", token, _ends_ns(me, lock), shared)


def _act(me: Actor, lock: PositionLock, *, renews: bool = False) -> None:
    try:
        if renews:
            lock.renew()
            me.tell("renewed", _ends_ns(me, lock))
        me.tell("checking")
        lock.check()
        me.tell("checked")
    except LockLost as error:
        me.tell("lost", error.why)
        with suppress(LockLost):
            lock.renew()
            me.tell("revived")
    else:
        me.tell("released")
    with suppress(LockLost):
        lock.release()


def leaver(me: Actor) -> str:
    """Wait for a moment, and give up if that was too short."""
    lock = _lock(me)
    me.tell("asks")
    try:
        token = lock.acquire(timeout=_MOMENT)
    except LockTimeout:
        me.tell("left")
        return "left"
    me.tell("acquired", token, _ends_ns(me, lock), False)
    _act(me, lock)
    return "done"


def forking_bot(me: Actor, *, into_namespace: bool = False) -> str:
    """Fork while it holds: the child holds nothing, and wants it too."""
    lock = _lock(me)
    _acquire(me, lock)
    if me.fork(into_namespace=into_namespace):
        for claim in (lock.check, lock.renew, lock.release):
            with suppress(LockLost):
                claim()
                me.tell("inherited")
        return bot(me)
    _act(me, lock)
    return "done"


def daemon(me: Actor) -> str:
    """Close everything that is open, the presence too, while it holds; then lock once more."""
    lock = _lock(me)
    _acquire(me, lock)
    me.lose_presence()
    _act(me, lock, renews=True)
    return bot(me)


def careless_daemon(me: Actor) -> str:
    """The same without a renewal: only `check()` can tell it."""
    lock = _lock(me)
    _acquire(me, lock)
    me.lose_presence()
    _act(me, lock)
    return bot(me)


def corpse(me: Actor) -> str:
    """Close what proves that it lives while it holds: for everybody else it is dead."""
    _acquire(me, _lock(me))
    me.lose_presence()
    me.monotonic_ns()
    return "done"


def operator(me: Actor, *, force: bool) -> str:
    """Clear the lock."""
    me.monotonic_ns()  # when he comes
    me.tell("clearing", force)
    with suppress(LockStillHeld):
        Transitions(me.directory, POSITION).clear(force=force)
    me.tell("cleared")
    return "done"


def _lock(me: Actor, *, shared: bool = False, lease: float = LEASE) -> PositionLock:
    return PositionLock(POSITION, lock_dir=me.directory, shared=shared, timeout=None, stale_after=lease)


def _ends_ns(me: Actor, lock: PositionLock) -> int:
    """When the lease ends as the holder knows it; asked without its clock, which would be another call."""
    grant = lock._grant  # noqa: SLF001  # as above
    assert grant is not None
    return grant.ends_ns


@dataclass(frozen=True)
class Scene:
    """Bots, what may befall them, and how far it is explored.

    ``share`` is how much of all states it may have; ``opening`` what has happened already: each of these processes has
    come to its next call of that name. ``shows_slots``: presence files of dead processes are found and used again.
    come to its next call of that name. ``stopped`` is a process that never moves after that. ``prompt`` is how many
    seconds the living may take when nobody else stops; shorter than the `GRACE_NS` of one who does, and far shorter
    than a waiter sleeps whom nobody wakes.
    """

    name: str
    bots: tuple[Callable[[Actor], str], ...]
    bounds: Bounds
    share: float = 1
    jump: float = LEASE
    opening: tuple[tuple[int, str], ...] = ()
    shows_slots: bool = False
    stopped: int = 0
    prompt: float = 0.2

    @property
    def processes(self) -> int:
        """How many there are at first."""
        return len(self.bots)

    def start(self, _: Path) -> State:
        """Before anything has happened."""
        patience_ns = int((LEASE + 1.5) * SECOND)  # half a second for naps that take longer than they should
        # What a dead writer left half done is only known to be that after a lease.
        prompt_ns = patience_ns if self.bounds.torn else int(self.prompt * SECOND)
        if not self.bounds.torn and (self.bounds.jumps or any(not pid for pid, _ in self.opening)):
            prompt_ns = SECOND  # who was silent for a lease in its place has lost it, and finds that out by itself
        jump_ns = int(self.jump * SECOND)
        disk = Disk(shows_slots=self.shows_slots)
        private = is_private_but_slots if self.shows_slots else is_private
        world = World(
            self.bots,
            self.bounds,
            disk,
            Seen(),
            private,
            jump_ns,
            prompt_ns,
            patience_ns,
            nap_ns=SECOND // 100,
            stopped=self.stopped,
        )
        return State.at_start(world).opened(self.opening)


_GRANTED = ((1, "unlock"),)
_HELD = (*_GRANTED, (1, "monotonic_ns"))
_QUEUE = (*_HELD, (2, "wait"), (3, "wait"), (4, "wait"))
_renewing = partial(bot, renews=True)
_twice = partial(bot, rounds=2)
_reader = partial(bot, shared=True)

SCENES = (
    Scene("two, every interleaving", (_renewing, _renewing), Bounds(crashes=1, jumps=1), share=2),
    Scene("two, to the end", (_twice, _renewing), Bounds(crashes=1, jumps=1, preemptions=2)),
    Scene("three, every interleaving", (bot, bot, bot), Bounds(crashes=1, jumps=1), share=4),
    Scene("three, one holds", (bot, bot, bot), Bounds(crashes=1, jumps=1, preemptions=2), share=2, opening=_GRANTED),
    Scene("three, one stopped", (bot, bot, bot), Bounds(jumps=2, preemptions=3), share=2, jump=_BUSY),
    Scene(
        "a busy file is replaced",
        (bot, bot, bot),
        Bounds(crashes=1, preemptions=2),
        share=2,
        opening=((1, "write"), (2, "sleep"), (0, "jump"), (2, "open"), (2, "create")),
    ),
    Scene(
        # Both have begun to replace the file of a holder that is stopped while it renews.
        "two replacements",
        (_renewing, bot, bot),
        Bounds(crashes=1, preemptions=2),
        share=2,
        jump=_BUSY,
        opening=(
            *(*_GRANTED, (1, "write"), (2, "sleep"), (3, "sleep"), (0, "jump")),
            *((2, "create"), (3, "create"), (2, "rename"), (3, "rename")),
        ),
    ),
    Scene(
        "readers and a writer",
        (_reader, _reader, bot),
        Bounds(crashes=1, jumps=1, preemptions=2),
        share=2,
        opening=_GRANTED,
    ),
    Scene("two readers and a writer", (_reader, _reader, bot), Bounds(crashes=1, preemptions=2), opening=_HELD),
    Scene("a writer and readers", (bot, _reader, _reader), Bounds(jumps=1, preemptions=2), opening=_GRANTED),
    Scene("different leases", (bot, partial(bot, lease=_BUSY)), Bounds(jumps=1, preemptions=2), jump=_BUSY),
    Scene(
        "a renewed lease",
        (_renewing, bot),
        Bounds(jumps=1, preemptions=2),
        jump=1.2,
        # Granted, then more than half of the lease later renewed, then as much later again.
        opening=(*_GRANTED, (0, "jump"), (1, "write"), (1, "unlock"), (1, "monotonic_ns"), (0, "jump")),
    ),
    Scene("a fork while it holds", (forking_bot, bot), Bounds(crashes=1, jumps=1, preemptions=2)),
    Scene(
        "fork generations",
        (partial(forking_bot, into_namespace=True), bot),
        Bounds(crashes=1, jumps=1, preemptions=2),
    ),
    Scene("lost presence", (daemon, bot), Bounds(jumps=1, preemptions=2)),
    Scene("lost presence, no renewal", (careless_daemon, bot), Bounds(crashes=1, preemptions=2)),
    Scene(
        "a presence is used again beside a waiter",
        (bot, bot, bot),
        Bounds(crashes=1, preemptions=2),
        share=2,
        opening=(*_GRANTED, (2, "sleep")),
        shows_slots=True,
    ),
    Scene(
        "two want the presence of a dead one",
        (corpse, bot, bot),
        Bounds(crashes=1, preemptions=2),
        share=2,
        # The first is as good as dead, and one is about to write its own name.
        opening=((1, "close"), (1, "monotonic_ns"), (3, "write")),
        shows_slots=True,
    ),
    Scene("cleared with force", (bot, partial(operator, force=True), bot), Bounds(crashes=1, preemptions=2)),
    Scene("cleared if stale", (bot, partial(operator, force=False), bot), Bounds(jumps=1, preemptions=2)),
    Scene("torn writes", (_renewing, bot), Bounds(crashes=1, jumps=1, preemptions=2, torn=True)),
    Scene(
        "readers of torn writes",
        (_reader, _reader, _reader),
        Bounds(jumps=1, preemptions=2, torn=True),
        opening=_GRANTED,
    ),
    Scene("a queue", (bot, bot, bot, bot), Bounds(crashes=1, preemptions=1), share=2, opening=_QUEUE),
    Scene(
        "a queue, one leaves", (bot, leaver, bot, leaver), Bounds(crashes=1, preemptions=1), opening=_QUEUE, prompt=0.3
    ),
    Scene(
        "a queue, the first one stopped",
        (bot, bot, bot, bot),
        Bounds(crashes=1, preemptions=1),
        opening=_QUEUE,
        stopped=2,
        prompt=0.25 + 0.2,
    ),
    Scene("a queue of readers", (bot, _reader, _reader, bot), Bounds(crashes=1, preemptions=1), opening=_QUEUE),
    Scene(
        "a reader behind one that leaves",
        (partial(bot, shared=True, lease=30), leaver, _reader),
        Bounds(preemptions=0),
        share=0.2,
        opening=_QUEUE[:-1],
        stopped=1,
        prompt=0.3,
    ),
    Scene(
        "one who takes its place",
        (bot, bot),
        Bounds(crashes=1, preemptions=2),
        opening=(*_HELD, (2, "write"), (2, "unlock")),
    ),
    Scene(
        "a lock that became free",
        (_twice, bot, bot, bot),
        Bounds(crashes=1, preemptions=2),
        opening=(*_QUEUE, (1, "ring"), (1, "monotonic_ns"), (3, "wait")),
    ),
    Scene("the wall clock goes back", (_twice, bot), Bounds(wall_steps=1, crashes=1, preemptions=2)),
)
