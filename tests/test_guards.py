"""Guards: what each refuses, in which words, and that no guard but `symbols` stands between a trader and a way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts import Accounts, load_accounts
from bridge.alert import read_body
from bridge.errors import AlertError, FileFaults
from bridge.futures import FUTURES
from bridge.guarding import limits_of, refusals
from bridge.guards import GUARDS, Guards, PriceDistance, guards_in, read_session
from bridge.intake import decide
from bridge.numbers import dump_json
from bridge.order import Leg, Order
from bridge.preview import render_alert
from bridge.record import Limit
from bridge.rendering import RenderedOrder
from bridge.template import Template, load_template

NOW = datetime(2026, 11, 20, 15, 30, 1, tzinfo=UTC)  # a Friday, 10:30 in New York
ACCOUNTS = """
accounts:
  free: {broker: tradovate, environment: sandbox, account: A, account_id: 1}
  small: {broker: tradovate, environment: sandbox, account: B, account_id: 2, guards: {max_quantity: 2, symbols: [MES]}}
  near: {broker: tradovate, environment: sandbox, account: C, account_id: 3,
         guards: {max_price_distance: {percent: 1, of: "{{ alert.last }}"}}}
  counted: {broker: tradovate, environment: sandbox, account: D, account_id: 4,
            guards: {max_orders_per_minute: 3, max_orders_per_day: 9}}
  india: {broker: pocketful, environment: sandbox, client_id: AB1, options: {stop_loss_value: price}}
