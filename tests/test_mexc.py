"""What is MEXC's own: sides that are numbers, four families of orders, silent duplicates, whole seconds."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import ccxt
import pytest

from loopback.desk import DAY_MS, LONG, SYMBOL, Desk, other
from loopback.mexc_books import Asked
from loopback.server import Fault, Reply
from poslock import InvalidPosition, Position
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    RequestExpired,
    UnsupportedMarket,
)
from poslock.exchange.ccxt.exchange import CcxtExchange
from poslock.exchange.ccxt.mexc import venue as mexc
from poslock.exchange.port import CloseOrder, Leg
from venue_cases import MEXC, mexc_protect, mexc_trail, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback.server import Request
    from poslock.position import Side

ETH = "ETH/USDT:USDT"
# A spot market, as the venue's list of them has it.
SPOT = {"symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT", "baseAssetPrecision": 8}
SPOT |= {"quotePrecision": 2, "quoteAssetPrecision": 2, "baseSizePrecision": "0.0001", "maxQuoteAmount": "5000000"}
SPOT |= {"quoteAmountPrecision": "1", "permissions": ["SPOT"], "orderTypes": []}
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])
only_hedge = pytest.mark.parametrize("hedge", [True], ids=["hedge"])


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def desk(tmp_path: Path, settings: dict[str, Any], *, hedge: bool) -> Iterator[Desk]:
    with opened(MEXC, tmp_path, hedge=hedge, **settings) as desk:
        desk.hand.price(ETH, 3_000)
        yield desk


def answer_data(desk: Desk, name: str, data: Any, **fault: Any) -> None:
    """Answer with *data*, which a function makes of what it would be."""
    change = data if callable(data) else lambda _data: data
    desk.answer_otherwise(name, lambda body: {**body, "data": change(body.get("data"))}, **fault)


def rests(desk: Desk, leg: Leg, number: int) -> None:
    """Plain limit orders that rest far away, as another program would have sent them; reduce-only."""
    asked = Asked("order", side=4, kind=1, price=Decimal(10**6), reduce_only=not desk.venue.hedge)
    with desk.venue.books() as books:
        for _ in range(number):
            books.take(leg, asked, Decimal(1), "order")


def exits(desk: Desk) -> list[tuple[Any, Any]]:
    return sorted((each.family, each.trigger_price) for each in desk.exchange.open_orders(LONG))


def families(desk: Desk) -> list[str]:
    return sorted(each.order_id.rpartition(":")[0] or "plain" for each in desk.exchange.open_orders(LONG))


def pair(desk: Desk, **more: Any) -> None:
    """A TP/SL order of the long with both prices."""
    mexc_protect(desk, LONG, stopLossPrice=57_000, takeProfitPrice=66_000, **more)


# What the account is.


def test_a_venue_without_swaps_is_not_believed(desk: Desk) -> None:
    """The contract detail that cannot be read looks to ccxt like an empty one, beside spot markets that are there."""
    desk.answer_otherwise("exchangeInfo", lambda body: {**body, "symbols": [SPOT]})
    desk.strike("markets", "garbage")
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.prepare()
    desk.exchange.prepare()
    assert desk.held() == 0


@pytest.mark.parametrize(("said", "hedge"), [(1, True), ("2", False), ({"positionMode": 1}, True)])
def test_the_position_mode_is_a_number_or_a_table(desk: Desk, said: Any, *, hedge: bool) -> None:
    """The documentation has it both ways."""
    answer_data(desk, "mode", said)
    assert desk.exchange.inspect().hedge is hedge


@pytest.mark.parametrize("said", [3, {"positionMode": 0}])
def test_an_unknown_position_mode_is_refused(desk: Desk, said: Any) -> None:
    """Whatever it means, orders would not."""
    answer_data(desk, "mode", said, times=2)
    for request in (desk.exchange.prepare, lambda: desk.exchange.place(desk.closing(1))):
        with pytest.raises(UnsupportedMarket, match="position mode"):
            request()
    assert desk.sent("place") == []


@pytest.mark.parametrize("name", ["minVol", "maxVol"])
def test_a_contract_without_a_limit_has_none(desk: Desk, name: str) -> None:
    """The smallest order is the step then, and the largest is any."""
    answer_data(desk, "markets", lambda rows: [{**row, name: None} for row in rows])
    desk.hold()
    holding = desk.exchange.holding(LONG)
    assert (holding.smallest, holding.largest) == (1, None if name == "maxVol" else 1_000_000)
    assert desk.exchange.place(desk.closing(10)).filled == 10


@both_modes
def test_a_position_has_an_id_of_its_own(desk: Desk, *, hedge: bool) -> None:
    """It stays while contracts come and go; the next position has another. Orders name the one they are for."""
    desk.hold()
    first = desk.exchange.holding(LONG).position_id
    desk.exchange.place(replace(desk.closing(4), position_id=first))
    desk.hold()
    assert desk.exchange.holding(LONG).position_id == first
    desk.exchange.place(desk.closing(16, "c2"))
    desk.hold(contracts=5)
    present = desk.exchange.holding(LONG).position_id
    assert present not in {None, first}
    with pytest.raises(NothingToReduce, match=f"not {first}"):
        desk.exchange.place(replace(desk.closing(5, "c3"), position_id=first))
    assert desk.exchange.place(replace(desk.closing(5, "c4"), position_id=present)).filled == 5
    assert [str(request.params["positionId"]) for request in desk.sent("place")] == [first, first, present]


def test_only_known_venues_and_markets_are_taken(desk: Desk) -> None:
    """Another venue, another kind of market, or no client at all is refused when it is handed in."""
    with pytest.raises(UnsupportedMarket, match="kraken swap is not known"):
        CcxtExchange(ccxt.kraken(), account="main")
    with pytest.raises(UnsupportedMarket, match="mexc option is not known"):
        CcxtExchange(desk.clients[0], account="main", market="option")
    with pytest.raises(TypeError, match="must be an exchange of ccxt"):
        CcxtExchange(object(), account="main")


def test_accounts_are_told_apart_by_their_names(desk: Desk) -> None:
    """With the venue and the kind of market, for ever; a name is printable and not empty."""
    client = desk.clients[0]
    made = [CcxtExchange(client, account=each, denies_for=0.0) for each in ("main", "sub-1")]
    assert [each.account for each in made] == ["mexc swap main", "mexc swap sub-1"]
    default = CcxtExchange(client, account="main")
    assert (default.denies_for, default.settles_within, made[0].denies_for) == (10.0, 10.0, 0.0)
    for refused in ("", "a\nb", "x" * 65, 7):
        with pytest.raises(InvalidPosition, match="account"):
            CcxtExchange(client, account=refused)


# Orders that close.


@both_modes
@both_sides
@pytest.mark.parametrize("margin", [(2, 20), (1, 25)], ids=["cross", "isolated"])
def test_what_orders_say(desk: Desk, side: Side, margin: tuple[int, int], *, hedge: bool) -> None:
    """Side 4 closes a long and 2 a short; margin and leverage are the position's; no reduceOnly in hedge mode."""
    leg = desk.hold(side)
    desk.venue.open_type, desk.venue.leverage = margin
    desk.exchange.place(desk.closing(4, leg=leg))
    desk.exchange.place_stop(desk.stop("stop_loss", leg=leg, contracts=6))
    common = {
        "symbol": "BTC_USDT",
        "side": 4 if side == "long" else 2,
        "openType": margin[0],
        "leverage": margin[1],
        **({"positionMode": 1} if hedge else {"positionMode": 2, "reduceOnly": True}),
    }
    number = int(desk.exchange.holding(leg).position_id)
    trigger = {"triggerPrice": 57_000, "triggerType": 2} if side == "long" else {}
    trigger = trigger or {"triggerPrice": 66_000, "triggerType": 1}
    [close], [stop] = desk.sent("place"), desk.sent("stop")
    assert close.params == {**common, "type": 5, "vol": 4, "externalOid": "c1", "positionId": number}
    assert stop.params == {**common, "vol": 6, **trigger, "executeCycle": 2, "orderType": 5, "trend": 1}


