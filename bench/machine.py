"""On what it was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.processes import ROOT

_LIBRARIES = ("poslock", "filelock", "portalocker", "fasteners")


def machine(directory: str) -> dict[str, str]:
    """What a reader of the figures has to know."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "cpus": str(os.cpu_count()),
        "file system": _file_system(directory),
        **{library: _version(library) for library in _LIBRARIES},
        "commit": _commit(),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def _file_system(directory: str) -> str:
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown"
    path = Path(directory).resolve()
    above = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(above, default=(0, "unknown"))[1]


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=8", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603  # git
    return done.stdout.strip() or "unknown"
