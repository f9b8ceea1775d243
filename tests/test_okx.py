"""What is OKX's own: its codes, conditional orders, margin modes, deadlines, and fills that explain little."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from loopback.desk import LONG, SHORT, SYMBOL, Desk, desk_at, other
from loopback.okx import BANNED, MAINTENANCE, RATE_LIMITED, Okx
from loopback.okx_rows import refusal
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
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock.position import Side

CREATE, CREATE_STOP = "/api/v5/trade/order", "/api/v5/trade/order-algo"
POSITIONS, FILLS = "/api/v5/account/positions", "/api/v5/trade/fills"

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.takes_turns,
]
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["net", "long-short"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def venue(tmp_path: Path, *, hedge: bool) -> Okx:
    return Okx(tmp_path / "exchange.db", hedge=hedge)


@pytest.fixture
def desk(venue: Okx, tmp_path: Path, *, asynchronous: bool) -> Iterator[Desk]:
    with desk_at(venue, tmp_path, asynchronous=asynchronous) as desk:
        yield desk


def failed(code: int, *, top: str = "1", status: int = 200) -> Reply:
    """An operation that failed, inside an answer."""
    row = {"ordId": "", "clOrdId": "", "algoId": "", "sCode": str(code), "sMsg": "words"}
    return Reply(status, {"code": top, "msg": "", "data": [row]})


def answer(code: int, status: int = 200) -> Reply:
    return Reply(status, {"code": str(code), "msg": "words", "data": []})


def said(venue: Okx, leg: Leg, *, reduces: bool) -> dict[str, Any]:
    """What all orders of the trader say that take from *leg*, or open it."""
    common = {"instId": "BTC-USDT-SWAP", "tdMode": venue.margin_mode, "sz": "2"}
    side = "sell" if (leg.side == "long") == reduces else "buy"
    mode = {"posSide": leg.side} if venue.hedge else {"posSide": "net", "reduceOnly": reduces}
    return {**common, "side": side, **mode}


def protected(desk: Desk, venue: Okx, leg: Leg) -> None:
    """An order of each type that there is."""
    common = said(venue, leg, reduces=True)
    whole = {**{name: value for name, value in common.items() if name != "sz"}, "closeFraction": "1"}
    stop_loss, take_profit = ("57000", "66000") if leg.side == "long" else ("66000", "57000")
    desk.trader.private_post_trade_order({**common, "ordType": "limit", "px": "70000"})
    both = {"slTriggerPx": stop_loss, "slOrdPx": "-1", "tpTriggerPx": take_profit, "tpOrdPx": "-1"}
    for kind, more in (
        ("oco", {**whole, **both}),
        ("trigger", {**common, "triggerPx": stop_loss, "orderPx": "-1"}),
        ("trigger", {**common, "triggerPx": take_profit, "orderPx": "-1"}),
        ("move_order_stop", {**common, "callbackRatio": "0.01"}),
        ("chase", common),
        ("twap", common),
        ("smart_iceberg", common),
    ):
        desk.trader.private_post_trade_order_algo({**more, "ordType": kind})
    desk.exchange.place_stop(desk.stop("stop_loss", f"sl{leg.side}", leg, contracts=2))
    desk.exchange.place_stop(desk.stop("take_profit", f"tp{leg.side}", leg, contracts=2))


FAMILIES = [*["order"] * 4, *["stop_loss"] * 3, *["take_profit"] * 3, "trailing"]


@both_modes
@both_sides
def test_every_family_is_listed_and_cancelled(desk: Desk, venue: Okx, side: Side, *, hedge: bool) -> None:
    """Plain orders and all types of conditional ones of the leg; none of the other one, and none that opens."""
    leg = desk.hold(side)
    protected(desk, venue, leg)
    opening = {**said(venue, other(leg), reduces=False), "ordType": "limit", "px": "65000"}
    desk.trader.private_post_trade_order(opening)
    if hedge:
        desk.book.open_position(SYMBOL, other(leg).side, 3)
        protected(desk, venue, other(leg))
    listed = desk.exchange.open_orders(leg)
    assert all(order.leg == leg for order in listed)
    assert sorted(order.family for order in listed) == FAMILIES
    with desk.book._account() as account:
        account.execute(account.insert(leg, "order", Decimal(10)))
    desk.connect()
    desk.exchange.prepare()
    for order in listed:
        desk.exchange.cancel(order)
    assert desk.exchange.open_orders(leg) == []
    assert sorted(order.family for order in desk.exchange.open_orders(other(leg))) == (FAMILIES if hedge else [])


@both_modes
def test_a_close_leaves_no_order_of_any_family(desk: Desk, venue: Okx) -> None:
    """Whoever placed them."""
    desk.hold()
    guard = desk.guard()
    position = guard.adopt(SYMBOL, "long").position
    protected(desk, venue, LONG)
    desk.assert_closed_once(guard.close_position(position.id), position)
    assert venue.algos == []


def test_an_order_with_two_triggers_is_not_cancelled_by_halves(desk: Desk, venue: Okx) -> None:
    """It protects the position until that is gone."""
    desk.hold()
    whole = {**said(venue, LONG, reduces=True), "ordType": "oco", "slTriggerPx": "57000", "tpTriggerPx": "66000"}
    desk.trader.private_post_trade_order_algo({**whole, "slOrdPx": "-1", "tpOrdPx": "-1"})
    stop_loss, take_profit = desk.exchange.open_orders(LONG)
    assert [stop_loss.family, take_profit.family] == ["stop_loss", "take_profit"]
    assert stop_loss.order_id == take_profit.order_id
    with pytest.raises(OrderRefused, match="both prices"):
        desk.exchange.cancel(take_profit)
    assert len(desk.exchange.open_orders(LONG)) == 2
    desk.exchange.place(desk.closing(10))
    desk.exchange.cancel(take_profit)
    assert desk.exchange.open_orders(LONG) == []


@pytest.mark.parametrize("change", [{"sz": "many"}, {"slTriggerPx": "NaN"}, {"reduceOnly": None}, {"posSide": None}])
def test_orders_that_cannot_be_understood(desk: Desk, venue: Okx, change: dict[str, Any]) -> None:
    """They are not passed over: the question has no answer."""
    desk.hold()
    protected(desk, venue, LONG)
    venue.algos[0].update(change)
    for field in [field for field, value in change.items() if value is None]:
        del venue.algos[0][field]
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.open_orders(LONG)


@both_modes
@both_sides
@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
def test_what_a_close_says(desk: Desk, venue: Okx, side: Side, margin_mode: str, *, hedge: bool) -> None:
    """It names the position's leg and margin mode, only reduces, and says in two ways until when it may arrive."""
    venue.margin_mode = margin_mode
    leg = desk.hold(side)
    order = desk.closing("2.5", "close1", leg, age_ms=300, window_ms=4321)
    desk.exchange.place(order)
    [request] = desk.sent(CREATE)
    assert request.params == {
        "instId": "BTC-USDT-SWAP",
        "tdMode": margin_mode,
        "side": "sell" if side == "long" else "buy",
        "ordType": "market",
        "sz": "2.5",
        "clOrdId": "close1",
        **({"posSide": side} if hedge else {"posSide": "net", "reduceOnly": True}),
    }
    expires_ms = order.signed_at_ms + 4321
    stamp_ms = round(datetime.fromisoformat(request.headers["ok-access-timestamp"]).timestamp() * 1000)
    assert (request.headers["exptime"], stamp_ms) == (str(expires_ms), expires_ms - 30_000)


