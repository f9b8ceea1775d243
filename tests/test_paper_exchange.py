# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any

import pytest

from poslock import (
    DuplicateClientOrderId,
    ExchangeUnavailable,
    InvalidPosition,
    NothingToReduce,
    OrderRefused,
    PaperExchange,
    Position,
    RequestExpired,
)
from poslock.errors import ReduceOnlyBlocked
from poslock.exchange.port import AsyncExchange, CloseOrder, Exchange, Holding, Leg, StopOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG, SHORT = Leg("BTC/USDT", "long"), Leg("BTC/USDT", "short")


class Market:
    """A paper exchange on a clock that stands still until told."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.now = 1000.0
        self.slept = 0.0
        self.exchange = PaperExchange(path, clock=lambda: self.now, sleep=self._sleep, **settings)
        self.exchange.set_price("BTC/USDT", 100)

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds

    def close(self, contracts: Any = 10, client_id: str = "pl1", leg: Leg = LONG, window_ms: int = 5000) -> Any:
        return self.exchange.place(CloseOrder(leg, Decimal(contracts), client_id, int(self.now * 1000), window_ms))

    def stop(
        self, trigger: Any, kind: Any = "stop_loss", *, leg: Leg = LONG, client_id: str = "sl1", contracts: Any = 5
    ) -> Any:
        now_ms = int(self.now * 1000)
        stop = StopOrder(leg, kind, Decimal(contracts), Decimal(trigger), client_id, now_ms, receive_window_ms=5000)
        return self.exchange.place_stop(stop)


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Run *work* in so many processes, which begin together; all of them succeed."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(60)
        work(number)

    processes = [context.Process(target=run, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "exchange.db"


def test_it_is_an_exchange(path: Path) -> None:
    """It has every method and attribute of the port, and one account name for ever."""
    exchange = PaperExchange(path)
    port: Exchange = exchange
    assert port.account == PaperExchange(path).account
    assert port.account != PaperExchange(path.with_name("other.db")).account


def test_both_ports_ask_the_same() -> None:
    """The port for an event loop has what the one for threads has, under the same names."""
    ports = (Exchange, AsyncExchange)
    names = [{*filter(lambda name: not name.startswith("_"), dir(port)), *port.__annotations__} for port in ports]
    assert "account" in names[0]
    assert names[0] == names[1]


@pytest.mark.parametrize(("leg", "opposite"), [(LONG, SHORT), (SHORT, LONG)])
def test_a_close_reduces_and_never_reverses(path: Path, leg: Leg, opposite: Leg) -> None:
    """An order larger than the position is cut down to it; the fee is charged on what was filled."""
    market = Market(path, fee_rate="0.001")
    market.exchange.open_position("BTC/USDT", leg.side, 7)
    order = market.close(10, leg=leg)
    assert (order.state, order.contracts, order.filled) == ("filled", 7, 7)
    assert market.exchange.held(leg) == market.exchange.held(opposite) == 0
    (fill,) = market.exchange.fills(leg, 0)
    assert (fill.price, fill.contracts, fill.fee, fill.client_order_id) == (100, 7, Decimal("0.7"), "pl1")
    assert market.exchange.fills(opposite, 0) == []


def test_nothing_to_reduce_is_refused(path: Path) -> None:
    """Flat, or only the other side is held."""
    market = Market(path)
    with pytest.raises(NothingToReduce):
        market.close()
    market.exchange.open_position("BTC/USDT", "short", 1)
    with pytest.raises(NothingToReduce):
        market.close()


def test_a_client_order_id_is_taken_once(path: Path) -> None:
    """The same id again is a duplicate, filled or not, and executes nothing."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 10)
    market.close(4)
    with pytest.raises(DuplicateClientOrderId):
        market.close(4)
    assert market.exchange.held(LONG) == 6


