"""Any record, any id, any configuration, any arguments: no traceback, no hang, no file outside the directory."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
import unicodedata
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import event, example, given
from hypothesis import strategies as st

from fuzzing import (
    DEAD,
    EDGES,
    EXAMPLES,
    FOREIGN,
    LIVING,
    MISSING,
    CommandLine,
    any_character,
    any_text,
    argument_text,
    body_of,
    command_lines,
    configuration_files,
    contents,
    environment,
    is_at,
    outside,
    recorded,
    records,
    room,
    sealed,
    toml_files,
    tree,
    tries,
    valid_ids,
)
from poslock import InvalidPositionId, LockLost, PaperExchange, Position, PositionGuard, PositionLock
from poslock.errors import Holder, Intent, LockFileError, LockTimeout, PoslockError
from poslock.lock.files.directory import lock_file_name, open_directory
from poslock.lock.files.slots import slot_of
from poslock.lock.files.system import SYSTEM
from poslock.lock.record import LAST_TOKEN, MAX_SIZE, RECORD_SIZE, Content, Record, Unreadable, decode, encode
from poslock.lock.status import lock_status
from poslock_cli import doctor as doctor_module
from poslock_cli import run as run_module
from poslock_cli import watch as watch_module
from poslock_cli.close import SOMETHING_IS_LEFT
from poslock_cli.demo.command import demo
from poslock_cli.main import main
from processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A hang ends in a failure all the same, only later when more is tried.
pytestmark = pytest.mark.timeout(120 + int(EXAMPLES or 0) // 5)

POSITION = "btc-1"
PLAIN = Record(POSITION, "held", "shared", 7, "", 0, (Holder(1, "", MISSING, "", 7, 1.5, 1, 1, 1),) * 2)
MARKER = "must-not-be-shown"
SECRET = "7h1s-15-4-k3y"  # noqa: S105  # of nobody
# Colours are ours; CliRunner is told to keep them, for it would take those out that are not.
COLOURED = re.compile("\x1b\\[3[0-9]m(ok|warning|REFUSED)( *)\x1b\\[0m")


def poslock(here: Path, *arguments: str, answer: str = "", **variables: str) -> Result:
    """What the command line makes of it: an exit code, and text that cannot harm a terminal; never another error."""
    result = CliRunner().invoke(
        main, arguments, input=answer, color=True, env={**environment(here), **variables}, prog_name="poslock"
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert plain(result.output), ascii(result.output)
    return result


def plain(text: str) -> bool:
    return all(line.isprintable() for line in COLOURED.sub(r"\1\2", text).split("\n"))


@contextmanager
def written_only(here: Path, *places: str, opened: Iterable[str] = ()) -> Iterator[None]:
    """Nothing is written in the room and elsewhere but at these places; nothing is started, nobody is called.

    What may be *opened* may not be changed.
    """
    real = [os.path.realpath(here / place) for place in places]
    readable = [os.path.realpath(here / place) for place in opened]
    before = outside(tree(here.parent), real)
    with recorded() as found:
        yield
    assert [path for path in found if not is_at(path, [*real, *readable])] == []
    assert outside(tree(here.parent), real) == before


def databases(root: Path) -> set[str]:
    """Every file of SQLite below *root*."""
    files = (os.path.join(parent, name) for parent, _, names in os.walk(root) for name in names)
    return {path for path in files if os.path.isfile(path) and Path(path).read_bytes().startswith(b"SQLite format 3")}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the rooms are."""
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Takeovers are logged, and there are very many."""
    caplog.set_level(logging.ERROR, logger="poslock.lock")


# The record.


@tries(400)
@example(sealed(body_of(PLAIN).replace(b'"1-0"', b'"1-0/../0"')), None)
@example(sealed(body_of(PLAIN).replace(b'"token":7', b'"token":-7')), None)
@example(sealed(body_of(PLAIN).replace(b'"mode":"shared"', b'"mode":"exclusive"')), None)
@example(sealed(body_of(PLAIN).replace(b'"intent":"other"', b'"intent":"closing"')), None)
@example(sealed(body_of(PLAIN).replace(b'"intent":"other"', b'"intent":["close"]')), None)
@example(sealed(body_of(PLAIN).replace(b',"intent":"other"', b"")), None)
@example(encode(PLAIN).replace(b'"token":7', b'"token":8'), None)
@given(st.one_of(contents(), st.binary(max_size=20)), st.none() | valid_ids)
def test_any_bytes_are_a_record_or_are_not(data: bytes, position_id: str | None) -> None:
    """Never an exception; what is read is valid, and is the same when it was written again."""
    content = decode(data, position_id)
    event(type(content).__name__)
    if isinstance(content, Record):
        assert decode(encode(content)) == content
        presences = [*(each.presence for each in content.holders), *(each.presence for each in content.waiting)]
        assert all(re.fullmatch("[0-9]+-[0-9a-f]+", each) for each in presences)
        numbers = [value for row in (content, *content.holders) for value in row if isinstance(value, int | float)]
        assert all(0 <= value < 2**62 for value in numbers)
        assert all(each.intent in get_args(Intent) for each in content.holders)
        assert content.position_id == (position_id or content.position_id)
        assert content.state != "held" or (
            len(content.holders) == 1 if content.mode == "exclusive" else content.holders
        )
        assert data.startswith(sealed(data.partition(b"\n")[0].rstrip()[len(sealed(b"")) :]))
    elif content is None:
        assert not data
    else:
        assert content.data == data
        assert plain(content.why)


@tries(300)
@given(records())
def test_every_record_survives_the_file(record: Record) -> None:
    """Whatever ids, hosts and purposes are made of, however many hold and wait."""
    data = encode(record)
    assert decode(data) == record
    assert decode(data, record.position_id) == record
    assert (len(data) % RECORD_SIZE, data[-1:]) == (0, b"\n")
    assert decode(data + b"what is left of a longer one") == record


def as_read(data: bytes) -> Content:
    """What of a file counts."""
    first = data[:RECORD_SIZE]
    return decode(data[:MAX_SIZE] if len(first) == RECORD_SIZE and b"\n" not in first else first, POSITION)


def someone_holds(record: Record) -> bool:
    """Whether a holder is left who may act: one who is not dead, and whose lease cannot be known to have run out."""
    foreign = bool(record.boot_id and SYSTEM.clock_name and record.boot_id != SYSTEM.clock_name)
    now_ns = time.monotonic_ns()
    return record.state == "held" and any(
        holder.presence == LIVING if foreign else now_ns - holder.renewed_ns < holder.lease_ns
        for holder in record.holders
        if holder.presence != DEAD and holder.lease_ns > 0
    )


@contextmanager
def lock_file(rooms: Path, data: bytes) -> Iterator[tuple[Path, Path]]:
    """A room whose lock directory has this file in it, and the presence of one who lives and of one who is dead."""
    with room(rooms) as here:
        directory = open_directory("locks")
        directory.prepare()
        path = Path(directory.entry(POSITION).path)
        path.write_bytes(data)
        path.chmod(0o600)
        presence = here / "locks/.presence"
        (presence / slot_of(DEAD)).write_text(f"{DEAD}\n")
        with (presence / slot_of(LIVING)).open("w") as living:
            living.write(f"{LIVING}\n")
            living.flush()
            fcntl.flock(living, fcntl.LOCK_EX)
            yield here, path


@tries(200)
@given(contents(st.just(POSITION) | st.just("eth-1")), st.booleans())
def test_whatever_a_lock_file_says_nobody_is_let_in_who_must_not_be(rooms: Path, data: bytes, shared: bool) -> None:
    """Neither past an unreadable record nor past a holder who may live; past nobody else's it is, with a new token."""
    content = as_read(data)
    with lock_file(rooms, data) as (here, path), written_only(here, "locks"):
        lock = PositionLock(POSITION, lock_dir="locks", shared=shared, purpose="fuzz")
        refusal: PoslockError | None = None
        token = 0
        try:
            token = lock.acquire(timeout=0)
        except (LockTimeout, LockFileError) as error:
            refusal = error
        event(f"{type(content).__name__}: {type(refusal).__name__}")
        if isinstance(content, Unreadable):
            assert isinstance(refusal, LockTimeout)
            assert path.read_bytes() == data
        elif isinstance(content, Record) and someone_holds(content) and not (shared and content.mode == "shared"):
            assert isinstance(refusal, LockTimeout)
            left = as_read(path.read_bytes())  # those who wait are looked through
            assert isinstance(left, Record)
            assert left._replace(waiting=()) == content._replace(waiting=())
        elif content is None or (content.state == "free" and not content.waiting and content.token < LAST_TOKEN):
            assert refusal is None
        if refusal is not None:
            assert plain(str(refusal))
            with pytest.raises(LockLost):
                lock.check()
            return
        assert token > (content.token if isinstance(content, Record) else 0)
        lock.check()
        lock.release()
        assert lock_status(open_directory("locks"), POSITION).state in {"free", "held", "stale"}


