from __future__ import annotations

import contextlib
import pickle
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poslock import InvalidPosition, Position
from poslock.position import grown

GOOD: dict[str, Any] = {"id": "btc-1", "symbol": "BTC/USDT", "side": "long", "contracts": 1, "entry_price": "60000.5"}


def position(**changes: Any) -> Position:
    return Position(**{**GOOD, **changes})


def test_numbers_become_decimals() -> None:
    """Decimal, int and decimal strings are taken as they are."""
    made = position(contracts="0.001", contract_size=10, entry_fee=Decimal("-0.2"))
    assert (made.contracts, made.entry_price) == (Decimal("0.001"), Decimal("60000.5"))
    assert (made.contract_size, made.entry_fee) == (Decimal(10), Decimal("-0.2"))


@pytest.mark.parametrize("field", ["contracts", "entry_price", "contract_size"])
@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "-0.1",
        "NaN",
        "sNaN",
        "Infinity",
        0.1,
        1.0,
        float("nan"),
        True,
        None,
        "",
        "1,5",
        "ten",
        b"1",
        "1e400",
        "1" * 50,
    ],
)
def test_a_number_that_is_none_or_not_positive_is_refused(field: str, value: Any) -> None:
    """The error names the field; a float is refused even if it looks exact."""
    with pytest.raises(InvalidPosition, match=field) as caught:
        position(**{field: value})
    assert caught.value.field == field
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301  # our own


@pytest.mark.parametrize(
    "changes", [{"side": "buy"}, {"side": None}, {"symbol": ""}, {"symbol": "a\n"}, {"settle": 1}, {"inverse": 1}]
)
def test_other_fields_are_checked_too(changes: dict[str, Any]) -> None:
    """Sides are long and short; names are printable text."""
    with pytest.raises(InvalidPosition, match=next(iter(changes))):
        position(**changes)


@given(st.floats())
def test_no_float_is_ever_taken(value: float) -> None:
    """Not even one that is a whole number."""
    with pytest.raises(InvalidPosition, match="float is not exact"):
        position(contracts=value)


@given(st.text())
def test_any_text_is_a_number_or_a_clear_error(text: str) -> None:
    """Never a decimal exception."""
    with contextlib.suppress(InvalidPosition):
        assert position(entry_price=text).entry_price > 0


@pytest.mark.parametrize(
    ("inverse", "first", "second", "printed"),
    [
        # Bybit, "P&L calculations (USDT Contract)", 1: 5375.
        # https://help.bybit.com/hc/en-us/articles/900000630066-P-L-calculations-USDT-Contract-
        (False, ("0.5", 5000), ("0.3", 6000), "5375"),
        # KuCoin, "About USDT-Margined Futures", Entry Price, contracts of 0.001 BTC: 56,666.7.
        # https://kucoin.com/bn/support/26685254904601
        (False, (1000, 50000), (2000, 60000), "56666.7"),
        # Bitget, "Bitget Future Of PnL", Average entry price: 26,285.7 USDT.
        # https://www.bitget.cc/en-GB/support/articles/12560603797916
        (False, ("0.8", 25000), ("0.6", 28000), "26285.7"),
        # Bitget, "Bitget futures: How to calculate your average entry price": 30,666.67 USDT and 2060 USDC.
        # https://www.bitgetapp.com/asia/support/articles/12560603826531
        (False, ("0.1", 30000), ("0.2", 31000), "30666.67"),
        (False, (1, 2000), ("1.5", 2100), "2060"),
        # Bybit, "P&L calculations (Inverse Contracts)", 1: 5625.00 USD.
        # https://help.bybit.com/hc/en-us/articles/900000404726-P-L-calculations-Inverse-Contracts-
        (True, (1000, 5000), (2000, 6000), "5625.00"),
        # KuCoin, "About Coin-Margined Futures", Entry Price: 56,250.00 USD.
        # https://kucoin.com/es/support/26693238981785
        (True, (1000, 50000), (2000, 60000), "56250.00"),
    ],
)
def test_scaling_in_averages_as_the_venues_print(
    inverse: bool, first: tuple[Any, Any], second: tuple[Any, Any], printed: str
) -> None:
    """Arithmetic for linear and harmonic for inverse contracts, to the digits of their help pages."""
    made = position(contracts=first[0], entry_price=first[1], inverse=inverse).scaled_in(*second)
    assert made.entry_price.quantize(Decimal(printed), ROUND_HALF_UP) == Decimal(printed)


