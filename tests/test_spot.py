"""Spot markets of Binance and MEXC through real ccxt clients, against accounts on this machine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from awaited import Awaited
from faults import Strike, StruckExchange
from loopback.server import KEYS, Fault, Reply
from loopback.spot import SpotVenue
from poslock import (
    AsyncPositionGuard,
    CcxtExchange,
    ChangeRefused,
    CloseUnsettled,
    LockLost,
    Position,
    PositionAlreadyClosingError,
    PositionConflict,
    PositionGuard,
    UnsupportedMarket,
)
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    ExchangeUnavailable,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)
from poslock.exchange.port import CloseOrder, Holding, Leg, Order, StopOrder
from systems import elsewhere
from venue import at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Request
    from loopback.spot_books import Books
    from poslock.position import Fill

SYMBOL = "BTC/USDT"
LONG = Leg(SYMBOL, "long")
ORDER, ACCOUNT, OPEN, TRADES = "/v3/order$", "/v3/account$", "/openOrders$", "/myTrades$"
HTML = Reply(502, "<html><body>Bad Gateway</body></html>", {"Content-Type": "text/html"})
DAY_MS = 86_400_000

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.takes_turns,
]
only_binance = pytest.mark.parametrize("name", ["binance"])
only_mexc = pytest.mark.parametrize("name", ["mexc"])


@dataclass
class Desk:
    """A venue, and a bot's way to it: requests are called in the same way with a client of either kind."""

    venue: SpotVenue
    asynchronous: bool
    lock_dir: str
    run: Callable[..., Any]
    clients: list[Any] = field(default_factory=list)
    behind: Any = None
    exchange: Any = None

    @property
    def books(self) -> Books:
        return self.venue.books

    def connect(self, run: Callable[..., Any] | None = None, **settings: Any) -> Any:
        """Another exchange object, as in another process; the exchange from now on."""
        client = self.venue.client(asynchronous=self.asynchronous)
        self.clients.append(client)
        options = {"denies_for": 0.2, "settles_within": 1.0, **settings}
        self.behind = CcxtExchange(client, account="main", market="spot", **options)
        self.exchange = Awaited(self.behind, run or self.run) if self.asynchronous else self.behind
        return self.exchange

    def guard(self, exchange: Any = None, run: Callable[..., Any] | None = None, **options: Any) -> PositionGuard:
        """A guard of the client's kind. Its lease is short: that bounds how long an unknown outcome may come true."""
        settings = {"lock_dir": self.lock_dir, "stale_after": 2.0, **options}
        behind = exchange or self.behind
        if self.asynchronous:
            return Awaited(AsyncPositionGuard(behind, **settings), run or self.run)  # type: ignore[return-value]
        return PositionGuard(behind, **settings)

    def hold(self, amount: Any = "0.5") -> Leg:
        """A balance, seen by a prepared exchange."""
        self.books.give("BTC", amount)
        self.exchange.prepare()
        return LONG

    def closing(
        self, amount: Any, client_id: str = "c1", leg: Leg = LONG, *, age_ms: int = 0, window_ms: int = 5000
    ) -> CloseOrder:
        return CloseOrder(leg, Decimal(amount), client_id, self.exchange.time_ms() - age_ms, window_ms)

    def stop(self, kind: Any, at: Any, client_id: str = "s1", amount: Any = "0.5", *, age_ms: int = 0) -> StopOrder:
        signed_at_ms = self.exchange.time_ms() - age_ms
        return StopOrder(LONG, kind, Decimal(amount), Decimal(at), client_id, signed_at_ms, 5000)

    def held(self, leg: Leg = LONG) -> Decimal:
        """How much the venue says that can be sold."""
        holding = self.exchange.holding(leg)
        return holding.contracts if holding and holding.contracts >= holding.smallest else Decimal(0)

    def told(self, effect: str = "exit", leg: Leg = LONG, since_ms: int | None = None) -> list[Fill]:
        """The purchases or the sales; without *since_ms* those of a day."""
        since_ms = self.venue.clock_ms() - DAY_MS if since_ms is None else since_ms
        return [trade.fill for trade in self.exchange.trades(leg, since_ms) if trade.effect == effect]

    def sent(self, path: str = "/api/v3/order", method: str = "POST") -> list[Request]:
        return [each for each in self.venue.requests if (each.method, each.path) == (method, path)]

    def sales(self) -> list[tuple[str, Decimal]]:
        """The market orders that have sold, and how much."""
        orders = [each for each in self.books.orders if each.side == "SELL" and each.kind == "MARKET"]
        return [(each.client_id or "", each.filled) for each in orders]

    def rest(self, amount: Any, **more: Any) -> Any:
        """A sale that the trader rests by hand: at a limit, unless it is said to be something else."""
        kind = more.pop("kind", "LIMIT")
        if "price" not in more and kind == "LIMIT":
            more["price"] = Decimal(70_000)
        return self.books.enter(more.pop("symbol", SYMBOL), more.pop("side", "SELL"), kind, Decimal(amount), **more)

    def strike_question(self, path: str, what: Any, method: str = "GET", **more: Any) -> None:
        """Once; but aiohttp by itself asks again what changes nothing, if its connection goes away meanwhile."""
        times = 2 if what == "drop" and self.asynchronous else 1
        self.venue.strike(Fault(path, what, method=method, times=times, **more))

    def hang_up(self, *runs: Callable[..., Any]) -> None:
        """Close the connections of the latest clients, each in its loop."""
        for run in reversed(runs):
            client = self.clients.pop()
            if self.asynchronous:
                run(client.close())
            else:
                client.session.close()

    def tick(self) -> None:
        """Let the venue's clock go on."""
        moment_ms = self.venue.clock_ms()
        while self.venue.clock_ms() == moment_ms:
            pass


