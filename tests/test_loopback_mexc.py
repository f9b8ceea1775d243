"""The MEXC account on this machine: how it judges requests, and the traps of ccxt that the adapter avoids."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ccxt
import pytest

from loopback.mexc import Mexc
from loopback.server import Fault
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
LONG, SHORT = Leg(BTC, "long"), Leg(BTC, "short")
CREATE, GET = "contract_private_post_order_create", "contract_private_get_order_get_order_id"
POSITIONS = "contract_private_get_position_open_positions"
DEALS = "contract_private_get_order_list_order_deals_v3"
PLACE_PLAN, PLANS = "contract_private_post_planorder_place_v2", "contract_private_get_planorder_list_orders"
PLACE_STOP, OPEN_STOPS = "contract_private_post_stoporder_place", "contract_private_get_stoporder_open_orders"
PLACE_TRACK, TRACKS = "contract_private_post_trackorder_place", "contract_private_get_trackorder_list_orders"
DAY_MS = 86_400_000


class Calls:
    """A ccxt client whose answers have no envelope."""

    def __init__(self, venue: Mexc, **config: Any) -> None:
        self._client = venue.client(**config)

    def __call__(self, name: str, *args: Any) -> Any:
        return getattr(self._client, name)(*args).get("data")


@pytest.fixture
def venue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mexc]:
    """One with a long of 10 in BTC; in one-way mode, unless a test has other settings."""
    with Mexc(tmp_path / "venue.db", **getattr(request, "param", {})) as opened:
        opened.book.set_price(BTC, 60_000)
        opened.book.set_price(ETH, 3_000)
        opened.book.open_position(BTC, "long", 10)
        yield opened


HEDGE = pytest.mark.parametrize("venue", [{"hedge": True}], indirect=True)


def closing(venue: Mexc, **other: Any) -> dict[str, Any]:
    """A request to close the long at market, in the way of the account's mode."""
    mode = {} if venue.hedge else {"reduceOnly": True}
    return {"symbol": "BTC_USDT", "side": 4, "type": 5, "vol": 10, "openType": 2, "externalOid": "a", **mode, **other}


def plan(venue: Mexc, **other: Any) -> dict[str, Any]:
    asked = closing(venue, triggerPrice=57_000, triggerType=2, executeCycle=2, orderType=5, trend=1)
    return {**{name: said for name, said in asked.items() if name not in {"type", "externalOid"}}, **other}


def code(request: Callable[..., Any], *args: Any) -> int:
    """The venue's code of a refusal."""
    with pytest.raises(ccxt.BaseError) as refused:
        request(*args)
    text = str(refused.value)
    return int(text.partition('"code": ')[2].partition(",")[0].rstrip("}"))


def left(venue: Mexc, leg: Leg = LONG) -> Any:
    """Contracts in the book."""
    return venue.book.held(leg)


def paths(venue: Mexc) -> list[str]:
    return [request.path.removeprefix("/api/v1/private/") for request in venue.requests]


# What ccxt makes of it: the traps that the adapter avoids.


@pytest.mark.parametrize(("said", "side"), [("buy", 2), ("sell", 4)])
def test_in_one_way_mode_create_order_strips_reduce_only_and_closes_by_side(venue: Mexc, said: str, side: int) -> None:
    """A buy becomes side 2, a sell side 4."""
    if side == 2:
        venue.book.open_position(BTC, "short", 20)
    venue.client().create_order(BTC, "market", said, 1, None, {"reduceOnly": True})
    sent = venue.requests[-1].params
    assert (sent["side"], "reduceOnly" in sent) == (side, False)


@HEDGE
def test_in_hedge_mode_create_order_inverts_the_sides_and_hits_the_opposite_leg(venue: Mexc) -> None:
    """Selling to reduce the long reduces the short."""
    venue.book.open_position(BTC, "short", 10)
    venue.client().create_order(BTC, "market", "sell", 3, None, {"reduceOnly": True, "hedged": True})
    assert venue.requests[-1].params["side"] == 2
    assert (left(venue), left(venue, SHORT)) == (10, 7)


