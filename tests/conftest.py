from __future__ import annotations

import gc
import os
import re
import signal
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from awaited import guard_on
from key_hygiene import pytest_configure, pytest_runtest_makereport  # noqa: F401  # pytest finds hooks by their names
from poslock import PaperExchange, Position
from poslock.exchange.port import Leg
from poslock.lock.files.system import SYSTEM
from processes import Child
from reach import reached, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loopback.server import Loopback
    from poslock import PositionGuard

SYMBOL = "BTC/USDT:USDT"
_MANY_DESCRIPTORS = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--both-clients", action="store_true", help="run tests that take turns for threads and for tasks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take turns go for one of the two kinds of client, about half of them for each.

    A venue's module is the same code for both, and what differs has tests of its own. Which one is decided by the name.
    """
    if config.getoption("--both-clients"):
        return
    left_out = [item for item in items if item.get_closest_marker("takes_turns") and not _has_its_turn(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _has_its_turn(item: pytest.Item) -> bool:
    name = re.sub(r"\b(sync|async|threads|tasks)\b", "", item.nodeid)
    wants: bool = item.callspec.params["asynchronous"]  # type: ignore[attr-defined]  # it is parametrized
    return bool(crc32(name.encode()) % 2) is wants


@pytest.fixture
def lock_dir(tmp_path: Path) -> str:
    return str(tmp_path / "locks")


@dataclass
class Children:
    """Starts children and ends them with the test."""

    started: list[Child] = field(default_factory=list)

    def __call__(self, actor: str, **settings: object) -> Child:
        child = Child(actor, **settings)
        self.started.append(child)
        return child


@pytest.fixture
def start() -> Iterator[Children]:
    children = Children()
    yield children
    for child in children.started:
        child.end()


@dataclass
class Account:
    """A paper account with a guard over it, and a look at what both have written.

    Guards reach it at *where*: in its file, or through *server*, a venue on this machine.
    """

    exchange: PaperExchange
    where: str
    lock_dir: str
    asynchronous: bool
    server: Loopback | None = None
    guard: PositionGuard = field(init=False)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.guard = self.guard_on(self.reached())

    @property
    def exchange_path(self) -> str:
        """The file of the account."""
        return self.exchange._database.path

    def fills_in_parts(self, *, liquidity: str, remainder_rests: float) -> None:
        """From now on a market order takes so much at once, and the rest of it stays open for so many seconds."""
        if self.where == self.exchange_path:
            self.settings = {"liquidity": liquidity, "remainder_rests": remainder_rests}
            return
        self.exchange._liquidity = Decimal(liquidity)
        self.exchange._terms = replace(self.exchange._terms, remainder_rests_ms=int(remainder_rests * 1000))

    def reached(self) -> Any:
        """The account as another bot gets at it."""
        return reached(self.where, asynchronous=self.asynchronous, **self.settings)

    def guard_on(self, exchange: Any, **options: Any) -> PositionGuard:
        """Another guard of the same kind."""
        return guard_on(exchange, asynchronous=self.asynchronous, **{"lock_dir": self.lock_dir, **options})

    def of_child(self) -> dict[str, Any]:
        """Settings of a child that closes on this account, with a guard of the same kind."""
        places = {"exchange": self.where, "lock_dir": self.lock_dir}
        return {**places, "asynchronous": self.asynchronous, "settings": self.settings}

    def open(
        self,
        position_id: str = "btc-1",
        *,
        contracts: int = 10,
        symbol: str = SYMBOL,
        side: Any = "long",
        bare: bool = False,
    ) -> Position:
        """An open and tracked position from 60000, with a resting take-profit, and a stop-loss unless it is *bare*."""
        below, above = ("stop_loss", "take_profit") if side == "long" else ("take_profit", "stop_loss")
        self.exchange.set_price(symbol, 60_000)
        self.exchange.open_position(symbol, side, contracts)
        exits = {below: 57_000, above: 66_000}
        for family in ("take_profit",) if bare else ("stop_loss", "take_profit"):
            self.exchange.protect(symbol, side, family, contracts, exits[family])  # type: ignore[arg-type]
        position = Position(position_id, symbol, side, contracts, 60_000)
        self.guard.track(position)
        self.exchange.set_price(symbol, 59_000)
        return position

    def put_ledger_aside(self) -> None:
        """The next guard begins an empty one."""
        self.guard.close()
        for path in Path(self.lock_dir).glob("ledger.db*"):
            path.unlink()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the ledger says to a statement."""
        ledger = sqlite3.connect(f"{self.lock_dir}/ledger.db")
        try:
            with ledger:
                return ledger.execute(sql).fetchall()
        finally:
            ledger.close()

    def assert_closed_once(self, position: Position, *, orders: int = 1) -> None:
        """One close, one booking of all of it, nothing left: G1, G5, G6; and ledger writes in token order: G4."""
        leg = Leg(position.symbol, position.side)
        other = Leg(position.symbol, "short" if position.side == "long" else "long")
        assert self.exchange.held(leg) == 0
        assert self.exchange.held(other) == 0, "reversed"
        assert self.exchange.open_orders(leg) == []
        assert len([o for o in self.exchange.orders(leg) if o.family == "order" and o.filled]) == orders
        assert self.rows(f"SELECT count(*) FROM booking WHERE position_id = '{position.id}'") == [(1,)]
        closed = self.guard.position(position.id).closed
        assert closed is not None
        assert sum(fill.contracts for fill in closed.fills) == position.contracts
        assert [f.trade_id for f in closed.fills] == [f.trade_id for f in self.exchange.fills(leg, 0)]
        tokens = [t for (t,) in self.rows(f"SELECT token FROM audit WHERE position_id='{position.id}' ORDER BY number")]
        assert tokens == sorted(tokens)