@pytest.fixture(params=["binance", "mexc"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(tmp_path: Path, name: str, *, asynchronous: bool) -> Iterator[Desk]:
    with SpotVenue(tmp_path / "clock.db", name=name) as venue, asyncio.Runner() as runner:
        for symbol in venue.symbols.values():
            venue.books.prices[symbol] = Decimal("0.05") if symbol == "ETH/BTC" else Decimal(60_000)
        desk = Desk(venue, asynchronous, str(tmp_path / "locks"), runner.run)
        desk.connect()
        yield desk
        desk.hang_up(*[runner.run] * len(desk.clients))


# What the account is.


def test_the_account_is_inspected(desk: Desk) -> None:
    """The clock and the rights of the key are told; where the rights cannot be asked they are unknown."""
    desk.venue.offset_ms = -90_000
    found = desk.exchange.inspect()
    assert 90_000 <= found.clock_ms < 91_000
    assert (found.hedge, found.may_trade, found.may_withdraw) == (None, True, False)
    desk.venue.rights = {"trades": False, "withdraws": True}
    found = desk.exchange.inspect()
    assert (found.may_trade, found.may_withdraw) == (False, True)
    desk.venue.rights = None
    found = desk.exchange.inspect()
    assert (found.hedge, found.may_trade, found.may_withdraw) == (None, None, None)


def test_its_time_is_the_venues(desk: Desk) -> None:
    """Requests are signed by the venue's clock, whatever this machine's says."""
    desk.venue.offset_ms = 3_600_000
    desk.hold()
    assert 0 <= desk.venue.clock_ms() - desk.exchange.time_ms() < 1000
    assert desk.exchange.place(desk.closing("0.5")).state == "filled"


def test_it_is_another_account_than_the_swaps(desk: Desk, name: str) -> None:
    """Positions of one name do not meet, and orders that exist may be denied for a while."""
    client = desk.clients[0]
    exchange = CcxtExchange(client, account="main", market="spot")
    assert exchange.account == f"{name} spot main"
    assert exchange.account != CcxtExchange(client, account="main").account
    assert exchange.denies_for == {"binance": 65, "mexc": 10}[name]


def test_what_is_held_is_the_balance(desk: Desk) -> None:
    """Whether it is free or locked; nothing of another currency."""
    desk.exchange.prepare()
    desk.books.give("ETH", 3)
    assert desk.held() == 0
    desk.hold("0.5")
    assert desk.held() == Decimal("0.5")
    desk.rest("0.2")
    assert desk.held() == Decimal("0.5")
    assert desk.held(Leg("ETH/USDT", "long")) == 3


@pytest.mark.parametrize(
    ("balance", "held"),
    [("0.00000999", 0), ("0.00008", 0), ("0.00009", "0.00009"), ("0.123456789", "0.123456789"), ("1E+1", 10)],
)
def test_what_cannot_be_sold_is_dust(desk: Desk, balance: str, held: Any) -> None:
    """Less than a step, or less than an order must be worth: it is held, and is below the smallest order."""
    desk.hold(balance)
    assert desk.held() == Decimal(held)
    assert desk.exchange.holding(LONG).contracts == Decimal(balance)


@pytest.mark.parametrize("kind", ["amount", "market"])
def test_a_smallest_amount_of_several_steps(desk: Desk, kind: str) -> None:
    """Whether it is the rule for all orders or that for market orders."""
    desk.hold("0.05")
    desk.clients[0].markets[SYMBOL]["limits"][kind] = {"min": 0.1, "max": None}
    assert desk.held() == 0
    desk.hold("0.05")
    assert desk.held() == Decimal("0.1")


def test_what_an_order_must_be_worth_goes_by_the_price(desk: Desk) -> None:
    """A balance that was dust is held again when the price has risen."""
    desk.hold("0.00008")
    assert desk.held() == 0
    desk.books.set_price(SYMBOL, 70_000)
    assert desk.held() == Decimal("0.00008")
    assert desk.exchange.price(LONG) == 70_000


@only_binance
@pytest.mark.parametrize(("applied", "held"), [(True, 0), (False, "0.00008")])
def test_a_worth_that_market_orders_need_not_have(desk: Desk, applied: bool, held: Any) -> None:
    """The venue says whether the rule is for them."""
    desk.hold("0.00008")
    filters = desk.clients[0].markets[SYMBOL]["info"]["filters"]
    filters[-1] = {"filterType": "MIN_NOTIONAL", "minNotional": "5", "applyToMarket": applied}
    assert desk.held() == Decimal(held)


@only_mexc
def test_a_worth_that_market_orders_must_have(desk: Desk) -> None:
    """Where it is not told, that of other orders counts."""
    desk.hold("0.00005")
    assert desk.held() == 0
    del desk.clients[0].markets[SYMBOL]["info"]["quoteAmountPrecisionMarket"]
    assert desk.held() == Decimal("0.00005")


def test_only_long_legs_of_spot_markets_are_known(desk: Desk) -> None:
    """Whatever is asked, it is refused before a request is made."""
    desk.exchange.prepare()
    desk.clients[0].markets["BTC/USDT:USDT"] = {"id": "X", "spot": False, "swap": True}
    asked = len(desk.venue.requests)
    legs = {Leg(SYMBOL, "short"): "short", Leg("NO/USDT", "long"): "no market", Leg("BTC/USDT:USDT", "long"): "no spot"}
    for leg, why in legs.items():
        for question in ("holding", "price", "open_orders"):
            with pytest.raises(UnsupportedMarket, match=why):
                getattr(desk.exchange, question)(leg)
        with pytest.raises(UnsupportedMarket, match=why):
            desk.exchange.place(desk.closing(1, leg=leg))
        with pytest.raises(UnsupportedMarket, match=why):
            desk.exchange.trades(leg, 0)
    assert desk.exchange.holdings([*legs]) == []
    assert len(desk.venue.requests) == asked


def test_what_a_holding_is(desk: Desk, name: str) -> None:
    """Units of the base currency, counted in the quote currency; what they were bought for nobody knows."""
    desk.hold("0.5")
    desk.rest("0.2")
    rules: dict[str, Any] = {"smallest": Decimal("0.00009"), "step": Decimal("0.00001"), "tick": Decimal("0.01")}
    rules["largest"] = {"binance": Decimal(100), "mexc": None}[name]
    expected = Holding(LONG, Decimal("0.5"), None, Decimal(1), inverse=False, settle="USDT", **rules)
    assert desk.exchange.holding(LONG) == expected
    assert desk.exchange.holding(Leg("BTC/USDC", "long")) == replace(
        expected, leg=Leg("BTC/USDC", "long"), settle="USDC"
    )
    assert desk.exchange.holding(Leg("ETH/USDT", "long")) is None
    assert desk.exchange.spot


@pytest.mark.parametrize(
    ("price", "smallest"),
    [(60_000, "0.00009"), (50_000, "0.0001"), (50_001, "0.0001"), (49_999, "0.00011"), (7, "0.71429")],
)
def test_the_smallest_that_can_be_sold(desk: Desk, price: int, smallest: str) -> None:
    """What is worth enough at the price there is, up to a whole step, and an order for it is taken."""
    desk.books.set_price(SYMBOL, price)
    desk.hold(10)
    found = desk.exchange.holding(LONG).smallest
    assert found == Decimal(smallest)
    with pytest.raises(OrderRefused):
        desk.exchange.place(desk.closing(found - Decimal("0.00001")))
    assert desk.exchange.place(desk.closing(found)).filled == found


def test_the_smallest_that_the_market_takes(desk: Desk) -> None:
    """Where that is more than what is worth enough."""
    desk.hold(1)
    desk.clients[0].markets[SYMBOL]["limits"]["market"] = {"min": 0.1, "max": None}
    assert desk.exchange.holding(LONG).smallest == Decimal("0.1")


def test_all_that_is_held_in_one_request(desk: Desk) -> None:
    """Of the legs that are asked about, in their order; a price is asked for where there is something."""
    desk.hold("0.5")
    desk.books.give("COIN3", 7)
    legs = [Leg(f"{base}/USDT", "long") for base in ("NONE", "COIN3", "ETH", "BTC", "COIN3", "COIN4")]
    found = desk.exchange.holdings(legs)
    assert [holding.leg for holding in found] == [legs[1], legs[3]]
    assert len(desk.sent("/api/v3/account", "GET")) == 1
    assert len(desk.sent("/api/v3/ticker/price", "GET")) == 2
    assert found == [desk.exchange.holding(leg) for leg in (legs[1], legs[3])]


def test_holdings_of_nothing(desk: Desk) -> None:
    """Nobody is asked; and before anything is prepared no leg is known, which is no answer."""
    with pytest.raises(ExchangeUnavailable, match="prepare"):
        desk.exchange.holdings([LONG])
    desk.exchange.prepare()
    assert desk.exchange.holdings([]) == desk.exchange.holdings([Leg("NONE/USDT", "long")]) == []
    assert desk.sent("/api/v3/account", "GET") == []


def test_a_balance_cannot_be_adopted(desk: Desk) -> None:
    """Nobody knows what it was bought for; the way out is in the message."""
    desk.hold()
    with pytest.raises(UnsupportedMarket, match=r"track\(\) 'BTC/USDT' with what you paid"):
        desk.guard().adopt(SYMBOL, "long")


def test_there_is_no_funding(desk: Desk) -> None:
    """Nobody pays for holding coins."""
    assert desk.exchange.funding(LONG, 0, 1) == 0


# Orders that sell.


def test_a_close_sells(desk: Desk, name: str) -> None:
    """What was asked, at market, signed as of then and good for as long; and it is told what it did."""
    desk.hold("0.5")
    order = desk.closing("0.2")
    placed = desk.exchange.place(order)
    assert placed == Order(placed.order_id, "c1", "order", LONG, Decimal("0.2"), Decimal("0.2"), "filled")
    assert (desk.books.totals["BTC"], desk.sales()) == (Decimal("0.3"), [("c1", Decimal("0.2"))])
    assert desk.exchange.order(LONG, "c1") == placed
    (request,) = desk.sent()
    said = {key: request.params[key] for key in ("symbol", "side", "type", "quantity", "newClientOrderId")}
    assert list(said.values()) == ["BTCUSDT", "SELL", "MARKET", "0.2", "c1"]
    assert (request.params["timestamp"], request.params["recvWindow"]) == (str(order.signed_at_ms), "5000")


@pytest.mark.parametrize(("symbol", "fee_currency"), [("BTC/USDC", "USDC"), ("ETH/BTC", "BTC")])
def test_other_quote_currencies(desk: Desk, symbol: str, fee_currency: str) -> None:
    """A market is what ccxt says it is; fees come in what a sale brings."""
    leg = Leg(symbol, "long")
    desk.exchange.prepare()
    desk.books.give(symbol.partition("/")[0], 120)
    desk.books.largest = Decimal(1000)
    assert desk.held(leg) == 120
    desk.exchange.place(desk.closing(100, leg=leg))
    (fill,) = desk.told(leg=leg)
    price = desk.books.prices[symbol]
    assert (fill.price, fill.contracts, fill.fee, fill.fee_currency) == (price, Decimal(100), price / 10, fee_currency)


def test_nothing_is_sent_for_what_is_not_held(desk: Desk) -> None:
    """Dust is not held either."""
    desk.hold("0.00008")
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing("0.5"))
    assert desk.sent() == []


def test_a_sale_is_never_for_more_than_there_is(desk: Desk) -> None:
    """Whatever size is asked for; so nothing can go short."""
    desk.hold("0.345678999")
    desk.exchange.place(desk.closing(10))
    assert desk.sales() == [("c1", Decimal("0.34567"))]
    assert desk.books.totals["BTC"] == Decimal("0.000008999")


def test_what_is_too_little_for_an_order_is_refused_here(desk: Desk) -> None:
    """Nothing is sent, and the message says what an order needs."""
    desk.hold("0.5")
    for amount in ("0.00000999", "0.00008"):
        with pytest.raises(OrderRefused, match=r"0\.00001, and a worth of 5") as caught:
            desk.exchange.place(desk.closing(amount))
        assert type(caught.value) is OrderRefused
    assert desk.sent() == []


@only_binance
def test_an_order_is_no_larger_than_the_venue_takes(desk: Desk) -> None:
    """What is beyond the largest market order is left for the next one."""
    desk.books.largest = Decimal("0.4")
    desk.hold(1)
    assert desk.exchange.place(desk.closing(1)).filled == Decimal("0.4")


@pytest.mark.parametrize(("amount", "said"), [("1E+1", "10"), ("0.500000", "0.5"), ("2", "2"), ("0.123456", "0.12345")])
def test_amounts_are_written_plainly(desk: Desk, amount: str, said: str) -> None:
    """No exponent, no idle zeros, and nothing beyond the step."""
    desk.hold(10)
    desk.exchange.place(desk.closing(amount))
    (request,) = desk.sent()
    assert request.params["quantity"] == said


def test_locked_coins_are_blocked_until_they_are_free(desk: Desk) -> None:
    """Orders that rest lock them: that is said, nothing is sent, and without the order they can be sold."""
    desk.hold("0.5")
    desk.rest("0.3")
    with pytest.raises(ReduceOnlyBlocked, match=r"0\.3 BTC are locked, 0\.2 are free"):
        desk.exchange.place(desk.closing("0.5"))
    assert desk.sent() == []
    (resting,) = desk.exchange.open_orders(LONG)
    desk.exchange.cancel(resting)
    assert desk.exchange.place(desk.closing("0.5")).filled == Decimal("0.5")


def test_free_coins_are_sold_past_orders_that_lock_others(desk: Desk) -> None:
    """What is free is enough for what was asked."""
    desk.hold("0.5")
    desk.rest("0.3")
    assert desk.exchange.place(desk.closing("0.2")).filled == Decimal("0.2")
    assert len(desk.exchange.open_orders(LONG)) == 1


def test_coins_that_no_order_of_this_market_locks(desk: Desk) -> None:
    """The free ones are sold; if there are none it is said, and a second later it may be otherwise."""
    desk.hold("0.5")
    desk.rest("0.3", symbol="BTC/USDC")
    assert desk.exchange.place(desk.closing("0.5")).filled == Decimal("0.2")
    with pytest.raises(NotServed, match=r"0\.3 BTC are locked, 0 are free, and no order of BTC/USDT"):
        desk.exchange.place(desk.closing("0.3", "c2"))
    desk.books.held_back["BTC"] = Decimal("0.00008")  # a withdrawal that is under way
    assert len(desk.sent()) == 1


def test_coins_that_were_sold_meanwhile(desk: Desk) -> None:
    """They were there when it was looked: the venue says that they are not, and so does a second look."""
    desk.hold("0.5")

    def sold(_: Request) -> None:
        desk.books.sell(SYMBOL, "0.5")

    desk.venue.strike(Fault(ORDER, sold, method="POST"))
    with pytest.raises(NothingToReduce, match=r"insufficient balance|Oversold") as caught:
        desk.exchange.place(desk.closing("0.5"))
    assert type(caught.value) is NothingToReduce
    assert desk.books.totals["BTC"] == 0


def test_coins_that_were_locked_meanwhile(desk: Desk) -> None:
    """The venue says the same; but there is something, and it can be had."""
    desk.hold("0.5")

    def locked(_: Request) -> None:
        desk.rest("0.5")

    desk.venue.strike(Fault(ORDER, locked, method="POST"))
    with pytest.raises(ReduceOnlyBlocked, match=r"insufficient balance|Oversold"):
        desk.exchange.place(desk.closing("0.5"))
    assert desk.books.totals["BTC"] == Decimal("0.5")


def test_coins_that_are_gone_or_not_nobody_says(desk: Desk) -> None:
    """It was refused, so it is not unknown; and no orders are given up for it without proof."""
    desk.hold("0.5")
    desk.venue.strike(
        Fault(ORDER, desk.venue.refusal("short"), method="POST"), Fault(ACCOUNT, HTML, method="GET", spared=1)
    )
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing("0.5"))


