"""Templates: what loads, what does not and why, and the orders that an alert makes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import Accounts, load_accounts
from bridge.alert import read_body
from bridge.brokers import BROKERS
from bridge.brokers.tradovate import Tradovate
from bridge.errors import AlertError, BodyError, FileFaults
from bridge.numbers import dump_json
from bridge.template import Rendered, Template, load_template, load_templates

BAD_INPUTS = Path(__file__).resolve().parents[1] / "../shared/data/bad-inputs.json"
CASES = json.loads(BAD_INPUTS.read_text()) if BAD_INPUTS.exists() else []
TEMPLATE_CASES = [case for case in CASES if case["area"] == "template_yaml"]
ALERT_CASES = [case for case in CASES if case["area"] in ("body", "alert_field") and "body" in case["given"]]
NOW = datetime(2026, 11, 20, 15, 30, 1, tzinfo=UTC)


class NoCounting(Tradovate):
    """A broker that counts nothing from the fill."""

    name: ClassVar[str] = "nocount"

    def counts_from_fill(self, kind: str, account: Any) -> bool:
        return False


ACCOUNTS = """
accounts:
  demo: {broker: tradovate, environment: sandbox, account: DEMO1, account_id: 1}
  demo2: {broker: tradovate, environment: sandbox, account: DEMO2, account_id: 2, roll: {days_before_expiry: 30}}
  nt8: {broker: crosstrade, environment: sandbox, account: Sim101}
  india: {broker: pocketful, environment: sandbox, client_id: AB1, options: {stop_loss_value: price}}
  plainly: {broker: nocount, environment: sandbox, account: X, account_id: 3}
  broken: {broker: tradovate, environment: prod, account: X, account_id: 3}
"""
BROKERS_AND_ONE = {**BROKERS, "nocount": NoCounting()}

HEAD = """
account: demo
alert: {ticker: text, action: side, contracts: integer, price: number, stop: {type: number, optional: true}, time: {type: time, optional: true}}
"""
LIMIT = """symbol: "{{ alert.ticker | contract }}", side: "{{ alert.action }}", quantity: "{{ alert.contracts }}", type: limit, \
price: "{{ alert.price }}\""""
MARKET = """symbol: "{{ alert.ticker | contract }}", side: "{{ alert.action }}", quantity: "{{ alert.contracts }}", type: market"""
ALERT = {"ticker": "ES1!", "action": "buy", "contracts": 2, "price": "5300.25"}


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    path = tmp_path_factory.mktemp("accounts") / "accounts.yaml"
    path.write_text(ACCOUNTS)
    return load_accounts(path, {}, brokers=BROKERS_AND_ONE)


class Desk:
    """Loads templates from text, and renders alerts with them."""

    def __init__(self, folder: Path, accounts: Accounts) -> None:
        self.folder, self.accounts = folder, accounts

    def load(self, text: str | bytes, **more: Any) -> Template:
        path = self.folder / "t.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_template(path, self.accounts, BROKERS_AND_ONE, **more)

    def order(self, fields: str, head: str = HEAD) -> Template:
        return self.load(f"{head}order: {{{fields}}}\n")

    def refusal(self, text: str | bytes, **more: Any) -> str:
        with pytest.raises(FileFaults) as refused:
            self.load(text, **more)
        for fault in refused.value.faults:
            assert fault.file.endswith("t.yaml") and fault.line >= 1 and fault.column >= 1
        return str(refused.value).replace(f"{self.folder}/", "")

    def refused_order(self, fields: str, head: str = HEAD) -> str:
        return self.refusal(f"{head}order: {{{fields}}}\n")


@pytest.fixture
def desk(tmp_path: Path, accounts: Accounts) -> Desk:
    return Desk(tmp_path, accounts)


def render(template: Template, now: datetime = NOW, **alert: Any) -> Rendered:
    body = read_body(dump_json({**ALERT, **alert}).encode())
    return template.render(template.read(body), body, received_at=now)


def only(template: Template, **alert: Any) -> dict[str, Any]:
    found = render(template, **alert)
    assert len(found.orders) == 1
    return found.orders[0].order.to_json()


def alert_refusal(template: Template, **alert: Any) -> str:
    with pytest.raises(AlertError) as refused:
        render(template, **alert)
    return str(refused.value)


# -- files that do not load --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TEMPLATE_CASES, reason="the bad inputs are not beside this checkout")
@pytest.mark.parametrize("case", TEMPLATE_CASES, ids=[case["id"] for case in TEMPLATE_CASES])
def test_a_bad_template_is_refused_as_marked(desk: Desk, case: dict[str, Any]) -> None:
    given = case["given"]
    text = base64.b64decode(given["base64"]) if "base64" in given else given["text"]

    said = desk.refusal(text.replace("tradovate-demo", "demo") if isinstance(text, str) else text)

    for wanted in case["expect"]["must_mention"]:
        assert wanted in said


