"""A take-profit in several rungs: set, moved, filled and swept one by one, and all of it or none of it."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike, StruckExchange
from poslock import (
    ChangeRefused,
    InvalidChange,
    InvalidPosition,
    LockLost,
    OperationRefused,
    OrderRefused,
    OutcomeUnknown,
    PaperExchange,
    Position,
    PositionGuard,
)
from venue import DIED, LEG, SYMBOL, Venue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Account
    from poslock.exchange.port import Order, StopOrder

LADDER = [(64_000, 4), (65_000, 6)]
OTHER = [(63_000, 5), (67_000, 5)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A venue's clock that runs ahead as soon as anybody sleeps, and nobody sleeps for real."""
    slept = [0.0]
    monkeypatch.setattr("poslock.bridge.time.sleep", lambda seconds: slept.append(slept.pop() + seconds))
    return lambda: time.time() + slept[0]


def targets(account: Account) -> list[tuple[Any, Any]]:
    """Prices and contracts of the take-profits that rest, by price."""
    rest = [each for each in account.exchange.open_orders(LEG) if each.family == "take_profit"]
    return sorted((each.trigger_price, each.contracts) for each in rest)


def stops(account: Account) -> list[tuple[Any, Any]]:
    """Prices and contracts of the stop-losses that rest, by price."""
    rest = [each for each in account.exchange.open_orders(LEG) if each.family == "stop_loss"]
    return sorted((each.trigger_price, each.contracts) for each in rest)


def steps(account: Account) -> list[str]:
    return [step for (step,) in account.rows("SELECT step FROM change ORDER BY number")]


# What it does.


def test_a_ladder_rests_with_its_own_prices_and_sizes(account: Account) -> None:
    """Instead of the single one that was there; the answer names both rungs, and no single price."""
    account.open()
    modified = account.guard.modify_position("btc-1", take_profit=[("65000", 6), (64_000, "4")])
    assert targets(account) == LADDER
    assert modified.take_profits == ((64_000, 4), (65_000, 6))
    assert (modified.take_profit, modified.stop_loss, modified.contracts) == (None, 57_000, 10)
    assert steps(account) == ["done", "done"]
    ids = [each.client_order_id for each in account.exchange.open_orders(LEG) if each.family == "take_profit"]
    assert len({*ids}) == 2


def test_a_single_price_is_told_as_before(account: Account) -> None:
    """As the price, and among those that rest."""
    account.open()
    modified = account.guard.modify_position("btc-1", take_profit=65_000)
    assert (modified.take_profit, modified.take_profits) == (65_000, ((65_000, 10),))


@pytest.mark.parametrize(
    ("change", "left"), [(OTHER, OTHER), (65_500, [(65_500, 10)]), (None, []), ([(64_500, 3)],) * 2]
)
def test_a_ladder_is_moved_replaced_and_removed(account: Account, change: Any, left: Any) -> None:
    """By another ladder, one price, or nothing: what rests afterwards is that alone."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    account.guard.modify_position("btc-1", take_profit=change)
    assert targets(account) == left
    assert stops(account) == [(57_000, 10)]


def test_the_rungs_of_a_short_are_below_the_price(account: Account) -> None:
    """The nearest one first in the answer."""
    account.open(side="short")
    modified = account.guard.modify_position("btc-1", take_profit=[(54_000, 5), (56_000, 5)])
    assert modified.take_profits == ((56_000, 5), (54_000, 5))


def test_no_old_order_goes_before_every_rung_rests(account: Account) -> None:
    """Whenever one is cancelled, both new ones are there."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    venue, seen = Venue(account), []

    def cancel(order: Order) -> None:
        seen.append(len(targets(account)))
        venue.exchange.cancel(order)

    venue.instead["cancel"] = cancel
    venue.guard.modify_position("btc-1", take_profit=OTHER)
    assert seen == [4, 3]


