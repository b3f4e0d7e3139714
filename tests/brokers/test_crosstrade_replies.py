"""CrossTrade: what its replies mean, over REST and over the WebSocket, and what may be repeated."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from crosstrade_kit import (
    BROKER,
    CANCEL,
    CLOSE,
    OCO,
    OSO,
    PLAIN,
    REST,
    SILENT,
    TIMED_OUT,
    TOKEN,
    WS,
    D,
    drive,
    gone,
    life,
    no,
    work,
    yes,
)
from hypothesis import given
from hypothesis import strategies as st

from bridge.call import Accepted, Call, Hold, Outcome, Placeholder, Rejected, Reply, Unknown
from bridge.order import Order
from bridge.rehearse import rehearse
from bridge.work import Account

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
CASES_FILE, BAD_FILE = DATA / "crosstrade-cases.json", DATA / "bad-inputs.json"
BY_HAND = Order(kind="cancel", options={"orderId": "ce0a8e5002ea463e856eb6384f5cee7e"})


def placed(reply: Reply, account: Account = REST) -> Outcome:
    return drive(BROKER.submit(work(PLAIN, account)), [reply])[1]  # type: ignore[no-any-return]


def hold(reply: Reply, account: Account = REST) -> Hold | None:
    return BROKER.nothing_done(rehearse(BROKER.submit(work(PLAIN, account)))[0][0], reply)


# -- a yes -------------------------------------------------------------------------------------------------------------


def test_success_true_with_an_order_id_is_accepted_with_that_id() -> None:
    assert placed(yes("cb1fc8d4e1a84d29ae38fea964aaac8c")) == Accepted(
        broker_ids={"order": "cb1fc8d4e1a84d29ae38fea964aaac8c"})


def test_a_reply_wrapped_in_data_is_read_as_well() -> None:
    assert placed(Reply.of({"success": True, "data": {"orderId": "x"}})) == Accepted(broker_ids={"order": "x"})
    assert placed(Reply.of({"data": {"orderId": "x", "success": True}}), WS) == Accepted(broker_ids={"order": "x"})


def test_a_warning_reaches_the_trader() -> None:
    outcome = placed(Reply.of({"success": True, "orderId": "x", "warning": "market is closed"}))

    assert isinstance(outcome, Accepted) and outcome.reason == "market is closed"


def test_an_atm_entry_says_who_owns_its_exits() -> None:
    _, outcome = drive(BROKER.submit(work(OSO)), [yes()])

    assert isinstance(outcome, Accepted) and "My ATM" in outcome.reason


def test_a_placeholder_passes_for_an_id() -> None:
    assert isinstance(placed(Reply.of({"orderId": Placeholder.of("place.orderId"), "success": True})), Accepted)


# -- doubt -------------------------------------------------------------------------------------------------------------

DOUBTFUL: dict[str, Reply] = {
    "silence": SILENT,
    "408": TIMED_OUT,
    "408 without a body": Reply(status=408),
    "yes without an id": Reply.of({"success": True}),
    "yes with an empty id": Reply.of({"success": True, "orderId": " "}),
    "yes with a number for an id": Reply.of({"success": True, "orderId": 7}),
    "yes with dots for an id": Reply.of({"success": True, "orderId": ".."}),
    "an id without a yes": Reply.of({"orderId": "x"}),
    "success as text": Reply.of({"success": "true", "orderId": "x"}),
    "failure as text": Reply.of({"success": "false", "error": "x"}),
    "success as a number": Reply.of({"success": 1, "orderId": "x"}),
    "success null": Reply.of({"success": None, "orderId": "x"}),
    "a yes and a no": Reply.of({"success": True, "orderId": "x", "data": {"success": False}}),
    "a failure with an id": Reply.of({"success": False, "error": "oops", "orderId": "nt1"}),
    "a 400 that says yes": Reply.of({"success": True, "orderId": "x", "error": "?"}, 400),
    "a yes with an error": Reply.of({"success": True, "orderId": "x", "error": "Order rejected"}),
    "a yes with an error of another shape": Reply.of({"success": True, "orderId": "x", "error": {"code": 7}}),
    "a yes with an error inside": Reply.of({"success": True, "error": None, "data": {"orderId": "x", "error": "no"}}),
    "a no around a yes": Reply.of({"success": False, "data": {"success": True, "orderId": "x"}}),
    "a time-out told with 400": Reply.of({"error": "Timed out waiting for NinjaTrader"}, 400),
    "an add-on's silence told with 400": Reply.of(
        {"success": False, "error": "timeout", "detail": "no response from add-on"}, 400),
    "a time-out told with 404": Reply.of({"error": "addon timeout"}, 404),
    "a time-out told with 403 and no JSON": Reply(status=403, text="upstream request timeout"),
    "a request that still runs": Reply.of({"error": "request in progress"}, 409),
    "a 401 that says yes": Reply.of({"success": True, "orderId": "x"}, 401),
    "a 400 with an id": Reply.of({"error": "oops", "orderId": "nt1"}, 400),
    "a 400 without words": Reply(status=400, text="<html>bad request</html>"),
    "a 503 with words": Reply.of({"success": False, "error": "nt8 offline"}, 503),
    "a timeout told with 200": Reply.of({"success": False, "error": "addon_disconnected / generic timeout"}),
    "an id used before": no("Order id 'o1' already exists"),
    "a duplicate": Reply.of({"success": False, "error": "duplicate order id"}),
    "a redirect": Reply(status=307, headers={"Location": "https://elsewhere.example/"}),
    "null": Reply.of(None),
    "a list": Reply.of([{"success": True, "orderId": "x"}]),
    "no JSON": Reply(status=200, text="OK"),
    "NaN": Reply(status=200, text='{"success": true, "orderId": NaN}'),
    "a repeated key": Reply(status=200, text='{"success": true, "orderId": "a", "orderId": "b"}'),
    "deep": Reply(status=200, text="[" * 100_000),
}


@pytest.mark.parametrize("account", [REST, WS], ids=["rest", "websocket"])
@pytest.mark.parametrize("name", DOUBTFUL)
def test_an_entry_of_which_the_reply_leaves_it_open_is_unknown(name: str, account: Account) -> None:
    outcome = placed(DOUBTFUL[name], account)

    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason


@pytest.mark.parametrize(("name", "order_id"), [("a failure with an id", "nt1"), ("a yes with an error", "x")])
def test_a_doubtful_reply_that_names_an_id_keeps_it_for_the_look_up(name: str, order_id: str) -> None:
    outcome = placed(DOUBTFUL[name])

    assert isinstance(outcome, Unknown) and outcome.broker_ids == {"order": order_id}


def test_an_error_that_is_none_takes_nothing_from_a_yes() -> None:
    for none in ("", None, "NoError"):
        assert isinstance(placed(Reply.of({"success": True, "orderId": "x", "error": none})), Accepted)


def test_over_the_websocket_the_words_of_a_408_or_500_are_doubt_because_there_is_no_status() -> None:
    for words in ("timeout", "Request timed out", "addon_disconnected", "NinjaTrader is offline", "no response",
                  "NinjaTrader add-on did not answer in time", "Internal server error"):
        assert isinstance(placed(Reply.of({"error": words}), WS), Unknown), words
        assert isinstance(placed(Reply.of({"success": False, "error": words}), WS), Unknown), words


def test_an_error_alone_is_a_refusal_over_the_websocket_but_doubt_under_a_200_of_rest() -> None:
    assert isinstance(placed(Reply.of({"error": "Invalid request"}), WS), Rejected)
    assert isinstance(placed(Reply.of({"error": "Invalid request"}), REST), Unknown)


@given(st.integers(100, 599), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["success", "orderId", "error", "data", "detail"]), inner)), st.sampled_from([REST, WS]))
def test_no_reply_is_a_yes_without_a_literal_true_and_an_id(status: int, body: Any, account: Account) -> None:
    outcome = placed(Reply.of(body if not isinstance(body, str) else [body], status), account)

    inner = body.get("data") if isinstance(body, dict) else None
    says = {**(inner if isinstance(inner, dict) else {}), **(body if isinstance(body, dict) else {})}
    if isinstance(outcome, Accepted):
        assert 200 <= status < 300 and says["success"] is True and says["orderId"].strip()
    if isinstance(outcome, Rejected):
        assert status < 500 and status != 408 and says.get("success") is not True


# -- a no --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reply", "mention"), [
    (no("Invalid request"), "Invalid request"),
    (Reply.of({"success": False, "error": "invalid_price", "detail": "bad tick"}), "bad tick"),
    (Reply.of({"success": False, "error": "invalid_account", "detail": "Account Sim999 not found"}, 400), "Sim999"),
    (Reply.of({"success": False, "error": "refused", "orderId": "o1"}), "refused"),
    (Reply.of({"error": "token"}, 401), "token is missing, wrong or withdrawn"),
    (Reply(status=401, text="<html>"), "cannot be renewed"),
    (Reply.of({"success": False, "error": "subscription"}, 403), "Pro plan"),
    (Reply.of({"error": "not found", "did_you_mean": "/v1/api/accounts"}, 404), "did you mean /v1/api/accounts"),
    (Reply.of({"error": "quantity must be positive"}, 422), "quantity must be positive"),
    (no("The OCO ID 'o1.oco' cannot be reused"), "cannot be reused"),
    (Reply(status=None, not_executed=True, fault="the request budget is used up"), "the request budget is used up"),
    (Reply.of({"error": "Rate limit exceeded"}, 429), "Rate limit"),
])
def test_a_definite_no_is_rejected_in_the_brokers_own_words(reply: Reply, mention: str) -> None:
    outcome = placed(reply)

    assert isinstance(outcome, Rejected), outcome
    assert mention in outcome.reason


def test_words_of_the_broker_stay_on_one_short_line() -> None:
    outcome = placed(no("a\r\nb\x1b[31m\u2028" + "x" * 5000))

    assert isinstance(outcome, Rejected) and outcome.reason.isprintable() and len(outcome.reason) < 400


# -- nothing was done --------------------------------------------------------------------------------------------------


AT = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(("reply", "wait_s", "told"), [
    (Reply.of({"error": "Rate limit exceeded"}, 429), 7.0, False),
    (Reply(status=429, text="<html>slow down</html>"), 7.0, False),
    (Reply(status=429, headers={"retry-after": "12"}), 12.0, True),
    (Reply(status=429, headers={"Retry-After": "0"}), 1.0, True),
    (Reply(status=429, headers={"Retry-After": "3600"}), 3600.0, True),
    (Reply(status=429, headers={"Retry-After": "9999999"}), 86400.0, True),
    (Reply(status=429, headers={"Retry-After": AT}), 7.0, False),
    (Reply(status=429, headers={"Retry-After": AT, "Date": "Wed, 21 Oct 2026 07:27:20 GMT"}), 40.0, True),
    (Reply.of({"error": "Rate limit exceeded", "retryAfter": 3}, 429), 3.0, True),
    (Reply.of({"error": "Rate limit exceeded", "retryAfter": D("2.5")}, 429), 2.5, True),
    (Reply.of({"error": "Rate limit exceeded", "retryAfter": 5000}, 429), 5.0, False),
    (Reply.of({"error": "Rate limit exceeded", "retryAfter": "soon"}, 429), 7.0, False),
    (Reply.of({"success": False, "error": "rate_limit_exceeded"}), 7.0, False),
])
def test_the_rate_limit_holds_the_whole_log_in_and_longer_each_time_where_no_wait_is_told(
        reply: Reply, wait_s: float, told: bool) -> None:
    for account in (REST, WS):
        found = hold(reply, account)

        assert found is not None and found.whole_login and not found.renew and found.wait_s == wait_s
        assert found.grows is not told


@pytest.mark.parametrize("reply", [
    yes(), no(), TIMED_OUT, SILENT, Reply.of({"error": "token"}, 401), Reply.of({"error": "Rate limit exceeded"}, 503),
    Reply.of({"success": True, "orderId": "x", "error": "Rate limit exceeded"}),
    Reply.of({"error": "order rejected: exchange rate limit exceeded by firm"}, 400),
    Reply(status=429, not_executed=True)])
def test_nothing_else_is_taken_for_nothing_done(reply: Reply) -> None:
    assert hold(reply) is None


# -- cancel and close --------------------------------------------------------------------------------------------------


def cancelled(reply: Reply, account: Account = REST) -> Outcome:
    return drive(BROKER.submit(work(BY_HAND, account)), [reply])[1]  # type: ignore[no-any-return]


def closed(reply: Reply, account: Account = REST) -> Outcome:
    return drive(BROKER.submit(work(CLOSE, account)), [reply])[1]  # type: ignore[no-any-return]


def test_an_order_that_is_gone_already_is_as_good_as_cancelled() -> None:
    assert isinstance(cancelled(gone()), Accepted)
    assert isinstance(cancelled(Reply.of({"error": "Order linked to 'x' not found or already terminal."}), WS),
                      Accepted)
    assert isinstance(cancelled(Reply.of({"success": False, "error": "X NOT FOUND or already terminal"})), Accepted)


def test_gone_is_not_believed_of_a_reply_that_is_doubtful_itself() -> None:
    words = "Order linked to 'x' not found or already terminal."

    assert isinstance(cancelled(no(words, 408)), Unknown)
    assert isinstance(cancelled(Reply.of({"error": "timed out", "detail": words}, 400)), Unknown)
    assert isinstance(cancelled(no(words, 500)), Unknown)
    assert isinstance(cancelled(Reply.of({"success": "false", "error": words})), Unknown)


def test_other_answers_to_a_cancel() -> None:
    assert isinstance(cancelled(yes()), Accepted)
    assert isinstance(cancelled(Reply.of({"success": True})), Accepted)
    assert isinstance(cancelled(no()), Rejected)
    assert isinstance(cancelled(no("Timed out waiting for NinjaTrader")), Unknown)
    assert isinstance(cancelled(Reply.of({"success": True, "error": "cancel failed"})), Unknown)
    assert isinstance(cancelled(TIMED_OUT), Unknown)
    assert isinstance(cancelled(SILENT), Unknown)


def test_nothing_open_is_a_success_of_a_close() -> None:
    for outcome in (closed(no("No positions found for instrument 'ES 12-24'")),
                    closed(Reply.of({"error": "No positions found for instrument 'ES 12-24'"}), WS),
                    closed(Reply.of({"closedPositions": [], "success": True}))):
        assert isinstance(outcome, Accepted) and outcome.reason == "nothing open"


def test_other_answers_to_a_close() -> None:
    assert closed(Reply.of({"closedPositions": [{"quantity": 4}], "success": True})) == Accepted()
    assert isinstance(closed(no()), Rejected)
    assert isinstance(closed(TIMED_OUT), Unknown)
    assert isinstance(closed(no("NinjaTrader did not answer in time")), Unknown)
    assert isinstance(closed(Reply.of({"closedPositions": [], "success": True, "error": "rejected"})), Unknown)
    assert isinstance(closed(Reply.of({"closedPositions": []})), Unknown)


# -- what was recorded -------------------------------------------------------------------------------------------------

EXPECTED: dict[str, tuple[type[Any], str]] = {
    "cancel order by id": (Accepted, ""),
    "cancel order by id (gone)": (Accepted, "gone already"),
    "cancel order by id (400)": (Rejected, "Invalid request"),
    "close position": (Accepted, ""),
    "close position (none open)": (Accepted, "nothing open"),
    # As replies to a place: its shape, and shapes that must not pass for it.
    "flatten then place": (Accepted, ""),
    "reverse": (Accepted, ""),
    "get order status": (Unknown, "without an order id"),
    "order lifecycle": (Accepted, ""),
    "list positions, all accounts": (Unknown, "without an order id"),
    "get one position": (Unknown, "without an order id"),
    "flatten everything with filters": (Unknown, "without an order id"),
    "quote (legacy per-account path)": (Unknown, "without an order id"),
    "executions (lookback)": (Unknown, "leaves it open"),
    "execution by id": (Unknown, "leaves it open"),
    "accounts snapshot": (Unknown, "leaves it open"),
    "webhook accepted only on explicit success": (Unknown, "without an order id"),
    "webhook 200 with failure": (Rejected, "bad account"),
    "orders read while NT8 offline (fixture)": (Unknown, "nt8 offline"),
    "get order unknown id": (Rejected, "unknown order id"),
    "ws rpc": (Unknown, "leaves it open"),
}


def recorded() -> list[dict[str, Any]]:
    return json.loads(CASES_FILE.read_text()) if CASES_FILE.exists() else []  # type: ignore[no-any-return]


needs_data = pytest.mark.skipif(not CASES_FILE.exists(), reason="the shared test data is not beside this repository")


@needs_data
@pytest.mark.parametrize("case", [case for case in recorded() if case["response"]],
                         ids=lambda case: str(case["operation"]))
def test_every_recorded_reply_is_judged(case: dict[str, Any]) -> None:
    kind, mention = EXPECTED[case["operation"]]
    status, body = case["response"]["status"], case["response"]["body"]
    account = REST if status else WS
    reply = Reply.of(body if status else body["data"], status or 200)
    judge = (cancelled if case["operation"].startswith("cancel") else
             closed if case["operation"].startswith("close") else placed)

    outcome = judge(reply, account)

    assert isinstance(outcome, kind), outcome
    assert mention in outcome.reason


@needs_data
def test_no_recorded_reply_is_left_out() -> None:
    assert {case["operation"] for case in recorded() if case["response"]} == set(EXPECTED)


@needs_data
def test_the_recorded_requests_are_what_we_send() -> None:
    requests = {case["operation"]: case["request"] for case in recorded()}
    market = Order(kind="plain", symbol="ES 09-26", side="buy", quantity=D(1), type="market", time_in_force="gtc")

    def frame(account: Account, order: Order) -> Call:
        return rehearse(BROKER.submit(work(order, account)))[0][0]

    def without_id(body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if name != "id"}

    place = frame(WS, market)
    args = {name: value for name, value in place.body["args"].items() if name != "orderId"}
    assert {**place.body, "args": args} == without_id(requests["place order over WebSocket"]["body"])
    cancel = frame(WS, Order(kind="cancel", options={"orderId": "492281fc515e431692da57d957cfebb6"}))
    assert cancel.body == without_id(requests["cancel order over WebSocket"]["body"])
    by_id = requests["cancel order by id"]
    call = frame(REST, BY_HAND)
    assert (call.method, call.url.removeprefix(REST.rest_url), call.body) == (
        by_id["method"], by_id["path"], by_id["body"])
    shown = requests["close position"]
    call = frame(REST, CLOSE)
    assert (call.method, call.url.removeprefix(REST.rest_url)) == (shown["method"], shown["path"])
    assert set(call.body) == {"instrument"}


def bad_replies() -> list[dict[str, Any]]:
    if not BAD_FILE.exists():
        return []
    return [case for case in json.loads(BAD_FILE.read_text())
            if case["area"] == "broker_reply" and case["given"].get("broker") == "crosstrade"]


def reply_of(given_: dict[str, Any]) -> Reply:
    """What a plan is sent for a case. Of a call of which no byte left that is only the driver's word for it."""
    if transport := given_.get("transport"):
        return Reply(status=None, fault=transport["exception"], not_executed=transport["phase"] != "after_send")
    body = given_["reply"]["body"]
    text = base64.b64decode(body["base64"]).decode("utf-8", "replace") if isinstance(body, dict) else body
    return Reply(status=given_["reply"]["status"], text=text, headers=given_["reply"]["headers"])


