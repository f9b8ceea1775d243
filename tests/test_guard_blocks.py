"""The blocks of a guard, `closing` and `reading`, and what works on several positions: `adopt`, `close_positions`."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import threading
import time
from decimal import Context, Decimal, Inexact, localcontext
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike
from poslock import (
    CloseUnsettled,
    ExchangeUnavailable,
    InvalidPosition,
    LockLost,
    LockTimeout,
    PaperExchange,
    PositionAlreadyClosingError,
    PositionGuard,
    PositionLock,
    PositionNotFound,
)
from poslock.errors import PositionConflict
from poslock.exchange.port import CloseOrder, Holding, Leg
from systems import elsewhere
from venue import DIED, LEG, SYMBOL, Venue, at_once

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Account
    from poslock import Fill
    from poslock.guard.guard import Closing
    from poslock.position import Trade


def send(account: Account, close: Closing, contracts: int = 10) -> list[Fill]:
    """The bot's own order, and what was filled of it."""
    exchange = account.exchange
    exchange.place(CloseOrder(LEG, Decimal(contracts), close.client_order_id, exchange.time_ms(), 5000))
    return [fill for fill in exchange.fills(LEG, 0) if fill.client_order_id == close.client_order_id]


# closing


def test_a_bot_closes_with_its_own_order(account: Account) -> None:
    """The block gives the id and the token; book sweeps what rests and books the fills, as any close."""
    position = account.open()
    with account.guard.closing("btc-1", reason="target") as close:
        close.check()
        close.renew()
        assert 0 < close.sending().receive_window_ms <= 5000
        assert account.guard.position("btc-1").state == "closing"
        closed = close.book(send(account, close))
    assert (closed.client_order_id, closed.token) == (close.client_order_id, close.token)
    assert closed.net_pnl == -10_295
    account.assert_closed_once(position)
    assert account.guard.recover() == []


def test_a_closing_block_keeps_all_others_out(account: Account) -> None:
    """Nobody closes, changes or grows the position meanwhile, and whoever asks is told so."""
    account.open()
    hasty = Venue(account, timeout=0).guard
    with account.guard.closing("btc-1") as close:
        for other in (
            lambda: hasty.close_position("btc-1"),
            lambda: Venue(account).guard.modify_position("btc-1", stop_loss=58_000),
            lambda: hasty.closing("btc-1").__enter__(),
            lambda: hasty.adopt(SYMBOL, "long"),
        ):
            with pytest.raises(PositionAlreadyClosingError) as caught:
                other()
            assert caught.value.state == "closing"
        with pytest.raises(LockTimeout):
            hasty.reading("btc-1").__enter__()
        (recovery,) = hasty.recover()
        assert isinstance(recovery.error, PositionAlreadyClosingError)
        close.sending()
        close.book(send(account, close))


def test_a_position_that_is_closing_or_closed_is_not_closed_by_a_block(account: Account) -> None:
    """An order may be out that its code knows nothing of: then recover."""
    position = account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place", "after", DIED)).guard.close_position("btc-1")
    with pytest.raises(PositionAlreadyClosingError) as caught, account.guard.closing("btc-1"):
        raise AssertionError
    assert caught.value.state == "closing"
    account.guard.recover()
    with pytest.raises(PositionAlreadyClosingError) as caught, account.guard.closing("btc-1"):
        raise AssertionError
    assert caught.value.state == "closed"
    with pytest.raises(PositionNotFound), account.guard.closing("nobody"):
        raise AssertionError
    account.assert_closed_once(position)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("sent", [True, False])
def test_a_closing_block_left_by_an_error_is_finished_by_recover(account: Account, announced: bool, sent: bool) -> None:
    """The order is found by its client id if it is out, and sent if it is not; announced or not."""
    position = account.open()
    with pytest.raises(RuntimeError, match="bug"), account.guard.closing("btc-1") as close:
        if announced:
            close.sending()
        if sent:
            send(account, close)
        raise RuntimeError("bug")
    assert account.guard.position("btc-1").state == "closing"
    account.rows("UPDATE attempt SET expires_at_ms = 0")  # no need to wait for what was never sent
    venue = Venue(account)
    (recovery,) = venue.guard.recover()
    assert recovery.closed is not None
    assert venue.calls.count("place") == (0 if sent else 1)
    account.assert_closed_once(position)


