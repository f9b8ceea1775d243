"""Starts the bots, kills and stops them at random, and replaces those that were killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soak.diary import Diary
    from soak.setting import Setting

ROOT = Path(__file__).parent.parent
_TICK = 0.02
_PATIENCE = 30.0
_KILL_EVERY = (3.0, 12.0)  # seconds, divided by the number of bots
_STOP_EVERY = (3.0, 12.0)
_MOST_STOPPED = 2
_STOPPED_FOR = (1.1, 1.8)  # leases


class Supervisor(AbstractContextManager["Supervisor"]):
    """The bots of a run, all ended when it is left."""

    def __init__(self, setting: Setting, processes: int, diary: Diary) -> None:
        self._setting = setting
        self._diary = diary
        self._chance = Random(f"{setting.seed} supervisor")  # noqa: S311  # a play, not a secret
        self._started = 0
        self._names: dict[subprocess.Popen[bytes], str] = {}
        self._stopped: dict[subprocess.Popen[bytes], float] = {}
        self._bots = [self._start() for _ in range(processes)]

    def run(self, seconds: float) -> None:
        """Strike for so long."""
        now = time.monotonic()
        end, kill, stop = now + seconds, now + self._pause(_KILL_EVERY), now + 1.0
        while (now := time.monotonic()) < end:
            self._resume(now)
            self._replace_ended()
            if now >= kill:
                self._kill(self._chance.choice(self._bots))
                kill = now + self._pause(_KILL_EVERY)
            if now >= stop:
                self._stop(self._chance.choice(self._bots), now)
                stop = now + self._pause(_STOP_EVERY)
            time.sleep(_TICK)

    def __exit__(self, *_: object) -> None:
        for bot in self._bots:
            bot.kill()
        for bot in self._bots:
            bot.wait(_PATIENCE)

    def _start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        name = f"bot-{self._started}"
        with open(f"{self._setting.directory}/{name}.errors", "wb") as errors:
            bot = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-m", "soak.worker", json.dumps(self._setting.as_json()), name],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._names[bot] = name
        return bot

    def _kill(self, bot: subprocess.Popen[bytes]) -> None:
        bot.kill()
        bot.wait(_PATIENCE)
        self._stopped.pop(bot, None)
        self._bots[self._bots.index(bot)] = self._start()
        self._tell_killed(bot)

    def _stop(self, bot: subprocess.Popen[bytes], now: float) -> None:
        if bot not in self._stopped and len(self._stopped) < _MOST_STOPPED:
            bot.send_signal(signal.SIGSTOP)
            self._stopped[bot] = now + self._chance.uniform(*_STOPPED_FOR) * self._setting.lease
            self._diary.tell("stopped")

    def _pause(self, every: tuple[float, float]) -> float:
        return self._chance.uniform(*every) / len(self._bots)

    def _resume(self, now: float) -> None:
        for bot in [each for each, until in self._stopped.items() if until <= now]:
            bot.send_signal(signal.SIGCONT)
            del self._stopped[bot]

    def _tell_killed(self, bot: subprocess.Popen[bytes]) -> None:
        """It is gone by now: what it had begun takes no effect any more."""
        self._diary.tell("killed", self._names[bot], time.monotonic_ns())

    def _replace_ended(self) -> None:
        for bot in [each for each in self._bots if each.poll() is not None]:
            if bot.returncode == -signal.SIGKILL:  # with an order under way
                self._tell_killed(bot)
            else:
                self._diary.tell("violation", f"a bot ended by itself, exit code {bot.returncode}: {bot.args!r}")
            self._stopped.pop(bot, None)
            self._bots[self._bots.index(bot)] = self._start()
