"""What is legal in a template and dangerous: warnings, each with a name by which a template can say that it is meant.

    allow: [day-legs]                  # day trading: flat before the session ends

Nothing here keeps a template from loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bridge.broker import Broker
from bridge.expressions import Value
from bridge.fields import Declared
from bridge.legs import EXIT_TYPES, Entry, exit_time_in_force
from bridge.order_rules import OrderRule
from bridge.rendering import Template
from bridge.schemas import Where
from bridge.work import Account

RESEND_MS = 25_000
"""TradingView sends an alert again for so long (three times, five seconds apart, three seconds of waiting each)."""

DANGERS: Mapping[str, str] = MappingProxyType({
    "market-absolute-stop": "a market entry whose exits are prices",
    "day-legs": "exits that end with the session, of a position that can be held overnight",
    "sent-at-bar-open": "the age is counted from the opening of the bar",
    "same-fills": "two fills of a strategy can look like one",
    "no-quantity-cap": "the alert alone decides the size",
    "dropped-type": "an order type that the broker may refuse",
    "short-dedupe-window": "TradingView's own repeats count as new alerts",
    "roll-ahead": "a contract that the template names is left in a few days",
    "symbol-unknown": "a symbol that the template names is not in the instrument master that is kept here",
})
"""Every warning's name, and what it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Danger:
    """One warning: its name, where in the template, and what can happen."""

    name: str
    path: Where
    message: str


def dangers_of(template: Template, found: Mapping[str, Any]) -> Iterator[Danger]:
    """Every danger of a sound template, those that it allows too; the same one is told once for all accounts.

    `found` is its file.
    """
    yield from _of_sameness(template)
    yield from _of_age(template)
    for rule in template.rules:
        if not rule.is_exit:
            yield from _of_size(template, found, rule)
            seen: set[tuple[str, Where]] = set()
            for name in rule.accounts:
                broker = template.brokers[template.known_accounts[name].broker]
                for danger in (*_of_type(rule, broker), *_of_legs(rule, broker)):
                    if (danger.name, danger.path) not in seen:
                        seen.add((danger.name, danger.path))
                        yield danger


# -- of the alert ----------------------------------------------------------------------------------------------------


def _placeholder(each: Declared) -> str:
    return re.sub(r"\s", "", each.tradingview or "")


def _of_sameness(template: Template) -> Iterator[Danger]:
    if 0 < template.dedupe_window_ms < RESEND_MS:
        yield Danger(name="short-dedupe-window", path=("dedupe_window",), message=(
            "is shorter than the 25s within which TradingView sends an alert again: a copy could make a second order"))
    declared = template.fields.declared.values()
    if not any("{{strategy." in _placeholder(each) for each in declared):
        return
    ids = {each.name for each in declared
           if "{{strategy.order.id}}" in _placeholder(each) or (each.name == "order_id" and each.tradingview is None)}
    if template.id is not None and not template.id.reads & {*ids, "raw"}:
        yield Danger(name="same-fills", path=("id",), message=(
            "does not read the strategy's order id: of two fills in one second the second is taken for a copy and makes "
            'no order. Declare order_id: {type: text, tradingview: "{{strategy.order.id}}"} and put it in'))
    elif template.id is None and not ids:
        yield Danger(name="same-fills", path=("alert",), message=(
            "reads a strategy's fills and no order id: two equal fills in one second look alike, and the second makes no "
            'order. Declare order_id: {type: text, tradingview: "{{strategy.order.id}}"}, or give an `id`'))


def _of_age(template: Template) -> Iterator[Danger]:
    for name in sorted(template.sent_at.reads if template.sent_at else ()):
        if name in template.fields.declared and _placeholder(template.fields.declared[name]) == "{{time}}":
            yield Danger(name="sent-at-bar-open", path=("sent_at",), message=(
                f"reads alert.{name}, which TradingView fills with {{{{time}}}}, the OPENING of the bar: on an hourly "
                "chart every alert is an hour old, and is expired. Use {{timenow}}"))


