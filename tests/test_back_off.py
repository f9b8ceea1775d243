"""Venues that turn bots away for rate, and the pauses that all bots of the host keep to, over real ccxt clients.

The lock's clock and every pause are a clock of the test's: nothing sleeps.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any

import pytest

from loopback import binance, bybit, mexc, okx
from loopback.server import Fault, Reply
from poslock import CcxtExchange, ChangeRefused, CloseUnsettled, Position
from poslock.bridge import TaskPorts, ThreadPorts, finished
from poslock.errors import RateLimited
from poslock.exchange.port import CloseOrder, Leg
from poslock.guard.operations import Operations
from systems import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Loopback, Request

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
LONG = Leg(BTC, "long")
FIVE = [LONG, Leg(BTC, "short"), Leg(ETH, "long"), Leg(ETH, "short"), Leg("COIN0/USDT:USDT", "long")]
VENUES: dict[str, Any] = {"mexc": mexc.Mexc, "binance": binance.Binance, "bybit": bybit.Bybit, "okx": okx.Okx}
TOO_MANY = {each: module.RATE_LIMITED for each, module in zip(VENUES, (mexc, binance, bybit, okx), strict=True)}
HISTORY = {"mexc": "order_deals", "binance": "userTrades", "bybit": "execution/list", "okx": "trade/fills"}
ORDERS = {"mexc": "order/create", "binance": "/order$", "bybit": "order/create", "okx": "trade/order$"}
EVERYTHING, FOR_EVER = "", 10**9

both_clients = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
everywhere = pytest.mark.parametrize("name", list(VENUES))


class OfThreads(ThreadPorts):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


class OfTasks(TaskPorts):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


@dataclass
class Storm:
    """The venue turns away requests whose path has *path* in it until the test's clock says *ends*.

    ``seen`` is what came since, and when, in seconds of the storm; *reply* is made of the seconds that it goes on.
    """

    venue: Loopback
    clock: Clock
    seconds: float
    reply: Callable[[float], Reply]
    path: str = EVERYTHING
    method: str | None = None
    seen: list[tuple[float, Request]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began_ns = self.clock.now_ns
        self.venue.strike(
            Fault(self.path, self._answered, method=self.method, times=FOR_EVER),
            Fault(EVERYTHING, self._passed, times=FOR_EVER),
        )

    @property
    def during(self) -> list[Request]:
        return [request for at, request in self.seen if at < self.seconds]

    def orders(self) -> list[float]:
        """How long after the storm each request came that the venue let in and that changes something."""
        return [at - self.seconds for at, request in self.seen if request.method == "POST" and at >= self.seconds]

    def _answered(self, request: Request) -> Reply | None:
        at = self._noted(request)
        return self.reply(self.seconds - at) if at < self.seconds else None

    def _passed(self, request: Request) -> None:
        self._noted(request)

    def _noted(self, request: Request) -> float:
        at = (self.clock.now_ns - self._began_ns) / 1e9
        self.seen.append((at, request))
        return at


@dataclass
class Host:
    """Bots on one host: each with a client, a guard and a view of the lock directory of its own."""

    venue: Loopback
    folder: Path
    asynchronous: bool
    run: Callable[..., Any]
    clock: Clock = field(default_factory=Clock)
    clients: list[Any] = field(default_factory=list)

    def bot(self, *, timeout: float | None = 35.0, **calls: Any) -> Operations:
        client = self.venue.client(asynchronous=self.asynchronous)
        self.clients.append(client)
        exchange = CcxtExchange(client, account="main", denies_for=0.2, settles_within=2.0)
        return Operations(
            OfTasks(self.clock) if self.asynchronous else OfThreads(self.clock),
            exchange,
            lock_dir=self.clock.directory(self.folder / "locks", **calls),
            ledger=None,
            timeout=timeout,
            stale_after=30.0,
        )

    def hold(self, bot: Operations, *legs: Leg) -> list[str]:
        """A tracked position of ten contracts on each of *legs*; their ids."""
        for leg in legs:
            self.venue.book.set_price(leg.symbol, 60_000)
            self.venue.book.open_position(leg.symbol, leg.side, 10)
        self.run(bot.means.exchange.prepare()) if self.asynchronous else bot.means.exchange.prepare()
        tracked = []
        for leg in legs:
            holding = self.ask(bot, "holding", leg)
            facts = {"contract_size": holding.contract_size, "settle": holding.settle}
            position = Position(f"{leg.symbol} {leg.side}", leg.symbol, leg.side, 10, 60_000, **facts)
            tracked.append(self.run(bot.track(position, (), verify=True)).position.id)
        return tracked

    def ask(self, bot: Operations, method: str, *args: object) -> Any:
        answer = getattr(bot.means.exchange, method)(*args)
        return self.run(answer) if self.asynchronous else answer

    def refused(self, bot: Operations, position_id: str) -> CloseUnsettled:
        with pytest.raises(CloseUnsettled) as caught:
            self.run(bot.close_position(position_id, ""))
        return caught.value


@pytest.fixture
def host(tmp_path: Path, name: str, *, asynchronous: bool) -> Iterator[Host]:
    with VENUES[name](tmp_path / "venue.db", hedge=True) as venue, asyncio.Runner() as runner:
        host = Host(venue, tmp_path, asynchronous, runner.run if asynchronous else finished)
        yield host
        for client in host.clients:
            if asynchronous:
                client.timeout_on_exit = 0
                runner.run(client.close())
            else:
                client.session.close()


def says_nothing(host: Host, name: str) -> Callable[[float], Reply]:
    return lambda _left: TOO_MANY[name]


def says_when(host: Host, name: str) -> Callable[[float], Reply]:
    """The venue's own way to say how long; OKX and MEXC futures have none."""
    if name == "bybit":
        ends = "X-Bapi-Limit-Reset-Timestamp"
        # The answer travels while the test's clock stands still.
        return lambda left: replace(TOO_MANY[name], headers={ends: str(host.venue.clock_ms() + int(left * 1000) + 300)})
    return lambda left: replace(TOO_MANY[name], headers={"Retry-After": str(ceil(left))})


