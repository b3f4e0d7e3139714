"""What is legal and dangerous is told by name, can be allowed by name, and keeps no template from loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.accounts import load_accounts
from bridge.checking import FORMATS
from bridge.cli import main
from bridge.dangers import DANGERS
from bridge.errors import FileFaults
from bridge.template import load_template

ROOT = Path(__file__).resolve().parents[1]

BASE = """\
account: {account}
{top}
alert:
  ticker: text
  action: {action}
  contracts: integer
  price: number
  time: {{type: time, tradingview: "{time}"}}
{more}
sent_at: "{{{{ alert.time }}}}"
order:
  kind: {kind}
  symbol: "{symbol}"
  side: "{{{{ alert.action }}}}"
  quantity: {quantity}
  type: {type}
{order}
"""
PLAIN = {"account": "tradovate-demo", "top": "", "action": "side", "time": "{{timenow}}", "more": "", "kind": "plain",
         "symbol": "{{ alert.ticker | contract }}", "quantity": "1", "type": "market", "order": ""}
SHARES = {"account": "pocketful", "symbol": "{{ alert.ticker }}",
          "order": '  price: "{{ alert.price }}"\n  options: {exchange: NSE, product: MIS}', "type": "limit"}
STRATEGY = '{type: side, tradingview: "{{strategy.order.action}}"}'
ORDER_ID = '  order_id: {type: text, tradingview: "{{strategy.order.id}}"}'
LIMIT = '  price: "{{ alert.price }}"\n'
LEGS = {"kind": "oso", "type": "limit", "order": LIMIT + "  stop_loss: {ticks: 20}"}
HALVES = LIMIT + '  other: {side: "{{ alert.action%s }}", type: stop, stop_price: 5%s}'
OCO = {"kind": "oco", "type": "limit"}


def warnings(tmp_path: Path, **given: str) -> list[str]:
    file = tmp_path / "t.yaml"
    file.write_text(BASE.format(**{**PLAIN, **given}))
    found = load_template(file, load_accounts(ROOT / "accounts.yaml", {})).warnings
    assert all(each.line > 1 and each.file == str(file) for each in found)
    return [f"{each.name} {each.field}" for each in found]


def test_a_careful_template_has_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path) == []


@pytest.mark.parametrize(("given", "name"), [
    ({"kind": "oso", "order": "  legs: absolute\n  time_in_force: gtc\n  stop_loss: {price: 5000}"},
     "market-absolute-stop order.legs"),
    (LEGS, "day-legs order.stop_loss"),
    ({**LEGS, "order": f"{LEGS['order']}\n  time_in_force: day"}, "day-legs order.time_in_force"),
    ({**LEGS, "order": LIMIT + "  time_in_force: gtc\n  stop_loss: {ticks: 20, time_in_force: day}"},
     "day-legs order.stop_loss.time_in_force"),
    ({"kind": "oco", "type": "limit", "order": HALVES % ("", "")}, "day-legs order.other"),
    ({"time": "{{time}}"}, "sent-at-bar-open sent_at"),
    ({"time": "{{ time }}"}, "sent-at-bar-open sent_at"),
    ({"action": STRATEGY}, "same-fills alert"),
    ({"action": STRATEGY, "top": 'id: "{{ alert.time }}"', "more": ORDER_ID}, "same-fills id"),
    ({"quantity": '"{{ alert.contracts }}"'}, "no-quantity-cap order.quantity"),
    ({"quantity": '"{{ alert.contracts * 2 }}"', "top": "guards: {max_orders_per_day: 5}"}, "no-quantity-cap order.quantity"),
    ({"quantity": '"{{ alert.raw.size | number }}"'}, "no-quantity-cap order.quantity"),
    ({"quantity": '"{{ alert.contracts }}"', "top": "when: alert.contracts > 1"}, "no-quantity-cap order.quantity"),
    ({**SHARES, "type": "market", "order": "  options: {exchange: NSE, product: MIS}"}, "dropped-type order.type"),
    ({**SHARES, "type": "stop", "order": "  stop_price: 12\n  options: {exchange: NSE, product: MIS}"},
     "dropped-type order.type"),
    ({"top": "dedupe_window: 5s"}, "short-dedupe-window dedupe_window")])
def test_each_danger_is_told_with_its_place_and_silenced_by_its_name(given: dict[str, str], name: str,
                                                                    tmp_path: Path) -> None:
    assert warnings(tmp_path, **given) == [name]

    allowed = f"{given.get('top', '')}\nallow: [{name.split()[0]}]"
    assert warnings(tmp_path, **{**given, "top": allowed}) == []


@pytest.mark.parametrize("given", [
    {**LEGS, "order": f"{LEGS['order']}\n  time_in_force: gtc"},
    {**LEGS, "order": LIMIT + "  time_in_force: ioc\n  stop_loss: {ticks: 20}"},
    {**LEGS, "order": LIMIT + "  stop_loss: {ticks: 20, time_in_force: gtc}"},
    {"kind": "oco", "type": "stop", "order": '  stop_price: "{{ alert.price }}"\n  other: {side: "{{ alert.action | opposite '
                                             '}}", type: stop, stop_price: 5}'},
    {**SHARES, "kind": "oso", "order": LIMIT + "  options: {exchange: NSE}\n  stop_loss: {points: 4}\n  take_profit: {points: 4}"},
    {"action": STRATEGY, "more": ORDER_ID}, {"action": STRATEGY, "more": "  order_id: text"},
    {"action": STRATEGY, "more": ORDER_ID, "top": 'id: "{{ alert.order_id }} {{ alert.time }}"'},
    {"top": 'id: "{{ alert.time }}"'},
    {"quantity": '"{{ alert.contracts }}"', "top": "guards: {max_quantity: 5}"},
    {"quantity": '"{{ alert.contracts }}"', "top": "when: alert.contracts <= 5"},
    {"quantity": '"{{ alert.contracts }}"', "order": "  when: alert.price > 1 and 5 >= alert.contracts"},
    {"quantity": "\"{{ alert.ticker | map({'ES1!': 2}) }}\""},
    {"quantity": '"{{ alert.lots }}"', "more": "  lots: {type: integer, one_of: [1, 2, 3]}"},
    {"top": "dedupe_window: 0s"}, {"top": "dedupe_window: 25s"}])
def test_no_warning_is_given_for_what_is_careful(given: dict[str, str], tmp_path: Path) -> None:
    assert warnings(tmp_path, **given) == []


def test_an_account_that_limits_the_size_is_a_cap(tmp_path: Path) -> None:
    text = (ROOT / "accounts.yaml").read_text()
    (tmp_path / "accounts.yaml").write_text(text.replace("    account: DEMO123456 ",
                                                         "    guards: {max_quantity: 3}\n    account: DEMO123456 "))
    file = tmp_path / "t.yaml"
    file.write_text(BASE.format(**{**PLAIN, "quantity": '"{{ alert.contracts }}"'}))

    assert load_template(file, load_accounts(tmp_path / "accounts.yaml", {})).warnings == ()


def test_a_close_needs_no_cap_and_no_type(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("account: pocketful\nalert: {ticker: text}\norder: {kind: close, symbol: \"{{ alert.ticker }}\", "
                    "options: {exchange: NSE}}\n")

    assert load_template(file, load_accounts(ROOT / "accounts.yaml", {})).warnings == ()


def test_a_name_that_is_no_warning_is_a_fault_with_the_one_that_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(BASE.format(**{**PLAIN, "top": "allow: [day-leg]"}))

    with pytest.raises(FileFaults, match="allow.0: there is no warning 'day-leg'; did you mean 'day-legs'?"):
        load_template(file, load_accounts(ROOT / "accounts.yaml", {}))


def test_every_warning_and_no_other_stands_in_the_documents() -> None:
    text = (ROOT / "docs/templates.md").read_text()
    section = text[text.index("## Warnings"):].split("\n## ")[0]

    for name in DANGERS:
        assert f"| `{name}` |" in section
    assert section.count("\n| `") == len(DANGERS)


# -- how a check prints ----------------------------------------------------------------------------------------------


def check(tmp_path: Path, *options: str, fault: bool = False) -> Result:
    folder = tmp_path / "a%b,c"
    folder.mkdir(exist_ok=True)
    (folder / "good.yaml").write_text(BASE.format(**{**PLAIN, "time": "{{time}}"}))
    if fault:
        (folder / "wrong.yaml").write_text("account: nobody\norder: {kind: plane}\n")
    environ = {"BRIDGE_ACCOUNTS": str(ROOT / "accounts.yaml"), "BRIDGE_TEMPLATES": str(folder)}
    return CliRunner().invoke(main, ["check", str(folder), *options], env=environ)


def test_a_warning_is_shown_with_its_name_and_does_not_fail(tmp_path: Path) -> None:
    result = check(tmp_path)

    first, last = result.stdout.splitlines()
    assert result.exit_code == 0
    assert "good.yaml:10:1: warning: sent_at: reads alert.time" in first and first.endswith("[sent-at-bar-open]")
    assert last == "1 template checked: all sound, 1 warning"


@pytest.mark.parametrize("options", [("--json",), ("--format", "json")])
def test_every_finding_is_data_with_all_of_its_parts(options: tuple[str, ...], tmp_path: Path) -> None:
    result = check(tmp_path, *options, fault=True)

    found = json.loads(result.stdout)
    assert result.exit_code == 1 and found["templates"] == 2
    parts = {"severity", "name", "file", "line", "column", "field", "message"}
    assert all(set(each) == parts for each in (*found["faults"], *found["warnings"]))
    assert {each["severity"] for each in found["faults"]} == {"fault"} and found["faults"][0]["name"] is None
    assert [(each["severity"], each["name"], each["line"]) for each in found["warnings"]] == [
        ("warning", "sent-at-bar-open", 10)]


def test_notes_for_a_pull_request_are_githubs_workflow_commands(tmp_path: Path) -> None:
    result = check(tmp_path, "--format", "github", fault=True)

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert all(line.startswith(("::error file=", "::warning file=")) for line in lines)
    assert any("/a%25b%2Cc/good.yaml,line=10,col=1,title=sent-at-bar-open::sent_at: reads" in line for line in lines)
    assert any("wrong.yaml,line=2,col=16" not in line and "did you mean 'plain'?" in line for line in lines)


def test_each_format_is_one_that_the_command_takes() -> None:
    option = next(each for each in main.commands["check"].params if each.name == "form")

    assert tuple(option.type.choices) == FORMATS  # type: ignore[attr-defined]