def over_the_socket(case: dict[str, Any]) -> bool:
    """Whether a case can happen over the WebSocket, where an answer has no status of its own."""
    return "transport" in case["given"] or case["given"]["reply"]["status"] == 200


@needs_data
@pytest.mark.parametrize(("case", "account"), [
    pytest.param(case, account, id=f"{case['id']}-{account.transport}")
    for case in bad_replies() for account in (REST, WS) if account is REST or over_the_socket(case)])
def test_bad_replies_come_to_the_state_that_is_expected(case: dict[str, Any], account: Account) -> None:
    reply, expect = reply_of(case["given"]), case["expect"]
    states = {"rejected": ["retry"]} if reply.not_executed else {}

    assert hold(reply, account) is None
    outcome = placed(reply, account)

    state = type(outcome).__name__.lower()
    wanted = expect["state"] if isinstance(expect["state"], list) else [expect["state"]]
    assert set(states.get(state, [state])) & set(wanted), outcome
    assert not isinstance(outcome, Accepted)
    assert all(word in outcome.reason for word in expect.get("must_mention", []))
    assert TOKEN not in repr(outcome)


@needs_data
@pytest.mark.parametrize("case", [case for case in bad_replies() if not reply_of(case["given"]).not_executed],
                         ids=lambda case: str(case["id"]))