@only_hedge
def test_a_position_that_was_opened_again_meanwhile(desk: Desk, *, hedge: bool) -> None:
    """positionId: the order was for the one that is gone (2043), and leaves the new one alone."""
    leg = desk.hold()

    def again(_request: Request) -> None:
        desk.hand.take(leg, 10)
        desk.hand.open(leg, 5)

    desk.strike("place", again)
    with pytest.raises(NothingToReduce) as caught:
        desk.exchange.place(desk.closing(10))
    assert (caught.value.code, desk.hand.left(leg)) == ("2043", 5)


@pytest.mark.parametrize("seen_by", ["its own answer", "its client order id", "its trade", "its size alone"])
def test_a_silent_duplicate_is_not_taken_for_a_new_order(desk: Desk, seen_by: str) -> None:
    """Silent duplicate: the first order's id comes back as a success; it was seen before, or is of another size."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    if seen_by != "its own answer":
        desk.connect()
        desk.exchange.prepare()
    if seen_by == "its client order id":
        desk.exchange.order(LONG, "c1")
    if seen_by == "its trade":
        desk.trades()
    desk.venue.denies = 60
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing(6 if seen_by == "its size alone" else 4))
    assert (len(desk.sent("place")), desk.hand.sold(LONG)) == (2, [4])
    desk.venue.denies = 0
    assert desk.exchange.order(LONG, "c1").filled == 4


def test_no_new_order_is_taken_for_a_duplicate(desk: Desk) -> None:
    """Whatever its time is rounded to; one of the same size that was never seen here is what the id names."""
    desk.hold(contracts=12)
    placed = [desk.exchange.place(desk.closing(1, f"c{number}")) for number in range(8)]
    assert {order.filled for order in placed} == {1}
    desk.connect()
    desk.exchange.prepare()
    assert desk.exchange.place(desk.closing(1, "c7")) == placed[-1]
    assert desk.held() == 4


def test_the_answer_to_an_order_is_an_id_only(desk: Desk) -> None:
    """Id-only replies: the order is asked for; if that fails it is taken all the same, and what it did is for later."""
    desk.hold()
    desk.strike("by id", "drop")
    placed = desk.exchange.place(desk.closing(14))
    assert (placed.contracts, placed.filled, placed.state) == (10, 0, "open")
    assert desk.exchange.order(LONG, "c1") == replace(placed, filled=Decimal(10), state="filled")


@pytest.mark.parametrize("said", [{}, {"orderId": None}, {"orderId": ""}, {"orderId": True}, None, []])
def test_an_answer_without_an_id_is_none(desk: Desk, said: Any) -> None:
    """A success that does not say of which order leaves the outcome unknown."""
    desk.hold()
    answer_data(desk, "place", said)
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))
    assert desk.exchange.order(LONG, "c1").filled == 4


def test_a_client_order_id_has_32_characters_at_most(desk: Desk) -> None:
    """externalOid: 2030 beyond; what the guard makes fits."""
    desk.hold()
    with pytest.raises(OrderRefused) as caught:
        desk.exchange.place(desk.closing(4, "x" * 33))
    assert (caught.value.code, desk.hand.sold(LONG)) == ("2030", [])
    assert desk.exchange.place(desk.closing(4, "x" * 32)).client_order_id == "x" * 32


@pytest.mark.parametrize("window_ms", [999, 1000, 5999])
def test_the_window_goes_out_in_whole_seconds_under_both_names(desk: Desk, window_ms: int) -> None:
    """Never longer than what was asked for; less than a second is not sent. Answers come in English."""
    desk.hold()
    close, stop = desk.closing(1, window_ms=window_ms), desk.stop("stop_loss", window_ms=window_ms)
    for send, order in ((desk.exchange.place, close), (desk.exchange.place_stop, stop)):
        if window_ms < 1000:
            with pytest.raises(RequestExpired):
                send(order)
        else:
            send(order)
    sent = [*desk.sent("place"), *desk.sent("stop")]
    assert len(sent) == (0 if window_ms < 1000 else 2)
    for request in sent:
        said = [request.headers[name] for name in ("recv-window", "revc-window", "language")]
        assert said == [str(window_ms // 1000)] * 2 + ["English"]


@pytest.mark.parametrize("settings", [{"vol_unit": "0.001"}])
@pytest.mark.parametrize(("contracts", "said"), [("1E+1", b"10"), ("0.500000", b"0.5"), ("0.001", b"0.001")])
def test_amounts_and_prices_are_numbers_in_their_own_digits(desk: Desk, contracts: str, said: bytes) -> None:
    """No text, no exponent, no idle zeros."""
    desk.hold()
    desk.exchange.place_stop(desk.stop("stop_loss", at="57000.10", contracts=contracts))
    desk.exchange.place(desk.closing(contracts))
    close, stop = (request.body.replace(b" ", b"") for request in (*desk.sent("place"), *desk.sent("stop")))
    assert b'"vol":' + said + b"," in close + b","
    assert b'"vol":' + said + b"," in stop
    assert b'"triggerPrice":57000.1,' in stop


def as_text(said: Any) -> Any:
    """The same with every number as text, booleans apart."""
    if isinstance(said, dict):
        return {name: as_text(each) for name, each in said.items()}
    if isinstance(said, list):
        return [as_text(each) for each in said]
    return said if said is None or isinstance(said, bool | str) else str(said)


def as_numbers(said: Any) -> Any:
    """The same with every id as a number, and every number as one with a fraction."""
    if isinstance(said, dict):
        return {name: as_numbers(each) for name, each in said.items()}
    if isinstance(said, list):
        return [as_numbers(each) for each in said]
    if isinstance(said, str):
        return int(said) if said.isdecimal() else said
    return float(said) if isinstance(said, Decimal) else said


@both_modes
@pytest.mark.parametrize("change", [as_text, as_numbers])
def test_numbers_and_ids_are_read_however_they_are_written(desk: Desk, change: Any, *, hedge: bool) -> None:
    """Floats, text and whole numbers mean the same, ids too."""
    leg = desk.hold()
    desk.hand.protect(leg, "stop_loss", 10, "57000.5")
    desk.hand.protect(leg, "take_profit", 10, 66_000)
    rests(desk, leg, 2)
    desk.hand.fund(SYMBOL, "0.0000021")
    answer_data(desk, "private/", change, times=99)
    assert desk.exchange.place(desk.closing(4)).filled == 4
    assert (desk.held(), desk.exchange.order(leg, "c1").filled) == (6, 4)
    assert exits(desk) == [("order", None)] * 2 + [("stop_loss", Decimal("57000.5")), ("take_profit", 66_000)]
    assert [(each.client_order_id, each.contracts) for each in desk.told()] == [("c1", 4)]
    assert desk.exchange.funding(leg, 0, desk.later()) == Decimal("-1.26")
    for order in desk.exchange.open_orders(leg):
        desk.exchange.cancel(order)
    assert desk.hand.resting(leg) == 0


@pytest.mark.parametrize(
    ("state", "expected"), [(1, "open"), (2, "open"), (3, "filled"), (4, "canceled"), (5, "canceled"), (99, "open")]
)
def test_the_state_of_an_order_is_a_number(desk: Desk, state: int, expected: str) -> None:
    """1 and 2 are on their way, 3 is filled, 4 cancelled and 5 invalid; what is not known may rest."""
    desk.hold()
    desk.exchange.place(desk.closing(4))
    answer_data(desk, "order", lambda row: {**row, "state": state, "dealVol": 1.5})
    found = desk.exchange.order(LONG, "c1")
    assert (found.state, found.filled, found.contracts) == (expected, Decimal("1.5"), 4)


# Orders that rest.


@pytest.mark.parametrize("change", [{"symbol": "ETH_USDT"}, {"state": 4, "isFinished": 1}])
def test_what_the_venue_lists_beyond_the_question_is_left_out(desk: Desk, change: dict[str, Any]) -> None:
    """Another market's rows and ended ones, should it not heed the symbol and the states it is asked for."""
    MEXC.by_hand(desk, desk.hold())

    def changed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **change} for row in rows]

    for name in ("plans", "stops", "tracks"):
        answer_data(desk, name, changed, times=9)
    assert families(desk) == ["plain"]


