from __future__ import annotations

import asyncio
import math
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ccxt
import pytest

from loopback.mexc import BANNED, MAINTENANCE, RATE_LIMITED, Mexc
from loopback.server import Fault, Reply
from poslock.exchange.port import Leg
from venue import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
LONG, SHORT = Leg(BTC, "long"), Leg(BTC, "short")
CREATE, CANCEL = "contract_private_post_order_create", "contract_private_post_order_cancel"
EXTERNAL, GET = "contract_private_get_order_external_symbol_external_oid", "contract_private_get_order_get_order_id"
OPEN, POSITIONS = "contract_private_get_order_list_open_orders", "contract_private_get_position_open_positions"
DEALS = "contract_private_get_order_list_order_deals_v3"
PLACE_PLAN, PLANS = "contract_private_post_planorder_place_v2", "contract_private_get_planorder_list_orders"
PLACE_STOP, OPEN_STOPS = "contract_private_post_stoporder_place", "contract_private_get_stoporder_open_orders"
PLACE_TRACK, TRACKS = "contract_private_post_trackorder_place", "contract_private_get_trackorder_list_orders"
DAY_MS = 86_400_000


class Calls:
    """A ccxt client for threads or for tasks, called in the same way; what it answers has no envelope."""

    def __init__(self, venue: Mexc, *, asynchronous: bool = False, **config: Any) -> None:
        self._client = venue.client(asynchronous=asynchronous, **config)
        self._runner = asyncio.Runner() if asynchronous else None

    def __call__(self, name: str, *args: Any) -> Any:
        answer = self.whole(name, *args)
        return answer.get("data") if isinstance(answer, dict) else answer

    def whole(self, name: str, *args: Any) -> Any:
        method = getattr(self._client, name)
        return self._runner.run(_awaited(method, *args)) if self._runner else method(*args)

    def close(self) -> None:
        if self._runner:
            self._runner.run(self._client.close())
            self._runner.close()


async def _awaited(method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await method(*args)


@pytest.fixture
def venue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mexc]:
    """One with a long of 10 in BTC; in one-way mode, unless a test has other settings."""
    with Mexc(tmp_path / "venue.db", **getattr(request, "param", {})) as opened:
        opened.book.set_price(BTC, 60_000)
        opened.book.set_price(ETH, 3_000)
        opened.book.open_position(BTC, "long", 10)
        yield opened


@pytest.fixture
def call(venue: Mexc, asynchronous: bool) -> Iterator[Calls]:
    """A client of the kind that the test is about; for threads, unless it says."""
    made = Calls(venue, asynchronous=asynchronous)
    yield made
    made.close()


HEDGE = pytest.mark.parametrize("venue", [{"hedge": True}], indirect=True)
BOTH_MODES = pytest.mark.parametrize("venue", [{"hedge": False}, {"hedge": True}], indirect=True)
BOTH_CLIENTS = pytest.mark.parametrize("asynchronous", [False, True])


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


# A real client takes it for the venue.


@BOTH_CLIENTS
def test_a_real_client_loads_its_markets(call: Calls, asynchronous: bool) -> None:
    """ccxt asks the spot side, too, and is content with nothing there."""
    markets = call.whole("load_markets")
    assert {"BTC/USDT:USDT", "ETH/USDT:USDT", "COIN0/USDT:USDT", "COIN49/USDT:USDT"} <= set(markets)
    assert (markets[BTC]["id"], markets[BTC]["contractSize"], markets[BTC]["linear"]) == ("BTC_USDT", 1, True)


@BOTH_MODES
@BOTH_CLIENTS
def test_a_position_is_closed_and_found(venue: Mexc, call: Calls, asynchronous: bool) -> None:
    """An order is known by both ids, its executions by its id, and the book has closed once."""
    [held] = call(POSITIONS, {"symbol": "BTC_USDT"})
    answer = call(CREATE, closing(venue, positionId=held["positionId"], positionMode=venue.position_mode))
    assert set(answer) == {"orderId", "ts"}
    order = call(EXTERNAL, {"symbol": "BTC_USDT", "external_oid": "a"})
    assert order == call(GET, {"order_id": answer["orderId"]})
    assert (order["state"], order["dealVol"], order["side"], order["externalOid"]) == (3, 10, 4, "a")
    [deal] = call("contract_private_get_order_deal_details_order_id", {"order_id": answer["orderId"]})
    assert (deal["vol"], deal["price"], deal["fee"], deal["orderId"]) == (10, 60_000, 300, answer["orderId"])
    assert call(POSITIONS) == []
    assert left(venue) == 0
    assert [fill.client_order_id for fill in venue.book.fills(LONG, 0)] == ["a"]