@both_modes
def test_what_a_stop_order_says(desk: Desk, *, hedge: bool) -> None:
    """It only reduces, triggers on the last price, sells at market, and its time of signing limits its arrival."""
    desk.hold()
    order = desk.stop("stop_loss", "s1")
    desk.exchange.place_stop(order)
    [request] = desk.sent(CREATE_STOP)
    assert request.params == {
        "instId": "BTC-USDT-SWAP",
        "tdMode": "isolated",
        "side": "sell",
        "ordType": "conditional",
        "sz": "10",
        "algoClOrdId": "s1",
        "slTriggerPx": "57000",
        "slTriggerPxType": "last",
        "slOrdPx": "-1",
        **({"posSide": "long"} if hedge else {"posSide": "net", "reduceOnly": True}),
    }
    stamp_ms = round(datetime.fromisoformat(request.headers["ok-access-timestamp"]).timestamp() * 1000)
    assert stamp_ms == order.signed_at_ms + 5000 - 30_000


def test_a_deadline_alone_refuses_a_late_close(desk: Desk, venue: Okx) -> None:
    """Should the venue not mind old timestamps, the deadline that is sent along still holds."""
    desk.hold()

    def lenient(request: Any) -> Reply | None:
        return refusal(50036) if int(request.headers["exptime"]) < venue.clock_ms() else None

    venue.strike(Fault(CREATE + "$", lenient))
    with pytest.raises(RequestExpired) as refused:
        desk.exchange.place(desk.closing(10, age_ms=5100))
    assert refused.value.code == "50036"


