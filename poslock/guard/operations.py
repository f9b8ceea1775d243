"""What a guard does, written once for threads and tasks: every call that may take time is awaited through `Ports`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING

from poslock.closing.change import Changes
from poslock.closing.close import Close
from poslock.closing.leg import Watch
from poslock.closing.own_orders import OwnOrders
from poslock.closing.session import Means
from poslock.closing.wanted import Wanted
from poslock.errors import (
    ExchangeError,
    InvalidPosition,
    LockTimeout,
    OperationRefused,
    PositionAlreadyClosingError,
    PoslockError,
    printable,
    quoted,
    shown,
)
from poslock.exchange.port import LONGEST_BACK_OFF, SCOPES, AsyncExchange, Exchange, Leg
from poslock.guard.admission import Admission, Admitted, expect_open
from poslock.guard.following import Following
from poslock.guard.settling import Settling
from poslock.guard.several import Several
from poslock.guard.tracking import Tracking
from poslock.ledger.ledger import Ledger
from poslock.lock.files.back_off import BackOffFile
from poslock.lock.files.directory import open_directory
from poslock.lock.files.memory import MemoryFile
from poslock.lock.record import check_position_id
from poslock.lock.transitions import checked_lease_ns, checked_timeout
from poslock.position import ClosedPosition, ModifiedPosition, Position, name, positive, side_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence
    from types import EllipsisType

    from poslock.bridge import Ports
    from poslock.exchange.port import Sending
    from poslock.lock.files.directory import LockDirectory
    from poslock.position import Fill, Ladder, Number, TrackedPosition

_log = logging.getLogger("poslock.guard")

_MAX_REASON = 128
_PORT = ("prepare", "time_ms", "holding", "trades", "place", "order", "open_orders", "cancel")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` or `close_positions` achieved for one position.

    ``closed`` is its close, None if only changes had to be finished; ``error`` says why it is not finished yet.
    """

    position_id: str
    closed: ClosedPosition | None
    error: PoslockError | None


