"""How long a request may travel: never into the time of the next holder."""

from __future__ import annotations

import pytest

from poslock.closing.session import Stamp, receive_window_ms


@pytest.mark.parametrize(
    ("lease_left", "window_ms"),
    [(3.5, 3499), (3.5001, 3500), (3.4999, 3499), (5.0, 4999), (5.001, 5000), (30.0, 5000), (0.0005, 0), (0.0, 0)],
)
def test_a_request_does_not_share_a_millisecond_with_the_next_holder(lease_left: float, window_ms: int) -> None:
    """A venue takes a request to the end of its window, and takes the end for a part of it; a lease does not."""
    assert receive_window_ms(Stamp(1000, lease_left)) == window_ms
