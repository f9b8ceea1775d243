"""Presence files, used one process after the other: a *slot* is a file whose name is a number.

Purpose: the folder does not grow with every process that ever lived. It has as many files as processes lived at one
time, and where these are more than `MOST_LOOKS`, so that not every file is looked at, a few times as many at the most.

A process that lives holds an exclusive lock on a slot, and the slot says its *presence*, a name that no other process
ever has: ``<slot>-<random>``. Peers ask for a presence by that name.

Taking a slot, for T:

1. T gets a shared lock on it, so its process has ended, or the slot is new and nobody knows it.
2. T writes its own name. From here on the name that was there is known for one of a dead process, whoever has a lock.
3. T gets an exclusive lock in place of the shared one, and writes its name once more: another one who was here at the
   same time may have written its own.
4. Only now T tells its name to anybody.

Asking about a presence: if its slot is not locked, its process is dead. If it is, and says another name, too: only who
has a lock on a slot writes there, and nobody else gets one while its process lives. If it says the name, it lives. So a
dead holder is known for dead before, while and after its slot is taken, and there is nothing to remove that a record
may still name. If T dies or is stopped after 1, the slot says a dead name and is free, or kept from others; after 2 or
3 it says a name that nobody knows. A slot that somebody removed says nothing of its presence, nor does the next one:
numbers are drawn at random, so none comes a second time.

Errors: OSError.
"""

from __future__ import annotations

import re
from contextlib import suppress
from errno import EAGAIN
from typing import TYPE_CHECKING, NamedTuple

from poslock.lock.files.pipes import is_abandoned
from poslock.lock.files.safety import file_fault
from poslock.lock.files.system import NO_DESCRIPTOR, write_all
from poslock.lock.verdict import Liveness

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from poslock.lock.files.system import System

_NAME = re.compile(r"[0-9]+-[0-9a-f]+")
_LONGEST = 400
_SLOTS = 10**15
_TRIES = 3
# So many slots are looked at for a new presence, and so many processes whose belongings may be removed.
MOST_LOOKS = 16


class Taken(NamedTuple):
    """A slot of this process, and the name that it says."""

    name: str
    descriptor: int
    identity: tuple[int, int]


def slot_of(name: str) -> str:
    """The slot that belongs to a presence."""
    return name.partition("-")[0]


def take(system: System, folder: str, group: int | None) -> Taken:
    """A slot in *folder* for this process: that of a dead one, if there is one among those that are looked at."""
    for slot in _some(system, filter(str.isdecimal, system.listing(folder))):
        if (taken := _taken_over(system, f"{folder}/{slot}", slot, group)) is not None:
            return taken
    for _ in range(_TRIES):
        slot = str(int(system.random_name(), 16) % _SLOTS)
        descriptor = system.create(f"{folder}/{slot}")
        try:
            if group is not None:
                system.share(descriptor)
            taken = _claimed(system, descriptor, slot)
        except BaseException:
            system.close(descriptor)
            raise
        if taken is not None:
            return taken
        system.close(descriptor)  # somebody looked at the new one in this very moment
    raise OSError(EAGAIN, "no presence file could be locked", folder)


def remove_belongings(system: System, folder: str, group: int | None, liveness: Callable[[str], Liveness]) -> None:
    """Remove what dead processes left behind under their names, with a dot and more: of some of them at a time.

    If nobody knows whether a process lives, because its slot was removed, that is each pipe that nobody has open.
    """
    belongings: dict[str, list[str]] = {}
    for entry in system.listing(folder):
        name, dot, _ = entry.partition(".")
        if dot and _NAME.fullmatch(name):
            belongings.setdefault(name, []).append(f"{folder}/{entry}")
    for name in _some(system, belongings):
        if (alive := liveness(name)) is not Liveness.ALIVE:
            for path in belongings[name]:
                with suppress(OSError):  # another one removed it just now
                    if alive is Liveness.DEAD or is_abandoned(system, path, group):
                        system.unlink(path)


def said_in(system: System, descriptor: int, slot: str) -> str | None:
    """The name that a slot says; None if it says nothing that poslock has written there."""
    name = system.read(descriptor, _LONGEST, 0).partition(b"\n")[0].decode("ascii", "replace")
    return name if _NAME.fullmatch(name) and slot_of(name) == slot else None


def _taken_over(system: System, path: str, slot: str, group: int | None) -> Taken | None:
    try:
        identity = _identity_if_dead(system, path, group)
        if identity is None:
            return None
        descriptor = system.open(path)
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise
        return None
    taken = None
    try:
        if _identity(system.status(descriptor)) == identity:
            taken = _claimed(system, descriptor, slot)
    finally:
        if taken is None:
            system.close(descriptor)
    return taken


def _identity_if_dead(system: System, path: str, group: int | None) -> tuple[int, int] | None:
    descriptor = system.open(path, write=False)
    try:
        status = system.status(descriptor)
        is_ours = file_fault(status, system.user_id(), group) is None
        return _identity(status) if is_ours and system.probe_presence(descriptor) else None
    finally:
        system.close(descriptor)


def _claimed(system: System, descriptor: int, slot: str) -> Taken | None:
    """The slot, taken; None if somebody else has a lock on it, or it was removed."""
    name = f"{slot}-{system.random_name()}"
    for lock in (system.probe_presence, system.try_lock_presence):
        if not lock(descriptor):
            return None
        write_all(f"{name}\n".encode(), system, descriptor)
    status = system.status(descriptor)
    return Taken(name, descriptor, _identity(status)) if status.st_nlink == 1 else None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _some(system: System, names: Iterable[str]) -> list[str]:
    """So many of *names* as are looked at: all, or from a random one on some that are far from each other."""
    every = sorted(names)
    if len(every) <= MOST_LOOKS:
        return every
    first, step = int(system.random_name(), 16), len(every) // MOST_LOOKS
    return [every[(first + number * step) % len(every)] for number in range(MOST_LOOKS)]
