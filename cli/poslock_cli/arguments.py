"""What is given on the command line for the guard, checked before anything is opened: a reason, a price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock.errors import InvalidPosition
from poslock.position import positive

if TYPE_CHECKING:
    from decimal import Decimal

_LONGEST_REASON = 128


def checked_reason(context: click.Context, param: click.Parameter, reason: str) -> str:
    """*reason* if a guard takes it, else a usage error."""
    if len(reason) > _LONGEST_REASON:
        raise click.BadParameter(f"must have at most {_LONGEST_REASON} characters, has {len(reason)}.", context, param)
    return reason


def spoken_reason(context: click.Context, param: click.Parameter, reason: str) -> str:
    """As `checked_reason`, and it has to say something."""
    if not reason.strip():
        raise click.BadParameter("must say why; the history keeps it.", context, param)
    return checked_reason(context, param, reason)


def exact_price(context: click.Context, param: click.Parameter, price: str | None) -> Decimal | None:
    """*price* as a number above zero, exact, else a usage error."""
    try:
        return None if price is None else positive("exit price", price)
    except InvalidPosition as error:
        raise click.BadParameter(f"{error}.", context, param) from error