# -- of the order ----------------------------------------------------------------------------------------------------


def _of_size(template: Template, found: Mapping[str, Any], rule: OrderRule) -> Iterator[Danger]:
    quantity = rule.values.get("quantity")
    if quantity is None or quantity.is_constant or not quantity.reads:
        return
    if _has_cap(found.get("guards")) or all(_caps(account) for account in _accounts(template, rule)):
        return
    bounded = (not each.examples for each in (template.fields.declared.get(name) for name in quantity.reads) if each)
    if "raw" not in quantity.reads and not any(bounded):
        return
    if "map(" in str(quantity.source) or any(_compares(when, quantity.reads) for when in (template.when, rule.when)):
        return
    yield Danger(name="no-quantity-cap", path=(*rule.path, "quantity"), message=(
        "comes from the alert, and nothing says how much is too much: one wrong input on the chart is an order of that "
        "size. Give guards: {max_quantity: …}"))


def _has_cap(guards: Any) -> bool:
    return isinstance(guards, dict) and guards.get("max_quantity") is not None


def _accounts(template: Template, rule: OrderRule) -> list[Account]:
    return [template.known_accounts[name] for name in rule.accounts]


def _caps(account: Account) -> bool:
    """Whether the account itself limits the size."""
    return account.guards.max_quantity is not None


def _compares(when: Value | None, names: Iterable[str]) -> bool:
    """Whether a condition sets an upper limit to one of these fields."""
    source = str(when.source) if when is not None else ""
    return any(re.search(rf"alert\.{name}\b\s*<|>=?\s*alert\.{name}\b", source) for name in names)


def _of_type(rule: OrderRule, broker: Broker) -> Iterator[Danger]:
    kind = _constant(rule, "type")
    if kind in broker.capabilities.doubtful_types:
        yield Danger(name="dropped-type", path=(*rule.path, "type"),
                     message=f"{broker.name} may refuse it: {broker.capabilities.doubtful_types[kind]}")
    if kind == "market" and rule.absolute and rule.legs:
        yield Danger(name="market-absolute-stop", path=(*rule.path, "legs"), message=(
            "a market entry can fill beyond these prices; an exit then fires at once, or is refused and the position "
            "stands naked. Safer: a limit entry, or points or ticks where the broker counts them from the fill"))


def _of_legs(rule: OrderRule, broker: Broker) -> Iterator[Danger]:
    """Exits for the day where positions are held overnight: only there a broker of futures, and one that has gtc."""
    if broker.symbol_form() == "none" or "gtc" not in broker.capabilities.times_in_force:
        return
    entry = _constant(rule, "time_in_force", "day")
    for leg in rule.legs:
        own = leg.values.get("time_in_force")
        at = (*rule.path, *leg.path, "time_in_force") if own is not None else (
            *rule.path, *(("time_in_force",) if "time_in_force" in rule.values else leg.path))
        if own is not None:
            ends = own.constant if own.is_constant else None
        else:
            ends = exit_time_in_force(Entry(side="buy", type="", time_in_force=entry)) if entry else None
        if ends == "day" and (leg.role in EXIT_TYPES or leg.role.startswith("bracket") or _closes(rule, leg.values)):
            yield Danger(name="day-legs", path=at, message=(
                "`day`: the exits end with the session, and a position that is held overnight stands without them. Say "
                "time_in_force: gtc, or be flat by then"))
            return


def _closes(rule: OrderRule, other: Mapping[str, Value]) -> bool:
    """Whether both halves of an oco are on one side: then they are the exits of a position."""
    one, two = rule.values.get("side"), other.get("side")
    return two is None or (one is not None and str(one.source).split() == str(two.source).split())


def _constant(rule: OrderRule, name: str, default: str = "") -> str:
    """A word of the order; "" where only the alert tells."""
    value = rule.values.get(name)
    if value is None:
        return default
    return str(value.constant) if value.is_constant else ""
