"""The verdict: what the venues did, held against what the ledger says and what the bots were told.

It computes everything anew, in fractions, from the files alone; nothing of poslock is used. What the design does not
promise is told apart from what it does: a fact that was newer than what its holder had seen is no violation, nor is
a position that stays unsettled because the ledger was told of a leg what was not so. These are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from soak.booked import booked
from soak.books import Books, Leg, Venue
from soak.course import Course, course_of
from soak.diary import told
from soak.orders import Looks, cancelled_by_others, left_resting, sent_by_us
from soak.unsettled import residual

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from soak.books import Trade

_OPEN = ("open", "closing")


@dataclass
class Found:
    """Every broken promise in the files of a run, in words, and what is none, by its kind."""

    violations: list[str] = field(default_factory=list)
    residuals: Counter[str] = field(default_factory=Counter)
    unsettled: list[str] = field(default_factory=list)


def judged(directory: str) -> Found:
    """The verdict on the files of a run."""
    books = Books(Path(directory, "locks", "ledger.db"))
    venues = [Venue(path) for path in sorted(Path(directory).glob("venue-*.db"))]
    lines = told(directory)
    found = Found([f"seen by a bot: {line[1]}" for line in lines if line[0] == "violation"])
    looks = Looks(lines)
    for venue in venues:
        trades = venue.trades()
        courses = _courses(books, venue, trades)
        found.violations += _held(venue, trades)
        for course in courses.values():
            _position(course, books, venue, trades, found)
        found.violations += _amounts(books, venue, trades)
        for each in (
            sent_by_us(courses, books, venue, trades, looks),
            cancelled_by_others(courses, venue, trades, looks),
            left_resting(courses, books, venue, trades),
        ):
            for what, is_residual in each:
                if is_residual:
                    found.residuals[what] += 1
                else:
                    found.violations.append(f"{venue.account}: {what}")
    found.violations += _tokens(books)
    found.violations += _answers(books, lines)
    return found


def _courses(books: Books, venue: Venue, trades: dict[Leg, list[Trade]]) -> dict[tuple[str, int], Course]:
    found = {}
    for row in books.positions:
        if row["account"] == venue.account:
            key = row["position_id"], row["generation"]
            leg = venue.leg(row["symbol"], row["side"])
            found[key] = course_of(row, books.baselines.get(key, []), trades.get(leg, []))
    return found


def _held(venue: Venue, trades: dict[Leg, list[Trade]]) -> Iterator[str]:
    """What the venue holds is what its fills lead to, and no order that reduces has reversed a leg."""
    for leg in trades.keys() | venue.held.keys():
        by_fills = max(Fraction(0), trades[leg][-1].after) if trades.get(leg) else Fraction(0)
        row = venue.held.get(leg)
        held = row["contracts"] if row else "0"
        if by_fills != Fraction(held):
            yield f"{leg}: {held} contracts held, by its fills {float(by_fills)}"
    for fill in venue.fills:
        if fill["reduce_only"] and not fill["reduced"]:
            yield f"{venue.account}: fill {fill['trade_id']} of a reduce-only order entered (reversed?)"


def _position(course: Course, books: Books, venue: Venue, trades: dict[Leg, list[Trade]], found: Found) -> None:
    row = course.row
    key, name = (row["position_id"], row["generation"]), f"{row['position_id']} generation {row['generation']}"
    if course.sized != books.sized(key):
        found.violations.append(f"{name}: {row['contracts']} contracts, and {float(books.sized(key))} by the audit")
    bookings = len(books.bookings.get(key, []))
    if bookings != (row["state"] == "closed"):
        found.violations.append(f"{name}: {bookings} bookings, state {row['state']}")
    elif bookings:
        found.violations += [f"{name}: {why}" for why in booked(course, key, books, venue.funding)]
    elif row["state"] in _OPEN:
        leg = venue.leg(row["symbol"], row["side"])
        why = residual(course, trades.get(leg, []))
        if why is None:
            reason = row["unsettled"] or "no reason is given"
            found.violations.append(f"{name}: is {row['state']} at the end, and need not be: {reason}")
        else:
            found.unsettled.append(f"{name}: {why}; the ledger says: {row['unsettled']}")
        return
    for change in books.unfinished:
        if (change["position_id"], change["generation"]) == key:
            found.violations.append(f"{name}: change {change['number']} is at {change['step']}")


def _amounts(books: Books, venue: Venue, trades: dict[Leg, list[Trade]]) -> Iterator[str]:
    """Each trade is booked for what it took off its leg at most, by all positions together."""
    total: dict[tuple[Leg, int], Fraction] = defaultdict(Fraction)
    for rows in books.fills.values():
        for fill in rows:
            if fill["account"] == venue.account:
                leg = venue.leg(fill["symbol"], fill["side"])
                total[leg, int(fill["trade_id"])] += Fraction(fill["contracts"])
    parts = {(leg, each.trade_id): each.part for leg, found in trades.items() for each in found}
    for (leg, trade_id), contracts in total.items():
        part = parts.get((leg, trade_id), Fraction(0))
        if contracts > part:
            yield f"{leg}: trade {trade_id} is booked for {contracts} contracts, and took off {part}"


def _tokens(books: Books) -> Iterator[str]:
    """No write after one with a newer fencing token."""
    newest: dict[str, int] = defaultdict(int)
    for row in books.audit:
        if row["token"] < newest[row["position_id"]]:
            yield f"{row['position_id']}: a write with token {row['token']} came after {newest[row['position_id']]}"
        newest[row["position_id"]] = max(newest[row["position_id"]], row["token"])


def _answers(books: Books, lines: Iterable[list[str]]) -> Iterator[str]:
    """Of every close at most one bot was told that it did it, and that bot was told what is booked."""
    in_books = Counter(
        (row["position_id"], str(row["token"]), row["net_pnl"]) for rows in books.bookings.values() for row in rows
    )
    answered = Counter((line[1], line[2], line[3]) for line in lines if line[0] == "closed")
    for answer, count in answered.items():
        if count > in_books[answer]:
            yield f"{count} bots were told that they closed {answer}, which is booked {in_books[answer]} times"
