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
from decimal import Decimal
from errno import EBADF, EOPNOTSUPP
from functools import partial
from itertools import count
from pathlib import Path
from traceback import extract_tb
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
from poslock.bridge import finished
from poslock.errors import DuplicateClientOrderId, ExchangeError
from poslock.exchange.port import CloseOrder, Leg, Order, StopOrder
from poslock.guard.operations import Operations
from poslock.ledger.ledger import Ledger
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from poslock.database import Database
    from poslock.lock.position_lock import PositionLock

ID = "btc-1"
LEG = Leg("BTC/USDT:USDT", "long")
OTHER_LEG = Leg("BTC/USDT:USDT", "short")
CONTRACTS = 10
OTHER_CONTRACTS = 3
LEASE = 30.0

_STEP_NS = 10**6
_CANCEL_TRAVELS_NS = 3 * 10**9
_ALL_ARRIVED = 10.0
LOOKS = ("order", "stop")
ORDERS = ("place", "place_stop")
WRITES = (*ORDERS, "cancel", "cancel_all", "cancel_stops")
_KILLS = ("killed before", "killed, request late", "killed after")

Operation: TypeAlias = "Callable[[Operations], Coroutine[Any, Any, object]]"
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
        if self.method not in WRITES:
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
    under_way: tuple[tuple[int, Any], ...]
    kept: Any
    now_ns: int
    slept_ns: int


@dataclass
class Left:
    """An owner's end at a blow, what it left if anybody goes on from there, and how many blows would have left it."""

    blow: Blow
    image: Image | None
    times: int = 0


class Door:
    """How the processes of a world get to its account: through this one they ask it themselves.

    It denies an order for as long as the account says that it may. *kept* is what one that was here before kept.
    """

    def __init__(self, world: World, kept: Any) -> None:
        self.world = world
        self._taken_ns: dict[str, int] = dict(kept)

    def kept(self) -> Any:
        """What is known here and not in the account's file."""
        return self._taken_ns.copy()

    def exchange(self) -> Any:
        """The account, for a process that has just started."""
        return self.world.exchange

    def ask(self, exchange: Any, method: str, *args: Any) -> Any:
        """What the account answers now."""
        if method == "cancel_stops":
            args = ([each for each in args[0] if not self._denies(each.client_order_id)],)
        try:
            answer = getattr(exchange, method)(*args)
        except DuplicateClientOrderId as error:  # not every venue would have noticed
            raise AssertionError("an order was sent again that the venue has") from error
        if method in ORDERS:
            self._taken_ns[args[0].client_order_id] = self.world.now_ns
        if method in LOOKS and answer is not None and self._denies(answer.client_order_id):
            return None
        return answer

    def ask_in_vain(self, kind: Kind, exchange: Any, method: str, *args: Any) -> Any:
        """What comes of it when the request or the answer is lost on its way."""
        if kind == "answer lost":
            with suppress(ExchangeError):
                self.ask(exchange, method, *args)
        if kind == "request late":
            self.world.send(self.late(exchange, method, *args))
        raise OutcomeUnknown("cut") if method in ORDERS else ExchangeUnavailable("cut")

    def late(self, exchange: Any, method: str, *args: Any) -> list[tuple[int, Any]]:
        """A request, and when it arrives if it takes as long as it may."""
        (request,) = args
        due_ns = self.world.now_ns + _CANCEL_TRAVELS_NS
        if isinstance(request, CloseOrder | StopOrder):
            due_ns = (request.signed_at_ms + request.receive_window_ms) * 10**6
        return [(due_ns, (method, args))]

    def arrive(self, request: Any) -> None:
        """Carry out a request that was late."""
        method, args = request
        with suppress(ExchangeError):
            self.ask(self.world.exchange, method, *args)

    def _denies(self, client_order_id: str | None) -> bool:
        denied_until_ns = self._taken_ns.get(client_order_id or "", 0) + self.world.exchange.denies_for * 1e9
        return self.world.now_ns < denied_until_ns

    def resting(self, leg: Leg) -> list[tuple[str, Decimal | None]]:
        """The kinds and prices of all orders that rest and would reduce *leg*."""
        return [(order.family, order.trigger_price) for order in self.world.exchange.open_orders(leg)]

    def others(self) -> list[tuple[str, Decimal | None]]:
        """What rests for the other side, from first to last."""
        return [("stop_loss", Decimal(63_000))] if self.world.hedge else []