@pytest.mark.parametrize("client_id", ["", "x" * 33])
def test_a_client_order_id_of_the_wrong_length_is_refused(path: Path, client_id: str) -> None:
    """As venues do, at 32 characters."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 10)
    with pytest.raises(OrderRefused):
        market.close(client_id=client_id)


def test_a_late_request_is_refused(path: Path) -> None:
    """A request that travels longer than its window executes nothing; one just in time does."""
    market = Market(path, latency=2.0)
    market.exchange.open_position("BTC/USDT", "long", 10)
    with pytest.raises(RequestExpired):
        market.close(window_ms=1999)
    assert market.exchange.held(LONG) == 10
    market.close(window_ms=2000, client_id="pl2")
    assert market.exchange.held(LONG) == 0


def test_what_does_not_fill_at_once_rests_and_is_cancelled(path: Path) -> None:
    """A partial fill stays open for a while and then ends as it is."""
    market = Market(path, liquidity=4, remainder_rests=1.0)
    market.exchange.open_position("BTC/USDT", "long", 10)
    order = market.close()
    assert (order.state, order.filled) == ("open", 4)
    market.now += 0.9
    assert [each.order_id for each in market.exchange.open_orders(LONG)] == [order.order_id]
    market.now += 0.2
    found = market.exchange.order(LONG, "pl1")
    assert found is not None
    assert (found.state, found.filled) == ("canceled", 4)
    assert market.exchange.held(LONG) == 6


@pytest.mark.parametrize(
    ("leg", "kind", "trigger", "quiet", "hit"),
    [
        (LONG, "stop_loss", 90, 91, 90),
        (LONG, "take_profit", 110, 109, 111),
        (SHORT, "stop_loss", 110, 109, 110),
        (SHORT, "take_profit", 90, 91, 89),
    ],
)
def test_protective_orders_trigger(path: Path, leg: Leg, kind: Any, trigger: int, quiet: int, hit: int) -> None:
    """A stop-loss executes against the position, a take-profit for it, reduce-only."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", leg.side, 5)
    market.exchange.protect("BTC/USDT", leg.side, kind, 8, trigger)
    market.exchange.set_price("BTC/USDT", quiet)
    assert market.exchange.held(leg) == 5
    assert [each.family for each in market.exchange.open_orders(leg)] == [kind]
    market.exchange.set_price("BTC/USDT", hit)
    assert market.exchange.held(leg) == 0
    assert market.exchange.open_orders(leg) == []
    assert [fill.price for fill in market.exchange.fills(leg, 0)] == [hit]


def test_a_protective_order_survives_its_position(path: Path) -> None:
    """That is the orphan which a close has to sweep; when it triggers with nothing to reduce it is cancelled."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 5)
    market.exchange.protect("BTC/USDT", "long", "stop_loss", 5, 90)
    market.close(5)
    (orphan,) = market.exchange.open_orders(LONG)
    market.exchange.cancel(orphan)
    market.exchange.cancel(orphan)  # a finished order is no error
    assert market.exchange.open_orders(LONG) == []


def test_funding_is_counted_since_a_time(path: Path) -> None:
    """What was paid before the position was tracked, or after its end, is not its funding."""
    market = Market(path)
    market.exchange.pay_funding("BTC/USDT", "5")
    market.now += 1
    since = market.exchange.time_ms()
    market.exchange.pay_funding("BTC/USDT", "-0.25")
    market.now += 1
    market.exchange.pay_funding("BTC/USDT", "7")
    assert market.exchange.funding(LONG, since, since + 500) == Decimal("-0.25")


def test_a_plain_order_that_crosses_zero_is_two_fills(path: Path) -> None:
    """What closes the long is a fill of the long; what opens the short is not."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 3)
    market.exchange.open_position("BTC/USDT", "short", 5)
    assert (market.exchange.held(LONG), market.exchange.held(SHORT)) == (0, 2)
    assert [fill.contracts for fill in market.exchange.fills(LONG, 0)] == [3]
    assert market.exchange.fills(SHORT, 0) == []


def test_a_protective_order_executes_once(path: Path) -> None:
    """Larger than the position, it fills what is there and is done, whatever a market order's remainder does."""
    market = Market(path, remainder_rests=10.0, liquidity=1)
    market.exchange.open_position("BTC/USDT", "long", 5)
    market.exchange.protect("BTC/USDT", "long", "stop_loss", 8, 90)
    market.exchange.set_price("BTC/USDT", 90)
    assert market.exchange.open_orders(LONG) == []
    assert [fill.contracts for fill in market.exchange.fills(LONG, 0)] == [5]


