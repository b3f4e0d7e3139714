"""A new template passes its check, says what its broker can do, and never takes the place of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.accounts import load_accounts
from bridge.alert import read_body
from bridge.brokers import BROKERS
from bridge.cli import main
from bridge.json_schema import schema_of
from bridge.message import Message
from bridge.numbers import dump_json
from bridge.starting import FORMS, Wish, compose, forms_for, kinds_at
from bridge.template import judge_template
from bridge.yamlfile import read_yaml

ROOT = Path(__file__).resolve().parents[1]
ACCOUNTS = load_accounts(ROOT / "accounts.yaml", {})
CASES = [(name, kind, form) for name, account in ACCOUNTS.accounts.items()
         for kind in kinds_at(BROKERS[account.broker]) for form in forms_for(kind)]


def bridge(folder: Path, *arguments: str, stdin: str = "") -> Result:
    environ = {"BRIDGE_TEMPLATES": str(folder), "BRIDGE_ACCOUNTS": str(ROOT / "accounts.yaml"),
               "BRIDGE_DATA": "/nonexistent"}
    return CliRunner().invoke(main, list(arguments), input=stdin, env=environ)


def test_every_kind_that_each_broker_can_do_is_tried_below() -> None:
    assert {(ACCOUNTS.accounts[name].broker, kind) for name, kind, _ in CASES} == {
        (broker.name, kind) for broker in BROKERS.values() for kind in broker.capabilities.kinds}
    assert {form for _, _, form in CASES} == set(FORMS)


@pytest.mark.parametrize(("name", "kind", "form"), CASES)
def test_what_is_written_loads_passes_its_own_tests_and_is_warned_of_nothing(name: str, kind: str, form: str) -> None:
    account = ACCOUNTS.accounts[name]
    text = compose(Wish(name="fresh", account=account, broker=BROKERS[account.broker], kind=kind, form=form))

    template = judge_template(read_yaml(text.encode(), "fresh.yaml"), ACCOUNTS)

    assert template.warnings == ()
    assert template.accounts == (name,) and any(rule.kind == kind for rule in template.rules)
    tests = read_yaml(text.encode(), "fresh.yaml").value["tests"]
    assert len(tests) == (1 if kind in ("cancel", "close") else 3 if form == "strategy" and kind != "oco" else 2)


@pytest.mark.parametrize(("name", "kind", "form"), CASES)
def test_what_is_written_checks_renders_and_has_a_message(name: str, kind: str, form: str, tmp_path: Path) -> None:
    made = bridge(tmp_path, "new", "fresh", "--account", name, "--kind", kind, "--form", form, "--json")
    assert made.exit_code == 0, made.output
    text = json.loads(made.stdout)["text"]
    assert (tmp_path / "fresh.yaml").read_text() == text

    test = read_yaml(text.encode(), "fresh.yaml").value["tests"][0]
    body = test["body"] if "body" in test else dump_json(test["alert"])
    rendered = bridge(tmp_path, "render", "fresh", "--alert", "-", "--now", test["now"], "--json", stdin=body)

    assert bridge(tmp_path, "check", str(tmp_path)).exit_code == 0
    assert rendered.exit_code == 0, rendered.output
    orders = json.loads(rendered.stdout)["orders"]
    assert [order["order"]["kind"] for order in orders] == [kind] and orders[0]["calls"]
    message: Message = judge_template(read_yaml(text.encode(), "fresh.yaml"), ACCOUNTS).message()
    assert message.form == ("strategy" if form == "strategy" else message.form)
    if form == "indicator":
        assert message.form == "indicator" and read_body(message.text.replace("{{", "").replace("}}", "").replace(
            'plot("', "").replace('")', "").encode()).form == "json"


def test_a_person_is_asked_for_what_is_not_given(tmp_path: Path) -> None:
    result = bridge(tmp_path, "new", stdin="nt8-sim\noco\ntext\nmy_exits\n")

    assert result.exit_code == 0, result.output
    for words in ("Which account is to trade?", "Which kind of order?", "Which form of alert?", "its file name"):
        assert words in result.stderr
    assert (tmp_path / "my_exits.yaml").read_text().splitlines()[5:7] == [
        "description: Stop and target of a position that stands, from alerts in plain words", "account: nt8-sim"]
    assert "cover" not in result.stderr.split("Which form")[0].split("Which kind")[1]


def test_the_defaults_are_an_indicators_plain_order_of_one(tmp_path: Path) -> None:
    result = bridge(tmp_path, "new", stdin="\n\n\n\n")

    assert result.exit_code == 0
    text = (tmp_path / "tradovate_demo_plain.yaml").read_text()
    assert "quantity: 1\n" in text and "type: limit" in text and "max_quantity" in text


def test_it_ends_by_saying_what_next_and_the_lines_work(tmp_path: Path) -> None:
    result = bridge(tmp_path, "new", "fresh", "--account", "nt8-sim", "--kind", "plain", "--form", "strategy")

    lines = result.stdout.splitlines()
    assert f"wrote {tmp_path / 'fresh.yaml'}" in lines and "  bridge message fresh" in lines
    assert any(line.startswith("  bridge send fresh") for line in lines)
    line = next(line for line in lines if "bridge render" in line)
    body, command = line.strip().removeprefix("echo '").split("' | bridge ")
    assert bridge(tmp_path, *command.split(), stdin=body).exit_code == 0


def test_it_points_editors_at_a_schema_that_is_there(tmp_path: Path) -> None:
    bridge(tmp_path, "new", "fresh", "--account", "nt8-sim", "--kind", "plain", "--form", "text")

    assert (tmp_path / "fresh.yaml").read_text().startswith("# yaml-language-server: $schema=.schema/template.json\n")
    assert json.loads((tmp_path / ".schema/template.json").read_text()) == schema_of("template")


@pytest.mark.parametrize("taken", ["fresh.yaml", "fresh.yml"])
def test_a_file_that_is_there_is_never_overwritten(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("mine")

    result = bridge(tmp_path, "new", "fresh", "--account", "nt8-sim", "--kind", "plain", "--form", "text")

    assert result.exit_code == 1 and "is there already" in result.stderr and taken in result.stderr
    assert (tmp_path / taken).read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == [taken]


def test_to_stdout_writes_nothing(tmp_path: Path) -> None:
    result = bridge(tmp_path, "new", "--account", "pocketful", "--kind", "oso", "--form", "text", "--stdout")

    assert result.exit_code == 0 and list(tmp_path.iterdir()) == []
    judge_template(read_yaml(result.stdout.encode(), "new.yaml"), ACCOUNTS)


@pytest.mark.parametrize(("given", "words"), [
    ({"account": "nobody"}, "there is no account 'nobody'; known are tradovate-demo, nt8-sim, pocketful"),
    ({"account": "nt8-sin"}, "did you mean 'nt8-sim'?"),
    ({"kind": "oco", "account": "pocketful"}, "pocketful has no oco order: two orders that cancel each other"),
    ({"kind": "modify"}, "tradovate has no modify order: it can do plain, cover"),
    ({"kind": "cancel", "form": "strategy"}, "a cancel order is not made of the alerts of a strategy"),
    ({"form": "pigeon"}, "use indicator or strategy or text"), ({"name": "a b"}, "'a b' is no template's name"),
    ({"name": "../x"}, "'../x' is no template's name")])
def test_what_cannot_be_is_refused_with_what_would_do(given: dict[str, str], words: str, tmp_path: Path) -> None:
    chosen = {"name": "fresh", "account": "tradovate-demo", "kind": "plain", "form": "text", **given}

    result = bridge(tmp_path, "new", chosen.pop("name"), *(part for name, value in chosen.items()
                                                           for part in (f"--{name}", value)))

    assert result.exit_code == 1 and words in result.stderr
    assert list(tmp_path.iterdir()) == []
