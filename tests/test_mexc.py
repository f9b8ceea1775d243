"""MEXC futures through a real ccxt client, against an account on this machine: every request, every trap, closes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ccxt
import ccxt.async_support
import pytest

from loopback.server import Fault, Reply
from mexc_desk import (
    BTC,
    CREATE,
    ETH,
    LONG,
    PLAN,
    SHORT,
    Desk,
    assert_closed_once,
    both_clients,
    both_modes,
    both_sides,
    exits,
    families,
    only_hedge,
    opened,
    tracked,
)
from poslock import ChangeRefused, InvalidPosition, Position
from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    NothingToReduce,
    NotServed,
    OrderRefused,
    OutcomeUnknown,
    ReduceOnlyBlocked,
    RequestExpired,
    UnsupportedMarket,
)
from poslock.exchange.ccxt.exchange import CcxtExchange
from poslock.exchange.ccxt.mexc import venue as mexc
from poslock.exchange.port import Leg, Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback.server import Request
    from poslock.position import Side

DAY_MS = 86_400_000
# A spot market, as the venue's list of them has it.
SPOT = {
    "symbol": "BTCUSDT",
    "status": "1",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "baseAssetPrecision": 8,
    "quotePrecision": 2,
    "quoteAssetPrecision": 2,
    "baseSizePrecision": "0.0001",
    "maxQuoteAmount": "5000000",
    "quoteAmountPrecision": "1",
    "permissions": ["SPOT"],
    "orderTypes": [],
}

pytestmark = both_clients


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def venue_settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def desk(tmp_path: Path, venue_settings: dict[str, Any], *, asynchronous: bool, hedge: bool) -> Iterator[Desk]:
    with opened(tmp_path, asynchronous=asynchronous, hedge=hedge, **venue_settings) as desk:
        yield desk


def other(leg: Leg) -> Leg:
    return SHORT if leg == LONG else LONG


def by_the_way(desk: Desk, contracts: int) -> None:
    """The trader's own hand takes so many off the long."""
    desk.venue.book.place(desk.closing(contracts, "hand"))


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


# What the account is.


@both_modes
def test_the_account_is_inspected(desk: Desk, *, hedge: bool) -> None:
    """The clock, the mode and the rights of the key are told; where the rights cannot be asked they are unknown."""
    desk.venue.offset_ms = -90_000
    found = desk.exchange.inspect()
    assert 90_000 <= found.clock_ms < 95_000
    assert (found.hedge, found.may_trade, found.may_withdraw) == (hedge, True, False)
    desk.venue.rights = ["CONTRACT_DEAL_READ", "SPOT_WITHDRAW_READ"]
    found = desk.exchange.inspect()
    assert (found.may_trade, found.may_withdraw) == (False, False)
    desk.venue.rights = ["CONTRACT_DEAL_WRITE", "SPOT_WITHDRAW_W"]
    found = desk.exchange.inspect()
    assert (found.may_trade, found.may_withdraw) == (True, True)
    desk.venue.strike(Fault("apiKeyInfo", Reply(400, {"code": 700007, "msg": "No permission"})))
    found = desk.exchange.inspect()
    assert (found.hedge, found.may_trade, found.may_withdraw) == (hedge, None, None)


def test_its_time_is_the_venues(desk: Desk) -> None:
    """Requests are signed by the venue's clock, whatever this machine's says."""
    desk.venue.offset_ms = 3_600_000
    desk.exchange.prepare()
    behind_ms = desk.venue.clock_ms() - desk.exchange.time_ms()
    assert 0 <= behind_ms < 5000
    assert desk.holds(LONG) == 0


def test_the_price_is_the_last_one(desk: Desk) -> None:
    """Stops trigger on it, so the guard compares with it."""
    desk.exchange.prepare()
    desk.venue.book.set_price(BTC, "61234.5")
    desk.answer_data("/ticker", lambda said: {**said, "fairPrice": 1, "indexPrice": 2, "bid1": 3, "ask1": 4})
    assert desk.exchange.price(LONG) == Decimal("61234.5")


@both_modes
@both_sides
def test_what_is_held_is_one_side(desk: Desk, side: Side, *, hedge: bool) -> None:
    """The other side holds nothing; another market's position is not this one's."""
    leg = desk.held(side)
    desk.venue.book.open_position(ETH, side, 7)
    holding = desk.exchange.holding(leg)
    assert (holding.contracts, holding.entry_price, holding.contract_size) == (10, 60_000, 1)
    assert (holding.inverse, holding.settle) == (False, "USDT")
    assert (desk.holds(leg), desk.holds(other(leg)), desk.exchange.holding(other(leg))) == (10, 0, None)


@pytest.mark.parametrize("venue_settings", [{"contract_size": "0.0001"}])
def test_a_contract_is_a_part_of_a_coin(desk: Desk) -> None:
    """Its size comes from the contract detail; amounts are contracts."""
    desk.held()
    assert desk.exchange.holding(LONG).contract_size == Decimal("0.0001")
    assert desk.holds(LONG) == 10


@only_hedge
def test_both_legs_of_a_hedge_are_held(desk: Desk, *, hedge: bool) -> None:
    """Each has its own row."""
    desk.held("long", 10)
    desk.held("short", 4)
    assert (desk.holds(LONG), desk.holds(SHORT)) == (10, 4)


@both_modes
def test_all_that_is_held_is_told_in_one_request(desk: Desk, *, hedge: bool) -> None:
    """Of the legs asked about, in their order; a market that is not known here is left out."""
    desk.held("long", 10)
    desk.venue.book.open_position(ETH, "short", 3)
    if hedge:
        desk.held("short", 4)
    asked = len(desk.venue.requests)
    legs = [Leg(ETH, "short"), Leg("GONE/USDT:USDT", "long"), SHORT, LONG, Leg(ETH, "long"), LONG]
    found = desk.exchange.holdings(legs)
    assert [request.path.rpartition("/")[2] for request in desk.venue.requests[asked:]] == ["open_positions"]
    assert desk.venue.requests[-1].params == {}
    held = [(Leg(ETH, "short"), 3), *([(SHORT, 4)] if hedge else []), (LONG, 10)]
    assert [(each.leg, each.contracts) for each in found] == held
    assert found == [desk.exchange.holding(leg) for leg, _ in held]
    assert desk.exchange.holdings([LONG]) == [desk.exchange.holding(LONG)]
    asked = len(desk.venue.requests)
    assert desk.exchange.holdings([]) == desk.exchange.holdings([Leg("GONE/USDT:USDT", "long")]) == []
    assert len(desk.venue.requests) == asked


def test_nothing_is_held_only_where_the_markets_are_known(desk: Desk) -> None:
    """Before `prepare` every market is unknown, which is another thing than flat."""
    with pytest.raises(ExchangeUnavailable, match="prepare"):
        desk.exchange.holdings([LONG])


@both_modes
def test_a_position_has_an_id_of_its_own(desk: Desk, *, hedge: bool) -> None:
    """It stays while contracts are added and taken off; the next position of the leg has another."""
    desk.held()
    first = desk.exchange.holding(LONG).position_id
    [row] = desk.call("get_position_open_positions", {"symbol": "BTC_USDT"})
    assert first == str(row["positionId"])
    desk.exchange.place(desk.closing(4))
    desk.held()
    assert desk.exchange.holding(LONG).position_id == first
    desk.exchange.place(desk.closing(16, "c2"))
    desk.held()
    assert desk.exchange.holding(LONG).position_id not in {None, first}


@pytest.mark.parametrize(("least", "smallest"), [(1, 1), (5, 5), (None, 1)])
def test_the_smallest_order_is_the_contracts(desk: Desk, least: Any, smallest: int) -> None:
    """minVol of the contract detail; the step of sizes where it does not say."""
    desk.answer_data("contract/detail", lambda rows: [{**row, "minVol": least} for row in rows])
    desk.held()
    assert desk.exchange.holding(LONG).smallest == smallest


def test_a_flat_row_is_flat(desk: Desk) -> None:
    """A position that has ended may be listed with nothing in it."""
    desk.held()
    desk.answer_data("open_positions", lambda rows: [{**row, "holdVol": 0} for row in rows], times=2)
    assert (desk.holds(LONG), desk.exchange.holding(LONG)) == (0, None)


@pytest.mark.parametrize("symbol", ["DOGE/USDT:USDT", "BTC/USDT", "BTC/USD:BTC"])
def test_only_linear_swaps_are_known(desk: Desk, symbol: str) -> None:
    """An unknown market, a spot market and an inverse swap are refused before anything is asked."""
    desk.answer_otherwise("exchangeInfo", lambda body: {**body, "symbols": [SPOT]})
    inverse = {"symbol": "BTC_USD", "quoteCoin": "USD", "settleCoin": "BTC"}
    desk.answer_data("contract/detail", lambda rows: [*rows, {**rows[0], **inverse}])
    desk.exchange.prepare()
    assert {"BTC/USDT", "BTC/USD:BTC"} <= set(desk.clients[0].markets), "ccxt knows them"
    asked = len(desk.venue.requests)
    for question in (desk.exchange.holding, desk.exchange.open_orders, desk.exchange.price):
        with pytest.raises(UnsupportedMarket):
            question(Leg(symbol, "long"))
    with pytest.raises(UnsupportedMarket):
        desk.exchange.place(desk.closing(1, leg=Leg(symbol, "long")))
    assert len(desk.venue.requests) == asked


