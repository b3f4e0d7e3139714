"""CrossTrade: the exact requests, over REST and over the WebSocket, and what is refused before any is made."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from crosstrade_kit import (
    BROKER,
    CANCEL,
    CLOSE,
    HOME,
    OCO,
    ORDERS,
    OSO,
    PLAIN,
    REST,
    STOP,
    STREAM,
    TOKEN,
    WS,
    D,
    drive,
    work,
    yes,
)
from hypothesis import given
from hypothesis import strategies as st

from bridge.broker import UNKNOWN, capability_faults
from bridge.call import Accepted, Call, LoginRefused, Placeholder, Rejected, Seen, Token
from bridge.numbers import dump_json
from bridge.order import Leg, Order
from bridge.rehearse import rehearse
from bridge.work import Account, Credentials, Work

PLACED = {"plain": work(PLAIN), "stop": work(STOP), "oso": work(OSO), "oco": work(OCO)}


def calls_of(each: Work) -> list[Call]:
    return rehearse(BROKER.submit(each))[0]


def wire(call: Call) -> tuple[str, str, Any]:
    return call.method, call.url, json.loads(dump_json(call.body))


def target(what: Order = PLAIN, on: Account = REST, /, **ids: str) -> Work:
    return work(what, on, "o7", broker_ids=ids)


# -- the requests ------------------------------------------------------------------------------------------------------


def test_plain_over_rest_is_a_post_with_upper_case_words() -> None:
    [call] = calls_of(work(PLAIN))

    assert wire(call) == ("POST", f"{HOME}/orders/place", {
        "instrument": "ES 12-26", "action": "BUY", "quantity": 2, "orderType": "LIMIT", "timeInForce": "DAY",
        "limitPrice": 5300.25, "orderId": "o1"})
    assert call.write and call.operation == "place" and call.step == "entry"
    assert call.headers == {"Content-Type": "application/json"}


def test_plain_over_websocket_is_the_frame_of_the_page_with_title_case_words() -> None:
    market = Order(kind="plain", symbol="ES 09-26", side="buy", quantity=D(1), type="market", time_in_force="gtc")

    [call] = calls_of(work(market, WS))

    assert wire(call) == ("WS", STREAM, {"action": "rpc", "api": "PlaceOrder", "args": {
        "account": "Sim101", "instrument": "ES 09-26", "action": "Buy", "quantity": 1, "orderType": "Market",
        "timeInForce": "Gtc", "orderId": "o1"}})


def test_a_stop_limit_carries_both_prices_on_both_transports() -> None:
    [rest], [ws] = calls_of(work(STOP)), calls_of(work(STOP, WS))

    assert rest.body["limitPrice"] == D("5290.5") and rest.body["stopPrice"] == D("5291")
    assert (rest.body["orderType"], rest.body["action"], rest.body["timeInForce"]) == ("STOPLIMIT", "SELL", "GTC")
    args = ws.body["args"]
    assert (args["orderType"], args["action"], args["timeInForce"]) == ("StopLimit", "Sell", "Gtc")


@pytest.mark.parametrize(("ours", "rest", "ws"), [
    ("market", "MARKET", "Market"), ("limit", "LIMIT", "Limit"), ("stop", "STOPMARKET", "StopMarket"),
    ("stop_limit", "STOPLIMIT", "StopLimit")])
def test_every_type_has_its_word_on_each_transport(ours: str, rest: str, ws: str) -> None:
    order = replace(PLAIN, type=ours)

    assert calls_of(work(order))[0].body["orderType"] == rest
    assert calls_of(work(order, WS))[0].body["args"]["orderType"] == ws


def test_oso_names_the_atm_template_and_nothing_of_exits() -> None:
    [call] = calls_of(work(OSO))

    assert wire(call)[2] == {
        "instrument": "MNQ 12-26", "action": "BUY", "quantity": 1, "orderType": "MARKET", "timeInForce": "DAY",
        "strategy": "My ATM", "maxPositions": 1, "requireMarketPosition": "flat,long", "orderId": "o1"}


def test_oco_is_two_places_that_share_a_fresh_oco_id() -> None:
    first, second = calls_of(work(OCO))

    assert wire(first) == ("POST", f"{HOME}/orders/place", {
        "instrument": "ES 12-26", "action": "SELL", "quantity": 1, "orderType": "LIMIT", "timeInForce": "GTC",
        "limitPrice": 5310, "ocoId": "o1.oco", "orderId": "o1"})
    assert wire(second) == ("POST", f"{HOME}/orders/place", {
        "instrument": "ES 12-26", "action": "SELL", "quantity": 1, "orderType": "STOPMARKET", "timeInForce": "GTC",
        "stopPrice": 5290, "ocoId": "o1.oco", "orderId": "o1.other"})
    assert (first.step, second.step) == ("entry", "other")


def test_oco_over_websocket_is_the_same_two_orders() -> None:
    first, second = calls_of(work(OCO, WS))

    assert [call.body["api"] for call in (first, second)] == ["PlaceOrder", "PlaceOrder"]
    assert {call.body["args"]["ocoId"] for call in (first, second)} == {"o1.oco"}
    assert second.body["args"]["orderType"] == "StopMarket" and "limitPrice" not in second.body["args"]


def test_a_second_arming_reuses_no_id_of_the_first() -> None:
    def ids(arming: int) -> set[str]:
        return {call.body[name] for call in calls_of(work(OCO, arming=arming)) for name in ("orderId", "ocoId")}

    assert ids(1) == {"o1", "o1.other", "o1.oco"}
    assert ids(2) == {"o1.2", "o1.other.2", "o1.oco.2"}


def test_cancel_looks_then_cancels_by_the_id_that_placing_gave_then_reads_the_end() -> None:
    look, cancel, end = calls_of(work(CANCEL, targets=(target(order="nt7"),)))

    assert wire(look) == ("GET", f"{HOME}/orders/o7/lifecycle", None)
    assert wire(cancel) == ("POST", f"{HOME}/orders/nt7/cancel", {})
    assert (cancel.operation, cancel.write, look.write, end.write) == ("cancel", True, False, False)
    assert end.url == look.url


def test_cancel_over_websocket_has_the_frame_of_the_page() -> None:
    look, cancel, _ = calls_of(work(CANCEL, WS, targets=(target(PLAIN, WS, order="nt7"),)))

    assert wire(look)[2] == {"action": "rpc", "api": "GetOrderLifecycle",
                             "args": {"account": "Sim101", "orderId": "o7"}}
    assert wire(cancel)[2] == {"action": "rpc", "api": "Cancel", "args": {"account": "Sim101", "orderId": "nt7"}}


def test_cancel_of_an_oco_withdraws_both_halves() -> None:
    calls = calls_of(work(CANCEL, targets=(target(OCO, order="nt7", other="nt8", oco="o7.oco"),)))

    assert [call.url.removeprefix(HOME) for call in calls if call.write] == [
        "/orders/nt7/cancel", "/orders/nt8/cancel"]


def test_cancel_by_a_brokers_own_id_takes_it_from_the_options() -> None:
    [call] = calls_of(work(Order(kind="cancel", options={"orderId": "ce0a8e5002ea463e856eb6384f5cee7e"})))

    assert wire(call) == ("POST", f"{HOME}/orders/ce0a8e5002ea463e856eb6384f5cee7e/cancel", {})


def test_close_cancels_what_is_ours_without_a_look_then_closes_the_whole_position() -> None:
    calls = calls_of(work(CLOSE, targets=(target(order="nt7"),)))

    assert wire(calls[0]) == ("POST", f"{HOME}/orders/nt7/cancel", {})
    assert wire(calls[1]) == ("POST", f"{HOME}/positions/close", {"instrument": "ES 12-26"})
    assert [call.write for call in calls] == [True, True, False]


def test_close_over_websocket_is_close_position() -> None:
    [call] = calls_of(work(CLOSE, WS))

    assert wire(call) == ("WS", STREAM, {"action": "rpc", "api": "ClosePosition", "args": {
        "account": "Sim101", "instrument": "ES 12-26"}})


def test_look_up_asks_the_lifecycle_by_our_own_id_on_both_transports() -> None:
    [rest], seen = rehearse(BROKER.look_up(work(PLAIN)))
    [ws], _ = rehearse(BROKER.look_up(work(PLAIN, WS)))

    assert wire(rest) == ("GET", f"{HOME}/orders/o1/lifecycle", None) and not rest.write
    assert ws.body["api"] == "GetOrderLifecycle" and not ws.write
    assert isinstance(seen, Seen) and seen.broker_status == "working"


def test_an_account_name_is_encoded_into_the_address() -> None:
    [call] = calls_of(work(PLAIN, replace(REST, account="APEX 12/3?#%")))

    assert call.url == "https://app.crosstrade.io/v1/api/accounts/APEX%2012%2F3%3F%23%25/orders/place"


def test_base_url_replaces_the_host_and_leaves_the_paths() -> None:
    here = replace(REST, rest_url="http://127.0.0.1:8082", ws_url="ws://127.0.0.1:8082")

    assert calls_of(work(PLAIN, here))[0].url == "http://127.0.0.1:8082/v1/api/accounts/Sim101/orders/place"
    assert calls_of(work(PLAIN, replace(here, transport="websocket")))[0].url == "ws://127.0.0.1:8082/ws/stream"


def test_render_shows_what_only_the_broker_can_give() -> None:
    unknown = target(order=Placeholder.of("placeorder"))

    calls = calls_of(work(CANCEL, targets=(unknown,)))

    assert f"{HOME}/orders/<from: placeorder>/cancel" in [call.url for call in calls]


def test_every_plan_ends_on_its_assumed_replies_with_what_it_assumed() -> None:
    for account in (REST, WS):
        for order in ORDERS.values():
            each = work(order, account, targets=(target(OCO, account, order="a", other="b"), work(OSO, account, "o8")))
            calls, outcome = rehearse(BROKER.submit(each))

            assert isinstance(outcome, Accepted), (order.kind, outcome)
            assert not outcome.alarm
            assert len({call.step for call in calls}) == len(calls)
            rehearse(BROKER.look_up(each))


# -- log-in and dress --------------------------------------------------------------------------------------------------


def test_the_token_is_added_by_dress_alone() -> None:
    [rest], [ws] = calls_of(work(PLAIN)), calls_of(work(PLAIN, WS))

    dressed = BROKER.dress(rest, REST, Token(value=TOKEN), "f1")
    framed = BROKER.dress(ws, WS, Token(value=TOKEN), "f1")

    assert dressed.headers == {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    assert dressed.body == rest.body
    assert framed.headers == {"Authorization": f"Bearer {TOKEN}"}
    assert framed.body == {**ws.body, "id": "f1"}
    assert "id" not in ws.body


def test_log_in_asks_nothing_and_gives_the_static_token() -> None:
    calls, got = drive(BROKER.log_in(REST, 0.0, None))  # type: ignore[arg-type]

    assert calls == [] and got == Token(value=TOKEN)


def test_log_in_without_a_token_says_what_is_missing() -> None:
    _, got = drive(BROKER.log_in(replace(REST, credentials=Credentials({})), 0.0, None))  # type: ignore[arg-type]

    assert isinstance(got, LoginRefused) and "token" in got.reason and got.wait_s is None


def test_login_name_tells_tokens_apart_and_holds_none() -> None:
    other = replace(REST, credentials=Credentials({"token": "another"}))

    assert BROKER.login_name(REST) == BROKER.login_name(WS) != BROKER.login_name(other)
    assert re.fullmatch("[0-9a-f]{12}", BROKER.login_name(REST))


@pytest.mark.parametrize(("account", "real"), [
    ("Sim101", False), ("sim 2", False), ("Playback101", False), ("DEMO4711", False), ("Simons", True),
    ("APEX-123", True), ("Simulated gains", True), ("", True)])
def test_only_ninjatraders_own_simulation_accounts_move_no_real_money(account: str, real: bool) -> None:
    assert BROKER.moves_real_money("live", account) is real
    assert BROKER.moves_real_money("sandbox", account) is False


# -- refused at load ---------------------------------------------------------------------------------------------------


def faults(**sketch: Any) -> dict[str, str]:
    full = {"kind": "plain", "symbol": "ES 12-26", "side": "buy", "quantity": D(1), "type": "limit", "price": D(1),
            **sketch}
    return dict((*capability_faults(BROKER, full), *BROKER.refusals(full, REST)))


@pytest.mark.parametrize("symbol", ["ES 12-26", "MES 03-26", "6E 09-26", "M2K DEC26", "ESZ26", "ESZ6", "6EZ26"])
def test_dated_contracts_pass(symbol: str) -> None:
    assert faults(symbol=symbol) == {}


@pytest.mark.parametrize("symbol", ["ES", "ES1!", "ES 13-26", "ES 2026", "AAPL", "CME_MINI:ES1!", " ", "ESZ2026"])
def test_undated_symbols_are_refused_with_the_filter_that_helps(symbol: str) -> None:
    assert "| contract" in faults(symbol=symbol)["symbol"]
    assert "symbol" in faults(symbol=symbol, kind="close")


def test_a_symbol_that_only_the_alert_knows_is_left_for_rendering() -> None:
    assert faults(symbol=UNKNOWN) == {}


def test_oso_needs_an_atm_template() -> None:
    found = faults(kind="oso", options={})

    assert "ATM" in found["options.strategy"] and "stop_loss" in found["options.strategy"]
    assert faults(kind="oso", options={"strategy": UNKNOWN}) == {}
    assert faults(kind="oso", options=UNKNOWN) == {}


def test_legs_beside_an_atm_template_are_refused_with_what_would_do() -> None:
    leg = {"role": "stop_loss", "side": "sell", "type": "stop", "stop_price": D(1)}

    found = faults(kind="oso", options={"strategy": "A"}, stop_loss=leg, take_profit={**leg, "type": "limit"},
                   brackets=[leg])

    assert set(found) == {"stop_loss", "take_profit", "brackets"}
    assert all("options.strategy" in words and "kind: oco" in words for words in found.values())


def test_cover_is_refused_with_what_would_do_instead() -> None:
    assert "options.strategy" in faults(kind="cover")["kind"]


@pytest.mark.parametrize("type_", ["mit", "trailing_stop", "trailing_stop_limit"])
def test_types_that_ninjatrader_has_not_are_refused_by_name(type_: str) -> None:
    assert "market, limit, stop, stop_limit" in faults(type=type_)["type"]


@pytest.mark.parametrize("time_in_force", ["ioc", "fok", "gtd"])
def test_times_in_force_that_are_not_day_or_gtc_are_refused(time_in_force: str) -> None:
    assert "day, gtc" in faults(time_in_force=time_in_force)["time_in_force"]


def test_exits_on_a_plain_order_are_refused_and_not_dropped() -> None:
    leg = {"role": "stop_loss", "side": "sell", "type": "stop", "stop_price": D(1)}

    assert set(faults(stop_loss=leg, other=leg)) == {"stop_loss", "other"}


@pytest.mark.parametrize(("kind", "options"), [
    ("plain", {"strategy": "A"}), ("oco", {"strategy": "A"}), ("plain", {"orderId": "x"}), ("close", {"orderId": "x"}),
    ("close", {"maxPositions": 1}), ("cancel", {"requireMarketPosition": "flat"})])
def test_an_option_of_another_kind_is_refused(kind: str, options: dict[str, Any]) -> None:
    [name] = options

    assert f"options.{name}" in faults(kind=kind, options=options)


@pytest.mark.parametrize("options", [
    {"strategy": ""}, {"strategy": " x"}, {"strategy": "a\nb"}, {"requireMarketPosition": "flat/short"},
    {"requireMarketPosition": ""}, {"maxPositions": 0}, {"maxPositions": True}, {"maxPositions": 1.5},
    {"maxPositions": D("NaN")}, {"orderId": ""}, {"orderId": ".."}, {"orderId": "a/b"}, {"orderId": "a b"},
    {"takeProfit": 1}, {"clientOrderId": "x"}, {"ocoId": "x"}])
def test_wrong_options_are_refused_by_the_schema(options: dict[str, Any]) -> None:
    assert list(BROKER.options_schema().validate(options)) == list(options)


@pytest.mark.parametrize("options", [
    {"strategy": "My ATM 2"}, {"requireMarketPosition": "flat,long"}, {"maxPositions": 3}, {"maxPositions": D(3)},
    {"orderId": "cb1fc8d4e1a84d29ae38fea964aaac8c"}])
def test_right_options_pass_the_schema(options: dict[str, Any]) -> None:
    assert BROKER.options_schema().validate(options) == {}


@pytest.mark.parametrize("fields", [
    {}, {"account": ""}, {"account": ".."}, {"account": "a\tb"}, {"account": "Sim101", "transport": "carrier-pigeon"}])
def test_wrong_account_fields_are_refused_by_the_schema(fields: dict[str, Any]) -> None:
    assert BROKER.account_schema().validate(fields)


def test_transport_is_rest_unless_it_is_given() -> None:
    assert BROKER.account_schema().load({"account": "Sim101"})["transport"] == "rest"


def test_what_load_would_refuse_is_refused_again_before_any_call() -> None:
    leg = Leg(role="stop_loss", side="sell", type="stop", stop_price=D(1))
    for order in (replace(OSO, stop_loss=leg), replace(OSO, options={}), replace(PLAIN, stop_loss=leg),
                  replace(PLAIN, symbol="ES"), replace(PLAIN, kind="cover"), replace(PLAIN, type="mit")):
        calls, outcome = drive(BROKER.submit(work(order)))

        assert calls == [] and isinstance(outcome, Rejected) and outcome.reason


# -- properties --------------------------------------------------------------------------------------------------------

PRICES = st.decimals(min_value="-99999999", max_value="99999999", allow_nan=False, allow_infinity=False, places=9)
NAMES = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() and not text.strip().strip(".") == "")
LEGS = st.builds(Leg, role=st.just("other"), side=st.sampled_from(["buy", "sell"]),
                 type=st.sampled_from(["limit", "stop", "stop_limit"]), price=st.none() | PRICES,
                 stop_price=st.none() | PRICES, time_in_force=st.sampled_from(["day", "gtc"]))


def entries(kind: Any, **more: Any) -> st.SearchStrategy[Order]:
    return st.builds(Order, kind=st.just(kind), symbol=st.sampled_from(["ES 12-26", "6E 03-27"]),
                     side=st.sampled_from(["buy", "sell"]), quantity=st.integers(1, 10**9).map(D),
                     type=st.sampled_from(["market", "limit", "stop", "stop_limit"]), price=st.none() | PRICES,
                     stop_price=st.none() | PRICES, time_in_force=st.sampled_from([None, "day", "gtc"]), **more)


ORDERS_ANY = st.one_of(entries("plain"), entries("oco", other=LEGS), entries("oso", options=st.just({"strategy": "A"})))
ACCOUNTS = st.builds(lambda name, transport: replace(REST, account=name, transport=transport), NAMES,
                     st.sampled_from(["rest", "websocket"]))


@st.composite
def works(draw: st.DrawFn) -> Work:
    account, kind = draw(ACCOUNTS), draw(st.sampled_from(["entry", "cancel", "close"]))
    ids = st.text("abcdef0123456789", min_size=1, max_size=8)
    if kind == "entry":
        return work(draw(ORDERS_ANY), account, draw(ids), draw(st.integers(1, 3)))
    known = st.dictionaries(st.sampled_from(["order", "other"]), NAMES, max_size=2)
    targets = [work(each, account, draw(ids), broker_ids=draw(known))
               for each in draw(st.lists(ORDERS_ANY, max_size=2))]
    return work(CANCEL if kind == "cancel" else CLOSE, account, "o1", targets=tuple(targets))


@given(works())
def test_no_call_reaches_further_than_its_account_and_its_order_or_instrument(each: Work) -> None:
    """A flatten, a cancel of everything, a close without account and instrument cannot be expressed."""
    calls = calls_of(each) + rehearse(BROKER.look_up(each))[0]
    for call in calls:
        if call.method == "WS":
            args, api = call.body["args"], call.body["api"]
            assert api in {"PlaceOrder", "Cancel", "ClosePosition", "GetOrderLifecycle", "ListOrders", "GetOrder",
                           "ListPositions"}
            assert args["account"] == each.account.account
            assert api != "Cancel" or args["orderId"].strip()
            assert api != "ClosePosition" or args["instrument"] == each.order.symbol
            continue
        root, v1, api, accounts, account, *rest = urlsplit(call.url).path.split("/")
        assert (root, v1, api, accounts, unquote(account)) == ("", "v1", "api", "accounts", each.account.account)
        assert all(part.strip(".") for part in rest)
        if call.write:
            assert rest in (["orders", "place"], ["positions", "close"]) or (
                len(rest) == 3 and rest[0] == "orders" and rest[2] == "cancel")
            assert rest != ["positions", "close"] or call.body == {"instrument": each.order.symbol}


@given(works())
def test_calls_depend_on_the_order_its_arming_and_its_ids_alone(each: Work) -> None:
    again = replace(each, account=replace(each.account, name="renamed", credentials=Credentials({"token": "new"}),
                                          real_money=False, dry_run=True))

    assert [call.digest() for call in calls_of(each)] == [call.digest() for call in calls_of(again)]


@given(works())
def test_no_recorded_call_holds_the_token(each: Work) -> None:
    assert TOKEN not in repr([call.to_json() for call in calls_of(each)])
    assert TOKEN not in repr(each)


@given(PRICES, PRICES, st.sampled_from([REST, WS]))
def test_a_price_goes_out_as_it_came_in_to_the_last_digit(limit: Any, stop: Any, account: Account) -> None:
    order = replace(STOP, price=limit, stop_price=stop)

    text = dump_json(calls_of(work(order, account))[0].body)
    sent = json.loads(text, parse_float=D, parse_int=D)
    sent = sent.get("args", sent)

    assert (sent["limitPrice"], sent["stopPrice"]) == (limit, stop)


@pytest.mark.parametrize("order_id", ["", " ", ".", "..", "..."])
def test_an_empty_id_or_dots_make_no_address(order_id: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in an address"):
        drive(BROKER.submit(work(CANCEL, targets=(work(PLAIN, order_id=order_id, broker_ids={}),))), [yes()])


@pytest.mark.parametrize("account", ["", "  ", "..", "."])
def test_without_an_account_nothing_is_sent(account: str) -> None:
    for order in ORDERS.values():
        calls, outcome = drive(BROKER.submit(work(order, replace(REST, account=account))))

        assert calls == [] and isinstance(outcome, Rejected)


def test_a_close_without_an_instrument_makes_no_call() -> None:
    for symbol in (None, "", "  "):
        calls, outcome = drive(BROKER.submit(work(replace(CLOSE, symbol=symbol))))

        assert calls == [] and isinstance(outcome, Rejected) and outcome.reason
