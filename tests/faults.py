"""Faults at the seams: an exchange and a ledger that strike when a certain request is made.

The shipped code knows nothing of this: the guard is handed these in place of the real ones.
"""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Literal

from poslock.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from poslock.exchange.paper import PaperExchange

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True)
class Strike:
    """Send this process a signal, or raise, right before or after the n-th call of a method."""

    method: str
    when: Literal["before", "after"]
    what: str | Exception
    nth: int = 1

    def now(self) -> None:
        if isinstance(self.what, Exception):
            # Tests share it: a traceback that grows would keep all their guards, with their connections.
            raise self.what.with_traceback(None)
        signal.raise_signal(SIGNALS[self.what])  # this very thread stops here, whichever it is


class _Struck:
    """Calls of the real object, with strikes around them, and a log of them."""

    def __init__(self, strikes: tuple[Strike, ...]) -> None:
        self.strikes = strikes
        self.calls: list[str] = []
        self._counted: Counter[str] = Counter()

    def around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object) -> object:
            with self._struck(name):
                return method(*args)

        async def request(*args: object) -> object:
            with self._struck(name):
                return await method(*args)

        return request if iscoroutinefunction(method) else call

    @contextmanager
    def _struck(self, name: str) -> Iterator[None]:
        self._counted[name] += 1
        self.calls.append(name)
        due = [s for s in self.strikes if s.method == name and s.nth == self._counted[name]]
        for strike in due:
            if strike.when == "before":
                strike.now()
        yield
        for strike in due:
            if strike.when == "after":
                strike.now()


class StruckExchange:
    """A PaperExchange whose requests strike; *instead* holds other answers to some of them.

    They are made one after the other, at a real venue too, so that each of them can be struck.
    """

    side_by_side = False

    def __init__(self, exchange: PaperExchange, *strikes: Strike) -> None:
        self.exchange = exchange
        self.struck = _Struck(strikes)
        self.instead: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        attribute = self.instead.get(name) or getattr(self.exchange, name)
        return self.struck.around(name, attribute) if callable(attribute) and name != "time_ms" else attribute


class StruckLedger(Ledger):
    """A Ledger whose writes strike."""

    OF_A_CLOSE = ("sending", "filled", "book")
    WRITES = ("begin", *OF_A_CLOSE)
    OF_CHANGES = ("change", "sending_change", "end_change")

    def __init__(self, path: str, *strikes: Strike) -> None:
        super().__init__(path)
        self.struck = _Struck(strikes)
        for name in (*self.WRITES, *self.OF_CHANGES):
            setattr(self, name, self.struck.around(name, getattr(self, name)))
