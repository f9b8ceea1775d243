"""The market and the trader: prices move, and a trader enters, grows, reduces, flips and closes legs by hand.

The trader tracks what was entered on a leg where nothing is tracked, sometimes; else it is left to the bots.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Literal

from poslock import (
    CloseUnsettled,
    ExchangeUnavailable,
    LedgerError,
    LockTimeout,
    OrderRefused,
    Position,
    PositionAlreadyClosingError,
    PositionConflict,
)
from poslock.exchange.port import CloseOrder, Leg
from poslock.ledger.ledger import Ledger
from soak.watching import WatchedDirectory, WatchedGuard

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from poslock import PaperExchange
    from poslock.position import Side
    from soak.diary import Diary
    from soak.setting import Setting, Spot
    from soak.transit import Transit

_MEAN_PRICE = 50_000
_ONE_PLACE = Decimal("0.1")
_STEP = 0.004  # seconds between two things that happen
_PAYS = 0.05
_ACTS_EVERY = 8.0  # seconds, by hand on one leg, on average
_OTHER: dict[Side, Side] = {"long": "short", "short": "long"}


class Market:
    """The only one who enters, and who does anything by hand."""

    def __init__(self, setting: Setting, diary: Diary, transit: Transit) -> None:
        self._setting = setting
        self._diary = diary
        self._transit = transit
        self._chance = Random(f"{setting.seed} market")  # noqa: S311  # a play, not a secret
        self._spots = setting.spots()
        self._venues: list[PaperExchange] = [setting.venue(each) for each in range(setting.accounts)]
        directory = WatchedDirectory(setting.lock_dir, diary)
        directory.prepare()
        self._guards = [WatchedGuard(each, directory, setting, diary, setting.patience) for each in self._venues]
        self._ledger = Ledger(setting.ledger)
        self._by_hand = 0
        self._due = {each: monotonic() + self._pause() for each in self._spots}
        self._on_held: dict[Callable[[Spot], None], int] = {
            self._grow: 30,
            self._reduce: 30,
            self._flip: 15,
            self._close: 25,
        }

    def open_all(self) -> None:
        """Before the run: every position."""
        for spot in self._spots:
            self._venues[spot.account].set_price(spot.leg.symbol, _MEAN_PRICE)
        for spot in self._spots:
            self._enter(spot)
            self._track(spot)

    def run(self, done: Event) -> None:
        """Until *done*."""
        while not done.wait(_STEP):
            with suppress(LedgerError, ExchangeUnavailable):  # busy: the next step comes back to it
                self._deliver()
                self._step(self._chance.choice(self._spots))

    def _step(self, spot: Spot) -> None:
        if self._due[spot] <= monotonic():
            self._due[spot] = monotonic() + self._pause()
            self._act(spot)
        elif self._chance.random() < _PAYS:
            self._pay(spot)
        else:
            self._move(spot)

    def _pause(self) -> float:
        return self._chance.expovariate(1 / _ACTS_EVERY)

    def _act(self, spot: Spot) -> None:
        if self._venues[spot.account].holding(spot.leg) is None:
            self._enter(spot)
            if self._chance.random() < 0.5:  # noqa: PLR2004  # as often as not
                self._track(spot)
        else:
            (act,) = self._chance.choices([*self._on_held], [*self._on_held.values()])
            act(spot)

    def _deliver(self) -> None:
        for _ in range(self._transit.deliver(self._venues)):
            self._diary.tell("order arrived late")

    # By hand.

    def _enter(self, spot: Spot) -> None:
        """In one-way mode through flat, if the other side is held; sometimes at the price of the last position."""
        venue, (symbol, side) = self._venues[spot.account], (spot.leg.symbol, spot.leg.side)
        last = self._ledger.find(spot.id)
        if last is not None and self._chance.random() < 0.3:  # noqa: PLR2004  # now and then
            venue.set_price(symbol, last.position.entry_price)
        across = Decimal(0) if self._setting.kind(spot.account).hedge else venue.held(Leg(symbol, _OTHER[side]))
        venue.open_position(symbol, side, across + self._some(10, 120))
        self._protect(spot, venue.held(spot.leg))
        self._diary.tell("entered by hand", spot.id)

    def _grow(self, spot: Spot) -> None:
        added = self._some(5, 60)
        self._venues[spot.account].open_position(spot.leg.symbol, spot.leg.side, added)
        if self._chance.random() < 0.5:  # noqa: PLR2004  # as often as not
            self._protect(spot, added)
        self._diary.tell("grown by hand", spot.id)

    def _reduce(self, spot: Spot) -> None:
        held = self._venues[spot.account].held(spot.leg)
        self._order(spot, (held * Decimal(self._chance.choice(("0.2", "0.5")))).quantize(_ONE_PLACE), "reduced by hand")

    def _close(self, spot: Spot) -> None:
        """Sometimes, and enters again at once, at the same price."""
        self._order(spot, self._venues[spot.account].held(spot.leg), "closed by hand")
        if self._chance.random() < 0.4:  # noqa: PLR2004  # now and then
            self._enter(spot)

    def _flip(self, spot: Spot) -> None:
        """Through flat to the other side; where both sides are held, closed and entered again."""
        if self._setting.kind(spot.account).hedge:
            self._close(spot)
            return
        venue = self._venues[spot.account]
        venue.open_position(spot.leg.symbol, _OTHER[spot.leg.side], venue.held(spot.leg) + self._some(5, 50))
        self._diary.tell("flipped by hand", spot.id)

    def _order(self, spot: Spot, contracts: Decimal, what: str) -> None:
        if not contracts:
            return
        venue = self._venues[spot.account]
        self._by_hand += 1
        with suppress(OrderRefused):  # closed meanwhile, blocked, or nothing
            venue.place(CloseOrder(spot.leg, contracts, f"hand-{self._by_hand}", venue.time_ms(), 60_000))
            self._diary.tell(what, spot.id)

    def _protect(self, spot: Spot, contracts: Decimal) -> None:
        kind: Literal["stop_loss", "take_profit"]
        venue, leg = self._venues[spot.account], spot.leg
        if not contracts:
            return
        for kind in ("stop_loss", "take_profit"):
            is_above = (kind == "take_profit") == (leg.side == "long")
            trigger = (venue.price(leg) * Decimal("1.02" if is_above else "0.98")).quantize(_ONE_PLACE)
            venue.protect(leg.symbol, leg.side, kind, contracts, trigger)

    def _track(self, spot: Spot) -> None:
        """What is held, if nothing is tracked there: with the order that entered it, or without."""
        venue, guard = self._venues[spot.account], self._guards[spot.account]
        holding, trades = venue.holding(spot.leg), venue.trades(spot.leg, 0)
        if holding is None or self._ledger.on_leg(venue.account, spot.leg.symbol, spot.leg.side) is not None:
            return
        entered = [each.order_id for each in trades if each.effect == "entry" and each.order_id]
        position = Position(
            spot.id,
            spot.leg.symbol,
            spot.leg.side,
            holding.contracts,
            holding.entry_price or 1,
            contract_size=holding.contract_size,
            inverse=holding.inverse,
            settle=holding.settle,
            entry_fee=Decimal(self._chance.randint(-9, 99)) / 1000,
        )
        # A bot was first, or closed it; or what was there before has no end yet.
        with suppress(PositionConflict, PositionAlreadyClosingError, CloseUnsettled, LockTimeout):
            guard.track(position, entry_order_ids=self._chance.choice(((), entered[-1:])))
            self._diary.tell("tracked", spot.id)

    # The market.

    def _move(self, spot: Spot) -> None:
        venue = self._venues[spot.account]
        price = float(venue.price(spot.leg))
        price += self._chance.gauss(0, 200) + (_MEAN_PRICE - price) / 20
        venue.set_price(spot.leg.symbol, Decimal(price).quantize(_ONE_PLACE))

    def _pay(self, spot: Spot) -> None:
        amount = Decimal(self._chance.randint(-500, 500)) / 10_000
        self._venues[spot.account].pay_funding(spot.leg.symbol, amount, spot.leg.side)
        self._diary.tell("funding paid", spot.id)

    def _some(self, least: int, most: int) -> Decimal:
        return Decimal(self._chance.randint(least, most)) / 10
