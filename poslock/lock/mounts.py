"""Which file systems several hosts can mount at once.

Their kernels know nothing of each other's locks and processes.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# fmt: off
NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "curlftpfs", "davfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "juicefs", "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "rclone", "s3fs",
    "smb3", "smbfs", "sshfs", "vboxsf", "virtiofs", "vmhgfs", "vmhgfs-fuse", "vxfs", "weka", "wekafs",
})
# fmt: on
_ESCAPE = re.compile(r"\\([0-7]{3})")
_POINT = 4  # the field of a line that holds the mount point


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
