"""What a trader does by hand between `track` and `close`, and what the guard then says, sends, books and leaves."""

# mypy: disable-error-code="comparison-overlap"
# Tuples of amounts are compared with tuples of whole numbers.

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest

from poslock import (
    CloseUnsettled,
    OperationRefused,
    PaperExchange,
    Position,
    PositionConflict,
    PositionGuard,
)
from poslock.exchange.port import Leg
from reach import reached, serving
from venue import SYMBOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock import ClosedPosition, TrackedPosition

LONG = Leg(SYMBOL, "long")
SETTLES = 0.2


class Trader:
    """One who trades by hand at an account on which a bot has a guard. Prices begin at 100."""

    def __init__(self, book: PaperExchange, where: str, lock_dir: str) -> None:
        self.book = book
        self.where = where
        self.lock_dir = lock_dir
        self.guard = self.another_guard()
        book.set_price(SYMBOL, 100)

    def another_guard(self, **options: Any) -> PositionGuard:
        exchange = reached(self.where, settles_within=SETTLES)
        return PositionGuard(exchange, **{"lock_dir": self.lock_dir, "timeout": 3, **options})

    def op(self, contracts: Any, side: Literal["long", "short"] = "long") -> None:
        self.book.open_position(SYMBOL, side, contracts)

    def track(self, contracts: Any, position_id: str = "p", *, price: Any = 100, **options: Any) -> TrackedPosition:
        return self.guard.track(Position(position_id, SYMBOL, "long", contracts, price), **options)

    def stop(self, contracts: Any = 10, price: Any = 95) -> str:
        return self.book.protect(SYMBOL, "long", "stop_loss", contracts, price)

    def price(self, price: Any) -> None:
        self.book.set_price(SYMBOL, price)

    def close(self, position_id: str = "p", **options: Any) -> ClosedPosition:
        return self.guard.close_position(position_id, **options)

    @property
    def held(self) -> Decimal:
        return self.book.held(LONG)

    def sent(self) -> list[Decimal]:
        """What our own orders have closed."""
        orders = self.book.orders(LONG)
        return [each.filled for each in orders if each.family == "order" and (each.client_order_id or "")[:2] == "pl"]


@pytest.fixture(params=["paper", "mexc", "binanceusdm"])
def trader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trader]:
    path, lock_dir = str(tmp_path / "exchange.db"), str(tmp_path / "locks")
    if request.param == "paper":
        yield Trader(PaperExchange(path), path, lock_dir)
        return
    with serving(request.param, path) as server:
        yield Trader(server.book, f"{request.param} {server.url}", lock_dir)


@pytest.fixture
def on_paper(tmp_path: Path) -> Trader:
    path = str(tmp_path / "exchange.db")
    return Trader(PaperExchange(path), path, str(tmp_path / "locks"))


# Scale-ins and reduces by hand.


def test_what_was_added_by_hand_is_left_and_named(trader: Trader) -> None:
    """Ten were tracked and five came later: ten are closed, and the close says that five are left."""
    trader.op(10)
    trader.track(10)
    trader.op(5)
    closed = trader.close()
    assert (closed.left_at_venue, trader.held, trader.sent()) == (5, 5, [10])
    assert sum(fill.contracts for fill in closed.fills) == 10


def test_an_exit_by_hand_counts_and_what_came_after_it_is_left(trader: Trader) -> None:
    """Four were sold by hand and four bought anew: the position has six left, and the four stay."""
    trader.op(10)
    trader.track(10)
    trader.op(4, "short")
    trader.op(4)
    closed = trader.close()
    assert (closed.left_at_venue, trader.held, trader.sent()) == (4, 4, [6])
    assert sum(fill.contracts for fill in closed.fills) == 10


def test_the_whole_leg_is_closed_if_that_is_asked_for(trader: Trader) -> None:
    """`whole` closes what was added too, and books it as a part of the position."""
    trader.op(10)
    trader.track(10)
    trader.price(110)
    trader.op(5)
    closed = trader.close(whole=True)
    assert (closed.left_at_venue, trader.held, trader.sent()) == (0, 0, [15])
    assert sum(fill.contracts for fill in closed.fills) == 15
    assert closed.gross_pnl.quantize(Decimal("1e-9")) == 10 * (110 - 100) * contract_size(trader)


def test_a_scale_in_with_a_stop_resting_is_closed_and_the_rest_keeps_its_stop(trader: Trader) -> None:
    """The stop of somebody else protects the five that are left."""
    trader.op(10)
    trader.track(10)
    stop = trader.stop(15)
    trader.op(5)
    closed = trader.close()
    assert (closed.left_at_venue, trader.held) == (5, 5)
    assert [order.order_id for order in trader.book.open_orders(LONG)] == [stop]
    assert trader.guard.recover() == []


# Positions that ended, and others that came after them.


