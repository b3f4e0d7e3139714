"""The Tradovate file's look-ups and log-in against the sandbox's own reading of the broker's pages, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from tradovate_kit import ACCOUNT, BROKER, CANCEL, CLOSE, OSO, D, drive, plain

from bridge.call import Absent, Accepted, Call, LookUp, Plan, Reply, Seen, Token
from bridge.numbers import dump_json
from bridge.order import Order
from bridge.sandbox import Sandbox
from bridge.work import Account, Credentials, Ids, Work

NOW = datetime.now(UTC).timestamp()


class Broker:
    """The sandbox as a plan's driver sees it, logged in; `control` is its switchboard."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()
        self.http.trust_env = False
        self.account: Account = replace(ACCOUNT, environment="sandbox", rest_url=url,
                                        credentials=Credentials(BROKER.sandbox_credentials))
        self.control("reset", {})
        self.token = self.log_in()

    def control(self, what: str, body: dict[str, Any]) -> None:
        assert self.http.post(f"{self.url}/_control/{what}", json=body, timeout=5).ok

    def send(self, call: Call) -> Reply:
        got = self.http.request(call.method, call.url, headers=dict(call.headers), timeout=5,
                                data=dump_json(call.body) if call.body is not None else None)
        return Reply(status=got.status_code, text=got.text, headers={each.lower(): got.headers[each]
                                                                     for each in got.headers})

    def answer(self, call: Call) -> Reply:
        return self.send(BROKER.dress(call, self.account, self.token, ""))

    def log_in(self) -> Token:
        steps = BROKER.log_in(self.account, NOW, None)
        call, got = next(steps), None
        for _ in range(5):
            reply = self.send(call)
            if hold := BROKER.nothing_done(call, reply):
                call = replace(call, body={**call.body, **hold.ticket})
                continue
            try:
                call = steps.send(reply)
            except StopIteration as done:
                got = done.value
                break
        assert isinstance(got, Token)
        return got

    def work(self, order: Order, order_id: str, **more: Any) -> Work:
        return Work(order=order, account=self.account, ids=Ids(order_id=order_id), **more)

    def drive(self, plan: Plan | LookUp) -> Any:
        return drive(plan, self.answer)[1]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def broker(sandbox: Sandbox) -> Broker:
    return Broker(sandbox.url)


SYMBOL = f"ESZ{(datetime.now(UTC) + timedelta(days=400)).year % 10}"


def buy(kind: str = "limit") -> Order:
    return plain(kind, symbol=SYMBOL, **({"price": D(5000)} if kind == "limit" else {}))


def test_a_close_s_effect_is_told_by_positions_and_orders(broker: Broker) -> None:
    close = broker.work(replace(CLOSE, symbol=SYMBOL), "c1")
    flat = broker.drive(BROKER.look_up(close))
    broker.drive(BROKER.submit(broker.work(buy(), "o1")))
    resting = broker.drive(BROKER.look_up(close))
    broker.drive(BROKER.submit(broker.work(buy("market"), "o2")))
    both = broker.drive(BROKER.look_up(close))
    done = broker.drive(BROKER.submit(close))

    assert isinstance(flat, Seen) and isinstance(done, Accepted)
    assert resting == Absent(reason=f"1 working order on {SYMBOL} at Tradovate still")
    assert both == Absent(reason=f"a position of 2 and 1 working order on {SYMBOL} at Tradovate still")
    assert isinstance(broker.drive(BROKER.look_up(close)), Seen)


def test_a_cancel_s_effect_is_told_by_the_end_of_its_orders(broker: Broker) -> None:
    made = replace(OSO, symbol=SYMBOL)
    placed = broker.drive(BROKER.submit(broker.work(made, "o1")))
    cancel = broker.work(CANCEL, "c1", targets=(broker.work(made, "o1", broker_ids=placed.broker_ids),))
    before = broker.drive(BROKER.look_up(cancel))
    done = broker.drive(BROKER.submit(cancel))

    assert isinstance(before, Absent) and isinstance(done, Accepted)
    assert isinstance(broker.drive(BROKER.look_up(cancel)), Seen)
    assert isinstance(broker.drive(BROKER.look_up(replace(cancel, order=replace(CANCEL, legs_too=True)))), Seen)


def test_an_entry_cut_off_a_short_list_proves_nothing(broker: Broker) -> None:
    for name in ("o1", "o2"):
        broker.drive(BROKER.submit(broker.work(buy(), name)))
    whole = broker.drive(BROKER.look_up(broker.work(buy(), "o1")))
    broker.control("behaviour", {"broker": "tradovate", "entity_cap": 1})
    cut = broker.drive(BROKER.look_up(broker.work(buy(), "o1")))
    broker.control("behaviour", {"broker": "tradovate", "entity_cap": 0})

    assert isinstance(whole, Seen) and whole.by_our_id
    assert cut is None


def test_a_penalised_log_in_is_granted_with_its_ticket(broker: Broker) -> None:
    broker.control("faults", {"broker": "tradovate", "operation": "accesstokenrequest", "fault": "penalty_ticket",
                              "count": 5})

    assert broker.log_in() != broker.token


def test_the_call_that_keeps_a_connection_warm_is_answered(broker: Broker) -> None:
    call = BROKER.warm(broker.account)

    assert call is not None
    reply = broker.answer(call)
    assert reply.status == 200 and json.loads(reply.text)["id"] == 123456
