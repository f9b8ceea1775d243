"""``poslock close``, ``recover`` and ``doctor`` on a venue that poslock.toml describes, through the real ccxt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from loopback.mexc import Mexc, client_at
from loopback.server import KEYS, Fault, Reply, Request
from poslock import CcxtExchange, Position, PositionGuard
from poslock.exchange.port import Leg
from poslock_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

LEG = Leg("BTC/USDT:USDT", "long")


class Desk:
    """An operator's configuration for a venue that holds one position, with an exit order on either side of it."""

    def __init__(self, venue: Mexc, folder: Path, vault: Path) -> None:
        self.venue = venue
        self.lock_dir = folder / "locks"
        self.keys = vault / "keys.toml"
        self.keys.touch(mode=0o600)
        self.keys.write_text(f'api_key = "{KEYS["apiKey"]}"\nsecret = "{KEYS["secret"]}"\n')
        self.config = folder / "poslock.toml"
        self.config.write_text(
            'venue = "mexc"\naccount = "main"\nlock_dir = "locks"\nledger = "books.db"\n'
            f'keys_file = "{self.keys}"\n'
            f'[urls.contract]\npublic = "{venue.url}/api/v1/contract"\nprivate = "{venue.url}/api/v1/private"\n'
            f'[urls.spot]\npublic = "{venue.url}"\nprivate = "{venue.url}"\n'
        )
        venue.book.set_price(LEG.symbol, 60_000)
        venue.book.open_position(LEG.symbol, LEG.side, 10)
        venue.book.protect(LEG.symbol, LEG.side, "stop_loss", 10, 57_000)
        venue.book.protect(LEG.symbol, LEG.side, "take_profit", 10, 66_000)
        exchange = CcxtExchange(client_at(venue.url), account="main")
        self.guard = PositionGuard(exchange, lock_dir=self.lock_dir, ledger=folder / "books.db")
        self.guard.track(Position("btc-1", LEG.symbol, LEG.side, 10, 60_000))
        venue.book.set_price(LEG.symbol, 59_000)

    def __call__(self, *arguments: str) -> Result:
        result = CliRunner().invoke(main, ["--config", str(self.config), *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert [key for key in KEYS.values() if key in result.output] == []
        return result

    def assert_closed_once(self) -> None:
        """One order, all of it filled, nothing rests, one booking."""
        book = self.venue.book
        assert book.held(LEG) == 0
        assert book.open_orders(LEG) == []
        assert [order.filled for order in book.orders(LEG) if order.family == "order"] == [10]
        events = json.loads(self("history", "--json").stdout)
        assert [event["event"] for event in events].count("booked") == 1


@pytest.fixture(params=[False, True], ids=["one-way", "hedge"])
def venue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mexc]:
    with Mexc(tmp_path / "venue.db", hedge=request.param) as running:
        yield running


@pytest.fixture
def desk(
    venue: Mexc, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    for variable in (
        "POSLOCK_DIR",
        "POSLOCK_EXCHANGE",
        "POSLOCK_API_KEY",
        "POSLOCK_API_SECRET",
        "POSLOCK_API_PASSWORD",
    ):
        monkeypatch.delenv(variable, raising=False)
    return Desk(venue, tmp_path, tmp_path_factory.mktemp("vault"))


def test_the_operator_closes_at_the_configured_venue(desk: Desk) -> None:
    """Exit 0 and the P&L of the venue's fills; a second one is told so, and sends nothing."""
    result = desk("close", "btc-1", "--reason", "news")
    assert (result.exit_code, result.stderr) == (0, "")
    (fill,) = desk.venue.book.fills(LEG, 0)
    assert fill.fee == 295
    line = "btc-1: closed 10 contracts at 59000, net P&L -10295 (gross -10000, fees 295, funding 0)"
    assert result.stdout == f"{line}; ended by close, nothing is left at the venue\n"
    desk.assert_closed_once()
    sent = len([request for request in desk.venue.requests if request.method == "POST"])
    again = desk("close", "btc-1")
    assert (again.exit_code, "is already closed (booked by PID" in again.stderr) == (1, True)
    assert len([request for request in desk.venue.requests if request.method == "POST"]) == sent


def test_of_several_operators_one_closes(desk: Desk) -> None:
    """As processes, at once, with keys from the file; no key is in what they were started with."""
    command = [sys.executable, "-m", "poslock_cli", "--config", str(desk.config), "close", "btc-1"]
    operators = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [(*operator.communicate(timeout=90), operator.returncode) for operator in operators]
    assert sorted(code for _, _, code in told) == [0, 1, 1], told
    desk.assert_closed_once()


def test_keys_from_the_environment_are_not_handed_on_the_command_line(desk: Desk) -> None:
    """Nobody sees them in the list of processes; the keys file is not even there."""
    desk.keys.unlink()
    secrets = {"POSLOCK_API_KEY": KEYS["apiKey"], "POSLOCK_API_SECRET": KEYS["secret"]}
    command = [sys.executable, "-m", "poslock_cli", "--config", str(desk.config), "close", "btc-1"]
    desk.venue.strike(Fault("ping", 2.0))
    with subprocess.Popen(command, env={**os.environ, **secrets}, stdout=subprocess.PIPE) as operator:
        seen = set()
        while operator.poll() is None:
            seen.add(Path(f"/proc/{operator.pid}/cmdline").read_bytes())
        assert operator.returncode == 0
    assert any(b"poslock_cli" in line for line in seen)
    assert not any(key.encode() in line for key in KEYS.values() for line in seen)


def test_recover_finishes_what_a_killed_operator_began(desk: Desk) -> None:
    """He died after his order had left and before it was answered: `recover` finds it by its id and books it."""
    command = [sys.executable, "-m", "poslock_cli", "--config", str(desk.config), "close", "btc-1"]
    started: list[subprocess.Popen[bytes]] = []

    def kill(request: Request) -> None:
        started[0].kill()
        started[0].wait(60)

    desk.venue.strike(Fault("order/create", kill))
    started.append(subprocess.Popen(command))
    assert started[0].wait(60) == -signal.SIGKILL
    result = desk("recover")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("btc-1: closed 10 contracts at 59000")
    desk.assert_closed_once()
    assert [request.path for request in desk.venue.requests].count("/api/v1/private/order/create") == 1
    nothing = f"nothing to recover on mexc swap main in {desk.config.parent}/books.db\n"
    assert desk("recover").stdout == nothing


@pytest.mark.parametrize("command", ["close btc-1", "recover"])
def test_keys_that_the_venue_refuses_are_an_error(desk: Desk, command: str) -> None:
    """Exit 1 with the venue's words, or the close that nobody began stays so; without the key."""
    with desk.guard.closing("btc-1"):
        pass  # left unfinished, for recover to look at
    desk.keys.write_text(f'api_key = "{KEYS["apiKey"]}-not"\nsecret = "{KEYS["secret"]}"\n')
    result = desk(*command.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert "mexc answered" in result.stderr
    assert desk.venue.book.held(LEG) == 10


def findings(desk: Desk) -> tuple[int, dict[str, dict[str, Any]]]:
    desk.lock_dir.mkdir(exist_ok=True)
    result = desk("doctor", "--json")
    return result.exit_code, {each["check"]: each for each in json.loads(result.stdout)}


def test_doctor_asks_the_venue(desk: Desk) -> None:
    """The keys, the clock, the mode, and what the key may do; nothing is changed there."""
    desk.venue.requests.clear()
    code, found = findings(desk)
    assert (code, {found[name]["verdict"] for name in ("venue", "keys file", "mode")}) == (0, {"ok"})
    assert found["venue"]["reason"] == "mexc swap main: the keys are good"
    assert found["keys file"]["reason"] == f"{desk.keys}: mode 0600"
    assert found["mode"]["reason"].startswith("hedge" if desk.venue.hedge else "one-way")
    assert (found["trading"]["verdict"], found["withdrawal"]["verdict"]) == ("ok", "ok")
    assert {request.method for request in desk.venue.requests} == {"GET"}


def test_doctor_warns_of_a_key_that_may_withdraw(desk: Desk) -> None:
    """And refuses one that may not trade."""
    desk.venue.rights = ["CONTRACT_DEAL_READ", "SPOT_WITHDRAW_WRITE"]
    code, found = findings(desk)
    assert (code, found["trading"]["verdict"], found["withdrawal"]["verdict"]) == (1, "REFUSED", "warning")


def test_doctor_passes_on_what_the_venue_says(desk: Desk) -> None:
    """Keys that it refuses, and maintenance."""
    desk.keys.write_text(f'api_key = "{KEYS["apiKey"]}"\nsecret = "{KEYS["secret"]}-not"\n')
    code, found = findings(desk)
    assert (code, found["keys"]["verdict"], "mexc answered" in found["keys"]["reason"]) == (1, "REFUSED", True)
    assert "trading" not in found
    busy = Reply(200, {"success": False, "code": 801, "message": "system maintenance"})
    desk.keys.write_text(f'api_key = "{KEYS["apiKey"]}"\nsecret = "{KEYS["secret"]}"\n')
    desk.venue.strike(Fault("position_mode", busy))
    code, found = findings(desk)
    assert (code, found["venue"]["verdict"], "801" in found["venue"]["reason"]) == (1, "REFUSED", True)


def test_doctor_finds_a_clock_that_is_wrong(desk: Desk) -> None:
    """By how much; the venue takes our requests all the same, for they are signed by its clock."""
    desk.venue.offset_ms = -20_000
    code, found = findings(desk)
    assert (code, found["venue clock"]["verdict"]) == (0, "warning")
    ahead_ms = int(found["venue clock"]["reason"].split()[0])
    assert 19_000 < ahead_ms < 80_000  # the answer was on its way meanwhile
    assert found["venue clock"]["reason"].endswith("ms ahead of the venue's")


def test_a_venue_that_is_not_there_is_an_error(desk: Desk, venue: Mexc) -> None:
    """Of `close` and of `doctor`, in one line; `settle` does without it, and the history says what was not seen."""
    desk.config.write_text(desk.config.read_text().replace(venue.url, "http://127.0.0.1:9"))
    result = desk("close", "btc-1", "--timeout", "0")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert desk("forget", "btc-1", "--reason", "a test", "--json").exit_code == 1  # there is no terminal to ask on
    settled = desk("settle", "btc-1", "--reason", "it is gone", "--exit-price", "59000", "--yes")
    assert (settled.exit_code, settled.stderr) == (0, "")
    assert "it is not known whether something is left at the venue, 10 contracts are booked at" in settled.stdout
    assert "the venue did not answer" in desk("history", "btc-1").stdout
    code, found = findings(desk)
    assert (code, found["venue"]["verdict"]) == (1, "REFUSED")
    assert "no answer that can be read" in found["venue"]["reason"]
