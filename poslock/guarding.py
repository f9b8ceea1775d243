"""What a guard does, written once for threads and tasks: every call that may take time is awaited through `Ports`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from poslock.closing.driver import Driver
from poslock.closing.machine import CloseMachine
from poslock.closing.modify import ModifyMachine, Wanted
from poslock.closing.steps import Patience
from poslock.closing.talk import client_order_id
from poslock.errors import (
    InvalidPosition,
    LockError,
    LockTimeout,
    PositionAlreadyClosingError,
    PositionConflict,
    PositionNotFound,
    PoslockError,
)
from poslock.exchange.port import AsyncExchange, Exchange, Holding, Leg
from poslock.growth import grown
from poslock.ledger.journal import CloseKey
from poslock.ledger.ledger import Ledger
from poslock.lock.directory import open_directory
from poslock.lock.ids import check_position_id
from poslock.lock.options import checked_lease_ns, checked_timeout
from poslock.lock.position_lock import PositionLock
from poslock.position import EXACT, Fill, Position, TrackedPosition, name, positive, side_of
from poslock.text import printable, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence
    from types import EllipsisType

    from poslock.closing.ports import Ports
    from poslock.exchange.port import Sending
    from poslock.holder import Intent
    from poslock.lock.directory import LockDirectory
    from poslock.position import ClosedPosition, ModifiedPosition, Number

T = TypeVar("T")

_log = logging.getLogger("poslock.guard")

_MAX_REASON = 128
_LOOK_AGAIN = 0.25
_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` or `close_positions` achieved for one position.

    ``closed`` is its close, None if only changes had to be finished; ``error`` says why it is not finished yet.
    """

    position_id: str
    closed: ClosedPosition | None
    error: PoslockError | None


