"""Redis's own faults: the receiver says 503 and never a false 202, the worker waits and goes on, and asking again after a
lost reply gives the same answer."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import bridge.ledger.connection
from bridge.embedded import EmbeddedServer
from bridge.errors import LedgerAway, ServiceError
from bridge.ledger import Ledger
from tests import nodes as servers
from tests.fault_proxy import AFTER, BEFORE, DURING, FaultProxy, fault_proxy
from tests.rig import ToyServer, delivery, plain, wait_for
from tests.serving import Hook, environment, free_port, part
from tests.test_lane import send, state, working
from tests.test_receiver import alert, write_files

REFUSALS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF": "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "MOVED": "MOVED 1234 127.0.0.1:1",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOAUTH": "NOAUTH Authentication required.",
    "NOPERM": "NOPERM this user has no permissions to run the 'evalsha' command",
    "NOSCRIPT": "NOSCRIPT No matching script.",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "max clients": "ERR max number of clients reached",
}


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with fault_proxy(redis_url) as found:
        yield found


@pytest.fixture
def far(proxy: FaultProxy) -> Iterator[Ledger]:
    """A ledger behind the proxy, warm."""
    ledger = Ledger(proxy.url)
    ledger.enqueue(delivery("warm", ("warm", plain()), home="warm"))
    yield ledger
    ledger.close()


# -- a lost connection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize("point", [BEFORE, DURING, AFTER])
def test_an_alert_whose_script_met_a_lost_connection_makes_one_order_and_gets_the_same_answer(
        far: Ledger, ledger: Ledger, proxy: FaultProxy, point: str, times: int) -> None:
    """Once: the client library asks again by itself. Twenty times: the sender does."""
    made = delivery("k", ("toy", plain()), ("second", plain()))
    proxy.play(point, made.orders[0].id, times)
    if times == 1:
        first = far.enqueue(made)
    else:
        with pytest.raises(LedgerAway):
            far.enqueue(made)
        proxy.heal()
        first = far.enqueue(delivery("k", ("toy", plain()), ("second", plain()), nonce="resent"))
    assert proxy.met or times == 1

    again = far.enqueue(delivery("k", ("toy", plain()), ("second", plain()), nonce="once more"))

    assert [each["id"] for each in first.orders] == [each.id for each in made.orders]
    assert first.orders == again.orders and again.duplicate_of == made.id == (first.duplicate_of or first.alert)
    assert [order for _, order in ledger.lane("toy")] == [made.orders[0].id]
    assert [order for _, order in ledger.lane("second")] == [made.orders[1].id]


@pytest.mark.parametrize("point", [BEFORE, DURING, AFTER])
def test_an_alert_cut_off_between_two_lanes_is_whole_when_it_is_sent_again(far: Ledger, ledger: Ledger, proxy: FaultProxy,
                                                                           point: str) -> None:
    made = delivery("k", ("toy", plain()), ("second", plain()))
    proxy.play(point, "bridge:{second}:", 20)
    with pytest.raises(LedgerAway):
        far.enqueue(made)
    proxy.heal()

    again = far.enqueue(delivery("k", ("toy", plain()), ("second", plain()), nonce="resent"))

    assert [each["state"] for each in again.orders] == ["queued", "queued"]
    assert [order for _, order in ledger.lane("second")] == [made.orders[1].id]


@pytest.mark.parametrize("point", [BEFORE, DURING, AFTER])
@pytest.mark.parametrize("word", ["submitting", "accepted", "lease"])
def test_a_worker_whose_scripts_meet_lost_connections_sends_once_and_goes_on(
        far: Ledger, ledger: Ledger, proxy: FaultProxy, server: ToyServer, point: str, word: str) -> None:
    """The words stand in what the scripts are given: the record of the write, the outcome, the lane's lease."""
    order = send(ledger, plain())
    sha = {name: entry[0] for name, entry in far._scripts.items()}
    proxy.play(point, {"submitting": sha["submit"], "accepted": sha["settle"], "lease": sha["lease"]}[word], 2)

    with working(far, server):
        wait_for(lambda: proxy.met >= 2)
        wait_for(lambda: state(ledger, order) == "accepted")

    assert [each["id"] for each in server.sent()] == [order]


# -- a server that says no -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", REFUSALS.values(), ids=REFUSALS)
def test_what_a_server_refuses_is_said_to_be_away_and_taken_later(far: Ledger, ledger: Ledger, proxy: FaultProxy,
                                                                  words: str) -> None:
    proxy.play(words, "EVAL", 100)
    with pytest.raises(LedgerAway):
        far.enqueue(delivery("k", ("toy", plain())))
    assert ledger.lane("toy") == []
    proxy.heal()

    assert not far.enqueue(delivery("k", ("toy", plain()))).duplicate_of
    assert len(ledger.lane("toy")) == 1


