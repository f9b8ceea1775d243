"""A ccxt client's credentials, kept out of texts and logs.

At DEBUG ccxt logs the headers and the body of every request, the API key among them; the HTTP libraries log addresses,
which at some venues carry a signature.

Not protected: what a client prints because it is ``verbose``, and what the bot logs of its client itself.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote, quote_plus
from weakref import WeakValueDictionary

CREDENTIALS = (
    "apiKey",
    "secret",
    "password",
    "uid",
    "login",
    "accountId",
    "token",
    "privateKey",
    "walletAddress",
    "twofa",
)
"""The attributes of a ccxt client that hold what nobody else may know."""

# A shorter one would be found in words and numbers that have nothing to do with it.
_SHORTEST = 4
_LOGGERS = (
    "ccxt.base.exchange",
    "urllib3.connectionpool",
    "urllib3.connection",
    "urllib3.poolmanager",
    "urllib3.util.retry",
    "aiohttp.client",
    "aiohttp.internal",
    "asyncio",  # says what became of tasks that nobody awaited, and of connections
)
# "signature=ab12" in an address, "'X-BAPI-SIGN': 'ab12'" in headers.
_SIGNATURE = re.compile(r"((?:signature|[-_]sign)['\"]?\s*[=:]\s*['\"]?)[^'\"&\s,}]+", re.IGNORECASE)


def scrubbed(client: Any, text: str) -> str:
    """*text* with the name of the credential in place of each credential of *client*."""
    return _replaced(text, _forms(client))


def hide_keys(client: Any) -> None:
    """Have the log records of ccxt and the libraries under it name *client*'s credentials instead of showing them.

    They are read from the client when something is logged, so they may change. Once it is gone nothing is left of it.
    """
    _HIDING.clients[id(client)] = client
    own = getattr(client, "logger", None)
    for logger in (*map(logging.getLogger, _LOGGERS), *([own] if isinstance(own, logging.Logger) else [])):
        logger.addFilter(_HIDING)  # one filter for all clients: a logger takes the same one once


class _Hiding(logging.Filter):
    """Lets every record pass. One with a credential or a signature in it passes as text, without them."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            self._hide(record)
        except Exception:  # noqa: BLE001  # logging must not raise; better nothing is said than a key
            record.msg, record.args = "a record that could not be searched for keys", ()
            record.exc_info = record.exc_text = None
        return True

    def _hide(self, record: logging.LogRecord) -> None:
        said = _said(record)
        if (shown := self._hidden(said)) != said:
            record.msg, record.args = shown, ()
        if record.exc_info:
            trace = record.exc_text or logging.Formatter().formatException(record.exc_info)
            if (shown := self._hidden(trace)) != trace:
                record.exc_text = shown  # handlers print it instead of making it anew

    def _hidden(self, text: str) -> str:
        # The list is made in one step of the interpreter, so other threads may add clients meanwhile.
        for reference in self.clients.valuerefs():
            if (client := reference()) is not None:
                text = _replaced(text, _forms(client))
        # By a function: for a template it would import a module, which it cannot while the interpreter ends.
        return _SIGNATURE.sub(lambda found: f"{found[1]}<signature>", text)


_HIDING = _Hiding()


def _said(record: logging.LogRecord) -> str:
    # Arguments that do not fit, or that cannot be shown, are for the handler to complain of; it prints them.
    with suppress(Exception):
        return record.getMessage()
    with suppress(Exception):
        return f"{record.msg} {record.args}"
    return ""


def _forms(client: Any) -> dict[str, str]:
    """Each credential as it may stand in a text, and its name; the longest first, for one may be a part of another."""
    forms: dict[str, str] = {}
    for name in CREDENTIALS:
        credential = getattr(client, name, None)
        if isinstance(credential, bool) or not isinstance(credential, str | int):
            continue
        value = str(credential)
        if len(value) >= _SHORTEST:
            in_addresses = (quote(value), quote(value, safe=""), quote_plus(value))
            forms.update(dict.fromkeys((value, *in_addresses, json.dumps(value)[1:-1], repr(value)[1:-1]), name))
    return dict(sorted(forms.items(), key=lambda form: -len(form[0])))


def _replaced(text: str, forms: dict[str, str]) -> str:
    for form, name in forms.items():
        text = text.replace(form, f"<{name}>")
    return text
