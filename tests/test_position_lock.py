"""The lock within one process: what callers rely on, and the interleavings that only a seam can bring about."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import threading
import weakref
from errno import EIO, ENOLCK
from pathlib import Path
from typing import Any

import pytest

from poslock import LockAlreadyHeld, LockError, LockFileError, LockLost, LockTimeout, PositionLock
from poslock.lock.files.system import SYSTEM
from poslock.lock.transitions import Denied
from poslock.lock.verdict import Liveness, Sight
from systems import Clock, descriptors_of, elsewhere, failing, once_after, once_before


def test_a_lock_that_nobody_has_any_more_is_gone_at_once(lock_dir: str) -> None:
    """It is in no circle with what it called, however its acquires ended: nobody waits for a garbage collection."""
    gc.collect()
    gc.disable()
    try:
        lock = PositionLock("btc-1", lock_dir=lock_dir, timeout=0)
        with lock, pytest.raises(LockTimeout):
            PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0).acquire()
        with PositionLock("btc-1", lock_dir=elsewhere(lock_dir)), pytest.raises(LockTimeout):
            lock.acquire()
        left = weakref.ref(lock)
        del lock
        assert left() is None
    finally:
        gc.enable()


def test_a_held_lock_passes_check_until_released(lock_dir: str) -> None:
    """Acquire, check, renew, release; afterwards nothing is held."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    assert not lock.held
    lock.acquire()
    assert lock.held
    assert 29 < lock.remaining <= 30
    lock.check()
    lock.renew()
    lock.check()
    lock.release()
    assert (lock.held, lock.token, lock.remaining) == (False, None, 0)
    with pytest.raises(LockLost):
        lock.check()


def test_with_holds_and_releases(lock_dir: str) -> None:
    """The context manager's block is exclusive, and an error inside it leaves the lock free."""
    with pytest.raises(ZeroDivisionError), PositionLock("btc-1", lock_dir=lock_dir) as lock:
        lock.check()
        _ = 1 / 0
    with PositionLock("btc-1", lock_dir=lock_dir, timeout=0):
        pass


def test_a_second_holder_is_told_who_holds(lock_dir: str) -> None:
    """LockTimeout names the holder, its purpose and the file, and survives a pickle."""
    with PositionLock("btc-1", lock_dir=lock_dir, purpose="close: \x1b[31mstop") as lock:
        with pytest.raises(LockTimeout) as caught:
            PositionLock("btc-1", lock_dir=elsewhere(lock_dir), timeout=0).acquire()
        error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
        assert error.holder.pid == os.getpid()
        assert str(os.getpid()) in str(error)
        assert lock.path in str(error)
        assert str(error).isprintable()


def test_who_gives_up_waiting_holds_nobody_up(tmp_path: Path) -> None:
    """Though another transition is under way just then: its place does not stay, for which the next one would wait."""
    clock, busy = Clock(), [False]

    def try_lock(descriptor: int) -> bool:
        return not (busy and busy.pop()) and SYSTEM.try_lock(descriptor)

    holder = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"))
    waiter = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks", try_lock=try_lock))
    holder.acquire()
    place = waiter._transitions.place(waiter._request)
    assert isinstance(waiter._transitions.acquire(waiter._request, Sight(None), place), Denied)
    busy.append(True)
    waiter._transitions.leave(place)
    assert not busy
    holder.release()
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0).acquire()


def test_positions_do_not_disturb_each_other(lock_dir: str) -> None:
    """Two positions are two locks."""
    with PositionLock("btc-1", lock_dir=lock_dir), PositionLock("eth-1", lock_dir=lock_dir, timeout=0) as other:
        other.check()


def test_tokens_grow_even_if_the_wall_clock_goes_back(tmp_path: Path) -> None:
    """Each hold of a position has a higher token than all before."""
    walls = iter([5_000_000_000, 1000, 9_000_000_000])
    directory = Clock().directory(tmp_path / "locks", wall_ns=lambda: next(walls))
    tokens = []
    for _ in range(3):
        with PositionLock("btc-1", lock_dir=directory) as lock:
            tokens.append(lock.token)
    assert tokens == [5_000_000, 5_000_001, 9_000_000]


def test_acquiring_twice_is_a_clear_error(lock_dir: str) -> None:
    """One object holds once; the second acquire neither waits nor breaks the first."""
    with PositionLock("btc-1", lock_dir=lock_dir) as lock:
        with pytest.raises(LockAlreadyHeld):
            lock.acquire()
        lock.check()


