"""Whatever a broker answers to an order, it ends in the state that the reply means, in words, and is never doubled.

Real workers with the real broker files, over real sockets, against a broker that says what the case says.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.brokers import BROKERS
from bridge.call import Token
from bridge.ledger import Ledger
from bridge.order import Leg, Order
from bridge.session import Login
from bridge.settings import read_settings
from bridge.transport import Transport
from bridge.work import Account
from bridge.worker import Worker
from tests.canned import SECRET, WAYS, Answer, Write, accounts_at, canned, untrusted, whole_books
from tests.rig import delivery, wait_for
from tests.wait import not_at_midnight_in_india

DATA = Path(__file__).resolve().parents[2] / "shared/data"
FAST = {"BRIDGE_SECRET": "a-test-secret-0123456789", "BRIDGE_LOOKUP_PATIENCE": "200ms", "BRIDGE_CALL_TIMEOUT": "2s",
        "BRIDGE_LEASE": "10s", "BRIDGE_STEP_PATIENCE": "1s", "BRIDGE_SETTLE": "100ms", "BRIDGE_SHUTDOWN_TIMEOUT": "3s"}
HELD_MS = 2500
"""The max_age of an order that the broker will not have yet: how long it is tried."""
LANES = 99
"""Lanes that are worked side by side here."""
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
    ("crosstrade", "place"): _NT,
    ("crosstrade", "cancel"): Order(kind="cancel", options={"orderId": "nt1"}),
    ("crosstrade", "close"): Order(kind="close", symbol="ES 12-26"),
    ("pocketful", "place"): _IDEA,
    ("pocketful", "place_co"): replace(_IDEA, kind="cover", stop_loss=Leg(role="stop_loss", side="sell", type="stop",
                                                                         stop_price=D(12))),
}
PLAIN = {"tradovate": _ES, "crosstrade": _NT, "pocketful": _IDEA}
GOOD = {"tradovate": Answer.json({"orderId": 7, "oso1Id": 8, "oso2Id": 9}),
        "crosstrade": Answer.json({"orderId": "nt1", "success": True}),
        "pocketful": Answer.json({"data": {"oms_order_id": "20240311", "data": {"basket_id": "20240311"}}, "message": "",
                                  "status": "success"})}


def broker_of(way: str) -> str:
    return way.removesuffix("-ws")


# -- playing scenes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Orders of one account, and what its broker answers to each write. `fault`: why none can be delivered.

    `book`: what look-ups are answered with, where it is not the canned broker's own, which proves nothing.
    """

    way: str
    orders: Sequence[Order]
    answers: Sequence[Answer] = ()
    fault: str = ""
    max_age_ms: int = 60_000
    book: Callable[[str], Answer] | None = None


@dataclass(frozen=True)
class Ending:
    """What became of a scene's orders, and the writes that reached its broker."""

    orders: list[dict[str, Any]]
    waiting: list[bool]
    writes: list[Write]


class Endings(dict[str, Ending]):
    """The endings of scenes that were played together, by name, and everything that was logged meanwhile."""

    log = ""


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


_numbers = itertools.count()


def send(ledger: Ledger, account: Account, order: Order, max_age_ms: int = 60_000) -> str:
    made = ledger.enqueue(delivery(f"reply-{next(_numbers)}", (account.name, order), home=account.name,
                                   max_age_ms=max_age_ms, broker=account.broker))
    return str(made.orders[0]["id"])


