"""The wire itself: HTTP as clients send it, exact numbers, and a process that starts and stops as told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox import Sandbox, jsontext
from bridge.sandbox.instruments import PRODUCTS, any_contract, by_contract_id, tradovate_contract, upcoming

from .conftest import Control, Tradovate

ROOT = Path(__file__).resolve().parents[2]


def exchange(sandbox: Sandbox, *chunks: bytes) -> bytes:
    """Send raw bytes, piece by piece, and read until the server closes or falls silent."""
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as raw:
        for chunk in chunks:
            raw.sendall(chunk)
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
        return answer


HEALTH = b"GET /_control/health HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_request_may_come_in_pieces_and_several_on_one_connection(sandbox: Sandbox) -> None:
    answer = exchange(
        sandbox, HEALTH[:20], HEALTH[20:] + HEALTH, HEALTH.replace(b"x\r\n", b"x\r\nConnection: close\r\n")
    )

    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"Connection: close") == 1


def test_a_chunked_body_is_read(sandbox: Sandbox, control: Control) -> None:
    head = b"POST /_control/price HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    body = b'{"symbol":"ESZ6",'
    answer = exchange(sandbox, head, b"%x\r\n%s\r\n" % (len(body), body), b'9\r\n"price":1\r\n1;x=y\r\n}\r\n0\r\n\r\n')

    assert b"200 OK" in answer
    assert control.get("/_control/prices") == {"ES 12-26": 1}


def test_a_client_that_expects_100_continue_gets_it(sandbox: Sandbox, control: Control) -> None:
    head = b"POST /_control/reset HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with socket.create_connection((sandbox.host, sandbox.port), timeout=5) as raw:
        raw.sendall(head)
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(b"{}")
        assert raw.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /" + b"a" * 70_000, b"413"),
    ],
)
def test_what_is_not_http_is_refused(sandbox: Sandbox, request_: bytes, status: bytes) -> None:
    assert exchange(sandbox, request_).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("sent", "seen"), [("5300.50", "5300.5"), ("0.0000005", "0.0000005"), ("5.3e3", "5300"), ("1e-7", "0.0000001")]
)
def test_a_price_comes_back_digit_for_digit(tradovate: Tradovate, control: Control, sent: str, seen: str) -> None:
    body = (
        '{"accountId":123456,"action":"Sell","symbol":"6JZ6","orderQty":1,"orderType":"Limit","timeInForce":"GTC",'
        f'"price":{sent}}}'
    )
    tradovate.call("POST", "/v1/order/placeorder", body)

    assert f'"price":{seen},' in control.call("GET", "/_control/requests").text.replace("}", ",")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a":-Infinity}', "", "{", "[" * 100_000, '"\ud800"'])
def test_what_is_not_json_is_refused(text: str) -> None:
    if text == '"\ud800"':
        assert jsontext.dumps(jsontext.loads(text)) == '"\\ud800"'
        return
    with pytest.raises(jsontext.NotJson):
        jsontext.loads(text)


@pytest.mark.parametrize("text", ["1e999999999", "-1E-999999999", "0e500", "1" * 3000 + ".5"])
def test_a_monstrous_number_is_written_as_it_came_and_stays_short(text: str) -> None:
    written = jsontext.dumps(jsontext.loads(text))

    assert Decimal(written) == Decimal(text)
    assert len(written) <= len(text) + 2


def test_a_float_is_never_written() -> None:
    with pytest.raises(TypeError):
        jsontext.dumps({"price": 1.5})


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_every_decimal_survives_the_wire(value: Decimal) -> None:
    text = jsontext.dumps(value)

    assert Decimal(text) == value
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_what_is_written_is_what_json_reads(value: Any) -> None:
    assert json.loads(jsontext.dumps(value)) == value


def test_every_contract_is_the_same_by_each_of_its_names() -> None:
    for product in PRODUCTS.values():
        for contract in upcoming(product, 3):
            assert by_contract_id(contract.id) == contract
            assert tradovate_contract(contract.tradovate) == contract
            assert any_contract(contract.ninja) == contract
            assert any_contract(contract.tradovate) == contract


@pytest.mark.parametrize("name", ["", "MES", "ES1!", "NOPEZ6", "E6H9", "ESX6", "ES 12-26", "ESZ26", "Z6", "💥"])
def test_what_tradovate_does_not_call_a_contract_is_none(name: str) -> None:
    assert tradovate_contract(name) is None


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_and_stops_within_a_second(sign: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "bridge.sandbox", "--bind", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with requests.Session() as session:
            assert session.get(url + "/_control/health", timeout=5).json() == {"ok": True}
            started = time.monotonic()
            process.send_signal(sign)
            assert process.wait(5) == 0
        assert time.monotonic() - started < 1


def test_a_taken_port_is_said_in_one_line(sandbox: Sandbox) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bridge.sandbox", "--bind", f"127.0.0.1:{sandbox.port}"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=10,
    )  # fmt: skip

    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert str(sandbox.port) in ended.stderr


def test_it_imports_nothing_of_the_rest_of_the_product() -> None:
    code = (
        "import sys, bridge; before = set(sys.modules); import bridge.sandbox.__main__;"
        "new = {m for m in set(sys.modules) - before if m.startswith('bridge.')};"
        "print([m for m in new if not m.startswith('bridge.sandbox')])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert ended.stdout.strip() == "[]"
