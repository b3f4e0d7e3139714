"""What holds for every alert, whatever its broker: once, in time, never silently; and the commands that tell."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from tests.e2e.running import SECRET, Running
from tests.rig import wait_for


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")


def test_twenty_identical_alerts_make_one_order(bridge: Running) -> None:
    body = json.dumps({"side": "buy", "quantity": 1, "price": 5001})
    answers: list[requests.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(bridge.post("tv_limit", body))) for _ in range(20)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.status_code for each in answers) == [200] * 19 + [202]
    orders = {each.json()["orders"][0]["id"] for each in answers}
    assert len(orders) == 1
    found = bridge.until(orders.pop(), "accepted")
    assert len(bridge.at_broker(found)) == 1
    first = next(each.json()["alert"] for each in answers if each.status_code == 202)
    assert {each.json().get("duplicate_of", first) for each in answers} == {first}


def test_the_same_id_with_another_body_is_a_conflict_and_makes_no_order(bridge: Running) -> None:
    bridge.accepted("by_id", side="buy", quantity=1, ref="fill-1")

    again = bridge.post("by_id", side="buy", quantity=2, ref="fill-1")

    assert again.status_code == 200 and again.json()["conflict"] is True


def test_one_alert_is_copied_to_several_accounts(bridge: Running) -> None:
    answer = bridge.post("copies", side="buy", quantity=1, price=5002)

    assert answer.status_code == 202
    orders = answer.json()["orders"]
    assert [each["account"] for each in orders] == ["tv", "nt-rest"]
    for each in orders:
        assert bridge.at_broker(bridge.until(each["id"], "accepted"))


def test_a_dry_run_sends_nothing_and_keeps_the_exact_calls(bridge: Running) -> None:
    found = bridge.until(bridge.send("dry", side="buy", quantity=7), "dry_run")

    assert bridge.at_broker(found) == [] and found["calls"][0]["body"]["orderQty"] == 7


def test_an_alert_too_old_at_receipt_is_listed_as_expired_and_not_resent(bridge: Running) -> None:
    answer = bridge.post("young", side="buy", quantity=1, until=ago(3600))

    assert answer.status_code == 200 and "old" in answer.json()["refused"]
    assert answer.json()["orders"][0]["state"] == "expired"
    assert bridge.show(answer.json()["orders"][0]["id"])["state"] == "expired"


def test_an_alert_from_the_future_is_refused(bridge: Running) -> None:
    answer = bridge.post("young", side="buy", quantity=1, until=ago(-120))

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "sent_at" in answer.text and "until" in answer.text


def test_an_order_rule_that_is_broken_is_a_problem_with_every_field(bridge: Running) -> None:
    answer = bridge.post("tv_cover", side="buy", quantity=0, price=5290, stop=5295)

    fields = {each["field"] for each in answer.json()["errors"]}
    assert answer.status_code == 422 and any("quantity" in each for each in fields)
    assert any("stop_loss" in each for each in fields)


def test_a_wrong_secret_and_an_unknown_template_look_alike(bridge: Running) -> None:
    wrong = requests.post(f"{bridge.url}/hook/tv_limit/{SECRET}x", data="{}", timeout=5)
    unknown = requests.post(f"{bridge.url}/hook/no_such/{SECRET}", data="{}", timeout=5)

    assert wrong.status_code == unknown.status_code == 404 and wrong.content == unknown.content


def test_readiness_liveness_and_metrics_are_served(bridge: Running) -> None:
    assert requests.get(f"{bridge.url}/healthz", timeout=5).ok
    ready = requests.get(f"{bridge.url}/readyz", timeout=5)
    assert ready.ok and ready.json()["templates"] > 50
    metrics = requests.get(f"{bridge.url}/metrics", timeout=5).text
    assert "bridge_" in metrics and SECRET not in metrics


def test_the_commands_tell_what_happened(bridge: Running) -> None:
    found = bridge.accepted("tv_oso", side="buy", quantity=1, price=5003, stop=5000, target=5010, ref="told")
    bridge.until(found["id"], "accepted", status="working")

    listed = bridge.bridge("orders", "--limit", "1")
    shown = bridge.bridge("show", found["id"])
    alerts = bridge.bridge("alerts")

    wanted = {"id", "alert", "template", "account", "broker", "kind", "symbol", "side", "quantity", "state",
              "broker_status", "reason", "broker_ids", "client_order_id", "created_at", "updated_at", "history"}
    assert wanted <= set(listed[0]) and listed[0]["id"] == found["id"]
    assert {"legs", "calls"} <= set(shown) and shown["calls"][0]["reply"]["status"] == 200
    assert any(each["id"] == found["alert"] and each["state"] == "accepted" for each in alerts)
    assert SECRET not in json.dumps([listed, shown, alerts])


def test_send_posts_to_the_running_bridge(bridge: Running) -> None:
    answer = bridge.bridge("send", "tv_limit", "--alert", "-", stdin='{"side": "buy", "quantity": 1, "price": 5004}')

    assert bridge.until(answer["orders"][0]["id"], "accepted")


def test_render_shows_the_very_calls_that_are_sent(bridge: Running) -> None:
    alert = {"side": "buy", "quantity": 1, "price": "5005.250", "stop": 5000, "target": 5010}
    found = bridge.accepted("tv_oso", **alert)

    rendered = bridge.bridge("render", "tv_oso", "--alert", "-", stdin=json.dumps(alert))

    (call,) = rendered["orders"][0]["calls"]
    sent = bridge.at_broker(found)[0]["request"]["body"]
    strip = ("clOrdId",)

    def plain(body: dict[str, Any]) -> dict[str, Any]:
        return {name: plain(value) if isinstance(value, dict) else str(value) for name, value in body.items()
                if name not in strip}

    assert plain(call["body"]) == plain(sent)
    assert "<from" in call["headers"]["Authorization"]


def test_no_secret_and_no_request_path_stands_in_the_log(bridge: Running) -> None:
    words = bridge.words()

    assert SECRET not in words and "/hook/" not in words


def test_killed_parts_come_back_and_the_next_alert_goes_through(bridge: Running) -> None:
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    ours = {name: int(pid) for pid, parent, args in rows if parent == str(bridge.process.pid)
            for name in ("worker", "receiver") if f"bridge {name}" in args}
    assert set(ours) == {"worker", "receiver"}
    for pid in ours.values():
        subprocess.run(["kill", "-9", str(pid)], check=True)

    def alive() -> bool:
        try:
            return requests.get(f"{bridge.url}/readyz", timeout=2).ok
        except requests.RequestException:
            return False

    wait_for(lambda: not alive() or True)
    wait_for(alive, 15)
    found = wait_for(lambda: _sent(bridge), 15)
    assert bridge.until(found, "accepted")


def _sent(bridge: Running) -> str | None:
    try:
        return bridge.send("tv_limit", side="buy", quantity=1, price=5006)
    except (requests.RequestException, AssertionError):
        return None


def test_ctrl_c_stops_everything_and_the_next_start_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.e2e.running import running

    folder = tmp_path_factory.mktemp("again")
    with running(folder) as first:
        order = first.send("tv_limit", side="buy", quantity=1, price=5007)
        first.until(order, "accepted")
        pids = _tree(first.process.pid)
    assert not [pid for pid in pids if _runs(pid)]

    second = Running(folder)
    try:
        assert second.show(order)["state"] == "accepted"
    finally:
        second.stop()


def _tree(root: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
    found = [root]
    for pid in found:
        found += [child for child, parent in rows if parent == pid]
    return found


def _runs(pid: int) -> bool:
    return subprocess.run(["kill", "-0", str(pid)], capture_output=True, check=False).returncode == 0


def test_a_taken_port_is_named_with_its_setting(bridge: Running) -> None:
    done = subprocess.run([sys.executable, "-m", "bridge", "up", "--sandbox"], cwd=bridge.folder, timeout=20,
                          env={**bridge.environ, "BRIDGE_DATA": str(bridge.folder / "other")}, capture_output=True,
                          text=True, check=False)

    assert done.returncode != 0 and "BRIDGE_BIND" in done.stderr and "Traceback" not in done.stderr
