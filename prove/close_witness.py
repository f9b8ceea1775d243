"""What must be true of simulated closes in every state, judged from the ledger, the account, and what was answered.

G1: of all who close, at most one is told that it did, and "already closed" is said only of what is booked, "already
closing" only of what somebody closes. G4: the ledger's tokens never fall. G5: one booking, of exactly the exits of the
position: the first of its contracts to leave, while its leg had not been flat. G6: once it is booked none of its orders
rests unless that was told, and none may come. What a guard does to the account is judged when it does it: see
`prove.conduct`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from poslock.lock.record import Record, decode
from prove.account import average, run
from prove.account import number as trade_number
from prove.explore import Violation
from prove.market import FUNDING, OTHER_LEG, PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.position import Fill
    from prove.account import Account, Kept
    from prove.market import Market


class Closes(NamedTuple):
    """What the witness remembers: who was told that it closed a generation, and of which states it was sure."""

    closers: tuple[tuple[int, int], ...] = ()
    sure: tuple[object, ...] = ()

    def told(self, disk: Market, pid: int, what: str, details: tuple[object, ...]) -> Closes:
        """A process says how its close ended."""
        kept = disk.books.written_at(disk.ledger).kept
        booked = [number for number, each in enumerate(kept, start=1) if each.booked]
        if what == "closed":
            token, generation = details
            mine = [each for each in booked if _token(kept[each - 1]) == token]
            if not mine:
                raise Violation(f"process {pid} was told that it closed what is not booked")
            if generation not in (None, *mine):
                raise Violation(f"process {pid} was to close generation {generation}, and closed {mine[0]}")
            for closer, closed in self.closers:
                if closed in mine:
                    raise Violation(f"process {pid} closed what process {closer} had closed")
            return self._replace(closers=(*self.closers, (pid, mine[0])))
        if what == "already closed" and not booked:
            raise Violation(f"process {pid} was told that it is closed, and it is not booked")
        if what == "already closing" and not any(each.begun or each.booked for each in kept) and not _is_closing(disk):
            raise Violation(f"process {pid} was told that it is being closed, and nobody closes it")
        return self

    def is_booked(self, disk: Market) -> bool:
        """Whether the ledger has a booking of every generation."""
        return all(each.booked for each in disk.books.written_at(disk.ledger).kept)

    def died(self, pid: int, *, half: bool) -> Closes:
        """A process has ended; what it was told stays so."""
        return self

    def looked(self, disk: Market, *, torn: bool) -> Closes:
        """The ledger or the account may have changed."""
        state = (disk.ledger, disk.venue, disk.late)
        if self.sure == state:
            return self
        if (disk.ledger, disk.venue) not in disk.books.facts:
            _check(disk)
            disk.books.facts[disk.ledger, disk.venue] = True
        if disk.late:
            coming, kept = set(disk.orders_to_come()), disk.books.written_at(disk.ledger).kept
            if any(each.booked and coming & each.own for each in kept):
                raise Violation("it is booked, and an order may still come")
            if coming - {order for each in kept for order in each.own}:
                raise Violation("an order is on its way that is not journaled")
        return self._replace(sure=state)


def _token(kept: Kept) -> int:
    return kept.booked.token if kept.booked else -1


def _is_closing(disk: Market) -> bool:
    record = decode(disk.named(PATH) or b"")
    return isinstance(record, Record) and any(each.intent == "close" for each in record.holders)


def _check(disk: Market) -> None:
    written, account = disk.books.written_at(disk.ledger), disk.account
    if written.tokens != tuple(sorted(written.tokens)):
        raise Violation(f"the ledger took writes with tokens {written.tokens}")
    _, reversed_by = disk.books.venue.ask(disk.venue, disk.now_ns, "held", (OTHER_LEG,))
    if reversed_by:
        raise Violation(f"the account holds {reversed_by} contracts on the other side")
    for number, each in enumerate(written.kept):
        if each.begun > 1:
            raise Violation(f"{each.begun} closes were begun")
        filled = sum((order.filled for order in account.orders if order.client_order_id in each.own), Decimal(0))
        if filled > each.contracts:
            raise Violation(f"its orders have filled {filled} contracts of {each.contracts}")
        if each.booked and number < len(disk.starts):
            if each.booked.ended_by == "settle":
                shown = [trade for trade in account.trades if trade_number(trade) not in disk.unseen]
                _check_settled(each, run(shown, disk.starts[number], each.contracts).exits)
            else:
                _check_booked(each, account, disk.starts[number], FUNDING if number == 0 else Decimal(0))


def _check_booked(kept: Kept, account: Account, start: int, funding: Decimal) -> None:
    booked, exits = kept.booked, run(account.trades, start, kept.contracts).exits
    assert booked is not None
    due = tuple((each.trade_id, each.contracts) for each in exits)
    if booked.fills != due or sum(part for _, part in due) != kept.contracts:
        raise Violation(f"booked are the fills {booked.fills}, and due {due} of {kept.contracts} contracts")
    pnl = kept.expected(exits, funding)
    if (booked.pnl, booked.exit_price) != (pnl, average(exits)):
        raise Violation(f"booked is {booked.pnl} at {booked.exit_price}, and due {pnl} at {average(exits)}")
    if booked.left == 0 and any(each.client_order_id in kept.own for each in account.resting):
        raise Violation("it is booked, and an order of it rests")


def _check_settled(kept: Kept, exits: Sequence[Fill]) -> None:
    """What the venue ever showed may be booked, and the rest is written off."""
    booked = kept.booked
    assert booked is not None
    due = {(each.trade_id, each.contracts) for each in exits}
    if not due >= set(booked.fills):
        raise Violation(f"settled are the fills {booked.fills}, and due {due}")
    if sum((part for _, part in booked.fills), booked.given_up) != kept.contracts:
        raise Violation(f"settled are {booked.fills} and {booked.given_up}, which are not {kept.contracts}")
