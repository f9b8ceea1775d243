"""Guards that write into the diary what they do to locks and ledger, before and after it."""

from __future__ import annotations

import os
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar, cast

from poslock import LockTimeout, PositionGuard
from poslock.bridge import ThreadPorts
from poslock.errors import PositionConflict, TokenRefused
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from poslock.exchange.port import Exchange
    from poslock.ledger.journal import CloseKey
    from poslock.lock.position_lock import PositionLock
    from poslock.position import Position
    from soak.diary import Diary
    from soak.setting import Setting

T = TypeVar("T")

# What the checker calls them.
_WRITES = {
    "begin": "begin",
    "sending": "write",
    "unsettled": "write",
    "filled": "write",
    "book": "book",
    "settle": "settle",
    "forget": "forget",
    "note": "write",
    "seen": "write",
    "change": "write",
    "sending_change": "write",
    "end_change": "write",
    "resize": "write",
}
# What the audit calls them, where that is always one line.
_EVENTS = {
    "begin": "intent",
    "unsettled": "unsettled",
    "book": "booked",
    "settle": "settled,booked",
    "forget": "forgotten",
    "sending_change": "sending",
    "resize": "adopted",
    "seen": "seen",
}


class WatchedDirectory(LockDirectory):
    """The lock directory of a process, which tells when a hold is over. One for all guards: presence is a process's."""

    def __init__(self, path: str, diary: Diary) -> None:
        super().__init__(os.path.realpath(path), SYSTEM)
        self.holds: MutableMapping[tuple[str, object], object] = _WatchedHolds(diary)


class _WatchedHolds(dict[tuple[str, object], object]):
    """The locks of a process, and their tokens, which a lock has forgotten by the end."""

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self._diary = diary
        self._tokens: dict[tuple[str, object], int] = {}

    def __setitem__(self, key: tuple[str, object], lock: object) -> None:
        self._end(key)
        super().__setitem__(key, lock)
        self._tokens[key] = cast("PositionLock", lock).token or 0

    def pop(self, key: tuple[str, object], *default: Any) -> Any:
        """Released, or found to be lost."""
        self._end(key)
        return super().pop(key, *default)

    def _end(self, key: tuple[str, object]) -> None:
        if (token := self._tokens.pop(key, None)) is not None:
            self._diary.answer("release", key[0], 0, token)


class WatchedGuard(PositionGuard):
    """A guard of one account whose acquires and writes are in the diary."""

    def __init__(
        self, exchange: Exchange, directory: WatchedDirectory, setting: Setting, diary: Diary, timeout: float
    ) -> None:
        super().__init__(exchange, lock_dir=directory, timeout=timeout, stale_after=setting.lease)
        # A guard takes no ports of others: what it holds of them is put aside here, for all its parts.
        object.__setattr__(self._operations.means, "ports", _WatchedPorts(diary, exchange))


class _WatchedPorts(ThreadPorts):
    def __init__(self, diary: Diary, exchange: Exchange) -> None:
        self._diary = diary
        self._new_hold: Callable[[], None] | None = getattr(exchange, "forget_looks", None)

    async def ledger(self, method: Callable[..., T], *args: Any) -> T:
        name = getattr(method, "__name__", "")
        if name == "track":
            begun = self._tracks(args[0], args[4])
        elif name == "sending_all":
            sent: T = await self._sends_all(method, args[0])
            return sent
        elif name in _WRITES:
            begun = [self._writes(method, name, args)]
        else:
            return await super().ledger(method, *args)
        try:
            answer = await super().ledger(method, *args)
        except TokenRefused:
            self._returned(begun, "refused")
            raise
        except PositionConflict:
            self._returned(begun, "rejected")
            raise
        except BaseException:
            self._returned(begun, "undecided")
            raise
        self._returned(begun, "done", getattr(answer, "generation", ""))
        return answer

    def _writes(self, method: Any, name: str, args: tuple[Any, ...]) -> int:
        key, token = args[0], args[1]
        # Nobody but the holder writes about it, and who is none any more is refused.
        began = name in {"sending", "filled"} and _is_open(method, key)
        words = name, token, key.generation, *_lines(name, args, began=began)
        return self._diary.invoke("begin" if began else _WRITES[name], key.position_id, *words)

    async def _sends_all(self, method: Any, dispatches: Any) -> Any:
        """A write on each of the positions, all of them in one commit."""
        begun = [self._writes(method, "sending", each) for each in dispatches]
        answers: list[object] = []
        try:
            answers = await super().ledger(method, dispatches)
        finally:
            for number, answer in zip_longest(begun, answers):
                refused = "refused" if isinstance(answer, TokenRefused) else "undecided"
                self._diary.returned(number, "done" if isinstance(answer, int) else refused)
        return answers

    def _tracks(self, position: Position, after: tuple[CloseKey, int] | None) -> list[int]:
        """One write on each of two positions, if it supersedes one."""
        begun = []
        if after is not None:
            key, token = after
            words = "supersede", token, key.generation, "later position", ""
            begun = [self._diary.invoke("supersede", key.position_id, *words)]
        return [*begun, self._diary.invoke("track", position.id, "track", 0, 0, "tracked", os.getpid())]

    def _returned(self, begun: list[int], outcome: str, word: object = "") -> None:
        for number in begun[:-1]:
            self._diary.returned(number, outcome)
        self._diary.returned(begun[-1], outcome, word)

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:  # noqa: ASYNC109  # the lock's own
        request = lock._request  # noqa: SLF001  # shared or not, and for how long: nobody but the record is told
        mode = "shared" if request.shared else "exclusive"
        number = self._diary.invoke("acquire", lock.position_id, mode, request.lease_ns)
        try:
            token = await super().acquire(lock, timeout)
        except LockTimeout:
            self._diary.returned(number, "refused")
            raise
        except BaseException:
            self._diary.returned(number, "undecided")
            raise
        self._diary.returned(number, "done", token)
        if self._new_hold is not None:
            self._new_hold()
        return token


def _is_open(method: Any, key: CloseKey) -> bool:
    return bool(method.__self__.standing(key).position.state == "open")


def _lines(name: str, args: tuple[Any, ...], *, began: bool) -> tuple[str, str]:
    """The lines of the audit that a write makes, and the detail by which its line is known, if it may make none."""
    match name:
        case "unsettled":
            return "unsettled", args[2]
        case "sending" | "filled":
            is_grown = name == "sending" and args[2].grown is not None
            return ",".join(["intent"] * began + ["adopted"] * is_grown + [name]), ""
        case "change":
            return ",".join(["change"] * len(args[2])), ""
        case "end_change":
            return ",".join(each.step for each in args[2:]), ""
        case "note":
            return args[2], ""
        case _:
            return _EVENTS[name], ""
