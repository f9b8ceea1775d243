"""One sequence: a position from its entry on, a trader with hands, `track` and the close, as the design says them."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from poslock.closing.exits import Decision, Reads, Tracked, decide
from poslock.guard.first_look import first_look, is_complete, unverified, verified
from prove.legs_truth import Counts, Judged, Violation
from prove.legs_venue import AMOUNTS, NEVER, Rules, Sight, Venue

if TYPE_CHECKING:
    from poslock.ledger.journal import LegAtTracking

_LIMIT = 120  # ticks: far more than any sequence needs
_TIMEOUTS = 2
_NO_TICK = Decimal(0)
_PLACES = tuple(Decimal(1).scaleb(-places) for places in (2, 4, 8))


class Run(Judged):
    """One sequence; *unverified* is tracked with ``verify=False``."""

    def __init__(self, seed: int, counts: Counts, story: list[str] | None = None, *, unverified: bool = False) -> None:
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
            tick=rng.choice((_NO_TICK, Decimal(1), _PLACES[0])),
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
        self._how = "unverified" if unverified else rng.choice(("orders", "look", "look"))
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
        """Look until the trades explain what is held, for as long as the venue may take to show a change."""
        venue, sight = self._venue, self._sight
        orders = ("entry",) if self._how == "orders" else ()
        look, fitted, last, left, first = None, False, None, self._settles, 0
        while left:
            venue.now += 1
            self._hands("look")
            holding = sight.read()
            now_seen = holding, len(sight.seen)
            last, left, first = now_seen, *((left - 1, first) if now_seen == last else (self._settles, sight.newest))
            look = None
            if holding is None:
                continue
            look = first_look(holding, sight.trades, orders, 0)
            if fitted := is_complete(look, orders, AMOUNTS[self._contracts]):
                look = verified(look)
                break
            look = unverified(look)
            if self._how == "unverified":
                break
        if look is None or (self._how != "unverified" and look.leg.held < self._contracts):
            return False
        self._take(look.leg, fitted=fitted, first=first)
        return True

    def _take(self, leg: LegAtTracking, *, fitted: bool, first: int) -> None:
        """Track what this look shows; notes where it is the truth of no moment."""
        names = {trade.fill.trade_id for trade in leg.baseline}
        held = leg.held, leg.entry_price, leg.position_id
        moments = [number for number in range(len(self._venue.sizes)) if self._is_of(number, names, held)]
        self._from = moments[-1] if moments else self._sight.holding_at
        if moments:
            self._misread = "tracked unverified, with less held than tracked" if leg.held < self._contracts else ""
        else:
            self._misread = self._misread_as(first, fitted=fitted)
        self._baseline = frozenset(names)
        self._tracked = Tracked(
            AMOUNTS[self._contracts], leg.held, leg.entry_price, leg.position_id, self._baseline,
            entry_known=leg.entry_known,
        )  # fmt: skip
        self._own = self._contracts
        self._tell(
            f"tracked ({self._how}): S={self._contracts} B={leg.held} @ {leg.entry_price} {leg.position_id},"
            f" baseline {sorted(names)}; truth from #{self._from} on",
            self._misread and f"MISREAD: {self._misread}",
        )

    def _is_of(self, facts: int, names: set[str], held: tuple[Decimal, Decimal | None, str | None]) -> bool:
        """Whether the venue held that after the first *facts* facts, and *names* are of these, all exits among them.

        Entries may show later than that. The price may be one that the venue gave to what exits had left of it.
        """
        venue, holding = self._venue, self._venue.holdings[facts]
        contracts, price, position_id = held
        if holding is None or holding.contracts != contracts:
            return False
        if price is not None and (price, position_id) not in self._named(facts):
            return False
        for number, trade in enumerate(venue.trades):
            is_in = trade is not None and trade.fill.trade_id in names
            if is_in if number >= facts else venue.amounts[number] < 0 and venue.shows[number] < NEVER and not is_in:
                return False
        return True

    def _named(self, facts: int) -> set[tuple[Decimal | None, str | None]]:
        """The prices and ids of what was held after *facts* facts, up to the next entry."""
        venue, found = self._venue, set()
        for number in range(facts, len(venue.holdings)):
            holding = venue.holdings[number]
            if holding is None or (number > facts and venue.amounts[number - 1] > 0):
                break
            found.add((holding.entry_price, holding.position_id))
        return found

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
            reads = Reads(holding, sight.trades)
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
        if self._rebased and self._unsettled <= _TIMEOUTS:
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
        """A later position's trades are not of this one."""
        venue, sight = self._venue, self._sight
        if self._later:
            theirs = frozenset(
                trade.fill.trade_id
                for number in sight.seen
                if number >= self._later_from and (trade := venue.trades[number])
            )
            if not theirs <= self._baseline:
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
