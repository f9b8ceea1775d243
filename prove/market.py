"""A host with a ledger and an account at a venue, as one value: what simulated guards share.

The venue may fail: lose an answer or a request, or take a request late, in the last moment in which it may or at any
time before.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

from poslock import PaperExchange
from poslock.errors import ExchangeUnavailable, OutcomeUnknown
from poslock.exchange.port import Leg
from poslock.ledger.ledger import Ledger
from poslock.lock.ids import lock_file_name
from poslock.lock.record import Record, decode
from prove.actor import FOLDER, Call, Raised
from prove.disk import SECOND, Disk
from prove.explore import Violation
from prove.store import Store

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

ID = "btc-1"
PATH = f"{FOLDER}/{lock_file_name(ID)}"
LEG = Leg("BTC/USDT:USDT", "long")
OTHER_LEG = Leg("BTC/USDT:USDT", "short")
CONTRACTS = 10
FUNDING = Decimal(-3)  # paid while the position is open
ORDERS = frozenset({"place", "place_stop"})
WRITES = ORDERS | {"cancel"}
FAULTS = ("answer lost", "request lost", "request late")


class Market(Disk):
    """What guards share besides the lock files. ``ledger`` and ``venue`` are states of the stores."""

    __slots__ = ("books", "fault", "late", "ledger", "venue")

    def __init__(self, folder: Path, **terms: Any) -> None:
        super().__init__()
        self.books = Books(folder, **terms)
        self.ledger = self.venue = 0
        self.late: tuple[Any, ...] = ()  # requests that the venue has not got yet
        self.fault = ""  # what befalls the next request

    def copy(self) -> Market:
        """Another one, the same so far."""
        other = super().copy()
        other.books, other.ledger, other.venue = self.books, self.ledger, self.venue
        other.late, other.fault = self.late, self.fault
        return other

    def key(self) -> Hashable:
        """Equal for equal ones."""
        return super().key(), self.ledger, self.venue, self.late

    # The calls.

    def ask_ledger(self, process: int, method: str, args: tuple[Any, ...]) -> Any:
        self.ledger, answer = self.books.ledger.ask(self.ledger, 0, method, args)
        return answer

    def ask_venue(self, process: int, method: str, args: tuple[Any, ...]) -> Any:
        fault, self.fault = self.fault, ""
        answer = self._at_venue(process, method, args) if fault in {"", "answer lost"} else None
        if not fault:
            return answer
        if fault == "request late":
            self.late = (*self.late, (process, method, args))
        return Raised(OutcomeUnknown if method in ORDERS else ExchangeUnavailable, ("cut",))

    def time_ms(self, process: int) -> int:
        self.books.now_ns = self.now_ns
        return int(self.books.venue.subject.time_ms())

    def point(self, process: int, what: str) -> None:
        """A place in a program at which it may be stopped."""

    # What happens at the venue.

    def arrive(self) -> None:
        """The first of the late requests comes."""
        request, self.late = self.late[0], self.late[1:]
        self._at_venue(*request)

    def market_does(self, method: str, *args: Any) -> None:
        """The market moves, or the trader acts."""
        self._at_venue(0, method, args)

    def may_still_come(self) -> bool:
        """Whether the venue would still take an order that is on its way."""
        orders = [args[0] for _, method, args in self.late if method in ORDERS]
        return any(self.now_ns <= (each.signed_at_ms + each.receive_window_ms) * 10**6 for each in orders)

    def _at_venue(self, process: int, method: str, args: tuple[Any, ...]) -> Any:
        self.books.now_ns = self.now_ns
        before = self.venue
        if method == "place":
            _, held = self.books.venue.ask(before, self.now_ns, "held", (LEG,))
            if 0 < held < args[0].contracts:  # none: the stop-loss was faster
                raise Violation(f"process {process} asks to close {args[0].contracts} contracts of {held}")
        self.venue, answer = self.books.venue.ask(self.venue, self.now_ns, method, args)
        if method in ORDERS and self.venue != before and not isinstance(answer, Raised):
            self._expect_under_lock(process)
        return answer

    def _expect_under_lock(self, process: int) -> None:
        """G7: an order of a living process is not taken when another one has the lock."""
        record = decode(self.named(PATH) or b"")
        lives = bool(self.open_by(process))
        if lives and isinstance(record, Record) and record.state == "held" and record.holders[0].pid != process:
            raise Violation(f"the venue took an order of process {process}, and process {record.holders[0].pid} holds")


class Books:
    """The stores of a market, and the clock of its venue."""

    _numbers = count()

    def __init__(self, folder: Path, **terms: Any) -> None:
        self.now_ns = 0
        self.facts: dict[tuple[int, int], Any] = {}  # what a witness has read from them, by their states
        path = folder / f"market-{next(self._numbers)}"
        path.mkdir()
        account = PaperExchange(path / "exchange.db", clock=lambda: self.now_ns / SECOND, **terms)
        self.path = str(path / "ledger.db")
        ledger = Ledger(self.path)
        self.account: str = account.account
        self.venue = Store(account, account._database)  # noqa: SLF001  # it has no other seam for memory
        self.ledger = Store(ledger, ledger._database, "UPDATE audit SET at = 0")  # noqa: SLF001  # as above


def is_private(disk: Market, pid: int, call: Call) -> bool:
    """The calls to the system are not pulled apart here: of the lock that is shown already, in `prove.lock_scenes`."""
    return call.name not in {"ask_ledger", "ask_venue", "time_ms", "point", "sleep"}
