"""A process without a descriptor left: those that the lock only keeps are given back, then it says so."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poslock import LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
from systems import Amiss
from tracing import LockChild, LockChildren

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 4


@pytest.fixture
def start() -> Iterator[LockChildren]:
    with LockChildren() as children:
        yield children


@pytest.fixture
def child(start: LockChildren, lock_dir: str) -> LockChild:
    """It keeps some lock files open."""
    child = start("perform", stale_after=60)
    for number in range(KEPT):
        child.ask(f"lock kept-{number} {lock_dir}")
        assert child.ask("acquire") == {"outcome": "ok"}
        assert child.ask("release") == {"outcome": "ok"}
    return child


@contextmanager
def stuck(path: Path) -> Iterator[None]:
    """A lock file whose OS lock is taken all the time."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept_by(child: LockChild) -> int:
    folder = Path(f"/proc/{child.pid}/fd")  # it has no descriptor left to look itself
    return sum("/kept-" in os.readlink(each) for each in folder.iterdir())


@pytest.mark.parametrize("operation", ["acquire", "check", "renew", "release"])
def test_files_that_are_only_kept_do_not_use_up_the_descriptors(
    operation: str, start: LockChildren, child: LockChild, lock_dir: str
) -> None:
    """The last descriptor is there for the position that is closed now, whatever it asks for."""
    child.ask(f"lock btc-1 {lock_dir}")
    if operation != "acquire":
        assert child.ask("acquire") == {"outcome": "ok"}
        child.ask("forget")  # of so many others: its own file is not kept any more
    child.ask("starve 0")
    assert kept_by(child) == KEPT
    assert child.ask(operation) == {"outcome": "ok"}
    assert kept_by(child) == 0


def test_a_dead_holder_is_replaced_without_a_spare_descriptor(
    start: LockChildren, child: LockChild, lock_dir: str
) -> None:
    """Whether it lives is asked with a descriptor that was kept, so nobody waits for its lease."""
    dead = start("perform", stale_after=3600)
    dead.ask(f"lock btc-1 {lock_dir}")
    assert dead.ask("acquire") == {"outcome": "ok"}
    child.ask(f"lock btc-1 {lock_dir}")
    assert child.ask("acquire")["outcome"] == "LockTimeout"
    dead.kill()
    child.ask(f"lock btc-1 {lock_dir}")
    child.ask("starve 0")
    assert child.ask("acquire") == {"outcome": "ok"}


def test_a_directory_is_prepared_without_a_spare_descriptor(child: LockChild, tmp_path: Path) -> None:
    """The table of mounts is read, the presence made."""
    child.ask(f"lock btc-1 {tmp_path / 'others'}")
    child.ask("starve 0")
    assert child.ask("acquire") == {"outcome": "ok"}


def test_a_busy_file_is_replaced_without_a_spare_descriptor(child: LockChild, lock_dir: str) -> None:
    """With what listing and copying need."""
    child.ask(f"lock btc-1 {lock_dir}")
    assert child.ask("acquire") == {"outcome": "ok"}
    assert child.ask("release") == {"outcome": "ok"}
    path = Path(PositionLock("btc-1", lock_dir=lock_dir).path)
    with stuck(path):
        child.ask("starve 0")
        assert child.ask("acquire 5") == {"outcome": "ok"}


def test_who_waits_is_rung_without_a_spare_descriptor(child: LockChild, lock_dir: str) -> None:
    """By a descriptor that was kept. Else it would sleep on, up to a second."""
    rung: list[bool] = []

    def wait(descriptors: list[int], seconds: float) -> list[int]:
        if not rung:
            rung.append(False)
            assert child.ask("starve 0")["hoarded"]
            assert child.ask("release") == {"outcome": "ok"}
            rung.append(bool(hung_up := SYSTEM.wait(descriptors, 0)))
            return hung_up
        return SYSTEM.wait(descriptors, seconds)

    child.ask(f"lock btc-1 {lock_dir}")
    assert child.ask("acquire") == {"outcome": "ok"}
    lock = PositionLock("btc-1", lock_dir=LockDirectory(lock_dir, Amiss(wait=wait)))
    with lock:
        assert rung == [False, True]


def test_who_holds_is_not_guessed_without_a_descriptor(start: LockChildren, lock_dir: str) -> None:
    """Nothing is left to let go of: an error that says so, instead of waiting for a holder that may be dead."""
    child, holder = (start("perform", stale_after=60) for _ in range(2))
    holder.ask(f"lock btc-1 {lock_dir}")
    assert holder.ask("acquire") == {"outcome": "ok"}
    for each in ("acquire", "starve 0"):  # it keeps the lock file open, and that is all it has
        child.ask(f"lock btc-1 {lock_dir}")
        child.ask(each)
    ended = child.ask("acquire 1")
    assert ended["outcome"] == "LockFileError", ended
    assert "Too many open files" in ended["text"]
    assert "ulimit -n" in ended["text"]
    child.ask("feed")
    assert child.ask("acquire")["outcome"] == "LockTimeout"
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0).acquire()
