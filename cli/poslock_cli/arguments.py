"""What is given on the command line for the guard, checked before anything is opened: a reason, a price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poslock.errors import InvalidPosition
from poslock.position import positive

if TYPE_CHECKING:
    from decimal import Decimal


def spoken_reason(context: click.Context, param: click.Parameter, reason: str) -> str:
    """*reason* if it says something, else a usage error."""
    if not reason.strip():
        raise click.BadParameter("must say why; the history keeps it.", context, param)
    return reason


def exact_price(context: click.Context, param: click.Parameter, price: str | None) -> Decimal | None:
    """*price* as a number above zero, exact, else a usage error."""
    try:
        return None if price is None else positive("exit price", price)
    except InvalidPosition as error:
        raise click.BadParameter(f"{error}.", context, param) from error
