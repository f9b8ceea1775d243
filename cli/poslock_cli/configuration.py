"""``poslock.toml``: where the account, the ledger and the locks are; checked in full before anything is opened.

No message about it shows a value: somebody may have written a key where it does not belong.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poslock.errors import printable
from poslock_cli.configuration_checks import CHECKS, OF_VENUE, called, key_of_a_credential
from poslock_cli.own_file import READ_BY_ALL, OwnFileError, read_own_file

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "poslock.toml"
_IN_CONTEXT = "poslock_cli.configuration"
_LONGEST_ERROR = 200
_KEYS_BELONG = "keys belong into $POSLOCK_API_KEY, $POSLOCK_API_SECRET, $POSLOCK_API_PASSWORD, or the keys_file"


class ConfigurationError(click.ClickException):
    """What was configured cannot be used; nothing was opened."""

    exit_code = 2

    def __init__(self, path: str, why: str, way_out: str = "") -> None:
        super().__init__(printable(f"{path}: {why}; {way_out}" if way_out else f"{path}: {why}"))
        self.path = path
        self.why = why
        self.way_out = way_out


@dataclass(frozen=True, slots=True)
class Venue:
    """A real account, and what its ccxt client is made with. ``urls`` and ``options`` go over ccxt's own.

    ``sandbox`` and ``demo`` have ccxt lead it to the venue's test net, or to its demo trading.
    """

    venue: str
    account: str
    market: str = "swap"
    trigger: str = "last"
    sandbox: bool = False
    demo: bool = False
    keys_file: str | None = None
    urls: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was configured; paths are absolute, None is what was not. ``path`` is the file, or where it would be."""

    path: str
    venue: Venue | None = None
    lock_dir: str | None = None
    ledger: str | None = None
    lease: float = 30.0
    timeout: float | None = None

    def keep(self, context: click.Context) -> None:
        """Let the commands of *context* find it, and take what it has for defaults of their options."""
        context.meta[_IN_CONTEXT] = self
        of_ledger = {} if self.ledger is None else {"ledger": self.ledger}
        timeout = {} if self.timeout is None else {"timeout": self.timeout}
        context.default_map = {
            **dict.fromkeys(("positions", "history", "recover", "settle", "forget"), of_ledger),
            "close": of_ledger | timeout,
            "run": timeout | {"stale_after": self.lease},
        }


def configuration_of(context: click.Context) -> Configuration:
    """What was configured for the command of *context*."""
    found: Configuration = context.meta[_IN_CONTEXT]
    return found


def load(named: str | None) -> Configuration:
    """The file that was *named*, else the one in the user's configuration directory, if there is one.

    Never one in the working directory: whoever can leave a file there could have requests, signed with your keys, sent
    to an address of theirs.

    Raises:
        ConfigurationError: what is there cannot be used.
    """
    try:
        path = os.path.abspath(named) if named else _usual_path()
    except OSError as error:  # a deleted working directory
        raise ConfigurationError(named or FILE, f"cannot be found: {error}") from error
    if not path:
        return Configuration(FILE)
    try:
        content, _ = read_own_file(path, READ_BY_ALL)
    except OwnFileError as error:
        if error.missing and not named:
            return Configuration(path)
        raise ConfigurationError(path, error.why, error.way_out) from error
    return checked(path, _parsed(path, content))


def _usual_path() -> str:
    from platformdirs import user_config_path  # noqa: PLC0415  # imported only where nobody named a file

    try:
        path = str(user_config_path("poslock") / FILE)
    except RuntimeError:  # a user of a container, who has no home directory, and so no file in it
        return ""
    if not os.path.isabs(path):  # as $HOME or $XDG_CONFIG_HOME may have it: that is the working directory again
        raise ConfigurationError(path, "is not below the root", "set $POSLOCK_CONFIG")
    return path


def _parsed(path: str, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise ConfigurationError(path, "is no text in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(path, _wrong(str(error), content.decode())) from None


def _wrong(error: str, text: str) -> str:
    """What is wrong, and the key in whose line it is, if that is one of ours: anything else may be part of a value."""
    if "(at " not in error:
        return "is no TOML: a number is too long, or lists are nested too deeply"
    lines = text.splitlines()
    number = int(found[1]) if (found := re.search(r"\(at line (\d+)", error)) else len(lines)
    key = lines[number - 1].partition("=")[0].strip(" \t[]") if 0 < number <= len(lines) else ""
    if key in CHECKS and error.startswith(("Cannot overwrite", "Cannot declare")):
        return f"{key} is there twice (line {number})"
    return f"is no TOML: {f'{key}: ' if key in CHECKS else ''}{error[:_LONGEST_ERROR]}"


def checked(path: str, table: Mapping[str, Any]) -> Configuration:
    """What the file at *path* says, if all of it is known and in range.

    Raises:
        ConfigurationError: it is not; the message names the key.
    """
    if key := key_of_a_credential(table):
        raise ConfigurationError(path, f"{key} does not belong here", _KEYS_BELONG)
    if unknown := table.keys() - CHECKS.keys():
        raise ConfigurationError(path, f"{called(min(unknown))} is unknown; known: {', '.join(CHECKS)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = CHECKS[key](value)
        except ValueError as error:
            raise ConfigurationError(path, f"{key} {error}") from None
    for key in ("lock_dir", "ledger", "keys_file"):
        if key in values:
            values[key] = str(Path(path).parent / os.path.expanduser(values[key]))
    of_venue = {key: values.pop(key) for key in OF_VENUE if key in values}
    if of_venue and (missing := {"venue", "account"} - of_venue.keys()):
        raise ConfigurationError(path, f"{min(missing)} is missing: {', '.join(of_venue)} is of no use without it")
    return Configuration(path, Venue(**of_venue) if of_venue else None, **values)