def test_fees_are_exact_whatever_the_caller_rounds_to(path: Path) -> None:
    """The bot's decimal context is its own business."""
    market = Market(path)
    market.exchange.set_price("BTC/USDT", "123456.789")
    market.exchange.open_position("BTC/USDT", "long", 10)
    with localcontext(Context(prec=4)):
        market.close()
    assert market.exchange.fills(LONG, 0)[0].fee == Decimal("617.283945")


def test_bad_input_is_refused(path: Path) -> None:
    """Prices and sizes are exact and positive, sides are known, markets exist."""
    exchange = PaperExchange(path)
    with pytest.raises(InvalidPosition):
        exchange.set_price("BTC/USDT", 0.5)  # type: ignore[arg-type]
    with pytest.raises(OrderRefused, match="set_price"):
        exchange.open_position("BTC/USDT", "long", 1)
    exchange.set_price("BTC/USDT", 1)
    with pytest.raises(InvalidPosition):
        exchange.open_position("BTC/USDT", "up", 1)  # type: ignore[arg-type]


def test_a_file_that_is_no_exchange_is_unavailable(path: Path) -> None:
    """The error names it."""
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ExchangeUnavailable, match=str(path)):
        PaperExchange(path)


def test_the_price_is_a_question(path: Path) -> None:
    """It answers what `set_price` said last; of a market that does not exist it has no answer."""
    market = Market(path, latency=0.5)
    market.exchange.set_price("BTC/USDT", "101.5")
    assert market.exchange.price(LONG) == market.exchange.price(SHORT) == Decimal("101.5")
    assert market.slept == 1.0
    with pytest.raises(ExchangeUnavailable, match="set_price"):
        market.exchange.price(Leg("ETH/USDT", "long"))


@pytest.mark.parametrize("leg", [LONG, SHORT])
def test_a_holding_keeps_its_average_entry_price(path: Path, leg: Leg) -> None:
    """It is weighted by what is added, kept by what is taken off, and forgotten at flat."""
    market = Market(path)
    assert market.exchange.holding(leg) is None
    market.exchange.open_position("BTC/USDT", leg.side, 2)
    market.exchange.set_price("BTC/USDT", 130)
    market.exchange.open_position("BTC/USDT", leg.side, 1)
    assert market.exchange.holding(leg) == Holding(
        leg, Decimal(3), Decimal(110), Decimal(1), inverse=False, settle="USDT"
    )
    market.exchange.set_price("BTC/USDT", 150)
    market.close(1, leg=leg)
    assert market.exchange.holding(leg) == Holding(
        leg, Decimal(2), Decimal(110), Decimal(1), inverse=False, settle="USDT"
    )
    market.close(2, "pl2", leg=leg)
    assert market.exchange.holding(leg) is None
    market.exchange.open_position("BTC/USDT", leg.side, 4)
    assert market.exchange.holding(leg) == Holding(
        leg, Decimal(4), Decimal(150), Decimal(1), inverse=False, settle="USDT"
    )


