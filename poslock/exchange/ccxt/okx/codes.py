"""OKX's codes."""

from __future__ import annotations

from typing import Any

from poslock.errors import (
    DuplicateClientOrderId,
    ExchangeError,
    KeysRefused,
    NothingToReduce,
    OrderRefused,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
    UnderMaintenance,
)

NO_SUCH_ORDER = "51603"
# Answers to a cancel of what has ended, or is about to.
ENDED = frozenset({"51400", "51401", "51402", "51410", "51416", NO_SUCH_ORDER})


def _codes(*numbers: int | range) -> list[str]:
    return [str(number) for each in numbers for number in (each if isinstance(each, range) else (each,))]


# Not here, so that their outcome is unknown: 50001, 50004, 50013, 50026, 50042 (duplicate request), 51032, 51054,
# 51149, 51412, and what is documented nowhere.
MEANINGS: dict[str, type[ExchangeError]] = {
    **dict.fromkeys(_codes(50036, 50037, 50102, 50112), RequestExpired),
    **dict.fromkeys(_codes(50030, 50035, 50100, 50101, range(50103, 50108), 50110, 50111, 50113, 50114), KeysRefused),
    **dict.fromkeys(_codes(range(50119, 50122)), KeysRefused),
    **dict.fromkeys(_codes(50011, 50040, 50061, 51113), RateLimited),
    **dict.fromkeys(_codes(50005, range(50017, 50024), 50046, 50062, 51021, 51022), UnderMaintenance),
    **dict.fromkeys(_codes(range(51027, 51031)), UnderMaintenance),
    **dict.fromkeys(_codes(51016, 51065, 51068), DuplicateClientOrderId),
    **dict.fromkeys(_codes(51023, 51127, 51169, 51170), NothingToReduce),
    # "TP trigger price can not be higher than the last price", and the other three of its kind.
    **dict.fromkeys(_codes(range(51277, 51281)), StopWouldTrigger),
    # Which of the two it is, the position tells: `Okx.place` looks.
    **dict.fromkeys(_codes(51112, 51115, 51117, 51148, 51165, 51168, 51206), ReduceOnlyBlocked),
    **dict.fromkeys(ENDED, OrderRefused),
    **dict.fromkeys(_codes(50000, 50002, 50006, 50007, 50008, 50009, 50012, range(50014, 50017)), OrderRefused),
    **dict.fromkeys(_codes(50024, 50025, range(50027, 50030), 50032, 50033, 50051, 50052, 50060), OrderRefused),
    **dict.fromkeys(_codes(range(51000, 51011), 51012, 51015, 51020, 51024, 51025, 51031, 51037), OrderRefused),
    **dict.fromkeys(_codes(range(51046, 51054), 51087, 51088, range(51100, 51107), 51109, 51110), OrderRefused),
    **dict.fromkeys(_codes(51116, 51120, 51121, 51124, 51131, 51135, 51136, 51150, 51155, 51174), OrderRefused),
    **dict.fromkeys(_codes(51201, 51202, 51203, 51205, range(51250, 51277), range(51281, 51310)), OrderRefused),
    **dict.fromkeys(_codes(51327, 51328), OrderRefused),
}


def read(body: dict[str, Any]) -> tuple[str | None, str]:
    """The code and the words of an answer that is an error."""
    rows = body.get("data")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("sCode", "0") not in {"0", ""}:
            return str(row["sCode"]), str(row.get("sMsg", ""))
    code = body.get("code")
    return (None if code in {None, "0"} else str(code)), str(body.get("msg", ""))
