"""The way of one request through a bot's own ccxt client: what it leaves as it was, and what it never lets happen."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ccxt
import ccxt.async_support
import pytest

from loopback.mexc import Mexc as Venue
from loopback.server import KEYS, Fault, Reply, Request
from poslock import CcxtExchange
from poslock.bridge import finished
from poslock.errors import ExchangeError, ExchangeUnavailable, KeysRefused, OutcomeUnknown, RequestExpired
from poslock.exchange.ccxt.client import Client, Endpoint
from poslock.exchange.ccxt.clock import VenueClock
from poslock.exchange.ccxt.exchange import AsyncCcxtExchange
from poslock.exchange.ccxt.mexc.venue import Mexc
from poslock.exchange.port import Leg, hurried

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

BTC = "BTC/USDT:USDT"
LONG = Leg(BTC, "long")
POSITIONS = Endpoint(("contract", "private"), "GET", "position/open_positions")
CREATE = Endpoint(("contract", "private"), "POST", "order/create")
KEY = Endpoint(("spot", "private"), "GET", "apiKeyInfo")
REDIRECTS = (301, 302, 303, 307, 308)

only_async = pytest.mark.parametrize("asynchronous", [True], ids=["async"])


@dataclass
class Line:
    """A bot's ccxt client, and the way through it that is under test."""

    venue: Venue
    asynchronous: bool
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    clients: list[Any] = field(default_factory=list)
    ccxt: Any = None
    client: Any = None

    def connect(self, **config: Any) -> None:
        self.take(self.venue.client(asynchronous=self.asynchronous, **config))

    def take(self, client: Any) -> None:
        self.clients.append(client)
        self.ccxt, self.client = client, Client(client, Mexc.dialect)

    def ask(self, endpoint: Endpoint = POSITIONS, params: Any = None, read: Any = None) -> Any:
        return self.run(self.client.ask(endpoint, params or {}, read or (lambda answer: answer["data"])))

    def order(self, *, age_ms: int = 0, window_ms: int = 5000, **more: Any) -> Any:
        """Close one contract; the id of the order."""
        asked = {"symbol": "BTC_USDT", "side": 4, "type": 5, "vol": 1, "openType": 2, "reduceOnly": True, **more}
        times = {"signed_at_ms": self.client.clock.now_ms() - age_ms, "receive_window_ms": window_ms}
        return self.run(self.client.send(CREATE, asked, lambda answer: answer["data"]["orderId"], **times))

    def of_bot(self, name: str = "get_position_open_positions", *params: Any) -> Any:
        """What the bot asks by itself."""
        return self.run(self.bots(name, *params))

    async def bots(self, name: str, *params: Any) -> Any:
        answer = getattr(self.ccxt, f"contract_private_{name}")(*params)
        return (await answer if self.asynchronous else answer)["data"]

    def arrived(self, path: str = "order/create") -> list[Request]:
        return [each for each in self.venue.requests if each.path.endswith(path)]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def line(tmp_path: Path, *, asynchronous: bool) -> Iterator[Line]:
    with Venue(tmp_path / "venue.db") as venue, asyncio.Runner() as runner:
        venue.book.set_price(BTC, 60_000)
        venue.book.open_position(BTC, "long", 10)
        line = Line(venue, asynchronous, runner.run if asynchronous else finished)
        line.connect()
        yield line
        for client in line.clients:
            if asynchronous:
                client.timeout_on_exit = 0
                runner.run(client.close())
            else:
                client.session.close()


def when(request: Request) -> int:
    return int(request.headers["request-time"])


# What is the bot's stays the bot's.


def test_the_bots_own_requests_are_signed_as_ever(line: Line) -> None:
    """While ours are pinned to a moment of the past, and on their way, the bot's are of now and are accepted."""
    go_on, ours = threading.Event(), 3
    line.ask()
    pinned_ms = line.client.clock.now_ms() - 4000
    line.venue.strike(Fault("order/create", go_on, times=ours))

    async def together() -> None:
        asked = [asyncio.ensure_future(order()) for _ in range(ours)]
        await asyncio.to_thread(_wait_for, lambda: len(line.arrived()) == ours)
        await bot()
        go_on.set()
        await asyncio.gather(*asked)

    async def order() -> None:
        asked = {"symbol": "BTC_USDT", "side": 4, "type": 5, "vol": 1, "openType": 2, "reduceOnly": True}
        await line.client.send(CREATE, asked, lambda _: None, signed_at_ms=pinned_ms, receive_window_ms=9000)

    async def bot() -> None:
        for _ in range(5):
            before_ms = time.time_ns() // 10**6
            await line.bots("get_position_open_positions")
            request = line.arrived("open_positions")[-1]
            assert before_ms <= when(request) <= time.time_ns() // 10**6
            assert "recv-window" not in request.headers

    if line.asynchronous:
        line.run(together())
    else:
        threads = [threading.Thread(target=lambda: finished(order()), daemon=True) for _ in range(ours)]
        for thread in threads:
            thread.start()
        _wait_for(lambda: len(line.arrived()) == ours)
        finished(bot())
        go_on.set()
        for thread in threads:
            thread.join(30)
    assert {when(request) for request in line.arrived()} == {pinned_ms}
    assert line.venue.book.held(LONG) == 10 - ours


