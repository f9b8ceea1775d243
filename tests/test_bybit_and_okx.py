"""Bybit and OKX through real ccxt clients, against accounts on this machine: what both have to do alike."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from loopback import bybit, bybit_rows, okx, okx_rows
from loopback.desk import LONG, SHORT, SYMBOL, Desk, desk_at, other, trigger
from loopback.server import KEYS, Fault, Reply
from poslock import ChangeRefused, ClosedPosition, Position, PositionAlreadyClosingError, UnsupportedMarket
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    KeysRefused,
    NothingToReduce,
    OrderRefused,
    OutcomeUnknown,
    RequestExpired,
)
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback.server import Request
    from poslock.position import Side

HTML = Reply(502, "<html><body>Bad Gateway</body></html>", {"Content-Type": "text/html"})
CREATE = {"bybit": "/v5/order/create", "okx": "/api/v5/trade/order"}
CREATE_STOP = {"bybit": "/v5/order/create", "okx": "/api/v5/trade/order-algo"}
CLOCK = {"bybit": "/v5/market/time", "okx": "/api/v5/public/time"}
POSITIONS = {"bybit": "/v5/position/list", "okx": "/api/v5/account/positions"}
LATE = {"bybit": "10002", "okx": "50102"}
WRONG_SIGNATURE = {"bybit": "10004", "okx": "50113"}
SMALLEST = {"bybit": Decimal("0.001"), "okx": Decimal("0.01")}
LARGEST = {"bybit": Decimal(100), "okx": Decimal(100_000)}
NOTHING = {"bybit": "110017", "okx": "51169"}

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.takes_turns,
    pytest.mark.parametrize("name", ["bybit", "okx"]),
]
FEE_RATE = Decimal("0.0005")
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])
both_kinds = pytest.mark.parametrize("kind", ["stop_loss", "take_profit"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def desk(tmp_path: Path, name: str, settings: dict[str, Any], *, asynchronous: bool, hedge: bool) -> Iterator[Desk]:
    kind: Any = {"bybit": bybit.Bybit, "okx": okx.Okx}[name]
    with desk_at(kind(tmp_path / "exchange.db", hedge=hedge, **settings), tmp_path, asynchronous=asynchronous) as desk:
        yield desk


# Questions.


@both_modes
@both_sides
def test_what_is_held(desk: Desk, name: str, side: Side) -> None:
    """The leg, its size, entry price and contract; nothing of the other one."""
    leg = desk.hold(side)
    desk.book.set_price(SYMBOL, 61_000)
    held = desk.book.holding(leg)
    assert held is not None
    assert held.contracts == 10
    sizes: dict[str, Any] = {"smallest": SMALLEST[name], "step": SMALLEST[name], "largest": LARGEST[name]}
    assert desk.exchange.holding(leg) == replace(held, tick=Decimal("0.1"), **sizes)
    assert desk.exchange.holding(other(leg)) is None
    assert desk.exchange.price(leg) == 61_000


@both_modes
def test_all_that_is_held_in_one_request(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch, *, hedge: bool
) -> None:
    """Of the legs that are asked about, in their order; without what is not held and what the client does not know."""
    monkeypatch.setattr("poslock.exchange.ccxt.bybit.venue._POSITIONS", 2)
    sides: dict[str, Side] = {SYMBOL: "long", "ETH/USDT:USDT": "short", "COIN7/USDT:USDT": "long"}
    held = [Leg(symbol, side) for symbol, side in sides.items()]
    for leg in [*held, Leg("COIN8/USDT:USDT", "short")]:
        desk.book.set_price(leg.symbol, 60_000)
        desk.book.open_position(leg.symbol, leg.side, 3)
    if hedge:
        desk.book.open_position(SYMBOL, "short", 2)
        held.append(SHORT)
    desk.exchange.prepare()
    asked = [Leg("NONE/USDT:USDT", "long"), *held[::-1], Leg("COIN9/USDT:USDT", "long"), LONG, other(held[0])]
    found = desk.exchange.holdings(asked)
    pages = [request.params.get("cursor") for request in desk.sent(POSITIONS[name], "GET")]
    assert [holding.leg for holding in found] == held[::-1]
    assert found == [desk.exchange.holding(leg) for leg in held[::-1]]
    assert pages[1:] == ([] if name == "okx" else [f"page:{2 * number}" for number in range(1, len(pages))])


def test_holdings_of_nothing(desk: Desk, name: str) -> None:
    """Nobody is asked; and before anything is prepared no leg is known, which is no answer."""
    with pytest.raises(ExchangeUnavailable, match="prepare"):
        desk.exchange.holdings([LONG])
    desk.exchange.prepare()
    assert desk.exchange.holdings([]) == desk.exchange.holdings([Leg("NONE/USDT:USDT", "long")]) == []
    assert desk.sent(POSITIONS[name], "GET") == []


def test_holdings_without_an_answer(desk: Desk, name: str) -> None:
    """Nothing is held is never what is said then."""
    desk.hold()
    for what in ("drop", "cut", "garbage", HTML, Reply(200, {"nothing": "in it"}), Reply(200, "[]")):
        desk.strike_question(POSITIONS[name], what)
        with pytest.raises(ExchangeUnavailable):
            desk.exchange.holdings([LONG])
    assert [holding.contracts for holding in desk.exchange.holdings([LONG])] == [10]


@pytest.mark.parametrize("hedge", [True])
def test_the_legs_of_a_hedge_are_two(desk: Desk) -> None:
    """Each is what it is, and closing one leaves the other alone."""
    desk.hold("long", 10)
    desk.hold("short", 4)
    assert [desk.held(LONG), desk.held(SHORT)] == [10, 4]
    desk.exchange.place(desk.closing(4, leg=SHORT))
    assert [desk.book.held(LONG), desk.book.held(SHORT)] == [10, 0]
    assert desk.told("exit", LONG) == []
    assert [fill.contracts for fill in desk.told("exit", SHORT)] == [4]


def test_a_clock_that_is_an_hour_off(desk: Desk) -> None:
    """What counts is the venue's."""
    desk.venue.offset_ms = 3_600_000
    desk.hold()
    assert abs(desk.exchange.time_ms() - desk.venue.clock_ms()) < 1000
    desk.exchange.place(desk.closing(10))
    assert desk.book.held(LONG) == 0
    assert desk.exchange.inspect().clock_ms < -3_590_000


