"""What tests share: a real server, emptied before each test that uses it.

Without BRIDGE_REDIS_URL it is the embedded server. With it, the tests run against that server: it has to be empty when
they begin, so that nobody's orders are ever wiped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bridge.embedded import EmbeddedServer
from bridge.ledger import Ledger
from tests.rig import ToyServer, toy_server

GIVEN_REDIS = os.environ.pop("BRIDGE_REDIS_URL", "")
"""The server that the tests are to run against; '' for an embedded one."""
for _name in [name for name in os.environ if name.startswith("BRIDGE_")]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running server: BRIDGE_REDIS_URL where it is given, else an embedded one."""
    if GIVEN_REDIS:
        with redis.Redis.from_url(GIVEN_REDIS) as client:
            if client.dbsize():
                pytest.exit("BRIDGE_REDIS_URL names a server with data in it: the tests need an empty one", 2)
        yield GIVEN_REDIS
        return
    server = EmbeddedServer(Path(tmp_path_factory.mktemp("valkey")))
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty server."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    """A ledger on the empty server."""
    found = Ledger(redis_url)
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[ToyServer]:
    """A toy broker that answers as the test scripts it."""
    with toy_server() as found:
        yield found
