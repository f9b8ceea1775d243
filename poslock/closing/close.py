"""The close, without I/O: a generator that yields what to ask or do and receives the answer.

    open → intent → sending → filled → booked

Purpose: whatever happened before, and wherever the last closer died, running it once more under the lock ends in one
close, one booking and no order left; it only ever goes forward, because a venue cannot undo an accepted order.

Sequence: journal the intent; journal the order (`sending`, with the token) and only then send it; wait for its end;
what is left goes out as the next attempt under its own id; sweep until a read shows nothing; book. A bot with order
code of its own sends in the middle, between `announce` and `finish`.

Crash behaviour: each step is journaled before the next begins, so the next owner enters at the journaled step. An order
that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every process.

Not protected: a venue that takes a request after its receive window, or denies an order for longer than it says; a
size or a time of tracking that the venue's fills contradict (the close then stays unsettled, orders untouched).

Errors: `CloseUnsettled` when the venue does not come to an end in time; `OrderRefused` never leaves here raw. Every
wait and every retry is bounded.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from poslock.closing.session import Talk, client_order_id, receive_window_ms
from poslock.closing.steps import LONGEST_PAUSE, Machine, Patience, ask_venue, pauses, stamp_now, tell_ledger, wait
from poslock.errors import (
    CloseUnsettled,
    ExchangeUnavailable,
    InvalidPosition,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    ReduceOnlyBlocked,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, Exchange, Order, Sending
from poslock.ledger.journal import Attempt
from poslock.ledger.ledger import Ledger
from poslock.pnl import realized_pnl
from poslock.position import ClosedPosition, Fill, TrackedPosition

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_ORDERS = 100
_FRUITLESS_ORDERS = 3


class CloseMachine(Talk):
    """The close of one position by one owner of its lock; `steps` runs it from wherever the journal says."""

    def __init__(self, tracked: TrackedPosition, patience: Patience, *, token: int, reason: str) -> None:
        super().__init__(tracked, patience, token=token)
        self._reason = reason
        self._bare = ""
        self._refusal = ""
        self._sent: set[str] = set()
        self._was_changed = False

    def steps(self) -> Machine[ClosedPosition]:
        """Go from the journaled step to the booking."""
        close = yield from tell_ledger(Ledger.close, self._key)
        step = close.step if close else "open"
        self._sent.update(attempt.client_order_id for attempt in (close.attempts if close else ()))
        exits: tuple[Fill, ...] | None = None
        if step == "open":
            yield from self.begin()
        else:
            yield from self._ask(Exchange.prepare)
        if step != "filled":
            exits = yield from self._flatten(close.attempts if close else ())
            yield from tell_ledger(Ledger.filled, self._key, self._token)
        yield from self._drop_changes()
        yield from self._sweep()
        return (yield from self._book(exits))

    # The same in pieces, for a bot that sends the order itself.

    def begin(self) -> Machine[None]:
        """From here on the position is closing."""
        yield from tell_ledger(Ledger.begin, self._key, self._token, self._reason)
        # A write of the last owner that came late is in there now, or refused from here on.
        # (test_a_late_growth_of_the_position_is_closed_too)
        self._tracked = (yield from tell_ledger(Ledger.find, self._key.position_id)) or self._tracked
        yield from self._ask(Exchange.prepare)

    def announce(self) -> Machine[Sending]:
        """Journal that the bot's order may be out from now on."""
        stamp = yield from stamp_now()
        close = yield from tell_ledger(Ledger.close, self._key)
        filled = sum((each.filled or Decimal(0) for each in close.attempts), Decimal(0)) if close else Decimal(0)
        sending = Sending(stamp.at_ms, receive_window_ms(stamp))
        client_id, expires_at_ms = client_order_id(self._tracked, 1), sending.signed_at_ms + sending.receive_window_ms
        attempt = Attempt(1, client_id, self._tracked.left - filled, expires_at_ms)
        self._sent.add(client_id)
        yield from tell_ledger(Ledger.sending, self._key, self._token, attempt, None)
        return sending

    def finish(self, fills: Sequence[Fill]) -> Machine[ClosedPosition]:
        """Book the exits of the position after a sweep; *fills* are what the bot believes its order did.

        Raises:
            InvalidPosition: they are not what is left of the position, or the venue holds some of it still.
        """
        yield from self._expect_new(fills)
        reduced = yield from self._drop_changes()
        total, left = sum((fill.contracts for fill in fills), Decimal(0)), self._tracked.position.contracts - reduced
        if total != left:
            raise InvalidPosition("fills", total, f"contracts in all; {left} are left to close")
        # What is booked, and that nothing is left, is the venue's to say.
        exits, held = yield from self._proof("sending", only_while_flat=True)
        if not exits:
            raise InvalidPosition("fills", total, f"contracts in all, but the venue still holds {held}")
        yield from tell_ledger(Ledger.filled, self._key, self._token)
        yield from self._sweep()
        return (yield from self._book(exits))

    def _expect_new(self, fills: Sequence[Fill]) -> Machine[None]:
        """Raise `InvalidPosition` if a fill is there twice, or is booked already."""
        trades = {fill.trade_id for fill in fills}
        since_ms = min((fill.at_ms for fill in fills), default=0)
        booked = yield from tell_ledger(Ledger.booked_trades, self._tracked.account, self._leg.symbol, since_ms)
        if len(trades) < len(fills) or trades & booked:
            raise InvalidPosition("fills", sorted(fill.trade_id for fill in fills), "must be new, and each there once")

    # intent, sending → filled

    def _flatten(self, attempts: Sequence[Attempt]) -> Machine[tuple[Fill, ...]]:
        """Reduce the position until its fills prove that it is gone; those fills."""
        left = self._tracked.left - sum((a.filled or Decimal(0) for a in attempts), Decimal(0))
        attempt = attempts[-1] if attempts else None
        order = (yield from self._find(attempt)) if attempt else None
        fruitless = 0
        for sent in range(_MOST_ORDERS):
            if attempt is not None and order is not None:
                order = yield from self._wait_for_end(order)
                left -= order.filled
            held = (yield from self._ask(Exchange.held, self._leg)) if left > 0 else Decimal(0)
            if held == 0:
                exits, held = yield from self._proof("sending", only_while_flat=left > 0)
                if exits:
                    return exits
            # What the last owner sent in vain does not count: two of ours may be needed to make room for the third.
            # (test_a_close_that_the_resting_orders_block)
            if sent and (order is None or not order.filled):
                fruitless += 1
                if fruitless == _FRUITLESS_ORDERS:
                    break
                yield from wait(LONGEST_PAUSE)
            # What is held may be more: opened again after a stop-loss had taken this position.
            # (test_a_position_opened_again_after_the_stop_is_not_closed)
            exits, missing = yield from self._exits()
            if not missing:
                return exits
            attempt, order = yield from self._send(attempt, order, min(left, held, missing))
        raise self._unsettled("sending", f"{left} contracts were left after the last order{self._refusal}")

    def _send(
        self, last: Attempt | None, ended: Order | None, contracts: Decimal
    ) -> Machine[tuple[Attempt, Order | None]]:
        """Journal an attempt, then send its order once; the order is None if the venue does not have it."""
        # An attempt of which the venue has no order goes out again under the same id; one that has ended is followed
        # by the next number. So no id ever stands for two orders.
        number = 1 if last is None else last.number if ended is None else last.number + 1
        stamp = yield from stamp_now()
        window_ms = receive_window_ms(stamp)
        client_id = client_order_id(self._tracked, number)
        attempt = Attempt(number, client_id, contracts, stamp.at_ms + window_ms)
        self._sent.add(client_id)
        # Durable before the request leaves, and under the token: whoever lost the lock stops here, and whoever comes
        # next knows that an order may be out.
        yield from tell_ledger(Ledger.sending, self._key, self._token, attempt, ended.filled if ended else None)
        request = CloseOrder(self._leg, contracts, client_id, stamp.at_ms, window_ms)
        try:
            return attempt, (yield from ask_venue(Exchange.place, request))
        except (NothingToReduce, RequestExpired, NotServed) as error:
            # This request was not taken. An earlier one with the same id may have been, and may have closed it all.
            self._refusal = f": {error}"
            return attempt, (yield from self._ask(Exchange.order, self._leg, client_id))
        except ReduceOnlyBlocked:
            # Only for this reason are protective orders given up before the position is gone.
            yield from self._make_room()
            return attempt, (yield from self._ask(Exchange.order, self._leg, client_id))
        except OrderRefused as error:
            raise self._unsettled("sending", f"the venue refused the order: {error}") from error
        except (OutcomeUnknown, ExchangeUnavailable):
            return attempt, (yield from self._find(attempt))

    def _proof(self, step: str, *, only_while_flat: bool) -> Machine[tuple[tuple[Fill, ...], Decimal]]:
        """The fills that took this position from its size to nothing; or none, and what the venue holds after all.

        "Nothing held" and "nothing to reduce" are not believed without them: they are what an order and its
        protective orders are given up for.
        """
        missing = Decimal(0)
        for pause in pauses(self._patience.settles_within):
            exits, missing = yield from self._exits()
            if not missing:
                return exits, Decimal(0)
            yield from wait(pause)
            if only_while_flat and (held := (yield from self._ask(Exchange.held, self._leg))) > 0:
                return (), held
        raise self._unsettled(step, f"the venue holds nothing of it, but shows no fills for {missing} contracts")

    # filled, before the booking

    def _sweep(self) -> Machine[None]:
        """Cancel what rests until a read shows nothing; the reads decide, not the cancels."""
        orders: list[Order] = []
        for pause in (0.0, *pauses(self._patience.settles_within)):
            yield from wait(pause)
            # By their ids too: a venue that denies a new order for a while denies it in its list.
            # (test_a_stop_that_the_venue_does_not_list_yet_is_not_left_over)
            listed = yield from self._ask(Exchange.open_orders, self._leg)
            orders = [*listed, *((yield from self._own_stops(listed)) if self._was_changed else ())]
            if not orders:
                return
            yield from self._expect_flat()
            for order in orders:
                yield from self._cancel(order)
        raise self._unsettled("filled", f"orders still rest: {', '.join(order.order_id for order in orders)}")

    def _make_room(self) -> Machine[None]:
        """Cancel resting orders that cover the whole position, a stop-loss only if no other is left."""
        resting = yield from self._ask(Exchange.open_orders, self._leg)
        others = [order for order in resting if order.family != "stop_loss"]
        if resting and not others:
            self._bare = "; its stop-loss was cancelled for that, protect it"
        for order in others or resting:
            yield from self._cancel(order)

    def _expect_flat(self) -> Machine[None]:
        # More than was tracked, or opened again since: the orders that rest may protect that.
        held = Decimal(0)
        for pause in (0.0, *pauses(self._patience.settles_within)):
            yield from wait(pause)
            held = yield from self._ask(Exchange.held, self._leg)
            if held == 0:
                return
        why = f"it is closed, but the venue holds {held} more contracts on that side; their orders are left alone"
        raise self._unsettled("filled", f"{why}, close them first")

    def _drop_changes(self) -> Machine[Decimal]:
        """Wait until no request of a change can be taken any more; the contracts that reduces have taken off."""
        # A modify died with its request under way: were it taken after the sweep, it would be left over.
        # (test_a_change_under_way_when_its_owner_died_is_not_left_over)
        reduced = self._tracked.reduced
        changes = yield from tell_ledger(Ledger.changes, self._key)
        self._was_changed = bool(changes)
        for change in changes:
            if change.step == "sending":
                order = yield from self._find(change)
                if order is not None and change.kind == "reduce":
                    reduced += (yield from self._wait_for_end(order)).filled
                elif order is not None:
                    yield from self._cancel(order)
        return reduced

    # filled → booked

    def _book(self, exits: tuple[Fill, ...] | None) -> Machine[ClosedPosition]:
        fills = exits or (yield from self._proof("filled", only_while_flat=False))[0]
        since_ms, until_ms = self._tracked.tracked_at_ms, fills[-1].at_ms
        funding = yield from self._ask(Exchange.funding, self._leg, since_ms, until_ms)
        pnl = realized_pnl(self._tracked.position, fills, funding)
        closed = ClosedPosition(
            position_id=self._key.position_id,
            exit_price=pnl.exit_price,
            gross_pnl=pnl.gross,
            fees=pnl.fees,
            funding=pnl.funding,
            net_pnl=pnl.net,
            fills=fills,
            client_order_id=next((f.client_order_id for f in reversed(fills) if f.client_order_id in self._sent), None),
            token=self._token,
            closed_at=datetime.fromtimestamp(until_ms / 1000, UTC),
        )
        yield from tell_ledger(Ledger.book, self._key, self._token, closed)
        return closed

    def _unsettled(self, step: str, why: str) -> CloseUnsettled:
        return CloseUnsettled(self._key.position_id, step, why + self._bare)
