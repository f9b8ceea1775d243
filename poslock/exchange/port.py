"""The port: what the close asks of an exchange account, embedded or real.

Questions (`prepare`, `price`, `holding`, `holdings`, `trades`, `order`, `stop`, `open_orders`, `funding`) raise
`ExchangeUnavailable` when they could not be answered. `place` and `place_stop` distinguish three outcomes: they return
the order (taken), raise `OrderRefused` (definitely not taken), or raise `OutcomeUnknown` (perhaps taken).

`Exchange` is the port for threads, `AsyncExchange` the same for an event loop.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.position import Side, Trade

Scope: TypeAlias = Literal["all", "orders", "account", "history"]
"""Which requests a venue wants to have less of: those that change something, questions about what is now, questions
about what was; or all of them, which is a ban."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
# Seconds. One request an hour into the longest ban that a venue documents, three days, are 72; and an answer that is
# wrong keeps bots from closing for an hour, not for a year.
LONGEST_BACK_OFF = 3600.0

hurried: ContextVar[bool] = ContextVar("hurried", default=False)
"""Whether a closing order waits for what is asked now. Then an adapter waits for no limiter of the client, which it
charges all the same, and `Exchange.trades` is one request: it gives `RecentTrades` if that is not enough, and need not
find out the client order ids of exits. `Exchange.open_orders` may leave out what is seldom there: it is asked again."""


class RecentTrades(list["Trade"]):
    """The newest trades of a leg, and perhaps not all that were asked for: what one request told, in a hurry."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of one market: what a position is at the venue."""

    symbol: str
    side: Side


