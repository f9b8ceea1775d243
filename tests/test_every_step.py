"""The crash table of close and change, exhaustive by construction: each step times each blow, twice in a row.

Of every owner every step is counted, so a step that is added to a machine is struck too.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from every_step import (
    CONTRACTS,
    ID,
    LEG,
    OTHER_LEG,
    Operation,
    Owner,
    Story,
    Telling,
    World,
    opened,
    stopped_and_resumed,
)
from poslock import CloseUnsettled, InvalidChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from poslock.guarding import Guarding, Recovery

_MEMORY = Path("/dev/shm")  # noqa: S108  # no disk is needed, and none is as fast
_REDUCE = 4
_UNDER_WAY = (InvalidChange,)  # a reduce that somebody else had begun is finished, and ours is not begun
_OLD = {"stop_loss": Decimal(57_000), "take_profit": Decimal(66_000)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY) as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def _unheard() -> Iterator[None]:
    """Thousands of takeovers that nobody reads would take longer than the rest."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints what is to be seen of a test that passes; on the stream that is seen from any process."""

    def said(what: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n{request.node.name}: {what}\n")

    return said


@pytest.fixture
def tell(say: Callable[[str], None]) -> Callable[[Story, World], None]:
    """Tells a story every way, and prints how many there were."""

    def told(story: Story, world: World) -> None:
        tally = Telling(story, world).tell()
        say(str(tally))
        failures = "\n".join(tally.failures[:20])
        assert not tally.failures, f"{len(tally.failures)} of {tally.tried} cases failed:\n{failures}"
        assert tally.tried == tally.once + tally.different // story.one_in

    return told


async def close(guarding: Guarding) -> object:
    return await guarding.close_position(ID, "every step")


async def recover(guarding: Guarding) -> list[Recovery]:
    return await guarding.recover()


def modify(*, stop_loss: Any = ..., take_profit: Any = ..., reduce_by: Any = None) -> Operation:
    async def modified(guarding: Guarding) -> object:
        return await guarding.modify_position(ID, stop_loss, take_profit, reduce_by)

    return modified


def finish_close(world: World) -> None:
    """What was begun is recovered, what was not begun is closed; and then it is closed once."""
    recovered(world)
    assert world.rows("SELECT state FROM position") in ([("open",)], [("closed",)])
    Owner(world).run(close)
    assert_closed_once(world)


def recovered(world: World) -> None:
    recoveries: Any = Owner(world).run(recover)
    assert [each.error for each in recoveries if each.error] == []


def assert_closed_once(world: World) -> None:
    """One close, one booking of exactly the venue's fills, no order, nothing reversed, tokens in order."""
    world.settle()
    exchange = world.exchange
    assert [exchange.held(leg) for leg in (LEG, OTHER_LEG)] == [0, 0]
    assert exchange.open_orders(LEG) + exchange.open_orders(OTHER_LEG) == []
    fills = exchange.fills(LEG, 0)
    assert sum(fill.contracts for fill in fills) == CONTRACTS
    assert world.rows("SELECT trade_id, contracts FROM fill ORDER BY CAST(trade_id AS INTEGER)") == [
        (fill.trade_id, str(fill.contracts)) for fill in fills
    ]
    gross = sum((fill.price - 60_000) * fill.contracts for fill in fills)
    fees = sum(fill.fee for fill in fills)
    assert [tuple(map(Decimal, row)) for row in world.rows("SELECT gross_pnl, fees FROM booking")] == [(gross, fees)]
    assert world.rows("SELECT count(*) FROM audit WHERE event IN ('intent', 'booked') GROUP BY event") == [(1,), (1,)]
    tokens = [token for (token,) in world.rows("SELECT token FROM audit ORDER BY number")]
    assert tokens == sorted(tokens)
    assert world.rows("SELECT state FROM position") == [("closed",)]


def assert_changed(world: World) -> None:
    """What is journaled is done, and what rests is what was done last: one of each, or none if it was removed."""
    recovered(world)
    world.settle()
    changes = world.rows("SELECT kind, step, trigger_price, client_order_id, filled FROM change ORDER BY number")
    assert {step for _, step, *_ in changes} <= {"done"}
    prices = _OLD | {kind: price and Decimal(price) for kind, _, price, *_ in changes if kind != "reduce"}
    rest = {family: world.resting(family) for family in _OLD}
    assert rest == {family: [] if price is None else [price] for family, price in prices.items()}
    journaled = [(client_id, Decimal(filled)) for kind, _, _, client_id, filled in changes if kind == "reduce"]
    reduces = [(order.client_order_id, order.filled) for order in world.closing_orders()]
    assert reduces == journaled
    assert all(filled == _REDUCE for _, filled in reduces)
    assert world.exchange.held(LEG) == CONTRACTS - sum(filled for _, filled in reduces)


def finish_change(world: World) -> None:
    """What was begun is recovered, and then the position is closed, with the fills of its reduces."""
    assert_changed(world)
    assert_protected(world)
    Owner(world).run(close)
    assert_closed_once(world)


def finish_removal(world: World) -> None:
    assert_changed(world)
    Owner(world).run(close)
    assert_closed_once(world)


def assert_protected(world: World) -> None:
    """Of what is held, one stop-loss and one take-profit rest at any time, at the least."""
    assert not world.exchange.held(LEG) or (world.resting("stop_loss") and world.resting("take_profit"))


def test_a_close(folder: Path, tell: Any) -> None:
    """Whoever is stopped wherever, twice: the venue takes one order, and one booking is made of its fill."""

    def finish(world: World) -> None:
        finish_close(world)
        assert [order.filled for order in world.closing_orders()] == [CONTRACTS]

    tell(Story(close, (close, recover), finish), opened(folder))


def test_a_close_in_parts(folder: Path, tell: Any) -> None:
    """The venue fills a part, and the rest of the order stays for a while: no part is sent twice."""
    story = Story(close, (recover, close), finish_close, one_in=6)
    tell(story, opened(folder, liquidity="6", remainder_rests=1.0))


def test_a_close_that_the_resting_orders_block(folder: Path, tell: Any) -> None:
    """The protective orders must go first: they go, and the position with them."""
    story = Story(close, (recover, close), finish_close, outcomes=(CloseUnsettled,), one_in=6)
    tell(story, opened(folder, blocks_covered=True))


def test_a_close_after_the_stop_loss(folder: Path, tell: Any) -> None:
    """The stop-loss was faster: nothing is sent, and its fill is booked."""

    def finish(world: World) -> None:
        finish_close(world)
        assert world.closing_orders() == []

    world = opened(folder)
    world.exchange.set_price(LEG.symbol, 56_900)
    tell(Story(close, (recover, close), finish), world)


_SET = modify(stop_loss=58_000, take_profit=64_000)


def test_a_change_of_both_prices(folder: Path, tell: Any) -> None:
    """Whoever is stopped wherever, twice: one stop-loss and one take-profit rest, the old ones or the new ones."""
    tell(Story(_SET, (recover, _SET), finish_change, assert_protected), opened(folder))


def test_a_close_after_a_change_that_was_stopped(folder: Path, tell: Any) -> None:
    """The close drops what the change has left to do, and leaves nothing of it."""
    tell(Story(_SET, (close,), finish_close, one_in=4), opened(folder))


def test_a_removal(folder: Path, tell: Any) -> None:
    """Both prices are removed, or both rest."""
    removal = modify(stop_loss=None, take_profit=None)
    tell(Story(removal, (removal, recover), finish_removal), opened(folder))


@pytest.mark.parametrize("settings", [{}, {"liquidity": "6", "remainder_rests": 1.0}], ids=["at once", "in parts"])
def test_a_reduce(folder: Path, tell: Any, settings: dict[str, Any]) -> None:
    """It is taken off once, in the ledger as at the venue."""
    reduce = modify(reduce_by=_REDUCE)
    story = Story(reduce, (recover, reduce), finish_change, assert_protected, _UNDER_WAY)
    tell(story, opened(folder, **settings))


def test_a_change_of_everything(folder: Path, tell: Any) -> None:
    """Both prices are moved and contracts are taken off, in one call."""
    everything = modify(stop_loss=58_000, take_profit=64_000, reduce_by=_REDUCE)
    story = Story(everything, (recover, everything), finish_change, assert_protected, _UNDER_WAY, one_in=8)
    tell(story, opened(folder))


@pytest.mark.parametrize(
    ("operation", "finish", "one_in"), [(close, finish_close, 1), (_SET, finish_change, 4)], ids=["close", "change"]
)
def test_an_owner_that_is_stopped_and_resumed(
    folder: Path, say: Any, operation: Operation, finish: Callable[[World], None], one_in: int
) -> None:
    """Stopped at any step till its lock is taken over, it does nothing more, however far the next one got."""
    say(f"{stopped_and_resumed(opened(folder), operation, finish, one_in=one_in)} cases tried")