def _wait_for(happened: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.001)


def test_the_bot_signs_while_ours_is_being_signed(line: Line) -> None:
    """A thread that comes in between two steps of signing finds the client as it was."""
    seen: list[tuple[int, Any]] = []

    class Watched(type(line.ccxt)):  # type: ignore[misc]
        def sign(self, path: str, *args: Any, **named: Any) -> Any:
            if path == CREATE.path:
                other = threading.Thread(target=lambda: seen.append((original.nonce(), dict(original.options))))
                other.start()
                other.join()
            return super().sign(path, *args, **named)

    line.ccxt.__class__ = Watched
    original, options = line.ccxt, dict(line.ccxt.options)
    line.ask()
    line.order(age_ms=4000)
    [(nonce, found)] = seen
    assert nonce > when(line.arrived()[0])
    assert found == options


def test_nothing_about_the_client_is_changed(line: Line) -> None:
    """Neither its attributes nor its options, headers and session, by what is answered or by what fails."""
    line.ccxt.headers = {"X-Bot": "1"}
    line.of_bot()
    before, options = dict(vars(line.ccxt)), copy.deepcopy(line.ccxt.options)
    line.ask()
    line.order()
    line.venue.strike(Fault("order/create", "lose"), Fault("open_positions", Reply(502, "")))
    with pytest.raises(OutcomeUnknown):
        line.order()
    with pytest.raises(ExchangeUnavailable):
        line.ask()
    after = vars(line.ccxt)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] is not before[name]] == []
    assert (line.ccxt.options, line.ccxt.headers) == (options, {"X-Bot": "1"})
    assert line.of_bot()[0]["holdVol"] == 8


def test_markets_are_loaded_without_asking_for_more(line: Line) -> None:
    """Nothing that takes keys, rights or a clock; what the bot has loaded is not loaded again."""
    line.connect(apiKey="wrong")
    line.venue.offset_ms = 3_600_000
    line.run(line.client.markets("swap"))
    assert line.ccxt.markets[BTC]["swap"] is True
    assert {request.path for request in line.venue.requests} == {"/api/v3/exchangeInfo", "/api/v1/contract/detail"}
    line.run(line.client.markets("swap"))
    assert len(line.venue.requests) == 2


def test_parameters_stay_as_they_were(line: Line) -> None:
    """ccxt may write into what it is handed."""

    class Scribbling(type(line.ccxt)):  # type: ignore[misc]
        def sign(self, path: str, api: Any, method: str, params: Any) -> Any:
            signed = super().sign(path, api, method, params)
            for each in params if isinstance(params, list) else [params]:
                each.clear()
            return signed

    line.ccxt.__class__ = Scribbling
    asked: Any = [{"symbol": "BTC_USDT", "externalOid": "a"}]
    endpoint = Endpoint(("contract", "private"), "POST", "order/batch_query_with_external")
    assert line.ask(endpoint, asked) == []
    assert asked == [{"symbol": "BTC_USDT", "externalOid": "a"}]
    assert line.venue.requests[-1].params == asked


def test_no_instance_that_is_left_over_closes_or_complains(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """The session goes on after each request, and ccxt has nothing to warn of."""
    line.ask()
    line.order()
    gc.collect()
    assert "release all resources" not in caplog.text
    assert line.of_bot()[0]["holdVol"] == 9


@only_async
def test_a_task_that_is_cancelled_leaves_the_client_usable(line: Line) -> None:
    """Its request was on the way; the next one goes out as ever."""
    line.ask()
    go_on = threading.Event()
    line.venue.strike(Fault("open_positions", go_on))

    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.client.ask(POSITIONS, {}, lambda _: None), 0.05)
        go_on.set()

    line.run(given_up())
    assert line.ask()[0]["holdVol"] == 10


