"""Closes at the venues' servers on this machine: what each costs, beside a bare order of the same client."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Literal

from arrivals import Arrivals, round_trips
from bench.close.bot import CONTRACTS, PRICE, STOP_LOSS, TAKE_PROFIT, VENUES, Bot, Way, server
from poslock.exchange.port import CloseOrder, Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from loopback.swaps import SwapVenue

State = Literal["warm", "idle", "new"]
STATES: tuple[State, ...] = ("warm", "idle", "new")
CLIENTS = ("threads", "tasks")
MANY, HANDS = 8, 20
COUNTED_AT_S = 0.05
_IDLE_S = 600
# OKX tells nobody of trades that are older than three months.
_TRACKED_AGO_S, _BY_HAND_AGO_S = 170 * 86_400, 80 * 86_400
_MARKETS, _FOR_BARE_ORDERS = 60, "ETH/USDT:USDT"
_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. ``delays`` are the seconds that a request takes, the longest one last."""

    venues: tuple[str, ...]
    delays: tuple[float, ...]
    clients: tuple[str, ...] = CLIENTS


SIZES = {
    "full": Plan((*VENUES,), (0.0, 0.02, 0.1)),
    "quick": Plan((*VENUES,), (0.02,)),
    "tiny": Plan(("binance",), (0.02,), ("tasks",)),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests, round trips and durable commits of a close: before its order, and in all."""

    requests: tuple[int, int]
    round_trips: tuple[int, int]
    commits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """A close by a bot in one state. ``later_s``: by how much later than a bare order its order leaves, by delay."""

    venue: str
    client: str
    state: State
    urgent: bool
    cost: Cost
    later_s: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Many:
    """After how many seconds the last of several orders leaves: of `close_positions`, and of bare ones in a row."""

    venue: str
    client: str
    ours_s: float
    bare_s: float


@dataclass(frozen=True, slots=True)
class Old:
    """What a close costs of a position that was tracked long ago, with exits by hand since then."""

    venue: str
    client: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it."""

    delays: tuple[float, ...]
    rows: list[Row]
    many: list[Many]
    old: list[Old]


def measure(directory: str, plan: Plan) -> Measured:
    """Everything, one after the other, with files in *directory*."""
    found, longest = Measured(plan.delays, [], [], []), plan.delays[-1]
    for name in plan.venues:
        for client in plan.clients:
            with _Account.at(name, directory, client) as account:
                found.rows.extend(_rows(account, plan))
                found.many.append(Many(name, client, account.many_s(longest), account.bare_s("warm", longest, MANY)))
                found.old.append(Old(name, client, account.old()))
    return found


def _rows(account: _Account, plan: Plan) -> Iterator[Row]:
    for state in STATES:
        later = {delay: _later_s(account, state, delay) for delay in plan.delays}
        for urgent in (False, True):
            cost, by_delay = account.cost(state, urgent=urgent), {at: each[urgent] for at, each in later.items()}
            yield Row(account.name, account.client, state, urgent, cost, by_delay)


def _later_s(account: _Account, state: State, delay: float) -> dict[bool, float]:
    """By how much later than a bare order that of a close leaves, by whether it is urgent."""
    bare_s = account.bare_s(state, delay)
    return {urgent: account.leaves_s(state, delay, urgent=urgent) - bare_s for urgent in (False, True)}


class _Account:
    """An account at the server of one venue, and bots of one kind.

    What is counted is counted without the client's limiter, which would keep apart what is asked side by side.
    """

    def __init__(self, venue: SwapVenue, name: str, directory: str, client: str) -> None:
        self.name, self.client = name, client
        self._venue, self._directory = venue, directory
        self._arrivals = Arrivals(venue, name)
        self._numbers = count()
        symbols = (_FOR_BARE_ORDERS, *(f"COIN{number}/USDT:USDT" for number in range(_MARKETS)))
        venue.symbols = {venue.market_id(symbol): symbol for symbol in symbols}
        self._unused = iter(symbols[1:])
        self._open(_FOR_BARE_ORDERS, 1000)

    @staticmethod
    @contextmanager
    def at(name: str, directory: str, client: str) -> Iterator[_Account]:
        """An account in *directory*, served as long as this lasts."""
        with server(name)(f"{directory}/{name}-{client}.db") as venue:
            yield _Account(venue, name, directory, client)

    def cost(self, state: State, *, urgent: bool) -> Cost:
        """What a close costs."""
        with self._bots() as another:
            bot = another()
            [symbol] = self._tracked(bot, 1)
            bot("protect", [symbol])
            return self._cost(self._in(state, bot, another), symbol, urgent=urgent)

    def leaves_s(self, state: State, delay: float, *, urgent: bool) -> float:
        """After how many seconds the order of a close leaves."""
        with self._bots() as another:
            bot = another()
            [symbol] = self._tracked(bot, 1)
            self._protect(symbol)
            return self._last_left_s(self._in(state, bot, another), delay, 1, "close", symbol, urgent)

    def bare_s(self, state: State, delay: float, many: int = 1) -> float:
        """The same of the last of so *many* that the client sends by itself, one after the other."""
        with self._bots() as another:
            bot = another()
            bot("load")
            bot = self._in(state, bot, another)
            self._venue.offset_ms = 0  # ccxt goes by the clock of this machine
            return self._last_left_s(bot, delay, many, "order", _FOR_BARE_ORDERS, many)

    def many_s(self, delay: float) -> float:
        """The same of the last order of a close of `MANY`."""
        with self._bots() as another:
            bot = another()
            symbols = self._tracked(bot, MANY)
            for symbol in symbols:
                self._protect(symbol)
            return self._last_left_s(bot, delay, MANY, "close_all", symbols)

    def old(self) -> Cost:
        """What a close costs of a position that was tracked long ago and reduced by hand since then."""
        with self._bots() as another:
            self._venue.offset_ms = -_TRACKED_AGO_S * 1000
            bot = another()
            [symbol] = self._tracked(bot, 1)
            for number in range(HANDS):
                self._venue.offset_ms = -_BY_HAND_AGO_S * 1000 * (HANDS - number) // HANDS
                signed_at_ms = self._venue.clock_ms()
                hand = CloseOrder(Leg(symbol, "long"), Decimal(1), f"{symbol[:6]}-{number}", signed_at_ms, 5000)
                self._venue.book.place(hand)
            self._venue.offset_ms = 0
            bot("let_pass", _TRACKED_AGO_S)
            bot("protect", [symbol])
            return self._cost(bot, symbol, urgent=False)

    # Inside.

    @contextmanager
    def _bots(self) -> Iterator[Callable[[], Bot]]:
        """Makes bots that share a lock directory of their own."""
        lock_dir = f"{self._directory}/{self.name}-{self.client}-{next(self._numbers)}"
        way = Way(self.name, self._venue.url, self.client == "tasks", lock_dir)
        with ExitStack() as stack:
            yield lambda: stack.enter_context(Bot(way))
        self._venue.offset_ms = 0

    def _open(self, symbol: str, contracts: int) -> None:
        self._venue.book.set_price(symbol, PRICE)
        self._venue.book.open_position(symbol, "long", contracts)

    def _tracked(self, bot: Bot, many: int) -> list[str]:
        """Markets, each with a position that *bot* has tracked."""
        symbols = [next(self._unused) for _ in range(many)]
        for symbol in symbols:
            self._open(symbol, CONTRACTS)
        bot("load")
        bot("track", symbols)
        return symbols

    def _protect(self, symbol: str) -> None:
        """Rest a stop-loss and a take-profit by hand, where what comes after the order is not looked at."""
        self._venue.book.protect(symbol, "long", "stop_loss", CONTRACTS, STOP_LOSS)
        self._venue.book.protect(symbol, "long", "take_profit", CONTRACTS, TAKE_PROFIT)

    def _in(self, state: State, bot: Bot, another: Callable[[], Bot]) -> Bot:
        """*bot* in that state, or another one."""
        if state == "idle":
            self._venue.hang_up()
            self._venue.offset_ms += _IDLE_S * 1000
            bot("let_pass", _IDLE_S)
        if state == "new":
            bot = another()
            bot("load")
        return bot

    @contextmanager
    def _slowed(self, delay: float) -> Iterator[None]:
        self._venue.latency = delay
        yield
        self._venue.latency = 0.0

    def _cost(self, bot: Bot, symbol: str, *, urgent: bool) -> Cost:
        with self._slowed(COUNTED_AT_S):
            bot.tell("close", symbol, urgent)
            began_ns, commits_ns = bot.hear(), bot.hear()
        [order], arrivals = self._arrivals.orders(began_ns, 1, _PATIENCE), self._arrivals.since(began_ns)
        before = [each for each in arrivals if each.began_ns < order.began_ns]
        return Cost(
            (len(before), len(arrivals)),
            (round_trips(before), round_trips(arrivals)),
            (sum(each < order.began_ns for each in commits_ns), len(commits_ns)),
        )

    def _last_left_s(self, bot: Bot, delay: float, many: int, *work: object) -> float:
        bot("limited")
        with self._slowed(delay):
            bot.tell(*work)
            began_ns = bot.hear()
            try:
                *_, last = self._arrivals.orders(began_ns, many, _PATIENCE)
            except TimeoutError:
                bot.hear()  # raises why not
                raise
            bot.kill()  # what comes after it is not timed
        return (last.began_ns - int(began_ns)) / 1e9
