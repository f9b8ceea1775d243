"""The result as a table for people and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.contestants import POSLOCK

if TYPE_CHECKING:
    from bench.rows import Bound, Row

_SCALES = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))


def as_table(machine: dict[str, str], rows: list[Row]) -> str:
    """One line per contestant; the ratio is poslock's median divided by that contestant's."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items())]
    for row in rows:
        lines += ["", f"{row.work:64}{'median':>11}{'p95':>11}{'ratio':>9}{'at most':>9}"]
        lines += [_line(row, name) for name in row.series]
    missed = sum(not row.is_met(bound) for row in rows for bound in row.bounds)
    total = sum(len(row.bounds) for row in rows)
    return "\n".join([*lines, "", f"{total - missed} of {total} bounds met"])


def as_json(machine: dict[str, str], rows: list[Row]) -> dict[str, Any]:
    """The same figures; times in seconds."""
    return {"machine": machine, "rows": [_row(row) for row in rows]}


def _line(row: Row, name: str) -> str:
    series = row.series[name]
    # An absolute bound stands on poslock's own line, a relative one on that of whom it is relative to.
    bound = next((each for each in row.bounds if (each.against or POSLOCK.name) == name), None)
    ratio = None if name == POSLOCK.name else row.ratio(name)
    return (
        f"  {name:62}{_amount(series.median, row.unit):>11}{_amount(series.p95, row.unit):>11}"
        f"{'' if ratio is None else f'{ratio:.3g}':>9}{_verdict(row, bound)}"
    ).rstrip()


def _verdict(row: Row, bound: Bound | None) -> str:
    if bound is None:
        return ""
    at_most = f"{bound.at_most:g}" if bound.against else _amount(bound.at_most, row.unit)
    if row.is_met(bound):
        return f"{at_most:>9}  ok"
    return f"{at_most:>9}  MISSED{': ' if bound.why else ''}{bound.why}"


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        name, scale = next((each for each in _SCALES if value >= each[1]), _SCALES[-1])
        return f"{value / scale:.1f} {name}"
    return f"{value:.3g} {unit}".rstrip()


def _row(row: Row) -> dict[str, Any]:
    results = {
        name: {"median": each.median, "p95": each.p95, "samples": len(each.samples), "ratio": row.ratio(name)}
        for name, each in row.series.items()
    }
    bounds = [
        {
            "against": each.against,
            "at_most": each.at_most,
            "measured": row.measured(each),
            "ok": row.is_met(each),
            "why": each.why,
        }
        for each in row.bounds
    ]
    return {"work": row.work, "unit": row.unit, "results": results, "bounds": bounds}