def test_a_venue_without_swaps_is_not_believed(desk: Desk) -> None:
    """The contract detail that cannot be read looks to ccxt like an empty one, beside spot markets that are there."""
    desk.answer_otherwise("exchangeInfo", lambda body: {**body, "symbols": [SPOT]})
    desk.venue.strike(Fault("contract/detail", "garbage"))
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.prepare()
    desk.exchange.prepare()
    assert desk.holds(LONG) == 0


@pytest.mark.parametrize(("said", "hedge"), [(1, True), ("2", False), ({"positionMode": 1}, True)])
def test_the_position_mode_is_a_number_or_a_table(desk: Desk, said: Any, *, hedge: bool) -> None:
    """The documentation has it both ways."""
    desk.answer_data("position_mode", said)
    assert desk.exchange.inspect().hedge is hedge


@pytest.mark.parametrize("said", [3, {"positionMode": 0}])
def test_an_unknown_position_mode_is_refused(desk: Desk, said: Any) -> None:
    """Whatever it means, orders would not."""
    desk.answer_data("position_mode", said, times=2)
    with pytest.raises(UnsupportedMarket, match="position mode"):
        desk.exchange.prepare()
    with pytest.raises(UnsupportedMarket, match="position mode"):
        desk.exchange.place(desk.closing(1))
    assert desk.sent() == []


def test_a_mode_that_was_changed_is_read_again(desk: Desk) -> None:
    """The order of the wrong mode is refused (7002); the next one is of the right one."""
    desk.held()
    desk.venue.hedge = True
    with pytest.raises(NotServed) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "7002"
    assert desk.exchange.place(desk.closing(10)).state == "filled"


def test_the_mode_is_not_read_for_every_close(desk: Desk) -> None:
    """It cannot change while something is held."""
    for _ in range(3):
        desk.exchange.prepare()
    assert len(desk.sent("position/position_mode", "GET")) == 1
    assert len([each for each in desk.venue.requests if each.path.endswith("/contract/ping")]) == 1


def test_only_known_venues_and_markets_are_taken(desk: Desk) -> None:
    """Another venue, another kind of market, or no client at all is refused when it is handed in."""
    module = ccxt.async_support if desk.asynchronous else ccxt
    with pytest.raises(UnsupportedMarket, match="kraken swap is not known"):
        CcxtExchange(module.kraken(), account="main")
    with pytest.raises(UnsupportedMarket, match="mexc option is not known"):
        CcxtExchange(desk.clients[0], account="main", market="option")
    with pytest.raises(TypeError, match="must be an exchange of ccxt"):
        CcxtExchange(object(), account="main")


def test_accounts_are_told_apart_by_their_names(desk: Desk) -> None:
    """With the venue and the kind of market, for ever; a name is printable and not empty."""
    client = desk.clients[0]
    assert [CcxtExchange(client, account=each).account for each in ("main", "sub-1")] == [
        "mexc swap main",
        "mexc swap sub-1",
    ]
    for refused in ("", "a\nb", "x" * 65, 7):
        with pytest.raises(InvalidPosition, match="account"):
            CcxtExchange(client, account=refused)


def test_how_long_it_may_deny_and_settle_is_the_venues_unless_it_is_said(desk: Desk) -> None:
    """Ten seconds each."""
    default, said = (CcxtExchange(desk.clients[0], account="main", **each) for each in ({}, {"denies_for": 0.0}))
    assert (default.denies_for, default.settles_within, said.denies_for) == (10.0, 10.0, 0.0)


# Orders that close.


@both_modes
@both_sides
def test_a_close_reduces(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Sides are 4 to close a long and 2 to close a short; reduceOnly goes out in one-way mode and never in hedge."""
    leg = desk.held(side)
    [position] = desk.call("get_position_open_positions", {"symbol": "BTC_USDT"})
    order = desk.closing(4, leg=leg)
    placed = desk.exchange.place(order)
    assert placed == Order(placed.order_id, "c1", "order", leg, Decimal(4), Decimal(4), "filled")
    assert desk.venue.book.held(leg) == 6
    assert desk.taken(leg) == [("c1", 4)]
    assert desk.exchange.order(leg, "c1") == placed
    (request,) = desk.sent()
    assert request.params == {
        "symbol": "BTC_USDT",
        "side": 4 if side == "long" else 2,
        "type": 5,
        "vol": 4,
        "openType": 2,
        "leverage": 20,
        "externalOid": "c1",
        "positionId": position["positionId"],
        "positionMode": 1 if hedge else 2,
        **({} if hedge else {"reduceOnly": True}),
    }
    assert request.headers["request-time"] == str(order.signed_at_ms)


@only_hedge
@both_sides
def test_closing_one_leg_of_a_hedge_leaves_the_other(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Inverted hedge sides: 2 closes a short and 4 a long; taken for "sell" and "buy" they hit the opposite leg."""
    leg = desk.held(side, 10)
    desk.held("short" if side == "long" else "long", 10)
    assert desk.exchange.place(desk.closing(10, leg=leg)).filled == 10
    assert [desk.venue.book.held(each) for each in (leg, other(leg))] == [0, 10]
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10, "c2", leg))
    assert desk.venue.book.held(other(leg)) == 10


@both_modes
def test_nothing_is_sent_for_what_is_not_held(desk: Desk, *, hedge: bool) -> None:
    """Neither a close nor a stop, although the other side is held."""
    desk.held("short")
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10))
    with pytest.raises(NothingToReduce):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    assert desk.sent() == desk.sent(PLAN) == []


@both_modes
@both_sides
def test_a_close_of_too_much_reverses_nothing(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Whatever size is asked for, no more goes than there is, and the other side stays as it was."""
    leg = desk.held(side, 3)
    assert desk.exchange.place(desk.closing(10, leg=leg)).filled == 3
    assert [desk.venue.book.held(each) for each in (LONG, SHORT)] == [0, 0]


@both_modes
def test_a_position_that_goes_between_question_and_order(desk: Desk, *, hedge: bool) -> None:
    """2009: closed by hand meanwhile. Nothing is taken, and nothing is opened the other way."""
    desk.held()
    desk.venue.strike(Fault(CREATE, lambda _: by_the_way(desk, 10)))
    with pytest.raises(NothingToReduce) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "2009"
    assert [desk.venue.book.held(each) for each in (LONG, SHORT)] == [0, 0]


@only_hedge
def test_a_position_that_was_opened_again_meanwhile(desk: Desk, *, hedge: bool) -> None:
    """positionId: the order was for the one that is gone (2043), and leaves the new one alone."""
    desk.held()

    def again(_request: Request) -> None:
        by_the_way(desk, 10)
        desk.venue.book.open_position(BTC, "long", 5)

    desk.venue.strike(Fault(CREATE, again))
    with pytest.raises(NothingToReduce) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "2043"
    assert desk.venue.book.held(LONG) == 5


@both_modes
def test_an_order_for_a_position_that_is_gone_is_not_sent(desk: Desk, *, hedge: bool) -> None:
    """The leg holds a later position by now: the id that the order names says so."""
    desk.held()
    gone = desk.exchange.holding(LONG).position_id
    assert desk.exchange.place(replace(desk.closing(10), position_id=gone)).filled == 10
    desk.held(contracts=5)
    with pytest.raises(NothingToReduce, match=f"not {gone}"):
        desk.exchange.place(replace(desk.closing(5, "c2"), position_id=gone))
    assert (len(desk.sent()), desk.holds(LONG)) == (1, 5)
    present = desk.exchange.holding(LONG).position_id
    assert desk.exchange.place(replace(desk.closing(5, "c3"), position_id=present)).filled == 5
    assert [str(request.params["positionId"]) for request in desk.sent()] == [gone, present]


@pytest.mark.parametrize("seen_by", ["its own answer", "its client order id", "its trade", "its size alone"])
def test_a_silent_duplicate_is_not_taken_for_a_new_order(desk: Desk, seen_by: str) -> None:
    """Silent duplicate: the first order's id comes back as a success; it was seen before, or is of another size."""
    desk.held()
    desk.exchange.place(desk.closing(4))
    if seen_by != "its own answer":
        desk.connect()
        desk.exchange.prepare()
    if seen_by == "its client order id":
        desk.exchange.order(LONG, "c1")
    if seen_by == "its trade":
        desk.exit_fills(LONG, desk.exchange.time_ms() - DAY_MS)
    desk.venue.denies = 60
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place(desk.closing(6 if seen_by == "its size alone" else 4))
    assert (len(desk.sent()), desk.taken()) == (2, [("c1", 4)])
    assert desk.venue.book.held(LONG) == 6
    desk.venue.denies = 0
    assert desk.exchange.order(LONG, "c1").filled == 4


def test_no_new_order_is_taken_for_a_duplicate(desk: Desk) -> None:
    """Whatever its time is rounded to, before the request or after it."""
    desk.held(contracts=12)
    for number in range(12):
        assert desk.exchange.place(desk.closing(1, f"c{number}")).filled == 1


def test_an_order_of_the_same_size_that_was_never_seen_here_is_what_the_id_names(desk: Desk) -> None:
    """No clock tells it from a new one. It is returned as it is, and the position shows that nothing more was sold."""
    desk.held()
    first = desk.exchange.place(desk.closing(4))
    desk.connect()
    desk.exchange.prepare()
    assert desk.exchange.place(desk.closing(4)) == first
    assert (desk.taken(), desk.holds(LONG)) == ([("c1", 4)], 6)


def test_a_duplicate_that_is_refused_is_one(desk: Desk) -> None:
    """Code 2042, should the venue come to say it."""
    desk.held()
    desk.venue.refuses_duplicates = True
    desk.exchange.place(desk.closing(4))
    with pytest.raises(DuplicateClientOrderId) as caught:
        desk.exchange.place(desk.closing(6))
    assert (caught.value.code, desk.taken()) == ("2042", [("c1", 4)])


def test_the_answer_to_an_order_is_an_id_only(desk: Desk) -> None:
    """Id-only replies: the order is asked for; if that fails it is taken all the same, and what it did is for later."""
    desk.held()
    desk.strike_question("order/get", "drop")
    placed = desk.exchange.place(desk.closing(14))
    assert placed == Order(placed.order_id, "c1", "order", LONG, Decimal(10), Decimal(0), "open")
    found = desk.exchange.order(LONG, "c1")
    assert found == replace(placed, filled=Decimal(10), state="filled")


@pytest.mark.parametrize("said", [{}, {"orderId": None}, {"orderId": ""}, {"orderId": True}, None, []])
def test_an_answer_without_an_id_is_none(desk: Desk, said: Any) -> None:
    """A success that does not say of which order leaves the outcome unknown."""
    desk.held()
    desk.answer_data(CREATE, said)
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))
    assert desk.exchange.order(LONG, "c1").filled == 4


