"""One position under its lock: asking the venue, telling the ledger, and following one order to its end.

Purpose: nothing is asked, told or sent without a look at the lock, and every wait is bounded. The lease is renewed
between two calls, never during one: a venue call that hangs must lose the lock.

An order that may have been sent is asked for by its client order id, never sent blindly; its id is the same in every
process.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from poslock.errors import (
    ChangeUnsettled,
    CloseUnsettled,
    ExchangeError,
    ExchangeUnavailable,
    OrderRefused,
    OutcomeUnknown,
    PoslockError,
    RateLimited,
    quoted,
)
from poslock.exchange.port import Leg, Order, StopOrder, hurried
from poslock.ledger.journal import Change, CloseKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from decimal import Decimal

    from poslock.bridge import Call, Ports
    from poslock.exchange.port import AsyncExchange, CloseOrder, Exchange
    from poslock.ledger.journal import Kind, Standing
    from poslock.ledger.ledger import Ledger
    from poslock.position import TrackedPosition

T = TypeVar("T")

_log = logging.getLogger("poslock.guard")

# Venues' own default windows are 5 s; with a shorter lease left, that is the limit.
_RECEIVE_WINDOW = 5.0
READ_PAUSES = (0.1, 0.5, 2.0)
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0


class Hold(Protocol):
    """The lock as a session needs it; each raises `LockLost` once it is lost."""

    @property
    def remaining(self) -> float:
        """Seconds until the lease runs out."""

    def check(self) -> None:
        """Return only if the lock is held."""

    def renew(self) -> None:
        """Start the lease anew."""


class Sent(Protocol):
    """An order as it was journaled before it was sent."""

    @property
    def client_order_id(self) -> str | None:
        """Its id at the venue."""

    @property
    def expires_at_ms(self) -> int:
        """When its latest request can no longer be taken, in venue time."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The last lease check: when it was, in venue time, and how many seconds the lease had left then."""

    at_ms: int
    lease_left: float


@dataclass(frozen=True, slots=True)
class Means:
    """What all positions of a guard have in common. ``lease`` and ``timeout`` are seconds; None for no limit."""

    ports: Ports
    exchange: Exchange | AsyncExchange
    ledger: Ledger
    lease: float
    timeout: float | None

    @property
    def longest_look(self) -> float:
        """For how many seconds a leg that keeps changing is looked at, and a venue that asks for time is waited for."""
        settles_within = self.exchange.settles_within
        return 100 * settles_within if self.timeout is None else max(self.timeout, settles_within)