@tries(150)
@given(
    contents(st.just(POSITION) | st.just("eth-1")),
    st.lists(
        st.sampled_from(
            ["status", f"status {POSITION}", "status --json", f"status {POSITION} --json", f"clear {POSITION}",
             f"clear {POSITION} --force --yes", "clear --stale", "clear --all", "clear --all --force --yes"]
        ),
        min_size=1,
        max_size=3,
    ),
)  # fmt: skip
def test_whatever_a_lock_file_says_is_shown_and_cleared(rooms: Path, data: bytes, commands: list[str]) -> None:
    """Corrupt if it is, else what the record says; a holder who may live is cleared only by force."""
    with lock_file(rooms, data) as (here, path), written_only(here, "locks"):
        for command in commands:
            content = as_read(path.read_bytes())
            result = poslock(here, "--lock-dir", "locks", *command.split())
            assert result.exit_code in {0, 1}, result.output
            if command == "status --json":
                (row,) = json.loads(result.stdout)
                assert (row["state"] == "corrupt") == isinstance(content, Unreadable)
                assert row["position"] == (content.position_id if isinstance(content, Record) else None)
            elif "status" in command:
                assert result.exit_code == 0
            elif isinstance(content, Record) and someone_holds(content) and "--force" not in command:
                assert as_read(path.read_bytes()) == content
            elif POSITION in command and not (isinstance(content, Record) and content.token == LAST_TOKEN):
                assert result.exit_code == 0, result.output
                assert lock_status(open_directory("locks"), POSITION).state == "free"