class Operations:
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
        _expect_port(exchange, asynchronous=ports.asynchronous)
        self.directory = open_directory(lock_dir)
        path = f"{self.directory.path}/ledger.db" if ledger is None else ledger
        books = path if isinstance(path, Ledger) else Ledger(str(Path(path).absolute()))
        self._own = None if isinstance(path, Ledger) else books
        # By name: isinstance does not see what an exchange that stands for another one passes on.
        if (share := getattr(exchange, "share_back_off", None)) is not None:
            share(BackOffFile(self.directory, exchange.account, SCOPES, LONGEST_BACK_OFF))
        if (share := getattr(exchange, "share_memory", None)) is not None:
            share(MemoryFile(self.directory, exchange.account))
        lease = checked_lease_ns(stale_after) / 1e9
        self.means = Means(ports, exchange, books, lease, checked_timeout(timeout))
        self._admission = Admission(self.means, self.directory)
        self._tracking = Tracking(self.means, self._admission)
        self._following = Following(self.means, self._admission)

    async def close(self) -> None:
        if self._own is not None:
            await self.means.ports.ledger(self._own.close_file)

    async def track(self, position: Position, entry_order_ids: Iterable[str], *, verify: bool) -> TrackedPosition:
        check_position_id(position.id)
        ids = _checked_ids(entry_order_ids)
        self.directory.prepare()
        return await self._tracking.track(position, ids, verify=verify)

    async def adopt(self, symbol: str, side: str) -> TrackedPosition:
        leg = Leg(name("symbol", symbol), side_of(side))
        self.directory.prepare()
        return await self._tracking.adopt(leg)

    async def position(self, position_id: str) -> TrackedPosition:
        return await self._admission.position(position_id)

    async def close_position(
        self,
        position_id: str,
        reason: str,
        *,
        whole: bool = False,
        urgent: bool = False,
        generation: int | None = None,
    ) -> ClosedPosition:
        if urgent and (whole or self.means.exchange.spot):
            # Without a look nobody knows what all is; and on spot an order is for what it says, whatever is held.
            bound = "with whole=True nothing bounds" if whole else "on spot nothing but a look bounds"
            raise OperationRefused(position_id, "an urgent close", f"{bound} what it sells; close without urgent")
        why = _as_log_text(reason)
        seen = await self._admission.position(position_id, generation)
        return await self._close(await self._admission.to_close(seen, why), why, whole=whole, urgent=urgent)

    async def close_positions(self, position_ids: Iterable[str], reason: str) -> list[Recovery]:
        why = _as_log_text(reason)
        # In one order for everybody: two bots that close the same legs do not hold each other up.
        ids, several = sorted(set(position_ids)), Several(self.means, self._admission, why)
        outcomes = await several.close(ids)
        for each in outcomes.values():
            if isinstance(each, ClosedPosition):
                log_closed(each)
        busy = [await self._attempted(each, self.close_position(each, why)) for each in several.busy]
        recoveries = {each.position_id: each for each in busy} | {
            each: Recovery(each, None, found) if isinstance(found, PoslockError) else Recovery(each, found, None)
            for each, found in outcomes.items()
        }
        return [recoveries[each] for each in ids]

    async def modify_position(
        self,
        position_id: str,
        stop_loss: Number | EllipsisType | None,
        take_profit: Number | Ladder | EllipsisType | None,
        reduce_by: Number | None,
        *,
        or_close: bool = False,
    ) -> ModifiedPosition | ClosedPosition:
        wanted = Wanted.of(stop_loss, take_profit, reduce_by, or_close=or_close)
        admitted = await self._admission.to_change(await self.position(position_id), "modify")
        closes = False
        try:
            session = admitted.session()
            made = await Changes(session).run(wanted)
            if isinstance(made, ModifiedPosition):
                return made
            closes = True
            # Under the same lock: nobody sets a stop in between, and whoever waits is told once it is closing.
            closed = await Close(session, reason=_as_log_text(made.why)).run()
        finally:
            admitted.release(is_over=closes)
        log_closed(closed)
        return closed

    async def recover(self) -> list[Recovery]:
        self.directory.prepare()
        ledger, account = self.means.ledger, self.means.exchange.account
        found: list[Recovery] = []
        for key in await self.means.ports.ledger(ledger.unfinished, account):
            if (error := _turned_away(found)) is None:
                attempt = self._recover(key.position_id, key.generation)
                found.append(await self._attempted(key.position_id, attempt))
            else:  # asking for the next one would be answered alike, and prolong a ban
                found.append(Recovery(key.position_id, None, error))
        for tracked in [] if _turned_away(found) else await self._ended(is_needed=not found):
            ended = await self._attempted(tracked.position.id, self._tracking.reconcile(tracked))
            if ended.closed is not None:
                log_closed(ended.closed)
            if not _is_at_work(ended):
                found.append(ended)
            if _turned_away(found):
                break
        at_fault = {each.position_id for each in found if each.error is not None}
        for tracked in [] if _turned_away(found) else await self._following.larger_than_left():
            if tracked.position.id not in at_fault:
                followed = await self._attempted(tracked.position.id, self._following.follow(tracked))
                found += [] if _is_at_work(followed) else [followed]
            if _turned_away(found):
                break
        return [each for each in found if not _is_done_by_others(each.error)]

    async def _ended(self, *, is_needed: bool) -> list[TrackedPosition]:
        """Positions that have ended without us; none if the venue does not say, and something else is to be told."""
        try:
            return await self._tracking.ended()
        except ExchangeError as error:
            if is_needed:
                raise
            fields = {"pid": os.getpid(), "step": "reconcile"}
            _log.warning("the venue does not say what it holds, so nothing was reconciled: %s", error, extra=fields)
            return []

    async def settle(self, position_id: str, reason: str, exit_price: Number | None) -> ClosedPosition:
        why = _as_log_text(reason)
        price = None if exit_price is None else positive("exit_price", exit_price)
        account = self.means.exchange.account
        older = await self.means.ports.ledger(self.means.ledger.superseded, position_id, account)
        seen = await self._admission.position(position_id, older[0].generation if older else None)
        admitted = await self._admission.to_close(seen, f"settle: {why}")
        try:
            closed = await Settling(admitted.session()).settle(why, price)
        finally:
            admitted.release()
        log_closed(closed)
        return closed

    async def forget(self, position_id: str, reason: str) -> TrackedPosition:
        why = _as_log_text(reason)
        seen = await self.position(position_id)
        admitted = await self._admission.to_change(seen, f"forget: {why}")
        try:
            await Settling(admitted.session()).forget(why)
        finally:
            admitted.release(is_over=True)
        return await self._admission.position(position_id, seen.generation)

    async def begin_closing(self, position_id: str, reason: str) -> OpenClose:
        """Take the lock and begin a close that the bot's own code carries out; the caller releases it."""
        why = _as_log_text(reason)
        admitted = await self._admission.to_close(await self.position(position_id), why)
        try:
            expect_open(admitted.tracked)  # else an order may be out that this bot's code knows nothing of
            return await self._begun(admitted, why)
        except BaseException:
            admitted.release()
            raise

    async def begin_reading(self, position_id: str) -> Admitted:
        """Take the shared lock, then look; the caller releases it."""
        return await self._admission.to_read(position_id)

    async def _begun(self, admitted: Admitted, reason: str) -> OpenClose:
        session = admitted.session()
        close = OwnOrders(session, reason=reason)
        await session.ask(session.exchange.prepare)
        watch = await Watch.of(session)
        decision = await watch.decision()
        if decision.act in {"ended", "left"}:
            log_closed(await close.end(watch, decision))
            raise PositionAlreadyClosingError(session.key.position_id, "closed")
        if decision.act != "send":
            raise session.unsettled("open", decision.reason)
        # Else the bot would be told to book what was gone before. (test_a_block_is_for_what_is_left_when_it_begins)
        await watch.keep(session)
        await close.begin()
        return OpenClose(admitted, close)

    async def _attempted(self, position_id: str, attempt: Awaitable[ClosedPosition | None]) -> Recovery:
        try:
            return Recovery(position_id, await attempt, None)
        except PoslockError as error:
            return Recovery(position_id, None, error)

    async def _recover(self, position_id: str, generation: int) -> ClosedPosition | None:
        seen = await self._admission.position(position_id, generation)
        closing = seen.state == "closing"
        try:  # whoever is at it will finish it
            admitted = await self._admission.if_free(
                seen, "close: recovery" if closing else "modify: recovery", "close" if closing else "change"
            )
        except LockTimeout as error:
            if closing:
                raise PositionAlreadyClosingError(position_id, "closing", error.holder) from error
            raise
        if admitted.tracked.state == "closing":
            return await self._close(admitted, "recovery")
        try:
            await Changes(admitted.session()).finish()
        finally:
            admitted.release()
        return None

    async def _close(
        self, admitted: Admitted, reason: str, *, whole: bool = False, urgent: bool = False
    ) -> ClosedPosition:
        try:
            closed = await Close(admitted.session(), reason=reason, whole=whole, urgent=urgent).run()
        finally:
            admitted.release()
        log_closed(closed)
        return closed


