"""The close, driven in this process against an exchange on which everything may go wrong."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import re
import time
from decimal import Context, Decimal, Inexact, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike, StruckExchange
from intents import lock_for
from poslock import (
    CloseUnsettled,
    ExchangeUnavailable,
    LockFileError,
    LockLost,
    LockTimeout,
    OrderRefused,
    OutcomeUnknown,
    PaperExchange,
    PositionAlreadyClosingError,
    PositionLock,
    PositionNotFound,
)
from poslock.closing.session import client_order_id
from poslock.database import Database
from poslock.exchange.port import CloseOrder, Leg, Order
from poslock.ledger.ledger import Ledger
from poslock.position import TrackedPosition
from systems import elsewhere

if TYPE_CHECKING:
    from conftest import Account
    from poslock import Position

pytestmark = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


class Venue(StruckExchange):
    """The account's exchange with strikes, and how to close on it."""

    def __init__(self, account: Account, *strikes: Strike, stale_after: float = 30.0, **settings: Any) -> None:
        super().__init__(PaperExchange(account.exchange_path, **{"settles_within": 0.3, **settings}), *strikes)
        self.guard = account.guard_on(self, stale_after=stale_after)

    @property
    def calls(self) -> list[str]:
        return self.struck.calls


def leg_of(position: Position) -> Leg:
    return Leg(position.symbol, position.side)


def test_a_close_asks_sends_sweeps_and_books(account: Account) -> None:
    """The plain course: each read says something new, and the one after the sweep is what books."""
    position = account.open()
    venue = Venue(account)
    closed = venue.guard.close_position("btc-1", reason="stop-loss")
    look = ["holding", "trades"]
    last = [*look, "open_orders", "funding"]
    assert venue.calls == ["prepare", *look, "place", "open_orders", *look, "cancel", "cancel", *last]
    assert closed.exit_price == 59_000
    assert closed.gross_pnl == -10_000
    assert closed.fees == Decimal(295)  # 0.0005 of 590000
    assert closed.net_pnl == -10_295
    assert closed == account.guard.position("btc-1").closed
    account.assert_closed_once(position)


def test_an_order_that_shows_in_part_is_asked_for_before_the_next_one(account: Account) -> None:
    """Until it has ended it may still fill, so what was seen beside it is no reason for another one."""
    position = account.open()
    venue = Venue(account, liquidity=6, remainder_rests=0.2)
    venue.guard.close_position("btc-1")
    first, second = [number for number, name in enumerate(venue.calls) if name == "place"]
    between = venue.calls[first + 1 : second]
    assert between[:4] == ["open_orders", "holding", "trades", "order"]
    assert between[-2:] == ["holding", "trades"]
    account.assert_closed_once(position, orders=2)


# Where the venue cancels by client order ids.


def test_own_orders_are_cancelled_before_anything_is_listed(account: Account) -> None:
    """After the look that shows flat; the list comes once, in the end."""
    position = protected(account)
    venue = Venue(account, cancels_unlisted=True)
    venue.guard.close_position("btc-1")
    look = ["holding", "trades"]
    asked = ["prepare", *look, "place", *look, "cancel_stops", *look, "open_orders", "funding"]
    assert venue.calls == asked
    account.assert_closed_once(position)


def test_orders_of_others_are_swept_after_the_own_ones(account: Account) -> None:
    """The last read finds them, and there is another one after it."""
    position = account.open()
    venue = Venue(account, cancels_unlisted=True)
    venue.guard.modify_position("btc-1", take_profit=65_000)
    venue.guard.close_position("btc-1")
    after = venue.calls[venue.calls.index("place") :]
    swept = [each for each in after if each.startswith(("cancel", "open_orders"))]
    assert swept == ["cancel_stops", "open_orders", "cancel", "open_orders"]
    account.assert_closed_once(position)


