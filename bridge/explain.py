"""`bridge explain`: what an alert would do, in plain words. Pure: the same alert, template and moment say the same.

Everything is first gathered as data (`explain`, for `--json`); `lines_of` turns that into text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from bridge.alert import Body, JsonNumber, as_raw
from bridge.broker import Broker
from bridge.errors import InputError
from bridge.expressions import ExpressionError, Value, compile_condition
from bridge.fields import Reading
from bridge.filters import plain_text
from bridge.numbers import EXACT, dump_json
from bridge.order import Order, off_tick
from bridge.order_rules import OrderRule, product_at
from bridge.record import Delivery, NewOrder
from bridge.rendering import Template
from bridge.rolls import roll_ahead
from bridge.wording import (
    Worth,
    base_of,
    exits_of,
    good_for,
    hidden,
    in_money,
    number,
    sentences_of,
    span,
)
from bridge.work import Account

_FORMS = {"json": "JSON", "key_value": "key=value; pairs", "text": "text, by the template's `parse:`"}
_MOST_SHOWN = 80


def explain(template: Template, body: Body | None, found: Delivery | InputError, *,
            received_at: datetime) -> dict[str, Any]:
    """What an alert received at this moment comes to, as data.

    `found` is what intake decided, or why it could not; `body` is None where it could not be read at all.
    """
    said: dict[str, Any] = {"template": template.name, "description": template.description,
                            "received_at": plain_text(received_at), "form": body.form if body else None,
                            "fields": _fields(template, body) if body else [], "orders": [], "left_out": [],
                            "assumed": []}
    if isinstance(found, InputError):
        return said | {"state": "invalid", "reason": "the alert is at fault: it makes no order",
                       "faults": [fault.to_json() for fault in found.faults]}
    said |= {"state": found.state, "reason": found.reason, "faults": [],
             "orders": [_Explained(template, found, new, received_at).to_json() for new in found.orders]}
    if body is not None:
        said["left_out"] = list(_left_out(template, body, found, received_at))
    said["assumed"] = list(_assumed(template, found))
    return said


# -- the alert ---------------------------------------------------------------------------------------------------------


def _fields(template: Template, body: Body) -> list[dict[str, Any]]:
    try:
        readings = template.readings(body)
    except InputError:
        return []
    return [_field(each) for each in readings]


def _field(reading: Reading) -> dict[str, Any]:
    name = reading.field.name
    found: dict[str, Any] = {"name": name, "type": reading.field.type}
    if not reading.absent:
        found["raw"] = hidden(name, _raw(reading.given))
    if reading.fault:
        found["fault"] = reading.fault
    elif reading.value is not None:
        found["value"] = hidden(name, _json(reading.value))
    return found


def _raw(given: Any) -> str:
    """What the alert has, as it was written, cut where it is long."""
    text = given.text if isinstance(given, JsonNumber) else dump_json(as_raw(given))
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN - 1] + "…"


def _json(value: Any) -> Any:
    return plain_text(value) if isinstance(value, datetime) else value


# -- one order ---------------------------------------------------------------------------------------------------------


class _Explained:
    """One order of an alert, in words and figures."""

    def __init__(self, template: Template, delivery: Delivery, new: NewOrder, received_at: datetime) -> None:
        self.template, self.delivery, self.new, self.received_at = template, delivery, new, received_at
        self.order: Order = new.order
        self.account = template.known_accounts[new.account]
        self.broker = template.brokers[new.broker]
        self.rule: OrderRule = template.rules[new.index]
        self.worth = worth_of(self.order, self.account, self.broker)

    def to_json(self) -> dict[str, Any]:
        """The order with its sentences."""
        said: dict[str, Any] = {
            "account": account_to_json(self.account, dry_run=self.new.dry_run), "kind": self.order.kind,
            "order": self.order.to_json(), "state": self.new.state, "reason": self.new.reason,
            "does": [] if self.order.quantity == 0 else list(sentences_of(self.order, self.worth)),
            "money": list(self._money()),
            "figures": self._figures(), "good_for": [*self._age(), *good_for(self.order, self.received_at)],
            "broker": list(self._broker()), "guards": list(self._guards()),
            "assumed": list(self._assumed())}
        if self.new.follows:
            said["after"] = "sent once the order before it at this account was accepted; withdrawn if that fails"
        return said

    def _broker(self) -> Iterator[str]:
        can = self.broker.capabilities
        if words := can.to_know.get(self.order.kind):
            yield words
        if words := can.doubtful_types.get(self.order.type or ""):
            yield f"it may refuse a {self.order.type} order: {words}"

    def _guards(self) -> Iterator[str]:
        for limit in self.new.limits:
            when = f"on {limit.day}" if limit.day else "a minute"
            yield (f"{limit.guard} of {limit.whose} lets {limit.most} through {when}: "
                   "counted when it is queued, not here")

    def _figures(self) -> dict[str, Any]:
        if self.order.is_exit:
            return {}
        found: dict[str, Any] = {"exits": [each.to_json(self.worth) for each in exits_of(self.order, self.worth)]}
        if (value := self._notional()) is not None:
            found |= {"worth": value, "currency": self.worth.currency}
        return found

    def _notional(self) -> Decimal | None:
        base = base_of(self.order)
        return None if base is None else self.worth.of(EXACT.abs(base), self.order.quantity)

    def _money(self) -> Iterator[str]:
        """What is at stake, or why nobody can say."""
        order, worth = self.order, self.worth
        if order.is_exit or order.quantity == 0:
            return
        if (value := self._notional()) is not None and base_of(order) is not None:
            yield f"worth {in_money(value, worth.currency)} at {number(base_of(order) or Decimal(0))}"
        stops = [each for each in exits_of(order, worth) if each.protects]
        if worth.unknown:
            yield f"not known: {worth.unknown}"
        elif any(each.points is None for each in stops):
            yield ("what could be lost at the stop is not known: the stop is a price, and nobody knows where an entry "
                   "at market fills")

    def _age(self) -> Iterator[str]:
        since = "the time in the alert" if self.template.sent_at is not None else "its receipt"
        left = self.new.max_age_ms - self.delivery.age_ms
        yield (f"sent within {span(self.new.max_age_ms)} of {since} or never"
               + (f": {span(left)} are left" if 0 <= left < self.new.max_age_ms else ""))

    def _assumed(self) -> Iterator[str]:
        order, rule = self.order, self.rule
        if order.is_exit:
            yield ("what stands at the broker is not looked at here: the order is taken to find what it names")
        yield from self._sized()
        symbol = rule.values.get("symbol")
        if symbol is not None and not symbol.is_constant and "contract" in str(symbol.source):
            yield f"{order.symbol} is what `contract` makes of the alert's symbol on {self.received_at:%Y-%m-%d}"
        for price in (order.price, order.stop_price, order.trail):
            if price is not None and (words := off_tick(price, self.worth.tick)):
                yield f"{words}; as it is, the broker refuses the order"
        if order.symbol and (words := roll_ahead(order.symbol, self.account, self.broker.symbol_form(),
                                                 self.received_at.date())):
            yield words
        if any(leg.offset is not None for leg in order.legs):
            yield "distances of stop and target count from the fill, wherever that is"
        elif order.kind != "oco" and order.legs and order.type != "market":
            yield f"the entry fills at {number(base_of(order) or Decimal(0))}"
        elif rule.absolute and order.legs:
            yield "stop and target are prices (`legs: absolute`): they do not move with the fill"
        if any(each.protects and each.money is not None for each in exits_of(order, self.worth)):
            yield "a stop can fill worse than its price; fees are not counted"
        if self.worth.tick is not None and self.worth.point_value is not None:
            yield (f"a tick of {order.symbol} is {number(self.worth.tick)}, a point is worth "
                   f"{in_money(self.worth.point_value, self.worth.currency)}")

    def _sized(self) -> Iterator[str]:
        use = self.rule.uses.get(self.account.name)
        quantity = number(self.order.quantity or Decimal(0))
        if self.rule.risk is not None:
            yield f"{quantity} is as many as the `risk` of the template allows at the stop, rounded down"
        if use is not None and use.times != 1 and self.order.quantity is not None:
            yield f"its size is {number(use.times)} times the alert's at this account, rounded down to {quantity}"
        if use is not None and use.symbols:
            yield "traded here as: " + ", ".join(f"{name} → {other}" for name, other in use.symbols.items())


def worth_of(order: Order, account: Account, broker: Broker) -> Worth:
    """What a point of what is traded is worth, as far as it is known."""
    product = product_at(broker, order.symbol, account)
    value = product.point_value if product.point_value is not None else broker.point_value_of(order, account)
    return Worth(tick=product.tick, point_value=value, currency=broker.currency,
                 unknown="" if value is not None else f"Bridge does not know what a point of {order.symbol} is worth")


def account_to_json(account: Account, *, dry_run: bool) -> dict[str, Any]:
    """An account, and whether this order can move real money there."""
    return {"name": account.name, "broker": account.broker, "environment": account.environment,
            "account": account.account or account.client_id, "dry_run": dry_run,
            "real_money": account.real_money and not dry_run}


# -- what is left out --------------------------------------------------------------------------------------------------


def _left_out(template: Template, body: Body, delivery: Delivery, received_at: datetime) -> Iterator[dict[str, Any]]:
    """Each `when` that was false, with the part that made it so."""
    judge = _Judge(template, body, received_at)
    passing = {name: template.when is None or judge.is_true(template.when, name) for name in template.accounts}
    if template.when is not None and not any(passing.values()):
        yield {"what": "the whole template", **judge.why(template.when, template.accounts[0])}
        return
    made = {new.index for new in delivery.orders}
    for rule in template.rules:
        if rule.index not in made and rule.when is not None and rule.accounts:
            yield {"what": _order_name(template, rule), "kind": rule.kind, **judge.why(rule.when, rule.accounts[0])}


def _order_name(template: Template, rule: OrderRule) -> str:
    return "the order" if len(template.rules) == 1 else f"order {rule.index + 1} ({rule.kind})"


class _Judge:
    """Says of conditions what they came to, and which part of them decided."""

    def __init__(self, template: Template, body: Body, received_at: datetime) -> None:
        self.template, self.body, self.received_at = template, body, received_at
        self.fields = template.read(body)
        self._types = {name: each.type for name, each in template.fields.declared.items()}

    def is_true(self, condition: Value, account: str) -> bool:
        try:
            return bool(self.template.evaluate(condition, account, self.fields, self.body,
                                               received_at=self.received_at))
        except ExpressionError:
            return False

    def why(self, condition: Value, account: str) -> dict[str, Any]:
        """The condition's source, its parts that are false, and the fields that these read."""
        source = _bare(str(condition.source))
        parts = [{"part": part, "value": self.is_true(value, account), "reads": self._values(value)}
                 for part, value in self._parts(source, condition)]
        return {"when": source, "false": [part for part in parts if not part["value"]]}

    def _parts(self, source: str, whole: Value) -> list[tuple[str, Value]]:
        try:
            return [(part, compile_condition(part, self._types)) for part in parts_of(source)]
        except ExpressionError:  # it does not fall apart at its words: it is shown as a whole
            return [(source, whole)]

    def _values(self, value: Value) -> dict[str, Any]:
        return {name: hidden(name, _json(self.fields.get(name))) for name in sorted(value.reads) if name in self.fields}


