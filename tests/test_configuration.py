"""``poslock.toml`` and the keys: what is taken, what is refused, and what overrides what."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from loopback.server import KEYS
from poslock import CcxtExchange, PaperExchange, Position, PositionGuard
from poslock.bridge import finished
from poslock.errors import ExchangeUnavailable
from poslock_cli import close as close_module
from poslock_cli import configuration as configuration_module
from poslock_cli import recover as recover_module
from poslock_cli import settle as settle_module
from poslock_cli.configuration import Configuration, ConfigurationError, Venue, checked, load
from poslock_cli.configuration_checks import CHECKS
from poslock_cli.keys import read_keys, read_keys_file
from poslock_cli.main import main
from poslock_cli.real_exchange import open_venue
from poslock_cli.rehearsal.venues import WIRES
from processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLES = ("POSLOCK_API_KEY", "POSLOCK_API_SECRET", "POSLOCK_API_PASSWORD")
MEXC = 'venue = "mexc"\naccount = "main"\n'
MARKER = "must-not-be-shown"


@pytest.fixture(autouse=True)
def _nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have keys and a configuration."""
    for variable in ("POSLOCK_CONFIG", "POSLOCK_DIR", "POSLOCK_EXCHANGE", *VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "usual"))


@pytest.fixture
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for files that have keys in them, beside the one in which none may be."""
    return tmp_path_factory.mktemp("vault")


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def keys_toml(vault: Path, mode: int = 0o600) -> str:
    keys = {"api_key": KEYS["apiKey"], "secret": KEYS["secret"], "password": KEYS["password"]}
    return written(vault / "keys.toml", "".join(f'{key} = "{value}"\n' for key, value in keys.items()), mode)


def poslock(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(*arguments: str) -> str:
    """What is said, in one line, of a configuration that is refused."""
    result = poslock(*arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1), result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.rstrip("\n").isprintable()
    return result.stderr


# What a file may say.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("lease = 5\ntimeout = 0", {"lease": 5.0, "timeout": 0.0}),
        ("lease = 86400.0\ntimeout = 0.5", {"lease": 86400.0, "timeout": 0.5}),
        ('lock_dir = "locks"', {"lock_dir": "{here}/locks"}),
        ('lock_dir = "/var/locks"\nledger = "../books.db"', {"lock_dir": "/var/locks", "ledger": "{here}/../books.db"}),
        ('ledger = "~/books.db"', {"ledger": "{home}/books.db"}),
        (MEXC, {"venue": Venue("mexc", "main")}),
        (MEXC + 'market = "spot"', {"venue": Venue("mexc", "main", "spot")}),
        (MEXC + 'trigger = "mark"', {"venue": Venue("mexc", "main", trigger="mark")}),
        (MEXC + "sandbox = true\ndemo = false", {"venue": Venue("mexc", "main", sandbox=True)}),
        (MEXC + 'keys_file = "keys.toml"', {"venue": Venue("mexc", "main", keys_file="{here}/keys.toml")}),
        (
            MEXC + '[urls.contract]\nprivate = "http://127.0.0.1:8080/private"\npublic = "https://x.example/a"',
            {
                "venue": Venue(
                    "mexc",
                    "main",
                    urls={"contract": {"private": "http://127.0.0.1:8080/private", "public": "https://x.example/a"}},
                )
            },
        ),
        (
            MEXC + '[urls]\nrest = "http://[::1]:80"\n[options]\nrecvWindow = 5000\na = true\nb = 0.5\nc = "d"',
            {
                "venue": Venue(
                    "mexc",
                    "main",
                    urls={"rest": "http://[::1]:80"},
                    options={"recvWindow": 5000, "a": True, "b": 0.5, "c": "d"},
                )
            },
        ),
    ],
)
def test_what_is_written_is_what_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: dict[str, Any]
) -> None:
    """Paths count from the file's directory or from the home; what is not there is not configured."""
    monkeypatch.setenv("HOME", "/home/trader")
    path = written(tmp_path / "poslock.toml", text)

    def put(value: Any) -> Any:
        if isinstance(value, Venue) and value.keys_file:
            return Venue(value.venue, value.account, keys_file=put(value.keys_file))
        return value.format(here=tmp_path, home="/home/trader") if isinstance(value, str) else value

    assert load(path) == Configuration(path, **{field: put(value) for field, value in expected.items()})


