"""Pocketful: what is sent for each kind, and what is refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from bridge.broker import UNKNOWN, capability_faults
from bridge.brokers.pocketful import AccountFields, AccountOptions, OrderOptions, Pocketful
from bridge.call import Accepted, Call, Placeholder, Rejected, Token
from bridge.numbers import dump_json, load_json
from bridge.order import Leg, Order, Product, Side, faults_of, opposite
from bridge.rehearse import rehearse
from bridge.work import Account, Credentials, Ids, Work

BROKER = Pocketful()
COUNTER = 1_763_700_001


def account(**options: Any) -> Account:
    """An account as the loader makes it."""
    given_options = AccountOptions().load(options)
    return Account(name="pf", broker="pocketful", client_id="YG1234", options=given_options,
                   rest_url=BROKER.hosts("live", given_options)[0], credentials=Credentials({"token": "leak-me-token"}))


def order(**values: Any) -> Order:
    """A limit order for one share, unless told otherwise; only a plain one names its product."""
    product = {"product": "MIS"} if values.get("kind", "plain") == "plain" else {}
    usual: dict[str, Any] = {"kind": "plain", "symbol": "IDEA", "side": "buy", "quantity": Decimal(1), "type": "limit",
             "price": Decimal(13), "time_in_force": "day",
             "options": {"exchange": "NSE", "instrument_token": "14366", **product}}
    return Order(**{name: value for name, value in (usual | values).items() if value is not None})


def work(one: Order, of: Account | None = None, **values: Any) -> Work:
    values = {"ids": Ids(order_id="o1", counter=COUNTER)} | values
    return Work(order=one, account=of or account(), **values)


def number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def stop(price: str | None = None, *, offset: str | None = None, side: Side = "sell", **values: Any) -> Leg:
    return Leg(role="stop_loss", side=side, type="stop", stop_price=number(price), offset=number(offset), **values)


def target(price: str | None = None, *, offset: str | None = None, side: Side = "sell", **values: Any) -> Leg:
    return Leg(role="take_profit", side=side, type="limit", price=number(price), offset=number(offset), **values)


def sent(one: Order, of: Account | None = None, **values: Any) -> Call:
    """The single write of an order's plan on its shortest good way."""
    calls, outcome = rehearse(BROKER.submit(work(one, of, **values)))
    assert isinstance(outcome, Accepted), outcome
    [call] = [call for call in calls if call.write]
    return call


def refusals(one: Order, of: Account | None = None) -> dict[str, str]:
    return dict(BROKER.refusals(one.to_json(), of or account()))


PLAIN = {
    "exchange": "NSE", "instrument_token": "14366", "client_id": "YG1234", "order_type": "LIMIT", "amo": False,
    "price": 13, "quantity": 1, "disclosed_quantity": 0, "validity": "DAY", "product": "MIS", "order_side": "BUY",
    "device": "WEB",
    "user_order_id": COUNTER, "trigger_price": 0, "execution_type": "REGULAR",
}
COVER = {
    "exchange": "NSE", "instrument_token": "14366", "client_id": "YG1234", "order_type": "LIMIT", "price": 13,
    "quantity": 1, "disclosed_quantity": 0, "validity": "DAY", "product": "MIS", "order_side": "BUY", "device": "WEB",
    "execution_type": "CO", "is_trailing": False, "stop_loss_value": 12, "trailing_stop_loss": 0, "trigger_price": 0,
    "user_order_id": COUNTER,
}


