"""What is OKX's own: conditional orders, margin modes, deadlines, and fills that explain little."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from loopback.desk import LONG, SHORT, SYMBOL, Desk
from loopback.server import Reply
from poslock import UnsupportedMarket
from poslock.errors import (
    ExchangeUnavailable,
    NothingToReduce,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    RequestExpired,
)
from poslock.exchange.port import Leg
from venue_cases import OKX, okx_failed, okx_refusal, okx_said, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock.position import Side

both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["net", "long-short"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def desk(tmp_path: Path, *, hedge: bool) -> Iterator[Desk]:
    with opened(OKX, tmp_path, hedge=hedge) as desk:
        yield desk


@both_modes
@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("margin_mode", ["cross", "isolated"])
def test_what_orders_say(desk: Desk, side: Side, margin_mode: str, *, hedge: bool) -> None:
    """They name the position's leg and margin mode, and only reduce; a stop sells at market, by the last price."""
    desk.venue.margin_mode = margin_mode
    leg = desk.hold(side)
    desk.exchange.place(desk.closing("2.5", "close1", leg))
    desk.exchange.place_stop(desk.stop("stop_loss", leg=leg))
    common = {
        "instId": "BTC-USDT-SWAP",
        "tdMode": margin_mode,
        "side": "sell" if side == "long" else "buy",
        **({"posSide": side} if hedge else {"posSide": "net", "reduceOnly": True}),
    }
    trigger = {"slTriggerPx": "57000" if side == "long" else "66000", "slTriggerPxType": "last", "slOrdPx": "-1"}
    [close], [stop] = desk.sent("place"), desk.sent("stop")
    assert close.params == {**common, "ordType": "market", "sz": "2.5", "clOrdId": "close1"}
    assert stop.params == {**common, "ordType": "conditional", "sz": "7.5", "algoClOrdId": "s1", **trigger}
    assert OKX.expires_ms(stop) - desk.exchange.time_ms() <= 5000


def test_a_deadline_alone_refuses_a_late_close(desk: Desk) -> None:
    """Should the venue not mind old timestamps, the deadline that is sent along still holds."""
    desk.hold()

    def lenient(request: Any) -> Reply | None:
        return okx_refusal(50036) if int(request.headers["exptime"]) < desk.venue.clock_ms() else None

    desk.strike("place", lenient)
    with pytest.raises(RequestExpired) as refused:
        desk.exchange.place(desk.closing(10, age_ms=5100))
    assert refused.value.code == "50036"


@both_modes
def test_a_stop_order_of_more_than_is_held(desk: Desk) -> None:
    """The venue does not cut it down, so it is asked for what is there."""
    desk.hold("long", 6)
    placed = desk.exchange.place_stop(desk.stop("stop_loss"))
    assert placed.contracts == 6
    assert desk.exchange.stop(desk.stop("stop_loss")) == placed


@both_modes
def test_a_close_that_became_too_large_on_its_way(desk: Desk) -> None:
    """It is not taken, and nothing has to make room for it: the next one is smaller."""
    desk.hold()
    desk.strike("place", lambda _: desk.hand.take(LONG, 7))
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10))
    assert desk.book.held(LONG) == 3
    desk.exchange.place(desk.closing(10, "c2"))
    assert desk.book.held(LONG) == 0


# Conditional orders.


def pair(desk: Desk) -> None:
    """An order with two triggers, for all of the position."""
    whole = {name: value for name, value in okx_said(desk, LONG, reduces=True).items() if name != "sz"}
    both = {"slTriggerPx": "57000", "slOrdPx": "-1", "tpTriggerPx": "66000", "tpOrdPx": "-1", "closeFraction": "1"}
    desk.trader.private_post_trade_order_algo({**whole, **both, "ordType": "oco"})