@pytest.mark.skipif(not ALERT_CASES, reason="the bad inputs are not beside this checkout")
@pytest.mark.parametrize("case", ALERT_CASES, ids=[case["id"] for case in ALERT_CASES])
def test_a_bad_alert_is_refused_as_marked(desk: Desk, case: dict[str, Any]) -> None:
    template = desk.load((Path(__file__).resolve().parents[1] / "templates/es_breakout.yaml").read_text().replace(
        "tradovate-demo", "demo"))
    given, expect = case["given"]["body"], case["expect"]
    raw = base64.b64decode(given["base64"]) if isinstance(given, dict) else given.encode("utf-8", "surrogatepass")

    try:
        body = read_body(raw)
        template.render(template.read(body), body, received_at=NOW)
    except (BodyError, AlertError) as error:
        said = str(error)
        assert error.http_status in expect["status"]
        assert all(wanted in said for wanted in expect.get("must_mention", ()))
        assert not expect.get("mention_any") or any(wanted in said for wanted in expect["mention_any"])
    else:
        assert {200, 202} & set(expect["status"])


def test_all_faults_of_a_file_are_told_together_with_their_lines(desk: Desk) -> None:
    said = desk.refusal("""\
account: nobody
ordr: {}
alert:
  ticker: text
  price: nmber
max_age: 60
order:
  kind: plain
  symbol: "{{ alert.tickr }}"
  side: hold
  quantity: 0
  type: limit
  price: "{{ alert.price | tick(0) }}"
""")

    assert [line.split(": ")[0].split(":")[1] for line in said.splitlines()] == ["1", "2", "5", "6", "9", "13"]
    for words in ("nobody", "did you mean 'order'", "did you mean 'number'", "has no unit",
    "did you mean alert.ticker", "above zero"):
        assert words in said


def test_a_templates_name_becomes_part_of_a_url(desk: Desk) -> None:
    path = desk.folder / "no way.yaml"
    path.write_text("order: {}\n")
    with pytest.raises(FileFaults, match="no template's name"):
        load_template(path, desk.accounts, BROKERS_AND_ONE)


@pytest.mark.parametrize(("text", "words"), [
    ("max_quantity: 5\n", "max_quantity: max_quantity stands below `guards:`"),
    ("secret: hunter2hunter2hunter2\n", "secret"), ("dedupe_window: 30\n", "no unit"),
    ("max_age: 0s\n", "longer than nothing"), ("max_age: 999d\n", "longer than a year"),
    ("dry_run: perhaps\n", "true or false"), ("sent_at: \"2026-11-20T15:30:00Z\"\n", "the same for every alert"),
    ("id: x\n", "the same for every alert"), ("when: alert.prise > 5\n", "did you mean alert.price"),
    ("when: alert.price\n", "true or false"), ("orders: []\n", "not both"), ("tests: [{name: a}]\n", "expect"),
    ("tests: [{name: a, expect: {}}]\n", "either `alert`"), ("parse: 'BUY (?P<tickr>x)'\n", "did you mean 'ticker'"),
    ("parse: 'BUY (?P<ticker>x)'\n", "does not capture 'action'"), ("parse: '(?P<ticker>(?=x))'\n", "look-ahead"),
    ("description: 5\n", "expected a text")])
def test_a_wrong_part_of_a_template_is_refused(desk: Desk, text: str, words: str) -> None:
    assert words in desk.refusal(f"{HEAD}order: {{kind: plain, {LIMIT}}}\n{text}")


