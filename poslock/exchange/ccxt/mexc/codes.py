"""MEXC's codes."""

from __future__ import annotations

from typing import Any

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    UnderMaintenance,
)

WRONG_MODE = frozenset({"7002"})
ENDED = frozenset({"0", "2040", "2041", "5002"})
NO_SUCH_ORDER = frozenset({"2040"})

# None says that the price has passed a trigger price: 3004 ("Trigger price error") may be a malformed one as well.
# Not here, so that their outcome is unknown: 500, 501, 503, 504, 506, 603 (repeated request), 9999.
MEANINGS: dict[str, type[ExchangeError]] = {
    **dict.fromkeys(("401", "402", "403", "406", "511", "602", "701", "702", "703", "704", "1000"), KeysRefused),
    "HTTP 403": KeysRefused,  # from the gate, which does not let this address in
    **dict.fromkeys(("510", "2013", "2037"), RateLimited),
    **dict.fromkeys(("604", "801", "8921", "8922", "9068"), UnderMaintenance),
    "513": RequestExpired,
    "2042": DuplicateClientOrderId,
    "2056": NotServed,  # another market close is under way
    # Which of the two it is, the position tells: `Mexc.place` looks.
    **dict.fromkeys(("2008", "7005"), ReduceOnlyBlocked),
    **dict.fromkeys(("2009", "2043"), NothingToReduce),
    **dict.fromkeys(map(str, (600, 601, *range(1001, 1005), *range(2001, 2008), 2011, 2015, 2016)), OrderRefused),
    **dict.fromkeys(map(str, (2021, 2022, *range(2027, 2034), 2036, 2049, 2051, 2057)), OrderRefused),
    **dict.fromkeys(map(str, (*range(3001, 3016), *range(5001, 5007), 6001, 6002)), OrderRefused),
    **dict.fromkeys(map(str, (7002, 7003, 7004, 7008, 8817, 8917, 8920, 8930, 8932, 8934)), OrderRefused),
    **dict.fromkeys(("9069", "9070", "9071", "9998", "200005", "200006"), OrderRefused),
}


def read(body: dict[str, Any]) -> tuple[str | None, str]:
    """The code and the words of an answer that is an error."""
    if body.get("success") is True or "code" not in body:
        return None, ""
    return str(body["code"]), str(body.get("message", ""))
