"""What was found out about a lock directory and a venue, one point at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from poslock.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLORS = {"ok": "green", "warning": "yellow", "REFUSED": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One point. What is refused must not be used as it is; a warning may be. ``way_out`` is empty if ok."""

    check: str
    verdict: Literal["ok", "warning", "REFUSED"]
    reason: str
    way_out: str = ""


def ok(check: str, reason: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", reason)


def warning(check: str, reason: str, way_out: str) -> Finding:
    """Good enough, but worth knowing."""
    return Finding(check, "warning", reason, way_out)


def refused(check: str, reason: str, way_out: str) -> Finding:
    """Not good enough."""
    return Finding(check, "REFUSED", reason, way_out)


def are_safe(findings: Iterable[Finding]) -> bool:
    """Whether nothing is refused."""
    return all(finding.verdict != "REFUSED" for finding in findings)


def render(finding: Finding) -> str:
    """A line, and a second one for the way out."""
    mark = click.style(finding.verdict.ljust(7), fg=_COLORS[finding.verdict])
    line = f"{mark}  {finding.check:<11}  {printable(finding.reason)}"
    return f"{line}\n{'':22}{printable(finding.way_out)}" if finding.way_out else line
