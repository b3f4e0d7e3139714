"""The templates and accounts that are shipped: they load without credentials, teach by their own tests, and cover what
each broker does itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.accounts import Accounts, load_accounts
from bridge.brokers import BROKERS
from bridge.template import Template, load_template, load_templates

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def accounts() -> Accounts:
    return load_accounts(ROOT / "accounts.yaml", {})


def loaded(name: str) -> Template:
    return load_template(FOLDER / f"{name}.yaml", accounts())


def written(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found


def test_a_fresh_clone_loads_without_any_credentials() -> None:
    found = accounts()

    assert found.faults == ()
    assert load_templates(FOLDER, found).faults == {}


def test_the_shipped_accounts_reach_no_real_broker() -> None:
    for account in accounts().accounts.values():
        assert account.rest_url == "http://127.0.0.1:8082"
        assert not account.real_money


def test_the_shipped_accounts_work_against_the_brokers_with_what_their_comments_say(tmp_path: Path) -> None:
    text = (ROOT / "accounts.yaml").read_text()
    for old, new in (("environment: sandbox               # → demo", "environment: demo  #"),
                     ("    environment: sandbox               # → delete this line; CrossTrade", "    #"),
                     ("    environment: sandbox               # → delete this line: Pocketful", "    #"),
                     ("client_id: SANDBOX1                #", "client_id: \"${POCKETFUL_CLIENT_ID}\"  #"),
                     ("# credentials:", "credentials:"), ("    #   ", "      ")):
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "accounts.yaml").write_text(text)
    names = re.findall(r"\$\{(\w+)\}", text)
    environ = dict.fromkeys(names, "x" * 8)

    found = load_accounts(tmp_path / "accounts.yaml", environ)

    assert found.faults == ()
    assert {name: (each.rest_url, each.real_money) for name, each in found.accounts.items()} == {
        "tradovate-demo": ("https://demo.tradovateapi.com", False),
        "nt8-sim": ("https://app.crosstrade.io", False),
        "pocketful": ("https://trade.pocketful.in", True)}


def test_every_kind_that_a_broker_does_itself_or_in_steps_has_a_shipped_template() -> None:
    shown = {(BROKERS[account.broker].name, order["kind"])
             for name in NAMES for order in orders_of(name)
             for account in [accounts().accounts[order.get("account", written(name)["account"])]]}

    assert shown == {(broker.name, kind) for broker in BROKERS.values() for kind in broker.capabilities.kinds}


def orders_of(name: str) -> list[dict[str, Any]]:
    found = written(name)
    orders: list[dict[str, Any]] = found.get("orders") or [found["order"]]
    return orders


def test_a_text_alert_and_a_key_value_alert_are_shown() -> None:
    bodies = {name: [test["body"] for test in written(name)["tests"] if "body" in test] for name in NAMES}

    assert any("parse" in written(name) for name in NAMES)
    assert any("=" in body and ";" in body for found in bodies.values() for body in found)


@pytest.mark.parametrize("name", NAMES)
def test_its_own_tests_have_a_buy_a_sell_and_an_alert_that_makes_no_order(name: str) -> None:
    tests = written(name)["tests"]
    sides = {side for test in tests for side in sides_in(test["expect"])}

    assert {"buy", "sell"} <= sides
    assert any(set(each) & {"skipped", "error"} for test in tests for each in expected_of(test))
    assert all("now" in test for test in tests), "a test without `now` would come out differently with every roll"


def expected_of(test: dict[str, Any]) -> list[dict[str, Any]]:
    """What a test expects of each order: one of them, or a list."""
    found = test["expect"]
    return found if isinstance(found, list) else [found]


def sides_in(expected: Any) -> set[str]:
    if isinstance(expected, list):
        return {side for each in expected for side in sides_in(each)}
    if isinstance(expected, dict):
        return {value for name, value in expected.items() if name == "side"} | {
            side for value in expected.values() for side in sides_in(value)}
    return set()


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_the_template_is_tested_by_it(name: str) -> None:
    tested = {each["kind"] for test in written(name)["tests"] for each in expected_of(test) if "kind" in each}

    assert {order["kind"] for order in orders_of(name)} == tested


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_for_and_warns_of_nothing(name: str) -> None:
    template = loaded(name)

    assert template.description
    assert template.warnings == ()
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_what_to_paste_into_tradingview_reads_the_fields_that_it_needs(name: str) -> None:
    template = loaded(name)
    message = template.message().text

    for field in template.fields.declared.values():
        assert field.optional or template.pattern or f'"{field.path[0]}"' in message


def test_the_breakout_is_the_one_of_the_documents() -> None:
    order = written("es_breakout")["order"]

    assert order["kind"] == "oso" and order["stop_loss"] == {"ticks": 20} and order["take_profit"] == {"points": 10}
