"""``poslock positions``: what is tracked, how far it got, and who is at it."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from poslock.errors import InvalidPositionId
from poslock.lock.status import LockStatus, lock_status
from poslock.text import printable
from poslock_cli.account import amount, as_json, is_made, ledger_at, ledger_option
from poslock_cli.table import table

if TYPE_CHECKING:
    from poslock.ledger.ledger import Ledger
    from poslock.lock.directory import LockDirectory
    from poslock.position import TrackedPosition

_HEADER = ("POSITION", "ACCOUNT", "SYMBOL", "SIDE", "LEFT", "ENTRY", "STATE", "GENERATION", "NET P&L", "HOLDER")


@click.command()
@ledger_option
@click.option("--json", "as_objects", is_flag=True, help="Print a list of objects instead of a table.")
@click.pass_obj
def positions(directory: LockDirectory, *, ledger: str | None, as_objects: bool) -> None:
    """Show every position in the ledger: what is left of it, its state, its P&L once closed, and who is at it now.

    The ledger is only read. Of an id that was opened again the newest generation is shown.
    """
    book = ledger_at(directory, ledger)
    seen = [_seen(directory, book, each) for each in book.positions()] if is_made(book.path) else []
    if as_objects:
        click.echo(as_json([_as_object(tracked, lock) for tracked, lock in seen]))
    elif seen:
        click.echo(table(_HEADER, [_row(tracked, lock) for tracked, lock in seen]))
    else:
        click.echo(f"no positions in {printable(book.path)}")


def _seen(
    directory: LockDirectory, ledger: Ledger, tracked: TrackedPosition
) -> tuple[TrackedPosition, LockStatus | None]:
    """A position and its lock, as they were at one moment."""
    try:
        lock = lock_status(directory, tracked.position.id)
    except InvalidPositionId:  # nobody can have tracked it
        return tracked, None
    # A closer booked and released between the two looks: it would seem to have died. A close that is still open was
    # open all the time. (test_a_close_that_ends_while_we_look_does_not_seem_abandoned)
    if tracked.state == "closing" and lock.state != "held":
        return ledger.find(tracked.position.id) or tracked, lock
    return tracked, lock


def _left(tracked: TrackedPosition) -> Decimal:
    return Decimal(0) if tracked.state == "closed" else tracked.left


def _as_object(tracked: TrackedPosition, lock: LockStatus | None) -> dict[str, object]:
    position = tracked.position
    return {
        "position": position.id,
        "account": tracked.account,
        "symbol": position.symbol,
        "side": position.side,
        "contracts": position.contracts,
        "left": _left(tracked),
        "entry_price": position.entry_price,
        "settle": position.settle,
        "state": tracked.state,
        "generation": tracked.generation,
        "net_pnl": tracked.closed and tracked.closed.net_pnl,
        "lock": lock and lock.state,
        "holders": [asdict(holder) for holder in lock.holders] if lock and lock.state != "free" else [],
    }


def _row(tracked: TrackedPosition, lock: LockStatus | None) -> tuple[str, ...]:
    position = tracked.position
    return (
        position.id,
        tracked.account,
        position.symbol,
        position.side,
        amount(_left(tracked)),
        amount(position.entry_price),
        tracked.state,
        str(tracked.generation),
        f"{amount(tracked.closed.net_pnl)} {position.settle}" if tracked.closed else "",
        _holders(lock),
    )


def _holders(lock: LockStatus | None) -> str:
    if lock is None or lock.state == "free":
        return ""
    if not lock.holders:
        return f"? ({lock.state})"
    marks = "" if lock.state == "held" else f", {lock.state}"
    return ", ".join(f"PID {each.pid}{f' ({each.purpose})' if each.purpose else ''}" for each in lock.holders) + marks