def test_what_crosses_zero_enters_at_its_own_price(path: Path) -> None:
    """The entry price of the long says nothing about the short that comes after it."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 3)
    market.exchange.set_price("BTC/USDT", 120)
    market.exchange.open_position("BTC/USDT", "short", 5)
    assert market.exchange.holding(LONG) is None
    assert market.exchange.holding(SHORT) == Holding(
        SHORT, Decimal(2), Decimal(120), Decimal(1), inverse=False, settle="USDT"
    )


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("prices", [(100, 101), ("0.000000000000000001", "0.000000000000000004"), (10**20, 1)])
def test_an_entry_price_is_good_for_a_position(path: Path, *, inverse: bool, prices: tuple[Any, Any]) -> None:
    """An average without an end is rounded to what `Position` takes, whatever the caller rounds to."""
    market = Market(path, inverse=inverse, settle="BTC", contract_size="0.1")
    with localcontext(Context(prec=4)):
        for price, contracts in zip(prices, (1, 2), strict=True):
            market.exchange.set_price("BTC/USDT", price)
            market.exchange.open_position("BTC/USDT", "long", contracts)
    holding = market.exchange.holding(LONG)
    assert holding is not None
    assert holding.entry_price is not None
    Position("p", "BTC/USDT", "long", holding.contracts, holding.entry_price, contract_size=holding.contract_size)
    first, second = (Decimal(price) for price in prices)
    average = 3 / (1 / first + 2 / second) if inverse else (first + 2 * second) / 3
    assert abs(holding.entry_price - average) <= max(average * Decimal("1e-26"), Decimal("5e-19"))


def test_the_contract_is_what_it_was_set_to(path: Path) -> None:
    """The holding names it, and fees count it: a hundredth of 2 x 10 dollars is 0.002 coins at 100."""
    market = Market(path, contract_size=10, inverse=True, settle="BTC", fee_rate="0.01")
    market.exchange.open_position("BTC/USDT", "long", 2)
    assert market.exchange.holding(LONG) == Holding(
        LONG, Decimal(2), Decimal(100), Decimal(10), inverse=True, settle="BTC"
    )
    market.close(2)
    (fill,) = market.exchange.fills(LONG, 0)
    assert (fill.fee, fill.fee_currency) == (Decimal("0.002"), "BTC")
    linear = Market(path.with_name("linear.db"), contract_size=10, fee_rate="0.01")
    linear.exchange.open_position("BTC/USDT", "long", 2)
    linear.close(2)
    (fill,) = linear.exchange.fills(LONG, 0)
    assert (fill.fee, fill.fee_currency) == (20, "USDT")


@pytest.mark.parametrize("hedge", [False, True])
@pytest.mark.parametrize(
    ("leg", "kind", "trigger"),
    [(LONG, "stop_loss", 90), (LONG, "take_profit", 110), (SHORT, "stop_loss", 110), (SHORT, "take_profit", 90)],
)
def test_a_stop_order_rests_until_its_price(path: Path, leg: Leg, kind: Any, trigger: int, *, hedge: bool) -> None:
    """It is found by its client id like any order, executes once and is then ended; the position is reduced by it."""
    market = Market(path, hedge=hedge)
    market.exchange.open_position("BTC/USDT", leg.side, 8)
    stop = market.stop(trigger, kind, leg=leg)
    assert (stop.family, stop.state, stop.leg, stop.contracts, stop.filled) == (kind, "open", leg, 5, 0)
    assert (stop.client_order_id, stop.trigger_price) == ("sl1", trigger)
    assert market.exchange.open_orders(leg) == [stop] == [market.exchange.order(leg, "sl1")]
    market.exchange.set_price("BTC/USDT", trigger)
    ended = market.exchange.order(leg, "sl1")
    assert ended is not None
    assert (ended.state, ended.filled, ended.trigger_price) == ("filled", 5, trigger)
    assert market.exchange.held(leg) == 3
    assert [fill.client_order_id for fill in market.exchange.fills(leg, 0)] == ["sl1"]


@pytest.mark.parametrize(
    ("leg", "kind", "trigger"),
    [(LONG, "stop_loss", 101), (LONG, "take_profit", 99), (SHORT, "stop_loss", 99), (SHORT, "take_profit", 101)],
)
def test_a_stop_order_that_would_execute_at_once_is_refused(path: Path, leg: Leg, kind: Any, trigger: int) -> None:
    """On the wrong side of the price, or at it; nothing of it remains, and its client id stays free."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", leg.side, 5)
    for each in (trigger, 100):
        with pytest.raises(OrderRefused) as refused:
            market.stop(each, kind, leg=leg)
        assert refused.value.code == "trigger"
    assert market.exchange.order(leg, "sl1") is None
    assert market.exchange.held(leg) == 5
    market.stop(200 - trigger, kind, leg=leg)


def test_a_stop_order_is_judged_like_a_close(path: Path) -> None:
    """Flat, an unknown market, a late request, a client id that is known or too long: definitely not taken again."""
    market = Market(path, latency=2.0)
    with pytest.raises(NothingToReduce):
        market.stop(90)
    market.exchange.open_position("BTC/USDT", "long", 5)
    for send in (market.stop, lambda _, **order: market.close(**order)):
        with pytest.raises(OrderRefused) as refused:
            send(90, leg=Leg("ETH/USDT", "long"))
        assert refused.value.code == "market"
        with pytest.raises(OrderRefused, match="32"):
            send(90, client_id="x" * 33)
    market.stop(90)
    with pytest.raises(DuplicateClientOrderId):
        market.stop(80)
    with pytest.raises(DuplicateClientOrderId):
        market.close(client_id="sl1")
    slow = StopOrder(LONG, "stop_loss", Decimal(5), Decimal(90), "sl2", int(market.now * 1000), receive_window_ms=1999)
    with pytest.raises(RequestExpired):
        market.exchange.place_stop(slow)
    assert [order.client_order_id for order in market.exchange.orders(LONG)] == ["sl1"]


