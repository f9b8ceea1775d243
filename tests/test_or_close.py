"""A stop-loss that comes too late: the price has passed it, and the caller wants the position closed then."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike
from poslock import (
    ChangeRefused,
    ChangeUnsettled,
    ClosedPosition,
    InvalidChange,
    InvalidPosition,
    LockLost,
    ModifiedPosition,
    NothingToReduce,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    RequestExpired,
    StopWouldTrigger,
)
from venue import DIED, LEG, SYMBOL, Venue

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account

PASSED = StopWouldTrigger("it would trigger immediately", code="-2021")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A venue's clock that runs ahead as soon as anybody sleeps, and nobody sleeps for real."""
    slept = [0.0]
    monkeypatch.setattr("poslock.bridge.time.sleep", lambda seconds: slept.append(slept.pop() + seconds))
    return lambda: time.time() + slept[0]


@pytest.fixture(params=[False, True], ids=["threads", "tasks"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_stop_loss_that_the_price_has_passed_closes_the_position(account: Account) -> None:
    """At market, as a close does: booked, swept, with the reason in the history."""
    position = account.open(bare=True)
    closed = account.guard.modify_position("btc-1", stop_loss=59_500, take_profit=65_000, or_close=True)
    assert isinstance(closed, ClosedPosition)
    assert (closed.exit_price, closed.ended_by, closed.left_at_venue) == (59_000, "close", 0)
    account.assert_closed_once(position)
    assert account.rows("SELECT reason FROM close") == [("stop_loss 59500 is passed: the price is 59000",)]
    assert account.rows("SELECT count(*) FROM change") == [(0,)]


def test_a_stop_loss_that_the_venue_refuses_for_its_price_closes_the_position(account: Account) -> None:
    """The price ran through it between the look and the order: the rest of the change is dropped."""
    position = account.open(bare=True)
    venue = Venue(account)

    def place_stop(order: Any) -> Any:
        account.exchange.set_price(SYMBOL, 57_900)
        return venue.exchange.place_stop(order)

    venue.instead["place_stop"] = place_stop
    closed = venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000, or_close=True)
    assert isinstance(closed, ClosedPosition)
    assert closed.exit_price == 57_900
    account.assert_closed_once(position)
    assert account.rows("SELECT step FROM change") == [("refused",), ("dropped",)]


def test_a_stop_loss_that_can_be_set_closes_nothing(account: Account) -> None:
    """It is a change like any other."""
    account.open()
    changed = account.guard.modify_position("btc-1", stop_loss=58_000, or_close=True)
    assert isinstance(changed, ModifiedPosition)
    assert changed.stop_loss == 58_000


def test_without_it_nothing_is_closed(account: Account) -> None:
    """As before: the caller is told, and what rests stays."""
    account.open(bare=True)
    with pytest.raises(InvalidChange, match="must be below the price of 59000"):
        account.guard.modify_position("btc-1", stop_loss=59_500)
    with pytest.raises(ChangeRefused):
        Venue(account, Strike("place_stop", "before", PASSED)).guard.modify_position("btc-1", stop_loss=58_000)
    assert account.exchange.held(LEG) == 10


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_while_another_stop_protects_it_nothing_is_closed(account: Account, whose: str) -> None:
    """The old one stays, whoever has set it, and the caller is told which."""
    account.open(bare=whose == "ours")
    if whose == "ours":
        account.guard.modify_position("btc-1", stop_loss=57_000)
    with pytest.raises(InvalidChange, match=r"must be below the price of 59000.*57000 protects it") as caught:
        account.guard.modify_position("btc-1", stop_loss=59_500, or_close=True)
    assert caught.value.field == "stop_loss"
    venue = Venue(account, Strike("place_stop", "before", PASSED))
    with pytest.raises(ChangeRefused, match="would trigger immediately"):
        venue.guard.modify_position("btc-1", stop_loss=58_000, or_close=True)
    assert account.exchange.held(LEG) == 10


def test_a_stop_for_less_than_is_left_does_not_protect_it(account: Account) -> None:
    """Six were added since and adopted: the stop is for ten."""
    account.open(bare=True)
    account.guard.modify_position("btc-1", stop_loss=57_500)
    account.exchange.open_position(SYMBOL, "long", 6)
    account.guard.adopt(SYMBOL, "long")
    closed = account.guard.modify_position("btc-1", stop_loss=59_500, or_close=True)
    assert isinstance(closed, ClosedPosition)
    assert account.exchange.held(LEG) == 0


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ([OrderRefused("malformed", code="-1102")], ChangeRefused),
        ([NothingToReduce("no position")], ChangeRefused),
        ([OutcomeUnknown("cut"), PASSED], ChangeRefused),
        ([RequestExpired("late")] * 3, ChangeUnsettled),
        ([RateLimited("busy", retry_after=100)], ChangeUnsettled),
    ],
    ids=["malformed", "flat", "unknown", "late", "unseen"],
)
def test_any_other_refusal_closes_nothing(account: Account, clock: Any, errors: Any, raised: type[Exception]) -> None:
    """What was malformed or not seen says nothing of the price; after an unknown outcome the stop may rest."""
    account.open(bare=True)
    strikes = [Strike("place_stop", "before", error, nth) for nth, error in enumerate(errors, start=1)]
    with pytest.raises(raised):
        Venue(account, *strikes, clock=clock).guard.modify_position("btc-1", stop_loss=58_000, or_close=True)
    assert account.exchange.held(LEG) == 10
    assert account.guard.position("btc-1").state == "open"


def test_a_take_profit_that_would_trigger_closes_nothing(account: Account) -> None:
    """That is no loss to be stopped."""
    account.open(bare=True)
    venue = Venue(account, Strike("place_stop", "before", PASSED, 2))
    with pytest.raises(ChangeRefused):
        venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000, or_close=True)
    assert account.exchange.held(LEG) == 10


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"take_profit": 65_000}, InvalidPosition),
        ({"stop_loss": None}, InvalidPosition),
        ({"stop_loss": 59_500, "or_close": "yes"}, InvalidPosition),
        ({"stop_loss": 59_500, "take_profit": 58_000}, InvalidChange),
        ({"stop_loss": 59_500, "take_profit": [(65_000, 11)]}, InvalidChange),
        ({"stop_loss": 59_500, "reduce_by": 10}, InvalidChange),
    ],
)
def test_a_change_that_is_wrong_in_itself_closes_nothing(account: Account, change: Any, error: type[Exception]) -> None:
    """It says what is wrong, and nothing is sent."""
    account.open(bare=True)
    with pytest.raises(error):
        account.guard.modify_position("btc-1", **{"or_close": True, **change})
    assert account.exchange.held(LEG) == 10
    assert account.rows("SELECT count(*) FROM change") == [(0,)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("asynchronous", [False])
def test_an_owner_that_dies_in_the_close_has_it_finished(account: Account, clock: Any, when: Any) -> None:
    """From the journaled close on it is one like any other."""
    position = account.open(bare=True)
    venue = Venue(account, Strike("place", when, DIED), clock=clock)
    with pytest.raises(LockLost):
        venue.guard.modify_position("btc-1", stop_loss=59_500, or_close=True)
    (recovery,) = Venue(account, clock=clock).guard.recover()
    assert recovery.closed is not None
    account.assert_closed_once(position)