def test_a_rung_that_fills_leaves_the_others(account: Account) -> None:
    """6 are left with the farther target; the close sweeps that, and books both fills."""
    position = account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    account.exchange.set_price(SYMBOL, 64_100)
    assert targets(account) == [(65_000, 6)]
    closed = account.guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    account.assert_closed_once(position)


def test_a_position_whose_rungs_took_all_of_it_is_booked(account: Account) -> None:
    """By what it ended: its take-profit. Its stop-loss is swept."""
    account.open()
    account.guard.modify_position("btc-1", stop_loss=58_000, take_profit=LADDER)
    account.exchange.set_price(SYMBOL, 64_000)
    account.exchange.set_price(SYMBOL, 65_000)
    (recovery,) = account.guard.recover()
    assert recovery.closed is not None
    assert recovery.closed.ended_by == "take_profit"
    assert account.exchange.open_orders(LEG) == []


def test_a_rung_that_triggers_while_the_next_is_placed_counts_as_resting(account: Account) -> None:
    """The old ones go all the same, and what is left has the rung that rests."""
    account.open()
    venue = Venue(account)

    def place_stop(order: StopOrder) -> Order:
        placed = venue.exchange.place_stop(order)
        if order.trigger_price == 64_000:
            account.exchange.set_price(SYMBOL, 64_000)
        return placed

    venue.instead["place_stop"] = place_stop
    modified = venue.guard.modify_position("btc-1", take_profit=LADDER)
    assert modified.take_profits == ((65_000, 6),)
    assert targets(account) == [(65_000, 6)]
    assert modified.contracts == 6


def test_beside_what_others_hold_only_our_own_rungs_are_replaced(tmp_path: Path) -> None:
    """15 are held and 10 are ours: the target of the other five stays, the ladders follow one another."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.1, denies_for=0.05)
    venue.set_price(SYMBOL, 60_000)
    venue.open_position(SYMBOL, "long", 15)
    guard = PositionGuard(venue, lock_dir=tmp_path / "locks")
    guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    venue.protect(SYMBOL, "long", "take_profit", 5, 70_000)
    guard.modify_position("btc-1", take_profit=LADDER)
    guard.modify_position("btc-1", take_profit=OTHER)
    rest = sorted((each.trigger_price, each.contracts) for each in venue.open_orders(LEG))
    assert rest == [*OTHER, (70_000, 5)]


def test_a_position_with_a_ladder_cannot_be_forgotten(account: Account) -> None:
    """Its rungs rest, each by its own id."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    with pytest.raises(OperationRefused, match=r"orders of its own rest: \d+, \d+"):
        account.guard.forget("btc-1", reason="by mistake")


