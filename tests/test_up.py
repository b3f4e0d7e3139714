"""`bridge up`: one command, everything runs; what dies comes back; nothing is left when it ends, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.serving import ROOT, SECRET, Hook, end, environment, moment
from tests.wait import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")


@dataclass
class Up:
    """A running `bridge up` and what it said when it was ready."""

    process: subprocess.Popen[bytes]
    said: dict[str, Any]
    environ: Mapping[str, str]
    log: Path

    @property
    def hook(self) -> Hook:
        return Hook(int(self.said["receiver"].rpartition(":")[2]), self.log)

    def url_of(self, template: str) -> str:
        return next(str(each["url"]) for each in self.said["templates"] if each["name"] == template)

    def send(self, price: str = "5300.25") -> dict[str, Any]:
        """An alert that makes an order, through the printed URL."""
        path = self.url_of("es_breakout").removeprefix(self.said["receiver"]).replace("$BRIDGE_SECRET", SECRET)
        answer = self.hook.post(path, {"ticker": "ES1!", "action": "buy", "contracts": 1, "price": price,
                                       "time": moment()})
        assert answer.status == 202, answer.raw
        found: dict[str, Any] = answer.json
        return found

    def at_the_broker(self) -> set[str]:
        try:
            with urllib.request.urlopen(f"{self.said['sandbox']}/_control/orders", timeout=5) as answer:
                return {order["client_order_id"] for order in json.load(answer)}
        except OSError:
            return set()  # it was killed, and is on its way back

    def bridge(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "bridge", *arguments], env=dict(self.environ), input=stdin, text=True,
                              capture_output=True, cwd=ROOT, timeout=30, check=False)

    def process_id(self, name: str) -> int | None:
        """The id of a part that runs now."""
        for child in children(self.process.pid):
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue  # it has ended meanwhile
            if (name == "valkey" and "--unixsocket" in line) or (len(line) > 3 and line[1:4] == ["-m", "bridge", name]):
                return child
        return None


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if len(words) > 1 and words[1] == str(parent) and words[0] != "Z":
            found.append(int(entry.name))
    return found


def family(parent: int) -> list[int]:
    """A process's children and theirs."""
    return [each for child in children(parent) for each in (child, *family(child))]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Up]:
    environ = environment(folder, **{"bind": "127.0.0.1:0", "sandbox_bind": "127.0.0.1:0",
                                     "templates": str(ROOT / "templates"), "accounts": str(ROOT / "accounts.yaml"),
                                     **settings})
    log = folder / "log"
    with log.open("ab") as errors:
        process = subprocess.Popen([sys.executable, "-m", "bridge", "up", "--sandbox", "--json"], env=environ, cwd=ROOT,
                                   stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"it did not start:\n{log.read_text()}"
        said = json.loads(line)
        environ |= {"BRIDGE_BIND": said["receiver"].removeprefix("http://")}
        yield Up(process, said, environ, log)
    finally:
        process.stdout.close()
        end(process)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up"), lease="3s", call_timeout="1s") as found:
        yield found


# -- it works --------------------------------------------------------------------------------------------------------


def test_every_shipped_template_has_its_webhook(up: Up) -> None:
    assert {each["name"] for each in up.said["templates"]} == {path.stem for path in (ROOT / "templates").glob("*.yaml")}
    assert up.said["faults"] == [] and not any(account["real_money"] for account in up.said["accounts"])


@pytest.mark.skipif(not shutil.which("curl"), reason="the printed line needs curl")
def test_the_printed_line_makes_an_order_that_reaches_the_broker(up: Up) -> None:
    answer = subprocess.run(["sh", "-c", up.said["try"]], capture_output=True, text=True, timeout=20, check=True)

    order = json.loads(answer.stdout)["orders"][0]
    assert order["state"] == "queued"
    until(lambda: order["id"] in up.at_the_broker(), what="the order at the sandbox")


def test_the_commands_find_it_and_tell_what_happened(up: Up) -> None:
    order = up.send("5301.25")["orders"][0]["id"]
    until(lambda: json.loads(up.bridge("show", order, "--json").stdout)["state"] == "accepted")

    listed = json.loads(up.bridge("orders", "--json").stdout)
    shown = json.loads(up.bridge("show", order, "--json").stdout)

    for name in ("id", "alert", "template", "account", "broker", "kind", "symbol", "side", "quantity", "state",
                 "broker_status", "reason", "broker_ids", "client_order_id", "created_at", "updated_at", "history"):
        assert name in listed[0] and name in shown
    assert [moment["state"] for moment in shown["history"]][:3] == ["queued", "submitting", "accepted"]
    assert shown["legs"] and shown["calls"][0]["url"].endswith("/order/placeoso") and shown["calls"][0]["reply"]
    assert "Bearer" not in json.dumps(shown)
    for command in (("orders",), ("orders", "--waiting"), ("alerts",), ("show", order)):
        told = up.bridge(*command)
        assert told.returncode == 0 and told.stdout
    assert order in up.bridge("orders").stdout
    assert json.loads(up.bridge("alerts", "--json", "--limit", "1").stdout)[0]["state"] == "accepted"


def test_send_posts_with_the_kept_secret_and_prints_the_answer(up: Up) -> None:
    body = json.dumps({"ticker": "ES1!", "action": "sell", "contracts": 1, "price": "5310.25", "time": moment()})

    sent = up.bridge("send", "es_breakout", "--alert", "-", "--json", stdin=body)
    refused = up.bridge("send", "es_breakout", "--alert", "-", stdin="{")
    unknown = up.bridge("send", "nothing", "--alert", "-", stdin=body)

    assert sent.returncode == 0 and json.loads(sent.stdout)["orders"][0]["state"] == "queued"
    assert refused.returncode == 1 and "HTTP 400" in refused.stdout
    assert unknown.returncode == 1 and "HTTP 404" in unknown.stdout


def test_the_made_secret_is_kept_for_its_owner_only(up: Up) -> None:
    kept = Path(up.environ["BRIDGE_DATA"]) / "secret"

    assert up.url_of("es_breakout").endswith("/" + kept.read_text().strip())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text().strip() not in up.log.read_text()


def test_a_secret_is_in_no_process_title(up: Up) -> None:
    secret = (Path(up.environ["BRIDGE_DATA"]) / "secret").read_text().strip()

    for process in (up.process.pid, *family(up.process.pid)):
        assert secret not in Path(f"/proc/{process}/cmdline").read_text()


@pytest.mark.parametrize("name", ["worker", "receiver", "sandbox", "valkey"])
def test_a_part_that_is_killed_is_started_again(up: Up, name: str) -> None:
    first = up.process_id(name)
    assert first is not None

    os.kill(first, signal.SIGKILL)

    until(lambda: up.process_id(name) not in (None, first), what=f"another {name}")
    until(lambda: answers(up), what="an answer")
    order = up.send(f"53{['worker', 'receiver', 'sandbox', 'valkey'].index(name)}1.25")["orders"][0]["id"]
    until(lambda: order in up.at_the_broker(), seconds=30, what="the order at the sandbox")


def answers(up: Up) -> bool:
    try:
        return up.hook.get("/readyz").status == 200
    except OSError:
        return False


def test_a_second_one_on_the_same_data_is_told_so(up: Up) -> None:
    environ = {**up.environ, "BRIDGE_BIND": "127.0.0.1:0"}

    second = subprocess.run([sys.executable, "-m", "bridge", "up", "--sandbox"], env=environ, capture_output=True,
                            text=True, timeout=20, cwd=ROOT, check=False)

    assert second.returncode == 3
    assert "another `bridge up`" in second.stderr and "Traceback" not in second.stderr


# -- it ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_within_five_seconds_and_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    with running(tmp_path) as found, found.hook.connect():
        everybody = family(found.process.pid)
        assert len(everybody) >= 5
        began = time.monotonic()

        found.process.send_signal(number)

        assert found.process.wait(10) == 0
        assert time.monotonic() - began < 5
        assert not [process for process in everybody if alive(process)]


def test_after_a_kill_nothing_is_left_and_the_next_one_goes_on_where_it_stood(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        order = found.send()["orders"][0]["id"]
        everybody = family(found.process.pid)

        found.process.kill()

        until(lambda: not [process for process in everybody if alive(process)], what="the end of all parts")
    with running(tmp_path) as again:
        assert order in {each["id"] for each in json.loads(again.bridge("orders", "--json").stdout)}
        assert again.url_of("es_breakout").rpartition("/")[2] == found.url_of("es_breakout").rpartition("/")[2]


# -- it does not start -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["bind", "sandbox_bind"])
def test_a_taken_port_is_told_with_the_setting_and_the_address(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = environment(tmp_path, **{"bind": "127.0.0.1:0", "sandbox_bind": "127.0.0.1:0", setting: address})

        ended = subprocess.run([sys.executable, "-m", "bridge", "up", "--sandbox"], env=environ, capture_output=True,
                               text=True, timeout=20, cwd=ROOT, check=False)

    assert ended.returncode == 1
    assert f"BRIDGE_{setting.upper()}: {address} cannot be used" in ended.stderr and "Traceback" not in ended.stderr


def test_a_redis_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    environ = environment(tmp_path, bind="127.0.0.1:0", redis_url="redis://:pw-leak-me@127.0.0.1:1/0")

    ended = subprocess.run([sys.executable, "-m", "bridge", "up"], env=environ, capture_output=True, text=True, timeout=20,
                           cwd=ROOT, check=False)

    assert ended.returncode == 3
    assert "BRIDGE_REDIS_URL redis://:***@127.0.0.1:1/0" in ended.stderr and "leak-me" not in ended.stdout + ended.stderr


def test_without_a_usable_account_it_says_what_is_wrong_with_them(tmp_path: Path) -> None:
    environ = environment(tmp_path, bind="127.0.0.1:0", accounts=str(tmp_path / "none.yaml"))

    ended = subprocess.run([sys.executable, "-m", "bridge", "up"], env=environ, capture_output=True, text=True, timeout=20,
                           cwd=ROOT, check=False)

    assert ended.returncode == 1
    assert f"{tmp_path / 'none.yaml'}:1:1: cannot be read" in ended.stderr and "Traceback" not in ended.stderr


def test_an_account_without_its_credentials_takes_no_alerts(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(
        "accounts:\n  paper: {broker: crosstrade, environment: sandbox, account: Sim101}\n"
        "  tradovate-demo: {broker: tradovate, environment: demo, account: D, account_id: 1,"
        ' credentials: {name: "${NOT_SET}", password: "${NOT_SET}", cid: "${NOT_SET}", sec: "${NOT_SET}",'
        ' device_id: "${NOT_SET}"}}\n')
    (tmp_path / "templates").mkdir()
    shutil.copy(ROOT / "templates/es_breakout.yaml", tmp_path / "templates")
    environ = environment(tmp_path, bind="127.0.0.1:0", accounts=str(tmp_path / "accounts.yaml"), secret=SECRET,
                          templates=str(tmp_path / "templates"))
    with subprocess.Popen([sys.executable, "-m", "bridge", "up", "--json"], env=environ, cwd=ROOT, start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            hook = Hook(int(said["receiver"].rpartition(":")[2]), tmp_path / "log")

            answer = hook.send("es_breakout", {"ticker": "ES1!"})

            assert any("NOT_SET" in fault["message"] for fault in said["faults"]) and said["templates"] == []
            assert answer.status == 422 and "does not load" in answer.json["detail"]
        finally:
            end(process)


def test_a_given_secret_is_not_repeated_and_broken_templates_are_told_while_others_serve(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    shutil.copy(ROOT / "templates/es_breakout.yaml", tmp_path / "templates")
    (tmp_path / "templates/wrong.yaml").write_text("account: nobody\norder: {kind: plane}\n")

    with running(tmp_path, secret=SECRET, templates=str(tmp_path / "templates")) as found:
        assert found.url_of("es_breakout").endswith("/hook/es_breakout/$BRIDGE_SECRET")
        assert {fault["file"] for fault in found.said["faults"]} == {str(tmp_path / "templates/wrong.yaml")}
        assert all("line" in fault for fault in found.said["faults"])
        assert found.send()["orders"]
        assert SECRET not in json.dumps(found.said) + found.log.read_text()
