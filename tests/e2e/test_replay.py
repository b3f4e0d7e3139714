"""`bridge replay` beside a running Bridge: what was really sent is what is compared, and `--send` goes the webhook's way."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.e2e.running import SECRET, Running

CELLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tv_limit", {"side": "buy", "quantity": 1, "price": 5001}),
    ("tv_oso", {"side": "buy", "quantity": 1, "price": 5001.25, "stop": 5000, "target": 5010, "ref": "seen"}),
    ("tv_strategy", {"side": "sell", "quantity": 1}),
    ("nt_oco", {"side": "sell", "quantity": 1, "price": 5400, "stop": 5200}),
    ("ws_limit", {"side": "buy", "quantity": 2, "price": 5001}),
    ("pf_oso", {"side": "buy", "quantity": 1, "price": 13, "stop": 12, "target": 15}),
    ("pa_cover", {"side": "buy", "quantity": 1, "price": 13, "stop": 0.5}),
    ("dry", {"side": "buy", "quantity": 7}),
    ("tv_cancel", {"ref": "seen"}),
    ("nt_close", {}),
    ("pf_close", {}),
)


def ended(bridge: Running, answer: Any) -> str:
    """The alert of an answer, once its orders are done with."""
    found = answer.json()
    for order in found["orders"]:
        bridge.until(order["id"], "accepted", "rejected", "dry_run", "cancelled")
    return str(found["alert"])


def replay(bridge: Running, *arguments: str, code: int = 0, stdin: str | None = None, templates: Path | None = None) -> Any:
    environ = {**bridge.environ, **({"BRIDGE_TEMPLATES": str(templates)} if templates else {})}
    done = subprocess.run([sys.executable, "-m", "bridge", "replay", *arguments, "--json"], cwd=bridge.folder, env=environ,
                          capture_output=True, text=True, input=stdin, timeout=30, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return json.loads(done.stdout)


def log(*rows: tuple[dict[str, Any], datetime]) -> str:
    return "Alert ID,Ticker,Name,Description,Time\n" + "".join(
        '1,ES1!,a,"' + json.dumps(body).replace('"', '""') + f'",{at:%Y-%m-%dT%H:%M:%SZ}\n' for body, at in rows)


def placed(bridge: Running, quantity: int) -> list[dict[str, Any]]:
    """The witness: orders of this quantity that reached the sandbox."""
    return [row for row in bridge.control("orders") if float(row["quantity"]) == quantity and not row["parent_id"]]


def test_what_really_was_sent_is_the_same_as_what_would_be_sent_now(bridge: Running) -> None:
    alerts = [ended(bridge, bridge.post(name, **fields)) for name, fields in CELLS]

    found = replay(bridge, *alerts)

    assert [(each["template"], each["same"], each["differences"]) for each in found["alerts"]] == [
        (name, True, []) for name, _ in CELLS]
    assert found["summary"]["same"] == len(CELLS) and found["summary"]["addresses"] == []


def test_an_edit_is_seen_as_the_difference_that_it_makes_at_the_broker(bridge: Running, tmp_path: Path) -> None:
    alert = ended(bridge, bridge.post("tv_limit", side="buy", quantity=3, price=5002))
    templates = tmp_path / "templates"
    shutil.copytree(bridge.folder / "templates", templates)
    edited = templates / "tv_limit.yaml"
    edited.write_text(edited.read_text().replace('quantity: "{{ alert.quantity }}"', 'quantity: "{{ alert.quantity * 2 }}"'))

    (each,) = replay(bridge, alert, templates=templates)["alerts"]

    assert [(found["request"], found["fields"]) for found in each["differences"]] == [
        ("placeorder", [{"field": "body.orderQty", "then": 3, "now": 6}])]


def test_send_again_within_the_window_is_a_duplicate_and_makes_nothing(bridge: Running) -> None:
    alert = ended(bridge, bridge.post("tv_limit", side="buy", quantity=31, price=5002))

    found = replay(bridge, alert, "--send", "--yes", code=1)

    assert found["sent"][0]["state"] == "duplicate" and found["sent"][0]["answer"]["duplicate_of"] == alert
    assert len(placed(bridge, 31)) == 1


def test_send_makes_an_order_of_what_is_fresh_and_refuses_what_is_too_old(bridge: Running) -> None:
    now = datetime.now(UTC)
    fields = {"side": "buy", "price": 5003}
    rows = log(({**fields, "quantity": 33}, now), ({**fields, "quantity": 34}, now - timedelta(hours=1)))

    found = replay(bridge, "--csv", "-", "--template", "tv_limit", "--send", "--yes", code=1, stdin=rows)

    assert [each["state"] for each in found["sent"]] == ["accepted"] and found["summary"]["too_old"] == 1
    bridge.until(found["sent"][0]["answer"]["orders"][0]["id"], "accepted")
    assert len(placed(bridge, 33)) == 1 and placed(bridge, 34) == []


def at_terminal(bridge: Running, answer: str, *arguments: str) -> tuple[int, str]:
    """The command at a terminal, where a person answers its question; its exit code and all that was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "bridge", "replay", *arguments], cwd=bridge.folder, env=bridge.environ,
                               stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown, ends_at = "", time.monotonic() + 30
    try:
        while time.monotonic() < ends_at:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                found = os.read(ours, 65536)
            except OSError:  # it has ended
                break
            shown += found.decode(errors="replace")
            if answer and "[y/N]" in shown:
                os.write(ours, f"{answer}\n".encode())
                answer = ""
        return process.wait(10), shown
    finally:
        process.kill()
        os.close(ours)


def test_at_a_terminal_it_asks_first_and_no_sends_nothing(bridge: Running, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(log(({"side": "buy", "quantity": 35, "price": 5004}, datetime.now(UTC))))

    code, shown = at_terminal(bridge, "n", "--csv", str(file), "--template", "tv_limit", "--send")

    assert code == 0 and "tv: plain buy 35 ESZ6 limit 5004" in shown and "Send? [y/N]" in shown and "0 alerts sent" in shown
    assert placed(bridge, 35) == []
    assert "paper, no real money moves" in shown and SECRET not in shown


def test_at_a_terminal_yes_sends_and_tells_what_became_of_it(bridge: Running, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(log(({"side": "buy", "quantity": 36, "price": 5004}, datetime.now(UTC))))

    code, shown = at_terminal(bridge, "y", "--csv", str(file), "--template", "tv_limit", "--send")

    assert code == 0 and "HTTP 202 accepted" in shown and "1 alert sent" in shown
    order = next(each for each in bridge.ledger.orders() if each["quantity"] == 36)
    bridge.until(order["id"], "accepted")
    assert len(placed(bridge, 36)) == 1


def test_long_work_shows_its_progress(bridge: Running, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    began = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    file.write_text(log(*(({"side": "buy", "quantity": 1 + number, "price": 5004}, began + timedelta(seconds=number))
                          for number in range(300))))

    code, shown = at_terminal(bridge, "", "--csv", str(file), "--template", "tv_limit")

    assert code == 0 and "replaying" in shown and "300/300" in shown and "300 alerts replayed: 300 accepted" in shown
