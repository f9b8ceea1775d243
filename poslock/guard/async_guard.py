"""`AsyncPositionGuard`: `PositionGuard` for bots that run on asyncio. The same work, awaited."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from poslock.bridge import TaskPorts
from poslock.guard.operations import Guarding, OpenClose, Recovery, release

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterable, Sequence
    from types import EllipsisType

    from poslock.exchange.port import AsyncExchange, Exchange, Sending
    from poslock.ledger.ledger import Ledger
    from poslock.lock.directory import LockDirectory
    from poslock.position import ClosedPosition, Fill, ModifiedPosition, Number, Position, Side, TrackedPosition


class AsyncPositionGuard:
    """Guards the positions of one exchange account. The event loop waits for no commit, no venue and no other bot.

    Renewing and releasing the lock happen in the loop: microseconds, and 1.5 s at most when another process is stopped
    in the very middle of writing the lock file.

    Args:
        exchange: the account, a `poslock.exchange.port.AsyncExchange`; one without coroutines is asked in a thread.
        lock_dir, ledger, timeout, stale_after: as for `PositionGuard`.

    All methods promise and raise what those of `PositionGuard` do. Cancelled, a close or a change stays as far as it
    got, and `recover` goes on with it.
    """

    def __init__(
        self,
        exchange: AsyncExchange | Exchange,
        *,
        lock_dir: str | os.PathLike[str] | LockDirectory | None = None,
        ledger: str | os.PathLike[str] | Ledger | None = None,
        timeout: float | None = 35.0,
        stale_after: float = 30.0,
    ) -> None:
        self._guarding = Guarding(
            TaskPorts(), exchange, lock_dir=lock_dir, ledger=ledger, timeout=timeout, stale_after=stale_after
        )

    async def track(self, position: Position) -> TrackedPosition:
        """As `PositionGuard.track`."""
        return await self._guarding.track(position)

    async def adopt(self, symbol: str, side: Side) -> TrackedPosition:
        """As `PositionGuard.adopt`."""
        return await self._guarding.adopt(symbol, side)

    async def position(self, position_id: str) -> TrackedPosition:
        """As `PositionGuard.position`."""
        return await self._guarding.position(position_id)

    async def close_position(self, position_id: str, *, reason: str = "") -> ClosedPosition:
        """As `PositionGuard.close_position`."""
        return await self._guarding.close_position(position_id, reason)

    async def close_positions(self, position_ids: Iterable[str], *, reason: str = "") -> list[Recovery]:
        """As `PositionGuard.close_positions`."""
        return await self._guarding.close_positions(position_ids, reason)

    async def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | EllipsisType | None = ...,
        reduce_by: Number | None = None,
    ) -> ModifiedPosition:
        """As `PositionGuard.modify_position`."""
        return await self._guarding.modify_position(position_id, stop_loss, take_profit, reduce_by)

    @asynccontextmanager
    async def closing(self, position_id: str, *, reason: str = "") -> AsyncIterator[AsyncClosing]:
        """As `PositionGuard.closing`."""
        begun = await self._guarding.begin_closing(position_id, reason)
        try:
            yield AsyncClosing(begun)
        finally:
            release(begun.lock)

    @asynccontextmanager
    async def reading(self, position_id: str) -> AsyncIterator[TrackedPosition]:
        """As `PositionGuard.reading`."""
        lock, tracked = await self._guarding.begin_reading(position_id)
        try:
            yield tracked
        finally:
            release(lock)

    async def recover(self) -> list[Recovery]:
        """As `PositionGuard.recover`."""
        return await self._guarding.recover()


class AsyncClosing:
    """As `poslock.guard.Closing`, awaited; made by `AsyncPositionGuard.closing`."""

    def __init__(self, begun: OpenClose) -> None:
        self._begun = begun

    @property
    def client_order_id(self) -> str:
        """The id that the order must carry: by it the order is found if you die."""
        return self._begun.client_order_id

    @property
    def token(self) -> int:
        """The fencing token of this hold."""
        return self._begun.token

    def check(self) -> None:
        """Return if the lock is held at this moment, else raise `LockLost`; call it before every side effect."""
        self._begun.lock.check()

    def renew(self) -> None:
        """Start the lease anew; raises `LockLost` if it is too late."""
        self._begun.lock.renew()

    async def sending(self) -> Sending:
        """As `poslock.guard.Closing.sending`."""
        return await self._begun.announce()

    async def book(self, fills: Sequence[Fill]) -> ClosedPosition:
        """As `poslock.guard.Closing.book`."""
        return await self._begun.finish(fills)
