"""Position ids and the lock file names made from them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from poslock.errors import InvalidPositionId

MAX_LENGTH = 128
_SLUG_LENGTH = 40
_NOT_SLUG = re.compile(r"[^A-Za-z0-9]+")


def check_position_id(position_id: object) -> str:
    """Return *position_id* if it is 1 to 128 characters of text without control characters.

    Raises:
        InvalidPositionId: it is not.
    """
    if not isinstance(position_id, str):
        raise InvalidPositionId(position_id, f"must be a string, not {type(position_id).__name__}")
    if not 1 <= len(position_id) <= MAX_LENGTH:
        raise InvalidPositionId(position_id, f"must have 1 to {MAX_LENGTH} characters, has {len(position_id)}")
    if position_id.isascii() and position_id.isprintable():
        return position_id
    for character in position_id:
        # Cs: half a surrogate pair has no UTF-8 form, so no hash and no place in a record.
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise InvalidPositionId(position_id, f"contains {character!r}")
    return position_id


@lru_cache(maxsize=1024)
def lock_file_name(position_id: str) -> str:
    """``<slug>-<hash16>.lock``: the slug is for people, the hash alone tells positions apart."""
    slug = _NOT_SLUG.sub("-", position_id)[:_SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(position_id.encode()).hexdigest()[:16]
    return f"{slug or 'position'}-{digest}.lock"