@BOTH_CLIENTS
def test_a_resting_order_is_cancelled(venue: Mexc, call: Calls, asynchronous: bool) -> None:
    """By its id, and by its client order id."""
    first = call(CREATE, closing(venue, type=1, price=70_000, vol=4))["orderId"]
    call(CREATE, closing(venue, type=1, price=70_000, vol=4, externalOid="b"))
    assert [order["externalOid"] for order in call(OPEN)] == ["b", "a"]
    assert call(CANCEL, [first])[0]["errorCode"] == 0
    by_client_id = [{"symbol": "BTC_USDT", "externalOid": "b"}]
    assert call("contract_private_post_order_batch_cancel_with_external", by_client_id)[0]["errorCode"] == 0
    assert (call(OPEN), venue.book.open_orders(LONG)) == ([], [])


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


@HEDGE
def test_the_venues_own_numbers_go_through_create_order_untouched(venue: Mexc) -> None:
    """A side given in params wins."""
    [held] = Calls(venue)(POSITIONS)
    params = {"side": 4, "positionMode": 1, "positionId": held["positionId"]}
    venue.client().create_order(BTC, "market", "buy", 3, None, params)
    assert venue.requests[-1].params.items() >= params.items()
    assert left(venue) == 7


def test_create_order_answers_an_id_only(venue: Mexc) -> None:
    """Neither the client order id nor the amount comes back."""
    params = {"reduceOnly": True, "clientOrderId": "a"}
    order = venue.client().create_order(BTC, "market", "sell", 3, None, params)
    assert order["id"] is not None
    assert (order["clientOrderId"], order["amount"], order["status"]) == (None, None, None)


def test_fetch_order_loses_the_client_order_id(venue: Mexc) -> None:
    """It is in ``info`` only."""
    order_id = Calls(venue)(CREATE, closing(venue))["orderId"]
    order = venue.client().fetch_order(order_id, BTC)
    assert (order["clientOrderId"], order["info"]["externalOid"]) == (None, "a")


def test_fetch_order_with_client_order_id_builds_a_wrong_address(venue: Mexc) -> None:
    """It asks for an order without a name."""
    Calls(venue)(CREATE, closing(venue))
    with pytest.raises(ccxt.BaseError):
        venue.client().fetch_order_with_client_order_id("a", BTC)
    assert paths(venue)[-1] == "order/get/"


@HEDGE
def test_the_side_of_an_order_is_not_what_ccxt_says(venue: Mexc) -> None:
    """Side 2 buys to close a short and is called a sell; 3 and 4 stay numbers."""
    venue.book.open_position(BTC, "short", 10)
    call, client = Calls(venue), venue.client()
    ids = {
        2: call(CREATE, closing(venue, side=2, externalOid="2"))["orderId"],
        3: call(CREATE, closing(venue, side=3, externalOid="3"))["orderId"],
        4: call(CREATE, closing(venue, side=4, externalOid="4"))["orderId"],
    }
    said = {side: client.fetch_order(order_id, BTC)["side"] for side, order_id in ids.items()}
    assert said == {2: "sell", 3: "3", 4: "4"}


@HEDGE
def test_fetch_positions_knows_neither_id_nor_mode_nor_profit(venue: Mexc) -> None:
    """They are in ``info`` only."""
    [position] = venue.client().fetch_positions([BTC])
    assert (position["id"], position["hedged"], position.get("realizedPnl")) == (None, None, None)
    assert {"positionId", "realised"} <= set(position["info"])


