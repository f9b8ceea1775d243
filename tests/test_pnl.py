# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poslock import Fill, Position
from poslock.pnl import realized_pnl
from poslock.position import EXACT


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


@pytest.mark.parametrize(
    ("side", "contracts", "contract_size", "entry", "exit_price", "printed"),
    [
        # MEXC, "MEXC Futures Calculation Guide: Fees, Unrealized PNL, and Closing Profit Explained", 3.1: 1,000 USDT.
        # https://www.mexc.co/en-IN/support/article/mexc-futures-calculation-guide-312060306409668608
        ("long", 5000, "0.0001", 28000, 30000, "1000"),
        # Kraken, "Calculation of profit and loss", multi-collateral linear futures: 25,000 USD.
        # https://support.kraken.com/hc/en-us/articles/360022835511-Calculation-of-profit-and-loss
        ("long", 5, 1, 35000, 40000, "25000"),
        # Binance, "A Beginner's Guide to Futures Trading", the tables for a long and a short: 500 USD each.
        # https://binance.com/en-IN/support/announcement/a-beginner-s-guide-to-futures-trading-360039304272
        ("long", 1, 1, 5000, 5500, "500"),
        ("short", 1, 1, 5000, 4500, "500"),
        # Bybit, "P&L calculations (USDT Contract)", 2, for a short position: 400 USDT.
        # https://help.bybit.com/hc/en-us/articles/900000630066-P-L-calculations-USDT-Contract-
        ("short", "0.4", 1, 6000, 5000, "400"),
    ],
)
def test_linear_gross_is_what_the_venues_print(
    side: Any, contracts: Any, contract_size: Any, entry: Any, exit_price: Any, printed: str
) -> None:
    """The worked examples of their help pages."""
    position = Position("a", "X/USDT", side, contracts, entry, contract_size=contract_size)
    assert realized_pnl(position, [fill(exit_price, contracts)], Decimal(0)).gross == Decimal(printed)


@pytest.mark.parametrize(
    ("side", "contracts", "contract_size", "entry", "exit_price", "printed"),
    [
        # Kraken, "Calculation of profit and loss", single-collateral inverse futures: 0.42857 ETH.
        # https://support.kraken.com/hc/en-us/articles/360022835511-Calculation-of-profit-and-loss
        ("long", 10000, 1, 2500, 2800, "0.42857"),
        # Crypto Facilities, "Calculation of profit and loss": 0.33 BTC, 5.848 LTC, 6,667 XRP.
        # https://support.cryptofacilities.com/hc/en-us/articles/115002807834-Calculation-of-profit-and-loss
        ("long", 10000, 1, 5000, 6000, "0.33"),
        ("long", 10000, 1, 90, 95, "5.848"),
        ("long", 10000, 1, "0.25", "0.30", "6667"),
        # Deribit, "Example (futures)", 100 contracts of US$10: 0,238095 BTC.
        # https://www.deribit.com/docs/example-futures/
        ("long", 100, 10, 600, 700, "0.238095"),
        # KuCoin, "Coin-margined perpetual contract", 4.1: +0.0833 BTC.
        # https://www.kucoin.com/ko/support/26693238981785
        ("long", 10000, 1, 30000, 40000, "0.0833"),
        # KuCoin, "Know-How of Futures Trading: What Is Position PNL?", COIN-margined, 100 lots sold: 0.013 BTC.
        # https://kucoin.zendesk.com/hc/en-us/articles/900006920043-Know-How-of-Futures-Trading-What-Is-Position-PNL-
        ("short", 100, 1, 5000, 3000, "0.013"),
        # Bybit, "What is Inverse Contract?", Trader A: 0.035 BTC.
        # https://www.bybit.com/kk-KZ/help-center/article/What-is-Inverse-Contract
        ("long", 10000, 1, 23000, 25000, "0.035"),
    ],
)
def test_inverse_gross_is_what_the_venues_print(
    side: Any, contracts: Any, contract_size: Any, entry: Any, exit_price: Any, printed: str
) -> None:
    """The worked examples of their help pages, to the digits that they print."""
    position = Position("a", "X/USD", side, contracts, entry, contract_size=contract_size, inverse=True, settle="X")
    gross = realized_pnl(position, [fill(exit_price, contracts)], Decimal(0)).gross
    assert gross.quantize(Decimal(printed), ROUND_HALF_UP) == Decimal(printed)


