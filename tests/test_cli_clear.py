"""``poslock clear`` of many locks at once; of named ones see test_cli.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from poslock import LockLost, PositionLock
from poslock.lock.files.directory import open_directory
from poslock.lock.status import lock_statuses
from poslock_cli import clear as clear_module
from poslock_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Children
    from processes import Child


def clear(lock_dir: str, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["--lock-dir", lock_dir, "clear", *arguments], **options)


def states(lock_dir: str) -> dict[str | None, str]:
    return {lock.position: lock.state for lock in lock_statuses(open_directory(lock_dir))}


def holder(start: Children, lock_dir: str, position: str) -> Child:
    child = start("hold", lock_dir=lock_dir, position=position, stale_after=3600)
    child.hear()
    child.ask("go")
    return child


@pytest.fixture
def held(lock_dir: str) -> Iterator[PositionLock]:
    """A directory with a free lock, a stale one, a corrupt one whose position nobody can read, and this live one."""
    lock = PositionLock("live-1", lock_dir=lock_dir, stale_after=3600)
    with PositionLock("free-1", lock_dir=lock_dir), PositionLock("corrupt-1", lock_dir=lock_dir) as corrupt:
        pass
    Path(corrupt.path).write_bytes(b"damage")
    PositionLock("stale-1", lock_dir=lock_dir, stale_after=1e-9).acquire()
    lock.acquire()
    yield lock
    lock._grant = None


def test_stale_clears_what_nobody_holds_and_only_that(lock_dir: str, held: PositionLock) -> None:
    """The live holder is not even mentioned; a file whose position is unreadable is named with a hint. Exit 0."""
    result = clear(lock_dir, "--stale")
    assert result.exit_code == 0
    assert result.stdout == f"stale-1: cleared, was held by PID {os.getpid()} on {os.uname().nodename}\n"
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{lock_dir}/corrupt-1-")
    assert "left alone, checksum does not match" in line
    assert "clear it by its position id" in line
    assert states(lock_dir) == {"free-1": "free", "stale-1": "free", None: "corrupt", "live-1": "held"}
    held.check()


def test_all_leaves_live_holders_alone(lock_dir: str, held: PositionLock) -> None:
    """Exit 1, for what was asked is not done; what may be cleared is."""
    result = clear(lock_dir, "--all")
    assert result.exit_code == 1
    assert "stale-1: cleared" in result.stdout
    assert "free-1" not in result.output
    assert f"live-1: left alone, held by PID {os.getpid()}" in result.stderr
    held.check()


def test_all_without_live_holders_is_exit_0(lock_dir: str, held: PositionLock) -> None:
    """A corrupt file that nobody can name is no live holder."""
    held.release()
    assert clear(lock_dir, "--all").exit_code == 0
    assert states(lock_dir)["stale-1"] == "free"


def test_all_with_force_asks_before_anything_is_cleared(lock_dir: str, held: PositionLock) -> None:
    """A no, or nobody there to answer, leaves everything as it was; a yes ends the live hold."""
    before = states(lock_dir)
    for answer in ("n\n", ""):
        assert clear(lock_dir, "--all", "--force", input=answer).exit_code == 1
    assert states(lock_dir) == before
    held.check()
    assert clear(lock_dir, "--all", "--force", input="y\n").exit_code == 0
    with pytest.raises(LockLost):
        held.check()


def test_yes_answers_for_the_operator(lock_dir: str, held: PositionLock) -> None:
    """With --all --force --yes nothing is asked, and every lock that can be named is free."""
    result = clear(lock_dir, "--all", "--force", "--yes")
    assert (result.exit_code, "Clear all the same" in result.output) == (0, False)
    assert {state for name, state in states(lock_dir).items() if name} == {"free"}
    with pytest.raises(LockLost):
        held.check()


def test_a_lock_taken_while_stale_ones_are_cleared_keeps_its_holder(
    lock_dir: str, start: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another bot took over after the look around: it is left alone, and that is no failure."""
    holder(start, lock_dir, "btc-1").kill()
    taken: list[PositionLock] = []

    def look_and_lose(directory: Any) -> Any:
        found = lock_statuses(directory)
        taken.append(PositionLock("btc-1", lock_dir=lock_dir))
        taken[0].acquire()
        return found

    monkeypatch.setattr(clear_module, "lock_statuses", look_and_lose)
    result = clear(lock_dir, "--stale")
    assert (result.exit_code, "btc-1: left alone, held by" in result.stderr) == (0, True)
    taken[0].release()


def test_one_lock_that_cannot_be_cleared_does_not_keep_the_others(lock_dir: str, start: Children) -> None:
    """It is reported with its reason; exit 1."""
    for name in ("a", "c"):
        holder(start, lock_dir, name).kill()
    with PositionLock("b", lock_dir=lock_dir) as lock:
        path = Path(lock.path)
    path.unlink()
    path.mkdir()
    result = clear(lock_dir, "a", "b", "c")
    assert result.exit_code == 1
    assert f"b: {path}: " in result.stderr
    assert (states(lock_dir)["a"], states(lock_dir)["c"]) == ("free", "free")


@pytest.mark.parametrize(
    "arguments",
    [(), ("--stale", "--all"), ("a", "--stale"), ("a", "--all"), ("--force", "--yes"), ("--stale", "--force")],
)
def test_what_is_to_be_cleared_is_said_in_one_way(
    lock_dir: str, held: PositionLock, arguments: tuple[str, ...]
) -> None:
    """Positions, --stale or --all; anything else is a usage error, and nothing is cleared."""
    before = states(lock_dir)
    assert clear(lock_dir, *arguments).exit_code == 2
    assert states(lock_dir) == before


def test_clearing_an_empty_directory_says_so(lock_dir: str) -> None:
    """Exit 0, nothing is asked, and nothing is made."""
    for arguments in (("--stale",), ("--all",), ("--all", "--force")):
        result = clear(lock_dir, *arguments)
        assert (result.exit_code, result.output) == (0, f"nothing to clear in {lock_dir}\n")
    assert not Path(lock_dir).exists()