@pytest.fixture
def asynchronous() -> bool:
    """Whether the guards are those for tasks; a module whose tests go for both kinds parametrizes it."""
    return False


@pytest.fixture
def venue() -> str:
    """What is in front of the account; a module whose tests go for several parametrizes it."""
    return "paper"


@pytest.fixture
def account(tmp_path: Path, lock_dir: str, venue: str, *, asynchronous: bool) -> Iterator[Account]:
    path = str(tmp_path / "exchange.db")
    if venue == "paper":
        yield Account(PaperExchange(path), path, lock_dir, asynchronous)
        return
    with serving(venue, path) as server:
        yield Account(server.book, f"{venue.partition(' ')[0]} {server.url}", lock_dir, asynchronous, server)


@pytest.fixture(autouse=True)
def _no_configuration_of_ours(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has set up for an account of their own is not for tests."""
    monkeypatch.delenv("POSLOCK_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no configuration"))


@pytest.fixture(autouse=True)
def _signals_stay_as_they_are() -> Iterator[None]:
    """Blocked signals stay blocked in all children of later tests, which then cannot be ended as they expect."""
    before = _signals()
    yield
    assert _signals() == before


def _signals() -> tuple[set[int], dict[int, Any]]:
    """What is blocked, and all handlers but that of pytest-timeout, which it takes back later if a test fails."""
    ours = signal.valid_signals() - {signal.SIGALRM}
    return signal.pthread_sigmask(signal.SIG_BLOCK, []), {each: signal.getsignal(each) for each in ours}


@pytest.fixture(autouse=True)
def _nothing_stays_open(tmp_path: Path) -> Iterator[None]:
    """A process keeps its presence and its latest lock files open till it ends; this one runs very many tests."""
    yield
    if len(os.listdir("/proc/self/fd")) > _MANY_DESCRIPTORS:  # connections of ledgers that nobody has any more
        gc.collect()
    for descriptor in tuple(SYSTEM._descriptors):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tmp_path)):
                SYSTEM.close(descriptor)
