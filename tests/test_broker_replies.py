"""Whatever a broker answers to an order, it ends in the state that the reply means, in words, and is never doubled.

Real workers with the real broker files, over real sockets, against a broker that says what the case says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bridge.brokers import BROKERS
from bridge.call import Token
from bridge.ledger import Ledger
from bridge.order import Leg, Order
from bridge.session import Login
from bridge.settings import read_settings
from bridge.transport import Transport
from bridge.work import Account
from bridge.worker import Worker
from tests.canned import SECRET, WAYS, Answer, CannedBroker, accounts_at, canned, untrusted
from tests.rig import delivery, wait_for

DATA = Path(__file__).resolve().parents[2] / "shared/data"
FAST = {"BRIDGE_SECRET": "a-test-secret-0123456789", "BRIDGE_LOOKUP_PATIENCE": "100ms", "BRIDGE_CALL_TIMEOUT": "500ms",
        "BRIDGE_LEASE": "3s", "BRIDGE_STEP_PATIENCE": "1s", "BRIDGE_SETTLE": "100ms", "BRIDGE_SHUTDOWN_TIMEOUT": "3s"}
D = Decimal


def shared(name: str) -> list[dict[str, Any]]:
    """A file of cases; empty where the repository stands without its data folder."""
    path = DATA / name
    return json.loads(path.read_text()) if path.exists() else []  # type: ignore[no-any-return]


CASES = [case for case in shared("bad-inputs.json") if case["area"] == "broker_reply"]
needs_data = pytest.mark.skipif(not CASES, reason="the shared test data is not beside this checkout")

# -- orders ------------------------------------------------------------------------------------------------------------

_ES = Order(kind="plain", symbol="ESZ6", side="buy", quantity=D(2), type="limit", price=D("5300.25"), time_in_force="day")
_STOP = Leg(role="stop_loss", side="sell", type="stop", stop_price=D(5290), time_in_force="day")
_TARGET = Leg(role="take_profit", side="sell", type="limit", price=D("5320.5"), time_in_force="day")
_NT = replace(_ES, symbol="ES 12-26")
_IDEA = Order(kind="plain", symbol="IDEA", side="buy", quantity=D(1), type="limit", price=D(13), time_in_force="day",
              options={"exchange": "NSE", "instrument_token": "14366", "product": "MIS"})
ORDERS = {
    ("tradovate", "placeorder"): _ES,
    ("tradovate", "placeoso"): replace(_ES, kind="oso", stop_loss=_STOP, take_profit=_TARGET),
    ("tradovate", "placeoco"): replace(_ES, kind="oco", side="sell", price=D(5320), other=replace(_STOP, role="other")),
    ("tradovate", "startorderstrategy"): replace(
        _ES, kind="oso", type="market", price=None,
        stop_loss=replace(_STOP, stop_price=None, offset=D(5)), take_profit=replace(_TARGET, price=None, offset=D(10))),
    ("tradovate", "liquidateposition"): Order(kind="close", symbol="ESZ6"),
    ("tradovate", "cancelorder"): Order(kind="cancel", options={"orderId": 42}),
    ("crosstrade", "place"): _NT,
    ("crosstrade", "cancel"): Order(kind="cancel", options={"orderId": "nt1"}),
    ("crosstrade", "close"): Order(kind="close", symbol="ES 12-26"),
    ("pocketful", "place"): _IDEA,
    ("pocketful", "place_co"): replace(_IDEA, kind="cover", stop_loss=Leg(role="stop_loss", side="sell", type="stop",
                                                                         stop_price=D(12))),
}
GOOD = {"tradovate": Answer.json({"orderId": 7, "oso1Id": 8, "oso2Id": 9}),
        "crosstrade": Answer.json({"orderId": "nt1", "success": True}),
        "pocketful": Answer.json({"data": {"oms_order_id": "20240311", "data": {"basket_id": "20240311"}}, "message": "",
                                  "status": "success"})}


def broker_of(way: str) -> str:
    return way.removesuffix("-ws")


# -- driving -----------------------------------------------------------------------------------------------------------


@contextmanager
def working(ledger: Ledger, accounts: Mapping[str, Account]) -> Iterator[None]:
    """A worker in this process, for as long as the block lasts."""
    worker = Worker(read_settings(FAST), dict(accounts), BROKERS, ledger)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def send(ledger: Ledger, account: Account, order: Order, key: str = "k", max_age_ms: int = 60_000) -> str:
    return str(ledger.enqueue(delivery(key, (account.name, order), home=account.name,
                                       max_age_ms=max_age_ms)).orders[0]["id"])


def settled(ledger: Ledger, order: str) -> dict[str, Any]:
    """The order once it has ended, was accepted, or is unknown and told to a person."""
    def there() -> dict[str, Any] | None:
        found = ledger.order(order)
        assert found is not None
        if found["state"] == "unknown":
            return found if is_waiting(ledger, order) else None
        return found if found["state"] not in ("queued", "submitting") else None

    try:
        found: dict[str, Any] = wait_for(there, 8)
    except AssertionError:
        raise AssertionError(f"never settled: {ledger.order(order)}") from None
    return found


def is_waiting(ledger: Ledger, order: str) -> bool:
    """Whether it is among what `bridge orders --waiting` shows."""
    return order in [each["id"] for each in ledger.orders(waiting=True)]


def states(found: Mapping[str, Any]) -> list[str]:
    return [each["state"] for each in found["history"]]


def words_for_a_trader(reason: str) -> bool:
    """Something to read, in a line, without the insides of Bridge."""
    insides = ("Traceback", "Exception", "Error(", "bridge.", "urllib3", "fault in Bridge", "object at 0x")
    return len(reason.split()) >= 3 and "\n" not in reason and not any(each in reason for each in insides)


# -- the cases of bad-inputs.json --------------------------------------------------------------------------------------

FAULTS = {"ReadTimeout": "silent", "RemoteDisconnected": "closed", "ConnectionResetError": "reset",
          "IncompleteRead": "cut"}
"""The exception's class in a case → what the broker does to be met with it."""


