"""Is a lock directory safe, as far as looking at it can tell? Nothing is created but one file, removed at once."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from poslock.errors import PoslockError
from poslock.lock.files.directory import PARENT_WAY_OUT
from poslock.lock.files.safety import directory_fault, sharing_group, way_in
from poslock_cli.findings import Finding, are_safe, ok, refused, warning
from poslock_cli.mounts import file_system

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory

_MIB = 2**20
_TOO_LITTLE = _MIB
_LITTLE = 64 * _MIB
_READINGS = 1000
_OTHER_DIRECTORY = "use a directory of your own (--lock-dir, $POSLOCK_DIR)"


def examine(directory: LockDirectory) -> list[Finding]:
    """Everything short of the proof, in the order in which it is best read."""
    where = _directory(directory.path)
    findings = [where, *_access(directory), *_storage(_nearest(directory.path))]
    findings += [_boot_id(directory), _clock(directory)]
    if where.verdict == "ok" and are_safe(findings):
        findings.append(_writability(directory))
    return findings


def _directory(path: str) -> Finding:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return warning("directory", f"{path} does not exist; the first lock makes it", _made(path))
    except OSError as error:
        return refused("directory", f"{path}: {error.strerror}", _OTHER_DIRECTORY)
    if not stat.S_ISDIR(status.st_mode):
        return refused("directory", f"{path} is no directory", _OTHER_DIRECTORY)
    return ok("directory", path)


def _made(path: str) -> str:
    return f"check the spelling; to have it examined: mkdir -p -m 700 {path}"


def _access(directory: LockDirectory) -> list[Finding]:
    try:
        if (found := directory.parent_fault()) is not None:
            parent, fault = found
            reason = f"{parent} {fault}: others could put another directory in the place of this one"
            return [refused("access", reason, f"{_OTHER_DIRECTORY}, or {PARENT_WAY_OUT}")]
        status = os.stat(directory.path)
    except OSError:  # said above
        return []
    if not stat.S_ISDIR(status.st_mode):
        return []
    groups = frozenset((os.getegid(), *os.getgroups()))
    wrong = directory_fault(status, os.geteuid(), os.getegid(), group := sharing_group(status, groups))
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}"
    if wrong is not None:
        return [refused("access", f"{mode}: {wrong}", f"{_OTHER_DIRECTORY}; {way_in(status, os.geteuid())}")]
    return [ok("access", f"{mode}, shared with group {group}" if group is not None else mode)]


def _nearest(path: str) -> str:
    """*path*, or the nearest directory above it that exists."""
    return next((str(each) for each in (Path(path), *Path(path).parents) if os.path.isdir(each)), "/")


def _storage(path: str) -> list[Finding]:
    return [file_system(path), _free_space(path)]


def _free_space(path: str) -> Finding:
    try:
        free = shutil.disk_usage(path).free
        nodes = os.statvfs(path)
    except OSError as error:
        return warning("free space", f"unknown: {error.strerror}", "look with 'df'")
    text = f"{free / _MIB:,.0f} MiB"
    if nodes.f_files and not nodes.f_favail:
        return refused("free space", f"{text}, but no more files can be made (no free inodes)", "look with 'df -i'")
    if free < _TOO_LITTLE:
        return refused("free space", f"{text}: new locks and bookings will fail", "make room")
    if free < _LITTLE:
        return warning("free space", text, "make room: without it new locks and bookings fail")
    return ok("free space", text)


def _boot_id(directory: LockDirectory) -> Finding:
    if name := directory.system.clock_name:
        return ok("boot id", name)
    return warning("boot id", "unknown", "after a reboot, locks that were held then wait for their lease to run out")


def _clock(directory: LockDirectory) -> Finding:
    readings = [directory.system.monotonic_ns() for _ in range(_READINGS)]
    if readings != sorted(readings):
        return refused("clock", "the monotonic clock goes backwards", "use another kernel or hypervisor clock source")
    return ok("clock", f"monotonic, resolution {time.get_clock_info('monotonic').resolution * 1e9:g} ns")


def _writability(directory: LockDirectory) -> Finding:
    try:
        directory.prepare()
        with tempfile.NamedTemporaryFile(dir=directory.path, prefix=".doctor-") as file:
            file.write(b"poslock")
            file.flush()
            os.fsync(file.fileno())
    except PoslockError as error:
        return refused("writable", str(error), _OTHER_DIRECTORY)
    except OSError as error:
        return refused("writable", f"a file cannot be written: {error.strerror}", "look at permissions and disk space")
    return ok("writable", "a file was made, written and removed")
