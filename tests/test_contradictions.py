"""The venue, the bot and the ledger say different things: whose word counts, and what stays untouched."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike
from poslock import (
    CloseUnsettled,
    ExchangeUnavailable,
    InvalidChange,
    InvalidPosition,
    LockLost,
    OrderRefused,
    OutcomeUnknown,
    PaperExchange,
    Position,
    PositionGuard,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder
from poslock.ledger.journal import CloseKey
from venue import DIED, LEG, SYMBOL, Venue

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Account
    from poslock.exchange.port import Order


def opened_again(account: Account) -> None:
    """The stop-loss took the tracked position; somebody opened another one at once, which nobody tracked."""
    account.open()
    account.exchange.set_price(SYMBOL, 56_000)
    account.exchange.open_position(SYMBOL, "long", 10)


def test_a_position_opened_again_after_the_stop_is_not_closed(account: Account) -> None:
    """The trades prove that the tracked one has gone: nothing is sent, and its own exits are booked.

    What rests there may protect the other one, and stays; "closed" says that 10 contracts are left at the venue.
    """
    opened_again(account)
    venue = Venue(account, settles_within=0.3)
    closed = venue.guard.close_position("btc-1")
    assert not {"place", "cancel"} & {*venue.calls}
    assert (closed.exit_price, closed.left_at_venue) == (56_000, 10)
    assert account.exchange.held(LEG) == 10
    assert [order.trigger_price for order in account.exchange.open_orders(LEG)] == [66_000]


def test_a_position_opened_again_after_the_stop_is_tracked_in_its_place(account: Account) -> None:
    """The one before is booked on this occasion. It used to be in the way until somebody closed it."""
    opened_again(account)
    guard = Venue(account, settles_within=0.3).guard
    guard.track(Position("btc-2", SYMBOL, "long", 10, 56_000))
    ended = guard.position("btc-1").closed
    assert ended is not None
    assert (ended.exit_price, ended.left_at_venue) == (56_000, 10)
    account.exchange.set_price(SYMBOL, 57_000)
    assert guard.close_position("btc-2").gross_pnl == 10_000
    assert account.exchange.held(LEG) == 0
    assert account.exchange.open_orders(LEG) == []


def test_a_position_opened_again_after_the_stop_is_not_reduced(account: Account) -> None:
    """It is not the one that was tracked."""
    opened_again(account)
    venue = Venue(account, settles_within=0.3)
    with pytest.raises(InvalidChange, match="has been closed at the venue"):
        venue.guard.modify_position("btc-1", reduce_by=4)
    assert account.exchange.held(LEG) == 10


def test_a_position_entered_during_the_sweep_keeps_its_orders(account: Account) -> None:
    """The leg was flat when the sweep began; somebody enters while the first order is cancelled, and protects that."""
    account.open()
    venue = Venue(account, settles_within=0.3)
    entering = [lambda: account.exchange.open_position(SYMBOL, "long", 5)]

    def cancel(order: Order) -> None:
        if entering:
            entering.pop()()
            account.exchange.protect(SYMBOL, "long", "stop_loss", 5, 50_000)
        venue.exchange.cancel(order)

    venue.instead["cancel"] = cancel
    closed = venue.guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [10]
    assert closed.left_at_venue == account.exchange.held(LEG) == 5
    assert [order.trigger_price for order in account.exchange.open_orders(LEG)] == [50_000]


def test_fills_that_a_bot_believes_in_do_not_close_what_the_venue_still_holds(account: Account) -> None:
    """Its order filled 3 of 10: nothing is booked, the stop-loss stays, and the next close closes all."""
    position = account.open()
    venue = Venue(account, liquidity=3, settles_within=0.3)
    with venue.guard.closing("btc-1") as close:
        sending = close.sending()
        signed_at_ms, window_ms = sending.signed_at_ms, sending.receive_window_ms
        venue.place(CloseOrder(LEG, Decimal(10), close.client_order_id, signed_at_ms, window_ms))
        (fill,) = venue.fills(LEG, 0)
        believed = replace(fill, contracts=Decimal(10))
        written = account.rows("SELECT * FROM audit")
        with pytest.raises(InvalidPosition, match="the venue still holds 7"):
            close.book([believed])
        assert account.rows("SELECT * FROM audit") == written
    assert len(account.exchange.open_orders(LEG)) == 2
    account.guard.close_position("btc-1")
    account.assert_closed_once(position, orders=2)


def test_a_late_growth_of_the_position_is_closed_too(account: Account) -> None:
    """An adopter was stopped in its write, and made it just before the closer's first one."""
    position = account.open()
    account.exchange.open_position(SYMBOL, "long", 6)
    venue = Venue(account)
    sending, key = venue.ledger.sending, CloseKey("btc-1", 1)
    steps = ["resize"]
    grown = position.scaled_in(6, 59_000)

    def late(*args: Any) -> int:
        if steps:
            steps.pop()
            venue.ledger.resize(key, venue.ledger.highest_token("btc-1"), grown, Decimal(59_625))
        return sending(*args)

    venue.ledger.sending = late  # type: ignore[assignment]
    closed = venue.guard.close_position("btc-1")
    assert account.exchange.held(LEG) == 0
    assert sum(fill.contracts for fill in closed.fills) == 16


