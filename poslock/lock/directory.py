"""The lock directory: where lock files and presence files live, and this process's presence in it.

Presence is how a process proves that it lives. It locks a file of its own before its first grant and never lets go;
the kernel drops that lock when the process ends, however it ends. A peer that gets a shared lock on the file knows
that the process is dead, with no PID to be reused or hidden by a namespace. A missing file means unknown.
"""

from __future__ import annotations

import os
import stat
from errno import ENOENT
from pathlib import Path
from threading import Lock as ThreadLock

from poslock.errors import LockFileError
from poslock.lock.ids import lock_file_name
from poslock.lock.system import SYSTEM, System
from poslock.lock.verdict import Liveness

_PRESENCE = ".presence"
_PRESENCE_TRIES = 3


class LockDirectory:
    """One lock directory as one process sees it through one `System`."""

    def __init__(self, path: str, system: System) -> None:
        self.path = path
        self.system = system
        self._thread_lock = ThreadLock()
        self._presence = _NO_PRESENCE

    def lock_path(self, position_id: str) -> str:
        """Where the lock file of a position is."""
        return f"{self.path}/{lock_file_name(position_id)}"

    def lock_paths(self) -> list[str]:
        """Every lock file, sorted; empty if the directory does not exist yet."""
        try:
            return sorted(f"{self.path}/{name}" for name in self.system.listing(self.path) if name.endswith(".lock"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LockFileError("", self.path, f"cannot be read: {error}", "pass another --lock-dir") from error

    def prepare(self) -> None:
        """Create the directory if need be, and refuse one in which others could plant files.

        Raises:
            LockFileError: it is no directory, somebody else's, or writable by everybody.
        """
        way_out = "use a directory of your own (lock_dir=, $POSLOCK_DIR)"
        try:
            self.system.make_directory(self.path)
            self.system.make_directory(f"{self.path}/{_PRESENCE}")
            status = self.system.stat(self.path)
        except OSError as error:
            raise LockFileError("", self.path, f"cannot be used as lock directory: {error}", way_out) from error
        if not stat.S_ISDIR(status.st_mode):
            raise LockFileError("", self.path, "is no directory", way_out)
        if status.st_uid != self.system.user_id():
            raise LockFileError("", self.path, f"belongs to user {status.st_uid}", way_out)
        if status.st_mode & stat.S_IWOTH:
            raise LockFileError("", self.path, "is writable by everybody", f"chmod o-w it, or {way_out}")

    def presence(self) -> str:
        """The name of this process's presence file, locked from here on until the process ends."""
        with self._thread_lock:
            owner, name, identity = self._presence
            if owner != self.system.process_id() or identity != self._identity(name):
                # First grant, a forked child, or somebody removed the file; then peers could not see us die.
                self._presence = self._new_presence()
            return self._presence[1]

    def liveness(self, presence: str) -> Liveness:
        """Whether the process behind *presence* lives; UNKNOWN when its file is gone or cannot be probed."""
        if "/" in presence or not presence:
            return Liveness.UNKNOWN
        try:
            descriptor = self.system.open(f"{self.path}/{_PRESENCE}/{presence}", create=False)
        except OSError:
            return Liveness.UNKNOWN
        try:
            return Liveness.DEAD if self.system.probe_presence(descriptor) else Liveness.ALIVE
        except OSError:
            return Liveness.UNKNOWN
        finally:
            self.system.close(descriptor)

    def _identity(self, presence: str) -> tuple[int, int]:
        try:
            status = self.system.stat(f"{self.path}/{_PRESENCE}/{presence}")
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    def _new_presence(self) -> tuple[int, str, tuple[int, int]]:
        pid = self.system.process_id()
        for _ in range(_PRESENCE_TRIES):
            name = f"{pid}-{self.system.random_name()}"
            descriptor = self.system.create(f"{self.path}/{_PRESENCE}/{name}")
            try:
                if self.system.try_lock_presence(descriptor):
                    # The descriptor stays open on purpose: the kernel closes it when this process dies.
                    return pid, name, self._identity(name)
            except BaseException:
                self.system.close(descriptor)
                raise
            self.system.close(descriptor)  # a sweeper probed the new file in this very moment
        raise OSError(ENOENT, "no presence file could be locked", f"{self.path}/{_PRESENCE}")


_NO_PRESENCE = (0, "", (0, 0))
_opened: dict[str, LockDirectory] = {}


def open_directory(lock_dir: str | os.PathLike[str] | LockDirectory | None) -> LockDirectory:
    """The lock directory *lock_dir*, or the default one: ``$POSLOCK_DIR``, else the user's state directory.

    One object per directory and process, because presence is one per process. Nothing is created yet.
    """
    if isinstance(lock_dir, LockDirectory):
        return lock_dir
    path = str(Path(lock_dir or os.environ.get("POSLOCK_DIR") or _state_directory()).resolve())
    return _opened.setdefault(path, LockDirectory(path, SYSTEM))


def _state_directory() -> str:
    from platformdirs import user_state_path  # noqa: PLC0415  # imported only where nobody named a directory

    return str(user_state_path("poslock"))
