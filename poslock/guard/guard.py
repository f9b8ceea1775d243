"""`PositionGuard`: the one way in which bots on this host change and close positions of one account.

Of all processes, threads and tasks that close a position at the same time, exactly one does it. The others wait until
it is done and are told so; if the closer dies or falls silent, one of them finishes what it began.

Not protected: several hosts on one account. Exits and entries that others make are seen and told apart, not prevented.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, overload

from poslock.bridge import ThreadPorts, finished
from poslock.guard.operations import OpenClose, Operations, Recovery

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from types import EllipsisType
    from typing import Self

    from poslock.exchange.port import Exchange, Sending
    from poslock.ledger.ledger import Ledger
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import ClosedPosition, Fill, Ladder, ModifiedPosition, Number, Position, Side, TrackedPosition

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
        TypeError: *exchange* is none, or has coroutines; the message has the line to write.
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
        self._operations = Operations(
            ThreadPorts(), exchange, lock_dir=lock_dir, ledger=ledger, timeout=timeout, stale_after=stale_after
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the guard's ledger, in all threads, each when its transaction has ended; `with` does it at its end.

        The exchange, and a `Ledger` that was handed to it, stay open: they are yours. The guard can be used again; it
        opens the ledger anew.
        """
        finished(self._operations.close())

    def track(self, position: Position, *, entry_order_ids: Iterable[str] = (), verify: bool = True) -> TrackedPosition:
        """Enter *position* into the ledger, right after opening it; the same position again changes nothing.

        The venue is asked what it holds on the leg: fewer contracts than are tracked, or another contract size or
        settle currency, are refused; more are accepted, with a warning. P&L counts exits from this moment on. If a
        position of that id, or on that leg, has ended at the venue, it is booked first. An id that was closed before
        starts a new generation.

        Args:
            position: what was opened.
            entry_order_ids: the venue's or your client ids of the orders that opened it. With them nothing that came
                later is taken for the entry.
            verify: whether to look until the trades explain what is held, or the same was read for as long as the venue
                may take to show a change. Without it the first look counts that shows something held.

        Raises:
            InvalidPositionId, InvalidPosition, ExchangeUnavailable: nothing is written then.
            PositionConflict: the venue contradicts it, or the id or this side of the market belongs to another position
                that is open or closing.
            CloseUnsettled: what was there before has ended, and the venue does not explain how.
        """
        return finished(self._operations.track(position, entry_order_ids, verify=verify))

    def adopt(self, symbol: str, side: Side) -> TrackedPosition:
        """Track what the venue holds on one side of a market, under the id that it has, else ``"SYMBOL SIDE"``.

        Where more is held than was tracked, the position grows, at the average of its entries. The fees of the entries
        that the venue shows, of a week at most, become the position's entry fee. A position that has ended is booked.

        Raises:
            PositionConflict: the venue holds nothing there, or is filling its orders at this very moment.
            PositionAlreadyClosingError: what was there before is being closed.
            LockTimeout: somebody holds the lock, for anything but a close, and does not come to an end.
            ExchangeUnavailable: the venue does not answer; nothing is written then.
        """
        return finished(self._operations.adopt(symbol, side))

    def position(self, position_id: str) -> TrackedPosition:
        """What the ledger knows of a position, without waiting for anybody.

        Raises:
            PositionNotFound: it is not tracked on this account.
        """
        return finished(self._operations.position(position_id))

    def close_position(
        self, position_id: str, *, reason: str = "", whole: bool = False, urgent: bool = False
    ) -> ClosedPosition:
        """Close a position at market, book its P&L, and leave no order of it behind.

        Only the contracts of the position are closed. What the venue holds beyond them is left, with its orders, and
        `ClosedPosition.left_at_venue` says how much that is. If the position has ended by itself, nothing is sent: its
        P&L is booked, and `ClosedPosition.ended_by` says how it ended. It waits for whoever modifies or reads the
        position, whatever the time-out.

        Args:
            position_id: as it was tracked.
            reason: for the history, which keeps 128 characters of it.
            whole: close all that the leg holds; what was added since becomes a part of the position.
            urgent: send what the ledger says is left, reduce-only, before the venue is asked for anything, and look
                then. If the position has ended and somebody has entered again, it sells of that, up to its size. With
                an order or a change under way it is a close like any other.

        Raises:
            PositionAlreadyClosingError: somebody else is closing it, or has closed it. There is nothing left to do.
            PositionNotFound: it is not tracked on this account; nothing was sent.
            CloseUnsettled: the venue did not explain in time what became of it; `recover` or another call goes on.
            LockTimeout: somebody holds it for something else, and does not come to an end; nothing was begun.
            LockLost: this process was silent for longer than its lease, and somebody else may have taken over.
            LedgerError, LockFileError: a file cannot be used; `recover` goes on once it can.
        """
        return finished(self._operations.close_position(position_id, reason, whole=whole, urgent=urgent))

    def close_positions(self, position_ids: Iterable[str], *, reason: str = "") -> list[Recovery]:
        """Close several, one after the other in the order of their ids, each as `close_position` does.

        What became of each is in the list, in that order, errors too; one that fails stops no other.
        """
        return finished(self._operations.close_positions(position_ids, reason))

    @overload
    def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | Ladder | EllipsisType | None = ...,
        reduce_by: Number | None = None,
        or_close: Literal[False] = False,
    ) -> ModifiedPosition: ...

    @overload
    def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | Ladder | EllipsisType | None = ...,
        reduce_by: Number | None = None,
        or_close: bool,
    ) -> ModifiedPosition | ClosedPosition: ...

    def modify_position(
        self,
        position_id: str,
        *,
        stop_loss: Number | EllipsisType | None = ...,
        take_profit: Number | Ladder | EllipsisType | None = ...,
        reduce_by: Number | None = None,
        or_close: bool = False,
    ) -> ModifiedPosition | ClosedPosition:
        """Set the position's stop-loss or take-profit to a price, remove it with None, or take contracts off at market.

        The old order rests until the new one does. A reduce has its P&L booked with the close.

        Prices go to the venue's tick, rounded towards the market: a stop-loss of a long up, its take-profit down, of a
        short the reverse. So an order triggers up to a tick before the price that was asked for, and never after it;
        `ModifiedPosition` has the price that rests. Contracts are cut down to the venue's step.

        Args:
            position_id: as it was tracked.
            stop_loss: a price, or None to remove it. One that is larger than what is left follows that at the next
                change or `recover`. What is larger than the venue's largest order rests as several, at most ten.
            take_profit: a price, None, or a ladder ``[(price, contracts), ...]`` of at most ten rungs, which add up to
                no more than is left. All rungs rest before what was there before goes. Targets that others have set are
                not replaced.
            reduce_by: contracts; it leaves none that are less than the venue's smallest order.
            or_close: close the position at market, if the price has passed the wanted stop-loss already, by the venue's
                own price or by its refusal for that reason, and no other stop-loss rests for all of it.

        Raises:
            InvalidChange, InvalidPosition: a price on the wrong side once it is rounded, a size that is less than
                the venue's smallest order, a reduce that leaves nothing; nothing was sent.
            PositionAlreadyClosingError: it is closing or closed. A modify never waits for a close.
            ChangeRefused: by the venue; the old order stays.
            ChangeUnsettled: the venue did not settle it in time; `recover` or another call goes on with it.
            LockTimeout: others hold the lock, for anything but a close, and do not come to an end.
            PositionNotFound, LockLost, LedgerError, LockFileError: as `close_position`.
        """
        return finished(
            self._operations.modify_position(position_id, stop_loss, take_profit, reduce_by, or_close=or_close)
        )

    @contextmanager
    def closing(self, position_id: str, *, reason: str = "") -> Iterator[Closing]:
        """Close a position with order code of your own, under the lock.

        Left without `Closing.book`, the close stays open, and `recover` or `close_position` finishes it.

        Raises:
            PositionAlreadyClosingError: somebody closes it or has closed it, or began to and died: then `recover`.
            PositionNotFound, LockLost, LedgerError, LockFileError: as `close_position`.
        """
        begun = finished(self._operations.begin_closing(position_id, reason))
        try:
            yield Closing(begun)
        finally:
            begun.admitted.release()

    @contextmanager
    def reading(self, position_id: str) -> Iterator[TrackedPosition]:
        """The position as it is while the block lasts: many may read it at once, nobody changes or closes it.

        Raises:
            LockTimeout: somebody changes or closes it, and is not done in time.
            PositionNotFound: it is not tracked on this account.
        """
        admitted = finished(self._operations.begin_reading(position_id))
        try:
            yield admitted.tracked
        finally:
            admitted.release()

    def recover(self) -> list[Recovery]:
        """Finish every close and every change on this account that was begun and not ended, where nobody is at it.

        Positions that have ended at the venue without us (a stop-loss, a liquidation, by hand) are swept and booked
        too: one request lists all legs, and only those are looked at that are not as they were tracked. Safe to run in
        every bot at its start and every minute, all at once. What another bot has meanwhile finished is left out; what
        could not be finished carries its error.

        Raises:
            ExchangeUnavailable: the venue does not say what it holds, and there was nothing else to finish.
            LedgerError, LockFileError: a file cannot be used.
        """
        return finished(self._operations.recover())

    def settle(self, position_id: str, *, reason: str, exit_price: Number | None = None) -> ClosedPosition:
        """End a position whose close the venue will not explain, by your word. Nothing is sent.

        What the trades prove is booked. The rest is in `ClosedPosition.written_off` and in no P&L; with *exit_price* it
        is booked at that price, and marked as your word. Only the position's own orders are cancelled. It works when
        the venue does not answer, and the history says what was not seen.

        Raises:
            OperationRefused: a request may still be taken, or `close_position` can end it; nothing was written.
            PositionAlreadyClosingError: somebody closes it, or it is closed.
            PositionNotFound, InvalidPosition, LockTimeout, LockLost, LedgerError: as `close_position`.
        """
        return finished(self._operations.settle(position_id, reason, exit_price))

    def forget(self, position_id: str, *, reason: str) -> TrackedPosition:
        """Take a position out that was tracked by mistake: its state becomes ``"forgotten"``, its history stays.

        Raises:
            OperationRefused: something was sent for it, or an order of its own rests; nothing was written.
            PositionAlreadyClosingError: it is closing or closed.
            PositionNotFound, LockTimeout, LockLost, LedgerError: as `close_position`.
        """
        return finished(self._operations.forget(position_id, reason))


class Closing:
    """A close that your own code carries out; made by `PositionGuard.closing`.

    Calling order: `sending`, then the order with `client_order_id` and what `sending` returns, then `book`.
    """

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

    def sending(self) -> Sending:
        """Journal that an order may be out from now on: its id, as of when it must be signed, how long it may travel.

        Call it before each order: one that sends in slices gets an id for each.

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