def test_a_closing_block_left_without_booking_is_finished_by_recover(account: Account) -> None:
    """No error either, just nothing booked, and only a part was filled: the rest goes out under the next id."""
    position = account.open()
    with account.guard.closing("btc-1") as close:
        close.sending()
        send(account, close, 4)
    assert account.guard.position("btc-1").state == "closing"
    (recovery,) = account.guard.recover()
    assert recovery.closed is not None
    assert [fill.contracts for fill in recovery.closed.fills] == [4, 6]
    account.assert_closed_once(position, orders=2)


def test_an_order_sent_without_a_word_is_not_sent_twice(account: Account) -> None:
    """Never announced, and still invisible when recover looks: its id is the same, so the venue takes only one."""
    position = account.open()
    with account.guard.closing("btc-1") as close:
        pass
    venue, ours = Venue(account), close.client_order_id

    def place(order: CloseOrder) -> Any:
        if not venue.exchange.order(LEG, ours):
            send(account, close)
        return venue.exchange.place(order)

    venue.instead["place"] = place
    venue.guard.recover()
    account.assert_closed_once(position)


@pytest.mark.parametrize("wrong", ["none", "too few", "too many", "twice", "booked"])
def test_fills_that_are_not_those_of_the_position_are_not_booked(account: Account, wrong: str) -> None:
    """Nothing is written or swept; the right ones can be booked after that."""
    account.open()
    earlier = account.guard.close_position("btc-1")
    position = account.open("btc-2")
    with account.guard.closing("btc-2") as close:
        close.sending()
        fills = send(account, close)
        written = account.rows("SELECT * FROM audit")
        half = [fill for fill in fills for _ in range(2)]
        with pytest.raises(InvalidPosition, match="fills"):
            close.book(
                {
                    "none": [],
                    "too few": [_sized(fills[0], 9)],
                    "too many": [_sized(fills[0], 11)],
                    "twice": [_sized(fill, 5) for fill in half],
                    "booked": list(earlier.fills),
                }[wrong]
            )
        assert account.rows("SELECT * FROM audit") == written
        assert account.rows("SELECT step FROM close WHERE position_id = 'btc-2'") == [("sending",)]
        assert len(account.exchange.open_orders(Leg(position.symbol, position.side))) == 2
        close.book(fills)
    assert account.guard.position("btc-2").closed is not None
    assert account.exchange.open_orders(LEG) == []


def _sized(fill: Fill, contracts: int) -> Fill:
    return type(fill)(
        fill.trade_id,
        fill.client_order_id,
        fill.price,
        Decimal(contracts),
        fill.fee,
        fill.fee_currency,
        fill.at_ms,
    )


def test_a_block_books_what_was_reduced_before(account: Account) -> None:
    """4 by modify_position, 6 by the bot's order, which hands in only its own."""
    position = account.open()
    account.guard.modify_position("btc-1", stop_loss=58_000, reduce_by=4)
    account.exchange.set_price(SYMBOL, 61_000)
    with account.guard.closing("btc-1") as close:
        close.sending()
        closed = close.book(send(account, close, 6))
    assert closed.gross_pnl == -4_000 + 6_000
    account.assert_closed_once(position, orders=2)


def test_a_block_waits_until_the_venue_shows_the_fills_of_a_reduce(account: Account) -> None:
    """Without them the P&L would be that of six contracts; if none ever come, nothing is booked.

    The block says so when it is entered now, before the bot has sent anything.
    """
    account.open()
    venue = Venue(account, settles_within=0.3)
    venue.instead["trades"] = lambda *_: []
    venue.guard.modify_position("btc-1", reduce_by=4)
    hidden: list[list[Trade]] = [[], []]
    venue.instead["trades"] = lambda *leg: hidden.pop() if hidden else venue.exchange.trades(*leg)
    with venue.guard.closing("btc-1") as close:
        assert close.book(send(account, close, 6)).gross_pnl == -10_000
    assert hidden == []
    account.open("btc-2")
    shown = account.exchange.trades(LEG, 0)
    venue.instead["trades"] = lambda *_: shown
    venue.guard.modify_position("btc-2", reduce_by=4)
    with pytest.raises(CloseUnsettled, match="does not show among its trades"), venue.guard.closing("btc-2"):
        raise AssertionError
    assert account.rows("SELECT count(*) FROM booking WHERE position_id = 'btc-2'") == [(0,)]
    assert account.guard.position("btc-2").state == "open"


