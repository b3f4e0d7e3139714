"""Pocketful: what each reply means. Published replies, broken ones, and those that mean that nothing was done."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.brokers.pocketful import AccountOptions, Pocketful
from bridge.call import Accepted, Call, Hold, Outcome, Rejected, Reply, Retry, Seen, Unknown
from bridge.order import Kind, Leg, Order
from bridge.work import Account, Ids, Work

BROKER = Pocketful()
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STATES = {Accepted: "accepted", Rejected: "rejected", Retry: "retry", Unknown: "unknown"}


def shared(name: str) -> list[Any]:
    """A file of recorded cases; empty where the repository stands without its data folder."""
    path = DATA / name
    return json.loads(path.read_text(), parse_float=Decimal) if path.exists() else []


def account(client_id: str = "YG1234") -> Account:
    return Account(name="pf", broker="pocketful", client_id=client_id, rest_url="https://trade.pocketful.in",
                   options=AccountOptions().load({"stop_loss_value": "price"}))


def work(kind: Kind = "plain") -> Work:
    stop = Leg(role="stop_loss", side="sell", type="stop", stop_price=Decimal(12))
    target = Leg(role="take_profit", side="sell", type="limit", price=Decimal(14))
    if kind == "close":
        one = Order(kind=kind, symbol="IDEA", options={"exchange": "NSE", "instrument_token": "14366"})
        return Work(order=one, account=account(), ids=Ids(order_id="o1", counter=101))
    one = Order(kind=kind, symbol="IDEA", side="buy", quantity=Decimal(1), type="limit", price=Decimal(13),
                stop_loss=stop if kind != "plain" else None, take_profit=target if kind == "oso" else None,
                options={"exchange": "NSE", "instrument_token": "14366", "product": "MIS"})
    return Work(order=one, account=account(), ids=Ids(order_id="o1", counter=101))


def judge(kind: Kind, reply: Reply) -> Outcome:
    """What a submission (of a close: its closing order) came to that was answered like this."""
    plan = BROKER.submit(work(kind))
    next(plan)
    if kind == "close":
        for _ in ("pending", "completed"):
            plan.send(Reply.of({"data": {"orders": []}, "status": "success"}))
        open_one = {"exchange": "NSE", "instrument_token": 14366, "net_quantity": 1, "product": "MIS"}
        assert plan.send(Reply.of({"data": [open_one], "status": "success"})).write
    try:
        plan.send(reply)
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome
    raise AssertionError("a submission is one call")


def judge_cancel(row: dict[str, Any], reply: Reply) -> Outcome:
    """What the cancel of the row with this id came to, in a book where it goes on standing."""
    one = Order(kind="cancel", options={"oms_order_id": row["oms_order_id"]})
    plan = BROKER.submit(Work(order=one, account=account(), ids=Ids(order_id="o2")))
    book = Reply.of({"data": {"orders": [row]}, "status": "success"})
    none = Reply.of({"data": {"orders": []}, "status": "success"})
    answer: Reply | None = None
    try:
        while True:
            asked = plan.send(answer)
            answer = None
            if isinstance(asked, Call):
                answer = reply if asked.write else none if "completed" in asked.url else book
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome


ROW = {"oms_order_id": "202403132605", "exchange_order_id": "1300000034566552", "order_status": "CONFIRMED"}


def case_id(case: dict[str, Any]) -> str:
    return str(case["operation"])


CASES = [case for case in shared("pocketful-cases.json") if case["response"]]


def cases(*words: str) -> list[dict[str, Any]]:
    return [case for case in CASES if any(word in case["operation"] for word in words)]


def heard(case: dict[str, Any]) -> Reply:
    return Reply.of(case["response"]["body"], case["response"]["status"] or 200)


needs_data = pytest.mark.skipif(not CASES, reason="the shared cases are not beside this repository")


@needs_data
@pytest.mark.parametrize("case", [case for case in CASES if case["response"]["body"].get("status") == "error"],
                         ids=case_id)
@pytest.mark.parametrize("status", [200, 400])
def test_every_published_error_is_a_definite_no_with_its_words_and_code(case: dict[str, Any], status: int) -> None:
    body = case["response"]["body"]
    reply = Reply.of(body, status)
    row = {**ROW, "execution_type": "CO" if "kart" in case["request"]["path"] else "REGULAR"}

    outcomes = [judge("plain", reply), judge("cover", reply), judge("oso", reply), judge_cancel(row, reply)]

    for outcome in outcomes:
        assert isinstance(outcome, Rejected)
        assert body["message"] in outcome.reason and str(body["error_code"]) in outcome.reason
        assert "do not list" not in outcome.reason


@needs_data
@pytest.mark.parametrize("case", cases("place after-market order (success)"), ids=case_id)
def test_a_published_success_of_a_regular_order_gives_its_id(case: dict[str, Any]) -> None:
    assert judge("plain", heard(case)) == Accepted(broker_ids={"order": "200018000000003"})


@needs_data
@pytest.mark.parametrize("case", cases("PACE place cover order (success)"), ids=case_id)
def test_a_published_success_of_a_cover_order_gives_a_basket_id_only(case: dict[str, Any]) -> None:
    assert judge("cover", heard(case)) == Accepted(broker_ids={"basket": "20210531-23"})
    assert judge("oso", heard(case)) == Accepted(broker_ids={"basket": "20210531-23"})
    assert isinstance(judge("plain", heard(case)), Unknown)


@needs_data
@pytest.mark.parametrize("case", [case for case in cases("cancel") if "(success)" in case["operation"]], ids=case_id)
def test_every_published_success_of_a_cancel_is_accepted_an_empty_basket_id_included(case: dict[str, Any]) -> None:
    kind = case["request"]["body"]["execution_type"]

    assert isinstance(judge_cancel({**ROW, "execution_type": kind}, heard(case)), Accepted)


@needs_data
@pytest.mark.parametrize("case", [case for case in CASES if "orders" in str(case["response"]["body"].get("data"))
                                  and "book" in case["operation"] and "trade" not in case["operation"]], ids=case_id)
def test_every_published_book_row_is_found_and_understood(case: dict[str, Any]) -> None:
    [row] = case["response"]["body"]["data"]["orders"]
    kinds: dict[str, Kind] = {"BO": "oso", "CO": "cover"}
    one = work(kinds.get(row["execution_type"], "plain"))
    order = Order(kind=one.order.kind, symbol="x", side="buy", quantity=Decimal(row["quantity"]), type="limit",
                  price=Decimal(1), stop_loss=one.order.stop_loss, take_profit=one.order.take_profit,
                  options={"exchange": row["exchange"], "instrument_token": str(row["instrument_token"])})
    ids = Ids(order_id="o1", counter=int(row["user_order_id"]))
    plan = BROKER.look_up(Work(order=order, account=account(), ids=ids))
    answer: Reply | None = None
    seen: Seen | None = None
    try:
        while True:
            asked = plan.send(answer)
            assert isinstance(asked, Call)
            none = Reply.of({"data": {"orders": []}, "status": "success"})
            answer = heard(case) if "completed" in asked.url else none
    except StopIteration as done:
        seen = done.value

    assert seen is not None and seen.broker_ids["order"] == row["oms_order_id"]
    if row["order_status"] == "REJECTED":
        assert seen.broker_status == "rejected"
        assert row["rejection_reason"].strip() in seen.reason and str(row["rejection_code"]) in seen.reason
    else:
        assert seen.broker_status == "canceled"


@needs_data
@pytest.mark.parametrize("case", cases("positions live (day) (success)"), ids=case_id)
def test_the_published_position_is_turned_round(case: dict[str, Any]) -> None:
    one = Work(order=Order(kind="close", symbol="NSE:11915"), account=account(), ids=Ids(order_id="o1", counter=5))
    plan = BROKER.submit(one)
    next(plan)
    for _ in ("pending", "completed"):
        plan.send(Reply.of({"data": {"orders": []}, "status": "success"}))

    call = plan.send(heard(case))

    assert isinstance(call, Call)
    assert (call.body["order_side"], call.body["quantity"], call.body["product"]) == ("SELL", 1, "MIS")


@needs_data
@pytest.mark.parametrize("case", [case for case in CASES if case["response"]["body"].get("status") == "success"
                                  and not any(word in case["operation"] for word in ("place", "cancel"))], ids=case_id)
def test_no_success_of_another_operation_is_taken_for_a_placed_order(case: dict[str, Any]) -> None:
    """Judgement is by operation: a book's, a position's or a price's success names no new order."""
    names_an_order = "modify regular" in case["operation"]
    names_a_basket = "execute basket" in case["operation"]

    assert isinstance(judge("plain", heard(case)), Accepted if names_an_order else Unknown)
    assert isinstance(judge("cover", heard(case)), Accepted if names_a_basket else Unknown)