@dataclass(frozen=True, slots=True)
class CloseOrder:
    """A request to reduce *leg* by *contracts* at market, reduce-only where the venue has it.

    The venue must refuse it (`RequestExpired`) when it arrives later than ``receive_window_ms`` after
    ``signed_at_ms``, both in the venue's time: that is what keeps a request from outliving the lock it was sent under.

    ``position_id`` is the venue's id of the position to reduce, None where it gave none. A venue that takes such an id
    on an order gets it, so that the order cannot reduce a later position of the leg. ``holding`` is what the leg held
    at the look that led to this order, so the venue is not asked once more; None if there was no look.
    """

    leg: Leg
    contracts: Decimal
    client_order_id: str
    signed_at_ms: int
    receive_window_ms: int
    position_id: str | None = None
    holding: Holding | None = None


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A request to rest a reduce-only market order for *leg* until the price reaches *trigger_price*.

    A ``"stop_loss"`` triggers when the price goes against the leg, a ``"take_profit"`` when it goes for it. The rule of
    the receive window is that of `CloseOrder`; it limits when the request may arrive, not how long the order rests.
    """

    leg: Leg
    kind: Literal["stop_loss", "take_profit"]
    contracts: Decimal
    trigger_price: Decimal
    client_order_id: str
    signed_at_ms: int
    receive_window_ms: int


@dataclass(frozen=True, slots=True)
class Sending:
    """How a bot must send an order of its own: signed as of ``signed_at_ms``, refused ``receive_window_ms`` later.

    Both in milliseconds of the venue's time, and the request must carry both, and ``client_order_id``. A bot that was
    stopped and signed anew when it went on would send under a lock that somebody else has by then.
    """

    signed_at_ms: int
    receive_window_ms: int
    client_order_id: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order at the venue.

    ``family`` is the venue's kind of order it belongs to (plain order, stop, ...). Of an order that is not ``"open"``
    nothing can be filled any more. ``trigger_price`` is what it rests for, None for one that waits for no price.
    """

    order_id: str
    client_order_id: str | None
    family: str
    leg: Leg
    contracts: Decimal
    filled: Decimal
    state: Literal["open", "filled", "canceled"]
    trigger_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What the venue reports of a leg that is held; the other fields are those of `poslock.position.Position`.

    ``entry_price`` is the venue's average of what is held, None where it knows none (spot). ``position_id`` is the
    venue's own id of the position, which a later position of the leg does not share; None where the venue has none.
    ``smallest`` is the fewest contracts that an order can close, 0 where every size can be closed. Sizes of orders are
    multiples of ``step``, trigger prices multiples of ``tick``; either is 0 where there is no such rule. ``largest`` is
    the most contracts that an order can be for, None for any number. ``said`` is for the adapter alone: what else it
    needs of this answer for an order.
    """

    leg: Leg
    contracts: Decimal
    entry_price: Decimal | None
    contract_size: Decimal
    inverse: bool
    settle: str
    position_id: str | None = None
    smallest: Decimal = Decimal(0)
    step: Decimal = Decimal(0)
    tick: Decimal = Decimal(0)
    largest: Decimal | None = None
    said: Any = field(default=None, compare=False, repr=False)


class Exchange(Protocol):
    """One account at one venue.

    Choose ``account`` once: client order ids are made from it. ``denies_for`` is how many seconds the venue may deny an
    order that exists, ``settles_within`` how long a market order and its fills may take to show their end. ``spot``
    says that a leg is a balance: what it holds beyond a position is nobody's business.
    """

    account: str
    denies_for: float
    settles_within: float
    spot: bool

    def prepare(self) -> None:
        """Find out what the rest needs to know: the venue's clock, the account's mode. Often there is nothing to do.

        Raises:
            UnsupportedMarket: the account is in a mode that the adapter does not know.
        """

    def time_ms(self) -> int:
        """The clock by which the venue judges requests, as known since `prepare`; asks nobody."""

    def price(self, leg: Leg) -> Decimal:
        """The price by which the venue triggers the stop orders of *leg*."""

    def holding(self, leg: Leg) -> Holding | None:
        """What the venue reports of *leg*, None if nothing is held."""

    def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, from one request for all that the account holds."""

    def place(self, order: CloseOrder) -> Order:
        """Send *order* once; never sends it again by itself.

        Raises:
            NothingToReduce, RequestExpired, OrderRefused: definitely not taken.
            DuplicateClientOrderId, OutcomeUnknown: ask `order` by the client order id.
        """

    def place_stop(self, order: StopOrder) -> Order:
        """Send *order* once, as `place` does; the family of what it becomes is its kind.

        Raises:
            NothingToReduce, RequestExpired, OrderRefused: definitely not taken.
            StopWouldTrigger: neither, and only because the price is at its trigger price, or beyond it.
            DuplicateClientOrderId, OutcomeUnknown: ask `order` by the client order id.
        """

    def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, None if the venue says there is none."""

    def stop(self, order: StopOrder) -> Order | None:
        """What became of a request to rest *order*, None if the venue says that there is no such order.

        Where stop orders have no client order id, it is one of that leg, kind, size and trigger price that was placed
        at ``signed_at_ms`` or later.
        """

    def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order, of every family, that would reduce *leg*."""

    def cancel(self, order: Order) -> None:
        """Cancel *order*; no error if it has ended already. The caller reads again to be sure."""

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* at or after *since_ms*, in the venue's own order, oldest first.

        The order is that of the venue's list or of its ids. Its times may be whole seconds, rounded up or down.
        """

    def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received (paid, if negative) on *leg* from *since_ms* to *until_ms*."""


class BackOff(Protocol):
    """What a venue has asked all who use an account to wait for. Neither method waits, or raises."""

    def left(self, scope: Scope) -> float:
        """For how many seconds nothing of *scope* should be sent; 0 if it may be sent now."""

    def hold(self, scope: Scope, seconds: float) -> None:
        """Nothing of *scope* should be sent for so many seconds from now, at most `LONGEST_BACK_OFF`."""


class Memory(Protocol):
    """What the next process need not ask an account's venue for. Neither method waits, or raises."""

    def remember(self, **known: Any) -> None:
        """Add what is *known*, by name, in values that JSON has."""

    def recall(self) -> dict[str, Any]:
        """All that was remembered by processes that see the same clock, and that has not been forgotten."""


