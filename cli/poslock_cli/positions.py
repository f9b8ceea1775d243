"""``poslock positions``: what is tracked, how far it got, and who is at it."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from poslock.errors import InvalidPositionId, printable, quoted
from poslock.lock.status import LockStatus, lock_status
from poslock_cli.account import account_option, amount, as_json, ending, is_made, ledger_at, ledger_option
from poslock_cli.table import table

if TYPE_CHECKING:
    from poslock.ledger.ledger import Ledger
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import TrackedPosition

_HEADER = ("POSITION", "ACCOUNT", "SYMBOL", "SIDE", "LEFT", "ENTRY", "STATE", "GENERATION", "NET P&L", "HOLDER")


_OVER = {"closed", "forgotten"}
_WAY_OUT = "'poslock close' or 'recover' looks afresh, 'poslock settle' ends it by your word"


@click.command()
@click.argument("positions", nargs=-1, metavar="[POSITION]...")
@ledger_option
@account_option
@click.option("--open", "only_open", is_flag=True, help="Leave out those that are closed or forgotten.")
@click.option("--json", "as_objects", is_flag=True, help="Print a list of objects instead of a table.")
@click.pass_obj
@click.pass_context
def positions(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    positions: tuple[str, ...],
    *,
    ledger: str | None,
    account: str | None,
    only_open: bool,
    as_objects: bool,
) -> None:
    """Show the positions in the ledger, or those named: what is left, the state, the P&L, and the holder.

    Under its row stands why a close cannot end, and what it left at the venue. The ledger is only read. Of an id that
    was opened again the newest generation is shown, and one before it that is not booked yet; of an id that several
    accounts use, those of each.

    Exit 0; 1 if the ledger does not know a POSITION that was named.
    """
    book = ledger_at(directory, ledger)
    found = _found(book, positions, account, only_open=only_open) if is_made(book.path) else []
    shown = [each for each in found if not (only_open and each.state in _OVER)]
    seen = [_seen(directory, book, each) for each in shown]
    if as_objects:
        click.echo(as_json([_as_object(tracked, lock) for tracked, lock in seen]))
    elif seen:
        click.echo(_as_text(seen))
    elif found or not positions:
        where = printable(book.path if account is None else f"{book.path} on {account}")
        click.echo(f"no {'open ' if only_open else ''}positions in {where}")
    unknown = [each for each in positions if each not in {tracked.position.id for tracked in found}]
    for each in unknown:
        click.echo(f"Error: position {quoted(each)} is not in the ledger {printable(book.path)}", err=True)
    context.exit(1 if unknown else 0)


def _found(ledger: Ledger, named: tuple[str, ...], account: str | None, *, only_open: bool) -> list[TrackedPosition]:
    """All positions, or the *named* ones, by id; before each the oldest generation that is not booked yet."""
    if named:
        asked = [[*ledger.superseded(name, account), *ledger.positions(account, name)] for name in set(named)]
        found = [each for of_name in asked for each in of_name]
    else:
        found = ledger.superseded(None, account) + (ledger.alive(account) if only_open else ledger.positions(account))
    by_key = {(each.position.id, each.generation): each for each in found}
    return [by_key[key] for key in sorted(by_key)]


def _as_text(seen: list[tuple[TrackedPosition, LockStatus | None]]) -> str:
    """A table, with what does not fit into a column under its row."""
    header, *rows = table(_HEADER, [_row(tracked, lock) for tracked, lock in seen]).split("\n")
    lines = [header]
    for row, (tracked, _) in zip(rows, seen, strict=True):
        lines.append(row)
        if tracked.unsettled:
            lines.append(f"  unsettled: {printable(tracked.unsettled)} ({_WAY_OUT})")
        closed = tracked.closed
        if closed is not None and (closed.left_at_venue != 0 or closed.written_off or closed.by_operator):
            lines.append(f"  {ending(closed)}")
    return "\n".join(lines)


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
        return ledger.find(tracked.position.id, tracked.generation) or tracked, lock
    return tracked, lock


def _left(tracked: TrackedPosition) -> Decimal:
    return Decimal(0) if tracked.state in _OVER else tracked.left


def _as_object(tracked: TrackedPosition, lock: LockStatus | None) -> dict[str, object]:
    position, closed = tracked.position, tracked.closed
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
        "net_pnl": closed and closed.net_pnl,
        "ended_by": closed and closed.ended_by,
        "left_at_venue": closed and closed.left_at_venue,
        "written_off": closed and closed.written_off,
        "by_operator": closed and closed.by_operator,
        "realized_pnl": tracked.realized_pnl,
        "unsettled": tracked.unsettled,
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
        _net_pnl(tracked),
        _holders(lock),
    )


def _net_pnl(tracked: TrackedPosition) -> str:
    settle = tracked.position.settle
    if tracked.closed is not None:
        return f"{amount(tracked.closed.net_pnl)} {settle}"
    return "" if tracked.realized_pnl is None else f"{amount(tracked.realized_pnl)} {settle} so far"


def _holders(lock: LockStatus | None) -> str:
    if lock is None or lock.state == "free":
        return ""
    if not lock.holders:
        return f"? ({lock.state})"
    marks = "" if lock.state == "held" else f", {lock.state}"
    return ", ".join(f"PID {each.pid}{f' ({each.purpose})' if each.purpose else ''}" for each in lock.holders) + marks