def play(ledger: Ledger, folder: Path, scenes: Mapping[str, Scene]) -> Endings:
    """Play scenes side by side, each in a lane of its own, until every order has settled and the worker has stopped."""
    endings = Endings()
    with ExitStack() as stack:
        logged = stack.enter_context(capture_logs())
        brokers = {name: stack.enter_context(canned(
            scene.way, *(scene.answers or (GOOD[broker_of(scene.way)],)), listening=scene.fault != "ConnectionRefusedError",
            tls=untrusted(folder) if scene.fault == "SSLCertVerificationError" else None))
            for name, scene in scenes.items()}
        for name, broker in brokers.items():
            broker.book = scenes[name].book or broker.book
        urls = {name: "https://no-such-host.invalid" if scenes[name].fault == "NameResolutionError" else broker.url
                for name, broker in brokers.items()}
        names = {name: f"a{next(_numbers)}" for name in scenes}  # a lane of an earlier play may be there still
        accounts = accounts_at(folder, {names[name]: (scene.way, urls[name]) for name, scene in scenes.items()})
        for name, scene in scenes.items():
            if scene.fault:
                log_in_beforehand(ledger, accounts[names[name]], scene.way)
        with working(ledger, accounts):
            wait_for(lambda: sum(each["event"] == "owns the lane" for each in logged) == len(accounts))
            sent = {name: [send(ledger, accounts[names[name]], order, scene.max_age_ms) for order in scene.orders]
                    for name, scene in scenes.items()}
            found, waiting = settled(ledger, [order for orders in sent.values() for order in orders])
    by_id = {each["id"]: each for each in found}
    for name, orders in sent.items():
        endings[name] = Ending([by_id[order] for order in orders], [order in waiting for order in orders],
                               brokers[name].writes)
    endings.log = str(logged)
    return endings


def log_in_beforehand(ledger: Ledger, account: Account, way: str) -> None:
    """A token is in the ledger already, so that the order itself is what cannot be delivered."""
    transport = Transport(1.0)
    with canned(way, Answer()) as broker:
        login = Login(BROKERS[account.broker], account, ledger, FAST["BRIDGE_SECRET"])
        assert isinstance(login.token(replace(account, rest_url=broker.url), transport), Token)
    transport.close()


def settled(ledger: Ledger, orders: Sequence[str]) -> tuple[list[dict[str, Any]], set[str]]:
    """The orders once each has ended, was accepted, or is unknown and among what `bridge orders --waiting` shows (as
    they are, where that takes too long); and the ids that stand there."""
    found: dict[str, dict[str, Any]] = {}

    def listed_as_waiting() -> set[str]:
        return {each["id"] for each in ledger.orders(waiting=True, limit=None)}

    def all_there() -> bool:
        waiting = listed_as_waiting()
        for order in set(orders) - set(found):
            now = ledger.order(order) or {}
            if now["state"] not in ("queued", "submitting", "unknown") or (now["state"] == "unknown" and order in waiting):
                found[order] = now
        return len(found) == len(set(orders))

    with suppress(AssertionError):  # each test judges its own order, one that never settled too
        wait_for(all_there, 20)
    return [found.get(order) or ledger.order(order) or {} for order in orders], listed_as_waiting()


def words_for_a_trader(reason: str) -> bool:
    """A line to read, safe to print, without the insides of Bridge: no names of exceptions, modules or objects."""
    insides = re.search(r"Traceback|[A-Za-z](Exception|Error)\b|bridge\.|urllib3|fault in Bridge|object at 0x", reason)
    return len(reason.split()) >= 3 and reason.isprintable() and not insides


@pytest.fixture(scope="module")
def books(redis_server: str) -> Iterator[Ledger]:
    """A ledger that outlasts a test."""
    found = Ledger(redis_server)
    yield found
    found.close()


# -- the cases of bad-inputs.json --------------------------------------------------------------------------------------

FAULTS = {"ReadTimeout": "silent", "RemoteDisconnected": "closed", "ConnectionResetError": "reset",
          "IncompleteRead": "cut"}
"""The exception's class in a case → what the broker does to be met with it."""


def listed(wanted: str | list[str]) -> list[str]:
    return wanted if isinstance(wanted, list) else [wanted]


def scene_of(case: Mapping[str, Any], way: str) -> Scene:
    given_ = case["given"]
    orders = [ORDERS[given_["broker"], given_["operation"]]]
    max_age_ms = HELD_MS if "retry" in listed(case["expect"]["state"]) else 60_000
    transport = given_.get("transport")
    if transport is None:
        return Scene(way=way, orders=orders, answers=[Answer.recorded(given_["reply"])], max_age_ms=max_age_ms)
    fault = transport["exception"]
    if transport["phase"] == "after_send":
        return Scene(way=way, orders=orders, answers=[Answer(ends=FAULTS[fault], body=b'{"orderId"')])
    return Scene(way=way, orders=orders, fault=fault, max_age_ms=max_age_ms)