def test_where_nothing_of_ours_rests_the_orders_of_others_are_listed_before(account: Account) -> None:
    """So they go at once when the leg is flat."""
    position = account.open()
    venue = Venue(account, cancels_unlisted=True)
    venue.guard.close_position("btc-1")
    after, look = venue.calls[venue.calls.index("place") + 1 :], ["holding", "trades"]
    assert after == ["open_orders", *look, "cancel", "cancel", *look, "open_orders", "funding"]
    account.assert_closed_once(position)


@pytest.mark.parametrize(
    "error", [OrderRefused("no such parameter"), OutcomeUnknown("cut"), ExchangeUnavailable("cut")]
)
def test_own_orders_that_are_not_cancelled_unlisted_are_listed(account: Account, error: Exception) -> None:
    """The reads decide: what the last one shows is cancelled by its id."""
    position = protected(account)
    venue = Venue(account, Strike("cancel_stops", "before", error), cancels_unlisted=True)
    venue.guard.close_position("btc-1")
    assert [each for each in venue.calls if each.startswith("cancel")] == ["cancel_stops", "cancel", "cancel"]
    account.assert_closed_once(position)


def test_an_own_order_is_not_cancelled_unlisted_while_something_is_held(account: Account) -> None:
    """A position that was entered again by the time of the look keeps the stop-loss; the take-profit goes."""
    protected(account)
    venue = Venue(account, cancels_unlisted=True)

    def place(order: CloseOrder) -> Order:
        placed = venue.exchange.place(order)
        account.exchange.open_position(order.leg.symbol, order.leg.side, 3)
        return placed

    venue.instead["place"] = place
    closed = venue.guard.close_position("btc-1")
    assert closed.left_at_venue == 3
    assert "cancel_stops" not in venue.calls
    assert [each.family for each in account.exchange.open_orders(Leg("BTC/USDT:USDT", "long"))] == ["stop_loss"]


def protected(account: Account) -> Position:
    """An open position with a stop-loss and a take-profit of its own, and none of others."""
    position = account.open()
    for order in account.exchange.open_orders(leg_of(position)):
        account.exchange.cancel(order)
    account.guard.modify_position("btc-1", stop_loss=57_000, take_profit=66_000)
    return position


def test_a_short_position_closes_too(account: Account) -> None:
    """Bought back, gained by the fall."""
    position = account.open(side="short")
    assert account.guard.close_position("btc-1").gross_pnl == 10_000
    account.assert_closed_once(position)


def test_an_unknown_position_is_not_found_and_nothing_is_sent(account: Account) -> None:
    """PositionNotFound names the ledger."""
    venue = Venue(account)
    with pytest.raises(PositionNotFound, match=re.escape("ledger.db")):
        venue.guard.close_position("nobody")
    assert venue.calls == []


def test_a_position_of_another_account_is_not_found(account: Account, tmp_path: Any) -> None:
    """A ledger may be shared by accounts; a guard acts on its own."""
    account.open()
    other = account.guard_on(PaperExchange(tmp_path / "other.db"))
    with pytest.raises(PositionNotFound):
        other.close_position("btc-1")
    assert other.recover() == []


def test_who_waits_is_told_closed_and_who_does_not_wait_is_told_closing(account: Account) -> None:
    """With timeout=0 the answer is immediate and names the holder."""
    account.open()
    with lock_for("close", "btc-1", lock_dir=elsewhere(account.lock_dir), purpose="close: another bot"):
        hasty = account.guard_on(account.exchange, timeout=0)
        with pytest.raises(PositionAlreadyClosingError) as caught:
            hasty.close_position("btc-1")
    assert caught.value.state == "closing"
    assert caught.value.holder is not None
    assert caught.value.holder.purpose == "close: another bot"
    hasty.close_position("btc-1")
    with pytest.raises(PositionAlreadyClosingError) as caught:
        hasty.close_position("btc-1")
    assert caught.value.state == "closed"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_unknown_outcome_is_asked_for_not_sent_again(account: Account, when: Any) -> None:
    """The answer to the order is lost: if the venue has it, it is found; if not, the same id goes out again."""
    position = account.open()
    strike = Strike("place", when, OutcomeUnknown("connection cut"))
    venue = Venue(account, strike, denies_for=0.1, stale_after=1.0)  # a window of at most a second
    venue.guard.close_position("btc-1")
    assert venue.calls.count("place") == (1 if when == "after" else 2)
    assert account.rows("SELECT count(*) FROM attempt") == [(1,)]
    account.assert_closed_once(position)