def banned(left: float) -> Reply:
    words = "Way too many requests; IP banned until 1700000000000."
    return Reply(418, {"code": -1003, "msg": words}, {"Retry-After": str(ceil(left))})


@both_clients
@everywhere
@pytest.mark.parametrize("said", [says_nothing, says_when])
def test_a_close_waits_out_a_storm_of_refusals(host: Host, name: str, said: Any) -> None:
    """For ten seconds everything is answered with 429: few requests, one order, and that within a second after it."""
    bot = host.bot()
    (btc,) = host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 10, said(host, name))
    closed = host.run(bot.close_position(btc, ""))
    assert 1 <= len(storm.during) <= (12 if said is says_nothing else 2)
    (order,) = storm.orders()
    assert order <= 1
    assert len(closed.fills) == 1
    assert host.venue.book.held(LONG) == 0


@both_clients
@everywhere
@pytest.mark.parametrize("said", [says_nothing, says_when])
def test_an_order_that_is_turned_away_waits_as_long_as_the_caller(host: Host, name: str, said: Any) -> None:
    """It was given up after three tries in two seconds. The leg is looked at again before the next one."""
    bot = host.bot()
    (btc,) = host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 10, said(host, name), path=ORDERS[name], method="POST")
    closed = host.run(bot.close_position(btc, ""))
    assert 1 <= [request.method for request in storm.during].count("POST") <= (10 if said is says_nothing else 1)
    (order,) = storm.orders()
    assert order <= 1
    assert len(closed.fills) == 1
    assert host.venue.book.held(LONG) == 0


# Before each order the leg is looked at: what is held, and its trades, which Bybit tells in two pages.
A_LOOK_AND_AN_ORDER = {"mexc": 3, "binance": 3, "bybit": 4, "okx": 3}


