"""``python -m poslock_cli``."""

from __future__ import annotations

from poslock_cli.main import main

main(prog_name="poslock")
