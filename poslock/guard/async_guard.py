"""`AsyncPositionGuard`: `PositionGuard` for bots that run on asyncio. The same work, awaited."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, overload

from poslock.bridge import TaskPorts
from poslock.guard.operations import OpenClose, Operations, Recovery

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterable, Sequence
    from types import EllipsisType
    from typing import Self

    from poslock.exchange.port import AsyncExchange, Exchange, Sending
    from poslock.ledger.ledger import Ledger
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import ClosedPosition, Fill, Ladder, ModifiedPosition, Number, Position, Side, TrackedPosition


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
        self._operations = Operations(
            TaskPorts(), exchange, lock_dir=lock_dir, ledger=ledger, timeout=timeout, stale_after=stale_after
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the guard's ledger, as `PositionGuard.close` says; `async with` does it at its end.

        The exchange, and a `Ledger` that was handed to it, stay open. The guard can be used again.
        """
        await self._operations.close()

    async def track(
        self, position: Position, *, entry_order_ids: Iterable[str] = (), verify: bool = True
    ) -> TrackedPosition:
        """Enter *position* into the ledger, right after opening it; the same position again changes nothing.

        The venue is asked what it holds on the leg. *entry_order_ids* are the venue's or your client ids of the orders
        that opened it; *verify* looks until the trades explain what is held. All as `PositionGuard.track` says.

        Raises:
            InvalidPositionId, InvalidPosition, ExchangeUnavailable, PositionConflict, CloseUnsettled: as there.
        """
        return await self._operations.track(position, entry_order_ids, verify=verify)

    async def adopt(self, symbol: str, side: Side) -> TrackedPosition:
        """Track what the venue holds on one side of a market, or let a tracked position grow by what was added.

        Raises:
            PositionConflict, PositionAlreadyClosingError, LockTimeout, ExchangeUnavailable: as `PositionGuard.adopt`.
        """
        return await self._operations.adopt(symbol, side)

    async def position(self, position_id: str) -> TrackedPosition:
        """What the ledger knows of a position, without waiting for anybody.

        Raises:
            PositionNotFound: it is not tracked on this account.
        """
        return await self._operations.position(position_id)

    async def close_position(
        self, position_id: str, *, reason: str = "", whole: bool = False, urgent: bool = False
    ) -> ClosedPosition:
        """Close a position at market, book its P&L, and leave no order of it behind.

        *whole* closes all that the leg holds; *urgent* sends what the ledger says is left before it looks, and may sell
        of what somebody has entered again. Cancelled, the close stays as far as it got, and `recover` goes on.

        Raises:
            PositionAlreadyClosingError: somebody else is closing it, or has closed it. There is nothing left to do.
            CloseUnsettled, PositionNotFound, LockTimeout, LockLost, LedgerError, LockFileError: as
                `PositionGuard.close_position`.
        """
        return await self._operations.close_position(position_id, reason, whole=whole, urgent=urgent)

    async def close_positions(self, position_ids: Iterable[str], *, reason: str = "") -> list[Recovery]:
        """Close several, one after the other in the order of their ids; what became of each is in the list."""
        return await self._operations.close_positions(position_ids, reason)

    @overload
    async def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | Ladder | EllipsisType | None = ...,
        reduce_by: Number | None = None,
        or_close: Literal[False] = False,
    ) -> ModifiedPosition: ...

    @overload
    async def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | Ladder | EllipsisType | None = ...,
        reduce_by: Number | None = None,
        or_close: bool,
    ) -> ModifiedPosition | ClosedPosition: ...

    async def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | Ladder | EllipsisType | None = ...,
        reduce_by: Number | None = None,
        or_close: bool = False,
    ) -> ModifiedPosition | ClosedPosition:
        """Set the stop-loss or take-profit to a price, remove it with None, or take contracts off at market.

        Raises:
            InvalidChange, InvalidPosition, PositionAlreadyClosingError, ChangeRefused, ChangeUnsettled, LockTimeout: as
                `PositionGuard.modify_position`, as all others.
        """
        return await self._operations.modify_position(position_id, stop_loss, take_profit, reduce_by, or_close=or_close)

    @asynccontextmanager
    async def closing(self, position_id: str, *, reason: str = "") -> AsyncIterator[AsyncClosing]:
        """Close a position with order code of your own, under the lock; `recover` finishes what you do not `book`.

        Raises:
            PositionAlreadyClosingError: somebody closes it or has closed it, or began to and died: then `recover`.
            PositionNotFound, LockLost, LedgerError, LockFileError: as `close_position`.
        """
        begun = await self._operations.begin_closing(position_id, reason)
        try:
            yield AsyncClosing(begun)
        finally:
            begun.admitted.release()

    @asynccontextmanager
    async def reading(self, position_id: str) -> AsyncIterator[TrackedPosition]:
        """The position as it is while the block lasts: many may read it at once, nobody changes or closes it.

        Raises:
            LockTimeout: somebody changes or closes it, and is not done in time.
            PositionNotFound: it is not tracked on this account.
        """
        admitted = await self._operations.begin_reading(position_id)
        try:
            yield admitted.tracked
        finally:
            admitted.release()

    async def recover(self) -> list[Recovery]:
        """Finish what was begun and not ended on this account, and book what has ended at the venue without us.

        Safe to run in every bot at its start and every minute, all at once; as `PositionGuard.recover`.
        """
        return await self._operations.recover()

    async def settle(self, position_id: str, *, reason: str, exit_price: Number | None = None) -> ClosedPosition:
        """End a position whose close the venue will not explain, by your word. Nothing is sent.

        Raises:
            OperationRefused: a request may still be taken, or `close_position` can end it; nothing was written.
            PositionAlreadyClosingError, PositionNotFound, InvalidPosition, LockTimeout, LockLost, LedgerError: as
                `PositionGuard.settle`.
        """
        return await self._operations.settle(position_id, reason, exit_price)

    async def forget(self, position_id: str, *, reason: str) -> TrackedPosition:
        """Take a position out that was tracked by mistake: its state becomes ``"forgotten"``, its history stays.

        Raises:
            OperationRefused: something was sent for it, or an order of its own rests; nothing was written.
            PositionAlreadyClosingError, PositionNotFound, LockTimeout, LockLost, LedgerError: as
                `PositionGuard.forget`.
        """
        return await self._operations.forget(position_id, reason)


