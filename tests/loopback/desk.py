"""A venue on this machine, a bot's way to it, and what a trader does there by hand."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from awaited import Awaited
from loopback.server import Fault, Reply
from poslock import AsyncPositionGuard, Position, PositionAlreadyClosingError, PositionGuard
from poslock.exchange.ccxt.exchange import CcxtExchange
from poslock.exchange.port import CloseOrder, Leg, StopOrder
from poslock.pnl import realized_pnl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Loopback, Request
    from poslock import ClosedPosition
    from poslock.position import Side

SYMBOL = "BTC/USDT:USDT"
LONG, SHORT = Leg(SYMBOL, "long"), Leg(SYMBOL, "short")
BELOW, ABOVE = Decimal(57_000), Decimal(66_000)
DAY_MS = 86_400_000


def other(leg: Leg) -> Leg:
    """The other side of its market."""
    return replace(leg, side="short" if leg.side == "long" else "long")


def trigger(kind: str, leg: Leg) -> Decimal:
    """A price that an order of this kind may rest for, from 60000."""
    return ABOVE if (kind == "take_profit") == (leg.side == "long") else BELOW


# The most questions of one path that an adapter asks at once.
_SIDE_BY_SIDE = 7


class Swaps:
    """The books of a venue of swaps: what the market and the trader's own hand do there, and what came of it."""

    def __init__(self, venue: Any) -> None:
        self.venue, self.book = venue, venue.book

    def price(self, symbol: str, price: Any) -> None:
        self.book.set_price(symbol, price)

    def open(self, leg: Leg, contracts: Any) -> None:
        self.book.open_position(leg.symbol, leg.side, contracts)

    def take(self, leg: Leg, contracts: Any) -> None:
        """Off the leg, at market."""
        with self.book._account() as account:
            account.execute(account.insert(leg, "order", Decimal(contracts)))

    def rest(self, leg: Leg, contracts: Any) -> None:
        """A plain order that only reduces and waits."""
        with self.book._account() as account:
            account.insert(leg, "order", Decimal(contracts))

    def protect(self, leg: Leg, kind: Any, contracts: Any, at: Any) -> None:
        self.book.protect(leg.symbol, leg.side, kind, contracts, at)

    def fund(self, symbol: str, rate: str) -> None:
        """A long pays, and a short receives, while the rate is above zero."""
        if hasattr(self.venue, "fund"):
            self.venue.fund(symbol, rate)
            return
        for leg in (Leg(symbol, "long"), Leg(symbol, "short")):
            if held := self.book.held(leg):
                worth = held * self.venue.price(symbol) * self.venue.contract_size * Decimal(rate)
                self.book.pay_funding(symbol, -worth if leg.side == "long" else worth, leg.side)

    def left(self, leg: Leg) -> Any:
        return self.book.held(leg)

    def sold(self, leg: Leg) -> list[Decimal]:
        """What each plain order took off the leg, whoever sent it."""
        return [each.filled for each in self.book.orders(leg) if each.family == "order" and each.filled]

    def resting(self, leg: Leg) -> int:
        return len(self.book.open_orders(leg)) + sum(
            len(getattr(self.venue, name, ())) for name in ("trailing", "algos")
        )

    def fills(self, leg: Leg) -> list[tuple[Decimal, Decimal, Decimal]]:
        return [(each.price, each.contracts, each.fee) for each in self.book.fills(leg, 0)]


class Coins:
    """The same of a spot market, where a leg is a balance."""

    def __init__(self, venue: Any) -> None:
        self.venue, self.books = venue, venue.books

    def price(self, symbol: str, price: Any) -> None:
        self.books.set_price(symbol, price)

    def open(self, leg: Leg, contracts: Any) -> None:
        self.books.give(leg.symbol.partition("/")[0], contracts)

    def take(self, leg: Leg, contracts: Any) -> None:
        self.books.sell(leg.symbol, contracts)

    def rest(self, leg: Leg, contracts: Any) -> None:
        self.books.enter(leg.symbol, "SELL", "LIMIT", Decimal(contracts), price=Decimal(70_000))

    def protect(self, leg: Leg, kind: Any, contracts: Any, at: Any) -> None:
        self.books.enter(leg.symbol, "SELL", kind.upper(), Decimal(contracts), trigger=Decimal(at))

    def left(self, leg: Leg) -> Any:
        return self.books.totals[leg.symbol.partition("/")[0]]

    def sold(self, leg: Leg) -> list[Decimal]:
        sales = [each for each in self.books.orders if (each.symbol, each.side) == (leg.symbol, "SELL")]
        return [each.filled for each in sales if each.kind == "MARKET" and each.filled]

    def resting(self, leg: Leg) -> int:
        return sum(each.rests and each.side == "SELL" and each.symbol == leg.symbol for each in self.books.orders)

    def fills(self, leg: Leg) -> list[tuple[Decimal, Decimal, Decimal]]:
        sales = [each for each in self.books.trades if (each.order.symbol, each.order.side) == (leg.symbol, "SELL")]
        return [(each.price, each.quantity, each.fee) for each in sales]