BAD = [
    ('vennue = "mexc"', "'vennue' is unknown; known: venue, account, market, sandbox, demo, lock_dir"),
    ('"" = 1', "'' is unknown"),
    ('"\\u001b[2J" = 1', r"'\x1b[2J' is unknown"),
    (f'"{"x" * 1000}" = 1', f"'{'x' * 64}' is unknown"),
    ('[venue]\nname = "mexc"', "venue must be what ccxt calls the venue"),
    ('venue = "MEXC"\naccount = "main"', "venue must be"),
    ('venue = "../mexc"\naccount = "main"', "venue must be"),
    ('venue = ""\naccount = "main"', "venue must be"),
    ("venue = 1", "venue must be"),
    ('venue = "mexc"', "account is missing"),
    ('account = "main"', "venue is missing"),
    ('keys_file = "keys.toml"', "account is missing"),
    ("[options]\na = 1", "account is missing"),
    ('venue = "mexc"\naccount = ""', "account must be printable text"),
    ('venue = "mexc"\naccount = "a\\u0000b"', "account must be printable text"),
    (f'venue = "mexc"\naccount = "{"x" * 65}"', "account must be printable text"),
    ('venue = "mexc"\naccount = ["main"]', "account must be printable text"),
    (MEXC + 'market = "margin"', 'market must be "swap" or "spot"'),
    (MEXC + "sandbox = 1", "sandbox must be true or false"),
    (MEXC + 'demo = "yes"', "demo must be true or false"),
    (MEXC + "market = []", 'market must be "swap" or "spot"'),
    (MEXC + 'trigger = "index"', 'trigger must be "last" or "mark"'),
    ("lease = 0", "lease must be a number of seconds from 1 to 86400"),
    ("lease = 86401", "lease must be"),
    ("lease = nan", "lease must be"),
    ("lease = true", "lease must be"),
    (f'lease = "{MARKER}"', "lease must be"),
    (f"lease = 1{'0' * 400}", "lease must be"),
    ("timeout = -1", "timeout must be a number of seconds from 0 to 31622400"),
    ("timeout = inf", "timeout must be"),
    ("timeout = 1979-05-27", "timeout must be"),
    ('lock_dir = ""', "lock_dir must be a path"),
    ('lock_dir = "a\\u0000b"', "lock_dir must be a path"),
    ("lock_dir = 5", "lock_dir must be a path"),
    ('ledger = "a\\nb"', "ledger must be a path"),
    (f'ledger = "{"x" * 4097}"', "ledger must be a path"),
    (MEXC + "keys_file = false", "keys_file must be a path"),
    (MEXC + 'urls = "https://x.example"', "urls must be a table"),
    (MEXC + "[[urls]]\na = 1", "urls must be a table"),
    (MEXC + "[urls]\ncontract = 1", "urls 'contract' must be https://HOST"),
    (MEXC + f'[urls]\ncontract = "http://{MARKER}.example"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "http://127.0.0.1.evil.example/"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "http://127.0.0.1@evil.example/"', "urls 'contract' must be"),
    (MEXC + f'[urls]\ncontract = "https://user:{MARKER}@x.example"', "urls 'contract' must be"),
    (MEXC + f'[urls]\ncontract = "https://x.example/?a={MARKER}"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "https://[::1"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "https://x.example:port"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "https://"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "file:///etc/passwd"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "https://x.example/a b"', "urls 'contract' must be"),
    (MEXC + '[urls]\ncontract = "https://x.example/\\u202e"', "urls 'contract' must be"),
    (MEXC + '[urls.a.b.c]\nd = "https://x.example"', "urls must be called as in ccxt's urls['api']"),
    (MEXC + "[options.a]\nb = 1", "options 'a' must be a finite number, text, true or false"),
    (MEXC + "[options]\na = inf", "options 'a' must be"),
    (MEXC + "[options]\na = [1]", "options 'a' must be"),
    (MEXC + "options = 1", "options must be a table"),
    ('lease = 5\nlease = 6\nvenue = "mexc"', "lease is there twice (line 2)"),
    ("lease = 5\nlease = 6", "lease is there twice (line 2)"),
    (MEXC + "[urls]\n[options]\n[urls]\n", "urls is there twice (line 5)"),
    (f'ledger = "{MARKER}', "is no TOML: ledger: "),
    (f"ledger = {MARKER}\n", "is no TOML: ledger: "),
    (f"{MARKER}\nlease = 5", "is no TOML: "),
    (f'ledger = """\n{MARKER} = 1\n', "is no TOML: "),
    ("\ufefflease = 5", "is no TOML: "),
    (f"lease = {'[' * 3000}", "is no TOML: a number is too long, or lists are nested too deeply"),
    (f"lease = 1{'0' * 5000}", "is no TOML: a number is too long, or lists are nested too deeply"),
    ("#" * 65_537, "has more than 65536 bytes"),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, why: str) -> None:
    """Exit 2 and one line with the file and the key; never a value, and nothing is made."""
    path = written(tmp_path / "poslock.toml", text)
    said = refused("--config", path, "--lock-dir", str(tmp_path / "locks"), "status")
    assert said.startswith(f"Error: {path}: {why}")
    assert MARKER not in said
    assert list(tmp_path.iterdir()) == [Path(path)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f'{name} = "{MARKER}"', name)
        for name in ("api_key", "apiKey", "API-KEY", "secret", "password", "passphrase", "private_key", "token", "uid")
    ]
    + [
        (f'{MEXC}[options]\nsecret = "{MARKER}"', "secret"),
        (f'{MEXC}[urls.contract]\nbinance_apikey = "{MARKER}"', "binance_apikey"),
        (f'keys = [[{{my_api_secret = "{MARKER}"}}]]', "my_api_secret"),
        (f'lease = "{MARKER}"\n[keys]\npassword = "{MARKER}"', "password"),
        (f'{"a." * 5000}secret = "{MARKER}"', "secret"),
    ],
)
def test_keys_have_no_place_in_it(tmp_path: Path, text: str, name: str) -> None:
    """Wherever they stand: the message has the name and where they belong, not the value."""
    said = refused("--config", written(tmp_path / "poslock.toml", text), "status")
    assert f"poslock.toml: '{name}' does not belong here; keys belong into $POSLOCK_API_KEY, " in said
    assert MARKER not in said


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def outcome(table: Callable[[], dict[str, Any]]) -> Configuration | str:
    """What a file at /poslock.toml configures, or why it does not. Any other error is the test's failure."""
    try:
        return checked("/poslock.toml", table())
    except ConfigurationError as error:
        return error.message


