"""``poslock clear``: frees locks by the operator's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock.errors import LedgerError, LockError, LockStillHeld, printable
from poslock.lock.status import LockStatus, lock_status, lock_statuses
from poslock.lock.transitions import Transitions
from poslock_cli.account import amount, is_made, ledger_at
from poslock_cli.asking import ask, holders
from poslock_cli.configuration import configuration_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from poslock.lock.files.directory import LockDirectory

_STALE = {"stale", "corrupt"}
_NOT_FREE = {"held", "stale", "corrupt"}


@click.command()
@click.argument("positions", nargs=-1, metavar="[POSITION]...")
@click.option("--stale", is_flag=True, help="Clear every stale or corrupt lock; no live holder is touched.")
@click.option("--all", "everything", is_flag=True, help="Clear every lock that may be cleared.")
@click.option("--force", is_flag=True, help="Clear a live holder too; its check() fails from then on.")
@click.option("--yes", is_flag=True, help="With --force: do not show and do not ask.")
@click.pass_obj
@click.pass_context
def clear(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    positions: tuple[str, ...],
    *,
    stale: bool,
    everything: bool,
    force: bool,
    yes: bool,
) -> None:
    """Free stale and corrupt locks: the named ones, all --stale ones, or --all.

    A live holder is left alone (exit 1) unless --force is given. Then it shows who holds what, and asks first; where
    nobody answers it clears nothing (exit 1) and needs --yes.
    """
    if (bool(positions), stale, everything).count(True) != 1:
        raise click.UsageError("Name positions, or say --stale, or say --all: one of the three.")
    if stale and force:
        raise click.UsageError("--stale never touches a live holder; --all --force does.")
    # A bad id is refused before anything is cleared.
    names = positions or _found(directory, _STALE if stale else _NOT_FREE)
    locks = [Transitions(directory, each) for each in names]
    if locks and force and not yes:
        shown = [line for each in names for line in _shown(directory, configuration_of(context).ledger, each)]
        ask(shown, "A live holder may be in the middle of a close. Clear all the same?")
    failures = [error for lock in locks if (error := _clear(lock, force=force))]
    # With --stale a lock that was taken since it was looked at is no failure: it is stale no more.
    context.exit(1 if any(not (stale and isinstance(each, LockStillHeld)) for each in failures) else 0)


def _found(directory: LockDirectory, states: set[str]) -> Sequence[str]:
    """The positions whose locks are in one of *states*. Where the position cannot be read, its file is named."""
    found = [lock for lock in lock_statuses(directory) if lock.state in states]
    if not found:
        click.echo(f"nothing to clear in {printable(directory.path)}")
    for lock in found:
        if lock.position is None:
            _name(lock)
    return [lock.position for lock in found if lock.position is not None]


def _shown(directory: LockDirectory, ledger: str | None, position_id: str) -> Iterator[str]:
    """What clearing a lock would do to whom, and what the ledger says of the position."""
    lock = lock_status(directory, position_id)
    by = {"held": f"{holders(lock)}; its check() fails from then on", "stale": f"{holders(lock)}, which is over"}
    yield f"{position_id}: {lock.state}{f', {by[lock.state]}' if lock.state in by else ''}"
    book = ledger_at(directory, ledger)
    try:
        found = book.positions(None, position_id) if is_made(book.path) else []
    except (LedgerError, click.ClickException) as error:
        yield f"  not seen: the position ({error})"
        return
    for tracked in found:
        position, on = tracked.position, f" on {tracked.account}" if len(found) > 1 else ""
        yield f"  {position.side} {amount(tracked.left)} contracts of {position.symbol}{on}, {tracked.state}"


def _name(lock: LockStatus) -> None:
    hint = "clear it by its position id, or remove the file while no bot runs"
    click.echo(f"{printable(lock.path)}: left alone, {printable(lock.why)}; {hint}", err=True)


def _clear(lock: Transitions, *, force: bool) -> LockError | None:
    """Clear one lock and say what became of it; the reason if it was left alone."""
    label = printable(lock.position_id)
    try:
        click.echo(f"{label}: {lock.clear(force=force)}")
    except LockStillHeld as error:
        click.echo(f"{label}: left alone, held by {error.holder}", err=True)
        return error
    except LockError as error:  # the others can still be cleared
        click.echo(f"{label}: {printable(str(error))}", err=True)
        return error
    return None
