"""A host with a ledger and an account at a venue, as one value: what simulated guards share.

The venue may fail: lose an answer or a request, or take a request late, in the last moment in which it may or at any
time before. It may contradict itself: what was filled shows late in the holding, among the trades or in both, for as
long as the port lets it, or never among the trades; its times may be whole seconds, and the guard's clock behind.

Each process has a `Mind`: what the venue has shown it. What is right to do is judged from that, and from what has
happened at the account in truth.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from poslock import PaperExchange
from poslock.errors import ExchangeUnavailable, OutcomeUnknown
from poslock.exchange.port import Leg
from poslock.ledger.journal import CloseKey
from poslock.ledger.ledger import Ledger
from poslock.lock.files.directory import lock_file_name
from poslock.lock.record import Record, decode
from prove import conduct
from prove.account import Account, Written, written
from prove.actor import FOLDER, Call, Raised
from prove.disk import SECOND, Disk
from prove.explore import Violation
from prove.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from poslock.position import Trade

ID = "btc-1"
PATH = f"{FOLDER}/{lock_file_name(ID)}"
LEG = Leg("BTC/USDT:USDT", "long")
OTHER_LEG = Leg("BTC/USDT:USDT", "short")
CONTRACTS = 10
ENTRY_PRICE = 60_000
LATER_PRICE = 59_000
FUNDING = Decimal(-3)  # paid while the position is open
ORDERS = frozenset({"place", "place_stop"})
WRITES = ORDERS | {"cancel", "cancel_stops"}
FAULTS = ("answer lost", "request lost", "request late")
LAGS = ("the holding is late", "the trades are late", "both are late")
SETTLES_WITHIN = 2.0
_READS = frozenset({
    "alive", "booked_elsewhere", "changes", "close", "find", "held_price", "highest_token", "is_shared", "leg",
    "on_leg", "positions", "sent", "superseded", "unfinished",
})  # fmt: skip
# What is judged when the ledger has taken it.
_JUDGED = {"book": conduct.expect_swept, "resize": conduct.expect_grown, "settle": conduct.expect_unexplained}


class Mind(NamedTuple):
    """What a process knows of the venue.

    ``generation`` is that of the position that it last asked the ledger about. ``holding`` is the last trade that the
    holding contained which it was told, None if it never asked; ``either`` the last one that holding or trades could
    have told it then; ``trades`` the last one that it was shown, ``orders`` the last exit order that there was when it
    last read anything.
    """

    generation: int = 0
    holding: int | None = None
    either: int = 0
    trades: int = 0
    orders: int = 0


class Lag(NamedTuple):
    """What the venue shows late: the state of the account that the holding is of, the last trade; and until when."""

    holding: int | None
    trades: int | None
    until_ns: int


class Market(Disk):
    """What guards share besides the lock files. ``ledger`` and ``venue`` are states of the stores.

    ``unseen`` are the trades that the venue never shows, ``starts`` the last trade before each generation was tracked.
    """

    __slots__ = ("books", "fault", "lag", "late", "ledger", "minds", "starts", "unseen", "venue")

    def __init__(self, folder: Path, **terms: Any) -> None:
        super().__init__()
        self.books = Books(folder, **terms)
        self.ledger = self.venue = 0
        self.late: tuple[Any, ...] = ()  # requests that the venue has not got yet
        self.fault = ""  # what befalls the next request
        self.lag: Lag | None = None
        self.minds: dict[int, Mind] = {}
        self.starts: tuple[int, ...] = ()
        self.unseen: tuple[int, ...] = ()

    def copy(self) -> Market:
        """Another one, the same so far."""
        other = super().copy()
        other.books, other.ledger, other.venue = self.books, self.ledger, self.venue
        other.late, other.fault, other.lag = self.late, self.fault, self._lag()
        other.minds, other.starts, other.unseen = self.minds.copy(), self.starts, self.unseen
        return other

    def key(self) -> Hashable:
        """Equal for equal ones."""
        minds = frozenset(self.minds.items())
        return super().key(), self.ledger, self.venue, self.late, self._lag(), minds, self.starts, self.unseen

    def end(self, process: int) -> None:
        """As `Disk.end`; nobody asks what it knew."""
        super().end(process)
        self.minds.pop(process, None)

    @property
    def account(self) -> Account:
        """What has happened at the account, in truth."""
        return self.books.account_at(self.venue)

    # The calls.

    def ask_ledger(self, process: int, method: str, args: tuple[Any, ...]) -> Any:
        before, mind = self.ledger, self.minds.get(process, Mind())
        if args and isinstance(args[0], CloseKey):
            mind = self.minds[process] = mind._replace(generation=args[0].generation)
        self.ledger, answer = self.books.ledger.ask(self.ledger, 0, method, args)
        if self.ledger != before and method == "track" and answer.position.id == ID:
            self.starts = (*self.starts, mind.holding or 0)
        if self.ledger != before and method in _JUDGED and mind.generation <= len(self.starts):
            _JUDGED[method](self, process, mind)
        return answer

    def ask_venue(self, process: int, method: str, args: tuple[Any, ...]) -> Any:
        fault, self.fault = self.fault, ""
        mind = self.minds.get(process, Mind())
        answer = self._at_venue(process, method, args, mind) if fault in {"", "answer lost"} else None
        if not fault:
            self._learn(process, method, mind)
            return answer
        if fault == "request late":
            self.late = (*self.late, (process, method, args, mind))
        return Raised(OutcomeUnknown if method in ORDERS else ExchangeUnavailable, ("cut",))

    def time_ms(self, process: int) -> int:
        self.books.now_ns = self.now_ns
        return int(self.books.venue.subject.time_ms()) - self.books.behind_ms

    def point(self, process: int, what: str) -> None:
        """A place in a program at which it may be stopped."""

    # What happens at the venue.

    def send_late(self, process: int, method: str, args: tuple[Any, ...]) -> None:
        """What a process that dies has sent is on its way."""
        self.late = (*self.late, (process, method, args, self.minds.get(process, Mind())))

    def arrive(self) -> None:
        """The first of the late requests comes."""
        request, self.late = self.late[0], self.late[1:]
        self._at_venue(*request)

    def market_does(self, method: str, *args: Any) -> None:
        """The market moves, or the trader acts."""
        self._asked(method, args)

    def falls_behind(self, how: str) -> None:
        """From now on, and for as long as the port lets it, the venue shows what there is now and nothing newer."""
        holding = None if how == LAGS[1] else self.venue
        trades = None if how == LAGS[0] else self.account.last_trade
        self.lag = Lag(holding, trades, self.now_ns + int(SETTLES_WITHIN * SECOND))

    def lacks_the_newest(self, count: int) -> None:
        """For as long as the port lets it, the venue's trades are those of a server that lacks the last ones."""
        self.lag = Lag(None, max(0, self.account.last_trade - count), self.now_ns + int(SETTLES_WITHIN * SECOND))

    @property
    def is_behind(self) -> bool:
        """Whether something shows late now."""
        return self._lag() is not None

    def orders_to_come(self) -> list[str]:
        """The ids of orders that are on their way, and that the venue would still take."""
        orders = [args[0] for _, method, args, _ in self.late if method in ORDERS]
        return [
            each.client_order_id
            for each in orders
            if self.now_ns <= (each.signed_at_ms + each.receive_window_ms) * 10**6
        ]

    # Inside.

    def _lag(self) -> Lag | None:
        return self.lag if self.lag is not None and self.now_ns < self.lag.until_ns else None

    def _asked(self, method: str, args: tuple[Any, ...], *, at: int | None = None) -> Any:
        self.books.now_ns = self.now_ns
        after, answer = self.books.venue.ask(self.venue if at is None else at, self.now_ns, method, args)
        self.venue = after if at is None else self.venue
        return answer

    def _at_venue(self, process: int, method: str, args: tuple[Any, ...], mind: Mind) -> Any:
        lag = self._lag()
        if method in {"holding", "holdings"} and lag is not None and lag.holding is not None:
            return self._asked(method, args, at=lag.holding)
        before = self.venue
        answer = self._asked(method, args)
        if method == "trades":
            return [self.books.told(each) for each in answer if self._shows(each, lag)]
        if method in ORDERS and self.venue != before and not isinstance(answer, Raised):
            self._expect_under_lock(process)
            conduct.expect_its_own(self, self.books.account_at(before), process, args[0], mind)
        if method == "cancel" and self.venue != before:
            conduct.expect_not_anothers(self, process, args[0], mind)
        if method == "cancel_stops" and self.venue != before:
            conduct.expect_over(self, process, args[0], mind)
        return answer

    def _shows(self, trade: Trade, lag: Lag | None) -> bool:
        number = int(trade.fill.trade_id)
        return number not in self.unseen and (lag is None or lag.trades is None or number <= lag.trades)

    def _learn(self, process: int, method: str, mind: Mind) -> None:
        lag, account = self._lag(), self.account
        shown = account.last_trade if lag is None or lag.trades is None else lag.trades
        if method in {"holding", "holdings"}:
            told = account if lag is None or lag.holding is None else self.books.account_at(lag.holding)
            either = max(told.last_trade, shown)
            mind = mind._replace(holding=told.last_trade, either=either, orders=account.last_order)
        elif method == "trades":
            mind = mind._replace(trades=max(mind.trades, shown), orders=account.last_order)
        elif method == "open_orders":
            mind = mind._replace(orders=account.last_order)
        else:
            return
        self.minds[process] = mind

    def _expect_under_lock(self, process: int) -> None:
        """G7: an order of a living process is not taken when another one has the lock."""
        record = decode(self.named(PATH) or b"")
        lives = bool(self.open_by(process))
        if lives and isinstance(record, Record) and record.state == "held" and record.holders[0].pid != process:
            raise Violation(f"the venue took an order of process {process}, and process {record.holders[0].pid} holds")