@both_modes
def test_an_order_with_two_triggers_is_not_cancelled_by_halves(desk: Desk) -> None:
    """It protects the position until that is gone."""
    desk.hold()
    pair(desk)
    stop_loss, take_profit = desk.exchange.open_orders(LONG)
    assert [stop_loss.family, take_profit.family] == ["stop_loss", "take_profit"]
    assert stop_loss.order_id == take_profit.order_id
    with pytest.raises(OrderRefused, match="both prices"):
        desk.exchange.cancel(take_profit)
    assert len(desk.exchange.open_orders(LONG)) == 2
    desk.exchange.place(desk.closing(10))
    desk.exchange.cancel(take_profit)
    assert desk.exchange.open_orders(LONG) == []


@both_modes
def test_an_order_with_two_triggers_is_swept(desk: Desk) -> None:
    """With one cancel, and no error for the second half."""
    guard, leg = desk.tracked()
    pair(desk)
    guard.close_position("btc-1")
    assert [len(each.params) for each in desk.sent("cancel")] == [1]
    desk.assert_closed_once(guard, leg)


def several(desk: Desk, count: int) -> list[Any]:
    """So many stop orders of the bot's, as they were asked for."""
    desk.hold()
    stops = [desk.stop("stop_loss", f"s{number}", at=57_000 - number, contracts=1) for number in range(count)]
    for each in stops:
        desk.exchange.place_stop(each)
    return stops


def test_several_conditional_orders_are_cancelled_by_one_request(desk: Desk) -> None:
    """Ten, which is the most that one may be for; plain orders by one each."""
    several(desk, 11)
    desk.hand.rest(LONG, 2)
    desk.exchange.cancel_all(desk.exchange.open_orders(LONG))
    assert sorted(len(each.params) for each in desk.sent("cancel") if "algos" in each.path) == [1, 10]
    assert len(desk.sent("cancel")) == 3
    assert desk.exchange.open_orders(LONG) == []


@pytest.mark.parametrize("unlisted", [False, True])
def test_of_several_cancels_each_is_judged_by_itself(desk: Desk, *, unlisted: bool) -> None:
    """One order has ended: that is no error, and the others are cancelled."""
    stops = several(desk, 3)
    resting = desk.exchange.open_orders(LONG)
    ended = [each for each in resting if each.client_order_id == "s1"]
    desk.exchange.cancel_all(ended)
    if unlisted:
        assert desk.exchange.cancel_stops(stops) == [stops[0], stops[2]]
        assert desk.exchange.cancel_stops(stops) == []
    else:
        desk.exchange.cancel_all(resting)
        desk.exchange.cancel_all(resting)
    assert desk.exchange.open_orders(LONG) == []


@pytest.mark.parametrize("top", ["1", "2"])
@pytest.mark.parametrize("unlisted", [False, True])
def test_of_several_cancels_the_worst_is_told(desk: Desk, top: str, *, unlisted: bool) -> None:
    """Beside one that has ended, and perhaps one that was carried out, one that was turned away for rate."""
    stops = several(desk, 3)
    rows = [{"algoId": "", "algoClOrdId": "", "sCode": code, "sMsg": ""} for code in ("51400", "50011", "51400")]
    rows[2]["sCode"] = {"1": "51400", "2": "0"}[top]
    desk.strike("cancel", Reply(200, {"code": top, "msg": "", "data": rows}))
    with pytest.raises(RateLimited):
        if unlisted:
            desk.exchange.cancel_stops(stops)
        else:
            desk.exchange.cancel_all(desk.exchange.open_orders(LONG))


def test_a_list_that_succeeded_in_part_is_no_list(desk: Desk) -> None:
    """Only operations have outcomes of their own; what is missing of a list may rest."""
    desk.hold()
    desk.strike("algos", Reply(200, {"code": "2", "msg": "", "data": []}))
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.open_orders(LONG)


