"""What simulated guards do with a position, and how far each scene is explored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from poslock import Position, PositionAlreadyClosingError, PoslockError
from poslock.bridge import finished
from poslock.errors import LedgerError, LockError, LockTimeout
from poslock.guard.operations import Operations
from poslock.ledger.ledger import Ledger
from prove.actor import Program
from prove.close_witness import ENTRY_PRICE, Closes
from prove.disk import SECOND
from prove.explore import Violation
from prove.market import CONTRACTS, FAULTS, FUNDING, ID, LEG, WRITES, Market, is_private
from prove.world import Bounds, Process, State, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from poslock.lock.position_lock import PositionLock
    from prove.actor import Actor
    from prove.explore import Move

LEASE = 6.0
_PATIENCE = 120.0
_NAP = 0.5
_LAST = 99
_ANSWERS = {"closed", "already closing", "already closed", "changed", "tracked"}


class Ports:
    """The ways out of a guard in a simulated process."""

    def __init__(self, me: Actor) -> None:
        self._me = me

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        return self._me.ask("ask_venue", method.__name__, args)

    async def ledger(self, method: Callable[..., Any], *args: object) -> Any:
        return self._me.ask("ask_ledger", method.__name__, args)

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:  # noqa: ASYNC109  # as in `Ports`
        self._me.ask("point", "acquire")
        return lock.acquire(timeout)

    async def sleep(self, seconds: float) -> None:
        self._me.ask("sleep", seconds)


class Face:
    """The account as a guard knows it before it asks."""

    def __init__(self, me: Actor, account: Any) -> None:
        self._me = me
        self._account = account

    def time_ms(self) -> int:
        return int(self._me.ask("time_ms"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._account, name)


@dataclass(frozen=True)
class Guards:
    """Makes the programs of one market."""

    market: Market

    def closer(self, me: Actor) -> str:
        """Close the position."""
        return _closing(me, self.guarding(me).close_position(ID, "prove"))

    def last(self, me: Actor) -> str:
        """What a bot does at its start: finish what others have begun; then close the position."""
        guarding = self.guarding(me)
        for recovery in finished(guarding.recover()):
            if recovery.closed is not None:
                me.tell("closed")
        return _closing(me, guarding.close_position(ID, "prove"))

    def changer(self, me: Actor) -> str:
        """Move the stop-loss."""
        try:
            finished(self.guarding(me).modify_position(ID, 58_000, ..., None))
        except PositionAlreadyClosingError as error:
            return f"already {error.state}"
        except PoslockError as error:
            return f"not changed: {error}"
        return "changed"

    def tracker(self, me: Actor) -> str:
        """Enter the position in the ledger."""
        finished(self.guarding(me).track(Position(ID, LEG.symbol, LEG.side, CONTRACTS, ENTRY_PRICE)))
        return "tracked"

    def guarding(self, me: Actor) -> Operations:
        """The guard of a process."""
        face: Any = Face(me, self.market.books.venue.subject)
        ledger = Ledger(self.market.books.path)
        ports: Any = Ports(me)
        return Operations(ports, face, lock_dir=me.directory, ledger=ledger, timeout=LEASE + 2, stale_after=LEASE)


def _closing(me: Actor, close: Coroutine[Any, Any, object]) -> str:
    """How a close ends. Everything but a close, and a word of another's, may only be said to who was disturbed."""
    try:
        finished(close)
    except PositionAlreadyClosingError as error:
        me.tell(f"already {error.state}")
        return f"already {error.state}"
    except (LockError, LedgerError, LockTimeout) as error:
        return f"lost: {error}"
    except PoslockError as error:
        return f"unsettled: {error}"
    me.tell("closed")
    return "closed"


