"""poslock: of all bot processes on this host, exactly one closes a position.

Public is what ``__all__`` names; everything else may change. The guard and the exchanges are loaded when first asked
for, so that a bot which only locks does not load a database.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from poslock.errors import (
    ChangeRefused,
    ChangeUnsettled,
    CloseUnsettled,
    DuplicateClientOrderId,
    ExchangeError,
    ExchangeUnavailable,
    InvalidChange,
    InvalidPosition,
    InvalidPositionId,
    KeysRefused,
    LedgerError,
    LockAlreadyHeld,
    LockError,
    LockFileError,
    LockLost,
    LockStillHeld,
    LockTimeout,
    NothingToReduce,
    NotServed,
    OperationRefused,
    OrderRefused,
    OutcomeUnknown,
    PositionAlreadyClosingError,
    PositionConflict,
    PositionNotFound,
    PoslockError,
    RateLimited,
    ReduceOnlyBlocked,
    RequestExpired,
    StopWouldTrigger,
    TokenRefused,
    UnderMaintenance,
    UnsupportedMarket,
)
from poslock.lock.position_lock import PositionLock

if TYPE_CHECKING:
    from poslock.exchange.ccxt.exchange import AsyncCcxtExchange, CcxtExchange
    from poslock.exchange.paper import PaperExchange
    from poslock.exchange.port import Sending
    from poslock.guard.async_guard import AsyncPositionGuard
    from poslock.guard.guard import PositionGuard, Recovery
    from poslock.lock.manager import PositionLockManager
    from poslock.lock.status import HolderStatus, LockStatus
    from poslock.position import ClosedPosition, Fill, ModifiedPosition, Position, TrackedPosition

__all__ = [
    "AsyncCcxtExchange",
    "AsyncPositionGuard",
    "CcxtExchange",
    "ChangeRefused",
    "ChangeUnsettled",
    "CloseUnsettled",
    "ClosedPosition",
    "DuplicateClientOrderId",
    "ExchangeError",
    "ExchangeUnavailable",
    "Fill",
    "HolderStatus",
    "InvalidChange",
    "InvalidPosition",
    "InvalidPositionId",
    "KeysRefused",
    "LedgerError",
    "LockAlreadyHeld",
    "LockError",
    "LockFileError",
    "LockLost",
    "LockStatus",
    "LockStillHeld",
    "LockTimeout",
    "ModifiedPosition",
    "NotServed",
    "NothingToReduce",
    "OperationRefused",
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
    "RateLimited",
    "Recovery",
    "ReduceOnlyBlocked",
    "RequestExpired",
    "Sending",
    "StopWouldTrigger",
    "TokenRefused",
    "TrackedPosition",
    "UnderMaintenance",
    "UnsupportedMarket",
]

_LATE = {
    "AsyncCcxtExchange": "poslock.exchange.ccxt.exchange",
    "ModifiedPosition": "poslock.position",
    "AsyncPositionGuard": "poslock.guard.async_guard",
    "CcxtExchange": "poslock.exchange.ccxt.exchange",
    "ClosedPosition": "poslock.position",
    "Fill": "poslock.position",
    "HolderStatus": "poslock.lock.status",
    "LockStatus": "poslock.lock.status",
    "PaperExchange": "poslock.exchange.paper",
    "Position": "poslock.position",
    "PositionGuard": "poslock.guard.guard",
    "PositionLockManager": "poslock.lock.manager",
    "Recovery": "poslock.guard.guard",
    "Sending": "poslock.exchange.port",
    "TrackedPosition": "poslock.position",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless the bot sets up logging


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
