"""What `CcxtExchange` asks of a venue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from poslock.exchange.port import AsyncRequests

if TYPE_CHECKING:
    from poslock.exchange.ccxt.client import Dialect


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a venue says of an account and its key; None where it does not say.

    ``clock_ms`` is by how many milliseconds this machine's clock is ahead of the venue's.
    """

    clock_ms: int
    hedge: bool | None
    may_trade: bool | None
    may_withdraw: bool | None


class Venue(AsyncRequests, Protocol):
    """A venue's own ways, over one `Client`; with a client for threads nothing in it ever waits for a loop."""

    dialect: ClassVar[Dialect]
    denies_for: ClassVar[float]

    async def inspect(self) -> Inspection:
        """What `poslock doctor` says of the account."""
