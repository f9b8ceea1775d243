"""What becomes of a request to MEXC that the venue refuses, or the way there loses: alone, then under the guard."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from loopback.mexc import BANNED, MAINTENANCE, RATE_LIMITED
from loopback.server import KEYS, Fault, Reply
from mexc_desk import BTC, CREATE, LONG, PLAN, Desk, assert_closed_once, both_clients, opened, tracked
from poslock import CloseUnsettled, Position
from poslock.bridge import TaskPorts, ThreadPorts
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
    UnderMaintenance,
)
from poslock.lock.back_off import BackOffFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from poslock import PositionGuard
    from poslock.exchange.port import Leg

DAY_MS = 86_400_000
HTML = {"Content-Type": "text/html"}
PAGE = '<html><script>var said = {"success": false, "code": 2009, "message": "not the venue"};</script></html>'

pytestmark = [both_clients, pytest.mark.takes_turns]


@pytest.fixture
def desk(tmp_path: Path, *, asynchronous: bool) -> Iterator[Desk]:
    with opened(tmp_path, asynchronous=asynchronous) as desk:
        yield desk


def refusal(code: Any, words: str = "x", *, status: int = 200) -> Reply:
    return Reply(status, {"success": False, "code": code, "message": words})


def page(status: int, text: str = "<html>no</html>") -> Reply:
    return Reply(status, text, HTML)


# What a code means.

CODES: dict[type[ExchangeError], list[int]] = {
    OrderRefused: [
        *(600, 601, *range(1001, 1005), *range(2001, 2008), 2011, 2015, 2016, 2021, 2022, *range(2027, 2034), 2036),
        *(2049, 2051, 2057, *range(3001, 3005), *range(3006, 3016), 5001, *range(5003, 5007), 6001, 6002),
        *(7003, 7004, 7008, 8817, 8917, 8920, 8930, 8932, 8934, 9069, 9070, 9071, 9998, 200005, 200006),
    ],
    OutcomeUnknown: [500, 501, 503, 504, 506, 603, 9999, 8002, 777_777],
    NothingToReduce: [2009, 2043],
    ReduceOnlyBlocked: [2008, 7005],
    DuplicateClientOrderId: [2042],
    RateLimited: [510, 2013, 2037],
    UnderMaintenance: [604, 801, 8921, 8922, 9068],
    KeysRefused: [401, 402, 403, 406, 511, 602, 701, 702, 703, 704, 1000],
    RequestExpired: [513],
    NotServed: [2056, 7002],
}


@pytest.mark.parametrize("expected", CODES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_the_code_says_what_became_of_an_order(desk: Desk, expected: type[ExchangeError], status: int) -> None:
    """Whatever the status, and whatever class ccxt has for it: a definite refusal, or nobody knows."""
    desk.held()
    for code in CODES[expected]:
        for path, send in ((CREATE, desk.exchange.place), (PLAN, desk.exchange.place_stop)):
            desk.venue.strike(Fault(path, refusal(code, status=status)))
            with pytest.raises(ExchangeError) as caught:
                send(desk.closing(10) if path == CREATE else desk.stop("stop_loss", 57_000))
            assert (type(caught.value), caught.value.code) == (expected, str(code))
            assert str(caught.value) == f"mexc answered {code}: x"
    assert desk.venue.book.orders(LONG) == []


@pytest.mark.parametrize("expected", CODES, ids=lambda each: each.__name__)
def test_the_code_says_why_a_question_was_not_answered(desk: Desk, expected: type[ExchangeError]) -> None:
    """Turned away unseen, of which the kind is told, or just not answered: a question is never refused or unknown."""
    desk.held()
    kind = expected if issubclass(expected, NotServed) else ExchangeUnavailable
    for code in CODES[expected]:
        desk.venue.strike(Fault("open_positions", refusal(code)))
        with pytest.raises(ExchangeError) as caught:
            desk.holds(LONG)
        assert (type(caught.value), caught.value.code) == (kind, str(code))
    assert desk.holds(LONG) == 10


@pytest.mark.parametrize("code", [2009, "2009"])
def test_words_do_not_decide(desk: Desk, code: Any) -> None:
    """ccxt takes any answer with "maintenance" in it for an outage; 2009 is 2009, as a number or as text."""
    desk.held()
    desk.venue.strike(Fault(CREATE, refusal(code, "position maintenance margin: does not exist")))
    with pytest.raises(NothingToReduce) as caught:
        desk.exchange.place(desk.closing(10))
    assert (type(caught.value), caught.value.code) == (NothingToReduce, "2009")


def test_a_late_refusal_has_the_clock_read_again(desk: Desk) -> None:
    """513 for an order or for a question: this machine was stopped in a way that its own clocks did not see."""
    desk.held()
    desk.venue.offset_ms = 3_600_000
    with pytest.raises(ExchangeUnavailable) as caught:
        desk.holds(LONG)
    assert caught.value.code == "513"
    assert desk.holds(LONG) == 10
    order = desk.closing(10)
    desk.venue.offset_ms = 7_200_000
    desk.venue.strike(Fault("open_positions", Reply(200, {"success": True, "code": 0, "data": [position(desk)]})))
    with pytest.raises(RequestExpired):
        desk.exchange.place(order)
    assert desk.holds(LONG) == 10
    assert desk.exchange.place(desk.closing(10)).filled == 10


def position(desk: Desk) -> dict[str, Any]:
    """A row of the long of ten."""
    said = {"symbol": "BTC_USDT", "positionType": 1, "holdVol": 10, "holdAvgPrice": 60_000}
    with desk.venue.books() as books:
        held = books.history(BTC).held("long")
    assert held is not None
    return {**said, "positionId": held.position_id, "openType": 2, "leverage": 20}


# What a status means where there is no code.

STATUSES = {
    **dict.fromkeys((401, 403), KeysRefused),
    **dict.fromkeys((418, 429), RateLimited),
    **dict.fromkeys((307, 400, 404, 408, 500, 502, 503, 504, 520, 599), OutcomeUnknown),
}
BODIES: dict[str, Callable[[int], Reply]] = {
    "page": page,
    "page with JSON in it": lambda status: page(status, PAGE),
    "empty": lambda status: Reply(status, ""),
    "JSON without a code": lambda status: Reply(status, {"error": "x"}),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_status_without_a_code_comes_from_the_gate(desk: Desk, body: str) -> None:
    """401, 403, 418 and 429 let nothing in; behind any other the order may have been taken."""
    desk.held()
    for status, expected in STATUSES.items():
        reply = BODIES[body](status)
        desk.venue.strike(Fault(CREATE, reply), Fault("open_positions", reply, spared=1))
        with pytest.raises(ExchangeError) as caught:
            desk.exchange.place(desk.closing(10))
        assert type(caught.value) is expected, status
        with pytest.raises(ExchangeUnavailable) as asked:
            desk.holds(LONG)
        assert type(asked.value) is (expected if issubclass(expected, NotServed) else ExchangeUnavailable)
    assert desk.taken() == []


def test_a_status_with_a_code_is_its_code(desk: Desk) -> None:
    """The venue's word counts for more than the status it comes with."""
    desk.held()
    for status in (401, 403, 418, 429, 500, 502, 503, 504):
        desk.venue.strike(Fault(CREATE, refusal(2009, status=status)))
        with pytest.raises(NothingToReduce):
            desk.exchange.place(desk.closing(10))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_success_with_a_bad_status_is_unknown(desk: Desk, status: int) -> None:
    """The order may be there, and is."""
    desk.held()
    desk.venue.strike(Fault(CREATE, lambda request: Reply(status, desk.venue._carried_out(request).body)))
    with pytest.raises(OutcomeUnknown) as caught:
        desk.exchange.place(desk.closing(4))
    assert type(caught.value) is OutcomeUnknown
    assert desk.exchange.order(LONG, "c1").filled == 4


