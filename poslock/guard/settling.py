"""Ending a position by the operator's word: `settle` where the venue will not explain it, `forget` what is none.

Both hold the lock, write with the token, send nothing, and cancel no order but the position's own.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from poslock.closing.leg import Watch
from poslock.errors import ChangeUnsettled, CloseUnsettled, ExchangeError, LedgerError, OperationRefused
from poslock.pnl import realized_pnl
from poslock.position import EXACT, ClosedPosition, Fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.closing.session import Sent, Session
    from poslock.exchange.port import Order

_CLOSABLE = {"send": "close_position", "ended": "close_position or recover", "left": "close_position or recover"}


class Settling:
    """The operator's word on one position, under its lock."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ledger = session.means.ledger

    async def settle(self, reason: str, exit_price: Decimal | None) -> ClosedPosition:
        """Book what the trades prove; the rest is written off, or booked at *exit_price*.

        Raises:
            OperationRefused: a request may still be taken, or `close_position` can end it.
        """
        session = self._session
        is_seen = await self._has_answered()
        await self._expect_nothing_under_way("settle")
        watch = await Watch.of(session)
        try:
            decision = await watch.decision() if is_seen else None
        except (ExchangeError, CloseUnsettled):  # it does not answer: the operator's word does without
            decision, is_seen = None, False
        if decision is not None:
            if decision.act in _CLOSABLE:
                way = _CLOSABLE[decision.act]
                raise OperationRefused(
                    session.key.position_id, "settle", f"{way} can end it: {decision.reason or 'try'}"
                )
            await self._cancel_own()
        closed = self._closed(watch, exit_price, left=_left(watch) if is_seen else None)
        why = (
            reason if is_seen else f"{reason} (the venue did not answer: its holding, trades and orders were not seen)"
        )
        await session.tell(self._ledger.unsettled, "", watch.trades)
        await session.tell(self._ledger.settle, closed, why)
        return closed

    async def forget(self, reason: str) -> None:
        """Take a position out that was tracked by mistake.

        Raises:
            OperationRefused: something was sent for it, or an order of its own rests.
        """
        session = self._session
        await self._has_answered()
        await self._expect_nothing_under_way("forget")
        if resting := await session.own_stops():
            why = f"orders of its own rest: {', '.join(each.order_id for each in resting)}; remove them first"
            raise OperationRefused(session.key.position_id, "forget", why)
        try:
            await session.tell(self._ledger.forget, reason)
        except LedgerError as error:
            raise OperationRefused(session.key.position_id, "forget", error.why) from error

    async def _has_answered(self) -> bool:
        """Whether the venue answers. Its clock is known then, by which requests expire: ours may be ahead of it."""
        try:
            await self._session.venue(self._session.exchange.prepare)
        except ExchangeError:
            return False
        return True

    async def _expect_nothing_under_way(self, operation: str) -> None:
        session, stamp = self._session, self._session.stamp()
        standing = await session.standing()
        attempts = standing.close.attempts if standing.close else ()
        sent: list[Sent] = [*attempts, *(each for each in standing.changes if each.step == "sending")]
        denied_for = int(session.exchange.denies_for * 1000)
        left_ms = max((each.expires_at_ms + denied_for - stamp.at_ms for each in sent), default=0)
        if left_ms > 0:
            why = f"an order may still be taken, or be denied, for {left_ms / 1000:.1f} s; wait for that"
            raise OperationRefused(session.key.position_id, operation, why)

    async def _cancel_own(self) -> None:
        own: Sequence[Order] = ()
        with suppress(CloseUnsettled, ChangeUnsettled):
            own = await self._session.own_stops()
        await self._session.cancel(*own)

    def _closed(self, watch: Watch, exit_price: Decimal | None, *, left: Decimal | None) -> ClosedPosition:
        session = self._session
        fills, position = watch.view(watch.holding).exits, session.tracked.position
        with localcontext(EXACT):
            rest = position.contracts - sum((fill.contracts for fill in fills), Decimal(0))
        said: tuple[Fill, ...] = ()
        at_ms = fills[-1].at_ms if fills else session.exchange.time_ms()
        if exit_price is not None and rest:
            said = (Fill("", None, exit_price, rest, Decimal(0), position.settle, at_ms),)
        pnl = realized_pnl(position, (*fills, *said), Decimal(0))
        return ClosedPosition(
            position_id=session.key.position_id,
            exit_price=pnl.exit_price,
            gross_pnl=pnl.gross,
            fees=pnl.fees,
            funding=pnl.funding,
            net_pnl=pnl.net,
            fills=fills,
            client_order_id=None,
            token=session.token,
            closed_at=datetime.fromtimestamp(at_ms / 1000, UTC),
            ended_by="settle",
            left_at_venue=left,
            written_off=Decimal(0) if said else rest,
            by_operator=rest if said else Decimal(0),
        )


def _left(watch: Watch) -> Decimal:
    return watch.holding.contracts if watch.holding else Decimal(0)
