"""Bybit's codes. Source: the documentation of its API v5, and ccxt's table."""

from __future__ import annotations

from poslock.errors import (
    DuplicateClientOrderId,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    RateLimited,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)
from poslock.exchange.ccxt.codes import Codes, each

# 10001 is any bad parameter; with these words it is the mode of the symbol.
_WRONG_MODE = "position idx not match position mode"

KNOWN = Codes(
    meanings={
        **each(OrderRefused, 7001, 10001, 10017, 10020, 10027, 10028, 10029, 30228, 100028, 110001),
        **each(OrderRefused, range(110003, 110074), 110094, 110118, 110124, 110132, 110137),
        **each(OrderRefused, 130006, 130021, 130074, 130075),
        _WRONG_MODE: NotServed,
        **each(KeysRefused, 10003, 10004, 10005, range(10007, 10011), 10024, 33004),
        # By key, by address, and by the whole system. Its gate answers without a code, then 403 is an address that asks
        # too often, or one of a country that is not served.
        **each(RateLimited, 429, 10006, 10018, 10429),
        "HTTP 403": RateLimited,
        **each(UnderMaintenance, 110063, 110071, 110074, 110095),
        **each(RequestExpired, 10002, -1),
        # "expect Rising, but trigger_price <= current", and the reverse.
        **each(StopWouldTrigger, 110092, 110093),
        **each(DuplicateClientOrderId, 110030, 110072),
        **each(NothingToReduce, 110017, 110034, 130125),
    },
    unknown={
        **dict.fromkeys(("5004", "10000", "10016"), "the venue failed at a request that it had heard, or was late"),
        "10014": "a repeated request: the first one may have been taken",
        "40004": "the order is being changed by something else",
        "110079": "the order is being carried out",
    },
    elsewhere={
        "older APIs and websockets": (range(-10_010, -1), range(20_001, 35_016), range(340_099, 340_100)),
        "older APIs' wallets": (range(3_100_116, 3_400_046),),
        "leveraged tokens, wallets": (range(12_137, 12_202), range(131_001, 131_233)),
        "inverse contracts, spot, spreads, lending, margin": (range(140_001, 140_071), range(170_001, 182_001)),
    },
    ended=frozenset({"110001", "110008", "110010"}),
    wrong_mode=frozenset({_WRONG_MODE}),
    # By the gate, "wait for at least 10 minutes"; by the count of 5 seconds.
    bans={"HTTP 403": 600.0, "10018": 5.0},
    names=(("retCode", "retMsg"), ("ret_code", "ret_msg")),
)