def test_an_order_that_the_venue_denies_for_a_while_is_not_sent_again(account: Account) -> None:
    """It exists, but the first answers say it does not."""
    position = account.open()

    venue = Venue(account, Strike("place", "after", OutcomeUnknown("time-out")), denies_for=5.0)
    denials = [None] * 3

    def order(leg: Leg, client_id: str) -> Order | None:
        return denials.pop() if denials else venue.exchange.order(leg, client_id)

    venue.instead["order"] = order
    venue.guard.close_position("btc-1")
    assert denials == []
    assert venue.calls.count("place") == 1
    account.assert_closed_once(position)


def test_a_refused_order_leaves_the_position_closing(account: Account) -> None:
    """A definite refusal is an error with the venue's words; the next call goes on."""
    position = account.open()
    strike = Strike("place", "before", OrderRefused("price limit", code="x"))
    venue = Venue(account, strike, denies_for=0.1, stale_after=1.0)
    with pytest.raises(CloseUnsettled, match="price limit") as caught:
        venue.guard.close_position("btc-1")
    assert caught.value.step == "sending"
    assert account.guard.position("btc-1").state == "closing"
    venue.guard.close_position("btc-1")
    account.assert_closed_once(position)


@pytest.mark.parametrize("liquidity", [1, 3, 9])
def test_partial_fills_go_on_under_new_ids_until_all_is_closed(account: Account, liquidity: int) -> None:
    """Each residual is an attempt of its own; the booking holds all fills."""
    position = account.open()
    Venue(account, liquidity=liquidity).guard.close_position("btc-1")
    orders = -(-10 // liquidity)
    ids = {client_id for (client_id,) in account.rows("SELECT client_order_id FROM attempt")}
    assert len(ids) == orders
    account.assert_closed_once(position, orders=orders)


def test_a_stop_loss_that_was_faster_is_booked(account: Account) -> None:
    """The venue's own stop closed the position: nothing is sent, its fills are booked, the take-profit is swept."""
    position = account.open()
    account.exchange.set_price(position.symbol, 56_000)
    venue = Venue(account)
    closed = venue.guard.close_position("btc-1")
    assert "place" not in venue.calls
    assert (closed.exit_price, closed.client_order_id) == (56_000, None)
    account.assert_closed_once(position, orders=0)


def test_a_stop_loss_that_fires_between_question_and_order_is_booked(account: Account) -> None:
    """Two exits race: the order finds nothing to reduce, and that is verified, not taken for success."""
    position = account.open()
    venue = Venue(account)

    def place(order: CloseOrder) -> Order:
        account.exchange.set_price(position.symbol, 56_000)  # the stop fires while the order is on its way
        return venue.exchange.place(order)

    venue.instead["place"] = place
    closed = venue.guard.close_position("btc-1")
    assert venue.calls.count("place") == 1
    assert closed.exit_price == 56_000
    account.assert_closed_once(position, orders=0)


def test_a_position_reduced_by_hand_is_closed_for_what_is_left(account: Account) -> None:
    """The size sent is what the venue still holds; both fills are this position's P&L."""
    position = account.open()
    leg = leg_of(position)
    account.exchange.protect(leg.symbol, leg.side, "take_profit", 4, 58_000)
    account.exchange.set_price(leg.symbol, 58_500)
    closed = account.guard.close_position("btc-1")
    assert [(fill.contracts, fill.price) for fill in closed.fills] == [(4, 58_500), (6, 58_500)]
    account.assert_closed_once(position)


def test_fills_after_the_end_of_a_position_belong_to_the_next_one(account: Account) -> None:
    """Recovered late, after another trade on the same market: only the fills of this position are booked."""
    position = account.open()
    venue = Venue(account, *[Strike("funding", "before", ExchangeUnavailable("maintenance"), n) for n in range(1, 5)])
    with pytest.raises(CloseUnsettled, match="maintenance"):
        venue.guard.close_position("btc-1")
    leg = leg_of(position)
    account.exchange.open_position(leg.symbol, leg.side, 3)
    account.exchange.protect(leg.symbol, leg.side, "take_profit", 3, 50_000)
    account.exchange.set_price(leg.symbol, 70_000)
    (recovery,) = account.guard.recover()
    assert recovery.closed is not None
    assert recovery.closed.exit_price == 59_000


def test_a_position_whose_fills_do_not_add_up_stays_closing(account: Account) -> None:
    """Nothing is booked or swept on a guess: the venue holds nothing, and its trades explain only a part."""
    position = account.open(contracts=8)
    account.rows("UPDATE position SET contracts = '10', held = '10'")
    with pytest.raises(CloseUnsettled, match="no trades for 2 contracts") as caught:
        Venue(account).guard.close_position("btc-1")
    assert caught.value.step == "sending"
    assert account.rows("SELECT count(*) FROM booking") == [(0,)]
    tracked = account.guard.position("btc-1")
    assert tracked.state == "closing"
    assert "no trades for 2 contracts" in tracked.unsettled
    assert len(account.exchange.open_orders(leg_of(position))) == 2


def test_a_venue_that_wrongly_says_flat_is_not_believed(account: Account) -> None:
    """It reads flat for a while; without trades that is no reason to give up the stop-loss, nor to send anything."""
    position = account.open()

    venue = Venue(account)
    venue.instead["holding"] = lambda *_: None
    with pytest.raises(CloseUnsettled, match="no trades for 10 contracts"):
        venue.guard.close_position("btc-1")
    assert "place" not in venue.calls
    assert len(account.exchange.open_orders(leg_of(position))) == 2
    venue.instead.clear()
    venue.guard.close_position("btc-1")
    account.assert_closed_once(position)


def test_orders_of_contracts_that_nobody_tracked_are_left_alone(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """15 held, 10 tracked: 10 are closed and booked, the stops that may protect the other 5 stay, and it says so.

    Such a close used to stay open until the other 5 were gone; "closed" now means that this position is.
    """
    position = account.open()
    leg = leg_of(position)
    account.exchange.open_position(leg.symbol, leg.side, 5)
    with caplog.at_level("WARNING", "poslock.guard"):
        closed = Venue(account).guard.close_position("btc-1")
    assert sum(fill.contracts for fill in closed.fills) == 10
    assert (closed.left_at_venue, closed.written_off) == (5, 0)
    assert "5 contracts are left at the venue" in caplog.text
    assert "5 left at the venue" in account.rows("SELECT detail FROM audit WHERE event = 'booked'")[0][0]
    assert closed == account.guard.position("btc-1").closed
    assert account.exchange.held(leg) == 5
    assert len(account.exchange.open_orders(leg)) == 2
    assert account.guard.recover() == []


def test_a_fill_larger_than_the_position_counts_for_its_part(account: Account) -> None:
    """One stop for 15, of which 10 were this position's: two thirds of its fee."""
    position = account.open()
    leg = leg_of(position)
    account.exchange.open_position(leg.symbol, leg.side, 5)
    account.exchange.protect(leg.symbol, leg.side, "stop_loss", 15, 58_000)
    account.exchange.set_price(leg.symbol, 57_500)
    closed = account.guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [10]
    assert closed.gross_pnl == -25_000
    assert closed.fees == Decimal("287.5")


def test_a_position_closed_by_hand_is_booked_from_that_fill(account: Account) -> None:
    """A plain opposite order, not reduce-only: nothing is sent, both protective orders are swept."""
    position = account.open()
    account.exchange.open_position(position.symbol, "short", 10)
    venue = Venue(account)
    closed = venue.guard.close_position("btc-1")
    assert "place" not in venue.calls
    assert closed.gross_pnl == -10_000
    account.assert_closed_once(position, orders=0)


def test_a_reopened_position_is_left_alone(account: Account) -> None:
    """Whoever waited to close one generation does not close the next one, opened under the same id meanwhile."""
    position = account.open()

    class Waiting(Ledger):
        def highest_token(self, position_id: str) -> int:
            # This guard has looked at the position and is about to lock it. Another one closes it, a bot reopens it.
            account.guard.close_position(position_id)
            account.open()
            return super().highest_token(position_id)

    guard = account.guard_on(account.exchange, ledger=Waiting(f"{account.lock_dir}/ledger.db"), timeout=5)
    with pytest.raises(PositionAlreadyClosingError) as caught:
        guard.close_position("btc-1")
    assert caught.value.state == "closed"
    assert account.guard.position("btc-1").state == "open"
    assert account.exchange.held(leg_of(position)) == 10


def test_a_reopened_position_is_not_recovered(account: Account) -> None:
    """Its last close was unfinished when recover looked, and is finished and reopened when it gets the lock."""
    account.open()
    venue = Venue(account, Strike("open_orders", "before", LockLost("btc-1", "x", "test")))
    with pytest.raises(LockLost):
        venue.guard.close_position("btc-1")

    class Waiting(Ledger):
        def highest_token(self, position_id: str) -> int:
            account.guard.close_position(position_id)
            account.open()
            return super().highest_token(position_id)

    path = f"{account.lock_dir}/ledger.db"
    assert account.guard_on(account.exchange, ledger=Waiting(path)).recover() == []
    assert account.guard.position("btc-1").state == "open"


def test_a_ledger_put_aside_does_not_bring_back_client_order_ids(account: Account) -> None:
    """Generations start at 1 again, yet an old filled order must not pass for the new close."""
    account.open()
    account.guard.close_position("btc-1")
    account.put_ledger_aside()
    account.guard = account.guard_on(account.exchange)
    position = account.open()
    account.guard.close_position("btc-1")
    assert account.exchange.held(leg_of(position)) == 0
    assert account.exchange.open_orders(leg_of(position)) == []


@pytest.mark.parametrize(("lease", "longest_ms"), [(2.0, 2000), (30.0, 5000)])
def test_a_request_expires_with_the_lease_or_sooner(account: Account, lease: float, longest_ms: int) -> None:
    """It is signed as of the last lease check, and its window is what was left of the lease then, 5 s at most."""
    account.open()
    venue = Venue(account, stale_after=lease)
    sent: list[CloseOrder] = []

    def place(order: CloseOrder) -> Order:
        sent.append(order)
        return venue.exchange.place(order)

    venue.instead["place"] = place
    before_ms = venue.time_ms()
    venue.guard.close_position("btc-1")
    assert before_ms <= sent[0].signed_at_ms <= venue.time_ms()
    assert longest_ms - 1000 < sent[0].receive_window_ms <= longest_ms
    [(expires_at_ms,)] = account.rows("SELECT expires_at_ms FROM attempt")
    assert expires_at_ms == sent[0].signed_at_ms + sent[0].receive_window_ms


def test_a_fill_is_booked_once_although_two_closes_could_claim_it(account: Account) -> None:
    """Closed, opened and closed again within one tick of the venue's clock: each close has its own fills."""
    exchange = PaperExchange(account.exchange_path, clock=lambda: 1000.0)
    account.exchange, account.guard = exchange, account.guard_on(exchange)
    trades = []
    for _ in range(2):
        account.open()
        trades += [fill.trade_id for fill in account.guard.close_position("btc-1").fills]
    assert len(set(trades)) == 2


def test_a_remainder_that_never_ends_is_cancelled(account: Account) -> None:
    """The own order half filled and open for longer than the venue's time: cancelled, and the rest sent anew."""
    position = account.open()
    Venue(account, liquidity=6, remainder_rests=600.0).guard.close_position("btc-1")
    account.assert_closed_once(position, orders=2)


def test_a_venue_that_never_answers_to_orders_is_given_up_after_a_few(account: Account) -> None:
    """The number of orders sent without a result is bounded."""
    position = account.open()
    strikes = [Strike("place", "before", OutcomeUnknown("time-out"), n) for n in range(1, 9)]
    venue = Venue(account, *strikes, denies_for=0.0, stale_after=1.0)
    with pytest.raises(CloseUnsettled, match="10 contracts were left"):
        venue.guard.close_position("btc-1")
    assert venue.calls.count("place") == 3
    account.guard.close_position("btc-1")
    account.assert_closed_once(position)


def test_a_clock_that_went_back_does_not_make_the_wait_longer(account: Account) -> None:
    """An attempt journaled for an hour from now is waited for as long as a receive window, not for an hour."""
    position = account.open()
    venue = Venue(account, Strike("place", "before", LockLost("btc-1", "x", "test")))
    with pytest.raises(LockLost):
        venue.guard.close_position("btc-1")
    account.rows("UPDATE attempt SET expires_at_ms = expires_at_ms + 3600000")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    venue = Venue(account)
    venue.guard._operations.means.ports.sleep = sleep  # type: ignore[method-assign]
    venue.guard.close_position("btc-1")
    assert 5 <= sum(slept) < 10
    account.assert_closed_once(position)


def test_a_booked_close_is_returned_although_the_lock_cannot_be_released(account: Account, monkeypatch: Any) -> None:
    """The result stands; the lock runs out by itself."""
    account.open()

    def fail(self: PositionLock) -> None:
        raise LockFileError("btc-1", "path", "stays busy", "wait")

    monkeypatch.setattr(PositionLock, "release", fail)
    assert account.guard.close_position("btc-1").net_pnl == -10_295


def test_the_callers_decimal_context_changes_nothing(account: Account) -> None:
    """A bot that rounds to four digits, or traps rounding, gets the exact P&L all the same."""
    account.open()
    account.exchange.set_price("BTC/USDT:USDT", "59123.456789")
    with localcontext(Context(prec=4, traps=[Inexact])):
        closed = account.guard.close_position("btc-1")
    assert closed.gross_pnl == Decimal("-8765.43211")


@pytest.mark.parametrize("method", ["holding", "open_orders", "cancel", "trades", "funding"])
def test_a_question_without_an_answer_is_asked_again(account: Account, method: str) -> None:
    """One failure of any request is no reason to stop."""
    position = account.open()
    Venue(account, Strike(method, "before", ExchangeUnavailable("busy"))).guard.close_position("btc-1")
    account.assert_closed_once(position)


def test_an_order_placed_during_the_sweep_is_swept(account: Account) -> None:
    """The reads decide, not the cancels: one that appears after the first look is found by the next."""
    position = account.open()
    venue = Venue(account)
    leg = leg_of(position)
    late = [lambda: account.exchange.protect(leg.symbol, leg.side, "stop_loss", 1, 50_000)]

    def cancel(order: Order) -> None:
        if late:
            late.pop()()
        venue.exchange.cancel(order)

    venue.instead["cancel"] = cancel
    venue.guard.close_position("btc-1")
    assert venue.calls.count("open_orders") == 3  # before the leg is seen to be flat, and after each cancel
    account.assert_closed_once(position)


def test_a_venue_that_does_not_cancel_leaves_the_close_unsettled(account: Account) -> None:
    """Bounded, with the orders' names; not booked before they are gone."""
    position = account.open()
    venue = Venue(account)
    venue.instead["cancel"] = lambda *_: None
    with pytest.raises(CloseUnsettled, match="orders still rest: 2, 3"):
        venue.guard.close_position("btc-1")
    assert account.rows("SELECT step FROM close") == [("filled",)]
    account.guard.recover()
    account.assert_closed_once(position)


def test_a_request_that_hangs_longer_than_the_lease_loses_the_lock(account: Account) -> None:
    """The lease is not renewed during a request; the venue refuses what comes too late, and the next owner closes."""
    position = account.open()
    slow = PaperExchange(account.exchange_path, latency=1.2)
    with pytest.raises(LockLost):
        account.guard_on(slow, stale_after=1.0).close_position("btc-1")
    account.guard.close_position("btc-1")
    account.assert_closed_once(position)


def test_a_close_longer_than_its_lease_renews_between_steps(account: Account) -> None:
    """Slow, but never silent for a whole lease: it keeps the lock and finishes."""
    position = account.open()
    slow = PaperExchange(account.exchange_path, latency=0.4)
    began = time.monotonic()
    account.guard_on(slow, stale_after=1.0).close_position("btc-1")
    assert time.monotonic() - began > 2.0  # twice its lease
    account.assert_closed_once(position)


def test_a_wiped_lock_directory_does_not_bring_back_old_tokens(account: Account, monkeypatch: Any) -> None:
    """The ledger's highest token is the floor for the next grant, although the wall clock went back too."""
    position = account.open()
    venue = Venue(account, Strike("open_orders", "before", LockLost("btc-1", "x", "test")))
    with pytest.raises(LockLost):
        venue.guard.close_position("btc-1")
    [(seen,)] = account.rows("SELECT max(token) FROM position")
    for file in Path(account.lock_dir).glob("*.lock"):
        file.unlink()
    monkeypatch.setattr("poslock.lock.files.system.SYSTEM.wall_ns", lambda: 1000)
    assert account.guard.close_position("btc-1").token == seen + 1
    account.assert_closed_once(position)


def test_recover_finishes_all_and_leaves_alone_what_somebody_works_on(account: Account) -> None:
    """One entry per unfinished close; a held one is reported as closing, a finished one not at all."""
    for number in range(3):
        account.open(f"p{number}", symbol=f"C{number}/USDT")
        venue = Venue(account, Strike("open_orders", "before", LockLost(f"p{number}", "x", "test")))
        with pytest.raises(LockLost):
            venue.guard.close_position(f"p{number}")
    with PositionLock("p1", lock_dir=elsewhere(account.lock_dir)):
        recoveries = {each.position_id: each for each in account.guard.recover()}
    assert {key: each.closed is not None for key, each in recoveries.items()} == {"p0": True, "p1": False, "p2": True}
    assert isinstance(recoveries["p1"].error, PositionAlreadyClosingError)
    assert [each.position_id for each in account.guard.recover()] == ["p1"]
    assert account.guard.recover() == []


def test_client_order_ids_are_stable_and_distinct(account: Account) -> None:
    """32 lowercase letters and digits; the same close makes the same id, anything else another."""
    position = account.open()
    tracked = account.guard.position("btc-1")
    ids = [client_order_id(tracked, attempt) for attempt in (1, 2)]
    other = TrackedPosition(position, 2, tracked.account, "open", 0, None)
    ids += [client_order_id(other, 1), client_order_id(TrackedPosition(position, 1, "other", "open", 0, None), 1)]
    assert len(set(ids)) == 4
    assert all(re.fullmatch("[a-z0-9]{32}", each) for each in ids)
    assert client_order_id(tracked, 1) == ids[0]
    assert account.guard.close_position("btc-1").client_order_id == ids[0]


def test_a_venue_that_reads_flat_for_a_moment_is_asked_again_for_the_size(account: Account) -> None:
    """Flat at first, then 4 of the 10: what is sent is 4, for on a venue without reduce-only 10 would reverse it."""
    position = account.open()
    leg = leg_of(position)
    account.exchange.protect(leg.symbol, leg.side, "take_profit", 6, 58_000)
    account.exchange.set_price(leg.symbol, 58_500)
    venue = Venue(account)
    answers = [None]
    venue.instead["holding"] = lambda leg: answers.pop() if answers else venue.exchange.holding(leg)
    venue.guard.close_position("btc-1")
    assert answers == []
    assert account.rows("SELECT contracts FROM attempt") == [("4",)]
    account.assert_closed_once(position)


def test_a_bot_may_send_the_order_itself(account: Account) -> None:
    """Under the lock, announced and with the id that it is found by; the booking is the same."""
    position = account.open()
    leg = leg_of(position)
    with account.guard.closing("btc-1", reason="own") as closing:
        closing.check()
        sending = closing.sending()
        signed_at_ms, window_ms = sending.signed_at_ms, sending.receive_window_ms
        account.exchange.place(CloseOrder(leg, position.contracts, closing.client_order_id, signed_at_ms, window_ms))
        closing.renew()
        closed = closing.book(account.exchange.fills(leg, 0))
        assert (closed.token, closed.client_order_id) == (closing.token, closing.client_order_id)
    assert closed.net_pnl == -10_295
    account.assert_closed_once(position)


def test_an_error_in_a_bots_own_order_leaves_the_position_closing(account: Account) -> None:
    """It comes out of the block as it is, the lock is free, and recover goes on."""
    position = account.open()
    with pytest.raises(ZeroDivisionError), account.guard.closing("btc-1"):
        raise ZeroDivisionError
    assert account.guard.position("btc-1").state == "closing"
    (recovery,) = account.guard.recover()
    assert recovery.closed is not None
    account.assert_closed_once(position)


def test_nobody_changes_what_is_being_read(account: Account) -> None:
    """Several may read at once; whoever would change it gets no lock before all are done."""
    position = account.open()
    reader, hasty = (
        account.guard_on(account.exchange, lock_dir=elsewhere(account.lock_dir), timeout=0.1) for _ in range(2)
    )
    with account.guard.reading("btc-1") as tracked, reader.reading("btc-1"):
        assert tracked.position == position
        with pytest.raises(LockTimeout):
            hasty.modify_position("btc-1", stop_loss=56_000)
    assert hasty.modify_position("btc-1", stop_loss=56_000).stop_loss == 56_000


@pytest.mark.parametrize("options", [{"timeout": -1}, {"stale_after": 0}, {"stale_after": "30"}])
def test_a_guard_refuses_options_out_of_range(account: Account, options: dict[str, Any]) -> None:
    """At once, not at three in the morning."""
    with pytest.raises(ValueError, match=next(iter(options))):
        account.guard_on(account.exchange, **options)


@pytest.mark.parametrize(("reason", "kept"), [(None, ""), (7, "7"), ("x" * 129, "x" * 128), ("a\nb", "a\\nb")])
def test_a_log_text_never_keeps_a_close_from_happening(account: Account, reason: Any, kept: str) -> None:
    """It is cut to what the history keeps, and made printable."""
    position = account.open()
    account.guard.close_position("btc-1", reason=reason)
    account.assert_closed_once(position)
    assert account.rows("SELECT reason FROM close") == [(kept,)]


def test_a_close_makes_three_durable_commits(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intent and sending together, filled, booked; everything else that the ledger is asked is a read."""
    account.open()
    commits = []
    transaction = Database.transaction

    def counted(database: Database) -> Any:
        if database.path.endswith("ledger.db"):
            commits.append(database.path)
        return transaction(database)

    monkeypatch.setattr(Database, "transaction", counted)
    account.guard.close_position("btc-1")
    assert len(commits) == 3
