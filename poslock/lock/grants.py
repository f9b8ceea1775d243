"""What a contender asks for, and what it gets: values of the transitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from poslock.lock.record import Content, Record

if TYPE_CHECKING:
    from poslock.holder import Holder, Intent


class Request(NamedTuple):
    """What a contender asks for. ``token_floor`` is the lowest token that will do, ``intent`` is that of the holder."""

    lease_ns: int
    purpose: str
    token_floor: int
    shared: bool
    intent: Intent = "other"


class Grant(NamedTuple):
    """What an acquire got, and who was broken for it."""

    holder: Holder
    recovered_from: Holder | None


@dataclass(frozen=True, slots=True)
class Denied:
    """Why an acquire got nothing, and who has it, where known.

    ``busy``: nobody could even look. ``perhaps``: a grant that was written while the file was being replaced; `adopts`
    tells, once it was, whether the copy has it.
    """

    why: str
    holder: Holder | None
    busy: bool = False
    perhaps: Grant | None = None


def is_of(holder: Holder, grant: Grant) -> bool:
    """Whether *holder* is the one whom *grant* made."""
    # Not the token alone: in a wiped directory, under a clock that went back, a token can come a second time.
    # (test_equal_tokens_are_not_enough)
    mine = grant.holder
    return holder.token == mine.token and holder.presence == mine.presence and holder.granted_ns == mine.granted_ns


def carries(content: Content, grant: Grant) -> bool:
    """Whether a record still says that *grant* holds."""
    if not isinstance(content, Record) or content.state != "held":
        return False
    return any(is_of(each, grant) for each in content.holders)
