"""What is true of a simulated position, and whether what was said of it could be known.

A failure of a check is *blamed* on a cause that is recognised from the truth of the sequence: which facts are newer
than both reads, which entries do not show, at which prices. The first name that fits is counted; without one the
failure is a violation. `GRANTED` are the causes that the table grants. Those `APART` were found here: each has two
worlds that read the same and need another answer (test_two_worlds_that_read_the_same). What ``verify=False`` costs
begins with its name. What was tracked counts from the newest moment at which the venue held that, and the trades were
these. If there is none, the sequence is not judged any further; but then the reads must have fitted each other, or
stayed the same for long enough, for a cause that the truth shows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from poslock.closing.exits import Decision, Reads, Tracked, averaged, view
from prove.legs_venue import AMOUNTS, NEVER, Sight, Venue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.position import Trade

_NEWER = "a fact newer than both reads, or between look and send"
_SAME_PRICE = "entries at the very same price, whose trades do not show"
_NEVER_SHOWN = "trades that the venue never shows, with a lag"
GRANTED = (_NEWER, _SAME_PRICE, _NEVER_SHOWN)
REPLACED = "an exit that the venue never shows, where what shows leads to what is held without it"
EMPTY = "an empty list of positions by mistake, while an entry does not show"
APART = (REPLACED, EMPTY)
_LATE_AND_WHOLE = "tracked unverified, a whole close, and a late entry that equals what a read does not show"


class Violation(AssertionError):
    """The function said what the truth forbids."""


@dataclass(slots=True)
class Truth:
    """What is true of the position after some facts: O, whether it has ended, and its exits by trade."""

    ours: int
    ended: bool
    exits: list[tuple[str, int]]


@dataclass(slots=True)
class Counts:
    """What a run came to."""

    sequences: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    residuals: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Take in what another run came to."""
        self.sequences += other.sequences
        self.rows += other.rows
        self.ends += other.ends
        self.residuals += other.residuals
        self.violations += other.violations


