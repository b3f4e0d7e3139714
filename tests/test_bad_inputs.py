"""Wrong, hostile and odd requests against a real receiver: each is answered as a careful engineer expects, makes no
order that it should not, and leaks nothing."""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.ledger import Ledger
from tests.serving import ROOT, SECRET, Answer, Hook, environment, free_port, moment, part, read_answer

CASES_FILE = ROOT / "../shared/data/bad-inputs.json"
CASES: list[dict[str, Any]] = json.loads(CASES_FILE.read_text()) if CASES_FILE.exists() else []
MINE = [case for case in CASES if case["area"] in ("http", "body", "alert_field")]

pytestmark = pytest.mark.skipif(not CASES, reason="the shared test data is not beside this checkout")

ASSUMED_NOW = b"2026-11-20T15:30:00Z"
"""The moment in the cases: the same number of bytes as the present one, so that lengths stay right."""


@pytest.fixture(scope="module")
def hook(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    folder = tmp_path_factory.mktemp("bad-inputs")
    (folder / "templates").mkdir()
    template = (ROOT / "templates/es_breakout.yaml").read_text()
    (folder / "templates/es_breakout.yaml").write_text(template)
    port = free_port()
    environ = environment(folder, redis_url=redis_server, bind=f"127.0.0.1:{port}", secret=SECRET, body_timeout="800ms",
                          templates=str(folder / "templates"), accounts=str(ROOT / "accounts.yaml"))
    with part("receiver", environ, folder / "log"):
        yield Hook(port, folder / "log")


@pytest.fixture(scope="module")
def ledger(redis_server: str) -> Iterator[Ledger]:
    found = Ledger(redis_server)
    yield found
    found.close()


def orders_made(ledger: Ledger) -> int:
    return sum(order["state"] == "queued" for order in ledger.orders(limit=None))


def request_of(given: dict[str, Any]) -> bytes:
    """The bytes of a case, its times moved to the present."""
    if "base64" in given:
        return base64.b64decode(given["base64"])
    if "raw" in given or "raw_head" in given:
        return _today(given.get("raw", given.get("raw_head", "")).encode("latin-1"))
    body = given["body"]
    content = _today(base64.b64decode(body["base64"]) if isinstance(body, dict) else body.encode())
    headers = {"Host": "bridge.test", "Content-Length": str(len(content)), **given.get("headers", {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{given['method']} {given['path']} HTTP/1.1\r\n{head}\r\n".encode() + content


def _today(content: bytes) -> bytes:
    return content.replace(ASSUMED_NOW, moment().encode())


def play(hook: Hook, given: dict[str, Any]) -> Answer:
    """Do what the case's client does."""
    with hook.connect() as connection:
        sender = threading.Thread(target=_send, args=(connection, given), daemon=True)
        sender.start()
        answer = read_answer(connection, head_only=str(given.get("raw", "")).startswith("HEAD "))
        connection.close()
        sender.join(10)
    return answer


def _send(connection: socket.socket, given: dict[str, Any]) -> None:
    try:
        connection.sendall(request_of(given))
        if more := given.get("then_repeat"):
            connection.sendall(more["byte"].encode() * more["count"])
        if more := given.get("then_chunks"):
            chunk = more["byte"].encode() * more["size"]
            for _ in range(more["count"]):
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            connection.sendall(b"0\r\n\r\n")
        if given.get("then") == "half-close" or "base64" in given:
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the receiver had heard enough


@pytest.mark.parametrize("case", MINE, ids=lambda case: str(case["id"]))
def test_a_bad_input_is_answered_as_expected(case: dict[str, Any], hook: Hook, ledger: Ledger) -> None:
    given, expect = case["given"], case["expect"]
    before = orders_made(ledger)

    answer = play(hook, given)

    statuses = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    assert (answer.status or "closed") in statuses, answer.raw[:500]
    assert answer.status < 500 or answer.status == 501
    if "orders_sent" in expect:
        assert orders_made(ledger) - before == expect["orders_sent"]
    said = answer.body.decode("utf-8", "replace")
    for word in expect.get("must_mention", ()):
        assert word in said
    if any_of := expect.get("mention_any"):
        assert any(word in said for word in any_of), said
    for content in (answer.raw.decode("latin-1"), hook.log.read_text()):
        assert SECRET not in content and "leak-me" not in content
    assert hook.send("es_breakout", _good()).status == 202


_numbers = itertools.count()


def _good() -> dict[str, Any]:
    return {"ticker": "ES1!", "action": "buy", "contracts": 1, "price": 5000 + 0.25 * next(_numbers), "time": moment()}


def test_no_answer_repeats_what_was_evaluated(hook: Hook) -> None:
    answer = hook.send("es_breakout", {**_good(), "ticker": "{{ 7*7 }}"})

    assert answer.status == 422 and not re.search(r"\b49\b", answer.body.decode())


def test_the_whole_run_wrote_no_secret_path_or_traceback(hook: Hook) -> None:
    log = hook.log.read_text()

    assert SECRET not in log and "/hook/" not in log and "Traceback" not in log

