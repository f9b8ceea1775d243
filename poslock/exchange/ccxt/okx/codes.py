"""OKX's codes. Source: the documentation of its API v5, and ccxt's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from poslock.errors import (
    DuplicateClientOrderId,
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

if TYPE_CHECKING:
    from collections.abc import Mapping

# 51000 is any bad parameter; of this one it is the mode of the account.
_WRONG_MODE = "Parameter posSide"
_NO_SUCH_ORDER = "51603"


class _Codes(Codes):
    def read(self, body: Mapping[str, Any]) -> tuple[str | None, str]:
        """The code of the first row that failed, else that of the whole answer.

        Of several cancels that an order has ended is said only if nothing worse has befallen another one.
        """
        rows = body.get("data")
        failed = [
            row
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict) and row.get("sCode", "0") not in {"0", ""}
        ]
        for row in sorted(failed, key=lambda row: row["sCode"] in self.ended):
            return Codes.read(self, {"code": row["sCode"], "msg": row.get("sMsg", "")})
        return Codes.read(self, body)


KNOWN = _Codes(
    meanings={
        **each(OrderRefused, 50000, 50002, range(50006, 50011), 50012, range(50014, 50017), 50024, 50025),
        **each(OrderRefused, range(50027, 50030), 50032, 50033, 50044, 50051, 50052, 50060, 50115),
        **each(OrderRefused, range(51000, 51011), 51012, 51014, 51015, range(51017, 51021), range(51024, 51027), 51031),
        **each(OrderRefused, 51037, range(51046, 51054), range(51072, 51075), 51087, 51088, range(51090, 51112)),
        **each(OrderRefused, 51116, range(51118, 51127), range(51128, 51140), 51150, 51155, 51156, 51159, 51162, 51163),
        **each(OrderRefused, 51166, 51174, 51185, range(51201, 51206), range(51250, 51277), range(51281, 51310)),
        **each(OrderRefused, range(51321, 51331), range(51400, 51411), 51416, range(51600, 51604)),
        **each(OrderRefused, 54000, 54001, 54008, 54009, 54011, 54051, 54073, 54074, 54094),
        _WRONG_MODE: NotServed,
        **each(KeysRefused, 50030, 50035, 50100, 50101, range(50103, 50112), 50113, 50114, range(50119, 50122)),
        **each(RateLimited, 50011, 50040, 50061, 51113),
        **each(UnderMaintenance, 50005, range(50017, 50024), 50046, 50062, 51021, 51022, range(51027, 51031), 54072),
        **each(RequestExpired, 50036, 50037, 50102, 50112),
        **each(DuplicateClientOrderId, 51011, 51016, 51065, 51068),
        **each(NothingToReduce, 51023, 51127, 51169, 51170),
        # "TP trigger price can not be higher than the last price", and the other three of its kind.
        **each(StopWouldTrigger, range(51277, 51281)),
        # Which of the two it is, the position tells: `Okx._close` looks.
        **each(ReduceOnlyBlocked, 51112, 51115, 51117, 51148, 51165, 51168, 51206),
    },
    unknown={
        **dict.fromkeys(("1", "2"), "some or all of a request failed: the codes in its rows say what"),
        "50001": "the matching engine is away, behind a gate that has let the order in",
        **dict.fromkeys(("50004", "50013", "50026"), "the venue failed at a request that it had heard, or was late"),
        "50042": "a repeated request: the first one may have been taken",
        **dict.fromkeys(("51032", "51054", "51149"), "the venue was late: the order may come yet"),
        "51412": "of a conditional order that is triggering",
    },
    elsewhere={
        "websockets, passkeys": (range(1009, 1010), range(4001, 4089), range(60_001, 64_009)),
        "orders that are amended, which none is here": (range(51_500, 51_512),),
        "earning, copying, brokers": (range(51_732, 51_775), range(52_000, 52_001), range(55_100, 55_114)),
        "funding, sub-accounts, settings, blocks and grids": (range(58_000, 59_999), range(70_010, 70_068)),
    },
    no_such_order=frozenset({_NO_SUCH_ORDER}),
    # Or is about to end.
    ended=frozenset({"51400", "51401", "51402", "51410", "51416", _NO_SUCH_ORDER}),
    wrong_mode=frozenset({_WRONG_MODE}),
)