@pytest.mark.parametrize(
    ("what", "expected"), [("drop", NotServed), (HTML, NotServed), (Reply(429, "<html></html>"), RateLimited)]
)
def test_nothing_is_sent_when_what_is_held_cannot_be_read(desk: Desk, what: Any, expected: type[Exception]) -> None:
    """The outcome is known: none."""
    desk.hold("0.5")
    desk.rest("0.4")
    for path in (ACCOUNT, "/ticker/price$", OPEN):
        desk.strike_question(path, what)
        with pytest.raises(NotServed) as caught:
            desk.exchange.place(desk.closing("0.5"))
        assert type(caught.value) is expected
    assert desk.sent() == []


# What became of a request.

UNKNOWN = {"msg": "Unknown error, please check your request or try again later."}
SAID: dict[str, list[Any]] = {
    "binance": [
        (400, -1021, "Timestamp for this request is outside of the recvWindow.", RequestExpired),
        (400, -1022, "Signature for this request is not valid.", KeysRefused),
        (401, -2015, "Invalid API-key, IP, or permissions for action.", KeysRefused),
        (429, -1003, "Too many requests queued.", RateLimited),
        (418, -1003, "Way too much request weight used; IP banned until 1700000000000.", RateLimited),
        (400, -1015, "Too many new orders; current limit is 50 orders per TEN_SECONDS.", RateLimited),
        (503, -1016, "This service is no longer available.", UnderMaintenance),
        (400, -1013, "Market is closed.", UnderMaintenance),
        (400, 1, "System is under maintenance.", UnderMaintenance),
        (400, -1013, "Filter failure: LOT_SIZE", OrderRefused),
        (400, -1013, "Filter failure: NOTIONAL", OrderRefused),
        (400, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE", OrderRefused),
        (400, -1102, "Mandatory parameter 'quantity' was not sent.", OrderRefused),
        (400, -1121, "Invalid symbol.", OrderRefused),
        (400, -2010, "This symbol is not permitted for this account.", OrderRefused),
        (400, -2010, "Stop price would trigger immediately.", StopWouldTrigger),
        (400, -2010, "This account may not place or cancel orders.", OrderRefused),
        (400, -2010, "Duplicate order sent.", DuplicateClientOrderId),
        (503, -1003, UNKNOWN["msg"], OutcomeUnknown),
        (400, -2010, UNKNOWN["msg"], OutcomeUnknown),
        (503, None, UNKNOWN["msg"], OutcomeUnknown),
        (500, -1000, "An unknown error occurred while processing the request.", OutcomeUnknown),
        (400, -1000, "System abnormality", OutcomeUnknown),
        (400, -1006, "An unexpected response was received from the message bus.", OutcomeUnknown),
        (408, -1007, "Timeout waiting for response from backend server.", OutcomeUnknown),
        (503, -1008, "Server is currently overloaded with other requests.", OutcomeUnknown),
        (400, -99_999, "Something that is documented nowhere.", OutcomeUnknown),
    ],
    "mexc": [
        (400, 700003, "Timestamp for this request is outside of the recvWindow.", RequestExpired),
        (400, 10073, "invalid Request-Time", RequestExpired),
        (400, 700002, "Signature for this request is not valid.", KeysRefused),
        (400, 10072, "invalid access key", KeysRefused),
        (400, 700006, "IP non white list", KeysRefused),
        (400, 700007, "No permission to access the endpoint", KeysRefused),
        (429, 429, "Too Many Requests", RateLimited),
        (403, 403, "Access Denied", NotServed),
        (400, 30000, "suspended transaction for the symbol", UnderMaintenance),
        (400, 30016, "trading disabled", UnderMaintenance),
        (400, 30025, "no exist opponent order", NotServed),
        (400, 30002, "The minimum transaction volume cannot be less than :5USDT", OrderRefused),
        (400, 30019, "api market order is disabled", OrderRefused),
        (400, 30028, "The currency triggered the platform risk control, the selling is suspended", OrderRefused),
        (400, 10096, "amount decimal places is too long", OrderRefused),
        (400, -1121, "Invalid symbol.", OrderRefused),
        (400, 700005, "recvWindow must less than 60000", OrderRefused),
        (500, 500, "Internal error", OutcomeUnknown),
        (503, 503, "service not available, please try again", OutcomeUnknown),
        (504, 504, "Gateway Time-out", OutcomeUnknown),
        (400, 20002, "Internal system error please contact support", OutcomeUnknown),
        (400, 99999, "something that is documented nowhere", OutcomeUnknown),
    ],
}


def test_the_code_says_what_became_of_an_order(desk: Desk, name: str) -> None:
    """Or the words, where those decide; not the status, nor ccxt's class for it."""
    desk.hold()
    for status, code, words, expected in SAID[name]:
        body = {"msg": words} if code is None else {"code": code, "msg": words}
        desk.venue.strike(Fault(ORDER, Reply(status, body), method="POST"))
        with pytest.raises(ExchangeError) as caught:
            desk.exchange.place(desk.closing("0.5"))
        assert type(caught.value) is expected, (code, words)
        desk.exchange.prepare()
    assert desk.sales() == []
    assert desk.exchange.place(desk.closing("0.5")).filled == Decimal("0.5")


@pytest.mark.parametrize("what", ["lose", "cut", "garbage"])
def test_an_answer_that_was_lost_leaves_the_outcome_unknown(desk: Desk, what: Any) -> None:
    """The order was taken, and is found by its client order id."""
    desk.hold()
    desk.venue.strike(Fault(ORDER, what, method="POST"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing("0.2"))
    assert desk.exchange.order(LONG, "c1").filled == Decimal("0.2")
    assert len(desk.sent()) == 1


@pytest.mark.parametrize("what", ["drop", HTML, Reply(403, "<html>no</html>"), Reply(504, ""), Reply(200, "")])
def test_an_answer_from_elsewhere_leaves_the_outcome_unknown(desk: Desk, what: Any) -> None:
    """A gate, a proxy or a broken line does not know what the venue did."""
    desk.hold()
    desk.venue.strike(Fault(ORDER, what, method="POST"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing("0.5"))
    assert desk.exchange.order(LONG, "c1") is None
    assert len(desk.sent()) == 1


def test_a_request_that_is_held_up_is_refused_by_its_timestamp(desk: Desk, name: str) -> None:
    """It carries when it was signed and for how long it is good, so the venue refuses it when it comes late."""
    desk.hold()
    desk.venue.strike(Fault(ORDER, 0.5, method="POST"))
    with pytest.raises(RequestExpired) as caught:
        desk.exchange.place(desk.closing("0.5", window_ms=300))
    assert caught.value.code == {"binance": "-1021", "mexc": "700003"}[name]
    assert desk.sales() == []


def test_a_request_that_was_signed_long_ago_is_refused(desk: Desk) -> None:
    """A close that went out under a lock that is gone does nothing."""
    desk.hold()
    with pytest.raises(RequestExpired):
        desk.exchange.place(desk.closing("0.5", age_ms=5100))
    assert desk.sales() == []


def test_a_request_from_the_future_is_refused(desk: Desk) -> None:
    """A second ahead of the venue's clock is too much; then the clock is asked again."""
    desk.hold()
    with pytest.raises(RequestExpired):
        desk.exchange.place(desk.closing("0.5", age_ms=-1500))
    desk.exchange.place(desk.closing("0.5"))
    assert len(desk.sent("/api/v3/time", "GET")) == 2


def test_keys_that_are_not_accepted(desk: Desk) -> None:
    """A wrong secret or a wrong key is told apart from a refused order, and is in no message."""
    desk.hold()
    for credential in ("secret", "apiKey"):
        setattr(desk.clients[0], credential, "another-one-DO-NOT-LOG")
        with pytest.raises(KeysRefused) as caught:
            desk.held()
        assert "DO-NOT-LOG" not in str(caught.value)
        with pytest.raises(KeysRefused) as caught:
            desk.exchange.place(desk.closing("0.5"))
        assert "DO-NOT-LOG" not in str(caught.value)
        setattr(desk.clients[0], credential, KEYS[credential])
    assert desk.sales() == []


@pytest.mark.parametrize(
    "what", ["drop", "garbage", "cut", HTML, Reply(200, {}), Reply(200, [{}]), Reply(500, UNKNOWN)]
)
def test_a_question_without_an_answer(desk: Desk, what: Any) -> None:
    """It says so, and is answered when it is put again."""
    desk.hold()
    desk.rest("0.2")
    desk.books.sell(SYMBOL, "0.1")
    since_ms = desk.venue.clock_ms() - DAY_MS
    questions: list[tuple[str, Callable[[], Any]]] = [
        ("/ticker/price$", lambda: desk.exchange.price(LONG)),
        (ACCOUNT, desk.held),
        (ACCOUNT, lambda: desk.exchange.holdings([LONG])),
        (OPEN, lambda: desk.exchange.open_orders(LONG)),
        (TRADES, lambda: desk.told(since_ms=since_ms)),
        (ORDER, lambda: desk.exchange.order(LONG, "c1")),
    ]
    for path, question in questions:
        desk.strike_question(path, what)
        with pytest.raises(ExchangeUnavailable):
            question()
        question()


# Orders by their ids.


def test_an_order_that_is_denied_is_found_later(desk: Desk, name: str) -> None:
    """It was taken; what the venue says of it then is passed on, and how long to go on asking is not decided here."""
    desk.hold()
    desk.venue.denies = 60.0
    placed = desk.exchange.place(desk.closing("0.2"))
    state = {"binance": ("filled", Decimal("0.2")), "mexc": ("open", 0)}[name]
    assert (placed.state, placed.filled) == state
    assert desk.exchange.order(LONG, "c1") is None
    desk.venue.denies = 0.0
    assert desk.exchange.order(LONG, "c1").filled == Decimal("0.2")


@only_mexc
@pytest.mark.parametrize("what", ["drop", HTML, "garbage"])
def test_an_order_that_was_taken_and_cannot_be_read(desk: Desk, what: Any) -> None:
    """The answer had its id, so it is no doubt."""
    desk.hold()
    desk.strike_question(ORDER, what)
    assert desk.exchange.place(desk.closing("0.2")).state == "open"
    assert desk.exchange.order(LONG, "c1").filled == Decimal("0.2")


def test_ways_to_say_that_there_is_no_such_order(desk: Desk, name: str) -> None:
    """Each of the venue's codes for it; any other one is no answer."""
    desk.hold()
    for code in {"binance": (-2011, -2013, -2026), "mexc": (-2011, -2013, 22222, 30026)}[name]:
        desk.venue.strike(Fault(ORDER, Reply(400, {"code": code, "msg": "no"}), method="GET"))
        assert desk.exchange.order(LONG, "c1") is None
    desk.venue.strike(Fault(ORDER, Reply(400, {"code": -1121, "msg": "Invalid symbol."}), method="GET"))
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.order(LONG, "c1")


def test_an_order_that_buys_is_none_of_ours(desk: Desk) -> None:
    """Whatever its id is."""
    desk.hold()
    desk.books.enter(SYMBOL, "BUY", "LIMIT", Decimal("0.1"), price=Decimal(50_000), client_id="c1")
    assert desk.exchange.order(LONG, "c1") is None


def test_an_order_that_fills_in_part_has_ended(desk: Desk) -> None:
    """A market order does not wait for the rest; it says what it has sold."""
    desk.books.liquidity = Decimal("0.3")
    desk.hold()
    placed = desk.exchange.place(desk.closing("0.5"))
    assert (placed.filled, placed.state, placed.contracts) == (Decimal("0.3"), "canceled", Decimal("0.5"))


@only_binance
def test_a_client_order_id_is_taken_while_its_order_rests(desk: Desk) -> None:
    """A second order under it is refused; when the first has ended, the id is free, and keeps nobody from selling."""
    desk.hold()
    first = desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "c1", "0.1"))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing("0.2", "c1"))
    assert desk.exchange.order(LONG, "c1") == first
    for _ in range(2):
        desk.exchange.place(desk.closing("0.2", "c2"))
    assert desk.sales() == [("c2", Decimal("0.2"))] * 2


