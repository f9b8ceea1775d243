"""A stop-loss that is larger than what is left of its position: it follows, at its old price."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike
from poslock import ChangeRefused, ChangeUnsettled, LockLost, OrderRefused, PaperExchange, Position, PositionGuard
from poslock.exchange.port import Leg
from venue import DIED, LEG, SYMBOL, Gate, Venue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Account
    from poslock.exchange.port import Order


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A venue's clock that runs ahead as soon as anybody sleeps, and nobody sleeps for real."""
    slept = [0.0]
    monkeypatch.setattr("poslock.bridge.time.sleep", lambda seconds: slept.append(slept.pop() + seconds))
    return lambda: time.time() + slept[0]


def stops(account: Account) -> list[tuple[Any, Any]]:
    """Prices and contracts of the stop-losses that rest, by price."""
    rest = [each for each in account.exchange.open_orders(LEG) if each.family == "stop_loss"]
    return sorted((each.trigger_price, each.contracts) for each in rest)


def rung_filled(account: Account) -> None:
    """10 with a stop-loss of ours, of which a rung of 4 has taken 4."""
    account.open()
    account.guard.modify_position("btc-1", stop_loss=58_000, take_profit=[(61_000, 4), (65_000, 6)])
    account.exchange.set_price(SYMBOL, 61_000)
    assert stops(account) == [(58_000, 10)]


def test_the_next_modify_has_the_stop_loss_follow(account: Account) -> None:
    """The one for 6 rests before the one for 10 goes; the take-profit is set as it was asked for."""
    rung_filled(account)
    venue, seen = Venue(account), []

    def cancel(order: Order) -> None:
        seen.append((order.family, stops(account)))
        venue.exchange.cancel(order)

    venue.instead["cancel"] = cancel
    modified = venue.guard.modify_position("btc-1", take_profit=66_000)
    assert stops(account) == [(58_000, 6)]
    assert seen[0] == ("stop_loss", [(58_000, 6), (58_000, 10)])
    assert (modified.stop_loss, modified.take_profits) == (58_000, ((66_000, 6),))


def test_recover_has_the_stop_loss_follow(account: Account) -> None:
    """Once: after that it has nothing to do; the close leaves nothing."""
    rung_filled(account)
    venue = Venue(account)
    assert venue.guard.recover() == []
    assert stops(account) == [(58_000, 6)]
    sent = venue.calls.count("place_stop")
    assert venue.guard.recover() == []
    assert (sent, venue.calls.count("place_stop")) == (1, 1)
    account.guard.close_position("btc-1")
    assert account.exchange.open_orders(LEG) == []


def test_it_follows_a_reduce(account: Account) -> None:
    """At the next recover."""
    account.open()
    account.guard.modify_position("btc-1", stop_loss=58_000, reduce_by=4)
    assert stops(account) == [(58_000, 10)]
    account.guard.recover()
    assert stops(account) == [(58_000, 6)]


def test_it_follows_what_a_hand_has_taken_off(account: Account) -> None:
    """Whoever made the exit."""
    account.open()
    account.guard.modify_position("btc-1", stop_loss=58_000)
    account.exchange.open_position(SYMBOL, "short", 3)
    account.guard.recover()
    assert stops(account) == [(58_000, 7)]


@pytest.mark.parametrize("change", [{"stop_loss": 57_500}, {"stop_loss": None}])
def test_a_stop_loss_that_is_asked_for_is_not_made_to_follow_first(account: Account, change: Any) -> None:
    """It is replaced, or removed, and that is all."""
    rung_filled(account)
    venue = Venue(account)
    venue.guard.modify_position("btc-1", **change)
    assert venue.calls.count("place_stop") == bool(change["stop_loss"])
    assert stops(account) == ([(57_500, 6)] if change["stop_loss"] else [])


def test_stop_losses_of_others_are_left_alone(account: Account) -> None:
    """One beside ours stays, and one where there is none of ours is not touched."""
    rung_filled(account)
    account.exchange.protect(SYMBOL, "long", "stop_loss", 10, 56_000)
    account.guard.recover()
    assert stops(account) == [(56_000, 10), (58_000, 6)]
    account.guard.modify_position("btc-1", take_profit=66_000)
    assert stops(account) == [(56_000, 10), (58_000, 6)]


def test_a_stop_loss_that_poslock_did_not_set_does_not_follow(account: Account) -> None:
    """It is somebody's, whatever its size."""
    account.open()
    account.guard.modify_position("btc-1", reduce_by=4)
    venue = Venue(account)
    venue.guard.recover()
    assert "place_stop" not in venue.calls
    assert stops(account) == [(57_000, 10)]


def test_a_stop_loss_that_somebody_has_cancelled_does_not_come_back(account: Account) -> None:
    """It does not rest any more, so there is nothing to follow."""
    rung_filled(account)
    (stop,) = [each for each in account.exchange.open_orders(LEG) if each.family == "stop_loss"]
    account.exchange.cancel(stop)
    account.guard.recover()
    account.guard.modify_position("btc-1", take_profit=66_000)
    assert stops(account) == []


