"""A venue's codes: what each means for an order that carried it, and why nobody knows of some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from poslock.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Codes:
    """``meanings`` by code; ``unknown`` says of a code why it says nothing of what became of an order.

    ``elsewhere`` are codes of services that are not asked here, by what those are. A code that is nowhere leaves the
    outcome unknown as well; a test finds those that ccxt knows.
    """

    meanings: Mapping[str, type[ExchangeError]]
    unknown: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, Sequence[range]] = field(default_factory=dict)

    def covers(self, code: str) -> bool:
        """Whether it was decided what *code*, or the words in place of one, say."""
        if code in self.unknown or any(known in code for known in self.meanings if not _is_number(known)):
            return True
        if not _is_number(code):
            return False
        number = int(code)
        return code in self.meanings or any(number in each for ranges in self.elsewhere.values() for each in ranges)


def each(meaning: type[ExchangeError], *numbers: int | range) -> dict[str, type[ExchangeError]]:
    """*meaning* for each of *numbers*."""
    ranges = [number if isinstance(number, range) else range(number, number + 1) for number in numbers]
    return {str(number): meaning for numbers in ranges for number in numbers}


def _is_number(code: str) -> bool:
    return code.removeprefix("-").isdigit()