def test_stop_orders_are_cancelled_by_their_client_order_ids(desk: Desk) -> None:
    """By nothing else; the rows of the answer need not repeat them, unless some have failed."""
    stops = several(desk, 2)

    def without_names(body: Any) -> Any:
        return {**body, "data": [{**row, "algoClOrdId": ""} for row in body["data"]]}

    desk.answer_otherwise("cancel", without_names, times=2)
    assert desk.exchange.cancel_stops(stops[:1]) == stops[:1]
    assert desk.exchange.cancel_stops(stops) == []
    assert desk.sent("cancel")[0].params == [{"instId": "BTC-USDT-SWAP", "algoClOrdId": "s0"}]
    assert desk.exchange.open_orders(LONG) == []


def test_a_stop_order_that_is_denied_is_not_said_to_be_cancelled(desk: Desk) -> None:
    """The venue has it all the same."""
    stops = several(desk, 2)
    desk.venue.denies = 60.0
    assert desk.exchange.cancel_stops(stops) == []
    assert len(desk.exchange.open_orders(LONG)) == 2


def test_a_server_that_knows_no_client_order_ids_at_a_cancel(desk: Desk) -> None:
    """It refuses them; what rests is found and cancelled by its id."""
    guard, leg = desk.tracked(exits=True)
    desk.strike("cancel", okx_failed(51000, "Parameter algoId error"))
    guard.close_position("btc-1")
    assert [list(each.params[0]) for each in desk.sent("cancel")] == [["instId", "algoClOrdId"], ["instId", "algoId"]]
    desk.assert_closed_once(guard, leg)


def test_a_conditional_order_that_is_triggering_cannot_be_cancelled(desk: Desk) -> None:
    """What becomes of it nobody knows then."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss"))
    desk.strike("cancel", okx_failed(51412))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.cancel(placed)


def test_a_triggered_order_of_long_ago(desk: Desk) -> None:
    """The orders that it sent are known no more; what it did, it says itself."""
    desk.hold()
    placed = desk.exchange.place_stop(desk.stop("stop_loss"))
    desk.book.set_price(SYMBOL, 57_000)
    desk.strike("order", okx_refusal(51603), times=2)
    assert desk.exchange.order(LONG, "s1") == replace(placed, state="filled", filled=Decimal(10))


@pytest.mark.parametrize("change", [{"slTriggerPx": "NaN"}, {"posSide": None}])
def test_orders_with_two_triggers_that_cannot_be_understood(desk: Desk, change: dict[str, Any]) -> None:
    """They are not passed over: the question has no answer."""
    desk.hold()
    pair(desk)
    row = desk.venue.algos[0]
    row.update(change)
    desk.venue.algos[0] = {name: value for name, value in row.items() if value is not None}
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.open_orders(LONG)


def test_client_order_ids_are_looked_up_for_exits_only(desk: Desk) -> None:
    """Fills of a conditional order do not name it; an order that is denied is asked for again, else once."""
    desk.hold()
    desk.exchange.place_stop(desk.stop("stop_loss"))
    desk.book.set_price(SYMBOL, 57_000)
    asked = len(desk.sent("by id"))
    desk.strike("by id", okx_refusal(51603))
    assert [trade.fill.client_order_id for trade in desk.trades()] == [None, None]
    for _ in range(2):
        assert [trade.fill.client_order_id for trade in desk.trades()] == [None, "s1"]
    assert len(desk.sent("by id")) == asked + 2


# Fills, bills, positions.


@both_modes
def test_a_liquidation_stands_where_it_happened(desk: Desk) -> None:
    """Its trade id is below zero; what orders the fills is the id that the lists go by."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    desk.exchange.place(desk.closing(6, "c2"))
    desk.venue.liquidated.add(2)
    assert desk.changes() == [("entry", 10), ("exit", 4), ("exit", 6)]
    assert [trade.fill.trade_id for trade in desk.trades()] == ["1", "-2", "3"]


