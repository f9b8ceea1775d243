"""What is the spot markets' own: balances, locks, dust, and whose coins they are; at Binance and at MEXC."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from faults import Strike, StruckExchange
from loopback.desk import DAY_MS, Desk, desk_at
from loopback.server import Reply
from poslock import (
    CcxtExchange,
    ChangeRefused,
    CloseUnsettled,
    LockLost,
    Position,
    PositionAlreadyClosingError,
    PositionConflict,
    UnsupportedMarket,
)
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    ReduceOnlyBlocked,
)
from poslock.exchange.port import Holding, Leg
from systems import elsewhere
from venue import at_once
from venue_cases import BINANCE_SPOT, HTML, MEXC_SPOT, VenueCase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from poslock import PositionGuard

SYMBOL = "BTC/USDT"
LONG = Leg(SYMBOL, "long")
DIED = LockLost("btc-1", "x", "test")
only_binance = pytest.mark.parametrize("case", [BINANCE_SPOT], ids=["binance"])
only_mexc = pytest.mark.parametrize("case", [MEXC_SPOT], ids=["mexc"])


@pytest.fixture(params=[BINANCE_SPOT, MEXC_SPOT], ids=["binance", "mexc"])
def case(request: pytest.FixtureRequest) -> VenueCase:
    found: VenueCase = request.param
    return found


@pytest.fixture
def desk(tmp_path: Path, case: VenueCase) -> Iterator[Desk]:
    venue = case.opens(tmp_path / "clock.db")
    with desk_at(venue, tmp_path, case=case, symbol=SYMBOL) as desk:
        for symbol in desk.venue.symbols.values():
            desk.hand.price(symbol, "0.05" if symbol == "ETH/BTC" else 60_000)
        yield desk


def hold(desk: Desk, amount: Any = "0.5") -> Any:
    """A balance, seen by a prepared exchange; the books."""
    desk.hold("long", amount)
    return desk.venue.books


def rest(desk: Desk, amount: Any, symbol: str = SYMBOL, **more: Any) -> Any:
    """A sale that the trader rests by hand: at a limit, unless it is said to be something else."""
    kind = more.pop("kind", "LIMIT")
    price = {"price": Decimal(70_000)} if kind == "LIMIT" else {}
    return desk.venue.books.enter(symbol, more.pop("side", "SELL"), kind, Decimal(amount), **{**price, **more})


# What is held.


def test_it_is_another_account_than_the_swaps(desk: Desk, case: VenueCase) -> None:
    """Positions of one name do not meet, and orders that exist may be denied for a while."""
    client, venue = desk.clients[0], case.name.removesuffix("-spot")
    exchange = CcxtExchange(client, account="main", market="spot")
    assert (exchange.account, exchange.spot) == (f"{venue} spot main", True)
    assert exchange.account != CcxtExchange(client, account="main").account
    assert exchange.denies_for == {"binance": 65, "mexc": 10}[venue]


def test_what_a_holding_is(desk: Desk, case: VenueCase) -> None:
    """The balance, free or locked, in units of the base currency; what it was bought for nobody knows."""
    hold(desk)
    rest(desk, "0.2")
    rules: dict[str, Any] = {"smallest": Decimal("0.00009"), "step": Decimal("0.00001"), "tick": Decimal("0.01")}
    rules["largest"] = None if case.largest is None else Decimal(case.largest)
    expected = Holding(LONG, Decimal("0.5"), None, Decimal(1), inverse=False, settle="USDT", **rules)
    assert desk.exchange.holding(LONG) == expected
    usdc = Leg("BTC/USDC", "long")
    assert desk.exchange.holding(usdc) == replace(expected, leg=usdc, settle="USDC")
    assert desk.exchange.holding(Leg("ETH/USDT", "long")) is None
    assert desk.exchange.funding(LONG, 0, 1) == 0


def test_all_that_is_held_in_one_request(desk: Desk) -> None:
    """Of the legs that are asked about, in their order; a price is asked for where there is something."""
    hold(desk).give("COIN3", 7)
    legs = [Leg(f"{base}/USDT", "long") for base in ("NONE", "COIN3", "ETH", "BTC", "COIN3", "COIN4")]
    found = desk.exchange.holdings(legs)
    assert [holding.leg for holding in found] == [legs[1], legs[3]]
    assert (len(desk.sent("held")), len(desk.sent("price"))) == (1, 2)
    assert found == [desk.exchange.holding(leg) for leg in (legs[1], legs[3])]


@pytest.mark.parametrize(
    ("balance", "held"),
    [("0.00000999", 0), ("0.00008", 0), ("0.00009", "0.00009"), ("0.123456789", "0.123456789"), ("1E+1", 10)],
)
def test_what_cannot_be_sold_is_dust(desk: Desk, balance: str, held: Any) -> None:
    """Less than a step, or less than an order must be worth: it is held, and is below the smallest order."""
    hold(desk, balance)
    assert (desk.held(), desk.exchange.holding(LONG).contracts) == (Decimal(held), Decimal(balance))


@pytest.mark.parametrize("kind", ["amount", "market"])
def test_a_smallest_amount_of_several_steps(desk: Desk, kind: str) -> None:
    """Whether it is the rule for all orders or that for market orders, where it is more than what is worth enough."""
    hold(desk, "0.05")
    desk.clients[0].markets[SYMBOL]["limits"][kind] = {"min": 0.1, "max": None}
    assert (desk.held(), desk.exchange.holding(LONG).smallest) == (0, Decimal("0.1"))
    hold(desk, "0.05")
    assert desk.held() == Decimal("0.1")


@pytest.mark.parametrize(
    ("price", "smallest"),
    [(60_000, "0.00009"), (50_000, "0.0001"), (50_001, "0.0001"), (49_999, "0.00011"), (7, "0.71429")],
)
def test_the_smallest_that_can_be_sold(desk: Desk, price: int, smallest: str) -> None:
    """What is worth enough at the price there is, up to a whole step, and an order for it is taken."""
    hold(desk, 10)
    desk.hand.price(SYMBOL, price)
    found = desk.exchange.holding(LONG).smallest
    assert found == Decimal(smallest)
    with pytest.raises(OrderRefused, match=r"0\.00001, and a worth of 5"):
        desk.exchange.place(desk.closing(found - Decimal("0.00001")))
    assert desk.sent("place") == []
    assert desk.exchange.place(desk.closing(found)).filled == found


@only_binance
@pytest.mark.parametrize(("applied", "held"), [(True, 0), (False, "0.00008")])
def test_a_worth_that_market_orders_need_not_have(desk: Desk, applied: bool, held: Any) -> None:
    """The venue says whether the rule is for them."""
    hold(desk, "0.00008")
    filters = desk.clients[0].markets[SYMBOL]["info"]["filters"]
    filters[-1] = {"filterType": "MIN_NOTIONAL", "minNotional": "5", "applyToMarket": applied}
    assert desk.held() == Decimal(held)


@only_mexc
def test_a_worth_that_market_orders_must_have(desk: Desk) -> None:
    """Where it is not told, that of other orders counts."""
    hold(desk, "0.00005")
    assert desk.held() == 0
    del desk.clients[0].markets[SYMBOL]["info"]["quoteAmountPrecisionMarket"]
    assert desk.held() == Decimal("0.00005")


def test_nothing_can_be_short(desk: Desk) -> None:
    """It is refused before a request is made."""
    desk.exchange.prepare()
    asked = len(desk.venue.requests)
    for request in (desk.exchange.holding, desk.exchange.open_orders, desk.trades):
        with pytest.raises(UnsupportedMarket, match="short"):
            request(Leg(SYMBOL, "short"))
    assert len(desk.venue.requests) == asked


def test_a_balance_cannot_be_adopted(desk: Desk) -> None:
    """Nobody knows what it was bought for; the way out is in the message."""
    hold(desk)
    with pytest.raises(UnsupportedMarket, match=r"track\(\) 'BTC/USDT' with what you paid"):
        desk.guard().adopt(SYMBOL, "long")


# Sales.


def test_what_an_order_says(desk: Desk) -> None:
    """It sells at market, under its id, and never for more than there is; so nothing can go short."""
    hold(desk, "0.345678999")
    desk.exchange.place(desk.closing(10))
    [request] = desk.sent("place")
    said = {key: request.params[key] for key in ("symbol", "side", "type", "quantity", "newClientOrderId")}
    assert list(said.values()) == ["BTCUSDT", "SELL", "MARKET", "0.34567", "c1"]
    assert desk.hand.left(LONG) == Decimal("0.000008999")
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing("0.5"))
    assert len(desk.sent("place")) == 1


@pytest.mark.parametrize(("symbol", "fee_currency"), [("BTC/USDC", "USDC"), ("ETH/BTC", "BTC")])
def test_other_quote_currencies(desk: Desk, symbol: str, fee_currency: str) -> None:
    """A market is what ccxt says it is; fees come in what a sale brings."""
    leg = Leg(symbol, "long")
    desk.exchange.prepare()
    desk.hand.open(leg, 120)
    assert desk.held(leg) == 120
    desk.exchange.place(desk.closing(100, leg=leg))
    [fill] = desk.told(leg=leg)
    price = desk.venue.books.prices[symbol]
    assert (fill.price, fill.contracts, fill.fee, fill.fee_currency) == (price, 100, price / 10, fee_currency)


def test_locked_coins_are_blocked_until_they_are_free(desk: Desk) -> None:
    """Orders that rest lock them: that is said, and nothing is sent; what is free can be sold."""
    hold(desk)
    rest(desk, "0.3")
    with pytest.raises(ReduceOnlyBlocked, match=r"0\.3 BTC are locked, 0\.2 are free"):
        desk.exchange.place(desk.closing("0.5"))
    assert desk.sent("place") == []
    assert desk.exchange.place(desk.closing("0.1")).filled == Decimal("0.1")
    [resting] = desk.exchange.open_orders(LONG)
    desk.exchange.cancel(resting)
    assert desk.exchange.place(desk.closing("0.4", "c2")).filled == Decimal("0.4")


def test_coins_that_no_order_of_this_market_locks(desk: Desk) -> None:
    """The free ones are sold; if there are none it is said, and a second later it may be otherwise."""
    hold(desk)
    rest(desk, "0.3", "BTC/USDC")
    assert desk.exchange.place(desk.closing("0.5")).filled == Decimal("0.2")
    with pytest.raises(NotServed, match=r"0\.3 BTC are locked, 0 are free, and no order of BTC/USDT"):
        desk.exchange.place(desk.closing("0.3", "c2"))
    assert len(desk.sent("place")) == 1


def test_coins_that_were_locked_meanwhile(desk: Desk) -> None:
    """The venue says the same as of coins that are gone; but there is something, and it can be had."""
    hold(desk)
    desk.strike("place", lambda _: rest(desk, "0.5") and None)
    with pytest.raises(ReduceOnlyBlocked, match=r"insufficient balance|Oversold"):
        desk.exchange.place(desk.closing("0.5"))
    assert desk.hand.left(LONG) == Decimal("0.5")


def test_coins_that_are_gone_or_not_nobody_says(desk: Desk) -> None:
    """It was refused, so it is not unknown; and no orders are given up for it without proof."""
    hold(desk)
    desk.strike("place", desk.venue.refusal("short"))
    desk.strike("held", HTML, spared=1)
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing("0.5"))


def test_nothing_is_sent_when_prices_or_orders_cannot_be_read(desk: Desk) -> None:
    """Which are needed to know what can be sold."""
    hold(desk)
    rest(desk, "0.4")
    for name in ("price", "plain"):
        desk.strike(name, HTML)
        with pytest.raises(NotServed):
            desk.exchange.place(desk.closing("0.5"))
    assert desk.sent("place") == []


def test_an_order_that_buys_is_none_of_ours(desk: Desk) -> None:
    """Whatever its id is."""
    hold(desk)
    rest(desk, "0.1", side="BUY", price=Decimal(50_000), client_id="c1")
    assert desk.exchange.order(LONG, "c1") is None


def test_an_order_that_is_denied_is_found_later(desk: Desk, case: VenueCase) -> None:
    """It was taken; MEXC answers its id only, and what it did is for later."""
    hold(desk)
    desk.venue.denies = 60.0
    placed = desk.exchange.place(desk.closing("0.2"))
    assert (placed.state, placed.filled) == (("open", 0) if case is MEXC_SPOT else ("filled", Decimal("0.2")))
    assert desk.exchange.order(LONG, "c1") is None
    desk.venue.denies = 0.0
    assert desk.exchange.order(LONG, "c1").filled == Decimal("0.2")


@only_mexc
@pytest.mark.parametrize("what", ["drop", HTML, "garbage"], ids=str)
def test_an_order_that_was_taken_and_cannot_be_read(desk: Desk, what: Any) -> None:
    """The answer had its id, so it is no doubt."""
    hold(desk)
    desk.strike("order", what)
    assert desk.exchange.place(desk.closing("0.2")).state == "open"
    assert desk.exchange.order(LONG, "c1").filled == Decimal("0.2")


@only_binance
def test_a_client_order_id_is_taken_while_its_order_rests(desk: Desk) -> None:
    """A second order under it is refused."""
    hold(desk)
    first = desk.exchange.place_stop(desk.stop("stop_loss", "c1", contracts="0.1"))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing("0.2"))
    assert desk.exchange.order(LONG, "c1") == first


@only_mexc
def test_a_second_order_under_one_id_that_is_refused(desk: Desk) -> None:
    """With a code that nobody documents: the outcome is unknown, and the id stands for the first."""
    hold(desk)
    first = desk.exchange.place(desk.closing("0.2"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing("0.1"))
    assert desk.exchange.order(LONG, "c1") == first


@only_mexc
def test_a_silent_duplicate_of_long_ago_is_not_taken_for_a_new_order(desk: Desk) -> None:
    """The venue may answer with the first order: it is older than the request."""
    desk.venue.offset_ms = -4000
    hold(desk)
    first = desk.exchange.place(desk.closing("0.2"))
    desk.venue.duplicates = "silent"
    desk.later(4000)
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing("0.1"))
    assert desk.exchange.order(LONG, "c1") == first
    assert desk.hand.sold(LONG) == [Decimal("0.2")]


# Stop orders, and what else rests.


@only_mexc
@pytest.mark.parametrize("kind", ["stop_loss", "take_profit"])
def test_where_there_are_no_stop_orders(desk: Desk, kind: Any) -> None:
    """Nothing is sent, and the message says what is left to do."""
    guard, _ = desk.tracked(contracts="0.5")
    with pytest.raises(OrderRefused, match="no stop orders on spot markets"):
        desk.exchange.place_stop(desk.stop(kind))
    assert desk.exchange.stop(desk.stop(kind)) is None
    with pytest.raises(ChangeRefused, match="no stop orders on spot markets"):
        guard.modify_position("btc-1", stop_loss=57_000)
    assert desk.sent("place") == []


@only_binance
def test_a_stop_is_for_all_of_it_or_not_at_all(desk: Desk) -> None:
    """It needs the coins free, down to the step: one for less than was asked would leave some bare."""
    desk.exchange.prepare()
    with pytest.raises(NothingToReduce):
        desk.exchange.place_stop(desk.stop("stop_loss"))
    hold(desk, "0.500008")
    rest(desk, "0.3")
    with pytest.raises(ReduceOnlyBlocked, match=r"0\.3 BTC are locked by orders, so 0\.5 cannot be had"):
        desk.exchange.place_stop(desk.stop("stop_loss"))
    assert desk.sent("place") == []
    assert desk.exchange.place_stop(desk.stop("stop_loss", contracts="0.2")).state == "open"
    [request] = desk.sent("place")
    assert (request.params["type"], request.params["stopPrice"]) == ("STOP_LOSS", "57000")


@only_binance
def test_an_oco_list_is_two_orders_for_one_amount(desk: Desk) -> None:
    """Cancelling one of them cancels both, and the other one is then no error; a close sweeps them."""
    guard, leg = desk.tracked(contracts="0.5")
    for _ in range(2):
        rest(desk, "0.5", kind="LIMIT_MAKER", price=Decimal(66_000), list_number=1)
        rest(desk, "0.5", kind="STOP_LOSS_LIMIT", trigger=Decimal(57_000), price=Decimal(56_000), list_number=1)
        listed = desk.exchange.open_orders(LONG)
        assert [each.family for each in listed] == ["order", "stop_loss"]
        assert desk.held() == Decimal("0.5")
        for each in listed:
            desk.exchange.cancel(each)
        assert desk.exchange.open_orders(LONG) == []
        desk.venue.books.orders.clear()
    rest(desk, "0.5", kind="LIMIT_MAKER", price=Decimal(66_000), list_number=1)
    rest(desk, "0.5", kind="STOP_LOSS_LIMIT", trigger=Decimal(57_000), price=Decimal(56_000), list_number=1)
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg, Decimal("0.5"))


# Trades.


@pytest.mark.parametrize("newest_first", [True, False])
def test_trades_of_one_second_stay_in_order(desk: Desk, case: VenueCase, *, newest_first: bool) -> None:
    """Whole seconds, some rounded up and some down, would turn them round."""
    desk.venue.newest_first = newest_first
    desk.exchange.prepare()
    for offset_ms in (-9000, -9000, -9000, -9000, -9000, -9000, -1000):
        desk.venue.offset_ms = offset_ms
        desk.venue.books.buy(SYMBOL, "0.2")
        desk.venue.books.sell(SYMBOL, "0.1")
    desk.venue.offset_ms = 0
    told = desk.trades()
    assert [each.effect for each in told] == ["entry", "exit"] * 7
    numbers = [int(each.fill.trade_id.removesuffix("X1")) for each in told]
    assert numbers == sorted(numbers)
    times = [each.fill.at_ms for each in told]
    assert (times != sorted(times)) == case.rounds


def test_what_was_not_asked_for_is_not_told(desk: Desk) -> None:
    """Should the venue tell more than the time that it was asked about."""
    hold(desk)
    desk.exchange.place(desk.closing("0.2"))
    [fill] = desk.told()
    row = {"orderId": 1, "price": "1", "qty": "1", "commission": "0", "commissionAsset": "USDT"}
    rows = [{**row, "id": each, "isBuyer": False, "time": fill.at_ms + each} for each in (-1, 0)]
    desk.strike("trades", Reply(200, rows))
    assert [each.at_ms for each in desk.told(since_ms=fill.at_ms)] == [fill.at_ms]


def test_fees_in_a_currency_of_the_venues_own(desk: Desk) -> None:
    """They are told as they are; those of a purchase may be in what was bought."""
    books = hold(desk)
    books.buy(SYMBOL, "0.5")
    books.pays_fees_in = "BNB"
    books.give("BNB", 1000)
    desk.exchange.place(desk.closing("0.2"))
    fees = [(each.fill.fee, each.fill.fee_currency) for each in desk.trades()]
    assert fees == [(Decimal("0.0005"), "BTC"), (Decimal(12), "BNB")]


def test_orders_of_two_markets_may_have_one_number(desk: Desk) -> None:
    """The venue counts them by market, so they are told apart by it."""
    hold(desk, 2)
    usdc = Leg("BTC/USDC", "long")
    desk.exchange.place(desk.closing("0.2", "c1"))
    desk.exchange.place(desk.closing("0.2", "c2", usdc))
    assert [fill.client_order_id for leg in (LONG, usdc) for fill in desk.told(leg=leg)] == ["c1", "c2"]


@only_mexc
def test_more_fills_in_one_moment_than_can_be_told_are_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather no answer than a part of it."""
    monkeypatch.setattr(type(desk.behind._venue), "page", 1)
    desk.venue.page = 1
    hold(desk)
    desk.exchange.place(desk.closing("0.2"))
    with pytest.raises(ExchangeUnavailable, match="in one millisecond"):
        desk.told(since_ms=desk.venue.clock_ms() - 1000)


