"""What a position has cost once what was added to its leg is taken into it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from venue import LEG, SYMBOL

if TYPE_CHECKING:
    from conftest import Account
    from poslock.position import Fill

# Ten from 60000 and five from 59500.
_COST = (Decimal(600_000) + Decimal(297_500)) / 15


def added_to(account: Account, *, exit_first: bool) -> None:
    """Five are added by hand, and four taken off."""
    account.open()
    account.exchange.set_price(SYMBOL, 59_500)
    for is_exit in (exit_first, not exit_first):
        account.exchange.open_position(SYMBOL, "short" if is_exit else "long", 4 if is_exit else 5)


def gross(fills: tuple[Fill, ...]) -> Decimal:
    """What these exits made of what was paid."""
    return sum((fill.price * fill.contracts for fill in fills), Decimal(0)) - Decimal(897_500)


@pytest.mark.parametrize("exit_first", [True, False])
def test_what_an_exit_after_the_entry_leaves_is_adopted_at_what_it_has_cost(
    account: Account, *, exit_first: bool
) -> None:
    """The venue's average is another one after either order; what was paid is the same, and so is the P&L."""
    added_to(account, exit_first=exit_first)
    adopted = account.guard.adopt(SYMBOL, "long")
    assert adopted.position.contracts == 15
    assert round(adopted.position.entry_price - _COST, 12) == 0
    closed = account.guard.close_position("btc-1")
    assert round(closed.gross_pnl - gross(closed.fills), 9) == 0
    assert account.exchange.held(LEG) == 0


@pytest.mark.parametrize("exit_first", [True, False])
def test_all_that_is_held_is_closed_at_what_it_has_cost(account: Account, *, exit_first: bool) -> None:
    """As if it had been adopted before."""
    added_to(account, exit_first=exit_first)
    closed = account.guard.close_position("btc-1", whole=True)
    assert round(closed.gross_pnl - gross(closed.fills), 9) == 0
    assert closed.left_at_venue == 0


def test_what_is_added_after_it_was_adopted_is_adopted_at_its_own_price(account: Account) -> None:
    """Each entry counts once, whatever left in between."""
    added_to(account, exit_first=False)
    account.guard.adopt(SYMBOL, "long")
    account.exchange.open_position(SYMBOL, "short", 2)
    account.exchange.set_price(SYMBOL, 58_500)
    account.exchange.open_position(SYMBOL, "long", 3)
    adopted = account.guard.adopt(SYMBOL, "long")
    cost = (Decimal(897_500) + 3 * Decimal(58_500)) / 18
    assert adopted.position.contracts == 18
    assert round(adopted.position.entry_price - cost, 12) == 0
