"""`bridge render`: the orders that an alert makes and the exact calls to the brokers. No network, no Redis, no clock but
the moment that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from bridge.accounts import Accounts
from bridge.alert import read_body
from bridge.broker import Broker
from bridge.brokers import BROKERS
from bridge.call import Call, Placeholder, Token
from bridge.clock import now as present
from bridge.errors import InputError
from bridge.intake import decide
from bridge.load import load_named, settings_of
from bridge.order import Order
from bridge.record import NewOrder
from bridge.rehearse import rehearse
from bridge.values import read_time
from bridge.work import Account, Ids, Work

_TOKEN = Token(value=Placeholder.of("log-in"))
_FRAME_ID = Placeholder.of("frame")


def render_alert(environ: Mapping[str, str], template: str, raw: bytes, moment: str | None) -> dict[str, Any]:
    """What the alert comes to, as data. Raises InputError in words for a wrong template, alert or moment."""
    received_at = _read_moment(moment)
    found, accounts = load_named(settings_of(environ), environ, template)
    delivery = decide(found, read_body(raw), raw, home=found.accounts[0], nonce="render", now=received_at)
    return {
        "template": found.name, "alert": delivery.fields,
        "skipped": delivery.reason if delivery.state == "skipped" else None,
        "refused": delivery.reason if delivery.state == "refused" else None,
        "orders": [_order(new, accounts, received_at) for new in delivery.orders],
    }


def _read_moment(text: str | None) -> datetime:
    if text is None:
        return present()
    try:
        return read_time(text)
    except ValueError as error:
        raise InputError(f"--now {text!r}: {error}") from None


def _order(new: NewOrder, accounts: Accounts, received_at: datetime) -> dict[str, Any]:
    account, broker = accounts.accounts[new.account], BROKERS[new.broker]
    found: dict[str, Any] = {"account": new.account, "broker": new.broker, "order": new.order.to_json()}
    if new.reason:
        found |= {"state": new.state, "reason": new.reason}
    found["calls"] = [_call(broker.dress(call, account, _TOKEN, _FRAME_ID))
                      for call in _calls(new, account, broker, received_at)]
    return found


def _calls(new: NewOrder, account: Account, broker: Broker, received_at: datetime) -> list[Call]:
    counter = Placeholder.of("counter") if broker.counter_name(account) else None
    work = Work(order=new.order, account=account, ids=Ids(order_id=new.id, counter=counter), created_at=received_at)
    if new.order.is_exit:
        work = replace(work, targets=(_target(work, counter),))
    calls, _ = rehearse(broker.submit(work))
    return calls


def _target(work: Work, counter: str | None) -> Work:
    """The order that a cancel or close is assumed to find: a plain one, still working, and the only one."""
    name = work.order.ref or "earlier order"
    order = Order(kind="plain", symbol=work.order.symbol or Placeholder.of(name), side="buy", quantity=Decimal(1),
                  type="limit", price=Decimal(1), time_in_force="day", ref=work.order.ref,
                  options=work.order.options)
    return Work(order=order, account=work.account, ids=Ids(order_id=Placeholder.of(name), counter=counter),
                broker_ids={"order": Placeholder.of(name)}, created_at=work.created_at,
                submitted_at=work.created_at)


def _call(call: Call) -> dict[str, Any]:
    found = {"method": call.method, "url": call.url, "headers": dict(call.headers), "body": call.body}
    return found if call.assumed is None else {**found, "assumed": call.assumed}