@pytest.mark.parametrize("answers_null", [False, True])
def test_an_order_is_found_by_its_client_order_id(desk: Desk, *, answers_null: bool) -> None:
    """Query by external id: 2040, or a success with nothing in it, is none; and no family but the plain one has ids."""
    desk.held()
    desk.venue.answers_null = answers_null
    assert desk.exchange.order(LONG, "c1") is None
    desk.exchange.place(desk.closing(4))
    assert desk.exchange.order(LONG, "c1").filled == 4
    assert desk.venue.requests[-1].path == "/api/v1/private/order/external/BTC_USDT/c1"
    assert desk.exchange.order(LONG, "c2") is None


def test_a_client_order_id_has_32_characters_at_most(desk: Desk) -> None:
    """externalOid: 2030 beyond; what the guard makes fits."""
    desk.held()
    with pytest.raises(OrderRefused) as caught:
        desk.exchange.place(desk.closing(4, "x" * 33))
    assert (caught.value.code, desk.taken()) == ("2030", [])
    assert desk.exchange.place(desk.closing(4, "x" * 32)).client_order_id == "x" * 32


@pytest.mark.parametrize("window_ms", [1000, 5000, 5999])
def test_the_window_goes_out_in_whole_seconds_under_both_names(desk: Desk, window_ms: int) -> None:
    """Recv-Window and Revc-Window, never longer than what was asked for; and answers come in English."""
    desk.held()
    desk.exchange.place(desk.closing(1, window_ms=window_ms))
    desk.exchange.place_stop(desk.stop("stop_loss", 57_000, window_ms=window_ms))
    for request in (*desk.sent(), *desk.sent(PLAN)):
        seconds = str(window_ms // 1000)
        assert (request.headers["recv-window"], request.headers["revc-window"]) == (seconds, seconds)
        assert request.headers["language"] == "English"


@both_modes
def test_a_request_that_was_signed_long_ago_is_refused(desk: Desk, *, hedge: bool) -> None:
    """513: a close that went out under a lock that is gone does nothing, nor does a stop."""
    desk.held()
    for send, request in (
        (desk.exchange.place, desk.closing(10, age_ms=5100, window_ms=5999)),
        (desk.exchange.place_stop, desk.stop("stop_loss", 57_000, age_ms=5100, window_ms=5999)),
    ):
        with pytest.raises(RequestExpired) as caught:
            send(request)
        assert caught.value.code == "513"
    assert desk.venue.book.orders(LONG) == []


def test_less_than_a_second_of_lease_is_refused_before_sending(desk: Desk) -> None:
    """The venue counts in seconds: one more would outlive the lease, and none would be its default of ten."""
    desk.held()
    with pytest.raises(RequestExpired):
        desk.exchange.place(desk.closing(10, window_ms=999))
    with pytest.raises(RequestExpired):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000, window_ms=999))
    assert desk.sent() == desk.sent(PLAN) == []


@both_modes
def test_an_isolated_position_wants_its_leverage_repeated(desk: Desk, *, hedge: bool) -> None:
    """Isolated margin: openType 1 with the leverage, as the position says; cross is 2."""
    desk.held()
    desk.venue.open_type, desk.venue.leverage = 1, 25
    desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    assert desk.exchange.place(desk.closing(10)).state == "filled"
    for request in (*desk.sent(), *desk.sent(PLAN)):
        assert (request.params["openType"], request.params["leverage"]) == (1, 25)


def test_an_order_is_no_larger_than_the_venue_takes(desk: Desk) -> None:
    """What is beyond maxVol of the contract is left for the next one."""
    desk.answer_data("contract/detail", lambda rows: [{**row, "maxVol": 4} for row in rows])
    desk.held()
    assert desk.exchange.place(desk.closing(10)).contracts == 4
    assert desk.venue.book.held(LONG) == 6


def test_a_market_without_a_largest_order_has_none(desk: Desk) -> None:
    """Where the contract does not say it."""
    desk.answer_data("contract/detail", lambda rows: [{**row, "maxVol": None} for row in rows])
    desk.held()
    assert desk.exchange.place(desk.closing(10)).filled == 10


@pytest.mark.parametrize("venue_settings", [{"vol_unit": "0.001"}])
@pytest.mark.parametrize(
    ("contracts", "said"), [("1E+1", b"10"), ("0.500000", b"0.5"), ("2", b"2"), ("0.001", b"0.001")]
)
def test_amounts_and_prices_are_numbers_in_their_own_digits(desk: Desk, contracts: str, said: bytes) -> None:
    """No text, no exponent, no idle zeros."""
    desk.held()
    desk.exchange.place_stop(desk.stop("stop_loss", "57000.10", contracts=contracts))
    desk.exchange.place(desk.closing(contracts))
    (close,), (stop,) = desk.sent(), desk.sent(PLAN)
    assert b'"vol":' + said in close.body.replace(b" ", b"")
    assert b'"vol":' + said in stop.body.replace(b" ", b"")
    assert b'"triggerPrice":57000.1,' in stop.body.replace(b" ", b"")


@both_modes
@pytest.mark.parametrize("change", [as_text, as_numbers])
def test_numbers_and_ids_are_read_however_they_are_written(desk: Desk, change: Any, *, hedge: bool) -> None:
    """Floats, text and whole numbers mean the same, ids too."""
    desk.held()
    desk.venue.book.protect(BTC, "long", "stop_loss", 10, "57000.5")
    desk.venue.book.protect(BTC, "long", "take_profit", 10, 66_000)
    desk.rests(contracts=2)
    desk.venue.book.pay_funding(BTC, "-1.25", "long")
    desk.answer_data("private/", change, times=99)
    desk.wait_a_moment()
    assert desk.exchange.place(desk.closing(4)).filled == 4
    assert (desk.holds(LONG), desk.exchange.order(LONG, "c1").filled) == (6, 4)
    assert exits(desk, LONG) == [("order", None), ("stop_loss", Decimal("57000.5")), ("take_profit", 66_000)]
    assert desk.exit_fills(LONG, desk.exchange.time_ms() - DAY_MS) == desk.told(LONG)
    assert desk.exchange.funding(LONG, 0, desk.venue.clock_ms()) == Decimal("-1.25")
    for order in desk.exchange.open_orders(LONG):
        desk.exchange.cancel(order)
    assert desk.venue.book.open_orders(LONG) == []


