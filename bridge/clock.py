"""The only clocks: wall time for people and brokers, monotonic time for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

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


class Advancing:
    """A wall clock that is never behind: after the system's clock was set back, it goes on from where it stood.

    By a clock that was set back by an hour, an alert that is an hour old would look new. Whether the clock was right before
    or is right now cannot be known here, so that the later of the two counts for as long as this process lives.
    """

    def __init__(self) -> None:
        self._began, self._began_at = now(), monotonic()

    def now(self) -> tuple[datetime, float]:
        """The present moment, and by how many seconds the system's clock is behind it."""
        wall, expected = now(), self._began + timedelta(seconds=monotonic() - self._began_at)
        return max(wall, expected), max(0.0, (expected - wall).total_seconds())