def test_releasing_what_is_not_held_is_an_error(lock_dir: str) -> None:
    """Release says so if there was nothing to release."""
    with pytest.raises(LockLost):
        PositionLock("btc-1", lock_dir=lock_dir).release()


def test_the_lease_runs_out_and_stays_out(tmp_path: Path) -> None:
    """After stale_after seconds of silence check and renew fail, although nobody took the lock."""
    clock = Clock()
    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=30)
    lock.acquire()
    clock.sleep(29.9)
    lock.check()
    clock.sleep(0.1)
    for call in (lock.check, lock.renew, lock.check):
        with pytest.raises(LockLost, match="30 s has run out"):
            call()
    lock.release()  # nobody came: what was done was exclusive


def test_renewing_moves_the_end_of_the_lease(tmp_path: Path) -> None:
    """A holder that renews in time holds as long as it likes, and nobody else gets in."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=30)
    lock.acquire()
    for _ in range(5):
        clock.sleep(20)
        lock.renew()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=20).acquire()
    lock.check()


def test_a_silent_holder_is_replaced_by_its_own_lease(tmp_path: Path) -> None:
    """The contender's stale_after plays no part, and the loser learns who took over."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    silent = PositionLock("btc-1", lock_dir=directory, stale_after=100)
    silent.acquire()
    elsewhere = clock.directory(tmp_path / "locks")
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=elsewhere, stale_after=1, timeout=99).acquire()
    other = PositionLock("btc-1", lock_dir=elsewhere, stale_after=1, timeout=2)
    other.acquire()
    assert other.recovered_from is not None
    assert other.token is not None
    assert silent.token is not None
    assert other.token > silent.token
    for call in (silent.check, silent.renew, silent.release):
        with pytest.raises(LockLost):
            call()
    other.check()


def test_leaving_the_block_after_losing_the_lock_says_so(tmp_path: Path) -> None:
    """A block that turned out not to be exclusive ends in LockLost, unless it failed by itself."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")

    def lose() -> None:
        clock.sleep(31)
        PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0, stale_after=1).acquire()

    with pytest.raises(LockLost), PositionLock("btc-1", lock_dir=directory):
        lose()
    clock.sleep(2)
    with pytest.raises(ZeroDivisionError), PositionLock("btc-1", lock_dir=directory):
        lose()
        _ = 1 / 0


def test_a_contender_that_saw_a_stale_record_reads_again_under_the_lock(tmp_path: Path) -> None:
    """A and B see a lease run out; A takes over while B is about to lock; B must find A's grant, not the old record."""
    clock = Clock()
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=10).acquire()
    clock.sleep(10)
    a = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0)
    late = clock.directory(tmp_path / "locks", try_lock=once_before(a.acquire, SYSTEM.try_lock))
    with pytest.raises(LockTimeout) as caught:
        PositionLock("btc-1", lock_dir=late, timeout=0).acquire()
    assert caught.value.holder is not None
    a.check()


def test_what_was_seen_before_counts_only_if_it_is_still_there(tmp_path: Path) -> None:
    """An unreadable record that was replaced by another one has not been unreadable for a whole lease."""
    clock = Clock()
    path = Path(PositionLock("btc-1", lock_dir=tmp_path / "locks").path)
    directory = clock.directory(tmp_path / "locks")
    directory.prepare()
    path.write_bytes(b"damage")
    path.chmod(0o600)
    seen_long_enough_ns = clock.now_ns + 10 * 10**9
    written: list[int] = []

    def try_lock(descriptor: int) -> bool:
        if clock.now_ns >= seen_long_enough_ns and not written:
            written.append(path.write_bytes(b"other damage"))
        return SYSTEM.try_lock(descriptor)

    directory.system._calls["try_lock"] = try_lock  # type: ignore[attr-defined]
    with pytest.raises(LockTimeout, match="unreadable"):
        PositionLock("btc-1", lock_dir=directory, stale_after=10, timeout=15).acquire()
    assert written
    PositionLock("btc-1", lock_dir=directory, stale_after=10, timeout=15).acquire()


