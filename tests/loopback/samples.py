"""The rows that venues document, with all their fields, in ``samples``: a server says in them what it knows.

Sources: the samples in the venues' documentation of Bybit v5, OKX v5, Binance USD-M and spot, MEXC contract v1 and
spot v3, and those that ccxt 4.5.90 quotes from them.
"""

from __future__ import annotations

import json
from copy import deepcopy
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


class Refusal(NamedTuple):
    """A code of a venue, its words, and the status that it comes with."""

    code: int
    words: str
    status: int


@cache
def _of(venue: str) -> dict[str, dict[str, Any]]:
    path = Path(__file__).parent / "samples" / f"{venue}.json"
    samples: dict[str, dict[str, Any]] = json.loads(path.read_text(), parse_float=Decimal)
    return samples


def sample(venue: str, name: str, *said: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The row *name* that says so; a field that is documented nowhere is a `KeyError`."""
    row = deepcopy(_of(venue)[name])
    for fields in (*said, more):
        if unknown := fields.keys() - row.keys():
            raise KeyError(f"{venue} documents no {unknown} of {name}")
        row |= fields
    return row


def refusals(venue: str, *, status: int, table: str = "refusals") -> dict[Any, Refusal]:
    """By code, and by what is wrong: ``"-2015 key @401"`` is the code of a key that is not known, with that status."""
    told: dict[Any, Refusal] = {}
    for said, words in _of(venue)[table].items():
        code, *wrong = said.split()
        own = [int(each[1:]) for each in wrong if each.startswith("@")]
        refusal = Refusal(int(code), words, own[0] if own else status)
        told |= dict.fromkeys([refusal.code, *(each for each in wrong if not each.startswith("@"))], refusal)
    return told
