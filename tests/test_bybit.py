"""What is Bybit's own: its codes, its order families, its position index, its order history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from loopback.bybit import BANNED, RATE_LIMITED, Bybit
from loopback.bybit_rows import refusal
from loopback.desk import LONG, SHORT, SYMBOL, Desk, desk_at, other
from loopback.server import Fault, Reply
from poslock import UnsupportedMarket
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
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock.position import Side

CREATE, REALTIME, POSITIONS = "/v5/order/create", "/v5/order/realtime", "/v5/position/list"

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.takes_turns,
]
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def venue(tmp_path: Path, *, hedge: bool) -> Bybit:
    return Bybit(tmp_path / "exchange.db", hedge=hedge)


@pytest.fixture
def desk(venue: Bybit, tmp_path: Path, *, asynchronous: bool) -> Iterator[Desk]:
    with desk_at(venue, tmp_path, asynchronous=asynchronous) as desk:
        yield desk


def answer(code: int) -> Reply:
    return Reply(200, {"retCode": code, "retMsg": "words", "result": {}, "retExtInfo": {}, "time": 1})


def by_hand(venue: Bybit, leg: Leg, *, reduces: bool) -> dict[str, Any]:
    """What a limit order of the trader says: one that takes from *leg*, or one that opens it."""
    sells = (leg.side == "long") == reduces
    index = {"long": 1, "short": 2}[leg.side] if venue.hedge else 0
    said = {"category": "linear", "symbol": "BTCUSDT", "orderType": "Limit", "qty": "2", "positionIdx": index}
    price = {"side": "Sell", "price": "70000"} if sells else {"side": "Buy", "price": "50000"}
    return {**said, **price, "reduceOnly": reduces}


def protected(desk: Desk, venue: Bybit, leg: Leg) -> None:
    """A limit order, a conditional one of ours, and the position's TP/SL and trailing orders."""
    desk.trader.private_post_v5_order_create(by_hand(venue, leg, reduces=True))
    desk.exchange.place_stop(desk.stop("take_profit", f"tp{leg.side}", leg))
    stop_loss, take_profit = ("57000", "66000") if leg.side == "long" else ("66000", "57000")
    index = {"long": 1, "short": 2}[leg.side] if venue.hedge else 0
    position = {"category": "linear", "symbol": "BTCUSDT", "positionIdx": index, "tpslMode": "Full"}
    prices = {"stopLoss": stop_loss, "takeProfit": take_profit, "trailingStop": "100"}
    desk.trader.private_post_v5_position_trading_stop({**position, **prices})


@both_modes
@both_sides
def test_every_family_is_listed_and_cancelled(desk: Desk, venue: Bybit, side: Side, *, hedge: bool) -> None:
    """Plain, conditional, TP/SL and trailing orders of the leg; none of the other one, and none that opens."""
    leg = desk.hold(side)
    protected(desk, venue, leg)
    desk.trader.private_post_v5_order_create(by_hand(venue, other(leg), reduces=False))
    if hedge:
        desk.book.open_position(SYMBOL, other(leg).side, 3)
        protected(desk, venue, other(leg))
    listed = desk.exchange.open_orders(leg)
    assert all(order.leg == leg for order in listed)
    assert sorted(order.family for order in listed) == ["order", "stop_loss", "take_profit", "take_profit", "trailing"]
    desk.connect()
    desk.exchange.prepare()
    for order in listed:
        desk.exchange.cancel(order)
    assert desk.exchange.open_orders(leg) == []
    assert len(desk.exchange.open_orders(other(leg))) == (5 if hedge else 0)
    assert len(venue.trailing) == int(hedge)


@pytest.mark.parametrize("hedge", [False, True])
def test_a_close_leaves_no_order_of_any_family(desk: Desk, venue: Bybit) -> None:
    """Whoever placed them."""
    desk.hold()
    guard = desk.guard()
    position = guard.adopt(SYMBOL, "long").position
    protected(desk, venue, LONG)
    desk.assert_closed_once(guard.close_position(position.id), position)
    assert venue.trailing == []


