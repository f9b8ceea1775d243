"""The venue's holding and its trades are two reads, and each may be behind: what comes of a close then.

The account is asked through the port, on paper and through the real client; what is behind is put in front of it here.
"""

# mypy: disable-error-code="comparison-overlap"
# Tuples of amounts are compared with tuples of whole numbers.

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from poslock import ExchangeUnavailable, PaperExchange, PositionGuard, PoslockError, RateLimited
from poslock.exchange.port import Leg
from reach import serving
from test_closed_means_flat import LONG, Trader
from venue import SYMBOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock.exchange.port import Holding
    from poslock.position import Trade

SHORT = Leg(SYMBOL, "short")


class Behind:
    """An exchange whose reads may be behind: the holding for some reads, each trade until it is shown."""

    open_orders: Any

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._holdings: list[Holding | None] = []
        self.hidden: set[str] = set()
        self.stale_after_place = 0
        self.trades_fail = False
        self.sent_at_look: list[int] = []
        self._looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def shows(self, holding: Holding | None, reads: int) -> None:
        """For so many reads the leg is said to be like this."""
        self._holdings = [holding] * reads

    def hide_all(self) -> None:
        """Show none of the trades of now, until `show_all`."""
        self.hidden = {each.fill.trade_id for each in self._exchange.trades(LONG, 0)}

    def show_all(self) -> None:
        self.hidden = set()

    def holding(self, leg: Leg) -> Holding | None:
        self._looks += 1
        now: Holding | None = self._exchange.holding(leg)
        return self._holdings.pop() if self._holdings else now

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        if self.trades_fail:
            raise RateLimited("too many questions about the history", code="429")
        return [each for each in self._exchange.trades(leg, since_ms) if each.fill.trade_id not in self.hidden]

    def place(self, order: Any) -> Any:
        self.sent_at_look.append(self._looks)
        if self.stale_after_place:
            self.shows(self._exchange.holding(order.leg), self.stale_after_place)
        return self._exchange.place(order)


class Late(Trader):
    """A trader whose bot sees the account through `Behind`."""

    behind: Behind

    def another_guard(self, **options: Any) -> PositionGuard:
        guard = super().another_guard(**options)
        self.behind = Behind(guard._operations.means.exchange)
        self.behind.prepare()
        return PositionGuard(self.behind, **{"lock_dir": self.lock_dir, "timeout": 5, **options})


@pytest.fixture(params=["paper", "mexc", "binanceusdm"])
def trader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Late]:
    path, lock_dir = str(tmp_path / "exchange.db"), str(tmp_path / "locks")
    if request.param == "paper":
        yield Late(PaperExchange(path), path, lock_dir)
        return
    with serving(request.param, path) as server:
        yield Late(server.book, f"{request.param} {server.url}", lock_dir)


def test_a_close_whose_holding_still_shows_is_not_sent_again(trader: Late) -> None:
    """Our order is filled and the holding is behind: its fill counts, and nothing more is sent."""
    trader.op(15)
    trader.track(10)
    trader.behind.stale_after_place = 4
    closed = trader.close()
    assert trader.sent() == [10]
    assert (trader.held, closed.left_at_venue) == (5, 5)


def test_in_the_plain_case_the_order_leaves_at_the_first_look(trader: Late) -> None:
    trader.op(10)
    trader.track(10)
    before = trader.behind._looks
    trader.close()
    assert trader.behind.sent_at_look == [before + 1]


def test_an_entry_whose_trade_shows_after_the_tracking_is_not_counted_twice(trader: Late) -> None:
    """All ten are closed at once, and the late trade joins what the tracked holding contained."""
    trader.op(10)
    trader.behind.hide_all()
    trader.track(10)
    trader.behind.show_all()
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 0, 0)
    assert sum(fill.contracts for fill in closed.fills) == 10


