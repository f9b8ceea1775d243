"""Taking positions into the ledger, and seeing which of them have ended without us.

Purpose: the ledger says of a position what the venue says of its leg: what is held there, at which price, which trades
led to it. A position that has ended at the venue is swept and booked before another one takes its place.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from poslock.closing.close import Close
from poslock.closing.exits import is_explained
from poslock.closing.leg import Watch, enlarged, filled, in_terms_of_the_table, merged
from poslock.closing.session import LONGEST_PAUSE, READ_PAUSES, Patience, Session, pauses
from poslock.errors import (
    CloseUnsettled,
    ExchangeUnavailable,
    LockTimeout,
    PositionAlreadyClosingError,
    PositionConflict,
    RateLimited,
    UnsupportedMarket,
    quoted,
    shown,
)
from poslock.exchange.port import Holding, Leg
from poslock.guard.admission import NoHold
from poslock.guard.first_look import FirstLook, entry_fee, first_look, is_complete, unverified, verified
from poslock.ledger.journal import CloseKey, LegAtTracking
from poslock.position import EXACT, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poslock.closing.exits import Decision
    from poslock.closing.session import Means
    from poslock.guard.admission import Admission, Admitted
    from poslock.position import ClosedPosition, TrackedPosition, Trade

_log = logging.getLogger("poslock.guard")

_NONE = Decimal(0)
_HOUR_MS = 3_600_000
_MARGIN_MS = 60_000  # venues round the times of trades
# How far back `adopt` asks for the entry, whose fees it books: what every venue tells in one question.
_ENTRY_MS = 7 * 24 * _HOUR_MS - _HOUR_MS


class Tracking:
    """Tracks and adopts the positions of one account, and books those that have ended by themselves."""

    def __init__(self, means: Means, admission: Admission) -> None:
        self._means = means
        self._admission = admission
        self._exchange: Any = means.exchange  # as in `Session`

    async def track(self, position: Position, entry_order_ids: Sequence[str], *, verify: bool) -> TrackedPosition:
        """As `PositionGuard.track` says."""
        leg = Leg(position.symbol, position.side)
        await self._venue(self._exchange.prepare)
        known = await self._alive(position.id, leg)
        held_back: Admitted | None = None
        try:
            for each in known:
                if each.state == "open":
                    await self._book_if_ended(each)
                else:
                    held_back = await self._finish_or_hold(each)
            for each in await self._alive(position.id, leg):
                if each.state == "open":
                    return self._as_known(each, position)
            since_ms = self._exchange.time_ms()
            look = await self._look(
                position.id, leg, since_ms, entry_order_ids, _HOUR_MS, contracts=position.contracts, verify=verify
            )
            _check_facts(position, look)
            after = None if held_back is None else await self._give_up(held_back)
            tracked = await self._enter(position, since_ms, look.leg, after)
        finally:
            if held_back is not None:
                held_back.release()
        if look.leg.held > position.contracts and not self._exchange.spot:
            _warn(position, f"the venue holds {look.leg.held} contracts, {position.contracts} are tracked")
        return tracked

    async def adopt(self, leg: Leg) -> TrackedPosition:
        """As `PositionGuard.adopt` says."""
        await self._venue(self._exchange.prepare)
        known = await self._ledger(self._means.ledger.on_leg, self._exchange.account, leg.symbol, leg.side)
        if known is not None:
            if known.state == "closing":
                raise PositionAlreadyClosingError(known.position.id, "closing")
            grown_to = await self._grow(known)
            if grown_to is not None:
                return grown_to
        position_id = known.position.id if known else f"{leg.symbol} {leg.side}"
        since_ms = self._exchange.time_ms()
        look = await self._look(position_id, leg, since_ms, (), _ENTRY_MS)
        holding = look.holding
        if holding.entry_price is None:
            why = "does not say what a balance was bought for"
            raise UnsupportedMarket(f"the venue {why}; track() {quoted(leg.symbol)} with what you paid")
        position = Position(
            position_id,
            leg.symbol,
            leg.side,
            look.leg.held,
            holding.entry_price,
            contract_size=holding.contract_size,
            inverse=holding.inverse,
            settle=holding.settle,
            entry_fee=entry_fee(look.trades, look.leg.held, holding.settle),
        )
        return await self._enter(position, since_ms, look.leg, None)

    async def ended(self) -> list[TrackedPosition]:
        """Open positions of the account that the venue does not hold as they were tracked: from one request."""
        ledger = self._means.ledger
        found = await self._ledger(ledger.alive, self._exchange.account)
        still_open = {_leg(each): each for each in found if each.state == "open"}
        if not still_open:
            return []
        await self._venue(self._exchange.prepare)
        held = {each.leg: each for each in await self._venue(self._exchange.holdings, [*still_open])}
        return [each for leg, each in still_open.items() if not await self._is_as_tracked(each, held.get(leg))]

    async def reconcile(self, seen: TrackedPosition) -> ClosedPosition | None:
        """Book a position if it has ended at the venue; None if it has not, or somebody is at it.

        The venue is looked at without the lock: whoever wants to close the position meanwhile does not wait for us.
        """
        session = Session(self._means, NoHold(self._means.lease), await self._admission.standing(seen), 0)
        watch = await Watch.of(session)
        decision = await watch.decision()
        if decision.act == "send" and not watch.has_news:
            return None
        admitted = await self._admission.if_free(seen, "reconcile", "change")
        try:
            if decision.act in {"ended", "left"}:
                return await self._booked(admitted)
            await self._note(admitted, watch, decision)
        finally:
            admitted.release()
        return None

    # What is on the leg, or has the id, already.

    async def _alive(self, position_id: str, leg: Leg) -> list[TrackedPosition]:
        """What is open or closing under the id, or on the leg."""
        ledger, account = self._means.ledger, self._exchange.account
        on_leg = await self._ledger(ledger.on_leg, account, leg.symbol, leg.side)
        named: TrackedPosition | None = await self._ledger(ledger.find, position_id, None, account)
        if named is not None and named.state in {"open", "closing"}:
            if (await self._admission.standing(named)).leg.later is not None:
                named = None  # nothing is sent for it any more; the id is free
            elif named.state == "closing" and _leg(named) != leg:
                why = f"it is closing on the {named.position.side} side of {named.position.symbol}"
                raise PositionConflict(position_id, why)
        found = {_key(each): each for each in (named, on_leg) if each is not None}
        return [each for each in found.values() if each.state in {"open", "closing"}]

    async def _book_if_ended(self, seen: TrackedPosition) -> None:
        # Its trades too: what was entered again at the same price looks the same.
        # (test_a_position_whose_stop_filled_is_not_the_one_that_was_opened_after_it)
        leg, since_ms = _leg(seen), await self._since_ms(seen)
        holding = await self._venue(self._exchange.holding, leg)
        if await self._is_as_tracked(seen, holding, await self._venue(self._exchange.trades, leg, since_ms)):
            return
        try:
            await self.reconcile(seen)
        except PositionAlreadyClosingError as error:
            if error.state != "closed":
                raise PositionConflict(seen.position.id, "it is being closed") from error
        except LockTimeout as error:
            raise PositionConflict(seen.position.id, f"it is held by {error.holder}; track again later") from error

    async def _since_ms(self, seen: TrackedPosition) -> int:
        standing = await self._admission.standing(seen)
        return standing.leg.since_ms

    async def _is_as_tracked(self, seen: TrackedPosition, holding: Holding | None, fresh: Sequence[Trade] = ()) -> bool:
        now = await self._admission.standing(seen)
        table = in_terms_of_the_table(seen.position, now.leg, filled(now.changes), spot=self._exchange.spot)
        return is_explained(table, holding, merged(now.leg.trades, fresh))

    async def _booked(self, admitted: Admitted) -> ClosedPosition | None:
        if admitted.tracked.state != "open":  # somebody began to close it meanwhile
            return None
        session = admitted.session()
        watch = await Watch.of(session)
        decision = await watch.decision()
        if decision.act in {"ended", "left"}:
            return await Close(session, reason="it ended at the venue").end(watch, decision)
        await self._note(admitted, watch, decision)
        return None

    async def _note(self, admitted: Admitted, watch: Watch, decision: Decision) -> None:
        """Keep what the leg has shown; raise `CloseUnsettled` if nothing follows from it."""
        why = decision.reason if decision.act == "unsettled" else ""
        session = admitted.session()
        await watch.keep(session)  # which holds the lock; the look was made without
        await session.tell(self._means.ledger.unsettled, why, watch.trades)
        if why:
            raise CloseUnsettled(admitted.tracked.position.id, "open", why)

    async def _finish_or_hold(self, seen: TrackedPosition) -> Admitted | None:
        """Finish a close that can end; hold the lock of one that cannot, because it sends nothing any more."""
        try:
            admitted = await self._admission.if_free(seen, "close: tracked anew", "close")
        except PositionAlreadyClosingError as error:
            if error.state == "closed":
                return None
            raise PositionConflict(seen.position.id, "it is being closed; track again when that is done") from error
        except LockTimeout as error:
            raise PositionConflict(seen.position.id, f"it is held by {error.holder}; track again later") from error
        is_over = False
        try:
            is_over = await self._finished(admitted)
        except BaseException:
            admitted.release()
            raise
        if is_over:
            admitted.release()
        return None if is_over else admitted

    async def _finished(self, admitted: Admitted) -> bool:
        """Whether a close that was begun is booked now; False if it cannot be settled.

        Raises:
            PositionConflict: contracts of it are held, so there is something to close.
        """
        decision = await Close(admitted.session(), reason="tracked anew").look()
        if decision.act == "send":
            why = "its close was begun and is not finished; recover() or close_position goes on with it"
            raise PositionConflict(admitted.tracked.position.id, why)
        if decision.act == "unsettled":
            return False
        await Close(admitted.session(), reason="tracked anew").run()
        return True

    async def _give_up(self, held_back: Admitted) -> tuple[CloseKey, int]:
        """Cancel the orders of a position that cannot be settled, by their ids: from now on nothing is sent for it."""
        session = held_back.session()
        own = await session.own_stops()
        await session.cancel(*own)
        for order in own:
            _warn(held_back.tracked.position, f"its {order.family} {order.order_id} was cancelled for a later position")
        return session.key, session.token

    def _as_known(self, known: TrackedPosition, position: Position) -> TrackedPosition:
        if known.position.id != position.id:
            raise PositionConflict.on_leg(position.id, known.position.id, position.symbol)
        if known.position != position:
            raise PositionConflict(position.id, f"it is {known.state} as {known.position}")
        return known

    async def _enter(
        self, position: Position, since_ms: int, leg: LegAtTracking, after: tuple[CloseKey, int] | None
    ) -> TrackedPosition:
        track = self._means.ledger.track
        return await self._means.ports.ledger(track, position, self._exchange.account, since_ms, leg, after)

    # What the leg shows at first.

    async def _look(  # noqa: PLR0913  # what tells one look from another
        self,
        position_id: str,
        leg: Leg,
        now_ms: int,
        entry_order_ids: Sequence[str],
        reach_ms: int,
        *,
        contracts: Decimal = _NONE,
        verify: bool = True,
    ) -> FirstLook:
        """Look until the trades explain *contracts* or more, or the same was read for as long as a change may take."""
        waited, unchanged, last, steps, look = 0.0, 0.0, None, pauses(LONGEST_PAUSE), None
        while True:
            holding: Holding | None = await self._venue(self._exchange.holding, leg)
            trades: Sequence[Trade] = await self._venue(self._exchange.trades, leg, now_ms - reach_ms)
            if holding is not None:
                booked = await self._booked_on(leg, trades) if entry_order_ids else frozenset[str]()
                look = first_look(holding, trades, entry_order_ids, now_ms - _HOUR_MS, booked)
                is_old = not await self._shows_the_last_booking(leg, trades, now_ms - _HOUR_MS + _MARGIN_MS)
                if is_complete(look, entry_order_ids, contracts) and not is_old:
                    return verified(look)
            is_enough = holding is not None and (not verify or self._exchange.spot)
            seen = holding, [each.fill.trade_id for each in trades]
            last, unchanged = seen, unchanged if seen == last else 0.0
            if is_enough or unchanged >= self._exchange.settles_within or waited >= self._means.longest_look:
                break
            pause = next(steps, LONGEST_PAUSE)
            await self._means.ports.sleep(pause)
            waited, unchanged = waited + pause, unchanged + pause
        if holding is None or look is None:
            raise PositionConflict(position_id, f"the venue holds no {leg.side} position in {leg.symbol}")
        return unverified(look)

    async def _shows_the_last_booking(self, leg: Leg, trades: Sequence[Trade], since_ms: int) -> bool:
        """Whether what was booked last on the leg is among *trades*.

        If it is not, they are of before that, and may lead to as much as is held now.
        (test_trades_that_lack_what_was_booked_explain_nothing)
        """
        booked = await self._ledger(
            self._means.ledger.booked_last, self._exchange.account, leg.symbol, leg.side, since_ms
        )
        return booked is None or any(each.fill.trade_id == booked for each in trades)

    async def _booked_on(self, leg: Leg, trades: Sequence[Trade]) -> frozenset[str]:
        ids = [each.fill.trade_id for each in trades]
        booked: frozenset[str] = await self._ledger(
            self._means.ledger.booked_on, self._exchange.account, leg.symbol, leg.side, ids
        )
        return booked

    async def _grow(self, seen: TrackedPosition) -> TrackedPosition | None:
        """If the venue holds more than is left of the position, it grows; None if it has ended, and is booked."""
        admitted = await self._admission.to_change(seen, "adopt")
        try:
            session = admitted.session()
            watch = await Watch.of(session)
            decision = await watch.decision()
            if decision.act in {"ended", "left"}:
                await Close(session, reason="it ended at the venue").end(watch, decision)
                return None
            if decision.act != "send" or decision.row == 4:  # noqa: PLR2004  # the row of reads that disagree
                raise PositionConflict(seen.position.id, f"{decision.reason}; adopt it again later")
            holding, left = watch.holding, watch.view(watch.holding).ours
            if holding is None or holding.entry_price is None or holding.contracts <= left:
                return admitted.tracked
            larger, average = await enlarged(session, watch)
            added = EXACT.subtract(larger.contracts, admitted.tracked.position.contracts)
            fee = entry_fee(watch.trades, added, larger.settle)
            larger = replace(larger, entry_fee=EXACT.add(larger.entry_fee, fee))
            await session.tell(self._means.ledger.resize, larger, average, watch.trades)
        finally:
            admitted.release()
        return await self._admission.position(seen.position.id)

    async def _venue(self, method: Any, *args: object) -> Any:
        """The answer of the venue; as `Session.ask`, but nothing is held here."""
        pauses_left, patience = iter(READ_PAUSES), Patience(self._means.longest_look)
        while True:
            try:
                return await self._means.ports.venue(method, *args)
            except ExchangeUnavailable as error:
                pause = patience.pause(error) if isinstance(error, RateLimited) else next(pauses_left, None)
                if pause is None:
                    raise
                await self._means.ports.sleep(pause)

    async def _ledger(self, method: Any, *args: object) -> Any:
        return await self._means.ports.ledger(method, *args)


def _check_facts(position: Position, look: FirstLook) -> None:
    """Refuse what the venue contradicts, naming both."""
    if look.leg.held < position.contracts:
        why = f"{position.contracts} contracts are to be tracked, and the venue holds {look.leg.held}"
        raise PositionConflict(position.id, why)
    for fact in ("contract_size", "inverse", "settle"):
        said, tracked = getattr(look.holding, fact), getattr(position, fact)
        if said != tracked:
            raise PositionConflict(position.id, f"its {fact} is {shown(tracked)}, and {shown(said)} at the venue")


def _key(tracked: TrackedPosition) -> CloseKey:
    return CloseKey(tracked.position.id, tracked.generation)


def _leg(tracked: TrackedPosition) -> Leg:
    return Leg(tracked.position.symbol, tracked.position.side)


def _warn(position: Position, what: str) -> None:
    fields = {"position": position.id, "pid": os.getpid(), "step": "track"}
    _log.warning("position %s: %s", quoted(position.id), what, extra=fields)