class Guarding:
    """The work of `PositionGuard` and `AsyncPositionGuard`, which say what its methods promise."""

    def __init__(  # noqa: PLR0913  # the options of a guard
        self,
        ports: Ports,
        exchange: Exchange | AsyncExchange,
        *,
        lock_dir: str | os.PathLike[str] | LockDirectory | None,
        ledger: str | os.PathLike[str] | Ledger | None,
        timeout: float | None,
        stale_after: float,
    ) -> None:
        self.ports = ports
        self.exchange = exchange
        self.directory = open_directory(lock_dir)
        path = f"{self.directory.path}/ledger.db" if ledger is None else ledger
        self.ledger = path if isinstance(path, Ledger) else Ledger(str(Path(path).absolute()))
        self.timeout = checked_timeout(timeout)
        self.stale_after = checked_lease_ns(stale_after) / 1e9

    async def track(self, position: Position) -> TrackedPosition:
        check_position_id(position.id)
        self.directory.prepare()
        await self.ports.venue(self.exchange.prepare)
        return await self.ports.ledger(self.ledger.track, position, self.exchange.account, self.exchange.time_ms())

    async def adopt(self, symbol: str, side: str) -> TrackedPosition:
        leg = Leg(name("symbol", symbol), side_of(side))
        self.directory.prepare()
        await self.ports.venue(self.exchange.prepare)
        known = await self.ports.ledger(self.ledger.on_leg, self.exchange.account, leg.symbol, leg.side)
        position_id = known.position.id if known else f"{leg.symbol} {leg.side}"
        if known is not None and known.state == "closing":
            raise PositionAlreadyClosingError(position_id, "closing")
        if known is not None:
            return await self._resize(known, leg)
        since_ms = self.exchange.time_ms()
        holding, gone = await self._holding(position_id, leg, since_ms)
        with localcontext(EXACT):  # what a stop-loss takes off at this very moment counts for its P&L
            contracts = holding.contracts + gone
        position = Position(
            position_id,
            leg.symbol,
            leg.side,
            contracts,
            holding.entry_price,
            contract_size=holding.contract_size,
            inverse=holding.inverse,
            settle=holding.settle,
        )
        return await self.ports.ledger(self.ledger.track, position, self.exchange.account, since_ms)

    async def position(self, position_id: str) -> TrackedPosition:
        check_position_id(position_id)
        self.directory.prepare()
        tracked = await self.ports.ledger(self.ledger.find, position_id)
        if tracked is None or tracked.account != self.exchange.account:
            raise PositionNotFound(position_id, self.ledger.path)
        return tracked

    async def close_position(self, position_id: str, reason: str) -> ClosedPosition:
        why = _checked_reason(reason)
        tracked = await self.position(position_id)
        if tracked.state == "closed":
            raise PositionAlreadyClosingError(position_id, "closed")
        lock = await self._lock(position_id, f"close: {why}", "close")
        return await self._close(tracked, lock, await self._acquire_to_close(lock, self.timeout), why)

    async def close_positions(self, position_ids: Iterable[str], reason: str) -> list[Recovery]:
        why = _checked_reason(reason)
        # In one order for everybody: two bots that close the same legs do not hold each other up.
        return [await self._attempted(each, self.close_position(each, why)) for each in sorted(set(position_ids))]

    async def modify_position(
        self,
        position_id: str,
        stop_loss: Number | EllipsisType | None,
        take_profit: Number | EllipsisType | None,
        reduce_by: Number | None,
    ) -> ModifiedPosition:
        wanted = _checked_wishes(stop_loss, take_profit, reduce_by)
        seen = await self.position(position_id)
        lock = await self._lock(position_id, "modify", "change")
        token = await self._acquire_to_modify(lock, seen)
        try:
            tracked = await self._still(seen, lock, token)
            if tracked.state == "closing":  # its closer has died, or waits for the venue
                raise PositionAlreadyClosingError(position_id, "closing")
            machine = ModifyMachine(tracked, self._patience(), token=token)
            return await self._driver(lock).run(machine.steps(wanted))
        finally:
            release(lock)

    async def recover(self) -> list[Recovery]:
        self.directory.prepare()
        found = []
        for position_id in await self.ports.ledger(self.ledger.unfinished, self.exchange.account):
            recovery = await self._attempted(position_id, self._recover(position_id))
            if not _is_done_by_others(recovery.error):
                found.append(recovery)
        return found

    async def begin_closing(self, position_id: str, reason: str) -> OpenClose:
        """Take the lock and begin a close that the bot's own code carries out; the caller releases it."""
        why = _checked_reason(reason)
        seen = await self.position(position_id)
        if seen.state == "closed":
            raise PositionAlreadyClosingError(position_id, "closed")
        lock = await self._lock(position_id, f"close: {why}", "close")
        token = await self._acquire_to_close(lock, self.timeout)
        try:
            return await self._begun(seen, lock, token, why)
        except BaseException:
            release(lock)
            raise

    async def begin_reading(self, position_id: str) -> tuple[PositionLock, TrackedPosition]:
        """Take the shared lock, then look; the caller releases it."""
        await self.position(position_id)
        lock = _FencedLock(position_id, self.directory, self.stale_after, purpose="read", intent="read", shared=True)
        await self.ports.acquire(lock, self.timeout)
        try:
            return lock, await self.position(position_id)
        except BaseException:
            release(lock)
            raise

    async def _begun(self, seen: TrackedPosition, lock: PositionLock, token: int, reason: str) -> OpenClose:
        tracked = await self._still(seen, lock, token)
        if tracked.state == "closing":  # an order may be out that this bot's code knows nothing of
            raise PositionAlreadyClosingError(seen.position.id, "closing")
        machine, driver = CloseMachine(tracked, self._patience(), token=token, reason=reason), self._driver(lock)
        await driver.run(machine.begin())
        return OpenClose(lock, driver, machine, client_order_id(tracked, 1), token)

    async def _attempted(self, position_id: str, attempt: Awaitable[ClosedPosition | None]) -> Recovery:
        try:
            return Recovery(position_id, await attempt, None)
        except PoslockError as error:
            return Recovery(position_id, None, error)

    async def _recover(self, position_id: str) -> ClosedPosition | None:
        seen = await self.position(position_id)
        if seen.state == "closed":
            raise PositionAlreadyClosingError(position_id, "closed")
        closing = seen.state == "closing"
        intent: Intent = "close" if closing else "change"
        lock = await self._lock(position_id, "close: recovery" if closing else "modify: recovery", intent)
        try:
            token = await self.ports.acquire(lock, 0)  # whoever is at it will finish it
        except LockTimeout as error:
            if closing:
                raise PositionAlreadyClosingError(position_id, "closing", error.holder) from error
            raise
        if closing:
            return await self._close(seen, lock, token, "recovery")
        try:
            tracked = await self._still(seen, lock, token)
            if tracked.state == "open":
                machine = ModifyMachine(tracked, self._patience(), token=token)
                await self._driver(lock).run(machine.finish())
        finally:
            release(lock)
        return None

    async def _close(self, seen: TrackedPosition, lock: PositionLock, token: int, reason: str) -> ClosedPosition:
        try:
            tracked = await self._still(seen, lock, token)
            machine = CloseMachine(tracked, self._patience(), token=token, reason=reason)
            closed = await self._driver(lock).run(machine.steps())
        finally:
            release(lock)
        log_closed(closed)
        return closed

    async def _resize(self, seen: TrackedPosition, leg: Leg) -> TrackedPosition:
        """If the venue holds more than was tracked and not closed since, somebody added to the position."""
        lock = await self._lock(seen.position.id, "adopt", "change")
        token = await self._acquire_to_modify(lock, seen)
        try:
            tracked = await self._still(seen, lock, token)
            if tracked.state == "closing":  # its closer has died
                raise PositionAlreadyClosingError(seen.position.id, "closing")
            holding, gone = await self._holding(seen.position.id, leg, tracked.tracked_at_ms)
            position, key = tracked.position, CloseKey(tracked.position.id, tracked.generation)
            held = max(Decimal(0), EXACT.subtract(position.contracts, gone))
            if holding.contracts <= held:
                return tracked
            entry_price = await self.ports.ledger(self.ledger.held_price, key) or position.entry_price
            larger = grown(position, held=held, entry_price=entry_price, now=holding)
            lock.check()
            await self.ports.ledger(self.ledger.resize, key, token, larger, holding.entry_price)
        finally:
            release(lock)
        return await self.position(seen.position.id)

    async def _holding(self, position_id: str, leg: Leg, since_ms: int) -> tuple[Holding, Decimal]:
        """What the venue holds, and the contracts that were taken off since then and not booked, of one moment."""
        gone = await self._gone(leg, since_ms)
        for _ in range(_LOOKS):
            holding: Holding | None = await self.ports.venue(self.exchange.holding, leg)
            before, gone = gone, await self._gone(leg, since_ms)
            if before != gone:  # a stop-loss in between: it would count twice, or not at all
                continue
            if holding is None:
                raise PositionConflict(position_id, f"the venue holds no {leg.side} position in {leg.symbol}")
            return holding, gone
        raise PositionConflict(position_id, "its orders are being filled at this moment; adopt it again")

    async def _gone(self, leg: Leg, since_ms: int) -> Decimal:
        booked = await self.ports.ledger(self.ledger.booked_trades, self.exchange.account, leg.symbol, since_ms)
        fills: Sequence[Fill] = await self.ports.venue(self.exchange.fills, leg, since_ms)
        with localcontext(EXACT):
            return sum((fill.contracts for fill in fills if fill.trade_id not in booked), Decimal(0))

    async def _still(self, seen: TrackedPosition, lock: PositionLock, token: int) -> TrackedPosition:
        """The position as it is now that the lock is held."""
        # A and B both want to close; A does, and its bot opens the same id again before B gets the lock. B was asked to
        # close the position that it saw, not the new one. (test_a_reopened_position_is_left_alone)
        tracked = await self.position(seen.position.id)
        if tracked.generation != seen.generation or tracked.state == "closed":
            raise PositionAlreadyClosingError(seen.position.id, "closed")
        if (broken := lock.recovered_from) is not None:
            key = CloseKey(seen.position.id, tracked.generation)
            await self.ports.ledger(self.ledger.took_over, key, token, str(broken))
        return tracked

    async def _acquire_to_close(self, lock: PositionLock, timeout: float | None) -> int:
        """Wait for a holder that closes as long as *timeout*; for any other, at least until its lease has run out."""
        try:
            return await self._acquire(lock, timeout)
        except LockTimeout:
            left = 0.0 if timeout is None else self.stale_after + 1 - timeout
            if left <= 0:
                raise
        return await self._acquire(lock, left)

    async def _acquire(self, lock: PositionLock, timeout: float | None) -> int:
        """As the lock does it, but a holder that closes the position is told from any other.

        Raises:
            PositionAlreadyClosingError: the lock was not granted in time, and its holder closes.
            LockTimeout: the lock was not granted in time, and its holder does something else.
        """
        try:
            return await self.ports.acquire(lock, timeout)
        except LockTimeout as error:
            if error.holder is not None and error.holder.intent == "close":
                raise PositionAlreadyClosingError(lock.position_id, "closing", error.holder) from error
            raise

    async def _acquire_to_modify(self, lock: PositionLock, seen: TrackedPosition) -> int:
        """Wait for any holder but one that closes."""
        began_ns, look = self.directory.system.monotonic_ns(), 0.0
        while True:
            if seen.state != "open":
                raise PositionAlreadyClosingError(lock.position_id, "closing" if seen.state == "closing" else "closed")
            waited = (self.directory.system.monotonic_ns() - began_ns) / 1e9
            left = look if self.timeout is None else max(0, min(look, self.timeout - waited))
            try:
                return await self._acquire(lock, left)
            except LockTimeout:
                if self.timeout is not None and waited >= self.timeout:
                    raise
            seen, look = await self.position(lock.position_id), _LOOK_AGAIN

    async def _lock(self, position_id: str, purpose: str, intent: Intent) -> PositionLock:
        """A lock whose tokens are higher than any that the ledger has seen, even if the lock directory was wiped."""
        floor = await self.ports.ledger(self.ledger.highest_token, position_id) + 1
        return _FencedLock(position_id, self.directory, self.stale_after, purpose=purpose, intent=intent, floor=floor)

    def _driver(self, lock: PositionLock) -> Driver:
        return Driver(self.ports, self.exchange, self.ledger, lock, lease=self.stale_after)

    def _patience(self) -> Patience:
        return Patience(self.exchange.denies_for, self.exchange.settles_within)


