"""accounts.yaml: what an account is, where it points, and that no secret is ever shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.accounts import Accounts, load_accounts, url_fault
from bridge.work import Budget

BAD_INPUTS = Path(__file__).resolve().parents[1] / "../shared/data/bad-inputs.json"
CASES = [case for case in (json.loads(BAD_INPUTS.read_text()) if BAD_INPUTS.exists() else [])
         if case["area"] == "accounts_yaml"]

ENV = {"TV_NAME": "trader", "TV_PASS": "hunter2-leak-me", "TV_CID": "1", "TV_SEC": "sec-leak-me", "TV_DEV": "device",
       "CT": "token-leak-me", "PF": "pf-leak-me", "PF_ID": "AB1234"}
CREDENTIALS = '{name: "${TV_NAME}", password: "${TV_PASS}", cid: "${TV_CID}", sec: "${TV_SEC}", device_id: "${TV_DEV}"}'
THREE = f"""
accounts:
  demo:
    broker: tradovate
    environment: demo
    account: DEMO1
    account_id: 123
    credentials: {CREDENTIALS}
  nt8:
    broker: crosstrade
    account: Sim101
    transport: websocket
    credentials: {{token: "${{CT}}"}}
  india:
    broker: pocketful
    client_id: "${{PF_ID}}"
    credentials: {{token: "${{PF}}"}}
    options: {{stop_loss_value: price}}