@pytest.mark.parametrize(
    ("kind", "trigger", "direction", "family"),
    [
        ("PartialStopLoss", "57000", 2, "stop_loss"),
        ("PartialTakeProfit", "66000", 1, "take_profit"),
        ("Stop", "57000", 2, "stop_loss"),
        ("Stop", "66000", 1, "take_profit"),
        ("UNKNOWN", "", 0, "order"),
        ("MmRateClose", "0.00", 0, "order"),
        ("TrailingStop", "61000", 1, "trailing"),
    ],
)
def test_kinds_of_orders(desk: Desk, venue: Bybit, kind: str, trigger: str, direction: int, family: str) -> None:
    """The kind that the venue names decides, else the direction of the trigger."""
    desk.hold()
    protected(desk, venue, LONG)
    row = venue.trailing[-1]
    row.update(stopOrderType=kind, triggerPrice=trigger, triggerDirection=direction)
    [order] = [each for each in desk.exchange.open_orders(LONG) if each.order_id == row["orderId"]]
    assert order.family == family


@pytest.mark.parametrize("change", [{"qty": None}, {"qty": "NaN"}, {"orderId": None}])
def test_orders_that_cannot_be_understood(desk: Desk, venue: Bybit, change: dict[str, Any]) -> None:
    """They are not passed over: the question has no answer."""
    desk.hold()
    protected(desk, venue, LONG)
    if change.get("orderId", "") is None:
        del venue.trailing[-1]["orderId"]
    else:
        venue.trailing[-1].update(change)
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.open_orders(LONG)


def test_an_order_that_only_the_history_knows(desk: Desk, venue: Bybit) -> None:
    """After a restart of the venue the first list has forgotten it."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    venue.forgets = True
    assert desk.exchange.order(LONG, "c1").filled == 4
    assert desk.exchange.order(LONG, "c2") is None


@both_modes
@both_sides
def test_what_a_close_says(desk: Desk, side: Side, *, hedge: bool) -> None:
    """It only reduces, it names its leg, it bears the id, and it was signed as of the lease check, with its window."""
    leg = desk.hold(side)
    order = desk.closing("2.5", "close1", leg, age_ms=300, window_ms=4321)
    desk.exchange.place(order)
    [request] = desk.sent(CREATE)
    assert request.params == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Sell" if side == "long" else "Buy",
        "orderType": "Market",
        "qty": "2.5",
        "positionIdx": {"long": 1, "short": 2}[side] if hedge else 0,
        "reduceOnly": True,
        "orderLinkId": "close1",
    }
    stamped = request.headers["x-bapi-timestamp"], request.headers["x-bapi-recv-window"]
    assert stamped == (str(order.signed_at_ms), "4321")


def test_what_a_stop_order_says(desk: Desk) -> None:
    """It only reduces, and triggers on the last price."""
    desk.hold("short")
    desk.exchange.place_stop(desk.stop("stop_loss", "s1", SHORT))
    [request] = desk.sent(CREATE)
    expected = {"side": "Buy", "triggerPrice": "66000", "triggerDirection": 1, "triggerBy": "LastPrice"}
    assert expected.items() <= request.params.items()
    assert request.params["reduceOnly"] is True


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (refusal(10002), RequestExpired),
        (answer(-1), RequestExpired),
        (answer(10003), KeysRefused),
        (answer(10005), KeysRefused),
        (answer(10010), KeysRefused),
        (answer(10009), KeysRefused),
        (RATE_LIMITED, RateLimited),
        (BANNED, RateLimited),
        (answer(110063), UnderMaintenance),
        (refusal(110074), UnderMaintenance),
        (refusal(110017), NothingToReduce),
        (answer(110034), NothingToReduce),
        (refusal(110072), DuplicateClientOrderId),
        (refusal(10001), OrderRefused),
        (answer(110094), OrderRefused),
        (answer(110092), StopWouldTrigger),
        (refusal(110093), StopWouldTrigger),
        (answer(10000), OutcomeUnknown),
        (refusal(10016), OutcomeUnknown),
        (answer(10014), OutcomeUnknown),
        (answer(110079), OutcomeUnknown),
        (answer(429), RateLimited),
        (Reply(200, {"retCode": 30084, "result": {"orderId": "1", "orderLinkId": "c1"}}), OutcomeUnknown),
        (answer(999_999), OutcomeUnknown),
        (Reply(429, {"retCode": 10429, "retMsg": "words"}), RateLimited),
        (Reply(503, "<html><body>503</body></html>", {"Content-Type": "text/html"}), OutcomeUnknown),
        (Reply(401, "", {"Content-Type": "text/plain"}), KeysRefused),
    ],
)
def test_what_became_of_an_order(desk: Desk, reply: Reply, meaning: type[ExchangeError]) -> None:
    """By the venue's code; a code that says nothing of it leaves it unknown."""
    desk.hold()
    desk.venue.strike(Fault(CREATE, reply))
    with pytest.raises(ExchangeError) as raised:
        desk.exchange.place(desk.closing(10))
    assert type(raised.value) is meaning


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (refusal(10003), KeysRefused),
        (RATE_LIMITED, RateLimited),
        (BANNED, RateLimited),
        (refusal(10016), ExchangeUnavailable),
        (refusal(110072), ExchangeUnavailable),
    ],
)
def test_what_became_of_a_question(desk: Desk, reply: Reply, meaning: type[ExchangeError]) -> None:
    """It was turned away, or it has no answer; it is never an order's error."""
    desk.hold()
    desk.strike_question(POSITIONS, reply)
    with pytest.raises(ExchangeUnavailable) as raised:
        desk.held(LONG)
    assert type(raised.value) is meaning
    assert issubclass(meaning, NotServed) or not isinstance(raised.value, OrderRefused)


