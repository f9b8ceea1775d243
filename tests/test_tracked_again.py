"""Tracking what is left on a leg when the position that was there before has ended."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from poslock import PaperExchange, Position, PositionGuard
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from pathlib import Path

LEG = Leg("BTC_USDT", "long")


def test_what_was_added_is_tracked_after_the_rest_ended(tmp_path: Path) -> None:
    """10 are tracked, 2 are added, a take-profit takes 10: the 2 are tracked by their own order, and closed."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.2)
    guard = PositionGuard(venue, lock_dir=tmp_path / "locks")
    venue.set_price(LEG.symbol, 100)
    venue.open_position(LEG.symbol, LEG.side, 10)
    guard.track(Position("p", LEG.symbol, LEG.side, 10, 100))
    venue.open_position(LEG.symbol, LEG.side, 2)
    added = venue.trades(LEG, 0)[-1].order_id or ""
    venue.protect(LEG.symbol, LEG.side, "take_profit", 10, 110)
    venue.set_price(LEG.symbol, 110)
    assert guard.close_position("p").left_at_venue == Decimal(2)
    guard.track(Position("p", LEG.symbol, LEG.side, 2, 100), entry_order_ids=[added])
    closed = guard.close_position("p")
    assert venue.held(LEG) == Decimal(0)
    assert [fill.contracts for fill in closed.fills] == [Decimal(2)]
