"""Closing all that a leg holds: what is taken into the position is booked once, and only once."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from poslock import PaperExchange, Position, PositionGuard
from poslock.exchange.port import CloseOrder, Leg

if TYPE_CHECKING:
    from pathlib import Path

LEG = Leg("BTC_USDT", "long")


def test_the_whole_leg_is_closed_after_others_took_more_than_the_position(tmp_path: Path) -> None:
    """5 of 10 are tracked, somebody takes off 7: the 3 left are closed, and all 10 are booked, each at its price."""
    venue = PaperExchange(tmp_path / "venue.db", settles_within=0.2, fee_rate=0)
    guard = PositionGuard(venue, lock_dir=tmp_path / "locks")
    venue.set_price(LEG.symbol, 100)
    venue.open_position(LEG.symbol, LEG.side, 10)
    guard.track(Position("p", LEG.symbol, LEG.side, 5, 100))
    venue.set_price(LEG.symbol, 110)
    venue.place(CloseOrder(LEG, Decimal(7), "hand-1", venue.time_ms(), 5000))
    venue.set_price(LEG.symbol, 120)
    closed = guard.close_position("p", whole=True)
    assert venue.held(LEG) == 0
    assert [(fill.price, fill.contracts) for fill in closed.fills] == [
        (Decimal(110), Decimal(7)),
        (Decimal(120), Decimal(3)),
    ]
    assert (closed.gross_pnl, closed.left_at_venue) == (Decimal(7 * 10 + 3 * 20), Decimal(0))
    assert guard.position("p").position.contracts == 10
