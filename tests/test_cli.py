"""The command line, as a person or a script uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from poslock import LockLost, PositionLock
from poslock.lock.files.directory import open_directory
from poslock.lock.status import lock_statuses
from poslock_cli.main import main
from poslock_cli.table import duration, table
from systems import elsewhere

if TYPE_CHECKING:
    from conftest import Children
    from processes import Child


def run(lock_dir: str, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["--lock-dir", lock_dir, *arguments], **options)


def status(lock_dir: str, *positions: str) -> list[dict[str, Any]]:
    result = run(lock_dir, "status", "--json", *positions)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def holder(start: Children, lock_dir: str, position: str, stale_after: float = 3600) -> Child:
    child = start("hold", lock_dir=lock_dir, position=position, stale_after=stale_after)
    child.hear()
    child.ask("go")
    return child


def corrupt(lock_dir: str, position: str) -> Path:
    """A lock file with a damaged record."""
    with PositionLock(position, lock_dir=lock_dir) as lock:
        path = Path(lock.path)
    data = path.read_bytes()
    path.write_bytes(data[:50] + b"\x1b[31m" + data[55:])
    return path


def test_status_json_of_every_state(start: Children, lock_dir: str) -> None:
    """Free, held, stale and corrupt, each with the fields that scripts rely on."""
    child = holder(start, lock_dir, "held-1")
    dead = holder(start, lock_dir, "stale-1")
    dead.kill()
    with PositionLock("free-1", lock_dir=lock_dir):
        pass
    path = corrupt(lock_dir, "corrupt-1")
    rows = {row["state"]: row for row in status(lock_dir)}
    assert set(rows) == {"free", "held", "stale", "corrupt"}
    for row in rows.values():
        assert list(row) == ["position", "state", "mode", "token", "holders", "path"]
        assert Path(row["path"]).parent == Path(lock_dir)
    (held,) = rows["held"]["holders"]
    assert list(held) == ["pid", "alive", "age_s", "lease_s", "purpose", "host", "acquired_at", "intent"]
    assert (held["pid"], held["alive"], held["lease_s"]) == (child.pid, True, 3600)
    assert (held["purpose"], held["host"], held["intent"]) == ("held by a test", os.uname().nodename, "other")
    assert 0 < held["age_s"] < 60
    assert rows["held"]["position"] == "held-1"
    assert rows["held"]["mode"] == "exclusive"
    assert rows["held"]["token"] > 10**15  # microseconds since the epoch
    (gone,) = rows["stale"]["holders"]
    assert (rows["stale"]["position"], gone["pid"], gone["alive"]) == ("stale-1", dead.pid, False)
    assert [each["pid"] for each in rows["free"]["holders"]] == [os.getpid()]
    assert rows["corrupt"] == {
        "position": None,
        "state": "corrupt",
        "mode": None,
        "token": None,
        "holders": [],
        "path": str(path),
    }


def test_status_of_named_positions(lock_dir: str) -> None:
    """In the order asked for; one never locked is free, one that cannot be is an error."""
    with PositionLock("a", lock_dir=lock_dir):
        rows = status(lock_dir, "b", "a")
    assert [(row["position"], row["state"], row["token"] is None) for row in rows] == [
        ("b", "free", True),
        ("a", "held", False),
    ]
    result = run(lock_dir, "status", "bad\nid")
    assert (result.exit_code, "invalid position id" in result.stderr) == (1, True)


def test_status_of_nothing_creates_nothing(lock_dir: str) -> None:
    """Looking at a directory that does not exist says so and leaves it so."""
    assert run(lock_dir, "status").stdout == f"no locks in {lock_dir}\n"
    assert status(lock_dir) == []
    assert not Path(lock_dir).exists()


def test_status_prints_nothing_that_a_terminal_obeys(lock_dir: str) -> None:
    """Purposes and ids of any kind come out escaped."""
    lock = PositionLock("\u202eevil", lock_dir=lock_dir, purpose="\x1b[2J\n\u202e")
    with lock:
        text = run(lock_dir, "status").stdout
    assert r"\u202eevil" in text
    assert r"\x1b[2J\n\u202e" in text
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202e", "\udcff"])
@pytest.mark.parametrize("command", ["status", "clear a", "clear --all"])
def test_the_path_of_the_directory_is_escaped_wherever_it_is_printed(tmp_path: Path, name: str, command: str) -> None:
    """Also where nothing is in it yet, beside a damaged file, and in the error of one lock among several."""
    lock_dir = f"{tmp_path}/{name}"
    for is_there in (False, True):
        if is_there:
            corrupt(lock_dir, "a").unlink()
            Path(lock_dir, "planted-0123456789abcdef.lock").write_bytes(b"damage")
            Path(PositionLock("a", lock_dir=lock_dir).path).mkdir()
        result = run(lock_dir, *command.split(), color=True)  # else what a terminal would obey is taken out
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert all(line.isprintable() for line in result.output.split("\n"))
        assert repr(name)[1:-1] in result.output or (command == "clear a" and not is_there)


@pytest.mark.parametrize(
    "arguments",
    [
        ["history", "a", "\x1b[2J"],
        ["\x1b[2J"],
        ["--\x1b[2J"],
        ["status", "--interval=\x1b[2J"],
        ["run", "--\x1b[2J", "a"],
    ],
)
def test_arguments_that_are_refused_are_escaped(lock_dir: str, arguments: list[str]) -> None:
    """A script may hand on what others wrote: exit 2, and the message can be printed."""
    result = CliRunner().invoke(main, arguments, color=True)
    assert (result.exit_code, result.stdout) == (2, "")
    assert all(line.isprintable() for line in result.stderr.split("\n"))
    assert r"\x1b[2J" in result.stderr


def test_without_arguments_the_help_has_lines() -> None:
    """It is an error to click, and nothing in it is to be escaped."""
    assert len(CliRunner().invoke(main, []).output.splitlines()) > 10


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "garbage", "empty", "unreadable"])
def test_status_of_a_planted_file_is_no_traceback(lock_dir: str, tmp_path: Path, kind: str) -> None:
    """Whatever is named like a lock file is reported with its path."""
    with PositionLock("a", lock_dir=lock_dir):
        pass
    path = Path(lock_dir, "planted-0123456789abcdef.lock")
    match kind:
        case "symlink":
            path.symlink_to(tmp_path)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "empty":
            path.touch()
        case _:
            path.write_bytes(b"\x80\x1b[2J" * 40)
    states = {row["path"]: row["state"] for row in status(lock_dir)}
    assert states[str(path)] == ("free" if kind == "empty" else "corrupt")
    text = run(lock_dir, "status").stdout
    assert kind == "empty" or f"corrupt: {path}" in text


def test_status_of_a_copied_lock_file_is_corrupt(lock_dir: str) -> None:
    """The record of one position under the name of another is not taken for either's."""
    with PositionLock("a", lock_dir=lock_dir) as a, PositionLock("b", lock_dir=lock_dir) as b:
        Path(b.path).write_bytes(Path(a.path).read_bytes())
        rows = status(lock_dir)
        assert [(row["position"], row["state"]) for row in rows] == [("a", "held"), (None, "corrupt")]
        Path(b.path).unlink()
        Path(b.path).touch()
        with pytest.raises(LockLost):
            b.check()
        b._grant = None


