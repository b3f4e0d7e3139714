"""The life of an order: one table.

    queued ─▶ submitting ─▶ accepted         ─▶ broker_status: working, partially_filled, filled, canceled, …
       │           ├─▶ rejected              a definite no from the broker
       │           ├─▶ queued                certainly not executed: at the lane's head again, until max_age
       │           └─▶ unknown ─▶ accepted | rejected | queued | expired | cancelled
       ├─▶ expired     waited past max_age
       ├─▶ refused     a guard said no
       ├─▶ cancelled   withdrawn before it was sent
       └─▶ dry_run     all but sent

An unknown order that look-ups did not find stays unknown when a person is told of it; one whose first steps stand and
whose doubtful step was cleared up goes on (`submitting` again). An accepted cancel or close is queued once more when an
order that it covers, and that was unknown, turns out to stand: the ledger's scripts do that, not a worker.
expired, refused and cancelled may also follow submitting, as long as no write has left. Anything absent from MOVES is
an error. The ledger's scripts compare and set a state; they do not repeat this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

STATES = ("queued", "submitting", "accepted", "rejected", "unknown", "expired", "refused", "cancelled", "dry_run")

MOVES: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "queued": MappingProxyType({
        "submit": "submitting", "expire": "expired", "refuse": "refused", "withdraw": "cancelled",
        "rehearse": "dry_run"}),
    "submitting": MappingProxyType({
        "accept": "accepted", "reject": "rejected", "retry": "queued", "lose": "unknown",
        "expire": "expired", "refuse": "refused", "withdraw": "cancelled"}),
    "unknown": MappingProxyType({
        "accept": "accepted", "reject": "rejected", "retry": "queued", "expire": "expired", "withdraw": "cancelled",
        "tell": "unknown", "resume": "submitting"}),
    "accepted": MappingProxyType({}),
    "rejected": MappingProxyType({}),
    "expired": MappingProxyType({}),
    "refused": MappingProxyType({}),
    "cancelled": MappingProxyType({}),
    "dry_run": MappingProxyType({}),
})

ENDED = frozenset(state for state, moves in MOVES.items() if not moves)
"""States in which Bridge has nothing more to decide (an accepted order lives on at its broker)."""

GONE_ON = frozenset({"accepted", "dry_run"})
"""What an earlier order of a list has to come to for the next one to be sent."""


def move(state: str, event: str) -> str:
    """The state after `event`. Raises ValueError for a pair that is not in the table."""
    try:
        return MOVES[state][event]
    except KeyError:
        raise ValueError(f"an order that is {state!r} cannot {event!r}") from None


def sources(event: str) -> tuple[str, ...]:
    """The states that `event` may come from, for a script to compare with."""
    return tuple(state for state, moves in MOVES.items() if event in moves)