@pytest.mark.parametrize(("values", "expected"), [
    ({}, {}),
    ({"side": "sell", "quantity": Decimal(1500)}, {"order_side": "SELL", "quantity": 1500}),
    ({"type": "market", "price": None}, {"order_type": "MARKET", "price": 0}),
    ({"type": "stop", "price": None, "stop_price": Decimal("12.50")},
     {"order_type": "SLM", "price": 0, "trigger_price": 12.5}),
    ({"type": "stop_limit", "stop_price": Decimal("12.95")}, {"order_type": "SL", "trigger_price": 12.95}),
    ({"time_in_force": "ioc"}, {"validity": "IOC"}),
    ({"time_in_force": None}, {}),
    ({"options": {"exchange": "NFO", "instrument_token": "35001", "product": "NRML", "disclosed_quantity": 1}},
     {"exchange": "NFO", "instrument_token": "35001", "product": "NRML", "disclosed_quantity": 1}),
    ({"options": {"exchange": "NSE", "instrument_token": "14366", "product": "CNC", "amo": True}},
     {"product": "CNC", "amo": True, "execution_type": "AMO"}),
    ({"symbol": "BSE:532461", "options": {"product": "MIS"}}, {"exchange": "BSE", "instrument_token": "532461"}),
    ({"symbol": "14366", "options": {"product": "MIS", "exchange": "NSE"}}, {}),
])
def test_a_plain_order_is_one_regular_order_with_every_field(values: Mapping[str, Any],
                                                             expected: dict[str, Any]) -> None:
    call = sent(order(**values))

    assert (call.method, call.url) == ("POST", "https://trade.pocketful.in/api/v1/orders")
    assert call.step == "entry"
    assert json.loads(dump_json(call.body)) == PLAIN | expected


@pytest.mark.parametrize(("one", "options", "expected"), [
    (order(kind="cover", stop_loss=stop("12")), {"stop_loss_value": "price"}, {}),
    (order(kind="cover", stop_loss=stop("12")), {"stop_loss_value": "distance"}, {"stop_loss_value": 1}),
    (order(kind="cover", side="sell", stop_loss=stop("14.05", side="buy")), {"stop_loss_value": "distance"},
     {"order_side": "SELL", "stop_loss_value": 1.05}),
    (order(kind="cover", type="market", price=None, stop_loss=stop(offset="0.5")), {"stop_loss_value": "distance"},
     {"order_type": "MARKET", "price": 0, "stop_loss_value": 0.5}),
    (order(kind="cover", type="market", price=None, stop_loss=stop("12")), {"stop_loss_value": "price"},
     {"order_type": "MARKET", "price": 0}),
    (order(kind="cover", type="stop", price=None, stop_price=Decimal(13), stop_loss=stop("12")),
     {"stop_loss_value": "distance"},
     {"order_type": "SLM", "price": 0, "trigger_price": 13, "stop_loss_value": 1}),
    (order(kind="cover", stop_loss=stop("12", trail=Decimal("0.05"))), {"stop_loss_value": "price"},
     {"is_trailing": True, "trailing_stop_loss": "0.05"}),
    (order(kind="cover", trail=Decimal("0.050"), stop_loss=stop("12")), {"stop_loss_value": "price"},
     {"is_trailing": True, "trailing_stop_loss": "0.05"}),
    (order(kind="cover", stop_loss=stop("12", trail=Decimal("0.05"))),
     {"stop_loss_value": "price", "trailing_stop_loss": "number"}, {"is_trailing": True, "trailing_stop_loss": 0.05}),
    (order(kind="oso", stop_loss=stop("12")), {"stop_loss_value": "price"}, {}),
    (order(kind="cover", stop_loss=stop("12")), {"stop_loss_value": "price", "product": "CNC"}, {}),
    (order(kind="cover", stop_loss=stop("12"),
           options={"exchange": "NSE", "instrument_token": "14366", "product": "NRML"}), {"stop_loss_value": "price"},
     {"product": "NRML"}),
])
def test_a_cover_order_is_one_co_with_the_stop_as_the_account_says(one: Order, options: dict[str, Any],
                                                                   expected: dict[str, Any]) -> None:
    call = sent(one, account(**options))

    assert (call.method, call.url) == ("POST", "https://trade.pocketful.in/api/v1/orders/kart")
    assert json.loads(dump_json(call.body)) == COVER | expected