@pytest.mark.parametrize("code", [{}, {"code": 0}, {"code": 200}], ids=["none", "0", "200"])
def test_a_failure_without_a_code_is_no_success(desk: Desk, code: dict[str, int]) -> None:
    """success: false without a code, which ccxt hands over like a good answer; what it carries does not count."""
    desk.held()
    body = {"success": False, **code}
    taken, planned = {**body, "data": {"orderId": "7"}}, {**body, "data": "7"}
    desk.venue.strike(Fault(CREATE, Reply(200, taken)), Fault(PLAN, Reply(200, planned)))
    with pytest.raises(OutcomeUnknown) as caught:
        desk.exchange.place(desk.closing(4))
    assert type(caught.value) is OutcomeUnknown
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    desk.venue.strike(Fault("open_positions", Reply(200, {**body, "data": []})))
    with pytest.raises(ExchangeUnavailable):
        desk.holds(LONG)
    assert desk.taken() == []


def changed(**fields: Any) -> Any:
    """Rows with other values in some of their fields; ``...`` takes the field away."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        others = [{**row, **fields} for row in rows]
        return [{name: said for name, said in row.items() if said is not ...} for row in others]

    return change


@pytest.mark.parametrize(
    ("question", "path", "change"),
    [
        ("holding", "open_positions", changed(holdVol=None)),
        ("holding", "open_positions", changed(holdVol="many")),
        ("holding", "open_positions", changed(positionType=...)),
        ("holding", "open_positions", changed(positionId=...)),
        ("holding", "open_positions", changed(holdAvgPrice=...)),
        ("holding", "open_positions", {}),
        ("holding", "open_positions", None),
        ("open_orders", "list/open_orders", changed(vol=None)),
        ("open_orders", "list/open_orders", changed(side=9)),
        ("open_orders", "list/open_orders", changed(orderId=None)),
        ("open_orders", "planorder/list", changed(triggerPrice="x")),
        ("open_orders", "planorder/list", changed(id=None)),
        ("open_orders", "stoporder/open", changed(positionType=...)),
        ("open_orders", "stoporder/open", changed(vol="x")),
        ("open_orders", "trackorder/list", changed(state=...)),
        ("open_orders", "trackorder/list", {"resultList": None}),
        ("trades", "order_deals", changed(price=None)),
        ("trades", "order_deals", changed(fee=...)),
        ("trades", "order_deals", changed(id=None)),
        ("funding", "funding_records", {"resultList": [{"symbol": "BTC_USDT", "positionType": 1}]}),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_answer(desk: Desk, question: str, path: str, change: Any) -> None:
    """A row without what must be in it is never left out, nor guessed at, and no raw error comes out of it."""
    leg = desk.held()
    desk.venue.book.protect(BTC, "long", "stop_loss", 10, 57_000)
    desk.venue.book.protect(BTC, "long", "take_profit", 10, 66_000)
    desk.rests()
    trail(desk, LONG)
    desk.exchange.place(desk.closing(4))
    since_ms = desk.exchange.time_ms() - DAY_MS
    times = {"trades": (since_ms,), "funding": (since_ms, since_ms + DAY_MS)}.get(question, ())
    asked = getattr(desk.exchange, question)
    asked(leg, *times)
    desk.answer_data(path, change, times=9)
    with pytest.raises(ExchangeUnavailable):
        asked(leg, *times)
    desk.venue._faults.clear()
    asked(leg, *times)


# Orders that rest.


def by_hand(desk: Desk, leg: Leg, **more: Any) -> dict[str, Any]:
    """What all requests of the trader's own program to reduce *leg* have in common."""
    side = {"long": 4, "short": 2}[leg.side]
    mode = {} if desk.venue.hedge else {"reduceOnly": True}
    return {"symbol": "BTC_USDT", "side": side, "vol": 2, "openType": 2, "leverage": 20, **mode, **more}


def trail(desk: Desk, leg: Leg, **more: Any) -> None:
    """A trailing order."""
    asked = by_hand(desk, leg, trend=1, backType=1, backValue=0.02, **more)
    desk.call("post_trackorder_place", {**asked, "positionMode": desk.venue.position_mode})


def trigger(desk: Desk, leg: Leg, price: Any, **more: Any) -> None:
    """A trigger order that closes."""
    falls = price < 60_000
    asked = {"triggerPrice": price, "triggerType": 2 if falls else 1, "executeCycle": 1, "orderType": 5, "trend": 1}
    desk.call("post_planorder_place_v2", by_hand(desk, leg, **asked, **more))


def protect(desk: Desk, leg: Leg, **prices: Any) -> None:
    """A TP/SL order of the position, with one price or both."""
    rows = desk.call("get_position_open_positions", {"symbol": "BTC_USDT"})
    [held] = [row for row in rows if row["positionType"] == {"long": 1, "short": 2}[leg.side]]
    desk.call("post_stoporder_place", {"positionId": held["positionId"], "vol": 2, **prices})


def every_family(desk: Desk, leg: Leg) -> None:
    """One order of each, of a program that is not ours."""
    far, below, above = ("70000", 57_000, 66_000) if leg.side == "long" else ("50000", 66_000, 57_000)
    desk.call("post_order_create", by_hand(desk, leg, type=1, price=far, externalOid=f"{leg.side}-plain"))
    trigger(desk, leg, below)
    protect(desk, leg, takeProfitPrice=above)
    trail(desk, leg)


