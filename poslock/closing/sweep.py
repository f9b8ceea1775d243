"""The orders of a leg after its position is over, or while they are in its way.

Purpose: no order rests that could only reduce a leg that is flat, and none of ours; and no order is cancelled that may
protect what somebody else holds. The reads decide, not the cancels.

Not protected: an order that is placed, and its position entered, between the read that shows flat and the cancel.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, TypeAlias

from poslock.closing.session import Session, pauses
from poslock.exchange.port import Order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from poslock.closing.watch import Watch
    from poslock.exchange.port import Holding

Swept: TypeAlias = Literal["clean", "swept", "held"]


class Sweep:
    """The sweep of one position's leg."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ledger = session.means.ledger

    async def everything(self, watch: Watch) -> Swept:
        """Cancel what rests on a flat leg until a read shows nothing.

        ``"clean"`` if nothing rested, ``"swept"`` if something did and is gone, ``"held"`` if the leg is not flat now.
        """
        session, found, orders = self._session, False, list[Order]()
        for pause in (0.0, *pauses(session.exchange.settles_within)):
            await session.wait(pause)
            orders = await self._resting()
            if not orders:
                return "swept" if found else "clean"
            if not session.exchange.spot and not await _is_flat(watch):
                return "held"
            found = True
            for order in orders:
                await session.cancel(order)
        raise session.unsettled("filled", f"orders still rest: {_named(orders)}")

    async def own(self) -> None:
        """On a leg that holds what is not ours: cancel our take-profits, and our stop-loss only if another rests."""
        session, orders = self._session, list[Order]()
        for pause in (0.0, *pauses(session.exchange.settles_within)):
            await session.wait(pause)
            listed = await session.ask(session.exchange.open_orders, session.leg)
            ours = await session.own_stops(listed)
            ids = {order.order_id for order in ours}
            is_protected = any(each.family == "stop_loss" and each.order_id not in ids for each in listed)
            orders = [each for each in ours if each.family != "stop_loss" or is_protected]
            if not orders:
                for left in ours:
                    what = f"{left.family} {left.order_id} is left: no other one protects what is held"
                    session.log(what, step="sweep", level=logging.WARNING)
                    await session.tell(self._ledger.note, "order left", f"{left.family} {left.order_id}")
                return
            for order in orders:
                await session.cancel(order)
        raise session.unsettled("filled", f"orders still rest: {_named(orders)}")

    async def make_room(self, contracts: Decimal) -> str:
        """Cancel resting orders that keep an order for *contracts* out; what to say of it.

        Those of others only if nothing else is held: they may protect that. A stop-loss only if no other order is left.
        """
        session = self._session
        listed = await session.ask(session.exchange.open_orders, session.leg)
        holding: Holding | None = await session.ask(session.exchange.holding, session.leg)
        is_all_ours = holding is None or holding.contracts <= contracts
        resting = listed if is_all_ours else await session.own_stops(listed)
        others = [order for order in resting if order.family != "stop_loss"]
        for order in others or resting:
            await session.cancel(order)
        return "; its stop-loss was cancelled for that, protect it" if resting and not others else ""

    async def resolve_reduces(self, watch: Watch) -> None:
        """What reduces have filled whose owner died with their request under way."""
        session = self._session
        for change in await session.read(self._ledger.changes):
            if change.kind == "reduce" and change.step == "sending":
                order = await session.find(change)
                if order is not None:
                    watch.ours[change.client_order_id or ""] = (await session.wait_for_end(order)).filled

    async def drop_changes(self) -> None:
        """Wait until no request of a change can be taken any more."""
        # A modify died with its request under way: were it taken after the sweep, it would be left over.
        # (test_a_change_under_way_when_its_owner_died_is_not_left_over)
        for change in await self._session.read(self._ledger.changes):
            if change.kind != "reduce" and change.step == "sending":
                await self._session.find(change)

    async def _resting(self) -> list[Order]:
        session = self._session
        # By their ids too: a venue that denies a new order for a while denies it in its list.
        # (test_a_stop_that_the_venue_does_not_list_yet_is_not_left_over)
        listed = await session.ask(session.exchange.open_orders, session.leg)
        ours = await session.own_stops(listed)
        if session.exchange.spot:  # what sells may be for another part of the balance
            return ours
        ids = {order.order_id for order in listed}
        return [*listed, *(order for order in ours if order.order_id not in ids)]


async def _is_flat(watch: Watch) -> bool:
    """Whether neither of the two reads shows anything of the leg: each may be behind."""
    # Somebody enters again with a stop-loss, and the holding does not show it yet: that is not ours to cancel.
    # (test_a_stop_loss_of_an_entry_that_only_the_trades_show_is_not_swept)
    reads = await watch.look()
    return reads.holding is None and watch.view(None).net <= 0


def _named(orders: Sequence[Order]) -> str:
    return ", ".join(order.order_id for order in orders)