@pytest.mark.parametrize("died", [False, True])
def test_a_stop_that_the_venue_does_not_list_yet_is_not_left_over(account: Account, died: bool) -> None:
    """A new order is found by its id, and missing in the list for a while."""
    position = account.open()
    if died:
        with pytest.raises(LockLost):
            Venue(account, Strike("place_stop", "after", DIED)).guard.modify_position("btc-1", stop_loss=50_000)
    else:
        account.guard.modify_position("btc-1", stop_loss=50_000)
    venue = Venue(account)
    (new,) = [order.order_id for order in account.exchange.open_orders(LEG) if order.trigger_price == 50_000]
    listed = venue.exchange.open_orders
    venue.instead["open_orders"] = lambda leg: [order for order in listed(leg) if order.order_id != new]
    venue.guard.close_position("btc-1")
    account.assert_closed_once(position)


def test_a_reduce_that_is_asked_for_again_is_made_once(account: Account) -> None:
    """Its owner died after it was sent; the bot restarts and asks for the same: it is told, and may ask anew."""
    account.open()
    venue = Venue(account, Strike("place", "after", LockLost("btc-1", "x", "test")))
    with pytest.raises(LockLost):
        venue.guard.modify_position("btc-1", reduce_by=3)
    again = Venue(account)
    with pytest.raises(InvalidChange, match="an earlier reduce was under way and is finished now, 7 are left"):
        again.guard.modify_position("btc-1", reduce_by=3)
    assert account.exchange.held(LEG) == 7
    assert again.guard.modify_position("btc-1", reduce_by=3).contracts == 4


def test_a_stop_loss_is_the_last_that_makes_room(account: Account) -> None:
    """A venue refuses what resting orders cover: the take-profit goes first, and that is enough."""
    account.open()
    venue = Venue(account)
    refusals = iter([True, False])
    place = venue.exchange.place

    def covered(order: CloseOrder) -> Order:
        if next(refusals, False):
            raise ReduceOnlyBlocked("covered", code="-4118")
        assert [each.family for each in account.exchange.open_orders(LEG)] == ["stop_loss"]
        return place(order)

    venue.instead["place"] = covered
    venue.guard.close_position("btc-1")
    assert account.exchange.held(LEG) == 0


@pytest.mark.parametrize("urgent", [False, True])
def test_the_orders_of_a_later_position_make_no_room(account: Account, *, urgent: bool) -> None:
    """Closed by hand and entered again, as many at the same price, while the order was under way: refused, it waits.

    The first look could not read the trades, or there was none: whose the contracts are has not been seen yet.
    """
    account.open()
    venue = Venue(account, Strike("trades", "before", ExchangeUnavailable("429")), settles_within=0.3)

    def covered(_: CloseOrder) -> Order:
        del venue.instead["place"]
        account.exchange.place(CloseOrder(LEG, Decimal(10), "byhand", account.exchange.time_ms(), 5000))
        account.exchange.set_price(SYMBOL, 60_000)
        account.exchange.open_position(SYMBOL, "long", 10)
        account.exchange.protect(SYMBOL, "long", "stop_loss", 10, 50_000)
        raise ReduceOnlyBlocked("covered", code="-4118")

    venue.instead["place"] = covered
    closed = venue.guard.close_position("btc-1", urgent=urgent)
    assert (closed.ended_by, closed.left_at_venue, account.exchange.held(LEG)) == ("other", 10, 10)
    assert [order.trigger_price for order in account.exchange.open_orders(LEG)] == [57_000, 66_000, 50_000]


def test_the_orders_of_what_is_to_be_adopted_make_no_room_before_it_is(account: Account) -> None:
    """5 are added while an order for the whole leg is under way: whoever dies now leaves them with their stop."""
    account.open()
    venue = Venue(account, writes=(Strike("sending", "before", DIED, nth=2),))

    def covered(_: CloseOrder) -> Order:
        account.exchange.open_position(SYMBOL, "long", 5)
        account.exchange.protect(SYMBOL, "long", "stop_loss", 5, 50_000)
        raise ReduceOnlyBlocked("covered", code="-4118")

    venue.instead["place"] = covered
    with pytest.raises(LockLost):
        venue.guard.close_position("btc-1", whole=True)
    assert [order.trigger_price for order in account.exchange.open_orders(LEG)] == [57_000, 66_000, 50_000]


