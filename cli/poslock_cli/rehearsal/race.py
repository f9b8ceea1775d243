"""Four processes that close one position; the first one whose order is accepted is killed."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

CLOSERS = 4
LONGEST_S = 150.0


@dataclass(slots=True)
class Outcome:
    """What the closers said: who was killed, the ids of accepted orders, how each of the others ended."""

    killed: int | None = None
    accepted: list[str] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Closer:
    process: subprocess.Popen[bytes]
    heard: bytes = b""

    def tell(self) -> None:
        assert self.process.stdin is not None  # noqa: S101  # it is a pipe
        with suppress(BrokenPipeError):
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LONGEST_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def race(config: str, lock_dir: str, position_id: str, outcome: Outcome) -> None:
    """Have them close it, all at once, and return when each has ended, or was ended because the time was over.

    *outcome* is filled as they say it, so that it is there also if this is interrupted.
    """
    # Without the working directory among the places of modules: a ccxt.py left there would get the keys.
    command = [sys.executable, "-P", "-m", "poslock_cli.rehearsal.closer", config, lock_dir, position_id]
    closers: list[_Closer] = []
    try:
        for _ in range(CLOSERS):
            # In a group of its own: an interrupt is for the rehearsal, which ends them and cleans up.
            process = subprocess.Popen(  # noqa: S603  # ourselves
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
            )
            closers.append(_Closer(process))
        _watch(closers, outcome)
    finally:
        for closer in closers:
            closer.end()
    for pid in (closer.process.pid for closer in closers):
        if pid not in {*outcome.ended, outcome.killed}:
            outcome.ended[pid] = "did not say how it ended"


def _watch(closers: list[_Closer], outcome: Outcome) -> None:
    deadline = time.monotonic() + LONGEST_S
    starting, ready = {closer.process.pid for closer in closers}, list[_Closer]()
    with selectors.DefaultSelector() as selector:
        for closer in closers:
            assert closer.process.stdout is not None  # noqa: S101  # it is a pipe
            selector.register(closer.process.stdout, selectors.EVENT_READ, closer)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                closer, chunk = key.data, os.read(key.fd, 65_536)
                if not chunk:
                    selector.unregister(key.fileobj)
                    starting.discard(closer.process.pid)
                for words in _words(closer, chunk):
                    _hear(outcome, closer, words)
                    if words["said"] == "ready":
                        ready.append(closer)
                        starting.discard(closer.process.pid)
            if not starting:  # nobody goes before the others
                while ready:
                    ready.pop().tell()


def _words(closer: _Closer, chunk: bytes) -> list[dict[str, Any]]:
    *lines, closer.heard = (closer.heard + chunk).split(b"\n")
    return [json.loads(line) for line in lines]


def _hear(outcome: Outcome, closer: _Closer, words: dict[str, Any]) -> None:
    pid = closer.process.pid
    if words["said"] == "ended":
        outcome.ended[pid] = f"{words['outcome']}: {words['why']}" if "why" in words else words["outcome"]
    elif words["said"] == "accepted":
        outcome.accepted.append(words["order_id"])
        if outcome.killed is None:
            outcome.killed = pid
            closer.process.kill()
        else:
            closer.tell()