# The id, and what else people write of themselves.

no_text = st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.lists(any_text) | st.tuples()
ids = st.sampled_from(EDGES) | st.text(any_character, max_size=130) | valid_ids


@tries(200)
@given(ids | no_text, st.booleans())
@example("\ud800", False)
@example("a\x85b", False)
def test_an_id_is_refused_or_has_a_file_in_the_directory(rooms: Path, position_id: Any, made: bool) -> None:
    """Refused before anything is written; else its file is right there, and the id can be read back from it."""
    is_good = (
        isinstance(position_id, str)
        and 1 <= len(position_id) <= 128
        and not any(unicodedata.category(each) in {"Cc", "Cs"} for each in position_id)
    )
    event("good" if is_good else "bad")
    with room(rooms) as here:
        if made:
            (here / "locks").mkdir(mode=0o700)
        if not is_good:
            with written_only(here), pytest.raises(InvalidPositionId) as caught:
                PositionLock(position_id, lock_dir="locks").acquire(timeout=0)
            assert plain(str(caught.value))
            return
        with written_only(here, "locks"):
            with PositionLock(position_id, lock_dir="locks", timeout=0) as lock:
                assert os.path.dirname(os.path.realpath(lock.path)) == os.path.realpath("locks")
                assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}-[0-9a-f]{16}\.lock", os.path.basename(lock.path))
                assert {each.name for each in Path("locks").iterdir()} == {".presence", os.path.basename(lock.path)}
                record = decode(Path(lock.path).read_bytes())
            (row,) = json.loads(poslock(here, "--lock-dir", "locks", "status", "--json").stdout)
        assert isinstance(record, Record)
        assert record.position_id == row["position"] == position_id
        assert poslock(here, "--lock-dir", "locks", "status", "--", position_id).exit_code == 0


