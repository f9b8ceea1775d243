"""Two processes replace a busy lock file at the same time, and one of them stops in the middle."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockLost, PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.replacing import replace_busy
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import Record
from poslock.lock.transitions import Transitions
from processes import PATIENCE
from systems import Amiss, Clock, elsewhere, once_after, once_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def replacer(lock_dir: str, **calls: Callable[..., Any]) -> Callable[[], None]:
    directory = LockDirectory(lock_dir, Amiss(**calls))
    file = Transitions(directory, "btc-1").entry
    return lambda: replace_busy(directory, file.path)


@pytest.mark.parametrize("is_before", [True, False], ids=["listed before", "listed after"])
def test_a_copy_older_than_the_file_is_never_put_in_its_place(lock_dir: str, *, is_before: bool) -> None:
    """The first one stops before it renames its copy, the second one replaces the file, and an operator clears it.

    The second one looked for what others had begun before the first one did begin, or after it. When the first one goes
    on, the record of before the clearing must not come back: who was cleared has lost.
    """
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
    holder.acquire()
    busy = SYSTEM.open(holder.path)
    assert SYSTEM.try_lock(busy)
    listed, goes_on = threading.Event(), threading.Event()

    def listing(path: str) -> Iterator[str]:
        names = list(SYSTEM.listing(path))
        listed.set()
        assert goes_on.wait(PATIENCE)
        return iter(names)

    def replaces() -> None:
        try:
            replacer(lock_dir, listing=listing)()
        finally:  # nobody waits for a look that does not come
            listed.set()

    second = threading.Thread(target=replaces)

    def looks() -> None:
        second.start()
        assert listed.wait(PATIENCE)

    def finishes() -> None:
        goes_on.set()
        second.join(PATIENCE)
        assert not second.is_alive()
        Transitions(Clock().directory(lock_dir), "btc-1").clear(force=True)

    begin = (once_before if is_before else once_after)(looks, SYSTEM.create)
    replacer(lock_dir, create=begin, rename=once_before(finishes, SYSTEM.rename))()
    with pytest.raises(LockLost):
        holder.check()
    SYSTEM.close(busy)
    record = Transitions(elsewhere(lock_dir), "btc-1").entry.peek()
    assert isinstance(record, Record)
    assert record.state == "free"


def test_one_of_two_who_replace_a_file_does_it(lock_dir: str) -> None:
    """The second one comes to the first one's help when it lives: what it withdrew is begun again."""
    holder = PositionLock("btc-1", lock_dir=elsewhere(lock_dir))
    holder.acquire()
    busy = SYSTEM.open(holder.path)
    assert SYSTEM.try_lock(busy)
    inode = SYSTEM.stat(holder.path).st_ino
    second = replacer(lock_dir, rename=lambda *_: (_ for _ in ()).throw(FileNotFoundError))
    replacer(lock_dir, rename=once_before(second, SYSTEM.rename))()
    assert SYSTEM.stat(holder.path).st_ino != inode
    assert SYSTEM.stat(holder.path).st_nlink == 1
    holder.check()
    SYSTEM.close(busy)


def test_a_file_that_was_busy_long_ago_is_not_replaced_at_once(lock_dir: str) -> None:
    """Only one who has found it busy again and again for half a second knows that somebody was stopped there."""
    holder, clock = PositionLock("btc-1", lock_dir=elsewhere(lock_dir)), Clock()
    holder.acquire()
    busy = SYSTEM.open(holder.path)
    assert SYSTEM.try_lock(busy)
    file, before = clock.directory(lock_dir).entry("btc-1"), os.stat(holder.path)
    for pause, is_same in ((0, True), (10, True), (0.3, True), (0.3, False)):
        clock.sleep(pause)
        file.unblock()
        assert os.path.samestat(os.stat(holder.path), before) is is_same
    SYSTEM.close(busy)