def test_check_looks_at_the_clock_after_the_record(tmp_path: Path) -> None:
    """Stopped between reading its record and answering, for longer than the lease: check must not pass."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=10)
    lock.acquire()
    directory.system._calls["read"] = once_after(lambda: clock.sleep(11), SYSTEM.read)  # type: ignore[attr-defined]
    with pytest.raises(LockLost):
        lock.check()


def test_a_grant_dates_from_before_its_write(tmp_path: Path) -> None:
    """Stopped inside acquire for longer than the lease: the grant is stale when it is written."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    with PositionLock("other", lock_dir=directory):  # its presence is written as well
        pass
    directory.system._calls["write"] = once_before(lambda: clock.sleep(11), SYSTEM.write)  # type: ignore[attr-defined]
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=10)
    lock.acquire()
    with pytest.raises(LockLost):
        lock.check()
    PositionLock("btc-1", lock_dir=directory, timeout=0).acquire()


def test_a_grant_on_a_removed_file_is_no_grant(tmp_path: Path) -> None:
    """The file is removed while it is being written: the lock is taken on the new file instead."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    remove = Path(lock.path).unlink
    directory.system._calls["write"] = once_after(remove, SYSTEM.write)  # type: ignore[attr-defined]
    lock.acquire()
    lock.check()
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0).acquire()


def test_a_file_replaced_before_it_was_locked_is_not_used(tmp_path: Path) -> None:
    """Opened, removed by somebody, then locked: a lock on a file that nobody else will open is none."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    rival = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0)

    def swap() -> None:
        Path(lock.path).unlink()
        rival.acquire()

    directory.system._calls["try_lock"] = once_before(swap, SYSTEM.try_lock)  # type: ignore[attr-defined]
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.1)
    rival.check()


def test_equal_tokens_are_not_enough(tmp_path: Path) -> None:
    """The directory is wiped and the wall clock stands still: the same token again, but not the same hold."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks", wall_ns=lambda: 5_000_000_000)
    first = PositionLock("btc-1", lock_dir=directory)
    second = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks", wall_ns=lambda: 5_000_000_000))
    first.acquire()
    Path(first.path).unlink()
    clock.sleep(0.001)
    second.acquire()
    assert first.token == second.token
    second.check()
    for call in (first.check, first.renew, first.release):
        with pytest.raises(LockLost):
            call()
    second.check()


def test_an_unreadable_record_is_replaced_after_a_lease_of_looking(tmp_path: Path) -> None:
    """With the default timeout, no longer than the lease: what was seen counts from one acquire to the next."""
    clock = Clock()
    lock = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"))
    lock.acquire()
    lock.release()
    Path(lock.path).write_bytes(b"damage")
    with pytest.raises(LockTimeout, match="unreadable"):
        lock.acquire(timeout=29)
    lock.acquire(timeout=2)
    lock.check()


def test_a_time_out_names_who_holds_now(tmp_path: Path) -> None:
    """Not who held when the waiting began."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    first = PositionLock("btc-1", lock_dir=directory, purpose="first")
    second = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), purpose="second")
    first.acquire()

    def hand_over() -> None:
        first.release()
        second.acquire()

    waiting = clock.directory(tmp_path / "locks", sleep=once_before(hand_over, clock.sleep))
    with pytest.raises(LockTimeout) as caught:
        PositionLock("btc-1", lock_dir=waiting, timeout=5).acquire()
    assert caught.value.holder is not None
    assert caught.value.holder.purpose == "second"


def test_two_threads_do_not_share_one_object(tmp_path: Path) -> None:
    """While one thread is acquiring, another one's acquire of the same object is an error, not a second hold."""
    clock = Clock()
    errors: list[Exception] = []

    def intrude() -> None:
        try:
            lock.acquire()
        except LockAlreadyHeld as error:
            errors.append(error)

    directory = clock.directory(tmp_path / "locks", try_lock=once_before(intrude, SYSTEM.try_lock))
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    lock.check()
    assert len(errors) == 1


def test_a_failed_release_can_be_tried_again(tmp_path: Path) -> None:
    """After an error the lock is still held; inside a failing block, the block's own error comes out."""
    directory = Clock().directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    calls = directory.system._calls  # type: ignore[attr-defined]
    lock.acquire()
    calls["try_lock"] = failing(OSError(ENOLCK, "No locks available"))
    with pytest.raises(LockFileError, match="No locks available"):
        lock.release()
    lock.check()
    calls.clear()
    lock.release()
    with pytest.raises(ZeroDivisionError), lock:
        calls["try_lock"] = failing(OSError(ENOLCK, "No locks available"))
        _ = 1 / 0


def test_a_token_without_a_successor_is_refused(tmp_path: Path) -> None:
    """A hand-made record with the highest token is an error that names the file, not a grant that nobody can use."""
    directory = Clock().directory(tmp_path / "locks", wall_ns=lambda: (2**62 - 1) * 1000)
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    lock.release()
    with pytest.raises(LockFileError, match="has no successor"):
        lock.acquire()


