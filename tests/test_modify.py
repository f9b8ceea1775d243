"""Changing an open position: exit orders and size, against a venue on which everything may go wrong."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import threading
import time
from collections import Counter
from decimal import Context, Decimal, localcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike
from intents import lock_for
from poslock import (
    ChangeRefused,
    ChangeUnsettled,
    ClosedPosition,
    ExchangeUnavailable,
    InvalidChange,
    InvalidPosition,
    LockLost,
    LockTimeout,
    OrderRefused,
    OutcomeUnknown,
    PositionAlreadyClosingError,
    PositionGuard,
    PositionLock,
    PositionNotFound,
    RateLimited,
)
from poslock.errors import RequestExpired, TokenRefused
from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
from systems import elsewhere
from venue import DIED, LEG, SYMBOL, Gate, Venue, at_once, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Account
    from poslock import Position
    from poslock.guard.guard import Recovery
    from poslock.position import TrackedPosition


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A venue's clock that runs ahead as soon as anybody sleeps, and nobody sleeps for real."""
    slept = [0.0]
    monkeypatch.setattr("poslock.bridge.time.sleep", lambda seconds: slept.append(slept.pop() + seconds))
    return lambda: time.time() + slept[0]


def resting(account: Account, leg: Leg = LEG) -> dict[str, list[Any]]:
    """The trigger prices at which orders rest, by their kind."""
    found: dict[str, list[Any]] = {"stop_loss": [], "take_profit": []}
    for order in account.exchange.open_orders(leg):
        found[order.family].append(order.trigger_price)
    return found


def exits(stop_loss: int | None, take_profit: int | None) -> dict[str, list[Any]]:
    """One order of each kind, or none."""
    return {
        "stop_loss": [] if stop_loss is None else [stop_loss],
        "take_profit": [] if take_profit is None else [take_profit],
    }


def change_steps(account: Account) -> list[str]:
    return [step for (step,) in account.rows("SELECT step FROM change ORDER BY number")]


def assert_closed(account: Account, position: Position) -> None:
    """As for any close, however many of its orders were reduces; its P&L is that of all its fills."""
    orders = [order for order in account.exchange.orders(LEG) if order.family == "order" and order.filled]
    account.assert_closed_once(position, orders=len(orders))
    closed = account.guard.position(position.id).closed
    assert closed is not None
    assert closed.gross_pnl == sum((fill.price - position.entry_price) * fill.contracts for fill in closed.fills)
    assert closed.fees == sum(fill.fee for fill in closed.fills)


# What it does.


def test_a_modify_checks_places_cancels_and_reports(account: Account) -> None:
    """The plain course of all three at once: each order is sent once, each old one cancelled once, and after it."""
    account.open()
    venue = Venue(account)
    modified = venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000, reduce_by=4)
    effects = [call for call in venue.calls if call in {"place", "place_stop", "cancel"}]
    assert effects == ["place_stop", "cancel", "place_stop", "cancel", "place"]
    assert (modified.stop_loss, modified.take_profit, modified.contracts) == (58_000, 65_000, 6)
    assert resting(account) == exits(58_000, 65_000)
    tracked = account.guard.position("btc-1")
    assert (tracked.state, tracked.reduced, tracked.left) == ("open", 4, 6)
    assert change_steps(account) == ["done"] * 3
    assert account.guard.recover() == []


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"stop_loss": 58_000}, (58_000, 66_000)),
        ({"stop_loss": None}, (None, 66_000)),
        ({"take_profit": "65000.5"}, (57_000, Decimal("65000.5"))),
        ({"take_profit": None}, (57_000, None)),
        ({"stop_loss": None, "take_profit": None}, (None, None)),
        ({"stop_loss": 58_000, "take_profit": None}, (58_000, None)),
        ({"reduce_by": 1}, (57_000, 66_000)),
    ],
)
def test_only_what_is_asked_for_is_changed(account: Account, change: Any, left: Any) -> None:
    """Moved, removed or left alone, each by itself."""
    account.open()
    modified = account.guard.modify_position("btc-1", **change)
    assert (modified.stop_loss, modified.take_profit) == left
    assert resting(account) == exits(*left)


def test_exit_orders_are_set_where_there_were_none(account: Account) -> None:
    """And for the whole position."""
    account.open()
    account.guard.modify_position("btc-1", stop_loss=None, take_profit=None)
    account.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000)
    assert resting(account) == exits(58_000, 65_000)
    assert {order.contracts for order in account.exchange.open_orders(LEG)} == {10}


def test_setting_one_replaces_all_of_its_kind(account: Account) -> None:
    """Two stop-losses set by hand become one."""
    account.open()
    account.exchange.protect(SYMBOL, "long", "stop_loss", 5, 56_000)
    account.guard.modify_position("btc-1", stop_loss=58_000)
    assert resting(account) == exits(58_000, 66_000)


def test_the_exit_orders_of_a_short_are_the_other_way_round(account: Account) -> None:
    """Its stop-loss is above the price, its take-profit below."""
    account.open(side="short")
    with pytest.raises(InvalidChange, match="must be above the price of 59000 for a short"):
        account.guard.modify_position("btc-1", stop_loss=58_000)
    account.guard.modify_position("btc-1", stop_loss=61_000, take_profit=55_000, reduce_by=3)
    assert resting(account, Leg(SYMBOL, "short")) == exits(61_000, 55_000)
    assert account.guard.close_position("btc-1").gross_pnl == 10_000


