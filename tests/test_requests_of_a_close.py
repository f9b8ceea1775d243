"""How many requests, round trips and commits a close takes at each venue, through real clients."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from arrivals import Arrival, Arrivals, is_order, round_trips
from loopback.desk import DAY_MS
from loopback.server import Fault
from poslock import Position
from poslock.closing import leg
from poslock.database import Database
from venue_cases import SWAPS, VenueCase, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback.desk import Desk
    from loopback.server import Request

pytestmark = [
    pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"]),
    pytest.mark.parametrize("case", SWAPS, ids=lambda case: case.name),
]
in_each_state = pytest.mark.parametrize("state", ["warm", "idle", "new"])

LOOK = 2  # requests: the position and its trades
MOST_REQUESTS = {"mexc": 18, "binance": 16, "bybit": 16, "okx": 16}
IDLE_MS = 600_000
LONGEST, LEASE = 10, 60


@pytest.fixture
def desk(case: VenueCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, asynchronous: bool) -> Iterator[Desk]:
    monkeypatch.setattr(leg, "SPARE", LONGEST)  # a machine with much else to do waits for the trades, too
    with opened(case, tmp_path, asynchronous=asynchronous) as desk:
        yield desk


def tracked(desk: Desk, case: VenueCase, contracts: int) -> Any:
    """A guard that has tracked a position, and nothing asked before it."""
    desk.hand.open(desk.leg, contracts)
    guard = desk.guard(stale_after=LEASE)
    position = Position("btc-1", desk.leg.symbol, "long", contracts, 60_000, contract_size=case.contract_size)
    guard.track(position)
    return guard


def protect(guard: Any) -> Any:
    """The same guard, with a stop-loss and a take-profit at rest."""
    guard.modify_position("btc-1", stop_loss=57_000, take_profit=66_000)
    return guard


@dataclass
class Seen:
    """What the venue and the ledger have seen of a close; ``before`` its order, by their paths."""

    before: list[str]
    all: list[Arrival]
    commits_before: int
    commits: int


def close(desk: Desk, guard: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Seen:
    """Close the position, and count."""
    arrivals, commits_ns = Arrivals(desk.venue, desk.case.name), commits(monkeypatch)
    began_ns = time.monotonic_ns()
    guard.close_position("btc-1", **options)
    found, [order] = arrivals.since(began_ns), arrivals.orders(began_ns, 1, LONGEST)
    before = [each.request.path for each in found if each.began_ns < order.began_ns]
    return Seen(before, found, sum(each < order.began_ns for each in commits_ns), len(commits_ns))


def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When each transaction of a ledger was committed, from now on; those of the venue are its own."""
    times: list[int] = []
    transaction = Database.transaction

    @contextmanager
    def timed(database: Database) -> Iterator[Any]:
        with transaction(database) as connection:
            yield connection
        if database.path.endswith("ledger.db"):
            times.append(time.monotonic_ns())

    monkeypatch.setattr(Database, "transaction", timed)
    return times


def hold(desk: Desk, number: int) -> list[str]:
    """Let the venue answer no request before the order until so many have come; the paths of those left alone."""
    met, is_out, alone = threading.Barrier(number), threading.Event(), list[str]()

    def held(request: Request) -> None:
        if is_order(request, desk.case.name):
            is_out.set()
        if not is_out.is_set():
            try:
                met.wait(LONGEST)
            except threading.BrokenBarrierError:
                alone.append(request.path)

    desk.venue.strike(Fault("", held, times=10**6))
    return alone


def in_state(state: str, desk: Desk, guard: Any) -> Any:
    """The guard of a bot in that state: as it was, idle for ten minutes, or of another process."""
    if state == "idle":
        pass_by(desk, IDLE_MS)
        desk.venue.hang_up()
    if state == "new":
        desk.connect()
        client = desk.clients[-1]
        client.set_markets(desk.run(client.fetch_markets()) if desk.asynchronous else client.fetch_markets())
        return desk.guard(stale_after=LEASE)
    return guard


def pass_by(desk: Desk, ms: int) -> None:
    """Let so much time go by, for the venue and for what carries its clock on here."""
    clock = desk.behind._client.clock
    tick_ns = clock._tick_ns
    clock._tick_ns = lambda: tick_ns() + ms * 10**6
    desk.venue.offset_ms += ms


@in_each_state
def test_one_round_trip_and_one_commit_come_before_the_order(
    desk: Desk, case: VenueCase, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request before the order is answered when the others have come, too."""
    guard = in_state(state, desk, protect(tracked(desk, case, 10)))
    alone = hold(desk, LOOK)
    seen = close(desk, guard, monkeypatch)
    assert (len(seen.before), alone) == (LOOK, []), seen.before
    assert seen.commits_before == 1


@in_each_state
def test_nothing_is_asked_before_the_order_of_an_urgent_close(
    desk: Desk, case: VenueCase, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One commit comes before it."""
    guard = in_state(state, desk, protect(tracked(desk, case, 10)))
    seen = close(desk, guard, monkeypatch, urgent=True)
    assert seen.before == []
    assert seen.commits_before == 1


def test_an_old_position_is_looked_at_in_as_few_requests(
    desk: Desk, case: VenueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracked 170 days ago; 20 exits by hand since then, the first 80 days ago: OKX forgets in three months."""
    desk.venue.offset_ms = -170 * DAY_MS
    guard = tracked(desk, case, 40)
    for number in range(20):
        desk.venue.offset_ms = -4 * (20 - number) * DAY_MS
        desk.hand.take(desk.leg, Decimal(1))
    desk.venue.offset_ms = -170 * DAY_MS
    pass_by(desk, 170 * DAY_MS)
    protect(guard)
    alone = hold(desk, LOOK)
    seen = close(desk, guard, monkeypatch)
    assert (len(seen.before), alone) == (LOOK, []), seen.before


def test_a_whole_close_keeps_to_its_budget(desk: Desk, case: VenueCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stop-loss and a take-profit resting."""
    guard = protect(tracked(desk, case, 10))
    desk.venue.latency = 0.1  # so that what is asked side by side overlaps
    seen = close(desk, guard, monkeypatch)
    assert len(seen.all) <= MOST_REQUESTS[case.name], [each.request.path for each in seen.all]
    assert round_trips(seen.all) <= 8
    assert seen.commits == 3
    # The trades tell that it is filled, and whose it is. (MEXC asks by a path, because its answer is no proof.)
    names = {"orderLinkId", "clOrdId", "ordId", "orderId", "origClientOrderId"}
    assert [each for each in seen.all if each.request.method == "GET" and names & set(each.request.params)] == []
    desk.venue.latency = 0.0
    desk.assert_closed_once(guard, desk.leg)
