"""The command line: help that teaches, output for people and programs, exit codes, and nothing secret in either."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.numbers import dump_json
from bridge.settings import SETTINGS
from bridge.yamlfile import read_yaml_file
from tests.serving import ROOT, SECRET, free_port

CASES_FILE = ROOT / "../shared/data/bad-inputs.json"
CASES: list[dict[str, Any]] = json.loads(CASES_FILE.read_text()) if CASES_FILE.exists() else []
ALERT = {"ticker": "ES1!", "action": "buy", "contracts": 2, "price": "5300.30", "time": "2026-11-20T15:30:00Z"}
NOW = "2026-11-20T15:30:01Z"
COMMANDS = sorted(main.commands)


def bridge(*arguments: str, stdin: str | bytes = "", **settings: str) -> Result:
    """A command in this process, with the shipped files and these settings (`bind="…"` for BRIDGE_BIND)."""
    chosen = {"templates": str(ROOT / "templates"), "accounts": str(ROOT / "accounts.yaml"), "data": "/nonexistent",
              **settings}
    environ = {f"BRIDGE_{name.upper()}": value for name, value in chosen.items()}
    return CliRunner().invoke(main, list(arguments), input=stdin, env=environ)


def rendered(template: str, alert: Mapping[str, Any] | str, now: str = NOW, **settings: str) -> Any:
    text = alert if isinstance(alert, str) else json.dumps(alert)
    result = bridge("render", template, "--alert", "-", "--now", now, "--json", stdin=text, **settings)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# -- help and usage --------------------------------------------------------------------------------------------------


def test_the_commands_are_those_of_this_version() -> None:
    assert set(COMMANDS) >= {"up", "receiver", "worker", "sandbox", "check", "parse", "render", "message", "send", "orders",
                             "show", "resolve", "alerts", "config"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = bridge(command, "--help")

    assert result.exit_code == 0
    assert "Example" in result.output and f"bridge {command}" in result.output


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"receiver", "worker", "sandbox"}))
def test_every_command_that_prints_has_json(command: str) -> None:
    assert "--json" in bridge(command, "--help").output


@pytest.mark.parametrize("arguments", [["frobnicate"], ["render"], ["render", "es_breakout"], ["show"], ["orders", "--limit", "0"],
                                       ["orders", "--limit", "many"], ["check", "--frobnicate"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert bridge(*arguments).exit_code == 2


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = ("import sys; from bridge.cli import main\n"
            "heavy = {'redis', 'flask', 'requests', 'jinja2', 'marshmallow', 'yaml', 'gunicorn', 'structlog'}\n"
            "print(sorted(heavy & set(sys.modules)))")

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert ended.stdout.strip() == "[]"


# -- check -----------------------------------------------------------------------------------------------------------


def test_what_is_shipped_is_sound() -> None:
    result = bridge("check")

    assert result.exit_code == 0, result.output
    assert "all sound" in result.output


def test_every_fault_has_its_file_line_and_column(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("account: nobody\nalert: {price: numbr}\norder:\n  kind: plane\n")

    result = bridge("check", str(wrong))

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) >= 4 and all(line.startswith(f"{wrong}:") for line in lines[:-1])
    assert any(line.startswith(f"{wrong}:4:") and "plane" in line for line in lines)


def test_check_prints_its_faults_as_json(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("account: nobody\n")

    result = bridge("check", str(tmp_path), "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["templates"] == 1 and {"file", "line", "column", "message"} <= set(found["faults"][0])


def test_a_template_that_fails_its_own_tests_is_at_fault(tmp_path: Path) -> None:
    text = (ROOT / "templates/es_breakout.yaml").read_text()
    (tmp_path / "es_breakout.yaml").write_text(text.replace("price: 5300.25}", "price: 5300.50}"))

    result = bridge("check", str(tmp_path / "es_breakout.yaml"))

    assert result.exit_code == 1 and "5300.25" in result.output


def test_a_secret_that_is_not_set_is_a_fault_of_the_accounts_and_none_at_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(
        "accounts:\n  tradovate-demo:\n    broker: tradovate\n    environment: demo\n    account: D\n    account_id: 1\n"
        '    credentials: {name: "${T_NAME}", password: "${T_PASS}", cid: "${T_CID}", sec: "${T_SEC}", device_id: "${T_D}"}\n')

    strict = bridge("check", str(tmp_path / "accounts.yaml"))
    beside = bridge("check", str(ROOT / "templates/es_breakout.yaml"), accounts=str(tmp_path / "accounts.yaml"))
    paper = bridge("check", str(tmp_path / "accounts.yaml"), "--sandbox")

    assert strict.exit_code == 1 and "T_PASS" in strict.output
    assert beside.exit_code == 0, beside.output
    assert paper.exit_code == 0, paper.output


def test_an_empty_folder_of_templates_is_told(tmp_path: Path) -> None:
    result = bridge("check", str(tmp_path))

    assert result.exit_code == 1 and "no template" in result.output


# -- parse -----------------------------------------------------------------------------------------------------------


def test_parse_tells_how_each_body_is_read(tmp_path: Path) -> None:
    files = []
    for number, body in enumerate(['{"a": {"b": 1.50}}', "Ticker=ES1!; action=buy", "BUY ES1!"]):
        files.append(str(tmp_path / str(number)))
        Path(files[-1]).write_text(body)

    result = bridge("parse", *files)

    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {"form": "json", "fields": {"a": {"b": 1.5}}}, {"form": "key_value", "fields": {"ticker": "ES1!", "action": "buy"}},
        {"form": "text", "fields": None}]


def test_parse_says_what_is_wrong_with_a_body_and_ends_with_1() -> None:
    result = bridge("parse", "-", stdin="[1]")

    assert result.exit_code == 1
    found = json.loads(result.stdout)[0]
    assert found["form"] == "invalid" and "object" in found["error"]


def test_an_input_that_cannot_be_read_is_named() -> None:
    result = bridge("parse", "/no/such/file")

    assert result.exit_code == 1 and "/no/such/file" in result.stderr


# -- render and message ----------------------------------------------------------------------------------------------


def test_render_prints_the_order_and_the_exact_call() -> None:
    found = rendered("es_breakout", ALERT)

    assert found["template"] == "es_breakout" and found["skipped"] is None and found["refused"] is None
    assert found["alert"]["contracts"] == 2
    order = found["orders"][0]
    assert (order["account"], order["broker"]) == ("tradovate-demo", "tradovate")
    assert order["order"]["kind"] == "oso" and order["order"]["price"] == 5300.25
    call = order["calls"][0]
    assert set(call) == {"method", "url", "headers", "body", "assumed"}
    assert call["method"] == "POST" and call["url"].endswith("/v1/order/placeoso")
    assert call["headers"]["Authorization"] == "Bearer <from: log-in>"
    assert call["body"]["bracket1"]["stopPrice"] == 5295.25
    assert call["assumed"]["orderId"].startswith("<from: ")


def test_render_is_the_same_every_time() -> None:
    assert rendered("es_breakout", ALERT) == rendered("es_breakout", ALERT)


def test_render_writes_a_price_as_the_shortest_exact_number() -> None:
    result = bridge("render", "es_breakout", "--alert", "-", "--now", NOW, "--json", stdin=json.dumps(ALERT))

    assert '"price": 5300.25,' in result.stdout and '"stopPrice": 5295.25,' in result.stdout


def test_render_of_a_path_needs_no_folder_of_templates(tmp_path: Path) -> None:
    shutil.copy(ROOT / "templates/es_breakout.yaml", tmp_path / "mine.yaml")

    assert rendered(str(tmp_path / "mine.yaml"), ALERT, templates="/nonexistent")["template"] == "mine"


def test_render_needs_no_credentials(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(
        "accounts:\n  tradovate-demo:\n    broker: tradovate\n    environment: demo\n    account: D\n    account_id: 1\n"
        '    credentials: {name: "${T_NAME}", password: "${T_PASS}", cid: "${T_CID}", sec: "${T_SEC}", device_id: "${T_D}"}\n')

    found = rendered("es_breakout", ALERT, accounts=str(tmp_path / "accounts.yaml"))

    assert found["orders"][0]["calls"][0]["url"] == "https://demo.tradovateapi.com/v1/order/placeoso"


def test_render_says_why_nothing_would_be_sent() -> None:
    late = rendered("es_breakout", ALERT, now="2026-11-20T17:00:00Z")
    skipped = rendered("es_text_alert", "BUY ES1! 50 @ 5300.25")

    assert late["refused"].startswith("too old: sent 90 min before") and late["orders"][0]["state"] == "expired"
    assert "when" in skipped["skipped"] and skipped["orders"] == []


@pytest.mark.parametrize("path", sorted((ROOT / "templates").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_template_sends_can_be_rendered_for_people_and_programs(path: Path) -> None:
    test = read_yaml_file(path).value["tests"][0]

    result = bridge("render", str(path), "--alert", "-", "--now", test["now"], stdin=test.get("body") or dump_json(test["alert"]))

    assert result.exit_code == 0, result.output
    assert "http" in result.stdout and "<from: log-in>" in result.stdout


def test_every_fault_of_an_alert_is_told() -> None:
    result = bridge("render", "es_breakout", "--alert", "-", stdin='{"ticker": "ES1!", "price": "x"}')

    assert result.exit_code == 1 and result.stdout == ""
    assert {"action", "contracts", "price", "time"} <= {line.split(":")[0] for line in result.stderr.splitlines()}


def test_message_is_what_to_paste_into_tradingview() -> None:
    result = bridge("message", "es_breakout")

    assert result.exit_code == 0
    assert '"time": "{{timenow}}"' in result.stdout and '"ticker": "{{ticker}}"' in result.stdout


# -- a running bridge that is not there ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("orders",), ("alerts",), ("show", "o1")])
def test_without_a_running_bridge_a_command_says_how_to_start_one(arguments: tuple[str, ...]) -> None:
    result = bridge(*arguments)

    assert result.exit_code == 3 and "start `bridge up`" in result.stderr


def test_send_says_when_nothing_listens() -> None:
    result = bridge("send", "es_breakout", "--alert", "-", stdin="{}", bind=f"127.0.0.1:{free_port()}", secret=SECRET)

    assert result.exit_code == 3 and "BRIDGE_BIND" in result.stderr and SECRET not in result.output


# -- config ----------------------------------------------------------------------------------------------------------


def test_config_lists_every_setting_with_value_source_and_meaning() -> None:
    found = json.loads(bridge("config", "--json", bind="0.0.0.0:80").stdout)

    assert {each["name"] for each in found["settings"]} == {setting.name for setting in SETTINGS}
    bind = next(each for each in found["settings"] if each["name"] == "BRIDGE_BIND")
    assert bind["value"] == "0.0.0.0:80" and bind["source"] == "environment" and bind["meaning"]


def test_config_masks_secrets() -> None:
    result = bridge("config", secret=SECRET, redis_url="redis://:pw-leak-me@127.0.0.1:6379/0?password=also-leak-me")

    assert result.exit_code == 0
    assert SECRET not in result.output and "leak-me" not in result.output and "127.0.0.1:6379" in result.output


def test_config_says_where_real_money_can_move(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(
        'accounts:\n  mine: {broker: pocketful, client_id: "X1", credentials: {token: "${P_TOKEN}"},'
        " options: {stop_loss_value: price}}\n"
        '  dry: {broker: pocketful, client_id: "X1", credentials: {token: "${P_TOKEN}"}, dry_run: true,'
        " options: {stop_loss_value: price}}\n")

    shown = bridge("config", accounts=str(tmp_path / "accounts.yaml"))

    mine, dry = (next(line for line in shown.stdout.splitlines() if line.startswith(name)) for name in ("mine", "dry"))
    assert "REAL MONEY" in mine and "dry_run" in dry
    paper = bridge("config", "--sandbox", accounts=str(tmp_path / "accounts.yaml"))
    assert "REAL MONEY" not in paper.stdout


def test_every_wrong_setting_is_told_without_its_value() -> None:
    result = bridge("config", secret="leak-me", bind="nowhere")

    assert result.exit_code == 1
    assert "BRIDGE_SECRET" in result.stderr and "BRIDGE_BIND" in result.stderr and "leak-me" not in result.output


# -- the shared collection of wrong inputs -----------------------------------------------------------------------------

COMMAND_CASES = [case for case in CASES if case["area"] == "cli"
                 and (case["given"]["argv"][1] in main.commands or case["given"]["argv"][1] == "frobnicate")]
ACCOUNT_CASES = [case for case in CASES if case["area"] == "accounts_yaml"]


@pytest.mark.skipif(not CASES, reason="the shared test data is not beside this checkout")
@pytest.mark.parametrize("case", COMMAND_CASES, ids=lambda case: str(case["id"]))
def test_a_wrong_command_ends_as_expected(case: dict[str, Any]) -> None:
    given, expect = case["given"], case["expect"]
    settings = {name.removeprefix("BRIDGE_").lower(): value for name, value in given.get("env", {}).items()}

    result = bridge(*given["argv"][1:], stdin=given.get("stdin", ""),
                    **{"bind": f"127.0.0.1:{free_port()}", "secret": SECRET, **settings})

    _check(result, expect)


@pytest.mark.skipif(not CASES, reason="the shared test data is not beside this checkout")
@pytest.mark.parametrize("case", ACCOUNT_CASES, ids=lambda case: str(case["id"]))
def test_a_wrong_accounts_file_is_told(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / case["given"]["file"]
    file.write_text(case["given"]["text"])
    for name, value in case["given"]["env"].items():
        monkeypatch.setenv(name, value)

    _check(bridge("check", str(file)), case["expect"])


def _check(result: Result, expect: Mapping[str, Any]) -> None:
    allowed = expect["check_exit"] if isinstance(expect["check_exit"], list) else [expect["check_exit"]]
    assert result.exit_code in allowed, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    for word in expect.get("must_mention", ()):
        assert word in result.output
    assert "leak-me" not in result.output and SECRET not in result.output and "Traceback" not in result.output


def test_a_broken_pipe_ends_quietly() -> None:
    environ = {**os.environ, "BRIDGE_TEMPLATES": str(ROOT / "templates"), "BRIDGE_ACCOUNTS": str(ROOT / "accounts.yaml")}
    ended = subprocess.run(["sh", "-c", f"{sys.executable} -m bridge config | head -1"], capture_output=True, text=True,
                           cwd=ROOT, env=environ, timeout=20, check=True)

    assert ended.stdout.startswith("SETTING") and "Traceback" not in ended.stderr