def test_cancel_all_orders_leaves_trigger_orders(venue: Mexc) -> None:
    """``trigger`` is ignored; naming the method works; the other two families stay whatever is said."""
    call, client = Calls(venue), venue.client()
    call(PLACE_PLAN, plan(venue))
    [held] = call(POSITIONS)
    call(PLACE_STOP, {"positionId": held["positionId"], "vol": 10, "takeProfitPrice": 66_000})
    call(PLACE_TRACK, plan(venue, backType=1, backValue=0.02))
    client.cancel_all_orders(BTC, {"trigger": True})
    assert len(call(PLANS, {"states": "1"})) == 1
    client.cancel_all_orders(BTC, {"method": "contractPrivatePostPlanorderCancelAll"})
    assert call(PLANS, {"states": "1"}) == []
    assert [stop["isFinished"] for stop in call(OPEN_STOPS)] == [0]
    assert len(call(TRACKS, {"states": "0,1"})) == 1


def test_ccxts_retries_send_an_order_twice(venue: Mexc) -> None:
    """A lost answer is enough, which is why the adapter passes them by."""
    venue.strike(Fault("order/create", "lose"))
    asked = {**closing(venue, vol=3), "externalOid": ""}
    Calls(venue, options={"maxRetriesOnFailure": 1})(CREATE, asked)
    assert (paths(venue), left(venue)) == (["order/create"] * 2, 4)


# It judges requests as the venue does.


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"symbol": "NO_USDT"}, 1001),
        ({"symbol": "COIN1_USDT"}, 1002),
        ({"side": 5}, 2001),
        ({"openType": 3}, 2002),
        ({"openType": 1}, 7003),
        ({"vol": 0}, 2011),
        ({"vol": 0.5}, 2015),
        ({"vol": 11}, 2008),
        ({"type": 7}, 2029),
        ({"externalOid": "x" * 33}, 2030),
        ({"side": 2}, 2009),
        ({"symbol": "ETH_USDT"}, 2009),
        ({"positionId": 7}, 2043),
        ({"positionMode": 2}, 7002),
        ({"reduceOnly": True}, 600),
    ],
)
@HEDGE
def test_orders_that_do_not_fit_are_refused(venue: Mexc, asked: dict[str, Any], refusal: int) -> None:
    """With the venue's code, and nothing is done."""
    assert code(Calls(venue), CREATE, closing(venue, **asked)) == refusal
    assert (left(venue), len(venue.book.orders(LONG))) == (10, 0)


def test_reduce_only_is_cut_down_and_a_close_without_it_is_not(venue: Mexc) -> None:
    """One-way mode has both."""
    call = Calls(venue)
    assert code(call, CREATE, {**closing(venue, vol=11), "reduceOnly": False}) == 2008
    order = call(GET, {"order_id": call(CREATE, closing(venue, vol=11))["orderId"]})
    assert (order["vol"], order["dealVol"], order["state"]) == (10, 10, 3)
    assert (left(venue), left(venue, SHORT)) == (0, 0)


# What it does to requests.


def test_what_goes_wrong_in_the_venue_itself_ends_its_block(tmp_path: Path) -> None:
    """It is not taken for an answer of the venue."""
    venue = Mexc(tmp_path / "venue.db")

    def broken(_request: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), venue:
        venue.strike(Fault("ping", broken))
        with pytest.raises(ccxt.BaseError):
            Calls(venue)("contract_public_get_ping")


