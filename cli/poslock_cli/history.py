"""``poslock history``: the audit trail."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from poslock.errors import printable, quoted
from poslock.lock.record import check_position_id
from poslock_cli.account import as_json, is_made, ledger_at, ledger_option, moment
from poslock_cli.table import table

if TYPE_CHECKING:
    from poslock.ledger.journal import Event
    from poslock.lock.directory import LockDirectory

_HEADER = ("TIME", "POSITION", "GENERATION", "TOKEN", "PID", "EVENT", "DETAIL")


@click.command()
@click.argument("position", required=False)
@ledger_option
@click.option("--json", "as_objects", is_flag=True, help="Print a list of objects instead of a table.")
@click.pass_obj
@click.pass_context
def history(
    context: click.Context, directory: LockDirectory, position: str | None, *, ledger: str | None, as_objects: bool
) -> None:
    """Show who did what to POSITION, or to all of them, oldest first: tracked, sent, broken, unsettled, booked.

    The ledger is only read. Times are UTC.

    Exit 0; 1 if the ledger knows nothing of POSITION.
    """
    if position is not None:
        check_position_id(position)
    book = ledger_at(directory, ledger)
    events = book.history(position) if is_made(book.path) else []
    if as_objects:
        click.echo(as_json([{**asdict(event), "at": moment(event.at)} for event in events]))
    elif events:
        click.echo(table(_HEADER, [_row(event) for event in events]))
    elif position is None:
        click.echo(f"no history in {printable(book.path)}")
    if position is not None and not events:
        click.echo(f"Error: no history of {quoted(position)} in {printable(book.path)}", err=True)
        context.exit(1)


def _row(event: Event) -> tuple[str, ...]:
    numbers = (str(event.generation), str(event.token), str(event.pid))
    return (moment(event.at), event.position_id, *numbers, event.event, event.detail)