def test_fetch_open_orders_sees_the_first_hundred_of_the_whole_account_only(venue: Mexc) -> None:
    """An order that rests longer than a hundred of another market is not seen."""
    call = Calls(venue)
    call(CREATE, closing(venue, type=1, price=70_000))
    venue.book.open_position(ETH, "long", 200)
    for number in range(100):
        call(CREATE, closing(venue, symbol="ETH_USDT", type=1, price=4_000, vol=1, externalOid=f"eth-{number}"))
    assert venue.client().fetch_open_orders(BTC) == []
    assert venue.requests[-1].params == {"page_size": "100"}
    assert [order["externalOid"] for order in call(OPEN, {"page_num": 2, "page_size": 100})] == ["a"]


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


def test_cancelling_too_late_and_closing_nothing_raise_the_same(venue: Mexc) -> None:
    """2041 and 2009 are both `InvalidOrder`."""
    order_id = Calls(venue)(CREATE, closing(venue))["orderId"]
    with pytest.raises(ccxt.InvalidOrder, match="cannot be cancelled"):
        venue.client().cancel_order(order_id, BTC)
    with pytest.raises(ccxt.InvalidOrder, match="2009"):
        Calls(venue)(CREATE, closing(venue, externalOid="b"))


def test_a_duplicate_looks_like_a_success(venue: Mexc) -> None:
    """It is answered with the id of the first; nothing else is done."""
    call = Calls(venue)
    first = call(CREATE, closing(venue, vol=3))
    again = call(CREATE, closing(venue, vol=5))
    assert (again["orderId"], again["ts"]) == (first["orderId"], first["ts"])
    assert left(venue) == 7


def test_closing_all_positions_is_all_there_is_and_hits_the_whole_account(venue: Mexc) -> None:
    """ccxt cannot close one position of this venue."""
    venue.book.open_position(ETH, "short", 5)
    client = venue.client()
    with pytest.raises(ccxt.NotSupported):
        client.close_position(BTC)
    client.contract_private_post_position_close_all({})
    assert (left(venue), left(venue, Leg(ETH, "short"))) == (0, 0)


def test_orders_are_cross_unless_said_and_isolated_ones_want_a_leverage(venue: Mexc) -> None:
    """ccxt and the venue both insist."""
    client, venue.open_type = venue.client(), 1
    with pytest.raises(ccxt.BaseError, match="7003"):
        client.create_order(BTC, "market", "sell", 1, None, {"reduceOnly": True})
    assert venue.requests[-1].params["openType"] == 2
    with pytest.raises(ccxt.ArgumentsRequired):
        client.create_order(BTC, "market", "sell", 1, None, {"reduceOnly": True, "openType": 1})
    client.create_order(BTC, "market", "sell", 1, None, {"reduceOnly": True, "openType": 1, "leverage": 20})
    assert left(venue) == 9


def test_ccxts_retries_send_an_order_twice(venue: Mexc) -> None:
    """A lost answer is enough, which is why the adapter passes them by."""
    venue.strike(Fault("order/create", "lose"))
    asked = {**closing(venue, vol=3), "externalOid": ""}
    Calls(venue, options={"maxRetriesOnFailure": 1})(CREATE, asked)
    assert (paths(venue), left(venue)) == (["order/create"] * 2, 4)


@BOTH_CLIENTS
def test_an_answer_that_is_no_json_is_no_error(venue: Mexc, call: Calls, asynchronous: bool) -> None:
    """It comes back as text."""
    venue.strike(Fault("order/create", "garbage"))
    assert call(CREATE, closing(venue)).startswith("<html>")
    assert left(venue) == 0


def test_a_failure_without_a_code_is_no_error(venue: Mexc) -> None:
    """ccxt hands it over as if it was a success."""
    venue.strike(Fault("order/create", Reply(200, {"success": False, "code": 0})))
    assert Calls(venue).whole(CREATE, closing(venue))["success"] is False


def test_a_pinned_nonce_pins_the_time_that_a_request_is_judged_by(venue: Mexc) -> None:
    """And a header of the client bounds its age: in seconds, not in the signature."""
    client = venue.client(headers={"Recv-Window": "3"})
    signed_ms = venue.clock_ms()
    client.nonce = lambda: signed_ms
    getattr(client, POSITIONS)()
    assert venue.requests[-1].headers["request-time"] == str(signed_ms)
    venue.offset_ms = 3_100
    assert code(getattr(client, POSITIONS)) == 513


