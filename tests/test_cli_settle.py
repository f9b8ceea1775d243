"""Positions that do not end as tracked: what ``close``, ``settle``, ``forget``, ``recover`` and ``positions`` say."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from poslock import PaperExchange, Position
from poslock.exchange.port import Leg
from poslock_cli.main import main

if TYPE_CHECKING:
    from conftest import Account
    from poslock.position import Trade

LEG = Leg("BTC/USDT:USDT", "long")


class Forgetful(PaperExchange):
    """An account that shows no exit among its trades, and has little patience."""

    def __init__(self, path: Any, **settings: Any) -> None:
        super().__init__(path, **{"settles_within": 0.3, "denies_for": 0.1, **settings})

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        return [each for each in super().trades(leg, since_ms) if each.effect == "entry"]


def on(account: Account, command: str, *arguments: str) -> Result:
    where = [] if command in {"positions", "history"} else ["--exchange", f"paper:{account.exchange_path}"]
    result = CliRunner().invoke(main, ["--lock-dir", account.lock_dir, command, *where, *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def patient(monkeypatch: pytest.MonkeyPatch, kind: type[PaperExchange] = PaperExchange, **settings: Any) -> None:
    """The commands open accounts of this kind, and the venue settles within a third of a second."""
    made = partial(kind, settles_within=0.3, denies_for=0.1, **settings)
    monkeypatch.setattr("poslock_cli.account.PaperExchange", made)


@pytest.fixture
def unexplained(account: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """A position that its stop-loss has ended, while the venue shows no trade of it."""
    account.open()
    account.exchange.set_price(LEG.symbol, 57_000)
    patient(monkeypatch, Forgetful)
    return account


# What is left.


def test_a_close_that_leaves_something_is_exit_3(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody added to the position: only what was tracked is closed, and the line says how many are left."""
    account.open()
    account.exchange.open_position(LEG.symbol, "long", 3)
    patient(monkeypatch)
    result = on(account, "close", "btc-1")
    assert result.exit_code == 3
    assert result.stdout.endswith("; ended by close, 3 contracts are left at the venue\n")
    (row,) = json.loads(on(account, "positions", "--json").stdout)
    assert (row["ended_by"], row["left_at_venue"], row["written_off"]) == ("close", "3", "0")
    assert on(account, "positions").stdout.endswith("\n  ended by close, 3 contracts are left at the venue\n")


def test_whole_closes_what_was_added_too(account: Account) -> None:
    """Exit 0, and nothing is left."""
    account.open()
    account.exchange.open_position(LEG.symbol, "long", 3)
    result = on(account, "close", "btc-1", "--whole")
    assert result.exit_code == 0
    assert account.exchange.held(LEG) == 0
    assert result.stdout.startswith("btc-1: closed 13 contracts at 59000")


def test_a_close_says_what_took_the_position(account: Account) -> None:
    """An order of somebody else was faster: nothing is sent, and it is booked."""
    account.open()
    account.exchange.set_price(LEG.symbol, 57_000)
    result = on(account, "close", "btc-1")
    assert (result.exit_code, "closed 10 contracts at 57000" in result.stdout) == (0, True)
    assert result.stdout.endswith("; ended by other, nothing is left at the venue\n")


def test_recover_says_what_ended_by_itself(account: Account) -> None:
    """A stop-loss of ours took it: recover books it and names it."""
    account.exchange.set_price(LEG.symbol, 60_000)
    account.exchange.open_position(LEG.symbol, "long", 2)
    account.guard.track(Position("btc-1", LEG.symbol, "long", 2, 60_000))
    account.guard.modify_position("btc-1", stop_loss="58000")
    account.exchange.set_price(LEG.symbol, 58_000)
    result = on(account, "recover")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("btc-1: closed 2 contracts at 58000")
    assert result.stdout.endswith("; ended by stop_loss, nothing is left at the venue\n")
    assert on(account, "recover").stdout.startswith("nothing to recover")


# What cannot be settled.


def test_why_a_close_cannot_end_is_shown_by_positions(unexplained: Account) -> None:
    """In full under the row, with the way out, and in JSON; the history has it too."""
    result = on(unexplained, "close", "btc-1")
    assert (result.exit_code, "is not settled" in result.stderr) == (1, True)
    (row,) = json.loads(on(unexplained, "positions", "--json").stdout)
    assert row["state"] == "closing"
    assert row["unsettled"] == "the venue holds nothing of it, but shows no trades for 10 contracts"
    assert [row[field] for field in ("ended_by", "left_at_venue", "written_off", "by_operator")] == [None] * 4
    _, _, line = on(unexplained, "positions").stdout.splitlines()
    assert line.startswith(
        f"  unsettled: {row['unsettled']} ('poslock close' or 'recover' looks afresh, 'poslock settle'"
    )
    trail = on(unexplained, "history", "btc-1").stdout
    assert f"unsettled  {row['unsettled']}\n" in trail


