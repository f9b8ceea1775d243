"""Changing an open position: its stop-loss, its take-profits, its size.

Purpose: whatever happened before, and wherever the last one died, running it once more under the lock ends in one
stop-loss and the take-profits at the new prices, or at the old ones if the venue refused; never in none that nobody
asked for, never in both.

Sequence: journal all changes; for each journal its order and only then send it; when the new order rests, of a ladder
all of its rungs, and not before, cancel the other ones of its kind until a read shows none.

Crash behaviour: a change that was journaled is finished by the next owner who comes to modify, or by `recover`; a close
drops it. Until then the old orders rest, or the new ones, or both: reduce-only orders do not add up to more than the
position. The rungs of a ladder are done, or given up, in one commit.

Not protected: several stop-losses of one position on purpose; setting one replaces them all.

Errors: `InvalidChange` before anything is written; `ChangeRefused`, `ChangeUnsettled` for one change, after which the
later ones of the same call are dropped.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal, localcontext
from itertools import groupby
from typing import TYPE_CHECKING

from poslock.closing.leg import Watch
from poslock.closing.resting import Resting
from poslock.closing.session import LONGEST_PAUSE, Session, receive_window_ms
from poslock.closing.wanted import Passed, Seen, Wanted, following, too_much
from poslock.errors import (
    ChangeRefused,
    ExchangeUnavailable,
    InvalidChange,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    RequestExpired,
    StopWouldTrigger,
)
from poslock.exchange.port import CloseOrder, Order
from poslock.position import EXACT, on_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.closing.exits import Decision
    from poslock.ledger.journal import Change
    from poslock.ledger.ledger import Ledger
    from poslock.position import ModifiedPosition

_FRUITLESS_ORDERS = 3


class Changes:
    """The changes of one position by one owner of its lock."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._resting = Resting(session)
        session.change = "change"
        self._placed: dict[int, Order] = {}  # of the change under way, by its number; of a ladder, of each rung
        self._doubted: set[int] = set()  # changes with a request of which it was not known what became of it
        self._is_too_late = False  # whether the venue refused a stop-loss for the price, and nothing else
        self._is_put_off = False  # whether the venue has turned the last order away for rate, and nothing else

    @property
    def _ledger(self) -> Ledger:
        return self._session.means.ledger

    async def run(self, wanted: Wanted) -> ModifiedPosition | Passed:
        """Finish what was begun before, then make these changes; or say that the position is to be closed instead."""
        before = (await self._session.standing()).changes
        with suppress(ChangeRefused):  # that was said, or will be, to who asked for it; the audit trail has it
            await self.finish()
        await self._session.standing()
        seen = await self._seen(wanted, before)
        wanted = wanted.fitted(self._session.tracked, seen)
        wanted.check(self._session.tracked, seen)
        if why := wanted.passed(self._session.leg.side, seen.price):
            return await self._passed(wanted, seen, why)
        if wanted.prices:
            await self._expect_no_targets_of_others(wanted)
        if wanted.stop_loss is ... and seen.is_sure:
            with suppress(ChangeRefused):  # the old one stays, and nobody has asked for this one
                await self._follow(seen)
        begun = (await self._session.standing()).changes
        changes = wanted.changes(self._session.tracked, seen, first=len(begun) + 1)
        await self._session.tell(self._ledger.change, changes)
        self._is_too_late = False
        try:
            await self.finish(looked=True)
        except ChangeRefused as error:
            if wanted.or_close and self._is_too_late and not await self._resting.protecting(seen.left):
                return Passed(f"stop_loss {wanted.stop_loss} is passed: {error.why}")
            raise
        return await self._resting.outcome()

    async def finish(self, *, looked: bool = False) -> None:
        """Finish the changes that were begun; before the first one look, unless the leg was *looked* at just now."""
        await self._session.ask(self._session.exchange.prepare)
        begun = [each for each in (await self._session.standing()).changes if each.is_unfinished]
        for _, rungs in groupby(begun, key=lambda each: each.ladder or each.number):
            changes = [*rungs]
            self._session.change = changes[0].kind
            await self._make(changes, looked=looked)
            # Its requests took their time, and somebody may have closed the position by hand and entered again.
            # (test_a_position_that_ends_between_two_changes_gets_no_second_order)
            looked = False

    async def follow(self) -> None:
        """Have a stop-loss of ours that is larger than what is left follow that, at its price."""
        await self.finish()
        await self._session.standing()
        watch = await Watch.of(self._session)
        decision = await watch.decision()
        if _is_sure(decision):
            await self._follow(_seen(watch, decision))

    async def _follow(self, seen: Seen) -> None:
        session = self._session
        found = following(session.tracked, (await session.standing()).changes, seen)
        if found is None:
            return
        old, new = found
        orders = [await session.look_up(each) for each in old]
        rest = [each for each in orders if each is not None and each.state == "open"]
        with localcontext(EXACT):
            if sum(each.contracts - each.filled for each in rest) <= seen.left:
                return  # cancelled by hand, triggered, or cut down by the venue
        await session.tell(self._ledger.change, new)
        await self.finish(looked=True)

    async def _seen(self, wanted: Wanted, before: Sequence[Change]) -> Seen:
        """What is left of the position, and the price of the market if it matters.

        Raises:
            InvalidChange: nothing is left of it, or an earlier reduce was under way.
        """
        session = self._session
        if wanted.reduce_by is not None and any(each.kind == "reduce" and each.is_unfinished for each in before):
            # Who asks for the same again after a time-out would take off twice as much.
            # (test_a_reduce_that_is_asked_for_again_is_made_once)
            why = f"was not begun: an earlier reduce was under way and is finished now, {session.tracked.left} are left"
            raise self._invalid("reduce_by", wanted.reduce_by, why)
        watch = await Watch.of(session)
        decision = await watch.decision()
        symbol = session.leg.symbol
        if decision.act == "ended":
            raise self._invalid("symbol", symbol, "is flat at the venue; close_position books what closed it")
        if decision.act == "left":  # not of a position that was entered again after this one had gone
            raise self._invalid("symbol", symbol, "has been closed at the venue; close_position books it")
        seen = watch.view(watch.holding)
        # What is not explained may be protected all the same, but nothing is taken off it.
        if decision.act != "send" and (wanted.reduce_by is not None or not min(seen.held, seen.ours)):
            raise self._session.unsettled("look", decision.reason)
        price = await session.ask(session.exchange.price, session.leg) if wanted.needs_price else Decimal(0)
        # An exit order that is too large takes off what there is; one that is too small leaves contracts bare.
        return _seen(watch, decision, price)

    async def _passed(self, wanted: Wanted, seen: Seen, why: str) -> Passed:
        if not wanted.or_close:
            raise self._invalid("stop_loss", wanted.stop_loss, why)
        if (stop := await self._resting.protecting(seen.left)) is not None:
            raise self._invalid("stop_loss", wanted.stop_loss, f"{why}; the one at {stop.trigger_price} protects it")
        return Passed(f"stop_loss {wanted.stop_loss} is passed: the price is {seen.price}")

    async def _expect_no_targets_of_others(self, wanted: Wanted) -> None:
        # Somebody has set them one by one, and one order for all of it is something else. A single one is replaced.
        # (test_targets_that_somebody_else_has_set_are_not_replaced_silently)
        others = await self._resting.targets_of_others()
        if len(others) > 1:
            named = ", ".join(f"{each.order_id} at {each.trigger_price}" for each in others)
            why = (
                f"would replace {len(others)} take-profits that were set, but not by poslock: {named}; "
                "cancel them first, or remove all with take_profit=None"
            )
            raise self._invalid("take_profit", wanted.take_profit, why)

    async def _make(self, changes: Sequence[Change], *, looked: bool) -> None:
        """Make one change, or the rungs of one ladder, as far as it is not made yet."""
        session, first = self._session, changes[0]
        found = {each.number: await session.find(each) for each in changes if each.step == "sending"}
        self._placed = {number: order for number, order in found.items() if order is not None}
        is_reduced = first.kind == "reduce" and self._placed
        if not looked and not is_reduced and (why := await self._obstacle(first)):
            if not self._placed:
                await self._refuse(first, why)
            await self._end(*[replace(each, step="dropped") for each in changes])  # it goes with the position's others
            return
        if first.client_order_id is None:
            await self._resting.replace(changes, {})
            await self._end(replace(first, step="done"))
            return
        sent = [await self._sent(each) for each in changes]
        if first.kind == "reduce":
            order = await session.wait_for_end(self._placed[first.number])
            if not order.filled:
                await self._refuse(first, "it filled nothing of the order")
            await self._end(replace(sent[0], step="done", filled=order.filled))
            return
        await self._resting.replace(sent, self._placed)
        await self._end(*[replace(each, step="done") for each in sent])

    async def _obstacle(self, change: Change) -> str:
        """Why a change is not made that somebody has journaled and left; empty if it is."""
        # A journals a reduce and dies; the stop-loss takes the position, and somebody enters again. What is held by
        # then is not what A wanted to change. (test_a_reduce_that_was_left_is_not_made_of_a_later_position)
        watch = await Watch.of(self._session)
        decision = await watch.decision()
        if decision.act in {"ended", "left"}:
            return "the position has ended at the venue"
        seen = watch.view(watch.holding)
        if decision.act != "send" and (change.kind == "reduce" or not min(seen.held, seen.ours)):
            raise self._session.unsettled("look", decision.reason)
        if change.kind == "reduce":
            why = too_much(change.contracts, decision.contracts, _smallest(watch))
            return f"it {why}" if why else ""
        return ""

    async def _sent(self, change: Change) -> Change:
        """*change* as it is once the venue has its order, and keeps it."""
        fruitless, self._is_put_off = 0, False
        while change.number not in self._placed and fruitless < _FRUITLESS_ORDERS:
            # In a pause that the venue asks for the position may end, and somebody enter again.
            # (test_a_position_entered_during_a_storm_is_not_changed)
            if self._is_put_off and (why := await self._obstacle(change)):
                await self._refuse(change, why)
            self._is_put_off = False
            change = await self._send(change)
            fruitless += not self._is_put_off
        order = self._placed.get(change.number)
        if order is None:
            raise self._session.unsettled(
                "sending", f"sent {_FRUITLESS_ORDERS} times, and the venue does not have the order"
            )
        if order.state == "canceled" and change.kind != "reduce":
            del self._placed[change.number]
            await self._refuse(change, "it cancelled the order by itself")
        return change

    async def _send(self, change: Change) -> Change:
        """Journal that the order may be out, then send it once; it is not placed if the venue does not have it."""
        session, stamp = self._session, self._session.stamp()
        window_ms, client_id = receive_window_ms(stamp), change.client_order_id or ""
        # Durable before the request leaves, and under the token, as in a close.
        sending = replace(change, step="sending", expires_at_ms=stamp.at_ms + window_ms)
        await session.tell(self._ledger.sending_change, sending)
        order: Order | None
        try:
            if change.trigger_price is None:
                reduce = CloseOrder(session.leg, change.contracts, client_id, stamp.at_ms, window_ms)
                order = await session.venue(session.exchange.place, reduce)
            else:
                stop = session.stop_order(change, change.trigger_price, stamp.at_ms, window_ms)
                order = await session.venue(session.exchange.place_stop, stop)
        except RateLimited as error:  # as below
            self._is_put_off = True
            await session.wait_out(error)
            order = await session.look_up(sending)
        except (RequestExpired, NotServed):
            # This request was not taken. An earlier one with the same id may have been.
            order = await session.look_up(sending)
        except (NothingToReduce, OrderRefused) as error:
            order = await session.look_up(sending)
            if order is None:
                # An earlier request of which nothing was heard might still come to rest.
                # (test_any_other_refusal_closes_nothing)
                is_known = change.kind == "stop_loss" and change.number not in self._doubted
                self._is_too_late = is_known and isinstance(error, StopWouldTrigger)
                await self._refuse(change, str(error))
        except (OutcomeUnknown, ExchangeUnavailable):
            self._doubted.add(change.number)
            order = await session.find(sending)
        if order is not None:
            self._placed[change.number] = order
        elif not self._is_put_off:
            await session.wait(LONGEST_PAUSE)
        return sending

    async def _refuse(self, change: Change, why: str) -> None:
        """Give up what was begun, in one commit; the rungs of a ladder that rest stay beside the orders before it."""
        # What came after it in the same call is given up too: the caller learns of one refusal, and asks anew.
        begun = [each for each in (await self._session.standing()).changes if each.is_unfinished]
        steps = dict.fromkeys(self._placed, "done") | {change.number: "refused"}
        await self._end(*[replace(each, step=steps.get(each.number, "dropped")) for each in begun])  # type: ignore[arg-type]
        if change.ladder is not None and self._placed:
            rungs = sum(each.ladder == change.ladder for each in begun)
            why += f"; {len(self._placed)} of {rungs} rungs rest beside it until the next modify_position"
        raise ChangeRefused(self._session.tracked.position.id, change.kind, why)

    async def _end(self, *changes: Change) -> None:
        await self._session.tell(self._ledger.end_change, *changes)

    def _invalid(self, field: str, value: object, why: str) -> InvalidChange:
        return InvalidChange(self._session.tracked.position.id, field, value, why)


def _smallest(watch: Watch) -> Decimal:
    """The fewest contracts that an order can close."""
    return watch.holding.smallest if watch.holding else Decimal(0)


def _seen(watch: Watch, decision: Decision, price: Decimal = Decimal(0)) -> Seen:
    """What was seen of a leg, of which what is left is cut down to what orders can be for."""
    left, is_sure, held = watch.view(watch.holding).ours, _is_sure(decision), watch.holding
    if held is None:
        return Seen(left, decision.contracts, Decimal(0), price, is_sure)
    # Of a crumb the venue says itself that no order can be for it.
    left = on_step(left, held.step) or left
    return Seen(left, decision.contracts, held.smallest, price, is_sure, held.step, held.tick, held.largest)


def _is_sure(decision: Decision) -> bool:
    """Whether what is left is known: the holding and the trades agree."""
    return (decision.act, decision.row) == ("send", 3)