@both_modes
@both_sides
def test_orders_of_one_position_live_in_four_families(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Four families: each is listed, cancelled by its own endpoint from another process, and gone when read again."""
    leg = desk.held(side)
    every_family(desk, leg)
    below, above = (57_000, 66_000) if side == "long" else (66_000, 57_000)
    found = desk.exchange.open_orders(leg)
    assert families(found) == ["plain", "plan", "stop", "track"]
    assert {each.family: (each.trigger_price, each.contracts, each.leg, each.state) for each in found} == {
        "order": (None, 2, leg, "open"),
        "stop_loss": (below, 2, leg, "open"),
        "take_profit": (above, 2, leg, "open"),
        "trailing": (None, 2, leg, "open"),
    }
    desk.connect()
    desk.exchange.prepare()
    for order in found:
        left = [each.order_id for each in desk.exchange.open_orders(leg)]
        assert order.order_id in left
        desk.exchange.cancel(order)
        assert sorted([each.order_id for each in desk.exchange.open_orders(leg)] + [order.order_id]) == sorted(left)
        desk.exchange.cancel(order)
    assert desk.exchange.open_orders(leg) == []
    assert desk.call("post_order_open_order_total_count", {})["sumCount"] == 0


@only_hedge
@both_sides
def test_orders_of_the_other_leg_stay(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Scoped to the leg: in each of the families the other leg's orders are not listed, so not cancelled."""
    leg = desk.held(side)
    desk.held("short" if side == "long" else "long")
    every_family(desk, leg)
    every_family(desk, other(leg))
    mine, others = desk.exchange.open_orders(leg), desk.exchange.open_orders(other(leg))
    assert families(mine) == families(others) == ["plain", "plan", "stop", "track"]
    assert not {each.order_id for each in mine} & {each.order_id for each in others}
    for order in mine:
        desk.exchange.cancel(order)
    assert (desk.exchange.open_orders(leg), desk.exchange.open_orders(other(leg))) == ([], others)


@both_modes
def test_only_what_reduces_is_listed(desk: Desk, *, hedge: bool) -> None:
    """Of every family; what opens, or might, is none of ours, nor is another market's."""
    leg = desk.held("long")
    entry = {"side": 1, "reduceOnly": False} if not hedge else {"side": 1}
    reversal = {"side": 3, "reduceOnly": False} if not hedge else {"side": 3}
    for number, each in enumerate((entry, reversal)):
        price = 50_000 if each["side"] == 1 else 70_000
        plain = by_hand(desk, leg, type=1, price=price, externalOid=f"o{number}", **each)
        desk.call("post_order_create", plain)
        trigger(desk, leg, 58_000, **each)
        trail(desk, leg, **each)
    desk.venue.book.open_position(ETH, "long", 5)
    desk.rests(Leg(ETH, "long"))
    desk.venue.book.protect(ETH, "long", "stop_loss", 5, 2_000)
    desk.venue.book.protect(ETH, "long", "take_profit", 5, 4_000)
    assert desk.exchange.open_orders(LONG) == []
    if not hedge:
        desk.call("post_order_create", by_hand(desk, leg, type=1, price=70_000, externalOid="r", side=3))
        assert [each.client_order_id for each in desk.exchange.open_orders(LONG)] == ["r"]
    assert desk.exchange.open_orders(SHORT) == []


def test_what_the_venue_lists_beyond_the_question_is_left_out(desk: Desk) -> None:
    """Another market's rows and ended ones, should it not heed the symbol and the states it is asked for."""
    leg = desk.held()
    every_family(desk, leg)
    elsewhere, ended = {"symbol": "ETH_USDT"}, {"state": 4, "isFinished": 1}
    for change in (elsewhere, ended):
        for path in ("planorder/list", "trackorder/list", "stoporder/open"):
            desk.answer_data(path, changed(**change), times=9)
        assert families(desk.exchange.open_orders(leg)) == ["plain"]
        desk.venue._faults.clear()


def test_an_order_beyond_the_first_hundred_of_the_account_is_found(desk: Desk) -> None:
    """First 100: the list is the whole account's; ours is on the second page, behind orders of other markets."""
    desk.held()
    desk.rests()
    desk.venue.book.open_position(ETH, "long", 200)
    desk.rests(Leg(ETH, "long"), 101)
    [found] = desk.exchange.open_orders(LONG)
    pages = [request.params["page_num"] for request in desk.sent("order/list/open_orders", "GET")]
    assert pages == ["1", "2"] * 2
    desk.exchange.cancel(found)
    assert desk.exchange.open_orders(LONG) == []


def test_an_order_that_moves_to_the_page_before_is_found(desk: Desk) -> None:
    """One of the others ends between two pages: ours is on the first by then, which was read without it."""
    desk.held()
    desk.rests()
    desk.venue.book.open_position(ETH, "long", 200)
    desk.rests(Leg(ETH, "long"), 100)
    [*_, latest] = desk.venue.book.open_orders(Leg(ETH, "long"))
    desk.venue.strike(Fault("list/open_orders", lambda _: desk.venue.book.cancel(latest), spared=1))
    assert len(desk.exchange.open_orders(LONG)) == 1


def test_all_pages_of_each_family_are_read(desk: Desk) -> None:
    """Trigger orders have 100 to a page; how many trailing ones have is not documented, so 20 are asked for."""
    leg = desk.held(contracts=500)
    for number in range(103):
        desk.venue.book.protect(BTC, "long", "stop_loss", 1, 50_000 + number)
    for _ in range(23):
        trail(desk, leg)
    found = desk.exchange.open_orders(leg)
    assert [families(found).count(each) for each in ("plan", "track")] == [103, 23]
    assert {request.params["pageSize"] for request in desk.sent("trackorder/list/orders", "GET")} == {"20"}


@both_modes
@both_sides
def test_one_half_of_a_pair_is_not_cancelled_by_itself(desk: Desk, side: Side, *, hedge: bool) -> None:
    """TP/SL pairs: two orders with one id; while the position is there a cancel of one would take the other with it."""
    leg = desk.held(side)
    below, above = (57_000, 66_000) if side == "long" else (66_000, 57_000)
    protect(desk, leg, stopLossPrice=below, takeProfitPrice=above)
    found = desk.exchange.open_orders(leg)
    assert families(found) == ["stop:half", "stop:half"]
    assert [(each.family, each.trigger_price) for each in found] == [("stop_loss", below), ("take_profit", above)]
    for half in found:
        with pytest.raises(OrderRefused):
            desk.exchange.cancel(half)
    assert desk.sent("stoporder/cancel") == []
    assert desk.exchange.open_orders(leg) == found
    desk.exchange.place(desk.closing(10, leg=leg))
    for half in found:
        desk.exchange.cancel(half)
    assert desk.exchange.open_orders(leg) == []


def test_a_pair_is_not_cancelled_while_the_position_cannot_be_read(desk: Desk) -> None:
    """It may protect it."""
    leg = desk.held()
    protect(desk, leg, stopLossPrice=57_000, takeProfitPrice=66_000)
    [half, _] = desk.exchange.open_orders(leg)
    desk.strike_question("open_positions", "drop")
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.cancel(half)
    assert desk.sent("stoporder/cancel") == []


@both_modes
def test_gone_orders_are_cancelled_already(desk: Desk, *, hedge: bool) -> None:
    """2009 is "no position", 2041 and 2040 "nothing to cancel" of plain, trigger and trailing orders, 5002 of stops."""
    leg = desk.held()
    done = desk.exchange.place(desk.closing(2))
    every_family(desk, leg)
    found = desk.exchange.open_orders(leg)
    for order in found:
        desk.exchange.cancel(order)
    gone = [done, *found, *(replace(each, order_id=f"{each.order_id}9") for each in found)]
    for order in gone:
        desk.exchange.cancel(order)
    desk.exchange.place(desk.closing(8, "c2"))
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(8, "c3"))
    for code in (2009, 2043):
        desk.venue.strike(Fault(CREATE, Reply(200, {"success": False, "code": code, "message": "x"})))
        desk.venue.book.open_position(BTC, "long", 1)
        with pytest.raises(NothingToReduce) as caught:
            desk.exchange.place(desk.closing(1, "c4"))
        assert caught.value.code == str(code)


@pytest.mark.parametrize("family", ["plain", "plan", "stop", "track"])
def test_a_cancel_that_failed_says_so(desk: Desk, family: str) -> None:
    """Only that the order is gone is no failure: neither 2009, which is of a close, nor a code inside a 200."""
    leg = desk.held()
    every_family(desk, leg)
    [order] = [each for each in desk.exchange.open_orders(leg) if families([each]) == [family]]
    inside = [{"orderId": 1, "errorCode": 2026, "errorMsg": "x"}]
    answers: list[tuple[Any, type[Exception]]] = [
        ("drop", OutcomeUnknown),
        (Reply(502, "<html>"), OutcomeUnknown),
        (Reply(200, {"success": False, "code": 2009, "message": "x"}), NothingToReduce),
        (Reply(200, {"success": False, "code": 604, "message": "x"}), NotServed),
        (Reply(200, {"success": True, "code": 0, "data": inside}), OrderRefused),
    ]
    for what, expected in answers:
        desk.venue.strike(Fault("order/cancel", what))
        with pytest.raises(expected):
            desk.exchange.cancel(order)
    assert len(desk.exchange.open_orders(leg)) == 4
    desk.exchange.cancel(order)
    assert len(desk.exchange.open_orders(leg)) == 3


@pytest.mark.parametrize("family", ["plain", "plan", "stop", "track"])
def test_a_cancel_is_no_older_than_its_window(desk: Desk, family: str) -> None:
    """It is signed when it is sent, and lives for ten seconds."""
    leg = desk.held()
    every_family(desk, leg)
    [order] = [each for each in desk.exchange.open_orders(leg) if families([each]) == [family]]
    at_ms = desk.exchange.time_ms()
    desk.exchange.cancel(order)
    request = desk.venue.requests[-1]
    assert at_ms <= int(request.headers["request-time"]) <= desk.exchange.time_ms()
    assert request.headers["recv-window"] == "10"


# Stops of our own: trigger orders, which have no client order id.


@both_modes
@both_sides
def test_a_stop_is_a_trigger_order_that_closes_at_market(desk: Desk, side: Side, *, hedge: bool) -> None:
    """By the last price, at or beyond the trigger on the side that its kind says, for seven days."""
    leg = desk.held(side)
    below, above = ("stop_loss", "take_profit") if side == "long" else ("take_profit", "stop_loss")
    placed = [desk.exchange.place_stop(desk.stop(kind, at, leg)) for kind, at in ((below, 57_000), (above, 66_000))]
    assert sorted(desk.exchange.open_orders(leg), key=lambda each: each.order_id) == placed
    assert [(each.family, each.trigger_price, each.client_order_id) for each in placed] == [
        (below, 57_000, None),
        (above, 66_000, None),
    ]
    for request, kind in zip(desk.sent(PLAN), (2, 1), strict=True):
        said = {name: request.params[name] for name in ("side", "triggerType", "executeCycle", "orderType", "trend")}
        closing = 4 if side == "long" else 2
        assert said == {"side": closing, "triggerType": kind, "executeCycle": 2, "orderType": 5, "trend": 1}
        assert request.params.get("reduceOnly") is (None if hedge else True)
        assert request.params["positionMode"] == (1 if hedge else 2)
    desk.venue.book.set_price(BTC, 56_000)
    assert [desk.venue.book.held(each) for each in (LONG, SHORT)] == [0, 0]


def test_a_stop_that_would_trigger_at_once_is_refused(desk: Desk) -> None:
    """3004, and nothing rests."""
    desk.held()
    with pytest.raises(OrderRefused) as caught:
        desk.exchange.place_stop(desk.stop("stop_loss", 61_000))
    assert (caught.value.code, desk.exchange.open_orders(LONG)) == ("3004", [])


@both_sides
def test_a_stop_is_known_by_its_shape(desk: Desk, side: Side) -> None:
    """No client order id: it is one of this leg, kind, size and price that rests, or has triggered since then."""
    leg, trigger_at = desk.held(side), 57_000 if side == "long" else 63_000
    order = desk.stop("stop_loss", trigger_at, leg)
    assert desk.exchange.stop(order) is None
    placed = desk.exchange.place_stop(order)
    assert desk.exchange.stop(order) == desk.exchange.stop(replace(order, client_order_id="s2")) == placed
    for else_ in (
        replace(order, contracts=Decimal(9)),
        replace(order, trigger_price=Decimal(57_001)),
        replace(order, kind="take_profit"),
        replace(order, leg=other(leg)),
    ):
        assert desk.exchange.stop(else_) is None
    desk.venue.book.set_price(BTC, trigger_at)
    found = desk.exchange.stop(replace(order, signed_at_ms=0))
    assert found == replace(placed, state="filled", filled=Decimal(10))
    assert desk.exchange.stop(order) == found