def test_a_position_whose_stop_filled_is_not_the_one_that_was_opened_after_it(trader: Trader) -> None:
    """Tracked again after its stop had filled, it is a new generation, with the old one booked; its close closes it."""
    trader.op(10)
    trader.track(10)
    trader.stop()
    trader.price(95)
    trader.price(100)
    trader.op(10)
    again = trader.track(10)
    assert again.generation == 2
    trader.price(80)
    closed = trader.close()
    assert (trader.held, trader.sent()) == (0, [10])
    assert closed.exit_price == 80


def test_less_than_is_tracked_is_refused(trader: Trader) -> None:
    """The refusal names both numbers, and nothing is tracked."""
    trader.op(10)
    with pytest.raises(PositionConflict, match=r"12 contracts are to be tracked.* holds 10"):
        trader.track(12)
    assert trader.guard.recover() == []


def test_a_position_that_its_stop_took_before_it_was_tracked_is_refused(trader: Trader) -> None:
    """Nothing is held, so there is nothing to track; the next position is its own."""
    trader.op(10)
    trader.stop()
    trader.price(95)
    with pytest.raises(PositionConflict, match="holds no long position"):
        trader.track(10)
    trader.op(3)
    trader.track(3, price=95)
    assert trader.close().left_at_venue == 0
    assert trader.sent() == [3]


def test_a_later_position_is_not_booked_to_an_unsettled_one(on_paper: Trader) -> None:
    """The exits of the first one never show; what is tracked after it is closed and booked by itself."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    hide(trader, 10)
    with pytest.raises(CloseUnsettled, match="no trades for 10 contracts"):
        trader.close()
    assert "no trades for 10" in trader.guard.position("p").unsettled
    trader.price(101)
    trader.op(10)
    assert trader.track(10, "q").state == "open"
    assert trader.close("q").left_at_venue == 0
    (recovery,) = trader.guard.recover()
    assert recovery.position_id == "p"
    assert isinstance(recovery.error, CloseUnsettled)
    assert trader.sent() == [10]


def test_the_same_id_can_be_tracked_after_it_could_not_be_settled(on_paper: Trader) -> None:
    """The new one is another generation; `settle` ends the old one first, and the new one stays open."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    hide(trader, 10)
    with pytest.raises(CloseUnsettled):
        trader.close()
    trader.price(101)
    trader.op(10)
    assert trader.track(10).generation == 2
    settled = trader.guard.settle("p", reason="the venue forgot its fills")
    assert (settled.written_off, settled.net_pnl, settled.fills) == (10, 0, ())
    assert trader.guard.position("p").state == "open"
    assert trader.close().left_at_venue == 0


def test_an_exit_just_before_the_tracking_does_not_close_what_is_held(trader: Trader) -> None:
    """However the venue rounds its times: the earlier exit is in the baseline, by its id."""
    trader.op(10)
    trader.op(10, "short")
    trader.op(10)
    trader.track(10)
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 0, 0)


@pytest.mark.parametrize("trader", ["mexc", "binanceusdm"], indirect=True)
def test_an_exit_before_an_answer_that_takes_long_does_not_close_what_is_held(trader: Trader) -> None:
    """Our clock lags by the latency of an answer: that decides nothing."""
    trader.guard.recover()
    exchange: Any = trader.guard._operations.means.exchange
    exchange._client.clock._read = (exchange._client.clock._read[0] - 200, exchange._client.clock._read[1])
    trader.op(10)
    trader.op(10, "short")
    trader.op(10)
    trader.track(10)
    trader.close()
    assert (trader.sent(), trader.held) == ([10], 0)


def test_a_stop_that_filled_unnoticed_and_a_new_entry_can_be_tracked_and_protected(trader: Trader) -> None:
    """The old take-profit would have closed the new position: it is gone, and the new one has its own stop."""
    trader.op(10)
    trader.track(10)
    trader.guard.modify_position("p", stop_loss=95, take_profit=120)
    trader.price(95)
    trader.price(100)
    trader.op(7)
    trader.track(7, "q")
    assert trader.guard.position("p").state == "closed"
    trader.guard.modify_position("q", stop_loss=90)
    assert [order.trigger_price for order in trader.book.open_orders(LONG)] == [90]
    assert trader.close("q").left_at_venue == 0
    assert trader.sent() == [7]


def test_recover_books_what_the_venue_has_closed_and_sweeps_it(trader: Trader) -> None:
    """Nobody asked for a close: the P&L is booked all the same, and the take-profit is gone."""
    trader.op(10)
    trader.track(10)
    trader.guard.modify_position("p", stop_loss=95, take_profit=120)
    trader.price(95)
    (recovery,) = trader.guard.recover()
    assert recovery.error is None
    assert recovery.closed is not None
    assert recovery.closed.exit_price == 95
    assert trader.book.open_orders(LONG) == []
    assert trader.guard.recover() == []


# What the venue says of the contract.


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"contract_size": "0.0001"}, "contract_size"),
        ({"inverse": True, "contract_size": 1}, "inverse"),
        ({"settle": "USDC"}, "settle"),
    ],
)
def test_facts_of_the_contract_that_differ_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    """P&L would be wrong by their ratio; the refusal names both."""
    path = str(tmp_path / "exchange.db")
    trader = Trader(PaperExchange(path, **settings), path, str(tmp_path / "locks"))
    trader.guard = PositionGuard(PaperExchange(path, settles_within=SETTLES, **settings), lock_dir=trader.lock_dir)
    trader.op(10)
    with pytest.raises(PositionConflict, match=said):
        trader.track(10)