@pytest.mark.parametrize("others", [100, 101])
def test_an_order_beyond_the_first_hundred_of_the_account_is_found(desk: Desk, others: int) -> None:
    """First 100: the list is the whole account's; ours is on the second page, behind orders of other markets."""
    desk.hold()
    rests(desk, LONG, 1)
    desk.hand.open(Leg(ETH, "long"), 200)
    rests(desk, Leg(ETH, "long"), others)
    [found] = desk.exchange.open_orders(LONG)
    assert [request.params["page_num"] for request in desk.sent("plain")] == ["1", "2"] * 2
    desk.exchange.cancel(found)
    assert desk.exchange.open_orders(LONG) == []


def test_an_order_that_moves_to_the_page_before_is_found(desk: Desk) -> None:
    """One of the others ends between two pages: ours is on the first by then, which was read without it."""
    desk.hold()
    rests(desk, LONG, 1)
    desk.hand.open(Leg(ETH, "long"), 200)
    rests(desk, Leg(ETH, "long"), 100)
    [*_, latest] = desk.book.open_orders(Leg(ETH, "long"))
    desk.strike("plain", lambda _: desk.book.cancel(latest), spared=1)
    assert len(desk.exchange.open_orders(LONG)) == 1


def test_all_pages_of_each_family_are_read(desk: Desk) -> None:
    """Trigger orders have 100 to a page; how many trailing ones have is not documented, so 20 are asked for."""
    leg = desk.hold(contracts=500)
    for number in range(103):
        desk.hand.protect(leg, "stop_loss", 1, 50_000 + number)
    for _ in range(23):
        mexc_trail(desk, leg)
    found = families(desk)
    assert [found.count(each) for each in ("plan", "track")] == [103, 23]
    assert {request.params["pageSize"] for request in desk.sent("tracks")} == {"20"}


