"""CrossTrade's look-ups against books that really are kept: the sandbox, over HTTP and over its WebSocket."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from crosstrade_kit import BROKER, CANCEL, CLOSE, KNOWN, OCO, OSO, PLAIN, REST, WS, work

from bridge.call import Absent, Accepted, Call, LookUp, Pause, Plan, Rejected, Reply, Seen, Token, Unknown
from bridge.order import Order
from bridge.rehearse import rehearse
from bridge.sandbox import Sandbox
from bridge.transport import Transport
from bridge.work import Account, Work


class Desk:
    """A sandbox with one account: drives plans over the wire and arms faults."""

    def __init__(self, sandbox: Sandbox, account: Account, transport: Transport) -> None:
        self.sandbox, self.transport = sandbox, transport
        self.account = replace(account, rest_url=sandbox.url, ws_url=sandbox.ws_url)
        self.frames = itertools.count()
        self.sent: list[Call] = []

    def control(self, what: str, body: Any) -> None:
        asked = urllib.request.Request(f"{self.sandbox.url}/_control/{what}", json.dumps(body).encode(),
                                       {"Content-Type": "application/json"})
        urllib.request.urlopen(asked, timeout=5).close()

    def fault(self, fault: str, operation: str = "place", **more: Any) -> None:
        self.control("faults", {"broker": "crosstrade", "operation": operation, "fault": fault, **more})

    def send(self, call: Call) -> Reply:
        self.sent.append(call)
        heard = self.transport.send(BROKER.dress(call, self.account, Token(value="t"), f"f{next(self.frames)}"))
        assert isinstance(heard, Reply), heard
        return heard

    def drive(self, plan: Plan | LookUp) -> Any:
        answer: Reply | None = None
        try:
            while True:
                asked = plan.send(answer)
                answer = None if isinstance(asked, Pause) else self.send(asked)
        except StopIteration as done:
            return done.value

    def work(self, order: Order, order_id: str = "o1", **more: Any) -> Work:
        return work(order, self.account, order_id, **{**KNOWN, **more})

    def submit(self, order: Order, order_id: str = "o1", **more: Any) -> Any:
        return self.drive(BROKER.submit(self.work(order, order_id, **more)))

    def look_up(self, order: Order, order_id: str = "o1", **more: Any) -> Any:
        return self.drive(BROKER.look_up(self.work(order, order_id, **more)))

    def look_up_step(self, order: Order, call: Call) -> Any:
        return self.drive(BROKER.look_up_step(self.work(order), call))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture(params=[REST, WS], ids=["rest", "websocket"])
def desk(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Desk]:
    transport = Transport(5.0)
    made = Desk(sandbox, request.param, transport)
    made.control("reset", {})
    yield made
    transport.close()


def test_an_order_whose_answer_was_lost_is_seen_under_our_id(desk: Desk) -> None:
    desk.fault("drop_after")
    assert isinstance(desk.submit(PLAIN), Unknown)

    seen = desk.look_up(PLAIN)

    assert isinstance(seen, Seen) and seen.by_our_id and seen.broker_ids["order"]


def test_an_order_that_never_arrived_is_absent(desk: Desk) -> None:
    """Though another order of ours trades the same and is listed under NinjaTrader's own id: its lifecycle tells."""
    desk.submit(PLAIN, "o0123456789abcdef0123")
    desk.fault("drop_before")
    assert isinstance(desk.submit(PLAIN), Unknown)

    assert isinstance(desk.look_up(PLAIN), Absent)
    assert desk.look_up(PLAIN, shows_our_ids=False) is None


def test_an_order_like_one_that_nobody_can_name_is_not_absent(desk: Desk) -> None:
    desk.submit(PLAIN, "of-somebody-else")
    desk.fault("drop_before")
    assert isinstance(desk.submit(PLAIN), Unknown)

    assert desk.look_up(PLAIN) is None