# Bitget, "Tính toán Lời/Lỗ đối với Bitget futures" (calculation of P&L for Bitget futures), Trader C.
# https://bitget.com.vn/vi/support/articles/12560603810534
def test_realized_pnl_of_a_part_is_what_bitget_prints_but_for_the_fee_of_the_rest() -> None:
    """0.9 of 1.4 BTC from 25,000 to 27,000: 1800 less 14.58 to close the part and its share of the 21 to open all.

    Bitget prints 1764.42 USDT, with all of the 21 taken off the part. Here 7.5 of them stay with the 0.5 that are left,
    and both parts together are charged what Bitget charges.
    """
    position = Position("a", "BTC/USDT", "long", "1.4", 25000, entry_fee="21")  # 1.4 x 25000 x 0.0006
    pnl = realized_pnl(position, [fill(27000, "0.9", "14.58")], Decimal(0))  # 0.9 x 27000 x 0.0006
    assert (pnl.gross, pnl.fees, pnl.net) == (1800, Decimal("28.08"), Decimal("1771.92"))
    assert pnl.net - Decimal("7.5") == Decimal("1764.42")
    rest = realized_pnl(position, [fill(27000, "0.5", "8.1")], Decimal(0))
    whole = realized_pnl(position, [fill(27000, "0.9", "14.58"), fill(27000, "0.5", "8.1")], Decimal(0))
    assert pnl.fees + rest.fees == whole.fees == Decimal("43.68")


def test_a_crumb_that_stays_keeps_its_share_of_the_entry_fee() -> None:
    """9 of 10 closed: nine tenths of the fee. 2 of 3: two thirds, to 28 digits. All: all of it, to the last digit."""
    position = Position("a", "X/USDT", "long", 10, 100, entry_fee="0.1")
    assert realized_pnl(position, [fill(100, 9)], Decimal(0)).fees == Decimal("0.09")
    thirds = Position("a", "X/USDT", "long", 3, 100, entry_fee="0.1")
    assert realized_pnl(thirds, [fill(100, 2)], Decimal(0)).fees == Decimal("0.06666666666666666666666666667")
    assert realized_pnl(thirds, [fill(100, 2), fill(100, 1)], Decimal(0)).fees == Decimal("0.1")
    rebate = Position("a", "X/USDT", "short", 10, 100, entry_fee="-0.1")
    assert realized_pnl(rebate, [fill(100, 9)], Decimal(0)).fees == Decimal("-0.09")


@pytest.mark.parametrize("inverse", [True, False])
def test_without_an_exit_there_is_no_exit_price(inverse: bool) -> None:
    """Nothing was proved, so nothing was earned or paid, and no price is invented; funding is what it was."""
    position = Position("a", "X/Y", "long", 10, 100, inverse=inverse, settle="Y", entry_fee="0.1")
    pnl = realized_pnl(position, [], Decimal("0.5"))
    assert pnl == (None, 0, 0, Decimal("0.5"), Decimal("0.5"))


# BitMEX, the help page on the Realised PNL of the Balances page, trades of Jan 18th.
# https://support.bitmex.com/hc/en-gb/articles/6205277211037
def test_realized_pnl_with_fees_and_funding_is_what_bitmex_prints() -> None:
    """Lots of 100 USD, 5 sold at 42303 and 15 at 42107.5 after 20 at 42292.5, net -0.00007324 XBT.

    BitMEX cuts 100/price to 8 places before it subtracts, so each lot may be one satoshi off.
    """
    position = Position("a", "XBT/USD", "long", 20, "42292.5", contract_size=100, inverse=True, settle="XBT")
    fills = [fill("42303", 5, "0.00002954", "XBT"), fill("42107.5", 15, "0.0000178", "XBT")]
    pnl = realized_pnl(position, fills, Decimal("0.00012685"))
    assert pnl.fees == Decimal("0.00004734")
    assert abs(pnl.gross - Decimal("-0.00015275")) <= 20 * Decimal("1e-8")  # 0.00000295 - 0.0001557
    assert abs(pnl.net - Decimal("-0.00007324")) <= 20 * Decimal("1e-8")


def test_the_exit_price_of_an_inverse_contract_gives_its_gross_back() -> None:
    """1000 at 5000 and 2000 at 6000 are 3000 at 5625, as in Bybit's average entry price, not at 5666.67."""
    position = Position("a", "BTC/USD", "long", 3000, 4500, inverse=True, settle="BTC")
    pnl = realized_pnl(position, [fill(5000, 1000, 0, "BTC"), fill(6000, 2000, 0, "BTC")], Decimal(0))
    assert str(pnl.exit_price) == "5625"
    assert realized_pnl(position, [fill(5625, 3000, 0, "BTC")], Decimal(0)).gross == pnl.gross
    assert str(realized_pnl(position, [fill(60000, 7)], Decimal(0)).exit_price) == "60000"


