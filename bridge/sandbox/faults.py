"""Misbehaviour on request: which fault the next requests of an operation meet."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

FAULTS = (
    "reject", "delay", "drop_before", "drop_after", "http_500_after", "rate_limit", "penalty_ticket",
    "expired_token", "garbage", "http_408_before", "http_408_after", "reject_later",
)  # fmt: skip
_DEFAULT_SECONDS = {"delay": Decimal(2), "penalty_ticket": Decimal(1)}
_ONLY_TRADOVATE = {"penalty_ticket"}


class BadFault(ValueError):
    """The request to arm a fault was wrong; the message says what and `valid` what would be right."""

    def __init__(self, message: str, valid: dict[str, list[str]]) -> None:
        super().__init__(message)
        self.valid = valid


@dataclass(slots=True)
class Armed:
    """One fault that waits for its requests."""

    broker: str
    operation: str
    fault: str
    count: int
    seconds: Decimal
    captcha: bool = False
    reason: str | None = None
    text: str | None = None

    def shown(self) -> dict[str, Any]:
        return {
            "broker": self.broker,
            "operation": self.operation,
            "fault": self.fault,
            "count": self.count,
            "seconds": self.seconds,
        }


class Faults:
    """Armed faults in the order of arming; each request meets at most one of them, the oldest that fits."""

    def __init__(self, operations: dict[str, tuple[str, ...]]) -> None:
        self._operations = operations
        self._armed: dict[tuple[str, str, str], Armed] = {}

    def arm(self, body: Any) -> None:
        """Arm, replace or (with count 0) clear one fault; raises `BadFault`."""
        if not isinstance(body, dict):
            raise BadFault("the body must be a JSON object", self._valid(None))
        broker, operation, fault = (_text(body.get(key)) or "" for key in ("broker", "operation", "fault"))
        operation = operation.lower()
        if broker not in self._operations:
            raise BadFault(f"unknown broker {broker!r}", self._valid(None))
        if operation not in self._operations[broker]:
            raise BadFault(f"unknown operation {operation!r} of {broker}", self._valid(broker))
        if fault not in FAULTS:
            raise BadFault(f"unknown fault {fault!r}", self._valid(broker))
        if fault in _ONLY_TRADOVATE and broker != "tradovate":
            raise BadFault(f"{fault} is a fault of tradovate only", self._valid(broker))
        count = body.get("count", 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise BadFault("count must be a whole number, 0 or more", self._valid(broker))
        seconds = body.get("seconds", _DEFAULT_SECONDS.get(fault, Decimal(0)))
        if isinstance(seconds, bool) or not isinstance(seconds, (int, Decimal)) or not 0 <= seconds <= 3600:
            raise BadFault("seconds must be a number from 0 to 3600", self._valid(broker))
        key = (broker, operation, fault)
        self._armed.pop(key, None)
        if count:
            self._armed[key] = Armed(
                broker, operation, fault, count, Decimal(seconds), body.get("captcha") is True,
                _text(body.get("reason")), _text(body.get("text")),
            )  # fmt: skip

    def take(self, broker: str, operation: str, *, ticket: bool = False) -> Armed | None:
        """The fault that this request meets, counted down. One with a good p-ticket meets no further penalty."""
        if not self._armed:
            return None
        for key, armed in self._armed.items():
            if armed.broker != broker or armed.operation not in (operation, "any"):
                continue
            if ticket and armed.fault == "penalty_ticket":
                continue
            armed.count -= 1
            if not armed.count:
                del self._armed[key]
            return armed
        return None

    def clear(self) -> None:
        self._armed.clear()

    def shown(self) -> list[dict[str, Any]]:
        return [armed.shown() for armed in self._armed.values()]

    def _valid(self, broker: str | None) -> dict[str, list[str]]:
        names = list(self._operations) if broker is None else [broker]
        operations = sorted({operation for name in names for operation in self._operations[name]})
        return {"broker": list(self._operations), "operation": operations, "fault": list(FAULTS)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
