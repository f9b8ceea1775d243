"""The close of a position, under its lock.

    open → intent → sending → filled → booked

Purpose: whatever happened before, and wherever the last closer died, running it once more under the lock ends in one
close, one booking and no order left; it only ever goes forward, because a venue cannot undo an accepted order.

Sequence: look at the leg; journal the order (`sending`, with the token, and with it the intent) and only then send it;
list what rests, unless ours is cancelled without; look again, and if the trades do not show the order whole, wait
for its end and look once more; what is left goes out as the next attempt under its own id; when the table says that the
position is over, journal that (`filled`), cancel what was listed before or is ours, look once more, book. If one look
does not decide, the intent is journaled by itself.

Crash behaviour: each step is journaled before the next begins, so the next owner enters at the journaled step. An order
that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every process.

Not protected: a venue that takes a request after its receive window, or denies an order for longer than it says.

Errors: `CloseUnsettled` when the venue does not explain what became of the position; its reason is in the ledger.
`OrderRefused` never leaves here raw. Every wait and every retry is bounded.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from poslock.closing.exits import Decision
from poslock.closing.leg import Sweep, Watch, enlarged, named
from poslock.closing.session import FIRST_PAUSE, LONGEST_PAUSE, Session, client_order_id, pauses, receive_window_ms
from poslock.errors import (
    CloseUnsettled,
    ExchangeError,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, RecentTrades
from poslock.ledger.journal import Attempt, Dispatch
from poslock.ledger.ledger import Moved
from poslock.pnl import realized_pnl
from poslock.position import ClosedPosition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from decimal import Decimal

    from poslock.bridge import Call
    from poslock.exchange.port import Holding, Order
    from poslock.ledger.journal import Change, Standing
    from poslock.ledger.journal import Close as Journal
    from poslock.position import Fill, Position, Trade

_MOST_ORDERS = 100
_FRUITLESS_ORDERS = 3
_MOST_STARTS = 3


@dataclass(frozen=True, slots=True)
class First:
    """The first order of a close that is about to leave, and what it was decided by."""

    watch: Watch
    decision: Decision
    dispatch: Dispatch
    request: CloseOrder


class Close:
    """The close of one position by one owner of its lock; `run` goes on from wherever the journal says."""

    def __init__(self, session: Session, *, reason: str, whole: bool = False, urgent: bool = False) -> None:
        self._session = session
        self._ledger = session.means.ledger
        self._sweep = Sweep(session)
        self._reason = reason
        self._whole = whole
        self._urgent = urgent
        self._refusal = ""
        self._is_put_off = False  # whether the venue has turned the last order away for rate, and nothing else
        self._sent: set[str] = set()
        session.change = ""  # whatever change led to this

    async def run(self) -> ClosedPosition:
        """Go from the journaled step to the booking."""
        for _ in range(_MOST_STARTS):
            standing = await self._session.standing()
            watch = await Watch.of(self._session)
            with suppress(Moved):
                return await self._or_says_why(watch, self._run(watch, standing))
            self._session.forget_standing()
        raise self._session.unsettled("sending", "somebody else writes about it at the same time")

    async def first(self, holding: Holding | None, trades: Sequence[Trade] | ExchangeUnavailable) -> First | None:
        """The order that goes out first, by what was asked for several positions at once; None if it takes more."""
        standing, watch = await self._session.standing(), await Watch.of(self._session)
        if standing.close is not None or _is_changed(standing.changes):
            return None
        watch.holding = holding
        decision: Decision | None
        if isinstance(trades, ExchangeUnavailable | RecentTrades):
            decision = await watch.unread(trades)
        else:
            decision = await watch.read(trades)
        if decision is None or decision.act != "send":
            return None
        return First(watch, decision, *await self._dispatch(watch, None, None, decision, standing.version))

    async def go_on(self, first: First, version: int, placed: Order | ExchangeError) -> ClosedPosition:
        """From the order that went out first, whose journaling has made *version*, to the booking."""
        return await self._or_says_why(first.watch, self._gone_on(first, version, placed))

    async def _gone_on(self, first: First, version: int, placed: Order | ExchangeError) -> ClosedPosition:
        watch, attempt = first.watch, first.dispatch.attempt
        order, seen = await self._followed(watch, await self._judged(attempt, placed), first.decision)
        return await self._end(watch, await self._flatten(watch, version, attempt, order, sent=1, seen=seen))

    async def _run(self, watch: Watch, standing: Standing) -> ClosedPosition:
        session, journal = self._session, standing.close
        await session.ask(session.exchange.prepare)
        if journal is not None and journal.step == "filled":
            await self._resolve(watch, journal)
            return await self._end(watch, await self._over(watch))
        await self._sweep.resolve_reduces(watch)
        attempt, order = await self._resolve(watch, journal)
        unseen = self._unseen(watch, standing)
        if unseen is not None and session.side_by_side:
            await session.ask(session.exchange.refresh)
        return await self._end(watch, await self._flatten(watch, standing.version, attempt, order, seen=unseen))

    async def look(self) -> Decision:
        """What follows for a close that was begun, with nothing sent; the reason is in the ledger if it cannot end."""
        session = self._session
        watch = await Watch.of(session)
        await self._sweep.resolve_reduces(watch)
        await self._resolve(watch, (await session.standing()).close)
        decision = await watch.decision()
        if decision.act == "unsettled":
            await session.tell(self._ledger.unsettled, decision.reason, watch.trades)
        return decision

    async def end(self, watch: Watch, over: Decision) -> ClosedPosition:
        """Book a position that has ended by itself, as the table has just said of an open one."""
        await self._session.tell(self._ledger.filled, self._reason, watch.trades, watch.late)
        return await self._or_says_why(watch, self._end(watch, over))

    # intent, sending → filled

    async def _flatten(  # noqa: PLR0913  # what is known already
        self,
        watch: Watch,
        version: int,
        attempt: Attempt | None,
        order: Order | None,
        *,
        sent: int = 0,
        seen: Decision | None = None,
    ) -> Decision:
        """Close what the leg shows of the position until the table says that it is over.

        *attempt* is the last one, *order* what became of it, None if the venue has none; *version* is what is known of
        the position. *seen* is what follows, where no look is needed for that.
        """
        session, fruitless = self._session, 0
        while True:
            decision = seen or await self._seen(watch, first=attempt is None)
            if decision.act in {"look", "rebase"}:
                # It may take a while: whoever comes next is to know that it is wanted.
                version = await self._begun(version)
                decision = await watch.decision(whole=self._whole, first=attempt is None)
            if decision.act in {"ended", "left"}:
                await session.tell(self._ledger.filled, self._reason, watch.trades, watch.late)
                return decision
            if decision.act != "send":
                raise session.unsettled("sending", decision.reason + self._refusal)
            # What the last owner sent in vain does not count: two of ours may be needed to make room for the third.
            # (test_a_close_that_the_resting_orders_block)
            if sent and (order is None or not order.filled) and not self._is_put_off:
                fruitless += 1
                if fruitless == _FRUITLESS_ORDERS:
                    break
                # The look that has just granted this order began after they were listed: whoever has closed the
                # position by hand and entered again before keeps what protects that.
                # (test_the_orders_of_a_later_position_make_no_room)
                session.aside = await self._sweep.make_room(watch, decision) or session.aside
                await session.wait(LONGEST_PAUSE)
            if sent == _MOST_ORDERS:
                break
            dispatch, request = await self._dispatch(watch, attempt, order, decision, version)
            # Durable before the request leaves, and under the token: whoever lost the lock stops here, and whoever
            # comes next knows that an order may be out.
            version = await session.tell(self._ledger.sending, dispatch)
            attempt = dispatch.attempt
            placed = await self._judged(attempt, await self.placed(request))
            order, seen = await self._followed(watch, placed, decision)
            sent += 1
        why = f"{decision.contracts} contracts were left after the last order{self._refusal}"
        raise session.unsettled("sending", why)

    async def _seen(self, watch: Watch, *, first: bool) -> Decision:
        """What follows from one look. As long as nothing is sent, it hurries."""
        self._session.hurries = first
        decision, _ = await watch.glance(whole=self._whole, first=first)
        self._session.hurries = False
        return decision

    async def _begun(self, version: int) -> int:
        """The version that follows *version*, with the position closing."""
        standing = await self._session.standing()
        if standing.position.state != "open":
            return version
        return await self._session.tell(self._ledger.begin, self._reason, version)

    def _unseen(self, watch: Watch, standing: Standing) -> Decision | None:
        """What an urgent close sends without a look: what the ledger has left. None if it has to be looked at."""
        if (
            not self._urgent
            or _is_changed(standing.changes)
            or standing.close is not None
            or standing.leg.later is not None
        ):
            return None
        left = watch.view(None).ours
        return Decision(3, "send", left, reason="urgent: nothing was looked at") if left else None

    async def _resolve(self, watch: Watch, journal: Journal | None) -> tuple[Attempt | None, Order | None]:
        """What the orders of earlier owners did: the last one may still be under way."""
        attempts = journal.attempts if journal else ()
        self._sent.update(each.client_order_id for each in attempts)
        for each in attempts[:-1]:
            if each.filled is None:  # a slice of a bot's own order code, whose end nobody has seen
                await self._ended(watch, await self._session.find(each))
            else:
                watch.ours[each.client_order_id] = each.filled
        if not attempts:
            return None, None
        return attempts[-1], await self._ended(watch, await self._session.find(attempts[-1]))

    async def _ended(self, watch: Watch, order: Order | None) -> Order | None:
        """The same order once it has ended; what it filled counts from now on."""
        if order is None:
            return None
        order = await self._session.wait_for_end(order)
        watch.ours[order.client_order_id or ""] = order.filled
        return order

    async def _followed(
        self, watch: Watch, order: Order | None, decision: Decision
    ) -> tuple[Order | None, Decision | None]:
        """As `_ended`; and what follows, if a look has told by its trades that the order is filled whole."""
        if order is None:
            return None, None
        if order.contracts >= decision.contracts:
            await self._sweep.prepare()  # nothing may be left by this order
        if order.state == "open":
            await self._session.wait(FIRST_PAUSE)
            seen = await self._seen(watch, first=False)
            # Of an order that shows in part only it is not known what it may still fill, so what was seen is no reason
            # for another one. (test_an_order_that_shows_in_part_is_asked_for_before_the_next_one)
            client_id = order.client_order_id or ""
            if watch.shown(client_id) >= order.contracts:
                watch.ours[client_id] = order.contracts
                return replace(order, state="filled", filled=order.contracts), seen
        return await self._ended(watch, order), None

    async def _dispatch(
        self, watch: Watch, last: Attempt | None, ended: Order | None, decision: Decision, version: int
    ) -> tuple[Dispatch, CloseOrder]:
        """The next order, and what is to be journaled before it leaves."""
        session = self._session
        # An attempt of which the venue has no order goes out again under the same id; one that has ended is followed
        # by the next number. So no id ever stands for two orders.
        number = 1 if last is None else last.number if ended is None else last.number + 1
        larger = await self._larger(watch) if decision.adopted else None
        stamp = session.stamp()
        window_ms = receive_window_ms(stamp)
        client_id = client_order_id(session.tracked, number)
        attempt = Attempt(number, client_id, decision.contracts, stamp.at_ms + window_ms)
        self._sent.add(client_id)
        filled = ended.filled if ended else None
        dispatch = Dispatch(attempt, version, self._reason, filled, watch.trades, larger)
        order = CloseOrder(
            session.leg,
            decision.contracts,
            client_id,
            stamp.at_ms,
            window_ms,
            watch.tracked.position_id,
            watch.holding,
        )
        return dispatch, order

    async def placed(self, request: CloseOrder) -> Order | ExchangeError:
        """The order, or the error in its place."""
        session = self._session
        session.log(f"sends {request.client_order_id} for {request.contracts} contracts", step="send")
        session.hurries = True
        try:
            order: Order = await session.venue(session.exchange.place, request)
        except ExchangeError as error:
            return error
        finally:
            session.hurries = False
        return order

    async def _judged(self, attempt: Attempt, placed: Order | ExchangeError) -> Order | None:
        """The order that a request has become, None if the venue does not have it."""
        session, self._is_put_off, self._sweep.blocking = self._session, False, ()
        await session.standing()  # it may have grown by the order
        if not isinstance(placed, ExchangeError):
            return placed
        if not isinstance(placed, OrderRefused):  # it may have been taken
            return await session.find(attempt)
        self._refusal = f": {placed}"
        if isinstance(placed, RateLimited):
            # Turned away unseen. Nor can an earlier request with the same id still be taken: those of which nothing was
            # heard were waited for. The leg may be another one after the pause: it is looked at before the next order.
            # (test_an_order_that_is_turned_away_is_not_asked_after, test_a_position_entered_during_a_storm_is_left)
            self._is_put_off = True
            await session.wait_out(placed)
            return None
        if isinstance(placed, ReduceOnlyBlocked):
            # Only for this reason are protective orders given up before the position is gone.
            await self._sweep.list_blocking()
        elif not isinstance(placed, NothingToReduce | RequestExpired | NotServed):
            raise session.unsettled("sending", f"the venue refused the order: {placed}") from placed
        # This request was not taken. An earlier one with the same id may have been, and may have closed it all.
        return await session.look_up(attempt)

    async def _larger(self, watch: Watch) -> Position:
        """The position with the contracts that the order takes into it."""
        if watch.holding is None or watch.holding.entry_price is None:
            raise self._session.unsettled("sending", "the venue does not say what the rest of the leg has cost")
        larger, _ = await enlarged(self._session, watch)
        return larger

    async def _over(self, watch: Watch) -> Decision:
        """What is journaled to be over, looked at once more."""
        decision = await watch.decision()
        if decision.act not in {"ended", "left"}:
            raise self._session.unsettled("filled", decision.reason)
        return decision

    async def _or_says_why(self, watch: Watch, work: Awaitable[ClosedPosition]) -> ClosedPosition:
        """The outcome of *work*; if there is none, the reason is in the ledger, for whoever looks at the position."""
        try:
            return await work
        except CloseUnsettled as error:
            await self._begun((await self._session.standing()).version)
            await self._session.tell(self._ledger.unsettled, error.why, watch.trades)
            raise

    # filled → booked

    async def _end(self, watch: Watch, over: Decision) -> ClosedPosition:
        session, sweep = self._session, self._sweep
        for pause in (0.0, *pauses(session.exchange.settles_within)):
            if over.act == "left":
                await sweep.own()
                return await self._book(watch, over, await self._received(watch))
            await sweep.cancel()
            await session.wait(pause)
            funding = self._funding(watch)
            now, (listed, received) = await watch.glance(beside=(sweep.request, funding))
            # It began after the last cancel, and shows that nothing rests and nothing has come.
            if not await sweep.take(listed) and now.act == "ended":
                is_same = self._funding(watch)[1] == funding[1]
                return await self._book(watch, now, received if is_same else await self._received(watch))
            # The leg has to be flat after an order was listed, and before it is cancelled: somebody may enter
            # meanwhile. (test_a_position_entered_during_the_sweep_keeps_its_orders)
            over = await self._over(watch)
        what = f"orders still rest: {named(sweep.listed)}" if sweep.listed else "the leg is entered again and again"
        raise session.unsettled("filled", what)

    async def _received(self, watch: Watch) -> Decimal:
        method, args = self._funding(watch)
        received: Decimal = await self._session.ask(method, *args)
        return received

    def _funding(self, watch: Watch) -> Call:
        """The question for the funding from the tracking to the last exit."""
        since_ms = self._session.tracked.tracked_at_ms
        # A venue that rounds its times down may show the last fill before the tracking.
        until_ms = max(since_ms, watch.view(None).exits[-1].at_ms)
        return self._session.exchange.funding, (self._session.leg, since_ms, until_ms)

    async def _book(self, watch: Watch, over: Decision, funding: Decimal) -> ClosedPosition:
        session = self._session
        fills = watch.view(None).exits
        pnl = realized_pnl(session.tracked.position, fills, funding)
        closed = ClosedPosition(
            position_id=session.key.position_id,
            exit_price=pnl.exit_price,
            gross_pnl=pnl.gross,
            fees=pnl.fees,
            funding=pnl.funding,
            net_pnl=pnl.net,
            fills=fills,
            client_order_id=next((f.client_order_id for f in reversed(fills) if f.client_order_id in self._sent), None),
            token=session.token,
            closed_at=datetime.fromtimestamp(fills[-1].at_ms / 1000, UTC),
            ended_by=await self._ended_by(watch, fills[-1]),
            left_at_venue=over.left,
        )
        await session.tell(self._ledger.book, closed)
        return closed

    async def _ended_by(self, watch: Watch, last: Fill) -> str:
        """What took the last contract of the position, as `ClosedPosition.ended_by` names it."""
        if last.client_order_id in self._sent:
            return "close"
        if last.client_order_id in watch.strangers:
            return "another poslock"
        changes = (await self._session.standing()).changes
        kinds = {each.client_order_id: each.kind for each in changes if each.client_order_id}
        return kinds.get(last.client_order_id or "", "other")


def _is_changed(changes: Sequence[Change]) -> bool:
    """Whether a change is under way."""
    return any(each.step in {"intent", "sending"} for each in changes)