class AsyncClosing:
    """A close that your own code carries out; made by `AsyncPositionGuard.closing`. As `Closing`, awaited."""

    def __init__(self, begun: OpenClose) -> None:
        self._begun = begun

    @property
    def client_order_id(self) -> str:
        """The id that the order must carry: by it the order is found if you die. `sending` returns it, too."""
        return self._begun.client_order_id

    @property
    def token(self) -> int:
        """The fencing token of this hold."""
        return self._begun.admitted.token

    def check(self) -> None:
        """Return if the lock is held at this moment, else raise `LockLost`; call it before every side effect."""
        self._begun.admitted.lock.check()

    def renew(self) -> None:
        """Start the lease anew; raises `LockLost` if it is too late."""
        self._begun.admitted.lock.renew()

    async def sending(self) -> Sending:
        """Journal that an order may be out from now on: its id, as of when it must be signed, how long it may travel.

        Call it before each order: one that sends in slices gets an id for each.

        Raises:
            LockLost, LedgerError: send nothing.
        """
        return await self._begun.announce()

    async def book(self, fills: Sequence[Fill]) -> ClosedPosition:
        """Cancel what rests, and book the P&L of *fills*, which are all that were left of the position.

        Raises:
            InvalidPosition: they are not; nothing was written.
            CloseUnsettled, LockLost, LedgerError: as `AsyncPositionGuard.close_position`.
        """
        return await self._begun.finish(fills)
