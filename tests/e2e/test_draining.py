"""SIGTERM: nothing new is taken, what is in flight ends or is on record, the process is gone in time, nothing is doubled."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.ledger import Ledger
from tests.e2e.pair import ACCOUNTS, PLACES, Pair, limit_order, pair
from tests.gate import gate
from tests.rig import wait_for
from tests.serving import SECRET, Answer, Hook, environment, free_port, part, read_answer

SHUTDOWN_S = 0.7
TEMPLATE = """account: tv
alert: {price: number}
order: {kind: plain, symbol: ESZ6, side: buy, quantity: 1, type: limit, price: "{{ alert.price }}"}
"""
_prices = itertools.count(1)

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux shows them")


def ends_within(process: object, seconds: float) -> int:
    began = time.monotonic()
    status: int = process.wait(15)  # type: ignore[attr-defined]
    assert time.monotonic() - began < seconds
    return status


# -- a worker --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A call may take much longer than stopping."""
    with pair(tmp_path_factory.mktemp("draining"), 3, shutdown_timeout=f"{int(SHUTDOWN_S * 1000)}ms", call_timeout="2500ms",
              lease="3500ms") as found:
        yield found


def test_a_worker_that_is_told_to_stop_finishes_the_order_that_is_at_the_broker(two: Pair) -> None:
    alert, worker = limit_order("nt"), two.the_owner("nt")
    order = alert.orders[0].id
    hold = two.broker.hold(PLACES["nt"], order, answer=True)
    two.queue(alert)
    hold.wait()
    after = two.queue(limit_order("nt"))

    tasks = Path(f"/proc/{worker.process.pid}/task")
    before = len(list(tasks.iterdir()))
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: len(list(tasks.iterdir())) < before)  # it has heard: the first of its threads have ended
    hold.let_go()

    assert ends_within(worker.process, SHUTDOWN_S + 1.0) == 0
    found = two.until(order, "accepted")
    assert "found" not in found["reason"] and len(two.sent("nt", found)) == 1
    assert len(two.sent("nt", two.until(after, "accepted"))) == 1  # by another worker, at once: the lane was given up


def test_a_worker_ends_in_time_though_the_broker_hangs_and_the_next_one_finds_the_order(two: Pair) -> None:
    alert, worker = limit_order("nt"), two.the_owner("nt")
    order = alert.orders[0].id
    hold = two.broker.hold(PLACES["nt"], order)
    two.queue(alert)
    hold.wait()

    worker.process.send_signal(signal.SIGTERM)

    assert ends_within(worker.process, SHUTDOWN_S + 1.0) == 0
    assert worker.said("stopped while still at work; what was sent is on record")
    found = two.ledger.order(order)
    assert found is not None and found["state"] == "submitting" and found["calls"]
    hold.let_go()  # the broker executes it after all
    found = two.until(order, "accepted")
    assert len(two.sent("nt", found)) == 1 and "found at the broker" in found["reason"]


# -- a receiver ------------------------------------------------------------------------------------------------------


def receiver_environ(folder: Path, redis_url: str, port: int) -> dict[str, str]:
    (folder / "templates").mkdir(exist_ok=True)
    (folder / "templates" / "t.yaml").write_text(TEMPLATE)
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    return environment(folder, redis_url=redis_url, secret=SECRET, bind=f"127.0.0.1:{port}", shutdown_timeout="1s",
                       accounts=str(folder / "accounts.yaml"), templates=str(folder / "templates"))


def body() -> bytes:
    return json.dumps({"price": f"5{next(_prices):03d}.25"}).encode()


def request(data: bytes) -> bytes:
    return f"POST /hook/t/{SECRET} HTTP/1.1\r\nHost: bridge.test\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def until_refused(hook: Hook) -> list[Answer]:
    """What alerts are answered, one after the other, until nobody listens any more. The last may meet a closed door."""
    answers = []
    while True:
        try:
            answers.append(hook.talk(request(body())))
        except OSError:
            return [each for each in answers if each.status]


def test_a_receiver_that_is_told_to_stop_takes_no_new_alert_and_says_to_send_it_again(redis_url: str, ledger: Ledger,
                                                                                      tmp_path: Path) -> None:
    port = free_port()
    with part("receiver", receiver_environ(tmp_path, redis_url, port), tmp_path / "log") as process:
        hook = Hook(port, tmp_path / "log")
        with hook.connect() as begun:
            late = request(body())
            begun.sendall(late[:30])  # its head is not there yet: the receiver does not know what it is
            assert hook.talk(request(body())).status == 202

            process.send_signal(signal.SIGTERM)
            answers = until_refused(hook)
            begun.sendall(late[30:])
            of_the_begun = read_answer(begun)

        assert ends_within(process, 2.5) == 0
    refused = [each for each in answers if each.status == 503]
    taken = [each for each in answers if each.status == 202]
    assert refused and all(each.headers["retry-after"] == "5" for each in [*refused, of_the_begun])
    assert answers[:len(taken)] == taken  # after the first 503 nothing is taken any more
    assert len(ledger.alerts(limit=None)) == len(taken) + 1


def test_a_receiver_ends_in_time_though_the_ledger_hangs_and_a_resend_makes_one_order(redis_url: str, ledger: Ledger,
                                                                                      tmp_path: Path) -> None:
    port, answers = free_port(), list[Answer]()
    alert = body()
    with gate(redis_url) as way:
        environ = receiver_environ(tmp_path, f"redis://127.0.0.1:{way.port}", port)
        hook = Hook(port, tmp_path / "log")
        with part("receiver", environ, tmp_path / "log") as process:
            assert hook.talk(request(body())).status == 202
            hold = way.hold(ledger._scripts["enqueue"][0], alert.decode().replace('"', "").strip("{}").partition(" ")[2])
            sender = threading.Thread(target=lambda: answers.append(hook.talk(request(alert))))
            sender.start()
            hold.wait()

            process.send_signal(signal.SIGTERM)

            assert ends_within(process, 2.5) == 0
            sender.join()
            assert answers[0].status in (0, 503)
        hold.let_go()  # what it had asked for is done after all
        wait_for(lambda: len(ledger.lane("tv")) == 2)
        with part("receiver", environ, tmp_path / "log"):
            assert hook.talk(request(alert)).status == 200
    assert len(ledger.lane("tv")) == 2
