"""What is Binance's own: its parameters, its conditional orders, its long denials, its funding without a leg."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from loopback.desk import DAY_MS, LONG, SHORT, SYMBOL, Desk, other
from loopback.server import Reply
from poslock import CcxtExchange
from poslock.errors import ExchangeUnavailable, KeysRefused, NothingToReduce, UnsupportedMarket
from poslock.exchange.ccxt.binance import venue as binance
from venue_cases import BINANCE, HTML, binance_says, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock.position import Side

DENIED = Reply(400, {"code": -2013, "msg": "Order does not exist."})
REFUSED = Reply(401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
only_hedge = pytest.mark.parametrize("hedge", [True], ids=["hedge"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def desk(tmp_path: Path, *, hedge: bool) -> Iterator[Desk]:
    with opened(BINANCE, tmp_path, hedge=hedge) as desk:
        yield desk


@both_modes
@pytest.mark.parametrize("side", ["long", "short"])
def test_what_orders_say(desk: Desk, side: Side, *, hedge: bool) -> None:
    """They could do nothing but reduce: by reduceOnly, or in hedge mode by their side; stops go by the last price."""
    leg = desk.hold(side)
    desk.exchange.place(desk.closing(4, leg=leg))
    desk.exchange.place_stop(desk.stop("stop_loss", leg=leg))
    for request in (*desk.sent("place"), *desk.sent("stop")):
        assert request.params.get("reduceOnly") == (None if hedge else "true")
        assert request.params["positionSide"] == (side.upper() if hedge else "BOTH")
        assert request.params["side"] == ("SELL" if side == "long" else "BUY")
    [stop] = desk.sent("stop")
    said = [stop.params[name] for name in ("type", "workingType", "triggerPrice", "quantity")]
    assert said == ["STOP_MARKET", "CONTRACT_PRICE", "57000" if side == "long" else "66000", "6" if hedge else "10"]


@pytest.mark.parametrize(("least", "smallest"), [("0.001", "0.001"), ("0.0001", "0.001"), ("0.01", "0.01")])
def test_the_smallest_order_is_the_larger_of_two_limits(desk: Desk, least: str, smallest: str) -> None:
    """That of all orders, and that of market orders."""
    desk.venue.smallest = Decimal(least)
    assert desk.exchange.holding(desk.hold()).smallest == Decimal(smallest)


@pytest.mark.parametrize("kind", ["binance", "binanceusdm"])
def test_both_of_ccxts_classes_lead_there(desk: Desk, kind: str) -> None:
    """The venue is the same under either of ccxt's ids."""
    desk.connect(config={"kind": kind})
    desk.hold()
    assert desk.exchange.place(desk.closing(10)).state == "filled"


@pytest.mark.parametrize("option", ["portfolioMargin", "papi"])
def test_a_client_for_portfolio_margin_is_refused(desk: Desk, option: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UnsupportedMarket, match="nothing was sent; use the key of an account"):
        CcxtExchange(desk.venue.client(options={option: True}), account="main")


def test_a_portfolio_margin_account_is_told_from_a_wrong_key(desk: Desk) -> None:
    """Both are answered with -2015; it has a position mode of its own."""
    desk.strike("mode", REFUSED)
    desk.strike("papi/v1/um/positionSide/dual", Reply(200, {"dualSidePosition": False}))
    with pytest.raises(UnsupportedMarket, match="classic mode"):
        desk.exchange.prepare()
    desk.strike("mode", REFUSED)
    desk.strike("papi/v1/um/positionSide/dual", REFUSED)
    with pytest.raises(KeysRefused):
        desk.exchange.prepare()


def test_what_reduces_nothing_while_the_position_cannot_be_read(desk: Desk) -> None:
    """It was refused, so it is not unknown; and no orders are given up for it without proof."""
    desk.hold()
    desk.strike("place", Reply(400, {"code": -2022, "msg": "ReduceOnly Order is rejected."}))
    desk.strike("held", HTML, spared=1)
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10))


def test_a_stop_that_has_triggered_and_is_denied(desk: Desk) -> None:
    """The list of conditional orders has it, and the fills of its order say what it did."""
    desk.hold()
    desk.exchange.place_stop(desk.stop("stop_loss"))
    desk.book.set_price(SYMBOL, 57_000)
    desk.strike("algo", DENIED)
    desk.strike("order", DENIED, times=2)
    found = desk.exchange.order(LONG, "s1")
    assert (found.family, found.filled, found.state) == ("stop_loss", 10, "filled")


@only_hedge
def test_a_stop_of_a_hedge_is_for_what_is_held(desk: Desk, *, hedge: bool) -> None:
    """Nothing cuts it down there when it triggers."""
    desk.hold("long", 3)
    assert desk.exchange.place_stop(desk.stop("stop_loss")).contracts == 3


def test_an_order_that_could_open_the_other_side_is_none_of_ours(desk: Desk) -> None:
    """Whatever its client order id is."""
    desk.hold()
    binance_says(desk, "order", side="SELL", type="LIMIT", quantity="2", price="70000", newClientOrderId="reversal")
    assert desk.exchange.order(LONG, "reversal") is None


def test_an_order_that_is_denied_is_found_later(desk: Desk) -> None:
    """What the venue says is passed on; how long to go on asking is the machine's affair. Up to 62 s were seen."""
    desk.hold()
    desk.venue.denies = 60.0
    desk.exchange.place(desk.closing(4))
    assert desk.exchange.order(LONG, "c1") is None
    desk.venue.denies = 0.0
    assert desk.exchange.order(LONG, "c1").filled == 4
    assert CcxtExchange(desk.clients[0], account="main").denies_for > 62


# Fills.