@both_modes
@pytest.mark.parametrize("family", ["", "plan", "stop", "track"])
def test_a_cancel_of_each_family(desk: Desk, family: str, *, hedge: bool) -> None:
    """It lives for ten seconds, and is no error of what never was; a code inside of a 200 is one, so is 2009."""
    MEXC.by_hand(desk, desk.hold())
    [order] = [each for each in desk.exchange.open_orders(LONG) if each.order_id.rpartition(":")[0] == family]
    desk.exchange.cancel(replace(order, order_id=f"{order.order_id}9"))
    inside = [{"orderId": 1, "errorCode": 2026, "errorMsg": "x"}]
    answers: list[tuple[Any, type[Exception]]] = [
        (MEXC.refusal(2009), NothingToReduce),
        (MEXC.refusal(604), NotServed),
        (Reply(200, {"success": True, "code": 0, "data": inside}), OrderRefused),
    ]
    for what, expected in answers:
        desk.strike("cancel", what)
        with pytest.raises(expected):
            desk.exchange.cancel(order)
    at_ms = desk.exchange.time_ms()
    desk.exchange.cancel(order)
    request = desk.sent("cancel")[-1]
    assert at_ms + 10_000 <= MEXC.expires_ms(request) <= desk.exchange.time_ms() + 10_000
    assert len(desk.exchange.open_orders(LONG)) == 3


