"""Systems for the lock layer with something amiss, over the real one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable


class Amiss:
    """The real system, with some calls or names replaced: ``Amiss(wall_ns=lambda: 0)``."""

    def __init__(self, **calls: Any) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return self._calls[name] if name in self._calls else getattr(SYSTEM, name)


class Clock:
    """A monotonic clock that a test moves; sleeping moves it too."""

    def __init__(self) -> None:
        self.now_ns = 10**15

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def directory(self, path: str | os.PathLike[str], **calls: Any) -> LockDirectory:
        return LockDirectory(
            str(path),
            Amiss(
                **{
                    "monotonic_ns": self.monotonic_ns,
                    "sleep": self.sleep,
                    "make_pipe": failing(OSError("no pipes here")),
                    **calls,
                }
            ),
        )


def elsewhere(path: str | os.PathLike[str]) -> LockDirectory:
    """The lock directory as another process would see it: with a presence and holds of its own."""
    return LockDirectory(str(path), SYSTEM)


def failing(error: Exception) -> Callable[..., Any]:
    """A call that raises."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def once_before(happens: Callable[[], object], call: Callable[..., Any]) -> Callable[..., Any]:
    """*call*, but something else happens right before its first time."""
    pending = [happens]

    def interleaved(*args: Any, **kwargs: Any) -> Any:
        if pending:
            pending.pop()()
        return call(*args, **kwargs)

    return interleaved


def once_after(happens: Callable[[], object], call: Callable[..., Any]) -> Callable[..., Any]:
    """*call*, but something else happens right after its first time."""
    pending = [happens]

    def interleaved(*args: Any, **kwargs: Any) -> Any:
        answer = call(*args, **kwargs)
        if pending:
            pending.pop()()
        return answer

    return interleaved


def descriptors_of(path: str) -> dict[int, str]:
    """What this process has open of *path*, or in it: of nothing else, which garbage collection may close meanwhile."""
    numbers = [int(each) for each in os.listdir("/proc/self/fd")]
    links = {number: f"/proc/self/fd/{number}" for number in numbers}
    opened = {number: os.readlink(link) for number, link in links.items() if os.path.lexists(link)}
    return {number: target for number, target in opened.items() if target == path or target.startswith(f"{path}/")}