def test_several_clients_at_once_are_served(venue: Mexc) -> None:
    """Eight threads close one contract each under one client order id: one order is taken."""
    barrier, ids = threading.Barrier(8), []

    def close() -> None:
        client = venue.client()
        barrier.wait(30)
        ids.append(getattr(client, CREATE)(closing(venue, vol=1))["data"]["orderId"])

    threads = [threading.Thread(target=close, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(ids), len(set(ids)), left(venue)) == (8, 1, 9)


# What it holds.


def test_executions_come_in_pages_the_latest_first(venue: Mexc) -> None:
    """In the time asked about, which is a week unless said otherwise and 90 days at most."""
    call = Calls(venue)
    for number in range(3):
        call(CREATE, closing(venue, vol=1, externalOid=str(number)))
    pages = [call(DEALS, {"symbol": "BTC_USDT", "page_num": page, "page_size": 2}) for page in (1, 2, 3)]
    assert [[deal["id"] for deal in page] for page in pages] == [["4", "3"], ["2", "1"], []]
    now_ms = venue.clock_ms()
    assert call(DEALS, {"symbol": "BTC_USDT", "start_time": now_ms + 60_000, "end_time": now_ms + 120_000}) == []
    asked = {"symbol": "BTC_USDT", "start_time": now_ms - 91 * DAY_MS, "end_time": now_ms}
    assert code(call, DEALS, asked) == 6003
    venue.offset_ms = 8 * DAY_MS
    ahead = Calls(venue, options={"timeDifference": -venue.offset_ms})
    assert ahead(DEALS, {"symbol": "BTC_USDT"}) == []


@pytest.mark.parametrize("venue", [{"liquidity": 1, "remainder_rests": 60.0}], indirect=True)
def test_most_times_are_whole_seconds_rounded_up_or_down(venue: Mexc) -> None:
    """Those of executions, of trigger orders and of orders that have ended; live orders and positions have more."""
    call = Calls(venue)
    at_ms = venue.clock_ms() // 1000 * 1000 + 500
    venue.book._clock = lambda: at_ms / 1000
    order = call(CREATE, closing(venue, vol=2))["orderId"]
    assert call(GET, {"order_id": order})["createTime"] == at_ms
    call("contract_private_post_order_cancel", [order])
    numbers = [call(PLACE_PLAN, plan(venue, vol=1)) for _ in range(2)]
    whole = {at_ms - 500, at_ms + 500}
    ended, plans = call(GET, {"order_id": order}), call(PLANS, {"states": "1"})
    assert {ended["createTime"], ended["updateTime"]} < whole
    assert {row["createTime"] for row in plans if row["id"] in numbers} == whole
    [deal] = call("contract_private_get_order_deal_details_order_id", {"order_id": order})
    assert deal["timestamp"] in whole
    [position] = call("contract_private_get_position_open_positions", {})
    assert position["updateTime"] == at_ms


def test_a_plan_is_refused_that_does_not_fit(venue: Mexc) -> None:
    """Each with its code."""
    call = Calls(venue)
    assert code(call, PLACE_PLAN, plan(venue, triggerType=0)) == 3002
    assert code(call, PLACE_PLAN, plan(venue, executeCycle=9)) == 3003
    assert code(call, PLACE_PLAN, plan(venue, triggerPrice=61_000)) == 3004
    assert code(call, PLACE_PLAN, plan(venue, side=2)) == 2009
    number = call(PLACE_PLAN, plan(venue))
    asked = [{"symbol": "BTC_USDT", "orderId": number}]
    call("contract_private_post_planorder_cancel", asked)
    assert code(call, "contract_private_post_planorder_cancel", asked) == 2041
    assert venue.book.open_orders(LONG) == []


def test_a_stop_is_refused_that_does_not_fit(venue: Mexc) -> None:
    """Each with its code; one with the price of another changes that one's size."""
    call = Calls(venue)
    [held] = call(POSITIONS)
    asked = {"positionId": held["positionId"], "vol": 6}
    assert code(call, PLACE_STOP, asked) == 5001
    assert code(call, PLACE_STOP, {**asked, "stopLossPrice": 61_000}) == 5003
    assert code(call, PLACE_STOP, {**asked, "positionId": 7, "stopLossPrice": 57_000}) == 2009
    number = call(PLACE_STOP, {**asked, "stopLossPrice": 57_000})
    assert call(PLACE_STOP, {**asked, "stopLossPrice": 57_000, "vol": 7}) == number
    assert [order.contracts for order in venue.book.open_orders(LONG)] == [7]
    assert code(call, PLACE_STOP, {**asked, "stopLossPrice": 56_000}) == 5004
    call("contract_private_post_stoporder_cancel_all", {"positionId": held["positionId"]})
    assert venue.book.open_orders(LONG) == []