@only_mexc
def test_a_second_order_under_one_id_that_is_refused(desk: Desk) -> None:
    """With a code that nobody documents: the outcome is unknown, and the id stands for the first."""
    desk.hold()
    first = desk.exchange.place(desk.closing("0.2"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing("0.1"))
    assert desk.exchange.order(LONG, "c1") == first


@only_mexc
def test_a_silent_duplicate_is_not_taken_for_a_new_order(desk: Desk) -> None:
    """The venue may answer with the first order: it is older than the request."""
    desk.venue.offset_ms = -4000
    desk.hold()
    first = desk.exchange.place(desk.closing("0.2"))
    desk.venue.offset_ms, desk.venue.duplicates = 0, "silent"
    desk.connect()
    desk.exchange.prepare()
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing("0.1"))
    assert desk.exchange.order(LONG, "c1") == first
    assert desk.sales() == [("c1", Decimal("0.2"))]


# Stop orders, and what else rests.


@only_mexc
@pytest.mark.parametrize("kind", ["stop_loss", "take_profit"])
def test_where_there_are_no_stop_orders(desk: Desk, kind: str) -> None:
    """Nothing is sent, and the message says what is left to do."""
    desk.hold()
    with pytest.raises(OrderRefused, match="no stop orders on spot markets"):
        desk.exchange.place_stop(desk.stop(kind, 57_000))
    assert desk.exchange.stop(desk.stop(kind, 57_000)) is None
    guard = desk.guard()
    guard.track(Position("btc-1", SYMBOL, "long", "0.5", 60_000))
    with pytest.raises(ChangeRefused, match="no stop orders on spot markets"):
        guard.modify_position("btc-1", stop_loss=57_000)
    assert desk.sent() == []


