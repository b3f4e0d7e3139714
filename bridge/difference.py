"""What an alert was sent as then, beside what it would be sent as now: order by order, request by request. Pure.

`<from: …>` stands for a value that only the broker or the ledger can give, and is equal to whatever was there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from bridge.call import Call
from bridge.numbers import dump_json, load_own_json
from bridge.record import NewOrder

_GIVEN = re.compile(r"<from: [^<>]*>")
_ABSENT = object()


def differences(then: Mapping[str, Any], orders: Sequence[tuple[NewOrder, Sequence[Call]]]) -> list[dict[str, Any]]:
    """Every difference between the orders on record and those made now; empty where nothing differs.

    `then` is an alert as `Ledger.stored_alerts` gives it. Each difference names the `order`, its `account`, what
    `change` it is (added, removed, changed) and of a changed one its `fields`, each with `then` and `now`.
    """
    found: list[dict[str, Any]] = []
    recorded = {each["id"]: each for each in then["orders"]}
    made = {new.id for new, _ in orders}
    for order in then["orders"]:
        if order["id"] not in made:
            found.append({"change": "removed", "order": order["id"], "account": order["account"],
                          "then": order["order"], "state": order["state"]})
    for new, calls in orders:
        if new.id not in recorded:
            found.append({"change": "added", "order": new.id, "account": new.account, "now": new.order.to_json(),
                          "state": new.state})
        else:
            found += _of_order(recorded[new.id], new, calls)
    return found


def _of_order(then: Mapping[str, Any], new: NewOrder, calls: Sequence[Call]) -> Iterator[dict[str, Any]]:
    common = {"change": "changed", "order": new.id, "account": new.account}
    fields = list(_fields({"state": then["at_receipt"], "dry_run": then["dry_run"], "broker": then["broker"]},
                          {"state": new.state, "dry_run": new.dry_run, "broker": new.broker}))
    if fields:
        yield {**common, "request": None, "fields": fields}
    requests = list(_requests(writes_of(then["calls"]), [call for call in calls if call.write],
                              only_shared=new.order.is_exit))
    if not requests and (fields := list(_fields(then["order"], new.order.to_json()))):
        yield {**common, "request": None, "fields": fields}
    for each in requests:
        yield {**common, **each}


def writes_of(calls: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The writes on record; what took back a step, or only looked, is left out."""
    return [call for call in calls if call.get("write") and not str(call.get("step", "")).startswith("undo.")]


def _requests(then: Sequence[Mapping[str, Any]], now: Sequence[Call], *, only_shared: bool) -> Iterator[dict[str, Any]]:
    """Request by request; a step that was repeated counts as it was sent first. Nothing where nothing was sent then.

    Of a cancel or close how many there are depends on what stood then: only those of the same operation are compared.
    """
    if not then or not now:
        return
    name = "operation" if only_shared else "step"
    before: dict[str, Mapping[str, Any]] = {}
    after: dict[str, Call] = {}
    for recorded in then:
        before.setdefault(str(recorded[name]), recorded)
    for call in now:
        after.setdefault(getattr(call, name), call)
    for each in dict.fromkeys((*before, *after)):
        if each in before and each in after:
            if _is_same_request(before[each], after[each]):
                continue
            fields = list(_fields(_request(before[each]), _request(after[each].to_json())))
            if fields:
                yield {"request": after[each].operation, "fields": fields}
        elif not only_shared:
            there, what = (before[each], "removed") if each in before else (after[each].to_json(), "added")
            yield {"request": there["operation"], "fields": [], "what": f"request {what}"}


def _is_same_request(then: Mapping[str, Any], now: Call) -> bool:
    """Whether both are the same to the last byte; what `<from: …>` stands for is not looked at. The usual case."""
    return (then["method"] == now.method and then["url"] == now.url and _equal(then["headers"], now.headers)
            and _equal(then["body"], now.body))


def _request(call: Mapping[str, Any]) -> dict[str, Any]:
    parts = urlsplit(call["url"])
    return {"method": call["method"], "path": unquote(parts.path) + (f"?{unquote(parts.query)}" if parts.query else ""),
            "headers": call["headers"], "body": call["body"]}


def addresses(then: Mapping[str, Any], orders: Sequence[tuple[NewOrder, Sequence[Call]]]) -> set[tuple[str, str, str]]:
    """(account, address then, address now) where requests would go to another place than they went."""
    now = {new.account: _address(call.url) for new, calls in orders for call in calls[:1]}
    return {(order["account"], _address(call["url"]), now[order["account"]])
            for order in then["orders"] for call in order["calls"][:1]
            if "url" in call and order["account"] in now and _address(call["url"]) != now[order["account"]]}


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# -- values ------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """As the ledger gives it back."""
    return load_own_json(dump_json(value))


def _fields(then: Any, now: Any) -> Iterator[dict[str, Any]]:
    """Each field that differs, by its dotted path."""
    if _equal(then, now):  # the usual case, and quick
        return
    before, after = _flat(_plain(then)), _flat(_plain(now))
    for path in dict.fromkeys((*before, *after)):
        old, new = before.get(path, _ABSENT), after.get(path, _ABSENT)
        if not _same(old, new):
            known = {"then": old, "now": new}
            yield {"field": path, **{name: value for name, value in known.items() if value is not _ABSENT}}


def _equal(then: Any, now: Any) -> bool:
    """Whether both are the same JSON, without a look at what `<from: …>` stands for."""
    if isinstance(then, Mapping):
        if not isinstance(now, Mapping) or len(then) != len(now):
            return False
        for name, value in then.items():
            if name not in now or not _equal(value, now[name]):
                return False
        return True
    if isinstance(then, (list, tuple)):
        return isinstance(now, (list, tuple)) and len(then) == len(now) and all(map(_equal, then, now))
    return bool(then == now) and isinstance(then, bool) == isinstance(now, bool)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and (value or not path):
        return {name: each for key, below in value.items()
                for name, each in _flat(below, f"{path}.{key}" if path else str(key)).items()}
    if isinstance(value, list) and value:
        return {name: each for place, below in enumerate(value)
                for name, each in _flat(below, f"{path}.{place}").items()}
    return {path: value}


def _same(old: Any, new: Any) -> bool:
    if old == new and isinstance(old, bool) == isinstance(new, bool):
        return True
    for known, pattern in ((old, new), (new, old)):
        if isinstance(pattern, str) and known is not _ABSENT and _GIVEN.search(pattern):
            text = known if isinstance(known, str) else dump_json(known)
            if re.fullmatch(".+".join(re.escape(part) for part in _GIVEN.split(pattern)), text, re.DOTALL):
                return True
    return False
