"""Bybit's codes."""

from __future__ import annotations

from typing import Any

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    KeysRefused,
    NothingToReduce,
    OrderRefused,
    RateLimited,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)

# Answers to a cancel of what has ended.
ENDED = frozenset({"110001", "110008", "110010"})

# Not here, so that their outcome is unknown: 429, 5004, 10000, 10014 (duplicate request), 10016, 40004, 110079, and
# what is documented nowhere.
MEANINGS: dict[str, type[ExchangeError]] = {
    **dict.fromkeys(("10002", "-1"), RequestExpired),
    **dict.fromkeys(("10003", "10004", "10005", "10007", "10008", "10009", "10010", "10024", "33004"), KeysRefused),
    # Its gate answers without a code. 403 is an address that asks too often, or one of a country that is not served.
    **dict.fromkeys(("10006", "HTTP 403"), RateLimited),
    **dict.fromkeys(("110063", "110074", "110095"), UnderMaintenance),
    # "expect Rising, but trigger_price <= current", and the reverse.
    **dict.fromkeys(("110092", "110093"), StopWouldTrigger),
    "110072": DuplicateClientOrderId,
    **dict.fromkeys(("110017", "110034", "130125"), NothingToReduce),
    **dict.fromkeys((*ENDED, "10001", "10017", "10027", "10028", "10029", "30228"), OrderRefused),
    **dict.fromkeys(("110003", "110004", "110005", "110006", "110007", "110009", "110012", "110018"), OrderRefused),
    **dict.fromkeys(("110020", "110021", "110023", "110032", "110037", "110040", "110042", "110044"), OrderRefused),
    **dict.fromkeys(("110045", "110049", "110051", "110052", "110053", "110057", "110066", "110069"), OrderRefused),
    **dict.fromkeys(("110094", "110118", "110124", "110132", "110137"), OrderRefused),
    **dict.fromkeys(("130074", "130075"), OrderRefused),
}


def read(body: dict[str, Any]) -> tuple[str | None, str]:
    """The code and the words of an answer that is an error."""
    code = body.get("retCode", body.get("ret_code"))
    return (None if code in {None, 0, "0"} else str(code)), str(body.get("retMsg", body.get("ret_msg", "")))
