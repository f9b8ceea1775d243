"""A closer that is stopped past its lease and resumed after somebody else has closed the position."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from poslock import PositionLock
from poslock.exchange.port import Leg
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import Record
from systems import elsewhere

if TYPE_CHECKING:
    from conftest import Account, Children

pytestmark = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])

LEASE = 1.0
REAL = ("mexc", "binanceusdm")
LATE = [("/api/v1/private/order/create", 513), ("/fapi/v1/order", -1021)]
WRITES = [(method, when) for method in ("sending", "filled", "book") for when in ("before", "after")]
REQUESTS = ["holding", "place", "open_orders", "cancel", "trades", "funding"]


@pytest.mark.parametrize(
    ("port", "method", "when"),
    [*(("ledger", *write) for write in WRITES if write != ("book", "after"))]
    + [("venue", method, when) for method in REQUESTS for when in ("before", "after")],
)
def test_a_stopped_closer_writes_nothing_after_it_resumes(
    start: Children, account: Account, port: str, method: str, when: str
) -> None:
    """Stopped at any request or write, it raises LockLost, and nothing of it reaches the ledger or the venue."""
    position = account.open()
    strikes = {port: [{"method": method, "when": when, "what": "stop"}]}
    zombie = start("close", **account.of_child(), positions=["btc-1"], strikes=strikes, lease=LEASE)
    zombie.hear()
    zombie.tell()
    zombie.wait_stopped()
    account.guard_on(account.reached(), stale_after=LEASE).close_position("btc-1")
    account.assert_closed_once(position)
    written = account.rows("SELECT * FROM audit")
    zombie.resume()
    (outcome,) = zombie.hear()["outcomes"]
    assert outcome["lost"], outcome
    assert account.rows("SELECT * FROM audit") == written
    account.assert_closed_once(position)


def end_of_lease(account: Account) -> int:
    content = PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir))._transitions.entry.peek()
    assert isinstance(content, Record)
    (holder,) = content.holders
    return holder.renewed_ns + holder.lease_ns


@pytest.mark.parametrize(
    ("venue", "lease"),
    [("paper", LEASE), *((f"{name}{mode}", 2.5) for name in REAL for mode in ("", " hedge"))],
)
def test_a_request_held_back_past_the_lease_is_refused_by_the_exchange(
    start: Children, account: Account, lease: float
) -> None:
    """Stopped between the last check and the send, and nobody else came: its order is too late all the same."""
    position = account.open()
    strikes = {"venue": [{"method": "place", "when": "before", "what": "stop"}]}
    zombie = start("close", **account.of_child(), positions=["btc-1"], strikes=strikes, lease=lease)
    zombie.hear()
    zombie.tell()
    zombie.wait_stopped()
    [(expires_at_ms,)] = account.rows("SELECT expires_at_ms FROM attempt")
    lease_ends_ns = end_of_lease(account)  # later than the window if it was renewed in between, on a busy machine
    while account.exchange.time_ms() <= expires_at_ms or SYSTEM.monotonic_ns() <= lease_ends_ns:
        time.sleep(0.01)
    zombie.resume()
    (outcome,) = zombie.hear()["outcomes"]
    assert outcome["lost"], outcome
    if account.server is not None:  # what says so is the time that the request was signed with
        (request, answer) = account.server.refused[-1]
        assert (request.path, answer.body["code"]) in LATE
    assert account.exchange.held(Leg(position.symbol, position.side)) == 10
    account.guard_on(account.reached()).close_position("btc-1")
    account.assert_closed_once(position)
