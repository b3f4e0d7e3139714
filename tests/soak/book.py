"""The sender's book: what was sent, when, and what was answered. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.plan import Planned


@dataclass(slots=True)
class Try:
    """One HTTP request: when it began and ended; the status (None: nothing heard, and why), and the answer."""

    began: float
    ended: float = 0.0
    status: int | None = None
    fault: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it was answered 2xx: from here on Bridge has promised."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True)
class Sent:
    """One alert with every time that it was sent."""

    planned: Planned
    sent_at: float
    """The moment that a timed alert's body carries; else that of the first sending."""
    tries: list[Try] = field(default_factory=list)

    @property
    def began(self) -> float:
        """Bridge cannot have received it before."""
        return min(each.began for each in self.tries)

    @property
    def answered(self) -> float | None:
        """Bridge had certainly received it by then; None when no 2xx was ever heard."""
        return min((each.ended for each in self.tries if each.ok), default=None)

    def to_json(self) -> dict[str, Any]:
        """For the folder that is kept, and for a failure's history."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the harness did."""

    at: float
    words: str
