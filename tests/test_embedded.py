"""The embedded server: private, durable, found by its folder, and gone with its owner."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from bridge.embedded import EmbeddedServer, binary, find, keep_a_secret, stored_secret
from bridge.errors import ServiceError
from bridge.settings import Settings, read_settings
from tests.wait import until


def settings_for(folder: Path) -> Settings:
    return read_settings({"BRIDGE_DATA": str(folder)})


def test_it_answers_syncs_every_write_and_opens_no_port(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    try:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        client.close()
    finally:
        server.stop()


def test_other_commands_find_the_running_server_by_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="start `bridge up`, or set BRIDGE_REDIS_URL"):
        find(settings_for(tmp_path / "data"))
    server = EmbeddedServer(tmp_path / "data")
    server.start()

    assert find(settings_for(tmp_path / "data")) == server.url

    server.stop()
    with pytest.raises(ServiceError, match="no running bridge here"):
        find(settings_for(tmp_path / "data"))


def test_a_redis_that_was_given_comes_before_the_embedded_server(tmp_path: Path) -> None:
    settings = read_settings({"BRIDGE_REDIS_URL": "redis://db:6379/1", "BRIDGE_DATA": str(tmp_path)})

    assert find(settings) == "redis://db:6379/1"


def test_a_folder_too_deep_for_a_socket_gets_one_elsewhere_and_is_still_found(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    server = EmbeddedServer(deep)
    server.start()
    try:
        assert len(server.url) < 108
        assert find(settings_for(deep)) == server.url
    finally:
        server.stop()
    assert not Path(server.url.removeprefix("unix://")).parent.exists()


def test_a_second_server_on_the_same_data_is_refused_with_the_folder_named(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    try:
        with pytest.raises(ServiceError, match="another `bridge up`.*data"):
            EmbeddedServer(tmp_path / "data").start()
    finally:
        server.stop()


def test_what_was_written_survives_a_kill_and_the_next_start(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    client = redis.Redis.from_url(server.url, decode_responses=True)
    client.set("bridge:kept", "yes")
    assert server.pid is not None

    os.kill(server.pid, signal.SIGKILL)
    until(server.ended)
    server.start()

    assert client.get("bridge:kept") == "yes"
    client.close()
    server.stop()


def test_damaged_data_is_refused_with_what_the_server_said(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    server.stop()
    for part in (tmp_path / "data" / "appendonlydir").glob("*.incr.aof"):
        part.write_bytes(b"not an append only file\r\n" * 20)

    with pytest.raises(ServiceError, match="did not start on(?s:.*)appendonly"):
        server.start()
    server.stop()


def test_a_folder_that_cannot_be_made_is_refused_with_the_setting_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ServiceError, match="BRIDGE_DATA"):
        EmbeddedServer(tmp_path / "file" / "data").start()


def test_the_server_dies_with_a_killed_owner_and_lets_go_of_the_data(tmp_path: Path) -> None:
    code = ("import sys, time; from pathlib import Path; from bridge.embedded import EmbeddedServer\n"
            "server = EmbeddedServer(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); sys.stdin.read()")
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and owner.stdin is not None
    child = int(owner.stdout.readline())

    owner.kill()
    owner.wait()
    owner.stdout.close()
    owner.stdin.close()

    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
    successor = EmbeddedServer(tmp_path / "data")
    successor.start()
    successor.stop()


def test_the_kept_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = keep_a_secret(tmp_path / "data")

    assert len(first) >= 32
    assert keep_a_secret(tmp_path / "data") == stored_secret(tmp_path / "data") == first
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    assert read_settings({"BRIDGE_SECRET": first}).secret == first


def test_without_a_wheel_a_server_on_the_path_is_taken_if_it_is_new_enough(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.embedded.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="install Valkey or Redis"):
        binary()
    for name, version in (("valkey-server", "6.2.0"), ("redis-server", "7.2.4")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
        (tmp_path / name).chmod(0o755)

    assert binary() == tmp_path / "redis-server"
