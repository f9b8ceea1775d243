"""What ``poslock close``, ``settle``, ``forget`` and ``clear --force`` show and ask on a terminal, and without one."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from intents import lock_for
from poslock import PaperExchange, PositionLock
from poslock.errors import ExchangeUnavailable, RateLimited
from poslock.exchange.port import Leg
from poslock_cli import asking, close, settle
from poslock_cli.asking import Declined, ask, look
from poslock_cli.main import main
from processes import PATIENCE
from systems import elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Account, Children

LEG = Leg("BTC/USDT:USDT", "long")


class Desk:
    """A command on a terminal of its own; what it says on standard error is kept apart."""

    def __init__(self, account: Account, *arguments: str) -> None:
        self._descriptor, terminal = pty.openpty()
        command = [sys.executable, "-m", "poslock_cli", "--lock-dir", account.lock_dir, *arguments]
        environment = {**os.environ, "POSLOCK_EXCHANGE": f"paper:{account.exchange_path}"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, text=True
        )
        os.close(terminal)
        self.printed = ""

    def see(self, text: str) -> None:
        """Wait until it has printed this."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.printed:
            assert self._read(max(0, deadline - time.monotonic())), f"not seen: {text!r} in {self.printed!r}"

    def answer(self, keys: str) -> tuple[int, str]:
        """Type *keys*, wait for the end; the exit code and standard error."""
        os.write(self._descriptor, keys.encode())
        _, said = self.process.communicate(timeout=PATIENCE)
        while self._read(0):
            pass
        return self.process.returncode, said

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        os.close(self._descriptor)

    def _read(self, seconds: float) -> bool:
        """Whether it has printed more; at the end there is no terminal to read from."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return False
        try:
            chunk = os.read(self._descriptor, 65536)
        except OSError:
            return False
        self.printed += chunk.decode().replace("\r\n", "\n")
        return bool(chunk)


@pytest.fixture
def desk(account: Account) -> Iterator[Callable[..., Desk]]:
    started: list[Desk] = []

    def start(*arguments: str) -> Desk:
        started.append(Desk(account, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """For commands in this process: somebody can be asked, and answers on standard input."""
    for module in (asking, close):
        monkeypatch.setattr(module, "is_terminal", lambda: True)


def on(account: Account, command: str, *arguments: str, **options: Any) -> Result:
    exchange = ["--exchange", f"paper:{account.exchange_path}"]
    result = CliRunner().invoke(main, ["--lock-dir", account.lock_dir, command, *exchange, *arguments], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def history(account: Account) -> list[tuple[Any, ...]]:
    return account.rows("SELECT event, detail FROM audit ORDER BY number")


# On a terminal.


def test_a_close_shows_what_it_will_do_and_a_no_ends_it(account: Account, desk: Callable[..., Desk]) -> None:
    """Contracts, side, market, orders, the P&L so far as an estimate; exit 1, and nothing was sent or written."""
    account.open()
    before = history(account)
    operator = desk("close", "btc-1")
    operator.see("Close it? [y/N]: ")
    code, said = operator.answer("n\n")
    assert (code, said) == (1, "Error: declined, nothing was done\n")
    assert operator.printed.splitlines()[:-1] == [
        f"btc-1 on {account.exchange.account}: long 10 contracts of BTC/USDT:USDT from 60000, open",
        "  at the venue: 10 contracts are held from 60000",
        "  P&L so far: about -10000 USDT at 59000, an estimate without fees",
        "  rests: stop_loss of 10 contracts at 57000",
        "  rests: take_profit of 10 contracts at 66000",
        "  close: sends a market order for 10 contracts at most, cancels what rests, and books the P&L",
    ]
    assert account.exchange.held(LEG) == 10
    assert len(account.exchange.open_orders(LEG)) == 2
    assert history(account) == before


def test_a_yes_closes(account: Account, desk: Callable[..., Desk]) -> None:
    """Exit 0, and the line of the close comes after the question."""
    position = account.open()
    operator = desk("close", "btc-1")
    operator.see("Close it? [y/N]: ")
    code, said = operator.answer("y\n")
    assert (code, said) == (0, "")
    assert "btc-1: closed 10 contracts at 59000" in operator.printed
    account.assert_closed_once(position)


def test_end_of_input_is_no_answer(account: Account, desk: Callable[..., Desk]) -> None:
    """Ctrl-D on the terminal: exit 1, nothing was done."""
    account.open()
    operator = desk("close", "btc-1")
    operator.see("Close it? [y/N]: ")
    assert operator.answer("\x04") == (1, "Error: nobody answered, nothing was done; --yes does not ask\n")
    assert account.exchange.held(LEG) == 10


def test_yes_and_what_cannot_be_closed_are_not_asked_about(account: Account, desk: Callable[..., Desk]) -> None:
    """With --yes the close goes ahead on a terminal, too; of one that is closed or unknown there is nothing to ask."""
    account.open()
    first = desk("close", "btc-1", "--yes")
    first.see("closed 10 contracts")
    assert (first.answer("")[0], "?" in first.printed) == (0, False)
    for name, why in (("btc-1", "is already closed"), ("nobody", "is not in the ledger")):
        code, said = desk("close", name).answer("")
        assert (code, why in said) == (1, True)


def test_settle_and_forget_ask_on_a_terminal(account: Account, desk: Callable[..., Desk]) -> None:
    """They say what they do about orders and P&L; a no leaves the position open, a yes does it."""
    account.open()
    operator = desk("settle", "btc-1", "--reason", "a test", "--exit-price", "59000")
    operator.see("Settle it? [y/N]: ")
    assert operator.answer("n\n") == (1, "Error: declined, nothing was done\n")
    will_do = "sends no order, books what the trades prove, books the rest at 59000"
    assert f"  settle: {will_do}, cancels only the orders that poslock placed for it\n" in operator.printed
    assert account.guard.position("btc-1").state == "open"
    operator = desk("forget", "btc-1", "--reason", "a test")
    operator.see("Forget it? [y/N]: ")
    assert operator.answer("y\n") == (0, "")
    assert "  forget: sends and cancels nothing; " in operator.printed
    assert account.guard.position("btc-1").state == "forgotten"
    assert account.exchange.held(LEG) == 10
    assert len(account.exchange.open_orders(LEG)) == 2


def test_clear_with_force_shows_who_holds_what(account: Account, desk: Callable[..., Desk]) -> None:
    """The holder, since when, and the position; a no leaves the lock as it is."""
    account.open()
    with PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir), purpose="trailing stop") as lock:
        operator = desk("clear", "btc-1", "--force")
        operator.see("Clear all the same? [y/N]: ")
        assert operator.answer("n\n") == (1, "Error: declined, nothing was done\n")
        first, second, *_ = operator.printed.splitlines()
        held = rf"btc-1: held, PID {os.getpid()} on \S+ \(trailing stop\), since 20\S+ \(\S+s\); its check\(\) fails .*"
        assert re.fullmatch(held, first)
        assert second == "  long 10 contracts of BTC/USDT:USDT, open"
        lock.check()


# What is shown.


@pytest.mark.usefixtures("on_terminal")
def test_what_the_venue_does_not_answer_is_said_and_the_question_is_asked(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question that is turned away hides no other; a venue that is not there is said once."""
    account.open()

    class Busy(PaperExchange):
        def price(self, leg: Leg) -> Any:
            raise RateLimited("too many\x1b[2J", code="510")

    class Gone(PaperExchange):
        def prepare(self) -> None:
            raise ExchangeUnavailable("it is not there")

    monkeypatch.setattr("poslock_cli.account.PaperExchange", Busy)
    result = on(account, "close", "btc-1", input="n\n")
    assert r"  not seen: the price (too many\x1b[2J" in result.stdout
    assert ("10 contracts are held" in result.stdout, "P&L so far" in result.stdout) == (True, False)
    assert "Close it? [y/N]:" in result.stdout
    monkeypatch.setattr("poslock_cli.account.PaperExchange", Gone)
    result = on(account, "close", "btc-1", input="n\n")
    assert "  not seen: what is held, the price, what rests (it is not there)\n" in result.stdout
    assert "a market order for 10 contracts at most" in result.stdout
    assert "Close it? [y/N]:" in result.stdout
    assert result.exit_code == 1
    assert account.exchange.held(LEG) == 10