# TP/SL orders with two prices.


@both_modes
def test_one_half_of_a_pair_is_not_cancelled_by_itself(desk: Desk, *, hedge: bool) -> None:
    """Two orders with one id: while the position is there, or cannot be read, a cancel would take the other along."""
    desk.hold()
    pair(desk)
    found = desk.exchange.open_orders(LONG)
    assert families(desk) == ["stop:half", "stop:half"]
    assert exits(desk) == [("stop_loss", 57_000), ("take_profit", 66_000)]
    for half in found:
        with pytest.raises(OrderRefused):
            desk.exchange.cancel(half)
    desk.strike("held", "drop")
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.cancel(found[0])
    assert desk.sent("cancel") == []
    desk.exchange.place(desk.closing(10))
    for half in found:
        desk.exchange.cancel(half)
    assert desk.exchange.open_orders(LONG) == []


def test_a_pair_is_not_broken_up_for_a_new_stop(desk: Desk) -> None:
    """The new stop-loss rests beside it, and the caller is told so; a close sweeps them all."""
    desk.tracked()
    pair(desk)
    desk.connect(settles_within=0.1)
    guard = desk.guard()
    with pytest.raises(Exception, match="orders still rest: stop:half"):
        guard.modify_position("btc-1", stop_loss=58_000)
    assert exits(desk) == [("stop_loss", 57_000), ("stop_loss", 58_000), ("take_profit", 66_000)]
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, LONG)


