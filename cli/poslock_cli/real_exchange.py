"""The account at a real venue that ``poslock.toml`` describes, opened with a ccxt client of our own."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

from poslock import CcxtExchange
from poslock.errors import UnsupportedMarket
from poslock_cli.configuration import ConfigurationError
from poslock_cli.configuration_checks import called
from poslock_cli.keys import VARIABLES, Keys, read_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poslock_cli.configuration import Venue

_CREDENTIALS = {"apiKey": "api_key", "secret": "secret", "password": "password"}


def open_venue(path: str, venue: Venue) -> CcxtExchange:
    """The account; nothing is sent yet. *path* is the file that describes it.

    Raises:
        ConfigurationError: there is no ccxt, it does not know the venue or one of the addresses, or keys are missing.
    """
    return open_with_client(path, venue)[0]


def open_with_client(path: str, venue: Venue) -> tuple[CcxtExchange, Any]:
    """As `open_venue`, with the ccxt client beneath."""
    client = _client(path, venue)
    _lead_aside(path, client, venue)
    if venue.urls:
        client.urls["api"] = _redirected(path, client.urls["api"], venue.urls, "urls")
    try:
        exchange = CcxtExchange(client, account=venue.account, market=venue.market, trigger=venue.trigger)
    except UnsupportedMarket as error:
        raise ConfigurationError(path, f"venue: {error}") from error
    _hand_over(path, client, read_keys(venue.keys_file), venue)
    return exchange, client


def _client(path: str, venue: Venue) -> Any:
    """Without keys, so that what goes wrong with it cannot show them."""
    try:
        ccxt = import_module("ccxt")
    except ImportError:
        raise ConfigurationError(path, f"venue {venue.venue} needs ccxt", "install poslock[ccxt]") from None
    if venue.venue not in ccxt.exchanges:
        raise ConfigurationError(path, f"venue: ccxt {ccxt.__version__} knows no {venue.venue}")
    try:
        return getattr(ccxt, venue.venue)({"enableRateLimit": True, "options": dict(venue.options)})
    except Exception as error:
        raise ConfigurationError(path, f"options: ccxt refuses them ({type(error).__name__})") from error


def _lead_aside(path: str, client: Any, venue: Venue) -> None:
    """Have *client* ask a test net instead of the venue. One that stays where it is would trade for real money."""
    ways = {"sandbox": (venue.sandbox, "set_sandbox_mode"), "demo": (venue.demo, "enable_demo_trading")}
    before = copy.deepcopy((client.urls["api"], client.headers))
    for key, (wanted, method) in ways.items():
        if not wanted:
            continue
        try:
            getattr(client, method)(True)
        except Exception as error:
            why = f"{key}: ccxt has none for {venue.venue} ({type(error).__name__})"
            raise ConfigurationError(path, why, "see README for the venues that have one") from error
        if before == (client.urls["api"], client.headers):
            raise ConfigurationError(path, f"{key}: ccxt changes nothing for {venue.venue}")


def _redirected(path: str, known: Any, wanted: Mapping[str, Any], above: str) -> dict[str, Any]:
    """*known* with the addresses that are *wanted*.

    One that ccxt does not have would be ignored, and the requests would go to the real venue.
    """
    if not isinstance(known, dict):
        raise ConfigurationError(path, f"{above} is one address in ccxt, not a table")
    merged = dict(known)
    for name, each in wanted.items():
        if name not in known:
            raise ConfigurationError(path, f"{above}: ccxt has no {called(name)}; it has {', '.join(known)}")
        if isinstance(each, dict):
            merged[name] = _redirected(path, known[name], each, f"{above}.{name}")
        elif isinstance(known[name], dict):
            raise ConfigurationError(path, f"{above}.{name} is a table in ccxt; it has {', '.join(known[name])}")
        else:
            merged[name] = each
    return merged


def _hand_over(path: str, client: Any, keys: Keys, venue: Venue) -> None:
    for credential, key in _CREDENTIALS.items():
        setattr(client, credential, getattr(keys, key))
        if client.requiredCredentials[credential] and not getattr(keys, key):
            where = f"set ${VARIABLES[key]}, or name a keys_file that has {key}"
            raise ConfigurationError(path, f"{venue.venue} needs {key}, and {keys.origin} has none", where)
