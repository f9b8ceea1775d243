"""Which file system a path is on, and whether it can carry locks."""

from __future__ import annotations

import os
from pathlib import Path

from poslock.lock.files.directory import ALLOW_NETWORK
from poslock.lock.files.safety import MountFault, is_of_program, mount_fault, mount_of, overlay_above
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
    if (point := overlay_above(path, table)) is not None:
        why = f"in the upper directory of the overlay on {point}: who uses it there does not see locks made here"
        return refused("file system", why, f"use it through {point}, or {_ELSEWHERE}")
    found = mount_of(path, table)
    return judge(*found) if found else _unknown("no mount point was found")


def judge(kind: str, point: str) -> Finding:
    """Whether locks on a file system of this type exclude everybody."""
    found = f"{kind}, mounted on {point}"
    if (fault := mount_fault(kind)) is not None:
        return _faulty(found, fault)
    if is_of_program(kind):
        return warning("file system", f"{found}: locks work if nobody uses it in another way", _ELSEWHERE)
    if kind == "overlay":
        why = f"{found}: other containers do not see it, and who uses its upper directory does not see locks made here"
        return warning("file system", why, "for bots in several containers use a volume that all of them mount")
    if kind in _IN_MEMORY:
        why = f"{found}: in memory; locks work, but a ledger in this directory is lost at a reboot"
        return warning("file system", why, "keep the ledger elsewhere (ledger=), or " + _ELSEWHERE)
    return ok("file system", found)


def _faulty(found: str, fault: MountFault) -> Finding:
    why = f"{found}: {fault.why}"
    if not fault.only_if_shared:
        return refused("file system", why, f"{_ELSEWHERE}: in a container a named volume")
    if os.environ.get(ALLOW_NETWORK):
        return warning("file system", f"{why}; {ALLOW_NETWORK} is set", "let no other host use it")
    return refused("file system", why, f"{_ELSEWHERE}, or set {ALLOW_NETWORK}=1 if one host alone uses it")


def _unknown(why: str) -> Finding:
    return warning("file system", f"unknown: {why}", "make sure that it is no network file system")
