"""What child processes do in tests of the lock's failures: ``python lock_actors.py FUNCTION SETTINGS``."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

from actors import hear, say
from poslock import PositionLock, PoslockError
from poslock.lock import contender
from poslock.lock.files.back_off import BackOffFile
from poslock.lock.files.directory import open_directory
from poslock.lock.files.system import SYSTEM
from poslock.lock.status import lock_status
from poslock.lock.transitions import Transitions

MARK = "/poslock-test-mark-"
_PR_SET_PTRACER = 0x59616D61
_FEW_DESCRIPTORS = 64
_LONG_NS = 10**12
_ANY = ctypes.c_ulong(-1)


def perform(stale_after: float, *, calm: bool = False) -> None:
    """Do to a lock what it is told, one line at a time, and say how each call ended.

    If *calm*, what was seen a moment ago is new enough: under a tracer everything takes long, and now and then longer.
    """
    if calm:
        contender._FRESH_NS = _LONG_NS
    # Before a tracer is told to come; see Performer.traced.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    # Where Yama restricts ptrace to descendants: our tracer is a sibling.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    performer = Performer(stale_after)
    say(ready=True)
    while True:
        word, _, rest = hear().partition(" ")
        say(**getattr(performer, word)(*rest.split()))


class Performer:
    """What `perform` can be told: a word is a method, what follows are its arguments."""

    def __init__(self, stale_after: float) -> None:
        self._stale_after = stale_after
        self._lock: PositionLock | None = None
        self._transitions: Transitions | None = None
        self._hoard: list[int] = []
        self._back_off: BackOffFile | None = None

    def lock(self, position: str, lock_dir: str) -> dict[str, Any]:
        """All later words are about this one."""
        return self._set(position, lock_dir, shared=False)

    def share(self, position: str, lock_dir: str) -> dict[str, Any]:
        """As `lock`, of a lock in shared mode."""
        return self._set(position, lock_dir, shared=True)

    def _set(self, position: str, lock_dir: str, *, shared: bool) -> dict[str, Any]:
        lease = self._stale_after
        self._lock = PositionLock(position, lock_dir=lock_dir, shared=shared, stale_after=lease, timeout=0)
        self._transitions = Transitions(open_directory(lock_dir), position)
        return {"lock": position}

    def acquire(self, timeout: str = "0") -> dict[str, Any]:
        return attempt(self._lock, "acquire", timeout=float(timeout))

    def check(self) -> dict[str, Any]:
        return attempt(self._lock, "check")

    def renew(self) -> dict[str, Any]:
        return attempt(self._lock, "renew")

    def release(self) -> dict[str, Any]:
        return attempt(self._lock, "release")

    def replace(self) -> dict[str, Any]:
        """Replace a lock file that a stopped process keeps busy: a waiter does that when it has waited enough."""
        assert self._transitions is not None
        file: Any = self._transitions.entry
        file._busy = 0, SYSTEM.monotonic_ns()
        return attempt(file, "unblock")

    def clear(self) -> dict[str, Any]:
        """As ``poslock clear --stale`` does it."""
        return attempt(self._transitions, "clear", force=False)

    def status(self) -> dict[str, Any]:
        """What is shown of the lock, and of its first holder."""
        assert self._lock is not None
        directory = open_directory(os.path.dirname(self._lock.path))
        lock = lock_status(directory, self._lock.position_id)
        return {"state": lock.state, "alive": lock.holders[0].alive, "age_s": lock.holders[0].age_s}

    def hold_back(self, lock_dir: str) -> dict[str, Any]:
        """Tell all processes to wait for 20 s; for how long that is for this one."""
        directory = open_directory(lock_dir)
        directory.prepare()
        self._back_off = BackOffFile(directory, "account", ("all",), 2000)
        self._back_off.hold("all", 20)
        return self.left()

    def left(self) -> dict[str, Any]:
        """For how long this process waits."""
        assert self._back_off is not None
        return {"left": self._back_off.left("all")}

    def traced(self, word: str, *arguments: str) -> dict[str, Any]:
        """Begin on SIGUSR1: a tracer attaches before, and what it counts first is the same in every run."""
        say(waiting=True)
        signal.sigwait({signal.SIGUSR1})
        os.access(f"{MARK}begin", os.F_OK)
        outcome: dict[str, Any] = getattr(self, word)(*arguments)
        os.access(f"{MARK}end", os.F_OK)
        return outcome

    def close(self, descriptor: str) -> dict[str, Any]:
        os.close(int(descriptor))
        return {"closed": descriptor}

    def descriptors(self) -> dict[str, Any]:
        """What this process has open."""
        links = (f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd"))
        return {"open": sorted(os.readlink(each) for each in links if os.path.lexists(each))}

    def forget(self) -> dict[str, Any]:
        """Do not keep the file of the lock open any more, as if many others had been used since."""
        assert self._lock is not None
        kept = open_directory(os.path.dirname(self._lock.path)).open_files.take(self._lock.path)
        assert kept is not None
        kept.close()
        return {"forgotten": self._lock.position_id}

    def starve(self, spare: str) -> dict[str, Any]:
        """Use up the descriptors that a process may have, but for so many."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with suppress(OSError):
            while True:
                self._hoard.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(int(spare)):
            os.close(self._hoard.pop())
        return {"hoarded": len(self._hoard)}

    def feed(self) -> dict[str, Any]:
        while self._hoard:
            os.close(self._hoard.pop())
        return {"hoarded": 0}

    def limit_file_size(self, size: str) -> dict[str, Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return {"largest_file": size}


def attempt(lock: Any, operation: str, **options: object) -> dict[str, Any]:
    """How one call on the lock ended."""
    try:
        getattr(lock, operation)(**options)
    except Exception as error:  # noqa: BLE001  # an error of the wrong kind is what the test looks for
        return {"outcome": type(error).__name__, "typed": isinstance(error, PoslockError), "text": str(error)}
    return {"outcome": "ok"}


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