# It judges requests as the venue does.


@pytest.mark.parametrize(
    ("config", "refusal"), [({"secret": "wrong"}, 602), ({"apiKey": "wrong"}, 401)], ids=["signature", "key"]
)
def test_who_it_does_not_know_is_refused(venue: Mexc, config: dict[str, Any], refusal: int) -> None:
    """And nothing is done."""
    assert code(Calls(venue, **config), CREATE, closing(venue)) == refusal
    assert left(venue) == 10


@pytest.mark.parametrize("offset_ms", [10_500, -10_500], ids=["late", "from the future"])
def test_requests_ten_seconds_off_are_refused(venue: Mexc, offset_ms: int) -> None:
    """Behind or ahead of the venue's clock."""
    venue.offset_ms = offset_ms
    assert code(Calls(venue), CREATE, closing(venue)) == 513
    assert left(venue) == 10


@pytest.mark.parametrize("header", ["Recv-Window", "Revc-Window"])
def test_the_window_may_be_longer_but_not_beyond_a_minute(venue: Mexc, header: str) -> None:
    """Under either of the names that the documentation has for it."""
    venue.offset_ms = 55_000
    Calls(venue, headers={header: "5000"})(POSITIONS)
    venue.offset_ms = 65_000
    assert code(Calls(venue, headers={header: "5000"}), POSITIONS) == 513


def test_the_spot_side_judges_in_its_own_way(venue: Mexc) -> None:
    """It is asked for what the key may do."""
    asked = {"accessKey": "x"}
    said = Calls(venue).whole("spot_private_get_apikeyinfo", asked)
    assert said["permissions"] == "CONTRACT_ACCOUNT_READ,CONTRACT_DEAL_READ,CONTRACT_DEAL_WRITE"
    assert code(Calls(venue, secret="wrong").whole, "spot_private_get_apikeyinfo", asked) == 700002  # noqa: S106
    venue.offset_ms = 6_000
    assert code(Calls(venue).whole, "spot_private_get_apikeyinfo", asked) == 700003


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


@pytest.mark.parametrize("venue", [{"blocks_covered": True}], indirect=True)
def test_resting_orders_may_block_a_close(venue: Mexc) -> None:
    """7005, until they are gone."""
    venue.book.protect(BTC, "long", "stop_loss", 10, 57_000)
    assert code(Calls(venue), CREATE, closing(venue)) == 7005
    Calls(venue)("contract_private_post_planorder_cancel_all", {"symbol": "BTC_USDT"})
    Calls(venue)(CREATE, closing(venue))
    assert left(venue) == 0


@HEDGE
def test_resting_plain_orders_freeze_what_they_would_close(venue: Mexc) -> None:
    """Trigger orders do not."""
    venue.book.protect(BTC, "long", "stop_loss", 10, 57_000)
    call = Calls(venue)
    call(CREATE, closing(venue, type=1, price=70_000, vol=4, externalOid="b"))
    assert call(POSITIONS)[0]["frozenVol"] == 4
    assert code(call, CREATE, closing(venue, vol=7)) == 2008
    call(CREATE, closing(venue, vol=6))
    assert left(venue) == 4


# What it does to requests.


@BOTH_CLIENTS
@pytest.mark.parametrize(
    ("what", "then", "raised"),
    [
        ("drop", 10, ccxt.NetworkError),
        ("lose", 0, ccxt.NetworkError),
        ("cut", 0, ccxt.BaseError),
        (RATE_LIMITED, 10, ccxt.RateLimitExceeded),
        (MAINTENANCE, 10, ccxt.OnMaintenance),
        (BANNED, 10, ccxt.ExchangeNotAvailable),
    ],
    ids=["drop", "lose", "cut", "rate limited", "maintenance", "banned"],
)
def test_a_fault_befalls_one_request(
    venue: Mexc, call: Calls, asynchronous: bool, what: Any, then: int, raised: type[Exception]
) -> None:
    """Carried out or not, the client is told nothing good; the next request is served."""
    venue.strike(Fault("order/create", what))
    with pytest.raises(raised):
        call(CREATE, closing(venue))
    assert left(venue) == then
    call(CREATE, closing(venue))
    assert left(venue) == 0