def test_an_entry_fee_counts_in_the_settle_currency_whatever_the_fills_cost() -> None:
    """A position settled in BTC takes BTC fees; those in USDT and BNB stay with their fills."""
    position = Position("a", "BTC/USD", "short", 3, 50000, inverse=True, settle="BTC", entry_fee="0.00002")
    fills = [fill(50000, 1, "0.00001", "BTC"), fill(50000, 1, "0.5", "USDT"), fill(50000, 1, "0.001", "BNB")]
    pnl = realized_pnl(position, fills, Decimal("-0.00004"))
    assert (pnl.gross, pnl.fees) == (0, Decimal("0.00003"))
    assert (pnl.funding, pnl.net) == (Decimal("-0.00004"), Decimal("-0.00007"))


def test_a_position_scaled_in_gains_what_its_entries_gain_apart() -> None:
    """0.5 BTC at 5000 and 0.3 at 6000, all sold at 7000: 1000 + 300, fees of both entries."""
    first = Position("a", "BTC/USDT", "long", "0.5", 5000, entry_fee=2)
    pnl = realized_pnl(first.scaled_in("0.3", 6000, fee=1), [fill(7000, "0.8", 4)], Decimal(0))
    assert (pnl.gross, pnl.fees, pnl.net) == (1300, 7, 1293)


amounts = st.decimals(min_value="1e-8", max_value="1e12", places=8)
moneys = st.decimals(min_value="-1e6", max_value="1e6", places=8)
several = st.lists(st.tuples(amounts, amounts), min_size=1, max_size=20)


@given(amounts, amounts, several)
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


@given(amounts, amounts, several)
def test_partial_fills_gain_what_their_parts_gain(
    entry: Decimal, size: Decimal, fills: list[tuple[Decimal, Decimal]]
) -> None:
    """To the last digit, for a linear contract."""
    position = Position("a", "X/USDT", "long", 1, entry, contract_size=size)
    whole = realized_pnl(position, [fill(*each) for each in fills], Decimal(0)).gross
    parts = [realized_pnl(position, [fill(*each)], Decimal(0)).gross for each in fills]
    assert Fraction(whole) == sum(map(Fraction, parts))


@given(amounts, st.integers(2, 20), amounts, amounts)
def test_one_price_gains_the_same_in_any_number_of_fills(
    entry: Decimal, parts: int, price: Decimal, contracts: Decimal
) -> None:
    """Linear exactly, inverse but for a tie; the exit price is that price."""
    for inverse, tolerance in ((False, Fraction(0)), (True, Fraction(1, 10**12))):
        position = Position("a", "X/Y", "short", 1, entry, inverse=inverse)
        whole = realized_pnl(position, [fill(price, EXACT.multiply(contracts, parts))], Decimal(0))
        split = realized_pnl(position, [fill(price, contracts)] * parts, Decimal(0))
        assert abs(Fraction(split.gross) - Fraction(whole.gross)) <= tolerance
        assert split.exit_price == whole.exit_price == price


def size_of(fills: list[Fill]) -> Decimal:
    with localcontext(EXACT):
        return sum((each.contracts for each in fills), Decimal(0))


@given(amounts, several, moneys)
def test_the_parts_of_a_position_share_its_entry_fee(
    entry: Decimal, fills: list[tuple[Decimal, Decimal]], entry_fee: Decimal
) -> None:
    """In proportion to their contracts, to 28 digits each; so together they are charged all of it."""
    parts = [fill(*each) for each in fills]
    position = Position("a", "X/Y", "long", size_of(parts), entry, entry_fee=entry_fee)
    shares = [Fraction(realized_pnl(position, [each], Decimal(0)).fees) for each in parts]
    for share, each in zip(shares, parts, strict=True):
        exact = Fraction(entry_fee) * Fraction(each.contracts) / Fraction(position.contracts)
        assert abs(share - exact) <= abs(exact) / 10**27
    assert abs(sum(shares) - Fraction(entry_fee)) <= abs(Fraction(entry_fee)) / 10**27