def _bare(source: str) -> str:
    found = re.fullmatch(r"\s*\{\{(.*)\}\}\s*", source, re.DOTALL)
    return (found[1] if found else source).strip()


_WORD = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[()\[\]{}]|\b(?:and|or|if|else)\b")


def parts_of(source: str) -> list[str]:
    """A condition taken apart at its outer `or`s, else at its outer `and`s; whole where it is neither."""
    cuts: dict[str, list[tuple[int, int]]] = {"and": [], "or": []}
    depth = 0
    for found in _WORD.finditer(source):
        word = found[0]
        depth += (word in "([{") - (word in ")]}") if len(word) == 1 else 0
        if depth == 0 and word in ("if", "else"):
            return [source]
        if depth == 0 and word in cuts:
            cuts[word].append(found.span())
    places = cuts["or"] or cuts["and"]
    starts, ends = [0, *(end for _, end in places)], [*(start for start, _ in places), len(source)]
    return [source[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def _assumed(template: Template, delivery: Delivery) -> Iterator[str]:
    if not delivery.orders:
        return
    if template.sent_at is None:
        yield "the template reads no time from the alert (`sent_at`): it counts as sent when it is received"
    if template.dedupe_window_ms == 0:
        yield "the same alert again is a new one (`dedupe_window: 0s`)"
    else:
        by = "body" if template.id is None else "id"
        yield f"an alert with the same {by} within {span(template.dedupe_window_ms)} is a duplicate and makes nothing"


# -- as text -----------------------------------------------------------------------------------------------------------


def lines_of(said: Mapping[str, Any]) -> Iterator[str]:
    """The explanation as text, line by line."""
    yield said["template"] + (f": {said['description']}" if said["description"] else "")
    yield ""
    yield from _field_lines(said)
    yield from _verdict(said)
    for place, order in enumerate(said["orders"]):
        yield ""
        yield from _order_lines(order, place + 1 if len(said["orders"]) > 1 else 0)
    yield from _left_out_lines(said)
    if said["assumed"]:
        yield ""
        yield from (f"Note: {each}." for each in said["assumed"])


def _field_lines(said: Mapping[str, Any]) -> Iterator[str]:
    if not said["fields"]:
        return
    received = datetime.fromisoformat(said["received_at"].replace("Z", "+00:00"))
    yield f"The alert as it is read ({_FORMS[said['form']]}):"
    rows = []
    for each in said["fields"]:
        if each["type"] in ("ignored", "refused") and "raw" not in each:
            continue
        raw = each.get("raw", "(absent)")
        value = _shown(each["value"]) if "value" in each else "nothing"
        if "fault" in each:
            value = f"WRONG: {each['fault']}"
        if each["type"] == "time" and "value" in each:
            value += _ago(each["value"], received)
        rows.append((each["name"], raw, each["type"], value))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield f"  {cells[0]}  {cells[1]}  → {cells[2]}  {row[3]}".rstrip()
    yield ""


def _shown(value: Any) -> str:
    return plain_text(value) if isinstance(value, (str, bool, Decimal)) else str(value)


def _ago(text: str, received: datetime) -> str:
    try:
        passed = received - datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return ""
    ms = passed // timedelta(milliseconds=1)
    if ms == 0:
        return " (the moment of receipt)"
    return f" ({span(abs(ms))} {'before' if ms > 0 else 'AFTER'} it is received)"


_VERDICTS = {"skipped": "Nothing would be ordered: the alert is skipped.", "refused": "Nothing would be sent: refused.",
             "invalid": "Nothing would be ordered: the alert is at fault."}


def _verdict(said: Mapping[str, Any]) -> Iterator[str]:
    if said["state"] in _VERDICTS:
        yield _VERDICTS[said["state"]]
        if said["state"] != "invalid" and not said["left_out"]:
            yield f"  {said['reason']}"
    else:
        count = sum(order["state"] == "queued" for order in said["orders"])
        yield f"It makes {count} order{'' if count == 1 else 's'}."
    for fault in said["faults"]:
        yield "  " + (f"{fault['field']}: " if "field" in fault else "") + str(fault["message"])


_TITLES = {"money": "money", "good_for": "time", "broker": "broker", "guards": "guard", "assumed": "assumed"}


def _order_lines(order: Mapping[str, Any], place: int) -> Iterator[str]:
    yield (f"{place}. " if place else "") + f"At {account_in_words(order['account'])}"
    if order["state"] != "queued":
        yield f"  NOT SENT ({order['state']}): {order['reason']}"
        if order["does"]:
            yield "  it would be this:"
    yield from (f"  {each}" for each in order["does"])
    if "after" in order:
        yield f"  {order['after']}"
    for name, title in _TITLES.items():
        for each in order[name]:
            yield f"  {title + ':':<9}{each}"


def account_in_words(account: Mapping[str, Any]) -> str:
    """`tradovate-demo (tradovate, sandbox, DEMO123456): paper, no real money moves`."""
    told = ", ".join(each for each in (account["broker"], account["environment"], account["account"]) if each)
    if account["dry_run"]:
        means = "dry_run, nothing is sent; the exact calls are put on record"
    else:
        means = "REAL MONEY CAN MOVE" if account["real_money"] else "paper, no real money moves"
    return f"{account['name']} ({told}): {means}"


def _left_out_lines(said: Mapping[str, Any]) -> Iterator[str]:
    for each in said["left_out"]:
        yield ""
        yield f"Left out: {each['what']}, for its `when` is false: {each['when']}"
        for part in each["false"]:
            reads = ", ".join(f"alert.{name} is {_shown(value)}" for name, value in part["reads"].items())
            yield f"  false: {part['part']}" + (f"   ({reads})" if reads else "")

