"""The README says what is so: its examples run, its commands exist, its output is the output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

import poslock
from loopback.mexc import Mexc
from poslock import PaperExchange, PositionLock
from poslock.database import _BUSY_SECONDS
from poslock.exchange.port import Leg
from poslock.lock.directory import ALLOW_NETWORK
from poslock_cli.configuration import load
from poslock_cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "POSLOCK_DIR": str(folder / "locks")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_example_closes_and_then_is_told_so(tmp_path: Path) -> None:
    """Two bots run it one after the other on a position that is there: one P&L, one answer."""
    exchange = PaperExchange(tmp_path / "exchange.db")
    exchange.set_price("BTC/USDT:USDT", 59_000)
    exchange.open_position("BTC/USDT:USDT", "long", 10)
    # The second bot finds it tracked already.
    second = "\n".join(line for line in EXAMPLES[0].splitlines() if not line.startswith("guard.track"))
    assert run(EXAMPLES[0], tmp_path) == "-10295.0000\n"
    assert run(second, tmp_path) == "closed by another bot\n"


def test_the_example_with_order_code_of_its_own_books_its_fills(tmp_path: Path) -> None:
    """The bot's function is the only thing that the README leaves out."""
    exchange = PaperExchange(tmp_path / "exchange.db")
    exchange.set_price("ETH/USDT:USDT", 3000)
    exchange.open_position("ETH/USDT:USDT", "long", 3)
    order_code = """
from poslock.exchange.port import CloseOrder, Leg

def send_my_order(position, client_order_id, signed_at_ms, receive_window_ms):
    exchange, leg = PaperExchange("exchange.db"), Leg(position.symbol, position.side)
    exchange.place(CloseOrder(leg, position.contracts, client_order_id, signed_at_ms, receive_window_ms))
    return exchange.fills(leg, 0)
"""
    assert run(EXAMPLES[1].replace("\n\n", f"\n{order_code}\n", 1), tmp_path) == "-4.5000\n"


def test_the_awaited_guard_example_runs(tmp_path: Path) -> None:
    """On an account that holds its position."""
    exchange = PaperExchange(tmp_path / "exchange.db")
    exchange.set_price("SOL/USDT:USDT", 150)
    exchange.open_position("SOL/USDT:USDT", "short", 20)
    assert run(EXAMPLES[2], tmp_path) == ""
    assert exchange.held(Leg("SOL/USDT:USDT", "short")) == 0


