"""``poslock run``: a command in any language runs while the lock is held."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from poslock import LockTimeout, PositionLock
from poslock.errors import printable, quoted
from poslock_cli.child import NOT_FOUND, Child, find_program
from poslock_cli.seconds import Seconds
from poslock_cli.supervisor import Supervisor, block_signals

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory

BUSY = 75  # EX_TEMPFAIL: try later
_YEAR = 366 * 86_400.0
_DAY = 86_400.0
_LONGEST_PURPOSE = 128


@click.command()
@click.option(
    "--timeout", type=Seconds(0, _YEAR), metavar="SECONDS", default=30.0, show_default=True, help="How long to wait."
)
@click.option(
    "--stale-after",
    type=Seconds(1, _DAY),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long this process may be silent before others take over; it renews at every third.",
)
@click.option(
    "--grace",
    type=Seconds(0, _DAY),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long from SIGTERM to SIGKILL when the lock is lost.",
)
@click.option("--shared", is_flag=True, help="Share the lock with others who only read.")
@click.argument("position")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.pass_obj
@click.pass_context
def run(  # noqa: PLR0913  # one for each option
    context: click.Context,
    directory: LockDirectory,
    position: str,
    command: tuple[str, ...],
    *,
    timeout: float,
    stale_after: float,
    grace: float,
    shared: bool,
) -> None:
    """Hold the lock on POSITION while COMMAND runs.

    The command finds $POSLOCK_POSITION, $POSLOCK_TOKEN (the fencing token) and $POSLOCK_DIR, and gets the signals
    sent to this process. If the lock is lost, it is stopped.

    Exit: the command's, 128+N if signal N killed it; 75 if somebody else has the lock; 79 if the lock was lost;
    126 or 127 if the command cannot be executed or found.
    """
    program = find_program(command[0])
    if isinstance(program, int):
        why = "command not found" if program == NOT_FOUND else "is not executable"
        _refuse(f"{quoted(command[0])}: {why}", program)
    purpose = f"run: {Path(command[0]).name}"[:_LONGEST_PURPOSE]
    lock = PositionLock(
        position, lock_dir=directory, shared=shared, timeout=timeout, stale_after=stale_after, purpose=purpose
    )
    token = _acquire(lock)
    blocked = block_signals()
    environment = {**os.environ, **_told(directory, position, token)}
    start = partial(Child, program, command, environment, blocked)
    context.exit(Supervisor(lock, start, lease=stale_after, grace=grace).run())


def _acquire(lock: PositionLock) -> int:
    # Until the command runs, Ctrl-C ends this process as it would end the command: by the signal, not by exit code 1.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return lock.acquire()
    except LockTimeout as error:
        _refuse(printable(str(error)), BUSY)


def _told(directory: LockDirectory, position: str, token: int) -> dict[str, str]:
    return {"POSLOCK_POSITION": position, "POSLOCK_TOKEN": str(token), "POSLOCK_DIR": directory.path}


def _refuse(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)
