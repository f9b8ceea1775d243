"""Owners that are stopped at any of their steps, one after the other, in one process and in virtual time.

An `Owner` is what a process with a guard is: it carries out the guard's calls one by one and counts them. It may be
killed before and after each, and of a call to the venue the answer may be lost, or the request, or it may be late.

What a kill leaves behind is an `Image`: the files, what is under way to the venue, and the time. Locks are not in it,
so in the `World` made of an image everybody who was there is dead, and has done nothing more, not even release a lock.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EBADF
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from poslock import (
    ExchangeUnavailable,
    LedgerError,
    LockLost,
    OutcomeUnknown,
    PaperExchange,
    Position,
    PositionAlreadyClosingError,
    PoslockError,
)
from poslock.coroutine import finished
from poslock.errors import DuplicateClientOrderId, ExchangeError
from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
from poslock.guarding import Guarding
from poslock.ledger.ledger import Ledger
from poslock.lock.directory import LockDirectory
from poslock.lock.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from decimal import Decimal

    from poslock.lock.position_lock import PositionLock

ID = "btc-1"
LEG = Leg("BTC/USDT:USDT", "long")
OTHER_LEG = Leg("BTC/USDT:USDT", "short")
CONTRACTS = 10
LEASE = 30.0

_STEP_NS = 10**6
_CANCEL_TRAVELS_NS = 3 * 10**9
_ALL_ARRIVED = 10.0
_LOOKS = ("order", "stop")
_ORDERS = ("place", "place_stop")
_WRITES = (*_ORDERS, "cancel")
_KILLS = ("killed before", "killed, request late", "killed after")

Operation: TypeAlias = "Callable[[Guarding], Coroutine[Any, Any, object]]"
Kind: TypeAlias = Literal[
    "killed before", "killed after", "killed, request late", "answer lost", "request lost", "request late"
]


@dataclass(frozen=True)
class Step:
    """A call that an owner makes, or its look at the clock before it signs a request."""

    port: Literal["venue", "ledger", "lock", "driver"]
    method: str

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All that can befall it. The venue takes a late request in the last moment in which it may."""
        if self.port != "venue":
            return ("killed before", "killed after")
        if self.method not in _WRITES:
            return ("killed before", "killed after", "answer lost")
        return ("killed before", "killed, request late", "killed after", "answer lost", "request lost", "request late")


@dataclass(frozen=True)
class Blow:
    """What befalls an owner at one of its steps, counted from 0."""

    number: int
    step: Step
    kind: Kind

    @property
    def kills(self) -> bool:
        return self.kind in _KILLS

    def __str__(self) -> str:
        return f"{self.kind} at {self.number} {self.step.method}"


def blows(steps: Sequence[Step], *, after: int = -1) -> list[Blow]:
    """Every blow at every step after a certain one."""
    return [Blow(number, step, kind) for number, step in enumerate(steps) if number > after for kind in step.kinds]


@dataclass(frozen=True)
class Image:
    """A world as it is at one moment, without the living."""

    files: dict[str, bytes]
    under_way: tuple[tuple[int, str, tuple[Any, ...]], ...]
    taken_ns: dict[str, int]
    now_ns: int
    slept_ns: int


@dataclass
class Left:
    """An owner's end at a blow, what it left, and how many blows would have left the same."""

    blow: Blow
    image: Image
    times: int = 0


