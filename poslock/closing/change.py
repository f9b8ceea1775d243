"""Changing an open position: its stop-loss, its take-profit, its size.

Purpose: whatever happened before, and wherever the last one died, running it once more under the lock ends in one
stop-loss and one take-profit at the new price, or at the old one if the venue refused; never in none that nobody asked
for, never in two.

Sequence: journal all changes; for each journal its order and only then send it; when the new order rests, and not
before, cancel the other ones of its kind until a read shows none.

Crash behaviour: a change that was journaled is finished by the next owner who comes to modify, or by `recover`; a close
drops it. Until then the old order rests, or the new one, or both: reduce-only orders do not add up to more than the
position.

Not protected: several stop-losses or take-profits of one position on purpose; setting one replaces them all.

Errors: `InvalidChange` before anything is written; `ChangeRefused`, `ChangeUnsettled` for one change, after which the
later ones of the same call are dropped.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from poslock.closing.exits import decide
from poslock.closing.session import LONGEST_PAUSE, Session, client_order_id, pauses, receive_window_ms
from poslock.closing.watch import Watch
from poslock.errors import (
    ChangeRefused,
    ExchangeUnavailable,
    InvalidChange,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, Order
from poslock.ledger.journal import Change
from poslock.position import ModifiedPosition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType

    from poslock.ledger.journal import Kind
    from poslock.position import Side

_FRUITLESS_ORDERS = 3
# The rows of the table in which what is held is the tracked position.
_OF_THE_POSITION = frozenset({3, 4})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be changed: prices, None to remove, ``...`` to leave it; contracts to take off, None for none."""

    stop_loss: Decimal | EllipsisType | None
    take_profit: Decimal | EllipsisType | None
    reduce_by: Decimal | None

    def prices(self) -> list[tuple[Kind, Decimal | None]]:
        """The prices to set or remove."""
        both: list[tuple[Kind, Decimal | EllipsisType | None]] = [
            ("stop_loss", self.stop_loss),
            ("take_profit", self.take_profit),
        ]
        return [(kind, price) for kind, price in both if price is None or isinstance(price, Decimal)]


