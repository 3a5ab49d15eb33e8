"""The bucket by which an endpoint is bounded."""

import pytest

from node_agent.kernel.shaping import LEAST_BYTES, bucket
from node_agent.model.bandwidth import Rate


@pytest.mark.parametrize(
    ("rate", "burst"),
    [
        (Rate(8_000_000, 800_000), 100_000),
        (Rate(8_000_000), LEAST_BYTES),
        (Rate(8_000_000, 8), LEAST_BYTES),
        (Rate(8_000_000, 2**32 - 1), 1_000_000),  # "no bound", as containerd says it: a second of the rate
        (Rate(10_000_000_000), 25_000_000),  # 20 ms: more comes between two ticks than a super-packet
        (Rate(8, 2**32 - 1), LEAST_BYTES),
    ],
)
def test_a_burst_suits_its_rate(rate: Rate, burst: int) -> None:
    assert bucket(rate)[0] == burst


def test_what_waits_is_the_bucket_and_a_moment_more() -> None:
    assert bucket(Rate(8_000_000, 800_000)) == (100_000, 150_000)