GARBAGE = {
    "page": page(200),
    "text": Reply(200, "OK"),
    "empty": Reply(200, ""),
    "bytes": Reply(200, b"\x00\xff\xfe", {"Content-Type": "application/octet-stream"}),
    "list": Reply(200, []),
    "object": Reply(200, {}),
    "number": Reply(200, "7"),
    "null": Reply(200, "null"),
    "not a number": Reply(200, '{"success": true, "code": 0, "data": NaN}'),
    "nothing in it": Reply(200, {"success": True, "code": 0}),
    "half": Reply(200, '{"success": true, "code": 0, "da'),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_what_cannot_be_read_is_no_answer(desk: Desk, what: str) -> None:
    """Neither to an order, of which the outcome is unknown then, nor to a question."""
    desk.held()
    since_ms = desk.exchange.time_ms() - DAY_MS
    desk.venue.strike(Fault(CREATE, GARBAGE[what]), Fault(PLAN, GARBAGE[what]))
    for send, order in (
        (desk.exchange.place, desk.closing(4)),
        (desk.exchange.place_stop, desk.stop("stop_loss", 57_000)),
    ):
        with pytest.raises(OutcomeUnknown) as caught:
            send(order)
        assert (type(caught.value), caught.value.code) == (OutcomeUnknown, None)
    for path, question, *times in (
        ("open_positions", "holding"),
        ("list/open_orders", "open_orders"),
        ("planorder/list", "open_orders"),
        ("stoporder/open", "open_orders"),
        ("trackorder/list", "open_orders"),
        ("ticker", "price"),
        ("order_deals", "trades", since_ms),
        ("funding_records", "funding", since_ms, since_ms + DAY_MS),
    ):
        desk.venue.strike(Fault(path, GARBAGE[what]))
        with pytest.raises(ExchangeUnavailable):
            getattr(desk.exchange, question)(LONG, *times)
    if what != "nothing in it":  # that is how the venue may say that there is no such order
        desk.venue.strike(Fault("order/external", GARBAGE[what]))
        with pytest.raises(ExchangeUnavailable):
            desk.exchange.order(LONG, "c1")


@pytest.mark.parametrize("what", ["drop", "lose", "cut", "garbage"])
def test_a_broken_line_leaves_the_outcome_unknown(desk: Desk, what: Any) -> None:
    """Before the order got there, or after; the client sends nothing again by itself, and the order tells."""
    desk.held()
    desk.venue.strike(Fault(CREATE, what), Fault(PLAN, what))
    with pytest.raises(OutcomeUnknown) as caught:
        desk.exchange.place(desk.closing(4))
    assert type(caught.value) is OutcomeUnknown
    stop = desk.stop("stop_loss", 57_000)
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place_stop(stop)
    assert (len(desk.sent()), len(desk.sent(PLAN))) == (1, 1)
    found, resting = desk.exchange.order(LONG, "c1"), desk.exchange.stop(stop)
    assert (found is None, resting is None) == (what == "drop", what == "drop")


@pytest.mark.parametrize("what", ["drop", "lose", "cut", "garbage"])
def test_a_broken_line_leaves_a_question_unanswered(desk: Desk, what: Any) -> None:
    """And it is answered when it is put again."""
    desk.held()
    questions: dict[str, Callable[[], object]] = {
        "open_positions": lambda: desk.holds(LONG),
        "order/external": lambda: desk.exchange.order(LONG, "c1"),
        "list/open_orders": lambda: desk.exchange.open_orders(LONG),
        "ticker": lambda: desk.exchange.price(LONG),
        "order_deals": lambda: desk.exit_fills(LONG, desk.exchange.time_ms() - DAY_MS),
        "funding_records": lambda: desk.exchange.funding(
            LONG, desk.exchange.time_ms() - DAY_MS, desk.exchange.time_ms()
        ),
    }
    for path, ask in questions.items():
        desk.strike_question(path, what)
        with pytest.raises(ExchangeUnavailable) as caught:
            ask()
        assert type(caught.value) is ExchangeUnavailable
        ask()


@pytest.mark.parametrize("path", ["contract/detail", "contract/ping", "position_mode"])
@pytest.mark.parametrize("what", ["drop", "garbage", page(502), refusal(510)], ids=["drop", "garbage", "502", "510"])
def test_what_has_to_be_known_first_is_asked_for_again(desk: Desk, path: str, what: Any) -> None:
    """Markets, clock and mode: nothing is taken for known that was not told."""
    desk.strike_question(path, what)
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.prepare()
    desk.exchange.prepare()
    assert desk.holds(LONG) == 0


def test_an_answer_that_takes_too_long_leaves_the_outcome_unknown(desk: Desk) -> None:
    """The client gives up; the order gets there when it gets there, within its window."""
    desk.held()
    go_on, done = threading.Event(), threading.Event()
    desk.connect(config={"timeout": 300})
    desk.exchange.prepare()
    desk.venue.strike(Fault(CREATE, go_on))
    with pytest.raises(OutcomeUnknown) as caught:
        desk.exchange.place(desk.closing(4))
    assert type(caught.value) is OutcomeUnknown
    assert desk.exchange.order(LONG, "c1") is None
    go_on.set()
    ended = threading.Timer(20, done.set)
    ended.start()
    while desk.taken() == [] and not done.is_set():
        done.wait(0.005)
    ended.cancel()
    assert desk.exchange.order(LONG, "c1").filled == 4


def test_nobody_there(desk: Desk) -> None:
    """A connection that is refused is no answer to a question, and leaves an order unknown: so says the port."""
    desk.held()
    order = desk.closing(4)
    desk.clients[0].urls["api"] = {"contract": dict.fromkeys(("public", "private"), "http://127.0.0.1:9/api")}
    with pytest.raises(ExchangeUnavailable):
        desk.holds(LONG)
    with pytest.raises(OrderRefused) as caught:
        desk.exchange.place(order)
    assert type(caught.value) is NotServed


@pytest.mark.parametrize("missing", ["apiKey", "secret"])
def test_a_client_without_keys_sends_nothing(desk: Desk, missing: str) -> None:
    """It is told like keys that the venue does not know."""
    desk.connect(config={missing: None})
    with pytest.raises(KeysRefused):
        desk.exchange.prepare()
    assert [request.path for request in desk.venue.requests if "/private/" in request.path] == []


@pytest.mark.parametrize("config", [{"apiKey": "wrong"}, {"secret": "wrong"}], ids=["key", "secret"])
def test_keys_that_the_venue_does_not_know(desk: Desk, config: dict[str, str]) -> None:
    """401 and 602; said to whoever asks, and an order is not taken."""
    desk.held()
    order = desk.closing(10)
    desk.connect(config=config)
    for request in (
        desk.exchange.prepare,
        lambda: desk.holds(LONG),
        lambda: desk.exchange.place(order),
        desk.exchange.inspect,
    ):
        with pytest.raises(KeysRefused) as caught:
            request()
        assert not [key for key in (*KEYS.values(), "wrong") if key in str(caught.value)]
    assert desk.sent() == []


# The guard.

TROUBLES: dict[str, Any] = {
    "wrong key": refusal(602),
    "banned address": BANNED,
    "not on the list": refusal(406),
    "maintenance": MAINTENANCE,
    "rate limit": RATE_LIMITED,
    "too many": page(429),
    "late": refusal(513),
    "garbage": "garbage",
    "cut": "cut",
    "dropped": "drop",
    "lost": "lose",
    "500": page(500),
    "502": page(502),
    "busy": refusal(501),
}
QUESTIONS = (
    "contract/detail",
    "contract/ping",
    "position_mode",
    "open_positions",
    "order/external",
    "order/get",
    "order_deals",
    "list/open_orders",
    "planorder/list",
    "stoporder/open",
    "trackorder/list",
    "funding_records",
)
LISTS = ("list/open_orders", "planorder/list", "stoporder/open", "trackorder/list")
# The answer to the order says its id, and either question says what it did.
DISPENSABLE = ("order/external", "order/get")
troubles = pytest.mark.parametrize("trouble", TROUBLES)
# Nothing was taken, or it was and only the answer is missing.
NEVER_TAKEN = [name for name, what in TROUBLES.items() if name == "dropped" or isinstance(what, Reply)]


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take a twentieth of their time: nothing here comes true by waiting."""
    for ports in (ThreadPorts, TaskPorts):
        sleep = ports.sleep

        async def shorter(self: Any, seconds: float, sleep: Any = sleep) -> None:
            await sleep(self, seconds / 20)

        monkeypatch.setattr(ports, "sleep", shorter)
    hold = BackOffFile.hold
    monkeypatch.setattr(BackOffFile, "hold", lambda self, scope, seconds: hold(self, scope, seconds / 20))


@pytest.fixture
def bot(desk: Desk, in_a_hurry: None) -> tuple[PositionGuard, Leg]:
    """A guard, over a position with a stop-loss and a take-profit, that knows nothing of the venue yet."""
    _, leg = tracked(desk, bare=True)
    desk.venue.book.protect(BTC, "long", "stop_loss", 10, 57_000)
    desk.venue.book.protect(BTC, "long", "take_profit", 10, 66_000)
    desk.connect(settles_within=1.0)
    return desk.guard(), leg


def assert_one_order(desk: Desk, guard: PositionGuard, leg: Leg) -> None:
    assert [filled for _, filled in desk.taken(leg)] == [10]
    assert_closed_once(desk, guard, leg)


@troubles
def test_trouble_at_the_order_once(desk: Desk, bot: Any, trouble: str) -> None:
    """The close gets over it by itself: one order is taken, whether the first was or not."""
    guard, leg = bot
    desk.venue.strike(Fault(CREATE, TROUBLES[trouble]))
    guard.close_position("btc-1")
    assert len(desk.sent()) == (2 if trouble in NEVER_TAKEN else 1)
    assert len({request.params["externalOid"] for request in desk.sent()}) == 1
    assert_one_order(desk, guard, leg)


@pytest.mark.parametrize("next_owner", ["recover", "close_position"])
@pytest.mark.parametrize("trouble", NEVER_TAKEN)
def test_trouble_at_the_order_that_lasts(desk: Desk, bot: Any, trouble: str, next_owner: str) -> None:
    """The close says that it is not settled, and gives nothing up; when it is over another owner goes on with it."""
    _, leg = bot
    guard = desk.guard(timeout=2.0)
    desk.venue.strike(Fault(CREATE, TROUBLES[trouble], times=99))
    with pytest.raises(CloseUnsettled) as caught:
        guard.close_position("btc-1")
    assert not [key for key in KEYS.values() if key in str(caught.value)]
    assert guard.position("btc-1").state == "closing"
    assert (len(desk.venue.book.open_orders(leg)), desk.taken(leg)) == (2, [])
    assert len(desk.sent()) <= 4
    desk.venue._faults.clear()
    went_on(desk, next_owner)
    assert_one_order(desk, guard, leg)


def went_on(desk: Desk, next_owner: str) -> None:
    """Another process comes by."""
    desk.connect()
    guard = desk.guard()
    if next_owner == "recover":
        [recovery] = guard.recover()
        assert recovery.error is None
    else:
        guard.close_position("btc-1")


@troubles
def test_trouble_at_every_question_once(desk: Desk, bot: Any, trouble: str) -> None:
    """Each is put again; of the four lists of what rests the others are for the next test."""
    guard, leg = bot
    for path in QUESTIONS:
        if path not in LISTS[1:]:
            desk.strike_question(path, TROUBLES[trouble])
    guard.close_position("btc-1")
    assert_one_order(desk, guard, leg)
    assert {fault.path for fault in desk.venue._faults if fault.times} <= {"order/external"}, "all of them were put"


@pytest.mark.parametrize("path", [path for path in QUESTIONS if path not in DISPENSABLE])
@pytest.mark.parametrize("trouble", ["banned address", "garbage", "dropped"])
def test_trouble_at_a_question_that_lasts(desk: Desk, bot: Any, trouble: str, path: str) -> None:
    """The close is not settled; nothing is doubled or left when it is over."""
    guard, leg = bot
    desk.venue.strike(Fault(path, TROUBLES[trouble], method="GET", times=999))
    with pytest.raises(CloseUnsettled) as caught:
        guard.close_position("btc-1")
    assert not [key for key in KEYS.values() if key in str(caught.value)]
    assert guard.position("btc-1").state == "closing"
    assert len(desk.taken(leg)) <= 1
    desk.venue._faults.clear()
    went_on(desk, "recover")
    assert_one_order(desk, guard, leg)


@pytest.mark.parametrize("path", DISPENSABLE)
@troubles
def test_trouble_at_a_question_that_can_be_done_without(desk: Desk, bot: Any, trouble: str, path: str) -> None:
    """An order that the venue has just taken need not be shown at once."""
    guard, leg = bot
    desk.venue.strike(Fault(path, TROUBLES[trouble], method="GET", times=1 if path == "order/get" else 999))
    guard.close_position("btc-1")
    assert_one_order(desk, guard, leg)


@troubles
def test_trouble_at_everything_that_lasts(desk: Desk, bot: Any, trouble: str) -> None:
    """The venue is gone from the order on: what it has taken is found when it is back."""
    guard, leg = bot
    desk.venue.strike(Fault(CREATE, lambda _: desk.venue._faults.append(Fault("", TROUBLES[trouble], times=999))))
    with pytest.raises(CloseUnsettled):
        guard.close_position("btc-1")
    assert guard.position("btc-1").state == "closing"
    assert [filled for _, filled in desk.taken(leg)] == [10]
    desk.venue._faults.clear()
    went_on(desk, "recover")
    assert_one_order(desk, guard, leg)


@pytest.mark.parametrize("path", ["planorder/cancel", "stoporder/cancel", "order/cancel"])
@pytest.mark.parametrize("trouble", ["rate limit", "late", "garbage", "dropped", "lost", "500"])
def test_trouble_at_a_cancel(desk: Desk, bot: Any, trouble: str, path: str) -> None:
    """The next read tells what rests; nothing does in the end."""
    guard, leg = bot
    desk.rests(leg)
    desk.venue.book.protect(BTC, leg.side, "take_profit", 10, 70_000)
    desk.venue.strike(Fault(f"/{path}$", TROUBLES[trouble]))
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)


@pytest.mark.parametrize("config", [{"apiKey": "wrong"}, {"secret": "wrong"}], ids=["key", "secret"])
@pytest.mark.usefixtures("in_a_hurry")
def test_a_bot_with_wrong_keys(desk: Desk, config: dict[str, str]) -> None:
    """It closes nothing and says why; a bot with the right ones goes on with it."""
    _, leg = tracked(desk)
    desk.connect(config=config)
    guard = desk.guard()
    with pytest.raises(CloseUnsettled, match=r"mexc answered (401|602)"):
        guard.close_position("btc-1")
    assert (desk.sent(), len(desk.venue.book.open_orders(leg))) == ([], 2)
    went_on(desk, "recover")
    assert_one_order(desk, desk.guard(), leg)


def test_an_order_that_gets_there_after_the_client_gave_up(desk: Desk) -> None:
    """It is found by its client order id, and not sent again: within its window the close goes on asking."""
    _, leg = tracked(desk, bare=True)
    desk.connect(config={"timeout": 300}, denies_for=1.0)
    guard = desk.guard()
    arrive = threading.Event()

    def look(request: Any) -> None:
        arrive.set()

    desk.venue.strike(Fault(CREATE, arrive), Fault("order/external", look))
    guard.close_position("btc-1")
    assert len(desk.sent()) == 1
    assert_one_order(desk, guard, leg)


@pytest.mark.usefixtures("in_a_hurry")
def test_two_positions_in_trouble_are_both_recovered(desk: Desk) -> None:
    """One call goes on with all that is unsettled."""
    desk.venue.book.open_position("ETH/USDT:USDT", "short", 5)
    guard, leg = tracked(desk)
    guard.track(Position("eth-1", "ETH/USDT:USDT", "short", 5, 3_000))
    desk.venue.strike(Fault(CREATE, BANNED, times=99))
    for each in ("btc-1", "eth-1"):
        with pytest.raises(CloseUnsettled):
            guard.close_position(each)
    desk.venue._faults.clear()
    assert [(each.position_id, each.error) for each in guard.recover()] == [("btc-1", None), ("eth-1", None)]
    assert_one_order(desk, guard, leg)
    assert guard.position("eth-1").state == "closed"
