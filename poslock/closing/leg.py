"""One leg of a venue: looking at it until it is clear what follows, and clearing away the orders that rest on it.

A look goes on until the table of `poslock.closing.exits` says what follows, or nothing has changed for a while. The
venue's holding and its trades are two requests, and each may be behind. A look is both of them; all trades that it ever
showed are kept, because venues forget. "The same for as long as the venue may take" counts from the last change of
anything that was read, and the guard's time-out bounds it all.

A sweep is of the orders of a leg after its position is over, or while they are in its way. Purpose: no order rests that
could only reduce a leg that is flat, and none of ours; and no order is cancelled that may protect what somebody else
holds. The reads decide, not the cancels. Not protected: an order that is placed, and its position entered, between the
read that shows flat and the cancel.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Literal, TypeAlias

from poslock.closing.exits import Decision, LegView, Reads, Tracked, averaged, blind, decide, view
from poslock.closing.session import LONGEST_PAUSE, Session, pauses
from poslock.errors import ExchangeUnavailable
from poslock.exchange.port import Order
from poslock.position import EXACT, grown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.exchange.port import Holding
    from poslock.ledger.journal import Change, LegHistory
    from poslock.position import Position, Trade

Swept: TypeAlias = Literal["clean", "swept", "held"]

# The form of `poslock.closing.session.client_order_id`.
_OF_A_POSLOCK = re.compile(r"pl[0-9a-f]{30}")


class Watch:
    """The leg of one position, as seen so far.

    ``ours`` is what our own orders have filled, by client order id. ``late`` are entries that showed late: the tracked
    holding contained them. ``strangers`` are the orders of another poslock.
    """

    def __init__(self, session: Session, history: LegHistory, ours: dict[str, Decimal]) -> None:
        self.ours = ours
        self.trades: tuple[Trade, ...] = history.trades
        self.late: tuple[Trade, ...] = ()
        self.strangers: set[str] = set()
        self.holding: Holding | None = None
        self._session = session
        self._history = history
        self._not_ours = set(history.baseline)

    @classmethod
    async def of(cls, session: Session) -> Watch:
        """From what the ledger knows, with what reduces have filled."""
        ledger = session.means.ledger
        return cls(session, await session.read(ledger.leg), filled(await session.read(ledger.changes)))

    @property
    def tracked(self) -> Tracked:
        """The position in the terms of the table."""
        table = in_terms_of_the_table(
            self._session.tracked.position, self._history, self.ours, spot=self._session.exchange.spot
        )
        return replace(table, baseline=frozenset(self._not_ours))

    @property
    def has_news(self) -> bool:
        """Whether the venue has shown a trade that the ledger does not have."""
        return len(self.trades) + len(self.late) > len(self._history.trades)

    def view(self, holding: Holding | None) -> LegView:
        """The leg as it was seen last, with this holding."""
        return view(self.tracked, Reads(holding, self.trades))

    async def look(self) -> Reads:
        """Ask the venue for the holding, and then for the trades: an exit in between counts, and nothing twice."""
        holding = await self._holding()
        await self._take(
            await self._session.ask(self._session.exchange.trades, self._session.leg, self._history.since_ms)
        )
        return Reads(holding, self.trades)

    async def decision(self, *, whole: bool = False, first: bool = False) -> Decision:
        """What follows from the leg, once something does. *first* says that no order of a close has been sent yet."""
        waited = same = 0.0
        settles_within = self._session.exchange.settles_within
        steps, seen = pauses(LONGEST_PAUSE), None
        while True:
            found = await self._once(whole=whole, first=first, settled=same >= settles_within)
            if found is None:
                continue
            decision, mark = found
            if mark != seen:
                seen, same, steps = mark, 0.0, pauses(LONGEST_PAUSE)
            if decision.act != "look":
                self._session.log(_said(decision), step="decide")
                return decision
            if waited >= self._session.means.longest_look:
                return replace(decision, act="unsettled", reason=f"it keeps changing: {decision.reason}")
            pause = min(next(steps, LONGEST_PAUSE), max(settles_within - same, 0.01))
            await self._session.wait(pause)
            waited, same = waited + pause, same + pause

    async def keep(self, session: Session) -> None:
        """Tell the ledger what is new, so that `positions` and the history say what is gone, and at what P&L."""
        if self.has_news:
            await session.tell(session.means.ledger.seen, self.trades)

    # Inside.

    async def _once(self, *, whole: bool, first: bool, settled: bool) -> tuple[Decision, object] | None:
        """One look and what it says, and what it saw; None if the baseline has changed by it."""
        session = self._session
        holding = await self._holding()
        try:
            await self._take(await session.venue(session.exchange.trades, session.leg, self._history.since_ms))
        except ExchangeUnavailable as error:
            # A 429 on the history must not stop a close: what is held is the tracked position by its price and id.
            reads = Reads(holding, self.trades)
            if first and (decision := blind(self.tracked, reads, str(error))) is not None:
                return decision, None
            await self._take(await session.ask(session.exchange.trades, session.leg, self._history.since_ms))
        reads = Reads(holding, self.trades)
        decision = decide(self.tracked, reads, settled=settled, whole=whole)
        if decision.act == "rebase":
            # Here only: the ledger learns of it with what is journaled to be over. If it turns out to be unsettled, the
            # next one to look decides anew.
            self._session.log(_said(decision), step="decide")
            self.late += tuple(each for each in self.trades if each.fill.trade_id in decision.late)
            self._not_ours.update(decision.late)
            self.trades = tuple(each for each in self.trades if each.fill.trade_id not in self._not_ours)
            return None
        return decision, (holding, [each.fill.trade_id for each in self.trades], dict(self.ours))

    async def _holding(self) -> Holding | None:
        self.holding = await self._session.ask(self._session.exchange.holding, self._session.leg)
        return self.holding

    async def _take(self, fresh: Sequence[Trade]) -> None:
        """Add what the venue shows now. The leg of a later position shows nothing more of this one."""
        if self._history.later is not None:
            return
        known = {each.fill.trade_id for each in self.trades} | self._not_ours
        new = [each for each in fresh if each.fill.trade_id not in known]
        if new:
            ledger = self._session.means.ledger
            booked = await self._session.read(ledger.booked_elsewhere, [each.fill.trade_id for each in new])
            self._not_ours.update(booked)
            for each in new:
                await self._recognize(each)
        self.trades = merged(self.trades, [each for each in fresh if each.fill.trade_id not in self._not_ours])

    async def _recognize(self, trade: Trade) -> None:
        """Say so if another poslock, with a ledger of its own, closes this account: both would book the fill."""
        client_id = trade.fill.client_order_id
        if client_id is None or client_id in self.strangers or not _OF_A_POSLOCK.fullmatch(client_id):
            return
        session = self._session
        if not await session.means.ports.ledger(session.means.ledger.sent, client_id):
            self.strangers.add(client_id)
            what = f"order {client_id} is of another poslock with another ledger: two of them close this account"
            session.log(what, step="look", level=logging.WARNING)


def filled(changes: Sequence[Change]) -> dict[str, Decimal]:
    """What reduces have filled, by client order id."""
    return {each.client_order_id: each.filled for each in changes if each.client_order_id and each.filled}


def in_terms_of_the_table(position: Position, history: LegHistory, ours: dict[str, Decimal], *, spot: bool) -> Tracked:
    """What the ledger knows of a position and its leg."""
    leg = history.tracked
    return Tracked(
        contracts=position.contracts,
        held=leg.held,
        entry_price=leg.entry_price,
        position_id=leg.position_id,
        baseline=history.baseline,
        entry_known=leg.entry_known,
        inverse=position.inverse,
        spot=spot,
        ours=ours,
        later=history.later,
    )


def merged(known: Sequence[Trade], fresh: Sequence[Trade]) -> tuple[Trade, ...]:
    """*fresh* in its order, and what is known and not in it: each behind the one that it was behind before."""
    shown = {each.fill.trade_id for each in fresh}
    behind: dict[str | None, list[Trade]] = {}
    last: str | None = None
    for each in known:
        if each.fill.trade_id in shown:
            last = each.fill.trade_id
        else:
            behind.setdefault(last, []).append(each)
    found = behind.get(None, [])
    for each in fresh:
        found = [*found, each, *behind.get(each.fill.trade_id, [])]
    return tuple(found)


def _said(decision: Decision) -> str:
    what = f"row {decision.row}: {decision.act}"
    amount = f" {decision.contracts}" if decision.act == "send" else ""
    return what + amount + (f", {decision.reason}" if decision.reason else "")


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
