"""The crash table of close and change again, with a MEXC on this machine, through the real ccxt client."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from every_step import (
    CONTRACTS,
    LEG,
    OTHER_LEG,
    Operation,
    Owner,
    Story,
    World,
    opened,
)
from loopback.mexc_books import CLOSES
from mexc_wire import MexcDoor, Wire
from poslock import CloseUnsettled, ExchangeUnavailable, OutcomeUnknown
from poslock.bridge import finished
from poslock.exchange.ccxt.client import Endpoint
from poslock.exchange.ccxt.mexc import venue as mexc
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
    finish_removal,
    modify,
    recover,
    stage_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from poslock.exchange.port import Leg

# Thousands of requests each, which take their time on a busy machine.
pytestmark = pytest.mark.timeout(600)

_SET = modify(stop_loss=58_000, take_profit=64_000)
_TRAILING = {"trend": 1, "backType": 1, "backValue": 0.02}


@dataclass
class Account:
    """An account at MEXC, and the stage for what is done with it."""

    stage: Stage
    wire: Wire
    client: Any
    hedge: bool

    def opened(self, **settings: Any) -> World:
        """A world with an open position, and a trailing order besides the protective ones."""
        door = partial(MexcDoor, self.wire, self.client)
        world = opened(self.stage.folder, door=door, hedge=self.hedge, **settings)
        for leg in (LEG, OTHER_LEG) if self.hedge else (LEG,):
            self.send(world, "trackorder/place", **_TRAILING, **self.reducing(leg))
        return world

    def reducing(self, leg: Leg) -> dict[str, Any]:
        """What an order of the trader's own says in this account."""
        said = {"side": CLOSES[leg.side], "vol": 1, "openType": 2, "leverage": 20}
        return said if self.hedge else {**said, "reduceOnly": True}

    def send(self, world: World, path: str, **params: Any) -> None:
        """A request of the trader's own."""
        exchange = world.door.exchange()
        exchange.prepare()
        sent = exchange._client.send(
            Endpoint(("contract", "private"), "POST", path),
            {"symbol": "BTC_USDT", **params},
            lambda answer: answer["data"],
            signed_at_ms=exchange.time_ms(),
            receive_window_ms=10_000,
        )
        finished(sent)


