"""Hostile directories, planted objects, exhausted systems: a clear error, nobody let in, nothing of others touched."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from poslock import LockFileError, LockLost, LockTimeout, PositionLock
from poslock.lock.files.directory import open_directory
from poslock.lock.record import decode
from poslock.lock.status import lock_statuses
from tracing import LockChild, LockChildren, succeeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What hangs on a planted object hangs for good.
pytestmark = pytest.mark.timeout(20)

IS_ROOT = os.geteuid() == 0
STRANGER = 12_345
NOBODY = 65_534
_NULL = os.makedev(1, 3)
_NEEDS_ROOT = {"device", "file of another user", "directory of another user"}
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root, to give files away")
NO_FILES = ["symlink", "dangling symlink", "hard link", "fifo", "directory", "device", "socket", "file of another user"]
NO_FOLDERS = [
    "file",
    "symlink",
    "symlink to a directory",
    "dangling symlink",
    "fifo",
    "device",
    "socket",
    "directory of another user",
    "directory for everybody",
]


@pytest.fixture
def start() -> Iterator[LockChildren]:
    with LockChildren() as children:
        yield children


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB and 64 files; ask for it before `start`, so that its users end before it does."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not succeeds("mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64,mode=700", "tmpfs", folder):
        pytest.skip("needs root, and permission to mount")
    try:
        yield folder
    finally:
        assert succeeds("umount", "--lazy", folder)


class Victims:
    """A file and a directory of somebody's, and objects planted in front of them."""

    def __init__(self, folder: Path) -> None:
        self.file, self.directory, self.nothing = folder / "precious", folder / "precious.d", folder / "nothing"
        folder.mkdir()
        self.file.write_text("precious")
        self.directory.mkdir()
        self.directory.chmod(0o750)
        self._planted: list[Path] = []
        self._before: list[tuple[Any, ...]] = []

    def plant(self, kind: str, path: Path) -> None:
        if kind in _NEEDS_ROOT and not IS_ROOT:
            pytest.skip("needs root, for devices and foreign owners")
        make: dict[str, Callable[[], object]] = {
            "symlink": lambda: path.symlink_to(self.file),
            "symlink to a directory": lambda: path.symlink_to(self.directory),
            "dangling symlink": lambda: path.symlink_to(self.nothing),
            "hard link": lambda: path.hardlink_to(self.file),
            "fifo": lambda: os.mkfifo(path, 0o600),
            "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o600),
            "device": lambda: os.mknod(path, stat.S_IFCHR | 0o600, _NULL),
            "file": lambda: path.touch(0o600),
            "directory": lambda: path.mkdir(0o700),
        }
        make[kind.partition(" of another user")[0].partition(" for everybody")[0]]()
        if kind.endswith("of another user"):
            os.chown(path, STRANGER, STRANGER)
        if kind.endswith("for everybody"):
            path.chmod(0o777)
        self._planted.append(path)
        self.look()

    def look(self) -> None:
        """This is how it is to stay."""
        self._before = self._look()

    def assert_untouched(self, *, but: Path | None = None) -> None:
        before = [each for each in self._before if each[0] != but]
        assert [each for each in self._look() if each[0] != but] == before
        assert not self.nothing.exists()

    def _look(self) -> list[tuple[Any, ...]]:
        paths = [self.file, self.directory, *self._planted]
        looks = [(path, os.lstat(path)) for path in paths if os.path.lexists(path)]
        content: list[tuple[Any, ...]] = [("content", self.file.read_bytes())]
        content += [(p, sorted(os.listdir(p))) for p in paths if p.is_dir()]
        return content + [(p, s.st_ino, s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns) for p, s in looks]


@pytest.fixture
def victims(tmp_path: Path) -> Victims:
    return Victims(tmp_path / "victims")


def used(lock_dir: str) -> Path:
    """A lock directory in which somebody has locked before."""
    with PositionLock("first", lock_dir=lock_dir):
        pass
    return Path(lock_dir)


