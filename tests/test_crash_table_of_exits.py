"""The crash table of exits: who sets a ladder, moves, fills or sweeps it, or sends in slices is killed at each step.

Another process goes on: by `recover`, and then by a close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Account, Children

At: TypeAlias = "tuple[str, str, str, int]"
_CLIENTS = [("mexc hedge", True), ("binanceusdm", False)]


def at_each(*steps: At, clients: Sequence[tuple[str, bool]] = _CLIENTS) -> pytest.MarkDecorator:
    """A test for each step on paper, and once more over one of the real clients, which take turns."""
    cases = [
        pytest.param(venue, asynchronous, at, id=f"{venue.replace(' ', '-')}-{'-'.join(map(str, at[1:]))}")
        for number, at in enumerate(steps)
        for venue, asynchronous in (("paper", False), clients[number % len(clients)])
    ]
    return pytest.mark.parametrize(("venue", "asynchronous", "at"), cases)


SYMBOL = "BTC/USDT:USDT"
LEG = Leg(SYMBOL, "long")
BEFORE = [(66_000, 10)]
LADDER = [(61_000, 3), (65_000, 3), (66_500, 4)]
OTHER = [(63_000, 3), (64_000, 2), (67_000, 2)]


def killed(start: Children, account: Account, actor: str, at: At, **task: Any) -> None:
    """Run a process that is killed right before or after the n-th request of a kind."""
    port, when, method, nth = at
    strikes = {port: [{"method": method, "when": when, "what": "kill", "nth": nth}]}
    child = start(actor, **account.of_child(), strikes=strikes, lease=2.0, **task)
    child.hear()
    child.tell()
    child.wait_killed()


def targets(account: Account) -> list[tuple[Any, Any]]:
    """Prices and contracts of the take-profits that rest, by price."""
    rest = [each for each in account.exchange.open_orders(LEG) if each.family == "take_profit"]
    return sorted((each.trigger_price, each.contracts) for each in rest)


def goes_on(account: Account) -> Any:
    """Another process, of which a recover has told no error."""
    guard = account.guard_on(account.reached())
    assert [each.error for each in guard.recover() if each.error] == []
    return guard


def closes(account: Account, guard: Any, position: Any, *, orders: int = 1) -> None:
    """A close after it, unless the recover has closed: booked once, and no order of ours is left."""
    if guard.position("btc-1").state != "closed":
        guard.close_position("btc-1")
    account.assert_closed_once(position, orders=orders)
    assert guard.recover() == []


STEPS = [
    ("ledger", "before", "change", 1),
    ("ledger", "after", "change", 1),
    *(("venue", when, "place_stop", nth) for nth in (1, 2, 3) for when in ("before", "after")),
    ("venue", "before", "cancel", 1),
    ("venue", "after", "cancel", 1),
    ("ledger", "before", "end_change", 1),
    ("ledger", "after", "end_change", 1),
]


@at_each(*STEPS)
def test_died_setting_a_ladder(start: Children, account: Account, at: At) -> None:
    """Nothing was journaled: the old target rests. Else all three rungs do, each once, and the old one is gone."""
    position = account.open()
    killed(start, account, "change", at, change={"take_profit": LADDER})
    rest = targets(account)
    assert {*BEFORE} <= {*rest} or {*LADDER} <= {*rest}, "neither the old one nor the ladder is whole"
    guard = goes_on(account)
    assert targets(account) == (BEFORE if at == STEPS[0] else LADDER)
    closes(account, guard, position)


@at_each(*STEPS[3:8:2], *STEPS[8:10], ("venue", "after", "cancel", 2))
def test_died_moving_a_ladder_of_which_a_rung_has_filled(start: Children, account: Account, at: At) -> None:
    """Three of ten are gone: the new rungs add up to the seven that are left, and so do all orders in the end."""
    position = account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    account.exchange.set_price(SYMBOL, 61_000)
    account.exchange.set_price(SYMBOL, 60_000)
    killed(start, account, "change", at, change={"take_profit": OTHER})
    assert {*LADDER[1:]} <= {*targets(account)} or {*OTHER} <= {*targets(account)}, "neither ladder is whole"
    guard = goes_on(account)
    assert targets(account) == OTHER
    assert guard.position("btc-1").left == 7
    closes(account, guard, position)
    assert [fill.contracts for fill in guard.position("btc-1").closed.fills] == [3, 7]


@at_each(*[("venue", "after", "cancel", nth) for nth in (1, 2, 3)])
def test_died_sweeping_a_ladder(start: Children, account: Account, at: At) -> None:
    """The next one sweeps the rungs that are left."""
    position = account.open()
    account.guard.modify_position("btc-1", take_profit=LADDER)
    killed(start, account, "close", at, positions=["btc-1"])
    assert len(account.exchange.open_orders(LEG)) == 4 - at[-1]
    closes(account, goes_on(account), position)


@at_each(
    ("ledger", "before", "sending", 2),
    ("venue", "before", "place", 2),
    ("venue", "after", "place", 1),
    ("venue", "after", "place", 2),
    ("venue", "after", "place", 3),
    ("ledger", "before", "book", 1),
    clients=[("mexc", False), ("binanceusdm", False)],
)
def test_died_closing_in_slices(start: Children, account: Account, at: At) -> None:
    """What each slice filled is found by its own id, and the rest goes out as one more order."""
    position = account.open()
    killed(start, account, "slices", at, position="btc-1", slices=[3, 3, 4])
    out = [each for each in account.exchange.orders(LEG) if each.family == "order"]
    rest = sum(each.filled for each in out) < 10
    closes(account, goes_on(account), position, orders=len(out) + rest)
    sent = [each for each in account.exchange.orders(LEG) if each.family == "order"]
    assert len({each.client_order_id for each in sent}) == len(sent)


@at_each(
    ("ledger", "before", "sending", 1),
    ("venue", "before", "place", 1),
    ("venue", "after", "place", 1),
    ("ledger", "before", "book", 1),
)
def test_died_closing_instead_of_a_stop_loss(start: Children, account: Account, at: At) -> None:
    """The price has passed it: once its order is journaled, it is a close like any other."""
    position = account.open(bare=True)
    killed(start, account, "change", at, change={"stop_loss": 59_500, "or_close": True})
    closes(account, goes_on(account), position)