def test_more_fills_in_one_moment_than_can_be_told_are_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather no answer than a part of it."""
    monkeypatch.setattr(binance, "_PAGE", 1)
    desk.hold()
    desk.exchange.place(desk.closing(4))
    with pytest.raises(ExchangeUnavailable):
        desk.told()


def test_what_is_long_past_is_asked_for_once(desk: Desk) -> None:
    """In pieces of seven days."""
    desk.hold()
    since_ms = desk.venue.clock_ms() - 30 * DAY_MS
    for expected in (5, 1):
        asked = len(desk.sent("trades"))
        desk.trades(since_ms=since_ms)
        assert len(desk.sent("trades")) - asked == expected


def test_fills_of_this_very_moment_are_told(desk: Desk) -> None:
    """Also where the clock here is behind, and the time asked about is as long as a question may be."""
    desk.hold()
    desk.venue.offset_ms = 800
    desk.exchange.place(desk.closing(4))
    assert len(desk.told(since_ms=desk.exchange.time_ms() - 7 * DAY_MS + 1)) == 1


def test_fills_that_are_told_late_are_not_missed(desk: Desk) -> None:
    """A time that has just gone by is asked about again."""
    desk.hold()
    since_ms = desk.venue.clock_ms() - binance._TRADES_SPAN_MS - 60_000
    assert desk.told(since_ms=since_ms) == []
    desk.venue.offset_ms = -120_000
    desk.hand.take(LONG, 4)
    desk.venue.offset_ms = 0
    assert len(desk.told(since_ms=since_ms)) == 1


# Funding.


@pytest.fixture
def funded(desk: Desk) -> Desk:
    """Both legs are held, and one payment was made."""
    for side, contracts in (("long", 10), ("short", 4)):
        desk.hold(side, contracts)  # type: ignore[arg-type]
    return desk


def funding(desk: Desk) -> list[Any]:
    return [desk.exchange.funding(leg, 0, desk.venue.clock_ms()) for leg in (LONG, SHORT)]


@only_hedge
def test_funding_that_was_netted_is_counted_once(funded: Desk, *, hedge: bool) -> None:
    """It cannot be told apart, so it all goes to the leg that had more of it; and no close waits for it."""
    funded.venue.nets_funding = True
    funded.venue.fund(SYMBOL, "0.0001")
    assert funding(funded) == [-36, 0]


@only_hedge
def test_funding_without_a_rate_is_in_neither_leg(funded: Desk, *, hedge: bool) -> None:
    """Nobody knows whose it was, and no close waits for it."""
    funded.venue.fund(SYMBOL, "0.0001")
    (rate,) = funded.venue.rates
    for rates in ([], [replace(rate, at_ms=rate.at_ms - 45 * 60_000)]):
        funded.venue.rates = rates
        assert funding(funded) == [0, 0]


@only_hedge
def test_funding_that_names_its_leg_is_that_legs(funded: Desk, *, hedge: bool) -> None:
    """Should the venue come to say it, it is believed; another currency is left out, for want of a rate."""
    row = {"symbol": "BTCUSDT", "income": "-7", "time": funded.venue.clock_ms(), "positionSide": "SHORT"}
    funded.strike("funding", Reply(200, [{**row, "asset": asset} for asset in ("USDT", "BNB")]), times=2)
    assert funding(funded) == [0, -7]


def test_funding_is_asked_for_as_far_back_as_it_is_told(desk: Desk) -> None:
    """Three months."""
    desk.hold()
    now_ms = desk.venue.clock_ms()
    assert desk.exchange.funding(LONG, now_ms - 100 * DAY_MS, now_ms - 99 * DAY_MS) == 0
    assert desk.sent("funding") == []
    desk.exchange.funding(LONG, 0, now_ms)
    [request] = desk.sent("funding")
    assert int(request.params["startTime"]) > now_ms - 91 * DAY_MS


# The account on this machine.

MARKET = {"path": "order", "side": "SELL", "type": "MARKET", "quantity": "1"}
STOP = {**MARKET, "path": "algoOrder", "algoType": "CONDITIONAL", "type": "STOP_MARKET", "triggerPrice": "57000"}


@pytest.mark.parametrize(
    ("hedge", "order", "code"),
    [
        (False, {**MARKET, "positionSide": "LONG"}, -4061),
        (False, {**MARKET, "type": "STOP_MARKET"}, -4120),
        (False, {**MARKET, "symbol": "NONE"}, -1121),
        (False, {**MARKET, "quantity": "0.0001"}, -1111),
        (False, {**MARKET, "quantity": "121"}, -4005),
        (False, {**MARKET, "newClientOrderId": "c" * 37}, -4015),
        (False, {**MARKET, "side": "BUY", "reduceOnly": "true"}, -2022),
        (False, {**MARKET, "side": "BUY", "type": "LIMIT", "price": "1000", "quantity": "0.001"}, -4164),
        (False, {**STOP, "closePosition": "true"}, -4137),
        (False, {**STOP, "triggerPrice": "60000"}, -2021),
        (True, MARKET, -4061),
        (True, {**MARKET, "positionSide": "LONG", "reduceOnly": "true"}, -1106),
        (True, {**MARKET, "positionSide": "LONG", "quantity": "11"}, -2024),
        (True, {**MARKET, "positionSide": "SHORT", "side": "BUY"}, -2022),
    ],
)
def test_the_account_refuses_what_the_venue_would(desk: Desk, order: dict[str, Any], code: int, *, hedge: bool) -> None:
    """So that an order which is right here is right there, as far as that is documented."""
    desk.hold()
    with pytest.raises(Exception, match=f'"code": {code}'):
        binance_says(desk, **order)
    assert (desk.book.held(LONG), desk.book.orders(LONG), desk.book.held(other(LONG))) == (10, [], 0)