@pytest.mark.parametrize("number", ["contracts", "trigger"])
def test_a_stop_order_of_nothing_is_refused(path: Path, number: str) -> None:
    """Size and price are above zero."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 5)
    with pytest.raises(InvalidPosition, match=number):
        market.stop(0 if number == "trigger" else 90, contracts=0 if number == "contracts" else 5)


def test_protective_orders_say_their_trigger_price(path: Path) -> None:
    """Those of the trader as those of a request; a market order has none."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 5)
    market.exchange.protect("BTC/USDT", "long", "take_profit", 5, "110.5")
    (resting,) = market.exchange.open_orders(LONG)
    assert resting.trigger_price == Decimal("110.5")
    assert market.close(5).trigger_price is None


@pytest.mark.parametrize(("leg", "other"), [(LONG, SHORT), (SHORT, LONG)])
def test_in_hedge_mode_closing_one_leg_leaves_the_other(path: Path, leg: Leg, other: Leg) -> None:
    """Its contracts, its entry price, its orders, its fills."""
    market = Market(path, hedge=True)
    market.exchange.open_position("BTC/USDT", other.side, 4)
    market.exchange.set_price("BTC/USDT", 120)
    market.exchange.open_position("BTC/USDT", leg.side, 7)
    beside = market.exchange.holding(other)
    assert beside == Holding(other, Decimal(4), Decimal(100), Decimal(1), inverse=False, settle="USDT")
    stop = market.stop(110 if other.side == "long" else 130, leg=other, contracts=4)
    order = market.close(10, leg=leg)
    assert (order.leg, order.filled) == (leg, 7)
    assert market.exchange.holding(leg) is None
    assert market.exchange.holding(other) == beside
    assert market.exchange.open_orders(other) == [stop]
    assert market.exchange.fills(other, 0) == []
    assert [fill.contracts for fill in market.exchange.fills(leg, 0)] == [7]
    with pytest.raises(NothingToReduce):
        market.close(1, "pl2", leg=leg)


def test_in_hedge_mode_a_trigger_takes_its_own_leg(path: Path) -> None:
    """One price sets off the stop-loss of the long and the take-profit of the short; the rest of each stays."""
    market = Market(path, hedge=True)
    for side in ("long", "short"):
        market.exchange.open_position("BTC/USDT", side, 9)
    market.exchange.protect("BTC/USDT", "long", "stop_loss", 2, 90)
    market.exchange.protect("BTC/USDT", "short", "take_profit", 5, 90)
    market.exchange.protect("BTC/USDT", "short", "stop_loss", 9, 110)
    market.exchange.set_price("BTC/USDT", 90)
    assert (market.exchange.held(LONG), market.exchange.held(SHORT)) == (7, 4)
    assert [order.family for order in market.exchange.open_orders(SHORT)] == ["stop_loss"]
    assert market.exchange.open_orders(LONG) == []
    # An orphan of the long must not reduce the short, nor open one.
    market.exchange.protect("BTC/USDT", "long", "stop_loss", 7, 80)
    market.close(7)
    market.exchange.set_price("BTC/USDT", 80)
    assert (market.exchange.held(LONG), market.exchange.held(SHORT)) == (0, 4)


def test_in_hedge_mode_funding_belongs_to_a_leg(path: Path) -> None:
    """What one leg receives the other may pay: a payment names its side."""
    market = Market(path, hedge=True)
    market.exchange.pay_funding("BTC/USDT", "-3", "long")
    market.exchange.pay_funding("BTC/USDT", "2", "short")
    with pytest.raises(InvalidPosition, match="side"):
        market.exchange.pay_funding("BTC/USDT", "5")
    until = market.exchange.time_ms()
    assert (market.exchange.funding(LONG, 0, until), market.exchange.funding(SHORT, 0, until)) == (-3, 2)


@pytest.mark.parametrize("hedge", [False, True])
def test_a_file_keeps_its_mode(path: Path, *, hedge: bool) -> None:
    """Who opens it in the other mode is told so before anything is written."""
    account = PaperExchange(path, hedge=hedge).account
    before = path.read_bytes()
    with pytest.raises(ExchangeUnavailable, match=f"{path}.* mode") as refused:
        PaperExchange(path, hedge=not hedge)
    assert refused.value.code == "mode"
    assert path.read_bytes() == before
    assert PaperExchange(path, hedge=hedge).account == account


