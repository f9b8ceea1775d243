"""Why a position cannot be settled at the end, with a venue that shows everything: judged by the truth alone."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soak.books import Trade
    from soak.course import Course

_DIGITS = Fraction(1, 10**15)


def residual(course: Course, trades: Sequence[Trade]) -> str | None:
    """What the design does not promise to settle, None if this position is none of that."""
    row = course.row
    if row["later"] is not None:
        return "a later position was tracked on its leg"
    if not course.is_true:
        return "it was tracked with a holding that its trades do not lead to"
    start = course.since[0].trade_id if course.since else 1 + max((each.trade_id for each in trades), default=0)
    price = _average([each for each in trades if each.trade_id < start], inverse=bool(row["inverse"]))
    tracked = row["held_price"]
    if tracked is not None and price and abs(Fraction(tracked) - price) > price * _DIGITS:
        return f"it was tracked at {tracked}, and its entries had cost {float(price)}"
    return None


def _average(trades: Sequence[Trade], *, inverse: bool) -> Fraction:
    """The average entry price of the leg after *trades*."""
    held = worth = Fraction(0)  # contracts, and contracts at their prices
    for each in trades:
        price = Fraction(each.price)
        if each.is_exit:
            left = max(Fraction(0), each.after)
            worth = worth * left / held if held else Fraction(0)
        else:
            left = max(Fraction(0), each.after)
            added = min(each.contracts, left)
            worth += added / price if inverse else added * price
        held = left
    if not held:
        return Fraction(0)
    return held / worth if inverse else worth / held