@dataclass(frozen=True, slots=True)
class OpenClose:
    """A close that a bot's own code carries out: its lock, and what to run under it."""

    lock: PositionLock
    driver: Driver
    machine: CloseMachine
    client_order_id: str
    token: int

    async def announce(self) -> Sending:
        """Journal it; how to send it."""
        return await self.driver.run(self.machine.announce())

    async def finish(self, fills: Sequence[Fill]) -> ClosedPosition:
        """Book them."""
        closed = await self.driver.run(self.machine.finish(fills))
        log_closed(closed)
        return closed


class _FencedLock(PositionLock):
    """A guard's lock: its token is no lower than *floor*, and its record says what the guard holds it for."""

    def __init__(  # noqa: PLR0913  # options of a lock
        self,
        position_id: str,
        directory: LockDirectory,
        stale_after: float,
        *,
        purpose: str,
        intent: Intent,
        floor: int = 0,
        shared: bool = False,
    ) -> None:
        super().__init__(
            position_id, lock_dir=directory, shared=shared, stale_after=stale_after, purpose=purpose[:_MAX_REASON]
        )
        self._request = self._request._replace(intent=intent)
        self._floor = floor

    def _token_floor(self) -> int:
        return self._floor


def release(lock: PositionLock) -> None:
    """Give *lock* back if it is held."""
    if lock.token is None:
        return
    try:
        lock.release()
    except LockError as failed:
        # The outcome stands, error or not: everything before this went through the fence.
        _log.warning("%s", failed, extra={"position": lock.position_id, "pid": os.getpid()})


