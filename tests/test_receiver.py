"""The receiver as a process: what it answers, what it records, and what it never does."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import EmbeddedServer
from bridge.ledger import Ledger
from tests.serving import ROOT, SECRET, Answer, Hook, environment, free_port, moment, part, read_answer
from tests.wait import until

ACCOUNTS = """
accounts:
  one: {broker: tradovate, environment: sandbox, account: DEMO1, account_id: 1}
  two: {broker: tradovate, environment: sandbox, account: DEMO2, account_id: 2}
"""
ALERT = "alert: {ticker: text, action: text, price: number, time: time}\n"
ORDER = ('{kind: plain, symbol: "{{ alert.ticker }}", side: "{{ alert.action | side }}", quantity: 1, type: limit, '
         'price: "{{ alert.price }}"}')
TEMPLATES = {
    "plain": f"account: one\n{ALERT}sent_at: '{{{{ alert.time }}}}'\nwhen: alert.action != 'hold'\norder: {ORDER}\n",
    "with_id": f"account: one\n{ALERT}id: '{{{{ alert.ticker }}}}'\norder: {ORDER}\n",
    "no_window": f"account: one\n{ALERT}dedupe_window: 0s\norder: {ORDER}\n",
    "own_secret": f"account: one\n{ALERT}secret: ${{HOOK_SECRET}}\norder: {ORDER}\n",
    "copied": f"account: [one, two]\n{ALERT}orders:\n  - {ORDER}\n  - {ORDER}\n",
    "unset_secret": f"account: one\n{ALERT}secret: ${{HOOK_SECRET_NOT_SET}}\norder: {ORDER}\n",
    "broken": f"account: nobody\n{ALERT}order: {ORDER}\n",
    "bad name": f"account: one\n{ALERT}order: {ORDER}\n",
}
OWN_SECRET = "own-secret-of-one-template"
_numbers = itertools.count()


def alert(**fields: Any) -> dict[str, Any]:
    """An alert like no other."""
    return {"ticker": "ESZ6", "action": "buy", "price": str(5000 + next(_numbers) / 4), "time": moment(), **fields}


def write_files(folder: Path) -> dict[str, str]:
    (folder / "templates").mkdir()
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    for name, text in TEMPLATES.items():
        (folder / "templates" / f"{name}.yaml").write_text(text)
    return {"templates": str(folder / "templates"), "accounts": str(folder / "accounts.yaml"), "secret": SECRET}


@pytest.fixture(scope="module")
def hook(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    folder = tmp_path_factory.mktemp("receiver")
    port = free_port()
    environ = environment(folder, redis_url=redis_server, bind=f"127.0.0.1:{port}", body_timeout="700ms",
                          **write_files(folder)) | {"HOOK_SECRET": OWN_SECRET}
    with part("receiver", environ, folder / "log"):
        yield Hook(port, folder / "log")


@pytest.fixture(scope="module")
def ledger(redis_server: str) -> Iterator[Ledger]:
    found = Ledger(redis_server)
    yield found
    found.close()


def recorded(ledger: Ledger, alert_id: str) -> dict[str, Any]:
    return next(each for each in ledger.alerts(limit=None) if each["id"] == alert_id)


# -- what becomes of an alert ----------------------------------------------------------------------------------------


def test_an_alert_is_queued_durably_and_answered_with_its_orders(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("plain", alert())

    assert answer.status == 202
    order = answer.json["orders"][0]
    assert order == {"id": order["id"], "account": "one", "state": "queued"}
    stored = ledger.order(order["id"])
    assert stored is not None and stored["alert"] == answer.json["alert"] and stored["state"] == "queued"
    assert recorded(ledger, answer.json["alert"])["state"] == "accepted"
    assert answer.headers["cache-control"] == "no-store" and answer.headers["referrer-policy"] == "no-referrer"


def test_the_same_alert_again_is_a_duplicate_of_the_first(hook: Hook, ledger: Ledger) -> None:
    body = alert()
    first = hook.send("plain", body)

    second = hook.send("plain", body)

    assert second.status == 200
    assert second.json["duplicate_of"] == first.json["alert"] != second.json["alert"]
    assert second.json["orders"] == first.json["orders"] and "conflict" not in second.json
    assert recorded(ledger, second.json["alert"])["duplicate_of"] == first.json["alert"]


def test_the_same_id_with_another_body_is_a_conflict_told_to_a_person(hook: Hook) -> None:
    first = hook.send("with_id", alert(ticker="MESZ6"))

    second = hook.send("with_id", alert(ticker="MESZ6", action="sell"))

    assert second.status == 200
    assert second.json["duplicate_of"] == first.json["alert"] and second.json["conflict"] is True
    assert any(json.loads(line)["level"] == "error" and first.json["alert"] in line
               for line in hook.log.read_text().splitlines())


def test_without_a_window_each_delivery_makes_its_own_order(hook: Hook) -> None:
    body = alert()

    first, second = hook.send("no_window", body), hook.send("no_window", body)

    assert first.status == second.status == 202
    assert first.json["orders"][0]["id"] != second.json["orders"][0]["id"]


def test_an_alert_whose_when_is_false_is_skipped_and_not_asked_for_again(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("plain", alert(action="hold"))

    assert answer.status == 200 and answer.json["orders"] == []
    assert "when" in answer.json["skipped"]
    assert recorded(ledger, answer.json["alert"])["state"] == "skipped"


def test_an_alert_that_is_too_old_is_refused_with_its_expired_orders(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("plain", alert(time=moment(3600)))

    assert answer.status == 200
    assert "too old" in answer.json["refused"] and answer.json["orders"][0]["state"] == "expired"
    stored = ledger.order(answer.json["orders"][0]["id"])
    assert stored is not None and stored["state"] == "expired" and "too old" in stored["reason"]


def test_a_refused_alert_does_not_take_the_key_of_a_later_one(hook: Hook) -> None:
    body = alert(time=moment(3600))
    hook.send("plain", body)

    assert "duplicate_of" not in hook.send("plain", body).json


def test_an_alert_from_the_future_is_refused_with_the_field_named(hook: Hook) -> None:
    answer = hook.send("plain", alert(time=moment(-3600)))

    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "sent_at"


def test_every_wrong_field_is_told_at_once_and_recorded(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("plain", {"ticker": "ESZ6", "price": "much", "time": "later"})

    assert answer.status == 422 and answer.headers["content-type"] == "application/problem+json"
    assert {error["field"] for error in answer.json["errors"]} == {"action", "price", "time"}
    assert answer.json["status"] == 422 and answer.json["title"] == "Unprocessable Content"
    assert recorded(ledger, answer.json["alert"])["state"] == "invalid"


def test_a_body_that_cannot_be_read_is_a_400_and_recorded(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("plain", "{")

    assert answer.status == 400
    assert recorded(ledger, answer.json["alert"])["body"] == "{"


def test_an_order_for_each_account_and_each_waits_for_the_one_before_it(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("copied", alert())

    assert [order["account"] for order in answer.json["orders"]] == ["one", "two", "one", "two"]
    first, second = (ledger.load("two", order["id"]) for order in answer.json["orders"] if order["account"] == "two")
    assert first is not None and second is not None
    assert first.follows == "" and second.follows == first.id


# -- who may send ----------------------------------------------------------------------------------------------------


def without_date(answer: Answer) -> bytes:
    return re.sub(rb"Date: [^\r]*", b"", answer.raw)


def test_a_wrong_secret_and_an_unknown_template_are_answered_with_the_same_bytes(hook: Hook) -> None:
    answers = [hook.send("plain", alert(), secret="wrong"), hook.send("nothing", alert(), secret="wrong"),
               hook.send("nothing", alert()), hook.send("broken", alert(), secret="wrong"),
               hook.send("plain", b"", secret="%ff%00"), hook.send("plain", alert(), secret=SECRET + "/x")]

    assert {answer.status for answer in answers} == {404}
    assert len({without_date(answer) for answer in answers}) == 1


def test_a_template_with_its_own_secret_takes_only_that(hook: Hook) -> None:
    assert hook.send("own_secret", alert()).status == 404
    assert hook.send("plain", alert(), secret=OWN_SECRET).status == 404
    assert hook.send("own_secret", alert(), secret=OWN_SECRET).status == 202


def test_a_template_whose_own_secret_is_not_set_does_not_fall_back_to_the_shared_one(hook: Hook) -> None:
    assert hook.send("unset_secret", alert()).status == 422


def test_an_alert_for_a_template_that_does_not_load_is_recorded_as_invalid(hook: Hook, ledger: Ledger) -> None:
    answer = hook.send("broken", alert())

    assert answer.status == 422 and "does not load" in answer.json["detail"]
    assert recorded(ledger, answer.json["alert"])["state"] == "invalid"


def test_who_is_often_wrong_is_slowed_down_but_the_right_secret_is_not(
        redis_server: str, tmp_path: Path) -> None:
    port = free_port()
    environ = environment(tmp_path, redis_url=redis_server, bind=f"127.0.0.1:{port}", **write_files(tmp_path))
    with part("receiver", environ, tmp_path / "log"):
        hook = Hook(port, tmp_path / "log")

        answers = [hook.send("plain", alert(), secret="guess").status for _ in range(130)]

        assert answers[:100] == [404] * 100 and 429 in answers[100:]
        assert hook.send("plain", alert()).status == 202


# -- what may come ---------------------------------------------------------------------------------------------------


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


HEAD = f"POST /hook/plain/{SECRET} HTTP/1.1\r\nHost: bridge.test\r\n".encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_chunked_body_is_read_whole(hook: Hook) -> None:
    body = json.dumps(alert()).encode()

    assert hook.talk(CHUNKED + chunked(body[:20], body[20:])).status == 202


@pytest.mark.parametrize("request_bytes", [
    HEAD + b"Content-Length: 65537\r\n\r\n", CHUNKED + chunked(b"x" * 40_000, b"x" * 40_000)])
def test_a_body_over_the_limit_is_a_413_and_never_cut_and_parsed(hook: Hook, request_bytes: bytes) -> None:
    assert hook.talk(request_bytes).status == 413


def test_a_body_of_exactly_the_limit_is_read(hook: Hook) -> None:
    body = json.dumps(alert()).encode()

    assert hook.send("plain", body + b" " * (65_536 - len(body))).status == 202


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n"])
def test_malformed_chunks_are_a_400(hook: Hook, chunks: bytes) -> None:
    with hook.connect() as connection:
        connection.sendall(CHUNKED + chunks)
        connection.shutdown(1)
        assert read_answer(connection).status == 400


def test_a_body_shorter_than_announced_is_a_400(hook: Hook) -> None:
    with hook.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + json.dumps(alert()).encode())
        connection.shutdown(1)
        assert read_answer(connection).status == 400


def test_a_compressed_body_is_a_415(hook: Hook) -> None:
    assert hook.post(f"/hook/plain/{SECRET}", b"x", {"Content-Encoding": "gzip"}).status == 415


def test_the_content_type_is_never_asked(hook: Hook) -> None:
    for content_type in ("text/plain; charset=zlib_codec", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert hook.post(f"/hook/plain/{SECRET}", alert(), {"Content-Type": content_type}).status == 202


def test_a_body_that_drips_is_ended_while_others_are_served(hook: Hook) -> None:
    with hook.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert hook.send("plain", alert()).status == 202

        answer = read_answer(slow)

        assert answer.status == 408
        assert slow.recv(10) == b""


def test_a_head_that_drips_is_closed_without_an_answer(hook: Hook) -> None:
    with hook.connect() as slow:
        slow.sendall(HEAD[:20])
        assert read_answer(slow).status == 0


def test_a_connection_serves_one_request_after_the_other(hook: Hook) -> None:
    with hook.connect() as connection:
        for _ in range(3):
            body = json.dumps(alert()).encode()
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert read_answer(connection).status == 202


@pytest.mark.parametrize(("line", "status"), [
    (f"PUT /hook/plain/{SECRET}", {405}), (f"GET /hook/plain/{SECRET}", {405}), (f"OPTIONS /hook/x/{SECRET}", {405}),
    (f"POST //hook//plain//{SECRET}", {404}), (f"POST /hook/plain/{SECRET}/", {404}), ("GET /hook", {404}),
    (f"post /hook/plain/{SECRET}", {400}), (f"POST /hook/plain/{SECRET}\x01", {400}), ("GET /readyz/", {404})])
def test_other_methods_and_paths_are_refused_without_echo_or_redirect(hook: Hook, line: str, status: set[int]) -> None:
    answer = hook.talk(f"{line} HTTP/1.1\r\nHost: bridge.test\r\n\r\n".encode("latin-1"))

    assert answer.status in status
    assert "location" not in answer.headers and b"secret" not in answer.raw and b"hook" not in answer.body


def test_a_proxys_headers_are_not_believed_from_anybody(hook: Hook) -> None:
    answer = hook.post(f"/hook/plain/{SECRET}", alert(), {"SCRIPT_NAME": "/x", "X-Forwarded-Prefix": "/x",
                                                          "PATH_INFO": "/healthz"})

    assert answer.status == 202


# -- for those who watch ---------------------------------------------------------------------------------------------


def test_readiness_counts_what_is_broken_and_names_nothing(hook: Hook) -> None:
    answer = hook.get("/readyz")

    assert answer.status == 200
    assert answer.json == {"ready": True, "templates": 5, "broken_templates": 3, "stale_templates": 0,
                           "waiting_for_a_person": 0}
    assert hook.get("/healthz").json == {"status": "ok"}


def test_metrics_count_alerts_by_template_and_outcome(hook: Hook) -> None:
    hook.send("plain", alert())
    hook.send("nothing", alert())

    page = hook.get("/metrics").body.decode()

    assert re.search(r'bridge_alerts_total\{outcome="accepted",template="plain"\} [1-9]', page)
    assert re.search(r'bridge_wrong_secret_total\{answer="404"\} [1-9]', page)
    assert all(line.startswith(("#", "bridge_")) for line in page.splitlines())


def test_neither_secret_nor_path_is_in_the_log(hook: Hook) -> None:
    hook.send("plain", alert())
    hook.talk(f"POST /hook/plain/{SECRET} with blanks HTTP/1.1\r\n\r\n".encode())
    hook.talk(f"POST /hook/plain/{SECRET} HTTP/1.1\r\nBad Header {SECRET}\r\n\r\n".encode())

    log = hook.log.read_text()

    assert SECRET not in log and OWN_SECRET not in log and "/hook/" not in log
    for line in log.splitlines():
        json.loads(line)


# -- when something is wrong with us ---------------------------------------------------------------------------------


def test_while_the_ledger_is_away_senders_are_asked_to_come_again(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    server.start()
    port = free_port()
    environ = environment(tmp_path, redis_url=server.url, bind=f"127.0.0.1:{port}", **write_files(tmp_path))
    try:
        with part("receiver", environ, tmp_path / "log"):
            hook = Hook(port, tmp_path / "log")
            body = alert()
            assert hook.send("plain", alert()).status == 202
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            until(server.ended)

            for answer in (hook.send("plain", body), hook.send("plain", "{"), hook.get("/readyz")):
                assert answer.status == 503 and answer.headers["retry-after"] == "5"

            server.start()
            assert hook.send("plain", body).status == 202
            until(lambda: hook.get("/readyz").status == 200)
    finally:
        server.stop()


def test_stopping_answers_what_is_under_way(redis_server: str, tmp_path: Path) -> None:
    port = free_port()
    environ = environment(tmp_path, redis_url=redis_server, bind=f"127.0.0.1:{port}", **write_files(tmp_path))
    with part("receiver", environ, tmp_path / "log") as process:
        hook = Hook(port, tmp_path / "log")
        body = json.dumps(alert()).encode()
        with hook.connect() as connection:
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
            assert read_answer(connection).status == 100  # it is under way, and so it is when the next has been answered
            assert hook.get("/healthz").status == 200
            process.send_signal(signal.SIGTERM)
            until(lambda: refuses(port))
            connection.sendall(body[10:])

            assert read_answer(connection).status == 202
        assert process.wait(6) == 0


def refuses(port: int) -> bool:
    try:
        Hook(port, Path()).connect().close()
    except OSError:
        return True
    return False


def test_several_processes_share_the_port_and_add_up_their_metrics(redis_server: str, tmp_path: Path) -> None:
    port = free_port()
    environ = environment(tmp_path, redis_url=redis_server, bind=f"127.0.0.1:{port}", receiver_workers="2",
                          **write_files(tmp_path))
    with part("receiver", environ, tmp_path / "log"):
        hook = Hook(port, tmp_path / "log")
        assert {hook.send("plain", alert()).status for _ in range(12)} == {202}

        page = hook.get("/metrics").body.decode()

    assert 'bridge_alerts_total{outcome="accepted",template="plain"} 12.0' in page


@pytest.mark.parametrize(("changes", "words"), [
    ({"BRIDGE_SECRET": ""}, "BRIDGE_SECRET is not set"),
    ({"BRIDGE_BIND": "0.0.0.0:99999"}, "BRIDGE_BIND"),
    ({"BRIDGE_BIND": "192.0.2.1:8080"}, "BRIDGE_BIND: 192.0.2.1:8080 cannot be used"),
    ({"BRIDGE_REDIS_URL": ""}, "no running bridge here"),
])
def test_it_does_not_start_on_a_wrong_setting_and_names_it(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    environ = environment(tmp_path, redis_url="redis://127.0.0.1:1/0", bind=f"127.0.0.1:{free_port()}",
                          **write_files(tmp_path)) | changes

    ended = subprocess.run([sys.executable, "-m", "bridge", "receiver"], env=environ, capture_output=True, text=True,
                           timeout=20, check=False, cwd=ROOT)

    assert ended.returncode in (1, 3) and words in ended.stderr and "Traceback" not in ended.stderr
