"""What was added to a position, from what the venue says of it before and after.

The venue's average entry changes with each entry and with no exit. Held before: h contracts at v; held now: H at V. So
what was added is H - h contracts, at

- linear:  (H · V - h · v) / (H - h)
- inverse: (H - h) / (H / V - h / v)

This is the formula of `Position.scaled_in`, solved for the price of the second entry.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING

from poslock.position import price_of

if TYPE_CHECKING:
    from poslock.exchange.port import Holding
    from poslock.position import Position


def grown(position: Position, *, held: Decimal, entry_price: Decimal, now: Holding) -> Position:
    """*position* with what was added since *held* contracts of it were held from *entry_price* on average.

    Raises:
        InvalidPosition: no price can have led from there to here.
    """
    wide = Context(prec=250)
    added = wide.subtract(now.contracts, held)
    if position.inverse:
        worth = wide.subtract(wide.divide(now.contracts, now.entry_price), wide.divide(held, entry_price))
        price = wide.divide(added, worth) if worth else Decimal(0)
    else:
        worth = wide.fma(now.contracts, now.entry_price, -wide.multiply(held, entry_price))
        price = wide.divide(worth, added)
    return position.scaled_in(added, price_of(price))
