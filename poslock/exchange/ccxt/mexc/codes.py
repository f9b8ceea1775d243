"""MEXC's codes of its contract API. Source: its documentation, and ccxt's table."""

from __future__ import annotations

from poslock.errors import (
    DuplicateClientOrderId,
    KeysRefused,
    NothingToReduce,
    NotServed,
    OrderRefused,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    UnderMaintenance,
)
from poslock.exchange.ccxt.codes import Codes, each

_HEARD = "the venue failed at a request that it had heard"
KNOWN = Codes(
    # None says that the price has passed a trigger price: 3004 ("Trigger price error") may be a malformed one as well.
    meanings={
        **each(OrderRefused, 400, 600, 601, range(1001, 1005), range(2001, 2008), 2011, 2012, 2014, 2015, 2016, 2018),
        **each(OrderRefused, 2019, range(2021, 2025), range(2027, 2034), 2036, 2049, 2051, 2057, range(3001, 3016)),
        **each(OrderRefused, range(5001, 5007), 6001, 6002, 7003, 7004, 7008, 8817, 8917, 8920, 8930, 8932),
        **each(OrderRefused, 8934, range(9069, 9072), 9998, 200005, 200006),
        **each(KeysRefused, 401, 402, 403, 406, 511, 602, range(701, 705), 1000),
        "HTTP 403": KeysRefused,  # from the gate, which does not let this address in
        **each(RateLimited, 429, 510, 2013, 2037),
        **each(UnderMaintenance, 604, 801, 8921, 8922, 9068),
        **each(RequestExpired, 513),
        **each(DuplicateClientOrderId, 2042),
        **each(NotServed, 7002, 2056),  # the other mode; another market close is under way
        # Which of the two it is, the position tells: `Mexc._close` looks.
        **each(ReduceOnlyBlocked, 2008, 7005),
        **each(NothingToReduce, 2009, 2043),
    },
    unknown={
        **dict.fromkeys(("500", "501", "503", "504", "506", "9999"), _HEARD),
        "603": "a repeated request: the first one may have been taken",
    },
    elsewhere={
        "the spot API, wallets, margin": (range(-3000, 0), range(10_000, 10**6), range(26, 27)),
    },
    no_such_order=frozenset({"2040"}),
    ended=frozenset({"0", "2040", "2041", "5002"}),
    wrong_mode=frozenset({"7002"}),
    names=(("code", "message"),),
    fine=frozenset(),
)