@pytest.mark.parametrize("words", ["LOADING", "READONLY", "NOSCRIPT"])
def test_a_worker_waits_while_the_server_refuses_and_then_goes_on(far: Ledger, ledger: Ledger, proxy: FaultProxy,
                                                                  server: ToyServer, words: str) -> None:
    proxy.play(REFUSALS[words], "EVAL", 3)
    order = send(ledger, plain())

    with working(far, server):
        wait_for(lambda: proxy.met >= 3)
        wait_for(lambda: state(ledger, order) == "accepted")

    assert [each["id"] for each in server.sent()] == [order]


@pytest.mark.parametrize("words", ["ERR wrong number of arguments", "WRONGTYPE Operation against a key", "BUSYKEY taken"])
def test_a_fault_of_ours_is_not_taken_for_one_of_the_servers(far: Ledger, proxy: FaultProxy, words: str) -> None:
    proxy.play(words, "EVAL", 100)

    with pytest.raises(redis.exceptions.ResponseError):
        far.enqueue(delivery("k", ("toy", plain())))


def test_a_damaged_text_that_is_no_text_is_read_and_left_to_its_checksum(ledger: Ledger, redis_url: str) -> None:
    order = send(ledger, plain())
    with redis.Redis.from_url(redis_url) as raw:
        raw.hset(f"bridge:{{toy}}:order:{order}", "order", b'{"kind": "\xff\xfe"}')

    with pytest.raises(Exception, match="damaged"):
        ledger.load("toy", order)


# -- the same at the receiver, with real servers ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[servers.Node, FaultProxy, Hook]]:
    """A server that may be mistreated, and a receiver that reaches it through the proxy."""
    folder = tmp_path_factory.mktemp("own")
    port = free_port()
    options = (*servers.DURABLE, "--enable-protected-configs", "yes")
    with servers.node(folder / "server", *options) as node, fault_proxy(node.url) as proxy:
        environ = environment(folder, redis_url=proxy.url, bind=f"127.0.0.1:{port}", **write_files(folder))
        with part("receiver", environ, folder / "log"):
            yield node, proxy, Hook(port, folder / "log")


def refused(hook: Hook, body: Any) -> None:
    answer = hook.send("plain", body)
    assert answer.status == 503 and answer.headers["retry-after"] == "5", answer.raw


def taken_once(hook: Hook, node: servers.Node, body: Any) -> None:
    """Sent again, an alert ends with one order, whatever had become of it before."""
    before = node.ask("XLEN", "bridge:{one}:lane")
    wait_for(lambda: hook.send("plain", body).status in (200, 202))
    answer = hook.send("plain", body)
    assert answer.status == 200 and len(answer.json["orders"]) == 1
    assert node.ask("XLEN", "bridge:{one}:lane") - before <= 1
    assert node.ask("HGET", f"bridge:{{one}}:order:{answer.json['orders'][0]['id']}", "state") == "queued"


@pytest.mark.parametrize("words", REFUSALS.values(), ids=REFUSALS)
def test_the_receiver_says_503_while_the_server_refuses(own: tuple[servers.Node, FaultProxy, Hook], words: str) -> None:
    node, proxy, hook = own
    body = alert()
    proxy.play(words, "EVAL", 1000)

    refused(hook, body)
    proxy.heal()

    taken_once(hook, node, body)


@pytest.mark.parametrize("point", [BEFORE, DURING, AFTER])
def test_the_receiver_says_503_when_the_connection_is_lost_and_a_resend_makes_one_order(
        own: tuple[servers.Node, FaultProxy, Hook], point: str) -> None:
    node, proxy, hook = own
    body = alert()
    proxy.play(point, "EVAL", 1000)

    refused(hook, body)
    proxy.heal()

    taken_once(hook, node, body)


