"""Locks and Python's own ways of starting processes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONTEND = """
import multiprocessing, sys
from pathlib import Path
from poslock import LockLost, LockTimeout, PositionLock

def add(folder, rounds):
    for _ in range(rounds):
        with PositionLock("counter", lock_dir=f"{folder}/locks", timeout=60) as lock:
            lock.check()
            counter = Path(folder, "counter")
            counter.write_text(str(int(counter.read_text()) + 1))

def child_of_a_holder(folder, results):
    try:
        PositionLock("held", lock_dir=f"{folder}/locks", timeout=0.1).acquire()
        results.put("acquired")
    except LockTimeout as error:
        results.put(error.holder.pid)

if __name__ == "__main__":
    method, folder = sys.argv[1:]
    context = multiprocessing.get_context(method)
    held = PositionLock("held", lock_dir=f"{folder}/locks")
    held.acquire()
    Path(folder, "counter").write_text("0")
    processes = [context.Process(target=add, args=(folder, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    results = context.Queue()
    child = context.Process(target=child_of_a_holder, args=(folder, results))
    child.start()
    seen = results.get(timeout=60)
    child.join(60)
    held.check()
    import json, os
    print(json.dumps([[p.exitcode for p in processes], Path(folder, "counter").read_text(), seen == os.getpid()]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_started_by_multiprocessing_exclude_each_other(tmp_path: Path, method: str) -> None:
    """Four of them count to a hundred; a child of a holder does not hold, and its end does not end its parent's."""
    script = tmp_path / "contend.py"
    script.write_text(CONTEND)
    done = subprocess.run(
        [sys.executable, str(script), method, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[0, 0, 0, 0], "100", True]
