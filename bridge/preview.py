"""`bridge render` and `bridge explain`: what an alert makes, as exact calls to the brokers and in plain words. No network,
no Redis, no clock but the moment that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from bridge.accounts import Accounts
from bridge.alert import read_body
from bridge.brokers import BROKERS
from bridge.call import Call, Placeholder, Token
from bridge.clock import now as present
from bridge.errors import AlertError, InputError
from bridge.explain import explain
from bridge.intake import decide
from bridge.load import load_named, settings_of, with_stored_secret
from bridge.masters import kept_masters
from bridge.order import Order
from bridge.record import Delivery, NewOrder
from bridge.rehearse import rehearse
from bridge.show import print_line
from bridge.values import read_time
from bridge.work import Account, Ids, Work

_TOKEN = Token(value=Placeholder.of("log-in"))
_FRAME_ID = Placeholder.of("frame")


def render_alert(environ: Mapping[str, str], template: str, raw: bytes, moment: str | None) -> dict[str, Any]:
    """What the alert comes to, as data. Raises InputError in words for a wrong template, alert or moment."""
    received_at = read_moment(moment)
    settings = settings_of(environ)
    found, accounts = load_named(settings, environ, template)
    masters, words = kept_masters(settings.data, accounts, found.accounts)
    try:
        delivery = decide(found, read_body(raw), raw, home=found.accounts[0], nonce="render", now=received_at,
                          masters=masters)
    except AlertError as error:
        _tell_of_masters(error, words)
        raise
    _tell_of_masters(delivery, words)
    return {
        "template": found.name, "alert": delivery.fields,
        "skipped": delivery.reason if delivery.state == "skipped" else None,
        "refused": delivery.reason if delivery.state == "refused" else None,
        "orders": [_order(new, accounts, received_at) for new in delivery.orders],
    }


def explain_alert(environ: Mapping[str, str], template: str, raw: bytes, moment: str | None) -> dict[str, Any]:
    """What the alert would do, in words, as data; a wrong alert is explained too, as `state: invalid`.

    Raises InputError in words for a wrong template or moment.
    """
    received_at = read_moment(moment)
    settings = with_stored_secret(settings_of(environ))
    found, accounts = load_named(settings, environ, template)
    masters, words = kept_masters(settings.data, accounts, found.accounts)
    body = None
    try:
        body = read_body(raw)
        decided: Delivery | InputError = decide(found, body, raw, home=found.accounts[0], nonce="explain",
                                                now=received_at, masters=masters)
        _tell_of_masters(decided, words)
    except InputError as error:
        decided = error
        _tell_of_masters(error, words)
    return explain(found, body, decided, received_at=received_at)


def _tell_of_masters(found: Delivery | InputError, words: Iterable[str]) -> None:
    """What a person should know of the instrument masters, where an order looked a symbol up in one, or could not."""
    options = [] if isinstance(found, InputError) else [new.order.options for new in found.orders]
    if isinstance(found, AlertError) or any("trading_symbol" in each or isinstance(each.get("instrument_token"), Placeholder) for each in options):
        for each in words:
            print_line(each, error=True)


def read_moment(text: str | None) -> datetime:
    """The moment of `--now`, or now. Raises InputError."""
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
    if new.state == "refused":
        return {**found, "calls": []}
    found["calls"] = [_call(broker.dress(call, account, _TOKEN, _FRAME_ID))
                      for call in calls_of(new, account, received_at)]
    return found


def calls_of(new: NewOrder, account: Account, received_at: datetime) -> list[Call]:
    """Every call of the shortest good way, without what the session adds."""
    broker = BROKERS[new.broker]
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
