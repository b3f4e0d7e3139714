"""`bridge replay`: alerts of then through the templates of now, held against what was sent; and what is sent again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from bridge import resend
from bridge.alert import read_body
from bridge.call import Call
from bridge.cli import main
from bridge.difference import addresses, differences
from bridge.intake import decide, invalid
from bridge.ledger import Ledger
from bridge.ledger.keys import alert_fields, key, order_args
from bridge.load import load, settings_of
from bridge.order import Order
from bridge.preview import calls_of
from bridge.record import Delivery, NewOrder
from bridge.replay import Case, Judge, Selection, cases_of, lines_of, replay, summary_of
from bridge.template import Template
from bridge.views import call_record
from tests.serving import SECRET, free_port

ACCOUNTS = """
accounts:
  tv: {broker: tradovate, environment: sandbox, account: DEMO123456, account_id: 123456}
  nt: {broker: crosstrade, environment: sandbox, account: Sim101}
  pf: {broker: pocketful, environment: sandbox, client_id: YG1234, options: {stop_loss_value: price, product: MIS}}
  live: {broker: tradovate, environment: live, account: "7", account_id: 7, credentials: {name: "${T}", password: "${T}", cid: "${T}", sec: "${T}", device_id: "${T}"}}
"""
FIELDS = "alert: {do: text, side: {type: side, optional: true}, size: {type: integer, optional: true}, price: {type: number, optional: true}}\n"
ENTRY = f"account: tv\n{FIELDS}" + """
order:
  kind: oso
  when: 'alert.do == "enter"'
  symbol: ESZ6
  side: "{{ alert.side }}"
  quantity: "{{ alert.size }}"
  type: limit
  price: "{{ alert.price | tick(0.25) }}"
  stop_loss: {points: 5}
