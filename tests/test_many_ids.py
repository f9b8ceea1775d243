"""A hundred thousand position ids that somebody could think up: none leaves the directory, no two meet in a file."""

from __future__ import annotations

import json
import os
import random
from itertools import islice
from typing import TYPE_CHECKING

from click.testing import CliRunner

from poslock import PositionLock
from poslock.lock.files.directory import LockDirectory
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import MAX_LENGTH, check_position_id
from poslock_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOW_MANY = 100_000
LOCKED = 300

_PATHS = ["/", "..", ".", "\\", "~", "//", "../", "/.presence/", ".lock", ".maintenance", "ledger.db"]
_SHELL = ["'", '"', "`", "$(id)", "%s", "%00", "%2e%2e%2f", "*", "?", "|", ";", "&", "{}", "-rf", "--", "#", "!", " "]
_UNICODE = [
    "\u00e9",  # one letter, and then the same as two
    "e\u0301",
    "\u00df",  # longer in capitals
    "\u0130",  # dotted and dotless i: their case depends on the country
    "\u0131",
    "\u017f",  # a long s, an s in capitals
    "\u2126",  # the ohm sign, and the omega it looks like
    "\u03a9",
    "позиция",
    "位置",
    "🚀",
    "\U0001f469\u200d\U0001f680",  # three code points, one picture
    "\U0010ffff",
]
_INVISIBLE = [
    "\u202e",
    "\u2066",
    "\u2069",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u2028",
    "\u2029",
    "\u00a0",
    "\u00ad",
    "\ue000",
]
_PLAIN = ["BTC", "btc", "USDT", ":", "-", "_", "long", "LONG", "0", "1", "a", "A"]
_ALPHABETS = [_PATHS, _SHELL, _UNICODE, _INVISIBLE, _PLAIN, _PATHS + _SHELL + _UNICODE + _INVISIBLE + _PLAIN]


def nasty_ids(seed: int) -> Iterator[str]:
    """Different ids without end: random ones of every length, each with neighbours that look like it."""
    chance = random.Random(seed)  # noqa: S311  # the same ones each time
    seen: set[str] = set()
    while True:
        alphabet, length = chance.choice(_ALPHABETS), chance.randint(1, MAX_LENGTH)
        made = "".join(chance.choices(alphabet, k=length))[:length]
        for each in (made, *_look_alikes(made)):
            if 1 <= len(each) <= MAX_LENGTH and each not in seen:
                seen.add(each)
                yield each


def _look_alikes(made: str) -> list[str]:
    # The same slug, the same letters in another case, the same start, the same picture.
    return [made.swapcase(), made.replace("/", "-"), f"{made} ", f" {made}", made[:-1], f"{made}\u200b"]


def test_every_id_has_a_file_of_its_own_inside_the_directory() -> None:
    """Path separators, dots, look-alikes: a short ASCII name, directly in the directory, shared with no other id."""
    directory = LockDirectory("/locks", SYSTEM)
    paths = [directory.entry(check_position_id(each)).path for each in islice(nasty_ids(7), HOW_MANY)]
    assert len(set(paths)) == HOW_MANY
    # Nor where the file system takes upper and lower case for the same.
    assert len({path.lower() for path in paths}) == HOW_MANY
    for path in paths:
        folder, name = os.path.split(path)
        assert (folder, os.path.normpath(path)) == ("/locks", path)
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 100
        assert not name.startswith((".", "-"))


def test_status_shows_every_id_without_letting_it_act(tmp_path: Path) -> None:
    """Locked for real: the table has one printable line per lock, and --json gives back every id as it was."""
    locked = list(islice(nasty_ids(11), 0, LOCKED * 50, 50))
    lock_dir = tmp_path / "locks"
    locks = [PositionLock(each, lock_dir=lock_dir, timeout=0, purpose=each) for each in locked]
    for lock in locks:
        lock.acquire()
    for lock in locks:
        lock.check()
    table, rows = (_status(str(lock_dir), *options) for options in ([], ["--json"]))
    lines = table.split("\n")
    assert lines.pop() == ""
    assert len(lines) == LOCKED + 1
    assert [line for line in lines if not line.isprintable()] == []
    told = json.loads(rows)
    assert sorted(row["position"] for row in told) == sorted(locked)
    assert all(row["holders"][0]["purpose"] == row["position"] for row in told)
    assert sorted(name for name in os.listdir(lock_dir) if name.endswith(".lock")) == sorted(
        os.path.basename(lock.path) for lock in locks
    )
    assert os.listdir(tmp_path) == ["locks"]


def _status(lock_dir: str, *options: str) -> str:
    result = CliRunner().invoke(main, ["--lock-dir", lock_dir, "status", *options])
    assert result.exit_code == 0, result.output
    return result.stdout
