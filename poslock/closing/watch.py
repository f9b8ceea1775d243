"""Looking at a leg until the table of `poslock.closing.exits` says what follows, or nothing has changed for a while.

The venue's holding and its trades are two requests, and each may be behind. A look is both of them; all trades that it
ever showed are kept, because venues forget. "The same for as long as the venue may take" counts from the last change of
anything that was read, and the guard's time-out bounds it all.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from poslock.closing.exits import Decision, LegView, Reads, Tracked, blind, decide, view
from poslock.closing.session import LONGEST_PAUSE, pauses
from poslock.errors import ExchangeUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from poslock.closing.session import Session
    from poslock.exchange.port import Holding
    from poslock.ledger.journal import Change, LegHistory
    from poslock.position import Position, Trade

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