"""
OTHERS = {
    "oco": f"account: nt\n{FIELDS}order: {{kind: oco, symbol: ES 12-26, side: sell, quantity: '{{{{ alert.size }}}}', type: limit, "
           "price: 5400, other: {type: stop, stop_price: 5200}}\n",
    "shares": f"account: pf\n{FIELDS}order: {{kind: oso, symbol: IDEA-EQ, side: buy, quantity: '{{{{ alert.size }}}}', type: limit, "
              "price: 13, stop_loss: {price: 12}, take_profit: {price: 15}, options: {exchange: NSE, instrument_token: '14366'}}\n",
    "exit": f"account: tv\n{FIELDS}order: {{kind: close, symbol: ESZ6}}\n",
    "both": f"account: [tv, nt]\n{FIELDS}order: {{kind: plain, symbol: '{{{{ \"ES1!\" | contract }}}}', side: buy, quantity: 1, type: market}}\n",
}
LONG = {"do": "enter", "side": "buy", "size": 1, "price": 5300}


class Desk:
    """A folder with accounts and templates, and a ledger in which alerts are put on record as the parts would."""

    def __init__(self, folder: Path, ledger: Ledger, url: str) -> None:
        self.folder, self.ledger = folder, ledger
        (folder / "templates").mkdir()
        (folder / "accounts.yaml").write_text(ACCOUNTS)
        for name, text in {"enter": ENTRY, **OTHERS}.items():
            self.write(name, text)
        self.environ = {"BRIDGE_TEMPLATES": str(folder / "templates"), "BRIDGE_ACCOUNTS": str(folder / "accounts.yaml"),
                        "BRIDGE_REDIS_URL": url, "BRIDGE_DATA": str(folder / "data"), "BRIDGE_SECRET": SECRET,
                        "BRIDGE_BIND": f"127.0.0.1:{free_port()}"}
        self.redis = redis.Redis.from_url(url)

    def write(self, name: str, text: str) -> None:
        (self.folder / "templates" / f"{name}.yaml").write_text(text)

    def template(self, name: str) -> Template:
        return load(settings_of(self.environ), self.environ, lenient=True).templates.loaded[name]

    def record(self, name: str, body: Mapping[str, Any] | str, *, nonce: str = "1", sent: bool = True) -> str:
        """An alert on record, with the calls of its orders unless they were never sent; its id."""
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        template = self.template(name)
        now = datetime.now(UTC)
        delivery = decide(template, read_body(raw), raw, home=template.accounts[0], nonce=nonce, now=now)
        return self.put(delivery, template, now, sent=sent)

    def put(self, delivery: Delivery, template: Template, now: datetime, *, sent: bool = True) -> str:
        found = self.ledger.enqueue(delivery)
        if sent and not found.duplicate_of:
            pipe = self.redis.pipeline(transaction=False)
            for new in delivery.orders:
                for call in calls_of(new, template.known_accounts[new.account], now):
                    pipe.rpush(key(new.account, "calls", new.id), call_record(as_sent(call), 1))
            pipe.execute()
        return found.alert

    def replayed(self, *ids: str, **chosen: Any) -> Any:
        return replay(self.environ, Selection(ids=ids, **chosen), lambda cases: cases)

    def bridge(self, *arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, ["replay", *arguments], input=stdin, env=self.environ)


def as_sent(call: Call) -> Call:
    """What was really sent where a rehearsal has `<from: …>`."""
    def real(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: real(each) for name, each in value.items()}
        return 4711 if value == "<from: counter>" else value.replace("<from: earlier order>", "99") if isinstance(value, str) else value

    return replace(call, body=real(call.body), url=str(real(call.url)))


@pytest.fixture
def desk(tmp_path: Path, ledger: Ledger, redis_url: str) -> Iterator[Desk]:
    yield Desk(tmp_path, ledger, redis_url)


# -- the difference --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "body"), [("enter", LONG), ("oco", LONG), ("shares", LONG), ("exit", LONG), ("both", LONG)])
def test_what_has_not_changed_is_the_same_request_by_request(desk: Desk, name: str, body: dict[str, Any]) -> None:
    alert = desk.record(name, body)

    (judged,) = desk.replayed(alert).judged

    assert judged.same is True and judged.state == "accepted" and all(calls for _, calls in judged.orders)


def test_a_changed_field_is_told_with_what_it_was_and_what_it_is(desk: Desk) -> None:
    alert = desk.record("enter", LONG)
    desk.write("enter", ENTRY.replace("points: 5", "points: 7").replace("tick(0.25)", "tick(0.25) + 1"))

    found = desk.replayed(alert)

    (difference,) = found.judged[0].differences
    assert difference["request"] == "placeoso" and difference["change"] == "changed"
    assert difference["fields"] == [{"field": "body.price", "then": 5300, "now": 5301},
                                    {"field": "body.bracket1.stopPrice", "then": 5295, "now": 5294}]
    assert summary_of(found) == {"alerts": 1, "states": {"accepted": 1}, "orders": 1, "same": 0, "changed": 1,
                                 "bad_rows": 0, "addresses": []}
    assert "        - body.price: 5300" in list(lines_of(found)) and "        + body.price: 5301" in list(lines_of(found))


def test_a_request_that_is_gone_and_an_order_that_is_new_are_told(desk: Desk) -> None:
    half, whole = desk.record("oco", LONG), desk.record("both", LONG)
    desk.write("oco", OTHERS["oco"].replace("kind: oco", "kind: plain").replace(", other: {type: stop, stop_price: 5200}", ""))
    desk.write("both", OTHERS["both"].replace("[tv, nt]", "[tv, live]"))

    first, second = desk.replayed(half, whole).judged

    assert any(each.get("what") == "request removed" for each in first.differences)
    assert [(each["change"], each["account"]) for each in second.differences] == [("removed", "nt"), ("added", "live")]


def test_an_alert_that_is_skipped_now_lost_its_orders(desk: Desk) -> None:
    alert = desk.record("enter", LONG)
    desk.write("enter", "when: alert.size > 1\n" + ENTRY)

    (judged,) = desk.replayed(alert).judged

    assert judged.state == "skipped" and [each["change"] for each in judged.differences] == ["alert", "removed"]
    assert judged.differences[0]["fields"] == [{"field": "state", "then": "accepted", "now": "skipped"}]


def test_what_was_never_sent_is_compared_by_its_orders(desk: Desk) -> None:
    alert = desk.record("enter", LONG, sent=False)
    desk.write("enter", ENTRY.replace('"{{ alert.size }}"', "3"))

    (judged,) = desk.replayed(alert).judged

    assert [(each["request"], each["fields"]) for each in judged.differences] == [
        (None, [{"field": "quantity", "then": 1, "now": 3}])]


def test_dry_run_then_and_armed_now_is_a_difference(desk: Desk) -> None:
    desk.write("enter", "dry_run: true\n" + ENTRY)
    alert = desk.record("enter", LONG)
    desk.write("enter", ENTRY)

    (judged,) = desk.replayed(alert).judged

    assert judged.differences[0]["fields"] == [{"field": "dry_run", "then": True, "now": False}]


def test_another_address_is_told_beside_the_differences(desk: Desk) -> None:
    alert = desk.record("enter", LONG)
    (desk.folder / "accounts.yaml").write_text(ACCOUNTS.replace(
        "environment: sandbox, account: DEMO123456", "environment: sandbox, base_url: http://127.0.0.1:9, account: DEMO123456"))

    found = desk.replayed(alert)

    assert found.judged[0].same is True
    assert summary_of(found)["addresses"] == [
        {"account": "tv", "then": "http://127.0.0.1:8082", "now": "http://127.0.0.1:9"}]


@pytest.mark.parametrize(("then", "now", "fields"), [
    ({"a": 1, "b": [1, 2]}, {"a": Decimal("1.0"), "b": (1, 2)}, []),
    ({"a": True}, {"a": 1}, [{"field": "body.a", "then": True, "now": 1}]),
    ({"a": "x-77-y"}, {"a": "x-<from: placeorder>-y"}, []),
    ({"a": 4711}, {"a": "<from: counter>"}, []),
    ({"a": "x"}, {"a": "y <from: counter>"}, [{"field": "body.a", "then": "x", "now": "y <from: counter>"}]),
    ({"a": "x-"}, {"a": "x-<from: counter>"}, [{"field": "body.a", "then": "x-", "now": "x-<from: counter>"}]),
    ({"a": {"b": 1}}, {"a": {"c": 1}}, [{"field": "body.a.b", "then": 1}, {"field": "body.a.c", "now": 1}]),
    ({"a": [1]}, {"a": [1, 2]}, [{"field": "body.a.1", "now": 2}]),
    (None, {}, [{"field": "body", "then": None, "now": {}}]),
])
def test_bodies_are_compared_to_the_last_digit(then: Any, now: Any, fields: list[Any]) -> None:
    order = Order(kind="plain", symbol="ESZ6", side="buy", quantity=Decimal(1), type="market", time_in_force="day")
    new = NewOrder(id="o1", index=0, account="tv", broker="tradovate", order=order, max_age_ms=1)
    call = Call(operation="placeorder", method="POST", url="http://x/1", step="entry", write=True, body=now)
    recorded = {"id": "o1", "account": "tv", "at_receipt": "queued", "state": "accepted", "reason": "", "broker": "tradovate",
                "order": order.to_json(), "dry_run": False, "calls": [{**replace(call, body=then).to_json(), "reply": None}]}

    found = differences({"orders": [recorded]}, [(new, (call,))])

    assert [each for difference in found for each in difference["fields"]] == fields
    assert addresses({"orders": [recorded]}, [(new, (call,))]) == set()


def test_what_was_undone_or_repeated_does_not_count_as_another_request(desk: Desk) -> None:
    alert = desk.record("enter", LONG)
    (order,) = [each for each in desk.ledger.orders() if each["alert"] == alert]
    name = key("tv", "calls", order["id"])
    again = desk.redis.lindex(name, -1)
    undo = Call(operation="cancelorder", method="POST", url="http://x/v1/order/cancelorder", step="undo.entry", write=True, body={})
    look = Call(operation="command/list", method="GET", url="http://x/v1/command/list", step="look", write=False)
    desk.redis.rpush(name, again, call_record(undo, 2), call_record(look, 3, look=True))

    assert desk.replayed(alert).judged[0].same is True


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_alerts_are_chosen_by_id_time_template_and_number(desk: Desk) -> None:
    first, second = desk.record("enter", LONG), desk.record("oco", LONG)
    third = desk.record("enter", {**LONG, "size": 2})

    def chosen(**by: Any) -> list[str]:
        return [case.label for case in cases_of(desk.environ, Selection(**by))[0]]

    past, future = ((datetime.now(UTC) + timedelta(hours=hours)).isoformat() for hours in (-1, 1))
    assert chosen() == [first, second, third]
    assert chosen(limit=2) == [second, third] and chosen(limit=1, template="oco") == [second]
    assert chosen(template="enter") == [first, third] and chosen(since=past, until=future) == [first, second, third]
    assert chosen(since=future) == [] and chosen(until=past) == []
    assert chosen(ids=(third, first, third)) == [first, third]


def test_a_template_that_was_renamed_is_named_and_takes_its_alerts(desk: Desk) -> None:
    alert = desk.record("enter", LONG)
    (desk.folder / "templates/enter.yaml").rename(desk.folder / "templates/entry.yaml")

    gone, renamed = desk.replayed(alert), desk.replayed(alert, template="entry")

    assert gone.judged[0].state == "no_template" and not gone.sound
    assert renamed.judged[0].same is True


def test_a_template_that_does_not_load_says_why(desk: Desk) -> None:
    alert = desk.record("enter", LONG)
    desk.write("enter", ENTRY.replace("kind: oso", "kind: osso"))

    (judged,) = desk.replayed(alert).judged

    assert judged.state == "no_template" and any("osso" in str(fault) for fault in judged.faults)


def test_copies_are_copies_again(desk: Desk) -> None:
    first = desk.record("enter", LONG)
    copy = desk.record("enter", LONG, nonce="2")
    # With an id of its own each would make an order now.
    both = desk.replayed(first, copy)
    alone = desk.replayed(copy)

    assert [each.state for each in both.judged] == ["accepted", "duplicate"] and all(each.same for each in both.judged)
    assert alone.judged[0].state == "duplicate" and alone.judged[0].same


def test_an_alert_that_was_wrong_then_may_be_wrong_now_without_a_fault(desk: Desk) -> None:
    template, raw, now = desk.template("enter"), b'{"do": "enter"', datetime.now(UTC)
    with pytest.raises(Exception, match="JSON") as caught:
        read_body(raw)
    alert = desk.put(invalid("enter", "tv", raw, None, nonce="9", now=now, error=caught.value), template, now)

    found = desk.replayed(alert)

    assert found.judged[0].state == "invalid" and found.judged[0].same and found.sound


# -- the command -------------------------------------------------------------------------------------------------------

LOG = "Alert ID,Ticker,Name,Description,Time\n"


def test_the_command_tells_the_differences_and_counts(desk: Desk) -> None:
    alert, other = desk.record("enter", LONG), desk.record("oco", LONG)
    desk.write("enter", ENTRY.replace("kind: oso", "kind: oso\n  time_in_force: gtc"))

    result = desk.bridge("--all")

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{alert}  ") and lines[0].endswith("enter  accepted, CHANGED")
    assert "        - body.timeInForce: Day" in lines and "        + body.timeInForce: GTC" in lines
    assert any(line.startswith(f"{other}  ") and line.endswith("oco  accepted, as then") for line in lines)
    assert lines[-2:] == ["2 alerts replayed: 2 accepted", "1 as they were then, 1 changed"]


def test_the_command_prints_everything_as_data(desk: Desk) -> None:
    alert = desk.record("enter", LONG)

    found = json.loads(desk.bridge(alert, "--json").stdout)

    (each,) = found["alerts"]
    assert each["alert"] == alert and each["same"] is True and each["differences"] == []
    assert each["then"]["orders"][0]["state"] == "queued" and each["now"]["orders"][0]["calls"][0]["body"]["orderQty"] == 1
    assert found["summary"]["alerts"] == 1


def test_a_log_goes_through_a_template_and_its_bad_rows_are_named(desk: Desk, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = ['1,ES1!,a,"{""do"": ""enter"", ""side"": ""sell"", ""size"": 2, ""price"": ""5300.3""}",2026-11-20T15:30:00Z',
            "2,ES1!,a,,2026-11-20T15:29:00Z", '3,ES1!,a,"{""do"": ""wait""}",2026-11-20T15:28:00Z']
    log.write_text(LOG + "\n".join(rows) + "\n")

    result = desk.bridge("--csv", str(log), "--template", "enter")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "line 4  2026-11-20 15:28:00  enter  skipped: no order's `when` is true",
        "line 2  2026-11-20 15:30:00  enter  accepted", "    tv: oso sell 2 ESZ6 limit 5300.25",
        f"{log}:3:1: this row is left out: its Description is empty: the alert had no message", "",
        "2 alerts replayed: 1 accepted, 1 skipped", "1 row of the log could not be read"]


def test_a_message_that_fired_again_within_the_window_is_a_copy(desk: Desk) -> None:
    body = '"{""do"": ""enter"", ""side"": ""buy"", ""size"": 2, ""price"": 5300}"'
    rows = [f"1,ES1!,a,{body},2026-11-20T15:{minute}Z" for minute in ("30:00", "30:29", "31:00")]

    found = json.loads(desk.bridge("--csv", "-", "--template", "enter", "--json", stdin=LOG + "\n".join(rows)).stdout)

    assert [each["now"]["state"] for each in found["alerts"]] == ["accepted", "duplicate", "accepted"]
    assert [each["line"] for each in found["alerts"]] == [2, 3, 4]


@pytest.mark.parametrize("arguments", [
    (), ("a1", "--csv", "-", "--template", "enter"), ("--all", "--limit", "0"), ("--all", "--send"),
    ("--all", "--send", "--yes", "--now", "2026-11-20T15:30:00Z")])
def test_wrong_usage_ends_with_2(desk: Desk, arguments: tuple[str, ...]) -> None:
    assert desk.bridge(*arguments).exit_code == 2


@pytest.mark.parametrize(("arguments", "words"), [
    (("anobody",), "there is no alert 'anobody'"), (("--since", "yesterday"), "--since 'yesterday'"),
    (("--csv", "-"), "--csv needs --template"), (("--csv", "/no/such", "--template", "enter"), "/no/such"), (("--csv", "-", "--template", "nobody"), "no template 'nobody'")])
def test_a_wrong_choice_ends_with_1_and_says_what_is_wrong(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    result = desk.bridge(*arguments, stdin=LOG)

    assert result.exit_code == 1 and words in result.stderr


def test_without_a_running_bridge_it_ends_with_3(desk: Desk) -> None:
    desk.environ["BRIDGE_REDIS_URL"] = ""

    assert desk.bridge("--all").exit_code == 3


def test_no_secret_gets_out(desk: Desk) -> None:
    alert = desk.record("enter", {**LONG, "secret": "leak-me", "url": SECRET})
    desk.write("enter", ENTRY.replace("kind: oso", f"kind: oso\n  ref: {SECRET}"))

    for result in (desk.bridge(alert), desk.bridge(alert, "--json")):
        assert result.exit_code == 0
        assert "leak-me" not in result.output and SECRET not in result.output and "***" in result.output


# -- sending again -----------------------------------------------------------------------------------------------------


def plan(desk: Desk, **chosen: Any) -> resend.Plan:
    return resend.Resender(desk.environ, Selection(**chosen)).plan()


def log_of(*rows: tuple[dict[str, Any], datetime]) -> bytes:
    cells = [(json.dumps(body).replace('"', '""'), at.isoformat()) for body, at in rows]
    return (LOG + "".join(f'1,T,N,"{body}",{at}\n' for body, at in cells)).encode()


def test_what_is_too_old_by_its_own_time_is_refused(desk: Desk) -> None:
    now = datetime.now(UTC)

    found = plan(desk, csv=log_of((LONG, now - timedelta(seconds=70)), ({**LONG, "size": 2}, now)), template="enter")

    assert [each.orders[0][0].order.quantity for each in found.to_send] == [2]
    assert [each.reason.partition(" ago")[0].rstrip(".0123456789 s") for each in found.refused] == ["too old: it came"]
    assert found.exit_code == 1


def test_a_template_that_reads_the_time_decides_by_it(desk: Desk) -> None:
    now = datetime.now(UTC)
    desk.write("enter", "sent_at: '{{ alert.at }}'\n" + ENTRY.replace("{do: text,", "{do: text, at: time,"))
    old = now - timedelta(hours=2)

    found = plan(desk, csv=log_of(({**LONG, "at": now.isoformat()}, old), ({**LONG, "at": old.isoformat()}, now)), template="enter")

    assert [each.case.at for each in found.to_send] == [old]
    assert found.refused[0].reason.startswith("too old: sent 2 h")


def test_a_log_without_times_sends_nothing_that_has_no_time_of_its_own(desk: Desk) -> None:
    found = plan(desk, csv=b'Description\n"{""do"": ""enter"", ""side"": ""buy"", ""size"": 2, ""price"": 5300}"\n', template="enter")

    assert found.to_send == [] and "no time" in found.refused[0].reason


def test_the_plan_says_what_where_and_which_accounts_move_real_money(desk: Desk) -> None:
    desk.write("enter", ENTRY.replace("account: tv", "account: [tv, live]"))
    alert = desk.record("enter", LONG)

    found = plan(desk, ids=(alert,))

    lines = list(resend.plan_lines(found, "http://127.0.0.1:1"))
    assert "    live: oso buy 1 ESZ6 limit 5300" in lines
    assert any("sent again it makes NEW orders" in line for line in lines)
    assert any("1 alert to http://127.0.0.1:1" in line and "is a duplicate, and makes nothing" in line for line in lines)
    assert "  live (tradovate, live, 7): REAL MONEY CAN MOVE" in lines
    assert resend.real_accounts(found) == ["live"]


def test_an_alert_whose_keys_were_masked_is_not_sent_for_it_would_not_be_known_for_a_copy(desk: Desk) -> None:
    masked, whole = desk.record("enter", {**LONG, "apikey": "leak-me"}), desk.record("enter", LONG)

    found = plan(desk, ids=(masked, whole))

    assert [each.case.label for each in found.to_send] == [whole]
    assert "not be known for the same alert" in found.refused[0].reason
    assert desk.replayed(masked).judged[0].same is True


def test_skipped_and_wrong_alerts_are_not_sent(desk: Desk) -> None:
    now = datetime.now(UTC)

    found = plan(desk, csv=log_of(({"do": "wait"}, now), ({**LONG, "size": 0}, now)), template="enter")

    assert [each.state for each in found.refused] == ["skipped", "invalid"] and found.to_send == []


def test_a_receiver_that_is_not_there_ends_with_3_and_nothing_is_called_sent(desk: Desk) -> None:
    alert = desk.record("enter", LONG)

    result = desk.bridge(alert, "--send", "--yes", "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 3 and found["sent"] == [] and "nothing answers" in found["stopped"]
    assert SECRET not in result.output


def test_time_that_passes_before_yes_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    resender = resend.Resender(desk.environ, Selection(ids=(desk.record("enter", LONG),)))
    found = resender.plan()
    monkeypatch.setattr(resend, "present", lambda: datetime.now(UTC) + timedelta(seconds=61))

    resender.send(found, lambda cases: cases)

    assert found.sent == [] and found.refused[0].reason.startswith("too old")


# -- many --------------------------------------------------------------------------------------------------------------


def test_thousands_are_replayed_at_half_the_rate_of_the_bare_mapping_and_every_change_is_found(desk: Desk) -> None:
    count = 5_000
    made = many(desk, count)
    desk.write("enter", ENTRY.replace("points: 5", 'points: "{{ 6 if alert.size == 3 else 5 }}"'))
    templates = {name: desk.template(name) for name in ("enter", "oco", "shares")}
    began = time.process_time()
    for name, body, at in made:
        template = templates[name]
        delivery = decide(template, read_body(body), body, home=template.accounts[0], nonce="n", now=at)
        for new in delivery.orders:
            calls_of(new, template.known_accounts[new.account], at)
    bare = time.process_time() - began
    shown: list[Case] = []

    def progress(cases: Sequence[Case]) -> Iterator[Case]:
        for case in cases:
            shown.append(case)
            yield case

    began = time.process_time()
    found = replay(desk.environ, Selection(), progress)
    text = list(lines_of(found))
    took = time.process_time() - began

    changed = [each for each in found.judged if not each.same]
    expected = [body for name, body, _ in made if name == "enter" and json.loads(body)["size"] == 3]
    assert len(found.judged) == len(shown) == count and found.sound
    assert sorted(each.case.body for each in changed) == sorted(expected) and expected
    assert {tuple(field["field"] for field in difference["fields"]) for each in changed
            for difference in each.differences or ()} == {("body.bracket1.stopPrice",)}
    assert text[-1] == f"{count - len(expected):,} as they were then, {len(expected):,} changed"
    assert took < 2 * bare + 0.5, f"{count / took:.0f} a second, the bare mapping {count / bare:.0f}"


def many(desk: Desk, count: int) -> list[tuple[str, bytes, datetime]]:
    """Alerts on record, each unlike the others, written as the scripts write them but all at once."""
    now, made = datetime.now(UTC), []
    pipe = desk.redis.pipeline(transaction=False)
    templates = {name: desk.template(name) for name in ("enter", "oco", "shares")}
    for name in templates:
        desk.ledger.enqueue(replace(_decided(templates[name], b'{"do": "enter", "side": "buy", "size": 9, "price": 9}', now), orders=()))
    desk.redis.delete(*(key(name, "alerts") for name in ("tv", "nt", "pf")))
    for number in range(count):
        name = ("enter", "enter", "enter", "oco", "shares")[number % 5]
        body = json.dumps({"do": "enter", "side": ("buy", "sell")[number // 5 % 2], "size": 1 + number % 7,
                           "price": str(Decimal(5000) + Decimal(number) / 4)}).encode()
        delivery = _decided(templates[name], body, now)
        received = int(now.timestamp() * 1000) + number
        pipe.hset(key(delivery.home, "alert", delivery.id), mapping={**alert_fields(delivery, half=False), "received": received})
        pipe.zadd(key(delivery.home, "alerts"), {delivery.id: received * 1000})
        for new in delivery.orders:
            pipe.execute_command("HSET", key(new.account, "order", new.id), *order_args(delivery, [new])[2:])
            for call in calls_of(new, templates[name].known_accounts[new.account], now):
                pipe.rpush(key(new.account, "calls", new.id), call_record(as_sent(call), 1))
        made.append((name, body, now))
    pipe.execute()
    return made


def _decided(template: Template, body: bytes, now: datetime) -> Delivery:
    return decide(template, read_body(body), body, home=template.accounts[0], nonce="n", now=now)


def test_a_judge_remembers_only_what_made_orders(desk: Desk) -> None:
    judge = Judge(desk.environ, Selection(template="enter", ids=("x",)))
    now = datetime.now(UTC)

    def case(label: str) -> Case:
        return Case(label=label, template="enter", body=b'{"do": "wait"}', at=now)

    assert [judge.judge(case(label), now).state for label in "ab"] == ["skipped", "skipped"]