def test_fills_of_an_exit_order_are_the_bots_to_hand_in(account: Account) -> None:
    """A take-profit that modify_position set has taken 10 before the bot's order: those fills count once."""
    position = account.open()
    account.guard.modify_position("btc-1", reduce_by=4)
    account.guard.modify_position("btc-1", take_profit=60_500)
    with account.guard.closing("btc-1") as close:
        account.exchange.set_price(SYMBOL, 61_000)
        fills = [fill for fill in account.exchange.fills(LEG, 0) if fill.price == 61_000]
        closed = close.book(fills)
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    account.assert_closed_once(position)


def test_a_reduce_whose_owner_died_is_part_of_a_block_too(account: Account) -> None:
    """4 were taken off, and nobody had written that down: the bot closes the 6 that are left, and books all."""
    position = account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place", "after", DIED)).guard.modify_position("btc-1", reduce_by=4)
    venue = Venue(account)
    with venue.guard.closing("btc-1") as close:
        close.sending()
        closed = close.book(send(account, close, 6))
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    account.assert_closed_once(position, orders=2)


def test_a_block_that_was_silent_too_long_books_nothing(account: Account) -> None:
    """check says so before the order is sent; whoever took over has closed it."""
    position = account.open()
    venue = Venue(account, stale_after=0.3)
    with venue.guard.closing("btc-1") as close:
        time.sleep(0.4)
        account.guard.close_position("btc-1")
        written = account.rows("SELECT * FROM audit")
        for late in (close.check, close.renew, close.sending, lambda: close.book(account.exchange.fills(LEG, 0))):
            with pytest.raises(LockLost):
                late()
    assert account.rows("SELECT * FROM audit") == written
    account.assert_closed_once(position)


def test_a_block_books_in_the_callers_decimal_context(account: Account) -> None:
    """A bot that rounds to four digits, or traps rounding, gets the exact P&L all the same."""
    account.open()
    account.exchange.set_price(SYMBOL, "59123.456789")
    with localcontext(Context(prec=4, traps=[Inexact])), account.guard.closing("btc-1") as close:
        closed = close.book(send(account, close))
    assert closed.gross_pnl == Decimal("-8765.43211")


# reading


def test_many_read_at_once_and_a_close_waits_for_them(account: Account) -> None:
    """Three are inside together; whoever closes, however hasty, comes after the last of them."""
    position = account.open()
    inside, left, closed = threading.Barrier(4), [], []

    def read() -> None:
        with Venue(account).guard.reading("btc-1") as tracked:
            inside.wait(60)
            time.sleep(0.2)
            assert Venue(account).guard.position("btc-1") == tracked
            assert tracked.state == "open"
            left.append(tracked)

    def close() -> None:
        inside.wait(60)
        Venue(account, timeout=0).guard.close_position("btc-1")
        closed.append(len(left))

    at_once(read, read, read, close)
    assert closed == [3]
    account.assert_closed_once(position)


def test_nobody_changes_what_is_being_read(account: Account) -> None:
    """Not even in passing: a modify that waits for nobody is told who reads, an adopt too.

    Of the 5 that came by hand none is of the position: what is left of it is 9, not 14.
    """
    account.open()
    hasty = Venue(account, timeout=0).guard
    account.exchange.open_position(SYMBOL, "long", 5)
    with account.guard.reading("btc-1") as tracked:
        for change in (lambda: hasty.modify_position("btc-1", reduce_by=1), lambda: hasty.adopt(SYMBOL, "long")):
            with pytest.raises(LockTimeout) as caught:
                change()
            assert caught.value.holder is not None
            assert caught.value.holder.purpose == "read"
        assert account.guard.position("btc-1") == tracked
    assert hasty.modify_position("btc-1", reduce_by=1).contracts == 9


