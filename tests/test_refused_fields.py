"""Fields that no alert may have, fields that are not read, and legs that come in several forms."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.accounts import load_accounts
from bridge.alert import read_body
from bridge.errors import AlertError, FileFaults
from bridge.fields import DeclarationError, declare, is_nothing
from bridge.template import Template, load_template

ACCOUNTS = Path(__file__).resolve().parents[1] / "accounts.yaml"


def read(section: dict[str, Any], body: str) -> dict[str, Any]:
    return declare(section).read(read_body(body.encode()))


def refusal(section: dict[str, Any], body: str) -> str:
    with pytest.raises(AlertError) as refused:
        read(section, body)
    return str(refused.value)


@pytest.mark.parametrize("value", ["5", '"5"', "true", '"x"', "[0]", '{"a": 0}', "-1", "0.001", '"NaN"', '"no"'])
def test_a_field_that_may_not_be_there_refuses_with_its_reason(value: str) -> None:
    assert refusal({"trail": {"refuse": "stops do not trail here"}}, f'{{"trail": {value}}}') == (
        "trail: stops do not trail here")


@pytest.mark.parametrize("value", ["0", '"0"', "0.00", '"-0"', "false", '"False"', "null", '""', '"  "', "[]", "{}", "0e5"])
def test_nothing_is_not_refused_and_has_no_value(value: str) -> None:
    section = {"trail": {"refuse": "no"}, "n": "integer"}

    assert read(section, f'{{"trail": {value}, "n": 1}}') == {"n": 1}


def test_zero_is_nothing_in_every_way_of_writing_it_and_no_other_number_is() -> None:
    for text in ("0", "0.", ".0", "+0.00", "-0", "0E9", " 0 ", "false"):
        assert is_nothing(text), text
    for text in ("0x0", ".", "-", "e", "00a", "1e-99", "no", "none", "nan"):
        assert not is_nothing(text), text


def test_every_other_name_is_refused_where_a_star_stands() -> None:
    section = {"n": "integer", "stop": {"type": "number", "from": ["stop", "at"], "optional": True},
               "stop_others": {"from": ["stop", "*"], "refuse": "a stop has `at`"},
               "others": {"from": ["*"], "refuse": "not known"}}

    assert read(section, '{"n": 1, "stop": {"at": 5, "limit": 0}, "more": ""}') == {"n": 1, "stop": Decimal(5)}
    assert refusal(section, '{"n": 1, "stop": {"at": 5, "limit": 4}}') == "stop_others: the alert has 'limit': a stop has `at`"
    assert refusal(section, '{"n": 1, "a": 1, "b": 2}') == "others: the alert has 'a', 'b': not known"
    assert refusal(section, "N=1;STOP=;More=x") == "others: the alert has 'more': not known"


def test_the_values_of_names_that_are_refused_are_not_shown() -> None:
    assert "s3cr3t" not in refusal({"others": {"from": ["*"], "refuse": "not known"}}, '{"key": "s3cr3t"}')


def test_an_ignored_field_is_known_and_goes_nowhere() -> None:
    section = {"key": "ignored", "n": "integer", "others": {"from": ["*"], "refuse": "not known"}}

    assert read(section, '{"key": "s3cr3t", "n": 1}') == {"n": 1}
    assert read(section, '{"key": {"any": ["thing"]}, "n": 1}') == {"n": 1}
    assert read(section, '{"n": 1}') == {"n": 1}


def test_a_word_is_the_same_in_any_case() -> None:
    section = {"action": {"type": "word", "one_of": ["BUY", "sell"], "refuse": "there is no reversal"}}

    assert read(section, '{"action": " Buy "}') == {"action": "buy"}
    assert refusal(section, '{"action": "REVERSE"}') == "action: reverse is none of buy, sell: there is no reversal"


@pytest.mark.parametrize(("body", "words"), [
    ('{"stop": 5290}', "is looked for inside 'stop', which is a plain value; expected an object"),
    ('{"stop": [5290]}', "which is a list; expected an object"), ('{"stop": {"at": {"x": 1}}}', "is an object")])
def test_what_stands_in_the_place_of_an_object_is_not_taken_for_absent(body: str, words: str) -> None:
    assert words in refusal({"at": {"type": "number", "optional": True, "from": ["stop", "at"]}}, body)


@pytest.mark.parametrize("body", ["{}", '{"stop": null}', '{"stop": ""}', '{"stop": 0}', '{"stop": false}', '{"stop": {}}'])
def test_an_object_that_is_not_there_leaves_its_fields_out(body: str) -> None:
    assert read({"at": {"type": "number", "optional": True, "from": ["stop", "at"]}}, body) == {"at": None}


@pytest.mark.parametrize(("declared", "words"), [
    ({"refuse": ""}, "expected the reason"), ({"refuse": 5}, "expected the reason"),
    ({"type": "text", "refuse": "no"}, "give `one_of`"), ({"refuse": "no", "one_of": ["a"]}, "without one, `refuse` means"),
    ({"refuse": "no", "optional": True}, "without one, `refuse` means"), ({"optional": True}, "has no type"),
    ({"type": "refused"}, "is no type")])
def test_a_declaration_that_makes_no_sense_is_refused_when_the_template_loads(declared: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        declare({"field": declared})

    assert words in str(refused.value)


# -- in a template --------------------------------------------------------------------------------------------------------


def template(tmp_path: Path, text: str) -> Template:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return load_template(path, load_accounts(ACCOUNTS, {}))


FORMS = """
account: tradovate-demo
alert:
  price: number
  at: {type: number, optional: true}
  points: {type: number, optional: true}
  percent: {type: number, optional: true}
  kind: {type: word, optional: true}
  limit: {type: number, optional: true}