BAD = [case for case in shared("bad-inputs.json")
       if case["area"] == "broker_reply" and case["given"].get("broker") == "pocketful"]


def bad_reply(given_case: dict[str, Any]) -> Reply | None:
    """The reply as the transport hands it on; None where nothing left the machine (that never reaches a plan)."""
    if transport := given_case.get("transport"):
        sent = transport["phase"] == "after_send"
        return Reply(status=None, fault=transport["exception"]) if sent else None
    body = given_case["reply"]["body"]
    if isinstance(body, dict):
        return Reply(status=None, fault="the reply is larger than 8388608 bytes")
    return Reply(status=given_case["reply"]["status"], text=body, headers=given_case["reply"]["headers"])


@pytest.mark.skipif(not BAD, reason="the shared bad inputs are not beside this repository")
@pytest.mark.parametrize("case", BAD, ids=lambda case: str(case["id"]))
@pytest.mark.parametrize("kind", ["plain", "cover", "oso", "close"])
def test_bad_replies_end_in_the_state_they_name(case: dict[str, Any], kind: Kind) -> None:
    wanted = case["expect"]["state"]
    reply = bad_reply(case["given"])
    if reply is None:
        assert wanted == "retry"
        reply = Reply(status=None, fault="the broker's host name cannot be resolved", not_executed=True)
        assert isinstance(judge(kind, reply), Rejected), "once the driver's patience is over"
        return

    hold = BROKER.nothing_done(PLACE, reply)
    outcome = judge(kind, reply)

    assert (hold is not None) == (reply.status == 401)
    assert STATES[type(outcome)] in ([wanted] if isinstance(wanted, str) else wanted)
    assert outcome.reason
    for words in case["expect"].get("must_mention", ()):
        assert words in outcome.reason