def test_a_reader_sees_the_end_of_a_close_not_its_middle(account: Account) -> None:
    """It waits for the closer, and then reads a closed position with its P&L."""
    account.open()
    begun, seen = threading.Event(), []

    def close() -> None:
        with Venue(account).guard.closing("btc-1") as close:
            begun.set()
            time.sleep(0.2)
            close.book(send(account, close))

    def read() -> None:
        assert begun.wait(60)
        assert account.guard.position("btc-1").state == "closing"  # without a lock
        with Venue(account).guard.reading("btc-1") as tracked:
            seen.append(tracked)

    at_once(close, read)
    assert [(tracked.state, tracked.closed is not None) for tracked in seen] == [("closed", True)]


def test_a_reader_that_waits_for_too_long_is_told_who_closes(account: Account) -> None:
    """And position still answers at once."""
    account.open()
    with PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose="close: by another"):
        with pytest.raises(LockTimeout, match="close: by another"), Venue(account, timeout=0.1).guard.reading("btc-1"):
            raise AssertionError
        assert account.guard.position("btc-1").state == "open"
    with pytest.raises(PositionNotFound), account.guard.reading("nobody"):
        raise AssertionError


def test_a_reading_block_left_by_an_error_lets_go(account: Account) -> None:
    """The lock is free for the next one."""
    account.open()
    with pytest.raises(RuntimeError, match="bug"), account.guard.reading("btc-1"):
        raise RuntimeError("bug")
    Venue(account, timeout=0).guard.close_position("btc-1")


# adopt


def test_a_position_opened_by_hand_is_adopted_and_closed(account: Account) -> None:
    """What it is comes from the venue; its id is the market and the side, and again changes nothing."""
    account.exchange.set_price(SYMBOL, 60_000)
    account.exchange.open_position(SYMBOL, "short", 3)
    tracked = account.guard.adopt(SYMBOL, "short")
    assert account.guard.adopt(SYMBOL, "short") == tracked
    position = tracked.position
    assert (position.id, position.contracts, position.entry_price) == (f"{SYMBOL} short", 3, 60_000)
    account.exchange.set_price(SYMBOL, 59_000)
    assert account.guard.close_position(position.id).gross_pnl == 3_000
    account.assert_closed_once(position)


def test_a_position_opened_again_is_adopted_as_a_new_generation(account: Account) -> None:
    """The fills of the one before are not counted for it."""
    account.exchange.set_price(SYMBOL, 60_000)
    closes = []
    for generation in (1, 2):
        account.exchange.open_position(SYMBOL, "long", 3)
        tracked = account.guard.adopt(SYMBOL, "long")
        assert tracked.generation == generation
        closes.append(account.guard.close_position(tracked.position.id))
    assert closes[0].fills[0].trade_id != closes[1].fills[0].trade_id


def test_a_tracked_position_is_adopted_under_its_own_id(account: Account) -> None:
    """And nothing changes where nothing has grown."""
    account.open()
    before = account.guard.position("btc-1")
    assert account.guard.adopt(SYMBOL, "long") == before
    account.guard.modify_position("btc-1", reduce_by=4)
    account.exchange.protect(SYMBOL, "long", "take_profit", 1, 59_100)
    account.exchange.set_price(SYMBOL, 59_200)
    assert account.guard.adopt(SYMBOL, "long").position == before.position


def test_nothing_is_adopted_where_nothing_is_held(account: Account) -> None:
    """A market without a position, a side that does not exist, and a position that its stop-loss has closed.

    That one is swept and booked on this occasion.
    """
    guard = Venue(account, settles_within=0.2).guard
    with pytest.raises(PositionConflict, match="holds no long position"):
        guard.adopt(SYMBOL, "long")
    with pytest.raises(InvalidPosition, match="side"):
        guard.adopt(SYMBOL, "up")  # type: ignore[arg-type]
    account.open()
    account.exchange.set_price(SYMBOL, 56_000)
    with pytest.raises(PositionConflict, match="holds no long position"):
        guard.adopt(SYMBOL, "long")
    closed = guard.position("btc-1").closed
    assert closed is not None
    assert (closed.exit_price, closed.left_at_venue) == (56_000, 0)