def test_a_stop_loss_smaller_than_what_is_left_stays(tmp_path: Path) -> None:
    """Six were added: how far they are to be protected is the trader's to say."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.1, denies_for=0.05)
    venue.set_price(SYMBOL, 60_000)
    venue.open_position(SYMBOL, "long", 10)
    guard = PositionGuard(venue, lock_dir=tmp_path / "locks")
    guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    guard.modify_position("btc-1", stop_loss=58_000)
    venue.open_position(SYMBOL, "long", 6)
    guard.adopt(SYMBOL, "long")
    guard.recover()
    assert [each.contracts for each in venue.open_orders(LEG)] == [10]


def test_beside_what_others_hold_it_follows_our_part(tmp_path: Path) -> None:
    """15 are held, 10 are ours, and a rung takes 4: what is left of ours is 6."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.1, denies_for=0.05)
    venue.set_price(SYMBOL, 60_000)
    venue.open_position(SYMBOL, "long", 15)
    guard = PositionGuard(venue, lock_dir=tmp_path / "locks")
    guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    guard.modify_position("btc-1", stop_loss=58_000, take_profit=[(61_000, 4), (65_000, 6)])
    venue.set_price(SYMBOL, 61_000)
    assert guard.recover() == []
    assert sorted(each.contracts for each in venue.open_orders(LEG)) == [6, 6]


def test_a_venue_that_refuses_leaves_the_old_one(account: Account) -> None:
    """Recover says so once, and does not try the same again; a modify goes on with its own change."""
    rung_filled(account)
    venue = Venue(account, *[Strike("place_stop", "before", OrderRefused("no"), n) for n in (1, 2)])
    (recovery,) = venue.guard.recover()
    assert isinstance(recovery.error, ChangeRefused)
    assert stops(account) == [(58_000, 10)]
    assert venue.guard.recover() == []
    assert venue.calls.count("place_stop") == 1
    again = Venue(account)
    again.guard.modify_position("btc-1", take_profit=66_000)
    assert stops(account) == [(58_000, 10)]
    assert again.calls.count("place_stop") == 1
    account.exchange.open_position(SYMBOL, "short", 1)
    account.guard.recover()
    assert stops(account) == [(58_000, 5)]


def test_a_modify_goes_on_where_the_venue_refuses_it_to_follow(account: Account) -> None:
    """The caller asked for a take-profit, and gets it."""
    rung_filled(account)
    venue = Venue(account, Strike("place_stop", "before", OrderRefused("no"), 1))
    assert venue.guard.modify_position("btc-1", take_profit=66_000).take_profit == 66_000
    assert stops(account) == [(58_000, 10)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["place_stop", "cancel"])
def test_an_owner_that_dies_while_it_follows(account: Account, clock: Any, method: str, when: Any) -> None:
    """The next one finishes it: no time without a stop-loss, and one of the right size in the end."""
    rung_filled(account)
    with pytest.raises(LockLost):
        Venue(account, Strike(method, when, DIED), clock=clock).guard.modify_position("btc-1", take_profit=66_000)
    assert stops(account)
    assert [each.error for each in Venue(account, clock=clock).guard.recover()] == [None]
    assert stops(account) == [(58_000, 6)]


def test_a_stop_loss_that_does_not_settle_is_told(account: Account, clock: Any) -> None:
    """The venue does not cancel the old one: recover says so, and the next one goes on."""
    rung_filled(account)
    venue = Venue(account, clock=clock)
    venue.instead["cancel"] = lambda *_: None
    (recovery,) = venue.guard.recover()
    assert isinstance(recovery.error, ChangeUnsettled)
    assert [each.error for each in account.guard.recover()] == [None]
    assert stops(account) == [(58_000, 6)]


def test_recover_waits_for_nobody_to_have_it_follow(account: Account) -> None:
    """A holder is at it; nothing is said of that."""
    rung_filled(account)
    account.guard.recover()
    account.exchange.open_position(SYMBOL, "short", 1)
    modifier = Venue(account)
    gate = Gate(modifier, "price")
    thread = threading.Thread(target=lambda: modifier.guard.modify_position("btc-1", take_profit=66_000))
    thread.start()
    assert gate.begun.wait(60)
    assert Venue(account).guard.recover() == []
    gate.go_on.set()
    thread.join(60)
    assert stops(account) == [(58_000, 5)]


def test_the_stop_loss_of_a_short_follows(account: Account) -> None:
    """The other way round."""
    account.open(side="short")
    account.guard.modify_position("btc-1", stop_loss=61_000, reduce_by=4)
    account.guard.recover()
    rest = [each for each in account.exchange.open_orders(Leg(SYMBOL, "short")) if each.family == "stop_loss"]
    assert [(each.trigger_price, each.contracts) for each in rest] == [(61_000, 6)]
