"""What `bridge new` writes: a template for one account, kind of order and form of alert, with its own tests. Pure.

Sane before clever: limit entries where the alert has a price, market entries only for a strategy's fills and only where
the broker takes them; sizes capped; exits that rest until they are cancelled; a strategy's exit closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import cast

from bridge.broker import Broker
from bridge.contracts import Form, contract
from bridge.json_schema import editor_line
from bridge.order import KINDS
from bridge.work import Account

FORMS: Mapping[str, str] = MappingProxyType({
    "indicator": "the alerts of an indicator, a line or a price",
    "strategy": "the alerts of a strategy's order fills",
    "text": "alerts in plain words"})
EDITOR_SCHEMA = ".schema/template.json"
"""Where the schema lies, beside the templates."""

_DAY, _SENT, _NOW = date(2026, 11, 20), "2026-11-20T15:30:00Z", "2026-11-20T15:30:01Z"
_ABOUT: Mapping[str, str] = MappingProxyType({
    "plain": "one order", "cover": "an entry with its stop", "oco": "stop and target of a position that stands",
    "oso": "an entry with its exits", "cancel": "withdraws what rests", "close": "flattens the position"})
_PATTERNS: Mapping[str, str] = MappingProxyType({
    "entry": r"(?i)(?P<action>buy|sell) (?P<ticker>\S+) (?P<contracts>\d+) @ (?P<price>[\d.]+)",
    "oco": r"(?i)protect (?P<position>long|short) (?P<ticker>\S+) (?P<contracts>\d+) target (?P<target>[\d.]+) "
           r"stop (?P<stop>[\d.]+)",
    "cancel": r"(?i)cancel (?P<ticker>\S+)", "close": r"(?i)close (?P<ticker>\S+)"})
_ENTRIES = ("plain", "cover", "oso")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted: a name for the template, the account with its broker, the kind of order, the form of alert."""

    name: str
    account: Account
    broker: Broker
    kind: str
    form: str


def kinds_at(broker: Broker) -> list[str]:
    """The kinds that a broker can do."""
    return [kind for kind in KINDS if kind in broker.capabilities.kinds]


def forms_for(kind: str) -> list[str]:
    """The forms of alert that make sense for a kind: a strategy tells of its fills, not of what it withdraws."""
    return [form for form in FORMS if (kind, form) != ("cancel", "strategy")]


def compose(wish: Wish) -> str:
    """The template's text."""
    return _Composer(wish).text()


