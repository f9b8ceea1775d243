"""What a lock is held for decides who waits and who is told "closing"; the purpose is text for people."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from intents import lock_for
from poslock import LockTimeout, PositionAlreadyClosingError, PositionLock
from poslock.bridge import ThreadPorts
from poslock.errors import Holder
from poslock.lock.record import Record
from poslock.lock.status import lock_status
from systems import Clock, elsewhere
from venue import SYMBOL, Venue, at_once, until

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Account
    from poslock import PositionGuard
    from poslock.errors import Intent

HOLDER = Holder(
    pid=1, host="h", presence="1-a", purpose="", token=7, granted_at=0.0, granted_ns=0, renewed_ns=0, lease_ns=1
)
BOTH_KINDS = pytest.mark.parametrize("asynchronous", [False, True])
# A purpose, and whether the lock is shared.
CLOSING_NOTHING = [("move the stop", False), ("", False), ("close the shop", False), ("close: by hand", True)]


def held_by_another(account: Account, purpose: str, *, shared: bool = False) -> PositionLock:
    """The lock as any program takes it, `poslock run` too."""
    return PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose=purpose, shared=shared)


def intent_now(account: Account) -> str:
    """What the record says of its only holder."""
    (holder,) = lock_status(elsewhere(account.lock_dir), "btc-1").holders
    return holder.intent


def waiting_now(account: Account) -> int:
    """How many wait for the lock."""
    content = held_by_another(account, "")._transitions.entry.peek()
    return len(content.waiting) if isinstance(content, Record) else 0


@BOTH_KINDS
@pytest.mark.parametrize(("purpose", "shared"), CLOSING_NOTHING)
def test_a_lock_that_closes_nothing_is_not_called_closing(account: Account, purpose: str, *, shared: bool) -> None:
    """A close waits for its holder for a lease and a second, and then names it; nothing was begun."""
    account.open()
    hasty = account.guard_on(account.exchange, timeout=0, stale_after=0.3)
    with held_by_another(account, purpose, shared=shared), pytest.raises(LockTimeout) as caught:
        hasty.close_position("btc-1")
    assert caught.value.holder is not None
    assert (caught.value.holder.intent, caught.value.holder.purpose) == ("other", purpose)
    assert account.guard.position("btc-1").state == "open"
    hasty.close_position("btc-1")


@BOTH_KINDS
@pytest.mark.parametrize(("purpose", "shared"), CLOSING_NOTHING)
def test_a_change_is_not_told_closing_by_a_lock_that_closes_nothing(
    account: Account, purpose: str, *, shared: bool
) -> None:
    """It waits as long as it was told to, and names the holder."""
    account.open()
    hasty = account.guard_on(account.exchange, timeout=0)
    with held_by_another(account, purpose, shared=shared), pytest.raises(LockTimeout) as caught:
        hasty.modify_position("btc-1", stop_loss=58_000)
    assert caught.value.holder is not None
    assert caught.value.holder.purpose == purpose
    hasty.modify_position("btc-1", stop_loss=58_000)


@BOTH_KINDS
@pytest.mark.parametrize("purpose", ["", "move the stop", "close: stop"])
def test_a_closing_holder_is_called_closing_whatever_its_purpose(account: Account, purpose: str) -> None:
    """To whoever closes or changes and does not wait, though the ledger still says open."""
    account.open()
    hasty = account.guard_on(account.exchange, timeout=0)
    with lock_for("close", "btc-1", lock_dir=elsewhere(account.lock_dir), purpose=purpose):
        for call in (hasty.close_position, lambda each: hasty.modify_position(each, stop_loss=58_000)):
            with pytest.raises(PositionAlreadyClosingError) as caught:
                call("btc-1")
            assert (caught.value.state, caught.value.holder and caught.value.holder.purpose) == ("closing", purpose)
    assert account.guard.position("btc-1").state == "open"


@pytest.mark.parametrize("intent", ["change", "read", "other"])
def test_a_close_waits_until_a_holder_that_does_not_close_is_done(account: Account, intent: Intent) -> None:
    """Though its own time-out is 0: somebody must close the position, and nobody else does."""
    position = account.open()
    hasty = Venue(account, timeout=0).guard
    lock = lock_for(
        intent, "btc-1", lock_dir=elsewhere(account.lock_dir), purpose="close: not", shared=intent == "read"
    )
    lock.acquire()

    def let_go() -> None:
        until(lambda: waiting_now(account) == 1)
        lock.release()

    at_once(lambda: hasty.close_position("btc-1"), let_go)
    account.assert_closed_once(position)


@BOTH_KINDS
def test_a_change_that_waits_is_told_closing_when_a_close_gets_the_lock(account: Account) -> None:
    """At once, not when the close is done or the change's own time is up."""
    account.open()
    changer = account.guard_on(account.exchange)
    other = held_by_another(account, "move the stop")
    closer = lock_for("close", "btc-1", lock_dir=elsewhere(account.lock_dir))
    other.acquire()
    closing = threading.Thread(target=closer.acquire, daemon=True)
    closing.start()
    until(lambda: waiting_now(account) == 1)

    def let_go() -> None:
        until(lambda: waiting_now(account) == 2)
        other.release()

    def change() -> None:
        with pytest.raises(PositionAlreadyClosingError) as caught:
            changer.modify_position("btc-1", stop_loss=58_000)
        assert caught.value.state == "closing"

    at_once(change, let_go)
    closing.join(60)
    closer.check()


