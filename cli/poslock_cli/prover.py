"""One of the two processes of the proof. Told ``take`` on its standard input, it says what came of it.

Arguments: the lock directory and the position id. It says its process id first, and ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from poslock import LockTimeout, PositionLock, PoslockError
from poslock.lock.files.directory import open_directory
from poslock.lock.status import lock_status

if TYPE_CHECKING:
    from poslock.lock.files.directory import LockDirectory


def main() -> None:
    """Do as told."""
    lock_dir, position = sys.argv[1:]
    lock = PositionLock(position, lock_dir=lock_dir, timeout=0, stale_after=600, purpose="poslock doctor")
    _say(pid=os.getpid())
    for _ in sys.stdin:
        try:
            _say(**_take(lock, open_directory(lock_dir)))
        except PoslockError as error:
            _say(failed=str(error))


def _take(lock: PositionLock, directory: LockDirectory) -> dict[str, object]:
    """Try to take the lock; whether that went well, and whether its holder before was seen alive."""
    holders = lock_status(directory, lock.position_id).holders
    alive = holders[0].alive if holders else None
    try:
        lock.acquire()
    except LockTimeout:
        return {"got": False, "alive": alive}
    return {"got": True, "alive": alive}


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
