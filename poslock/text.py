"""Text that came from outside, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with everything a terminal could act on, or hide, written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def quoted(text: str) -> str:
    """*text* made printable, in single quotes."""
    return f"'{printable(text)}'"


def shown(value: object) -> str:
    """The start of *value*'s repr, for an error message."""
    try:
        return printable(repr(value)[:160])
    except ValueError:  # an int too long for Python to print
        return f"a huge {type(value).__name__}"
