"""`PositionGuard`: the one way in which bots on this host change and close positions of one account.

Of all processes, threads and tasks that close a position at the same time, exactly one does it. The others wait until
it is done and are told so; if the closer dies or falls silent, one of them finishes what it began.

Not protected: bots that close positions without a guard, and several hosts on one account.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from poslock.closing.ports import ThreadPorts
from poslock.coroutine import finished
from poslock.guarding import Guarding, OpenClose, Recovery, release

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from types import EllipsisType

    from poslock.exchange.port import Exchange, Sending
    from poslock.ledger.ledger import Ledger
    from poslock.lock.directory import LockDirectory
    from poslock.position import ClosedPosition, Fill, ModifiedPosition, Number, Position, Side, TrackedPosition

__all__ = ["Closing", "PositionGuard", "Recovery"]


class PositionGuard:
    """Guards the positions of one exchange account.

    Args:
        exchange: the account; `PaperExchange` or another implementation of `poslock.exchange.port.Exchange`.
        lock_dir: as for `PositionLock`.
        ledger: path of the ledger, the same for all bots; ``ledger.db`` in the lock directory by default.
        timeout: seconds to wait for whoever is closing. Longer than `stale_after`, so that a silent closer is
            replaced while we wait; 0 to be told "closing" at once; None to wait without limit.
        stale_after: the lease, in seconds.

    Raises:
        ValueError: timeout or stale_after is out of range.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        lock_dir: str | os.PathLike[str] | LockDirectory | None = None,
        ledger: str | os.PathLike[str] | Ledger | None = None,
        timeout: float | None = 35.0,
        stale_after: float = 30.0,
    ) -> None:
        self._guarding = Guarding(
            ThreadPorts(), exchange, lock_dir=lock_dir, ledger=ledger, timeout=timeout, stale_after=stale_after
        )

    def track(self, position: Position) -> TrackedPosition:
        """Enter *position* into the ledger, right after opening it; the same position again changes nothing.

        An id that was closed before starts a new generation. P&L counts fills from this moment on.

        Raises:
            InvalidPositionId, ExchangeUnavailable: nothing is written then.
            PositionConflict: the id, or this side of the market, belongs to a position that is open or closing.
        """
        return finished(self._guarding.track(position))

    def adopt(self, symbol: str, side: Side) -> TrackedPosition:
        """Track what the venue holds on one side of a market, under the id that it has, else ``"SYMBOL SIDE"``.

        Where more is held than was tracked, the position grows, at the average of its entries.

        Raises:
            PositionConflict: the venue holds nothing there, or is filling its orders at this very moment.
            PositionAlreadyClosingError: what was there before is being closed.
            LockTimeout: somebody holds the lock, for anything but a close, and does not come to an end.
            ExchangeUnavailable: the venue does not answer; nothing is written then.
        """
        return finished(self._guarding.adopt(symbol, side))

    def position(self, position_id: str) -> TrackedPosition:
        """What the ledger knows of a position, without waiting for anybody.

        Raises:
            PositionNotFound: it is not tracked on this account.
        """
        return finished(self._guarding.position(position_id))

    def close_position(self, position_id: str, *, reason: str = "") -> ClosedPosition:
        """Close a position at market, book its P&L, and leave no order of it behind.

        For a holder that does not close the position it waits a lease and a second, even if the time-out is shorter.

        Raises:
            PositionAlreadyClosingError: somebody else is closing it, or has closed it. There is nothing left to do.
            PositionNotFound: it is not tracked on this account; nothing was sent.
            CloseUnsettled: the venue did not settle it in time; `recover` or another call goes on with it.
            LockTimeout: somebody holds the lock, for anything but a close, and does not end; nothing was begun.
            LockLost: this process was silent for longer than its lease, and somebody else may have taken over.
            LedgerError, LockFileError: a file cannot be used; `recover` goes on once it can.
            ValueError: *reason* is no text of at most 128 characters.
        """
        return finished(self._guarding.close_position(position_id, reason))

    def close_positions(self, position_ids: Iterable[str], *, reason: str = "") -> list[Recovery]:
        """Close several, one after the other in the order of their ids, each as `close_position` does.

        What became of each is in the list, in that order, errors too; one that fails stops no other.
        """
        return finished(self._guarding.close_positions(position_ids, reason))

    def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | EllipsisType | None = ...,
        reduce_by: Number | None = None,
    ) -> ModifiedPosition:
        """Set the position's stop-loss or take-profit to a price, remove it with None, or take contracts off at market.

        The old order rests until the new one does. A reduce has its P&L booked with the close.

        Raises:
            InvalidChange, InvalidPosition: a price on the wrong side, a reduce that leaves nothing; nothing was sent.
            PositionAlreadyClosingError: it is closing or closed. A modify never waits for a close.
            ChangeRefused: by the venue; the old order stays.
            ChangeUnsettled: the venue did not settle it in time; `recover` or another call goes on with it.
            LockTimeout: others hold the lock, for anything but a close, and do not come to an end.
            PositionNotFound, LockLost, LedgerError, LockFileError: as `close_position`.
        """
        return finished(self._guarding.modify_position(position_id, stop_loss, take_profit, reduce_by))

    @contextmanager
    def closing(self, position_id: str, *, reason: str = "") -> Iterator[Closing]:
        """Close a position with order code of your own, under the lock.

        Left without `Closing.book`, the close stays open, and `recover` or `close_position` finishes it.

        Raises:
            PositionAlreadyClosingError: somebody closes it or has closed it, or began to and died: then `recover`.
            PositionNotFound, LockLost, LedgerError, LockFileError, ValueError: as `close_position`.
        """
        begun = finished(self._guarding.begin_closing(position_id, reason))
        try:
            yield Closing(begun)
        finally:
            release(begun.lock)

    @contextmanager
    def reading(self, position_id: str) -> Iterator[TrackedPosition]:
        """The position as it is while the block lasts: many may read it at once, nobody changes or closes it.

        Raises:
            LockTimeout: somebody changes or closes it, and is not done in time.
            PositionNotFound: it is not tracked on this account.
        """
        lock, tracked = finished(self._guarding.begin_reading(position_id))
        try:
            yield tracked
        finally:
            release(lock)

    def recover(self) -> list[Recovery]:
        """Finish every close and every change on this account that was begun and not ended, where nobody is at it.

        Safe to run in every bot at its start and every minute, all at once. What another bot has meanwhile finished
        is left out; what could not be finished carries its error.
        """
        return finished(self._guarding.recover())


class Closing:
    """A close that your own code carries out; made by `PositionGuard.closing`.

    Calling order: `sending`, then the order with `client_order_id` and what `sending` returns, then `book`.
    """

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

    def sending(self) -> Sending:
        """Journal that the order may be out from now on; as of when it must be signed, and how long it may travel.

        Raises:
            LockLost, LedgerError: send nothing.
        """
        return finished(self._begun.announce())

    def book(self, fills: Sequence[Fill]) -> ClosedPosition:
        """Cancel what rests, and book the P&L of *fills*, which are all that were left of the position.

        Raises:
            InvalidPosition: they are not; nothing was written.
            CloseUnsettled, LockLost, LedgerError: as `PositionGuard.close_position`.
        """
        return finished(self._begun.finish(fills))