class _Composer:
    """Writes one template, part by part."""

    def __init__(self, wish: Wish) -> None:
        self.wish, self.kind, self.form = wish, wish.kind, wish.form
        self.starter = wish.broker.starter
        self.form_of_symbols = wish.broker.symbol_form()
        can = wish.broker.capabilities
        from_fill = wish.broker.counts_from_fill(wish.kind, wish.account)
        self.at_market = (wish.form == "strategy" and "market" in can.types and "market" not in can.doubtful_types
                          and (wish.kind == "plain" or from_fill or not self.starter.own_exits))
        self.has_gtc = "gtc" in can.times_in_force

    def text(self) -> str:
        """All of it."""
        parts = [self._head(), self._alert(), self._rules(), self._orders(), self._tests()]
        return "\n".join("\n".join(part) + "\n" for part in parts if part)

    # -- above the orders ------------------------------------------------------------------------------------------

    def _head(self) -> list[str]:
        name = self.wish.name
        return [editor_line(EDITOR_SCHEMA),
                f"# {_ABOUT[self.kind].capitalize()}, from {FORMS[self.form]} (kind {self.kind}).",
                "#",
                f"# `bridge message {name}` prints what to paste into TradingView; `bridge check` runs the tests below.",
                "",
                f"description: {_ABOUT[self.kind].capitalize()}, from {FORMS[self.form]}",
                f"account: {self.wish.account.name}"]

    def _alert(self) -> list[str]:
        lines = []
        if self.form == "text":
            pattern = _PATTERNS.get(self.kind, _PATTERNS["entry"])
            lines += [f"parse: '{pattern}'", ""]
        lines += ["alert:                               # the fields that are read of each alert"]
        fields = {"entry": self._entry_fields, "oco": self._oco_fields}.get(
            "entry" if self.kind in _ENTRIES else self.kind, dict)()
        if self.kind == "close" and self.form == "strategy":
            fields = self._position()
        return [*lines, *(f"  {name}: {form}" for name, form in {"ticker": "text", **fields, **self._tail()}.items())]

    def _entry_fields(self) -> dict[str, str]:
        if self.form == "indicator":
            return {"action": '{type: side, tradingview: "buy"}           # the sell alert\'s message says sell',
                    "price": '{type: number, tradingview: "{{close}}"}'}
        if self.form == "text":
            return {"action": "side", "contracts": "integer", "price": "number"}
        fields = {"action": '{type: side, tradingview: "{{strategy.order.action}}"}',
                  "contracts": '{type: integer, tradingview: "{{strategy.order.contracts}}"}', **self._position()}
        return fields if self.at_market else {**fields,
                                              "price": '{type: number, tradingview: "{{strategy.order.price}}"}'}

    def _position(self) -> dict[str, str]:
        return {"position": '{type: text, one_of: [long, short, flat], tradingview: "{{strategy.market_position}}"}'}

    def _oco_fields(self) -> dict[str, str]:
        prices = {"target": "{type: number, tradingview: '{{plot(\"Target\")}}'}    # a plot of the script, by its name",
                  "stop": "{type: number, tradingview: '{{plot(\"Stop\")}}'}"}
        if self.form == "indicator":
            return {"position": '{type: side, tradingview: "long"}        # the position that stands', **prices}
        if self.form == "text":
            return {"position": "side", "contracts": "integer", "target": "number", "stop": "number"}
        return {**self._position(), "contracts": '{type: integer, tradingview: "{{strategy.market_position_size}}"}',
                **prices}

    def _tail(self) -> dict[str, str]:
        time = {"time": '{type: time, tradingview: "{{timenow}}"}'}
        if self.form == "text":
            return {}
        return time if self.form == "indicator" else {
            "order_id": '{type: text, tradingview: "{{strategy.order.id}}"}', **time}

    def _rules(self) -> list[str]:
        lines = []
        if self.form == "strategy":
            action = " {{ alert.action }}" if self.kind in _ENTRIES else ""
            lines.append(f'id: "{{{{ alert.order_id }}}}{action} {{{{ alert.time }}}}"     # the same fill twice is one; two '
                         "fills are two")
        if self.form == "text":
            lines.append("dedupe_window: 30s                   # the same text again within it is the same alert")
        else:
            lines.append('sent_at: "{{ alert.time }}"')
        if self.kind in (*_ENTRIES, "oco"):
            lines.append("max_age: 60s                         # older when its turn comes: expired, never sent")
            lines.append(f"guards: {{max_quantity: {self._most()}}}         # a size that was never meant is refused")
        return lines

    def _most(self) -> int:
        return 10 if self.form_of_symbols != "none" else 1000

    # -- the orders --------------------------------------------------------------------------------------------------

    def _orders(self) -> list[str]:
        if self.form != "strategy" or self.kind == "close":
            when = ['when: alert.position == "flat"       # the fill that ends the position', ""] if (
                self.form == "strategy") else []
            return [*when, "order:", *(f"  {line}" for line in self._order(self.kind))]
        if self.kind == "oco":
            return ['when: alert.position != "flat"       # nothing stands, nothing to protect', "", "order:",
                    *(f"  {line}" for line in self._order("oco"))]
        entry = ['when: alert.position != "flat"     # an entry; on a reversal `contracts` is the old size plus the new',
                 *self._order(self.kind)]
        close = ['when: alert.position == "flat"     # the sell that ends a long closes, and does not open a short',
                 *self._order("close")]
        return ["orders:", *(f"  {'  ' if number else '- '}{line}" for order in (entry, close)
                             for number, line in enumerate(order))]

    def _order(self, kind: str) -> list[str]:
        lines = [f"kind: {kind}", f'symbol: "{{{{ alert.ticker{self._filter()} }}}}"']
        if kind in _ENTRIES:
            lines += ['side: "{{ alert.action }}"', self._quantity()]
            lines += ["type: market"] if self.at_market else [
                "type: limit", f'price: "{{{{ alert.price | tick({self.starter.tick}) }}}}"']
            lines += self._exits(kind)
        elif kind == "oco":
            lines += self._oco()
        options = self.starter.options.get(kind, self.starter.options.get("", {}))
        return lines + ([f"options: {{{', '.join(f'{name}: {value}' for name, value in options.items())}}}"] if options
                        else [])

    def _filter(self) -> str:
        return " | contract" if self.form_of_symbols != "none" else ""

    def _quantity(self) -> str:
        return "quantity: 1" if self.form == "indicator" else 'quantity: "{{ alert.contracts }}"'

    def _exits(self, kind: str) -> list[str]:
        if kind == "plain" or not self.starter.own_exits:
            return []
        # At market the exits travel with the entry and share its time in force.
        gtc = ["time_in_force: gtc               # the exits rest until they are cancelled, overnight too"]
        rest = ", time_in_force: gtc" if self.has_gtc and not self.at_market else ""
        stop, target = ("ticks: 20", "ticks: 40") if self.form_of_symbols != "none" else (
            self._percent("0.01"), self._percent("0.02"))
        lines = [*(gtc if self.has_gtc and self.at_market else []), f"stop_loss: {{{stop}{rest}}}"]
        return lines if kind == "cover" else [*lines, f"take_profit: {{{target}{rest}}}"]

    def _percent(self, part: str) -> str:
        return f'points: "{{{{ (alert.price * {part}) | tick({self.starter.tick}) }}}}"'

    def _oco(self) -> list[str]:
        side = 'side: "{{ alert.position | side | opposite }}"'
        rest = ["time_in_force: gtc"] if self.has_gtc else []
        return [side, self._quantity(), "type: limit", f'price: "{{{{ alert.target | tick({self.starter.tick}) }}}}"',
                *rest, "other:", f"  {side}", "  type: stop",
                f'  stop_price: "{{{{ alert.stop | tick({self.starter.tick}) }}}}"']

    # -- its own tests -----------------------------------------------------------------------------------------------

    def _tests(self) -> list[str]:
        lines = ["tests:                               # a template that fails its own tests does not load"]
        for name, given, expect in self._cases():
            lines += [f"  - name: {name}",
                      f"    {'body' if self.form == 'text' else 'alert'}: {given}", f'    now: "{_NOW}"',
                      f"    expect: {{{expect}}}"]
        return lines

    def _cases(self) -> list[tuple[str, str, str]]:
        symbol = self._symbol()
        if self.kind in ("cancel", "close"):
            values = {"position": "flat"} if self.form == "strategy" else {}
            return [(f"a {self.kind}", self._given(values), f"kind: {self.kind}, symbol: {symbol}")]
        if self.kind == "oco":
            sides = (("a long position is closed by selling", "long", "sell", "1.01", "0.99"),
                     ("a short position is closed by buying", "short", "buy", "0.99", "1.01"))
            return [(name, self._given({"position": held, "contracts": "1", "target": self._times(target),
                                        "stop": self._times(stop)}),
                     f"kind: oco, symbol: {symbol}, side: {side}, quantity: 1") for name, held, side, target, stop in sides]
        made = "type: market" if self.at_market else f"type: limit, price: {self.starter.price}"
        cases = [(f"a {side}", self._given({"action": side, "contracts": "1", "position": held,
                                            "price": self.starter.price}),
                  f"kind: {self.kind}, symbol: {symbol}, side: {side}, quantity: 1, {made}")
                 for side, held in (("buy", "long"), ("sell", "short"))]
        if self.form == "strategy":
            cases.append(("the sell that ends a long closes", self._given(
                {"action": "sell", "contracts": "1", "position": "flat", "price": self.starter.price}),
                f"kind: close, symbol: {symbol}"))
        return cases

    def _times(self, factor: str) -> str:
        """A price near the starter's, whole."""
        return str(int(Decimal(self.starter.price) * Decimal(factor)))

    def _given(self, values: Mapping[str, str]) -> str:
        """The alert of a test: the values that this form reads, or the text."""
        if self.form == "text":
            words = {"entry": "{action} {ticker} {contracts} @ {price}", "cancel": "cancel {ticker}",
                     "oco": "protect {position} {ticker} {contracts} target {target} stop {stop}",
                     "close": "close {ticker}"}["entry" if self.kind in _ENTRIES else self.kind]
            return f'"{words.format(ticker=self.starter.ticker, **values)}"'
        known = self._alert()
        read = [line.strip().partition(":")[0] for line in known[1:]]
        given = {"ticker": self.starter.ticker, **values, "order_id": "Long", "time": f'"{_SENT}"'}
        return "{" + ", ".join(f"{name}: {given[name]}" for name in read if name in given) + "}"

    def _symbol(self) -> str:
        if self.form_of_symbols == "none":
            return self.starter.ticker
        return contract(self.starter.ticker, today=_DAY, roll=self.wish.account.roll, form=cast(Form, self.form_of_symbols),
                        futures=self.wish.account.futures)