def test_a_position_whose_closer_died_is_not_adopted(account: Account) -> None:
    """What is held there is its rest."""
    account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place", "before", DIED)).guard.close_position("btc-1")
    with pytest.raises(PositionAlreadyClosingError):
        account.guard.adopt(SYMBOL, "long")


def test_a_position_that_began_to_close_while_it_was_adopted_is_left_alone(account: Account) -> None:
    """Open when it was looked at, closing when the lock was had."""
    account.open()
    account.exchange.open_position(SYMBOL, "long", 5)
    venue = Venue(account)
    on_leg = venue.ledger.on_leg

    def seen_open(*leg: Any) -> Any:
        seen = on_leg(*leg)
        with pytest.raises(LockLost):
            Venue(account, Strike("place", "before", DIED)).guard.close_position("btc-1")
        return seen

    venue.ledger.on_leg = seen_open  # type: ignore[assignment]
    with pytest.raises(PositionAlreadyClosingError) as caught:
        venue.guard.adopt(SYMBOL, "long")
    assert caught.value.state == "closing"


def test_a_position_that_grew_by_hand_grows_when_it_is_adopted(account: Account) -> None:
    """10 at 60000 and 5 at 57000 are 15 at 59000; closed at 61000 they gain 30000."""
    account.open()
    account.exchange.set_price(SYMBOL, 57_001)
    account.exchange.open_position(SYMBOL, "long", 5)
    grown = account.guard.adopt(SYMBOL, "long").position
    assert (grown.contracts, grown.entry_price) == (15, Decimal("59000.333333333333333333"))
    account.exchange.set_price(SYMBOL, 61_000)
    closed = account.guard.close_position("btc-1")
    assert abs(closed.gross_pnl - (10 * 1_000 + 5 * 3_999)) < Decimal("1e-12")
    account.assert_closed_once(grown)


def test_a_position_that_was_reduced_and_grew_keeps_the_profit_of_both(account: Account) -> None:
    """4 of 10 go at 59000, then 6 come at 58000: all fills count, those before the growth at the old entry."""
    account.open()
    account.guard.modify_position("btc-1", stop_loss=None, reduce_by=4)
    account.exchange.set_price(SYMBOL, 58_000)
    account.exchange.open_position(SYMBOL, "long", 6)
    with localcontext(Context(prec=4)):
        tracked = account.guard.adopt(SYMBOL, "long")
        assert account.guard.adopt(SYMBOL, "long") == tracked
    assert (tracked.position.contracts, tracked.reduced, tracked.left) == (16, 4, 12)
    account.exchange.set_price(SYMBOL, 60_000)
    closed = account.guard.close_position("btc-1")
    assert closed.gross_pnl == -4_000 + 6 * 2_000
    account.assert_closed_once(tracked.position, orders=2)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("method", ["holding", "trades"])
def test_an_exit_order_that_fills_while_a_position_is_adopted_counts_once(
    account: Account, known: bool, method: str
) -> None:
    """4 go while the venue is asked: the position is neither 14 contracts then, nor 6 with the fill of 4.

    A tracked one stays as it is, and where the two reads disagree that is said. One that nobody had tracked is what is
    held once they agree: an exit before that is not of it.
    """
    position = account.open()
    if not known:
        account.put_ledger_aside()
    account.exchange.protect(SYMBOL, "long", "take_profit", 4, 59_500)
    venue = Venue(account)

    def asked(*args: Any) -> Any:
        answer = getattr(venue.exchange, method)(*args)
        if venue.calls.count(method) == 1:
            account.exchange.set_price(SYMBOL, 59_600)
        return answer

    venue.instead[method] = asked
    if known and method == "holding":
        with pytest.raises(PositionConflict, match="adopt it again"):
            venue.guard.adopt(SYMBOL, "long")
    tracked = venue.guard.adopt(SYMBOL, "long")
    is_after = not known and method == "holding"
    assert tracked.position.contracts == (6 if is_after else position.contracts)
    closed = venue.guard.close_position(tracked.position.id)
    assert [fill.contracts for fill in closed.fills] == ([6] if is_after else [4, 6])


