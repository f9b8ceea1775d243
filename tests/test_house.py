"""How many modules somebody has to read who follows a close or an acquire, and that none leads back to itself."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import poslock
from poslock import PaperExchange, Position, PositionGuard, PositionLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_RUN = 20
_MOST_THROUGH = 17
_MOST_RUN_BY_ACQUIRE = 8


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The calls of a close on paper, as modules: who calls, empty if it is none of poslock's, and who is called."""
    folder = tmp_path_factory.mktemp("house")
    exchange = PaperExchange(folder / "exchange.db")
    exchange.set_price("BTC", 100)
    exchange.open_position("BTC", "long", 10)
    guard = PositionGuard(exchange, lock_dir=folder / "locks")
    guard.track(Position("p", "BTC", "long", 10, 100))
    guard.modify_position("p", stop_loss=95, take_profit=120)
    return _calls(lambda: guard.close_position("p"))


def test_a_close_on_paper_runs_code_of_few_modules(calls: set[tuple[str, str]]) -> None:
    """All that somebody has to know who follows it line by line."""
    run = {callee for _, callee in calls}
    assert {"poslock.guard.operations", "poslock.exchange.matching", "poslock.pnl", "poslock.lock.record"} <= run
    assert len(run) <= _MOST_RUN, sorted(run)


def test_a_close_on_paper_leads_through_few_modules(calls: set[tuple[str, str]]) -> None:
    """A call of a close leads through a module if it goes on from there into another one.

    What is only asked for a value, such as the text of an error or a P&L, leads nowhere else.
    """
    through = {caller for caller, callee in calls if caller not in {"", callee}}
    assert {"poslock.guard.operations", "poslock.closing.close", "poslock.exchange.paper"} <= through
    assert len(through) <= _MOST_THROUGH, sorted(through)


def test_an_acquire_that_waits_for_nobody_runs_code_of_few_modules(lock_dir: str) -> None:
    """In a directory that was prepared before."""
    with PositionLock("other", lock_dir=lock_dir):
        run = {callee for _, callee in _calls(PositionLock("p", lock_dir=lock_dir).acquire)}
    assert {"poslock.lock.position_lock", "poslock.lock.record"} <= run
    assert len(run) <= _MOST_RUN_BY_ACQUIRE, sorted(run)


def test_no_module_leads_back_to_itself() -> None:
    """By no import, not even one that is there for a type only."""
    root = Path(poslock.__file__).parent
    modules = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in root.rglob("*.py")}
    graph = {name: set(_imports(path)) & modules.keys() for name, path in modules.items()}
    assert "poslock.lock.position_lock" in graph["poslock.bridge"]
    TopologicalSorter(graph).prepare()


def _imports(path: Path) -> Iterator[str]:
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, ast.ImportFrom):
            yield from (str(each.module), *(f"{each.module}.{name.name}" for name in each.names))


def _calls(work: Callable[[], object]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()

    def note(frame: Any, event: str, _argument: object) -> None:
        if event == "call" and _is_ours(frame):
            found.add((_module_of(frame.f_back), _module_of(frame)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def _is_ours(frame: Any) -> bool:
    """Whether somebody wrote this for poslock: not the methods that a dataclass is given."""
    return frame.f_globals.get("__name__", "").startswith("poslock.") and not frame.f_code.co_filename.startswith("<")


def _module_of(frame: Any) -> str:
    """The nearest module of poslock that a call comes from, whatever of Python or a library is in between."""
    while frame is not None:
        if _is_ours(frame):
            name: str = frame.f_globals["__name__"]
            return name
        frame = frame.f_back
    return ""
