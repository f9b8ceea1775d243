from __future__ import annotations

import os
import signal
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from poslock import ClosedPosition, Fill, LedgerError, LockLost, Position, PositionConflict, TokenRefused
from poslock.ledger.journal import Attempt, Change, CloseKey, Dispatch, LegAtTracking
from poslock.ledger.ledger import Ledger, Moved
from poslock.position import Trade

if TYPE_CHECKING:
    from pathlib import Path

    from poslock import TrackedPosition

POSITION = Position("btc-1", "BTC/USDT", "long", 10, 60000)
KEY = CloseKey("btc-1", 1)
ENTRY = Trade("entry", "o0", Fill("t0", None, Decimal(60000), Decimal(10), Decimal("0.3"), "USDT", 900))
LEG = LegAtTracking(Decimal(10), Decimal(60000), "v1", 500, (ENTRY,))
ATTEMPT = Attempt(1, "pl1", Decimal(10), 5000)
FILL = Fill("t1", "pl1", Decimal(59000), Decimal(10), Decimal("0.1"), "USDT", 1234)
CLOSED = ClosedPosition(
    "btc-1",
    Decimal(59000),
    Decimal(-10000),
    Decimal("0.1"),
    Decimal(0),
    Decimal("-10000.1"),
    (FILL,),
    "pl1",
    7,
    datetime(2026, 1, 2, tzinfo=UTC),
)
EXIT = Trade("exit", "o1", FILL)
LATE = Trade("entry", "o2", replace(ENTRY.fill, trade_id="t9"))
STOP = Change(1, "stop_loss", Decimal(10), Decimal(57000), "pl9")
SETTLED = replace(
    CLOSED,
    exit_price=None,
    gross_pnl=Decimal(0),
    fees=Decimal(0),
    net_pnl=Decimal(0),
    fills=(),
    client_order_id=None,
    ended_by="settle",
    left_at_venue=None,
    written_off=Decimal(10),
)
WRITES: dict[str, tuple[Any, ...]] = {
    "begin": ("stop-loss",),
    "sending": (),
    "filled": ("stop-loss", (EXIT,)),
    "book": (CLOSED,),
}
# What is written of an open position, in an order in which all of it can be.
OTHERS: dict[str, tuple[Any, ...]] = {
    "note": ("took over", "from a test"),
    "seen": ((EXIT,),),
    "unsettled": ("its trades do not show", (EXIT,)),
    "resize": (replace(POSITION, contracts=Decimal(15)), Decimal(61000), (EXIT,)),
    "change": ((STOP,),),
    "sending_change": (replace(STOP, step="sending", expires_at_ms=5000),),
    "end_change": (replace(STOP, step="refused"),),
    "forget": ("by mistake",),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(str(tmp_path / "ledger.db"))
    track(made)
    return made


def track(ledger: Ledger, position: Position = POSITION, at_ms: int = 1000, **options: Any) -> TrackedPosition:
    return ledger.track(position, "account", at_ms, options.pop("leg", LEG), **options)


def arguments(ledger: Ledger, name: str) -> tuple[Any, ...]:
    version = ledger.standing(KEY).version
    more = {"begin": (version,), "sending": (Dispatch(ATTEMPT, version, "stop-loss"),)}.get(name, ())
    return (*(WRITES | OTHERS)[name], *more)


def write(ledger: Ledger, name: str, token: int) -> None:
    getattr(ledger, name)(KEY, token, *arguments(ledger, name))


def sending(ledger: Ledger, attempt: Attempt, key: CloseKey = KEY, **more: Any) -> None:
    ledger.sending(key, 5, Dispatch(attempt, ledger.standing(key).version, "stop-loss", **more))


def advance(ledger: Ledger, until: str, token: int = 5, writes: dict[str, Any] = WRITES) -> None:
    """All writes before *until*."""
    for name in writes:
        if name == until:
            return
        write(ledger, name, token)


def tracked_of(ledger: Ledger, position_id: str = "btc-1", generation: int | None = None) -> TrackedPosition:
    found = ledger.find(position_id, generation)
    assert found is not None
    return found


def events(ledger: Ledger) -> list[tuple[str, str]]:
    return [(each.event, each.detail) for each in ledger.history()]


def dump(ledger: Ledger) -> str:
    with sqlite3.connect(ledger.path) as db:
        text = "\n".join(db.iterdump())
    db.close()
    return text


@pytest.mark.parametrize("name", WRITES)
def test_a_write_with_an_older_token_is_refused(ledger: Ledger, name: str) -> None:
    """Whoever was broken writes nothing more, at any step; the refusal is a LockLost."""
    advance(ledger, name, token=5)
    with ledger._database.transaction() as db:
        db.execute("UPDATE position SET token = 6")  # a newer owner was here
    before = dump(ledger)
    with pytest.raises(TokenRefused) as caught:
        write(ledger, name, 5)
    assert isinstance(caught.value, LockLost)
    assert (caught.value.token, caught.value.newest) == (5, 6)
    assert dump(ledger) == before
    write(ledger, name, 6)


@pytest.mark.parametrize("name", [*OTHERS, "settle"])
def test_any_other_write_with_an_older_token_is_refused(ledger: Ledger, name: str) -> None:
    """The same for what is not a step of a close: nothing of it is there, and the newer owner may write it."""
    arguments = (SETTLED, "venue closed") if name == "settle" else OTHERS[name]
    if name in OTHERS:
        advance(ledger, name, token=5, writes=OTHERS)
    with ledger._database.transaction() as db:
        db.execute("UPDATE position SET token = 6")
    before = dump(ledger)
    with pytest.raises(TokenRefused) as caught:
        getattr(ledger, name)(KEY, 5, *arguments)
    assert (caught.value.token, caught.value.newest) == (5, 6)
    assert dump(ledger) == before
    getattr(ledger, name)(KEY, 6, *arguments)
    assert ledger.highest_token("btc-1") == 6


def test_every_write_carries_a_token() -> None:
    """The two tables above have all of them: what takes a token writes, and what writes takes one, but for `track`."""
    taking = {name for name, each in vars(Ledger).items() if not name.startswith("_") and "token" in parameters(each)}
    assert taking == {*WRITES, *OTHERS, "settle"}


def parameters(function: Any) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    return code.co_varnames[: code.co_argcount] if code else ()


@pytest.mark.parametrize("name", WRITES)
def test_a_write_out_of_order_is_refused(ledger: Ledger, name: str) -> None:
    """A write for another step than the journal is at changes nothing, not even the token."""
    advance(ledger, "")
    before = dump(ledger)
    with pytest.raises(LedgerError, match="not at step"):
        write(ledger, name, 9)
    assert dump(ledger) == before


def test_the_whole_journal(ledger: Ledger) -> None:
    """From open to closed, with everything read back as it was written."""
    for name, step in zip(WRITES, ("intent", "sending", "filled", "booked"), strict=True):
        write(ledger, name, 5)
        close = ledger.standing(KEY).close
        assert close is not None
        assert close.step == step
        assert ledger.unfinished("account") == ([] if step == "booked" else [KEY])
    tracked = ledger.find("btc-1")
    assert tracked is not None
    assert (tracked.position, tracked.state, tracked.closed) == (POSITION, "closed", CLOSED)
    assert ledger.highest_token("btc-1") == 5
    assert ledger.standing(KEY).leg.tracked == LEG
    assert ledger.standing(KEY).leg.trades == (EXIT,)
    assert (ledger.sent("pl1"), ledger.sent("pl2")) == (True, False)


def test_an_order_is_not_sent_by_what_was_read_before_another_write(ledger: Ledger) -> None:
    """The size, a change or an attempt may be another one by now: nothing is journaled, and it is looked at again."""
    version = ledger.standing(KEY).version
    write(ledger, "resize", 5)
    with pytest.raises(Moved, match="look at it again"):
        ledger.sending(KEY, 6, Dispatch(ATTEMPT, version, ""))
    with pytest.raises(Moved):
        ledger.begin(KEY, 6, "", version)
    assert (ledger.standing(KEY).close, tracked_of(ledger).state) == (None, "open")
    write(ledger, "sending", 6)


def test_of_several_orders_each_is_journaled_or_says_why_not(ledger: Ledger) -> None:
    """One position was taken over meanwhile, and one has grown: the third one's order goes out."""
    keys = [CloseKey(each, 1) for each in ("a", "b", "c")]
    for key in keys:
        track(ledger, replace(POSITION, id=key.position_id, symbol=f"{key.position_id}/USDT"))
    versions = [ledger.standing(key).version for key in keys]
    ledger.note(keys[0], 9, "took over", "")
    ledger.seen(keys[1], 5, ())
    attempts = [replace(ATTEMPT, client_order_id=key.position_id) for key in keys]
    told = ledger.sending_all(
        [(key, 5, Dispatch(each, version, "")) for key, each, version in zip(keys, attempts, versions, strict=True)]
    )
    assert [type(each) for each in told] == [TokenRefused, Moved, int]
    assert [ledger.standing(key).position.state for key in keys] == ["open", "open", "closing"]


def test_a_second_attempt_keeps_what_the_first_one_filled(ledger: Ledger) -> None:
    """The same number again updates the attempt; the next number says what the one before had filled."""
    advance(ledger, "filled")
    sending(ledger, replace(ATTEMPT, expires_at_ms=6000))
    second = Attempt(2, "pl2", Decimal(4), 7000)
    sending(ledger, second, filled_before=Decimal(6))
    close = ledger.standing(KEY).close
    assert close is not None
    assert close.attempts == (replace(ATTEMPT, expires_at_ms=6000, filled=Decimal(6)), second)


def test_tracking_again_changes_nothing(ledger: Ledger) -> None:
    """A bot that restarts may track what it tracked before."""
    before = dump(ledger)
    assert track(ledger, at_ms=2000, leg=replace(LEG, held=Decimal(99))).tracked_at_ms == 1000
    assert dump(ledger) == before


@pytest.mark.parametrize(
    "other",
    [
        Position("btc-1", "BTC/USDT", "long", 11, 60000),
        Position("btc-1", "BTC/USDT", "short", 10, 60000),
        Position("btc-2", "BTC/USDT", "long", 10, 60000),
    ],
)
def test_a_contradicting_position_is_refused(ledger: Ledger, other: Position) -> None:
    """The same id with other values, or a second position on one side of a market, is a conflict."""
    before = dump(ledger)
    with pytest.raises(PositionConflict):
        track(ledger, other, 2000)
    assert dump(ledger) == before


def test_a_closed_id_opens_a_new_generation(ledger: Ledger) -> None:
    """Its token starts where the last generation's ended."""
    advance(ledger, "")
    tracked = track(ledger, at_ms=2000)
    assert (tracked.generation, tracked.state) == (2, "open")
    with pytest.raises(TokenRefused):
        ledger.filled(CloseKey("btc-1", 2), 4, "")
    ledger.filled(CloseKey("btc-1", 2), 5, "")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO booking SELECT * FROM booking",
        "INSERT INTO close SELECT * FROM close",
        "INSERT INTO fill SELECT * FROM fill",
        "INSERT INTO attempt SELECT position_id, generation, 2, client_order_id, '1', 0, NULL FROM attempt",
        "INSERT INTO trade SELECT * FROM trade",
        """INSERT INTO position SELECT 'btc-2', generation, account, symbol, side, contracts, entry_price,
           contract_size, inverse, settle, entry_fee, tracked_at_ms, 'open', token, held, held_price, venue_id,
           trades_since_ms, entry_known, unsettled, later FROM position WHERE generation = 2""",
    ],
)
def test_unique_keys_carry_the_promises(ledger: Ledger, statement: str) -> None:
    """One booking and one close per generation, one row per fill, one client order id ever, one open position a leg."""
    advance(ledger, "")
    track(ledger, at_ms=2000)
    with sqlite3.connect(ledger.path) as db, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        db.execute(statement)
    db.close()


