"""The crash table of close and change, exhaustive by construction: each step times each blow, twice in a row.

Of every owner every step is counted, so a step that is added to a machine is struck too.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from every_step import CONTRACTS, LEG, Door, Operation, Owner, Story, World, opened, stopped_and_resumed
from poslock import ChangeRefused, CloseUnsettled, ExchangeUnavailable, OutcomeUnknown
from stories import (
    LADDER,
    OTHER_LADDER,
    REDUCE,
    UNDER_WAY,
    Stage,
    assert_ladder,
    assert_protected,
    close,
    close_in_slices,
    finish_change,
    finish_close,
    finish_close_or_refused,
    finish_followed,
    finish_removal,
    modify,
    recover,
    stage_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[Stage]:
    with stage_for(tmp_path, capsys, request) as stage:
        yield stage


def test_a_close(stage: Stage) -> None:
    """Whoever is stopped wherever, twice: the venue takes one order, and one booking is made of its fill."""

    def finish(world: World) -> None:
        finish_close(world)
        assert [order.filled for order in world.closing_orders()] == [CONTRACTS]

    stage.tell(Story(close, (close, recover), finish), opened(stage.folder))


def test_a_close_that_cancels_unlisted(stage: Stage) -> None:
    """By their client order ids, as soon as the leg is flat; the venue denies none of them any more, or all."""
    for settles in (True, False):
        world = opened(stage.folder, cancels_unlisted=True)
        Owner(world).run(modify(stop_loss=58_000, take_profit=64_000))
        if settles:
            world.settle()
        stage.tell(Story(close, (recover, close), finish_close, one_in=4), world)


def test_a_close_in_parts(stage: Stage) -> None:
    """The venue fills a part, and the rest of the order stays for a while: no part is sent twice."""
    story = Story(close, (recover, close), finish_close, one_in=6)
    stage.tell(story, opened(stage.folder, liquidity="6", remainder_rests=1.0))


def test_a_close_that_the_resting_orders_block(stage: Stage) -> None:
    """The protective orders must go first: they go, and the position with them."""
    story = Story(close, (recover, close), finish_close, outcomes=(CloseUnsettled,), one_in=6)
    stage.tell(story, opened(stage.folder, blocks_covered=True))


def test_a_close_after_the_stop_loss(stage: Stage) -> None:
    """The stop-loss was faster: nothing is sent, and its fill is booked."""

    def finish(world: World) -> None:
        finish_close(world)
        assert world.closing_orders() == []

    world = opened(stage.folder)
    world.exchange.set_price(LEG.symbol, 56_900)
    stage.tell(Story(close, (recover, close), finish), world)


_SET = modify(stop_loss=58_000, take_profit=64_000)


def test_a_change_of_both_prices(stage: Stage) -> None:
    """Whoever is stopped wherever, twice: one stop-loss and one take-profit rest, the old ones or the new ones."""
    stage.tell(Story(_SET, (recover, _SET), finish_change, assert_protected), opened(stage.folder))


def test_a_close_after_a_change_that_was_stopped(stage: Stage) -> None:
    """The close drops what the change has left to do, and leaves nothing of it."""
    for unlisted in (False, True):
        world = opened(stage.folder, cancels_unlisted=unlisted)
        stage.tell(Story(_SET, (close,), finish_close, one_in=4), world)


def test_a_removal(stage: Stage) -> None:
    """Both prices are removed, or both rest."""
    removal = modify(stop_loss=None, take_profit=None)
    stage.tell(Story(removal, (removal, recover), finish_removal), opened(stage.folder))


@pytest.mark.parametrize("settings", [{}, {"liquidity": "6", "remainder_rests": 1.0}], ids=["at once", "in parts"])
def test_a_reduce(stage: Stage, settings: dict[str, Any]) -> None:
    """It is taken off once, in the ledger as at the venue."""
    reduce = modify(reduce_by=REDUCE)
    story = Story(reduce, (recover, reduce), finish_change, assert_protected, UNDER_WAY)
    stage.tell(story, opened(stage.folder, **settings))


def test_a_change_of_everything(stage: Stage) -> None:
    """Both prices are moved and contracts are taken off, in one call."""
    everything = modify(stop_loss=58_000, take_profit=64_000, reduce_by=REDUCE)
    story = Story(everything, (recover, everything), finish_change, assert_protected, UNDER_WAY, one_in=8)
    stage.tell(story, opened(stage.folder))


def test_a_ladder_is_set(stage: Stage) -> None:
    """Of three rungs, and whoever is stopped wherever, twice: the single one from before, or all three."""
    set_ = modify(take_profit=LADDER)
    story = Story(set_, (recover, set_), finish_change, assert_ladder, one_in=32, once_in=2)
    stage.tell(story, opened(stage.folder))


def laddered(stage: Stage, **settings: Any) -> World:
    """A world in which the ladder and a stop-loss of ours rest, and the venue does not deny them any more."""
    world = opened(stage.folder, **settings)
    Owner(world).run(modify(stop_loss=58_000, take_profit=LADDER))
    world.settle()
    return world


def test_a_ladder_is_moved(stage: Stage) -> None:
    """To other rungs: one of the two ladders always rests whole."""
    move = modify(take_profit=OTHER_LADDER)
    story = Story(move, (recover, move), finish_change, assert_ladder, one_in=32, once_in=2)
    stage.tell(story, laddered(stage))


def test_a_ladder_is_moved_when_a_rung_has_filled(stage: Stage) -> None:
    """The stop-loss follows first, and then the rungs that are left go for others."""
    world, move = laddered(stage), modify(take_profit=OTHER_LADDER)
    world.exchange.set_price(LEG.symbol, 64_000)
    world.exchange.set_price(LEG.symbol, 62_000)
    stage.tell(Story(move, (recover, move), finish_change, assert_ladder, one_in=32, once_in=3), world)


def test_a_close_after_a_rung_has_filled(stage: Stage) -> None:
    """The other rungs are swept, and both fills are booked."""
    world = laddered(stage)
    world.exchange.set_price(LEG.symbol, 64_000)
    stage.tell(Story(close, (recover, close), finish_close, one_in=16, once_in=3), world)


def test_a_close_after_a_ladder_that_was_stopped(stage: Stage) -> None:
    """The close drops the rungs that are left to be sent, and sweeps the others, of both ladders."""
    story = Story(modify(take_profit=OTHER_LADDER), (close,), finish_close, one_in=16, once_in=3)
    stage.tell(story, laddered(stage))


def test_a_stop_loss_that_follows(stage: Stage) -> None:
    """After a reduce it is replaced by one for what is left, by whoever comes; one rests at any time."""
    world = opened(stage.folder)
    Owner(world).run(modify(stop_loss=58_000, take_profit=64_000, reduce_by=REDUCE))
    world.settle()
    stage.tell(Story(recover, (recover,), finish_followed, assert_protected, one_in=16), world)


def test_a_stop_loss_that_comes_too_late(stage: Stage) -> None:
    """The position is closed instead, and once, whoever is stopped wherever."""
    late = modify(stop_loss=59_500, or_close=True)
    stage.tell(Story(late, (recover, close), finish_close, one_in=16, once_in=2), opened(stage.folder, bare=True))


class RunningPrice(Door):
    """An account whose price has fallen by the time an order for it arrives."""

    def ask(self, exchange: Any, method: str, *args: Any) -> Any:
        return Decimal(61_000) if method == "price" else super().ask(exchange, method, *args)


def test_a_stop_loss_that_the_venue_refuses_for_its_price(stage: Stage) -> None:
    """Whoever asked for it closes the position then; whoever only finishes the change leaves it open, and says so."""
    late = modify(stop_loss=59_500, or_close=True)
    story = Story(late, (recover, close), finish_close_or_refused, outcomes=(ChangeRefused,), one_in=16, once_in=2)
    stage.tell(story, opened(stage.folder, door=RunningPrice, bare=True))


def test_a_close_in_slices_by_a_bot(stage: Stage) -> None:
    """Its own order code sends three orders, each under its own id: whoever comes finds all of them."""
    lost = (OutcomeUnknown, ExchangeUnavailable)  # is the bot's to handle, and ends it here
    story = Story(close_in_slices, (recover, close), finish_close, outcomes=lost, one_in=8, once_in=2)
    stage.tell(story, opened(stage.folder))


@pytest.mark.parametrize(
    ("operation", "finish", "one_in"), [(close, finish_close, 1), (_SET, finish_change, 4)], ids=["close", "change"]
)
def test_an_owner_that_is_stopped_and_resumed(
    stage: Stage, operation: Operation, finish: Callable[[World], None], one_in: int
) -> None:
    """Stopped at any step till its lock is taken over, it does nothing more, however far the next one got."""
    stage.say(f"{stopped_and_resumed(opened(stage.folder), operation, finish, one_in=one_in)} cases tried")
