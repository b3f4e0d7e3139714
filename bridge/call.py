"""Calls, replies, outcomes, and what a plan is: a generator that yields calls, is sent replies and returns an outcome.

All of it is data. Who drives a plan (worker, render, tests) does the I/O; the plan decides what is asked next and what
the answers mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from bridge.numbers import dump_json, load_json

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Placeholder(str):
    """A value that only the broker or the ledger can give, in `render` and `dry_run`: `<from: placeorder>`.

    Checks of ids let it pass; it is written as its text.
    """

    __slots__ = ()

    @classmethod
    def of(cls, source: str) -> Placeholder:
        """The placeholder for a value from `source`."""
        return cls(f"<from: {source}>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One exact request to a broker, without what the session adds (token, penalty ticket, frame id).

    `operation` is the broker's own word for it (`placeoso`); `step` names it within its order (`entry`, `other`,
    `undo.entry`), the same for a repeat of the same arming. `write` says that it may change something at the broker.
    `body` is JSON-able, Decimals allowed. `assumed` is the reply body that `render` and `dry_run` go on with.
    For a WebSocket call `method` is "WS" and `body` the frame.
    """

    operation: str
    method: str
    url: str
    step: str
    write: bool
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    body: Any = None
    assumed: Any = None

    @property
    def undoes(self) -> bool:
        """Whether it takes back a step of its own order that was accepted (`undo.…`)."""
        return self.step.startswith("undo.")

    def digest(self) -> str:
        """A fingerprint of what would be sent; equal calls have equal digests."""
        text = dump_json([self.operation, self.method, self.url, self.step, dict(self.headers), self.body],
                         sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        """What `render --json` and the ledger show of it."""
        return {"operation": self.operation, "step": self.step, "write": self.write, "method": self.method,
                "url": self.url, "headers": dict(self.headers), "body": self.body}


NOT_JSON: Final = object()
"""What `Reply.json` gives for a body that is no strict JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for a call.

    `status` is None when nothing, or not enough, was heard: then `fault` says why, and the call may have been executed.
    `not_executed` is the driver's word that it certainly was not and will not be repeated (its patience is over).
    `seen` stands in for an answer that was not heard: a look-up found what the call did (`status` is None).
    """

    status: int | None
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    fault: str = ""
    not_executed: bool = False
    seen: Seen | None = None

    @property
    def json(self) -> Any:
        """The body as strict JSON with Decimals, or NOT_JSON."""
        try:
            return load_json(self.text)
        except ValueError:
            return NOT_JSON

    @property
    def words(self) -> str:
        """A short account of it for a reason that a trader reads."""
        if self.status is None:
            return self.fault or "no reply"
        text = "".join(each if each.isprintable() else " " for each in self.text[:200]).strip()
        return f"HTTP {self.status}" + (f": {text}" if text else " with an empty body")

    @classmethod
    def of(cls, body: Any, status: int = 200) -> Reply:
        """A reply with a JSON body, for tests and assumed replies."""
        return cls(status=status, text=body if isinstance(body, str) and not isinstance(body, Placeholder)
                   else dump_json(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A wait that a plan asks for; playing back and rendering skip it. It is sent None."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look-up saw of one order at its broker.

    `broker_status` is working, partially_filled, filled, canceled, rejected or expired. `broker_ids` are the broker's
    ids by name (`order`, `oco`, `strategy`, `stop_loss`, `exchange` …). `legs` are objects with at least `role`.
    `by_our_id`: the broker showed it under the id that we gave it, so this account keeps our ids.
    """

    broker_status: str
    broker_ids: Mapping[str, str] = field(default_factory=dict)
    legs: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""
    by_our_id: bool = False

    @property
    def ended(self) -> bool:
        """Whether the order itself is left working no more; its legs may be."""
        return self.broker_status in ("filled", "canceled", "rejected", "expired")

    @property
    def all_ended(self) -> bool:
        """Whether nothing of it is left working, legs included."""
        return self.ended and not any(leg.get("broker_status") in ("working", "partially_filled") for leg in self.legs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Proof that a call was not executed, or that what it was to bring about has not come about.

    A broker file gives it only where a complete book of the right day does not show the order (an entry), or where the
    effect of a step that can only reduce was looked for and is not there (an exit). The driver believes it only after
    the send deadline and the settle time.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The broker took it (or there was nothing to do, and `reason` says so).

    `targets` is what was learnt of other orders of ours on the way (a cancel's), by their order id. `alarm` is set when
    it stands but a person has to look. `found_nothing`: of a cancel or close, that there was nothing to cancel or close.
    """

    broker_ids: Mapping[str, str] = field(default_factory=dict)
    broker_status: str = ""
    legs: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""
    targets: Mapping[str, Seen] = field(default_factory=dict)
    alarm: str = ""
    found_nothing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A definite no: nothing of it stands at the broker."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Certainly not executed; the whole order may be sent again after `after_s` seconds."""

    reason: str
    after_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """It may stand or not. Never sent again; looked up, then told to a person."""

    reason: str
    broker_ids: Mapping[str, str] = field(default_factory=dict)


Outcome = Accepted | Rejected | Retry | Unknown
Plan = Generator[Call | Pause, Any, Outcome]
"""Yields a Call and is sent a Reply, or yields a Pause and is sent None."""
LookUp = Generator[Call | Pause, Any, "Seen | Absent | None"]
"""Like a plan; returns what was seen, Absent (proof that it is not there), or None: not found, which proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A reply that means "nothing was done": the same call is to be repeated after `wait_s` seconds.

    `whole_login`: everything for that log-in waits. `renew`: the token is dead; renew it once, and the same answer with
    the fresh token is the broker's no (then the reply does reach the plan). `unsure`: it may have another cause, so that the
    same call is made once more with the same token first. `ticket`: body fields to add to the repeat.
    `person`: waiting alone will not cure it; tell a person. `grows`: the wait doubles, up to an hour, each time that the
    same log-in runs into it again before anything of it succeeded.
    """

    reason: str
    wait_s: float
    whole_login: bool = False
    renew: bool = False
    unsure: bool = False
    ticket: Mapping[str, Any] = field(default_factory=dict)
    person: bool = False
    grows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a log-in gave. `expires_at` is in seconds since the epoch, None for a token without a known end."""

    value: str
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"Token(<secret>, expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused:
    """The broker does not let us in. `wait_s` before another try is worth it; None: not before a person has acted."""

    reason: str
    wait_s: float | None = None


LogIn = Generator[Call, Any, "Token | LoginRefused"]
"""A log-in or renewal: yields calls that hold secrets, and is never recorded."""