def test_a_grant_that_fails_after_its_write_is_taken_back(tmp_path: Path) -> None:
    """The caller never learns of it, so nobody would release it before its lease runs out."""
    directory = Clock().directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    calls = directory.system._calls  # type: ignore[attr-defined]

    def fail_next_stat() -> None:
        calls["stat"] = failing(OSError(EIO, "Input/output error"))

    calls["write"] = once_after(fail_next_stat, SYSTEM.write)
    with pytest.raises(LockFileError):
        lock.acquire()
    calls.clear()
    PositionLock("btc-1", lock_dir=directory, timeout=0).acquire()


@pytest.mark.parametrize("gone", ["file", "descriptor"])
def test_a_lost_presence_is_replaced(tmp_path: Path, gone: str) -> None:
    """Its file removed, or its descriptor closed by somebody else: the next grant makes a new one and leaks none."""
    directory = Clock().directory(tmp_path / "locks")
    folder = tmp_path / "locks" / ".presence"
    with PositionLock("btc-1", lock_dir=directory):
        (before,) = folder.iterdir()
    mine = directory.presence._mine
    assert mine is not None
    if gone == "file":
        before.unlink()
    else:
        SYSTEM.close(mine.descriptor)
    opened = len(descriptors_of(str(folder)))
    with PositionLock("btc-1", lock_dir=directory):
        assert directory.presence.name() != before.name
        assert directory.presence.liveness(directory.presence.name()) is Liveness.ALIVE
    assert opened == (gone == "file")
    assert len(descriptors_of(str(folder))) == 1


def test_a_release_after_a_takeover_says_so_even_if_the_file_is_replaced_just_then(tmp_path: Path) -> None:
    """What it read was of a file that does not count any more; on the copy it finds the same."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=1)
    lock.acquire()
    clock.sleep(2)
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0).acquire()

    def replaced() -> None:
        copy = Path(lock.path).with_name("copy")
        copy.write_bytes(Path(lock.path).read_bytes())
        copy.chmod(0o600)
        copy.rename(lock.path)

    directory.system._calls["read"] = once_after(replaced, SYSTEM.read)  # type: ignore[attr-defined]
    with pytest.raises(LockLost, match="taken over"):
        lock.release()


@pytest.mark.parametrize("call", ["renew", "release"])
def test_a_holder_whose_file_is_replaced_under_its_hands_has_lost(tmp_path: Path, call: str) -> None:
    """Replaced after it was opened and before it was locked: what is written there counts for nobody."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    rival = PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0)

    def swap() -> None:
        Path(lock.path).unlink()
        rival.acquire()

    directory.system._calls["try_lock"] = once_before(swap, SYSTEM.try_lock)  # type: ignore[attr-defined]
    with pytest.raises(LockLost):
        getattr(lock, call)()
    rival.check()


