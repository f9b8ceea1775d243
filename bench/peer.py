"""One of several processes that want the same lock: ``python -m bench.peer CONTESTANT PATH``.

Takes one command a line and answers with one line of JSON each; times are CLOCK_MONOTONIC nanoseconds.

    acquire                     says when it began to wait; then when it got the lock, and the CPU time that took
    release                     says when it began to release
    loop BEGIN SECONDS HOLD     from the time BEGIN on: acquire, hold, release, at once again; says all waits in seconds
    once BEGIN HOLD             at the time BEGIN: acquire, hold, release; says when that was done
"""

from __future__ import annotations

import json
import sys
import time

from bench.contestants import BY_NAME, AnyLock


def main() -> None:
    """Obey until the pipe is closed."""
    _, name, path = sys.argv
    make = BY_NAME[name].make
    with make(f"{path}-first"):  # what only the first use costs is not what is measured
        pass
    lock = make(path)
    _say("ready")
    for line in sys.stdin:
        match line.split():
            case ["acquire"]:
                _acquire(lock)
            case ["release"]:
                began = time.monotonic_ns()
                lock.release()
                _say(began)
            case ["loop", begin, seconds, hold]:
                _say(_loop(lock, int(begin), float(seconds), float(hold)))
            case ["once", begin, hold]:
                _say(_once(lock, int(begin), float(hold)))
            case _:
                raise ValueError(line)


def _acquire(lock: AnyLock) -> None:
    _say(time.monotonic_ns())
    worked = time.process_time_ns()
    lock.acquire()
    _say([time.monotonic_ns(), time.process_time_ns() - worked])


def _loop(lock: AnyLock, begin: int, seconds: float, hold: float) -> list[float]:
    waits = []
    end = begin + int(seconds * 1e9)
    time.sleep(max(0, begin - time.monotonic_ns()) / 1e9)
    while (began := time.monotonic_ns()) < end:
        lock.acquire()
        waits.append((time.monotonic_ns() - began) / 1e9)
        time.sleep(hold)
        lock.release()
    return waits


def _once(lock: AnyLock, begin: int, hold: float) -> int:
    time.sleep(max(0, begin - time.monotonic_ns()) / 1e9)
    lock.acquire()
    time.sleep(hold)
    lock.release()
    return time.monotonic_ns()


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