@pytest.mark.parametrize(("number", "symbol", "side"), [(3, "BTC/USDT:USDT", "long"), (4, "ETH/USDT:USDT", "short")])
def test_the_examples_with_a_real_client_close_a_position(
    tmp_path: Path, number: int, symbol: str, side: Literal["long", "short"]
) -> None:
    """On a MEXC on this machine; all that is put in between is its address and its keys."""
    with Mexc(tmp_path / "exchange.db") as venue:
        venue.book.set_price(symbol, 60_000)
        venue.book.open_position(symbol, side, 10)
        there = f"__import__('loopback.mexc').mexc.client_at({venue.url!r}, asynchronous={number == 4})"
        code, clients = re.subn(r"ccxt\.mexc\(.*?\}\)", there, EXAMPLES[number])
        assert clients == 1
        assert run(f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n{code}", tmp_path) == "-300.0\n"
        assert venue.book.held(Leg(symbol, side)) == 0
        assert venue.book.open_orders(Leg(symbol, side)) == []


def test_the_example_with_a_real_client_is_fifteen_lines() -> None:
    """Blank lines aside."""
    assert all(len([line for line in EXAMPLES[number].splitlines() if line.strip()]) <= 15 for number in (3, 4))


def test_the_configuration_in_the_readme_is_one(tmp_path: Path) -> None:
    """Every key is known, and has a value that may be."""
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "poslock.toml"
    path.write_text(example)
    path.chmod(0o600)
    found = load(str(path)).venue
    assert found is not None
    assert (found.venue, found.account) == ("mexc", "main")


def test_the_lock_example_holds_and_tells_who_holds(tmp_path: Path) -> None:
    """Free, it passes silently; held, it prints the holder."""
    assert run(EXAMPLES[5], tmp_path) == ""
    with PositionLock("btc-swing-1", lock_dir=tmp_path / "locks", purpose="test"):
        code = EXAMPLES[5].replace("timeout=5", "timeout=0")
        assert run(code, tmp_path).endswith("(test)\n")


def test_the_async_example_runs(tmp_path: Path) -> None:
    """Shared, and through the manager."""
    assert run(EXAMPLES[6], tmp_path) == ""


def test_the_shell_example_runs_under_the_lock(tmp_path: Path) -> None:
    """It starts itself again under `poslock run`; somebody who comes meanwhile is told who has it, and exits 75."""
    (shell,) = re.findall(r"```sh\n(#!.*?)```", README, re.DOTALL)
    script = tmp_path / "close-all.sh"
    script.write_text(shell)
    script.chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "POSLOCK_DIR": str(tmp_path / "locks")}

    def start() -> subprocess.CompletedProcess[str]:
        command = [str(script), "btc-swing-1"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert re.fullmatch(r"holding btc-swing-1 with fencing token \d+\n", start().stdout)
    with PositionLock("btc-swing-1", lock_dir=tmp_path / "locks"):
        refused = start()
    assert (refused.returncode, f"PID {os.getpid()}" in refused.stderr) == (75, True)


def test_every_option_in_the_readme_is_an_option() -> None:
    """Of the command in whose row it stands."""
    for command, options in re.findall(r"^\| `poslock (\w+)([^`]*)`", README, re.MULTILINE):
        help_text = CliRunner().invoke(main, [command, "--help"]).stdout
        for option in re.findall(r"--[a-z-]+", options):
            assert option in help_text, (command, option)


def test_the_example_is_eight_lines() -> None:
    """Of bot code, blank line and import aside."""
    assert len(EXAMPLES) == 7
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 8


def test_status_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The same four states by the same command, with other PIDs, ages, tokens and paths."""
    folder = tmp_path / "locks"
    with PositionLock("ada-hedge", lock_dir=folder):
        pass
    code = "import sys; from poslock import PositionLock as L; L(sys.argv[1], purpose='close: take-profit').acquire()"
    run(code.replace("sys.argv[1]", "'eth-grid-7'"), tmp_path)
    with PositionLock("sol-1", lock_dir=folder) as lock:
        damaged = Path(lock.path)
    damaged.write_bytes(b"damage")
    with PositionLock("btc-swing-1", lock_dir=folder, purpose="close: stop-loss"):
        printed = CliRunner().invoke(main, ["--lock-dir", str(folder), "status"]).stdout
    (shown,) = re.findall(r"\$ poslock status\n(.*?)```", README, re.DOTALL)
    assert sorted(masked(printed)) == sorted(masked(shown))


def masked(text: str) -> list[list[str]]:
    """Words of each line, with what differs from run to run replaced."""
    text = re.sub(r"\S*/(\S+)-[0-9a-f]{16}\.lock", r"\1", text)
    text = re.sub(r"\b\d{10,}\b", "TOKEN", text)
    text = re.sub(r"\b\d\.\d+s\b", "AGE", text)
    return [re.sub(r"\b\d{2,}\b(?!\.)", "PID", line).split() for line in text.splitlines()]


def test_every_name_in_the_readme_is_public() -> None:
    """Names in code type that look like ours are ours."""
    for name in set(re.findall(r"`(?:poslock\.)?([A-Z][A-Za-z]+)`", README)):
        assert name in {"Decimal", "FileLock", "None", "SoftFileLease"} or hasattr(poslock, name), name
    for method in set(re.findall(r"`([a-z_]+)\(", README)):
        assert any(hasattr(kind, method) for kind in (poslock.PositionGuard, PositionLock)), method


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`poslock (\w+)", README))))
def test_every_command_in_the_readme_exists(command: str) -> None:
    """With its help."""
    assert CliRunner().invoke(main, [*command.split()[:1], "--help"]).exit_code == 0


def test_both_scripts_are_executable() -> None:
    """As the README calls them."""
    for script in re.findall(r"^(scripts/\w+) ", README, re.MULTILINE):
        assert (ROOT / script).stat().st_mode & 0o111


def test_the_defaults_in_the_readme_are_the_defaults() -> None:
    """35 and 30 seconds, and the bound of a busy ledger."""
    guard, lock = (signature(kind).parameters for kind in (poslock.PositionGuard, PositionLock))
    assert f"({guard['timeout'].default:g} by default)" in README
    assert f"{guard['stale_after'].default:g} s by default" in README
    assert lock["stale_after"].default == guard["stale_after"].default
    assert f"after {_BUSY_SECONDS:g} s" in README
    assert f"`{ALLOW_NETWORK}=1`" in README


def test_every_test_named_in_the_docs_and_comments_exists() -> None:
    """A race comment that names a test which is gone would be worse than none."""
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    sources = [CHANGELOG, *(path.read_text("utf-8") for path in (ROOT / "poslock").rglob("*.py"))]
    sources += [path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")]
    named = {name for text in sources for name in re.findall(r"\btest_[a-z0-9_]+\b(?!\.py)", text)}
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
    files = {name for text in sources for name in re.findall(r"\b(test_[a-z0-9_]+\.py)", text)}
    assert {name for name in files if not (ROOT / "tests" / name).exists()} == set()
