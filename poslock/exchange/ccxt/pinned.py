"""A ccxt client for one request: signed as of a given moment, led to no other address, gone afterwards.

It is a copy, because the bot's other threads and tasks use the original meanwhile. Sessions, rate limiter and proxies
stay the original's.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from poslock.exchange.ccxt.limits import Heard

_REQUESTS = frozenset({"request", "get", "post", "put", "patch", "delete"})


class Redirected(Exception):
    """The answer was another address. Whoever is there gets neither the order nor the key."""


@contextmanager
def pinned(client: Any, *, signed_at_ms: int, options: Mapping[str, Any], heard: Heard) -> Iterator[Any]:
    """A copy of *client* that signs as of then, with *options* besides its own. Its ``fetch`` raises `Redirected`.

    *heard* is told the status and the headers of the answer.
    """
    if callable(getattr(client, "open", None)):
        client.open(True)  # a session made by the copy would be nobody's to close
    one = object.__new__(type(client))
    one.__dict__.update(client.__dict__)
    one.nonce = lambda: signed_at_ms
    one.options = {**client.options, **options}
    one.session = _Straight(client.session)
    one.get_socks_proxy_session = lambda proxy: _Straight(client.get_socks_proxy_session(proxy))
    one.on_rest_response = partial(_answered, client, heard)
    try:
        yield one
    finally:
        # An instance that goes away closes what it has, or warns of it.
        one.session = one.socks_proxy_sessions = None


def carry(one: Any, headers: Mapping[str, str]) -> None:
    """Have requests of *one* carry *headers*, whatever the bot has set under their names: ccxt lets that go first."""
    ours = {name.lower() for name in headers}
    others = {name: value for name, value in (one.headers or {}).items() if name.lower() not in ours}
    one.headers = {**others, **headers}


def _answered(client: Any, heard: Heard, status: int, *answer: Any) -> Any:
    _reason, _url, _method, headers, *_ = answer
    heard.status, heard.headers = status, {name.lower(): value for name, value in headers.items()}
    if 300 <= status < 400:  # noqa: PLR2004  # the class of HTTP's redirections
        raise Redirected(f"{client.id} {status} to another address")
    return client.on_rest_response(status, *answer)


class _Straight:
    """A session of requests or aiohttp that follows no redirect: both send an order on, body, key and all."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        attribute: Callable[..., Any] = getattr(self._session, name)
        return partial(attribute, allow_redirects=False) if name in _REQUESTS else attribute
