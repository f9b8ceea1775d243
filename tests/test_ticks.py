"""Prices, sizes and modes as venues have them, through real ccxt clients, against servers that refuse all others."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from loopback import binance, bybit, mexc, okx
from loopback.desk import LONG, SYMBOL, Desk, desk_at
from loopback.server import Fault
from loopback.spot import SpotVenue
from poslock import CcxtExchange, InvalidChange, Position, UnsupportedMarket
from poslock.exchange.port import Leg
from poslock.ledger.journal import CloseKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback.server import Request
    from poslock import PositionGuard
    from poslock.position import Side

VENUES: dict[str, Any] = {"mexc": mexc.Mexc, "binance": binance.Binance, "bybit": bybit.Bybit, "okx": okx.Okx}
STEP = {"mexc": Decimal(1), "binance": Decimal("0.001"), "bybit": Decimal("0.001"), "okx": Decimal("0.01")}
PLACE = {
    "mexc": "order/create",
    "binance": "/fapi/v1/order",
    "bybit": "/v5/order/create",
    "okx": "/api/v5/trade/order",
}
BY_MARK = {
    "mexc": ("trend", 2),
    "binance": ("workingType", "MARK_PRICE"),
    "bybit": ("triggerBy", "MarkPrice"),
    "okx": ("slTriggerPxType", "mark"),
}
PLACE_STOP = {
    "mexc": "planorder/place/v2",
    "binance": "/fapi/v1/algoOrder",
    "bybit": "/v5/order/create",
    "okx": "/api/v5/trade/order-algo",
}

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.takes_turns,
]
all_venues = pytest.mark.parametrize("name", list(VENUES))
only_one = pytest.mark.parametrize("name", ["bybit"])


@pytest.fixture
def desk(tmp_path: Path, name: str, *, asynchronous: bool) -> Iterator[Desk]:
    with desk_at(VENUES[name](tmp_path / "exchange.db"), tmp_path, asynchronous=asynchronous) as desk:
        yield desk


def tracked(desk: Desk, side: Side = "long", contracts: Any = 10, **options: Any) -> PositionGuard:
    desk.hold(side)
    guard = desk.guard(**options)
    size = desk.exchange.holding(Leg(SYMBOL, side)).contract_size
    guard.track(Position("btc-1", SYMBOL, side, contracts, 60_000, contract_size=size))
    return guard


def journaled(desk: Desk) -> list[tuple[Decimal | None, Decimal]]:
    """Prices and contracts of the changes, as the ledger keeps them."""
    ledger = desk.guard()._operations.means.ledger
    return [(each.trigger_price, each.contracts) for each in ledger.changes(CloseKey("btc-1", 1))]


@all_venues
@pytest.mark.parametrize(
    ("side", "stop", "target"),
    [
        ("long", ("57123.123456789", "57123.2"), ("66123.17", "66123.1")),
        ("short", ("66123.17", "66123.1"), ("57123.123456789", "57123.2")),
    ],
)
def test_prices_rest_on_the_tick(desk: Desk, side: Side, stop: tuple[str, str], target: tuple[str, str]) -> None:
    """They are rounded towards the market, told, and kept so; asked for again they come to rest at the same prices."""
    guard = tracked(desk, side)
    expected = (Decimal(stop[1]), Decimal(target[1]))
    for _ in range(2):
        made = guard.modify_position("btc-1", stop_loss=stop[0], take_profit=target[0])
        assert (made.stop_loss, made.take_profit) == expected
    resting = [(each.family, each.trigger_price) for each in desk.exchange.open_orders(Leg(SYMBOL, side))]
    assert sorted(resting) == sorted(zip(("stop_loss", "take_profit"), expected, strict=True))
    assert journaled(desk) == [(price, Decimal(10)) for price in expected * 2]


@all_venues
def test_a_stop_whose_answer_was_lost_is_found_by_its_rounded_price(desk: Desk, name: str) -> None:
    """The order that the venue has taken is the one that the ledger has, so it is not placed a second time."""
    guard = tracked(desk)
    desk.venue.strike(Fault(PLACE_STOP[name], "lose", method="POST"))
    made = guard.modify_position("btc-1", stop_loss="57123.123456789")
    assert made.stop_loss == Decimal("57123.2")
    assert len([each for each in desk.exchange.open_orders(LONG) if each.family == "stop_loss"]) == 1
    sent = [each for each in desk.venue.requests if each.method == "POST" and each.path.endswith(PLACE_STOP[name])]
    assert len(sent) == 1


@all_venues
def test_rungs_and_reduces_are_cut_down_to_the_step(desk: Desk, name: str) -> None:
    """Their sizes are never more than what was asked for, and their prices are on the tick."""
    guard, more = tracked(desk), STEP[name] * Decimal("0.9")
    ladder = [("66000.19", 3 + more), ("67000", 4 + more)]
    made = guard.modify_position("btc-1", take_profit=ladder, reduce_by=2 + more)
    assert made.take_profits == ((Decimal("66000.1"), Decimal(3)), (Decimal(67_000), Decimal(4)))
    assert made.contracts == desk.book.held(LONG) == 8


@all_venues
def test_a_close_is_cut_down_to_the_step(desk: Desk, name: str) -> None:
    """What is left of the position below the step is said to be left."""
    desk.connect(settles_within=0.3)
    guard, step = tracked(desk, contracts=10 - STEP[name] * Decimal("0.1")), STEP[name]
    guard.modify_position("btc-1", stop_loss=57_000)
    [stop] = desk.exchange.open_orders(LONG)
    assert stop.contracts == 10 - step
    closed = guard.close_position("btc-1")
    assert sum(fill.contracts for fill in closed.fills) == 10 - step
    assert closed.left_at_venue == desk.book.held(LONG) == step


@only_one
@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"stop_loss": "59999.91"}, "below the price"),
        ({"take_profit": "60000.09"}, "above the price"),
        ({"take_profit": "0.09"}, "less than the venue's tick"),
        ({"take_profit": [("66000.11", 1), ("66000.19", 1)]}, "at one price"),
        ({"take_profit": [("66000", "0.0009"), ("67000", 1)]}, "smallest order"),
        ({"reduce_by": "0.0009"}, "smallest order"),
    ],
)
def test_what_cannot_rest_once_rounded_is_refused(desk: Desk, asked: dict[str, Any], why: str) -> None:
    """Before anything is written or sent."""
    guard = tracked(desk)
    with pytest.raises(InvalidChange, match=why):
        guard.modify_position("btc-1", **asked)
    assert journaled(desk) == []
    assert desk.sent("/v5/order/create") == []


@all_venues
@pytest.mark.parametrize("operation", ["close", "reduce", "stop_loss"])
def test_a_mode_switched_under_a_running_bot_costs_one_order(desk: Desk, name: str, operation: str) -> None:
    """The venue's refusal proves that nothing was taken; the order goes out once more, in the other mode."""
    guard, path = tracked(desk), PLACE_STOP[name] if operation == "stop_loss" else PLACE[name]

    def switch(request: Request) -> None:
        desk.venue.hedge = True  # type: ignore[attr-defined]  # each venue has it

    desk.venue.strike(Fault(f"{path}$", switch, method="POST"))
    if operation == "close":
        closed = guard.close_position("btc-1")
        assert sum(fill.contracts for fill in closed.fills) == 10
    elif operation == "reduce":
        assert guard.modify_position("btc-1", reduce_by=4).contracts == 6
    else:
        assert guard.modify_position("btc-1", stop_loss=57_000).stop_loss == 57_000
    sent = [each for each in desk.venue.requests if each.method == "POST" and each.path.endswith(path)]
    assert len(sent) == 2
    assert sent[0].params != sent[1].params
    assert client_id_of(sent[0]) == client_id_of(sent[1])