class CloseState(State):
    """As `State`, with what can happen at the venue."""

    __slots__ = ()

    def moves(self) -> list[Move]:
        """What can happen next."""
        found = super().moves()
        bounds, spent = self.world.bounds, self.spent
        moving = [each for each in self.processes if each.moves]
        asking = [each for each in moving if each.call.name == "ask_venue"]
        if spent.faults < bounds.faults:
            for process in asking:
                kinds = FAULTS if process.call.args[0] in WRITES else FAULTS[:1]
                found += [(kind, process.pid) for kind in kinds if ("run", process.pid) in found]
        if spent.crashes < bounds.crashes:
            sent = [each.pid for each in asking if each.call.args[0] in WRITES]
            found += [("dies, its request arrives later", pid) for pid in sent]
        if self.disk.late:
            found.append(("a late request arrives", 0))
        if moving and spent.triggers < bounds.triggers:
            found.append(("the stop-loss is triggered", 0))
        return found

    def after(self, move: Move) -> CloseState:
        """The state after one of these moves."""
        what, pid = move
        if what in FAULTS:
            disk = self.disk.copy()
            disk.fault = what
            spent = self.spent._replace(faults=self.spent.faults + 1)
            return type(self)(self.world, disk, self.processes, self.seen, spent).run(pid)
        if what == "dies, its request arrives later":
            call = self.process(pid).call
            after = self.after(("crash", pid))
            after.disk.late = (*after.disk.late, (pid, *call.args))
            after.seen = after.seen.looked(after.disk, torn=False)
            return after
        if what == "a late request arrives":
            disk = self.disk.copy()
            disk.arrive()
            return self._with(disk, self.spent)
        if what == "the stop-loss is triggered":
            disk = self.disk.copy()
            disk.market_does("set_price", LEG.symbol, 56_000)
            return self._with(disk, self.spent._replace(triggers=self.spent.triggers + 1))
        return super().after(move)

    def finished(self, *, calm: bool) -> None:
        """Whoever comes last finds it closed, or closes it; then it is closed once."""
        for process in self.processes:
            if calm and process.result not in _ANSWERS:
                raise Violation(f"process {process.pid} is told, with nothing amiss: {process.result}")
        state = self
        while state.disk.late:
            state = state.after(("a late request arrives", 0))
        program = Program(_last_of(self.disk), _LAST)
        done = state.joined(Process(_LAST, program, program.start)).completed(None)
        result = done.process(_LAST).result
        if result not in {"closed", "already closed"}:
            raise Violation(f"who comes last is told: {result}")
        if not done.seen.looked(done.disk, torn=False).is_booked(done.disk):
            raise Violation("who comes last finds nothing booked")


def _last_of(market: Market) -> Callable[[Actor], str]:
    return Guards(market).last


@dataclass(frozen=True)
class Scene:
    """Guards, what may befall them, and how far it is explored; as `prove.lock_scenes.Scene`."""

    name: str
    guards: tuple[str, ...]
    bounds: Bounds
    terms: dict[str, Any] = field(default_factory=dict)
    share: int = 1
    jump: float | None = None
    opening: tuple[tuple[int, str], ...] = ()

    @property
    def processes(self) -> int:
        """How many there are at first."""
        return len(self.guards)

    def start(self, folder: Path) -> CloseState:
        """A market with an open position of ten contracts from 60000, and both exit orders; the price is 59000."""
        market = Market(folder, **self.terms)
        market.market_does("set_price", LEG.symbol, ENTRY_PRICE)
        market.market_does("open_position", LEG.symbol, LEG.side, CONTRACTS)
        market.market_does("protect", LEG.symbol, LEG.side, "stop_loss", CONTRACTS, 57_000)
        market.market_does("protect", LEG.symbol, LEG.side, "take_profit", CONTRACTS, 66_000)
        guards = Guards(market)
        tracked = CloseState.at_start(self._world(market, (guards.tracker,))).completed(None)
        market = tracked.disk
        market.market_does("set_price", LEG.symbol, 59_000)
        market.market_does("pay_funding", LEG.symbol, FUNDING)
        market.now_ns += SECOND
        guards = Guards(market)
        programs = tuple(getattr(guards, each) for each in self.guards)
        return CloseState.at_start(self._world(market, programs)).opened(self.opening)

    def _world(self, market: Market, runs: tuple[Callable[[Actor], str], ...]) -> World:
        lease_ns, patience_ns = int(LEASE * SECOND), int(_PATIENCE * SECOND)
        jump_ns = lease_ns if self.jump is None else int(self.jump * SECOND)
        return World(
            runs, self.bounds, market, Closes(), is_private, jump_ns, patience_ns, patience_ns, int(_NAP * SECOND)
        )


SCENES = (
    Scene("two closes", ("closer", "closer"), Bounds(crashes=1, jumps=1, faults=1, triggers=1, preemptions=2), share=2),
    Scene("two closes, one breakdown", ("closer", "closer"), Bounds(crashes=1)),
    Scene(
        "two closes, partial fills",
        ("closer", "closer"),
        Bounds(crashes=1, faults=1, preemptions=2),
        {"liquidity": 6, "remainder_rests": 1},
    ),
    Scene(
        "two closes, late",
        ("closer", "closer"),
        Bounds(jumps=1, faults=1, preemptions=1),
        jump=2.5,
        opening=((1, "time_ms"), (0, "jump"), (1, "place")),
    ),
    Scene("three closes", ("closer", "closer", "closer"), Bounds(crashes=2, jumps=1, preemptions=2)),
    Scene("a close and a change", ("closer", "changer"), Bounds(crashes=1, jumps=1, faults=1, preemptions=2)),
)
