"""What follows from what a leg shows: the design's table, written down a second time, against every combination."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest

from poslock.closing.exits import Decision, Reads, Tracked, averaged, decide, is_explained, view
from poslock.exchange.port import Holding, Leg
from poslock.position import Fill, Trade

if TYPE_CHECKING:
    from collections.abc import Sequence

S = 4
LEG = Leg("BTC_USDT", "long")
TRACKED_AT, OTHER = 100, Decimal("107.3001")  # the tracked entry price, and one that no trades give
ENTERED_AT = 110


class Seen(NamedTuple):
    """One combination. ``trades`` are contracts since B, exits below 0; ``unseen`` is what ours filled, not shown."""

    held_then: int
    trades: tuple[int, ...]
    held: int
    price: Decimal = Decimal(TRACKED_AT)
    id: str | None = None
    tracked_id: str | None = None
    entry_known: bool = False
    settled: bool = False
    whole: bool = False
    unseen: int = 0
    smallest: int = 0
    spot: bool = False
    later: int | None = None
    tick: Decimal = Decimal(0)


# The table, as the design says it.


def table(c: Seen) -> tuple[int, str, int]:  # noqa: C901, PLR0911, PLR0912  # row by row, as on the design's page
    """Row, act and contracts to send."""
    entries = sum(each for each in c.trades if each > 0)
    exits = -sum(each for each in c.trades if each < 0) + c.unseen
    net = c.held_then + entries - exits
    sizes = running(c, c.trades)
    reached_flat = any(size <= 0 for size in sizes[1:])
    ours = 0 if reached_flat else max(0, min(S, c.held_then + entries) - exits)
    agree = c.held == max(0, net)
    late = late_entries(c, net)
    no_word = "unsettled" if c.settled else "look"
    if c.later is not None:  # row 1
        proved = net == c.later and not c.unseen and exits > 0
        return (1, "left", 0) if proved else (1, no_word, 0)
    if c.spot:
        return balance(c, max(0, S - exits), exits)
    if agree and reached_flat:  # row 2
        if c.unseen:  # fills that the venue does not show cannot be booked
            return 2, no_word, 0
        if c.held == 0:
            return 2, "ended", 0
        return (2, "left", 0) if c.settled else (2, "look", 0)
    if agree and c.held > 0 and (unchanged(c) or explained(c, c.trades)):  # row 3
        return open_position(3, c, ours, exits)
    if not agree and c.held > 0 and (unchanged(c) or late) and not c.settled:  # row 4
        difference = net - c.held
        if difference > 0:
            without = c.trades[len(late) :]
            gone = late and any(size <= 0 for size in running(c, without)[1:])
            left = max(0, min(S, c.held_then + sum(each for each in without if each > 0)) - exits)
            granted = (0 if gone else left) if late else max(0, ours - difference)
        else:
            granted = ours if c.held in sizes[:-1] else 0
        wanted = min(c.held, granted)
        if wanted > 0 and wanted >= c.smallest and not c.unseen:
            return 4, "send", wanted
        return 4, "look", 0
    if not c.settled:  # row 5
        return 5, "look", 0
    if late:
        return 5, "rebase", 0
    if agree and c.held > 0 and c.id is not None and c.id == c.tracked_id:
        return open_position(5, c, ours, exits)
    return 5, "unsettled", 0


def open_position(row: int, c: Seen, ours: int, exits: int) -> tuple[int, str, int]:
    wanted = c.held if c.whole else min(c.held, ours)
    if c.unseen:  # no second order, and no booking, before all fills of the first show
        return row, "unsettled" if c.settled else "look", 0
    if wanted > 0 and wanted >= c.smallest:
        return row, "send", wanted
    if not c.settled:
        return row, "look", 0
    return row, "left" if exits else "unsettled", 0  # a position of nothing but a crumb has no exit to book


def balance(c: Seen, ours: int, exits: int) -> tuple[int, str, int]:
    wanted = min(c.held, ours)
    no_word = "unsettled" if c.settled else "look"
    if c.unseen:
        return 3, no_word, 0
    if wanted > 0 and wanted >= c.smallest:
        return 3, "send", wanted
    if ours == 0:
        return 2, "ended", 0
    if c.settled and exits and wanted == ours < c.smallest:
        return 3, "left", 0
    return 5, no_word, 0


def running(c: Seen, trades: Sequence[int]) -> list[int]:
    return list(itertools.accumulate([*trades, *([-c.unseen] if c.unseen else [])], initial=c.held_then))


def booked(c: Seen) -> list[int]:
    """The first S contracts of exits that show, up to where the running size reached 0; a balance has no such size."""
    size, missing, parts = c.held_then, S, []
    for each in c.trades:
        part = min(-each, missing) if c.spot else min(-each, missing, size)
        if part > 0:
            parts.append(part)
            missing -= part
        size += each
        if each < 0 and size <= 0 and not c.spot:
            break
    return parts


def same_id(c: Seen) -> bool:
    return c.tracked_id is None or c.id == c.tracked_id


def unchanged(c: Seen) -> bool:
    return c.held > 0 and same_id(c) and c.price == TRACKED_AT


def explained(c: Seen, trades: tuple[int, ...]) -> bool:
    """The mean to the last place that the venue is known to write, once for each price in it."""
    mean = average(c.held_then, trades)
    place = min(Decimal(1).scaleb(int(c.price.as_tuple().exponent)), c.tick or Decimal(1))
    most = Fraction(place) * (1 + sum(each > 0 for each in trades))
    return c.held > 0 and same_id(c) and mean is not None and (mean == c.price or abs(mean - Fraction(c.price)) < most)


@cache
def average(held: int, trades: tuple[int, ...]) -> Fraction | None:
    mean = Fraction(TRACKED_AT)
    for each in trades:
        if each > 0:
            mean = (held * mean + each * ENTERED_AT) / (held + each)
        held += each
        if held <= 0:
            return None
    return mean


@cache
def rounded(mean: Fraction) -> Decimal:
    return Decimal(round(mean * 10**8)).scaleb(-8)


def late_entries(c: Seen, net: int) -> tuple[int, ...]:
    """The oldest new trades, entries only, the shortest such run that is the difference."""
    difference = net - c.held
    if c.entry_known or c.spot or difference <= 0:
        return ()
    for count in range(1, len(c.trades) + 1):
        run, rest = c.trades[:count], c.trades[count:]
        if run[-1] < 0:
            return ()
        if sum(run) < difference:
            continue
        if sum(run) > difference:
            return ()
        flat = any(size <= 0 for size in running(c, rest)[1:])
        return run if c.held == 0 or unchanged(c) or explained(c, rest) or (c.settled and flat) else ()
    return ()


# The same combination, as the venue and the ledger say it.


@cache
def trades_of(amounts: tuple[int, ...], mine: int = 0) -> tuple[Trade, ...]:
    """Contained in B: one entry. After it *amounts*, of which exit number *mine* is of our order."""
    trades = [trade(0, 2)]
    for number, each in enumerate(amounts, 1):
        exits = sum(amount < 0 for amount in amounts[:number])
        trades.append(trade(number, each, "mine" if mine and each < 0 and exits == mine else None))
    return tuple(trades)


def trade(number: int, amount: int, order: str | None = None) -> Trade:
    fill = Fill(f"t{number}", order, Decimal(ENTERED_AT), Decimal(abs(amount)), Decimal(0), "USDT", 0)
    return Trade("entry" if amount > 0 else "exit", order, fill)


def decided(c: Seen, *, mine: int = 0) -> tuple[Decision, Tracked, Reads]:
    ours = {"mine": Decimal(c.unseen)} if c.unseen else {"mine": Decimal(2)} if mine else {}
    later = None if c.later is None else Decimal(c.later)
    tracked = Tracked(
        Decimal(S), Decimal(c.held_then), Decimal(TRACKED_AT), c.tracked_id, frozenset({"t0"}),
        entry_known=c.entry_known, spot=c.spot, ours=ours, later=later,
    )  # fmt: skip
    holding = Holding(LEG, Decimal(c.held), c.price, Decimal(1), False, "USDT", c.id, Decimal(c.smallest), tick=c.tick)
    reads = Reads(holding if c.held else None, trades_of(c.trades, mine))
    return decide(tracked, reads, settled=c.settled, whole=c.whole), tracked, reads


def told(decision: Decision) -> tuple[int, str, int]:
    return decision.row, decision.act, int(decision.contracts)


def check(c: Seen, counts: Counter[str], *, mine: int = 0) -> None:
    decision, tracked, reads = decided(c, mine=mine)
    wanted = table(c)
    assert told(decision) == wanted, c
    assert [int(fill.contracts) for fill in view(tracked, reads).exits] == booked(c), c
    never(c, decision, tracked, reads)
    counts[f"{decision.row} {decision.act}"] += 1


def never(c: Seen, decision: Decision, tracked: Tracked, reads: Reads) -> None:
    """What no row may say, whatever the table."""
    seen = view(tracked, reads)
    if decision.act == "send":
        assert 0 < int(decision.contracts) <= c.held, c
        assert c.whole or decision.contracts <= seen.ours, c
        assert decision.contracts >= c.smallest, c
        assert not seen.unseen, c
        assert c.later is None, c
        assert c.spot or not seen.ended, c
        assert seen.agree or c.spot or not c.settled, c
        # All that exits take has to be of the position then: those before, and this order's.
        taken, added = -sum(each for each in c.trades if each < 0), sum(each for each in c.trades if each > 0)
        larger = int(decision.contracts) + taken - min(S, c.held_then + added)
        assert int(decision.adopted) == (larger if decision.contracts > seen.ours else 0), c
        assert decision.row != 5 or (c.settled and c.id == c.tracked_id is not None), c
    if decision.act == "ended":
        assert c.spot or (not c.held and seen.ended), c
        assert not seen.unseen, c
    if decision.act == "left" and not c.spot and c.later is None:
        assert decision.left == c.held, c
        assert int(seen.ours) < (c.smallest or 1), c
        assert c.settled, c
    if decision.act == "rebase":
        late = [each for each in reads.trades if each.fill.trade_id in decision.late]
        assert late, c
        assert all(each.effect == "entry" for each in late), c
        assert c.settled, c
        assert not c.entry_known, c
    else:
        assert not decision.late, c
    if decision.act == "unsettled":
        assert c.settled, c
        assert decision.reason, c
    if decision.row in {4, 5} and decision.act == "look":
        assert not c.settled, c
    assert sum(fill.contracts for fill in seen.exits) <= S


HELD_THEN, AMOUNTS, HELD = (2, 4, 6), (0, 2, 4, 6), (0, 2, 4, 6, 8)  # less than S, S, more; N and E; H
NO_YES = (False, True)
IDS = (("p1", None), ("p1", "p1"), ("p2", "p1"))  # what the venue names, and what was tracked


def orders(entries: int, exits: int) -> set[tuple[int, ...]]:
    """Entries in twos, before, after and around the exits: with a running size that reaches 0, and without."""
    ins, outs = (2,) * (entries // 2), (-2,) * (exits // 2)
    return {ins + outs, outs + ins, ins[:1] + outs + ins[1:]}


def prices(held: int, trades: tuple[int, ...]) -> set[Decimal]:
    """Unchanged, changed, explained by all trades, and by those without the oldest one, or two; that without places."""
    means = [mean for count in range(3) if (mean := average(held, trades[count:])) is not None]
    return {Decimal(TRACKED_AT), OTHER, *map(rounded, means), *(Decimal(int(mean)) for mean in means[:1])}


@pytest.mark.parametrize("held_then", HELD_THEN)
def test_every_combination_is_decided_as_the_table_says(held_then: int) -> None:
    """Sizes below, at and above S; reads that agree or not; prices, ticks, ids; late entries; no row is left out."""
    counts: Counter[str] = Counter()
    for entries, exits, held in itertools.product(AMOUNTS, AMOUNTS, HELD):
        for trades in orders(entries, exits):
            for price, (named, tracked) in itertools.product(prices(held_then, trades), IDS):
                for known, settled, whole in itertools.product(NO_YES, NO_YES, NO_YES):
                    c = Seen(held_then, trades, held, price, named, tracked, known, settled, whole)
                    check(c, counts, mine=1 if exits else 0)
                    if not whole and not known:
                        check(c._replace(unseen=2), counts)
                    if not known:
                        check(c._replace(smallest=3), counts)
                    if price == int(price) != TRACKED_AT:
                        check(c._replace(tick=Decimal("0.01")), counts)
    acts = {2: "ended left look unsettled", 3: "send left look unsettled", 4: "send look"}
    acts[5] = "send left look rebase unsettled"
    reached = {f"{row} {act}" for row, some in acts.items() for act in some.split()}
    assert set(counts) == reached
    assert min(counts.values()) >= 12, counts


def test_every_combination_with_a_later_position() -> None:
    """Row 1: nothing is sent, and it is booked only where its trades lead to what was held then."""
    counts: Counter[str] = Counter()
    for then, entries, exits, held in itertools.product(HELD_THEN, AMOUNTS, AMOUNTS, HELD):
        for trades in orders(entries, exits):
            for later, unseen, settled, whole in itertools.product((2, 4, 6), (0, 2), NO_YES, NO_YES):
                c = Seen(then, trades, held, settled=settled, whole=whole, unseen=unseen, later=later)
                check(c, counts)
    assert set(counts) == {"1 left", "1 look", "1 unsettled"}
    assert min(counts.values()) > 200, counts


def test_every_combination_of_a_balance() -> None:
    """Spot: exits against S decide, the balance caps; price, entries and what else is there say nothing."""
    counts: Counter[str] = Counter()
    for then, entries, exits, held in itertools.product(HELD_THEN, AMOUNTS, AMOUNTS, HELD):
        for trades in orders(entries, exits):
            for price, unseen, smallest, settled in itertools.product(
                (Decimal(TRACKED_AT), OTHER), (0, 2), (0, 3), NO_YES
            ):
                c = Seen(then, trades, held, price, settled=settled, unseen=unseen, smallest=smallest)
                check(c._replace(spot=True), counts)
    assert set(counts) == {"2 ended", "3 left", "3 look", "3 send", "3 unsettled", "5 look", "5 unsettled"}
    assert min(counts.values()) > 12, counts


# By name.


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(Seen(4, (), 4), (3, "send", 4), id="plain: all of it, at the first look"),
        pytest.param(Seen(6, (), 6), (3, "send", 4), id="more was held: no more than S"),
        pytest.param(Seen(4, (4,), 8, Decimal(105)), (3, "send", 4), id="scaled in, and the trades explain the price"),
        pytest.param(Seen(4, (4,), 8, OTHER), (5, "look", 0), id="scaled in, at a price that they do not explain"),
        pytest.param(Seen(4, (-2,), 4), (4, "send", 2), id="a stop took part, the holding is from before it"),
        pytest.param(Seen(4, (), 2), (4, "send", 2), id="a stop took part, its trade does not show"),
        pytest.param(Seen(4, (-6,), 0), (2, "ended", 0), id="a flip: what is held on the other side counts as 0"),
        pytest.param(Seen(4, (-6, 8), 6, OTHER), (2, "look", 0), id="flipped and back: the new one came after it"),
        pytest.param(Seen(4, (-4, 4), 4, settled=True), (2, "left", 0), id="entered again at the same price"),
        pytest.param(Seen(4, (), 4, OTHER), (5, "look", 0), id="entered again, and no trade shows"),
        pytest.param(Seen(4, (4,), 4), (4, "send", 4), id="its own entry shows late: all of it goes out"),
        pytest.param(Seen(4, (4,), 4, settled=True), (5, "rebase", 0), id="its own entry shows late, and nothing else"),
        pytest.param(Seen(4, (4,), 4, entry_known=True), (4, "look", 0), id="with named entry orders no entry is late"),
        pytest.param(Seen(4, (4, -4, 2), 2, OTHER, settled=True), (5, "rebase", 0), id="late, ended, entered again"),
        pytest.param(Seen(4, (4, -4, -2), 0, settled=True), (5, "unsettled", 0), id="late, and on the other side"),
        pytest.param(Seen(2, (2, -2, 2), 2), (4, "look", 0), id="late, less than S, ended, entered again"),
        pytest.param(Seen(4, (-2,), 2, smallest=3, settled=True), (3, "left", 0), id="a crumb is what is left"),
        pytest.param(Seen(6, (-4,), 2, settled=True), (3, "left", 0), id="S is gone: the rest is somebody else's"),
        pytest.param(Seen(6, (-4,), 2, whole=True), (3, "send", 2), id="whole: the rest too"),
        pytest.param(
            Seen(4, (), 4, OTHER, "p", "p", settled=True), (5, "send", 4), id="a new price, and the venue's id vouches"
        ),
        pytest.param(Seen(4, (), 4, OTHER, "p", "p"), (5, "look", 0), id="a new price, not for long enough"),
        pytest.param(Seen(4, (), 4, id="q", tracked_id="p", settled=True), (5, "unsettled", 0), id="another id"),
        pytest.param(Seen(4, (), 2, unseen=2), (3, "look", 0), id="no second order before the first one's fills show"),
        pytest.param(Seen(4, (), 0, unseen=4), (2, "look", 0), id="nothing is booked before the fills show"),
        pytest.param(Seen(4, (), 0, settled=True), (5, "unsettled", 0), id="gone, and no trade says how"),
        pytest.param(Seen(4, (2,), 4, entry_known=True), (4, "send", 2), id="an entry shows and the holding lags"),
    ],
)
def test_by_name(seen: Seen, expected: tuple[int, str, int]) -> None:
    """What the table comes to in the cases that it was made for."""
    decision, tracked, reads = decided(seen)
    assert told(decision) == expected
    never(seen, decision, tracked, reads)


def test_a_trade_that_crosses_flat_is_cut_there() -> None:
    """Six out of four: four are the position's, with their share of the fee."""
    _, tracked, reads = decided(Seen(4, (-6, 8, -2), 0))
    assert [(fill.trade_id, int(fill.contracts)) for fill in view(tracked, reads).exits] == [("t1", 4)]


