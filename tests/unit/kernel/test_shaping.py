"""The bucket by which an endpoint is bounded."""

import pytest

from node_agent.kernel.shaping import LEAST_BYTES, LEAST_RATE, MOST_RATE, bounds, bucket
from node_agent.model.bandwidth import Rate


@pytest.mark.parametrize(
    ("rate", "burst"),
    [
        (Rate(8_000_000, 800_000), 100_000),
        (Rate(8_000_000), LEAST_BYTES),
        (Rate(8_000_000, 8), LEAST_BYTES),
        (Rate(80_000_000, 2**32 - 1), 1_000_000),  # "no bound", as containerd says it: a tenth of a second
        (Rate(10_000_000_000), 25_000_000),  # 20 ms: more comes between two ticks than a super-packet
        (Rate(8, 2**32 - 1), LEAST_BYTES),
    ],
)
def test_a_burst_suits_its_rate(rate: Rate, burst: int) -> None:
    assert bucket(rate)[1] == burst


@pytest.mark.parametrize("bits", [1, 8, 1000, 8_000_000, 8 * MOST_RATE])
@pytest.mark.parametrize("burst", [0, 2**32 - 1, 2**64])
def test_all_that_a_pod_may_ask_for_fits_the_kernels_numbers(bits: int, burst: int) -> None:
    second, most, waiting = bucket(Rate(bits, burst))
    assert LEAST_RATE <= second <= MOST_RATE
    assert max(most, waiting) < 1 << 32
    assert most / second * 15_625_000 < 1 << 32  # ticks of 64 ns


def test_what_waits_is_gone_in_a_moment() -> None:
    assert bucket(Rate(80_000_000))[2] == 500_000
    assert bucket(Rate(8_000_000))[2] == 2 * LEAST_BYTES


def test_nothing_and_more_than_the_kernel_can_count_are_no_bound() -> None:
    assert [bounds(Rate(bits)) for bits in (0, 1, 8 * MOST_RATE, 8 * MOST_RATE + 1)] == [False, True, True, False]