def test_what_is_past_is_asked_for_once(desk: Desk, case: VenueCase) -> None:
    """At Binance in one question, at MEXC piece by piece; MEXC tells a month, and refuses to be asked about more."""
    books, now_ms = hold(desk, 5), desk.venue.clock_ms()
    for days in (40, 20, 10, 0):
        desk.venue.offset_ms = -days * DAY_MS
        books.sell(SYMBOL, "0.1")
    told = [20, 10, 0] if case is MEXC_SPOT else [40, 20, 10, 0]
    for _ in range(2):
        fills = desk.told(since_ms=now_ms - 300 * DAY_MS)
        assert [(now_ms + 5000 - fill.at_ms) // DAY_MS for fill in fills] == told
    assert len(desk.sent("trades")) == (5 + 1 if case is MEXC_SPOT else 1 + 1)


# The guard.


@only_binance
def test_a_stop_loss_rests_on_the_tick_and_the_step(desk: Desk) -> None:
    """Its price is rounded towards the market, and its size cut down, as the market's filters want them."""
    guard, _ = desk.tracked(contracts="0.499999")
    assert guard.modify_position("btc-1", stop_loss="57000.123456").stop_loss == Decimal("57000.13")
    assert [each.contracts for each in desk.exchange.open_orders(LONG)] == [Decimal("0.49999")]


@only_binance
def test_a_position_with_a_stop_loss(desk: Desk) -> None:
    """It is set, cannot be moved while it locks all there is, can be set anew, and gives way to the close."""
    guard, leg = desk.tracked()
    assert guard.modify_position("btc-1", stop_loss=57_000).stop_loss == 57_000
    with pytest.raises(ChangeRefused, match=r"locked by orders.*remove those first; the old one stays"):
        guard.modify_position("btc-1", stop_loss=58_000)
    with pytest.raises(ChangeRefused, match="locked by orders"):
        guard.modify_position("btc-1", take_profit=66_000)
    with pytest.raises(ChangeRefused, match=r"10 BTC are locked, 0 are free: orders rest on BTC/USDT"):
        guard.modify_position("btc-1", reduce_by="0.1")
    guard.modify_position("btc-1", stop_loss=None)
    assert guard.modify_position("btc-1", stop_loss=58_000).stop_loss == 58_000
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)