@pytest.mark.parametrize(("fields", "field", "words"), [
    ("kind: modify, ref: a", "order.kind", "modify comes in a later version"),
    ("kind: target, symbol: ESZ6", "order.kind", "later version"),
    ("kind: plian, symbol: ESZ6", "order.kind", "did you mean 'plain'"),
    ("kind: '{{ alert.action }}'", "order.kind", "one order for each kind"),
    (f"kind: plain, {LIMIT}, stop_loss: {{ticks: 5}}", "order.stop_loss", "use kind: oso"),
    (f"kind: plain, {LIMIT}, only_if: flat", "order.only_if", "later version"),
    (f"kind: oso, {LIMIT}, exits: []", "order.exits", "later"),
    ("kind: close, symbol: ESZ6, quantity: 1", "order.quantity", "partial close"),
    ("kind: close", "order.symbol", "is missing"), ("kind: cancel", "order.ref", "names what it withdraws"),
    ("kind: cancel, ref: a, legs: absolute", "order.legs", "expected true"),
    (f"kind: oso, {LIMIT}, stop_loss: {{ticks: 5}}, legs: true", "order.legs", "absolute"),
    (f"kind: oso, {LIMIT}", "order.stop_loss", "missing"),
    (f"kind: oso, {LIMIT}, stop_loss: {{}}", "order.stop_loss", "exactly one"),
    (f"kind: cover, {LIMIT}", "order.stop_loss", "compulsory"),
    (f"kind: oso, {LIMIT}, stop_loss: {{ticks: 5, price: 1}}", "order.stop_loss", "price and ticks"),
    (f"kind: oso, {LIMIT}, stop_loss: {{ticks: 5, type: limit}}", "order.stop_loss.type", "none of stop"),
    (f"kind: oso, {LIMIT}, stop_loss: {{percent: 100}}", "order.stop_loss.percent", "whole price"),
    (f"kind: oso, {LIMIT}, brackets: []", "order.brackets", "one leg or two"),
    (f"kind: oso, {LIMIT}, brackets: [{{price: 5}}]", "order.brackets.0.type", "missing"),
    (f"kind: oco, {LIMIT}", "order.other", "missing"),
    (f"kind: oco, {LIMIT}, other: {{type: limit, price: 5}}", "order.other.type", "one limit and one stop"),
    (f"kind: oco, {LIMIT}, other: {{type: market}}", "order.type", "market"),
    (f"kind: plain, {MARKET}, price: 5", "order.price", "has no price"),
    (f"kind: plain, {LIMIT}, time_in_force: gtd", "order.expire_time", "needs"),
    (f"kind: plain, {LIMIT}, expire_time: tomorrow, time_in_force: gtd", "order.expire_time", "no time"),
    (f"kind: plain, {LIMIT}, options: {{maxShow: 0}}", "order.options.maxShow", "above zero"),
    (f"kind: plain, {LIMIT}, options: {{a: {{b: 1}}}}", "order.options.a", "plain value"),
    (f"kind: plain, {LIMIT}, symbol: x", "", "twice"),
    ("kind: plain, symbol: ES1!, side: buy, quantity: 1, type: market", "order.symbol", "| contract"),
    ("kind: plain, symbol: ESZ6, side: buy, quantity: 1.5, type: market", "order.quantity", "whole number"),
    ("kind: cover, symbol: ESZ6, side: buy, quantity: 1, type: limit, price: 100, stop_loss: {price: 101}", "order.stop_loss", "below the entry"),
    ("kind: plain, symbol: ESZ6, side: buy, quantity: 1, type: limit, price: -5", "order.price", "above zero"),
    ("kind: oso, symbol: XYZ, side: buy, quantity: 1, type: limit, price: 5, stop_loss: {ticks: 5}", "order.symbol", "Tradovate contract")])
def test_a_wrong_order_is_refused_when_the_template_loads(desk: Desk, fields: str, field: str, words: str) -> None:
    said = desk.refused_order(fields)

    assert words in said
    assert f" {field}: " in said or not field


def test_a_negative_price_is_for_oil(desk: Desk) -> None:
    desk.order("kind: plain, symbol: CLF7, side: buy, quantity: 1, type: limit, price: -5")


@pytest.mark.parametrize(("account", "fields", "field", "words"), [
    ("nt8", f"kind: cover, {LIMIT}, stop_loss: {{ticks: 5}}", "order.kind", "crosstrade has no cover"),
    ("nt8", f"kind: plain, {LIMIT}, time_in_force: ioc", "order.time_in_force", "crosstrade has no ioc; it takes day, gtc"),
    ("nt8", f"kind: plain, {LIMIT}, options: {{prodct: x}}", "order.options.prodct", "crosstrade has no such option"),
    ("india", f"kind: oco, {LIMIT}, other: {{type: stop, stop_price: 5}}", "order.kind", "pocketful has no oco"),
    ("plainly", f"kind: oso, {MARKET}, stop_loss: {{ticks: 5}}", "order.stop_loss.ticks", "does not count the legs"),
    ("plainly", f"kind: oso, {MARKET}, stop_loss: {{price: 5}}, reference: '{{{{ alert.price }}}}'", "order.stop_loss", "use a limit entry"),
    ("demo", f"kind: oso, {MARKET}, stop_loss: {{price: '{{{{ alert.price }}}}'}}", "order.stop_loss", "give `reference`"),
    ("demo", f"kind: oso, {MARKET}, stop_loss: {{percent: 1}}", "order.stop_loss.percent", "of which price"),
    ("demo", f"kind: oso, {MARKET}, brackets: [{{type: stop, stop_price: 5}}]", "order.brackets.0", "legs: absolute"),
    ("broken", f"kind: plain, {LIMIT}", "account", "itself at fault"),
    ("[demo, demo]", f"kind: plain, {LIMIT}", "account.1", "twice"),
    ("[demo, {name: demo2, multiplier: 0}]", f"kind: plain, {LIMIT}", "account.1.multiplier", "above zero"),
    ("[demo, {name: demo2, times: 2}]", f"kind: plain, {LIMIT}", "account.1.times", "unknown"),
    ("[demo, {name: demo2, symbols: {NQ: MNX}}]", f"kind: plain, {LIMIT}", "account.1.symbols.NQ", "did you mean"),
    ("[demo, nt8]", f"kind: plain, {LIMIT}, time_in_force: fok", "order.time_in_force", "(account nt8)"),
    ("[]", f"kind: plain, {LIMIT}", "account", "no account")])
