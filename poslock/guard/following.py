"""Stop-losses that are larger than what is left of their position: which they are, and having them follow.

A rung that has filled, a reduce or a hand has taken off a part. Most venues cut such a stop down to what is held; one
refuses it when it triggers, and where others hold a part of the leg it would take theirs.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.closing.change import Changes
from poslock.closing.exits import Reads, view
from poslock.closing.leg import filled, in_terms_of_the_table
from poslock.closing.session import Session
from poslock.closing.wanted import Seen, following
from poslock.guard.admission import NoHold

if TYPE_CHECKING:
    from poslock.closing.session import Means
    from poslock.guard.admission import Admission
    from poslock.position import TrackedPosition


class Following:
    """Looks after the stop-losses of one account that poslock has set."""

    def __init__(self, means: Means, admission: Admission) -> None:
        self._means = means
        self._admission = admission
        self._exchange: Any = means.exchange  # as in `Session`

    async def larger_than_left(self) -> list[TrackedPosition]:
        """Open positions whose stop-loss is too large by what the ledger knows; the venue is not asked."""
        found = await self._means.ports.ledger(self._means.ledger.alive, self._exchange.account)
        return [each for each in found if each.state == "open" and await self._is_larger(each)]

    async def follow(self, seen: TrackedPosition) -> None:
        """Replace it by one of the right size.

        Whether it rests is asked without the lock: whoever wants to close the position meanwhile does not wait for us.
        """
        session = Session(self._means, NoHold(self._means.lease), await self._admission.standing(seen), 0)
        await session.ask(session.exchange.prepare)
        if not await session.own_stops(kind="stop_loss"):
            return
        admitted = await self._admission.if_free(seen, "modify: recovery", "change")
        try:
            if admitted.tracked.state == "open":
                await Changes(admitted.session()).follow()
        finally:
            admitted.release()

    async def _is_larger(self, seen: TrackedPosition) -> bool:
        now = await self._admission.standing(seen)
        table = in_terms_of_the_table(seen.position, now.leg, filled(now.changes), spot=self._exchange.spot)
        left = view(table, Reads(None, now.leg.trades)).ours
        return following(seen, now.changes, Seen(left, left, Decimal(0), Decimal(0), is_sure=False)) is not None
