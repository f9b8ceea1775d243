"""The orders of a run, and what their senders had seen: nothing is sold that was not tracked, nobody's stop is taken.

Each judgement is what happened in words, and whether it is a residual: not promised, because what mattered came after
the moment as of which its holder had seen the leg, or because an answer was missing.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from soak.books import Books, Leg, Trade, Venue
    from soak.course import Course

    Courses = Mapping[tuple[str, int], Course]
    Trades = Mapping[Leg, list[Trade]]

_ZERO = Fraction(0)
_NEWER = "contracts sold beyond the position: what took them was newer than both reads"
_BLIND = "contracts sold beyond the position: its trades could not be read"
_BY_STOP = "contracts sold beyond the position: by its stop, which rested from before"
_STOP_NEWER = "stops placed after the end: it was newer than both reads"
_TAKEN_NEWER = "stops of others cancelled: what they protect was newer than both reads"
_TAKEN_EMPTY = "stops of others cancelled: the venue had shown an empty list"


class Look(NamedTuple):
    """As of when a holder had read the leg and its trades: 0 if it had not, -1 if the venue showed nothing."""

    held_ms: int
    trades_ms: int


class Looks:
    """What the diaries say of it, for the orders sent and for those cancelled."""

    def __init__(self, lines: Iterable[list[str]]) -> None:
        self.sent: dict[str, list[Look]] = defaultdict(list)
        self.cancelled: dict[tuple[str, str], list[Look]] = defaultdict(list)
        for line in lines:
            if line[0] == "sent":
                self.sent[line[1]].append(Look(int(line[3]), int(line[4])))
            elif line[0] == "cancel":
                self.cancelled[line[1], line[2]].append(Look(int(line[3]), int(line[4])))


def sent_by_us(
    courses: Courses, books: Books, venue: Venue, trades: Trades, looks: Looks
) -> Iterator[tuple[str, bool]]:
    """What our orders took off a leg beyond what was left of their position, and those placed after its end."""
    for leg, on_leg in trades.items():
        for trade in on_leg:
            key = books.journaled.get(trade.client_order_id or "")
            if key is not None and trade.is_exit and key in courses:
                beyond = trade.part - _granted(courses[key], trade, books.sized(key, trade.client_order_id))
                if beyond > 0:
                    is_reduce = trade.client_order_id in books.reduces
                    why = _excuse(trade, on_leg, looks.sent[trade.client_order_id or ""], is_reduce=is_reduce)
                    if _was_left(trade, key, books):
                        why = ""
                    what = f"{leg}: order {trade.client_order_id} of {key} took {float(beyond)} contracts beyond it"
                    yield (why, True) if why else (what, False)
    for row in venue.orders:
        client_id = row["client_order_id"]
        key = books.journaled.get(client_id)
        if key is None:
            if client_id is not None and not client_id.startswith("hand-"):
                yield f"order {row['order_id']} was sent without a journal", False
            continue
        yield from _placed_late(row, courses, key, books, looks)


def _granted(course: Course, trade: Trade, sized: Fraction) -> Fraction:
    """What a trade might take: what was left of the position before it."""
    before = [each for each in course.since if each.trade_id < trade.trade_id]
    is_over = course.ended is not None and course.ended.trade_id < trade.trade_id
    if is_over or trade not in course.since:
        return _ZERO
    return max(_ZERO, sized - sum((each.contracts for each in before if each.is_exit), _ZERO))


def _was_left(trade: Trade, key: tuple[str, int], books: Books) -> bool:
    """Whether it is a stop that still rested when its position was booked, and nobody said so."""
    booked_ms = [line["at"] * 1000 for line in books.lines[key] if line["event"] == "booked"]
    named = {line["detail"].split()[-1] for line in books.lines[key] if line["event"] == "order left"}
    return (
        trade.family != "order" and any(trade.at_ms > each for each in booked_ms) and str(trade.order_id) not in named
    )


def _excuse(trade: Trade, on_leg: Iterable[Trade], looks: Iterable[Look], *, is_reduce: bool) -> str:
    """Why it may have sold so much: nobody could have told its sender."""
    if trade.family != "order":
        return _BY_STOP
    for look in looks:
        if look.trades_ms == 0:
            if look.held_ms > 0 and not is_reduce:
                return _BLIND
            continue
        # A reduce reads the holding again after it was decided.
        seen_ms = look.trades_ms if is_reduce else max(look)
        if any(seen_ms <= each.at_ms <= trade.at_ms and each.trade_id < trade.trade_id for each in on_leg):
            return _NEWER
    return ""


def _placed_late(
    row: sqlite3.Row, courses: Courses, key: tuple[str, int], books: Books, looks: Looks
) -> Iterator[tuple[str, bool]]:
    course = courses.get(key)
    if course is None:
        yield f"order {row['order_id']} is of {key}, which is not on this account", False
        return
    after = [line["at"] for line in books.lines[key] if line["event"] == "later position"]
    if after and row["created_ms"] > after[0] * 1000 + 1:
        yield f"order {row['order_id']} of {key} came after a later position was tracked", False
    if not course.is_over or row["family"] == "order":  # of those what they took was judged
        return
    last = course.ended or course.exits[-1][0]
    if row["created_ms"] > last.at_ms and row["client_order_id"] != last.client_order_id:
        seen = [look.trades_ms for look in looks.sent[row["client_order_id"]]]
        if any(0 < each <= last.at_ms for each in seen):
            yield _STOP_NEWER, True
        else:
            yield f"order {row['order_id']} of {key} was placed after its end", False


def cancelled_by_others(courses: Courses, venue: Venue, trades: Trades, looks: Looks) -> Iterator[tuple[str, bool]]:
    """Orders of hands that a bot cancelled while they may have protected what is not of the position."""
    for row in venue.orders:
        client_id = row["client_order_id"]
        if row["state"] != "canceled" or (client_id is not None and not client_id.startswith("hand-")):
            continue
        leg = venue.leg_of(row)
        for look in looks.cancelled.get((venue.account, str(row["order_id"])), []):
            why = _why_cancelled(look, leg, courses, trades)
            if why is not None:
                yield why, True
            elif not _is_all_ours(look.held_ms, look.held_ms, leg, courses, trades):
                yield f"order {row['order_id']} on {leg} was cancelled, and contracts are held there", False


def _why_cancelled(look: Look, leg: Leg, courses: Courses, trades: Trades) -> str | None:
    if _is_all_ours(look.held_ms, look.held_ms, leg, courses, trades):
        return None
    if look.held_ms == -1:
        return _TAKEN_EMPTY
    if look.trades_ms > 0 and _is_all_ours(look.held_ms, look.trades_ms, leg, courses, trades):
        return _TAKEN_NEWER
    return None


def _is_all_ours(held_ms: int, left_ms: int, leg: Leg, courses: Courses, trades: Trades) -> bool:
    """Whether no more was held then than was left of a position; within one millisecond either may have been first."""
    on_leg = [course for course in courses.values() if _leg_of(course) == leg]
    for at_ms in (held_ms, held_ms - 1):
        held = next((each.after for each in reversed(trades.get(leg, [])) if each.at_ms <= at_ms), _ZERO)
        left = max((each.left_at(when) for each in on_leg for when in (left_ms, left_ms - 1)), default=_ZERO)
        if held <= left:
            return True
    return False


def left_resting(courses: Courses, books: Books, venue: Venue, trades: Trades) -> Iterator[tuple[str, bool]]:
    """At the end no order of ours rests, and nothing on a leg that a close has left flat."""
    left = {line["detail"].split()[-1] for line in books.audit if line["event"] == "order left"}
    for row in venue.orders:
        if row["state"] != "open":
            continue
        order_id, key = str(row["order_id"]), books.journaled.get(row["client_order_id"])
        if key is not None and key in courses:
            course = courses[key]
            is_alive = course.row["state"] in {"open", "closing"} and course.row["later"] is None
            if order_id not in left and not is_alive:
                yield f"order {order_id} of {key} left, {row['family']} {row['symbol']} {row['side']}", False
        elif (name := _flat_by(venue.leg_of(row), row, courses, books, trades)) is not None:
            yield f"order {order_id} left on a leg that {name} left flat", False


def _flat_by(leg: Leg, order: sqlite3.Row, courses: Courses, books: Books, trades: Trades) -> str | None:
    """The position whose close found the leg flat when the order was there, with nothing entered since."""
    on_leg = trades.get(leg, [])
    for key, course in courses.items():
        if _leg_of(course) != leg or course.ended is None or course.row["state"] != "closed":
            continue
        booked_at = [line["at"] for line in books.lines[key] if line["event"] == "booked"]
        was_there = order["created_ms"] <= course.ended.at_ms and booked_at
        is_flat = not any(each.trade_id > course.ended.trade_id and each.after > 0 for each in on_leg)
        if was_there and is_flat and books.bookings[key][0]["left_at_venue"] == "0":
            return str(key)
    return None


def _leg_of(course: Course) -> tuple[str, str, str]:
    return course.row["account"], course.row["symbol"], course.row["side"]
