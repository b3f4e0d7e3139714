"""`bridge resolve`: a person says what became of an order that Bridge cannot know, or has seen an alarm."""

from __future__ import annotations

import uuid
from typing import Any

from bridge.errors import InputError
from bridge.ledger import Ledger

_CAME = {
    "": "",
    "repeated": "a cancel or close covered it meanwhile: that is carried out once more",
    "alarm": "a cancel or close was to end it, and is NOT repeated (too late, or a newer entry came): end it at the broker "
             "if it should not stand",
}


def resolve(ledger: Ledger, order: str, verdict: str) -> dict[str, Any]:
    """Record the verdict. Raises InputError, in words, when the order's state does not allow it."""
    found = ledger.order(order)
    if found is None:
        raise InputError(f"there is no order {order!r}; `bridge orders --waiting` lists what waits for a person")
    reason = "a person has seen it" if verdict == "seen" else f"a person says that the broker {verdict} it"
    word, came = ledger.resolve(found["account"], order, verdict, reason, "forever", uuid.uuid4().hex)
    if word == "ok":
        return {"id": order, "state": ledger.state_of(found["account"], order), "resolved_as": verdict,
                "then": _CAME[came]}
    if verdict == "seen":
        why = "say what became of it: --as accepted or --as rejected" if came == "unknown" else "it does not wait for a person"
        raise InputError(f"order {order} is {came}: {why}")
    raise InputError(f"order {order} is {came}, not unknown: there is nothing to decide"
                     + ("" if came in ("queued", "submitting") else "; an alarm is ticked off with --as seen"))
