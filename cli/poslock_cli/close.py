"""``poslock close``: the operator's close, under the same lock as every bot's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock import PositionGuard
from poslock.errors import PositionAlreadyClosingError, PositionNotFound, printable
from poslock_cli.account import (
    amount,
    as_json,
    as_object,
    attempted,
    described,
    exchange_option,
    is_made,
    ledger_at,
    ledger_option,
    moment,
)
from poslock_cli.asking import (
    Sight,
    ask,
    beyond,
    is_terminal,
    look,
    say_whom_it_waits_for,
    unbooked,
    yes_option,
)
from poslock_cli.configuration import configuration_of
from poslock_cli.seconds import Seconds

if TYPE_CHECKING:
    from poslock.exchange.port import Exchange
    from poslock.guard.guard import Recovery
    from poslock.ledger.ledger import Ledger
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import ClosedPosition

SOMETHING_IS_LEFT = 3
_YEAR = 366 * 86_400.0


@click.command()
@click.argument("position")
@exchange_option
@ledger_option
@click.option("--whole", is_flag=True, help="Close all that is held on that side, also what was added to it.")
@click.option(
    "--timeout",
    type=Seconds(0, _YEAR),
    metavar="SECONDS",
    default=35.0,
    show_default=True,
    help="How long to wait for whoever is closing it; 0 to be told at once.",
)
@click.option(
    "--reason",
    metavar="TEXT",
    default="operator",
    show_default=True,
    help="Why, for the history.",
)
@yes_option
@click.option("--json", "as_objects", is_flag=True, help="Print an object instead of a line, also if it fails.")
@click.pass_obj
@click.pass_context
def close(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    position: str,
    *,
    exchange: Exchange,
    ledger: str | None,
    whole: bool,
    timeout: float,
    reason: str,
    yes: bool,
    as_objects: bool,
) -> None:
    """Close POSITION at market, book its P&L, and leave no order of it behind.

    A close that somebody began and died in is finished. On a terminal it shows what it will do, and asks first.

    Exit 0 if this command closed it and nothing is left at the venue. 3 if it closed it, and the venue still holds
    something on that side, or it is not known whether it does. 1 if it did not: the answer was no, somebody else is
    closing it or has closed it, or the exchange did not settle it in time, and then 'poslock recover' goes on with it.
    """
    book = ledger_at(directory, ledger)

    def closed() -> ClosedPosition:
        if not is_made(book.path):
            raise PositionNotFound(position, book.path)
        lease = configuration_of(context).lease
        guard = PositionGuard(exchange, lock_dir=directory, ledger=book, timeout=timeout, stale_after=lease)
        tracked = unbooked(book, exchange, position)
        if tracked is not None:
            if is_terminal() and not yes:
                sight = look(exchange, tracked)
                ask([*sight.lines(), f"  close: {_will_do(sight, whole=whole)}"], "Close it?")
            say_whom_it_waits_for(directory, position, timeout)
        return guard.close_position(position, reason=reason, whole=whole)

    outcome = attempted(position, closed)
    if as_objects:
        click.echo(as_json(as_object(outcome)))
    elif outcome.closed is not None:
        click.echo(f"{printable(position)}: {described(outcome.closed)}")
    if outcome.error is not None:
        click.echo(f"Error: {printable(str(outcome.error))}{_booked(book, exchange.account, outcome)}", err=True)
    context.exit(_exit_code(outcome))


def _exit_code(outcome: Recovery) -> int:
    if outcome.closed is None:
        return 1
    return 0 if outcome.closed.left_at_venue == 0 else SOMETHING_IS_LEFT


def _will_do(sight: Sight, *, whole: bool) -> str:
    if sight.held is not None and not sight.held:
        return "sends nothing if the trades show how it ended; cancels what rests, and books its P&L"
    if whole:
        size = "all contracts that are held" if sight.held is None else f"all {amount(sight.held)} contracts"
        return f"sends a market order for {size}, cancels what rests, and books the P&L"
    sends = f"sends a market order for {amount(sight.at_stake)} contracts at most"
    if beyond(sight) > 0:
        return (
            f"{sends}, and books the P&L; {amount(beyond(sight))} contracts are not of it and stay, with their orders"
        )
    return f"{sends}, cancels what rests, and books the P&L"


def _booked(ledger: Ledger, account: str, outcome: Recovery) -> str:
    """By whom, if it was closed before."""
    if not isinstance(outcome.error, PositionAlreadyClosingError) or outcome.error.state != "closed":
        return ""
    bookings = [event for event in ledger.history(outcome.position_id, account) if event.event == "booked"]
    return f" (booked by PID {bookings[-1].pid} at {moment(bookings[-1].at)})" if bookings else ""
