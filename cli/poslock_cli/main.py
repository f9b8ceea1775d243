"""The command line: options common to all commands, and errors as one line."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from poslock.errors import PoslockError, printable
from poslock.lock.files.directory import open_directory
from poslock_cli.configuration import load

if TYPE_CHECKING:
    from collections.abc import Iterator


# Where each command is. It is imported when somebody asks for it: `status` need not wait for what a close needs.
_COMMANDS = {
    "status": "status",
    "clear": "clear",
    "positions": "positions",
    "history": "history",
    "close": "close",
    "recover": "recover",
    "settle": "settle",
    "forget": "settle",
    "run": "run",
    "doctor": "doctor",
    "rehearse": "rehearsal.command",
    "demo": "demo.command",
}


class _Group(click.Group):
    """A group whose commands may raise poslock's errors. What is said of arguments is escaped, for it repeats them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"poslock_cli.{_COMMANDS[name]}"), name)
        return command

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
