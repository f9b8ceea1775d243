"""One sequence: a position from its entry on, a trader with hands, `track` and the close, as the design says them."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from poslock.closing.exits import Decision, Reads, Tracked, averaged, decide
from prove.legs_truth import Counts, Judged, Violation
from prove.legs_venue import AMOUNTS, NEVER, Rules, Sight, Venue

if TYPE_CHECKING:
    from poslock.position import Trade

_LIMIT = 120  # ticks: far more than any sequence needs
_TIMEOUTS = 2
_PLACES = tuple(Decimal(1).scaleb(-places) for places in (2, 4, 8))


class Run(Judged):
    """One sequence."""

    def __init__(self, seed: int, counts: Counts, story: list[str] | None = None) -> None:
        self._rng = rng = Random(seed)  # noqa: S311  # to be repeated
        luck = rng.random
        lag = 0 if luck() < 0.25 else rng.choice((2, 3))
        rules = Rules(
            ids=luck() < 0.5,
            one_way=luck() < 0.5,
            lag=lag,
            smallest=2 if luck() < 0.15 else 0,
            places=rng.choice(_PLACES),
            idle_zeros=luck() < 0.5,
            newest=rng.randint(1, 3) if luck() < 0.03 else NEVER,
        )
        venue = Venue(rng, rules)
        super().__init__(venue, Sight(venue, rng), counts, story)
        self._settles = lag or 2
        # The hands, and what the venue does now and then.
        self._never = luck() < 0.03
        self._reprices = luck() < 0.04
        self._empty_at = rng.randint(1, 8) if luck() < 0.06 else -1
        self._partial = luck() < 0.2
        self._acts: dict[tuple[int, str], int] = {}
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4))):
            moment = rng.randint(1, 9), rng.choice(("look", "send"))
            self._acts[moment] = self._acts.get(moment, 0) + 1
        # The bot: how it tracks, when it tracks a later position, and how it closes.
        self._how = rng.choice(("orders", "look", "look", "unverified"))
        self._later_at = rng.randint(2, 12) if luck() < 0.08 else NEVER
        self._whole = luck() < 0.12
        self._contracts = rng.randint(1, 6)
        self._plain = False
        # The close, as far as it got.
        self._ours: dict[str, Decimal] = {}
        self._looks = self._unsettled = self._since = 0
        self._last: object = None
        self._decided: tuple[Decision, Reads, bool] | None = None
        self._has_ended = False
        self._rebased: frozenset[str] = frozenset()  # not for good until something is booked

    # What happens.

    def run(self) -> None:
        """All of it.

        Raises:
            Violation: what must not be.
        """
        self._counts.sequences += 1
        self._open()
        if not self._track():
            self._counts.ends["not tracked: the reads never agreed"] += 1
            return
        self._close()

    def _trade(self, amount: int, price: int, order: str | None = None) -> None:
        if not amount:
            return
        shows = 0
        if amount > 0 and order is None and self._venue.rules.lag and self._rng.random() < 0.2:
            shows = self._rng.randint(1, self._venue.rules.lag)
        if self._never and self._venue.now > 0 and order is None and self._rng.random() < 0.4:
            shows = NEVER
        self._venue.trade(amount, price, order, shows)
        self._tell(
            f"#{len(self._venue.trades)}", order or "hand", f"{amount:+} @ {price}: holds {self._venue.size}",
            {0: "", NEVER: "(never shows)"}.get(shows, f"(shows {shows} later)"),
        )  # fmt: skip

    def _entry_price(self) -> int:
        return 100 if self._rng.random() < 0.4 else self._rng.randint(98, 104)

    def _open(self) -> None:
        """What was on the leg before, and the entry."""
        rng, venue = self._rng, self._venue
        before = rng.random()
        if before < 0.15:  # a round trip
            size = rng.randint(1, 5)
            self._trade(size, self._entry_price())
            self._trade(-size, 100)
        elif before < 0.3:  # more than the position
            self._trade(rng.randint(1, 5), self._entry_price())
        elif before < 0.35 and venue.rules.one_way:
            self._trade(-rng.randint(1, 5), 100)
        if rng.random() < 0.7:
            venue.now = 0
        short = max(0, -venue.size)
        if self._contracts > 1 and rng.random() < 0.3:
            self._trade(short + 1, 100, "entry")
            self._trade(self._contracts - 1, self._entry_price(), "entry")
        else:
            self._trade(short + self._contracts, 100, "entry")
        self._entry_facts = len(venue.trades)
        venue.now = 0
        self._plain = (
            not venue.rules.lag and not self._acts and venue.size == self._contracts and not self._partial
            and venue.rules.smallest <= self._contracts and self._empty_at < 0 and not self._reprices
            and venue.rules.newest == NEVER
        )  # fmt: skip

    def _hands(self, moment: str) -> None:
        for _ in range(self._acts.get((self._venue.now, moment), 0)):
            self._act()

    def _act(self) -> None:
        rng, venue, size = self._rng, self._venue, self._venue.size
        luck = rng.random()
        if size <= 0:
            self._enter()
        elif self._reprices and luck < 0.5:
            venue.reprice()
            self._tell("a new price without a trade:", venue.holdings[-1] and venue.holdings[-1].entry_price)
        elif luck < 0.25:
            self._trade(rng.randint(1, 5), self._entry_price())
        elif luck < 0.5:
            self._trade(-rng.randint(1, size), 100)
        elif luck < 0.7:
            self._trade(-size, 100)
        elif luck < 0.85:  # out, and in again
            out = rng.choice((size, rng.randint(1, size)))
            self._trade(-out, 100)
            self._trade(rng.choice((out, rng.randint(1, 6))), self._entry_price())
        elif luck < 0.92:  # in, and out again
            more = rng.randint(1, 4)
            self._trade(more, self._entry_price())
            self._trade(-rng.choice((more, rng.randint(1, size + more))), 100)
        else:  # a flip, or flat where there are no flips
            self._trade(-size - (rng.randint(1, 4) if venue.rules.one_way else 0), 100)

    def _enter(self) -> None:
        """Enter again, from flat or from the other side; or go to the other side."""
        rng, size = self._rng, self._venue.size
        if size < 0:
            self._trade(-size + rng.choice((0, rng.randint(1, 6))), self._entry_price())
        elif self._venue.rules.one_way and rng.random() < 0.2:
            self._trade(-rng.randint(1, 4), 100)
        else:
            self._trade(rng.choice((self._contracts, rng.randint(1, 6))), self._entry_price())

    # `track`, as the design says.

    def _track(self) -> bool:
        venue, sight, same, last = self._venue, self._sight, 0, None
        for _ in range(self._settles * 4 + 12):
            venue.now += 1
            self._hands("look")
            holding = sight.read()
            size = venue.sizes[sight.holding_at]
            now_seen = (size, holding and holding.entry_price, len(sight.seen))
            same = same + 1 if now_seen == last else 0
            last = now_seen
            if holding is None or (self._how != "unverified" and size < self._contracts):
                if venue.size < self._contracts and sight.is_caught_up():
                    return False
                continue
            shown = all(number in sight.seen for number in range(self._entry_facts) if self._is_entry(number))
            if (
                self._how == "unverified"
                or ((shown or self._how == "look") and self._runs_back(size, holding.entry_price))
                or (same >= self._settles and (shown or self._how == "look"))
            ):
                return self._take(size, shown=shown)
        return False

    def _is_entry(self, number: int) -> bool:
        trade = self._venue.trades[number]
        return trade is not None and trade.order_id == "entry"

    def _runs_back(self, size: int, price: Decimal | None) -> bool:
        """Whether the trades, run back from *size*, reach 0, and give *price* from there.

        Where sizes have no sign, they must not go below 0 on the way to the oldest one either.
        """
        start, amounts, seen = size, self._venue.amounts, self._sight.seen
        first, part = -1, 0
        for place in range(len(seen) - 1, -1, -1):
            after, start = start, start - amounts[seen[place]]
            if start < 0 and not self._venue.rules.one_way:
                return False
            if start <= 0 < after and first < 0:
                first, part = place, after
        if first < 0:
            return False
        entry = self._venue.trades[seen[first]]
        assert entry is not None
        rest = [trade for number in seen[first + 1 :] if (trade := self._venue.trades[number])]
        average = averaged(AMOUNTS[part], entry.fill.price, rest, inverse=False)
        return average is not None and average.quantize(self._venue.rules.places) == price

    def _take(self, size: int, *, shown: bool) -> bool:
        """Track what this look shows; notes where it is not the truth of one moment."""
        venue, sight = self._venue, self._sight
        holding = venue.holdings[sight.holding_at]
        assert holding is not None
        self._from = sight.holding_at
        base = sight.seen
        if self._how == "orders":  # B is from before what came after the entry
            base = [number for number in base if number < self._entry_facts]
            size -= sum(venue.amounts[number] for number in sight.seen if number >= self._entry_facts)
            holding, self._from = venue.holdings[self._entry_facts], self._entry_facts
            if holding is None or size != venue.sizes[self._entry_facts]:
                return False
        elif self._how == "unverified" and not shown and self._rng.random() < 0.5:
            self._how = "orders, unverified"
            self._baseline = None
        inside = set(base) if self._baseline is not None else set(range(self._entry_facts))
        how = "unverified" if "unverified" in self._how else "where the trades fitted by coincidence"
        for number, amount in enumerate(venue.amounts):
            if number >= self._from and number in inside:
                self._misread = f"tracked {how}, from a holding older than the trades"
            elif number < self._from and number not in inside and amount < 0 and venue.shows[number] < NEVER:
                self._misread = f"tracked {how}, with an exit that showed late"
        if size < self._contracts and not self._misread:
            self._misread = "tracked unverified, with less held than tracked"
        names = [trade.fill.trade_id for number in base if (trade := venue.trades[number])]
        if self._baseline is not None:
            self._baseline = frozenset(names)
        self._tracked = Tracked(
            AMOUNTS[self._contracts], AMOUNTS[size], holding.entry_price, holding.position_id,
            self._baseline or frozenset(), entry_known=self._how == "orders",
        )  # fmt: skip
        self._own = self._contracts
        self._tell(
            f"tracked ({self._how}): S={self._contracts} B={size} @ {holding.entry_price} {holding.position_id},"
            f" baseline {sorted(names) if self._baseline is not None else 'to come'}; truth from #{self._from} on",
            self._misread and f"MISREAD: {self._misread}",
        )
        return True

    # The close.

    def _close(self) -> None:
        venue = self._venue
        self._since = venue.now
        while venue.now < _LIMIT:
            if self._looks:
                venue.now += 1
                self._hands("look")
            self._looks += 1
            decision, reads = self._look()
            if self._obeyed(decision, reads):
                return
            if decision.act != "send":
                self._hands("send")
        raise Violation("it never came to an end")

    def _look(self) -> tuple[Decision, Reads]:
        """Read both, and ask the function, if it was not asked the same before."""
        venue, sight = self._venue, self._sight
        holding = sight.read() if self._looks > 1 else venue.holdings[sight.holding_at]
        self._is_mistaken = self._looks == self._empty_at
        if self._is_mistaken:
            holding = None
            self._tell("an empty list by mistake")
        self._join_baseline()
        self._track_later()
        seen = (
            holding and (holding.contracts, holding.entry_price, holding.position_id),
            len(sight.seen),
            sum(self._ours.values()),
            self._tracked.baseline,
            self._tracked.later,
        )
        if seen != self._last:
            self._last, self._since, self._decided = seen, venue.now, None
        settled = self._is_settled()
        if self._decided is None or self._decided[2] != settled:
            reads = Reads(holding, self._counted())
            decision = decide(self._tracked, reads, settled=settled, whole=self._whole)
            self._decided = decision, reads, settled
            self._counts.rows[f"{decision.row} {decision.act}"] += 1
            self._tell(
                f"look: holds {holding and holding.contracts} @ {holding and holding.entry_price} "
                f"(as of #{sight.holding_at}), trades {[number + 1 for number in sight.seen]}"
                f"{', settled' if settled else ''}: {decision}"
            )
        return self._decided[0], self._decided[1]

    def _is_settled(self) -> bool:
        return self._venue.now - self._since >= self._settles

    def _counted(self) -> list[Trade]:
        """Every trade ever seen; only our own until the named entries show."""
        if self._baseline is not None:
            return self._sight.trades
        return [trade for trade in self._sight.trades if trade.fill.client_order_id in self._ours]

    def _obeyed(self, decision: Decision, reads: Reads) -> bool:
        """Do what was decided; whether that was the end."""
        has_ended, self._has_ended = self._has_ended, decision.act == "ended"
        if self._looks == 1 and self._plain and decision.contracts != self._contracts:
            raise Violation("a plain position was not sent whole at the first look")
        if decision.act in {"left", "rebase", "unsettled"} and decision.row != 1 and not self._is_settled():
            raise Violation(f"{decision.act} before it was the same for long enough")
        if decision.act == "send":
            self._counts.rows["sent at the first look"] += self._looks == 1
            self._send(decision, is_held=reads.holding is not None)
        elif decision.act == "rebase":
            assert self._baseline is not None
            self._rebased = frozenset(decision.late)
            self._baseline |= self._rebased
            self._retrack(baseline=self._baseline)
        elif decision.act == "unsettled":
            return self._is_given_up(decision)
        elif decision.act != "look":
            self._check_over(decision)
            if decision.act == "ended" and not has_ended:  # the sweep, and another look
                if self._plain and self._looks != 2:  # the order, then this look
                    raise Violation("a plain position had not ended at the second look")
                self._decided = None
                return False
            self._book(decision, reads)
            return True
        return False

    def _is_given_up(self, decision: Decision) -> bool:
        self._unsettled += 1
        if self._rebased and self._baseline is not None and self._unsettled <= _TIMEOUTS:
            # It was no late entry: the next close looks afresh, without what this one made of it.
            self._retrack(baseline=self._baseline - self._rebased)
            self._baseline, self._rebased, self._last = self._tracked.baseline, frozenset(), None
            return False
        is_still = not self._is_mistaken and all(tick <= self._venue.now for tick, _ in self._acts)
        if is_still and self._sight.is_caught_up():
            self._check_unsettled(decision)
            return True
        if self._unsettled >= _TIMEOUTS:
            self._counts.ends["unsettled while the leg still moved"] += 1
            return True
        self._last = None
        return False

    def _join_baseline(self) -> None:
        """The entry orders' trades showed at last; and a later position's trades are not of this one."""
        venue, sight = self._venue, self._sight
        if self._baseline is None and all(n in sight.seen for n in range(self._entry_facts) if self._is_entry(n)):
            self._baseline = frozenset(
                trade.fill.trade_id
                for number in range(self._entry_facts)
                if number in sight.seen and (trade := venue.trades[number])
            )
            self._retrack(baseline=self._baseline)
        if self._later:
            theirs = frozenset(
                trade.fill.trade_id
                for number in sight.seen
                if number >= self._later_from and (trade := venue.trades[number])
            )
            if self._baseline is not None and not theirs <= self._baseline:
                self._baseline |= theirs
                self._retrack(baseline=self._baseline)

    def _track_later(self) -> None:
        facts = len(self._venue.trades)
        if self._later or self._venue.now < self._later_at or self._venue.size <= 0:
            return
        if not self._truth(facts).ended or not self._sight.is_caught_up():
            return  # `track` of the later one looks until both reads show what there is
        self._later, self._later_from = self._venue.size, facts
        self._retrack(later=AMOUNTS[self._later])
        self._tell(f"a later position was tracked with {self._later} held")

    def _retrack(
        self, *, baseline: frozenset[str] | None = None, later: Decimal | None = None, contracts: Decimal | None = None
    ) -> None:
        old = self._tracked
        self._tracked = Tracked(
            contracts or old.contracts, old.held, old.entry_price, old.position_id,
            old.baseline if baseline is None else baseline, entry_known=old.entry_known, ours=dict(self._ours),
            later=later or old.later,
        )  # fmt: skip

    def _send(self, decision: Decision, *, is_held: bool) -> None:
        venue = self._venue
        self._hands("send")
        wanted, facts = int(decision.contracts), len(venue.trades)
        if not is_held or wanted <= 0 or self._later:
            raise Violation("an order for nothing that is held, or for a later position")
        if wanted < venue.rules.smallest:
            raise Violation("an order for less than the venue lets one close")
        shown = sum(trade.fill.contracts for trade in self._sight.trades if trade.fill.client_order_id in self._ours)
        if shown != sum(self._ours.values()):
            raise Violation("a second order, before all fills of the first show")
        filled = min(wanted, max(0, venue.size))
        if self._partial and filled > 1 and self._rng.random() < 0.5:
            filled = self._rng.randint(1, filled)
        before = self._truth(facts)
        allowed = before.ours if not self._whole else 0 if before.ended else venue.size
        self._sent += 1
        order = f"o{self._sent}"
        self._ours[order] = AMOUNTS[filled]
        first = self._rng.randint(1, filled) if self._partial and filled else filled
        for part in (first, filled - first):
            self._trade(-part, 100, order)
        adopted = max(0, filled - (wanted - int(decision.adopted)))
        if adopted:
            self._own += adopted
        self._retrack(contracts=AMOUNTS[self._own])
        if filled > allowed:
            self._blame("sold", f"sold {filled} where {allowed} were left of the position", wanted)
