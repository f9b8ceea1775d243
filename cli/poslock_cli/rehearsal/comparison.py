"""What was booked, held against what the venue says: each a finding."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from poslock.position import EXACT
from poslock_cli.account import amount
from poslock_cli.findings import Finding, ok, refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from poslock import ClosedPosition
    from poslock_cli.rehearsal.wire import Deal

LOOK_AT_VENUE = "look at the venue, and tell the authors of poslock"
# Their own account of the P&L has four places at the coarsest; executions are told in full, in floats at MEXC.
_SAME_PNL, _SAME = Decimal("0.0001"), Decimal("1e-8")


def orders(deals: Sequence[Deal], accepted: Collection[str], contracts: Decimal) -> Finding:
    """Whether one order, of those that were *accepted*, sold all that was bought, and nothing else was traded."""
    found = sorted({each.order_id for each in deals if each.side == "sell"})
    sold, bought = size(deals, "sell"), size(deals, "buy")
    if len(found) != 1 or sold != contracts or bought != contracts:
        what = f"{len(found)} closing orders filled {amount(sold)} of {amount(contracts)} contracts"
        return refused("one order", f"{what}, {amount(bought)} were bought: {', '.join(found)}", LOOK_AT_VENUE)
    if accepted and set(found) != set(accepted):
        return refused("one order", f"{found[0]} filled, {', '.join(sorted(accepted))} was accepted", LOOK_AT_VENUE)
    return ok("one order", f"{found[0]} filled all {amount(sold)} contracts, and no other order did")


def executions(closed: ClosedPosition, deals: Sequence[Deal]) -> list[Finding]:
    """Fees, those of the entry too, and what the exits were worth in the price."""
    sold = total(each.price * each.contracts for each in deals if each.side == "sell")
    booked = total(fill.price * fill.contracts for fill in closed.fills)
    fees = total(each.fee for each in deals)
    return [
        _same("fees", closed.fees, fees, "its executions", _SAME),
        _same("fills", booked, sold, "its executions, price times contracts", _SAME),
    ]


def net(closed: ClosedPosition, rows: Sequence[Decimal]) -> Finding:
    """The net P&L. Whether funding is in the venue's account of it differs, and mostly there is none."""
    if not rows:
        why = f"booked {amount(closed.net_pnl)}; the venue's own account of the P&L shows nothing"
        return refused("P&L", why, LOOK_AT_VENUE)
    found = total(rows)
    wanted = (closed.net_pnl, EXACT.subtract(closed.net_pnl, closed.funding))
    nearest = min(wanted, key=lambda each: abs(found - each))
    return _same("P&L", nearest, found, "its own account of the P&L, fees and all", _SAME_PNL)


def size(deals: Sequence[Deal], side: str) -> Decimal:
    """Contracts that were bought, or sold."""
    return total(each.contracts for each in deals if each.side == side)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum."""
    found = Decimal(0)
    for each in amounts:
        found = EXACT.add(found, each)
    return found


def _same(what: str, booked: Decimal, found: Decimal, where: str, within: Decimal) -> Finding:
    said = f"booked {amount(booked)}, the venue says {amount(found)} ({where})"
    return ok(what, said) if abs(booked - found) <= within else refused(what, said, LOOK_AT_VENUE)
