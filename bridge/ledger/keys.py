"""How things are named and written in Redis: keys, the fields of orders and alerts, and their checksums."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.call import Seen
from bridge.contracts import contract_key
from bridge.errors import DamagedRecord
from bridge.life import STATES
from bridge.numbers import dump_json, load_own_json, shortest
from bridge.order import Order, order_from_json
from bridge.record import Delivery, Limit, NewOrder

_SEALED = ("id", "alert", "template", "index", "account", "broker", "order", "exit", "contract", "ref", "age", "max_age",
           "follows", "dry_run")
"""The fields of an order that never change."""
_SEALED_OF_ALERT = ("template", "body", "age", "orders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to handle a lane. `fence` travels with every change of state."""

    account: str
    owner: str
    fence: int
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An order as the ledger holds it.

    Times are the lane's clock in ms; `age_ms` is its age at `now_ms`; `rank` grows with each order of the lane. `attempt`
    counts how often it was begun; `arming` how often it was carried out anew after it had been accepted. `withdrew` are
    the queued orders that this cancel or close withdrew when it was queued.
    """

    id: str
    alert: str
    template: str
    index: int
    account: str
    broker: str
    order: Order
    state: str
    reason: str
    now_ms: int
    age_ms: int
    max_age_ms: int
    received_ms: int
    created_ms: int
    rank: int
    submitted_ms: int | None
    attempt: int
    fence: int
    deadline_ms: int
    records: int
    follows: str
    dry_run: bool
    counter: int | None
    client_order_id: str
    broker_ids: Mapping[str, str]
    broker_status: str
    doubt_ms: int
    arming: int = 1
    withdrew: tuple[str, ...] = ()

    @property
    def expired(self) -> bool:
        """Whether it waited longer than its template allows."""
        return self.age_ms > self.max_age_ms


def prefix(account: str) -> str:
    """What all keys of a lane begin with, hash tag included."""
    return f"bridge:{{{account}}}:"


def key(account: str, *parts: str) -> str:
    """A key of a lane."""
    return prefix(account) + ":".join(parts)


def login_key(login: str, what: str) -> str:
    """A key of a log-in."""
    return f"bridge:{{login:{login}}}:{what}"


def flat(fields: Mapping[str, Any]) -> list[Any]:
    """Field, value, field, value …"""
    return [each for pair in fields.items() for each in pair]


def order_args(delivery: Delivery, orders: Sequence[NewOrder]) -> list[Any]:
    """How many orders, then each one's number of fields and its pairs."""
    args: list[Any] = [len(orders)]
    for order in orders:
        fields = _order_fields(delivery, order)
        args += [len(fields), *flat(fields)]
    return args


def _order_fields(delivery: Delivery, new: NewOrder) -> dict[str, Any]:
    order = new.order
    fields: dict[str, Any] = {
        "id": new.id, "alert": delivery.id, "template": delivery.template, "index": new.index, "account": new.account,
        "broker": new.broker, "kind": order.kind, "symbol": order.symbol or "", "side": order.side or "",
        "quantity": "" if order.quantity is None else shortest(order.quantity), "ref": order.ref or "",
        "exit": order.kind if order.is_exit else "", "contract": contract_key(order.symbol) if order.symbol else "",
        "order": dump_json(order.to_json()), "state": new.state, "reason": new.reason, "age": delivery.age_ms,
        "max_age": new.max_age_ms, "follows": new.follows, "dry_run": int(new.dry_run), "client_order_id": new.id,
    }
    if new.limits:
        fields["limits"] = dump_json([list(limit) for limit in new.limits])
    return {**fields, "sum": _sum(fields, _SEALED)}


def alert_fields(delivery: Delivery, *, half: bool) -> dict[str, Any]:
    """An alert's fields. Orders of other lanes are kept whole, so that a half-written alert can be completed."""
    orders = []
    for new in delivery.orders:
        kept: dict[str, Any] = {"id": new.id, "account": new.account, "state": new.state}
        if new.account != delivery.home:
            kept |= {"index": new.index, "broker": new.broker, "order": new.order.to_json(), "reason": new.reason,
                     "max_age_ms": new.max_age_ms, "dry_run": new.dry_run, "follows": new.follows}
            if new.limits:
                kept["limits"] = [list(limit) for limit in new.limits]
        orders.append(kept)
    fields = {"template": delivery.template, "state": delivery.state, "reason": delivery.reason, "body": delivery.body,
              "fields": dump_json(delivery.fields), "fingerprint": delivery.fingerprint, "age": delivery.age_ms,
              "orders": dump_json(orders), "half": "1" if half else ""}
    return {**fields, "sum": _sum(fields, _SEALED_OF_ALERT)}


