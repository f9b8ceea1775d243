"""What a process of the run did and was told: one line each, in a file that outlives it."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from time import monotonic_ns


class Diary:
    """Lines of words, each handed to the kernel at once, so that it is there whatever becomes of its process.

    An operation has two: one before it is invoked, one after it returned. Of whoever is killed in between there is one.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._descriptor = os.open(f"{directory}/{name}.diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._numbers = count(1)

    def tell(self, event: str, *words: object) -> None:
        """Write a line."""
        os.write(self._descriptor, ("\t".join([event, *map(str, words)]).replace("\n", " ") + "\n").encode())

    def invoke(self, kind: str, position_id: str, *words: object) -> int:
        """An operation is about to be invoked; its number, for `returned`."""
        number = next(self._numbers)
        self.tell("invoked", number, monotonic_ns(), kind, position_id, *words)
        return number

    def returned(self, number: int, outcome: str, word: object = "") -> None:
        """It returned, or raised."""
        self.tell("returned", number, monotonic_ns(), outcome, word)

    def answer(self, kind: str, position_id: str, invoked_ns: int, token: int = 0) -> None:
        """What a call that began then was told."""
        self.tell("answered", invoked_ns, monotonic_ns(), kind, position_id, token)


def told(directory: str) -> list[list[str]]:
    """All lines of all processes."""
    return [line for lines in told_by_each(directory).values() for line in lines]


def told_by_each(directory: str) -> dict[str, list[list[str]]]:
    """The lines of each process, by its name."""
    return {path.stem: _lines(path.read_text("utf-8", "replace")) for path in sorted(Path(directory).glob("*.diary"))}


def _lines(text: str) -> list[list[str]]:
    # What comes after the last line feed was torn when its process was killed. (test_a_torn_last_line_is_left_out)
    return [line.split("\t") for line in text.split("\n")[:-1]]