@both_modes
def test_a_stop_order_of_more_than_is_held(desk: Desk) -> None:
    """The venue does not cut it down, so it is asked for what is there."""
    desk.hold("long", 6)
    placed = desk.exchange.place_stop(desk.stop("stop_loss", "s1", contracts=10))
    assert placed.contracts == 6
    assert desk.exchange.stop(desk.stop("stop_loss", "s1", contracts=10)) == placed


@both_modes
def test_a_close_that_became_too_large_on_its_way(desk: Desk, venue: Okx) -> None:
    """It is not taken, and nothing has to make room for it: the next one is smaller."""
    desk.hold()

    def shrinks(request: Any) -> None:
        with venue.account() as account:
            account.execute(account.insert(LONG, "order", Decimal(7)))

    venue.strike(Fault(CREATE + "$", shrinks))
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10))
    assert desk.book.held(LONG) == 3
    desk.exchange.place(desk.closing(10, "c2"))
    assert desk.book.held(LONG) == 0


@both_modes
@pytest.mark.parametrize("code", [51112, 51206])
def test_a_close_that_resting_orders_block(desk: Desk, venue: Okx, code: int) -> None:
    """It is called blocked; a guard cancels what blocks it, and closes."""
    leg = desk.hold()
    guard = desk.guard()
    position = guard.adopt(SYMBOL, "long").position
    desk.trader.private_post_trade_order({**said(venue, leg, reduces=True), "ordType": "limit", "px": "70000"})
    venue.blocks = code
    with pytest.raises(ReduceOnlyBlocked):
        desk.exchange.place(desk.closing(10))
    desk.assert_closed_once(guard.close_position(position.id), position)


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (refusal(50036), RequestExpired),
        (answer(50037), RequestExpired),
        (refusal(50102), RequestExpired),
        (refusal(50111), KeysRefused),
        (refusal(50113), KeysRefused),
        (refusal(50105), KeysRefused),
        (answer(50119), KeysRefused),
        (BANNED, KeysRefused),
        (RATE_LIMITED, RateLimited),
        (answer(50061), RateLimited),
        (MAINTENANCE, UnderMaintenance),
        (failed(51030), UnderMaintenance),
        (failed(51016), DuplicateClientOrderId),
        (failed(51169), NothingToReduce),
        (failed(51023), NothingToReduce),
        (failed(51170), NothingToReduce),
        (failed(51169, top="0"), NothingToReduce),
        (failed(51169, top="2"), NothingToReduce),
        (failed(51112), ReduceOnlyBlocked),
        (failed(51206), ReduceOnlyBlocked),
        (failed(51148), ReduceOnlyBlocked),
        (failed(51121), OrderRefused),
        *((failed(code), StopWouldTrigger) for code in range(51277, 51281)),
        (refusal(51000), OrderRefused),
        (failed(51010), OrderRefused),
        (refusal(50004), OutcomeUnknown),
        (answer(50001, 503), OutcomeUnknown),
        (answer(50013, 429), OutcomeUnknown),
        (answer(50026, 500), OutcomeUnknown),
        (failed(51149, status=500), OutcomeUnknown),
        (failed(51054, status=500), OutcomeUnknown),
        (failed(51032), OutcomeUnknown),
        (failed(59999), OutcomeUnknown),
        (answer(1), OutcomeUnknown),
        (Reply(503, "<html><body>503</body></html>", {"Content-Type": "text/html"}), OutcomeUnknown),
    ],
)
def test_what_became_of_an_order(desk: Desk, reply: Reply, meaning: type[ExchangeError]) -> None:
    """By the venue's code, that of the operation first; a code that says nothing of it leaves it unknown."""
    desk.hold()
    desk.venue.strike(Fault(CREATE + "$", reply))
    with pytest.raises(ExchangeError) as raised:
        desk.exchange.place(desk.closing(10))
    assert type(raised.value) is meaning


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (refusal(50111), KeysRefused),
        (RATE_LIMITED, RateLimited),
        (MAINTENANCE, UnderMaintenance),
        (answer(50001, 503), ExchangeUnavailable),
        (refusal(50102), ExchangeUnavailable),
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
    desk.venue.strike(Fault("/cancel", RATE_LIMITED), Fault("/cancel", failed(51000)))
    with pytest.raises(RateLimited):
        desk.exchange.cancel(placed)
    with pytest.raises(OrderRefused):
        desk.exchange.cancel(placed)
    desk.venue.strike(Fault("/cancel", failed(51412)))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.cancel(placed)
    for code in (51400, 51410, 51416):
        desk.venue.strike(Fault("/cancel", failed(code, top="2" if code == 51400 else "1")))
        desk.exchange.cancel(placed)
    assert desk.exchange.open_orders(LONG) == [placed]


