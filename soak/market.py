"""The market and the trader: prices move, positions that were closed are opened again, some are reduced by hand."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from poslock import ExchangeUnavailable, LedgerError, OrderRefused, Position
from poslock.exchange.port import CloseOrder
from soak.watching import WatchedDirectory, WatchedGuard

if TYPE_CHECKING:
    from threading import Event

    from poslock import PaperExchange
    from poslock.position import TrackedPosition
    from soak.diary import Diary
    from soak.setting import Setting, Spot
    from soak.transit import Transit

_MEAN_PRICE = 50_000
_ONE_PLACE = Decimal("0.1")
_STEP = 0.004  # seconds between two things that happen


class Market:
    """The only one who opens positions, so the fills after an opening belong to it until the next one."""

    def __init__(self, setting: Setting, diary: Diary, transit: Transit) -> None:
        self._setting = setting
        self._diary = diary
        self._transit = transit
        self._chance = Random(f"{setting.seed} market")  # noqa: S311  # a play, not a secret
        self._spots = setting.spots()
        self._venues: list[PaperExchange] = [setting.venue(each) for each in range(setting.accounts)]
        directory = WatchedDirectory(setting.lock_dir, diary)
        self._guards = [WatchedGuard(each, directory, setting, diary, setting.patience) for each in self._venues]
        self._by_hand = 0

    def open_all(self) -> None:
        """Before the run: every position."""
        for spot in self._spots:
            self._venues[spot.account].set_price(spot.leg.symbol, _MEAN_PRICE)
        for spot in self._spots:
            self._open(spot)

    def run(self, done: Event) -> None:
        """Until *done*."""
        while not done.wait(_STEP):
            with suppress(LedgerError, ExchangeUnavailable):  # busy: the next step comes back to it
                self._deliver()
                self._step(self._chance.choice(self._spots))

    def _step(self, spot: Spot) -> None:
        tracked = self._guards[spot.account].position(spot.id)
        if tracked.state == "closed":
            self._open(spot)
        happens = self._chance.random()
        if happens < 0.5:  # noqa: PLR2004  # half of the time
            self._move(spot)
        elif happens < 0.53:  # noqa: PLR2004
            self._reduce_by_hand(spot, tracked)
        elif happens < 0.56:  # noqa: PLR2004
            self._pay(spot)

    def _deliver(self) -> None:
        for _ in range(self._transit.deliver(self._venues)):
            self._diary.tell("order arrived late")

    def _open(self, spot: Spot) -> None:
        # At the venue first, and each part only if it is missing: a file may be busy in between.
        chance, venue, guard = self._chance, self._venues[spot.account], self._guards[spot.account]
        if venue.holding(spot.leg) is None:
            venue.open_position(spot.leg.symbol, spot.leg.side, Decimal(chance.randint(20, 200)) / 10)
        holding = venue.holding(spot.leg)
        if holding is None:
            return
        price, contracts = holding.entry_price, holding.contracts
        below, above = (price * Decimal(each) for each in ("0.98", "1.02"))
        stop, profit = (below, above) if spot.leg.side == "long" else (above, below)
        venue.protect(spot.leg.symbol, spot.leg.side, "stop_loss", contracts, stop)
        venue.protect(spot.leg.symbol, spot.leg.side, "take_profit", contracts, profit)
        # Tracked last: from then on bots close it, and what is entered after that would be left over.
        guard.track(
            Position(
                spot.id,
                spot.leg.symbol,
                spot.leg.side,
                contracts,
                price,
                contract_size=holding.contract_size,
                inverse=holding.inverse,
                settle=holding.settle,
                entry_fee=Decimal(chance.randint(-9, 99)) / 1000,
            )
        )
        self._diary.tell("opened", spot.id)

    def _move(self, spot: Spot) -> None:
        venue = self._venues[spot.account]
        price = float(venue.price(spot.leg))
        price += self._chance.gauss(0, 200) + (_MEAN_PRICE - price) / 20
        venue.set_price(spot.leg.symbol, Decimal(price).quantize(_ONE_PLACE))

    def _reduce_by_hand(self, spot: Spot, tracked: TrackedPosition) -> None:
        venue = self._venues[spot.account]
        share = self._chance.choice((Decimal(1), Decimal("0.3")))
        contracts = (tracked.position.contracts * share).quantize(_ONE_PLACE)
        self._by_hand += 1
        with suppress(OrderRefused):  # closed meanwhile, or blocked
            venue.place(CloseOrder(spot.leg, contracts, f"hand-{self._by_hand}", venue.time_ms(), 60_000))
            self._diary.tell("reduced by hand", spot.id)

    def _pay(self, spot: Spot) -> None:
        amount = Decimal(self._chance.randint(-500, 500)) / 10_000
        self._venues[spot.account].pay_funding(spot.leg.symbol, amount, spot.leg.side)
        self._diary.tell("funding paid", spot.id)
