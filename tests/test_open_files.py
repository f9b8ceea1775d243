"""Lock files that stay open between transitions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from poslock import LockFileError, LockLost, LockTimeout, PositionLock
from poslock.lock.files.directory import LockDirectory, open_directory
from poslock.lock.files.lock_file import LockFile, let_go
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import RECORD_SIZE, Record, Unreadable
from systems import Amiss, descriptors_of, elsewhere, once_after, once_before

MOST = 64


@pytest.mark.parametrize("call", ["release", "renew", "check", "acquire"])
def test_a_descriptor_that_somebody_else_closed_and_uses_is_not_touched(tmp_path: Path, call: str) -> None:
    """A bot that closes all its descriptors, to become a daemon, say: its next file gets the number of ours."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0)
    if call != "acquire":
        lock.acquire()
    else:
        with lock:
            pass
    (ours,) = descriptors_of(lock.path)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    theirs = os.open(precious, os.O_RDWR)
    os.dup2(theirs, ours)
    getattr(lock, call)()
    assert precious.read_text() == "precious"
    assert os.fstat(ours).st_ino == precious.stat().st_ino, "it was closed"
    os.close(theirs)
    os.close(ours)


def test_so_many_files_stay_open_and_no_more(tmp_path: Path) -> None:
    """The latest ones; a bot with thousands of positions does not run out of descriptors."""
    directory = elsewhere(tmp_path / "locks")
    let_go()
    locks = [PositionLock(f"btc-{number}", lock_dir=directory) for number in range(MOST + 20)]
    for lock in locks:
        lock.acquire()
    presence = 2  # and its life line
    assert len(descriptors_of(directory.path)) == presence + MOST
    assert descriptors_of(locks[0].path) == {}
    assert len(descriptors_of(locks[-1].path)) == 1
    for lock in locks:
        lock.check()
        lock.release()


def test_threads_with_one_directory_exclude_each_other(tmp_path: Path) -> None:
    """One is inside a transition when the other comes: it must not be handed the same descriptor."""
    entered, leave = threading.Event(), threading.Event()
    amiss = Amiss()
    directory = LockDirectory(str(tmp_path / "locks"), amiss)
    with PositionLock("btc-1", lock_dir=directory):
        pass

    def stay() -> None:
        entered.set()
        assert leave.wait(60)

    first, second = (PositionLock("btc-1", lock_dir=directory, timeout=0) for _ in range(2))
    tokens: list[int] = []
    thread = threading.Thread(target=lambda: tokens.append(first.acquire()))
    amiss._calls["read"] = once_after(stay, SYSTEM.read)
    thread.start()
    assert entered.wait(60)
    try:
        with pytest.raises(LockTimeout, match="a transition is under way"):
            second.acquire()
    finally:
        leave.set()
        thread.join(60)
    assert tokens == [first.token]


def test_a_child_forgets_what_its_parent_had_open(tmp_path: Path) -> None:
    """It closed its copies; what it opens under the same numbers is something else."""
    lock_dir = str(tmp_path / "locks")
    with PositionLock("btc-1", lock_dir=lock_dir):
        pass
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert descriptors_of(PositionLock("btc-1", lock_dir=lock_dir).path) == {}
            with PositionLock("btc-1", lock_dir=lock_dir) as lock:
                lock.check()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    with PositionLock("btc-1", lock_dir=lock_dir) as lock:
        lock.check()


def test_a_number_that_another_file_of_ours_has_by_now_stays_open(tmp_path: Path) -> None:
    """Somebody closed the first one, and it is given back when the second one is open already."""
    first = SYSTEM.open(str(tmp_path / "first"), create=True)
    os.close(first)
    second = SYSTEM.open(str(tmp_path / "second"), create=True)
    assert second == first
    SYSTEM.close(first)
    assert os.path.samestat(os.fstat(second), os.stat(tmp_path / "second"))
    SYSTEM.close(second)


