"""What Tradovate is sent: every cell of kind, type and time in force, exact to the last digit."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradovate_kit import (  # noqa: F401
    ACCOUNT,
    BROKER,
    CANCEL,
    CLOSE,
    COVER,
    FAR_STOP,
    FAR_TARGET,
    HOME,
    OCO,
    ORDERS,
    OSO,
    SECRETS,
    STOP,
    STRATEGY,
    TARGET,
    UNTIL,
    D,
    Description,
    account,
    description,
    leg,
    plain,
    work,
)

from bridge.broker import UNKNOWN, capability_faults
from bridge.call import Accepted, Call, Placeholder, Rejected, Token
from bridge.numbers import dump_json, shortest
from bridge.order import TIMES_IN_FORCE, TYPES, Order, Product, faults_of
from bridge.rehearse import rehearse
from bridge.work import Work

GOLDENS = Path(__file__).parent / "tradovate" / "requests.json"
TYPE_WORDS = {"market": "Market", "limit": "Limit", "stop": "Stop", "stop_limit": "StopLimit", "mit": "MIT",
              "trailing_stop": "TrailingStop", "trailing_stop_limit": "TrailingStopLimit"}
TYPE_FIELDS = {
    "market": '', "limit": '"price": 5300.25, ', "stop": '"stopPrice": 5310.5, ',
    "stop_limit": '"price": 5300.25, "stopPrice": 5310.5, ', "mit": '"price": 5300.25, ',
    "trailing_stop": '"stopPrice": 5310.5, "pegDifference": 4, ',
    "trailing_stop_limit": '"price": 5300.25, "stopPrice": 5310.5, "pegDifference": 4, ',
}
TIME_WORDS = {"day": '"Day"', "gtc": '"GTC"', "ioc": '"IOC"', "fok": '"FOK"',
              "gtd": '"GTD", "expireTime": "2026-11-27T21:00:00Z"'}


def calls_of(order: Order, **more: Any) -> list[Call]:
    return rehearse(BROKER.submit(work(order, **more)))[0]


def body_of(order: Order, **more: Any) -> dict[str, Any]:
    (call,) = calls_of(order, **more)
    body: dict[str, Any] = call.body
    return body


def target(made: Order = ORDERS["plain"], **broker_ids: str) -> Work:
    return work(made, "o7", broker_ids=broker_ids)


# -- goldens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time_in_force", TIMES_IN_FORCE)
@pytest.mark.parametrize("kind", TYPES)
def test_a_plain_order_of_each_type_and_time_in_force_is_this_request(
        kind: str, time_in_force: str, description: Description) -> None:  # noqa: F811
    order = plain(kind, time_in_force)
    assert not list(faults_of(order, Product()))

    (call,) = calls_of(order)

    assert (call.method, call.url, call.write) == ("POST", f"{HOME}order/placeorder", True)
    assert dump_json(call.body) == (
        '{"accountSpec": "DEMO123456", "accountId": 123456, "clOrdId": "o1", "action": "Buy", "symbol": "ESZ6", '
        f'"orderQty": 2, "orderType": "{TYPE_WORDS[kind]}", {TYPE_FIELDS[kind]}"timeInForce": '
        f'{TIME_WORDS[time_in_force]}, "isAutomated": true}}')
    description.check(call)


GOLDEN_WORK: dict[str, Work] = {
    "cover": work(COVER),
    "cover sell, trailing stop": work(replace(
        COVER, side="sell", price=D("5280"), stop_loss=replace(STOP, side="buy", type="trailing_stop",
                                                               trail=D("2.50")))),
    "cover with its own trail": work(replace(COVER, trail=D("3.25"))),
    "cover, market entry from the fill": work(replace(STRATEGY, kind="cover", take_profit=None)),
    "oco": work(OCO),
    "oco straddle until a date": work(replace(
        OCO, side="buy", type="stop", price=None, stop_price=D("5330"), time_in_force="gtd", expire_time=UNTIL,
        other=leg("other", "stop_limit", price=D("5269.75"), stop_price=D("5270"), time_in_force="gtd",
                  expire_time=UNTIL))),
    "oso": work(OSO),
    "oso, target only": work(replace(OSO, stop_loss=None)),
    "oso, stop entry with a stop-limit and a touched target": work(replace(
        OSO, type="stop", price=None, stop_price=D("5301"), stop_loss=leg(
            "stop_loss", "stop_limit", price=D("5289.5"), stop_price=D("5290")),
        take_profit=leg("take_profit", "mit", price=D("5320")))),
    "oso, brackets": work(replace(
        OSO, stop_loss=None, take_profit=None, brackets=(
            leg("bracket1", "limit", price=D("5320")), leg("bracket2", "trailing_stop", stop_price=D("5290"),
                                                           trail=D("10"))))),
    "oso, market entry at absolute prices": work(replace(plain("market"), kind="oso", stop_loss=STOP,
                                                         take_profit=TARGET)),
    "strategy, buy": work(STRATEGY),
    "strategy, sell with a trailing stop, gtc": work(replace(
        STRATEGY, side="sell", time_in_force="gtc",
        stop_loss=replace(FAR_STOP, side="buy", type="trailing_stop", trail=D("5"), time_in_force="gtc"),
        take_profit=replace(FAR_TARGET, side="buy", time_in_force="gtc"))),
    "strategy, target only": work(replace(STRATEGY, stop_loss=None, options={"customTag50": "desk 7"})),
    "plain with every option": work(replace(ORDERS["plain"], options={
        "maxShow": 1, "text": "breakout", "activationTime": "2026-11-20T15:30:00+01:00", "customTag50": "desk 7"})),
    "plain armed anew": work(arming=2),
    "mit by stopPrice": work(plain("mit"), account=account(mit_price="stop_price")),
    "trailing stop without pegDifference": work(plain("trailing_stop"), account=account(peg_difference="omit")),
    "strategy with isAutomated": work(STRATEGY, account=account(strategy_is_automated="send")),
    "cancel": work(CANCEL, targets=(target(order="42"),)),
    "cancel of a whole oco": work(CANCEL, targets=(target(OCO, order="42", other="43"),)),
    "cancel of an oso, legs too": work(replace(CANCEL, legs_too=True), targets=(
        target(OSO, order="42", stop_loss="43", take_profit="44"),)),
    "cancel of a strategy": work(CANCEL, targets=(target(STRATEGY, strategy="77"),)),
    "cancel of what has no ids yet": work(CANCEL, targets=(target(OSO),)),
    "cancel of an order that is not ours": work(replace(CANCEL, ref=None, options={"orderId": 99})),
    "close": work(CLOSE),
}


def as_golden(name: str) -> list[dict[str, Any]]:
    calls, outcome = rehearse(BROKER.submit(GOLDEN_WORK[name]))
    assert isinstance(outcome, Accepted), outcome
    return [{"step": call.step, "request": f"{call.method} {call.url}"}
            | ({"body": dump_json(call.body)} if call.body is not None else {}) for call in calls]


@pytest.mark.parametrize("name", GOLDEN_WORK)
def test_each_kind_makes_the_requests_on_record(name: str) -> None:
    """The record is `tradovate/requests.json`; a body is its exact JSON text."""
    assert as_golden(name) == json.loads(GOLDENS.read_text())[name]


@pytest.mark.parametrize("name", [name for name in GOLDEN_WORK if name != "strategy with isAutomated"])
def test_every_request_is_as_tradovate_describes_it(name: str, description: Description) -> None:  # noqa: F811
    """`strategy_is_automated: send` follows the newer description, which is not the one at hand."""
    for call in rehearse(BROKER.submit(GOLDEN_WORK[name]))[0]:
        description.check(call)


@pytest.mark.parametrize("name", ORDERS)
def test_every_look_up_is_as_tradovate_describes_it(name: str, description: Description) -> None:  # noqa: F811
    calls, seen = rehearse(BROKER.look_up(work(ORDERS[name])))

    for call in calls:
        assert not call.write
        description.check(call)
    assert name == "close" or seen is not None


def test_is_automated_is_said_by_every_request_that_has_the_field() -> None:
    for name in ("plain", "cover", "oco", "oso"):
        body = body_of(ORDERS[name])
        assert body["isAutomated"] is True
        assert all("isAutomated" not in value for value in body.values() if isinstance(value, dict))
    assert "isAutomated" not in body_of(STRATEGY)


def test_the_params_of_a_strategy_are_a_json_text_of_signed_points() -> None:
    assert body_of(STRATEGY)["params"] == (
        '{"entryVersion": {"orderQty": 2, "orderType": "Market", "timeInForce": "Day"}, "brackets": '
        '[{"qty": 2, "stopLoss": -5, "trailingStop": false, "profitTarget": 10.5}]}')


def test_an_accepted_order_in_rehearsal_has_placeholders_for_ids() -> None:
    _, outcome = rehearse(BROKER.submit(work(OSO)))

    assert isinstance(outcome, Accepted)
    assert outcome.broker_ids == {"order": "<from: placeoso.orderId>", "stop_loss": "<from: placeoso.oso1Id>",
                                  "take_profit": "<from: placeoso.oso2Id>"}


def test_a_cancel_without_anything_to_cancel_is_done() -> None:
    calls, outcome = rehearse(BROKER.submit(work(CANCEL)))

    assert calls == []
    assert outcome == Accepted(reason="nothing to cancel", found_nothing=True)


def test_a_cancel_in_rehearsal_goes_by_placeholder_ids() -> None:
    calls, outcome = rehearse(BROKER.submit(work(CANCEL, targets=(target(order="<from: placeorder.orderId>"),))))

    cancel = next(call for call in calls if call.write)
    assert isinstance(cancel.body["orderId"], Placeholder)
    assert isinstance(outcome, Accepted)
    assert outcome.targets["o7"].broker_status == "canceled"


# -- properties --------------------------------------------------------------------------------------------------------

prices = st.decimals(min_value=D("0.0000001"), max_value=D("99999999999999"), allow_nan=False, allow_infinity=False,
                     places=7) | st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-2)) | st.integers(
                         1, 99).map(lambda n: Decimal(n).scaleb(3))
names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=40)


@given(price=prices, stop=prices, trail=prices, kind=st.sampled_from(TYPES))
def test_a_price_goes_in_and_out_to_the_last_digit(price: Decimal, stop: Decimal, trail: Decimal, kind: str) -> None:
    order = replace(plain(kind), **{name: value for name, value in (("price", price), ("stop_price", stop),
                                                                  ("trail", trail))
                                    if getattr(plain(kind), name) is not None})

    text = dump_json(body_of(order))
    heard = json.loads(text, parse_float=Decimal, parse_int=Decimal)

    for ours, theirs in (("price", "price"), ("stop_price", "stopPrice"), ("trail", "pegDifference")):
        assert heard.get(theirs) == getattr(order, ours)
        if (value := getattr(order, ours)) is not None:
            assert f'"{theirs}": {shortest(value)},' in text


@given(stop=prices, aim=prices, side=st.sampled_from(("buy", "sell")))
def test_the_distances_of_a_strategy_keep_every_digit_and_get_their_signs(
        stop: Decimal, aim: Decimal, side: str) -> None:
    out = "sell" if side == "buy" else "buy"
    order = replace(STRATEGY, side=side, stop_loss=replace(FAR_STOP, side=out, offset=stop),
                    take_profit=replace(FAR_TARGET, side=out, offset=aim))

    params = json.loads(body_of(order)["params"], parse_float=Decimal, parse_int=Decimal)

    sign = 1 if side == "buy" else -1
    assert params["brackets"][0]["stopLoss"] == -sign * stop
    assert params["brackets"][0]["profitTarget"] == sign * aim


@given(name=st.sampled_from(sorted(ORDERS)), order_id=names, arming=st.integers(1, 9), hours=st.integers(0, 99))
def test_calls_are_a_function_of_the_order_its_arming_and_its_ids_alone(
        name: str, order_id: str, arming: int, hours: int) -> None:
    later = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(hours=hours)

    digests = [[call.digest() for call in calls_of(ORDERS[name], order_id=order_id, arming=arming, **more)]
               for more in ({}, {}, {"created_at": later, "submitted_at": later})]

    assert digests[0] == digests[1] == digests[2]


@given(name=st.sampled_from(sorted(set(ORDERS) - {"close"})), order_id=names, armings=st.lists(
    st.integers(1, 20), min_size=2, max_size=2, unique=True))
def test_another_arming_has_other_client_ids_in_every_place(name: str, order_id: str, armings: list[int]) -> None:
    first, second = (_client_ids(body_of(ORDERS[name], order_id=order_id, arming=arming)) for arming in armings)

    assert first and len(first) == len(set(first))
    assert not set(first) & set(second)


def _client_ids(body: dict[str, Any]) -> list[str]:
    found = [body[name] for name in ("clOrdId", "uuid") if name in body]
    return found + [value["clOrdId"] for value in body.values() if isinstance(value, dict)]


@pytest.mark.parametrize("name", GOLDEN_WORK)
def test_no_secret_is_in_a_call_that_goes_on_record(name: str) -> None:
    for call in rehearse(BROKER.submit(GOLDEN_WORK[name]))[0]:
        assert "leak-me" not in dump_json(call.to_json())


def test_the_token_is_added_by_dress_alone() -> None:
    (call,) = calls_of(ORDERS["plain"])

    dressed = BROKER.dress(call, ACCOUNT, Token(value="token-leak-me"), "f1")

    assert dressed.headers == {"Accept": "application/json", "Content-Type": "application/json",
                               "Authorization": "Bearer token-leak-me"}
    assert dressed.body == call.body
    assert "leak-me" not in repr(call) + repr(ACCOUNT)


# -- refused before anything is sent -----------------------------------------------------------------------------------


def refused(order: Order) -> dict[str, str]:
    return dict(BROKER.refusals(order.to_json(), ACCOUNT))


REFUSED = {
    "a chart symbol": (replace(ORDERS["plain"], symbol="ES1!"), "symbol", "alert.ticker | contract"),
    "a two-digit year": (replace(ORDERS["plain"], symbol="ESZ26"), "symbol", "like ESZ6"),
    "a bare root": (replace(CLOSE, symbol="MES"), "symbol", "like ESZ6"),
    "half a contract": (plain(quantity=D("1.5")), "quantity", "whole number"),
    "an oso without legs": (replace(OSO, stop_loss=None, take_profit=None), "stop_loss", "kind: plain"),
    "three legs": (replace(OSO, brackets=(replace(TARGET, role="bracket1"),)), "brackets.0", "at most two"),
    "a stop_loss that is a limit": (replace(OSO, stop_loss=replace(TARGET, role="stop_loss")), "stop_loss.type",
                                    "would not protect"),
    "a take_profit that is a stop": (replace(OSO, take_profit=replace(STOP, role="take_profit")),
                                     "take_profit.type", "limit, mit"),
    "a distance beside a price on a market entry": (replace(STRATEGY, take_profit=TARGET), "stop_loss",
                                                    "legs: absolute"),
    "a distance on a limit entry": (replace(OSO, stop_loss=FAR_STOP), "stop_loss", "give this leg a price"),
    "a stop-limit distance": (replace(STRATEGY, stop_loss=replace(FAR_STOP, type="stop_limit")), "stop_loss.type",
                              "legs: absolute"),
    "a touched target distance": (replace(STRATEGY, take_profit=replace(FAR_TARGET, type="mit")), "take_profit.type",
                                  "stop, trailing_stop and limit"),
    "a fill-or-kill strategy": (replace(STRATEGY, time_in_force="fok"), "time_in_force", "day or gtc"),
    "a strategy leg with a life of its own": (replace(STRATEGY, stop_loss=replace(FAR_STOP, time_in_force="gtc")),
                                              "stop_loss.time_in_force", "leave it out"),
    "a strategy that trails by something else": (
        replace(STRATEGY, stop_loss=replace(FAR_STOP, type="trailing_stop", trail=D("3"))), "stop_loss.trail",
        "must equal 5"),
    "a strategy exit on the entry's side": (replace(STRATEGY, stop_loss=replace(FAR_STOP, side="buy")),
                                            "stop_loss.side", "other side"),
    "two stops at distances": (replace(STRATEGY, stop_loss=None, take_profit=None, brackets=(
        replace(FAR_STOP, role="bracket1"), replace(FAR_STOP, role="bracket2"))), "brackets.1", "one stop and one"),
    "text on a strategy": (replace(STRATEGY, options={"text": "x"}), "options.text", "only customTag50"),
    "a tag on a close": (replace(CLOSE, options={"customTag50": "x"}), "options.customTag50", "no options"),
    "an order id on an entry": (replace(OSO, options={"orderId": 5}), "options.orderId", "customTag50 maxShow text"),
    "showing more than there is": (replace(ORDERS["plain"], options={"maxShow": 3}), "options.maxShow", "quantity 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_tradovate_cannot_carry_is_refused_saying_what_would_do(name: str) -> None:
    order, field, words = REFUSED[name]

    assert words in refused(order)[field]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_order_is_never_sent(name: str) -> None:
    calls, outcome = rehearse(BROKER.submit(work(REFUSED[name][0])))

    assert calls == []
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith("not sent: ")


@pytest.mark.parametrize("name", GOLDEN_WORK)
def test_nothing_that_tradovate_can_carry_is_refused(name: str) -> None:
    golden = GOLDEN_WORK[name]

    assert refused(golden.order) == {}
    assert list(capability_faults(BROKER, golden.order.to_json())) == []


def test_a_sketch_whose_values_only_an_alert_tells_is_not_refused() -> None:
    sketch = {"kind": "oso", "symbol": UNKNOWN, "side": UNKNOWN, "quantity": UNKNOWN, "type": UNKNOWN,
              "time_in_force": UNKNOWN, "options": {"maxShow": UNKNOWN},
              "stop_loss": {"role": "stop_loss", "side": UNKNOWN, "type": "stop", "offset": UNKNOWN},
              "take_profit": {"role": "take_profit", "type": UNKNOWN, "price": UNKNOWN, "time_in_force": UNKNOWN}}

    assert list(BROKER.refusals(sketch, ACCOUNT)) == []


@pytest.mark.parametrize("symbol", ["ESZ6", "6EZ6", "M2KU3", "MESZ5", "NGH6", "CLF7", "ZNM6"])
def test_contract_names_with_digits_in_their_roots_are_known(symbol: str) -> None:
    assert refused(replace(ORDERS["plain"], symbol=symbol)) == {}


def test_options_are_checked_by_their_schema_and_again_before_sending() -> None:
    wrong = {"text": "x" * 65, "maxShow": 0, "activationTime": "2026-11-20T15:30:00", "customTag50": "a\nb",
             "contractId": 5}

    assert set(BROKER.options_schema().validate(wrong)) == set(wrong)
    calls, outcome = rehearse(BROKER.submit(work(replace(ORDERS["plain"], options={"text": "x" * 65}))))
    assert calls == []
    assert isinstance(outcome, Rejected) and "1 to 64" in outcome.reason


def test_an_expire_time_of_another_zone_is_sent_in_utc() -> None:
    when = datetime(2026, 11, 27, 15, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=-6)))

    assert body_of(plain(time_in_force="gtd", expire_time=when))["expireTime"] == "2026-11-27T21:00:00.500000Z"


def test_account_fields_have_defaults_and_say_what_is_wrong() -> None:
    schema = BROKER.account_schema()

    loaded = schema.load({"account": "DEMO123456", "account_id": 123456})
    assert loaded["options"] == {"mit_price": "price", "peg_difference": "send", "strategy_is_automated": "omit",
                                 "app_id": "Bridge", "app_version": "1.0"}
    assert set(schema.validate({"account_id": 0, "options": {"mit_price": "guess"}})) == {
        "account", "account_id", "options"}


def test_log_ins_of_demo_and_live_are_told_apart_and_show_no_name() -> None:
    live = replace(ACCOUNT, rest_url="https://live.tradovateapi.com")

    assert BROKER.login_name(ACCOUNT) == BROKER.login_name(replace(ACCOUNT, name="another account"))
    assert BROKER.login_name(ACCOUNT) != BROKER.login_name(live)
    assert SECRETS["name"] not in BROKER.login_name(ACCOUNT)