def client_id_of(request: Request) -> Any:
    names = ("newClientOrderId", "clientAlgoId", "orderLinkId", "clOrdId", "algoClOrdId", "externalOid")
    return [request.params[each] for each in names if each in request.params]


@pytest.fixture
def small(desk: Desk) -> Desk:
    """A venue whose largest order is for four contracts."""
    desk.venue.largest = Decimal(4)
    return desk


def resting(desk: Desk, kind: str = "stop_loss") -> list[tuple[Any, Decimal]]:
    return [(each.trigger_price, each.contracts) for each in desk.exchange.open_orders(LONG) if each.family == kind]


@all_venues
def test_what_is_larger_than_the_largest_order_rests_as_several(small: Desk) -> None:
    """They cover all of the position, move together, are known to the ledger each, and give way to the close."""
    guard = tracked(small)
    for stop, target in ((57_000, 66_000), (58_000, 67_000)):
        made = guard.modify_position("btc-1", stop_loss=stop, take_profit=target)
        assert (made.stop_loss, made.take_profit) == (Decimal(stop), Decimal(target))
        assert made.take_profits == ((Decimal(target), Decimal(10)),)
        for kind, price in (("stop_loss", stop), ("take_profit", target)):
            found = resting(small, kind)
            assert {at for at, _ in found} == {price}
            assert sum(contracts for _, contracts in found) == 10
            assert max(contracts for _, contracts in found) <= 4
            assert len(set(found)) == len(found)  # where they have no client order id, their size tells them apart
    closed = guard.close_position("btc-1")
    assert sum(fill.contracts for fill in closed.fills) == 10
    assert small.exchange.open_orders(LONG) == []
    assert small.book.held(LONG) == 0