def test_a_market_that_is_not_there(desk: Desk) -> None:
    """It is refused before anything is asked."""
    desk.exchange.prepare()
    with pytest.raises(UnsupportedMarket, match="no market"):
        desk.held(Leg("NONE/USDT:USDT", "long"))


def test_a_question_without_an_answer(desk: Desk, name: str) -> None:
    """It raises one error, whatever came instead."""
    desk.hold()
    for what in ("drop", "cut", "garbage", HTML, Reply(200, {"nothing": "in it"}), Reply(200, "[]")):
        desk.strike_question(POSITIONS[name], what)
        with pytest.raises(ExchangeUnavailable):
            desk.held(LONG)
    assert desk.held(LONG) == 10


def test_another_key(desk: Desk, name: str) -> None:
    """The signature is judged, and the keys are in no message."""
    client = desk.behind._client.ccxt
    desk.hold()
    client.secret = "another-secret-DO-NOT-LOG-4"  # noqa: S105  # that is the case
    with pytest.raises(KeysRefused, match=WRONG_SIGNATURE[name]) as refused:
        desk.held(LONG)
    client.secret, client.apiKey = KEYS["secret"], "another-key-DO-NOT-LOG-5"
    with pytest.raises(KeysRefused) as unknown:
        desk.held(LONG)
    assert "DO-NOT-LOG" not in f"{refused.value}{unknown.value}"


# A close.


