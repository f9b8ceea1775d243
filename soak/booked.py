"""The booking of one position, against the exits that the venue's fills prove."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from soak.books import Books, Trade
    from soak.course import Course

_INVERSE_PLACES = 10**12
_DIGITS = Fraction(1, 10**26)
_SECOND_MS = 1000
_ZERO = Fraction(0)


def booked(course: Course, key: tuple[str, int], books: Books, funding: Iterable[sqlite3.Row]) -> Iterator[str]:
    """What is wrong with it."""
    row, booking = course.row, books.bookings[key][0]
    fills = sorted(books.fills.get(key, []), key=lambda each: int(each["trade_id"]))
    events = {line["event"] for line in books.lines[key]}
    total = sum((Fraction(fill["contracts"]) for fill in fills), _ZERO)
    rest = Fraction(booking["written_off"]) + Fraction(booking["by_operator"])
    is_settled = "settled" in events
    if rest != (course.sized - total if is_settled else 0):
        yield f"{row['contracts']} contracts, {total} booked, {rest} settled"
    if course.is_true:
        yield from _fills(course, fills, whole=not is_settled and row["later"] is None)
    last = course.exits[-1][0].at_ms if course.exits else 0
    paid = [_ZERO] if is_settled or not fills else [*_paid(row, funding, last, fills[-1]["at_ms"])]
    yield from _amounts(row, booking, fills, paid)


def _fills(course: Course, fills: Sequence[sqlite3.Row], *, whole: bool) -> Iterator[str]:
    """They are the first exits of the position; *whole* says that none may be missing."""
    if whole and not course.is_over:
        yield f"{course.row['contracts']} contracts, {float(course.proved)} reduced by the venue's fills"
    here = [_told(fill["trade_id"], fill["client_order_id"], fill["price"], fill["contracts"]) for fill in fills]
    there = [_told(each.trade_id, each.client_order_id, each.price, part) for each, part in course.exits]
    if not whole:
        there = there[: len(here)]
    if here != there:
        only_here, only_there = ([each for each in a if each not in b] for a, b in ((here, there), (there, here)))
        yield f"booked only: {only_here}; at the venue only: {only_there}"
        return
    for fill, (each, part) in zip(fills, course.exits, strict=False):
        yield from _details(fill, each, part)


def _details(fill: sqlite3.Row, trade: Trade, part: Fraction) -> Iterator[str]:
    fee = trade.fee * part / trade.contracts
    if not _is_near(Fraction(fill["fee"]), fee) or fill["fee_currency"] != trade.fee_currency:
        yield f"booked only: fee {fill['fee']} of trade {trade.trade_id}; at the venue only: {float(fee)}"
    # Some accounts tell whole seconds, rounded up or down.
    off_ms = abs(fill["at_ms"] - trade.at_ms)
    if off_ms and (off_ms >= _SECOND_MS or fill["at_ms"] % _SECOND_MS):
        yield f"booked only: time {fill['at_ms']} of trade {trade.trade_id}; at the venue only: {trade.at_ms}"


def _paid(row: sqlite3.Row, funding: Iterable[sqlite3.Row], *until_ms: int) -> Iterator[Fraction]:
    """The funding until the last fill: to its time as it was told, to its time as it was, and to any in between."""
    since, first, last = row["tracked_at_ms"], min(until_ms), max(until_ms)
    to_leg = [each for each in funding if each["symbol"] == row["symbol"] and each["side"] in {None, row["side"]}]
    ends = {first, last, *(each["at_ms"] for each in to_leg if first <= each["at_ms"] <= last)}
    for until in ends:
        yield sum((Fraction(each["amount"]) for each in to_leg if since <= each["at_ms"] <= until), _ZERO)


def _amounts(
    row: sqlite3.Row, booking: sqlite3.Row, fills: Sequence[sqlite3.Row], paid: Sequence[Fraction]
) -> Iterator[str]:
    exits = [(Fraction(fill["price"]), Fraction(fill["contracts"])) for fill in fills]
    funding = Fraction(booking["funding"])
    for name, amount in _pnl(row, fills, exits, funding if funding in paid else paid[0]).items():
        if not _is_near(Fraction(booking[name]), amount):
            yield f"booked {name} {booking[name]}, by the venue's fills it is {float(amount)}"
    exact = _exit_price(exits, inverse=bool(row["inverse"]))
    told = None if booking["exit_price"] is None else Fraction(booking["exit_price"])
    if (told is None) != (exact is None) or (told is not None and exact is not None and not _is_near(told, exact)):
        yield f"booked exit price {booking['exit_price']}, by the venue's fills it is {exact and float(exact)}"


def _pnl(
    row: sqlite3.Row,
    fills: Sequence[sqlite3.Row],
    exits: Sequence[tuple[Fraction, Fraction]],
    funding: Fraction,
) -> dict[str, Fraction]:
    sign, entry, size = 1 if row["side"] == "long" else -1, Fraction(row["entry_price"]), Fraction(row["contract_size"])
    if row["inverse"]:
        exact = sum((1 / entry - 1 / price) * contracts for price, contracts in exits) * sign * size
        gross = Fraction(round(exact * _INVERSE_PLACES), _INVERSE_PLACES)  # half-even
    else:
        gross = Fraction(sum((price - entry) * contracts for price, contracts in exits) * sign * size)
    closed = sum((contracts for _, contracts in exits), _ZERO)
    fees = Fraction(row["entry_fee"]) * closed / Fraction(row["contracts"])
    fees += sum((Fraction(fill["fee"]) for fill in fills), _ZERO)
    return {"gross_pnl": gross, "fees": fees, "funding": funding, "net_pnl": gross - fees + funding}


def _exit_price(exits: Sequence[tuple[Fraction, Fraction]], *, inverse: bool) -> Fraction | None:
    total = sum((contracts for _, contracts in exits), _ZERO)
    if not total:
        return None
    if inverse:
        return total / sum(contracts / price for price, contracts in exits)
    return sum((price * contracts for price, contracts in exits), _ZERO) / total


def _is_near(told: Fraction, exact: Fraction) -> bool:
    """The same but for the digits that a division leaves out."""
    return told == exact or abs(told - exact) <= abs(exact) * _DIGITS


def _told(trade_id: object, client_order_id: str | None, price: str, contracts: str | Fraction) -> tuple[str, ...]:
    return str(trade_id), str(client_order_id), str(Fraction(price)), str(Fraction(contracts))