@pytest.mark.parametrize(("one", "expected"), [
    (order(kind="oso", stop_loss=stop("12"), take_profit=target("15.5")),
     {"stop_loss_value": 1, "square_off_value": 2.5}),
    (order(kind="oso", side="sell", stop_loss=stop("13.3", side="buy"), take_profit=target("12", side="buy")),
     {"order_side": "SELL", "stop_loss_value": 0.3, "square_off_value": 1}),
    (order(kind="oso", type="market", price=None, stop_loss=stop(offset="1.25"), take_profit=target(offset="2")),
     {"order_type": "MARKET", "price": 0, "stop_loss_value": 1.25, "square_off_value": 2}),
    (order(kind="oso", stop_loss=stop("12", trail=Decimal("0.1")), take_profit=target("14")),
     {"stop_loss_value": 1, "square_off_value": 1, "is_trailing": True, "trailing_stop_loss": "0.1"}),
    (order(kind="oso", brackets=(Leg(role="bracket1", side="sell", type="limit", price=Decimal(14)),
                                 Leg(role="bracket2", side="sell", type="stop", stop_price=Decimal(12)))),
     {"stop_loss_value": 1, "square_off_value": 1}),
])
def test_an_oso_with_stop_and_target_is_one_bo_with_distances(one: Order, expected: dict[str, Any]) -> None:
    call = sent(one)

    assert (call.method, call.url) == ("POST", "https://trade.pocketful.in/api/v1/orders/kart")
    assert json.loads(dump_json(call.body)) == COVER | {"execution_type": "BO"} | expected


def test_the_published_cover_example_is_met_but_for_our_own_ids() -> None:
    """The page's example: 13 with a stop at 12 and a trailing step of "0.05"."""
    example = {"exchange": "NSE", "instrument_token": "14366", "client_id": "YG1234", "order_type": "LIMIT",
               "price": 13, "quantity": 1, "disclosed_quantity": 0, "validity": "DAY", "product": "MIS",
               "order_side": "BUY",
               "device": "WEB", "execution_type": "CO", "is_trailing": True, "stop_loss_value": 12,
               "trailing_stop_loss": "0.05", "trigger_price": 0, "user_order_id": COUNTER}

    call = sent(order(kind="cover", stop_loss=stop("12", trail=Decimal("0.05"))), account(stop_loss_value="price"))

    assert json.loads(dump_json(call.body)) == example


@pytest.mark.parametrize(("api", "host", "own", "from_session"), [
    ("trade", "https://trade.pocketful.in", {"Content-Type": "application/json"}, {"Authorization": "Bearer t0"}),
    ("algo", "https://algo.pocketful.in", {"Content-Type": "application/json", "x-device-type": "WEB"},
     {"x-authorization-token": "t0"}),
])
def test_host_and_headers_follow_the_account(api: str, host: str, own: dict[str, str],
                                             from_session: dict[str, str]) -> None:
    of = account(api=api)

    call = sent(order(), of)
    dressed = BROKER.dress(call, of, Token(value="t0"), "")

    assert call.url == f"{host}/api/v1/orders"
    assert dict(call.headers) == own
    assert dict(dressed.headers) == own | from_session
    assert (dressed.body, dressed.url) == (call.body, call.url)


def test_a_base_url_replaces_the_host() -> None:
    of = Account(name="pf", broker="pocketful", client_id="YG1234", rest_url="http://127.0.0.1:8082")

    assert sent(order(), of).url == "http://127.0.0.1:8082/api/v1/orders"


def test_every_kind_ends_on_its_assumed_replies_and_shows_where_ids_come_from() -> None:
    of = account(stop_loss_value="price")
    counter = Ids(order_id="o1", counter=Placeholder.of("counter"))
    earlier = work(order(ref="x"), of, ids=Ids(order_id="o0", counter=7))
    kinds = [
        order(), order(kind="cover", stop_loss=stop("12")),
        order(kind="oso", stop_loss=stop("12"), take_profit=target("14")),
        Order(kind="cancel", ref="x"),
        Order(kind="cancel", options={"oms_order_id": "202403132605"}),
        Order(kind="close", symbol="NSE:14366"),
    ]

    for one in kinds:
        for targets in ((), (earlier,)):
            plan = BROKER.submit(work(one, of, ids=counter, targets=targets))
            calls, outcome = rehearse(plan)
            assert isinstance(outcome, Accepted), (one.kind, outcome)
            assert calls or (one.kind == "cancel" and not targets)
            rehearse(BROKER.look_up(work(one, of, ids=counter, targets=targets)))

    [place] = [call for call in rehearse(BROKER.submit(work(order(), of, ids=counter)))[0] if call.write]
    assert place.body["user_order_id"] == "<from: counter>"