def test_a_client_order_id_that_is_used_again(desk: Desk) -> None:
    """The venue lets that pass once the first order has ended; who asks is told of the newest one."""
    desk.hold()
    desk.exchange.place(desk.closing(4, "again"))
    desk.exchange.place(desk.closing(1, "again"))
    assert desk.exchange.order(LONG, "again").filled == 1
    assert [fill.client_order_id for fill in desk.told("exit", LONG)] == ["again", "again"]


def test_a_triggered_order_of_long_ago(desk: Desk, venue: Okx) -> None:
    """The orders that it sent are known no more; what it did, it says itself."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss", "s1"))
    desk.book.set_price(SYMBOL, 57_000)
    venue.strike(Fault(CREATE + "$", refusal(51603), times=2))
    assert desk.exchange.order(LONG, "s1") == replace(placed, state="filled", filled=Decimal(10))


def test_client_order_ids_are_looked_up_for_exits_only(desk: Desk) -> None:
    """Fills of a conditional order do not name it; an order that is denied is asked for again, else once."""
    desk.hold()
    desk.exchange.place_stop(desk.stop("stop_loss", "s1"))
    desk.book.set_price(SYMBOL, 57_000)
    asked = len(desk.sent(CREATE, "GET"))
    desk.strike_question(CREATE + "$", refusal(51603))
    assert [trade.fill.client_order_id for trade in desk.exchange.trades(LONG, 0)] == [None, None]
    for _ in range(2):
        assert [trade.fill.client_order_id for trade in desk.exchange.trades(LONG, 0)] == [None, "s1"]
    assert len(desk.sent(CREATE, "GET")) == asked + 2


@both_modes
def test_a_liquidation_stands_where_it_happened(desk: Desk, venue: Okx) -> None:
    """Its trade id is below zero; what orders the fills is the id that the lists go by."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    desk.exchange.place(desk.closing(6, "c2"))
    venue.liquidated.add(2)
    told = desk.exchange.trades(LONG, 0)
    assert [(trade.effect, trade.fill.contracts) for trade in told] == [("entry", 10), ("exit", 4), ("exit", 6)]
    assert [trade.fill.trade_id for trade in told] == ["1", "-2", "3"]


def test_a_block_trade_has_no_order(desk: Desk) -> None:
    """The venue names none, so there is nothing to look up."""
    desk.hold()
    row = {"instId": "BTC-USDT-SWAP", "posSide": "net", "side": "sell", "fillPx": "60000", "fillSz": "1", "fee": ""}
    row |= {"tradeId": "9", "billId": "9", "ordId": "", "clOrdId": "", "feeCcy": "USDT", "fillTime": "9"}
    desk.strike_question(FILLS, Reply(200, {"code": "0", "data": [row]}))
    [trade] = [trade for trade in desk.exchange.trades(LONG, 0) if trade.effect == "exit"]
    assert (trade.order_id, trade.fill.client_order_id) == (None, None)


def test_a_position_id_that_is_used_again(desk: Desk) -> None:
    """The venue's stays the same when a position is closed and opened again, so it is none of a position."""
    desk.hold()
    assert desk.exchange.holding(LONG).position_id is None