class BacksOff(Protocol):
    """An exchange that leaves its venue alone as long as that has asked for, and says so with `RateLimited`."""

    def share_back_off(self, shared: BackOff) -> None:
        """Ask *shared* before each request, and tell it when the venue turns one away for rate.

        A guard calls this, with what all guards of its lock directory share; the last one counts.
        """


class Remembers(Protocol):
    """An exchange that keeps what it has asked its venue for."""

    def share_memory(self, memory: Memory) -> None:
        """Keep it there. A guard calls this, as it calls `BacksOff.share_back_off`."""


class SideBySide(Protocol):
    """An exchange over a network, whose methods may be called at the same time, from several threads or tasks."""

    side_by_side: Literal[True]

    def refresh(self) -> None:
        """Ask anew for what an order is signed and made by and what may be too old by now; often there is nothing."""

    def cancel_all(self, orders: Sequence[Order]) -> None:
        """As `Exchange.cancel`, all of them at once; raises what one of them has raised."""


class CancelsUnlisted(Protocol):
    """An exchange that cancels stop orders by their client order ids, so that nothing has to be listed before."""

    cancels_unlisted: bool

    def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        """Cancel *orders*; those of them whose cancel the venue has taken, so that it had them.

        No error for another one: it has ended, or the venue denies it still.
        """


class AsyncRequests(Protocol):
    """The requests of an `AsyncExchange`."""

    async def prepare(self) -> None:
        """Find out what the rest needs to know: the venue's clock, the account's mode. Often there is nothing to do.

        Raises:
            UnsupportedMarket: the account is in a mode that the adapter does not know.
        """

    async def price(self, leg: Leg) -> Decimal:
        """The price by which the venue triggers the stop orders of *leg*."""

    async def holding(self, leg: Leg) -> Holding | None:
        """What the venue reports of *leg*, None if nothing is held."""

    async def holdings(self, legs: Sequence[Leg]) -> list[Holding]:
        """Those of *legs* that are held, from one request for all that the account holds."""

    async def place(self, order: CloseOrder) -> Order:
        """Send *order* once; never sends it again by itself.

        Raises:
            NothingToReduce, RequestExpired, OrderRefused: definitely not taken.
            DuplicateClientOrderId, OutcomeUnknown: ask `order` by the client order id.
        """

    async def place_stop(self, order: StopOrder) -> Order:
        """Send *order* once, as `place` does; the family of what it becomes is its kind.

        Raises:
            NothingToReduce, RequestExpired, OrderRefused: definitely not taken.
            StopWouldTrigger: neither, and only because the price is at its trigger price, or beyond it.
            DuplicateClientOrderId, OutcomeUnknown: ask `order` by the client order id.
        """

    async def order(self, leg: Leg, client_order_id: str) -> Order | None:
        """The order with this client order id, None if the venue says there is none."""

    async def stop(self, order: StopOrder) -> Order | None:
        """What became of a request to rest *order*, None if the venue says that there is no such order.

        Where stop orders have no client order id, it is one of that leg, kind, size and trigger price that was placed
        at ``signed_at_ms`` or later.
        """

    async def open_orders(self, leg: Leg) -> list[Order]:
        """Every resting order, of every family, that would reduce *leg*."""

    async def cancel(self, order: Order) -> None:
        """Cancel *order*; no error if it has ended already. The caller reads again to be sure."""

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* at or after *since_ms*, in the venue's own order, oldest first.

        The order is that of the venue's list or of its ids. Its times may be whole seconds, rounded up or down.
        """

    async def funding(self, leg: Leg, since_ms: int, until_ms: int) -> Decimal:
        """Funding received (paid, if negative) on *leg* from *since_ms* to *until_ms*."""


class AsyncExchange(AsyncRequests, Protocol):
    """`Exchange` for an event loop: attributes, questions and outcomes are the same.

    A call that is cancelled on its way may or may not have reached the venue; for an order that is `OutcomeUnknown`.
    """

    account: str
    denies_for: float
    settles_within: float
    spot: bool

    def time_ms(self) -> int:
        """The clock by which the venue judges requests, as known since `prepare`; asks nobody."""