def variants(position_id: str) -> st.SearchStrategy[str]:
    """Ids that look like this one, to people or to file systems."""
    forms = [unicodedata.normalize(form, position_id) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    cases = [position_id.upper(), position_id.lower(), position_id.casefold(), position_id.swapcase()]
    marks = [re.sub(r"\W", mark, position_id) for mark in "-_/ "]
    return st.sampled_from([*forms, *cases, *marks, f"{position_id} ", f"{position_id}-", position_id[:40]]) | valid_ids


@tries(300)
@given(valid_ids.flatmap(lambda each: st.tuples(st.just(each), variants(each))))
def test_two_ids_never_share_a_file(both: tuple[str, str]) -> None:
    """However alike they look, and on file systems too that do not tell capitals from small letters."""
    first, second = both
    names = {lock_file_name(first).lower(), lock_file_name(second).lower()}
    assert len(names) == len({first, second})


@tries(60)
@given(any_text | st.sampled_from(EDGES))
def test_a_purpose_is_shown_without_control_characters(rooms: Path, purpose: str) -> None:
    """In the table, in JSON whole, and to whoever is kept waiting."""
    with room(rooms) as here, written_only(here, "locks"):
        if len(purpose) > 128:
            with pytest.raises(ValueError, match="purpose must be"):
                PositionLock(POSITION, lock_dir="locks", purpose=purpose)
            return
        with PositionLock(POSITION, lock_dir="locks", purpose=purpose):
            assert poslock(here, "--lock-dir", "locks", "status").exit_code == 0
            (row,) = json.loads(poslock(here, "--lock-dir", "locks", "status", "--json").stdout)
            left = poslock(here, "--lock-dir", "locks", "clear", POSITION)
        assert (left.exit_code, row["holders"][0]["purpose"]) == (1, purpose)


@pytest.fixture(scope="module")
def furnished(rooms: Path) -> Path:
    """What is in a room for command lines: an account with a tracked position, and locks of all kinds."""
    here = rooms / "furnished"
    (here / "locks").mkdir(parents=True, mode=0o700)
    exchange = PaperExchange(str(here / "exchange.db"))
    exchange.set_price("BTC/USDT:USDT", 60_000)
    exchange.open_position("BTC/USDT:USDT", "long", 10)
    guard = PositionGuard(exchange, lock_dir=str(here / "locks"))
    guard.track(Position(POSITION, "BTC/USDT:USDT", "long", 10, 60_000))
    for name in ("free-1", "corrupt-1", "held-1"):
        with PositionLock(name, lock_dir=here / "locks", stale_after=86_400) as lock:
            record = Path(lock.path).read_bytes()
        if name != "free-1":
            Path(lock.path).write_bytes(record if name == "held-1" else b"damage")
    shutil.rmtree(here / "locks/.presence")  # nobody knows whether the holder of held-1 lives
    with closing(sqlite3.connect(here / FOREIGN)) as db:
        db.execute("PRAGMA user_version = 1")
    (here / "plain.txt").write_text("no database")
    (here / "poslock.toml").write_text('lock_dir = "locks"\nlease = 5\ntimeout = 0\n')
    (here / "bad.toml").write_text("lease = \x1b")
    (here / "loop").symlink_to("loop")
    (here / "\x1b[31m").mkdir(mode=0o700)
    (here / "\x1b[31m/planted.lock").write_bytes(b"damage")
    return here


def furnish(here: Path, furnished: Path) -> None:
    shutil.copytree(furnished, here, symlinks=True, dirs_exist_ok=True)


@tries(15, costs=10)
@given(argument_text | any_text.map(lambda each: os.fsdecode(os.fsencode(each.encode("utf-8", "replace")))))
def test_a_reason_is_kept_and_shown_without_control_characters(rooms: Path, furnished: Path, reason: str) -> None:
    """From the command line into the ledger, and from there into the history."""
    with room(rooms) as here:
        furnish(here, furnished)
        close = ("close", "--exchange=paper:exchange.db", f"--reason={reason.replace(chr(0), '')}", POSITION)
        with written_only(here, "locks", "exchange.db"):
            result = poslock(here, "--lock-dir", "locks", *close)
            assert result.exit_code == 0, result.output
            assert poslock(here, "--lock-dir", "locks", "history", POSITION).stdout.count("\n") > 2
            assert poslock(here, "--lock-dir", "locks", "history", "--json").exit_code == 0
            assert poslock(here, "--lock-dir", "locks", "status").exit_code == 0


# The configuration.

commands = st.sampled_from([["status"], ["recover"], ["close", POSITION], ["history"], ["positions", "--json"]])
one_of_ours = st.sampled_from(["POSLOCK_DIR", "POSLOCK_EXCHANGE", "POSLOCK_CONFIG", "XDG_CONFIG_HOME", "HOME"])
environments = st.dictionaries(one_of_ours, st.sampled_from(["", "/", "x", "poslock.toml"]) | argument_text, max_size=2)


def assert_in_order(result: Result, *secrets: str) -> None:
    """Carried out, or refused in words; a configuration in one line that names what is wrong."""
    assert result.exit_code in {0, 1, 2}, result.output
    assert not any(secret in result.output for secret in secrets)
    if result.exit_code:
        *_, last = result.stderr.splitlines()
        assert "Error: " in last or result.stdout


@tries(200)
@example(b'lease = "30"', ["status"], {}, 0o600)
@example(b"lease = true", ["status"], {}, 0o600)
@example(b'venue = "mexc"\naccount = 7', ["status"], {}, 0o600)
@example(b"lease = " + b"[" * 3000, ["status"], {}, 0o600)
@given(configuration_files(MARKER), commands, environments, st.sampled_from([0o600, 0o644, 0o666, 0o000]))
def test_any_configuration_is_taken_or_refused(
    rooms: Path, data: bytes, command: list[str], variables: dict[str, str], mode: int
) -> None:
    """Refused: exit 2, and one line with the name of the file. Nothing is made, and no value is shown."""
    with room(rooms) as here:
        for path, content in ((here / "poslock.toml", data), (here / "keys.toml", b'api_key = "a"\nsecret = "b"\n')):
            path.write_bytes(content)
            path.chmod(mode if content is data else 0o600)
        # Who may write to a ledger may make the lock directory, so that one is named here: it could be anywhere.
        places = ("locks",) if command[0] in {"recover", "close"} else ()
        named = [option for place in places for option in ("--lock-dir", place)]
        with written_only(here, *places):
            result = poslock(here, "--config", "poslock.toml", *named, *command, **variables)
        event(f"exit {result.exit_code}")
        assert_in_order(result)
        if not result.stderr.startswith("Error: "):
            table = tomllib.loads(data.decode())
            assert {type(table[key]) for key in ("lease", "timeout") if key in table} <= {int, float}
            assert {type(table[key]) for key in ("venue", "account", "lock_dir", "ledger") if key in table} <= {str}
        assert_refused_in_one_line(result, f"Error: {here}/poslock.toml: ")


def assert_refused_in_one_line(result: Result, begins: str) -> None:
    if result.exit_code == 2 and not result.stderr.startswith("Usage: "):
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith(begins) or ": the keys file " in result.stderr
        assert result.stdout == ""
        assert MARKER not in result.stderr


key_texts = (
    st.sampled_from([SECRET, f" {SECRET}", f"{SECRET}\n", f"\x1b{SECRET}", f"{SECRET}\u00e9", ""]) | argument_text
)
key_variables = st.sampled_from(["POSLOCK_API_KEY", "POSLOCK_API_SECRET", "POSLOCK_API_PASSWORD"])


@tries(120)
@example(f'{SECRET} = "x"'.encode(), 0o600, {}, "mexc")  # a key where the name of one belongs
@given(
    toml_files(["api_key", "secret", "password"], SECRET, SECRET),
    st.sampled_from([0o600, 0o600, 0o400, 0o644, 0o4600]),
    st.dictionaries(key_variables, key_texts, max_size=2),
    st.sampled_from(["mexc", "binance", "okx", "bybit"]),
)
def test_no_key_is_ever_shown(rooms: Path, data: bytes, mode: int, variables: dict[str, str], venue: str) -> None:
    """Whatever the keys file and the environment say: taken, or refused in one line without any of it."""
    with room(rooms) as here:
        text = f'venue = "{venue}"\naccount = "main"\nkeys_file = "keys.toml"\n'
        for path, content in ((here / "poslock.toml", text.encode()), (here / "keys.toml", data)):
            path.write_bytes(content)
            path.chmod(mode if content is data else 0o600)
        with written_only(here):
            result = poslock(here, "--config", "poslock.toml", "recover", **variables)
        event(f"exit {result.exit_code}")
        assert_in_order(result, SECRET)
        assert result.exit_code in {0, 2}
        begins = f"Error: {here}/" if "the environment:" not in result.stderr else "Error: the environment: "
        assert_refused_in_one_line(result, begins)


# Arguments.


def within(command: click.Command) -> Any:
    """In the place of a *command* that starts many processes: are its options what they may be?"""

    def check(**values: Any) -> None:
        for each in command.params:
            kind, value = each.type, values[str(each.name)]
            if isinstance(kind, click.IntRange | click.FloatRange):
                assert kind.min is not None
                assert kind.max is not None
                assert kind.min <= value <= kind.max, (each.name, value)

    return check


def busy(lock: PositionLock) -> int:
    """In the place of what goes on to block the signals of the process that runs the tests."""
    raise SystemExit(run_module.BUSY)


def twice() -> Any:
    """In the place of a pause: the second one is ended by Ctrl-C."""
    pauses = iter([None])

    def pause(seconds: float) -> None:
        assert 0.1 <= seconds <= 3600
        if next(pauses, pause) is pause:
            raise KeyboardInterrupt

    return SimpleNamespace(sleep=pause)


def may_write(here: Path, line: CommandLine) -> list[str]:
    """Where its command may: nowhere if it only looks, and doctor makes no directory."""
    lock_dirs = ["locks", f"{here.parent}/state/poslock", *line.lock_dirs]
    match line.command:
        case "clear" | "run":
            return lock_dirs
        case "close" | "recover" | "settle" | "forget":
            return [*lock_dirs, *(place for place in may_open(here, line) if place != FOREIGN)]
        case "doctor":
            return [place for place in lock_dirs if os.path.isdir(here / place)]
        case _:
            return []


def may_open(here: Path, line: CommandLine) -> list[str]:
    """The databases that are there; a missing one is never made, and that of another program never changed."""
    lock_dirs = ["locks", f"{here.parent}/state/poslock", *line.lock_dirs]
    found = [*line.databases, *(f"{place}/ledger.db" for place in lock_dirs)]
    return [place for place in found if os.path.lexists(here / place)]


@tries(250)
@example(CommandLine(("\x1b[31m",)), "")
@example(CommandLine(("--\x1b[31m",)), "")
@example(CommandLine(("history", "a", "\x1b[31m"), "history"), "")
@example(CommandLine(("status", "--interval=\x1b[31m"), "status"), "")
@example(CommandLine(("--lock-dir", "\x1b[31m", "status"), "status"), "")
@example(CommandLine(("--lock-dir", "no\x1b[31m", "status"), "status"), "")
@example(CommandLine(("demo", "--lease", "nan"), "demo"), "")
@example(CommandLine(("status", "--watch", "--interval", "nan"), "status"), "")
@example(CommandLine(("run", "--timeout", "nan", POSITION, "true"), "run"), "")
@example(CommandLine(("--lock-dir", ".", "positions"), "positions"), "")
@example(CommandLine(("--lock-dir", ".", "history"), "history"), "")
@example(CommandLine(("history", "--ledger", "new.db"), "history"), "")
@example(CommandLine(("history", "--ledger", FOREIGN), "history", (), (FOREIGN,)), "")
@example(CommandLine(("recover", f"--exchange=paper:{FOREIGN}"), "recover", (), (FOREIGN,)), "")
@example(
    CommandLine(("--lock-dir", ".", "recover", "--exchange=paper:exchange.db"), "recover", (".",), ("exchange.db",)), ""
)
@example(CommandLine(("--lock-dir", "locks", "recover", "--exchange=paper:new.db"), "recover"), "")
@example(CommandLine(("--lock-dir", "locks", "close", "--exchange=paper:new.db", "nobody-1"), "close"), "")
@example(CommandLine(("--lock-dir", "new", "doctor"), "doctor", ("new",)), "")
@given(command_lines(main), st.sampled_from(["", "y\n", "n\n", "\x1b\n"]))
def test_any_arguments_are_carried_out_or_refused(rooms: Path, furnished: Path, line: CommandLine, answer: str) -> None:
    """With a documented exit code, without a traceback, and written only where this command may."""
    with room(rooms) as here, pytest.MonkeyPatch.context() as patch:
        furnish(here, furnished)
        patch.setattr(demo, "callback", within(demo))
        patch.setattr(doctor_module, "prove", lambda directory: [])  # two processes, in a safe directory
        patch.setattr(run_module, "_acquire", busy)
        patch.setattr(watch_module, "time", twice())
        line = line.at(here)
        before = databases(here.parent)
        with written_only(here, *may_write(here, line), opened=may_open(here, line)):
            result = poslock(here, *line.arguments, answer=answer)
        assert databases(here.parent) == before
        event(f"{line.command or 'none'}: exit {result.exit_code}")
        ours = {"run": {run_module.BUSY, 126, 127}, "close": {SOMETHING_IS_LEFT}}.get(line.command or "", set())
        assert result.exit_code in {0, 1, 2} | ours, result.output
        if result.exit_code not in {0, run_module.BUSY}:
            assert result.output


positions = st.sampled_from([POSITION, "free-1", "corrupt-1", "held-1"]) | argument_text
harmless = [["true"], ["false"], ["sh", "-c", "exit 7"], ["sh", "-c", "kill -9 $$"], ["no such"], ["plain.txt"], ["/"]]
programs = st.tuples(st.sampled_from(harmless), st.lists(argument_text, max_size=2)).map(lambda both: both[0] + both[1])
of_run = st.lists(
    st.sampled_from(["--shared", "--grace=0", "--grace=nan", "--stale-after=1", "--stale-after=0"]), max_size=2
)


@tries(6, costs=100)
@given(positions, programs, of_run)
def test_run_takes_any_arguments(
    rooms: Path, furnished: Path, position: str, program: list[str], options: list[str]
) -> None:
    """In a process of its own, for it blocks signals: the command's exit code, or one of its own, in time."""
    with room(rooms) as here:
        furnish(here, furnished)
        command = [sys.executable, "-m", "poslock_cli", "--lock-dir", "locks", "run", "--timeout=0", *options]
        own = {name: value for name, value in environment(here).items() if value is not None}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("POSLOCK_")}
        before = outside(tree(here.parent), [f"{here}/locks"])
        done = subprocess.run(
            [*command, "--", position, *program],
            env={**inherited, **own},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert outside(tree(here.parent), [f"{here}/locks"]) == before
        assert done.returncode in {0, 1, 2, 7, 75, 126, 127, 137}, done
        assert b"Traceback" not in done.stderr
        assert plain(done.stderr.decode("utf-8", "surrogateescape"))