def test_status_asks_once_whether_a_holder_of_many_locks_lives(lock_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each of them: an operator with 10,000 locks waits for the answer."""
    directory = open_directory(lock_dir)
    with PositionLock("btc-1", lock_dir=lock_dir), PositionLock("btc-2", lock_dir=lock_dir):
        ask = Mock(wraps=directory.presence.liveness)
        monkeypatch.setattr(directory.presence, "liveness", ask)
        assert [lock.state for lock in lock_statuses(directory)] == ["held", "held"]
    ask.assert_called_once()


def test_status_loads_nothing_that_only_a_close_needs(lock_dir: str) -> None:
    """It would take longer than the look."""
    code = """if True:
        import sys
        from poslock_cli.main import main
        main(sys.argv[1:], standalone_mode=False)
        print([name for name in ("poslock.closing.close", "sqlite3", "asyncio") if name in sys.modules])"""
    command = [sys.executable, "-c", code, "--lock-dir", lock_dir, "status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_clear_leaves_a_live_holder_alone_and_names_it(start: Children, lock_dir: str) -> None:
    """Exit 1; the holder goes on as if nothing had been asked."""
    child = holder(start, lock_dir, "btc-1")
    result = run(lock_dir, "clear", "btc-1")
    assert result.exit_code == 1
    assert f"PID {child.pid} on {os.uname().nodename} (held by a test)" in result.stderr
    assert child.ask("check") == {"ok": "check"}


def test_clear_frees_stale_and_corrupt_locks(start: Children, lock_dir: str) -> None:
    """Exit 0; the token goes on growing."""
    dead = holder(start, lock_dir, "stale-1")
    (before,) = status(lock_dir, "stale-1")
    dead.kill()
    corrupt(lock_dir, "corrupt-1")
    result = run(lock_dir, "clear", "stale-1", "corrupt-1", "never-1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"stale-1: cleared, was held by PID {dead.pid} on {os.uname().nodename} (held by a test)",
        "corrupt-1: cleared, its record was unreadable",
        "never-1: was free",
    ]
    rows = status(lock_dir)
    assert [row["state"] for row in rows] == ["free", "free"]
    assert status(lock_dir, "stale-1")[0]["token"] > before["token"]


def test_clear_with_force_ends_a_live_hold(lock_dir: str) -> None:
    """The holder's next check fails, and another one can acquire at once; without --yes it asks first."""
    lock = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
    lock.acquire()
    assert run(lock_dir, "clear", "btc-1", "--force", input="n\n").exit_code == 1
    lock.check()
    assert run(lock_dir, "clear", "btc-1", "--force", "--yes").exit_code == 0
    with pytest.raises(LockLost):
        lock.check()
    with PositionLock("btc-1", lock_dir=lock_dir, timeout=0):
        pass


def test_clear_refuses_a_bad_id_before_it_clears_anything(start: Children, lock_dir: str) -> None:
    """One wrong word on the line, and nothing happened."""
    holder(start, lock_dir, "stale-1").kill()
    assert run(lock_dir, "clear", "stale-1", "bad\nid").exit_code == 1
    assert status(lock_dir, "stale-1")[0]["state"] == "stale"


def test_an_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    """As a shell sees it: exit 1, the file and the reason on standard error."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "poslock_cli", "--lock-dir", str(tmp_path / "file"), "status"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {tmp_path}/file: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (59.94, "59.9s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90000, "1d01h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    """Two units at the most."""
    assert duration(seconds) == text


def test_a_table_is_aligned() -> None:
    """Columns are as wide as their widest cell; lines end where their text ends."""
    assert table(("A", "B"), [("long", ""), ("x", "y")]) == "A     B\nlong\nx     y"