def test_an_adopted_position_books_the_fee_of_its_entry(trader: Trader) -> None:
    """Net P&L is what the venue's own statement says: gross, less both fees."""
    trader.op(10)
    position = trader.guard.adopt(SYMBOL, "long").position
    trader.price(110)
    closed = trader.close(position.id)
    entry = Decimal(100) * 10 * position.contract_size * Decimal("0.0005")
    assert position.entry_fee == entry
    assert closed.fees == entry + sum(fill.fee for fill in closed.fills)


# Ways out.


def test_a_crumb_that_no_order_can_close_is_left(tmp_path: Path) -> None:
    """The venue's smallest order is for two; one is left after a stop, and the close ends all the same."""
    path = str(tmp_path / "exchange.db")
    trader = Trader(PaperExchange(path), path, str(tmp_path / "locks"))
    exchange = PaperExchange(path, smallest=2, settles_within=SETTLES)
    trader.guard = PositionGuard(exchange, lock_dir=trader.lock_dir)
    trader.op(10)
    trader.track(10)
    trader.op(9, "short")
    closed = trader.close()
    assert (closed.left_at_venue, trader.sent()) == (1, [])
    assert sum(fill.contracts for fill in closed.fills) == 9


def test_a_lost_fill_is_settled_by_the_operators_word(on_paper: Trader) -> None:
    """`close` says why it cannot end, `settle` ends it with the price that the operator knows."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    with pytest.raises(OperationRefused, match="close_position can end it"):
        trader.guard.settle("p", reason="too early")
    hide(trader, 10)
    with pytest.raises(CloseUnsettled):
        trader.close()
    settled = trader.guard.settle("p", reason="statement of the venue", exit_price=90)
    assert (settled.by_operator, settled.written_off, settled.gross_pnl) == (10, 0, -100)
    assert trader.guard.position("p").state == "closed"


def test_a_position_that_was_tracked_by_mistake_is_forgotten(on_paper: Trader) -> None:
    """It is gone from the leg, its id is free, and its history stays."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    trader.guard.modify_position("p", stop_loss=95)
    with pytest.raises(OperationRefused, match="orders of its own rest"):
        trader.guard.forget("p", reason="typo")
    trader.track(10)
    other = trader.another_guard()
    assert other.position("p").state == "open"


def test_what_was_never_sent_for_is_forgotten(on_paper: Trader) -> None:
    """The leg can be tracked under another id at once."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    assert trader.guard.forget("p", reason="typo").state == "forgotten"
    trader.track(10, "q")
    assert trader.close("q").left_at_venue == 0


# Two poslocks on one account.


def test_another_poslock_on_the_account_is_named(on_paper: Trader, caplog: pytest.LogCaptureFixture) -> None:
    """Its order has the form of ours and is in no ledger of ours: a fill would be booked twice, so it is said."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    stranger = trader.another_guard(lock_dir=f"{trader.lock_dir}-2")
    stranger.adopt(SYMBOL, "long")
    stranger.close_position(f"{SYMBOL} long")
    with caplog.at_level(logging.WARNING):
        (recovery,) = trader.guard.recover()
    assert recovery.closed is not None
    assert recovery.closed.ended_by == "another poslock"
    assert "two of them close this account" in caplog.text


def hide(trader: Trader, contracts: int) -> None:
    """Close so many by hand, and have the venue never show that trade."""
    trader.op(contracts, "short")
    with trader.book._database.transaction() as db:
        db.execute("DELETE FROM fills WHERE trade_id = (SELECT max(trade_id) FROM fills)")


def contract_size(trader: Trader) -> Decimal:
    return trader.guard.position("p").position.contract_size


def test_an_id_whose_leg_another_position_has_is_free(on_paper: Trader) -> None:
    """It could not be settled, another id was tracked on its leg and closed, and then it is tracked again."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    hide(trader, 10)
    with pytest.raises(CloseUnsettled):
        trader.close()
    trader.price(101)
    trader.op(10)
    trader.track(10, "q")
    trader.close("q")
    trader.price(102)
    trader.op(3)
    assert trader.track(3).generation == 2
    assert trader.close().left_at_venue == 0
    assert trader.guard.settle("p", reason="the first one").written_off == 10


def test_an_id_that_is_closing_on_another_market_is_refused(on_paper: Trader) -> None:
    """Its close goes on there; the message names the market."""
    trader = on_paper
    trader.op(10)
    trader.track(10)
    hide(trader, 10)
    with pytest.raises(CloseUnsettled):
        trader.close()
    trader.book.set_price("ETH", 10)
    trader.book.open_position("ETH", "long", 1)
    with pytest.raises(PositionConflict, match=f"closing on the long side of {SYMBOL}"):
        trader.guard.track(Position("p", "ETH", "long", 1, 10))
