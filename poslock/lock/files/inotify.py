"""Watching files with inotify, so that a waiter costs nothing until something happens.

Called directly, because the libraries for it look for the C library with `ctypes.util.find_library`, which starts other
programs. Until such a child has replaced itself it shares our presence, and if we are killed then, we look alive.
(test_the_first_wait_starts_no_program)
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

# Closing an inotify descriptor takes the kernel ten milliseconds, so they are kept for the next one who waits.
_MAX_IDLE = 16
_idle: list[InotifyWatcher] = []
_open: set[int] = set()

# As in inotify(7).
_MODIFY, _ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF, _DONT_FOLLOW = 0x2, 0x4, 0x8, 0x400, 0x800, 0x2000000
# A lock file: written, replaced or removed. Not closed: that everybody does who only looks closer.
_OF_LOCK = _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF | _DONT_FOLLOW
# A presence: the process that had it open ended, or somebody removed it.
_OF_PRESENCE = _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF | _DONT_FOLLOW
_libc = ctypes.CDLL(None, use_errno=True)


class InotifyWatcher:
    """A `poslock.lock.files.system.Watcher` over one inotify descriptor.

    Raises:
        OSError: the system has no inotify, or no descriptor left for it.
    """

    def __init__(self) -> None:
        self._inotify = _called("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        _open.add(self._inotify)
        self._watches: dict[str, tuple[int, tuple[int, int]]] = {}

    def watch(self, paths: frozenset[str]) -> bool:
        """Watch these paths and no others; whether any of them is new, or leads to another file now."""
        for path in self._watches.keys() - paths:
            self._forget(path)
        new = False
        for path in paths:
            with suppress(FileNotFoundError):  # what we look at next will show that
                status = os.lstat(path)
                identity = (status.st_dev, status.st_ino)
                if path not in self._watches or self._watches[path][1] != identity:
                    self._forget(path)
                    what = _OF_PRESENCE if "/.presence/" in path else _OF_LOCK
                    watch = _called("inotify_add_watch", self._inotify, os.fsencode(path), what)
                    self._watches[path] = (watch, identity)
                    new = True
        return new

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._inotify

    def drain(self) -> None:
        """Forget what has happened so far."""
        with suppress(BlockingIOError):
            os.read(self._inotify, 65536)  # what is left, if anything, wakes us once more

    def close(self) -> None:
        """Watch nothing any more; the descriptor is kept for another waiter, or given back."""
        for path in tuple(self._watches):
            self._forget(path)
        self.drain()
        if len(_idle) < _MAX_IDLE:
            _idle.append(self)
        else:
            _open.discard(self.fileno())
            os.close(self.fileno())

    def _forget(self, path: str) -> None:
        if path in self._watches:
            watch, _ = self._watches.pop(path)
            with suppress(OSError):  # the file was removed, and the watch with it
                _called("inotify_rm_watch", self._inotify, watch)


def _called(name: str, *arguments: int | bytes) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def take_watcher() -> InotifyWatcher:
    """A watcher that watches nothing yet.

    Raises:
        OSError: the system has no inotify, or no descriptor left for it.
    """
    while _idle:
        with suppress(IndexError):  # another thread was faster
            return _idle.pop()
    return InotifyWatcher()


def _close_inherited() -> None:
    # A forked child shares its parent's events, and must not take them.
    for descriptor in _open:
        with suppress(OSError):
            os.close(descriptor)
    _open.clear()
    _idle.clear()


os.register_at_fork(after_in_child=_close_inherited)
