"""A pytest plugin: no test may leave a key of the loopback venues in what it prints, logs or writes.

It looks at the end of each test into what was captured, into the text of a failure, and into the files below the
test's ``tmp_path``, the first 64 MiB of them. A test marked ``shows_keys`` may.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from loopback.server import KEYS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_MOST_FILES = 5000
_LARGEST = 8 * 2**20
_MOST = 64 * 2**20


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows_keys: may print the loopback venues' keys, or write them to files")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("shows_keys") is None:
        leaks = _leaks_in_text(report)
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if call.when == "teardown" and folder is not None:
            leaks += leaks_in_files(folder)
        if leaks:
            _fail(report, leaks)
    return report


def found_in(text: str) -> list[str]:
    """The names of the keys that are in it."""
    return [name for name, key in KEYS.items() if key in text]


def leaks_in_files(folder: Path) -> list[str]:
    """Which key is in which file below it."""
    return [f"{name} in {path}" for path, content in _contents(folder) for name in _found_in_bytes(content)]


def _leaks_in_text(report: pytest.TestReport) -> list[str]:
    # What earlier phases printed was looked at when they ended, and is in the sections of later ones again.
    ours = [(title, text) for title, text in report.sections if title.endswith(report.when or "")]
    said = [*ours, ("the failure's text", report.longreprtext)]
    return [f"{name} in {title}" for title, text in said for name in found_in(text)]


def _fail(report: pytest.TestReport, leaks: list[str]) -> None:
    """Let it fail with what was found where, and without the keys in what is printed of it."""
    what = f"{report.nodeid} leaves keys behind: {', '.join(leaks)}"
    report.outcome = "failed"
    report.longrepr = f"{_hidden(report.longreprtext)}\n{what}".lstrip("\n")
    report.sections = [(title, _hidden(text)) for title, text in report.sections]


def _hidden(text: str) -> str:
    for name, key in KEYS.items():
        text = text.replace(key, f"<{name}>")
    return text


def _found_in_bytes(content: bytes) -> list[str]:
    return [name for name, key in KEYS.items() if key.encode() in content]


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    left, files = _MOST, _MOST_FILES
    for parent, _, names in os.walk(folder):
        for name in names:
            if left <= 0 or files <= 0:
                return
            content = _content(f"{parent}/{name}")
            left, files = left - len(content), files - 1
            yield f"{parent}/{name}", content


def _content(path: str) -> bytes:
    """The start of a regular file; nothing of one that is gone, a link, a FIFO, or not for us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LARGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