@all_venues
def test_a_part_whose_answer_was_lost_is_found(small: Desk, name: str) -> None:
    """Each is sent once."""
    guard = tracked(small)
    small.venue.strike(Fault(PLACE_STOP[name], "lose", method="POST", spared=1))
    guard.modify_position("btc-1", stop_loss=57_000)
    sent = [each for each in small.venue.requests if each.method == "POST" and each.path.endswith(PLACE_STOP[name])]
    assert sum(contracts for _, contracts in resting(small)) == 10
    assert len(sent) == len(resting(small))


@all_venues
def test_a_stop_in_parts_closes_all(small: Desk) -> None:
    """When the price is reached; all of it is booked."""
    guard = tracked(small)
    guard.modify_position("btc-1", stop_loss=57_000)
    small.book.set_price(SYMBOL, 56_999)
    [recovered] = guard.recover()
    assert recovered.closed is not None
    assert sum(fill.contracts for fill in recovered.closed.fills) == 10
    assert small.book.held(LONG) == 0


@only_one
def test_a_stop_in_parts_follows_what_is_left(small: Desk) -> None:
    """As one does: after a reduce its parts add up to what is left."""
    guard = tracked(small)
    guard.modify_position("btc-1", stop_loss=57_000, reduce_by=1)
    assert sum(contracts for _, contracts in resting(small)) == 10
    guard.recover()
    assert sum(contracts for _, contracts in resting(small)) == 9
    guard.modify_position("btc-1", reduce_by=4)
    guard.modify_position("btc-1", reduce_by=2)
    guard.recover()
    assert resting(small) == [(Decimal(57_000), Decimal(3))]


@only_one
def test_more_parts_than_are_placed_at_once_are_refused(desk: Desk) -> None:
    """With the venue's largest order named, before anything is sent."""
    desk.venue.largest = Decimal("0.5")
    guard = tracked(desk)
    with pytest.raises(InvalidChange, match=r"more than 10 orders; the venue's largest is for 0\.5"):
        guard.modify_position("btc-1", stop_loss=57_000)
    assert (journaled(desk), resting(desk)) == ([], [])


@all_venues
def test_stops_trigger_by_the_mark_price(desk: Desk, name: str) -> None:
    """If that is wanted: then it also says which prices are on the wrong side."""
    desk.venue.mark = Decimal(56_000)  # type: ignore[attr-defined]  # each venue has it
    desk.connect(trigger="mark")
    guard = tracked(desk)
    assert desk.exchange.price(LONG) == 56_000
    with pytest.raises(InvalidChange, match="below the price of 56000"):
        guard.modify_position("btc-1", stop_loss=57_000)
    guard.modify_position("btc-1", stop_loss=55_000)
    [sent] = [each for each in desk.venue.requests if each.method == "POST" and each.path.endswith(PLACE_STOP[name])]
    field, said = BY_MARK[name]
    assert sent.params[field] == said
    assert resting(desk) == [(Decimal(55_000), Decimal(10))]


def test_spot_has_no_mark_price(tmp_path: Path, *, asynchronous: bool) -> None:
    """Where nothing but the last price triggers, nothing else can be asked for."""
    with (
        SpotVenue(tmp_path / "spot.db", name="binance") as venue,
        pytest.raises(UnsupportedMarket, match="by last they"),
    ):
        CcxtExchange(venue.client(asynchronous=asynchronous), account="main", market="spot", trigger="mark")


@only_one
def test_a_trigger_that_is_not_known_is_refused(desk: Desk) -> None:
    """A typo must not rest a stop-loss that triggers by another price than was meant."""
    for trigger in ("index", "MARK", None):
        with pytest.raises(UnsupportedMarket, match="trigger"):
            desk.connect(trigger=trigger)
