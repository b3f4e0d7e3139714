"""Wait for a condition, with a deadline, instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest


def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Return as soon as `condition` holds; fail after `seconds`."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        pause.wait(0.02)


def not_at_midnight_in_india() -> None:
    """Skip a test that needs Pocketful's books to prove an absence: they are of one Indian day."""
    now = datetime.now(ZoneInfo("Asia/Kolkata"))
    if not 8 <= now.hour * 60 + now.minute < 24 * 60 - 8:
        pytest.skip("within minutes of midnight in India no book proves that an order is not there")