def test_what_an_accounts_broker_cannot_do_is_refused_saying_what_would_do(desk: Desk, account: str, fields: str, field: str,
                                                                           words: str) -> None:
    said = desk.refused_order(fields, HEAD.replace("account: demo", f"account: {account}"))

    assert words in said
    assert f" {field}: " in said


def test_a_template_needs_an_account_somewhere(desk: Desk) -> None:
    head = HEAD.replace("account: demo", "")

    assert "account: is missing" in desk.refused_order(f"kind: plain, {LIMIT}", head)
    assert desk.order(f"kind: plain, {LIMIT}, account: demo2", head).accounts == ("demo2",)


@given(st.text("abc:{}[]\"' \n-1|kindorepl", max_size=80))
def test_no_text_raises_anything_but_its_faults(tmp_path_factory: pytest.TempPathFactory, accounts: Accounts,
                                                text: str) -> None:
    desk = Desk(tmp_path_factory.getbasetemp(), accounts)
    try:
        desk.load(f"{HEAD}order: {{kind: plain, {LIMIT}}}\n{text}")
        desk.load(f"{HEAD}order:\n  kind: oso\n{text}")
    except FileFaults as error:
        assert error.faults


# -- a template's own tests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expect", "words"), [
    ("{quantity: 3}", "quantity is 2, expected 3"), ("{stop_loss: {ticks: 5}}", "stop_loss is not set"),
    ("skipped", "not skipped"), ("{symbol: ESZ6, price: 5300.30}", "price is 5300.25, expected 5300.3"),
    ("[{}, {}]", "makes one order, expected 2"), ("{error: price}", "is not refused"),
    ("{side: true}", "side is buy, expected true"), ("[]", "not skipped")])
def test_a_template_that_fails_its_own_tests_does_not_load(desk: Desk, expect: str, words: str) -> None:
    said = desk.refusal(f"""{HEAD}order: {{kind: plain, {LIMIT}}}
tests:
  - name: mine
    alert: {{ticker: ES1!, action: buy, contracts: 2, price: 5300.25}}
    now: "2026-11-20T15:30:01Z"
    expect: {expect}
""")

    assert "test 'mine': " in said
    assert words in said
    assert "t.yaml:9:" in said


@pytest.mark.parametrize(("alert", "expect"), [
    ("{ticker: ES1!, action: long, contracts: '2', price: '5300.25'}", "{side: buy, quantity: 2, price: '5300.250', symbol: ESZ6}"),
    ("{ticker: ES1!, action: buy, contracts: 2, price: 0}", "{error: above zero}"),
    ("{ticker: ES1!}", "{error: is missing}"),
    ("{ticker: ES1!, action: buy, contracts: 2, price: 5}", "[{account: demo}]"),
    ("{ticker: SKIP, action: buy, contracts: 2, price: 5}", "skipped"),
    ("{ticker: SKIP, action: buy, contracts: 2, price: 5}", "{skipped: true}"),
    ("{ticker: SKIP, action: buy, contracts: 2, price: 5}", "[]")])
def test_a_templates_own_tests_compare_what_they_name(desk: Desk, alert: str, expect: str) -> None:
    desk.load(f"""{HEAD}order: {{kind: plain, {LIMIT}}}
when: alert.ticker != "SKIP"
tests: [{{name: mine, alert: {alert}, now: "2026-11-20T15:30:01Z", expect: {expect}}}]
""")