@pytest.mark.parametrize(("name", "fault", "sound"), [
    ("OOM", ("CONFIG", "SET", "maxmemory", "1mb"), ("CONFIG", "SET", "maxmemory", "0")),
    ("NOREPLICAS", ("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
    ("READONLY", ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
])
def test_the_receiver_says_503_while_a_real_server_cannot_write(own: tuple[servers.Node, FaultProxy, Hook], name: str,
                                                                fault: tuple[str, ...], sound: tuple[str, ...]) -> None:
    node, _, hook = own
    body = alert()
    assert hook.send("plain", alert()).status == 202
    node.ask(*fault)
    try:
        refused(hook, body)
        assert hook.get("/readyz").status == 503
    finally:
        node.ask(*sound)
    taken_once(hook, node, body)


def test_the_receiver_says_503_while_the_server_cannot_save(own: tuple[servers.Node, FaultProxy, Hook],
                                                            tmp_path: Path) -> None:
    """A snapshot into a folder that is gone fails, and the server then stops writes (MISCONF)."""
    node, _, hook = own
    body, old = alert(), node.ask("CONFIG", "GET", "dir")[1]
    (tmp_path / "gone").mkdir()
    node.ask("CONFIG", "SET", "save", "3600 1")
    node.ask("CONFIG", "SET", "dir", str(tmp_path / "gone"))
    (tmp_path / "gone").rmdir()
    node.ask("BGSAVE")
    wait_for(lambda: "rdb_last_bgsave_status:err" in servers.info(node, "persistence"))
    try:
        refused(hook, body)
    finally:
        node.ask("CONFIG", "SET", "dir", old)
        node.ask("CONFIG", "SET", "save", "")
        node.ask("BGSAVE")
        wait_for(lambda: "rdb_last_bgsave_status:ok" in servers.info(node, "persistence"))
    taken_once(hook, node, body)


def test_a_flushed_script_cache_costs_no_alert(own: tuple[servers.Node, FaultProxy, Hook]) -> None:
    node, _, hook = own
    for _ in range(3):
        assert hook.send("plain", alert()).status == 202
        node.ask("SCRIPT", "FLUSH")


def test_a_script_that_runs_too_long_elsewhere_makes_503(own: tuple[servers.Node, FaultProxy, Hook]) -> None:
    node, _, hook = own
    body = alert()
    node.ask("CONFIG", "SET", "busy-reply-threshold", "10")
    runs = threading.Thread(target=lambda: pytest.raises(
        redis.exceptions.ResponseError, node.ask, "EVAL", "while true do end", "0"))
    runs.start()
    try:
        wait_for(lambda: _is_busy(node))
        refused(hook, body)
    finally:
        node.ask("SCRIPT", "KILL")
        runs.join()
    taken_once(hook, node, body)


def _is_busy(node: servers.Node) -> bool:
    try:
        node.ask("GET", "x")
    except redis.exceptions.ResponseError as error:
        return "BUSY" in str(error)
    return False


# -- before memory and disk run out ----------------------------------------------------------------------------------


def test_intake_stops_before_memory_runs_out_and_outcomes_are_recorded(ledger: Ledger, redis_url: str) -> None:
    ledger.enqueue(delivery("k", ("toy", plain())))
    lease = ledger.take_lease("toy", "w", 20_000)
    stored = ledger.load("toy", ledger.lane("toy")[0][1])
    assert lease is not None and stored is not None
    with redis.Redis.from_url(redis_url) as server:
        used = int(server.info("memory")["used_memory"])
        server.config_set("maxmemory", str(int(used / 0.93)))
        try:
            fresh = Ledger(redis_url)
            with pytest.raises(LedgerAway, match="memory is nearly full"):
                fresh.enqueue(delivery("k2", ("toy", plain())))
            with pytest.raises(LedgerAway, match="memory is nearly full"):
                fresh.check_writable()
            fresh.close()
            assert ledger.settle(lease, stored, "expire", "expired", nonce="n", reason="") == "ok"
        finally:
            server.config_set("maxmemory", "0")


def test_intake_stops_before_the_embedded_servers_disk_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    ledger = Ledger(server.url)
    try:
        assert ledger.free_disk() == pytest.approx(os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize, rel=0.05)
        monkeypatch.setattr(bridge.ledger.connection, "LEAST_FREE_DISK", 1 << 62)
        with pytest.raises(LedgerAway, match="disk is nearly full"):
            ledger.enqueue(delivery("k", ("toy", plain())))
    finally:
        ledger.close()
        server.stop()


def test_a_disk_that_takes_no_more_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    """A limit on the size of its files stands in for a full disk: a write that does not fit ends the server unanswered."""
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    ledger = Ledger(server.url)
    accepted = []
    try:
        assert server.pid is not None
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
        with pytest.raises(LedgerAway):
            for number in range(1000):
                accepted += [each["id"] for each in ledger.enqueue(delivery(f"k{number}", ("toy", plain()))).orders]
        wait_for(server.ended)
        server.start()
        standing = {order for _, order in ledger.lane("toy", count=1000)}
        assert accepted and set(accepted) <= standing
        assert all(ledger.load("toy", order) for order in accepted)
    finally:
        ledger.close()
        server.stop()


def test_a_data_folder_that_is_read_only_is_refused_in_words_and_left_as_it_was(tmp_path_factory: pytest.TempPathFactory,
                                                                                tmp_path: Path) -> None:
    """As a user without rights over it: root may write anywhere, so the test gives root's rights up in a child."""
    folder = tmp_path / "data"
    server = EmbeddedServer(folder)
    server.start()
    ledger = Ledger(server.url)
    ledger.enqueue(delivery("k", ("toy", plain())))
    ledger.close()
    server.stop()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    folder.chmod(0o555)
    try:
        words = _as_nobody(folder) if os.geteuid() == 0 else _refusal(folder)
    finally:
        folder.chmod(0o700)
    assert "BRIDGE_DATA" in words and str(folder) in words
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def _refusal(folder: Path) -> str:
    try:
        EmbeddedServer(folder).start()
    except ServiceError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 what else came is what the test shows
        return f"{type(error).__name__}: {error}"
    return "it started"


def _as_nobody(folder: Path) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        os.write(writing, _refusal(folder).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        words = answer.read().decode()
    os.waitpid(child, 0)
    return words
