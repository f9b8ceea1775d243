"""Is a directory one into which only we, or the group we share it with, can put files, and only this host?

The kernels of several hosts that mount one file system know nothing of each other's locks and processes.
"""

from __future__ import annotations

import re
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

# fmt: off
NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "curlftpfs", "davfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "juicefs", "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "rclone", "s3fs",
    "smb3", "smbfs", "sshfs", "vboxsf", "virtiofs", "vmhgfs", "vmhgfs-fuse", "vxfs", "weka", "wekafs",
})
# fmt: on
_ESCAPE = re.compile(r"\\([0-7]{3})")
# Root; and what a user namespace shows as owner of whatever belongs to nobody in it, such as the root directory.
_TRUSTED_USERS, _TRUSTED_GROUPS = {0, 65_534}, {0}
_POINT = 4  # the field of a line that holds the mount point


def directory_fault(status: os.stat_result, user_id: int, own_group: int, group: int | None) -> str | None:
    """What is wrong with a directory of ours, None if nothing is. *group* is whom it is shared with, if any."""
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    if status.st_uid != user_id and group is None:
        return f"belongs to user {status.st_uid}"
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
    meant = status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IWGRP and status.st_gid in groups
    return status.st_gid if meant else None


def mount_of(path: str, table: str) -> tuple[str, str] | None:
    """File system type and mount point of *path*, by a *table* in the format of ``/proc/self/mountinfo``."""
    best = None
    for line in table.splitlines():
        # ID parent major:minor root MOUNT-POINT options [optional fields] - TYPE source options
        mount, _, kind = line.partition(" - ")
        fields, types = mount.split(), kind.split()
        if len(fields) <= _POINT or not types:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[_POINT])
        # The longest one wins; of two on the same point the later one, which hides the other.
        if PurePosixPath(path).is_relative_to(point) and (best is None or len(point) >= len(best[1])):
            best = (types[0], point)
    return best


def is_network(kind: str) -> bool:
    """Whether a file system of this type can be shared by several hosts."""
    return kind.removeprefix("fuse.").removeprefix("fuseblk.") in NETWORK