def test_a_test_without_now_happens_when_its_alert_was_sent(desk: Desk) -> None:
    desk.load(f"""{HEAD}order: {{kind: plain, {LIMIT}}}
sent_at: "{{{{ alert.time }}}}"
tests: [{{name: a, alert: {{ticker: ES1!, action: buy, contracts: 2, price: 5, time: "2030-01-05T15:30:00Z"}}, expect: {{symbol: ESH0}}}}]
""")


# -- orders ------------------------------------------------------------------------------------------------------------


def test_the_designs_template_makes_the_designs_order(desk: Desk) -> None:
    template = desk.load("""
description: ES breakout with stop and target
account: demo
alert: {ticker: text, action: side, contracts: integer, price: number, time: {type: time, tradingview: "{{timenow}}"}}
when: 'alert.action in ("buy", "sell")'
sent_at: "{{ alert.time }}"
max_age: 60s
order:
  kind: oso
  symbol: "{{ alert.ticker | contract }}"
  side: "{{ alert.action }}"
  quantity: "{{ alert.contracts }}"
  type: limit
  price: "{{ alert.price | tick(0.25) }}"
  time_in_force: day
  stop_loss:   {ticks: 20}
  take_profit: {points: 10}
tests:
  - name: long
    alert: {ticker: ES1!, action: buy, contracts: 2, price: "5300.30", time: "2026-11-20T15:30:00Z"}
    now: "2026-11-20T15:30:01Z"
    expect: {kind: oso, symbol: ESZ6, side: buy, quantity: 2, price: 5300.25}
""")

    found = render(template, price="5300.30", time="2026-11-20T15:30:00Z")

    assert (found.skipped, found.sent_at, found.key) == (None, datetime(2026, 11, 20, 15, 30, tzinfo=UTC), None)
    (order,) = found.orders
    assert (order.index, order.account, order.broker, order.max_age_ms, order.is_exit) == (0, "demo",
    "tradovate", 60_000, False)
    assert order.order.to_json() == {
        "kind": "oso", "symbol": "ESZ6", "side": "buy", "quantity": 2, "type": "limit", "price": Decimal("5300.25"),
        "time_in_force": "day",
        "stop_loss": {"role": "stop_loss", "side": "sell", "type": "stop", "stop_price": Decimal("5295.25"),
                      "time_in_force": "day"},
        "take_profit": {"role": "take_profit", "side": "sell", "type": "limit", "price": Decimal("5310.25"),
                        "time_in_force": "day"}}


@given(st.decimals("0.01", "99999.99", places=2))
def test_a_price_in_is_the_price_out_to_the_last_digit(tmp_path_factory: pytest.TempPathFactory, accounts: Accounts,
                                                       price: Decimal) -> None:
    template = Desk(tmp_path_factory.getbasetemp(), accounts).order(f"kind: plain, {LIMIT}")

    assert only(template, price=str(price))["price"] == price
    assert dump_json(only(template, price=price)["price"]) == dump_json(price)


def test_the_contract_depends_on_the_accounts_broker_and_roll_rule(desk: Desk) -> None:
    template = desk.order(f"kind: plain, {LIMIT}", HEAD.replace("account: demo", "account: [demo, demo2, nt8]"))

    found = render(template, now=datetime(2026, 11, 25, 12, tzinfo=UTC))

    assert [(each.account, each.order.symbol) for each in found.orders] == [
        ("demo", "ESZ6"), ("demo2", "ESH7"), ("nt8", "ES 12-26")]


def test_each_order_of_a_list_has_its_own_condition_age_and_account(desk: Desk) -> None:
    template = desk.load(f"""{HEAD}
orders:
  - {{kind: plain, {LIMIT}, when: alert.action == "buy", max_age: 20s}}
  - {{kind: close, symbol: "{{{{ alert.ticker | contract }}}}", when: alert.action == "sell", account: [demo, nt8]}}
  - {{kind: cancel, ref: mine, when: alert.action == "sell", account: demo2}}
""")

    buy, sell = render(template), render(template, action="sell")

    assert template.accounts == ("demo", "nt8", "demo2")
    assert [(each.index, each.account, each.max_age_ms) for each in buy.orders] == [(0, "demo", 20_000)]
    assert [(each.index, each.account, each.max_age_ms, each.is_exit) for each in sell.orders] == [
        (1, "demo", 900_000, True), (1, "nt8", 900_000, True), (2, "demo2", 900_000, True)]


def test_an_alert_that_no_condition_lets_through_is_skipped_with_the_reason(desk: Desk) -> None:
    top = desk.load(f"{HEAD}when: alert.price > 6000\norder: {{kind: plain, {LIMIT}}}\n")
    below = desk.load(f"{HEAD}orders: [{{kind: plain, {LIMIT}, when: alert.price > 6000}}]\n")

    assert render(top).skipped == "`when` is false: alert.price > 6000"
    assert render(below).skipped == "no order's `when` is true"
    assert render(top).orders == ()


