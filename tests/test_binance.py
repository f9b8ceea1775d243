"""Binance USD-M futures through a real ccxt client, against an account on this machine: requests, outcomes, closes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from awaited import Awaited
from loopback.binance import RATE_LIMITED, UNAVAILABLE, UNKNOWN, Binance
from loopback.server import Fault, Reply
from poslock import (
    AsyncPositionGuard,
    ChangeRefused,
    ClosedPosition,
    Position,
    PositionAlreadyClosingError,
    PositionGuard,
)
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
    UnsupportedMarket,
)
from poslock.exchange.ccxt.binance import venue as binance
from poslock.exchange.ccxt.exchange import CcxtExchange
from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback.server import Request
    from poslock.position import Side

SYMBOL, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
LONG, SHORT = Leg(SYMBOL, "long"), Leg(SYMBOL, "short")
DENIED = Reply(400, {"code": -2013, "msg": "Order does not exist."})
HTML = Reply(502, "<html><body>Bad Gateway</body></html>", {"Content-Type": "text/html"})
DAY_MS = 86_400_000

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.takes_turns,
]
both_modes = pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
both_sides = pytest.mark.parametrize("side", ["long", "short"])
only_hedge = pytest.mark.parametrize("hedge", [True], ids=["hedge"])


@dataclass
class Desk:
    """A venue, and one bot's way to it: requests are called in the same way with a client of either kind."""

    venue: Binance
    asynchronous: bool
    lock_dir: str
    run: Callable[..., Any]
    clients: list[Any]
    behind: Any = None
    exchange: Any = None

    def connect(self, **settings: Any) -> None:
        """Another exchange object, as in another process."""
        kind = settings.pop("kind", "binanceusdm")
        client = self.venue.client(asynchronous=self.asynchronous, kind=kind)
        self.clients.append(client)
        self.behind = CcxtExchange(client, account="main", **{"denies_for": 0.2, **settings})
        self.exchange = Awaited(self.behind, self.run) if self.asynchronous else self.behind

    def guard(self, **options: Any) -> PositionGuard:
        """A guard of the client's kind."""
        settings = {"lock_dir": self.lock_dir, "stale_after": 10.0, **options}
        if self.asynchronous:
            return Awaited(AsyncPositionGuard(self.behind, **settings), self.run)  # type: ignore[return-value]
        return PositionGuard(self.behind, **settings)

    def holds(self, leg: Leg) -> Any:
        """Contracts of *leg*, as the adapter reads them."""
        holding = self.exchange.holding(leg)
        return holding.contracts if holding else Decimal(0)

    def exit_fills(self, leg: Leg, since_ms: int) -> list[Any]:
        """What took from *leg*, as the adapter reads it."""
        return [each.fill for each in self.exchange.trades(leg, since_ms) if each.effect == "exit"]

    def closing(self, contracts: Any, client_id: str = "c1", leg: Leg = LONG, **times: int) -> CloseOrder:
        signed_at_ms = self.exchange.time_ms() - times.get("age_ms", 0)
        return CloseOrder(leg, Decimal(contracts), client_id, signed_at_ms, times.get("window_ms", 5000))

    def stop(self, kind: Any, trigger: Any, client_id: str, leg: Leg = LONG, contracts: Any = 10) -> StopOrder:
        amount, price = Decimal(contracts), Decimal(trigger)
        return StopOrder(leg, kind, amount, price, client_id, self.exchange.time_ms(), 5000)

    def sent(self, path: str = "/fapi/v1/order", method: str = "POST") -> list[Request]:
        return [each for each in self.venue.requests if (each.method, each.path) == (method, path)]

    def of_book(self, leg: Leg = LONG) -> list[Any]:
        """The plain orders that the venue has taken, and what each did."""
        orders = [each for each in self.venue.book.orders(leg) if each.family == "order"]
        return [(each.client_order_id or "", each.filled) for each in orders]

    def strike_question(self, path: str, what: Any, method: str = "GET") -> None:
        """Once; but aiohttp by itself asks again what changes nothing, if its connection goes away meanwhile."""
        times = 2 if what == "drop" and self.asynchronous else 1
        self.venue.strike(Fault(path, what, method=method, times=times))

    def raw(self, path: str, **params: Any) -> Any:
        """What another program of the trader says to the venue, and what it is told."""
        sent = self.clients[-1].request(path, ["fapiPrivate"], "POST", params)
        return self.run(sent) if self.asynchronous else sent


@pytest.fixture
def hedge() -> bool:
    return False


@pytest.fixture
def venue_settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def desk(tmp_path: Path, venue_settings: dict[str, Any], *, asynchronous: bool, hedge: bool) -> Iterator[Desk]:
    with Binance(tmp_path / "exchange.db", hedge=hedge, **venue_settings) as venue, asyncio.Runner() as runner:
        venue.book.set_price(SYMBOL, 60_000)
        desk = Desk(venue, asynchronous, str(tmp_path / "locks"), runner.run, [])
        desk.connect()
        yield desk
        for client in desk.clients:
            if asynchronous:
                runner.run(client.close())
            else:
                client.session.close()


def held(desk: Desk, side: Side = "long", contracts: Any = 10) -> Leg:
    """A leg of ten contracts from 60000."""
    desk.venue.book.open_position(SYMBOL, side, contracts)
    desk.exchange.prepare()
    return Leg(SYMBOL, side)


# What the account is.


@both_modes
def test_the_account_is_inspected(desk: Desk, *, hedge: bool) -> None:
    """The clock, the mode and the rights of the key are told; where the rights cannot be asked they are unknown."""
    desk.venue.offset_ms = -900_000
    found = desk.exchange.inspect()
    assert 900_000 <= found.clock_ms < 960_000
    assert (found.hedge, found.may_trade, found.may_withdraw) == (hedge, True, False)
    desk.venue.restrictions = None
    found = desk.exchange.inspect()
    assert (found.hedge, found.may_trade, found.may_withdraw) == (hedge, None, None)


def test_its_time_is_the_venues(desk: Desk) -> None:
    """Requests are signed by the venue's clock, whatever this machine's says."""
    desk.venue.offset_ms = 3_600_000
    desk.exchange.prepare()
    behind_ms = desk.venue.clock_ms() - desk.exchange.time_ms()
    assert 0 <= behind_ms < 60_000
    assert desk.holds(LONG) == 0


def test_the_price_is_the_last_one(desk: Desk) -> None:
    """Stops trigger on it, so the guard compares with it."""
    desk.exchange.prepare()
    desk.venue.book.set_price(SYMBOL, "61234.5")
    assert desk.exchange.price(LONG) == Decimal("61234.5")


@both_modes
@both_sides
def test_what_is_held_is_one_side(desk: Desk, side: Side, *, hedge: bool) -> None:
    """The other side holds nothing, in one-way mode by the sign of the amount, in hedge mode by its own row."""
    leg = held(desk, side)
    other = SHORT if side == "long" else LONG
    holding = desk.exchange.holding(leg)
    assert (holding.contracts, holding.entry_price, holding.contract_size) == (10, 60_000, 1)
    assert (holding.inverse, holding.settle) == (False, "USDT")
    assert (desk.holds(leg), desk.holds(other), desk.exchange.holding(other)) == (10, 0, None)


