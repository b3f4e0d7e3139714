"""How long a broker asks to be left alone: Retry-After (RFC 9110, section 10.2.3), in seconds or as a date. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bridge.call import Reply

LONGEST_S = 86_400.0
_SECONDS = re.compile(r"(\d{1,12})(\.\d{1,9})?", re.ASCII)


def retry_after_s(reply: Reply) -> float | None:
    """The seconds that a reply asks for, at most a day; None where it does not say, or not so that it can be read.

    A date counts from the reply's own `Date`, for the two clocks need not agree; without one it cannot be read.
    """
    headers = {name.lower(): value for name, value in reply.headers.items()}
    written = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(written):
        return min(float(written), LONGEST_S)
    until, said = _moment(written), _moment(headers.get("date", ""))
    if until is None or said is None:
        return None
    return min(max((until - said).total_seconds(), 0.0), LONGEST_S)


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
