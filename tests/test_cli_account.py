"""``poslock positions``, ``history``, ``close`` and ``recover``, beside bots that run and bots that died."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from intents import lock_for
from poslock import LockTimeout, PaperExchange, Position, PositionLock, Recovery
from poslock.exchange.port import Leg
from poslock.lock.status import lock_status
from poslock_cli import positions as positions_module
from poslock_cli import recover as recover_module
from poslock_cli.account import amount, as_json, moment
from poslock_cli.main import main
from systems import elsewhere

if TYPE_CHECKING:
    from conftest import Account, Children
    from poslock.position import Trade
    from processes import Child

COMMANDS = ("positions", "history", "close", "recover", "settle", "forget")
LEG = Leg("BTC/USDT:USDT", "long")
OF_THE_EXCHANGE = ("close", "recover", "settle", "forget")
WORDS = {each: ["btc-1", "--yes", "--reason=test"] for each in ("close", "settle", "forget")}


class Forgetful(PaperExchange):
    """An account that shows no exit among its trades, and has little patience."""

    def __init__(self, path: Any, **settings: Any) -> None:
        super().__init__(path, settles_within=0.3, denies_for=0.1, **settings)

    def trades(self, leg: Leg, since_ms: int) -> list[Trade]:
        return [each for each in super().trades(leg, since_ms) if each.effect == "entry"]


@pytest.fixture(autouse=True)
def _no_exchange_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for variable in ("POSLOCK_EXCHANGE", "POSLOCK_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no configuration"))


def run(lock_dir: str, *arguments: str, **options: Any) -> Result:
    result = CliRunner().invoke(main, ["--lock-dir", lock_dir, *arguments], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def on(account: Account, command: str, *arguments: str) -> Result:
    """A command on the account's exchange."""
    return run(account.lock_dir, command, "--exchange", f"paper:{account.exchange_path}", *arguments)