# What a leg has shown.


def test_trades_keep_the_order_of_the_venue(ledger: Ledger) -> None:
    """One that shows late is put where the venue puts it; an id that came later is added; the baseline stays that."""
    anonymous = replace(EXIT, fill=replace(FILL, client_order_id=None))
    ledger.unsettled(KEY, 5, "", (anonymous,))
    between = replace(LATE, effect="exit")
    ledger.unsettled(KEY, 5, "", (ENTRY, between, EXIT))
    assert ledger.standing(KEY).leg.trades == (between, EXIT)
    assert ledger.standing(KEY).leg.baseline == {"t0"}
    ledger.unsettled(KEY, 5, "", (anonymous, between))
    assert ledger.standing(KEY).leg.trades == (EXIT, between)  # what is known of a trade is not forgotten


def test_no_more_is_gone_than_the_position_is_for(ledger: Ledger) -> None:
    """A hand takes 8 of the 30 that are held, and a reduce fills 5: all 10 are gone, whether its trade shows or not."""
    reduce = Change(1, "reduce", Decimal(5), None, "pl2", step="sending", expires_at_ms=5000)
    ledger.change(KEY, 3, (replace(reduce, step="intent", expires_at_ms=0),))
    ledger.sending_change(KEY, 3, reduce)
    ledger.end_change(KEY, 3, replace(reduce, step="done", filled=Decimal(5)))
    by_hand = Trade("exit", "o1", replace(FILL, client_order_id=None, contracts=Decimal(8)))
    own = Trade("exit", "o2", replace(FILL, trade_id="t2", client_order_id="pl2", contracts=Decimal(5)))
    gone = [tracked_of(ledger).reduced]
    for shown in ((by_hand,), (by_hand, own)):
        ledger.seen(KEY, 3, shown)
        gone.append(tracked_of(ledger).reduced)
    assert gone == [5, 10, 10]
    assert tracked_of(ledger).left == 0