def test_a_venue_whose_trades_lag_does_not_make_a_position_smaller(account: Account) -> None:
    """It holds 6 of 10, and does not show the trade of 4 yet: that is no reason to forget about it, and it is said."""
    account.open()
    account.exchange.protect(SYMBOL, "long", "take_profit", 4, 59_500)
    account.exchange.set_price(SYMBOL, 59_600)
    venue = Venue(account)
    venue.instead["trades"] = lambda *_: []
    with pytest.raises(PositionConflict, match="6 contracts are held, and the trades lead to 10"):
        venue.guard.adopt(SYMBOL, "long")
    venue.instead.clear()
    assert venue.guard.adopt(SYMBOL, "long").position.contracts == 10


def test_a_position_that_never_comes_to_rest_is_not_adopted(account: Account) -> None:
    """It says so instead of guessing."""
    account.open()
    venue = Venue(account)

    def holding(leg: Leg) -> Holding | None:
        answer = venue.exchange.holding(leg)
        account.exchange.protect(SYMBOL, "long", "take_profit", 1, 60_000)
        account.exchange.set_price(SYMBOL, 60_000)
        return answer

    venue.instead["holding"] = holding
    with pytest.raises(PositionConflict, match="adopt it again"):
        venue.guard.adopt(SYMBOL, "long")


def test_all_bots_adopt_at_once(account: Account) -> None:
    """They agree on one position."""
    account.exchange.set_price(SYMBOL, 60_000)
    account.exchange.open_position(SYMBOL, "long", 3)
    found: list[Any] = []
    at_once(*[lambda: found.append(Venue(account).guard.adopt(SYMBOL, "long")) for _ in range(4)])
    assert len({(tracked.position, tracked.generation) for tracked in found}) == 1
    account.exchange.open_position(SYMBOL, "long", 3)
    at_once(*[lambda: found.append(Venue(account).guard.adopt(SYMBOL, "long")) for _ in range(4)])
    assert {tracked.position.contracts for tracked in found[4:]} == {6}


def test_the_legs_of_a_hedge_are_adopted_changed_and_closed_side_by_side(account: Account, tmp_path: Path) -> None:
    """Long and short of one market are two positions, each with its own orders and its own P&L."""
    account.where = str(tmp_path / "hedge.db")
    account.exchange = PaperExchange(account.where, hedge=True)
    guard = account.guard = PositionGuard(account.exchange, lock_dir=account.lock_dir)
    account.exchange.set_price(SYMBOL, 60_000)
    account.exchange.open_position(SYMBOL, "long", 10)
    account.exchange.open_position(SYMBOL, "short", 4)
    long, short = (guard.adopt(SYMBOL, side).position for side in ("long", "short"))
    assert (long.contracts, short.contracts) == (10, 4)
    guard.modify_position(long.id, stop_loss=59_000, reduce_by=2)
    guard.modify_position(short.id, stop_loss=63_000)
    account.exchange.set_price(SYMBOL, 61_000)
    assert guard.close_position(long.id).gross_pnl == 8_000
    assert account.exchange.held(Leg(SYMBOL, "short")) == 4
    assert [order.trigger_price for order in account.exchange.open_orders(Leg(SYMBOL, "short"))] == [63_000]
    account.exchange.open_position(SYMBOL, "short", 4)
    assert guard.adopt(SYMBOL, "short").position.contracts == 8
    assert guard.close_position(short.id).gross_pnl == -4_000


# several positions


