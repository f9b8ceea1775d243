"""Realized P&L of a close, from the venue's fills.

With s = +1 for a long and -1 for a short position, summed over the fills:

- linear:  gross = s · (exit price - entry price) · contracts · contract size, in the quote currency; exact.
- inverse: gross = s · (1 / entry price - 1 / exit price) · contracts · contract size, in the base currency; rounded
  half-even to 12 places once, at the end.

net = gross - fees + funding. The exit price is the mean of the fills weighted by size, harmonic for an inverse
contract, so that it gives the gross back. The legs of a hedge are two positions, each with its own fills.

The formulas are those that the venues publish: Kraken ("Calculation of profit and loss"), OKX ("Calculation of expiry
futures contracts' profit and loss") and BitMEX ("Inverse Futures Guide") for the gross, MEXC ("MEXC Futures Calculation
Guide": closing P&L + funding - opening fee - closing fee) for the net. ``tests/test_pnl.py`` has their own figures.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, localcontext
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.position import Fill, Position

_INVERSE_PLACES = Decimal("1e-12")
_PRICE_DIGITS = 28


class Pnl(NamedTuple):
    """Amounts in the position's settle currency; ``exit_price`` in the quote currency, None without fills."""

    exit_price: Decimal | None
    gross: Decimal
    fees: Decimal
    funding: Decimal
    net: Decimal


def realized_pnl(position: Position, fills: Sequence[Fill], funding: Decimal) -> Pnl:
    """P&L of *fills* against *position*, whose entry fee counts among the fees, pro rata where not all was closed.

    Fees in another currency than the position's are left out: there is no honest rate to turn them into one number.
    """
    # `exact` keeps each factor within 10**-18 and 10**48, so 250 digits hold every product; Inexact says if not.
    with localcontext(Context(prec=250, traps=[Inexact])):
        gross = _inverse_gross(position, fills) if position.inverse else _linear_gross(position, fills)
        gross += 0  # a short that ended where it began has gained 0, not -0
        fees = _entry_fee(position, fills)
        fees += sum((fill.fee for fill in fills if fill.fee_currency == position.settle), Decimal(0))
        net = gross - fees + funding
        exit_price = _exit_price(position, fills)
    return Pnl(exit_price, gross, fees, funding, net)


def part_of(fill: Fill, contracts: Decimal) -> Fill:
    """*fill*, or as much of it as *contracts*, with its share of the fee."""
    if fill.contracts <= contracts:
        return fill
    share = Context(prec=28).divide(fill.fee * contracts, fill.contracts)
    return replace(fill, contracts=contracts, fee=share)


def _entry_fee(position: Position, fills: Sequence[Fill]) -> Decimal:
    closed = sum((fill.contracts for fill in fills), Decimal(0))
    if closed == position.contracts:
        return position.entry_fee
    return Context(prec=_PRICE_DIGITS).divide(position.entry_fee * closed, position.contracts)


def _exit_price(position: Position, fills: Sequence[Fill]) -> Decimal | None:
    if not fills:
        return None
    return _harmonic_price(fills) if position.inverse else _mean_price(fills)


def _linear_gross(position: Position, fills: Sequence[Fill]) -> Decimal:
    moved = sum(((fill.price - position.entry_price) * fill.contracts for fill in fills), Decimal(0))
    return _sign(position) * moved * position.contract_size


def _inverse_gross(position: Position, fills: Sequence[Fill]) -> Decimal:
    with localcontext() as context:
        context.traps[Inexact] = False
        moved = sum(((1 / position.entry_price - 1 / fill.price) * fill.contracts for fill in fills), Decimal(0))
        return (_sign(position) * moved * position.contract_size).quantize(_INVERSE_PLACES, ROUND_HALF_EVEN)


def _mean_price(fills: Sequence[Fill]) -> Decimal:
    weighted = sum((fill.price * fill.contracts for fill in fills), Decimal(0))
    total = sum((fill.contracts for fill in fills), Decimal(0))
    return Context(prec=_PRICE_DIGITS).divide(weighted, total)


def _harmonic_price(fills: Sequence[Fill]) -> Decimal:
    with localcontext() as context:
        context.traps[Inexact] = False
        worth = sum((fill.contracts / fill.price for fill in fills), Decimal(0))
        total = sum((fill.contracts for fill in fills), Decimal(0))
        context.prec = _PRICE_DIGITS
        return (total / worth).normalize() + 0  # without the zeros that an inexact worth leaves; nor as 6E+4


def _sign(position: Position) -> int:
    return 1 if position.side == "long" else -1
