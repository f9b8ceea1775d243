"""For how long a venue that was asked too often, or has banned this address, wants to be left alone.

Sources: Binance and MEXC spot send ``Retry-After`` in seconds with every 429 and 418, and Binance says until when an
address is banned; Bybit has ``X-Bapi-Limit-Reset-Timestamp``, in milliseconds of its clock. OKX and MEXC futures name
no time: their limits are for one or two seconds.

A time of the venue's is compared with the venue's clock, never with this machine's, which may be set wrongly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from poslock.exchange.port import LONGEST_BACK_OFF

if TYPE_CHECKING:
    from collections.abc import Mapping

BANNED = 418
# Binance: "from 2 minutes to 3 days".
SHORTEST_BAN = 120.0
# Also where the venue says less: who asks a second later asks a storm of ten seconds ten times.
_SHORTEST = 1.0
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")


@dataclass(slots=True)
class Heard:
    """The HTTP side of an answer: its status, 0 for none, and its headers by their names in lower case."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


def is_ban(heard: Heard, words: str) -> bool:
    """Whether the venue answers this address nothing at all any more."""
    return heard.status == BANNED or _BANNED_UNTIL.search(words) is not None


def back_off(heard: Heard, words: str, venue_ms: int | None, usual: float = _SHORTEST) -> float:
    """For how many seconds to ask no more; *usual* if the venue names no time.

    *words* are the venue's; *venue_ms* is its clock, None if it was never read.
    """
    told = _retry_after(heard)
    if told is None and (until := _until_ms(heard, words)) is not None:
        now_ms = _sent_ms(heard) if venue_ms is None else venue_ms
        told = None if now_ms is None else (until - now_ms) / 1000
    return min(max(usual if told is None else told, _SHORTEST), LONGEST_BACK_OFF)


def _retry_after(heard: Heard) -> float | None:
    # In seconds, as all venues write it; a date is allowed by the standard, and is for proxies.
    said = heard.headers.get("retry-after", "").strip()
    return float(said) if said.isascii() and said.isdigit() else None


def _until_ms(heard: Heard, words: str) -> int | None:
    if banned := _BANNED_UNTIL.search(words):
        return int(banned[1])
    said = heard.headers.get("x-bapi-limit-reset-timestamp", "")
    return int(said) if said.isascii() and said.isdigit() else None


def _sent_ms(heard: Heard) -> int | None:
    try:
        return int(parsedate_to_datetime(heard.headers.get("date", "")).timestamp() * 1000)
    except ValueError:
        return None
