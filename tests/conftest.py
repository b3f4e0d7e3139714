"""What tests share: a real server, emptied before each test that uses it.

Without BRIDGE_REDIS_URL it is the embedded server. With it, the tests run against that server: it has to be empty when
they begin, so that nobody's orders are ever wiped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from bridge.embedded import EmbeddedServer
from bridge.ledger import Ledger
from tests.rig import ToyServer, toy_server

GIVEN_REDIS = os.environ.pop("BRIDGE_REDIS_URL", "")
"""The server that the tests are to run against; '' for an embedded one."""
os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # parts are started often; compiled once, they start in two thirds of the time
for _name in [name for name in os.environ if name.startswith("BRIDGE_")]:
    del os.environ[_name]
# How long an example takes depends on what else the machine does, so it decides nothing.
hypothesis.settings.register_profile("suite", deadline=None,
                                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

LONGEST = ("test_soak.py", "test_up.py", "test_whole.py", "test_alarms.py", "test_lane.py", "test_lane_faults.py",
           "test_deployments.py", "test_redis_faults.py", "test_receiver.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: a process that got one of them last would work alone at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for each core, since most of the time is waiting; none for a named file, or on a given server."""
    files = [Path(each.partition("::")[0]) for each in config.args]
    if GIVEN_REDIS or any(file.suffix == ".py" for file in files) or config.getoption("capture") == "no":
        return 0
    return min(2 * (os.cpu_count() or 1), 8)


def pytest_configure(config: pytest.Config) -> None:
    if GIVEN_REDIS and config.getoption("numprocesses", None):
        raise pytest.UsageError("BRIDGE_REDIS_URL names one server, which tests empty: they need it alone (-n 0)")


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