def test_a_condition_that_cannot_be_answered_refuses_the_alert(desk: Desk) -> None:
    template = desk.load(f"{HEAD}when: alert.stop > 5\norder: {{kind: plain, {LIMIT}}}\n")

    assert "when: orders a number and none" in alert_refusal(template)


def test_every_fault_of_an_order_names_the_alerts_fields_it_came_from(desk: Desk) -> None:
    template = desk.order(f"kind: plain, {LIMIT}")

    said = alert_refusal(template, price=0, contracts=-1, ticker="AAPL")

    assert "order.symbol: 'AAPL' is no futures contract" in said
    assert "(from alert.ticker)" in said
    said = alert_refusal(template, price=0, contracts=-1)
    assert "order.price: 0 must be above zero (from alert.price)" in said
    assert "order.quantity: -1 must be above zero (from alert.contracts)" in said


def test_a_rule_between_two_prices_is_checked_with_the_alert(desk: Desk) -> None:
    template = desk.order(f"kind: cover, {LIMIT}, stop_loss: {{price: '{{{{ alert.stop }}}}'}}")

    assert only(template, stop="5290")["stop_loss"]["stop_price"] == 5290
    assert "must be below the entry's 5300.25" in alert_refusal(template, stop="5310")
    assert "(from alert.price, alert.stop)" in alert_refusal(template, stop="5310")
    assert only(template, stop="5310", action="sell")["stop_loss"]["side"] == "buy"
    assert "compulsory" in alert_refusal(template)


def test_a_leg_whose_field_is_absent_is_left_out(desk: Desk) -> None:
    template = desk.order(f"kind: oso, {LIMIT}, stop_loss: {{price: '{{{{ alert.stop | tick(0.25) }}}}'}}, take_profit: {{points: 5}}")

    assert "stop_loss" not in only(template)
    assert only(template, stop="5290.1")["stop_loss"]["stop_price"] == 5290
    without = desk.order(f"kind: oso, {LIMIT}, stop_loss: {{price: '{{{{ alert.stop }}}}'}}")
    assert "stop_loss: is missing" in alert_refusal(without)


def test_a_market_entry_counts_its_legs_from_the_fill_or_by_name_from_the_reference(desk: Desk) -> None:
    fill = desk.order(f"kind: oso, {MARKET}, stop_loss: {{ticks: 24}}, take_profit: {{points: 12}}")
    near = desk.order(f"kind: oso, {MARKET}, stop_loss: {{price: '{{{{ alert.stop }}}}'}}, reference: '{{{{ alert.price }}}}'")
    named = desk.order(f"kind: oso, {MARKET}, stop_loss: {{points: 5}}, reference: '{{{{ alert.price }}}}', legs: absolute",
                       HEAD.replace("account: demo", "account: plainly"))

    assert only(fill)["stop_loss"] == {"role": "stop_loss", "side": "sell", "type": "stop",
    "offset": 6, "time_in_force": "day"}
    assert only(near, stop="5290.25")["stop_loss"]["offset"] == 10
    assert "must be below the reference" in alert_refusal(near, stop="5310.25")
    assert only(named)["stop_loss"]["stop_price"] == Decimal("5295.25")


def test_a_reference_that_is_absent_refuses_rather_than_leave_the_position_naked(desk: Desk) -> None:
    template = desk.order(f"kind: oso, {MARKET}, stop_loss: {{price: 5200}}, reference: '{{{{ alert.stop }}}}'")

    assert only(template, stop="5300")["stop_loss"]["offset"] == 100
    assert "leave the position naked" in alert_refusal(template)


def test_a_type_that_comes_with_the_alert_is_held_to_its_rules_then(desk: Desk) -> None:
    head = HEAD.replace("action: side", "action: side, kind: text")
    template = desk.order(LIMIT.replace("type: limit", "type: '{{ alert.kind }}'") + ", kind: plain", head)

    assert only(template, kind="limit")["type"] == "limit"
    assert "a market order has no price" in alert_refusal(template, kind="market")
    assert "none of market, limit" in alert_refusal(template, kind="limt")


def test_a_covers_trail_goes_onto_its_stop(desk: Desk) -> None:
    order = only(desk.order(f"kind: cover, {LIMIT}, stop_loss: {{points: 5}}, trail: 3"))

    assert "trail" not in order
    assert (order["stop_loss"]["type"], order["stop_loss"]["trail"]) == ("trailing_stop", 3)