class World:
    """The account, the lock directory with the ledger, and the time; *settings* are those of the paper exchange."""

    _numbers = count()

    def __init__(self, folder: Path, image: Image, **settings: Any) -> None:
        self.path = folder / str(next(self._numbers))
        self.lock_dir = str(self.path / "locks")
        self.now_ns = image.now_ns
        self._slept_ns = image.slept_ns
        self._under_way = list(image.under_way)
        self._taken_ns = dict(image.taken_ns)
        os.makedirs(f"{self.lock_dir}/.presence", 0o700)
        for name, data in image.files.items():
            Path(name.replace("*", str(self.path), 1)).write_bytes(data)
        self._settings = settings
        clock: Any = {"clock": lambda: self.now_ns / 1e9, "sleep": self.sleep}
        self.exchange = PaperExchange(self.path / "exchange.db", **clock, **settings)
        self.ledger = Ledger(f"{self.lock_dir}/ledger.db")
        # Nobody is killed inside a transaction, and one connection each serves all owners: that saves half the time.
        for database in (self.exchange._database, self.ledger._database):
            database._connection().execute("PRAGMA journal_mode = MEMORY")
            database._connection().execute("PRAGMA locking_mode = EXCLUSIVE")

    def image(self) -> Image:
        """What there is now."""
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(self.path) for name in names]
        files = {path.replace(str(self.path), "*", 1): Path(path).read_bytes() for path in paths}
        return Image(files, tuple(self._under_way), self._taken_ns.copy(), self.now_ns, self._slept_ns)

    def marks(self) -> tuple[object, ...]:
        """What is the same again only if nothing was written, sent or waited for; the time of a step does not count."""
        changes = [d._connection().total_changes for d in (self.exchange._database, self.ledger._database)]
        locks = [path.read_bytes() for path in Path(self.lock_dir).glob("*.lock")]
        return (*changes, *locks, *self._under_way, self._slept_ns)

    def again(self, image: Image) -> World:
        """Another world like this, as it was in *image*."""
        return World(self.path.parent, image, **self._settings)

    def end(self) -> None:
        """Remove it."""
        for database in (self.exchange._database, self.ledger._database):
            database._connection().close()
        shutil.rmtree(self.path)

    def sleep(self, seconds: float) -> None:
        """Let time pass, in which the venue receives what was under way."""
        self._slept_ns += round(seconds * 1e9)
        self._pass_ns(round(seconds * 1e9))

    def step(self) -> None:
        """Let as much time pass as a step takes."""
        self._pass_ns(_STEP_NS)

    def settle(self) -> None:
        """Let so much time pass that nothing is under way any more."""
        self.sleep(_ALL_ARRIVED)
        assert not self._under_way

    def ask(self, method: str, *args: Any) -> Any:
        """What the venue answers now. It denies an order for as long as it says that it may."""
        try:
            answer = getattr(self.exchange, method)(*args)
        except DuplicateClientOrderId as error:  # not every venue would have noticed
            raise AssertionError("an order was sent again that the venue has") from error
        if method in _ORDERS:
            self._taken_ns[args[0].client_order_id] = self.now_ns
        if method in _LOOKS and answer is not None:
            denied_until_ns = self._taken_ns.get(answer.client_order_id, 0) + self.exchange.denies_for * 1e9
            return None if self.now_ns < denied_until_ns else answer
        return answer

    def delay(self, method: str, *args: Any) -> None:
        """Let a request arrive as late as it may."""
        (request,) = args
        due_ns = self.now_ns + _CANCEL_TRAVELS_NS
        if isinstance(request, CloseOrder | StopOrder):
            due_ns = (request.signed_at_ms + request.receive_window_ms) * 10**6
        self._under_way.append((due_ns, method, args))
        self._under_way.sort(key=lambda each: each[0])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the ledger says to a statement."""
        with self.ledger._database.snapshot() as db:
            return [tuple(row) for row in db.execute(sql)]

    def resting(self, family: str) -> list[Decimal | None]:
        """The prices of the open orders of a kind."""
        found: list[Order] = self.exchange.open_orders(LEG)
        return [order.trigger_price for order in found if order.family == family]

    def closing_orders(self) -> list[Order]:
        """Every order to reduce the position that the venue ever took."""
        return [order for order in self.exchange.orders(LEG) if order.family == "order"]

    def _pass_ns(self, nanoseconds: int) -> None:
        until_ns = self.now_ns + nanoseconds
        while self._under_way and self._under_way[0][0] <= until_ns:
            due_ns, method, args = self._under_way.pop(0)
            self.now_ns = max(self.now_ns, due_ns)
            with suppress(ExchangeError):
                self.ask(method, *args)
        self.now_ns = until_ns


class Killed(BaseException):
    """The process has ended."""


class Process:
    """The system as one process sees it: with its own open files, and in the world's time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: set[int] = set()
        self._lives = True

    def end(self) -> None:
        """Close what it has open, as the kernel does; its presence too."""
        for descriptor in tuple(self._open):
            self.close(descriptor)
        self._lives = False

    def process_id(self) -> int:
        """Nobody's, once it has ended: so a lock object of its holds nothing, and releases nothing."""
        return os.getpid() if self._lives else 0

    def open(self, path: str, *, create: bool = False, write: bool = True) -> int:
        return self._noted(SYSTEM.open(path, create=create, write=write))

    def create(self, path: str) -> int:
        return self._noted(SYSTEM.create(path))

    def close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        SYSTEM.close(descriptor)

    def monotonic_ns(self) -> int:
        return self._world.now_ns

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)

    def watcher(self) -> None:
        return None

    def mount_table(self) -> str:
        return ""

    def __getattr__(self, name: str) -> Any:
        if not self._lives:
            raise OSError(EBADF, "the process has ended")
        return getattr(SYSTEM, name)

    def _noted(self, descriptor: int) -> int:
        self._open.add(descriptor)
        return descriptor