def test_a_stop_that_triggered_for_another_position_is_not_this_ones(desk: Desk) -> None:
    """The same leg, kind, size and price as before: only what was placed since then can be ours."""
    desk.held()
    desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    desk.venue.book.set_price(BTC, 57_000)
    desk.venue.book.set_price(BTC, 60_000)
    desk.later()
    desk.held()
    assert desk.exchange.stop(desk.stop("stop_loss", 57_000)) is None


def test_a_stop_is_known_although_its_time_is_rounded(desk: Desk) -> None:
    """To before it was asked for, half of the times."""
    desk.held()
    for number in range(4):
        order = desk.stop("stop_loss", 57_000 + number)
        assert desk.exchange.stop(order) is None
        assert desk.exchange.place_stop(order) == desk.exchange.stop(order)


def test_a_stop_whose_answer_was_lost_is_not_doubled(desk: Desk) -> None:
    """Found by its shape after a lost answer: it is placed once, and the old one of its kind goes."""
    guard, leg = tracked(desk)
    desk.venue.strike(Fault(PLAN, "lose"))
    changed = guard.modify_position("btc-1", stop_loss=58_000)
    assert changed.stop_loss == 58_000
    assert exits(desk, leg) == [("stop_loss", 58_000), ("take_profit", 66_000)]
    assert len(desk.sent(PLAN)) == 3


def test_a_stop_that_is_set_again_replaces_the_same_one(desk: Desk) -> None:
    """At the same price and size, beside what others hold: one of them rests, as the venue tells only their shape."""
    leg = desk.held(contracts=15)
    desk.guard().track(Position("btc-1", BTC, "long", 10, 60_000))
    for _ in range(3):
        desk.later()
        desk.guard().modify_position("btc-1", stop_loss=58_000)
    assert exits(desk, leg) == [("stop_loss", 58_000)]


def test_a_stop_that_rests_for_long_is_found(desk: Desk) -> None:
    """Those of the venue's own program rest for years; a question without a time is about a week, one about 90 days."""
    desk.venue.offset_ms = -300 * DAY_MS
    leg = desk.held()
    desk.venue.book.protect(BTC, "long", "stop_loss", 10, 57_000)
    desk.venue.offset_ms = 0
    desk.connect()
    desk.exchange.prepare()
    assert exits(desk, leg) == [("stop_loss", 57_000)]


def test_a_stop_ends_after_seven_days(desk: Desk) -> None:
    """That is the venue's longest cycle; it is not told as resting then."""
    desk.held()
    desk.exchange.place_stop(desk.stop("stop_loss", 57_000))
    desk.venue.offset_ms = 7 * DAY_MS + 1000
    desk.connect()
    desk.exchange.prepare()
    assert (desk.exchange.open_orders(LONG), desk.exchange.stop(desk.stop("stop_loss", 57_000))) == ([], None)


# Fills and funding.


@both_modes
@both_sides
def test_fills_are_those_that_reduced_the_leg(desk: Desk, side: Side, *, hedge: bool) -> None:
    """With their fee, their price and the id of their order, oldest first, from that time on."""
    leg = desk.held(side)
    if hedge:
        desk.held("short" if side == "long" else "long")
        desk.exchange.place(desk.closing(1, "c0", other(leg)))
    desk.exchange.place(desk.closing(4, "c1", leg))
    since_ms = desk.later()
    desk.venue.book.set_price(BTC, 61_000)
    desk.exchange.place(desk.closing(6, "c2", leg))
    fills = desk.exit_fills(leg, since_ms - DAY_MS)
    assert fills == desk.told(leg)
    assert [(fill.client_order_id, fill.contracts, fill.price, fill.fee) for fill in fills] == [
        ("c1", 4, 60_000, 120),
        ("c2", 6, 61_000, 183),
    ]
    assert {fill.fee_currency for fill in fills} == {"USDT"}
    assert desk.exit_fills(leg, since_ms) == fills[1:]


def traded(desk: Desk, leg: Leg) -> list[tuple[str, Any]]:
    """Whether each trade of *leg* added to it or took from it, and how much."""
    trades = desk.exchange.trades(leg, desk.exchange.time_ms() - DAY_MS)
    return [(each.effect, each.fill.contracts) for each in trades]


def deal(desk: Desk, side: int, contracts: int, oid: str) -> str:
    """A market order of the trader's own program, by the venue's number of its side; its id."""
    asked = {"symbol": "BTC_USDT", "side": side, "type": 5, "vol": contracts, "openType": 2, "externalOid": oid}
    mode = {"positionMode": desk.venue.position_mode} if desk.venue.hedge else {"reduceOnly": False, "positionMode": 2}
    return str(desk.call("post_order_create", {**asked, **mode})["orderId"])


@both_modes
@both_sides
def test_entries_and_exits_are_told_in_one_list(desk: Desk, side: Side, *, hedge: bool) -> None:
    """With price, fee and the id of their order, as `place` names it; the client order id of exits only."""
    leg = desk.held(side, 4)
    desk.venue.book.set_price(BTC, 61_000)
    added = deal(desk, 1 if side == "long" else 3, 6, "more")
    first = desk.exchange.place(desk.closing(3, "c1", leg))
    second = desk.exchange.place(desk.closing(7, "c2", leg))
    opened, more, *exits = desk.exchange.trades(leg, desk.exchange.time_ms() - DAY_MS)
    assert [each.effect for each in (opened, more, *exits)] == ["entry", "entry", "exit", "exit"]
    assert [each.order_id for each in (more, *exits)] == [added, first.order_id, second.order_id]
    assert (more.fill.contracts, more.fill.price, more.fill.fee, more.fill.fee_currency) == (6, 61_000, 183, "USDT")
    assert [each.fill.client_order_id for each in (opened, more, *exits)] == [None, None, "c1", "c2"]
    assert len({each.fill.trade_id for each in (opened, more, *exits)}) == 4
    assert traded(desk, other(leg)) == ([] if hedge else [("exit", 4), ("exit", 6), ("entry", 3), ("entry", 7)])


def test_a_trade_that_crosses_flat_is_one_of_both_legs(desk: Desk) -> None:
    """One-way mode: side 3 of 15 while a long of 10 is held closes that and opens a short of 5."""
    desk.held()
    crossed = deal(desk, 3, 15, "hand")
    assert (desk.holds(LONG), desk.holds(SHORT)) == (0, 5)
    assert traded(desk, LONG) == [("entry", 10), ("exit", 15)]
    assert traded(desk, SHORT) == [("exit", 10), ("entry", 15)]
    since_ms = desk.exchange.time_ms() - DAY_MS
    of_long, of_short = (desk.exchange.trades(leg, since_ms)[-1] for leg in (LONG, SHORT))
    assert (of_long.order_id, of_short.order_id) == (crossed, crossed)
    assert of_long.fill == replace(of_short.fill, client_order_id="hand")


@only_hedge
def test_a_trade_is_of_one_leg_in_hedge_mode(desk: Desk, *, hedge: bool) -> None:
    """Sides 1 and 4 are the long leg's, 3 and 2 the short one's."""
    desk.held("long", 10)
    desk.held("short", 6)
    for number, (side, contracts) in enumerate(((1, 5), (3, 2), (4, 1), (2, 3))):
        deal(desk, side, contracts, f"h{number}")
    assert traded(desk, LONG) == [("entry", 10), ("entry", 5), ("exit", 1)]
    assert traded(desk, SHORT) == [("entry", 6), ("entry", 2), ("exit", 3)]


def test_whole_seconds_reorder_no_trades(desk: Desk) -> None:
    """Times are rounded up and down, so a later trade may have the earlier time; the ids say which came first."""
    desk.held(contracts=9)
    for number in range(8):
        desk.exchange.place(desk.closing(1, f"c{number}"))
    trades = desk.exchange.trades(LONG, desk.exchange.time_ms() - DAY_MS)
    assert [each.fill.client_order_id for each in trades] == [None, *(f"c{number}" for number in range(8))]
    times = [each.fill.at_ms for each in trades]
    assert all(at_ms % 1000 == 0 for at_ms in times)
    assert times != sorted(times)


def test_a_trade_that_is_rounded_to_before_it_happened_is_told(desk: Desk) -> None:
    """Asked for from its own millisecond on; a trade two seconds older is not."""
    desk.held()
    for number in range(4):
        since_ms = desk.later()
        desk.exchange.place(desk.closing(1, f"c{number}"))
        assert [each.fill.client_order_id for each in desk.exchange.trades(LONG, since_ms)] == [f"c{number}"]


