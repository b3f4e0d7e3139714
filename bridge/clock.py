"""The only clocks: wall time for people and brokers, monotonic time for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Seconds for durations. Where the system can tell, the time that a machine sleeps counts, as it does for prices."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


def epoch() -> float:
    """Seconds since the epoch."""
    return time.time()


def now() -> datetime:
    """The present moment, with zone UTC."""
    return datetime.now(UTC)