@only_binance
@pytest.mark.parametrize(("kind", "at"), [("stop_loss", 57_000), ("take_profit", 66_000)])
def test_a_stop_rests_is_found_and_is_cancelled(desk: Desk, kind: str, at: int) -> None:
    """With the price that triggers it, whoever cancels it, and however often."""
    desk.hold()
    order = desk.stop(kind, at)
    placed = desk.exchange.place_stop(order)
    assert placed == Order(placed.order_id, "s1", kind, LONG, Decimal("0.5"), Decimal(0), "open", Decimal(at))
    assert desk.exchange.open_orders(LONG) == [placed]
    assert desk.exchange.stop(order) == desk.exchange.order(LONG, "s1") == placed
    (request,) = desk.sent()
    assert (request.params["type"], request.params["stopPrice"]) == (kind.upper(), str(at))
    desk.connect()
    desk.exchange.prepare()
    for _ in range(2):
        desk.exchange.cancel(placed)
    assert desk.exchange.open_orders(LONG) == []
    assert desk.exchange.order(LONG, "s1").state == "canceled"


@only_binance
@pytest.mark.parametrize(("kind", "at"), [("stop_loss", 57_000), ("take_profit", 66_000)])
def test_a_stop_that_has_triggered_says_what_it_sold(desk: Desk, kind: str, at: int) -> None:
    """Under its own id."""
    desk.hold()
    desk.exchange.place_stop(desk.stop(kind, at))
    desk.books.set_price(SYMBOL, at)
    found = desk.exchange.stop(desk.stop(kind, at))
    assert (found.family, found.filled, found.state) == (kind, Decimal("0.5"), "filled")
    (fill,) = desk.told()
    assert (fill.client_order_id, fill.price) == ("s1", Decimal(at))


@only_binance
def test_a_stop_that_would_execute_at_once_is_refused(desk: Desk) -> None:
    """Nothing rests."""
    desk.hold()
    with pytest.raises(OrderRefused, match="would trigger immediately"):
        desk.exchange.place_stop(desk.stop("stop_loss", 61_000))
    assert desk.exchange.open_orders(LONG) == []


@only_binance
def test_a_stop_is_for_all_of_it_or_not_at_all(desk: Desk) -> None:
    """It needs the coins free: one that is for less than was asked would leave some bare."""
    desk.hold("0.5")
    desk.rest("0.3")
    with pytest.raises(ReduceOnlyBlocked, match=r"0\.3 BTC are locked by orders, so 0\.5 cannot be had"):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    assert desk.sent() == []
    assert desk.exchange.place_stop(desk.stop("stop_loss", 57_000, amount="0.2")).state == "open"


@only_binance
def test_a_stop_is_for_no_more_than_is_held(desk: Desk) -> None:
    """Down to the step, whatever size is asked for; for what is not held there is none."""
    desk.exchange.prepare()
    with pytest.raises(NothingToReduce):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    desk.hold("0.345678")
    assert desk.exchange.place_stop(desk.stop("stop_loss", 57_000)).contracts == Decimal("0.34567")


@only_binance
def test_a_stop_that_was_signed_long_ago_is_refused(desk: Desk) -> None:
    """As a close is."""
    desk.hold()
    with pytest.raises(RequestExpired):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000, age_ms=5100))
    assert desk.exchange.open_orders(LONG) == []


