"""From an alert to what goes into the ledger: its key, its orders with their ids, what is too old, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from bridge.alert import Body, fingerprint
from bridge.errors import InputError
from bridge.filters import plain_text
from bridge.instruments import NO_MASTERS, Masters
from bridge.masking import MASK, is_secret, masked
from bridge.record import Delivery, NewOrder, alert_id, order_id
from bridge.template import Rendered, RenderedOrder, Template

_BY_ID, _BY_BODY, _BY_DELIVERY = "id:", "body:", "nonce:"


def decide(template: Template, body: Body, raw: bytes, *, home: str, nonce: str, now: datetime,
           masters: Masters = NO_MASTERS) -> Delivery:
    """What an alert comes to. Raises BodyError or AlertError, with every fault, when it can make no order.

    `now` is the moment of receipt, `masters` what brokers' instrument masters say at it; `nonce` is new with each HTTP request.
    """
    fields = template.read(body)
    rendered = template.render(fields, body, received_at=now, masters=masters)
    print_of_body = fingerprint(raw)
    key = _key(template, rendered.key, print_of_body, nonce)
    received_ms = int(now.timestamp() * 1000)
    alert = alert_id(template.name, key, received_ms)
    age_ms = max(0, int((now - rendered.sent_at).total_seconds() * 1000))
    orders = tuple(_orders(template, rendered.orders, alert, age_ms))
    state, reason = _state(rendered, orders)
    return Delivery(template=template.name, home=home, id=alert, key=key, dedupe_ms=template.dedupe_window_ms,
                    nonce=nonce, fingerprint=print_of_body, age_ms=age_ms, body=masked(body.text), state=state, reason=reason,
                    fields=_as_json(template, fields), orders=orders)


def invalid(template: str, home: str, raw: bytes, body: Body | None, *, nonce: str, now: datetime,
            error: InputError) -> Delivery:
    """The record of an alert that makes no order because it is wrong. It never counts as the first of its kind."""
    key = _BY_DELIVERY + nonce
    text = body.text if body is not None else raw.decode("utf-8", "backslashreplace")
    return Delivery(template=template, home=home, id=alert_id(template, key, int(now.timestamp() * 1000)), key=key,
                    dedupe_ms=0, nonce=nonce, fingerprint=fingerprint(raw), age_ms=0, body=masked(text), state="invalid",
                    reason="; ".join(str(fault) for fault in error.faults))


def known_key(template: Template, body: Body, raw: bytes) -> str | None:
    """The key of an alert that could not be rendered, to find the one that it is a copy of; None when it has none."""
    if template.dedupe_window_ms == 0:
        return None
    if template.id is None:
        return _BY_BODY + fingerprint(raw)
    try:
        found = template.key_of(template.read(body), body)
    except InputError:
        return None
    return None if found is None else _BY_ID + found


def _key(template: Template, id_text: str | None, print_of_body: str, nonce: str) -> str:
    if template.dedupe_window_ms == 0:
        return _BY_DELIVERY + nonce
    return _BY_BODY + print_of_body if id_text is None else _BY_ID + id_text


def _orders(template: Template, rendered: Iterable[RenderedOrder], alert: str, age_ms: int) -> Iterable[NewOrder]:
    """The orders with their ids; within an account each follows the one before it."""
    last: dict[str, str] = {}
    for each in rendered:
        order = order_id(alert, template.name, each.index, each.account)
        too_old = age_ms > each.max_age_ms
        state = "expired" if too_old else "refused" if each.refused else "queued"
        yield NewOrder(
            id=order, index=each.index, account=each.account, broker=each.broker, order=each.order,
            max_age_ms=each.max_age_ms, state=state,
            reason=_too_old(age_ms, each.max_age_ms) if too_old else each.refused,
            dry_run=template.dry_run or template.known_accounts[each.account].dry_run,
            follows=last.get(each.account, ""), limits=each.limits if state == "queued" else ())
        last[each.account] = order


def _too_old(age_ms: int, max_age_ms: int) -> str:
    return f"too old: sent {_span(age_ms)} before it was received; at most {_span(max_age_ms)} are allowed"


def _span(ms: int) -> str:
    """A span of time in the two units that matter: 4.2 s, 61 s, 19 h 14 min."""
    if ms < 10_000 and ms % 1000:
        return f"{ms // 1000}.{ms % 1000 // 100} s"
    if ms < 120_000:
        return f"{ms // 1000} s"
    minutes = ms // 60_000
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _state(rendered: Rendered, orders: tuple[NewOrder, ...]) -> tuple[str, str]:
    if rendered.skipped is not None:
        return "skipped", rendered.skipped
    if any(order.state == "queued" for order in orders):
        return "accepted", ""
    return "refused", "; ".join(dict.fromkeys(order.reason for order in orders))


def _as_json(template: Template, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as they are kept: without the keys of other services."""
    secret = {name for name, each in template.fields.declared.items() if is_secret(name) or is_secret(str(each.path[-1]))}
    return {name: MASK if name in secret and value is not None else plain_text(value) if isinstance(value, datetime) else value
            for name, value in fields.items()}