@pytest.fixture
def stage(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[Stage]:
    with stage_for(tmp_path, capsys, request) as stage:
        yield stage


@pytest.fixture(params=[False, True], ids=["one-way", "hedge"])
def account(
    request: pytest.FixtureRequest, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    # It is minutes old: one question shows all trigger orders that there ever were.
    monkeypatch.setattr(mexc, "_REACH_MS", mexc._DAY_MS)
    with Wire(tmp_path / "unused.db") as wire:
        client = wire.client()
        client.load_markets()
        yield Account(stage, wire, client, hedge=request.param)


def reached_before(world: World) -> None:
    """A position was held before, and its stop-loss took it: of the size, and at the price, that will be set again."""
    world.exchange.open_position(LEG.symbol, LEG.side, CONTRACTS)
    world.exchange.protect(LEG.symbol, LEG.side, "stop_loss", CONTRACTS, 58_000)
    world.exchange.set_price(LEG.symbol, 58_000)
    world.exchange.set_price(LEG.symbol, 60_000)


def test_a_close(account: Account) -> None:
    """Whoever is stopped wherever, twice: the venue takes one order, and one booking is made of its fill."""

    def finish(world: World) -> None:
        finish_close(world)
        assert [order.filled for order in world.closing_orders()] == [CONTRACTS]

    account.stage.tell(Story(close, (close, recover), finish, one_in=40), account.opened())
    assert account.wire.taken_late


def test_a_close_that_a_resting_order_blocks(account: Account) -> None:
    """It must go first, and the halves of a TP/SL order stay till there is nothing for them to protect."""
    account.wire.rests_as["stop_loss"] = "stop"
    world = account.opened()
    first, second = (int(order.order_id) for order in world.exchange.open_orders(LEG))
    account.wire.pairs.append((first, second))
    limit = {**account.reducing(LEG), "vol": CONTRACTS, "type": 1, "price": 70_000, "externalOid": "limit"}
    account.send(world, "order/create", **limit)
    story = Story(close, (recover, close), finish_close, outcomes=(CloseUnsettled,), one_in=300, once_in=3)
    account.stage.tell(story, world)


def test_a_close_after_the_stop_loss(account: Account) -> None:
    """The stop-loss was faster: nothing is sent, and its fill is booked."""

    def finish(world: World) -> None:
        finish_close(world)
        assert world.closing_orders() == []

    world = account.opened()
    world.exchange.set_price(LEG.symbol, 56_900)
    account.stage.tell(Story(close, (recover, close), finish, one_in=40), world)


def test_a_change_of_both_prices(account: Account) -> None:
    """Whoever is stopped wherever, twice: one stop-loss and one take-profit rest, the old ones or the new ones."""
    story = Story(_SET, (recover, _SET), finish_change, assert_protected, one_in=150)
    account.stage.tell(story, account.opened(past=reached_before))
    assert account.wire.taken_late


def test_a_ladder(account: Account) -> None:
    """Moved to other rungs: one of the two ladders always rests whole, although its orders have no client ids.

    The venue denies the first one still. In one-way mode a rung of it has filled.
    """
    world, move = account.opened(), modify(take_profit=OTHER_LADDER)
    Owner(world).run(modify(stop_loss=58_000, take_profit=LADDER))
    if not account.hedge:
        world.exchange.set_price(LEG.symbol, 64_000)
        world.exchange.set_price(LEG.symbol, 62_000)
    story = Story(move, (recover, move), finish_change, assert_ladder, one_in=300, once_in=6)
    account.stage.tell(story, world)


def test_a_close_after_a_ladder_that_was_stopped(account: Account) -> None:
    """The rungs of both ladders are swept."""
    world = account.opened()
    Owner(world).run(modify(take_profit=LADDER))
    account.stage.tell(Story(modify(take_profit=OTHER_LADDER), (close,), finish_close, one_in=100, once_in=5), world)


def test_a_stop_loss_that_comes_too_late(account: Account) -> None:
    """The position is closed instead, and once."""
    late = modify(stop_loss=59_500, or_close=True)
    world = account.opened(bare=True)
    account.stage.tell(Story(late, (recover, close), finish_close, one_in=150, once_in=4), world)


def test_a_close_in_slices_by_a_bot(account: Account) -> None:
    """Each of its orders is found by its own id."""
    lost = (OutcomeUnknown, ExchangeUnavailable)  # is the bot's to handle, and ends it here
    story = Story(close_in_slices, (recover, close), finish_close, outcomes=lost, one_in=100, once_in=3)
    account.stage.tell(story, account.opened())


def test_a_removal(account: Account) -> None:
    """Both prices are removed, or both rest."""
    removal = modify(stop_loss=None, take_profit=None)
    account.stage.tell(Story(removal, (removal, recover), finish_removal, one_in=40), account.opened())


def test_a_reduce(account: Account) -> None:
    """It is taken off once, in the ledger as at the venue."""
    reduce = modify(reduce_by=REDUCE)
    story = Story(reduce, (recover, reduce), finish_change, assert_protected, UNDER_WAY, one_in=30)
    account.stage.tell(story, account.opened())
    assert account.wire.taken_late


@pytest.mark.parametrize(
    ("operation", "finish"), [(close, finish_close), (_SET, finish_change)], ids=["close", "change"]
)
def test_every_answer_on_the_wire_is_lost_once(
    account: Account, operation: Operation, finish: Callable[[World], None]
) -> None:
    """Of several requests that a step is made of, too, each may be the one that gets no answer."""
    start = account.opened()
    image = start.image()
    for number in count():
        world = start.again(image)
        account.wire.unanswered = number
        Owner(world).run(operation)
        sent = len(account.wire.requests)
        account.wire.unanswered = None
        finish(world)
        world.end()
        if sent <= number:
            account.stage.say(f"{number} cases tried")
            break