class Changes:
    """The changes of one position by one owner of its lock."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ledger = session.means.ledger
        session.change = "change"

    async def run(self, wanted: Wanted) -> ModifiedPosition:
        """Finish what was begun before, then make these changes."""
        before = await self._session.read(self._ledger.changes)
        with suppress(ChangeRefused):  # that was said, or will be, to who asked for it; the audit trail has it
            await self.finish()
        await self._session.reload()
        left, price = await self._left(wanted, before)
        self._check_prices(wanted, price)
        begun = await self._session.read(self._ledger.changes)
        await self._session.tell(self._ledger.change, self._changes(wanted, left, first=len(begun) + 1))
        await self.finish(looked=True)
        return await self._outcome()

    async def finish(self, *, looked: bool = False) -> None:
        """Finish the changes that were begun; unless the leg was *looked* at just now, look first."""
        await self._session.ask(self._session.exchange.prepare)
        for change in await self._session.read(self._ledger.changes):
            if change.is_unfinished:
                self._session.change = change.kind
                await self._make(change, looked=looked)

    async def _left(self, wanted: Wanted, before: Sequence[Change]) -> tuple[Decimal, Decimal]:
        """The contracts of the position that are held, and the price of the market if it matters.

        Raises:
            InvalidChange: nothing is left of it, or the wanted reduce leaves nothing.
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
        if wanted.reduce_by is not None and wanted.reduce_by >= decision.contracts:
            why = f"is not below the {decision.contracts} contracts left; close_position takes off all"
            raise self._invalid("reduce_by", wanted.reduce_by, why)
        price = await session.ask(session.exchange.price, session.leg) if wanted.prices() else Decimal(0)
        # An exit order that is too large takes off what there is; one that is too small leaves contracts bare.
        return seen.ours, price

    def _check_prices(self, wanted: Wanted, price: Decimal) -> None:
        side = self._session.leg.side
        for kind, wish in wanted.prices():
            if wish is not None and (wish == price or (wish > price) is not is_above(kind, side)):
                where = "above" if is_above(kind, side) else "below"
                raise self._invalid(kind, wish, f"must be {where} the price of {price} for a {side} position")

    def _changes(self, wanted: Wanted, left: Decimal, *, first: int) -> tuple[Change, ...]:
        # For all that is left, although a reduce may follow: that may be refused, or filled in part.
        asked: list[tuple[Kind, Decimal, Decimal | None]] = [(kind, left, price) for kind, price in wanted.prices()]
        if wanted.reduce_by is not None:
            asked.append(("reduce", wanted.reduce_by, None))
        return tuple(
            Change(number, kind, contracts, price, self._client_id(kind, price, number))
            for number, (kind, contracts, price) in enumerate(asked, start=first)
        )

    def _client_id(self, kind: Kind, price: Decimal | None, number: int) -> str | None:
        return None if price is None and kind != "reduce" else client_order_id(self._session.tracked, "change", number)

    async def _make(self, change: Change, *, looked: bool) -> None:
        order = (await self._session.find(change)) if change.step == "sending" else None
        is_reduced = change.kind == "reduce" and order is not None
        if not looked and not is_reduced and (why := await self._obstacle(change)):
            if order is None:
                await self._refuse(change, why)
            await self._end(change)  # it goes with the other orders of the position
            return
        if change.client_order_id is None:
            await self._cancel_others(change, None)
            await self._end(change)
            return
        for _ in range(_FRUITLESS_ORDERS):
            if order is not None:
                break
            change, order = await self._send(change)
        if order is None:
            raise self._session.unsettled(
                "sending", f"sent {_FRUITLESS_ORDERS} times, and the venue does not have the order"
            )
        if change.kind == "reduce":
            order = await self._session.wait_for_end(order)
            if not order.filled:
                await self._refuse(change, "it filled nothing of the order")
            await self._end(change, order.filled)
            return
        if order.state == "canceled":
            await self._refuse(change, "it cancelled the order by itself")
        await self._cancel_others(change, order)
        await self._end(change)

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
        if change.kind == "reduce" and change.contracts >= decision.contracts:
            return f"it is not below the {decision.contracts} contracts left"
        return ""

    async def _send(self, change: Change) -> tuple[Change, Order | None]:
        """Journal that the order may be out, then send it once; the order is None if the venue does not have it."""
        stamp = self._session.stamp()
        window_ms, client_id = receive_window_ms(stamp), change.client_order_id or ""
        # Durable before the request leaves, and under the token, as in a close.
        sending = replace(change, step="sending", expires_at_ms=stamp.at_ms + window_ms)
        await self._session.tell(self._ledger.sending_change, sending)
        try:
            if change.trigger_price is None:
                reduce = CloseOrder(self._session.leg, change.contracts, client_id, stamp.at_ms, window_ms)
                return sending, (await self._session.venue(self._session.exchange.place, reduce))
            stop = self._session.stop_order(change, change.trigger_price, stamp.at_ms, window_ms)
            return sending, (await self._session.venue(self._session.exchange.place_stop, stop))
        except (RequestExpired, NotServed):
            # This request was not taken. An earlier one with the same id may have been.
            order = await self._session.look_up(sending)
        except (NothingToReduce, OrderRefused) as error:
            order = await self._session.look_up(sending)
            if order is None:
                await self._refuse(change, str(error))
        except (OutcomeUnknown, ExchangeUnavailable):
            order = await self._session.find(sending)
        if order is None:
            await self._session.wait(LONGEST_PAUSE)
        return sending, order

    async def _cancel_others(self, change: Change, new: Order | None) -> None:
        """Cancel the orders of this kind but *new*, until a read shows none; the reads decide, not the cancels.

        Where more is held than the position, or another one, only ours: the others may protect that.
        """
        session, others = self._session, list[Order]()
        watch = await Watch.of(session)
        reads = await watch.look()
        is_all_ours = reads.holding is None or (
            reads.held <= watch.view(reads.holding).ours
            and not session.exchange.spot
            and decide(watch.tracked, reads).row in _OF_THE_POSITION
        )
        for pause in (0.0, *pauses(session.exchange.settles_within)):
            await session.wait(pause)
            resting = await session.ask(session.exchange.open_orders, session.leg)
            ours = await session.own_stops(resting)
            same = [each for each in ([*resting, *ours] if is_all_ours else ours) if each.family == change.kind]
            others = [*{each.order_id: each for each in same if not _is_same(each, new)}.values()]
            if not others:
                return
            # A new one that cannot be seen protects nobody yet.
            is_seen = new is None or any(_is_same(each, new) for each in resting)
            if is_seen or (await self._has_triggered(change)):
                for order in others:
                    await self._session.cancel(order)
        raise self._session.unsettled("sending", f"orders still rest: {', '.join(order.order_id for order in others)}")

    async def _has_triggered(self, change: Change) -> bool:
        now = await self._session.look_up(change)
        return now is not None and now.state == "filled"

    async def _refuse(self, change: Change, why: str) -> None:
        # What came after it in the same call is given up too: the caller learns of one refusal, and asks anew.
        for each in await self._session.read(self._ledger.changes):
            if each.is_unfinished and each.number != change.number:
                await self._session.tell(self._ledger.end_change, replace(each, step="dropped"))
        refused = replace(change, step="refused")
        await self._session.tell(self._ledger.end_change, refused)
        raise ChangeRefused(self._session.tracked.position.id, change.kind, why)

    async def _end(self, change: Change, filled: Decimal | None = None) -> None:
        ended = replace(change, step="done", filled=filled)
        await self._session.tell(self._ledger.end_change, ended)

    async def _outcome(self) -> ModifiedPosition:
        session = self._session
        await session.reload()
        watch = await Watch.of(session)
        reads = await watch.look()
        resting = await session.ask(session.exchange.open_orders, session.leg)
        prices = {order.family: order.trigger_price for order in resting}
        stop_loss, take_profit = prices.get("stop_loss"), prices.get("take_profit")
        left = watch.view(reads.holding).ours
        return ModifiedPosition(session.key.position_id, stop_loss, take_profit, left, session.token)

    def _invalid(self, field: str, value: object, why: str) -> InvalidChange:
        return InvalidChange(self._session.tracked.position.id, field, value, why)


def _is_same(order: Order, other: Order | None) -> bool:
    return other is not None and order.order_id == other.order_id


def is_above(kind: Kind, side: Side) -> bool:
    """Whether an order of this kind has to be above the price."""
    return (kind == "take_profit") == (side == "long")