def test_scaling_in_leaves_the_rest_as_it_was() -> None:
    """Contracts and fees add up, a rebate counts against them; the old position is unchanged."""
    first = position(side="short", contracts=2, entry_price=100, contract_size="0.01", settle="USDC", entry_fee="0.3")
    made = first.scaled_in("0.5", "105", fee="-0.1")
    assert made == position(
        side="short", contracts="2.5", entry_price=101, contract_size="0.01", settle="USDC", entry_fee="0.2"
    )
    assert (first.contracts, first.entry_price, first.entry_fee) == (Decimal(2), Decimal(100), Decimal("0.3"))


@pytest.mark.parametrize(
    ("inverse", "entries", "average"),
    [
        (False, [(1, 1), (2, 2)], "1.666666666666666667"),
        (True, [(1, 1), (1, 2)], "1.333333333333333333"),
        (False, [(1, "1e-18"), (1, "2e-18")], "2e-18"),  # a tie, and up to the even neighbour
        (False, [(1, "2e-18"), (1, "3e-18")], "2e-18"),  # a tie, and down to it
        (False, [(1, "1e12"), (2, "2e12")], "1666666666666.66666666666666667"),  # 30 digits leave 17 places
        (False, [(10**18, "1e13"), (1, "9999999999999.99999999999999999")], "1e13"),  # rounds up to a digit more
        (True, [(1, f"{10**29}e18"), (2, f"{2 * 10**29}e18")], "1.5e47"),
    ],
)
def test_an_average_is_rounded_half_even_to_what_a_price_may_have(
    inverse: bool, entries: list[tuple[Any, Any]], average: str
) -> None:
    """18 places after the point, or 30 digits if those are fewer."""
    (contracts, price), second = entries
    made = position(contracts=contracts, entry_price=price, inverse=inverse).scaled_in(*second)
    assert made.entry_price == Decimal(average)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"contracts": 0}, "contracts"),
        ({"contracts": -1}, "contracts"),
        ({"contracts": 0.5}, "contracts"),
        ({"price": 0}, "price"),
        ({"price": "NaN"}, "price"),
        ({"price": 60000.5}, "price"),
        ({"price": None}, "price"),
        ({"fee": 0.1}, "fee"),
        ({"fee": "ten"}, "fee"),
        ({"contracts": "1e30"}, "contracts"),
        ({"contracts": "1e15", "fee": "1e-18"}, "contracts"),  # 10**15 + 10**-15 has 31 digits: not rounded, refused
    ],
)
@pytest.mark.parametrize("inverse", [False, True])
def test_an_entry_that_cannot_be_is_refused(arguments: dict[str, Any], field: str, inverse: bool) -> None:
    """The error names the argument; nothing is rounded away from a sum."""
    first = position(contracts="1e-15", inverse=inverse)
    with pytest.raises(InvalidPosition, match=field) as caught:
        first.scaled_in(**{"contracts": 1, "price": 60000, **arguments})
    assert caught.value.field == field


contracts_held = st.decimals(min_value="1e-8", max_value="1e9", places=8)
any_price = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(1, 10**28 - 1), st.integers(-18, 18)
)


@given(st.booleans(), contracts_held, any_price, contracts_held, any_price)
def test_an_average_is_the_nearest_price_that_a_position_takes(
    inverse: bool, held: Decimal, entry: Decimal, added: Decimal, price: Decimal
) -> None:
    """Whatever the sizes and prices; fractions agree."""
    made = position(contracts=held, entry_price=entry, inverse=inverse).scaled_in(added, price)
    true = _average(inverse, [(held, entry), (added, price)])
    before_the_point = len(str(int(true))) if true >= 1 else 0
    unit = Fraction(10) ** -min(18, 30 - before_the_point)
    assert Fraction(made.entry_price) == round(true / unit) * unit
    assert Fraction(made.contracts) == Fraction(held) + Fraction(added)


ordinary_price = st.decimals(min_value="0.01", max_value="1e9", places=8)
entry_fees = st.decimals(min_value="-1e6", max_value="1e6", places=8)


