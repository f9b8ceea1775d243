"""What a close costs after very many others, beside the same in an empty ledger."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from bench.closed import fill_with_closed
from bench.commands import positions
from bench.contestants import POSLOCK
from bench.instant import InstantVenue
from bench.rows import Bound, Row
from bench.series import interleave
from poslock import Position, PositionGuard

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.settings import Settings
    from poslock.exchange.port import Exchange

_EMPTY = "poslock, empty ledger"
_AT_MOST = 1.2


def growth(directory: str, settings: Settings) -> list[Row]:
    """Track, recover and close, each with *settings.closed* closed positions in the ledger; and a look at the open."""
    places = {POSLOCK.name: f"{directory}/grown", _EMPTY: f"{directory}/empty"}
    for place in places.values():
        os.makedirs(place, mode=0o700)
    fill_with_closed(f"{places[POSLOCK.name]}/ledger.db", settings.closed)
    guards = {name: PositionGuard(cast("Exchange", InstantVenue()), lock_dir=place) for name, place in places.items()}
    works: dict[str, Callable[[PositionGuard], Callable[[], object]]] = {
        "track": lambda guard: _each(settings.closes + 1, lambda name: guard.track(Position(name, name, "long", 1, 1))),
        "recover, all open": lambda guard: guard.recover,
        "close_position": lambda guard: _each(settings.closes + 1, guard.close_position),
    }
    rows = []
    for work, start in works.items():
        series = interleave({name: start(guard) for name, guard in guards.items()}, rounds=settings.closes, repeats=1)
        described = f"{work}, {settings.closed:,} closed positions in the ledger"
        rows.append(Row(described, "s", series, (Bound(_AT_MOST, _EMPTY),)))
    for guard in guards.values():
        guard.close()
    return [*rows, positions(places[POSLOCK.name], directory, settings)]


def _each(names: int, work: Callable[[str], object]) -> Callable[[], object]:
    left = iter(range(names))
    return lambda: work(f"position-{next(left)}")
