"""Are the keys of the configured venue safe and good, and what may they do? Nothing is changed there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poslock.errors import KeysRefused, PoslockError
from poslock_cli.configuration import ConfigurationError
from poslock_cli.findings import Finding, are_safe, ok, refused, warning
from poslock_cli.keys import read_keys, read_keys_file
from poslock_cli.real_exchange import open_venue

if TYPE_CHECKING:
    from poslock.exchange.ccxt.venue import Inspection
    from poslock_cli.configuration import Configuration

_FAR_MS = 1000
_CORRECT = "correct it there"
_MODES = {True: "hedge: a long and a short side of each market", False: "one-way"}


def examine_venue(configuration: Configuration) -> list[Finding]:
    """What there is to say, in the order in which it is best read."""
    venue = configuration.venue
    if venue is None:
        return [ok("venue", f"none is configured in {configuration.path}")]
    findings = [_keys_file(venue.keys_file)]
    if not are_safe(findings):
        return findings
    try:
        exchange = open_venue(configuration.path, venue)
        inspection = exchange.inspect()
    except ConfigurationError as error:
        return [*findings, refused("venue", f"{error.path}: {error.why}", error.way_out or _CORRECT)]
    except KeysRefused as error:
        way_out = "look at the key's permissions, its addresses and its end at the venue, and at how it was copied"
        return [*findings, refused("keys", str(error), way_out)]
    except PoslockError as error:
        way_out = "look whether this machine reaches the venue and whether it is open, then ask again"
        return [*findings, refused("venue", str(error), way_out)]
    return [*findings, ok("venue", f"{exchange.account}: the keys are good"), *judge(inspection)]


def judge(inspection: Inspection) -> list[Finding]:
    """What the venue said of the account and its key."""
    return [
        _clock(inspection.clock_ms),
        ok("mode", "unknown: the venue does not say" if inspection.hedge is None else _MODES[inspection.hedge]),
        _trading(may=inspection.may_trade),
        _withdrawal(may=inspection.may_withdraw),
    ]


def _keys_file(path: str | None) -> Finding:
    """Looked at even when the keys come from the environment: whoever can read the file has keys."""
    try:
        if path is None:
            return ok("keys file", f"none; the keys come from {read_keys(None).origin}")
        _, mode = read_keys_file(path)
    except ConfigurationError as error:
        return refused("keys file", f"{error.path}: {error.why}", error.way_out or _CORRECT)
    return ok("keys file", f"{path}: mode {mode:04o}")


def _clock(ahead_ms: int) -> Finding:
    found = f"{abs(ahead_ms)} ms {'ahead of' if ahead_ms >= 0 else 'behind'} the venue's"
    if abs(ahead_ms) <= _FAR_MS:
        return ok("venue clock", found)
    way_out = "have this machine's clock set by NTP; poslock itself signs by the venue's clock, other bots may not"
    return warning("venue clock", found, way_out)


def _trading(*, may: bool | None) -> Finding:
    if may is None:
        return warning("trading", "unknown: the venue does not say", "see at the venue that the key may trade")
    if not may:
        return refused("trading", "the key may not trade, so nothing can be closed", "give it that permission")
    return ok("trading", "the key may trade")


def _withdrawal(*, may: bool | None) -> Finding:
    if may is None:
        why = "unknown: the venue does not say"
        return warning("withdrawal", why, "see at the venue that the key may not withdraw")
    if may:
        why = "the key may withdraw: whoever gets it can empty the account"
        return warning("withdrawal", why, "make a key without it")
    return ok("withdrawal", "the key may not withdraw")