def check_alert(alert: str, found: Mapping[str, str]) -> None:
    """Raises DamagedRecord when the stored alert is not what was written."""
    if "sum" in found and found["sum"] != _sum(found, _SEALED_OF_ALERT):
        raise DamagedRecord(f"the record of alert {alert} is damaged: its checksum does not fit. Its orders of other "
                            "accounts are not queued from it")


def other_lanes(home: str, alert: str, found: Mapping[str, str], orders: Sequence[Mapping[str, Any]]) -> Delivery:
    """The part of a stored alert that belongs to lanes other than its home."""
    rest = tuple(NewOrder(**{**each, "order": order_from_json(each["order"]),
                             "limits": tuple(_limit(limit) for limit in each.get("limits", ()))})
                 for each in orders if "order" in each)
    return Delivery(template=found.get("template", ""), home=home, id=alert, key="", dedupe_ms=0, nonce="",
                    fingerprint=found.get("fingerprint", ""), age_ms=int(found.get("age", 0)),
                    body=found.get("body", ""), state=found.get("state", ""), orders=rest)


def _limit(kept: Sequence[Any]) -> Limit:
    guard, whose, scope, most, day = kept
    return Limit(guard, whose, scope, int(most), day)


def answer(order: str, account: str, state: str, reason: str) -> dict[str, Any]:
    """An order as the receiver tells of it."""
    known = {"id": order, "account": account, "state": state}
    return {**known, "reason": reason} if reason else known


def stored_of(values: Mapping[str, str], now: int) -> Stored:
    """An order from its fields. Raises DamagedRecord when they are not what was written."""
    if values.get("sum") != _sum(values, _SEALED) or values.get("state") not in STATES:
        raise DamagedRecord(f"the record of order {values.get('id', '')} is damaged: its checksum does not fit. It is not "
                            "traded")
    return Stored(
        id=values["id"], alert=values["alert"], template=values["template"], index=int(values["index"]),
        account=values["account"], broker=values["broker"], order=order_from_json(load_own_json(values["order"])),
        state=values["state"], reason=values["reason"], now_ms=now,
        age_ms=int(values["age"]) + now - int(values["received"]), max_age_ms=int(values["max_age"]),
        received_ms=int(values["received"]), created_ms=int(values["created"]), rank=int(values["rank"]),
        submitted_ms=_whole(values.get("submitted")),
        attempt=int(values.get("attempt", 0)), fence=int(values.get("fence", 0)),
        deadline_ms=int(values.get("deadline", 0)), records=int(values.get("records", 0)), follows=values["follows"],
        dry_run=values["dry_run"] == "1", counter=_whole(values.get("counter")),
        client_order_id=values["client_order_id"], broker_ids=json.loads(values.get("broker_ids", "{}")),
        broker_status=values.get("broker_status", ""), doubt_ms=int(values.get("doubt", 0)),
        arming=int(values.get("arming", 0)) + 1, withdrew=tuple(values.get("withdrew", "").split()))


def seen_fields(stored: Stored, seen: Seen) -> dict[str, Any]:
    """The fields of an order that a look-up fills in; ids that were known before stay."""
    fields: dict[str, Any] = {"broker_ids": dump_json({**stored.broker_ids, **seen.broker_ids})}
    if seen.legs:
        fields["legs"] = dump_json([dict(leg) for leg in seen.legs])
    return fields


def _sum(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    """A checksum over these fields as Redis holds them."""
    text = "\x00".join(str(fields.get(name, "")) for name in names)
    return f"{zlib.crc32(text.encode('utf-8', 'backslashreplace')):08x}"


def _whole(text: str | None) -> int | None:
    return int(text) if text else None