PLACE = Call(operation="place", method="POST", url="https://x/api/v1/orders", step="entry", write=True)
CANCEL = Call(operation="cancel_kart", method="DELETE", url="https://x/api/v1/orders/kart/1", step="cancel.1",
              write=True)
FORBIDDEN = {"status": "error", "message": "Request Unauthorised", "error_code": 40000, "data": {}}
BLANK = {"data": {}, "error_code": 44000, "message": "`exchange_order_id` can't be blank", "status": "error"}


@pytest.mark.parametrize(("call", "reply", "whole_login", "wait_s"), [
    (PLACE, Reply.of({"message": "token"}, 401), True, 30),
    (PLACE, Reply.of("<html>login</html>", 403), True, 30),
    (PLACE, Reply.of(FORBIDDEN, 401), True, 30),
    (PLACE, Reply(status=429), True, 2),
    (PLACE, Reply(status=429, headers={"Retry-After": "17"}), True, 17),
    (PLACE, Reply(status=429, headers={"retry-after": "3600.5"}), True, 3600.5),
    (PLACE, Reply(status=429, headers={"retry-after": "0"}), True, 1),
    (PLACE, Reply(status=429, headers={"retry-after": "soon"}), True, 2),
    (PLACE, Reply(status=429, headers={"retry-after": "Fri, 20 Nov 2026 04:50:40 GMT",
                                       "date": "Fri, 20 Nov 2026 04:50:00 GMT"}), True, 40),
    (CANCEL, Reply.of(BLANK), False, 2),
    (CANCEL, Reply.of(BLANK, 400), False, 2),
])
def test_replies_that_mean_nothing_was_done_are_held(call: Call, reply: Reply, whole_login: bool,
                                                     wait_s: float) -> None:
    hold = BROKER.nothing_done(call, reply)

    assert isinstance(hold, Hold) and hold.reason
    assert (hold.whole_login, hold.wait_s) == (whole_login, wait_s)
    assert hold.renew == hold.person == (reply.status in (401, 403))
    assert hold.grows == (reply.status == 429 and wait_s == 2), "a wait that the broker does not name doubles"


@pytest.mark.parametrize(("call", "reply"), [
    (PLACE, Reply.of(FORBIDDEN)),
    (PLACE, Reply.of(BLANK)),
    (PLACE, Reply.of({**BLANK, "message": "`product` is invalid"}, 403)),
    (CANCEL, Reply.of({**BLANK, "message": "`client_id` can't be blank"})),
    (PLACE, Reply.of("<html>", 503)),
    (PLACE, Reply(status=None, fault="timed out")),
    (PLACE, Reply.of({"data": {"oms_order_id": "1"}, "status": "success"})),
])
def test_anything_else_reaches_the_plan(call: Call, reply: Reply) -> None:
    assert BROKER.nothing_done(call, reply) is None