@given(st.dictionaries(st.sampled_from(sorted(CHECKS)) | st.text(), values, max_size=6))
def test_any_table_is_a_configuration_or_refused(table: dict[str, Any]) -> None:
    """Never another error; and what is taken is in range."""
    found = outcome(lambda: table)
    if isinstance(found, str):
        assert found.startswith("/poslock.toml: ")
        assert found.isprintable()
    else:
        assert 1 <= found.lease <= 86_400
        assert all(path is None or os.path.isabs(path) for path in (found.lock_dir, found.ledger))


SIGNS = [*'=."#[]{},1-', " = ", "\n", "'", '"""', "[[", "]]", "nan", "1e999", "true", "2020-01-01", "\\u0000", "\x00"]


@given(st.lists(st.sampled_from([*CHECKS, *SIGNS, "secret", '"mexc"']) | st.text(max_size=3), max_size=30))
def test_any_text_is_a_configuration_or_refused(pieces: list[str]) -> None:
    """Never another error."""
    content = "".join(pieces).encode("utf-8", "surrogatepass")
    found = outcome(lambda: configuration_module._parsed("/poslock.toml", content))
    assert isinstance(found, Configuration) or found.startswith("/poslock.toml: ")


@pytest.mark.parametrize("around", ["{}", "[{}]", "{{a = {}}}", "{{a = [{}]}}", "{}\n]", "{} {}", '"""{}\n{}'])
@pytest.mark.parametrize("key", CHECKS)
def test_no_message_shows_a_value(key: str, around: str) -> None:
    """Text that cannot be, in the place of any key: it is not repeated."""
    value = f'"{MARKER}\\u0007"'
    content = f"{key} = {around.format(value, value)}".encode()
    found = outcome(lambda: configuration_module._parsed("/poslock.toml", content))
    assert isinstance(found, str)
    assert MARKER not in found


# Where it is.