def ways_of(case: Mapping[str, Any]) -> list[str]:
    """The case's broker; over CrossTrade's WebSocket too where the case's matter is not its HTTP status."""
    broker, reply = case["given"]["broker"], case["given"].get("reply")
    framed = broker == "crosstrade" and (reply is None or reply["status"] in (200, 408))
    return [broker, f"{broker}-ws"] if framed else [broker]


BAD = {case["id"] + "-websocket" * way.endswith("-ws"): (case, way) for case in CASES for way in ways_of(case)}
LOST = [name for name, (case, _) in BAD.items() if case["given"].get("transport", {}).get("phase") == "after_send"]


def in_use(name: str) -> Scene:
    """The scene of a lost reply on a connection that has carried an order before, with another order to follow."""
    case, way = BAD[name]
    alone, good = scene_of(case, way), GOOD[broker_of(way)]
    return replace(alone, orders=[*alone.orders] * 3, answers=[good, *alone.answers, good])


@pytest.fixture(scope="module")
def endings(books: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Endings:
    """Every scene of this file that is known beforehand, many at a time: most of their time is waiting."""
    scenes = {name: scene_of(*given_) for name, given_ in BAD.items()}
    scenes |= {f"{name} in use": in_use(name) for name in LOST}
    scenes |= {name: scene for name, (scene, _, _) in RECORDED.items()} | ABSENT
    all_of_them, names = Endings(), iter(scenes)
    while some := list(itertools.islice(names, LANES)):
        played = play(books, tmp_path_factory.mktemp("replies"), {name: scenes[name] for name in some})
        all_of_them.update(played)
        all_of_them.log += played.log
    return all_of_them


@needs_data
@pytest.mark.parametrize("name", BAD)
def test_a_bad_reply_ends_in_the_state_it_names(name: str, endings: Endings) -> None:
    case, _ = BAD[name]
    expect, ending = case["expect"], endings[name]
    (found,) = ending.orders
    connects = case["given"].get("transport", {}).get("phase") in (None, "after_send")

    ends = {"retry": "expired"}  # nothing was done, so it waits; here for longer than it may
    assert found["state"] in [ends.get(each, each) for each in listed(expect["state"])], found
    assert len(ending.writes) <= expect.get("orders_sent", 1 if connects else 0)
    assert ending.waiting == [found["state"] == "unknown"]
    assert words_for_a_trader(found["reason"]), found["reason"]
    assert all(words in found["reason"] for words in expect.get("must_mention", ()))
    if "repeat" in case["given"].get("reply", {"body": ""})["body"]:
        assert "larger than" in found["reason"]
    if found["state"] == "expired":
        why = [each["reason"] for each in found["history"] if each["state"] == "queued"]
        assert len(why) > 1 and all(words_for_a_trader(each) for each in why[1:]) and why[-1] in found["reason"]


@needs_data
@pytest.mark.parametrize("name", LOST)
def test_a_reply_lost_on_a_connection_in_use_is_unknown_and_the_lane_goes_on(name: str, endings: Endings) -> None:
    ending = endings[f"{name} in use"]

    assert [each["state"] for each in ending.orders] == ["accepted", BAD[name][0]["expect"]["state"], "accepted"]
    assert ending.waiting == [False, True, False]
    assert len(ending.writes) == 3


_UNHEARD = Scene(way="pocketful", orders=[_IDEA], answers=[Answer(ends="closed"), GOOD["pocketful"]], book=whole_books)
_UNHEARD_FOR_LONG = replace(_UNHEARD, answers=[Answer(ends="silent"), GOOD["pocketful"]], max_age_ms=1500)
ABSENT = {"absent and fresh": _UNHEARD, "absent and too old": _UNHEARD_FOR_LONG}


def test_an_order_proven_absent_is_sent_again_under_its_own_id(endings: Endings) -> None:
    not_at_midnight_in_india()
    ending = endings["absent and fresh"]
    (found,) = ending.orders

    assert found["state"] == "accepted", found
    assert len(ending.writes) == 2 and len({write.body["user_order_id"] for write in ending.writes}) == 1


def test_an_order_proven_absent_too_late_is_expired_and_not_sent_again(endings: Endings) -> None:
    not_at_midnight_in_india()
    ending = endings["absent and too old"]
    (found,) = ending.orders

    assert found["state"] == "expired", found
    assert words_for_a_trader(found["reason"]) and len(ending.writes) == 1 and ending.waiting == [False]


@needs_data
def test_no_secret_is_in_a_record_or_a_log(endings: Endings) -> None:
    told = json.dumps([ending.orders for ending in endings.values()], default=str) + endings.log

    assert SECRET not in told and len(endings.log) > 1000


def test_orders_that_could_not_be_delivered_are_sent_once_when_the_broker_is_back(books: Ledger, tmp_path: Path) -> None:
    with ExitStack() as stack:
        brokers = {way: stack.enter_context(canned(way, GOOD[broker_of(way)], listening=False)) for way in WAYS}
        accounts = accounts_at(tmp_path, {f"back-{way}": (way, broker.url) for way, broker in brokers.items()})
        orders = {way: send(books, accounts[f"back-{way}"], PLAIN[broker_of(way)]) for way in WAYS}
        with working(books, accounts):
            for order in orders.values():
                wait_for(lambda order=order: "refused" in str(books.order(order)["history"]))  # type: ignore[misc, index]
            for broker in brokers.values():
                broker.listen()
            found, _ = settled(books, list(orders.values()))

        assert [each["state"] for each in found] == ["accepted"] * len(WAYS)
        assert {way: len(broker.writes) for way, broker in brokers.items()} == dict.fromkeys(WAYS, 1)


# -- what brokers have really said -------------------------------------------------------------------------------------


def recorded(broker: str, operation: str, holding: str = "") -> Answer | None:
    """The reply on record of this operation that holds these words; 200 where its source gives no status."""
    for case in shared(f"{broker}-cases.json"):
        told = case["response"]
        if case["operation"] == operation and told and holding in json.dumps(told):
            return Answer.json(told["body"], told["status"] or 200)
    return None


def _on_record() -> Iterator[tuple[str, Scene, str, str]]:
    """(name, scene, the state it ends in, words of its reason), one or two of each shape."""
    for broker, operation, state, case, *words in (
            ("tradovate", "placeorder", "rejected", "order/placeOrder", "Access is denied"),
            ("tradovate", "placeorder", "rejected", "order/placeOrder", "No quote available"),
            ("tradovate", "placeorder", "rejected", "order/placeOrder", "bad symbol"),
            ("tradovate", "placeorder", "rejected", "any", "First Name should be specified"),
            ("tradovate", "placeorder", "expired", "order/placeOrder (penalty)", "slow down", "penalty of 15 s"),
            ("tradovate", "placeorder", "expired", "any", "p-captcha", "captcha"),
            ("tradovate", "placeorder", "expired", "any", "request_id", "429"),
            ("tradovate", "placeoso", "rejected", "order/placeOSO", "Access Denied"),
            ("tradovate", "placeoco", "unknown", "order/placeOCO", "ocoId", ""),
            ("tradovate", "placeoco", "rejected", "order/placeOCO", "Wrong OCO combination"),
            ("tradovate", "startorderstrategy", "accepted", "orderStrategy/startOrderStrategy", "ActiveStrategy", ""),
            ("crosstrade", "place", "accepted", "flatten then place", "success", ""),
            ("crosstrade", "place", "rejected", "webhook 200 with failure", "bad account"),
            ("crosstrade", "place", "unknown", "orders read while NT8 offline (fixture)", "nt8 offline"),
            ("crosstrade", "place", "unknown", "webhook accepted only on explicit success", "success", "id"),
            ("crosstrade", "cancel", "accepted", "cancel order by id", "success", ""),
            ("crosstrade", "cancel", "accepted", "cancel order by id (gone)", "already terminal", "gone already"),
            ("crosstrade", "cancel", "rejected", "cancel order by id (400)", "Invalid request"),
            ("crosstrade", "close", "accepted", "close position", "closedPositions", ""),
            ("crosstrade", "close", "accepted", "close position (none open)", "No positions found", "nothing open"),
            ("pocketful", "place", "accepted", "place after-market order (success)", "oms_order_id", ""),
            ("pocketful", "place", "rejected", "place regular order (error)", "`product` is invalid"),
            ("pocketful", "place_co", "accepted", "PACE place cover order (success)", "basket_id", ""),
            ("pocketful", "place_co", "rejected", "execute basket (error)", "disabled for hedging")):
        holding, said = (words[0], words[-1])
        if answer := recorded(broker, case, holding):
            scene = Scene(way=broker, orders=[ORDERS[broker, operation]], answers=[answer],
                          max_age_ms=HELD_MS if state == "expired" else 60_000)
            yield f"{broker} {case}: {holding}", scene, state, said


RECORDED = {name: (scene, state, said) for name, scene, state, said in _on_record()}


@pytest.mark.skipif(not RECORDED, reason="the shared test data is not beside this checkout")
@pytest.mark.parametrize("name", RECORDED)
def test_a_reply_on_record_ends_in_the_state_that_it_means(name: str, endings: Endings) -> None:
    _, state, said = RECORDED[name]
    (found,) = endings[name].orders

    assert found["state"] == state, found
    assert said in found["reason"]
    assert state == "accepted" or words_for_a_trader(found["reason"])
    assert len(endings[name].writes) == 1
    assert endings[name].waiting == [state == "unknown" or (state == "rejected" and found["kind"] in ("cancel", "close"))]


# -- whatever may come -------------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(["", "ok", "success", "error", "true", "timeout", "Success", "UnknownReason", "invalid", "7", "é\u2028", "a\n\x1b[31mb"])
_VALUES = st.recursive(st.none() | st.booleans() | st.integers(-2, 10**12) | st.floats() | _WORDS | st.text(max_size=8),
                       lambda each: st.lists(each, max_size=3) | st.dictionaries(_WORDS, each, max_size=3), max_leaves=5)
_NAMES = st.sampled_from(["orderId", "success", "error", "detail", "data", "status", "message", "error_code", "basket_id",
                          "oms_order_id", "failureReason", "failureText", "errorText", "orderStrategy", "id", "s", "i",
                          "violations", "p-time", "oso1Id"])
_BODIES = (st.binary(max_size=60) | _VALUES.map(lambda each: json.dumps(each).encode())
           | st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=5).map(lambda each: json.dumps(each).encode()))
