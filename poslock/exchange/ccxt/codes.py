"""A venue's codes: what each means for an order that carried it, and why nobody knows of some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from poslock.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Codes:
    """``meanings`` by code, or by words that decide, whatever code they come with, or as ``"HTTP 403"`` by a status.

    ``unknown`` says of a code why it says nothing of what became of an order; ``elsewhere`` are codes of services that
    are not asked here, by what those are. A code that is nowhere leaves the outcome unknown as well; a test finds those
    that ccxt knows.

    ``no_such_order`` say of an order that is asked for that there is none, ``ended`` of one to be cancelled that it has
    ended. ``wrong_mode`` say that the position mode is another one than was read. ``bans`` turn away every request from
    this address, and for how many seconds if no answer says it.

    ``names`` are the fields of an answer that have its code and its words, ``fine`` the codes that are no error.
    """

    meanings: Mapping[str, type[ExchangeError]]
    unknown: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, Sequence[range]] = field(default_factory=dict)
    no_such_order: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    wrong_mode: frozenset[str] = frozenset()
    bans: Mapping[str, float] = field(default_factory=dict)
    names: Sequence[tuple[str, str]] = (("code", "msg"),)
    fine: frozenset[str] = frozenset({"0", "200"})

    def read(self, body: Mapping[str, Any]) -> tuple[str | None, str]:
        """The code of an error, None if it has none, and its words; words that decide are the code."""
        code_name, words_name = next((each for each in self.names if each[0] in body), self.names[0])
        code, words = body.get(code_name), str(body.get(words_name, ""))
        for known in (*self.unknown, *self.meanings):
            if not _is_number(known) and known in words:
                return known, words
        return (None if code is None or str(code) in self.fine else str(code)), words

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