def test_a_stop_loss_gives_way_last(desk: Desk) -> None:
    """Both lock a part; the limit order is not enough, so the stop-loss goes too."""
    guard, leg = desk.tracked()
    rest(desk, 6, kind="STOP_LOSS", trigger=Decimal(57_000))
    rest(desk, 4)
    guard.close_position("btc-1")
    assert [request.params["orderId"][-1] for request in desk.sent("cancel")] == ["2", "1"]
    desk.assert_closed_once(guard, leg)


def test_a_close_that_is_denied_for_a_while_is_not_sent_again(desk: Desk) -> None:
    """The answer was lost, and the order is not found at once."""
    desk.connect(denies_for=1.5)
    guard, leg = desk.tracked()
    desk.venue.denies = 1.0
    desk.strike("place", "lose")
    guard.close_position("btc-1")
    assert desk.hand.sold(leg) == [10]
    desk.assert_closed_once(guard, leg)


@pytest.mark.parametrize(("others", "rests"), [("0.00008", "0.00008"), (2, "1.5")])
def test_coins_of_somebody_else_are_not_sold(desk: Desk, others: Any, rests: Any) -> None:
    """A close sells what was tracked; what else there is is nobody's business, and an order that rests for it stays."""
    desk.hand.open(LONG, others)
    guard, leg = desk.tracked()
    order = rest(desk, rests)
    assert guard.close_position("btc-1").left_at_venue == 0
    assert (desk.hand.sold(leg), desk.hand.left(leg), order.rests) == ([10], Decimal(others), True)