def log_closed(closed: ClosedPosition) -> None:
    """Say that it is closed."""
    fields = {"position": closed.position_id, "token": closed.token, "pid": os.getpid()}
    _log.info("closed position %s, net P&L %s", quoted(closed.position_id), closed.net_pnl, extra=fields)


def _is_done_by_others(error: PoslockError | None) -> bool:
    return isinstance(error, PositionAlreadyClosingError) and error.state == "closed"


def _checked_reason(reason: object) -> str:
    if not isinstance(reason, str) or len(reason) > _MAX_REASON:
        raise ValueError(f"reason must be text of at most {_MAX_REASON} characters, not {shown(reason)}")
    return printable(reason)


def _checked_wishes(
    stop_loss: Number | EllipsisType | None, take_profit: Number | EllipsisType | None, reduce_by: Number | None
) -> Wanted:
    prices = {"stop_loss": stop_loss, "take_profit": take_profit}
    checked = {field: each if each is None or each is ... else positive(field, each) for field, each in prices.items()}
    reduce = None if reduce_by is None else positive("reduce_by", reduce_by)
    if reduce is None and all(each is ... for each in checked.values()):
        raise InvalidPosition("change", None, "is none: give stop_loss, take_profit or reduce_by")
    return Wanted(checked["stop_loss"], checked["take_profit"], reduce)
