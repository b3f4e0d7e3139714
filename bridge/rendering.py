"""A loaded template at work: from an alert's body to fields, from fields to orders.

Pure: the same alert, accounts and moment of receipt make the same orders.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, cast

from bridge.alert import Body, as_raw
from bridge.broker import Broker
from bridge.contracts import Form, contract
from bridge.errors import AlertError, BodyError, Fault
from bridge.expressions import Context, ExpressionError, Value
from bridge.fields import Fields, Reading
from bridge.filters import plain_text
from bridge.guarding import has_prices, limits_of, refusals
from bridge.guards import NONE, Guards
from bridge.instruments import NO_MASTERS, Market, Masters
from bridge.message import Message, message_for
from bridge.order import Order
from bridge.order_rules import OrderFaults, OrderRule, Wrong, render_order
from bridge.pattern import TextPattern
from bridge.record import Limit
from bridge.schemas import Where
from bridge.sizing import AccountUse, mapped
from bridge.values import read_decimal, read_time
from bridge.work import Account
from bridge.yamlfile import dotted

MAX_AHEAD = timedelta(seconds=60)
_MAX_KEY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedOrder:
    """One order for one account. `index` is its place in `orders:`; `max_age_ms` counts from the alert's sending.

    `refused` says which guards refuse it and why (or that its size comes to nothing); `limits` are those that are counted
    where it is queued.
    """

    index: int
    account: str
    broker: str
    order: Order
    max_age_ms: int
    is_exit: bool
    refused: str = ""
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What an alert comes to. `skipped` says why it makes no order; `key` is the text of `id:`, None without one."""

    skipped: str | None
    sent_at: datetime
    key: str | None
    orders: tuple[RenderedOrder, ...]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A loaded template. `accounts` are the names in the order of the file; `secret` is its own, if it has one;
    `warnings` are what `bridge check` says of it though it loads."""

    name: str
    file: str
    description: str
    fields: Fields
    rules: tuple[OrderRule, ...]
    accounts: tuple[str, ...]
    dedupe_window_ms: int
    pattern: TextPattern | None = None
    when: Value | None = None
    sent_at: Value | None = None
    id: Value | None = None
    secret: str | None = field(default=None, repr=False)
    dry_run: bool = False
    guards: Guards = NONE
    compared: Mapping[str, Value] = field(default_factory=dict)
    """What `max_price_distance` counts from: of the template under "", of an account under its name."""
    warnings: tuple[Fault, ...] = ()
    known_accounts: Mapping[str, Account] = field(default_factory=dict, repr=False)
    brokers: Mapping[str, Broker] = field(default_factory=dict, repr=False)

    # -- reading an alert ------------------------------------------------------------------------------------------

    def read(self, body: Body) -> dict[str, Any]:
        """The declared fields of a body, typed.

        Raises BodyError for a text that this template cannot take apart, AlertError with every wrong field.
        """
        return self.fields.read(body if body.form != "text" else self._take_apart(body.text))

    def read_named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Fields that are given by their declared names, or nested as the body has them (the template's own tests)."""
        found = dict(values)
        by_path = Body("json", values, "")
        for each in self.fields.declared.values():
            if each.name not in found:
                found.update(self.fields.pick(by_path, each.name))
        return self.fields.convert({name: found[name] for name in self.fields.declared if name in found}, values)

    def readings(self, body: Body) -> list[Reading]:
        """Each declared field as the body has it and as it is read, sound or not: for people.

        Raises BodyError for a text that this template cannot take apart.
        """
        return self.fields.readings(body if body.form != "text" else self._take_apart(body.text))

    def _take_apart(self, text: str) -> dict[str, str]:
        if self.pattern is None:
            raise BodyError("the body is plain text, and this template has no `parse:` to take it apart; it reads a "
                            f"JSON object or key=value; pairs with {', '.join(self.fields.declared) or 'no fields'}")
        try:
            found = self.pattern.search(text.strip())
        except ValueError as error:
            raise BodyError(str(error)) from None
        if found is None:
            raise BodyError("the text does not fit the template's `parse:` pattern (a match begins and ends at a blank "
                            "or at the text's ends)")
        return found

    # -- rendering ---------------------------------------------------------------------------------------------------

    def render(self, fields: Mapping[str, Any], body: Body, *, received_at: datetime,
               masters: Masters = NO_MASTERS) -> Rendered:
        """The orders that an alert makes: every rule whose `when` is true, for each of its accounts.

        `fields` is what `read` gave for `body`, `masters` what brokers' instrument masters say. Raises AlertError with
        every fault; then no order is made.
        """
        alert = self._alert(fields, body)
        wrong: list[Wrong] = []
        orders: list[RenderedOrder] = []
        skipped = "no order's `when` is true"
        passing = {name: self._passes(self.when, self._context(name, alert, received_at), ("when",), wrong)
                   for name in self.accounts}
        if not any(passing.values()) and self.when is not None:
            skipped = f"`when` is false: {self.when.source}"
        for rule in self.rules:
            for name in rule.accounts:
                contracts = self._contracts(name, received_at, rule.uses.get(name))
                context = Context(alert=alert, contract=contracts, market=self._market(name, received_at, masters))
                if passing[name] and self._passes(rule.when, context, (*rule.path, "when"), wrong) and (
                        made := self._render_one(rule, name, context, contracts.given, wrong)):
                    orders.append(self._guarded(made, context, received_at, wrong))
        sent_at, key = received_at, None
        if orders:
            context = self._context(self.accounts[0], alert, received_at)
            sent_at = self._sent_at(context, received_at, wrong)
            key = self._key(context, wrong)
        if wrong:
            raise AlertError(_alert_faults(wrong))
        return Rendered(skipped=None if orders else skipped, sent_at=sent_at, key=key, orders=tuple(orders))

    def sent(self, fields: Mapping[str, Any], body: Body, *, received_at: datetime | None) -> datetime | None:
        """When the alert says it was sent; `received_at` where it does not say. Raises ExpressionError."""
        if self.sent_at is None:
            return received_at
        found = self.sent_at.evaluate(Context(alert=self._alert(fields, body), contract=_no_contract))
        try:
            return received_at if found is None else read_time(found)
        except ValueError as error:
            raise ExpressionError(str(error)) from None

    def key_of(self, fields: Mapping[str, Any], body: Body) -> str | None:
        """The text of `id:` for an alert that need not make an order; None without an id, or where it has no value."""
        context = Context(alert=self._alert(fields, body), contract=_no_contract)
        return self._key(context, [])

    def evaluate(self, value: Value, account: str, fields: Mapping[str, Any], body: Body, *,
                 received_at: datetime) -> Any:
        """What one expression of this template comes to, to tell people why. Raises ExpressionError."""
        return value.evaluate(self._context(account, self._alert(fields, body), received_at))

    def _alert(self, fields: Mapping[str, Any], body: Body) -> Mapping[str, Any]:
        if not self._reads_raw:
            return fields
        raw = self._take_apart(body.text) if body.form == "text" else body.fields
        return {**fields, "raw": as_raw(raw)}

    @cached_property
    def _reads_raw(self) -> bool:
        values = [value for rule in self.rules
                  for value in (rule.when, rule.risk, *rule.values.values(), *rule.options.values(),
                                *(each for leg in rule.legs for each in leg.values.values()))]
        return any(value is not None and "raw" in value.reads
                   for value in (*values, *self.compared.values(), self.when, self.sent_at, self.id))

    def _context(self, account: str, alert: Mapping[str, Any], received_at: datetime) -> Context:
        return Context(alert=alert, contract=self._contracts(account, received_at))

    def _market(self, account: str, received_at: datetime, masters: Masters) -> Market:
        found = self.known_accounts[account]
        return masters.market(self.brokers[found.broker].master_url(found), received_at)

    def _contracts(self, account: str, received_at: datetime, use: AccountUse | None = None) -> _Contracts:
        found = self.known_accounts[account]
        form = cast(Form, self.brokers[found.broker].symbol_form())
        if use is None:
            use = next((rule.uses[account] for rule in self.rules if account in rule.uses), AccountUse(name=account))
        return _Contracts(received_at.date(), found, form, use)

    def _passes(self, when: Value | None, context: Context, path: Where, wrong: list[Wrong]) -> bool:
        if when is None:
            return True
        try:
            return bool(when.evaluate(context))
        except ValueError as error:
            wrong.append(Wrong(path, str(error), when.reads))
            return False

    def _render_one(self, rule: OrderRule, name: str, context: Context, contracts: Container[str],
                    wrong: list[Wrong]) -> RenderedOrder | None:
        account = self.known_accounts[name]
        try:
            made = render_order(rule, context, account, self.brokers[account.broker], contracts)
        except OrderFaults as faults:
            wrong += faults.wrong
            return None
        return RenderedOrder(index=rule.index, account=name, broker=account.broker, order=made.order,
                             max_age_ms=rule.max_age_ms, is_exit=made.order.is_exit, refused=made.refused)

    # -- guards ------------------------------------------------------------------------------------------------------

    def _guarded(self, made: RenderedOrder, context: Context, received_at: datetime, wrong: list[Wrong]) -> RenderedOrder:
        """The order with what its guards say of it, those of the template first."""
        account = self.known_accounts[made.account]
        refused, limits = [made.refused] if made.refused else [], list[Limit]()
        for key, whose, scope, guards in (("", "the template", f"template:{self.name}", self.guards),
                                          (account.name, f"account {account.name}", "account", account.guards)):
            if not guards:
                continue
            reference = self._reference(key, made.order, context, wrong)
            refused += refusals(made.order, guards, whose, now=received_at, futures=account.futures, reference=reference)
            limits += limits_of(made.order, guards, whose, scope, now=received_at)
        return replace(made, refused="; ".join(refused), limits=tuple(limits)) if refused or limits else made

    def _reference(self, key: str, order: Order, context: Context, wrong: list[Wrong]) -> Decimal | None:
        """The price that a guard compares an order's prices with; None where the alert has none, or it is not asked."""
        value = self.compared.get(key)
        if value is None or not has_prices(order):
            return None
        try:
            found = value.evaluate(context)
            return None if found is None else read_decimal(found)
        except ValueError as error:
            wrong.append(Wrong(("guards", "max_price_distance", "of"), str(error), value.reads))
            return None

    def _sent_at(self, context: Context, received_at: datetime, wrong: list[Wrong]) -> datetime:
        if self.sent_at is None:
            return received_at
        try:
            found = self.sent_at.evaluate(context)
            if found is None:
                return received_at
            sent_at = read_time(found)
            if sent_at - received_at > MAX_AHEAD:
                ahead = int((sent_at - received_at).total_seconds())
                raise ValueError(f"{plain_text(sent_at)} is {ahead} s ahead of this machine's clock; at most "
                                 f"{int(MAX_AHEAD.total_seconds())} s are taken for a clock's error")
        except ValueError as error:
            wrong.append(Wrong(("sent_at",), str(error), self.sent_at.reads))
            return received_at
        return sent_at

    def _key(self, context: Context, wrong: list[Wrong]) -> str | None:
        if self.id is None:
            return None
        try:
            found = self.id.evaluate(context)
            key = "" if found is None else plain_text(found).strip()
            if not key:
                raise ValueError("came out empty; an id tells alerts apart")
            if len(key) > _MAX_KEY:
                raise ValueError(f"has {len(key)} characters; at most {_MAX_KEY}")
        except ValueError as error:
            wrong.append(Wrong(("id",), str(error), self.id.reads))
            return None
        return key

    def message(self, form: str = "", *, pairs: bool = False) -> Message:
        """What to paste into TradingView's alert message. Raises InputError for pairs that cannot be."""
        return message_for(self.fields.declared.values(), self.pattern, form, pairs=pairs)


