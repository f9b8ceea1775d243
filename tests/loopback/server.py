"""`Loopback`: a venue's HTTP side without any venue in it. Who serves one adds routes and judges requests.

It answers on 127.0.0.1 out of daemon threads, over connections that stay open, and does what a network does to
requests and answers when a test strikes it with a `Fault`. One request at a time is carried out; delays are not.
"""

from __future__ import annotations

import re
import threading
import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import unquote

import ccxt
import ccxt.async_support

from loopback.connections import KEYS, Connections, Refused, Reply, Request
from loopback.rules import Rules
from poslock import PaperExchange

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["KEYS", "Fault", "Loopback", "Refused", "Reply", "Request", "Route", "Routes"]

_GARBAGE = b"<html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"

Handler = TypeVar("Handler", bound="Callable[..., Any]")


@dataclass(slots=True)
class Fault:
    """What befalls the next *times* requests whose path has *path* (a regular expression) in it, after *spared* ones.

    ``"drop"`` closes the connection before anything is done; ``"lose"`` does it after everything is; ``"cut"`` sends
    half of the answer and closes; ``"garbage"`` answers HTML with status 200 after everything is done; a `Reply` is
    answered instead of doing anything; a number of seconds, or an event, is waited for first. A function is called with
    the request first, and answers instead if it returns a `Reply`. ``hits`` is how many it has befallen.
    """

    path: str
    what: (
        Literal["drop", "lose", "cut", "garbage"] | Reply | float | threading.Event | Callable[[Request], Reply | None]
    )
    method: str | None = None
    times: int = 1
    spared: int = 0
    hits: int = 0

    def befalls(self, request: Request) -> bool:
        if not self.times or self.method not in {None, request.method} or not re.search(self.path, request.path):
            return False
        if self.spared:
            self.spared -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class Route:
    """A handler of requests, and what the names in its pattern stand for."""

    method: str
    pattern: re.Pattern[str]
    handler: Callable[..., Any]
    signed: bool


class Routes:
    """A table of handlers by method and path; ``{name}`` in a path stands for one part of it."""

    def __init__(self, *others: Routes) -> None:
        self._routes = [route for other in others for route in other]

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def on(self, method: str, path: str, *, signed: bool = True) -> Callable[[Handler], Handler]:
        def registered(handler: Handler) -> Handler:
            pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
            self._routes.append(Route(method, pattern, handler, signed))
            return handler

        return registered

    def says(self, path: str, answer: Callable[[Any], Any], *, signed: bool = True) -> None:
        """Answer a question with what *answer* makes of the first that a handler is called with."""
        self.on("GET", path, signed=signed)(lambda of, *_: answer(of))

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        for route in self._routes:
            if route.method == request.method and (match := route.pattern.fullmatch(request.path)):
                return route, {name: unquote(part) for name, part in match.groupdict().items()}
        return None