def test_the_old_order_rests_until_the_new_one_does(account: Account) -> None:
    """Whenever an order is cancelled, another of its kind is there."""
    account.open()
    venue, seen = Venue(account), []

    def cancel(order: Order) -> None:
        seen.append(len(resting(account)[order.family]))
        venue.exchange.cancel(order)

    venue.instead["cancel"] = cancel
    venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000)
    assert seen == [2, 2]


def test_the_profit_of_a_reduced_position_is_that_of_all_its_fills(account: Account) -> None:
    """4 at 59000, 1 at 61000, 5 at 62000: -4000 + 1000 + 10000; the fees of all three, and nothing counted twice."""
    position = account.open()
    account.guard.modify_position("btc-1", reduce_by=4)
    account.exchange.set_price(SYMBOL, 61_000)
    account.guard.modify_position("btc-1", reduce_by=1)
    account.exchange.set_price(SYMBOL, 62_000)
    closed = account.guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [4, 1, 5]
    assert closed.gross_pnl == 7_000
    assert closed.fees == Decimal("303.5")
    assert_closed(account, position)


def test_a_reduce_that_is_filled_in_part_counts_for_that_part(account: Account) -> None:
    """3 of 4 find a buyer: 7 are left, all of them protected, and the close books both."""
    position = account.open()
    venue = Venue(account, liquidity=3)
    assert venue.guard.modify_position("btc-1", stop_loss=58_000, reduce_by=4).contracts == 7
    assert account.guard.position("btc-1").reduced == 3
    assert min(order.contracts for order in account.exchange.open_orders(LEG)) >= 7
    account.exchange.set_price(SYMBOL, 61_000)
    assert account.guard.close_position("btc-1").gross_pnl == 4_000
    assert_closed(account, position)


def test_a_reduce_that_stays_open_is_waited_for_and_cancelled(account: Account, clock: Any) -> None:
    """Its remainder would otherwise take contracts off whenever somebody comes to buy them."""
    account.open()
    venue = Venue(account, liquidity=3, remainder_rests=600.0, clock=clock)
    assert venue.guard.modify_position("btc-1", reduce_by=4).contracts == 7
    assert [order.state for order in account.exchange.orders(LEG) if order.family == "order"] == ["canceled"]


def test_a_reduce_of_which_nothing_is_filled_is_told(account: Account) -> None:
    """The venue took the order and cancelled it: that is no success."""
    account.open()
    venue = Venue(account)

    def place(order: CloseOrder) -> Order:
        return Order("77", order.client_order_id, "order", LEG, order.contracts, Decimal(0), "canceled")

    venue.instead["place"] = place
    with pytest.raises(ChangeRefused, match="filled nothing"):
        venue.guard.modify_position("btc-1", reduce_by=4)
    assert change_steps(account) == ["refused"]


def test_the_callers_decimal_context_does_not_round_a_reduce(account: Account) -> None:
    """A bot that computes with four digits has its position reduced, and told, to the last one."""
    account.open()
    with localcontext(Context(prec=4)):
        modified = account.guard.modify_position("btc-1", reduce_by="1.23456789")
        tracked = account.guard.position("btc-1")
        assert (tracked.reduced, tracked.left) == (Decimal("1.23456789"), Decimal("8.76543211"))
    assert modified.contracts == Decimal("8.76543211")


