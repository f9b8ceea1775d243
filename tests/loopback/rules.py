"""What every venue enforces: numbers, sizes, prices, ids, times, signatures, pages and spans.

How much a venue lets through are attributes, and its documented codes are in a table; its envelope is its own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from dataclasses import replace
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from loopback.connections import KEYS, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loopback.connections import Reply, Request
    from loopback.samples import Refusal

DAY_MS = 86_400_000
_PLAIN = re.compile(r"-?\d+(\.\d+)?")


class Rules(ABC):
    """Limits of a venue, and its refusals by code and by what is wrong: ``"tick"``, ``"step"``, ``"page"``, ...

    ``largest`` is the most that an order at market may be for, also one that waits for a price; ``most`` that of any
    other. A window beyond ``longest_window_ms`` is refused, or cut down to it where there is no code for that. One that
    ``bans`` answers 418 to those who ask while they are turned away.
    """

    words: Mapping[Any, Refusal]
    client_ids: ClassVar[re.Pattern[str]]
    numbers_are_text: ClassVar[bool] = False
    window_ms: ClassVar[int] = 5000
    longest_window_ms: ClassVar[int] = 60_000
    ahead_ms: ClassVar[int] = 1000

    bans: ClassVar[bool] = False
    _let_in: int | None = None
    _allowed = _pause_ms = _shut_until_ms = 0

    tick = Decimal("0.1")
    step = smallest = Decimal("0.001")
    largest, most = Decimal(100), Decimal(1000)
    least_worth = Decimal(5)

    @abstractmethod
    def refusal(self, what: Any, words: str = "") -> Reply:
        """The answer with a code, or with the one for what is wrong."""

    @abstractmethod
    def clock_ms(self) -> int:
        """The venue's clock."""

    def refuse(self, what: Any, words: str = "") -> NoReturn:
        """Raise the refusal for what is wrong, or with a code."""
        raise Refused(self.refusal(what, words))

    # Orders.

    def number(self, said: Any, what: str = "number") -> Decimal:
        """A positive number, in plain digits if it is text."""
        is_text = isinstance(said, str)
        if said is None or isinstance(said, bool) or (self.numbers_are_text and not is_text):
            self.refuse(what)
        if is_text and not _PLAIN.fullmatch(said):
            self.refuse(what)
        value = Decimal(str(said))
        return value if value > 0 else self.refuse(what)

    def size(self, said: Any, *, largest: Decimal | None = None, too_large: str = "largest") -> Decimal:
        """Contracts that an order may be for; of one that rests at a price of its own *largest* is ``most``."""
        contracts = self.number(said, "size")
        if contracts % self.step:
            self.refuse("step")
        if contracts < max(self.step, self.smallest):
            self.refuse("smallest")
        if contracts > (self.largest if largest is None else largest):
            self.refuse(too_large)
        return contracts

    def on_tick(self, said: Any, what: str = "price") -> Decimal:
        """A price that an order may have."""
        price = self.number(said, what)
        return self.refuse("tick") if price % self.tick else price

    def client_id(self, said: Any) -> str | None:
        """The client order id of an order, None if it has none."""
        if said in {None, ""} or (isinstance(said, str) and self.client_ids.fullmatch(said)):
            return said or None
        return self.refuse("client_id")

    # Requests.

    def judge_time(self, stamp: str, window: str = "", ahead_ms: int | None = None) -> None:
        """Refuse a request whose time stamp is older than its window, or ahead of the venue's clock."""
        if not stamp.isdecimal() or not (window or "0").isdecimal():
            self.refuse("stamp")
        window_ms = int(window or self.window_ms)
        if window_ms > self.longest_window_ms and "window" in self.words:
            self.refuse("window")
        age_ms = self.clock_ms() - int(stamp)
        if age_ms > min(window_ms, self.longest_window_ms) or age_ms <= -(
            self.ahead_ms if ahead_ms is None else ahead_ms
        ):
            self.refuse("time")

    def judge_key(self, key: str | None) -> None:
        if key != KEYS["apiKey"]:
            self.refuse("key")

    def judge_signature(self, said: str | bytes, signature: str) -> None:
        """Refuse what was not signed with the secret: *signature* is that of *said*, in hexadecimal digits."""
        text = said.encode() if isinstance(said, str) else said
        expected = hmac.new(KEYS["secret"].encode(), text, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            self.refuse("signature")

    def judge_query(self, request: Request, key_header: str) -> None:
        """Judge key, time and signature of a request that has all but its key in its query or form."""
        said, _, signature = (request.query or request.body.decode()).rpartition("&signature=")
        self.judge_key(request.headers.get(key_header))
        stamp, window = (str(request.params.get(name, "")) for name in ("timestamp", "recvWindow"))
        self.judge_time(stamp, window)
        self.judge_signature(said, signature)

    # How often somebody may ask.

    def limit_to(self, requests: int, pause: float) -> None:
        """From now on the venue lets so many requests in, then none for *pause* seconds of its clock, and so on."""
        self._let_in = self._allowed = requests
        self._pause_ms = int(pause * 1000)

    def turned_away(self) -> Reply | None:
        """The answer to a request that is one too many; to ask meanwhile is to be banned, if the venue bans."""
        if self._let_in is None:
            return None
        now_ms, asked_meanwhile = self.clock_ms(), self.clock_ms() < self._shut_until_ms
        if not asked_meanwhile and self._let_in:
            self._let_in -= 1
            return None
        if not asked_meanwhile or self.bans:
            self._let_in, self._shut_until_ms = self._allowed, now_ms + self._pause_ms
        reply = self.refusal("too_many")
        status = 418 if asked_meanwhile and self.bans else reply.status
        return replace(reply, status=status, headers=self.says_when(self._shut_until_ms))

    def says_when(self, until_ms: int) -> dict[str, str]:
        """The headers that tell for how long nobody is let in."""
        return {"Retry-After": str(ceil((until_ms - self.clock_ms()) / 1000))}

    # Lists.

    def limit(self, said: Mapping[str, Any], usual: int, most: int, *, name: str = "limit", what: str = "page") -> int:
        """How many rows, or which page, are asked for."""
        text = str(said.get(name, usual))
        return int(text) if text.isdecimal() and 1 <= int(text) <= most else self.refuse(what)

    def paged(
        self,
        said: Mapping[str, Any],
        rows: Sequence[Any],
        usual: int,
        most: int,
        names: tuple[str, str] = ("page", "limit"),
    ) -> Sequence[Any]:
        """One page of a list, which are counted from 1."""
        size, number = self.limit(said, usual, most, name=names[1]), self.limit(said, 1, 10**9, name=names[0])
        return rows[(number - 1) * size : number * size]

    def span(
        self,
        said: Mapping[str, Any],
        longest_ms: int,
        *,
        usual_ms: int | None = None,
        names: tuple[str, str] = ("startTime", "endTime"),
        forwards: bool = False,
    ) -> range:
        """The time asked about, with both ends: of one that is not said, *usual_ms* before the other, or after it."""
        now_ms, usual_ms = self.clock_ms(), longest_ms if usual_ms is None else usual_ms
        given = {name: said[name] for name in names if said.get(name) is not None}
        if not all(str(each).isdecimal() for each in given.values()):
            self.refuse("number")
        start, end = (int(given[name]) if name in given else None for name in names)
        if end is None:
            end = start + usual_ms if forwards and start is not None else now_ms
        start = end - usual_ms if start is None else start
        return self.refuse("span") if end - start > longest_ms else range(start, end + 1)
