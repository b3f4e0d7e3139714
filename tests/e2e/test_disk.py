"""`bridge up` and a disk that is full or read-only: a clear refusal, never a false 202, nothing lost, nothing corrupted.

A limit on the size of files stands in for the full disk: what does not fit is refused by the system in the same place.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.embedded import EmbeddedServer
from bridge.ledger import Ledger
from tests.rig import wait_for
from tests.serving import ROOT, SECRET, Answer, environment, moment
from tests.test_up import Up, running

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits another process's files as Linux does")
ROOM = 40_000


def refusal(folder: Path, data: Path, before: Callable[[], None] | None = None) -> str:
    """What `bridge up` says, which ends with 3: a service could not be had."""
    environ = environment(folder, data=str(data), secret=SECRET, bind="127.0.0.1:0", sandbox_bind="127.0.0.1:0",
                          templates=str(ROOT / "templates"), accounts=str(ROOT / "accounts.yaml"))
    done = subprocess.run([sys.executable, "-m", "bridge", "up", "--sandbox"], env=environ, cwd=ROOT, timeout=30,
                          capture_output=True, text=True, check=False, preexec_fn=before)
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_a_data_folder_that_is_a_file_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("notes")

    words = refusal(tmp_path, data)

    assert "BRIDGE_DATA" in words and str(data) in words and data.read_text() == "notes"


def test_a_data_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    words = refusal(tmp_path, Path("/proc/self/fd"))  # not even root may write there

    assert "BRIDGE_DATA" in words and "/proc/self/fd" in words


def test_a_disk_that_is_full_at_the_start_is_told(tmp_path: Path) -> None:
    words = refusal(tmp_path, tmp_path / "data",
                    lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY)))

    assert f"the embedded server did not start on {tmp_path / 'data'}" in words


def limit(process: int | None, size: int) -> None:
    """What this process, and what it starts from now on, writes beyond `size` in a file is refused."""
    if process is not None:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def send(up: Up, number: int) -> Answer:
    path = up.url_of("es_breakout").removeprefix(up.said["receiver"]).replace("$BRIDGE_SECRET", SECRET)
    return up.hook.post(path, {"ticker": "ES1!", "action": "buy", "contracts": 1, "price": f"{4000 + number}.25",
                               "time": moment()})


def test_a_disk_that_fills_while_running_makes_503_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    accepted: list[str] = []

    def take(answer: Answer) -> bool:
        assert answer.status in (202, 503), answer.raw
        if answer.status == 503:
            assert answer.headers["retry-after"] == "5"
            return False
        accepted.append(answer.json["orders"][0]["id"])
        return True

    with running(tmp_path, secret=SECRET) as up:
        assert take(send(up, 0))
        full = max(each.stat().st_size for each in (tmp_path / "data" / "appendonlydir").iterdir()) + ROOM
        for process in (up.process.pid, up.process_id("valkey")):
            limit(process, full)
        numbers = iter(range(1, 1000))
        wait_for(lambda: not take(send(up, next(numbers))), 20)
        wait_for(lambda: "the embedded server died" in up.log.read_text())
        for _ in range(3):
            take(send(up, next(numbers)))

        for process in (up.process.pid, up.process_id("valkey")):
            limit(process, resource.RLIM_INFINITY)
        wait_for(lambda: take(send(up, next(numbers))), 20)
        with urllib.request.urlopen(f"{up.said['receiver']}/readyz", timeout=5) as ready:
            assert ready.status == 200
        assert len(accepted) > 3
        wait_for(lambda: set(accepted) <= up.at_the_broker(), 20)

    server = EmbeddedServer(tmp_path / "data")
    server.start()
    ledger = Ledger(server.url)
    try:
        states = {order: (ledger.order(order) or {}).get("state") for order in accepted}
        assert set(states.values()) == {"accepted"}, states
    finally:
        ledger.close()
        server.stop()