# What it refuses.


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"stop_loss": 59_500}, InvalidChange, "stop_loss .* must be below the price of 59000 for a long"),
        ({"stop_loss": 59_000}, InvalidChange, "stop_loss .* must be below"),
        ({"take_profit": 58_500}, InvalidChange, "take_profit .* must be above"),
        ({"take_profit": 59_000}, InvalidChange, "take_profit .* must be above"),
        ({"stop_loss": 58_000, "take_profit": 58_500}, InvalidChange, "take_profit"),
        ({"reduce_by": 11}, InvalidChange, "reduce_by .* is not below the 10 contracts left"),
        ({"reduce_by": 10}, InvalidChange, "close_position takes off all"),
        ({"stop_loss": 58_000, "reduce_by": 10}, InvalidChange, "reduce_by"),
        ({"stop_loss": 0}, InvalidPosition, "stop_loss 0: must be above zero"),
        ({"take_profit": -1}, InvalidPosition, "take_profit"),
        ({"reduce_by": 0}, InvalidPosition, "reduce_by"),
        ({"reduce_by": "-0.1"}, InvalidPosition, "reduce_by"),
        ({"stop_loss": 58_000.5}, InvalidPosition, "float"),
        ({"stop_loss": "NaN"}, InvalidPosition, "finite"),
        ({"take_profit": True}, InvalidPosition, "take_profit"),
        ({"stop_loss": "high"}, InvalidPosition, "no decimal number"),
        ({}, InvalidPosition, "give stop_loss, take_profit or reduce_by"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_nothing_is_sent(
    account: Account, change: Any, error: type[Exception], why: str
) -> None:
    """The message names what is wrong; the venue was only read, and the ledger knows of no change."""
    account.open()
    venue = Venue(account)
    with pytest.raises(error, match=why) as caught:
        venue.guard.modify_position("btc-1", **change)
    assert isinstance(caught.value, ValueError)
    assert not {"place", "place_stop", "cancel"} & set(venue.calls)
    assert account.rows("SELECT count(*) FROM change") == [(0,)]
    assert resting(account) == exits(57_000, 66_000)
    venue.guard.modify_position("btc-1", stop_loss=58_000)  # and the lock is free


def test_a_position_that_is_gone_at_the_venue_cannot_be_changed(account: Account) -> None:
    """Its stop-loss was faster; what is left to do is to close, which books that."""
    account.open()
    account.exchange.set_price(SYMBOL, 56_000)
    with pytest.raises(InvalidChange, match="flat at the venue"):
        account.guard.modify_position("btc-1", take_profit=65_000)
    account.guard.close_position("btc-1")


def test_an_unknown_position_cannot_be_changed(account: Account) -> None:
    """As for a close."""
    with pytest.raises(PositionNotFound):
        account.guard.modify_position("btc-1", stop_loss=1)


def test_a_closed_position_cannot_be_changed(account: Account) -> None:
    """The state comes first: the venue is not even asked."""
    account.open()
    account.guard.close_position("btc-1")
    venue = Venue(account)
    with pytest.raises(PositionAlreadyClosingError) as caught:
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert (caught.value.state, venue.calls) == ("closed", [])


def test_a_position_whose_closer_died_cannot_be_changed(account: Account) -> None:
    """It is closing although nobody holds its lock."""
    account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place", "before", DIED)).guard.close_position("btc-1")
    venue = Venue(account)
    with pytest.raises(PositionAlreadyClosingError) as caught:
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert (caught.value.state, venue.calls) == ("closing", [])


def test_a_position_that_began_to_close_while_the_lock_was_waited_for_is_not_changed(account: Account) -> None:
    """Open when it was looked at, closing when the lock was had."""
    account.open()
    venue = Venue(account)
    find = venue.ledger.find

    def found(*asked: Any) -> TrackedPosition | None:
        seen = find(*asked)
        if venue.ledger.find is found:
            venue.ledger.find = find  # type: ignore[method-assign]
            with pytest.raises(LockLost):
                Venue(account, Strike("place", "before", DIED)).guard.close_position("btc-1")
        return seen

    venue.ledger.find = found  # type: ignore[method-assign, assignment]
    with pytest.raises(PositionAlreadyClosingError):
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert venue.calls == []


# What the venue does to it.


@pytest.mark.parametrize(
    ("method", "steps", "left"),
    [("place_stop", ["refused", "dropped", "dropped"], (57_000, 66_000)), ("place", ["done"] * 2 + ["refused"], None)],
)
def test_a_refusal_keeps_the_old_order_and_drops_the_later_changes(
    account: Account, method: str, steps: list[str], left: Any
) -> None:
    """What came before it in the call is done, what came after is not; the venue's words are in the error."""
    account.open()
    venue = Venue(account, Strike(method, "before", OrderRefused("price limit", code="x")))
    with pytest.raises(ChangeRefused, match="price limit") as caught:
        venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000, reduce_by=4)
    assert caught.value.kind == ("stop_loss" if method == "place_stop" else "reduce")
    assert change_steps(account) == steps
    assert resting(account) == exits(*(left or (58_000, 65_000)))
    assert account.exchange.held(LEG) == 10
    assert account.guard.recover() == []
    venue.guard.modify_position("btc-1", stop_loss=58_500)
    assert resting(account)["stop_loss"] == [58_500]


def test_a_price_that_the_market_has_passed_meanwhile_is_refused(account: Account) -> None:
    """It was on the right side when it was checked; the venue is asked to take it when it is no longer."""
    account.open()
    venue = Venue(account)

    def place_stop(order: StopOrder) -> Order:
        account.exchange.set_price(SYMBOL, 57_900)
        return venue.exchange.place_stop(order)

    venue.instead["place_stop"] = place_stop
    with pytest.raises(ChangeRefused, match="would execute at once"):
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert resting(account) == exits(57_000, 66_000)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", [{"stop_loss": 58_000}, {"take_profit": 65_000}, {"reduce_by": 4}])
def test_a_lost_answer_makes_no_second_order(account: Account, clock: Any, when: Any, change: Any) -> None:
    """The order is asked for by its client id: if the venue has it, it is found; if not, the same id goes out again."""
    account.open()
    method = "place" if "reduce_by" in change else "place_stop"
    venue = Venue(account, Strike(method, when, OutcomeUnknown("connection cut")), clock=clock)
    venue.guard.modify_position("btc-1", **change)
    assert venue.calls.count(method) == (1 if when == "after" else 2)
    assert len(account.exchange.orders(LEG)) == 3  # the two of old, and one new
    assert resting(account) == exits(change.get("stop_loss", 57_000), change.get("take_profit", 66_000))
    assert account.exchange.held(LEG) == (6 if "reduce_by" in change else 10)


def test_an_exit_order_that_the_venue_denies_for_a_while_is_not_sent_again(account: Account, clock: Any) -> None:
    """It exists, but the first answers say it does not."""
    account.open()
    venue = Venue(account, Strike("place_stop", "after", OutcomeUnknown("time-out")), clock=clock)
    denials = [None] * 3
    venue.instead["stop"] = lambda order: denials.pop() if denials else venue.exchange.stop(order)
    venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert denials == []
    assert venue.calls.count("place_stop") == 1
    assert resting(account) == exits(58_000, 66_000)


