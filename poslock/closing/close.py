"""The close of a position, under its lock.

    open → intent → sending → filled → booked

Purpose: whatever happened before, and wherever the last closer died, running it once more under the lock ends in one
close, one booking and no order left; it only ever goes forward, because a venue cannot undo an accepted order.

Sequence: journal the intent; look at the leg; journal the order (`sending`, with the token) and only then send it; wait
for its end; look again, and what is left goes out as the next attempt under its own id; when the table says that the
position is over, journal that (`filled`), sweep, look once more, book. A bot with order code of its own sends in the
middle, between `announce` and `finish`.

Crash behaviour: each step is journaled before the next begins, so the next owner enters at the journaled step. An order
that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every process.

Not protected: a venue that takes a request after its receive window, or denies an order for longer than it says.

Errors: `CloseUnsettled` when the venue does not explain what became of the position; its reason is in the ledger.
`OrderRefused` never leaves here raw. Every wait and every retry is bounded.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.closing.exits import Reads, decide
from poslock.closing.leg import Sweep, Watch, enlarged
from poslock.closing.session import LONGEST_PAUSE, Session, client_order_id, receive_window_ms
from poslock.errors import (
    CloseUnsettled,
    ExchangeUnavailable,
    InvalidPosition,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, Sending
from poslock.ledger.journal import Attempt
from poslock.pnl import realized_pnl
from poslock.position import EXACT, ClosedPosition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from poslock.closing.exits import Decision
    from poslock.exchange.port import Order
    from poslock.ledger.journal import Close as Journal
    from poslock.position import Fill, Position

_MOST_ORDERS = 100
_FRUITLESS_ORDERS = 3
_MOST_SWEEPS = 5


class Close:
    """The close of one position by one owner of its lock; `run` goes on from wherever the journal says."""

    def __init__(self, session: Session, *, reason: str, whole: bool = False) -> None:
        self._session = session
        self._ledger = session.means.ledger
        self._reason = reason
        self._whole = whole
        self._refusal = ""
        self._is_put_off = False  # whether the venue has turned the last order away for rate, and nothing else
        self._sent: set[str] = set()
        session.change = ""  # whatever change led to this

    async def run(self) -> ClosedPosition:
        """Go from the journaled step to the booking."""
        session = self._session
        journal = await session.read(self._ledger.close)
        if journal is None:
            await self.begin()
        watch = await Watch.of(session)
        return await self._or_says_why(watch, self._run(watch, journal))

    async def _run(self, watch: Watch, journal: Journal | None) -> ClosedPosition:
        session, sweep = self._session, Sweep(self._session)
        await session.ask(session.exchange.prepare)
        if journal is None or journal.step != "filled":
            await sweep.resolve_reduces(watch)
            over = await self._flatten(watch, journal)
            await session.tell(self._ledger.filled, watch.trades, watch.late)
        else:
            await self._resolve(watch, journal)
            over = await self._over(watch)
        return await self._end(watch, sweep, over)

    async def look(self) -> Decision:
        """What follows for a close that was begun, with nothing sent; the reason is in the ledger if it cannot end."""
        session = self._session
        watch = await Watch.of(session)
        await Sweep(session).resolve_reduces(watch)
        await self._resolve(watch, await session.read(self._ledger.close))
        decision = await watch.decision()
        if decision.act == "unsettled":
            await session.tell(self._ledger.unsettled, decision.reason, watch.trades)
        return decision

    async def end(self, watch: Watch, over: Decision) -> ClosedPosition:
        """Book a position that has ended by itself, as the table has just said of an open one."""
        await self.begin()
        await self._session.tell(self._ledger.filled, watch.trades, watch.late)
        return await self._or_says_why(watch, self._end(watch, Sweep(self._session), over))

    # The same in pieces, for a bot that sends the order itself.

    async def begin(self) -> None:
        """From here on the position is closing."""
        session = self._session
        await session.tell(self._ledger.begin, self._reason)
        # A write of the last owner that came late is in there now, or refused from here on.
        # (test_a_late_growth_of_the_position_is_closed_too)
        await session.reload()

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
        await session.tell(self._ledger.sending, attempt, None)
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
        session, sweep = self._session, Sweep(self._session)
        await sweep.resolve_reduces(watch)
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
        await session.tell(self._ledger.filled, watch.trades, watch.late)
        return await self._end(watch, sweep, over)

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

    # intent, sending → filled

    async def _flatten(self, watch: Watch, journal: Journal | None) -> Decision:
        """Close what the leg shows of the position until the table says that it is over."""
        attempt, order = await self._resolve(watch, journal)
        fruitless = sent = 0
        while True:
            decision = await watch.decision(whole=self._whole, first=attempt is None)
            if decision.act in {"ended", "left"}:
                return decision
            if decision.act != "send":
                raise self._session.unsettled("sending", decision.reason + self._refusal)
            # What the last owner sent in vain does not count: two of ours may be needed to make room for the third.
            # (test_a_close_that_the_resting_orders_block)
            if sent and (order is None or not order.filled) and not self._is_put_off:
                fruitless += 1
                if fruitless == _FRUITLESS_ORDERS:
                    break
                await self._session.wait(LONGEST_PAUSE)
            if sent == _MOST_ORDERS:
                break
            attempt, order = await self._send(watch, attempt, order, decision)
            sent += 1
        why = f"{decision.contracts} contracts were left after the last order{self._refusal}"
        raise self._session.unsettled("sending", why)

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

    async def _send(
        self, watch: Watch, last: Attempt | None, ended: Order | None, decision: Decision
    ) -> tuple[Attempt, Order | None]:
        """Journal an attempt, then send its order once; the order is None if the venue does not have it."""
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
        # Durable before the request leaves, and under the token: whoever lost the lock stops here, and whoever comes
        # next knows that an order may be out.
        await session.tell(self._ledger.sending, attempt, ended.filled if ended else None, watch.trades, larger)
        if larger is not None:
            await session.reload()
        order = CloseOrder(
            session.leg, decision.contracts, client_id, stamp.at_ms, window_ms, watch.tracked.position_id
        )
        session.log(f"sends {client_id} for {decision.contracts} contracts", step="send")
        return attempt, await self._ended(watch, await self._placed(order, attempt))

    async def _placed(self, request: CloseOrder, attempt: Attempt) -> Order | None:
        session, self._is_put_off = self._session, False
        try:
            order: Order | None = await session.venue(session.exchange.place, request)
        except RateLimited as error:
            # Turned away unseen. Nor can an earlier request with the same id still be taken: those of which nothing was
            # heard were waited for. The leg may be another one after the pause: it is looked at before the next order.
            # (test_an_order_that_is_turned_away_is_not_asked_after, test_a_position_entered_during_a_storm_is_left)
            self._refusal, self._is_put_off = f": {error}", True
            await session.wait_out(error)
            return None
        except (NothingToReduce, RequestExpired, NotServed) as error:
            # This request was not taken. An earlier one with the same id may have been, and may have closed it all.
            self._refusal = f": {error}"
            return await session.look_up(attempt)
        except ReduceOnlyBlocked as error:
            # Only for this reason are protective orders given up before the position is gone.
            self._refusal = f": {error}"
            session.aside = await Sweep(session).make_room(request.contracts) or session.aside
            return await session.look_up(attempt)
        except OrderRefused as error:
            raise session.unsettled("sending", f"the venue refused the order: {error}") from error
        except (OutcomeUnknown, ExchangeUnavailable):
            return await session.find(attempt)
        return order

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
            await self._session.tell(self._ledger.unsettled, error.why, watch.trades)
            raise

    # filled → booked

    async def _end(self, watch: Watch, sweep: Sweep, over: Decision) -> ClosedPosition:
        for _ in range(_MOST_SWEEPS):
            if over.act == "left":
                await sweep.own()
                break
            # The leg has to be flat before an order is cancelled, and again after it: somebody may enter meanwhile.
            # (test_a_position_entered_during_the_sweep_keeps_its_orders)
            if await sweep.everything(watch) == "clean":
                break
            over = await self._over(watch)
        else:
            raise self._session.unsettled("filled", "the leg is entered and left again while its orders are swept")
        return await self._book(watch, over)

    async def _book(self, watch: Watch, over: Decision) -> ClosedPosition:
        session = self._session
        fills = watch.view(None).exits
        since_ms, until_ms = session.tracked.tracked_at_ms, fills[-1].at_ms
        # A venue that rounds its times down may show the last fill before the tracking.
        last_ms = max(since_ms, until_ms)
        funding = await session.ask(session.exchange.funding, session.leg, since_ms, last_ms)
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
            closed_at=datetime.fromtimestamp(until_ms / 1000, UTC),
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
        changes = await self._session.read(self._ledger.changes)
        kinds = {each.client_order_id: each.kind for each in changes if each.client_order_id}
        return kinds.get(last.client_order_id or "", "other")
