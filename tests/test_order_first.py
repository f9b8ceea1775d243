"""The order of a close leaves first: what is asked and written before it, and what is not waited for."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from awaited import Awaited
from faults import Strike, StruckExchange
from intents import lock_for
from poslock import (
    AsyncPositionGuard,
    CloseUnsettled,
    ExchangeUnavailable,
    LedgerError,
    LockLost,
    OperationRefused,
    OutcomeUnknown,
    PaperExchange,
    PositionAlreadyClosingError,
    PositionLock,
    RateLimited,
    UnsupportedMarket,
)
from poslock.database import Database
from poslock.exchange.port import Leg, hurried
from poslock.ledger.journal import CloseKey
from poslock.ledger.ledger import Ledger
from systems import elsewhere
from venue import DIED, SYMBOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Account

pytestmark = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])

LEG = Leg(SYMBOL, "long")
LONGEST = 60
LEASE = 30.0


class Venue(StruckExchange):
    """The account's exchange with strikes; ``hurried`` are the calls that a closing order waited for."""

    def __init__(self, account: Account, *strikes: Strike, **settings: Any) -> None:
        super().__init__(PaperExchange(account.exchange_path, **{"settles_within": 0.3, **settings}), *strikes)
        self.hurried: list[str] = []
        self.guard = account.guard_on(self)

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if not callable(method) or name == "time_ms":
            return method

        def call(*args: object) -> object:
            if hurried.get():
                self.hurried.append(name)
            return method(*args)

        call.__name__ = name
        return call

    @property
    def calls(self) -> list[str]:
        return self.struck.calls


class Network(Venue):
    """The same, whose methods may be called side by side; a guard for tasks does it in threads."""

    side_by_side = True

    def __init__(self, account: Account, *strikes: Strike, **settings: Any) -> None:
        super().__init__(account, *strikes, **settings)
        if account.asynchronous:
            self.guard = Awaited(AsyncPositionGuard(self, lock_dir=account.lock_dir))  # type: ignore[assignment]

    def refresh(self) -> None:
        self.calls.append("refresh")

    def cancel_all(self, orders: Any) -> None:
        for each in orders:
            self.exchange.cancel(each)
        self.calls.append("cancel_all")


def several(account: Account, count: int) -> list[str]:
    names = [f"p{number}" for number in range(count)]
    for number, name in enumerate(names):
        account.open(name, symbol=f"C{number}/USDT")
    return names


def counted(monkeypatch: pytest.MonkeyPatch, path: str, calls: list[str]) -> None:
    """Have commits and reads of the ledger in *path* among *calls*."""
    for name in ("transaction", "snapshot"):
        method = getattr(Database, name)

        def count(database: Database, name: str = name, method: Any = method) -> Any:
            if database.path == path:
                calls.append(name)
            return method(database)

        monkeypatch.setattr(Database, name, count)


# Before the order.


