"""No key in any log, traceback, error or file, whatever goes wrong."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import ref

import ccxt
import pytest

from key_hygiene import found_in, leaks_in_files
from loopback.mexc import MAINTENANCE, RATE_LIMITED, Mexc, client_at
from loopback.server import KEYS, Fault, Reply
from poslock.exchange.ccxt.secrecy import _HIDING, CREDENTIALS, hide_keys, scrubbed
from poslock.exchange.port import Leg

if TYPE_CHECKING:
    from collections.abc import Iterator

BOT = Path(__file__).with_name("talkative_bot.py")
LEG = Leg("BTC/USDT:USDT", "long")
ECHO = Reply(200, {"success": False, "code": 2011, "message": f"not good: {' '.join(KEYS.values())}"})
GATEWAY = Reply(502, f"<html>{KEYS['apiKey']}</html>", {"Content-Type": "text/html"})
LATE_MS = 120_000

# What happens to requests at the venue, what changes at the client, what a bot with an order and one with a question
# die of.
FAILURES: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "bad key": (None, {"apiKey": f"{KEYS['apiKey']}-not"}, "KeysRefused", "KeysRefused"),
    "bad secret": (None, {"secret": f"{KEYS['secret']}-not"}, "KeysRefused", "KeysRefused"),
    "no secret": (None, {"secret": None}, "KeysRefused", "KeysRefused"),
    "key that no header takes": (
        None,
        {"apiKey": f"{KEYS['apiKey']}\n"},
        "OrderRefused|NotServed",
        "ExchangeUnavailable",
    ),
    "garbage": ("garbage", {}, "OutcomeUnknown", "ExchangeUnavailable"),
    "cut": ("cut", {}, "OutcomeUnknown", "ExchangeUnavailable"),
    "lost": ("lose", {}, "OutcomeUnknown", "ExchangeUnavailable"),
    "dropped": ("drop", {}, "OutcomeUnknown", "ExchangeUnavailable"),
    "slow": (8.0, {"timeout": 4000}, "OutcomeUnknown", "ExchangeUnavailable"),
    "maintenance": (MAINTENANCE, {}, "UnderMaintenance", "UnderMaintenance"),
    "rate limit": (RATE_LIMITED, {}, "RateLimited", "RateLimited"),
    "gateway": (GATEWAY, {}, "OutcomeUnknown", "ExchangeUnavailable"),
    "refused, the key repeated": (ECHO, {}, "OrderRefused", "ExchangeUnavailable"),
    "late": (None, {}, "RequestExpired", ""),  # a question has no time of its own
}
CASES = [(failure, does) for failure in FAILURES for does in ("place", "held") if (failure, does) != ("late", "held")]


@pytest.fixture
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mexc]:
    with Mexc(tmp_path_factory.mktemp("venue") / "venue.db") as running:
        running.book.set_price(LEG.symbol, 60_000)
        running.book.open_position(LEG.symbol, LEG.side, 10)
        yield running


def last_words(venue: Mexc, folder: Path, **settings: Any) -> str:
    """What a bot writes to its standard error before it ends of an error that it does not handle."""
    defaults = {"asynchronous": False, "hides": True, "does": "place", "changes": {}, "late_ms": 0}
    told = json.dumps({"url": venue.url, "folder": str(folder), **defaults, **settings})
    done = subprocess.run([sys.executable, str(BOT), told], capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert "secrecy.py" not in done.stderr, "the filter has raised"
    return done.stderr


@pytest.mark.takes_turns
@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize(("failure", "does"), CASES)
def test_whatever_a_bot_dies_of_leaves_no_key(
    venue: Mexc, tmp_path: Path, failure: str, does: str, *, asynchronous: bool
) -> None:
    """Not in the traceback, the log at DEBUG, the ledger or the lock directory."""
    what, changes, of_order, of_question = FAILURES[failure]
    error = of_order if does == "place" else of_question
    if what is not None:
        # The guard asks what is held when it tracks, and when it begins to close.
        path, spared = ("order/create", 0) if does == "place" else ("open_positions", 2)
        venue.strike(Fault(path, what, times=3, spared=spared))
    late_ms = LATE_MS if failure == "late" else 0
    said = last_words(venue, tmp_path, asynchronous=asynchronous, does=does, changes=changes, late_ms=late_ms)
    assert re.search(rf"\nposlock\.errors\.({error}): ", said), said
    assert "/position_mode, Request: {'ApiKey': '<apiKey>'" in (tmp_path / "bot.log").read_text()
    assert (tmp_path / "locks" / "ledger.db").stat().st_size > 0
    assert found_in(said) == []
    assert leaks_in_files(tmp_path) == []


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_without_the_filter_the_log_has_the_key(
    venue: Mexc, tmp_path_factory: pytest.TempPathFactory, *, asynchronous: bool
) -> None:
    """So the test above would see it."""
    folder = tmp_path_factory.mktemp("bare")
    last_words(venue, folder, asynchronous=asynchronous, hides=False, late_ms=LATE_MS)
    assert leaks_in_files(folder) == [f"apiKey in {folder}/bot.log"]


# The filter.


class Records(logging.Handler):
    """What arrives, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        return "\n".join(map(logging.Formatter().format, self.records))


