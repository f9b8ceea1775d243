"""What a close costs in requests, round trips and commits, and when its order leaves: ``scripts/bench close``."""

import sys

from bench.processes import ROOT

_SERVERS = str(ROOT / "tests")
if _SERVERS not in sys.path:  # the venues are those of the tests
    sys.path.insert(0, _SERVERS)