def test_an_oco_shares_its_side_with_the_other_half_unless_it_says_so(desk: Desk) -> None:
    same = only(desk.order(f"kind: oco, {LIMIT}, other: {{type: stop, stop_price: 5310}}"))
    head = HEAD.replace("action: side", "action: side, high: number, low: number")
    straddle = only(desk.order(
        "kind: oco, symbol: ESZ6, side: buy, quantity: 1, type: stop, stop_price: '{{ alert.high }}', time_in_force: gtc, "
        "other: {side: sell, type: stop, stop_price: '{{ alert.low }}'}", head), high=5310, low=5290)

    assert same["other"]["side"] == "buy"
    assert (straddle["other"]["side"], straddle["other"]["time_in_force"]) == ("sell", "gtc")


def test_a_legs_time_in_force_rests_where_the_entrys_does_not(desk: Desk) -> None:
    order = only(desk.order(f"kind: oso, {LIMIT}, time_in_force: ioc, stop_loss: {{points: 5}}"))

    assert (order["time_in_force"], order["stop_loss"]["time_in_force"]) == ("ioc", "gtc")


def test_brackets_are_legs_with_all_their_fields(desk: Desk) -> None:
    order = only(desk.order(f"kind: oso, {LIMIT}, brackets: [{{type: stop, stop_price: 5290}}, {{type: limit, price: 5310}}]"))

    assert [(leg["role"], leg["side"], leg["type"]) for leg in order["brackets"]] == [
        ("bracket1", "sell", "stop"), ("bracket2", "sell", "limit")]


def test_options_are_read_by_the_brokers_schema(desk: Desk) -> None:
    head = HEAD.replace("action: side", "action: side, show: {type: integer, optional: true}")
    template = desk.order(f"kind: plain, {LIMIT}, options: {{text: hello, maxShow: '{{{{ alert.show }}}}'}}", head)

    assert only(template, show="1")["options"] == {"text": "hello", "maxShow": 1}
    assert only(template)["options"] == {"text": "hello"}
    assert "order.options.maxShow" in alert_refusal(template, show=0)
    assert "(from alert.show)" in alert_refusal(template, show=0)


def test_a_good_till_date_order_ends_at_its_moment(desk: Desk) -> None:
    template = desk.order(f"kind: plain, {LIMIT}, time_in_force: gtd, expire_time: '{{{{ alert.time }}}}'")

    assert only(template, time="2026-12-01T10:00:00+05:30")["expire_time"] == "2026-12-01T04:30:00Z"
    assert "expire_time: is missing" in alert_refusal(template)


VALUES = st.none() | st.booleans() | st.text(max_size=12) | st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    ["ES1!", "buy", "sell", "2", "5300.25", "0", "-1", "1e99", "{{close}}", "2026-11-20T15:30:00Z"])


@given(st.dictionaries(st.sampled_from(["ticker", "action", "contracts", "price", "stop", "time"]), VALUES))
def test_no_alert_raises_anything_but_its_own_error(tmp_path_factory: pytest.TempPathFactory, accounts: Accounts,
                                                    alert: dict[str, Any]) -> None:
    template = Desk(tmp_path_factory.getbasetemp(), accounts).load(f"""{HEAD}
sent_at: "{{{{ alert.time }}}}"
id: "{{{{ alert.ticker }}}}{{{{ alert.raw.price }}}}"
orders:
  - {{kind: oso, {LIMIT}, stop_loss: {{price: "{{{{ alert.stop }}}}"}}, take_profit: {{percent: 1}}}}
  - {{kind: oso, {MARKET}, stop_loss: {{price: "{{{{ alert.stop }}}}"}}, reference: "{{{{ alert.price }}}}"}}
""")

    try:
        render(template, **alert)
    except (AlertError, BodyError) as error:
        assert error.faults


# -- when it was sent, and what tells alerts apart ---------------------------------------------------------------------


def test_an_alert_from_the_future_is_refused_and_its_field_named(desk: Desk) -> None:
    template = desk.load(f"{HEAD}sent_at: '{{{{ alert.time }}}}'\norder: {{kind: plain, {LIMIT}}}\n")

    assert render(template, time="2026-11-20T15:31:00Z").sent_at == NOW + timedelta(seconds=59)
    assert render(template).sent_at == NOW
    said = alert_refusal(template, time="2026-11-20T15:31:02Z")
    assert said.startswith("sent_at: 2026-11-20T15:31:02Z is 61 s ahead")
    assert "alert.time" in said
    assert "alert.time" in alert_refusal(template, time="9999-12-31T23:59:59Z")


