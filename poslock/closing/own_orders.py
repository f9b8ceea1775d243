"""A close whose orders a bot sends with code of its own: journaled, swept and booked like any other.

Sequence: `begin`; for each order `announce`, and only then the bot sends it; `finish` with what the bot believes that
they filled. What is booked is the venue's to say.

Crash behaviour: that of `poslock.closing.close`: each announced order is asked for by its client order id.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.closing.close import Close
from poslock.closing.exits import Reads, decide
from poslock.closing.leg import Watch
from poslock.closing.session import client_order_id, receive_window_ms
from poslock.errors import InvalidPosition
from poslock.exchange.port import Sending
from poslock.ledger.journal import Attempt, Dispatch
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.closing.exits import Decision
    from poslock.position import ClosedPosition, Fill


class OwnOrders(Close):
    """The close of one position by the order code of a bot."""

    async def begin(self) -> None:
        """From here on the position is closing."""
        await self._begun((await self._session.standing()).version)

    @property
    def client_order_id(self) -> str:
        """The id of the bot's order that was announced last, before that of the first one."""
        return client_order_id(self._session.tracked, len(self._sent) or 1)

    async def announce(self) -> Sending:
        """Journal that an order of the bot's may be out from now on; the next one has another id."""
        session = self._session
        watch = await Watch.of(session)
        number = len(self._sent) + 1
        stamp, client_id = session.stamp(), client_order_id(session.tracked, number)
        window_ms = receive_window_ms(stamp)
        attempt = Attempt(number, client_id, watch.view(None).ours, stamp.at_ms + window_ms)
        self._sent.add(client_id)
        version = (await session.standing()).version
        await session.tell(self._ledger.sending, Dispatch(attempt, version, self._reason))
        return Sending(stamp.at_ms, window_ms, client_id)

    async def finish(self, fills: Sequence[Fill]) -> ClosedPosition:
        """Book the exits of the position after a sweep; *fills* are what the bot believes its order did.

        Raises:
            InvalidPosition: they are not new, or the venue holds some of the position still.
        """
        session = self._session
        await self._expect_new(fills)
        watch = await Watch.of(session)
        return await self._or_says_why(watch, self._finish(watch, fills))

    async def _finish(self, watch: Watch, fills: Sequence[Fill]) -> ClosedPosition:
        await self._sweep.resolve_reduces(watch)
        with localcontext(EXACT):
            total, left = sum((fill.contracts for fill in fills), Decimal(0)), watch.view(None).ours
        if total != left:
            raise InvalidPosition("fills", total, f"contracts in all; {left} are left to close")
        for fill in fills:
            if fill.client_order_id in self._sent:
                watch.ours[fill.client_order_id] = EXACT.add(watch.ours.get(fill.client_order_id, 0), fill.contracts)
        # What is booked, and that nothing is left, is the venue's to say.
        over = await watch.decision()
        said = self._without_the_bots_word(watch) if over.act == "unsettled" else over
        if said.act == "send":
            raise InvalidPosition("fills", total, f"contracts in all, but the venue still holds {said.contracts}")
        if over.act == "unsettled":
            raise self._session.unsettled("sending", over.reason)
        await self._session.tell(self._ledger.filled, self._reason, watch.trades, watch.late)
        return await self._end(watch, over)

    def _without_the_bots_word(self, watch: Watch) -> Decision:
        """What follows from what was seen last if the bot's order filled only what the trades show."""
        ours = {each: filled for each, filled in watch.ours.items() if each not in self._sent}
        return decide(replace(watch.tracked, ours=ours), Reads(watch.holding, watch.trades), settled=True)

    async def _expect_new(self, fills: Sequence[Fill]) -> None:
        """Raise `InvalidPosition` if a fill is there twice, or is booked already."""
        trades = sorted(fill.trade_id for fill in fills)
        booked = await self._session.read(self._ledger.booked_elsewhere, trades)
        if len(set(trades)) < len(trades) or booked:
            raise InvalidPosition("fills", trades, "must be new, and each there once")