def test_an_entry_is_not_asked_about(desk: Desk) -> None:
    """Only the order of an exit may be ours; and that of one placed here is known."""
    desk.held()
    desk.exchange.place(desk.closing(4))
    asked = len(desk.venue.requests)
    assert traded(desk, LONG) == [("entry", 10), ("exit", 4)]
    assert [request.path.rpartition("/")[2] for request in desk.venue.requests[asked:]] == ["v3"]


def test_fills_of_several_pages_and_spans_are_told_once_each(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a list that grows at its head meanwhile, in questions of 89 days: more are refused (6003)."""
    monkeypatch.setattr(mexc, "_DEALS", replace(mexc._DEALS, rows=3))
    desk.venue.offset_ms = -200 * DAY_MS
    desk.held(contracts=20)
    since_ms = desk.venue.clock_ms()
    for days, many in ((200, 4), (100, 3), (0, 7)):
        desk.venue.offset_ms = -days * DAY_MS
        desk.connect()
        desk.exchange.prepare()
        for number in range(many):
            desk.exchange.place(desk.closing(1, f"c{days}-{number}"))
            desk.wait_a_moment()
    expected = desk.told(LONG)
    desk.venue.strike(Fault("order_deals", lambda _: desk.venue.book.open_position(BTC, "long", 1), spared=4))
    found = desk.exit_fills(LONG, since_ms)
    assert [fill.client_order_id for fill in found] == [fill.client_order_id for fill in expected]
    assert found == expected
    assert len(found) == 14
    assert desk.exit_fills(LONG, since_ms) == desk.told(LONG)


def test_fills_of_one_moment_are_in_the_order_of_their_ids(desk: Desk) -> None:
    """As numbers: the tenth comes after the ninth."""
    desk.held(contracts=12)
    for number in range(11):
        desk.exchange.place(desk.closing(1, f"c{number}"))
    desk.answer_data("order_deals", lambda rows: [{**row, "timestamp": rows[0]["timestamp"]} for row in rows])
    found = desk.exit_fills(LONG, desk.exchange.time_ms() - DAY_MS)
    assert [fill.client_order_id for fill in found] == [f"c{number}" for number in range(11)]


@pytest.mark.parametrize("answers_null", [False, True])
def test_a_fill_of_an_order_that_is_not_shown_is_told(desk: Desk, *, answers_null: bool) -> None:
    """Without the id of it, until the venue shows it: a liquidation has none for ever."""
    desk.held()
    desk.exchange.place(desk.closing(4))
    desk.connect()
    desk.exchange.prepare()
    reply = {"success": True, "code": 0, "data": None} if answers_null else {"success": False, "code": 2040}
    desk.venue.strike(Fault("order/get", Reply(200, reply)))
    since_ms = desk.exchange.time_ms() - DAY_MS
    assert [fill.client_order_id for fill in desk.exit_fills(LONG, since_ms)] == [None]
    assert [fill.client_order_id for fill in desk.exit_fills(LONG, since_ms)] == ["c1"]
    asked = len(desk.venue.requests)
    desk.exit_fills(LONG, since_ms)
    assert len(desk.venue.requests) == asked + 1, "an order is asked for once"


def test_a_fill_whose_order_cannot_be_asked_for_is_no_answer(desk: Desk) -> None:
    """Its client order id is not known, which is another thing than that there is none."""
    desk.held()
    desk.exchange.place(desk.closing(4))
    desk.connect()
    desk.exchange.prepare()
    desk.strike_question("order/get", "drop")
    with pytest.raises(ExchangeUnavailable):
        desk.exit_fills(LONG, desk.exchange.time_ms() - DAY_MS)


@pytest.mark.parametrize("venue_settings", [{"liquidity": 6, "remainder_rests": 60.0}])
def test_an_order_that_is_filled_in_part_and_then_cancelled(desk: Desk) -> None:
    """State 2, then 4: with dealVol, which is what it did."""
    desk.held()
    order = desk.exchange.place(desk.closing(10))
    assert (order.filled, order.state) == (6, "open")
    assert desk.exchange.open_orders(LONG) == [order]
    desk.exchange.cancel(order)
    found = desk.exchange.order(LONG, "c1")
    assert (found.filled, found.state) == (6, "canceled")
    assert sum(fill.contracts for fill in desk.exit_fills(LONG, desk.exchange.time_ms() - DAY_MS)) == 6


@pytest.mark.parametrize(
    ("state", "expected"), [(1, "open"), (2, "open"), (3, "filled"), (4, "canceled"), (5, "canceled")]
)
def test_the_state_of_an_order_is_a_number(desk: Desk, state: int, expected: str) -> None:
    """1 and 2 are on their way, 3 is filled, 4 cancelled and 5 invalid."""
    desk.held()
    desk.exchange.place(desk.closing(4))
    desk.answer_data("order/external", lambda row: {**row, "state": state, "dealVol": 1.5})
    found = desk.exchange.order(LONG, "c1")
    assert (found.state, found.filled, found.contracts) == (expected, Decimal("1.5"), 4)


@both_modes
@both_sides
def test_funding_is_what_the_leg_received(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Negative if it paid, within that time, in questions of 89 days; what the other leg was paid is not in it."""
    desk.venue.offset_ms = -100 * DAY_MS
    leg = desk.held(side)
    since_ms = desk.venue.clock_ms()
    desk.venue.book.pay_funding(BTC, "-1.5", side)
    paid_ms = desk.wait_a_moment()
    desk.venue.offset_ms = 0
    desk.connect()
    desk.exchange.prepare()
    desk.venue.book.pay_funding(BTC, "0.25", side)
    if hedge:
        desk.held(other(leg).side)
        desk.venue.book.pay_funding(BTC, 100, other(leg).side)
    desk.venue.book.open_position(ETH, side, 1)
    desk.venue.book.pay_funding(ETH, 1000, side)
    until_ms = desk.wait_a_moment()
    assert desk.exchange.funding(leg, since_ms, until_ms) == Decimal("-1.25")
    assert desk.exchange.funding(leg, paid_ms + 1, until_ms) == Decimal("0.25")
    assert desk.exchange.funding(leg, since_ms, paid_ms) == Decimal("-1.5")
    assert desk.exchange.funding(leg, until_ms + 1, until_ms + DAY_MS) == 0


def test_all_funding_is_told_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page, of a list that may grow at its head meanwhile and not heed the time asked about."""
    monkeypatch.setattr(mexc, "_FUNDING", replace(mexc._FUNDING, rows=2))
    leg = desk.held()
    for number in range(5):
        desk.venue.book.pay_funding(BTC, 10**number)
    since_ms, until_ms = desk.venue.clock_ms() - DAY_MS, desk.wait_a_moment()

    def heedless(request: Request) -> Reply:
        if request.params["page_num"] == "2":
            desk.venue.book.pay_funding(BTC, 10**6)
        for name in ("start_time", "end_time", "position_type"):
            request.params.pop(name)
        return desk.venue._carried_out(request)

    desk.venue.strike(Fault("funding_records", heedless, times=9))
    assert desk.exchange.funding(leg, since_ms, until_ms) == 11111


@pytest.mark.parametrize("context", [3, 28])
def test_funding_is_summed_exactly(desk: Desk, context: int) -> None:
    """Whatever precision the bot calculates with."""
    import decimal  # noqa: PLC0415

    leg = desk.held()
    for amount in ("1000.0001", "0.00000001"):
        desk.venue.book.pay_funding(BTC, amount)
    with decimal.localcontext(prec=context):
        assert desk.exchange.funding(leg, 0, desk.wait_a_moment()) == Decimal("1000.00010001")


# The guard.


@both_modes
@both_sides
def test_a_position_from_its_tracking_to_its_booking(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Stops are set, moved and swept, a part is taken off, funding is paid, and all of it is booked once."""
    if hedge:
        desk.held("short" if side == "long" else "long", 4)
    guard, leg = tracked(desk, side)
    desk.venue.book.pay_funding(BTC, "-2.5", side)
    moved = 58_000 if side == "long" else 65_000
    changed = guard.modify_position("btc-1", stop_loss=moved, reduce_by=3)
    assert [changed.stop_loss, changed.contracts] == [moved, 7]
    trail(desk, leg)
    desk.rests(leg, contracts=1)
    desk.venue.book.set_price(BTC, 61_000)
    desk.wait_a_moment()
    guard.close_position("btc-1")
    assert assert_closed_once(desk, guard, leg).funding == Decimal("-2.5")
    assert desk.venue.book.held(other(leg)) == (4 if hedge else 0)


@both_modes
def test_a_position_that_is_gone_by_hand_is_booked(desk: Desk, *, hedge: bool) -> None:
    """Nothing is sent; the fill of the trader's own order is the exit, and the orders that are left are swept."""
    guard, leg = tracked(desk)
    hand = by_hand(desk, leg, type=5, vol=10, externalOid="hand")
    desk.call("post_order_create", hand)
    desk.venue.requests.clear()
    closed = guard.close_position("btc-1")
    assert desk.sent() == []
    assert (closed.client_order_id, [fill.client_order_id for fill in closed.fills]) == (None, ["hand"])
    assert_closed_once(desk, guard, leg)


@both_modes
def test_a_position_that_its_stop_has_closed_is_booked(desk: Desk, *, hedge: bool) -> None:
    """Nothing is sent, and the take-profit that is left is swept."""
    guard, leg = tracked(desk)
    desk.venue.book.set_price(BTC, 56_900)
    guard.close_position("btc-1")
    assert desk.sent() == []
    assert_closed_once(desk, guard, leg)


@both_modes
def test_an_order_that_covers_the_position_is_swept_first(desk: Desk, *, hedge: bool) -> None:
    """A resting close order freezes the volume: 2008, and the close makes room; the stop-loss stays till it is flat."""
    guard, leg = tracked(desk)
    desk.rests(leg, contracts=10)
    with pytest.raises(ReduceOnlyBlocked) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "2008"
    cancelled: list[tuple[str, Any]] = []
    desk.venue.strike(
        Fault("cancel", lambda request: cancelled.append((request.path, desk.venue.book.held(leg))), times=9)
    )
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)
    assert sorted((path.split("/")[-2], held) for path, held in cancelled) == [
        ("order", 10),
        ("planorder", 0),
        ("planorder", 10),
    ]