@both_modes
@both_sides
def test_a_close(desk: Desk, side: Side, *, hedge: bool) -> None:
    """It takes off what it says, is found by its id, and its fill is told."""
    leg = desk.hold(side)
    if hedge:
        desk.book.open_position(SYMBOL, other(leg).side, 3)
    desk.book.set_price(SYMBOL, 61_000)
    placed = desk.exchange.place(desk.closing(4, "close1", leg))
    assert (placed.client_order_id, placed.family, placed.leg, placed.contracts) == ("close1", "order", leg, 4)
    assert [desk.book.held(leg), desk.book.held(other(leg))] == [6, 3 if hedge else 0]
    found = desk.exchange.order(leg, "close1")
    assert found == replace(placed, state="filled", filled=Decimal(4))
    [fill], [of_book] = desk.told("exit", leg), desk.book.fills(leg, 0)
    assert fill == replace(of_book, trade_id=fill.trade_id, client_order_id="close1")
    assert fill.fee > 0


@both_modes
@both_sides
def test_a_close_of_more_than_is_held(desk: Desk, side: Side) -> None:
    """It takes off what is there, and opens nothing."""
    leg = desk.hold(side, 3)
    desk.exchange.place(desk.closing(10, "close1", leg))
    assert [desk.book.held(leg), desk.book.held(other(leg))] == [0, 0]
    assert desk.exchange.order(leg, "close1").filled == 3


def test_a_close_beyond_the_largest_order(desk: Desk) -> None:
    """It is one order, of as much as the venue takes at once; so its id finds all of it."""
    desk.venue.largest = Decimal(4)
    desk.hold()
    assert desk.exchange.place(desk.closing(10)).contracts == 4
    assert [desk.book.held(LONG), desk.exchange.order(LONG, "c1").filled] == [6, 4]


@both_modes
@both_sides
def test_nothing_is_sent_for_what_is_not_held(desk: Desk, name: str, side: Side) -> None:
    """Neither a close nor a stop order, and the other leg is nothing to go by."""
    leg = other(desk.hold(side))
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10, leg=leg))
    with pytest.raises(NothingToReduce):
        desk.exchange.place_stop(desk.stop("stop_loss", "s1", leg))
    assert desk.sent(CREATE[name]) == desk.sent(CREATE_STOP[name]) == []


@both_modes
def test_what_was_held_is_gone_when_the_close_arrives(desk: Desk, name: str) -> None:
    """The venue says so, and that is not taken for a success."""
    desk.hold()

    def gone(request: Any) -> None:
        with desk.venue.book._account() as account:
            account.execute(account.insert(LONG, "order", Decimal(10)))

    desk.venue.strike(Fault(CREATE[name] + "$", gone))
    with pytest.raises(NothingToReduce) as refused:
        desk.exchange.place(desk.closing(10))
    assert refused.value.code == NOTHING[name]
    assert desk.book.held(SHORT) == 0


@pytest.mark.parametrize("settings", [{"liquidity": "4"}])
def test_a_close_that_is_filled_in_part(desk: Desk) -> None:
    """It has ended, with what it took off."""
    desk.hold()
    desk.exchange.place(desk.closing(10))
    found = desk.exchange.order(LONG, "c1")
    assert (found.state, found.contracts, found.filled) == ("canceled", 10, 4)


@pytest.mark.parametrize("settings", [{"liquidity": "4", "remainder_rests": 60.0}])
def test_a_client_order_id_that_is_out_already(desk: Desk, name: str) -> None:
    """Whoever sends it again is told to ask, not that it was refused: it may be filled."""
    desk.hold()
    desk.exchange.place(desk.closing(6))
    desk.exchange.place_stop(desk.stop("stop_loss", "s1", contracts=2))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing(6))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place_stop(desk.stop("stop_loss", "s1", contracts=2))
    assert len([each for each in desk.book.orders(LONG) if each.family == "order"]) == 1