def test_several_are_closed_in_one_order_each_by_itself(account: Account) -> None:
    """By id, whatever the order of the call and however often; one that cannot be closed stops no other."""
    for number in range(3):
        account.open(f"p{number}", symbol=f"C{number}/USDT")
    account.guard.close_position("p1")
    venue = Venue(account)
    results = venue.guard.close_positions(["p2", "nobody", "p1", "p0", "p2"], reason="risk off")
    assert [each.position_id for each in results] == ["nobody", "p0", "p1", "p2"]
    assert [type(each.error) for each in results] == [
        PositionNotFound,
        type(None),
        PositionAlreadyClosingError,
        type(None),
    ]
    assert [each.closed is not None for each in results] == [False, True, False, True]
    assert venue.calls.count("place") == 2
    assert venue.guard.close_positions([]) == []


def test_bots_that_close_the_same_positions_at_once_do_not_hold_each_other_up(account: Account) -> None:
    """Forwards and backwards at the same time: each position is closed by one of them, and the other is told."""
    positions = [account.open(f"p{number}", symbol=f"C{number}/USDT") for number in range(4)]
    ids, results = [position.id for position in positions], []
    at_once(
        *[
            lambda order=order: results.append(Venue(account).guard.close_positions(order))
            for order in (ids, ids[::-1], ids)
        ]
    )
    for position in positions:
        account.assert_closed_once(position)
        outcomes = [each for result in results for each in result if each.position_id == position.id]
        assert len([each for each in outcomes if each.closed]) == 1
        assert all(isinstance(each.error, PositionAlreadyClosingError) for each in outcomes if not each.closed)


def test_recover_finishes_closes_and_changes_of_all_positions(account: Account) -> None:
    """One close and one change were left by the dead, one position is fine: two are finished, in every bot at once."""
    closing, changing, fine = (account.open(f"p{n}", symbol=f"C{n}/USDT") for n in range(3))
    with pytest.raises(LockLost):
        Venue(account, Strike("open_orders", "before", DIED)).guard.close_position("p0")
    with pytest.raises(LockLost):
        Venue(account, Strike("cancel", "before", DIED)).guard.modify_position("p1", stop_loss=58_000)
    found: list[Any] = []
    at_once(*[lambda: found.extend(Venue(account).guard.recover()) for _ in range(4)])
    assert len([each for each in found if each.closed]) == 1
    assert {each.position_id for each in found if each.error is None} == {"p0", "p1"}
    assert all(isinstance(each.error, LockTimeout | PositionAlreadyClosingError) for each in found if each.error)
    account.assert_closed_once(closing)
    for position, price in ((changing, 58_000), (fine, 57_000)):
        orders = account.exchange.open_orders(Leg(position.symbol, "long"))
        assert [order.trigger_price for order in orders if order.family == "stop_loss"] == [price]
    assert account.guard.recover() == []


@pytest.mark.parametrize("method", ["prepare", "holdings"])
def test_recover_asks_again_what_the_venue_holds(account: Account, method: str) -> None:
    """One failure of a request is no reason to stop."""
    account.open()
    account.exchange.set_price(SYMBOL, 56_000)
    (recovery,) = Venue(account, Strike(method, "before", ExchangeUnavailable("busy"))).guard.recover()
    assert recovery.closed is not None
    assert recovery.closed.exit_price == 56_000


