"""The only clocks: wall time for people and brokers, monotonic time for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime

monotonic = time.monotonic


def epoch() -> float:
    """Seconds since the epoch."""
    return time.time()


def now() -> datetime:
    """The present moment, with zone UTC."""
    return datetime.now(UTC)
