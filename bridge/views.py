"""What the ledger holds, as it is written there and as people and scripts see it: calls, orders, alerts. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from bridge.call import Call, Reply
from bridge.errors import DamagedRecord
from bridge.numbers import dump_json, load_own_json
from bridge.order import order_from_json

_MOST_TEXT = 65_536

# -- records of calls --------------------------------------------------------------------------------------------------


def begin_record(given: Mapping[str, Any], at_ms: int) -> str:
    """That an attempt begins, with what its plan is given beside the order."""
    return _sealed({"at": at_ms, "begin": given})


def call_record(call: Call, at_ms: int, *, look: bool = False) -> str:
    """A call as it is kept: what will be sent, without what the session adds. `look`: of a look-up, not of the plan."""
    return _sealed({"at": at_ms, "call": call.to_json(), "digest": call.digest(), **({"look": True} if look else {})})


def reply_record(call: Call, reply: Reply, at_ms: int, *, held: bool = False, look: bool = False) -> str:
    """A reply as it is kept, under its call's digest. `held`: nothing was done, and the plan does not hear of it."""
    said: dict[str, Any] = {"status": reply.status, "text": reply.text[:_MOST_TEXT], "fault": reply.fault}
    said |= {name: value for name, value in (("headers", dict(reply.headers)), ("not_executed", reply.not_executed),
                                             ("held", held)) if value}
    if (seen := reply.seen) is not None:
        said["fault"] = said["fault"] or f"found by a look-up: {seen.broker_status}"
        said["seen"] = {"broker_status": seen.broker_status, "broker_ids": dict(seen.broker_ids), "reason": seen.reason,
                        "legs": [dict(leg) for leg in seen.legs]}
    return _sealed({"at": at_ms, "digest": call.digest(), "reply": said, **({"look": True} if look else {})})


def read_record(text: str) -> dict[str, Any]:
    """A record as it was written. Raises DamagedRecord."""
    checksum, _, body = text.partition(" ")
    if checksum != _checksum(body):
        raise DamagedRecord("a recorded call or reply is damaged: its checksum does not fit")
    found: dict[str, Any] = load_own_json(body)
    return found


def _sealed(record: Mapping[str, Any]) -> str:
    body = dump_json(record)
    if not body.isascii():  # as the ledger keeps it
        body = body.encode("utf-8", "backslashreplace").decode()
    return f"{_checksum(body)} {body}"


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode('utf-8', 'backslashreplace')):08x}"


def calls_view(records: Sequence[str]) -> list[dict[str, Any]]:
    """Calls in order, each with its reply where there is one. A damaged record is shown as what it is."""
    calls: list[dict[str, Any]] = []
    for record in records:
        try:
            found = read_record(record)
        except DamagedRecord as damaged:
            calls.append({"operation": "", "fault": str(damaged), "reply": None})
            continue
        if "begin" in found:
            continue
        at = _iso(found["at"])
        if "call" in found:
            calls.append({**found["call"], "at": at, "digest": found["digest"], "reply": None})
            continue
        reply = {**{name: found["reply"][name] for name in ("status", "text", "fault")}, "at": at}
        for call in calls:
            if call.get("digest") == found["digest"] and call["reply"] is None:
                call["reply"] = reply
                break
        else:
            calls.append({"operation": "", "digest": found["digest"], "reply": reply})
    for call in calls:
        call.pop("digest", None)
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
    try:
        orders = load_own_json(values.get("orders") or "[]")
    except ValueError:  # damaged: its reason says so
        orders = []
    return {"id": alert, "template": values.get("template", ""), "state": values.get("state", ""),
            "reason": values.get("reason", ""), "received_at": _iso(values.get("received", "0")),
            "fields": load_own_json(values.get("fields") or "{}"), "body": values.get("body", ""),
            "duplicate_of": values.get("duplicate_of") or None,
            "orders": [{"id": each["id"], "account": each["account"]} for each in orders]}


def replay_view(alert: str, values: Mapping[str, str]) -> dict[str, Any]:
    """An alert to be replayed: as it is listed, its moment of receipt, the fingerprint of the body as it came, and of
    its orders the states they began with."""
    view = alert_view(alert, values)
    states = {order["id"]: order.get("state", "") for order in load_own_json(values.get("orders") or "[]")} if (
        view["orders"]) else {}
    return {**view, "received_ms": int(values.get("received", "0")), "fingerprint": values.get("fingerprint", ""),
            "orders": [{**order, "state": states[order["id"]]} for order in view["orders"]]}


def sent_view(given: Mapping[str, Any], values: Mapping[str, str], records: Sequence[str]) -> dict[str, Any] | None:
    """An order of an alert as it was decided and sent then; None where its record is gone or damaged.

    `given` is what the alert keeps of it; `at_receipt` is the state that it began with.
    """
    try:
        order = load_own_json(values["order"])
    except (KeyError, ValueError):
        return None
    state = values.get("state", "")
    return {"id": given["id"], "account": given["account"], "at_receipt": given.get("state", state), "state": state,
            "reason": values.get("reason", ""), "broker": values.get("broker", ""),
            "order": order, "dry_run": values.get("dry_run") == "1" or state == "dry_run",
            "calls": calls_view(records)}
