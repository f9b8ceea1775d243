from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import poslock
from poslock import AsyncPositionGuard, PositionGuard, errors
from poslock.errors import Holder
from poslock.exchange.ccxt.exchange import AsyncCcxtExchange, CcxtExchange
from poslock.exchange.port import AsyncExchange, Exchange
from poslock.guard.async_guard import AsyncClosing
from poslock.guard.guard import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

HOLDER = Holder(
    pid=1, host="h", presence="p", purpose="close", token=7, granted_at=0.0, granted_ns=0, renewed_ns=0, lease_ns=1
)
RAISED: list[errors.PoslockError] = [
    errors.InvalidPositionId("a\nb", "why"),
    errors.InvalidPosition("side", 1, "why"),
    errors.PositionNotFound("a", "ledger"),
    errors.PositionConflict("a", "why"),
    errors.PositionAlreadyClosingError("a", "closing", HOLDER),
    errors.CloseUnsettled("a", "sending", "why"),
    errors.OperationRefused("a\nb", "settle", "why"),
    errors.InvalidChange("a\nb", "stop_loss", 1, "why"),
    errors.ChangeRefused("a", "stop_loss", "why"),
    errors.ChangeUnsettled("a", "stop_loss", "why"),
    errors.LockTimeout("a", "path", HOLDER, waited=1.0, why="held"),
    errors.LockLost("a", "path", "why", HOLDER),
    errors.TokenRefused("a", "ledger", 1, 2),
    errors.LockAlreadyHeld("a", "path"),
    errors.LockStillHeld("a", "path", HOLDER),
    errors.LockFileError("a", "path", "why", "way out"),
    errors.LedgerError("path", "why", "way out"),
    errors.OrderRefused("why", code="1"),
    errors.NothingToReduce("why", code="2009"),
    errors.ReduceOnlyBlocked("why", code="-4118"),
    errors.RequestExpired("why"),
    errors.StopWouldTrigger("why", code="-2021"),
    errors.OutcomeUnknown("why"),
    errors.DuplicateClientOrderId("why"),
    errors.ExchangeUnavailable("why"),
    errors.UnsupportedMarket("why"),
    errors.NotServed("why"),
    errors.RateLimited("why", code="429"),
    errors.UnderMaintenance("why"),
    errors.KeysRefused("why", code="401"),
]


def tree(kind: type[errors.PoslockError]) -> set[type[errors.PoslockError]]:
    below = [each for each in kind.__subclasses__() if each.__module__ == "poslock.errors"]
    return {kind}.union(*map(tree, below))


def public_names(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def parameters(function: Callable[..., Any]) -> list[tuple[str, object, object]]:
    """All that a caller sees of them: names, kinds and defaults."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", sorted(poslock.__all__))
def test_every_public_name_is_there(name: str) -> None:
    """And has a docstring."""
    assert getattr(poslock, name).__doc__


def test_every_error_is_public_and_in_the_tree() -> None:
    """The tree in the module's docstring is the tree."""
    kinds = tree(errors.PoslockError)
    assert {kind.__name__ for kind in kinds} <= set(poslock.__all__)
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("error", RAISED, ids=[type(error).__name__ for error in RAISED])
def test_errors_survive_a_pickle(error: errors.PoslockError) -> None:
    """With message and fields, so that they cross process boundaries whole."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert str(error).isprintable()


def test_the_errors_above_are_all_that_are_raised() -> None:
    """Bases aside."""
    leaves = tree(errors.PoslockError) - {errors.PoslockError, errors.LockError, errors.ExchangeError}
    assert {type(error) for error in RAISED} == leaves


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("LockTimeout", TimeoutError),
        ("InvalidPositionId", ValueError),
        ("InvalidChange", ValueError),
        ("PositionNotFound", LookupError),
    ],
)
def test_errors_are_also_what_python_calls_them(kind: str, builtin: type) -> None:
    """Who catches the builtin catches ours."""
    assert issubclass(getattr(poslock, kind), builtin)


@pytest.mark.parametrize(
    ("kind", "awaited"),
    [
        (PositionGuard, AsyncPositionGuard),
        (Closing, AsyncClosing),
        (Exchange, AsyncExchange),
        (CcxtExchange, AsyncCcxtExchange),
    ],
)
def test_for_tasks_there_is_all_that_is_there_for_threads(kind: type, awaited: type) -> None:
    """Every public method and property, with the same parameters."""
    assert public_names(awaited) == public_names(kind)
    for name in ("__init__", *public_names(kind)):
        ours, theirs = getattr(kind, name), getattr(awaited, name)
        if callable(ours):
            assert parameters(theirs) == parameters(ours), name


def test_importing_poslock_loads_no_database_and_no_loop() -> None:
    """A bot that only locks pays for locking only."""
    code = (
        "import sys, poslock; poslock.PositionLock;"
        "print([m for m in ('sqlite3', 'asyncio', 'ccxt', 'click', 'poslock.guard') if m in sys.modules])"
    )
    bare = "import sys, filelock, portalocker; print([m for m in ('sqlite3', 'asyncio') if m in sys.modules])"
    found = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, timeout=60, check=True).stdout
        for each in (code, bare)
    ]
    assert found[0] == found[1]


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    missing: Any = "no_such_name"
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(poslock, missing)
