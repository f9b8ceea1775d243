"""What a leg shows of the position that was tracked on it, and what follows: a table, as a pure function.

A position is ``S`` contracts that were tracked on a leg on which the venue held ``B``. What became of them follows from
two reads that lag each on its own: the holding ``H``, and the trades. ``N`` and ``E`` are the contracts of entries and
exits since then. The *running size* goes from B through the trades in the venue's order. It has a sign, for in one-way
mode it crosses flat. The reads *agree* when H = B + N - E. Exits count against S first, whoever made them, so *ours* is
O = min(S, B + N) - E until the running size has reached 0, and nothing after that.

Purpose: no contract is sold that came after the position ended, none that somebody else added, and "closed" is not said
while some of it is held.

Not protected: a fact that is newer than both reads; entries at the very same price whose trades do not show; trades
that the venue never shows, together with a holding that lags, or in whose place others show; an empty list by mistake
while an entry does not show. The model in `prove.legs` counts them, and the design page says why no rule can tell.

Trades are told apart by their ids. No clock of ours and no time of the venue's is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING, Literal, TypeAlias

from poslock.pnl import part_of
from poslock.position import EXACT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from poslock.exchange.port import Holding
    from poslock.position import Fill, Trade

Act: TypeAlias = Literal["send", "ended", "left", "look", "rebase", "unsettled"]
_NONE = Decimal(0)
_AVERAGE_DIGITS = 60


@dataclass(frozen=True, slots=True)
class Tracked:
    """A position as the ledger knows it, in the terms of the table.

    ``contracts`` is S and ``held`` is B. ``entry_price`` and ``position_id`` are the venue's own at that time, None if
    it said none. ``baseline`` holds the ids of trades that B contains, and of those that another position has booked.
    ``entry_known`` says that no entry can show late: B was verified, and the bot named its entry orders, or the trades
    led from flat to B. ``ours`` is what the orders of this close, and reduces before it, have filled so far, by client
    order id. ``later`` is what the venue held when a later position was tracked on the leg, None if there is none.
    """

    contracts: Decimal
    held: Decimal
    entry_price: Decimal | None = None
    position_id: str | None = None
    baseline: frozenset[str] = frozenset()
    entry_known: bool = False
    inverse: bool = False
    spot: bool = False
    ours: Mapping[str, Decimal] = field(default_factory=dict)
    later: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What the venue said: the leg, None if nothing is held there; and every trade ever seen, in the venue's order."""

    holding: Holding | None
    trades: Sequence[Trade]

    @property
    def held(self) -> Decimal:
        """H."""
        return self.holding.contracts if self.holding else _NONE


