"""The lock directory: where lock files and presence files live, safe from others.

A presence is how a process proves that it lives. It locks a file before its first grant and never lets go; the kernel
drops that lock when the process ends, however it ends. A peer that gets a shared lock on the file knows that the
process is dead, with no PID to be reused or hidden by a namespace; so does one who finds the name of a later process
there. A missing file means unknown.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from errno import EBADF
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from poslock.errors import LockFileError, shown
from poslock.lock.files.lock_file import SYSTEM_REFUSES, LockFile, OpenFiles
from poslock.lock.files.pipes import LifeLine, Wake, ring, watched
from poslock.lock.files.safety import (
    directory_fault,
    file_fault,
    mount_fault,
    mount_of,
    overlay_above,
    parent_fault,
    sharing_group,
    way_in,
)
from poslock.lock.files.slots import Taken, remove_belongings, said_in, slot_of, take
from poslock.lock.files.system import NO_DESCRIPTOR, SYSTEM, System
from poslock.lock.verdict import Liveness

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from poslock.lock.record import Waiting
    from poslock.lock.store import Entry, Store

ALLOW_NETWORK = "POSLOCK_ALLOW_NETWORK"
_SLUG_LENGTH = 40
_NAMES = str, os.PathLike
_NOT_SLUG = re.compile(r"[^A-Za-z0-9]+")
_WAY_OUT = "use a directory of your own (lock_dir=, --lock-dir, $POSLOCK_DIR)"
PARENT_WAY_OUT = "take the right to write there from others (chmod go-w, or chmod +t as on /tmp)"


class LockDirectory:
    """One lock directory as one process sees it through one `System`."""

    def __init__(self, path: str, system: System) -> None:
        self.path = path
        self.system = system
        self._presence_path = f"{path}/.presence"
        self.presence = Presence(self, self._presence_path)
        self.open_files = OpenFiles()
        self.group: int | None = None  # who shares it, known once it is prepared
        self._judged: tuple[int, ...] | None = None  # what it was like when it was found good
        self.holds: MutableMapping[tuple[str, object], object] = WeakValueDictionary()
        self.now_ns = self.own_ns = system.monotonic_ns

    @property
    def clock_name(self) -> str:
        """The name of the monotonic clock; empty where nobody knows which one it is."""
        return self.system.clock_name

    def entry(self, position_id: str) -> LockFile:
        """The lock file of a position, whether it is there or not."""
        return LockFile(self, f"{self.path}/{lock_file_name(position_id)}", position_id)

    def entries(self) -> list[LockFile]:
        """Every lock file, by name; none if the directory does not exist yet.

        Raises:
            LockFileError: the directory cannot be read.
        """
        try:
            names = sorted(name for name in self.system.listing(self.path) if name.endswith(".lock"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LockFileError("", self.path, f"cannot be read: {error.strerror}", _WAY_OUT) from error
        return [LockFile(self, f"{self.path}/{name}", None) for name in names]

    def present(self, entry: Entry) -> str:
        """The name of this process's presence, whose file is locked from here on until the process ends.

        Raises:
            LockFileError: there is none to be had.
        """
        # Whoever has the lock file open finds out by itself when the directory is another one.
        thorough = not self.open_files.has(entry.path)
        try:
            try:
                return self.presence.name(thorough=thorough)
            except FileNotFoundError:  # somebody removed the directory
                self.prepare(again=True)
                return self.presence.name(thorough=thorough)
        except OSError as error:
            why = f"cannot be used: {error.strerror}"
            raise LockFileError(entry.position_id or "", self._presence_path, why, SYSTEM_REFUSES) from error

    def wake(self, place: Waiting) -> Wake | None:
        """What wakes the one at *place*, to be made before it takes it; None if there is no pipe to be had."""
        try:
            return Wake(self.system, self.presence.path(place.presence), place.ticket, self.group)
        except OSError:
            return None

    def ring(self, place: Waiting) -> bool:
        """Wake the one who waits at *place*; whether anybody does, as far as can be said."""
        return ring(self.system, self.presence.path(place.presence), place.ticket)

    def watch(self, presence: str) -> int | None:
        """A descriptor that hangs up when the process behind *presence* ends; None if it cannot be watched."""
        return watched(self.system, self.presence.path(presence), self.group)

    def back_off_path(self, account: str) -> str:
        """Where it is written for how long an account should be left alone."""
        return f"{self.path}/{lock_file_name(account).removesuffix('.lock')}.backoff"

    def memory_path(self, account: str) -> str:
        """Where it is kept what a venue need not be asked for again."""
        return f"{self.path}/{lock_file_name(account).removesuffix('.lock')}.known"

    def prepare(self, *, again: bool = False) -> None:
        """Create the directory if need be, and refuse one in which others could plant files.

        Looks once, and *again* when somebody seems to have removed it; `look` sees what changes later.

        Raises:
            LockFileError: it is no directory, somebody else's, writable by everybody, in one where others could put
                another one in its place, or on a network file system.
        """
        if self._judged is not None and not again:
            return
        try:
            self._refuse_parents()  # before anything is made there
            self.system.make_directory(self.path)
            self._judge(self.system.stat(self.path))
            self.system.make_directory(self._presence_path)
            if self.group is not None:
                self.system.share(self._presence_path)
            self._refuse(self._presence_path, self.system.stat(self._presence_path))
        except OSError as error:
            raise self._unusable(error) from error

    def look(self) -> None:
        """Judge the directory anew if its path leads to another one by now, or if it is not what it was.

        Asked before a file is opened or made there by its name. A file that is open already needs no look: it counts
        only if its path still leads to it, and nobody else can move it out of a directory that was ours.

        Raises:
            FileNotFoundError: it is gone.
            LockFileError: as `prepare`.
        """
        if self._judged is None:  # who only reads
            return
        status = self.system.stat(self.path)
        if _nature(status) == self._judged:
            return
        try:
            self._refuse_parents()
            self._judge(status)
            with suppress(FileNotFoundError):  # made with the first presence there
                self._refuse(self._presence_path, self.system.stat(self._presence_path))
        except OSError as error:
            raise self._unusable(error) from error

    def parent_fault(self) -> tuple[str, str] | None:
        """A directory above this one in which others could put another one in its place, and what is wrong with it."""
        users, groups = {self.system.user_id()}, {self.system.group_id(), None}
        with suppress(FileNotFoundError):
            status = self.system.stat(self.path)
            if (group := sharing_group(status, self.system.group_ids())) is not None:
                users.add(status.st_uid)
                groups.add(group)
        for parent in map(str, PurePosixPath(self.path).parents):
            with suppress(FileNotFoundError):
                fault = parent_fault(self.system.stat(parent), users, groups)
                if fault is not None:
                    return parent, fault
        return None

    def _judge(self, status: os.stat_result) -> None:
        self.group = sharing_group(status, self.system.group_ids())
        self._refuse(self.path, status)
        self._refuse_mount()
        self._judged = _nature(status)

    def _refuse(self, path: str, status: os.stat_result) -> None:
        fault = directory_fault(status, self.system.user_id(), self.system.group_id(), self.group)
        if fault is not None:
            raise LockFileError("", path, fault, f"{_WAY_OUT}; {way_in(status, self.system.user_id())}")

    def _refuse_parents(self) -> None:
        if (found := self.parent_fault()) is not None:
            parent, fault = found
            why = f"{fault}: others could put another directory in the place of {self.path}"
            raise LockFileError("", parent, why, f"{_WAY_OUT}, or {PARENT_WAY_OUT}")

    def _unusable(self, error: OSError) -> LockFileError:
        named = error.filename if isinstance(error.filename, str) else self.path
        path = named if named.startswith(self.path) else self.path
        why = f"cannot be used as lock directory: {error.strerror}{'' if path == named else f' ({named})'}"
        return LockFileError("", path, why, SYSTEM_REFUSES if error.errno in NO_DESCRIPTOR else _WAY_OUT)

    def _refuse_mount(self) -> None:
        table = self.system.mount_table()
        mount = mount_of(self.path, table)
        fault = mount_fault(mount[0]) if mount else None
        if mount and fault and not (fault.only_if_shared and os.environ.get(ALLOW_NETWORK)):
            word = f", or set {ALLOW_NETWORK}=1 if one host alone uses it" if fault.only_if_shared else ""
            why = f"is on a network file system or the like ({mount[0]}): {fault.why}"
            raise LockFileError("", self.path, why, f"{_WAY_OUT} on a local disk{word}")
        if (point := overlay_above(self.path, table)) is not None:
            why = f"is in the upper directory of the overlay on {point}: who uses it there does not see locks made here"
            raise LockFileError("", self.path, why, f"use it through {point}, or {_WAY_OUT}")


_opened: dict[str, LockDirectory] = {}
_named: dict[str, tuple[tuple[int, int], LockDirectory]] = {}


def open_store(lock_dir: str | os.PathLike[str] | Store | None) -> Store:
    """The store *lock_dir*, or the directory that this names; as `open_directory`."""
    if lock_dir is None or isinstance(lock_dir, _NAMES) or not hasattr(lock_dir, "entries"):
        return open_directory(lock_dir)  # type: ignore[arg-type]  # what is none of them is refused there
    return lock_dir


def open_directory(lock_dir: str | os.PathLike[str] | LockDirectory | None) -> LockDirectory:
    """The lock directory *lock_dir*, or the default one: ``$POSLOCK_DIR``, else the user's state directory.

    ``~`` at its start is the home directory: who writes a service file has no shell that knows that. One object per
    directory and process, because presence is one per process. Nothing is created yet.

    Raises:
        LockFileError: the path leads nowhere (a loop of links, no home directory, a deleted working directory), or
            cannot be one (bytes, NUL, half a surrogate pair).
    """
    if isinstance(lock_dir, LockDirectory):
        return lock_dir
    named = lock_dir or os.environ.get("POSLOCK_DIR")
    try:
        name = _expanded(os.fspath(named or _state_directory()))
        # Following every link takes longer than a transition, so it is not done again while both paths lead where they
        # led. (test_a_link_to_a_directory_may_be_turned)
        known = _named.get(name)
        if known is not None:
            identity, directory = known
            if _identity(name) == identity and (name == directory.path or _identity(directory.path) == identity):
                return directory
        path = os.path.realpath(name)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise LockFileError("", _shown(named), str(error), _WAY_OUT) from error
    directory = _opened.setdefault(path, LockDirectory(path, SYSTEM))
    if os.path.isabs(name) and (known_as := _identity(path)) is not None:
        _named[name] = known_as, directory
    return directory


@lru_cache(maxsize=1024)
def lock_file_name(position_id: str) -> str:
    """``<slug>-<hash16>.lock``: the slug is for people, the hash alone tells positions apart."""
    slug = _NOT_SLUG.sub("-", position_id)[:_SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(position_id.encode()).hexdigest()[:16]
    return f"{slug or 'position'}-{digest}.lock"


def _identity(path: str) -> tuple[int, int] | None:
    """Which directory a path leads to, None if to none yet."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _nature(status: os.stat_result) -> tuple[int, ...]:
    """Which directory it is, and whose: an inode number alone may be used again."""
    return status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid


