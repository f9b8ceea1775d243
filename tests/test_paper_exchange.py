# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

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
    RequestExpired,
)
from poslock.exchange.port import CloseOrder, Exchange, Leg

if TYPE_CHECKING:
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "exchange.db"


def test_it_is_an_exchange(path: Path) -> None:
    """It has every method and attribute of the port, and one account name for ever."""
    exchange = PaperExchange(path)
    port: Exchange = exchange
    assert port.account == PaperExchange(path).account
    assert port.account != PaperExchange(path.with_name("other.db")).account


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
    assert (order.state, order.filled, order.ended) == ("open", 4, False)
    market.now += 0.9
    assert [each.order_id for each in market.exchange.open_orders(LONG)] == [order.order_id]
    market.now += 0.2
    found = market.exchange.order(LONG, "pl1")
    assert found is not None
    assert (found.state, found.filled, found.ended) == ("canceled", 4, True)
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