@only_async
def test_a_client_that_was_closed_answers_nothing(line: Line) -> None:
    """It is not opened again behind the bot's back."""
    line.ask()
    line.run(line.ccxt.close())
    with pytest.raises(ExchangeUnavailable):
        line.ask()
    with pytest.raises(OutcomeUnknown):
        line.order()
    assert line.arrived() == []


# An order leaves once, and nowhere else.


@pytest.mark.parametrize("what", ["drop", "lose", "cut", "garbage", Reply(502, ""), Reply(429, ""), 0.5])
def test_ccxts_retries_are_passed_by(line: Line, what: Any) -> None:
    """maxRetriesOnFailure is the bot's; and the libraries under it send nothing again over a broken connection."""
    line.connect(options={"maxRetriesOnFailure": 3, "maxRetriesOnFailureDelay": 1}, timeout=250)
    line.ask()
    line.venue.strike(Fault("order/create", what))
    with pytest.raises(ExchangeError):
        line.order()
    assert len(line.arrived()) == 1
    assert line.ask()[0]["holdVol"] >= 9


@pytest.mark.parametrize("status", REDIRECTS)
def test_an_order_is_not_sent_on_to_somewhere_else(line: Line, tmp_path: Path, status: int) -> None:
    """A redirect is no answer: whoever is at the other address gets neither the order nor the key."""
    line.ask()
    with Venue(tmp_path / "elsewhere.db") as elsewhere:
        elsewhere.book.set_price(BTC, 60_000)
        elsewhere.book.open_position(BTC, "long", 10)
        for address in (elsewhere.url, line.venue.url):
            moved = Reply(status, "", {"Location": f"{address}/api/v1/private/order/create"})
            line.venue.strike(Fault("order/create", moved))
            with pytest.raises(OutcomeUnknown) as caught:
                line.order()
            assert caught.value.code == str(status)
            line.venue.strike(Fault("open_positions", moved))
            with pytest.raises(ExchangeUnavailable):
                line.ask()
        assert elsewhere.requests == []
        assert len(line.arrived()) == 2
        assert [line.venue.book.held(LONG), elsewhere.book.held(LONG)] == [10, 10]


def test_the_bots_own_requests_are_sent_on_as_ever(line: Line) -> None:
    """Its session is its own."""
    line.ask()
    moved = Reply(307, "", {"Location": f"{line.venue.url}/api/v1/private/position/open_positions"})
    line.venue.strike(Fault("open_positions", moved))
    assert line.of_bot()[0]["holdVol"] == 10


def test_the_bots_headers_do_not_lengthen_a_window(line: Line) -> None:
    """ccxt lets what the bot has set go first, however it is spelt; what has nothing to do with it goes out too."""
    line.connect(headers={"Recv-Window": "60", "REVC-WINDOW": "60", "request-time": "1", "X-Bot": "1"})
    line.client.clock.set(line.venue.clock_ms())
    line.venue.offset_ms = 3000
    with pytest.raises(RequestExpired):
        line.order(window_ms=2000)
    line.order(window_ms=5000)
    for request, seconds in zip(line.arrived(), ("2", "5"), strict=True):
        assert (request.headers["recv-window"], request.headers["revc-window"]) == (seconds, seconds)
        assert request.headers["x-bot"] == "1"


# The rate limiter.


def test_a_request_held_back_by_the_rate_limiter_keeps_its_time(line: Line) -> None:
    """It is signed as of then, when it leaves: the wait takes from its window, as travelling does."""
    line.ask()
    costs = []

    def hold_back(cost: float) -> None:
        costs.append(cost)
        line.venue.offset_ms += 3000

    async def hold_back_async(cost: float) -> None:
        hold_back(cost)

    line.ccxt.enableRateLimit = True
    line.ccxt.throttle = hold_back_async if line.asynchronous else hold_back
    signed_ms = line.client.clock.now_ms()
    line.order(window_ms=5000)
    assert signed_ms <= when(line.arrived()[0]) < signed_ms + 1000
    with pytest.raises(RequestExpired):
        line.order(window_ms=5000)
    assert line.venue.book.held(LONG) == 9
    line.venue.offset_ms = 0
    line.of_bot("get_position_position_mode")
    assert len(costs) == 3