@BOTH_CLIENTS
def test_an_order_may_land_after_its_client_has_given_up(venue: Mexc, asynchronous: bool) -> None:
    """A time-out does not mean that it was not taken."""
    gone = threading.Event()
    venue.strike(Fault("order/create", gone))
    call = Calls(venue, asynchronous=asynchronous, timeout=500)
    with pytest.raises(ccxt.RequestTimeout):
        call(CREATE, closing(venue))
    call.close()
    assert left(venue) == 10
    gone.set()
    until(lambda: left(venue) == 0)


def test_a_fault_can_be_a_delay(tmp_path: Path) -> None:
    """Of one request; ``latency`` is one of all of them, and takes from their window."""
    with Mexc(tmp_path / "venue.db", latency=1.05) as venue:
        venue.strike(Fault("position_mode", 0.1))
        began = time.monotonic()
        Calls(venue)("contract_private_get_position_position_mode")
        assert time.monotonic() - began >= 1.15
        assert code(Calls(venue, headers={"Recv-Window": "1"}), POSITIONS) == 513


def test_a_fault_can_spare_some_and_befall_several_and_choose_its_method(venue: Mexc) -> None:
    """In the order in which they come."""
    venue.strike(Fault("ping", BANNED, method="POST"), Fault("ping", BANNED, times=2, spared=1))
    answered = []
    for _ in range(4):
        try:
            answered.append(bool(Calls(venue)("contract_public_get_ping")))
        except ccxt.ExchangeNotAvailable:
            answered.append(False)
    assert answered == [True, False, False, True]


def test_a_function_as_a_fault_sees_the_request_and_may_answer(venue: Mexc) -> None:
    """A test can hold a request back with it."""
    seen = []

    def fault(request: Any) -> Reply | None:
        seen.append((request.params["externalOid"], left(venue)))
        return None if len(seen) == 1 else RATE_LIMITED

    venue.strike(Fault("order/create", fault, times=2))
    Calls(venue)(CREATE, closing(venue, vol=3))
    assert code(Calls(venue), CREATE, closing(venue, vol=3, externalOid="b")) == 510
    assert (seen, left(venue)) == ([("a", 10), ("b", 7)], 7)


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


def test_a_connection_stays_open(venue: Mexc) -> None:
    """A client's second request comes over the first one's."""
    client = venue.client()
    threads = []
    venue.strike(Fault("ping", lambda _request: threads.append(threading.current_thread()), times=2))
    client.contract_public_get_ping()
    client.contract_public_get_ping()
    assert (len(threads), len(set(threads))) == (2, 1)


def test_an_order_can_be_denied_until_it_is_shown(venue: Mexc) -> None:
    """By its client order id it is not found; a second one under that id is not taken all the same."""
    call, asked, venue.denies = Calls(venue), {"symbol": "BTC_USDT", "external_oid": "a"}, math.inf
    first = call(CREATE, closing(venue, vol=3))
    assert code(call, EXTERNAL, asked) == 2040
    assert call(CREATE, closing(venue, vol=3))["orderId"] == first["orderId"]
    venue.denies = 0
    assert call(EXTERNAL, asked)["orderId"] == first["orderId"]


def test_it_can_be_a_venue_that_says_it_otherwise(venue: Mexc) -> None:
    """Nothing for an order that is not there, and a code for a duplicate."""
    venue.answers_null = venue.refuses_duplicates = True
    call = Calls(venue)
    assert call(EXTERNAL, {"symbol": "BTC_USDT", "external_oid": "a"}) is None
    call(CREATE, closing(venue, vol=3))
    assert code(call, CREATE, closing(venue, vol=3)) == 2042
    assert left(venue) == 7


# What it holds.