@given(st.booleans(), st.lists(st.tuples(contracts_held, ordinary_price, entry_fees), min_size=2, max_size=4))
def test_the_order_of_entries_does_not_matter(inverse: bool, entries: list[tuple[Decimal, Decimal, Decimal]]) -> None:
    """Contracts and fees come out alike; the price up to one rounding an entry, relative to the lowest price."""
    true = _average(inverse, [entry[:2] for entry in entries])
    roundings = len(entries) * Fraction(1, 10**18) / Fraction(min(price for _, price, _ in entries))
    sums = set()
    for (contracts, price, fee), *others in permutations(entries):
        made = position(contracts=contracts, entry_price=price, entry_fee=fee, inverse=inverse)
        for contracts_added, paid, cost in others:
            made = made.scaled_in(contracts_added, paid, fee=cost)
        assert abs(Fraction(made.entry_price) / true - 1) <= roundings
        sums.add((made.contracts, made.entry_fee))
    assert len(sums) == 1


# Growing by what the venue's average says.


@pytest.mark.parametrize(
    ("inverse", "before", "now", "price"),
    [
        (False, (10, 60000), (15, 59000), 57000),
        (False, ("0.5", 5000), ("0.8", 5375), 6000),  # Bybit's example above, the other way round
        (True, (1000, 5000), (3000, 5625), 6000),
        (True, (1000, 50000), (3000, 56250), 60000),
    ],
)
def test_what_was_added_is_found_in_the_average(
    inverse: bool, before: tuple[Any, Any], now: tuple[Any, Any], price: int
) -> None:
    """The examples of the venues, solved for the second entry."""
    (held, average), (contracts, entry_price) = (tuple(map(Decimal, each)) for each in (before, now))
    first = position(contracts=held, entry_price=average, inverse=inverse)
    made = grown(first, before=(held, average), now=(contracts, entry_price))
    assert made == first.scaled_in(contracts - held, price)


def test_only_what_was_added_changes_a_position() -> None:
    """5 of 10 at 100 are left, and 5 come at 200: the venue averages 150, the position has 15 contracts.

    Those that left early were entered at 100, whatever came later; the fee is not the venue's to say.
    """
    first = position(contracts=10, entry_price=100, entry_fee="0.3")
    made = grown(first, before=(Decimal(5), Decimal(100)), now=(Decimal(10), Decimal(150)))
    assert made == first.scaled_in(5, 200)
    assert (made.contracts, made.entry_fee) == (Decimal(15), Decimal("0.3"))


@pytest.mark.parametrize(
    ("inverse", "before", "now", "field"),
    [
        (False, (10, 100), (11, 90), "price"),  # the eleventh would have been paid for
        (False, (10, 110), (11, 100), "price"),  # or have cost nothing
        (True, (10, 100), (11, 111), "price"),  # worth less than before, though there are more
        (True, (10, 100), (11, 110), "price"),
        (False, (10, 100), (9, 100), "contracts"),
        (True, (10, 100), (9, 100), "contracts"),
    ],
)
def test_an_average_to_which_no_entry_leads_is_refused(
    inverse: bool, before: tuple[int, int], now: tuple[int, int], field: str
) -> None:
    """Nothing is booked at a price that nobody can have paid."""
    first = position(contracts=10, entry_price=100, inverse=inverse)
    (held, average), (contracts, entry_price) = (tuple(map(Decimal, each)) for each in (before, now))
    with pytest.raises(InvalidPosition, match=field):
        grown(first, before=(held, average), now=(contracts, entry_price))


@given(st.booleans(), contracts_held, ordinary_price, contracts_held, ordinary_price)
def test_growing_undoes_the_average_of_the_venue(
    inverse: bool, held: Decimal, entry: Decimal, added: Decimal, price: Decimal
) -> None:
    """The price that was paid comes out, up to what the venue has rounded away from its average."""
    first = position(contracts=held, entry_price=entry, inverse=inverse)
    scaled = first.scaled_in(added, price)
    rounding = Fraction(1, 10**17) * Fraction(scaled.contracts) / Fraction(added)
    if inverse:  # what is rounded is 1 / price, so to speak
        rounding *= (Fraction(price) / Fraction(scaled.entry_price)) ** 2
    assume(rounding < Fraction(price) / 2)
    made = grown(first, before=(held, entry), now=(scaled.contracts, scaled.entry_price))
    assert made.contracts == scaled.contracts
    assert abs(Fraction(made.entry_price) - Fraction(scaled.entry_price)) <= Fraction(1, 10**16)


def _average(inverse: bool, entries: list[tuple[Decimal, Decimal]]) -> Fraction:
    fractions = [(Fraction(contracts), Fraction(price)) for contracts, price in entries]
    total = sum((contracts for contracts, _ in fractions), Fraction(0))
    if inverse:
        return total / sum((contracts / price for contracts, price in fractions), Fraction(0))
    return sum((contracts * price for contracts, price in fractions), Fraction(0)) / total
