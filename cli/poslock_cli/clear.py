"""``poslock clear``: frees locks by the operator's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock.errors import LockStillHeld
from poslock.lock.transitions import Transitions
from poslock.text import printable

if TYPE_CHECKING:
    from poslock.lock.directory import LockDirectory


@click.command()
@click.argument("positions", nargs=-1, required=True, metavar="POSITION...")
@click.option("--force", is_flag=True, help="Clear a live holder too; its check() fails from then on.")
@click.option("--yes", is_flag=True, help="With --force: do not ask.")
@click.pass_obj
@click.pass_context
def clear(
    context: click.Context, directory: LockDirectory, positions: tuple[str, ...], *, force: bool, yes: bool
) -> None:
    """Free stale and corrupt locks. A live holder is left alone (exit 1) unless --force is given."""
    locks = [Transitions(directory, each) for each in positions]  # a bad id is refused before anything is cleared
    if force and not yes:
        click.confirm("A live holder may be in the middle of a close. Clear all the same?", abort=True)
    left_alone = 0
    for lock in locks:
        label = printable(lock.position_id)
        try:
            cleared = lock.clear(force=force)
        except LockStillHeld as error:
            left_alone += 1
            click.echo(f"{label}: left alone, held by {error.holder}", err=True)
        else:
            click.echo(f"{label}: {cleared}")
    context.exit(1 if left_alone else 0)