@both_modes
@pytest.mark.parametrize("venue_settings", [{"blocks_covered": True}])
def test_stops_that_cover_the_position_make_room(desk: Desk, *, hedge: bool) -> None:
    """7005: the take-profit goes first, and the stop-loss only because nothing else is left."""
    guard, leg = tracked(desk)
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)
    assert len(desk.taken()) == 1


@both_modes
def test_a_position_that_shrinks_between_question_and_order_keeps_its_stops(desk: Desk, *, hedge: bool) -> None:
    """2008 because a part is gone, not because others cover it: the rest is sent anew, and no stop given up for it."""
    guard, leg = tracked(desk)
    refused = Reply(200, {"success": False, "code": 2008, "message": "x"})

    def shrinks(request: Request) -> Reply:
        by_the_way(desk, 4)
        return refused

    resting: list[int] = []
    look = Fault(CREATE, lambda _: resting.append(len(desk.venue.book.open_orders(leg))), spared=0)
    desk.venue.strike(Fault(CREATE, shrinks), look)
    guard.close_position("btc-1")
    assert resting == [2]
    assert [filled for _, filled in desk.taken()] == [4, 6]
    assert_closed_once(desk, guard, leg)


def test_a_pair_is_swept_when_the_position_is_gone(desk: Desk) -> None:
    """Both halves with one cancel, and no error for the second."""
    guard, leg = tracked(desk, bare=True)
    protect(desk, leg, stopLossPrice=57_000, takeProfitPrice=66_000)
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)


def test_a_pair_is_not_broken_up_for_a_new_stop(desk: Desk) -> None:
    """The new stop-loss rests beside it, and the caller is told that the old one is still there."""
    guard, leg = tracked(desk, bare=True)
    protect(desk, leg, stopLossPrice=57_000, takeProfitPrice=66_000)
    desk.connect(settles_within=0.1)
    guard = desk.guard()
    with pytest.raises(Exception, match="orders still rest: stop:half"):
        guard.modify_position("btc-1", stop_loss=58_000)
    assert exits(desk, leg) == [("stop_loss", 57_000), ("stop_loss", 58_000), ("take_profit", 66_000)]


@pytest.mark.parametrize("kind", ["stop_loss", "take_profit"])
def test_one_price_of_a_pair_is_changed(desk: Desk, kind: Any) -> None:
    """The other one stays, no trigger order rests beside it, and a later change moves it again."""
    guard, leg = tracked(desk, bare=True)
    prices = {"stop_loss": 57_000, "take_profit": 66_000}
    protect(desk, leg, stopLossPrice=57_000, takeProfitPrice=66_000, vol=10)
    for at in (prices[kind] - 500, prices[kind] + 500):
        change: Any = {kind: at}
        guard.modify_position("btc-1", **change)
        assert exits(desk, leg) == sorted((prices | change).items())
    assert desk.sent(PLAN) == []
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)


def test_a_change_of_a_pair_whose_answer_was_lost_is_found(desk: Desk) -> None:
    """By its price."""
    guard, leg = tracked(desk, bare=True)
    protect(desk, leg, stopLossPrice=57_000, takeProfitPrice=66_000, vol=10)
    desk.venue.strike(Fault("change_plan_price", "lose"))
    guard.modify_position("btc-1", stop_loss=58_000)
    assert exits(desk, leg) == [("stop_loss", 58_000), ("take_profit", 66_000)]
    assert (len(desk.sent("stoporder/change_plan_price")), desk.sent(PLAN)) == (1, [])


@pytest.mark.parametrize("changed", [{"vol": None}, {"vol": 0}])
def test_a_stop_for_all_that_is_held_makes_no_close_fail(desk: Desk, changed: dict[str, Any]) -> None:
    """The venue says so by 0, or by null; it is changed as well as swept."""
    guard, leg = tracked(desk, bare=True)
    protect(desk, leg, stopLossPrice=57_000, takeProfitPrice=66_000, vol=10)
    desk.answer_data("stoporder/open_orders", lambda rows: [{**row, **changed} for row in rows], times=100)
    guard.modify_position("btc-1", stop_loss=58_000)
    assert exits(desk, leg) == [("stop_loss", 58_000), ("take_profit", 66_000)]
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)


@pytest.mark.parametrize("kept", [{"takeProfitOrderPrice": 66_000}, {}])
def test_a_take_profit_at_a_limit_is_swept(desk: Desk, kept: dict[str, Any]) -> None:
    """It has a price of its own name and no other; one with no price that is known here rests all the same."""
    guard, leg = tracked(desk, bare=True)
    protect(desk, leg, takeProfitPrice=66_000, vol=10)
    desk.answer_data(
        "stoporder/open_orders", lambda rows: [{**row, "takeProfitPrice": None, **kept} for row in rows], times=100
    )
    assert families(desk.exchange.open_orders(leg)) == ["stop"]
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)


@both_modes
def test_a_position_beyond_the_largest_order_is_closed_in_parts(desk: Desk, *, hedge: bool) -> None:
    """Each under an id of its own."""
    desk.answer_data("contract/detail", lambda rows: [{**row, "maxVol": 4} for row in rows])
    guard, leg = tracked(desk, bare=True)
    guard.close_position("btc-1")
    assert [filled for _, filled in desk.taken()] == [4, 4, 2]
    assert len({name for name, _ in desk.taken()}) == 3
    assert {len(name) for name, _ in desk.taken()} == {32}
    assert_closed_once(desk, guard, leg)


@pytest.mark.parametrize("venue_settings", [{"liquidity": 6, "remainder_rests": 0.1}])
def test_a_close_that_fills_in_parts_is_finished(desk: Desk) -> None:
    """What is left when the first order has ended goes out as the next one."""
    guard, leg = tracked(desk, bare=True)
    guard.close_position("btc-1")
    assert [filled for _, filled in desk.taken()] == [6, 4]
    assert_closed_once(desk, guard, leg)


def test_a_stop_on_the_wrong_side_of_a_moving_price_leaves_the_old_one(desk: Desk) -> None:
    """The price ran away after it was looked at: the venue refuses (3004), and says so."""
    guard, leg = tracked(desk)
    desk.venue.strike(Fault(PLAN, lambda _: desk.venue.book.set_price(BTC, 58_000)))
    with pytest.raises(ChangeRefused, match="3004"):
        guard.modify_position("btc-1", stop_loss=59_000)
    assert exits(desk, leg) == [("stop_loss", 57_000), ("take_profit", 66_000)]


@both_modes
def test_what_is_held_is_adopted(desk: Desk, *, hedge: bool) -> None:
    """At the venue's average, and what was added later too; then it closes like any other."""
    leg, guard = desk.held(contracts=6), desk.guard()
    adopted = guard.adopt(BTC, "long")
    assert [adopted.position.contracts, adopted.position.entry_price] == [6, 60_000]
    desk.venue.book.set_price(BTC, 63_000)
    desk.held(contracts=6)
    adopted = guard.adopt(BTC, "long")
    assert [adopted.position.contracts, adopted.position.entry_price] == [12, 61_500]
    closed = guard.close_position(adopted.position.id)
    assert [closed.gross_pnl, desk.venue.book.held(leg)] == [12 * 1500, 0]


def test_a_close_is_made_of_few_requests(desk: Desk) -> None:
    """The venue counts them: 20 in two seconds for most questions."""
    leg, guard = desk.held(), desk.guard()
    guard.track(Position("btc-1", BTC, "long", 10, 60_000))
    desk.venue.requests.clear()
    guard.close_position("btc-1")
    assert len(desk.venue.requests) <= 20
    assert_closed_once(desk, guard, leg)
