"""How the answers of venues are read: numbers as they are written, and lists that are complete."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.errors import ExchangeUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_MOST_PAGES = 50


def decimal(number: object) -> Decimal:
    """A number in a venue's answer, as it is written there: a float's shortest form is what the JSON had."""
    if number is None or isinstance(number, bool):
        raise ValueError(f"{number!r} is no number")
    value = Decimal(str(number))
    if not value.is_finite():
        raise ValueError(f"{number!r} is no finite number")
    return value


def smallest(market: dict[str, Any]) -> Decimal:
    """The fewest contracts that a market order can be for, by ccxt's description of the market; 0 if it has none."""
    limits = market.get("limits") or {}
    least = [(limits.get(kind) or {}).get("min") for kind in ("amount", "market")]
    return max((decimal(each) for each in least if each is not None), default=Decimal(0))


async def every_page(ask: Callable[[int], Awaitable[Sequence[Any]]], size: int) -> list[Any]:
    """All that a venue lists in pages of *size*, the first one is 1; never a part of it.

    Raises:
        ExchangeUnavailable: there is more than can be read in reasonable time.
    """
    found: list[Any] = []
    for number in range(1, _MOST_PAGES + 1):
        page = await ask(number)
        found.extend(page)
        if len(page) < size:
            return found
    raise ExchangeUnavailable(f"the list has more than {_MOST_PAGES} pages of {size}")


def spans(since_ms: int, until_ms: int, longest_ms: int) -> list[tuple[int, int]]:
    """The time from *since_ms* to *until_ms*, cut into pieces that a venue can be asked about; both ends are inside."""
    starts = range(since_ms, until_ms + 1, longest_ms)
    return [(start, min(start + longest_ms - 1, until_ms)) for start in starts]
