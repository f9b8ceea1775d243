"""The figures of closes as a table for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.close.measure import COUNTED_AT_S, HANDS, MANY

if TYPE_CHECKING:
    from bench.close.measure import Cost, Measured, Row

NAMES = {"mexc": "MEXC", "binance": "Binance USD-M", "bybit": "Bybit", "okx": "OKX"}
_STATES = {"warm": "warm", "idle": "idle for 10 min", "new": "new process"}
_MOST_REQUESTS = {"mexc": 18}
_USUALLY_MOST_REQUESTS, _MOST_ROUND_TRIPS, _MOST_COMMITS = 16, 8, 3
_LEGEND = (
    "Closes at servers of the venues on this machine, with a stop-loss and a take-profit resting.",
    f"Counts: before the order / in all, without ccxt's limiter, at {COUNTED_AT_S * 1000:.0f} ms a request.",
    "Round trips: the longest chain of requests that wait for each other.",
    "Later: by how much later the order leaves than a bare create_order of the same client, with the limiter.",
)
_COUNTS = f"{'requests':>10}{'round trips':>13}{'commits':>9}"


def as_table(machine: dict[str, str], measured: Measured) -> str:
    """One line per venue, client and state."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), "", *_LEGEND]
    later = "".join(f"{f'{delay * 1000:.0f} ms':>9}" for delay in measured.delays)
    for urgent in (False, True):
        lines += ["", f"{f'close_position, urgent={urgent}':44}{_COUNTS}   later at{later}"]
        for each in (each for each in measured.rows if each.urgent is urgent):
            figures = "".join(f"{seconds * 1000:6.0f} ms" for seconds in each.later_s.values())
            who = _who(each.venue, each.client, _STATES[each.state])
            lines.append(f"{who}{_counts(each.cost)}{'':11}{figures}{_verdict(missed(each))}")
    lines += ["", f"{f'tracked 170 days ago, {HANDS} exits by hand':44}{_COUNTS}"]
    lines += [f"{_who(each.venue, each.client)}{_counts(each.cost)}" for each in measured.old]
    of_all = f"the last of {MANY} orders leaves, {measured.delays[-1] * 1000:.0f} ms a request"
    lines += ["", f"{of_all:44}{'close_positions':>17}{'bare, in a row':>17}"]
    lines += [f"{_who(each.venue, each.client)}{_ms(each.ours_s)}{_ms(each.bare_s)}" for each in measured.many]
    kept = sum(not missed(each) for each in measured.rows)
    return "\n".join([*lines, "", f"{kept} of {len(measured.rows)} closes within the budget"])


def as_json(machine: dict[str, str], measured: Measured) -> dict[str, Any]:
    """The same figures; times in seconds, and those of `Row.later_s` by the seconds that a request takes."""
    rows = [{**asdict(each), "missed": missed(each)} for each in measured.rows]
    others = {"many": [asdict(each) for each in measured.many], "old": [asdict(each) for each in measured.old]}
    return {"machine": machine, "closes": rows, **others}


def missed(row: Row) -> list[str]:
    """What of the budget of a close *row* does not keep, in words."""
    cost, before = row.cost, 0 if row.urgent else 1
    limits = (
        ("round trips before the order", cost.round_trips[0], before),
        ("requests", cost.requests[1], _MOST_REQUESTS.get(row.venue, _USUALLY_MOST_REQUESTS)),
        ("round trips", cost.round_trips[1], _MOST_ROUND_TRIPS),
        ("commits before the order", cost.commits[0], 1),
        ("commits", cost.commits[1], _MOST_COMMITS),
    )
    return [f"{found} {what}, at most {most}" for what, found, most in limits if found > most]


def _who(venue: str, *others: str) -> str:
    return f"  {', '.join([NAMES[venue], *others]):42}"


def _counts(cost: Cost) -> str:
    pairs = zip((10, 13, 9), (cost.requests, cost.round_trips, cost.commits), strict=True)
    return "".join(f"{f'{before} / {in_all}':>{width}}" for width, (before, in_all) in pairs)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:14.0f} ms"


def _verdict(missed: list[str]) -> str:
    return f"  MISSED: {'; '.join(missed)}" if missed else "  ok"