@dataclass(frozen=True, slots=True)
class OpenClose:
    """A close that a bot's own code carries out: its lock, and what to do under it."""

    admitted: Admitted
    close: OwnOrders

    @property
    def client_order_id(self) -> str:
        """The id of the order that was announced last."""
        return self.close.client_order_id

    async def announce(self) -> Sending:
        """Journal it; how to send it."""
        return await self.close.announce()

    async def finish(self, fills: Sequence[Fill]) -> ClosedPosition:
        """Book them."""
        closed = await self.close.finish(fills)
        log_closed(closed)
        return closed


def log_closed(closed: ClosedPosition) -> None:
    """Say that it is closed, and what is left at the venue."""
    fields = {"position": closed.position_id, "token": closed.token, "pid": os.getpid(), "step": "booked"}
    if closed.left_at_venue:
        what = "closed position %s, net P&L %s; %s contracts are left at the venue, which are not of it"
        _log.warning(what, quoted(closed.position_id), closed.net_pnl, closed.left_at_venue, extra=fields)
    elif _log.isEnabledFor(logging.INFO):
        _log.info("closed position %s, net P&L %s", quoted(closed.position_id), closed.net_pnl, extra=fields)


def _is_done_by_others(error: PoslockError | None) -> bool:
    return isinstance(error, PositionAlreadyClosingError) and error.state == "closed"


def _turned_away(found: Sequence[Recovery]) -> PoslockError | None:
    """The error of the last one if the venue wants to be left alone for longer than the guard waits."""
    error = found[-1].error if found else None
    return error if getattr(error, "retry_after", None) is not None else None


def _is_at_work(ended: Recovery) -> bool:
    """Whether nothing is to be said: the position is open after all, or its holder is at it."""
    if ended.error is None:
        return ended.closed is None
    return isinstance(ended.error, LockTimeout | PositionAlreadyClosingError)


def _as_log_text(reason: object) -> str:
    """*reason* as a line for the history: a text for people must never keep a close from happening, so it is cut."""
    text = "" if reason is None else str(reason)
    return (text if text.isprintable() else printable(text))[:_MAX_REASON]


def _checked_ids(order_ids: Iterable[object]) -> tuple[str, ...]:
    ids = (order_ids,) if isinstance(order_ids, str) else tuple(order_ids)
    found = tuple(each for each in ids if isinstance(each, str) and each)
    if len(found) < len(ids) or isinstance(order_ids, str):
        raise InvalidPosition("entry_order_ids", order_ids, "must be a list of order ids, as text")
    return found


def _expect_port(exchange: object, *, asynchronous: bool) -> None:
    """Return if *exchange* answers the guard's questions, as coroutines only if the guard is *asynchronous*.

    Raises:
        TypeError: it does not; the message has the line to write instead.
    """
    guard = "AsyncPositionGuard" if asynchronous else "PositionGuard"
    if callable(getattr(exchange, "fetch", None)) and callable(getattr(exchange, "sign", None)):
        awaited = iscoroutinefunction(getattr(exchange, "fetch", None))
        right = "AsyncPositionGuard" if awaited else guard
        adapter = "AsyncCcxtExchange" if awaited else "CcxtExchange"
        raise TypeError(f'a ccxt client is no exchange of poslock; write {right}({adapter}(client, account="main"))')
    missing = [name for name in _PORT if isinstance(exchange, type) or not callable(getattr(exchange, name, None))]
    if missing:
        what = "PaperExchange(path), CcxtExchange(client, account=...) or another poslock.exchange.port.Exchange"
        raise TypeError(
            f"{shown(exchange)} is no exchange: it has no {missing[0]}(); write {guard}(exchange) with {what}"
        )
    if not asynchronous and any(iscoroutinefunction(getattr(exchange, name)) for name in _PORT):
        raise TypeError("the requests of this exchange are coroutines; write AsyncPositionGuard(exchange)")