def test_a_request_costs_what_ccxt_says(line: Line) -> None:
    """So that ours and the bot's together stay below what the venue takes."""
    line.ask()
    costs = []

    async def throttle_async(cost: float) -> None:
        costs.append(cost)

    line.ccxt.enableRateLimit = True
    line.ccxt.throttle = throttle_async if line.asynchronous else costs.append
    line.ask()
    line.of_bot()
    line.order()
    line.of_bot("post_order_create", {"symbol": "BTC_USDT", "side": 4, "type": 5, "vol": 1, "openType": 2})
    assert (costs[0], costs[2]) == (costs[1], costs[3])


def test_ours_and_the_bots_requests_are_kept_apart_in_time(line: Line) -> None:
    """Whoever comes next waits for the one before, whoever that was."""
    line.connect(enableRateLimit=True, rateLimit=40)
    at = []

    def note(_request: Request) -> None:
        at.append(time.monotonic())

    line.client.clock.set(line.venue.clock_ms())
    line.venue.strike(Fault("open_positions", note, times=4))
    for ask in (line.ask, line.ask, line.of_bot, line.ask):
        ask()
    cost = line.client._cost(POSITIONS, {})
    least = 3 * cost * 0.040
    assert at[-1] - at[0] >= least - 0.03


def test_what_a_closing_order_waits_for_goes_ahead_and_is_charged(line: Line) -> None:
    """The limiter is not asked, and the next one waits as long as if it had been."""
    line.connect(enableRateLimit=True, rateLimit=40)
    at, held_back, throttle = list[float](), list[float](), line.ccxt.throttle

    def hold_back(cost: float) -> Any:
        held_back.append(cost)
        return throttle(cost)

    async def in_a_hurry() -> None:
        was = hurried.set(True)
        try:
            await line.client.ask(POSITIONS, {}, lambda answer: answer)
        finally:
            hurried.reset(was)

    line.client.clock.set(line.venue.clock_ms())
    line.ccxt.throttle = hold_back
    line.venue.strike(Fault("open_positions", lambda _request: at.append(time.monotonic()), times=4))
    for _ in range(3):
        line.run(in_a_hurry())
    assert held_back == []
    line.ask()
    assert len(held_back) == 1
    assert at[-1] - at[0] >= 3 * line.client._cost(POSITIONS, {}) * 0.040 - 0.03


# What is said of a failure.


@pytest.mark.parametrize(
    "what",
    [
        "drop",
        "garbage",
        Reply(502, ""),
        Reply(400, {"success": False, "code": 401, "message": f"{KEYS['apiKey']} is unknown; {KEYS['secret']}"}),
        Reply(307, "", {"Location": "/"}),
    ],
    ids=["drop", "garbage", "502", "echo", "redirect"],
)
def test_no_key_is_in_an_error(line: Line, what: Any) -> None:
    """Nor the address with the key and the signature in it, nor in the traceback of who lets it pass."""
    line.ask()
    requests: list[Callable[[], Any]] = [line.ask, line.order, lambda: line.ask(KEY, {"accessKey": KEYS["apiKey"]})]
    for request, path in zip(requests, ("open_positions", "order/create", "apiKeyInfo"), strict=True):
        line.venue.strike(Fault(path, what, times=2))
        with pytest.raises(ExchangeError) as caught:
            request()
        line.venue._faults.clear()
        signature = line.venue.requests[-1].headers.get("signature", line.venue.requests[-1].params.get("signature"))
        said = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
        assert not [each for each in (*KEYS.values(), signature) if each in said]


def test_what_cannot_be_signed_is_not_sent(line: Line) -> None:
    """A key that the library cannot read: the keys are refused, and not shown."""
    line.client.clock.set(line.venue.clock_ms())
    line.ccxt.secret = 12345678
    for request in (line.ask, line.order):
        with pytest.raises(KeysRefused) as caught:
            request()
        assert "12345678" not in str(caught.value)
    assert line.venue.requests == []


# The clock.


@pytest.mark.parametrize("offset_ms", [-86_400_000, 0, 86_400_000])
def test_its_clock_is_never_ahead_of_the_venues(line: Line, offset_ms: int) -> None:
    """What the venue said was true when it said it; the way back takes time."""
    line.venue.offset_ms = offset_ms

    def slow(request: Request) -> Reply:
        reply = line.venue._carried_out(request)
        threading.Event().wait(0.05)
        return reply

    line.venue.strike(Fault("ping", slow))
    line.run(line.client.set_clock())
    for _ in range(100):
        ours_ms = line.client.clock.now_ms()
        assert 0 <= line.venue.clock_ms() - ours_ms < 5000


