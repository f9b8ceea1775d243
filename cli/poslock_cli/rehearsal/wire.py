"""One market of one account, asked and told without the adapter.

A rehearsal compares what poslock has read and booked with what the venue says. So the venue's rows are read here a
second time, and its own account of the P&L is read, which the adapter never asks for. An adapter only reduces: how a
position is opened is here, too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from poslock.bridge import finished
from poslock.errors import ExchangeUnavailable, RequestExpired
from poslock.exchange.ccxt.client import Client, Endpoint
from poslock.exchange.ccxt.reading import decimal, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from poslock.position import Side

T = TypeVar("T")

_TEST_NETS = re.compile(
    r"testnet\.binancefuture\.com|demo-fapi\.binance\.com|api-(testnet|demo)\.(bybit\.[a-z]+|bytick\.com)"
)
_OPENING_WINDOW_MS = 10_000
_LONGEST_ANSWER = 200


@dataclass(frozen=True, slots=True)
class Deal:
    """An execution as the venue's list has it; ``fee`` is positive when it was paid, in the settle currency."""

    order_id: str
    side: Literal["buy", "sell"]
    contracts: Decimal
    price: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True)
class Window:
    """A receive window of *length_ms*, an age that is within it, and one beyond it, which the venue's default admits.

    Where the venue knows no other window than one, there is no default to tell it from.
    """

    length_ms: int
    within_ms: int
    beyond_ms: int


class Wire(ABC):
    """The market *symbol* through *ccxt*, a client for threads with its keys.

    The lists are dictionaries by the venue's own ids, so that what was there before can be told from what came later
    without comparing times.
    """

    venue: ClassVar[str]
    """The class of the adapter's venue; only its dialect is used: how requests are signed, and what its codes mean."""
    addresses: ClassVar[tuple[tuple[str, ...], ...]]
    """Where ccxt has the addresses that requests with keys go to."""
    question: ClassVar[Endpoint]
    """Asks for the positions in the market."""
    window: ClassVar[Window] = Window(3000, 1000, 4500)

    def __init__(self, ccxt: Any, symbol: str) -> None:
        module, _, kind = self.venue.rpartition(".")
        self.ccxt = ccxt
        self.client = Client(ccxt, getattr(import_module(module), kind).dialect)
        self.symbol = symbol

    # Without asking anybody.

    def hosts(self) -> list[str]:
        """The hosts that requests with keys go to."""
        found = []
        for path in self.addresses:
            address = self.ccxt.urls["api"]
            for name in path:
                address = address[name]
            found.append(urlsplit(self.ccxt.implode_hostname(address)).hostname or "")
        return sorted(set(found))

    def is_live(self) -> bool:
        """Whether orders may be for real money: an address that is not known as a test net's counts as live."""
        return not all(_TEST_NETS.fullmatch(host) for host in self.hosts())

    # Of the market.

    @property
    def market(self) -> dict[str, Any]:
        """ccxt's description of it; its table of markets is loaded by then."""
        found: dict[str, Any] = self.ccxt.markets[self.symbol]
        return found

    @property
    def id(self) -> str:
        """What the venue calls it."""
        return str(self.market["id"])

    @property
    def contract_size(self) -> Decimal:
        """Worth of one contract, in the base currency."""
        return decimal(self.market["contractSize"])

    @property
    def step(self) -> Decimal:
        """By how much sizes differ at least, in contracts."""
        return decimal(self.market["precision"]["amount"])

    def smallest(self, price: Decimal) -> Decimal:
        """The fewest contracts that can be opened at *price*, by ccxt's limits; a little more than the least worth."""
        limits = self.market["limits"]
        least = [(limits.get(kind) or {}).get("min") for kind in ("amount", "market")]
        worth = (limits.get("cost") or {}).get("min")
        sizes = [decimal(each) for each in least if each is not None] + [self.step]
        if worth is not None:
            sizes.append(decimal(worth) * Decimal("1.05") / (price * self.contract_size))
        return decimal(plain((max(sizes) / self.step).to_integral_value(ROUND_UP) * self.step))

    def price(self, wanted: Decimal) -> Decimal:
        """*wanted*, on the market's tick."""
        return decimal(self.ccxt.price_to_precision(self.symbol, format(wanted, "f")))

    # What is asked and sent.

    def taken(self, age_ms: int) -> str:
        """What came of a signed read of that age, under the window: empty if it was answered, else the refusal.

        Raises:
            ExchangeError: something else went wrong.
        """
        self.now_ms()
        try:
            finished(
                self.client.send(
                    self.question,
                    self._asked(),
                    lambda _answer: None,
                    signed_at_ms=self.now_ms() - age_ms,
                    receive_window_ms=self.window.length_ms,
                )
            )
        except RequestExpired as refusal:
            return str(refusal)
        return ""

    def now_ms(self) -> int:
        """The venue's clock."""
        finished(self.client.set_clock())
        return self.client.clock.now_ms()

    @abstractmethod
    def held(self) -> dict[Side, Decimal]:
        """Contracts by the side that is held; in hedge mode both may be."""

    @abstractmethod
    def is_hedge(self) -> bool:
        """Whether long and short are held side by side."""

    @abstractmethod
    def resting(self) -> dict[str, str]:
        """Orders of every family that rest in the market: what they are by their ids."""

    @abstractmethod
    def deals(self, since_ms: int) -> dict[str, Deal]:
        """Executions in the market."""

    @abstractmethod
    def statement(self, since_ms: int) -> dict[str, Decimal]:
        """The venue's own account of the P&L, fees and all: rows that add up to the net."""

    @abstractmethod
    def opening(self, contracts: Decimal, client_order_id: str, *, hedge: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a market order that opens a long position."""

    def open(self, contracts: Decimal, client_order_id: str, *, hedge: bool) -> None:
        """Send that order, once.

        Raises:
            OrderRefused: it was not taken.
            OutcomeUnknown: it may have been.
        """
        path, body = self.opening(contracts, client_order_id, hedge=hedge)
        endpoint = self._endpoint("POST", path)
        signed_at_ms, window_ms = self._opening_times(self.now_ms())
        answer = finished(
            self.client.send(
                endpoint, body, lambda answer: answer, signed_at_ms=signed_at_ms, receive_window_ms=window_ms
            )
        )
        self._judge(answer)

    # Inside.

    @abstractmethod
    def _asked(self) -> dict[str, Any]:
        """What `question` is asked with."""

    @abstractmethod
    def _judge(self, answer: Any) -> None:
        """Raise `ExchangeError` if an answer says that nothing was done."""

    def _fee(self, said: Any, currency: str) -> Decimal:
        """An amount in the settle currency; one in another is in no P&L, there is no honest rate for it."""
        return decimal(said) if currency == self.market["settle"] else Decimal(0)

    def _private(self) -> str:
        return self.question.api[-1]

    def _opening_times(self, now_ms: int) -> tuple[int, int]:
        return now_ms, _OPENING_WINDOW_MS

    def _get(self, path: str, params: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        return self._ask(self._endpoint("GET", path), params, read)

    def _ask(self, endpoint: Endpoint, params: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        return finished(self.client.ask(endpoint, dict(params), read))

    def _endpoint(self, method: str, path: str) -> Endpoint:
        return Endpoint((*self.question.api[:-1], self._private()), method, path)


def refused(answer: Any) -> ExchangeUnavailable:
    """What to raise of an answer that is no success."""
    return ExchangeUnavailable(f"the venue answered {str(answer)[:_LONGEST_ANSWER]}")