@given(st.booleans(), amounts, several, moneys, moneys, st.lists(st.tuples(moneys, st.sampled_from(["Y", "BNB"]))))
def test_net_is_gross_less_fees_plus_funding(
    inverse: bool,
    entry: Decimal,
    fills: list[tuple[Decimal, Decimal]],
    entry_fee: Decimal,
    funding: Decimal,
    fees: list[tuple[Decimal, str]],
) -> None:
    """Exactly; of the fees those in the settle currency, and the entry's."""
    charged = [fill(*each, *fee) for each, fee in zip(fills, fees, strict=False)] or [fill(1, 1)]
    position = Position("a", "X/Y", "long", size_of(charged), entry, inverse=inverse, settle="Y", entry_fee=entry_fee)
    pnl = realized_pnl(position, charged, funding)
    assert Fraction(pnl.net) == Fraction(pnl.gross) - Fraction(pnl.fees) + Fraction(funding)
    paid = sum(Fraction(each.fee) for each in charged if each.fee_currency == "Y")
    assert Fraction(pnl.fees) == Fraction(entry_fee) + paid


@given(amounts, amounts, several)
def test_inverse_pnl_is_rounded_once(entry: Decimal, size: Decimal, fills: list[tuple[Decimal, Decimal]]) -> None:
    """To 12 places; long and short of the same fills are opposite."""
    long, short = (
        realized_pnl(
            Position("a", "X/USD", side, 1, entry, contract_size=size, inverse=True),
            [fill(*each) for each in fills],
            Decimal(0),
        )
        for side in ("long", "short")
    )
    assert long.gross == short.gross.copy_negate()
    moved = sum((1 / Fraction(entry) - 1 / Fraction(price)) * Fraction(contracts) for price, contracts in fills)
    half_a_place = Fraction(1, 2 * 10**12) + Fraction(1, 10**100)  # 1/price is cut after 250 digits
    assert abs(Fraction(long.gross) - moved * Fraction(size)) <= half_a_place
    assert long.gross.as_tuple().exponent == -12


@given(st.booleans(), amounts, amounts, several, several, moneys, moneys)
def test_the_legs_of_a_hedge_are_computed_apart_and_add_up(
    inverse: bool,
    long_entry: Decimal,
    short_entry: Decimal,
    sold: list[tuple[Decimal, Decimal]],
    bought: list[tuple[Decimal, Decimal]],
    received: Decimal,
    paid: Decimal,
) -> None:
    """Each leg has its own entry, fills and funding; together they are worth what both moved."""
    sells, buys = ([fill(*each) for each in fills] for fills in (sold, bought))
    long = Position("a", "X/Y", "long", size_of(sells), long_entry, inverse=inverse, entry_fee=1)
    short = Position("b", "X/Y", "short", size_of(buys), short_entry, inverse=inverse, entry_fee=2)
    legs = [(long, sells, received), (short, buys, paid)]
    pnls = [realized_pnl(leg, fills, funding) for leg, fills, funding in legs]

    moved = Fraction(0)
    for (leg, fills, _), sign in zip(legs, (1, -1), strict=True):
        for each in fills:
            before, after = Fraction(leg.entry_price), Fraction(each.price)
            moved += sign * Fraction(each.contracts) * (1 / before - 1 / after if inverse else after - before)
    together = sum(Fraction(pnl.net) for pnl in pnls)
    rounded = Fraction(1, 10**12) + Fraction(1, 10**100) if inverse else 0  # half a place for each leg
    assert abs(together - (moved - 3 + Fraction(received) + Fraction(paid))) <= rounded


@given(st.booleans(), amounts, amounts, amounts, moneys)
def test_a_perfect_hedge_is_left_with_its_costs(
    inverse: bool, entry: Decimal, price: Decimal, contracts: Decimal, fee: Decimal
) -> None:
    """What one leg gains, the other loses, to the last digit."""
    legs = [Position("a", "X/Y", side, contracts, entry, inverse=inverse, settle="Y") for side in ("long", "short")]
    long, short = (realized_pnl(leg, [fill(price, contracts, fee, "Y")], Decimal(0)) for leg in legs)
    assert Fraction(long.net) + Fraction(short.net) == -2 * Fraction(fee)


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("inverse", [True, False])
def test_nothing_gained_is_no_negative_zero(side: Any, inverse: bool) -> None:
    """It would be booked, and printed, as -0."""
    position = Position("btc-1", "BTC/USDT", side, 10, 60_000, inverse=inverse)
    fill = Fill("t1", None, Decimal(60_000), Decimal(10), Decimal(0), "USDT", 1)
    assert not realized_pnl(position, [fill], Decimal(0)).gross.is_signed()