def test_an_exit_order_denied_for_longer_than_promised_is_not_made_twice(account: Account, clock: Any) -> None:
    """Sent again it is a duplicate, because its id is the same; so it is there, and is found."""
    account.open()
    venue = Venue(account, Strike("place_stop", "after", OutcomeUnknown("time-out")), clock=clock)
    venue.instead["stop"] = lambda order: venue.exchange.stop(order) if venue.calls.count("place_stop") == 2 else None
    venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert resting(account) == exits(58_000, 66_000)


def test_a_change_that_is_turned_away_unseen_is_sent_again(account: Account, clock: Any) -> None:
    """Too many requests is no word on this one."""
    account.open()
    venue = Venue(account, Strike("place_stop", "before", RateLimited("busy")), clock=clock)
    venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert venue.calls.count("place_stop") == 2
    assert resting(account) == exits(58_000, 66_000)


def test_requests_that_always_come_too_late_are_given_up(account: Account, clock: Any) -> None:
    """A bounded number of times; the old order stays, and the next owner goes on."""
    account.open()
    strikes = [Strike("place_stop", "before", RequestExpired("late"), n) for n in range(1, 9)]
    venue = Venue(account, *strikes, clock=clock)
    with pytest.raises(ChangeUnsettled, match="sent 3 times") as caught:
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert caught.value.kind == "stop_loss"
    assert venue.calls.count("place_stop") == 3
    assert resting(account) == exits(57_000, 66_000)
    Venue(account, clock=clock).guard.recover()
    assert resting(account) == exits(58_000, 66_000)


def test_a_new_order_that_is_not_seen_yet_does_not_cost_the_old_one(account: Account, clock: Any) -> None:
    """The venue denies it for a while, by its id and in its list: till then the old stop-loss stays."""
    account.open()
    venue, reads, before_cancel = Venue(account, clock=clock), Counter[str](), []

    def open_orders(leg: Leg) -> list[Order]:
        reads["open_orders"] += 1
        return [o for o in venue.exchange.open_orders(leg) if not o.client_order_id or reads["open_orders"] > 3]

    def cancel(order: Order) -> None:
        before_cancel.append(reads["open_orders"])
        venue.exchange.cancel(order)

    def order(leg: Leg, client_id: str) -> Order | None:
        return venue.exchange.order(leg, client_id) if reads["open_orders"] > 3 else None

    venue.instead.update(open_orders=open_orders, order=order, cancel=cancel)
    venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert len(before_cancel) == 1
    assert before_cancel[0] > 3
    assert resting(account) == exits(58_000, 66_000)


def test_a_new_order_that_is_never_seen_leaves_the_old_one(account: Account, clock: Any) -> None:
    """Two are better than none: it says so, and the next owner goes on."""
    account.open()
    venue = Venue(account, clock=clock)
    venue.instead["open_orders"] = lambda leg: [o for o in venue.exchange.open_orders(leg) if not o.client_order_id]
    venue.instead["stop"] = lambda _: None
    with pytest.raises(ChangeUnsettled, match="orders still rest: 2"):
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert resting(account)["stop_loss"] == [57_000, 58_000]
    account.guard.recover()
    assert resting(account) == exits(58_000, 66_000)


@pytest.mark.parametrize("price", [58_000, None])
def test_a_venue_that_does_not_cancel_leaves_the_change_unsettled(account: Account, clock: Any, price: Any) -> None:
    """Bounded, with the order's name; recover cancels it later."""
    account.open()
    venue = Venue(account, clock=clock)
    venue.instead["cancel"] = lambda *_: None
    with pytest.raises(ChangeUnsettled, match="orders still rest: 2"):
        venue.guard.modify_position("btc-1", stop_loss=price)
    (recovery,) = account.guard.recover()
    assert (recovery.position_id, recovery.closed, recovery.error) == ("btc-1", None, None)
    assert resting(account) == exits(price, 66_000)