class Patience:
    """How many *seconds* are left in which a venue may ask for time."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def pause(self, error: RateLimited) -> float | None:
        """For how long to wait before asking again; None if that would be longer than anybody waits."""
        # An adapter of somebody's own may say 0, and would be asked for ever.
        seconds = LONGEST_PAUSE if error.retry_after is None else max(error.retry_after, READ_PAUSES[0])
        if seconds > self._left:
            return None
        self._left -= seconds
        return seconds


class Session:
    """What one holder of a position's lock does about it.

    ``change`` is the kind of change that is under way, empty in a close. ``aside`` is to be said of any end that does
    not come. ``hurries`` as long as a closing order waits for what is asked. ``side_by_side`` says that the exchange is
    a `poslock.exchange.port.SideBySide`, ``cancels_unlisted`` that it is a `poslock.exchange.port.CancelsUnlisted`.
    """

    def __init__(self, means: Means, hold: Hold, standing: Standing, token: int) -> None:
        self.means = means
        self.tracked = standing.position
        self.token = token
        self.change = ""
        self.aside = ""
        self.hurries = False
        # By name: isinstance does not see what an exchange that stands for another one passes on.
        self.side_by_side = getattr(means.exchange, "side_by_side", False) is True
        self.cancels_unlisted = getattr(means.exchange, "cancels_unlisted", False) is True
        self.exchange: Any = means.exchange  # for threads or for tasks: `Ports.venue` knows what to do with either
        self._standing: Standing | None = standing
        self._hold = hold
        self._patience = Patience(means.longest_look)
        self._shown: set[int] = set()  # the changes whose orders the venue has shown, and does not deny any more
        # Those that its list has shown, or whose cancel it has taken: what is not in a later list does not rest.
        self._listed: set[int] = set()

    @property
    def leg(self) -> Leg:
        """Where the position is."""
        return Leg(self.tracked.position.symbol, self.tracked.position.side)

    @property
    def key(self) -> CloseKey:
        """The position and its generation."""
        return CloseKey(self.tracked.position.id, self.tracked.generation)

    def keep(self) -> None:
        """Be sure of the lock before each step, and renew the lease when half of it is gone."""
        if self._hold.remaining < self.means.lease / 2:
            self._hold.renew()
        else:
            self._hold.check()

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        """The answer of a method of the exchange, asked once."""
        self.keep()
        was = hurried.set(self.hurries)
        try:
            return await self.means.ports.venue(method, *args)
        finally:
            hurried.reset(was)

    async def ask(self, method: Callable[..., Any], *args: object) -> Any:
        """The answer of the venue. Asking changes nothing, so what got no answer is asked again, a few times.

        A venue that asks for time is waited for, as `wait_out` says.
        """
        return await self.again((method, args), await self._tried(method, args))

    async def ask_together(self, *calls: Call, hurries: bool = False) -> list[Any]:
        """As `ask`, several at once where the exchange lets them be asked side by side, else one after the other."""
        self.hurries = hurries
        try:
            answers = await self.try_together(*calls)
        finally:
            self.hurries = False
        return [await self.again(call, answer) for call, answer in zip(calls, answers, strict=True)]

    async def try_together(self, *calls: Call, spare: float | None = None) -> list[Any]:
        """As `ask_together`, but only the first is asked again: for the answer of another, the error that it was.

        Where they are asked side by side, they are waited for *spare* seconds longer than the first.
        """
        first, *others = calls
        if not self.side_by_side:
            method, args = first
            return [await self.ask(method, *args), *[await self._tried(*each) for each in others]]
        self.keep()
        was = hurried.set(self.hurries)
        try:
            answers = await self.means.ports.together(calls, spare)
        finally:
            hurried.reset(was)
        for each in answers:
            if isinstance(each, PoslockError) and not isinstance(each, ExchangeError):
                raise each
        return [await self.again(first, answers[0]), *answers[1:]]

    async def send_together(self, requests: Sequence[CloseOrder]) -> list[Any]:
        """Have several orders out at once, each sent once; the order of each, or the error in its place.

        They are those of several positions, each of whose locks the caller has just checked.
        """
        was = hurried.set(True)
        try:
            return await self.means.ports.together([(self.exchange.place, (each,)) for each in requests], None)
        finally:
            hurried.reset(was)

    async def again(self, call: Call, answer: Any) -> Any:
        """*answer*; if it is an error that may pass, *call* is asked again, as `ask` does."""
        method, args = call
        pauses_left = iter(READ_PAUSES)
        while isinstance(answer, ExchangeUnavailable):
            if isinstance(answer, RateLimited):
                await self.wait_out(answer)
            elif (pause := next(pauses_left, None)) is not None:
                await self.wait(pause)
            else:
                raise self.unsettled("venue", f"it does not answer: {answer}") from answer
            answer = await self._tried(method, args)
        return answer

    async def wait_out(self, error: RateLimited) -> None:
        """Leave the venue alone for as long as it has asked for, holding the lock.

        Raises:
            CloseUnsettled, ChangeUnsettled: all such waits of this session would be longer than the guard's time-out.
        """
        pause = self._patience.pause(error)
        if pause is None:
            wanted = "" if error.retry_after is None else f"; it wants to be left alone for {error.retry_after:.0f} s"
            raise self.unsettled("venue", f"it does not answer: {error}{wanted}", error.retry_after) from error
        self.log(f"waits for {pause} s: {error}", step="venue")
        await self.wait(pause)

    async def read(self, method: Callable[..., T], *args: object) -> T:
        """What the ledger says of this position to one of its methods that take its key."""
        return await self._ledger(method, self.key, *args)

    async def tell(self, method: Callable[..., T], *args: object) -> T:
        """Write into the ledger by one of its methods that take the key and the token."""
        self.forget_standing()
        answer = await self._ledger(method, self.key, self.token, *args)
        self.log(f"ledger: {method.__name__}", step=method.__name__)
        return answer

    async def standing(self) -> Standing:
        """What the ledger has of the position; read anew after each write of ours."""
        if self._standing is None:
            self._standing = await self.read(self.means.ledger.standing)
            self.tracked = self._standing.position
        return self._standing

    def forget_standing(self) -> None:
        """Have it read anew."""
        self._standing = None

    def stamp(self) -> Stamp:
        """Check the lock, and say when that was."""
        # The clock first: if we are stopped in between, the request gets older, not the lease longer.
        at_ms = self.exchange.time_ms()
        self.keep()
        return Stamp(at_ms, self._hold.remaining)

    async def wait(self, seconds: float) -> None:
        """Let so many seconds pass, holding the lock: in slices, so that a long wait does not lose it."""
        while seconds > 0:
            self.keep()
            await self.means.ports.sleep(min(seconds, self.means.lease / 4))
            seconds -= self.means.lease / 4

    def log(self, what: str, *, step: str, level: int = logging.DEBUG) -> None:
        """A line about this position; nothing is formatted unless somebody listens."""
        if _log.isEnabledFor(level):
            fields = {"position": self.key.position_id, "token": self.token, "pid": os.getpid(), "step": step}
            _log.log(level, "position %s: %s", quoted(self.key.position_id), what, extra=fields)

    def unsettled(self, step: str, why: str, retry_after: float | None = None) -> PoslockError:
        """The error for an end that does not come."""
        position_id, why = self.key.position_id, why + self.aside
        if self.change:
            return ChangeUnsettled(position_id, self.change, f"step {step}: {why}", retry_after=retry_after)
        return CloseUnsettled(position_id, step, why, retry_after=retry_after)

    # Orders.

    async def find(self, sent: Sent) -> Order | None:
        """An order that may have been sent; None once the venue can no longer come to have it."""
        # A sent and died, or was stopped before it sent. B must not send before A's request can no longer be taken:
        # its receive window must be over, and the venue's time of denying what it has. If a clock went back, a window
        # still is what is left at most. (test_died_after_sending_before_the_request_left)
        return await self._found_within(sent, self.in_flight(sent, self.stamp()) + self.exchange.denies_for)

    def in_flight(self, sent: Sent, stamp: Stamp) -> float:
        """For how many seconds its request may still be taken."""
        return min(_RECEIVE_WINDOW, max(0, sent.expires_at_ms - stamp.at_ms) / 1000)

    async def look_up(self, sent: Sent) -> Order | None:
        """The order that this became; None if the venue says there is none, which it may say for a while."""
        if isinstance(sent, Change) and sent.trigger_price is not None:
            # Not before it was signed: an older one that is just like it is not this one, which may still come.
            signed_at_ms = sent.expires_at_ms - int(_RECEIVE_WINDOW * 1000)
            stop = self.stop_order(sent, sent.trigger_price, signed_at_ms, 0)
            return await self.ask(self.exchange.stop, stop)  # type: ignore[no-any-return]  # by the port
        return await self.ask(self.exchange.order, self.leg, sent.client_order_id or "")  # type: ignore[no-any-return]

    def stop_order(self, change: Change, trigger: Decimal, signed_at_ms: int, window_ms: int) -> StopOrder:
        """The request of a change that rests an order."""
        kind: Literal["stop_loss", "take_profit"] = "stop_loss" if change.kind == "stop_loss" else "take_profit"
        client_id = change.client_order_id or ""
        return StopOrder(self.leg, kind, change.contracts, trigger, client_id, signed_at_ms, window_ms)

    async def wait_for_end(self, order: Order) -> Order:
        """The same order once nothing of it can be filled any more; cancelled if it takes too long."""
        client_id = order.client_order_id or ""
        for cancel in (True, False):
            for pause in pauses(self.exchange.settles_within):
                if order.state != "open":
                    return order
                await self.wait(pause)
                order = (await self.ask(self.exchange.order, self.leg, client_id)) or order
            if cancel and order.state == "open":
                await self.cancel(order)
        if order.state != "open":
            return order
        raise self.unsettled("sending", f"order {order.order_id} is still open, with {order.filled} filled")

    async def cancel(self, *orders: Order) -> None:
        """Ask the venue to cancel *orders*; the next read tells whether it did."""
        for order in orders:
            self.log(f"cancels {order.family} {order.order_id}", step="cancel")
        together = self.side_by_side
        method = self.exchange.cancel_all if together else self.exchange.cancel
        for which in [orders] if together and orders else orders:
            await self._cancelled(method, which)

    async def cancel_stops(self) -> None:
        """The same for all exit orders that changes have placed, unlisted, where the exchange `cancels_unlisted`."""
        may = may_rest((await self.standing()).changes)
        numbers = {each.client_order_id: each.number for each in may}
        orders = tuple(
            self.stop_order(each, each.trigger_price, 0, 0) for each in may if each.trigger_price is not None
        )
        if orders:
            self.log(f"cancels {', '.join(each.client_order_id for each in orders)}", step="cancel")
            taken = await self._cancelled(self.exchange.cancel_stops, orders) or ()
            self._listed.update(numbers[each.client_order_id] for each in taken)

    async def own_stops(
        self,
        listed: Sequence[Order] = (),
        *,
        but: Collection[int] = (),
        kind: Kind | None = None,
        alike: bool = False,
    ) -> list[Order]:
        """Exit orders that changes have placed and that still rest: those *listed* as they are, and any others.

        Left out are those of the changes with the numbers *but*, and of other kinds than *kind*. *alike* takes a listed
        order without a client order id for the one of a change that is just like it, and asks no more.
        """
        may = may_rest((await self.standing()).changes)
        placed = [each for each in may if each.number not in but and kind in {None, each.kind}]
        by_order_id = {(each.order_id, each.family): each for each in listed}  # a pair is two orders under one id
        found = []
        for change in placed:
            order = _listed_as(change, listed, alike=alike)
            if order is not None:
                self._listed.add(change.number)
            elif not (alike and change.number in self._listed):
                order = await self._unless_denied(change)
            if order is not None and (not alike or order.client_order_id is not None):
                self._shown.add(change.number)
            if order is not None and order.state == "open":
                found.append(by_order_id.get((order.order_id, order.family), order))
        return found

    # Inside.

    async def _cancelled(self, method: Callable[..., Any], what: object) -> Any:
        """The answer to a cancel, None if there was no good one."""
        try:
            return await self.venue(method, what)
        except RateLimited as error:
            await self.wait_out(error)
        except (OrderRefused, OutcomeUnknown, ExchangeUnavailable):
            pass  # filled or gone meanwhile, or not
        return None

    async def _tried(self, method: Callable[..., Any], args: tuple[object, ...]) -> Any:
        try:
            return await self.venue(method, *args)
        except ExchangeUnavailable as error:
            return error

    async def _unless_denied(self, change: Change) -> Order | None:
        """The order of a change that the venue has taken; None if there is none any more."""
        # Its owner may have died with the request under way: taken after a sweep, it would be left over.
        # (test_a_change_under_way_when_its_owner_died_is_not_left_over)
        # A stop-loss is set, and moved a second later: the first one rests, and a venue that denies it would keep both.
        # What it has shown once it does not deny again. (test_an_order_that_was_just_placed_is_replaced_too)
        denies_for = self.exchange.denies_for
        may_be_denied_for = (change.expires_at_ms - self.exchange.time_ms()) / 1000 + denies_for
        if change.number in self._shown or may_be_denied_for <= 0:
            return await self.look_up(change)
        return await self._found_within(change, min(may_be_denied_for, _RECEIVE_WINDOW + denies_for))

    async def _found_within(self, sent: Sent, seconds: float) -> Order | None:
        for pause in pauses(seconds):
            order = await self.look_up(sent)
            if order is not None:
                return order
            await self.wait(pause)
        return await self.look_up(sent)

    async def _ledger(self, method: Callable[..., T], *args: object) -> T:
        self.keep()
        return await self.means.ports.ledger(method, *args)


def _listed_as(change: Change, listed: Sequence[Order], *, alike: bool) -> Order | None:
    """The order of *change* among those *listed*."""
    wanted = change.kind, change.contracts, change.trigger_price
    for order in listed:
        is_alike = order.client_order_id is None and wanted == (order.family, order.contracts, order.trigger_price)
        if order.client_order_id == change.client_order_id or (alike and is_alike):
            return order
    return None


def may_rest(changes: Sequence[Change]) -> list[Change]:
    """Those of *changes* whose orders may rest: all that were sent since the latest ones that are done of their kind.

    A ladder is done when all of its rungs are. Of one that the venue refused in part the rungs rest beside the orders
    before it, and so does an order that was out when its position was found to have ended.
    """
    rungs = {each.ladder: {other.step for other in changes if other.ladder == each.ladder} for each in changes}
    found: list[Change] = []
    for each in changes:
        is_first = each.ladder in {None, each.number}
        if (
            each.kind != "reduce"
            and each.step == "done"
            and is_first
            and (not each.ladder or rungs[each.ladder] == {"done"})
        ):
            # The ones before were cancelled when this one was placed.
            found = [other for other in found if other.kind != each.kind]
        was_sent = each.step in {"sending", "done"} or (each.step == "dropped" and each.expires_at_ms)
        if each.trigger_price is not None and was_sent:
            found.append(each)
    return found


def pauses(total: float) -> Iterator[float]:
    """Growing pauses that add up to *total* seconds; one at least."""
    pause = FIRST_PAUSE
    while True:
        yield min(pause, total)
        total -= pause
        if total <= 0:
            return
        pause = min(2 * pause, LONGEST_PAUSE)


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