def test_a_descriptor_that_somebody_else_closed_stays_open_in_a_child(tmp_path: Path) -> None:
    """What a child closes at its start is ours, not what uses our numbers by now."""
    lock_dir = str(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    with lock:
        pass
    mine = open_directory(lock_dir).presence._mine
    assert mine is not None
    theirs = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    ours = [*descriptors_of(lock.path), mine.descriptor]
    for descriptor in ours:
        os.dup2(theirs, descriptor)
    with lock:
        pass
    pid = os.fork()
    if pid == 0:
        os._exit(0 if all(os.fstat(each).st_ino == os.fstat(theirs).st_ino for each in ours) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (*ours, theirs):
        os.close(descriptor)


def test_a_directory_moved_away_while_its_files_are_open_is_noticed(tmp_path: Path) -> None:
    """Who held a lock there has lost it, and who acquires one does so where the path leads now."""
    lock_dir = tmp_path / "locks"
    held, free = (PositionLock(name, lock_dir=elsewhere(lock_dir), timeout=5) for name in ("held", "free"))
    held.acquire()
    with free:
        pass
    lock_dir.rename(tmp_path / "moved")
    with pytest.raises(LockLost):
        held.renew()
    with free:
        assert Path(free.path).exists()
        assert isinstance(free._store, LockDirectory)
        presence = free._store.presence
        assert Path(presence.slot_path(presence.name())).exists()


def test_a_link_to_a_directory_may_be_turned(tmp_path: Path) -> None:
    """The same name, another directory: locks made later are there."""
    link = tmp_path / "link"
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        for _ in range(2):
            assert open_directory(link).path == str(tmp_path / name)


def test_a_link_whose_directory_moved_with_it_leads_there(tmp_path: Path) -> None:
    """The link leads to the same directory, under another name: a new process would lock there."""
    link = tmp_path / "link"
    (tmp_path / "one").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "one")
    with PositionLock("btc-1", lock_dir=link):
        pass
    (tmp_path / "one").rename(tmp_path / "two")
    link.unlink()
    link.symlink_to(tmp_path / "two")
    with PositionLock("btc-1", lock_dir=link) as lock, pytest.raises(LockTimeout):
        assert lock.path.startswith(str(tmp_path / "two"))
        PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "two"), timeout=0).acquire()


def test_an_acquire_that_fails_for_a_second_name_leaves_nothing_held(tmp_path: Path) -> None:
    """A backup made of hard links: an error, and nobody has to wait for the lease of a grant that nobody got."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, timeout=0)
    with lock:
        pass
    backup = tmp_path / "backup"
    backup.hardlink_to(lock.path)
    with pytest.raises(LockFileError, match="second name"):
        lock.acquire()
    backup.unlink()
    PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"), timeout=0).acquire()


def test_two_threads_that_give_back_the_same_file_keep_one(tmp_path: Path) -> None:
    """The one that comes second closes its own."""
    directory = elsewhere(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    with lock:
        pass
    first = directory.open_files.take(lock.path)
    with lock:
        pass
    assert first is not None
    directory.open_files.keep(lock.path, first)
    assert len(descriptors_of(lock.path)) == 1
    lock.acquire()
    lock.check()


def test_a_record_that_was_half_written_is_read_again(tmp_path: Path) -> None:
    """Its first page is there, the second is not: whoever looks just then must not stay with what it saw."""
    directory = elsewhere(tmp_path / "locks")
    readers = [held_by_one_more(tmp_path / "locks") for _ in range(3)]
    while os.path.getsize(readers[0].path) <= RECORD_SIZE:
        readers.append(held_by_one_more(tmp_path / "locks"))
    whole = Path(readers[0].path).read_bytes()
    file = LockFile(directory, readers[0].path, "btc-1")
    assert file.change(lambda opened: opened.read()) == file.peek()
    os.truncate(readers[0].path, RECORD_SIZE)
    assert isinstance(file.peek(), Unreadable)
    Path(readers[0].path).write_bytes(whole)
    assert isinstance(file.peek(), Record)
    for reader in readers:
        reader.check()


def held_by_one_more(lock_dir: Path) -> PositionLock:
    lock = PositionLock("btc-1", lock_dir=elsewhere(lock_dir), shared=True, purpose="p" * 100)
    lock.acquire()
    return lock


def test_an_interrupt_right_after_a_transition_leaves_no_os_lock(tmp_path: Path) -> None:
    """Ctrl-C while the unlocking is under way: others must not find the file busy for ever."""
    amiss = Amiss()
    directory = LockDirectory(str(tmp_path / "locks"), amiss)
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    pending = [KeyboardInterrupt()]

    def unlock(descriptor: int) -> None:
        if pending:
            raise pending.pop()
        SYSTEM.unlock(descriptor)

    amiss._calls["unlock"] = unlock
    with pytest.raises(KeyboardInterrupt):
        lock.renew()
    with pytest.raises(LockTimeout, match="held by PID"):
        PositionLock("btc-1", lock_dir=elsewhere(tmp_path / "locks"), timeout=0).acquire()


def test_two_threads_that_find_their_presence_removed(tmp_path: Path) -> None:
    """One closes the old descriptor, while the other has a new one, under the same number."""
    amiss = Amiss()
    directory = LockDirectory(str(tmp_path / "locks"), amiss)
    first, second = (PositionLock(name, lock_dir=directory) for name in ("btc-1", "btc-2"))
    with first:
        pass
    mine = directory.presence._mine
    assert mine is not None
    Path(directory.presence.slot_path(mine.name)).unlink()

    def acquire_second() -> None:
        thread = threading.Thread(target=second.acquire)
        thread.start()
        thread.join(60)

    interleaved = once_before(acquire_second, SYSTEM.close)
    amiss._calls["close"] = lambda number: (interleaved if number == mine.descriptor else SYSTEM.close)(number)
    first.acquire()
    with pytest.raises(LockTimeout):
        PositionLock("btc-2", lock_dir=elsewhere(tmp_path / "locks"), timeout=0).acquire()
    second.check()
