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
from poslock.lock.files.directory import ALLOW_NETWORK
from poslock_cli.configuration import load
from poslock_cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


WITHOUT_KEYS = [number for number, example in enumerate(EXAMPLES) if "apiKey" not in example]
PRINTED = {0: "-10295.0000\n", 1: "-9.0000\n"}


def run(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "POSLOCK_DIR": str(folder / "locks")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", WITHOUT_KEYS)
def test_an_example_runs_as_it_is_in_an_empty_folder(tmp_path: Path, number: int) -> None:
    """As a reader tries it: pasted into a file, with no preparation and no settings; then once more, after itself."""
    folder, home, script = tmp_path / "empty", tmp_path / "home", tmp_path / "example.py"
    folder.mkdir()
    home.mkdir()
    script.write_text(EXAMPLES[number], "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSLOCK_", "XDG_"))}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            env={**environment, "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, PRINTED.get(number, ""), "")


def test_every_example_without_keys_is_tried() -> None:
    """All but the two that need an account at a venue."""
    assert WITHOUT_KEYS == [0, 1, 2, 5, 6]


def test_a_second_bot_is_told_that_the_position_of_the_first_example_is_closed(tmp_path: Path) -> None:
    """It has the bot's lines of the example, without those that open and track the position."""
    opening = ("exchange.set_price", "exchange.open_position", "guard.track")
    second = "\n".join(line for line in EXAMPLES[0].splitlines() if not line.startswith(opening))
    assert run(EXAMPLES[0], tmp_path) == PRINTED[0]
    assert run(second, tmp_path) == "closed by another bot\n"


def test_the_awaited_example_leaves_the_account_flat(tmp_path: Path) -> None:
    """With no order at rest."""
    run(EXAMPLES[2], tmp_path)
    exchange, leg = PaperExchange(tmp_path / "exchange.db"), Leg("SOL/USDT:USDT", "short")
    assert exchange.open_orders(leg) == []
    assert exchange.holding(leg) is None


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
        assert run(f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n{code}", tmp_path) == "-600.0\n"
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


def test_the_lock_example_tells_who_holds(tmp_path: Path) -> None:
    """Held by another process, it prints the holder."""
    with PositionLock("btc-swing-1", lock_dir=tmp_path / "locks", purpose="test"):
        code = EXAMPLES[5].replace("timeout=5", "timeout=0")
        assert run(code, tmp_path).endswith("(test)\n")


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
    """Of bot code: the import, the blank lines and those that set up the paper account aside."""
    assert len(EXAMPLES) == 7
    lines = [line for line in EXAMPLES[0].splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("from ", "exchange"))]) <= 8


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
