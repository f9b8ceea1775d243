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
    OperationRefused,
    Position,
    PositionAlreadyClosingError,
    PositionConflict,
    PositionNotFound,
    PoslockError,
)
from poslock.closing.exits import Reads, view
from poslock.closing.leg import in_terms_of_the_table
from poslock.exchange.port import CloseOrder
from poslock.ledger.journal import CloseKey
from poslock.ledger.ledger import Ledger
from soak.diary import Diary
from soak.setting import Setting
from soak.venue import FaultyExchange
from soak.watching import WatchedDirectory, WatchedGuard

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock import PositionGuard
    from poslock.position import ClosedPosition, TrackedPosition
    from soak.setting import Spot

_SLOT = 0.25  # seconds for which all bots have the same position in mind
_CROWD = 0.4
_UNVERIFIED = 0.3
_TOLD = {
    LockLost: "lock lost",
    CloseUnsettled: "unsettled",
    ChangeUnsettled: "unsettled",
    ChangeRefused: "change refused",
    InvalidChange: "change invalid",
    LockTimeout: "lock timed out",
    PositionConflict: "conflict",
    OperationRefused: "operation refused",
    PositionNotFound: "not found",
}


class Bot:
    """Tracks, adopts, closes, changes, reads and recovers positions at random."""

    def __init__(self, setting: Setting, name: str) -> None:
        self._setting = setting
        self._chance = Random(f"{setting.seed} {name}")  # noqa: S311  # a play, not a secret
        self._diary = Diary(setting.directory, name)
        self._spots = setting.spots()
        accounts = range(setting.accounts)
        self._venues = [FaultyExchange(setting, each, self._chance, self._diary) for each in accounts]
        self._prices = [setting.venue(each) for each in accounts]
        self._directory = WatchedDirectory(setting.lock_dir, self._diary)
        self._ledger = Ledger(setting.ledger)
        self._began_ns = 0
        self._patient = [self._guard(each, setting.patience) for each in accounts]
        self._hasty = [self._guard(each, 0) for each in accounts]
        self._actions: dict[Callable[[Spot], None], int] = {
            self._close: 22,
            self._close_whole: 5,
            self._close_with_own_order: 5,
            self._close_several: 3,
            self._modify: 26,
            self._read: 18,
            self._recover: 7,
            self._track: 12,
            self._adopt: 5,
            self._settle: 1,
            self._forget: 1,
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

    def _id(self, spot: Spot) -> str:
        """The position that is alive on the leg, else the one that was last tracked under its own id."""
        alive = self._ledger.on_leg(self._prices[spot.account].account, spot.leg.symbol, spot.leg.side)
        return alive.position.id if alive else spot.id

    def _close(self, spot: Spot) -> None:
        guard = self._chance.choice((self._patient, self._patient, self._hasty))[spot.account]
        self._tell_closed(guard.close_position(self._id(spot), reason="soak"))

    def _close_whole(self, spot: Spot) -> None:
        self._tell_closed(self._patient[spot.account].close_position(self._id(spot), reason="soak", whole=True))

    def _close_several(self, spot: Spot) -> None:
        ids = [self._id(each) for each in self._spots if each.account == spot.account][:3]
        for outcome in self._patient[spot.account].close_positions(ids):
            if outcome.closed is not None:
                self._tell_closed(outcome.closed)
            elif outcome.error is not None:
                self._tell_error(spot, outcome.error)

    def _close_with_own_order(self, spot: Spot) -> None:
        guard, venue, position_id = self._patient[spot.account], self._venues[spot.account], self._id(spot)
        with guard.closing(position_id, reason="own order code") as closing:
            sending = closing.sending()
            client_id, signed_at_ms, window_ms = (
                closing.client_order_id,
                sending.signed_at_ms,
                sending.receive_window_ms,
            )
            try:
                contracts = self._of_the_position(spot, guard.position(position_id))
                if contracts:
                    venue.place(CloseOrder(spot.leg, contracts, client_id, signed_at_ms, window_ms))
                fills = venue.fills(spot.leg, 0)
                closed = closing.book([fill for fill in fills if fill.client_order_id == client_id])
            except (ExchangeError, InvalidPosition):  # unknown, refused or filled in part: somebody recovers it
                self._diary.tell("own close left open")
                return
        self._tell_closed(closed)

    def _of_the_position(self, spot: Spot, tracked: TrackedPosition) -> Decimal:
        """What such a bot knows by its own books; 0 if they do not agree with what is held."""
        venue, key = self._venues[spot.account], CloseKey(tracked.position.id, tracked.generation)
        known = self._ledger.standing(key)
        ours = {each.client_order_id: each.filled for each in known.changes if each.client_order_id and each.filled}
        holding = venue.holding(spot.leg)
        trades = venue.trades(spot.leg, known.leg.tracked.trades_since_ms)
        table = in_terms_of_the_table(tracked.position, known.leg, ours, spot=False)
        seen = view(table, Reads(holding, trades))
        return min(seen.held, seen.ours) if seen.agree and not seen.unseen else Decimal(0)

    def _track(self, spot: Spot) -> None:
        """What the venue shows to be held, or half of it, under its own id; on a leg that is flat, what it enters."""
        chance, venue, paper = self._chance, self._venues[spot.account], self._prices[spot.account]
        holding, kind = venue.holding(spot.leg), self._setting.kind(spot.account)
        if holding is None:
            price, contracts = paper.price(spot.leg), Decimal(chance.randint(10, 100)) / 10
            paper.open_position(spot.leg.symbol, spot.leg.side, contracts)
        else:
            price, contracts = holding.entry_price or Decimal(1), holding.contracts / chance.choice((1, 1, 2))
        entered = [each.order_id for each in paper.trades(spot.leg, 0) if each.effect == "entry" and each.order_id]
        position = Position(
            spot.id,
            spot.leg.symbol,
            spot.leg.side,
            contracts,
            price,
            contract_size=kind.contract_size,
            inverse=kind.inverse,
            settle=kind.settle,
            entry_fee=Decimal(chance.randint(-9, 99)) / 1000,
        )
        guard, verify = self._patient[spot.account], chance.random() > _UNVERIFIED
        guard.track(position, entry_order_ids=chance.choice(((), entered[-1:])), verify=verify)
        self._diary.tell("tracked", spot.id)

    def _adopt(self, spot: Spot) -> None:
        self._patient[spot.account].adopt(spot.leg.symbol, spot.leg.side)
        self._diary.tell("adopted", spot.id)

    def _settle(self, spot: Spot) -> None:
        closed = self._patient[spot.account].settle(self._id(spot), reason="soak")
        self._diary.tell("settled", spot.id)
        self._tell_closed(closed)

    def _forget(self, spot: Spot) -> None:
        self._patient[spot.account].forget(self._id(spot), reason="soak")
        self._diary.tell("forgotten", spot.id)

    def _modify(self, spot: Spot) -> None:
        chance, price = self._chance, self._prices[spot.account].price(spot.leg)
        away = (price * Decimal(chance.randint(2, 30)) / 1000).quantize(Decimal("0.1"))
        loss, profit = (price - away, price + away) if spot.leg.side == "long" else (price + away, price - away)
        self._patient[spot.account].modify_position(
            self._id(spot),
            stop_loss=chance.choice((loss, loss, ..., None)),
            take_profit=chance.choice((profit, None)),
            reduce_by=chance.choice((None, None, Decimal(chance.randint(1, 30)) / 10)),
        )
        self._diary.tell("modified", spot.id)

    def _read(self, spot: Spot) -> None:
        began, position_id = time.monotonic(), self._id(spot)
        guard = self._patient[spot.account]
        with guard.reading(position_id) as before:
            time.sleep(self._chance.uniform(0, self._setting.lease / 10))
            after = guard.position(position_id)
            # Read again before the lease of the lock can have run out, whenever it was granted.
            in_time = time.monotonic() - began < self._setting.lease
        if in_time and before.state in {"open", "closing"} and before != after:
            self._diary.tell("violation", f"{position_id} changed while it was read: {before}, {after}")
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
        elif isinstance(error, ExchangeUnavailable) and "connection lost" in str(error):
            told = "no answer"
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
