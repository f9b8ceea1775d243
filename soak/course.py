"""What became of a tracked position, by the venue's own fills: since which trade, which exits, and its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from soak.books import Trade


@dataclass
class Course:
    """One generation of a position.

    ``since`` are the trades on its leg that are not in its baseline. ``exits`` are those of the position, each with the
    contracts that are of it; ``ended`` is the trade that brought the leg to flat. ``is_true`` says that the ledger's
    holding was what the venue's fills lead to, at the end of the baseline or after trades that came to show later.
    """

    row: sqlite3.Row
    since: Sequence[Trade]
    is_true: bool
    exits: list[tuple[Trade, Fraction]] = field(default_factory=list)
    ended: Trade | None = None

    @property
    def sized(self) -> Fraction:
        """The contracts of the position, with what was adopted."""
        return Fraction(self.row["contracts"])

    @property
    def proved(self) -> Fraction:
        """The contracts of the position that its exits took off."""
        return sum((part for _, part in self.exits), Fraction(0))

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is held."""
        return self.ended is not None or self.proved == self.sized

    def left_at(self, at_ms: int) -> Fraction:
        """What was held of it after all trades until then."""
        gone = sum((each.contracts for each in self.since if each.is_exit and each.at_ms <= at_ms), Fraction(0))
        if self.ended is not None and self.ended.at_ms <= at_ms:
            return Fraction(0)
        return max(Fraction(0), self.sized - gone)


def course_of(row: sqlite3.Row, baseline: Iterable[sqlite3.Row], trades: Sequence[Trade]) -> Course:
    """The course of one generation of a position on the leg that has these *trades*."""
    last = max((int(each["trade_id"]) for each in baseline), default=0)
    held, since = Fraction(row["held"]), [each for each in trades if each.trade_id > last]
    before = next((each.after for each in reversed(trades) if each.trade_id <= last), Fraction(0))
    # What had not come to show yet when the holding was read is in it, but not in the baseline.
    shown_late = 0 if before == held else next((n for n, each in enumerate(since, 1) if each.after == held), None)
    found = Course(row, since[shown_late or 0 :], shown_late is not None)
    missing = found.sized
    for each in found.since:
        part = min(each.part, missing)
        if each.is_exit and found.ended is None and part:
            found.exits.append((each, part))
            missing -= part
        if each.is_exit and each.after <= 0 and found.ended is None:
            found.ended = each
    return found