def test_a_late_entry_joins_the_baseline(ledger: Ledger) -> None:
    """And is no new trade any more; the others stay what they were."""
    advance(ledger, "filled")
    ledger.filled(KEY, 5, "", (EXIT,), (LATE,))
    assert ledger.standing(KEY).leg.trades == (EXIT,)
    assert ledger.standing(KEY).leg.baseline == {"t0", "t9"}
    assert events(ledger)[-1] == ("filled", "late entry t9")


def test_why_a_close_cannot_end_is_written_once(ledger: Ledger) -> None:
    """It is told with the position until it no longer holds; the same reason again is no event."""
    for why in ("no trades", "no trades", "", ""):
        ledger.unsettled(KEY, 5, why, ())
        assert tracked_of(ledger).unsettled == why
    assert events(ledger)[1:] == [("unsettled", "no trades"), ("unsettled", "")]
    ledger.unsettled(KEY, 5, "no trades", ())
    advance(ledger, "")
    assert tracked_of(ledger).unsettled == ""


def test_a_trade_is_booked_once_on_each_side(ledger: Ledger) -> None:
    """One that crosses flat is an exit of both legs. A later position of the same leg is told whose it is."""
    advance(ledger, "")
    again, short = CloseKey("btc-1", 2), CloseKey("short", 1)
    track(ledger)
    track(ledger, replace(POSITION, id="short", side="short"))
    track(ledger, replace(POSITION, id="eth", symbol="ETH/USDT"))
    assert ledger.booked_elsewhere(again, ["t1", "t2"]) == {"t1"}
    for other in (KEY, short, CloseKey("eth", 1)):
        assert ledger.booked_elsewhere(other, ["t1"]) == frozenset()
    for key, attempt in ((short, "pl2"), (again, "pl3")):
        sending(ledger, replace(ATTEMPT, client_order_id=attempt), key)
        ledger.filled(key, 5, "")
    ledger.book(short, 5, replace(CLOSED, position_id="short"))
    before = dump(ledger)
    with pytest.raises(LedgerError, match="UNIQUE"):
        ledger.book(again, 5, CLOSED)
    assert dump(ledger) == before


