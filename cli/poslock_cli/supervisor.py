"""Watches over a command and the lock it runs under, until one of them ends.

Purpose: the command runs only while the lock is held. The lock is looked at every second and renewed after a third of
its lease. If it is lost, the command's process group gets SIGTERM, and SIGKILL after a grace.

Not protected: the time between the loss and the command's end. While this process is stopped or its disk hangs, it
can see nothing; when it is continued, it looks before anything else. If it is killed, Linux kills the command in the
same moment, but not what the command has started, nor a set-user-ID program; other systems kill nothing. A command
that must not act twice hands $POSLOCK_TOKEN on to whatever can refuse an old one.

All signals are blocked here and taken one at a time by sigtimedwait: no handler runs between any two statements.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from poslock.errors import LockError, LockFileError, LockLost
from poslock_cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from poslock import PositionLock
    from poslock_cli.child import Child

LOCK_LOST = 79  # the first number that neither sysexits.h nor a shell gives a meaning

_PASSED_ON = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGTSTP,
}
_TAKEN = _PASSED_ON | {signal.SIGCHLD, signal.SIGCONT}
_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_LOOK = 1.0
_SHORT_LOOK = 0.05
_KILL_SECONDS = 2.0


def block_signals() -> set[int]:
    """From here on signals wait for the supervisor; returns what was blocked before."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would swallow exit codes
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN | {signal.SIGTTOU})}


class Supervisor:
    """Needs signals blocked by `block_signals`, and *lock* held with a lease of *lease* seconds."""

    def __init__(self, lock: PositionLock, start: Callable[[], Child], *, lease: float, grace: float) -> None:
        self._lock = lock
        self._lease = lease
        self._grace = grace
        self._child = start()

    def run(self) -> int:
        """Wait for the end; the exit code of ``poslock run``."""
        try:
            while (code := self._child.exit_code()) is None:
                goes_on = self._pause()
                if why := self._lost():
                    return self._stop(why)
                if goes_on:
                    self._child.send(signal.SIGCONT)
                self._wait(min(_LOOK, self._lease / 6))
            return self._finish(code)
        except BaseException:
            self._child.send(signal.SIGKILL)  # nobody would watch over it
            raise
        finally:
            terminal.take_back(self._child.pid)

    def _wait(self, seconds: float) -> None:
        """Until a signal comes, but no longer than that; the command gets it too."""
        taken = signal.sigtimedwait(_TAKEN, seconds)
        if taken is not None and taken.si_signo in _PASSED_ON:
            self._child.send(taken.si_signo)

    def _lost(self) -> str | None:
        """Why the lock counts as lost; None while it is held. Renews it when a third of the lease has passed."""
        try:
            if self._lock.remaining > self._lease * 2 / 3:
                self._lock.check()
            else:
                self._lock.renew()
        except LockLost as error:
            return str(error)
        except LockFileError as error:
            # Nothing is certain, but nobody else may have it yet unless an operator cleared it. So look again, as long
            # as enough of the lease is left to stop the command in.
            return str(error) if self._lock.remaining < self._lease / 2 else None
        return None

    def _stop(self, why: str) -> int:
        self._child.send(signal.SIGTERM)
        self._child.send(signal.SIGCONT)  # a stopped process would not see it
        if not self._within(self._grace, lambda: not self._child.group_lives()):
            self._child.send(signal.SIGKILL)
        # What the command started is not waited for any more: under an init that buries no dead it would look alive.
        gone = self._within(_KILL_SECONDS, lambda: self._child.exit_code() is not None)
        _say(f"{why}; {'the command was stopped' if gone else 'the command could not be stopped'}")
        return LOCK_LOST

    def _within(self, seconds: float, happened: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() >= deadline:
                return False
            self._wait(_SHORT_LOOK)
        return True

    def _finish(self, code: int) -> int:
        """The command has ended by itself. What it started and left behind goes on without the lock."""
        try:
            self._lock.release()
        except LockLost as error:
            _say(f"{error}; the command had ended with exit code {code}")
            return LOCK_LOST
        except LockError as error:
            _say(f"{error}; the lock is free as soon as this process has ended")
        return code

    def _pause(self) -> bool:
        """If the terminal has stopped the command, stop with it, as one job; whether the command is to go on."""
        stop = self._child.take_stop()
        if stop not in _STOPS:  # stopped by hand it stays stopped, and the lock stays held
            return False
        if stop != signal.SIGTSTP and terminal.lend(self._child.pid):
            # Ctrl-Z came while the command was stopped for wanting the terminal: SIGCONT would make the kernel drop it.
            # (test_a_ctrl_z_typed_while_the_terminal_is_lent_is_not_lost)
            if not self._child.awaits(signal.SIGTSTP):
                return True
            stop = signal.SIGTSTP
        terminal.take_back(self._child.pid)
        os.kill(0, stop)  # the whole job; where it is blocked it takes effect on the next line
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {stop})
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if signal.SIGCONT not in signal.sigpending() and stop != signal.SIGTSTP:
            # We were not stopped, for no shell is left that could continue us, or ever lend the command its terminal.
            self._child.send(signal.SIGHUP)
        return True


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone, and with it who would read this
        click.echo(f"Error: {text}", err=True)
