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
from poslock import ChangeRefused, InvalidChange
from poslock.exchange.port import CloseOrder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from poslock.guard.operations import Operations, Recovery

REDUCE = 4
UNDER_WAY = (InvalidChange,)  # a reduce that somebody else had begun is finished, and ours is not begun
_MEMORY = Path("/dev/shm")  # noqa: S108  # no disk is needed, and none is as fast
_OLD = {"stop_loss": [Decimal(57_000)], "take_profit": [Decimal(66_000)]}
LADDER = ((64_000, 3), (65_000, 3), (66_500, 4))
OTHER_LADDER = ((63_000, 5), (67_000, 2))  # of what is left when a rung of the first one has filled, too
SLICES = (3, 3, 4)


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


def modify(*, stop_loss: Any = ..., take_profit: Any = ..., reduce_by: Any = None, or_close: bool = False) -> Operation:
    async def modified(guarding: Operations) -> object:
        return await guarding.modify_position(ID, stop_loss, take_profit, reduce_by, or_close=or_close)

    return modified


async def close_in_slices(guarding: Operations) -> object:
    """A bot's own order code: an order for each slice, under an id of its own."""
    ports, venue = guarding.means.ports, guarding.means.exchange
    begun = await guarding.begin_closing(ID, "in slices")
    try:
        ids = []
        for contracts in SLICES:
            sending = await begun.announce()
            ids.append(sending.client_order_id)
            window = sending.signed_at_ms, sending.receive_window_ms
            await ports.venue(venue.place, CloseOrder(LEG, Decimal(contracts), sending.client_order_id, *window))
        trades = await ports.venue(venue.trades, LEG, begun.close._session.tracked.tracked_at_ms)
        return await begun.finish([each.fill for each in trades if each.fill.client_order_id in ids])
    finally:
        begun.admitted.release()


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
    """What is journaled is done, and what rests is what was done last: of each kind one, a ladder, or none."""
    recovered(world)
    world.settle()
    assert {step for (step,) in world.rows("SELECT step FROM change")} <= {"done"}
    rest = {family: sorted(world.resting(family), key=str) for family in _OLD}
    [(since_ms,)] = world.rows("SELECT tracked_at_ms FROM position")
    since = {fill.price for fill in world.exchange.fills(LEG, since_ms)}  # not those of a position before this one
    filled = [each for each in world.exchange.orders(LEG) if each.family in _OLD and each.filled]
    triggered = [each for each in filled if each.trigger_price in since]
    assert rest == _prices(world, [each.trigger_price for each in triggered])
    sql = "SELECT client_order_id, filled FROM change WHERE kind = 'reduce' ORDER BY number"
    journaled = [(client_id, Decimal(filled)) for client_id, filled in world.rows(sql)]
    reduces = [(order.client_order_id, order.filled) for order in world.closing_orders()]
    assert reduces == journaled
    assert all(filled == REDUCE for _, filled in reduces)
    left = CONTRACTS - sum(filled for _, filled in reduces) - sum(each.filled for each in triggered)
    assert world.exchange.held(LEG) == left
    assert_at_most(world, left)


def assert_at_most(world: World, left: Any) -> None:
    """The take-profits add up to no more than is left, or are the one that was there before."""
    targets = [each.contracts for each in world.exchange.open_orders(LEG) if each.family == "take_profit"]
    assert sum(targets) <= left or len(targets) == 1


def _prices(world: World, triggered: Sequence[Decimal | None]) -> dict[str, list[Decimal]]:
    """At what exit orders are to rest: those of the change of their kind that was made last, unless *triggered*."""
    found = dict(_OLD)
    sql = "SELECT kind, trigger_price, ladder, number FROM change WHERE kind <> 'reduce' ORDER BY number"
    for kind, price, ladder, number in world.rows(sql):
        before = [] if ladder in {None, number} else found[kind]
        now = [] if price is None or Decimal(price) in triggered else [Decimal(price)]
        found[kind] = sorted([*before, *now], key=str)
    return found


def finish_change(world: World) -> None:
    """What was begun is recovered, and then the position is closed, with the fills of its reduces."""
    assert_changed(world)
    assert_protected(world)
    Owner(world).run(close)
    assert_closed_once(world)


def finish_close_or_refused(world: World) -> None:
    """As `finish_close`: whoever recovers the change is told that it was refused, and the position is open then."""
    recoveries: Any = Owner(world).run(recover)
    assert all(isinstance(each.error, ChangeRefused) for each in recoveries if each.error)
    finish_close(world)


def finish_removal(world: World) -> None:
    assert_changed(world)
    Owner(world).run(close)
    assert_closed_once(world)


def assert_ladder(world: World) -> None:
    """Of what was there before, or of the ladders, one rests whole; and one stop-loss."""
    rungs = {(each.trigger_price, each.contracts) for each in world.exchange.open_orders(LEG)}
    filled = {each.trigger_price for each in world.exchange.orders(LEG) if each.filled}
    before = ((66_000, CONTRACTS),)
    ladders: list[set[Any]] = [
        {rung for rung in each if rung[0] not in filled} for each in (LADDER, OTHER_LADDER, before)
    ]
    assert any(rungs >= each for each in ladders)
    assert world.resting("stop_loss")


def finish_followed(world: World) -> None:
    """The stop-loss is for what is left, and the position is closed."""
    assert_changed(world)
    stops = [each for each in world.exchange.open_orders(LEG) if each.family == "stop_loss"]
    assert [each.contracts for each in stops] == [CONTRACTS - REDUCE]
    Owner(world).run(close)
    assert_closed_once(world)


def assert_protected(world: World) -> None:
    """Of what is held, one stop-loss and one take-profit rest at any time, at the least."""
    assert not world.exchange.held(LEG) or (world.resting("stop_loss") and world.resting("take_profit"))