def test_an_order_may_take_more_into_the_position(ledger: Ledger) -> None:
    """In the commit that lets it out: contracts, price and fee are the larger ones, and the history says so."""
    larger = POSITION.scaled_in(5, 57000, fee="0.2")
    advance(ledger, "sending")
    sending(ledger, ATTEMPT, trades=(EXIT,), grown=larger)
    assert tracked_of(ledger).position == larger
    assert ledger.standing(KEY).leg.tracked.held == 10  # what was held at the tracking stays what it was
    assert ("adopted", "15 from 59000") in events(ledger)


# By the operator's word.


@pytest.mark.parametrize("until", ["begin", "sending", "filled", "book"])
def test_a_position_is_settled_from_any_step(ledger: Ledger, until: str) -> None:
    """Open, closing, sent or filled: it is booked once, with what is written off, and nothing follows."""
    write(ledger, "change", 5)
    advance(ledger, until)
    ledger.settle(KEY, 6, SETTLED, "the venue is gone")
    tracked, close = tracked_of(ledger), ledger.standing(KEY).close
    assert (tracked.state, tracked.closed) == ("closed", SETTLED)
    assert close is not None
    assert close.step == "booked"
    assert [each.step for each in ledger.standing(KEY).changes] == ["dropped"]
    assert ledger.unfinished("account") == []
    assert events(ledger)[-2:] == [("settled", "the venue is gone"), ("booked", "net 0, 10 written off")]
    before = dump(ledger)
    again = {name: arguments(ledger, name) for name in WRITES} | {"settle": (SETTLED, "again"), "forget": ("",)}
    for name, values in again.items():
        with pytest.raises(LedgerError, match="not at step"):
            getattr(ledger, name)(KEY, 7, *values)
    assert dump(ledger) == before