def test_recover_tells_what_it_finished_although_the_venue_lists_nothing(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """A close is finished; then the venue does not say what it holds. With nothing to tell, that is the outcome."""
    closing, stopped = (account.open(f"p{number}", symbol=f"C{number}/USDT") for number in range(2))
    with pytest.raises(LockLost):
        Venue(account, Strike("open_orders", "before", DIED)).guard.close_position(closing.id)
    account.exchange.set_price(stopped.symbol, 56_000)
    venue = Venue(account, *[Strike("holdings", "before", ExchangeUnavailable("busy"), n) for n in range(1, 9)])
    (recovery,) = venue.guard.recover()
    assert (recovery.position_id, recovery.error) == (closing.id, None)
    assert "nothing was reconciled: busy" in caplog.text
    with pytest.raises(ExchangeUnavailable, match="busy"):
        venue.guard.recover()
    (recovery,) = venue.guard.recover()
    assert (recovery.position_id, recovery.error) == (stopped.id, None)


def test_order_code_that_sends_in_slices_has_an_id_for_each(account: Account) -> None:
    """Each is announced by itself; all of their fills are booked together."""
    position = account.open()
    exchange = account.exchange
    ids: list[str] = []
    with account.guard.closing("btc-1", reason="in slices") as close:
        for contracts in (4, 6):
            sending = close.sending()
            assert sending.client_order_id == close.client_order_id
            ids.append(sending.client_order_id)
            exchange.place(CloseOrder(LEG, Decimal(contracts), ids[-1], exchange.time_ms(), 5000))
        closed = close.book([fill for fill in exchange.fills(LEG, 0) if fill.client_order_id in ids])
    assert len({*ids}) == 2
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    account.assert_closed_once(position, orders=2)


def test_slices_of_a_bot_that_died_are_found_by_their_ids(account: Account) -> None:
    """Two are out when it dies: what they filled counts, and recover closes the rest."""
    position = account.open()
    exchange = account.exchange
    with pytest.raises(RuntimeError, match="dies"), account.guard.closing("btc-1") as close:
        for contracts in (4, 3):
            sending = close.sending()
            exchange.place(CloseOrder(LEG, Decimal(contracts), sending.client_order_id, exchange.time_ms(), 5000))
        raise RuntimeError("dies")
    (recovery,) = account.guard.recover()
    assert recovery.error is None
    assert [order.filled for order in exchange.orders(LEG) if order.family == "order"] == [4, 3, 3]
    account.assert_closed_once(position, orders=3)


def test_a_block_is_for_what_is_left_when_it_begins(account: Account) -> None:
    """A hand took four before, which the ledger had not seen: the bot sends six, and books them."""
    position = account.open()
    account.exchange.open_position(SYMBOL, "short", 4)
    with account.guard.closing("btc-1") as close:
        assert account.guard.position("btc-1").left == 6
        close.sending()
        closed = close.book(send(account, close, 6))
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    account.assert_closed_once(position, orders=1)


def test_a_change_says_what_is_left_and_was_gained_so_far(account: Account) -> None:
    """A rung took three and a reduce two, of different prices: in the ledger at once, and in the history."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=[(61_000, 3), (65_000, 7)])
    account.exchange.set_price(SYMBOL, 61_000)
    account.guard.recover()
    account.exchange.set_price(SYMBOL, 62_000)
    account.guard.modify_position("btc-1", reduce_by=2)
    tracked = account.guard.position("btc-1")
    assert (tracked.reduced, tracked.left) == (5, 5)
    net = 3 * 1_000 + 2 * 2_000 - sum(fill.fee for fill in account.exchange.fills(LEG, 0))
    assert tracked.realized_pnl == net
    said = account.rows("SELECT detail FROM audit WHERE event = 'seen' ORDER BY number")
    assert said[-1] == (f"5 of 10 gone, net {net} so far",)
    assert len(said) == 2


def test_a_reduce_that_the_venue_does_not_show_yet_is_gone_too(account: Account) -> None:
    """Four by a rung that it shows, and two by a reduce that it does not."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=[(61_000, 4), (65_000, 6)])
    account.exchange.set_price(SYMBOL, 61_000)
    account.guard.recover()
    venue = Venue(account)
    shown = account.exchange.trades(LEG, 0)
    venue.instead["trades"] = lambda *_: shown
    venue.guard.modify_position("btc-1", reduce_by=2)
    assert account.guard.position("btc-1").left == account.exchange.held(LEG) == 4


def test_what_is_left_and_what_was_gained_show_before_the_close(account: Account) -> None:
    """A stop took four of ten: a look has seen it, and the position says so."""
    account.open()
    for order in account.exchange.open_orders(LEG):
        account.exchange.cancel(order)
    account.exchange.protect(LEG.symbol, "long", "stop_loss", 4, 58_000)
    account.exchange.set_price(LEG.symbol, 58_000)
    assert account.guard.recover() == []
    tracked = account.guard.position("btc-1")
    assert (tracked.reduced, tracked.left) == (Decimal(4), Decimal(6))
    (fill,) = account.exchange.fills(LEG, 0)
    assert tracked.realized_pnl == 4 * (58_000 - 60_000) - fill.fee
