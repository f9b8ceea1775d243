"""Whether some order explains what the processes of a run did to locks and ledger, position by position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prove.history import judged
from soak.books import Books
from soak.operations import operations_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prove.history import Verdict


@dataclass(frozen=True, slots=True)
class Explained:
    """The verdict on each position, and where the diaries and the audit contradict each other."""

    verdicts: Sequence[Verdict]
    contradictions: Sequence[str]

    @property
    def violations(self) -> list[str]:
        """In words. What could not be decided is among them: it is no approval."""
        return [*self.contradictions, *(each.why for each in self.verdicts if each.answer != "explained")]

    def figures(self) -> list[tuple[str, int]]:
        """How much was judged."""
        return [
            ("operations on locks and ledger", sum(each.operations for each in self.verdicts)),
            ("of these, undecided by a kill or an error", sum(each.undecided for each in self.verdicts)),
            ("positions they are on", len(self.verdicts)),
            ("of these, explained by an order", sum(each.answer == "explained" for each in self.verdicts)),
        ]


def explained(directory: str) -> Explained:
    """Judge the files of a run."""
    operations, contradictions = operations_of(directory, Books(Path(directory, "locks", "ledger.db")).audit)
    return Explained(judged(operations), contradictions)
