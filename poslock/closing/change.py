"""Changing an open position, without I/O: its stop-loss, its take-profit, its size.

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
from typing import TYPE_CHECKING, Literal

from poslock.closing.session import Talk, client_order_id, receive_window_ms
from poslock.closing.steps import LONGEST_PAUSE, Machine, Patience, ask_venue, pauses, stamp_now, tell_ledger, wait
from poslock.errors import (
    ChangeRefused,
    ChangeUnsettled,
    ExchangeUnavailable,
    InvalidChange,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, Exchange, Order
from poslock.ledger.journal import Change
from poslock.ledger.ledger import Ledger
from poslock.position import ModifiedPosition, TrackedPosition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import EllipsisType

    from poslock.ledger.journal import Kind
    from poslock.position import Side

_FRUITLESS_ORDERS = 3


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


class ModifyMachine(Talk):
    """The changes of one position by one owner of its lock."""

    def __init__(self, tracked: TrackedPosition, patience: Patience, *, token: int) -> None:
        super().__init__(tracked, patience, token=token)
        self._kind: Kind | Literal["change"] = "change"

    def steps(self, wanted: Wanted) -> Machine[ModifiedPosition]:
        """Finish what was begun before, then make these changes."""
        before = yield from tell_ledger(Ledger.changes, self._key)
        with suppress(ChangeRefused):  # that was said, or will be, to who asked for it; the audit trail has it
            yield from self.finish()
        begun = yield from tell_ledger(Ledger.changes, self._key)
        reduced = sum((change.filled or Decimal(0) for change in begun), Decimal(0))
        self._tracked = replace(self._tracked, reduced=reduced)
        yield from self._check(wanted, before)
        changes = self._changes(wanted, first=len(begun) + 1)
        yield from tell_ledger(Ledger.change, self._key, self._token, changes)
        yield from self.finish()
        return (yield from self._outcome())

    def finish(self) -> Machine[None]:
        """Finish the changes that were begun."""
        yield from self._ask(Exchange.prepare)
        for change in (yield from tell_ledger(Ledger.changes, self._key)):
            if change.is_unfinished:
                self._kind = change.kind
                yield from self._make(change)

    def _check(self, wanted: Wanted, before: Sequence[Change]) -> Machine[None]:
        if wanted.reduce_by is not None and any(each.kind == "reduce" and each.is_unfinished for each in before):
            # Who asks for the same again after a time-out would take off twice as much.
            # (test_a_reduce_that_is_asked_for_again_is_made_once)
            why = f"was not begun: an earlier reduce was under way and is finished now, {self._tracked.left} are left"
            raise self._invalid("reduce_by", wanted.reduce_by, why)
        held = yield from self._ask(Exchange.held, self._leg)
        if held == 0:
            raise self._invalid("symbol", self._leg.symbol, "is flat at the venue; close_position books what closed it")
        # Not of a position that was opened again after this one had gone.
        _, missing = yield from self._exits()
        if not missing:
            raise self._invalid("symbol", self._leg.symbol, "has been closed at the venue; close_position books it")
        left = min(held, self._tracked.left, missing)
        if wanted.reduce_by is not None and wanted.reduce_by >= left:
            why = f"is not below the {left} contracts left; close_position takes off all"
            raise self._invalid("reduce_by", wanted.reduce_by, why)
        price = (yield from self._ask(Exchange.price, self._leg)) if wanted.prices() else Decimal(0)
        for kind, wish in wanted.prices():
            if wish is not None and (wish == price or (wish > price) is not is_above(kind, self._leg.side)):
                where = "above" if is_above(kind, self._leg.side) else "below"
                raise self._invalid(kind, wish, f"must be {where} the price of {price} for a {self._leg.side} position")

    def _changes(self, wanted: Wanted, *, first: int) -> tuple[Change, ...]:
        # For all that is left, although a reduce may follow: that may be refused, or filled in part. An exit order that
        # is too large takes off what there is; one that is too small leaves contracts bare.
        left = self._tracked.left
        asked: list[tuple[Kind, Decimal, Decimal | None]] = [(kind, left, price) for kind, price in wanted.prices()]
        if wanted.reduce_by is not None:
            asked.append(("reduce", wanted.reduce_by, None))
        return tuple(
            Change(number, kind, contracts, price, self._client_id(kind, price, number))
            for number, (kind, contracts, price) in enumerate(asked, start=first)
        )

    def _client_id(self, kind: Kind, price: Decimal | None, number: int) -> str | None:
        return None if price is None and kind != "reduce" else client_order_id(self._tracked, "change", number)

    def _make(self, change: Change) -> Machine[None]:
        if change.client_order_id is None:
            yield from self._cancel_others(change, None)
            yield from self._end(change)
            return
        order = (yield from self._find(change)) if change.step == "sending" else None
        for _ in range(_FRUITLESS_ORDERS):
            if order is not None:
                break
            change, order = yield from self._send(change)
        if order is None:
            raise self._unsettled("sending", f"sent {_FRUITLESS_ORDERS} times, and the venue does not have the order")
        if change.kind == "reduce":
            order = yield from self._wait_for_end(order)
            if not order.filled:
                yield from self._refuse(change, "it filled nothing of the order")
            yield from self._end(change, order.filled)
            return
        if order.state == "canceled":
            yield from self._refuse(change, "it cancelled the order by itself")
        yield from self._cancel_others(change, order)
        yield from self._end(change)

    def _send(self, change: Change) -> Machine[tuple[Change, Order | None]]:
        """Journal that the order may be out, then send it once; the order is None if the venue does not have it."""
        stamp = yield from stamp_now()
        window_ms, client_id = receive_window_ms(stamp), change.client_order_id or ""
        # Durable before the request leaves, and under the token, as in a close.
        sending = replace(change, step="sending", expires_at_ms=stamp.at_ms + window_ms)
        yield from tell_ledger(Ledger.sending_change, self._key, self._token, sending)
        try:
            if change.trigger_price is None:
                reduce = CloseOrder(self._leg, change.contracts, client_id, stamp.at_ms, window_ms)
                return sending, (yield from ask_venue(Exchange.place, reduce))
            stop = self._stop_order(change, signed_at_ms=stamp.at_ms, receive_window_ms=window_ms)
            return sending, (yield from ask_venue(Exchange.place_stop, stop))
        except (RequestExpired, NotServed):
            # This request was not taken. An earlier one with the same id may have been.
            order = yield from self._look_up(sending)
        except (NothingToReduce, OrderRefused) as error:
            order = yield from self._look_up(sending)
            if order is None:
                yield from self._refuse(change, str(error))
        except (OutcomeUnknown, ExchangeUnavailable):
            order = yield from self._find(sending)
        if order is None:
            yield from wait(LONGEST_PAUSE)
        return sending, order

    def _cancel_others(self, change: Change, new: Order | None) -> Machine[None]:
        """Cancel every order of this kind but *new*, until a read shows none; the reads decide, not the cancels."""
        others: list[Order] = []
        for pause in (0.0, *pauses(self._patience.settles_within)):
            yield from wait(pause)
            resting = yield from self._ask(Exchange.open_orders, self._leg)
            same = [*resting, *(yield from self._own_stops(resting))]
            others = [each for each in same if each.family == self._kind and not _is_same(each, new)]
            if not others:
                return
            # A new one that cannot be seen protects nobody yet.
            is_seen = new is None or any(_is_same(each, new) for each in resting)
            if is_seen or (yield from self._has_triggered(change)):
                for order in others:
                    yield from self._cancel(order)
        raise self._unsettled("sending", f"orders still rest: {', '.join(order.order_id for order in others)}")

    def _has_triggered(self, change: Change) -> Machine[bool]:
        now = yield from self._look_up(change)
        return now is not None and now.state == "filled"

    def _refuse(self, change: Change, why: str) -> Machine[None]:
        # What came after it in the same call is given up too: the caller learns of one refusal, and asks anew.
        for each in (yield from tell_ledger(Ledger.changes, self._key)):
            if each.is_unfinished and each.number != change.number:
                yield from tell_ledger(Ledger.end_change, self._key, self._token, replace(each, step="dropped"))
        refused = replace(change, step="refused")
        yield from tell_ledger(Ledger.end_change, self._key, self._token, refused)
        raise ChangeRefused(self._tracked.position.id, change.kind, why)

    def _end(self, change: Change, filled: Decimal | None = None) -> Machine[None]:
        ended = replace(change, step="done", filled=filled)
        yield from tell_ledger(Ledger.end_change, self._key, self._token, ended)

    def _outcome(self) -> Machine[ModifiedPosition]:
        resting = yield from self._ask(Exchange.open_orders, self._leg)
        prices = {order.family: order.trigger_price for order in resting}
        contracts = yield from self._ask(Exchange.held, self._leg)
        stop_loss, take_profit = prices.get("stop_loss"), prices.get("take_profit")
        return ModifiedPosition(self._tracked.position.id, stop_loss, take_profit, contracts, self._token)

    def _invalid(self, field: str, value: object, why: str) -> InvalidChange:
        return InvalidChange(self._tracked.position.id, field, value, why)

    def _unsettled(self, step: str, why: str) -> ChangeUnsettled:
        return ChangeUnsettled(self._tracked.position.id, self._kind, f"step {step}: {why}")


def _is_same(order: Order, other: Order | None) -> bool:
    return other is not None and order.order_id == other.order_id


def is_above(kind: Kind, side: Side) -> bool:
    """Whether an order of this kind has to be above the price."""
    return (kind == "take_profit") == (side == "long")
