"""One row of the result: a work, what each contestant took for it, and the bounds that poslock has to meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.contestants import POSLOCK

if TYPE_CHECKING:
    from bench.series import Series


@dataclass(frozen=True, slots=True)
class Bound:
    """poslock's median must be at most so many times that of *against*; where that is None, at most so much.

    ``why`` is the reason why it cannot be met, where that is known.
    """

    at_most: float
    against: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """``unit`` is "s" for seconds, "%" of a core, "x" for a ratio, "" for a count."""

    work: str
    unit: str
    series: dict[str, Series]
    bounds: tuple[Bound, ...] = ()

    def ratio(self, against: str) -> float | None:
        """poslock's median divided by the other one's, if there is something to divide by."""
        other = self.series[against].median
        return self.series[POSLOCK.name].median / other if other else None

    def measured(self, bound: Bound) -> float | None:
        """What *bound* bounds."""
        return self.series[POSLOCK.name].median if bound.against is None else self.ratio(bound.against)

    def is_met(self, bound: Bound) -> bool:
        """Whether poslock keeps within *bound*; False if it cannot be said."""
        measured = self.measured(bound)
        return measured is not None and measured <= bound.at_most