"""
FIELDS = "alert: {ticker: text, action: text, contracts: integer, price: number, last: {type: number, optional: true}}\n"
WHAT = 'symbol: "{{ alert.ticker | contract }}", side: "{{ alert.action | side }}", quantity: "{{ alert.contracts }}"'
LIMIT = f'{WHAT}, type: limit, price: "{{{{ alert.price }}}}"'
ALERT = {"ticker": "ES1!", "action": "buy", "contracts": 3, "price": "5300.25", "last": "5300"}
Load = Callable[..., Template]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    path = tmp_path_factory.mktemp("accounts") / "accounts.yaml"
    path.write_text(ACCOUNTS)
    found = load_accounts(path, {})
    assert not found.faults
    return found


@pytest.fixture
def load(tmp_path: Path, accounts: Accounts) -> Load:
    def load(guards: str, *, account: str = "free", order: str = f"kind: plain, {LIMIT}", more: str = "") -> Template:
        text = f"account: {account}\n{FIELDS}order: {{{order}}}\n{more}" + (f"guards: {guards}\n" if guards else "")
        (tmp_path / "t.yaml").write_text(text)
        return load_template(tmp_path / "t.yaml", accounts)
    return load


def orders(template: Template, *, now: datetime = NOW, **alert: Any) -> tuple[RenderedOrder, ...]:
    body = read_body(dump_json({**ALERT, **alert}).encode())
    return template.render(template.read(body), body, received_at=now).orders


def refusal(template: Template, *, now: datetime = NOW, **alert: Any) -> str:
    found = orders(template, now=now, **alert)
    assert len(found) == 1
    return found[0].refused


def faults(load: Load, guards: str, **more: str) -> str:
    with pytest.raises(FileFaults) as refused:
        load(guards, **more)
    assert all(fault.line and fault.column for fault in refused.value.faults)
    return str(refused.value)


# -- each guard ------------------------------------------------------------------------------------------------------


def test_a_quantity_above_the_most_is_refused_with_both_figures(load: Load) -> None:
    template = load("{max_quantity: 2}")

    assert refusal(template) == "guard max_quantity of the template: the quantity is 3; at most 2"
    assert refusal(template, contracts=2) == ""


def test_what_counts_is_the_quantity_that_an_account_would_trade(load: Load) -> None:
    found = orders(load("{max_quantity: 2}", account="[free, {name: small, multiplier: 0.5}]"), ticker="MES1!")

    assert [bool(each.refused) for each in found] == [True, False]


def test_symbols_are_products_or_contracts_as_they_are_traded(load: Load) -> None:
    template = load("{symbols: [MES, NQZ6, ZN]}")

    assert refusal(template, ticker="MES2!") == "" and refusal(template, ticker="NQ1!") == ""
    assert refusal(template, ticker="NQH7") == "guard symbols of the template: NQH7 is none of MES, NQZ6, ZN"
    assert "ESZ6 is none of" in refusal(template)
    assert refusal(load("{symbols: [MES]}", account="{name: free, symbols: {ES: MES}}")) == ""


def test_of_symbols_that_are_the_traders_own_words_each_is_meant_as_a_whole(load: Load) -> None:
    order = ('kind: plain, symbol: "{{ alert.ticker | contract }}", side: buy, quantity: 1, type: market, '
             'options: {product: CNC, exchange: NSE, instrument_token: 1594}')
    template = load("{symbols: [INFY]}", account="india", order=order)

    assert refusal(template, ticker="NSE:INFY") == "" and refusal(template, ticker="INFY") == ""
    assert "INFYX is none of INFY" in refusal(template, ticker="NSE:INFYX")
    assert "NSE:INFY is none of BSE:INFY" in refusal(load("{symbols: ['BSE:INFY']}", account="india", order=order),
                                                     ticker="NSE:INFY")


@pytest.mark.parametrize(("price", "legs", "said"), [
    ("5300.25", "", ""), ("5353", "", ""), ("5247", "", ""),
    ("5353.25", "", "the distance of price 5353.25 is 1.00% of 5300; at most 1%"),
    ("53.00", "", "the distance of price 53 is 99.00% of 5300; at most 1%"),
    ("5300.25", ", stop_loss: {points: 53}", "the distance of stop_loss.stop_price 5247.25"),
    ("5300.25", ", take_profit: {price: 53.00}", ""),
    ("5300.25", ", take_profit: {price: 5400}", "the distance of take_profit.price 5400 is 1.89% of 5300; at most 1%")])
def test_every_price_is_compared_legs_too(load: Load, price: str, legs: str, said: str) -> None:
    kind = "oso" if legs else "plain"
    template = load('{max_price_distance: {percent: 1, of: "{{ alert.last }}"}}', order=f"kind: {kind}, {LIMIT}{legs}")

    if legs and not said:
        with pytest.raises(AlertError):  # the rules of orders speak first
            refusal(template, price=price)
    elif "stop_price 5247.25" in said:
        assert refusal(template, price=price) == ""  # 52.75 points are less than 1%
    else:
        assert refusal(template, price=price) == (f"guard max_price_distance of the template: {said}" if said else "")


def test_of_a_leg_that_counts_from_the_fill_its_distance_is_compared(load: Load) -> None:
    template = load('{max_price_distance: {percent: 1, of: "{{ alert.last }}"}}',
                    order=f'kind: oso, {WHAT}, type: market, stop_loss: {{points: "{{{{ alert.price }}}}"}}')

    assert refusal(template, price="53") == ""
    assert refusal(template, price="53.25") == (
        "guard max_price_distance of the template: stop_loss.offset 53.25 is 1.00% of 5300; at most 1%")


def test_without_the_price_to_compare_with_an_entry_with_prices_is_refused(load: Load) -> None:
    template = load('{max_price_distance: {percent: 1, of: "{{ alert.last }}"}}')

    assert refusal(template, last=None) == (
        "guard max_price_distance of the template: the alert has no price to compare with ({{ alert.last }})")
    at_market = load('{max_price_distance: {percent: 1, of: "{{ alert.last }}"}}', order=f"kind: plain, {WHAT}, type: market")
    assert refusal(at_market, last=None) == ""


@given(price=st.decimals("0.01", "20000", places=2), percent=st.decimals("0.01", "100", places=2),
       of=st.decimals("0.01", "20000", places=2))
def test_the_distance_is_exact(price: Decimal, percent: Decimal, of: Decimal) -> None:
    order = Order(kind="plain", symbol="ESZ6", side="buy", quantity=Decimal(1), type="limit", price=price)
    guards = Guards(max_price_distance=PriceDistance(percent, "x"))

    refused = list(refusals(order, guards, "the template", now=NOW, futures=FUTURES, reference=of))

    assert bool(refused) == (abs(price - of) * 100 > percent * of)


def test_the_guards_of_the_account_count_as_well_and_each_says_whose_it_is(load: Load) -> None:
    found = refusal(load("{max_quantity: 1}", account="small"))

    assert found == ("guard max_quantity of the template: the quantity is 3; at most 1; "
                     "guard symbols of account small: ESZ6 is none of MES; "
                     "guard max_quantity of account small: the quantity is 3; at most 2")
    assert guards_in(found) == ("max_quantity", "symbols")


def test_an_accounts_price_guard_reads_the_templates_alert(load: Load) -> None:
    assert "of account near: the distance of price 5400 is 1.89% of 5300" in refusal(load("", account="near"), price=5400)


def test_counted_guards_go_with_the_order_to_where_it_is_queued(load: Load) -> None:
    found = orders(load("{max_orders_per_minute: 2}", account="counted"))[0]

    assert found.refused == "" and found.limits == (
        Limit("max_orders_per_minute", "the template", "template:t", 2),
        Limit("max_orders_per_minute", "account counted", "account", 3),
        Limit("max_orders_per_day", "account counted", "account", 9, "2026-11-20"))


def test_only_what_is_queued_is_counted(load: Load) -> None:
    body = read_body(raw := dump_json(ALERT).encode())
    template = load("{max_orders_per_minute: 2, max_quantity: 1}")

    delivery = decide(template, body, raw, home="free", nonce="n", now=NOW)

    assert delivery.state == "refused" and "max_quantity" in delivery.reason and not delivery.takes_key
    assert delivery.orders[0].state == "refused" and delivery.orders[0].limits == ()


# -- sessions --------------------------------------------------------------------------------------------------------


def at(text: str, zone: str = "America/New_York") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


DAY, NIGHT = "Mon-Fri 09:30-16:00 America/New_York", "Sun-Thu 18:00-17:00 America/New_York"


@pytest.mark.parametrize(("session", "moment", "day"), [
    (DAY, "2026-11-20T09:30", "2026-11-20"), (DAY, "2026-11-20T15:59:59.999999", "2026-11-20"),
    (DAY, "2026-11-20T16:00", None), (DAY, "2026-11-20T09:29:59", None), (DAY, "2026-11-21T10:00", None),
    (NIGHT, "2026-11-22T18:00", "2026-11-22"), (NIGHT, "2026-11-23T16:59", "2026-11-22"),  # Sunday evening to Monday
    (NIGHT, "2026-11-23T17:30", None), (NIGHT, "2026-11-20T16:59", "2026-11-19"),  # the last one ends on Friday
    (NIGHT, "2026-11-20T18:00", None), (NIGHT, "2026-11-22T17:59", None),
    ("Fri-Mon 22:00-02:00 America/New_York", "2026-11-24T01:00", "2026-11-23"),
    ("Mon,Wed 09:00-10:00 America/New_York", "2026-11-24T09:30", None),
    ("Mon-Sun 00:00-24:00 America/New_York", "2026-11-24T23:59:59", "2026-11-24")])
def test_a_session_begins_with_its_first_minute_and_ends_before_its_last(session: str, moment: str, day: str | None) -> None:
    found = read_session(session).day_of(at(moment))

    assert (found.isoformat() if found else None) == day


def test_sessions_follow_the_clocks_of_their_zone_through_the_year() -> None:
    session = read_session(DAY)

    assert session.day_of(datetime(2026, 7, 1, 13, 30, tzinfo=UTC)) and not session.day_of(
        datetime(2026, 7, 1, 13, 29, tzinfo=UTC))  # summer: 4 hours
    assert session.day_of(datetime(2026, 12, 1, 14, 30, tzinfo=UTC)) and not session.day_of(
        datetime(2026, 12, 1, 14, 29, tzinfo=UTC))  # winter: 5 hours


@given(minutes=st.integers(0, 4 * 1440), start=st.integers(0, 1439), span=st.integers(1, 1439),
       change=st.sampled_from(["2026-03-07", "2026-10-31"]))
def test_where_clocks_change_every_moment_of_a_session_is_within_its_hours(minutes: int, start: int, span: int,
                                                                              change: str) -> None:
    end = (start + span) % 1440
    session = read_session(f"Sat-Mon {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} America/New_York")
    moment = at(f"{change}T00:00") + timedelta(minutes=minutes)

    day = session.day_of(moment)

    local = moment.astimezone(ZoneInfo("America/New_York"))
    wall = local.hour * 60 + local.minute
    if day is not None:
        inside = start <= wall < end if start < end else wall >= start or wall < end
        assert inside and day.weekday() in (5, 6, 0) and 0 <= (local.date() - day).days <= 1


@pytest.mark.parametrize(("session", "inside", "outside"), [
    ("Sun 01:30-03:00 America/New_York", "2026-11-01T06:30", "2026-11-01T06:29"),  # 01:30 comes twice: the second begins it
    ("Sat 20:00-01:30 America/New_York", "2026-11-01T05:29", "2026-11-01T05:30"),  # and the first ends it
    ("Sat 20:00-01:30 America/New_York", "2026-11-01T05:29", "2026-11-01T06:10"),
    ("Sun 01:00-01:30 America/New_York", "2026-03-08T06:29", "2026-03-08T06:30"),
    ("Sun 02:30-05:00 America/New_York", "2026-03-08T07:30", "2026-03-08T07:29"),  # there is no 02:30
    ("Sat 20:00-02:30 America/New_York", "2026-03-08T06:29", "2026-03-08T06:30")])
def test_an_hour_that_comes_twice_or_not_at_all_makes_a_session_shorter_and_never_two(session: str, inside: str,
                                                                                    outside: str) -> None:
    found = read_session(session)

    assert found.day_of(at(inside, "UTC")) and not found.day_of(at(outside, "UTC"))


def test_outside_of_every_session_an_entry_is_refused_with_the_time_there(load: Load) -> None:
    template = load('{sessions: ["Mon-Fri 09:30-11:30 America/New_York", "Mon-Fri 14:00-16:00 America/New_York"]}')

    assert refusal(template) == ""
    assert refusal(template, now=at("2026-11-20T12:00")) == (
        "guard sessions of the template: Fri 2026-11-20 12:00 America/New_York is outside of "
        "Mon-Fri 09:30-11:30 America/New_York, Mon-Fri 14:00-16:00 America/New_York")


@pytest.mark.parametrize(("guards", "moment", "day"), [
    (Guards(), "2026-11-20T20:00", "2026-11-21"),  # UTC
    (Guards(sessions=(read_session(NIGHT),)), "2026-11-23T10:00", "2026-11-22"),
    (Guards(sessions=(read_session(DAY), read_session(NIGHT))), "2026-11-23T10:00", "2026-11-23")])
def test_a_day_is_the_sessions_own_and_without_one_that_of_utc(guards: Guards, moment: str, day: str) -> None:
    assert guards.day_of(at(moment)) == day


# -- exits -----------------------------------------------------------------------------------------------------------

GUARDED = Guards(max_quantity=Decimal(1), sessions=(read_session("Sat 03:00-03:01 UTC"),), max_orders_per_minute=1,
                 max_orders_per_day=1, max_price_distance=PriceDistance(Decimal("0.01"), "x"))


@given(exit_order=st.sampled_from([
    Order(kind="close", symbol="ESZ6"), Order(kind="cancel", symbol="ESZ6"), Order(kind="cancel", ref="a", legs_too=True),
    Order(kind="close", symbol="ESZ6", quantity=Decimal(50))]), minutes=st.integers(0, 10_080),
       reference=st.none() | st.decimals("0.01", "100", places=2))
def test_no_guard_but_symbols_refuses_an_exit(exit_order: Order, minutes: int, reference: Decimal | None) -> None:
    now = NOW + timedelta(minutes=minutes)

    assert list(refusals(exit_order, GUARDED, "the template", now=now, futures=FUTURES, reference=reference)) == []
    assert list(limits_of(exit_order, GUARDED, "the template", "account", now=now)) == []


def test_symbols_refuse_an_exit_as_well(load: Load) -> None:
    close = 'kind: close, symbol: "{{ alert.ticker | contract }}"'

    assert refusal(load("{symbols: [MES]}", order=close)) == "guard symbols of the template: ESZ6 is none of MES"
    assert refusal(load("{symbols: [ES]}", order=close)) == ""
    assert refusal(load("{symbols: [MES]}", order="kind: cancel, ref: a")) == ""


def test_an_exit_passes_guards_that_would_refuse_it_as_an_entry_even_without_their_price(load: Load) -> None:
    guards = '{max_price_distance: {percent: 1, of: "{{ alert.last }}"}, sessions: ["Sat 03:00-03:01 UTC"]}'

    assert refusal(load(guards, order='kind: close, symbol: "{{ alert.ticker | contract }}"'), last=None) == ""


# -- reading them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("guards", "path", "words"), [
    ("{max_quantity: 0}", "guards.max_quantity", "above zero"),
    ("{max_quantity: '{{ alert.contracts }}'}", "guards.max_quantity", "written out"),
    ("{max_quantity: two}", "guards.max_quantity", "expected a number"),
    ("{max_quantitty: 2}", "guards.max_quantitty", "did you mean 'max_quantity'"),
    ("{max_orders_per_day: 1.5}", "guards.max_orders_per_day", "no whole number"),
    ("{max_orders_per_minute: true}", "guards.max_orders_per_minute", "whole number"),
    ("{max_orders_per_minute: 999999}", "guards.max_orders_per_minute", "no guard any more"),
    ("{symbols: MES}", "guards.symbols", "expected a list"), ("{symbols: []}", "guards.symbols", "expected a list"),
    ("{symbols: [ES, MESS]}", "guards.symbols.1", "did you mean 'MES'"),
    ("{symbols: ['{{ alert.ticker }}']}", "guards.symbols.0", "written out"),
    ("{sessions: 'Mon-Fri 09:30-16:00 America/New_York'}", "guards.sessions", "expected a list"),
    ("{sessions: ['Mon-Fri 09:30-16:00']}", "guards.sessions.0", "is no session"),
    ("{sessions: ['Mon-Fri 9:30-16:00 UTC']}", "guards.sessions.0", "is no session"),
    ("{sessions: ['Mon-Fry 09:30-16:00 UTC']}", "guards.sessions.0", "did you mean 'Fri'"),
    ("{sessions: ['Mon-Fri 09:30-25:00 UTC']}", "guards.sessions.0", "25:00 is no time"),
    ("{sessions: ['Mon-Fri 09:30-09:30 UTC']}", "guards.sessions.0", "00:00-24:00"),
    ("{sessions: ['Mon-Fri 24:00-09:30 UTC']}", "guards.sessions.0", "next day"),
    (f"{{sessions: ['{DAY}', 'Mon-Fri 09:30-16:00 America/New_Yorck']}}", "guards.sessions.1",
     "did you mean 'America/New_York'"),
    ("{max_price_distance: 5}", "guards.max_price_distance", "names with values"),
    ("{max_price_distance: {percent: 5}}", "guards.max_price_distance.of", "is missing"),
    ("{max_price_distance: {percent: 500, of: '{{ alert.last }}'}}", "guards.max_price_distance.percent", "more than 100"),
    ("{max_price_distance: {percent: 5, of: '{{ alert.lost }}'}}", "guards.max_price_distance.of", "did you mean"),
    ("{max_price_distance: {percent: 5, of: '5300'}}", "guards.max_price_distance.of", "same for every alert"),
    ("[max_quantity]", "guards", "names with values")])
def test_a_wrong_guard_is_a_fault_when_the_template_loads(load: Load, guards: str, path: str, words: str) -> None:
    said = faults(load, guards)

    assert f" {path}: " in said and words in said


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_outside_of_guards_is_refused_and_told_where_it_stands(load: Load, name: str) -> None:
    assert f" {name}: {name} stands below `guards:`" in faults(load, "", more=f"{name}: 5\n")


def test_a_template_that_does_not_fit_an_accounts_guard_does_not_load(load: Load, tmp_path: Path, accounts: Accounts) -> None:
    (tmp_path / "u.yaml").write_text("account: [free, near]\nalert: {price: number}\norder: {kind: plain, symbol: ESZ6, "
                                     "side: buy, quantity: 1, type: limit, price: '{{ alert.price }}'}\n")

    with pytest.raises(FileFaults) as refused:
        load_template(tmp_path / "u.yaml", accounts)

    assert "account.1: the guard max_price_distance of the account near compares with {{ alert.last }}" in str(refused.value)


@pytest.mark.parametrize(("guards", "path", "words"), [
    ("{max_quantity: x}", "guards.max_quantity", "expected a number"), ("{symbols: [MESS]}", "guards.symbols.0", "'MES'"),
    ("{sessions: [x]}", "guards.sessions.0", "is no session"), ("{most: 1}", "guards.most", "is unknown here")])
def test_an_account_with_a_wrong_guard_is_left_out(tmp_path: Path, guards: str, path: str, words: str) -> None:
    (tmp_path / "accounts.yaml").write_text("accounts:\n  a: {broker: tradovate, environment: sandbox, account: A, "
                                            f"account_id: 1, guards: {guards}}}\n")

    found = load_accounts(tmp_path / "accounts.yaml", {})

    assert "a" in found.broken and len(found.faults) == 1
    assert f" accounts.a.{path}: " in str(found.faults[0]) and words in str(found.faults[0])


# -- a template's own tests ------------------------------------------------------------------------------------------

TESTS = """tests:
  - name: guarded
    alert: {{ticker: ES1!, action: buy, contracts: {contracts}, price: 5300.25}}
    now: "2026-11-20T15:30:00Z"
    expect: {expect}
