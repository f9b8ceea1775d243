"""File systems on which locks do not exclude everybody: refused by name, or because nobody knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from poslock import LockFileError, PositionLock
from poslock.lock.files.safety import overlay_above
from poslock_cli.mounts import file_system, judge
from systems import Clock
from tracing import succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OBJECTS = (
    "gcsfuse",
    "blobfuse",
    "blobfuse2",
    "mount-s3",
    "goofys",
    "geesefs",
    "s3fs",
    "objectivefs",
    "cunofs",
    "rclone",
)
_HOSTS = (
    "ceph-fuse",
    "mfs",
    "lizardfs",
    "seaweedfs",
    "juicefs",
    "glusterfs",
    "sshfs",
    "vmhgfs-fuse",
    "rclone",
    "portal",
)
_DESKTOPS = ("drvfs", "9p", "virtiofs", "prl_fs", "vboxsf", "lifs", "fuse.macfuse", "fuse.bindfs", "fuse")
_NEVER = ("fakeowner", "fuse.grpcfuse", "grpcfuse", "fuse.osxfs", "osxfs")


def on(kind: str, path: Path) -> PositionLock:
    """A lock in a directory on a file system of that type."""
    table = f"1 0 0:1 / {path} rw - {kind} somewhere rw\n"
    return PositionLock("btc-1", lock_dir=Clock().directory(path / "locks", mount_table=lambda: table))


@pytest.mark.parametrize("kind", [*(f"fuse.{each}" for each in (*_OBJECTS, *_HOSTS)), *_DESKTOPS, *_NEVER])
def test_what_may_not_exclude_everybody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """By the lock and by the doctor; the operator's word helps where one host alone may use it."""
    assert judge(kind, "/x").verdict == "REFUSED"
    with pytest.raises(LockFileError, match=kind):
        on(kind, tmp_path).acquire()
    monkeypatch.setenv("POSLOCK_ALLOW_NETWORK", "1")
    if kind in _NEVER:
        assert judge(kind, "/x").verdict == "REFUSED"
        with pytest.raises(LockFileError, match=r"on a local disk$"):
            on(kind, tmp_path).acquire()
    else:
        assert judge(kind, "/x").verdict == "warning"
        on(kind, tmp_path).acquire()


TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:50 / /merged\\040here rw - overlay overlay rw,lowerdir=/lower,upperdir=/data/upper\\040dir,workdir=/data/work
41 22 0:51 / /rootless rw - overlay overlay rw,lowerdir=l/A,upperdir=diff,workdir=work
42 22 0:52 / /bare rw - overlay
damaged line
"""


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/data/upper dir/locks", "/merged here"),
        ("/data/upper dir", "/merged here"),
        ("/data/upper", None),
        ("/lower/locks", None),
        ("/merged here/locks", None),
        ("/diff", None),
    ],
)
def test_an_upper_directory_is_known_by_the_mount_table(path: str, point: str | None) -> None:
    """Wherever it is in it, and by whole names."""
    assert overlay_above(path, TABLE) == point


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A real overlay: its upper directory, and where it is mounted."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount")
    lower, upper, work, merged = (tmp_path / each for each in ("lower", "upper", "work", "merged"))
    for each in (lower, upper, work, merged):
        each.mkdir(mode=0o700)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if not succeeds("mount", "-t", "overlay", "overlay", "-o", options, str(merged)):
        pytest.skip("no overlay can be mounted here")
    try:
        yield upper, merged
    finally:
        assert succeeds("umount", "-l", str(merged))


def test_a_live_holder_on_an_overlay_is_not_robbed_through_the_upper_directory(overlay: tuple[Path, Path]) -> None:
    """Its presence there is another inode, which nobody has locked; so that directory is refused, by the doctor too."""
    upper, merged = overlay
    holder = PositionLock("btc-1", lock_dir=merged / "locks")
    holder.acquire()
    with pytest.raises(LockFileError, match=f"upper directory of the overlay on {merged}"):
        PositionLock("btc-1", lock_dir=upper / "locks", timeout=0).acquire()
    holder.check()
    assert file_system(str(upper / "locks")).verdict == "REFUSED"
    seen = file_system(str(merged / "locks"))
    assert seen.verdict == "warning"
    assert "upper directory" in seen.reason
    holder.release()
