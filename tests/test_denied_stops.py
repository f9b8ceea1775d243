"""Exit orders of ours that the venue has taken and denies for a while: none is forgotten, and none is set beside it."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from faults import StruckExchange
from poslock import ClosedPosition, InvalidChange, PaperExchange, Position, PositionGuard
from venue import LEG, SYMBOL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from poslock.exchange.port import Leg, Order, StopOrder

_DENIES_FOR = 10


class Account:
    """A paper account, in which 15 contracts are held and 10 of them tracked, on a clock that runs as anybody sleeps.

    Its stop orders have no client order id in the list, and are not found for ten seconds after they were placed; if it
    *lists* none of those either. If it *cancels_unlisted*, it does not do so either.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        lists: bool,
        cancels_unlisted: bool = False,
        held: int = 15,
    ) -> None:
        self.now = 1e9
        self.denies_for = _DENIES_FOR
        monkeypatch.setattr("poslock.bridge.time.sleep", self._sleep)
        terms: Any = {"settles_within": 1.0, "clock": lambda: self.now, "cancels_unlisted": cancels_unlisted}
        self.paper = PaperExchange(folder / "venue.db", denies_for=_DENIES_FOR, **terms)
        self.paper.set_price(SYMBOL, 60_000)
        self.paper.open_position(SYMBOL, "long", held)
        self._lists = lists
        self._placed_at: dict[str, float] = {}
        venue: Any = StruckExchange(self.paper)
        venue.instead.update(place_stop=self._place_stop, stop=self._stop, open_orders=self._open_orders)
        venue.instead["cancel_stops"] = self._cancel_stops
        self.guard = PositionGuard(venue, lock_dir=folder / "locks")
        self.guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))

    def resting(self) -> list[tuple[Any, Any]]:
        """Prices and contracts of what rests."""
        return sorted((each.trigger_price, each.contracts) for each in self.paper.open_orders(LEG))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _place_stop(self, order: StopOrder) -> Order:
        placed = self.paper.place_stop(order)
        self._placed_at[placed.order_id] = self.now
        return placed

    def _stop(self, order: StopOrder) -> Order | None:
        found = self.paper.stop(order)
        return None if found is None or self._is_denied(found) else found

    def _open_orders(self, leg: Leg) -> list[Order]:
        listed = self.paper.open_orders(leg)
        return [replace(each, client_order_id=None) for each in listed if self._lists or not self._is_denied(each)]

    def _cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        return self.paper.cancel_stops([each for each in orders if self._stop(each) is not None])

    def _is_denied(self, order: Order) -> bool:
        return self.now < self._placed_at.get(order.order_id, 0) + self.denies_for


@pytest.fixture(params=[True, False], ids=["listed", "unlisted"])
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Account:
    return Account(tmp_path, monkeypatch, lists=request.param)


def test_an_order_that_was_just_placed_is_replaced_too(account: Account) -> None:
    """Twice in a row, beside what others hold, where only what is known to be ours goes."""
    account.paper.protect(SYMBOL, "long", "stop_loss", 5, 50_000)
    account.guard.modify_position("btc-1", stop_loss=57_000)
    account.guard.modify_position("btc-1", stop_loss=58_000)
    account.now += _DENIES_FOR
    assert account.resting() == [(50_000, 5), (58_000, 10)]


def test_an_order_of_another_kind_is_not_waited_for(account: Account) -> None:
    """Both prices are set in one call, and the take-profit does not wait for the stop-loss to show."""
    account._lists, began = True, account.now
    account.guard.modify_position("btc-1", stop_loss=57_000, take_profit=65_000)
    assert account.now - began < _DENIES_FOR


def test_a_ladder_that_was_just_placed_is_replaced_too(account: Account) -> None:
    """All of its rungs."""
    account.guard.modify_position("btc-1", take_profit=[(61_000, 4), (62_000, 6)])
    account.guard.modify_position("btc-1", take_profit=[(63_000, 3), (64_000, 7)])
    account.now += _DENIES_FOR
    assert account.resting() == [(63_000, 3), (64_000, 7)]


def test_an_order_that_was_just_placed_is_swept(account: Account) -> None:
    """Of a position that is closed at once."""
    account.guard.modify_position("btc-1", take_profit=[(61_000, 4), (62_000, 6)])
    assert account.guard.close_position("btc-1").left_at_venue == 5
    account.now += _DENIES_FOR
    assert account.resting() == []


def test_a_stop_loss_that_was_just_placed_protects_the_position(account: Account) -> None:
    """The price has passed the next one: nothing is closed while this one rests."""
    account.guard.modify_position("btc-1", stop_loss=57_000)
    account.paper.set_price(SYMBOL, 59_000)
    with pytest.raises(InvalidChange, match="57000 protects it"):
        account.guard.modify_position("btc-1", stop_loss=59_500, or_close=True)
    assert account.paper.held(LEG) == 15


@pytest.mark.parametrize("unlisted", [False, True])
def test_on_a_leg_of_its_own_what_was_just_placed_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, unlisted: bool
) -> None:
    """Not listed, and not found, nor cancelled by its id: replaced, and swept."""
    account = Account(tmp_path, monkeypatch, lists=False, cancels_unlisted=unlisted, held=10)
    account.guard.modify_position("btc-1", stop_loss=57_000)
    account.guard.modify_position("btc-1", stop_loss=58_000)
    account.now += _DENIES_FOR
    assert account.resting() == [(58_000, 10)]
    account.guard.modify_position("btc-1", take_profit=61_000)
    assert isinstance(account.guard.close_position("btc-1"), ClosedPosition)
    account.now += _DENIES_FOR
    assert account.resting() == []


def test_an_order_that_was_seen_to_go_is_not_waited_for(account: Account) -> None:
    """A close cancels the stop-loss, which the venue does not tell of any more then: it has shown it before."""
    account.guard.modify_position("btc-1", stop_loss=57_000)
    account.denies_for = 0
    stop, began = account.paper.stop, account.now

    def forgetting(order: StopOrder) -> Order | None:
        found = stop(order)
        return found if found is not None and found.state == "open" else None

    account.paper.stop = forgetting  # type: ignore[method-assign]
    account.guard.close_position("btc-1")
    assert account.now - began < 3
