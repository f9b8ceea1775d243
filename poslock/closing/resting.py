"""The exit orders that rest on a leg while it is changed: which of them protect, and which the new ones replace.

Purpose: nothing is cancelled before everything that replaces it rests, and nothing that may protect what is not of the
position. The reads decide, not the cancels.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.closing.leg import Watch, named
from poslock.closing.session import Session, may_rest, pauses
from poslock.exchange.port import Order
from poslock.position import EXACT, ModifiedPosition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from poslock.ledger.journal import Change

# The rows of the table in which what is held is the tracked position.
_OF_THE_POSITION = frozenset({3, 4})


class Resting:
    """The exit orders of one position's leg."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def replace(self, changes: Sequence[Change], new: Mapping[int, Order]) -> None:
        """Cancel the orders of the kind of *changes* but the *new* ones, until a read shows none.

        Where more is held than the position, or another one, only ours: the others may protect that.
        """
        session, old, first = self._session, list[Order](), changes[0]
        ids = {order.order_id for order in new.values()}
        for pause in (0.0, *pauses(session.exchange.settles_within)):
            await session.wait(pause)
            resting = await session.ask(session.exchange.open_orders, session.leg)
            ours = await session.own_stops(resting, but=new, kind=first.kind)
            old = [each for each in ours if each.order_id not in ids]
            known = {*ids, *(each.order_id for each in old)}
            others = [each for each in resting if each.family == first.kind and each.order_id not in known]
            # Looked at after the list: whoever adds to the position, with a stop of his own, may come before any of
            # them. (test_a_stop_that_comes_while_ours_is_replaced_stays)
            if others and not first.follows and await self._is_all_ours():
                old += others
            if not old:
                return
            # New ones that cannot be seen protect nobody yet.
            shown = {each.order_id for each in resting}
            unseen = [each for each in changes if each.number in new and new[each.number].order_id not in shown]
            if all([await self._has_triggered(each) for each in unseen]):
                await session.cancel(*old)
        raise session.unsettled("sending", f"orders still rest: {named(old)}")

    async def targets_of_others(self) -> list[Order]:
        """The take-profits that would be cancelled with ours, and that poslock has not placed.

        One without a client order id counts as ours if it is just like one that we have placed: MEXC's have none, and
        it denies new ones for a while.
        """
        session = self._session
        resting = await session.ask(session.exchange.open_orders, session.leg)
        targets = [each for each in resting if each.family == "take_profit"]
        if not targets or not await self._is_all_ours():
            return []
        placed = may_rest((await session.standing()).changes)
        ids = {each.client_order_id for each in placed}
        like_ours = {(each.contracts, each.trigger_price) for each in placed if each.kind == "take_profit"}
        return [
            each
            for each in targets
            if each.client_order_id not in ids
            and (each.client_order_id is not None or (each.contracts, each.trigger_price) not in like_ours)
        ]

    async def protecting(self, left: Decimal) -> Order | None:
        """A stop-loss that rests for all that is *left*, whoever has set it; one of ours may not be shown yet.

        They may be several: then it is one of them.
        """
        session = self._session
        resting = await session.ask(session.exchange.open_orders, session.leg)
        ours = await session.own_stops(resting, kind="stop_loss")
        others = [each for each in resting if each.family == "stop_loss"]
        stops = {each.order_id: each for each in (*ours, *others)}
        with localcontext(EXACT):
            covered = sum(each.contracts - each.filled for each in stops.values())
        return next(iter(stops.values()), None) if covered >= left else None

    async def outcome(self) -> ModifiedPosition:
        """What rests now, and what is left."""
        session = self._session
        watch = await Watch.of(session)
        _, [resting] = await watch.glance(beside=[(session.exchange.open_orders, (session.leg,))])
        await watch.keep(session)
        prices = {order.family: order.trigger_price for order in resting}
        at = dict[Decimal, Decimal]()
        for order in resting:
            if order.family == "take_profit" and order.trigger_price is not None:
                more = EXACT.subtract(order.contracts, order.filled)
                at[order.trigger_price] = EXACT.add(at.get(order.trigger_price, Decimal(0)), more)
        targets = sorted(at.items())
        return ModifiedPosition(
            session.key.position_id,
            prices.get("stop_loss"),
            prices.get("take_profit") if len(targets) <= 1 else None,
            watch.view(watch.holding).ours,
            session.token,
            tuple(targets if session.leg.side == "long" else targets[::-1]),
        )

    async def _is_all_ours(self) -> bool:
        watch = await Watch.of(self._session)
        decision, _ = await watch.glance()
        if watch.holding is None:
            # It may be behind: the position ends while it is changed, and an entry with a stop-loss of its own shows
            # among the trades alone. (test_a_stop_loss_of_an_entry_that_only_the_trades_show_is_not_replaced)
            return watch.view(None).net <= 0
        return (
            watch.holding.contracts <= watch.view(watch.holding).ours
            and not self._session.exchange.spot
            and decision.row in _OF_THE_POSITION
        )

    async def _has_triggered(self, change: Change) -> bool:
        now = await self._session.look_up(change)
        return now is not None and now.state == "filled"