"""


def load(tmp_path: Path, text: str, environ: dict[str, str] = ENV, **more: Any) -> Accounts:
    path = tmp_path / "accounts.yaml"
    path.write_text(text)
    return load_accounts(path, environ, **more)


def demo(tmp_path: Path, extra: str, environ: dict[str, str] = ENV, **more: Any) -> Accounts:
    text = THREE.split("  nt8:")[0] + "".join(f"    {line}\n" for line in extra.splitlines())
    return load(tmp_path, text, environ, **more)


def words(accounts: Accounts) -> str:
    return "\n".join(map(str, accounts.faults))


def test_the_designs_example_loads(tmp_path: Path) -> None:
    found = load(tmp_path, THREE)

    assert words(found) == ""
    account = found.accounts["demo"]
    assert (account.broker, account.environment, account.account, account.account_id) == ("tradovate", "demo",
    "DEMO1", 123)
    assert (account.rest_url, account.ws_url) == ("https://demo.tradovateapi.com", "wss://demo.tradovateapi.com")
    assert account.credentials["password"] == "hunter2-leak-me"
    assert account.roll.days == 8
    assert not account.real_money
    assert found.accounts["nt8"].transport == "websocket"
    assert found.accounts["india"].client_id == "AB1234"
    assert found.accounts["india"].real_money
    assert found.accounts["india"].options["stop_loss_value"] == "price"


def test_no_secret_is_seen_in_an_account(tmp_path: Path) -> None:
    assert "leak-me" not in repr(load(tmp_path, THREE))


@pytest.mark.skipif(not CASES, reason="the bad inputs are not beside this checkout")
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_bad_accounts_file_is_refused_as_marked(tmp_path: Path, case: dict[str, Any]) -> None:
    found = load(tmp_path, case["given"]["text"], case["given"]["env"])

    said = words(found)
    assert found.faults
    for wanted in case["expect"]["must_mention"]:
        assert wanted in said
    assert "leak-me" not in said
    assert all(fault.file.endswith("accounts.yaml") and fault.line >= 1 for fault in found.faults)


@pytest.mark.parametrize(("extra", "field", "said"), [
    ("acount: x", "acount", "did you mean 'account'"), ("budget: {per_second: 0}", "budget.per_second", "above zero"),
    ("budget: {per_hour: 5}", "budget.per_hour", "unknown"), ("budget: {burst: 1.5}", "budget.burst", "whole number"),
    ("roll: {days_before_expiry: 100}", "roll.days_before_expiry", "0 to 60"),
    ("dry_run: perhaps", "dry_run", "true or false"), ("base_url: http://broker.example", "base_url", "encryption"),
    ("base_url: https://u:p@broker.example", "base_url", "password"),
    ("ws_url: https://broker.example", "ws_url", "wss://"),
    ("options: {mit_prise: price}", "options.mit_prise", "mit_price"),
    ("options: {mit_price: low}", "options.mit_price", ""), ("base_url: 5", "base_url", "expected a text"),
    ("options: x", "options", "names with values")])
def test_a_wrong_field_is_refused_with_its_place(tmp_path: Path, extra: str, field: str, said: str) -> None:
    found = demo(tmp_path, extra)

    assert [fault.field for fault in found.faults] == [f"accounts.demo.{field}"]
    assert said in words(found)
    assert found.broken == {"demo"}
    assert found.faults[0].line == 9


def test_a_faulty_account_stops_no_other(tmp_path: Path) -> None:
    found = load(tmp_path, THREE, {name: value for name, value in ENV.items() if name != "CT"})

    assert set(found.accounts) == {"demo", "india"}
    assert found.broken == {"nt8"}
    assert "the environment variable CT is not set" in words(found)


@pytest.mark.parametrize("written", ["hunter2-leak-me", "${TV_PASS} ", "x${TV_PASS}", "${TV_${X}}", "${file:relative}",
                                     "$TV_PASS", "${file:/nowhere/at/all}", "${}", "5"])
def test_a_secret_is_a_sound_reference_or_refused_without_being_shown(tmp_path: Path, written: str) -> None:
    text = THREE.replace("${TV_PASS}", written)
    found = load(tmp_path, text)

    assert [fault.field for fault in found.faults] == ["accounts.demo.credentials.password"]
    assert "leak-me" not in words(found)


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("from-a-file\n")

    found = load(tmp_path, THREE.replace("${CT}", f"${{file:{secret}}}"))

    assert found.accounts["nt8"].credentials["token"] == "from-a-file"
    secret.write_text("")
    assert "is empty" in words(load(tmp_path, THREE.replace("${CT}", f"${{file:{secret}}}")))


def test_what_a_reference_stands_for_is_not_shown_where_it_does_not_fit(tmp_path: Path) -> None:
    found = load(tmp_path, THREE.replace("account_id: 123", 'account_id: "${TV_PASS}"'))

    assert "what ${TV_PASS} stands for does not fit here" in words(found)
    assert "leak-me" not in words(found)


def test_base_url_replaces_the_address_and_takes_the_budget_away_on_this_machine(tmp_path: Path) -> None:
    here = demo(tmp_path, "base_url: http://127.0.0.1:9000/").accounts["demo"]
    away = demo(tmp_path, "base_url: https://proxy.example:8443").accounts["demo"]
    given = demo(tmp_path, "base_url: http://localhost:9000\nbudget: {per_second: 2.5}").accounts["demo"]

    assert (here.rest_url, here.ws_url, here.budget) == ("http://127.0.0.1:9000", "ws://127.0.0.1:9000", Budget())
    assert (away.rest_url, away.ws_url, away.budget.per_minute) == ("https://proxy.example:8443",
    "wss://proxy.example:8443", 80)
    assert given.budget == Budget(per_second=2.5)


def test_a_given_budget_takes_the_place_of_the_brokers_figure(tmp_path: Path) -> None:
    budget = demo(tmp_path, "budget: {per_minute: 10}").accounts["demo"].budget

    assert (budget.per_minute, budget.burst) == (10, 20)


def test_with_the_sandbox_every_account_points_there_and_needs_no_secret(tmp_path: Path) -> None:
    found = load(tmp_path, THREE, {}, sandbox="http://127.0.0.1:8082")

    assert words(found) == ""
    for account in found.accounts.values():
        assert (account.environment, account.rest_url, account.ws_url) == (
            "sandbox", "http://127.0.0.1:8082", "ws://127.0.0.1:8082")
        assert not account.real_money
        assert account.budget == Budget()
        assert all(account.credentials.values())


def test_a_sandbox_account_uses_the_sandboxs_own_address(tmp_path: Path) -> None:
    text = THREE.replace("environment: demo", "environment: sandbox")

    assert load(tmp_path, text, sandbox_default="http://127.0.0.1:9999").accounts["demo"].rest_url == "http://127.0.0.1:9999"


def test_a_literal_secret_is_refused_at_the_sandbox_too(tmp_path: Path) -> None:
    found = load(tmp_path, THREE.replace("${CT}", "hunter2-leak-me"), {}, sandbox="http://127.0.0.1:8082")

    assert found.broken == {"nt8"}


def test_render_needs_no_secret(tmp_path: Path) -> None:
    found = load(tmp_path, THREE, {}, lenient=True)

    assert words(found) == ""
    assert found.accounts["demo"].rest_url == "https://demo.tradovateapi.com"


def test_accounts_share_a_login_only_where_they_are_the_same_user_at_the_same_address(tmp_path: Path) -> None:
    second = THREE.split("  nt8:")[0].split("accounts:")[1].replace("demo:", "demo2:", 1).replace("DEMO1", "DEMO2")
    third = second.replace("demo2:", "live:").replace("environment: demo", "environment: live")
    accounts = load(tmp_path, THREE + second.lstrip("\n") + third.lstrip("\n")).accounts

    assert accounts["demo"].login == accounts["demo2"].login
    assert accounts["demo"].login != accounts["live"].login
    assert accounts["live"].real_money
    assert all("leak-me" not in account.login for account in accounts.values())


@pytest.mark.parametrize("text", ["", "accounts:\n", "accounts: 5\n", "accounts: {}\n", "- a\n",
                                  "accounts:\n  a b: {broker: x}\n", "accounts:\n  a: 5\n", "accounts:\n  a: {}\n",
                                  "accounts:\n  a: {broker: robinhood}\n", "accounts:\n  a: {broker: [x]}\n",
                                  "accounts:\n  a: {broker: crosstrade, credentials: 5}\n"])
def test_a_file_without_sound_accounts_is_a_fault_and_never_an_error(tmp_path: Path, text: str) -> None:
    found = load(tmp_path, text)

    assert not found.accounts
    assert found.faults


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert "cannot be read" in words(load_accounts(tmp_path / "none.yaml", {}))


@pytest.mark.parametrize("url", ["https://x.example", "https://10.0.0.1:8443", "http://127.0.0.1:8", "http://localhost",
                                 "http://[::1]:3", "https://[2001:db8::1]/", "http://[::ffff:127.0.0.1]"])
def test_encrypted_addresses_and_this_machine_are_taken(url: str) -> None:
    assert url_fault(url, ("https", "http")) == ""


@pytest.mark.parametrize("url", ["http://x.example", "https://u:p@x.example", "https://u@x.example",
                                 "https://x.example/a", "https://x.example?a", "ftp://x.example",
                                 "https://169.254.169.254", "http://169.254.169.254/latest", "https://[fe80::1]",
                                 "https://2852039166", "https://0x7f.1", "https://", "https://0.0.0.0",
                                 "https://224.0.0.1", "https://x.example:99999", "https://metadata.google.internal",
                                 "http://127.1", "x", "", "https://x\n.example", "https://x example", "https://x#a",
                                 "http://127.0.0.1.evil.example", "https://[::1", "https://bücher.example"])
def test_other_addresses_are_refused(url: str) -> None:
    assert url_fault(url, ("https", "http"))


# -- accounts of one log-in ----------------------------------------------------------------------------------------------


def two_of_one_login(first: str = "", second: str = "") -> str:
    """The demo account twice, with these changes."""
    one = THREE.split("  nt8:")[0]
    two = one.split("accounts:")[1].lstrip("\n").replace("demo:", "demo2:", 1).replace("DEMO1", "DEMO2")
    return one + first + (two.replace("${TV_PASS}", second) if second.startswith("${") else two + second)


def test_accounts_of_one_login_with_different_credentials_are_a_fault_that_shows_none(tmp_path: Path) -> None:
    found = load(tmp_path, two_of_one_login(second="${OTHER}"), {**ENV, "OTHER": "another-leak-me"})

    assert set(found.accounts) == {"demo"} and found.broken == {"demo2"}
    assert [fault.field for fault in found.faults] == ["accounts.demo2.credentials.password"]
    assert "the account demo," in words(found) and "leak-me" not in words(found)
    assert found.faults[0].line == 14


def test_a_budget_that_one_account_of_a_login_gives_is_that_of_all(tmp_path: Path) -> None:
    for text in (two_of_one_login(second="    budget: {per_minute: 6}\n"),
                 two_of_one_login(first="    budget: {per_minute: 6}\n"),
                 two_of_one_login("    budget: {per_minute: 6}\n", "    budget: {per_minute: 6}\n")):
        found = load(tmp_path, text)

        assert words(found) == ""
        assert {account.budget.per_minute for account in found.accounts.values()} == {6}


def test_two_budgets_for_one_login_are_a_fault(tmp_path: Path) -> None:
    found = load(tmp_path, two_of_one_login("    budget: {per_minute: 60}\n", "    budget: {per_minute: 6}\n"))

    assert set(found.accounts) == {"demo"} and found.broken == {"demo2"}
    assert [fault.field for fault in found.faults] == ["accounts.demo2.budget"]
    assert "the account demo," in words(found)


def test_what_is_two_logins_at_the_broker_is_sound_at_the_sandbox_where_it_is_one(tmp_path: Path) -> None:
    text = two_of_one_login(second="${OTHER}").replace("environment: demo", "environment: live", 1)
    environ = {**ENV, "OTHER": "another-leak-me"}

    assert words(load(tmp_path, text, environ)) == ""
    assert words(load(tmp_path, text, environ, sandbox="http://127.0.0.1:8082")) == ""


def test_rendering_compares_no_secrets(tmp_path: Path) -> None:
    assert words(load(tmp_path, two_of_one_login(second="${OTHER}"), {}, lenient=True)) == ""