@both_modes
def test_another_market_in_both_margin_modes(desk: Desk, *, hedge: bool) -> None:
    """It is refused when it is asked for, and does not keep the others from being told."""
    desk.hold()
    side = "long" if hedge else "net"
    row = {"instType": "SWAP", "instId": "ETH-USDT-SWAP", "posSide": side, "pos": "5", "avgPx": "1"}
    mine = {**row, "instId": "BTC-USDT-SWAP", "mgnMode": "cross"}
    rows = [{**row, "mgnMode": "cross"}, mine, {**row, "mgnMode": "isolated"}, {**row, "instId": "X-SWAP"}]
    for _ in range(2):
        desk.strike_question(POSITIONS, Reply(200, {"code": "0", "data": rows}))
    assert [holding.contracts for holding in desk.exchange.holdings([LONG])] == [5]
    with pytest.raises(UnsupportedMarket, match="both margin modes"):
        desk.exchange.holdings([LONG, Leg("ETH/USDT:USDT", "long")])


def test_a_bill_without_a_rate(desk: Desk, venue: Okx) -> None:
    """Whose funding it was cannot be told, so it is not guessed."""
    desk.hold()
    venue.fund(SYMBOL, "0.0001")
    now_ms = venue.clock_ms()
    venue.rates = [(SYMBOL, now_ms - 3_600_000, Decimal("0.0001"))]
    with pytest.raises(ExchangeUnavailable, match="rate"):
        desk.exchange.funding(LONG, now_ms - 1000, now_ms + 1000)


# What is not known is refused.


@pytest.mark.parametrize("level", ["1", "4", ""])
def test_an_account_level_that_is_not_known(desk: Desk, venue: Okx, level: str) -> None:
    """Spot accounts have no swaps, and in portfolio margin orders cannot be reduce-only."""
    venue.level = level
    with pytest.raises(UnsupportedMarket, match="level"):
        desk.exchange.prepare()


def test_a_position_mode_that_is_not_known(desk: Desk) -> None:
    """It is refused before anything is sent."""
    config = {"code": "0", "data": [{"acctLv": "2", "posMode": "another", "perm": "trade"}]}
    desk.strike_question("/account/config", Reply(200, config))
    with pytest.raises(UnsupportedMarket, match="position mode"):
        desk.exchange.prepare()


@both_modes
def test_a_margin_mode_that_is_not_known(desk: Desk, venue: Okx) -> None:
    """An order would have to name it."""
    desk.hold()
    venue.margin_mode = "another"
    with pytest.raises(UnsupportedMarket, match="margin mode"):
        desk.exchange.place(desk.closing(10))


@both_modes
def test_a_leg_in_both_margin_modes(desk: Desk, *, hedge: bool) -> None:
    """It is two positions, and an order is for one."""
    desk.hold()
    row = {
        "instType": "SWAP",
        "instId": "BTC-USDT-SWAP",
        "posSide": "long" if hedge else "net",
        "pos": "5",
        "avgPx": "1",
    }
    rows = [{**row, "mgnMode": "cross"}, {**row, "mgnMode": "isolated"}]
    desk.strike_question(POSITIONS, Reply(200, {"code": "0", "data": rows}))
    with pytest.raises(UnsupportedMarket, match="both margin modes"):
        desk.held(LONG)


def test_a_contract_with_a_multiplier(desk: Desk) -> None:
    """ccxt leaves it out of the contract size."""
    desk.hold()
    desk.behind._client.ccxt.markets[SYMBOL]["info"]["ctMult"] = "10"
    with pytest.raises(UnsupportedMarket, match="multiplier"):
        desk.held(LONG)


@both_modes
def test_what_the_key_may_do(desk: Desk, venue: Okx, *, hedge: bool) -> None:
    """Trade or not, withdraw or not, and in which mode."""
    inspection = desk.exchange.inspect()
    assert (inspection.hedge, inspection.may_trade, inspection.may_withdraw) == (hedge, True, False)
    assert abs(inspection.clock_ms) < 1000
    venue.permissions = "read_only,withdraw"
    inspection = desk.exchange.inspect()
    assert (inspection.may_trade, inspection.may_withdraw) == (False, True)


def test_the_other_leg_in_net_mode(desk: Desk) -> None:
    """A position that is held the other way round is none of this leg."""
    desk.hold("short")
    assert desk.held(LONG) == 0
    assert desk.exchange.holding(SHORT).contracts == 10
