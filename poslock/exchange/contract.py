"""What one contract of the paper exchange is worth, and what follows from it: notional value and average entry."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

# What `poslock.position.exact` lets in: a reported entry price must be good for a `Position`.
_PRICE_DIGITS = 30
_PRICE_PLACES = 18
_INVERSE_PLACES = Decimal("1e-12")


@dataclass(frozen=True, slots=True)
class Contract:
    """A linear contract is *size* units of the base currency, an inverse one of the quote currency."""

    size: Decimal
    inverse: bool
    settle: str

    def notional(self, price: Decimal, contracts: Decimal) -> Decimal:
        """Worth of *contracts* at *price* in the settle currency; of inverse ones rounded to 12 places."""
        if self.inverse:
            return (contracts * self.size / price).quantize(_INVERSE_PLACES)
        return price * contracts * self.size

    def average(self, entry: tuple[Decimal, Decimal], added: tuple[Decimal, Decimal]) -> Decimal:
        """Entry price of two amounts together, each (contracts, price), that gives the P&L of both."""
        (held, price), (more, at) = entry, added
        # Exact products and one division, rounded once: the bot's own average of the same entries is the same.
        with localcontext(Context(prec=250)):
            if self.inverse:  # its P&L goes by 1 / price
                mean = (held + more) * price * at / (held * at + more * price)
            else:
                mean = (held * price + more * at) / (held + more)
        return Context(prec=min(_PRICE_DIGITS, mean.adjusted() + 1 + _PRICE_PLACES)).plus(mean)