def test_settle_writes_off_what_nothing_proves(unexplained: Account) -> None:
    """Exit 0; the contracts are in no P&L, and positions and history go on saying so."""
    assert on(unexplained, "close", "btc-1").exit_code == 1
    result = on(unexplained, "settle", "btc-1", "--reason", "lost fills", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    line = "btc-1: closed 0 contracts, net P&L 0 (gross 0, fees 0, funding 0); ended by settle, "
    assert result.stdout == f"{line}nothing is left at the venue, 10 contracts are written off, in no P&L\n"
    (row,) = json.loads(on(unexplained, "positions", "--json").stdout)
    assert (row["state"], row["written_off"], row["by_operator"], row["unsettled"]) == ("closed", "10", "0", "")
    assert "10 contracts are written off" in on(unexplained, "positions").stdout
    trail = on(unexplained, "history", "btc-1").stdout
    assert "settled    lost fills\n" in trail
    assert "booked     net 0, 10 written off\n" in trail
    again = on(unexplained, "settle", "btc-1", "--reason", "lost fills", "--yes")
    assert (again.exit_code, again.stderr) == (1, "Error: position 'btc-1' is already closed\n")


def test_settle_json_books_at_the_operators_price(unexplained: Account) -> None:
    """One object as of a close; the contracts that the operator vouches for are counted apart."""
    result = on(unexplained, "settle", "btc-1", "--reason", "desk", "--exit-price", "57000", "--yes", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["outcome"], told["error"]) == (0, "settled", None)
    closed = told["closed"]
    assert (closed["gross_pnl"], closed["exit_price"], closed["ended_by"]) == ("-30000", "57000", "settle")
    assert (closed["written_off"], closed["by_operator"], closed["left_at_venue"]) == ("0", "10", "0")


@pytest.mark.parametrize("as_json", [False, True])
def test_settle_is_refused_where_a_close_can_end_it(account: Account, *, as_json: bool) -> None:
    """Exit 1 with the reason, and the position is open as before."""
    account.open()
    result = on(account, "settle", "btc-1", "--reason", "a test", "--yes", *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: position 'btc-1': settle is refused: close_position can end it")
    if as_json:
        assert json.loads(result.stdout)["outcome"] == "refused"
    assert account.guard.position("btc-1").state == "open"


def test_settle_is_refused_while_an_order_may_still_be_taken(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the venue's clock, which is asked first: ours may be far ahead of it."""
    account.open()
    with account.guard.closing("btc-1") as close:
        close.sending()

    class Ahead(PaperExchange):
        """Its time is known once it was asked; until then it is ours, which is an hour ahead."""

        asked = False

        def prepare(self) -> None:
            self.asked = True

        def time_ms(self) -> int:
            return int(time.time() * 1000) + (0 if self.asked else 3_600_000)

    monkeypatch.setattr("poslock_cli.account.PaperExchange", Ahead)
    result = on(account, "settle", "btc-1", "--reason", "a test", "--yes")
    assert (result.exit_code, "an order may still be taken" in result.stderr) == (1, True)
    assert account.guard.position("btc-1").state == "closing"


@pytest.mark.parametrize(
    "arguments",
    [
        ["settle", "btc-1", "--yes"],
        ["settle", "btc-1", "--yes", "--reason", " "],
        ["settle", "btc-1", "--yes", "--reason", "a test", "--exit-price", "0"],
        ["settle", "btc-1", "--yes", "--reason", "a test", "--exit-price", "much\x1b[2J"],
        ["forget", "btc-1", "--yes"],
        ["forget", "btc-1", "--yes", "--reason", ""],
    ],
)
def test_the_operators_word_needs_a_reason_and_a_price_that_is_one(account: Account, arguments: list[str]) -> None:
    """Exit 2, and nothing was done."""
    account.open()
    result = on(account, *arguments)
    assert (result.exit_code, account.guard.position("btc-1").state) == (2, "open")
    assert all(line.isprintable() for line in result.stderr.splitlines())


@pytest.mark.parametrize("command", ["settle", "forget"])
def test_the_word_on_what_nobody_tracked_touches_nothing(account: Account, command: str) -> None:
    """Exit 1 with the ledger's path; where there is no ledger, none is made."""
    for _ in range(2):
        result = on(account, command, "nobody", "--reason", "a test", "--yes")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"is not in the ledger {account.lock_dir}/ledger.db" in result.stderr
        account.open()


# Forgotten ones.


def test_what_was_tracked_by_mistake_is_forgotten(account: Account) -> None:
    """Exit 0; nothing is sent, its state and its reason are shown, and it is not open any more."""
    account.open()
    result = on(account, "forget", "btc-1", "--reason", "wrong account", "--yes")
    assert (result.exit_code, result.output) == (0, "btc-1: forgotten\n")
    assert account.exchange.held(LEG) == 10
    (row,) = json.loads(on(account, "positions", "--json").stdout)
    assert (row["state"], row["left"]) == ("forgotten", "0")
    assert "forgotten  wrong account\n" in on(account, "history", "btc-1").stdout
    assert json.loads(on(account, "positions", "--open", "--json").stdout) == []
    again = on(account, "forget", "btc-1", "--reason", "wrong account", "--yes", "--json")
    assert (again.exit_code, json.loads(again.stdout)["outcome"]) == (1, "failed")


def test_forget_is_refused_once_something_was_sent(account: Account) -> None:
    """Exit 1 with the reason; JSON has the word for it."""
    account.open()
    account.guard.modify_position("btc-1", reduce_by=1)
    result = on(account, "forget", "btc-1", "--reason", "a test", "--yes", "--json")
    assert (result.exit_code, json.loads(result.stdout)["outcome"]) == (1, "refused")
    assert result.stderr.startswith("Error: position 'btc-1': forget is refused: ")
    assert account.guard.position("btc-1").state == "open"


def test_forget_json(account: Account) -> None:
    """The object of a close, without a booking."""
    account.open()
    result = on(account, "forget", "btc-1", "--reason", "a test", "--yes", "--json")
    told = {"position": "btc-1", "outcome": "forgotten", "closed": None, "holder": None, "error": None}
    assert (result.exit_code, json.loads(result.stdout)) == (0, told)


# Which positions are shown.


def test_positions_by_name_and_open_ones(account: Account) -> None:
    """Named ones only, by id; --open leaves out what is over, and that is no error."""
    for name in ("btc-1", "eth-1", "sol-1"):
        account.open(name, symbol=f"{name}/USDT")
    account.guard.close_position("eth-1")

    def shown(*arguments: str) -> list[str]:
        result = on(account, "positions", "--json", *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return [row["position"] for row in json.loads(result.stdout)]

    assert shown("sol-1", "eth-1") == ["eth-1", "sol-1"]
    assert shown("--open") == ["btc-1", "sol-1"]
    assert shown("--open", "eth-1") == []
    assert on(account, "positions", "--open", "eth-1").stdout.startswith("no open positions in ")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_position_that_the_ledger_does_not_know_is_an_error(account: Account, *, as_json: bool) -> None:
    """A typo is no good news: exit 1 and a line for it; the others are shown all the same. No ledger knows nothing."""
    options = ["--json"] if as_json else []
    for names, rows in ((["btc-2"], 0), (["btc-1", "btc-2"], 1)):
        result = on(account, "positions", *names, *options)
        error = f"Error: position 'btc-2' is not in the ledger {account.lock_dir}/ledger.db\n"
        assert (result.exit_code, result.stderr) == (1, error)
        assert len(json.loads(result.stdout)) == rows if as_json else result.stdout.count("btc-1") == rows
        account.open()


def test_a_generation_that_is_not_booked_is_shown_beside_the_later_one(
    unexplained: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id was tracked anew on the same leg: the old one is still to be settled, and then it is gone."""
    assert on(unexplained, "close", "btc-1").exit_code == 1
    unexplained.exchange.open_position(LEG.symbol, "long", 4)
    hasty = Forgetful(unexplained.exchange_path)
    time.sleep(0.01)
    unexplained.guard_on(hasty).track(Position("btc-1", LEG.symbol, "long", 4, 57_000), verify=False)
    rows = json.loads(on(unexplained, "positions", "--json").stdout)
    assert [(row["generation"], row["state"]) for row in rows] == [(1, "closing"), (2, "open")]
    assert rows[0]["unsettled"]
    assert "later position" in on(unexplained, "history", "btc-1").stdout
    result = on(unexplained, "settle", "btc-1", "--reason", "lost fills", "--yes")
    assert (result.exit_code, "10 contracts are written off" in result.stdout) == (0, True)
    rows = json.loads(on(unexplained, "positions", "--json").stdout)
    assert [(row["generation"], row["state"]) for row in rows] == [(2, "open")]
