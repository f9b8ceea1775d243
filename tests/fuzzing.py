"""What `test_fuzz.py` tries, and a place to try it in where every write is seen.

$POSLOCK_FUZZ_EXAMPLES says how many examples a test tries; without it few, so that all of them take seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from binascii import crc32
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import unquote

import click
from hypothesis import settings
from hypothesis import strategies as st

from poslock.errors import Holder, Intent
from poslock.lock.files.lock_file import let_go
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import Record, Waiting, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

EXAMPLES = os.environ.get("POSLOCK_FUZZ_EXAMPLES")


def tries(default: int, *, costs: int = 1) -> settings:
    """So many examples; with $POSLOCK_FUZZ_EXAMPLES so many, divided by what one *costs*. Nothing is kept on disk."""
    examples = default if EXAMPLES is None else max(1, int(EXAMPLES) // costs)
    return settings(max_examples=examples, deadline=None, database=None, print_blob=True)


# Text.

any_character = st.characters(exclude_categories=[])  # halves of surrogate pairs too
any_text = st.text(any_character, max_size=128)
# fmt: off
EDGES = [
    "", " ", ".", "..", "/", "-", "--", "-h", "--json", "../../x", "/etc/passwd", "a/b", "~", "a\nb", "\x1b[31mx",
    "\x9b2J", "\u202ex", "x" * 300, "\u00e9", "e\u0301", "\U0001f680" * 128, "nan", "%s", "{0}", "$HOME", "'", '"',
]
# fmt: on
# What a program can be called with, and find in its environment: bytes without NUL, as Python decodes them.
argument_text = st.binary(max_size=40).map(lambda each: os.fsdecode(each.replace(b"\0", b"")))
words = st.sampled_from(EDGES) | argument_text | st.text(max_size=20).map(lambda each: each.replace("\0", ""))
valid_ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128)

# Records. The presences are those that a `test_fuzz.py` makes: one that lives, one that is dead, one that is missing.

LIVING, DEAD, MISSING = "1-a11e", "2-dead", "3-0"
NOW_NS = time.monotonic_ns()
_HOUR_NS = 3_600 * 10**9
_LARGEST = 2**62 - 1
_numbers = st.integers(0, _LARGEST)
_times = st.sampled_from([0, max(0, NOW_NS - _HOUR_NS), NOW_NS, NOW_NS + _HOUR_NS, _LARGEST]) | _numbers
_leases = st.sampled_from([0, 1, 30 * 10**9, 2 * _HOUR_NS, 24 * _HOUR_NS, _LARGEST]) | _numbers
_presences = st.sampled_from([LIVING, DEAD, MISSING]) | st.from_regex(r"[0-9]{1,300}-[0-9a-f]{1,40}", fullmatch=True)
holders = st.builds(
    Holder,
    pid=_numbers,
    host=any_text,
    presence=_presences,
    purpose=any_text,
    token=_numbers,
    granted_at=st.floats(0, 2.0**62, exclude_max=True),
    granted_ns=_times,
    renewed_ns=_times,
    lease_ns=_leases,
    intent=st.sampled_from(get_args(Intent)),
)
_waiting = st.lists(st.builds(Waiting, _presences, _numbers, st.booleans(), _times, _leases), max_size=4).map(tuple)


@st.composite
def records(draw: st.DrawFn, ids: st.SearchStrategy[str] = valid_ids) -> Record:
    """Every record that is one."""
    state = draw(st.sampled_from(["held", "free", "broken"]))
    mode = draw(st.sampled_from(["exclusive", "shared"]))
    fewest, most = (1, 1 if mode == "exclusive" else 8) if state == "held" else (0, 8)
    crowd = draw(st.lists(holders, min_size=fewest, max_size=most))
    boot_id = draw(st.sampled_from([SYSTEM.clock_name, "", "another boot"]) | any_text)
    return Record(
        draw(ids), state, mode, draw(_numbers), boot_id, draw(_times), tuple(crowd), draw(_waiting)  # type: ignore[arg-type]
    )  # fmt: skip


def sealed(body: bytes) -> bytes:
    """*body* with a checksum that is right."""
    return (b'{"format":1,"crc":"%08x",' % crc32(body)) + body


def body_of(record: Record) -> bytes:
    """What the checksum of an encoded record is of."""
    return encode(record).rstrip()[len(sealed(b"")) :]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# fmt: off
_SOURCES = [
    "NaN", "-Infinity", "1e999", "-1", "-0.0", "1" * 400, "9" * 5000, "4611686018427387904", '"\\ud800"',
    '"../../etc/passwd"', '"7-a/../b"', '"held"', '{"a":1,"a":2}', "[" * 9000, '{"a":' * 9000, '"\\u0000"',
    f'"{"x" * 3000}"', '"\x01"', '"unterminated',
]
# fmt: on
_LIKELY = {
    "presence": ['"7-a/../b"', '"7-../b"', '"7-a.b"', '"../7-a"', '"7-a\\u0000"', '"-"'],
    "holders": ["[]", "[{}]", "{}"],
    "intent": ['"close"', '"CLOSE"', '"closing"', '""', "null", '["close"]'],
    "token": ["-1", "4611686018427387904", "1.5", "true", "NaN", '"7"'],
}
_PLACE = '"the place of a value"'


@st.composite
def rewritten(draw: st.DrawFn, record: Record) -> bytes:
    """A record in which one value, at any depth, or one key is something else; the checksum is right."""
    row: Any = json.loads(b"{" + body_of(record))
    inside: Any = row
    for _ in range(draw(st.integers(0, 2))):
        steps = [key for key in _keys(inside) if _keys(inside[key])]
        inside = inside[draw(st.sampled_from(steps))] if steps else inside
    key = draw(st.sampled_from(_keys(inside)))
    change = draw(st.sampled_from(["value", "removed", "added", "twice"]))
    if change == "removed":
        del inside[key]
    elif isinstance(inside, dict) and change in {"added", "twice"}:
        inside["added"] = json.loads(_PLACE)
    else:
        inside[key] = json.loads(_PLACE)
    name = json.dumps(key) if change == "twice" else '"added"'
    likely = _LIKELY.get(key, _LIKELY["token"]) if isinstance(key, str) else _SOURCES
    source = draw(st.sampled_from(likely) | st.sampled_from(_SOURCES) | _values.map(json.dumps))
    text = json.dumps(row).replace('"added"', name).replace(_PLACE, source)
    return sealed(text.encode("utf-8", "surrogatepass")[1:])


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """*data* with some bytes changed, left out, or put in."""
    damage = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, max(0, len(damage.rstrip()) - 1)))
        what = draw(st.sampled_from([b"", b"\0", b"\n", b'"', b"/", b"9", b"\xff"]) | st.binary(max_size=3))
        damage[index : index + draw(st.integers(0, 2))] = what
    return bytes(damage)


def contents(ids: st.SearchStrategy[str] = valid_ids) -> st.SearchStrategy[bytes]:
    """What may stand in a lock file: records, damaged ones, hand-made ones, anything."""
    whole = records(ids)
    files = whole.map(encode)
    return st.one_of(
        files,
        st.binary(max_size=300),
        st.binary(max_size=300).map(sealed),
        files.flatmap(damaged),
        whole.map(body_of).flatmap(damaged).map(sealed),
        whole.flatmap(rewritten),
        whole.flatmap(rewritten),
        st.tuples(files, st.integers(0, 5000)).map(lambda each: each[0][: each[1]]),
        st.tuples(files, st.sampled_from([b"\0" * 5000, b"\n\n", b"x" * 300_000]) | files).map(b"".join),
        st.tuples(st.sampled_from([b"\0", b"\n", b" ", b"\xef\xbb\xbf"]), files).map(b"".join),
    )


# TOML.

# fmt: off
_KEYS = ["venue", "account", "market", "lock_dir", "ledger", "lease", "timeout", "keys_file", "urls", "options"]
_TOML = [
    "nan", "-inf", "1e999", "0", "-1", "30", "0.5", "true", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]",
    "{}", '"mexc"', '"main"', '"swap"', '"spot"', '"binance"', '"ledger.db"', '"poslock.toml"', '"~/x"', '"~no/x"',
    '"/"', '"."', "'keys.toml'", '"\\u0000"', '"\\u001b[31m"', '"\\ud800"', "1" * 5000, "[" * 3000, "{a = {b = 1}}",
    '{contract = {private = "https://x.example"}}', '{api = "http://localhost:1"}', "{recvWindow = 5000}",
]
# fmt: on


def toml_values(marker: str) -> st.SearchStrategy[str]:
    """A value in TOML of any type, often with *marker* in it."""
    texts = st.sampled_from([f'"{marker}"', f"'''\n{marker}'''", f'"{marker}\\u0007"', marker, '{"a-key" = 1}'])
    plain = st.sampled_from(_TOML) | texts | st.integers().map(str) | st.floats().map(str) | any_text.map(json.dumps)
    return plain | st.lists(plain, max_size=3).map(lambda each: f"[{', '.join(each)}]")


def toml_files(keys: Sequence[str], marker: str, other: str) -> st.SearchStrategy[bytes]:
    """Bytes for a file in TOML: lines with these keys and an *other* one, pieces, and anything."""
    names = st.sampled_from(keys) | st.sampled_from(["secret", other, "", "a.b", '"\\u001b"']) | st.text(max_size=8)
    lines = st.tuples(names, toml_values(marker)).map(" = ".join)
    headers = st.sampled_from(["[urls]", "[options]", "[[urls]]", "[urls.contract]", "[", f"[{other}]", "# \x07"])
    texts = lines | st.lists(lines | headers, max_size=5).map("\n".join)
    return texts.map(lambda each: each.encode("utf-8", "surrogatepass")) | st.binary(max_size=200)


def configuration_files(marker: str) -> st.SearchStrategy[bytes]:
    """What a poslock.toml may hold; some of it with a venue, so that the rest of it is looked at too."""
    account = b'venue = "mexc"\naccount = "main"\nkeys_file = "keys.toml"\n'
    files = toml_files(_KEYS, marker, "x")
    return files | files.map(lambda each: account + each)


# Command lines.

FOREIGN = "foreign.db"  # of another program
# fmt: off
_PATHS = [
    "locks", "./locks", "new", "new/deeper", "../here/locks", "..", "plain.txt", "plain.txt/x", "loop", "bad.toml",
    "poslock.toml", "exchange.db", "locks/ledger.db", FOREIGN, "new.db", "{here}/locks", "/dev/null", "/dev/null/x",
    "/proc/self/x", "~", "a\nb", "\x1b[31m", "\udcff", "x" * 300, "", "-", "--",
]
_NUMBERS = [
    "0", "1", "8", "30", "0.5", "-1", "-0", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 5000, "0x10", "1_0",
    "\u0663", "", " 1 ", "x",
]
_IDS = ["btc-1", "held-1", "free-1", "corrupt-1", "nobody-1"]
# fmt: on
_paths = st.sampled_from(_PATHS) | words


@dataclass(frozen=True)
class CommandLine:
    """What is typed, which command that is if any, and the lock directories, ledgers and exchanges that it names."""

    arguments: tuple[str, ...]
    command: str = ""
    lock_dirs: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()

    def at(self, here: Path) -> CommandLine:
        """The same with the path of this room in it; what names no place is left out."""
        arguments, lock_dirs, databases = (
            tuple(each.replace("{here}", str(here)) for each in part if each or part is self.arguments)
            for part in (self.arguments, self.lock_dirs, self.databases)
        )
        return CommandLine(arguments, self.command, lock_dirs, databases)


@st.composite
def command_lines(draw: st.DrawFn, group: click.Group) -> CommandLine:
    """Any command of *group* with any of its options, and with what is none, in any order."""
    context = click.Context(group)
    names = group.list_commands(context)
    name = draw(st.sampled_from(names * 2) | st.sampled_from([*names, "", "--", "-h", "\x1b[31m"]))
    typed, lock_dirs = _typed(draw, group)
    if (command := group.get_command(context, name)) is not None:
        more, databases = _typed(draw, command)
        return CommandLine((*typed, name, *more), name, tuple(lock_dirs), tuple(databases))
    return CommandLine((*typed, name, *draw(st.lists(words, max_size=3))))


def _typed(draw: st.DrawFn, command: click.Command) -> tuple[list[str], list[str]]:
    """Options and arguments for one command, and the places that they name."""
    pieces: list[list[str]] = []
    places: list[str] = []
    for each in command.get_params(click.Context(command)):
        often = [1] * 4 if isinstance(each, click.Argument) else [0] * 4
        for _ in range(draw(st.sampled_from([*often, 0, 1, 2]))):
            value = draw(_values_of(each))
            if each.name in {"lock_dir", "ledger", "exchange"}:
                places.append(value.removeprefix("paper:"))
            pieces.append(_piece(draw, each, value))
    if not isinstance(command, click.Group):  # there it would be taken for a command
        pieces += [[word] for word in draw(st.sampled_from([[], [], []]) | st.lists(words, max_size=1))]
    return [word for piece in draw(st.permutations(pieces)) for word in piece], places


def _piece(draw: st.DrawFn, parameter: click.Parameter, value: str) -> list[str]:
    if isinstance(parameter, click.Argument):
        return [value]
    name = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [draw(st.sampled_from([name] * 9 + [f"{name}={value}"]))]
    return draw(st.sampled_from([[name, value], [f"{name}={value}"]]))


def _values_of(parameter: click.Parameter) -> st.SearchStrategy[str]:
    if isinstance(parameter.type, click.types.FloatParamType | click.types.IntParamType):
        return st.sampled_from(_NUMBERS) | st.integers(-9, 99).map(str) | words
    match parameter.name:
        case "lock_dir":
            return st.just("locks") | _paths
        case "ledger" | "config":
            return _paths
        case "exchange":
            return st.just("paper:exchange.db") | _paths.map("paper:{}".format) | words
        case "position" | "positions":
            return st.sampled_from(_IDS) | words
        case _:
            return st.sampled_from(["true", "/", "plain.txt", "no-such-program", "--"]) | words


# Where it is tried.


@contextmanager
def room(under: Path) -> Iterator[Path]:
    """A directory to be in for one example. Afterwards nothing below it is open, and it is gone."""
    with tempfile.TemporaryDirectory(dir=under) as folder:
        here = Path(folder, "here")
        here.mkdir(mode=0o700)
        try:
            with chdir(here):
                yield here
        finally:
            let_go()
            for descriptor in tuple(SYSTEM._descriptors):
                with suppress(OSError):
                    if os.readlink(f"/proc/self/fd/{descriptor}").startswith(folder):
                        SYSTEM.close(descriptor)


def environment(here: Path) -> dict[str, str | None]:
    """Nothing of the user who runs the tests: every directory of theirs is in the room."""
    folders = {f"XDG_{each}_HOME": f"{here.parent}/{each.lower()}" for each in ("CONFIG", "STATE", "DATA", "CACHE")}
    ours = ("CONFIG", "DIR", "EXCHANGE", "API_KEY", "API_SECRET", "API_PASSWORD", "ALLOW_NETWORK")
    return {**dict.fromkeys(f"POSLOCK_{each}" for each in ours), **folders, "HOME": f"{here.parent}/home"}


def tree(root: Path) -> dict[str, tuple[int, int, str]]:
    """Everything below *root*: what it is, since when it has been so, and what it says."""
    return {
        path: (status.st_mode, 0 if S_ISDIR(status.st_mode) else status.st_mtime_ns, _said(path, status))
        for parent, folders, names in os.walk(root)
        for path in (os.path.join(parent, name) for name in (*folders, *names))
        for status in [os.lstat(path)]
    }


def _said(path: str, status: os.stat_result) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if S_ISREG(status.st_mode) else ""


def outside(found: dict[str, Any], places: Iterable[str]) -> dict[str, Any]:
    """What of a `tree` is at none of *places*."""
    return {path: what for path, what in found.items() if not is_at(path, places)}


def is_at(path: str, places: Iterable[str]) -> bool:
    """Whether *path* is one of *places*, in one, the journal of one, or a directory on the way to one."""
    return any(
        path in {place, f"{place}-journal"} or path.startswith(f"{place.rstrip('/')}/") or place.startswith(f"{path}/")
        for place in places
    )


# What is written. A hook of this kind cannot be removed, so there is one, and it listens while somebody records.

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OF_ONE = ("mkdir", "remove", "rmdir", "truncate", "chmod", "chown", "utime")
_OF_TWO = ("rename", "link", "symlink")
_PATHS_OF = {"sqlite3.connect": 1, **{f"os.{each}": 1 for each in _OF_ONE}, **{f"os.{each}": 2 for each in _OF_TWO}}
_BEYOND = {"socket.connect", "socket.sendto", "subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.system"}
_recording: list[str] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _recording is None:
        return
    if event == "open":
        if arguments[2] & _WRITES:
            _note(_recording, arguments[0])
    elif event in _BEYOND:
        _recording.append(event)
    else:
        for path in arguments[: _PATHS_OF.get(event, 0)]:
            _note(_recording, path)


def _note(found: list[str], path: Any) -> None:
    if isinstance(path, int) or path == os.devnull:
        return
    text = os.fsdecode(path)
    if text.startswith("file:"):  # a URI of SQLite
        text = unquote(text.removeprefix("file:").partition("?")[0], errors="surrogateescape")
    # What is written is the entry in its directory; links on the way there are followed.
    folder, name = os.path.split(os.path.abspath(text))
    found.append(os.path.join(os.path.realpath(folder), name))


sys.addaudithook(_listen)


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Every path that this process opens for writing, makes, changes or removes; and what it starts or connects to."""
    global _recording  # noqa: PLW0603  # a hook has no other way to know
    found: list[str] = []
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # what is imported late is no file of ours
    _recording = found
    try:
        yield found
    finally:
        _recording = None
        sys.dont_write_bytecode = bytecode
