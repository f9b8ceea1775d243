"""Text that came from outside, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with everything a terminal could act on, or hide, written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