def test_of_two_modes_at_once_one_is_kept(path: Path) -> None:
    """Eight processes make the file together, four for each mode: those agree that got it, the others are told."""

    def make(number: int) -> None:
        try:
            PaperExchange(path, hedge=number % 2 == 0)
        except ExchangeUnavailable:
            path.with_name(f"refused-{number}").touch()
        else:
            path.with_name(f"taken-{number}").touch()

    at_once(8, make)
    taken = {int(each.name.removeprefix("taken-")) for each in path.parent.glob("taken-*")}
    assert taken in ({0, 2, 4, 6}, {1, 3, 5, 7})
    PaperExchange(path, hedge=0 in taken)


def test_a_file_of_an_older_version_is_refused(path: Path) -> None:
    """It does not know what its positions cost; the error says which file, and it is left as it was."""
    with closing(sqlite3.connect(path)) as older:
        older.executescript("CREATE TABLE account (only INTEGER PRIMARY KEY, name TEXT); PRAGMA user_version = 1")
    before = path.read_bytes()
    with pytest.raises(ExchangeUnavailable, match=f"{path}.*older_poslock"):
        PaperExchange(path)
    assert path.read_bytes() == before


def test_a_close_may_be_blocked_by_what_rests(path: Path) -> None:
    """Reduce-only orders that cover the leg leave no room for another; a part of it does, and so does a cancel."""
    market = Market(path, blocks_covered=True, hedge=True)
    for side in ("long", "short"):
        market.exchange.open_position("BTC/USDT", side, 10)
    market.stop(90, contracts=6)
    market.stop(110, "take_profit", contracts=4, client_id="tp1")
    with pytest.raises(ReduceOnlyBlocked) as refused:
        market.close()
    assert refused.value.code == "-4118"
    assert market.exchange.held(LONG) == 10
    assert market.exchange.order(LONG, "pl1") is None
    market.close(10, leg=SHORT)  # the orders of the long do not cover the short
    market.stop(80, client_id="sl2")  # what rests is not blocked: only what would execute now
    for resting in market.exchange.open_orders(LONG)[1:]:
        market.exchange.cancel(resting)
    market.close(10, "pl2")
    assert market.exchange.held(LONG) == 0


def test_resting_orders_block_nothing_unless_told(path: Path) -> None:
    """Most venues take the close all the same."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 10)
    market.stop(90, contracts=10)
    assert market.close().filled == 10


def test_concurrent_requests_are_atomic_in_both_legs(path: Path) -> None:
    """Eight processes open and close in one file: no contract is lost, none is taken twice, no entry price moves."""
    market = Market(path, hedge=True)
    for side in ("long", "short"):
        market.exchange.open_position("BTC/USDT", side, 150)
    stop = market.stop(90, contracts=150)

    def trade(number: int) -> None:
        leg = LONG if number % 2 else SHORT
        own = Market(path, hedge=True)
        for each in range(50):
            own.close(1, f"pl-{number}-{each}", leg=leg)
            if each % 2:
                own.exchange.open_position("BTC/USDT", leg.side, 1)

    at_once(8, trade)
    for leg in (LONG, SHORT):
        held = Holding(leg, Decimal(150 - 4 * 50 + 4 * 25), Decimal(100), Decimal(1), inverse=False, settle="USDT")
        assert market.exchange.holding(leg) == held
        assert sum(fill.contracts for fill in market.exchange.fills(leg, 0)) == 4 * 50
    assert market.exchange.open_orders(LONG) == [stop]


def test_of_concurrent_stop_orders_under_one_id_one_is_taken(path: Path) -> None:
    """The others are told that they are duplicates."""
    market = Market(path)
    market.exchange.open_position("BTC/USDT", "long", 5)

    def send(number: int) -> None:
        try:
            Market(path).stop(90 - number)
        except DuplicateClientOrderId:
            path.with_name(f"duplicate-{number}").touch()

    at_once(8, send)
    assert len(market.exchange.orders(LONG)) == 1
    assert len(list(path.parent.glob("duplicate-*"))) == 7