def test_what_was_bought_but_did_not_arrive_is_refused(desk: Desk) -> None:
    """The fee was taken from the coins: a bot that tracks what it ordered is told how much there is."""
    desk.exchange.prepare()
    arrived = desk.venue.books.buy(SYMBOL, "0.54321")
    assert arrived == Decimal("0.54266679")
    guard = desk.guard()
    with pytest.raises(PositionConflict, match=r"0\.54321 contracts are .* and the venue holds 0\.54266679"):
        guard.track(Position("btc-1", SYMBOL, "long", "0.54321", 60_000))
    guard.track(Position("btc-1", SYMBOL, "long", "0.54266", 60_000))
    assert guard.close_position("btc-1").left_at_venue == 0
    assert (desk.hand.sold(LONG), desk.hand.left(LONG)) == ([Decimal("0.54266")], Decimal("0.00000679"))


def test_what_is_beyond_the_step_is_left(desk: Desk) -> None:
    """No order can sell it, so the close ends without it, and says how much that is."""
    guard, _ = desk.tracked(contracts="0.50000999")
    closed = guard.close_position("btc-1")
    assert closed.left_at_venue == Decimal("0.00000999")
    assert sum(fill.contracts for fill in closed.fills) == Decimal("0.5")


def test_coins_that_something_else_locks_are_told(desk: Desk) -> None:
    """A close that cannot go on says why; when they are free it is finished."""
    _, leg = desk.tracked()
    guard = desk.guard(timeout=1.0)
    desk.venue.books.held_back["BTC"] = Decimal(10)
    with pytest.raises(CloseUnsettled, match=r"10 BTC are locked, 0 are free, and no order of BTC/USDT"):
        guard.close_position("btc-1")
    desk.venue.books.held_back["BTC"] = Decimal(0)
    [recovery] = guard.recover()
    assert recovery.error is None
    desk.assert_closed_once(guard, leg)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_two_guards_race(tmp_path: Path, case: VenueCase, *, asynchronous: bool) -> None:
    """One closes, the other is told; with a client, a lock directory and a loop of its own each."""
    venue, outcomes = case.opens(tmp_path / "clock.db"), []

    def close(racer: PositionGuard) -> None:
        try:
            racer.close_position("btc-1")
            outcomes.append("closes")
        except PositionAlreadyClosingError as error:
            outcomes.append(error.state)

    with desk_at(venue, tmp_path, asynchronous=asynchronous, case=case, symbol=SYMBOL) as desk:
        guard, leg = desk.tracked()
        loop = desk.run
        with asyncio.Runner() as one, asyncio.Runner() as another:
            racers = []
            for runner in (one, another):
                desk.run = runner.run
                desk.connect()
                racers.append(desk.guard(lock_dir=elsewhere(desk.lock_dir), timeout=30))
            at_once(*(partial(close, racer) for racer in racers))
            desk.hang_up(one.run, another.run)
        assert sorted(outcomes) in [["closed", "closes"], ["closes", "closing"]]
        desk.run = loop
        desk.connect()
        desk.exchange.prepare()
        assert desk.hand.sold(leg) == [10]
        desk.assert_closed_once(guard, leg)


@pytest.mark.parametrize(("method", "when"), [("place", "before"), ("place", "after"), ("order", "before")])
def test_a_closer_that_died_is_succeeded(desk: Desk, method: str, when: Any) -> None:
    """Before its order or after it, with the answer or without: whoever comes next sells once, and books it once."""
    guard, leg = desk.tracked()
    if method == "order":
        desk.strike("place", "lose")
    with pytest.raises(LockLost):
        desk.guard(StruckExchange(desk.behind, Strike(method, when, DIED)), stale_after=2.0).close_position("btc-1")
    assert desk.hand.sold(leg) == ([] if (method, when) == ("place", "before") else [10])
    desk.connect()
    [recovery] = desk.guard(lock_dir=elsewhere(desk.lock_dir)).recover()
    assert recovery.error is None
    assert desk.hand.sold(leg) == [10]
    desk.assert_closed_once(guard, leg)