@pytest.mark.parametrize("error", [ExchangeUnavailable("busy"), OutcomeUnknown("cut"), OrderRefused("gone")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancel_without_an_answer_is_judged_by_the_next_read(account: Account, error: Any, when: Any) -> None:
    """The reads decide, not the cancels."""
    account.open()
    Venue(account, Strike("cancel", when, error)).guard.modify_position("btc-1", stop_loss=58_000)
    assert resting(account) == exits(58_000, 66_000)


@pytest.mark.parametrize("method", ["prepare", "holding", "trades", "price", "open_orders", "place_stop", "stop"])
def test_a_question_without_an_answer_is_asked_again(account: Account, clock: Any, method: str) -> None:
    """One failure of any request is no reason to stop."""
    account.open()
    strikes = [Strike(method, "before", ExchangeUnavailable("busy"))]
    if method == "stop":
        strikes.append(Strike("place_stop", "after", OutcomeUnknown("cut")))
    Venue(account, *strikes, clock=clock).guard.modify_position("btc-1", stop_loss=58_000)
    assert resting(account) == exits(58_000, 66_000)


def test_a_venue_that_does_not_answer_at_all_changes_nothing(account: Account, clock: Any) -> None:
    """A few questions later it is given up."""
    account.open()
    strikes = [Strike("price", "before", ExchangeUnavailable("maintenance"), n) for n in range(1, 9)]
    with pytest.raises(ChangeUnsettled, match="maintenance"):
        Venue(account, *strikes, clock=clock).guard.modify_position("btc-1", stop_loss=58_000)
    assert change_steps(account) == []


def test_a_stop_loss_that_triggers_before_the_new_one_is_there(account: Account) -> None:
    """There is nothing left to protect: that is told, and the close books it and sweeps the take-profit."""
    position = account.open()
    venue = Venue(account)

    def place_stop(order: StopOrder) -> Order:
        account.exchange.set_price(SYMBOL, 56_000)
        return venue.exchange.place_stop(order)

    venue.instead["place_stop"] = place_stop
    with pytest.raises(ChangeRefused, match="no position"):
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert account.guard.close_position("btc-1").exit_price == 56_000
    assert_closed(account, position)


def test_a_new_stop_loss_that_triggers_at_once(account: Account) -> None:
    """The old one is cancelled all the same, and the answer says that nothing is held and nothing protects it."""
    position = account.open()
    venue = Venue(account)

    def place_stop(order: StopOrder) -> Order:
        placed = venue.exchange.place_stop(order)
        account.exchange.set_price(SYMBOL, 57_900)
        return placed

    venue.instead["place_stop"] = place_stop
    modified = venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert (modified.stop_loss, modified.contracts) == (None, 0)
    assert resting(account) == exits(None, 66_000)
    assert account.guard.close_position("btc-1").exit_price == 57_900
    assert_closed(account, position)


def test_a_new_order_that_the_venue_cancels_by_itself_keeps_the_old_one(account: Account, clock: Any) -> None:
    """It was taken and then cancelled, when its owner had died: the next one keeps what rests, and says so."""
    account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place_stop", "after", DIED)).guard.modify_position("btc-1", stop_loss=58_000)
    account.exchange.cancel(account.exchange.open_orders(LEG)[-1])
    (recovery,) = account.guard.recover()
    assert isinstance(recovery.error, ChangeRefused)
    assert resting(account) == exits(57_000, 66_000)
    assert account.guard.recover() == []


# Its owner dies.

READS = [("holding", 4), ("trades", 2), ("price", 1), ("open_orders", 5)]
REQUESTS = [*READS, ("place_stop", 2), ("cancel", 2), ("place", 1)]
WRITES = [("change", 1), ("sending_change", 3), ("end_change", 3)]
DEATHS = [
    (port, Strike(method, when, DIED, nth))
    for port, methods in (("venue", REQUESTS), ("ledger", WRITES))
    for method, times in methods
    for nth in range(1, times + 1)
    for when in ("before", "after")
]


def name_of(value: object) -> str:
    return f"{value.when}-{value.method}-{value.nth}" if isinstance(value, Strike) else str(value)


def dies(account: Account, port: str, strike: Strike, clock: Any, **change: Any) -> bool:
    """Whether the change that died was journaled; whatever it was at, there was an order of each kind."""
    strikes, writes = ((strike,), ()) if port == "venue" else ((), (strike,))
    with pytest.raises(LockLost):
        Venue(account, *strikes, writes=writes, clock=clock).guard.modify_position("btc-1", **change)
    return bool(change_steps(account))


@pytest.mark.parametrize(("port", "strike"), DEATHS, ids=name_of)
def test_recover_finishes_a_change_whose_owner_died(account: Account, clock: Any, port: str, strike: Strike) -> None:
    """Died before or after any request and any write: one stop-loss and one take-profit, both new, or both old."""
    position = account.open()
    begun = dies(account, port, strike, clock, stop_loss=58_000, take_profit=65_000, reduce_by=4)
    assert all(resting(account).values())
    unfinished = "intent" in change_steps(account) or "sending" in change_steps(account)
    venue = Venue(account, clock=clock)
    assert [(each.closed, each.error) for each in venue.guard.recover()] == [(None, None)] * unfinished
    assert resting(account) == (exits(58_000, 65_000) if begun else exits(57_000, 66_000))
    assert account.exchange.held(LEG) == (6 if begun else 10)
    assert venue.guard.recover() == []
    account.exchange.set_price(SYMBOL, 61_000)
    venue.guard.close_position("btc-1")
    assert_closed(account, position)


@pytest.mark.parametrize(("port", "strike"), DEATHS, ids=name_of)
def test_the_next_modify_goes_on_from_a_change_whose_owner_died(
    account: Account, clock: Any, port: str, strike: Strike
) -> None:
    """It finishes what was begun and makes its own change: one stop-loss, at its price."""
    account.open()
    begun = dies(account, port, strike, clock, stop_loss=58_000, take_profit=65_000, reduce_by=4)
    modified = Venue(account, clock=clock).guard.modify_position("btc-1", stop_loss=58_500)
    assert resting(account) == exits(58_500, 65_000 if begun else 66_000)
    assert modified.contracts == (6 if begun else 10)


@pytest.mark.parametrize(("port", "strike"), DEATHS, ids=name_of)
def test_a_close_after_a_change_whose_owner_died_leaves_no_order(
    account: Account, clock: Any, port: str, strike: Strike
) -> None:
    """It drops what was begun, closes what is left, and books what was reduced."""
    position = account.open()
    dies(account, port, strike, clock, stop_loss=58_000, take_profit=65_000, reduce_by=4)
    account.exchange.set_price(SYMBOL, 61_000)
    Venue(account, clock=clock).guard.close_position("btc-1")
    assert_closed(account, position)
    assert set(change_steps(account)) <= {"done", "dropped"}
    assert account.guard.recover() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["open_orders", "cancel"])
def test_a_removal_whose_owner_died_is_finished(account: Account, clock: Any, method: str, when: Any) -> None:
    """There is no order to send, and what was asked for is that none rests."""
    account.open()
    dies(account, "venue", Strike(method, when, DIED), clock, stop_loss=None)
    account.guard.recover()
    assert resting(account) == exits(None, 66_000)


def test_a_change_whose_owner_died_is_refused_later(account: Account, clock: Any) -> None:
    """The market has passed its price: recover says so once, and the old order stays."""
    account.open()
    dies(account, "venue", Strike("place_stop", "before", DIED), clock, stop_loss=58_000, take_profit=65_000)
    account.exchange.set_price(SYMBOL, 57_500)
    venue = Venue(account, clock=clock)
    (recovery,) = venue.guard.recover()
    assert isinstance(recovery.error, ChangeRefused)
    assert resting(account) == exits(57_000, 66_000)
    assert change_steps(account) == ["refused", "dropped"]
    assert venue.guard.recover() == []


def test_a_modify_is_not_stopped_by_the_refusal_of_what_was_begun_before(account: Account, clock: Any) -> None:
    """That was another caller's wish."""
    account.open()
    dies(account, "venue", Strike("place_stop", "before", DIED), clock, stop_loss=58_000)
    account.exchange.set_price(SYMBOL, 57_500)
    Venue(account, clock=clock).guard.modify_position("btc-1", stop_loss=57_300)
    assert resting(account) == exits(57_300, 66_000)
    assert change_steps(account) == ["refused", "done"]


def test_a_reduce_is_judged_by_what_an_unfinished_one_leaves(account: Account, clock: Any) -> None:
    """6 of 10 are fewer than all, but 4 were on their way already: together they would close the position.

    So it is told of those 4 first, and then that 6 are all that is left.
    """
    account.open()
    dies(account, "venue", Strike("place", "before", DIED), clock, reduce_by=4)
    venue = Venue(account, clock=clock)
    for why in ("an earlier reduce was under way", "not below the 6 contracts left"):
        with pytest.raises(InvalidChange, match=why):
            venue.guard.modify_position("btc-1", reduce_by=6)
    assert account.exchange.held(LEG) == 6
    venue.guard.modify_position("btc-1", stop_loss=58_000, reduce_by=5)
    assert account.exchange.held(LEG) == 1
    assert [o.contracts for o in account.exchange.open_orders(LEG) if o.family == "stop_loss"] == [6]


def test_a_change_under_way_when_its_owner_died_is_not_left_over(account: Account, clock: Any) -> None:
    """Its request is still on its way when a close sweeps: by then it is too late for it, or it was swept."""
    position = account.open()
    dead, under_way = Venue(account, clock=clock), []

    def place_stop(order: StopOrder) -> Order:
        under_way.append(order)
        raise DIED

    dead.instead["place_stop"] = place_stop
    with pytest.raises(LockLost):
        dead.guard.modify_position("btc-1", stop_loss=58_000)
    venue, refused = Venue(account, clock=clock), []

    def open_orders(leg: Leg) -> list[Order]:  # it arrives right after a look of the sweep that shows nothing
        resting_now = venue.exchange.open_orders(leg)
        if not resting_now:
            with pytest.raises(RequestExpired):
                venue.exchange.place_stop(under_way[0])
            refused.append(under_way[0])
        return resting_now

    venue.instead["open_orders"] = open_orders
    venue.guard.close_position("btc-1")
    assert refused
    assert_closed(account, position)


def test_a_position_that_ends_between_two_changes_gets_no_second_order(account: Account, clock: Any) -> None:
    """Its stop-loss is set; then somebody closes by hand and enters again: the take-profit would be the new one's."""
    account.open()
    venue = Venue(account, clock=clock)

    def place_stop(order: StopOrder) -> Order:
        placed = venue.exchange.place_stop(order)
        account.exchange.open_position(SYMBOL, "short", 10)
        account.exchange.open_position(SYMBOL, "long", 6)
        venue.instead.clear()
        return placed

    venue.instead["place_stop"] = place_stop
    with pytest.raises(ChangeRefused, match="the position has ended at the venue"):
        venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000)
    assert venue.calls.count("place_stop") == 1
    assert change_steps(account) == ["done", "refused"]


