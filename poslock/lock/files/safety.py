"""Is a directory one into which only we, or the group we share it with, can put files, and only this host?

The kernels of several hosts that mount one file system know nothing of each other's locks and processes.
"""

from __future__ import annotations

import re
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os

PLANTED = "poslock did not make it: look at it, and put it elsewhere"
# fmt: off
# Other hosts, or the host of this virtual machine, have the same files open; or they are objects in somebody's store.
_SHARED = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "curlftpfs", "davfs", "drvfs", "gfs", "gfs2", "glusterfs",
    "gpfs", "juicefs", "lifs", "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2",
    "rclone", "s3fs", "smb2", "smb3", "smbfs", "sshfs", "vboxsf", "virtiofs", "vmhgfs", "vxfs", "weka", "wekafs",
})
# What these programs show is on a local disk, and nobody is meant to reach it in another way. (ADR 0022)
_LOCAL_PROGRAMS = frozenset({
    "cryfs", "encfs", "exfat", "exfat-fuse", "fuse-overlayfs", "fuse2fs", "gocryptfs", "mergerfs", "ntfs", "ntfs-3g",
    "securefs", "unionfs", "unionfs-fuse", "zfs-fuse",
})
# fmt: on
# Docker Desktop: one file has two inodes there, and each its own lock, within one container even.
_NEVER_EXCLUDE = frozenset({"fakeowner", "fuse.grpcfuse", "fuse.osxfs", "grpcfuse", "osxfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")
# Root; and what a user namespace shows as owner of whatever belongs to nobody in it, such as the root directory.
_TRUSTED_USERS, _TRUSTED_GROUPS = {0, 65_534}, {0}
_POINT = 4  # the field of a line that holds the mount point


def file_fault(status: os.stat_result, user_id: int, group: int | None, *, names: int = 1) -> str | None:
    """What is wrong with a file of ours, None if nothing is. *group* is whom the directory is shared with, if any."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_nlink > names:
        return "has a second name (hard link)"
    if status.st_uid != user_id and (group is None or status.st_gid != group):
        return f"belongs to user {status.st_uid}"
    return None


def directory_fault(status: os.stat_result, user_id: int, own_group: int, group: int | None) -> str | None:
    """What is wrong with a directory of ours, None if nothing is. *group* is whom it is shared with, if any."""
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    if status.st_uid != user_id and group is None:
        not_with_us = f", who shares it with group {status.st_gid}" if _is_shared(status) else ""
        return f"belongs to user {status.st_uid}{not_with_us}"
    if status.st_mode & stat.S_IWOTH:
        return "is writable by everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in {own_group, group}:
        return f"is writable by group {status.st_gid}, and not shared on purpose (setgid)"
    return None


def parent_fault(status: os.stat_result, user_ids: set[int], groups: set[int | None]) -> str | None:
    """Who could put another directory in the place of one below this one, or of its parent; None if nobody could.

    Root can, and whoever may have *user_ids* or belong to *groups*: these are trusted with the lock directory, too.
    """
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    if status.st_uid not in user_ids | _TRUSTED_USERS:
        return f"belongs to user {status.st_uid}"
    if status.st_mode & stat.S_ISVTX:  # then nobody else may rename what is ours
        return None
    if status.st_mode & stat.S_IWOTH:
        return "is writable by everybody, and not sticky"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in groups | _TRUSTED_GROUPS:
        return f"is writable by group {status.st_gid}, and not sticky"
    return None


def sharing_group(status: os.stat_result, groups: frozenset[int]) -> int | None:
    """The group with which the owner of a directory shares it on purpose, if this process belongs to it."""
    return status.st_gid if _is_shared(status) and status.st_gid in groups else None


def way_in(status: os.stat_result, user_id: int) -> str:
    """What can be done about a `directory_fault` of a directory that one wants to keep."""
    if status.st_uid != user_id and _is_shared(status):
        return f"run as user {status.st_uid} or as a member of group {status.st_gid}"
    return "to keep it, chmod 700 it, or to share it, chgrp and chmod 2770"


def _is_shared(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IWGRP)


def mount_of(path: str, table: str) -> tuple[str, str] | None:
    """File system type and mount point of *path*, by a *table* in the format of ``/proc/self/mountinfo``."""
    best = None
    for line in table.splitlines():
        # ID parent major:minor root MOUNT-POINT options [optional fields] - TYPE source options
        mount, _, kind = line.partition(" - ")
        fields, types = mount.split(), kind.split()
        if len(fields) <= _POINT or not types:
            continue
        point = _unescaped(fields[_POINT])
        # The longest one wins; of two on the same point the later one, which hides the other.
        if PurePosixPath(path).is_relative_to(point) and (best is None or len(point) >= len(best[1])):
            best = (types[0], point)
    return best


class MountFault(NamedTuple):
    """Why locks on a file system may not exclude everybody; and whether they do if one host alone uses it."""

    why: str
    only_if_shared: bool = True


def mount_fault(kind: str) -> MountFault | None:
    """What is wrong with locks on a file system of this type, None if nothing is."""
    if kind in _NEVER_EXCLUDE:
        return MountFault("locks on it exclude nobody for certain", only_if_shared=False)
    if kind in _SHARED or kind.removeprefix("fuse.") in _SHARED:
        return MountFault("may be shared by several hosts, and one cannot see another one's locks and processes")
    if is_of_program(kind) and kind.removeprefix("fuse.") not in _LOCAL_PROGRAMS:
        return MountFault("is served by a program that is not known to keep it on this host")
    return None


def is_of_program(kind: str) -> bool:
    """Whether a program serves a file system of this type, and not the kernel."""
    return kind == "fuse" or kind.startswith("fuse.")


def overlay_above(path: str, table: str) -> str | None:
    """Where an overlay is mounted whose upper directory *path* is in, by a *table* as for `mount_of`.

    A file there and the same file seen through the overlay are two inodes, so their locks do not exclude each other.
    """
    for line in table.splitlines():
        mount, _, kind = line.partition(" - ")
        fields, (name, _, options) = mount.split(), (*kind.split(), "", "", "")[:3]
        if name != "overlay" or len(fields) <= _POINT:
            continue
        for option in options.split(","):
            upper = _unescaped(option.removeprefix("upperdir="))
            if option.startswith("upperdir=/") and PurePosixPath(path).is_relative_to(upper):
                return _unescaped(fields[_POINT])
    return None


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
