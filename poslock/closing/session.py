"""What the machines have in common: asking the venue, and following one order to its end. Every wait is bounded.

An order that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every
process.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Context, Decimal
from math import ceil
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from poslock.closing.steps import Machine, Patience, ask_venue, pauses, stamp_now, tell_ledger, wait
from poslock.errors import ExchangeUnavailable, OrderRefused, OutcomeUnknown, PoslockError
from poslock.exchange.port import Exchange, Leg, Order, StopOrder
from poslock.ledger.journal import Change, CloseKey
from poslock.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from poslock.closing.steps import Stamp
    from poslock.position import Fill, TrackedPosition

P = ParamSpec("P")
T = TypeVar("T")

# Venues' own default windows are 5 s; with a shorter lease left, that is the limit.
_RECEIVE_WINDOW = 5.0
_READ_PAUSES = (0.1, 0.5, 2.0)


class Sent(Protocol):
    """An order as it was journaled before it was sent."""

    @property
    def client_order_id(self) -> str | None:
        """Its id at the venue."""

    @property
    def expires_at_ms(self) -> int:
        """When its latest request can no longer be taken, in venue time."""


class Talk:
    """Talking to the venue about one position. Subclasses say how an end that does not come is called."""

    def __init__(self, tracked: TrackedPosition, patience: Patience, *, token: int) -> None:
        self._tracked = tracked
        self._leg = Leg(tracked.position.symbol, tracked.position.side)
        self._key = CloseKey(tracked.position.id, tracked.generation)
        self._patience = patience
        self._token = token

    def _unsettled(self, step: str, why: str) -> PoslockError:
        raise NotImplementedError

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

    def _find(self, sent: Sent) -> Machine[Order | None]:
        """An order that may have been sent; None once the venue can no longer come to have it."""
        # A sent and died, or was stopped before it sent. B must not send before A's request can no longer be taken:
        # its receive window must be over, and the venue's time of denying what it has. If a clock went back, a window
        # still is what is left at most. (test_died_after_sending_before_the_request_left)
        stamp = yield from stamp_now()
        in_flight = min(_RECEIVE_WINDOW, max(0, sent.expires_at_ms - stamp.at_ms) / 1000)
        for pause in pauses(in_flight + self._patience.denies_for):
            order = yield from self._look_up(sent)
            if order is not None:
                return order
            yield from wait(pause)
        return (yield from self._look_up(sent))

    def _look_up(self, sent: Sent) -> Machine[Order | None]:
        """The order that this became; None if the venue says there is none, which it may say for a while."""
        if isinstance(sent, Change) and sent.trigger_price is not None:
            # Not before it was signed: an older one that is just like it is not this one, which may still come.
            signed_at_ms = sent.expires_at_ms - int(_RECEIVE_WINDOW * 1000)
            stop = self._stop_order(sent, signed_at_ms=signed_at_ms, receive_window_ms=0)
            return (yield from self._ask(Exchange.stop, stop))
        return (yield from self._ask(Exchange.order, self._leg, sent.client_order_id or ""))

    def _stop_order(self, change: Change, *, signed_at_ms: int, receive_window_ms: int) -> StopOrder:
        kind: Literal["stop_loss", "take_profit"] = "stop_loss" if change.kind == "stop_loss" else "take_profit"
        trigger, client_id = change.trigger_price or Decimal(0), change.client_order_id or ""
        return StopOrder(self._leg, kind, change.contracts, trigger, client_id, signed_at_ms, receive_window_ms)

    def _wait_for_end(self, order: Order) -> Machine[Order]:
        """The same order once nothing of it can be filled any more; cancelled if it takes too long."""
        client_id = order.client_order_id or ""
        for cancel in (True, False):
            for pause in pauses(self._patience.settles_within):
                if order.ended:
                    return order
                yield from wait(pause)
                order = (yield from self._ask(Exchange.order, self._leg, client_id)) or order
            if cancel and not order.ended:
                yield from self._cancel(order)
        if order.ended:
            return order
        raise self._unsettled("sending", f"order {order.order_id} is still open, with {order.filled} filled")

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

    def _own_stops(self, listed: Sequence[Order]) -> Machine[list[Order]]:
        """Exit orders that changes have placed, that still rest, and that are not among those *listed*."""
        placed: dict[object, Change] = {}
        for change in (yield from tell_ledger(Ledger.changes, self._key)):
            if change.trigger_price is not None and change.step in {"sending", "done"}:
                # The ones before were cancelled when this one was placed.
                placed[change.kind if change.step == "done" else change.number] = change
        client_ids, order_ids = {each.client_order_id for each in listed}, {each.order_id for each in listed}
        found = []
        for change in placed.values():
            if change.client_order_id not in client_ids:
                order = yield from self._look_up(change)
                if order is not None and not order.ended and order.order_id not in order_ids:
                    found.append(order)
        return found

    def _cancel(self, order: Order) -> Machine[None]:
        try:
            yield from ask_venue(Exchange.cancel, order)
        except (OrderRefused, OutcomeUnknown, ExchangeUnavailable):
            return  # filled or gone meanwhile, or not: the next read tells


def receive_window_ms(stamp: Stamp) -> int:
    """How long a request may travel that is signed as of *stamp*: less than the lease that was left then.

    A venue still takes it in the very millisecond in which its window ends, and a lease has ended in its last one.
    (test_a_request_does_not_share_a_millisecond_with_the_next_holder)
    """
    return min(int(_RECEIVE_WINDOW * 1000), max(0, ceil(stamp.lease_left * 1000) - 1))


def client_order_id(tracked: TrackedPosition, *what: object) -> str:
    """The id of an order about *tracked*: 32 lowercase letters and digits, the same in whichever process."""
    position = tracked.position
    # The time of tracking too: with a ledger that was put aside, generations start at 1 again.
    numbers = (tracked.generation, tracked.tracked_at_ms, *what)
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
