"""The demo, and the verdict that it passes on itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner

from poslock_cli.demo.verdict import Facts, judge
from poslock_cli.main import main

KEPT = Facts(
    closing_orders=1,
    contracts_left=Decimal(0),
    orders_left=0,
    bookings=1,
    booked_pnl=Decimal("-1.5"),
    pnl_of_fills=Decimal("-1.50"),
    tokens=(0, 5, 5, 6, 7, 7),
    told=("killed", "lock lost", "closed", "already closed", "already closed"),
)


@pytest.mark.parametrize("lease", ["nan", "inf", "0.4", "61"])
def test_a_lease_out_of_range_is_a_usage_error(lease: str) -> None:
    """Before any bot is started; ``nan`` lies between any two bounds for click."""
    result = CliRunner().invoke(main, ["demo", f"--lease={lease}"])
    assert result.exit_code == 2
    assert "Invalid value for '--lease'" in result.stderr


def test_the_verdict_on_a_kept_promise() -> None:
    """All findings are fine."""
    assert [each for each in judge(KEPT) if not each.kept] == []


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"closing_orders": 2}, "closing orders"),
        ({"closing_orders": 0}, "closing orders"),
        ({"contracts_left": Decimal(1)}, "contracts left"),
        ({"orders_left": 1}, "orders left"),
        ({"bookings": 2}, "bookings"),
        ({"bookings": 0, "booked_pnl": None}, "bookings"),
        ({"booked_pnl": Decimal(-1)}, "net P&L"),
        ({"tokens": (5, 7, 6)}, "ledger writes"),
        ({"told": ("killed", "lock lost", "closed", "closed")}, "bots told"),
        ({"told": ("killed", "closed", "closed", "already closed")}, "bots told"),
        ({"told": ("killed", "lock lost", "already closed", "already closed")}, "bots told"),
        ({"told": ("killed", "lock lost", "closed", "already closing")}, "bots told"),
        ({"told": ("killed", "lock lost", "closed", "error")}, "bots told"),
    ],
)
def test_the_verdict_on_each_broken_promise(broken: dict[str, Any], named: str) -> None:
    """A verdict that cannot fail would be worth nothing."""
    found = [each.text for each in judge(replace(KEPT, **broken)) if not each.kept]
    assert any(named in text for text in found)


@pytest.mark.parametrize(("bots", "seed"), [(3, 1), (8, 2)])
def test_the_demo_keeps_its_promises(bots: int, seed: int) -> None:
    """Real processes, one killed, one paused: exit 0 and the figures."""
    command = [sys.executable, "-m", "poslock_cli", "demo", "--lease", "1", "--bots", str(bots), "--seed", str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    for line in ("closing orders accepted: 1", "P&L bookings: 1", "orders left: 0", "contracts left: 0"):
        assert f"ok     {line}\n" in result.stdout
    for word in ("SIGKILL", "SIGSTOP", "SIGCONT", "is not held"):
        assert word in result.stdout
    assert "1 killed" in result.stdout
    assert "BROKEN" not in result.stdout