def test_trades_that_lack_what_was_booked_explain_nothing(trader: Late) -> None:
    """The stop's exit and the same entered again do not show: the first entry alone would lead to what is held."""
    trader.op(10)
    trader.track(10)
    before = {each.fill.trade_id for each in trader.behind.trades(LONG, 0)}
    trader.op(10, "short")
    trader.close()
    trader.op(10)
    trader.behind.hidden = {each.fill.trade_id for each in trader.behind.trades(LONG, 0)} - before
    trader.track(10)
    trader.behind.show_all()
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 0, 0)


def test_an_entry_is_known_by_its_orders(trader: Late) -> None:
    """What was added before `track` looked, and after those orders, is not of the position."""
    trader.op(10)
    (entry,) = trader.behind.trades(LONG, 0)
    trader.op(5)
    trader.track(10, entry_order_ids=[entry.order_id])
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 5, 5)


def test_an_entry_of_which_both_reads_show_a_part_is_waited_for(trader: Late) -> None:
    """It was filled in two parts. What shows of it fits, and is less than is tracked: that is no contradiction."""
    trader.op(4)
    reads = [trader.behind.holding(LONG)]
    trader.op(6)
    trader.behind.hidden = {trader.behind.trades(LONG, 0)[-1].fill.trade_id}

    def show(leg: Leg) -> Any:
        if reads:
            return reads.pop()
        trader.behind.show_all()
        return trader.behind._exchange.holding(leg)

    trader.behind.holding = show  # type: ignore[method-assign]  # the rest shows after a look
    assert trader.track(10).position.contracts == 10


def entered_again(trader: Late, *, at: int) -> None:
    """The stop took the position, and ten were entered again."""
    trader.op(10)
    trader.track(10)
    trader.stop()
    trader.price(95)
    trader.price(at)
    trader.op(10)


def test_a_new_entry_whose_trades_are_late_is_not_sold(trader: Late) -> None:
    """The holding shows the new price before the trades tell why: nothing is sent, and they are waited for."""
    trader.op(10)
    trader.track(10)
    shown = len(trader.behind.trades(LONG, 0))
    trader.stop()
    trader.price(95)
    trader.price(98)
    trader.op(10)
    trader.behind.hidden = {each.fill.trade_id for each in trader.behind.trades(LONG, 0)[shown:]}
    reads: list[int] = []

    def show(leg: Leg) -> Any:
        reads.append(1)
        if len(reads) == 3:
            trader.behind.show_all()
        return trader.behind._exchange.holding(leg)

    trader.behind.holding = show  # type: ignore[method-assign]  # the trades show after two looks
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([], 10, 10)
    assert closed.exit_price == 95


def test_a_new_entry_whose_holding_is_late_is_not_sold(trader: Late) -> None:
    """The trades tell of the stop and the new entry, the holding is the old one."""
    trader.op(10)
    trader.track(10)
    old = trader.behind.holding(LONG)
    trader.stop()
    trader.price(95)
    trader.price(98)
    trader.op(10)
    trader.behind.shows(old, 3)
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([], 10, 10)


def test_a_list_of_positions_that_is_empty_by_mistake_ends_nothing(trader: Late) -> None:
    """Tracked again meanwhile it is the same, and it is closed once."""
    trader.op(10)
    trader.track(10)
    trader.behind.shows(None, 1)
    assert trader.track(10).generation == 1
    trader.behind.shows(None, 1)
    assert trader.guard.recover() == []
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 0, 0)


def test_a_trade_that_crosses_flat_is_booked_up_to_there(trader: Late) -> None:
    """Fifteen were sold by hand: ten of them closed the position, and five are a short one of somebody's."""
    trader.op(10)
    trader.track(10)
    trader.op(15, "short")
    closed = trader.close()
    assert (trader.sent(), trader.book.held(SHORT), closed.left_at_venue) == ([], 5, 0)
    assert [fill.contracts for fill in closed.fills] == [10]
    short = trader.guard.adopt(SYMBOL, "short").position
    trader.op(8)
    back = trader.guard.close_position(short.id)
    assert [fill.contracts for fill in back.fills] == [5]
    assert trader.held == 3