@pytest.mark.parametrize("venue", [{"liquidity": 6, "remainder_rests": 60.0}], indirect=True)
def test_what_does_not_fill_at_once_rests_and_can_be_cancelled(venue: Mexc) -> None:
    """State 2 with a part filled, then 4 with the same part."""
    call = Calls(venue)
    order_id = call(CREATE, closing(venue))["orderId"]
    [order] = call(OPEN)
    assert (order["orderId"], order["state"], order["vol"], order["dealVol"]) == (order_id, 2, 10, 6)
    call(CANCEL, [order_id])
    order = call(GET, {"order_id": order_id})
    assert (order["state"], order["dealVol"], left(venue)) == (4, 6, 4)


def test_a_cancel_has_a_code_for_each_order(venue: Mexc) -> None:
    """Inside of a success."""
    call = Calls(venue)
    filled = int(call(CREATE, closing(venue, vol=3))["orderId"])
    resting = int(call(CREATE, closing(venue, vol=3, type=1, price=70_000, externalOid="b"))["orderId"])
    said = call(CANCEL, [filled, 123, resting])
    assert [(each["orderId"], each["errorCode"]) for each in said] == [(filled, 2041), (123, 2040), (resting, 0)]


def test_a_limit_order_fills_when_the_price_is_reached(venue: Mexc) -> None:
    """Whoever asks next finds it filled."""
    call = Calls(venue)
    order_id = call(CREATE, closing(venue, type=1, price=61_000))["orderId"]
    venue.book.set_price(BTC, 61_500)
    assert call(GET, {"order_id": order_id})["state"] == 3
    assert left(venue) == 0


def test_a_position_keeps_its_id_until_it_is_flat(venue: Mexc) -> None:
    """The next one in the same market has another, and the history has the first with its profit."""
    call = Calls(venue)
    [before] = call(POSITIONS)
    call(CREATE, closing(venue, vol=3))
    venue.book.open_position(BTC, "long", 1)
    assert [(each["positionId"], each["holdVol"]) for each in call(POSITIONS)] == [(before["positionId"], 8)]
    venue.book.set_price(BTC, 61_000)
    call(CREATE, closing(venue, externalOid="b"))
    venue.book.open_position(BTC, "long", 2)
    assert call(POSITIONS)[0]["positionId"] != before["positionId"]
    [ended] = call("contract_private_get_position_list_history_positions", {"page_num": 1, "page_size": 100})
    fees = sum((fill.fee for fill in venue.book.fills(LONG, 0)), Decimal(330))
    assert (ended["positionId"], ended["closeProfitLoss"], ended["realised"]) == (
        before["positionId"],
        8_000,
        8_000 - fees,
    )


@HEDGE
def test_both_legs_are_listed_in_hedge_mode(venue: Mexc) -> None:
    """Side by side, and each is closed by its own side."""
    venue.book.open_position(BTC, "short", 5)
    call = Calls(venue)
    assert [(each["positionType"], each["holdVol"]) for each in call(POSITIONS)] == [(1, 10), (2, 5)]
    call(CREATE, closing(venue, side=2, vol=5))
    assert (left(venue), left(venue, SHORT)) == (10, 0)


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


def test_what_crosses_flat_is_one_execution(venue: Mexc) -> None:
    """Of all its contracts, with the fee of all of them, at the order as in the list."""
    call = Calls(venue)
    crossing = closing(venue, side=3, vol=15, reduceOnly=False)
    order = call(CREATE, crossing)["orderId"]
    assert (left(venue), left(venue, SHORT)) == (0, 5)
    [deal] = call("contract_private_get_order_deal_details_order_id", {"order_id": order})
    assert (deal["vol"], deal["fee"], deal["side"]) == (15, 450, 3)
    assert call(DEALS, {"symbol": "BTC_USDT"})[0] == deal


def test_funding_comes_in_pages_with_an_envelope(venue: Mexc) -> None:
    """The latest first, positive if received."""
    venue.book.pay_funding(BTC, "-1.5")
    venue.book.pay_funding(BTC, 2)
    asked = {"symbol": "BTC_USDT", "page_num": 2, "page_size": 1}
    said = Calls(venue)("contract_private_get_position_funding_records", asked)
    assert (said["totalCount"], said["totalPage"], said["currentPage"]) == (2, 2, 2)
    assert [(row["funding"], row["positionType"]) for row in said["resultList"]] == [(-1.5, 1)]


