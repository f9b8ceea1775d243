"""Closing while the venue does not tell its trades: what is held, and what the ledger knows, have to do."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from faults import Strike, StruckExchange
from poslock import ExchangeUnavailable, PaperExchange, Position, PositionGuard
from poslock.exchange.port import CloseOrder, Leg

if TYPE_CHECKING:
    from pathlib import Path

LEG = Leg("BTC_USDT", "long")


def held_after_a_close(tmp_path: Path, tracked: int, *, by_hand: int = 0, added: int = 0) -> Decimal:
    """Of 15 contracts some are tracked, hands come, and the close cannot read the trades when it looks first."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.2)
    struck = StruckExchange(venue, Strike("trades", "before", ExchangeUnavailable("429"), nth=2))
    guard = PositionGuard(cast("Any", struck), lock_dir=tmp_path / "locks")
    venue.set_price(LEG.symbol, 100)
    venue.open_position(LEG.symbol, LEG.side, 15)
    guard.track(Position("p", LEG.symbol, LEG.side, tracked, 100))
    if by_hand:
        venue.place(CloseOrder(LEG, Decimal(by_hand), "hand-1", venue.time_ms(), 5000))
    if added:
        venue.open_position(LEG.symbol, LEG.side, added)
    guard.close_position("p")
    assert struck.struck.calls.count("trades") >= 3
    return venue.held(LEG)


def test_what_cannot_be_read_counts_against_the_position(tmp_path: Path) -> None:
    """10 of 15 are tracked and 3 are gone by hand: those were the position's, so 7 more are sold, and 5 are left."""
    assert held_after_a_close(tmp_path, 10, by_hand=3) == Decimal(5)


def test_a_later_position_at_the_same_price_is_left_alone(tmp_path: Path) -> None:
    """All 15 are gone by hand, and 20 were entered at the very same price: that is more than is known of it."""
    assert held_after_a_close(tmp_path, 15, by_hand=15, added=20) == Decimal(20)