# What it refuses.


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"take_profit": []}, InvalidPosition, "1 to 10 pairs"),
        ({"take_profit": [(61_000 + n, 1) for n in range(11)]}, InvalidPosition, "1 to 10 pairs"),
        ({"take_profit": [(64_000, 4, 1)]}, InvalidPosition, "pairs"),
        ({"take_profit": (64_000, 4)}, InvalidPosition, "pairs"),
        ({"take_profit": [64_000]}, InvalidPosition, "pairs"),
        ({"take_profit": ["64"]}, InvalidPosition, "pairs"),
        ({"take_profit": {64_000: 4}}, InvalidPosition, "take_profit"),
        ({"take_profit": [(64_000.0, 4)]}, InvalidPosition, "float"),
        ({"take_profit": [(64_000, 0.5)]}, InvalidPosition, "float"),
        ({"take_profit": [(64_000, 0)]}, InvalidPosition, "above zero"),
        ({"take_profit": [(64_000, 4), (None, 4)]}, InvalidPosition, "take_profit"),
        ({"take_profit": [(64_000, 4), ("64000.0", 4)]}, InvalidPosition, "distinct"),
        ({"take_profit": [(64_000, 6), (65_000, 5)]}, InvalidChange, "add up to 11 contracts, and 10 are left"),
        ({"take_profit": LADDER, "reduce_by": 1}, InvalidChange, "add up to 10 contracts, and 9 are left"),
        ({"take_profit": [(64_000, 4), (58_000, 4)]}, InvalidChange, "58000.* must be above the price of 59000"),
        ({"take_profit": [(59_000, 4)]}, InvalidChange, "must be above"),
        ({"stop_loss": 59_500, "take_profit": LADDER}, InvalidChange, "stop_loss"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused_and_nothing_is_sent(
    account: Account, change: Any, error: type[Exception], why: str
) -> None:
    """Nothing is written either, and the lock is free."""
    account.open()
    venue = Venue(account)
    with pytest.raises(error, match=why):
        venue.guard.modify_position("btc-1", **change)
    assert not {"place", "place_stop", "cancel"} & set(venue.calls)
    assert steps(account) == []
    venue.guard.modify_position("btc-1", take_profit=LADDER)


def test_a_rung_below_the_smallest_order_is_refused(account: Account) -> None:
    """The message names the smallest."""
    account.open()
    venue = Venue(account, smallest=2)
    with pytest.raises(InvalidChange, match=r"1 contracts, .* smallest order is for 2"):
        venue.guard.modify_position("btc-1", take_profit=[(64_000, 1), (65_000, 9)])
    assert steps(account) == []


def test_the_rungs_fit_what_is_left_after_a_fill(account: Account) -> None:
    """4 of 10 are gone."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    account.exchange.set_price(SYMBOL, 64_000)
    with pytest.raises(InvalidChange, match="add up to 7 contracts, and 6 are left"):
        account.guard.modify_position("btc-1", take_profit=[(66_000, 3), (67_000, 4)])
    account.guard.modify_position("btc-1", take_profit=[(66_000, 3), (67_000, 3)])
    assert targets(account) == [(66_000, 3), (67_000, 3)]


def test_targets_that_somebody_else_has_set_are_not_replaced_silently(account: Account) -> None:
    """Neither by a price nor by a ladder: the message names them, and `None` removes them."""
    account.open()
    ids = [account.exchange.protect(SYMBOL, "long", "take_profit", 3, price) for price in (62_000, 64_000)]
    for change in (65_000, LADDER):
        with pytest.raises(InvalidChange, match=r"3 take-profits .* not by poslock.*take_profit=None") as caught:
            account.guard.modify_position("btc-1", take_profit=change)
        assert all(each in str(caught.value) for each in ids)
    assert steps(account) == []
    account.guard.modify_position("btc-1", take_profit=None)
    account.guard.modify_position("btc-1", take_profit=LADDER)
    assert targets(account) == LADDER


# What the venue does to it.


def test_a_refused_rung_leaves_what_rests(account: Account) -> None:
    """The second of three: the first one and the old one stay till the next modify, the third is not sent."""
    account.open()
    account.guard.modify_position("btc-1", take_profit=65_000)
    venue = Venue(account, Strike("place_stop", "before", OrderRefused("price limit", code="x"), 2))
    with pytest.raises(ChangeRefused, match=r"price limit.*1 of 3 rungs"):
        venue.guard.modify_position("btc-1", take_profit=[(61_000, 3), (62_000, 3), (63_000, 4)])
    assert targets(account) == [(61_000, 3), (65_000, 10)]
    assert venue.calls.count("place_stop") == 2
    assert steps(account) == ["done", "done", "refused", "dropped"]
    assert account.guard.recover() == []
    account.guard.modify_position("btc-1", take_profit=LADDER)
    assert targets(account) == LADDER


def test_what_a_refused_rung_left_is_swept_with_the_position(tmp_path: Path) -> None:
    """Beside contracts of others, where only our own are swept: the old target and the new rung both go."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.1, denies_for=0.05)
    venue.set_price(SYMBOL, 60_000)
    venue.open_position(SYMBOL, "long", 15)
    struck: Any = StruckExchange(venue, Strike("place_stop", "before", OrderRefused("price limit"), 3))
    guard = PositionGuard(struck, lock_dir=tmp_path / "locks")
    guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    guard.modify_position("btc-1", take_profit=66_000)
    with pytest.raises(ChangeRefused):
        guard.modify_position("btc-1", take_profit=LADDER)
    assert len(venue.open_orders(LEG)) == 2
    assert guard.close_position("btc-1").left_at_venue == 5
    assert venue.open_orders(LEG) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_lost_answer_makes_no_rung_twice(account: Account, clock: Any, when: Any, nth: int) -> None:
    """Each is asked for by its own client id."""
    account.open()
    venue = Venue(account, Strike("place_stop", when, OutcomeUnknown("connection cut"), nth), clock=clock)
    venue.guard.modify_position("btc-1", take_profit=LADDER)
    assert targets(account) == LADDER
    assert venue.calls.count("place_stop") == (2 if when == "after" else 3)
    assert len(account.exchange.orders(LEG)) == 4  # the two of old, and two new


DEATHS = [
    (port, Strike(method, when, DIED, nth))
    for port, methods in (
        ("venue", [("open_orders", 4), ("place_stop", 2), ("cancel", 2)]),
        ("ledger", [("change", 1), ("sending_change", 2), ("end_change", 1)]),
    )
    for method, times in methods
    for nth in range(1, times + 1)
    for when in ("before", "after")
]


def name_of(value: object) -> str:
    return f"{value.when}-{value.method}-{value.nth}" if isinstance(value, Strike) else str(value)


def dies(account: Account, port: str, strike: Strike, clock: Any) -> bool:
    """A move of the ladder whose owner dies; whether it was journaled."""
    account.guard.modify_position("btc-1", take_profit=LADDER)
    strikes, writes = ((strike,), ()) if port == "venue" else ((), (strike,))
    with pytest.raises(LockLost):
        Venue(account, *strikes, writes=writes, clock=clock).guard.modify_position("btc-1", take_profit=OTHER)
    rest = targets(account)
    assert {*LADDER} <= {*rest} or {*OTHER} <= {*rest}, "neither ladder is whole"
    return len(steps(account)) > 2


@pytest.mark.parametrize(("port", "strike"), DEATHS, ids=name_of)
def test_recover_finishes_a_ladder_whose_owner_died(account: Account, clock: Any, port: str, strike: Strike) -> None:
    """The new one rests and nothing else, or the old one if it was not journaled."""
    position = account.open()
    begun = dies(account, port, strike, clock)
    assert all(each.error is None for each in Venue(account, clock=clock).guard.recover())
    assert targets(account) == (OTHER if begun else LADDER)
    Venue(account, clock=clock).guard.close_position("btc-1")
    account.assert_closed_once(position)


@pytest.mark.parametrize(("port", "strike"), DEATHS, ids=name_of)
def test_a_close_after_a_ladder_whose_owner_died_leaves_no_order(
    account: Account, clock: Any, port: str, strike: Strike
) -> None:
    """It drops what was not sent, and sweeps what was."""
    position = account.open()
    dies(account, port, strike, clock)
    Venue(account, clock=clock).guard.close_position("btc-1")
    account.assert_closed_once(position)
    assert account.guard.recover() == []


def test_a_ladder_that_was_left_does_not_touch_a_later_position(account: Account, clock: Any) -> None:
    """One rung was out when its owner died: it goes with the position, and the later one keeps its own target."""
    account.open()
    with pytest.raises(LockLost):
        Venue(account, Strike("place_stop", "after", DIED, 1), clock=clock).guard.modify_position(
            "btc-1", take_profit=LADDER
        )
    account.exchange.set_price(SYMBOL, 56_000)  # the stop-loss takes it all
    account.exchange.set_price(SYMBOL, 59_000)
    account.exchange.open_position(SYMBOL, "long", 10)
    account.exchange.protect(SYMBOL, "long", "take_profit", 10, 70_000)
    venue = Venue(account, clock=clock)
    venue.guard.recover()
    assert "place_stop" not in venue.calls
    assert (Decimal(64_000), Decimal(4)) not in targets(account)
    assert (70_000, 10) in targets(account)
