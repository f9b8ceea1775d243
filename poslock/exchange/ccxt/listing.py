"""Lists of a venue that are complete: page by page, piece of time by piece of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.errors import ExchangeUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

T = TypeVar("T")
K = TypeVar("K")

_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of a venue, and how its pages are asked for.

    A page has ``rows`` at most, which ``size`` asks for. ``page`` says which: by its number; or by the field ``after``
    of the last row before it; or by what the answer has as its ``cursor``. ``between`` bound it in time, of which one
    question may be about ``span_ms``. What is in a list that ``shrinks`` goes away.
    """

    path: str
    rows: int
    page: str = "page"
    size: str = "limit"
    after: str | None = None
    cursor: str | None = None
    between: tuple[str, str] = ("startTime", "endTime")
    span_ms: int = 0
    shrinks: bool = False

    @property
    def first(self) -> int | None:
        """Which page is the first, None where it goes without saying."""
        return None if self.after or self.cursor else 1

    def following(self, found: Any, rows: Sequence[Mapping[str, Any]], page: Any) -> Any:
        """Which page comes after *page*, which was *found* with *rows*; None at the end."""
        if self.cursor:
            return (found.get(self.cursor) or None) if rows else None
        if len(rows) < self.rows:
            return None
        return rows[-1][self.after] if self.after else page + 1


async def every_page(ask: Callable[[K], Awaitable[tuple[Sequence[T], K | None]]], first: K) -> list[T]:
    """All rows of a list, never a part of it: *ask* gives those of a page, and which page is next, None at the end.

    Raises:
        ExchangeUnavailable: there is more than can be read in reasonable time.
    """
    found, page = list[T](), first
    for _ in range(_MOST_PAGES):
        rows, following = await ask(page)
        found.extend(rows)
        if following is None:
            return found
        page = following
    raise ExchangeUnavailable(f"the list has more than {_MOST_PAGES} pages")


def spans(since_ms: int, until_ms: int, longest_ms: int) -> list[tuple[int, int]]:
    """The time from *since_ms* to *until_ms*, cut into pieces that a venue can be asked about; both ends are inside."""
    starts = range(since_ms, until_ms + 1, longest_ms)
    return [(start, min(start + longest_ms - 1, until_ms)) for start in starts]


async def halved(ask: Callable[[int, int], Awaitable[list[T]]], full: int, start_ms: int, end_ms: int) -> list[T]:
    """All of that time, asked for in halves where *full* rows came: which end such a list leaves out nobody says.

    Raises:
        ExchangeUnavailable: there are as many in one millisecond.
    """
    found = await ask(start_ms, end_ms)
    if len(found) < full:
        return found
    if start_ms >= end_ms:
        raise ExchangeUnavailable(f"there are {full} trades in one millisecond, or more")
    middle_ms = (start_ms + end_ms) // 2
    before = await halved(ask, full, start_ms, middle_ms)
    return [*before, *(await halved(ask, full, middle_ms + 1, end_ms))]
