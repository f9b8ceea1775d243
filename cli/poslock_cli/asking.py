"""What a command is about to do, shown to the operator, and the question whether to do it.

Asked only where an operator sits: standard input and standard output are terminals. What the venue does not answer is
named as not seen, and the question is asked all the same: the position may have to be closed just then.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

import click

from poslock.errors import InvalidPositionId, PoslockError, printable
from poslock.exchange.port import Leg
from poslock.lock.status import lock_status
from poslock.pnl import realized_pnl
from poslock.position import EXACT, Fill
from poslock_cli.account import amount
from poslock_cli.table import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from poslock.exchange.port import Exchange, Holding, Order
    from poslock.ledger.ledger import Ledger
    from poslock.lock.files.directory import LockDirectory
    from poslock.lock.status import LockStatus
    from poslock.position import TrackedPosition

T = TypeVar("T")

yes_option = click.option("--yes", is_flag=True, help="Do not show what will be done, and do not ask.")


class Declined(click.ClickException):
    """The operator said no, or nobody could be asked; nothing was done."""


def is_terminal() -> bool:
    """Whether somebody sits there who can be asked. A stream that the caller has closed is None."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def expect_terminal(command: str) -> None:
    """Refuse a command that needs the operator's word where nobody can be asked for it."""
    if not is_terminal():
        raise Declined(f"{command} asks before it acts, and this is no terminal; --yes does not ask")


def ask(lines: Iterable[str], question: str) -> None:
    """Show *lines* and ask; return only if the answer is yes.

    Raises:
        Declined: it is not. Where standard input is no terminal it may hold the answer; an empty one is none.
    """
    for line in lines:
        click.echo(printable(line))
    # Not `click.confirm`: on a terminal Python's `input` puts the question on standard error, which may be elsewhere.
    click.echo(f"{question} [y/N]: ", nl=False)
    try:
        answer = sys.stdin.readline() if sys.stdin is not None else ""
    except UnicodeDecodeError:
        answer = "no text"
    if not answer:
        click.echo()
        raise Declined("nobody answered, nothing was done; --yes does not ask")
    if answer.strip().lower() not in {"y", "yes"}:
        raise Declined("declined, nothing was done")


def unbooked(ledger: Ledger, exchange: Exchange, position_id: str, *, oldest: bool = False) -> TrackedPosition | None:
    """A position of this account that is open or closing; None if there is none, and the guard says why.

    With *oldest* a generation whose leg a later position has comes first, as `settle` takes it.
    """
    superseded = ledger.superseded(position_id, exchange.account) if oldest else []
    tracked = superseded[0] if superseded else ledger.find(position_id, account=exchange.account)
    return tracked if tracked is not None and tracked.state in {"open", "closing"} else None


@dataclass(frozen=True, slots=True)
class Sight:
    """A position, and what the venue shows of its leg. None is what was not seen; ``unseen`` says why."""

    tracked: TrackedPosition
    held: Decimal | None
    holding: Holding | None
    price: Decimal | None
    orders: Sequence[Order] | None
    unseen: tuple[str, ...]

    @property
    def at_stake(self) -> Decimal:
        """Contracts of the position that the venue may still hold."""
        left = self.tracked.left
        return left if self.held is None else min(left, self.held)

    def lines(self) -> list[str]:
        """All of it as text."""
        tracked, position = self.tracked, self.tracked.position
        size = f"{amount(position.contracts)} contracts of {position.symbol} from {amount(position.entry_price)}"
        left = "" if tracked.left == position.contracts else f", {amount(tracked.left)} left"
        found = [f"{position.id} on {tracked.account}: {position.side} {size}{left}, {tracked.state}"]
        if tracked.unsettled:
            found.append(f"  unsettled: {tracked.unsettled}")
        if self.held is not None:
            found.append(f"  at the venue: {_held(self.held, self.holding)}")
        if self.price is not None and self.at_stake:
            fills = (Fill("", None, self.price, self.at_stake, Decimal(0), position.settle, 0),)
            gross = amount(realized_pnl(position, fills, Decimal(0)).gross)
            found.append(
                f"  P&L so far: about {gross} {position.settle} at {amount(self.price)}, an estimate without fees"
            )
        if self.orders is not None:
            found += [f"  rests: {_order(each)}" for each in self.orders] or ["  rests: no order"]
        return [*found, *(f"  not seen: {each}" for each in self.unseen)]


def look(exchange: Exchange, tracked: TrackedPosition) -> Sight:
    """Ask the venue for what an operator wants to know of a position before it is acted on."""
    leg = Leg(tracked.position.symbol, tracked.position.side)
    unseen: list[str] = []

    def asked(what: str, method: Callable[..., T], *arguments: object) -> T | None:
        try:
            return method(*arguments)
        except PoslockError as error:
            unseen.append(f"{what} ({error})")
            return None

    try:
        exchange.prepare()
    except PoslockError as error:
        return Sight(tracked, None, None, None, None, (f"what is held, the price, what rests ({error})",))
    holdings = asked("what is held", exchange.holdings, [leg])
    holding = next(iter(holdings or ()), None)
    held = None if holdings is None else holding.contracts if holding else Decimal(0)
    price = asked("the price", exchange.price, leg)
    return Sight(tracked, held, holding, price, asked("what rests", exchange.open_orders, leg), tuple(unseen))


def beyond(sight: Sight) -> Decimal:
    """Contracts that the venue holds and that are not of the position, as far as the ledger knows."""
    return EXACT.subtract(sight.held or Decimal(0), sight.tracked.left)


def holders(lock: LockStatus) -> str:
    """Who holds a lock: PID, host, purpose, since when."""
    return "; ".join(
        f"PID {each.pid} on {each.host}{f' ({each.purpose})' if each.purpose else ''}, "
        f"since {each.acquired_at} ({duration(each.age_s)})"
        for each in lock.holders
    )


def say_whom_it_waits_for(directory: LockDirectory, position_id: str, timeout: float) -> None:
    """A line on standard error if a live holder has the lock, and it will be waited for."""
    with suppress(InvalidPositionId):  # the guard says so
        lock = lock_status(directory, position_id)
        # With 0 a closer is not waited for, anybody else is.
        if lock.state == "held" and (timeout or any(each.intent != "close" for each in lock.holders)):
            click.echo(f"waiting for {printable(holders(lock))}", err=True)


def _held(held: Decimal, holding: Holding | None) -> str:
    if not held:
        return "nothing is held"
    average = holding.entry_price if holding else None
    return f"{amount(held)} contracts are held{'' if average is None else f' from {amount(average)}'}"


def _order(order: Order) -> str:
    size = amount(EXACT.subtract(order.contracts, order.filled))
    where = "" if order.trigger_price is None else f" at {amount(order.trigger_price)}"
    return f"{order.family} of {size} contracts{where}"