class Judged:
    """A sequence so far: the venue, what was seen of it, what was tracked and sent."""

    def __init__(self, venue: Venue, sight: Sight, counts: Counts, story: list[str] | None) -> None:
        self._venue, self._sight, self._counts, self._story = venue, sight, counts, story
        self._tracked: Tracked
        self._baseline: frozenset[str] = frozenset()
        self._from = 0  # facts that B contains
        self._own = 0  # S, and what a whole close adopted
        self._sent = 0
        self._later = 0  # contracts held when a later position was tracked, and the facts of that time
        self._later_from = NEVER
        self._whole = False
        self._misread = ""  # what the reads of `track` did not show
        self._is_mistaken = False  # this look saw an empty list
        self._blamed = ""  # an order that sold too much
        self._how = ""  # it was tracked

    def _tell(self, *words: object) -> None:
        if self._story is not None:
            self._story.append(f"{self._venue.now:4} {' '.join(map(str, words))}")

    def _truth(self, facts: int) -> Truth:
        """The position after the first *facts* facts."""
        venue = self._venue
        size, gone, ended, exits = venue.sizes[self._from], 0, False, []
        most, missing = size, self._own
        for number in range(self._from, facts):
            amount = venue.amounts[number]
            if amount > 0:
                most += amount
            elif amount < 0:
                part = min(-amount, size, missing)
                if not ended and part > 0:
                    trade = venue.trades[number]
                    assert trade is not None
                    exits.append((trade.fill.trade_id, part))
                    missing -= part
                gone -= amount
            size += amount
            ended = ended or (amount < 0 and size <= 0)
        return Truth(0 if ended else max(0, min(self._own, most) - gone), ended, exits)

    def _blame(self, kind: str, what: str, wanted: int = 0) -> None:
        """Count *what* by the name of its cause.

        Raises:
            Violation: no cause is known.
        """
        name = self._residual(kind, wanted)
        if not name:
            raise Violation(what)
        if wanted:
            self._blamed = name
        self._tell(f"{what}: {name}")
        self._counts.residuals[f"{kind}: {name}"] += 1

    def _residual(self, kind: str, wanted: int) -> str:
        venue, sight = self._venue, self._sight
        newest, seen = sight.newest, set(sight.seen)
        hidden = [each for each in range(self._from, newest) if each not in seen and venue.amounts[each]]
        if wanted and not self._is_wrong_at(newest, wanted):
            name = _NEWER
        elif self._misread:
            name = self._misread
        elif kind == "over" and self._is_mistaken and any(venue.amounts[each] > 0 for each in hidden):
            name = EMPTY
        elif not wanted and self._blamed and self._whole:
            name = self._blamed  # it adopted what it sold too much
        elif any(venue.shows[each] >= NEVER for each in hidden):
            lags = len(venue.trades) > min(newest, sight.holding_at) or any(venue.shows[n] < NEVER for n in hidden)
            # Without a lag it is what one of them hid from an order: that one is booked, and should not have been sent.
            name = _NEVER_SHOWN if lags else self._blamed or self._replaced([n for n in hidden if venue.amounts[n] < 0])
        elif self._how == "unverified" and self._whole and self._has_late_entry():
            name = _LATE_AND_WHOLE
        else:
            name = self._same_price([n for n in hidden if venue.amounts[n] > 0 and n < sight.holding_at])
        return name

    def _replaced(self, exits: list[int]) -> str:
        """Whether *exits* do not show in the holding either: it is what the trades that show lead to."""
        venue, sight = self._venue, self._sight
        late = {n for n in sight.seen if (trade := venue.trades[n]) and trade.fill.trade_id in self._baseline}
        net = int(self._tracked.held) + sum(venue.amounts[n] for n in sight.seen if n >= self._from and n not in late)
        held = 0 if self._is_mistaken else venue.sizes[sight.holding_at]
        return REPLACED if exits and max(0, net) == max(0, held) else ""

    def _misread_as(self, first: int, *, fitted: bool) -> str:
        """Why the reads of `track` *fitted* each other, or stayed the same till its end, and are of no one moment.

        *first* is how many facts the newest one in either read made when they had become the same. Empty if they did
        not fit in truth, or the holding was older, and the trades told: it is read again then.
        """
        venue, sight = self._venue, self._sight
        if self._how == "unverified":
            return "tracked unverified"
        holding, seen = venue.holdings[sight.holding_at], set(sight.seen)
        assert holding is not None
        hidden = [n for n in range(sight.newest) if venue.trades[n] and n not in seen]
        if any(venue.shows[each] >= NEVER for each in hidden):
            return _NEVER_SHOWN
        if not fitted and hidden and hidden[0] >= first:  # it left the reads that were waited on as they were
            return _NEWER
        if not hidden or (fitted and not self._give(sight.trades, holding.contracts, holding.entry_price)):
            return ""
        is_in_holding = any(venue.amounts[each] > 0 and each < sight.holding_at for each in hidden)
        return _SAME_PRICE if fitted and is_in_holding else ""

    def _give(self, shown: Sequence[Trade], held: Decimal, price: Decimal | None) -> bool:
        """Whether *shown*, run back from *held*, reach flat, and give *price* within the last place of those read."""
        size, start = held, len(shown)
        while size > 0 and start:
            start -= 1
            size -= shown[start].fill.contracts * (1 if shown[start].effect == "entry" else -1)
        if size > 0 or price is None:
            return size <= 0
        first, *rest = shown[start:]
        average = averaged(first.fill.contracts + size, first.fill.price, rest, inverse=False)
        read = [each.fill.price for each in shown[start:] if each.effect == "entry"]
        return average is not None and self._is_near(average, price, read)

    def _is_wrong_at(self, facts: int, wanted: int) -> bool:
        """Whether an order for *wanted* would have been wrong already at the newest fact that was read."""
        size, truth = self._venue.sizes[facts], self._truth(facts)
        allowed = truth.ours if not self._whole else 0 if truth.ended else size
        return min(wanted, max(0, size)) > allowed

    def _is_near(self, average: Decimal, named: Decimal, read: Sequence[Decimal]) -> bool:
        """Whether the venue may mean *average* by *named*: off by the last place that is known for each *read*."""
        tick = self._venue.rules.tick
        last = Decimal(1).scaleb(min(int(each.as_tuple().exponent) for each in (named, *read)))
        return abs(average - named) < (min(last, tick) if tick else last) * len(read)

    def _has_late_entry(self) -> bool:
        """Whether an entry that B contained has not joined the baseline."""
        venue, baseline = self._venue, self._tracked.baseline
        return any(
            each < self._from and (trade := venue.trades[each]) and trade.fill.trade_id not in baseline
            for each in self._sight.seen
        )

    def _same_price(self, entries: list[int]) -> str:
        """Whether *entries* do not show in the price either: it is the tracked one, or what the trades seen give."""
        holding, tracked = self._venue.holdings[self._sight.holding_at], self._tracked
        if not entries or holding is None or holding.position_id != tracked.position_id:
            return ""
        named, price = holding.entry_price, tracked.entry_price
        if price is None:  # an exit and an entry came behind the named orders
            trades = [trade for each in entries if (trade := self._venue.trades[each])]
            return _SAME_PRICE if all(trade.fill.price == named for trade in trades) else ""
        if named is None or named == price:
            return _SAME_PRICE if named else ""
        new = [each for each in self._sight.trades if each.fill.trade_id not in tracked.baseline]
        average = averaged(tracked.held, price, new, inverse=False)
        read = [price, *(each.fill.price for each in new if each.effect == "entry")]
        return _SAME_PRICE if average is not None and self._is_near(average, named, read) else ""

    def _check_over(self, decision: Decision) -> None:
        """Nothing of the position is left, and what is held is named."""
        venue, sight = self._venue, self._sight
        truth = self._truth(sight.newest)
        if decision.act == "left" and decision.left != (
            None if self._later else AMOUNTS[max(0, venue.sizes[sight.holding_at])]
        ):
            raise Violation("what is left is not what is held")
        if truth.ours and truth.ours >= venue.rules.smallest:
            self._blame("over", f"it was over while {truth.ours} contracts of it were held")
        if decision.act == "ended" and not truth.ended and venue.sizes[sight.newest] > 0:
            self._blame("over", "it has ended, the position has not")
        if decision.act == "left" and self._whole and not truth.ended and truth.ours >= venue.rules.smallest > 0:
            self._blame("over", "a whole close left something")

    def _book(self, decision: Decision, reads: Reads) -> None:
        """The exits of the position, each once."""
        booked = [(fill.trade_id, int(fill.contracts)) for fill in view(self._tracked, reads).exits]
        truth = self._truth(self._sight.newest).exits
        self._tell("booked", booked, "truth", truth)
        if booked != truth and booked != self._truth(len(self._venue.trades)).exits:
            self._blame("booked", f"booked {booked}, and its exits are {truth}")
        left = 0 if decision.left is None else int(decision.left)
        if self._whole and decision.row == 3 and left >= (self._venue.rules.smallest or 1):  # noqa: PLR2004  # the row
            raise Violation("a whole close left what could be closed")
        self._counts.ends[f"{decision.row} {decision.act}"] += 1

    def _check_unsettled(self, decision: Decision) -> None:
        """All that will ever show was read."""
        venue = self._venue
        if self._misread:
            reason = self._misread
        elif any(shows >= NEVER for shows in venue.shows):
            reason = "trades that the venue never shows"
        elif any(trade is None for trade in venue.trades):
            reason = "a new price without a trade, at a venue without position ids"
            if venue.rules.ids and decision.reason.startswith("the venue's entry price"):
                raise Violation(f"the venue's id vouches for it: {decision.reason}")
            if venue.rules.ids:
                reason = "a new price without a trade, and an entry that showed late"
        elif self._has_late_entry() and min(venue.sizes[self._from :]) < 0:
            reason = "an entry that showed late, and the leg crossed to the other side"
        elif self._has_late_entry() and self._tracked.entry_known:
            reason = "an entry that showed late, though the reads of `track` explained all that was held"
        elif self._later:
            reason = "a later position, and an entry that showed late"
        elif (
            min(self._own, int(self._tracked.held)) < venue.rules.smallest
            and not view(self._tracked, Reads(None, self._sight.trades)).closed
        ):
            reason = "it was never more than a crumb"
        else:
            raise Violation(f"unsettled without a reason: {decision.reason}")
        self._counts.ends[f"unsettled: {reason}"] += 1