def test_a_flat_market_with_an_order_is_flat(desk: Desk) -> None:
    """The venue lists such a market, with an amount of 0."""
    leg = held(desk)
    desk.venue.book.protect(SYMBOL, "long", "stop_loss", 10, 50_000)
    desk.exchange.place(desk.closing(10))
    assert (desk.holds(leg), desk.exchange.holding(leg)) == (0, None)


@only_hedge
def test_both_legs_of_a_hedge_are_held(desk: Desk, *, hedge: bool) -> None:
    """Each has its own row."""
    held(desk, "long", 10)
    held(desk, "short", 4)
    assert (desk.holds(LONG), desk.holds(SHORT)) == (10, 4)


@both_modes
def test_all_that_is_held_is_told_in_one_request(desk: Desk, *, hedge: bool) -> None:
    """Of the legs asked about, in their order; a market that is not known here is left out. No position has an id."""
    held(desk, "long", 10)
    if hedge:
        held(desk, "short", 4)
    desk.venue.book.set_price(ETH, 3_000)
    desk.venue.book.open_position(ETH, "short", 3)
    asked = len(desk.venue.requests)
    legs = [Leg(ETH, "short"), Leg("GONE/USDT:USDT", "long"), SHORT, LONG, Leg(ETH, "long"), LONG]
    found = desk.exchange.holdings(legs)
    (request,) = desk.venue.requests[asked:]
    assert (request.path, "symbol" in request.params) == ("/fapi/v3/positionRisk", False)
    expected = [(Leg(ETH, "short"), 3), *([(SHORT, 4)] if hedge else []), (LONG, 10)]
    assert [(each.leg, each.contracts) for each in found] == expected
    assert {each.position_id for each in found} == {None}
    assert found == [desk.exchange.holding(leg) for leg, _ in expected]
    asked = len(desk.venue.requests)
    assert desk.exchange.holdings([]) == desk.exchange.holdings([Leg("GONE/USDT:USDT", "long")]) == []
    assert len(desk.venue.requests) == asked


@pytest.mark.parametrize(("least", "smallest"), [("0.001", "0.001"), ("0.0001", "0.001"), ("0.01", "0.01")])
def test_the_smallest_order_is_the_larger_of_two_limits(desk: Desk, least: str, smallest: str) -> None:
    """That of all orders, and that of market orders."""
    desk.venue.smallest = Decimal(least)
    assert desk.exchange.holding(held(desk)).smallest == Decimal(smallest)


@pytest.mark.parametrize("symbol", ["DOGE/USDT:USDT", "BTC/USDT"])
def test_only_its_own_markets_are_known(desk: Desk, symbol: str) -> None:
    """What ccxt does not list, or not as a linear swap, is refused before anything is asked."""
    desk.exchange.prepare()
    asked = len(desk.venue.requests)
    with pytest.raises(UnsupportedMarket):
        desk.holds(Leg(symbol, "long"))
    assert len(desk.venue.requests) == asked


@pytest.mark.parametrize("kind", ["binance", "binanceusdm"])
def test_both_of_ccxts_classes_lead_there(desk: Desk, kind: str) -> None:
    """The venue is the same under either of ccxt's ids."""
    desk.connect(kind=kind)
    held(desk)
    assert desk.exchange.place(desk.closing(10)).state == "filled"


# Orders that close.


@both_modes
@both_sides
def test_a_close_reduces(desk: Desk, side: Side, *, hedge: bool) -> None:
    """It takes off what was asked, is told at once, and could do nothing else: by reduceOnly, or by its side."""
    leg = held(desk, side)
    order = desk.closing(4, leg=leg)
    placed = desk.exchange.place(order)
    assert placed == Order(placed.order_id, "c1", "order", leg, Decimal(4), Decimal(4), "filled")
    assert desk.venue.book.held(leg) == 6
    assert desk.of_book(leg) == [("c1", 4)]
    assert desk.exchange.order(leg, "c1") == placed
    (request,) = desk.sent()
    assert request.params["timestamp"] == str(order.signed_at_ms)
    assert request.params["recvWindow"] == "5000"
    assert request.params.get("reduceOnly") == (None if hedge else "true")
    assert request.params["positionSide"] == (side.upper() if hedge else "BOTH")
    assert request.params["side"] == ("SELL" if side == "long" else "BUY")


@both_modes
def test_nothing_is_sent_for_what_is_not_held(desk: Desk, *, hedge: bool) -> None:
    """Neither a close nor a stop, although the other side is held."""
    held(desk, "short")
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10))
    with pytest.raises(NothingToReduce):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "s1"))
    assert desk.sent() == desk.sent("/fapi/v1/algoOrder") == []


