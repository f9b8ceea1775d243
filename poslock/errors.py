"""Every error poslock raises, as one tree.

    PoslockError
    ├── InvalidPositionId            also ValueError
    ├── InvalidPosition              also ValueError
    ├── PositionNotFound             also LookupError
    ├── PositionConflict
    ├── PositionAlreadyClosingError
    ├── CloseUnsettled
    ├── OperationRefused
    ├── InvalidChange                also ValueError
    ├── ChangeRefused
    ├── ChangeUnsettled
    ├── LockError
    │   ├── LockTimeout              also TimeoutError
    │   ├── LockLost
    │   │   └── TokenRefused
    │   ├── LockAlreadyHeld          also RuntimeError
    │   ├── LockStillHeld
    │   └── LockFileError
    ├── LedgerError
    ├── UnsupportedMarket            also ValueError
    └── ExchangeError
        ├── OrderRefused
        │   ├── NothingToReduce
        │   ├── ReduceOnlyBlocked
        │   ├── RequestExpired
        │   └── StopWouldTrigger
        ├── OutcomeUnknown
        │   └── DuplicateClientOrderId
        ├── ExchangeUnavailable
        └── NotServed                also OrderRefused and ExchangeUnavailable
            ├── RateLimited
            ├── UnderMaintenance
            └── KeysRefused

Each docstring says what the caller should do. All of them pickle, so they cross process boundaries whole.
An error of the lock names a `Holder`, and what came from outside stands in a message as `printable` text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

Intent: TypeAlias = Literal["close", "change", "read", "other"]
"""What a holder holds the lock for. Only a guard says ``"close"``, ``"change"`` or ``"read"``."""


class Holder(NamedTuple):
    """One holder as it wrote itself into a lock record.

    ``granted_ns`` and ``renewed_ns`` are CLOCK_MONOTONIC of the boot that the record names; ``granted_at`` is
    wall-clock seconds since the epoch and is for people only. ``lease_ns`` is what this holder chose for itself.
    ``purpose`` is for people too: who waits for whom is decided by ``intent``.
    """

    pid: int
    host: str
    presence: str
    purpose: str
    token: int
    granted_at: float
    granted_ns: int
    renewed_ns: int
    lease_ns: int
    intent: Intent = "other"

    def __str__(self) -> str:
        purpose = f" ({printable(self.purpose)})" if self.purpose else ""
        return f"PID {self.pid} on {printable(self.host)}{purpose}"


def printable(text: str) -> str:
    """*text* with everything a terminal could act on, or hide, written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def quoted(text: str) -> str:
    """*text* made printable, in single quotes."""
    return f"'{printable(text)}'"


def shown(value: object) -> str:
    """The start of *value*'s repr, for an error message."""
    try:
        return printable(repr(value)[:160])
    except ValueError:  # an int too long for Python to print
        return f"a huge {type(value).__name__}"


class PoslockError(Exception):
    """Base of all errors of poslock. Catch it to catch them all."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take fields and compose the message, so Exception's own "call it with args" cannot
        # rebuild them.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[PoslockError], args: tuple[object, ...], fields: dict[str, object]) -> PoslockError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class InvalidPositionId(PoslockError, ValueError):
    """The position id is no string of 1 to 128 characters without control characters. Use another id."""

    def __init__(self, position_id: object, why: str) -> None:
        super().__init__(f"invalid position id {shown(position_id)}: {why}")
        self.why = why


class InvalidPosition(PoslockError, ValueError):
    """A field of a `Position` is refused. Pass numbers as Decimal, int or decimal string."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(f"invalid {field} {shown(value)}: {why}")
        self.field = field
        self.why = why


class PositionNotFound(PoslockError, LookupError):
    """The ledger knows no such position on this account. Call `track` first, or look at the id.

    ``accounts`` are the other ones that have a position of this id.
    """

    def __init__(self, position_id: str, ledger: str, accounts: Sequence[str] = ()) -> None:
        others = f" for this account, only for {', '.join(map(quoted, accounts))}" if accounts else ""
        super().__init__(f"position {quoted(position_id)} is not in the ledger {ledger}{others}; track() it first")
        self.position_id = position_id
        self.ledger = ledger
        self.accounts = tuple(accounts)


