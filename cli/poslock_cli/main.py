"""The command line: options common to all commands, and errors as one line."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from poslock.errors import PoslockError, printable
from poslock.lock.files.directory import open_directory
from poslock_cli.clear import clear
from poslock_cli.close import close
from poslock_cli.configuration import load
from poslock_cli.demo.command import demo
from poslock_cli.doctor import doctor
from poslock_cli.history import history
from poslock_cli.positions import positions
from poslock_cli.recover import recover
from poslock_cli.rehearsal.command import rehearse
from poslock_cli.run import run
from poslock_cli.settle import forget, settle
from poslock_cli.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Group(click.Group):
    """A group whose commands may raise poslock's errors. What is said of arguments is escaped, for it repeats them."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if not args:  # the help, which has lines
            return super().make_context(info_name, args, parent, **extra)
        with _printable_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with _printable_errors():
            return super().invoke(ctx)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except PoslockError as error:
        raise click.ClickException(printable(str(error))) from error
    except click.ClickException as error:
        error.message = printable(error.message)  # type: ignore[misc]  # nobody has shown it yet
        raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="poslock")
@click.option(
    "--lock-dir",
    metavar="DIR",
    help="Where the lock files are; by default $POSLOCK_DIR, else as in the configuration, else the user's state "
    "directory.",
)
@click.option(
    "--config",
    metavar="PATH",
    envvar="POSLOCK_CONFIG",
    help="The configuration; by default $POSLOCK_CONFIG, else poslock/poslock.toml in the user's configuration "
    "directory, if it is there; never one in the working directory. Options and variables override what it says.",
)
@click.pass_context
def main(context: click.Context, lock_dir: str | None, config: str | None) -> None:
    """Of all bot processes on this host, exactly one closes a position."""
    configuration = load(config)
    configuration.keep(context)
    context.obj = open_directory(lock_dir or os.environ.get("POSLOCK_DIR") or configuration.lock_dir)


main.add_command(status)
main.add_command(clear)
main.add_command(positions)
main.add_command(history)
main.add_command(close)
main.add_command(recover)
main.add_command(settle)
main.add_command(forget)
main.add_command(run)
main.add_command(doctor)
main.add_command(rehearse)
main.add_command(demo)
