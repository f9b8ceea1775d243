"""The close, without I/O: a generator that yields what to ask or do and receives the answer.

    open → intent → sending → filled → swept → booked

Purpose: whatever happened before, and wherever the last closer died, running it once more under the lock ends in one
close, one booking and no order left; it only ever goes forward, because a venue cannot undo an accepted order.

Sequence: journal the intent; journal the order (`sending`, with the token) and only then send it; wait for its end;
what is left goes out as the next attempt under its own id; sweep until a read shows nothing; book.

Crash behaviour: each step is journaled before the next begins, so the next owner enters at the journaled step. An order
that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every process.

Not protected: a venue that takes a request after its receive window, or denies an order for longer than it says.

Errors: `CloseUnsettled` when the venue does not come to an end in time; `OrderRefused` never leaves here raw. Every
wait and every retry is bounded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

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
    from collections.abc import Callable, Generator, Iterator, Sequence

P = ParamSpec("P")
T = TypeVar("T")

# Venues' own default windows are 5 s; with a shorter lease left, that is the limit.
_RECEIVE_WINDOW = 5.0
_MOST_ORDERS = 100
_READ_PAUSES = (0.1, 0.5, 2.0)
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a method of the venue or the ledger with its arguments, or a word to the driver."""

    port: Literal["venue", "ledger", "driver"]
    method: str
    args: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Stamp:
    """The last lease check: when it was, in venue time, and how many seconds the lease had left then."""

    at_ms: int
    lease_left: float


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the venue, in seconds; as in the port."""

    denies_for: float
    settles_within: float


Machine: TypeAlias = "Generator[Step, Any, T]"


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
        close = yield from _ledger(Ledger.close, self._key)
        step = close.step if close else "open"
        if step == "open":
            yield from _ledger(Ledger.begin, self._key, self._token, self._reason)
            step = "intent"
        if step in {"intent", "sending"}:
            yield from self._flatten(close.attempts if close else ())
            yield from _ledger(Ledger.filled, self._key, self._token)
            step = "filled"
        if step == "filled":
            yield from self._sweep()
            yield from _ledger(Ledger.swept, self._key, self._token)
        return (yield from self._book())

    # intent, sending → filled

    def _flatten(self, attempts: Sequence[Attempt]) -> Machine[None]:
        """Reduce the position until the venue holds nothing of it."""
        left = self._tracked.position.contracts - sum((a.filled or Decimal(0) for a in attempts), Decimal(0))
        attempt = attempts[-1] if attempts else None
        order = (yield from self._find(attempt)) if attempt else None
        fruitless = _pauses(self._patience.settles_within)
        for _ in range(_MOST_ORDERS):
            if order is not None:
                order = yield from self._wait_for_end(order)
                left -= order.filled
            if left <= 0 or (held := (yield from self._still_held())) == 0:
                return
            if attempt is not None and (order is None or not order.filled):
                if (pause := next(fruitless, None)) is None:
                    break
                yield from _wait(pause)
            attempt, order = yield from self._send(attempt, order, min(left, held))
        raise self._unsettled("sending", f"{left} contracts are left, and the venue fills no more")

    def _send(
        self, last: Attempt | None, ended: Order | None, contracts: Decimal
    ) -> Machine[tuple[Attempt, Order | None]]:
        """Journal an attempt, then send its order once; the order is None if the venue does not have it."""
        # An attempt of which the venue has no order goes out again under the same id; one that has ended is followed
        # by the next number. So no id ever stands for two orders.
        number = 1 if last is None else last.number if ended is None else last.number + 1
        stamp = yield from _stamp()
        window_ms = int(min(_RECEIVE_WINDOW, stamp.lease_left) * 1000)
        client_id = client_order_id(self._tracked, number)
        attempt = Attempt(number, client_id, contracts, stamp.at_ms + window_ms)
        # Durable before the request leaves, and under the token: whoever lost the lock stops here, and whoever comes
        # next knows that an order may be out.
        yield from _ledger(Ledger.sending, self._key, self._token, attempt, ended.filled if ended else None)
        request = CloseOrder(self._leg, contracts, client_id, stamp.at_ms, window_ms)
        try:
            return attempt, (yield from _venue(Exchange.place, request))
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
        # its receive window must be over, and the venue's time of denying what it has. (test_died_after_sending)
        stamp = yield from _stamp()
        in_flight = max(0, attempt.expires_at_ms - stamp.at_ms) / 1000
        for pause in _pauses(in_flight + self._patience.denies_for):
            order = yield from self._ask(Exchange.order, self._leg, attempt.client_order_id)
            if order is not None:
                return order
            yield from _wait(pause)
        return (yield from self._ask(Exchange.order, self._leg, attempt.client_order_id))

    def _wait_for_end(self, order: Order) -> Machine[Order]:
        """The same order once nothing of it can be filled any more."""
        client_id = order.client_order_id or ""
        for pause in _pauses(self._patience.settles_within):
            if order.ended:
                return order
            yield from _wait(pause)
            order = (yield from self._ask(Exchange.order, self._leg, client_id)) or order
        if order.ended:
            return order
        raise self._unsettled("sending", f"order {client_id} is still open with {order.filled} filled")

    def _still_held(self) -> Machine[Decimal]:
        """Contracts still held; 0 only when the fills confirm it or the venue has stood by it for a while."""
        held = yield from self._ask(Exchange.held, self._leg)
        for pause in _pauses(self._patience.settles_within):
            if held or (yield from self._exits()) is not None:
                break
            yield from _wait(pause)
            held = yield from self._ask(Exchange.held, self._leg)
        return held

    # filled → swept

    def _sweep(self) -> Machine[None]:
        """Cancel what rests until a read shows nothing; the reads decide, not the cancels."""
        orders: list[Order] = []
        for pause in _pauses(self._patience.settles_within):
            orders = yield from self._ask(Exchange.open_orders, self._leg)
            if not orders:
                return
            for order in orders:
                yield from self._cancel(order)
            yield from _wait(pause)
        raise self._unsettled("filled", f"orders still rest: {', '.join(o.order_id for o in orders)}")

    def _cancel(self, order: Order) -> Machine[None]:
        try:
            yield from _venue(Exchange.cancel, order)
        except (OrderRefused, OutcomeUnknown, ExchangeUnavailable):
            return  # filled or gone meanwhile, or not: the next read tells

    # swept → booked

    def _book(self) -> Machine[ClosedPosition]:
        for pause in _pauses(self._patience.settles_within):
            fills = yield from self._exits()
            if fills is not None:
                break
            yield from _wait(pause)
        else:
            raise self._unsettled("swept", "the venue shows no fills that add up to the position")
        funding = yield from self._ask(Exchange.funding, self._leg, self._tracked.tracked_at_ms)
        close = yield from _ledger(Ledger.close, self._key)
        closed = self._closed(fills, funding, close.attempts if close else ())
        yield from _ledger(Ledger.book, self._key, self._token, closed)
        return closed

    def _exits(self) -> Machine[tuple[Fill, ...] | None]:
        """The fills that took this position from its size to nothing; None while they do not add up."""
        since_ms = self._tracked.tracked_at_ms
        booked = yield from _ledger(Ledger.booked_trades, self._tracked.account, self._leg.symbol, since_ms)
        fills = yield from self._ask(Exchange.fills, self._leg, since_ms)
        # Whoever sent them: a stop-loss or the trader's own hand may have been faster. Oldest first, because a fill
        # after the end of this position belongs to the next one on this leg.
        exits: list[Fill] = []
        left = self._tracked.position.contracts
        for fill in fills:
            if left > 0 and fill.trade_id not in booked:
                exits.append(fill)
                left -= fill.contracts
        return tuple(exits) if left == 0 else None

    def _closed(self, fills: tuple[Fill, ...], funding: Decimal, attempts: Sequence[Attempt]) -> ClosedPosition:
        pnl = realized_pnl(self._tracked.position, fills, funding)
        ours = {attempt.client_order_id for attempt in attempts}
        return ClosedPosition(
            position_id=self._key.position_id,
            exit_price=pnl.exit_price,
            gross_pnl=pnl.gross,
            fees=pnl.fees,
            funding=pnl.funding,
            net_pnl=pnl.net,
            fills=fills,
            client_order_id=next((f.client_order_id for f in reversed(fills) if f.client_order_id in ours), None),
            token=self._token,
            closed_at=datetime.fromtimestamp(fills[-1].at_ms / 1000, UTC),
        )

    def _ask(self, method: Callable[Concatenate[Any, P], T], *args: P.args, **none: P.kwargs) -> Machine[T]:
        """Ask the venue; asking changes nothing, so a question that got no answer is put again, a few times."""
        for pause in _READ_PAUSES:
            try:
                return (yield from _venue(method, *args, **none))
            except ExchangeUnavailable:
                yield from _wait(pause)
        try:
            return (yield from _venue(method, *args, **none))
        except ExchangeUnavailable as error:
            raise self._unsettled("venue", f"it does not answer: {error}") from error

    def _unsettled(self, step: str, why: str) -> CloseUnsettled:
        return CloseUnsettled(self._key.position_id, step, why)


def client_order_id(tracked: TrackedPosition, attempt: int) -> str:
    """The id of a close's order: 32 lowercase letters and digits, the same in whichever process."""
    position = tracked.position
    parts = (tracked.account, position.symbol, position.side, position.id, str(tracked.generation), str(attempt))
    # Length before text: no two different lists of parts run together into one.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return "pl" + hashlib.sha256(text.encode()).hexdigest()[:30]


def _venue(method: Callable[Concatenate[Any, P], T], *args: P.args, **_none: P.kwargs) -> Machine[T]:
    answer: T = yield Step("venue", method.__name__, args)
    return answer


def _ledger(method: Callable[Concatenate[Any, P], T], *args: P.args, **_none: P.kwargs) -> Machine[T]:
    answer: T = yield Step("ledger", method.__name__, args)
    return answer


def _stamp() -> Machine[Stamp]:
    stamp: Stamp = yield Step("driver", "stamp")
    return stamp


def _wait(seconds: float) -> Machine[None]:
    if seconds > 0:
        yield Step("driver", "wait", (seconds,))


def _pauses(total: float) -> Iterator[float]:
    """Growing pauses that add up to *total* seconds; one at least."""
    pause = _FIRST_PAUSE
    while True:
        yield min(pause, total)
        total -= pause
        if total <= 0:
            return
        pause = min(2 * pause, _LONGEST_PAUSE)
