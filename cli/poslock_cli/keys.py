"""The keys of a venue: from the environment, else from a file that nobody else can read. No message shows one."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field

from poslock_cli.configuration import ConfigurationError
from poslock_cli.own_file import READ_BY_US, OwnFileError, read_own_file

VARIABLES = {"api_key": "POSLOCK_API_KEY", "secret": "POSLOCK_API_SECRET", "password": "POSLOCK_API_PASSWORD"}
"""In the keys file and in the environment."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What was found, and where; ``password`` is the venue's passphrase, if it has one."""

    origin: str
    api_key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def read_keys(keys_file: str | None) -> Keys:
    """All from the environment if one of them is there, else all from the file, if there is one.

    Raises:
        ConfigurationError: the file is not as it must be, or one of them cannot be a key.
    """
    found = {key: os.environ[variable] for key, variable in VARIABLES.items() if os.environ.get(variable)}
    if found:
        for key, value in found.items():
            if fault := _fault(key, value):
                raise ConfigurationError("the environment", f"{VARIABLES[key]} {fault}")
        return Keys("the environment", **found)
    return Keys("the environment") if keys_file is None else read_keys_file(keys_file)[0]


def read_keys_file(path: str) -> tuple[Keys, int]:
    """The keys in the file, and its mode.

    Raises:
        ConfigurationError: it is not as it must be, or one of them cannot be a key.
    """
    try:
        content, mode = read_own_file(path, READ_BY_US)
    except OwnFileError as error:
        raise ConfigurationError(path, f"the keys file {error.why}", error.way_out) from error
    table = _parsed(path, content)
    if table.keys() - VARIABLES.keys():  # not named: it may be a key in the wrong place
        raise ConfigurationError(path, f"the keys file may have {', '.join(VARIABLES)}, and nothing else")
    for key, value in table.items():
        if fault := _fault(key, value):
            raise ConfigurationError(path, f"{key} {fault}")
    return Keys(path, **table), mode


def _parsed(path: str, content: bytes) -> dict[str, str]:
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        # Not the whole message: it may quote the file.
        found = re.search(r"\(at (line \d+|end of document)", str(error))
        why = f"the keys file is no TOML{f' ({found[1]})' if found else ''}"
        raise ConfigurationError(path, why, 'write api_key = "..."') from None


def _fault(key: str, value: object) -> str | None:
    """Why it cannot be sent in a header, or sign."""
    if not isinstance(value, str) or not value:
        return "must be text in quotes, and not empty"
    of_lines = key == "secret" and value.startswith("-----BEGIN ")  # a private key
    characters = value.replace("\n", "") if of_lines else value
    if characters != characters.strip():
        return "begins or ends with a space"
    if not (characters.isascii() and characters.isprintable()):
        return "has characters that no key has"
    return None