def test_the_file_is_the_named_one_else_the_variables_else_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a lock directory of its own, so that it can be told which one was read."""

    def used(*options: str) -> str:
        return poslock(*options, "status").stdout

    named, of_variable, usual = (
        written(tmp_path / folder / "poslock.toml", 'lock_dir = "locks"')
        for folder in ("named", "variable", "usual/poslock")
    )
    assert used() == f"no locks in {Path(usual).parent}/locks\n"
    monkeypatch.setenv("POSLOCK_CONFIG", of_variable)
    assert used() == f"no locks in {Path(of_variable).parent}/locks\n"
    monkeypatch.chdir(tmp_path)
    assert used("--config", os.path.relpath(named)) == f"no locks in {Path(named).parent}/locks\n"
    monkeypatch.setenv("POSLOCK_CONFIG", "")  # an empty variable is none
    assert used() == f"no locks in {Path(usual).parent}/locks\n"


def test_a_file_in_the_working_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever left it there could send signed requests to an address of theirs."""
    written(tmp_path / "poslock.toml", 'lock_dir = "theirs"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSLOCK_DIR", str(tmp_path / "ours"))
    assert poslock("status").stdout == f"no locks in {tmp_path}/ours\n"
    monkeypatch.setattr("platformdirs.user_config_path", lambda _: Path())
    assert "poslock.toml: is not below the root; set $POSLOCK_CONFIG" in refused("status")


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_variable: bool) -> None:
    """A slip of the pen must not mean another account; the usual one may be missing."""
    path = str(tmp_path / "missing\n.toml")
    if by_variable:
        monkeypatch.setenv("POSLOCK_CONFIG", path)
    said = refused(*([] if by_variable else ["--config", path]), "status")
    assert said == rf"Error: {tmp_path}/missing\n.toml: is not there" + "\n"
    monkeypatch.delenv("POSLOCK_CONFIG", raising=False)
    assert poslock("--lock-dir", str(tmp_path), "status").exit_code == 0
    written(tmp_path / "usual", "a file where a directory would be")
    assert poslock("--lock-dir", str(tmp_path), "status").exit_code == 0


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path from the working directory leads nowhere then."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert "poslock.toml: cannot be found: " in refused("--config", "poslock.toml", "--lock-dir", "/x", "status")


# Whose files they are.


def make(kind: str, path: Path, content: str) -> None:
    """Something at *path* that is no file of ours; *content* is what it would say."""
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path, 0o600)
        case "socket":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(path))
        case "device":
            path.symlink_to("/dev/null")
        case "loop":
            path.symlink_to(path)
        case _:  # somebody else's, which only root can make
            written(path, content)
            os.chown(path, 12345, 12345)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a file of somebody else's is made by root")


@pytest.mark.parametrize(
    ("mode", "is_taken"), [(0o600, True), (0o644, True), (0o640, True), (0o664, False), (0o646, False)]
)
def test_a_configuration_that_others_may_write_is_refused(tmp_path: Path, mode: int, *, is_taken: bool) -> None:
    """They could have the requests sent elsewhere; reading it tells them nothing."""
    path = written(tmp_path / "pos lock.toml", 'lock_dir = "locks"', mode)
    if is_taken:
        assert poslock("--config", path, "status").exit_code == 0
    else:
        why = f"has mode {mode:04o}: others may write it; chmod go-w '{path}'"
        assert refused("--config", path, "status") == f"Error: {path}: {why}\n"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("directory", "is no regular file"),
        ("fifo", "is no regular file"),
        ("socket", "cannot be read: "),
        ("device", "is no regular file"),
        ("loop", "cannot be read: "),
        pytest.param("foreign", "belongs to user 12345, you are user 0; make one of your own", marks=needs_root),
    ],
)
def test_a_configuration_that_is_no_file_of_ours_is_refused(tmp_path: Path, kind: str, why: str) -> None:
    """At once, and without a traceback."""
    path = tmp_path / "poslock.toml"
    make(kind, path, "lease = 5")
    assert refused("--config", str(path), "status").startswith(f"Error: {path}: {why}")


def test_a_link_to_a_configuration_is_followed(tmp_path: Path) -> None:
    """Many keep such files elsewhere; paths in it count from where it was found."""
    path = written(tmp_path / "elsewhere" / "mine.toml", 'lock_dir = "locks"')
    link = tmp_path / "poslock.toml"
    link.symlink_to(path)
    assert poslock("--config", str(link), "status").stdout == f"no locks in {tmp_path}/locks\n"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_keys_file_for_us_alone_is_read(vault: Path, mode: int) -> None:
    """All three keys."""
    keys, found = read_keys_file(keys_toml(vault, mode))
    if os.geteuid() == 0 or mode & 0o400:
        assert (keys.api_key, keys.secret, keys.password, found) == (*KEYS.values(), mode)