@pytest.mark.parametrize("what", ["lose", "cut", "garbage"])
def test_an_answer_that_is_lost(desk: Desk, name: str, what: Any) -> None:
    """The outcome is unknown; the id tells what became of it."""
    desk.hold()
    desk.venue.strike(Fault(CREATE[name] + "$", what), Fault(CREATE_STOP[name] + "$", what))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))
    assert len(desk.sent(CREATE[name])) == 1
    assert desk.exchange.order(LONG, "c1").filled == 4
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place_stop(desk.stop("stop_loss", "s1", contracts=6))
    assert desk.exchange.order(LONG, "s1").state == "open"


@pytest.mark.parametrize("what", ["drop", HTML])
def test_a_request_that_is_lost(desk: Desk, name: str, what: Any) -> None:
    """It left once, its outcome is unknown, and there is no such order."""
    desk.hold()
    desk.venue.strike(Fault(CREATE[name] + "$", what))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))
    assert len(desk.sent(CREATE[name])) == 1
    assert desk.exchange.order(LONG, "c1") is None
    assert desk.book.held(LONG) == 10


def test_an_answer_about_another_order(desk: Desk, name: str) -> None:
    """It is not believed."""
    desk.hold()
    body = {
        "bybit": {"retCode": 0, "result": {"orderId": "x", "orderLinkId": "another"}},
        "okx": {"code": "0", "data": [{"ordId": "x", "clOrdId": "another", "sCode": "0"}]},
    }[name]
    desk.venue.strike(Fault(CREATE[name] + "$", Reply(200, body)))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))


# Time.


@pytest.mark.parametrize("age_ms", [5100, 60_000])
def test_a_late_close_is_refused(desk: Desk, name: str, age_ms: int) -> None:
    """Signed longer ago than its window is, it is not taken; and the clock is asked for anew."""
    desk.hold()
    asked = len(desk.sent(CLOCK[name], "GET"))
    with pytest.raises(RequestExpired) as refused:
        desk.exchange.place(desk.closing(10, age_ms=age_ms))
    assert refused.value.code == LATE[name]
    assert desk.book.held(LONG) == 10
    assert desk.exchange.order(LONG, "c1") is None
    assert len(desk.sent(CLOCK[name], "GET")) == asked + 1


def test_a_late_stop_order_is_refused(desk: Desk, name: str) -> None:
    """As a close, although OKX has no deadline for conditional orders."""
    desk.hold()
    with pytest.raises(RequestExpired) as refused:
        desk.exchange.place_stop(desk.stop("stop_loss", "s1", age_ms=5100))
    assert refused.value.code == LATE[name]
    assert desk.exchange.open_orders(LONG) == []


@pytest.mark.parametrize("method", ["place", "place_stop"])
def test_a_request_that_is_held_up_on_its_way(desk: Desk, name: str, method: str) -> None:
    """The window ends while it travels."""
    desk.hold()
    path = {"place": CREATE, "place_stop": CREATE_STOP}[method][name]
    desk.venue.strike(Fault(path + "$", 0.6))
    order = desk.closing(10) if method == "place" else desk.stop("stop_loss", "s1")
    with pytest.raises(RequestExpired):
        getattr(desk.exchange, method)(replace(order, receive_window_ms=500))
    assert desk.book.held(LONG) == 10
    assert desk.exchange.open_orders(LONG) == []


def test_a_request_within_its_window(desk: Desk) -> None:
    """Also one that was signed a while ago, as long as that."""
    desk.hold()
    desk.exchange.place_stop(desk.stop("stop_loss", "s1", age_ms=4000))
    desk.exchange.place(desk.closing(10, age_ms=4000))
    assert desk.book.held(LONG) == 0


# Stop orders.