def ways_of(case: Mapping[str, Any]) -> list[str]:
    """The case's broker; over CrossTrade's WebSocket too where the case's matter is not its HTTP status."""
    broker, reply = case["given"]["broker"], case["given"].get("reply")
    framed = broker == "crosstrade" and (reply is None or reply["status"] in (200, 408))
    return [broker, f"{broker}-ws"] if framed else [broker]


BY_WAY = [pytest.param(case, way, id=f"{case['id']}{'-websocket' * (way != case['given']['broker'])}")
          for case in CASES for way in ways_of(case)]
LOST = [each for each in BY_WAY if each.values[0]["given"].get("transport", {}).get("phase") == "after_send"]


def answer_of(case: Mapping[str, Any]) -> Answer:
    given_ = case["given"]
    if transport := given_.get("transport"):
        return Answer(ends=FAULTS[transport["exception"]], body=b'{"orderId"')
    return Answer.recorded(given_["reply"])


@contextmanager
def broker_for(case: Mapping[str, Any], way: str, folder: Path, *more: Answer) -> Iterator[tuple[CannedBroker, str]]:
    """A broker that does what the case says, and the address to reach it by."""
    transport = case["given"].get("transport", {})
    if transport.get("phase") in (None, "after_send"):
        with canned(way, answer_of(case), *more) as broker:
            yield broker, broker.url
        return
    fault = transport["exception"]
    tls = untrusted(folder) if fault == "SSLCertVerificationError" else None
    with canned(way, GOOD[broker_of(way)], tls=tls, listening=fault != "ConnectionRefusedError") as broker:
        yield broker, "https://no-such-host.invalid" if fault == "NameResolutionError" else broker.url


