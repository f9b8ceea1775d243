"""Lock directories that several users share, or several hosts might."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockFileError, LockTimeout, PositionLock
from poslock.lock.files.safety import mount_fault, mount_of
from systems import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as several users")
FIRST, SECOND, STRANGER, GROUP = 54321, 54322, 54323, 54320

TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /mnt/nas rw - nfs4 nas:/export rw
31 22 0:41 / /mnt/with\\040space rw - fuse.sshfs host: rw
32 30 0:42 / /mnt/nas/local rw - ext4 /dev/vdb rw
33 22 0:43 / /over rw - ext4 /dev/vdc rw
34 33 0:44 / /over rw - cifs //host/share rw
damaged line
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/home/trader/locks", "ext4", False),
        ("/mnt/nas/locks", "nfs4", True),
        ("/mnt/nas", "nfs4", True),
        ("/mnt/nasty", "ext4", False),
        ("/mnt/nas/local/locks", "ext4", False),
        ("/mnt/with space/locks", "fuse.sshfs", True),
        ("/over/locks", "cifs", True),
    ],
)
def test_network_file_systems_are_told_from_local_ones(path: str, kind: str, network: bool) -> None:
    """By the longest mount point, the latest of two on the same."""
    found = mount_of(path, TABLE)
    assert found is not None
    assert found[0] == kind
    assert (mount_fault(kind) is not None) is network


def test_a_directory_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the operator says that one host alone uses it."""
    table = f"1 0 0:1 / {tmp_path} rw - nfs nas:/export rw\n"
    with pytest.raises(LockFileError, match="network file system") as caught:
        PositionLock("btc-1", lock_dir=Clock().directory(tmp_path / "locks", mount_table=lambda: table)).acquire()
    assert "POSLOCK_ALLOW_NETWORK=1" in str(caught.value)
    monkeypatch.setenv("POSLOCK_ALLOW_NETWORK", "1")
    PositionLock("btc-1", lock_dir=Clock().directory(tmp_path / "locks", mount_table=lambda: table)).acquire()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory below one that everybody may enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="poslock-test-"))
    folder.chmod(0o755)
    locks = folder / "locks"
    locks.mkdir()
    os.chown(locks, FIRST, GROUP)
    yield locks
    shutil.rmtree(folder)


BECOME = """
import os, sys
import poslock.guard  # the interpreter may be where only root can read
from poslock import *
from poslock.ledger.ledger import Ledger
user, locks, groups = int(sys.argv[1]), sys.argv[2], [int(each) for each in sys.argv[3:]]
ledger = Ledger(f"{locks}/ledger.db")
os.umask(0o077)  # as careful people have it
os.setgroups(groups), os.setgid(user), os.setuid(user)
lock = PositionLock("btc-1", lock_dir=locks, timeout=0)
"""


def process_of(user: int, groups: list[int], locks: Path, code: str) -> subprocess.Popen[str]:
    """A process of another user that holds a lock object on the shared directory."""
    command = [sys.executable, "-c", BECOME + code, str(user), str(locks), *map(str, groups)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd="/", stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run_as(user: int, groups: list[int], locks: Path, code: str) -> tuple[str, str]:
    """What it prints, and its errors."""
    with process_of(user, groups, locks, code) as process:
        return process.communicate(timeout=60)


USE = "lock.acquire(); lock.check(); lock.renew(); lock.release(); print('held')"


@needs_root
def test_a_setgid_directory_is_shared_by_its_group(shared: Path) -> None:
    """Two users of the group use the same lock, and see each other hold it; a stranger is refused."""
    shared.chmod(0o2770)
    assert run_as(FIRST, [GROUP], shared, USE) == ("held\n", "")
    assert run_as(SECOND, [GROUP], shared, USE) == ("held\n", "")
    for file in (*shared.glob("*.lock"), *(shared / ".presence").iterdir()):
        assert file.stat().st_mode & 0o777 == 0o660
        assert file.stat().st_gid == GROUP
    holder = process_of(FIRST, [GROUP], shared, "lock.acquire(); print(flush=True); input()")
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert "LockTimeout" in run_as(SECOND, [GROUP], shared, USE)[1]
        holder.kill()
    assert run_as(SECOND, [GROUP], shared, USE) == ("held\n", "")
    assert "LockFileError" in run_as(STRANGER, [], shared, USE)[1]


@needs_root
def test_a_directory_that_is_not_meant_to_be_shared_is_refused_to_others(shared: Path) -> None:
    """Group-writable without setgid is no invitation."""
    shared.chmod(0o770)
    _, errors = run_as(SECOND, [GROUP], shared, USE)
    assert f"belongs to user {FIRST}" in errors
    assert list(shared.iterdir()) == []


@needs_root
def test_a_ledger_in_a_shared_directory_is_shared_too(shared: Path) -> None:
    """Both users' bots close from one ledger."""
    shared.chmod(0o2770)
    code = "lock.acquire(); print(ledger.unfinished('account'))"
    for user in (FIRST, SECOND):
        assert run_as(user, [GROUP], shared, code) == ("[]\n", "")


def test_a_timeout_is_a_timeout_for_the_owner_too(tmp_path: Path) -> None:
    """A private directory stays private: no group bits anywhere."""
    clock = Clock()
    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"))
    lock.acquire()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0).acquire()
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "locks").rglob("*"))