class Venue:
    """The account as an owner sees it: it looks at the clock only when it signs, and that is a step."""

    def __init__(self, owner: Owner, exchange: PaperExchange) -> None:
        self._owner = owner
        self._exchange = exchange

    def time_ms(self) -> int:
        time_ms: int = self._owner.carry_out(Step("driver", "stamp"), self._exchange.time_ms)
        return time_ms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)


class Owner:
    """One process with a guard, and its ports. What is *lost* befalls it; after a step, all kills that could are noted.

    *before* a step something else may happen: it is stopped there, and resumed when that is over. Of the kills that
    leave the same behind, as after a step that only reads, one image is kept.
    """

    def __init__(
        self,
        world: World,
        *lost: Blow,
        watched_after: int | None = None,
        before: tuple[int, Callable[[], object]] | None = None,
    ) -> None:
        self.steps: list[Step] = []
        self.kills: list[Blow] = []
        self.different: dict[tuple[object, ...], Left] = {}
        self._world = world
        self._watched_after = watched_after
        self._before = before
        self._lost = {blow.number: blow for blow in lost}
        self._system: Any = Process(world)
        directory = LockDirectory(world.lock_dir, self._system)
        venue: Any = Venue(self, world.exchange)
        self.guarding = Guarding(
            self, venue, lock_dir=directory, ledger=world.ledger, timeout=LEASE + 5, stale_after=LEASE
        )

    def run(self, operation: Operation, *outcomes: type[PoslockError]) -> object:
        """The result of an operation of the guard; None if it is closed, or for one of *outcomes*. Ends its process."""
        try:
            return finished(operation(self.guarding))
        except PositionAlreadyClosingError as error:
            if error.state != "closed":
                raise
        except Killed:
            pass
        except outcomes:
            pass
        finally:
            assert all(self.steps[number] == blow.step for number, blow in self._lost.items()), "a blow went astray"
            self._system.end()
        return None

    def kill(self) -> None:
        """End its process at once."""
        self._system.end()
        raise Killed

    # The ports of its guard.

    async def venue(self, method: Callable[..., Any], *args: object) -> Any:
        return self.carry_out(Step("venue", method.__name__), partial(self._world.ask, method.__name__), *args)

    async def ledger(self, method: Callable[..., Any], *args: object) -> Any:
        return self.carry_out(Step("ledger", method.__name__), method, *args)

    async def acquire(self, lock: PositionLock, timeout: float | None) -> int:  # noqa: ASYNC109  # as in `Ports`
        token: int = self.carry_out(Step("lock", "acquire"), self._acquired, lock, timeout)
        return token

    async def sleep(self, seconds: float) -> None:
        self.carry_out(Step("driver", "wait"), self._world.sleep, seconds)

    def carry_out(self, step: Step, call: Callable[..., Any], *args: object) -> Any:
        """Do what is asked, or lose it."""
        number = len(self.steps)
        self.steps.append(step)
        self._world.step()
        if self._before is not None and self._before[0] == number:
            self._before[1]()
        self._may_die(number, "killed before", *args)
        self._may_die(number, "killed, request late", *args)
        try:
            return self._asked(self._lost.get(number), call, *args)
        finally:
            self._may_die(number, "killed after", *args)

    def _acquired(self, lock: PositionLock, timeout: float | None) -> int:
        slept_ns = self._world._slept_ns
        token = lock.acquire(timeout)
        assert self._world._slept_ns == slept_ns, "it waited for a dead owner"
        return token

    def _asked(self, blow: Blow | None, call: Callable[..., Any], *args: object) -> Any:
        if blow is None:
            return call(*args)
        if blow.kind == "answer lost":
            with suppress(ExchangeError):
                call(*args)
        if blow.kind == "request late":
            self._world.delay(blow.step.method, *args)
        raise OutcomeUnknown("cut") if blow.step.method in _ORDERS else ExchangeUnavailable("cut")

    def _may_die(self, number: int, kind: Kind, *args: object) -> None:
        step = self.steps[number]
        if self._watched_after is None or number <= self._watched_after or kind not in step.kinds:
            return
        blow = Blow(number, step, kind)
        self.kills.append(blow)
        under_way = self._world._under_way.copy()
        if kind == "killed, request late":
            self._world.delay(step.method, *args)
        image = self._world.image()
        same = self.different.setdefault(self._world.marks(), Left(blow, image))
        assert same.image.files == image.files
        same.times += 1
        self._world._under_way = under_way


