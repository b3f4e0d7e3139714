"""The deployment, as far as it can be seen without a container engine: the files agree with the program, and the same
parts against a plain server carry an order from HTTP to a broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
import yaml

from bridge.cli import main
from bridge.embedded import binary
from bridge.ledger import Ledger
from bridge.settings import SETTINGS
from tests.serving import free_port
from tests.wait import until

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "ledger"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


# -- what the files say ----------------------------------------------------------------------------------------------


def test_every_command_of_a_service_is_one_of_bridges() -> None:
    assert {SERVICES[name]["command"][0] for name in OURS} == {"receiver", "worker", "sandbox"}
    for name in OURS:
        assert SERVICES[name]["command"][0] in main.commands


def test_every_setting_of_a_service_exists() -> None:
    known = {setting.name for setting in SETTINGS}

    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


def test_the_ledger_keeps_what_it_answered_and_never_evicts() -> None:
    command = " ".join(word or '""' for word in SERVICES["ledger"]["command"])

    for option in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction", '--save ""'):
        assert option in command
    assert SERVICES["ledger"]["volumes"] == ["ledger:/data"] and "ledger" in COMPOSE["volumes"]


def test_the_ledger_is_reached_by_our_parts_only() -> None:
    assert "ports" not in SERVICES["ledger"]
    assert SERVICES["ledger"]["networks"] == ["ledger"] and COMPOSE["networks"]["ledger"]["internal"]
    assert {name for name in OURS if "ledger" in SERVICES[name]["networks"]} == {"receiver", "worker"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_do_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert "privileged" not in service and "test" in service["healthcheck"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_secrets_come_from_files_and_none_is_written_out() -> None:
    for name in ("receiver", "worker"):
        assert SERVICES[name]["environment"]["BRIDGE_SECRET"] == "$${file:/run/secrets/bridge_secret}"
        assert "bridge_secret" in SERVICES[name]["secrets"]
    assert COMPOSE["secrets"] == {"bridge_secret": {"file": "./secrets/bridge_secret"}}
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_takes_only_wheels_with_known_hashes() -> None:
    installs = re.findall(r"pip[^&\n]*? (?:install|download) [^&\n]*", DOCKERFILE)

    assert len(installs) == 2
    assert "--require-hashes" in installs[0] and "--only-binary=:all:" in installs[0]
    assert "-r requirements.lock -d /wheels" in installs[0]
    assert "--no-index --find-links /wheels" in installs[1]
    lock = (ROOT / "requirements.lock").read_text()
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", lock.strip()) if "==" in block)


def test_what_the_image_copies_is_there_and_reaches_the_engine() -> None:
    sources = [source for found in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
               for source in found.split()]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()

    assert ignore[1] == "*"
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore or f"!{source}/" in ignore
    for secret in ("accounts.yaml", "secrets", ".bridge", ".env"):
        assert not any(line.startswith(f"!{secret}") for line in ignore)


def test_the_image_runs_as_a_user_without_rights() -> None:
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    final = DOCKERFILE.split("\nFROM ")[-1]

    assert users == [SERVICES["receiver"]["user"]]
    assert "pip" not in final and "apt-get" not in DOCKERFILE


def test_what_is_mounted_is_there_and_read_only() -> None:
    for name in ("receiver", "worker"):
        for volume in SERVICES[name]["volumes"]:
            source, target, mode = volume.split(":")
            assert (ROOT / source).exists() and mode == "ro"
            assert target in SERVICES[name]["environment"].values()


# -- the same parts against a plain server ---------------------------------------------------------------------------


class Parts:
    """Processes of a deployment, stopped in the opposite order of their start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
        self.environ |= {"PYTHONPATH": str(ROOT)}
        self._stack = ExitStack()

    def start(self, name: str, *command: str, log: str = "") -> subprocess.Popen[bytes]:
        output = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(command, cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output)
        self._stack.callback(self._stop, process)
        return process

    def bridge(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(arguments[0], sys.executable, "-m", "bridge", *arguments)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        self._stack.close()

    def said(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
                         for path in sorted(self.folder.glob("*.log")))


def get(url: str, body: Any = None) -> tuple[int, Any]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A plain server with the options of the Compose file on a TCP port, a sandbox, a receiver and a worker."""
    folder = tmp_path_factory.mktemp("deployment")
    (folder / "data").mkdir()
    (folder / "bridge_secret").write_text("a-secret-of-the-tests-0123456789\n")
    parts = Parts(folder)
    port, receiver, sandbox = free_port(), free_port(), free_port()
    options = list(SERVICES["ledger"]["command"][1:])
    parts.environ |= {
        "BRIDGE_REDIS_URL": f"redis://127.0.0.1:{port}/0", "BRIDGE_DATA": str(folder / "none"),
        "BRIDGE_SECRET": f"${{file:{folder}/bridge_secret}}", "BRIDGE_BIND": f"127.0.0.1:{receiver}",
        "BRIDGE_SANDBOX_BIND": f"127.0.0.1:{sandbox}", "BRIDGE_SANDBOX": f"http://127.0.0.1:{sandbox}",
        "BRIDGE_LOG_FORMAT": "json"}
    try:
        parts.start("ledger", str(binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder / "data"),
                    *options)
        client = redis.Redis(port=port)
        until(lambda: answers(client), 20, "the server answers")
        client.close()
        for name in ("sandbox", "worker", "receiver"):
            parts.bridge(name)
        until(lambda: get(f"http://127.0.0.1:{sandbox}/_control/health")[0] == 200, 30, "the sandbox is ready")
        until(lambda: get(f"http://127.0.0.1:{receiver}/readyz")[0] == 200, 30, "the receiver is ready")
        yield parts
    finally:
        parts.close()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def test_the_parts_carry_an_order_from_http_to_the_broker(deployment: Parts) -> None:
    environ = deployment.environ
    base, sandbox = f"http://{environ['BRIDGE_BIND']}", environ["BRIDGE_SANDBOX"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    alert = {"ticker": "ES1!", "action": "buy", "contracts": 3, "price": "5300.30", "time": now}

    status, answer = get(f"{base}/hook/es_breakout/a-secret-of-the-tests-0123456789", alert)

    assert status == 202, deployment.said()
    order = answer["orders"][0]["id"]
    until(lambda: state_of(deployment, order) == "accepted", 20, "the order is accepted")
    said = subprocess.run([sys.executable, "-m", "bridge", "show", order, "--json"], cwd=ROOT, env=environ,
                          capture_output=True, text=True, timeout=30, check=False)
    assert said.returncode == 0 and json.loads(said.stdout)["state"] == "accepted", said.stderr
    _, witnessed = get(f"{sandbox}/_control/orders")
    entry = next(each for each in witnessed if each["client_order_id"] == order)
    assert (entry["side"], str(entry["quantity"]), str(entry["price"])) == ("buy", "3", "5300.25")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "templates").glob("*.yaml")))
def test_what_each_shipped_template_shows_first_is_accepted_by_its_broker(deployment: Parts, name: str) -> None:
    base, sandbox = f"http://{deployment.environ['BRIDGE_BIND']}", deployment.environ["BRIDGE_SANDBOX"]
    get(f"{sandbox}/_control/reset", {})
    test = yaml.safe_load((ROOT / "templates" / f"{name}.yaml").read_text())["tests"][0]
    now = datetime.now(UTC)
    text = test["body"] if "body" in test else json.dumps(test["alert"])
    text = re.sub(r"2026-11-20T\d\d:\d\d:\d\dZ", now.strftime("%Y-%m-%dT%H:%M:%SZ"), text)
    text = text.replace("2026-11-20 11:00:00", now.astimezone(ZoneInfo("Asia/Kolkata")).strftime("%Y-%m-%d %H:%M:%S"))

    status, answer = get(f"{base}/hook/{name}/a-secret-of-the-tests-0123456789", text.encode())

    if "sessions" in str(answer.get("refused")):  # a template that shows this guard, asked outside of its hours
        assert status == 200 and [each["state"] for each in answer["orders"]] == ["refused"]
        return
    assert status == 202, deployment.said()
    order = answer["orders"][0]["id"]
    until(lambda: state_of(deployment, order) in ("accepted", "rejected", "unknown"), 20, "the order is carried out")
    assert state_of(deployment, order) == "accepted", deployment.said()
    assert get(f"{sandbox}/_control/orders")[1]


def state_of(deployment: Parts, order: str) -> str:
    """Read from the ledger itself: a process for each look would take too long."""
    with closing(Ledger(deployment.environ["BRIDGE_REDIS_URL"])) as ledger:
        found = ledger.order(order)
    return str(found["state"]) if found else ""


@pytest.mark.parametrize("name", OURS)
def test_the_health_check_of_each_part_succeeds_when_it_is_well(deployment: Parts, name: str) -> None:
    assert health_check(deployment, name, deployment.environ) == 0, deployment.said()


def health_check(deployment: Parts, name: str, environ: dict[str, str]) -> int:
    """The exit code of the Compose file's own command, with this deployment's ports and this Python."""
    binds = {"receiver": ("127.0.0.1:8080", environ["BRIDGE_BIND"]),
             "sandbox": ("127.0.0.1:8082", environ["BRIDGE_SANDBOX_BIND"])}
    command = [word.replace(*binds.get(name, ("", ""))) if name in binds else word
               for word in SERVICES[name]["healthcheck"]["test"][1:]]
    programs = {"python": [sys.executable], "bridge": [sys.executable, "-m", "bridge"]}
    return subprocess.run([*programs[command[0]], *command[1:]], cwd=ROOT, env=environ, capture_output=True,
                          timeout=30, check=False).returncode


@pytest.mark.parametrize("name", OURS)
def test_the_health_check_of_each_part_fails_when_what_it_asks_is_away(deployment: Parts, name: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    environ = {**deployment.environ, "BRIDGE_BIND": nowhere, "BRIDGE_SANDBOX_BIND": nowhere,
               "BRIDGE_REDIS_URL": f"redis://{nowhere}/0"}

    assert health_check(deployment, name, environ) != 0


def test_the_secret_of_the_file_is_in_no_log(deployment: Parts) -> None:
    assert "a-secret-of-the-tests" not in deployment.said()
