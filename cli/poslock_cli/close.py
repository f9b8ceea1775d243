"""``poslock close``: the operator's close, under the same lock as every bot's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock import PositionGuard
from poslock.errors import PositionAlreadyClosingError, PositionNotFound
from poslock.guard.guard import Recovery
from poslock.text import printable
from poslock_cli.account import (
    as_json,
    as_object,
    described,
    exchange_option,
    is_made,
    ledger_at,
    ledger_option,
    moment,
)
from poslock_cli.configuration import configuration_of
from poslock_cli.seconds import Seconds

if TYPE_CHECKING:
    from poslock.exchange.port import Exchange
    from poslock.ledger.ledger import Ledger
    from poslock.lock.directory import LockDirectory

_YEAR = 366 * 86_400.0
_LONGEST_REASON = 128


def _reason(context: click.Context, param: click.Parameter, reason: str) -> str:
    if len(reason) > _LONGEST_REASON:
        raise click.BadParameter(f"must have at most {_LONGEST_REASON} characters, has {len(reason)}.", context, param)
    return reason


@click.command()
@click.argument("position")
@exchange_option
@ledger_option
@click.option(
    "--timeout",
    type=Seconds(0, _YEAR),
    metavar="SECONDS",
    default=35.0,
    show_default=True,
    help="How long to wait for whoever is closing it; 0 to be told at once.",
)
@click.option(
    "--reason", metavar="TEXT", default="operator", show_default=True, callback=_reason, help="Why, for the history."
)
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
    timeout: float,
    reason: str,
    as_objects: bool,
) -> None:
    """Close POSITION at market, book its P&L, and leave no order of it behind.

    A close that somebody began and died in is finished.

    Exit 0 if this command closed it. 1 if it did not: somebody else is closing it or has closed it, or the exchange did
    not settle it in time, and then 'poslock recover' goes on with it.
    """
    book = ledger_at(directory, ledger)
    outcome = Recovery(position, None, PositionNotFound(position, book.path))
    if is_made(book.path):
        lease = configuration_of(context).lease
        guard = PositionGuard(exchange, lock_dir=directory, ledger=book, timeout=timeout, stale_after=lease)
        (outcome,) = guard.close_positions([position], reason=reason)
    if as_objects:
        click.echo(as_json(as_object(outcome)))
    elif outcome.closed is not None:
        click.echo(f"{printable(position)}: {described(outcome.closed)}")
    if outcome.error is not None:
        click.echo(f"Error: {printable(str(outcome.error))}{_booked(book, outcome)}", err=True)
    context.exit(0 if outcome.error is None else 1)


def _booked(ledger: Ledger, outcome: Recovery) -> str:
    """By whom, if it was closed before."""
    if not isinstance(outcome.error, PositionAlreadyClosingError) or outcome.error.state != "closed":
        return ""
    bookings = [event for event in ledger.history(outcome.position_id) if event.event == "booked"]
    return f" (booked by PID {bookings[-1].pid} at {moment(bookings[-1].at)})" if bookings else ""
