"""A change whose owner died is finished later: by then the leg may hold what is not of the position any more."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest

from faults import Strike, StruckExchange
from poslock import ChangeRefused, PaperExchange, Position, PositionGuard
from poslock.exchange.port import CloseOrder, Leg

if TYPE_CHECKING:
    from pathlib import Path

    from poslock.exchange.port import Order

LEG = Leg("BTC_USDT", "long")


DIED = RuntimeError("the process is gone")


@pytest.fixture
def venue(tmp_path: Path) -> PaperExchange:
    """10 contracts are held at 100."""
    found = PaperExchange(tmp_path / "venue.db", settles_within=0.2, denies_for=0.05)
    found.set_price(LEG.symbol, 100)
    found.open_position(LEG.symbol, LEG.side, 10)
    return found


def dies_before(venue: PaperExchange, tmp_path: Path, method: str, **change: Any) -> PositionGuard:
    """A guard after another one has tracked 10 contracts and died in a change of them, before *method*."""
    locks = tmp_path / "locks"
    struck = cast("Any", StruckExchange(venue, Strike(method, "before", DIED)))
    dead = PositionGuard(struck, lock_dir=locks, stale_after=1.0)
    dead.track(Position("p", LEG.symbol, LEG.side, 10, 100))
    with pytest.raises(RuntimeError, match="gone"):
        dead.modify_position("p", **change)
    return PositionGuard(venue, lock_dir=locks)


def by_hand(venue: PaperExchange, contracts: int) -> None:
    """Somebody takes contracts off."""
    venue.place(CloseOrder(LEG, Decimal(contracts), f"hand-{contracts}", venue.time_ms(), 5000))


@pytest.mark.parametrize(
    ("method", "change"),
    [("place", {"reduce_by": 4}), ("place_stop", {"stop_loss": 90}), ("place_stop", {"stop_loss": 90, "reduce_by": 4})],
)
def test_a_change_whose_owner_died_leaves_a_later_position_alone(
    venue: PaperExchange, tmp_path: Path, method: str, change: dict[str, int]
) -> None:
    """Closed and entered again by hand meanwhile: nothing is sent, the stop there rests, and the position is booked."""
    guard = dies_before(venue, tmp_path, method, **change)
    by_hand(venue, 10)
    venue.open_position(LEG.symbol, LEG.side, 6)
    stop = venue.protect(LEG.symbol, LEG.side, "stop_loss", 6, 95)
    first, *others = guard.recover()
    assert isinstance(first.error, ChangeRefused)
    assert [each.closed is not None for each in others] == [True]
    assert venue.held(LEG) == Decimal(6)
    assert [(each.order_id, each.state) for each in venue.orders(LEG) if each.state != "filled"] == [(stop, "open")]


def test_a_reduce_whose_owner_died_takes_no_more_than_is_left(venue: PaperExchange, tmp_path: Path) -> None:
    """7 of 10 are gone by hand, and 5 were added: of the position there are not 4 any more to be taken off."""
    guard = dies_before(venue, tmp_path, "place", reduce_by=4)
    by_hand(venue, 7)
    venue.open_position(LEG.symbol, LEG.side, 5)
    (recovery,) = guard.recover()
    assert isinstance(recovery.error, ChangeRefused)
    assert venue.held(LEG) == Decimal(8)


def test_a_stop_whose_owner_died_replaces_none_of_others_that_came_since(venue: PaperExchange, tmp_path: Path) -> None:
    """5 of 10 are gone by hand, and 5 with a stop of their own were added: as much is held as the change was for."""
    guard = dies_before(venue, tmp_path, "place_stop", stop_loss=90)
    by_hand(venue, 5)
    venue.open_position(LEG.symbol, LEG.side, 5)
    stop = venue.protect(LEG.symbol, LEG.side, "stop_loss", 5, 95)
    assert [each.error for each in guard.recover()] == [None]
    assert stop in [each.order_id for each in venue.open_orders(LEG)]


@pytest.mark.parametrize("listing", [1, 2])
def test_a_stop_that_comes_while_ours_is_replaced_stays(venue: PaperExchange, tmp_path: Path, listing: int) -> None:
    """10 with a stop of a hand's are ours, and 5 more are added with a stop of their own before one of the lists."""
    old = venue.protect(LEG.symbol, LEG.side, "stop_loss", 10, 80)
    struck: Any = StruckExchange(venue)
    guard = PositionGuard(struck, lock_dir=tmp_path / "locks")
    guard.track(Position("p", LEG.symbol, LEG.side, 10, 100))
    lists: list[str] = []

    def open_orders(leg: Leg) -> list[Order]:
        lists.append("")
        if len(lists) == listing:
            venue.open_position(LEG.symbol, LEG.side, 5)
            lists[-1] = venue.protect(LEG.symbol, LEG.side, "stop_loss", 5, 85)
        return venue.open_orders(leg)

    struck.instead["open_orders"] = open_orders
    guard.modify_position("p", stop_loss=90)
    rest = [order.order_id for order in venue.open_orders(LEG)]
    assert (lists[listing - 1] in rest, old in rest, len(rest)) == (True, listing == 1, 3 if listing == 1 else 2)
