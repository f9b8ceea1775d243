"""What each key of ``poslock.toml`` may say: a check returns the value, or raises a ValueError that keeps it back."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from poslock.errors import quoted
from poslock.exchange.ccxt.secrecy import CREDENTIALS
from poslock.position import name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DAY = 86_400
_YEAR = 366 * _DAY
_LONGEST_PATH = 4096
_DEEPEST_ADDRESS = 3
_LONGEST_KEY = 64
_HERE = {"localhost", "127.0.0.1", "::1"}
_CREDENTIALS = {each.lower() for each in CREDENTIALS}
_PARTS_OF_CREDENTIALS = ("apikey", "accesskey", "privatekey", "secret", "password", "passphrase")


def called(key: str) -> str:
    """The start of a key, for a message."""
    return quoted(key[:_LONGEST_KEY])


def key_of_a_credential(table: Mapping[str, Any]) -> str | None:
    """The first key, however deep, that is called like one of a client's credentials."""
    pending: list[Any] = [table]  # a list, because a file may be nested as deeply as it is long
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if found := [key for key in value if _is_credential(key)]:
                return called(found[0])
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return None


def _is_credential(key: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    return plain in _CREDENTIALS or any(part in plain for part in _PARTS_OF_CREDENTIALS)


def _venue(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]{1,32}", value):
        raise ValueError("must be what ccxt calls the venue, in small letters")
    return value


def _account(value: object) -> str:
    try:
        return name("account", value)
    except ValueError:
        raise ValueError("must be printable text of 1 to 64 characters") from None


def _market(value: object) -> str:
    if isinstance(value, str) and value in {"swap", "spot"}:
        return value
    raise ValueError('must be "swap" or "spot"')


def _trigger(value: object) -> str:
    if isinstance(value, str) and value in {"last", "mark"}:
        return value
    raise ValueError('must be "last" or "mark"')


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _path(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_PATH or not value.isprintable():
        raise ValueError("must be a path, without control characters")
    return value


def _seconds(least: int, most: int) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be a number of seconds from {least} to {most}")
        return float(value)

    return check


def _options(value: object) -> dict[str, Any]:
    for key, option in _table(value).items():
        endless = isinstance(option, float) and not math.isfinite(option)
        if endless or not isinstance(option, bool | int | float | str):
            raise ValueError(f"{called(key)} must be a finite number, text, true or false")
    return _table(value)


def _urls(value: object, above: int = 0) -> dict[str, Any]:
    if above == _DEEPEST_ADDRESS:
        raise ValueError("must be called as in ccxt's urls['api']")
    for key, each in _table(value).items():
        if isinstance(each, dict):
            _urls(each, above + 1)
        elif not isinstance(each, str) or not _is_address(each):
            why = "must be https://HOST..., or http:// on this machine, and have no user, password or query"
            raise ValueError(f"{called(key)} {why}")
    return _table(value)


def _table(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError("must be a table")


def _is_address(text: str) -> bool:
    """Whether requests can be sent there without everybody on the way reading the API key."""
    try:
        address = urlsplit(text)
        host, _ = address.hostname, address.port
    except ValueError:
        return False
    safe = address.scheme == "https" or (address.scheme == "http" and host in _HERE)
    bare = "@" not in address.netloc and not address.query and not address.fragment
    return safe and bare and bool(host) and text.isascii() and text.isprintable() and " " not in text


CHECKS: dict[str, Callable[[object], Any]] = {
    "venue": _venue,
    "account": _account,
    "market": _market,
    "sandbox": _switch,
    "demo": _switch,
    "lock_dir": _path,
    "ledger": _path,
    "lease": _seconds(1, _DAY),
    "timeout": _seconds(0, _YEAR),
    "trigger": _trigger,
    "keys_file": _path,
    "urls": _urls,
    "options": _options,
}
OF_VENUE = ("venue", "account", "market", "trigger", "sandbox", "demo", "keys_file", "urls", "options")
