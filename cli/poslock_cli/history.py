"""``poslock history``: the audit trail."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from poslock.errors import printable, quoted
from poslock.lock.record import check_position_id
from poslock_cli.account import account_option, as_json, is_made, ledger_at, ledger_option, moment
from poslock_cli.table import table

if TYPE_CHECKING:
    from poslock.ledger.journal import Event
    from poslock.lock.files.directory import LockDirectory

_HEADER = ("TIME", "POSITION", "GENERATION", "TOKEN", "PID", "EVENT", "DETAIL")
_OF_SEVERAL = (*_HEADER[:2], "ACCOUNT", *_HEADER[2:])


@click.command()
@click.argument("position", required=False)
@ledger_option
@account_option
@click.option("--json", "as_objects", is_flag=True, help="Print a list of objects instead of a table.")
@click.pass_obj
@click.pass_context
def history(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    position: str | None,
    *,
    ledger: str | None,
    account: str | None,
    as_objects: bool,
) -> None:
    """Show who did what to POSITION, or to all of them, oldest first: tracked, sent, broken, unsettled, booked.

    The ledger is only read. Times are UTC. If several accounts have a POSITION of that id, --account says which is
    meant.

    Exit 0; 1 if the ledger knows nothing of POSITION.
    """
    if position is not None:
        check_position_id(position)
    book = ledger_at(directory, ledger)
    events = book.history(position, account) if is_made(book.path) else []
    accounts = sorted({event.account for event in events})
    if position is not None and len(accounts) > 1:
        named = " and ".join(quoted(each) for each in accounts)
        raise click.UsageError(f"{quoted(position)} is on {named}; say which by --account NAME.", context)
    if as_objects:
        click.echo(as_json([{**asdict(event), "at": moment(event.at)} for event in events]))
    elif events:
        several = len(accounts) > 1
        click.echo(table(_OF_SEVERAL if several else _HEADER, [_row(event, several=several) for event in events]))
    elif position is None:
        click.echo(f"no history in {printable(book.path)}")
    if position is not None and not events:
        click.echo(f"Error: no history of {quoted(position)} in {printable(book.path)}", err=True)
        context.exit(1)


def _row(event: Event, *, several: bool) -> tuple[str, ...]:
    whose = (event.position_id, event.account) if several else (event.position_id,)
    numbers = (str(event.generation), str(event.token), str(event.pid))
    return (moment(event.at), *whose, *numbers, event.event, event.detail)
