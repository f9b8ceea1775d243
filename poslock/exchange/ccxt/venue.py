"""What `CcxtExchange` asks of a venue, and what all venues do alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from poslock.errors import ExchangeError, ExchangeUnavailable, NotServed, UnsupportedMarket, quoted
from poslock.exchange.ccxt.client import Endpoint
from poslock.exchange.ccxt.listing import every_page, spans
from poslock.exchange.ccxt.reading import ClientIds, decimal, listed
from poslock.exchange.port import AsyncRequests, RecentTrades, hurried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from decimal import Decimal

    from poslock.exchange.ccxt.client import Client, Dialect
    from poslock.exchange.ccxt.listing import Listing
    from poslock.exchange.port import CloseOrder, Leg, Memory, Order, StopOrder
    from poslock.position import Trade

T = TypeVar("T")
Trigger: TypeAlias = Literal["last", "mark"]
_MODE = "mode"
# After this nothing is added to a time that is over.
_LATE_MS = 3_600_000
# Set while trades are asked for; has something in it if they are not all.
_cuts: ContextVar[list[None] | None] = ContextVar("cuts", default=None)
# A cancel, too, is taken no longer than this after it was signed.
_CANCEL_WINDOW_MS = 10_000


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

    memory: Memory | None
    """Where it is kept what need not be asked again."""

    async def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account."""

    async def refresh(self) -> None:
        """As `poslock.exchange.port.SideBySide` says."""

    async def cancel_all(self, orders: Sequence[Order]) -> None:
        """As `poslock.exchange.port.SideBySide` says."""

    cancels_unlisted: ClassVar[bool]

    async def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:
        """As `poslock.exchange.port.CancelsUnlisted` says; at a venue that does not, none."""