@both_modes
@both_sides
@both_kinds
def test_a_stop_order(desk: Desk, side: Side, kind: Any, *, hedge: bool) -> None:
    """It rests, is listed and found, triggers, and its fill bears its id."""
    leg = desk.hold(side)
    if hedge:
        desk.book.open_position(SYMBOL, other(leg).side, 3)
    order = desk.stop(kind, "s1", leg)
    placed = desk.exchange.place_stop(order)
    assert (placed.family, placed.leg, placed.trigger_price) == (kind, leg, trigger(kind, leg))
    assert desk.exchange.open_orders(leg) == [placed]
    assert desk.exchange.open_orders(other(leg)) == []
    assert desk.exchange.order(leg, "s1") == desk.exchange.stop(order) == placed
    desk.book.set_price(SYMBOL, trigger(kind, leg))
    assert [desk.book.held(leg), desk.book.held(other(leg))] == [0, 3 if hedge else 0]
    assert desk.exchange.order(leg, "s1") == replace(placed, state="filled", filled=Decimal(10))
    assert desk.exchange.open_orders(leg) == []
    [fill] = desk.told("exit", leg)
    assert (fill.client_order_id, fill.contracts, fill.price) == ("s1", Decimal(10), trigger(kind, leg))


@both_kinds
@both_sides
def test_a_stop_order_on_the_wrong_side(desk: Desk, kind: Any, side: Side) -> None:
    """The venue refuses it, and that is definite."""
    leg = desk.hold(side)
    with pytest.raises(OrderRefused):
        desk.exchange.place_stop(desk.stop(kind, "s1", leg, at=trigger(kind, other(leg))))
    assert desk.exchange.open_orders(leg) == []
    assert desk.exchange.order(leg, "s1") is None