def test_the_wall_clock_of_this_machine_does_not_matter(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets it, and whenever: requests are signed by the venue's."""
    wall_ns = time.time_ns
    line.ask()
    for step_ns in (-(10**12), 10**12):
        monkeypatch.setattr(time, "time_ns", lambda step_ns=step_ns: wall_ns() + step_ns)
        line.order()
        assert abs(line.venue.clock_ms() - when(line.arrived()[-1])) < 5000


def test_the_clock_is_read_again_when_it_is_old(line: Line) -> None:
    """Two clocks drift apart: for an order it may be a thousand seconds old, for a question a day."""
    ticks_ns = [0]
    line.client.clock = VenueClock(lambda: ticks_ns[0])
    for passed_s, pings, fresh in ((0, 1, True), (999, 1, True), (86_399, 1, False), (86_400, 2, True)):
        ticks_ns[0] = passed_s * 10**9
        line.ask(Endpoint(("contract", "public"), "GET", "ticker"), {"symbol": "BTC_USDT"})
        assert (len(line.arrived("contract/ping")), line.client.clock.is_fresh) == (pings, fresh)


def test_the_clock_is_read_again_after_a_late_refusal(line: Line) -> None:
    """Of an order or of a question; the next request is in time."""
    line.ask()
    for late, pings in ((line.order, 2), (line.ask, 3)):
        line.venue.offset_ms += 60_000
        with pytest.raises(ExchangeError) as caught:
            late()
        assert caught.value.code == "513"
        line.ask()
        line.order()
        assert len(line.arrived("contract/ping")) == pings


def test_until_the_venue_was_asked_it_is_this_machines(line: Line) -> None:
    """Something has to be signed with."""
    assert line.client.clock.is_known is False
    assert abs(line.client.clock.now_ms() - time.time_ns() // 10**6) < 5000
    line.ask()
    assert line.client.clock.is_known is True


def test_an_account_is_the_same_through_both_of_ccxts_ids_for_a_venue() -> None:
    """Two bots, each with the class it likes better, guard one account."""
    exchanges = [CcxtExchange(kind(), account="main") for kind in (ccxt.binance, ccxt.binanceusdm)]
    assert {exchange.account for exchange in exchanges} == {"binance swap main"}


def test_an_exchange_for_tasks_is_made_of_a_client_for_tasks() -> None:
    """By either name; one of a client for threads is refused, and the error says which class it is for."""
    client = ccxt.async_support.mexc()
    made: list[object] = [kind(client, account="main") for kind in (CcxtExchange, AsyncCcxtExchange)]
    assert [type(each) for each in made] == [AsyncCcxtExchange, AsyncCcxtExchange]
    with pytest.raises(TypeError, match="use CcxtExchange"):
        AsyncCcxtExchange(ccxt.mexc(), account="main")
    with pytest.raises(TypeError, match="must be an exchange of ccxt"):
        AsyncCcxtExchange(object(), account="main")


def test_a_spot_account_says_that_it_is_one() -> None:
    """What a balance holds beyond a position is nobody's business."""
    kinds: tuple[Any, ...] = ("swap", "spot")
    assert [CcxtExchange(ccxt.mexc(), account="main", market=each).spot for each in kinds] == [False, True]


@pytest.mark.parametrize(("regional", "venue"), [("myokx", "okx"), ("okxus", "okx"), ("bybiteu", "bybit")])
def test_a_region_of_a_venue_is_that_venue(regional: str, venue: str) -> None:
    """ccxt has ids of their own for them. The account is the same through each."""
    exchange = CcxtExchange(getattr(ccxt, regional)(), account="main")
    assert exchange.account == CcxtExchange(getattr(ccxt, venue)(), account="main").account == f"{venue} swap main"


def test_without_a_network_the_error_says_which_host_and_what_to_do() -> None:
    """And no more of the address: that has the signature."""
    client = ccxt.binanceusdm({"apiKey": "k" * 20, "secret": "s" * 20})
    client.urls["api"] = dict.fromkeys(client.urls["api"], "http://127.0.0.1:9/x")
    with pytest.raises(ExchangeUnavailable) as caught:
        CcxtExchange(client, account="main").prepare()
    assert str(caught.value) == (
        "binanceusdm: no answer that can be read from 127.0.0.1:9 (NetworkError from ConnectionError); look whether "
        "this machine reaches 127.0.0.1:9: its network, name server, clock, firewall and proxy"
    )