def test_a_settled_position_reads_back_as_it_was_written(ledger: Ledger) -> None:
    """With fills that prove a part, the operator's price for the rest, and what the venue still held."""
    proved = replace(FILL, contracts=Decimal(4))
    closed = replace(SETTLED, fills=(proved,), exit_price=Decimal(59000), left_at_venue=Decimal(3))
    closed = replace(closed, written_off=Decimal(0), by_operator=Decimal(6))
    ledger.settle(KEY, 6, closed, "")
    assert tracked_of(ledger).closed == closed
    assert events(ledger)[-1][1] == "net 0, 3 left at the venue, 6 at the operator's price"


def test_a_forgotten_position_leaves_its_leg_and_its_history(ledger: Ledger) -> None:
    """Row, token and history stay; what was intended is dropped; the id and the leg are free for the next one."""
    write(ledger, "change", 5)
    ledger.forget(KEY, 6, "by mistake")
    assert tracked_of(ledger).state == "forgotten"
    assert [each.step for each in ledger.standing(KEY).changes] == ["dropped"]
    assert ledger.on_leg("account", "BTC/USDT", "long") is None
    assert ledger.unfinished("account") == []
    track(ledger, replace(POSITION, id="btc-2"))
    ledger.forget(CloseKey("btc-2", 1), 1, "")
    assert track(ledger).generation == 2
    assert ledger.highest_token("btc-1") == 6
    assert ("forgotten", "by mistake") in events(ledger)


@pytest.mark.parametrize("sent", ["begin", "sending_change", "end_change"])
def test_a_position_for_which_something_was_sent_is_not_forgotten(ledger: Ledger, sent: str) -> None:
    """Nor one that closes: what was sent may be out, or may have been filled."""
    if sent != "begin":
        write(ledger, "change", 5)
        write(ledger, "sending_change", 5)
    if sent == "end_change":
        ledger.end_change(KEY, 5, replace(STOP, step="done"))
    if sent == "begin":
        write(ledger, "begin", 5)
    before = dump(ledger)
    with pytest.raises(LedgerError, match=r"not at step (open|nothing sent)"):
        ledger.forget(KEY, 6, "")
    assert dump(ledger) == before


# A later position on the leg.


@pytest.mark.parametrize("later_id", ["btc-2", "btc-1"])
def test_a_later_position_takes_the_leg_of_one_that_cannot_be_settled(ledger: Ledger, later_id: str) -> None:
    """Under any id. From then on the old one knows what was held, and stays unfinished until it is settled."""
    advance(ledger, "filled")
    leg = replace(LEG, held=Decimal(12))
    later = track(ledger, replace(POSITION, id=later_id), 2000, leg=leg, after=(KEY, 5))
    assert (later.state, later.generation) == ("open", 2 if later_id == "btc-1" else 1)
    assert ledger.on_leg("account", "BTC/USDT", "long") == later
    assert (ledger.standing(KEY).leg.later, ledger.standing(CloseKey(later_id, later.generation)).leg.later) == (
        Decimal(12),
        None,
    )
    assert ledger.unfinished("account") == [KEY]
    (old,) = ledger.superseded("btc-1")
    assert (old.generation, old.state) == (1, "closing")
    assert "with 12 held; nothing is sent" in dict(events(ledger))["later position"]
    ledger.settle(KEY, 6, SETTLED, "")
    assert ledger.superseded("btc-1") == []
    assert tracked_of(ledger, later_id, later.generation).state == "open"