@both_modes
@both_sides
def test_a_close_of_too_much_reverses_nothing(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Whatever size is asked for, no more goes than there is, and the other side stays as it was."""
    leg = held(desk, side, 3)
    desk.exchange.place(desk.closing(10, leg=leg))
    assert [desk.venue.book.held(each) for each in (LONG, SHORT)] == [0, 0]
    assert sum(fill.contracts for fill in desk.venue.book.fills(leg, 0)) == 3


@only_hedge
def test_the_other_leg_of_a_hedge_is_left_alone(desk: Desk, *, hedge: bool) -> None:
    """A close of one takes nothing from the other."""
    held(desk, "short", 4)
    desk.exchange.place(desk.closing(10, leg=held(desk, "long", 10)))
    assert [desk.venue.book.held(leg) for leg in (LONG, SHORT)] == [0, 4]


@pytest.mark.parametrize("venue_settings", [{"largest": "4"}])
def test_an_order_is_no_larger_than_the_venue_takes(desk: Desk) -> None:
    """What is beyond the largest market order is left for the next one."""
    held(desk)
    assert desk.exchange.place(desk.closing(10)).filled == 4
    assert desk.venue.book.held(LONG) == 6


@pytest.mark.parametrize(("contracts", "said"), [("1E+1", "10"), ("0.500000", "0.5"), ("2", "2"), ("0.001", "0.001")])
def test_amounts_are_written_plainly(desk: Desk, contracts: str, said: str) -> None:
    """No exponent, and no zeros that count as digits too many."""
    held(desk)
    desk.exchange.place_stop(desk.stop("stop_loss", "5.70E+4", "s1", contracts=contracts))
    desk.exchange.place(desk.closing(contracts))
    (close,), (stop,) = desk.sent(), desk.sent("/fapi/v1/algoOrder")
    assert (close.params["quantity"], stop.params["quantity"], stop.params["triggerPrice"]) == (said, said, "57000")


@pytest.mark.parametrize("venue_settings", [{"liquidity": 6, "remainder_rests": 60.0}])
def test_an_order_that_is_filled_in_part_is_open(desk: Desk) -> None:
    """It says what it has done, is listed, can be cancelled, and says what it did then."""
    held(desk)
    order = desk.exchange.place(desk.closing(10))
    assert (order.filled, order.state) == (6, "open")
    assert desk.exchange.open_orders(LONG) == [order]
    desk.exchange.cancel(order)
    found = desk.exchange.order(LONG, "c1")
    assert (found.filled, found.state) == (6, "canceled")


@pytest.mark.parametrize("venue_settings", [{"liquidity": 6, "remainder_rests": 60.0}])
def test_a_client_order_id_is_taken_while_its_order_is_open(desk: Desk) -> None:
    """A second order under the id is refused, and the first is what the id stands for."""
    held(desk)
    first = desk.exchange.place(desk.closing(10))
    with pytest.raises(DuplicateClientOrderId) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "-4116"
    assert desk.exchange.order(LONG, "c1") == first
    assert desk.of_book() == [("c1", 6)]


def test_a_client_order_id_is_free_when_its_order_has_ended(desk: Desk) -> None:
    """So it keeps nobody from closing twice: that is what reduce-only is for."""
    held(desk)
    desk.exchange.place(desk.closing(4))
    desk.exchange.place(desk.closing(6))
    assert [fill.contracts for fill in desk.venue.book.fills(LONG, 0)] == [4, 6]
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(6))


# What became of a request.

REFUSALS: list[Any] = [
    (400, -1021, "Timestamp for this request is outside of the recvWindow.", RequestExpired),
    (400, -5028, "Timestamp for this request is outside of the ME recvWindow.", RequestExpired),
    (400, -1022, "Signature for this request is not valid.", KeysRefused),
    (401, -2014, "API-key format invalid.", KeysRefused),
    (401, -2015, "Invalid API-key, IP, or permissions for action.", KeysRefused),
    (429, -1003, "Too many requests; current limit is 2400 requests per minute.", RateLimited),
    (418, -1003, "Way too many requests; IP banned until 1700000000000.", RateLimited),
    (400, -1015, "Too many new orders; current limit is 300 orders per 10s.", RateLimited),
    (503, -1008, "Request throttled by system-level protection.", UnderMaintenance),
    (503, -1016, "This service is no longer available.", UnderMaintenance),
    (503, -1001, "Service Unavailable.", UnderMaintenance),
    (400, -4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit", NotServed),
    (400, -4118, "ReduceOnly Order Failed. Please check your existing position and open orders", ReduceOnlyBlocked),
    (400, -1102, "Mandatory parameter 'quantity' was not sent.", OrderRefused),
    (400, -1111, "Precision is over the maximum defined for this asset.", OrderRefused),
    (400, -1121, "Invalid symbol.", OrderRefused),
    (400, -2010, "NEW_ORDER_REJECTED", OrderRefused),
    (400, -2019, "Margin is insufficient.", OrderRefused),
    (400, -2021, "Order would immediately trigger.", StopWouldTrigger),
    (400, -2027, "Exceeded the maximum allowable position at current leverage.", OrderRefused),
    (400, -4005, "Quantity greater than max quantity.", OrderRefused),
    (400, -4015, "Client order id is not valid.", OrderRefused),
    (400, -4061, "Order's position side does not match user's setting.", NotServed),
    (400, -4120, "Order type not supported for this endpoint.", OrderRefused),
    (400, -4164, "Order's notional must be no smaller than 5 (unless you choose reduce only)", OrderRefused),
    (400, -4192, "Trade forbidden due to Cooling-off Period.", OrderRefused),
    (400, -4400, "Futures Trading Quantitative Rules violated, only reduceOnly order is allowed", OrderRefused),
    (400, -1013, "Filter failure: LOT_SIZE", OrderRefused),
]
DOUBTS: list[Any] = [
    (400, -4116, "ClientOrderId is duplicated.", DuplicateClientOrderId),
    (503, -1003, "Unknown error, please check your request or try again later.", OutcomeUnknown),
    (503, -1000, "Unknown error, please check your request or try again later.", OutcomeUnknown),
    (503, None, "Unknown error, please check your request or try again later.", OutcomeUnknown),
    (400, -2019, "Unknown error, please check your request or try again later.", OutcomeUnknown),
    (500, -1000, "An unknown error occurred while processing the request.", OutcomeUnknown),
    (503, -1001, "Internal error; unable to process your request. Please try again.", OutcomeUnknown),
    (400, -1006, "An unexpected response was received from the message bus.", OutcomeUnknown),
    (408, -1007, "Timeout waiting for response from backend server.", OutcomeUnknown),
    (400, -2020, "Unable to fill.", OutcomeUnknown),
    (400, -99_999, "Something that is documented nowhere.", OutcomeUnknown),
]


@pytest.mark.parametrize(("status", "code", "words", "expected"), REFUSALS + DOUBTS)
def test_the_code_says_what_became_of_an_order(
    desk: Desk, status: int, code: int | None, words: str, expected: type[Exception]
) -> None:
    """By its code, or by its words where those decide; not by the status, nor by ccxt's class for it."""
    held(desk)
    body = {"msg": words} if code is None else {"code": code, "msg": words}
    for path, send in (("/order$", desk.exchange.place), ("/algoOrder$", desk.exchange.place_stop)):
        desk.venue.strike(Fault(path, Reply(status, body), method="POST"))
        with pytest.raises(ExchangeError) as caught:
            send(desk.closing(10) if path == "/order$" else desk.stop("stop_loss", 57_000, "s1"))
        assert type(caught.value) is expected
    assert desk.venue.book.orders(LONG) == []


@pytest.mark.parametrize("what", ["lose", "cut", "garbage"])
def test_an_answer_that_was_lost_leaves_the_outcome_unknown(desk: Desk, what: Any) -> None:
    """The order was taken, and is found by its client order id; so is a stop."""
    held(desk)
    desk.venue.strike(Fault("/order$", what, method="POST"), Fault("/algoOrder$", what, method="POST"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "s1"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(4))
    assert desk.exchange.order(LONG, "c1").filled == 4
    assert desk.exchange.order(LONG, "s1").state == "open"


@pytest.mark.parametrize("what", ["drop", HTML, Reply(403, "<html>no</html>"), Reply(504, ""), Reply(200, "")])
def test_an_answer_from_elsewhere_leaves_the_outcome_unknown(desk: Desk, what: Any) -> None:
    """A gate, a proxy or a broken line does not know what the venue did."""
    held(desk)
    desk.venue.strike(Fault("/order$", what, method="POST"))
    with pytest.raises(OutcomeUnknown):
        desk.exchange.place(desk.closing(10))
    assert desk.exchange.order(LONG, "c1") is None


def test_a_request_that_is_held_up_is_refused_by_its_timestamp(desk: Desk) -> None:
    """It carries when it was signed and for how long it is good, so the venue refuses it when it comes late."""
    held(desk)
    desk.venue.strike(Fault("/order$", 0.5, method="POST"))
    with pytest.raises(RequestExpired) as caught:
        desk.exchange.place(desk.closing(10, window_ms=300))
    assert caught.value.code == "-1021"
    assert desk.venue.book.held(LONG) == 10
    assert desk.of_book() == []


@both_modes
def test_a_request_that_was_signed_long_ago_is_refused(desk: Desk, *, hedge: bool) -> None:
    """A close that went out under a lock that is gone does nothing, nor does a stop."""
    held(desk)
    with pytest.raises(RequestExpired):
        desk.exchange.place(desk.closing(10, age_ms=5100))
    with pytest.raises(RequestExpired):
        old = desk.stop("stop_loss", 57_000, "s1")
        desk.exchange.place_stop(
            StopOrder(LONG, "stop_loss", Decimal(10), Decimal(57_000), "s1", old.signed_at_ms - 5100, 5000)
        )
    assert desk.venue.book.orders(LONG) == []


def test_a_request_from_the_future_is_refused(desk: Desk) -> None:
    """A timestamp ahead of the venue's clock would lengthen its life; then the clock is asked again."""
    held(desk)
    with pytest.raises(RequestExpired):
        desk.exchange.place(desk.closing(10, age_ms=-60_000))
    desk.exchange.place(desk.closing(10))
    assert len(desk.sent("/fapi/v1/time", "GET")) == 2


def test_what_reduces_nothing_because_it_is_gone(desk: Desk) -> None:
    """The leg was closed after it was looked at: the venue says -2022, and so does a second look."""
    held(desk)

    def closed_meanwhile(request: Request) -> None:
        desk.venue.book.place(desk.closing(10, "other"))

    desk.venue.strike(Fault("/order$", closed_meanwhile, method="POST"))
    with pytest.raises(NothingToReduce) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "-2022"


@both_modes
@pytest.mark.parametrize("code", [-2022, -4118])
def test_what_reduces_nothing_because_others_will(desk: Desk, code: int, *, hedge: bool) -> None:
    """Plain orders that rest cover the leg: that is another thing than being flat, and the position tells."""
    held(desk)
    mode = {"positionSide": "LONG"} if hedge else {"reduceOnly": "true"}
    desk.raw("order", symbol="BTCUSDT", side="SELL", type="LIMIT", quantity="10", price="70000", **mode)
    desk.venue.blocks = code
    with pytest.raises(ReduceOnlyBlocked) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == str(code)


def test_what_reduces_nothing_while_the_position_cannot_be_read(desk: Desk) -> None:
    """It was refused, so it is not unknown; and no orders are given up for it without proof."""
    held(desk)
    refused = Reply(400, {"code": -2022, "msg": "ReduceOnly Order is rejected."})
    desk.venue.strike(Fault("/order$", refused, method="POST"), Fault("/positionRisk$", HTML, spared=1))
    with pytest.raises(NothingToReduce):
        desk.exchange.place(desk.closing(10))


@pytest.mark.parametrize(("what", "expected"), [("drop", NotServed), (HTML, NotServed), (RATE_LIMITED, RateLimited)])
def test_nothing_is_sent_when_the_position_cannot_be_read(desk: Desk, what: Any, expected: type[Exception]) -> None:
    """The outcome is known: none."""
    held(desk)
    desk.strike_question("/positionRisk$", what)
    with pytest.raises(NotServed) as caught:
        desk.exchange.place(desk.closing(10))
    assert type(caught.value) is expected
    assert desk.sent() == []


def test_a_mode_that_was_changed_is_read_again(desk: Desk) -> None:
    """The order of the wrong mode is refused; the next one is of the right one."""
    held(desk)
    desk.venue.hedge = True
    with pytest.raises(NotServed) as caught:
        desk.exchange.place(desk.closing(10))
    assert caught.value.code == "-4061"
    assert desk.exchange.place(desk.closing(10)).state == "filled"


def test_the_mode_is_not_read_for_every_close(desk: Desk) -> None:
    """The question is dear, and the answer does not change while something is held."""
    for _ in range(3):
        desk.exchange.prepare()
    assert len(desk.sent("/fapi/v1/positionSide/dual", "GET")) == 1


@pytest.mark.parametrize("what", ["drop", "garbage", "cut", HTML, UNKNOWN, Reply(200, {}), Reply(200, [{}])])
def test_a_question_without_an_answer(desk: Desk, what: Any) -> None:
    """It says so, and is answered when it is put again."""
    held(desk)
    desk.exchange.place(desk.closing(1))
    questions: list[tuple[str, str, tuple[Any, ...]]] = [
        ("/ticker/price", "price", ()),
        ("/positionRisk", "holding", ()),
        ("/openAlgoOrders", "open_orders", ()),
        ("/openOrders", "open_orders", ()),
        ("/v1/order$", "order", ("c1",)),
        ("/algoOrder", "order", ("s1",)),
        ("/userTrades", "trades", (0,)),
        ("/income", "funding", (0, desk.venue.clock_ms())),
    ]
    for path, question, args in questions:
        desk.strike_question(path, what)
        with pytest.raises(ExchangeUnavailable):
            getattr(desk.exchange, question)(LONG, *args)
        getattr(desk.exchange, question)(LONG, *args)


@pytest.mark.parametrize(("what", "expected"), [(RATE_LIMITED, RateLimited), (UNAVAILABLE, UnderMaintenance)])
def test_a_question_that_was_turned_away(desk: Desk, what: Any, expected: type[Exception]) -> None:
    """The kind of trouble is told, so that a caller may wait for as long as it takes."""
    held(desk)
    desk.venue.strike(Fault("/positionRisk$", what))
    with pytest.raises(expected):
        desk.holds(LONG)


@pytest.mark.parametrize("option", ["portfolioMargin", "papi"])
def test_a_client_for_portfolio_margin_is_refused(desk: Desk, option: str) -> None:
    """Before anything is sent."""
    client = desk.venue.client(options={option: True})
    with pytest.raises(UnsupportedMarket, match="nothing was sent; use the key of an account"):
        CcxtExchange(client, account="main")


def test_a_portfolio_margin_account_is_told_from_a_wrong_key(desk: Desk) -> None:
    """Both are answered with -2015; it has a position mode of its own."""
    refused = Reply(401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
    desk.venue.strike(Fault("fapi/v1/positionSide/dual", refused))
    desk.venue.strike(Fault("papi/v1/um/positionSide/dual", Reply(200, {"dualSidePosition": False})))
    with pytest.raises(UnsupportedMarket, match="classic mode"):
        desk.exchange.prepare()
    desk.venue.strike(Fault("fapi/v1/positionSide/dual", refused))
    desk.venue.strike(Fault("papi/v1/um/positionSide/dual", refused))
    with pytest.raises(KeysRefused):
        desk.exchange.prepare()


@pytest.mark.parametrize(("name", "code"), [("apiKey", "-2015"), ("secret", "-1022")])
def test_keys_that_are_not_accepted(desk: Desk, name: str, code: str) -> None:
    """Questions and orders say so, and nothing is taken."""
    held(desk)
    setattr(desk.clients[0], name, "of-somebody-else")
    with pytest.raises(KeysRefused) as asked:
        desk.holds(LONG)
    with pytest.raises(KeysRefused) as sent:
        desk.exchange.place(desk.closing(10))
    assert (asked.value.code, sent.value.code) == (code, code)
    assert desk.of_book() == []


# Conditional orders.


@both_modes
@both_sides
def test_stops_rest_are_found_and_are_cancelled(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Under the kind that was asked for, with the price that triggers them, whoever cancels them."""
    leg = held(desk, side)
    below, above = ("stop_loss", "take_profit") if side == "long" else ("take_profit", "stop_loss")
    placed = [
        desk.exchange.place_stop(desk.stop(below, 57_000, "s1", leg)),
        desk.exchange.place_stop(desk.stop(above, 66_000, "s2", leg)),
    ]
    assert [(each.family, each.trigger_price, each.state) for each in placed] == [
        (below, 57_000, "open"),
        (above, 66_000, "open"),
    ]
    assert desk.exchange.open_orders(leg) == placed
    assert [desk.exchange.order(leg, name) for name in ("s1", "s2")] == placed
    assert desk.exchange.stop(desk.stop(below, 57_000, "s1", leg)) == placed[0]
    desk.connect()
    desk.exchange.prepare()
    for each in placed:
        desk.exchange.cancel(each)
        desk.exchange.cancel(each)
    assert desk.exchange.open_orders(leg) == []
    assert [desk.exchange.order(leg, name).state for name in ("s1", "s2")] == ["canceled", "canceled"]
    for request in desk.sent("/fapi/v1/algoOrder"):
        assert request.params.get("reduceOnly") == (None if hedge else "true")
        assert request.params["workingType"] == "CONTRACT_PRICE"


@both_modes
@both_sides
def test_a_stop_that_has_triggered_is_the_order_that_it_became(desk: Desk, side: Side, *, hedge: bool) -> None:
    """What it filled is told under the id and the kind of the stop."""
    leg = held(desk, side)
    trigger = 57_000 if side == "long" else 63_000
    desk.exchange.place_stop(desk.stop("stop_loss", trigger, "s1", leg))
    desk.venue.book.set_price(SYMBOL, trigger)
    found = desk.exchange.order(leg, "s1")
    assert (found.family, found.filled, found.state, found.client_order_id) == ("stop_loss", 10, "filled", "s1")
    desk.exchange.cancel(found)
    assert desk.exchange.open_orders(leg) == []


def test_a_stop_that_has_triggered_and_is_denied(desk: Desk) -> None:
    """The list of conditional orders has it, and the fills of its order say what it did."""
    held(desk)
    desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "s1"))
    desk.venue.book.set_price(SYMBOL, 57_000)
    desk.venue.strike(Fault("/algoOrder$", DENIED, method="GET"), Fault("/v1/order$", DENIED, method="GET", times=2))
    found = desk.exchange.order(LONG, "s1")
    assert (found.family, found.filled, found.state) == ("stop_loss", 10, "filled")


def test_a_stop_that_would_execute_at_once_is_refused(desk: Desk) -> None:
    """The venue says -2021, and nothing rests."""
    held(desk)
    with pytest.raises(StopWouldTrigger) as caught:
        desk.exchange.place_stop(desk.stop("stop_loss", 61_000, "s1"))
    assert caught.value.code == "-2021"
    assert desk.exchange.open_orders(LONG) == []


def test_a_second_stop_under_one_id_is_refused(desk: Desk) -> None:
    """The first is what the id stands for."""
    held(desk)
    first = desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "s1"))
    with pytest.raises(DuplicateClientOrderId):
        desk.exchange.place_stop(desk.stop("stop_loss", 56_000, "s1"))
    assert desk.exchange.open_orders(LONG) == [first]


@only_hedge
def test_a_stop_of_a_hedge_is_for_what_is_held(desk: Desk, *, hedge: bool) -> None:
    """Nothing cuts it down there when it triggers."""
    held(desk, "long", 3)
    assert desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "s1", contracts=10)).contracts == 3


def of_hand(desk: Desk, **orders: dict[str, Any]) -> None:
    """Orders that the trader sends by another program, under these client order ids."""
    for name, order in orders.items():
        if "algoType" in order:
            desk.raw("algoOrder", symbol="BTCUSDT", clientAlgoId=name, **order)
        else:
            desk.raw("order", symbol="BTCUSDT", newClientOrderId=name, type="LIMIT", quantity="2", **order)


def test_only_what_reduces_is_listed_in_one_way_mode(desk: Desk) -> None:
    """Of every family; what opens, or might, is none of ours."""
    held(desk)
    algo = {"algoType": "CONDITIONAL"}
    of_hand(
        desk,
        exit={"side": "SELL", "price": "70000", "reduceOnly": "true"},
        reversal={"side": "SELL", "price": "70000"},
        entry={"side": "BUY", "price": "50000"},
        stop={**algo, "side": "SELL", "type": "STOP", "quantity": "2", "triggerPrice": "57000", "reduceOnly": "true"},
        whole={**algo, "side": "SELL", "type": "STOP_MARKET", "triggerPrice": "56000", "closePosition": "true"},
        trail={**algo, "side": "SELL", "type": "TRAILING_STOP_MARKET", "quantity": "2", "reduceOnly": "true"},
        other={**algo, "side": "BUY", "type": "STOP", "quantity": "2", "triggerPrice": "63000", "reduceOnly": "true"},
        breakout={**algo, "side": "BUY", "type": "STOP_MARKET", "quantity": "2", "triggerPrice": "66000"},
        breakdown={**algo, "side": "SELL", "type": "STOP_MARKET", "quantity": "2", "triggerPrice": "56000"},
    )
    found = desk.exchange.open_orders(LONG)
    assert [(each.client_order_id, each.family, each.trigger_price) for each in found] == [
        ("exit", "order", None),
        ("stop", "stop_loss", 57_000),
        ("whole", "stop_loss", 56_000),
        ("trail", "trailing", None),
    ]
    assert [each.client_order_id for each in desk.exchange.open_orders(SHORT)] == ["other"]
    for each in found:
        desk.exchange.cancel(each)
    assert desk.exchange.open_orders(LONG) == []
    assert len(desk.exchange.open_orders(SHORT)) == 1
    assert desk.exchange.order(LONG, "reversal") is None


@only_hedge
def test_only_what_reduces_is_listed_in_hedge_mode(desk: Desk, *, hedge: bool) -> None:
    """It is the side together with the leg that says so."""
    held(desk)
    held(desk, "short")
    algo = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "quantity": "2"}
    of_hand(
        desk,
        exit={"side": "SELL", "price": "70000", "positionSide": "LONG"},
        entry={"side": "BUY", "price": "50000", "positionSide": "LONG"},
        short={"side": "SELL", "price": "70000", "positionSide": "SHORT"},
        cover={"side": "BUY", "price": "50000", "positionSide": "SHORT"},
        stop={**algo, "side": "SELL", "triggerPrice": "57000", "positionSide": "LONG"},
        stop_of_the_short={**algo, "side": "BUY", "triggerPrice": "63000", "positionSide": "SHORT"},
        more={**algo, "side": "BUY", "triggerPrice": "63000", "positionSide": "LONG"},
    )
    assert [each.client_order_id for each in desk.exchange.open_orders(LONG)] == ["exit", "stop"]
    assert [each.client_order_id for each in desk.exchange.open_orders(SHORT)] == ["cover", "stop_of_the_short"]


@pytest.mark.parametrize("what", ["drop", HTML, Reply(400, {"code": -4117, "msg": "stop order is triggering"})])
def test_a_cancel_that_failed_says_so(desk: Desk, what: Any) -> None:
    """Only that the order is gone is no failure."""
    held(desk)
    order = desk.exchange.place_stop(desk.stop("stop_loss", 57_000, "s1"))
    desk.strike_question("/algoOrder$", what, "DELETE")
    with pytest.raises(ExchangeUnavailable):
        desk.exchange.cancel(order)
    assert desk.exchange.open_orders(LONG) == [order]


@pytest.mark.parametrize("venue_settings", [{"denies_for": 0.0}])
def test_an_order_that_is_denied_is_found_later(desk: Desk) -> None:
    """What the venue says is passed on; how long to go on asking is the machine's affair."""
    held(desk)
    desk.venue.denies = 60.0
    desk.exchange.place(desk.closing(4))
    assert desk.exchange.order(LONG, "c1") is None
    desk.venue.denies = 0.0
    assert desk.exchange.order(LONG, "c1").filled == 4


def test_it_may_be_denied_for_longer_than_was_seen(desk: Desk) -> None:
    """Unless told otherwise; up to 62 seconds were seen."""
    client = desk.clients[0]
    assert CcxtExchange(client, account="main").denies_for > 62


# Fills and funding.


@both_modes
@both_sides
def test_fills_are_those_that_reduced_the_leg(desk: Desk, side: Side, *, hedge: bool) -> None:
    """With their fee, their price and the id of their order, oldest first, from that time on."""
    leg = held(desk, side)
    if hedge:
        held(desk, "short" if side == "long" else "long")
    desk.exchange.place(desk.closing(4, "c1", leg))
    since_ms = desk.venue.clock_ms() + 1
    while desk.venue.clock_ms() < since_ms:
        pass
    desk.venue.book.set_price(SYMBOL, 61_000)
    desk.exchange.place(desk.closing(6, "c2", leg))
    fills = desk.exit_fills(leg, 0)
    assert fills == desk.venue.book.fills(leg, 0)
    assert [(fill.client_order_id, fill.contracts, fill.price, fill.fee) for fill in fills] == [
        ("c1", 4, 60_000, 120),
        ("c2", 6, 61_000, 183),
    ]
    assert desk.exit_fills(leg, since_ms) == fills[1:]
    other = SHORT if side == "long" else LONG
    assert desk.exit_fills(other, 0) == [] or not hedge


def traded(desk: Desk, leg: Leg) -> list[tuple[str, Any]]:
    """Whether each trade of *leg* added to it or took from it, and how much."""
    return [(each.effect, each.fill.contracts) for each in desk.exchange.trades(leg, 0)]


@both_modes
@both_sides
def test_entries_and_exits_are_told_in_one_list(desk: Desk, side: Side, *, hedge: bool) -> None:
    """With price, fee and the venue's number of their order; the client order id of exits only."""
    leg = held(desk, side, 4)
    desk.venue.book.set_price(SYMBOL, 61_000)
    mode = {"positionSide": side.upper()} if hedge else {}
    added = desk.raw(
        "order", symbol="BTCUSDT", side="BUY" if side == "long" else "SELL", type="MARKET", quantity="6", **mode
    )
    first = desk.exchange.place(desk.closing(3, "c1", leg))
    second = desk.exchange.place(desk.closing(7, "c2", leg))
    asked = len(desk.sent(method="GET"))
    opened, more, *exits = desk.exchange.trades(leg, 0)
    assert [each.effect for each in (opened, more, *exits)] == ["entry", "entry", "exit", "exit"]
    assert more.order_id == str(added["orderId"])
    assert [f"order:{each.order_id}" for each in exits] == [first.order_id, second.order_id]
    assert (more.fill.contracts, more.fill.price, more.fill.fee, more.fill.fee_currency) == (6, 61_000, 183, "USDT")
    assert [each.fill.client_order_id for each in (opened, more, *exits)] == [None, None, "c1", "c2"]
    assert len(desk.sent(method="GET")) - asked == 2
    other = SHORT if side == "long" else LONG
    assert traded(desk, other) == ([] if hedge else [("exit", 4), ("exit", 6), ("entry", 3), ("entry", 7)])


def test_a_trade_that_crosses_flat_is_one_of_both_legs(desk: Desk) -> None:
    """One-way mode: selling 15 while a long of 10 is held closes that and opens a short of 5."""
    held(desk)
    crossed = str(
        desk.raw("order", symbol="BTCUSDT", side="SELL", type="MARKET", quantity="15", newClientOrderId="hand")[
            "orderId"
        ]
    )
    assert (desk.holds(LONG), desk.holds(SHORT)) == (0, 5)
    assert traded(desk, LONG) == [("entry", 10), ("exit", 15)]
    assert traded(desk, SHORT) == [("exit", 10), ("entry", 15)]
    of_long, of_short = (desk.exchange.trades(leg, 0)[-1] for leg in (LONG, SHORT))
    assert (of_long.order_id, of_short.order_id) == (crossed, crossed)
    assert of_long.fill == replace(of_short.fill, client_order_id="hand")


@only_hedge
def test_a_trade_is_of_one_leg_in_hedge_mode(desk: Desk, *, hedge: bool) -> None:
    """Both legs buy and sell."""
    held(desk, "long", 10)
    held(desk, "short", 6)
    for side, leg, quantity in (("BUY", "LONG", 5), ("SELL", "SHORT", 2), ("SELL", "LONG", 1), ("BUY", "SHORT", 3)):
        desk.raw("order", symbol="BTCUSDT", side=side, positionSide=leg, type="MARKET", quantity=str(quantity))
    assert traded(desk, LONG) == [("entry", 10), ("entry", 5), ("exit", 1)]
    assert traded(desk, SHORT) == [("entry", 6), ("entry", 2), ("exit", 3)]


def test_fills_of_a_denied_order_are_told(desk: Desk) -> None:
    """Without the id of it, until the venue knows it."""
    held(desk)
    desk.exchange.place(desk.closing(4))
    desk.venue.denies = 60.0
    assert [fill.client_order_id for fill in desk.exit_fills(LONG, 0)] == [None]
    desk.venue.denies = 0.0
    assert [fill.client_order_id for fill in desk.exit_fills(LONG, 0)] == ["c1"]


@pytest.mark.parametrize("keeps", ["newest", "oldest"])
def test_all_fills_are_told(desk: Desk, keeps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever end of a list that is too long the venue leaves out."""
    monkeypatch.setattr(binance, "_PAGE", 3)
    desk.venue.page_keeps = keeps
    held(desk)
    for number in range(10):
        moment_ms = desk.venue.clock_ms()
        desk.exchange.place(desk.closing(1, f"c{number}"))
        while desk.venue.clock_ms() == moment_ms:
            pass
    fills = desk.exit_fills(LONG, desk.venue.clock_ms() - 20 * DAY_MS)
    assert [fill.client_order_id for fill in fills] == [f"c{number}" for number in range(10)]


def test_more_fills_in_one_moment_than_can_be_told_are_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather no answer than a part of it."""
    monkeypatch.setattr(binance, "_PAGE", 1)
    held(desk)
    desk.exchange.place(desk.closing(4))
    with pytest.raises(ExchangeUnavailable):
        desk.exit_fills(LONG, desk.venue.clock_ms() - DAY_MS)


def test_fills_of_weeks_are_told(desk: Desk) -> None:
    """The venue refuses a question about more than seven days; what is long past is asked for once."""
    desk.venue.offset_ms = -30 * DAY_MS
    desk.venue.book.open_position(SYMBOL, "long", 10)
    opened_ms = desk.venue.clock_ms()
    for days in (30, 20, 10, 0):
        desk.venue.offset_ms = -days * DAY_MS
        desk.connect()
        desk.exchange.prepare()
        desk.exchange.place(desk.closing(1, f"c{days}"))
    asked = len(desk.sent("/fapi/v1/userTrades", "GET"))
    for _ in range(2):
        fills = desk.exit_fills(LONG, opened_ms)
        assert [fill.client_order_id for fill in fills] == ["c30", "c20", "c10", "c0"]
    assert len(desk.sent("/fapi/v1/userTrades", "GET")) - asked == 5 + 1


def test_fills_of_this_very_moment_are_told(desk: Desk) -> None:
    """Also where the clock here is behind, and the time asked about is as long as a question may be."""
    held(desk)
    desk.venue.offset_ms = 800
    desk.exchange.place(desk.closing(4))
    assert len(desk.exit_fills(LONG, desk.exchange.time_ms() - 7 * DAY_MS + 1)) == 1


def test_fills_that_are_told_late_are_not_missed(desk: Desk) -> None:
    """A time that has just gone by is asked about again."""
    held(desk)
    since_ms = desk.venue.clock_ms() - binance._TRADES_SPAN_MS - 60_000
    assert desk.exit_fills(LONG, since_ms) == []
    desk.venue.offset_ms = -120_000
    desk.venue.book.place(desk.closing(4))
    desk.venue.offset_ms = 0
    assert len(desk.exit_fills(LONG, since_ms)) == 1


@both_sides
def test_funding_is_summed(desk: Desk, side: Side) -> None:
    """What the leg received in that time, negative if it paid."""
    leg, sign = held(desk, side), -1 if side == "long" else 1
    desk.venue.fund(SYMBOL, "0.0001")
    desk.venue.fund(SYMBOL, "-0.0003")
    since_ms, until_ms = 0, desk.venue.clock_ms()
    assert desk.exchange.funding(leg, since_ms, until_ms) == sign * (60 - 180)
    assert desk.exchange.funding(leg, since_ms, until_ms - DAY_MS) == 0
    assert desk.exchange.funding(leg, until_ms - 100 * DAY_MS, until_ms - 99 * DAY_MS) == 0
    for request in desk.sent("/fapi/v1/income", "GET"):
        assert int(request.params["startTime"]) > until_ms - 91 * DAY_MS


@only_hedge
def test_funding_of_a_hedge_is_told_apart_by_who_had_to_pay(desk: Desk, *, hedge: bool) -> None:
    """The venue does not say which leg it was; the sign of the rate does."""
    held(desk, "long", 10)
    held(desk, "short", 4)
    desk.venue.offset_ms = -DAY_MS
    desk.venue.fund(SYMBOL, "0.0001")
    desk.venue.offset_ms = 0
    desk.venue.fund(SYMBOL, "-0.0003")
    until_ms = desk.venue.clock_ms()
    assert desk.exchange.funding(LONG, 0, until_ms) == -60 + 180
    assert desk.exchange.funding(SHORT, 0, until_ms) == 24 - 72


@only_hedge
def test_funding_that_was_netted_is_counted_once(desk: Desk, *, hedge: bool) -> None:
    """It cannot be told apart, so it all goes to the leg that had more of it; and no close waits for it."""
    held(desk, "long", 10)
    held(desk, "short", 4)
    desk.venue.nets_funding = True
    desk.venue.fund(SYMBOL, "0.0001")
    until_ms = desk.venue.clock_ms()
    assert [desk.exchange.funding(leg, 0, until_ms) for leg in (LONG, SHORT)] == [-36, 0]


@only_hedge
def test_funding_without_a_rate_is_in_neither_leg(desk: Desk, *, hedge: bool) -> None:
    """Nobody knows whose it was, and no close waits for it."""
    held(desk)
    desk.venue.fund(SYMBOL, "0.0001")
    until_ms, (rate,) = desk.venue.clock_ms(), desk.venue.rates
    for rates in ([], [replace(rate, at_ms=rate.at_ms - 45 * 60_000)]):
        desk.venue.rates = rates
        assert [desk.exchange.funding(leg, 0, until_ms) for leg in (LONG, SHORT)] == [0, 0]


@only_hedge
def test_funding_that_names_its_leg_is_that_legs(desk: Desk, *, hedge: bool) -> None:
    """Should the venue come to say it, it is believed."""
    held(desk)
    row = {"symbol": "BTCUSDT", "asset": "USDT", "income": "-7", "time": desk.venue.clock_ms(), "positionSide": "SHORT"}
    desk.venue.strike(Fault("/income$", Reply(200, [row]), times=2))
    until_ms = desk.venue.clock_ms()
    assert [desk.exchange.funding(leg, 0, until_ms) for leg in (LONG, SHORT)] == [0, -7]


def test_funding_in_another_currency_is_left_out(desk: Desk) -> None:
    """There is no rate to count it by."""
    held(desk)
    rows = [{"symbol": "BTCUSDT", "asset": asset, "income": "-7", "time": 1} for asset in ("USDT", "BNB")]
    desk.venue.strike(Fault("/income$", Reply(200, rows)))
    assert desk.exchange.funding(LONG, 0, desk.venue.clock_ms()) == -7


def test_all_funding_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page."""
    monkeypatch.setattr(binance, "_PAGE", 2)
    held(desk)
    for _ in range(5):
        desk.venue.fund(SYMBOL, "-0.0001")
    assert desk.exchange.funding(LONG, 0, desk.venue.clock_ms()) == 5 * 60


# The account on this machine.

MARKET = {"path": "order", "symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "1"}
STOP = {**MARKET, "path": "algoOrder", "algoType": "CONDITIONAL", "type": "STOP_MARKET", "triggerPrice": "57000"}


@pytest.mark.parametrize(
    ("hedge", "order", "code"),
    [
        (False, {**MARKET, "positionSide": "LONG"}, -4061),
        (False, {**MARKET, "type": "STOP_MARKET"}, -4120),
        (False, {**MARKET, "type": "OTHER"}, -1116),
        (False, {**MARKET, "symbol": "NONE"}, -1121),
        (False, {**MARKET, "quantity": "0"}, -4003),
        (False, {**MARKET, "quantity": "0.0001"}, -1111),
        (False, {**MARKET, "quantity": "121"}, -4005),
        (False, {**MARKET, "quantity": "0.00"}, -4003),
        (False, {**MARKET, "newClientOrderId": "c" * 37}, -4015),
        (False, {**MARKET, "side": "BUY", "reduceOnly": "true"}, -2022),
        (False, {**MARKET, "side": "BUY", "type": "LIMIT", "price": "1000", "quantity": "0.001"}, -4164),
        (False, {**STOP, "algoType": "VP"}, -1102),
        (False, {**STOP, "closePosition": "true"}, -4137),
        (False, {**STOP, "triggerPrice": "60000"}, -2021),
        (True, MARKET, -4061),
        (True, {**MARKET, "positionSide": "LONG", "reduceOnly": "true"}, -1106),
        (True, {**STOP, "positionSide": "LONG", "reduceOnly": "false"}, -1106),
        (True, {**MARKET, "positionSide": "LONG", "quantity": "11"}, -2024),
        (True, {**MARKET, "positionSide": "SHORT", "side": "BUY"}, -2022),
    ],
)
def test_the_account_refuses_what_the_venue_would(desk: Desk, order: dict[str, Any], code: int, *, hedge: bool) -> None:
    """So that an order which is right here is right there, as far as that is documented."""
    held(desk)
    with pytest.raises(Exception, match=f'"code": {code}'):
        desk.raw(**order)
    assert desk.venue.book.held(LONG) == 10
    assert desk.venue.book.orders(LONG) == []


# The guard.


def tracked(desk: Desk, side: Side = "long", **options: Any) -> tuple[PositionGuard, Leg]:
    """A guard, and a tracked leg of ten contracts from 60000 with a stop-loss and a take-profit of its own."""
    leg, guard = held(desk, side), desk.guard(**options)
    guard.track(Position("btc-1", SYMBOL, side, 10, 60_000))
    below, above = (57_000, 66_000) if side == "long" else (66_000, 57_000)
    guard.modify_position("btc-1", stop_loss=below, take_profit=above)
    return guard, leg


def assert_closed_once(desk: Desk, guard: PositionGuard, leg: Leg) -> None:
    """Flat, nothing rests, and what was booked is what the venue's books say."""
    book, sign = desk.venue.book, 1 if leg.side == "long" else -1
    assert book.held(leg) == 0
    assert book.open_orders(leg) == []
    closed = guard.position("btc-1").closed
    assert closed is not None
    fills = book.fills(leg, 0)
    assert [fill.trade_id for fill in closed.fills] == [fill.trade_id for fill in fills]
    gross = sign * sum((fill.price - 60_000) * fill.contracts for fill in fills)
    fees = sum(fill.fee for fill in fills)
    assert (closed.gross_pnl, closed.fees) == (gross, fees)
    assert closed.net_pnl == gross - fees + closed.funding
    with pytest.raises(PositionAlreadyClosingError):
        guard.close_position("btc-1")
    assert guard.recover() == []


@both_modes
@both_sides
def test_a_position_from_its_tracking_to_its_booking(desk: Desk, side: Side, *, hedge: bool) -> None:
    """Stops are set, moved and swept, a part is taken off, funding is paid, and all of it is booked once."""
    if hedge:
        held(desk, "short" if side == "long" else "long", 4)
    guard, leg = tracked(desk, side)
    desk.venue.fund(SYMBOL, "0.0001")
    moved = 58_000 if side == "long" else 65_000
    changed = guard.modify_position("btc-1", stop_loss=moved, reduce_by=3)
    assert changed.stop_loss == moved
    assert changed.contracts == 7
    desk.venue.book.set_price(SYMBOL, 61_000)
    closed = guard.close_position("btc-1")
    assert closed.funding == (-60 if side == "long" else 60)
    assert_closed_once(desk, guard, leg)
    if hedge:
        other = SHORT if side == "long" else LONG
        assert desk.venue.book.held(other) == 4


def test_a_close_whose_answer_was_lost_is_not_sent_again(desk: Desk) -> None:
    """The order is found by its client order id."""
    guard, leg = tracked(desk)
    desk.venue.strike(Fault("/v1/order$", "lose", method="POST"))
    guard.close_position("btc-1")
    assert len(desk.of_book()) == 1
    assert_closed_once(desk, guard, leg)


def test_a_close_that_came_to_nothing_is_sent_again(desk: Desk) -> None:
    """Once the venue can no longer come to have the first one; under the same id."""
    guard, leg = tracked(desk)
    desk.venue.strike(Fault("/v1/order$", UNKNOWN, method="POST"))
    guard.close_position("btc-1")
    first, second = (request.params["newClientOrderId"] for request in desk.sent())
    assert first == second
    assert_closed_once(desk, guard, leg)


def test_a_close_that_was_turned_away_is_sent_again_at_once(desk: Desk) -> None:
    """Nothing was taken, so there is nothing to wait for."""
    guard, leg = tracked(desk)
    desk.venue.strike(Fault("/v1/order$", UNAVAILABLE, method="POST"))
    guard.close_position("btc-1")
    assert len(desk.sent()) == 2
    assert_closed_once(desk, guard, leg)


@both_modes
def test_orders_that_cover_the_position_are_swept_first(desk: Desk, *, hedge: bool) -> None:
    """The venue takes no close while they rest."""
    guard, leg = tracked(desk)
    mode = {"positionSide": "LONG"} if hedge else {"reduceOnly": "true"}
    desk.raw("order", symbol="BTCUSDT", side="SELL", type="LIMIT", quantity="10", price="70000", **mode)
    desk.venue.blocks = -2022
    guard.close_position("btc-1")
    assert_closed_once(desk, guard, leg)


@both_modes
@pytest.mark.parametrize("venue_settings", [{"largest": "4"}])
def test_a_position_beyond_the_largest_order_is_closed_in_parts(desk: Desk, *, hedge: bool) -> None:
    """Each under an id of its own."""
    leg, guard = held(desk), desk.guard()
    guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    guard.close_position("btc-1")
    assert [filled for _, filled in desk.of_book()] == [4, 4, 2]
    assert len({name for name, _ in desk.of_book()}) == 3
    assert_closed_once(desk, guard, leg)


@pytest.mark.parametrize("venue_settings", [{"liquidity": 6, "remainder_rests": 0.1}])
def test_a_close_that_fills_in_parts_is_finished(desk: Desk) -> None:
    """What is left when the first order has ended goes out as the next one."""
    leg, guard = held(desk), desk.guard()
    guard.track(Position("btc-1", SYMBOL, "long", 10, 60_000))
    guard.close_position("btc-1")
    assert [filled for _, filled in desk.of_book()] == [6, 4]
    assert_closed_once(desk, guard, leg)


@both_modes
def test_a_position_that_its_stop_has_closed_is_booked(desk: Desk, *, hedge: bool) -> None:
    """Nothing is sent, and the take-profit that is left is swept."""
    guard, leg = tracked(desk)
    desk.venue.book.set_price(SYMBOL, 56_900)
    assert guard.close_position("btc-1").client_order_id is None
    assert desk.sent() == []
    assert_closed_once(desk, guard, leg)


def test_a_stop_on_the_wrong_side_of_a_moving_price_leaves_the_old_one(desk: Desk) -> None:
    """The price ran away after it was looked at: the venue refuses, and says so."""
    guard, leg = tracked(desk)
    desk.venue.strike(Fault("/algoOrder$", lambda _: desk.venue.book.set_price(SYMBOL, 58_000), method="POST"))
    with pytest.raises(ChangeRefused, match="-2021"):
        guard.modify_position("btc-1", stop_loss=59_000)
    resting = {each.family: each.trigger_price for each in desk.venue.book.open_orders(leg)}
    assert resting == {"stop_loss": 57_000, "take_profit": 66_000}


@both_modes
def test_a_stop_that_comes_too_late_closes_the_position_if_that_is_wanted(desk: Desk, *, hedge: bool) -> None:
    """The venue's -2021 is the word for it: no stop of ours rests, so it is closed at market."""
    guard, leg = tracked(desk)
    guard.modify_position("btc-1", stop_loss=None)
    desk.venue.strike(Fault("/algoOrder$", lambda _: desk.venue.book.set_price(SYMBOL, 58_000), method="POST"))
    closed = guard.modify_position("btc-1", stop_loss=59_000, or_close=True)
    assert isinstance(closed, ClosedPosition)
    assert closed.exit_price == 58_000
    assert_closed_once(desk, guard, leg)


@both_modes
def test_what_is_held_is_adopted(desk: Desk, *, hedge: bool) -> None:
    """At the venue's average, and what was added later too; then it closes like any other."""
    leg, guard = held(desk, contracts=6), desk.guard()
    adopted = guard.adopt(SYMBOL, "long")
    assert [adopted.position.contracts, adopted.position.entry_price] == [6, 60_000]
    desk.venue.book.set_price(SYMBOL, 63_000)
    held(desk, contracts=6)
    adopted = guard.adopt(SYMBOL, "long")
    assert [adopted.position.contracts, adopted.position.entry_price] == [12, 61_500]
    closed = guard.close_position(adopted.position.id)
    assert closed.gross_pnl == 12 * 1500
    assert desk.venue.book.held(leg) == 0
