"""Taking into a position what else its leg holds: by `adopt`, and by a close of all that is held."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.closing.exits import averaged
from poslock.position import EXACT, grown

if TYPE_CHECKING:
    from poslock.closing.session import Session
    from poslock.closing.watch import Watch
    from poslock.position import Position


async def enlarged(session: Session, watch: Watch) -> tuple[Position, Decimal]:
    """The position with all that was ever held on its leg, and what that has cost on average, exits left out.

    The venue's own average does not say: with an exit after an entry it is another one than with the exit before it,
    and the exits are the position's own.
    (test_what_an_exit_after_the_entry_leaves_is_adopted_at_what_it_has_cost)
    """
    position, leg = session.tracked.position, watch.tracked
    at_tracking = leg.entry_price or position.entry_price
    entries = [trade for trade in watch.trades if trade.effect == "entry"]
    with localcontext(EXACT):
        total = leg.held + sum((trade.fill.contracts for trade in entries), Decimal(0))
    # None only where exits lead through flat.
    average = averaged(leg.held, at_tracking, entries, inverse=leg.inverse) or at_tracking
    before = await session.read(session.means.ledger.held_price) or at_tracking
    return grown(position, before=(position.contracts, before), now=(total, average)), average