@BOTH_MODES
def test_a_trigger_order_becomes_a_plain_order(venue: Mexc) -> None:
    """The trigger is executed and names the order; the order has the executions."""
    call = Calls(venue)
    number = call(PLACE_PLAN, plan(venue))
    assert [(row["id"], row["triggerType"]) for row in call(PLANS, {"states": "1"})] == [(number, 2)]
    assert [order.family for order in venue.book.open_orders(LONG)] == ["stop_loss"]
    venue.book.set_price(BTC, 56_900)
    [row] = call(PLANS, {"states": "3"})
    order = call(GET, {"order_id": row["orderId"]})
    assert (row["id"], order["state"], order["dealVol"], order["side"]) == (number, 3, 10, 4)
    [deal, _opening] = call(DEALS, {"symbol": "BTC_USDT"})
    assert (deal["orderId"], left(venue)) == (row["orderId"], 0)


def test_orders_that_protect_appear_in_the_families_they_are_put_into(venue: Mexc) -> None:
    """Stop-losses are trigger orders and take-profits TP/SL orders, unless a test says otherwise."""
    venue.book.protect(BTC, "long", "stop_loss", 10, 57_000)
    venue.book.protect(BTC, "long", "take_profit", 10, 66_000)
    call = Calls(venue)
    assert [row["triggerPrice"] for row in call(PLANS, {"states": "1"})] == [57_000]
    assert [row["takeProfitPrice"] for row in call(OPEN_STOPS)] == [66_000]
    venue.rests_as = {"stop_loss": "stop", "take_profit": "plan"}
    assert [row["triggerPrice"] for row in call(PLANS, {"states": "1"})] == [66_000]
    assert [row["stopLossPrice"] for row in call(OPEN_STOPS)] == [57_000]
    counts = call("contract_private_post_order_open_order_total_count", {})
    assert (counts["sumCount"], counts["planOrderCount"], counts["stopOrderCount"]) == (2, 1, 1)


def test_a_trigger_order_ends_with_its_cycle(venue: Mexc) -> None:
    """After 24 hours or seven days."""
    Calls(venue)(PLACE_PLAN, plan(venue, executeCycle=1))
    venue.offset_ms = DAY_MS + 1_000
    ahead = Calls(venue, options={"timeDifference": -venue.offset_ms})
    assert ahead(PLANS, {"states": "1"}) == []
    assert len(ahead(PLANS, {"states": "4"})) == 1
    assert venue.book.open_orders(LONG) == []


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


def test_a_stop_with_both_prices_is_one_order_and_ends_as_one(venue: Mexc) -> None:
    """Whichever price comes first."""
    call = Calls(venue)
    [held] = call(POSITIONS)
    both = {"positionId": held["positionId"], "vol": 4, "stopLossPrice": 57_000, "takeProfitPrice": 66_000}
    number = call(PLACE_STOP, both)
    assert call(PLACE_STOP, {**both, "vol": 4}) == number
    venue.book.set_price(BTC, 67_000)
    [stop] = call(OPEN_STOPS)
    assert (stop["id"], stop["isFinished"], stop["state"], stop["triggerSide"]) == (number, 1, 3, 1)
    assert left(venue) == 6
    assert venue.book.open_orders(LONG) == []
    cancel = [{"stopPlanOrderId": number}]
    assert code(call, "contract_private_post_stoporder_cancel", cancel) == 5002


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


def test_a_trailing_order_is_cancelled_in_its_family(venue: Mexc) -> None:
    """With states, pages and a body of its own."""
    call = Calls(venue)
    number = call(PLACE_TRACK, plan(venue, backType=1, backValue=0.02))
    asked = {"symbol": "BTC_USDT", "states": "0,1", "pageIndex": 1, "pageSize": 100}
    assert [row["id"] for row in call(TRACKS, asked)] == [number]
    call("contract_private_post_trackorder_cancel", {"symbol": "BTC_USDT", "trackOrderId": number})
    assert call(TRACKS, asked) == []