def test_one_look_and_one_commit_come_before_the_order(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of the ledger a few reads; none of it waits for a limiter, and what comes after it does."""
    position = account.open()
    venue = Venue(account)
    counted(monkeypatch, f"{account.lock_dir}/ledger.db", venue.calls)
    venue.guard.close_position("btc-1")
    before = venue.calls[: venue.calls.index("place")]
    assert [each for each in before if each != "snapshot"] == ["prepare", "holding", "trades", "transaction"]
    assert before.count("snapshot") <= 3
    assert venue.calls.count("transaction") == 3
    assert venue.hurried == ["holding", "trades", "place", "open_orders"]  # that one is asked again in the end
    account.assert_closed_once(position)


def test_holding_and_trades_are_asked_side_by_side(account: Account) -> None:
    """Each waits for the other to have been asked, and what an order is signed by is asked beside them."""
    position = account.open()
    venue = Network(account)
    met = threading.Barrier(2)
    first = {"holding", "trades"}

    def meeting(name: str) -> Callable[..., Any]:
        def ask(*args: Any) -> Any:
            if name in first:
                first.discard(name)
                met.wait(LONGEST)
            return getattr(venue.exchange, name)(*args)

        return ask

    venue.instead |= {name: meeting(name) for name in ("holding", "trades")}
    venue.guard.close_position("btc-1")
    assert set(venue.calls[: venue.calls.index("place")]) == {"prepare", "holding", "trades", "refresh"}
    assert venue.calls.count("refresh") == 1
    account.assert_closed_once(position)


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_history_without_an_answer_keeps_no_order_back(account: Account, how: str) -> None:
    """The position is the tracked one by its price: the order leaves, and its exits are proved later."""
    position = account.open()
    venue = Network(account)
    is_sent = threading.Event()

    def trades(*args: Any) -> Any:
        if not is_sent.is_set():
            if how == "fails":
                raise ExchangeUnavailable("no answer")
            assert is_sent.wait(LONGEST)
            raise ExchangeUnavailable("too late for anybody")
        return venue.exchange.trades(*args)

    def place(order: Any) -> Any:
        placed = venue.exchange.place(order)
        is_sent.set()
        return placed

    venue.instead |= {"trades": trades, "place": place}
    closed = venue.guard.close_position("btc-1")
    assert closed.net_pnl == -10_295
    account.assert_closed_once(position)


def test_without_an_answer_about_the_holding_nothing_is_sent(account: Account) -> None:
    """It is asked a few times; then the close is unsettled, and the next one goes on."""
    position = account.open()
    venue = Network(account)

    def no_answer(_leg: Leg) -> None:
        raise ExchangeUnavailable("no answer")

    venue.instead["holding"] = no_answer
    with pytest.raises(CloseUnsettled, match="does not answer"):
        venue.guard.close_position("btc-1")
    assert "place" not in venue.calls
    del venue.instead["holding"]
    venue.guard.close_position("btc-1")
    account.assert_closed_once(position)


def test_a_close_that_has_to_look_again_is_journaled_first(account: Account) -> None:
    """Whoever comes after a closer that dies while it looks knows that the position is to be closed."""
    position = account.open()
    venue = Venue(account, Strike("holding", "before", DIED, nth=2))
    venue.instead["holding"] = lambda _leg: None
    with pytest.raises(LockLost):
        venue.guard.close_position("btc-1", reason="stop")
    assert account.guard.position("btc-1").state == "closing"
    (recovery,) = account.guard.recover()
    assert recovery.closed is not None
    account.assert_closed_once(position)


# Without a look.


def test_an_urgent_close_sends_what_the_ledger_has_before_it_looks(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One commit, and nothing asked but whether what it is signed by is fresh; then a close like any other."""
    position = account.open()
    venue = Network(account)
    counted(monkeypatch, f"{account.lock_dir}/ledger.db", venue.calls)
    closed = venue.guard.close_position("btc-1", urgent=True)
    before = [each for each in venue.calls[: venue.calls.index("place")] if each != "snapshot"]
    assert before == ["prepare", "refresh", "transaction"]
    assert (closed.net_pnl, closed.ended_by) == (-10_295, "close")
    account.assert_closed_once(position)


def test_an_urgent_close_of_what_is_gone_books_how_it_ended(account: Account) -> None:
    """Its stop-loss has filled: the venue refuses the order, which only reduces."""
    position = account.open()
    account.exchange.set_price(SYMBOL, 56_000)
    venue = Venue(account)
    closed = venue.guard.close_position("btc-1", urgent=True)
    assert venue.calls.count("place") == 1
    assert closed.ended_by == "other"
    account.assert_closed_once(position, orders=0)


def test_an_urgent_close_of_what_was_reduced_sends_what_is_left(account: Account) -> None:
    """As far as the ledger knows it."""
    position = account.open(bare=True)
    account.guard.modify_position("btc-1", reduce_by=4)
    venue = Venue(account)
    venue.guard.close_position("btc-1", urgent=True)
    assert [each.contracts for each in account.exchange.orders(LEG) if each.family == "order"] == [4, 6]
    account.assert_closed_once(position, orders=2)


@pytest.mark.parametrize("left", ["an order", "a change"])
def test_an_urgent_close_looks_where_something_is_under_way(account: Account, left: str) -> None:
    """An order of another close or a change may be out: what the ledger has is not what is left."""
    position = account.open()
    if left == "an order":
        with pytest.raises(LockLost):
            Venue(account, Strike("place", "after", DIED)).guard.close_position("btc-1")
    else:
        with pytest.raises(LockLost):
            Venue(account, Strike("place", "after", DIED)).guard.modify_position("btc-1", reduce_by=4)
    venue = Venue(account)
    venue.guard.close_position("btc-1", urgent=True)
    if left == "a change":
        assert venue.calls.index("holding") < venue.calls.index("place")
    account.assert_closed_once(position, orders=1 if left == "an order" else 2)


def test_an_urgent_close_is_refused_where_nothing_bounds_it(account: Account) -> None:
    """On spot, and with the whole leg: nothing is asked, written or sent."""
    account.open()
    venue = Venue(account)
    with pytest.raises(OperationRefused, match="whole=True"):
        venue.guard.close_position("btc-1", urgent=True, whole=True)
    venue.exchange.spot = True
    with pytest.raises(OperationRefused, match="spot"):
        venue.guard.close_position("btc-1", urgent=True)
    assert venue.calls == []
    assert account.guard.position("btc-1").state == "open"


# Several.


@pytest.mark.parametrize("kind", [Venue, Network])
def test_all_orders_are_out_before_the_first_sweep(
    account: Account, kind: type[Venue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look at all legs, one commit, all orders; then each is swept and booked."""
    names = several(account, 8)
    venue = kind(account)
    counted(monkeypatch, f"{account.lock_dir}/ledger.db", venue.calls)
    results = venue.guard.close_positions(names)
    assert [each.closed.net_pnl for each in results if each.closed] == [-10_295] * 8
    asked = [each for each in venue.calls if each != "snapshot"]
    first, last = asked.index("place"), len(asked) - asked[::-1].index("place")
    assert asked[first:last] == ["place"] * 8
    assert sorted(asked[:first]) == sorted(
        ["prepare", "holdings", *["trades"] * 8, *["refresh"] * (kind is Network), "transaction"]
    )
    assert venue.hurried.count("place") == 8


def test_orders_are_sent_at_once(account: Account) -> None:
    """Each waits until all are on their way."""
    names = several(account, 4)
    venue = Network(account)
    met = threading.Barrier(4)

    def place(order: Any) -> Any:
        met.wait(LONGEST)
        return venue.exchange.place(order)

    venue.instead["place"] = place
    results = venue.guard.close_positions(names)
    assert all(each.closed for each in results)


def test_a_busy_position_is_closed_after_the_others(account: Account) -> None:
    """Its holder is never waited for first; and one that is closed already stops nobody."""
    names = several(account, 3)
    account.guard.close_position("p1")
    venue = Venue(account)
    lock = lock_for("other", "p0", lock_dir=elsewhere(account.lock_dir))
    lock.acquire()
    swept = venue.exchange.funding

    def funding(*args: Any) -> Any:
        if lock.held:  # p2 is being booked
            lock.release()
        return swept(*args)

    venue.instead["funding"] = funding
    results = venue.guard.close_positions(names)
    assert [type(each.error) for each in results] == [type(None), PositionAlreadyClosingError, type(None)]
    assert all(each.closed for each in results if each.position_id != "p1")


def test_what_one_look_does_not_decide_is_closed_in_its_turn(account: Account) -> None:
    """Of four: one refused for rate, one whose answer is lost, one that has ended, one with an order under way."""
    names = several(account, 4)
    account.exchange.set_price("C2/USDT", 56_000)
    with pytest.raises(LockLost):
        Venue(account, Strike("place", "after", DIED)).guard.close_position("p3")
    venue = Venue(account)
    refused = {"C0/USDT": RateLimited("slower", retry_after=0.1), "C1/USDT": OutcomeUnknown("cut")}

    def place(order: Any) -> Any:
        error = refused.pop(order.leg.symbol, None)
        if isinstance(error, RateLimited):
            raise error
        placed = venue.exchange.place(order)
        if error is not None:
            raise error
        return placed

    venue.instead["place"] = place
    results = venue.guard.close_positions(names)
    assert [each.error for each in results] == [None] * 4
    for number, orders in enumerate((1, 1, 0, 1)):
        leg = Leg(f"C{number}/USDT", "long")
        filled = [each for each in account.exchange.orders(leg) if each.family == "order" and each.filled]
        assert (len(filled), account.exchange.held(leg), account.exchange.open_orders(leg)) == (orders, 0, [])


def test_a_position_that_moved_before_the_commit_is_looked_at_again(account: Account) -> None:
    """Its last owner's write came late: the others' orders leave, and it is closed with what it has become."""
    names = several(account, 2)
    venue = Venue(account)
    ledger, key = Ledger(f"{account.lock_dir}/ledger.db"), CloseKey("p1", 1)
    late = [lambda: ledger.note(key, ledger.highest_token("p1"), "seen", "late")]

    def trades(leg: Leg, since_ms: int) -> Any:
        if late:
            late.pop()()
        return venue.exchange.trades(leg, since_ms)

    venue.instead["trades"] = trades
    results = venue.guard.close_positions(names)
    assert all(each.closed for each in results)
    assert venue.calls.index("place") < venue.calls.index("holding")


@pytest.mark.parametrize("kind", [Venue, Network])
def test_a_lock_that_is_lost_before_the_orders_leave_stops_its_own_alone(
    account: Account, kind: type[Venue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was journaled already: whoever took over asks for its order, which was not sent."""
    names = several(account, 2)
    venue, lost = kind(account), list[str]()
    sending_all, check = Ledger.sending_all, PositionLock.check

    def journal(ledger: Ledger, dispatches: Any) -> Any:
        lost.append("p0")
        return sending_all(ledger, dispatches)

    def checked(lock: PositionLock) -> None:
        if lock.position_id in lost:
            raise LockLost("p0", "x", "test")
        check(lock)

    monkeypatch.setattr(Ledger, "sending_all", journal)
    monkeypatch.setattr(PositionLock, "check", checked)
    results = venue.guard.close_positions(names)
    assert [type(each.error) for each in results] == [LockLost, type(None)]
    assert venue.calls.count("place") == 1
    assert account.exchange.held(Leg("C0/USDT", "long")) == 10


@pytest.mark.parametrize("kind", [Venue, Network])
def test_an_order_that_cannot_be_made_keeps_no_other_back(account: Account, kind: type[Venue]) -> None:
    """The adapter does not know what to do with one of the markets: the other one's order is out, and is finished."""
    names = several(account, 2)
    venue = kind(account)

    def place(order: Any) -> Any:
        if order.leg.symbol == "C0/USDT":
            raise UnsupportedMarket("held in both margin modes")
        return venue.exchange.place(order)

    venue.instead["place"] = place
    results = venue.guard.close_positions(names)
    assert [type(each.error) for each in results] == [UnsupportedMarket, type(None)]
    assert account.exchange.held(Leg("C1/USDT", "long")) == 0


def test_what_cannot_be_journaled_is_not_sent(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: each position says so, and is as it was."""
    names = several(account, 2)
    venue = Venue(account)

    def full(ledger: Ledger, _dispatches: Any) -> Any:
        raise LedgerError(ledger.path, "the disk is full", "make room")

    monkeypatch.setattr(Ledger, "sending_all", full)
    results = venue.guard.close_positions(names)
    assert [type(each.error) for each in results] == [LedgerError] * 2
    assert "place" not in venue.calls
    assert [account.guard.position(each).state for each in names] == ["open", "open"]


def test_while_one_is_finished_the_others_are_held(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each renewal is one of all: nobody takes over a position whose order is out and which waits for its turn."""
    names = several(account, 2)
    venue = Venue(account)
    renewed: list[str] = []
    renew = PositionLock.renew

    def told(lock: PositionLock) -> None:
        renewed.append(lock.position_id)
        renew(lock)

    monkeypatch.setattr(PositionLock, "renew", told)
    # In the middle of the first sweep half of the lease is gone.
    elapsed = [LEASE * 0.6]
    remaining = PositionLock.remaining

    def left(lock: PositionLock) -> float:
        now: float = remaining.__get__(lock)
        return now - sum(elapsed) * ("cancel" in venue.calls and not renewed)

    monkeypatch.setattr(PositionLock, "remaining", property(left))
    results = venue.guard.close_positions(names)
    assert [each.error for each in results] == [None, None]
    assert renewed == names
