"""How often an address may be wrong about the secret; time is a parameter, so these tests take none."""

from __future__ import annotations

from bridge.throttle import Throttle


def test_a_burst_is_allowed_and_then_two_a_second() -> None:
    throttle = Throttle(burst=100, per_second=2)

    assert sum(throttle.allows("192.0.2.1", 0.0) for _ in range(150)) == 100
    assert not throttle.allows("192.0.2.1", 0.4)
    assert throttle.allows("192.0.2.1", 1.0)


def test_one_address_does_not_slow_another() -> None:
    throttle = Throttle(burst=1, per_second=1)
    throttle.allows("192.0.2.1", 0.0)

    assert not throttle.allows("192.0.2.1", 0.0)
    assert throttle.allows("192.0.2.2", 0.0)


def test_a_whole_ipv6_network_counts_as_one_sender() -> None:
    throttle = Throttle(burst=1, per_second=1)
    throttle.allows("2001:db8:1:2::1", 0.0)

    assert not throttle.allows("2001:db8:1:2:ffff::9", 0.0)
    assert throttle.allows("2001:db8:1:3::1", 0.0)


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    throttle = Throttle(burst=1, per_second=1)
    throttle.allows("192.0.2.1", 100.0)

    assert not throttle.allows("192.0.2.1", 50.0)


def test_memory_is_bounded_however_many_addresses_there_are() -> None:
    throttle = Throttle(burst=1, per_second=1)
    for number in range(20_000):
        throttle.allows(f"host{number}", 0.0)

    assert len(throttle._buckets) <= 10_000