_STATUSES = st.sampled_from([200, 200, 200, 200, 201, 204, 301, 307, 400, 404, 408, 409, 422, 500, 503]) | st.integers(200, 999)
_TYPES = st.sampled_from([{}, {"Content-Type": "application/json"}, {"Content-Type": "text/html"},
                          {"Retry-After": "soon"}, {"Location": "/v1/order/placeorder"}, {"Content-Encoding": "gzip"},
                          {"Transfer-Encoding": "chunked"}])
_ENDS = st.sampled_from([""] * 8 + ["closed", "reset", "cut"])
_ANSWERS = st.builds(Answer, _STATUSES, _TYPES, _BODIES, _ENDS)
_LIST = st.lists(_ANSWERS, min_size=6, max_size=6)


def not_executed(answer: Answer) -> bool:
    """Whether the brokers' pages call this reply "nothing was done", so that the order may be sent again."""
    return answer.status in (401, 403, 429) or b"p-ticket" in answer.body


@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(replies=st.fixed_dictionaries({way: _LIST for way in WAYS}))
def test_no_reply_whatever_doubles_an_order_or_leaves_it_without_a_word(
        books: Ledger, tmp_path_factory: pytest.TempPathFactory, replies: dict[str, list[Answer]]) -> None:
    scenes = {f"{way} {number}": Scene(way=way, orders=[PLAIN[broker_of(way)]], answers=[answer], max_age_ms=HELD_MS)
              for way, answers in replies.items() for number, answer in enumerate(answers)}

    endings = play(books, tmp_path_factory.mktemp("any"), scenes)

    for name, ending in endings.items():
        (found,), (answer,) = ending.orders, scenes[name].answers
        told = f"{name}: {answer} → {found}"
        assert found["state"] in ("accepted", "rejected", "unknown", "expired"), told
        assert ending.waiting == [found["state"] == "unknown"], told
        assert found["state"] == "accepted" or words_for_a_trader(found["reason"]), told
        assert len(ending.writes) == 1 or not_executed(answer), told
        assert len(ending.writes) <= 2, told