def test_every_sale_that_rests_on_the_market_is_listed(desk: Desk) -> None:
    """Of any type; no purchase, no other market, and none that waits for a purchase of its own."""
    desk.hold(5)
    desk.rest("0.1", client_id="limit")
    desk.rest("0.1", kind="STOP_LOSS_LIMIT", trigger=Decimal(57_000), price=Decimal(56_000), client_id="stop")
    desk.rest("0.1", kind="TAKE_PROFIT", trigger=Decimal(66_000), client_id="profit")
    desk.rest("0.1", kind="STOP_LOSS", trailing=100, client_id="trail")
    desk.rest("0.1", side="BUY", price=Decimal(50_000), client_id="entry")
    desk.rest("0.1", symbol="BTC/USDC", client_id="elsewhere")
    desk.rest(3, status="PENDING_NEW", client_id="later")
    listed = desk.exchange.open_orders(LONG)
    assert [(each.client_order_id, each.family, each.trigger_price) for each in listed] == [
        ("limit", "order", None),
        ("stop", "stop_loss", 57_000),
        ("profit", "take_profit", 66_000),
        ("trail", "trailing", None),
    ]
    for each in listed:
        desk.exchange.cancel(each)
    assert desk.exchange.open_orders(LONG) == []
    assert [each.client_id for each in desk.books.orders if each.rests] == ["entry", "elsewhere", "later"]


@only_binance
def test_an_oco_list_is_two_orders_for_one_amount(desk: Desk) -> None:
    """Cancelling one of them cancels both, and the other one is then no error."""
    desk.hold("0.5")
    desk.rest("0.5", kind="LIMIT_MAKER", price=Decimal(66_000), list_number=1)
    desk.rest("0.5", kind="STOP_LOSS_LIMIT", trigger=Decimal(57_000), price=Decimal(56_000), list_number=1)
    listed = desk.exchange.open_orders(LONG)
    assert [each.family for each in listed] == ["order", "stop_loss"]
    assert desk.held() == Decimal("0.5")
    for each in listed:
        desk.exchange.cancel(each)
    assert desk.exchange.open_orders(LONG) == []
    assert desk.exchange.place(desk.closing("0.5")).state == "filled"


@pytest.mark.parametrize("what", ["drop", HTML, "garbage", Reply(400, {"code": -99_999, "msg": "no"})])
def test_a_cancel_that_failed_says_so(desk: Desk, what: Any) -> None:
    """Unless the order is gone, which is what was wanted."""
    desk.hold()
    desk.rest("0.2")
    (resting,) = desk.exchange.open_orders(LONG)
    desk.strike_question(ORDER, what, "DELETE")
    if what == "garbage":  # it is done, and nothing in the answer is needed
        desk.exchange.cancel(resting)
        return
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.cancel(resting)
    assert desk.exchange.open_orders(LONG) == [resting]
    desk.exchange.cancel(resting)


# Trades.


def test_purchases_are_entries_and_sales_are_exits(desk: Desk) -> None:
    """By whomever, since then, oldest first, with their fees as they are; other markets are none of it."""
    desk.exchange.prepare()
    desk.venue.offset_ms = -10_000
    desk.books.buy(SYMBOL, "0.1")
    desk.venue.offset_ms = 0
    desk.books.give("BTC", 1)
    since_ms = desk.venue.clock_ms() - 5000
    desk.books.buy(SYMBOL, "0.5")
    desk.books.sell("BTC/USDC", "0.1")
    placed = desk.exchange.place(desk.closing("0.2"))
    desk.books.set_price(SYMBOL, 61_000)
    desk.books.sell(SYMBOL, "0.05")
    told = desk.exchange.trades(LONG, since_ms)
    assert [(each.effect, each.fill.contracts, each.fill.fee, each.fill.fee_currency) for each in told] == [
        ("entry", Decimal("0.5"), Decimal("0.0005"), "BTC"),
        ("exit", Decimal("0.2"), 12, "USDT"),
        ("exit", Decimal("0.05"), Decimal("3.05"), "USDT"),
    ]
    assert [each.fill.price for each in told] == [60_000, 60_000, 61_000]
    assert told[1].order_id == placed.order_id
    assert told[1].fill.client_order_id == "c1"
    assert len({each.fill.trade_id for each in told}) == 3
    assert len(desk.exchange.trades(LONG, since_ms - DAY_MS)) == 4


@pytest.mark.parametrize("newest_first", [True, False])
def test_trades_of_one_second_stay_in_order(desk: Desk, name: str, *, newest_first: bool) -> None:
    """Whole seconds, some rounded up and some down, would turn them round."""
    desk.venue.newest_first = newest_first
    desk.exchange.prepare()
    for offset_ms in (-9000, -9000, -9000, -9000, -9000, -9000, -1000):
        desk.venue.offset_ms = offset_ms
        desk.books.buy(SYMBOL, "0.2")
        desk.books.sell(SYMBOL, "0.1")
    desk.venue.offset_ms = 0
    told = desk.exchange.trades(LONG, desk.venue.clock_ms() - DAY_MS)
    assert [each.effect for each in told] == ["entry", "exit"] * 7
    numbers = [int(each.fill.trade_id.removesuffix("X1")) for each in told]
    assert numbers == sorted(numbers)
    times = [each.fill.at_ms for each in told]
    assert (times != sorted(times)) == (name == "mexc")


def test_what_was_not_asked_for_is_not_told(desk: Desk) -> None:
    """Should the venue tell more than the time that it was asked about."""
    desk.hold()
    desk.exchange.place(desk.closing("0.2"))
    (fill,) = desk.told()
    row = {"orderId": 1, "price": "1", "qty": "1", "commission": "0", "commissionAsset": "USDT"}
    rows = [{**row, "id": each, "isBuyer": False, "time": fill.at_ms + each} for each in (-1, 0)]
    desk.venue.strike(Fault(TRADES, Reply(200, rows)))
    assert [each.at_ms for each in desk.told(since_ms=fill.at_ms)] == [fill.at_ms]


def test_fees_in_a_currency_of_the_venues_own(desk: Desk, name: str) -> None:
    """They are told as they are."""
    desk.books.pays_fees_in = coin = {"binance": "BNB", "mexc": "MX"}[name]
    desk.books.give(coin, 1000)
    desk.hold()
    desk.exchange.place(desk.closing("0.2"))
    (fill,) = desk.told()
    assert (fill.fee, fill.fee_currency) == (Decimal(12), coin)


@only_binance
def test_orders_of_fills_are_looked_up_once(desk: Desk) -> None:
    """Trades do not name the client order id; an order that is denied is asked for again."""
    desk.hold()
    desk.books.liquidity = Decimal("0.1")
    desk.exchange.place(desk.closing("0.2"))
    desk.exchange.place(desk.closing("0.2", "c2"))
    since_ms = desk.venue.clock_ms() - DAY_MS
    desk.venue.denies = 60.0
    assert [fill.client_order_id for fill in desk.told(since_ms=since_ms)] == [None, None]
    desk.venue.denies = 0.0
    for _ in range(2):
        assert [fill.client_order_id for fill in desk.told(since_ms=since_ms)] == ["c1", "c2"]
    assert len(desk.sent("/api/v3/order", "GET")) == 4


def test_orders_of_purchases_are_not_looked_up(desk: Desk) -> None:
    """No close is among them."""
    desk.exchange.prepare()
    desk.books.buy(SYMBOL, "0.5")
    assert [trade.client_order_id for trade in desk.told("entry")] == [None]
    assert desk.sent("/api/v3/order", "GET") == []


def test_orders_of_two_markets_may_have_one_number(desk: Desk) -> None:
    """The venue counts them by market, so they are told apart by it."""
    desk.hold(2)
    other = Leg("BTC/USDC", "long")
    desk.exchange.place(desk.closing("0.2", "c1"))
    desk.exchange.place(desk.closing("0.2", "c2", other))
    since_ms = desk.venue.clock_ms() - DAY_MS
    told = [fill.client_order_id for leg in (LONG, other) for fill in desk.told(leg=leg, since_ms=since_ms)]
    assert told == ["c1", "c2"]


