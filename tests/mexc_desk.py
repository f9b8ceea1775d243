"""A MEXC account on this machine, and one bot's way to it: called in the same way with a client of either kind."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from awaited import Awaited
from loopback.mexc import Mexc
from loopback.mexc_books import Asked
from loopback.mexc_words import whole_seconds
from loopback.server import Fault, Reply
from poslock import AsyncPositionGuard, Position, PositionAlreadyClosingError, PositionGuard
from poslock.exchange.ccxt.exchange import CcxtExchange
from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Request
    from poslock.position import ClosedPosition, Fill, Side

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
LONG, SHORT = Leg(BTC, "long"), Leg(BTC, "short")
CREATE, PLAN = "order/create", "planorder/place/v2"
_PRIVATE = "/api/v1/private/"

both_clients = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])
only_hedge = pytest.mark.parametrize("hedge", [True], ids=["hedge"])


@dataclass
class Desk:
    """The venue, and the client, the adapter and the guards of one bot; each `connect` makes another bot of it."""

    venue: Mexc
    asynchronous: bool
    lock_dir: str
    run: Callable[..., Any]
    clients: list[Any] = field(default_factory=list)
    behind: Any = None
    exchange: Any = None

    def connect(self, config: dict[str, Any] | None = None, **settings: Any) -> None:
        client = self.venue.client(asynchronous=self.asynchronous, **(config or {}))
        self.clients.append(client)
        self.behind = CcxtExchange(client, account="main", **{"denies_for": 0.2, "settles_within": 2.0, **settings})
        self.exchange = Awaited(self.behind, self.run) if self.asynchronous else self.behind

    def guard(self, **options: Any) -> PositionGuard:
        settings = {"lock_dir": self.lock_dir, **options}
        if self.asynchronous:
            return Awaited(AsyncPositionGuard(self.behind, **settings), self.run)  # type: ignore[return-value]
        return PositionGuard(self.behind, **settings)

    def held(self, side: Side = "long", contracts: Any = 10) -> Leg:
        """A leg of ten contracts from 60000."""
        self.venue.book.open_position(BTC, side, contracts)
        self.exchange.prepare()
        return Leg(BTC, side)

    def holds(self, leg: Leg) -> Any:
        """Contracts of *leg*, as the adapter reads them."""
        holding = self.exchange.holding(leg)
        return holding.contracts if holding else Decimal(0)

    def exit_fills(self, leg: Leg, since_ms: int) -> list[Any]:
        """What took from *leg*, as the adapter reads it."""
        return [each.fill for each in self.exchange.trades(leg, since_ms) if each.effect == "exit"]

    def told(self, leg: Leg) -> list[Fill]:
        """What took from *leg* by the venue's books, with the times that the venue tells."""
        fills: list[Fill] = self.venue.book.fills(leg, 0)
        return [replace(each, at_ms=whole_seconds(each.at_ms, int(each.trade_id))) for each in fills]

    def later(self) -> int:
        """Two seconds go by, more than the venue's times are rounded by, and the bot connects anew; what time it is."""
        self.venue.offset_ms += 2000
        self.connect()
        self.exchange.prepare()
        return self.venue.clock_ms()

    def closing(self, contracts: Any, client_id: str = "c1", leg: Leg = LONG, **times: int) -> CloseOrder:
        signed_at_ms = self.exchange.time_ms() - times.get("age_ms", 0)
        return CloseOrder(leg, Decimal(contracts), client_id, signed_at_ms, times.get("window_ms", 5000))

    def stop(self, kind: Any, trigger: Any, leg: Leg = LONG, contracts: Any = 10, **times: int) -> StopOrder:
        signed_at_ms, window_ms = self.exchange.time_ms() - times.get("age_ms", 0), times.get("window_ms", 5000)
        return StopOrder(leg, kind, Decimal(contracts), Decimal(trigger), "s1", signed_at_ms, window_ms)

    def call(self, name: str, *params: Any) -> Any:
        """What another program of the trader says to the venue, and what it is told."""
        answer = getattr(self.clients[-1], f"contract_private_{name}")(*params)
        return (self.run(answer) if self.asynchronous else answer).get("data")

    def sent(self, path: str = CREATE, method: str = "POST") -> list[Request]:
        return [each for each in self.venue.requests if (each.method, each.path) == (method, _PRIVATE + path)]

    def taken(self, leg: Leg = LONG) -> list[tuple[Any, Any]]:
        """The plain orders that the venue has taken: their client order ids, and what each has filled."""
        orders = [each for each in self.venue.book.orders(leg) if each.family == "order"]
        return [(each.client_order_id or "", each.filled) for each in orders]

    def answer_otherwise(self, path: str, change: Callable[[Any], Any], **fault: Any) -> None:
        """Do what is asked, and answer with what *change* makes of the answer."""

        def changed(request: Request) -> Reply:
            reply = self.venue._carried_out(request)
            return Reply(reply.status, change(reply.body))

        self.venue.strike(Fault(path, changed, **fault))

    def answer_data(self, path: str, data: Any, **fault: Any) -> None:
        """Answer with *data*, which a function makes of what it would be."""
        change = data if callable(data) else lambda _data: data
        self.answer_otherwise(path, lambda body: {**body, "data": change(body.get("data"))}, **fault)

    def strike_question(self, path: str, what: Any) -> None:
        """Let it befall one question, which aiohttp puts once more by itself where an old connection has broken."""
        again = self.asynchronous and what in ("drop", "lose")
        self.venue.strike(Fault(path, what, method="GET", times=2 if again else 1))

    def wait_a_moment(self) -> int:
        """Until the clocks, the venue's and the one here, are past the millisecond it is; that one."""
        moment_ms = self.venue.clock_ms()
        while min(self.exchange.time_ms(), self.venue.clock_ms()) <= moment_ms:
            pass
        return moment_ms

    def rests(self, leg: Leg = LONG, number: int = 1, contracts: Any = 1, **asked: Any) -> None:
        """Plain limit orders that rest far away, as another program would have sent them; reduce-only."""
        far = {"long": Decimal(10**6), "short": Decimal(1)}[leg.side]
        side = {"long": 4, "short": 2}[leg.side]
        settings = {"side": side, "kind": 1, "price": far, "reduce_only": not self.venue.hedge, **asked}
        with self.venue.books() as books:
            for _ in range(number):
                books.take(leg, Asked("order", **settings), Decimal(contracts), "order")


