"""The verdict of the demo: what the exchange and the ledger say, held against the promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read back. ``tokens`` are those of the ledger's writes, in the order in which they were written."""

    closing_orders: int
    contracts_left: Decimal
    orders_left: int
    bookings: int
    booked_pnl: Decimal | None
    pnl_of_fills: Decimal
    tokens: tuple[int, ...]
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise: what was found, and whether it was kept."""

    kept: bool
    text: str


def judge(facts: Facts) -> Sequence[Finding]:
    """One finding per promise."""
    told = facts.told
    in_order = all(first <= second for first, second in zip(facts.tokens, facts.tokens[1:], strict=False))
    expected = sorted(["closed", "killed", "lock lost", *["already closed"] * (len(told) - 3)])
    answers = ", ".join(f"{told.count(each)} {each}" for each in dict.fromkeys(told))
    return (
        Finding(facts.closing_orders == 1, f"closing orders accepted: {facts.closing_orders}"),
        Finding(facts.contracts_left == 0, f"contracts left: {facts.contracts_left}"),
        Finding(facts.orders_left == 0, f"orders left: {facts.orders_left}"),
        Finding(facts.bookings == 1, f"P&L bookings: {facts.bookings}"),
        Finding(
            facts.booked_pnl == facts.pnl_of_fills,
            f"net P&L booked: {facts.booked_pnl}, by the exchange's fills: {facts.pnl_of_fills}",
        ),
        Finding(in_order, f"ledger writes: {len(facts.tokens)}, none after a newer fencing token: {in_order}"),
        Finding(sorted(told) == expected, f"bots told: {answers}"),
    )
