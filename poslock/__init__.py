"""poslock: of all bot processes on this host, exactly one closes a position.

Public is what ``__all__`` names; everything else may change. The guard and the exchanges are loaded when first asked
for, so that a bot which only locks does not load a database.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from poslock.errors import (
    CloseUnsettled,
    DuplicateClientOrderId,
    ExchangeError,
    ExchangeUnavailable,
    InvalidPosition,
    InvalidPositionId,
    LedgerError,
    LockAlreadyHeld,
    LockError,
    LockFileError,
    LockLost,
    LockStillHeld,
    LockTimeout,
    NothingToReduce,
    OrderRefused,
    OutcomeUnknown,
    PositionAlreadyClosingError,
    PositionConflict,
    PositionNotFound,
    PoslockError,
    RequestExpired,
    TokenRefused,
)
from poslock.lock.position_lock import PositionLock

if TYPE_CHECKING:
    from poslock.exchange.paper import PaperExchange
    from poslock.guard import PositionGuard, Recovery
    from poslock.lock.manager import PositionLockManager
    from poslock.lock.status import HolderStatus, LockStatus
    from poslock.position import ClosedPosition, Fill, Position, TrackedPosition

__all__ = [
    "CloseUnsettled",
    "ClosedPosition",
    "DuplicateClientOrderId",
    "ExchangeError",
    "ExchangeUnavailable",
    "Fill",
    "HolderStatus",
    "InvalidPosition",
    "InvalidPositionId",
    "LedgerError",
    "LockAlreadyHeld",
    "LockError",
    "LockFileError",
    "LockLost",
    "LockStatus",
    "LockStillHeld",
    "LockTimeout",
    "NothingToReduce",
    "OrderRefused",
    "OutcomeUnknown",
    "PaperExchange",
    "Position",
    "PositionAlreadyClosingError",
    "PositionConflict",
    "PositionGuard",
    "PositionLock",
    "PositionLockManager",
    "PositionNotFound",
    "PoslockError",
    "Recovery",
    "RequestExpired",
    "TokenRefused",
    "TrackedPosition",
]

_LATE = {
    "ClosedPosition": "poslock.position",
    "Fill": "poslock.position",
    "HolderStatus": "poslock.lock.status",
    "LockStatus": "poslock.lock.status",
    "PaperExchange": "poslock.exchange.paper",
    "Position": "poslock.position",
    "PositionGuard": "poslock.guard",
    "PositionLockManager": "poslock.lock.manager",
    "Recovery": "poslock.guard",
    "TrackedPosition": "poslock.position",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless the bot sets up logging


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
