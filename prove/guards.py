"""The guards of simulated processes: the shipped operations over the simulated system, ledger and venue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poslock import Position, PositionAlreadyClosingError, PoslockError
from poslock.bridge import finished
from poslock.errors import LedgerError, LockError, LockTimeout
from poslock.guard.operations import Operations
from poslock.ledger.ledger import Ledger
from prove.market import CONTRACTS, ENTRY_PRICE, ID, LATER_PRICE, LEG, Market

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from poslock.lock.position_lock import PositionLock
    from prove.actor import Actor

LEASE = 6.0


class Ports:
    """The ways out of a guard in a simulated process."""

    asynchronous = False

    def __init__(self, me: Actor) -> None:
        self._me = me
        self._waits = False

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        if method.__name__ == "prepare":  # a paper account is told nothing by that
            return None
        return self._me.ask("ask_venue", method.__name__, args)

    async def together(self, calls: Any, spare: float | None) -> list[Any]:
        raise AssertionError(f"a paper account is asked one thing at a time, not {calls} within {spare}")

    async def ledger(self, method: Callable[..., Any], *args: object) -> Any:
        if not self._waits:
            return self._me.ask("ask_ledger", method.__name__, args)
        # Who waits for the lock reads what its holder changes: between any two of the calls before and after.
        self._me.ask("point", "reconsider")
        answer = self._me.ask("ask_ledger", method.__name__, args)
        self._me.ask("point", "reconsidered")
        return answer

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:  # noqa: ASYNC109  # as in `Ports`
        self._me.ask("point", "acquire")
        self._waits = True
        try:
            return lock.acquire(timeout)
        finally:
            self._waits = False

    async def sleep(self, seconds: float) -> None:
        self._me.ask("sleep", seconds)


class Face:
    """The account as a guard knows it before it asks."""

    def __init__(self, me: Actor, account: Any) -> None:
        self._me = me
        self._account = account

    def time_ms(self) -> int:
        return int(self._me.ask("time_ms"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._account, name)


@dataclass(frozen=True)
class Guards:
    """Makes the programs of one market."""

    market: Market

    def closer(self, me: Actor) -> str:
        """Close the position."""
        return _closing(me, self.guarding(me))

    def closer_of_all(self, me: Actor) -> str:
        """Close all that the leg holds."""
        return _closing(me, self.guarding(me), whole=True)

    def last(self, me: Actor) -> str:
        """What a bot does at its start: finish what others have begun; then close the position.

        What the venue never explains needs the operator's word.
        """
        self.recoverer(me)
        told = _closing(me, self.guarding(me))
        if self.market.unseen:
            me.ask("sleep", LEASE)  # until no request may be taken any more
            for _ in self.market.starts:
                told = self.settler(me)
        return "closed" if self.market.unseen else told

    def recoverer(self, me: Actor) -> str:
        """Finish what others have begun, and book what has ended."""
        for recovery in finished(self.guarding(me).recover()):
            if recovery.closed is not None:
                me.tell("closed", recovery.closed.token, None)
        return "recovered"

    def changer(self, me: Actor) -> str:
        """Move the stop-loss."""
        return _changing(me, self.guarding(me).modify_position(ID, 58_000, ..., None))

    def reducer(self, me: Actor) -> str:
        """Take off four contracts."""
        return _changing(me, self.guarding(me).modify_position(ID, ..., ..., 4))

    def tracker(self, me: Actor) -> str:
        """Enter the position in the ledger."""
        return self._tracking(me, ENTRY_PRICE)

    def next_tracker(self, me: Actor) -> str:
        """Enter the position that somebody has entered after this one."""
        return self._tracking(me, LATER_PRICE)

    def next_tracker_at_the_same_price(self, me: Actor) -> str:
        """The same, where nothing but its trades tells it from the last one: it was named by its orders."""
        return self._tracking(me, ENTRY_PRICE, entry_fee=5)

    def adopter(self, me: Actor) -> str:
        """Take into the position what somebody has added to its leg."""
        return _changing(me, self.guarding(me).adopt(LEG.symbol, LEG.side))

    def settler(self, me: Actor) -> str:
        """Book what the venue proves, by the operator's word."""
        try:
            finished(self.guarding(me).settle(ID, "prove", None))
        except PoslockError as error:
            return f"not settled: {error}"
        return "settled"

    def _tracking(self, me: Actor, price: int, entry_fee: int = 0) -> str:
        position = Position(ID, LEG.symbol, LEG.side, CONTRACTS, price, entry_fee=entry_fee)
        try:
            finished(self.guarding(me).track(position, (), verify=True))
        except PoslockError as error:
            return f"not tracked: {error}"
        return "tracked"

    def guarding(self, me: Actor) -> Operations:
        """The guard of a process."""
        face: Any = Face(me, self.market.books.venue.subject)
        ledger = Ledger(self.market.books.path)
        ports: Any = Ports(me)
        return Operations(ports, face, lock_dir=me.directory, ledger=ledger, timeout=LEASE + 2, stale_after=LEASE)


def _closing(me: Actor, guarding: Operations, *, whole: bool = False) -> str:
    """How a close ends. Everything but a close, and a word of another's, may only be said to who was disturbed."""
    try:
        generation = finished(guarding.position(ID)).generation
        closed = finished(guarding.close_position(ID, "prove", whole=whole))
    except PositionAlreadyClosingError as error:
        me.tell(f"already {error.state}")
        return f"already {error.state}"
    except (LockError, LedgerError, LockTimeout) as error:
        return f"lost: {error}"
    except PoslockError as error:
        return f"unsettled: {error}"
    me.tell("closed", closed.token, generation)
    return "closed"


def _changing(me: Actor, change: Coroutine[Any, Any, object]) -> str:
    try:
        finished(change)
    except PositionAlreadyClosingError as error:
        me.tell(f"already {error.state}")
        return f"already {error.state}"
    except PoslockError as error:
        return f"not changed: {error}"
    return "changed"
