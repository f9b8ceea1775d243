"""What is taken for the entry of a position that is tracked."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import pytest

from poslock.exchange.port import Holding, Leg
from poslock.guard.first_look import entry_fee, first_look, is_complete, verified
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Sequence

LEG = Leg("BTC", "long")


def trades(*sizes: int, price: int = 100) -> list[Trade]:
    """Entries, and exits below zero; each by an order of its own, with a fee of 1 for each contract."""
    return [_trade(number, size, price) for number, size in enumerate(sizes)]


def _trade(number: int, size: int, price: int) -> Trade:
    effect: Literal["entry", "exit"] = "entry" if size > 0 else "exit"
    amount = Decimal(abs(size))
    return Trade(effect, f"o{number}", Fill(f"t{number}", None, Decimal(price), amount, amount, "USDT", 5))


def holding(contracts: int, price: str = "100", position_id: str | None = None) -> Holding:
    return Holding(LEG, Decimal(contracts), Decimal(price), Decimal(1), False, "USDT", position_id)


@pytest.mark.parametrize(
    ("held", "shown", "named", "complete", "then"),
    [
        (10, (10,), (), True, 10),
        (10, (4, 6), (), True, 10),
        (6, (10, -4), (), True, 6),
        (10, (3, -3, 10), (), True, 10),
        (5, (-5, 10), (), True, 5),  # it came from the other side of flat
        (4, (-10, 4), (), True, 4),  # and this one from what was held before the trades that were asked for
        (10, (), (), False, 10),
        (10, (4,), (), False, 10),
        (10, (4,), ("o0",), False, 10),  # the rest is older than the trades that were asked for, or does not show yet
        (10, (10,), ("o9",), False, 10),
        (15, (10, 5), ("o0",), True, 15),
        (12, (10, 5, -3), ("o0",), True, 15),
        (12, (10, -3, 5), ("o0",), True, 10),
        (6, (10, -4), ("o0",), True, 10),
        (10, (10, -4), ("o0",), False, 14),  # the holding is from before the exit
        (10, (10, 5), ("o0",), False, 10),  # or from before the entry
    ],
)
def test_when_holding_and_trades_fit(
    held: int, shown: Sequence[int], named: Sequence[str], complete: bool, then: int
) -> None:
    """Run back from what is held they reach flat; what was held is that, less what came after the named orders."""
    look = first_look(holding(held), trades(*shown), named, 0)
    assert is_complete(look, named) is complete
    assert look.leg.held == then


@pytest.mark.parametrize(
    ("held", "shown", "position_id", "complete"),
    [
        (5, (1, 4, -3, 6), None, False),  # from before the last two; else the leg would have begun with -3
        (8, (3, 1, 4, -4, 5), None, False),
        (8, (1, 4, -3, 6), None, True),
        (10, (10, -10, 10), None, False),  # the same is held, but what is between them may not show yet
        (10, (10, -10, 10), "p1", False),  # nor is it the same position
        (10, (10, 3, -3), None, False),
        (10, (3, -3, 10), "p1", True),
    ],
)
def test_a_holding_that_may_be_from_before_the_newest_trades(
    held: int, shown: Sequence[int], position_id: str | None, complete: bool
) -> None:
    """It fits without them, and another size or position would be tracked, or other trades: it is read again."""
    look = first_look(holding(held, position_id=position_id), trades(*shown), (), 0)
    assert is_complete(look, ()) is complete


@pytest.mark.parametrize(
    ("held", "shown"),
    [(6, (3, 4)), (4, (1, 4)), (3, (3, -3, 5)), (4, (1, 2, -3, 5)), (3, (-10, 4)), (4, (-10, 1, 4))],
)
def test_an_exit_that_does_not_show_is_waited_for(held: int, shown: Sequence[int]) -> None:
    """The trades reach flat all the same, but only if the leg had been on its other side."""
    assert not is_complete(first_look(holding(held), trades(*shown), (), 0), ())


@pytest.mark.parametrize(
    ("held", "shown", "named", "known"),
    [
        (10, (10,), (), True),
        (5, (-5, 10), (), True),
        (4, (-10, 4), (), False),  # 10 were held before: one of the entries that led to them may show late
        (4, (-10, 4), ("o1",), True),
    ],
)
def test_no_entry_shows_late_where_the_trades_lead_from_flat(
    held: int, shown: Sequence[int], named: Sequence[str], known: bool
) -> None:
    """All that is held is explained; a trade that shows later came later."""
    look = first_look(holding(held), trades(*shown), named, 0)
    assert is_complete(look, named)
    assert verified(look).leg.entry_known is known


def test_what_was_added_next_is_held_at_the_venues_price() -> None:
    """The price at the entry alone is nowhere to be read; without it any price would do later."""
    shown = [_trade(0, 10, 100), _trade(1, 5, 103), _trade(2, -3, 100)]
    leg = first_look(holding(12, "101"), shown, ("o0",), 0).leg
    assert (leg.held, leg.entry_price) == (Decimal(15), Decimal(101))
    assert [each.fill.trade_id for each in leg.baseline] == ["t0", "t1"]


def test_a_price_that_the_older_trades_give_as_well() -> None:
    """Where idle zeros are left out, 100 may be something near it; the holding may be from before the last two."""
    shown = [*trades(3, -2), _trade(2, 2, 101)]
    assert not is_complete(first_look(holding(3), shown, (), 0), ())
    assert is_complete(first_look(holding(3, "100.67"), shown, (), 0), ())


def test_less_than_is_tracked_is_what_a_holding_shows_that_is_behind() -> None:
    """The entry was filled in two parts, and both reads show one."""
    look = first_look(holding(4), trades(4), (), 0)
    assert is_complete(look, (), Decimal(4))
    assert not is_complete(look, (), Decimal(10))


def test_a_price_that_the_trades_do_not_give_does_not_fit() -> None:
    """Another position of the same size was there before."""
    assert not is_complete(first_look(holding(10, "101"), trades(10), (), 0), ())


def test_what_another_position_has_booked_is_in_the_baseline() -> None:
    """However late it came: no later look counts it for this one."""
    look = first_look(holding(2), trades(10, 2, -10), ("o1",), 0, frozenset({"t2"}))
    assert look.leg.held == 2
    assert {each.fill.trade_id for each in look.leg.baseline} == {"t0", "t1", "t2"}


@pytest.mark.parametrize(
    ("shown", "contracts", "fee"), [((10,), 10, 10), ((4, 6), 10, 10), ((10, -4), 6, 6), ((), 3, 0), ((1,), 3, 1)]
)
def test_what_an_entry_has_cost(shown: Sequence[int], contracts: int, fee: int) -> None:
    """The newest entries that make up what is held; of a part its share, and only what shows."""
    assert entry_fee(trades(*shown), Decimal(contracts), "USDT") == fee
    assert entry_fee(trades(*shown), Decimal(contracts), "BNB") == 0