def test_an_id_tells_alerts_apart_and_keeps_its_window_a_day(desk: Desk) -> None:
    template = desk.load(f"{HEAD}id: '{{{{ alert.ticker }}}}-{{{{ alert.contracts }}}}'\norder: {{kind: plain, {LIMIT}}}\n")
    empty = desk.load(f"{HEAD}id: '{{{{ alert.stop }}}}'\norder: {{kind: plain, {LIMIT}}}\n")

    assert render(template).key == "ES1!-2"
    body = read_body(b'{"ticker": "ES1!", "action": "buy", "contracts": 3, "price": 0}')
    assert template.key_of(template.read(body), body) == "ES1!-3"
    assert empty.key_of(empty.read(body), body) is None
    assert template.dedupe_window_ms == 86_400_000
    assert "id: came out empty" in alert_refusal(empty)
    assert desk.order(f"kind: plain, {LIMIT}").dedupe_window_ms == 30_000


def test_a_window_shorter_than_the_resends_is_warned_of(desk: Desk) -> None:
    short = desk.load(f"{HEAD}dedupe_window: 10s\norder: {{kind: plain, {LIMIT}}}\n")
    none = desk.load(f"{HEAD}dedupe_window: 0s\norder: {{kind: plain, {LIMIT}}}\n")

    assert "25s" in str(short.warnings[0])
    assert none.dedupe_window_ms == 0
    assert "short-dedupe-window" not in {warning.name for warning in none.warnings}


def test_a_templates_own_secret_comes_from_the_environment(desk: Desk) -> None:
    text = f"{HEAD}secret: ${{MINE}}\norder: {{kind: plain, {LIMIT}}}\n"

    assert desk.load(text, environ={"MINE": "0123456789abcdef"}).secret == "0123456789abcdef"
    assert "MINE is not set" in desk.refusal(text)
    assert "shorter than 16" in desk.refusal(text, environ={"MINE": "leak-me"})
    assert "leak-me" not in desk.refusal(text, environ={"MINE": "leak-me"})
    assert desk.load(text, lenient=True).secret is None


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_text_is_taken_apart_by_parse_and_without_it_refused(desk: Desk) -> None:
    text = rf"{HEAD}parse: '(?P<action>BUY|SELL) (?P<contracts>\d+) (?P<ticker>\S+) @ (?P<price>[\d.]+)'" + (
        f"\norder: {{kind: plain, {LIMIT}, ref: '{{{{ alert.raw.action }}}}'}}\n")
    template = desk.load(text)
    body = read_body(b" BUY 2 ES1! @ 5300.25 SL:5290\n")

    (order,) = template.render(template.read(body), body, received_at=NOW).orders

    assert (order.order.side, order.order.quantity, order.order.price, order.order.ref) == ("buy", 2, Decimal("5300.25"), "BUY")
    assert only(template, action="sell")["ref"] == "sell"
    with pytest.raises(BodyError, match="does not fit"):
        template.read(read_body(b"hello"))
    with pytest.raises(BodyError, match="no `parse:`"):
        desk.order(f"kind: plain, {LIMIT}").read(body)


def test_raw_is_the_whole_body_as_it_came(desk: Desk) -> None:
    template = desk.order(f"kind: plain, {LIMIT}, ref: '{{{{ alert.raw.price }}}} {{{{ alert.raw.strategy.id }}}}'")
    body = read_body(b'{"ticker": "ES1!", "action": "buy", "contracts": 2, "price": 5300.250, "strategy": {"id": "L"}}')

    assert template.render(template.read(body), body, received_at=NOW).orders[0].order.ref == "5300.250 L"


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_broken_template_stops_no_other(desk: Desk) -> None:
    good = f"{HEAD}order: {{kind: plain, {LIMIT}}}\n"
    for name, text in (("good.yaml", good), ("bad.yaml", "order: {}\n"), ("twice.yaml", good), ("twice.yml", good),
                       (".hidden.yaml", "x"), ("notes.txt", "x"), ("other.yml", good)):
        (desk.folder / name).write_text(text)

    found = load_templates(desk.folder, desk.accounts, BROKERS_AND_ONE)

    assert set(found.loaded) == {"good", "other"}
    assert set(found.faults) == {"bad", "twice"}
    assert "two templates" in str(found.faults["twice"][0])


def test_a_folder_that_is_not_there_is_a_fault(desk: Desk) -> None:
    found = load_templates(desk.folder / "none", desk.accounts, BROKERS_AND_ONE)

    assert "no such folder" in str(found.faults["none"][0])
