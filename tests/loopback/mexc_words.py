"""How MEXC puts things: its envelope, its codes, its times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from loopback.connections import Refused, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopback.mexc_books import Books

WORDS = {
    401: "no authority",
    510: "too many requests",
    513: "request time out of range",
    600: "parameter error",
    602: "wrong signature",
    801: "system maintenance",
    1001: "contract does not exist",
    1002: "contract not activated",
    2001: "order side error",
    2002: "open type error",
    2006: "leverage error",
    2008: "quantity is insufficient",
    2009: "position does not exist or is closed",
    2011: "order quantity error",
    2015: "precision error",
    2016: "trigger volume over the maximum",
    2028: "the maximum order quantity is exceeded",
    2029: "order type error",
    2030: "external order id is too long",
    2040: "order not exist",
    2041: "order state cannot be cancelled",
    2042: "duplicate order id",
    2043: "order does not match the position",
    3002: "trigger type error",
    3003: "trigger cycle error",
    3004: "trigger price error",
    5001: "take-profit and stop-loss are both empty",
    5002: "stop order does not exist or is closed",
    5003: "stop price error",
    5004: "quantity exceeds what can be closed",
    6003: "time range exceeds 90 days",
    7002: "position mode mismatch",
    7003: "open type mismatch",
    7005: "quantity for closing is insufficient, check positions and orders",
}
CODES = {
    **dict.fromkeys(("number", "price", "page"), 600),
    **dict.fromkeys(("size", "smallest"), 2011),
    **dict.fromkeys(("step", "tick"), 2015),
    **dict.fromkeys(("time", "stamp"), 513),
    "symbol": 1001,
    "largest": 2028,
    "largest trigger": 2016,
    "trigger": 3004,
    "stop": 5003,
    "client id": 2030,
    "span": 6003,
    "key": 401,
    "signature": 602,
}


def good(*data: Any) -> dict[str, Any]:
    """A success; some say nothing else."""
    return {"success": True, "code": 0, **({"data": data[0]} if data else {})}


def refusal(code: int, words: str = "") -> Reply:
    return Reply(200, {"success": False, "code": code, "message": words or WORDS[code]})


def refuse(code: int) -> NoReturn:
    raise Refused(refusal(code))


def page(
    books: Books, rows: Sequence[Any], most: int = 100, names: tuple[str, str] = ("page_num", "page_size")
) -> Sequence[Any]:
    """One page of a list; of 20 unless asked for more."""
    told: Sequence[Any] = books.venue.paged(books.said, rows, 20, most, names)
    return told


def whole_seconds(at_ms: int, number: int) -> int:
    """A time as most rows tell it: for even numbers the whole second before it, for odd ones the one after it."""
    return (at_ms + number % 2 * 999) // 1000 * 1000