def test_bad_replies_to_the_second_half_of_an_oco_leave_it_in_doubt_or_undo_the_first(case: dict[str, Any]) -> None:
    """What is unknown of a single order is unknown of the half; what is refused takes the first half back."""
    reply = reply_of(case["given"])
    alone = placed(reply)

    undo = [yes("a"), life("o1", "Cancelled", order_id="a")] if isinstance(alone, Rejected) else []
    calls, outcome = drive(BROKER.submit(work(OCO)), [yes("a"), reply, *undo])

    assert isinstance(outcome, type(alone))
    assert len([call for call in calls if call.write]) == (3 if undo else 2)


def test_a_cancel_of_nothing_says_so_and_asks_nothing() -> None:
    assert drive(BROKER.submit(work(CANCEL))) == ([], Accepted(reason="nothing to cancel", found_nothing=True))


def test_a_look_up_before_a_cancel_that_fails_does_not_hold_the_cancel_back() -> None:
    target = work(PLAIN, order_id="o7", broker_ids={"order": "nt7"})

    calls, outcome = drive(BROKER.submit(work(CANCEL, targets=(target,))), [
        TIMED_OUT, TIMED_OUT, TIMED_OUT, yes("nt7"), life("o7", "Working", "Cancelled", order_id="nt7")])

    assert [call.operation for call in calls] == ["lifecycle", "orders", "order", "cancel", "lifecycle"]
    assert isinstance(outcome, Accepted) and outcome.targets["o7"].broker_status == "canceled"