@pytest.mark.usefixtures("on_terminal")
def test_what_is_not_of_the_position_is_shown(account: Account) -> None:
    """More is held than was tracked: it stays, or --whole closes it; with nothing held nothing is to be sent."""
    account.open()
    account.exchange.open_position("BTC/USDT:USDT", "long", 3)
    shown = on(account, "close", "btc-1", input="n\n").stdout
    assert "for 10 contracts at most, and books the P&L; 3 contracts are not of it and stay, with their orders" in shown
    assert (
        "a market order for all 13 contracts, cancels" in on(account, "close", "btc-1", "--whole", input="n\n").stdout
    )
    account.exchange.set_price("BTC/USDT:USDT", 57_000)
    account.exchange.open_position("BTC/USDT:USDT", "short", 3)
    shown = on(account, "close", "btc-1", input="n\n").stdout
    assert "  at the venue: nothing is held\n" in shown
    assert "  close: sends nothing if the trades show how it ended;" in shown
    assert "P&L so far" not in shown


def test_a_reduced_short_is_estimated_with_what_is_left(account: Account) -> None:
    """The estimate counts contracts that are still there, with the sign of the side."""
    account.open("eth-1", symbol="ETH/USDT:USDT", side="short", contracts=4)
    account.guard.modify_position("eth-1", reduce_by=1)
    lines = look(account.exchange, account.guard.position("eth-1")).lines()
    assert lines[0].endswith("short 4 contracts of ETH/USDT:USDT from 60000, 3 left, open")
    assert "  P&L so far: about 3000 USDT at 59000, an estimate without fees" in lines


# Without a terminal.