@pytest.mark.parametrize("kind", ["stop_loss", "take_profit"])
@pytest.mark.parametrize("size", [10, 0, None])
def test_one_price_of_a_pair_is_changed(desk: Desk, kind: Any, size: int | None) -> None:
    """The other one stays, a later change moves it again, and no answer is needed; also if it is for all, 0 or null."""
    guard, leg = desk.tracked()
    prices = {"stop_loss": 57_000, "take_profit": 66_000}
    pair(desk, vol=10)
    if size != 10:
        answer_data(desk, "stops", lambda rows: [{**row, "vol": size} for row in rows], times=100)
    desk.venue.strike(Fault("change_plan_price", "lose", spared=1))
    for at in (prices[kind] - 500, prices[kind] + 500):
        guard.modify_position("btc-1", **{kind: at})
        assert exits(desk) == sorted((prices | {kind: at}).items())
    assert desk.sent("stop") == []
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)


@pytest.mark.parametrize("kept", [{"takeProfitOrderPrice": 66_000}, {}])
def test_a_take_profit_at_a_limit_is_swept(desk: Desk, kept: dict[str, Any]) -> None:
    """It has a price of its own name and no other; one with no price that is known here rests all the same."""
    guard, leg = desk.tracked()
    mexc_protect(desk, leg, takeProfitPrice=66_000, vol=10)
    answer_data(desk, "stops", lambda rows: [{**row, "takeProfitPrice": None, **kept} for row in rows], times=100)
    assert families(desk) == ["stop"]
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)


# Stops of our own: trigger orders, which have no client order id.


@both_sides
def test_a_stop_is_known_by_its_shape(desk: Desk, side: Side) -> None:
    """It is one of this leg, kind, size and price that rests, or has triggered since then; times are rounded."""
    leg = desk.hold(side)
    order = desk.stop("stop_loss", leg=leg)
    assert desk.exchange.stop(order) is None
    placed = desk.exchange.place_stop(order)
    assert desk.exchange.stop(order) == desk.exchange.stop(replace(order, client_order_id="s2")) == placed
    for else_ in (
        replace(order, contracts=Decimal(9)),
        replace(order, trigger_price=order.trigger_price + 1),
        replace(order, kind="take_profit"),
        replace(order, leg=other(leg)),
    ):
        assert desk.exchange.stop(else_) is None
    for number in range(4):
        again = desk.stop("stop_loss", leg=leg, contracts=1, at=order.trigger_price + (number + 1) * 7)
        assert desk.exchange.place_stop(again) == desk.exchange.stop(again)
    desk.hand.price(SYMBOL, order.trigger_price)
    found = desk.exchange.stop(replace(order, signed_at_ms=0))
    assert (found.order_id, found.state) == (placed.order_id, "filled")


def test_a_stop_that_triggered_for_another_position_is_not_this_ones(desk: Desk) -> None:
    """The same leg, kind, size and price as before: only what was placed since then can be ours."""
    desk.hold()
    desk.exchange.place_stop(desk.stop("stop_loss"))
    desk.hand.price(SYMBOL, 57_000)
    desk.hand.price(SYMBOL, 60_000)
    desk.later()
    desk.hold()
    assert desk.exchange.stop(desk.stop("stop_loss")) is None


def test_a_stop_that_is_set_again_replaces_the_same_one(desk: Desk) -> None:
    """At the same price and size, beside what others hold: one of them rests, as the venue tells only their shape."""
    desk.hold(contracts=15)
    desk.guard().track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    for _ in range(3):
        desk.later()
        desk.guard().modify_position("btc-1", stop_loss=58_000)
    assert exits(desk) == [("stop_loss", 58_000)]


def test_how_long_a_stop_rests(desk: Desk) -> None:
    """One of the venue's own program for years, and is found; one of ours for seven days, the longest cycle."""
    desk.venue.offset_ms = -300 * DAY_MS
    leg = desk.hold()
    desk.hand.protect(leg, "stop_loss", 10, 57_000)
    desk.later(293 * DAY_MS - 1000)
    desk.exchange.place_stop(desk.stop("stop_loss", at=58_000))
    assert exits(desk) == [("stop_loss", 57_000), ("stop_loss", 58_000)]
    desk.later(7 * DAY_MS + 2000)
    assert exits(desk) == [("stop_loss", 57_000)]
    assert desk.exchange.stop(desk.stop("stop_loss", at=58_000)) is None


# Trades and funding.


def test_whole_seconds_reorder_no_trades(desk: Desk) -> None:
    """Times are rounded up and down, so a later trade may have the earlier time; ids say, the tenth after the ninth."""
    desk.hold(contracts=12)
    for number in range(11):
        desk.exchange.place(desk.closing(1, f"c{number}"))
    told = desk.told()
    assert [each.client_order_id for each in told] == [f"c{number}" for number in range(11)]
    times = [each.at_ms for each in told]
    assert all(at_ms % 1000 == 0 for at_ms in times)
    assert times != sorted(times)