PRICES = st.decimals(min_value=Decimal("0.0000001"), max_value=Decimal("99999999999999"), allow_nan=False, places=7)


@given(price=PRICES, away=PRICES, side=st.sampled_from(["buy", "sell"]))
def test_price_in_is_price_out_and_distances_are_exact(price: Decimal, away: Decimal, side: Side) -> None:
    at = price - away if side == "buy" else price + away
    other = price + away if side == "buy" else price - away
    legs = {"stop_loss": stop(str(at), side=opposite(side)), "take_profit": target(str(other), side=opposite(side))}

    bracket = load_json(dump_json(sent(order(kind="oso", side=side, price=price, **legs)).body))
    cover = load_json(dump_json(sent(order(kind="cover", side=side, price=price, stop_loss=legs["stop_loss"]),
                                     account(stop_loss_value="price")).body))

    assert Decimal(bracket["price"]) == Decimal(cover["price"]) == price
    assert Decimal(bracket["stop_loss_value"]) == Decimal(bracket["square_off_value"]) == away
    assert Decimal(cover["stop_loss_value"]) == at


@given(counter=st.integers(1, 2**31 - 1), arming=st.integers(1, 3), when=st.datetimes(timezones=st.just(UTC)))
def test_calls_depend_on_order_and_ids_alone(counter: int, arming: int, when: datetime) -> None:
    ids = Ids(order_id="o1", arming=arming, counter=counter)

    one, other = sent(order(), ids=ids), sent(order(), ids=ids, created_at=when, submitted_at=when)

    assert one.digest() == other.digest()
    assert one.body["user_order_id"] == counter
    assert sent(order(), ids=Ids(order_id="o1", counter=counter + 1)).digest() != one.digest()


def test_no_recorded_call_holds_a_secret() -> None:
    for one in (order(), Order(kind="close", symbol="NSE:14366"), Order(kind="cancel", options={"oms_order_id": "1"})):
        calls, _ = rehearse(BROKER.submit(work(one)))
        assert calls and all("leak-me" not in dump_json(call.to_json()) for call in calls)


