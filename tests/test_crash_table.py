"""The crash table of the close: the closer is killed, or its answer lost, and the next owner goes on.

One test per row, named after it. Each runs twice: with `close_position` and with `recover` as the next owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from poslock.exchange.port import Leg
from reach import GROUNDS

if TYPE_CHECKING:
    from conftest import Account, Children
    from poslock import ClosedPosition, Position

pytestmark = pytest.mark.parametrize(
    ("venue", "asynchronous"), [*GROUNDS, pytest.param("binanceusdm", False, id="binanceusdm-sync")]
)


@pytest.fixture(params=["close_position", "recover"])
def next_owner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def killed(start: Children, account: Account, port: str, when: str, method: str, **more: Any) -> None:
    """Run a closer that is killed right before or after a request."""
    nth = more.pop("nth", 1)
    strike = {"method": method, "when": when, "what": "kill", "nth": nth}
    strikes = {port: [strike]}
    child = start("close", **account.of_child(), positions=["btc-1"], strikes=strikes, **more)
    child.hear()
    child.tell()
    child.wait_killed()


def step(account: Account) -> str | None:
    rows = account.rows("SELECT step FROM close")
    return rows[0][0] if rows else None


def go_on(account: Account, next_owner: str) -> ClosedPosition:
    guard = account.guard_on(account.reached())
    if next_owner == "close_position":
        return guard.close_position("btc-1")
    (recovery,) = guard.recover()
    assert recovery.error is None
    assert recovery.closed is not None
    return recovery.closed


def accepted(account: Account, position: Position) -> int:
    return len([o for o in account.exchange.orders(Leg(position.symbol, position.side)) if o.family == "order"])


def test_died_after_grant(start: Children, account: Account) -> None:
    """Nothing was begun: the next close starts over, and there is nothing to recover."""
    position = account.open()
    killed(start, account, "ledger", "before", "sending")
    assert (step(account), accepted(account, position)) == (None, 0)
    assert account.guard.recover() == []
    go_on(account, "close_position")
    account.assert_closed_once(position)


def test_died_after_intent(start: Children, account: Account, next_owner: str) -> None:
    """A bot with order code of its own has sent nothing yet: the next owner sends."""
    position = account.open()
    strikes = {"ledger": [{"method": "begin", "when": "after", "what": "kill"}]}
    child = start("slices", **account.of_child(), position="btc-1", slices=[10], strikes=strikes)
    child.hear()
    child.tell()
    child.wait_killed()
    assert (step(account), accepted(account, position)) == ("intent", 0)
    go_on(account, next_owner)
    account.assert_closed_once(position)


def test_died_after_sending_before_the_request_left(start: Children, account: Account, next_owner: str) -> None:
    """An order may be out but is not: the next owner asks until it can no longer come, then sends the same id."""
    position = account.open()
    killed(start, account, "venue", "before", "place", lease=2.5)
    assert (step(account), accepted(account, position)) == ("sending", 0)
    [(journaled,)] = account.rows("SELECT client_order_id FROM attempt")
    closed = go_on(account, next_owner)
    assert closed.client_order_id == journaled
    account.assert_closed_once(position)


def test_died_after_accepted_with_the_answer_lost(start: Children, account: Account, next_owner: str) -> None:
    """The order is out: the next owner finds it by client order id and sends nothing."""
    position = account.open()
    killed(start, account, "venue", "after", "place")
    assert (step(account), accepted(account, position)) == ("sending", 1)
    go_on(account, next_owner)
    assert accepted(account, position) == 1
    account.assert_closed_once(position)


def test_died_after_partial_fill(start: Children, account: Account, next_owner: str) -> None:
    """The order is half filled and open: the next owner waits for its end and sends the rest under a new id."""
    position = account.open()
    account.fills_in_parts(liquidity="6", remainder_rests=1.0)
    killed(start, account, "venue", "after", "place")
    assert step(account) == "sending"
    go_on(account, next_owner)
    account.assert_closed_once(position, orders=2)
    ids = account.rows("SELECT number, client_order_id, contracts FROM attempt ORDER BY number")
    assert [(number, contracts) for number, _, contracts in ids] == [(1, "10"), (2, "4")]
    assert ids[0][1] != ids[1][1]


def test_died_after_filled(start: Children, account: Account, next_owner: str) -> None:
    """Protective orders rest: the next owner sweeps."""
    position = account.open()
    killed(start, account, "ledger", "after", "filled")
    assert step(account) == "filled"
    go_on(account, next_owner)
    account.assert_closed_once(position)


def test_died_mid_sweep(start: Children, account: Account, next_owner: str) -> None:
    """One of two protective orders is left: the next owner sweeps until a read shows nothing."""
    position = account.open()
    killed(start, account, "venue", "after", "cancel")
    assert step(account) == "filled"
    go_on(account, next_owner)
    account.assert_closed_once(position)


def test_died_after_swept(start: Children, account: Account, next_owner: str) -> None:
    """All is done but the booking, which says so: the next owner sees that nothing rests, and books."""
    position = account.open()
    killed(start, account, "ledger", "before", "book")
    assert step(account) == "filled"
    assert account.exchange.open_orders(Leg(position.symbol, position.side)) == []
    go_on(account, next_owner)
    account.assert_closed_once(position)


def test_died_after_booked(start: Children, account: Account) -> None:
    """It is closed: everybody is told so, and there is nothing to recover."""
    position = account.open()
    killed(start, account, "ledger", "after", "book")
    assert step(account) == "booked"
    assert account.guard.recover() == []
    with pytest.raises(Exception, match="already closed"):
        account.guard.close_position("btc-1")
    account.assert_closed_once(position)
