"""The verdict: what the venues did, held against what the ledger says and what the bots were told.

It computes everything anew, in fractions, from the files alone; nothing of poslock is used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from soak.books import Books, Leg, Life, Venue
from soak.diary import told

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

_FILL = ("trade_id", "client_order_id", "price", "contracts", "fee", "fee_currency", "at_ms")
_INVERSE_PLACES = 10**12
_EXIT_DIGITS = Fraction(1, 10**26)


def violations(directory: str) -> list[str]:
    """Every broken promise in the files of a run, in words; none, if all is well."""
    books = Books(Path(directory, "locks", "ledger.db"))
    venues = [Venue(path) for path in sorted(Path(directory).glob("venue-*.db"))]
    lines = told(directory)
    found = [f"seen by a bot: {line[1]}" for line in lines if line[0] == "violation"]
    found += _positions(books, venues)
    for venue in venues:
        found += _left(venue, books)
    found += _tokens(books)
    found += _answers(books, lines)
    found += [f"{row['position_id']}: change {row['number']} is at {row['step']}" for row in books.unfinished]
    return found


def _positions(books: Books, venues: Iterable[Venue]) -> Iterator[str]:
    """Each opening of a leg is one generation of its position, closed and booked once."""
    tracked = books.legs()
    lives: dict[Leg, list[Life]] = {leg: each for venue in venues for leg, each in venue.lives().items()}
    funding = {venue.account: venue.funding for venue in venues}
    for leg in tracked.keys() | lives.keys():
        opened, generations = lives.get(leg, []), tracked.get(leg, [])
        if len(opened) != len(generations):
            yield f"{leg}: opened {len(opened)} times at the venue, tracked {len(generations)} times (reversed?)"
        for life, row in zip(opened, generations, strict=False):
            key = row["position_id"], row["generation"]
            bookings, booked = books.bookings.get(key, []), books.fills.get(key, [])
            name = f"{row['position_id']} generation {row['generation']}"
            if len(bookings) != 1 or row["state"] != "closed":
                yield f"{name}: {len(bookings)} bookings, state {row['state']}"
                continue
            yield from (f"{name}: {why}" for why in _fills(life, row, booked))
            yield from (f"{name}: {why}" for why in _orders(life, key, books))
            yield from (f"{name}: {why}" for why in _booking(life, row, bookings[0], funding[leg.account]))


def _fills(life: Life, row: sqlite3.Row, booked: Iterable[sqlite3.Row]) -> Iterator[str]:
    if (life.opening["contracts"], life.opening["price"]) != (row["contracts"], row["entry_price"]):
        yield f"opened {life.opening['contracts']} at {life.opening['price']}, tracked {row['contracts']}"
    gone = sum(Fraction(fill["contracts"]) for fill in life.fills)
    if gone != Fraction(row["contracts"]):
        yield f"{row['contracts']} contracts opened, {gone} reduced"
    here, there = ({tuple(str(each[name]) for name in _FILL) for each in rows} for rows in (booked, life.fills))
    if here != there:
        yield f"booked only: {sorted(here - there)}; at the venue only: {sorted(there - here)}"


def _orders(life: Life, key: tuple[str, int], books: Books) -> Iterator[str]:
    for row in life.orders:
        if books.journaled.get(row["client_order_id"], key) != key:
            yield f"the venue took order {row['order_id']} of {books.journaled[row['client_order_id']]} then"


def _booking(life: Life, row: sqlite3.Row, booking: sqlite3.Row, funding: Iterable[sqlite3.Row]) -> Iterator[str]:
    expected = _pnl(life, row, funding)
    for name, amount in expected.items():
        if Fraction(booking[name]) != amount:
            yield f"booked {name} {booking[name]}, by the venue's fills it is {amount}"
    exact = _exit_price(life, inverse=bool(row["inverse"]))
    if abs(Fraction(booking["exit_price"]) - exact) > exact * _EXIT_DIGITS:
        yield f"booked exit price {booking['exit_price']}, by the venue's fills it is {float(exact)}"


def _pnl(life: Life, row: sqlite3.Row, funding: Iterable[sqlite3.Row]) -> dict[str, Fraction]:
    sign, entry, size = 1 if row["side"] == "long" else -1, Fraction(row["entry_price"]), Fraction(row["contract_size"])
    fills = [(Fraction(fill["price"]), Fraction(fill["contracts"])) for fill in life.fills]
    if row["inverse"]:
        exact = sum((1 / entry - 1 / price) * contracts for price, contracts in fills) * sign * size
        gross = Fraction(round(exact * _INVERSE_PLACES), _INVERSE_PLACES)  # half-even
    else:
        gross = Fraction(sum((price - entry) * contracts for price, contracts in fills) * sign * size)
    fees = Fraction(row["entry_fee"]) + sum(Fraction(fill["fee"]) for fill in life.fills)
    since, until = row["tracked_at_ms"], life.fills[-1]["at_ms"] if life.fills else 0
    to_leg = [each for each in funding if each["symbol"] == row["symbol"] and each["side"] in {None, row["side"]}]
    paid = sum((Fraction(each["amount"]) for each in to_leg if since <= each["at_ms"] <= until), Fraction(0))
    return {"gross_pnl": gross, "fees": fees, "funding": paid, "net_pnl": gross - fees + paid}


def _exit_price(life: Life, *, inverse: bool) -> Fraction:
    fills = [(Fraction(fill["price"]), Fraction(fill["contracts"])) for fill in life.fills]
    total = sum((contracts for _, contracts in fills), Fraction(0))
    if not total:
        return Fraction(0)
    if inverse:
        return total / sum(contracts / price for price, contracts in fills)
    return sum((price * contracts for price, contracts in fills), Fraction(0)) / total


def _left(venue: Venue, books: Books) -> Iterator[str]:
    """Nothing is held, nothing rests, and every order that a bot sent was journaled."""
    for row in venue.held:
        yield f"{venue.account}: {row['contracts']} contracts left, {row['symbol']} {row['side']}"
    for row in venue.open_orders:
        yield f"{venue.account}: order {row['order_id']} left, {row['family']} {row['symbol']} {row['side']}"
    for row in venue.orders:
        if row["client_order_id"] not in books.journaled and not row["client_order_id"].startswith("hand-"):
            yield f"{venue.account}: order {row['order_id']} was sent without a journal"


def _tokens(books: Books) -> Iterator[str]:
    """No write after one with a newer fencing token."""
    newest: dict[str, int] = defaultdict(int)
    for row in books.audit:
        if row["token"] < newest[row["position_id"]]:
            yield f"{row['position_id']}: a write with token {row['token']} came after {newest[row['position_id']]}"
        newest[row["position_id"]] = max(newest[row["position_id"]], row["token"])


def _answers(books: Books, lines: Iterable[list[str]]) -> Iterator[str]:
    """Of every close at most one bot was told that it did it, and that bot was told what is booked."""
    booked = Counter(
        (row["position_id"], str(row["token"]), row["net_pnl"]) for rows in books.bookings.values() for row in rows
    )
    answered = Counter(tuple(line[1:4]) for line in lines if line[0] == "closed")
    for answer, count in answered.items():
        if count > booked[answer]:  # type: ignore[index]  # a line of the diary is as long as its event says
            yield f"{count} bots were told that they closed {answer}, which is booked {booked[answer]} times"  # type: ignore[index]