"""


def test_its_own_tests_can_expect_that_an_order_is_refused(load: Load) -> None:
    for expect in ("{refused: true}", "{refused: max_quantity, side: buy}", "{refused: the quantity is 3}"):
        load("{max_quantity: 2}", more=TESTS.format(contracts=3, expect=expect))
    load("{max_quantity: 2}", more=TESTS.format(contracts=2, expect="{quantity: 2}"))


@pytest.mark.parametrize(("contracts", "expect", "words"), [
    (3, "{quantity: 3}", "the order is refused: guard max_quantity"), (2, "{refused: true}", "the order is not refused"),
    (3, "{refused: sessions}", "with other words"), (3, "{refused: true, side: sell}", "side is buy")])
def test_a_test_that_expects_otherwise_fails(load: Load, contracts: int, expect: str, words: str) -> None:
    assert words in faults(load, "{max_quantity: 2}", more=TESTS.format(contracts=contracts, expect=expect))


def test_the_names_of_guards_are_read_from_their_own_reasons_only() -> None:
    order = Order(kind="plain", symbol="; guard max_quantity of x", side="buy", quantity=Decimal(5), type="market")
    said = "; ".join(refusals(order, Guards(symbols=("ES",)), "the template", now=NOW, futures=FUTURES))

    assert set(guards_in(said)) <= {*GUARDS} and "symbols" in guards_in(said)
    assert guards_in("size: 0.5 × 1 contract is less than one") == ("size",)
    assert guards_in("too old: sent 2 min before") == ()
    assert Leg(role="other", side="buy", type="limit").offset is None


def test_every_guard_stands_in_the_documents() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "templates.md").read_text()
    section = text[text.index("\n## Guards\n"):text.index("\n## Its own tests\n")]

    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(GUARDS)


def test_render_shows_what_is_refused_and_why_and_no_calls_for_it(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(ACCOUNTS)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "t.yaml").write_text(f"account: [free, small]\n{FIELDS}order: {{kind: plain, {LIMIT}}}\n")
    environ = {"BRIDGE_ACCOUNTS": str(tmp_path / "accounts.yaml"), "BRIDGE_TEMPLATES": str(tmp_path / "templates"),
               "BRIDGE_DATA": str(tmp_path)}

    some = render_alert(environ, "t", dump_json({**ALERT, "ticker": "MES1!"}).encode(), NOW.isoformat())
    (tmp_path / "templates" / "t.yaml").write_text(f"account: small\n{FIELDS}order: {{kind: plain, {LIMIT}}}\n")
    every = render_alert(environ, "t", dump_json({**ALERT, "ticker": "MES1!"}).encode(), NOW.isoformat())

    reason = "guard max_quantity of account small: the quantity is 3; at most 2"
    assert some["refused"] is None and every["refused"] == reason
    assert [(len(each["calls"]), each.get("state"), each.get("reason")) for each in some["orders"]] == [
        (1, None, None), (0, "refused", reason)]