class PositionConflict(PoslockError):
    """`track` contradicts what the ledger holds. Close the open position first, or correct the call."""

    def __init__(self, position_id: str, why: str) -> None:
        super().__init__(f"position {quoted(position_id)} cannot be tracked: {why}")
        self.position_id = position_id
        self.why = why

    @classmethod
    def on_leg(cls, position_id: str, other_id: str, symbol: str) -> Self:
        """Another position is open on the same side of the market."""
        ways_out = (
            "hedge mode if the two are to be on opposite sides, a sub-account for one of them, or one position with a"
            " ladder for both: take_profit=[(price, contracts), ...]"
        )
        why = f"{quoted(other_id)} is open on that side of {symbol}; the venue holds both as one"
        return cls(position_id, f"{why}. Ways out: {ways_out}")


class PositionAlreadyClosingError(PoslockError):
    """Somebody else closes this position, or has closed it. Do nothing more about it.

    ``state`` is ``"closing"`` or ``"closed"``; ``holder`` is who closes it, where known.
    """

    def __init__(self, position_id: str, state: Literal["closing", "closed"], holder: Holder | None = None) -> None:
        by = f" (last holder: {holder})" if holder else ""
        super().__init__(f"position {quoted(position_id)} is already {state}{by}")
        self.position_id = position_id
        self.state = state
        self.holder = holder


class CloseUnsettled(PoslockError):
    """The venue did not explain in time what became of the position. It stays as it is, and nothing is lost.

    Call `recover()` or `close_position` again: either looks afresh and goes on where this close stopped, in any
    process. Where the venue will never explain it, `settle()` ends it. ``retry_after`` is how many seconds the venue
    wants to be left alone first, where that is longer than the guard waits; else None.
    """

    def __init__(self, position_id: str, step: str, why: str, *, retry_after: float | None = None) -> None:
        super().__init__(
            f"close of position {quoted(position_id)} is not settled (step {step}): {why}; "
            "recover() or the next close_position looks afresh and goes on with it, settle() ends it by your word"
        )
        self.position_id = position_id
        self.step = step
        self.why = why
        self.retry_after = retry_after


class OperationRefused(PoslockError):
    """`settle`, `forget` or an urgent close would go against what is known; nothing was written. The message says why.

    ``operation`` is ``"settle"``, ``"forget"`` or ``"an urgent close"``.
    """

    def __init__(self, position_id: str, operation: str, why: str) -> None:
        super().__init__(f"position {quoted(position_id)}: {operation} is refused: {why}")
        self.position_id = position_id
        self.operation = operation
        self.why = why


class InvalidChange(PoslockError, ValueError):
    """A change of a position is refused: a price on the wrong side, a reduce that is too large. Nothing was sent."""

    def __init__(self, position_id: str, field: str, value: object, why: str) -> None:
        super().__init__(f"position {quoted(position_id)} cannot be changed: {field} {shown(value)} {why}")
        self.position_id = position_id
        self.field = field
        self.why = why


class ChangeRefused(PoslockError):
    """The venue refused a change of a position. What was there before still is; the changes before it were made."""

    def __init__(self, position_id: str, kind: str, why: str) -> None:
        super().__init__(f"the venue refused the {kind} of position {quoted(position_id)}: {why}; the old one stays")
        self.position_id = position_id
        self.kind = kind
        self.why = why


class ChangeUnsettled(PoslockError):
    """The venue did not settle a change in time. Call `recover()` or `modify_position` again: either goes on with it.

    Until then the position may have the old order, the new one, or both; never none because of us. ``retry_after`` is
    as for `CloseUnsettled`.
    """

    def __init__(self, position_id: str, kind: str, why: str, *, retry_after: float | None = None) -> None:
        super().__init__(
            f"{kind} of position {quoted(position_id)} is not settled: {why}; "
            "recover() or the next modify_position goes on with it"
        )
        self.position_id = position_id
        self.kind = kind
        self.why = why
        self.retry_after = retry_after


class LockError(PoslockError):
    """Base of the lock's errors; names the position and its lock file."""

    def __init__(self, position_id: str, path: str, message: str) -> None:
        super().__init__(message)
        self.position_id = position_id
        self.path = path


