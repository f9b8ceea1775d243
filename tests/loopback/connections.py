"""The HTTP side of a `Loopback`: connections that stay open, requests out of them, answers into them."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loopback.server import Loopback

KEYS = {
    "apiKey": "poslock-test-key-DO-NOT-LOG-1",
    "secret": "poslock-test-secret-DO-NOT-LOG-2",
    "password": "poslock-test-password-DO-NOT-LOG-3",
}
_LONGEST = 60.0
_WORTH_PACKING = 200


@dataclass(frozen=True, slots=True)
class Request:
    """What came. ``params`` is the query together with the form or JSON object of the body, or the JSON list of it."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]  # names in lower case
    params: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; a *body* that is neither text nor bytes is sent as JSON, its decimals as numbers."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body, default=_number)).encode()


class Refused(Exception):
    """Raised by a handler that answers with *reply* and has done nothing."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class Connections:
    """The socket that listens, and those that are open."""

    def __init__(self, venue: Loopback) -> None:
        handler = type("Handler", (_Connection,), {"venue": venue, "connections": self})
        self._open: dict[threading.Thread, socket.socket] = {}
        self._ending = threading.Event()
        self._server = _Server(handler, venue.errors)
        self.port: int = self._server.server_address[1]
        self._listening = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def open(self) -> None:
        self._listening.start()

    def close(self) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        for thread, connection in tuple(self._open.items()):
            _shut(connection)
            thread.join(_LONGEST)
        self._listening.join(_LONGEST)

    def hang_up(self) -> None:
        """Close the connections that are open; the next request needs a new one."""
        for connection in tuple(self._open.values()):
            _shut(connection)

    @property
    def ended(self) -> bool:
        return self._ending.is_set()

    def wait(self, what: float | threading.Event) -> None:
        """Wait for an event or let seconds pass, but not beyond the end of the test."""
        if isinstance(what, threading.Event):
            while not (what.wait(0.02) or self._ending.is_set()):
                pass
        elif what:
            self._ending.wait(what)

    def opened(self, connection: socket.socket) -> None:
        self._open[threading.current_thread()] = connection
        if self._ending.is_set():
            _shut(connection)

    def closed(self) -> None:
        self._open.pop(threading.current_thread(), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler], errors: list[Exception]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.errors = errors

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.errors.append(error)


class _Connection(BaseHTTPRequestHandler):
    """A connection: requests out of it, answers into it."""

    venue: Loopback
    connections: Connections
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = _LONGEST

    def setup(self) -> None:
        super().setup()
        self.connections.opened(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.connections.closed()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        params = _params(address.query, body)
        request = Request(self.command, address.path, address.query, body, headers, params)
        reply, part = self.venue.arrived(request)
        if reply is not None:
            self._send(reply, part)
        if part < 1:
            self.close_connection = True
            self.wfile.flush()
            _shut(self.connection)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  # http.server's names

    def _send(self, reply: Reply, part: float) -> None:
        body = reply.encoded()
        self.send_response(reply.status)
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > _WORTH_PACKING:
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(len(body) * part)])

    def log_message(self, *args: object) -> None:
        """A test prints what it has to say."""


def _params(query: str, body: bytes) -> Any:
    params: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith(("{", "[")):
        return {**params, **dict(parse_qsl(text, keep_blank_values=True))}
    try:
        said = json.loads(text, parse_float=Decimal)
    except ValueError:
        return params
    return {**params, **said} if isinstance(said, dict) else said


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster


def _number(value: object) -> int | float:
    if not isinstance(value, Decimal):
        raise TypeError(f"{value!r} does not go into JSON")
    return int(value) if value == value.to_integral_value() else float(value)
