"""What may become of a close at the venue: each outcome is a scripted behaviour of an exchange, and a test.

definite refusal →
    test_closing.test_a_refused_order_leaves_the_position_closing
unknown outcome →
    test_closing.test_an_unknown_outcome_is_asked_for_not_sent_again
nothing to reduce →
    test_closing.test_a_stop_loss_that_fires_between_question_and_order_is_booked
nothing to reduce, and no fills that say why →
    test_closing.test_a_venue_that_wrongly_says_flat_is_not_believed
venue denies an order that exists, for a while →
    test_closing.test_an_order_that_the_venue_denies_for_a_while_is_not_sent_again
order lands after a time-out →
    test_outcomes.test_an_order_that_lands_after_the_time_out_is_found
order lands after it was sent again →
    test_outcomes.test_an_order_that_lands_when_it_is_sent_again_is_found_by_its_id
order arrives after its receive window →
    test_outcomes.test_an_order_that_arrives_too_late_is_not_taken
partial fill then cancel, by the venue →
    test_closing.test_partial_fills_go_on_under_new_ids_until_all_is_closed
partial fill then cancel, by the closer →
    test_closing.test_a_remainder_that_never_ends_is_cancelled
position liquidated →
    test_outcomes.test_a_liquidation_is_booked
position closed by hand →
    test_closing.test_a_position_closed_by_hand_is_booked_from_that_fill
resting reduce-only order that blocks the close →
    test_outcomes.test_orders_that_block_the_close_are_cancelled_first
the same, and it cannot be cancelled →
    test_outcomes.test_a_close_that_stays_blocked_is_unsettled_and_protected
the same, and it fills before it is cancelled →
    test_outcomes.test_a_blocking_stop_loss_that_fires_first_closes_the_position
the same, and the closer dies after the cancel →
    test_outcomes.test_who_dies_after_cancelling_what_blocks_is_succeeded
cancel of an order just filled →
    test_outcomes.test_a_cancel_that_comes_after_the_fill_is_no_error
fill of the stop-loss during the close →
    test_outcomes.test_a_stop_loss_may_fire_before_any_request_of_the_close
"""

from __future__ import annotations

import ast
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike, StruckExchange
from poslock import CloseUnsettled, LockLost, OrderRefused, OutcomeUnknown, PaperExchange
from poslock.exchange.port import CloseOrder, Leg, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account
    from poslock import ClosedPosition, Position, PositionGuard

LEASE = 1.0  # a receive window is no longer


class Venue:
    """The account's exchange as a guard sees it: what it says and does instead is in *scripted*."""

    def __init__(self, account: Account, *strikes: Strike, **settings: Any) -> None:
        settings = {"settles_within": 0.5, "denies_for": 0.1, **settings}
        self.real = PaperExchange(account.exchange_path, **settings)
        self.struck = StruckExchange(self.real, *strikes)
        self.scripted = self.struck.instead
        self.guard: PositionGuard = account.guard_on(self.struck, stale_after=LEASE)

    @property
    def calls(self) -> list[str]:
        return self.struck.struck.calls


def assert_flat_and_booked(account: Account, position: Position, closed: ClosedPosition) -> None:
    """Closed once, not reversed, no order left, and the P&L is that of all fills, whoever sent them."""
    orders = [o for o in account.exchange.orders(leg_of(position)) if o.family == "order" and o.filled]
    account.assert_closed_once(position, orders=len(orders))
    fills = account.exchange.fills(leg_of(position), 0)
    assert closed.fills == tuple(fills)
    gross = sum((fill.price - 60_000) * fill.contracts for fill in fills)
    assert closed.gross_pnl == gross
    assert closed.net_pnl == gross - sum(fill.fee for fill in fills)


def leg_of(position: Position) -> Leg:
    return Leg(position.symbol, position.side)