class LockTimeout(LockError, TimeoutError):
    """The lock could not be had in time. Try later; ``holder`` says who has it."""

    def __init__(self, position_id: str, path: str, holder: Holder | None, *, waited: float, why: str) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(
            position_id,
            path,
            f"no lock on position {quoted(position_id)} after {waited:.1f} s: {why}{by}; lock file {path} "
            "(see 'poslock status')",
        )
        self.holder = holder
        self.waited = waited


class LockLost(LockError):
    """You do not hold this lock (any more). Stop at once, touch nothing, and start over if need be."""

    def __init__(self, position_id: str, path: str, why: str, holder: Holder | None = None) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(position_id, path, f"lock on position {quoted(position_id)} is not held: {why}{by} ({path})")
        self.holder = holder
        self.why = why


class TokenRefused(LockLost):
    """The ledger has seen a newer fencing token: somebody took this position over. As for `LockLost`."""

    def __init__(self, position_id: str, ledger: str, token: int, newest: int) -> None:
        super().__init__(position_id, ledger, f"the ledger has seen token {newest}, this write carries {token}")
        self.token = token
        self.newest = newest


class LockAlreadyHeld(LockError, RuntimeError):
    """This lock object, or another one of the same thread or task, has it already. A programming error.

    It was acquired, or is being acquired, and not released; the message says by which of the two.
    One object stands for one hold: give every thread and task its own, and release before acquiring again.
    """

    def __init__(self, position_id: str, path: str, *, by: str = "this object") -> None:
        super().__init__(position_id, path, f"lock on position {quoted(position_id)} is already held by {by}")


class LockStillHeld(LockError):
    """`clear` left a lock alone because its holder may be alive. Stop that process, or force it."""

    def __init__(self, position_id: str, path: str, holder: Holder) -> None:
        super().__init__(
            position_id,
            path,
            f"lock on position {quoted(position_id)} is held by {holder}; stop it, or clear with force ({path})",
        )
        self.holder = holder


class LockFileError(LockError):
    """A lock file or its directory cannot be used. The message names it and the way out."""

    def __init__(self, position_id: str, path: str, why: str, way_out: str) -> None:
        super().__init__(position_id, path, f"{path}: {why}; {way_out}")
        self.why = why


class LedgerError(PoslockError):
    """The ledger cannot be read or written. Nothing of the failed read or write remains; a close goes on later."""

    def __init__(self, path: str, why: str, way_out: str) -> None:
        super().__init__(f"ledger {path}: {why}; {way_out}")
        self.path = path
        self.why = why


class UnsupportedMarket(PoslockError, ValueError):
    """The adapter does not know this venue, market type or position mode. Nothing was sent; use what it knows."""


class ExchangeError(PoslockError):
    """Base of what an exchange adapter raises. ``code`` is the venue's own code, where it gave one."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class OrderRefused(ExchangeError):
    """The venue has definitely not taken this order, and never will under this request."""


class NothingToReduce(OrderRefused):
    """The venue sees no position to reduce. That is no success: verify what became of the position."""


class ReduceOnlyBlocked(OrderRefused):
    """Resting reduce-only orders cover the whole position already, so the venue takes no more of them."""


class RequestExpired(OrderRefused):
    """The request reached the venue after its receive window and was refused unseen."""


class StopWouldTrigger(OrderRefused):
    """The price has passed the trigger price of this stop order already, so the venue does not let it rest."""


class OutcomeUnknown(ExchangeError):
    """The order may or may not have been taken. Ask by client order id; never resend blindly."""


class DuplicateClientOrderId(OutcomeUnknown):
    """The venue knows this client order id already: an earlier request was taken. Ask by that id."""


class ExchangeUnavailable(ExchangeError):
    """A question could not be answered now. Nothing was changed; ask again."""


class NotServed(OrderRefused, ExchangeUnavailable):
    """The venue turned the request away unseen: no order was taken, no question answered."""


class RateLimited(NotServed):
    """Too many requests came from this key or address. Ask again in ``retry_after`` seconds, None if nobody knows."""

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class UnderMaintenance(NotServed):
    """The venue, or this market, takes no requests at the moment. Ask again later."""


class KeysRefused(NotServed):
    """The venue does not accept the API key, its signature, its permissions or this address. See `poslock doctor`."""
