"""What a machine without I/O says to its driver: one step at a time, answered before the next.

A machine is a generator. It yields a `Step` and receives the answer, or has an `ExchangeError` thrown in. The functions
here make steps out of methods of the ports, so that a type checker sees through them:
``held = yield from ask_venue(Exchange.held, leg)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

P = ParamSpec("P")
T = TypeVar("T")

_FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a method of the venue or the ledger with its arguments, or a word to the driver."""

    port: Literal["venue", "ledger", "driver"]
    method: str
    args: tuple[object, ...] = ()


STAMP = Step("driver", "stamp")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The last lease check: when it was, in venue time, and how many seconds the lease had left then."""

    at_ms: int
    lease_left: float


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the venue, in seconds; as in the port."""

    denies_for: float
    settles_within: float


Machine: TypeAlias = "Generator[Step, Any, T]"


def ask_venue(method: Callable[Concatenate[Any, P], T], *args: P.args, **_none: P.kwargs) -> Machine[T]:
    """The answer of the venue to *method*."""
    answer: T = yield Step("venue", method.__name__, args)
    return answer


def tell_ledger(method: Callable[Concatenate[Any, P], T], *args: P.args, **_none: P.kwargs) -> Machine[T]:
    """The answer of the ledger to *method*."""
    answer: T = yield Step("ledger", method.__name__, args)
    return answer


def stamp_now() -> Machine[Stamp]:
    """Check the lock, and say when that was."""
    stamp: Stamp = yield STAMP
    return stamp


def wait(seconds: float) -> Machine[None]:
    """Let so many seconds pass, holding the lock."""
    if seconds > 0:
        yield Step("driver", "wait", (seconds,))


def pauses(total: float) -> Iterator[float]:
    """Growing pauses that add up to *total* seconds; one at least."""
    pause = _FIRST_PAUSE
    while True:
        yield min(pause, total)
        total -= pause
        if total <= 0:
            return
        pause = min(2 * pause, LONGEST_PAUSE)