def test_a_block_trade_has_no_order(desk: Desk) -> None:
    """The venue names none, so there is nothing to look up."""
    desk.hold()
    now_ms = str(desk.venue.clock_ms())
    row = {"instId": "BTC-USDT-SWAP", "posSide": "net", "side": "sell", "fillPx": "60000", "fillSz": "1", "fee": ""}
    row |= {"tradeId": "9", "billId": "9", "ordId": "", "clOrdId": "", "feeCcy": "USDT", "fillTime": now_ms}
    desk.strike("trades", Reply(200, {"code": "0", "data": [row]}))
    [trade] = desk.trades()
    assert (trade.order_id, trade.fill.client_order_id) == (None, None)


def test_a_bill_without_a_rate(desk: Desk) -> None:
    """Whose funding it was cannot be told, so it is not guessed."""
    desk.hold()
    desk.venue.fund(SYMBOL, "0.0001")
    now_ms = desk.venue.clock_ms()
    desk.venue.rates = [(SYMBOL, now_ms - 3_600_000, Decimal("0.0001"))]
    with pytest.raises(ExchangeUnavailable, match="rate"):
        desk.exchange.funding(LONG, now_ms - 1000, now_ms + 1000)


@both_modes
def test_a_market_in_both_margin_modes(desk: Desk, *, hedge: bool) -> None:
    """It is two positions, and an order is for one; it does not keep other markets from being told."""
    desk.hold()
    side = "long" if hedge else "net"
    row = {"instType": "SWAP", "instId": "ETH-USDT-SWAP", "posSide": side, "pos": "5", "avgPx": "1"}
    mine = {**row, "instId": "BTC-USDT-SWAP", "mgnMode": "cross"}
    rows = [{**row, "mgnMode": "cross"}, mine, {**row, "mgnMode": "isolated"}, {**row, "instId": "X-SWAP"}]
    desk.strike("held", Reply(200, {"code": "0", "data": rows}), times=3)
    eth = Leg("ETH/USDT:USDT", "long")
    assert [holding.contracts for holding in desk.exchange.holdings([LONG])] == [5]
    with pytest.raises(UnsupportedMarket, match="both margin modes"):
        desk.exchange.holdings([LONG, eth])
    with pytest.raises(UnsupportedMarket, match="both margin modes"):
        desk.exchange.holding(eth)


def test_the_other_leg_in_net_mode(desk: Desk) -> None:
    """A position that is held the other way round is none of this leg."""
    desk.hold("short")
    assert (desk.held(LONG), desk.held(SHORT)) == (0, 10)


# What is not known is refused.


@pytest.mark.parametrize("level", ["1", "4", ""])
def test_an_account_level_that_is_not_known(desk: Desk, level: str) -> None:
    """Spot accounts have no swaps, and in portfolio margin orders cannot be reduce-only."""
    desk.venue.level = level
    with pytest.raises(UnsupportedMarket, match="level"):
        desk.exchange.prepare()


def test_a_position_mode_that_is_not_known(desk: Desk) -> None:
    """It is refused before anything is sent."""
    desk.strike("mode", Reply(200, {"code": "0", "data": [{"acctLv": "2", "posMode": "another", "perm": "trade"}]}))
    with pytest.raises(UnsupportedMarket, match="position mode"):
        desk.exchange.prepare()


@both_modes
def test_a_margin_mode_that_is_not_known(desk: Desk) -> None:
    """An order would have to name it."""
    desk.hold()
    desk.venue.margin_mode = "another"
    with pytest.raises(UnsupportedMarket, match="margin mode"):
        desk.exchange.place(desk.closing(10))


def test_a_contract_with_a_multiplier(desk: Desk) -> None:
    """ccxt leaves it out of the contract size."""
    desk.hold()
    desk.clients[0].markets[SYMBOL]["info"]["ctMult"] = "10"
    with pytest.raises(UnsupportedMarket, match="multiplier"):
        desk.held(LONG)
