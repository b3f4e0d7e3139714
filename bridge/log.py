"""The log: structured lines on standard error, as text for a person or as JSON for a machine.

No line holds a secret (every known one is masked by its value, however it is quoted) or a control character (an alert's
text cannot forge a line or move a terminal's cursor). An error is what has to be told to a person.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, WrappedLogger

from bridge.errors import SettingsError

MASK = "***"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("", "text", "json")

_SHORTEST_SECRET = 6
"""A shorter value (a client id of `8`) is no secret that could be masked without making every line unreadable."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _Secrets:
    """The values that must never be shown. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        with self._lock:
            known = len(self._values)
            for value in values:
                if len(value) >= _SHORTEST_SECRET:
                    self._values |= {value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}
            if len(self._values) > known:
                longest_first = sorted(self._values, key=len, reverse=True)
                self._pattern = re.compile("|".join(re.escape(value) for value in longest_first))

    def mask(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


_secrets = _Secrets()


def keep_secret(*values: str) -> None:
    """From now on these values are shown as ***, in the log and by `mask`."""
    _secrets.add(values)


def mask(text: str) -> str:
    """`text` without any known secret."""
    return _secrets.mask(text)


def plain(text: str) -> str:
    """`text` with control characters escaped and secrets masked: one line that is safe on any terminal."""
    return _CONTROL.sub(_escape, _secrets.mask(text))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def get_logger(name: str) -> Any:
    """A logger that names its part in every line: `get_logger("receiver").info("alert accepted", alert=id)`."""
    return structlog.get_logger(name)


class _NamedLogger(structlog.WriteLogger):
    """Writes whole lines and knows the part that it writes for."""

    def __init__(self, stream: TextIO, part: str) -> None:
        super().__init__(stream)
        self.part = part.removeprefix("bridge.")


def set_up(log_format: str = "", level: str = "info", stream: TextIO | None = None) -> None:
    """Write to `stream` (standard error). Raises SettingsError for a format or level that is none."""
    stream = stream or sys.stderr
    if log_format not in FORMATS:
        raise SettingsError(f"BRIDGE_LOG_FORMAT {log_format!r} is neither text nor json")
    if level.lower() not in LEVELS:
        raise SettingsError(f"BRIDGE_LOG_LEVEL {level!r} is none of {', '.join(LEVELS)}")
    terminal = stream.isatty()
    as_text = log_format == "text" or (not log_format and terminal)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if as_text else "iso", utc=not as_text, key="time"),
            structlog.processors.format_exc_info,
            _clean,
            _text if as_text else _json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level.lower()]),
        logger_factory=lambda *names: _NamedLogger(stream, names[0] if names else "bridge"),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(LEVELS[level.lower()], logging.WARNING))


class _Forward(logging.Handler):
    """Sends the log lines of libraries the same way as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger(record.name).log(
                record.levelno, record.getMessage(), exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001 a library's broken log line must not break what it tells about
            self.handleError(record)


def _clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name == "exception":
            event[name] = _CONTROL_BUT_LINES.sub(_escape, _secrets.mask(str(value)))
        elif isinstance(value, str):
            event[name] = plain(value)
        elif not isinstance(value, (int, float, type(None))):
            event[name] = plain(str(value))
    return event


def _json(logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return json.dumps({"time": event.pop("time"), "level": event.pop("level"), "part": logger.part,
                       "event": event.pop("event"), **event}, ensure_ascii=False)


_MARKS = {"debug": "·", "info": " ", "warning": "!", "error": "✗", "critical": "✗"}


def _text(logger: WrappedLogger, _method: str, event: EventDict) -> str:
    moment, level, part = event.pop("time"), str(event.pop("level")), logger.part
    message, trace = event.pop("event"), event.pop("exception", "")
    known = " ".join(f"{name}={value}" for name, value in event.items() if value not in ("", None))
    line = f"{moment} {_MARKS.get(level, ' ')} {part:<9} {message}" + (f"  {known}" if known else "")
    return f"{line}\n{trace}" if trace else line