def log_in_beforehand(ledger: Ledger, account: Account, way: str) -> None:
    """A token is in the ledger already, so that the order itself is what cannot be delivered."""
    transport = Transport(1.0)
    with canned(way, Answer()) as broker:
        login = Login(BROKERS[account.broker], account, ledger, FAST["BRIDGE_SECRET"])
        assert isinstance(login.token(replace(account, rest_url=broker.url), transport), Token)
    transport.close()


def listed(wanted: str | list[str]) -> list[str]:
    return wanted if isinstance(wanted, list) else [wanted]


@needs_data
@pytest.mark.parametrize(("case", "way"), BY_WAY)
def test_a_bad_reply_ends_in_the_state_it_names(case: dict[str, Any], way: str, ledger: Ledger, tmp_path: Path,
                                                capfd: pytest.CaptureFixture[str]) -> None:
    given_, expect = case["given"], case["expect"]
    wanted = listed(expect["state"])
    connects = given_.get("transport", {}).get("phase") not in ("connect", "tls_handshake")
    with broker_for(case, way, tmp_path) as (broker, url):
        account = accounts_at(tmp_path, {"one": (way, url)})["one"]
        if not connects:
            log_in_beforehand(ledger, account, way)
        order = send(ledger, account, ORDERS[given_["broker"], given_["operation"]],
                     max_age_ms=700 if "retry" in wanted else 60_000)
        with working(ledger, {"one": account}):
            found = settled(ledger, order)

        ends = {"retry": "expired"}  # nothing was done, so it waits; here for longer than it may
        assert found["state"] in [ends.get(each, each) for each in wanted], found
        assert len(broker.writes) <= expect.get("orders_sent", 1 if connects else 0)
    assert words_for_a_trader(found["reason"]), found["reason"]
    for words in expect.get("must_mention", ()):
        assert words in found["reason"]
    if found["state"] == "unknown":
        assert is_waiting(ledger, order)
    if found["state"] == "expired":
        assert states(found)[:3] == ["queued", "submitting", "queued"]
        assert words_for_a_trader(found["history"][2]["reason"]) and found["history"][2]["reason"] in found["reason"]
    told = json.dumps(found, default=str) + "".join(capfd.readouterr())
    assert SECRET not in told


@needs_data
@pytest.mark.parametrize(("case", "way"), LOST)
def test_a_reply_lost_on_a_connection_in_use_is_unknown_and_the_lane_goes_on(case: dict[str, Any], way: str,
                                                                             ledger: Ledger, tmp_path: Path) -> None:
    given_, good = case["given"], GOOD[case["given"]["broker"]]
    with canned(way, good, answer_of(case), good) as broker:
        account = accounts_at(tmp_path, {"one": (way, broker.url)})["one"]
        orders = [send(ledger, account, ORDERS[given_["broker"], given_["operation"]], key) for key in ("a", "b", "c")]
        with working(ledger, {"one": account}):
            found = [settled(ledger, order) for order in orders]

        assert [each["state"] for each in found] == ["accepted", case["expect"]["state"], "accepted"]
        assert len(broker.writes) == 3
    assert [each["id"] for each in ledger.orders(waiting=True)] == [orders[1]]


@pytest.mark.parametrize("way", WAYS)
def test_an_order_that_could_not_be_delivered_is_sent_once_when_the_broker_is_back(way: str, ledger: Ledger,
                                                                                   tmp_path: Path) -> None:
    broker_name = broker_of(way)
    with canned(way, GOOD[broker_name], listening=False) as broker:
        account = accounts_at(tmp_path, {"one": (way, broker.url)})["one"]
        order = send(ledger, account, ORDERS[broker_name, "place" if broker_name != "tradovate" else "placeorder"])
        with working(ledger, {"one": account}):
            wait_for(lambda: "refused" in str(ledger.order(order)["history"]) or "refused" in ledger.order(order)["reason"])  # type: ignore[index]
            broker.listen()
            found = settled(ledger, order)

        assert found["state"] == "accepted" and len(broker.writes) == 1
