"""The codes of Binance's and MEXC's spot APIs. Source: their documentation, and ccxt's tables."""

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
_SAYS_NO_MORE = "what it says may be of any service, and the documentation has no more"

# Binance has one code for all that its engine refuses, ccxt passes some of the words on without it, and there are words
# that say that nobody knows, whatever code they come with.
_UNKNOWN, _ABNORMAL = "Unknown error, please check your request", "System abnormality"
_WORDS: dict[str, type[ExchangeError]] = {
    "Account has insufficient balance": NothingToReduce,  # or it is locked: the balance tells
    "Duplicate order sent": DuplicateClientOrderId,
    "Too many requests. Please try again later": RateLimited,
    "would trigger immediately": StopWouldTrigger,
    **dict.fromkeys(("Market is closed", "System is under maintenance"), UnderMaintenance),
    **dict.fromkeys(("You are not authorized to execute", "API key does not exist"), KeysRefused),
    **dict.fromkeys(("Rest API trading is not enabled", "You don't have permission"), KeysRefused),
    **dict.fromkeys(("This account may not place or cancel orders", "This action is disabled on"), OrderRefused),
    **dict.fromkeys(("This order type is not possible", "Filter failure"), OrderRefused),
    **dict.fromkeys(("Order would immediately match and take", "Limit orders require GTC for"), OrderRefused),
    **dict.fromkeys(("This type of sub-account exceeds", "This symbol is restricted for"), OrderRefused),
    "This symbol is not permitted for": OrderRefused,
}

_BINANCE_HAS_NONE = frozenset({"-2011", "-2013", "-2026"})
BINANCE = Codes(
    meanings={
        **each(OrderRefused, -1013, -1014, -1020, range(-1136, -1098), range(-1225, -1137), -2010, -2016),
        **each(KeysRefused, -1002, -1022, -2008, -2014, -2015),
        **each(RateLimited, -1003, -1015),
        **each(UnderMaintenance, -1016),
        **each(RequestExpired, -1021),
        **_WORDS,
    },
    unknown={
        _UNKNOWN: "whatever code it comes with",
        **dict.fromkeys(("-1000", "-1001", "-1006", "-1007", _ABNORMAL), _HEARD),
        **dict.fromkeys(("-1004", "-1008"), "busy: whether it was taken first is not documented"),
        "-1010": "it says no more than that an error came",
    },
    elsewhere={
        "orders that are asked for, cancelled or replaced": (
            range(-2013, -2010),
            range(-2022, -2020),
            range(-2026, -2025),
        ),
        "margin, wallets, loans, futures": (range(-32_603, -2999),),
        "the settings of other services": (range(400_002, 200_003_904),),
    },
    no_such_order=_BINANCE_HAS_NONE,
    ended=_BINANCE_HAS_NONE,
)
_MEXC_HAS_NONE = frozenset({"-2011", "-2013", "22222", "30026"})
# What it says to a client order id that is known already is not documented.
MEXC = Codes(
    meanings={
        **each(OrderRefused, -1121, -1128, 26, 400, 10007, range(10095, 10099), 10102),
        **each(OrderRefused, range(30001, 30004), 30010, 30014, range(30018, 30022), range(30027, 30030)),
        **each(OrderRefused, 30032, 30041, 30087, 33333, 44444, 60005, 70011, 700004, 700005, 700008, 700013),
        **each(NothingToReduce, 30004, 30005, 10101),  # or it is locked: the balance tells
        **each(UnderMaintenance, 30000, 30016),
        **each(NotServed, 403, 30025),
        **each(KeysRefused, 401, 602, 10001, 10072, 700001, 700002, 700006, 700007),
        **each(RateLimited, 429),
        **each(RequestExpired, 10073, 700003),
    },
    unknown={
        **dict.fromkeys(("500", "501", "503", "504", "20002"), _HEARD),
        "603": "a repeated request: the first one may have been taken",
        **dict.fromkeys(("11444", "20001"), _SAYS_NO_MORE),
    },
    elsewhere={
        "orders that are asked for or cancelled": (range(-2013, -2010), range(22222, 22223), range(30026, 30027)),
        "the contract API": (range(402, 407), range(510, 602), range(604, 2012)),
        "wallets, transfers, margin": (range(10015, 10016), range(10099, 10269), range(88004, 88016)),
        "keys and sub-accounts": (range(140_001, 140_003), range(730_000, 730_708)),
    },
    no_such_order=_MEXC_HAS_NONE,
    ended=_MEXC_HAS_NONE,
)
