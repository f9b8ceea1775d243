"""One bot of the run: ``python -m soak.worker SETTING NAME``. It works until it is killed, or its parent is gone."""

from __future__ import annotations

import json
import os
import sys
import time
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from poslock import (
    ChangeRefused,
    ChangeUnsettled,
    CloseUnsettled,
    ExchangeError,
    ExchangeUnavailable,
    InvalidChange,
    InvalidPosition,
    LedgerError,
    LockFileError,
    LockLost,
    LockTimeout,
    PositionAlreadyClosingError,
    PoslockError,
)
from poslock.exchange.port import CloseOrder
from soak.diary import Diary
from soak.setting import Setting
from soak.venue import FaultyExchange
from soak.watching import WatchedDirectory, WatchedGuard

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock import PositionGuard
    from poslock.position import ClosedPosition
    from soak.setting import Spot

_SLOT = 0.25  # seconds for which all bots have the same position in mind
_CROWD = 0.4
_TOLD = {
    LockLost: "lock lost",
    CloseUnsettled: "unsettled",
    ChangeUnsettled: "unsettled",
    ChangeRefused: "change refused",
    InvalidChange: "change invalid",
    LockTimeout: "lock timed out",
}


class Bot:
    """Closes, changes, reads and recovers positions at random."""

    def __init__(self, setting: Setting, name: str) -> None:
        self._setting = setting
        self._chance = Random(f"{setting.seed} {name}")  # noqa: S311  # a play, not a secret
        self._diary = Diary(setting.directory, name)
        self._spots = setting.spots()
        accounts = range(setting.accounts)
        self._venues = [FaultyExchange(setting, each, self._chance, self._diary) for each in accounts]
        self._prices = [setting.venue(each) for each in accounts]
        self._directory = WatchedDirectory(setting.lock_dir, self._diary)
        self._began_ns = 0
        self._patient = [self._guard(each, setting.patience) for each in accounts]
        self._hasty = [self._guard(each, 0) for each in accounts]
        self._actions: dict[Callable[[Spot], None], int] = {
            self._close: 30,
            self._close_with_own_order: 5,
            self._close_several: 3,
            self._modify: 30,
            self._read: 25,
            self._recover: 7,
        }

    def act(self) -> None:
        """One random action on one random position, often the one that the others have in mind too."""
        (action,) = self._chance.choices([*self._actions], [*self._actions.values()])
        spot = self._spots[self._pick()]
        self._began_ns = time.monotonic_ns()
        try:
            action(spot)
        except PoslockError as error:
            self._tell_error(spot, error)

    def _pick(self) -> int:
        if self._chance.random() < _CROWD:
            slot = Random(f"{self._setting.seed} {int(time.time() / _SLOT)}")  # noqa: S311
            return slot.randrange(len(self._spots))
        return self._chance.randrange(len(self._spots))

    def _close(self, spot: Spot) -> None:
        guard = self._chance.choice((self._patient, self._patient, self._hasty))[spot.account]
        self._tell_closed(guard.close_position(spot.id, reason="soak"))

    def _close_several(self, spot: Spot) -> None:
        ids = [each.id for each in self._spots if each.account == spot.account][:3]
        for outcome in self._patient[spot.account].close_positions(ids):
            if outcome.closed is not None:
                self._tell_closed(outcome.closed)
            elif outcome.error is not None:
                self._tell_error(spot, outcome.error)

    def _close_with_own_order(self, spot: Spot) -> None:
        guard, venue = self._patient[spot.account], self._venues[spot.account]
        with guard.closing(spot.id, reason="own order code") as closing:
            tracked = guard.position(spot.id)
            sending = closing.sending()
            signed_at_ms, window_ms = sending.signed_at_ms, sending.receive_window_ms
            order = CloseOrder(spot.leg, tracked.left, closing.client_order_id, signed_at_ms, window_ms)
            try:
                venue.place(order)
                fills = venue.fills(spot.leg, tracked.tracked_at_ms)
                closed = closing.book([fill for fill in fills if fill.client_order_id == closing.client_order_id])
            except (ExchangeError, InvalidPosition):  # unknown, refused or filled in part: somebody recovers it
                self._diary.tell("own close left open")
                return
        self._tell_closed(closed)

    def _modify(self, spot: Spot) -> None:
        chance, price = self._chance, self._prices[spot.account].price(spot.leg)
        away = (price * Decimal(chance.randint(2, 30)) / 1000).quantize(Decimal("0.1"))
        loss, profit = (price - away, price + away) if spot.leg.side == "long" else (price + away, price - away)
        self._patient[spot.account].modify_position(
            spot.id,
            stop_loss=chance.choice((loss, loss, ..., None)),
            take_profit=chance.choice((profit, None)),
            reduce_by=chance.choice((None, None, Decimal(chance.randint(1, 30)) / 10)),
        )
        self._diary.tell("modified", spot.id)

    def _read(self, spot: Spot) -> None:
        began = time.monotonic()
        guard = self._patient[spot.account]
        with guard.reading(spot.id) as before:
            time.sleep(self._chance.uniform(0, self._setting.lease / 10))
            after = guard.position(spot.id)
            # Read again before the lease of the lock can have run out, whenever it was granted.
            in_time = time.monotonic() - began < self._setting.lease
        if in_time and before.state != "closed" and before != after:
            self._diary.tell("violation", f"{spot.id} changed while it was read: {before}, {after}")
        self._diary.tell("read", spot.id)

    def _recover(self, spot: Spot) -> None:
        for outcome in self._patient[spot.account].recover():
            if outcome.error is not None:
                self._tell_error(spot, outcome.error)
            else:
                self._diary.tell("recovered", outcome.position_id)
            if outcome.closed is not None:
                self._tell_closed(outcome.closed)

    def _guard(self, account: int, timeout: float) -> PositionGuard:
        return WatchedGuard(self._venues[account], self._directory, self._setting, self._diary, timeout)

    def _tell_closed(self, closed: ClosedPosition) -> None:
        self._diary.answer("closed", closed.position_id, self._began_ns, closed.token)
        self._diary.tell("closed", closed.position_id, closed.token, closed.net_pnl)

    def _tell_error(self, spot: Spot, error: PoslockError) -> None:
        told = next((text for kind, text in _TOLD.items() if isinstance(error, kind)), None)
        if isinstance(error, PositionAlreadyClosingError):
            told = f"already {error.state}"
            self._diary.answer(told, error.position_id, self._began_ns)
        elif isinstance(error, LedgerError | LockFileError | ExchangeUnavailable) and "busy" in str(error):
            told = "file busy"  # somebody is stopped in the middle of a write
        if told is None:
            self._diary.tell("violation", f"{spot.id}: unexpected {type(error).__name__}: {error}")
        else:
            self._diary.tell(told, spot.id, error)


def main() -> None:
    """Work."""
    parent = os.getppid()
    bot = Bot(Setting(**json.loads(sys.argv[1])), sys.argv[2])
    while os.getppid() == parent:
        bot.act()


if __name__ == "__main__":
    main()
