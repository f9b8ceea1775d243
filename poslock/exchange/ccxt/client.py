"""One request through a ccxt client: signed as of a given moment, sent once, its failure judged by the venue's code.

The client is the bot's own: its keys, proxies, session and rate limiter are used. Nothing about it is changed but its
table of markets, which is loaded if it is empty.
ccxt's own retries are passed by, because a request for an order leaves once or not at all.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import isawaitable, iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, TypeVar

from poslock.bridge import finished, in_tasks, in_threads
from poslock.errors import (
    ExchangeError,
    ExchangeUnavailable,
    KeysRefused,
    NotServed,
    OutcomeUnknown,
    PoslockError,
    RateLimited,
    RequestExpired,
    printable,
)
from poslock.exchange.ccxt.clock import VenueClock
from poslock.exchange.ccxt.limits import SHORTEST_BAN, Heard, back_off, is_ban
from poslock.exchange.ccxt.pinned import carry, pinned
from poslock.exchange.ccxt.secrecy import scrubbed
from poslock.exchange.port import hurried

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from poslock.exchange.ccxt.codes import Codes
    from poslock.exchange.port import BackOff, Scope

T = TypeVar("T")

_QUESTION_WINDOW_MS = 10_000
_LONGEST_MESSAGE = 300
_MOST_AT_ONCE = 8
# Answers without a code of the venue: from its gate, which did not let the request in.
_BY_STATUS: dict[str, type[ExchangeError]] = {"401": KeysRefused, "418": RateLimited, "429": RateLimited}
_HOST = re.compile(r"https?://(?:[^/?#\s@]*@)?([^/?#\s@]+)")
# "mexc POST https://... 503 Service Unavailable ...", or without the address, as ccxt puts it.
_STATUS = re.compile(r"^\S+ (?:[A-Z]+ \S+ )?(\d{3}) ")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of a venue's endpoints, as ccxt's table of them names it."""

    api: tuple[str, ...]
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a request says when it was signed and how long it may travel, beyond ccxt's ``nonce``: what to add to it."""

    options: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def _in_options(_signed_at_ms: int, window_ms: int) -> Stamp:
    # The window is signed, and ccxt takes it from its options.
    return Stamp(options={"recvWindow": window_ms})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a venue says things.

    ``stamp`` makes a `Stamp` of a time of signing and a window, both in milliseconds. ``history`` are the paths that
    tell of the past: a refusal for rate there must not keep an order back.
    """

    codes: Codes
    clock: Endpoint
    read_clock: Callable[[Any], int]
    history: frozenset[str] = frozenset()
    stamp: Callable[[int, int], Stamp] = _in_options


@dataclass(frozen=True, slots=True)
class _Failure:
    meaning: type[ExchangeError] | None
    code: str | None
    said: str
    retry_after: float | None = None

    def as_error(self, kind: type[ExchangeError]) -> ExchangeError:
        if issubclass(kind, RateLimited):
            return kind(self.said, code=self.code, retry_after=self.retry_after)
        return kind(self.said, code=self.code)


class Client:
    """Asks and tells a venue through *ccxt*, an instance of `ccxt` or `ccxt.async_support`."""

    def __init__(self, ccxt: Any, dialect: Dialect) -> None:
        self.ccxt = ccxt
        self.clock = VenueClock()
        self.back_off: BackOff | None = None
        self._dialect = dialect
        # From ccxt 4.5.89 on the part of the API is a list; before, it was a plain name where there is but one.
        self._is_asynchronous = iscoroutinefunction(getattr(ccxt, "fetch", None))
        self._names_lists = isinstance(signature(ccxt.sign).parameters["api"].default, list)

    async def ask(self, endpoint: Endpoint, params: Any, read: Callable[[Any], T]) -> T:
        """What *read* makes of the answer; may be asked again by the caller, because asking changes nothing.

        Raises:
            ExchangeUnavailable: there was no answer, or none that can be read. ``code`` is the venue's.
            RateLimited: also if it was not sent, because the venue has asked to be left alone.
        """
        await self.set_clock()
        return await self._ask(endpoint, params, read)

    async def send(
        self, endpoint: Endpoint, params: Any, read: Callable[[Any], T], *, signed_at_ms: int, receive_window_ms: int
    ) -> T:
        """As `ask`, for what changes something: signed as of then, and sent once.

        Raises:
            OrderRefused: by the venue, or it did not leave.
            OutcomeUnknown: it may have been carried out.
        """
        # The rate limiter may hold it back meanwhile. That takes from the window, as travelling does.
        # (test_a_request_held_back_by_the_rate_limiter_keeps_its_time)
        heard = Heard()
        try:
            return read(await self._request(endpoint, params, signed_at_ms, receive_window_ms, heard))
        except PoslockError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever went wrong, it may have gone wrong after the send
            failure = self._judged(error, heard, self._scope(endpoint))
            raise failure.as_error(failure.meaning or OutcomeUnknown) from None

    async def set_clock(self, *, fresh: bool = False) -> None:
        """Ask the venue for its time, unless that is known; known for an order, if it is to be *fresh*."""
        self.clock.recall()
        if not (self.clock.is_fresh if fresh else self.clock.is_known):
            self.clock.set(await self._ask(self._dialect.clock, {}, self._dialect.read_clock))

    async def together(self, *questions: Coroutine[Any, Any, T]) -> list[T]:
        """The answers of *questions*, asked side by side, a few at a time; raises the error of the first that failed.

        What was not asked by then is left out: it would be answered alike.
        """
        answers, rest = list[T](), [*questions]
        try:
            while rest:
                part, rest = rest[:_MOST_AT_ONCE], rest[_MOST_AT_ONCE:]
                in_thread = [partial(finished, each) for each in part]
                for answer in await in_tasks(part) if self._is_asynchronous else in_threads(in_thread):
                    if isinstance(answer, PoslockError):
                        raise answer
                    answers.append(answer)
        finally:
            for each in rest:
                each.close()
        return answers

    async def markets(self, kind: str | None = None) -> None:
        """Have ccxt load its table of markets, unless it has; of *kind* there must be some."""
        if self.ccxt.markets:
            return
        self._expect_no_pause("account")
        try:
            # Not its load_markets: that asks for currencies too, by this machine's clock and with rights that a key for
            # trading may not have. (test_markets_are_loaded_without_asking_for_more)
            found = await _answer(self.ccxt.fetch_markets())
        except Exception as error:  # noqa: BLE001  # ccxt's, the network's, anything that keeps it from loading
            # The bot's client has asked, so the headers are those of whatever was answered last.
            status, headers = _STATUS.match(str(error)), getattr(self.ccxt, "last_response_headers", None) or {}
            heard = Heard(int(status[1]) if status else 0, {name.lower(): value for name, value in headers.items()})
            raise self._unavailable(error, heard, "account") from None
        # An answer that is none may look like a venue without markets.
        # (test_what_has_to_be_known_first_is_asked_for_again)
        if not any(kind is None or market.get(kind) for market in found):
            raise ExchangeUnavailable(f"{self.ccxt.id}: the markets cannot be read")
        self.ccxt.set_markets(found)

    async def _ask(self, endpoint: Endpoint, params: Any, read: Callable[[Any], T]) -> T:
        heard = Heard()
        try:
            return read(await self._request(endpoint, params, self.clock.question_ms(), _QUESTION_WINDOW_MS, heard))
        except PoslockError:
            raise
        except Exception as error:  # noqa: BLE001  # a question that failed is a question that failed
            raise self._unavailable(error, heard, self._scope(endpoint)) from None

    async def _request(self, endpoint: Endpoint, params: Any, signed_at_ms: int, window_ms: int, heard: Heard) -> Any:
        scope = self._scope(endpoint)
        self._expect_no_pause(scope)
        if self.ccxt.enableRateLimit:
            await self._throttle(self._cost(endpoint, params))
            self._expect_no_pause(scope)  # another bot may have been turned away while this one was held back
        stamp = self._dialect.stamp(signed_at_ms, window_ms)
        with pinned(self.ccxt, signed_at_ms=signed_at_ms, options=stamp.options, heard=heard) as one:
            signed = self._signed(one, endpoint, params)
            carry(one, {**(signed["headers"] or {}), **stamp.headers})
            return await _answer(one.fetch(signed["url"], signed["method"], None, signed["body"]))

    async def _throttle(self, cost: float) -> None:
        """Have the client's rate limiter hold this request back. What hurries goes ahead, and others wait for that."""
        client = self.ccxt
        if not hurried.get():
            await _answer(client.throttle(cost))
            client.set_last_rest_request_timestamp()  # by which a client for threads throttles the next one
        elif not self._is_asynchronous:
            due_ms = client.lastRestRequestTimestamp + client.rateLimit * cost
            client.lastRestRequestTimestamp = max(client.milliseconds(), due_ms)
        else:  # ccxt's limiter for tasks has either of two accounts
            client.throttler.config["tokens"] -= cost
            client.throttler.timestamps.append({"timestamp": client.milliseconds(), "cost": cost})

    def _cost(self, endpoint: Endpoint, params: Any) -> float:
        entry: Any = self.ccxt.api
        for name in (*endpoint.api, endpoint.method.lower(), endpoint.path):
            entry = entry.get(name, {}) if isinstance(entry, dict) else {}
        config = entry if isinstance(entry, dict) else {"cost": entry}
        arguments = (self._part(endpoint), endpoint.method, endpoint.path, params if isinstance(params, dict) else {})
        return float(self.ccxt.calculate_rate_limiter_cost(*arguments, config))

    def _part(self, endpoint: Endpoint) -> str | list[str]:
        return endpoint.api[0] if len(endpoint.api) == 1 and not self._names_lists else list(endpoint.api)

    def _signed(self, one: Any, endpoint: Endpoint, params: Any) -> dict[str, Any]:
        try:
            signed: dict[str, Any] = one.sign(
                endpoint.path, self._part(endpoint), endpoint.method, copy.deepcopy(params)
            )
        except Exception as error:  # noqa: BLE001  # no keys, a key that cannot be read, ...
            why = f"{self.ccxt.id}: the request could not be signed: {self._scrubbed(str(error))}"
            raise KeysRefused(why) from None
        return signed

    def _scope(self, endpoint: Endpoint) -> Scope:
        if endpoint.method != "GET":
            return "orders"
        return "history" if endpoint.path in self._dialect.history else "account"

    def _expect_no_pause(self, scope: Scope) -> None:
        """Raise `RateLimited` if the venue has turned this bot, or another one, away and the pause is not over."""
        left = 0.0 if self.back_off is None else self.back_off.left(scope)
        if left > 0:
            why = f"{self.ccxt.id}: not sent, because the venue has asked for a pause of which {left:.1f} s are left"
            raise RateLimited(why, retry_after=left)

    def _unavailable(self, error: Exception, heard: Heard, scope: Scope) -> ExchangeError:
        failure = self._judged(error, heard, scope)
        served = failure.meaning is None or not issubclass(failure.meaning, NotServed)
        return failure.as_error(ExchangeUnavailable if served else failure.meaning)  # type: ignore[arg-type]

    def _judged(self, error: Exception, heard: Heard, scope: Scope) -> _Failure:
        """What became of the request; if it was turned away for rate, all who share the account are told."""
        failure = self._read(error)
        if failure.meaning is not RateLimited:
            return failure
        bans = self._dialect.codes.bans
        usual = bans.get(failure.code or "", bans.get(f"HTTP {heard.status}"))
        if usual is None and is_ban(heard, failure.said):
            usual = SHORTEST_BAN
        venue_ms = self.clock.now_ms() if self.clock.is_known else None
        seconds = back_off(heard, failure.said, venue_ms, **({} if usual is None else {"usual": usual}))
        if self.back_off is not None:
            self.back_off.hold(scope if usual is None else "all", seconds)
        return replace(failure, retry_after=seconds)

    def _read(self, error: Exception) -> _Failure:
        """By the venue's code, because ccxt's classes put different codes into one."""
        text = str(error)
        body = _body(text)
        if body is None and not _STATUS.match(text):  # where ccxt knows the words, it leaves out the code
            body = {"msg": text.removeprefix(f"{self.ccxt.id} ")}
        if body is not None:
            code, words = self._dialect.codes.read(body)
            if code is not None:
                meaning, said = self._dialect.codes.meanings.get(code), f"{self.ccxt.id} answered {code}: {words}"
                if meaning is RequestExpired:
                    self.clock.doubt()
                return _Failure(meaning, code, self._scrubbed(said))
        if status := _STATUS.match(text):
            said = f"{self.ccxt.id} answered HTTP {status[1]}"
            meaning = self._dialect.codes.meanings.get(f"HTTP {status[1]}", _BY_STATUS.get(status[1]))
            return _Failure(meaning, status[1], said)
        # Not the text: it has the address, and with it the signature.
        why = " from ".join(type(each).__name__ for each in (error, error.__cause__) if each is not None)
        host = _HOST.search(text)
        said = f"no answer that can be read{f' from {host[1]}' if host else ''} ({why})"
        if host and any(each.__name__ == "NetworkError" for each in type(error).__mro__):
            said += (
                f"; look whether this machine reaches {host[1]}: its network, name server, clock, firewall and proxy"
            )
        return _Failure(None, None, f"{self.ccxt.id}: {said}")

    def _scrubbed(self, text: str) -> str:
        return printable(scrubbed(self.ccxt, text)[:_LONGEST_MESSAGE])


async def _answer(answer: Any) -> Any:
    """Of a client for threads it is the answer, of one for tasks it will be."""
    return await answer if isawaitable(answer) else answer


def _body(text: str) -> dict[str, Any] | None:
    """The JSON object that one of ccxt's errors ends with. One inside of a page is not the venue's word."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        body = json.loads(text[start:])
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
