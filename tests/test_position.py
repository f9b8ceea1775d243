from __future__ import annotations

import contextlib
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poslock import InvalidPosition, Position

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