@both_clients
@everywhere
def test_an_order_that_is_turned_away_is_not_asked_after(host: Host, name: str) -> None:
    """It does not exist, so a storm on orders alone costs no more than a look and an order for each second."""
    bot = host.bot()
    (btc,) = host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 10, says_nothing(host, name), path=ORDERS[name], method="POST")
    host.run(bot.close_position(btc, ""))
    assert len(storm.during) <= 10 * A_LOOK_AND_AN_ORDER[name]
    assert [order <= 1 for order in storm.orders()] == [True]


def entered_again(host: Host, name: str) -> Callable[[float], Reply]:
    """The venue says nothing of a time; in the middle of the storm somebody closes by hand, and enters again."""
    waits, hand = says_nothing(host, name), host.venue.book

    def reply(left: float) -> Reply:
        if left < 5 and not hand.fills(LONG, 0):
            hand.place(CloseOrder(LONG, Decimal(10), "by-hand", hand.time_ms(), 5000))
            hand.set_price(BTC, 61_000)
            hand.open_position(BTC, "long", 10)
        return waits(left)

    return reply


@both_clients
@everywhere
def test_a_position_entered_during_a_storm_is_left(host: Host, name: str) -> None:
    """Between two orders that are turned away somebody closes by hand, and enters again: that is not sold."""
    bot = host.bot()
    (btc,) = host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 10, entered_again(host, name), path=ORDERS[name], method="POST")
    closed = host.run(bot.close_position(btc, ""))
    assert (closed.ended_by, closed.left_at_venue) == ("other", 10)
    assert storm.orders() == []
    assert host.venue.book.held(LONG) == 10


@both_clients
@everywhere
def test_a_position_entered_during_a_storm_is_not_changed(host: Host, name: str) -> None:
    """Nor is it reduced: the change is refused, because its position has ended."""
    bot = host.bot()
    (btc,) = host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 10, entered_again(host, name), path=ORDERS[name], method="POST")
    with pytest.raises(ChangeRefused, match="has ended at the venue"):
        host.run(bot.modify_position(btc, ..., ..., 4))
    assert storm.orders() == []
    assert host.venue.book.held(LONG) == 10


@both_clients
@everywhere
def test_a_refusal_on_the_history_keeps_no_order_back(host: Host, name: str) -> None:
    """The bot that closes has it from another one; what is held is asked, the order leaves, the proof comes later."""
    bot, other = host.bot(), host.bot()
    (btc,) = host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 20, says_when(host, name), path=HISTORY[name])
    with pytest.raises(RateLimited) as caught:
        host.ask(bot, "trades", LONG, 0)
    assert caught.value.retry_after == pytest.approx(20, abs=1)
    closed = host.run(other.close_position(btc, ""))
    assert [at for at, request in storm.seen if request.method == "POST"] == [pytest.approx(0, abs=1)]
    assert sum(HISTORY[name] in request.path for request in storm.during) == 1
    assert len(closed.fills) == 1
    assert host.venue.book.held(LONG) == 0


@both_clients
@pytest.mark.parametrize("name", ["binance"])
def test_a_ban_is_shared_by_all_bots_of_the_host(host: Host) -> None:
    """One look goes into it, by whichever bot; every close says how long it goes on; after it all is finished."""
    bot, other = host.bot(), host.bot()
    ids = host.hold(bot, *FIVE)
    storm = Storm(host.venue, host.clock, 120, banned)
    for each in (bot, other):
        for position_id in ids:
            assert host.refused(each, position_id).retry_after == pytest.approx(120, abs=1)
    assert len(storm.during) <= 2
    recovered = host.run(other.recover())
    assert [each.position_id for each in recovered] == sorted(ids)
    assert all(isinstance(each.error, CloseUnsettled) for each in recovered)
    assert len(storm.during) <= 2
    host.clock.sleep(121)
    assert [each.error for each in host.run(bot.recover())] == [None] * 5
    assert {host.venue.book.held(leg) for leg in FIVE} == {0}
    assert len(storm.orders()) == 5