class Books:
    """The stores of a market, and the clock of its venue.

    ``rounds`` is how its trades tell the time, ``"up"`` or ``"down"`` to whole seconds or as it is; ``behind_ms`` how
    far the clock of the guards is behind it.
    """

    _numbers = count()

    def __init__(self, folder: Path, *, rounds: str = "", behind_ms: int = 0, **terms: Any) -> None:
        self.now_ns = 0
        self.behind_ms = behind_ms
        self.facts: dict[tuple[int, int], Any] = {}  # what a witness has read from them, by their states
        self._rounds = rounds
        self._accounts: dict[int, Account] = {}
        self._written: dict[int, Written] = {}
        path = folder / f"market-{next(self._numbers)}"
        path.mkdir()
        clock: Callable[[], float] = lambda: self.now_ns / SECOND  # noqa: E731  # the clock of all its states
        terms = {"settles_within": SETTLES_WITHIN, **terms}
        account = PaperExchange(path / "exchange.db", clock=clock, **terms)
        self.path = str(path / "ledger.db")
        ledger = Ledger(self.path)
        self.venue = Store(account, account._database)  # noqa: SLF001  # it has no other seam for memory
        self.ledger = Store(ledger, ledger._database, "UPDATE audit SET at = 0")  # noqa: SLF001  # as above

    def account_at(self, state: int) -> Account:
        """The account in one of its states."""
        if state not in self._accounts:
            trades, orders = (self.venue.ask(state, self.now_ns, *asked)[1] for asked in _TRUTH)
            self._accounts[state] = Account(tuple(trades), tuple(orders))
        return self._accounts[state]

    def written_at(self, state: int) -> Written:
        """What the ledger has in one of its states."""
        if state not in self._written:
            self._written[state] = written(self.ledger, state, ID)
        return self._written[state]

    def told(self, trade: Trade) -> Trade:
        """A trade with the time that the venue tells."""
        if not self._rounds:
            return trade
        at_ms = trade.fill.at_ms if self._rounds == "down" else trade.fill.at_ms + 999
        return replace(trade, fill=replace(trade.fill, at_ms=at_ms // 1000 * 1000))


_TRUTH: tuple[tuple[str, tuple[Any, ...]], ...] = (("trades", (LEG, 0)), ("orders", (LEG,)))


def is_private(disk: Market, pid: int, call: Call) -> bool:
    """Whether nobody else notices a call.

    The calls to the system are not pulled apart here: of the lock that is shown already, in `prove.lock_scenes`. What
    is read from the ledger is read together with the call before: who holds the lock changes it alone, and who has lost
    it is stopped by the check before the next call, whatever it has read. Who waits for the lock makes a point of it.
    """
    if call.name == "ask_ledger":
        return call.args[0] in _READS
    return call.name not in {"ask_venue", "time_ms", "point", "sleep", "wait"}
