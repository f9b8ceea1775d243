"""What a guard may do to an account, judged when it does it, from what the venue had shown to that process.

G9: no order is taken for contracts that came after the position ended, nor for more than is left of the position; no
order of another's is cancelled while what is held is not the position. G6: when a close is booked nothing rests, or
what is held is told. A fact that is newer than what both reads showed is nobody's fault: two requests and an order are
three moments.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from poslock.exchange.port import CloseOrder
from prove.account import held, number, run
from prove.explore import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.exchange.port import Order, StopOrder
    from poslock.position import Trade
    from prove.account import Account, Kept
    from prove.market import Market, Mind

_ROUNDED = Fraction(1, 10**9)


def expect_its_own(market: Market, before: Account, process: int, request: CloseOrder | StopOrder, mind: Mind) -> None:
    """An order was taken. It may only be for what the process had reason to believe is left of its position."""
    kept, start = _of(market, mind)
    if request.client_order_id not in kept.own:
        raise Violation(f"an order of process {process} is taken that is not journaled")
    shown = [each for each in before.trades if number(each) <= mind.trades and number(each) not in market.unseen]
    if run(shown, start, kept.contracts).ended:
        raise Violation(f"an order of process {process} is taken, and it was shown that the position has ended")
    told = _told(before, mind)
    contracts, price = held(told)
    _, tracked_price = held(before.until(start))
    if run(told, start, kept.contracts).ended and (not contracts or price != tracked_price):
        raise Violation(f"an order of process {process} is taken, and it was told of a later position")
    if isinstance(request, CloseOrder):
        gone = sum((each.fill.contracts for each in shown if _is_exit_after(each, start)), Decimal(0))
        if gone + request.contracts > kept.contracts:
            raise Violation(f"process {process} closes {request.contracts}, and {gone} of {kept.contracts} had gone")
        if request.contracts > contracts:
            raise Violation(f"process {process} asks to close {request.contracts} contracts of {contracts}")


def expect_not_anothers(market: Market, process: int, order: Order, mind: Mind) -> None:
    """An order was cancelled: one of the position's own, or neither read could show that anything else is held."""
    kept, start = _of(market, mind)
    if order.client_order_id in kept.own:
        return
    told = market.account.until(mind.either)
    contracts, _ = held(told)
    if contracts and (run(told, start, kept.contracts).ended or contracts > kept.contracts):
        raise Violation(f"process {process} cancels order {order.order_id}, and {contracts} contracts are held")


def expect_over(market: Market, process: int, orders: Sequence[StopOrder], mind: Mind) -> None:
    """Orders were cancelled unlisted: the position's own, after both reads had shown that it is over."""
    kept, start = _of(market, mind)
    if not {each.client_order_id for each in orders} <= kept.own:
        raise Violation(f"process {process} cancels unlisted, and not all of it is its position's own")
    shown = [each for each in market.account.until(mind.trades) if number(each) not in market.unseen]
    contracts, _ = held(_told(market.account, mind))
    if contracts or not run(shown, start, kept.contracts).ended:
        raise Violation(f"process {process} cancels unlisted, and it was not shown that the position is over")


def expect_swept(market: Market, process: int, mind: Mind) -> None:
    """A close was booked: what it says is left is what was held, and no order that was there is left over."""
    kept, _ = _of(market, mind)
    account, booked = market.account, kept.booked
    if booked is None or kept.is_superseded:
        return
    contracts, _ = held(_told(account, mind))
    if booked.left is None or booked.left != contracts:
        raise Violation(f"process {process} books with {booked.left} left at the venue, which had told of {contracts}")
    rests = [each for each in account.resting if int(each.order_id) <= mind.orders]
    if not contracts and rests:
        raise Violation(f"process {process} books, and {len(rests)} orders rest on a flat leg")
    own = [each for each in rests if each.client_order_id in kept.own]
    stops = [each for each in account.orders if each.family == "stop_loss" and each.client_order_id in kept.own]
    is_bare = not any(each.family == "stop_loss" for each in account.resting)
    if contracts and is_bare and any(each.state == "canceled" for each in stops):
        raise Violation(f"process {process} books, and has cancelled the only stop-loss of what is left")
    if any(each.family != "stop_loss" or each.order_id not in kept.orders_left for each in own):
        raise Violation(f"process {process} books, and an order of the position rests that nobody was told of")


def expect_grown(market: Market, process: int, mind: Mind) -> None:
    """Another size was written: with what has left it the position is all that the leg holds, at what it has cost."""
    kept, start = _of(market, mind)
    told = _told(market.account, mind)
    contracts, _ = held(told)
    gone = sum((each.fill.contracts for each in told if _is_exit_after(each, start)), Decimal(0))
    if kept.contracts != contracts + Fraction(gone):
        raise Violation(f"process {process} adopts to {kept.contracts}, {gone} had gone and {contracts} are held")
    _, cost = held([each for each in told if not _is_exit_after(each, start)])
    if abs(Fraction(kept.entry_price) - cost) > _ROUNDED:
        raise Violation(f"process {process} adopts at {kept.entry_price}, and it has cost {cost}")


def expect_unexplained(market: Market, process: int, mind: Mind) -> None:
    """A position was settled: not one that a close could have sold."""
    kept, start = _of(market, mind)
    account = market.account
    shown = [each for each in account.until(mind.trades) if number(each) not in market.unseen]
    contracts, price = held(_told(account, mind))
    _, tracked_price = held(account.until(start))
    gone = sum((each.fill.contracts for each in shown if _is_exit_after(each, start)), Decimal(0))
    is_open = contracts and price == tracked_price and not run(shown, start, kept.contracts).ended
    if mind.holding is not None and is_open and contracts + Fraction(gone) <= kept.contracts:
        raise Violation(f"process {process} settles, and a close could have sold {contracts}")


def _of(market: Market, mind: Mind) -> tuple[Kept, int]:
    return market.books.written_at(market.ledger).kept[mind.generation - 1], market.starts[mind.generation - 1]


def _told(account: Account, mind: Mind) -> tuple[Trade, ...]:
    """The trades that the holding contained which the process was told; if it never asked, all there are."""
    return account.trades if mind.holding is None else account.until(mind.holding)


def _is_exit_after(trade: Trade, start: int) -> bool:
    return trade.effect == "exit" and number(trade) > start