class World:
    """The account, the lock directory with the ledger, and the time; *settings* are those of the paper exchange."""

    _numbers = count()

    def __init__(
        self, folder: Path, image: Image, *, door: Callable[[World, Any], Door] = Door, **settings: Any
    ) -> None:
        self.path = folder / str(next(self._numbers))
        self.lock_dir = str(self.path / "locks")
        self.now_ns = image.now_ns
        self._slept_ns = image.slept_ns
        self._under_way = list(image.under_way)
        os.makedirs(f"{self.lock_dir}/.presence", 0o700)
        for name, data in image.files.items():
            Path(name.replace("*", str(self.path), 1)).write_bytes(data)
        self._settings = {"door": door, **settings}
        self.hedge = bool(settings.get("hedge"))
        clock: Any = {"clock": lambda: self.now_ns / 1e9, "sleep": self.sleep}
        self.exchange = PaperExchange(self.path / "exchange.db", **clock, **settings)
        self.ledger = Ledger(f"{self.lock_dir}/ledger.db")
        for database in self._databases():
            _spare_the_disk(database)
        self.door = door(self, image.kept)

    def image(self) -> Image:
        """What there is now."""
        # What is kept for the next process is of the real clock; whoever goes on asks.
        paths = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(self.path)
            for name in names
            if not name.endswith(".known")
        ]
        files = {path.replace(str(self.path), "*", 1): Path(path).read_bytes() for path in paths}
        return Image(files, tuple(self._under_way), self.door.kept(), self.now_ns, self._slept_ns)

    def marks(self) -> tuple[object, ...]:
        """What is the same again only if nothing was written, sent or waited for; the time of a step does not count."""
        kept = [database._kept.current() for database in self._databases()]
        changes = [connection and connection.total_changes for connection in kept]
        locks = [path.read_bytes() for path in Path(self.lock_dir).glob("*.lock")]
        return (*changes, *locks, *self._under_way, str(self.door.kept()), self._slept_ns)

    def again(self, image: Image) -> World:
        """Another world like this, as it was in *image*."""
        return World(self.path.parent, image, **self._settings)

    def end(self) -> None:
        """Remove it."""
        for database in self._databases():
            database.close()
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

    def send(self, requests: list[tuple[int, Any]]) -> None:
        """Let requests be under way, each till it is due."""
        self._under_way = sorted([*self._under_way, *requests], key=lambda each: each[0])

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
            due_ns, request = self._under_way.pop(0)
            self.now_ns = max(self.now_ns, due_ns)
            self.door.arrive(request)
        self.now_ns = until_ns

    def _databases(self) -> tuple[Database, Database]:
        return self.exchange._database, self.ledger._database