@pytest.mark.parametrize(("one", "options", "field", "says"), [
    (order(symbol="NSE_DLY:IDEA", options={"product": "MIS"}), {}, "symbol", "delayed feed"),
    (order(symbol="NASDAQ:AAPL", options={"product": "MIS"}), {}, "symbol", "NASDAQ is no exchange of this broker"),
    (order(symbol="NSE:IDEA", options={"exchange": "BSE", "product": "MIS"}), {}, "symbol", "trades at NSE"),
    (order(options={"instrument_token": "1", "product": "MIS"}), {}, "options.exchange", "NSE, BSE"),
    (order(symbol="NSE:IDEA", options={"instrument_token": "1", "product": "MIS"}), {}, "options.exchange", "missing"),
    (order(symbol="NSE:14366", options={"exchange": "NFO", "product": "MIS"}), {}, "options.exchange", "disagrees"),
    (order(options={"exchange": "NSE", "instrument_token": "1"}), {}, "options.product", "CNC, MIS, NRML"),
    (order(options={**order().options, "oms_order_id": "1"}), {}, "options.oms_order_id", "cancel"),
    (order(options={**order().options, "disclosed_quantity": 2}), {}, "options.disclosed_quantity", "more than"),
    (order(kind="cover", stop_loss=stop("12")), {}, "stop_loss", "price or a distance"),
    (order(kind="oso", stop_loss=stop("12")), {}, "stop_loss", "price or a distance"),
    (order(kind="cover", stop_loss=stop("12"), options={**order().options, "amo": True}), {"stop_loss_value": "price"},
     "options.amo", "after the market"),
    (order(kind="cover", type="market", price=None, stop_loss=stop(offset="1")), {"stop_loss_value": "price"},
     "stop_loss", "give a price"),
    (order(kind="cover", type="market", price=None, stop_loss=stop("12")), {"stop_loss_value": "distance"},
     "stop_loss", "ticks, points or percent"),
    (order(kind="oso", type="market", price=None, stop_loss=stop("12"), take_profit=target(offset="1")), {},
     "stop_loss", "ticks, points or percent"),
    (order(kind="oso", take_profit=target("14")), {}, "take_profit", "a target without a stop"),
    (order(kind="oso"), {}, "stop_loss", "is missing"),
    (order(kind="oso", stop_loss=stop("12", time_in_force="ioc"), take_profit=target("14")), {},
     "stop_loss.time_in_force", "rest for the day"),
    (order(kind="oso", stop_loss=Leg(role="stop_loss", side="sell", type="limit", price=Decimal(12)),
           take_profit=target("14")), {}, "stop_loss.type", "stop order"),
    (order(kind="oso", stop_loss=stop("12"), take_profit=target("14", trail=Decimal(1))), {},
     "take_profit.trail", "does not trail"),
    (order(kind="oso", brackets=(Leg(role="bracket1", side="sell", type="stop", stop_price=Decimal(14)),
                                 Leg(role="bracket2", side="sell", type="limit", price=Decimal(15)))), {},
     "brackets.0", "must be below"),
    (order(kind="oso", brackets=(Leg(role="bracket1", side="buy", type="stop", stop_price=Decimal(12)),
                                 Leg(role="bracket2", side="sell", type="limit", price=Decimal(15)))), {},
     "brackets.0.side", "must be sell"),
    (order(kind="oso", brackets=(Leg(role="bracket1", side="sell", type="stop", stop_price=Decimal(12)),
                                 Leg(role="bracket2", side="sell", type="stop", stop_price=Decimal(11)))), {},
     "brackets", "one stop and one target"),
    (Order(kind="close", symbol="NSE:"), {}, "symbol", "names nothing"),
])
def test_what_it_cannot_do_is_refused_with_what_would_do(one: Order, options: dict[str, Any], field: str,
                                                         says: str) -> None:
    of = account(**options)

    assert says in refusals(one, of)[field]
    calls, outcome = rehearse(BROKER.submit(work(one, of)))
    assert not calls
    assert isinstance(outcome, Rejected) and says in outcome.reason


@pytest.mark.parametrize("one", [
    order(), order(kind="oso", stop_loss=stop("12"), take_profit=target("14")), Order(kind="cancel", ref="x"),
    Order(kind="close", symbol="NSE:14366"), order(symbol="NSE:14366", options={"product": "CNC"}),
])
def test_sound_orders_are_not_refused(one: Order) -> None:
    assert not refusals(one)
    assert not list(capability_faults(BROKER, one.to_json()))
    assert not list(faults_of(one, BROKER.product_of(one.symbol or "") or Product(tick=Decimal(1))))


def test_the_account_can_give_exchange_and_product() -> None:
    call = sent(order(options={"instrument_token": "14366"}), account(exchange="NSE", product="CNC"))

    assert (call.body["exchange"], call.body["product"]) == ("NSE", "CNC")


def test_values_that_only_the_alert_tells_are_not_refused_at_load() -> None:
    sketch = {"kind": "oso", "symbol": UNKNOWN, "side": UNKNOWN, "quantity": UNKNOWN, "type": UNKNOWN, "price": UNKNOWN,
              "stop_loss": {"role": "stop_loss", "side": UNKNOWN, "type": "stop", "stop_price": UNKNOWN},
              "take_profit": {"role": "take_profit", "side": UNKNOWN, "type": "limit", "price": UNKNOWN},
              "options": {"exchange": UNKNOWN, "instrument_token": UNKNOWN, "product": UNKNOWN}}
    ladder = {**sketch, "stop_loss": None, "take_profit": None, "brackets": [{"type": UNKNOWN}, {"type": UNKNOWN}]}

    assert not list(BROKER.refusals(sketch, account()))
    assert not list(BROKER.refusals(ladder, account()))


