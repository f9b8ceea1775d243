"""Looking at a leg: what the venue has shown is kept, in its order, however much of it the venue forgets."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import Strike
from poslock import Fill, LockLost
from poslock.closing.leg import merged
from poslock.exchange.port import CloseOrder
from poslock.position import Trade
from venue import DIED, LEG, Venue

if TYPE_CHECKING:
    from conftest import Account


def trades(ids: Any, price: int = 100) -> tuple[Trade, ...]:
    return tuple(
        Trade("entry", None, Fill(str(each), None, Decimal(price), Decimal(1), Decimal(0), "USDT", 0)) for each in ids
    )


def ids(found: tuple[Trade, ...]) -> list[str]:
    return [each.fill.trade_id for each in found]


@pytest.mark.parametrize(
    ("known", "fresh", "together"),
    [
        ("", "", ""),
        ("", "ab", "ab"),
        ("ab", "", "ab"),
        ("ab", "ab", "ab"),
        ("ab", "abc", "abc"),
        ("abc", "cd", "abcd"),  # the oldest are forgotten
        ("abc", "de", "abcde"),  # all of them
        ("abcd", "ab", "abcd"),  # the list is behind
        ("abcd", "ad", "abcd"),  # there is a hole in it
        ("ac", "abc", "abc"),  # one shows late, in between
        ("bc", "abc", "abc"),  # or before all others
        ("ab", "ba", "ba"),  # the venue's last word on the order counts
        ("abx", "bac", "bxac"),  # and what it forgot stays behind the one that it was behind
    ],
)
def test_trades_that_the_venue_forgot_keep_their_place(known: str, fresh: str, together: str) -> None:
    """Each behind the one that it was behind before, at the beginning if it was behind none that is shown."""
    assert "".join(ids(merged(trades(known), trades(fresh)))) == together


def test_what_the_venue_says_of_a_trade_now_counts() -> None:
    """The same trade may say more than when it was seen first."""
    assert merged(trades("ab"), trades("b", price=101)) == (*trades("a"), *trades("b", price=101))


lists_of_trades = st.lists(st.integers(0, 12), unique=True).map(trades)


@given(lists_of_trades, lists_of_trades)
def test_no_trade_is_lost_or_there_twice(known: tuple[Trade, ...], fresh: tuple[Trade, ...]) -> None:
    """Whatever the venue shows: its order stays, and so does that of what it forgot between two that it shows."""
    together = merged(known, fresh)
    assert sorted(ids(together)) == sorted({*ids(known), *ids(fresh)})
    assert [each for each in together if each in fresh] == [*fresh]
    shown: str | None = None
    for each in known:
        if each in fresh:
            shown = each.fill.trade_id
        else:
            behind = ids(together)[: together.index(each)]
            nearest = [trade_id for trade_id in behind if trade_id in ids(fresh)]
            assert (nearest[-1] if nearest else None) == shown
    assert merged(together, fresh) == together


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6))
def test_windows_that_move_on_add_up_to_the_whole_history(moves: list[tuple[int, int]]) -> None:
    """A venue shows its newest trades, as many as it likes, or as many as it had a moment ago; from first to last."""
    history = trades(range(60))
    windows, start, end = [], 0, 0
    for dropped, added in moves:
        start, end = min(start + dropped, end), end + added
        windows += [history[start:end], history[start : max(start, end - 1)]]
    assert reduce(merged, windows, trades("")) == history[:end]


def reduced_by_hand(account: Account) -> None:
    account.open()
    account.exchange.place(CloseOrder(LEG, Decimal(4), "byhand", account.exchange.time_ms(), 5000))


def forgetful(venue: Venue, *, after: int) -> None:
    """It shows the trade by hand so many times, and then never again."""
    asked = venue.exchange.trades

    def shown(*args: Any) -> list[Trade]:
        found = asked(*args)
        if venue.calls.count("trades") > after:
            return [each for each in found if each.fill.client_order_id != "byhand"]
        return found

    venue.instead["trades"] = shown


def test_a_trade_that_the_venue_forgets_during_a_close_is_booked(account: Account) -> None:
    """4 went by hand, and the venue shows that only once: the rest is closed, and all ten are booked."""
    reduced_by_hand(account)
    venue = Venue(account, settles_within=0.3)
    forgetful(venue, after=1)
    closed = venue.guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [4, 6]


def test_a_trade_that_the_venue_forgets_before_the_next_close_is_booked(account: Account) -> None:
    """Its closer died after it had sent; what it had seen is in the ledger for the next one, in its place."""
    reduced_by_hand(account)
    with pytest.raises(LockLost):
        Venue(account, Strike("place", "after", DIED)).guard.close_position("btc-1")
    venue = Venue(account, settles_within=0.3)
    forgetful(venue, after=0)
    closed = venue.guard.close_position("btc-1")
    assert [fill.contracts for fill in closed.fills] == [4, 6]
    assert venue.calls.count("place") == 0
