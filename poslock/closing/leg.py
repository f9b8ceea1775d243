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
from typing import TYPE_CHECKING

from poslock.closing.exits import Decision, LegView, Reads, Tracked, averaged, blind, decide, view
from poslock.closing.session import LONGEST_PAUSE, Session, may_rest, pauses
from poslock.errors import ExchangeUnavailable
from poslock.exchange.port import Order, RecentTrades
from poslock.position import EXACT, grown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from poslock.bridge import Call
    from poslock.exchange.port import Holding
    from poslock.ledger.journal import Change, LegHistory
    from poslock.position import Position, Trade

# Seconds that a closing order waits for the trades once the position is there.
SPARE = 1.0
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
        standing = await session.standing()
        return cls(session, standing.leg, filled(standing.changes))

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

    def shown(self, client_order_id: str) -> Decimal:
        """How many contracts an order of ours has filled, as far as the trades show."""
        with localcontext(EXACT):
            fills = [each.fill for each in self.trades if each.fill.client_order_id == client_order_id]
            return sum((each.contracts for each in fills), Decimal(0))

    @property
    def request(self) -> Call:
        """The question for the trades of the leg."""
        return self._session.exchange.trades, (self._session.leg, self._history.since_ms)

    def view(self, holding: Holding | None) -> LegView:
        """The leg as it was seen last, with this holding."""
        return view(self.tracked, Reads(holding, self.trades))

    async def glance(
        self, *, whole: bool = False, first: bool = False, settled: bool = False, beside: Sequence[Call] = ()
    ) -> tuple[Decision, list[Any]]:
        """One look and what follows from it, and the answers to what is asked *beside*; a ``rebase`` is made."""
        session, exchange = self._session, self._session.exchange
        ready: list[Call] = [(exchange.refresh, ())] if session.hurries and session.side_by_side else []
        self.holding, fresh, *answers = await session.try_together(
            (exchange.holding, (session.leg,)),
            self.request,
            *beside,
            *ready,
            spare=SPARE if session.hurries else None,
        )
        answers = [await session.again(*each) for each in zip((*beside, *ready), answers, strict=True)][: len(beside)]
        if isinstance(fresh, ExchangeUnavailable | RecentTrades):
            if first and (decision := await self.unread(fresh)) is not None:
                return decision, answers
            session.hurries = False
            method, args = self.request
            fresh = await (
                session.again(self.request, fresh) if isinstance(fresh, Exception) else session.ask(method, *args)
            )
        return await self.read(fresh, whole=whole, settled=settled), answers

    async def unread(self, found: ExchangeUnavailable | RecentTrades) -> Decision | None:
        """What may be closed by the holding, because the trades could not be read, or not all; None if nothing may."""
        # A 429 on the history must not stop a close, nor a long history: what is held is the tracked position by its
        # price and id.
        why = "more than one request tells" if isinstance(found, RecentTrades) else str(found)
        if isinstance(found, RecentTrades):
            await self._take(found)
        decision = blind(self.tracked, Reads(self.holding, self.trades), why)
        if decision is not None:
            self._session.log(_said(decision), step="decide")
        return decision

    async def read(self, fresh: Sequence[Trade], *, whole: bool = False, settled: bool = False) -> Decision:
        """What follows from the holding and these trades; a ``rebase`` is made."""
        await self._take(fresh)
        decision = decide(self.tracked, Reads(self.holding, self.trades), settled=settled, whole=whole)
        if decision.act != "look":
            self._session.log(_said(decision), step="decide")
        if decision.act == "rebase":
            # Here only: the ledger learns of it with what is journaled to be over. If it turns out to be unsettled, the
            # next one to look decides anew.
            self.late += tuple(each for each in self.trades if each.fill.trade_id in decision.late)
            self._not_ours.update(decision.late)
            self.trades = tuple(each for each in self.trades if each.fill.trade_id not in self._not_ours)
        return decision

    async def decision(self, *, whole: bool = False, first: bool = False) -> Decision:
        """What follows from the leg, once something does. *first* says that no order of a close has been sent yet."""
        session, settles_within = self._session, self._session.exchange.settles_within
        waited = same = 0.0
        steps, seen = pauses(LONGEST_PAUSE), None
        while True:
            decision, _ = await self.glance(whole=whole, first=first, settled=same >= settles_within)
            if decision.act == "rebase":
                continue
            mark = self.holding, [each.fill.trade_id for each in self.trades], dict(self.ours)
            if mark != seen:
                seen, same, steps = mark, 0.0, pauses(LONGEST_PAUSE)
            if decision.act != "look":
                return decision
            if waited >= session.means.longest_look:
                return replace(decision, act="unsettled", reason=f"it keeps changing: {decision.reason}")
            pause = min(next(steps, LONGEST_PAUSE), max(settles_within - same, 0.01))
            await session.wait(pause)
            waited, same = waited + pause, same + pause

    async def keep(self, session: Session) -> None:
        """Tell the ledger what is new, so that `positions` and the history say what is gone, and at what P&L."""
        if self.has_news:
            await session.tell(session.means.ledger.seen, self.trades)

    # Inside.

    async def _take(self, fresh: Sequence[Trade]) -> None:
        """Add what the venue shows now. The leg of a later position shows nothing more of this one."""
        if self._history.later is not None:
            return
        known = {each.fill.trade_id: each.fill.client_order_id for each in self.trades}
        new = [each for each in fresh if each.fill.trade_id not in {*known, *self._not_ours}]
        if new:
            ledger = self._session.means.ledger
            booked = await self._session.read(ledger.booked_elsewhere, [each.fill.trade_id for each in new])
            self._not_ours.update(booked)
        for each in fresh:
            if each.fill.trade_id not in self._not_ours and known.get(each.fill.trade_id) is None:
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
    """The sweep of one position's leg.

    ``listed`` is what rested at the last read, None before the first one. ``blocking`` is what rested when the venue
    refused the last order because of that, empty if it did not.
    """

    def __init__(self, session: Session) -> None:
        self.listed: list[Order] | None = None
        self.blocking: Sequence[Order] = ()
        self._session = session
        self._ledger = session.means.ledger

    @property
    def request(self) -> Call:
        """The question for what rests, to be asked beside others."""
        return self._session.exchange.open_orders, (self._session.leg,)

    async def prepare(self) -> None:
        """List what rests before the leg is seen to be over, so that it may be cancelled at once then.

        Not where some are ours and cancelled unlisted: if there are any others the last read tells.
        """
        session = self._session
        if session.cancels_unlisted and may_rest((await session.standing()).changes):
            return
        [listed] = await session.ask_together(self.request, hurries=True)
        await self.take(listed)

    async def cancel(self) -> None:
        """Cancel what was listed before the leg was seen to be over; what is ours, if nothing was."""
        # Ours were placed before that, so they protect nothing that came later.
        if self.listed is None and self._session.cancels_unlisted:
            await self._session.cancel_stops()
        await self._session.cancel(*(self.listed or ()))

    async def take(self, listed: Sequence[Order]) -> list[Order]:
        """What is to be cancelled, by the answer to `request`."""
        # By their ids too: a venue that denies a new order for a while denies it in its list.
        # (test_a_stop_that_the_venue_does_not_list_yet_is_not_left_over)
        ours = await self._session.own_stops(listed, alike=True)
        ids = {order.order_id for order in listed}
        more = [order for order in ours if order.order_id not in ids]
        # On spot what sells may be for another part of the balance.
        self.listed = ours if self._session.exchange.spot else [*listed, *more]
        return self.listed

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
            await session.cancel(*orders)
        raise session.unsettled("filled", f"orders still rest: {named(orders)}")

    async def list_blocking(self) -> None:
        """Note what rests when the venue has refused an order because of it; `make_room` follows after a look."""
        self.blocking = await self._session.ask(self._session.exchange.open_orders, self._session.leg)

    async def make_room(self, watch: Watch, granted: Decision) -> str:
        """Cancel what keeps an order out that *watch* has just *granted*; what to say of it.

        Those of others only if nothing else is held: they may protect that. A stop-loss only if no other order is left.
        """
        session, holding = self._session, watch.holding
        # What is to be adopted is no part of the position before that is journaled: its closer may die.
        is_all_ours = holding is not None and holding.contracts <= granted.contracts and not granted.adopted
        resting = self.blocking if is_all_ours or not self.blocking else await session.own_stops(self.blocking)
        others = [order for order in resting if order.family != "stop_loss"]
        await session.cancel(*(others or resting))
        return "; its stop-loss was cancelled for that, protect it" if resting and not others else ""

    async def resolve_reduces(self, watch: Watch) -> None:
        """What reduces have filled whose owner died with their request under way."""
        session = self._session
        for change in (await session.standing()).changes:
            if change.kind == "reduce" and change.step == "sending":
                order = await session.find(change)
                if order is not None:
                    watch.ours[change.client_order_id or ""] = (await session.wait_for_end(order)).filled


def named(orders: Sequence[Order]) -> str:
    """Their ids, as text."""
    return ", ".join(order.order_id for order in orders)
