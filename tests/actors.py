"""What child processes do in tests: ``python actors.py FUNCTION SETTINGS``, settings as JSON."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awaited import guard_on
from faults import Strike, StruckExchange, StruckLedger
from intents import lock_for
from poslock import (
    LockLost,
    LockTimeout,
    PositionAlreadyClosingError,
    PositionLock,
    PoslockError,
)
from poslock.exchange.port import CloseOrder, Leg
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
from reach import reached
from systems import Amiss

if TYPE_CHECKING:
    from poslock import PositionGuard
    from poslock.errors import Intent


class LockHeard(logging.Handler):
    """Says when this process waits for a lock, and counts what it was granted."""

    def __init__(self) -> None:
        super().__init__()
        self.granted = 0
        logger = logging.getLogger("poslock.lock")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("waits"):
            say(waits=True)
        self.granted += hasattr(record, "token") and record.msg.startswith(("acquired", "took over"))


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def hear() -> str:
    line = sys.stdin.readline()
    if not line:
        sys.exit("the test is gone")
    return line.strip()


def hold(lock_dir: str, position: str, timeout: float = 30.0, *, intent: Intent = "other", **options: Any) -> None:
    """Acquire, then do what it is told, one word at a time."""
    lock = lock_for(intent, position, lock_dir=lock_dir, timeout=timeout, purpose="held by a test", **options)
    say(ready=True)
    hear()
    try:
        lock.acquire()
    except LockTimeout as error:
        say(error=type(error).__name__, holder=error.holder.pid if error.holder else None)
        return
    recovered = lock.recovered_from
    say(held=lock.held, token=lock.token, recovered_from=recovered.pid if recovered else None)
    while True:
        word = hear()
        try:
            getattr(lock, word)()
            say(ok=word)
        except LockLost as error:
            say(error=type(error).__name__, text=str(error))


def stop_inside(lock_dir: str, operation: str, call: str, lease: float, timeout: float = 0.0) -> None:
    """Stop right before a system call of a transition, with the OS lock held; then say whether check() passes."""
    armed = operation == "acquire"

    def stop(*arguments: Any) -> Any:
        nonlocal armed
        if armed and locked:
            armed = False
            os.kill(os.getpid(), signal.SIGSTOP)
        return getattr(SYSTEM, call)(*arguments)

    def try_lock(descriptor: int) -> bool:
        locked.append(SYSTEM.try_lock(descriptor))
        return locked[-1]

    locked: list[bool] = []
    directory = LockDirectory(lock_dir, Amiss(**{"try_lock": try_lock, call: stop}))
    lock = PositionLock("btc-1", lock_dir=directory, stale_after=lease, timeout=timeout)
    say(ready=True)
    if operation != "acquire":
        lock.acquire()
        locked.clear()
        armed = True
    passes = False
    try:
        getattr(lock, operation)()
        lock.check()
        passes = True
    except PoslockError:
        passes = False
    say(passes=passes)


def share_in_a_loop(lock_dir: str) -> None:
    """Share a lock and release it, without a pause, until it is told that this is enough."""
    say(ready=True)
    rounds = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        with PositionLock("btc-1", lock_dir=lock_dir, shared=True):
            rounds += 1
    hear()
    say(rounds=rounds)


def end_replacing(lock_dir: str, call: str, how: str) -> None:
    """Wait for a lock whose file is busy, and be killed or stopped right before a call that replaces it."""
    pending = [signal.Signals[how]]

    def strike(*arguments: Any) -> Any:
        if pending and (call != "write" or announced()):
            os.kill(os.getpid(), pending.pop())
        return getattr(SYSTEM, call)(*arguments)

    def announced() -> bool:
        return any(".replaced-" in name for name in os.listdir(lock_dir))

    directory = LockDirectory(lock_dir, Amiss())
    directory.prepare()
    directory.presence.name()
    directory.system._calls[call] = strike  # type: ignore[attr-defined]
    say(ready=True)
    try:
        PositionLock("btc-1", lock_dir=directory, timeout=3).acquire()
        say(error=None)
    except PoslockError as error:
        say(error=type(error).__name__)


def hold_and_fork(lock_dir: str, position: str) -> None:
    """Hold the lock, fork a child that lives on, say what the child may do with the lock."""
    lock = PositionLock(position, lock_dir=lock_dir)
    lock.acquire()
    if (pid := os.fork()) == 0:
        try:
            lock.check()
            inherited = "held"
        except LockLost as error:
            inherited = str(error)
        say(child=inherited, held=lock.held)
        hear()
        os._exit(0)
    say(forked=pid)
    time.sleep(600)


def fork_beside_threads(lock_dir: str, forks: int) -> None:
    """Fork again and again while other threads lock; count children with inherited descriptors, and hung ones."""
    done = threading.Event()

    def lock_and_unlock(position: str) -> None:
        while not done.is_set():
            with PositionLock(position, lock_dir=lock_dir):
                pass

    threads = [threading.Thread(target=lock_and_unlock, args=(f"p{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    leaked = hung = 0
    for number in range(forks):
        if (pid := os.fork()) == 0:
            links = (f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd"))
            kept = any(os.readlink(each).startswith(lock_dir) for each in links if os.path.lexists(each))
            with PositionLock(f"child-{number}", lock_dir=lock_dir, timeout=5) as lock:
                lock.check()
            os._exit(kept)
        deadline = time.monotonic() + 20
        status = 0
        while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.001)
        if ended[0]:
            status = os.waitstatus_to_exitcode(ended[1])
        else:
            hung += 1
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        leaked += status != 0
    done.set()
    for thread in threads:
        thread.join()
    say(leaked=leaked, hung=hung)


def hold_without_streams(lock_dir: str) -> None:
    """Lock with the standard streams closed; say which is the lowest descriptor that it opened."""
    saved = os.dup2(1, 100)
    for stream in (0, 1, 2):
        os.close(stream)
    PositionLock("btc-1", lock_dir=lock_dir).acquire()
    lowest = min(int(each) for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}"))
    os.dup2(saved, 1)
    say(lowest=lowest)


def contend(lock_dir: str, folder: str, rounds: int) -> None:
    """Take the lock again and again; look for an overlap in two independent ways."""
    say(ready=True)
    hear()
    marker, counter, tokens = Path(folder, "inside"), Path(folder, "counter"), []
    for _ in range(rounds):
        with PositionLock("contended", lock_dir=lock_dir, timeout=60) as lock:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # first way: nobody else is inside
            count = int(counter.read_text())
            lock.check()
            counter.write_text(str(count + 1))  # second way: no update is lost
            tokens.append(lock.token)
            marker.unlink()
    say(tokens=tokens)


def close(exchange: str, lock_dir: str, positions: list[str], **options: Any) -> None:
    """Close positions one after the other; say what became of each call."""
    _, guard = struck(exchange, lock_dir, **options)
    say(ready=True)
    hear()
    outcomes = [_outcome(guard, position) for position in positions]
    say(outcomes=outcomes)


def close_when_told(exchange: str, lock_dir: str, **options: Any) -> None:
    """Close the positions that it is told, one a line; say what became of each call."""
    _, guard = struck(exchange, lock_dir, **options)
    say(ready=True)
    while True:
        say(**_outcome(guard, hear()))


def _outcome(guard: PositionGuard, position: str) -> dict[str, Any]:
    try:
        closed = guard.close_position(position, reason="test")
    except PositionAlreadyClosingError as error:
        return {"outcome": f"already {error.state}"}
    except PoslockError as error:
        return {"outcome": type(error).__name__, "text": str(error), "lost": isinstance(error, LockLost)}
    return {"outcome": "booked", "net_pnl": str(closed.net_pnl), "token": closed.token}


def crowd(exchange: str, lock_dir: str, size: int, **options: Any) -> None:
    """Fork so many processes that close a position at the same time; each says when it waits, and what became of it."""
    for _ in range(size):
        if not os.fork():
            heard = LockHeard()
            _, guard = struck(exchange, lock_dir, **options)
            say(**_outcome(guard, "btc-1"), granted=heard.granted)
            os._exit(0)
    for _ in range(size):
        os.wait()


def queue(lock_dir: str, position: str, size: int) -> None:
    """Fork so many processes, each when told, that hold a lock once; each says which token it got."""
    say(ready=True)
    for number in range(size):
        hear()
        if not os.fork():
            lock = PositionLock(position, lock_dir=lock_dir, timeout=60)
            token = lock.acquire()
            lock.release()
            say(number=number, token=token)
            os._exit(0)
        say(forked=number)
    for _ in range(size):
        os.wait()


def change(exchange: str, lock_dir: str, change: dict[str, Any], **options: Any) -> None:
    """Change a position."""
    _, guard = struck(exchange, lock_dir, **options)
    say(ready=True)
    hear()
    guard.modify_position("btc-1", **change)
    say(done=True)


def slices(exchange: str, lock_dir: str, position: str, slices: list[int], **options: Any) -> None:
    """Close a position with order code of its own, which sends several orders."""
    venue, guard = struck(exchange, lock_dir, **options)
    leg = Leg("BTC/USDT:USDT", "long")
    say(ready=True)
    hear()
    with guard.closing(position, reason="in slices") as closing:
        ids = []
        for contracts in slices:
            sending = closing.sending()
            ids.append(sending.client_order_id)
            window = sending.signed_at_ms, sending.receive_window_ms
            venue.place(CloseOrder(leg, Decimal(contracts), sending.client_order_id, *window))
        fills = [each.fill for each in venue.trades(leg, 0) if each.fill.client_order_id in ids]
        closing.book(fills)
    say(done=True)


def struck(  # what a test can say of a child
    exchange: str,
    lock_dir: str,
    *,
    strikes: dict[str, list[dict[str, Any]]] | None = None,
    lease: float = 30.0,
    timeout: float = 60.0,
    settings: dict[str, Any] | None = None,
    asynchronous: bool = False,
) -> tuple[StruckExchange, Any]:
    """An account and a guard over it, with *strikes* at their requests."""
    planned = {port: [Strike(**strike) for strike in each] for port, each in (strikes or {}).items()}
    account = reached(exchange, asynchronous=asynchronous, **(settings or {}))
    venue = StruckExchange(account, *planned.get("venue", ()))
    ledger = StruckLedger(f"{lock_dir}/ledger.db", *planned.get("ledger", ()))
    options = {"lock_dir": lock_dir, "ledger": ledger, "timeout": timeout, "stale_after": lease}
    return venue, guard_on(venue, asynchronous=asynchronous, **options)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
