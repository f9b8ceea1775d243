"""``poslock recover``: finishes what dead bots began, and books what ended without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock import PositionGuard
from poslock.errors import printable
from poslock_cli.account import as_json, as_object, described, exchange_option, is_made, ledger_at, ledger_option
from poslock_cli.configuration import configuration_of

if TYPE_CHECKING:
    from poslock.exchange.port import Exchange
    from poslock.guard.guard import Recovery
    from poslock.lock.files.directory import LockDirectory


@click.command()
@exchange_option
@ledger_option
@click.option("--json", "as_objects", is_flag=True, help="Print a list of objects instead of lines.")
@click.pass_obj
@click.pass_context
def recover(
    context: click.Context, directory: LockDirectory, *, exchange: Exchange, ledger: str | None, as_objects: bool
) -> None:
    """Finish every close and every change of a position that was begun and not ended, where nobody is at it.

    Positions that ended at the venue by themselves (a stop-loss, a liquidation, by hand) are booked, too. Safe at any
    time, and beside running bots.

    Exit 0 if nothing is left unfinished, else 1.
    """
    book = ledger_at(directory, ledger)
    guard = PositionGuard(exchange, lock_dir=directory, ledger=book, stale_after=configuration_of(context).lease)
    outcomes = guard.recover() if is_made(book.path) else []
    if as_objects:
        click.echo(as_json([as_object(each) for each in outcomes]))
    elif not outcomes:
        click.echo(f"nothing to recover on {printable(exchange.account)} in {printable(book.path)}")
    for each in outcomes:
        if each.error is not None or not as_objects:
            click.echo(f"{printable(each.position_id)}: {_described(each)}", err=each.error is not None)
    context.exit(1 if any(each.error for each in outcomes) else 0)


def _described(outcome: Recovery) -> str:
    if outcome.error is not None:
        return printable(str(outcome.error))
    return "changes finished" if outcome.closed is None else described(outcome.closed)