@pytest.mark.parametrize("keeps", ["newest", "oldest"])
def test_all_trades_are_told(desk: Desk, keeps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages it takes, and at MEXC whichever end of one is left out."""
    monkeypatch.setattr(type(desk.behind._venue), "page", 3)
    desk.venue.page, desk.venue.page_keeps = 3, keeps
    desk.hold(5)
    since_ms = desk.venue.clock_ms() - 30_000
    for number in range(8):
        desk.venue.offset_ms = -3000 * (8 - number)
        desk.books.sell(SYMBOL, f"0.{number + 1}")
    desk.venue.offset_ms = 0
    told = [fill.contracts for fill in desk.told(since_ms=since_ms)]
    assert told == [Decimal(f"0.{number + 1}") for number in range(8)]


@only_mexc
def test_more_fills_in_one_moment_than_can_be_told_are_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather no answer than a part of it."""
    monkeypatch.setattr(type(desk.behind._venue), "page", 1)
    desk.venue.page = 1
    desk.hold()
    desk.exchange.place(desk.closing("0.2"))
    with pytest.raises(ExchangeUnavailable, match="in one millisecond"):
        desk.told(since_ms=desk.venue.clock_ms() - 1000)


def test_fills_of_weeks_are_told(desk: Desk, name: str) -> None:
    """At Binance in one question, at MEXC piece by piece, of which the past ones are asked for once."""
    desk.hold(5)
    now_ms = desk.venue.clock_ms()
    for days in (20, 10, 3, 0):
        desk.venue.offset_ms = -days * DAY_MS
        desk.books.sell(SYMBOL, "0.1")
    for _ in range(2):
        fills = desk.told(since_ms=now_ms - 22 * DAY_MS)
        assert [(now_ms + 5000 - fill.at_ms) // DAY_MS for fill in fills] == [20, 10, 3, 0]
    assert len(desk.sent("/api/v3/myTrades", "GET")) == {"binance": 1 + 1, "mexc": 4 + 1}[name]


@only_mexc
def test_what_was_sold_long_ago_is_told_no_more(desk: Desk) -> None:
    """The venue tells a month, and refuses to be asked about more."""
    desk.hold(5)
    now_ms = desk.venue.clock_ms()
    for days in (40, 27, 0):
        desk.venue.offset_ms = -days * DAY_MS
        desk.books.sell(SYMBOL, "0.1")
    fills = desk.told(since_ms=now_ms - 300 * DAY_MS)
    assert [(now_ms + 5000 - fill.at_ms) // DAY_MS for fill in fills] == [27, 0]


# The guard.


def tracked(desk: Desk, amount: Any = "0.5", **options: Any) -> PositionGuard:
    """A guard, and a tracked position that was bought at 60000."""
    desk.hold(amount)
    guard = desk.guard(**options)
    guard.track(Position("btc-1", SYMBOL, "long", amount, 60_000))
    return guard


def assert_closed_once(desk: Desk, guard: PositionGuard, amount: Any = "0.5", *, left: Any = 0) -> None:
    """Sold once and booked once, nothing rests, and the P&L is that of the sales in the books."""
    sold = [each for each in desk.books.trades if each.order.side == "SELL" and each.order.symbol == SYMBOL]
    assert sum(each.quantity for each in sold) == Decimal(amount)
    assert desk.books.totals["BTC"] == Decimal(left)
    assert [each for each in desk.books.orders if each.rests and each.side == "SELL"] == []
    closed = guard.position("btc-1").closed
    assert closed is not None
    assert [(fill.price, fill.contracts, fill.fee) for fill in closed.fills] == [
        (each.price, each.quantity, each.fee) for each in sold
    ]
    gross = sum(((each.price - 60_000) * each.quantity for each in sold), Decimal(0))
    fees = sum((each.fee for each in sold), Decimal(0))
    assert (closed.gross_pnl, closed.fees, closed.funding) == (gross, fees, Decimal(0))
    assert closed.net_pnl == gross - fees
    with pytest.raises(PositionAlreadyClosingError):
        guard.close_position("btc-1")
    assert guard.recover() == []


def test_a_position_from_its_tracking_to_its_booking(desk: Desk) -> None:
    """A part is taken off, a limit order of the trader's locks some, and all of it is sold and booked once."""
    guard = tracked(desk)
    desk.books.set_price(SYMBOL, 61_000)
    changed = guard.modify_position("btc-1", reduce_by="0.1")
    assert changed.contracts == Decimal("0.4")
    desk.rest("0.3")
    desk.books.set_price(SYMBOL, 62_000)
    closed = guard.close_position("btc-1")
    assert closed.gross_pnl == Decimal("0.1") * 1000 + Decimal("0.4") * 2000
    assert_closed_once(desk, guard)
    assert len({fill.client_order_id for fill in closed.fills}) == 2


@only_binance
def test_a_stop_loss_rests_on_the_tick_and_the_step(desk: Desk) -> None:
    """Its price is rounded towards the market, and its size cut down, as the market's filters want them."""
    guard = tracked(desk, "0.499999")
    assert guard.modify_position("btc-1", stop_loss="57000.123456").stop_loss == Decimal("57000.13")
    assert [each.contracts for each in desk.exchange.open_orders(LONG)] == [Decimal("0.49999")]


@only_binance
def test_a_position_with_a_stop_loss(desk: Desk) -> None:
    """It is set, cannot be moved while it locks all there is, can be set anew, and gives way to the close."""
    guard = tracked(desk)
    assert guard.modify_position("btc-1", stop_loss=57_000).stop_loss == 57_000
    with pytest.raises(ChangeRefused, match=r"locked by orders.*remove those first; the old one stays"):
        guard.modify_position("btc-1", stop_loss=58_000)
    with pytest.raises(ChangeRefused, match="locked by orders"):
        guard.modify_position("btc-1", take_profit=66_000)
    with pytest.raises(ChangeRefused, match=r"0\.5 BTC are locked, 0 are free: orders rest on BTC/USDT"):
        guard.modify_position("btc-1", reduce_by="0.1")
    (old,) = desk.exchange.open_orders(LONG)
    assert (old.family, old.trigger_price) == ("stop_loss", 57_000)
    guard.modify_position("btc-1", stop_loss=None)
    assert guard.modify_position("btc-1", stop_loss=58_000).stop_loss == 58_000
    guard.close_position("btc-1")
    assert_closed_once(desk, guard)


@only_binance
def test_a_position_that_its_stop_has_closed_is_booked(desk: Desk) -> None:
    """Nothing is sold twice."""
    guard = tracked(desk)
    guard.modify_position("btc-1", stop_loss=57_000)
    desk.books.set_price(SYMBOL, 56_900)
    guard.close_position("btc-1")
    assert desk.sales() == []
    assert_closed_once(desk, guard)


def test_a_stop_loss_gives_way_last(desk: Desk) -> None:
    """Both lock a part; the limit order is not enough, so the stop-loss goes too."""
    guard = tracked(desk)
    desk.rest("0.2")
    desk.rest("0.3", kind="STOP_LOSS", trigger=Decimal(57_000))
    guard.close_position("btc-1")
    assert [request.params["orderId"][-1] for request in desk.sent(method="DELETE")] == ["1", "2"]
    assert_closed_once(desk, guard)


@only_binance
def test_an_oco_list_gives_way(desk: Desk) -> None:
    """Both of its orders go with the first."""
    guard = tracked(desk)
    desk.rest("0.5", kind="LIMIT_MAKER", price=Decimal(66_000), list_number=1)
    desk.rest("0.5", kind="STOP_LOSS_LIMIT", trigger=Decimal(57_000), price=Decimal(56_000), list_number=1)
    guard.close_position("btc-1")
    assert_closed_once(desk, guard)


def test_a_close_whose_answer_was_lost_is_not_sent_again(desk: Desk) -> None:
    """The order is found by its client order id."""
    guard = tracked(desk)
    desk.venue.strike(Fault(ORDER, "lose", method="POST"))
    guard.close_position("btc-1")
    assert len(desk.sales()) == 1
    assert_closed_once(desk, guard)


def test_a_close_that_never_arrived_is_sent_again(desk: Desk) -> None:
    """Once it can no longer arrive; under the same id."""
    guard = tracked(desk)
    desk.venue.strike(Fault(ORDER, "drop", method="POST"))
    guard.close_position("btc-1")
    first, second = (request.params["newClientOrderId"] for request in desk.sent())
    assert first == second
    assert_closed_once(desk, guard)


def test_a_close_that_is_denied_for_a_while_is_not_sent_again(desk: Desk) -> None:
    """The answer was lost, and the order is not found at once."""
    desk.connect(denies_for=1.5)
    guard = tracked(desk)
    desk.venue.denies = 1.0
    desk.venue.strike(Fault(ORDER, "lose", method="POST"))
    guard.close_position("btc-1")
    assert len(desk.sales()) == 1
    assert_closed_once(desk, guard)


def test_a_close_that_fills_in_parts_is_finished(desk: Desk) -> None:
    """What is left when the first order has ended goes out as the next one."""
    desk.books.liquidity = Decimal("0.3")
    guard = tracked(desk)
    guard.close_position("btc-1")
    assert [filled for _, filled in desk.sales()] == [Decimal("0.3"), Decimal("0.2")]
    assert len({name for name, _ in desk.sales()}) == 2
    assert_closed_once(desk, guard)


@only_binance
def test_a_position_beyond_the_largest_order_is_closed_in_parts(desk: Desk) -> None:
    """Each under an id of its own."""
    desk.books.largest = Decimal("0.2")
    guard = tracked(desk)
    guard.close_position("btc-1")
    assert [filled for _, filled in desk.sales()] == [Decimal("0.2"), Decimal("0.2"), Decimal("0.1")]
    assert_closed_once(desk, guard)


def test_dust_from_before_does_not_keep_a_close_open(desk: Desk) -> None:
    """It is in the account and cannot be sold, so it is nobody's to wait for; an order that rests for it stays."""
    desk.books.give("BTC", "0.00008")
    guard = tracked(desk)
    order = desk.rest("0.00008", price=Decimal(70_000))
    guard.close_position("btc-1")
    assert order.rests
    desk.books.cancel(order)
    assert_closed_once(desk, guard, left="0.00008")


def test_what_was_bought_and_arrived_is_closed(desk: Desk) -> None:
    """The fee was taken from the coins: the bot tracks what arrived, down to the step."""
    desk.exchange.prepare()
    arrived = desk.books.buy(SYMBOL, "0.54321")
    amount = arrived.quantize(Decimal("0.00001"), "ROUND_DOWN")
    assert (arrived, amount) == (Decimal("0.54266679"), Decimal("0.54266"))
    guard = desk.guard()
    guard.track(Position("btc-1", SYMBOL, "long", amount, 60_000))
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, amount, left="0.00000679")


def test_what_was_bought_but_did_not_arrive_is_refused(desk: Desk) -> None:
    """The fee was taken from the coins: a bot that tracks what it ordered is told how much there is."""
    desk.exchange.prepare()
    desk.books.buy(SYMBOL, "0.5")
    guard = desk.guard()
    with pytest.raises(PositionConflict, match=r"0\.5 contracts are to be tracked, and the venue holds 0\.4995"):
        guard.track(Position("btc-1", SYMBOL, "long", "0.5", 60_000))
    guard.track(Position("btc-1", SYMBOL, "long", "0.4995", 60_000))
    assert guard.close_position("btc-1").left_at_venue == 0
    assert [filled for _, filled in desk.sales()] == [Decimal("0.4995")]


def test_what_is_beyond_the_step_is_left(desk: Desk) -> None:
    """No order can sell it, so the close ends without it, and says how much that is."""
    desk.exchange.prepare()
    desk.books.give("BTC", "0.50000999")
    guard = desk.guard()
    guard.track(Position("btc-1", SYMBOL, "long", "0.50000999", 60_000))
    closed = guard.close_position("btc-1")
    assert closed.left_at_venue == Decimal("0.00000999")
    assert sum(fill.contracts for fill in closed.fills) == Decimal("0.5")


def test_coins_of_somebody_else_are_not_sold(desk: Desk) -> None:
    """A close sells what was tracked; what else there is is nobody's business, and an order that rests for it stays."""
    desk.books.give("BTC", 2)
    guard = tracked(desk)
    order = desk.rest("1.5")
    assert guard.close_position("btc-1").left_at_venue == 0
    assert desk.sales()[0][1] == Decimal("0.5")
    assert order.rests
    desk.books.cancel(order)
    assert_closed_once(desk, guard, left=2)


def test_coins_that_something_else_locks_are_told(desk: Desk) -> None:
    """A close that cannot go on says why; when they are free it is finished."""
    guard = tracked(desk)
    desk.books.held_back["BTC"] = Decimal("0.5")
    with pytest.raises(CloseUnsettled, match=r"0\.5 BTC are locked, 0 are free, and no order of BTC/USDT"):
        guard.close_position("btc-1")
    desk.books.held_back["BTC"] = Decimal(0)
    (recovery,) = guard.recover()
    assert recovery.error is None
    assert_closed_once(desk, guard)


def test_two_guards_race(desk: Desk) -> None:
    """One closes, the other is told; with a client, a lock directory and a loop of its own each."""
    guard, outcomes = tracked(desk), []

    def close(racer: PositionGuard) -> None:
        try:
            racer.close_position("btc-1")
            outcomes.append("closes")
        except PositionAlreadyClosingError as error:
            outcomes.append(error.state)

    with asyncio.Runner() as one, asyncio.Runner() as another:
        racers = []
        for runner in (one, another):
            desk.connect(runner.run)
            racers.append(desk.guard(desk.behind, runner.run, lock_dir=elsewhere(desk.lock_dir), timeout=30))
        at_once(*(partial(close, racer) for racer in racers))
        desk.hang_up(one.run, another.run)
    assert sorted(outcomes) in [["closed", "closes"], ["closes", "closing"]]
    assert len(desk.sales()) == 1
    desk.connect()
    assert_closed_once(desk, guard)


@pytest.mark.parametrize("answer", ["known", "lost"])
def test_a_closer_that_died_after_its_order_is_succeeded(desk: Desk, answer: str) -> None:
    """Whoever comes next finds the order by its id, sells nothing, and books it once."""
    guard = tracked(desk)
    died = StruckExchange(desk.behind, Strike("place", "after", LockLost("btc-1", "x", "test")))
    if answer == "lost":
        desk.venue.strike(Fault(ORDER, "lose", method="POST"))
        died = StruckExchange(desk.behind, Strike("order", "before", LockLost("btc-1", "x", "test")))
    with pytest.raises(LockLost):
        desk.guard(died).close_position("btc-1")
    assert len(desk.sales()) == 1
    desk.connect()
    (recovery,) = desk.guard(lock_dir=elsewhere(desk.lock_dir)).recover()
    assert recovery.error is None
    assert len(desk.sales()) == 1
    assert_closed_once(desk, guard)


def test_a_closer_that_died_before_its_order_is_succeeded(desk: Desk) -> None:
    """Whoever comes next waits until the order can no longer come, and sends it under the same id."""
    guard = tracked(desk)
    died = StruckExchange(desk.behind, Strike("place", "before", LockLost("btc-1", "x", "test")))
    with pytest.raises(LockLost):
        desk.guard(died).close_position("btc-1")
    assert desk.sales() == []
    desk.connect()
    (recovery,) = desk.guard(lock_dir=elsewhere(desk.lock_dir)).recover()
    assert recovery.error is None
    assert_closed_once(desk, guard)
