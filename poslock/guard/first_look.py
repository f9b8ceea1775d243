"""What a leg shows at the first look: what is held, and which trades led to it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.closing.exits import averaged, is_as_reported
from poslock.ledger.journal import LegAtTracking
from poslock.position import EXACT, price_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from poslock.exchange.port import Holding
    from poslock.position import Trade

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class FirstLook:
    """A leg as it was when a position was tracked on it: what the venue reports, and what the ledger is to know.

    ``trades`` led to the holding, ``later`` came after the entry orders that the bot named.
    """

    holding: Holding
    leg: LegAtTracking
    trades: Sequence[Trade]
    later: Sequence[Trade] = ()


def first_look(
    holding: Holding,
    trades: Sequence[Trade],
    entry_order_ids: Sequence[str],
    trades_since_ms: int,
    booked: frozenset[str] = frozenset(),
) -> FirstLook:
    """What is held and which trades led to it. With entry orders, the first exit behind them and what follows is not.

    Those that another position has *booked* are: no later look counts them for this one.
    """
    last, known = len(trades), False
    shown = _orders(trades)
    if entry_order_ids and all(each in shown for each in entry_order_ids):
        last, known = 1 + max(number for number, trade in enumerate(trades) if _is_of(trade, entry_order_ids)), True
        # What was added next is in B: O is min(S, B + N) - E either way, and the price of B is the venue's own then.
        # (test_what_was_added_next_is_held_at_the_venues_price)
        while last < len(trades) and trades[last].effect == "entry":
            last += 1
    # Added to by hand, then its take-profit filled, then booked; what is left is tracked with the order that added it:
    # the take-profit came after that, and is not this position's. (test_what_was_added_is_tracked_after_the_rest_ended)
    later = [trade for trade in trades[last:] if trade.fill.trade_id not in booked]
    baseline = (*trades[:last], *(trade for trade in trades[last:] if trade.fill.trade_id in booked))
    with localcontext(EXACT):
        held = holding.contracts - sum((_signed(trade) for trade in later), Decimal(0))
    asked = tuple(each for each in baseline if each.fill.at_ms >= trades_since_ms - _MINUTE_MS)
    price = holding.entry_price if not any(each.effect == "entry" for each in later) else None
    leg = LegAtTracking(held, price, holding.position_id, trades_since_ms, asked, known)
    return FirstLook(holding, leg, baseline, later)


def is_complete(look: FirstLook, entry_order_ids: Sequence[str], contracts: Decimal = Decimal(0)) -> bool:
    """Whether the holding and the trades fit: run back from what is held, they reach flat and give the entry price.

    They do not if the holding may be from before the newest trades: one of less than *contracts*, which are to be
    tracked, is. Nor if the leg had been on its other side before: it was not, where an exit does not show yet.
    """
    held, trades = look.leg.held, [*look.trades, *look.later]
    if held <= 0 or held < contracts or (entry_order_ids and not look.leg.entry_known):
        return False
    may_be_another = _may_lack_an_exit(look.holding, trades) or _may_be_old(look.holding, trades)
    return _fits(look.holding, trades) and not may_be_another


def verified(look: FirstLook) -> FirstLook:
    """*look* where holding and trades fit: no entry can show late if they lead from flat to all that is held."""
    leads_from_flat = _began(look.holding, [*look.trades, *look.later]) == 0
    return replace(look, leg=replace(look.leg, entry_known=look.leg.entry_known or leads_from_flat))


def unverified(look: FirstLook) -> FirstLook:
    """*look* where holding and trades did not fit, or nobody looked: entries may still show that are held already."""
    return replace(look, leg=replace(look.leg, entry_known=False))


def _fits(holding: Holding, trades: Sequence[Trade]) -> bool:
    size, start, price = holding.contracts, len(trades), holding.entry_price
    with localcontext(EXACT):
        while size > 0 and start:
            start -= 1
            size -= _signed(trades[start])
    if size > 0 or price is None:
        return size <= 0
    # The first one crossed flat, if size is below it.
    first, *rest = trades[start:]
    average = averaged(EXACT.add(first.fill.contracts, size), first.fill.price, rest, inverse=holding.inverse)
    prices = [each.fill.price for each in trades[start:] if each.effect == "entry"]
    return average is not None and is_as_reported(average, price, prices, holding.tick)


def _began(holding: Holding, trades: Sequence[Trade]) -> Decimal:
    """What the leg had held before *trades*, below 0 on its other side."""
    return EXACT.subtract(holding.contracts, _sum(trades))


def _may_lack_an_exit(holding: Holding, trades: Sequence[Trade]) -> bool:
    """Whether the leg would have come from its other side, and not from flat; so it looks without an exit as well.

    (test_an_exit_that_does_not_show_is_waited_for)
    """
    began = _began(holding, trades)
    with localcontext(EXACT):
        return began != 0 and min(itertools.accumulate(map(_signed, trades), initial=began)) < 0


def _may_be_old(holding: Holding, trades: Sequence[Trade]) -> bool:
    """Whether the holding fits as well without the newest *trades*: they sum to 0, or the leg had not begun flat.

    Between them something may be that neither shows.
    (test_a_holding_that_may_be_from_before_the_newest_trades)
    """
    with localcontext(EXACT):
        began, since = _began(holding, trades), Decimal(0)
        for last in range(len(trades) - 1, 0, -1):
            since += _signed(trades[last])
            if (began or not since) and _fits(holding, trades[:last]):
                return True
    return False


def entry_fee(trades: Sequence[Trade], contracts: Decimal, settle: str) -> Decimal:
    """What the newest entries that make up *contracts* have cost, in *settle*; of a part its share."""
    wide, missing, total = Context(prec=28), contracts, Decimal(0)
    for trade in reversed(trades):
        fill = trade.fill
        if trade.effect == "exit" or missing <= 0:
            continue
        part = min(fill.contracts, missing)
        missing = wide.subtract(missing, part)
        if fill.fee_currency == settle:
            total = wide.add(total, wide.divide(wide.multiply(fill.fee, part), fill.contracts))
    return price_of(total)


def _sum(trades: Sequence[Trade]) -> Decimal:
    with localcontext(EXACT):
        return sum((_signed(each) for each in trades), Decimal(0))


def _signed(trade: Trade) -> Decimal:
    return trade.fill.contracts if trade.effect == "entry" else -trade.fill.contracts


def _is_of(trade: Trade, order_ids: Iterable[str]) -> bool:
    return bool({trade.order_id, trade.fill.client_order_id} & {*order_ids})


def _orders(trades: Sequence[Trade]) -> set[str | None]:
    return {each.order_id for each in trades} | {each.fill.client_order_id for each in trades}
