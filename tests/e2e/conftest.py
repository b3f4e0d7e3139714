"""One running Bridge for each module of end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running import Running, running


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("bridge")) as found:
        found.price("ESZ6", "5300")
        found.price("14366", "13")
        yield found