guards: {max_quantity: 1}
order:
  kind: oso
  symbol: ESZ6
  side: buy
  quantity: 1
  type: limit
  price: "{{ alert.price }}"
  time_in_force: gtc
  take_profit: {points: 20}
  stop_loss:
    type: "{{ alert.kind | default('stop') }}"
    price: "{{ alert.limit | default(alert.at) }}"
    stop_price: "{{ alert.at if alert.limit is not none }}"
    points: "{{ alert.points }}"
    percent: "{{ alert.percent }}"
"""


@pytest.mark.parametrize(("given", "expected"), [
    ('"at": 5290', ("stop", Decimal(5290), None)), ('"points": 10', ("stop", Decimal(5290), None)),
    ('"percent": 1', ("stop", Decimal(5247), None)), ('"kind": "trailing_stop", "points": 10', ("trailing_stop",
                                                                                             Decimal(5290), None)),
    ('"kind": "stop_limit", "at": 5290, "limit": 5289', ("stop_limit", Decimal(5290), Decimal(5289)))])
def test_of_the_forms_that_a_leg_offers_the_one_with_a_value_counts(tmp_path: Path, given: str, expected: Any) -> None:
    stop = _order(template(tmp_path, FORMS), f'{{"price": 5300, {given}}}').stop_loss

    assert (stop.type, stop.stop_price, stop.price) == expected


def test_a_leg_of_which_no_form_has_a_value_is_left_out(tmp_path: Path) -> None:
    order = _order(template(tmp_path, FORMS), '{"price": 5300}')

    assert order.stop_loss is None
    assert order.take_profit.price == 5320


@pytest.mark.parametrize(("given", "words"), [
    ('"at": 5290, "points": 10', "has price 5290 and points 10: only one of"),
    ('"points": 10, "percent": 1', "has points 10 and percent 1: only one of"),
    ('"at": 5290, "limit": 5289', "is for `type: stop_limit`, not stop"),
    ('"kind": "stop_limit", "limit": 5289', "came out empty although the leg has another price"),
    ('"kind": "limit", "points": 10', "is none of stop, stop_limit, trailing_stop"), ('"points": -5', "must be above zero")])
def test_two_forms_with_a_value_refuse_the_alert(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(AlertError) as refused:
        _order(template(tmp_path, FORMS), f'{{"price": 5300, {given}}}')

    assert words in str(refused.value)


def test_several_forms_that_are_written_out_do_not_load(tmp_path: Path) -> None:
    with pytest.raises(FileFaults, match="needs exactly one of price, points, ticks, percent; it has price and points"):
        template(tmp_path, FORMS.replace('"{{ alert.points }}"', "10"))


def test_the_filter_refuse_says_why(tmp_path: Path) -> None:
    text = FORMS.replace("quantity: 1\n", "quantity: \"{{ 1 if alert.price < 9000 else 'too dear' | refuse }}\"\n", 1)
    made = template(tmp_path, text)

    assert _order(made, '{"price": 5300}').quantity == 1
    with pytest.raises(AlertError, match="too dear"):
        _order(made, '{"price": 9300}')


def test_a_field_without_a_value_cannot_be_read(tmp_path: Path) -> None:
    for declared in ("key: ignored", "key: {refuse: not here}"):
        text = FORMS.replace("  price: number\n", f"  price: number\n  {declared}\n").replace(
            "quantity: 1\n", 'quantity: "{{ alert.key }}"\n', 1)
        with pytest.raises(FileFaults, match=r"alert\.key is not declared"):
            template(tmp_path, text)


def test_what_is_pasted_into_tradingview_has_no_field_that_is_refused_or_ignored(tmp_path: Path) -> None:
    text = FORMS.replace("  price: number\n", "  price: number\n  key: ignored\n  size: {refuse: not here}\n")

    assert '"price"' in template(tmp_path, text).message().text
    assert '"size"' not in template(tmp_path, text).message().text and '"key"' not in template(tmp_path, text).message().text


def _order(made: Template, body: str) -> Any:
    found = read_body(body.encode())
    return made.render(made.read(found), found, received_at=datetime(2026, 11, 20, tzinfo=UTC)).orders[0].order
