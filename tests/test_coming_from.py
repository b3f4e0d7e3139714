"""Messages of other tools, as their users send them: taken unchanged by the shipped templates, or refused with a reason."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.accounts import load_accounts
from bridge.alert import read_body
from bridge.errors import InputError
from bridge.intake import decide
from bridge.template import Template, load_template

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / ".." / "shared" / "data" / "alert-corpus.json"
NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
NAMES = ("traderspost", "crosstrade", "pickmytrade", "3commas", "openalgo")


@cache
def template(name: str) -> Template:
    return load_template(ROOT / "templates" / f"from_{name}.yaml", load_accounts(ROOT / "accounts.yaml", {}))


def taken(name: str, body: str, now: datetime = NOW) -> list[tuple[Any, ...]] | str:
    """(kind, symbol, side, quantity) of each order that a message makes; or why it is refused."""
    used = template(name)
    try:
        read = read_body(body.encode())
        found = used.render(used.read(read), read, received_at=now)
    except InputError as error:
        return str(error)
    return [(each.order.kind, each.order.symbol, each.order.side, each.order.quantity) for each in found.orders]


CAPTURED = [
    ("traderspost", "tp-minimal", "'AMD' is no futures contract"),
    ("traderspost", "tp-bracket-percent", "'AMD' is no futures contract"),
    ("traderspost", "tp-stop-limit", "'AAPL' is no futures contract"),
    ("traderspost", "tp-occ-option", "futures contract"),
    ("traderspost", "tp-pine-tags-epoch-ms", [("close", "NQZ6", None, None), ("plain", "NQZ6", "buy", 1)]),
    ("traderspost", "ntr-custom", [("close", "MESZ6", None, None), ("plain", "MESZ6", "buy", 1)]),
    ("3commas", "3c-strategy", "the exchange BINANCE"),
    ("3commas", "3c-custom-signal", "the exchange BINANCE"),
    ("3commas", "3c-dca-start", "a message of a DCA bot"),
    ("3commas", "3c-dca-close", "a message of a DCA bot"),
    ("pickmytrade", "pmt-rithmic-close", "is over"),
    ("crosstrade", "ct-place-market", "is over"),
    ("crosstrade", "ct-stop-loss-limit", "must wait for its fill"),
    ("crosstrade", "ct-cancelorders", [("cancel", "ES 12-26", None, None)]),
    ("crosstrade", "ct-multi-account", "this template trades at one account"),
    ("crosstrade", "ct-relay-no-key", "does not read the position"),
    ("crosstrade", "ct-require-position", [("plain", "NQ 12-26", "sell", 1)]),
    ("crosstrade", "ct-alert-message", [("close", "MNQ 12-26", None, None), ("plain", "MNQ 12-26", "buy", 1)]),
    ("crosstrade", "ct-alert-message-empty", "command: is missing"),
    ("crosstrade", "ct-crlf", [("plain", "ES 12-26", "buy", 1)]),
    ("crosstrade", "ct-duplicate-key", "'qty' stands twice"),
    ("openalgo", "oa-option", [("plain", "NIFTY25JAN21500CE", "sell", 50)]),
    ("openalgo", "oa-strategy-webhook", "'start' is no side"),
    ("openalgo", "oa-strategy-zero", [("close", "RELIANCE", None, None)]),
    ("openalgo", "amibroker-order", [("close", "YESBANK", None, None), ("plain", "YESBANK", "buy", 1)])]


@pytest.mark.skipif(not CORPUS.exists(), reason="the captured alerts lie beside the repository")
@pytest.mark.parametrize(("name", "entry", "expected"), CAPTURED, ids=[entry for _, entry, _ in CAPTURED])
def test_a_captured_message_makes_these_orders_or_is_refused_with_this_reason(name: str, entry: str,
                                                                             expected: Any) -> None:
    body = next(each["body"] for each in json.loads(CORPUS.read_text()) if each["id"] == entry)

    found = taken(name, body, datetime(2026, 11, 20, 20, 0, tzinfo=UTC))

    if isinstance(expected, str):
        assert isinstance(found, str), found
        assert expected in found
    else:
        assert found == expected


# Fields that change what a message means and cannot be carried out: each must refuse, none may be ignored.
MEANT = [
    ("traderspost", '{"ticker": "MES1!", "action": "buy"%s}', [
        '"quantityType": "percent_of_equity"', '"quantityType": "risk_dollar_amount"', '"orderType": "on_close"',
        '"timeInForce": "opg"', '"limitPrice": 5300', '"stopPrice": 5300', '"trailAmount": 5', '"trailPercent": 1',
        '"takeProfit": 5320', '"takeProfit": {}', '"takeProfit": {"price": 5320}', '"stopLoss": {"trailPercent": 1}',
        '"stopLoss": {"type": "stop", "trailAmount": 5}', '"stopLoss": {"percent": 1}', '"stopLoss": [5290]',
        '"sentiment": "short"', '"sentiment": "sideways"', '"cancel": false', '"optionType": "call"', '"strikePrice": 68',
        '"expiration": "+6 months"', '"quantity": "{{strategy.order.contracts}}"', '"quantity": 0', '"quantity": 1.5',
        '"quantity": 11']),
    ("crosstrade", "command=PLACE;instrument=ES 12-26;action=BUY;qty=1;order_type=MARKET;%s", [
        "account=Sim102", "limit_price=5300", "stop_price=5300", "tif=GTD", "take_profit=1.5%", "stop_loss=20 ticks",
        "stop_loss=5290;stop_loss_limit=5289", "stop_loss_stop=5290", "strategy=atm;take_profit=5320",
        "strategy=atm;append_atm=true", "oco_id=x", "cancel_after=5", "delay=3", "rate_limit=1/60", "strategy_tag=x",
        "sync_strategy=true", "require_market_position=sideways", "destination=tradovate", "percent=0.5", "quantity=1",
        "atm_targets=10", "unheard_of=1"]),
    ("pickmytrade", '{"symbol": "MES1!", "data": "buy", "quantity": 1, "price": 5300%s}', [
        '"risk_percentage": 1', '"order_type": "MOC"', '"order_type": "STP LMT"', '"trail": 1', '"trail_stop": 5',
        '"breakeven": 10', '"update_sl": true', '"update_tp": "true"', '"advance_tp_sl": [{"tp": 1}]', '"gtd_in_second": 60',
        '"same_direction_ignore": true', '"pyramid": true, "reverse_order_close": true', '"account_id": "OTHER"',
        '"multiple_accounts": [{"account_id": "DEMO123456", "quantity_multiplier": 2}]',
        '"multiple_accounts": [{"account_id": "DEMO123456", "risk_percentage": 2}]',
        '"multiple_accounts": [{"account_id": "OTHER"}]', '"multiple_accounts": [{}, {"account_id": "DEMO123456"}]',
        '"multiple_accounts": [{"unheard_of": 1}]', '"multiple_accounts": "DEMO123456"', '"sl": 5310',
        '"sl": 5290, "percentage_sl": 1', '"tp": 5320, "dollar_tp": 20', '"unheard_of": 1']),
    ("3commas", '{"tv_instrument": "MES1!", "action": "enter_long"%s}', [
        '"order": {"amount": "5", "currency_type": "quote"}', '"order": {"amount": "5", "currency_type": "margin_percent"}',
        '"order": {"amount": "5", "currency_type": "position_percent"}', '"order": {"amount": "0.022"}',
        '"order": {"amount": "1", "order_type": "limit"}', '"order": {"amount": "1", "price": "5300"}',
        '"order": {"amount": "1", "leverage": "5"}', '"order": 5', '"max_lag": "10"', '"bot_id": 5',
        '"positions_sub_action": "market_close"', '"tv_exchange": "CME_MINI_DL"']),
    ("openalgo", '{"symbol": "SBIN", "action": "BUY", "quantity": "1"%s}', [
        '"exchange": "CRYPTO"', '"pricetype": "AMO"', '"pricetype": "LIMIT"', '"pricetype": "SL"', '"price": "800"',
        '"trigger_price": "800"', '"product": "BO"', '"quantity": "1.5"', '"position_size": "1.5"', '"orderid": "1"',
        '"splitsize": "5"', '"target_value": 5', '"unheard_of": 1'])]


@pytest.mark.parametrize(("name", "message", "field"), [
    (name, message, field) for name, message, fields in MEANT for field in fields])
def test_a_field_that_changes_the_meaning_is_refused_and_never_ignored(name: str, message: str, field: str) -> None:
    if name != "crosstrade":
        held = json.loads(f"{{{field}}}")
        whole = {**json.loads(message % ""), **held}
        body = json.dumps(whole)
    else:
        body = message % field
    found = taken(name, message % "")
    assert isinstance(found, list) and found, found

    refused = taken(name, body)

    if field == '"quantity": 11':
        assert _guarded(name, body)
    else:
        assert isinstance(refused, str), refused


def _guarded(name: str, body: str) -> bool:
    made = decide(template(name), read_body(body.encode()), body.encode(), home="x", nonce="n", now=NOW)
    return any(order.state == "refused" and "max_quantity" in order.reason for order in made.orders
               if not order.order.is_exit)


@pytest.mark.parametrize(("name", "body"), [
    ("crosstrade", "key=s3cr3t;command=PLACE;account=sim101;instrument=ES 12-26;action=BUY;qty=1;order_type=MARKET;"),
    ("pickmytrade", '{"symbol": "MES1!", "data": "buy", "quantity": 1, "token": "s3cr3t", '
                    '"multiple_accounts": [{"token": "s3cr3t", "account_id": "DEMO123456"}]}'),
    ("3commas", '{"secret": "s3cr3t", "tv_instrument": "MES1!", "action": "enter_long"}'),
    ("openalgo", '{"apikey": "s3cr3t", "symbol": "SBIN", "action": "BUY", "quantity": "1"}')])
def test_the_other_tools_key_is_not_in_what_is_kept_of_an_alert(name: str, body: str) -> None:
    kept = decide(template(name), read_body(body.encode()), body.encode(), home="x", nonce="n", now=NOW)

    assert kept.state == "accepted"
    assert "s3cr3t" not in repr(kept)
    assert read_body(kept.body.encode()).form == read_body(body.encode()).form


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_template_stands_in_the_page_that_compares(name: str) -> None:
    page = (ROOT / "docs" / "coming_from.md").read_text()
    section = page[page.index(f"from_{name}.yaml)"):].split("\n## ")[0]
    words = set(re.findall(r"[A-Za-z_]+", section))
    declared = yaml.safe_load((ROOT / "templates" / f"from_{name}.yaml").read_text())["alert"]

    for field, given in declared.items():
        path = given.get("from", [field]) if isinstance(given, dict) else [field]
        leaf = [step for step in path if isinstance(step, str) and step != "*"]
        ours = isinstance(given, dict) and field in ("order_id", "fill", "time") and name != "crosstrade"
        assert ours or not leaf or leaf[-1] in words, f"{field}: {leaf[-1]} is not compared"