@dataclass
class Desk:
    """Requests are called in the same way with a client of either kind; the trader's client is for threads.

    ``leg`` is the long one of the market that a test is about; ``case`` says where the venue has what, for tests over
    several venues.
    """

    venue: Any
    asynchronous: bool
    lock_dir: str
    run: Callable[..., Any]
    case: Any = None
    leg: Leg = LONG
    clients: list[Any] = field(default_factory=list)
    behind: Any = None
    exchange: Any = None
    trader: Any = None

    @property
    def book(self) -> Any:
        return self.venue.book

    @property
    def hand(self) -> Any:
        """What happens at the venue without the bot."""
        return Coins(self.venue) if self.is_spot else Swaps(self.venue)

    @property
    def is_spot(self) -> bool:
        return ":" not in self.leg.symbol

    def connect(self, config: dict[str, Any] | None = None, **settings: Any) -> Any:
        """Another exchange object, as in another process; the exchange from now on."""
        client = self.venue.client(asynchronous=self.asynchronous, **(config or {}))
        self.clients.append(client)
        market = {"market": "spot"} if self.is_spot else {}
        options = {"account": "main", "denies_for": 0.2, "settles_within": 2.0, **market, **settings}
        self.behind = CcxtExchange(client, **options)
        self.exchange = Awaited(self.behind, self.run) if self.asynchronous else self.behind
        return self.exchange

    def guard(self, exchange: Any = None, **options: Any) -> PositionGuard:
        """A guard of the client's kind. The lease bounds how long an unknown outcome may come true."""
        settings = {"lock_dir": self.lock_dir, "stale_after": 10.0, **options}
        behind = exchange or self.behind
        if self.asynchronous:
            return Awaited(AsyncPositionGuard(behind, **settings), self.run)  # type: ignore[return-value]
        return PositionGuard(behind, **settings)

    def hold(self, side: Side = "long", contracts: Any = 10) -> Leg:
        """A leg of ten contracts from 60000, seen by a prepared exchange."""
        leg = replace(self.leg, side=side)
        self.hand.open(leg, contracts)
        self.exchange.prepare()
        return leg

    def tracked(
        self, side: Side = "long", contracts: Any = 10, *, exits: bool = False, **options: Any
    ) -> tuple[Any, Leg]:
        """A guard, and a leg that it tracks as "btc-1"; with *exits*, a stop-loss and a take-profit of its own."""
        leg, guard = self.hold(side, contracts), self.guard(**{"stale_after": 3.0, **options})
        size = self.exchange.holding(leg).contract_size
        guard.track(Position("btc-1", leg.symbol, side, contracts, 60_000, contract_size=size))
        if exits:
            stop_loss, take_profit = (trigger(kind, leg) for kind in ("stop_loss", "take_profit"))
            guard.modify_position("btc-1", stop_loss=stop_loss, take_profit=take_profit)
        return guard, leg

    def closing(
        self, contracts: Any, client_id: str = "c1", leg: Leg | None = None, *, age_ms: int = 0, window_ms: int = 5000
    ) -> CloseOrder:
        signed_at_ms = self.exchange.time_ms() - age_ms
        return CloseOrder(leg or self.leg, Decimal(contracts), client_id, signed_at_ms, window_ms)

    def stop(
        self,
        kind: Any,
        client_id: str = "s1",
        leg: Leg | None = None,
        *,
        at: Any = None,
        contracts: Any = 10,
        age_ms: int = 0,
        window_ms: int = 5000,
    ) -> StopOrder:
        leg = leg or self.leg
        price = trigger(kind, leg) if at is None else Decimal(at)
        return StopOrder(leg, kind, Decimal(contracts), price, client_id, self.exchange.time_ms() - age_ms, window_ms)

    def held(self, leg: Leg | None = None) -> Any:
        """How many contracts the venue says that *leg* holds and an order can be for."""
        holding = self.exchange.holding(leg or self.leg)
        return holding.contracts if holding and holding.contracts >= holding.smallest else Decimal(0)

    def trades(self, leg: Leg | None = None, since_ms: int | None = None) -> Any:
        """Without *since_ms* those of a day."""
        return self.exchange.trades(leg or self.leg, self.venue.clock_ms() - DAY_MS if since_ms is None else since_ms)

    def told(self, effect: str = "exit", leg: Leg | None = None, since_ms: int | None = None) -> list[Any]:
        """The entries or the exits of *leg*."""
        return [trade.fill for trade in self.trades(leg, since_ms) if trade.effect == effect]

    def changes(self, leg: Leg | None = None, since_ms: int | None = None) -> list[tuple[str, Any]]:
        """Whether each trade of *leg* added to it or took from it, and how much."""
        return [(each.effect, each.fill.contracts) for each in self.trades(leg, since_ms)]

    def later(self, ms: int = 2000) -> int:
        """So much time goes by, and the bot connects anew; what time it is. Venues round by up to a second."""
        self.venue.offset_ms += ms
        self.connect()
        self.exchange.prepare()
        now_ms: int = self.venue.clock_ms()
        return now_ms

    def where(self, name: str) -> tuple[str | None, str]:
        """Method and path of what *case* calls so, or a path of any method."""
        found: tuple[str | None, str] = (self.case.paths if self.case else {}).get(name, (None, name))
        return found

    def sent(self, name: str, method: str = "POST") -> list[Request]:
        """Requests to a whole path, or to what *case* calls so."""
        if self.case is None or name not in self.case.paths:
            return [each for each in self.venue.requests if (each.method, each.path) == (method, name)]
        wanted = Fault(self.case.paths[name][1], 0, self.case.paths[name][0], times=10**9)
        return [each for each in self.venue.requests if wanted.befalls(each)]

    def strike(self, name: str, what: Any, **fault: Any) -> None:
        """Let it befall one request there; but aiohttp asks again by itself what changes nothing if its line breaks.

        Several may be asked there side by side, and it asks each of them again.
        """
        method, path = self.where(name)
        method = fault.pop("method", method)
        again = method in {"GET", "DELETE"} and what in ("drop", "lose") and self.asynchronous
        self.venue.strike(Fault(path, what, method=method, **{"times": 2 * _SIDE_BY_SIDE if again else 1, **fault}))

    def strike_question(self, name: str, what: Any) -> None:
        """The same of a question, where orders have its path too."""
        self.strike(name, what, method="GET")

    def answer_otherwise(self, name: str, change: Callable[[Any], Any], **fault: Any) -> None:
        """Do what is asked, and answer with what *change* makes of the answer."""

        def changed(request: Request) -> Reply:
            reply: Reply = self.venue._carried_out(request)
            return replace(reply, body=change(reply.body))

        self.strike(name, changed, **fault)

    def assert_flat(self, leg: Leg) -> None:
        assert self.hand.left(leg) == 0
        assert self.exchange.open_orders(leg) == []
        assert self.hand.resting(leg) == 0

    def assert_closed_once(
        self, guard: Any, leg: Leg, contracts: Any = 10, position_id: str = "btc-1"
    ) -> ClosedPosition:
        """Flat, nothing rests, one booking of what the books say, and nothing is left to do: G1, G5, G6."""
        self.assert_flat(leg)
        tracked = guard.position(position_id)
        closed: ClosedPosition = tracked.closed
        fills = self.hand.fills(leg)
        assert [(fill.price, fill.contracts, fill.fee) for fill in closed.fills] == fills
        assert sum(fill[1] for fill in fills) == contracts
        expected = realized_pnl(tracked.position, closed.fills, closed.funding)
        assert (closed.gross_pnl, closed.fees, closed.net_pnl) == (expected.gross, expected.fees, expected.net)
        with pytest.raises(PositionAlreadyClosingError):
            guard.close_position(position_id)
        assert guard.recover() == []
        return closed

    def hang_up(self, *runs: Callable[..., Any]) -> None:
        """Close the connections of the latest clients, each in its loop."""
        for run in reversed(runs):
            client = self.clients.pop()
            if self.asynchronous:
                client.timeout_on_exit = 0
                run(client.close())
            else:
                client.session.close()


@contextmanager
def desk_at(
    venue: Loopback, folder: Path, *, asynchronous: bool = False, case: Any = None, symbol: str = SYMBOL
) -> Iterator[Desk]:
    """A desk at *venue*, whose market is at 60000."""
    with venue, asyncio.Runner() as runner:
        desk = Desk(venue, asynchronous, str(folder / "locks"), runner.run, case, Leg(symbol, "long"))
        desk.hand.price(symbol, Decimal(60_000))
        desk.trader = venue.client()
        desk.connect()
        yield desk
        desk.trader.session.close()
        desk.hang_up(*[runner.run] * len(desk.clients))
