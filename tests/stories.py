"""What is told of owners that are stopped: what they do, who finishes it, and what must be true in the end."""

from __future__ import annotations

import logging
import sys
import tempfile
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from every_step import CONTRACTS, ID, LEG, OTHER_CONTRACTS, OTHER_LEG, Operation, Owner, Story, Telling, World
from poslock import InvalidChange

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from poslock.guard.operations import Operations, Recovery

REDUCE = 4
UNDER_WAY = (InvalidChange,)  # a reduce that somebody else had begun is finished, and ours is not begun
_MEMORY = Path("/dev/shm")  # noqa: S108  # no disk is needed, and none is as fast
_OLD = {"stop_loss": Decimal(57_000), "take_profit": Decimal(66_000)}


class Stage:
    """Where stories are told, in memory and unheard: takeovers that nobody reads would take longer than the rest."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
        self.folder = folder
        self._capsys = capsys
        self._name = name

    def say(self, what: str) -> None:
        """Print what is to be seen of a test that passes; on the stream that is seen from any process."""
        with self._capsys.disabled():
            sys.stderr.write(f"\n{self._name}: {what}\n")

    def tell(self, story: Story, world: World) -> None:
        """Tell a story every way, and print how many there were."""
        tally = Telling(story, world).tell()
        self.say(str(tally))
        failures = "\n".join(tally.failures[:20])
        assert not tally.failures, f"{len(tally.failures)} of {tally.tried} cases failed:\n{failures}"
        assert tally.tried == tally.once + tally.different // story.one_in


@contextmanager
def stage_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The stage of a test."""
    folder = _MEMORY if _MEMORY.is_dir() else tmp_path
    logging.disable()
    try:
        with tempfile.TemporaryDirectory(dir=folder) as path:
            yield Stage(Path(path), capsys, request.node.name)
    finally:
        logging.disable(logging.NOTSET)


async def close(guarding: Operations) -> object:
    return await guarding.close_position(ID, "every step")


async def recover(guarding: Operations) -> list[Recovery]:
    return await guarding.recover()


def modify(*, stop_loss: Any = ..., take_profit: Any = ..., reduce_by: Any = None) -> Operation:
    async def modified(guarding: Operations) -> object:
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
    assert [exchange.held(leg) for leg in (LEG, OTHER_LEG)] == [0, OTHER_CONTRACTS if world.hedge else 0]
    assert world.door.resting(LEG) == []
    assert world.door.resting(OTHER_LEG) == world.door.others()
    [(since_ms,)] = world.rows("SELECT tracked_at_ms FROM position")
    fills = exchange.fills(LEG, since_ms)
    assert exchange.fills(OTHER_LEG, since_ms) == []
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
    assert all(filled == REDUCE for _, filled in reduces)
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