def test_lists_that_grow_at_their_head_are_told_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trade or a payment comes in between two pages, and the funding list may not heed the time asked about."""
    for name in ("_DEALS", "_FUNDING"):
        monkeypatch.setattr(mexc, name, replace(getattr(mexc, name), rows=2))
    leg = desk.hold(contracts=20)
    for number in range(5):
        desk.exchange.place(desk.closing(1, f"c{number}"))
        desk.book.pay_funding(SYMBOL, 10**number)
    since_ms, until_ms = desk.venue.clock_ms() - DAY_MS, desk.later()
    desk.strike("trades", lambda _: desk.hand.open(leg, 1), spared=1)
    assert [each.client_order_id for each in desk.told()] == [f"c{number}" for number in range(5)]

    def heedless(request: Request) -> Any:
        if request.params["page_num"] == "2":
            desk.later()
            desk.book.pay_funding(SYMBOL, 10**6)
        for name in ("start_time", "end_time", "position_type"):
            request.params.pop(name)
        return desk.venue._carried_out(request)

    desk.strike("funding", heedless, times=9)
    assert desk.exchange.funding(leg, since_ms, until_ms) == 11111


@pytest.mark.parametrize("context", [3, 28])
def test_funding_is_summed_exactly(desk: Desk, context: int) -> None:
    """Whatever precision the bot calculates with."""
    leg = desk.hold()
    for amount in ("1000.0001", "0.00000001"):
        desk.book.pay_funding(SYMBOL, amount)
    until_ms = desk.later()
    with localcontext(prec=context):
        assert desk.exchange.funding(leg, 0, until_ms) == Decimal("1000.00010001")


# The guard.


def test_an_urgent_close_does_not_take_the_id_of_a_later_position(desk: Desk) -> None:
    """It has ended by hand, somebody has entered again, and that was seen: it is looked at first, and booked."""
    guard, leg = desk.tracked()
    desk.book.place(CloseOrder(leg, Decimal(10), "by-hand", desk.book.time_ms(), 5000))
    desk.hand.open(leg, 10)
    assert desk.held() == 10
    closed = guard.close_position("btc-1", urgent=True)
    assert (closed.ended_by, closed.left_at_venue, desk.hand.left(leg)) == ("other", 10, 10)


@both_modes
def test_the_stop_loss_stays_till_it_is_flat(desk: Desk, *, hedge: bool) -> None:
    """A resting order freezes the volume: 2008, and the close makes room with the take-profit and that order alone."""
    guard, leg = desk.tracked(exits=True)
    rests(desk, leg, 10)
    cancelled: list[tuple[str, Any]] = []
    desk.strike("cancel", lambda request: cancelled.append((request.path, desk.hand.left(leg))), times=99)
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)
    expected = [("order", 10), ("planorder", 0), ("planorder", 10)]  # those of a family in one request
    assert sorted((path.split("/")[-2], held) for path, held in cancelled) == expected


@both_modes
@pytest.mark.parametrize("settings", [{"blocks_covered": True}])
def test_stops_that_cover_the_position_make_room(desk: Desk, *, hedge: bool) -> None:
    """7005: the take-profit goes first, and the stop-loss only because nothing else is left."""
    guard, leg = desk.tracked(exits=True)
    guard.close_position("btc-1")
    desk.assert_closed_once(guard, leg)
    assert desk.hand.sold(leg) == [10]


@both_modes
def test_a_position_that_shrinks_between_question_and_order_keeps_its_stops(desk: Desk, *, hedge: bool) -> None:
    """2008 because a part is gone, not because others cover it: the rest is sent anew, and no stop given up for it."""
    guard, leg = desk.tracked(exits=True)

    def shrinks(_request: Request) -> Reply:
        desk.hand.take(leg, 4)
        return MEXC.refusal(2008)

    resting: list[int] = []
    desk.strike("place", shrinks)
    desk.strike("place", lambda _: resting.append(desk.hand.resting(leg)))
    guard.close_position("btc-1")
    assert (resting, desk.hand.sold(leg)) == ([2], [4, 6])
    desk.assert_closed_once(guard, leg)
