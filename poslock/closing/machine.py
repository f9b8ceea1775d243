"""The close, without I/O: a generator that yields what to ask or do and receives the answer.

    open → intent → sending → filled → swept → booked

Purpose: whatever happened before, and wherever the last closer died, running it once more under the lock ends in one
close, one booking and no order left; it only ever goes forward, because a venue cannot undo an accepted order.

Sequence: journal the intent; journal the order (`sending`, with the token) and only then send it; wait for its end;
what is left goes out as the next attempt under its own id; sweep until a read shows nothing; book.

Crash behaviour: each step is journaled before the next begins, so the next owner enters at the journaled step. An order
that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every process.

Not protected: a venue that takes a request after its receive window, or denies an order for longer than it says; a
size or a time of tracking that the venue's fills contradict (the close then stays unsettled, orders untouched).

Errors: `CloseUnsettled` when the venue does not come to an end in time; `OrderRefused` never leaves here raw. Every
wait and every retry is bounded.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from poslock.closing.steps import (
    LONGEST_PAUSE,
    Machine,
    Patience,
    ask_venue,
    pauses,
    stamp_now,
    tell_ledger,
    wait,
)
from poslock.errors import (
    CloseUnsettled,
    ExchangeUnavailable,
    NothingToReduce,
    OrderRefused,
    OutcomeUnknown,
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, Exchange, Leg, Order
from poslock.ledger.journal import Attempt, CloseKey
from poslock.ledger.ledger import Ledger
from poslock.pnl import realized_pnl
from poslock.position import ClosedPosition, Fill, TrackedPosition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
T = TypeVar("T")

# Venues' own default windows are 5 s; with a shorter lease left, that is the limit.
_RECEIVE_WINDOW = 5.0
_MOST_ORDERS = 100
_FRUITLESS_ORDERS = 3
_READ_PAUSES = (0.1, 0.5, 2.0)


class CloseMachine:
    """The close of one position by one owner of its lock; `steps` runs it from wherever the journal says."""

    def __init__(self, tracked: TrackedPosition, patience: Patience, *, token: int, reason: str) -> None:
        self._tracked = tracked
        self._leg = Leg(tracked.position.symbol, tracked.position.side)
        self._key = CloseKey(tracked.position.id, tracked.generation)
        self._patience = patience
        self._token = token
        self._reason = reason

    def steps(self) -> Machine[ClosedPosition]:
        """Go from the journaled step to the booking."""
        close = yield from tell_ledger(Ledger.close, self._key)
        step = close.step if close else "open"
        exits: tuple[Fill, ...] | None = None
        if step == "open":
            yield from tell_ledger(Ledger.begin, self._key, self._token, self._reason)
            step = "intent"
        if step in {"intent", "sending"}:
            exits = yield from self._flatten(close.attempts if close else ())
            yield from tell_ledger(Ledger.filled, self._key, self._token)
            step = "filled"
        if step == "filled":
            yield from self._sweep()
            yield from tell_ledger(Ledger.swept, self._key, self._token)
        return (yield from self._book(exits))

    # intent, sending → filled

    def _flatten(self, attempts: Sequence[Attempt]) -> Machine[tuple[Fill, ...]]:
        """Reduce the position until its fills prove that it is gone; those fills."""
        left = self._tracked.position.contracts - sum((a.filled or Decimal(0) for a in attempts), Decimal(0))
        attempt = attempts[-1] if attempts else None
        order = (yield from self._find(attempt)) if attempt else None
        fruitless = 0
        for _ in range(_MOST_ORDERS):
            if attempt is not None and order is not None:
                order = yield from self._wait_for_end(attempt, order)
                left -= order.filled
            held = (yield from self._ask(Exchange.held, self._leg)) if left > 0 else Decimal(0)
            if held == 0:
                exits, held = yield from self._proof("sending", only_while_flat=left > 0)
                if exits:
                    return exits
            if attempt is not None and (order is None or not order.filled):
                fruitless += 1
                if fruitless == _FRUITLESS_ORDERS:
                    break
                yield from wait(LONGEST_PAUSE)
            attempt, order = yield from self._send(attempt, order, min(left, held))
        raise self._unsettled("sending", f"{left} contracts were left after the last order")

    def _send(
        self, last: Attempt | None, ended: Order | None, contracts: Decimal
    ) -> Machine[tuple[Attempt, Order | None]]:
        """Journal an attempt, then send its order once; the order is None if the venue does not have it."""
        # An attempt of which the venue has no order goes out again under the same id; one that has ended is followed
        # by the next number. So no id ever stands for two orders.
        number = 1 if last is None else last.number if ended is None else last.number + 1
        stamp = yield from stamp_now()
        window_ms = int(min(_RECEIVE_WINDOW, stamp.lease_left) * 1000)
        client_id = client_order_id(self._tracked, number)
        attempt = Attempt(number, client_id, contracts, stamp.at_ms + window_ms)
        # Durable before the request leaves, and under the token: whoever lost the lock stops here, and whoever comes
        # next knows that an order may be out.
        yield from tell_ledger(Ledger.sending, self._key, self._token, attempt, ended.filled if ended else None)
        request = CloseOrder(self._leg, contracts, client_id, stamp.at_ms, window_ms)
        try:
            return attempt, (yield from ask_venue(Exchange.place, request))
        except (NothingToReduce, RequestExpired):
            # This request was not taken. An earlier one with the same id may have been, and may have closed it all.
            return attempt, (yield from self._ask(Exchange.order, self._leg, client_id))
        except OrderRefused as error:
            raise self._unsettled("sending", f"the venue refused the order: {error}") from error
        except (OutcomeUnknown, ExchangeUnavailable):
            return attempt, (yield from self._find(attempt))

    def _find(self, attempt: Attempt) -> Machine[Order | None]:
        """The order of an attempt that may have been sent; None once the venue can no longer come to have it."""
        # A sent and died, or was stopped before it sent. B must not send before A's request can no longer be taken:
        # its receive window must be over, and the venue's time of denying what it has. If a clock went back, a window
        # still is what is left at most. (test_died_after_sending_before_the_request_left)
        stamp = yield from stamp_now()
        in_flight = min(_RECEIVE_WINDOW, max(0, attempt.expires_at_ms - stamp.at_ms) / 1000)
        for pause in pauses(in_flight + self._patience.denies_for):
            order = yield from self._ask(Exchange.order, self._leg, attempt.client_order_id)
            if order is not None:
                return order
            yield from wait(pause)
        return (yield from self._ask(Exchange.order, self._leg, attempt.client_order_id))

    def _wait_for_end(self, attempt: Attempt, order: Order) -> Machine[Order]:
        """The same order once nothing of it can be filled any more; cancelled if it takes too long."""
        for cancel in (True, False):
            for pause in pauses(self._patience.settles_within):
                if order.ended:
                    return order
                yield from wait(pause)
                order = (yield from self._ask(Exchange.order, self._leg, attempt.client_order_id)) or order
            if cancel and not order.ended:
                yield from self._cancel(order)
        if order.ended:
            return order
        raise self._unsettled("sending", f"order {order.order_id} is still open, with {order.filled} filled")

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

    def _exits(self) -> Machine[tuple[tuple[Fill, ...], Decimal]]:
        """The fills that reduced this position so far, and the contracts that they do not explain yet."""
        since_ms = self._tracked.tracked_at_ms
        booked = yield from tell_ledger(Ledger.booked_trades, self._tracked.account, self._leg.symbol, since_ms)
        fills = yield from self._ask(Exchange.fills, self._leg, since_ms)
        # Whoever sent them: a stop-loss or the trader's own hand may have been faster. Oldest first, because what comes
        # after the end of this position belongs to the next one on this leg.
        exits: list[Fill] = []
        missing = self._tracked.position.contracts
        for fill in fills:
            if missing and fill.trade_id not in booked:
                exits.append(_part(fill, missing))
                missing -= exits[-1].contracts
        return tuple(exits), missing

    # filled → swept

    def _sweep(self) -> Machine[None]:
        """Cancel what rests until a read shows nothing; the reads decide, not the cancels."""
        orders: list[Order] = []
        for pause in (0.0, *pauses(self._patience.settles_within)):
            yield from wait(pause)
            orders = yield from self._ask(Exchange.open_orders, self._leg)
            if not orders:
                return
            yield from self._expect_flat()
            for order in orders:
                yield from self._cancel(order)
        raise self._unsettled("filled", f"orders still rest: {', '.join(order.order_id for order in orders)}")

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

    def _cancel(self, order: Order) -> Machine[None]:
        try:
            yield from ask_venue(Exchange.cancel, order)
        except (OrderRefused, OutcomeUnknown, ExchangeUnavailable):
            return  # filled or gone meanwhile, or not: the next read tells

    # swept → booked

    def _book(self, exits: tuple[Fill, ...] | None) -> Machine[ClosedPosition]:
        fills = exits or (yield from self._proof("swept", only_while_flat=False))[0]
        since_ms, until_ms = self._tracked.tracked_at_ms, fills[-1].at_ms
        funding = yield from self._ask(Exchange.funding, self._leg, since_ms, until_ms)
        close = yield from tell_ledger(Ledger.close, self._key)
        ours = {attempt.client_order_id for attempt in close.attempts} if close else set()
        pnl = realized_pnl(self._tracked.position, fills, funding)
        closed = ClosedPosition(
            position_id=self._key.position_id,
            exit_price=pnl.exit_price,
            gross_pnl=pnl.gross,
            fees=pnl.fees,
            funding=pnl.funding,
            net_pnl=pnl.net,
            fills=fills,
            client_order_id=next((f.client_order_id for f in reversed(fills) if f.client_order_id in ours), None),
            token=self._token,
            closed_at=datetime.fromtimestamp(until_ms / 1000, UTC),
        )
        yield from tell_ledger(Ledger.book, self._key, self._token, closed)
        return closed

    def _ask(self, method: Callable[Concatenate[Any, P], T], *args: P.args, **none: P.kwargs) -> Machine[T]:
        """Ask the venue; asking changes nothing, so a question that got no answer is put again, a few times."""
        for pause in _READ_PAUSES:
            try:
                return (yield from ask_venue(method, *args, **none))
            except ExchangeUnavailable:
                yield from wait(pause)
        try:
            return (yield from ask_venue(method, *args, **none))
        except ExchangeUnavailable as error:
            raise self._unsettled("venue", f"it does not answer: {error}") from error

    def _unsettled(self, step: str, why: str) -> CloseUnsettled:
        return CloseUnsettled(self._key.position_id, step, why)


def client_order_id(tracked: TrackedPosition, attempt: int) -> str:
    """The id of a close's order: 32 lowercase letters and digits, the same in whichever process."""
    position = tracked.position
    # The time of tracking too: with a ledger that was put aside, generations start at 1 again.
    numbers = (tracked.generation, tracked.tracked_at_ms, attempt)
    parts = (tracked.account, position.symbol, position.side, position.id, *map(str, numbers))
    # Length before text: no two different lists of parts run together into one.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return "pl" + hashlib.sha256(text.encode()).hexdigest()[:30]


def _part(fill: Fill, contracts: Decimal) -> Fill:
    """*fill*, or as much of it as *contracts*, with its share of the fee."""
    if fill.contracts <= contracts:
        return fill
    share = Context(prec=28).divide(fill.fee * contracts, fill.contracts)
    return replace(fill, contracts=contracts, fee=share)