def listed(lock_dir: str, *arguments: str) -> list[dict[str, Any]]:
    result = run(lock_dir, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    objects: list[dict[str, Any]] = json.loads(result.stdout)
    return objects


def closer(start: Children, account: Account, what: str, method: str = "place", **more: Any) -> Child:
    """A bot that is killed or stopped right after its order was taken, or before another request."""
    when = "after" if method == "place" else "before"
    strikes = {"venue": [{"method": method, "when": when, "what": what}]}
    child = start("close", **account.of_child(), positions=["btc-1"], strikes=strikes, **more)
    child.hear()
    child.tell()
    if what == "kill":
        child.process.wait(60)
    else:
        child.wait_stopped()
    return child


def files(folder: str | Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# positions


def test_positions_json_of_every_state(account: Account, start: Children) -> None:
    """Open, closing by whom, and closed with its P&L; amounts are exact text."""
    account.open()
    account.open("eth-1", symbol="ETH/USDT:USDT", side="short", contracts=3)
    account.open("sol-1", symbol="SOL/USDT:USDT")
    account.guard.close_position("sol-1")
    account.guard.modify_position("eth-1", reduce_by=1)
    child = closer(start, account, "stop")
    rows = {row["position"]: row for row in listed(account.lock_dir, "positions")}
    assert list(rows) == ["btc-1", "eth-1", "sol-1"]
    (holder,) = rows["btc-1"].pop("holders")
    assert (holder["pid"], holder["alive"], holder["purpose"]) == (child.pid, True, "close: test")
    assert rows["btc-1"] == {
        "position": "btc-1",
        "account": account.exchange.account,
        "symbol": "BTC/USDT:USDT",
        "side": "long",
        "contracts": "10",
        "left": "10",
        "entry_price": "60000",
        "settle": "USDT",
        "state": "closing",
        "generation": 1,
        "net_pnl": None,
        "ended_by": None,
        "left_at_venue": None,
        "written_off": None,
        "by_operator": None,
        "realized_pnl": None,
        "unsettled": "",
        "lock": "held",
    }
    assert {**rows["eth-1"], **rows["btc-1"]}.keys() == rows["eth-1"].keys()
    told = {name: [row[field] for field in ("left", "state", "net_pnl", "lock")] for name, row in rows.items()}
    assert told["eth-1"] == ["2", "open", None, "free"]
    assert told["sol-1"] == ["0", "closed", "-10295.0000", "free"]
    ended = [rows["sol-1"][field] for field in ("ended_by", "left_at_venue", "written_off", "by_operator")]
    assert ended == ["close", "0", "0", "0"]
    assert rows["eth-1"]["holders"] == rows["sol-1"]["holders"] == []


def test_positions_and_history_say_what_was_gained_so_far(account: Account) -> None:
    """A reduce of four at 59000, before the close."""
    account.open()
    account.guard.modify_position("btc-1", reduce_by=4)
    _, row = run(account.lock_dir, "positions").stdout.splitlines()
    assert row.split()[4:] == ["6", "60000", "open", "1", "-4118.0000", "USDT", "so", "far"]
    (told,) = json.loads(run(account.lock_dir, "positions", "--json").stdout)
    assert Decimal(told["realized_pnl"]) == -4118
    assert "4 of 10 gone, net -4118.0000 so far" in run(account.lock_dir, "history", "btc-1").stdout


def test_positions_as_a_table(account: Account, start: Children) -> None:
    """One line each; a holder that died is told from one that lives."""
    account.open()
    account.open("sol-1", symbol="SOL/USDT:USDT")
    account.guard.close_position("sol-1")
    child = closer(start, account, "kill")
    header, first, second = run(account.lock_dir, "positions").stdout.splitlines()
    assert header.split("  ")[0] == "POSITION"
    name = account.exchange.account
    assert first.split() == (
        f"btc-1 {name} BTC/USDT:USDT long 10 60000 closing 1 PID {child.pid} (close: test), stale".split()
    )
    assert second.split() == f"sol-1 {name} SOL/USDT:USDT long 0 60000 closed 1 -10295.0000 USDT".split()


def test_a_position_opened_again_is_shown_once(account: Account) -> None:
    """In its newest generation."""
    position = account.open()
    account.guard.close_position("btc-1")
    account.exchange.open_position(position.symbol, "long", 10)
    account.guard.track(position)
    assert [(row["generation"], row["state"]) for row in listed(account.lock_dir, "positions")] == [(2, "open")]


def test_positions_of_all_accounts_are_shown(account: Account, tmp_path: Path) -> None:
    """A ledger may be shared; looking at it needs no exchange."""
    account.open()
    other = PaperExchange(tmp_path / "other.db")
    other.set_price("BTC/USDT:USDT", 60_000)
    other.open_position("BTC/USDT:USDT", "long", 1)
    account.guard_on(other).track(Position("btc-2", "BTC/USDT:USDT", "long", 1, 60_000))
    rows = listed(account.lock_dir, "positions")
    assert [row["account"] for row in rows] == [account.exchange.account, other.account]


def test_a_close_that_ends_while_we_look_does_not_seem_abandoned(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was closing when the ledger was read and its lock was free right after: it is shown as closed."""
    account.open()

    def end_and_look(*arguments: Any) -> Any:
        if account.guard.position("btc-1").state == "closing":
            account.guard.recover()
        return lock_status(*arguments)

    with account.guard.closing("btc-1"):
        pass  # left unfinished
    monkeypatch.setattr(positions_module, "lock_status", end_and_look)
    (row,) = listed(account.lock_dir, "positions")
    assert (row["state"], row["lock"]) == ("closed", "free")


def test_looking_while_bots_close_is_always_sane(account: Account, start: Children) -> None:
    """Whatever is closing has a holder, whatever is closed has its P&L, and the trail only grows."""
    ids = [f"p{number}" for number in range(12)]
    for number, each in enumerate(ids):
        account.open(each, symbol=f"COIN{number}/USDT")
    bots = [start("close", **account.of_child(), positions=ids) for _ in range(2)]
    for bot in bots:
        bot.hear()
        bot.tell()
    states: set[str] = set()
    before: list[dict[str, Any]] = []
    deadline = time.monotonic() + 60
    while states != {"closed"} and time.monotonic() < deadline:
        rows = listed(account.lock_dir, "positions")
        assert [row["position"] for row in rows] == sorted(ids)
        for row in rows:
            assert (row["state"] == "closed") == (row["net_pnl"] is not None)
            assert row["state"] != "closing" or row["lock"] == "held", row
        events = listed(account.lock_dir, "history")
        assert events[: len(before)] == before
        states, before = {row["state"] for row in rows}, events
    assert states == {"closed"}
    assert [event["event"] for event in before].count("booked") == len(ids)


# history


def test_history_of_a_takeover_shows_who_was_broken(account: Account, start: Children) -> None:
    """Who tracked, who held and sent, who took over from whom, who booked; times in UTC."""
    account.open()
    dead = closer(start, account, "kill")
    assert on(account, "close", "btc-1").exit_code == 0
    events = listed(account.lock_dir, "history", "btc-1")
    names = [event["event"] for event in events]
    assert names == ["tracked", "intent", "sending", "took over", "filled", "booked"]
    fields = ["at", "position_id", "generation", "token", "pid", "event", "detail", "account"]
    assert all(list(event) == fields for event in events)
    assert [event["pid"] for event in events] == [os.getpid(), dead.pid, dead.pid, *[os.getpid()] * 3]
    assert events[3]["detail"] == f"from PID {dead.pid} on {os.uname().nodename} (close: test)"
    assert (events[1]["detail"], events[5]["detail"]) == ("test", "net -10295.0000")
    assert events[3]["token"] > events[2]["token"] > 10**15
    times = [datetime.fromisoformat(event["at"]) for event in events]
    assert times == sorted(times)
    assert all(each.tzinfo == UTC and abs(each.timestamp() - time.time()) < 60 for each in times)
    header, *lines = run(account.lock_dir, "history").stdout.splitlines()
    assert header.split() == ["TIME", "POSITION", "GENERATION", "TOKEN", "PID", "EVENT", "DETAIL"]
    assert lines[3].split()[:2] == [events[3]["at"], "btc-1"]
    assert lines[3].endswith(f"took over  {events[3]['detail']}")


def test_history_of_one_position_is_its_own(account: Account) -> None:
    """One that the ledger does not know is an error, for it is a typo; so is one that cannot be."""
    account.open()
    account.open("eth-1", symbol="ETH/USDT:USDT")
    assert {event["position_id"] for event in listed(account.lock_dir, "history", "eth-1")} == {"eth-1"}
    assert len(listed(account.lock_dir, "history")) == 2
    nothing = f"Error: no history of 'nobody' in {account.lock_dir}/ledger.db\n"
    for options, printed in ([], ""), (["--json"], "[]\n"):
        result = run(account.lock_dir, "history", "nobody", *options)
        assert (result.exit_code, result.stdout, result.stderr) == (1, printed, nothing)
    result = run(account.lock_dir, "history", "bad\nid")
    assert (result.exit_code, "invalid position id" in result.stderr) == (1, True)


# close


def test_the_operator_closes(account: Account) -> None:
    """Exit 0, the P&L, the reason in the history; a second one is told who booked it and exits 1."""
    position = account.open()
    result = on(account, "close", "btc-1", "--reason", "news \x1b[31m")
    assert (result.exit_code, result.stderr) == (0, "")
    line = "btc-1: closed 10 contracts at 59000, net P&L -10295.0000 (gross -10000, fees 295.0000, funding 0)"
    assert result.stdout == f"{line}; ended by close, nothing is left at the venue\n"
    account.assert_closed_once(position)
    assert listed(account.lock_dir, "history")[1]["detail"] == r"news \x1b[31m"
    again = on(account, "close", "btc-1")
    assert (again.exit_code, again.stdout) == (1, "")
    expected = rf"Error: position 'btc-1' is already closed \(booked by PID {os.getpid()} at 20\S+\+00:00\)\n"
    assert re.fullmatch(expected, again.stderr)


def test_close_json(account: Account) -> None:
    """One object with all of the booking; what failed has its error there too, and on standard error."""
    account.open()
    result = on(account, "close", "btc-1", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, list(told)) == (0, ["position", "outcome", "closed", "holder", "error"])
    assert (told["position"], told["outcome"], told["holder"], told["error"]) == ("btc-1", "closed", None, None)
    closed = account.guard.position("btc-1").closed
    assert closed is not None
    assert datetime.fromisoformat(told["closed"].pop("closed_at")) == closed.closed_at
    (fill,) = told["closed"].pop("fills")
    assert (fill["price"], fill["contracts"], fill["fee"], fill["fee_currency"]) == ("59000", "10", "295.0000", "USDT")
    assert told["closed"] == {
        "position_id": "btc-1",
        "exit_price": "59000",
        "gross_pnl": "-10000",
        "fees": "295.0000",
        "funding": "0",
        "net_pnl": "-10295.0000",
        "client_order_id": closed.client_order_id,
        "token": closed.token,
        "ended_by": "close",
        "left_at_venue": "0",
        "written_off": "0",
        "by_operator": "0",
    }
    again = on(account, "close", "btc-1", "--json")
    told = json.loads(again.stdout)
    assert (again.exit_code, told["outcome"], told["closed"]) == (1, "already closed", None)
    assert told["error"] in again.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_who_is_faster_than_the_operator_is_named(account: Account, start: Children, *, as_json: bool) -> None:
    """A bot is closing: exit 1 with its PID, and nothing was sent."""
    account.open()
    bot = start("hold", lock_dir=account.lock_dir, position="btc-1", stale_after=3600, intent="close")
    bot.hear()
    bot.ask("go")
    result = on(account, "close", "btc-1", "--timeout", "0", *(["--json"] if as_json else []))
    assert result.exit_code == 1
    host = os.uname().nodename
    error = f"position 'btc-1' is already closing (last holder: PID {bot.pid} on {host} (held by a test))"
    assert result.stderr == f"Error: {error}\n"
    holder = {"pid": bot.pid, "host": host, "purpose": "held by a test"}
    told = {"position": "btc-1", "outcome": "already closing", "closed": None, "holder": holder, "error": error}
    assert (json.loads(result.stdout) if as_json else result.stdout) == (told if as_json else "")
    assert account.exchange.held(LEG) == 10
    assert bot.ask("check") == {"ok": "check"}
    assert account.guard.position("btc-1").state == "open"


def test_the_operator_replaces_a_bot_that_fell_silent(account: Account, start: Children) -> None:
    """It was stopped after its order was taken: its lease runs out, and the close is finished by us, not made twice."""
    position = account.open()
    zombie = closer(start, account, "stop", lease=1.0)
    assert on(account, "close", "btc-1").exit_code == 0
    account.assert_closed_once(position)
    events = listed(account.lock_dir, "history", "btc-1")
    (broken,) = [event["detail"] for event in events if event["event"] == "took over"]
    assert broken.startswith(f"from PID {zombie.pid} on ")


def test_of_several_operators_one_closes(account: Account) -> None:
    """As processes, at once: one exit code is 0, and the others' words say that it is closed."""
    position = account.open()
    exchange = f"paper:{account.exchange_path}"
    command = [sys.executable, "-m", "poslock_cli", "--lock-dir", account.lock_dir, "close", "btc-1"]
    environment = {**os.environ, "POSLOCK_EXCHANGE": exchange}
    operators = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [(*operator.communicate(timeout=60), operator.returncode) for operator in operators]
    assert sorted(code for _, _, code in told) == [0, 1, 1, 1]
    for printed, error, code in told:
        assert printed.startswith("btc-1: closed 10 contracts") if code == 0 else "is already closed" in error
        lines = [line for line in (printed + error).splitlines() if not line.startswith("waiting for PID ")]
        assert len(lines) == 1
    account.assert_closed_once(position)


def test_a_close_that_the_exchange_does_not_settle_is_exit_1(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says that it stays closing and what goes on with it; so does recover, until it is done."""
    account.open()
    account.exchange.set_price("BTC/USDT:USDT", 57_000)  # the stop-loss
    monkeypatch.setattr("poslock_cli.account.PaperExchange", Forgetful)
    result = on(account, "close", "btc-1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["outcome"]) == (1, "unsettled")
    assert "recover() or the next close_position looks afresh" in result.stderr
    recovered = on(account, "recover")
    assert (recovered.exit_code, recovered.stdout) == (1, "")
    assert recovered.stderr.startswith("btc-1: close of position 'btc-1' is not settled")


def test_closing_what_nobody_tracked_touches_nothing(account: Account, tmp_path: Path) -> None:
    """Exit 1 with the ledger's path; where there is no ledger, none is made."""
    result = on(account, "close", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: position 'nobody' is not in the ledger {account.lock_dir}/ledger.db; track() it first\n"
    )
    assert not Path(account.lock_dir).exists()
    account.open()
    assert on(account, "close", "nobody").stderr == result.stderr
    elsewhere = on(account, "close", "btc-1", "--ledger", str(tmp_path / "other.db"))
    assert (elsewhere.exit_code, f"{tmp_path}/other.db" in elsewhere.stderr) == (1, True)
    assert not (tmp_path / "other.db").exists()
    assert account.exchange.held(LEG) == 10


def test_a_ledger_elsewhere_is_used(account: Account, tmp_path: Path) -> None:
    """By all four commands, with a path from the working directory or from the root."""
    account.open()
    moved = tmp_path / "moved.db"
    Path(account.lock_dir, "ledger.db").rename(moved)
    for path in (str(moved), os.path.relpath(moved)):
        assert len(listed(account.lock_dir, "positions", "--ledger", path)) == 1
        assert len(listed(account.lock_dir, "history", "--ledger", path)) == 1
    assert on(account, "recover", "--ledger", str(moved)).exit_code == 0
    assert on(account, "close", "btc-1", "--ledger", os.path.relpath(moved)).exit_code == 0
    assert not Path(account.lock_dir, "ledger.db").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--timeout", "-1"), ("--timeout", "nan"), ("--timeout", "soon")],
)
def test_an_option_out_of_range_is_a_usage_error(account: Account, option: str, value: str) -> None:
    """Exit 2, and the position is as it was."""
    account.open()
    assert on(account, "close", "btc-1", option, value).exit_code == 2
    assert account.guard.position("btc-1").state == "open"


# recover


def test_recover_finishes_what_a_killed_bot_began(account: Account, start: Children) -> None:
    """Its close is booked once, exit 0; after that there is nothing to recover."""
    position = account.open()
    closer(start, account, "kill")
    result = on(account, "recover")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("btc-1: closed 10 contracts at 59000, net P&L -10295.0000 (")
    account.assert_closed_once(position)
    again = on(account, "recover")
    nothing = f"nothing to recover on {account.exchange.account} in {account.lock_dir}/ledger.db\n"
    assert (again.exit_code, again.stdout) == (0, nothing)
    assert json.loads(on(account, "recover", "--json").stdout) == []


def test_recover_json_and_what_is_still_in_somebodys_hands(account: Account, start: Children) -> None:
    """A bot that is stopped, but within its lease, keeps its close: exit 1 and its PID; once it is dead, exit 0."""
    account.open()
    bot = closer(start, account, "stop", method="open_orders", lease=3600.0)
    result = on(account, "recover", "--json")
    (told,) = json.loads(result.stdout)
    assert (result.exit_code, told["outcome"], told["holder"]["pid"]) == (1, "already closing", bot.pid)
    assert result.stderr == f"btc-1: {told['error']}\n"
    bot.kill()
    result = on(account, "recover", "--json")
    (told,) = json.loads(result.stdout)
    assert (result.exit_code, told["outcome"], told["closed"]["net_pnl"]) == (0, "closed", "-10295.0000")


def test_recover_tells_changes_from_closes(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished change has no P&L; one that somebody is at is no success."""
    account.open()
    busy = LockTimeout("b", "b.lock", None, waited=0.0, why="held")

    class Guard:
        def __init__(self, *arguments: object, **options: object) -> None:
            pass

        def recover(self) -> list[Recovery]:
            return [Recovery("a", None, None), Recovery("b", None, busy)]

    monkeypatch.setattr(recover_module, "PositionGuard", Guard)
    result = on(account, "recover")
    assert (result.exit_code, result.stdout) == (1, "a: changes finished\n")
    assert result.stderr.startswith("b: no lock on position 'b' after 0.0 s: held")
    outcomes = [each["outcome"] for each in json.loads(on(account, "recover", "--json").stdout)]
    assert outcomes == ["changes finished", "busy"]


def test_a_hedged_account_is_found_to_be_one(account: Account, tmp_path: Path) -> None:
    """The file knows its mode; the operator need not."""
    exchange = PaperExchange(tmp_path / "hedge.db", hedge=True)
    exchange.set_price("ETH/USDT:USDT", 3000)
    exchange.open_position("ETH/USDT:USDT", "short", 2)
    account.guard_on(exchange).track(Position("eth-1", "ETH/USDT:USDT", "short", 2, 3000))
    result = run(account.lock_dir, "close", "eth-1", "--exchange", f"paper:{tmp_path}/hedge.db")
    assert result.stdout.startswith("eth-1: closed 2 contracts at 3000")
    assert exchange.held(Leg("ETH/USDT:USDT", "short")) == 0


# Which exchange.


@pytest.mark.parametrize("arguments", [("close", "btc-1"), ("recover",), ("settle", "btc-1", "--reason=test", "--yes")])
@pytest.mark.parametrize(
    ("exchange", "why"),
    [
        (None, "Name the exchange by --exchange or $POSLOCK_EXCHANGE: paper:PATH."),
        ("binance:main", "'binance' is no kind of exchange; known: paper:PATH."),
        ("\x1b[2Jexchange.db", r"'\x1b[2Jexchange.db' is no kind of exchange; known: paper:PATH."),
        ("", "'' is no kind of exchange; known: paper:PATH."),
        ("paper:", "there is no paper exchange '';"),
        ("paper:{tmp}/missing\n.db", r"there is no paper exchange '{tmp}/missing\n.db'; check the path."),
        ("paper:{tmp}/missing/exchange.db", "there is no paper exchange '{tmp}/missing/exchange.db'; check the path."),
        ("paper:{tmp}/empty.db", "there is no paper exchange '{tmp}/empty.db'; check the path."),
    ],
)
@pytest.mark.parametrize("by_environment", [False, True])
def test_an_exchange_that_is_not_there_is_refused_before_anything_is_touched(
    account: Account,
    tmp_path: Path,
    arguments: tuple[str, ...],
    exchange: str | None,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    by_environment: bool,
) -> None:
    """Exit 2, as every wrong command line; the message says how to name one, and no file was made or changed."""
    account.open()
    (tmp_path / "empty.db").touch()
    before = files(tmp_path)
    named = None if exchange is None else exchange.replace("{tmp}", str(tmp_path))
    if by_environment and named:
        monkeypatch.setenv("POSLOCK_EXCHANGE", named)
    options = [] if by_environment or named is None else ["--exchange", named]
    result = run(account.lock_dir, *arguments, *options)
    assert result.exit_code == 2
    # An empty variable is none.
    expected = "Name the exchange by" if by_environment and exchange == "" else why.replace("{tmp}", str(tmp_path))
    assert expected in result.stderr
    assert all(line.isprintable() for line in result.stderr.splitlines())
    assert files(tmp_path) == before


def test_a_file_that_is_no_exchange_is_an_error(account: Account, tmp_path: Path) -> None:
    """Not a database, a database of somebody else's, the ledger: named, left as it was, and no traceback."""
    account.open()
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at" * 100)
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.commit()
    foreign.close()
    for path in (tmp_path / "text.db", tmp_path / "foreign.db", Path(account.lock_dir, "ledger.db"), tmp_path):
        before = files(tmp_path)
        result = run(account.lock_dir, "recover", "--exchange", f"paper:{path}")
        assert (result.exit_code in {1, 2}, str(path) in result.stderr) == (True, True)
        assert files(tmp_path) == before


def test_the_variable_names_the_exchange_and_the_option_overrides_it(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the lock directory."""
    account.open()
    monkeypatch.setenv("POSLOCK_EXCHANGE", f"paper:{tmp_path}/missing.db")
    assert run(account.lock_dir, "close", "btc-1").exit_code == 2
    assert on(account, "recover").exit_code == 0
    monkeypatch.setenv("POSLOCK_EXCHANGE", f"paper:{account.exchange_path}")
    assert run(account.lock_dir, "close", "btc-1").exit_code == 0


# What may be in the way.


def test_looking_at_nothing_creates_nothing(account: Account, tmp_path: Path) -> None:
    """No ledger is an empty list, and so is one that is being made; a foreign database gets no tables of ours."""
    assert run(account.lock_dir, "positions").stdout == f"no positions in {account.lock_dir}/ledger.db\n"
    assert run(account.lock_dir, "history").stdout == f"no history in {account.lock_dir}/ledger.db\n"
    assert on(account, "recover").stdout.startswith("nothing to recover on paper-")
    for command in ("positions", "history"):
        assert listed(account.lock_dir, command) == []
        assert listed(account.lock_dir, command, "--ledger", str(tmp_path / "missing" / "ledger.db")) == []
    assert not Path(account.lock_dir).exists()
    empty = tmp_path / "empty.db"
    empty.touch()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "nowhere")
    for path in (empty, link):
        assert listed(account.lock_dir, "positions", "--ledger", str(path)) == []
    assert (empty.stat().st_size, (tmp_path / "nowhere").exists()) == (0, False)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("version", [1, 2, 99])
def test_a_database_of_another_program_is_left_as_it_is(
    account: Account, tmp_path: Path, version: int, journal: str, command: str
) -> None:
    """Whatever version it has, which may be one of ours: as ledger and as exchange it is refused in one line."""
    account.open()
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE theirs (a)")
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
    before = files(tmp_path)
    arguments = WORDS.get(command, [])
    if command in OF_THE_EXCHANGE:
        results = [
            on(account, command, *arguments, "--ledger", str(foreign)),
            run(account.lock_dir, command, *arguments, "--exchange", f"paper:{foreign}"),
        ]
    else:
        results = [run(account.lock_dir, command, "--ledger", str(foreign))]
    why = f"Error: '{foreign}' is a database of another kind; check the path\n"
    assert [(each.exit_code, each.stdout, each.stderr) for each in results] == [(1, "", why)] * len(results)
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("damage", ["garbage", "row", "no booking", "directory", "under a file", "newer"])
def test_a_damaged_ledger_is_one_line(account: Account, tmp_path: Path, command: str, damage: str) -> None:
    """Exit 1 with the ledger's path, no traceback, and nothing was sent."""
    account.open()
    ledger = tmp_path / "damaged.db"
    Path(account.lock_dir, "ledger.db").rename(ledger)
    account.lock_dir, of_locks = str(tmp_path), account.lock_dir  # rows() looks for ledger.db
    (tmp_path / "ledger.db").symlink_to(ledger)
    match damage:
        case "garbage":
            ledger.write_bytes(b"\x1b[2J" * 1000)
        case "row":
            account.rows("UPDATE position SET contracts = 'ten', state = 'closing'")
        case "no booking":
            account.rows("UPDATE position SET state = 'closed'")
        case "directory":
            ledger.unlink()
            ledger.mkdir()
        case "under a file":
            ledger = ledger / "ledger.db"
        case _:
            account.rows("PRAGMA user_version = 99")
    account.lock_dir = of_locks
    path = str(ledger)
    arguments = WORDS.get(command, [])
    if command in OF_THE_EXCHANGE:
        result = on(account, command, *arguments, "--ledger", path)
    else:
        result = run(account.lock_dir, command, "--ledger", path)
    if (command, damage) in {("history", "row"), ("history", "no booking"), ("recover", "no booking")}:
        assert result.exit_code == 0  # there is nothing wrong with what it reads
    else:
        assert (result.exit_code, path in result.stderr, len(result.stderr.splitlines())) == (1, True, 1)
    assert account.exchange.held(LEG) == 10


def test_nothing_is_printed_that_a_terminal_obeys(account: Account, tmp_path: Path) -> None:
    """Ids that turn the text around, purposes and paths with escapes, rows that somebody planted."""
    hostile = "\u202eevil"
    account.open(hostile)
    lock = lock_for("close", hostile, lock_dir=elsewhere(account.lock_dir), purpose="\x1b[2J\n\u202e")
    with lock:
        texts = [run(account.lock_dir, "positions").stdout]
        texts.append(on(account, "close", hostile, "--timeout", "0").stderr)
    texts += [on(account, "close", hostile).stdout, run(account.lock_dir, "history").stdout]
    assert all(r"\u202eevil" in text for text in texts)
    assert r"(\x1b[2J\n\u202e)" in texts[0]
    assert r"\x1b[2J\n\u202e" in texts[1]
    account.rows("UPDATE audit SET detail = char(27) || '[2J', event = char(8238), at = 9e99")
    texts.append(run(account.lock_dir, "history").stdout)
    assert r"unknown  \u202eevil" in texts[-1]
    account.rows("UPDATE position SET position_id = 'a' || char(10), symbol = char(27), state = 'open'")
    texts += [run(account.lock_dir, "positions").stdout, run(account.lock_dir, "positions").stderr]
    texts.append(run(account.lock_dir, "history", "--ledger", f"{tmp_path}/\x1b[2J").stdout)
    texts.append(run(account.lock_dir, "history", "--ledger", f"{account.exchange_path}/\x1b[2J").stderr)
    assert all(line.isprintable() for text in texts for line in text.splitlines())
    assert all(text for text in texts[:4])


def test_a_planted_id_that_cannot_be_locked_is_shown(account: Account) -> None:
    """As nobody's; the others are shown too."""
    account.open()
    account.rows(
        "INSERT INTO position SELECT 'a' || char(10), 1, 'other', symbol, side, contracts, entry_price,"
        " contract_size, inverse, settle, entry_fee, tracked_at_ms, state, token, held, held_price, venue_id,"
        " trades_since_ms, entry_known, unsettled, later FROM position"
    )
    rows = listed(account.lock_dir, "positions")
    assert [(row["position"], row["lock"], row["holders"]) for row in rows] == [
        ("a\n", None, []),
        ("btc-1", "free", []),
    ]
    assert r"a\n" in run(account.lock_dir, "positions").stdout


def test_a_corrupt_lock_is_shown_as_such(account: Account) -> None:
    """Nobody can say who has it."""
    account.open()
    with PositionLock("btc-1", lock_dir=account.lock_dir) as lock:
        path = Path(lock.path)
    path.write_bytes(b"damage")
    (row,) = listed(account.lock_dir, "positions")
    assert (row["lock"], row["holders"]) == ("corrupt", [])
    assert run(account.lock_dir, "positions").stdout.endswith("? (corrupt)\n")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.10", "0.10"),
        ("1E+3", "1000"),
        ("-1E-18", "-0.000000000000000001"),
        ("0E-8", "0.00000000"),
        ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
        ("1E+999999", "1E+999999"),
        ("NaN", "NaN"),
    ],
)
def test_amounts_are_exact_text(number: str, text: str) -> None:
    """Without an exponent, unless a damaged ledger would make that a page."""
    assert amount(Decimal(number)) == text


@pytest.mark.parametrize("seconds", [9e99, float("inf"), -1e18])
def test_a_time_that_is_none_is_unknown(seconds: float) -> None:
    """No traceback for a row that somebody planted."""
    assert moment(seconds) == "unknown"


def test_what_has_no_form_in_json_is_an_error_of_ours() -> None:
    """Not silently text."""
    with pytest.raises(TypeError, match="complex has no form"):
        as_json(1j)


# Help.


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "positions",
            [
                "[POSITION]...",
                "--open",
                "--ledger",
                "poslock.toml",
                "--json",
                "only read",
                "newest generation",
                "Exit 0; 1",
            ],
        ),
        ("history", ["[POSITION]", "--ledger", "--json", "oldest first", "UTC", "Exit 0; 1"]),
        (
            "close",
            [
                "POSITION",
                "--exchange",
                "POSLOCK_EXCHANGE",
                "--ledger",
                "--timeout",
                "--reason",
                "--json",
                "--whole",
                "--yes",
                "3 if",
            ],
        ),
        (
            "settle",
            ["POSITION", "--exchange", "--ledger", "--reason", "--exit-price", "--yes", "--json", "Exit 0", "1 if"],
        ),
        ("forget", ["POSITION", "--exchange", "--ledger", "--reason", "--yes", "--json", "Exit 0", "1 if"]),
        (
            "recover",
            [
                "--exchange",
                "POSLOCK_EXCHANGE",
                "poslock.toml",
                "--ledger",
                "--json",
                "by themselves",
                "Exit 0",
                "else 1",
            ],
        ),
    ],
)
def test_help_says_what_to_give_and_what_comes_back(command: str, words: list[str]) -> None:
    """Options, the variable and the exit codes; the list of commands has a sentence for each."""
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert [word for word in words if word not in text] == []
    assert re.search(rf"^  {command} +\S+ \S+", CliRunner().invoke(main, ["--help"]).stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_ledger_that_is_gone_is_no_empty_one(account: Account, command: str) -> None:
    """Nobody is told that there are no positions, or that nothing had to be done."""
    account.open()
    os.unlink(f"{account.lock_dir}/ledger.db")
    words = WORDS.get(command, [])
    result = on(account, command, *words) if command in OF_THE_EXCHANGE else run(account.lock_dir, command, *words)
    assert result.exit_code == 1
    assert "it was here, and is gone; put it back" in result.stderr
