"""Who holds, or held, a lock."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from poslock.text import printable

Intent: TypeAlias = Literal["close", "change", "read", "other"]
"""What a holder holds the lock for. Only a guard says ``"close"``, ``"change"`` or ``"read"``."""


class Holder(NamedTuple):
    """One holder as it wrote itself into a lock record.

    ``granted_ns`` and ``renewed_ns`` are CLOCK_MONOTONIC of the boot that the record names; ``granted_at`` is
    wall-clock seconds since the epoch and is for people only. ``lease_ns`` is what this holder chose for itself.
    ``purpose`` is for people too: who waits for whom is decided by ``intent``.
    """

    pid: int
    host: str
    presence: str
    purpose: str
    token: int
    granted_at: float
    granted_ns: int
    renewed_ns: int
    lease_ns: int
    intent: Intent = "other"

    @property
    def ends_ns(self) -> int:
        """The monotonic time at which the lease runs out."""
        return self.renewed_ns + self.lease_ns

    def __str__(self) -> str:
        purpose = f" ({printable(self.purpose)})" if self.purpose else ""
        return f"PID {self.pid} on {printable(self.host)}{purpose}"