def test_close_goes_ahead_without_a_terminal(account: Account) -> None:
    """As scripts and cron know it: nothing is shown, nothing is asked."""
    account.open()
    result = on(account, "close", "btc-1", input="n\n")
    assert (result.exit_code, result.stdout.splitlines()[0].startswith("btc-1: closed 10")) == (0, True)


@pytest.mark.parametrize("command", ["settle", "forget"])
def test_the_operators_word_needs_a_terminal_or_yes(account: Account, command: str) -> None:
    """Whatever is in the pipe: exit 1, --yes is named, and nothing was done."""
    account.open()
    result = on(account, command, "btc-1", "--reason", "a test", input="y\n")
    why = f"Error: {command} asks before it acts, and this is no terminal; --yes does not ask\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", why)
    assert account.guard.position("btc-1").state == "open"


def test_clear_with_force_says_yes_where_nobody_answers(account: Account) -> None:
    """An empty standard input is no answer: exit 1, and the lock is held."""
    with PositionLock("btc-1", lock_dir=elsewhere(account.lock_dir)) as lock:
        result = CliRunner().invoke(main, ["--lock-dir", account.lock_dir, "clear", "btc-1", "--force"], input="")
        assert result.exit_code == 1
        assert result.stderr == "Error: nobody answered, nothing was done; --yes does not ask\n"
        lock.check()


@pytest.mark.parametrize(("answer", "why"), [(b"\xff\xfe\n", "declined"), (None, "nobody answered")])
def test_an_answer_that_is_none_is_a_no(account: Account, answer: bytes | None, why: str) -> None:
    """Bytes that are no text, or a standard input that the caller has closed: exit 1 in one line, no traceback."""
    command = f"{sys.executable} -m poslock_cli --lock-dir {account.lock_dir}"
    for words in ("clear btc-1 --force", "settle btc-1 --reason test", "close btc-1"):
        where = f" --exchange paper:{account.exchange_path}" if "clear" not in words else ""
        line = f"{command} {words}{where}{' <&-' if answer is None else ''}"
        done = subprocess.run(["/bin/sh", "-c", line], input=answer, capture_output=True, timeout=PATIENCE, check=False)
        said = done.stderr.decode()
        assert (done.returncode, len(said.splitlines())) == (1, 1), said
        if "clear" in words:
            assert said.startswith(f"Error: {why}, nothing was done")


def test_what_is_shown_is_escaped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Symbols and reasons come from elsewhere."""
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    with pytest.raises(Declined):
        ask(["a\x1b[2J"], "Do it?")
    assert capsys.readouterr().out == "a\\x1b[2J\nDo it? [y/N]: "


# Whom a close waits for.


def test_close_says_at_once_whom_it_waits_for(account: Account, start: Children) -> None:
    """Within a second, on standard error: PID, host, purpose, since when; and it goes on waiting."""
    account.open()
    bot = start("hold", lock_dir=account.lock_dir, position="btc-1", stale_after=3600, intent="close")
    bot.hear()
    bot.ask("go")
    command = [sys.executable, "-m", "poslock_cli", "--lock-dir", account.lock_dir, "close", "btc-1"]
    environment = {**os.environ, "POSLOCK_EXCHANGE": f"paper:{account.exchange_path}"}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as waiter:
        assert waiter.stderr is not None
        assert select.select([waiter.stderr], [], [], PATIENCE)[0]
        line = waiter.stderr.readline()
        host = re.escape(os.uname().nodename)
        since = r"since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 \(\S+s\)"
        assert re.fullmatch(rf"waiting for PID {bot.pid} on {host} \(held by a test\), {since}\n", line)
        assert waiter.poll() is None
        bot.kill()
        printed, said = waiter.communicate(timeout=PATIENCE)
    assert (waiter.returncode, said) == (0, "")
    assert printed.startswith("btc-1: closed 10 contracts")


def test_who_is_not_waited_for_is_not_named(account: Account) -> None:
    """A closer with --timeout 0, a holder that fell silent, a lock that is free, an id that there cannot be."""
    account.open()
    with lock_for("close", "btc-1", lock_dir=elsewhere(account.lock_dir)):
        assert "waiting" not in on(account, "close", "btc-1", "--timeout", "0").stderr
    PositionLock("btc-1", lock_dir=account.lock_dir, stale_after=1e-9).acquire()
    assert on(account, "close", "btc-1").stderr == ""
    result = on(account, "settle", "bad\nid", "--yes", "--reason", "a test")
    assert (result.exit_code, "invalid position id" in result.stderr) == (1, True)


def test_settle_waits_with_a_line_too(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same lock."""
    account.open()
    monkeypatch.setattr(settle, "_TIMEOUT", 0.1)
    with lock_for("close", "btc-1", lock_dir=elsewhere(account.lock_dir), purpose="close: news"):
        result = on(account, "settle", "btc-1", "--yes", "--reason", "a test")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"waiting for PID {os.getpid()} on ")
    assert second.startswith("Error: position 'btc-1' is already closing (last holder: PID ")
    assert result.exit_code == 1
