"""How a process proves that it lives: what closes that proof, and what becomes of it when the process has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockLost, PositionLock
from processes import PATIENCE
from systems import descriptors_of, elsewhere

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory

CLOSED = "closed the descriptor that proves that it lives"


def close_presence(directory: LockDirectory, how: str, tmp_path: Path) -> None:
    """As a daemon does that closes whatever it has open; perhaps its next file gets the number."""
    for number in descriptors_of(f"{directory.path}/.presence"):
        os.close(number)
        if how == "used":
            theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
            if theirs != number:
                os.dup2(theirs, number)
                os.close(theirs)


@pytest.mark.parametrize("how", ["closed", "used"])
@pytest.mark.parametrize("call", ["check", "renew", "release"])
def test_a_holder_that_closed_its_descriptors_is_told_so(tmp_path: Path, call: str, how: str) -> None:
    """Peers take it for dead. So its lock is lost, by name and for good; the next grant has a new presence."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0)
    lock.acquire()
    close_presence(directory, how, tmp_path)
    with pytest.raises(LockLost, match=CLOSED):
        getattr(lock, call)()
    with pytest.raises(LockLost):
        lock.check()
    again = PositionLock("btc-1", lock_dir=directory, timeout=0)
    assert again.acquire()
    again.check()
    assert again.recovered_from is not None
    with pytest.raises(LockLost):
        lock.renew()
    again.renew()
    again.release()


def test_what_was_lost_with_a_presence_stays_lost_when_the_next_one_has_its_number(tmp_path: Path) -> None:
    """A lock that nobody has asked about yet, and a presence that is made for another one meanwhile."""
    directory = elsewhere(tmp_path / "locks")
    held, other = (PositionLock(name, lock_dir=directory) for name in ("held", "other"))
    held.acquire()
    close_presence(directory, "closed", tmp_path)
    other.acquire()
    for call in (held.check, held.renew, held.release):
        with pytest.raises(LockLost):
            call()
    other.check()


def test_a_file_that_uses_the_number_of_the_presence_is_not_touched(tmp_path: Path) -> None:
    """It belongs to the bot by now: not closed with the next grant, nor in a forked child."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0)
    lock.acquire()
    (number,) = descriptors_of(f"{directory.path}/.presence")
    theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    os.dup2(theirs, number)
    with pytest.raises(LockLost):
        lock.release()
    assert lock.acquire()
    lock.release()
    assert os.fstat(number).st_ino == os.fstat(theirs).st_ino
    if (pid := os.fork()) == 0:
        os._exit(os.fstat(number).st_ino != os.fstat(theirs).st_ino)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(number)
    os.close(theirs)


DAEMON = """
import os, sys
from poslock import LockLost, PositionLock
lock = PositionLock("btc-1", lock_dir=sys.argv[1], timeout=0)
lock.acquire()
os.closerange(3, 256)
print("closed", flush=True)
input()
for call in (lock.check, lock.renew):
    try:
        call()
        print("passed")
    except LockLost as lost:
        print(lost.why)
"""


def test_a_daemon_that_closed_everything_is_replaced_at_once_and_knows_it(lock_dir: str) -> None:
    """os.closerange, as DaemonContext calls it: what it holds passes to the next one, and no check() of its passes."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, lock_dir], stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parent
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "closed\n"
        rival = PositionLock("btc-1", lock_dir=lock_dir, timeout=0)
        rival.acquire()
        said, _ = daemon.communicate("go\n", timeout=PATIENCE)
    assert [CLOSED in line for line in said.splitlines()] == [True, True]
    rival.check()
