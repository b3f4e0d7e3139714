"""`bridge doctor` says which case this installation is, honestly, and ends with the code that a script can use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from bridge.cli import main
from bridge.embedded import EmbeddedServer
from bridge.ledger import Ledger
from tests import nodes as servers
from tests.rig import delivery, plain
from tests.test_receiver import ACCOUNTS, ALERT, ORDER


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """A sound set of files."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "plain.yaml").write_text(f"account: one\n{ALERT}order: {ORDER}\n")
    (tmp_path / "accounts.yaml").write_text(ACCOUNTS)
    return {"BRIDGE_TEMPLATES": str(tmp_path / "templates"), "BRIDGE_ACCOUNTS": str(tmp_path / "accounts.yaml"),
            "BRIDGE_DATA": str(tmp_path / "data"), "BRIDGE_SECRET": "test-secret-0123456789"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Node]:
    with servers.node(tmp_path_factory.mktemp("server"), *servers.DURABLE) as found:
        yield found


@pytest.fixture
def clean(node: servers.Node) -> servers.Node:
    node.ask("FLUSHALL")
    return node


def doctor(given: dict[str, str], **more: str) -> tuple[int, dict[str, Any]]:
    ended = CliRunner().invoke(main, ["doctor", "--json"], env=given | more, catch_exceptions=False)
    return ended.exit_code, json.loads(ended.stdout)


def states(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in found["checks"]}


def test_an_embedded_server_is_sound_and_an_alert_survives_kill_and_power_loss(given: dict[str, str]) -> None:
    server = EmbeddedServer(Path(given["BRIDGE_DATA"]))
    server.start()
    try:
        code, found = doctor(given)
    finally:
        server.stop()

    assert code == 0 and found["sound"], found
    assert states(found)["disk"] in ("ok", "warn") and "the embedded server, Valkey" in found["checks"][0]["seen"]
    assert found["survives"]["process_kill"].startswith("yes") and found["survives"]["power_loss"].startswith("yes")
    assert found["survives"]["loss_of_primary"].startswith("no")


def test_a_server_that_cannot_be_reached_is_3_and_the_files_are_looked_at_all_the_same(given: dict[str, str]) -> None:
    code, found = doctor(given, BRIDGE_REDIS_URL="redis://:pw-leak-me@127.0.0.1:1/0")

    assert code == 3 and states(found) == {"server": "away", "accounts": "ok", "templates": "ok"}
    assert "leak-me" not in json.dumps(found)
    assert doctor(given)[0] == 3  # no server here at all


@pytest.mark.parametrize(("option", "value", "check", "survives"), [
    ("appendfsync", "everysec", "appendfsync", ("mostly", "no: about a second", "no")),
    ("appendfsync", "no", "appendfsync", ("mostly", "no: some 30 seconds", "no")),
    ("appendonly", "no", "append-only file", ("no", "no", "no")),
    ("maxmemory-policy", "allkeys-lru", "memory", ("no: the server may throw it away", "yes", "no")),
])
def test_a_server_that_can_lose_accepted_alerts_is_at_fault(given: dict[str, str], clean: servers.Node, option: str,
                                                            value: str, check: str, survives: tuple[str, ...]) -> None:
    sound = clean.ask("CONFIG", "GET", option)[1]
    clean.ask("CONFIG", "SET", option, value)
    try:
        code, found = doctor(given, BRIDGE_REDIS_URL=clean.url)
    finally:
        clean.ask("CONFIG", "SET", option, sound)

    assert code == 1 and [name for name, state in states(found).items() if state == "fault"] == [check]
    for answer, words in zip(found["survives"].values(), survives, strict=True):
        assert answer.startswith(words)


def test_memory_that_is_nearly_full_is_a_fault(given: dict[str, str], clean: servers.Node) -> None:
    with redis.Redis(port=clean.port) as client:
        clean.ask("CONFIG", "SET", "maxmemory", int(client.info("memory")["used_memory"] / 0.95))
    try:
        code, found = doctor(given, BRIDGE_REDIS_URL=clean.url)
    finally:
        clean.ask("CONFIG", "SET", "maxmemory", "0")

    assert code == 1 and states(found)["memory"] == "fault"


def test_a_server_that_does_not_tell_its_options_is_not_called_safe(given: dict[str, str], clean: servers.Node) -> None:
    clean.ask("ACL", "SETUSER", "managed", "on", ">pass-0123456789", "~*", "+@all", "-config")
    code, found = doctor(given, BRIDGE_REDIS_URL=f"redis://managed:pass-0123456789@127.0.0.1:{clean.port}/0")

    assert code == 0 and states(found)["appendfsync"] == "warn"
    assert found["survives"]["power_loss"].startswith("not known")


