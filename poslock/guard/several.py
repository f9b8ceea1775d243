"""Closing several positions: all orders are out before anything else is done about the first of them.

Sequence: take the locks that are free; ask for all positions and for the trades of each side by side; journal all
orders in one commit; send them; then finish one close after the other. One with an order or a change under way, and one
of which a look does not tell enough, is closed in its turn, as if it was asked for alone. Positions whose lock somebody
else has are left to the caller.

Crash behaviour: that of each close. While one of them is finished, the leases of the others are renewed with its own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from poslock.closing.close import Close
from poslock.closing.leg import SPARE, Watch
from poslock.closing.session import Session
from poslock.errors import ExchangeError, LockError, LockTimeout, PositionAlreadyClosingError, PoslockError
from poslock.ledger.ledger import Moved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from poslock.closing.close import First
    from poslock.closing.session import Means
    from poslock.exchange.port import Holding
    from poslock.guard.admission import Admission, Admitted
    from poslock.position import ClosedPosition

T = TypeVar("T")
Outcome: TypeAlias = "ClosedPosition | PoslockError"


class Several:
    """Those of several positions whose locks are free. ``busy`` are the others, known after `close`."""

    def __init__(self, means: Means, admission: Admission, reason: str) -> None:
        self.busy: list[str] = []
        self._means = means
        self._admission = admission
        self._reason = reason
        self._members: dict[str, _Member] = {}

    async def close(self, position_ids: Sequence[str]) -> dict[str, Outcome]:
        """Close them; what became of each, without the ``busy`` ones."""
        outcomes: dict[str, Outcome] = {}
        held: list[Admitted] = []
        try:
            for each in position_ids:
                try:
                    seen = await self._admission.position(each)
                    admitted = await self._admission.if_free(seen, f"close: {self._reason}", "close")
                except PoslockError as error:
                    self._put_aside(each, error, outcomes)
                else:
                    held.append(admitted)
                    session = Session(self._means, _Hold(admitted, held), admitted.standing, admitted.token)
                    self._members[each] = _Member(session, Close(session, reason=self._reason))
            if len(self._members) > 1:
                await self._send()
            for (position_id, member), admitted in zip(self._members.items(), held, strict=True):
                outcomes[position_id] = await member.finished()
                admitted.release()
        finally:
            for admitted in held:
                admitted.release()
        return outcomes

    def _put_aside(self, position_id: str, error: PoslockError, outcomes: dict[str, Outcome]) -> None:
        is_closing = isinstance(error, PositionAlreadyClosingError) and error.state == "closing"
        if isinstance(error, LockTimeout) or is_closing:
            self.busy.append(position_id)
        else:
            outcomes[position_id] = error

    async def _send(self) -> None:
        """Have all first orders out that one look decides."""
        with suppress(PoslockError):  # then each says so itself, in its turn
            await self._decide()
        ready = [each for each in self._members.values() if each.first is not None]
        written = [(each.session.key, each.session.token, each.first.dispatch) for each in ready if each.first]
        try:
            told = await self._means.ports.ledger(self._means.ledger.sending_all, written) if written else []
        except PoslockError as error:  # nothing was written, and nothing is sent
            told = [error] * len(written)
        for member, version in zip(ready, told, strict=True):
            member.session.forget_standing()
            member.version = version if isinstance(version, PoslockError) else member.still(version)
        going = [(each, each.first.request) for each in ready if each.first and isinstance(each.version, int)]
        if going and going[0][0].session.side_by_side:
            answers = await going[0][0].session.send_together([request for _, request in going])
        else:
            answers = [await _tried(member.close.placed(request)) for member, request in going]
        for (member, _), placed in zip(going, answers, strict=True):
            if isinstance(placed, PoslockError) and not isinstance(placed, ExchangeError):
                member.version = placed  # it did not leave
            member.placed = placed

    async def _decide(self) -> None:
        members = [*self._members.values()]
        session = members[0].session
        exchange = session.exchange
        await session.ask(exchange.prepare)
        watches = [await Watch.of(each.session) for each in members]
        session.hurries = True
        try:
            held, *trades = await session.try_together(
                (exchange.holdings, ([each.session.leg for each in members],)),
                *[each.request for each in watches],
                *([(exchange.refresh, ())] if session.side_by_side else []),
                spare=SPARE,
            )
        finally:
            session.hurries = False
        holdings: dict[Any, Holding] = {each.leg: each for each in held}
        for member, fresh in zip(members, trades, strict=False):
            member.first = await member.close.first(holdings.get(member.session.leg), fresh)


async def _tried(work: Awaitable[T]) -> T | PoslockError:
    try:
        return await work
    except PoslockError as error:
        return error


@dataclass(slots=True)
class _Member:
    """One of the positions: its close, and how far that has got."""

    session: Session
    close: Close
    first: First | None = None
    version: int | PoslockError | None = None
    placed: Any = None

    def still(self, version: int) -> int | PoslockError:
        """*version*, if the lock is held still; else what says that it is not."""
        try:
            self.session.keep()
        except PoslockError as error:
            return error
        return version

    async def finished(self) -> Outcome:
        if self.first is not None and isinstance(self.version, int):
            return await _tried(self.close.go_on(self.first, self.version, self.placed))
        if isinstance(self.version, PoslockError) and not isinstance(self.version, Moved):
            return self.version
        return await _tried(self.close.run())


class _Hold:
    """The lock of one of them. Renewing it renews the others, too, which are not finished yet."""

    def __init__(self, own: Admitted, all_held: Sequence[Admitted]) -> None:
        self._own = own
        self._all_held = all_held
        self.check = own.lock.check

    @property
    def remaining(self) -> float:
        """Seconds until its lease runs out."""
        return self._own.lock.remaining

    def renew(self) -> None:
        """Start its lease anew, and those of the others."""
        self._own.lock.renew()
        for other in self._all_held:
            if other is not self._own and other.lock.held:
                with suppress(LockError):  # it says so itself, in its turn
                    other.lock.renew()