class Late:
    """An order that is still on its way when the answer to it is given up: it arrives when it is told to."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.under_way: list[CloseOrder] = []
        self.refused: list[OrderRefused] = []

    def place(self, order: CloseOrder) -> Order:
        self.under_way.append(order)
        raise OutcomeUnknown("time-out")

    def arrive(self) -> None:
        try:
            self.venue.real.place(self.under_way.pop())
        except OrderRefused as refused:
            self.refused.append(refused)


def test_an_order_that_lands_after_the_time_out_is_found(account: Account) -> None:
    """The venue does not know it when first asked, then it does: it is not sent again."""
    position = account.open()
    venue = Venue(account)
    late = Late(venue)
    asked: list[str] = []

    def order(leg: Leg, client_id: str) -> Order | None:
        asked.append(client_id)
        if len(asked) == 3:
            late.arrive()
        return venue.real.order(leg, client_id)

    venue.scripted.update(place=late.place, order=order)
    closed = venue.guard.close_position("btc-1")
    assert venue.calls.count("place") == 1
    assert len(asked) == 3
    assert_flat_and_booked(account, position, closed)


def test_an_order_that_lands_when_it_is_sent_again_is_found_by_its_id(account: Account) -> None:
    """A venue with a slow way in takes it after its window, when the same order goes out again: a duplicate."""
    position = account.open()
    venue = Venue(account)
    late = Late(venue)

    def place(order: CloseOrder) -> Order:
        if venue.calls.count("place") == 1:
            return late.place(order)
        venue.real.place(replace(late.under_way.pop(), receive_window_ms=60_000))
        return venue.real.place(order)

    venue.scripted["place"] = place
    closed = venue.guard.close_position("btc-1")
    assert venue.calls.count("place") == 2
    assert len(account.exchange.orders(leg_of(position))) == 3  # with the two protective ones
    assert_flat_and_booked(account, position, closed)


def test_an_order_that_arrives_too_late_is_not_taken(account: Account) -> None:
    """It is sent again when its window is over; the first request then finds a venue that refuses it."""
    position = account.open()
    venue = Venue(account)
    late = Late(venue)

    def place(order: CloseOrder) -> Order:
        if venue.calls.count("place") == 1:
            return late.place(order)
        late.arrive()
        return venue.real.place(order)

    venue.scripted["place"] = place
    closed = venue.guard.close_position("btc-1")
    assert [refused.code for refused in late.refused] == ["late"]
    assert account.rows("SELECT count(*) FROM attempt") == [(1,)]
    assert_flat_and_booked(account, position, closed)


def liquidate(account: Account, position: Position) -> None:
    """What a venue does: cancels what rests, and takes the position over at a bad price, with an order of its own."""
    leg = leg_of(position)
    for order in account.exchange.open_orders(leg):
        account.exchange.cancel(order)
    account.exchange.protect(leg.symbol, leg.side, "stop_loss", position.contracts, 30_000)
    account.exchange.set_price(leg.symbol, 30_000)


@pytest.mark.parametrize("during", [None, "holding", "place", "order"])
def test_a_liquidation_is_booked(account: Account, during: str | None) -> None:
    """Before the close, or while it asks or sends, or with its answer lost: the venue's fill is the P&L."""
    position = account.open()
    venue = Venue(account)
    pending = [lambda: liquidate(account, position)]

    def scripted(name: str) -> Callable[..., Any]:
        def request(*args: Any) -> Any:
            if pending:
                pending.pop()()
            return getattr(venue.real, name)(*args)

        return request

    if during is None:
        pending.pop()()
    else:
        venue.scripted[during] = scripted(during)
    if during == "order":
        venue.scripted["place"] = Late(venue).place
    closed = venue.guard.close_position("btc-1")
    assert closed.exit_price == Decimal(30_000)
    assert closed.client_order_id is None
    assert_flat_and_booked(account, position, closed)


def test_orders_that_block_the_close_are_cancelled_first(account: Account) -> None:
    """Only once refused for that the close gives up the take-profit, and once refused again the stop-loss."""
    position = account.open()
    venue = Venue(account, blocks_covered=True)
    closed = venue.guard.close_position("btc-1")
    sent = [name for name in venue.calls if name in {"place", "cancel"}]
    assert sent == ["place", "cancel", "place", "cancel", "place"]
    assert account.rows("SELECT count(*) FROM attempt") == [(1,)]
    assert_flat_and_booked(account, position, closed)


def test_a_close_that_stays_blocked_is_unsettled_and_protected(account: Account) -> None:
    """Bounded, nothing is booked, and what could not be cancelled still protects; the next close ends it."""
    position = account.open()
    venue = Venue(account, blocks_covered=True)
    venue.scripted["cancel"] = lambda *_: None
    with pytest.raises(CloseUnsettled, match="10 contracts were left"):
        venue.guard.close_position("btc-1")
    assert len(account.exchange.open_orders(leg_of(position))) == 2
    assert account.rows("SELECT count(*) FROM booking") == [(0,)]
    venue.scripted.clear()
    assert_flat_and_booked(account, position, venue.guard.close_position("btc-1"))


@pytest.mark.parametrize("contracts", [10, 4])
def test_a_blocking_stop_loss_that_fires_first_closes_the_position(account: Account, contracts: int) -> None:
    """Blocked because of it, and it fires, all or a part, before it is cancelled; the cancel finds it filled."""
    position = account.open()
    leg = leg_of(position)
    account.exchange.protect(leg.symbol, leg.side, "stop_loss", contracts, 58_000)
    venue = Venue(account, blocks_covered=True)

    def open_orders(leg: Leg) -> list[Order]:
        seen = venue.real.open_orders(leg)
        account.exchange.set_price(leg.symbol, 57_500)
        return seen

    venue.scripted["open_orders"] = open_orders
    closed = venue.guard.close_position("btc-1")
    assert closed.fills[0].contracts == contracts
    assert closed.fills[0].price == 57_500
    assert venue.calls.count("place") == (1 if contracts == 10 else 3)
    assert_flat_and_booked(account, position, closed)