class Loopback(Rules):
    """A venue at ``url`` while it is entered, over the paper account ``book`` in the file *path*.

    ``requests`` is what came, in that order, and ``refused`` what of it was refused, with the answers; ``offset_ms`` is
    by how much the venue's clock is ahead of this machine's; ``errors`` is what went wrong in a handler, which ends the
    block as an error. ``latency`` are the seconds that a request takes to get here. The other settings are those of
    `PaperExchange`.
    """

    routes: ClassVar[Routes]
    ccxt_id: ClassVar[str] = ""
    options: ClassVar[dict[str, Any]] = {}
    has_currencies: ClassVar[bool] = False

    def __init__(self, path: str | os.PathLike[str], *, latency: float = 0.0, **paper_settings: Any) -> None:
        self.offset_ms = 0
        self.book = PaperExchange(path, clock=lambda: time.time() + self.offset_ms / 1000, **paper_settings)
        self.requests: list[Request] = []
        self.refused: list[tuple[Request, Reply]] = []
        self.errors: list[Exception] = []
        self.latency = latency
        self._faults: list[Fault] = []
        self._struck, self._carrying_out = threading.Lock(), threading.RLock()
        self._connections = Connections(self)

    @classmethod
    def client_at(cls, url: str, *, asynchronous: bool = False, kind: str = "", **config: Any) -> Any:
        """A real ccxt client that takes the server at *url* for the venue; its markets are not loaded yet.

        *kind* is ccxt's id of the venue, if that is not the usual one.
        """
        module = ccxt.async_support if asynchronous else ccxt
        options = {**cls.options, **config.pop("options", {})}
        settings = {**KEYS, "enableRateLimit": False, "options": options, **config}
        client = getattr(module, kind or cls.ccxt_id)(settings)
        if not cls.has_currencies:
            client.has["fetchCurrencies"] = False
        client.urls["api"] = _moved(url, client.urls["api"])
        return client

    def client(self, *, asynchronous: bool = False, **config: Any) -> Any:
        """As `client_at`, of this venue."""
        return self.client_at(self.url, asynchronous=asynchronous, **config)

    def headers(self) -> dict[str, str]:
        """What comes with every answer: how far the client is from the limit of the venue."""
        return {}

    @abstractmethod
    def admit(self, request: Request) -> None:
        """Raise `Refused` if the venue would not let this signed request in."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._connections.port}"

    def clock_ms(self) -> int:
        """The venue's clock."""
        return self.book.time_ms()

    def strike(self, *faults: Fault) -> None:
        """Let *faults* happen; of several that fit a request the first one does."""
        with self._struck:
            self._faults.extend(faults)

    def hang_up(self) -> None:
        """Close the connections that are open, as venues do with those on which nothing is asked for a while."""
        self._connections.hang_up()

    def handled(self, route: Route, request: Request, parts: Mapping[str, str]) -> Any:
        """What a handler answers: it is called with the venue, the request, and the parts of the path."""
        return route.handler(self, request, **parts)

    def nothing_here(self, request: Request) -> Reply:
        return Reply(404, "<html><body>404 page not found</body></html>", {"Content-Type": "text/html"})

    def raised(self, error: Exception) -> Reply:
        """The answer for an error that is no `Refused`; one that no test asked for."""
        self.errors.append(error)
        return Reply(500, "<html><body>500</body></html>", {"Content-Type": "text/html"})

    def __enter__(self) -> Self:
        self._connections.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._connections.close()
        if self.errors and kind is None:
            raise self.errors[0]

    def arrived(self, request: Request) -> tuple[Reply | None, float]:
        """The answer to *request* and how much of it is sent; None for none at all."""
        self.requests.append(request)
        self._connections.wait(self.latency)
        fault = self._befalling(request)
        what = fault.what if fault else None
        if isinstance(what, int | float | threading.Event):
            self._connections.wait(what)
        elif callable(what):
            what = what(request)
        if what == "drop" or self._connections.ended:
            return None, 0
        reply = what if isinstance(what, Reply) else self.turned_away() or self._carried_out(request)
        if what == "garbage":
            reply = Reply(200, _GARBAGE, {"Content-Type": "text/html"})
        return (None, 0) if what == "lose" else (reply, 0.5 if what == "cut" else 1)

    def _befalling(self, request: Request) -> Fault | None:
        with self._struck:
            return next((fault for fault in self._faults if fault.befalls(request)), None)

    def _carried_out(self, request: Request) -> Reply:
        if (found := self.routes.find(request)) is None:
            return self.nothing_here(request)
        route, parts = found
        with self._carrying_out:
            try:
                if route.signed:
                    self.admit(request)
                answer = self.handled(route, request, parts)
            except Refused as refused:
                self.refused.append((request, refused.reply))
                return refused.reply
            except Exception as error:  # noqa: BLE001  # it is kept, and ends the block
                return self.raised(error)
        reply = answer if isinstance(answer, Reply) else Reply(200, _and_more(answer))
        return replace(reply, headers={**self.headers(), **reply.headers})


def _moved(url: str, address: Any) -> Any:
    """The addresses of a client, at the server."""
    if isinstance(address, dict):
        return {name: _moved(url, each) for name, each in address.items()}
    return url + "".join(f"/{part}" for part in address.split("/")[3:])


def _and_more(answer: Any) -> Any:
    """*answer*, whose rows have a field each that no documentation knows: a venue goes on developing."""
    if isinstance(answer, dict):
        return {name: _and_more(each) for name, each in answer.items()}
    if not isinstance(answer, list | tuple):
        return answer
    return [{**each, "notDocumented": None} if isinstance(each, dict) else each for each in answer]
