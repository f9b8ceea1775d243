"""Which file system a path is on, and whether it can carry locks."""

from __future__ import annotations

import os
from pathlib import Path

from poslock.lock.files.directory import ALLOW_NETWORK
from poslock.lock.files.safety import is_network, mount_of
from poslock_cli.findings import Finding, ok, refused, warning

MOUNT_TABLE = "/proc/self/mountinfo"
_IN_MEMORY = {"ramfs", "tmpfs"}
_ELSEWHERE = "use a directory on a local disk (--lock-dir, $POSLOCK_DIR)"


def file_system(path: str) -> Finding:
    """What the lock directory at *path* is on, by the system's mount table."""
    try:
        table = Path(MOUNT_TABLE).read_text("utf-8", "surrogateescape")
    except OSError as error:
        return _unknown(f"{MOUNT_TABLE} cannot be read: {error.strerror}")
    found = mount_of(path, table)
    return judge(*found) if found else _unknown("no mount point was found")


def judge(kind: str, point: str) -> Finding:
    """Whether locks on a file system of this type exclude everybody."""
    found = f"{kind}, mounted on {point}"
    if is_network(kind):
        why = f"{found}: may be shared by several hosts, and one host cannot see whether a process of another one lives"
        if os.environ.get(ALLOW_NETWORK):
            return warning("file system", f"{why}; {ALLOW_NETWORK} is set", "let no other host use it")
        return refused("file system", why, f"{_ELSEWHERE}, or set {ALLOW_NETWORK}=1 if one host alone uses it")
    if kind == "fuse" or kind.startswith("fuse."):
        return warning("file system", f"{found}: whether it is local, only its program knows", _ELSEWHERE)
    if kind in _IN_MEMORY:
        why = f"{found}: in memory; locks work, but a ledger in this directory is lost at a reboot"
        return warning("file system", why, "keep the ledger elsewhere (ledger=), or " + _ELSEWHERE)
    return ok("file system", found)


def _unknown(why: str) -> Finding:
    return warning("file system", f"unknown: {why}", "make sure that it is no network file system")