@pytest.mark.parametrize("nth", [1, 2])
def test_who_dies_after_cancelling_what_blocks_is_succeeded(account: Account, nth: int) -> None:
    """One or both protective orders are gone and nothing is closed: the next owner, blocked or not, closes."""
    position = account.open()
    venue = Venue(account, Strike("cancel", "after", LockLost("btc-1", "x", "test"), nth), blocks_covered=True)
    with pytest.raises(LockLost):
        venue.guard.close_position("btc-1")
    assert account.exchange.held(leg_of(position)) == 10
    (recovery,) = Venue(account, blocks_covered=True).guard.recover()
    assert recovery.closed is not None
    assert_flat_and_booked(account, position, recovery.closed)


@pytest.mark.parametrize("refusal", [OrderRefused("order is filled", code="2041"), None], ids=["refused", "silent"])
def test_a_cancel_that_comes_after_the_fill_is_no_error(account: Account, refusal: OrderRefused | None) -> None:
    """The own order stood half filled for too long, is cancelled, and had filled just before: nothing is sent again."""
    position = account.open()
    venue = Venue(account)
    canceled: list[str] = []

    def as_seen(order: Order | None) -> Order | None:
        return order if order is None or canceled else replace(order, filled=Decimal(6), state="open")

    def cancel(order: Order) -> None:
        if order.family == "order":
            canceled.append(order.order_id)
            if refusal is not None:
                raise refusal
        venue.real.cancel(order)

    venue.scripted.update(
        place=lambda order: as_seen(venue.real.place(order)),
        order=lambda *args: as_seen(venue.real.order(*args)),
        trades=lambda *args: venue.real.trades(*args) if canceled else [],
        cancel=cancel,
    )
    closed = venue.guard.close_position("btc-1")
    assert len(canceled) == 1
    assert venue.calls.count("place") == 1
    assert_flat_and_booked(account, position, closed)


def requests_of_a_close(account: Account, position: Position, **settings: Any) -> list[str]:
    venue = Venue(account, **settings)
    venue.guard.close_position(position.id)
    return venue.calls


@pytest.mark.parametrize("stop", [10, 4])
@pytest.mark.parametrize("settings", [{}, {"liquidity": 7}, {"liquidity": 7, "remainder_rests": 0.2}])
def test_a_stop_loss_may_fire_before_any_request_of_the_close(
    account: Account, settings: dict[str, Any], stop: int
) -> None:
    """Two exits race, wherever the close is: all of the position is gone, none of it twice, all fills are booked."""
    raced = 0
    for nth in range(1, len(requests_of_a_close(account, account.open("plain"), **settings)) + 1):
        position = account.open(f"p{nth}", symbol=f"C{nth}/USDT")
        leg = leg_of(position)
        account.exchange.protect(leg.symbol, leg.side, "stop_loss", stop, 58_000)
        venue = Venue(account, **settings)
        script(venue, nth, account, leg)
        closed = venue.guard.close_position(position.id)
        raced += len({fill.client_order_id is None for fill in closed.fills}) - 1
        assert_flat_and_booked(account, position, closed)
    assert raced or (stop == 10 and not settings)  # some were closed by both


def script(venue: Venue, nth: int, account: Account, leg: Leg) -> None:
    """The price falls through the stop-loss right before the n-th request."""

    def before(name: str) -> Callable[..., Any]:
        def request(*args: Any) -> Any:
            if len(venue.calls) == nth:
                account.exchange.set_price(leg.symbol, 57_500)
            return getattr(venue.real, name)(*args)

        return request

    for name in ("holding", "trades", "place", "order", "open_orders", "cancel", "funding"):
        venue.scripted[name] = before(name)


OUTCOMES = (
    "definite refusal",
    "unknown outcome",
    "nothing to reduce",
    "venue denies an order that exists, for a while",
    "order lands after a time-out",
    "partial fill then cancel",
    "position liquidated",
    "position closed by hand",
    "resting reduce-only order that blocks the close",
    "cancel of an order just filled",
    "fill of the stop-loss during the close",
)


def test_every_outcome_has_a_test() -> None:
    """The table above is complete, and what it names exists."""
    lines = [line.strip() for line in (__doc__ or "").splitlines()]
    table = {line.removesuffix(" →"): test for line, test in pairwise(lines) if line.endswith(" →")}
    for module, test in (named.split(".") for named in table.values()):
        tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text("utf-8"))
        assert test in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, test
    for outcome in OUTCOMES:
        assert any(text.startswith(outcome) for text in table), outcome
