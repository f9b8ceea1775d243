"""``poslock doctor``: is this lock directory safe, and is the venue in order?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from poslock_cli.configuration import configuration_of
from poslock_cli.directory_checks import examine
from poslock_cli.findings import are_safe, refused, render
from poslock_cli.proof import prove
from poslock_cli.venue_checks import examine_venue

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects instead of lines.")
@click.pass_obj
@click.pass_context
def doctor(context: click.Context, directory: LockDirectory, *, as_json: bool) -> None:
    """Say whether the lock directory is safe, and prove it with two processes, one of which is killed.

    Then ask the venue in poslock.toml, if there is one, whether it takes the keys, and what they may do.

    Exit 0 if all is well, 1 if anything is REFUSED or the proof could not be made.
    """
    findings = examine(directory)
    proven = findings[-1].check == "writable" and are_safe(findings)
    findings += prove(directory) if proven else [refused("proof", "not tried", "first see to what is said above")]
    findings += examine_venue(configuration_of(context))
    click.echo(
        json.dumps([asdict(each) for each in findings], indent=2) if as_json else "\n".join(map(render, findings))
    )
    context.exit(0 if are_safe(findings) else 1)