@dataclass(frozen=True, slots=True)
class LegView:
    """A leg in the terms of the table.

    ``net`` is B + N - E with its sign. E includes what our own orders report as filled before it shows among the
    trades, which is ``unseen``. ``sizes`` are the running sizes from B on. ``exits`` are those of this position, the
    last one cut at its size. ``ours`` is O, ``beyond`` what exits took after S was gone.
    """

    held: Decimal
    net: Decimal
    sizes: tuple[Decimal, ...]
    ended: bool
    ours: Decimal
    exits: tuple[Fill, ...]
    unseen: Decimal
    beyond: Decimal = _NONE

    @property
    def agree(self) -> bool:
        """Whether the trades explain the holding. On the other side of flat nothing of the leg is held."""
        return self.held == max(_NONE, self.net)

    @property
    def closed(self) -> Decimal:
        """Contracts of the position that its exits prove."""
        with localcontext(EXACT):
            return sum((fill.contracts for fill in self.exits), _NONE)


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the table: which, and what follows.

    - ``send``: close ``contracts`` now. ``adopted`` of them are taken into the position by that.
    - ``ended``: nothing of the leg is held; sweep, look again, book.
    - ``left``: the position is over, and ``left`` contracts are held that are not its own; book, leave their orders.
    - ``rebase``: the trades ``late`` are entries that B contained already; they join the baseline, then look again. Not
      for good before something is booked: if it is ``unsettled`` after that, they were none, and the next close looks
      without.
    - ``look``: nothing can be said yet; look again.
    - ``unsettled``: nothing has changed for long enough. ``reason`` says what does not fit.
    """

    row: Literal[1, 2, 3, 4, 5]
    act: Act
    contracts: Decimal = _NONE
    adopted: Decimal = _NONE
    left: Decimal | None = _NONE
    late: tuple[str, ...] = ()
    reason: str = ""


def view(tracked: Tracked, reads: Reads) -> LegView:
    """*reads* in the terms of the table."""
    with localcontext(EXACT):
        return _viewed(tracked, _new(tracked, reads), reads.held)


def decide(tracked: Tracked, reads: Reads, *, settled: bool = False, whole: bool = False) -> Decision:
    """The first row of the table that fits.

    *settled* says that the same was read for as long as the venue may take to show a change. *whole* asks to close all
    that the leg holds.
    """
    with localcontext(EXACT):
        seen = _viewed(tracked, _new(tracked, reads), reads.held)
        if tracked.later is not None:
            return _superseded(tracked, seen, settled=settled)
        if tracked.spot:
            return _balance(seen, reads, settled=settled)
        if seen.agree and seen.ended:
            return _over(seen, settled=settled)
        is_same = _is_same(tracked, reads)
        if seen.agree and seen.held and (is_same or _explains(tracked, _new(tracked, reads), reads)):
            return _open(seen, reads, settled=settled, whole=whole)
        late = _late_entry(tracked, reads, seen, settled=settled)
        if not settled and not seen.agree and seen.held and (is_same or late):
            rest = [trade for trade in _new(tracked, reads) if trade.fill.trade_id not in late]
            return _disagreeing(seen, reads, _viewed(tracked, rest, seen.held).ours if late else None)
        return _unexplained(tracked, reads, seen, late, settled=settled, whole=whole)


def is_explained(tracked: Tracked, holding: Holding | None, trades: Sequence[Trade]) -> bool:
    """Whether the venue holds just what the position and the trades seen so far lead to; no look at it is needed."""
    reads = Reads(holding, trades)
    seen = view(tracked, reads)
    if tracked.spot:
        return _NONE < seen.ours <= seen.held
    is_open = seen.agree and seen.ours > 0
    return is_open and (_is_same(tracked, reads) or _explains(tracked, _new(tracked, reads), reads))


def blind(tracked: Tracked, reads: Reads, why: str) -> Decision | None:
    """What may be closed while the trades cannot be read; *reads* has those that were seen before. None if nothing may.

    The venue names the tracked price and position, so what it holds is of that position; the proof comes later.
    """
    if tracked.later is not None or not (_is_same(tracked, reads) or tracked.spot):
        return None
    with localcontext(EXACT):
        seen = _viewed(tracked, _new(tracked, reads), reads.held)
        # What is missing among the trades counts as it would if they were only late.
        # (test_what_cannot_be_read_counts_against_the_position)
        wanted = min(seen.held, seen.ours if seen.agree or tracked.spot else _granted(seen))
    if not wanted or seen.unseen or not _is_closable(wanted, reads):
        return None
    return Decision(3, "send", wanted, reason=f"the trades cannot be read: {why}")


# The rows.


def _superseded(tracked: Tracked, seen: LegView, *, settled: bool) -> Decision:
    """Row 1: the leg belongs to a later position. Nothing is sent for this one any more."""
    if seen.net == tracked.later and not seen.unseen and seen.closed:
        return Decision(1, "left", left=None)
    why = (
        f"a later position was tracked on this leg with {tracked.later} held, and the trades of this one lead to "
        f"{seen.net}; settle it"
    )
    return Decision(1, "unsettled" if settled else "look", reason=why)


def _over(seen: LegView, *, settled: bool) -> Decision:
    """Row 2: the trades led to flat, and the holding agrees with them."""
    if seen.unseen:
        why = f"the venue shows no trades yet for {seen.unseen} contracts that our orders filled"
        return Decision(2, "unsettled" if settled else "look", reason=why)
    if not seen.held:
        return Decision(2, "ended")
    if settled:
        return Decision(2, "left", left=seen.held)
    return Decision(2, "look", reason=f"it ended, and {seen.held} contracts are held that came after it")


def _open(seen: LegView, reads: Reads, *, settled: bool, whole: bool) -> Decision:
    """Row 3: what is held is what was tracked and what the trades added to it."""
    wanted = seen.held if whole else min(seen.held, seen.ours)
    if wanted and _is_closable(wanted, reads):
        if seen.unseen:  # the fills of the first order are to show before a second one leaves
            return _waiting(3, seen, settled=settled)
        # Exits that came after the position's own were gone are in what it adopts: they count against its size first.
        # (test_the_whole_leg_is_closed_after_others_took_more_than_the_position)
        adopted = wanted - seen.ours + seen.beyond if wanted > seen.ours else _NONE
        return Decision(3, "send", wanted, adopted=adopted)
    if seen.unseen:
        return _waiting(3, seen, settled=settled)
    if settled and seen.closed:
        return Decision(3, "left", left=seen.held)
    why = f"{seen.held} contracts are held, {seen.ours} of them are of the position"
    if settled:  # a crumb that was never more
        return Decision(3, "unsettled", reason=f"{why}, which is less than the venue lets an order close")
    return Decision(3, "look", reason=why)


def _disagreeing(seen: LegView, reads: Reads, without_late: Decimal | None) -> Decision:
    """Row 4: one of the two reads is behind. What both of them grant may go out.

    *without_late* is O without the late entries that explain the difference, None if none do.
    """
    granted = _granted(seen) if without_late is None or seen.net <= seen.held else without_late
    wanted = min(seen.held, granted)
    why = f"{seen.held} contracts are held, and the trades lead to {seen.net}"
    if not wanted or seen.unseen or not _is_closable(wanted, reads):
        return Decision(4, "look", reason=why)
    return Decision(4, "send", wanted, reason=why)


def _granted(seen: LegView) -> Decimal:
    """What both reads grant of the position where they disagree."""
    with localcontext(EXACT):
        missing = seen.net - seen.held
        if missing > 0:  # exits that do not show; they count against the position first
            return max(_NONE, seen.ours - missing)
    # A holding from before an exit, or entries that do not show.
    return seen.ours if seen.held in seen.sizes[:-1] else _NONE


def _unexplained(  # noqa: PLR0913  # what the rows before have found
    tracked: Tracked, reads: Reads, seen: LegView, late: tuple[str, ...], *, settled: bool, whole: bool
) -> Decision:
    """Row 5: anything else."""
    why = _reason(tracked, reads, seen)
    if not settled:
        return Decision(5, "look", reason=why)
    if late:
        return Decision(5, "rebase", late=late, reason="its entry showed among the trades after it was tracked")
    holding = reads.holding
    if seen.agree and holding is not None and holding.position_id and holding.position_id == tracked.position_id:
        # The venue's id vouches for it, and the price alone does not fit.
        return replace(_open(seen, reads, settled=settled, whole=whole), row=5)
    return Decision(5, "unsettled", reason=why)


def _balance(seen: LegView, reads: Reads, *, settled: bool) -> Decision:
    """Spot: exits against the size decide, the balance only caps."""
    wanted = min(seen.held, seen.ours)
    if wanted and _is_closable(wanted, reads):
        return _waiting(3, seen, settled=settled) if seen.unseen else Decision(3, "send", wanted)
    if seen.unseen:
        return _waiting(3, seen, settled=settled)
    if not seen.ours:
        return Decision(2, "ended")
    smallest = reads.holding.smallest if reads.holding else _NONE
    if settled and seen.closed and wanted == seen.ours < smallest:
        return Decision(3, "left", left=seen.ours)
    why = f"{seen.held} are held, and {seen.ours} of the position are left"
    return Decision(5, "unsettled" if settled else "look", reason=why)


def _waiting(row: Literal[2, 3], seen: LegView, *, settled: bool) -> Decision:
    why = f"our orders filled {seen.unseen} contracts that the venue does not show among its trades"
    return Decision(row, "unsettled" if settled else "look", reason=why)


# What the rows ask.


def _new(tracked: Tracked, reads: Reads) -> list[Trade]:
    return [trade for trade in reads.trades if trade.fill.trade_id not in tracked.baseline]


def _viewed(tracked: Tracked, trades: Sequence[Trade], held: Decimal) -> LegView:
    size, sizes, ended = tracked.held, [tracked.held], False
    missing, exits = tracked.contracts, []
    shown: dict[str, Decimal] = {}
    for trade in trades:
        fill = trade.fill
        if trade.effect == "entry":
            size += fill.contracts
        else:
            mine = fill.client_order_id
            if mine is not None and mine in tracked.ours:
                shown[mine] = shown.get(mine, _NONE) + fill.contracts
            # Of a trade that crosses flat the part up to there is this position's, and of that what is missing.
            part = fill.contracts if tracked.spot else min(fill.contracts, size)
            if not ended and missing and part > 0:
                exits.append(part_of(fill, min(part, missing)))
                missing -= exits[-1].contracts
            size -= fill.contracts
            ended = ended or (size <= 0 and not tracked.spot)
        sizes.append(size)
    unseen = sum((max(_NONE, filled - shown.get(each, _NONE)) for each, filled in tracked.ours.items()), _NONE)
    if unseen:
        size -= unseen
        sizes.append(size)
        ended = ended or (size <= 0 and not tracked.spot)
    grown = sum((each.fill.contracts for each in trades if each.effect == "entry"), _NONE)
    most = tracked.contracts if tracked.spot else min(tracked.contracts, tracked.held + grown)
    gone = sum((each.fill.contracts for each in trades if each.effect == "exit"), _NONE) + unseen
    ours = _NONE if ended else max(_NONE, most - gone)
    return LegView(held, size, tuple(sizes), ended, ours, tuple(exits), unseen, max(_NONE, gone - most))


def _is_same(tracked: Tracked, reads: Reads) -> bool:
    """Whether the venue still names the price and the position that it named when the position was tracked."""
    holding = reads.holding
    if holding is None:
        return False
    return _is_same_id(tracked, holding) and (
        tracked.entry_price is None or holding.entry_price is None or holding.entry_price == tracked.entry_price
    )


def _is_same_id(tracked: Tracked, holding: Holding) -> bool:
    return tracked.position_id is None or holding.position_id == tracked.position_id


def _explains(tracked: Tracked, trades: Sequence[Trade], reads: Reads) -> bool:
    """Whether the average entry price, run from B through *trades*, is the one that the venue names."""
    holding, price = reads.holding, tracked.entry_price
    if holding is None or not _is_same_id(tracked, holding):
        return False
    if price is None or holding.entry_price is None:
        return True
    average = averaged(tracked.held, price, trades, inverse=tracked.inverse)
    read = [price, *_prices(trades)]
    return average is not None and is_as_reported(average, holding.entry_price, read, holding.tick)


def _late_entry(tracked: Tracked, reads: Reads, seen: LegView, *, settled: bool) -> tuple[str, ...]:
    """The ids of the oldest new trades, entries only, that B contained already: without them the reads agree.

    A venue may show the trade of an entry after `track` has read the holding; counted again it would grow the position.
    Without them the price and the id are the tracked ones, or explained; or the running size reached 0, and both are a
    later position's. That last one licenses no order, so it counts only once nothing changes any more.
    """
    missing = seen.net - seen.held
    if tracked.entry_known or tracked.spot or missing <= 0:
        return ()
    rest, total, late = _new(tracked, reads), _NONE, []
    while rest and total < missing and rest[0].effect == "entry":
        total += rest[0].fill.contracts
        late.append(rest.pop(0).fill.trade_id)
    if total != missing:
        return ()
    if not seen.held or _is_same(tracked, reads) or _explains(tracked, rest, reads):
        return tuple(late)
    return tuple(late) if settled and _viewed(tracked, rest, seen.held).ended else ()


def _is_closable(contracts: Decimal, reads: Reads) -> bool:
    return reads.holding is not None and contracts >= reads.holding.smallest


def _reason(tracked: Tracked, reads: Reads, seen: LegView) -> str:
    if not seen.held:
        return f"the venue holds nothing of it, but shows no trades for {max(_NONE, seen.net)} contracts"
    holding = reads.holding
    if holding is not None and not _is_same_id(tracked, holding):
        return f"the venue holds position {holding.position_id}, and {tracked.position_id} was tracked"
    if not seen.agree:
        return f"the venue holds {seen.held} contracts, and its trades lead to {seen.net}"
    price = holding.entry_price if holding else None
    return f"the venue's entry price is {price}, and neither the tracked {tracked.entry_price} nor its trades give it"


# Averages.


def averaged(contracts: Decimal, price: Decimal, trades: Sequence[Trade], *, inverse: bool) -> Decimal | None:
    """The average entry price of a leg of *contracts* from *price* after *trades*; None if it went through flat.

    Entries are averaged by size, harmonically where contracts are inverse; exits leave the average as it is.
    """
    wide = Context(prec=_AVERAGE_DIGITS)
    for trade in trades:
        fill = trade.fill
        if trade.effect == "exit":
            contracts = wide.subtract(contracts, fill.contracts)
            if contracts <= 0:
                return None
            continue
        total = wide.add(contracts, fill.contracts)
        if inverse:
            worth = wide.add(wide.divide(contracts, price), wide.divide(fill.contracts, fill.price))
            price = wide.divide(total, worth)
        else:
            paid = wide.add(wide.multiply(contracts, price), wide.multiply(fill.contracts, fill.price))
            price = wide.divide(paid, total)
        contracts = total
    return price


def is_as_reported(average: Decimal, reported: Decimal, prices: Sequence[Decimal], tick: Decimal) -> bool:
    """Whether *reported* is *average* in as many places as the venue writes prices; *prices* are those averaged.

    Venues round averages, and JSON leaves out idle zeros: the most places of any price on the market count, or those of
    the *tick*, 0 if there is none. A venue that goes on from an average that it has rounded is off by up to one of the
    last place for each of them.
    (test_an_average_that_the_venue_rounds_at_every_entry_is_the_same)
    """
    if average == reported:
        return True
    last = Decimal(1).scaleb(min(int(price.as_tuple().exponent) for price in (reported, *prices)))
    with localcontext(Context(prec=_AVERAGE_DIGITS)):
        return abs(average - reported) < len(prices) * (min(last, tick) if tick else last)


def _prices(trades: Sequence[Trade]) -> list[Decimal]:
    return [trade.fill.price for trade in trades if trade.effect == "entry"]