def test_a_cancel_that_is_refused(desk: Desk) -> None:
    """Only what says that the order has ended is no error."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss", "s1"))
    desk.venue.strike(Fault("/cancel", RATE_LIMITED), Fault("/cancel", answer(10001)))
    with pytest.raises(RateLimited):
        desk.exchange.cancel(placed)
    with pytest.raises(OrderRefused):
        desk.exchange.cancel(placed)
    for code in (110001, 110008, 110010):
        desk.venue.strike(Fault("/cancel", answer(code)))
        desk.exchange.cancel(placed)
    assert desk.exchange.open_orders(LONG) == [placed]


@pytest.mark.parametrize("status", [1, 2, 7])
def test_an_account_that_is_not_unified(desk: Desk, venue: Bybit, status: int) -> None:
    """It is refused before anything is sent."""
    venue.status = status
    with pytest.raises(UnsupportedMarket, match="unified"):
        desk.exchange.prepare()
    with pytest.raises(UnsupportedMarket, match="unified"):
        desk.guard().adopt(SYMBOL, "long")


def test_a_position_mode_that_is_not_known(desk: Desk) -> None:
    """A position index that contradicts its side is refused."""
    desk.hold()
    row = {"positionIdx": 2, "symbol": "BTCUSDT", "side": "Buy", "size": "10", "avgPrice": "60000"}
    page = {"retCode": 0, "retMsg": "OK", "result": {"list": [row], "nextPageCursor": ""}}
    desk.strike_question(POSITIONS, Reply(200, page))
    with pytest.raises(UnsupportedMarket, match="position index"):
        desk.exchange.place(desk.closing(10))
    assert desk.sent(CREATE) == []


def test_what_the_key_may_do(desk: Desk, venue: Bybit) -> None:
    """Trade or not, withdraw or not; the mode is each symbol's own."""
    inspection = desk.exchange.inspect()
    assert (inspection.hedge, inspection.may_trade, inspection.may_withdraw) == (None, True, False)
    assert abs(inspection.clock_ms) < 1000
    venue.permissions = {"Wallet": ["Withdraw"]}
    inspection = desk.exchange.inspect()
    assert (inspection.may_trade, inspection.may_withdraw) == (False, True)


# Executions.