@pytest.mark.parametrize(
    "mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o700, 0o4600, 0o2600, 0o1600]
)
def test_a_keys_file_for_others_is_refused(vault: Path, mode: int) -> None:
    """With what makes it ours."""
    path = keys_toml(vault, mode)
    with pytest.raises(ConfigurationError) as caught:
        read_keys_file(path)
    why = f"the keys file has mode {mode:04o}: it must be 0600 or stricter; chmod 600 {path}"
    assert caught.value.message == f"{path}: {why}"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("missing", "the keys file is not there"),
        ("directory", "the keys file is no regular file"),
        ("fifo", "the keys file is no regular file"),
        ("socket", "the keys file cannot be read: "),
        ("link", "the keys file is a symbolic link; name the file itself"),
        ("device", "the keys file is a symbolic link; name the file itself"),
        pytest.param("foreign", "the keys file belongs to user 12345, you are user 0; ", marks=needs_root),
    ],
)
def test_a_keys_file_that_is_no_file_of_ours_is_refused(tmp_path: Path, vault: Path, kind: str, why: str) -> None:
    """A link leads to whatever somebody turns it to; a FIFO would keep us waiting."""
    path = tmp_path / "keys.toml"
    if kind == "link":
        path.symlink_to(keys_toml(vault))
    elif kind != "missing":
        make(kind, path, "")
    with pytest.raises(ConfigurationError) as caught:
        read_keys_file(str(path))
    assert caught.value.message.startswith(f"{path}: {why}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'apiKey = "{MARKER}"', "the keys file may have api_key, secret, password, and nothing else"),
        (f'{MARKER} = "x"', "the keys file may have api_key, secret, password, and nothing else"),
        (f"[{MARKER}]\n[{MARKER}]", "the keys file is no TOML (line 2)"),
        (f'api_key = "{MARKER}', "the keys file is no TOML (end of document)"),
        (f'api_key = "{MARKER}"\napi_key = "{MARKER}"\n', "the keys file is no TOML (line 2)"),
        (f"secret = {'[' * 3000}", 'the keys file is no TOML; write api_key = "..."'),
        ("secret = 1234567890", "secret must be text in quotes, and not empty"),
        ('secret = ""', "secret must be text in quotes, and not empty"),
        (f'secret = "{MARKER} "', "secret begins or ends with a space"),
        (f'api_key = " {MARKER}"', "api_key begins or ends with a space"),
        (f'api_key = "{MARKER}\\nX-Header: 1"', "api_key has characters that no key has"),
        (f'secret = "{MARKER}\\n{MARKER}"', "secret has characters that no key has"),
        (f'password = "{MARKER}\\u00e9"', "password has characters that no key has"),
        (f'secret = "-----BEGIN {MARKER}\\n\\u0000"', "secret has characters that no key has"),
    ],
)
def test_what_can_be_no_key_is_refused_unseen(tmp_path: Path, text: str, why: str) -> None:
    """A key that somebody put into the wrong place is not repeated."""
    path = written(tmp_path / "keys.toml", text)
    with pytest.raises(ConfigurationError) as caught:
        read_keys_file(path)
    assert caught.value.message.startswith(f"{path}: {why}")
    assert MARKER not in caught.value.message


def test_a_secret_may_be_a_private_key(tmp_path: Path) -> None:
    """Of several lines, as some venues have it."""
    pem = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"
    assert read_keys_file(written(tmp_path / "keys.toml", f'secret = """{pem}"""'))[0].secret == pem


