"""Power cuts: a disk that forgets what was not flushed, and child processes that write to a ledger on it.

The disk is an ext4 file system on a loop device. It is shut down without flushing its journal: from then on nothing
reaches the image, and mounting it again replays what had.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from actors import say
from faults import Strike, StruckLedger
from poslock import PaperExchange, Position, PositionAlreadyClosingError, PositionGuard
from processes import PATIENCE, Child

if TYPE_CHECKING:
    from pathlib import Path

# Every write that is acknowledged.
_OTHERS = ("track", "change", "sending_change", "end_change")
WRITES = (*_OTHERS, *StruckLedger.WRITES)

ID = "btc-1"
SYMBOL = "BTC/USDT:USDT"
CONTRACTS = 10

_SIZE = 64 * 2**20
_TOOLS = ("mkfs.ext4", "losetup", "mount", "umount")
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_WITHOUT_FLUSHING = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH
# ext4 flushes its journal every 5 s by itself. That must not save a write that did not see to it.
_OPTIONS = "commit=300"


class NoDisk(Exception):
    """There is no such disk to be had on this machine; says why."""


class CommandFailed(Exception):
    """A command of the system did not do what it was to do; says what it said."""


class LoopDisk:
    """An ext4 file system at *path* in *folder*, with a power switch."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise NoDisk("needs root, for a loop device")
        if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
            raise NoDisk(f"needs {', '.join(missing)}")
        self.path = folder / "disk"
        self._image = folder / "disk.img"
        self._device = ""
        self._is_mounted = False
        self.path.mkdir()
        try:
            self._make()
        except BaseException:
            self.remove()
            raise

    def _make(self) -> None:
        self._image.touch()
        os.truncate(self._image, _SIZE)
        # Lazily initialized, it would write of its own accord.
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._image)
        try:
            self._device = _run("losetup", "--find", "--show", self._image)
            self._mount()
        except CommandFailed as failed:
            raise NoDisk(f"needs a loop device with ext4: {failed}") from failed

    def _mount(self) -> None:
        _run("mount", "-t", "ext4", "-o", _OPTIONS, self._device, self.path)
        self._is_mounted = True

    def cut_power(self) -> None:
        """What was not flushed is lost, and nothing can be written any more."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSHING)
        finally:
            os.close(descriptor)

    def restart(self) -> None:
        """Mount it again. Whoever has something open there must have ended: else the old one just lives on."""
        _run("umount", self.path)
        self._is_mounted = False
        self._mount()

    def remove(self) -> None:
        """Leave neither mount nor device nor image behind, whoever still uses them."""
        try:
            if self._is_mounted:
                try:
                    _run("umount", self.path)
                except CommandFailed:
                    _run("umount", "--lazy", self.path)
        finally:
            try:
                if self._device:
                    _run("losetup", "--detach", self._device)  # of one in use: as soon as it no longer is
            finally:
                self._image.unlink(missing_ok=True)


def _run(*command: str | Path) -> str:
    """What a command says; it must succeed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if ended.returncode:
        why = ended.stderr.partition("\n")[0].rpartition(": ")[2]  # without the path, which is another one in each test
        raise CommandFailed(f"{command[0]} ends with {ended.returncode}, {why}")
    return ended.stdout.strip()


class PowerChild(Child):
    """A process that runs one function of this file."""

    def __init__(self, actor: str, **settings: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, actor, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self.process.pid
        self._buffer = b""


def content(ledger: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with closing(sqlite3.connect(ledger)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in tables}


def integrity(ledger: Path) -> str:
    """What SQLite thinks of the file."""
    with closing(sqlite3.connect(ledger)) as db:
        return " ".join(line for (line,) in db.execute("PRAGMA integrity_check"))


# What the children do.


def trade(exchange: str, lock_dir: str, write: str, pragmas: list[str]) -> None:
    """Track a position, change it, close it; stop as soon as a *write* to the ledger is acknowledged.

    *pragmas* take the place of what poslock has set on a database, as soon as its tables are there.
    """

    class Careless(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("BEGIN") and super().execute("PRAGMA user_version").fetchone()[0]:
                for pragma in pragmas:
                    super().execute(f"PRAGMA {pragma}")
            return super().execute(sql, parameters)

    connect = sqlite3.connect
    with patch.object(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=Careless)):
        ledger = StruckLedger(f"{lock_dir}/ledger.db", Strike(write, "after", "stop"))
        for name in _OTHERS:
            vars(ledger)[name] = ledger.struck.around(name, getattr(ledger, name))
        guard = PositionGuard(PaperExchange(exchange), lock_dir=lock_dir, ledger=ledger)
        guard.track(Position(ID, SYMBOL, "long", CONTRACTS, 60_000))
        guard.modify_position(ID, stop_loss=1)
        if write == "begin":  # that a bot's own order code makes alone
            guard.closing(ID).__enter__()
        guard.close_position(ID, reason="before the power cut")
    sys.exit(f"this trade makes no {write!r}: let it make one")


def settle(exchange: str, lock_dir: str) -> None:
    """Finish what was begun, or begin it; say which it was, and what could not be settled."""
    guard = PositionGuard(PaperExchange(exchange), lock_dir=lock_dir)
    before = guard.position(ID).state
    unsettled = [str(recovery.error) for recovery in guard.recover() if recovery.error is not None]
    recovered = guard.position(ID).state
    try:
        guard.close_position(ID, reason="after the power cut")
    except PositionAlreadyClosingError as error:
        unsettled += [] if error.state == "closed" else [str(error)]
    say(states=[before, recovered, guard.position(ID).state], unsettled=unsettled)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
