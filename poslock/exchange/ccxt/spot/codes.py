"""The codes of Binance's and MEXC's spot APIs."""

from __future__ import annotations

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
from poslock.exchange.ccxt.codes import Codes, each

_HEARD = "the venue failed at a request that it had heard"
# Binance has one code for all that its engine refuses, and ccxt passes some of the words on without it.
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


_BINANCE_HAS_NONE = frozenset({"-2011", "-2013", "-2026"})
BINANCE = Codes(
    meanings={
        **each(OrderRefused, -1013, -1014, -1020, range(-1136, -1098), range(-1225, -1137), -2010),
        **each(KeysRefused, -1002, -1022, -2014, -2015),
        **each(RateLimited, -1003, -1015),
        **each(UnderMaintenance, -1016),
        **each(RequestExpired, -1021),
        **_WORDS,
    },
    unknown={
        **dict.fromkeys(("-1000", "-1001", "-1006", "-1007", "-1008", "-1010"), _HEARD),
        "Unknown error, please check your request": "whatever code it comes with",
    },
    no_such_order=_BINANCE_HAS_NONE,
    ended=_BINANCE_HAS_NONE,
)
_MEXC_HAS_NONE = frozenset({"-2011", "-2013", "22222", "30026"})
# What it says to a client order id that is known already is documented nowhere.
MEXC = Codes(
    meanings={
        **each(OrderRefused, -1121, -1128, 26, 400, 10007, 10095, 10096, 10097, 10098, 10102, 30001, 30002, 30003),
        **each(OrderRefused, 30010, 30014, 30018, 30019, 30020, 30021, range(30027, 30030), 30032, 30041, 30087, 33333),
        **each(OrderRefused, 44444, 60005, 70011, 700004, 700005, 700008, 700013),
        **each(NothingToReduce, 30004, 30005, 10101),  # or it is locked: the balance tells
        **each(UnderMaintenance, 30000, 30016),
        **each(NotServed, 403, 30025),
        **each(KeysRefused, 401, 602, 10001, 10072, 700001, 700002, 700006, 700007),
        **each(RateLimited, 429),
        **each(RequestExpired, 10073, 700003),
    },
    unknown=dict.fromkeys(("500", "503", "504", "20002"), _HEARD),
    no_such_order=_MEXC_HAS_NONE,
    ended=_MEXC_HAS_NONE,
)