class _Contracts:
    """The `contract` filter for one account on one day. `given` are the contracts that it gave."""

    def __init__(self, today: date, account: Account, form: Form, use: AccountUse) -> None:
        self._today, self._account, self._form, self._symbols = today, account, form, use.symbols
        self.given: set[str] = set()

    def __call__(self, symbol: str) -> str:
        account = self._account
        if self._form == "none":  # a chart's own name, its exchange included, is what is looked up
            contract(symbol, today=self._today, form="none")
            return mapped(symbol.strip(), self._symbols, account.futures)
        found = contract(mapped(symbol, self._symbols, account.futures), today=self._today, roll=account.roll,
                         form=self._form, futures=account.futures)
        self.given.add(found)
        return found


def _no_contract(symbol: str) -> str:
    raise ExpressionError("the contract depends on the account, which is not known here")


def _alert_faults(wrong: Iterable[Wrong]) -> Iterable[Fault]:
    """Each fault once (accounts repeat them), with the alert's fields that it came from."""
    seen: dict[tuple[Where, str], None] = {}
    for each in wrong:
        origin = ", ".join(f"alert.{name}" for name in sorted(each.reads))
        seen[(each.path, f"{each.message} (from {origin})" if origin else each.message)] = None
    return [Fault(message=message, field=dotted(path)) for path, message in seen]
