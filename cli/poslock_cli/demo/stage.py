"""The stage of the demo: starts the bots, kills one, pauses one, and lets the others finish."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

from poslock.errors import PoslockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES = (
    "strategy",
    "risk watchdog",
    "chat command",
    "cron job",
    "trailing stop",
    "news filter",
    "rebalancer",
    "hedger",
)
_STARTING_SECONDS = 60.0


class StageError(PoslockError):
    """The demo itself went wrong: a bot did not start, or did not answer. Run it again."""


@dataclass
class Bot:
    """A bot process, and what it was told in the end."""

    number: int
    name: str
    process: subprocess.Popen[str]
    outcome: str = "nothing"

    def go(self) -> None:
        """Let it go on."""
        if self.process.stdin is not None and self.process.poll() is None:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()


@dataclass
class Cast:
    """Who plays what: the first closer is killed, the next one is paused at its n-th request."""

    pause_at_request: int
    killed: Bot | None = None
    paused: Bot | None = None
    requests: dict[int, int] = field(default_factory=dict)


class Stage:
    """Runs the play once. *show* gets each line of it: seconds since the start, the bot, what it does."""

    def __init__(
        self, settings: dict[str, Any], bots: int, cast: Cast, show: Callable[[float, Bot, str], None]
    ) -> None:
        self._cast = cast
        self._show = show
        self._lease: float = settings["lease"]
        self._selector = selectors.DefaultSelector()
        self._began = time.monotonic()
        names = cycle(_NAMES)
        self.bots = [self._start(number, next(names), settings) for number in range(1, bots + 1)]

    def play(self) -> None:
        """From the starting line to the last answer. Ends every process it started, whatever happens."""
        try:
            self._line_up()
            self._race()
            self._resume()
        finally:
            for bot in self.bots:
                bot.process.kill()
                bot.process.wait()

    def _start(self, number: int, name: str, settings: dict[str, Any]) -> Bot:
        process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "poslock_cli.demo.bot", json.dumps({**settings, "name": name})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        bot = Bot(number, name, process)
        self._selector.register(process.stdout or 0, selectors.EVENT_READ, bot)
        return bot

    def _line_up(self) -> None:
        waiting = len(self.bots)
        for _, event in self._events(_STARTING_SECONDS):
            if event["event"] != "ready":
                raise StageError(f"a bot said {event['event']!r} before it was ready")
            waiting -= 1
            if not waiting:
                break
        self._began = time.monotonic()
        for bot in self.bots:
            bot.go()

    def _race(self) -> None:
        """Until every bot but the killed and the paused one has its answer."""
        limit = 8 * self._lease + 20
        for bot, event in self._events(limit):
            match event["event"]:
                case "asks":
                    self._asks(bot, event["what"])
                case "accepted":
                    self._accepted(bot, event["order"])
                case "told":
                    self._told(bot, event)
            if all(each.outcome != "nothing" for each in self.bots if each is not self._cast.paused):
                return

    def _asks(self, bot: Bot, what: str) -> None:
        cast = self._cast
        cast.requests[bot.number] = cast.requests.get(bot.number, 0) + 1
        if cast.killed and cast.paused is None and cast.requests[bot.number] == cast.pause_at_request:
            cast.paused = bot
            os.kill(bot.process.pid, signal.SIGSTOP)
            os.waitpid(bot.process.pid, os.WUNTRACED)  # it has stopped, not: it will stop
            self._line(bot, f"holds the lock and is about to ask: {what}; SIGSTOP, its lease is {self._lease:g} s")
            return
        self._line(bot, f"holds the lock, asks the exchange: {what}")
        bot.go()

    def _accepted(self, bot: Bot, order: str) -> None:
        if self._cast.killed is None:
            self._cast.killed = bot
            bot.process.kill()
            bot.process.wait()
            bot.outcome = "killed"
            self._line(bot, f"the exchange has accepted its closing order {order}; SIGKILL")
            return
        self._line(bot, f"the exchange has accepted its closing order {order}")
        bot.go()

    def _told(self, bot: Bot, event: dict[str, str]) -> None:
        bot.outcome = event["outcome"]
        self._line(bot, f"is told: {event['text']}")

    def _resume(self) -> None:
        """Wake the paused bot, long after somebody else has finished, and hear what it is told."""
        bot = self._cast.paused
        if bot is None:
            return
        self._line(bot, "SIGCONT: it goes on where it was")
        os.kill(bot.process.pid, signal.SIGCONT)
        bot.go()
        for other, event in self._events(self._lease + 20):
            if other is bot and event["event"] == "told":
                self._told(bot, event)
                return
            other.go()

    def _events(self, seconds: float) -> Iterator[tuple[Bot, dict[str, Any]]]:
        """What the bots say, as it comes.

        Raises:
            StageError: nobody said what was waited for in so many seconds.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                bot: Bot = key.data
                line = bot.process.stdout.readline() if bot.process.stdout else ""
                if line:
                    yield bot, json.loads(line)
                    continue
                self._selector.unregister(key.fileobj)
                if bot.outcome == "nothing":
                    raise StageError(f"bot {bot.number} ended without an answer")
        raise StageError(f"the bots did not come to an end in {seconds:g} s")

    def _line(self, bot: Bot, text: str) -> None:
        self._show(time.monotonic() - self._began, bot, text)