def test_keys_come_all_from_the_environment_or_all_from_the_file(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of one and half of the other would be refused by the venue, and nobody would know why."""
    path = keys_toml(vault)
    assert read_keys(path).api_key == KEYS["apiKey"]
    monkeypatch.setenv("POSLOCK_API_SECRET", "of-the-environment")
    keys = read_keys(path)
    assert (keys.api_key, keys.secret, keys.password, keys.origin) == (
        None,
        "of-the-environment",
        None,
        "the environment",
    )
    monkeypatch.setenv("POSLOCK_API_SECRET", "")
    assert read_keys(path).secret == KEYS["secret"]
    assert read_keys(None).secret is None
    monkeypatch.setenv("POSLOCK_API_KEY", f"{MARKER}\n")
    with pytest.raises(ConfigurationError) as caught:
        read_keys(path)
    assert caught.value.message == "the environment: POSLOCK_API_KEY begins or ends with a space"


def test_keys_are_not_shown(vault: Path) -> None:
    """Neither by what holds them, nor by what was made with them."""
    keys = read_keys(path := keys_toml(vault))
    exchange = open_venue("poslock.toml", Venue("mexc", "main", keys_file=path))
    client = exchange._client.ccxt
    assert (client.apiKey, client.secret, client.password) == tuple(KEYS.values())
    shown = f"{keys!r} {keys} {exchange!r} {client!r} {client}"
    assert [key for key in KEYS.values() if key in shown] == []


# What overrides what.


def test_the_lock_directory_is_the_options_else_the_variables_else_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order."""
    config = ["--config", written(tmp_path / "poslock.toml", 'lock_dir = "file"')]
    assert poslock(*config, "status").stdout == f"no locks in {tmp_path}/file\n"
    monkeypatch.setenv("POSLOCK_DIR", str(tmp_path / "variable"))
    assert poslock(*config, "status").stdout == f"no locks in {tmp_path}/variable\n"
    assert (
        poslock(*config, "--lock-dir", str(tmp_path / "option"), "status").stdout == f"no locks in {tmp_path}/option\n"
    )
    monkeypatch.setenv("POSLOCK_DIR", "")
    assert poslock(*config, "status").stdout == f"no locks in {tmp_path}/file\n"


@pytest.mark.parametrize("command", ["status", "clear --stale", "positions", "history", "doctor"])
def test_every_command_looks_into_the_configured_directory(tmp_path: Path, command: str) -> None:
    """Those that only look, too."""
    config = written(tmp_path / "poslock.toml", 'lock_dir = "locks"')
    assert f"{tmp_path}/locks" in poslock("--config", config, *command.split()).stdout


@pytest.mark.parametrize("command", ["positions", "history"])
def test_the_ledger_is_the_options_else_the_files_else_the_directorys(tmp_path: Path, command: str) -> None:
    """In this order."""
    config = ["--config", written(tmp_path / "poslock.toml", 'lock_dir = "locks"\nledger = "books.db"')]
    assert f" in {tmp_path}/books.db\n" in poslock(*config, command).stdout
    assert " in /x/y.db\n" in poslock(*config, command, "--ledger", "/x/y.db").stdout
    bare = ["--config", written(tmp_path / "bare.toml", 'lock_dir = "locks"')]
    assert f" in {tmp_path}/locks/ledger.db\n" in poslock(*bare, command).stdout


def test_run_takes_lease_and_timeout_from_the_file(tmp_path: Path) -> None:
    """Unless they are given; seen in the record while the command runs, and in how long a second one waits."""
    path = written(tmp_path / "poslock.toml", 'lock_dir = "locks"\nlease = 77\ntimeout = 0')
    config = [sys.executable, "-m", "poslock_cli", "--config", path]
    look = [*config, "status", "--json", "a"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        """In a process of its own: it keeps its signals blocked to its end."""
        command = [*config, "run", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def lease(*options: str) -> float:
        done = run(*options, "a", "--", *look)
        assert done.returncode == 0, done.stderr
        (holder,) = json.loads(done.stdout)[0]["holders"]
        seconds: float = holder["lease_s"]
        return seconds

    assert lease() == 77
    assert lease("--stale-after", "5") == 5
    assert run("a", "--", *config, "run", "a", "--", "true").returncode == 75  # without waiting


def options_of_the_guard(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> dict[str, Any]:
    """The options with which `close`, `recover`, `settle` or `forget` makes its guard."""
    seen: dict[str, Any] = {}

    def guard(exchange: Any, **options: Any) -> PositionGuard:
        seen.update(options)
        return PositionGuard(exchange, **options)

    monkeypatch.setattr(close_module, "PositionGuard", guard)
    monkeypatch.setattr(recover_module, "PositionGuard", guard)
    monkeypatch.setattr(settle_module, "PositionGuard", guard)
    poslock(*arguments)
    return seen


def test_commands_take_ledger_lease_and_timeout_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are given; by default they are the guard's own."""
    exchange = PaperExchange(tmp_path / "exchange.db")
    exchange.set_price("BTC/USDT:USDT", 60_000)
    exchange.open_position("BTC/USDT:USDT", "long", 1)
    PositionGuard(exchange, lock_dir=tmp_path / "locks", ledger=tmp_path / "books.db").track(
        Position("btc-1", "BTC/USDT:USDT", "long", 1, 60_000)
    )
    text = 'lock_dir = "locks"\nledger = "books.db"\nlease = 7\ntimeout = 8'
    config = ["--config", written(tmp_path / "poslock.toml", text)]
    paper = ["--exchange", f"paper:{tmp_path}/exchange.db"]
    seen = options_of_the_guard(monkeypatch, [*config, "recover", *paper])
    assert (seen["ledger"].path, seen["stale_after"]) == (f"{tmp_path}/books.db", 7)
    seen = options_of_the_guard(monkeypatch, [*config, "close", "nobody", *paper])
    assert (seen["ledger"].path, seen["stale_after"], seen["timeout"]) == (f"{tmp_path}/books.db", 7, 8)
    assert options_of_the_guard(monkeypatch, [*config, "close", "nobody", *paper, "--timeout", "9"])["timeout"] == 9
    for command in ("settle", "forget"):
        seen = options_of_the_guard(monkeypatch, [*config, command, "nobody", *paper, "--yes", "--reason", "test"])
        assert (seen["ledger"].path, seen["stale_after"], seen["timeout"]) == (f"{tmp_path}/books.db", 7, 8)
    bare = ["--lock-dir", str(tmp_path / "locks"), "close", "nobody", *paper, "--ledger", str(tmp_path / "books.db")]
    seen = options_of_the_guard(monkeypatch, bare)
    assert (seen["stale_after"], seen["timeout"]) == (30, 35)


def test_the_exchange_is_the_options_else_the_variables_else_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order; without any, the message says all three."""
    PaperExchange(tmp_path / "option.db").set_price("BTC/USDT:USDT", 1)
    PaperExchange(tmp_path / "variable.db").set_price("BTC/USDT:USDT", 1)
    config = ["--lock-dir", str(tmp_path), "--config", written(tmp_path / "poslock.toml", MEXC)]
    for name, value in zip(VARIABLES, KEYS.values(), strict=True):
        monkeypatch.setenv(name, value)

    def account(*options: str) -> str:
        found = re.match(r"nothing to recover on (.+) in ", poslock(*config, "recover", *options).stdout)
        assert found
        return found[1]

    assert account() == "mexc swap main"
    monkeypatch.setenv("POSLOCK_EXCHANGE", f"paper:{tmp_path}/variable.db")
    variable = account()
    assert variable == PaperExchange(tmp_path / "variable.db").account
    assert account("--exchange", f"paper:{tmp_path}/option.db") == PaperExchange(tmp_path / "option.db").account
    monkeypatch.delenv("POSLOCK_EXCHANGE")
    result = poslock("--lock-dir", str(tmp_path), "recover")
    expected = f"$POSLOCK_EXCHANGE: paper:PATH. A real one: venue and account in {tmp_path}/usual/poslock/poslock.toml."
    assert (result.exit_code, expected in result.stderr) == (2, True)


# The client.


def opened(text: str, vault: Path) -> Any:
    """The ccxt client of what *text* describes, with keys."""
    keys_toml(vault)
    path = written(vault / "poslock.toml", f'keys_file = "keys.toml"\n{text}')
    venue = load(path).venue
    assert venue is not None
    return open_venue(path, venue)._client.ccxt


def test_the_client_is_made_as_configured(vault: Path) -> None:
    """Addresses and options go over ccxt's own, which stay otherwise; its rate limiter is on."""
    ccxt = import_module("ccxt")
    urls = '[urls.contract]\nprivate = "http://127.0.0.1:9/p"\n'
    client = opened(MEXC + urls + "[options]\nrecvWindow = 123", vault)
    plain = ccxt.mexc()
    assert type(client) is ccxt.mexc
    assert client.enableRateLimit
    assert client.urls["api"]["contract"] == {**plain.urls["api"]["contract"], "private": "http://127.0.0.1:9/p"}
    assert client.urls["api"]["spot"] == plain.urls["api"]["spot"]
    assert client.options == {**plain.options, "recvWindow": 123}
    assert opened(MEXC, vault).urls == plain.urls


# A venue of ccxt, the line of poslock.toml, what a bot calls, and then the host, and what is in the headers.
TEST_NETS = [
    ("okx", "sandbox", "set_sandbox_mode", "www.okx.com", {"x-simulated-trading": "1"}),
    ("myokx", "sandbox", "set_sandbox_mode", "eea.okx.com", {"x-simulated-trading": "1"}),
    ("bybit", "demo", "enable_demo_trading", "api-demo.bybit.com", {}),
    ("bybit", "sandbox", "set_sandbox_mode", "api-testnet.bybit.com", {}),
    ("binanceusdm", "demo", "enable_demo_trading", "demo-fapi.binance.com", {}),
    ("binance", "demo", "enable_demo_trading", "demo-fapi.binance.com", {}),
]


@pytest.mark.parametrize("by", ["the file", "the bot"])
@pytest.mark.parametrize(("name", "key", "method", "host", "headers"), TEST_NETS)
def test_a_test_net_is_reached_on_the_wire(
    vault: Path, name: str, key: str, method: str, host: str, headers: dict[str, str], by: str
) -> None:
    """By the bot's own client, as README has it: with markets and clock asked for, and a signed request."""
    text = f'venue = "{name}"\naccount = "main"\n'
    if by == "the file":
        client = opened(f"{text}{key} = true\n", vault)
    else:
        client = getattr(import_module("ccxt"), name)(KEYS)
        getattr(client, method)(True)
    sent: list[tuple[str, dict[str, str]]] = []

    def request(_method: str, url: str, *, headers: dict[str, str], **_: Any) -> None:
        sent.append((url, headers))
        raise import_module("requests").exceptions.ConnectionError

    client.session.request = request
    client.enableRateLimit = False
    wire = WIRES[CcxtExchange(client, account="main").account.partition(" ")[0]](client, "BTC/USDT:USDT")
    for ask in (wire.client.markets, wire.client.set_clock):
        with pytest.raises(ExchangeUnavailable):
            finished(ask())
    wire.client.clock.set(1_700_000_000_000)
    client.markets = {wire.symbol: {"id": "BTCUSDT"}}
    with pytest.raises(ExchangeUnavailable):
        wire.held()
    client.session.close()
    beside = {"demo-api.binance.com", "demo-dapi.binance.com"} if name == "binance" else set()  # its other markets
    assert (len(sent) >= 3, urlsplit(sent[-1][0]).hostname) == (True, host)
    for url, carried in sent:
        assert urlsplit(url).hostname in {host, *beside}
        assert headers.items() <= carried.items()
    assert not wire.is_live()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('venue = "nosuch"\naccount = "a"', "knows no nosuch"),
        ('venue = "base"\naccount = "a"', "knows no base"),
        ('venue = "kraken"\naccount = "a"', "venue: kraken swap is not known; known: mexc swap"),
        (MEXC + '[urls]\ncontrakt = "https://x.example"', "urls: ccxt has no 'contrakt'; it has spot, spot2, contract"),
        (MEXC + '[urls.contract]\nprivat = "https://x.example"', "urls.contract: ccxt has no 'privat'; it has public"),
        (MEXC + '[urls]\ncontract = "https://x.example"', "urls.contract is a table in ccxt; it has public, private"),
        (MEXC + '[urls.contract.private]\na = "https://x.example"', "urls.contract.private is one address in ccxt"),
        (MEXC + "[options]\nsandbox = true", "options: ccxt refuses them (TypeError)"),
        (MEXC + "sandbox = true", "sandbox: ccxt has none for mexc"),
        (MEXC + "demo = true", "demo: ccxt has none for mexc"),
        ('venue = "okx"\naccount = "a"\ndemo = true', "demo: ccxt has none for okx"),
        ('venue = "bybit"\naccount = "a"\ndemo = true\nsandbox = true', "demo: ccxt has none for bybit"),
    ],
)
def test_what_ccxt_does_not_know_is_refused_before_keys_are_read(tmp_path: Path, text: str, why: str) -> None:
    """A misspelt address would be ignored, and the orders would go to the real venue. The keys file is not there."""
    path = written(tmp_path / "poslock.toml", f'keys_file = "missing.toml"\nlock_dir = "locks"\n{text}')
    for command in (["recover"], ["close", "btc-1"]):
        said = refused("--config", path, *command)
        assert said.startswith(f"Error: {path}: ")
        assert why in said
    assert list(tmp_path.iterdir()) == [Path(path)]


@pytest.mark.parametrize(
    ("variables", "missing"),
    [({}, "api_key"), ({"POSLOCK_API_KEY": "k"}, "secret"), ({"POSLOCK_API_SECRET": "s"}, "api_key")],
)
def test_missing_keys_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], missing: str
) -> None:
    """With where they may come from."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = written(tmp_path / "poslock.toml", MEXC)
    variable = {"api_key": "POSLOCK_API_KEY", "secret": "POSLOCK_API_SECRET"}[missing]
    why = f"mexc needs {missing}, and the environment has none; set ${variable}, or name a keys_file that has {missing}"
    assert refused("--config", path, "recover") == f"Error: {path}: {why}\n"


def test_without_ccxt_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a real venue is to be opened."""
    monkeypatch.setitem(sys.modules, "ccxt", None)
    path = written(tmp_path / "poslock.toml", f'{MEXC}lock_dir = "locks"')
    assert refused("--config", path, "recover") == f"Error: {path}: venue mexc needs ccxt; install poslock[ccxt]\n"
    assert poslock("--config", path, "positions").exit_code == 0


def test_ccxt_is_loaded_only_for_a_real_venue(tmp_path: Path) -> None:
    """It takes longer than most commands do."""
    PaperExchange(tmp_path / "exchange.db").set_price("BTC/USDT:USDT", 1)
    path = written(tmp_path / "poslock.toml", f'{MEXC}lock_dir = "locks"')
    poslock("--config", path, "recover", "--exchange", f"paper:{tmp_path}/exchange.db")
    code = "import sys; from poslock_cli.main import main\ntry: main()\nfinally: print('ccxt' in sys.modules)"
    for arguments in (["status"], ["recover", "--exchange", f"paper:{tmp_path}/exchange.db"]):
        command = [sys.executable, "-c", code, "--config", path, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.splitlines()[-1] == "False"


def test_help_says_where_it_is_looked_for() -> None:
    """And that options and variables go first."""
    text = " ".join(poslock("--help").stdout.split())
    for words in ("--config PATH", "$POSLOCK_CONFIG", "user's configuration directory", "never one in the working"):
        assert words in text
    assert "Options and variables override what it says" in text