def refused(lock: PositionLock, *, naming: Path) -> None:
    """Acquire must end in an error that names the object and leaves nothing held."""
    with pytest.raises(LockFileError, match=re.escape(str(naming))):
        lock.acquire(timeout=0)
    assert not lock.held


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_planted_in_place_of_a_lock_file_is_refused(kind: str, lock_dir: str, victims: Victims) -> None:
    """No plain file of our own: an error that names it; what it leads to is as it was; status shows it."""
    used(lock_dir)
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    victims.plant(kind, Path(lock.path))
    refused(lock, naming=Path(lock.path))
    states = {status.path: status.state for status in lock_statuses(open_directory(lock_dir))}
    assert states[lock.path] == "corrupt"
    victims.assert_untouched()


@pytest.mark.parametrize("call", ["check", "renew", "release"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_planted_while_the_lock_is_held_is_no_hold(
    kind: str, call: str, lock_dir: str, victims: Victims
) -> None:
    """The holder's file is swapped for something else: it learns so at its next call, whichever that is."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    lock.acquire()
    Path(lock.path).rename(Path(lock_dir, "moved"))
    victims.plant(kind, Path(lock.path))
    with pytest.raises((LockLost, LockFileError), match=re.escape(lock.path)):
        getattr(lock, call)()
    victims.assert_untouched()


@pytest.mark.parametrize("kind", NO_FOLDERS)
def test_what_is_planted_in_place_of_the_presence_folder_is_refused(kind: str, lock_dir: str, victims: Victims) -> None:
    """Presence files anywhere else, or where others may remove them, would let others decide who is alive."""
    Path(lock_dir).mkdir(mode=0o700)
    victims.plant(kind, Path(lock_dir, ".presence"))
    refused(PositionLock("btc-1", lock_dir=lock_dir), naming=Path(lock_dir, ".presence"))
    victims.assert_untouched()


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_planted_in_place_of_a_presence_file_says_nothing_about_its_process(
    kind: str, start: LockChildren, lock_dir: str, victims: Victims
) -> None:
    """It can be locked, but that does not make the holder dead: unknown, so the lease decides."""
    child = start("perform", stale_after=3600)
    child.ask(f"lock btc-1 {lock_dir}")
    assert child.ask("acquire") == {"outcome": "ok"}
    presence, life_line = sorted(Path(lock_dir, ".presence").iterdir())
    assert re.fullmatch(f"{presence.name}-[0-9a-f]+[.]life", life_line.name)
    presence.rename(Path(lock_dir, "moved"))
    victims.plant(kind, presence)
    with pytest.raises(LockTimeout):
        PositionLock("btc-1", lock_dir=lock_dir, timeout=0.2).acquire()
    assert child.ask("check") == {"outcome": "ok"}
    victims.assert_untouched()


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_planted_in_place_of_the_maintenance_lock_is_left_alone(
    kind: str, start: LockChildren, lock_dir: str, victims: Victims
) -> None:
    """A lock file stays busy for longer than a lease: whoever wants to replace it takes no planted maintenance lock."""
    maintenance = used(lock_dir) / ".maintenance"
    with suppress(FileNotFoundError):
        maintenance.unlink()
    victims.plant(kind, maintenance)
    child = start("perform", stale_after=0.3)
    child.ask(f"lock first {lock_dir}")
    with open(PositionLock("first", lock_dir=lock_dir).path, "rb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        ended = child.ask("acquire 1")
    assert ended["outcome"] in {"LockTimeout", "LockFileError"}
    victims.assert_untouched()
    if ended["outcome"] == "LockFileError":
        assert str(maintenance) in ended["text"]


@pytest.mark.parametrize("name", ["new", "replaced"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_planted_where_a_busy_file_is_replaced_leads_nowhere(
    kind: str, name: str, start: LockChildren, lock_dir: str, victims: Victims
) -> None:
    """Removed or refused by name, but neither followed nor written to; and it is no trap for those who come later."""
    used(lock_dir)
    path = Path(PositionLock("first", lock_dir=lock_dir).path)
    planted = path.with_name(f"{path.name}.{name}")
    victims.plant(kind, planted)
    child = start("perform", stale_after=0.3)
    child.ask(f"lock first {lock_dir}")
    with path.open("rb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        ended = child.ask("acquire 2")
    assert ended["outcome"] == "ok" or (ended["outcome"] == "LockFileError" and str(planted) in ended["text"]), ended
    victims.assert_untouched(but=planted)
    if planted.is_dir():
        planted.rmdir()
    if ended["outcome"] == "ok":
        assert child.ask("release") == {"outcome": "ok"}
    with PositionLock("first", lock_dir=lock_dir, timeout=2) as lock:
        lock.check()


@pytest.mark.parametrize(
    "kind",
    [each for each in NO_FOLDERS if each not in {"symlink to a directory", "dangling symlink"}],
)
def test_what_is_no_directory_of_our_own_is_refused(kind: str, lock_dir: str, victims: Victims) -> None:
    """As lock directory: an error that names it, and nothing is created there."""
    victims.plant(kind, Path(lock_dir))
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    refused(lock, naming=Path(lock_dir).resolve())
    victims.assert_untouched()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_link_to_a_directory_for_everybody_is_refused(mode: int, lock_dir: str, victims: Victims) -> None:
    """Where the link leads is what counts; a sticky bit does not help, for anybody can still plant files."""
    victims.directory.chmod(mode)
    victims.plant("symlink to a directory", Path(lock_dir))
    refused(PositionLock("btc-1", lock_dir=lock_dir), naming=victims.directory)
    victims.assert_untouched()


@needs_root
def test_a_directory_that_another_group_may_write_is_refused(lock_dir: str) -> None:
    """Its members could plant files as well as everybody could; sharing with a group is asked for by setgid."""
    Path(lock_dir).mkdir()
    os.chown(lock_dir, -1, STRANGER)
    Path(lock_dir).chmod(0o770)
    refused(PositionLock("btc-1", lock_dir=lock_dir), naming=Path(lock_dir))
    assert os.listdir(lock_dir) == []


def test_links_in_a_circle_are_refused(lock_dir: str) -> None:
    """A lock directory that leads nowhere is a typed error, not a traceback."""
    Path(lock_dir).symlink_to(lock_dir)
    with pytest.raises(LockFileError, match=re.escape(lock_dir)):
        PositionLock("btc-1", lock_dir=lock_dir).acquire(timeout=0)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_path_that_can_be_none_is_refused(name: str, tmp_path: Path) -> None:
    """As any other directory that cannot be used: by its path, before there is a lock."""
    lock_dir = f"{tmp_path}/{name}"
    with pytest.raises(LockFileError) as caught:
        PositionLock("btc-1", lock_dir=lock_dir)
    assert caught.value.path == lock_dir
    assert lock_dir in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("gone", ["file", "directory", "directory and another one in its place"])
def test_a_holder_whose_files_are_deleted_has_lost_and_another_one_gets_in(
    gone: str, start: LockChildren, lock_dir: str
) -> None:
    """Once the file is gone nobody can tell who held: the holder must stop, the next one starts afresh."""
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    lock.acquire()
    if gone == "file":
        Path(lock.path).unlink()
    else:
        shutil.move(lock_dir, f"{lock_dir}-moved")
    if gone.endswith("place"):
        Path(lock_dir).mkdir(mode=0o700)
    with pytest.raises(LockLost):
        lock.check()
    child = start("perform", stale_after=60)
    child.ask(f"lock btc-1 {lock_dir}")
    assert child.ask("acquire") == {"outcome": "ok"}
    for call in (lock.check, lock.renew, lock.release):
        with pytest.raises(LockLost):
            call()
    assert child.ask("check") == {"outcome": "ok"}
    assert child.ask("release") == {"outcome": "ok"}
    again = PositionLock("btc-1", lock_dir=lock_dir)  # this process's own presence was lost with the directory
    again.acquire(timeout=1)
    again.check()


def fill(folder: Path, *, with_files: bool) -> list[Path]:
    """Use up the space, or the inodes; returns what to remove."""
    fillers: list[Path] = []
    try:
        while True:
            fillers.append(folder / f"filler-{len(fillers)}")
            fillers[-1].write_bytes(b"" if with_files else bytes(4096))
    except OSError:
        return [each for each in fillers if each.exists()]


def assert_refused(ended: dict[str, Any], *, naming: Path | str) -> None:
    assert ended["outcome"] == "LockFileError", ended
    assert str(naming) in ended["text"]


def opened(child: LockChild) -> list[str]:
    """What *child* has open; presence files and pipes go by another name in each process."""
    return [re.sub(r"(/\.presence|pipe:).*", r"\1", each) for each in child.ask("descriptors")["open"]]


def assert_all_goes_on(child: LockChild) -> None:
    assert [child.ask(word)["outcome"] for word in ("acquire", "check", "renew", "release")] == ["ok"] * 4


@pytest.mark.parametrize("with_files", [False, True], ids=["no space", "no inodes"])
def test_a_full_disk_lets_nobody_in_and_stops_no_holder(disk: Path, start: LockChildren, *, with_files: bool) -> None:
    """A new lock is refused by name with no half record left; who holds can renew and release; then all goes on."""
    lock_dir = disk / "locks"
    holder, late, calm = (start("perform", stale_after=60) for _ in range(3))
    holder.ask(f"lock btc-1 {lock_dir}")
    assert holder.ask("acquire") == {"outcome": "ok"}
    for child in (calm, late):
        child.ask(f"lock btc-2 {lock_dir}")
    fillers = fill(disk, with_files=with_files)
    for _ in range(3):
        assert_refused(late.ask("acquire"), naming=lock_dir)
    path = Path(PositionLock("btc-2", lock_dir=lock_dir).path)
    assert not path.exists() or decode(path.read_bytes()) is None
    assert [holder.ask(word)["outcome"] for word in ("check", "renew", "check", "release")] == ["ok"] * 4
    for each in fillers:
        each.unlink()
    assert_all_goes_on(calm)
    assert_all_goes_on(late)
    assert opened(late) == opened(calm)


@pytest.mark.parametrize("size", [1, 200, 1024])
def test_half_a_record_is_taken_back(size: int, start: LockChildren, lock_dir: str) -> None:
    """The disk takes the first part of a record only: the grant is refused, and the next one need not wait."""
    used(lock_dir)
    child, rival = (start("perform", stale_after=60) for _ in range(2))
    child.ask(f"limit_file_size {size}")  # as a quota does, or a disk with small blocks that is almost full
    for each in (child, rival):
        each.ask(f"lock btc-1 {lock_dir}")
    assert_refused(child.ask("acquire"), naming=lock_dir)
    assert_all_goes_on(rival)


def test_a_disk_that_becomes_read_only_loses_nothing(disk: Path, start: LockChildren) -> None:
    """Everybody is told by name what is wrong, nobody is let in; once it is writable, the hold is as it was."""
    lock_dir = disk / "locks"
    holder, late = (start("perform", stale_after=60) for _ in range(2))
    for child in (holder, late):
        child.ask(f"lock btc-1 {lock_dir}")
    assert holder.ask("acquire") == {"outcome": "ok"}
    assert late.ask("acquire")["outcome"] == "LockTimeout"
    before = opened(holder), opened(late)
    # A file system with files open for writing does not become read-only by asking, only by an error; to whoever
    # opens a path, a read-only mount over it looks the same.
    assert succeeds("mount", "--bind", disk, disk)
    try:
        assert succeeds("mount", "-o", "remount,bind,ro", disk)
        for _ in range(3):
            late_ended, ended = late.ask("acquire"), [holder.ask(word) for word in ("check", "renew")]
            assert late_ended["outcome"] in {"LockFileError", "LockTimeout"}, late_ended
            assert str(lock_dir) in late_ended["text"]
            assert all(each["outcome"] == "ok" or str(lock_dir) in each["text"] for each in ended), ended
    finally:
        assert succeeds("umount", disk)
    assert late.ask("acquire")["outcome"] == "LockTimeout"
    assert (opened(holder), opened(late)) == before
    assert [holder.ask(word)["outcome"] for word in ("check", "renew", "release")] == ["ok"] * 3
    assert_all_goes_on(late)


def test_a_new_lock_on_a_read_only_disk_is_refused(disk: Path, start: LockChildren) -> None:
    """Before anybody has locked there: an error that names the directory; once it is writable, all goes on."""
    child = start("perform", stale_after=60)
    child.ask(f"lock btc-1 {disk / 'locks'}")
    assert succeeds("mount", "-o", "remount,ro", disk)
    assert_refused(child.ask("acquire"), naming=disk / "locks")
    assert succeeds("mount", "-o", "remount,rw", disk)
    assert_all_goes_on(child)


@pytest.fixture
def unprivileged() -> Iterator[tuple[Path, list[str]]]:
    """A directory of a user who is not root, and the command to run as that user."""
    folder = Path(tempfile.mkdtemp())
    under: list[str] = []
    if IS_ROOT:
        os.chown(folder, NOBODY, NOBODY)
        under = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, because root may write anywhere")
    try:
        yield folder, under
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("part", ["locks", "locks/.presence"])
def test_a_directory_without_write_permission_is_refused(
    part: str, unprivileged: tuple[Path, list[str]], start: LockChildren
) -> None:
    """The error names it, nothing stays open, and once it is writable all goes on."""
    folder, under = unprivileged
    child = start("perform", under=under, stale_after=60)
    child.ask(f"lock btc-1 {folder / 'locks'}")
    assert_all_goes_on(child)
    late = start("perform", under=under, stale_after=60)
    late.ask(f"lock btc-2 {folder / 'locks'}")
    before = opened(late)
    (folder / part).chmod(0o500)
    assert_refused(late.ask("acquire"), naming=folder / "locks")
    # Its presence may have been made by then.
    assert [each for each in opened(late) if not each.endswith("/.presence")] == before
    (folder / part).chmod(0o700)
    assert_all_goes_on(late)


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_without_descriptors_nobody_is_let_in_and_nobody_thrown_out(
    spare: int, start: LockChildren, lock_dir: str
) -> None:
    """RLIMIT_NOFILE reached: typed errors that name the file, or success; then all goes on, with nothing left open."""
    used(lock_dir)
    child, calm = (start("perform", stale_after=60) for _ in range(2))
    for each in (calm, child):
        each.ask(f"lock btc-1 {lock_dir}")
    assert_all_goes_on(calm)
    for needs_hold in (False, True):
        if needs_hold:
            assert child.ask("acquire") == {"outcome": "ok"}
        child.ask(f"starve {spare}")
        ended = [child.ask(word) for word in (["check", "renew", "check"] if needs_hold else ["acquire"])]
        assert all(each["outcome"] == "ok" or lock_dir in each["text"] for each in ended), ended
        assert {each["outcome"] for each in ended} <= {"ok", "LockFileError"}
        child.ask("feed")
        if needs_hold or ended[0]["outcome"] == "ok":
            assert calm.ask("acquire")["outcome"] == "LockTimeout"
            assert [child.ask(word)["outcome"] for word in ("check", "release")] == ["ok", "ok"]
        assert_all_goes_on(calm)
        assert_all_goes_on(child)
    assert opened(child) == opened(calm)


# Another directory in the place of ours.


def swapped_in(lock_dir: Path, kind: str, victims: Victims) -> None:
    """Move the lock directory away and put something else there, as who may write its parent could: ready for use."""
    lock_dir.rename(lock_dir.with_name("moved"))
    victims.plant(kind, lock_dir)
    if lock_dir.is_dir():
        (lock_dir / ".presence").mkdir()
        victims.look()


SWAPPED = ["directory of another user", "directory for everybody", "symlink to a directory", "file"]


@pytest.mark.parametrize("kind", SWAPPED)
def test_a_directory_that_is_swapped_in_under_a_running_bot_is_refused(
    kind: str, lock_dir: str, victims: Victims
) -> None:
    """As a new bot refuses it: no file and no presence is made there, whether the lock was used before or not."""
    used(lock_dir)
    before = PositionLock("first", lock_dir=lock_dir)
    swapped_in(Path(lock_dir), kind, victims)
    for lock in (before, PositionLock("new", lock_dir=before._store)):
        refused(lock, naming=Path(lock_dir))
    victims.assert_untouched()
    assert [path for path in Path(lock_dir).rglob("*") if path.is_file()] == []


def test_a_directory_of_our_own_that_is_swapped_in_is_used(lock_dir: str) -> None:
    """It is looked at again, and found good; what is planted in it is not."""
    used(lock_dir)
    lock = PositionLock("first", lock_dir=lock_dir)
    Path(lock_dir).rename(f"{lock_dir}-moved")
    Path(lock_dir).mkdir(mode=0o700)
    with lock:
        lock.check()
    Path(lock_dir).rename(f"{lock_dir}-moved-2")
    Path(lock_dir).mkdir(mode=0o700)
    Path(lock_dir, ".presence").symlink_to(f"{lock_dir}-moved/.presence")
    refused(lock, naming=Path(lock_dir, ".presence"))


def test_a_directory_that_everybody_may_write_by_now_is_refused(lock_dir: str) -> None:
    """It is the same directory, but not what it was."""
    lock = PositionLock("new", lock_dir=str(used(lock_dir)))
    Path(lock_dir).chmod(0o777)
    refused(lock, naming=Path(lock_dir))


@pytest.mark.parametrize(
    ("mode", "owner", "group", "fault"),
    [
        (0o777, -1, -1, "writable by everybody"),
        (0o1777, -1, -1, ""),
        (0o775, -1, STRANGER, f"writable by group {STRANGER}"),
        (0o1775, -1, STRANGER, ""),
        (0o775, -1, -1, ""),
        (0o755, STRANGER, -1, f"belongs to user {STRANGER}"),
        (0o1755, STRANGER, -1, f"belongs to user {STRANGER}"),
        (0o755, NOBODY, -1, ""),  # as a user namespace shows what is outside of it
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_in_one_that_others_may_write_is_refused(
    tmp_path: Path, mode: int, owner: int, group: int, fault: str, *, exists: bool
) -> None:
    """They could put another one in its place, however far above; nothing is made there."""
    if not IS_ROOT and (owner, group) != (-1, -1):
        pytest.skip("needs root, to give directories away")
    parent = tmp_path / "parent"
    lock_dir = parent / "between" / "locks"
    if exists:
        lock_dir.mkdir(mode=0o700, parents=True)
    else:
        parent.mkdir()
    os.chown(parent, owner, group)
    parent.chmod(mode)
    lock = PositionLock("btc-1", lock_dir=lock_dir)
    if not fault:
        with lock:
            lock.check()
        return
    with pytest.raises(LockFileError, match=fault) as caught:
        lock.acquire()
    assert caught.value.path == str(parent)
    assert "chmod +t" in str(caught.value)
    assert [path for path in parent.rglob("*") if path.is_file()] == []
    assert exists or list(parent.iterdir()) == []


def test_directories_that_a_daemon_makes_are_not_for_everybody(tmp_path: Path) -> None:
    """Its umask is 0: the parents of a lock directory would be refused by the next bot."""
    before = os.umask(0)
    try:
        with PositionLock("btc-1", lock_dir=tmp_path / "a" / "b" / "locks"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/locks")] == [
        0o755,
        0o755,
        0o700,
    ]