@pytest.mark.parametrize("symbol", [UNKNOWN, "NSE:IDEA", "NIFTY1!"])
def test_a_symbol_that_is_looked_up_needs_no_number_at_load(symbol: Any) -> None:
    for exchange in ({}, {"exchange": "NSE"}, {"exchange": UNKNOWN}):
        sketch = {"kind": "plain", "symbol": symbol, "options": {**exchange, "product": "MIS"}}

        assert not list(BROKER.refusals(sketch, account()))


@pytest.mark.parametrize("one", [
    order(symbol="NSE:IDEA", options={"exchange": "NSE", "product": "MIS"}), Order(kind="close", symbol="NSE:IDEA"),
    order(options={"exchange": "NSE", "instrument_token": "<from: instrument master>", "product": "MIS"})])
def test_no_order_goes_out_without_its_number(one: Order) -> None:
    calls, outcome = rehearse(BROKER.submit(work(one)))

    assert not calls
    assert isinstance(outcome, Rejected) and "options.instrument_token: is not known" in outcome.reason


def test_render_may_leave_the_number_open() -> None:
    call = sent(order(symbol="NSE:IDEA", options={"exchange": "NSE", "product": "MIS",
                                                  "instrument_token": Placeholder.of("instrument master")}))

    assert call.body["instrument_token"] == "<from: instrument master>"


@pytest.mark.parametrize(("sketch", "field", "says"), [
    ({"kind": "oco"}, "kind", "kind: oso"),
    ({"kind": "plain", "type": "trailing_stop"}, "type", "market, limit, stop, stop_limit"),
    ({"kind": "plain", "type": "mit"}, "type", "market"),
    ({"kind": "plain", "type": "limit", "time_in_force": "gtc"}, "time_in_force", "day, ioc"),
])
def test_what_the_capabilities_lack_is_told(sketch: dict[str, Any], field: str, says: str) -> None:
    assert says in dict(capability_faults(BROKER, sketch))[field]


def test_legs_count_from_the_fill_where_the_broker_takes_distances() -> None:
    assert BROKER.counts_from_fill("oso", account())
    assert BROKER.counts_from_fill("cover", account(stop_loss_value="distance"))
    assert not BROKER.counts_from_fill("cover", account(stop_loss_value="price"))
    assert not BROKER.counts_from_fill("cover", account())


@pytest.mark.parametrize(("given_options", "expected"), [
    ({"instrument_token": 14366}, {"instrument_token": "14366"}),
    ({"instrument_token": "014366"}, {"instrument_token": "14366"}),
    ({"oms_order_id": 202403132605}, {"oms_order_id": "202403132605"}),
    ({"oms_order_id": "20231211-1762"}, {"oms_order_id": "20231211-1762"}),
    ({"disclosed_quantity": Decimal("5")}, {"disclosed_quantity": 5}),
    ({"amo": "true"}, {"amo": True}),
])
def test_options_are_read_to_their_wire_form(given_options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert OrderOptions().load(given_options) == expected


@pytest.mark.parametrize("given_options", [
    {"instrument_token": "IDEA"}, {"instrument_token": True}, {"instrument_token": "-1"}, {"exchange": "nse"},
    {"exchange": "NYSE"}, {"product": "INTRADAY"}, {"disclosed_quantity": -1}, {"disclosed_quantity": Decimal("1.5")},
    {"oms_order_id": "1/../2"}, {"oms_order_id": ""}, {"amo": "maybe"}, {"strategy": "x"},
])
def test_wrong_options_are_named(given_options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        OrderOptions().load(given_options)

    assert list(caught.value.messages_dict) == list(given_options)


def test_account_options_have_defaults_but_for_the_stop() -> None:
    loaded = AccountFields().load({"client_id": "YG1234", "options": {"cancel_parameters": "query"}})

    assert loaded["options"] == {"api": "trade", "log_in": "token", "trailing_stop_loss": "text",
                                 "cancel_parameters": "query"}
    assert AccountFields().load({"client_id": "YG1234"})["options"]["api"] == "trade"
    for wrong in ({}, {"client_id": "YG1234", "options": {"stop_loss_value": "points"}}, {"client_id": "a b"}):
        with pytest.raises(ValidationError):
            AccountFields().load(wrong)
