"""How often an address may be wrong about the secret. The time is a parameter."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict

BURST = 100
PER_SECOND = 2.0
_MOST_ADDRESSES = 10_000


class Throttle:
    """A token bucket for each address, `burst` deep and refilled at `per_second`. Thread-safe, bounded in memory."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        self._burst = burst
        self._per_second = per_second
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, now_s: float) -> bool:
        """Whether this address may be wrong once more; counts it."""
        address = _network(address)
        with self._lock:
            left, at = self._buckets.pop(address, (float(self._burst), now_s))
            left = min(self._burst, left + max(0.0, now_s - at) * self._per_second)
            allowed = left >= 1
            self._buckets[address] = (left - 1 if allowed else left, now_s)
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        return allowed


def _network(address: str) -> str:
    """An IPv6 sender owns a whole /64: it counts as one."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