def executed(kind: str, side: str, size: str, closed: str, at_ms: int, **more: Any) -> dict[str, Any]:
    """A row of the list of executions."""
    row = {"symbol": "BTCUSDT", "orderId": f"of-{kind}", "orderLinkId": "", "side": side, "execFee": "1"}
    row |= {"execId": f"{kind}-{side}-{size}", "execPrice": "60000", "execQty": size, "execType": kind}
    return {**row, "execTime": str(at_ms), "closedSize": closed, "seq": 10**9, **more}


@both_modes
@pytest.mark.parametrize("kind", ["AdlTrade", "BustTrade", "Delivery", "BlockTrade", "MovePosition", "FutureSpread"])
def test_executions_that_nobody_ordered(desk: Desk, venue: Bybit, kind: str) -> None:
    """Liquidation, deleveraging, delisting: they take from the position, so they are exits."""
    desk.hold()
    venue.executions = [executed(kind, "Sell", "4", "4", venue.clock_ms())]
    told = desk.exchange.trades(LONG, 0)
    assert [(trade.effect, trade.fill.contracts) for trade in told] == [("entry", 10), ("exit", 4)]


@both_modes
@pytest.mark.parametrize("closed", ["", "0", "10"])
@pytest.mark.parametrize("kind", ["Funding", "Settle", "SessionSettlePnL", "Dividend", "ReverseSplitSettle", "UNKNOWN"])
def test_executions_that_are_no_trades(desk: Desk, venue: Bybit, kind: str, closed: str) -> None:
    """What settles moves no position, whatever size it names; what is not known is not guessed."""
    desk.hold()
    venue.executions = [executed(kind, side, "10", closed, venue.clock_ms()) for side in ("Buy", "Sell")]
    assert [trade.effect for trade in desk.exchange.trades(LONG, 0)] == ["entry"]


def test_executions_of_one_millisecond(desk: Desk, venue: Bybit) -> None:
    """The list may tell them in any order; the venue's sequence number says which came first."""
    desk.exchange.prepare()
    at_ms = venue.clock_ms()
    sides = {3: "Buy", 1: "Buy", 4: "Sell", 2: "Sell"}
    venue.executions = [executed("Trade", side, str(seq), "", at_ms, seq=seq) for seq, side in sides.items()]
    told = desk.exchange.trades(LONG, 0)
    assert [(trade.effect, trade.fill.contracts) for trade in told] == [
        ("entry", 1),
        ("exit", 2),
        ("entry", 3),
        ("exit", 4),
    ]


@both_modes
def test_the_mode_of_a_market_is_asked_once(desk: Desk, venue: Bybit, *, hedge: bool) -> None:
    """Executions do not tell which leg they are of; a position does, and an empty one too."""
    desk.exchange.prepare()
    venue.executions = [executed("Trade", "Sell", "4", "", venue.clock_ms())]
    for _ in range(2):
        assert [trade.effect for trade in desk.exchange.trades(LONG, 0)] == ([] if hedge else ["exit"])
        assert [trade.effect for trade in desk.exchange.trades(SHORT, 0)] == ["entry"]
    assert [request.params.get("cursor") for request in desk.sent(POSITIONS, "GET")] == [None, "page:200"]


def test_a_market_whose_mode_is_not_told(desk: Desk) -> None:
    """Whose trades they are is not guessed."""
    desk.exchange.prepare()
    page = {"retCode": 0, "retMsg": "OK", "result": {"list": [], "nextPageCursor": ""}}
    desk.strike_question(POSITIONS, Reply(200, page))
    with pytest.raises(ExchangeUnavailable, match="position mode"):
        desk.exchange.trades(LONG, 0)
    assert desk.exchange.trades(LONG, 0) == []


def test_holdings_of_several_currencies(desk: Desk) -> None:
    """The venue is asked for each of them."""
    desk.hold()
    leg = Leg("ETH/USDT:USDT", "long")
    desk.behind._client.ccxt.markets[leg.symbol] |= {"settle": "USDC", "settleId": "USDC"}
    assert [holding.leg for holding in desk.exchange.holdings([leg, LONG])] == [LONG]
    assert [request.params["settleCoin"] for request in desk.sent(POSITIONS, "GET")] == ["USDC", "USDT", "USDT"]
