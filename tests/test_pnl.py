# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poslock import Fill, Position
from poslock.pnl import realized_pnl


def fill(price: Any, contracts: Any, fee: Any = 0, currency: str = "USDT") -> Fill:
    return Fill("1", None, Decimal(price), Decimal(contracts), Decimal(fee), currency, 0)


def test_a_long_gains_when_the_price_rises() -> None:
    """(61000 - 60000) x 10 contracts of 0.001 BTC = 10; less 0.3 to open and 0.305 to close, plus 0.1 funding."""
    position = Position("a", "BTC/USDT", "long", 10, 60000, contract_size="0.001", entry_fee="0.3")
    pnl = realized_pnl(position, [fill(61000, 10, "0.305")], Decimal("0.1"))
    assert (pnl.gross, pnl.fees, pnl.funding, pnl.net) == (10, Decimal("0.605"), Decimal("0.1"), Decimal("9.495"))


def test_a_short_gains_when_the_price_falls() -> None:
    """(0.5 - 0.4) x 1000 = 100."""
    position = Position("a", "X/USDT", "short", 1000, "0.5")
    assert realized_pnl(position, [fill("0.4", 1000)], Decimal(0)).gross == 100


def test_partial_fills_add_up() -> None:
    """Each fill counts at its own price; the exit price is their average."""
    position = Position("a", "X/USDT", "long", 3, 100)
    pnl = realized_pnl(position, [fill(101, 1), fill(103, 2)], Decimal(0))
    assert pnl.gross == 7
    assert pnl.exit_price == Decimal("102.3333333333333333333333333")


def test_fees_in_another_currency_are_not_mixed_in() -> None:
    """There is no honest rate between them."""
    position = Position("a", "X/USDT", "long", 2, 100)
    assert realized_pnl(position, [fill(100, 1, 1), fill(100, 1, 5, "BNB")], Decimal(0)).fees == 1


def test_inverse_contracts_settle_in_the_base_currency() -> None:
    """100 contracts of 1 USD from 50000 to 60000: 100 x (1/50000 - 1/60000) = 1/3000 BTC, to 12 places."""
    position = Position("a", "BTC/USD", "long", 100, 50000, inverse=True, settle="BTC")
    assert realized_pnl(position, [fill(60000, 100, 0, "BTC")], Decimal(0)).gross == Decimal("0.000333333333")
    short = Position("a", "BTC/USD", "short", 100, 50000, inverse=True, settle="BTC")
    assert realized_pnl(short, [fill(60000, 100, 0, "BTC")], Decimal(0)).gross == Decimal("-0.000333333333")


amounts = st.decimals(min_value="1e-8", max_value="1e12", places=8)


@given(amounts, amounts, st.lists(st.tuples(amounts, amounts), min_size=1, max_size=20))
def test_linear_pnl_is_exact(entry: Decimal, size: Decimal, fills: list[tuple[Decimal, Decimal]]) -> None:
    """Long and short of the same fills cancel out to the last digit, and fractions agree."""
    pnls = [
        realized_pnl(
            Position("a", "X/USDT", side, 1, entry, contract_size=size),
            [fill(*each) for each in fills],
            Decimal(0),
        )
        for side in ("long", "short")
    ]
    assert pnls[0].gross == pnls[1].gross.copy_negate()  # a plain minus would round

    moved = sum((Fraction(price) - Fraction(entry)) * Fraction(contracts) for price, contracts in fills)
    assert Fraction(pnls[0].gross) == moved * Fraction(size)
