"""What ccxt knows of the venues' codes is known here too, and what was turned away unseen is not asked after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ccxt
import pytest

from loopback import binance, bybit, mexc
from loopback.desk import SYMBOL, desk_at
from loopback.server import Fault, Reply
from poslock import CloseUnsettled, Position
from poslock.exchange.ccxt.binance import codes as binance_codes
from poslock.exchange.ccxt.bybit import codes as bybit_codes
from poslock.exchange.ccxt.mexc import codes as mexc_codes
from poslock.exchange.ccxt.okx import codes as okx_codes
from poslock.exchange.ccxt.spot import codes as spot_codes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from loopback.server import Loopback
    from poslock.exchange.ccxt.codes import Codes


def of_ccxt(name: str, part: str) -> set[str]:
    """Every code, and all words in place of one, that ccxt reads at a venue, or at one *part* of it."""
    table: Mapping[str, Any] = getattr(ccxt, name)().exceptions
    return {*table["exact"], *table.get(part, {}).get("exact", {})}


@pytest.mark.parametrize(
    ("name", "part", "codes"),
    [
        ("mexc", "linear", mexc_codes.KNOWN),
        ("binanceusdm", "linear", binance_codes.KNOWN),
        ("bybit", "linear", bybit_codes.KNOWN),
        ("okx", "linear", okx_codes.KNOWN),
        ("mexc", "spot", spot_codes.MEXC),
        ("binance", "spot", spot_codes.BINANCE),
    ],
)
def test_every_code_that_ccxt_knows_has_a_reading(name: str, part: str, codes: Codes) -> None:
    """Or it is unknown on purpose, or another service's, and either with its reason."""
    assert sorted(code for code in of_ccxt(name, part) if not codes.covers(code)) == []
    assert set(codes.meanings) & set(codes.unknown) == set()


UNSEEN: list[tuple[type[Loopback], str, Reply]] = [
    (mexc.Mexc, "order/create", Reply(200, {"success": False, "code": 429, "message": "too many requests"})),
    (mexc.Mexc, "order/create", Reply(200, {"code": 429})),
    (mexc.Mexc, "order/create", Reply(200, {"success": False, "code": 510, "message": "Requests are too frequent!"})),
    (bybit.Bybit, "order/create", Reply(200, {"retCode": 10018, "retMsg": "exceed ip rate limit", "result": {}})),
    (bybit.Bybit, "order/create", Reply(200, {"retCode": 10006, "retMsg": "Too many visits!", "result": {}})),
    (bybit.Bybit, "order/create", Reply(429, {"retCode": 10429, "retMsg": "System level frequency protection"})),
    (binance.Binance, "fapi/v1/order", Reply(400, {"code": -4202, "msg": "Intermediate Personal Verification"})),
    (binance.Binance, "fapi/v1/order", Reply(429, {"code": -1, "msg": "Too many requests. Please try again later."})),
]


@pytest.mark.parametrize(("kind", "path", "reply"), UNSEEN)
def test_an_order_that_was_turned_away_unseen_is_not_asked_after(
    tmp_path: Path, kind: type[Loopback], path: str, reply: Reply
) -> None:
    """It certainly does not exist. There were 43 to 241 requests, for 10 to 73 s."""
    with desk_at(kind(tmp_path / "exchange.db"), tmp_path, asynchronous=False) as desk:
        desk.hold()
        desk.connect(denies_for=2.0)  # for so long an order of which nobody knows would be asked after
        guard = desk.guard(timeout=2.0)  # for so long a venue that asks for time is waited for
        guard.track(Position("p1", SYMBOL, "long", 10, 60_000), verify=False)
        desk.venue.strike(Fault(path, reply, method="POST", times=10**6))
        before = len(desk.venue.requests)
        with pytest.raises(CloseUnsettled):
            guard.close_position("p1")
        requests = desk.venue.requests[before:]
        assert len([each for each in requests if each.method == "POST"]) <= 3
        assert len(requests) <= 31