def _spare_the_disk(database: Database) -> None:
    """Nobody is killed inside a transaction, and no other process asks. It saves half the time."""
    with database.snapshot():
        pass
    opened = database._kept.current()
    assert opened is not None
    opened.execute("PRAGMA journal_mode = MEMORY")
    opened.execute("PRAGMA locking_mode = EXCLUSIVE")


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

    generation = 0

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

    def make_pipe(self, path: str) -> None:
        raise OSError(EOPNOTSUPP, "who waits looks again and again, by the clock of this world")

    def random(self) -> float:
        return 0.5

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

    def __init__(self, owner: Owner, exchange: Any) -> None:
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
    leave the same behind, as after a step that only reads, one is kept, with its image if *wanted* says so.
    """

    asynchronous = False

    def __init__(
        self,
        world: World,
        *lost: Blow,
        watched_after: int | None = None,
        before: tuple[int, Callable[[], object]] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.steps: list[Step] = []
        self.kills: list[Blow] = []
        self.different: dict[tuple[object, ...], Left] = {}
        self._world = world
        self._watched_after = watched_after
        self._before = before
        self._wanted = wanted
        self._lost = {blow.number: blow for blow in lost}
        self._system: Any = Process(world)
        directory = LockDirectory(world.lock_dir, self._system)
        self._exchange = world.door.exchange()
        venue: Any = Venue(self, self._exchange)
        self.guarding = Operations(
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
        ask = partial(self._world.door.ask, self._exchange, method.__name__)
        return self.carry_out(Step("venue", method.__name__), ask, *args)

    async def ledger(self, method: Callable[..., Any], *args: object) -> Any:
        return self.carry_out(Step("ledger", method.__name__), method, *args)

    async def together(self, calls: Sequence[Any], spare: float | None) -> list[Any]:
        del spare  # one after the other, so that every step has its number
        answers: list[Any] = []
        for method, args in calls:
            try:
                answers.append(await self.venue(method, *args))
            except ExchangeError as error:
                answers.append(error)
        return answers

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
            if (blow := self._lost.get(number)) is None:
                return call(*args)
            return self._world.door.ask_in_vain(blow.kind, self._exchange, step.method, *args)
        finally:
            self._may_die(number, "killed after", *args)

    def _acquired(self, lock: PositionLock, timeout: float | None) -> int:
        slept_ns = self._world._slept_ns
        token = lock.acquire(timeout)
        assert self._world._slept_ns == slept_ns, "it waited for a dead owner"
        return token

    def _may_die(self, number: int, kind: Kind, *args: object) -> None:
        step = self.steps[number]
        if self._watched_after is None or number <= self._watched_after or kind not in step.kinds:
            return
        blow = Blow(number, step, kind)
        self.kills.append(blow)
        under_way = self._world._under_way.copy()
        if kind == "killed, request late":
            self._world.send(self._world.door.late(self._exchange, step.method, *args))
        marks = self._world.marks()
        if marks not in self.different:
            self.different[marks] = Left(blow, self._world.image() if self._wanted() else None)
        same = self.different[marks]
        same.times += 1
        if same.times > 1 and same.image is not None:
            image = self._world.image()
            assert (same.image.files, same.image.kept) == (image.files, image.kept)
        self._world._under_way = under_way


# What happens in a world, every way it can.


@dataclass(frozen=True)
class Story:
    """What the first owner does, what the next one may do when it was killed, and what must be true at the end.

    ``left`` looks at what each of them leaves behind; ``finish`` is what the last one does, and looks too. Who was
    struck may end in one of ``outcomes`` instead; the last one may not. Of the blows every ``once_in``-th is tried, and
    of the pairs of blows that leave something different every ``one_in``-th.
    """

    first: Operation
    seconds: tuple[Operation, ...]
    finish: Callable[[World], None]
    left: Callable[[World], None] = lambda _: None
    outcomes: tuple[type[PoslockError], ...] = ()
    one_in: int = 1
    once_in: int = 1


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
        first = self._case(self._start, self._story.first, "undisturbed", watched_after=-1, wanted=lambda: True)
        self.tally.steps = len(first.steps)
        self.tally.single = len(blows(first.steps))
        lost = [blow for blow in blows(first.steps) if not blow.kills][:: self._story.once_in]
        different = [*first.different.values()][:: self._story.once_in]
        self.tally.once = 1 + len(different) * len(self._story.seconds) + len(lost)
        for killed in different:
            assert killed.image is not None
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
            if killed.image is not None:
                self._finish(self._world.again(killed.image), f"{told}, {killed.blow}")
        for blow in blows(owner.steps, after=max((blow.number for blow in before), default=-1)):
            if not blow.kills and self._is_due():
                self._case(image, operation, f"{told}, {blow}", *before, blow)

    def _is_due(self) -> bool:
        self.tally.different += 1
        return self.tally.different % self._story.one_in == 0

    def _case(
        self,
        image: Image,
        operation: Operation,
        told: str,
        *lost: Blow,
        watched_after: int | None = None,
        wanted: Callable[[], bool] | None = None,
    ) -> Owner:
        """From *image* one owner acts, and another one finishes; the one that acted."""
        world = self._world.again(image)
        owner = Owner(world, *lost, watched_after=watched_after, wanted=wanted or self._is_due)
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
        at = extract_tb(error.__traceback__)[-1]
        self.tally.failures.append(f"{told}: {type(error).__name__}: {error} ({at.name}: {at.line})")


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


def opened(folder: Path, *, past: Callable[[World], None] | None = None, bare: bool = False, **settings: Any) -> World:
    """A world with an open position of ten contracts from 60000 and both protective orders; the price is 59000.

    A *bare* one has no stop-loss.
    In hedge mode the other side is held too, and protected. *past* is what happened in the account before.
    """
    world = World(folder, Image({}, (), {}, 10**15, 0), **settings)
    world.exchange.set_price(LEG.symbol, 60_000)
    if past is not None:
        past(world)
        world.settle()
    world.exchange.open_position(LEG.symbol, LEG.side, CONTRACTS)
    if not bare:
        world.exchange.protect(LEG.symbol, LEG.side, "stop_loss", CONTRACTS, 57_000)
    world.exchange.protect(LEG.symbol, LEG.side, "take_profit", CONTRACTS, 66_000)
    if world.hedge:
        world.exchange.open_position(OTHER_LEG.symbol, OTHER_LEG.side, OTHER_CONTRACTS)
        world.exchange.protect(OTHER_LEG.symbol, OTHER_LEG.side, "stop_loss", OTHER_CONTRACTS, 63_000)
    position = Position(ID, LEG.symbol, LEG.side, CONTRACTS, 60_000)
    Owner(world).run(lambda guarding: guarding.track(position, (), verify=True))
    world.exchange.set_price(LEG.symbol, 59_000)
    return world