@pytest.fixture
def records() -> Iterator[Records]:
    """Of all loggers, at every level."""
    handler, root = Records(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def client(keys: dict[str, Any] | None = None) -> Any:
    return ccxt.mexc({**KEYS, **(keys or {})})


@pytest.mark.parametrize(
    "name", ["ccxt.base.exchange", "urllib3.connectionpool", "urllib3.util.retry", "aiohttp.client"]
)
def test_each_credential_is_named_instead(records: Records, name: str) -> None:
    """In messages, arguments of any type and addresses; with all else as it was."""
    hidden = client(dict.fromkeys(CREDENTIALS))
    for credential in CREDENTIALS:
        setattr(hidden, credential, f"{credential}-12345")
    hide_keys(hidden)
    logger, address = logging.getLogger(name), f"/?uid={hidden.uid}&token={hidden.token}&key={hidden.privateKey}%s"
    logger.debug("%s %s 100%%", {"ApiKey": hidden.apiKey, "p": hidden.password}, [hidden.secret])
    logger.debug(address)
    said = "{'ApiKey': '<apiKey>', 'p': '<password>'} ['<secret>'] 100%\n/?uid=<uid>&token=<token>&key=<privateKey>%s"
    assert records.text == said


def test_every_credential_that_ccxt_knows_is_hidden() -> None:
    """A new one in another version of ccxt would be seen here."""
    assert set(ccxt.Exchange.requiredCredentials) <= set(CREDENTIALS)


def test_signatures_are_hidden(records: Records) -> None:
    """With one a request could be sent again while it is young."""
    hidden = client()
    hide_keys(hidden)
    logger = logging.getLogger("urllib3.connectionpool")
    logger.debug('"GET /api/v3/account?timestamp=1&signature=0aF9%%2B%%3D&x=1 HTTP/1.1" 200')
    logger.debug("%s", {"Signature": "abc", "X-BAPI-SIGN": "d+/=", "OK-ACCESS-SIGN": "e", "design": "f"})
    assert records.text == (
        '"GET /api/v3/account?timestamp=1&signature=<signature>&x=1 HTTP/1.1" 200\n'
        "{'Signature': '<signature>', 'X-BAPI-SIGN': '<signature>', 'OK-ACCESS-SIGN': '<signature>', 'design': 'f'}"
    )


def test_a_credential_is_found_in_each_way_of_writing_it(records: Records) -> None:
    """In an address, in JSON, as Python shows it; and one that is a part of another one."""
    pem = "-----BEGIN KEY-----\nQUJD+/=\n-----END KEY-----\n"
    hidden = client({"secret": pem, "apiKey": "abcd", "password": "abcd efgh/é"})
    hide_keys(hidden)
    logger = logging.getLogger("ccxt.base.exchange")
    logger.debug("%s|%r|%s|%s", pem, pem, json.dumps(pem), quote(pem))
    logger.debug("%s|%s|%s", quote(hidden.password), quote(hidden.password, safe=""), json.dumps([hidden.password]))
    said = records.text
    assert "QUJD" not in said
    assert "efgh" not in said
    assert "<apiKey>" not in said


def test_records_of_others_are_left_as_they_are(records: Records) -> None:
    """Arguments stay arguments where there is nothing to hide, and other loggers are not looked at."""
    hidden = client({"apiKey": "a-key-that-may-be-seen"})
    hide_keys(hidden)
    logging.getLogger("ccxt.base.exchange").debug("%s of %d", "one", 2)
    logging.getLogger("bot").debug("mine: %s", hidden.apiKey)
    first, second = records.records
    assert (first.msg, first.args) == ("%s of %d", ("one", 2))
    assert (second.msg, second.args) == ("mine: %s", (hidden.apiKey,))


def test_a_record_that_cannot_be_shown_disturbs_nobody() -> None:
    """The filter never raises into the bot; where arguments do not fit, the handler's complaint has no key in it."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("not me")

    hidden = client()
    hide_keys(hidden)
    misfit = logging.LogRecord("ccxt.base.exchange", logging.DEBUG, "", 0, "%d", (hidden.apiKey,), None)
    shy = logging.LogRecord("ccxt.base.exchange", logging.DEBUG, "", 0, "%s", (Shy(),), None)
    assert _HIDING.filter(misfit)
    assert (misfit.msg, misfit.args) == ("%d ('<apiKey>',)", ())
    assert _HIDING.filter(shy)
    assert shy.msg == "%s"


def test_what_cannot_be_searched_is_not_shown(records: Records) -> None:
    """Whatever goes wrong in the filter: nothing is raised, and nothing of the record is left."""

    class Broken:
        @property
        def secret(self) -> str:
            raise RuntimeError("not now")

    broken = Broken()
    hide_keys(broken)
    logging.getLogger("ccxt.base.exchange").error("a key", exc_info=RuntimeError("a key"))
    assert records.text == "a record that could not be searched for keys"


def test_tracebacks_are_hidden_too(records: Records) -> None:
    """As of a task that nobody awaited, whose error is one of ccxt's, with the address."""
    hidden = client()
    hide_keys(hidden)
    error = ccxt.NetworkError(f"mexc GET https://x.example/?accessKey={hidden.apiKey}&signature=ab12")
    logging.getLogger("asyncio").error("lost", exc_info=error)
    assert "accessKey=<apiKey>&signature=<signature>" in records.text
    assert found_in(records.text) == []


def test_the_filter_does_not_grow_and_keeps_no_client() -> None:
    """However often and for however many clients it is asked for."""
    gc.collect()
    before = len(_HIDING.clients)
    clients = [client() for _ in range(20)]
    each = clients[0]
    for each in clients * 5:
        hide_keys(each)
    names = ("ccxt.base.exchange", "urllib3.connectionpool", "asyncio")
    assert [logging.getLogger(name).filters.count(_HIDING) for name in names] == [1, 1, 1]
    assert len(_HIDING.clients) == before + 20
    gone = ref(clients[0])
    del clients[:], each
    gc.collect()
    assert gone() is None
    assert len(_HIDING.clients) <= before


def test_keys_may_change(records: Records) -> None:
    """What the client has when it logs is hidden."""
    hidden = client()
    hide_keys(hidden)
    hidden.apiKey = "another-key"
    hidden.logger.debug("another-key")
    assert records.text == "<apiKey>"


def test_a_logger_of_the_clients_own_is_filtered(records: Records) -> None:
    """ccxt lets a bot choose."""
    hidden = client()
    hidden.logger = logging.getLogger("bot.venue")
    hide_keys(hidden)
    hidden.logger.debug(hidden.secret)
    assert records.text == "<secret>"
    logging.getLogger("bot.venue").filters.clear()


def test_clients_come_and_go_while_others_log() -> None:
    """From several threads, without an error in any of them."""
    errors: list[BaseException] = []
    done = threading.Event()
    hidden = client()
    record = logging.LogRecord("ccxt.base.exchange", logging.DEBUG, "", 0, "%s", (hidden.apiKey,), None)

    def log() -> None:
        try:
            while not done.is_set():
                assert _HIDING.filter(logging.makeLogRecord({**record.__dict__}))
        except BaseException as error:  # noqa: BLE001  # it is what the test is about
            errors.append(error)

    class Brief:
        apiKey = "brief-key"  # noqa: N815  # ccxt's name

    threads = [threading.Thread(target=log) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        hide_keys(Brief())
    done.set()
    for thread in threads:
        thread.join(60)
    assert errors == []


# The text.


def test_a_text_is_scrubbed() -> None:
    """Whatever is too short to be a key, is none, or is not set stays."""
    hidden = client({"password": "abc", "uid": 123456, "twofa": True})
    text = f"abc True None 123456 {hidden.apiKey} {hidden.secret}!"
    assert scrubbed(hidden, text) == "abc True None <uid> <apiKey> <secret>!"
    assert scrubbed(client(), "nothing") == "nothing"


def test_the_loopback_client_has_the_keys_that_are_looked_for() -> None:
    """Else the tests above would look for what nobody has."""
    real = client_at("http://127.0.0.1:9")
    assert found_in(f"{real.apiKey} {real.secret} {real.password}") == list(KEYS)


# The plugin that looks at every test of this suite.

LEAKY = """
import os, sys, logging
import pytest
from loopback.server import KEYS

key, secret, password = KEYS.values()

def test_clean(tmp_path):
    print("nothing")
    (tmp_path / "file").write_text("nothing")

def test_prints(): print(f"it is {key}!")
def test_prints_to_standard_error(): sys.stderr.write(secret)
def test_logs(): logging.getLogger("bot").warning("with %s", password)

def test_writes(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"\\0" + secret.encode())

def test_writes_late(late): pass

@pytest.fixture
def late(tmp_path):
    yield
    (tmp_path / "late").write_text(key)

@pytest.fixture
def early(): print(key)
def test_prints_early(early): pass

def test_fails(): assert key == "expected"
def test_odd_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/zero")

@pytest.mark.shows_keys
def test_may(tmp_path):
    print(key)
    (tmp_path / "file").write_text(key)

@pytest.mark.xfail(strict=True)
def test_is_expected_to_fail(): raise ValueError(key)
"""


def test_the_plugin_finds_what_a_test_leaves(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Printed, logged, written in the test or after it, in the words of a failure; and shows none of it itself."""
    folder = tmp_path_factory.mktemp("leaky")
    (folder / "test_leaky.py").write_text(LEAKY)
    written = folder / "written"
    options = ["-pkey_hygiene", "-pno:cacheprovider", "--strict-markers", "--color=no", "-rp", f"--rootdir={folder}"]
    command = [sys.executable, "-m", "pytest", *options, f"--basetemp={written}", "test_leaky.py"]
    environment = {**os.environ, "PYTHONPATH": str(BOT.parent)}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)
    told = dict(re.findall(r"^test_leaky.py::(\w+) leaves keys behind: (.+)$", done.stdout, re.MULTILINE))
    assert told == {
        "test_prints": "apiKey in Captured stdout call",
        "test_prints_to_standard_error": "secret in Captured stderr call",
        "test_logs": "password in Captured log call",
        "test_writes": f"secret in {written}/test_writes0/a/b/file",
        "test_writes_late": f"apiKey in {written}/test_writes_late0/late",
        "test_prints_early": "apiKey in Captured stdout setup",
        "test_fails": "apiKey in the failure's text",
        "test_is_expected_to_fail": "apiKey in the failure's text",
    }, done.stdout
    passed = set(re.findall(r"^PASSED test_leaky.py::(\w+)", done.stdout, re.MULTILINE))
    assert {"test_clean", "test_odd_files", "test_may"} <= passed
    assert done.returncode == 1
    assert found_in(done.stdout + done.stderr) == []