@pytest.mark.parametrize("wrong", ["token", "open", "twice"])
def test_a_leg_is_taken_over_under_the_lock_of_its_position(ledger: Ledger, wrong: str) -> None:
    """With an old token, from one that is open, or a second time: nothing is written, and nothing is tracked."""
    if wrong != "open":
        advance(ledger, "filled")
    if wrong == "token":
        with ledger._database.transaction() as db:
            db.execute("UPDATE position SET token = 6")
    other = replace(POSITION, id="btc-2")
    if wrong == "twice":
        track(ledger, other, after=(KEY, 5))
        other = replace(POSITION, id="btc-3")
    before = dump(ledger)
    with pytest.raises(TokenRefused if wrong == "token" else LedgerError):
        track(ledger, other, after=(KEY, 5))
    assert dump(ledger) == before


def test_a_closing_position_is_in_the_way_of_any_other(ledger: Ledger) -> None:
    """Unless its lock's owner gives the leg away."""
    advance(ledger, "filled")
    before = dump(ledger)
    for position_id in ("btc-1", "btc-2"):
        with pytest.raises(PositionConflict):
            track(ledger, replace(POSITION, id=position_id))
    assert dump(ledger) == before


def test_commits_are_durable_by_setting(ledger: Ledger) -> None:
    """EXTRA and TRUNCATE, on the connection that writes; anything less can lose an acknowledged commit."""
    with ledger._database.transaction() as db:
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 3
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "truncate"
    assert os.stat(ledger.path).st_mode & 0o777 == 0o600


def test_a_newer_ledger_is_left_alone(ledger: Ledger) -> None:
    """An older poslock does not write into a schema that it does not know."""
    with sqlite3.connect(ledger.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerError, match="upgrade poslock"):
        Ledger(ledger.path).find("btc-1")


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    """And left as it was."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, but long enough to look at" * 50)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=str(path)):
        Ledger(str(path)).find("btc-1")
    assert path.read_bytes() == before


def test_an_error_in_a_transaction_undoes_it(ledger: Ledger) -> None:
    """All or nothing, and the connection goes on working."""
    before = dump(ledger)
    with pytest.raises(ZeroDivisionError), ledger._database.transaction() as db:
        db.execute("DELETE FROM trade")
        _ = 1 / 0
    assert dump(ledger) == before
    write(ledger, "begin", 1)


def test_a_damaged_row_is_named(ledger: Ledger) -> None:
    """Text where a number was is a LedgerError, not a decimal exception."""
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE position SET contracts = 'ten'")
    db.close()
    with pytest.raises(LedgerError, match="damaged row of position 'btc-1'"):
        ledger.find("btc-1")


def test_a_signal_in_the_middle_of_a_write_leaves_nothing_open(ledger: Ledger) -> None:
    """A handler that raises undoes the write; one that writes is told not to. Others can write at once."""

    def handler(*_: object) -> None:
        with pytest.raises(LedgerError, match="signal handler"):
            write(ledger, "begin", 1)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(KeyboardInterrupt), ledger._database.transaction() as db:
            db.execute("DELETE FROM trade")
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    write(Ledger(ledger.path), "begin", 1)


def test_a_child_forked_in_the_middle_of_a_write_can_write(ledger: Ledger) -> None:
    """A fork waits for the other thread's transaction; else the child would wait for it for ever."""
    inside, done = threading.Event(), threading.Event()

    def slow_write() -> None:
        with ledger._database.transaction():
            inside.set()
            done.wait(0.3)

    thread = threading.Thread(target=slow_write)
    thread.start()
    inside.wait(10)
    if (pid := os.fork()) == 0:
        try:
            write(Ledger(ledger.path), "begin", 1)
            os._exit(0)
        finally:
            os._exit(1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_has_a_connection_of_its_own(ledger: Ledger) -> None:
    """It leaves its parent's alone, and what it writes is there."""
    if (pid := os.fork()) == 0:
        try:
            write(ledger, "begin", 1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    write(ledger, "sending", 2)