@contextmanager
def opened(folder: Path, *, asynchronous: bool, hedge: bool = False, **settings: Any) -> Iterator[Desk]:
    """A desk at a venue with prices and no positions."""
    with Mexc(folder / "exchange.db", hedge=hedge, **settings) as venue, asyncio.Runner() as runner:
        venue.book.set_price(BTC, 60_000)
        venue.book.set_price(ETH, 3_000)
        desk = Desk(venue, asynchronous, str(folder / "locks"), runner.run)
        desk.connect()
        yield desk
        for client in desk.clients:
            if asynchronous:
                client.timeout_on_exit = 0
                runner.run(client.close())
            else:
                client.session.close()


def exits(desk: Desk, leg: Leg) -> list[tuple[Any, Any]]:
    """What the venue lists to reduce *leg*, as the adapter reads it."""
    return sorted((each.family, each.trigger_price) for each in desk.exchange.open_orders(leg))


def families(orders: list[Order]) -> list[str]:
    return sorted(order.order_id.rpartition(":")[0] or "plain" for order in orders)


def tracked(desk: Desk, side: Side = "long", *, bare: bool = False, **options: Any) -> tuple[PositionGuard, Leg]:
    """A guard, and a tracked leg of ten contracts from 60000 with a stop-loss and a take-profit of its own."""
    leg, guard = desk.held(side), desk.guard(**options)
    guard.track(Position("btc-1", BTC, side, 10, 60_000))
    if not bare:
        below, above = (57_000, 66_000) if side == "long" else (66_000, 57_000)
        guard.modify_position("btc-1", stop_loss=below, take_profit=above)
    return guard, leg


def assert_closed_once(desk: Desk, guard: PositionGuard, leg: Leg) -> ClosedPosition:
    """Flat, not reversed, nothing rests, and what was booked is what the venue's books say."""
    book, sign = desk.venue.book, 1 if leg.side == "long" else -1
    assert book.held(leg) == 0
    assert desk.venue.hedge or book.held(SHORT if leg == LONG else LONG) == 0
    assert book.open_orders(leg) == []
    assert desk.exchange.open_orders(leg) == []
    closed = guard.position("btc-1").closed
    assert closed is not None
    fills = book.fills(leg, 0)
    assert [fill.trade_id for fill in closed.fills] == [fill.trade_id for fill in fills]
    gross, fees = sign * sum((fill.price - 60_000) * fill.contracts for fill in fills), sum(fill.fee for fill in fills)
    assert (closed.gross_pnl, closed.fees, closed.net_pnl) == (gross, fees, gross - fees + closed.funding)
    with pytest.raises(PositionAlreadyClosingError):
        guard.close_position("btc-1")
    assert guard.recover() == []
    return closed