# What happens in a world, every way it can.


@dataclass(frozen=True)
class Story:
    """What the first owner does, what the next one may do when it was killed, and what must be true at the end.

    ``left`` looks at what each of them leaves behind; ``finish`` is what the last one does, and looks too. Who was
    struck may end in one of ``outcomes`` instead; the last one may not. Of the pairs of blows that leave something
    different every ``one_in``-th is tried.
    """

    first: Operation
    seconds: tuple[Operation, ...]
    finish: Callable[[World], None]
    left: Callable[[World], None] = lambda _: None
    outcomes: tuple[type[PoslockError], ...] = ()
    one_in: int = 1


@dataclass
class Tally:
    """How many ways there were, and what went wrong in those that were tried.

    Of kills in one run that leave the same behind only the first is gone on from: a step that reads leaves no trace.
    """

    steps: int = 0
    single: int = 0
    pairs: int = 0
    once: int = 0
    different: int = 0
    tried: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        struck = f"{self.steps} steps, {self.single} blows, {self.pairs} pairs of blows"
        return f"{struck}, {self.different} of which leave something different; {self.tried} cases tried"


class Telling:
    """Tells a story undisturbed, with every blow, and with every pair of them."""

    def __init__(self, story: Story, start: World) -> None:
        self._story = story
        self._world = start
        self._start = start.image()
        self.tally = Tally()

    def tell(self) -> Tally:
        """Everything. Of two blows the second strikes whoever goes on after the first: the next owner, or the same."""
        first = self._case(self._start, self._story.first, "undisturbed", watched_after=-1)
        self.tally.steps = len(first.steps)
        self.tally.single = len(blows(first.steps))
        lost = [blow for blow in blows(first.steps) if not blow.kills]
        self.tally.once = 1 + len(first.different) * len(self._story.seconds) + len(lost)
        for killed in first.different.values():
            for second in self._story.seconds:
                told = f"{killed.blow}, {second.__name__}"
                owner = self._case(killed.image, second, told, watched_after=-1)
                self.tally.pairs += killed.times * len(blows(owner.steps))
                self._struck_again(owner, killed.image, second, told)
        for blow in lost:
            owner = self._case(self._start, self._story.first, str(blow), blow, watched_after=blow.number)
            self.tally.pairs += len(blows(owner.steps, after=blow.number))
            self._struck_again(owner, self._start, self._story.first, str(blow), blow)
        return self.tally

    def _struck_again(self, owner: Owner, image: Image, operation: Operation, told: str, *before: Blow) -> None:
        for killed in owner.different.values():
            if self._is_due():
                self._finish(self._world.again(killed.image), f"{told}, {killed.blow}")
        for blow in blows(owner.steps, after=max((blow.number for blow in before), default=-1)):
            if not blow.kills and self._is_due():
                self._case(image, operation, f"{told}, {blow}", *before, blow)

    def _is_due(self) -> bool:
        self.tally.different += 1
        return self.tally.different % self._story.one_in == 0

    def _case(
        self, image: Image, operation: Operation, told: str, *lost: Blow, watched_after: int | None = None
    ) -> Owner:
        """From *image* one owner acts, and another one finishes; the one that acted."""
        world = self._world.again(image)
        owner = Owner(world, *lost, watched_after=watched_after)
        try:
            owner.run(operation, *self._story.outcomes)
        except Exception as error:  # noqa: BLE001  # whatever it is, the case failed
            self._failed(told, error)
        if watched_after is not None:
            assert owner.kills == [each for each in blows(owner.steps, after=watched_after) if each.kills]
        self._finish(world, told)
        return owner

    def _finish(self, world: World, told: str) -> None:
        self.tally.tried += 1
        try:
            self._story.left(world)
            self._story.finish(world)
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(told, error)
        world.end()

    def _failed(self, told: str, error: Exception) -> None:
        self.tally.failures.append(f"{told}: {type(error).__name__}: {error}")


