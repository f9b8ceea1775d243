"""A live view: the same text again and again, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def watch(shown: Callable[[], str], interval: float, *, blocks: bool) -> None:
    """Print what *shown* says every *interval* seconds: in place on a terminal, else one after the other.

    With *blocks* every text is more than a line: it replaces the last one, or is set off by an empty line.
    """
    try:
        while True:
            text = shown()  # before the screen is cleared, so that it is never empty for long
            if blocks and sys.stdout.isatty():
                click.clear()
                click.echo(text)
            else:
                click.echo(f"{text}\n" if blocks else text)
            time.sleep(interval)
    except KeyboardInterrupt:  # how a live view ends
        return