class Account(ABC):
    """An account at a venue. Subclasses know its endpoints; here is in which order they are asked, and what if not."""

    dialect: ClassVar[Dialect]
    public: ClassVar[tuple[str, ...]]
    private: ClassVar[tuple[str, ...]]
    """ccxt's names of the parts of the API: that anybody may ask, that needs keys."""
    symbol: ClassVar[str] = "symbol"
    """The field that names the market."""
    category: ClassVar[Mapping[str, str]] = {}
    """What else says which markets a question is about."""
    good: Callable[[Any], Any] = staticmethod(lambda answer: answer)
    """What a good answer carries; raises anything for another one."""
    prices: ClassVar[Mapping[Trigger, tuple[str, str]]]
    """Where a price is asked for, and its field there."""
    rounded_ms: ClassVar[int] = 0
    """By how much the times of trades may be rounded down or up, if it is less than that."""
    cancels_unlisted: ClassVar[bool] = False
    """Whether stop orders are cancelled by their client order ids, and a list of what rests takes more requests."""
    may_be_cut: ClassVar[bool] = True
    """Whether in a hurry the newest trades will do, because what is held says the rest."""
    must_list: ClassVar[str | None] = None
    """A type of market of which ccxt must find some, else its table could not be read."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.trigger: Trigger = "last"
        self.memory: Memory | None = None
        self._hedge: bool | None = None
        self._is_known = False
        self._client_ids = ClientIds(self._client_id)
        self._past: dict[tuple[Leg, tuple[int, int]], list[Any]] = {}
        self._doubts_mode = False
        self._is_kept = False

    async def prepare(self) -> None:
        """Load the markets, read the clock and the account's mode, unless they are known here or to another process."""
        await self.client.markets(self.must_list)
        await self.client.set_clock()
        if not self._is_known:
            remembered = None if self.memory is None or self._doubts_mode else self.memory.recall().get(_MODE)
            is_kept = remembered in ([True], [False], [None])
            self._hedge = remembered[0] if remembered and is_kept else await self._read_mode()
            self._is_known, self._doubts_mode, self._is_kept = True, False, is_kept
        if self.memory is not None and not self._is_kept:
            # Again at the next call, if there was no lock directory yet.
            self.memory.remember(**{_MODE: [self._hedge]})
            self.client.clock.keep()
            self._is_kept = _MODE in self.memory.recall()

    async def refresh(self) -> None:
        """Ask for the clock if it is too old for an order to be signed by it."""
        await self.client.set_clock(fresh=True)

    async def cancel_all(self, orders: Sequence[Order]) -> None:
        """Cancel *orders*, side by side."""
        await self.client.together(*[self.cancel(each) for each in orders])

    async def cancel_stops(self, orders: Sequence[StopOrder]) -> list[StopOrder]:  # noqa: ARG002  # as `Venue` says
        """Cancel stop orders by their client order ids; those whose cancel the venue has taken."""
        return []

    async def inspect(self) -> Inspection:
        """The clock, the mode, and what the key may do, where it may ask that."""
        await self.prepare()
        ahead_ms = time.time_ns() // 10**6 - self.client.clock.now_ms()
        try:
            trades, withdraws = await self._rights()
        except ExchangeUnavailable:  # another host or another kind of key is needed for that at some venues
            return Inspection(ahead_ms, self._hedge, None, None)
        return Inspection(ahead_ms, self._hedge, trades, withdraws)

    async def price(self, leg: Leg) -> Decimal:
        """The price that stop orders trigger on."""
        path, name = self.prices[self.trigger]
        query = self._of(leg)

        def read(found: Any) -> Decimal:
            [row] = [found] if isinstance(found, dict) and name in found else self._listed(found)
            if row.get(self.symbol, query[self.symbol]) != query[self.symbol]:
                raise ValueError("it is about another market")
            return decimal(row[name])

        return await self._get(path, query, read, self.public)

    async def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the venue's own order; exits name the client order id.

        Where trades do not name it, their orders are asked for it once each. Where times are rounded, all that may have
        happened since then are told, and with them some of just before.
        """
        earliest_ms = max(0, since_ms - self.rounded_ms)
        cuts = list[None]()
        was = _cuts.set(cuts if self.may_be_cut else None)
        try:
            found = [each for each in await self._trades(leg, earliest_ms) if each.fill.at_ms >= earliest_ms]
        finally:
            _cuts.reset(was)
        if hurried.get() and self.may_be_cut:
            known = [self._client_ids.known(leg, each) for each in found]
            return RecentTrades(known) if cuts else known
        return [await self._client_ids.named(leg, each) for each in found]

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
    async def cancel(self, order: Order) -> None:
        """Cancel *order*; no error if it has ended."""

    @abstractmethod
    async def _read_mode(self) -> bool | None:
        """Whether long and short are held side by side, None if there is no such thing for the whole account."""

    @abstractmethod
    async def _rights(self) -> tuple[bool, bool]:
        """Whether the key may trade here, and whether it may withdraw."""

    @abstractmethod
    async def _trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        """Entries and exits of *leg* in the venue's own order, oldest first; older ones may be among them."""

    async def _client_id(self, leg: Leg, order_id: str) -> str | None:  # noqa: ARG002  # for who asks
        """The client order id of an order, "" if it has none, None if the venue denies the order; or nobody asks."""
        return None

    @abstractmethod
    def _unfit(self, market: dict[str, Any], leg: Leg) -> str | None:
        """Why a market is none for this account."""

    def _listed(self, found: Any) -> list[dict[str, Any]]:
        """The rows of what a good answer carries."""
        return listed(found)

    # What they use.

    def _id(self, leg: Leg) -> str:
        """What the venue calls the market."""
        return str(self.market(leg)["id"])

    def _of(self, leg: Leg) -> dict[str, Any]:
        """A question about the market."""
        return {**self.category, self.symbol: self._id(leg)}

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

    async def _get(
        self, path: str, params: dict[str, Any], read: Callable[[Any], T], part: tuple[str, ...] | None = None
    ) -> T:
        """What *read* makes of what a good answer carries, of another *part* of the API than the one with keys."""
        endpoint = Endpoint(part or self.private, "GET", path)
        return await self.client.ask(endpoint, params, lambda answer: read(self.good(answer)))

    async def _rows(
        self,
        path: str,
        params: dict[str, Any],
        read: Callable[[dict[str, Any]], T | None],
        part: tuple[str, ...] | None = None,
    ) -> list[T]:
        """What *read* makes of the rows of an answer, without None; of the market's, if *params* name one."""
        read = self._of_market(params, read)
        found = await self._get(path, params, lambda answer: [read(row) for row in self._listed(answer)], part)
        return [each for each in found if each is not None]

    async def _every(
        self, listing: Listing, query: dict[str, Any], read: Callable[[dict[str, Any]], T | None]
    ) -> list[T]:
        """The same of all pages of a list."""
        read = self._of_market(query, read)

        async def page(which: Any) -> tuple[list[T | None], Any]:
            asked = {**query, listing.size: listing.rows, **({} if which is None else {listing.page: which})}

            def read_page(found: Any) -> tuple[list[T | None], Any]:
                rows = self._listed(found)
                return [read(row) for row in rows], listing.following(found, rows, which)

            return await self._get(listing.path, asked, read_page)

        if hurried.get() and _cuts.get() is not None:
            first, following = await page(listing.first)
            # Some venues give a cursor with every page. In a hurry one that is not full is the last.
            if following is not None and len(first) >= listing.rows:
                self._cuts_short()
            return [each for each in first if each is not None]
        found = await every_page(page, listing.first)
        if listing.shrinks and len(found) >= listing.rows:
            # What ended between two pages has moved an order on to the page that was read before.
            # (test_an_order_that_moves_to_the_page_before_is_found)
            found += await every_page(page, listing.first)
        return [each for each in found if each is not None]

    def _of_market(
        self, query: dict[str, Any], read: Callable[[dict[str, Any]], T | None]
    ) -> Callable[[dict[str, Any]], T | None]:
        if self.symbol not in query:
            return read
        return lambda row: read(row) if row[self.symbol] == query[self.symbol] else None

    async def _between(  # noqa: PLR0913, PLR0917  # what tells one list from another
        self,
        listing: Listing,
        query: dict[str, Any],
        since_ms: int,
        until_ms: int,
        read: Callable[[dict[str, Any]], T | None],
        kept: Leg | None = None,
    ) -> list[T]:
        """The same of all that time; *kept* is as for `_spanned`."""
        since, until = listing.between

        async def ask(start_ms: int, end_ms: int) -> list[T]:
            return await self._every(listing, {**query, since: start_ms, until: end_ms}, read)

        return await self._spanned(ask, spans(since_ms, until_ms, listing.span_ms), kept)

    async def _spanned(
        self,
        ask: Callable[[int, int], Coroutine[Any, Any, list[T]]],
        parts: Sequence[tuple[int, int]],
        kept: Leg | None = None,
    ) -> list[T]:
        """What *ask* answers to all *parts* of a time, asked side by side; if it hurries, to the newest part.

        What is *kept* for the trades of a leg, because nothing is added to a time that is over, is asked once.
        """
        if len(parts) > 1 and self._cuts_short():
            (start_ms, longest_ms), (_, until_ms) = (parts[0][0], parts[0][1] - parts[0][0]), parts[-1]
            parts = [(max(start_ms, until_ms - longest_ms), until_ms)]
        known = {each: self._past[kept, each] for each in parts if kept is not None and (kept, each) in self._past}
        missing = [each for each in parts if each not in known]
        # The newest one first and alone: a venue that turns that away is not asked for a year in pieces.
        found = {each: await ask(*each) for each in missing[-1:]}
        older = missing[:-1]
        found.update(zip(older, await self.client.together(*[ask(*each) for each in older]), strict=True))
        over_ms = self.client.clock.now_ms() - _LATE_MS
        if kept is not None:
            self._past.update({(kept, each): rows for each, rows in found.items() if each[1] < over_ms})
        answers = {**known, **found}
        return [row for each in parts for row in answers[each]]

    @staticmethod
    def _cuts_short() -> bool:
        """Whether an order waits for the trades that are asked for; then it is noted that they are not all of them."""
        cuts = _cuts.get()
        if cuts is None or not hurried.get():
            return False
        cuts.append(None)
        return True

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
        """Send *order* once, signed as of then. In another mode than was read, that is read before the next one."""
        try:
            return await self._post(path, params, read, order.signed_at_ms, order.receive_window_ms)
        except NotServed as refusal:
            # (test_a_mode_switched_under_a_running_bot_costs_one_order)
            if refusal.code in self.dialect.codes.wrong_mode:
                self._is_known, self._doubts_mode = False, True
            raise

    async def _post(self, path: str, body: Any, read: Callable[[Any], T], signed_at_ms: int, window_ms: int) -> T:
        endpoint = Endpoint(self.private, "POST", path)
        window: dict[str, int] = {"signed_at_ms": signed_at_ms, "receive_window_ms": window_ms}
        return await self.client.send(endpoint, body, lambda answer: read(self.good(answer)), **window)

    async def _cancel(self, path: str, body: Any, read: Callable[[Any], T]) -> T | None:
        """The answer to a cancel that is posted, None if the order has ended."""
        await self.client.set_clock()
        return await self._unless_ended(self._post(path, body, read, self.client.clock.now_ms(), _CANCEL_WINDOW_MS))

    async def _delete(self, path: str, params: dict[str, Any]) -> None:
        """Cancel an order, unless it has ended."""
        await self._unless_ended(self.client.ask(Endpoint(self.private, "DELETE", path), params, self.good))
