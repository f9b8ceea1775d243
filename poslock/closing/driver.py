"""The driver: carries out what a machine asks for, one step at a time, as long as the lock is held."""

from __future__ import annotations

from decimal import localcontext
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from poslock.closing.steps import STAMP, Stamp
from poslock.errors import ExchangeError
from poslock.position import EXACT

if TYPE_CHECKING:
    from poslock.bridge import Ports
    from poslock.closing.steps import Machine, Step
    from poslock.exchange.port import AsyncExchange, Exchange
    from poslock.ledger.ledger import Ledger

T = TypeVar("T")


class Hold(Protocol):
    """The lock as the driver needs it; each raises `LockLost` once it is lost."""

    @property
    def remaining(self) -> float:
        """Seconds until the lease runs out."""

    def check(self) -> None:
        """Return only if the lock is held."""

    def renew(self) -> None:
        """Start the lease anew."""


class Driver:
    """Runs machines against one exchange and one ledger, under one lock.

    The lease is renewed between steps, never during one: a venue call that hangs must lose the lock.
    """

    def __init__(
        self, ports: Ports, exchange: Exchange | AsyncExchange, ledger: Ledger, hold: Hold, *, lease: float
    ) -> None:
        self._ports = ports
        self._exchange = exchange
        self._ledger = ledger
        self._hold = hold
        self._lease = lease

    async def run(self, machine: Machine[T]) -> T:
        """Drive *machine* to its end.

        Raises:
            LockLost: the lock was lost on the way; nothing more was done.
        """
        answer: object = None
        error: ExchangeError | None = None
        while True:
            try:
                with localcontext(EXACT):  # not while we await: the context is the whole task's
                    step = machine.send(answer) if error is None else machine.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # the machine's return type
            answer, error = None, None
            try:
                answer = await self._perform(step)
            except ExchangeError as failed:  # the machine knows what it means
                error = failed

    async def _perform(self, step: Step) -> object:
        if step == STAMP:
            return self._stamp()
        if step.port == "driver":
            await self._wait(cast("float", step.args[0]))
            return None
        self._keep()
        if step.port == "venue":
            return await self._ports.venue(getattr(self._exchange, step.method), *step.args)
        return await self._ports.ledger(getattr(self._ledger, step.method), *step.args)

    def _stamp(self) -> Stamp:
        # The clock first: if we are stopped in between, the request gets older, not the lease longer.
        at_ms = self._exchange.time_ms()
        self._keep()
        return Stamp(at_ms, self._hold.remaining)

    async def _wait(self, seconds: float) -> None:
        # In slices, so that a long wait does not lose the lock.
        while seconds > 0:
            self._keep()
            await self._ports.sleep(min(seconds, self._lease / 4))
            seconds -= self._lease / 4

    def _keep(self) -> None:
        """Be sure of the lock before each step, and renew the lease when half of it is gone."""
        if self._hold.remaining < self._lease / 2:
            self._hold.renew()
        else:
            self._hold.check()
