"""Binance's codes of USD-M futures."""

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
    StopWouldTrigger,
    UnderMaintenance,
)

# The same words come with various codes; they say that nobody knows.
_UNKNOWN, _UNAVAILABLE = "Unknown error, please check your request", "Service Unavailable."
_NO_ERROR = {"None", "0", "200"}


def _codes(*numbers: int) -> list[str]:
    return [str(-number) for number in numbers]


WRONG_MODE = frozenset(_codes(1106, 4060, 4061, 4062))
NO_SUCH_ORDER = frozenset(_codes(2011, 2013))

# Not here, so that their outcome is unknown: -1000, -1001, -1006, -1007, -1010, -2020, and what is documented nowhere.
MEANINGS: dict[str, type[ExchangeError]] = {
    **dict.fromkeys(_codes(1013, 1014, 1020, 1023, *range(1099, 1137)), OrderRefused),
    **dict.fromkeys(_codes(2010, 2018, 2019, 2023, *range(2025, 2029)), OrderRefused),
    **dict.fromkeys(_codes(*range(4000, 4089), 4104, 4109, *range(4120, 4145), 4164), OrderRefused),
    **dict.fromkeys(_codes(4183, 4184, 4192, 4210, 4211, *range(4400, 4404), *range(5021, 5044)), OrderRefused),
    **dict.fromkeys(_codes(1002, 1011, 1022, 2014, 2015, 2017), KeysRefused),
    **dict.fromkeys(_codes(1003, 1015), RateLimited),
    **dict.fromkeys([*_codes(1008, 1016), _UNAVAILABLE], UnderMaintenance),
    **dict.fromkeys(_codes(1021, 5028), RequestExpired),
    "-4131": NotServed,  # the best price is too far off at the moment
    "-2021": StopWouldTrigger,  # ORDER_WOULD_IMMEDIATELY_TRIGGER
    "-4116": DuplicateClientOrderId,
    "-4118": ReduceOnlyBlocked,
    # Flat, or covered by other orders: the position tells, and `BinanceUsdm.place` looks.
    **dict.fromkeys(_codes(2022, 2024), NothingToReduce),
}


def read(body: dict[str, Any]) -> tuple[str | None, str]:
    """The venue's code and words; where its words decide and not the code, they are the code."""
    words = str(body.get("msg", ""))
    for deciding in (_UNKNOWN, _UNAVAILABLE):
        if deciding in words:
            return deciding, words
    found = str(body.get("code"))
    return (None if found in _NO_ERROR else found), words