@pytest.mark.parametrize("in_time", [True, False])
def test_a_reduce_under_way_when_its_owner_died_counts_for_the_position(
    account: Account, clock: Any, *, in_time: bool
) -> None:
    """It arrives while the next owner asks for it, and counts; or later than its window, and the venue refuses it.

    Both orders together close the position, once. The close waits for that: it used to send at once, and would have
    taken off too much of a leg that holds more than the position.
    """
    position = account.open()
    dead, under_way, sent = Venue(account, clock=clock), [], []

    def arrives_later(order: CloseOrder) -> Order:
        under_way.append(order)
        raise DIED

    dead.instead["place"] = arrives_later
    with pytest.raises(LockLost):
        dead.guard.modify_position("btc-1", reduce_by=4)
    venue = Venue(account, clock=clock)

    def order(leg: Leg, client_order_id: str) -> Order | None:
        seen = venue.exchange.order(leg, client_order_id)
        if in_time and venue.calls.count("order") == 3:
            venue.exchange.place(under_way.pop())
        return seen

    def place(order: CloseOrder) -> Order:
        sent.append(order.contracts)
        if not in_time:
            with pytest.raises(RequestExpired):
                venue.exchange.place(under_way.pop())
        return venue.exchange.place(order)

    venue.instead.update(order=order, place=place)
    venue.guard.close_position("btc-1")
    assert (sent, under_way) == ([6 if in_time else 10], [])
    assert_closed(account, position)