def stopped_and_resumed(start: World, operation: Operation, finish: Callable[[World], None], *, one_in: int = 1) -> int:
    """Stop an owner before each of its steps for longer than its lease, and resume it when the next one was killed.

    The next one is killed before each of its steps, or before every *one_in*-th, or not at all. How many cases there
    were.
    """
    cases, image = 0, start.image()
    for number in range(_steps(start.again(image), operation)):
        for until in count(number % one_in, one_in):
            world = start.again(image)
            second = Owner(world)
            second._before = (until, second.kill)

            def meanwhile(world: World = world, second: Owner = second) -> None:
                world.sleep(LEASE + 1)
                second.run(operation)

            Owner(world, before=(number, meanwhile)).run(operation, LockLost, LedgerError)
            finish(world)
            world.end()
            cases += 1
            if len(second.steps) <= until:
                break
    return cases


def _steps(world: World, operation: Operation) -> int:
    owner = Owner(world)
    owner.run(operation)
    world.end()
    return len(owner.steps)


def opened(folder: Path, **settings: Any) -> World:
    """A world with an open position of ten contracts from 60000 and both protective orders; the price is 59000."""
    world = World(folder, Image({}, (), {}, 10**15, 0), **settings)
    world.exchange.set_price(LEG.symbol, 60_000)
    world.exchange.open_position(LEG.symbol, LEG.side, CONTRACTS)
    world.exchange.protect(LEG.symbol, LEG.side, "stop_loss", CONTRACTS, 57_000)
    world.exchange.protect(LEG.symbol, LEG.side, "take_profit", CONTRACTS, 66_000)
    position = Position(ID, LEG.symbol, LEG.side, CONTRACTS, 60_000)
    Owner(world).run(lambda guarding: guarding.track(position))
    world.exchange.set_price(LEG.symbol, 59_000)
    return world
