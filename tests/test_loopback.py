"""The servers of the tests refuse what venues refuse, all of them alike: a test that they let through proves little."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import ccxt
import pytest

from loopback.binance import Binance
from loopback.bybit import Bybit
from loopback.mexc import Mexc
from loopback.okx import Okx
from loopback.spot import SpotVenue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

    from loopback.server import Loopback

BINANCE = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "quantity": "0.1",
    "price": "50000",
    "timeInForce": "GTC",
}


@dataclass(frozen=True)
class Way:
    """How an order that rests is sent, what its fields are called, and a list that comes in pages."""

    api: tuple[str, ...]
    path: str
    order: dict[str, Any]
    size: str
    client_id: str
    listed: tuple[Any, str, dict[str, Any]]
    price: str = "price"

    def with_size(self, text: str) -> dict[str, Any]:
        return {**self.order, self.size: text if isinstance(self.order[self.size], str) else json.loads(text)}


WAYS = {
    "mexc": Way(
        ("contract", "private"),
        "order/create",
        {"symbol": "BTC_USDT", "side": 1, "type": 1, "vol": 10, "price": 50_000, "openType": 2},
        "vol",
        "externalOid",
        (("contract", "private"), "order/list/open_orders", {"page_size": 101}),
    ),
    "binance": Way(
        ("fapiPrivate",),
        "order",
        BINANCE,
        "quantity",
        "newClientOrderId",
        (("fapiPrivate",), "userTrades", {"symbol": "BTCUSDT", "limit": 1001}),
    ),
    "bybit": Way(
        ("private",),
        "v5/order/create",
        {
            "category": "linear",
            "symbol": "BTCUSDT",
            "side": "Buy",
            "orderType": "Limit",
            "qty": "0.1",
            "price": "50000",
        },
        "qty",
        "orderLinkId",
        (("private",), "v5/execution/list", {"category": "linear", "symbol": "BTCUSDT", "limit": 101}),
    ),
    "okx": Way(
        ("private",),
        "trade/order",
        {
            "instId": "BTC-USDT-SWAP",
            "tdMode": "isolated",
            "side": "buy",
            "ordType": "limit",
            "sz": "0.1",
            "px": "50000",
        },
        "sz",
        "clOrdId",
        (("private",), "trade/orders-pending", {"instId": "BTC-USDT-SWAP", "limit": 101}),
        price="px",
    ),
    "binance spot": Way(
        ("private",),
        "order",
        BINANCE,
        "quantity",
        "newClientOrderId",
        (("private",), "myTrades", {"symbol": "BTCUSDT", "limit": 1001}),
    ),
    "mexc spot": Way(
        ("spot", "private"),
        "order",
        BINANCE,
        "quantity",
        "newClientOrderId",
        (("spot", "private"), "myTrades", {"symbol": "BTCUSDT", "limit": 1001, "startTime": 1, "endTime": 2}),
    ),
}
MARKETS = {
    "mexc": "/api/v1/contract/detail",
    "binance": "/fapi/v1/exchangeInfo",
    "bybit": "/v5/market/instruments-info?category=linear",
    "okx": "/api/v5/public/instruments",
}
RESET = "X-Bapi-Limit-Reset-Timestamp"
SWAPS: dict[str, type[Mexc | Binance | Bybit | Okx]] = {"mexc": Mexc, "binance": Binance, "bybit": Bybit, "okx": Okx}


@pytest.fixture(params=list(WAYS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def venue(name: str, tmp_path: Path) -> Iterator[Loopback]:
    """One whose market is at 60000, and which is asked by a real client."""
    path, kind = tmp_path / "venue.db", SWAPS.get(name)
    with kind(path) if kind else SpotVenue(path, name=name.removesuffix(" spot")) as venue:
        if isinstance(venue, SpotVenue):
            venue.books.set_price("BTC/USDT", 60_000)
        else:
            venue.book.set_price("BTC/USDT:USDT", 60_000)
        yield venue


def ask(
    venue: Loopback, api: tuple[str, ...], path: str, params: dict[str, Any], method: str = "GET", **config: Any
) -> Any:
    client = venue.client(**config)
    try:
        return client.request(path, api, method, params)
    finally:
        client.session.close()


def resting(venue: Loopback) -> int:
    if isinstance(venue, SpotVenue):
        return len(venue.books.orders)
    with venue.account() as books:  # type: ignore[attr-defined]  # all others have it
        return len(books.rows())


def assert_refused(
    venue: Loopback, what: str, api: tuple[str, ...], path: str, params: Any, method: str, **config: Any
) -> None:
    """With the venue's code for what is wrong, and nothing is done."""
    with pytest.raises(ccxt.BaseError):
        ask(venue, api, path, params, method, **config)
    (_, reply) = venue.refused[-1]
    code = venue.words[what].code
    assert {str(code), code} & _numbers(json.loads(reply.encoded())), reply.body
    assert resting(venue) == 0


def _numbers(said: Any) -> set[Any]:
    if isinstance(said, dict | list):
        return {each for part in (said.values() if isinstance(said, dict) else said) for each in _numbers(part)}
    return {said}


def test_an_order_that_fits_rests(venue: Loopback, name: str) -> None:
    """So that what is refused below is refused for what is wrong with it."""
    way = WAYS[name]
    for client_id in ("a" * 32, "b"):
        ask(venue, way.api, way.path, {**way.order, way.client_id: client_id}, "POST")
    assert (resting(venue), venue.refused) == (2, [])


