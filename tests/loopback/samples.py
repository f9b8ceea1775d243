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
from typing import Any


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
