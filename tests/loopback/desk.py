"""A venue on this machine, a bot's way to it, and what a trader does there by hand."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from awaited import Awaited
from loopback.server import Fault
from poslock import AsyncPositionGuard, PaperExchange, Position, PositionGuard
from poslock.exchange.ccxt.exchange import CcxtExchange
from poslock.exchange.port import CloseOrder, Leg, StopOrder
from poslock.pnl import realized_pnl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Loopback, Request
    from poslock import ClosedPosition
    from poslock.position import Fill, Side

SYMBOL = "BTC/USDT:USDT"
LONG, SHORT = Leg(SYMBOL, "long"), Leg(SYMBOL, "short")
BELOW, ABOVE = Decimal(57_000), Decimal(66_000)


def other(leg: Leg) -> Leg:
    return SHORT if leg == LONG else LONG


def trigger(kind: str, leg: Leg) -> Decimal:
    """A price that an order of this kind may rest for, from 60000."""
    return ABOVE if (kind == "take_profit") == (leg.side == "long") else BELOW


@dataclass
class Desk:
    """Requests are called in the same way with a client of either kind; the trader's client is for threads."""

    venue: Loopback
    asynchronous: bool
    lock_dir: str
    run: Callable[..., Any]
    clients: list[Any] = field(default_factory=list)
    behind: Any = None
    exchange: Any = None
    trader: Any = None

    @property
    def book(self) -> PaperExchange:
        return self.venue.book

    def connect(self, **settings: Any) -> Any:
        """Another exchange object, as in another process; the exchange from now on."""
        client = self.venue.client(asynchronous=self.asynchronous)
        self.clients.append(client)
        self.behind = CcxtExchange(client, account="main", **{"denies_for": 0.2, "settles_within": 2.0, **settings})
        self.exchange = Awaited(self.behind, self.run) if self.asynchronous else self.behind
        return self.exchange

    def guard(self, **options: Any) -> PositionGuard:
        """A guard of the client's kind."""
        settings = {"lock_dir": self.lock_dir, "stale_after": 10.0, **options}
        if self.asynchronous:
            return Awaited(AsyncPositionGuard(self.behind, **settings), self.run)  # type: ignore[return-value]
        return PositionGuard(self.behind, **settings)

    def hold(self, side: Side = "long", contracts: Any = 10) -> Leg:
        """A leg of ten contracts from 60000, seen by a prepared exchange."""
        self.book.open_position(SYMBOL, side, contracts)
        self.exchange.prepare()
        return Leg(SYMBOL, side)

    def closing(
        self, contracts: Any, client_id: str = "c1", leg: Leg = LONG, *, age_ms: int = 0, window_ms: int = 5000
    ) -> CloseOrder:
        return CloseOrder(leg, Decimal(contracts), client_id, self.exchange.time_ms() - age_ms, window_ms)

    def stop(
        self, kind: Any, client_id: str, leg: Leg = LONG, *, at: Any = None, contracts: Any = 10, age_ms: int = 0
    ) -> StopOrder:
        price = trigger(kind, leg) if at is None else Decimal(at)
        return StopOrder(leg, kind, Decimal(contracts), price, client_id, self.exchange.time_ms() - age_ms, 5000)

    def held(self, leg: Leg) -> Decimal:
        """How many contracts the venue says that *leg* holds."""
        holding = self.exchange.holding(leg)
        return holding.contracts if holding else Decimal(0)

    def told(self, effect: str, leg: Leg = LONG, since_ms: int = 0) -> list[Fill]:
        """The entries or the exits of *leg*."""
        return [trade.fill for trade in self.exchange.trades(leg, since_ms) if trade.effect == effect]

    def sent(self, path: str, method: str = "POST") -> list[Request]:
        return [each for each in self.venue.requests if (each.method, each.path) == (method, path)]

    def strike_question(self, path: str, what: Any) -> None:
        """Once; but aiohttp by itself asks again what changes nothing, if its connection goes away meanwhile."""
        self.venue.strike(Fault(path, what, method="GET", times=2 if what == "drop" and self.asynchronous else 1))

    def assert_closed_once(self, closed: ClosedPosition, position: Position, *, funding: Any = 0) -> None:
        """Flat, nothing rests, one booking of what the books say: G1, G5, G6."""
        leg = Leg(position.symbol, position.side)
        fills: list[Fill] = self.book.fills(leg, 0)
        assert self.book.held(leg) == 0
        assert self.exchange.open_orders(leg) == []
        assert sum(fill.contracts for fill in fills) == position.contracts
        booked = [(fill.client_order_id, fill.price, fill.contracts, fill.fee, fill.at_ms) for fill in closed.fills]
        assert booked == [(fill.client_order_id, fill.price, fill.contracts, fill.fee, fill.at_ms) for fill in fills]
        expected = realized_pnl(position, fills, Decimal(funding))
        assert (closed.gross_pnl, closed.fees, closed.net_pnl) == (expected.gross, expected.fees, expected.net)


@contextmanager
def desk_at(venue: Loopback, folder: Path, *, asynchronous: bool) -> Iterator[Desk]:
    """A desk at *venue*, whose market is at 60000."""
    with venue, asyncio.Runner() as runner:
        venue.book.set_price(SYMBOL, 60_000)
        desk = Desk(venue, asynchronous, str(folder / "locks"), runner.run, trader=venue.client())
        desk.connect()
        yield desk
        desk.trader.session.close()
        for client in desk.clients:
            if asynchronous:
                runner.run(client.close())
            else:
                client.session.close()