def test_an_add_on_that_knows_no_id_of_ours_never_shows_one(desk: Desk) -> None:
    desk.control("behaviour", {"broker": "crosstrade", "order_id_lookup": False})
    atm = replace(OSO, options={"strategy": "MyAtmStrategy"})
    for order, order_id in ((PLAIN, "o1"), (OCO, "o2"), (atm, "o3")):
        assert isinstance(desk.submit(order, order_id), Accepted)

    plain, oco, oso = (desk.look_up(order, order_id, shows_our_ids=False)
                       for order, order_id in ((PLAIN, "o1"), (OCO, "o2"), (atm, "o3")))

    assert plain is None
    assert isinstance(oco, Seen) and not oco.by_our_id
    assert isinstance(oso, Seen) and not oso.by_our_id


@pytest.mark.parametrize(("fault", "verdict"), [("drop_after", Seen), ("drop_before", Absent)])
def test_a_second_half_is_told_from_a_missing_one_and_the_order_goes_on(desk: Desk, fault: str,
                                                                       verdict: type[Any]) -> None:
    desk.fault("delay", seconds=0)  # meets the first half
    desk.fault(fault)
    plan = BROKER.submit(desk.work(OCO))
    first = desk.send(next(plan))
    second = plan.send(first)
    assert desk.send(second).status is None

    found = desk.look_up_step(OCO, second)

    assert isinstance(found, verdict)
    answer = Reply(status=None, seen=found) if isinstance(found, Seen) else desk.send(second)
    with pytest.raises(StopIteration) as done:
        plan.send(answer)
    assert isinstance(done.value.value, Accepted)
    assert isinstance(desk.look_up(OCO), Seen)


def test_an_undo_is_told_by_the_end_of_the_first_half(desk: Desk) -> None:
    plan = BROKER.submit(desk.work(OCO))
    plan.send(desk.send(next(plan)))
    undo = plan.send(Reply.of({"success": False, "error": "Invalid request"}))
    assert isinstance(undo, Call) and undo.step == "undo.entry"
    assert isinstance(desk.look_up_step(OCO, undo), Absent)

    desk.fault("drop_after", "cancel")
    assert desk.send(undo).status is None
    found = desk.look_up_step(OCO, undo)

    assert isinstance(found, Seen) and found.broker_status == "canceled"
    read = plan.send(Reply(status=None, seen=found))
    with pytest.raises(StopIteration) as done:
        plan.send(desk.send(read))
    assert isinstance(done.value.value, Rejected)


@pytest.mark.parametrize(("fault", "verdict"), [("drop_after", Seen), ("drop_before", Absent)])
def test_a_cancel_is_told_by_the_end_of_what_it_withdraws(desk: Desk, fault: str, verdict: type[Any]) -> None:
    ids = desk.submit(OCO, "o7").broker_ids
    targets = (desk.work(OCO, "o7", broker_ids=ids),)
    desk.fault(fault, "cancel", count=2)
    cancel = rehearse(BROKER.submit(desk.work(CANCEL, targets=targets)))[0]
    for call in cancel:
        if call.write:
            desk.send(call)

    assert isinstance(desk.look_up(CANCEL, "o9", targets=targets), verdict)


@pytest.mark.parametrize(("fault", "verdict"), [("drop_after", Seen), ("drop_before", Absent)])
def test_a_close_is_told_by_what_is_still_open(desk: Desk, fault: str, verdict: type[Any]) -> None:
    market = replace(PLAIN, type="market", price=None)
    ids = desk.submit(market, "o7").broker_ids
    targets = (desk.work(market, "o7", broker_ids=ids),)
    desk.fault(fault, "close")

    assert isinstance(desk.submit(CLOSE, "o9", targets=targets), Unknown)
    assert isinstance(desk.look_up(CLOSE, "o9", targets=targets), verdict)


def test_a_connection_is_kept_warm_without_touching_an_order(desk: Desk) -> None:
    call = BROKER.warm(desk.account)

    assert call is not None
    heard = desk.send(call)
    assert heard.status == 200 and heard.json["success"] is True