@pytest.mark.parametrize(
    ("what", "text"),
    [("size", "0"), ("size", "-1"), ("step", "0.0000001"), ("step", "0.1234567"), ("largest", "1000000000")],
)
def test_sizes_that_do_not_fit_are_refused(venue: Loopback, name: str, what: str, text: str) -> None:
    """Nothing, less than nothing, off the step, and more than the largest order."""
    way = WAYS[name]
    assert_refused(venue, what, way.api, way.path, way.with_size(text), "POST")


def test_what_is_less_than_the_smallest_order_is_refused(venue: Loopback, name: str) -> None:
    """Where that is more than one step."""
    way, venue.smallest = WAYS[name], venue.step * 5
    assert_refused(venue, "smallest", way.api, way.path, way.with_size(format(venue.step * 4, "f")), "POST")


@pytest.mark.parametrize("name", [each for each in WAYS if each != "mexc"])
def test_numbers_that_venues_cannot_read_are_refused(venue: Loopback, name: str) -> None:
    """Text with an exponent, as Python writes small ones, and no text at all; MEXC futures take JSON's numbers."""
    way = WAYS[name]
    assert_refused(venue, "size", way.api, way.path, way.with_size("1e-2"), "POST")
    if name in {"bybit", "okx"}:
        assert_refused(venue, "size", way.api, way.path, {**way.order, way.size: 1}, "POST")


def test_a_price_off_the_tick_is_refused(venue: Loopback, name: str) -> None:
    """Wherever a price is."""
    way = WAYS[name]
    off: Any = "50000.001" if isinstance(way.order[way.price], str) else 50_000.001
    assert_refused(venue, "tick", way.api, way.path, {**way.order, way.price: off}, "POST")


def test_client_order_ids_that_venues_do_not_take_are_refused(venue: Loopback, name: str) -> None:
    """For their length or their letters; MEXC futures document a length only."""
    way = WAYS[name]
    for client_id in ("a" * 37,) if name == "mexc" else ("a" * 37, "a b", "\u00e9"):
        assert_refused(venue, "client_id", way.api, way.path, {**way.order, way.client_id: client_id}, "POST")


@pytest.mark.parametrize("offset_ms", [65_000, -65_000], ids=["late", "early"])
def test_requests_of_another_time_are_refused(venue: Loopback, name: str, offset_ms: int) -> None:
    """Whether the venue's clock is ahead or behind."""
    way, venue.offset_ms = WAYS[name], offset_ms
    assert_refused(venue, "time", way.api, way.path, way.order, "POST")


@pytest.mark.parametrize("name", ["binance", "binance spot", "mexc spot"])
def test_a_window_that_is_too_long_is_refused(venue: Loopback, name: str) -> None:
    """Where venues say so; MEXC futures cut it down, as another test shows."""
    way, options = WAYS[name], {"recvWindow": 60_001}
    assert_refused(venue, "window", way.api, way.path, way.order, "POST", options=options)


def test_what_is_signed_with_another_key_is_refused(venue: Loopback, name: str) -> None:
    """As is a key that is not known."""
    way = WAYS[name]
    wrong = "another-secret-DO-NOT-LOG-4"
    assert_refused(venue, "signature", way.api, way.path, way.order, "POST", secret=wrong)
    assert_refused(venue, "key", way.api, way.path, way.order, "POST", apiKey="another-key-DO-NOT-LOG-5")


def test_a_page_that_is_too_long_is_refused(venue: Loopback, name: str) -> None:
    """It is not cut down in silence."""
    api, path, params = WAYS[name].listed
    assert_refused(venue, "page", api, path, params, "GET")


def test_answers_are_packed_and_their_rows_have_more_than_is_documented(venue: Loopback, name: str) -> None:
    """As those of venues are: gzip for who takes it, and a field that nobody has read of."""
    address, headers = venue.url + MARKETS.get(name, "/api/v3/exchangeInfo"), {"Accept-Encoding": "gzip"}
    with urlopen(HttpRequest(address, headers=headers)) as answer:  # noqa: S310  # it is the server's
        assert answer.headers["Content-Encoding"] == "gzip"
        said = json.loads(gzip.decompress(answer.read()))
    assert [row["notDocumented"] for row in _rows(said) if "notDocumented" in row][:10] == [None] * 10


def _rows(said: Any) -> Iterator[dict[str, Any]]:
    if isinstance(said, dict):
        yield said
    for part in said.values() if isinstance(said, dict) else said if isinstance(said, list) else ():
        yield from _rows(part)


def test_too_many_requests_are_turned_away_for_a_while(venue: Loopback, name: str) -> None:
    """With the venue's own way to say for how long, if it has any; who goes on asking Binance futures is banned."""
    request, status = venue.url + MARKETS.get(name, "/api/v3/exchangeInfo"), venue.words["too_many"].status
    venue.limit_to(2, 60.0)
    heard = [_heard(request) for _ in range(4)]
    assert [code for code, _ in heard] == [200, 200, status, 418 if name == "binance" else status]
    until_s = (venue.clock_ms() + 60_000) / 1000
    said = {each: int(value) for each, value in heard[-1][1].items() if each in {"Retry-After", RESET}}
    expected: dict[str, float] = {"Retry-After": 60}
    if name in {"mexc", "okx"}:
        expected = {}
    elif name == "bybit":
        expected, said = {RESET: until_s}, {RESET: said[RESET] // 1000}
    assert said == pytest.approx(expected, abs=5)
    venue.offset_ms += 61_000
    assert [_heard(request)[0] for _ in range(3)] == [200, 200, status]


def _heard(address: str) -> tuple[int, Message]:
    try:
        with urlopen(address) as answer:  # noqa: S310  # the server's
            return answer.status, answer.headers
    except HTTPError as error:
        error.close()
        return error.code, error.headers