@pytest.mark.parametrize("call", ["check", "renew", "release"])
def test_a_holder_whose_file_is_gone_has_lost(lock_dir: str, call: str) -> None:
    """Somebody removed the lock file: the next one starts over on a new file, so this holder must stop."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    lock.acquire()
    Path(lock.path).unlink()
    with pytest.raises(LockLost):
        getattr(lock, call)()


@pytest.mark.parametrize("call", ["open", "stat", "try_lock", "read", "write", "create", "try_lock_presence"])
def test_a_failing_system_call_is_a_typed_error_and_leaks_nothing(tmp_path: Path, call: str) -> None:
    """EIO from any call of acquire names a file, leaves no descriptor open, and lets nobody in."""
    directory = Clock().directory(tmp_path / "locks")
    lock = PositionLock("btc-1", lock_dir=directory)
    directory.system._calls[call] = failing(OSError(EIO, "Input/output error"))  # type: ignore[attr-defined]
    with pytest.raises(LockFileError, match="Input/output error") as caught:
        lock.acquire()
    assert str(tmp_path) in str(caught.value)
    assert not lock.held
    # The process keeps its presence.
    assert [each for each in descriptors_of(directory.path).values() if "/.presence/" not in each] == []
    directory.system._calls.pop(call)  # type: ignore[attr-defined]
    lock.acquire()
    lock.check()


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": 10**400},
        {"timeout": "5"},
        {"timeout": True},
        {"stale_after": 0},
        {"stale_after": -1},
        {"stale_after": float("nan")},
        {"stale_after": float("inf")},
        {"stale_after": None},
        {"purpose": "x" * 129},
        {"purpose": None},
    ],
)
def test_options_out_of_range_are_refused(lock_dir: str, options: dict[str, Any]) -> None:
    """A ValueError names the option, and nothing is written."""
    with pytest.raises(ValueError, match=next(iter(options))):
        PositionLock("btc-1", lock_dir=lock_dir, **options)
    assert not Path(lock_dir).exists()


def test_a_forgotten_timeout_is_the_objects_own(tmp_path: Path) -> None:
    """acquire() takes the object's timeout, acquire(5) its own, acquire(None) waits for the holder's end."""
    clock = Clock()
    directory = clock.directory(tmp_path / "locks")
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), stale_after=100).acquire()
    lock = PositionLock("btc-1", lock_dir=directory, timeout=7)
    for arguments, seconds in (((), 7), ((5,), 5)):
        with pytest.raises(LockTimeout) as caught:
            lock.acquire(*arguments)
        assert seconds <= caught.value.waited < seconds + 0.1
    lock.acquire(None)


def test_the_directory_is_private(lock_dir: str) -> None:
    """The directory is made for its owner alone, and so are the files in it."""
    with PositionLock("btc-1", lock_dir=lock_dir) as lock:
        assert Path(lock_dir).stat().st_mode & 0o777 == 0o700
        assert Path(lock.path).stat().st_mode & 0o777 == 0o600


def test_the_default_directory_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$POSLOCK_DIR, else the user's state directory."""
    monkeypatch.setenv("POSLOCK_DIR", str(tmp_path / "here"))
    assert PositionLock("btc-1").path.startswith(str(tmp_path / "here"))
    monkeypatch.delenv("POSLOCK_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert PositionLock("btc-1").path.startswith(str(tmp_path / "state" / "poslock"))


def test_a_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """Anybody could plant a record there."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(LockFileError, match="writable by everybody"):
        PositionLock("btc-1", lock_dir=tmp_path / "open").acquire()


def test_a_lock_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LockFileError, match="file"):
        PositionLock("btc-1", lock_dir=tmp_path / "file").acquire()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "directory"])
def test_a_planted_lock_file_is_refused(tmp_path: Path, kind: str) -> None:
    """What is no plain file of our own is named and left as it was."""
    lock = PositionLock("btc-1", lock_dir=tmp_path / "locks")
    (tmp_path / "locks").mkdir(mode=0o700)
    victim, path = tmp_path / "victim", Path(lock.path)
    victim.write_text("precious")
    match kind:
        case "symlink":
            path.symlink_to(victim)
        case "hard link":
            path.hardlink_to(victim)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
    with pytest.raises(LockError, match=r"btc-1-[0-9a-f]{16}\.lock"):
        lock.acquire()
    assert victim.read_text() == "precious"


def test_many_threads_take_many_locks(lock_dir: str) -> None:
    """What the process remembers of its holds is touched by all of them at once."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(60):
                with PositionLock(f"p{number}-{turn % 7}", lock_dir=lock_dir) as lock:
                    lock.check()
        except BaseException as error:  # noqa: BLE001  # none is expected
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


def test_the_thread_that_owns_a_lock_is_known_as_such(lock_dir: str) -> None:
    """A failed acquire of another thread does not take its place, and a thread that has ended is nobody's."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    outcomes: list[object] = []

    def other() -> None:
        for each in (lock, PositionLock("btc-1", lock_dir=lock_dir, timeout=0)):
            try:
                each.acquire()
            except (LockAlreadyHeld, LockTimeout) as error:
                outcomes.append(type(error))

    for target in (lock.acquire, other, other):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert outcomes == [LockAlreadyHeld, LockTimeout] * 2
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0).acquire()


@pytest.mark.parametrize("call", ["unlock", "close"])
def test_a_failing_unlock_or_close_strands_nothing(tmp_path: Path, call: str) -> None:
    """What was done under the OS lock is done: the grant counts, and the file is free for the next transition."""

    def fail_afterwards(descriptor: int) -> None:
        SYSTEM.close(descriptor)
        raise OSError(EIO, "Input/output error")

    clock = Clock()
    calls = {"unlock": failing(OSError(EIO, "Input/output error")), "close": fail_afterwards}
    directory = clock.directory(tmp_path / "locks", **{call: calls[call]})
    lock = PositionLock("btc-1", lock_dir=directory)
    lock.acquire()
    lock.check()
    lock.release()
    PositionLock("btc-1", lock_dir=clock.directory(tmp_path / "locks"), timeout=0).acquire()
