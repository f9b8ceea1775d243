"""How MEXC puts things: its envelope, its codes, its times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from loopback.connections import Refused, Reply
from loopback.samples import refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopback.mexc_books import Books

WORDS = refusals("mexc", status=200)


def good(*data: Any) -> dict[str, Any]:
    """A success; some say nothing else."""
    return {"success": True, "code": 0, **({"data": data[0]} if data else {})}


def refusal(what: Any, words: str = "") -> Reply:
    code, usual, status = WORDS[what]
    return Reply(status, {"success": False, "code": code, "message": words or usual})


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
