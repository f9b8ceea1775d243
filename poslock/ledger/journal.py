"""How far a close or a change got: the values that the ledger keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from poslock.position import Position, TrackedPosition, Trade

Step: TypeAlias = Literal["intent", "sending", "filled", "booked"]
Kind: TypeAlias = Literal["stop_loss", "take_profit", "reduce"]
ChangeStep: TypeAlias = Literal["intent", "sending", "done", "refused", "dropped"]


@dataclass(frozen=True, slots=True)
class CloseKey:
    """Which close: there is one per position and generation. Generations of an id are counted over all accounts."""

    position_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class LegAtTracking:
    """What the venue said of a leg when a position was tracked on it.

    ``held`` are its contracts, ``entry_price`` and ``position_id`` the venue's own, None if it said none. ``baseline``
    are the trades that ``held`` contains, as far as they were asked for: from ``trades_since_ms`` on, in venue time.
    ``entry_known`` says that no entry of ``held`` can show later: the orders that the bot named are in the baseline, or
    its trades lead from flat to ``held``.
    """

    held: Decimal
    entry_price: Decimal | None
    position_id: str | None
    trades_since_ms: int
    baseline: tuple[Trade, ...] = ()
    entry_known: bool = False


@dataclass(frozen=True, slots=True)
class LegHistory:
    """A leg as the ledger knows it: at the tracking, and every trade that the venue has shown since, in its order.

    ``baseline`` are the ids of the trades in the baseline. ``later`` is what the venue held when a later position was
    tracked on the leg, None if none was. From ``since_ms`` on trades are to be asked for, in venue time.
    """

    tracked: LegAtTracking
    trades: tuple[Trade, ...]
    baseline: frozenset[str]
    later: Decimal | None
    since_ms: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One order of a close, or the intention to send it.

    ``expires_at_ms``, in venue time, is when its latest request can no longer be taken. ``filled`` is None until the
    order has ended at the venue and another attempt follows it.
    """

    number: int
    client_order_id: str
    contracts: Decimal
    expires_at_ms: int
    filled: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """The step a close is at, and its attempts in order."""

    step: Step
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an open position: a stop-loss or take-profit at *trigger_price*, or a reduce.

    Without a trigger price a stop-loss or take-profit is removed, and there is no order to send. ``expires_at_ms`` is
    as in `Attempt`, 0 until it is sent. ``filled`` is what a reduce has reduced by.

    A rung of a take-profit in several names its *ladder*, by the number of its first rung: all of them are made, or the
    orders before them stay. One that ``follows`` is the stop-loss at its old price for what is left of the position.
    """

    number: int
    kind: Kind
    contracts: Decimal
    trigger_price: Decimal | None
    client_order_id: str | None
    step: ChangeStep = "intent"
    expires_at_ms: int = 0
    filled: Decimal | None = None
    ladder: int | None = None
    follows: bool = False

    @property
    def is_unfinished(self) -> bool:
        """Whether something is left to be done about it."""
        return self.step in {"intent", "sending"}


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the ledger has of one position, from one read. ``version`` is another one after every write."""

    position: TrackedPosition
    leg: LegHistory
    changes: tuple[Change, ...]
    close: Close | None
    version: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """An order of a close that is about to leave, and all that is to be durable before it does.

    ``version`` is what the decision to send it was made by. ``reason`` is why the position is closed, for an open one.
    ``filled_before`` is what the attempt before had filled when it ended, None for the first one. ``trades`` are what
    the leg has shown so far. ``grown`` is the position with contracts that the order is to close, too.
    """

    attempt: Attempt
    version: int
    reason: str
    filled_before: Decimal | None = None
    trades: Sequence[Trade] = ()
    grown: Position | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail. ``at`` is wall-clock seconds, for people; ``pid`` is who wrote it.

    ``account`` is the position's, '' if the ledger does not say.
    """

    at: float
    position_id: str
    generation: int
    token: int
    pid: int
    event: str
    detail: str
    account: str
