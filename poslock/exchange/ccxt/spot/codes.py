"""The codes of Binance's and MEXC's spot APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    RateLimited,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


_NO_ERROR = {"None", "0", "200"}

# Binance has one code for all that its engine refuses, ccxt passes some of the words on without it, and there are words
# that say that nobody knows, whatever code they come with.
_UNKNOWN = "Unknown error, please check your request"
_WORDS: dict[str, type[ExchangeError]] = {
    "Account has insufficient balance": NothingToReduce,  # or it is locked: the balance tells
    "Duplicate order sent": DuplicateClientOrderId,
    "Market is closed": UnderMaintenance,
    "System is under maintenance": UnderMaintenance,
    "Too many requests. Please try again later": RateLimited,
    "Rest API trading is not enabled": KeysRefused,
    "You don't have permission": KeysRefused,
    "would trigger immediately": StopWouldTrigger,
    "This account may not place or cancel orders": OrderRefused,
    "This order type is not possible": OrderRefused,
    "Filter failure": OrderRefused,
}


def _each(meaning: type[ExchangeError], codes: Iterable[int]) -> dict[str, type[ExchangeError]]:
    return dict.fromkeys(map(str, codes), meaning)


# Not here, so that their outcome is unknown: -1000, -1001, -1006, -1007, -1008, -1010, and what is documented nowhere.
BINANCE: dict[str, type[ExchangeError]] = {
    **_each(OrderRefused, (-1013, -1014, -1020, *range(-1136, -1098), *range(-1225, -1137), -2010)),
    **_each(KeysRefused, (-1002, -1022, -2014, -2015)),
    **_each(RateLimited, (-1003, -1015)),
    **_each(UnderMaintenance, (-1016,)),
    **_each(RequestExpired, (-1021,)),
    **_WORDS,
}
# Not here, so that their outcome is unknown: 500, 503, 504, 20002, and what is documented nowhere; so what it says to a
# client order id that is known already.
MEXC: dict[str, type[ExchangeError]] = {
    **_each(OrderRefused, (-1121, -1128, 26, 400, 10007, 10095, 10096, 10097, 10098, 10102)),
    **_each(OrderRefused, (30001, 30002, 30003, 30010, 30014, 30018, 30019, 30020, 30021, *range(30027, 30030))),
    **_each(OrderRefused, (30032, 30041, 30087, 33333, 44444, 60005, 70011, 700004, 700005, 700008, 700013)),
    **_each(NothingToReduce, (30004, 30005, 10101)),  # or it is locked: the balance tells
    **_each(UnderMaintenance, (30000, 30016)),
    **_each(NotServed, (403, 30025)),
    **_each(KeysRefused, (401, 602, 10001, 10072, 700001, 700002, 700006, 700007)),
    **_each(RateLimited, (429,)),
    **_each(RequestExpired, (10073, 700003)),
}


def binance_code(body: dict[str, Any]) -> tuple[str | None, str]:
    """Binance's code and words; where its words decide and not the code, they are the code."""
    words = str(body.get("msg", ""))
    for deciding in (_UNKNOWN, *_WORDS):
        if deciding in words:
            return deciding, words
    return _code(body), words


def mexc_code(body: dict[str, Any]) -> tuple[str | None, str]:
    """MEXC's code and words."""
    return _code(body), str(body.get("msg", ""))


def _code(body: dict[str, Any]) -> str | None:
    found = str(body.get("code"))
    return None if found in _NO_ERROR else found
