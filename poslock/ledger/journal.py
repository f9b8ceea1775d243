"""How far a close got: the values that the ledger keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal

Step: TypeAlias = Literal["intent", "sending", "filled", "swept", "booked"]


@dataclass(frozen=True, slots=True)
class CloseKey:
    """Which close: there is one per position and generation."""

    position_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One order of a close, or the intention to send it.

    ``expires_at_ms``, in venue time, is when its latest request can no longer be taken. ``filled`` is None until the
    order has ended at the venue and another attempt follows it.
    """

    number: int
    client_order_id: str
    contracts: Decimal
    expires_at_ms: int
    filled: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """The step a close is at, and its attempts in order."""

    step: Step
    attempts: tuple[Attempt, ...]