# It loses the lock.


def test_a_modifier_that_was_silent_too_long_changes_nothing_more(account: Account) -> None:
    """Its request hung for longer than its lease, and somebody else moved the stop-loss meanwhile."""
    account.open()
    venue, written = Venue(account, stale_after=0.5), []

    def place_stop(order: StopOrder) -> Order:
        placed = venue.exchange.place_stop(order)
        time.sleep(0.6)
        PositionGuard(account.exchange, lock_dir=elsewhere(account.lock_dir)).modify_position("btc-1", stop_loss=58_500)
        written.extend(account.rows("SELECT * FROM audit"))
        return placed

    venue.instead["place_stop"] = place_stop
    with pytest.raises(LockLost):
        venue.guard.modify_position("btc-1", stop_loss=58_000, take_profit=65_000)
    assert account.rows("SELECT * FROM audit") == written
    assert venue.calls[-1] == "place_stop"
    assert resting(account) == exits(58_500, 65_000)  # it finished what was begun


@pytest.mark.parametrize(("method", "nth"), [("change", 1), ("sending_change", 1), ("end_change", 1)])
def test_a_modifier_with_an_old_token_writes_nothing(account: Account, method: str, nth: int) -> None:
    """It believes that it holds the lock, and the ledger knows better."""
    account.open()
    venue = Venue(account)
    write = getattr(venue.ledger, method)

    def late(*args: Any) -> None:
        account.rows("UPDATE position SET token = token + 1000000000000000000")
        before = account.rows("SELECT * FROM change"), account.rows("SELECT * FROM audit")
        try:
            write(*args)
        finally:
            assert before == (account.rows("SELECT * FROM change"), account.rows("SELECT * FROM audit"))

    setattr(venue.ledger, method, late)
    with pytest.raises(TokenRefused):
        venue.guard.modify_position("btc-1", stop_loss=58_000)
    assert venue.calls.count("place_stop") == (1 if method == "end_change" else 0)


# Others are at it too.


@pytest.fixture
def threads() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    """Starts threads, and sees to it that they end."""
    started: list[threading.Thread] = []

    def start(target: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        started.append(thread)
        return thread

    yield start
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("timeout", [0, 35.0, None])
def test_a_close_waits_for_a_modify_to_end(account: Account, threads: Any, timeout: float | None) -> None:
    """Even one that waits for no close: what holds it up is over soon."""
    position = account.open()
    modifier, closer = Venue(account), Venue(account, timeout=timeout)
    gate, modified = Gate(modifier, "place_stop"), []
    threads(lambda: modified.append(modifier.guard.modify_position("btc-1", stop_loss=58_000)))
    assert gate.begun.wait(60)
    closing = threads(lambda: closer.guard.close_position("btc-1"))
    closing.join(0.3)
    assert closing.is_alive()
    assert closer.calls == []
    gate.go_on.set()
    closing.join(60)
    assert [each.stop_loss for each in modified] == [58_000]
    assert_closed(account, position)


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_close_waits_for_a_modify_only_so_long(account: Account, timeout: float) -> None:
    """A little longer than a lease. Nobody is closing it then, and nobody is told so."""
    account.open()
    hasty = PositionGuard(account.exchange, lock_dir=account.lock_dir, timeout=timeout, stale_after=0.3)
    with PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose="modify"):
        began = time.monotonic()
        with pytest.raises(LockTimeout):
            hasty.close_position("btc-1")
        assert time.monotonic() - began < 10
    assert account.guard.position("btc-1").state == "open"
    hasty.close_position("btc-1")


@pytest.mark.parametrize("timeout", [0, 35.0, None])
def test_a_modify_does_not_wait_for_a_close(account: Account, threads: Any, timeout: float | None) -> None:
    """It is told who closes while that one is still at it."""
    position = account.open()
    closer, modifier = Venue(account), Venue(account, timeout=timeout)
    gate = Gate(closer, "place")
    threads(lambda: closer.guard.close_position("btc-1"))
    assert gate.begun.wait(60)
    with pytest.raises(PositionAlreadyClosingError) as caught:
        modifier.guard.modify_position("btc-1", stop_loss=58_000)
    assert caught.value.state == "closing"
    assert modifier.calls == []
    gate.go_on.set()
    until(lambda: account.guard.position("btc-1").state == "closed")
    with pytest.raises(PositionAlreadyClosingError):
        modifier.guard.modify_position("btc-1", stop_loss=58_000)
    assert_closed(account, position)


def test_a_modify_does_not_wait_for_a_close_that_has_not_written_anything_yet(account: Account) -> None:
    """The ledger still says open; the lock says what its holder is about to do."""
    account.open()
    patient = PositionGuard(account.exchange, lock_dir=account.lock_dir)
    other = lock_for("close", "btc-1", lock_dir=elsewhere(account.lock_dir))
    with other, pytest.raises(PositionAlreadyClosingError) as caught:
        patient.modify_position("btc-1", stop_loss=58_000)
    assert caught.value.holder is not None