def test_a_close_that_fails_without_its_stop_loss_says_so(account: Account) -> None:
    """Blocked, blocked again, and then refused for another reason: the trader must know that it is bare."""
    account.open()
    venue = Venue(account)
    outcomes: Any = iter([ReduceOnlyBlocked("covered"), ReduceOnlyBlocked("covered"), OrderRefused("margin")])

    def place(_: CloseOrder) -> Order:
        raise next(outcomes)

    venue.instead["place"] = place
    with pytest.raises(CloseUnsettled, match="its stop-loss was cancelled for that, protect it"):
        venue.guard.close_position("btc-1")
    assert account.exchange.open_orders(LEG) == []


def test_an_unknown_outcome_of_a_bots_own_order_is_found(account: Account) -> None:
    """The block ends with the bot's error; `recover` finds the order by its client order id."""
    position = account.open()
    venue = Venue(account, Strike("place", "after", OutcomeUnknown("connection cut")))
    with pytest.raises(OutcomeUnknown), venue.guard.closing("btc-1") as close:
        sending = close.sending()
        signed_at_ms, window_ms = sending.signed_at_ms, sending.receive_window_ms
        venue.place(CloseOrder(LEG, Decimal(10), close.client_order_id, signed_at_ms, window_ms))
    (recovery,) = account.guard.recover()
    assert recovery.error is None
    account.assert_closed_once(position)


def test_no_more_is_sent_than_is_left_of_the_position(account: Account) -> None:
    """4 of 10 were taken off by hand, then 8 were added by hand: 6 are the position's, 8 are somebody's."""
    account.open()
    for order in account.exchange.open_orders(LEG):
        account.exchange.cancel(order)
    account.exchange.place(CloseOrder(LEG, Decimal(4), "byhand", account.exchange.time_ms(), 5000))
    account.exchange.open_position(SYMBOL, "long", 8)
    closed = Venue(account, settles_within=0.3).guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    assert closed.left_at_venue == account.exchange.held(LEG) == 8


def test_a_bots_own_order_cannot_outlive_its_hold(account: Account) -> None:
    """Stopped before it sends, replaced, resumed: signed as it was told to, its order is too late at the venue."""
    account.open()
    first = Venue(account, stale_after=0.5)
    with pytest.raises(RequestExpired), first.guard.closing("btc-1") as close:
        sending = close.sending()
        Venue(account, timeout=5, denies_for=0.1).guard.close_position("btc-1")
        account.open()
        first.place(
            CloseOrder(LEG, Decimal(10), close.client_order_id, sending.signed_at_ms, sending.receive_window_ms)
        )
    assert account.exchange.held(LEG) == 10


@pytest.mark.parametrize("inverse", [False, True])
def test_growing_twice_with_an_exit_in_between_books_what_was_earned(tmp_path: Path, inverse: bool) -> None:
    """Each lot against its own entry: what left early was entered at the price before the position grew."""
    exchange = PaperExchange(tmp_path / "exchange.db", fee_rate=0, inverse=inverse)
    guard = PositionGuard(exchange, lock_dir=tmp_path / "locks")

    def enter(contracts: int, price: int) -> str:
        exchange.set_price(SYMBOL, price)
        exchange.open_position(SYMBOL, "long", contracts)
        return guard.adopt(SYMBOL, "long").position.id

    position_id = enter(10, 100)
    guard.modify_position(position_id, reduce_by=5)
    enter(5, 200)
    exchange.set_price(SYMBOL, 125)
    guard.modify_position(position_id, reduce_by=4)
    enter(10, 160)
    exchange.set_price(SYMBOL, 200)
    closed = guard.close_position(position_id)
    entries = [(10, 100), (5, 200), (10, 160)]
    exits = [(int(fill.contracts), int(fill.price)) for fill in closed.fills]
    assert exits == [(5, 100), (4, 125), (16, 200)]
    if inverse:
        earned = sum(Fraction(c, p) for c, p in entries) - sum(Fraction(c, p) for c, p in exits)
    else:
        earned = Fraction(sum(c * p for c, p in exits) - sum(c * p for c, p in entries))
    assert abs(Fraction(closed.gross_pnl) - earned) <= Fraction(1, 10**12)
