"""What `CcxtExchange` asks of a venue, and what all venues do alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from poslock.errors import ExchangeError, ExchangeUnavailable, NotServed, UnsupportedMarket, quoted
from poslock.exchange.ccxt.client import Endpoint
from poslock.exchange.ccxt.reading import ClientIds
from poslock.exchange.port import AsyncRequests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from poslock.exchange.ccxt.client import Client, Dialect
    from poslock.exchange.port import CloseOrder, Leg, StopOrder

T = TypeVar("T")
Trigger: TypeAlias = Literal["last", "mark"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a venue says of an account and its key; None where it does not say.

    ``clock_ms`` is by how many milliseconds this machine's clock is ahead of the venue's.
    """

    clock_ms: int
    hedge: bool | None
    may_trade: bool | None
    may_withdraw: bool | None


class Venue(AsyncRequests, Protocol):
    """A venue's own ways, over one `Client`; with a client for threads nothing in it ever waits for a loop."""

    dialect: ClassVar[Dialect]
    denies_for: ClassVar[float]
    trigger: Trigger
    """By which price stop orders trigger, and which `price` is then: the last one, or the mark price."""

    async def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account."""


class Account(ABC):
    """An account at a venue. Subclasses know its endpoints; here is in which order they are asked, and what if not."""

    dialect: ClassVar[Dialect]
    private: ClassVar[tuple[str, ...]]
    """ccxt's name of the part of the API that needs keys."""
    must_list: ClassVar[str | None] = None
    """A type of market of which ccxt must find some, else its table could not be read."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.trigger: Trigger = "last"
        self._hedge: bool | None = None
        self._is_known = False
        self._client_ids = ClientIds(self._client_id)

    async def prepare(self) -> None:
        """Load the markets, read the clock and the account's mode, unless they are known."""
        if not (self._is_known and self.client.clock.is_known):
            await self.client.markets(self.must_list)
            await self.client.set_clock()
            self._hedge, self._is_known = await self._read_mode(), True

    async def inspect(self) -> Inspection:
        """The clock, the mode, and what the key may do, where it may ask that."""
        await self.prepare()
        ahead_ms = time.time_ns() // 10**6 - self.client.clock.now_ms()
        try:
            trades, withdraws = await self._rights()
        except ExchangeUnavailable:  # another host or another kind of key is needed for that at some venues
            return Inspection(ahead_ms, self._hedge, None, None)
        return Inspection(ahead_ms, self._hedge, trades, withdraws)

    def market(self, leg: Leg) -> dict[str, Any]:
        """ccxt's description of the market of *leg*.

        Raises:
            UnsupportedMarket: there is none, or it is none for this account.
        """
        market: dict[str, Any] | None = (self.client.ccxt.markets or {}).get(leg.symbol)
        if market is None:
            raise UnsupportedMarket(f"{self.client.ccxt.id} has no market {quoted(leg.symbol)}")
        if why := self._unfit(market, leg):
            raise UnsupportedMarket(f"{quoted(leg.symbol)} at {self.client.ccxt.id} {why}")
        return market

    # What subclasses know.

    @abstractmethod
    async def _read_mode(self) -> bool | None:
        """Whether long and short are held side by side, None if there is no such thing for the whole account."""

    @abstractmethod
    async def _rights(self) -> tuple[bool, bool]:
        """Whether the key may trade here, and whether it may withdraw."""

    @abstractmethod
    async def _client_id(self, leg: Leg, order_id: str) -> str | None:
        """The client order id of an order, "" if it has none, None if the venue denies the order."""

    @abstractmethod
    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:
        """Why a market is none for this account."""

    # What they use.

    def _id(self, leg: Leg) -> str:
        """What the venue calls the market."""
        return str(self.market(leg)["id"])

    def _known(self, legs: Sequence[Leg]) -> list[Leg]:
        """Those of *legs* whose markets are known, each once.

        Raises:
            ExchangeUnavailable: no market is known, because `prepare` was not called.
        """
        if not self.client.ccxt.markets:
            raise ExchangeUnavailable(f"{self.client.ccxt.id}: the markets are not loaded; call prepare first")
        return [leg for leg in dict.fromkeys(legs) if self._knows(leg)]

    def _knows(self, leg: Leg) -> bool:
        try:
            self.market(leg)
        except UnsupportedMarket:
            return False
        return True

    async def _is_hedge(self) -> bool:
        if not self._is_known:
            await self.prepare()
        return bool(self._hedge)

    async def _get(self, path: str, params: dict[str, Any], read: Callable[[Any], T]) -> T:
        """What *read* makes of the answer to a question that needs keys."""
        return await self.client.ask(Endpoint(self.private, "GET", path), params, read)

    async def _known_order(self, question: Awaitable[T]) -> T | None:
        """The answer to a question about an order, None if the venue says that there is none."""
        try:
            return await question
        except ExchangeUnavailable as error:
            if error.code in self.dialect.codes.no_such_order:
                return None
            raise

    async def _unless_ended(self, cancel: Awaitable[T]) -> T | None:
        """The answer to a cancel, None if the order has ended."""
        try:
            return await cancel
        except ExchangeError as error:
            if error.code in self.dialect.codes.ended:
                return None
            raise

    async def _unsent(self, question: Awaitable[T]) -> T:
        """The answer to a question before an order. Without it nothing is sent, so that is no doubt."""
        try:
            return await question
        except NotServed:
            raise
        except ExchangeUnavailable as error:
            raise NotServed(f"not sent, because what is held is not known: {error}", code=error.code) from None

    async def _send(
        self, path: str, params: dict[str, Any], order: CloseOrder | StopOrder, read: Callable[[Any], T]
    ) -> T:
        """Send *order* once, signed as of then."""
        sent = self.client.send(
            Endpoint(self.private, "POST", path),
            params,
            read,
            signed_at_ms=order.signed_at_ms,
            receive_window_ms=order.receive_window_ms,
        )
        return await self._in_mode(sent)

    async def _in_mode(self, sent: Awaitable[T]) -> T:
        """The answer to an order. If it is one of another position mode, the mode is read again before the next one."""
        try:
            return await sent
        except NotServed as refusal:
            # (test_a_mode_switched_under_a_running_bot_costs_one_order)
            self._is_known = self._is_known and refusal.code not in self.dialect.codes.wrong_mode
            raise
