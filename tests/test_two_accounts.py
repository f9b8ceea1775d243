"""Two accounts on one ledger and one lock directory: each has its own ids, and knows nothing of the other's."""

# mypy: disable-error-code="comparison-overlap"
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from faults import Strike, StruckExchange
from intents import lock_for
from poslock import (
    LockLost,
    LockTimeout,
    PaperExchange,
    Position,
    PositionAlreadyClosingError,
    PositionConflict,
    PositionGuard,
)
from poslock.errors import PositionNotFound
from poslock.exchange.port import Leg
from poslock_cli.main import main
from systems import elsewhere
from venue import DIED, SYMBOL

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

LEG = Leg(SYMBOL, "long")
ID = "btc-1"
ADOPTED = f"{SYMBOL} long"


@dataclass
class Bot:
    """An account of its own, and a guard over it on the ledger of both."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.exchange = PaperExchange(self.folder / f"{self.name}.db", settles_within=0.3)
        self.guard = self.guard_on(self.exchange)

    @property
    def account(self) -> str:
        return str(self.exchange.account)

    @property
    def lock_dir(self) -> Path:
        return self.folder / "locks"

    def guard_on(self, exchange: PaperExchange | StruckExchange, timeout: float = 35.0) -> PositionGuard:
        return PositionGuard(exchange, lock_dir=self.lock_dir, timeout=timeout)

    def enter(self, contracts: int) -> None:
        self.exchange.set_price(SYMBOL, 60_000)
        self.exchange.open_position(SYMBOL, "long", contracts)

    def track(self, contracts: int = 10) -> None:
        self.enter(contracts)
        self.guard.track(Position(ID, SYMBOL, "long", contracts, 60_000))

    def run(self, command: str, *arguments: str) -> Result:
        exchange = ["--exchange", f"paper:{self.folder / self.name}.db"] if command in {"close", "settle"} else []
        return CliRunner().invoke(main, ["--lock-dir", str(self.lock_dir), command, *exchange, *arguments])


@pytest.fixture
def bots(tmp_path: Path) -> tuple[Bot, Bot]:
    return Bot(tmp_path, "one"), Bot(tmp_path, "two")


def test_both_adopt_the_same_market_and_close_it(bots: tuple[Bot, Bot]) -> None:
    """Under the same id. What the one closes stays open for the other, and can be opened again at once."""
    one, two = bots
    for bot, contracts in ((one, 10), (two, 7)):
        bot.enter(contracts)
        adopted = bot.guard.adopt(SYMBOL, "long")
        assert (adopted.position.id, adopted.position.contracts, adopted.account) == (ADOPTED, contracts, bot.account)
    first = one.guard.close_position(ADOPTED)
    assert two.guard.position(ADOPTED).state == "open"
    assert two.guard.recover() == []
    assert two.exchange.held(LEG) == 7
    one.enter(3)
    assert one.guard.adopt(SYMBOL, "long").position.contracts == 3
    second = two.guard.close_position(ADOPTED)
    assert [sum(fill.contracts for fill in closed.fills) for closed in (first, second)] == [10, 7]
    assert second.token > first.token
    assert (one.exchange.held(LEG), two.exchange.held(LEG)) == (3, 0)
    assert (one.guard.position(ADOPTED).state, two.guard.position(ADOPTED).state) == ("open", "closed")


def test_nobody_is_told_closing_of_another_accounts_position(bots: tuple[Bot, Bot]) -> None:
    """They share the lock: whoever does not wait is told who has it, until the ledger says that it is closing."""
    one, two = bots
    one.track()
    two.track()
    hasty = two.guard_on(two.exchange, timeout=0)
    for before in ("open", "closed"):  # what the position of the other account is by then
        with lock_for("close", ID, lock_dir=elsewhere(one.lock_dir)), pytest.raises(LockTimeout):
            hasty.modify_position(ID, stop_loss=58_000)
        if before == "open":
            one.guard.close_position(ID)
    dying = two.guard_on(StruckExchange(two.exchange, Strike("place", "before", DIED)))
    with pytest.raises(type(DIED)):
        dying.close_position(ID)
    with lock_for("close", ID, lock_dir=elsewhere(one.lock_dir)), pytest.raises(PositionAlreadyClosingError) as told:
        hasty.modify_position(ID, stop_loss=58_000)
    assert told.value.state == "closing"
    two.guard.recover()


def test_a_close_waits_for_the_closer_of_another_accounts_position_as_for_any_holder(bots: tuple[Bot, Bot]) -> None:
    """Until its lease has run out, whatever the time-out."""
    one, two = bots
    one.track()
    two.track()
    with pytest.raises(LockLost), lock_for("close", ID, lock_dir=elsewhere(one.lock_dir), stale_after=0.5):
        assert two.guard_on(two.exchange, timeout=0).close_position(ID).left_at_venue == 0
    assert one.guard.position(ID).state == "open"


def test_a_position_of_another_account_alone_is_not_found_and_that_account_is_named(bots: tuple[Bot, Bot]) -> None:
    """It is not touched."""
    one, two = bots
    one.track()
    with pytest.raises(PositionNotFound, match=f"only for '{one.account}'") as caught:
        two.guard.close_position(ID)
    assert caught.value.accounts == (one.account,)
    assert one.guard.position(ID).state == "open"


def test_two_bots_on_one_side_of_a_market_are_refused_with_the_ways_out(bots: tuple[Bot, Bot]) -> None:
    """The venue holds both as one; another account does not."""
    one, two = bots
    one.track()
    with pytest.raises(PositionConflict) as caught:
        one.guard.track(Position("btc-2", SYMBOL, "long", 1, 60_000))
    for way_out in ("hedge mode", "a sub-account", "a ladder", "take_profit=[(price, contracts), ...]"):
        assert way_out in str(caught.value)
    two.track()


def test_what_cannot_be_settled_on_one_account_is_no_business_of_the_other(bots: tuple[Bot, Bot]) -> None:
    """`settle` takes the oldest generation of its own account."""
    one, two = bots
    for bot in bots:
        bot.track()
        struck = StruckExchange(bot.exchange, Strike("place", "before", DIED))
        with pytest.raises(type(DIED)):
            bot.guard_on(struck).close_position(ID)
    with one.guard._operations.means.ledger._database.transaction() as db:
        db.execute("UPDATE position SET later = '5' WHERE account = ?", (one.account,))
    ledger = one.guard._operations.means.ledger
    assert [each.account for each in ledger.superseded(ID)] == [one.account]
    assert ledger.superseded(ID, two.account) == []
    assert two.guard.close_position(ID).left_at_venue == 0
    assert ledger.superseded(ID, one.account) != []


def test_the_command_line_says_whose_position_it_means(bots: tuple[Bot, Bot]) -> None:
    """`positions` shows both, `history` asks which, `close` takes that of the exchange that it was given."""
    one, two = bots
    one.track(10)
    assert "ACCOUNT" not in one.run("history", ID).stdout
    two.track(7)
    shown = json.loads(one.run("positions", ID, "--json").stdout)
    assert [(each["account"], each["left"]) for each in shown] == [(one.account, "10"), (two.account, "7")]
    (own,) = json.loads(one.run("positions", "--account", two.account, "--json").stdout)
    assert own["account"] == two.account
    assert one.run("positions", ID, "--account", "nobody").exit_code == 1
    asked = one.run("history", ID)
    assert asked.exit_code == 2
    assert f"is on '{min(one.account, two.account)}' and '{max(one.account, two.account)}'" in asked.stderr
    assert "--account NAME" in asked.stderr
    assert two.run("close", ID).exit_code == 0
    events = [json.loads(one.run("history", ID, "--account", bot.account, "--json").stdout) for bot in bots]
    assert [[each["event"] for each in of_bot] for of_bot in events] == [
        ["tracked"],
        ["tracked", "intent", "sending", "filled", "booked"],
    ]
    assert {each["account"] for each in events[1]} == {two.account}
    header, *rows = one.run("history").stdout.splitlines()
    assert header.split()[:3] == ["TIME", "POSITION", "ACCOUNT"]
    assert len([row for row in rows if one.account in row]) == 1
    assert one.guard.position(ID).state == "open"
