"""Watching files with inotify, so that a waiter costs nothing until something happens."""

from __future__ import annotations

import os
from contextlib import suppress

from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # it has no types

# Closing an inotify descriptor takes the kernel ten milliseconds, so they are kept for the next one who waits.
_MAX_IDLE = 16
_idle: list[InotifyWatcher] = []
_open: set[int] = set()

# A lock file: written, replaced or removed. Not closed: that everybody does who only looks closer.
_OF_LOCK = flags.MODIFY | flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF | flags.DONT_FOLLOW
# A presence: the process that had it open ended, or somebody removed it.
_OF_PRESENCE = flags.CLOSE_WRITE | flags.DELETE_SELF | flags.MOVE_SELF | flags.DONT_FOLLOW


class InotifyWatcher:
    """A `poslock.lock.waking.Watcher` over one inotify descriptor.

    Raises:
        OSError: the system has no inotify, or no descriptor left for it.
    """

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True, closefd=False)
        _open.add(self._inotify.fileno())
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
                    self._watches[path] = (self._inotify.add_watch(path, what), identity)
                    new = True
        return new

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return int(self._inotify.fileno())

    def drain(self) -> None:
        """Forget what has happened so far."""
        with suppress(BlockingIOError):
            os.read(self._inotify.fileno(), 65536)  # what is left, if anything, wakes us once more

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
                self._inotify.rm_watch(watch)


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