class Refused(ThreadPorts):
    """Ports through which nobody gets the lock: one holder after the other has it, and the last one keeps it."""

    def __init__(self, *intents: Intent | None) -> None:
        self.intents = list(intents)
        self.waited: list[float | None] = []

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:  # noqa: ASYNC109  # of the port
        self.waited.append(timeout)
        intent = self.intents.pop(0) if len(self.intents) > 1 else self.intents[0]
        raise LockTimeout(lock.position_id, lock.path, intent and HOLDER._replace(intent=intent), waited=0, why="held")


def through(ports: Refused, guard: PositionGuard) -> PositionGuard:
    """The same guard, with these ports."""
    operations = guard._operations
    operations.means = operations._admission.means = replace(operations.means, ports=ports)
    return guard


@pytest.mark.parametrize(
    ("timeout", "stale_after", "bound"), [(0, 30, 31), (0.5, 30, 31), (30.5, 30, 31), (31, 30, 31), (35, 30, 35)]
)
@pytest.mark.parametrize("intent", ["change", "read", "other", None])
def test_a_close_waits_for_others_as_long_as_it_may_or_for_a_lease_and_a_second(
    account: Account, timeout: float, stale_after: float, bound: float, intent: Intent | None
) -> None:
    """Whichever is longer, and not for both; a holder that nobody can name is waited for too."""
    account.open()
    ports = Refused(intent)
    guard = through(ports, Venue(account, timeout=timeout, stale_after=stale_after).guard)
    with pytest.raises(LockTimeout) as caught:
        guard.close_position("btc-1")
    assert sum(each for each in ports.waited if each is not None) == bound
    assert (caught.value.holder and caught.value.holder.intent) == intent


@pytest.mark.parametrize("intents", [("close",), ("other", "close"), ("read", "close")])
def test_a_close_that_finds_another_close_at_last_is_told_so(account: Account, intents: tuple[Intent, ...]) -> None:
    """At once, or when it had waited for somebody else first."""
    account.open()
    guard = through(Refused(*intents), Venue(account, timeout=0).guard)
    with pytest.raises(PositionAlreadyClosingError) as caught:
        guard.close_position("btc-1")
    assert caught.value.holder is not None
    assert caught.value.holder.intent == "close"


@pytest.mark.parametrize("ended", ["released", "silent"])
def test_who_held_the_lock_last_is_not_named_as_its_holder(tmp_path: Path, ended: str) -> None:
    """Somebody else is served first, and a closer that let go, or fell silent, closes nothing any more."""
    clock = Clock()

    def contender(**options: Any) -> PositionLock:
        return lock_for("close", "btc-1", lock_dir=clock.directory(tmp_path / "locks"), **options)

    closer, first, late = contender(stale_after=5), contender(), contender(timeout=0)
    closer.acquire()
    waiting = first._attempt(None)
    assert isinstance(waiting, Generator)
    next(waiting)  # it says that the lock is still wanted
    next(waiting)
    if ended == "released":
        closer.release()
    else:
        clock.sleep(5)
    with pytest.raises(LockTimeout, match="1 came first") as caught:
        late.acquire()
    assert caught.value.holder is None
    waiting.close()


@BOTH_KINDS
def test_the_guard_writes_into_the_record_what_it_holds_for(account: Account) -> None:
    """Each call its own word, whatever reason it was given."""
    account.open()
    seen: dict[str, str] = {}
    venue = Venue(account)
    for method in ("place_stop", "place", "holding"):
        venue.instead[method] = _noting(seen, account, method, getattr(venue.exchange, method))
    guard = account.guard_on(venue)
    guard.modify_position("btc-1", stop_loss=58_000)
    account.exchange.open_position(SYMBOL, "long", 5)
    guard.adopt(SYMBOL, "long")
    assert seen.pop("holding") == "change"
    with guard.reading("btc-1"):
        seen["reading"] = intent_now(account)
    guard.close_position("btc-1", reason="read the news")
    assert seen == {"place_stop": "change", "reading": "read", "place": "close", "holding": "close"}


def _noting(seen: dict[str, str], account: Account, name: str, request: Any) -> Any:
    def noted(*args: object) -> object:
        seen[name] = intent_now(account)
        return request(*args)

    return noted