@pytest.mark.parametrize(("reply", "kind"), [
    (Reply.of({"data": {}, "error_code": 44000, "message": "`price` is invalid", "status": "error"}, 500), Rejected),
    (Reply.of({"data": {}, "error_code": 45000, "message": "backend", "status": "error"}, 500), Unknown),
    (Reply.of({"data": {}, "message": "no code", "status": "error"}), Rejected),
    (Reply.of({"data": {}, "error_code": 99999, "message": "new", "status": "error"}), Rejected),
    (Reply.of({"status": "error"}), Rejected),
    (Reply.of({"message": "ok"}), Unknown),
    (Reply.of({"status": True, "data": {"oms_order_id": "1"}}), Unknown),
    (Reply.of({"status": "success", "data": {"oms_order_id": ""}}), Unknown),
    (Reply.of({"status": "success", "data": {"oms_order_id": None}}), Unknown),
    (Reply.of({"status": "success", "data": {"oms_order_id": "1/../2"}}), Unknown),
    (Reply.of({"status": "success", "data": "1"}), Unknown),
    (Reply.of({"status": "success", "data": {"oms_order_id": 202403111778}}), Accepted),
    (Reply.of("", 302), Unknown),
    (Reply.of("not found", 404), Unknown),
    (Reply(status=429), Retry),
    (Reply.of({"status": "error", "message": "Too many requests", "data": {}}, 429), Retry),
    (Reply.of({"message": "token"}, 401), Rejected),
    (Reply(status=None, fault="never sent", not_executed=True), Rejected),
    (Reply(status=200, text='{"status": "success", "status": "error", "data": {"oms_order_id": "1"}}'), Unknown),
    (Reply(status=200, text='{"status": "success", "data": {"oms_order_id": "1"}'), Unknown),
])
def test_accepted_needs_an_id_and_rejected_a_definite_no(reply: Reply, kind: type[Outcome]) -> None:
    outcome = judge("plain", reply)

    assert isinstance(outcome, kind)
    if isinstance(outcome, Unknown):
        assert "user_order_id 101" in outcome.reason


CUT_OFF = ("Error from backend: (504)-request timed out", "upstream request timeout", "Request time-out",
           "no response from OMS", "Service Unavailable", "Error from backend: (500)-internal server error",
           "Error from backend: (503)-try later", "context deadline exceeded", "read: connection reset by peer")


@pytest.mark.parametrize(("words", "status"), [
    *((words, status) for words in CUT_OFF for status in (200, 400, 403, 500)), ("", 408), ("Bad request", 408)])
@pytest.mark.parametrize("code", [None, 44000, 45000])
def test_a_fault_on_the_way_that_calls_itself_an_error_is_no_refusal(words: str, status: int, code: int | None) -> None:
    """The order may have reached the exchange before the one on the way gave up on the answer."""
    reply = Reply.of({"data": {}, "error_code": code, "message": words, "status": "error"}, status)

    for kind in ("plain", "cover", "oso", "close"):
        outcome = judge(kind, reply)
        assert isinstance(outcome, Unknown) and "user_order_id 101" in outcome.reason
    assert isinstance(judge_cancel(ROW, reply), Unknown)


@pytest.mark.parametrize("words", ["Error from backend: (500)-event id not found", "Error from backend: (1600)-cannot "
                                   "modify, no data found with this id", "Something went wrong", "`price` is invalid"])
def test_the_errors_of_the_pages_stay_refusals(words: str) -> None:
    assert isinstance(judge("plain", Reply.of({"error_code": 45000, "message": words, "status": "error"}, 400)), Rejected)


@pytest.mark.parametrize("data", [{"basket_id": "20210531-23"}, {"data": {"basket_id": "20210531-23"}}])
def test_a_basket_id_is_found_on_either_level(data: Any) -> None:
    outcome = judge("cover", Reply.of({"data": data, "status": "success"}))

    assert outcome == Accepted(broker_ids={"basket": "20210531-23"})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["status", "data", "error_code", "message", "oms_order_id", "basket_id",
                                         "orders"]),
                        inner | st.sampled_from(["success", "error"]), max_size=4), max_leaves=12)


@given(body=JSON | st.text(max_size=40), status=st.sampled_from([200, 201, 302, 400, 401, 403, 429, 500, 503]),
       kind=st.sampled_from(["plain", "cover", "oso"]))
def test_no_reply_breaks_the_judgement(body: Any, status: int, kind: Kind) -> None:
    reply = Reply(status=status, text=body if isinstance(body, str) else json.dumps(body))

    outcome = judge(kind, reply)
    BROKER.nothing_done(PLACE, reply)

    if isinstance(outcome, Accepted):
        assert all(outcome.broker_ids.values())
    else:
        assert outcome.reason


@given(body=JSON)
def test_no_book_breaks_a_look_up_or_a_cancel(body: Any) -> None:
    for plan in (BROKER.look_up(work()), BROKER.submit(Work(
            order=Order(kind="cancel", options={"oms_order_id": "1"}), account=account(), ids=Ids(order_id="o")))):
        answer: Reply | None = None
        try:
            while True:
                asked = plan.send(answer)
                answer = Reply(status=200, text=json.dumps(body)) if isinstance(asked, Call) else None
        except StopIteration:
            pass
