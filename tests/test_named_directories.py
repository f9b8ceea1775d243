"""How a lock directory is named, and who may use it; and that what was forgotten there is."""

from __future__ import annotations

import gc
import os
import pwd
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from poslock import LockAlreadyHeld, LockFileError, PositionLock
from poslock.lock.files.directory import open_directory
from poslock.lock.files.safety import directory_fault, sharing_group, way_in
from poslock_cli.main import main
from systems import elsewhere

_MANY = 500


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user id that a container was told to use: it has no entry, and so no home directory; the working directory."""

    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "POSLOCK_DIR", "POSLOCK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, by_variable: bool) -> None:
    """Nobody expands it in a service file; what it is not is a directory of that name where the bot was started."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POSLOCK_DIR", "~/locks")
    monkeypatch.chdir(tmp_path)
    with PositionLock("btc-1", lock_dir=None if by_variable else Path("~/locks")) as lock:
        assert lock.path.startswith(f"{tmp_path}/home/locks/")
    assert not (tmp_path / "~").exists()


def test_without_a_home_directory_that_is_said(monkeypatch: pytest.MonkeyPatch, homeless: Path) -> None:
    """Of the default directory, and of one that is named after it; no directory called ~ is made."""
    with pytest.raises(LockFileError, match="home directory"):
        open_directory(None)
    with pytest.raises(LockFileError, match="home directory"):
        open_directory("~/locks")
    monkeypatch.setenv("POSLOCK_DIR", "~nobody-of-that-name/locks")
    with pytest.raises(LockFileError, match="home directory"):
        open_directory(None)
    assert list(homeless.iterdir()) == []


def test_without_a_home_directory_the_commands_work(homeless: Path) -> None:
    """There is no configuration then, and the lock directory is named."""
    with PositionLock("btc-1", lock_dir=homeless / "locks"):
        result = CliRunner().invoke(main, ["--lock-dir", str(homeless / "locks"), "status"])
    assert result.exit_code == 0, result.output
    assert "btc-1" in result.output
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert "home directory" in result.output


@pytest.mark.parametrize("name", [b"/tmp/locks", 7])
def test_what_is_no_text_is_no_lock_directory(name: object) -> None:
    """Bytes, or a number."""
    with pytest.raises(LockFileError, match=r"not (bytes|int)"):
        PositionLock("btc-1", lock_dir=name)  # type: ignore[arg-type]  # that is the point


def test_one_outside_the_group_is_not_told_to_share(tmp_path: Path) -> None:
    """Root is no member by being root: what helps is to be one, not what its owner has done already."""
    tmp_path.chmod(0o2770)
    status = tmp_path.stat()
    assert status.st_mode & stat.S_ISGID
    stranger = os.geteuid() + 1
    assert sharing_group(status, frozenset()) is None
    fault = directory_fault(status, stranger, -1, None)
    assert fault is not None
    assert f"shares it with group {status.st_gid}" in fault
    assert way_in(status, stranger) == f"run as user {status.st_uid} or as a member of group {status.st_gid}"
    tmp_path.chmod(0o700)
    assert directory_fault(tmp_path.stat(), stranger, -1, None) == f"belongs to user {status.st_uid}"


def test_holds_that_were_forgotten_do_not_stay_in_memory(lock_dir: str) -> None:
    """Five hundred bots' mistakes are no leak: with the object its entry goes."""
    directory = elsewhere(lock_dir)
    for number in range(_MANY):
        PositionLock(f"p-{number}", lock_dir=directory).acquire()
    gc.collect()
    assert len(directory.holds) == 0


def test_who_has_a_lock_already_is_named(lock_dir: str) -> None:
    """This object, or another one of the same thread: the mistake is another one."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    with lock:
        with pytest.raises(LockAlreadyHeld, match="by this object"):
            lock.acquire()
        with pytest.raises(LockAlreadyHeld, match="by another object of this thread or task"):
            PositionLock("btc-1", lock_dir=lock_dir).acquire()
