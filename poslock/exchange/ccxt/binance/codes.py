"""Binance's codes of USD-M futures. Source: their documentation, and ccxt's table."""

from __future__ import annotations

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
from poslock.exchange.ccxt.codes import Codes, each

KEY_OR_ACCOUNT = "-2015"
_WRONG_MODE = frozenset({"-1106", "-4060", "-4061", "-4062"})
_NO_SUCH_ORDER = frozenset({"-2011", "-2013"})

# Where ccxt knows the words, it passes them on without their code.
_WORDS: dict[str, type[ExchangeError]] = {
    **dict.fromkeys(("System is under maintenance.", "Market is closed.", "Service Unavailable."), UnderMaintenance),
    "Too many requests. Please try again later.": RateLimited,
    **dict.fromkeys(("You are not authorized to execute", "API key does not exist"), KeysRefused),
    **dict.fromkeys(("Rest API trading is not enabled.", "You don't have permission."), KeysRefused),
    **dict.fromkeys(("Order would trigger immediately.", "Stop price would trigger immediately."), StopWouldTrigger),
    **dict.fromkeys(("Order would immediately match and take.", "Account has insufficient balance"), OrderRefused),
    **dict.fromkeys(("This account may not place or cancel orders.", "This action is disabled on"), OrderRefused),
    **dict.fromkeys(("Limit orders require GTC for", "This type of sub-account exceeds"), OrderRefused),
    **dict.fromkeys(("This symbol is restricted for", "This symbol is not permitted for"), OrderRefused),
}

KNOWN = Codes(
    meanings={
        **each(OrderRefused, -1013, -1014, -1020, -1023, range(-1136, -1098), -2010, -2011, -2013, -2016, -2018, -2019),
        **each(OrderRefused, -2023, range(-2028, -2024), range(-4088, -3999), -4104, -4109, range(-4144, -4119)),
        # What an account may not have, or not do yet: leverage, a mode of margin, a market.
        **each(OrderRefused, range(-4172, -4163), -4183, -4184, -4192, range(-4211, -4201), range(-4403, -4399), -4531),
        **each(OrderRefused, range(-5047, -5020)),
        **each(KeysRefused, -1002, -1005, -1011, -1022, -2014, -2015, -2017),
        **each(RateLimited, -1003, -1015),
        **each(UnderMaintenance, -1004, -1008, -1016),
        **each(RequestExpired, -1021, -5028),
        **each(NotServed, -4131),  # the best price is too far off at the moment
        **each(StopWouldTrigger, -2021),
        **each(DuplicateClientOrderId, -4116),
        **each(ReduceOnlyBlocked, -4118),
        # Flat, or covered by other orders: the position tells, and `BinanceUsdm._close` looks.
        **each(NothingToReduce, -2022, -2024),
        **dict.fromkeys(_WRONG_MODE, NotServed),
        **_WORDS,
    },
    unknown={
        **dict.fromkeys(("-1000", "-1001", "-1006", "-1007"), "the venue failed at a request that it had heard"),
        # These words come with various codes, and decide.
        **dict.fromkeys(("Unknown error, please check your request", "System abnormality"), "as -1000"),
        "-1010": "it says no more than that an error came",
        "-2020": "not filled: whether it was taken first is not documented",
        "-4117": "of a cancel: the conditional order is becoming an order of the book",
    },
    elsewhere={
        "orders that are cancelled together, transfers": (range(-2012, -2011), range(-4115, -4113)),
        "margin, wallets, portfolio margin": (range(-3999, -3000), range(-32_603, -6000)),
        "the settings of other services": (range(400_002, 200_003_904),),
    },
    no_such_order=_NO_SUCH_ORDER,
    ended=_NO_SUCH_ORDER,
    wrong_mode=_WRONG_MODE,
)
