"""What a process of the run did and was told: one line each, in a file that outlives it."""

from __future__ import annotations

import os
from pathlib import Path


class Diary:
    """Lines of words, written whole or not at all: a killed process leaves no half of one."""

    def __init__(self, directory: str, name: str) -> None:
        self._descriptor = os.open(f"{directory}/{name}.diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(self, event: str, *words: object) -> None:
        """Write a line."""
        os.write(self._descriptor, ("\t".join([event, *map(str, words)]).replace("\n", " ") + "\n").encode())


def told(directory: str) -> list[list[str]]:
    """All lines of all processes."""
    diaries = sorted(Path(directory).glob("*.diary"))
    return [line.split("\t") for each in diaries for line in each.read_text("utf-8").splitlines()]