def test_a_cancelled_stop_order(desk: Desk) -> None:
    """Cancelled from another process, and once more; then it has ended."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss", "s1"))
    desk.connect()
    desk.exchange.prepare()
    desk.exchange.cancel(placed)
    desk.exchange.cancel(placed)
    assert desk.exchange.open_orders(LONG) == []
    assert desk.exchange.order(LONG, "s1") == replace(placed, state="canceled")


def test_a_cancel_of_what_has_been_filled(desk: Desk) -> None:
    """It is no error: the caller reads again."""
    desk.hold()
    closed = desk.exchange.place(desk.closing(4))
    stop = desk.exchange.place_stop(desk.stop("stop_loss", "s1", contracts=6))
    desk.book.set_price(SYMBOL, 57_000)
    desk.exchange.cancel(closed)
    desk.exchange.cancel(stop)
    assert desk.book.held(LONG) == 0


def test_a_cancel_without_an_answer(desk: Desk) -> None:
    """Nobody says that it was done."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss", "s1"))
    desk.venue.strike(Fault("cancel", "drop"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.cancel(placed)
    assert desk.exchange.open_orders(LONG) == [placed]


# History.


def taken_by_hand(desk: Desk, leg: Leg, times: int) -> None:
    """One contract each time, a millisecond apart."""
    with desk.book._account() as account:
        for _ in range(times):
            account._now_ms += 1
            account.execute(account.insert(leg, "order", Decimal(1)))


@both_modes
def test_trades_are_complete_and_in_order(desk: Desk, *, hedge: bool) -> None:
    """However many pages they are; those before are none of them, nor in hedge mode those of the other leg."""
    leg = desk.hold("long", 250)
    taken_by_hand(desk, leg, times=210)
    of_book = desk.book.fills(leg, 0)
    told = desk.exchange.trades(leg, 0)
    assert [trade.effect for trade in told] == ["entry", *["exit"] * 210]
    assert [trade.fill.at_ms for trade in told[1:]] == [fill.at_ms for fill in of_book]
    since_ms = of_book[60].at_ms
    assert desk.exchange.trades(leg, since_ms) == told[61:]
    assert len({trade.fill.trade_id for trade in told}) == len({trade.order_id for trade in told}) == 211
    assert len(desk.exchange.trades(other(leg), 0)) == (0 if hedge else 211)


@both_modes
@both_sides
def test_entries_and_exits(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Each with its price, its fee and its order; in one-way mode they are those of the other leg, turned round."""
    leg = desk.hold(side)
    desk.book.set_price(SYMBOL, 61_000)
    desk.book.open_position(SYMBOL, side, 5)
    placed = desk.exchange.place(desk.closing(4, "close1", leg))
    desk.venue.fund(SYMBOL, "0.0001")  # type: ignore[attr-defined]
    size = desk.exchange.holding(leg).contract_size
    told = desk.exchange.trades(leg, 0)
    assert [(trade.effect, trade.fill.contracts, trade.fill.price, trade.fill.fee) for trade in told] == [
        ("entry", 10, 60_000, 10 * 60_000 * size * FEE_RATE),
        ("entry", 5, 61_000, 5 * 61_000 * size * FEE_RATE),
        ("exit", 4, 61_000, 4 * 61_000 * size * FEE_RATE),
    ]
    assert [trade.fill.fee_currency for trade in told] == ["USDT"] * 3
    assert [trade.fill.client_order_id for trade in told] == [None, None, "close1"]
    assert told[2].order_id == placed.order_id.removeprefix("order:")
    turned = [(trade.effect, trade.fill.contracts) for trade in desk.exchange.trades(other(leg), 0)]
    assert turned == ([] if hedge else [("exit", 10), ("exit", 5), ("entry", 4)])


@both_sides
def test_a_trade_that_turns_a_position_round(desk: Desk, side: Side) -> None:
    """It is one trade of both legs, whole and with its whole fee."""
    leg = desk.hold(side)
    desk.book.open_position(SYMBOL, other(leg).side, 15)
    desk.exchange.place(desk.closing(5, leg=other(leg)))
    told, of_other = desk.exchange.trades(leg, 0), desk.exchange.trades(other(leg), 0)
    assert [(trade.effect, trade.fill.contracts) for trade in told] == [("entry", 10), ("exit", 15), ("entry", 5)]
    assert [trade.effect for trade in of_other] == ["exit", "entry", "exit"]
    assert [trade.fill.trade_id for trade in of_other] == [trade.fill.trade_id for trade in told]
    assert told[1].fill.fee == 15 * told[1].fill.price * desk.venue.book._terms.contract.size * FEE_RATE


@pytest.mark.parametrize("hedge", [True])
def test_trades_of_two_legs_in_hedge_mode(desk: Desk) -> None:
    """Each has its own, also where one is bought while the other one is."""
    desk.hold("long", 10)
    desk.hold("short", 6)
    desk.exchange.place(desk.closing(4, "c1", LONG))
    desk.exchange.place(desk.closing(5, "c2", SHORT))
    for leg, expected in ((LONG, [("entry", 10), ("exit", 4)]), (SHORT, [("entry", 6), ("exit", 5)])):
        assert [(trade.effect, trade.fill.contracts) for trade in desk.exchange.trades(leg, 0)] == expected


@both_modes
def test_funding_is_no_trade(desk: Desk) -> None:
    """Whether it was paid or received."""
    leg = desk.hold()
    for rate in ("0.0001", "-0.0001"):
        desk.venue.fund(SYMBOL, rate)  # type: ignore[attr-defined]
    assert [trade.effect for trade in desk.exchange.trades(leg, 0)] == ["entry"]
    assert [trade.effect for trade in desk.exchange.trades(other(leg), 0) if trade.effect == "entry"] == []


@both_modes
def test_old_trades(desk: Desk) -> None:
    """They are told weeks later, when lists of what is recent have forgotten them."""
    leg = desk.hold()
    desk.exchange.place(desk.closing(4))
    first_ms = desk.book.fills(leg, 0)[0].at_ms
    desk.venue.offset_ms += 20 * 86_400_000
    desk.connect()
    desk.exchange.prepare()
    desk.exchange.place(desk.closing(6, "c2"))
    told = [(fill.client_order_id, fill.contracts) for fill in desk.told("exit", leg, first_ms)]
    assert told == [("c1", Decimal(4)), ("c2", Decimal(6))]


@both_modes
@both_sides
def test_funding(desk: Desk, side: Side, *, hedge: bool) -> None:
    """What the leg received, less what it paid, in that time and no other."""
    leg = desk.hold(side)
    if hedge:
        desk.book.open_position(SYMBOL, other(leg).side, 4)
    size = desk.exchange.holding(leg).contract_size
    began_ms = desk.venue.clock_ms()
    desk.venue.fund(SYMBOL, "0.0003")  # type: ignore[attr-defined]
    desk.venue.offset_ms += 2 * 3_600_000
    desk.venue.fund(SYMBOL, "-0.0001")  # type: ignore[attr-defined]
    desk.connect()
    desk.exchange.prepare()
    paid_by_long = Decimal(10) * 60_000 * size * Decimal("0.0001")
    sign = -1 if side == "long" else 1
    hour = 3_600_000
    assert desk.exchange.funding(leg, began_ms - hour, began_ms + hour) == sign * 3 * paid_by_long
    assert desk.exchange.funding(leg, began_ms + hour, began_ms + 3 * hour) == -sign * paid_by_long
    assert desk.exchange.funding(leg, began_ms - hour, began_ms + 3 * hour) == sign * 2 * paid_by_long
    assert desk.exchange.funding(leg, began_ms - 3 * hour, began_ms - hour) == 0
    of_other = -sign * 2 * paid_by_long * 4 / 10 if hedge else 0
    assert desk.exchange.funding(other(leg), began_ms - hour, began_ms + 3 * hour) == of_other


# The guard over it.


def tracked(desk: Desk, side: Side = "long", contracts: Any = 10) -> tuple[Any, Position]:
    """A guard, and a position of it."""
    leg = desk.hold(side, contracts)
    guard, size = desk.guard(), desk.exchange.holding(leg).contract_size
    position = Position("btc-1", SYMBOL, side, contracts, 60_000, contract_size=size)
    guard.track(position)
    return guard, position


@both_modes
@both_sides
def test_a_position_from_its_tracking_to_its_close(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Protected, protected anew, made smaller and closed: flat, no order left, booked once; the other leg untouched."""
    guard, position = tracked(desk, side)
    leg = Leg(SYMBOL, side)
    if hedge:
        desk.book.open_position(SYMBOL, other(leg).side, 3)
    first, second = (500, 1000) if side == "long" else (-500, -1000)
    guard.modify_position("btc-1", stop_loss=60_000 - second, take_profit=60_000 + second)
    changed = guard.modify_position("btc-1", stop_loss=60_000 - first)
    assert (changed.stop_loss, changed.take_profit) == (60_000 - first, 60_000 + second)
    assert {order.family for order in desk.exchange.open_orders(leg)} == {"stop_loss", "take_profit"}
    assert len(desk.exchange.open_orders(leg)) == 2
    assert guard.modify_position("btc-1", reduce_by=4).contracts == 6
    desk.book.set_price(SYMBOL, 60_000 + first // 2)
    desk.assert_closed_once(guard.close_position("btc-1", reason="test"), position)
    assert desk.book.held(other(leg)) == (3 if hedge else 0)
    with pytest.raises(PositionAlreadyClosingError):
        guard.close_position("btc-1")


def test_a_position_that_its_stop_loss_has_closed(desk: Desk) -> None:
    """It is booked with the price at which that happened."""
    guard, position = tracked(desk)
    guard.modify_position("btc-1", stop_loss=59_000, take_profit=61_000)
    desk.book.set_price(SYMBOL, 58_900)
    closed = guard.close_position("btc-1")
    assert closed.exit_price == 58_900
    assert closed.client_order_id is None
    desk.assert_closed_once(closed, position)


def test_a_change_that_the_venue_refuses(desk: Desk, name: str) -> None:
    """The old order stays."""
    guard, _ = tracked(desk)
    guard.modify_position("btc-1", stop_loss=59_000)
    body = {"bybit": bybit_rows.refusal(110092), "okx": okx_rows.refusal(51280)}[name]
    desk.venue.strike(Fault(CREATE_STOP[name] + "$", body))
    with pytest.raises(ChangeRefused):
        guard.modify_position("btc-1", stop_loss=59_500)
    assert [order.trigger_price for order in desk.exchange.open_orders(LONG)] == [59_000]


@pytest.mark.parametrize("or_close", [True, False])
def test_a_stop_that_comes_too_late(desk: Desk, name: str, *, or_close: bool) -> None:
    """The price ran through it: the position is closed at market if that is wanted, else the caller is told."""
    guard, position = tracked(desk)
    desk.venue.strike(Fault(CREATE_STOP[name] + "$", lambda _: desk.book.set_price(SYMBOL, 58_000)))
    if or_close:
        closed = guard.modify_position("btc-1", stop_loss=59_000, or_close=True)
        assert isinstance(closed, ClosedPosition)
        desk.assert_closed_once(closed, position)
        return
    with pytest.raises(ChangeRefused):
        guard.modify_position("btc-1", stop_loss=59_000)
    assert desk.book.held(LONG) == 10


@pytest.mark.parametrize("what", ["lose", "drop", "garbage"])
def test_a_close_whose_request_or_answer_is_lost(desk: Desk, name: str, what: Any) -> None:
    """It is closed by one order."""
    guard, position = tracked(desk)
    desk.venue.strike(Fault(CREATE[name] + "$", what))
    desk.assert_closed_once(guard.close_position("btc-1"), position)
    assert len([order for order in desk.book.orders(LONG) if order.filled]) == 1


@pytest.mark.parametrize("settings", [{"liquidity": "4"}])
def test_a_close_that_takes_several_orders(desk: Desk) -> None:
    """What one leaves, the next takes, each under an id of its own."""
    guard, position = tracked(desk)
    closed = guard.close_position("btc-1")
    desk.assert_closed_once(closed, position)
    assert len({fill.client_order_id for fill in closed.fills}) == 3


def test_funding_is_booked(desk: Desk) -> None:
    """With the close, once."""
    guard, position = tracked(desk)
    desk.venue.fund(SYMBOL, "0.0001")  # type: ignore[attr-defined]
    closed = guard.close_position("btc-1")
    assert closed.funding == -10 * 60_000 * position.contract_size * Decimal("0.0001")
    desk.assert_closed_once(closed, position, funding=closed.funding)


@both_modes
@both_sides
def test_adopting_what_is_held(desk: Desk, side: Side) -> None:
    """It is tracked as the venue holds it, grows with it, and closes."""
    leg, guard = desk.hold(side), desk.guard()
    adopted = guard.adopt(SYMBOL, side).position
    holding = desk.exchange.holding(leg)
    assert [adopted.contracts, adopted.entry_price] == [10, 60_000]
    assert (adopted.contract_size, adopted.settle) == (holding.contract_size, "USDT")
    desk.book.set_price(SYMBOL, 61_000)
    desk.book.open_position(SYMBOL, side, 10)
    grown = guard.adopt(SYMBOL, side).position
    assert [grown.contracts, grown.entry_price] == [20, 60_500]
    desk.assert_closed_once(guard.close_position(grown.id), grown)


def test_an_unknown_state_counts_as_resting(desk: Desk, name: str) -> None:
    """OKX has one that is not documented, ``order_placed``. The lists stay readable, and a close sweeps the order."""
    path, known, unknown = {
        "bybit": ("order/realtime", "Untriggered", "Newborn"),
        "okx": ("orders-algo-pending", "live", "order_placed"),
    }[name]

    def answered(request: Request) -> Reply:
        reply = desk.venue._carried_out(request)
        return replace(reply, body=json.loads(json.dumps(reply.body).replace(f'"{known}"', f'"{unknown}"')))

    leg = desk.hold()
    guard = desk.guard()
    guard.track(
        Position("p1", SYMBOL, "long", 10, 60_000, contract_size={"bybit": "1", "okx": "0.01"}[name]), verify=False
    )
    guard.modify_position("p1", stop_loss=57_000)
    desk.venue.strike(Fault(path, answered, method="GET", times=10**6))
    [order] = desk.exchange.open_orders(leg)
    assert (order.family, order.state) == ("stop_loss", "open")
    guard.close_position("p1")
    assert desk.exchange.open_orders(leg) == []
    assert desk.book.held(leg) == 0