def test_a_modify_that_waits_behind_a_close_is_told(account: Account, threads: Any) -> None:
    """One modifies, one waits to close, one waits to modify: the last one learns that there is nothing to wait for."""
    position = account.open()
    first, closer, last = (Venue(account) for _ in range(3))
    gate, outcomes = Gate(first, "place_stop"), []
    threads(lambda: first.guard.modify_position("btc-1", stop_loss=58_000))
    assert gate.begun.wait(60)
    threads(lambda: closer.guard.close_position("btc-1"))

    def modify() -> None:
        with pytest.raises(PositionAlreadyClosingError):
            last.guard.modify_position("btc-1", stop_loss=58_500)
        outcomes.append("told")

    until(lambda: account_waits(account))
    thread = threads(modify)
    gate.go_on.set()
    thread.join(60)
    assert outcomes == ["told"]
    until(lambda: account.guard.position("btc-1").state == "closed")
    assert_closed(account, position)


def account_waits(account: Account) -> bool:
    """Whether somebody waits for the lock of the position."""
    probe = PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir))
    content: Any = probe._transitions.entry.peek()
    return bool(content.waiting)


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_a_modify_that_cannot_have_the_lock_in_time_says_who_has_it(account: Account, timeout: float) -> None:
    """Another modify is no close: try later."""
    account.open()
    hasty = PositionGuard(account.exchange, lock_dir=account.lock_dir, timeout=timeout)
    other = PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose="modify")
    with other, pytest.raises(LockTimeout) as caught:
        hasty.modify_position("btc-1", stop_loss=58_000)
    assert caught.value.holder is not None
    assert caught.value.holder.purpose == "modify"


def test_many_modify_and_one_closes(account: Account) -> None:
    """All at once from places of their own: each is done or told, and one close is all that is left."""
    position = account.open()
    outcomes: list[object] = []

    def act(price: int) -> None:
        guard = Venue(account).guard
        try:
            outcomes.append(guard.modify_position("btc-1", stop_loss=price) if price else guard.close_position("btc-1"))
        except PositionAlreadyClosingError as told:
            outcomes.append(told)

    at_once(*[partial(act, price) for price in (0, 57_100, 57_200, 57_300, 57_400, 57_500, 57_600)])
    assert len([each for each in outcomes if isinstance(each, ClosedPosition)]) == 1
    assert len(outcomes) == 7
    assert_closed(account, position)


def test_many_modify_and_one_order_of_each_kind_is_left(account: Account) -> None:
    """Six move the stop-loss and take one contract off at the same time: the last one's price, and four contracts."""
    account.open()
    prices = [57_000 + 100 * number for number in range(1, 7)]
    at_once(*[lambda p=p: Venue(account).guard.modify_position("btc-1", stop_loss=p, reduce_by=1) for p in prices])
    assert account.exchange.held(LEG) == 4
    (last,) = resting(account)["stop_loss"]
    assert last in prices
    assert account.guard.position("btc-1").left == 4


def test_all_bots_recover_at_once(account: Account) -> None:
    """One of them finishes the change; nobody waits, and nothing is there twice."""
    account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place_stop", "after", DIED)).guard.modify_position(
            "btc-1", stop_loss=58_000, take_profit=65_000, reduce_by=4
        )
    found: list[Recovery] = []
    at_once(*[lambda: found.extend(Venue(account).guard.recover())] * 5)
    assert all(each.error is None or isinstance(each.error, LockTimeout) for each in found)
    assert resting(account) == exits(58_000, 65_000)
    assert account.exchange.held(LEG) == 6
    assert account.guard.recover() == []


def test_recover_leaves_alone_what_somebody_is_at(account: Account, threads: Any) -> None:
    """It does not wait: whoever has the lock finishes what it began."""
    account.open()
    modifier = Venue(account)
    gate = Gate(modifier, "cancel")
    thread = threads(lambda: modifier.guard.modify_position("btc-1", stop_loss=58_000))
    assert gate.begun.wait(60)
    (recovery,) = Venue(account).guard.recover()
    assert isinstance(recovery.error, LockTimeout)
    gate.go_on.set()
    thread.join(60)
    assert account.guard.recover() == []
    assert resting(account) == exits(58_000, 66_000)


@pytest.mark.parametrize(("reduce_by", "why"), [(9, "would leave 1 contracts, .* smallest order is for 2"), (8, "")])
def test_a_reduce_leaves_no_crumb(account: Account, reduce_by: int, why: str) -> None:
    """Less than the smallest order could be closed by nobody: neither by a stop-loss nor by a close."""
    account.open()
    venue = Venue(account, smallest=2)
    if not why:
        assert venue.guard.modify_position("btc-1", reduce_by=reduce_by).contracts == 2
        return
    with pytest.raises(InvalidChange, match=why):
        venue.guard.modify_position("btc-1", reduce_by=reduce_by)
    assert change_steps(account) == []
    assert account.exchange.held(LEG) == 10


def test_a_reduce_that_was_left_leaves_no_crumb_either(account: Account, clock: Any) -> None:
    """A hand has taken off five meanwhile: four fewer would leave one."""
    account.open()
    dies(account, "venue", Strike("place", "before", DIED), clock, reduce_by=4)
    account.exchange.open_position(SYMBOL, "short", 5)
    (refused,) = Venue(account, clock=clock, smallest=2).guard.recover()
    assert "would leave 1 contracts" in str(refused.error)
    assert account.exchange.held(LEG) == 5
