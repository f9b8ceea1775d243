"""Changes that were journaled by an owner who died, and a leg that has gone on without it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike
from poslock import ChangeRefused, LockLost
from venue import DIED, LEG, SYMBOL, Venue

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account
    from poslock.guard.guard import Recovery


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A venue's clock that runs ahead as soon as anybody sleeps, and nobody sleeps for real."""
    slept = [0.0]
    monkeypatch.setattr("poslock.bridge.time.sleep", lambda seconds: slept.append(slept.pop() + seconds))
    return lambda: time.time() + slept[0]


def enter_again(account: Account, contracts: int = 10) -> None:
    """The stop-loss takes the position, and somebody enters at another price, with a stop-loss."""
    account.exchange.set_price(SYMBOL, 56_000)
    account.exchange.set_price(SYMBOL, 59_000)
    account.exchange.open_position(SYMBOL, "long", contracts)
    account.exchange.protect(SYMBOL, "long", "stop_loss", contracts, 55_000)


def left_over(account: Account, clock: Any, write: str, change: dict[str, Any]) -> None:
    """A change whose owner dies right after this write."""
    dying = Venue(account, clock=clock, writes=(Strike(write, "after", DIED),))
    with pytest.raises(LockLost):
        dying.guard.modify_position("btc-1", **change)


def recovered(account: Account, clock: Any) -> tuple[list[str], list[Recovery]]:
    """The requests of `recover` that change anything, and what it says."""
    venue = Venue(account, clock=clock)
    found = venue.guard.recover()
    return [call for call in venue.calls if call in {"place", "place_stop"}], found


def test_a_reduce_that_was_left_is_not_made_of_a_later_position(account: Account, clock: Any) -> None:
    """It is refused, the position is booked as the stop-loss ended it, and what was entered since is left alone."""
    account.open()
    left_over(account, clock, "change", {"reduce_by": 4})
    enter_again(account)
    sent, (refused, ended) = recovered(account, clock)
    assert sent == []
    assert isinstance(refused.error, ChangeRefused)
    assert "has ended at the venue" in str(refused.error)
    assert ended.closed is not None
    assert (ended.closed.ended_by, ended.closed.left_at_venue) == ("other", 10)
    assert account.exchange.held(LEG) == 10


@pytest.mark.parametrize(("write", "price"), [("change", 58_000), ("sending_change", 58_000), ("change", None)])
def test_a_stop_loss_that_was_left_does_not_replace_that_of_a_later_position(
    account: Account, clock: Any, write: str, price: Any
) -> None:
    """Even where the later one is no larger: its price is another one, and its stop-loss stays."""
    account.open()
    left_over(account, clock, write, {"stop_loss": price})
    enter_again(account)
    sent, _ = recovered(account, clock)
    assert sent == []
    resting = [order.trigger_price for order in account.exchange.open_orders(LEG) if order.family == "stop_loss"]
    assert resting == [55_000]


def test_a_stop_loss_that_rests_already_does_not_replace_that_of_a_later_position(account: Account, clock: Any) -> None:
    """The order was taken before its owner died: it goes with the position, the other one stays."""
    account.open()
    dying = Venue(account, Strike("place_stop", "after", DIED), clock=clock)
    with pytest.raises(LockLost):
        dying.guard.modify_position("btc-1", stop_loss=55_500)
    enter_again(account)
    venue = Venue(account, clock=clock)
    venue.guard.recover()
    resting = [order.trigger_price for order in account.exchange.open_orders(LEG) if order.family == "stop_loss"]
    assert resting == [55_000]


def test_a_reduce_that_was_left_does_not_take_off_all_that_is_held(account: Account, clock: Any) -> None:
    """A hand has taken off six meanwhile: four fewer would be none, and that is a close."""
    account.open()
    left_over(account, clock, "change", {"reduce_by": 4})
    account.exchange.open_position(SYMBOL, "short", 6)
    sent, (refused,) = recovered(account, clock)
    assert sent == []
    assert "not below the 4 contracts left" in str(refused.error)
    assert account.exchange.held(LEG) == 4
