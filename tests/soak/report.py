"""What a run is told as: one table, and for each broken promise the whole history of its orders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.soak.judge import COLUMNS, Finding, Verdict, seconds_of
from tests.soak.run import Outcome

_AROUND_S = 6.0


def table(verdict: Verdict) -> str:
    """The one table."""
    cells = {"sent": verdict.sent, "accepted": verdict.accepted, "at the broker": verdict.at_broker,
             **{name: verdict.count(name) for name in COLUMNS},
             "unknown": f"{verdict.found} found / {verdict.told} told"}
    widths = [max(len(name), len(str(value))) for name, value in cells.items()]
    return "\n".join("   ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True))
                     for row in (cells.keys(), cells.values()))


def states(verdict: Verdict) -> str:
    """What the orders ended as."""
    return ", ".join(f"{count} {state}" for state, count in verdict.states.most_common())


def failure(outcome: Outcome, *, most: int = 5) -> str:
    """Each of the first findings with everything that is known about it."""
    parts = [f"{len(outcome.verdict.findings)} broken promises" + (f"; the first {most}:" if
             len(outcome.verdict.findings) > most else ":")]
    parts += [_history(outcome, finding) for finding in outcome.verdict.findings[:most]]
    return "\n\n".join(parts)


def _history(outcome: Outcome, finding: Finding) -> str:
    lines = [f"=== {finding.column}: {finding.words}"]
    moments: list[float] = []
    for sent in outcome.records.book:
        if sent.planned.number == finding.number and finding.number:
            lines += ["--- sent", json.dumps(sent.to_json(), default=str)]
            moments += [each.began for each in sent.tries] + [each.ended for each in sent.tries]
    for shown in outcome.histories:
        if shown["id"] in finding.orders:
            lines += [f"--- bridge show {shown['id']} --json", json.dumps(shown, indent=1, default=str)]
            moments += [seconds_of(moment["time"]) for moment in shown["history"]]
    for row in outcome.records.rows:
        if _concerns(row, finding):
            lines += ["--- at the broker", json.dumps(row, default=str)]
            moments.append(seconds_of(row["at"]))
    lines += ["--- requests that name it", *_requests(outcome, finding)]
    lines += ["--- what was done to Bridge around it", *_events(outcome, moments)]
    return "\n".join(lines)


def _requests(outcome: Outcome, finding: Finding) -> list[str]:
    counters = [str(shown["client_order_id"]) for shown in outcome.histories if shown["id"] in finding.orders]
    names = [name for name in (*finding.orders, *finding.rows, *counters) if name]
    texts = [json.dumps(each, default=str) for each in outcome.requests]
    return [text for text in texts if any(name in text for name in names)]


def _concerns(row: Mapping[str, Any], finding: Finding) -> bool:
    return str(row["broker_id"]) in finding.rows or any(str(row["client_order_id"]).startswith(order)
                                                        for order in finding.orders)


def _events(outcome: Outcome, moments: list[float]) -> list[str]:
    return [f"{datetime.fromtimestamp(event['at'], UTC).isoformat(timespec='milliseconds')} {event['words']}"
            for event in outcome.events
            if not moments or any(abs(event["at"] - moment) < _AROUND_S for moment in moments)]