def test_ten_of_fifteen_are_tracked_and_closed(trader: Late, caplog: pytest.LogCaptureFixture) -> None:
    """More than is tracked is accepted, with a warning, and left."""
    trader.op(15)
    trader.track(10)
    assert "the venue holds 15 contracts, 10 are tracked" in caplog.text
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 5, 5)


def test_a_refusal_for_rate_on_the_history_does_not_stop_a_close(trader: Late) -> None:
    """What the venue holds is the tracked position by its price: the order leaves, and the proof comes later."""
    trader.op(10)
    trader.track(10)
    trader.behind.trades_fail = True
    place = trader.behind.place

    def placed(order: Any) -> Any:
        trader.behind.trades_fail = False
        return place(order)

    trader.behind.place = placed  # type: ignore[method-assign]  # the history answers again after the order
    closed = trader.close()
    assert (trader.sent(), trader.held, closed.left_at_venue) == ([10], 0, 0)


def test_without_any_history_nothing_is_booked(trader: Late) -> None:
    """The order is out, and the booking waits for the proof."""
    trader.op(10)
    trader.track(10)
    trader.behind.trades_fail = True
    with pytest.raises(Exception, match="does not answer"):
        trader.close()
    assert trader.sent() == [10]
    assert isinstance(RateLimited("x"), ExchangeUnavailable)
    trader.behind.trades_fail = False
    (recovery,) = trader.guard.recover()
    assert recovery.closed is not None
    assert trader.sent() == [10]


def test_a_position_entered_during_the_sweep_keeps_its_orders(trader: Late) -> None:
    """Its stop-loss stays, whether it was listed for the sweep or not; our own take-profit goes."""
    trader.op(10)
    trader.track(10)
    trader.guard.modify_position("p", take_profit=120)
    listed = trader.behind.open_orders
    entered: list[str] = []

    def enter_meanwhile(leg: Leg) -> Any:
        found = listed(leg)
        if not entered:
            trader.op(5)
            entered.append(trader.stop(5, 90))
        return found

    trader.behind.open_orders = enter_meanwhile
    closed = trader.close()
    assert (trader.held, closed.left_at_venue) == (5, 5)
    assert [order.order_id for order in trader.book.open_orders(LONG)] == entered


def test_a_stop_loss_of_an_entry_that_only_the_trades_show_is_not_replaced(trader: Late) -> None:
    """The position ends while its stop-loss is moved, somebody enters again, and the holding is still flat."""
    trader.op(10)
    trader.track(10)
    placed = trader.behind.place_stop
    entered: list[str] = []

    def ends_meanwhile(order: Any) -> Any:
        answer = placed(order)
        trader.price(80)
        trader.price(100)
        trader.op(5)
        entered.append(trader.stop(5, 90))
        trader.behind.shows(None, 3)
        return answer

    trader.behind.place_stop = ends_meanwhile  # type: ignore[attr-defined]
    with suppress(PoslockError):
        trader.guard.modify_position("p", stop_loss=95)
    assert entered[0] in [order.order_id for order in trader.book.open_orders(LONG)]


def test_a_stop_loss_of_an_entry_that_only_the_trades_show_is_not_swept(trader: Late) -> None:
    """The position is closed, somebody enters again, and the holding is still that of the moment between."""
    trader.op(10)
    trader.track(10)
    listed = trader.behind.open_orders
    entered: list[str] = []

    def enter_meanwhile(leg: Leg) -> Any:
        if not entered:
            trader.op(5)
            entered.append(trader.stop(5, 90))
            trader.behind.shows(None, 3)
        return listed(leg)

    trader.behind.open_orders = enter_meanwhile
    closed = trader.close()
    assert (trader.held, closed.left_at_venue) == (5, 5)
    assert [order.order_id for order in trader.book.open_orders(LONG)] == entered
