"""Power cuts right after a write to the ledger: what was acknowledged is there again, and the close goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from poslock import PaperExchange
from poslock.exchange.port import Leg
from power import CONTRACTS, ID, SYMBOL, WRITES, LoopDisk, NoDisk, PowerChild, content, integrity
from processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEG = Leg(SYMBOL, "long")


@dataclass
class Host:
    """A host with its ledger on a disk of its own, and a venue that is somewhere else."""

    disk: LoopDisk
    exchange_path: Path
    children: list[PowerChild] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock_dir = self.disk.path / "locks"
        self.ledger = self.lock_dir / "ledger.db"
        self.exchange = PaperExchange(self.exchange_path)
        self.exchange.set_price(SYMBOL, 60_000)
        self.exchange.open_position(SYMBOL, "long", CONTRACTS)
        self.exchange.protect(SYMBOL, "long", "stop_loss", CONTRACTS, 57_000)

    def start(self, actor: str, **settings: object) -> PowerChild:
        places = {"exchange": str(self.exchange_path), "lock_dir": str(self.lock_dir)}
        self.children.append(PowerChild(actor, **places, **settings))
        return self.children[-1]

    def trade_until_power_cut(self, write: str, *pragmas: str) -> dict[str, list[tuple[Any, ...]]]:
        """Cut the power as soon as the *write* is acknowledged, and restart; what the ledger had before."""
        child = self.start("trade", write=write, pragmas=pragmas)
        child.wait_stopped()
        before = content(self.ledger)
        self.disk.cut_power()
        child.kill()
        self.disk.restart()
        return before

    def settle(self) -> dict[str, Any]:
        child = self.start("settle")
        said = child.hear()
        assert child.process.wait(PATIENCE) == 0
        return said


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    try:
        disk = LoopDisk(tmp_path)
    except NoDisk as why:
        pytest.skip(str(why))
    try:
        host = Host(disk, tmp_path / "exchange.db")
        try:
            yield host
        finally:
            for child in host.children:
                child.end()
    finally:
        disk.remove()


@pytest.mark.parametrize("write", WRITES)
def test_a_power_cut_right_after_a_write_loses_nothing(write: str, host: Host) -> None:
    """Every acknowledged row is there again, and the close ends with one order and one booking."""
    before = host.trade_until_power_cut(write)
    assert before["audit"]
    assert content(host.ledger) == before
    assert integrity(host.ledger) == "ok"

    said = host.settle()
    state = said["states"][0]
    assert said == {"states": [state, state.replace("closing", "closed"), "closed"], "unsettled": []}
    after = content(host.ledger)
    assert after["audit"][: len(before["audit"])] == before["audit"]
    assert len(after["booking"]) == 1
    assert [row[0] for row in after["position"]] == [ID]
    assert host.exchange.held(LEG) == 0
    assert host.exchange.open_orders(LEG) == []
    assert [order.filled for order in host.exchange.orders(LEG) if order.family == "order"] == [CONTRACTS]


@pytest.mark.parametrize(
    "pragmas",
    [("synchronous = OFF",), ("journal_mode = DELETE", "synchronous = FULL")],
    ids=["unsynchronized", "SQLite's defaults"],
)
@pytest.mark.parametrize("write", WRITES)
def test_the_same_power_cut_loses_a_write_without_the_settings_of_the_ledger(
    write: str, pragmas: tuple[str, ...], host: Host
) -> None:
    """Otherwise the test above would prove nothing."""
    before = host.trade_until_power_cut(write, *pragmas)
    assert before["audit"][-1] not in content(host.ledger)["audit"]