@both_clients
@pytest.mark.parametrize("name", ["binance"])
def test_a_recovery_ends_where_the_venue_wants_to_be_left_alone(host: Host) -> None:
    """A ban that begins anew whenever somebody asks is asked by two looks, not by some for each position."""
    bot = host.bot()
    ids = host.hold(bot, *FIVE)
    storm = Storm(host.venue, host.clock, 10_000, lambda _left: banned(120))
    for position_id in ids:
        host.refused(bot, position_id)
    assert len(storm.during) <= 2
    storm.reply = lambda _left: banned(20)
    host.clock.sleep(121)
    recovered = host.run(bot.recover())
    assert [each.position_id for each in recovered] == sorted(ids)
    assert all(isinstance(each.error, CloseUnsettled) for each in recovered)
    assert len(storm.during) <= 5


@both_clients
@pytest.mark.parametrize("name", ["mexc"])
def test_no_bot_waits_for_longer_than_its_caller(host: Host) -> None:
    """It says at once how long it would be; the same with any exchange that does not share its pauses."""
    bot = host.bot(timeout=5.0)
    (btc,) = host.hold(bot, LONG)
    Storm(host.venue, host.clock, 60, says_when(host, "mexc"))
    began_ns = host.clock.now_ns
    assert host.refused(bot, btc).retry_after == pytest.approx(60, abs=1)
    assert host.clock.now_ns - began_ns < 10**9


@both_clients
@pytest.mark.parametrize("name", ["binance"])
def test_a_position_is_tracked_after_the_pause(host: Host) -> None:
    """A bot that has just opened one waits, and asks nothing meanwhile."""
    bot = host.bot()
    host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 20, says_when(host, "binance"))
    host.venue.book.set_price(ETH, 60_000)
    host.venue.book.open_position(ETH, "long", 10)
    assert host.run(bot.adopt(ETH, "long")).position.contracts == 10
    assert len(storm.during) == 1


GATE = Reply(403, "<html><body>403 Forbidden</body></html>", {"Content-Type": "text/html"})
OF_ADDRESS = Reply(200, {"retCode": 10018, "retMsg": "Exceeded the IP Rate Limit.", "result": {}, "time": 1})
TEAPOT = Reply(418, "", {"Retry-After": "300"})


@both_clients
@pytest.mark.parametrize(
    ("name", "answer", "seconds"),
    [("bybit", GATE, 600), ("bybit", OF_ADDRESS, 5), ("binance", banned(90), 90), ("okx", TEAPOT, 300)],
    ids=["gate", "address", "until", "teapot"],
)
def test_what_turns_an_address_away_turns_away_everything(host: Host, answer: Reply, seconds: float) -> None:
    """Said of the history, it holds for what is held, too, and for a bot that asks for its markets first."""
    bot, late = host.bot(), host.bot()
    host.hold(bot, LONG)
    storm = Storm(host.venue, host.clock, 1000, lambda _left: answer)
    for each, method, args in ((bot, "trades", (LONG, 0)), (bot, "holding", (LONG,)), (late, "prepare", ())):
        with pytest.raises(RateLimited) as caught:
            host.ask(each, method, *args)
        assert caught.value.retry_after == pytest.approx(seconds, abs=1)
    assert len(storm.seen) == 1


@both_clients
@pytest.mark.parametrize("name", ["binance"])
def test_a_bot_that_starts_into_a_ban_asks_once(host: Host) -> None:
    """ccxt asks for the markets, with the bot's client; what its answer says counts all the same."""
    storm = Storm(host.venue, host.clock, 120, banned)
    for each in (host.bot(), host.bot()):
        each.directory.prepare()
        with pytest.raises(RateLimited) as caught:
            host.ask(each, "prepare")
        assert caught.value.retry_after == pytest.approx(120, abs=1)
    assert len(storm.seen) == 1
