"""The account's exchange as one of several bots sees it: with faults, with a guard of its own, and in its own time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from faults import Strike, StruckExchange, StruckLedger
from poslock import LockLost, PaperExchange, PositionGuard
from poslock.exchange.port import Leg
from systems import elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account

SYMBOL = "BTC/USDT:USDT"
LEG = Leg(SYMBOL, "long")
DIED = LockLost("btc-1", "x", "test")

_LONGEST = 60


class Venue(StruckExchange):
    """The account's exchange with strikes, and a guard over it in what could be a process of its own."""

    def __init__(self, account: Account, *strikes: Strike, writes: tuple[Strike, ...] = (), **settings: Any) -> None:
        options = {key: settings.pop(key) for key in ("timeout", "stale_after") if key in settings}
        super().__init__(PaperExchange(account.exchange_path, **{"settles_within": 1.0, **settings}), *strikes)
        self.ledger = StruckLedger(f"{account.lock_dir}/ledger.db", *writes)
        self.guard = PositionGuard(self, lock_dir=elsewhere(account.lock_dir), ledger=self.ledger, **options)

    @property
    def calls(self) -> list[str]:
        return self.struck.calls


class Gate:
    """A request of a venue that says that it has begun, and waits to be let through."""

    def __init__(self, venue: Venue, method: str) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        request = getattr(venue.exchange, method)

        def gated(*args: object) -> object:
            self.begun.set()
            assert self.go_on.wait(_LONGEST)
            return request(*args)

        venue.instead[method] = gated


def until(happened: Callable[[], bool]) -> None:
    """Wait until it has, but not for ever."""
    ends = time.monotonic() + _LONGEST
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.01)


def at_once(*actions: Callable[[], object]) -> None:
    """Run them in threads of their own that begin together; raises the first error of any of them."""
    barrier, errors = threading.Barrier(len(actions)), []

    def run(action: Callable[[], object]) -> None:
        try:
            barrier.wait(_LONGEST)
            action()
        except BaseException as error:  # noqa: BLE001  # raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONGEST)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