def test_orders_without_a_worker_are_a_fault_and_those_for_a_person_are_told(given: dict[str, str],
                                                                             clean: servers.Node) -> None:
    ledger = Ledger(clean.url)
    ledger.enqueue(delivery("k", ("toy", plain()), ("owned", plain()), ("damaged", plain())))
    ledger.enqueue(delivery("for a person", ("owned", plain())))
    lease = ledger.take_lease("owned", "w", 60_000)
    assert lease is not None
    entry, order = ledger.lane("owned")[0]
    ledger.set_aside(lease, order, entry, "cannot be handled")
    damaged = ledger.lane("damaged")[0][1]
    clean.ask("HSET", f"bridge:{{damaged}}:order:{damaged}", "max_age", "99999999")
    ledger.close()

    code, found = doctor(given, BRIDGE_REDIS_URL=clean.url)

    seen = states(found)
    assert code == 1 and seen["lane toy"] == "fault" and seen["lane owned"] == "ok"
    assert seen["orders"] == "warn" and seen["records"] == "fault"
    assert damaged in next(each["seen"] for each in found["checks"] if each["name"] == "records")


def test_a_worker_that_is_gone_is_told_by_how_long_its_lease_is_over(given: dict[str, str], clean: servers.Node) -> None:
    ledger = Ledger(clean.url)
    ledger.enqueue(delivery("k", ("toy", plain())))
    ledger.take_lease("toy", "w", 1)
    clean.ask("HSET", "bridge:{toy}:lease", "until", ledger.lane_clock("toy") - 61_000)
    ledger.close()

    _, found = doctor(given, BRIDGE_REDIS_URL=clean.url)

    assert "lease ended 61 s ago" in next(each["seen"] for each in found["checks"] if each["name"] == "lane toy")


def test_broken_templates_and_accounts_are_faults_that_lead_to_check(given: dict[str, str], clean: servers.Node) -> None:
    (Path(given["BRIDGE_TEMPLATES"]) / "broken.yaml").write_text("account: nobody\n")
    Path(given["BRIDGE_ACCOUNTS"]).write_text(ACCOUNTS + "  three: {broker: nosuch}\n")

    code, found = doctor(given, BRIDGE_REDIS_URL=clean.url)

    assert code == 1 and states(found)["templates"] == states(found)["accounts"] == "fault"
    assert {each["do"] for each in found["checks"] if each["name"] in ("templates", "accounts")} == {"bridge check"}


def test_under_a_sentinel_what_replication_may_lose_is_said(given: dict[str, str], tmp_path: Path) -> None:
    with servers.watched(tmp_path / "watched") as watched:
        code, found = doctor(given, BRIDGE_REDIS_URL=watched.url)
        watched.primary.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        _, better = doctor(given, BRIDGE_REDIS_URL=watched.url)

    assert code == 0 and found["checks"][0]["seen"].startswith("Sentinel, Valkey")
    assert states(found)["replicas"] == "warn" and states(better)["replicas"] == "ok"
    assert found["survives"]["loss_of_primary"].startswith("maybe: replicas get it a moment AFTER")


def test_every_primary_of_a_cluster_is_looked_at(given: dict[str, str], tmp_path: Path) -> None:
    with servers.cluster(tmp_path / "cluster") as nodes:
        nodes[1].ask("CONFIG", "SET", "appendfsync", "everysec")
        code, found = doctor(given, BRIDGE_REDIS_URL=f"redis+cluster://127.0.0.1:{nodes[0].port}")

    assert code == 1 and "Cluster of 3 primaries" in found["checks"][0]["seen"]
    assert [name for name, state in states(found).items() if state == "fault"] == [f"appendfsync of 127.0.0.1:{nodes[1].port}"]
    assert found["survives"]["power_loss"].startswith("no")


def test_for_a_person_each_check_is_one_line_with_what_to_do(given: dict[str, str], clean: servers.Node) -> None:
    clean.ask("CONFIG", "SET", "appendfsync", "everysec")
    try:
        ended = CliRunner().invoke(main, ["doctor"], env=given | {"BRIDGE_REDIS_URL": clean.url})
    finally:
        clean.ask("CONFIG", "SET", "appendfsync", "always")

    lines = ended.stdout.splitlines()
    assert ended.exit_code == 1 and "an accepted alert survives" in lines
    assert any(line.startswith("fault appendfsync: everysec") and "→ CONFIG SET appendfsync always" in line for line in lines)
