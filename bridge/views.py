"""What the ledger holds, as it is written there and as people and scripts see it: calls, orders, alerts. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from bridge.call import Call, Reply
from bridge.numbers import dump_json, load_own_json
from bridge.order import order_from_json

_MOST_TEXT = 65_536

# -- records of calls --------------------------------------------------------------------------------------------------


def call_record(call: Call, at_ms: int) -> str:
    """A call as it is kept: what will be sent, without what the session adds."""
    return dump_json({"at": at_ms, "call": call.to_json(), "digest": call.digest()})


def reply_record(call: Call, reply: Reply, at_ms: int) -> str:
    """A reply as it is kept, under its call's digest."""
    return dump_json({"at": at_ms, "digest": call.digest(), "reply": {
        "status": reply.status, "text": reply.text[:_MOST_TEXT], "fault": reply.fault}})


def calls_view(records: Sequence[str]) -> list[dict[str, Any]]:
    """Calls in order, each with its reply where there is one."""
    calls: list[dict[str, Any]] = []
    for record in records:
        found = load_own_json(record)
        at = _iso(found["at"])
        if "call" in found:
            calls.append({**found["call"], "at": at, "digest": found["digest"], "reply": None})
            continue
        for call in calls:
            if call["digest"] == found["digest"] and call["reply"] is None:
                call["reply"] = {**found["reply"], "at": at}
                break
        else:
            calls.append({"operation": "", "digest": found["digest"], "reply": {**found["reply"], "at": at}})
    for call in calls:
        call.pop("digest")
    return calls


# -- views -------------------------------------------------------------------------------------------------------------


def _iso(ms: int | str) -> str:
    return datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_TEXTS = ("id", "alert", "template", "account", "broker", "kind")


def order_view(values: Mapping[str, str], history: Sequence[str]) -> dict[str, Any]:
    """An order as `bridge orders --json` prints it."""
    quantity = values.get("quantity")
    view: dict[str, Any] = {name: values.get(name, "") for name in _TEXTS}
    view |= {name: values.get(name) or None for name in ("symbol", "side", "ref")}
    view["quantity"] = load_own_json(quantity) if quantity else None
    view |= {"state": values.get("state", ""), "broker_status": values.get("broker_status") or None,
             "reason": values.get("reason", ""), "broker_ids": json.loads(values.get("broker_ids", "{}")),
             "client_order_id": values.get("client_order_id", ""),
             "created_at": _iso(values.get("created", "0")), "updated_at": _iso(values.get("updated", "0"))}
    moments = [json.loads(each) for each in history]
    view["history"] = [{"state": state, "time": _iso(int(at)), "reason": reason} for state, at, reason in moments]
    return view


def legs_view(values: Mapping[str, str]) -> list[Any]:
    """An order's legs: as a look-up saw them, else as they were asked for."""
    known = load_own_json(values.get("legs", "[]"))
    if known:
        return cast("list[Any]", known)
    order = order_from_json(load_own_json(values["order"]))
    return [leg.to_json() for leg in order.legs]


def alert_view(alert: str, values: Mapping[str, str]) -> dict[str, Any]:
    """An alert as `bridge alerts --json` prints it."""
    orders = load_own_json(values.get("orders") or "[]")
    return {"id": alert, "template": values.get("template", ""), "state": values.get("state", ""),
            "reason": values.get("reason", ""), "received_at": _iso(values.get("received", "0")),
            "fields": load_own_json(values.get("fields") or "{}"), "body": values.get("body", ""),
            "duplicate_of": values.get("duplicate_of") or None,
            "orders": [{"id": each["id"], "account": each["account"]} for each in orders]}