def _expanded(name: str) -> str:
    if isinstance(name, bytes):
        raise TypeError("must be text, not bytes")
    if name.startswith("~") and (name := os.path.expanduser(name)).startswith("~"):
        raise RuntimeError("no home directory is known")
    return name


def _shown(named: object) -> str:
    if not named:
        return "the default lock directory"
    return str(named) if isinstance(named, str | os.PathLike) else shown(named)


def _state_directory() -> str:
    from platformdirs import user_state_path  # noqa: PLC0415  # imported only where nobody named a directory

    return str(user_state_path("poslock"))


# Of every directory, also of one that nobody has any more: what was granted there is held.
_presences: list[int] = []


class Presence:
    """The presence files in one folder, and this process's own among them; see `poslock.lock.files.slots`.

    Its descriptor stays open on purpose: the kernel closes it at the end.
    """

    def __init__(self, directory: LockDirectory, folder: str) -> None:
        self._directory = directory
        self._folder = folder
        self._system = directory.system
        self._mine: Taken | None = None
        # By name, all that this process ever had: two threads that come first may each make one.
        self._own: dict[str, Taken] = {}
        self._retired: dict[str, object] = {}  # their files were removed, and their descriptors closed by us
        self._lost: set[str] = set()  # their descriptors were closed by somebody else
        self._life_lines: dict[str, LifeLine] = {}  # by name, as ``_own``
        self._process = self._this_process()

    def name(self, *, thorough: bool = True) -> str:
        """The name of this process's presence file, locked from here on until the process ends.

        Two threads that come here first may each make one. Both stay locked, so either name tells the truth. Only a
        *thorough* look finds out that the directory is another one by now.
        """
        if self._process != (process := self._this_process()):  # a forked child: what it inherited is its parent's
            self._own, self._retired, self._lost, self._mine = {}, {}, set(), None
            self._life_lines, self._process = {}, process
        mine = self._mine
        if mine is None or not self._is_seen(mine, thorough=thorough):
            if mine is not None:
                self._retire(mine)
            mine = self._new()
            # Of one that was there before under this number somebody closed the descriptor.
            self._lost.update(each.name for each in self._own.values() if each.descriptor == mine.descriptor)
            self._own[mine.name] = self._mine = mine
            _presences.append(mine.descriptor)
        if (line := self._life_lines.get(mine.name)) is None:
            self._life_lines[mine.name] = LifeLine(self._system, self.path(mine.name), self._directory.group)
        elif line.descriptor is None:
            line.open()
        return mine.name

    def is_own(self, name: str) -> bool:
        """Whether this process made the presence *name*: not its parent, not a child of its."""
        return name in self._own and self._process == self._this_process()

    def proves(self, name: str) -> bool:
        """Whether the presence *name*, one of this process's own, still shows that it lives.

        It does not once anything but poslock has closed the descriptor: then every peer takes this process for dead. Of
        a file that somebody removed nobody can say anything, and the lease decides.

        Raises:
            LockFileError: the system does not say.
        """
        if name not in self._lost and self._is_open(self._own[name]):
            return True
        if name in self._retired:  # asked last: another thread may have closed it just now
            return True
        self._lost.add(name)
        return False

    def is_lost(self, name: str) -> bool:
        """Whether the presence *name* was found not to prove anything any more."""
        return name in self._lost

    def path(self, name: str) -> str:
        """Where something of this name is, of a process that has this presence."""
        return f"{self._folder}/{name}"

    def slot_path(self, name: str) -> str:
        """Where the file is that proves the presence *name*."""
        return self.path(slot_of(name))

    def liveness(self, name: str) -> Liveness:
        """Whether the process behind *name* lives; UNKNOWN when its file is gone or cannot be probed.

        Raises:
            LockFileError: there is no descriptor left to look with.
        """
        try:
            if self.is_own(name) and self.proves(name):
                return Liveness.ALIVE
            descriptor = self._system.open(self.slot_path(name), write=False)
            try:
                status = self._system.status(descriptor)
                if file_fault(status, self._system.user_id(), self._directory.group) is not None:
                    return Liveness.UNKNOWN  # planted: it says nothing about a process of ours
                if self._system.probe_presence(descriptor):
                    return Liveness.DEAD
                said = said_in(self._system, descriptor, slot_of(name))
            finally:
                self._system.close(descriptor)
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                raise LockFileError(
                    "", self.slot_path(name), f"cannot be used: {error.strerror}", SYSTEM_REFUSES
                ) from error
            return Liveness.UNKNOWN
        if said == name:
            return Liveness.ALIVE
        return Liveness.DEAD if said is not None else Liveness.UNKNOWN

    def _this_process(self) -> tuple[int, int]:
        """Changes with every fork; the PID is for those that C code makes without Python's hooks."""
        return self._system.generation, self._system.process_id()

    def _is_open(self, mine: Taken) -> bool:
        """Whether its descriptor is still that of the presence file, and not closed or somebody else's."""
        try:
            status = self._system.status(mine.descriptor)
        except OSError as error:
            if error.errno != EBADF:
                why = f"cannot be used: {error.strerror}"
                raise LockFileError("", self.slot_path(mine.name), why, SYSTEM_REFUSES) from error
            return False
        return (status.st_dev, status.st_ino) == mine.identity

    def _is_seen(self, mine: Taken, *, thorough: bool) -> bool:
        try:
            status = self._system.status(mine.descriptor)
            if (status.st_dev, status.st_ino) != mine.identity or status.st_nlink != 1:
                return False
            if not thorough:
                return True
            status = self._system.stat(self.slot_path(mine.name))
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == mine.identity

    def _retire(self, mine: Taken) -> None:
        """Close *mine*, whose file was removed: peers could not see us die. Not if somebody else has closed it."""
        # Of two threads that see this one closes it: to the other its number may be something else by now.
        # (test_two_threads_that_find_their_presence_removed)
        if self.proves(mine.name) and self._retired.setdefault(mine.name, token := object()) is token:
            self._system.close(mine.descriptor)
            if (line := self._life_lines.pop(mine.name, None)) is not None:
                line.close()

    def _new(self) -> Taken:
        self._directory.look()
        with suppress(OSError, LockFileError):  # another one will do it
            remove_belongings(self._system, self._folder, self._directory.group, self.liveness)
        return take(self._system, self._folder, self._directory.group)
