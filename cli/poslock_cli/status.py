"""``poslock status``: what is held, by whom, how old, alive or not."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from poslock.errors import printable
from poslock.lock.status import LockStatus, lock_status, lock_statuses
from poslock_cli.seconds import Seconds
from poslock_cli.table import duration, table
from poslock_cli.watch import watch

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory

_HEADER = ("POSITION", "STATE", "PID", "ALIVE", "AGE", "LEASE", "TOKEN", "PURPOSE")
_ALIVE = {True: "yes", False: "no", None: "unknown"}
_JSON_FIELDS = ("position", "state", "mode", "token", "holders", "path")


@click.command()
@click.argument("positions", nargs=-1, metavar="[POSITION]...")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects instead of a table.")
@click.option("--watch", "live", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=Seconds(0.1, 3600),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="With --watch: how often.",
)
@click.pass_obj
def status(directory: LockDirectory, positions: tuple[str, ...], *, as_json: bool, live: bool, interval: float) -> None:
    """Show what is held, by whom, how old, alive or not. A free lock shows its last holder in --json only.

    --watch --json prints one list per line.
    """

    def shown() -> str:
        locks = [lock_status(directory, each) for each in positions] if positions else lock_statuses(directory)
        return _as_json(locks, one_line=live) if as_json else _as_text(locks, directory.path)

    if live:
        watch(shown, interval, blocks=not as_json)
    else:
        click.echo(shown())


def _as_json(locks: list[LockStatus], *, one_line: bool) -> str:
    rows = [asdict(lock) for lock in locks]
    objects = [{field: row[field] for field in _JSON_FIELDS} for row in rows]
    return json.dumps(objects, separators=(",", ":")) if one_line else json.dumps(objects, indent=2)


def _as_text(locks: list[LockStatus], path: str) -> str:
    if not locks:
        return f"no locks in {printable(path)}"
    text = table(_HEADER, [row for lock in locks for row in _rows(lock)])
    damaged = [f"corrupt: {printable(lock.path)}: {printable(lock.why)}" for lock in locks if lock.state == "corrupt"]
    return "\n".join([text, *damaged])


def _rows(lock: LockStatus) -> list[tuple[str, ...]]:
    position = lock.position or "?"
    token = "" if lock.token is None else str(lock.token)
    if lock.state == "free" or not lock.holders:
        return [(position, lock.state, "", "", "", "", token, "")]
    return [
        (
            position,
            lock.state,
            str(holder.pid),
            _ALIVE[holder.alive],
            duration(holder.age_s),
            duration(holder.lease_s),
            token,
            holder.purpose,
        )
        for holder in lock.holders
    ]