def test_exits_after_flat_are_not_booked() -> None:
    """Even if S was more than what was held."""
    _, tracked, reads = decided(Seen(2, (-2, 4, -2), 2))
    assert [fill.contracts for fill in view(tracked, reads).exits] == [2]


def test_an_inverse_average_is_the_harmonic_one() -> None:
    """Contracts that are worth quote currency average by what they are worth."""
    entry = Trade("entry", None, Fill("t", None, Decimal(200), Decimal(4), Decimal(0), "BTC", 0))
    assert averaged(Decimal(4), Decimal(50), [entry], inverse=True) == 80
    assert averaged(Decimal(4), Decimal(50), [entry], inverse=False) == 125


@pytest.mark.parametrize("off", [Decimal(0), Decimal("0.5")])
def test_an_average_that_the_venue_rounds_at_every_entry_is_the_same(off: Decimal) -> None:
    """Twenty scale-ins, and the venue cuts its average to cents at each: a cent for each entry, and no more."""
    prices = [Decimal("99.99") - Decimal("0.37") * number for number in range(20)]
    entries = [
        Trade("entry", None, Fill(f"t{number}", None, price, Decimal(1), Decimal(0), "USDT", 0))
        for number, price in enumerate(prices)
    ]
    held, average = Decimal(1000), Decimal("100.00")
    for price in prices:
        average = ((held * average + price) / (held + 1)).quantize(Decimal("0.01"), ROUND_DOWN)
        held += 1
    tracked = Tracked(Decimal(1000), Decimal(1000), Decimal("100.00"))
    exact = averaged(tracked.held, Decimal("100.00"), entries, inverse=False)
    assert exact is not None
    assert exact - average > Decimal("0.05")  # off by several cents
    holding = Holding(LEG, held, average - off, Decimal(1), False, "USDT")
    assert is_explained(tracked, holding, entries) is (not off)


@pytest.mark.parametrize(
    ("reported", "tick", "same"),
    [
        ("102", "0", True),  # it may be a venue of whole numbers
        ("102", "1", True),
        ("102", "0.01", False),
        ("102.67", "0.01", True),
        ("102.66", "0.01", True),
        ("102.6", "0.01", False),
        ("102.66666667", "1", True),  # averages may have more places than prices
        ("102.66666600", "1", False),
    ],
)
def test_an_average_is_written_in_as_many_places_as_prices_are(reported: str, tick: str, same: bool) -> None:
    """Three and six contracts at whole prices; where a tick says how many places those have, fewer do not do."""
    tracked = Tracked(Decimal(3), Decimal(3), Decimal(100))
    entry = Trade("entry", None, Fill("t", None, Decimal(104), Decimal(6), Decimal(0), "USDT", 0))
    holding = Holding(LEG, Decimal(9), Decimal(reported), Decimal(1), False, "USDT", tick=Decimal(tick))
    assert is_explained(tracked, holding, [entry]) is same
